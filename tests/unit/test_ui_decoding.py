"""OTLP bodies, good and hostile, become `ReceivedSpan`s or a refusal."""

from __future__ import annotations

import gzip
import json
import sys
import time
import zlib
from typing import Any

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from rootspan.errors import MissingExtraError
from rootspan_ui import ReceivedEvent, ReceivedLink, ReceivedSpan, Receiver
from rootspan_ui.receiver import bounds
from rootspan_ui.receiver.bounds import Refused, check_json, check_protobuf, inflate
from rootspan_ui.receiver.decoding import JSON, PROTOBUF, decode, encode_answer, encode_status

TRACE, SPAN, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "00f067aa0ba902b6"


def attribute(key: str, **value: Any) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(**value))


def request() -> ExportTraceServiceRequest:
    message = ExportTraceServiceRequest()
    of_resource = message.resource_spans.add()
    of_resource.resource.attributes.append(attribute("service.name", string_value="shop"))
    of_scope = of_resource.scope_spans.add()
    of_scope.scope.name = "rootspan"
    span = of_scope.spans.add(
        trace_id=bytes.fromhex(TRACE),
        span_id=bytes.fromhex(SPAN),
        parent_span_id=bytes.fromhex(PARENT),
        name="chat",
        kind=3,
        flags=0x301,
        start_time_unix_nano=1_700_000_000_000_000_000,
        end_time_unix_nano=1_700_000_000_000_000_009,
    )
    span.attributes.extend(
        [
            attribute("text", string_value="héllo"),
            attribute("yes", bool_value=True),
            attribute("no", bool_value=False),
            attribute("int", int_value=-(2**63)),
            attribute("double", double_value=0.5),
            attribute("bytes", bytes_value=b"\xff\x00"),
            attribute("none"),
        ]
    )
    array = span.attributes.add(key="array").value.array_value
    array.values.extend([AnyValue(int_value=1), AnyValue(string_value="two")])
    span.attributes.add(key="map").value.kvlist_value.values.append(attribute("in", int_value=1))
    event = span.events.add(name="exception", time_unix_nano=7)
    event.attributes.append(attribute("exception.type", string_value="ValueError"))
    link = span.links.add(trace_id=b"\xab" * 16, span_id=b"\xcd" * 8)
    link.attributes.append(attribute("why", string_value="because"))
    span.status.code = 2
    span.status.message = "broken"
    return message


EXPECTED = ReceivedSpan(
    trace_id=TRACE,
    span_id=SPAN,
    parent_id=PARENT,
    name="chat",
    kind=3,
    start=1_700_000_000_000_000_000,
    end=1_700_000_000_000_000_009,
    attributes={
        "text": "héllo",
        "yes": True,
        "no": False,
        "int": -(2**63),
        "double": 0.5,
        "bytes": "/wA=",
        "none": None,
        "array": [1, "two"],
        "map": {"in": 1},
    },
    events=(ReceivedEvent("exception", 7, {"exception.type": "ValueError"}),),
    links=(ReceivedLink("ab" * 16, "cd" * 8, {"why": "because"}),),
    status_code=2,
    status_message="broken",
    resource={"service.name": "shop"},
    scope="rootspan",
    remote_parent=True,
)


