"""Writes spans as OTLP, in protobuf or JSON, and as the SDK's `ReadableSpan` for any exporter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import orjson

from rootspan.description import not_finite
from rootspan.encode.protobuf import ProtobufEncoder
from rootspan.encode.wire import FLAGS, cut, plain_attributes, plain_span, plain_text
from rootspan.record import AttributeValue, SpanData

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

__all__ = ["JsonEncoder", "ProtobufEncoder", "readable_span"]


class JsonEncoder:
    """Encodes spans as OTLP/JSON, for receivers that take nothing else.

    Args:
        resource: attributes of what produces the spans, such as `service.name`.
        version: that of rootspan, the instrumentation scope.

    Example:
        >>> encoder = JsonEncoder({"service.name": "shop"}, "1.0")
        >>> span = SpanData("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", None, "answer", 1, 1, 2, {})
        >>> body = encoder.batch([encoder.span(span)])
    """

    def __init__(self, resource: Mapping[str, AttributeValue], version: str) -> None:
        about = {"attributes": _json_attributes(plain_attributes(resource))}
        scope = {"name": "rootspan", "version": plain_text(version)}
        self._head = b"".join((
            b'{"resourceSpans":[{"resource":', orjson.dumps(about),
            b',"scopeSpans":[{"scope":', orjson.dumps(scope), b',"spans":[',
        ))  # fmt: skip

    def span(self, data: SpanData) -> bytes:
        """One span as a JSON object.

        Args:
            data: the span; values that OTLP cannot carry are replaced, see `wire.plain`.

        Raises:
            ValueError: An id is not hexadecimal or of the wrong length.
        """
        span = plain_span(data)
        status: dict[str, object] = {"code": span.status_code} if span.status_code else {}
        if span.status_message:
            status["message"] = span.status_message
        parent = {"parentSpanId": span.parent_id} if span.parent_id else {}
        return orjson.dumps({
            "traceId": span.trace_id,
            "spanId": span.span_id,
            **parent,
            "name": span.name,
            "kind": span.kind,
            "startTimeUnixNano": str(span.start),
            "endTimeUnixNano": str(span.end),
            "attributes": _json_attributes(span.attributes),
            "events": [
                {"timeUnixNano": str(e.time), "name": e.name, "attributes": _json_attributes(e.attributes)}
                for e in span.events
            ],
            "links": [{"traceId": k.trace_id, "spanId": k.span_id, "flags": FLAGS} for k in span.links],
            "status": status,
            "flags": FLAGS,
        })  # fmt: skip

    def batch(self, spans: Sequence[bytes]) -> bytes:
        """A whole ExportTraceServiceRequest: one resource, one scope, these spans."""
        return b"".join((self._head, b",".join(spans), b"]}]}]}"))

    def shrink(self, span: bytes, longest: int) -> bytes:
        """As `ProtobufEncoder.shrink`; a value's length is counted in UTF-8, before JSON escapes."""
        if len(span) <= longest:
            return span
        parsed: object = orjson.loads(span)
        return orjson.dumps(parsed) if _shrink_json(parsed, longest) else span


def _json_value(value: object) -> dict[str, object]:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else not_finite(value)}
    return {"arrayValue": {"values": [_json_value(item) for item in cast("tuple[object, ...]", value)]}}


def _json_attributes(attributes: Mapping[str, object]) -> list[dict[str, object]]:
    return [{"key": key, "value": _json_value(value)} for key, value in attributes.items()]


def _shrink_json(part: object, longest: int) -> bool:
    """Cut the long texts in a part of a span; whether there were any."""
    if isinstance(part, list):
        found = [_shrink_json(item, longest) for item in cast("list[object]", part)]
        return any(found)  # not in one expression: `any` stops at the first
    if not isinstance(part, dict):
        return False
    fields, changed = cast("dict[str, object]", part), False
    for name, value in fields.items():
        if name not in ("stringValue", "message"):
            changed = _shrink_json(value, longest) or changed
        elif (short := cut(raw := str(value).encode(), longest)) is not raw:
            fields[name], changed = short.decode(), True
    return changed


def readable_span(data: SpanData, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    """The span as OpenTelemetry's exporters take it.

    Args:
        data: the span; values that OTLP cannot carry are replaced, see `wire.plain`.
        resource: what produces the spans.
        scope: rootspan and its version.

    Returns:
        A finished span that any `SpanExporter` of the SDK can export.

    Raises:
        ValueError: An id is not hexadecimal or of the wrong length.
    """
    # Here, because they take longer to import than all of rootspan, and only `exporters=` needs them.
    from opentelemetry import trace
    from opentelemetry.sdk.trace import Event, ReadableSpan

    def context(trace_id: str, span_id: str) -> trace.SpanContext:
        sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        return trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=sampled)

    span = plain_span(data)
    return ReadableSpan(
        name=span.name,
        context=context(span.trace_id, span.span_id),
        parent=context(span.trace_id, span.parent_id) if span.parent_id else None,
        resource=resource,
        attributes=span.attributes,
        events=[Event(event.name, event.attributes, event.time) for event in span.events],
        links=[trace.Link(context(link.trace_id, link.span_id)) for link in span.links],
        kind=trace.SpanKind(span.kind - 1),
        status=trace.Status(trace.StatusCode(span.status_code), span.status_message or None),
        start_time=span.start,
        end_time=span.end,
        instrumentation_scope=scope,
    )
