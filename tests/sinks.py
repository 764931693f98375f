"""A real OTLP/HTTP collector on 127.0.0.1 for tests, whose answers can be scripted.

    with Sink() as sink:
        tracker = rootspan.Tracker(endpoint=sink.url)
        tracker.track_ai(...)
        (span,) = sink.wait(1)                # accepted spans, each a `Span`; AssertionError after 10 s
        span.name, span.attributes["user.id"], span.parent_id, span.events, span.links, span.resource

    sink.url, sink.spans, sink.requests       # every accepted span; every request with headers, size and answer
    sink.find("chat"), sink.one("chat")       # spans by name
    sink.script([503, Reply(429, {"Retry-After": "1"}), reset()])   # one answer a request, then 200 again
    sink.script(lambda request: 400 if b"poison" in request.body else None)   # or a function; None: accept
    sink.stop(); sink.restart()               # refuses, then listens again on the same port

Answers: a status, a `Reply`, or one of `reset()`, `hang()`, `drip()`, `close()`, `cut()`, `partial(3, "why")`,
`redirect(url)`, `html()`, `bomb()`. Spans count as accepted when the answer's status is 2xx. Protobuf, JSON and gzip
are understood, and nothing is de-duplicated: `{span.span_id for span in sink.spans}` does that.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time
import traceback
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

PROTOBUF = {"Content-Type": "application/x-protobuf"}


@dataclass
class Span:
    """One span, decoded; ids in hex."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str | None
    kind: int
    start: int
    end: int
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    links: list[tuple[str, str]]
    status_code: int
    status_message: str
    resource: dict[str, Any]
    scope: str


@dataclass
class Request:
    """One request as it came; `body` is inflated, `size` is what travelled."""

    path: str
    headers: Message  # looked up without regard to case
    body: bytes
    size: int
    spans: list[Span] = field(default_factory=list)
    status: int | None = None


@dataclass
class Reply:
    """An HTTP answer, or with `act` something worse."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    act: Callable[[_Handler], object] | None = None
    early: bool = False  # before the request's body is read; only from a list


Answer = int | Reply | None


def partial(rejected: int, message: str = "") -> Reply:
    """200, with a partial success."""
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = message
    return Reply(200, PROTOBUF, answer.SerializeToString())


def redirect(url: str, status: int = 302) -> Reply:
    return Reply(status, {"Location": url})


def html() -> Reply:
    """A login page with status 200."""
    return Reply(200, {"Content-Type": "text/html; charset=utf-8"}, b"<!doctype html><title>Sign in</title>")


def bomb(inflated: int = 200_000_000) -> Reply:
    """A small gzip answer that inflates to 200 MB."""
    packer = zlib.compressobj(9, wbits=31)
    step = bytes(1_000_000)
    body = b"".join(packer.compress(step) for _ in range(inflated // len(step))) + packer.flush()
    return Reply(200, {**PROTOBUF, "Content-Encoding": "gzip"}, body)


def reset() -> Reply:
    """Reset the connection while the request's body is on its way."""
    return Reply(0, act=lambda handler: handler.reset(), early=True)


def close() -> Reply:
    """Close the connection without an answer."""
    return Reply(0, act=lambda handler: None)


def cut(in_header: bool = False) -> Reply:
    """Promise 100 bytes of a 200's body, send 10, or not even all headers, close."""

    def act(handler: _Handler) -> None:
        rest = b"Date: Su" if in_header else b"Content-Length: 100\r\n\r\n" + bytes(10)
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + rest)

    return Reply(0, act=act)


def hang(seconds: float = 60.0) -> Reply:
    """Take the request and say nothing."""
    return Reply(0, act=lambda handler: handler.sink.pause(seconds))


def drip(in_header: bool = False, pause: float = 0.05) -> Reply:
    """Answer 200, one byte at a time, without an end."""

    def act(handler: _Handler) -> None:
        start = b"HTTP/1.1 200 OK\r\n" + (b"X-Slow: " if in_header else b"Content-Length: 60000\r\n\r\n")
        handler.wfile.write(start)
        while not handler.sink.pause(pause):
            handler.wfile.write(b"x")

    return Reply(0, act=act)


