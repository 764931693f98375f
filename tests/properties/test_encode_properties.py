"""Whatever a span holds, our encoders say what the SDK's encoder says."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from rootspan.encode import JsonEncoder, ProtobufEncoder, readable_span
from rootspan.record import Link, SpanData, SpanEvent

RESOURCE = Resource({"service.name": "shop", "process.pid": 7, "tags": ["é", "b"], "empty": ""})
SCOPE = InstrumentationScope("rootspan", "1.0")
# Shared by all examples, so that what is cached from one meets the next.
PROTOBUF = ProtobufEncoder(RESOURCE.attributes, "1.0")
JSON = JsonEncoder(RESOURCE.attributes, "1.0")
Encoder = ProtobufEncoder | JsonEncoder
both = pytest.mark.parametrize("encoder", [PROTOBUF, JSON], ids=["protobuf", "json"])


def hexadecimal(size: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=size, max_size=size).filter(any).map(bytes.hex)


characters = st.one_of(st.characters(), st.sampled_from('\0\ud800\udbff\udc00\udfff\U0001f600é"\\\ufeff\ufffd'))
text = st.text(characters, max_size=20) | st.builds(str.__mul__, st.text(characters, max_size=3), st.integers(0, 3000))
integers = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3) | st.integers() | st.just(2**64)
floats = st.floats()
scalars = st.one_of(text, st.booleans(), integers, floats)
sequences = st.one_of(*(st.lists(kind, max_size=5) for kind in (text, st.booleans(), integers, floats, scalars)))
values = st.one_of(scalars, sequences, sequences.map(tuple), st.none(), st.binary(max_size=5), st.decimals())
keys = st.sampled_from(["user.id", "n", "input.value", "1"]) | text
attributes = st.dictionaries(keys, values, max_size=8)
times = st.integers(0, 2**64 - 1) | st.integers(-(2**65), 2**65)
spans = st.builds(
    SpanData,
    trace_id=hexadecimal(16),
    span_id=hexadecimal(8),
    parent_id=st.none() | hexadecimal(8),
    name=text,
    kind=st.integers(0, 6),
    start=times,
    end=times,
    attributes=attributes,
    events=st.lists(st.builds(SpanEvent, text, times, attributes), max_size=2),
    links=st.lists(st.builds(Link, hexadecimal(16), hexadecimal(8)), max_size=2),
    status_code=st.integers(0, 3),
    status_message=text,
)
streams = st.lists(spans, min_size=1, max_size=3)


def any_values(message: Any) -> Iterator[AnyValue]:
    if isinstance(message, AnyValue):
        yield message
    for field, value in message.ListFields():
        if field.message_type:
            for part in value if hasattr(value, "append") or hasattr(value, "add") else [value]:
                yield from any_values(part)


def canonical(request: ExportTraceServiceRequest) -> bytes:
    """The request's bytes, with one NaN for all: JSON knows only one."""
    for value in any_values(request):
        if value.HasField("double_value") and math.isnan(value.double_value):
            value.double_value = math.nan
    return request.SerializeToString(deterministic=True)


def from_json(body: bytes) -> ExportTraceServiceRequest:
    """Parse OTLP/JSON, which is protobuf's JSON mapping except for ids in hex."""
    parsed = json.loads(body)
    for span in parsed["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for item in [span, *span["links"]]:
            for name in {"traceId", "spanId", "parentSpanId"} & item.keys():
                item[name] = base64.b64encode(bytes.fromhex(item[name])).decode()
    return json_format.ParseDict(parsed, ExportTraceServiceRequest())


def from_sdk(stream: list[SpanData]) -> ExportTraceServiceRequest:
    return encode_spans([readable_span(data, RESOURCE, SCOPE) for data in stream])


def request_of(encoder: Encoder, encoded: list[bytes]) -> ExportTraceServiceRequest:
    body = encoder.batch(encoded)
    return ExportTraceServiceRequest.FromString(body) if isinstance(encoder, ProtobufEncoder) else from_json(body)


@given(streams)
def test_protobuf_says_what_the_sdk_says(stream: list[SpanData]) -> None:
    """delivery 11"""
    ours = request_of(PROTOBUF, [PROTOBUF.span(data) for data in stream])
    theirs = from_sdk(stream)
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


@given(streams)
def test_json_says_what_the_sdk_says(stream: list[SpanData]) -> None:
    """delivery 11"""
    ours = request_of(JSON, [JSON.span(data) for data in stream])
    assert canonical(ours) == canonical(from_sdk(stream))


def texts(request: ExportTraceServiceRequest) -> Iterator[str]:
    (span,) = request.resource_spans[0].scope_spans[0].spans
    yield from (value.string_value for value in any_values(span))
    yield span.status.message


@both
@given(data=spans, longest=st.integers(0, 120) | st.integers(120, 10_000))
def test_shrink_keeps_within_the_limit_and_changes_nothing_else(encoder: Encoder, data: SpanData, longest: int) -> None:
    """delivery 5"""
    span = encoder.span(data)
    shrunk = encoder.shrink(span, longest)
    before, after = request_of(encoder, [span]), request_of(encoder, [shrunk])
    assert encoder.shrink(shrunk, longest) == shrunk
    pairs = list(zip(texts(before), texts(after), strict=True))
    for old, new in pairs:
        assert len(new.encode()) <= longest
        if len(old.encode()) <= longest:
            assert new == old
        else:
            kept = new.rpartition("…[cut from ")[0] or new
            assert longest < 40 or old.startswith(kept)
    if all(old == new for old, new in pairs):
        assert shrunk is span
    for request in (before, after):
        for value in any_values(request.resource_spans[0].scope_spans[0].spans[0]):
            if value.HasField("string_value"):
                value.string_value = ""
        request.resource_spans[0].scope_spans[0].spans[0].status.message = ""
    assert canonical(before) == canonical(after)
