"""What the transport makes of a collector's answers, over real sockets."""

from __future__ import annotations

import asyncio
import contextvars
import gzip
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from email.utils import formatdate
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import rootspan
from rootspan.encode import ProtobufEncoder
from rootspan.record import SpanData
from rootspan.settings import Settings, resolve
from rootspan.transport import Transport
from rootspan.transport.answer import Answer, read_answer
from rootspan.transport.connection import Connection, _proxy_address
from rootspan.transport.delivery import Delivery, sinks
from rootspan.transport.exporting import ExporterSink
from rootspan.transport.sink import Attempt, Backoff
from sinks import PROTOBUF, Reply, Sink, bomb, close, cut, drip, hang, html, partial, redirect, reset

KEY = "rs-secret-0123456789abcd"


def span(number: int, **attributes: Any) -> SpanData:
    return SpanData(f"{number:032x}", f"{number:016x}", None, f"event {number}", 1, 1, 2, attributes)


def settings_for(sink: Sink, **options: Any) -> Settings:
    return resolve({}, endpoint=sink.url, api_key=KEY, **options)


def body(count: int = 1, start: int = 1, **attributes: Any) -> bytes:
    made = ProtobufEncoder({"service.name": "shop"}, "1")
    return made.batch([made.span(span(number, **attributes)) for number in range(start, start + count)])


class Lab:
    """A delivery to a sink, and spans for it."""

    def __init__(self, sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "rootspan")
        self._caplog = caplog
        self.poison: list[bytes] = []
        self.delivery = Delivery(settings_for(sink), on_poison=lambda item, answer: self.poison.append(item))

    @property
    def log(self) -> list[tuple[int, str]]:
        """Level and line of what was said so far."""
        return [(level, line) for name, level, line in self._caplog.record_tuples if name == "rootspan"]

    def spans(self, count: int, **attributes: Any) -> list[bytes]:
        return [self.delivery.encode(span(number, **attributes)) for number in range(1, count + 1)]


@pytest.fixture
def lab(sink: Sink, caplog: pytest.LogCaptureFixture) -> Any:
    made = Lab(sink, caplog)
    yield made
    made.delivery.release()


@pytest.fixture
def transport(sink: Sink) -> Any:
    made = Transport(settings_for(sink, timeout=0.5))
    yield made
    made.close()


def ids(sink: Sink) -> list[int]:
    return [int(found.span_id, 16) for found in sink.spans]


# One request


def test_a_batch_arrives_with_key_type_and_agent(sink: Sink, transport: Transport) -> None:
    answer = transport.send(body(1, plan="pro"))
    (request,) = sink.requests
    assert answer.outcome == "delivered"
    assert answer.status == 200
    assert request.path == "/v1/traces"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["content-type"] == "application/x-protobuf"
    assert request.headers["user-agent"] == f"rootspan/{rootspan.__version__}"
    assert sink.one("event 1").attributes == {"plan": "pro"}
    assert sink.one("event 1").resource == {"service.name": "shop"}


def test_large_bodies_are_compressed_and_small_ones_are_not(sink: Sink, transport: Transport) -> None:
    transport.send(body(1))
    transport.send(body(200))
    small, large = sink.requests
    assert "content-encoding" not in small.headers
    assert large.headers["content-encoding"] == "gzip"
    assert large.size < len(large.body) / 3


def test_compression_can_be_switched_off(sink: Sink) -> None:
    transport = Transport(settings_for(sink, compression="none"))
    transport.send(body(200))
    transport.close()
    assert "content-encoding" not in sink.requests[0].headers


def test_one_connection_serves_many_requests(sink: Sink, transport: Transport) -> None:
    assert [transport.send(body(1, n)).outcome for n in (1, 2, 3)] == ["delivered"] * 3
    assert sink.connections == 1


def test_close_is_not_the_end(sink: Sink, transport: Transport) -> None:
    transport.send(body(1))
    transport.close()
    assert transport.send(body(1, 2)).outcome == "delivered"
    assert sink.connections == 2


def test_a_connection_that_the_server_closed_while_idle_costs_nothing(sink: Sink, transport: Transport) -> None:
    """delivery 3"""
    sink.script([Reply(200, {"Connection": "close"}), None])
    assert transport.send(body(1)).outcome == "delivered"
    assert transport.send(body(1, 2)).outcome == "delivered"
    sink.stop()
    sink.restart()
    assert transport.send(body(1, 3)).outcome == "delivered"


def test_a_kept_connection_that_dies_under_the_request_is_replaced_at_once(sink: Sink, transport: Transport) -> None:
    """delivery 3"""
    sink.script([None, close(), None])
    assert transport.send(body(1)).outcome == "delivered"
    assert transport.send(body(1, 2)).outcome == "delivered"
    assert ids(sink) == [1, 2]


def test_json_and_extra_headers_and_query(sink: Sink) -> None:
    settings = resolve({}, endpoint=f"{sink.url}?team=a", protocol="http/json", headers={"X-Scope": "tests"})
    (delivery,) = sinks(settings)
    delivery.attempt([delivery.encode(span(1, n=5))])
    delivery.release()
    assert sink.requests[0].path == "/v1/traces?team=a"
    assert sink.requests[0].headers["x-scope"] == "tests"
    assert sink.requests[0].headers["content-type"] == "application/json"
    assert "authorization" not in sink.requests[0].headers
    assert sink.one("event 1").attributes == {"n": 5}


