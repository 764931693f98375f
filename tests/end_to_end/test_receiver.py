"""The receiver over real sockets: real exporters, hostile requests, and `rootspan tail` as a user runs it."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import rootspan_ui
from rootspan.errors import ConfigurationError
from rootspan_ui import ReceivedSpan, Receiver, tail
from rootspan_ui.receiver.handler import DeadlineReader
from rootspan_ui.terminal import ended_by_signals

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


def request(count: int = 1, trace: int = 1) -> bytes:
    message = ExportTraceServiceRequest()
    of_scope = message.resource_spans.add().scope_spans.add()
    for number in range(1, count + 1):
        of_scope.spans.add(trace_id=trace.to_bytes(16, "big"), span_id=number.to_bytes(8, "big"), name=f"s{number}",
                           start_time_unix_nano=10**18, end_time_unix_nano=10**18 + 5_000_000)  # fmt: skip
    return message.SerializeToString()


class Sink:
    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def receiver(sink: Sink) -> Iterator[Receiver]:
    with Receiver(port=0, on_spans=sink.spans.extend, read_timeout=0.5, connections=8) as receiver:
        yield receiver
        post(receiver, request(1, trace=99))  # it has survived whatever the test did
        assert sink.spans[-1].trace_id == f"{99:032x}"


def ask(
    receiver: Receiver, method: str, path: str, headers: dict[str, str], body: Any = None
) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", receiver.port, timeout=10)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def post(receiver: Receiver, body: Any, headers: dict[str, str] = PROTOBUF, **more: str) -> tuple[int, bytes]:
    """POST to /v1/traces; further headers are written with `_` for `-`."""
    extra = {name.replace("_", "-"): value for name, value in more.items()}
    answer, content = ask(receiver, "POST", "/v1/traces", {**headers, **extra}, body)
    return answer.status, content


def raw(receiver: Receiver, data: bytes) -> bytes:
    """Send bytes and read until the receiver hangs up."""
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as connection:
        with suppress(OSError):
            connection.sendall(data)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def status(answer: bytes) -> int:
    return int(answer.split()[1])


# What it is for


@pytest.mark.parametrize("compression", list(Compression))
def test_the_sdk_exporter_delivers(receiver: Receiver, sink: Sink, compression: Compression) -> None:
    exporter = OTLPSpanExporter(f"{receiver.url}/v1/traces", compression=compression)
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("turn", attributes={"n": 1, "tags": ["a", "b"]}) as turn:
        tracer.start_span("child").end()
        turn.add_event("seen", {"x": 1.5})
    provider.shutdown()
    child, root = sink.spans
    assert (child.parent_id, root.parent_id) == (root.span_id, None)
    assert root.span_id == f"{turn.get_span_context().span_id:016x}"
    assert root.attributes == {"n": 1, "tags": ["a", "b"]}
    assert (root.events[0].name, root.events[0].attributes) == ("seen", {"x": 1.5})
    assert (root.resource["service.name"], root.scope) == ("shop", "test")
    assert root.end > root.start > 10**18


def test_answers_are_in_the_encoding_of_the_request(receiver: Receiver, sink: Sink) -> None:
    answer, body = ask(receiver, "POST", "/v1/traces", PROTOBUF, request(2))
    assert (answer.status, answer.getheader("Content-Type")) == (200, "application/x-protobuf")
    assert ExportTraceServiceResponse.FromString(body) == ExportTraceServiceResponse()
    answer, body = ask(receiver, "POST", "/v1/traces", {"Content-Type": "application/json; charset=utf-8"}, b"{}")
    assert (answer.status, answer.getheader("Content-Type")) == (200, "application/json")
    assert json.loads(body) == {}
    assert sink.names == ["s1", "s2"]


def test_spans_without_ids_come_back_as_partial_success(receiver: Receiver) -> None:
    """delivery 4: rejections are told"""
    bad = ExportTraceServiceRequest()
    bad.resource_spans.add().scope_spans.add().spans.add(name="no ids")
    code, body = post(receiver, bad.SerializeToString())
    assert code == 200
    assert ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans == 1


def test_connections_are_kept(receiver: Receiver, sink: Sink) -> None:
    connection = HTTPConnection("127.0.0.1", receiver.port, timeout=10)
    for number in (1, 2):
        connection.request("POST", "/v1/traces", request(1, trace=number), PROTOBUF)
        assert connection.getresponse().read() == b""
        used = connection.sock
    connection.request("POST", "/v1/traces", b"rubbish", PROTOBUF)  # a bad body that was read leaves the line in order
    assert connection.getresponse().read()
    connection.request("GET", "/")
    assert connection.getresponse().read().startswith(b"rootspan receiver")
    assert connection.sock is used
    connection.close()
    assert len(sink.spans) == 2


def test_the_front_page_is_one_line(receiver: Receiver) -> None:
    answer, body = ask(receiver, "GET", "/?a=1", {})
    assert body == b"rootspan receiver: POST OTLP to /v1/traces\n"
    assert answer.getheader("Content-Type") == "text/plain; charset=utf-8"
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Server") == "rootspan"
    assert not [name for name, _ in answer.getheaders() if name.lower().startswith("access-control")]
    answer, body = ask(receiver, "HEAD", "/", {})
    assert (answer.status, body) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path", "expected", "allow"),
    [
        ("GET", "/v1/traces", 405, "POST"),
        ("OPTIONS", "/v1/traces", 405, "POST"),
        ("PUT", "/v1/traces", 405, "POST"),
        ("POST", "/", 405, "GET, HEAD"),
        ("GET", "/favicon.ico", 404, None),
        ("POST", "/v1/logs", 404, None),
        ("POST", "/v1/traces/", 404, None),
        ("BREW", "/", 501, None),
    ],
)
def test_wrong_paths_and_methods(receiver: Receiver, method: str, path: str, expected: int, allow: str | None) -> None:
    answer, _ = ask(receiver, method, path, PROTOBUF, request() if method in ("POST", "PUT") else None)
    assert (answer.status, answer.getheader("Allow")) == (expected, allow)
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Access-Control-Allow-Origin") is None


# Who may speak


@pytest.mark.parametrize("host", ["evil.example", "evil.example:4318", "127.0.0.1.evil.example", "192.168.1.5",
                                  "localhost.evil", "1.1.1.1", "[fe80::1]:80", "rebind.localhost.run"])  # fmt: skip
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", "/v1/traces"), ("GET", "/nowhere")])
def test_a_rebound_host_is_refused_before_anything_else(
    receiver: Receiver, sink: Sink, host: str, method: str, path: str
) -> None:
    """DNS rebinding"""
    answer, body = ask(receiver, method, path, {**PROTOBUF, "Host": host}, request())
    assert answer.status == 403
    assert host.encode() not in body
    assert sink.spans == []


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "127.8.8.8", "[::1]:4318", "localhost.", "tail.localhost"]
)
def test_the_names_of_this_machine_are_served(receiver: Receiver, host: str) -> None:
    assert post(receiver, request(), Host=host)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [b"", b"Host: a\r\nHost: localhost\r\n", b"Host:\r\n", b"Host: user@localhost\r\n", b"Host: localhost/x\r\n"],
)
def test_a_missing_or_odd_host_is_400(receiver: Receiver, headers: bytes) -> None:
    assert status(raw(receiver, b"GET / HTTP/1.1\r\nConnection: close\r\n" + headers + b"\r\n")) == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000", "Host": "localhost:4318"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://localhost:4318", "Host": "localhost:4318"},
    ],
)
def test_web_pages_cannot_write(receiver: Receiver, sink: Sink, headers: dict[str, str]) -> None:
    assert post(receiver, request(), {**PROTOBUF, **headers})[0] == 403
    assert sink.spans == []


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"])
def test_content_types_that_a_form_can_send_are_refused(receiver: Receiver, sink: Sink, kind: str | None) -> None:
    assert post(receiver, request(), {} if kind is None else {"Content-Type": kind})[0] == 415
    assert sink.spans == []


def test_beyond_loopback_a_token_is_needed(sink: Sink) -> None:
    for host in ("0.0.0.0", "", "::"):
        with pytest.raises(ConfigurationError, match="token"):
            Receiver(host, 0)
    with Receiver("0.0.0.0", 0, sink.spans.extend, token="s3cret") as receiver:
        assert receiver.url == f"http://127.0.0.1:{receiver.port}"
        for given in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "s3cret"},
            {"Authorization": "Bearer é"},
        ):
            answer, _ = ask(receiver, "GET", "/", given)
            assert (answer.status, answer.getheader("WWW-Authenticate")) == (401, "Bearer")
            assert post(receiver, request(), {**PROTOBUF, **given})[0] == 401
        assert sink.spans == []
        assert post(receiver, request(), Authorization="Bearer s3cret", Host="192.168.1.5:4318")[0] == 200
        # names that containers give this machine; no web page can show the token
        assert post(receiver, request(), Authorization="Bearer s3cret", Host="host.docker.internal:4318")[0] == 200
        assert post(receiver, request(), Host="host.docker.internal:4318")[0] == 401
    assert sink.names == ["s1", "s1"]


@pytest.mark.parametrize("token", ["", "two words", "line\r\nfeed", "é", "x" * 5_000])
def test_a_token_is_a_header_value(token: str) -> None:
    with pytest.raises(ConfigurationError, match="openssl rand"):
        Receiver(port=0, token=token)


# What a body may be


def test_bodies_too_large_are_told_so_and_not_reset(receiver: Receiver, sink: Sink) -> None:
    """delivery 5: the sender has to read the 413 to halve its batch"""
    assert post(receiver, b"\0" * (16 * 2**20 + 1))[0] == 413
    assert post(receiver, gzip.compress(b"\0" * (65 * 2**20)), Content_Encoding="gzip")[0] == 413  # a bomb of 66 kB
    assert sink.spans == []


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (b"99999999999999", 413),
        (b"9" * 19, 413),
        (b"9" * 5_000, 400),
        (b"-1", 400),
        (b"1_0", 400),
        (b"+5", 400),
        (b"x", 400),
    ],
)
def test_lengths_that_lie(receiver: Receiver, length: bytes, expected: int) -> None:
    head = b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
    answer = raw(receiver, head + length + b"\r\n\r\n{}")
    assert status(answer) == expected
    assert b"Connection: close" in answer


def test_a_length_is_needed_and_only_one(receiver: Receiver) -> None:
    head = b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    assert status(raw(receiver, head + b"\r\n")) == 411
    assert status(raw(receiver, head + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}")) == 400
    assert status(raw(receiver, head + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")) == 400
    assert status(raw(receiver, head + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")) == 501


def test_slow_bodies_meet_the_deadline(receiver: Receiver) -> None:
    head = (
        b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as connection:
        connection.sendall(head)
        with suppress(OSError):
            for _ in range(20):  # a drip that never rests as long as the deadline
                connection.sendall(b" ")
                time.sleep(0.1)
        assert status(connection.recv(65536)) == 408


def test_slow_headers_meet_the_deadline(receiver: Receiver) -> None:
    assert raw(receiver, b"GET / HTTP/1.1\r\nHost: loc") == b""


def test_a_body_that_ends_early_is_400(receiver: Receiver) -> None:
    head = (
        b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    )
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as connection:
        connection.sendall(head)
        connection.shutdown(socket.SHUT_WR)
        assert status(connection.recv(65536)) == 400


def test_chunked_bodies(receiver: Receiver, sink: Sink) -> None:
    body = request(3)
    pieces = iter([body[:5], body[5:6], body[6:]])
    assert post(receiver, pieces)[0] == 200
    assert sink.names == ["s1", "s2", "s3"]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (b"2;name=value\r\n{}\r\n0\r\n\r\n", 200),
        (b"2\n{}\n0\n\n", 200),
        (b"x\r\n{}\r\n0\r\n\r\n", 400),
        (b"-2\r\n{}\r\n0\r\n\r\n", 400),
        (b"2\r\n{}0\r\n\r\n", 400),
        (b"2\r\n{", 400),
        (b"2" + b" " * 2_000 + b"\r\n{}\r\n0\r\n\r\n", 400),
        (b"0\r\nTrailer: x\r\n\r\n", 400),
        (b"", 400),
        (b"ffffffff\r\n{}", 413),
        (b"fffffffff\r\n{}", 400),
    ],
)
def test_chunks_that_lie(receiver: Receiver, chunks: bytes, expected: int) -> None:
    head = b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as connection:
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        connection.shutdown(socket.SHUT_WR)
        assert status(connection.recv(65536)) == expected


def test_expect_100_continue_is_answered_only_to_who_may_speak(receiver: Receiver, sink: Sink) -> None:
    head = (
        b"POST /v1/traces HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
    )
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as connection:
        connection.sendall(head + b"Host: localhost\r\n\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert status(connection.recv(65536)) == 200
    assert status(raw(receiver, head + b"Host: evil.example\r\n\r\n")) == 403


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"\x0a\xff\x01", PROTOBUF, 400),
        (request()[:-3], PROTOBUF, 400),
        (b"{", JSON, 400),
        (b'{"resourceSpans":[' * 20_000, JSON, 400),
        (b"not gzip", {**JSON, "Content-Encoding": "gzip"}, 400),
        (gzip.compress(b"{}", mtime=0)[:-4], {**JSON, "Content-Encoding": "gzip"}, 400),
        (b"{}", {**JSON, "Content-Encoding": "br"}, 415),
        (zlib.compress(b"{}"), {**JSON, "Content-Encoding": "Deflate"}, 200),
        (b"{}", {**JSON, "Content-Encoding": "identity"}, 200),
    ],
)
def test_bad_bodies(receiver: Receiver, body: bytes, headers: dict[str, str], expected: int) -> None:
    answer, content = ask(receiver, "POST", "/v1/traces", headers, body)
    assert answer.status == expected
    assert answer.getheader("Content-Type") == headers["Content-Type"]
    if headers is JSON:
        assert json.loads(content)["code"] == 3


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x16\x03\x01\x02\x00 TLS\r\n\r\n", 400),
        (b"GET /" + b"x" * 70_000, 414),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/3.0\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 200),
    ],
)
def test_what_is_no_request(receiver: Receiver, data: bytes, expected: int) -> None:
    answer = raw(receiver, data)
    assert status(answer) == expected
    assert b"nosniff" in answer
    assert b"xxx" not in answer
    assert b"<html" not in answer.lower()


def test_a_sender_that_vanishes_in_mid_request(receiver: Receiver) -> None:
    connection = socket.create_connection(("127.0.0.1", receiver.port), timeout=10)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.sendall(b"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\nContent-Le")
    connection.close()  # a reset


def test_a_refused_sender_may_go_on_for_a_while_only(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rootspan_ui.receiver.handler._LINGER", 0.2)
    head = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as connection:
        connection.sendall(head)
        assert status(connection.recv(65536)) == 404
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            drip(connection)


def drip(connection: socket.socket) -> None:
    for _ in range(100):
        connection.sendall(b"x" * 1_000)
        time.sleep(0.02)


def test_connections_are_capped(receiver: Receiver) -> None:
    idle = [socket.create_connection(("127.0.0.1", receiver.port), timeout=10) for _ in range(8)]
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=10) as ninth:
        answer = ninth.recv(65536)
    assert status(answer) == 503
    assert b"Retry-After: 1" in answer
    for connection in idle:
        connection.close()
    until(lambda: ask(receiver, "GET", "/", {})[0].status == 200)


def test_senders_that_keep_their_connections_leave_room_for_others(receiver: Receiver, sink: Sink) -> None:
    """Worker processes, each with a tracker of its own"""
    with ExitStack() as open_until_the_end:
        senders = [HTTPConnection("127.0.0.1", receiver.port, timeout=10) for _ in range(12)]
        for sender in senders:
            open_until_the_end.callback(sender.close)
            sender.request("POST", "/v1/traces", request(), PROTOBUF)
            assert sender.getresponse().read() == b""
        assert sum(sender.sock is not None for sender in senders) == 4
    assert len(sink.spans) == 12


def until(is_so: Callable[[], bool]) -> None:
    for _ in range(200):
        with suppress(OSError):
            if is_so():
                return
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def test_a_thread_that_cannot_be_started_costs_one_connection(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as broken:
        broken.setattr("socketserver.ThreadingMixIn.process_request", fail)
        for _ in range(20):  # more than there are places: each one is given back
            assert raw(receiver, b"") == b""


def test_a_deadline_that_has_passed_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(TimeoutError):
        DeadlineReader(ours).read(1)


def test_many_senders_at_once(receiver: Receiver, sink: Sink) -> None:
    threads = [threading.Thread(target=post, args=(receiver, request(50, trace))) for trace in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sink.spans) == 300


# Its life


def test_a_callback_that_raises_is_logged_and_answered_500(caplog: pytest.LogCaptureFixture) -> None:
    def fail(spans: list[ReceivedSpan]) -> None:
        raise RuntimeError("the callback is broken")

    with Receiver(port=0, on_spans=fail) as receiver:
        code, body = post(receiver, request())
        assert (code, b"callback is broken" in body) == (500, False)
        assert post(receiver, b"{}", {"Content-Type": "application/json"})[0] == 500
    assert "the callback is broken" in caplog.text


def test_start_and_stop_may_be_repeated(sink: Sink) -> None:
    receiver = Receiver(port=0)  # without a callback spans are thrown away
    receiver.stop()
    port = receiver.start().start().port
    assert post(receiver, request())[0] == 200
    receiver.stop()
    receiver.stop()
    assert receiver.start().port == port
    receiver.stop()
    with pytest.raises(ConnectionRefusedError):
        post(receiver, request())


def test_stopping_hangs_up_and_answers_what_is_in_the_works() -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow(spans: list[ReceivedSpan]) -> None:
        entered.set()
        leave.wait(10)

    receiver = Receiver(port=0, on_spans=slow).start()
    idle = socket.create_connection(("127.0.0.1", receiver.port), timeout=10)
    idle.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status(idle.recv(65536)) == 200
    busy = HTTPConnection("127.0.0.1", receiver.port, timeout=10)
    busy.request("POST", "/v1/traces", request(), PROTOBUF)
    assert entered.wait(10)
    stopping = threading.Thread(target=receiver.stop)
    stopping.start()
    assert idle.recv(65536) == b""
    leave.set()
    assert busy.getresponse().status == 200
    stopping.join()
    busy.close()
    idle.close()


def test_a_port_in_use_is_one_clear_error(receiver: Receiver) -> None:
    with pytest.raises(ConfigurationError, match=f"Port {receiver.port} .* in use.*\n.*--port {receiver.port + 1}"):
        Receiver(port=receiver.port).start()


@pytest.mark.parametrize(
    ("host", "port", "message"), [("192.0.2.1", 0, "Cannot listen"), ("127.0.0.1", 70_000, "65535")]
)
def test_addresses_that_cannot_be_listened_on(host: str, port: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Receiver(host, port, token="t").start()


def test_an_unknown_host_is_a_clear_error() -> None:
    with pytest.raises(ConfigurationError, match="unknown here"):
        Receiver("no such host")


def test_names_and_ipv6_addresses_of_this_machine(sink: Sink) -> None:
    with Receiver("localhost", 0) as receiver:
        assert receiver.url == f"http://127.0.0.1:{receiver.port}"
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 on this machine")
    with Receiver("[::1]", 0, sink.spans.extend) as receiver:
        assert receiver.url == f"http://[::1]:{receiver.port}"
        connection = HTTPConnection("::1", receiver.port, timeout=10)
        connection.request("POST", "/v1/traces", request(), PROTOBUF)
        assert connection.getresponse().status == 200
        connection.close()


# rootspan tail

RUN_TAIL = "import sys, rootspan_ui; sys.exit(rootspan_ui.tail(port=0, json='--json' in sys.argv))"


class Tail:
    """`rootspan tail` in a process of its own."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN_TAIL, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        greeting = self.process.stderr if "--json" in arguments else self.process.stdout
        self.greeting = ""
        while "export ROOTSPAN_ENDPOINT=" not in self.greeting:
            self.greeting += greeting.readline().decode() or pytest.fail("it did not start")
        self.port = int(self.greeting.strip().rpartition(":")[2])

    def post(self, body: bytes) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", "/v1/traces", body, PROTOBUF)
        assert connection.getresponse().status == 200
        connection.close()

    def end(self, number: int) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tail_prints_traces_and_a_summary_at_the_end(number: int) -> None:
    running = Tail(PYTHONIOENCODING="utf-8")
    running.post(request(2, trace=0xABCD << 112))
    code, out, err = running.end(number)  # at once: what waits is flushed
    assert (code, err) == (0, "")
    assert "trace abcd0000" in out
    assert "s1 " in out
    assert out.endswith("\n1 trace · 2 spans · 0 sessions · 0 errors\n")
    assert "\x1b" not in out


