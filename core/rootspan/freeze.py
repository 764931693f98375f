"""Turns any value into an immutable one at the moment of the call, within a budget, and never fails."""

# Everything here is taken apart at run time, so what it holds is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
import types
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from operator import countOf, itemgetter
from typing import Any, Final, TypeGuard, cast

import orjson

from rootspan.description import cut, described, integer, is_numpy, named, not_finite, valid
from rootspan.record import Chat, Frozen, Kept

__all__ = ["LABEL", "LONGEST_ID", "freeze", "identifier", "keep", "pairs_of", "room", "thaw", "weight", "written"]

LABEL: Final = 1_000
"""Characters of a name, a model or another label."""

LONGEST_ID: Final = 250
"""Characters of a user or conversation id, as the backends take them."""

_NODES: Final = 10_000  # how many values one walk visits: some milliseconds
_DEPTH: Final = 100
# Subclasses and dataclasses go to the walk: it respects repr=False fields and runs none of their overridden methods.
_OPTIONS: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
_dumps = orjson.dumps
# What orjson writes as the walk does, running none of the value's own code.
_SCALARS: Final = frozenset({int, bool, type(None), datetime.date})
_FLAT: Final = 1_000  # items, up to which a look at all of them is worth it
_ENTRY: Final = 64  # bytes of an entry of a dict, and of a whole small one
_OBJECT: Final = 250
_MESSAGE: Final = 80  # of one in a `Chat`
_role: Final = itemgetter("role")
_content: Final = itemgetter("content")
_values: Final = dict[Any, Any].values  # not the value's own, which may do anything
_copy: Final = dict[Any, Any].copy
_length: Final = dict.__len__
_chat: Any = tuple.__dict__["__new__"]  # half the price of calling the class
_ZONES: Final = frozenset({type(None), datetime.timezone})


def freeze(value: Any, limit: int, nodes: int = _NODES) -> Frozen:
    """Return `value` as it is now, immutable and at most about `limit` characters long.

    Args:
        value: anything at all; generators are not consumed, lazy queries not evaluated.
        limit: characters kept; what is cut is noted with the original size.
        nodes: how many values of a foreign object are looked at.

    Returns:
        A scalar as it is, or `bytes`: the JSON text of a container or an object.
    """
    kind: Any = type(value)
    if kind is str:
        text: str = value
        return text if len(text) <= limit else cut(text, limit)
    if kind is dict or kind is list:
        return _container(value, limit, nodes)
    if value is None or kind is bool:
        flag: bool | None = value
        return flag
    if kind is float:
        real: float = value
        return real if real - real == 0.0 else not_finite(real)  # which JSON would write as null
    if kind is int:
        number: int = value
        return number if -(2**63) <= number < 2**63 else integer(number)
    if kind is Chat:
        messages = [{"role": role, "content": content} for role, content in zip(*value, strict=True)]
        return _container(messages, limit, nodes)
    return _walked(value, limit, nodes)


def keep(value: Any, limit: int) -> tuple[Kept, int]:
    """Return `value` as it is now at the least cost for the caller, and about how many bytes it holds.

    Flat containers, such as properties and chat messages, are copied and share their texts; what they cannot hold for
    good, like NaN or a key that is no text, is left to `freeze` on the worker. Everything else is frozen at once.

    Args:
        value: a container or an object.
        limit: characters kept.
    """
    kind: Any = type(value)
    try:
        if kind is dict and (count := len(value)) <= _FLAT:
            value = value.copy()  # looked at only now: another thread may change the original
            size = 0
            for item in value.values():
                of: Any = type(item)
                if of is str:
                    size += len(item)
                elif of is not int and of is not bool and of is not float and item is not None:
                    break
            else:
                if size <= limit:
                    return value, size + _ENTRY * count
        elif kind is list and len(value) <= _FLAT:
            messages, texts, each = _messages(value.copy())
            if texts <= limit:
                return messages, texts + each * len(value)
    except KeyboardInterrupt:
        raise
    except BaseException:  # not flat, changed by another thread meanwhile, or a key has methods of its own
        pass
    frozen = freeze(value, limit)
    return frozen, len(frozen) if type(frozen) is str or type(frozen) is bytes else 0


