"""Measures what passes over one connection, in memory that does not grow with it."""

from __future__ import annotations

from time import perf_counter, time_ns
from typing import Any

from rootspan import semconv
from rootspan.record import AttributeValue

__all__ = ["Messages", "Traffic"]


class Messages:
    """The messages of one direction of a WebSocket."""

    __slots__ = ("count", "size")

    def __init__(self) -> None:
        self.count = self.size = 0

    def add(self, data: Any) -> None:
        """Count one message."""
        self.count += 1
        self.size += _size(data)


class Traffic:
    """How a response's body went out, or how many messages went to and fro.

    Args:
        start: when the request began, in nanoseconds since the epoch.
    """

    __slots__ = ("_began", "_chunks", "_first", "_last", "_size", "_stall", "_start", "received", "sent")

    def __init__(self, start: int) -> None:
        self._start = start
        self._chunks = self._size = 0
        self._began = self._first = self._last = self._stall = 0.0
        self.received = Messages()
        self.sent = Messages()

    def write(self, data: Any) -> None:
        """Count a piece of a streamed body; an empty one is none."""
        size = _size(data)
        if not size:
            return
        now = perf_counter()
        if self._chunks == 0:
            self._began = now
            self._first = max(0.0, (time_ns() - self._start) / 1e9)
        else:
            self._stall = max(self._stall, now - self._last)
        self._last = now
        self._chunks += 1
        self._size += size

    def attributes(self) -> dict[str, AttributeValue]:
        """Return what there is to tell."""
        found: dict[str, AttributeValue] = {}
        if self._chunks:
            found = {
                semconv.STREAM_CHUNKS: self._chunks,
                semconv.STREAM_BYTES: self._size,
                semconv.STREAM_TIME_TO_FIRST_BYTE: self._first,
                semconv.STREAM_TIME_TO_LAST_BYTE: self._first + self._last - self._began,
                semconv.STREAM_LONGEST_STALL: self._stall,
            }
        if self.received.count or self.sent.count:
            found[semconv.WEBSOCKET_RECEIVED] = self.received.count
            found[semconv.WEBSOCKET_BYTES_RECEIVED] = self.received.size
            found[semconv.WEBSOCKET_SENT] = self.sent.count
            found[semconv.WEBSOCKET_BYTES_SENT] = self.sent.size
        return found


def _size(data: Any) -> int:
    """Return how many bytes a piece has; what is no text and has no bytes is none."""
    if isinstance(data, str):
        data = data.encode("utf-8", "replace")
    try:
        return memoryview(data).nbytes
    except (TypeError, ValueError):
        return 0
