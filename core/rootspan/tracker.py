"""The tracker: one configuration, one delivery pipeline, and everything that can be recorded with them."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import Any, cast
from uuid import UUID

from rootspan.cost import calculate_cost
from rootspan.decorators import Decorating
from rootspan.forks import SETTING_UP
from rootspan.interaction import Interaction, Step, handle
from rootspan.process import from_environment, record_with, tell
from rootspan.record import Kind
from rootspan.recorder import Recorder
from rootspan.sessions import Sessions
from rootspan.settings import Settings, resolve
from rootspan.settings.keywords import Options, Unpack

__all__ = ["Tracker"]


class _Unconfigured:
    """Stands for a tracker's recorder until it is first asked for anything.

    A `__getattr__` of the tracker itself would make each of its attributes slow.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._found: Recorder | None = None

    def __getattr__(self, name: str) -> Any:
        if self._found is None:
            self._found = self._tracker.configured()
        return getattr(self._found, name)


class Tracker(Sessions, Decorating):
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

    _lent: tuple[Tracker, ExitStack] | None = None  # this one as it is beneath, and what ends with the loan

    def __init__(self, **settings: Unpack[Options]) -> None:
        self._recorder = record_with(resolve(os.environ, **settings))
        self._scope = None  # its own, because looking it up in the class takes longer

    @classmethod
    def default(cls) -> Tracker:
        """Return a tracker that takes its settings from the environment when it is first used."""
        tracker = cls.__new__(cls)
        tracker._recorder = cast("Recorder", _Unconfigured(tracker))
        tracker._scope = None
        return tracker

    def configured(self) -> Recorder:
        """Return what records, configured from the environment where nothing else did."""
        if self._lent is not None:
            return self._lent[0].configured()
        error = None
        with SETTING_UP:  # two threads may make their first call at once, or one while another configures
            if not self._is_configured():
                settings, found = from_environment()
                recorder = record_with(settings)
                if not self._is_configured():  # otherwise a signal's handler made one meanwhile
                    self._recorder, error = recorder, found
        tell(error)  # only now: a log handler may track, or wait for a thread that does
        return self._recorder

    def reconfigure(self, settings: Settings | None) -> Tracker:
        """Let new settings hold from now on; what is queued or open goes out with the old ones.

        Args:
            settings: the new ones; None for what the environment says.

        Returns:
            A tracker that stays with these settings when others are set later.
        """
        if self._lent is not None:
            beneath, along = self._lent
            fixed = beneath.reconfigure(settings)
            along.enter_context(fixed.lent(self._recorder))
            return fixed
        fixed, error = type(self).default(), None
        if settings is None:
            settings, error = from_environment()
        with SETTING_UP:
            recorder = record_with(settings)  # first, because a signal's handler may record meanwhile
            before, self._recorder = self._recorder, recorder
            if not isinstance(before, _Unconfigured):
                self._recorder.past = before.past
                self._retired = tuple(old for old in (*self._retired, before) if old.open)
            fixed._recorder = self._recorder
        tell(error)
        return fixed

    @contextmanager
    def lent(self, recorder: Recorder) -> Generator[None]:
        """Record with another recorder meanwhile; settings that are made inside hold afterwards."""
        beneath = copy(self)
        with ExitStack() as along:
            self._recorder, self._lent = recorder, (beneath, along)
            try:
                yield
            finally:
                self._recorder, self._retired, self._lent = beneath._recorder, beneath._retired, beneath._lent

    @property
    def chosen(self) -> Settings | None:
        """The settings it has when it is not lent; None while they are still to be taken from the environment."""
        if self._lent is not None:
            return self._lent[0].chosen
        return self.settings if self._is_configured() else None

    def _is_configured(self) -> bool:
        return not isinstance(self._recorder, _Unconfigured)

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self._recorder.settings

    # Where the running code is

    def current(self) -> Step | None:
        """Return the enclosing interaction or step, or None outside of any.

        Example:
            >>> import rootspan
            >>> with rootspan.begin(event="user_turn", user_id="u1"):
            ...     rootspan.current().user_id
            'u1'
        """
        recorder = self._recorder
        try:
            scope = recorder.scope()
            span = None if scope is None else recorder.place(scope)[0]
        except Exception:
            recorder.own_error()
            return None
        if span is None:
            return None
        kind = Interaction if span.kind in (Kind.INTERACTION, Kind.REQUEST, Kind.SESSION) else Step
        return handle(kind, recorder, span, owner=False)

    @contextmanager
    def context(
        self,
        *,
        user_id: str | int | UUID | None = None,
        convo_id: str | int | UUID | None = None,
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
        try:
            inside = recorder.identity_scope(recorder.identity(user_id, convo_id, agent_name, tags, properties))
            inside.token = recorder.variable.set(inside)
        except Exception:
            recorder.own_error()
            inside = None
        try:
            yield
        finally:
            if inside is not None:
                recorder.enclosing.leave(inside)

    def update_current(
        self,
        *,
        user_id: str | int | UUID | None = None,
        convo_id: str | int | UUID | None = None,
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

        Example:
            >>> import rootspan
            >>> with rootspan.begin(event="user_turn"):
            ...     rootspan.update_current(user_id="u1")
        """
        recorder = self._recorder
        try:
            scope = recorder.here()
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

    calculate_cost = staticmethod(calculate_cost)

    # The pipeline

    def stats(self) -> dict[str, Any]:
        """Return what became of everything recorded: recorded = delivered + queued + spooled + dropped.

        Returns:
            Numbers of records; `dropped` is a dict of them by reason, and with a spool `recovered` is one of what ended
            processes left.

        Example:
            >>> import rootspan
            >>> rootspan.Tracker().stats()
            {'recorded': 0, 'delivered': 0, 'queued': 0, 'spooled': 0, 'dropped': {}}
        """
        return self._recorder.pipeline.stats()

    def flush(self, timeout: float | None = None) -> bool:
        """Deliver what was recorded so far.

        Args:
            timeout: seconds to wait at most; by default 5, with a spool 1, because that keeps what is left.

        Returns:
            Whether everything was settled in time.

        Example:
            >>> import rootspan
            >>> rootspan.Tracker().flush(timeout=2)
            True
        """
        recorder = self._recorder
        return recorder.pipeline.flush(recorder.timeout(timeout, recorder.pipeline.exit_seconds))

    def shutdown(self, timeout: float | None = None) -> bool:
        """Record what is open as unfinished, deliver everything and stop; later calls are counted as dropped.

        Args:
            timeout: seconds to wait at most; by default 5, with a spool 1, because that keeps what is left.

        Returns:
            Whether everything was settled in time, and nothing is left on the disk; `stats` tells what was refused.

        Example:
            >>> import rootspan
            >>> rootspan.Tracker().shutdown()
            True
        """
        recorder = self._recorder
        return recorder.close(recorder.timeout(timeout, recorder.pipeline.exit_seconds))
