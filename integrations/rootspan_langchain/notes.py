"""What the handler remembers of a run until it ends, and how it puts attributes on its span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time_ns
from typing import Any, Final, cast

from rootspan import semconv
from rootspan.adapter import Run
from rootspan.open_span import OpenSpan
from rootspan_langchain.invocation import Whose
from rootspan_langchain.usage import Usage
from rootspan_langchain.values import frozen_value

__all__ = ["UNTOLD", "Notes", "add", "attach", "keep_partial", "keep_time", "said_below", "text_of"]

UNTOLD: Final[Any] = object()
"""An input that an event does not tell."""


def attach(span: OpenSpan | None, attributes: Mapping[str, Any]) -> None:
    """Add attributes, None omitted, to the span of a run that has one."""
    if span is not None:
        add(span, {name: value for name, value in attributes.items() if value is not None})


def add(span: OpenSpan, attributes: dict[str, Any], **fields: Any) -> None:
    """Add attributes, and rare fields of the record."""
    before = span.fields
    if before:
        if attributes and (known := before.get("attributes")):
            attributes = {**known, **attributes}
        fields = {**before, **fields}
    if attributes:
        fields["attributes"] = attributes
    span.fields = fields or None


def text_of(frozen: Any) -> str | None:
    """Return a frozen value as the text of an attribute."""
    return frozen.decode() if isinstance(frozen, bytes) else None if frozen is None else str(frozen)


class Notes:
    """What the handler remembers of a run until it ends."""

    # Defaults of the class, so that starting a run sets only what it has.
    thread: Any = None
    is_graph = False
    interrupted = False
    late = UNTOLD  # the placeholder of an input that is told at the end, or what was really given
    asks = False  # it came first in its root, which shows what is asked once that is known
    offered: Sequence[str] = ()
    went: frozenset[str] = frozenset()  # where runs below it have chosen to go
    first: int | None = None
    source: str | None = None  # of the pieces: some models tell each twice, in two kinds of event
    said = 0  # characters in all pieces

    def __init__(self, ns: Any, chooses: bool, told: Whose) -> None:
        self.ns = ns  # where in its graph it stands
        self.chooses = chooses  # whether a `Command` that comes out of it is its choice
        self.told = told  # whose it is, by its metadata
        self.pieces: list[str] = []
        self.usages: list[Usage] = []

    def piece(self, text: Any, source: str, room: int) -> None:
        """Keep a piece of an answer up to `room` characters of all, and when the first one came."""
        if self.first is None:
            self.first, self.source = time_ns(), source
        if type(text) is str and self.source == source and self.said < room:
            self.pieces.append(text)
            self.said += len(text)


def keep_time(run: Run) -> None:
    """Keep when the first token came."""
    if run.data.first is not None and run.span is not None:
        seconds = (run.data.first - run.span.start) / 1e9
        told = {semconv.GEN_AI_REQUEST_STREAM: True, semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: seconds}
        add(run.span, told)


def keep_partial(run: Run) -> None:
    """Keep what came of an answer until it broke off; such tokens are paid for as well."""
    span, notes = cast("OpenSpan", run.span), run.data  # of a model that is shown
    keep_time(run)
    if notes.pieces and span.output is None:
        span.output = frozen_value("".join(notes.pieces), run.recorder.limit)
    if notes.usages and span.tokens == (None, None, None):
        counts = [sum(usage[part] or 0 for usage in notes.usages) for part in (0, 1)]
        span.tokens = (counts[0], counts[1], None)


def said_below(run: Run) -> str | None:
    """Return what a model that is still asked below a run has said so far; None where there is none."""
    spoken = (other.data.pieces for other in reversed(list(run.invocation.open)) if other.data.pieces)
    return next(("".join(pieces) for pieces in spoken), None)
