"""The contract of a web adapter, kept by Django under WSGI and under ASGI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

pytest.importorskip("django_site", reason="the adapter's framework is not in this environment")

import django
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import include, path

import django_site  # noqa: F401  # configures Django
from rootspan import Tracker
from rootspan.testing import AsgiClient, Echo, WebContract, WsgiClient


def csrf_exempt(view: Any) -> Any:
    """The decorator of Django 4.2 makes every view a sync one."""
    view.csrf_exempt = True
    return view


def urls(echo: Echo, is_async: bool) -> type:
    def plain(function: Any) -> Any:
        def view(request: HttpRequest, **arguments: Any) -> HttpResponse:
            return HttpResponse(function(**arguments), content_type="text/plain")

        async def aview(request: HttpRequest, **arguments: Any) -> HttpResponse:
            return view(request, **arguments)

        return aview if is_async else view

    def streamed(sync: Any, asynchronous: Any, kind: str = "text/plain") -> Any:
        def view(request: HttpRequest, **arguments: Any) -> StreamingHttpResponse:
            given = (request.body,) if request.method == "POST" else ()
            return StreamingHttpResponse((asynchronous if is_async else sync)(*given, **arguments), content_type=kind)

        return csrf_exempt(view)

    @csrf_exempt
    def read(request: HttpRequest) -> HttpResponse:
        return HttpResponse(echo.read(request.body), content_type="text/plain")

    @csrf_exempt
    def chat(request: HttpRequest) -> HttpResponse:
        return HttpResponse(echo.chat(request.body), content_type="application/json")

    class Urls:
        urlpatterns = (
            path("echo/<name>", plain(echo.echo)),
            path("read", read),
            path("ignore", csrf_exempt(plain(lambda: "ignored"))),
            path("raise", plain(echo.fail)),
            path("status/<int:code>", lambda request, code: HttpResponse(status=code, content_type="text/plain")),
            path("stream/<int:count>", streamed(echo.stream, echo.astream)),
            path("stream-turn", streamed(echo.stream_turn, echo.astream_turn)),
            path("stream-raise", streamed(echo.stream_fail, echo.astream_fail)),
            path("login/<name>", plain(echo.login)),
            path("tool", plain(echo.tool)),
            path("turns", plain(echo.turns)),
            path("thread", plain(echo.thread)),
            path("current", plain(echo.current)),
            path("host", plain(echo.host)),
            path("mounted/<area>/", include([path("inner/<name>", plain(lambda area, name: name))])),
            path("chat", chat),
            path("chat-stream", streamed(echo.chat_stream, echo.achat_stream, "text/event-stream")),
        )

    return Urls


class DjangoContract(WebContract):
    is_async = False

    @contextmanager
    def serve(self, tracker: Tracker, **options: Any) -> Iterator[Any]:
        with override_settings(
            ROOT_URLCONF=urls(Echo(tracker), self.is_async), ROOTSPAN={"tracker": tracker, **options}
        ):
            if self.is_async:
                with AsgiClient(ASGIHandler()) as client:
                    yield client
            else:
                yield WsgiClient(WSGIHandler())

    def template(self, path: str) -> str:
        return re.sub(r"\{(code|count)}", r"<int:\1>", path).replace("{", "<").replace("}", ">")


class TestDjangoWSGI(DjangoContract):
    """Sync views and sync streams, as under gunicorn."""


class TestDjangoASGI(DjangoContract):
    """Async views and async streams, as under uvicorn."""

    is_async = True
    not_applicable: ClassVar = (
        {"test_a_client_that_goes_away_is_cancelled_and_no_error": "Django 4.2 streams on when its client has gone"}
        if django.VERSION < (5, 0)
        else {}
    )


del DjangoContract, WebContract
