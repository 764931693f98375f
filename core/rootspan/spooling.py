"""The pipeline whose queue is a directory: a record is redacted, encoded and on the disk when its call returns."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from rootspan.batch import Batch
from rootspan.delivery import Delivery, circumstances
from rootspan.ids import new_trace_id
from rootspan.journal import Chunk
from rootspan.ledger import Account
from rootspan.log import log
from rootspan.pipeline import Pipeline
from rootspan.record import SPAN, TRACE, Record, SpanData
from rootspan.settings import Settings
from rootspan.sink import Sink
from rootspan.spool import Spool, default_directory

__all__ = ["SpoolingPipeline"]

_LOOK_AROUND: Final = 10.0  # seconds between two looks for what dead processes left
_CHUNK_BYTES: Final = 4 << 20


class _ChunkBatch(Batch):
    """Spans that are in a spool already."""

    __slots__ = ("chunk",)

    def __init__(self, sink: Sink, account: Account, chunk: Chunk) -> None:
        super().__init__((sink,), account)
        self.chunk = chunk
        self.todo = [(sink, chunk.spans)]
        self.size = len(chunk.spans)


class SpoolingPipeline(Pipeline):
    """A pipeline that survives its process; where the disk fails it keeps records in memory, as `Pipeline` does.

    The caller's thread redacts, shapes and encodes each record, for nothing unredacted may reach the disk. The worker
    reads what was written, by this process and by those that died, and sends it.

    Args:
        settings: the tracker's settings.
        shape: turns a record into a span; called on any thread.
        **options: those of `Pipeline`.
    """

    exit_seconds = 1.0  # the spool holds what is not delivered

    def __init__(self, settings: Settings, shape: Callable[[Record], SpanData], **options: Any) -> None:
        about = {"fingerprint": settings.fingerprint, **circumstances(settings)}
        self._settings = settings  # as `Pipeline` does, which is given the way out that needs it
        self._about = json.dumps(about, default=str).encode()
        self._deliveries: dict[bytes, Delivery] = {}
        self._spool = Spool(
            settings.spool if isinstance(settings.spool, str) else default_directory(),
            settings.fingerprint,
            self._about,
            most=settings.spool_max_bytes,
            fsync=settings.fsync,
        )
        self._own = self._delivery(self._about)
        super().__init__(settings, shape, (self._own,), **options)
        self.spools = True
        if self._closed is None and self._spool.orphans():  # what an earlier process left does not wait for a record
            self._start()

    def _start_afresh(self) -> None:
        super()._start_afresh()
        self._spool.start_afresh(self.ledger)
        self._look_at = 0.0
        self._taken: list[bytes] = []  # from memory, for the batch on its way
        self._shaping = threading.local()

    # The caller's side

    def put(self, record: tuple[Any, ...], size: int) -> None:
        """Write a record to the spool; in memory where that cannot be."""
        if self._closed in ("shutdown", "disabled") or not self._spool.ready or not self._keep(record):
            self._spool.end_elsewhere(bytes.fromhex(record[SPAN][-16:]))  # before it may be delivered
            super().put(record, size)
        elif self.worker is None:
            self._start()

    def _keep(self, record: tuple[Any, ...]) -> bool:
        """Write or settle a record; return False where memory has to take it."""
        if record[TRACE] is None:  # a lone root
            record = (record[0], new_trace_id(), *record[2:])
        if self._is_out(record[TRACE]):
            self.ledger.drop("sampled")
            return True
        try:
            span = self._encode(record)
        except Exception:
            log(logging.ERROR, "rootspan could not encode one record; it is counted as dropped", exc_info=True)
            self.ledger.drop("encoding")
            return True
        return span is not None and self._spool.append(bytes.fromhex(record[SPAN][-16:]), span)

    def begin(self, record: tuple[Any, ...]) -> None:
        """Write what is to be sent of an interaction if this process dies before it finishes."""
        if self._closed is not None or not self._spool.ready or self._is_out(record[TRACE]):
            return
        try:
            if (span := self._encode(record)) is not None:
                self._spool.begin(bytes.fromhex(record[SPAN][-16:]), span)
        except Exception:
            log(logging.ERROR, "rootspan could not announce an interaction to its spool", exc_info=True)

    def _encode(self, record: tuple[Any, ...]) -> bytes | None:
        """Return a record as it is sent; None where this very thread is doing so for another one.

        A `redact` hook, a logging handler or a `__del__` may record as well: that goes to memory, and never in circles.
        """
        shaping = self._shaping
        if getattr(shaping, "busy", False):
            return None
        shaping.busy = True
        try:
            span = None if self._short is None else self._short(record, record[TRACE])
            return self._own.encode(self._shape(Record(*record))) if span is None else span
        finally:
            shaping.busy = False

    def stats(self) -> dict[str, Any]:
        """Return the counters; `recovered` holds those of what dead processes left, which add up for themselves."""
        return {**super().stats(), "recovered": self.ledger.recovery()}

    def _discard(self, reason: str) -> None:
        if isinstance(batch := self._batch, _ChunkBatch):  # it stays on the disk, and the worker counts none of it
            self._batch = None
            left = batch.give_up()
            if not batch.chunk.stays:
                self.ledger.lose(batch.account, left, "spool_full")
        super()._discard(reason)

    def shutdown(self, timeout: float, at_exit: bool = False) -> bool:
        """Deliver within `timeout` seconds, at exit within one, and leave the rest to the next process."""
        if self._closed is not None:
            return True
        if at_exit and not self.records:
            timeout = min(timeout, self.exit_seconds)
        done = super().shutdown(timeout, at_exit)
        self._spool.close(last=at_exit)
        return done and not self.ledger.spooled

    # The worker's side

    def _outlets(self) -> Iterable[Sink]:
        return self._deliveries.values()

    def _waiting(self) -> bool:
        return super()._waiting() or self.ledger.spooled > 0 or self._spool.adopted

    def _is_behind(self, goal: int) -> bool:
        return super()._is_behind(goal) or self._spool.adopted

    def _look_around(self) -> None:
        now = time.monotonic()
        if now < self._look_at or self._closed is not None:
            return
        self._look_at = now + _LOOK_AROUND
        try:
            found = self._spool.adopt()
        except Exception:
            log(logging.ERROR, "rootspan could not look for what ended processes left", exc_info=True)
            return
        self._look_at = now + (self._settings.flush_interval if found.spans else _LOOK_AROUND)

    def _fill(self) -> Batch:
        if self.records:
            self._taken = []
            return super()._fill()
        chunk = self._spool.take(self._settings.batch_size, _CHUNK_BYTES)
        if chunk is None:
            return Batch(self._sinks, self.ledger.memory)
        sink, account = self._delivery(chunk.journal.about), self._spool.account(chunk.journal)
        batch = self._batch = _ChunkBatch(sink, account, chunk)
        return batch

    def _take(self, batch: Batch, record: tuple[Any, ...]) -> None:
        self._taken.append(bytes.fromhex(record[SPAN][-16:]))
        super()._take(batch, record)

    def _settle(self, batch: Batch, settled: int, dropped: Mapping[str, int]) -> None:
        if isinstance(batch, _ChunkBatch):
            batch.chunk.settle(settled)
        elif not batch.todo:  # before a flush hears of it: the process may die behind it
            self._spool.settle_elsewhere(self._taken)
        super()._settle(batch, settled, dropped)

    def _delivery(self, about: bytes) -> Delivery:
        """Return the way out for records that were written under a header."""
        found = self._deliveries.get(about)
        if found is None:
            found = self._deliveries[about] = Delivery(self._settings, json.loads(about), self._spool.bury)
        return found
