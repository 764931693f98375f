"""Clients that drive an ASGI or a WSGI app in this process, one message at a time, as a server would."""

from __future__ import annotations

import asyncio
import io
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import unquote
from wsgiref.util import setup_testing_defaults

__all__ = ["Answer", "AsgiClient", "Client", "WsgiClient"]

_PATIENCE: Final = 30.0  # seconds; a starved machine is no failure
_TURNS: Final = 100  # of the loop
Message: TypeAlias = MutableMapping[str, Any]
AsgiApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
WsgiApp: TypeAlias = Callable[[Any, Any], Iterable[bytes]]


class Answer(ABC):
    """What came back: the head is here, the body comes chunk by chunk as it is iterated.

    Attributes:
        status: the status; 500 where the app raised before it answered.
        headers: by lower-case name; of several with one name the last.
        error: what the app raised, also after the head, when a server would cut the connection.
    """

    def __init__(self) -> None:
        self.status = 500
        self.headers: dict[str, str] = {}
        self.error: BaseException | None = None

    @abstractmethod
    def __iter__(self) -> Iterator[bytes]:
        """Return the rest of the body's chunks."""

    @abstractmethod
    def close(self) -> None:
        """Go away, whether or not everything was read; returns when the app has ended."""

    @property
    def body(self) -> bytes:
        """The rest of the body; read to its end."""
        return b"".join(self)

    @property
    def text(self) -> str:
        """The same as text."""
        return self.body.decode()


class Client(Protocol):
    """What a case of `WebContract` needs of a client."""

    def request(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send a request; return when the head of the answer is there.

        Args:
            method: the HTTP method.
            path: path and query, percent-encoded.
            headers: request headers; values are sent as latin-1.
            body: the request's body.
        """
        ...


class AsgiClient:
    """Sends requests to an ASGI 3 app over one asyncio loop, which runs only while a request is awaited.

    Args:
        app: the application.
        peer: the address of the other end.

    Example:
        >>> async def app(scope, receive, send):
        ...     await send({"type": "http.response.start", "status": 200, "headers": []})
        ...     await send({"type": "http.response.body", "body": b"hello"})
        >>> with AsgiClient(app) as client:
        ...     client.request("GET", "/").text
        'hello'
    """

    def __init__(self, app: AsgiApp, peer: str = "127.0.0.1") -> None:
        self._app = app
        self._peer = peer
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> AsgiClient:
        return self

    def __exit__(self, *exc: object) -> None:
        if left := asyncio.all_tasks(self._loop):  # of answers that were neither read nor closed
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(left))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def request(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send a request; see `Client.request`."""
        raw, _, query = path.partition("?")
        given = {"host": "testserver", "content-length": str(len(body)), **_lowered(headers)}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw),
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in given.items()],
            "client": (self._peer, 50_000),
            "server": ("testserver", 80),
        }
        return _AsgiAnswer(self._loop, self._app, scope, body)


class _AsgiAnswer(Answer):
    """One request and its answer; the app waits with its next chunk until this one was taken."""

    def __init__(self, loop: asyncio.AbstractEventLoop, app: AsgiApp, scope: Message, body: bytes) -> None:
        super().__init__()
        self._loop = loop
        half = len(body) // 2
        self._parts = deque([(body[:half], True), (body[half:], False)] if body else [(b"", False)])
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue()  # None: there will be no more
        self._wanted, self._over = asyncio.Event(), asyncio.Event()
        self._task = loop.create_task(self._run(app, scope))
        head = loop.run_until_complete(self._next())
        if head is not None:
            self.status = head["status"]
            self.headers = {str(k, "latin-1").lower(): str(v, "latin-1") for k, v in head.get("headers", ())}

    async def _run(self, app: AsgiApp, scope: Message) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:
            self.error = error
        finally:
            self._messages.put_nowait(None)

    async def _receive(self) -> Message:
        if self._parts and not self._over.is_set():
            body, more = self._parts.popleft()
            return {"type": "http.request", "body": body, "more_body": more}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._over.is_set():
            await asyncio.sleep(0)
            return
        last = message["type"] == "http.response.body" and not message.get("more_body", False)
        if last:
            self._over.set()
        self._messages.put_nowait(message)
        if message["type"] == "http.response.body" and not last:
            self._wanted.clear()
            await self._wanted.wait()

    async def _next(self) -> Message | None:
        """Return the next message, or None when the app has ended without one."""
        self._wanted.set()
        try:
            message = await asyncio.wait_for(self._messages.get(), _PATIENCE)
        except asyncio.TimeoutError:
            raise AssertionError(f"the app said nothing for {_PATIENCE} s") from None
        if message is None:
            self._messages.put_nowait(None)  # who asks again is told again
        return message

    def __iter__(self) -> Generator[bytes]:
        while (message := self._loop.run_until_complete(self._next())) is not None:
            if body := message.get("body"):
                yield body
        self.close()

    def close(self) -> None:
        """Go away; what the app still sends is not looked at."""
        self._over.set()
        self._loop.run_until_complete(self._ended())
        assert self._task.done(), f"the app had not ended {_PATIENCE} s after its client went away"

    async def _ended(self) -> None:
        for _ in range(_TURNS):  # whoever waits for the disconnect hears of it before the next chunk is taken
            await asyncio.sleep(0)
        self._wanted.set()
        await asyncio.wait({self._task}, timeout=_PATIENCE)


class WsgiClient:
    """Sends requests to a WSGI app, on the calling thread.

    Args:
        app: the application.
        peer: the address of the other end.

    Example:
        >>> def app(environ, start_response):
        ...     start_response("200 OK", [])
        ...     return [b"hello"]
        >>> WsgiClient(app).request("GET", "/").text
        'hello'
    """

    def __init__(self, app: WsgiApp, peer: str = "127.0.0.1") -> None:
        self._app = app
        self._peer = peer

    def __enter__(self) -> WsgiClient:
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing is kept between two requests."""

    def request(self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """Send a request; see `Client.request`."""
        raw, _, query = path.partition("?")
        given = _lowered(headers)
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(raw, "latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": "testserver",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": self._peer,
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": given.pop("content-type", ""),
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in given.items()},
            "wsgi.input": io.BytesIO(body),
        }
        setup_testing_defaults(environ)
        return _WsgiAnswer(self._app, environ)


class _WsgiAnswer(Answer):
    def __init__(self, app: WsgiApp, environ: dict[str, Any]) -> None:
        super().__init__()
        self._early: deque[bytes] = deque()
        self._iterable: Iterable[bytes] = ()
        try:
            self._iterable = app(environ, self._start_response)
            self._chunks = iter(self._iterable)
        except Exception as error:
            self._failed(error)
            return
        if chunk := self._next():  # an app that is a generator sends its head with the first chunk
            self._early.append(chunk)

    def _failed(self, error: Exception) -> None:
        self.error = error
        self._chunks = iter(())

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self.status = int(status.split()[0])
        self.headers = {name.lower(): value for name, value in headers}
        return self._early.append

    def _next(self) -> bytes:
        """Return the next chunk that is not empty, or an empty one at the end."""
        try:
            return next((chunk for chunk in self._chunks if chunk), b"")
        except Exception as error:
            self._failed(error)
            return b""

    def __iter__(self) -> Generator[bytes]:
        while chunk := self._early.popleft() if self._early else self._next():
            yield chunk
        self.close()

    def close(self) -> None:
        """Close the app's iterable, as a server does."""
        iterable, self._iterable = self._iterable, ()
        self._chunks = iter(())
        getattr(iterable, "close", lambda: None)()


def _lowered(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (headers or {}).items()}
