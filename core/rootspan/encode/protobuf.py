"""Writes spans as OTLP protobuf by hand: the one place where own code beats the library, on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct, error
from typing import Any, Final, TypeAlias, TypeVar

from rootspan.encode.wire import ERROR, FLAGS, cut, id_bytes, nanoseconds, plain, plain_attributes, plain_text
from rootspan.record import AttributeValue, Link, SpanData, SpanEvent

__all__ = ["ATTRIBUTE", "PLAIN_END", "TIMES", "ProtobufEncoder", "key_value", "sized", "span_ids"]

_MOST: Final = 4096  # entries of a cache; then it starts afresh
_LONGEST: Final = 64  # characters of a value that is looked up; four times as many bytes are kept

_UINT64: Final = 2**64 - 1
_DOUBLE: Final = Struct("<cd").pack
_FIXED64: Final = Struct("<Q").pack
_FLAGS: Final = FLAGS.to_bytes(4, "little")
ATTRIBUTE: Final = b"\x4a"  # what comes before each attribute of a span
TIMES: Final = Struct("<cQcQ").pack  # when a span began and ended; called with the tags b"\x39" and b"\x41" before them
PLAIN_END: Final = b"\x7a\x00\x85\x01" + _FLAGS  # how a span ends that did not fail: no status, and its flags


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


_NUMBERS: Final = tuple(map(_number, range(2048)))


def _varint(value: int) -> bytes:
    return _NUMBERS[value] if value < 2048 else _number(value)


def sized(message: bytes) -> bytes:
    """A message after its size."""
    size = len(message)
    return (_NUMBERS[size] if size < 2048 else _number(size)) + message


def span_ids(trace: str, span: str, parent: str | None) -> bytes:
    """The ids of a span, given as hexadecimal text."""
    text = f"0a10{trace}1208{span}2208{parent}" if parent else f"0a10{trace}1208{span}"
    ids = bytes.fromhex(text)
    if len(trace) != 32 or len(span) != 16 or len(text) != (76 if parent else 56) or 2 * len(ids) != len(text):
        return b"".join((id_bytes(trace, 16), id_bytes(span, 8), id_bytes(parent or "", 8)))  # one of them raises
    return ids


def _times(start: int, end: int) -> bytes:
    try:
        return TIMES(b"\x39", start, b"\x41", end)
    except error:
        return TIMES(b"\x39", nanoseconds(start), b"\x41", nanoseconds(end))


def _any_value(value: Any) -> bytes:
    """An AnyValue message, without its size."""
    kind = type(value)  # pyright: ignore[reportUnknownVariableType]  # a type of anything
    if kind is str:
        try:
            return b"\x0a" + sized(value.encode())
        except UnicodeEncodeError:
            return b"\x0a" + sized(plain_text(value).encode())
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is float:
        return _DOUBLE(b"\x21", value)
    if kind is int and -(2**63) <= value < 2**63:
        return b"\x18" + _varint(value & _UINT64)
    known = plain(value)
    if type(known) is not tuple:
        return _any_value(known)
    return b"\x2a" + sized(b"".join([b"\x0a" + sized(_any_value(item)) for item in known]))


def key_value(key: bytes, value: object) -> bytes:
    """A KeyValue message after its size; `key` is its first part, up to the tag of the value."""
    message = _any_value(value)
    size = len(message)
    if size + len(key) < 2040:
        return _NUMBERS[size + len(key) + (1 if size < 128 else 2)] + key + _NUMBERS[size] + message
    sized = _varint(size)
    return b"".join((_varint(len(key) + len(sized) + size), key, sized, message))


T = TypeVar("T")


class _OddKeyError(Exception):
    """A key is not a `str`, or not valid UTF-8."""


class ProtobufEncoder:
    """Encodes spans as OTLP protobuf, an order of magnitude faster than through message objects.

    The cache of encoded attributes is only an optimisation and needs no lock: a race costs a second encoding.

    Args:
        resource: attributes of what produces the spans, such as `service.name`.
        version: that of rootspan, the instrumentation scope.

    Example:
        >>> encoder = ProtobufEncoder({"service.name": "shop"}, "1.0")
        >>> span = SpanData("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", None, "answer", 1, 1, 2, {})
        >>> body = encoder.batch([encoder.span(span)])
    """

    def __init__(self, resource: Mapping[str, AttributeValue], version: str) -> None:
        # Plain dictionaries: a subclass with `__missing__` takes three times as long to look up.
        self._names: dict[str, bytes] = {}
        self._keys: dict[str, bytes] = {}
        self._known: dict[tuple[str, object], bytes] = {}
        self._resource = b"\x0a" + sized(self.attributes(resource, b"\x0a"))
        self._scope = b"\x0a" + sized(b"\x0a" + sized(b"rootspan") + b"\x12" + sized(plain_text(version).encode()))

    def span(self, data: SpanData) -> bytes:
        """One encoded span, with the tag and size that it has in a batch.

        Args:
            data: the span; values that OTLP cannot carry are replaced, see `wire.plain`.

        Returns:
            The field `spans` of a ScopeSpans message.

        Raises:
            ValueError: An id is not hexadecimal or of the wrong length.
        """
        trace, span, parent, name, kind, start, end, attributes, events, links, code, text = data
        message = b"".join((
            span_ids(trace, span, parent),
            self._names.get(name) or self.name(name),
            b"\x30", _NUMBERS[kind if 0 < kind < 6 else 1],
            _times(start, end),
            self.attributes(attributes),
            b"".join(map(self._event, events)) if events else b"",
            b"".join(map(self.link, links)) if links else b"",
            PLAIN_END if not code else _status(code, text) + b"\x85\x01" + _FLAGS,
        ))  # fmt: skip
        return b"\x12" + sized(message)

    def batch(self, spans: Sequence[bytes]) -> bytes:
        """A whole ExportTraceServiceRequest: one resource, one scope, these spans.

        Args:
            spans: what `span` or `shrink` returned.
        """
        size = len(self._scope) + sum(map(len, spans))
        head = b"".join((self._resource, b"\x12", _varint(size), self._scope))
        size += len(head) - len(self._scope)
        return b"".join((b"\x0a", _varint(size), head, *spans))

    def shrink(self, span: bytes, longest: int) -> bytes:
        """The span with every string value that is longer cut, for a receiver that answered 413.

        Args:
            span: what `span` returned.
            longest: bytes that an attribute value (also an array's item, also on an event) or the
                status message may have.

        Returns:
            The same object if nothing was longer.
        """
        return _shrunk(span, _SPANS, longest)

    def _event(self, event: SpanEvent) -> bytes:
        time = b"\x09" + _FIXED64(nanoseconds(event.time))
        name = b"\x12" + sized(plain_text(event.name).encode())
        return b"\x5a" + sized(time + name + self.attributes(event.attributes, b"\x1a"))

    def link(self, link: Link) -> bytes:
        """The field of a link."""
        ids = b"\x0a\x10" + id_bytes(link.trace_id, 16) + b"\x12\x08" + id_bytes(link.span_id, 8)
        return b"\x6a" + sized(ids + b"\x35" + _FLAGS)

    def attributes(self, attributes: Mapping[str, object], tag: bytes = ATTRIBUTE) -> bytes:
        """Every attribute as a field with this tag; those of a span."""
        keys, known, fields = self._keys, self._known, [b""]
        add = fields.append
        try:
            for item in attributes.items():
                key, value = item
                # Only these two are looked up: to a dictionary 1, 1.0 and True are the same.
                if (type(value) is str and len(value) <= _LONGEST) or type(value) is int:
                    add(known.get(item) or _remember(known, item, key_value(keys.get(key) or self.key(key), value)))
                elif value is not None:
                    add(key_value(keys.get(key) or self.key(key), value))
        except _OddKeyError:
            return self.attributes(plain_attributes(attributes), tag)
        # The tag separates the sized messages, so that one cache serves spans, events and the resource.
        return tag.join(fields)

    def key(self, key: str) -> bytes:
        """How an attribute begins: its key, up to the tag of its value."""
        if type(key) is not str:
            raise _OddKeyError
        try:
            encoded = b"\x0a" + sized(key.encode()) + b"\x12"
        except UnicodeEncodeError:
            raise _OddKeyError from None
        return _remember(self._keys, key, encoded)

    def name(self, name: str) -> bytes:
        """The field of a span's name."""
        return _remember(self._names, name, b"\x2a" + sized(plain_text(name).encode()))


def _remember(cache: dict[T, bytes], what: T, encoded: bytes) -> bytes:
    if len(encoded) <= 4 * _LONGEST:
        if len(cache) >= _MOST:
            cache.clear()
        cache[what] = encoded
    return encoded


def _status(code: int, text: str) -> bytes:
    if code != ERROR:
        return b"\x7a\x02\x18\x01" if code == 1 else b"\x7a\x00"
    return b"\x7a" + sized(b"\x12" + sized(plain_text(text).encode()) + b"\x18\x02")


# The fields in which `shrink` looks for text, by number: a mapping is a message, None is the text itself.
_Fields: TypeAlias = "dict[int, _Fields | None]"
_ANY: Final[_Fields] = {1: None}
_ANY[5] = {1: _ANY}
_KEY_VALUE: Final[_Fields] = {2: _ANY}
_SPANS: Final[_Fields] = {
    2: {9: _KEY_VALUE, 11: {3: _KEY_VALUE}, 15: {2: None}},
}
_FIXED_SIZES: Final = {1: 8, 5: 4}


def _read(message: bytes, at: int) -> tuple[int, int]:
    """The number written there, and where the next one starts."""
    value = shift = 0
    while (byte := message[at]) > 127:
        value |= (byte & 127) << shift
        shift += 7
        at += 1
    return value | byte << shift, at + 1


def _shrunk(message: bytes, fields: _Fields, longest: int) -> bytes:
    parts: list[bytes] = []
    kept = at = 0  # what was read but not copied yet starts at `kept`
    while at < len(message):
        tag, at = _read(message, at)
        if tag & 7 == 0:
            _, at = _read(message, at)
        elif tag & 7 != 2:
            at += _FIXED_SIZES[tag & 7]
        else:
            field = at
            size, start = _read(message, at)
            at = start + size
            if tag >> 3 in fields and size > longest:
                inner = fields[tag >> 3]
                old = message[start:at]
                new = cut(old, longest) if inner is None else _shrunk(old, inner, longest)
                if new is not old:
                    parts += (message[kept:field], sized(new))
                    kept = at
    return b"".join((*parts, message[kept:])) if parts else message
