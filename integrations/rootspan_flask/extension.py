"""The extension: listens to the signals that Flask sends about each request, and wraps nothing but streamed bodies."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import fields
from typing import Any, Final, cast

from flask import (
    Flask,
    Request,
    Response,
    got_request_exception,
    has_request_context,
    request,
    request_finished,
    request_started,
    request_tearing_down,
)
from werkzeug.exceptions import HTTPException

from rootspan import ConfigurationError, configure
from rootspan.adapter import RequestInfo, RequestOptions, RequestRoot, open_request
from rootspan_flask.command import rootspan_command

__all__ = ["Rootspan"]

logger = logging.getLogger("rootspan")

_NAME: Final = "rootspan"  # in `app.extensions`; upper case in `app.config`
_KEY: Final = "rootspan.request"  # in the WSGI environ: a second app around the same request records nothing
_REQUEST_OPTIONS: Final = frozenset(field.name for field in fields(RequestOptions) if field.init)


class Rootspan:
    """Records each request of a Flask app as one isolated root span, with what was tracked inside it below.

    Options come from `init_app`, else from here, else from `app.config["ROOTSPAN"]`. The app is not kept, and one
    extension serves any number of apps.

    Args:
        app: the application; without it, call `init_app` later.
        **options: the fields of `rootspan.adapter.RequestOptions`, whose hooks are given the `flask.Request`; beside
            them those of `rootspan.configure`, which is called with them.

    Raises:
        ConfigurationError: an option is unknown or of the wrong type, or two of them contradict each other.

    Example:
        >>> from flask import Flask
        >>> app = Flask("shop")
        >>> rootspan = Rootspan(app, user_id=lambda request: request.headers.get("x-user"))
    """

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        self._options = options
        _request_options(options)  # a mistake shows here, not in a factory that runs later
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, **options: Any) -> None:
        """Install it in an application; a second time, the later options hold.

        Args:
            app: the application.
            **options: as above; they win over those given to the extension.

        Raises:
            ConfigurationError: as above, also of `app.config["ROOTSPAN"]`.
        """
        configured = cast("dict[str, Any]", app.config).get(_NAME.upper(), {})
        if not isinstance(configured, Mapping):
            raise ConfigurationError(
                f"app.config['ROOTSPAN'] has to be a dict, not {configured!r}. Fix: {{'record': 'all'}}."
            )
        given: dict[str, Any] = {**configured, **self._options, **options}
        request_options = _request_options(given)
        settings = {name: value for name, value in given.items() if name not in _REQUEST_OPTIONS}
        if settings and request_options.tracker is not None:
            raise ConfigurationError(
                f"{min(settings)}= is an option of the tracker, and tracker= names one that has its own. "
                f"Fix: rootspan.Tracker({min(settings)}=...)."
            )
        if settings:
            configure(**settings)
        requests = _Requests(request_options)
        app.extensions[_NAME] = requests  # signals hold their receivers weakly: this is what keeps them
        request_started.connect(requests.started, app)
        request_finished.connect(requests.finished, app)
        got_request_exception.connect(requests.failed, app)
        request_tearing_down.connect(requests.torn_down, app)
        app.cli.add_command(rootspan_command)


def _request_options(options: Mapping[str, Any]) -> RequestOptions:
    return RequestOptions(**{name: value for name, value in options.items() if name in _REQUEST_OPTIONS})


def _never_raises(receiver: Callable[..., None]) -> Callable[..., None]:
    """What a signal's receiver raises would reach the app: a request class of the host's own may do anything."""

    @functools.wraps(receiver)
    def received(self: _Requests, app: Flask, **details: Any) -> None:
        try:
            if has_request_context():
                receiver(self, app, **details)
        except Exception:
            logger.warning("rootspan could not follow a request because of an error of its own", exc_info=True)

    return received


class _Requests:
    """The receivers of one app's signals; it knows neither the app nor any request."""

    def __init__(self, options: RequestOptions) -> None:
        self.options = options

    @_never_raises
    def started(self, app: Flask, **_: Any) -> None:
        if _KEY in request.environ:  # an app that hands its request on to another one
            return
        info = _info()
        root = open_request(info, self.options)
        if root is not None:
            root.look_up_with(_current_root)
            request.environ[_KEY] = _Request(root, info.request)

    @_never_raises
    def failed(self, app: Flask, exception: BaseException, **_: Any) -> None:
        if _KEY not in request.environ:  # before `request_started`: the session could not be opened
            self.started(app)
        if (followed := _followed()) is not None:
            followed.fail(exception)

    @_never_raises
    def finished(self, app: Flask, response: Response, **_: Any) -> None:
        if (followed := _followed()) is not None:
            followed.answer(response)

    @_never_raises
    def torn_down(self, app: Flask, exc: BaseException | None = None, **_: Any) -> None:
        """Also called where a copy of the context ends: in a thread, in the view, long after the request."""
        if (followed := _followed()) is not None:
            followed.tear_down(exc)


