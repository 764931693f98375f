"""The encoders' promises for values, caches, cuts and exporters that one example proves."""

from __future__ import annotations

import enum
import io
import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, NamedTuple

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from rootspan.encode import JsonEncoder, ProtobufEncoder, protobuf, readable_span
from rootspan.encode.wire import cut, plain, plain_text
from rootspan.record import Link, SpanData, SpanEvent

RESOURCE = {"service.name": "shop"}
SPAN = SpanData("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", None, "user_message", 1, 1, 2, {})
Encoder = ProtobufEncoder | JsonEncoder


def protobuf_encoder() -> ProtobufEncoder:
    return ProtobufEncoder(RESOURCE, "1.0")


def json_encoder() -> JsonEncoder:
    return JsonEncoder(RESOURCE, "1.0")


both = pytest.mark.parametrize("encoder", [protobuf_encoder(), json_encoder()], ids=["protobuf", "json"])


def parsed(encoder: ProtobufEncoder, *spans: SpanData) -> list[Span]:
    request = ExportTraceServiceRequest.FromString(encoder.batch([encoder.span(span) for span in spans]))
    return list(request.resource_spans[0].scope_spans[0].spans)


def sent(**attributes: Any) -> dict[str, Any]:
    (span,) = parsed(protobuf_encoder(), SPAN._replace(attributes=attributes))
    return {a.key: getattr(a.value, str(a.value.WhichOneof("value"))) for a in span.attributes}


class Word(str):
    def __str__(self) -> str:
        raise RuntimeError


class Number(enum.IntEnum):
    SEVEN = 7


class Ratio(float):
    def __repr__(self) -> str:
        raise RuntimeError


class Leaver:
    def __str__(self) -> str:
        raise SystemExit(3)


class Interrupter:
    def __str__(self) -> str:
        raise KeyboardInterrupt


class Pretender:
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError


class BrokenList(list[object]):
    def __iter__(self) -> Iterator[object]:
        raise RuntimeError


class Names(NamedTuple):
    one: int
    two: int


ODD = [
    (Word("kept"), "kept"),
    (Number.SEVEN, 7),
    (Ratio(0.5), 0.5),
    (2**63 - 1, 2**63 - 1),
    (-(2**63), -(2**63)),
    (2**63, "9223372036854775808"),
    (-(2**63) - 1, "-9223372036854775809"),
    (1 << 20_000, "<int of 20001 bits>" if sys.version_info >= (3, 10, 7) else str(1 << 20_000)),
    (Leaver(), "<unprintable>"),
    (Pretender(), "<unprintable>"),
    (BrokenList([1, 2]), "<unprintable>"),
    (b"raw", "b'raw'"),
    ({"a": 1}, "{'a': 1}"),
    ("\ud83d\ude00 \ude00 \ud83d", "\U0001f600 \ufffd \ufffd"),
    ("\ufeff\ud800", "\ufeff\ufffd"),
    ("a\0b", "a\0b"),
]


@pytest.mark.parametrize(("value", "expected"), ODD, ids=[str(n) for n in range(len(ODD))])
def test_every_value_becomes_something(value: object, expected: object) -> None:
    """delivery 11"""
    text = sent(before=1, odd=value, after="x")
    assert text == {"before": 1, "odd": expected, "after": "x"}
    assert type(text["odd"]) is type(expected)
    other = json.loads(json_encoder().span(SPAN._replace(attributes={"odd": value})))["attributes"][0]["value"]
    assert list(other.values()) == [str(expected) if type(expected) is int else expected]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([], ()),
        (("a", "b"), ("a", "b")),
        ([True, False], (True, False)),
        ([1, 2.5], ("1", "2.5")),
        ([True, 1], ("True", "1")),
        ([1, 2**64], ("1", "18446744073709551616")),
        (["a", None, [1], Leaver()], ("a", "None", "[1]", "<unprintable>")),
        ((Number.SEVEN, 8), (7, 8)),
        (Names(1, 2), (1, 2)),
    ],
)
def test_a_strange_sequence_becomes_its_texts(value: object, expected: tuple[object, ...]) -> None:
    """delivery 11"""
    assert plain(value) == expected
    assert [*map(type, plain(value))] == [*map(type, expected)]  # type: ignore[call-overload, arg-type]
    array = sent(odd=value)["odd"]
    assert tuple(getattr(v, v.WhichOneof("value")) for v in array.values) == expected


