"""One keep-alive HTTP connection that obeys a deadline as a whole; the one module that imports urllib3."""

from __future__ import annotations

import codecs
import http.client
import io
import logging
import os
import socket
import ssl
import time
from base64 import b64encode
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined,unused-ignore]

import urllib3.connection

from rootspan.errors import fail
from rootspan.settings import is_loopback
from rootspan.transport.answer import BODY_LIMIT, Answer, read_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootspan.settings import Settings

__all__ = ["Connection", "quiet"]

codecs.lookup("idna")  # looking up a name wants it: imported here, and not while the host may fork
_SLICE: Final = 16_384  # bytes handed to the socket at a time, so that a slow reader cannot stretch the deadline

quiet: Final[ContextVar[bool]] = ContextVar("rootspan.quiet", default=False)
"""True where our own request runs: what urllib3 logs there reaches no handler."""


class _Silence(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not quiet.get()


_SILENCE: Final = _Silence()


def hush() -> None:
    """Put our filter on urllib3's loggers; a logger's filters are not inherited, so on each of them."""
    for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "urllib3"]:
        logging.getLogger(name).addFilter(_SILENCE)


class _Reader(io.RawIOBase):
    """A socket's reading end whose every wait ends at its connection's deadline.

    Attributes:
        ended: whether it was read to its end.
    """

    ended = False

    def __init__(self, sock: Any, connection: _Timed) -> None:
        self._sock = sock
        self._connection = connection
        self._raw = sock.makefile("rb", buffering=0)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._connection.remaining())
        count: int | None = self._raw.readinto(buffer)
        self.ended = count == 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def _read_status(self) -> tuple[str, int, str]:
        its: Any = super()  # its stubs do not tell of this method
        version, status, reason = its._read_status()
        # Any of these may come before the answer, yet http.client skips none but 100; 101 is an answer.
        return version, 100 if 101 < status < 200 else status, reason


class _Timed(http.client.HTTPConnection):
    deadline = 0.0  # monotonic seconds
    reader: _Reader  # of the latest answer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.response_class = self._timed_response  # type: ignore[assignment,unused-ignore]

    def remaining(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def connect(self) -> None:
        self.timeout = self.remaining()
        super().connect()

    def send(self, data: Any) -> None:
        view = memoryview(data)
        for start in range(0, len(view), _SLICE):
            self.sock.settimeout(self.remaining())
            super().send(view[start : start + _SLICE])

    def _timed_response(self, sock: Any, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        self.reader = _Reader(sock, self)
        return _Response(self.reader, *args, **kwargs)  # type: ignore[arg-type]  # asks for makefile only


class _Plain(_Timed, urllib3.connection.HTTPConnection):
    pass


class _Secure(_Timed, urllib3.connection.HTTPSConnection):
    pass


class Connection:
    """One kept connection to an endpoint, directly or through a proxy.

    It uses urllib3's connections without its pool, whose lock and finalizer could hang a forked child.

    Args:
        settings: the endpoint and its certificates.

    Raises:
        ConfigurationError: the environment names a proxy that is not spoken here.
    """

    def __init__(self, settings: Settings) -> None:
        hush()
        url = urlsplit(settings.endpoint)
        self._host = url.hostname or ""
        secure = url.scheme == "https"
        self._port = url.port or (443 if secure else 80)
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._proxy_headers: dict[str, str] = {}
        proxy = _proxy(url.scheme, self._host, self._port)
        self._tunnel = bool(proxy) and secure
        host, port = self._host, self._port
        if proxy:
            host, port, self._proxy_headers = _proxy_address(proxy)
            if not secure:
                self._target = f"http://{url.netloc}{self._target}"
        self._timed = self._open(settings, host, port, secure)

    @staticmethod
    def _open(settings: Settings, host: str, port: int, secure: bool) -> _Plain | _Secure:
        if not secure:
            return _Plain(host, port)
        return _Secure(
            host,
            port,
            cert_reqs=ssl.CERT_REQUIRED,
            ca_certs=settings.certificate,
            ssl_context=ssl.create_default_context(cafile=settings.certificate),
            cert_file=settings.client_certificate,
            key_file=settings.client_key,
        )

    def post(self, body: bytes, headers: Mapping[str, str], seconds: float) -> Answer:
        """Send one request and read its answer; raises whatever goes wrong, `TimeoutError` after `seconds`."""
        timed = self._timed
        timed.deadline = time.monotonic() + seconds
        if not timed.is_connected:
            timed.close()
        kept = not timed.is_closed
        try:
            try:
                return self._exchange(body, headers)
            except ConnectionError:
                if not kept:
                    raise
                # The server closed an idle connection just as we used it: that says nothing about this request.
                timed.close()
                return self._exchange(body, headers)
        except BaseException:
            timed.close()
            raise

    def _exchange(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        timed = self._timed
        if timed.is_closed and self._tunnel:
            timed.set_tunnel(self._host, self._port, self._proxy_headers)
        elif self._proxy_headers and not self._tunnel:
            headers = {**headers, **self._proxy_headers}
        if timed.is_closed:
            timed.connect()  # here, so that its errors are not taken for a server's early answer
        # A server may answer, for instance 413, before it has read everything; its answer is still there to read.
        with suppress(BrokenPipeError, ConnectionResetError):
            timed.request("POST", self._target, body=body, headers=headers, preload_content=False)
        response = timed.getresponse()
        if timed.reader.ended:  # before the blank line: http.client takes that for the end of the headers
            raise http.client.IncompleteRead(b"")
        taken = b""
        while len(taken) <= BODY_LIMIT and (part := response.read(BODY_LIMIT + 1 - len(taken), decode_content=False)):
            taken += part
        whole = len(taken) <= BODY_LIMIT
        if not whole:
            timed.close()
        return read_answer(response.status, response.headers, taken, whole=whole)

    def close(self) -> None:
        """Close the connection."""
        self._timed.close()

    def abandon(self) -> None:
        """In a forked child: give back the inherited descriptor, without a byte to the peer or a wait for a lock."""
        if (sock := self._timed.sock) is not None:
            with suppress(OSError):
                os.close(socket.socket.detach(sock))


def _proxy(scheme: str, host: str, port: int) -> str | None:
    proxies = getproxies_environment()
    if is_loopback(host) or proxy_bypass_environment(f"{host}:{port}", proxies):
        return None
    return proxies.get(scheme)


def _proxy_address(proxy: str) -> tuple[str, int, dict[str, str]]:
    try:
        url = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        if url.scheme != "http" or not url.hostname:
            raise ValueError
        port = url.port or 80
    except ValueError:  # also of a port that is no number
        fail("The proxy in HTTP_PROXY or HTTPS_PROXY is no valid http:// URL.", "name the endpoint's host in NO_PROXY")
    headers: dict[str, str] = {}
    if url.username is not None:
        login = f"{unquote(url.username)}:{unquote(url.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    return url.hostname, port, headers
