"""Brings any value within what OTLP can carry: valid UTF-8, 64-bit numbers, homogeneous arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, TypeAlias, cast

from rootspan.description import integer, valid
from rootspan.record import Link, SpanData, SpanEvent

__all__ = [
    "ERROR",
    "FLAGS",
    "Plain",
    "cut",
    "id_bytes",
    "nanoseconds",
    "plain",
    "plain_attributes",
    "plain_span",
    "plain_text",
]

Plain: TypeAlias = "str | bool | int | float | tuple[str, ...] | tuple[bool, ...] | tuple[int, ...] | tuple[float, ...]"
"""An attribute value of exactly these types, which every OTLP writer takes."""

UNPRINTABLE: Final = "<unprintable>"
OK: Final = 1
ERROR: Final = 2
FLAGS: Final = 0x100
"""What the SDK writes where the context is local or absent: SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK."""

_LONGEST_MARK: Final = 48
_MARK: Final = re.compile("…\\[cut from ([0-9]{1,15}) bytes\\]\\Z".encode())


def plain_text(value: object) -> str:
    """Text that is valid UTF-8: surrogate pairs joined, lone surrogates replaced by U+FFFD."""
    try:
        text = str.__str__(value if isinstance(value, str) else str(value))
    except (Exception, SystemExit):  # whatever a foreign `__str__` does; KeyboardInterrupt is the user's
        return UNPRINTABLE
    return valid(text)


def _whole(value: int) -> int | str:
    number = int.__int__(value)
    return number if -(2**63) <= number < 2**63 else integer(number)


def _scalar(value: object) -> str | bool | int | float:
    try:
        if isinstance(value, (str, bool)):
            return plain_text(value) if isinstance(value, str) else value
        if isinstance(value, int):
            return _whole(value)
        if isinstance(value, float):
            return float.__float__(value)
    except (Exception, SystemExit):  # a `__class__` that pretends or raises
        return UNPRINTABLE
    return plain_text(value)


def plain(value: object) -> Plain:
    """The value as OTLP can carry it; anything unexpected becomes its text, and nothing raises.

    Args:
        value: a scalar, a list or tuple of scalars, or anything else.

    Returns:
        A `str`, `bool`, `int` of 64 bits or `float`, or a tuple of one of these types. The items of a mixed sequence
        become text.

    Example:
        >>> plain([1, "a", 2**64])
        ('1', 'a', '18446744073709551616')
    """
    if not issubclass(type(value), (list, tuple)):
        return _scalar(value)
    try:
        items = tuple(map(_scalar, cast("list[object] | tuple[object, ...]", value)))
    except (Exception, SystemExit):  # a subclass with an iterator of its own
        return UNPRINTABLE
    if len(set(map(type, items))) > 1:
        return tuple(map(str, items))
    return cast(Plain, items)


def plain_attributes(attributes: Mapping[str, object]) -> dict[str, Plain]:
    """The attributes with valid keys and values; those that are None are left out."""
    return {plain_text(key): plain(value) for key, value in attributes.items() if value is not None}


def nanoseconds(time: int) -> int:
    """The time within an unsigned 64-bit number."""
    return min(max(time, 0), 2**64 - 1)


def id_bytes(text: str, size: int) -> bytes:
    """The bytes of a trace id (size 16) or span id (size 8).

    Raises:
        ValueError: The text is not exactly that many bytes in hex; a receiver would refuse the whole batch for it.
    """
    raw = bytes.fromhex(text)
    if len(text) != 2 * size or len(raw) != size:  # `fromhex` skips white space
        raise ValueError(f"{text!r} is no id\nGive {2 * size} hexadecimal characters.")
    return raw


def plain_span(data: SpanData) -> SpanData:
    """The span with everything in it as OTLP can carry it.

    Raises:
        ValueError: An id is not hexadecimal or of the wrong length.
    """
    return SpanData(
        id_bytes(data.trace_id, 16).hex(),
        id_bytes(data.span_id, 8).hex(),
        id_bytes(data.parent_id, 8).hex() if data.parent_id else None,
        plain_text(data.name),
        data.kind if 0 < data.kind < 6 else 1,
        nanoseconds(data.start),
        nanoseconds(data.end),
        plain_attributes(data.attributes),
        [SpanEvent(plain_text(e.name), nanoseconds(e.time), plain_attributes(e.attributes)) for e in data.events],
        [Link(id_bytes(k.trace_id, 16).hex(), id_bytes(k.span_id, 8).hex()) for k in data.links],
        data.status_code if data.status_code in (OK, ERROR) else 0,
        # OpenTelemetry: a description is for errors only.
        plain_text(data.status_message) if data.status_code == ERROR else "",
    )


def cut(text: bytes, longest: int) -> bytes:
    """The text, shortened at a character to at most `longest` bytes of UTF-8, and marked with its original size.

    Args:
        text: valid UTF-8.
        longest: bytes that the result may have; where the mark does not fit, it is left out.

    Returns:
        The same object if it was short enough.

    Example:
        >>> cut(b"x" * 100, 32).decode()
        'xxxxxxxxx…[cut from 100 bytes]'
    """
    if len(text) <= longest:
        return text
    size = len(text)
    if (earlier := _MARK.search(text[-_LONGEST_MARK:])) and int(earlier[1]) > size:
        size, text = int(earlier[1]), text[: -len(earlier[0])]
    mark = f"…[cut from {size} bytes]".encode()
    if len(mark) > longest:
        mark = b""
    return text[: max(longest - len(mark), 0)].decode("utf-8", "ignore").encode() + mark
