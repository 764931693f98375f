"""What the handler's events have in common: how a run is opened, described, decided and ended."""

# LangChain's events carry whatever the host passed, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import time_ns
from typing import Any, Final, cast

from rootspan import Tracker, semconv
from rootspan.adapter import Run, RunTree
from rootspan.arguments import outcome_of
from rootspan.record import NOBODY, Identity, Kind, SpanEvent
from rootspan.scope import OpenSpan, holding
from rootspan_langchain import graphs, invocation, models
from rootspan_langchain.notes import Notes, add, attach, keep_partial, keep_time, text_of
from rootspan_langchain.values import frozen_value, last_said

__all__ = ["Recording"]

_MOST_EVENTS: Final = 100
_KINDS: Final = {"model": Kind.MODEL, "tool": Kind.TOOL, "retriever": Kind.RETRIEVAL}
_AGENTS: Final = ("langgraph", "langchain_create_agent")


class Recording:
    """Records the runs of one handler.

    Args:
        tracker: who records; the default tracker if None.
        own: whose the runs are, where their metadata does not say it.
        tags: labels of every root.
        properties: custom dimensions of every root.
        content: whether what was said is recorded.
        shows: decides whether a run gets a span.
        priced: whether a call of a model is given its price by the price list.
    """

    def __init__(
        self,
        tracker: Tracker | None,
        own: invocation.Whose,
        tags: Sequence[str] | None,
        properties: Mapping[str, Any] | None,
        content: bool,
        shows: Callable[[invocation.RunInfo], object],
        priced: bool = False,
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
        tags, metadata = tags or [], metadata or {}
        name = name or (serialized or {}).get("name") or ((serialized or {}).get("id") or [kind])[-1]
        parent, ns = tree.parent(parent_run_id), metadata.get("langgraph_checkpoint_ns")
        above = None if parent is None else cast("Notes", parent.data)
        is_node = above is not None and ns is not None and above.ns != ns
        if parent is not None and above is not None and is_node and not above.is_graph:
            above.is_graph = True
            self._call_agent(parent, metadata)
        shown = self._shown(name, kind, tags, metadata, parent is None, is_node)
        fallback = Kind.INTERACTION if parent is None else Kind.STEP
        task = None if kind not in _KINDS else invocation.awaiting_task()
        identity = self._identity(parent, tags, metadata)
        thread = metadata.get("thread_id") if parent is None else None
        notes = Notes(ns, thread, is_node, tree.recorder.limit if self.content else 0)
        run = tree.start(run_id, parent, _KINDS.get(kind, fallback), name, identity, shown, task, notes)
        if run.span is not None:
            self._place(run.span, run_id, parent, tags, metadata, is_node)
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

    def _shown(self, name: str, kind: str, tags: Any, metadata: Any, is_root: bool, is_node: bool) -> bool:
        info = invocation.RunInfo(name, kind, tags, metadata, is_root, is_node)
        try:
            return bool(self._shows(info))
        except Exception as error:
            self.tree.recorder.warn("include", "the include= function raised %r; the run is recorded", error)
            return True

    def _identity(self, parent: Run | None, tags: Any, metadata: Any) -> Identity:
        """Return what this run says of whose it is, beside what it inherits."""
        told, own, recorder = invocation.whose(metadata), self._own, self.tree.recorder
        above = None if parent is None else parent.nearest()
        if parent is None or above is None or parent.owner is not self.tree:
            thread = metadata.get("thread_id") if parent is None else None
            properties = {**(self._properties or {}), **invocation.properties(metadata)} if parent is None else None
            labels = recorder.tags(self._tags) + invocation.tags_of(tags)
            convo = told.convo_id or own.convo_id or thread
            user, agent = told.user_id or own.user_id, told.agent_name
            return recorder.identity(user, convo, agent, labels or None, properties or None)
        known = above.holder.identity
        before = (known.user_id, known.convo_id, known.agent_name)
        labels = invocation.tags_of(tags)
        if not labels and (told is invocation.NOBODY or told == before):
            return NOBODY
        user, convo, agent = (
            None if value is None or str(value) == old else value for value, old in zip(told, before, strict=True)
        )
        labels = tuple(tag for tag in labels if tag not in known.tags)
        if not labels and user is convo is agent is None:
            return NOBODY
        return recorder.identity(user, convo, agent, labels)

    def _place(self, span: OpenSpan, run_id: Any, parent: Run | None, tags: Any, metadata: Any, is_node: bool) -> None:
        if parent is None:
            attach(span, ROOTSPAN_RUN_ID=str(run_id), LANGGRAPH_THREAD_ID=text_of(metadata.get("thread_id")))
            if span.kind == Kind.INTERACTION:
                is_agent = "lc_agent_name" in metadata or metadata.get("ls_integration") in _AGENTS
                span.set(operation=semconv.Operation.INVOKE_AGENT if is_agent else semconv.Operation.INVOKE_WORKFLOW)
        elif is_node:
            add(span, invocation.node(metadata))
        attach(span, ROOTSPAN_RUN_ATTEMPT=invocation.attempt(tags))

    def take(self, run: Run, inputs: Any) -> None:
        """Keep what went into a chain."""
        if self.content and run.span is not None:
            said = last_said(inputs, "user") if run.parent is None else None
            run.span.input = frozen_value(inputs if said is None else said)
            if run.parent is None:  # a request around it shows what the agent was asked, not what its model was
                run.span.took_call(run.span.input, None, False)

    def give(self, run: Run, outputs: Any) -> None:
        """Keep what came out of a chain."""
        if self.content and run.span is not None:
            said = last_said(outputs, "assistant") if run.parent is None else None
            run.span.output = frozen_value(graphs.unwrapped(outputs) if said is None else said)
            if run.parent is None:
                run.span.took_call(None, run.span.output, False)

    def describe_call(self, span: OpenSpan, run: Run, serialized: Any, metadata: Any, given: Any) -> None:
        """Keep which model was asked, and how."""
        run.on_close = keep_partial
        span.model = run.recorder.label(models.model_of(metadata, given, serialized))
        span.provider = run.recorder.label(models.provider_of(metadata, serialized))
        definitions, run.data.offered = models.offered(given)
        add(span, models.parameters(metadata, given))
        if self.content:
            attach(span, GEN_AI_TOOL_DEFINITIONS=text_of(definitions))

    def token(self, run_id: Any, text: Any, source: str, usage: Any = None) -> None:
        """Keep a piece of an answer; it is no event of its own."""
        run = self.tree.find(run_id)
        if run is not None and not run.repeated():
            run.streams = True
            run.data.piece(text, source)
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

    def answer(self, run: Run, response: Any) -> models.Answer:
        """Keep what a model answered, whole or in part."""
        span = cast("OpenSpan", run.span)
        answer = models.answer(response, str(run.run_id), run.recorder.limit)
        span.tokens = answer.usage[:3]
        if self._priced and answer.usage.cost is None:
            span.tokens = (*span.tokens[:2], models.cost_of(answer, span.model, span.provider))
        span.set(**answer.fields)
        add(span, answer.attributes)
        keep_time(run)
        if self.content:
            span.output = frozen_value(answer.output, run.recorder.limit)
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
                told = self.answer(run, response).text
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
