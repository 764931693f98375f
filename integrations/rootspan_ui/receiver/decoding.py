"""OTLP trace requests, protobuf or JSON, as plain `ReceivedSpan` objects."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

from rootspan.errors import MissingExtraError
from rootspan_ui.receiver.bounds import MAX_DEPTH, Refused, check_json, check_protobuf
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
    rejected: int


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
    request = request_type()()
    try:
        if content_type == JSON:
            check_json(body)
            _fill(request, orjson.loads(body))
        else:
            check_protobuf(body, request.DESCRIPTOR)
            request.ParseFromString(body)
        return _collect(request)
    except Refused:
        raise
    except Exception:  # of several classes, some of which differ between protobuf's implementations
        form = "JSON" if content_type == JSON else "protobuf"
        raise Refused(400, f"the body is not an OTLP trace request in {form}") from None


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


def _fill(message: Any, given: Any) -> None:
    """Read JSON into a protobuf message: names in lowerCamelCase, ids in hex; what is unknown is ignored."""
    if not isinstance(given, dict):
        raise TypeError("an object was expected")
    fields = message.DESCRIPTOR.fields_by_camelcase_name
    for key, value in cast("dict[str, Any]", given).items():
        if key not in fields or value is None:
            continue
        name = fields[key].name
        empty = getattr(message, name)
        if hasattr(empty, "SetInParent"):  # a message
            empty.SetInParent()
            _fill(empty, value)
        elif hasattr(empty, "add"):  # several messages
            for item in value:
                _fill(empty.add(), item)
        elif isinstance(empty, bytes):
            setattr(message, name, base64.b64decode(value) if name == "bytes_value" else _id(value))
        elif not hasattr(empty, "extend"):  # no span has a list of anything else
            setattr(message, name, type(empty)(value) if type(empty) in (int, float) else value)


def _id(digits: str) -> bytes:
    try:
        return base64.b16decode(digits, casefold=True)
    except ValueError:
        return b""  # which is no valid id either


def _collect(request: Any) -> Decoded:
    accepted: list[ReceivedSpan] = []
    rejected = 0
    for of_resource in request.resource_spans:
        resource = _attributes(of_resource.resource.attributes)
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                if _is_id(span.trace_id, 16) and _is_id(span.span_id, 8):
                    accepted.append(_span(span, resource, of_scope.scope.name))
                else:
                    rejected += 1
    return Decoded(accepted, rejected)


def _span(span: Any, resource: Attributes, scope: str) -> ReceivedSpan:
    return ReceivedSpan(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex() if _is_id(span.parent_span_id, 8) else None,
        name=span.name,
        kind=span.kind,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=_attributes(span.attributes),
        events=tuple(
            ReceivedEvent(event.name, event.time_unix_nano, _attributes(event.attributes))
            for event in span.events[:_PER_SPAN]
        ),
        links=tuple(
            ReceivedLink(link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes))
            for link in span.links[:_PER_SPAN]
            if _is_id(link.trace_id, 16) and _is_id(link.span_id, 8)
        ),
        status_code=span.status.code,
        status_message=span.status.message,
        resource=resource,
        scope=scope,
        remote_parent=bool(span.flags & _REMOTE),
    )


def _is_id(given: bytes, size: int) -> bool:
    return len(given) == size and any(given)


def _attributes(pairs: Any, depth: int = 0) -> Attributes:
    return {pair.key: _value(pair.value, depth) for pair in pairs[:_PER_SPAN]}


def _value(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise Refused(400, f"an attribute is nested more than {MAX_DEPTH} levels deep")
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    content = getattr(value, kind)
    if kind == "array_value":
        return [_value(item, depth + 1) for item in content.values]
    if kind == "kvlist_value":
        return _attributes(content.values, depth + 1)
    return base64.b64encode(content).decode() if kind == "bytes_value" else content
