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

    __slots__ = ("_buffer", "_data", "_kind", "_limit", "_raw", "_said", "_size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kind: str | None = None  # "json", "form", "text"; "events" and "lines" are read as they come
        self._buffer = bytearray()  # the body, or the line that is not complete yet
        self._data = bytearray()  # of an event that is not complete yet
        self._said = bytearray()  # the deltas so far
        self._raw = bytearray()  # the events so far, while none of them was a delta
        self._size = 0

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
        if encoding == "identity":
            self._kind = _KINDS.get(kind) or ("json" if kind.endswith("+json") else None)

    def feed(self, chunk: Any) -> None:
        """Take a copy of a chunk as it goes by, as far as the limit allows.

        Args:
            chunk: `bytes`, anything like it, or `str`.
        """
        if self._kind is None:
            return
        try:
            data = chunk.encode("utf-8", "replace") if isinstance(chunk, str) else memoryview(chunk).cast("B")
        except (TypeError, ValueError):
            return
        self._size += len(data)
        if self._kind in ("events", "lines"):
            self._take_lines(data)
        elif (room := self._limit - len(self._buffer)) > 0:
            self._buffer += data[:room]

    def asked(self) -> Any:
        """Return what a request asked: its chat, else the whole of it; None where nothing was kept."""
        return asked(self._value())

    def answered(self) -> Any:
        """Return what a response answered, likewise; of a stream that broke off, what had gone out."""
        return answered(self._value())

    def _take_lines(self, data: Any) -> None:
        if len(self._said) + len(self._raw) > self._limit:
            return
        *lines, rest = bytes(data).split(b"\n")
        for line in lines:
            whole = bytes(self._buffer) + line
            self._buffer.clear()
            if len(whole) <= self._limit:
                self._line(whole.rstrip(b"\r"))
        self._buffer += rest[: max(0, self._limit + 1 - len(self._buffer))]

    def _last_line(self) -> None:
        """Take the line that no newline ended, if it is whole."""
        line = bytes(self._buffer)
        self._buffer.clear()
        try:
            orjson.loads(line)
        except ValueError:
            return
        self._event(line)

    def _line(self, line: bytes) -> None:
        if self._kind == "lines":
            self._event(line)
        elif not line:
            self._event(bytes(self._data))
            self._data.clear()
        else:
            field, _, value = line.partition(b":")
            if field == b"data" and len(self._data) + len(value) <= self._limit:
                self._data += (b"\n" if self._data else b"") + value.removeprefix(b" ")

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
            self._raw.clear()
            # A NUL that JSON tells of is no sign of another encoding.
            self._said += (text.replace("\0", "") if decoded else text).encode("utf-8", "replace")
        elif not self._said:
            self._raw += data + b"\n"

    def _value(self) -> Any:
        """Return the body as JSON-like data or text, None where there is none."""
        kept, encoding = self._buffer, "utf-8"
        if self._kind == "lines":
            self._last_line()
        if self._kind in ("events", "lines"):
            kept = self._said or self._raw
        else:
            encoding = detect_encoding(kept)
        text = kept[: self._limit].decode(encoding, "replace")
        if not text or "\0" in text:  # what is still not decoded hides its secrets from every pattern
            return None
        if self._kind == "form" and not (text := _chat_in(text)):
            return None
        if len(kept) > self._limit or (kept is self._buffer and self._size > len(kept)):
            return f"{text}…[cut: {self._size} bytes went by]"
        if self._kind == "json":
            try:
                return orjson.loads(text)
            except ValueError:
                return text
        return text


_KINDS: Final = {
    "application/json": "json",
    "application/x-www-form-urlencoded": "form",
    "text/plain": "text",
    "text/event-stream": "events",
    "application/x-ndjson": "lines",
    "application/jsonl": "lines",
}


def _chat_in(form: str) -> str:
    """Return the chat in a form, nothing where there is none; its other fields are nobody's business."""
    try:
        fields = parse_qs(form, max_num_fields=1_000)
    except ValueError:  # more fields than any chat has
        return ""
    return next((fields[name][0] for name in _ASKED if name in fields), "")


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
