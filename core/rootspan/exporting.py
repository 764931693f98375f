"""Lets any OpenTelemetry `SpanExporter` take a tracker's spans, unseen by the host's own instrumentation."""

from __future__ import annotations

import contextvars
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from rootspan.delivery import Attempt, Backoff, flat, halves
from rootspan.encode import readable_span
from rootspan.log import Seldom, log
from rootspan.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter

    from rootspan.record import AttributeValue, SpanData

__all__ = ["ExporterSink", "unseen"]

T = TypeVar("T")


def unseen(call: Callable[..., T], *arguments: Any) -> T:
    """Call something in a context of its own, of which nothing stays, and in which no instrumentation records."""
    return contextvars.Context().run(_suppressed, call, *arguments)


def _suppressed(call: Callable[..., T], *arguments: Any) -> T:
    from opentelemetry import context

    # The keys have no public names; the plain word is what they were before 1.12 and what some still look up.
    current = context.set_value("suppress_instrumentation", True)
    for name in ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY"):
        if key := getattr(context, name, None):
            current = context.set_value(key, True, current)
    token = context.attach(current)
    try:
        return call(*arguments)
    finally:
        context.detach(token)


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
        from opentelemetry.sdk.trace.export import SpanExportResult

        dropped = Counter[str]()
        groups = [list(items)] if items else []
        while groups:
            group = groups.pop()
            try:
                result = unseen(self._exporter.export, group)
            except Exception as error:
                self._say(f"raised {type(error).__name__}; the span that makes it do so is dropped")
                if len(group) > 1:
                    groups += halves(group)
                else:
                    dropped["export_failed"] += 1
                continue
            if result is not SpanExportResult.SUCCESS:
                self._say("failed; its spans are kept and tried again")
                return Attempt(dropped, flat([*groups, group]), self._backoff.wait())
            self._backoff.reset()
        return Attempt(dropped, [])

    def close(self) -> None:
        """Shut the exporter down."""
        try:
            unseen(self._exporter.shutdown)
        except Exception as error:
            log(logging.WARNING, "%s.shutdown raised %s", type(self._exporter).__name__, type(error).__name__)

    def release(self) -> None:
        """Do nothing: the exporter keeps its own connections."""

    def forget(self) -> None:
        """Do nothing: what a forked child has to do is the exporter's own business."""

    def _say(self, what: str) -> None:
        self._seldom.say("trouble", logging.WARNING, "%s %s", type(self._exporter).__name__, what, again=True)
