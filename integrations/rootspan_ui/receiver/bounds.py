"""What a request body may cost: sizes, nesting and counts, checked before anything is built from it."""

from __future__ import annotations

import re
import zlib
from functools import cache
from gzip import GzipFile
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_BODY", "MAX_DEPTH", "MAX_INFLATED", "MAX_ITEMS", "Refused", "check_json", "check_protobuf", "inflate"]

MAX_BODY: Final = 16 * 2**20  # bytes on the wire
MAX_INFLATED: Final = 64 * 2**20  # bytes after decompression
MAX_ITEMS: Final = 2_000_000  # fields or values in one body; a collector's batch of 8,192 spans has about 500,000
MAX_DEPTH: Final = 64  # levels of nested attribute values
_TWO_BYTES_EACH: Final = 2  # the shortest field or value is two bytes long, so a body under 2 * MAX_ITEMS needs no look


class Refused(Exception):
    """A request that is answered with an HTTP error.

    Args:
        status: the HTTP status code.
        reason: one sentence for the sender, without anything from the request in it.
        headers: header lines that belong to the answer.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


def inflate(body: bytes, encoding: str) -> bytes:
    """Undo a `Content-Encoding`, never holding more than 64 MB.

    Args:
        body: the bytes of the request.
        encoding: `""`, `"identity"`, `"gzip"` or `"deflate"`.

    Returns:
        The bytes that were encoded.

    Raises:
        Refused: 415 for another encoding, 400 for damaged data, 413 beyond the bound.
    """
    if encoding in ("", "identity"):
        return body
    try:
        if encoding == "gzip":
            inflated = GzipFile(fileobj=BytesIO(body)).read(MAX_INFLATED + 1)
        elif encoding == "deflate":
            inflated = _undeflated(body)
        else:
            known = "gzip, deflate"
            raise Refused(415, f"Content-Encoding has to be {known} or identity", {"Accept-Encoding": known})
    except (OSError, EOFError, zlib.error):
        raise Refused(400, f"the body is not valid {encoding} data") from None
    if len(inflated) > MAX_INFLATED:
        raise Refused(413, f"the body inflates to more than {MAX_INFLATED} bytes")
    return inflated


def _undeflated(body: bytes) -> bytes:
    stream = zlib.decompressobj()
    inflated = stream.decompress(body, MAX_INFLATED + 1)
    if len(inflated) <= MAX_INFLATED and (stream.unused_data or not stream.eof):
        raise zlib.error("it is cut, or something follows")
    return inflated


def check_protobuf(body: bytes, descriptor: Any) -> None:
    """Count the fields of a protobuf body along its descriptor, because an empty message costs fifty times its bytes.

    Args:
        body: the encoded message.
        descriptor: the message's protobuf descriptor.

    Raises:
        Refused: 413 with more than two million fields, 400 when the bytes cannot be walked.
    """
    if len(body) <= _TWO_BYTES_EACH * MAX_ITEMS:
        return
    fields = 0
    spans = [(0, len(body), descriptor)]
    while spans:
        at, end, message = spans.pop()
        children = _children(message)
        while at < end:
            fields += 1
            if fields > MAX_ITEMS:
                raise Refused(413, f"the body holds more than {MAX_ITEMS} fields")
            number, start, at = _field(body, at)
            if at > end:
                raise Refused(400, "the body is not valid protobuf")
            if number in children and start < at:
                spans.append((start, at, children[number]))


@cache
def _children(message: Any) -> dict[int, Any]:
    return {field.number: field.message_type for field in message.fields if field.message_type is not None}


def _field(body: bytes, at: int) -> tuple[int, int, int]:
    """The field at a position: its number (0 unless it has a length), where its content starts and ends."""
    try:
        tag, at = _varint(body, at)
        wire = tag & 7
        if wire == 2:
            length, at = _varint(body, at)
            return tag >> 3, at, at + length
        if wire == 0:
            return 0, at, _varint(body, at)[1]
    except IndexError:
        raise Refused(400, "the body is not valid protobuf") from None
    if wire not in (1, 5):
        raise Refused(400, "the body is not valid protobuf")
    return 0, at, at + (8 if wire == 1 else 4)


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = body[at]
    at += 1
    if value < 128:
        return value, at
    value &= 127
    for shift in range(7, 70, 7):
        byte = body[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise Refused(400, "the body is not valid protobuf")


def check_json(body: bytes) -> None:
    """Count the values in a JSON body before it is parsed, because an empty object costs thirty times its bytes.

    Args:
        body: JSON text.

    Raises:
        Refused: 413 with more than two million values.
    """
    if len(body) <= MAX_ITEMS:
        return
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # what is left of a string has no quote in it
    values = plain.count(b'"') // 2
    if values <= MAX_ITEMS:
        outside = re.sub(rb'"[^"]*"?', b"", plain)
        values += outside.count(b",") + outside.count(b"{") + outside.count(b"[")
    if values > MAX_ITEMS:
        raise Refused(413, f"the body holds more than {MAX_ITEMS} values")
