"""Turns any value into an immutable one at the moment of the call, within a budget, and never fails."""

# Everything here is taken apart at run time, so what it holds is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import hashlib
import math
import pathlib
import types
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeGuard

import orjson

from rootspan.record import Frozen

__all__ = ["freeze", "identifier", "mend", "thaw"]

_NODES: Final = 10_000  # how many values one walk visits: some milliseconds
_DEPTH: Final = 100
_REPR: Final = 1_000  # characters kept of a foreign object's own text
_ID: Final = 250  # characters of a user or conversation id, as the backends take them
# Subclasses and dataclasses go to the walk: it respects repr=False fields and runs none of their overridden methods.
_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
_dumps = orjson.dumps


def freeze(value: Any, limit: int) -> Frozen:
    """Return `value` as it is now, immutable and at most about `limit` characters long.

    Args:
        value: anything at all; generators are not consumed, lazy queries not evaluated.
        limit: characters kept; what is cut is noted with the original size.

    Returns:
        A scalar as it is, or `bytes`: the JSON text of a container or an object.
    """
    kind: Any = type(value)
    if kind is str:
        text: str = value
        return text if len(text) <= limit else _cut(text, limit)
    if value is None or kind is bool or kind is float:
        scalar: bool | float | None = value
        return scalar
    if kind is int:
        number: int = value
        return number if -(2**63) <= number < 2**63 else _big(number)
    try:
        if (kind is dict or kind is list) and _room(value, limit) >= 0:
            return _dumps(value, None, _OPTIONS)
    except (TypeError, ValueError, RecursionError, RuntimeError):
        pass  # foreign, cyclic, too deep, or changed by another thread meanwhile
    plain = _Walk(limit).plain(value, 0)
    if plain is None or isinstance(plain, (str, bool, int, float)):
        return plain
    return _dumps(plain)


def thaw(frozen: Frozen) -> Any:
    """Return what `freeze` kept, as plain JSON-like values."""
    return orjson.loads(frozen) if type(frozen) is bytes else frozen


def identifier(value: object) -> str | None:
    """Return a user or conversation id as text, or None for what cannot be one.

    Args:
        value: `str` as it is; `int` and `UUID` as their text. Over 250 characters it is cut and ends in a hash.
    """
    if isinstance(value, uuid.UUID) or (isinstance(value, int) and not isinstance(value, bool)):
        value = str(uuid.UUID(int=value.int)) if isinstance(value, uuid.UUID) else int.__repr__(value)
    if not isinstance(value, str) or not value:
        return None
    text = str.__str__(value)
    if len(text) <= _ID:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{text[: _ID - 17]}~{digest}"


def mend(text: str) -> str:
    """Return `text` as valid Unicode: lone surrogates become U+FFFD, surrogate pairs the character they mean."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _room(value: Any, budget: int) -> int:
    """Return what is left of `budget` characters after `value`; below zero when it is too large or not finite."""
    budget -= 16 * len(value)
    items: Iterable[Any] = value.values() if type(value) is dict else value
    for item in items:
        kind: Any = type(item)
        if kind is str:
            budget -= len(item)
        elif kind is dict or kind is list:
            budget = _room(item, budget)
        elif kind is float and item - item != 0.0:  # NaN and infinities, which JSON writes as null
            return -1
        if budget < 0:
            return budget
    return budget


def _cut(text: str, limit: int) -> str:
    return f"{text[:limit]}…[cut from {len(text)} characters]"


def _big(number: int) -> str:
    try:
        return int.__repr__(number)
    except ValueError:  # beyond sys.get_int_max_str_digits
        return f"<int of {number.bit_length()} bits>"


def _named(value: object) -> str:
    """Return `<module.Class>`, running none of the value's own code."""
    kind: Any = type(value)
    return f"<{kind.__module__}.{kind.__qualname__}>" if isinstance(kind.__module__, str) else f"<{kind.__qualname__}>"