def _info() -> RequestInfo:
    current = _current_request()
    return RequestInfo(current, current.method, current.path, current.scheme, current.headers.get)


def _current_request() -> Request:
    return cast(Request, cast(Any, request)._get_current_object())  # what is behind the proxy


def _followed() -> _Request | None:
    """Return what follows the current request; None where it is over, or was handed on by another app."""
    followed: _Request | None = request.environ.get(_KEY)
    return followed if followed is not None and followed.request is _current_request() else None


_stepping: ContextVar[tuple[RequestRoot, RequestRoot | None] | None] = ContextVar("rootspan_flask_body", default=None)
"""The request whose body is being stepped, and the one that Flask's context named when the step began."""


def _context_root() -> RequestRoot | None:
    if not has_request_context():
        return None
    followed: _Request | None = request.environ.get(_KEY)
    return None if followed is None else followed.root


def _current_root() -> RequestRoot | None:
    """Return the request that the running code is in: the one of Flask's context, which copies follow into threads.

    A streamed body without a context of its own runs in whatever context the server's thread is in.
    """
    root, stepping = _context_root(), _stepping.get()
    return stepping[0] if stepping is not None and stepping[1] is root else root


class _Request:
    """What has become of one request so far."""

    __slots__ = ("_answered", "_failed", "_status", "_streams", "request", "root")

    def __init__(self, root: RequestRoot, request: Request) -> None:
        self.root = root
        self.request: Request | None = request
        self._status = 0
        self._failed = self._answered = self._streams = False

    def fail(self, error: BaseException) -> None:
        self._failed = True
        if not isinstance(error, HTTPException):  # that is an answer; its status tells
            self.root.fail(error)

    def answer(self, response: Response) -> None:
        self._answered = True
        self._status = response.status_code
        header = self.root.response_header
        if header is not None:
            response.headers[header[0]] = header[1]
        self._streams = response.is_streamed and not response.direct_passthrough  # a file goes out as it is
        if self._streams:
            self.root.identify()  # when the body ends, the context is gone
            response.response = _Body(response.response, self, measured=response.content_length is None)
        response.call_on_close(self.end)

    def tear_down(self, error: BaseException | None) -> None:
        """Record it where the answer is known and complete, or where there will be none."""
        if self._answered:
            if not self._streams:
                self.end()
        elif error is not None and (self._failed or not isinstance(error, Exception)):
            self.root.fail(error)
            if isinstance(error, Exception):
                self._status = 500  # what the server answers for it
            self.end()

    def end(self) -> None:
        if self.request is None:
            return
        rule = self.request.url_rule
        self.request = None
        self.root.set_route(None if rule is None else rule.rule)
        if self._status:
            self.root.set_status(self._status)
        self.root.finish()
        self.root.leave()

    def __del__(self) -> None:
        self.end()  # a server that never closes what it was given


class _Body:
    """A streamed body: each step of it runs inside the request, which ends when the server closes the body."""

    def __init__(self, chunks: Iterable[Any], followed: _Request, measured: bool) -> None:
        self._chunks = chunks
        self._followed = followed
        self._measured = measured  # an error page is an iterator too, of one chunk and a known length
        self._root = followed.root
        self._active = followed.root.activate()
        self._next: Callable[[], Any] | None = None
        self._complete = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            chunk = self._inside(self._step)
        except StopIteration:
            self._complete = True
            raise
        except BaseException as error:
            self._complete = True
            self._root.fail(error)
            raise
        if self._measured:
            self._root.chunk(len(chunk.encode() if isinstance(chunk, str) else chunk))
        return chunk

    def _step(self) -> Any:
        if self._next is None:
            self._next = iter(self._chunks).__next__
        return self._next()

    def _inside(self, step: Callable[[], Any]) -> Any:
        token = _stepping.set((self._root, _context_root()))
        try:
            with self._active:
                return step()
        finally:
            _stepping.reset(token)

    def close(self) -> None:
        self._stop()
        try:
            self._inside(getattr(self._chunks, "close", _nothing))
        except BaseException as error:
            self._root.fail(error)
            raise

    def _stop(self) -> None:
        if self._next is not None and not self._complete:
            self._root.cancel()

    def __del__(self) -> None:
        self._stop()
        self._followed.end()


def _nothing() -> None:
    return None