def test_tail_as_json_keeps_stdout_for_the_spans() -> None:
    running = Tail("--json", PYTHONIOENCODING="ascii")
    hostile = ExportTraceServiceRequest.FromString(request(2))
    hostile.resource_spans[0].scope_spans[0].spans[0].name = "\x1b[2J\x9b31m\u202eé🗼"
    running.post(hostile.SerializeToString())
    code, out, err = running.end(signal.SIGINT)
    assert code == 0
    assert [json.loads(line)["span_id"] for line in out.splitlines()] == [f"{1:016x}", f"{2:016x}"]
    assert json.loads(out.splitlines()[0])["name"] == "\x1b[2J\x9b31m\u202eé🗼"
    assert out.isascii()
    assert "\x1b" not in out
    assert err.strip().endswith("1 trace, 2 spans, 0 sessions, 0 errors")


def test_tail_ends_quietly_when_nobody_reads_any_more() -> None:
    running = Tail()
    assert running.process.stdout is not None
    running.process.stdout.close()
    with suppress(OSError):
        running.post(request())
    assert running.process.wait(20) == 0
    assert running.process.stderr is not None
    assert running.process.stderr.read() == b""
    running.process.stderr.close()


class Screen(io.StringIO):
    """A terminal on which Ctrl-C is pressed when a text appears; `before` runs when the greeting has appeared."""

    def __init__(self, before: Callable[[int], object], stop: str, terminal: bool = True) -> None:
        super().__init__()
        self.before, self.stop, self.terminal = before, stop, terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        size = super().write(text)
        if "ROOTSPAN_ENDPOINT" in text:
            port = int(text.strip().rpartition(":")[2])
            threading.Thread(target=self.before, args=(port,)).start()
        if self.stop in text:
            signal.raise_signal(signal.SIGINT)
        return size