class _Walk:
    """One budgeted walk over a value, which yields JSON-like values only."""

    def __init__(self, limit: int) -> None:
        self.left = limit
        self.nodes = _NODES
        self.path: set[int] = set()

    def plain(self, value: Any, depth: int) -> Any:
        self.nodes -= 1
        if self.nodes < 0 or self.left < 0:
            return "…[cut: too large]"
        try:
            return self._scalar(value, depth)
        except KeyboardInterrupt:
            raise
        except BaseException:  # a value's own dunder may even raise SystemExit
            return f"{_named(value)} (unreadable)"

    def _scalar(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, enum.Enum):
            return self.plain(value._value_, depth + 1)
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, int):
            number = int.__index__(value)
            return number if -(2**63) <= number < 2**63 else self._text(_big(number))
        if isinstance(value, float):
            return float.__float__(value) if math.isfinite(value) else _not_finite(value)
        if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
            item = value.item()
            return str(value) if type(item) is type(value) else self.plain(item, depth + 1)
        return self._nested(value, depth)

    def _text(self, text: str) -> str:
        limit, self.left = self.left, self.left - len(text) - 8
        if len(text) > limit:
            text = _cut(text, max(limit, 0))
        try:
            text.encode()
        except UnicodeEncodeError:
            text = mend(text)
        return text

    def _nested(self, value: Any, depth: int) -> Any:
        if depth > _DEPTH:
            return "…[cut: nested too deep]"
        if id(value) in self.path:
            return "…[cycle]"
        self.path.add(id(value))
        try:
            pairs = _pairs(value)
            if pairs is not None:
                return self._object(pairs, depth)
            items = _items(value)
            if items is not None:
                return self._array(items, depth)
        finally:
            self.path.discard(id(value))
        return self._text(_described(value))

    def _object(self, pairs: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, item in pairs:
            if self.nodes < 0 or self.left < 0:
                result["…"] = "[cut: too large]"
                break
            name = self.plain(key, depth + 1)
            result[name if isinstance(name, str) else orjson.dumps(name).decode()] = self.plain(item, depth + 1)
        return result

    def _array(self, items: Iterable[Any], depth: int) -> list[Any]:
        result: list[Any] = []
        for item in items:
            if self.nodes < 0 or self.left < 0:
                result.append("…[cut: too large]")
                break
            result.append(self.plain(item, depth + 1))
        return result


def _not_finite(number: float) -> str:
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _pairs(value: Any) -> Iterable[tuple[Any, Any]] | None:
    """Return the fields of what is a mapping or declares its fields; their own code for it is not run."""
    kind: Any = type(value)
    if issubclass(kind, (dict, types.MappingProxyType)):
        pairs: Iterable[tuple[Any, Any]] = dict.items(value) if issubclass(kind, dict) else value.items()
        return list(pairs) if len(value) <= _NODES else pairs
    if issubclass(kind, tuple):
        names = getattr(kind, "_fields", None)
        return list(zip(names, tuple.__iter__(value), strict=False)) if _is_names(names) else None
    for declared in ("__dataclass_fields__", "model_fields", "__pydantic_fields__", "__fields__"):
        fields: Any = getattr(kind, declared, None)
        if type(fields) is dict:
            return _declared(value, [(name, getattr(field, "repr", True)) for name, field in list(fields.items())])
    attributes: Any = getattr(kind, "__attrs_attrs__", None)
    if isinstance(attributes, tuple):
        return _declared(value, [(field.name, field.repr) for field in list[Any](attributes)])
    return None


def _is_names(names: Any) -> TypeGuard[tuple[str, ...]]:
    return type(names) is tuple and all(type(name) is str for name in list[Any](names))


def _declared(value: Any, fields: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for name, shown in fields:
        if shown is not False and shown is not None:
            try:
                yield name, getattr(value, name)
            except Exception:
                yield name, "(unreadable)"


def _items(value: Any) -> Iterable[Any] | None:
    kinds: tuple[Any, ...] = (list, tuple, set, frozenset, deque)
    for kind in kinds:
        if isinstance(value, kind):
            items: Iterable[Any] = kind.__iter__(value)  # not the value's own
            return list(items) if len(value) <= _NODES else items
    if type(value).__module__ == "numpy" and hasattr(value, "tolist") and value.size <= _NODES:
        plain: list[Any] = value.tolist()
        return plain
    return None


def _described(value: Any) -> str:
    """Return a text for what is neither a scalar nor a container."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _of_bytes(value)
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(
        value, (datetime.timedelta, decimal.Decimal, fractions.Fraction, uuid.UUID, complex, pathlib.PurePath)
    ):
        return str(value)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {value}"[:_REPR]
    kind: Any = type(value)
    if kind.__module__ == "numpy" and hasattr(value, "dtype"):
        shape = getattr(value, "shape", ())
        return f"<numpy.{kind.__name__} {shape} {value.dtype}>"
    if isinstance(value, (type, types.FunctionType, types.MethodType)):
        return f"<{kind.__name__} {value.__module__}.{value.__qualname__}>"
    meta = getattr(kind, "_meta", None)
    if meta is not None:  # a Django model, whose own text may query the database
        return f"<{kind.__name__} {vars(value).get('id', '?')}>"
    lazy = any(hasattr(kind, name) for name in ("__iter__", "__next__", "__aiter__", "__anext__", "__await__"))
    if lazy or kind.__repr__ is object.__repr__:  # such a repr may run a query, or says only an address
        return _named(value)
    return _cut_repr(repr(value))


def _cut_repr(text: str) -> str:
    text = str.__str__(text)
    return text if len(text) <= _REPR else _cut(text, _REPR)


def _of_bytes(value: bytes | bytearray | memoryview) -> str:
    size = value.nbytes if isinstance(value, memoryview) else len(value)
    if size > 65_536:  # hashing more would cost the caller
        return f"<{size} bytes>"
    data = bytes(value)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if text.translate({9: None, 10: None, 13: None}).isprintable():
        return text
    return f"<{size} bytes, sha256 {hashlib.sha256(data).hexdigest()[:16]}>"
