"""The contract of a web adapter, kept by the middleware around an ASGI app without a framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

pytest.importorskip("starlette", reason="the middleware's framework is not in this environment")

from rootspan import Tracker
from rootspan.testing import AsgiClient, Echo, WebContract
from rootspan_starlette import RootspanMiddleware

NO_ROUTES = "an app without a router has no templates"


class EchoApp:
    def __init__(self, echo: Echo) -> None:
        self.echo = echo

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        _, _, rest = scope["path"].partition("/")
        head, _, last = rest.rpartition("/")
        plain = {"raise": self.echo.fail, "tool": self.echo.tool, "turns": self.echo.turns, "thread": self.echo.thread,
                 "current": self.echo.current, "host": self.echo.host, "ignore": lambda: "ignored"}  # fmt: skip
        named = {"echo": self.echo.echo, "login": self.echo.login, "mounted/north/inner": str}
        if rest in plain:
            await answer(send, plain[rest]())
        elif head in named:
            await answer(send, named[head](last))
        elif head == "status":
            await answer(send, "", int(last))
        elif head == "stream":
            await streamed(send, self.echo.astream(int(last)), receive)
        elif rest == "stream-raise":
            await streamed(send, self.echo.astream_fail(), receive)
        elif rest == "stream-turn":
            await streamed(send, self.echo.astream_turn(), receive)
        elif rest in ("read", "chat", "chat-stream"):
            await self.with_body(rest, await body(receive), receive, send)
        else:
            await answer(send, "", 404)

    async def with_body(self, path: str, read: bytes, receive: Any, send: Any) -> None:
        if path == "read":
            await answer(send, self.echo.read(read))
        elif path == "chat":
            await answer(send, self.echo.chat(read).decode(), kind="application/json")
        else:
            await streamed(send, self.echo.achat_stream(read), receive, kind="text/event-stream")


async def body(receive: Any) -> bytes:
    parts = b""
    while True:
        message = await receive()
        parts += message.get("body", b"")
        if not message.get("more_body", False):
            return parts


async def answer(send: Any, text: str, status: int = 200, kind: str = "text/plain") -> None:
    headers = [(b"content-type", kind.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


async def streamed(send: Any, chunks: AsyncIterator[bytes], receive: Any, kind: str = "text/plain") -> None:
    async def disconnected() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    gone = asyncio.ensure_future(disconnected())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind.encode())]})
    try:
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if gone.done():
                return
        await send({"type": "http.response.body"})
    finally:
        gone.cancel()


class TestASGI(WebContract):
    not_applicable: ClassVar = {
        "test_a_request_is_one_isolated_root": NO_ROUTES,
        "test_a_nested_route_has_its_whole_template": NO_ROUTES,
        "test_a_view_that_raises_has_its_template": NO_ROUTES,
        "test_a_hook_never_reaches_the_app": NO_ROUTES,
    }

    @contextmanager
    def serve(self, tracker: Tracker, **options: Any) -> Iterator[AsgiClient]:
        with AsgiClient(RootspanMiddleware(EchoApp(Echo(tracker)), tracker=tracker, **options)) as client:
            yield client
