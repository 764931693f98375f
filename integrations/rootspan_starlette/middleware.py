"""A pure ASGI middleware that opens a root span for each request and ends it with the last byte."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from rootspan import Tracker, adapter
from rootspan.adapter import RequestOptions, RequestRoot, WebOptions, header_of, open_request, scope_info, sole
from rootspan_starlette.routes import template

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["RootspanMiddleware", "with_lifespan"]

_SEEN: Final = "rootspan.request"  # in the scope, by tracker: a second middleware of that records nothing
_ENDS: Final = ("http.response.zerocopysend", "http.response.pathsend")  # in place of a body
_LEFT: Final = (ClientDisconnect, WebSocketDisconnect, OSError)  # how an application notes that the client has left


class RootspanMiddleware:
    """Records each request as one isolated root span, with what was tracked inside it below.

    Args:
        app: the ASGI application, of version 3 or 2.
        **options: the fields of `rootspan.adapter.RequestOptions`; hooks are given Starlette's `Request`, for a
            WebSocket its `HTTPConnection`.

    Raises:
        ConfigurationError: an option is unknown or of the wrong type, or two of them contradict each other.

    Example:
        >>> from starlette.applications import Starlette
        >>> app = Starlette()
        >>> app.add_middleware(RootspanMiddleware, user_id=lambda request: request.headers.get("x-user"))
    """

    def __init__(self, app: ASGIApp, **options: Unpack[WebOptions]) -> None:
        self.app = app
        self._call = _single(app)
        self._options = RequestOptions.of(options)
        self._seen = f"{_SEEN}.{id(self._options.tracker_now)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        kind, seen, options = scope["type"], self._seen, self._options
        if kind in ("http", "websocket") and seen not in scope:
            request = (Request if kind == "http" else HTTPConnection)(scope) if options.hooked else None
            root = open_request(scope_info(request, scope), options)
            if root is not None:
                with _Connection(root, scope, receive, send, seen) as connection:
                    return await self._call(scope, connection.receive, connection.send)
        elif kind == "lifespan" and seen not in scope:  # or the wait at the end would be as many times as long
            scope[seen] = True
            send = _flushing(send, options.tracker)
        await self._call(scope, receive, send)


def with_lifespan(app: ASGIApp, tracker: Tracker | None = None) -> ASGIApp:
    """Answer the server's lifespan messages for an app that does not, and deliver everything at shutdown.

    Args:
        app: an ASGI application without a lifespan of its own, such as Django's.
        tracker: whose spans are delivered; the default tracker if None.

    Example:
        >>> async def app(scope, receive, send): ...
        >>> application = with_lifespan(RootspanMiddleware(app))
    """
    call = _single(app)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await call(scope, receive, send)
        flushing = _flushing(send, tracker)
        for kind in ("startup", "shutdown"):
            await receive()
            await flushing({"type": f"lifespan.{kind}.complete"})

    return application


def _flushing(send: Send, tracker: Tracker | None) -> Send:
    """Return a `send` that delivers everything before the server is told that the shutdown is complete."""

    async def flushing(message: Message) -> None:
        if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            await anyio.to_thread.run_sync(adapter.deliver_at_end, tracker)
        await send(message)

    return flushing


def _single(app: Any) -> ASGIApp:
    """Return an ASGI 3 callable for an app of either version; what it takes tells them apart."""
    try:
        inspect.signature(app, follow_wrapped=False).bind(None, None, None)  # its own, not that of what it wraps
    except TypeError:
        return lambda scope, receive, send: app(scope)(receive, send)
    except ValueError:  # what is written in C has no signature
        pass
    return app  # type: ignore[no-any-return]


class _Connection:
    """One HTTP request with its response, or one WebSocket from its handshake to its close.

    Args:
        root: its span.
        scope: the ASGI scope.
        receive: the server's.
        send: the server's.
        seen: what says in the scope that it is recorded, until it ends.
    """

    _started = _trailers = _gone = False

    def __init__(self, root: RequestRoot, scope: Scope, receive: Receive, send: Send, seen: str) -> None:
        self._root = root
        self._scope = scope
        self._receive = receive
        self._send = send
        self._seen = seen

    def __enter__(self) -> _Connection:
        self._scope[self._seen] = True
        self._before = self._root.attach()
        return self

    async def receive(self) -> Message:
        """Receive for the application, when it asks."""
        message = await self._receive()
        kind = message["type"]
        if kind == "http.request":
            self._root.read(message.get("body", b""))
        elif kind == "websocket.receive":
            self._root.message_received(message.get("text") or message.get("bytes") or b"")
        elif kind in ("http.disconnect", "websocket.disconnect"):
            self._gone = True
            if kind == "websocket.disconnect" and self._started:  # else it left before its handshake
                self._root.close(message.get("code", 1005))
        return message

    async def send(self, message: Message) -> None:
        """Send for the application; the message with the last byte ends the span."""
        if self._gone:  # it goes nowhere
            return await self._send(message)
        kind, last = message["type"].removeprefix("websocket."), False  # its refusal is a whole HTTP response
        if kind == "http.response.body":
            more = message.get("more_body", False)
            self._root.write(message.get("body", b""), more)
            last = not more and not self._trailers
        elif kind == "http.response.start":
            message = self._starts(message, message.get("status", 200))
        elif kind == "accept":
            message = self._starts(message, 101)
        else:
            last = self._sends(kind, message)
        try:
            await self._send(message)
        except OSError:  # what newer servers say when the client has left
            self._gone = True
            raise
        if last:
            if (self._root.status or 0) >= 500:
                return self._root.end()  # the exception behind it comes only now
            self._finish()

    def _sends(self, kind: str, message: Message) -> bool:
        """Note what is rarely sent; return whether the response ends with it."""
        if kind == "send":
            self._root.message_sent(message.get("text") or message.get("bytes") or b"")
        elif kind == "close":
            self._root.close(message.get("code", 1000))
        elif kind == "http.response.trailers":
            return not message.get("more_trailers", False)
        return kind in _ENDS and not self._trailers and not message.get("more_body", False)

    def _starts(self, message: Message, status: int) -> Message:
        root = self._root
        root.set_status(status)
        self._started = True
        self._trailers = message.get("trailers", False)
        if root.wants_headers:
            headers = message.get("headers") or ()
            if not isinstance(headers, (list, tuple)):  # what may be read only once
                message = {**message, "headers": (headers := [*headers])}
            for name, value in root.set_response_headers(header_of(headers)):
                message = {**message, "headers": [*headers, (name.lower().encode(), value.encode())]}
        return message

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._root.detach(self._before)
        self._scope.pop(self._seen, None)  # who calls the application again has that recorded, too
        if self._root.finished:
            return
        if error is None and self._started and self._scope["type"] == "websocket":
            self._root.end()  # the server closes what the application left open
        if error is not None and not (self._gone and isinstance(sole(error), _LEFT)):
            self._root.fail(error)
        elif self._started or self._gone:
            self._root.cancel()  # changes nothing where the answer was complete
        else:
            self._root.set_status(500)  # what the server answers for it
        self._finish()

    def _finish(self) -> None:
        self._root.set_route(template(self._scope))
        self._root.finish()
