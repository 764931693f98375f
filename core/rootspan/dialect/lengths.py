"""Keeps values within their length: texts are cut inside, JSON stays JSON, and encoded bytes become a digest."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeGuard, cast

import orjson

from rootspan.description import size_note
from rootspan.freeze import freeze

__all__ = [
    "DATA",
    "DRAWN",
    "SHORT",
    "cut_to",
    "digest",
    "dumps",
    "elide",
    "fit",
    "fit_messages",
    "holds_bytes",
    "is_array",
    "is_object",
]

DATA: Final = ("data", "file_data", "b64_json", "base64", "bytes", "image", "images", "input_audio")
"""The fields in which providers put encoded images, sounds and files."""

DRAWN: Final = "image_generation_call"
"""The type of what holds an encoded image as its `result`: OpenAI's."""

SHORT: Final = 256
"""Below that, encoded bytes are not worth a look."""

_NARROW: Final = 40  # a text is not cut to less: the mark would be longer than what is left
_ELIDED: Final = re.compile(r"[\[<](\d+ bytes(?:, sha256 [0-9a-f]{16})?)[\]>]\Z")  # also as `freeze` writes bytes
# On one line, or on long ones: words that blanks part are none.
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/_-]{60,}\r?\n)*[A-Za-z0-9+/_-]*={0,2}\s*")

_MARKS: Final = (
    b'"base64":"', b'"b64_json":"', b'"bytes":"', b'"image":"', b'"images":["', b'"input_audio":"', b'"data":["',
    f'"{DRAWN}"'.encode(),
)  # fmt: skip


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether a JSON-like value is an object."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Return whether a JSON-like value is an array."""
    return isinstance(value, list)


def dumps(value: Any) -> str:
    """Return the JSON text of any value; what JSON cannot hold is frozen first."""
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError, RecursionError):
        frozen = freeze({"": value}, sys.maxsize)
        return orjson.dumps(orjson.loads(cast("bytes", frozen))[""]).decode()


def cut_to(text: str, limit: int) -> str:
    """Return a text that is too long within `limit` characters, its original size noted at the end."""
    note = size_note(text)
    return text[: limit - len(note)] + note if len(note) < limit else text[:limit]


def fit(value: Any, limit: int) -> str:
    """Return the JSON text of a value within `limit` characters; too many items become a text with their beginning."""
    text, _ = _shortened(value, limit)
    return text if len(text) <= limit else _beginning(value, limit, lambda head: {"cut": head}, "{}")


def fit_messages(messages: list[dict[str, Any]], limit: int) -> str:
    """Return messages as JSON within `limit` characters: texts are cut, then the oldest messages make room."""
    text, kept = _shortened(messages, limit)
    while len(text) > limit and len(kept) > 1:
        kept = kept[(len(kept) + 1) // 2 :]
        text = dumps(kept)
    if len(text) <= limit:
        return text
    last = messages[-1]
    parts = last.get("parts")
    return _beginning(parts, limit, lambda head: [{**last, "parts": [{"type": "text", "content": head}]}], "[]")


def _beginning(value: Any, limit: int, shown: Callable[[str], Any], nothing: str) -> str:
    """Return the JSON of `shown(head)` with as much of the value's own JSON as there is room for."""
    whole = dumps(value)
    keep, text = limit, whole
    while len(text) > limit and keep > 1:
        keep = keep * 3 // 4
        text = dumps(shown(cut_to(whole, min(keep, len(whole)))))
    return text if len(text) <= limit else nothing


def _shortened(value: Any, limit: int) -> tuple[str, Any]:
    """Return the JSON text of a value whose texts were cut until it fits, if cutting them is enough, and that value."""
    text = dumps(value)
    cap = min(limit, _longest(value)) if len(text) > limit else 0  # a cap above that would change nothing
    while len(text) > limit and cap > _NARROW:
        value = _shorten(value, cap)
        text = dumps(value)
        cap = min(cap * 7 // 8, cap * limit // len(text))
    return text, value


def _longest(value: Any) -> int:
    """Return how many characters the longest text in a JSON-like value has."""
    if isinstance(value, str):
        return len(value)
    items = value.values() if is_object(value) else value if is_array(value) else ()
    return max(map(_longest, items), default=0)


def _shorten(value: Any, cap: int) -> Any:
    """Return a JSON-like value in which no text is longer than `cap` characters."""
    if isinstance(value, str):
        return cut_to(value, cap) if len(value) > cap > _NARROW else value
    if is_object(value):
        return {key: _shorten(item, cap) for key, item in value.items()}
    return [_shorten(item, cap) for item in value] if is_array(value) else value


def digest(data: str) -> str:
    """Return size and digest in place of encoded bytes, which no attribute should carry."""
    if elided := _ELIDED.match(data):
        return f"[{elided[1]}]"
    raw = data.encode("utf-8", "replace")
    if _BASE64.fullmatch(data):  # a decoder skips what is not, and would read some bytes in any text
        with suppress(ValueError):
            raw = base64.urlsafe_b64decode(data + "==")  # which takes both alphabets; padding may be left out
    return f"[{len(raw)} bytes, sha256 {hashlib.sha256(raw).hexdigest()[:16]}]"


def holds_bytes(frozen: bytes) -> bool:
    """Return whether JSON text of orjson's may hold encoded bytes; a wrong yes costs a walk only."""
    return (
        b'data":"' in frozen
        or any(mark in frozen for mark in _MARKS)
        or (b";" in frozen and b";base64," in frozen)  # a single byte is found in no time
    )


def elide(value: Any, key: str = "") -> Any:
    """Return a JSON-like value whose encoded images, sounds and files are replaced by size and digest.

    Args:
        value: what stands under the key, or a part of it.
        key: a field of an object.
    """
    if isinstance(value, str):
        if key in DATA and len(value) >= SHORT and _BASE64.fullmatch(value):
            return digest(value)
        head, mark, data = value.partition(";base64,")
        return f"{head};base64,{digest(data)}" if mark and value.startswith("data:") else value
    if is_array(value):
        return [elide(item, key) for item in value]
    if not is_object(value):
        return value
    drawn = value.get("type") == DRAWN
    return {name: elide(item, "data" if drawn and name == "result" else name) for name, item in value.items()}
