"""The callback handler: turns the events of one invocation into a root span with a whole, truthful tree below it."""

# LangChain's events carry whatever the host passed, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# What a user passes is checked at run time, whatever its annotation says:
# pyright: reportUnnecessaryIsInstance=false
# Signatures here are wider than LangChain's own, which grow from release to release:
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal
from uuid import UUID

from langchain_core.messages import ToolMessage

from rootspan import Tracker, calculate_cost, semconv
from rootspan.adapter import trace_id_for
from rootspan.errors import fail
from rootspan_langchain import graphs, invocation, options
from rootspan_langchain.model_run import ModelRun
from rootspan_langchain.run import UNTOLD, ChainRun, Ending, text_of
from rootspan_langchain.tree import ChainTree
from rootspan_langchain.values import frozen_messages, frozen_value

__all__ = ["RootspanCallbackHandler"]


def guarded(method: Callable[..., None]) -> Callable[..., None]:
    """Return an event's method that never raises."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            self._tree.recorder.own_error()

    return call


def ending(method: Callable[..., Ending]) -> Callable[..., None]:
    """Return an event's method that ends its run as it says, whatever it could not record, and never raises."""

    @functools.wraps(method)
    def call(self: Any, *told: Any, run_id: Any = None, **event: Any) -> None:
        tree: ChainTree = self._tree
        run: Any = None
        try:
            run = tree.find(run_id)
            if run is not None:
                tree.end(run, *method(self, run, *told, **event))
        except Exception:
            tree.recorder.own_error()
            with suppress(Exception):
                if run is not None:
                    tree.end(run, *run.ending_with(told[0] if told else event.get("error")))

    return call


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
        user_id: str | int | UUID | None = None,
        convo_id: str | int | UUID | None = None,
        tags: Sequence[str] | None = None,
        properties: Mapping[str, Any] | None = None,
        capture_content: bool = True,
        estimate_cost: bool = False,
        detail: Literal["full", "agent"] = "full",
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
        self._tree = ChainTree(tracker, own, tags, properties, capture_content, shows, estimate_cost)

    def disable(self) -> None:
        """Record no further invocation; what is open is recorded to its end."""
        self._tree.enabled = False

    def __deepcopy__(self, memo: object) -> RootspanCallbackHandler:
        return self  # a copied configuration means the same handler

    def __copy__(self) -> RootspanCallbackHandler:
        return self

    def stats(self) -> dict[str, int]:
        """Return how many runs are open, and how many were closed without an end event, by reason."""
        return self._tree.stats()

    @staticmethod
    def trace_id_for(run_id: Any) -> str:
        """Return the trace id of a root run, 32 hexadecimal characters: feedback needs no look-up."""
        return trace_id_for(run_id)

    # Starts

    @guarded
    def on_chain_start(self, serialized: Any, inputs: Any, *, run_type: Any = None, **event: Any) -> None:
        """Open a chain, a graph, a node, a prompt or a parser."""
        run = self._tree.begin(run_type or "chain", serialized, **event)
        if run is None or run.span is None:
            return
        answer = inputs.resume if graphs.is_command(inputs) else None
        run.begin_with(inputs if answer is None else answer)
        if answer is not None:
            run.set_attributes({semconv.ROOTSPAN_INTERRUPT_ANSWER: text_of(run.span.input)})
            if not graphs.HAS_EVENTS and run.parent is None:
                run.resume(run.thread)

    @guarded
    def on_chat_model_start(self, serialized: Any, messages: Any, **event: Any) -> None:
        """Open a call of a chat model."""
        run = self._tree.begin("model", serialized, **event)
        if isinstance(run, ModelRun):
            run.ask("chat", serialized, event, messages[0] if messages else [], frozen_messages)

    @guarded
    def on_llm_start(self, serialized: Any, prompts: Any, **event: Any) -> None:
        """Open a call of a model that completes text."""
        run = self._tree.begin("model", serialized, **event)
        if isinstance(run, ModelRun):
            run.ask("text_completion", serialized, event, prompts[0] if prompts else None, frozen_value)

    @guarded
    def on_tool_start(
        self, serialized: Any, input_str: Any, *, inputs: Any = None, tool_call_id: Any = None, **event: Any
    ) -> None:
        """Open a tool call."""
        run = self._tree.begin("tool", serialized, **event)
        if run is not None and run.span is not None:
            label = run.recorder.label
            run.span.set(tool_description=label((serialized or {}).get("description")), call_id=label(tool_call_id))
            run.set_input(input_str if inputs is None else inputs)

    @guarded
    def on_retriever_start(self, serialized: Any, query: Any, **event: Any) -> None:
        """Open a retrieval."""
        run = self._tree.begin("retriever", serialized, **event)
        if run is not None:
            run.set_input(query)

    # In between

    @guarded
    def on_llm_new_token(self, token: Any, *, run_id: Any, chunk: Any = None, **kwargs: Any) -> None:
        """Note when the first token came, and what was said so far; tokens are no events."""
        run = self._tree.find(run_id)
        if isinstance(run, ModelRun):
            text = token if type(token) is str else getattr(chunk, "text", "")
            run.hear(text, "token", getattr(getattr(chunk, "message", None), "usage_metadata", None))

    @guarded
    def on_stream_event(self, event: Any, *, run_id: Any, **kwargs: Any) -> None:
        """The same for the events of `stream_events(version="v3")`."""
        run = self._tree.find(run_id)
        if isinstance(run, ModelRun) and event.get("event") == "content-block-delta":
            run.hear(event.get("delta", {}).get("text", ""), "event")

    @guarded
    def on_custom_event(self, name: Any, data: Any, *, run_id: Any, **kwargs: Any) -> None:
        """Keep an event of the host's own on the run's span."""
        self._event(run_id, str(name), {semconv.ROOTSPAN_EVENT_DATA: text_of(frozen_value(data))})

    @guarded
    def on_retry(self, retry_state: Any, *, run_id: Any, **kwargs: Any) -> None:
        """Note that a model's own client tries again."""
        self._event(run_id, "retry", {semconv.ROOTSPAN_RUN_ATTEMPT: retry_state.attempt_number})

    def _event(self, run_id: Any, name: str, attributes: dict[str, Any]) -> None:
        run = self._tree.find(run_id)
        if isinstance(run, ChainRun):
            run.event(name, attributes)

    @guarded
    def on_interrupt(self, event: Any) -> None:
        """Note what a graph waits for; LangGraph sends this to the handlers of graphs alone."""
        run = self._tree.find(event.run_id)
        if isinstance(run, ChainRun):
            run.waits = True
            run.wait_for(event.interrupts)
            run.set_attributes({semconv.LANGGRAPH_CHECKPOINT_ID: event.checkpoint_id})
            self._tree.pause(event.checkpoint_id, run)

    @guarded
    def on_resume(self, event: Any) -> None:
        """Link a graph that goes on to the run that was paused."""
        run = self._tree.find(event.run_id)
        if isinstance(run, ChainRun):
            run.set_attributes({semconv.LANGGRAPH_CHECKPOINT_ID: event.checkpoint_id})
            run.resume(event.checkpoint_id)

    # Ends

    @ending
    def on_chain_end(self, run: ChainRun, outputs: Any, inputs: Any = UNTOLD, **event: Any) -> Ending:
        """End a chain."""
        if run.chooses:
            run.go(graphs.goto(outputs))
        run.end_with(inputs)
        run.give(outputs)
        if not run.waits:
            return None, None
        if run.thread is not None and not graphs.HAS_EVENTS:
            self._tree.pause(run.thread, run)
        return "interrupted", None

    @ending
    def on_llm_end(self, run: ChainRun, response: Any, **event: Any) -> Ending:
        """End a call of a model."""
        if isinstance(run, ModelRun):
            run.end(response)
        return None, None

    @ending
    def on_tool_end(self, run: ChainRun, output: Any, **event: Any) -> Ending:
        """End a tool call; a `ToolMessage` with the status `error` is a failure, though nothing was raised."""
        message = output if issubclass(type(output), ToolMessage) else None
        content = output if message is None else message.content
        if message is not None and run.span is not None:
            run.span.set(call_id=run.recorder.label(message.tool_call_id))
        run.set_output(content)
        run.go(graphs.goto(output))
        if message is None or message.status != "error":
            return None, None
        return "failure", ("ToolMessage", text_of(frozen_value(content, 10_000)) if self._tree.content else None)

    @ending
    def on_retriever_end(self, run: ChainRun, documents: Any, **event: Any) -> Ending:
        """End a retrieval."""
        # An iterator is the host's to read.
        run.set_output(list(documents) if issubclass(type(documents), (list, tuple)) else documents)
        return None, None

    @ending
    def on_chain_error(self, run: ChainRun, error: BaseException, inputs: Any = UNTOLD, **event: Any) -> Ending:
        """End a run that raised, was cancelled, interrupted or handed over."""
        run.end_with(inputs)
        return run.fail(error)

    on_tool_error = on_retriever_error = on_chain_error

    @ending
    def on_llm_error(self, run: ChainRun, error: BaseException, response: Any = None, **event: Any) -> Ending:
        """The same of a call of a model, with what came of its answer."""
        if isinstance(run, ModelRun):
            run.break_off(response)
        return run.fail(error)
