"""A pure ASGI middleware that opens a root span for each request and ends it with the last byte."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import anyio.to_thread
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rootspan import default_tracker
from rootspan.adapter import RequestInfo, RequestOptions, RequestRoot, open_request

__all__ = ["RootspanMiddleware"]

_SEEN: Final = "rootspan.request"  # in the scope: a second middleware around the same request records nothing
_FLUSH_SECONDS: Final = 5.0


class RootspanMiddleware:
    """Records each request as one isolated root span, with what was tracked inside it below.

    Args:
        app: the ASGI application.
        **options: the fields of `rootspan.adapter.RequestOptions`; hooks are given an `HTTPConnection`.

    Raises:
        ConfigurationError: an option is of the wrong type, or two of them contradict each other.

    Example:
        >>> from starlette.applications import Starlette
        >>> app = Starlette()
        >>> app.add_middleware(RootspanMiddleware, user_id=lambda request: request.headers.get("x-user"))
    """

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        self.app = app
        self._options = RequestOptions(**options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        kind = scope["type"]
        if kind == "lifespan":
            await self.app(scope, receive, self._flushing(send))
        elif kind not in ("http", "websocket") or _SEEN in scope:
            await self.app(scope, receive, send)
        else:
            root = open_request(_info(scope), self._options)
            if root is None:
                await self.app(scope, receive, send)
            else:
                scope[_SEEN] = True
                connection = _Connection if kind == "http" else _Socket
                await connection(root, scope, receive, send).run(self.app)

    def _flushing(self, send: Send) -> Send:
        """Return a `send` that delivers everything before the server is told that the shutdown is complete."""
        tracker = self._options.tracker or default_tracker

        async def flushing(message: Message) -> None:
            if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                await anyio.to_thread.run_sync(tracker.flush, _FLUSH_SECONDS)
            await send(message)

        return flushing


def _info(scope: Scope) -> RequestInfo:
    def header(name: str) -> str | None:
        wanted = name.encode("latin-1")
        for key, value in scope.get("headers") or ():
            if key.lower() == wanted:
                return str(value, "latin-1")
        return None

    kind = scope["type"]
    return RequestInfo(
        request=HTTPConnection(scope),
        method=scope.get("method", "WEBSOCKET") if kind == "http" else "WEBSOCKET",
        path=scope.get("path", ""),
        scheme=scope.get("scheme", "http" if kind == "http" else "ws"),
        header=header,
    )


class _Connection:
    """One HTTP request: watches the messages that the application itself receives and sends."""

    def __init__(self, root: RequestRoot, scope: Scope, receive: Receive, send: Send) -> None:
        self._root = root
        self._scope = scope
        self._receive = receive
        self._send = send
        self._mounted_at = scope.get("root_path", "")
        self._started = False
        self._streams = False
        self._trailers = False
        self._disconnected = False

    async def run(self, app: ASGIApp) -> None:
        try:
            with self._root.activate():
                await app(self._scope, self.receive, self.send)
        except BaseException as error:
            self.broke(error)
            raise
        if self._disconnected or self._started:
            self._root.cancel()  # changes nothing where the answer is complete
        self.finish()

    def broke(self, error: BaseException) -> None:
        self._root.fail(error)
        if not self._started and isinstance(error, Exception):
            self._root.set_status(500)  # what the server answers for it
        self.finish()

    def finish(self) -> None:
        self._root.set_route(_template(self._scope, self._mounted_at))
        self._root.finish()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._disconnected = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            self._started = True
            self._trailers = message.get("trailers", False)
            self._root.set_status(message["status"])
            message = self._with_header(message)
        elif kind == "http.response.body":
            self._saw_body(message)
        await self._send(message)
        if self._is_last(kind, message):
            self.finish()

    def _with_header(self, message: Message) -> Message:
        header = self._root.response_header
        if header is None:
            return message
        name, value = (part.encode("latin-1") for part in header)
        return {**message, "headers": [*message.get("headers", ()), (name.lower(), value)]}

    def _saw_body(self, message: Message) -> None:
        self._streams = self._streams or message.get("more_body", False)
        size = len(message.get("body", b""))
        if self._streams and size:
            self._root.chunk(size)

    def _is_last(self, kind: str, message: Message) -> bool:
        if kind == "http.response.body":
            return not message.get("more_body", False) and not self._trailers
        if kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        return kind == "http.response.pathsend"


class _Socket(_Connection):
    """One WebSocket connection: a single span from the handshake to the close."""

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._closed(message.get("code", 1005))
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "websocket.accept":
            self._started = True
            self._root.set_status(101)
        elif kind == "websocket.close":
            self._root.set_status(403)  # where it was refused before it was accepted
            self._closed(message.get("code", 1000))
        elif kind == "websocket.http.response.start":
            self._root.set_status(message["status"])
        await self._send(message)

    def _closed(self, code: int) -> None:
        self._root.set_attribute("rootspan.websocket.close_code", code)

    def broke(self, error: BaseException) -> None:
        if type(error).__name__ != "WebSocketDisconnect":
            self._root.fail(error)
        self.finish()

    async def run(self, app: ASGIApp) -> None:
        try:
            with self._root.activate():
                await app(self._scope, self.receive, self.send)
        except BaseException as error:
            self.broke(error)
            raise
        self.finish()


def _template(scope: Scope, mounted_at: str) -> str | None:
    """Return the template of the route that the application itself matched, with the mounts around it."""
    path = getattr(scope.get("route"), "path", None)
    if not isinstance(path, str):  # before Starlette 1.7 the scope names the endpoint only
        routes = getattr(scope.get("router"), "routes", ())
        return _found(routes, scope.get("endpoint"), set(scope.get("path_params", {})), "")
    prefix = scope.get("root_path", "")
    prefix = prefix[len(mounted_at) :] if prefix.startswith(mounted_at) else ""
    if not prefix:
        return path
    names = {str(value): name for name, value in scope.get("path_params", {}).items()}
    parts = [f"{{{names[part]}}}" if part in names else part for part in prefix.split("/")]
    return "/".join(parts) + path


def _found(routes: Iterable[Any], endpoint: Any, parameters: set[str], prefix: str) -> str | None:
    """Return the template that leads to an endpoint with these parameters; nothing is matched again."""
    for route in routes if endpoint is not None else ():
        path = prefix + getattr(route, "path", "")
        if getattr(route, "endpoint", None) is endpoint and all(f"{{{name}" in path for name in parameters):
            return path
        found = _found(getattr(route, "routes", None) or (), endpoint, parameters, path)
        if found is not None:
            return found
    return None
