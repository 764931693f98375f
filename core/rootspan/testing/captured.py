"""Collects in memory what a tracker records, as plain data."""

# Host values are told apart at run time, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from rootspan import default_tracker
from rootspan.settings.keywords import Options, Unpack
from rootspan.tracker import Tracker

__all__ = ["Captured", "CapturedSpan", "captured_spans"]

_PATIENCE: Final = 30.0  # seconds; a starved machine is no failure


@dataclass(frozen=True, slots=True)
class CapturedSpan:
    """One finished span as plain data; ids in hexadecimal, times in nanoseconds since the epoch."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    kind: str  # "SERVER", "INTERNAL", "CLIENT"
    start: int
    end: int
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    links: list[tuple[str, str]]  # trace id and span id
    failed: bool
    status_message: str
    resource: dict[str, Any]


class Captured:
    """A tracker and what it has recorded; made by `captured_spans`."""

    def __init__(self, tracker: Tracker, collected: list[CapturedSpan]) -> None:
        self.tracker = tracker
        self._collected = collected

    def __len__(self) -> int:
        return len(self.spans)

    def __iter__(self) -> Iterator[CapturedSpan]:
        return iter(self.spans)

    def __repr__(self) -> str:
        return f"<Captured {[span.name for span in self.spans]}>"

    @property
    def spans(self) -> list[CapturedSpan]:
        """Every span finished so far, in the order in which they finished."""
        if not self.tracker.flush(_PATIENCE):
            raise AssertionError(f"what was recorded did not arrive in {_PATIENCE} s: {self.tracker.stats()}")
        return list(self._collected)

    @property
    def roots(self) -> list[CapturedSpan]:
        """Those without a parent."""
        return [span for span in self.spans if span.parent_id is None]

    def one(self, name: str | None = None) -> CapturedSpan:
        """Return the one span of that name; without a name the one root."""
        found = self.roots if name is None else [span for span in self.spans if span.name == name]
        if len(found) != 1:
            wanted = "roots" if name is None else f"spans called {name!r}"
            raise AssertionError(f"{len(found)} {wanted} among {[span.name for span in self.spans]}")
        return found[0]

    def children(self, parent: CapturedSpan) -> list[CapturedSpan]:
        """Return the spans right below another one."""
        return [span for span in self.spans if span.parent_id == parent.span_id]

    def clear(self) -> None:
        """Forget what was collected so far."""
        del self._collected[: len(self.spans)]


@contextmanager
def captured_spans(default: bool = False, **settings: Unpack[Options]) -> Generator[Captured]:
    """Collect in memory what a tracker of its own records; no other tracker sees it, and nothing goes out.

    Args:
        default: let the functions of `rootspan` and every handle of the default tracker record here meanwhile. An app
            that is made inside may configure the default tracker: that is checked, and holds afterwards.
        **settings: the options of `rootspan.configure` that hold here, such as `redact_pii=True`.

    Example:
        >>> with captured_spans() as captured:
        ...     span_id = captured.tracker.track_ai("greeting", user_id="u1", input="Hi", output="Hello!")
        ...     captured.one("greeting").attributes["user.id"]
        'u1'
    """
    collected: list[CapturedSpan] = []
    # Whatever the environment says that is meant for what goes out.
    fixed: Options = {"exporters": [_Collector(collected)], "disabled": False, "sample_rate": 1.0, "spool": False}
    together: dict[str, Any] = {**fixed, **settings}  # by mypy's rules for Python 3.10 they are no `Options`
    tracker = Tracker(**together)
    try:
        with default_tracker.lent(tracker.configured()) if default else nullcontext():
            yield Captured(tracker, collected)
    finally:
        tracker.shutdown(_PATIENCE)


class _Collector(SpanExporter):
    """Keeps finished spans as plain data."""

    def __init__(self, collected: list[CapturedSpan]) -> None:
        self._collected = collected

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._collected += [_plain(span) for span in spans]
        return SpanExportResult.SUCCESS


def _plain(span: ReadableSpan) -> CapturedSpan:
    context: Any = span.get_span_context()
    return CapturedSpan(
        name=span.name,
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_id=None if span.parent is None else f"{span.parent.span_id:016x}",
        kind=span.kind.name,
        start=span.start_time or 0,
        end=span.end_time or 0,
        attributes={name: _listed(value) for name, value in (span.attributes or {}).items()},
        events=[(event.name, dict(event.attributes or {})) for event in span.events],
        links=[(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}") for link in span.links],
        failed=not span.status.is_unset and not span.status.is_ok,
        status_message=span.status.description or "",
        resource=dict(span.resource.attributes),
    )


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
