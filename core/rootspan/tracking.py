"""The verbs of tracking: what can be recorded in one call, complete when it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from time import time_ns
from typing import Any, Final, cast
from uuid import UUID

from opentelemetry.trace import SpanContext

from rootspan.arguments import failure, merged
from rootspan.forks import forked, home
from rootspan.freeze import LABEL, LONGEST_ID, keep, weight
from rootspan.host_span import host_context, host_span_in
from rootspan.ids import is_id, new_span_id, pooled_span_id
from rootspan.open_span import UNKNOWN
from rootspan.pipeline.queue import RECORD_BYTES
from rootspan.record import NOBODY, Identity, Kind
from rootspan.recorder import Recorder
from rootspan.scope import Scope

__all__ = ["Tracking"]

_EVENT: Final = Kind.EVENT


class Tracking:
    """Records what is complete already; a tracker does so where the code is, a handle inside its own span."""

    __slots__ = ()

    _recorder: Recorder
    _retired: tuple[Recorder, ...] = ()  # earlier configurations that still have open sessions
    _scope: Scope | None = None  # of a handle: what it tracks is in there; a tracker asks where the running code is

    def track_ai(
        self,
        event: str,
        user_id: str | int | UUID | None = None,
        convo_id: str | int | UUID | None = None,
        model: str | None = None,
        provider: str | None = None,
        input: Any = None,
        output: Any = None,
        properties: Mapping[str, Any] | None = None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        estimated_cost: float | Decimal | None = None,
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
        if not home[0]:
            forked()
        try:
            span_id = pooled_span_id()
        except IndexError:
            span_id = new_span_id()
        recorder = self._recorder
        try:
            # What is text already, or not given, costs a look each; anything else is dealt with elsewhere.
            now, limit, size = time_ns(), recorder.limit, RECORD_BYTES
            if type(input) is str and len(input) <= limit:
                size += len(input)
            elif input is not None:
                input, more = keep(input, limit)
                size += more
            if type(output) is str and len(output) <= limit:
                size += len(output)
            elif output is not None:
                output, more = keep(output, limit)
                size += more
            kept = None
            if properties is not None:
                kept, more = keep(properties, limit)
                size += more
            # Ids come from outside and are cut here; event, model and provider are the code's own: the worker cuts them
            if type(event) is not str or not event:
                event = recorder.name(event)
            if model is not None and type(model) is not str:
                model = recorder.label(model)
            if provider is not None and type(provider) is not str:
                provider = recorder.label(provider)
            if agent_name is not None and (type(agent_name) is not str or len(agent_name) > LABEL):
                agent_name = recorder.label(agent_name)
            if user_id is not None and (type(user_id) is not str or len(user_id) > LONGEST_ID):
                user_id = recorder.id("user_id", user_id)
            if convo_id is not None and (type(convo_id) is not str or len(convo_id) > LONGEST_ID):
                convo_id = recorder.id("convo_id", convo_id)
            rare = rest = None
            if (
                tags is not None or agent_name is not None or response_model is not None or finish_reasons is not None
                or cache_read_tokens is not None or cache_creation_tokens is not None or reasoning_tokens is not None
                or operation is not None
            ):  # fmt: skip
                rare = recorder.rare(
                    tags, agent_name, response_model, finish_reasons, operation, cache_read_tokens,
                    cache_creation_tokens, reasoning_tokens,
                )  # fmt: skip
            if (
                prompt_tokens is not None or completion_tokens is not None or estimated_cost is not None
                or rare is not None or duration is not None or error is not None
            ):  # fmt: skip
                rest, more = recorder.rest(now, duration, prompt_tokens, completion_tokens, estimated_cost, error, rare)
                size += more
            link: SpanContext | str | None
            scope = self._scope or recorder.scope()
            if scope is None:
                context = host_context(None)
                above, link = None, host_span_in(context) if context else None
                inherited = recorder.fixed_defaults if recorder.defaults_are_fixed else recorder.defaults()
            else:
                parent, inherited, link = recorder.place(scope)
                above = None if parent is None else parent.ids
                if parent is not None:
                    parent.took(user_id, convo_id, agent_name, input, output, UNKNOWN if rest is None else rest[1:4])
            if inherited is not None and inherited.properties is not None:
                size += weight(inherited.properties)
            record: tuple[Any, ...] = (
                _EVENT, above, span_id, above, link, now, event, inherited, user_id, convo_id, model, provider,
                input, output, kept,
            )  # fmt: skip
            if rest is not None:
                record += rest
            queue = recorder.queue
            if queue.spools:
                queue.put(record, size)
            else:  # what `put` does, without its call: a twentieth of the whole
                queue.count()
                queue.records.append(record)
                queue.size = size = queue.size + size
                if size > queue.crowded or queue.worker is None:
                    queue.attend()
        except Exception:
            recorder.own_error()
        return span_id

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
        return self._step(Kind.TOOL, tool_name, session_id, fields, tool_input, tool_output, error, duration)

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
        return self._step(Kind.DECISION, name, session_id, fields)

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
        return self._step(Kind.ERROR, "error", session_id, fields, error=error_message)

    def track_feedback(
        self,
        target: str | Tracking | None = None,
        name: str = "feedback",
        score: float | bool | None = None,
        *,
        label: str | None = None,
        comment: str | None = None,
        user_id: str | int | UUID | None = None,
        convo_id: str | int | UUID | None = None,
    ) -> str:
        """Record what somebody thought of an answer, now or days later.

        Args:
            target: the span id that `track_ai` returned, an interaction, or a session id; `turn.track_feedback(...)`
                judges the turn without one.
            name: what is judged, such as `thumbs`.
            score: a number.
            label: a word, such as `good`.
            comment: free text.
            user_id: who judged.
            convo_id: which conversation; an interaction or session brings its own.

        Returns:
            The span id of the feedback, 16 hexadecimal characters.

        Example:
            >>> import rootspan
            >>> span_id = rootspan.track_ai("answer", input="Hi", output="Hello!")
            >>> len(rootspan.track_feedback(span_id, name="thumbs", score=1))
            16
        """
        recorder = self._recorder
        try:
            ids, inherited = self._judged(target)
            identity = merged(inherited or NOBODY, recorder.identity(user_id, convo_id))
            given = {"score": score, "label": label, "comment": comment, "target": ids}
            fields = {key: recorder.frozen(value) for key, value in given.items() if value is not None}
            return recorder.feedback(recorder.name(name), ids if len(ids) == 48 else None, identity, fields)
        except Exception:
            return recorder.own_error()

    def _judged(self, target: object) -> tuple[str, Identity | None]:
        """Return the ids that feedback is about, and whose work that was, or else whose is done here."""
        recorder, ids = self._recorder, ""
        if is_id(target, 16, 48):
            ids, identity = target, self._recorder_of(target).session_identity(target)
            if identity is not None:
                return ids, identity
        else:
            whose = self if target is None else target
            judged = cast("Tracking", whose)._scope if issubclass(type(whose), Tracking) else None
            span = None if judged is None else judged.span
            if span is None:
                recorder.warn("feedback", "track_feedback needs a span id, an interaction or a session id as target")
            else:
                span.told = True
                return span.ids, recorder.identity_of(span)
        return ids, recorder.place(self._scope or recorder.scope())[1]

    def _recorder_of(self, session_id: object) -> Recorder:
        """Return the recorder that a session was opened with."""
        for recorder in self._retired:
            if type(session_id) is str and session_id in recorder.sessions:
                return recorder
        return self._recorder

    def _step(
        self,
        kind: str,
        name: str,
        session_id: str | None,
        fields: Mapping[str, Any],
        input: Any = None,
        output: Any = None,
        error: BaseException | str | None = None,
        duration: float | None = None,
    ) -> str:
        recorder = self._recorder if session_id is None else self._recorder_of(session_id)
        try:
            scope = self._scope or recorder.scope()
            if session_id is not None:
                scope = recorder.session_scope(session_id, scope)
            more: dict[str, Any] = {}
            for key, value in fields.items():
                if value is not None:
                    more[key] = recorder.frozen(value)
            return recorder.step(
                kind,
                recorder.name(name),
                scope,
                recorder.kept(input),
                recorder.kept(output),
                None if error is None else failure(error, more.pop("error_type", None)),
                more,
                duration,
            )
        except Exception:
            return recorder.own_error()
