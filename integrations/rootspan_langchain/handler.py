"""The callback handler: turns the events of one invocation into a root span with a whole, truthful tree below it."""

# LangChain's events carry whatever the host passed, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# What a user passes is checked at run time, whatever its annotation says:
# pyright: reportUnnecessaryIsInstance=false
# Signatures here are wider than LangChain's own, which grow from release to release:
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.messages import ToolMessage

from rootspan import Tracker, calculate_cost, semconv
from rootspan.adapter import Run, trace_id_for
from rootspan.errors import fail
from rootspan_langchain import graphs, invocation, options
from rootspan_langchain.notes import UNTOLD, attach, text_of
from rootspan_langchain.recording import Ending, Recording, ending, guarded
from rootspan_langchain.values import frozen_messages, frozen_value

__all__ = ["RootspanCallbackHandler"]


class RootspanCallbackHandler(graphs.GraphHandler):
    """Records each invocation of a runnable, an agent or a graph as one isolated root with its tree; never raises.

    One handler serves any number of invocations, threads and tasks. Pass it on `invoke`, `batch` or `stream`.

    Args:
        tracker: who records; the default tracker if None.
        user_id: who; `str`, `int` or `UUID`. An invocation's metadata (`user_id`) wins over it.
        convo_id: which conversation, likewise (`session_id`, `conversation_id`); it wins over a `thread_id`.
        tags: labels, added to those of the invocation.
        properties: custom dimensions of the root, added to the invocation's own metadata.
        capture_content: False leaves out what was said: inputs, outputs, messages, tools' definitions, error texts.
        estimate_cost: prices calls of models with `rootspan.calculate_cost`, which needs the extra `cost`.
        detail: `full`, or `agent` to leave out the runs that only pass on; their children take their place.
        include: a function of `RunInfo` that decides in place of `detail` whether a run gets a span.

    Raises:
        ConfigurationError: an option is of the wrong type.
        MissingExtraError: `estimate_cost` without the extra `cost`.

    Example:
        >>> from langchain_core.runnables import RunnableLambda
        >>> handler = RootspanCallbackHandler(user_id="u1", convo_id="c1")
        >>> RunnableLambda(str.upper).invoke("hi", config={"callbacks": [handler]})
        'HI'
    """

    raise_error = False
    run_inline = True  # in the task or thread of the run; LangChain drops other handlers when one is inline

    def __init__(
        self,
        *,
        tracker: Tracker | None = None,
        user_id: object = None,
        convo_id: object = None,
        tags: Sequence[str] | None = None,
        properties: Mapping[str, Any] | None = None,
        capture_content: bool = True,
        estimate_cost: bool = False,
        detail: str = "full",
        include: Callable[[invocation.RunInfo], object] | None = None,
    ) -> None:
        super().__init__()
        if tracker is not None and not isinstance(tracker, Tracker):
            fail("tracker= has to be a rootspan.Tracker.", "tracker=rootspan.Tracker(...)")
        if detail not in ("full", "agent"):
            fail("detail= has to be 'full' or 'agent'.", "detail='full'")
        if include is not None and not callable(include):
            fail("include= has to be a function of RunInfo.", "include=lambda run: True")
        options.check(
            user_id=user_id, convo_id=convo_id, tags=tags, properties=properties,
            capture_content=capture_content, estimate_cost=estimate_cost,
        )  # fmt: skip
        shows = include or (invocation.shown_in_agent if detail == "agent" else None)
        own = invocation.Whose(user_id, convo_id)
        if estimate_cost:
            calculate_cost("gpt-4o", {"prompt_tokens": 1})  # loads the price list now, not during the first call
        self._recording = Recording(tracker, own, tags, properties, capture_content, shows, estimate_cost)

    def disable(self) -> None:
        """Record no further invocation; what is open is recorded to its end."""
        self._recording.enabled = False

    def __deepcopy__(self, memo: object) -> RootspanCallbackHandler:
        return self  # a copied configuration means the same handler

    def __copy__(self) -> RootspanCallbackHandler:
        return self

    def stats(self) -> dict[str, int]:
        """Return how many runs are open, and how many were closed without an end event, by reason."""
        return self._recording.tree.stats()

    @staticmethod
    def trace_id_for(run_id: Any) -> str:
        """Return the trace id of a root run, 32 hexadecimal characters: feedback needs no look-up."""
        return trace_id_for(run_id)

    # Starts

    @guarded
    def on_chain_start(self, serialized: Any, inputs: Any, *, run_type: Any = None, **event: Any) -> None:
        """Open a chain, a graph, a node, a prompt or a parser."""
        run = self._recording.begin(run_type or "chain", serialized, **event)
        if run is None or run.span is None:
            return
        answer = inputs.resume if graphs.is_command(inputs) else None
        self._recording.begin_with(run, inputs if answer is None else answer)
        if answer is not None:
            attach(run.span, {semconv.ROOTSPAN_INTERRUPT_ANSWER: text_of(run.span.input)})
            if not graphs.HAS_EVENTS and run.parent is None:
                self._recording.resume(run, run.data.thread)

    @guarded
    def on_chat_model_start(self, serialized: Any, messages: Any, **event: Any) -> None:
        """Open a call of a chat model."""
        self._call(serialized, frozen_messages, messages[0] if messages else [], "chat", **event)

    @guarded
    def on_llm_start(self, serialized: Any, prompts: Any, **event: Any) -> None:
        """Open a call of a model that completes text."""
        self._call(serialized, frozen_value, prompts[0] if prompts else None, "text_completion", **event)

    def _call(
        self, serialized: Any, frozen: Callable[[Any, int], Any], asked: Any, operation: str, *, metadata: Any = None,
        invocation_params: Any = None, **event: Any,
    ) -> None:  # fmt: skip
        run = self._recording.begin("model", serialized, metadata=metadata, **event)
        if run is None or run.span is None:
            return
        self._recording.call(run, run.span, operation, serialized, metadata or {}, invocation_params)
        if self._recording.content:
            run.span.input = frozen(asked, run.recorder.limit)

    @guarded
    def on_tool_start(
        self, serialized: Any, input_str: Any, *, inputs: Any = None, tool_call_id: Any = None, **event: Any
    ) -> None:
        """Open a tool call."""
        run = self._recording.begin("tool", serialized, **event)
        if run is not None and run.span is not None:
            label = run.recorder.label
            run.span.set(tool_description=label((serialized or {}).get("description")), call_id=label(tool_call_id))
            if self._recording.content:
                run.span.input = frozen_value(input_str if inputs is None else inputs)

    @guarded
    def on_retriever_start(self, serialized: Any, query: Any, **event: Any) -> None:
        """Open a retrieval."""
        run = self._recording.begin("retriever", serialized, **event)
        if run is not None and run.span is not None and self._recording.content:
            run.span.input = frozen_value(query)

    # In between

    @guarded
    def on_llm_new_token(self, token: Any, *, run_id: Any, chunk: Any = None, **kwargs: Any) -> None:
        """Note when the first token came, and what was said so far; tokens are no events."""
        text = token if type(token) is str else getattr(chunk, "text", "")
        usage = getattr(getattr(chunk, "message", None), "usage_metadata", None)
        self._recording.token(run_id, text, "token", usage)

    @guarded
    def on_stream_event(self, event: Any, *, run_id: Any, **kwargs: Any) -> None:
        """The same for the events of `stream_events(version="v3")`."""
        if event.get("event") == "content-block-delta":
            self._recording.token(run_id, event.get("delta", {}).get("text", ""), "event")

    @guarded
    def on_custom_event(self, name: Any, data: Any, *, run_id: Any, **kwargs: Any) -> None:
        """Keep an event of the host's own on the run's span."""
        self._recording.event(run_id, str(name), {semconv.ROOTSPAN_EVENT_DATA: text_of(frozen_value(data))})

    @guarded
    def on_retry(self, retry_state: Any, *, run_id: Any, **kwargs: Any) -> None:
        """Note that a model's own client tries again."""
        self._recording.event(run_id, "retry", {semconv.ROOTSPAN_RUN_ATTEMPT: retry_state.attempt_number})

    @guarded
    def on_interrupt(self, event: Any) -> None:
        """Note what a graph waits for; LangGraph sends this to the handlers of graphs alone."""
        run = self._recording.tree.find(event.run_id)
        if run is not None:
            self._recording.interrupted(run, event.interrupts)
            attach(run.span, {semconv.LANGGRAPH_CHECKPOINT_ID: event.checkpoint_id})
            run.data.interrupted = True
            self._recording.tree.pause(event.checkpoint_id, run)

    @guarded
    def on_resume(self, event: Any) -> None:
        """Link a graph that goes on to the run that was paused."""
        run = self._recording.tree.find(event.run_id)
        if run is not None:
            attach(run.span, {semconv.LANGGRAPH_CHECKPOINT_ID: event.checkpoint_id})
            self._recording.resume(run, event.checkpoint_id)

    # Ends

    @ending
    def on_chain_end(self, run: Run, outputs: Any, inputs: Any = UNTOLD, **event: Any) -> Ending:
        """End a chain."""
        if run.data.chooses:
            self._recording.go(run, graphs.goto(outputs))
        self._recording.end_with(run, inputs)
        self._recording.give(run, outputs)
        if run.data.interrupted and run.data.thread is not None and not graphs.HAS_EVENTS:
            self._recording.tree.pause(run.data.thread, run)
        return "interrupted" if run.data.interrupted else None, None

    @ending
    def on_llm_end(self, run: Run, response: Any, **event: Any) -> Ending:
        """End a call of a model."""
        if run.span is not None:
            answer = self._recording.answer(run, run.span, response)
            if answer.calls:
                names = [str(call.get("name")) for call in answer.calls]
                others = [name for name in run.data.offered if name not in names]
                self._recording.decide(run, "tool_choice", names, answer.text, others)
        return None, None

    @ending
    def on_tool_end(self, run: Run, output: Any, **event: Any) -> Ending:
        """End a tool call; a `ToolMessage` with the status `error` is a failure, though nothing was raised."""
        message = output if isinstance(output, ToolMessage) else None
        content = output if message is None else message.content
        if run.span is not None:
            run.span.set(call_id=None if message is None else run.recorder.label(message.tool_call_id))
            if self._recording.content:
                run.span.output = frozen_value(content)
        self._recording.go(run, graphs.goto(output))
        if message is None or message.status != "error":
            return None, None
        return "failure", ("ToolMessage", text_of(frozen_value(content, 10_000)) if self._recording.content else None)

    @ending
    def on_retriever_end(self, run: Run, documents: Any, **event: Any) -> Ending:
        """End a retrieval."""
        if run.span is not None and self._recording.content:
            # An iterator is the host's to read.
            found = list(documents) if isinstance(documents, (list, tuple)) else documents
            run.span.output = frozen_value(found)
        return None, None

    @ending
    def on_chain_error(
        self, run: Run, error: BaseException, response: Any = None, inputs: Any = UNTOLD, **event: Any
    ) -> Ending:
        """End a run that raised, was cancelled, interrupted or handed over; a model's with what came of its answer."""
        return self._recording.fail(run, error, response, inputs)

    on_llm_error = on_tool_error = on_retriever_error = on_chain_error
