"""Takes records from their callers: into memory, bounded in bytes, or with a spool to the disk."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from rootspan.freeze import weight
from rootspan.ids import new_trace_id
from rootspan.ledger import Ledger
from rootspan.log import log
from rootspan.pipeline.batch import Batch
from rootspan.record import INHERITED, INPUT, OUTPUT, PROPERTIES, SPAN, TRACE, Record, Served

if TYPE_CHECKING:
    from rootspan.pipeline.shaping import Shaping
    from rootspan.pipeline.store import Store
    from rootspan.settings import Settings

__all__ = ["RECORD_BYTES", "Queue", "weigh"]

RECORD_BYTES: Final = 900
"""About what a record holds beside its input, output and properties."""

_WHOLE: Final = len(Record._fields)
_UNWEIGHED: Final = frozenset({list, Served})  # events; what many records share
_CROWDED: Final = 1 << 20  # queued bytes from which on the caller wakes the worker
_SLICE: Final = 0.001  # seconds of encoding in one go, after which the host gets the GIL
_PAUSE: Final = 0.0005  # seconds between two slices
_BATCH_BYTES: Final = 4 << 20


class Queue:
    """What callers put and the worker takes, oldest first; of a tracker with a spool, what that did not take.

    All that a call touches is here. `track_ai` does what `put` does without its call: a twentieth of the whole.

    Args:
        settings: the tracker's settings.
        shaping: how records become spans.
        store: the spool, if there is one.
        attend: called where there is no worker, or more than it should wait for.

    Attributes:
        attend: what was given.
        store: likewise; None from where on nothing more may go to the disk.
        spools: whether interactions are announced to a store when they begin, and events are put by `put`.
        records: what waits in memory.
        size: about how many bytes that holds; threads may lose a step of it.
        crowded: bytes beyond which somebody has to attend to it.
        worker: the thread that takes what waits; None while there is none.
        count: counts one more record.
    """

    def __init__(self, settings: Settings, shaping: Shaping, store: Store | None, attend: Callable[[], object]) -> None:
        self._settings = settings
        self._shaping = shaping
        self.store = None if settings.disabled else store
        self.spools = self.store is not None
        self.attend = attend
        self.crowded = min(_CROWDED, settings.max_queue_bytes)

    def start_afresh(self, ledger: Ledger) -> None:
        """Begin with nothing; in a forked child everything so far is the parent's."""
        self._ledger = ledger
        self.count = ledger.made.add
        self._overflow, self._take = ledger.overflowed.add, ledger.taken.add
        self.records: deque[tuple[Any, ...]] = deque()
        self.size = 0
        self.worker: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self.records)

    # The caller's side

    def put(self, record: tuple[Any, ...], size: int) -> None:
        """Keep a record on the disk, or here as one of about `size` bytes; never waits for anything else."""
        store = self.store  # once: the end takes it away
        if store is not None and store.keep(record):
            if self.worker is None:
                self.attend()
            return
        self.count()
        self.records.append(record)
        self.size = size = self.size + size
        if size > self.crowded or self.worker is None:
            self.attend()

    def begin(self, record: tuple[Any, ...]) -> None:
        """Keep on the disk what is to be sent of an interaction if this process dies before it finishes."""
        if (store := self.store) is not None:
            store.begin(record)

    def shorten(self) -> None:
        """Drop the oldest beyond the bound."""
        while self.size > self._settings.max_queue_bytes and self._pop(self._overflow) is not None:
            pass

    def clear(self) -> int:
        """Drop all that waits; return how many records that were."""
        dropped = 0
        with suppress(IndexError):
            while True:
                self.records.popleft()
                dropped += 1
        self.size = 0
        return dropped

    def _pop(self, count: Callable[[], object]) -> tuple[Any, ...] | None:
        """Take the oldest record, and count it."""
        try:
            record = self.records.popleft()
        except IndexError:
            self.size = 0  # threads lost steps of it
            return None
        count()
        size = weigh(record)  # before `self.size` is read: another thread may run in there
        self.size -= size
        return record

    # The worker's side

    def fill(self, batch: Batch) -> None:
        """Move what waits into a batch, as far as it goes, in slices between which the host gets the GIL."""
        most = self._settings.batch_size
        while batch.size < most and batch.bytes < _BATCH_BYTES:
            until = time.monotonic() + _SLICE
            while batch.size < most and time.monotonic() < until:
                record = self._pop(self._take)
                if record is None:
                    return
                self._add(batch, record)
            time.sleep(_PAUSE)

    def _add(self, batch: Batch, record: tuple[Any, ...]) -> None:
        if self.spools:
            batch.span_ids.append(bytes.fromhex(record[SPAN][-16:]))
        try:
            span = self._shaping.span(record, record[TRACE] or new_trace_id())
            if span is None:
                self._ledger.lose(batch.account, 1, "sampled")
            else:
                batch.add(span)
        except BaseException as error:  # a hook may ask for what a cancelled task came to
            self._ledger.lose(batch.account, 1, "encoding")
            if isinstance(error, KeyboardInterrupt):
                raise
            log(logging.ERROR, "rootspan could not encode one record; it is counted as dropped", exc_info=True)


def weigh(record: tuple[Any, ...]) -> int:
    """Return about how many bytes a queued record holds."""
    total, input, output, properties = RECORD_BYTES, record[INPUT], record[OUTPUT], record[PROPERTIES]
    if input is not None:
        total += len(input) if type(input) is str else weight(input)
    if output is not None:
        total += len(output) if type(output) is str else weight(output)
    if properties is not None:
        total += weight(properties)
    if record[INHERITED] is not None and record[INHERITED].properties is not None:
        total += weight(record[INHERITED].properties)
    if len(record) == _WHOLE:
        error, more = record[-2:]
        if error is not None:
            total += len(error[1] or "")
        if more is not None:
            for value in more.values():
                if type(value) not in _UNWEIGHED:
                    total += weight(value)
    return total
