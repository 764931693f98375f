"""Both ways of a record to its bytes, for the tests that compare them."""

from __future__ import annotations

import threading
from typing import Any

from rootspan import Tracker
from rootspan.dialect import to_span
from rootspan.dialect.draft import Plan
from rootspan.record import Record

__all__ = ["Ways"]

TRACE = "5b8aa5a2d2c872e8321cf37308d69df2"


class Ways:
    """A tracker that sends nothing, and what its records become.

    Args:
        options: for the tracker.
    """

    def __init__(self, **options: Any) -> None:
        self._tracker = Tracker(endpoint="http://127.0.0.1:9", **options)
        self.pipeline: Any = self._tracker._recorder.pipeline
        self.queue = self.pipeline.queue
        self._shaping = self.pipeline._shaping
        self._settings = self._tracker._recorder.settings

    @property
    def tracker(self) -> Tracker:
        """What to record with."""
        # Which leaves them in the queue; each time, because a test of forks has every tracker forget its worker.
        self.queue.worker = threading.current_thread()
        return self._tracker

    @property
    def records(self) -> list[tuple[Any, ...]]:
        """What was recorded since the last call of `both`."""
        return list(self.queue.records)

    @property
    def exists(self) -> bool:
        """Whether there is a short way."""
        return self._shaping._short is not None

    def both(self) -> list[tuple[bytes | None, bytes]]:
        """What each record since the last call becomes on the short way and on the long one."""
        records = self.records
        assert records, "nothing was recorded"
        self.queue.records.clear()
        self.queue.size = 0
        return [
            (self._shaping._short(record, record[1] or TRACE), self._long(Record.of(record, record[1] or TRACE)))
            for record in records
        ]

    def _long(self, record: Record) -> bytes:
        (sink,) = self._shaping.sinks
        long: bytes = sink.encode(to_span(record, Plan(self._settings)))
        assert sink.encode(self._shaping._shape(record)) == long
        return long