def _messages(value: list[Any]) -> tuple[list[dict[str, str]] | Chat, int, int]:
    """Return a copy of flat dicts, how many characters their texts have, and about what each weighs beside them.

    Raises:
        TypeError: some of it is neither a dict nor, in one, a text.
        LookupError: some of it is unlike the first, or has too many items to look at.
    """
    count = len(value)
    if (
        countOf(map(type, value), dict) == count > 0
        and "".join(value[0]) == "rolecontent"
        and countOf(map(len, value), 2) == count
    ):
        roles, contents = list(map(_role, value)), list(map(_content, value))
        chat: Chat = _chat(Chat, (roles, contents))
        return chat, len("".join(roles)) + len("".join(contents)), _MESSAGE
    if max(map(_length, value), default=0) > _FLAT:
        raise LookupError
    copies = list(map(_copy, value))
    return copies, len("".join(chain.from_iterable(map(_values, copies)))), _OBJECT


def weight(kept: Kept) -> int:
    """Return about how many bytes a kept value holds."""
    value: Any = kept
    kind: Any = type(value)
    if kind is str or kind is bytes:
        return len(value)
    if kind is dict:
        size = _ENTRY * len(value)
        for item in value.values():
            if type(item) is str:
                size += len(item)
        return size
    if kind is Chat:
        return len("".join(value.roles)) + len("".join(value.contents)) + _MESSAGE * len(value.roles)
    if kind is list:
        return sum([_OBJECT + len("".join(item.values())) for item in value])
    return 0


def _container(value: Any, limit: int, nodes: int) -> Frozen:
    """Return the JSON text of an exact dict or list; what orjson must not or cannot write takes the walk."""
    return written(value, limit, nodes) if room(value, limit) >= 0 else _walked(value, limit, nodes)


def written(value: Any, limit: int, nodes: int = _NODES) -> Frozen:
    """Return the JSON text of a dict or list that was looked at before, and holds neither NaN nor too much."""
    try:
        text = _exact(_dumps(value, None, _OPTIONS))
        if len(text) <= 8 * limit + 1_000:  # else a key is huge: keys are not counted beforehand
            return text
    except TypeError:  # of orjson: what only the walk can write
        pass
    return _walked(value, limit, nodes)


def _exact(written: bytes) -> bytes:
    """Return a copy: orjson's own result may keep a block of 4 kB, whatever its length."""
    return b"".join((written, b""))


def _walked(value: Any, limit: int, nodes: int) -> Frozen:
    plain = _Walk(limit, nodes).plain(value, 0)
    if plain is None or isinstance(plain, (str, bool, int, float)):
        return plain
    return _exact(_dumps(plain))


def thaw(frozen: Frozen) -> Any:
    """Return what `freeze` kept, as plain JSON-like values."""
    return orjson.loads(frozen) if type(frozen) is bytes else frozen


def identifier(value: object) -> str | None:
    """Return a user or conversation id as text, or None for what cannot be one.

    Args:
        value: `str` as it is; `int` and `UUID` as their text. Over 250 characters it is cut and ends in a hash.
    """
    kind: Any = type(value)  # not isinstance: it would evaluate a lazy object
    if issubclass(kind, str):
        text = str.__str__(cast(str, value))
    elif issubclass(kind, int) and kind is not bool:
        text = _digits(cast(int, value))
    elif issubclass(kind, uuid.UUID):
        text = uuid.UUID.__str__(cast(uuid.UUID, value))
    else:
        return None
    if len(text) <= LONGEST_ID:
        return text or None
    import hashlib  # not with `import rootspan`: few need it, and it loads OpenSSL

    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{text[: LONGEST_ID - 17]}~{digest}"


def room(value: Any, budget: int) -> int:
    """Return what is left of `budget` characters after a dict or list; below zero when only a walk can tell it."""
    try:
        budget -= 16 * len(value)
        items: Iterable[Any] = value.values() if type(value) is dict else value
        for item in items:
            kind: Any = type(item)
            if kind is str:
                budget -= len(item)
            elif kind is dict or kind is list or kind is tuple:
                budget = room(item, budget)
            elif kind is float:
                if item - item != 0.0:  # NaN and infinities, which JSON writes as null
                    return -1
            elif kind is uuid.UUID:
                number = getattr(item, "int", None)
                if type(number) is not int or number >> 128:  # half made, or nonsense: orjson would end the process
                    return -1
            elif kind not in _SCALARS and not (kind is datetime.datetime and type(item.tzinfo) in _ZONES):
                return -1
            if budget < 0:
                return budget
        return budget
    except RuntimeError:  # cyclic, too deep, or changed by another thread meanwhile
        return -1


def _digits(number: int) -> str:
    try:
        return int.__repr__(number)
    except ValueError:  # beyond sys.get_int_max_str_digits
        return hex(int.__index__(number))