def test_a_tuple_of_subclasses_of_text_is_text() -> None:
    assert [v.string_value for v in sent(odd=(Word("a"), "b"))["odd"].values] == ["a", "b"]


def test_an_interrupt_passes() -> None:
    """delivery 10"""
    with pytest.raises(KeyboardInterrupt):
        plain_text(Interrupter())


def test_none_is_left_out() -> None:
    assert sent(a=None, b="") == {"b": ""}


@pytest.mark.parametrize("key", [1, "\ud800", Word("word")])
def test_an_odd_key_becomes_text(key: Any) -> None:
    """delivery 11"""
    (span,) = parsed(protobuf_encoder(), SPAN._replace(attributes={"a": 1, key: 2.5, "b": "c"}))
    expected = {1: "1", "\ud800": "\ufffd", "word": "word"}[key]
    assert [a.key for a in span.attributes] == ["a", expected, "b"]
    shown = json.loads(json_encoder().span(SPAN._replace(attributes={key: 2})))
    assert shown["attributes"] == [{"key": expected, "value": {"intValue": "2"}}]


def test_equal_numbers_of_different_types_stay_apart() -> None:
    encoder = protobuf_encoder()
    for value, kind in [(1, "int_value"), (True, "bool_value"), (1.0, "double_value"), ("1", "string_value")] * 2:
        (span,) = parsed(encoder, SPAN._replace(attributes={"n": value}))
        assert span.attributes[0].value.WhichOneof("value") == kind


def test_the_caches_are_bounded_and_stay_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "_MOST", 5)
    encoder = protobuf_encoder()
    for n in range(50):
        attributes = {f"key{n % 9}": n, f"key{n % 4}.text": f"value{n}", "k" * 200 + str(n): 1, "fixed": 1.5}
        (span,) = parsed(encoder, SPAN._replace(name=f"name{n}" * (1 + n % 2 * 40), attributes=attributes))
        assert [a.key for a in span.attributes] == [*attributes]
        assert span.attributes[0].value.int_value == n
        assert span.attributes[1].value.string_value == f"value{n}"
        assert span.name == f"name{n}" * (1 + n % 2 * 40)
        assert max(map(len, (encoder._known, encoder._keys, encoder._names))) <= 5
    encoder.span(SPAN._replace(attributes={"long": "\U0001f600" * 64, "big": 1 << 9999, "k" * 300: 1}))
    assert not {"long", "big", "k" * 300} & {key for key, _ in encoder._known}


@both
@pytest.mark.parametrize(
    "bad",
    [
        {"trace_id": "ab"},
        {"trace_id": "z" * 32},
        {"trace_id": "ab " * 10 + "ab"},
        {"trace_id": "ab" * 15, "span_id": "ab" * 9},
        {"span_id": "ab" * 9},
        {"parent_id": "abcd"},
        {"parent_id": "abababab abababab"},
        {"links": [Link("ab", "ab")]},
        {"links": [Link("ab" * 16, "ab")]},
    ],
)
def test_a_malformed_id_costs_only_its_own_span(encoder: Encoder, bad: dict[str, Any]) -> None:
    """delivery 5"""
    with pytest.raises(ValueError, match="hexadecimal"):
        encoder.span(SPAN._replace(**bad))