class Sink:
    """See the module's docstring.

    Args:
        certificate: paths of a certificate and its key; then the sink speaks TLS.
        delay: seconds before each answer.
    """

    def __init__(self, certificate: tuple[str, str] | None = None, delay: float = 0.0) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.delay = delay
        self._certificate = certificate
        self._script: Callable[[Request], Answer] | deque[Answer] = deque()
        self._port = 0
        self._lock = threading.Condition()
        self._live: set[socket.socket] = set()
        self._server: _Server | None = None
        self._stopping = threading.Event()

    def __enter__(self) -> Sink:
        self.restart()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self._port}"

    @property
    def spans(self) -> list[Span]:
        with self._lock:
            return [span for request in self.requests if _accepted(request) for span in request.spans]

    def find(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Span:
        found = self.find(name)
        assert len(found) == 1, f"{len(found)} spans are called {name!r}: {[span.name for span in self.spans]}"
        return found[0]

    def script(self, answers: Iterable[Answer] | Callable[[Request], Answer]) -> None:
        """Set what the next requests are answered."""
        self._script = answers if callable(answers) else deque(answers)

    def wait(self, count: int, timeout: float = 10.0) -> list[Span]:
        """Wait until so many different spans were accepted, and return all."""
        with self._lock:
            enough = self._lock.wait_for(lambda: len({s.span_id for s in self.spans}) >= count, timeout)
        spans = self.spans
        assert enough, f"{len({span.span_id for span in spans})} of {count} spans came in {timeout} s"
        return spans

    def wait_requests(self, count: int, timeout: float = 10.0) -> list[Request]:
        """Wait until so many requests came, however they were answered."""
        with self._lock:
            assert self._lock.wait_for(lambda: len(self.requests) >= count, timeout), f"{len(self.requests)} requests"
            return list(self.requests)

    def stop(self) -> None:
        """Stop listening, and cut every connection."""
        if self._server is None:
            return
        self._stopping.set()
        self._server.shutdown()
        for connection in list(self._live):
            _shut(connection)
        self._server.server_close()
        self._server = None

    def restart(self) -> None:
        """Listen again, on the same port."""
        assert self._server is None
        self._stopping = threading.Event()
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        if self._certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._certificate)
            self._server.tls = context
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def pause(self, seconds: float) -> bool:
        """Sleep; return whether the sink was stopped meanwhile."""
        return self._stopping.wait(seconds)

    def answer(self, request: Request) -> Reply:
        with self._lock:
            script = self._script
            answer = (script.popleft() if script else None) if isinstance(script, deque) else script(request)
        return answer if isinstance(answer, Reply) else Reply(200 if answer is None else answer)

    def early_answer(self) -> Reply | None:
        with self._lock:
            first = self._script[0] if isinstance(self._script, deque) and self._script else None
            if not isinstance(first, Reply) or not first.early:
                return None
            self._script.popleft()  # type: ignore[union-attr]
            return first

    def keep(self, request: Request) -> None:
        with self._lock:
            self.requests.append(request)
            self._lock.notify_all()

    def joined(self, connection: socket.socket) -> None:
        self.connections += 1
        self._live.add(connection)

    def left(self, connection: socket.socket) -> None:
        self._live.discard(connection)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True
    request_queue_size = 64
    tls: ssl.SSLContext | None = None

    def __init__(self, address: tuple[str, int], sink: Sink) -> None:
        self.sink = sink
        super().__init__(address, _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls is not None:
            request = self.tls.wrap_socket(request, server_side=True)
        try:
            super().finish_request(request, client_address)
        finally:
            if self.tls is not None:
                request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients that go away, or do not trust our certificate, are what tests are about.
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    @property
    def sink(self) -> Sink:
        return self.server.sink

    def setup(self) -> None:
        super().setup()
        self.sink.joined(self.connection)

    def finish(self) -> None:
        self.sink.left(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        if early := self.sink.early_answer():
            self.close_connection = True
            self._reply(Request(self.path, self.headers, b"", size), early)
            return
        raw = self.rfile.read(size)
        zipped = self.headers.get("Content-Encoding") == "gzip"
        request = Request(self.path, self.headers, gzip.decompress(raw) if zipped else raw, size)
        request.spans = _decode(request)
        if self.sink.delay:
            time.sleep(self.sink.delay)
        self._reply(request, self.sink.answer(request))

    def _reply(self, request: Request, reply: Reply) -> None:
        request.status = reply.status
        if reply.act is not None:
            self.sink.keep(request)
            self.close_connection = True
            reply.act(self)
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        # Kept before it is answered: what a client knows to be delivered is here to be counted.
        self.sink.keep(request)
        self.end_headers()
        self.wfile.write(reply.body)

    def reset(self) -> None:
        # A linger of zero makes the kernel send RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _accepted(request: Request) -> bool:
    return request.status is not None and 200 <= request.status < 300


def _decode(request: Request) -> list[Span]:
    kind = request.headers.get("Content-Type")
    if kind == "application/json":
        return _from_json(json.loads(request.body))
    assert kind == "application/x-protobuf", kind
    return _from_protobuf(ExportTraceServiceRequest.FromString(request.body))


def _from_protobuf(message: Any) -> list[Span]:
    return [
        Span(
            name=span.name,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex() or None,
            kind=span.kind,
            start=span.start_time_unix_nano,
            end=span.end_time_unix_nano,
            attributes=_pairs(span.attributes),
            events=[(event.name, _pairs(event.attributes)) for event in span.events],
            links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
            status_code=span.status.code,
            status_message=span.status.message,
            resource=_pairs(part.resource.attributes),
            scope=scope.scope.name,
        )
        for part in message.resource_spans
        for scope in part.scope_spans
        for span in scope.spans
    ]


def _pairs(attributes: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _pairs(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)


def _from_json(message: Any) -> list[Span]:
    return [
        Span(
            name=span["name"],
            trace_id=span["traceId"],
            span_id=span["spanId"],
            parent_id=span.get("parentSpanId") or None,
            kind=span["kind"],
            start=int(span["startTimeUnixNano"]),
            end=int(span["endTimeUnixNano"]),
            attributes=_json_pairs(span.get("attributes", [])),
            events=[(event["name"], _json_pairs(event.get("attributes", []))) for event in span.get("events", [])],
            links=[(link["traceId"], link["spanId"]) for link in span.get("links", [])],
            status_code=span.get("status", {}).get("code", 0),
            status_message=span.get("status", {}).get("message", ""),
            resource=_json_pairs(part["resource"]["attributes"]),
            scope=scope["scope"]["name"],
        )
        for part in message["resourceSpans"]
        for scope in part["scopeSpans"]
        for span in scope["spans"]
    ]


def _json_pairs(attributes: Any) -> dict[str, Any]:
    return {pair["key"]: _json_value(pair["value"]) for pair in attributes}


def _json_value(value: dict[str, Any]) -> Any:
    if not value:
        return None
    ((kind, content),) = value.items()
    if kind == "arrayValue":
        return [_json_value(item) for item in content.get("values", [])]
    if kind == "kvlistValue":
        return _json_pairs(content.get("values", []))
    return int(content) if kind == "intValue" else float(content) if kind == "doubleValue" else content