def send(port: int, body: bytes = b"", token: str = "t") -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/v1/traces", body or request(), {**PROTOBUF, "Authorization": f"Bearer {token}"})
    connection.getresponse().read()
    connection.close()


def test_tail_shows_a_trace_when_it_is_finished_not_only_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    screen = Screen(send, "trace 00000000")
    assert tail(port=0, token="t", out=screen) == 0
    shown = screen.getvalue()
    assert "export ROOTSPAN_API_KEY=<the token>" in shown
    assert "\x1b[1ms1\x1b[0m" in shown
    assert shown.endswith("1 trace · 1 span · 0 sessions · 0 errors\n")
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_tail_says_when_it_had_to_drop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rootspan_ui.terminal.Traces", lambda: rootspan_ui.Traces(max_bytes=1_000))
    screen = Screen(lambda port: send(port, request(5)), "spans dropped", terminal=False)
    assert tail(port=0, token="t", out=screen) == 0
    assert "(4 spans dropped: they came faster than they can be printed)" in screen.getvalue()


def test_tail_says_at_its_end_what_it_had_to_drop_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rootspan_ui.terminal.Traces", lambda: rootspan_ui.Traces(max_bytes=1_000))
    monkeypatch.setattr("rootspan_ui.terminal._POLL", 60)  # it looks once only

    def send_and_end(port: int) -> None:
        send(port, request(5))
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    screen = Screen(send_and_end, "never", terminal=False)
    assert tail(port=0, token="t", out=screen) == 0
    assert "spans dropped: they came faster" in screen.getvalue()