def pairs(**values: Any) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def json_request(**span: Any) -> dict[str, Any]:
    whole = {
        "traceId": TRACE.upper(),
        "spanId": SPAN,
        "parentSpanId": PARENT,
        "name": "chat",
        "kind": 3,
        "flags": 0x301,
        "startTimeUnixNano": "1700000000000000000",
        "endTimeUnixNano": 1_700_000_000_000_000_009,
        "attributes": pairs(
            text={"stringValue": "héllo"},
            yes={"boolValue": True},
            no={"boolValue": False},
            int={"intValue": str(-(2**63))},
            double={"doubleValue": 0.5},
            bytes={"bytesValue": "/wA="},
            none={},
            array={"arrayValue": {"values": [{"intValue": 1}, {"stringValue": "two"}]}},
            map={"kvlistValue": {"values": pairs(**{"in": {"intValue": "1"}})}},
        ),
        "events": [{"name": "exception", "timeUnixNano": "7",
                    "attributes": pairs(**{"exception.type": {"stringValue": "ValueError"}})}],
        "links": [{"traceId": "ab" * 16, "spanId": "CD" * 8, "attributes": pairs(why={"stringValue": "because"})}],
        "status": {"code": 2, "message": "broken"},
        "somethingNew": [1, 2],
        **span,
    }  # fmt: skip
    entities = [{"type": "service", "idKeys": ["service.name"]}]
    resource = {"attributes": pairs(**{"service.name": {"stringValue": "shop"}}), "entityRefs": entities}
    return {
        "resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "rootspan"}, "spans": [whole]}]}]
    }


def refusal(body: bytes, content_type: str) -> int:
    with pytest.raises(Refused) as caught:
        decode(body, content_type)
    return caught.value.status


def test_protobuf_and_json_give_the_same_span() -> None:
    assert decode(request().SerializeToString(), PROTOBUF).spans == [EXPECTED]
    assert decode(orjson.dumps(json_request()), JSON).spans == [EXPECTED]


def test_an_empty_request_is_fine() -> None:
    assert decode(b"", PROTOBUF).spans == []
    assert decode(b"{}", JSON).spans == []
    assert decode(b'{"resourceSpans":null}', JSON).spans == []


@pytest.mark.parametrize("ids", [{"traceId": "0" * 32}, {"spanId": ""}, {"traceId": "x" * 32}, {"spanId": SPAN + "00"}])
def test_spans_without_valid_ids_are_refused_one_by_one(ids: dict[str, str]) -> None:
    decoded = decode(orjson.dumps(json_request(**ids)), JSON)
    assert (decoded.spans, decoded.rejected) == ([], 1)


def test_links_without_valid_ids_are_left_out() -> None:
    links = [
        {"traceId": "\x1b[2J" * 8, "spanId": SPAN},
        {"traceId": TRACE, "spanId": "1"},
        {"traceId": TRACE, "spanId": SPAN},
    ]
    assert decode(orjson.dumps(json_request(links=links)), JSON).spans[0].links == (ReceivedLink(TRACE, SPAN),)
    message = request()
    message.resource_spans[0].scope_spans[0].spans[0].links.add(trace_id=b"short")
    assert decode(message.SerializeToString(), PROTOBUF).spans == [EXPECTED]


def test_an_invalid_parent_is_no_parent() -> None:
    assert decode(orjson.dumps(json_request(parentSpanId="0" * 16)), JSON).spans[0].parent_id is None


def test_the_answer_counts_what_was_refused() -> None:
    assert encode_answer(PROTOBUF) == b""
    assert encode_answer(JSON) == b'{"partialSuccess":{}}' or orjson.loads(encode_answer(JSON)) == {}
    answer = ExportTraceServiceResponse.FromString(encode_answer(PROTOBUF, 3))
    assert answer.partial_success.rejected_spans == 3
    assert answer.partial_success.error_message
    assert orjson.loads(encode_answer(JSON, 3))["partialSuccess"]["rejectedSpans"] == "3"


