"""OTLP trace requests, protobuf or JSON, as plain `ReceivedSpan` objects."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

from rootspan.errors import MissingExtraError
from rootspan_ui.bounds import MAX_DEPTH, Refused, check_json, check_protobuf
from rootspan_ui.spans import Attributes, ReceivedEvent, ReceivedLink, ReceivedSpan

__all__ = ["JSON", "PROTOBUF", "Decoded", "decode", "encode_answer", "encode_status", "request_type"]

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"
_PER_SPAN: Final = 1_000  # attributes, events or links kept of one span; the SDKs' own limit is 128
_REMOTE: Final = 0x200  # SPAN_FLAGS_CONTEXT_IS_REMOTE
_INVALID_ARGUMENT: Final = 3  # google.rpc.Code


@dataclass(frozen=True)
class Decoded:
    """A request's spans, and how many were refused because their ids are not valid."""

    spans: list[ReceivedSpan]
    rejected: int = 0


def request_type() -> Any:
    """The protobuf class of a trace request.

    Raises:
        MissingExtraError: without the package `opentelemetry-proto`.
    """
    try:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    except ImportError as error:
        raise MissingExtraError(
            "The receiver needs the package opentelemetry-proto.\nFix: pip install 'rootspan[ui]'"
        ) from error
    return ExportTraceServiceRequest


def decode(body: bytes, content_type: str) -> Decoded:
    """Read an OTLP trace request.

    Args:
        body: the request's bytes, not compressed.
        content_type: `application/x-protobuf` or `application/json`, without parameters.

    Returns:
        The spans, in the order in which they were sent.

    Raises:
        Refused: 400 for anything that is not such a request, 413 for one with too many parts.
    """
    if content_type == JSON:
        check_json(body)
        try:
            return _collect(_json_spans(orjson.loads(body)))
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise Refused(400, "the body is not an OTLP trace request in JSON") from None
    request = request_type()()
    check_protobuf(body, request.DESCRIPTOR)
    try:
        request.ParseFromString(body)
        return _collect(_protobuf_spans(request))
    except Refused:
        raise
    except Exception:  # DecodeError, whose class differs between protobuf's implementations
        raise Refused(400, "the body is not an OTLP trace request in protobuf") from None


def encode_answer(content_type: str, rejected: int = 0) -> bytes:
    """An `ExportTraceServiceResponse`.

    Args:
        content_type: of the request; the answer has the same.
        rejected: how many spans were refused because their ids are not valid.

    Returns:
        The encoded message; empty for protobuf when nothing was refused.
    """
    message = "spans without valid ids were refused"
    if content_type == JSON:
        partial = {"rejectedSpans": str(rejected), "errorMessage": message}
        return orjson.dumps({"partialSuccess": partial} if rejected else {})
    if not rejected:
        return b""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = message
    return bytes(answer.SerializeToString())


def encode_status(content_type: str, reason: str) -> bytes:
    """A `google.rpc.Status`, which is what OTLP puts into the body of an HTTP error.

    Args:
        content_type: of the request; the answer has the same.
        reason: one sentence, shorter than 128 characters of ASCII.

    Returns:
        The encoded message.
    """
    if content_type == JSON:
        return orjson.dumps({"code": _INVALID_ARGUMENT, "message": reason})
    text = reason.encode()[:127]
    return bytes([0x08, _INVALID_ARGUMENT, 0x12, len(text)]) + text


def _collect(spans: Iterable[ReceivedSpan]) -> Decoded:
    accepted: list[ReceivedSpan] = []
    rejected = 0
    for span in spans:
        if _is_id(span.trace_id, 32) and _is_id(span.span_id, 16):
            accepted.append(span)
        else:
            rejected += 1
    return Decoded(accepted, rejected)


def _is_id(text: str, length: int) -> bool:
    return len(text) == length and re.fullmatch("[0-9a-f]+", text) is not None and text.strip("0") != ""


def _parent(text: str) -> str | None:
    return text if _is_id(text, 16) else None


# Protobuf


def _protobuf_spans(request: Any) -> Iterable[ReceivedSpan]:
    for of_resource in request.resource_spans:
        resource = _protobuf_attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield ReceivedSpan(
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=_parent(span.parent_span_id.hex()),
                    name=span.name,
                    kind=span.kind,
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    attributes=_protobuf_attributes(span.attributes),
                    events=tuple(
                        ReceivedEvent(event.name, event.time_unix_nano, _protobuf_attributes(event.attributes))
                        for event in span.events[:_PER_SPAN]
                    ),
                    links=tuple(
                        ReceivedLink(link.trace_id.hex(), link.span_id.hex(), _protobuf_attributes(link.attributes))
                        for link in span.links[:_PER_SPAN]
                        if len(link.trace_id) == 16 and len(link.span_id) == 8
                    ),
                    status_code=span.status.code,
                    status_message=span.status.message,
                    resource=resource,
                    scope=of_scope.scope.name,
                    remote_parent=bool(span.flags & _REMOTE),
                )


