"""Where records wait on the disk: a caller writes each before its call returns, the worker reads and sends them.

A record's way there is `Queue.put`, `Store.keep`, `Spool.append`, `Pen.write`. From there it is taken by `Store.batch`,
`Spool.take`, `Journal.take`, `Segment.take`; once it is sent, `Batch.settle`, `Chunk.settle`, `Journal.note` say so.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from rootspan.ids import new_trace_id
from rootspan.ledger import Account, Ledger
from rootspan.log import log
from rootspan.pipeline.batch import Batch
from rootspan.pipeline.shaping import Shaping
from rootspan.record import SPAN, TRACE
from rootspan.settings import Settings
from rootspan.spool import Spool, default_directory
from rootspan.spool.journal import Chunk
from rootspan.transport.delivery import Delivery, circumstances
from rootspan.transport.sink import Sink

__all__ = ["Store"]

_LOOK_AROUND: Final = 10.0  # seconds between two looks for what dead processes left
_CHUNK_BYTES: Final = 4 << 20


class _Stored(Batch):
    """Spans that are on the disk already."""

    __slots__ = ("chunk",)

    def __init__(self, sink: Sink, account: Account, chunk: Chunk) -> None:
        super().__init__((sink,), account)
        self.chunk = chunk
        self.todo = [(sink, chunk.spans)]
        self.size = len(chunk.spans)

    def settle(self, number: int) -> None:
        self.chunk.settle(number)

    def loss(self, reason: str) -> str | None:
        return None if self.chunk.stays else "spool_full"


class Store:
    """One tracker's records that survive their process, beside its queue; what the disk does not take waits there.

    The caller's thread redacts, shapes and encodes each record, for nothing unredacted may reach the disk. The worker
    reads what was written, by this process and by those that died.

    Args:
        settings: the tracker's settings.

    Attributes:
        shaping: how its records become spans, with the way out for those of this process.
    """

    def __init__(self, settings: Settings) -> None:
        about = json.dumps({"fingerprint": settings.fingerprint, **circumstances(settings)}, default=str).encode()
        self._settings = settings
        self._spool = Spool(
            settings.spool if isinstance(settings.spool, str) else default_directory(),
            settings.fingerprint,
            about,
            most=settings.spool_max_bytes,
            fsync=settings.fsync,
        )
        self._deliveries: dict[bytes, Delivery] = {}
        self._own = self._delivery(about)
        self.shaping = Shaping(settings, (self._own,))

    def start_afresh(self, ledger: Ledger) -> None:
        """Begin with nothing; in a forked child everything so far is the parent's."""
        self._ledger = ledger
        self._look_at = 0.0
        self._busy = threading.local()  # with `here`: whether this thread is shaping a record
        self._spool.start_afresh(ledger)

    # Any thread

    def keep(self, record: tuple[Any, ...]) -> bool:
        """Write a record, or settle it otherwise; return False where memory has to take it."""
        span_id = bytes.fromhex(record[SPAN][-16:])
        if self._ready():
            try:
                span = self._encode(record, record[TRACE] or new_trace_id())
            except Exception:
                log(logging.ERROR, "rootspan could not encode one record; it is counted as dropped", exc_info=True)
                self._ledger.drop("encoding")
                return True
            if span is None:
                self._ledger.drop("sampled")
                return True
            if self._spool.append(span_id, span):
                return True
        self._spool.end_elsewhere(span_id)  # before it may be delivered
        return False

    def begin(self, record: tuple[Any, ...]) -> None:
        """Write what is to be sent of an interaction if this process dies before it finishes."""
        try:
            if self._ready() and (span := self._encode(record, record[TRACE])) is not None:
                self._spool.begin(bytes.fromhex(record[SPAN][-16:]), span)
        except Exception:
            log(logging.ERROR, "rootspan could not announce an interaction to its spool", exc_info=True)

    def _ready(self) -> bool:
        """Return whether the disk takes records just now, and this very thread is not writing one.

        A `redact` hook, a logging handler or a `__del__` may record as well: that goes to memory, and never in circles.
        """
        return self._spool.ready and not getattr(self._busy, "here", False)

    def _encode(self, record: tuple[Any, ...], trace: str) -> bytes | None:
        """Return a record as it is sent; None where it is not in the sample."""
        busy = self._busy
        busy.here = True
        try:
            span = self.shaping.span(record, trace)
            return span if span is None or isinstance(span, bytes) else self._own.encode(span)
        finally:
            busy.here = False

    # The worker

    @property
    def sinks(self) -> Collection[Sink]:
        """Every way out that was needed: also those for what was written under other circumstances."""
        return self._deliveries.values()

    @property
    def waiting(self) -> bool:
        """Whether something is there to be sent."""
        return self._ledger.spooled > 0 or self._spool.adopted

    @property
    def adopted(self) -> bool:
        """Whether something of dead processes is."""
        return self._spool.adopted

    def has_orphans(self) -> bool:
        """Return whether a dead process may have left something."""
        return bool(self._spool.orphans())

    def look_around(self, over: Callable[[], bool]) -> None:
        """Take over what dead processes left, now and then, until there is no time left for that."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_AROUND
        try:
            if self._spool.adopt(over).spans:
                self._look_at = now + self._settings.flush_interval
        except Exception:
            log(logging.ERROR, "rootspan could not look for what ended processes left", exc_info=True)

    def batch(self) -> Batch | None:
        """Return the next spans to send; None where none can be read just now."""
        chunk = self._spool.take(self._settings.batch_size, _CHUNK_BYTES)
        if chunk is None:
            return None
        return _Stored(self._delivery(chunk.journal.about), self._spool.account(chunk.journal), chunk)

    def settle_elsewhere(self, span_ids: list[bytes]) -> None:
        """Note that memory is done with these spans: nobody is to send those that began here as unfinished."""
        self._spool.settle_elsewhere(span_ids)

    def close(self, last: bool) -> None:
        """Let go of everything; what is left is for the next process.

        Args:
            last: this process ends: what is recorded even now stays on the disk.
        """
        self._spool.close(last)

    def _delivery(self, about: bytes) -> Delivery:
        """Return the way out for records that were written under a header."""
        found = self._deliveries.get(about)
        if found is None:
            found = self._deliveries[about] = Delivery(self._settings, json.loads(about), self._spool.bury)
        return found
