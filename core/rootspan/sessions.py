"""Sessions that are addressed by id, and feedback on what was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, cast

from rootspan.interaction import Opening, Step
from rootspan.record import Kind
from rootspan.recorder import Recorder, is_hex
from rootspan.scope import Holder

__all__ = ["Sessions"]


class Sessions(Opening):
    """Opens and completes sessions by id, from any thread, task or process."""

    def create_session(
        self,
        name: str = "session",
        agent_name: str | None = None,
        *,
        user_id: object = None,
        convo_id: object = None,
        metadata: Mapping[str, Any] | None = None,
        user_input: Any = None,
        tags: Sequence[str] | None = None,
    ) -> str:
        """Open an interaction that is addressed by id: steps may come from any thread, task or process.

        Args:
            name: what it is about; may hold user text, so it is content and not the span name.
            agent_name: the agent; the span is called `invoke_agent <agent_name>`.
            user_id: who.
            convo_id: which conversation; without it the session is a conversation of its own.
            metadata: custom dimensions.
            user_input: what was asked.
            tags: labels.

        Returns:
            The session id, 48 hexadecimal characters: a trace id, then a span id.

        Example:
            >>> import rootspan
            >>> session_id = rootspan.create_session(name="Request", agent_name="my-agent", user_id="u1")
            >>> rootspan.complete_session(session_id=session_id, success=True)
        """
        recorder = self._recorder
        try:
            identity = recorder.identity(user_id, convo_id, agent_name, tags)
            span_name = f"invoke_agent {identity.agent_name}" if identity.agent_name else "invoke_agent"
            span = recorder.start(Kind.SESSION, span_name, recorder.scope(), identity)
            recorder.set_apart(span)  # what becomes known of it is not the enclosing interaction's
            if span.holder.identity.convo_id is None:
                span.holder.identity = span.holder.identity._replace(convo_id=span.ids)
            recorder.update(span, user_input, None, metadata)
            span.set(session_name=recorder.frozen(name))
            span.adopts = user_input is None
            recorder.began(span)
            recorder.keep_session(span)
        except Exception:
            span = recorder.stand_in(Kind.SESSION)
        return span.ids

    def complete_session(
        self,
        session_id: str,
        success: bool = True,
        *,
        estimated_cost: float | Decimal | None = None,
        prompt_tokens: int | None = None,
        completion_tokens: int | None = None,
        failure_reason: BaseException | str | None = None,
        custom_metrics: Mapping[str, Any] | None = None,
        user_input: Any = None,
        assistant_output: Any = None,
        user_id: object = None,
        convo_id: object = None,
    ) -> None:
        """End a session; in another process than the one that created it, this records its outcome as a child.

        Args:
            session_id: what `create_session` returned.
            success: whether the goal was reached.
            estimated_cost: US dollars; on the session only where no step carries a cost.
            prompt_tokens: gross input tokens, likewise.
            completion_tokens: output tokens, likewise.
            failure_reason: why not, a message or the exception.
            custom_metrics: numbers of your own.
            user_input: what was asked.
            assistant_output: what was answered.
            user_id: who; needed only in another process.
            convo_id: which conversation, likewise.
        """
        recorder = self._recorder_of(session_id)
        try:
            parent = recorder.session(session_id)
            span, completed = recorder.take_session(session_id) if parent is not None else (None, False)
            if completed:
                return
            if span is None:
                scope = recorder.session_scope(session_id, recorder.scope())
                span = recorder.start(Kind.OUTCOME, "session_outcome", scope)
            recorder.update_identity([span.holder], user_id, convo_id)
            recorder.update(span, user_input, assistant_output, None)
            recorder.update_totals(span, prompt_tokens, completion_tokens, estimated_cost)
            span.set(custom_metrics=recorder.frozen(custom_metrics))
            recorder.finish(span, *recorder.verdict(success, failure_reason))
        except Exception:
            recorder.own_error()

    def track_feedback(
        self,
        target: str | Step,
        name: str = "feedback",
        score: float | bool | None = None,
        *,
        label: str | None = None,
        comment: str | None = None,
        user_id: object = None,
        convo_id: object = None,
    ) -> str:
        """Record what somebody thought of an answer, now or days later.

        Args:
            target: the span id that `track_ai` returned, an interaction, or a session id.
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
            target_ids, holder = _target(target, self._recorder_of(target))
            inherited = holder.identity if holder is not None else None
            fields = {"score": score, "label": label, "comment": comment, "target": target_ids}
            return recorder.feedback(
                recorder.name(name),
                target_ids if len(target_ids) == 48 else None,
                inherited,
                recorder.identity(user_id, convo_id),
                {key: recorder.frozen(value) for key, value in fields.items() if value is not None},
            )
        except Exception:
            return recorder.own_error()


def _target(target: str | Step, recorder: Recorder) -> tuple[str, Holder | None]:
    """Return the ids that feedback is about, and whose work that was if it is known here."""
    if issubclass(type(target), Step):
        target = cast("Step", target)
        return target.trace_id + target.span_id, target.scope.holder
    if is_hex(target, 16, 48):
        return target, recorder.session_holder(target)
    recorder.warn("feedback", "track_feedback needs a span id, an interaction or a session id as its target")
    return "", None