def test_settings_that_hold_send_nothing(sink: Sink) -> None:
    settings = resolve({"ROOTSPAN_API_KEY": KEY}, endpoint=f"http://collector.test:{sink.url.rpartition(':')[2]}")
    answer = Transport(settings).send(body())
    assert answer.outcome == "hold"
    assert "ROOTSPAN_API_KEY" in answer.detail
    assert KEY not in answer.detail
    assert sink.requests == []


# What each answer means


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504])
def test_trouble_of_the_server_is_retried(sink: Sink, transport: Transport, status: int) -> None:
    """delivery 3"""
    sink.script([status])
    answer = transport.send(body())
    assert (answer.outcome, answer.status) == ("retry", status)
    assert transport.send(body()).outcome == "delivered"


def test_a_status_that_no_standard_names_is_told_by_its_number(sink: Sink, transport: Transport) -> None:
    sink.script([599])
    assert transport.send(body()).detail == "HTTP 599"


@pytest.mark.parametrize(
    ("status", "named"),
    [
        (401, "api_key="),
        (402, "api_key="),
        (403, "headers="),
        (404, "endpoint="),
        (405, "endpoint="),
        (407, "NO_PROXY"),
        (411, "endpoint="),
        (415, "protocol="),
    ],
)
def test_trouble_with_the_configuration_holds(sink: Sink, transport: Transport, status: int, named: str) -> None:
    """delivery 5: a wrong key is a configuration error, not a reason to delete"""
    sink.script([status])
    answer = transport.send(body())
    assert (answer.outcome, answer.status) == ("hold", status)
    assert named in answer.fix


def test_what_has_to_be_mended_is_said_with_the_fix_on_a_line_of_its_own(sink: Sink, lab: Lab) -> None:
    sink.script([401])
    lab.delivery.attempt(lab.spans(1))
    ((level, line),) = lab.log
    assert level == logging.ERROR
    assert line.endswith("tried again: HTTP 401 Unauthorized\nFix: check api_key=, or the headers= that stand for it.")


@pytest.mark.parametrize(
    ("status", "outcome"), [(413, "too_large"), (400, "refused"), (422, "refused"), (499, "refused")]
)
def test_permanent_answers(sink: Sink, transport: Transport, status: int, outcome: str) -> None:
    """delivery 5"""
    sink.script([status])
    assert transport.send(body()).outcome == outcome


def test_an_unknown_informational_status_is_held() -> None:
    assert read_answer(199, {}, b"", whole=True).outcome == "hold"


