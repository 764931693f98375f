"""What an adapter adds to a request, in process and with the framework around it."""

from __future__ import annotations

import asyncio
import io
import sys
import time
from typing import Any, Final

from apps import APPS, PATH, App
from collector import Collector
from timing import Spread

from rootspan import Tracker

__all__ = ["measure"]

_REQUESTS: Final = 300  # between two looks at the clock


def measure(quick: bool) -> dict[str, Spread]:
    """Return the CPU time of the thread that serves one request, in microseconds."""
    with Collector() as collector:
        tracker = Tracker(endpoint=collector.url)
        apps: dict[str, App] = {}
        for name, (with_adapter, make) in APPS.items():
            apps[name], apps[with_adapter] = make(None), make(tracker)
        taken: dict[str, list[float]] = {name: [] for name in apps}
        for turn in range((8 if quick else 40) + 1):
            for name, app in apps.items():
                spent = asyncio.run(_asgi(app)) if name.startswith(("Starlette", "FastAPI")) else _wsgi(app)
                if turn:
                    taken[name].append(spent / _REQUESTS * 1e6)
                tracker.flush(30)
        tracker.shutdown()
    return {name: Spread(tuple(values)) for name, values in taken.items()}


async def _asgi(app: App) -> float:
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": PATH,
        "raw_path": PATH.encode(), "query_string": b"", "root_path": "", "scheme": "http",
        "headers": [(b"host", b"localhost"), (b"user-agent", b"benchmark"), (b"accept", b"*/*")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    began = time.thread_time()
    for _ in range(_REQUESTS):
        await app(dict(scope), receive, send)
    return time.thread_time() - began


def _wsgi(app: App) -> float:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": PATH, "QUERY_STRING": "", "SERVER_NAME": "localhost",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost",
        "HTTP_USER_AGENT": "benchmark", "HTTP_ACCEPT": "*/*", "wsgi.version": (1, 0), "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr, "wsgi.multithread": True, "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }  # fmt: skip

    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
        pass

    began = time.thread_time()
    for _ in range(_REQUESTS):
        body = app(dict(environ), start_response)
        for _ in body:
            pass
        body.close()
    return time.thread_time() - began
