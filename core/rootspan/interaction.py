"""The verbs of tracking, and the handles of what has begun: interactions and steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time_ns
from types import TracebackType
from typing import Any, Final, TypeVar

from rootspan.freeze import freeze, thaw
from rootspan.pipeline import weigh
from rootspan.record import Kind
from rootspan.recorder import Recorder, failure, outcome_of
from rootspan.scope import OpenSpan, Scope, new_ids

__all__ = ["Interaction", "Step", "Tracking"]

_Handle = TypeVar("_Handle", bound="Step")
_EVENT: Final = Kind.EVENT
_NOTHING: Final = (None, None, None)  # neither tokens nor a cost


class Tracking:
    """What a tracker and every open interaction or step can do: record what happens inside it."""

    _recorder: Recorder
    _pinned: Scope | None = None  # the scope of a handle; a tracker asks where the running code is

    def track_ai(
        self,
        event: str,
        *,
        user_id: object = None,
        convo_id: object = None,
        model: str | None = None,
        provider: str | None = None,
        input: Any = None,
        output: Any = None,
        properties: Mapping[str, Any] | None = None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        estimated_cost: float | None = None,
        tags: Sequence[str] | None = None,
        agent_name: str | None = None,
        response_model: str | None = None,
        finish_reasons: Sequence[str] | None = None,
        cache_read_tokens: int | None = None,
        cache_creation_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        operation: str | None = None,
        duration: float | None = None,
        error: BaseException | str | None = None,
    ) -> str:
        """Record one event: a message, a model call, anything that is complete when this returns.

        Outside any interaction it is a root span of its own, inside one it is a child and inherits user and
        conversation. It never raises for a value, and what it is given is frozen at the call.

        Args:
            event: the event's name, low in cardinality; it becomes the span name.
            user_id: who; `str`, `int` or `UUID`.
            convo_id: which conversation; the same value on every turn groups them into a session.
            model: the requested model, such as `gpt-4o`.
            provider: the provider's key, such as `openai` or `aws_bedrock`; never inferred from the model.
            input: prompt or messages: `str`, `dict`, `list`, or any object.
            output: the answer, likewise.
            properties: custom dimensions; scalars keep their type.
            prompt_tokens: gross input tokens, cached ones included.
            completion_tokens: output tokens.
            estimated_cost: US dollars.
            tags: labels of the span.
            agent_name: the agent that did it.
            response_model: the model that answered, where it differs.
            finish_reasons: why the model stopped.
            cache_read_tokens: input tokens read from the provider's cache.
            cache_creation_tokens: input tokens written to it.
            reasoning_tokens: output tokens spent on reasoning.
            operation: the GenAI operation, such as `embeddings`; `chat` where a model or tokens are given.
            duration: how long it took, in seconds, ending now.
            error: what went wrong, an exception or a message.

        Returns:
            The span id, 16 hexadecimal characters.

        Example:
            >>> import rootspan
            >>> span_id = rootspan.track_ai("user_message", user_id="user_42", convo_id="conv_abc",
            ...                             model="gpt-4o", provider="openai", input="Hi", output="Hello!")
            >>> len(span_id)
            16
        """
        ids = new_ids()
        recorder = self._recorder
        try:
            limit, now = recorder.limit, time_ns()
            if input is not None and (type(input) is not str or len(input) > limit):
                input = freeze(input, limit)
            if output is not None and (type(output) is not str or len(output) > limit):
                output = freeze(output, limit)
            if type(event) is not str or type(model) is not str or type(provider) is not str:
                event, model, provider = recorder.name(event), recorder.label(model), recorder.label(provider)
            if user_id is not None and type(user_id) is not str:
                user_id = recorder.id("user_id", user_id)
            if convo_id is not None and type(convo_id) is not str:
                convo_id = recorder.id("convo_id", convo_id)
            if prompt_tokens is not None or completion_tokens is not None or estimated_cost is not None:
                bought = (recorder.number(prompt_tokens), recorder.number(completion_tokens), recorder.number(estimated_cost))
            else:
                bought = _NOTHING
            more = None
            if (
                tags is not None or agent_name is not None or response_model is not None or finish_reasons is not None
                or cache_read_tokens is not None or cache_creation_tokens is not None or reasoning_tokens is not None
                or operation is not None
            ):  # fmt: skip
                more = recorder.rare(
                    tags, agent_name, response_model, finish_reasons, operation, cache_read_tokens,
                    cache_creation_tokens, reasoning_tokens,
                )  # fmt: skip
            scope = self._pinned or recorder.scope()
            if scope is None:
                parent, inherited, link = None, recorder.defaults(), recorder.host()
            else:
                parent, inherited, link = recorder.place(scope)
            trace, above = ids, None
            if parent is not None:
                trace = above = parent.ids
                parent.took(user_id, convo_id, agent_name)
                parent.took_call(input, output, bought is not _NOTHING)
            record = (
                _EVENT, trace, ids, above, link, now if duration is None else now - recorder.nanoseconds(duration), now,
                event, inherited, user_id, convo_id, model, provider, input, output,
                None if properties is None else freeze(properties, limit), *bought,
                None if error is None else "failure", None if error is None else failure(error), more,
            )  # fmt: skip
            recorder.pipeline.put(record, weigh(record))
        except Exception:
            recorder.own_error()
        return ids[32:]

    def track_tool_call(
        self,
        tool_name: str,
        tool_input: Any = None,
        tool_output: Any = None,
        *,
        session_id: str | None = None,
        reasoning: str | None = None,
        error: BaseException | str | None = None,
        duration: float | None = None,
        call_id: str | None = None,
    ) -> str:
        """Record a tool call that is over, in the enclosing interaction or a session.

        Args:
            tool_name: the tool's name.
            tool_input: its arguments.
            tool_output: its result.
            session_id: what `create_session` returned; without it the enclosing interaction is meant.
            reasoning: why the tool was called.
            error: why it failed, an exception or a message.
            duration: how long it took, in seconds, ending now.
            call_id: the model's id for this call.

        Returns:
            The span id, 16 hexadecimal characters.

        Example:
            >>> import rootspan
            >>> len(rootspan.track_tool_call(tool_name="search", tool_input={"q": "x"}, tool_output={"n": 3}))
            16
        """
        fields = {"reasoning": reasoning, "call_id": call_id}
        return self._step(
            Kind.TOOL, tool_name, session_id, input=tool_input, output=tool_output, error=error, fields=fields,
            duration=duration,
        )  # fmt: skip

    def track_decision(
        self,
        reasoning: str | None = None,
        alternatives: Sequence[str] | None = None,
        *,
        confidence: float | None = None,
        name: str = "decision",
        session_id: str | None = None,
    ) -> str:
        """Record what was decided and why, in the enclosing interaction or a session.

        Args:
            reasoning: the decision and its reason.
            alternatives: what else could have been done.
            confidence: 0.0 to 1.0.
            name: the span name, low in cardinality.
            session_id: what `create_session` returned; without it the enclosing interaction is meant.

        Returns:
            The span id, 16 hexadecimal characters.

        Example:
            >>> import rootspan
            >>> len(rootspan.track_decision(reasoning="search first", alternatives=["answer"], confidence=0.8))
            16
        """
        fields = {"reasoning": reasoning, "alternatives": alternatives, "confidence": confidence}
        return self._step(Kind.DECISION, name, session_id, fields=fields)

    def track_error(
        self,
        error_message: BaseException | str,
        error_type: str | None = None,
        *,
        tool_name: str | None = None,
        session_id: str | None = None,
    ) -> str:
        """Record an error that the application survived, in the enclosing interaction or a session.

        Args:
            error_message: what happened, or the exception itself.
            error_type: a low-cardinality name for it; an exception brings its own.
            tool_name: the tool that failed.
            session_id: what `create_session` returned; without it the enclosing interaction is meant.

        Returns:
            The span id, 16 hexadecimal characters.

        Example:
            >>> import rootspan
            >>> len(rootspan.track_error(error_message="no answer in 5 s", error_type="Timeout", tool_name="search"))
            16
        """
        fields = {"tool_name": tool_name, "error_type": error_type}
        return self._step(Kind.ERROR, "error", session_id, error=error_message, fields=fields)

    def tool_span(
        self, name: str, *, input: Any = None, session_id: str | None = None, properties: Mapping[str, Any] | None = None
    ) -> Step:
        """Open a step for a tool call; use it with `with` or `async with`, or call its `finish`.

        Args:
            name: the tool's name.
            input: its arguments.
            session_id: what `create_session` returned; without it the enclosing interaction is meant.
            properties: custom dimensions of the step.

        Example:
            >>> import rootspan
            >>> with rootspan.tool_span("web_search", input={"q": "x"}) as step:
            ...     step.set_output(["a result"])
        """
        return self.start_step(Kind.TOOL, name, input=input, session_id=session_id, properties=properties)

    def start_step(
        self,
        kind: str,
        name: str,
        *,
        input: Any = None,
        session_id: str | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> Step:
        """Open a step of any kind in `rootspan.record.Kind`; `tool_span` is the one for tools."""
        scope = self._pinned or self._recorder.scope()
        return self._open_step(scope, kind, name, input, session_id, properties)

    def begin(
        self,
        event: str = "interaction",
        *,
        user_id: object = None,
        convo_id: object = None,
        input: Any = None,
        model: str | None = None,
        provider: str | None = None,
        properties: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        agent_name: str | None = None,
    ) -> Interaction:
        """Open an interaction: one turn, one request, one agent run; it is current from here on.

        Use it with `with` or `async with`, or call `finish`. One that nobody finishes is recorded as unfinished.
        Inside a `with`, a request or a chain it is a child; otherwise it is an isolated root.

        Args:
            event: the span name, low in cardinality.
            user_id: who; `str`, `int` or `UUID`; inherited by everything inside.
            convo_id: which conversation; inherited likewise.
            input: what was asked.
            model: the model, where the interaction is one model call.
            provider: its provider.
            properties: custom dimensions of the interaction.
            tags: labels, inherited.
            agent_name: the agent, inherited.

        Example:
            >>> import rootspan
            >>> with rootspan.begin(event="user_turn", user_id="u1", convo_id="c1", input="Hi") as turn:
            ...     turn.update(output="Hello!")
        """
        handle = self._open_interaction(
            self._pinned or self._recorder.begin_scope(), event, input,
            user_id=user_id, convo_id=convo_id, agent_name=agent_name, tags=tags,
        )  # fmt: skip
        handle.update(properties=properties, model=model, provider=provider)
        handle.activate()
        return handle

    def _open_interaction(self, scope: Scope | None, event: str, input: Any, **identity: Any) -> Interaction:
        recorder = self._recorder
        try:
            span = recorder.start(Kind.INTERACTION, recorder.name(event), scope, recorder.identity(**identity))
            span.input = recorder.frozen(input)
            span.adopts = input is None
        except Exception:
            span = recorder.stand_in(Kind.INTERACTION)
        span.bare = True
        return Interaction(recorder, span)

    def _open_step(
        self,
        scope: Scope | None,
        kind: str,
        name: str,
        input: Any = None,
        session_id: str | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> Step:
        recorder = self._recorder
        try:
            if session_id is not None:
                scope = recorder.session_scope(session_id, scope)
            span = recorder.start(kind, recorder.name(name), scope)
            recorder.update(span, input, None, properties)
        except Exception:
            span = recorder.stand_in(kind)
        return Step(recorder, span)

    def _step(
        self,
        kind: str,
        name: str,
        session_id: str | None,
        *,
        input: Any = None,
        output: Any = None,
        error: BaseException | str | None = None,
        fields: Mapping[str, Any] | None = None,
        duration: float | None = None,
    ) -> str:
        recorder = self._recorder
        try:
            more = {key: recorder.frozen(value) for key, value in (fields or {}).items() if value is not None}
            return recorder.step(
                kind,
                recorder.name(name),
                recorder.session(session_id),
                self._pinned or recorder.scope(),
                input=recorder.frozen(input),
                output=recorder.frozen(output),
                error=None if error is None else failure(error, more.pop("error_type", None)),
                fields=more,
                duration=duration,
            )
        except Exception:
            return recorder.own_error()


class Step(Tracking):
    """An open step, such as a tool call; made by `tool_span`."""

    def __init__(self, recorder: Recorder, span: OpenSpan, owner: bool = True) -> None:
        self._recorder = recorder
        self._span = span
        self._owner = owner
        self._scope = Scope(span, span.holder, recorder.variable.get())
        self._pinned = Scope(span, span.holder, None, pinned=True)

    @property
    def span_id(self) -> str:
        """The span id, 16 hexadecimal characters."""
        return self._span.ids[32:]

    @property
    def event_id(self) -> str:
        """The same as `span_id`."""
        return self._span.ids[32:]

    @property
    def trace_id(self) -> str:
        """The trace id, 32 hexadecimal characters."""
        return self._span.ids[:32]

    @property
    def user_id(self) -> str | None:
        """The user, as known so far."""
        return self._span.holder.identity.user_id

    @property
    def convo_id(self) -> str | None:
        """The conversation, as known so far."""
        return self._span.holder.identity.convo_id

    def set_output(self, output: Any) -> None:
        """Set what came out; the last call wins.

        Args:
            output: any value; frozen now.
        """
        self._span.output = self._recorder.frozen(output)

    def update(
        self,
        *,
        input: Any = None,
        output: Any = None,
        properties: Mapping[str, Any] | None = None,
        user_id: object = None,
        convo_id: object = None,
        tags: Sequence[str] | None = None,
        agent_name: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        estimated_cost: float | None = None,
    ) -> None:
        """Set what has become known meanwhile; None leaves a field as it is, properties and tags are added.

        Args:
            input: what was asked.
            output: what was answered.
            properties: custom dimensions, added to those given before.
            user_id: who; holds for this span and for what is recorded below it from now on.
            convo_id: which conversation, likewise.
            tags: labels, added.
            agent_name: the agent.
            model: the model.
            provider: its provider.
            prompt_tokens: gross input tokens.
            completion_tokens: output tokens.
            estimated_cost: US dollars.
        """
        recorder, span = self._recorder, self._span
        try:
            recorder.update(span, input, output, properties, model, provider)
            recorder.update_totals(span, prompt_tokens, completion_tokens, estimated_cost)
            recorder.update_identity([span.holder], user_id, convo_id, agent_name, tags)
        except Exception:
            recorder.own_error()

    def finish(
        self,
        output: Any = None,
        *,
        success: bool | None = None,
        failure_reason: BaseException | str | None = None,
        estimated_cost: float | None = None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        custom_metrics: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        """End it and record it; a second call changes nothing, whatever thread or task it comes from.

        Args:
            output: what was answered.
            success: whether the goal was reached; False makes it a failure.
            failure_reason: why not, a message or the exception.
            estimated_cost: US dollars; on a root only where no span below carries a cost.
            prompt_tokens: gross input tokens, likewise.
            completion_tokens: output tokens, likewise.
            custom_metrics: numbers of your own.
            properties: custom dimensions, added to those given before.
        """
        recorder, span = self._recorder, self._span
        try:
            if not span.finished:
                self.update(
                    output=output, properties=properties, estimated_cost=estimated_cost, prompt_tokens=prompt_tokens,
                    completion_tokens=completion_tokens,
                )  # fmt: skip
                span.set(custom_metrics=recorder.frozen(custom_metrics))
                recorder.finish(span, *recorder.verdict(success, failure_reason))
            recorder.enclosing.leave(self._scope)
        except Exception:
            recorder.own_error()

    def activate(self) -> None:
        """Make it current in the running context; `with` does so by itself."""
        scope = self._recorder.variable.get()
        if scope is not self._scope:
            self._scope = Scope(self._span, self._span.holder, scope)
            self._recorder.variable.set(self._scope)

    @property
    def scope(self) -> Scope:
        """The scope in which code runs as part of this span."""
        return self._scope

    def snapshot(self, value: Any) -> Any:
        """Return `value` as plain data of this moment."""
        return thaw(self._recorder.frozen(value))

    def leave(self, error: BaseException | None = None) -> None:
        """End it the way the exception that left it says: as a failure, as cancelled or as abandoned.

        Args:
            error: what left the code inside; None where it returned.
        """
        recorder = self._recorder
        try:
            if not self._span.finished:
                recorder.finish(self._span, *((None, None) if error is None else outcome_of(error)))
            recorder.enclosing.leave(self._scope)
        except Exception:
            recorder.own_error()

    def __enter__(self: _Handle) -> _Handle:
        self._span.bare = False
        self.activate()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave(error)

    async def __aenter__(self: _Handle) -> _Handle:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave(error)

    def __del__(self) -> None:
        try:
            if self._owner and not self._span.finished:
                self._recorder.finish(self._span, "unfinished")
        except Exception:  # the interpreter may be half gone
            return

    def __repr__(self) -> str:
        state = "finished" if self._span.finished else "open"
        return f"<{type(self).__name__} {self._span.name!r} {self.span_id} {state}>"


class Interaction(Step):
    """An open interaction; made by `begin`. Everything a tracker can track, it can track inside itself."""
