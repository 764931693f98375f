"""Keeps values within their length: texts are cut inside, and JSON stays JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from rootspan.description import size_note
from rootspan.dialect.json_like import dumps, is_array, is_object

__all__ = ["cut_to", "fit", "fit_messages"]

_NARROW: Final = 40  # a text is not cut to less: the mark would be longer than what is left


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
