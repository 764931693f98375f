"""The same small app in each framework, bare and with our adapter: one route with a parameter, one line of text."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from rootspan import Tracker

__all__ = ["APPS", "PATH", "application"]

PATH: Final = "/hello/ada"
App = Callable[..., Any]


def starlette(tracker: Tracker | None) -> App:
    """A Starlette app, with the middleware around it where there is a tracker."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def hello(request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello " + request.path_params["name"])

    return _in_asgi(Starlette(routes=[Route("/hello/{name}", hello)]), tracker)


def fastapi(tracker: Tracker | None) -> App:
    """A FastAPI app, likewise."""
    from fastapi import FastAPI

    app = FastAPI()

    @app.get("/hello/{name}")
    async def hello(name: str) -> dict[str, str]:
        return {"hello": name}

    return _in_asgi(app, tracker)


def _in_asgi(app: App, tracker: Tracker | None) -> App:
    from rootspan_starlette import RootspanMiddleware

    return app if tracker is None else RootspanMiddleware(app, tracker=tracker)


def flask(tracker: Tracker | None) -> App:
    """A Flask app, with the extension where there is a tracker."""
    from flask import Flask

    from rootspan_flask import Rootspan

    app = Flask("benchmark")

    @app.get("/hello/<name>")
    def hello(name: str) -> str:
        return "hello " + name

    if tracker is not None:
        Rootspan(app, tracker=tracker)
    return app


def django(tracker: Tracker | None) -> App:
    """A Django app; its settings are the process's, and the middleware is in the handler that was made with it."""
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse
    from django.urls import path

    class Routes:
        urlpatterns = (path("hello/<name>", lambda request, name: HttpResponse("hello " + name)),)

    if not settings.configured:
        settings.configure(ROOT_URLCONF=Routes, ALLOWED_HOSTS=["*"], LOGGING_CONFIG=None)
    settings.MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]  # which tells the length of the body
    if tracker is not None:
        settings.ROOTSPAN = {"tracker": tracker}
        settings.MIDDLEWARE.insert(0, "rootspan_django.middleware.RootspanMiddleware")
    return WSGIHandler()


APPS: Final[dict[str, tuple[str, Callable[[Tracker | None], App]]]] = {
    "Starlette": ("Starlette with the middleware", starlette),
    "FastAPI": ("FastAPI with the middleware", fastapi),
    "Flask": ("Flask with the extension", flask),
    "Django": ("Django with the middleware", django),
}
"""The frameworks: what each is called with our adapter, and what makes its app."""


def application() -> App:
    """Return the app that the environment names, for a server; with `ROOTSPAN_ENDPOINT` it is tracked."""
    _, make = APPS[os.environ["BENCHMARK_APP"]]
    return make(Tracker() if "ROOTSPAN_ENDPOINT" in os.environ else None)
