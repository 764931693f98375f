"""The contract of a web adapter, kept by the middleware in a FastAPI app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the middleware's framework is not in this environment")

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from rootspan import Tracker
from rootspan.testing import AsgiClient, Echo, WebContract
from rootspan_starlette import RootspanMiddleware


def echo_app(echo: Echo) -> FastAPI:
    app = FastAPI(default_response_class=PlainTextResponse)
    area = APIRouter(prefix="/mounted/{area}")
    for path, view in (
        ("/raise", echo.fail), ("/tool", echo.tool), ("/turns", echo.turns), ("/thread", echo.thread),
        ("/current", echo.current), ("/host", echo.host), ("/echo/{name}", echo.echo), ("/login/{name}", echo.login),
    ):  # fmt: skip
        app.get(path)(view)

    @app.post("/read")
    async def read(request: Request) -> str:
        return echo.read(await request.body())

    @app.post("/ignore")
    async def ignore() -> str:
        return "ignored"

    @app.get("/status/{code}")
    async def status(code: int) -> Response:
        return Response(status_code=code, media_type="text/plain")

    @app.get("/stream/{count}")
    async def stream(count: int) -> StreamingResponse:
        return StreamingResponse(echo.stream(count))  # a plain generator, stepped in threads

    @app.get("/stream-turn")
    async def stream_turn() -> StreamingResponse:
        return StreamingResponse(echo.stream_turn())

    @app.get("/stream-raise")
    async def stream_raise() -> StreamingResponse:
        return StreamingResponse(echo.stream_fail())

    @area.get("/inner/{name}")
    async def inner(name: str) -> str:
        return name

    @app.post("/chat")
    async def chat(request: Request) -> Response:
        return Response(echo.chat(await request.body()), media_type="application/json")

    @app.post("/chat-stream")
    async def chat_stream(request: Request) -> StreamingResponse:
        return StreamingResponse(echo.chat_stream(await request.body()), media_type="text/event-stream")

    app.include_router(area)
    return app


class TestFastAPI(WebContract):
    @contextmanager
    def serve(self, tracker: Tracker, **options: Any) -> Iterator[AsgiClient]:
        app = echo_app(Echo(tracker))
        app.add_middleware(RootspanMiddleware, tracker=tracker, **options)
        with AsgiClient(app) as client:
            yield client
