"""Spans gathered into traces: when a trace is finished, and what comes late."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rootspan_ui.spans import Attributes, ReceivedSpan

__all__ = ["Trace", "Traces"]

_SPAN: Final = 600  # bytes of a span without its content, and of the trace that it may be alone in
_PART: Final = 200  # bytes of an event or link without its content
_REMEMBERED: Final = 100_000  # spans of finished traces whose names are kept for late children
_ENTRY_KINDS: Final = (2, 5)  # SERVER and CONSUMER: their parent is usually in another process


@dataclass(frozen=True)
class Trace:
    """Spans of one trace, in the order of their start.

    Attributes:
        trace_id: 32 hex characters.
        spans: what arrived since this trace was last handed out.
        known: names of the spans that were handed out earlier, by span id; not empty for an addition.
        rooted: whether the trace's root has arrived.
    """

    trace_id: str
    spans: tuple[ReceivedSpan, ...]
    known: Mapping[str, str] = field(default_factory=dict[str, str])
    rooted: bool = True


@dataclass
class _Open:
    spans: dict[str, ReceivedSpan] = field(default_factory=dict[str, ReceivedSpan])
    resource: Attributes | None = None  # the last one that was counted
    weight: int = 0
    last: float = 0.0
    rooted: bool = False


@dataclass
class _Seen:
    names: dict[str, str] = field(default_factory=dict[str, str])
    rooted: bool = False


class Traces:
    """Groups spans by trace until the trace has its root and was quiet for a moment.

    Bounded in bytes: beyond three quarters of the bound the oldest traces are handed out early, beyond it they are
    dropped and counted in `dropped`. A span that arrives twice is kept once.

    Args:
        quiet: seconds without a new span after which a trace with a root is finished.
        patience: seconds without a new span after which a trace is finished although its root has not arrived.
        max_bytes: how many bytes, estimated, the traces that wait may hold.
        clock: seconds, monotonic.

    Example:
        >>> traces = Traces()
        >>> traces.add([])
        >>> traces.flush()
        []
    """

    def __init__(
        self,
        quiet: float = 0.5,
        patience: float = 10.0,
        max_bytes: int = 128 * 2**20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dropped = 0  # spans
        self._quiet = quiet
        self._patience = patience
        self._max_bytes = max_bytes
        self._clock = clock
        self._open: OrderedDict[str, _Open] = OrderedDict()  # the one that was quiet longest comes first
        self._weight = 0
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._names = 0
        self._lock = threading.Lock()

    def add(self, spans: Iterable[ReceivedSpan]) -> None:
        """Take received spans; from any thread."""
        now = self._clock()
        with self._lock:
            for span in spans:
                self._add(span, now)

    def finished(self) -> list[Trace]:
        """The traces that are finished by now, and the oldest ones when too many wait; each is handed out once."""
        now = self._clock()
        with self._lock:
            due = [
                trace_id
                for trace_id, trace in self._open.items()
                if now - trace.last >= (self._quiet if trace.rooted else self._patience)
            ]
            traces = [self._hand_out(trace_id) for trace_id in due]
            while self._weight > self._max_bytes * 3 // 4:
                traces.append(self._hand_out(next(iter(self._open))))
            return traces

    def flush(self) -> list[Trace]:
        """Everything that waits, finished or not."""
        with self._lock:
            return [self._hand_out(trace_id) for trace_id in list(self._open)]

    def _add(self, span: ReceivedSpan, now: float) -> None:
        seen = self._seen.get(span.trace_id)
        trace = self._open.get(span.trace_id)
        if (seen and span.span_id in seen.names) or (trace and span.span_id in trace.spans):
            return
        if trace is None:
            trace = self._open[span.trace_id] = _Open(rooted=seen is not None and seen.rooted)
        self._open.move_to_end(span.trace_id)
        weight = _weight(span)
        if span.resource is not trace.resource:  # the spans of a request share it
            weight += _size(span.resource)
            trace.resource = span.resource
        trace.spans[span.span_id] = span
        trace.last = now
        trace.rooted = trace.rooted or _is_root(span)
        trace.weight += weight
        self._weight += weight
        while self._weight > self._max_bytes:
            _, oldest = self._open.popitem(last=False)
            self._weight -= oldest.weight
            self.dropped += len(oldest.spans)

    def _hand_out(self, trace_id: str) -> Trace:
        trace = self._open.pop(trace_id)
        self._weight -= trace.weight
        seen = self._seen.setdefault(trace_id, _Seen())
        known = dict(seen.names)
        seen.names.update((span.span_id, span.name[:80]) for span in trace.spans.values())
        seen.rooted = trace.rooted
        self._seen.move_to_end(trace_id)
        self._names += len(trace.spans)
        while self._names > _REMEMBERED:
            self._names -= len(self._seen.popitem(last=False)[1].names)
        spans = sorted(trace.spans.values(), key=lambda span: (span.start, -span.end))
        return Trace(trace_id, tuple(spans), known, trace.rooted)


def _is_root(span: ReceivedSpan) -> bool:
    return span.parent_id is None or span.remote_parent or span.kind in _ENTRY_KINDS


def _weight(span: ReceivedSpan) -> int:
    content: list[Any] = [span.name, span.status_message, span.scope, span.attributes]
    content += [part for event in span.events for part in (event.name, event.attributes)]
    content += [link.attributes for link in span.links]
    return _SPAN + _PART * (len(span.events) + len(span.links)) + sum(map(_size, content))


def _size(value: Any) -> int:
    if isinstance(value, str):
        return 60 + len(value)
    if isinstance(value, dict):
        return 100 + sum(100 + len(str(key)) + _size(item) for key, item in value.items())  # pyright: ignore
    if isinstance(value, list):
        return 60 + sum(map(_size, value))  # pyright: ignore
    return 32
