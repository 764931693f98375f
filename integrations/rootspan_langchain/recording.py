"""What the handler's events have in common: how a run is opened, described, decided and ended."""

# LangChain's events carry whatever the host passed, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time_ns
from typing import Any, Final

from rootspan import Tracker, semconv
from rootspan.adapter import Run, RunTree
from rootspan.arguments import outcome_of
from rootspan.freeze import freeze
from rootspan.record import NOBODY, Identity, Kind, SpanEvent
from rootspan.scope import OpenSpan, holding
from rootspan_langchain import graphs, invocation, models
from rootspan_langchain.notes import Notes, add, attach, keep_partial, keep_time, text_of
from rootspan_langchain.values import frozen_value, last_said

__all__ = ["Recording"]

_TOOLS: Final = 65_536  # characters of the tools' definitions
_MOST_EVENTS: Final = 100
_KINDS: Final = {"model": Kind.MODEL, "tool": Kind.TOOL, "retriever": Kind.RETRIEVAL}
_NOTHING: Final[Mapping[str, Any]] = {}


class Recording:
    """Records the runs of one handler.

    Args:
        tracker: who records; the default tracker if None.
        own: whose the runs are, where their metadata does not say it.
        tags: labels of every root.
        properties: custom dimensions of every root.
        content: whether what was said is recorded.
        shows: decides whether a run gets a span; None for every run that LangGraph does not hide.
        priced: whether a call of a model is given its price by the price list.
    """

    def __init__(
        self,
        tracker: Tracker | None,
        own: invocation.Whose,
        tags: Sequence[str] | None,
        properties: Mapping[str, Any] | None,
        content: bool,
        shows: Callable[[invocation.RunInfo], object] | None,
        priced: bool,
    ) -> None:
        self.tree = RunTree(tracker, invocation.current_run_id)
        self.enabled = True
        self.content = content
        self._own, self._tags, self._properties, self._shows, self._priced = own, tags, properties, shows, priced

    def begin(
        self, kind: str, serialized: Any, run_id: Any, parent_run_id: Any, tags: Any, metadata: Any, name: Any
    ) -> Run | None:
        """Open a run, unless it is known."""
        tree = self.tree
        if not self.enabled or tree.is_known(run_id):
            return None
        metadata = metadata or _NOTHING
        labels = invocation.labels(tuple(map(str, tags))) if tags else invocation.UNLABELLED
        name = name or (serialized or {}).get("name") or ((serialized or {}).get("id") or [kind])[-1]
        parent, ns = tree.parent(parent_run_id), metadata.get("langgraph_checkpoint_ns")
        above: Notes | None = None if parent is None else parent.data
        is_node = above is not None and ns is not None and above.ns != ns
        if is_node and parent is not None and above is not None and not above.is_graph:
            above.is_graph = True
            self._call_agent(parent, metadata)
        shown = not labels.hidden
        if self._shows is not None:
            shown = self._shown(invocation.RunInfo(name, kind, tags or [], metadata, parent is None, is_node))
        notes = Notes(ns, is_node)
        called = _KINDS.get(kind)
        task = None if called is None else invocation.awaiting_task()
        of = called or (Kind.INTERACTION if parent is None else Kind.STEP)
        run = tree.start(run_id, parent, of, name, self._identity(parent, labels.own, metadata), shown, task, notes)
        if parent is None:
            notes.thread = metadata.get("thread_id")
            self._place_root(run, metadata)
        if run.span is not None and (is_node or labels.attempt is not None):
            add(run.span, invocation.place(metadata if is_node else _NOTHING, labels.attempt))
        return run

    def _call_agent(self, graph: Run, metadata: Any) -> None:
        """Call a run an agent once its first node shows that it is a graph; an older LangChain does not name it."""
        span = graph.span
        if span is not None and not span.finished:
            span.set(operation=semconv.Operation.INVOKE_AGENT)
            if "lc_agent_name" not in metadata and span.name != "LangGraph":
                span.holder = holding(span.holder.identity._replace(agent_name=span.name))
                if span.parent is not None:
                    span.parent.took(agent_name=span.name)

    def _shown(self, info: invocation.RunInfo) -> bool:
        try:
            return bool(self._shows and self._shows(info))
        except Exception as error:
            self.tree.recorder.warn("include", "the include= function raised %r; the run is recorded", error)
            return True

    def _identity(self, parent: Run | None, labels: tuple[str, ...], metadata: Any) -> Identity:
        """Return what this run says of whose it is, beside what it inherits."""
        told = invocation.whose(metadata)
        above = None if parent is None or parent.owner is not self.tree else parent.nearest()
        if above is None:
            return self._foremost(told, labels, metadata if parent is None else None)
        if told is invocation.NOBODY and not labels:
            return NOBODY
        known = above.holder.identity
        news = invocation.news(told, known)
        labels = tuple(tag for tag in labels if tag not in known.tags) if labels else ()
        return NOBODY if news is invocation.NOBODY and not labels else self.tree.recorder.identity(*news, labels)

    def _foremost(self, told: invocation.Whose, labels: tuple[str, ...], metadata: Any) -> Identity:
        """Return whose the first run of this handler in a tree is; with metadata it is the root."""
        own, recorder = self._own, self.tree.recorder
        thread = properties = None
        if metadata is not None:
            thread = metadata.get("thread_id")
            properties = {**(self._properties or {}), **invocation.properties(metadata)}
        user, convo = told.user_id or own.user_id, told.convo_id or own.convo_id or thread
        tags = recorder.tags(self._tags) + labels
        return recorder.identity(user, convo, told.agent_name, tags or None, properties or None)

    def _place_root(self, run: Run, metadata: Any) -> None:
        """Keep which invocation of what it is."""
        if run.span is not None:
            if run.span.kind == Kind.INTERACTION:
                run.span.fields = {"operation": invocation.operation(metadata)}
            attach(run.span, ROOTSPAN_RUN_ID=str(run.run_id), LANGGRAPH_THREAD_ID=text_of(run.data.thread))

    def take(self, run: Run, inputs: Any) -> None:
        """Keep what went into a chain."""
        if self.content and run.span is not None:
            said = last_said(inputs, "user") if run.parent is None else None
            run.span.input = frozen_value(inputs if said is None else said)
            if run.parent is None:  # a request around it shows what the agent was asked, not what its model was
                run.span.took_call(run.span.input, None)

    def give(self, run: Run, outputs: Any) -> None:
        """Keep what came out of a chain."""
        if self.content and run.span is not None:
            said = last_said(outputs, "assistant") if run.parent is None else None
            run.span.output = frozen_value(graphs.unwrapped(outputs) if said is None else said)
            if run.parent is None:
                run.span.took_call(None, run.span.output)

    def call(self, run: Run, span: OpenSpan, operation: str, serialized: Any, metadata: Any, given: Any) -> None:
        """Keep which model was asked, and how."""
        run.on_close = keep_partial
        span.model = run.recorder.label(models.model_of(metadata, given, serialized))
        span.provider = run.recorder.label(models.provider_of(metadata, serialized))
        add(span, models.parameters(metadata, given), operation=operation)
        if tools := models.tools_of(given):
            run.data.offered = models.names_of(tools)
            if self.content:
                attach(span, GEN_AI_TOOL_DEFINITIONS=text_of(freeze(list(tools), _TOOLS)))

    def token(self, run_id: Any, text: Any, source: str, usage: Any = None) -> None:
        """Keep a piece of an answer; it is no event of its own."""
        run = self.tree.find(run_id)
        if run is not None and not run.repeated():
            run.streams = True
            run.data.piece(text, source, run.recorder.limit if self.content else 0)
            if usage:
                run.data.usages.append(models.usage_of(usage))

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
            attach(run.span, ROOTSPAN_INTERRUPT_WAITED=found[1])

    def pause(self, run: Run) -> None:
        """Note that a graph waits, where LangGraph sends no event that names its checkpoint."""
        if run.data.thread is not None:
            self.tree.pause(run.data.thread, run)

    def interrupted(self, run: Run, interrupts: Any) -> None:
        """Keep what is waited for."""
        if self.content:
            attach(run.span, ROOTSPAN_INTERRUPT_PAYLOAD=text_of(frozen_value(graphs.payload(interrupts))))

    def answer(self, run: Run, span: OpenSpan, response: Any) -> models.Answer:
        """Keep what a model answered, whole or in part."""
        answer = models.answer(response, run.run_id, run.recorder.limit if self.content else None)
        span.tokens = answer.usage[:3]
        if self._priced and answer.usage.cost is None:
            span.tokens = (*span.tokens[:2], models.cost_of(answer, span.model, span.provider))
        if "response_model" in answer.fields:
            answer.fields["response_model"] = run.recorder.label(answer.fields["response_model"])
        add(span, answer.attributes, **answer.fields)
        keep_time(run)
        span.output = answer.output
        return answer

    def decide(self, run: Run, name: str, chosen: list[str], reasoning: str = "", others: Sequence[str] = ()) -> None:
        """Record what was chosen, below the agent that chose."""
        parent = run.nearest() if run.parent is None or name == "goto" else run.parent.nearest() or run.span
        if chosen and parent is not None:
            told = {"reasoning": reasoning, "alternatives": frozen_value(list(others)) if others else None}
            fields = {key: value for key, value in told.items() if value} if self.content else None
            output = frozen_value(chosen) if self.content else None
            run.recorder.step(Kind.DECISION, name, parent, None, output=output, fields=fields)

    def fail(self, run_id: Any, error: BaseException, response: Any = None) -> None:
        """End a run that raised: a failure, a cancellation, an abandoned stream or LangGraph's way of moving on."""
        run = self.tree.find(run_id)
        if run is None:
            return
        span = run.span
        if span is not None and span.kind == Kind.MODEL:
            told = ""
            if getattr(response, "generations", None) and any(response.generations):
                told = self.answer(run, span, response).text
            if len(told) < sum(map(len, run.data.pieces)):  # an older LangChain leaves out the last piece
                span.output = None
            keep_partial(run)
        if graphs.is_control_flow(error):
            self._move_on(run, error)
            return
        outcome, failure = outcome_of(error)
        if failure is not None and span is not None:
            response = getattr(error, "response", None)
            status = getattr(error, "status_code", None) or getattr(response, "status_code", None)
            attach(span, HTTP_RESPONSE_STATUS_CODE=status if type(status) is int else None)
            failure = failure if self.content else (failure[0], None)
        self.tree.end(run, outcome, failure)

    def _move_on(self, run: Run, error: BaseException) -> None:
        if not graphs.is_interrupt(error):
            if run.data.is_node:
                self.decide(run, "goto", graphs.goto(error))
            self.tree.end(run)
            return
        self.interrupted(run, error.args[0] if error.args else ())
        if run.parent is not None and not graphs.HAS_EVENTS:
            run.parent.data.interrupted = True
            self.interrupted(run.parent, error.args[0] if error.args else ())
        self.tree.end(run, "interrupted")