@pytest.mark.parametrize("early", ["102 Processing", "103 Early Hints\r\nLink: </a>", "100 Continue", "199 Odd"])
def test_the_answer_behind_an_informational_one_counts(sink: Sink, transport: Transport, early: str) -> None:
    """delivery 4"""
    body_of_it = partial(1, "no name").body
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: {len(body_of_it)}\r\n\r\n"
    raw = 2 * f"HTTP/1.1 {early}\r\n\r\n".encode() + head.encode() + body_of_it
    sink.script([Reply(0, act=lambda handler: handler.wfile.write(raw))])
    answer = transport.send(body(2))
    assert (answer.outcome, answer.rejected) == ("delivered", 1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_never_followed(sink: Sink, transport: Transport, status: int) -> None:
    """delivery 4: the log names the Location's host only"""
    with Sink() as other:
        sink.script([redirect(f"{other.url}/login?token=abc", status)])
        answer = transport.send(body())
        assert other.requests == []
    assert answer.outcome == "hold"
    assert "127.0.0.1" in answer.detail
    assert "login" not in answer.detail
    assert "abc" not in answer.detail


def test_odd_redirects(sink: Sink, transport: Transport) -> None:
    """delivery 4"""
    sink.script([redirect("/elsewhere"), redirect("http://[broken")])
    assert "the same host" in transport.send(body()).detail
    assert "unreadable" in transport.send(body()).detail


@pytest.mark.parametrize(
    ("content_type", "answer"),
    [
        ("text/html", b"<html>login</html>"),
        ("text/html", b"\n<!doctype html>".ljust(62)),  # which happens to be whole fields
        ("application/x-protobuf", b" <!doctype html>"),
        ("text/plain", b"ok"),
        ("application/x-protobuf", b"\xff\xff\xff"),
        ("application/x-protobuf", b"\xff" * 12),  # a varint without an end
        ("application/x-protobuf", b"\x00\x01"),  # no field is numbered 0
        ("application/x-protobuf", b"\x0a\x7fab"),  # shorter than it says
        ("application/x-protobuf", b"\x6b\x6c"),  # a group
        ("application/json", b"{"),
        ("application/json", b"[" * 60_000),
        ("application/json", b'{"partialSuccess": {"rejectedSpans": "many"}}'),
        ("application/json", b"null"),
        ("application/json", b"[]"),
        ("application/json", b'["partialSuccess"]'),
        ("application/json", b'"quota exceeded"'),
        ("application/json", b"false"),
        ("text/plain", b"0"),
    ],
)
def test_a_200_that_cannot_be_decoded_is_a_failure(
    sink: Sink, transport: Transport, content_type: str, answer: bytes
) -> None:
    """delivery 4"""
    sink.script([Reply(200, {"Content-Type": content_type}, answer)])
    found = transport.send(body())
    assert (found.outcome, found.status) == ("hold", 200)
    assert "endpoint=" in found.fix


def test_nothing_of_an_answer_that_cannot_be_read_is_told(sink: Sink, transport: Transport) -> None:
    sink.script([Reply(200, {}, b'{"partialSuccess": {"rejectedSpans": "hush"}}')])
    said = "HTTP 200 whose body has an unreadable partialSuccess: this is no OTLP endpoint"
    assert transport.send(body()).detail == said


@pytest.mark.parametrize(
    ("content_type", "answer"),
    [
        ("text/html", b""),  # many frameworks' default for no body at all
        ("application/json", b"{}"),
        ("application/json", b'{"partialSuccess": null}'),
        ("application/json", b'{"partialSuccess": {}}'),
        ("application/json", b'{"partialSuccess": []}'),
        ("text/plain", b'{"partialSuccess": {}}'),
        ("application/x-protobuf", b"\x0a\x00"),
        ("application/x-protobuf", b"\x11" + bytes(8) + b"\x1d" + bytes(4) + b"\x20\x05"),  # fields of a later OTLP
        ("application/x-protobuf", b"\x08\x01"),
        ("application/x-protobuf", b"\x0a\x02\x18\x01"),
        ("application/x-protobuf", b"\x0a<" + b"\x1a\x3a" + bytes(58)),  # a length that looks like HTML
    ],
)
def test_a_200_that_says_nothing_more_is_a_success(
    sink: Sink, transport: Transport, content_type: str, answer: bytes
) -> None:
    """delivery 4"""
    sink.script([Reply(200, {"Content-Type": content_type}, answer)])
    assert transport.send(body()) == Answer("delivered", 200)


@pytest.mark.parametrize(
    "reply",
    [
        partial(3, "no name"),
        Reply(200, {"Content-Type": "application/json"},
              b'{"partialSuccess":{"rejectedSpans":"3","errorMessage":"no name"}}'),
        Reply(200, {"Content-Type": "application/json"},
              b'{"partial_success":{"rejected_spans":3,"error_message":"no name"}}'),
        Reply(200, {**PROTOBUF, "Content-Encoding": "gzip"}, gzip.compress(partial(3, "no name").body)),
    ],
)  # fmt: skip
def test_partial_success_is_read(sink: Sink, transport: Transport, reply: Reply) -> None:
    """delivery 4"""
    sink.script([reply])
    answer = transport.send(body(5))
    assert (answer.outcome, answer.rejected, answer.detail) == ("delivered", 3, "no name")


def test_a_negative_count_of_rejections_is_none(sink: Sink, transport: Transport) -> None:
    sink.script([partial(-1, "odd"), Reply(200, {}, b'{"partialSuccess":{"rejectedSpans":-1}}')])
    assert transport.send(body()).rejected == 0
    assert transport.send(body()).rejected == 0


@pytest.mark.parametrize("encoding", ["br", "gzip", "deflate"])
def test_an_answer_compressed_in_a_broken_way_is_a_failure(sink: Sink, transport: Transport, encoding: str) -> None:
    """delivery 4"""
    sink.script([Reply(200, {**PROTOBUF, "Content-Encoding": encoding}, b"not compressed")])
    assert transport.send(body()).outcome == "hold"


@pytest.mark.parametrize("size", [65_536, 65_538])
def test_the_beginning_of_a_longer_answer_is_no_answer(sink: Sink, transport: Transport, size: int) -> None:
    """delivery 17"""
    packed = gzip.compress(b"\x0a\x00" * (size // 2))  # each two bytes are one
    sink.script([Reply(200, {**PROTOBUF, "Content-Encoding": "gzip"}, packed)])
    assert transport.send(body()).outcome == ("hold" if size > 65_536 else "delivered")


def test_a_gzip_bomb_costs_no_memory(sink: Sink, transport: Transport) -> None:
    """delivery 17: 200 kB that inflate to 200 MB"""
    reply = bomb()
    assert 150_000 < len(reply.body) < 250_000
    small = gzip.compress(bytes(10_000_000))
    sink.script([reply, Reply(200, {**PROTOBUF, "Content-Encoding": "gzip"}, small)])
    transport.send(body())  # what is loaded once does not count
    sink.script([reply, Reply(200, {**PROTOBUF, "Content-Encoding": "gzip"}, small)])
    tracemalloc.start()
    try:
        answers = [transport.send(body()), transport.send(body())]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [answer.outcome for answer in answers] == ["hold", "hold"]
    assert peak < 2_000_000


def test_an_endless_answer_is_read_to_its_limit_only(sink: Sink, transport: Transport) -> None:
    """delivery 17"""
    sink.script([Reply(200, PROTOBUF, bytes(65_537)), Reply(503, {}, bytes(10_000_000))])
    assert "64 kB" in transport.send(body()).detail
    assert transport.send(body()).outcome == "retry"
    assert transport.send(body()).outcome == "delivered"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (formatdate(1_700_000_090, usegmt=True), 90.0),
        (formatdate(1_600_000_000, usegmt=True), 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("٣", None),
    ],
)
def test_retry_after_in_both_forms(text: str, seconds: float | None) -> None:
    """delivery 3"""
    headers = {"retry-after": text, "date": formatdate(1_700_000_000, usegmt=True)}
    assert read_answer(503, headers, b"", whole=True).retry_after == seconds


def test_retry_after_over_the_wire_without_a_date(sink: Sink, transport: Transport) -> None:
    """delivery 3"""
    sink.script([Reply(429, {"Retry-After": "12"})])
    assert transport.send(body()).retry_after == 12
    in_a_minute = {"retry-after": formatdate(time.time() + 60, usegmt=True)}
    found = read_answer(429, in_a_minute, b"", whole=True).retry_after
    assert found is not None
    assert 55 < found <= 61


def test_an_endpoint_that_is_used_as_it_is_may_have_no_path(sink: Sink) -> None:
    transport = Transport(resolve({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{sink.url}?team=a"}))
    assert transport.send(body()).status is not None
    assert sink.requests[0].path == "/?team=a"
    transport.close()


# The network's faults


@pytest.mark.parametrize("proxy", ["http://proxy.test", "proxy.test", "http://proxy.test:80"])
def test_a_proxy_without_a_port_is_at_that_of_http(proxy: str) -> None:
    assert _proxy_address(proxy) == ("proxy.test", 80, {})


def test_nobody_listens(sink: Sink, transport: Transport) -> None:
    """delivery 3"""
    sink.stop()
    answer = transport.send(body())
    assert (answer.outcome, answer.status, answer.cause) == ("retry", None, ConnectionRefusedError)
    sink.restart()
    assert transport.send(body()).outcome == "delivered"


@pytest.mark.parametrize("fault", [reset(), close(), cut(), cut(in_header=True)])
def test_broken_connections_are_retried(sink: Sink, transport: Transport, fault: Reply) -> None:
    """delivery 3"""
    sink.script([fault, fault])
    answer = transport.send(os.urandom(4_000_000) if fault.early else body())
    assert (answer.outcome, answer.status) == ("retry", None)
    sink.script([])
    assert transport.send(body()).outcome == "delivered"


def test_what_is_no_http_stays_on_its_line_of_the_log(sink: Sink, transport: Transport) -> None:
    raw = b"SSH-2.0-\x1b[31mOpenSSH\r\nCRITICAL all is lost\r\n\r\n"
    sink.script([Reply(0, act=lambda handler: handler.wfile.write(raw))])
    answer = transport.send(body())
    assert answer.detail == "BadStatusLine: SSH-2.0- [31mOpenSSH"
    assert "4317 is gRPC" in answer.fix


@pytest.mark.parametrize("fault", [hang(), drip(), drip(in_header=True)])
def test_a_server_that_never_ends_is_left_at_the_deadline(sink: Sink, transport: Transport, fault: Reply) -> None:
    """delivery 3: accept-then-hang and slow drip"""
    sink.script([fault])
    began = time.monotonic()
    answer = transport.send(body(), 0.3)
    assert 0.2 < time.monotonic() - began < 3
    assert (answer.outcome, answer.cause) == ("retry", TimeoutError)
    assert "within 0.3 s" in answer.detail
    assert transport.send(body()).outcome == "delivered"


def test_a_server_that_does_not_read_is_left_at_the_deadline() -> None:
    """delivery 3"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        settings = resolve({}, endpoint=f"http://127.0.0.1:{server.getsockname()[1]}", compression="none")
        transport = Transport(settings)
        assert transport.send(bytes(30_000_000), 0.3).outcome == "retry"
        transport.close()


def test_no_time_left_is_a_timeout(sink: Sink, transport: Transport) -> None:
    assert transport.send(body(), -1).outcome == "retry"


def test_an_early_answer_is_heard_though_the_body_was_not_read(sink: Sink, transport: Transport) -> None:
    """delivery 5: nginx answers 413 and closes while the client still sends"""
    sink.script([Reply(413, {"Connection": "close"}, early=True)])
    assert transport.send(os.urandom(300_000)).outcome in ("too_large", "retry")  # a reset may overtake the answer


def test_unknown_hosts_are_retried(unknown_name: str) -> None:
    """delivery 3: DNS"""
    answer = Transport(resolve({}, endpoint=f"http://{unknown_name}:4318")).send(body(), 5)
    assert (answer.outcome, answer.cause) == ("retry", socket.gaierror)


def test_hosts_that_cannot_be_names_are_retried() -> None:
    assert Transport(resolve({}, endpoint=f"http://{'a' * 70}.test")).send(body()).outcome == "retry"


def test_tls_with_our_own_authority(certificate: tuple[str, str]) -> None:
    with Sink(certificate) as sink:
        transport = Transport(settings_for(sink, certificate=certificate[0]))
        assert [transport.send(body(200)).outcome for _ in range(2)] == ["delivered"] * 2
        assert sink.connections == 1
        transport.close()


def test_a_certificate_nobody_signed_is_retried_and_nothing_is_sent(certificate: tuple[str, str]) -> None:
    """delivery 3: TLS"""
    with Sink(certificate) as sink:
        answer = Transport(settings_for(sink)).send(body())
        assert answer.outcome == "retry"
        assert "CERTIFICATE_VERIFY_FAILED" in answer.detail
        assert sink.requests == []


def test_a_client_certificate_is_shown(certificate: tuple[str, str]) -> None:
    with Sink(certificate) as sink:
        settings = settings_for(
            sink, certificate=certificate[0], client_certificate=certificate[0], client_key=certificate[1]
        )
        transport = Transport(settings)
        assert transport.send(body()).outcome == "delivered"
        transport.close()


def test_a_key_in_an_error_is_masked(sink: Sink, transport: Transport) -> None:
    sink.script([partial(1, f"unknown key {KEY}")])
    assert transport.send(body()).detail == "unknown key ***abcd"


@pytest.mark.parametrize("size", range(175, 305, 8))
def test_a_key_is_masked_where_long_words_are_cut(sink: Sink, transport: Transport, size: int) -> None:
    sink.script([partial(1, f"{'x' * size}{KEY}")])
    assert "rs-s" not in transport.send(body()).detail


def test_a_header_with_a_secret_in_an_error_is_masked(sink: Sink) -> None:
    sink.script(
        [partial(1, "no token in 'Basic cHVibGljOnNlY3JldA==', shop"), partial(1, "unknown: cHVibGljOnNlY3JldA==")]
    )
    headers = {"Authorization": "Basic cHVibGljOnNlY3JldA==", "X-Team": "shop", "X-Token": ""}
    transport = Transport(resolve({}, endpoint=sink.url, headers=headers))
    assert transport.send(body()).detail == "no token in '***', shop"
    assert transport.send(body()).detail == "unknown: ***"
    transport.close()


# Proxies


def test_plain_http_goes_through_a_proxy_with_its_login(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    port = sink.url.rpartition(":")[2]
    monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@127.0.0.1:{port}")
    transport = Transport(resolve({}, endpoint="http://collector.test:4318"))
    assert transport.send(body()).outcome == "delivered"
    transport.close()
    assert sink.requests[0].path == "http://collector.test:4318/v1/traces"
    assert sink.requests[0].headers["Proxy-Authorization"] == "Basic bWU6cEBzcw=="


def test_https_asks_the_proxy_for_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{server.getsockname()[1]}")
        heard: list[bytes] = []

        def proxy() -> None:
            connection, _ = server.accept()
            with connection:
                heard.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

        thread = threading.Thread(target=proxy)
        thread.start()
        answer = Transport(resolve({}, endpoint="https://collector.test", api_key=KEY)).send(body(), 5)
        thread.join()
    assert heard[0].startswith(b"CONNECT collector.test:443 HTTP/1.")
    assert KEY.encode() not in heard[0]
    assert answer.outcome == "retry"
    assert "403" in answer.detail


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://", "http://127.0.0.1:port", "http://[::1"])
def test_a_proxy_that_cannot_be_used_holds_and_names_the_fix(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    answer = Transport(resolve({}, endpoint="https://collector.test")).send(body())
    assert answer.outcome == "hold"
    assert "NO_PROXY" in answer.detail


def test_no_proxy_and_loopback_go_directly(sink: Sink, monkeypatch: pytest.MonkeyPatch, unknown_name: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", unknown_name)
    transport = Transport(settings_for(sink))
    assert transport.send(body()).outcome == "delivered"
    transport.close()
    answer = Transport(resolve({}, endpoint=f"http://{unknown_name}")).send(body(), 5)
    assert answer.cause is socket.gaierror  # the proxy would have refused


# Invisible


def test_no_instrumentation_sees_our_request(sink: Sink, transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """delivery 16"""
    from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled, is_instrumentation_enabled

    seen: list[Any] = []
    real = Connection.post

    def post(self: Connection, *args: Any) -> Any:
        seen.extend([is_instrumentation_enabled(), is_http_instrumentation_enabled(), host.get("nothing")])
        return real(self, *args)

    monkeypatch.setattr(Connection, "post", post)
    host: contextvars.ContextVar[str] = contextvars.ContextVar("host")
    host.set("of the host")
    before = otel_context.get_current()
    assert transport.send(body()).outcome == "delivered"
    assert seen == [False, False, "nothing"]
    assert otel_context.get_current() == before
    assert is_http_instrumentation_enabled()


def test_suppression_needs_no_private_names(sink: Sink, transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    """delivery 16"""
    monkeypatch.delattr(otel_context, "_SUPPRESS_INSTRUMENTATION_KEY")
    monkeypatch.delattr(otel_context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY")
    assert transport.send(body()).outcome == "delivered"


def test_our_log_records_reach_no_handler_and_the_hosts_do(
    sink: Sink, transport: Transport, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """delivery 16"""
    import urllib3

    real = Connection.post

    def post(self: Connection, *args: Any) -> Any:
        for name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
            logging.getLogger(name).error("ours")
        return real(self, *args)

    with caplog.at_level(logging.DEBUG):
        monkeypatch.setattr(Connection, "post", post)
        transport.send(body())
        assert caplog.records == []
        with urllib3.PoolManager() as pool:
            pool.request("POST", f"{sink.url}/v1/traces", body=body(), headers=PROTOBUF)
    assert [record.name for record in caplog.records] == ["urllib3.connectionpool"] * 2


def test_keyboard_interrupt_passes_and_leaves_no_half_used_connection(
    sink: Sink, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """delivery 10"""
    real = Connection._exchange

    def interrupted(self: Connection, *args: Any) -> Any:
        real(self, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(Connection, "_exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        transport.send(body())
    monkeypatch.setattr(Connection, "_exchange", real)
    assert transport.send(body(1, 2)).outcome == "delivered"
    assert sink.connections == 2


def test_importing_the_way_out_does_not_import_urllib3() -> None:
    code = "import sys, rootspan.transport.delivery; sys.exit('urllib3' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def test_two_threads_send_side_by_side(sink: Sink, transport: Transport) -> None:
    sink.script(lambda request: Reply(200, act=None))
    sink.delay = 0.1
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(transport.send(body()).outcome)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["delivered"] * 4
    assert sink.connections == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("secure", [False, True])
def test_a_forked_child_leaves_the_parents_connection_alone(secure: bool, request: pytest.FixtureRequest) -> None:
    """delivery 2"""
    certificate = request.getfixturevalue("certificate") if secure else None
    with Sink(certificate) as sink:
        options = {"certificate": certificate[0]} if certificate else {}
        transport = Transport(settings_for(sink, **options))
        assert transport.send(body(1, 1)).outcome == "delivered"
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                transport.forget()
                fine = transport.send(body(1, 2)).outcome == "delivered"
                transport.close()
                os._exit(0 if fine else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert transport.send(body(1, 3)).outcome == "delivered"
        assert ids(sink) == [1, 2, 3]
        assert sink.connections == 2  # the child's own, and the parent's, which still works
        transport.close()


def test_forget_without_a_connection(sink: Sink, transport: Transport) -> None:
    transport.forget()
    transport.send(body())
    transport.close()
    transport.forget()
    assert transport.send(body()).outcome == "delivered"


# Batches


def test_a_batch_is_delivered(sink: Sink, lab: Lab) -> None:
    attempt = lab.delivery.attempt(lab.spans(20))
    assert (attempt.dropped, attempt.rest) == ({}, [])
    assert ids(sink) == list(range(1, 21))
    assert lab.log == []
    assert lab.delivery.attempt([]).rest == []
    assert len(sink.requests) == 1


def test_the_poison_event_is_dropped_and_its_neighbours_delivered(sink: Sink, lab: Lab) -> None:
    """delivery 5: a 400 is bisected"""
    sink.script(lambda request: 400 if b"event 7" in request.body else None)
    spans = [lab.delivery.encode(span(number)) for number in range(1, 10)]
    attempt = lab.delivery.attempt(spans)
    assert (attempt.dropped, attempt.rest) == ({"refused": 1}, [])
    assert ids(sink) == [1, 2, 3, 4, 5, 6, 8, 9]
    assert lab.poison == [spans[6]]
    assert len(sink.requests) <= 9
    assert [level for level, _ in lab.log] == [logging.WARNING]
    assert "refused" in lab.log[0][1]


def test_poison_without_a_taker(sink: Sink) -> None:
    """delivery 5"""
    sink.script(lambda request: 400)
    delivery = Delivery(settings_for(sink))
    assert delivery.attempt([delivery.encode(span(1))]).dropped == {"refused": 1}
    delivery.release()


def test_a_413_halves_the_batch_and_the_limit_is_remembered(sink: Sink, lab: Lab) -> None:
    """delivery 5"""
    spans = lab.spans(8, text="x" * 1000)
    sink.script(lambda request: 413 if len(request.body) > 3_500 else None)
    assert lab.delivery.attempt(spans) == Attempt({}, [])
    assert ids(sink) == list(range(1, 9))
    first = len(sink.requests)
    assert lab.delivery.attempt(spans) == Attempt({}, [])
    assert ids(sink) == [*range(1, 9)] * 2
    assert [request.status for request in sink.requests[first:]] == [200] * 4
    assert lab.log == []


def test_an_event_that_alone_is_too_large_is_shrunk(sink: Sink, lab: Lab) -> None:
    """delivery 5"""
    sink.script(lambda request: 413 if len(request.body) > 100_000 else None)
    item = lab.delivery.encode(span(1, long="x" * 300_000, short="kept"))
    attempt = lab.delivery.attempt([*lab.spans(1), item])
    assert (attempt.dropped, attempt.rest) == ({}, [])
    assert ids(sink) == [1, 1]
    stored = sink.spans[-1].attributes
    assert stored["short"] == "kept"
    assert 50_000 < len(stored["long"]) <= 65_536


def test_an_event_that_stays_too_large_is_dropped(sink: Sink, lab: Lab) -> None:
    """delivery 5"""
    sink.script(lambda request: 413 if b"event 2" in request.body else None)
    spans = lab.spans(3, text="x" * 5_000)
    attempt = lab.delivery.attempt(spans)
    assert (attempt.dropped, attempt.rest) == ({"too_large": 1}, [])
    assert lab.poison == [spans[1]]
    assert ids(sink) == [1, 3]
    assert "too large" in lab.log[0][1]


def test_an_outage_while_shrinking_keeps_the_whole_event(sink: Sink, lab: Lab) -> None:
    """delivery 5"""
    sink.script([413, 503])
    item = lab.delivery.encode(span(1, long="x" * 300_000))
    assert lab.delivery.attempt([item]).rest == [item]
    sink.script([413, 400])
    assert lab.delivery.attempt([item]).dropped == {"refused": 1}


def test_bodies_are_bounded_before_any_server_complains(sink: Sink, lab: Lab) -> None:
    attempt = lab.delivery.attempt(lab.spans(6, text="x" * 1_000_000))
    assert (attempt.dropped, attempt.rest) == ({}, [])
    assert ids(sink) == [1, 2, 3, 4, 5, 6]
    assert max(len(request.body) for request in sink.requests) < (4 << 20) + 1000


def test_partial_success_is_counted_and_logged_once(sink: Sink, lab: Lab) -> None:
    """delivery 4"""
    sink.script([partial(2, "bad name"), partial(9), partial(0, "deprecated")])
    attempts = [lab.delivery.attempt(lab.spans(5)) for _ in range(3)]
    assert [attempt.rest for attempt in attempts] == [[], [], []]
    assert [attempt.dropped for attempt in attempts] == [{"rejected": 2}, {"rejected": 5}, {}]
    ((level, line),) = lab.log
    assert level == logging.WARNING
    assert "2 of 5" in line
    assert "bad name" in line


def test_a_rejection_without_words_is_logged_too(sink: Sink, lab: Lab) -> None:
    """delivery 4"""
    sink.script([partial(1)])
    lab.delivery.attempt(lab.spans(5))
    assert "rejected 1 of 5 events in a partial success." in lab.log[0][1]


def test_an_outage_returns_the_rest_in_order(sink: Sink, lab: Lab) -> None:
    """delivery 3"""
    spans = lab.spans(8)
    sink.script([400, None, 503])
    attempt = lab.delivery.attempt(spans)
    assert ids(sink) == [1, 2, 3, 4]
    assert (attempt.dropped, attempt.rest) == ({}, spans[4:])
    assert 0 <= attempt.wait <= 1
    assert lab.delivery.attempt(attempt.rest).rest == []
    assert ids(sink) == list(range(1, 9))


def test_troubles_are_logged_once_until_a_success(sink: Sink, lab: Lab) -> None:
    """delivery 13: loss is never silent and never a flood"""
    sink.script([503, 503, 503, None, 401])
    for _ in range(5):
        lab.delivery.attempt(lab.spans(1))
    assert [level for level, _ in lab.log] == [logging.WARNING, logging.ERROR]
    assert "503" in lab.log[0][1]
    assert "401" in lab.log[1][1]


def test_the_log_speaks_again_after_a_minute(sink: Sink, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    sink.script(lambda request: 503)
    lab.delivery.attempt(lab.spans(1))
    real = time.monotonic
    monkeypatch.setattr("rootspan.transport.delivery.time.monotonic", lambda: real() + 61)
    lab.delivery.attempt(lab.spans(1))
    assert len(lab.log) == 2


def test_a_wrong_key_holds_every_event(sink: Sink, lab: Lab) -> None:
    """delivery 5"""
    sink.script([401])
    spans = lab.spans(30)
    attempt = lab.delivery.attempt(spans)
    assert (attempt.dropped, attempt.rest) == ({}, spans)
    assert len(sink.requests) == 1
    ((_, line),) = lab.log
    assert KEY not in line


def test_nothing_is_begun_after_its_time(sink: Sink, lab: Lab) -> None:
    """delivery 14"""
    spans = lab.spans(3)
    attempt = lab.delivery.attempt(spans, until=time.monotonic() - 1)
    assert attempt == Attempt({}, spans, 0.0)
    assert sink.requests == []
    sink.script([hang()])
    began = time.monotonic()
    assert lab.delivery.attempt(spans, until=began + 0.3).rest == spans
    assert time.monotonic() - began < 3


def test_the_default_endpoint_that_nobody_chose_is_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        free = server.getsockname()[1]
    monkeypatch.setattr("rootspan.settings.DEFAULT_ENDPOINT", f"http://127.0.0.1:{free}/v1/traces")
    caplog.set_level(logging.INFO, "rootspan")
    delivery = Delivery(resolve({}))
    spans = [delivery.encode(span(1))]
    assert [delivery.attempt(spans).rest for _ in range(3)] == [spans] * 3
    ((name, level, line),) = caplog.record_tuples
    assert (name, level) == ("rootspan", logging.INFO)
    assert "rootspan tail" in line


def test_a_sink_killed_and_restarted_loses_nothing(sink: Sink, lab: Lab) -> None:
    """delivery 3"""
    rest = lab.spans(40)
    sink.stop()
    assert lab.delivery.attempt(rest).rest == rest
    sink.restart()
    sink.script([reset(), 503, close(), 429, html(), cut()])
    for _ in range(12):
        rest = lab.delivery.attempt(rest).rest
    assert rest == []
    assert sorted(set(ids(sink))) == list(range(1, 41))


# Waits


def test_waits_double_have_full_jitter_and_stay_below_the_cap() -> None:
    """delivery 6"""
    rounds = [[backoff.wait() for _ in range(12)] for backoff in (Backoff() for _ in range(300))]
    for number, waits in enumerate(zip(*rounds, strict=True)):
        longest = min(30.0, 2.0**number)
        assert 0 <= min(waits) < longest * 0.1
        assert longest * 0.9 < max(waits) <= longest


def test_a_success_begins_the_waits_again() -> None:
    """delivery 6"""
    backoff = Backoff()
    for _ in range(2000):
        backoff.wait()
    backoff.reset()
    assert backoff.wait() <= 1


def test_holding_waits_slowly_from_the_start() -> None:
    """delivery 6"""
    assert 10 < max(Backoff().wait(slowly=True) for _ in range(200)) <= 30


@pytest.mark.parametrize(
    ("asked", "least", "most"), [(0, 0, 0.1), (2, 2, 4), (10, 10, 15), (25, 25, 30), (9e8, 25, 30)]
)
def test_retry_after_is_honoured_with_jitter_below_the_cap(asked: float, least: float, most: float) -> None:
    """delivery 6"""
    waits = [Backoff().wait(asked) for _ in range(200)]
    assert least <= min(waits)
    assert max(waits) <= most
    assert len(set(waits)) > 100


def test_a_server_that_asks_for_no_wait_again_and_again_is_not_stormed() -> None:
    """delivery 6"""
    backoffs = [Backoff() for _ in range(200)]
    rounds = [[backoff.wait(0.0) for backoff in backoffs] for _ in range(10)]
    assert max(rounds[0]) <= 0.1
    assert 4 < max(rounds[-1]) <= 5


# Other exporters


class Picky:
    """An exporter that can fail, or raise on one span."""

    def __init__(self) -> None:
        from opentelemetry.sdk.trace.export import SpanExportResult

        self.results = SpanExportResult
        self.taken: list[str] = []
        self.failing = False

    def export(self, spans: Any) -> Any:
        from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled

        assert not is_http_instrumentation_enabled()
        if any(item.name == "event 3" for item in spans):
            raise RuntimeError
        if self.failing:
            return self.results.FAILURE
        self.taken += [item.name for item in spans]
        return self.results.SUCCESS

    def shutdown(self) -> None:
        raise RuntimeError


def test_any_exporter_takes_the_spans() -> None:
    exporter = InMemorySpanExporter()
    (found,) = sinks(resolve({}, exporters=[exporter], service_name="shop"))
    assert found.attempt([found.encode(span(1, plan="pro"))]) == Attempt({}, [])
    (stored,) = exporter.get_finished_spans()
    assert stored.attributes == {"plan": "pro"}
    assert stored.resource.attributes["service.name"] == "shop"
    assert stored.instrumentation_scope is not None
    assert stored.instrumentation_scope.name == "rootspan"
    found.forget()
    found.close(time.monotonic() + 30)
    assert exporter._stopped


def test_an_endpoint_beside_exporters_uses_both(sink: Sink) -> None:
    found = sinks(resolve({}, exporters=[InMemorySpanExporter()], endpoint=sink.url))
    assert [type(item) for item in found] == [Delivery, ExporterSink]


def test_a_failing_exporter_keeps_the_spans_and_a_raising_one_loses_only_its_poison(
    caplog: pytest.LogCaptureFixture,
) -> None:
    exporter: Any = Picky()
    found = ExporterSink(exporter, {"service.name": "shop"})
    items = [found.encode(span(number)) for number in range(1, 6)]
    assert found.attempt([]) == Attempt({}, [])
    exporter.failing = True
    attempt = found.attempt(items[:2])
    assert (attempt.dropped, attempt.rest) == ({}, items[:2])
    assert 0 <= attempt.wait <= 1
    assert exporter.taken == []
    exporter.failing = False
    attempt = found.attempt(items)
    assert (attempt.dropped, attempt.rest) == ({"export_failed": 1}, [])
    assert exporter.taken == ["event 1", "event 2", "event 4", "event 5"]
    found.close(time.monotonic() + 30)
    assert ["failed" in record.message for record in caplog.records] == [True, False]
    assert "shutdown" in caplog.records[1].message


def test_an_exporter_that_calls_exit_loses_only_the_span_that_makes_it_do_so(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter: Any = Picky()
    monkeypatch.setattr(exporter, "export", lambda spans: sys.exit(3) if len(spans) == 2 else exporter.results.SUCCESS)
    found = ExporterSink(exporter, {})
    assert found.attempt([found.encode(span(number)) for number in (1, 2)]) == Attempt({}, [])
    monkeypatch.setattr(exporter, "export", lambda spans: sys.exit(3))
    assert found.attempt([found.encode(span(1))]) == Attempt({"export_failed": 1}, [])


def test_an_exporter_is_shut_down_once(monkeypatch: pytest.MonkeyPatch) -> None:
    exporter: Any = Picky()
    ends: list[int] = []
    monkeypatch.setattr(exporter, "shutdown", lambda: ends.append(1))
    found = ExporterSink(exporter, {})
    for _ in range(2):
        found.close(time.monotonic() + 30)
    assert ends == [1]


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError])
def test_whatever_an_exporter_raises_as_it_is_shut_down_is_a_line_of_the_log(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Bridge(InMemorySpanExporter):
        def shutdown(self) -> None:
            raise error

    uncaught: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", uncaught.append)
    ExporterSink(Bridge(), {}).close(time.monotonic() + 30)
    assert not uncaught
    assert [record.message for record in caplog.records] == [f"Bridge.shutdown raised {error.__name__}"]


def test_an_exporter_is_shut_down_where_no_thread_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is at exit, on Python 3.12."""
    exporter: Any = InMemorySpanExporter()
    found = ExporterSink(exporter, {})

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        found.close(time.monotonic() + 30)
    assert exporter._stopped


def test_an_exporter_that_returns_nothing_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    class Careless(InMemorySpanExporter):
        def export(self, spans: Any) -> Any: ...

    found = ExporterSink(Careless(), {})
    items = [found.encode(span(1))]
    assert found.attempt(items).rest == items
    assert [record.message for record in caplog.records] == [
        "Careless returned no SpanExportResult; its spans are kept and tried again"
    ]


def test_an_exporter_of_two_trackers_is_shut_down_with_the_last_one() -> None:
    """delivery 2: otherwise the first to end takes from the other what it still has to send"""
    exporter: Any = InMemorySpanExporter()
    first, second = (rootspan.Tracker(exporters=[exporter]) for _ in range(2))
    assert first.shutdown(5)
    second.track_ai("late")
    assert second.shutdown(5)
    assert [item.name for item in exporter.get_finished_spans()] == ["late"]
    assert exporter._stopped


def test_an_exporter_is_shut_down_although_a_tracker_that_is_switched_off_has_it_too() -> None:
    exporter: Any = InMemorySpanExporter()
    off, on = (rootspan.Tracker(exporters=[exporter], disabled=disabled) for disabled in (True, False))
    off.track_ai("nothing")
    assert on.shutdown(5)
    assert exporter._stopped
    assert off.shutdown(5)


def test_an_exporter_is_shut_down_while_other_threads_make_trackers() -> None:
    """It raised where a sink came in the midst of the look at the others."""
    exporters: list[Any] = [InMemorySpanExporter() for _ in range(300)]
    kept = [sinks(resolve({}, exporters=[exporter]))[0] for exporter in exporters]
    ended = threading.Event()

    def make() -> None:
        while not ended.is_set():
            sinks(resolve({}, exporters=exporters[:1]))

    threads = [threading.Thread(target=make) for _ in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for found in kept[1:]:
            found.close(time.monotonic() + 30)
    finally:
        ended.set()
        sys.setswitchinterval(interval)
        for thread in threads:
            thread.join()
    assert all(exporter._stopped for exporter in exporters[1:])
