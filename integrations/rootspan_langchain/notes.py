"""What the handler remembers of a run until it ends, and how it puts attributes on its span."""

from __future__ import annotations

from collections.abc import Mapping
from time import time_ns
from typing import Any

from rootspan import semconv
from rootspan.adapter import Run
from rootspan.scope import OpenSpan
from rootspan_langchain.models import Usage
from rootspan_langchain.values import frozen_value

__all__ = ["Notes", "add", "attach", "keep_partial", "keep_time", "text_of"]


def attach(span: OpenSpan | None, **attributes: Any) -> None:
    """Add attributes by the name of their constant in `semconv`."""
    if span is not None:
        named = {getattr(semconv, name): value for name, value in attributes.items() if value is not None}
        add(span, named)


def add(span: OpenSpan, attributes: Mapping[str, Any]) -> None:
    """Add attributes by their full names."""
    if attributes:
        before = (span.fields or {}).get("attributes")
        span.set(attributes={**before, **attributes} if before else dict(attributes))


def text_of(frozen: Any) -> str | None:
    """Return a frozen value as the text of an attribute."""
    return frozen.decode() if isinstance(frozen, bytes) else None if frozen is None else str(frozen)


class Notes:
    """What the handler remembers of a run until it ends."""

    __slots__ = (
        "first", "interrupted", "is_graph", "is_node", "ns", "offered", "pieces", "room", "source", "thread", "usages",
    )  # fmt: skip

    def __init__(self, ns: Any, thread: Any, is_node: bool, room: int) -> None:
        self.ns = ns
        self.thread = thread
        self.is_node = is_node
        self.is_graph = False
        self.interrupted = False
        self.offered: list[str] = []
        self.first: int | None = None
        self.source: str | None = None  # of the pieces: some models tell each twice, in two kinds of event
        self.pieces: list[str] = []
        self.room = room
        self.usages: list[Usage] = []

    def piece(self, text: Any, source: str) -> None:
        self.first = self.first or time_ns()
        self.source = self.source or source
        if type(text) is str and self.source == source and self.room > 0:
            self.pieces.append(text)
            self.room -= len(text)


def keep_time(run: Run) -> None:
    """Keep when the first token came."""
    if run.data.first is not None and run.span is not None:
        seconds = (run.data.first - run.span.start) / 1e9
        attach(run.span, GEN_AI_REQUEST_STREAM=True, GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK=seconds)


def keep_partial(run: Run) -> None:
    """Keep what came of an answer until it broke off; such tokens are paid for as well."""
    span, notes = run.span, run.data
    if span is None:
        return
    keep_time(run)
    if notes.pieces and span.output is None:
        span.output = frozen_value("".join(notes.pieces), run.recorder.limit)
    if notes.usages and span.tokens == (None, None, None):
        counts = [sum(usage[part] or 0 for usage in notes.usages) for part in (0, 1)]
        span.tokens = (counts[0], counts[1], None)
