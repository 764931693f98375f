"""Lets any OpenTelemetry `SpanExporter` take a tracker's spans, unseen by the host's own instrumentation."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from rootspan.encode import readable_span
from rootspan.log import Seldom, log
from rootspan.transport.sink import Attempt, Backoff, in_parts, unseen
from rootspan.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

    from rootspan.record import AttributeValue, SpanData

__all__ = ["ExporterSink"]

_open: Final[WeakValueDictionary[int, ExporterSink]] = WeakValueDictionary()  # several trackers may share an exporter


class ExporterSink:
    """Hands spans to one exporter, in a context of its own.

    A batch that the exporter reports as failed is kept and tried again. One that makes it raise is split until the
    span that does it is alone, which is dropped: an error in the exporter's code is no outage.

    Args:
        exporter: any exporter of the OpenTelemetry SDK.
        resource_attributes: what produces the spans.
    """

    def __init__(self, exporter: SpanExporter, resource_attributes: Mapping[str, AttributeValue]) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope

        self._exporter = exporter
        self._resource = Resource(resource_attributes)
        self._scope = InstrumentationScope("rootspan", __version__)
        _open[id(self)] = self
        self._backoff = Backoff()
        self._seldom = Seldom()

    def encode(self, data: SpanData) -> ReadableSpan:
        """Return one span as `attempt` takes it."""
        return readable_span(data, self._resource, self._scope)

    def attempt(self, items: Sequence[ReadableSpan], until: float = math.inf) -> Attempt[ReadableSpan]:
        """Export spans until all are delivered or dropped, or the exporter fails.

        Args:
            items: what `encode` returned.
            until: a time of `time.monotonic()`; what it means to an exporter is the exporter's own business.
        """
        return in_parts(items, self._attempt)

    def _attempt(self, part: list[ReadableSpan]) -> Attempt[ReadableSpan] | None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        try:
            result = unseen(self._exporter.export, part)
        except (Exception, SystemExit) as error:
            self._say(f"raised {type(error).__name__}; the span that makes it do so is dropped")
            return Attempt({"export_failed": 1}, []) if len(part) == 1 else None
        if result is SpanExportResult.SUCCESS:
            self._backoff.reset()
            return Attempt({}, [])
        failed = "failed" if result is SpanExportResult.FAILURE else "returned no SpanExportResult"
        self._say(f"{failed}; its spans are kept and tried again")
        return Attempt({}, part, self._backoff.wait())

    def close(self, until: float) -> None:
        """Shut the exporter down, unless another tracker still sends through it; waits for that until then at most."""
        if _open.pop(id(self), None) is None:  # it was closed before
            return
        others = [found() for found in _open.valuerefs()]  # of a copy: another thread may make a tracker meanwhile
        if any(other is not None and other._exporter is self._exporter for other in others):
            return
        ending = threading.Thread(target=self._shut_down, name="rootspan-exporter-end", daemon=True)
        try:
            ending.start()
        except RuntimeError:  # Python 3.12 starts no thread any more while it ends
            self._shut_down()
            return
        ending.join(max(0.0, until - time.monotonic()))

    def _shut_down(self) -> None:
        try:
            unseen(self._exporter.shutdown)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a thread of ours prints nothing on its own
            log(logging.WARNING, "%s.shutdown raised %s", type(self._exporter).__name__, type(error).__name__)

    def release(self) -> None:
        """Do nothing: the exporter keeps its own connections."""

    def forget(self) -> None:
        """Do nothing: what a forked child has to do is the exporter's own business."""

    def _say(self, what: str) -> None:
        self._seldom.say("trouble", logging.WARNING, "%s %s", type(self._exporter).__name__, what, again=True)
