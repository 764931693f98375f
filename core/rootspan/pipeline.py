"""Brings records from the caller's thread to their sinks: one byte-bounded queue and one worker."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from rootspan.batch import Batch
from rootspan.forks import forked, home
from rootspan.ids import new_trace_id
from rootspan.ledger import Ledger
from rootspan.log import log
from rootspan.record import TRACE, Record, SpanData
from rootspan.sink import Sink
from rootspan.weights import weigh

if TYPE_CHECKING:
    from rootspan.settings import Settings
    from rootspan.shortcut import Short

__all__ = ["EXIT_SECONDS", "Pipeline"]

_SLICE: Final = 0.001  # seconds of encoding in one go, after which the host gets the GIL
_PAUSE: Final = 0.0005  # seconds between two slices
_BATCH_BYTES: Final = 4 << 20
_NAP: Final = 0.2  # seconds in which a crowded queue does not wake the worker again; nor can a flush or the end
_IDLE: Final = 30.0  # seconds without a record after which the worker ends; the next record starts another
_LAST_CHANCE: Final = 1.0  # seconds that a record emitted after the exit handler may wait for another sender
_CROWDED: Final = 1 << 20  # queued bytes from which on the caller wakes the worker
EXIT_SECONDS: Final = 5.0  # how long a process may take to end for its last delivery


class _Wake(threading.Event):
    """An event that a signal's handler may set while its very thread does so."""

    def __init__(self) -> None:
        super().__init__()
        self._cond = threading.Condition()  # with a lock that may be taken again


