"""A run of LangChain: what its events tell goes to its span, and the rest is remembered until it ends."""

# LangChain's events carry whatever the host passed, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# The runs of one tree are of one class, and so are those above them:
# pyright: reportIncompatibleVariableOverride=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rootspan import semconv
from rootspan.adapter import Run
from rootspan.arguments import Error, outcome_of
from rootspan.record import Kind, SpanEvent
from rootspan.scope import inside
from rootspan_langchain import graphs
from rootspan_langchain.invocation import UNNAMED, Whose
from rootspan_langchain.values import frozen_value, is_placeholder, last_said

if TYPE_CHECKING:
    from rootspan_langchain.tree import ChainTree

__all__ = ["UNTOLD", "ChainRun", "Ending", "text_of"]

_MOST_EVENTS: Final = 100

UNTOLD: Final[Any] = object()
"""An input that an event does not tell."""

Ending: TypeAlias = "tuple[str | None, Error | None]"
"""The outcome of a run, and the failure if it is one."""


def text_of(frozen: Any) -> str | None:
    """Return a frozen value as the text of an attribute."""
    return frozen.decode() if isinstance(frozen, bytes) else None if frozen is None else str(frozen)


class ChainRun(Run):
    """A chain, a graph, a node, a prompt, a parser, a tool or a retrieval."""

    owner: ChainTree
    parent: ChainRun | None

    # Defaults of the class, so that starting a run sets only what it has.
    ns: Any = None  # where in its graph it stands
    chooses = False  # whether a `Command` that comes out of it is its choice
    told: Whose = UNNAMED  # whose it is, by its metadata
    thread: Any = None
    is_graph = False
    waits = False  # for somebody
    late = UNTOLD  # the placeholder of an input that is told at the end, or what was really given
    asks = False  # it came first in its root, which shows what is asked once that is known
    went: frozenset[str] = frozenset()  # where runs below it have chosen to go
    pieces: list[str] | None = None  # of a model's answer

    def set_attributes(self, attributes: Mapping[str, Any], **fields: Any) -> None:
        """Add attributes, None omitted, and rare fields of the record to its span, if it has one."""
        span = self.span
        if span is None:
            return
        if None in attributes.values():
            attributes = {name: value for name, value in attributes.items() if value is not None}
        before = span.fields
        if attributes:
            known = before and before.get("attributes")
            fields["attributes"] = {**known, **attributes} if known else attributes
        if fields:
            span.fields = {**before, **fields} if before else fields

    # What goes in and comes out

    def set_input(self, value: Any) -> None:
        """Keep what a tool or a retriever was given."""
        if self.span is not None and self.owner.content:
            self.span.input = frozen_value(value)

    def set_output(self, value: Any) -> None:
        """Keep what a tool or a retriever gave."""
        if self.span is not None and self.owner.content:
            self.span.output = frozen_value(value)

    def begin_with(self, inputs: Any) -> None:
        """Keep what went into a chain; of a stream that is told at its end, and is not known where that never comes."""
        if self.span is not None and is_placeholder(inputs):
            self.late = inputs
            self.asks = self.parent is None and self.span.root.first_input is None
        else:
            self._take(inputs)

    def end_with(self, inputs: Any) -> None:
        """Keep what went into a chain whose end told it, or did not: then what looked like a placeholder was none."""
        inputs = self.late if inputs is UNTOLD else inputs
        if inputs is not UNTOLD and inputs is not None:
            self._take(inputs)

    def _take(self, inputs: Any) -> None:
        span = self.span
        if span is None or not self.owner.content:
            return
        said = last_said(inputs, "user") if self.parent is None else None
        span.input = frozen_value(inputs if said is None else said)
        if self.parent is None:  # a request around it shows what the agent was asked, not what its model was
            if self.asks:
                span.root.first_input = None
            if span.parent is not None:
                span.parent.took(call_input=span.input)

    def give(self, outputs: Any) -> None:
        """Keep what came out of a chain."""
        if self.span is None or not self.owner.content:
            return
        said = None
        if self.parent is None:
            if outputs is None:  # LangChain tells nothing of a sync stream that was left at its first chunk
                outputs = self._said_below()
            said = last_said(outputs, "assistant")
        self.span.output = frozen_value(graphs.unwrapped(outputs) if said is None else said)

    def _said_below(self) -> str | None:
        """Return what a model that is still asked below has said so far; None where there is none."""
        runs: list[Any] = list(self.invocation.open)
        return next(("".join(run.pieces) for run in reversed(runs) if run.pieces), None)

    def event(self, name: str, attributes: dict[str, Any]) -> None:
        """Keep an event on its span, or on the nearest one above."""
        span = None if self.repeated() else self.nearest
        if span is not None and not span.finished:
            events = (span.fields or {}).get("events") or ()
            kept = {key: value for key, value in attributes.items() if self.owner.content or key not in semconv.CONTENT}
            if len(events) < _MOST_EVENTS:
                span.set(events=(*events, SpanEvent(name, time_ns(), kept)))

    # Where it goes

    def decide(self, name: str, chosen: list[str], reasoning: str = "", others: Sequence[str] = ()) -> None:
        """Record what was chosen, below the agent that chose."""
        parent = self.nearest if self.parent is None or name == "goto" else self.parent.nearest or self.span
        if chosen and parent is not None:
            fields = output = None
            if self.owner.content:
                output = frozen_value(chosen)
                told = {"reasoning": reasoning, "alternatives": frozen_value(list(others)) if others else None}
                fields = {key: value for key, value in told.items() if value}
            self.recorder.step(Kind.DECISION, name, inside(parent), output=output, fields=fields)

    def go(self, chosen: list[str]) -> None:
        """Record where it goes next, unless one below it chose that: a tool's `Command` is its node's as well."""
        if chosen:
            self.decide("goto", [place for place in chosen if place not in self.went])
            if self.parent is not None:
                self.parent.went |= set(chosen)

    def wait_for(self, interrupts: Any) -> None:
        """Keep what is waited for."""
        if self.owner.content:
            self.set_attributes({semconv.ROOTSPAN_INTERRUPT_PAYLOAD: text_of(frozen_value(graphs.payload(interrupts)))})

    def resume(self, key: Any) -> None:
        """Link it to the run that was paused under that key."""
        found = self.owner.resume(key)
        if found is not None:
            self.set_attributes({semconv.ROOTSPAN_INTERRUPT_WAITED: found[1]}, links=(found[0],))

    # How it ends

    def fail(self, error: BaseException) -> Ending:
        """Keep what an exception tells, and return how the run ends with it."""
        outcome, failure = self.ending_with(error)
        if outcome is None:
            self.go(graphs.goto(error))
        elif outcome == "interrupted":
            asked = error.args[0] if error.args else ()
            self.wait_for(asked)
            if self.parent is not None and not graphs.HAS_EVENTS:
                self.parent.waits = True
                self.parent.wait_for(asked)
        elif failure is not None:
            response = getattr(error, "response", None)
            status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
            self.set_attributes({semconv.HTTP_RESPONSE_STATUS_CODE: status if type(status) is int else None})
        return outcome, failure

    def ending_with(self, told: Any) -> Ending:
        """Return how the run ends with an exception, or with whatever else was told."""
        if not issubclass(type(told), BaseException):
            return None, None
        if graphs.is_control_flow(told):
            return "interrupted" if graphs.is_interrupt(told) else None, None
        outcome, failure = outcome_of(told)
        return outcome, failure if failure is None or self.owner.content else (failure[0], None)
