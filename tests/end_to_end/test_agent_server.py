"""A streaming chain behind a real server: whole answers, and readers who leave in the middle."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the chain runs inside a FastAPI app")
pytest.importorskip("uvicorn", reason="the app is really served")
pytest.importorskip("langchain_core", reason="what is streamed is a chain")

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langchain_core.runnables import RunnableLambda

from programs import until
from rootspan import Tracker
from rootspan_langchain import RootspanCallbackHandler
from rootspan_starlette import RootspanMiddleware
from scripted import ChatScripted, ChatStreaming, Trees
from sinks import Sink

WORDS = " ".join(["word"] * 2_000)


def served_app(tracker: Tracker, handler: RootspanCallbackHandler) -> FastAPI:
    app = FastAPI()
    app.add_middleware(
        RootspanMiddleware, tracker=tracker, convo_id=lambda request: request.headers.get("x-conversation-id")
    )

    @app.get("/stream")
    async def stream(words: int = 2_000) -> StreamingResponse:
        chain = RunnableLambda(str, name="ask") | ChatStreaming(script=[" ".join(["word"] * words)], delay=0.005)

        async def text() -> AsyncIterator[str]:
            async for chunk in chain.astream("hi", config={"callbacks": [handler], "run_name": "chain"}):
                yield str(chunk.content)

        return StreamingResponse(text())

    @app.get("/whole")
    def whole() -> str:
        model = ChatScripted(script=["hello"])
        return str(model.invoke("hi", config={"callbacks": [handler]}).content)

    return app


@contextmanager
def running(app: Any) -> Iterator[int]:
    """Serve an app from a thread of its own; yields the port."""
    door = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    thread.start()
    until(lambda: server.started)
    try:
        yield int(door.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
        door.close()
    assert not thread.is_alive()


def test_a_chain_in_a_request_is_its_child_and_shares_its_conversation(tracker: Tracker, sink: Sink) -> None:
    handler = RootspanCallbackHandler(tracker=tracker)
    with running(served_app(tracker, handler)) as port:
        for path in ("/whole", "/stream?words=5"):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", path, headers={"x-conversation-id": "c1"})
            assert connection.getresponse().read() in (b'"hello"', b"word word word word word")
            connection.close()
    found = Trees(tracker, sink)
    assert [root.name for root in found.roots] == ["GET /whole", "GET /stream"]
    assert [found.path(model) for model in found.models()] == [
        ["GET /whole", "ChatScripted"],
        ["GET /stream", "chain", "ChatStreaming"],
    ]
    assert {span.attributes["session.id"] for span in found.spans} == {"c1"}
    assert found.roots[0].attributes["output.value"] == "hello"
    assert found.roots[1].attributes["output.value"].count("word") >= 5


def test_lc_05_a_reader_who_leaves_ends_every_span_and_loses_nothing_said(tracker: Tracker, sink: Sink) -> None:
    handler = RootspanCallbackHandler(tracker=tracker)
    with running(served_app(tracker, handler)) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/stream")
        assert connection.getresponse().read(20)
        assert handler.stats()["open"] > 0
        connection.close()
        until(lambda: handler.stats()["open"] == 0)
    found = Trees(tracker, sink)
    model = found.models()[0]
    assert found.path(model) == ["GET /stream", "chain", "ChatStreaming"]
    for span in (model, found.one("chain")):
        assert span.attributes["rootspan.outcome"] in ("cancelled", "abandoned")
        assert span.status_code == 0
    assert "word word" in model.attributes["gen_ai.output.messages"]
    assert handler.stats()["kept"] == 0