def _protobuf_attributes(pairs: Any, depth: int = 0) -> Attributes:
    return {pair.key: _protobuf_value(pair.value, depth) for pair in pairs[:_PER_SPAN]}


def _protobuf_value(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise Refused(400, f"an attribute is nested more than {MAX_DEPTH} levels deep")
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    content = getattr(value, kind)
    if kind == "array_value":
        return [_protobuf_value(item, depth + 1) for item in content.values]
    if kind == "kvlist_value":
        return _protobuf_attributes(content.values, depth + 1)
    return base64.b64encode(content).decode() if kind == "bytes_value" else content


# JSON: ids are hex, 64-bit integers are strings or numbers, names are in lowerCamelCase; what is unknown is ignored


def _json_spans(request: Any) -> Iterable[ReceivedSpan]:
    for of_resource in _members(_mapping(request), "resourceSpans"):
        resource = _json_attributes(_mapping(of_resource.get("resource") or {}))
        for of_scope in _members(of_resource, "scopeSpans"):
            scope = _text(_mapping(of_scope.get("scope") or {}), "name")
            for span in _members(of_scope, "spans"):
                yield _json_span(span, resource, scope)


def _json_span(span: Mapping[str, Any], resource: Attributes, scope: str) -> ReceivedSpan:
    status = _mapping(span.get("status") or {})
    return ReceivedSpan(
        trace_id=_text(span, "traceId").lower(),
        span_id=_text(span, "spanId").lower(),
        parent_id=_parent(_text(span, "parentSpanId").lower()),
        name=_text(span, "name"),
        kind=_unsigned(span, "kind"),
        start=_unsigned(span, "startTimeUnixNano"),
        end=_unsigned(span, "endTimeUnixNano"),
        attributes=_json_attributes(span),
        events=tuple(
            ReceivedEvent(_text(event, "name"), _unsigned(event, "timeUnixNano"), _json_attributes(event))
            for event in _members(span, "events")[:_PER_SPAN]
        ),
        links=tuple(
            ReceivedLink(_text(link, "traceId").lower(), _text(link, "spanId").lower(), _json_attributes(link))
            for link in _members(span, "links")[:_PER_SPAN]
            if _is_id(_text(link, "traceId").lower(), 32) and _is_id(_text(link, "spanId").lower(), 16)
        ),
        status_code=_unsigned(status, "code"),
        status_message=_text(status, "message"),
        resource=resource,
        scope=scope,
        remote_parent=bool(_unsigned(span, "flags") & _REMOTE),
    )


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("an object was expected")
    return cast("dict[str, Any]", value)


def _members(owner: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    members: Any = owner.get(key) or []
    if not isinstance(members, list):
        raise TypeError("a list was expected")
    return [_mapping(member) for member in members]  # pyright: ignore[reportUnknownVariableType]


def _text(owner: Mapping[str, Any], key: str) -> str:
    text = owner.get(key) or ""
    if not isinstance(text, str):
        raise TypeError("a string was expected")
    return text


def _unsigned(owner: Mapping[str, Any], key: str) -> int:
    number = int(owner.get(key) or 0)
    if not 0 <= number < 2**64:
        raise ValueError("an unsigned integer of 64 bits was expected")
    return number


def _signed(value: Any) -> int:
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError("an integer of 64 bits was expected")
    return number


def _json_attributes(owner: Mapping[str, Any], key: str = "attributes", depth: int = 0) -> Attributes:
    pairs = _members(owner, key)[:_PER_SPAN]
    return {_text(pair, "key"): _json_value(_mapping(pair.get("value") or {}), depth) for pair in pairs}


_SCALARS: Final[dict[str, Callable[[Any], Any]]] = {
    "stringValue": str,
    "boolValue": bool,
    "intValue": _signed,
    "doubleValue": float,
    "bytesValue": str,
}


def _json_value(value: Mapping[str, Any], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"an attribute is nested more than {MAX_DEPTH} levels deep")
    for kind, convert in _SCALARS.items():
        if value.get(kind) is not None:
            return convert(value[kind])
    if "arrayValue" in value:
        return [_json_value(item, depth + 1) for item in _members(_mapping(value["arrayValue"] or {}), "values")]
    if "kvlistValue" in value:
        return _json_attributes(_mapping(value["kvlistValue"] or {}), "values", depth + 1)
    return None
