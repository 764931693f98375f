"""Puts size and digest in place of encoded images, sounds and files, which no attribute should carry."""

from __future__ import annotations

import hashlib
import re
from binascii import a2b_base64
from contextlib import suppress
from typing import Any, Final

from rootspan.dialect.json_like import is_array, is_object

__all__ = ["DATA", "DRAWN", "SHORT", "digest", "elide", "holds_bytes", "is_encoded"]

DATA: Final = ("data", "file_data", "b64_json", "base64", "bytes", "image", "images", "input_audio")
"""The fields in which providers put encoded images, sounds and files."""

DRAWN: Final = "image_generation_call"
"""The type of what holds an encoded image as its `result`: OpenAI's."""

SHORT: Final = 256
"""Below that, encoded bytes are not worth a look."""

_LOOK: Final = 4_096  # characters
_ELIDED: Final = re.compile(r"[\[<](\d+ bytes(?:, sha256 [0-9a-f]{16})?)[\]>]\Z")  # also as `freeze` writes bytes
# Words that blanks part are none, nor are those of a list: encoded lines are longer, mostly 64 or 76 characters.
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/_=-]{60,1000}\r?\n)*[A-Za-z0-9+/_=-]*[\r\n]*")
_STANDARD: Final = str.maketrans("-_", "+/")  # from the alphabet for URLs

_MARKS: Final = (
    b'"base64":"', b'"b64_json":"', b'"bytes":"', b'"image":"', b'"images":["', b'"input_audio":"', b'"data":["',
    f'"{DRAWN}"'.encode(),
)  # fmt: skip


def digest(data: str) -> str:
    """Return size and digest in place of encoded bytes, which no attribute should carry."""
    if elided := _ELIDED.match(data):
        return f"[{elided[1]}]"
    raw = data.encode("utf-8", "replace")
    if _BASE64.fullmatch(data):  # a decoder skips what is not, and would read some bytes in any text
        with suppress(ValueError):
            raw = a2b_base64(data.translate(_STANDARD) + "==")  # padding may be left out
    return f"[{len(raw)} bytes, sha256 {hashlib.sha256(raw).hexdigest()[:16]}]"


def is_encoded(key: object, text: str) -> bool:
    """Return whether what stands under a key are encoded bytes, by its beginning."""
    return key in DATA and len(text) >= SHORT and _BASE64.fullmatch(text, 0, _LOOK) is not None


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
        if is_encoded(key, value):
            return digest(value)
        head, mark, data = value.partition(";base64,")
        return f"{head};base64,{digest(data)}" if mark and value.startswith("data:") else value
    if is_array(value):
        return [elide(item, key) for item in value]
    if not is_object(value):
        return value
    drawn = value.get("type") == DRAWN
    return {name: elide(item, "data" if drawn and name == "result" else name) for name, item in value.items()}
