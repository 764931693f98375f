"""What the middleware adds to a request, in process and with the framework around it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from collector import Collector
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from timing import Spread

from rootspan import Tracker
from rootspan_starlette import RootspanMiddleware

__all__ = ["measure"]

Application = Callable[[Any, Any, Any], Awaitable[None]]


def measure(quick: bool) -> dict[str, Spread]:
    """Return the CPU time of the thread that serves one request, in microseconds."""
    with Collector() as collector:
        tracker = Tracker(endpoint=collector.url)
        apps: dict[str, Application] = {
            "Starlette": _starlette(),
            "Starlette with the middleware": RootspanMiddleware(_starlette(), tracker=tracker),
            "FastAPI": _fastapi(),
            "FastAPI with the middleware": RootspanMiddleware(_fastapi(), tracker=tracker),
        }
        taken: dict[str, list[float]] = {name: [] for name in apps}
        for turn in range((8 if quick else 40) + 1):
            for name, app in apps.items():
                spent = asyncio.run(_served(app, 300))
                if turn:
                    taken[name].append(spent)
                tracker.flush(30)
        tracker.shutdown()
    return {name: Spread(tuple(values)) for name, values in taken.items()}


def _starlette() -> Starlette:
    async def hello(request: Any) -> PlainTextResponse:
        return PlainTextResponse("hello")

    return Starlette(routes=[Route("/hello/{name}", hello)])


def _fastapi() -> FastAPI:
    app = FastAPI()

    @app.get("/hello/{name}")
    async def hello(name: str) -> dict[str, str]:
        return {"hello": name}

    return app


async def _served(app: Application, number: int) -> float:
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/hello/ada",
        "raw_path": b"/hello/ada", "query_string": b"", "root_path": "", "scheme": "http",
        "headers": [(b"host", b"localhost"), (b"user-agent", b"benchmark"), (b"accept", b"*/*")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    began = time.thread_time()
    for _ in range(number):
        await app(dict(scope), receive, send)
    return (time.thread_time() - began) / number * 1e6
