"""What becomes of one request: the answer, the exception, and the steps of a streamed body."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, cast
from weakref import ref

from flask import Request, Response
from flask import request as proxy
from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import ClosingIterator

from rootspan.adapter import InputTee, RequestOptions, RequestRoot, StreamedBody, environ_info, open_request

__all__ = ["Followed", "current_request", "following", "last_followed", "start"]

_KEY: Final = "rootspan.request"  # in the WSGI environ: a second app around the same request records nothing

_latest: ContextVar[Callable[[], Followed | None]] = ContextVar("rootspan_flask_latest", default=lambda: None)
current_request = cast("Callable[[], Request]", cast(Any, proxy)._get_current_object)
"""Returns the request that Flask's context names, itself and no proxy; raises outside of any."""


def start(request: Request | None, options: RequestOptions, remembered: object = False) -> None:
    """Follow a request from now on, unless that is done already.

    Args:
        request: Flask's.
        options: the extension's.
        remembered: whether `last_followed` may be asked for it.
    """
    environ = {} if request is None else request.environ
    known: Followed | None = environ.get(_KEY)
    if request is None or (known is not None and known.request is not None):  # else it is over, and handled again
        return
    environ[_KEY] = None
    root = open_request(environ_info(request, request.method, request.path, request.scheme, environ), options)
    if root is not None:
        root.look_up_with(_current_root)
        followed = environ[_KEY] = Followed(root, request)
        if remembered:
            _latest.set(ref(followed))
        if root.request_body is not None and "wsgi.input" in environ:
            environ["wsgi.input"] = InputTee(environ["wsgi.input"], root)


def following(request: Request | None, options: RequestOptions | None = None) -> Followed | None:
    """Return what follows a request; None where it is excluded or over, or was handed on by another app.

    Args:
        request: Flask's.
        options: follow it from now on with these, if nobody has told of its beginning.
    """
    if request is None:
        return None
    if options is not None and _KEY not in request.environ:
        start(request, options)
    followed: Followed | None = request.environ.get(_KEY)
    return followed if followed is not None and followed.request is request else None


def last_followed() -> Followed | None:
    """Return what follows the request that this code was in last."""
    return _latest.get()()


def _current_root() -> RequestRoot:
    """Return the request that Flask's context names, or raise; a copy of the context takes it into a thread."""
    followed: Followed = current_request().environ[_KEY]
    return followed.root


class _Body(StreamedBody):
    """A streamed body, measured unless it is another answer's of a known length."""

    def __init__(self, chunks: Any, root: RequestRoot, end: Callable[[], None], length: int | None) -> None:
        # An error page is an iterator too, of one chunk, after which no code of the app is left to run.
        self._whole = length if type(chunks) is ClosingIterator else None
        super().__init__(chunks, root, end, measured=self._whole is None)

    def __next__(self) -> Any:
        chunk = super().__next__()
        if isinstance(chunk, bytes) and len(chunk) == self._whole:
            self._end()
        return chunk


class Followed:
    """One request, from `request_started` to its last byte; kept in the WSGI environ."""

    _status: int | None = None  # of the answer; None before
    _failed = _streams = _torn_down = False
    _untell: Callable[[], None] | None = None

    def __init__(self, root: RequestRoot, request: Request) -> None:
        self.root = root
        self.request: Request | None = request  # let go at the end
        self._thread = threading.get_ident()  # the greenlet's where gevent patches, be it after this import

    def fail(self, error: BaseException) -> None:
        """Note the exception that no handler of the app took."""
        self._failed = True
        if not isinstance(error, HTTPException):  # that is an answer; its status tells
            self.root.fail(error)

    def answer(self, request: Request, response: Response) -> None:
        """Note the response; a streamed one is stepped inside the request from here on."""
        self._status = response.status_code
        if self.root.wants_headers:
            for name, value in self.root.set_response_headers(response.headers.get):
                response.headers[name] = value
                self._untell = partial(response.headers.remove, name)
        body = response.response  # pyright: ignore[reportUnknownMemberType]  # an iterable of whatever the app made
        # A file goes out as it is, and the answer to a HEAD is never stepped.
        is_file = response.direct_passthrough and not isinstance(body, Generator)
        self._streams = response.is_streamed and not is_file and request.method != "HEAD"
        if self._streams:
            self.root.identify()  # when the body ends, Flask's context is gone
            response.response = _Body(body, self.root, self.end, response.content_length)
        elif self.root.response_body is not None and isinstance(body, (list, tuple)):
            for chunk in cast("list[Any]", body):
                self.root.write(chunk, more=False)
        # Others end with their context, unless a test client keeps that: an answer that is sent again must not grow.
        if self._streams or "werkzeug.debug.preserve_context" in request.environ:
            response.call_on_close(self.end)

    def tear_down(self, error: BaseException | None) -> None:
        """Record it where the answer is complete, or where there will be none."""
        if self._status is not None:  # before, it may be a copy of the context that ends
            self._torn_down = True
            if not self._streams:
                self.end()
        elif error is not None and (self._failed or self._ends_with(error)):
            self.root.fail(error)
            self.end()

    def break_off(self, error: BaseException) -> None:
        """Record what a teardown function raised, unless they are done: the server answers 500 then."""
        if not self._torn_down:
            self._status = 500
            self.root.fail(error)
            self.end()

    def _ends_with(self, error: BaseException) -> bool:
        # An exception is answered before; in another thread or greenlet it is that one's end, in a copy of the context.
        return not isinstance(error, Exception) and threading.get_ident() == self._thread

    def end(self) -> None:
        """Record it, once."""
        request, self.request = self.request, None
        if request is not None:
            self.root.set_route(getattr(request.url_rule, "rule", None))
            if self._status:
                self.root.set_status(self._status)
            if self._untell is not None:  # an answer that is sent again has to tell the next one's
                self._untell()
            self.root.finish()
            self.root.leave()

    def __del__(self) -> None:
        if self.request is not None:  # some servers never close what they were given
            if self._status is not None and not self._torn_down:
                self._status = 500  # and some answer was never given to them
            self.end()
