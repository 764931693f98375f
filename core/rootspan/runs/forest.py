"""Every run of one tracker that has not ended, by its id: bounded in count and age, and closed with what ends first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import suppress
from time import time_ns
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary, ref

from rootspan.arguments import Error
from rootspan.forks import after_fork
from rootspan.open_span import OpenSpan
from rootspan.scope import Scope
from rootspan.tracker import Tracker

if TYPE_CHECKING:
    from rootspan.runs import RunTree

__all__ = ["Forest", "Run", "forest_of"]


class Invocation:
    """A run at the top and everything below it, kept until all of it has ended."""

    __slots__ = ("ended", "members", "open", "touched")

    def __init__(self) -> None:
        self.ended = False  # the run at the top
        self.members: dict[Run, None] = {}
        self.open: dict[Run, None] = {}  # those of these that have not ended
        self.touched = 0  # nanoseconds since the epoch of the last start


class Run:
    """One run of a framework: a span of ours, or one that is hidden and whose children hang below its parent.

    An adapter that remembers more of its runs gives them a class of its own.

    Args:
        run_id: the framework's id.
        parent: the run above it, as `RunTree.parent` returns it.
        owner: the tree that it is opened in.

    Attributes:
        span: the open span; None where the run is hidden.
        nearest: that span, or the one of the nearest run above that has any.
    """

    # Defaults of the class, so that starting a run sets only what it has.
    span: OpenSpan | None = None
    nearest: OpenSpan | None = None
    scope: Scope | None = None  # where its children are
    unwatch: Callable[[], object] | None = None
    ended = False
    streams = False  # tokens came: a consumer holds it, maybe in another task than the one that began
    copies = 1  # how often the handler is listed
    heard = 0

    def __init__(self, run_id: Hashable, parent: Run | None, owner: RunTree) -> None:
        self.run_id = run_id
        self.parent = parent
        self.owner = owner
        self.recorder = owner.recorder
        self.invocation: Invocation = Invocation() if parent is None else parent.invocation

    def on_close(self) -> None:
        """Keep what is known so far, before the run is closed without an end event."""

    def repeated(self) -> bool:
        """Return whether an event was heard before: a handler that is listed twice hears everything twice."""
        self.heard += 1
        return self.copies > 1 and self.heard % self.copies != 1

    def is_below(self, other: Run) -> bool:
        """Return whether `other` is the run itself or one above it."""
        run: Run | None = self
        while run is not None and run is not other:
            run = run.parent
        return run is other


_Overdue: TypeAlias = "tuple[Run, str, int | None]"
"""A run, why it is closed, and as of when in nanoseconds since the epoch."""


class Forest:
    """Every run of one tracker that has not ended, or whose root has not.

    What is walked is copied first: garbage collection may close a stream that was left behind, and end runs anywhere.
    """

    def __init__(self, tracker: Tracker, current: Callable[[], Hashable]) -> None:
        self.tracker = ref(tracker)
        self.current = current
        self.runs: dict[Hashable, Run] = {}
        self.ended = 0  # how many have ended since such were forgotten last
        self.invocations: OrderedDict[Invocation, None] = OrderedDict()  # the one quiet for longest comes first
        # Where runs were whose invocation is over, while anybody has their ids: the context of a background task does.
        self.left: WeakKeyDictionary[Any, OpenSpan] = WeakKeyDictionary()
        self.paused: OrderedDict[Hashable, list[tuple[str, int]]] = OrderedDict()
        self.lock = threading.RLock()

    def running(self) -> Run | None:
        """Return the run that the code is in, as the framework tells it."""
        try:
            return self.runs.get(self.current())
        except Exception:  # the host may have put anything there
            return None

    def look_up(self) -> OpenSpan | None:
        """Return the span of the run that the code is in, or was left behind by."""
        run = self.running()
        if run is not None:
            return run.nearest
        tracker = self.tracker()
        if tracker is None or not self.left:
            return None
        return self.left_behind(tracker._recorder.variable.get())  # pyright: ignore[reportPrivateUsage]  # part of core

    def left_behind(self, scope: Scope | None) -> OpenSpan | None:
        """Return the span of the run that left the code behind when its invocation ended.

        Args:
            scope: the current one; None is returned where that was opened inside the run, or by what goes on after it.
        """
        try:
            left = self.left.get(self.current())
        except Exception:  # no id, or anything else
            return None
        if left is None or scope is None or scope.span is None or scope.span is left:
            return left
        around = left.parent
        while around is not None and around is not scope.span:
            around = around.parent
        # What is around the run gives way to it, and so does what the run itself was started after.
        return left if around is not None or left.root.link == scope.span.root.ids else None

    def add(self, run: Run) -> None:
        """Keep a run, within the bounds of count and age."""
        invocation, invocations = run.invocation, self.invocations
        most = run.recorder.settings.max_open_sessions
        overdue: list[_Overdue] = []
        with self.lock:
            self.runs[run.run_id] = run
            invocation.open[run] = None
            invocation.members[run] = None
            invocation.touched = time_ns() if run.span is None else run.span.start
            invocations[invocation] = None
            invocations.move_to_end(invocation)
            if len(invocations) > 1 or len(self.runs) > most:
                overdue = self._forget_overdue(invocation, most, int(run.recorder.settings.session_timeout * 1e9))
        for other, reason, end in overdue:  # outside the lock: the host's own code may run in there
            self.cut(other, reason, "abandoned", end)

    def _forget_overdue(self, newest: Invocation, most: int, longest: int) -> list[_Overdue]:
        """Forget what is beyond the bounds, and return it: it is still to be closed."""
        overdue: list[_Overdue] = []
        if len(self.runs) > most and self.ended > most // 10:  # what a long invocation has done closes no other
            self.ended = 0
            for run in list(self.runs.values()):
                if run.ended:
                    self._forget(run)
        while (oldest := self._oldest(newest)) is not newest:
            if newest.touched - oldest.touched > longest:
                reason = "closed_by_age"
            elif len(self.runs) > most:
                reason = "closed_by_count"
            else:
                return overdue
            # As of the last that was heard of it.
            overdue += [(run, reason, oldest.touched) for run in reversed(list(oldest.members))]
            self._release(oldest)
        if len(self.runs) > most:  # all of one invocation
            for run in list(newest.members)[1:]:
                if len(self.runs) <= most * 9 // 10:  # with some room, or the next start would walk them all again
                    break
                overdue.append((run, "closed_by_count", None))
                self._forget(run)
        return overdue

    def _oldest(self, newest: Invocation) -> Invocation:
        """Return the invocation that has been quiet for longest."""
        for invocation in self.invocations:  # not `next(iter(...))`: in between, garbage collection may end one of them
            return invocation
        return newest  # pragma: no cover  (it is among them)

    def _forget(self, run: Run) -> None:
        run.invocation.members.pop(run, None)
        if self.runs.get(run.run_id) is run:
            del self.runs[run.run_id]

    def cut(self, run: Run, reason: str, outcome: str | None, end: int | None = None) -> None:
        """Close a run that no event will end."""
        if self.ends(run, reason):
            try:
                run.on_close()
            except Exception:
                run.recorder.own_error()
            self.record(run, outcome, None, end)

    def ends(self, run: Run, reason: str | None = None) -> bool:
        """Note that a run ends now, and why where no event tells; return False where it had ended before."""
        invocation = run.invocation
        with self.lock:
            if run.ended:
                return False
            run.ended = True
            self.ended += 1
            if reason is not None:
                run.owner.closed[reason] += 1
            invocation.open.pop(run, None)
            if run.parent is None:
                invocation.ended = True
            if invocation.ended and not invocation.open:
                self._release(invocation)
        return True

    def record(self, run: Run, outcome: str | None, error: Error | None, end: int | None = None) -> None:
        """Record a run that has ended, and keep no more of it than its place."""
        if run.span is not None:
            run.recorder.finish(run.span, outcome, error, end)
            run.span.input = run.span.output = run.span.first_input = run.span.last_output = run.span.fields = None
        if run.unwatch is not None:
            run.unwatch()
            run.unwatch = None

    def _release(self, invocation: Invocation) -> None:
        runs, members = self.runs, list(invocation.members)
        invocation.members.clear()
        self.invocations.pop(invocation, None)
        for run in members:
            if runs.get(run.run_id) is run:
                del runs[run.run_id]
                if (span := run.nearest) is not None:
                    with suppress(TypeError):  # an id that nothing can refer to weakly, such as a text
                        self.left[run.run_id] = span


_forests: WeakKeyDictionary[Tracker, dict[Any, Forest]] = WeakKeyDictionary()


def forest_of(tracker: Tracker, current: Callable[[], Hashable]) -> Forest:
    """Return the forest of a tracker: handlers that share a tracker see each other's runs."""
    forests = _forests.setdefault(tracker, {})
    found = forests.get(current)
    # Of two threads that come here at once, the second takes what the first has put there.
    return found if found is not None else forests.setdefault(current, Forest(tracker, current))


@after_fork
def _renew_locks() -> None:
    """In a forked child: nobody is there to release what another thread held; the parent's runs are parents only."""
    for forests in list(_forests.values()):
        for forest in forests.values():
            forest.lock = threading.RLock()