def test_tail_that_cannot_listen_says_why(receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    assert tail(port=receiver.port) == 2
    assert capsys.readouterr().err.startswith(f"rootspan tail: Port {receiver.port} on 127.0.0.1 is in use")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no such signal")
def test_a_closed_terminal_ends_a_command_unless_nohup_says_otherwise() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        for handler, ends in ((signal.SIG_DFL, True), (signal.SIG_IGN, False)):
            signal.signal(signal.SIGHUP, handler)
            stop = threading.Event()
            with ended_by_signals(stop):
                signal.raise_signal(signal.SIGHUP)
            assert (stop.is_set(), signal.getsignal(signal.SIGHUP)) == (ends, handler)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_tail_in_a_thread_leaves_signals_alone(receiver: Receiver) -> None:
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(tail(port=receiver.port)))
    thread.start()
    thread.join(10)
    assert results == [2]


class Broken(io.StringIO):
    """A pipe whose reader has gone once a text was written."""

    def __init__(self, last: str) -> None:
        super().__init__()
        self.last = last

    def write(self, text: str) -> int:
        if self.last in text:
            raise BrokenPipeError
        return super().write(text)


class BrokenLater(Screen):
    def write(self, text: str) -> int:
        if "1 trace " in text:
            raise BrokenPipeError
        return super().write(text)


def test_tail_into_a_pipe_that_breaks() -> None:
    assert tail(port=0, out=Broken("Waiting")) == 0
    assert tail(port=0, token="t", out=BrokenLater(send, "trace 00000000", terminal=False)) == 0


def test_tail_into_an_encoding_that_python_does_not_know() -> None:
    class Odd(Screen):
        encoding = "ascii"  # type: ignore[assignment]

    screen = Odd(send, "trace 00000000", terminal=False)
    assert tail(port=0, token="t", out=screen) == 0
    assert screen.getvalue().isascii()
