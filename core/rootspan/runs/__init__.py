"""The contract's second door: trees of runs keyed by run id, never by a context variable, bounded in count and age."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from hashlib import blake2b
from time import time_ns
from typing import TYPE_CHECKING, Any, Final

from rootspan import default_tracker
from rootspan.arguments import Error
from rootspan.record import NOBODY, Identity
from rootspan.recorder import Recorder
from rootspan.runs.forest import Run, forest_of
from rootspan.scope import Scope, inside
from rootspan.tracker import Tracker

if TYPE_CHECKING:
    import asyncio

__all__ = ["Run", "RunTree", "trace_id_for"]

_MOST_WAITING: Final = 100  # pauses of one thread
_SCATTERED: Final = ("failure", "cancelled", "abandoned")  # ends after which nothing below will be told to end


def trace_id_for(run_id: Any) -> str:
    """Return the trace id of a run that is a root, hours later and in any process.

    Args:
        run_id: the framework's run id: a UUID, or its text.

    Returns:
        32 hexadecimal characters.

    Example:
        >>> len(trace_id_for("0f9d3a52-7f0e-4b52-9d6c-3b1f6d0d9f11"))
        32
    """
    # Hashed, because sampling reads the first digits, which in a UUID of version 7 are the time.
    return blake2b(str(run_id).encode("utf-8", "replace"), digest_size=16).hexdigest()


def _encloses(outer: Scope, scope: Scope) -> bool:
    """Return whether a scope is another one, or was entered in it."""
    inner: Scope | None = scope
    while inner is not None and not inner.like(outer):
        inner = inner.outer
    return inner is not None


class RunTree:
    """The runs of one handler; what it does is safe from any thread and any task.

    Args:
        tracker: who records; the default tracker if None.
        current: returns the id of the run that the code is in, as the framework tells it, or None.
    """

    def __init__(self, tracker: Tracker | None, current: Callable[[], Hashable]) -> None:
        self.tracker = tracker or default_tracker
        reasons = ("closed_by_age", "closed_by_count", "closed_by_parent", "closed_by_task")
        self.closed: dict[str, int] = dict.fromkeys(reasons, 0)
        self._forest = forest_of(self.tracker, current)
        self._asks: Recorder | None = None  # the one that asks the forest where the running code is

    @property
    def recorder(self) -> Recorder:
        """What records, as configured now."""
        return self.tracker._recorder  # pyright: ignore[reportPrivateUsage]  # the contract is part of core

    def is_known(self, run_id: Hashable) -> bool:
        """Return whether the run is open already: its handler is listed twice, or there are two of them."""
        run = self._forest.runs.get(run_id)
        if run is None or run.ended:
            return False
        if run.owner is self:
            run.copies += 1
        return True

    def find(self, run_id: Hashable) -> Run | None:
        """Return an open run that this handler started, or None: nothing to do."""
        run = self._forest.runs.get(run_id)
        return run if run is not None and run.owner is self and not run.ended else None

    def parent(self, parent_id: Hashable) -> Run | None:
        """Return the run above one that starts: the one it names, else the one that the code is in."""
        return self._forest.running() if parent_id is None else self._forest.runs.get(parent_id)

    def start(self, run_id: Hashable, parent: Run | None, kind: str, name: str, identity: Identity = NOBODY) -> Run:
        """Open a run and return it.

        Args:
            run_id: the framework's id.
            parent: what `parent` returned.
            kind: one of `rootspan.record.Kind`.
            name: the span name.
            identity: what is known of user and conversation, beside what is inherited.
        """
        run = Run(run_id, parent, self)
        self.open(run, kind, name, identity)
        return run

    def open(
        self,
        run: Run,
        kind: str,
        name: str,
        identity: Identity = NOBODY,
        shown: bool = True,
        task: asyncio.Task[Any] | None = None,
    ) -> None:
        """Open a run of the adapter's own class; a root is isolated, or a child of what is around it.

        Args:
            run: the run, made for this tree.
            kind: one of `rootspan.record.Kind`.
            name: the span name.
            identity: what is known of user and conversation, beside what is inherited.
            shown: False for a run that gets no span; its children hang below its parent.
            task: the task that awaits it; the run is closed when that ends and no event did it.
        """
        recorder = run.recorder
        if recorder is not self._asks:
            recorder.look_up_with(self._forest.look_up)
            self._asks = recorder
        scope = self._scope(recorder, run.parent)
        if shown:
            above = None if scope is None else scope.span
            trace = trace_id_for(run.run_id) if above is None or above.finished else None  # only a root needs one
            run.span = recorder.start(kind, recorder.name(name), scope, identity, trace)
            run.span.adopts = run.span.parent is None
            run.nearest = run.span
        else:
            run.scope = scope
            run.nearest = None if run.parent is None else run.parent.nearest
        self._forest.add(run)
        if task is not None:
            self._watch(run, task)

    def _scope(self, recorder: Recorder, parent: Run | None) -> Scope | None:
        scope = recorder.variable.get()
        if parent is None:
            left = self._forest.left_behind(scope)
            return scope if left is None else inside(left, None, scope)
        around = parent.scope
        if around is None and (span := parent.nearest) is not None:
            around = parent.scope = inside(span)
        if around is None or scope is None:
            return scope or around
        if around.span is None:  # of a hidden root
            return around if _encloses(scope, around) else scope
        # What was opened inside that run is the place, and nothing else that is current here.
        return scope if scope.span is not None and scope.span.is_in(around.span) else around

    def _watch(self, run: Run, task: asyncio.Task[Any]) -> None:
        """Close a call whose task ends and that no event ended: a cancelled call of a model tells nobody."""

        def done(task: asyncio.Task[Any]) -> None:
            if task.cancelled() or not run.streams:
                self._forest.cut(run, "closed_by_task", "cancelled")

        task.add_done_callback(done)
        run.unwatch = lambda: task.remove_done_callback(done)  # a task may live for long

    def end(self, run: Run, outcome: str | None = None, error: Error | None = None) -> None:
        """End a run and record it; what is open below one that did not end well ends with it.

        A second call changes nothing.
        """
        if self._forest.ends(run):
            if outcome in _SCATTERED and (run.scope is not None or run.span is None):  # else nothing was below it
                for other in reversed(list(run.invocation.open)):
                    if other.is_below(run):
                        cut = "abandoned" if outcome == "failure" else outcome
                        self._forest.cut(other, "closed_by_parent", cut)
            self._forest.record(run, outcome, error)

    def pause(self, key: Hashable, run: Run) -> None:
        """Note that a run waits for somebody, so that the one that goes on can be linked to it."""
        paused = self._forest.paused
        if run.span is not None:
            with self._forest.lock:
                waiting = paused.setdefault(key, [])
                waiting.append((run.span.ids, time_ns()))
                del waiting[:-_MOST_WAITING]
                while len(paused) > run.recorder.settings.max_open_sessions:
                    paused.popitem(last=False)

    def resume(self, key: Hashable) -> tuple[str, float] | None:
        """Return the ids of the run that was paused under that key last, and for how many seconds; once."""
        with self._forest.lock:
            waiting = self._forest.paused.get(key)
            if not waiting:
                return None
            ids, since = waiting.pop()
            if not waiting:
                del self._forest.paused[key]
        return ids, (time_ns() - since) / 1e9

    def stats(self) -> dict[str, int]:
        """Return how many runs are open, and how many were closed for which reason without an end event."""
        with self._forest.lock:
            own = [run for run in list(self._forest.runs.values()) if run.owner is self]
        return {"open": sum(not run.ended for run in own), "kept": len(own), **self.closed}