class Pipeline:
    """One tracker's queue, worker and sinks.

    Args:
        settings: the tracker's settings.
        shape: turns a record into a span; runs on the worker.
        sinks: where the spans go; a batch is done when each of them took it.
        shorten: makes the short way of plain records to these sinks, where there is one.
        on_start: called when a worker was started.
    """

    def __init__(
        self,
        settings: Settings,
        shape: Callable[[Record], SpanData],
        sinks: Sequence[Sink],
        *,
        shorten: Callable[[Sequence[Sink]], Short | None],
        on_start: Callable[[], None],
    ) -> None:
        self._shape = shape
        self._sinks = sinks
        self._short = shorten(sinks)
        self._on_start = on_start
        self._settings = settings
        self.crowded = min(_CROWDED, settings.max_queue_bytes)
        self._sample_below = None if settings.sample_rate >= 1.0 else int(settings.sample_rate * 2**32)
        self.owner: object = None
        self.spools = False  # whether records go to the disk, and interactions are announced there when they begin
        self._closed: str | None = "disabled" if settings.disabled else None
        self._start_afresh()

    def _start_afresh(self) -> None:
        """Set what a forked child must not share with its parent."""
        self.records: deque[tuple[Any, ...]] = deque()
        self.size = 0
        self.ledger = Ledger(self.records, self._settings.on_loss, self._settings.unchosen)
        self.count, self._overflow = self.ledger.made.add, self.ledger.overflowed.add
        self._batch: Batch | None = None
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._wake = _Wake()
        self.worker: threading.Thread | None = None
        self._hurry = False
        self._hopeless = False  # the last attempt of all failed: nothing is taken any more
        self._failures = 0  # attempts that left something to send
        self._until = math.inf  # monotonic seconds after which the end begins no further attempt

    # The caller's side

    def put(self, record: tuple[Any, ...], size: int) -> None:
        """Queue a record of about `size` bytes; never blocks and never raises."""
        self.count()
        self.records.append(record)
        self.size = size = self.size + size
        if size > self.crowded or self.worker is None:
            self.attend()

    def attend(self) -> None:
        """See to it that a worker runs, and wake it where the queue is crowded."""
        if self.size > self.crowded:
            self._crowded()
        if self.worker is None:
            self._start()

    def _crowded(self) -> None:
        while self.size > self._settings.max_queue_bytes:
            try:
                record = self.records.popleft()
            except IndexError:
                self.size = 0  # threads lost steps of it
                break
            self._overflow()
            size = weigh(record)  # before `self.size` is read: another thread may run in there
            self.size -= size
        if not self._wake.is_set():
            self._wake.set()

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
            if self.worker is not None:
                return
            self.worker = worker
        finally:
            self._lock.release()
        try:
            worker.start()
        except RuntimeError as error:
            self.worker = None
            if "interpreter shutdown" in str(error):
                self.end()
                self._refuse("exit")
            return  # otherwise there are too many threads just now: the next record tries again
        self._on_start()

    def _restart(self) -> None:
        """See to it that something is sent although no thread could be had, or it was killed."""
        if self.worker is None and self._closed is None and self._waiting():
            self._start()

    def _refuse(self, reason: str) -> None:
        """Settle what was recorded after the end: sent at once while the process exits, otherwise counted."""
        if reason == "exit" and not self._hopeless and self._sending.acquire(timeout=_LAST_CHANCE):
            try:
                self._hurry = True
                self._until = time.monotonic() + _LAST_CHANCE
                self._turn()
            except Exception:
                log(logging.DEBUG, "the last delivery failed", exc_info=True)
            finally:
                self._hopeless = self._waiting()
                self._sending.release()
        self._discard("shutdown" if reason == "exit" else reason)
        if reason == "shutdown":  # at exit Python may die of a line that a daemon thread writes
            self.ledger.report()

    def _discard(self, reason: str) -> None:
        """Count everything that waits here as lost."""
        lost = 0
        with suppress(IndexError):
            while True:
                self.records.popleft()
                lost += 1
        self.size = 0
        self.ledger.lose(self.ledger.untaken, lost, reason)
        batch, self._batch = self._batch, None
        if batch is not None:
            self.ledger.lose(batch.account, batch.give_up(), reason)

    def stats(self) -> dict[str, Any]:
        """Return the counters; they add up: recorded = delivered + queued + spooled + dropped."""
        if not home[0]:
            forked()
        return self.ledger.stats()

    def flush(self, timeout: float) -> bool:
        """Wait until everything recorded so far is settled; return whether it was within `timeout` seconds."""
        if not home[0]:
            forked()
        ledger, failures = self.ledger, self._failures
        target = ledger.made.total
        deadline = time.monotonic() + timeout
        if threading.current_thread() is self.worker:
            return ledger.settled >= target
        self._hurry = True
        self._wake.set()
        self._restart()
        with ledger.changed:
            while ledger.settled < target:
                left = deadline - time.monotonic()
                if left <= 0 or self.worker is None:
                    return False
                if ledger.unheard and self._failures > failures:
                    return False
                ledger.changed.wait(min(left, 0.5))
        return True

    def shutdown(self, timeout: float, at_exit: bool = False) -> bool:
        """Deliver what is queued within `timeout` seconds, count what could not be, and stop the worker."""
        if self._closed is not None:
            return True
        self._restart()
        self._until = deadline = time.monotonic() + timeout
        self._closed = "exit" if at_exit else "shutdown"
        self._hurry = True
        self._wake.set()
        worker = self.worker
        while worker is not None and worker is not threading.current_thread():
            try:
                worker.join(max(0.0, deadline - time.monotonic()))
                break
            except RuntimeError:  # another thread is just starting it
                if self.worker is not worker or time.monotonic() > deadline:
                    break
                time.sleep(_PAUSE)
        self.worker = None
        self._hopeless = self._waiting()
        self._discard("shutdown")
        self.ledger.report(last=True)
        if worker is None or not worker.is_alive():  # a hanging sink keeps its connection; the thread is a daemon
            for sink in self._outlets():
                sink.close()
            return not self.ledger.dropped()["shutdown"]
        return False

    def after_fork(self) -> None:
        """Start empty in a child: what the parent queued is the parent's."""
        self._start_afresh()
        for sink in self._outlets():
            sink.forget()

    def end(self) -> None:
        """Send at once what is recorded from now on: the exit handler has run."""
        self._closed = self._closed or "exit"

    # What a spool does otherwise

    exit_seconds: float = EXIT_SECONDS
    """How long the end may wait for the last delivery."""

    def begin(self, record: tuple[Any, ...]) -> None:
        """Keep what is to be sent of an interaction if this process dies before it finishes."""

    def _outlets(self) -> Iterable[Sink]:
        return self._sinks

    def _waiting(self) -> bool:
        """Return whether there is something to send; called with a lock held."""
        return bool(self.records) or self._batch is not None

    def _look_around(self) -> None:
        """Do what is to be done now and then on the worker."""

    def _is_behind(self, goal: int) -> bool:
        """Return whether some of the first `goal` records is not settled, or something else that cannot wait."""
        return self.ledger.settled < goal

    # The worker's side

    def _run(self) -> None:
        try:
            self._work()
        finally:
            if self.worker is threading.current_thread():  # something killed it: the next record starts another
                self.worker = None

    def _work(self) -> None:
        quiet_since = time.monotonic()
        while True:
            self._wake.wait(self._settings.flush_interval)
            self._wake.clear()
            closing = self._closed is not None
            self._look_around()
            if self._waiting():
                quiet_since = time.monotonic()
                with self._sending:
                    self._guarded_turn()
            self.ledger.report()
            if closing or time.monotonic() - quiet_since > _IDLE:
                with self._lock:
                    self.worker = None
                    # A record whose caller saw the worker still there must not wait for the next one.
                    if self._waiting() and not closing:
                        self.worker = threading.current_thread()
                        continue
                if self._waiting() and not closing:  # its caller found the lock taken, after the look
                    self._start()
                with self.ledger.changed:
                    self.ledger.changed.notify_all()
                for sink in self._outlets():
                    sink.release()
                return

    def _guarded_turn(self) -> None:
        try:
            self._turn()
        except BaseException:  # an exporter may even raise SystemExit
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
        while self._waiting() and not self._hopeless:
            batch = self._batch or self._fill()
            if batch.size == 0:
                self._batch = None
                if not self.records:
                    return
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
            elif not (self._hurry or self._closed or self._is_behind(goal)):
                return

    def _pause(self, wait: float) -> None:
        """Wait before the next attempt; a flush or the end cuts it short."""
        deadline = time.monotonic() + wait
        while (left := deadline - time.monotonic()) > 0 and not self._hurry and self._closed is None:
            if self._wake.wait(left) and not self._hurry:
                self._wake.clear()  # crowded: the callers drop the oldest meanwhile
                self.ledger.report()
                time.sleep(min(left, self._settings.flush_interval, _NAP))

    def _fill(self) -> Batch:
        ledger, most = self.ledger, self._settings.batch_size
        batch = self._batch = Batch(self._sinks, ledger.memory)
        while self.records and batch.size < most and batch.bytes < _BATCH_BYTES:
            until = time.monotonic() + _SLICE
            while batch.size < most and time.monotonic() < until:
                try:
                    record = self.records.popleft()
                except IndexError:
                    break
                ledger.taken += 1
                self._take(batch, record)
            if not self.records:
                self.size = 0
                break
            time.sleep(_PAUSE)
        return batch

    def _take(self, batch: Batch, record: tuple[Any, ...]) -> None:
        size = weigh(record)  # before `self.size` is read: another thread may run in there
        self.size -= size
        trace = record[TRACE] or new_trace_id()
        if self._is_out(trace):
            self._settle(batch, 1, {"sampled": 1})
            return
        try:
            if self._short is not None and (encoded := self._short(record, trace)) is not None:
                batch.put(encoded)
            else:
                batch.add(self._shape(Record.of(record, trace)))
        except BaseException as error:  # a hook may ask for what a cancelled task came to
            self._settle(batch, 1, {"encoding": 1})
            if isinstance(error, KeyboardInterrupt):
                raise
            log(logging.ERROR, "rootspan could not encode one record; it is counted as dropped", exc_info=True)

    def _is_out(self, trace: str) -> bool:
        """Return whether a trace is not in the sample."""
        return self._sample_below is not None and int(trace[:8], 16) >= self._sample_below

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
        self.ledger.settle(batch.account, settled, dropped)