class _Walk:
    """One budgeted walk over a value, which yields JSON-like values only."""

    def __init__(self, limit: int, nodes: int) -> None:
        self.left = limit
        self.nodes = nodes
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
            return f"{named(value)} (unreadable)"

    def _scalar(self, value: Any, depth: int) -> Any:
        kind: Any = type(value)  # not isinstance: it asks `__class__`, which evaluates a lazy object
        if value is None or kind is bool:
            return value
        if issubclass(kind, enum.Enum):
            return self.plain(value._value_, depth + 1)
        if issubclass(kind, str):
            return self._text(str.__str__(value))
        if issubclass(kind, int):
            number = int.__index__(value)
            return number if -(2**63) <= number < 2**63 else self._text(integer(number))
        if issubclass(kind, float):
            real = float.__float__(value)
            return real if math.isfinite(real) else not_finite(real)
        if is_numpy(value) and getattr(value, "shape", None) == ():
            item = value.item()
            return self._text(str(value)) if type(item) is kind else self.plain(item, depth + 1)
        return self._nested(value, depth)

    def _text(self, text: str) -> str:
        text = str.__str__(text)
        limit, self.left = self.left, self.left - len(text) - 8
        if len(text) > limit:
            text = cut(text, max(limit, 0))
        return valid(text)

    def _nested(self, value: Any, depth: int) -> Any:
        if depth > _DEPTH:
            return "…[cut: nested too deep]"
        if id(value) in self.path:
            return "…[cycle]"
        self.path.add(id(value))
        try:
            pairs = pairs_of(value)
            if pairs is not None:
                return self._object(pairs, depth)
            items = _items(value)
            if items is not None:
                return self._array(items, depth)
        finally:
            self.path.discard(id(value))
        return self._text(described(value))

    def _object(self, pairs: Iterable[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, item in pairs:
            if self.nodes < 0 or self.left < 0:
                result["…"] = "[cut: too large]"
                break
            name = self.plain(key, depth + 1)
            name = name if isinstance(name, str) else _dumps(name).decode()
            if name in result:  # such as 1 and "1"
                name += "'"
                while name in result:
                    name += str(len(result))
            result[name] = self.plain(item, depth + 1)
        return result

    def _array(self, items: Iterable[Any], depth: int) -> list[Any]:
        result: list[Any] = []
        for item in items:
            if self.nodes < 0 or self.left < 0:
                result.append("…[cut: too large]")
                break
            result.append(self.plain(item, depth + 1))
        return result


def pairs_of(value: Any) -> Iterable[tuple[Any, Any]] | None:
    """Return the fields of what is a mapping or declares its fields; their own code for it is not run."""
    kind: Any = type(value)
    if issubclass(kind, (dict, types.MappingProxyType)):
        return _some(partial(dict.items, value) if issubclass(kind, dict) else value.items)
    if issubclass(kind, tuple):
        names: Any = getattr(kind, "_fields", None)
        return list(zip(names, tuple.__iter__(value), strict=False)) if _is_names(names) else None
    if dataclasses.is_dataclass(kind):
        return _declared(value, [(field.name, field.repr) for field in dataclasses.fields(kind)])
    for declared in ("model_fields", "__pydantic_fields__", "__fields__"):
        fields: Any = getattr(kind, declared, None)
        if type(fields) is dict:
            # pydantic 1 keeps what was declared one level further down
            infos = [(name, getattr(field, "field_info", field)) for name, field in list(fields.items())]
            return _declared(value, [(name, getattr(info, "repr", True)) for name, info in infos])
    attributes: Any = getattr(kind, "__attrs_attrs__", None)
    if isinstance(attributes, tuple):
        return _declared(value, [(field.name, field.repr) for field in list[Any](attributes)])
    return None


def _some(iterate: Callable[[], Iterable[Any]], attempts: int = 20) -> list[Any]:
    """Return as many as a walk may visit, copied in one go: another thread may change where they come from."""
    try:
        return list(islice(iterate(), _NODES + 1))
    except RuntimeError:  # it did, while a garbage collection ran a callback of the host
        if not attempts:
            raise
        return _some(iterate, attempts - 1)


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
        if issubclass(type(value), kind):
            return _some(partial(kind.__iter__, value))  # not the value's own
    if is_numpy(value) and hasattr(value, "tolist") and value.size <= _NODES:
        plain: list[Any] = value.tolist()
        return plain
    return None