@pytest.mark.parametrize(
    ("given", "kind", "code", "message", "start", "end"),
    [
        ({"kind": 0, "status_code": 9, "status_message": "no", "start": -1, "end": 2**64}, 1, 0, "", 0, 2**64 - 1),
        ({"kind": 6, "status_code": 1, "status_message": "no"}, 1, 1, "", 1, 2),
        ({"kind": 5, "status_code": 2, "status_message": "\ud800"}, 5, 2, "\ufffd", 1, 2),
        ({"kind": 3, "status_code": 2}, 3, 2, "", 1, 2),
    ],
)
def test_numbers_out_of_range(given: dict[str, Any], kind: int, code: int, message: str, start: int, end: int) -> None:
    data = SPAN._replace(**given)
    (span,) = parsed(protobuf_encoder(), data)
    assert (span.kind, span.status.code, span.status.message) == (kind, code, message)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (start, end)
    shown = json.loads(json_encoder().span(data))
    assert (shown["kind"], shown["status"].get("code", 0), shown["status"].get("message", "")) == (kind, code, message)
    assert (shown["startTimeUnixNano"], shown["endTimeUnixNano"]) == (str(start), str(end))


def test_json_is_otlp_json() -> None:
    """Hex ids, 64-bit integers as text, enums as numbers, lowerCamelCase, words for what JSON has no numbers for."""
    values = {"s": '{"a": 1}', "i": 2**53 + 1, "b": False, "d": 1.5, "n": math.nan, "p": math.inf, "m": -math.inf}
    data = SPAN._replace(
        parent_id="00f067aa0ba902b7",
        attributes={**values, "l": (1, 2), "e": ()},
        events=[SpanEvent("exception", 3, {"exception.type": "KeyError"})],
        links=[Link("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")],
        status_code=2,
        status_message="broken",
    )
    encoder = json_encoder()
    assert json.loads(encoder.batch([encoder.span(data)])) == {
        "resourceSpans": [{
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeSpans": [{
                "scope": {"name": "rootspan", "version": "1.0"},
                "spans": [{
                    "traceId": "0af7651916cd43dd8448eb211c80319c",
                    "spanId": "b7ad6b7169203331",
                    "parentSpanId": "00f067aa0ba902b7",
                    "name": "user_message",
                    "kind": 1,
                    "startTimeUnixNano": "1",
                    "endTimeUnixNano": "2",
                    "attributes": [
                        {"key": "s", "value": {"stringValue": '{"a": 1}'}},
                        {"key": "i", "value": {"intValue": "9007199254740993"}},
                        {"key": "b", "value": {"boolValue": False}},
                        {"key": "d", "value": {"doubleValue": 1.5}},
                        {"key": "n", "value": {"doubleValue": "NaN"}},
                        {"key": "p", "value": {"doubleValue": "Infinity"}},
                        {"key": "m", "value": {"doubleValue": "-Infinity"}},
                        {"key": "l", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"intValue": "2"}]}}},
                        {"key": "e", "value": {"arrayValue": {"values": []}}},
                    ],
                    "events": [{
                        "timeUnixNano": "3",
                        "name": "exception",
                        "attributes": [{"key": "exception.type", "value": {"stringValue": "KeyError"}}],
                    }],
                    "links": [{
                        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
                        "spanId": "00f067aa0ba902b7",
                        "flags": 256,
                    }],
                    "status": {"code": 2, "message": "broken"},
                    "flags": 256,
                }],
            }],
        }]
    }  # fmt: skip


def test_cut_says_how_much_there_was() -> None:
    """delivery 5"""
    text = ("é" * 5000).encode()
    once = cut(text, 1000)
    assert len(once) <= 1000
    assert once.decode().endswith("é…[cut from 10000 bytes]")
    again = cut(once, 100)
    assert again.decode() == "é" * 37 + "…[cut from 10000 bytes]"
    assert cut(text, 5) == "éé".encode()
    assert cut(text, 1) == cut(text, 0) == cut(text, -1) == b""
    assert cut(b"x" * 60 + "…[cut from 5 bytes]".encode(), 30).decode() == "xxxxxxxx…[cut from 81 bytes]"


@both
def test_shrink_cuts_every_long_value_and_keeps_its_neighbours(encoder: Encoder) -> None:
    """delivery 5"""
    long = "x" * 100_000
    data = SPAN._replace(
        name="a name",
        attributes={"short": "y", "n": -1, "ratio": 0.5, "long": long, "list": ["z", long], "last": True},
        events=[SpanEvent("e", 1, {"stack": long, "type": "KeyError"})],
        status_code=2,
        status_message=long,
    )
    short = "x" * 74 + "…[cut from 100000 bytes]"
    expected = data._replace(
        attributes={**data.attributes, "long": short, "list": ["z", short]},
        events=[SpanEvent("e", 1, {"stack": short, "type": "KeyError"})],
        status_message=short,
    )
    assert encoder.shrink(encoder.span(data), 100) == encoder.span(expected)
    assert len(short.encode()) == 100


