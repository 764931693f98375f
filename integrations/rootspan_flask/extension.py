"""The extension: it listens to the signals that Flask sends about each request, and wraps only streamed bodies."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import flask
from flask import Flask, Request, Response

from rootspan.adapter import GroupedOptions, GroupedSettings
from rootspan.log import log
from rootspan.settings.keywords import Unpack
from rootspan_flask.command import rootspan_command
from rootspan_flask.following import current_request, following, last_followed, start

__all__ = ["Rootspan"]

_NAME: Final = "rootspan"  # in `app.extensions`
_TEARDOWN: Final = "rootspan.teardown"  # likewise, where teardown functions are looked after
_ARGUMENTS: Final = GroupedSettings("Rootspan(...)")  # under the same names; only read here


class Rootspan:
    """Records each request of a Flask app as one isolated root span, with what was tracked inside it below.

    Options come from `init_app`, else from here, else from `app.config["ROOTSPAN"]`. The app is not kept, and one
    extension serves any number of apps.

    Args:
        app: the application; without it, call `init_app` later.
        **options: the fields of `rootspan.adapter.RequestOptions`, whose hooks are given the `flask.Request`; others
            are those of `rootspan.configure`, which is called with them.

    Raises:
        ConfigurationError: an option is unknown or of the wrong type, or two of them contradict each other.

    Example:
        >>> from flask import Flask
        >>> app = Flask("shop")
        >>> extension = Rootspan(app, user_id=lambda request: request.headers.get("x-user"))
    """

    def __init__(self, app: Flask | None = None, **options: Unpack[GroupedOptions]) -> None:
        self._options = options
        _ARGUMENTS.read(options)  # a mistake shows here, not in a factory that runs later
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, **options: Unpack[GroupedOptions]) -> None:
        """Install it in an application; a second time, the later options hold.

        Args:
            app: the application.
            **options: as above; they win over those given to the extension.

        Raises:
            ConfigurationError: as above, also of `app.config["ROOTSPAN"]`.
        """
        _ARGUMENTS.read({**self._options, **options})
        given: Any = cast("dict[str, Any]", app.config).get("ROOTSPAN", {})
        if isinstance(given, Mapping):
            given = {**cast("dict[str, Any]", given), **self._options, **options}
        app.extensions[_NAME] = GroupedSettings('app.config["ROOTSPAN"]').apply(given)
        app.cli.add_command(rootspan_command)
        # Signals hold the app weakly, and what is connected twice is called once.
        flask.request_started.connect(_started, app)
        flask.request_finished.connect(_finished, app)
        flask.got_request_exception.connect(_failed, app)
        flask.request_tearing_down.connect(_torn_down, app)


def _receiver(function: Callable[..., None]) -> Callable[..., None]:
    """What a signal's receiver raises would reach the app: a request class of the host's own may do anything."""

    def receive(app: Flask, **details: Any) -> None:
        try:
            request = current_request()
        except RuntimeError:  # outside of any
            request = None
        try:
            function(app, request, **details)
        except Exception:
            log(logging.WARNING, "rootspan could not follow a request because of an error of its own", exc_info=True)

    return receive


@_receiver
def _started(app: Flask, request: Request | None, **_: Any) -> None:
    start(request, app.extensions[_NAME], app.teardown_request_funcs)
    if app.teardown_request_funcs and _TEARDOWN not in app.extensions:  # a signal more costs each request 2 µs
        app.extensions[_TEARDOWN] = flask.appcontext_tearing_down.connect(_context_torn_down, app)


@_receiver
def _failed(app: Flask, request: Request | None, exception: BaseException, **_: Any) -> None:
    # Before `request_started` where the session could not be opened.
    if (followed := following(request, app.extensions[_NAME])) is not None:
        followed.fail(exception)


@_receiver
def _finished(app: Flask, request: Request | None, response: Response, **_: Any) -> None:
    # Of `request_started`, another's receiver may have raised before ours was asked.
    if request is not None and (followed := following(request, app.extensions[_NAME])) is not None:
        followed.answer(request, response)


@_receiver
def _torn_down(app: Flask, request: Request | None, exc: BaseException | None = None, **_: Any) -> None:
    # Also where a copy of the context ends: in a thread, in the view, long after the request.
    if (followed := following(request)) is not None:
        followed.tear_down(exc)


@_receiver
def _context_torn_down(app: Flask, request: Request | None, **_: Any) -> None:
    # Where a teardown function of the app's raises, Flask does not tell that the request ends; its error is on the way.
    error = sys.exc_info()[1]
    if error is not None and request is None and (followed := last_followed()) is not None:
        followed.break_off(error)
