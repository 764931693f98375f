"""Turns records into spans for a tracker's sinks, each by the shortest way that there is for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from rootspan.dialect import to_span
from rootspan.dialect.draft import Plan
from rootspan.record import Record, SpanData
from rootspan.settings import Settings
from rootspan.shortcut import shortcut
from rootspan.transport.sink import Sink

__all__ = ["Shaping"]


class Shaping:
    """What becomes of one tracker's records: redacted, in the wire dialect, and where possible encoded at once.

    Args:
        settings: the tracker's settings.
        sinks: where the spans go.

    Attributes:
        sinks: what was given.
    """

    def __init__(self, settings: Settings, sinks: Sequence[Sink]) -> None:
        plan = Plan(settings)
        self.sinks = sinks
        self._shape = partial(to_span, plan=plan)
        self._short = shortcut(plan, sinks)
        self._sample_below = None if settings.sample_rate >= 1.0 else int(settings.sample_rate * 2**32)

    def span(self, record: tuple[Any, ...], trace: str) -> SpanData | bytes | None:
        """Return the span of a record in a trace; as bytes for the only sink, and None where it is not in the sample.

        It may raise whatever a `redact` hook raises.
        """
        if self._sample_below is not None and int(trace[:8], 16) >= self._sample_below:
            return None
        if self._short is not None and (encoded := self._short(record, trace)) is not None:
            return encoded
        return self._shape(Record.of(record, trace))
