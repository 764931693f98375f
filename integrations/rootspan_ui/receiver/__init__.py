"""A local OTLP/HTTP receiver: it takes traces from any OpenTelemetry SDK and hands them to a callback."""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rootspan.errors import ConfigurationError
from rootspan.settings import is_loopback
from rootspan_ui.receiver.decoding import request_type
from rootspan_ui.receiver.handler import Handler
from rootspan_ui.spans import ReceivedSpan

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["OnSpans", "Receiver"]

logger: Final = logging.getLogger("rootspan")

OnSpans = Callable[[list[ReceivedSpan]], object]

_FULL: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_POLL: Final = 0.05  # seconds until a stop is noticed
_PATIENCE: Final = 2.0  # seconds for a request in the works when the receiver stops


class Receiver:
    """Listens for OTLP/HTTP on `/v1/traces`, protobuf and JSON.

    Args:
        host: the address to listen on. Any other than a loopback address needs a `token`.
        port: the TCP port; 0 takes a free one.
        on_spans: called with each request's spans, from one thread at a time; keep it short.
        token: what senders have to show as `Authorization: Bearer <token>`.
        read_timeout: seconds in which a request has to arrive.
        idle_timeout: seconds for which a connection is kept without a request.
        connections: how many connections are served at once; more are answered 503. Half of them may be kept.

    Raises:
        ConfigurationError: no token for an address that others can reach, or a token that is no header value.
        MissingExtraError: without the package `opentelemetry-proto`.

    Example:
        >>> with Receiver(port=0, on_spans=print) as receiver:
        ...     url = receiver.url
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 4318,
        on_spans: OnSpans | None = None,
        *,
        token: str | None = None,
        read_timeout: float = 15.0,
        idle_timeout: float = 75.0,
        connections: int = 32,
    ) -> None:
        request_type()  # fails here, not at the first request
        self._family, self._address = _resolve(host)
        self._port = port
        _check_token(token, host, self._address)
        taken: OnSpans = on_spans or (lambda spans: None)
        self._terms = Terms(taken, token, host.lower(), read_timeout, idle_timeout, connections)
        self._door: Door | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port; with `port=0` it is known once the receiver was started."""
        return int(self._door.server_address[1]) if self._door else self._port

    @property
    def url(self) -> str:
        """The base URL for senders, such as `http://127.0.0.1:4318`."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        address = everywhere.get(self._address, self._address)
        return f"http://[{address}]:{self.port}" if ":" in address else f"http://{address}:{self.port}"

    def start(self) -> Self:
        """Listen, in a background thread.

        Returns:
            The receiver itself.

        Raises:
            ConfigurationError: the port is in use, or the address is not one of this machine.
        """
        if self._door is None:
            self._door = self._open()
            self._thread = threading.Thread(
                target=self._door.serve_forever, args=(_POLL,), name="rootspan-receiver", daemon=True
            )
            self._thread.start()
        return self

    def stop(self) -> None:
        """Listen no more; requests in the works are answered."""
        door, thread, self._door, self._thread = self._door, self._thread, None, None
        if door is not None and thread is not None:
            self._port = int(door.server_address[1])
            door.shutdown()
            thread.join()
            door.server_close()
            door.hang_up()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _open(self) -> Door:
        try:
            return Door(self._family, (self._address, self._port), self._terms)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigurationError(
                    f"Port {self._port} on {self._address} is in use, perhaps by another receiver.\n"
                    f"Fix: rootspan tail --port {self._port + 1}"
                ) from None
            raise ConfigurationError(
                f"Cannot listen on {self._address} port {self._port}: {error.strerror}.\n"
                "Fix: take an address of this machine and a port above 1023, such as rootspan tail --port 4318"
            ) from None
        except OverflowError:
            raise ConfigurationError(
                f"The port {self._port} is not between 0 and 65535.\nFix: rootspan tail --port 4318"
            ) from None


def _resolve(host: str) -> tuple[int, str]:
    """The family and the one address that will be listened on, so that what is checked is what is bound."""
    name = "127.0.0.1" if host == "localhost" else host.strip("[]") or "0.0.0.0"
    try:
        family, _, _, _, address = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise ConfigurationError(f"The host {host!r} is unknown here.\nFix: rootspan tail --host 127.0.0.1") from None
    return family, str(address[0]).partition("%")[0]


def _check_token(token: str | None, host: str, address: str) -> None:
    if token is not None and re.fullmatch(r"[\x21-\x7e]{1,4096}", token) is None:
        raise ConfigurationError(
            "The token has to be visible ASCII without spaces.\nFix: make one with openssl rand -hex 32"
        )
    if token is None and not is_loopback(address):
        raise ConfigurationError(
            f"Others can reach {host or '0.0.0.0'}, so a token is needed.\n"
            'Fix: rootspan tail --token "$(openssl rand -hex 32)", or --host 127.0.0.1'
        )


class Terms(NamedTuple):
    """What a receiver does with requests, and whose it takes."""

    on_spans: OnSpans
    token: str | None
    name: str  # by which it may be called, beside those of a loopback
    read_timeout: float
    idle_timeout: float
    connections: int


class Door(ThreadingTCPServer):
    """The listening socket and its connections."""

    allow_reuse_address = os.name == "posix"  # elsewhere it would let a second process take the port over
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, family: int, address: tuple[str, int], terms: Terms) -> None:
        self.address_family = family
        self.terms = terms
        self.turn = threading.Lock()
        self._slots = threading.Semaphore(terms.connections)
        self._open: dict[socket.socket, threading.Thread] = {}
        self._changing = threading.Lock()
        super().__init__(address, Handler)

    @property
    def crowded(self) -> bool:
        """Whether a connection is better closed after its answer, since others may want its place."""
        return len(self._open) > self.terms.connections // 2

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            request.settimeout(0)
            request.send(_FULL)
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._changing:
            self._open[request] = threading.current_thread()
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changing:
                del self._open[request]
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("receiver: a connection broke", exc_info=True)

    def hang_up(self) -> None:
        """End every connection after the answer that it is waiting for."""
        with self._changing:
            connections = list(self._open.items())
        for connection, _ in connections:
            with suppress(OSError):  # it has gone by itself
                connection.shutdown(socket.SHUT_RD)
        for _, thread in connections:
            thread.join(_PATIENCE)
