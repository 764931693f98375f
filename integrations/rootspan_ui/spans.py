"""What was received: plain objects, the same for protobuf and JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Attributes", "ReceivedEvent", "ReceivedLink", "ReceivedSpan"]

Attributes = dict[str, Any]


@dataclass(frozen=True)
class ReceivedEvent:
    """A point in time on a received span; the time is in nanoseconds since the epoch."""

    name: str
    time: int
    attributes: Attributes = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class ReceivedLink:
    """A received span's reference to another span; the ids are lower-case hex."""

    trace_id: str
    span_id: str
    attributes: Attributes = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class ReceivedSpan:
    """A span as it arrived, from any OpenTelemetry SDK: ids in lower-case hex, times in nanoseconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: int = 0  # OTLP numbers: INTERNAL 1, SERVER 2, CLIENT 3, PRODUCER 4, CONSUMER 5
    start: int = 0
    end: int = 0
    attributes: Attributes = field(default_factory=dict[str, Any])
    events: tuple[ReceivedEvent, ...] = ()
    links: tuple[ReceivedLink, ...] = ()
    status_code: int = 0  # OTLP numbers: UNSET 0, OK 1, ERROR 2
    status_message: str = ""
    resource: Attributes = field(default_factory=dict[str, Any])
    scope: str = ""
    remote_parent: bool = False
