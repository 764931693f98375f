"""Other ways to record the same event, each where it is installed: `tox run -e peers`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from collector import Collector
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from peers import ATTRIBUTES, EVENT, PROPERTIES, QUEUE, Raw, track
from timing import Spread, rounds

from rootspan import Tracker

__all__ = ["measure"]


def measure(quick: bool) -> dict[str, Spread]:
    """Return what an event costs its thread with each of them; what they send to the collector is not looked at."""
    logging.disable(logging.CRITICAL)  # the collector answers everything with an empty 200, which not all of them like
    with Collector() as collector:
        raw, tracker = Raw(collector.url), Tracker(endpoint=collector.url)
        candidates: dict[str, Callable[[], object]] = {
            "raw, beside others": raw.span,
            "track_ai, beside others": track(tracker, properties=PROPERTIES),
        }
        for name, make in ("logfire", _logfire), ("langfuse", _langfuse), ("sentry", _sentry):
            with suppress(ImportError):
                candidates[name] = make(collector.url)

        def drain() -> None:
            raw.flush()
            tracker.flush(60)

        found = rounds(candidates, calls=200, count=5 if quick else 20, drain=drain)
        tracker.shutdown()
        raw.provider.shutdown()
    return found


def _logfire(url: str) -> Callable[[], object]:
    import logfire

    exporter = BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces"), max_queue_size=QUEUE)
    configured: Any = logfire.configure(
        local=True, send_to_logfire=False, console=False, metrics=False, inspect_arguments=False,
        additional_span_processors=[exporter],
    )  # fmt: skip

    def span() -> None:
        with configured.span(EVENT["event"], **ATTRIBUTES):
            pass

    return span


def _langfuse(url: str) -> Callable[[], object]:
    from langfuse import Langfuse

    client: Any = Langfuse(public_key="pk", secret_key="sk", host=url, tracer_provider=TracerProvider())

    def span() -> None:
        with client.start_as_current_observation(
            name=EVENT["event"], as_type="generation", model=EVENT["model"], input=EVENT["input"],
            output=EVENT["output"], metadata=PROPERTIES,
        ):  # fmt: skip
            pass

    return span


def _sentry(url: str) -> Callable[[], object]:
    import sentry_sdk

    sentry_sdk.init(dsn=url.replace("://", "://key@") + "/1", traces_sample_rate=1.0, default_integrations=False)

    def span() -> None:
        with sentry_sdk.start_transaction(name=EVENT["event"], op="ai") as transaction:
            for key, value in ATTRIBUTES.items():
                transaction.set_data(key, value)

    return span


if __name__ == "__main__":
    for name, spread in measure("--quick" in sys.argv).items():
        print(f"{name:<38}{spread.median:12.2f}")
