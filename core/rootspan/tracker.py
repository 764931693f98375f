"""The tracker: one configuration, one delivery pipeline, and everything that can be recorded with them."""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, overload

from rootspan import cost, dialect
from rootspan.errors import ConfigurationError
from rootspan.functions import carried, traced
from rootspan.interaction import Interaction, Step, Tracking
from rootspan.pipeline import EXIT_SECONDS, Pipeline, Sink
from rootspan.record import Kind, Record, SpanData
from rootspan.recorder import Recorder, failure
from rootspan.redaction import Redactor
from rootspan.scope import Holder, OpenSpan, Scope
from rootspan.settings import Settings, resolve
from rootspan.transport import sinks

if TYPE_CHECKING:
    from collections.abc import Generator
    from decimal import Decimal

__all__ = ["Tracker"]

logger = logging.getLogger("rootspan")

P = ParamSpec("P")
R = TypeVar("R")


class Tracker(Tracking):
    """Records events, interactions and sessions, and ships them as OpenTelemetry spans.

    Trackers share nothing: each has its own settings, queue, worker and scope.

    Args:
        **settings: the options of `rootspan.configure`.

    Raises:
        ConfigurationError: an option is unknown, of the wrong type or out of range.

    Example:
        >>> import rootspan
        >>> tracker = rootspan.Tracker(service_name="shop-assistant")
        >>> len(tracker.track_ai("greeting", user_id="u1", input="Hi"))
        16
    """

    def __init__(self, **settings: Any) -> None:
        self._recorder = record_with(resolve(os.environ, **settings))

    @classmethod
    def default(cls) -> Tracker:
        """Return a tracker that takes its settings from the environment when it is first used."""
        return cls.__new__(cls)

    def __getattr__(self, name: str) -> Any:
        if name != "_recorder":
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        self._recorder = _from_environment()
        return self._recorder

    def reconfigure(self, settings: Settings) -> Tracker:
        """Let new settings hold from now on; what is queued or open goes out with the old ones.

        Returns:
            A tracker that stays with these settings when others are set later.
        """
        self._recorder = record_with(settings)
        fixed = type(self).default()
        fixed._recorder = self._recorder
        return fixed

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self._recorder.settings

    # Sessions by id

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
            if span.holder.identity.convo_id is None:
                span.holder.identity = span.holder.identity._replace(convo_id=span.ids)
            recorder.update(span, user_input, None, metadata)
            span.set(session_name=recorder.frozen(name))
            span.adopts = user_input is None
            recorder.keep_session(span)
        except Exception:
            span = recorder.stand_in(Kind.SESSION)
        return span.ids

    def complete_session(
        self,
        session_id: str,
        success: bool = True,
        *,
        estimated_cost: float | None = None,
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
        recorder = self._recorder
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
            target_ids, holder = _target(target, recorder)
            inherited = holder.identity if holder is not None else None
            fields = {"score": score, "label": label, "comment": comment, "target": target_ids[-16:]}
            return recorder.feedback(
                recorder.name(name),
                target_ids if len(target_ids) == 48 else None,
                inherited,
                recorder.identity(user_id, convo_id),
                {key: recorder.frozen(value) for key, value in fields.items() if value is not None},
            )
        except Exception:
            return recorder.own_error()

    # Where the running code is

    def current(self) -> Step | None:
        """Return the enclosing interaction or step, or None outside of any."""
        recorder = self._recorder
        scope = recorder.scope()
        if scope is None:
            return None
        span = recorder.place(scope)[0]
        if span is None:
            return None
        kind = Interaction if span.kind in (Kind.INTERACTION, Kind.REQUEST, Kind.SESSION) else Step
        return kind(recorder, span, owner=False)

    @contextmanager
    def context(
        self,
        *,
        user_id: object = None,
        convo_id: object = None,
        agent_name: str | None = None,
        tags: Sequence[str] | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> Generator[None]:
        """Give everything recorded inside a user, a conversation, tags and properties.

        Args:
            user_id: who.
            convo_id: which conversation.
            agent_name: which agent.
            tags: labels, added to those outside.
            properties: custom dimensions, likewise.

        Example:
            >>> import rootspan
            >>> with rootspan.context(user_id="u1", convo_id="c1"):
            ...     span_id = rootspan.track_ai("greeting", input="Hi")
        """
        recorder = self._recorder
        scope = recorder.scope()
        span, outer, _ = recorder.place(scope)
        identity = recorder.identity(user_id, convo_id, agent_name, tags, properties)
        inside = recorder.identity_scope(span, outer, identity, scope)
        recorder.variable.set(inside)
        try:
            yield
        finally:
            recorder.enclosing.leave(inside)

    def update_current(
        self,
        *,
        user_id: object = None,
        convo_id: object = None,
        agent_name: str | None = None,
        tags: Sequence[str] | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        """Set an identity that became known late, after the login for instance.

        It reaches the enclosing root and everything recorded in it from now on.

        Args:
            user_id: who.
            convo_id: which conversation.
            agent_name: which agent.
            tags: labels, added.
            properties: custom dimensions, added.
        """
        recorder = self._recorder
        try:
            scope = recorder.scope()
            if scope is None:
                recorder.warn(
                    "update_current",
                    "update_current() was called outside of any interaction and changed nothing. "
                    "Wrap the work in `with rootspan.begin(...)` or `with rootspan.context(...)`.",
                )
                return
            recorder.update_identity(recorder.holders(scope), user_id, convo_id, agent_name, tags, properties)
        except Exception:
            recorder.own_error()

    def carry(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return `function` for a thread or an executor, with the scope of this moment.

        Args:
            function: any callable; async and generator functions as well.

        Example:
            >>> import rootspan
            >>> from concurrent.futures import ThreadPoolExecutor
            >>> with rootspan.begin(event="turn") as turn, ThreadPoolExecutor() as pool:
            ...     done = pool.submit(rootspan.carry(rootspan.track_decision), reasoning="in a thread")
        """
        recorder = self._recorder
        return carried(function, recorder.variable, recorder.scope())

    # Decorators

    @overload
    def tool(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def tool(
        self,
        *,
        name: str | None = None,
        session_id: str | None = None,
        capture_input: bool = True,
        capture_output: bool = True,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    def tool(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        session_id: str | None = None,
        capture_input: bool = True,
        capture_output: bool = True,
    ) -> Any:
        """Make every call of a function a tool call: `def`, `async def`, generator or async generator.

        Args:
            function: the function, where the decorator is used without parentheses.
            name: the tool's name; the function's own by default.
            session_id: what `create_session` returned; without it the enclosing interaction is meant.
            capture_input: record the arguments.
            capture_output: record the result, or what was yielded.

        Example:
            >>> import rootspan
            >>> @rootspan.tool
            ... def search_database(query: str) -> list[str]:
            ...     return [query]
            >>> search_database("x")
            ['x']
        """

        def decorate(wrapped: Callable[P, R]) -> Callable[P, R]:
            tool_name = name or _name_of(wrapped)

            def open_step(value: Any, scope: Scope | None) -> Step:
                return self._open_step(scope, Kind.TOOL, tool_name, value, session_id)

            return traced(
                wrapped,
                open_step,
                lambda: self._recorder.scope(),
                lambda: self._recorder.variable,
                capture_input,
                capture_output,
            )

        return decorate if function is None else decorate(function)

    @overload
    def interaction(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def interaction(
        self,
        *,
        event: str | None = None,
        user_id: object = None,
        convo_id: object = None,
        agent_name: str | None = None,
        capture_input: bool = True,
        capture_output: bool = True,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    def interaction(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        event: str | None = None,
        user_id: object = None,
        convo_id: object = None,
        agent_name: str | None = None,
        capture_input: bool = True,
        capture_output: bool = True,
    ) -> Any:
        """Make every call of a function an interaction: the same four kinds of function as `tool`.

        Args:
            function: the function, where the decorator is used without parentheses.
            event: the span name; the function's own by default.
            user_id: who.
            convo_id: which conversation.
            agent_name: which agent.
            capture_input: record the arguments.
            capture_output: record the result, or what was yielded.

        Example:
            >>> import rootspan
            >>> @rootspan.interaction(event="user_turn")
            ... def handle(message: str) -> str:
            ...     return message.upper()
            >>> handle("hi")
            'HI'
        """

        def decorate(wrapped: Callable[P, R]) -> Callable[P, R]:
            event_name = event or _name_of(wrapped)

            def open_step(value: Any, scope: Scope | None) -> Step:
                return self._open_interaction(
                    scope, event_name, _alone(value), user_id=user_id, convo_id=convo_id, agent_name=agent_name
                )

            return traced(
                wrapped,
                open_step,
                lambda: self._recorder.begin_scope(),
                lambda: self._recorder.variable,
                capture_input,
                capture_output,
            )

        return decorate if function is None else decorate(function)

    # The pipeline

    def calculate_cost(self, model: Any, usage: Any = None, *, provider: str | None = None) -> Decimal | None:
        """Return what a model call cost in US dollars, None where the price is unknown; see `rootspan.cost`."""
        return cost.calculate_cost(model, usage, provider=provider)

    def stats(self) -> dict[str, Any]:
        """Return what became of everything recorded: recorded = delivered + queued + spooled + dropped."""
        return self._recorder.pipeline.stats()

    def flush(self, timeout: float = 5.0) -> bool:
        """Deliver what was recorded so far.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether everything was settled in time.
        """
        return self._recorder.pipeline.flush(timeout)

    def shutdown(self, timeout: float = 5.0) -> bool:
        """Record what is open as unfinished, deliver everything and stop; later calls are counted as dropped.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether everything was delivered.
        """
        return self._recorder.close(timeout)


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", None) or type(function).__name__


def _alone(value: Any) -> Any:
    """Return the text where one text is all the input: `handle(message)` shows as the message."""
    if isinstance(value, dict) and len(value) == 1:
        (only,) = value.values()
        return only if isinstance(only, str) else value
    return value


def _target(target: str | Step, recorder: Recorder) -> tuple[str, Holder | None]:
    """Return the ids that feedback is about, and whose work that was if it is known here."""
    if isinstance(target, Step):
        return target.trace_id + target.span_id, target.scope.holder
    if isinstance(target, str) and len(target) in (16, 48) and not target.strip("0123456789abcdef"):
        span = recorder.sessions.get(target)
        return target, span.holder if span is not None else None
    recorder.warn("feedback", "track_feedback needs a span id, an interaction or a session id as its target")
    return "", None


# Every recorder of this process, so that each is delivered at exit and starts empty in a forked child.
_recorders: Final[weakref.WeakSet[Recorder]] = weakref.WeakSet()


def record_with(settings: Settings) -> Recorder:
    """Return a recorder with its pipeline; no thread and no connection is made before the first record."""
    redactor = Redactor(
        text=settings.redact_text,
        pii=settings.redact_pii,
        keys=settings.redact_keys,
        hook=settings.redact,
        secrets=() if settings.api_key is None else (settings.api_key.reveal(),),
    )

    def shape(record: Record) -> SpanData:
        return dialect.to_span(record, settings, redactor)

    def pipeline(on_fork: Callable[[], None]) -> Pipeline:
        return Pipeline(
            shape,
            sinks(settings),
            limit=settings.max_queue_bytes,
            interval=settings.flush_interval,
            batch_size=settings.batch_size,
            sample_rate=settings.sample_rate,
            on_loss=settings.on_loss,
            on_fork=on_fork,
            disabled=settings.disabled,
        )

    recorder = Recorder(settings, pipeline)
    _recorders.add(recorder)
    return recorder


def _from_environment() -> Recorder:
    try:
        return record_with(resolve(os.environ))
    except ConfigurationError as error:
        logger.error("rootspan is disabled because its environment is wrong. %s", error)
        return record_with(resolve({}, disabled=True))


def _at_exit() -> None:
    for recorder in list(_recorders):
        recorder.close(EXIT_SECONDS, at_exit=True)


def _after_fork() -> None:
    for recorder in list(_recorders):
        recorder.pipeline.after_fork()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
