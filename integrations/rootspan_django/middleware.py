"""The middleware: a root span for each request, which ends with the response or the last byte of a streamed one."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any, Final

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import ImproperlyConfigured, MiddlewareNotUsed
from django.core.signals import got_request_exception
from django.dispatch import receiver
from django.http import HttpRequest, StreamingHttpResponse
from django.http.request import HttpHeaders
from django.http.response import HttpResponseBase

from rootspan import default_tracker
from rootspan.adapter import RequestInfo, RequestRoot, open_request
from rootspan_django.configuration import options

__all__ = ["RootspanMiddleware"]

_HANDLING: Final = "_rootspan"  # a request's attribute while it is handled; a second middleware then records nothing


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

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        if (options().tracker or default_tracker).settings.disabled:
            raise MiddlewareNotUsed("rootspan is disabled")
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)  # pyright: ignore[reportDeprecated]  # for Python 3.11
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """Handle one request; in async mode, return what is to be awaited."""
        handling = _open(request)
        if handling is None:
            return self.get_response(request)
        if self._is_async:
            return self._respond(request, handling)
        with handling:
            handling.response = self.get_response(request)
        return handling.response

    async def _respond(self, request: HttpRequest, handling: _Handling) -> Any:
        with handling:
            handling.response = await self.get_response(request)
        return handling.response

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Note what a view raised; Django makes a response of it before the middleware sees it."""
        _note(self, request, exception)


def _open(request: HttpRequest) -> _Handling | None:
    def header(name: str) -> Any:
        return request.META.get(HttpHeaders.to_wsgi_name(name))

    if _HANDLING in request.__dict__:
        return None
    try:
        scheme = request.scheme or "http"
    except ImproperlyConfigured:  # which is for the application to find out
        scheme = "http"
    root = open_request(RequestInfo(request, request.method or "", request.path, scheme, header), options())
    return None if root is None else _Handling(request, root)


class _Handling:
    """One request while it is handled: entered around the rest of the application, left with its response."""

    def __init__(self, request: HttpRequest, root: RequestRoot) -> None:
        self._request, self._root, self._active = request, root, root.activate()
        self.error: BaseException | None = None
        self.response: Any = None
        request.__dict__[_HANDLING] = self

    def __reduce__(self) -> Any:
        return type(None), ()  # who pickles or copies the request gets None in our place

    def __enter__(self) -> None:
        self._active.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._active.__exit__()
        root, response, handled, self.error = self._root, self.response, self.error, None  # none pins its frames
        self._request.__dict__.pop(_HANDLING, None)
        route = getattr(self._request.resolver_match, "route", None)
        root.set_route(None if route is None else "/" + str(route).removeprefix("^"))
        # No response: DEBUG_PROPAGATE_EXCEPTIONS, a task that was cancelled, or a mistake that Django will name.
        status = 500 if isinstance(error, Exception) else getattr(response, "status_code", None)
        if isinstance(status, int):
            root.set_status(status)
            error = error or (handled if status >= 500 else None)  # below, somebody made an answer of it
        if error is not None:
            root.fail(error)
        if root.response_header is not None and isinstance(response, HttpResponseBase):
            response.headers.setdefault(*root.response_header)
        if isinstance(response, StreamingHttpResponse):
            _follow(root, response)
        else:
            root.finish()


def _follow(root: RequestRoot, response: StreamingHttpResponse) -> None:
    """End the request with a streamed response: when its body ends or fails, or when it is closed."""

    def close() -> None:
        response.__dict__.pop("close", None)
        with root.activate():
            response.close()
        if response.is_async:
            root.cancel()  # changes nothing where the body has come to its end
        root.finish()

    response.close = close  # type: ignore[method-assign]  # what servers call, also where `wsgi.file_wrapper` sends
    weakref.finalize(response, root.finish).atexit = False  # a server that never does
    if getattr(response, "file_to_stream", None) is None:  # a file goes out as it is, maybe by the server itself
        chunks: Any = response.streaming_content
        response.streaming_content = root.astream(chunks) if response.is_async else root.stream(chunks)


@receiver(got_request_exception)
def _note(sender: Any, request: Any = None, exception: BaseException | None = None, **_: Any) -> None:
    """Note an exception, also as the signal tells it of another middleware or of a template that is rendered late."""
    handling = getattr(request, "__dict__", {}).get(_HANDLING)
    if handling is not None:
        handling.error = exception or sys.exc_info()[1]
