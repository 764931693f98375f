"""Sends what waits in a tracker's queue and spool: one worker, and the end of the process."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from rootspan.forks import forked, home
from rootspan.ledger import Ledger
from rootspan.log import log
from rootspan.pipeline.batch import Batch
from rootspan.pipeline.queue import Queue

if TYPE_CHECKING:
    from rootspan.pipeline.shaping import Shaping
    from rootspan.pipeline.store import Store
    from rootspan.settings import Settings
    from rootspan.transport.sink import Sink

__all__ = ["EXIT_SECONDS", "Pipeline"]

_PAUSE: Final = 0.0005  # seconds between two looks at a worker that is just being started
_NAP: Final = 0.2  # seconds in which a crowded queue does not wake the worker again; nor can a flush or the end
_IDLE: Final = 30.0  # seconds without a record after which the worker ends; the next record starts another
_LAST_CHANCE: Final = 1.0  # seconds that a record emitted after the exit handler may wait for another sender
_LEAVE: Final = 0.5  # seconds that an exporter has at the end in any case, to write what it still holds
EXIT_SECONDS: Final = 5.0  # how long a process may take to end for its last delivery
_KEPT_SECONDS: Final = 1.0  # likewise, where a spool holds what is not delivered
_OURS: Final = 0.5  # of these, those that reading what dead processes left may not take from our own records


class _Wake(threading.Event):
    """An event that a signal's handler may set while its very thread does so."""

    def __init__(self) -> None:
        super().__init__()
        self._cond = threading.Condition()  # with a lock that may be taken again


