"""The contract of a web adapter, kept by the middleware in a Starlette app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the middleware's framework is not in this environment")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from rootspan import Tracker
from rootspan.testing import AsgiClient, Echo, WebContract
from rootspan_starlette import RootspanMiddleware


def echo_app(echo: Echo) -> Starlette:
    async def read(request: Request) -> Response:
        return PlainTextResponse(echo.read(await request.body()))

    async def chat(request: Request) -> Response:
        return Response(echo.chat(await request.body()), media_type="application/json")

    async def chat_stream(request: Request) -> Response:
        return StreamingResponse(echo.achat_stream(await request.body()), media_type="text/event-stream")

    async def ignore(request: Request) -> Response:
        return PlainTextResponse("ignored")

    async def inner(request: Request) -> Response:
        return PlainTextResponse(request.path_params["name"])

    async def stream(request: Request) -> Response:
        return StreamingResponse(echo.astream(request.path_params["count"]))

    async def stream_raise(request: Request) -> Response:
        return StreamingResponse(echo.astream_fail())

    async def stream_turn(request: Request) -> Response:
        return StreamingResponse(echo.astream_turn())

    async def status(request: Request) -> Response:
        return Response(status_code=request.path_params["code"], media_type="text/plain")

    # Views that are plain functions run in a thread.
    def named(request: Request) -> Response:
        return PlainTextResponse(echo.echo(request.path_params["name"]))

    def login(request: Request) -> Response:
        return PlainTextResponse(echo.login(request.path_params["name"]))

    return Starlette(
        routes=[
            Route("/echo/{name}", named),
            Route("/read", read, methods=["POST"]),
            Route("/ignore", ignore, methods=["POST"]),
            Route("/raise", lambda request: PlainTextResponse(echo.fail())),
            Route("/status/{code:int}", status),
            Route("/stream/{count:int}", stream),
            Route("/stream-raise", stream_raise),
            Route("/stream-turn", stream_turn),
            Route("/login/{name}", login),
            Route("/tool", lambda request: PlainTextResponse(echo.tool())),
            Route("/turns", lambda request: PlainTextResponse(echo.turns())),
            Route("/thread", lambda request: PlainTextResponse(echo.thread())),
            Route("/current", lambda request: PlainTextResponse(echo.current())),
            Route("/host", lambda request: PlainTextResponse(echo.host())),
            Mount("/mounted/{area}", routes=[Route("/inner/{name}", inner)]),
            Route("/chat", chat, methods=["POST"]),
            Route("/chat-stream", chat_stream, methods=["POST"]),
        ]
    )


class TestStarlette(WebContract):
    @contextmanager
    def serve(self, tracker: Tracker, **options: Any) -> Iterator[AsgiClient]:
        app = echo_app(Echo(tracker))
        app.add_middleware(RootspanMiddleware, tracker=tracker, **options)
        with AsgiClient(app) as client:
            yield client

    def template(self, path: str) -> str:
        return path.replace("{code}", "{code:int}").replace("{count}", "{count:int}")


class TestWrappedByHand(TestStarlette):
    """`RootspanMiddleware(app)` instead of `add_middleware`: outside of the framework's own error handling."""

    @contextmanager
    def serve(self, tracker: Tracker, **options: Any) -> Iterator[AsgiClient]:
        with AsgiClient(RootspanMiddleware(echo_app(Echo(tracker)), tracker=tracker, **options)) as client:
            yield client