@pytest.mark.parametrize("size", [100, 101, 125, 126, 127, 128, 129, 2030, 2047, 2048, 16_383, 16_384, 2**21])
def test_every_size_is_written_right(size: int) -> None:
    text = "x" * size
    data = SPAN._replace(name=text, attributes={"a": text, text: "b", "n": size}, status_code=2, status_message=text)
    (span,) = parsed(protobuf_encoder(), data)
    assert (span.name, span.status.message) == (text, text)
    assert [a.key for a in span.attributes] == ["a", text, "n"]
    assert [span.attributes[n].value.string_value for n in (0, 1)] == [text, "b"]
    assert span.attributes[2].value.int_value == size


@both
def test_shrink_cuts_from_the_first_byte_too_many(encoder: Encoder) -> None:
    data = SPAN._replace(attributes={"a": "x" * 101})
    cut_once = encoder.shrink(encoder.span(data), 100)
    assert cut_once == encoder.span(data._replace(attributes={"a": "x" * 77 + "…[cut from 101 bytes]"}))
    failed = SPAN._replace(status_code=2, status_message="x" * 101)
    assert encoder.shrink(encoder.span(failed), 100) != encoder.span(failed)
    assert encoder.shrink(encoder.span(failed), 101) == encoder.span(failed)


@both
def test_shrink_returns_an_untouched_span_itself(encoder: Encoder) -> None:
    span = encoder.span(SPAN._replace(attributes={"a": "x" * 100, "b": ["y" * 100, "z"], "c": 1}))
    assert encoder.shrink(span, 100) is span
    assert encoder.shrink(span, 10**6) is span


class Sink(BaseHTTPRequestHandler):
    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def sink() -> Iterator[HTTPServer]:
    Sink.bodies = []
    with HTTPServer(("127.0.0.1", 0), Sink) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


ODD_SPAN = SPAN._replace(
    parent_id="00f067aa0ba902b7",
    attributes={"text": "\ud800", "big": 2**64, "list": [1, "a"], "nan": math.nan, "object": object},
    events=[SpanEvent("e", 1, {"a": (1, 2)})],
    links=[Link("ab" * 16, "cd" * 8)],
    status_code=2,
    status_message="broken",
)


def test_any_exporter_takes_a_readable_span(sink: HTTPServer) -> None:
    resource, scope = Resource(RESOURCE), InstrumentationScope("rootspan", "1.0")
    span = readable_span(ODD_SPAN, resource, scope)
    shown = io.StringIO()
    memory = InMemorySpanExporter()
    otlp = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{sink.server_port}/v1/traces")
    for exporter in (ConsoleSpanExporter(out=shown), memory, otlp):
        assert exporter.export([span]) is SpanExportResult.SUCCESS
        exporter.shutdown()
    assert json.loads(shown.getvalue())["attributes"]["big"] == str(2**64)
    assert memory.get_finished_spans() == (span,)
    encoder = protobuf_encoder()
    ours = ExportTraceServiceRequest.FromString(encoder.batch([encoder.span(ODD_SPAN)]))
    theirs = ExportTraceServiceRequest.FromString(Sink.bodies[0])
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


def test_a_readable_span_is_sampled_and_local() -> None:
    span = readable_span(ODD_SPAN, Resource(RESOURCE), InstrumentationScope("rootspan", "1.0"))
    for context in (span.get_span_context(), span.parent, span.links[0].context):
        assert context is not None
        assert context.is_valid
        assert context.trace_flags.sampled
        assert not context.is_remote


def test_encoding_imports_neither_protobuf_nor_the_tracing_sdk() -> None:
    code = (
        "import sys, rootspan.encode;"
        "sys.exit(any(m in sys.modules for m in ('google.protobuf', 'opentelemetry.sdk.trace')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