class Pipeline:
    """One tracker's worker, which sends what waits in the queue, and with a spool on the disk.

    Args:
        settings: the tracker's settings.
        shaping: how records become spans, and where those go; a batch is done when each of its sinks took it.
        store: the spool, if there is one.
        on_start: called when a worker was started.

    Attributes:
        queue: what callers put.
        ledger: what became of all of it.
        exit_seconds: how long the end may wait for the last delivery.
        owner: what lives as long as a worker does.
    """

    def __init__(
        self, settings: Settings, shaping: Shaping, store: Store | None, *, on_start: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._shaping = shaping
        self._store = store
        self._sinks: Collection[Sink] = shaping.sinks if store is None else store.sinks
        self._on_start = on_start
        self.exit_seconds = EXIT_SECONDS if store is None else _KEPT_SECONDS
        self.owner: object = None
        self._closed: str | None = "disabled" if settings.disabled else None  # why nothing more is taken
        self._all_delivered = True if settings.disabled else None  # what the end came to
        self.queue = Queue(settings, shaping, store, self._attend)
        self._start_afresh()
        if store is not None and self._closed is None and store.has_orphans():  # they do not wait for a record
            self._start()

    def _start_afresh(self) -> None:
        """Set what a forked child must not share with its parent."""
        self.ledger = Ledger(self.queue, self._settings.on_loss, self._settings.unchosen)
        self.queue.start_afresh(self.ledger)
        if self._store is not None:
            self._store.start_afresh(self.ledger)
        self._batch: Batch | None = None
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._wake = _Wake()
        self._ending = threading.RLock()  # held by who ends it; a signal's handler may do so in the midst of that
        self._hurry = False  # a flush waits
        self._failures = 0  # attempts that left something to send
        self._until = math.inf  # monotonic seconds from which on no attempt is begun; none at all once the last failed

    # The thread

    def _attend(self) -> None:
        """See to it that a worker runs; where the queue is crowded, wake it, and drop the oldest beyond the bound."""
        queue = self.queue
        if queue.size > queue.crowded:
            queue.shorten()
            if not self._wake.is_set():
                self._wake.set()
        if queue.worker is None:
            self._start()

    def _start(self) -> None:
        if self._closed is not None:
            self._refuse(self._closed)
            return
        # Made outside the lock: a collection in here may run a handle's `__del__`, which records as well.
        worker = threading.Thread(target=self._run, name="rootspan-worker", daemon=True)
        # Never waits: a signal's handler may record while this very thread is in here. Who holds it sees the record.
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self.queue.worker is not None:
                return
            self.queue.worker = worker
        finally:
            self._lock.release()
        try:
            worker.start()
        except RuntimeError as error:
            self.queue.worker = None
            if "interpreter shutdown" in str(error):
                self.end()
                self._refuse("exit")
            return  # otherwise there are too many threads just now: the next record tries again
        self._on_start()

    def _restart(self) -> None:
        """See to it that something is sent although no thread could be had, or it was killed."""
        if self.queue.worker is None and self._closed is None and self._waiting():
            self._start()

    def _refuse(self, reason: str) -> None:
        """Settle what was recorded after the end: sent at once while the process exits, otherwise counted."""
        if reason == "exit" and self._until > -math.inf and self._sending.acquire(timeout=_LAST_CHANCE):
            try:
                self._until = time.monotonic() + _LAST_CHANCE
                self._turn()
            except Exception:
                log(logging.DEBUG, "the last delivery failed", exc_info=True)
            finally:
                self._give_up()
                self._sending.release()
        else:
            self._discard("shutdown" if reason == "exit" else reason)
        if reason == "shutdown":  # at exit Python may die of a line that a daemon thread writes
            self.ledger.report()

    def _discard(self, reason: str) -> None:
        """Count everything that waits here as lost."""
        self.ledger.lose(self.ledger.untaken, self.queue.clear(), reason)
        batch, self._batch = self._batch, None
        if batch is not None:
            left, loss = batch.give_up(), batch.loss(reason)
            if loss is not None:
                self.ledger.lose(batch.account, left, loss)

    def stats(self) -> dict[str, Any]:
        """Return the counters; they add up: recorded = delivered + queued + spooled + dropped.

        With a spool, `recovered` holds those of what dead processes left, which add up for themselves.
        """
        if not home[0]:
            forked()
        stats = self.ledger.stats()
        return {**stats, "recovered": self.ledger.recovery()} if self._store else stats

    def flush(self, timeout: float) -> bool:
        """Wait until everything recorded so far is settled; return whether it was within `timeout` seconds."""
        if not home[0]:
            forked()
        ledger, failures = self.ledger, self._failures
        target = ledger.made.total
        deadline = time.monotonic() + timeout
        if threading.current_thread() is self.queue.worker:
            return ledger.settled >= target
        self._hurry = True
        self._wake.set()
        self._restart()
        with ledger.changed:
            while ledger.settled < target:
                left = deadline - time.monotonic()
                if left <= 0 or self.queue.worker is None:
                    return False
                if ledger.unheard and self._failures > failures:
                    return False
                ledger.changed.wait(min(left, 0.5))
        return True

    def shutdown(self, timeout: float, at_exit: bool = False) -> bool:
        """Deliver what waits within `timeout` seconds, count what is lost then, and stop the worker; once.

        At exit what only waits on the disk is waited for a second at most; the next process sends the rest. Who comes
        while another thread is in here waits for that one, and at exit has the last word.
        """
        if at_exit and not self.queue.records:
            timeout = min(timeout, self.exit_seconds)
        deadline = time.monotonic() + timeout
        ending = self._ending  # once: a fork makes another one
        alone = ending.acquire(timeout=0.0 if threading.current_thread() is self.queue.worker else timeout)
        try:
            if self._all_delivered is None and (alone or at_exit):
                self._end(deadline, at_exit)
        finally:
            if alone:
                ending.release()
        return bool(self._all_delivered)

    def _end(self, deadline: float, at_exit: bool) -> None:
        self._restart()
        self._until = deadline
        self._closed = self._closed or ("exit" if at_exit else "shutdown")
        if not at_exit:  # what is recorded behind the exit handler is still worth a place on the disk
            self.queue.store = None
        self._wake.set()
        worker = self.queue.worker
        if worker is not None and worker is not threading.current_thread():
            self._join(worker, deadline)
        self.queue.worker = None
        # Another thread that records just now sends that by itself; who hangs is not waited for, nor who calls.
        left = 0.0 if worker is threading.current_thread() else max(0.0, deadline - time.monotonic())
        idle = self._sending.acquire(timeout=left)
        try:
            # What came behind the worker's last look, and saw it still there; or had none that could try it.
            if idle and (worker is None or self._batch is None):
                self._guarded_turn()
            self._give_up()
        finally:
            if idle:
                self._sending.release()
        self.ledger.report(last=True)
        if worker is None or not worker.is_alive():  # a hanging sink keeps its connection; the thread is a daemon
            for sink in self._sinks:
                sink.close(max(deadline, time.monotonic() + _LEAVE))
        if self._store is not None:
            self._store.close(last=at_exit)
        settled = self.ledger.settled >= self.ledger.made.total  # nothing is on the disk, or still in a hook's hands
        self._all_delivered = settled and not self.ledger.dropped()["shutdown"]

    def _give_up(self) -> None:
        """Count what still waits as lost; then it is of no use to try any more."""
        if self._waiting():
            self._until = -math.inf
        self._discard("shutdown")

    def _join(self, worker: threading.Thread, deadline: float) -> None:
        while True:
            try:
                worker.join(max(0.0, deadline - time.monotonic()))
                return
            except RuntimeError:  # another thread is just starting it
                if self.queue.worker is not worker or time.monotonic() > deadline:
                    return
                time.sleep(_PAUSE)

    def after_fork(self) -> None:
        """Start empty in a child: what waits is the parent's."""
        self._start_afresh()
        for sink in self._sinks:
            sink.forget()

    def end(self) -> None:
        """Send at once what is recorded from now on: the exit handler has run."""
        self._closed = self._closed or "exit"

    # The worker's side

    def _waiting(self) -> bool:
        """Return whether there is something to send; called with a lock held."""
        if self.queue.records or self._batch is not None:
            return True
        return self._store is not None and self._store.waiting

    def _run(self) -> None:
        try:
            self._work()
        finally:
            if self.queue.worker is threading.current_thread():  # something killed it: the next record starts another
                self.queue.worker = None

    def _work(self) -> None:
        quiet_since = time.monotonic()
        while True:
            if self._store is not None:  # first of all, for a process may be over by the time that it has waited
                self._store.look_around(lambda: time.monotonic() > self._until - _OURS)
            self._wake.wait(self._settings.flush_interval)
            self._wake.clear()
            closing = self._closed is not None
            if self._waiting():
                quiet_since = time.monotonic()
                with self._sending:
                    self._guarded_turn()
            self.ledger.report()
            if closing or time.monotonic() - quiet_since > _IDLE:
                with self._lock:
                    self.queue.worker = None
                    # A record whose caller saw the worker still there must not wait for the next one.
                    if self._waiting() and not closing:
                        self.queue.worker = threading.current_thread()
                        continue
                if self._waiting() and not closing:  # its caller found the lock taken, after the look
                    self._start()
                with self.ledger.changed:
                    self.ledger.changed.notify_all()
                for sink in self._sinks:
                    sink.release()
                return

    def _guarded_turn(self) -> None:
        try:
            self._turn()
        except BaseException as error:  # an exporter may raise anything
            interrupted = isinstance(error, (KeyboardInterrupt, SystemExit))
            if interrupted and threading.current_thread() is threading.main_thread():
                raise  # of a signal's handler: the batch stays for the exit handler
            line = "rootspan's worker met an error of its own; it goes on with the next batch"
            log(logging.ERROR, line, exc_info=True)
            batch, self._batch = self._batch, None
            if batch is not None:
                left = batch.give_up()
                self._settle(batch, left, {"internal_error": left})

    def _turn(self) -> None:
        """Send what was recorded up to now, in a hurry or while closing all there is, or until nobody takes it then.

        What comes meanwhile makes the next batch: to send it at once would send few at a time, over and over.
        """
        goal = self.ledger.made.total
        while time.monotonic() < self._until:
            batch = self._batch or self._fill()
            if batch is None:
                return
            if batch.size == 0:  # nothing of it is in the sample
                self._batch = None
                continue
            if self._batch is not batch:  # given up by `shutdown` meanwhile, which counted what was in it then
                self.ledger.lose(batch.account, batch.give_up(), "shutdown")
                return
            self._hurry = False
            wait = self._attempt(batch)
            if wait is not None:
                if self._closed is None:
                    self._pause(wait)
                elif batch.later and time.monotonic() + wait < self._until:
                    time.sleep(wait)
                else:
                    return
            elif not (self._pressed or self._is_behind(goal)):
                return

    @property
    def _pressed(self) -> bool:
        """Whether a flush or the end waits."""
        return self._hurry or self._closed is not None

    def _is_behind(self, goal: int) -> bool:
        """Return whether some of the first `goal` records is not settled, or something that dead processes left."""
        return self.ledger.settled < goal or (self._store is not None and self._store.adopted)

    def _pause(self, wait: float) -> None:
        """Wait before the next attempt; a flush or the end cuts it short."""
        deadline = time.monotonic() + wait
        while (left := deadline - time.monotonic()) > 0 and not self._pressed:
            if self._wake.wait(left) and not self._pressed:
                self._wake.clear()  # crowded: the callers drop the oldest meanwhile
                self.ledger.report()
                time.sleep(min(left, self._settings.flush_interval, _NAP))

    def _fill(self) -> Batch | None:
        """Return the next batch, from the queue or else from the disk; None where nothing can be had."""
        if not self.queue.records:
            self._batch = None if self._store is None else self._store.batch()
            return self._batch
        batch = self._batch = Batch(self._shaping.sinks, self.ledger.memory)
        self.queue.fill(batch)
        return batch

    def _attempt(self, batch: Batch) -> float | None:
        settled, dropped, wait = batch.attempt(self._until)
        if self._batch is not batch:  # given up and counted by `shutdown` while the sink hung
            return None
        if batch.todo:
            self._failures += 1
        else:
            self._batch = None
        self._settle(batch, settled, dropped)
        return wait

    def _settle(self, batch: Batch, settled: int, dropped: Mapping[str, int]) -> None:
        batch.settle(settled)  # before a flush hears of it: the process may die behind it
        if self._store is not None and not batch.todo:
            self._store.settle_elsewhere(batch.span_ids)
        self.ledger.settle(batch.account, settled, dropped)
