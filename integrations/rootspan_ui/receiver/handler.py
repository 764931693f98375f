"""One connection to the receiver: who may speak, what is asked, how much is read."""

from __future__ import annotations

import hmac
import io
import logging
import re
import socket
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rootspan.settings import is_loopback
from rootspan_ui.receiver.bounds import MAX_BODY, Refused, inflate
from rootspan_ui.receiver.decoding import JSON, PROTOBUF, decode, encode_answer, encode_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootspan_ui.receiver import Door

__all__ = ["Handler"]

logger: Final = logging.getLogger("rootspan")

_GREETING: Final = b"rootspan receiver: POST OTLP to /v1/traces\n"
_ROUTES: Final = {"/": ("GET", "HEAD"), "/v1/traces": ("POST",)}
_TEXT: Final = "text/plain; charset=utf-8"
_LINGER: Final = 2.0  # seconds for the rest of a refused body, so that the sender reads the answer and not a reset
_SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class _Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = {}


class DeadlineReader(io.RawIOBase):
    """The reading half of a socket, with one deadline for many reads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.until = 0.0  # on the monotonic clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        left = self.until - monotonic()
        if left <= 0:
            raise TimeoutError("the read deadline has passed")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection; every public name here is `http.server`'s."""

    server: Door  # pyright: ignore[reportIncompatibleVariableOverride]
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # not 0.9, whose answers have no headers
    wbufsize = -1
    disable_nagle_algorithm = True
    _unread = False  # part of the request's body may still be on its way

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self._raw = DeadlineReader(self.connection)
        self.rfile = io.BufferedReader(self._raw)

    def handle_one_request(self) -> None:
        self._raw.until = monotonic() + self.server.terms.idle_timeout
        super().handle_one_request()

    def parse_request(self) -> bool:
        self._raw.until = monotonic() + self.server.terms.read_timeout
        return super().parse_request()

    def handle_expect_100(self) -> bool:
        return True  # `_continue` sends it, once the request may speak at all

    def version_string(self) -> str:
        return "rootspan"

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("receiver: %r", args)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What `http.server` refuses by itself, in our form: no HTML, nothing of the request repeated."""
        self.close_connection = True
        self._unread = True
        self._send(_Answer(code, _TEXT, HTTPStatus(code).phrase.encode() + b"\n"))

    def finish(self) -> None:
        if self._unread:
            self._linger()
        super().finish()

    def _linger(self) -> None:
        try:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
            self._raw.until = monotonic() + _LINGER
            while self.rfile.read1(2**16):
                pass
        except OSError:
            pass  # it has gone, or is too slow: either way it had its chance

    def _answer(self) -> None:
        self._unread = "Transfer-Encoding" in self.headers or self.headers.get("Content-Length", "0") != "0"
        try:
            answer = self._route()
        except Refused as refusal:
            answer = self._refusal(refusal)
        except Exception:
            logger.exception("The receiver failed on a request")
            answer = self._refusal(Refused(500, "the receiver failed on this request; its log says why"))
        self.close_connection = self.close_connection or self._unread or self.server.crowded
        self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _answer

    def _refusal(self, refusal: Refused) -> _Answer:
        kind = self.headers.get_content_type()
        if kind in (JSON, PROTOBUF):
            return _Answer(refusal.status, kind, encode_status(kind, refusal.reason), refusal.headers)
        return _Answer(refusal.status, _TEXT, f"{refusal.reason}\n".encode(), refusal.headers)

    def _send(self, answer: _Answer) -> None:
        self.connection.settimeout(self.server.terms.read_timeout)
        self.send_response(answer.status)
        for name, value in {**_SECURITY_HEADERS, **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _route(self) -> _Answer:
        self._check_host()
        self._check_token()
        path = self.path.partition("?")[0]
        methods = _ROUTES.get(path)
        if methods is None:
            raise Refused(404, "nothing here: POST OTLP to /v1/traces")
        if self.command not in methods:
            raise Refused(405, f"the method has to be {' or '.join(methods)}", {"Allow": ", ".join(methods)})
        return _Answer(200, _TEXT, _GREETING) if path == "/" else self._traces()

    def _check_host(self) -> None:
        """A foreign name in `Host` is a web page whose name was re-bound to this address; it has no token."""
        hosts = self.headers.get_all("Host") or []
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+)(:\d{1,5})?", hosts[0]) if len(hosts) == 1 else None
        if match is None:
            raise Refused(400, "exactly one Host header is needed")
        name = match[1].strip("[]").lower().rstrip(".")
        if self.server.terms.token is None and name != self.server.terms.name and not is_loopback(name):
            raise Refused(403, "this Host is not served: use the receiver's address")

    def _check_token(self) -> None:
        token = self.server.terms.token
        given = self.headers.get("Authorization", "").encode("utf-8", "replace")
        if token and not hmac.compare_digest(given, b"Bearer " + token.encode()):
            raise Refused(401, "the header Authorization: Bearer <token> is needed", {"WWW-Authenticate": "Bearer"})

    def _check_sender(self) -> None:
        """No web page may write, not even blindly; the receiver has none of its own."""
        if "Origin" in self.headers or self.headers.get("Sec-Fetch-Site", "none").lower() != "none":
            raise Refused(403, "web pages may not send here")

    def _traces(self) -> _Answer:
        self._check_sender()
        content_type = self.headers.get_content_type() if "Content-Type" in self.headers else ""
        if content_type not in (JSON, PROTOBUF):
            raise Refused(415, f"Content-Type has to be {PROTOBUF} or {JSON}")
        body = self._body()
        with self.server.turn:  # one body at a time is inflated and decoded: it bounds the memory of many senders
            decoded = decode(inflate(body, self.headers.get("Content-Encoding", "").strip().lower()), content_type)
            self.server.terms.on_spans(decoded.spans)
        return _Answer(200, content_type, encode_answer(content_type, decoded.rejected))

    def _body(self) -> bytes:
        codings = self.headers.get_all("Transfer-Encoding") or []
        lengths = self.headers.get_all("Content-Length") or []
        if len(codings) + len(lengths) > 1:
            raise Refused(400, "the length of the body is ambiguous")
        if not codings and not lengths:
            raise Refused(411, "a Content-Length is needed")
        try:
            body = self._chunked(codings[0]) if codings else self._sized(lengths[0])
        except TimeoutError:
            raise Refused(408, "the body took too long") from None
        self._unread = False
        return body

    def _sized(self, length: str) -> bytes:
        if re.fullmatch("[0-9]{1,19}", length) is None:
            raise Refused(400, "the Content-Length is not a number")
        if int(length) > MAX_BODY:
            raise Refused(413, f"the body is longer than {MAX_BODY} bytes")
        self._continue()
        return self._exactly(int(length))

    def _chunked(self, coding: str) -> bytes:
        if coding.strip().lower() != "chunked":
            raise Refused(501, "the only Transfer-Encoding here is chunked")
        self._continue()
        body = bytearray()
        while True:
            line = self.rfile.readline(1024)
            match = re.match(rb"([0-9A-Fa-f]{1,8})[ \t]*[;\r\n]", line)
            if match is None or not line.endswith(b"\n"):
                raise Refused(400, "the chunks of the body are damaged")
            size = int(match[1], 16)
            if len(body) + size > MAX_BODY:
                raise Refused(413, f"the body is longer than {MAX_BODY} bytes")
            if size == 0:
                break
            body += self._exactly(size)
            if self.rfile.readline(3) not in (b"\r\n", b"\n"):
                raise Refused(400, "the chunks of the body are damaged")
        if self.rfile.readline(3) not in (b"\r\n", b"\n"):
            raise Refused(400, "trailers are not taken")
        return bytes(body)

    def _exactly(self, size: int) -> bytes:
        data = self.rfile.read(size)
        if len(data) < size:
            raise Refused(400, "the body ended early")
        return data

    def _continue(self) -> None:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()
            self.wfile.flush()
