"""Words for a terminal: what came over the wire made harmless and short, numbers made human."""

from __future__ import annotations

import unicodedata
from itertools import accumulate
from typing import Final

__all__ = ["cells", "clean", "counted", "cut", "dollars", "duration"]

_LOOK: Final = 2_000  # characters looked at; more never fit on a line
_MARKS: Final = 3  # combining marks kept on one character
_PICTURES: Final = 0x2400  # the control pictures: what was an escape is shown as one
_INVISIBLE: Final = frozenset({"Cf", "Co", "Cn"})  # bidi overrides, zero-width characters, private use


def clean(text: str, unicode: bool = True) -> str:
    """One line without anything that a terminal would obey.

    Args:
        text: any text; only its first 2,000 characters are looked at.
        unicode: False turns everything outside ASCII into `?`.

    Returns:
        The text with white space collapsed, control characters as visible pictures, and invisible ones left out.
    """
    kept: list[str] = []
    marks = 0
    for character in " ".join(text[:_LOOK].split()):
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if category in _INVISIBLE or marks > _MARKS:
            continue
        kept.append(character if category not in ("Cc", "Cs") else _picture(character))
    line = "".join(kept)
    return line if unicode else line.encode("ascii", "replace").decode()


def _picture(character: str) -> str:
    code = ord(character)
    return chr(_PICTURES + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"


def cells(text: str) -> int:
    """How many columns of a terminal a cleaned text takes."""
    return len(text) if text.isascii() else sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int, unicode: bool = True) -> str:
    """A cleaned text in at most `width` columns, ending in an ellipsis when something was cut off."""
    if cells(text) <= width:
        return text
    dots = "…" if unicode else "..."
    left = width - len(dots)
    if left <= 0:
        return dots[: max(width, 0)]
    ends = accumulate(_columns(character) for character in text)
    return text[: sum(end <= left for end in ends)].rstrip() + dots


def duration(nanoseconds: int, unicode: bool = True) -> str:
    """`850 ns`, `12 µs`, `312 ms`, `1.24 s`, `2 m 05 s`, `3 h 20 m`."""
    if nanoseconds < 1_000:
        return f"{nanoseconds} ns"
    micro = nanoseconds / 1e3
    if round(micro) < 1_000:
        return f"{micro:.0f} {'µs' if unicode else 'us'}"
    milli = nanoseconds / 1e6
    if round(milli) < 1_000:
        return f"{milli:.1f} ms" if milli < 9.95 else f"{milli:.0f} ms"
    seconds = nanoseconds / 1e9
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} m"


def counted(count: int, noun: str) -> str:
    """`1 span`, `12,400 spans`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def dollars(value: float) -> str:
    """`$0.0012`, `$0.0000035`, `$1.25`, `$0`."""
    if abs(value) < 1e-12:
        return "$0"
    if abs(value) >= 1:
        return f"${value:,.2f}"
    if abs(value) >= 0.0001:
        return f"${value:.4f}"
    return f"${float(f'{value:.2g}'):.13f}".rstrip("0")
