"""A text for what is neither a scalar nor a container; it runs none of the code that may be slow or query something."""

# Everything here is taken apart at run time, so what it holds is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import datetime
import decimal
import re
import sys
import types
import uuid
from typing import Any, Final

__all__ = ["cut", "described", "integer", "is_numpy", "kind_of", "named", "not_finite", "noted", "size_note", "valid"]

_REPR: Final = 1_000  # characters kept of a foreign object's own text
_NOTED: Final = re.compile(r"…\[cut from (\d+) characters\]\Z")
_LONGEST_NOTE: Final = 64
_MODULE: Final = type.__dict__["__module__"]  # what `type` knows, whatever a metaclass says
_NAME: Final = type.__dict__["__name__"]
_QUALNAME: Final = type.__dict__["__qualname__"]
_WRITTEN: Final = (datetime.timedelta, decimal.Decimal, uuid.UUID, complex)
_ALSO_WRITTEN: Final = (("fractions", "Fraction"), ("pathlib", "PurePath"))  # whoever has one has imported them


def valid(text: str) -> str:
    """Return `text` as valid Unicode: lone surrogates become U+FFFD, surrogate pairs the character they mean."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def noted(size: int | str, of: str = "characters") -> str:
    """Return what stands in place of what was cut from so many."""
    return f"…[cut from {size} {of}]"


def size_note(text: str) -> str:
    """Return what notes the original size of a text that is cut, be it for the second time."""
    before = _NOTED.search(text, len(text) - _LONGEST_NOTE)
    return noted(before[1] if before else len(text))


def cut(text: str, limit: int) -> str:
    """Return the first `limit` characters of `text`, and what was cut."""
    return text[:limit] + size_note(text)


def integer(number: int) -> str:
    """Return the digits of an integer beyond 64 bits, or how large it is."""
    try:
        return int.__repr__(number)
    except ValueError:  # beyond sys.get_int_max_str_digits
        return f"<int of {number.bit_length()} bits>"


def not_finite(number: float) -> str:
    """Return the word for a NaN or an infinity, as protobuf's JSON mapping writes it."""
    return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"


def named(value: object) -> str:
    """Return `<module.Class>`, running none of the value's own code."""
    kind: Any = type(value)
    module, name = _MODULE.__get__(kind), valid(_QUALNAME.__get__(kind))
    return f"<{valid(module)}.{name}>" if type(module) is str else f"<{name}>"


def kind_of(value: object) -> str:
    """Return the name of the value's class, running none of the value's own code."""
    return str(_NAME.__get__(type(value)))


def is_numpy(value: object) -> bool:
    """Return whether `value` is one of numpy's own, which is never imported."""
    return bool(_MODULE.__get__(type(value)) == "numpy")


def described(value: Any) -> str:
    """Return a text for what is neither a scalar nor a container."""
    kind: Any = type(value)
    if issubclass(kind, (bytes, bytearray, memoryview)):
        return _of_bytes(value)
    if issubclass(kind, (datetime.datetime, datetime.date, datetime.time)):
        return str(value.isoformat())
    if issubclass(kind, (*_WRITTEN, *_also_written())):
        return str(value)
    if issubclass(kind, BaseException):
        return f"{kind.__name__}: {value}"[:_REPR]
    if is_numpy(value) and hasattr(value, "dtype"):
        shape = getattr(value, "shape", ())
        return f"<numpy.{kind.__name__} {shape} {value.dtype}>"
    if issubclass(kind, (type, types.FunctionType, types.MethodType)):
        return f"<{kind.__name__} {value.__module__}.{value.__qualname__}>"
    meta: Any = getattr(kind, "_meta", None)
    if meta is not None:  # a Django model, whose own text may query the database
        key = getattr(getattr(meta, "pk", None), "attname", "id")
        return f"<{kind.__name__} {vars(value).get(key, '?')}>"
    lazy = any(hasattr(kind, name) for name in ("__iter__", "__next__", "__aiter__", "__anext__", "__await__"))
    if lazy or kind.__repr__ is object.__repr__:  # such a repr may run a query, or says only an address
        return named(value)
    text = str.__str__(repr(value))
    return text if len(text) <= _REPR else cut(text, _REPR)


def _also_written() -> list[type]:
    found = [getattr(sys.modules.get(module), name, None) for module, name in _ALSO_WRITTEN]
    return [kind for kind in found if isinstance(kind, type)]


def _of_bytes(value: bytes | bytearray | memoryview) -> str:
    # No method of a subclass; and no view, for while there is one, no other thread can change the size of a bytearray.
    kind: Any = bytes if isinstance(value, bytes) else bytearray
    size = value.nbytes if isinstance(value, memoryview) else kind.__len__(value)
    if size > 65_536:  # hashing more would cost the caller
        return f"<{size} bytes>"
    data = value.tobytes() if isinstance(value, memoryview) else bytes(kind.__getitem__(value, slice(None)))
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.translate({9: None, 10: None, 13: None}).isprintable():
        return text
    import hashlib  # not with `import rootspan`: few need it, and it loads OpenSSL

    return f"<{size} bytes, sha256 {hashlib.sha256(data).hexdigest()[:16]}>"
