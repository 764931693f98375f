"""What a number of traces adds up to."""

from __future__ import annotations

from typing import Final

from rootspan_ui import fields
from rootspan_ui.text import counted, dollars
from rootspan_ui.traces import Trace

__all__ = ["Summary"]

_LISTED: Final = 100_000  # sessions, users and traces told apart


class Summary:
    """Running totals; bounded however long it runs.

    Attributes:
        sessions, users, traces, spans: how many were seen.
        input_tokens, output_tokens: their sums; a parent's repetition of what its children report is left out.
        cost: US dollars, as the senders gave it.
        errors: failed spans; a failure that travelled up through its parents is one.

    Example:
        >>> print(Summary())
        0 traces · 0 spans · 0 sessions · 0 errors
    """

    def __init__(self) -> None:
        self.spans = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost = 0.0
        self.errors = 0
        self._sessions: set[int] = set()
        self._users: set[int] = set()
        self._traces: set[int] = set()

    @property
    def sessions(self) -> int:
        return len(self._sessions)

    @property
    def users(self) -> int:
        return len(self._users)

    @property
    def traces(self) -> int:
        return len(self._traces)

    def add(self, trace: Trace) -> None:
        """Count a trace, or an addition to one."""
        _remember(self._traces, trace.trace_id)
        self.spans += len(trace.spans)
        for span in trace.spans:
            _remember(self._sessions, fields.session(span))
            _remember(self._users, fields.user(span))
        used = {span.span_id: used for span in trace.spans if (used := fields.tokens(span)) is not None}
        paid = {span.span_id: cost for span in trace.spans if (cost := fields.cost(span)) is not None}
        for span_id in _deepest(trace, set(used)):
            self.input_tokens += used[span_id][0]
            self.output_tokens += used[span_id][1]
        self.cost += sum(paid[span_id] for span_id in _deepest(trace, set(paid)))
        self.errors += len(_deepest(trace, {span.span_id for span in trace.spans if span.status_code == 2}))

    def line(self, unicode: bool = True) -> str:
        """One line for a person; users, tokens and cost are named when there are any."""
        parts = [counted(self.traces, "trace"), counted(self.spans, "span"), counted(self.sessions, "session")]
        if self.users:
            parts.append(counted(self.users, "user"))
        if self.input_tokens or self.output_tokens:
            arrow = "→" if unicode else "->"
            parts.append(f"{self.input_tokens:,} {arrow} {self.output_tokens:,} tokens")
        if self.cost:
            parts.append(dollars(self.cost))
        parts.append(counted(self.errors, "error"))
        return (" · " if unicode else ", ").join(parts)

    def __str__(self) -> str:
        return self.line()


def _remember(seen: set[int], name: str | None) -> None:
    if name is not None and len(seen) < _LISTED:
        seen.add(hash(name))


def _deepest(trace: Trace, carry: set[str]) -> set[str]:
    """Of the spans named, those without another one below them: what parents repeat is counted once.

    Args:
        trace: the trace that they are in.
        carry: ids of spans that carry something, such as tokens or an error.

    Returns:
        A subset of the ids.
    """
    parents = {span.span_id: span.parent_id for span in trace.spans}
    covered: set[str] = set()
    for span_id in carry:
        above = parents.get(span_id)
        while above is not None and above in parents and above not in covered:
            covered.add(above)
            above = parents[above]
    return carry - covered
