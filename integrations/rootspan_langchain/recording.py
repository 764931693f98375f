"""What the handler's events have in common: how a run is described, decided and ended."""

# LangChain's events carry whatever the host passed, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from time import time_ns
from typing import Any, Final, TypeAlias

from rootspan import semconv
from rootspan.adapter import Run
from rootspan.arguments import Error, outcome_of
from rootspan.freeze import freeze
from rootspan.open_span import OpenSpan
from rootspan.record import Kind, SpanEvent
from rootspan.scope import inside
from rootspan_langchain import graphs, models
from rootspan_langchain.notes import UNTOLD, add, attach, keep_partial, keep_time, said_below, text_of
from rootspan_langchain.opening import Opening
from rootspan_langchain.usage import usage_of
from rootspan_langchain.values import frozen_value, is_placeholder, last_said

__all__ = ["Ending", "Recording", "ending", "guarded"]

_TOOLS: Final = 65_536  # characters of the tools' definitions
_MOST_EVENTS: Final = 100

Ending: TypeAlias = "tuple[str | None, Error | None]"
"""The outcome of a run, and the failure if it is one."""


def guarded(method: Callable[..., None]) -> Callable[..., None]:
    """Return an event's method that never raises."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            self._recording.tree.recorder.own_error()

    return call


def ending(method: Callable[..., Ending]) -> Callable[..., None]:
    """Return an event's method that ends its run as it says, whatever it could not record, and never raises."""

    @functools.wraps(method)
    def call(self: Any, *told: Any, run_id: Any = None, **event: Any) -> None:
        recording: Recording = self._recording
        run: Run | None = None
        try:
            run = recording.tree.find(run_id)
            if run is not None:
                recording.tree.end(run, *method(self, run, *told, **event))
        except Exception:
            recording.tree.recorder.own_error()
            with suppress(Exception):
                if run is not None:
                    recording.tree.end(run, *recording.ending_with(told[0] if told else event.get("error")))

    return call


