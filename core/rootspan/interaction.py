"""What has a lifetime: the handles of interactions and steps, and what opens them."""

# The handles are made by a function in here, because a call of their `__init__` would take as long as the rest of it:
# pyright: reportPrivateUsage=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

from rootspan.arguments import outcome_of
from rootspan.freeze import LABEL
from rootspan.open_span import OpenSpan
from rootspan.record import Kind
from rootspan.recorder import Recorder
from rootspan.scope import Scope, inside
from rootspan.tracking import Tracking

__all__ = ["Interaction", "Opening", "Step", "handle"]

_INTERACTION: Final = Kind.INTERACTION
_TOOL: Final = Kind.TOOL
_Opening = TypeVar("_Opening", bound="Opening")
_Handle = TypeVar("_Handle", bound="Step")


class Opening(Tracking):
    """Opens interactions and steps; a tracker does so where the code is, a handle inside its own span."""

    __slots__ = ()

    def tool_span(
        self,
        name: str,
        *,
        input: Any = None,
        session_id: str | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> Step:
        """Open a step for a tool call; use it with `with` or `async with`, or call its `finish`.

        Args:
            name: the tool's name.
            input: its arguments.
            session_id: what `create_session` returned; without it the enclosing interaction is meant.
            properties: custom dimensions of the step.

        Returns:
            The open step.

        Example:
            >>> import rootspan
            >>> with rootspan.tool_span("web_search", input={"q": "x"}) as step:
            ...     step.set_output(["a result"])
        """
        return self._open_step(self._scope or self._recorder.scope(), _TOOL, name, input, session_id, properties)

    def start_step(
        self,
        kind: Literal["retrieval", "model", "tool", "step"],
        name: str,
        *,
        input: Any = None,
        session_id: str | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> Step:
        """Open a step of any kind; use it like that of `tool_span`.

        Args:
            kind: `retrieval`, `model`, `tool` or `step`; anything else is warned of, and is a plain step.
            name: the span name, low in cardinality.
            input: the query, the messages, or whatever went in.
            session_id: what `create_session` returned; without it the enclosing interaction is meant.
            properties: custom dimensions of the step.

        Returns:
            The open step.

        Example:
            >>> import rootspan
            >>> with rootspan.begin(event="user_turn") as turn:
            ...     with turn.start_step("retrieval", "handbook", input="holidays") as step:
            ...         step.set_output(["page 7"])
        """
        recorder = self._recorder
        opens = recorder.step_kind(kind)
        return self._open_step(self._scope or recorder.scope(), opens, name, input, session_id, properties)

    def begin(
        self,
        event: str = "interaction",
        *,
        user_id: str | int | UUID | None = None,
        convo_id: str | int | UUID | None = None,
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

        Returns:
            The open interaction.

        Example:
            >>> import rootspan
            >>> with rootspan.begin(event="user_turn", user_id="u1", convo_id="c1", input="Hi") as turn:
            ...     turn.update(output="Hello!")
        """
        scope = self._scope
        if scope is None:
            scope = self._recorder.scope()
            if scope is not None:
                scope = self._recorder.begin_scope(scope)
        return self._open_interaction(
            scope, event, input, user_id, convo_id, agent_name, tags, True, properties, model, provider
        )

    def _open_interaction(
        self,
        scope: Scope | None,
        event: str,
        input: Any,
        user_id: object = None,
        convo_id: object = None,
        agent_name: object = None,
        tags: object = None,
        bare: bool = False,
        properties: Any = None,
        model: object = None,
        provider: object = None,
    ) -> Interaction:
        recorder = self._recorder
        try:
            identity = recorder.identity(user_id, convo_id, agent_name, tags)
            name = event if type(event) is str and event and len(event) <= LABEL else recorder.name(event)
            span = recorder.start(_INTERACTION, name, scope, identity)
            if input is None:
                span.adopts = True
            else:
                span.input = input if type(input) is str and len(input) <= recorder.limit else recorder.kept(input)
                if span.parent is not None:  # what a person asked comes before what a model is asked for it
                    span.parent.took(call_input=span.input)
            if properties is not None or model is not None or provider is not None:
                recorder.update(span, None, None, properties, model, provider)
        except Exception:
            span = recorder.stand_in(Kind.INTERACTION)
        if recorder.queue.spools:
            recorder.began(span)
        return handle(Interaction, recorder, span, True, bare)

    def __deepcopy__(self: _Opening, memo: object) -> _Opening:
        return self  # a copied state of a host's means the same one; a second one's collection would end the span

    def _open_step(
        self,
        scope: Scope | None,
        kind: str,
        name: str,
        input: Any = None,
        session_id: str | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> Step:
        recorder = self._recorder if session_id is None else self._recorder_of(session_id)
        try:
            if session_id is not None:
                scope = recorder.session_scope(session_id, scope)
            name = name if type(name) is str and name and len(name) <= LABEL else recorder.name(name)
            span = recorder.start(kind, name, scope)
            if input is not None:
                span.input = recorder.kept(input)
            if properties is not None:
                recorder.update(span, None, None, properties)
        except Exception:
            span = recorder.stand_in(kind)
        return handle(Step, recorder, span)


class Step(Opening):
    """An open step, such as a tool call; made by `tool_span` and `start_step`, ended by `with` or `finish`."""

    # A `__dict__`, because a host's test may patch what an instance does.
    __slots__ = ("__dict__", "__weakref__", "_begun", "_owner", "_recorder", "_scope", "_span")

    _span: OpenSpan
    _scope: Scope  # a handle always has one
    _begun: Scope  # the first one
    _owner: bool  # its collection ends the span

    @property
    def span_id(self) -> str:
        """The span id, 16 hexadecimal characters."""
        self._span.told = True
        return self._span.ids[32:]

    @property
    def event_id(self) -> str:
        """The same as `span_id`."""
        return self.span_id

    @property
    def trace_id(self) -> str:
        """The trace id, 32 hexadecimal characters."""
        self._span.told = True
        return self._span.ids[:32]

    @property
    def user_id(self) -> str | None:
        """The user, as known so far."""
        return self._span.whose.user_id

    @property
    def convo_id(self) -> str | None:
        """The conversation, as known so far."""
        return self._span.whose.convo_id

    def set_output(self, output: Any) -> None:
        """Set what came out; the last call wins.

        Args:
            output: any value; frozen now.

        Example:
            >>> import rootspan
            >>> with rootspan.tool_span("web_search") as step:
            ...     step.set_output(["a result"])
        """
        try:
            self._span.output = self._recorder.kept(output)
        except Exception:
            self._recorder.own_error()

    def update(
        self,
        *,
        input: Any = None,
        output: Any = None,
        properties: Mapping[str, Any] | None = None,
        user_id: str | int | UUID | None = None,
        convo_id: str | int | UUID | None = None,
        tags: Sequence[str] | None = None,
        agent_name: str | None = None,
        model: str | None = None,
        provider: str | None = None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        estimated_cost: float | Decimal | None = None,
    ) -> None:
        """Set what has become known meanwhile; None leaves a field as it is, properties and tags are added.

        Args:
            input: what was asked.
            output: what was answered.
            properties: custom dimensions, added to those given before.
            user_id: who; holds for this span and for what is recorded below it from now on. What is open below and was
                given an identity or tags of its own keeps the user that it knows; `update_current` reaches that, too.
            convo_id: which conversation, likewise.
            tags: labels, added.
            agent_name: the agent.
            model: the model.
            provider: its provider.
            prompt_tokens: gross input tokens.
            completion_tokens: output tokens.
            estimated_cost: US dollars.

        Example:
            >>> import rootspan
            >>> with rootspan.begin(event="user_turn") as turn:
            ...     turn.update(user_id="u1", input="Hi", output="Hello!")
        """
        recorder, span = self._recorder, self._span
        try:
            recorder.update(span, input, output, properties, model, provider)
            recorder.update_totals(span, prompt_tokens, completion_tokens, estimated_cost)
            if not (user_id is convo_id is agent_name is tags is None):
                recorder.set_apart(span)
                recorder.update_identity([span.holder], user_id, convo_id, agent_name, tags)
        except Exception:
            recorder.own_error()

    def finish(
        self,
        output: Any = None,
        *,
        success: bool | None = None,
        failure_reason: BaseException | str | None = None,
        estimated_cost: float | Decimal | None = None,
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

        Example:
            >>> import rootspan
            >>> turn = rootspan.begin(event="user_turn", input="Hi")
            >>> turn.finish(output="Hello!", success=True)
        """
        recorder, span = self._recorder, self._span
        try:
            if not span.finished:
                if type(output) is str and len(output) <= recorder.limit:
                    span.output = output
                elif output is not None:
                    span.output = recorder.kept(output)
                if properties is not None:
                    recorder.update(span, None, None, properties)
                if estimated_cost is not None or prompt_tokens is not None or completion_tokens is not None:
                    recorder.update_totals(span, prompt_tokens, completion_tokens, estimated_cost)
                if custom_metrics is not None:
                    span.set(custom_metrics=recorder.frozen(custom_metrics))
                if success is None and failure_reason is None:
                    recorder.finish(span)
                else:
                    recorder.finish(span, *recorder.verdict(success, failure_reason))
            # What a `with` entered is left at its end. Who has the handle of a bare one is in it wherever it was begun.
            if self._scope.bare and recorder.enclosing.leave(self._scope):
                self._scope = inside(span)
        except Exception:
            recorder.own_error()

    def _pause(self) -> None:
        """Leave its block for now; `with` enters it again, be it elsewhere."""
        self._recorder.enclosing.leave(self._scope)

    def __enter__(self: _Handle) -> _Handle:
        variable, scope = self._recorder.variable, self._scope
        current, token = variable.get(), scope.token
        here = current is (scope.outer if token is None else scope) and not self._span.finished
        if here and token is not None:
            try:
                variable.reset(token)
            except (ValueError, RuntimeError):  # a copy of the context: where it was begun it stays a bare one
                here = False
        if not here:
            self._scope = scope = inside(self._span, None, current)
        scope.bare = False
        scope.token = variable.set(scope)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        recorder = self._recorder
        try:
            if not self._span.finished:
                if error is None:
                    recorder.finish(self._span)
                else:
                    recorder.finish(self._span, *outcome_of(error))
            if recorder.enclosing.leave(self._scope):  # who has the handle is in it all the same
                self._scope = inside(self._span)
            if self._begun is not self._scope:  # nor must it keep all that ever was where it was begun
                self._begun.outer = self._begun.around()
        except Exception:
            recorder.own_error()

    async def __aenter__(self: _Handle) -> _Handle:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __del__(self) -> None:
        try:
            if self._owner and not self._span.finished:
                self._recorder.finish(self._span, "unfinished")
                # Where it is current still it must not keep all that ever was, and of a block nobody comes to the end.
                self._scope.outer = self._scope.around()
                if not self._scope.bare:
                    self._scope.token = None
        except Exception:  # the interpreter may be half gone
            return

    def __copy__(self: _Handle) -> _Handle:
        return self

    def __repr__(self) -> str:
        state = "finished" if self._span.finished else "open"
        return f"<{type(self).__name__} {self._span.name!r} {self.span_id} {state}>"


class Interaction(Step):
    """An open interaction; made by `begin`, ended by `with` or `finish`. It tracks inside itself what a tracker can."""

    __slots__ = ()


def handle(
    kind: type[_Handle], recorder: Recorder, span: OpenSpan, owner: bool = True, current: bool = False
) -> _Handle:
    """Return a new handle on an open span.

    Args:
        kind: `Interaction` or `Step`.
        recorder: what the span was opened with.
        span: the span.
        owner: whether the span ends, unfinished, when the handle is collected.
        current: whether it is current from here on; a decorated function's is where that is entered.
    """
    variable = recorder.variable
    made = kind()
    made._recorder = recorder
    made._span = span
    made._owner = owner
    outer = variable.get()
    made._scope = made._begun = inside(span, None, outer)
    if current:
        if outer is not None:
            variable.set(None)  # or the token would keep it alive
        made._scope.bare = True
        made._scope.token = variable.set(made._scope)
    elif not owner and outer is not None:
        made._scope.bare = outer.bare
    return made