def test_an_error_is_a_google_rpc_status() -> None:
    pytest.importorskip("google.rpc")
    from google.rpc.status_pb2 import Status

    status = Status.FromString(encode_status(PROTOBUF, "what happened"))
    assert (status.code, status.message) == (3, "what happened")
    assert orjson.loads(encode_status(JSON, "what happened")) == {"code": 3, "message": "what happened"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b'"text"',
        b'{"resourceSpans":{"a":1}}',
        b'{"resourceSpans":[1]}',
        b'{"resourceSpans":[{"scopeSpans":"x"}]}',
        b'{"resourceSpans":[{"resource":[1]}]}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        orjson.dumps(json_request(name=5)),
        orjson.dumps(json_request(startTimeUnixNano="-1")),
        orjson.dumps(json_request(startTimeUnixNano="1e400")),
        orjson.dumps(json_request(startTimeUnixNano="9" * 5000)),
        orjson.dumps(json_request(kind=[1])),
        orjson.dumps(json_request(attributes=pairs(a={"intValue": str(2**63)}))),
        orjson.dumps(json_request(attributes=pairs(a={"doubleValue": "x"}))),
        orjson.dumps(json_request(attributes=pairs(a="written by hand"))),
        orjson.dumps(json_request(startTimeUnixNano=1.0)).replace(b"1.0", b"1e400", 1),
    ],
)
def test_bad_json_is_400(body: bytes) -> None:
    assert refusal(body, JSON) == 400


@pytest.mark.parametrize("body", [b"nonsense", b"\x0a\xff", b"\x0a\x05\x12", b"\xff" * 100])
def test_bad_protobuf_is_400(body: bytes) -> None:
    assert refusal(body, PROTOBUF) == 400


def test_every_truncation_of_a_protobuf_is_refused_or_read() -> None:
    body = request().SerializeToString()
    for length in range(1, len(body)):
        assert refusal(body[:length], PROTOBUF) == 400


def nested_json(depth: int) -> bytes:
    value: dict[str, Any] = {"intValue": 1}
    for level in range(depth):
        value = {"arrayValue": {"values": [value]}} if level % 2 else {"kvlistValue": {"values": pairs(a=value)}}
    return json.dumps(json_request(attributes=pairs(deep=value))).encode()


def nested_protobuf(depth: int) -> bytes:
    def framed(number: int, content: bytes) -> bytes:
        length, size = len(content), b""
        while length > 127:
            size += bytes([length & 127 | 128])
            length >>= 7
        return bytes([number << 3 | 2]) + size + bytes([length]) + content

    value = b"\x18\x01"
    for _ in range(depth):
        value = framed(5, framed(1, value))
    span = framed(1, bytes.fromhex(TRACE)) + framed(2, bytes.fromhex(SPAN)) + framed(9, framed(2, value))
    return framed(1, framed(2, framed(2, span)))


def test_nesting_is_bounded() -> None:
    assert decode(nested_json(40), JSON).spans
    assert refusal(nested_json(70), JSON) == 400
    assert refusal(b'{"resourceSpans":[' * 5_000, JSON) == 400
    assert decode(nested_protobuf(40), PROTOBUF).spans
    assert refusal(nested_protobuf(5_000), PROTOBUF) == 400


def test_nesting_is_bounded_whatever_the_parser_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rootspan_ui.receiver.decoding.MAX_DEPTH", 3)
    assert decode(nested_protobuf(3), PROTOBUF).spans
    assert refusal(nested_protobuf(4), PROTOBUF) == 400


def test_a_span_keeps_a_thousand_attributes_events_and_links() -> None:
    message = request()
    span = message.resource_spans[0].scope_spans[0].spans[0]
    for number in range(1_200):
        span.attributes.add(key=f"k{number}")
        span.events.add(name="e")
        span.links.add(trace_id=b"\1" * 16, span_id=b"\1" * 8)
    decoded = decode(message.SerializeToString(), PROTOBUF).spans[0]
    assert (len(decoded.attributes), len(decoded.events), len(decoded.links)) == (1_000, 1_000, 1_000)


def test_without_opentelemetry_proto_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.proto.collector.trace.v1.trace_service_pb2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rootspan\[ui\]'"):
        Receiver(port=0)


# Bounds: the bodies are small because the bounds are made small


