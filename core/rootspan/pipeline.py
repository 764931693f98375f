"""Brings records from the caller's thread to their sinks: one byte-bounded queue and one worker."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from rootspan.batch import Batch, Sink
from rootspan.forks import forked, home
from rootspan.freeze import weight
from rootspan.ids import new_trace_id
from rootspan.log import log
from rootspan.record import Record, SpanData
from rootspan.segment import reading

if TYPE_CHECKING:
    from rootspan.shortcut import Short

__all__ = ["CROWDED", "EXIT_SECONDS", "RECORD_BYTES", "Pipeline", "weigh"]

_SLICE: Final = 0.001  # seconds of encoding in one go, after which the host gets the GIL
_PAUSE: Final = 0.0005  # seconds between two slices
_BATCH_BYTES: Final = 4 << 20
_QUIET: Final = 60.0  # seconds between two reports of losses
_NAP: Final = 0.2  # seconds in which a crowded queue does not wake the worker again; nor can a flush or the end
_IDLE: Final = 30.0  # seconds without a record after which the worker ends; the next record starts another
_LAST_CHANCE: Final = 1.0  # seconds that a record emitted after the exit handler may wait for another sender
_WHOLE: Final = len(Record._fields)
_UNWEIGHED: Final = frozenset({list, MappingProxyType})  # events; what many records share
CROWDED: Final = 1 << 20  # queued bytes from which on the caller wakes the worker
RECORD_BYTES: Final = 900  # about what a record holds beside its input, output and properties
EXIT_SECONDS: Final = 5.0  # how long a process may take to end for its last delivery
_EXPECTED: Final = frozenset({"sampled", "disabled"})  # not recorded because the configuration says so


class _Wake(threading.Event):
    """An event that a signal's handler may set while its very thread does so."""

    def __init__(self) -> None:
        super().__init__()
        self._cond = threading.Condition()  # with a lock that may be taken again


