"""What is compared: the same work with rootspan and with raw OpenTelemetry as its documentation shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from rootspan import Tracker

__all__ = ["CHAT", "EVENT", "PROPERTIES", "USAGE", "Raw", "track", "visits"]

QUEUE: Final = 200_000  # spans; OpenTelemetry's own 2,048 would lose most of a burst
EVENT: Final[dict[str, Any]] = {
    "event": "user_message",
    "user_id": "user_42",
    "convo_id": "conv_abc",
    "model": "gpt-4o",
    "provider": "openai",
    "input": "Can you tell me when order 1042 will arrive, and whether I can still change its address?",
    "output": "It left the warehouse today and will arrive on Thursday; the address can be changed until tonight.",
}
PROPERTIES: Final[dict[str, Any]] = {"plan": "pro", "turn": 3, "trial": False, "score": 0.87, "region": "eu-west-1"}
USAGE: Final[dict[str, Any]] = {"prompt_tokens": 812, "completion_tokens": 134, "estimated_cost": 0.0034}
CHAT: Final = [{"role": ("user", "assistant")[n % 2], "content": "x" * 380} for n in range(20)]  # 8 kB
ATTRIBUTES: Final[dict[str, Any]] = {
    "gen_ai.operation.name": "chat",
    "user.id": EVENT["user_id"],
    "session.id": EVENT["convo_id"],
    "gen_ai.request.model": EVENT["model"],
    "gen_ai.provider.name": EVENT["provider"],
    "input.value": EVENT["input"],
    "output.value": EVENT["output"],
    **PROPERTIES,
}
"""Twelve attributes: what `track_ai` is given with five properties."""


@dataclass
class Raw:
    """A tracer provider with a batch processor and the OTLP/HTTP exporter.

    Args:
        url: the collector.
    """

    url: str

    def __post_init__(self) -> None:
        self.provider = TracerProvider()
        exporter = OTLPSpanExporter(endpoint=f"{self.url}/v1/traces")
        self.provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE))
        self.tracer = self.provider.get_tracer("benchmark")

    def span(self) -> None:
        """One span with twelve attributes."""
        with self.tracer.start_as_current_span(EVENT["event"]) as span:
            for key, value in ATTRIBUTES.items():
                span.set_attribute(key, value)

    def visit(self, number: int) -> None:
        """One span of one of many conversations."""
        with self.tracer.start_as_current_span(EVENT["event"]) as span:
            user, convo = f"user_{number % 500}", f"conv_{number % 1_000}"
            own = {"turn": number % 20, "score": number / 7}
            for key, value in {**ATTRIBUTES, "user.id": user, "session.id": convo, **own}.items():
                span.set_attribute(key, value)

    def chat(self) -> None:
        """The same, its input a chat, which OpenTelemetry takes as JSON text."""
        with self.tracer.start_as_current_span(EVENT["event"]) as span:
            for key, value in ATTRIBUTES.items():
                span.set_attribute(key, value)
            span.set_attribute("input.value", json.dumps(CHAT))

    def flush(self) -> None:
        self.provider.force_flush()


def track(tracker: Tracker, **fields: Any) -> Callable[[], object]:
    """Return a call of `track_ai`, compiled so that its arguments are written out as a user would write them."""
    given = {**EVENT, **fields}
    written = ", ".join(f"{name}={name}" for name in given)
    make: Any = eval(f"lambda tracker, {', '.join(given)}: lambda: tracker.track_ai({written})")
    call: Callable[[], object] = make(tracker, **given)
    return call


def visits(tracker: Tracker) -> Callable[[int], object]:
    """Return what tracks an event of one of many conversations."""
    event, _, _, model, provider, asked, answered = EVENT.values()

    def visit(number: int) -> object:
        return tracker.track_ai(
            event, user_id=f"user_{number % 500}", convo_id=f"conv_{number % 1_000}", model=model, provider=provider,
            input=asked, output=answered, properties={**PROPERTIES, "turn": number % 20, "score": number / 7},
        )  # fmt: skip

    return visit
