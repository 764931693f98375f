"""What a collector's answer means for the data that were sent: delivered, to be retried, held, split or refused."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

__all__ = ["BODY_LIMIT", "Answer", "Outcome", "read_answer"]

BODY_LIMIT: Final = 65_536  # bytes of an answer that are read, and to which they may inflate

_RETRIED: Final = frozenset({408, 425, 429})  # and every 5xx: a server's own trouble is no reason to delete
# These tell of a wrong key, URL, method, format or proxy: a configuration error is no reason to delete either.
_HELD: Final = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 411, 415, 421, 426, 428, 431, 451})
_FIXES: Final[Mapping[int, str]] = {
    **dict.fromkeys((401, 403), "check api_key=, or the headers= that stand for it"),
    **dict.fromkeys((404, 405), "check endpoint=, the base URL of an OTLP/HTTP receiver"),
    407: "check HTTP_PROXY and HTTPS_PROXY, or name the endpoint's host in NO_PROXY",
    415: "set protocol= to the other of 'http/protobuf' and 'http/json'",
}


class Outcome:
    """What to do with what was sent."""

    DELIVERED: Final = "delivered"
    RETRY: Final = "retry"  # the network's or the server's trouble: it passes by itself
    HOLD: Final = "hold"  # somebody has to change a setting: keep the data, try slowly
    TOO_LARGE: Final = "too_large"
    REFUSED: Final = "refused"  # something in the batch will never be taken


class Answer(NamedTuple):
    """The outcome of one attempt to send a batch."""

    outcome: str  # of Outcome
    status: int | None = None  # None: no HTTP answer came
    detail: str = ""  # what happened
    fix: str = ""  # what mends it, where somebody has to
    retry_after: float | None = None  # seconds, as the server asked
    rejected: int = 0  # spans that a partial success left out
    cause: type[BaseException] | None = None  # why no answer came


def read_answer(status: int, headers: Mapping[str, str], body: bytes, *, whole: bool) -> Answer:
    """Classify an HTTP answer.

    Args:
        status: the HTTP status.
        headers: the answer's headers, looked up without regard to case.
        body: the body as it came, still compressed.
        whole: whether that was all of it.
    """
    if 200 <= status < 300:
        return _success(status, headers, body, whole)
    detail = f"HTTP {status}{_phrase(status)}"
    if 300 <= status < 400:
        host = _location_host(headers.get("location", ""))
        said = f"{detail}: a redirect to {host} was not followed"
        return Answer(Outcome.HOLD, status, said, "set endpoint= to where it leads")
    if status in _RETRIED or status >= 500:
        return Answer(Outcome.RETRY, status, detail, retry_after=_retry_after(headers))
    if status == 413:
        return Answer(Outcome.TOO_LARGE, status, detail)
    if status in _HELD or status < 200:
        return Answer(Outcome.HOLD, status, detail, _FIXES.get(status, "check api_key=, endpoint= and protocol="))
    return Answer(Outcome.REFUSED, status, detail)


def _success(status: int, headers: Mapping[str, str], body: bytes, whole: bool) -> Answer:
    try:
        if not whole:
            raise ValueError("is longer than 64 kB")
        rejected, message = _partial_success(headers.get("content-type", ""), _inflate(headers, body))
    except (ValueError, RecursionError) as error:
        reason = str(error) if type(error) is ValueError else "cannot be decoded"
        detail = f"HTTP {status} whose body {reason}: this is no OTLP endpoint"
        return Answer(Outcome.HOLD, status, detail, "check endpoint=")
    return Answer(Outcome.DELIVERED, status, message, rejected=rejected)


def _inflate(headers: Mapping[str, str], body: bytes) -> bytes:
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if not body or encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ValueError("is compressed in a way nobody asked for")
    inflater = zlib.decompressobj(wbits=47)  # gzip or zlib, by its first bytes
    try:
        plain = inflater.decompress(body, BODY_LIMIT)
    except zlib.error:
        raise ValueError("is not the gzip it claims to be") from None
    if not inflater.eof:
        raise ValueError("is cut off, or inflates beyond 64 kB")
    return plain


def _partial_success(content_type: str, body: bytes) -> tuple[int, str]:
    """Return how many spans the collector rejected, and its words; ValueError if the body is no OTLP answer."""
    if not body:
        return 0, ""
    kind = content_type.lower()
    if "html" in kind:
        raise ValueError("is HTML")
    if "json" in kind:
        return _partial_json(json.loads(body))
    try:
        return _partial_protobuf(body)
    except ValueError:
        if "protobuf" in kind:
            raise
        return _partial_json(json.loads(body))


def _partial_json(answer: Any) -> tuple[int, str]:
    if not isinstance(answer, dict):  # every message of OTLP is one
        raise ValueError("is no JSON object")
    part = _member(answer, "partialSuccess", "partial_success")
    rejected = _member(part, "rejectedSpans", "rejected_spans") or 0
    try:
        number = int(rejected)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("has an unreadable partialSuccess") from None
    return max(0, number), str(_member(part, "errorMessage", "error_message") or "")


def _member(container: Any, *names: str) -> Any:
    members: Any = cast("Any", container) if isinstance(container, dict) else {}
    return next((members[name] for name in names if name in members), None)


def _partial_protobuf(body: bytes) -> tuple[int, str]:
    rejected, message = 0, ""
    for number, part in _fields(body):
        if number == 1 and isinstance(part, bytes):
            for inner, value in _fields(part):
                if inner == 1 and isinstance(value, int):
                    rejected = value if value < 1 << 63 else 0  # a negative int64
                elif inner == 2 and isinstance(value, bytes):
                    message = value.decode("utf-8", "replace")
    return rejected, message


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Walk one protobuf message: field numbers with a varint's number or anything else's bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if not key >> 3:
            raise ValueError("cannot be decoded")
        if key & 7 == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if key & 7 == 2:
            size, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}.get(key & 7, len(data) + 1)  # groups are not in OTLP
        if at + size > len(data):
            raise ValueError("cannot be decoded")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("cannot be decoded")


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _location_host(location: str) -> str:
    # The rest of the URL may hold a login token.
    try:
        return urlsplit(location).hostname or "the same host"
    except ValueError:
        return "an unreadable address"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text).timestamp()
        # Against the server's own clock when it tells it, for ours may be wrong.
        now = parsedate_to_datetime(headers["date"]).timestamp() if headers.get("date") else time.time()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return max(0.0, until - now)