class Pipeline:
    """One tracker's queue, worker and sinks.

    Args:
        shape: turns a record into a span; runs on the worker.
        sinks: where the spans go; a batch is done when each of them took it.
        limit: bytes that the queue may hold; beyond it the oldest records are dropped and counted.
        interval: seconds between two looks at the queue.
        batch_size: spans in one request.
        sample_rate: share of the traces, 0.0 to 1.0, that is sent.
        on_loss: called with a reason and how many records were lost for it since the last call; on the worker, or by
            what records after the end.
        on_start: called when a worker was started.
        shorten: makes the short way of plain records to these sinks, where there is one.
        disabled: record nothing, and count it.
        unchosen: nobody chose the endpoint; while nothing was ever delivered to it, losses are no warning.
    """

    def __init__(
        self,
        shape: Callable[[Record], SpanData],
        sinks: Sequence[Sink],
        *,
        limit: int,
        interval: float,
        batch_size: int,
        sample_rate: float,
        on_loss: Callable[[str, int], object] | None,
        on_start: Callable[[], None],
        shorten: Callable[[Sequence[Sink]], Short | None],
        disabled: bool,
        unchosen: bool,
    ) -> None:
        self._shape = shape
        self._sinks = sinks
        self._short = shorten(sinks)
        self._limit = limit
        self._interval = interval
        self._batch_size = batch_size
        self._sample_below = None if sample_rate >= 1.0 else int(sample_rate * 2**32)
        self._on_loss = on_loss
        self._on_start = on_start
        self._unchosen = unchosen
        self.owner: object = None
        self.spools = False  # whether records go to the disk, and interactions are announced there when they begin
        self._closed: str | None = "disabled" if disabled else None
        self._start_afresh()

    def _start_afresh(self) -> None:
        """Set what a forked child must not share with its parent."""
        self.records: deque[tuple[Any, ...]] = deque()
        self.size = 0
        made, overflowed = count(), count()
        self._made, self.count = made, made.__next__
        self._overflowed, self._overflow = overflowed, overflowed.__next__
        self._delivered = 0
        self._dropped: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()
        self._report_at = 0.0
        self._batch: Batch | None = None
        self._held = 0  # records that the worker took and that no sink has settled
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        self._settled = threading.Condition()
        self._wake = _Wake()
        self.worker: threading.Thread | None = None
        self._hurry = False
        self._hopeless = False  # the last attempt of all failed
        self._failures = 0  # attempts that left something to send
        self._until: float | None = None  # monotonic seconds after which the end begins no further attempt

    # The caller's side

    def put(self, record: tuple[Any, ...], size: int) -> None:
        """Queue a record of about `size` bytes; never blocks and never raises."""
        self.count()
        self.records.append(record)
        self.size = size = self.size + size
        if size > CROWDED or self.worker is None:
            self.attend()

    def attend(self) -> None:
        """See to it that a worker runs, and wake it where the queue is crowded."""
        if self.size > CROWDED:
            self._crowded()
        if self.worker is None:
            self._start()

    def _crowded(self) -> None:
        while self.size > self._limit:
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
            self._report()

    def _discard(self, reason: str) -> None:
        lost = 0
        with suppress(IndexError):
            while True:
                self.records.popleft()
                lost += 1
        batch, self._batch = self._batch, None
        if batch is not None:
            size = batch.size  # once: the worker may still be filling it, and counts what comes after this
            lost += size - batch.settled
            self._held -= size - batch.settled
            batch.settled = size
        self.size = 0
        if lost:
            with self._settled:
                self._dropped[reason] += lost
                self._settled.notify_all()

    def drop(self, reason: str) -> None:
        """Count a record that never came to be one."""
        self.count()
        with self._settled:
            self._dropped[reason] += 1

    def stats(self) -> dict[str, Any]:
        """Return the counters; they add up: recorded = delivered + queued + spooled + dropped."""
        if not home[0]:
            forked()
        recorded, result = reading(self._made), self._counters()
        for _ in range(50):
            places = result["delivered"], result["queued"], result["spooled"], *result["dropped"].values()
            if recorded == sum(places) and min(places) >= 0:
                break
            time.sleep(0.0005)  # a record is just moving from one place to the next
            recorded, result = reading(self._made), self._counters()
        return {"recorded": recorded, **result}

    def _counters(self) -> dict[str, Any]:
        dropped = dict(self._dropped)
        overflowed = reading(self._overflowed)
        if overflowed:
            dropped["queue_full"] = overflowed
        return {
            "delivered": self._delivered,
            "queued": len(self.records) + self._held,
            "spooled": 0,
            "dropped": dropped,
        }

    def flush(self, timeout: float) -> bool:
        """Wait until everything recorded so far is settled; return whether it was within `timeout` seconds."""
        if not home[0]:
            forked()
        target, failures = reading(self._made), self._failures
        deadline = time.monotonic() + timeout
        if threading.current_thread() is self.worker:
            return self._all_settled(target)
        self._hurry = True
        self._wake.set()
        self._restart()
        with self._settled:
            while not self._all_settled(target):
                left = deadline - time.monotonic()
                if left <= 0 or self.worker is None:
                    return self._all_settled(target)
                if self._unchosen and not self._delivered and self._failures > failures:
                    return False  # nobody listens where nobody said that anybody would
                self._settled.wait(min(left, 0.5))
        return True

    def _all_settled(self, target: int) -> bool:
        return self._delivered + sum(self._dropped.values()) + reading(self._overflowed) >= target

    def shutdown(self, timeout: float, at_exit: bool = False) -> bool:
        """Deliver what is queued within `timeout` seconds, count what could not be, and stop the worker."""
        if self._closed is not None:
            return True
        self._restart()
        self._closed = "exit" if at_exit else "shutdown"
        self._until = deadline = time.monotonic() + timeout
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
        self._report(last=True)
        if worker is None or not worker.is_alive():  # a hanging sink keeps its connection; the thread is a daemon
            for sink in self._outlets():
                sink.close()
            return not self._dropped.get("shutdown")
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
        return not self._all_settled(goal)

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
            self._wake.wait(self._interval)
            self._wake.clear()
            closing = self._closed is not None
            self._look_around()
            if self._waiting():
                quiet_since = time.monotonic()
                with self._sending:
                    self._guarded_turn()
            self._report()
            if closing or time.monotonic() - quiet_since > _IDLE:
                with self._lock:
                    self.worker = None
                    # A record whose caller saw the worker still there must not wait for the next one.
                    if self._waiting() and not closing:
                        self.worker = threading.current_thread()
                        continue
                if self._waiting() and not closing:  # its caller found the lock taken, after the look
                    self._start()
                with self._settled:
                    self._settled.notify_all()
                for sink in self._outlets():
                    sink.release()
                return

    def _guarded_turn(self) -> None:
        try:
            self._turn()
        except BaseException:  # an exporter may even raise SystemExit
            line = "rootspan's worker met an error of its own; it goes on with the next batch"
            log(logging.ERROR, line, exc_info=True)
            self._discard_batch("internal_error")

    def _turn(self) -> None:
        """Send what was recorded up to now, in a hurry or while closing all there is, or until nobody takes it then.

        What comes meanwhile makes the next batch: to send it at once would send few at a time, over and over.
        """
        goal = reading(self._made)
        while self._waiting():
            batch = self._batch or self._fill()
            if batch.size == 0:
                self._batch = None
                if not self.records:
                    return
                continue
            if self._batch is not batch:  # given up by `shutdown` meanwhile, which counted what was in it then
                late = batch.size - batch.settled
                self._settle(late, {"shutdown": late})
                return
            self._hurry = False
            wait = self._attempt(batch)
            if wait is not None:
                if self._closed is None:
                    self._pause(wait)
                elif batch.later and self._until is not None and time.monotonic() + wait < self._until:
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
                self._report()
                time.sleep(min(left, self._interval, _NAP))

    def _fill(self) -> Batch:
        batch = Batch(self._sinks)
        self._batch = batch
        while self.records and batch.size < self._batch_size and batch.bytes < _BATCH_BYTES:
            until = time.monotonic() + _SLICE
            while batch.size < self._batch_size and time.monotonic() < until:
                try:
                    record = self.records.popleft()
                except IndexError:
                    break
                self._held += 1
                self._take(batch, record)
            if not self.records:
                self.size = 0
                break
            time.sleep(_PAUSE)
        return batch

    def _take(self, batch: Batch, record: tuple[Any, ...]) -> None:
        size = weigh(record)  # before `self.size` is read: another thread may run in there
        self.size -= size
        trace = record[1] or new_trace_id()
        if self._sample_below is not None and int(trace[:8], 16) >= self._sample_below:
            self._settle(1, {"sampled": 1})
            return
        try:
            if self._short is not None and (encoded := self._short(record, trace)) is not None:
                batch.put(encoded)
            else:
                batch.add(self._shape(Record(record[0], trace, *record[2:])))
        except BaseException as error:  # a hook may ask for what a cancelled task came to
            self._settle(1, {"encoding": 1})
            if isinstance(error, KeyboardInterrupt):
                raise
            log(logging.ERROR, "rootspan could not encode one record; it is counted as dropped", exc_info=True)

    def _attempt(self, batch: Batch) -> float | None:
        settled, dropped, wait = batch.attempt(self._until)
        if self._batch is not batch:  # given up and counted by `shutdown` while the sink hung
            return None
        if batch.todo:
            self._failures += 1
        else:
            self._batch = None
        self._settle(settled, dropped, batch)
        return wait if batch.todo else None

    def _discard_batch(self, reason: str) -> None:
        batch, self._batch = self._batch, None
        if batch is not None:
            left = batch.size - batch.settled
            self._settle(left, {reason: left}, batch)

    def _settle(self, settled: int, dropped: Mapping[str, int], batch: Batch | None = None) -> None:
        lost = min(sum(dropped.values()), settled)
        with self._settled:
            self._held -= settled
            self._delivered += settled - lost
            if lost:
                self._dropped.update(dropped)
            self._settled.notify_all()

    def _losses(self) -> Counter[str]:
        return Counter(self._counters()["dropped"])

    def _report(self, last: bool = False) -> None:
        """Say what was lost: the first loss at once, then one line a minute."""
        dropped = self._losses()
        lost = {reason: n for reason, n in (dropped - self._reported).items() if reason not in _EXPECTED}
        now = time.monotonic()
        if not lost or (now < self._report_at and not last):
            return
        self._reported, self._report_at = dropped, now + _QUIET
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(lost.items()))
        level = logging.DEBUG if self._unchosen and not self._delivered else logging.WARNING
        log(level, "rootspan lost %d records (%s); rootspan.stats() has the totals", sum(lost.values()), reasons)
        if self._on_loss is not None:
            for reason, number in lost.items():
                try:
                    self._on_loss(reason, number)
                except (Exception, SystemExit):
                    log(logging.ERROR, "the on_loss callback raised", exc_info=True)


def weigh(record: tuple[Any, ...]) -> int:
    """Return about how many bytes a queued record holds."""
    total, input, output, properties = RECORD_BYTES, record[12], record[13], record[14]
    if input is not None:
        total += len(input) if type(input) is str else weight(input)
    if output is not None:
        total += len(output) if type(output) is str else weight(output)
    if properties is not None:
        total += weight(properties)
    if record[7] is not None and record[7].properties is not None:
        total += weight(record[7].properties)
    if len(record) == _WHOLE:
        error, more = record[-2:]
        if error is not None:
            total += len(error[1] or "")
        if more is not None:
            for value in more.values():
                if type(value) not in _UNWEIGHED:
                    total += weight(value)
    return total