class Recording(Opening):
    """Records the runs of one handler."""

    def begin_with(self, run: Run, inputs: Any) -> None:
        """Keep what went into a chain; of a stream that is told at its end, and is not known where that never comes."""
        if run.span is not None and is_placeholder(inputs):
            run.data.late = inputs
            run.data.asks = run.parent is None and run.span.root.first_input is None
        else:
            self.take(run, inputs)

    def end_with(self, run: Run, inputs: Any) -> None:
        """Keep what went into a chain whose end told it, or did not: then what looked like a placeholder was none."""
        inputs = run.data.late if inputs is UNTOLD else inputs
        if inputs is not UNTOLD:
            self.take(run, inputs)

    def take(self, run: Run, inputs: Any) -> None:
        """Keep what went into a chain."""
        if not self.content or run.span is None:
            return
        said = last_said(inputs, "user") if run.parent is None else None
        run.span.input = frozen_value(inputs if said is None else said)
        if run.parent is None:  # a request around it shows what the agent was asked, not what its model was
            if run.data.asks:
                run.span.root.first_input = None
            if run.span.parent is not None:
                run.span.parent.took(call_input=run.span.input)

    def give(self, run: Run, outputs: Any) -> None:
        """Keep what came out of a chain."""
        if self.content and run.span is not None:
            if outputs is None and run.parent is None:
                outputs = said_below(run)  # LangChain tells nothing of a sync stream that was left at its first chunk
            said = last_said(outputs, "assistant") if run.parent is None else None
            run.span.output = frozen_value(graphs.unwrapped(outputs) if said is None else said)

    def call(self, run: Run, span: OpenSpan, operation: str, serialized: Any, metadata: Any, given: Any) -> None:
        """Keep which model was asked, and how."""
        run.on_close = keep_partial
        span.model = run.recorder.label(models.model_of(metadata, given, serialized))
        span.provider = run.recorder.label(models.provider_of(metadata, serialized))
        add(span, models.parameters(metadata, given), operation=operation)
        if tools := models.tools_of(given):
            run.data.offered = models.names_of(tools)
            if self.content:
                attach(span, {semconv.GEN_AI_TOOL_DEFINITIONS: text_of(freeze(list(tools), _TOOLS))})

    def token(self, run_id: Any, text: Any, source: str, usage: Any = None) -> None:
        """Keep a piece of an answer; it is no event of its own."""
        run = self.tree.find(run_id)
        if run is not None and not run.repeated():
            run.streams = True
            run.data.piece(text, source, run.recorder.limit if self.content else 0)
            if usage:
                run.data.usages.append(usage_of(usage))

    def event(self, run_id: Any, name: str, attributes: dict[str, Any]) -> None:
        """Keep an event on the run's span, or on the nearest one above."""
        run = self.tree.find(run_id)
        span = None if run is None or run.repeated() else run.nearest()
        if span is not None and not span.finished:
            events = (span.fields or {}).get("events") or ()
            kept = {key: value for key, value in attributes.items() if self.content or key not in semconv.CONTENT}
            if len(events) < _MOST_EVENTS:
                span.set(events=(*events, SpanEvent(name, time_ns(), kept)))

    def resume(self, run: Run, key: Any) -> None:
        """Link a run to the one that was paused under that key."""
        found = self.tree.resume(key)
        if found is not None and run.span is not None:
            run.span.set(links=(found[0],))
            add(run.span, {semconv.ROOTSPAN_INTERRUPT_WAITED: found[1]})

    def interrupted(self, run: Run, interrupts: Any) -> None:
        """Keep what is waited for."""
        if self.content:
            asked = text_of(frozen_value(graphs.payload(interrupts)))
            attach(run.span, {semconv.ROOTSPAN_INTERRUPT_PAYLOAD: asked})

    def answer(self, run: Run, span: OpenSpan, response: Any) -> models.Answer:
        """Keep what a model answered, whole or in part."""
        limit = run.recorder.limit if self.content else None
        answer = models.answer(response, run.run_id, limit, partial(self._delegated, span))
        span.tokens = answer.usage[:3]
        if self._priced and answer.usage.cost is None:
            span.tokens = (*span.tokens[:2], models.cost_of(answer, span.model, span.provider))
        if "response_model" in answer.fields:
            answer.fields["response_model"] = run.recorder.label(answer.fields["response_model"])
        add(span, answer.attributes, **answer.fields)
        keep_time(run)
        span.output = answer.output
        return answer

    def _delegated(self, span: OpenSpan, run_id: Any) -> bool:
        """Return whether a model's answer is another run's that is recorded in its time: where it delegates to it."""
        other = self.tree.parent(run_id)
        return other is not None and other.span is not None and other.span.start >= span.start

    def decide(self, run: Run, name: str, chosen: list[str], reasoning: str = "", others: Sequence[str] = ()) -> None:
        """Record what was chosen, below the agent that chose."""
        parent = run.nearest() if run.parent is None or name == "goto" else run.parent.nearest() or run.span
        if chosen and parent is not None:
            told = {"reasoning": reasoning, "alternatives": frozen_value(list(others)) if others else None}
            fields = {key: value for key, value in told.items() if value} if self.content else None
            output = frozen_value(chosen) if self.content else None
            run.recorder.step(Kind.DECISION, name, inside(parent), output=output, fields=fields)

    def go(self, run: Run, chosen: list[str]) -> None:
        """Record where a run goes next, unless one below it chose that: a tool's `Command` is its node's as well."""
        if chosen:
            self.decide(run, "goto", [place for place in chosen if place not in run.data.went])
            if run.parent is not None:
                run.parent.data.went |= set(chosen)

    def fail(self, run: Run, error: BaseException, response: Any, inputs: Any) -> Ending:
        """Keep what is known of a run that raised, and return how it ends."""
        span = run.span
        self.end_with(run, inputs)
        if span is not None and span.kind == Kind.MODEL:
            told = ""
            if getattr(response, "generations", None) and any(response.generations):
                told = self.answer(run, span, response).text
            if len(told) < sum(map(len, run.data.pieces)):  # an older LangChain leaves out the last piece
                span.output = None
            keep_partial(run)
        if graphs.is_control_flow(error):
            self._move_on(run, error)
        outcome, failure = self.ending_with(error)
        if failure is not None and span is not None:
            response = getattr(error, "response", None)
            status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
            attach(span, {semconv.HTTP_RESPONSE_STATUS_CODE: status if type(status) is int else None})
        return outcome, failure

    def ending_with(self, told: Any) -> Ending:
        """Return how a run ends with an exception, or with whatever else was told."""
        if not isinstance(told, BaseException):
            return None, None
        if graphs.is_control_flow(told):
            return "interrupted" if graphs.is_interrupt(told) else None, None
        outcome, failure = outcome_of(told)
        return outcome, failure if failure is None or self.content else (failure[0], None)

    def _move_on(self, run: Run, error: BaseException) -> None:
        """Keep where LangGraph goes on, or what it waits for."""
        if not graphs.is_interrupt(error):
            self.go(run, graphs.goto(error))
            return
        self.interrupted(run, error.args[0] if error.args else ())
        if run.parent is not None and not graphs.HAS_EVENTS:
            run.parent.data.interrupted = True
            self.interrupted(run.parent, error.args[0] if error.args else ())
