"""A bounded tee of a body that the app itself reads or sends, and what a chat in it asked and answered."""

# What a body holds is told apart at run time, so it is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable
from json import detect_encoding
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

__all__ = ["Body", "answered", "asked", "delta"]

_ASKED: Final = ("messages", "message", "input", "prompt", "question", "query")
_ANSWERED: Final = (
    "choices", "candidates", "reply", "output_text", "output", "answer", "response", "completion", "message", "content",
    "text",
)  # fmt: skip
_DELTAS: Final = (
    "choices", "candidates", "delta", "textDelta", "token", "text", "content", "completion", "response", "reply",
    "message", "answer", "output",
)  # fmt: skip
_TEXTS: Final = ("text", "content", "delta", "message", "parts", "output")
_SPOKEN: Final = frozenset({"text", "token", "message", "content", "completion", "chunk", "output", "answer"})
_UNSPOKEN: Final = ("reasoning", "thinking", "call", "json", "tool", "input", "audio.delta")  # what is no answer
_DEEPEST: Final = 8
_DONE: Final = b"[DONE]"


class Body:
    """What of one body went by, up to a limit; it reads nothing by itself, and no method of it raises.

    Nothing is kept of what no chat is written in: of compressed, binary and HTML bodies, of uploads, and of a body
    whose headers were not told.

    Args:
        limit: bytes kept at most.

    Example:
        >>> body = Body(65_536)
        >>> body.set_headers({"content-type": "text/event-stream"}.get)
        >>> for chunk in (b'data: {"choices": [{"delta": {"cont', b'ent": "Paris."}}]}', b"\\n\\ndata: [DONE]\\n\\n"):
        ...     body.feed(chunk)
        >>> body.answered()
        'Paris.'
    """

    __slots__ = ("_kept", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: _Whole | _Lines | None = None

    def set_headers(self, header: Callable[[str], str | None]) -> None:
        """Tell what the body is.

        Args:
            header: returns a header of the message that carries it by its lower-case name, or None.
        """
        try:
            encoding = (header("content-encoding") or "identity").strip().lower()
            kind = (header("content-type") or "").partition(";")[0].strip().lower()
        except Exception:
            return
        kept = _KINDS.get(kind) or (_Json if kind.endswith("+json") else None)
        if encoding == "identity" and kept is not None:
            self._kept = kept(self._limit)

    def feed(self, chunk: Any) -> None:
        """Take a copy of a chunk as it goes by, as far as the limit allows.

        Args:
            chunk: `bytes`, anything like it, or `str`.
        """
        if self._kept is None:
            return
        try:
            data = chunk.encode("utf-8", "replace") if isinstance(chunk, str) else memoryview(chunk).cast("B")
        except (TypeError, ValueError):
            return
        self._kept.take(data)

    def asked(self) -> Any:
        """Return what a request asked: its chat, else the whole of it; None where nothing was kept."""
        return None if self._kept is None else asked(self._kept.value())

    def answered(self) -> Any:
        """Return what a response answered, likewise; of a stream that broke off, what had gone out."""
        return None if self._kept is None else answered(self._kept.value())


class _Whole:
    """A body that is read when all of it went by: plain text, and what is made of text."""

    __slots__ = ("_kept", "_limit", "_size")

    def __init__(self, limit: int) -> None:
        self._kept = bytearray()
        self._limit = limit
        self._size = 0

    def take(self, data: Any) -> None:
        """Keep what there is room for."""
        self._size += len(data)
        if (room := self._limit - len(self._kept)) > 0:
            self._kept += data[:room]

    def value(self) -> Any:
        """Return the body as JSON-like data or text, None where there is none."""
        text = self._kept.decode(detect_encoding(self._kept), "replace")
        # What is still not decoded hides its secrets from every pattern.
        return None if not text or "\0" in text else self._read(text)

    def _read(self, text: str) -> Any:
        return text if self._size == len(self._kept) else _cut(text, self._size)


class _Json(_Whole):
    __slots__ = ()

    def _read(self, text: str) -> Any:
        said = super()._read(text)
        try:
            return orjson.loads(said)
        except ValueError:  # as what was cut is, too
            return said


class _Form(_Whole):
    __slots__ = ()

    def _read(self, text: str) -> Any:
        """Return the chat in it, None where there is none; its other fields are nobody's business."""
        try:
            fields = parse_qs(text, max_num_fields=1_000)
        except ValueError:  # more fields than any chat has
            return None
        chat = next((fields[name][0] for name in _ASKED if name in fields), None)
        return None if chat is None else super()._read(chat)


class _Lines:
    """A streamed body of JSON lines, of which the deltas are read as they come."""

    __slots__ = ("_deltas", "_limit", "_line", "_others", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._line = bytearray()  # that is not complete yet
        self._deltas = bytearray()  # joined
        self._others = bytearray()  # the events so far, while none of them was a delta
        self._size = 0

    def take(self, data: Any) -> None:
        """Read the lines that are complete now."""
        self._size += len(data)
        if len(self._deltas) + len(self._others) > self._limit:
            return
        *lines, rest = bytes(data).split(b"\n")
        for line in lines:
            whole = bytes(self._line) + line
            self._line.clear()
            if len(whole) <= self._limit:
                self._end_line(whole.rstrip(b"\r"))
        self._line += rest[: max(0, self._limit + 1 - len(self._line))]

    def value(self) -> Any:
        """Return the deltas, or the events as they are where none of them was one; None where there is neither."""
        self._end()
        kept = self._deltas or self._others
        text = kept[: self._limit].decode("utf-8", "replace")
        if not text or "\0" in text:  # as above
            return None
        return text if len(kept) <= self._limit else _cut(text, self._size)

    def _end_line(self, line: bytes) -> None:
        self._event(line)

    def _end(self) -> None:
        """Take the line that no newline ended, if it is whole."""
        line = bytes(self._line)
        self._line.clear()
        try:
            orjson.loads(line)
        except ValueError:
            return
        self._event(line)

    def _event(self, data: bytes) -> None:
        if not data or data == _DONE:
            return
        try:
            event = orjson.loads(data)
        except ValueError:
            event = 0
        decoded = isinstance(event, (dict, list, str))
        text = delta(event) if decoded else data.decode("utf-8", "replace")
        if text is not None:
            self._others.clear()
            # A NUL that JSON tells of is no sign of another encoding.
            self._deltas += (text.replace("\0", "") if decoded else text).encode("utf-8", "replace")
        elif not self._deltas:
            self._others += data + b"\n"


class _ServerSentEvents(_Lines):
    """A streamed body whose events are of several lines, and end with an empty one."""

    __slots__ = ("_data",)

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._data = bytearray()  # of an event that is not complete yet

    def _end_line(self, line: bytes) -> None:
        if not line:
            self._event(bytes(self._data))
            self._data.clear()
            return
        field, _, value = line.partition(b":")
        if field == b"data" and len(self._data) + len(value) <= self._limit:
            self._data += (b"\n" if self._data else b"") + value.removeprefix(b" ")

    def _end(self) -> None:
        """Leave out an event that is not complete."""


_KINDS: Final[dict[str, type[_Whole] | type[_Lines]]] = {
    "application/json": _Json,
    "application/x-www-form-urlencoded": _Form,
    "text/plain": _Whole,
    "text/event-stream": _ServerSentEvents,
    "application/x-ndjson": _Lines,
    "application/jsonl": _Lines,
}


def _cut(text: str, size: int) -> str:
    return f"{text}…[cut: {size} bytes went by]"


def asked(value: Any) -> Any:
    """Return what a decoded request asked: the chat in it, else the value itself.

    Example:
        >>> asked({"question": "Why?", "temperature": 0})
        'Why?'
    """
    if isinstance(value, dict):
        for name in _ASKED:
            if value.get(name):
                found = value[name]
                return _text(found) or found if isinstance(found, dict) else found
    return value


def answered(value: Any) -> Any:
    """Return what a decoded answer says: the text of a chat model's or an app's reply, else the value itself.

    Example:
        >>> answered({"choices": [{"message": {"role": "assistant", "content": "Paris."}}]})
        'Paris.'
    """
    if isinstance(value, dict):
        for name in _ANSWERED:
            if value.get(name):
                return _chosen(name, value[name]) or value[name]
    return value


def delta(event: Any) -> str | None:
    """Return the piece of an answer that one event of a stream carries, None where it carries none.

    Example:
        >>> delta({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Par"}})
        'Par'
        >>> delta({"type": "message_stop"})
    """
    if isinstance(event, str):
        return event
    if not isinstance(event, dict):
        return None
    kind = event.get("type")
    if isinstance(kind, str) and (_is_unspoken(kind) or ("delta" not in kind and kind not in _SPOKEN)):
        return None
    for name in _DELTAS:
        if name in event and (text := _chosen(name, event[name])) is not None:
            return text
    return None


def _chosen(name: str, value: Any) -> str | None:
    """Return the text under a name; of several alternatives the first one's."""
    if name in ("choices", "candidates") and isinstance(value, list):
        value = value[0] if value else None
    return _text(value)


def _text(value: Any, depth: int = 0) -> str | None:
    """Return the text inside a message, a choice or a list of parts; reasoning and tool calls are none."""
    if isinstance(value, str):
        return value
    if depth > _DEEPEST:
        return None
    if isinstance(value, list):
        texts = [text for item in value if (text := _text(item, depth + 1)) is not None]
        return "".join(texts) if texts else None
    if isinstance(value, dict) and not _is_thought(value):
        for name in _TEXTS:
            if name in value and (text := _text(value[name], depth + 1)) is not None:
                return text
    return None


def _is_thought(part: dict[Any, Any]) -> bool:
    kind = part.get("type")
    return part.get("thought") is True or (isinstance(kind, str) and _is_unspoken(kind))


def _is_unspoken(kind: str) -> bool:
    return any(word in kind for word in _UNSPOKEN)
