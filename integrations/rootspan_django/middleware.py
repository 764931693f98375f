"""The middleware: a root span for each request, which ends with the response or the last byte of a streamed one."""

from __future__ import annotations

import sys
import weakref
from contextlib import nullcontext, suppress
from types import SimpleNamespace
from typing import Any, Final

from asgiref.sync import async_to_sync, iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.core.signals import got_request_exception
from django.dispatch import receiver
from django.http import HttpRequest, UnreadablePostError

from rootspan.adapter import InputTee, RequestRoot, environ_info, open_request
from rootspan_django.configuration import options

_handlings: Final[dict[int, _Handling]] = {}  # by the id of the request, which gains no attribute and no META key


class RootspanMiddleware:
    """Records each request as one isolated root span, with what was tracked inside it below.

    Works in both of Django's modes without a thread hop of its own. Options come from `settings.ROOTSPAN`: the
    fields of `rootspan.adapter.RequestOptions`, whose hooks are given the `HttpRequest`.

    Args:
        get_response: the rest of the application.

    Raises:
        ConfigurationError: `settings.ROOTSPAN` is wrong.
        MiddlewareNotUsed: rootspan is disabled.

    Example:
        >>> MIDDLEWARE = ["rootspan_django.middleware.RootspanMiddleware", "..."]
    """

    sync_capable = async_capable = True

    def __init__(self, get_response: Any) -> None:
        if options().tracker_now.settings.disabled:
            raise MiddlewareNotUsed("rootspan is disabled")
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)  # pyright: ignore[reportDeprecated]  # for Python 3.11
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Handle one request; in async mode, return what is to be awaited."""
        if self._is_async:
            return self._respond(request)
        with _open(request) as handling:
            handling.response = self.get_response(request)
        return handling.response

    async def _respond(self, request: HttpRequest) -> Any:
        with _open(request) as handling:
            handling.response = await self.get_response(request)
        return handling.response

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Note what a view raised; Django makes a response of it before the middleware sees it."""
        _note(self, request, exception)


def _open(request: Any) -> Any:
    """Return what to enter around the rest of the application, which gives what its response is told to."""
    root = None
    if id(request) not in _handlings:  # else a second middleware is in the stack
        try:
            scheme = request.scheme or "http"
        except ImproperlyConfigured:  # which is for the application to find out
            scheme = "http"
        info = environ_info(request, request.method or "", request.path_info, scheme, request.META)
        root = open_request(info, options())
    return nullcontext(SimpleNamespace()) if root is None else _Handling(request, root)


class _Handling:
    """One request while it is handled."""

    def __init__(self, request: Any, root: RequestRoot) -> None:
        self._request = request
        self._root = root
        self.error: BaseException | None = None
        self.response: Any = None
        _handlings[id(request)] = self
        if root.request_body is not None and hasattr(request, "_stream"):  # what `body`, `read` and parsers read from
            request._stream = InputTee(request._stream, root)

    def __enter__(self) -> _Handling:
        self._before = self._root.attach()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        root, response = self._root, self.response
        root.detach(self._before)
        _handlings.pop(id(self._request), None)
        route = getattr(self._request.resolver_match, "route", None)
        root.set_route(None if route is None else "/" + str(route).removeprefix("^"))
        if (streaming := getattr(response, "streaming", None)) is not None:  # else Django will name the mistake
            root.set_status(response.status_code)
            if root.wants_headers:
                for name, value in root.set_response_headers(response.headers.get):
                    response.headers[name] = value
                # A template may be rendered further out.
                if root.response_body is not None and not streaming and getattr(response, "is_rendered", True):
                    root.write(response.content, more=False)
        if error is None and (root.status or 0) >= 500:  # below, somebody made an answer of what was handled
            error = self.error
        self.error = None  # an exception that is kept pins its frames
        if isinstance(error, UnreadablePostError):  # the client left while it sent its body
            root.cancel()
        elif error is not None:
            root.fail(error)
        return _follow(root, response) if streaming else root.finish()


def _follow(root: RequestRoot, response: Any) -> None:
    """End the request with a streamed response: when its body ends or fails, or when it is closed."""

    body: Any = response._iterator if response.is_async else None
    own = {"close": response.close} if "close" in response.__dict__ else {}  # as a view or a middleware may set one

    async def end() -> None:
        await body.aclose()

    def close() -> None:
        response.__dict__.pop("close", None)
        response.__dict__.update(own)
        with root.activate():
            response.close()
            if getattr(body, "ag_frame", None) is not None:  # not at its end, and Django leaves it to be collected
                with suppress(Exception):
                    async_to_sync(end)()
                root.cancel()
        root.finish()

    response.close = close  # what servers call, also where `wsgi.file_wrapper` sends
    weakref.finalize(response, root.finish).atexit = False  # a server that never does
    if getattr(response, "file_to_stream", None) is None:  # a file goes out as it is, maybe by the server itself
        follow = root.astream if response.is_async else root.stream
        response.streaming_content = follow(response.streaming_content)


@receiver(got_request_exception)
def _note(sender: Any, request: Any = None, exception: BaseException | None = None, **_: Any) -> None:
    """Note an exception, also as the signal tells it of another middleware or of a template that is rendered late."""
    if (handling := _handlings.get(id(request))) is not None:
        handling.error = sys.exc_info()[1] if exception is None else exception