def test_protobuf_fields_are_counted_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_ITEMS", 90)
    check_protobuf(request().SerializeToString(), ExportTraceServiceRequest.DESCRIPTOR)
    many = b"\x12\x00" * 91  # 91 empty scopes in 182 bytes
    for body in (b"\x0a\x00" * 91, b"\x18\x01" * 91, b"\x0a\xb6\x01" + many, b"\x4d1234" * 91):
        with pytest.raises(Refused) as caught:
            check_protobuf(body, ExportTraceServiceRequest.DESCRIPTOR)
        assert caught.value.status == 413


@pytest.mark.parametrize(
    "tail",
    [
        b"\x0a",  # no length
        b"\x0a\x05\x12",  # a length beyond the end
        b"\x0a\x02\x12\x05",  # a child longer than its parent
        b"\x0b",  # a group
        b"\x80" * 11,  # a varint without an end
        b"\x49123",  # eight bytes announced, three there
    ],
)
def test_what_cannot_be_walked_is_400(monkeypatch: pytest.MonkeyPatch, tail: bytes) -> None:
    monkeypatch.setattr(bounds, "MAX_ITEMS", 60)
    body = b"\xb8\x01\x80\x01" * 31 + tail  # field 23, a varint of two bytes
    with pytest.raises(Refused) as caught:
        check_protobuf(body, ExportTraceServiceRequest.DESCRIPTOR)
    assert caught.value.status == 400


def test_long_lengths_are_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_ITEMS", 60)
    message = request()
    message.resource_spans[0].scope_spans[0].spans[0].name = "x" * 70_000
    del message.resource_spans[0].scope_spans[0].spans[0].attributes[:]
    check_protobuf(message.SerializeToString(), ExportTraceServiceRequest.DESCRIPTOR)


def test_json_values_are_counted_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_ITEMS", 50)
    check_json(b'["' + b"{,[" * 100 + rb"\"{\\" + b'"]')  # punctuation inside a string is text
    for body in (b"{}," * 30, b"[],[" * 30, b'"",' * 60, b"1," * 60, b'"' * 200):
        with pytest.raises(Refused) as caught:
            check_json(body)
        assert caught.value.status == 413


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity", ""])
def test_encodings(encoding: str) -> None:
    data = b"x" * 3_000_000
    encode = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)
    assert inflate(encode(data), encoding) == data


def test_gzip_members_follow_each_other() -> None:
    assert inflate(gzip.compress(b"one ") + gzip.compress(b"two"), "gzip") == b"one two"


def test_a_member_costs_the_same_whatever_follows_it() -> None:
    def cost(members: int) -> float:
        started = time.process_time()
        assert inflate(gzip.compress(b"") * members, "gzip") == b""
        return time.process_time() - started

    assert cost(100_000) < 9 * cost(25_000)  # four times; sixteen if each copied all of the rest


@pytest.mark.parametrize(
    ("body", "encoding", "status"),
    [
        (b"x", "br", 415),
        (b"not gzip", "gzip", 400),
        (gzip.compress(b"x" * 999)[:-9], "gzip", 400),
        (gzip.compress(b"x") + b"rubbish", "gzip", 400),
        (gzip.compress(b"\0" * (64 * 2**20 + 1)), "gzip", 413),
        (gzip.compress(b"\0" * (33 * 2**20)) * 2, "gzip", 413),
        (b"not zlib", "deflate", 400),
        (zlib.compress(b"x" * 999)[:-3], "deflate", 400),
        (zlib.compress(b"x") + b"rubbish", "deflate", 400),
        (zlib.compress(b"\0" * (64 * 2**20 + 1)), "deflate", 413),
    ],
    ids=[
        "another encoding",
        "rubbish",
        "cut",
        "rubbish behind it",
        "a member too large",
        "members too large",
        "rubbish, deflate",
        "cut, deflate",
        "rubbish behind it, deflate",
        "too large, deflate",
    ],
)
def test_bodies_that_do_not_inflate(body: bytes, encoding: str, status: int) -> None:
    with pytest.raises(Refused) as caught:
        inflate(body, encoding)
    assert caught.value.status == status
