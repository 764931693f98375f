"""Sessions that are addressed by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from rootspan.interaction import Opening
from rootspan.record import Kind

__all__ = ["Sessions"]


class Sessions(Opening):
    """Opens and completes sessions by id, from any thread, task or process."""

    def create_session(
        self,
        name: str = "session",
        agent_name: str | None = None,
        *,
        user_id: str | int | UUID | None = None,
        convo_id: str | int | UUID | None = None,
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
            span = recorder.start(Kind.SESSION, "invoke_agent", recorder.scope(), identity)
            if agent := span.holder.identity.agent_name:
                span.name = f"invoke_agent {agent}"
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
        user_id: str | int | UUID | None = None,
        convo_id: str | int | UUID | None = None,
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

        Example:
            >>> import rootspan
            >>> session_id = rootspan.create_session(name="Request", agent_name="my-agent", user_id="u1")
            >>> rootspan.complete_session(session_id, success=False, failure_reason="no such order")
        """
        recorder = self._recorder_of(session_id)
        try:
            span, completed = recorder.take_session(session_id)
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
