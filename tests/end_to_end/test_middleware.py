"""The Starlette middleware in real apps: what a request becomes, and that nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the middleware's framework is not in this environment")

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from rootspan import ConfigurationError, Tracker
from rootspan_starlette import RootspanMiddleware
from sinks import Sink, Span


def chat_app(tracker: Tracker, **options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(RootspanMiddleware, tracker=tracker, **options)
    router = APIRouter(prefix="/v1")

    @router.post("/chat/{convo_id}")
    async def chat(convo_id: str) -> dict[str, str]:
        tracker.update_current(convo_id=convo_id)
        with tracker.tool_span("search", input={"q": "x"}) as step:
            step.set_output("found")
        tracker.track_ai("answer", model="gpt-4o", provider="openai", input="Hi", output="Hello!", prompt_tokens=3)
        return {"reply": "Hello!"}

    @router.get("/sync/{n}")
    def sync(n: int, user: None = Depends(lambda: tracker.update_current(user_id="from-dependency"))) -> int:
        tracker.track_ai("in a thread", input="q")
        return n

    @router.get("/stream")
    async def stream() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            for n in range(3):
                tracker.track_decision(reasoning=str(n))
                yield b"x" * 10

        return StreamingResponse(chunks())

    @router.get("/sync-stream")
    def sync_stream() -> StreamingResponse:
        def chunks() -> Iterator[bytes]:
            tracker.track_decision(reasoning="in a generator")
            yield b"x"

        return StreamingResponse(chunks())

    @router.get("/background")
    async def background(tasks: BackgroundTasks) -> None:
        tasks.add_task(tracker.track_ai, "after the answer")

    @router.get("/boom")
    async def boom() -> None:
        raise LookupError("no such thing")

    @router.get("/teapot/{status}")
    async def teapot(status: int) -> None:
        raise HTTPException(status)

    app.include_router(router)
    return app


def arrived(tracker: Tracker, sink: Sink) -> list[Span]:
    assert tracker.flush(10)
    return list(sink.spans)


def get(app: Any, path: str, **kwargs: Any) -> Any:
    return TestClient(app, raise_server_exceptions=False).get(path, **kwargs)


def test_a_request_is_one_isolated_root_with_route_status_user_and_conversation(tracker: Tracker, sink: Sink) -> None:
    app = chat_app(tracker, user_id=lambda request: request.headers["x-user"])
    answer = TestClient(app).post("/v1/chat/c1", headers={"x-user": "u1"})
    assert answer.json() == {"reply": "Hello!"}
    spans = {span.name: span for span in arrived(tracker, sink)}
    root = spans["POST /v1/chat/{convo_id}"]
    assert root.parent_id is None
    assert root.kind == 2
    assert root.attributes["http.route"] == "/v1/chat/{convo_id}"
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["http.request.method"] == "POST"
    assert root.attributes["url.scheme"] == "http"
    assert (root.attributes["input.value"], root.attributes["output.value"]) == ("Hi", "Hello!")
    for span in spans.values():
        assert span.trace_id == root.trace_id
        assert span.attributes["user.id"] == "u1"
        assert span.attributes["session.id"] == "c1"
    assert {span.parent_id for span in spans.values() if span is not root} == {root.span_id}


def test_a_view_that_only_tracks_names_the_root(tracker: Tracker, sink: Sink) -> None:
    app = FastAPI()
    app.add_middleware(RootspanMiddleware, tracker=tracker)

    @app.get("/ask")
    def ask() -> None:
        tracker.track_ai("answer", user_id="u1", convo_id="c1", input="Q", output="A")

    get(app, "/ask")
    arrived(tracker, sink)
    root = sink.one("GET /ask")
    read = [root.attributes[key] for key in ("user.id", "session.id", "input.value", "output.value")]
    assert read == ["u1", "c1", "Q", "A"]


@pytest.mark.parametrize("path", ["/v1/sync/7", "/v1/stream", "/v1/sync-stream"])
def test_threads_and_streamed_bodies_belong_to_the_request(tracker: Tracker, sink: Sink, path: str) -> None:
    """web 11, 13"""
    assert get(chat_app(tracker), path).status_code == 200
    spans = arrived(tracker, sink)
    (root,) = [span for span in spans if span.parent_id is None]
    assert len(spans) > 1
    assert {span.parent_id for span in spans if span is not root} == {root.span_id}


def test_a_streamed_body_is_measured_to_its_end(tracker: Tracker, sink: Sink) -> None:
    """web 37"""
    get(chat_app(tracker), "/v1/stream")
    arrived(tracker, sink)
    root = sink.one("GET /v1/stream")
    assert root.attributes["rootspan.stream.chunks"] == 3
    assert root.attributes["rootspan.stream.bytes"] == 30
    assert root.attributes["rootspan.stream.time_to_first_byte"] > 0


def test_work_of_a_background_task_is_a_root_of_its_own_linked_to_the_request(tracker: Tracker, sink: Sink) -> None:
    """web 9, 10"""
    get(chat_app(tracker, user_id=lambda request: "u1"), "/v1/background")
    arrived(tracker, sink)
    root, task = sink.one("GET /v1/background"), sink.one("after the answer")
    assert task.parent_id is None
    assert task.trace_id != root.trace_id
    assert task.links == [(root.trace_id, root.span_id)]
    assert task.attributes["user.id"] == "u1"


def test_an_exception_is_recorded_once_and_passes_untouched(tracker: Tracker, sink: Sink) -> None:
    """web 19, 22"""
    with pytest.raises(LookupError, match="no such thing"):
        TestClient(chat_app(tracker)).get("/v1/boom")
    (root,) = arrived(tracker, sink)
    assert root.attributes["http.response.status_code"] == 500
    assert root.attributes["error.type"] == "LookupError"
    assert [event[0] for event in root.events] == ["exception"]


@pytest.mark.parametrize(("status", "failed"), [(404, False), (422, False), (503, True)])
def test_only_5xx_is_an_error(tracker: Tracker, sink: Sink, status: int, failed: bool) -> None:
    get(chat_app(tracker), f"/v1/teapot/{status}")
    (root,) = arrived(tracker, sink)
    assert root.attributes["http.response.status_code"] == status
    assert ("error.type" in root.attributes) is failed


def test_scanners_make_one_name(tracker: Tracker, sink: Sink) -> None:
    """web 28"""
    for path in ("/wp-admin", "/.env", "/x/y/z"):
        assert get(chat_app(tracker), path).status_code == 404
    assert {span.name for span in arrived(tracker, sink)} == {"GET"}


def test_nested_mounts_give_the_whole_template(tracker: Tracker, sink: Sink) -> None:
    """web 23"""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse

    inner = Starlette(routes=[Route("/b/{y}", lambda request: PlainTextResponse("ok"))])
    app = Starlette(routes=[Mount("/a/{x}", app=inner)])
    app.add_middleware(RootspanMiddleware, tracker=tracker)
    assert get(app, "/a/1/b/2").text == "ok"
    (root,) = arrived(tracker, sink)
    assert root.name == "GET /a/{x}/b/{y}"


def test_nothing_leaks_into_the_next_request(tracker: Tracker, sink: Sink) -> None:
    with TestClient(chat_app(tracker)) as client:
        client.post("/v1/chat/c1")
        client.get("/v1/sync/1")
        client.get("/v1/teapot/404")
    arrived(tracker, sink)
    last = sink.one("GET /v1/teapot/{status}")
    assert "session.id" not in last.attributes
    assert "user.id" not in last.attributes
    assert len({span.trace_id for span in sink.spans}) == 3


def test_base_http_middleware_around_and_inside(tracker: Tracker, sink: Sink) -> None:
    """web 12, 17"""
    app = FastAPI()

    async def passing(request: Request, call_next: Any) -> Any:
        tracker.track_decision(reasoning="in a middleware")
        return await call_next(request)

    app.add_middleware(BaseHTTPMiddleware, dispatch=passing)
    app.add_middleware(RootspanMiddleware, tracker=tracker)
    app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))

    @app.get("/x")
    def view() -> None:
        tracker.track_ai("answer")

    get(app, "/x")
    arrived(tracker, sink)
    root = sink.one("GET /x")
    assert {span.parent_id for span in sink.spans if span is not root} == {root.span_id}


def test_added_twice_it_records_once(tracker: Tracker, sink: Sink) -> None:
    """web 40"""
    app = chat_app(tracker)
    app.add_middleware(RootspanMiddleware, tracker=tracker)
    get(app, "/v1/teapot/404")
    assert len(arrived(tracker, sink)) == 1


@pytest.mark.parametrize("hook", [lambda request: 1 / 0, lambda request: asyncio.sleep(0)], ids=["raises", "is async"])
def test_a_hook_never_reaches_the_app(tracker: Tracker, sink: Sink, hook: Any) -> None:
    """web 45"""
    assert get(chat_app(tracker, user_id=hook, exclude=["/health"]), "/v1/sync/1").status_code == 200
    spans = arrived(tracker, sink)
    assert spans[-1].name == "GET /v1/sync/{n}"


def test_options_shape_the_root(tracker: Tracker, sink: Sink) -> None:
    app = chat_app(
        tracker,
        event=lambda request: "chat_request",
        convo_header="x-convo",
        properties=lambda request: {"plan": "pro"},
        capture_headers=["x-thing", "authorization"],
        response_header="x-trace",
        exclude=["/v1/stream"],
    )
    headers = {"x-convo": "c9", "x-thing": "a value", "authorization": "Bearer abcdef0123456789abcdef"}
    answer = get(app, "/v1/sync/1", headers=headers)
    get(app, "/v1/stream")
    arrived(tracker, sink)
    root = sink.one("chat_request")
    assert answer.headers["x-trace"] == root.trace_id
    assert root.attributes["session.id"] == "c9"
    assert root.attributes["plan"] == "pro"
    assert root.attributes["http.request.header.x-thing"] == ["a value"]
    assert "abcdef0123456789" not in repr(root)
    assert "GET /v1/stream" not in {span.name for span in sink.spans}


def test_tracked_leaves_out_what_tracked_nothing(tracker: Tracker, sink: Sink) -> None:
    app = chat_app(tracker, record="tracked")
    get(app, "/v1/teapot/404")
    get(app, "/v1/sync/1")
    assert {span.name for span in arrived(tracker, sink)} == {"GET /v1/sync/{n}", "in a thread"}


@pytest.mark.parametrize(
    "options",
    [
        {"record": "some"},
        {"trace_context": "join"},
        {"user_id": "u1"},
        {"tracker": "default"},
        {"event": 5},
        {"capture_headers": "x-a"},
        {"capture_headers": ["bad name"]},
        {"exclude": 5},
        {"response_header": "x-id", "record": "tracked"},
    ],
)
def test_a_wrong_option_is_one_clear_error(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"Fix: "):
        RootspanMiddleware(None, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("traceparent", "linked"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", 1),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", 1),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", 0),
        ("nonsense" * 2_000, 0),
        ("\xff\xfe", 0),
    ],
)
def test_the_callers_traceparent_is_only_a_link(tracker: Tracker, sink: Sink, traceparent: str, linked: int) -> None:
    """web 3, 86"""
    get(chat_app(tracker), "/v1/teapot/404", headers={"traceparent": traceparent.encode("latin-1")})
    (root,) = arrived(tracker, sink)
    assert root.parent_id is None
    assert root.trace_id != "0af7651916cd43dd8448eb211c80319c"
    assert len(root.links) == linked


def test_a_web_socket_is_one_span(tracker: Tracker, sink: Sink) -> None:
    """web 33, 34"""
    app = FastAPI()
    app.add_middleware(RootspanMiddleware, tracker=tracker)

    @app.websocket("/ws/{room}")
    async def talk(socket: WebSocket, room: str) -> None:
        if room == "closed":
            await socket.close(4000)
            return
        await socket.accept()
        tracker.track_ai("message", input=await socket.receive_text())
        await socket.send_text("bye")
        await socket.close()

    client = TestClient(app)
    with client.websocket_connect("/ws/1") as session:
        session.send_text("hi")
        assert session.receive_text() == "bye"
    with contextlib.suppress(Exception), client.websocket_connect("/ws/closed"):
        pass
    arrived(tracker, sink)
    spans = [span for span in sink.spans if span.parent_id is None]
    assert [span.name for span in spans] == ["WEBSOCKET /ws/{room}"] * 2
    assert [span.attributes["http.response.status_code"] for span in spans] == [101, 403]
    assert all("error.type" not in span.attributes for span in spans)


def run_raw(app: Any, scope: dict[str, Any], messages: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    waiting = list(messages or [])

    async def receive() -> dict[str, Any]:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


def test_raw_scopes_and_messages_pass_unchanged(tracker: Tracker, sink: Sink) -> None:
    """web 1, 2, 4, 5, 30"""
    early = {"type": "http.response.early_hint", "links": []}
    script = [early, {"type": "http.response.start", "status": 204}, {"type": "http.response.body"}]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in script:
            await send(message)

    scope = {"type": "http", "method": "GET", "path": "/", "client": None, "server": ["unix", None]}
    sent = run_raw(RootspanMiddleware(app, tracker=tracker), scope)
    assert all(one is other for one, other in zip(sent, script, strict=True))
    (root,) = arrived(tracker, sink)
    assert root.attributes["http.response.status_code"] == 204


@pytest.mark.parametrize(
    "script",
    [
        [{"type": "http.response.start", "status": 200}, {"type": "http.response.pathsend", "path": "/x"}],
        [
            {"type": "http.response.start", "status": 200, "trailers": True},
            {"type": "http.response.body", "body": b"x"},
            {"type": "http.response.trailers", "headers": [], "more_trailers": True},
            {"type": "http.response.trailers", "headers": []},
        ],
    ],
    ids=["pathsend", "trailers"],
)
def test_the_answer_ends_with_its_last_message(tracker: Tracker, sink: Sink, script: list[dict[str, Any]]) -> None:
    """web 31"""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in script:
            assert not sink.spans
            await send(message)
        assert tracker.flush(10)
        assert len(sink.spans) == 1  # recorded before the application returned

    run_raw(RootspanMiddleware(app, tracker=tracker), {"type": "http", "method": "BREW", "path": "/"})
    (root,) = sink.spans
    assert root.name == "HTTP"
    assert root.attributes["http.request.method"] == "_OTHER"
    assert "rootspan.outcome" not in root.attributes


def test_a_client_that_goes_away_is_cancelled_and_no_error(tracker: Tracker, sink: Sink) -> None:
    """web 16"""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"

    run_raw(RootspanMiddleware(app, tracker=tracker), {"type": "http", "method": "GET", "path": "/"})
    (root,) = arrived(tracker, sink)
    assert root.attributes["rootspan.outcome"] == "cancelled"
    assert "error.type" not in root.attributes
    assert root.attributes["rootspan.stream.bytes"] == 4


@pytest.mark.parametrize("kind", ["lifespan", "other"])
def test_other_scopes_pass(tracker: Tracker, kind: str) -> None:
    """web 39"""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send({"type": f"{kind}.shutdown.complete"})

    scope = {"type": kind}
    assert run_raw(RootspanMiddleware(app, tracker=tracker), scope) == [{"type": f"{kind}.shutdown.complete"}]
    assert seen[0] is scope


class TestNextToOpenTelemetry:
    """A host that traces itself: two disjoint traces, linked one way; the host's is the same with and without us."""

    @staticmethod
    def host_spans(tracker: Tracker | None, ours_outside: bool) -> list[Any]:
        exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        app = FastAPI()
        host = provider.get_tracer("host")

        @app.get("/chat/{n}")
        async def chat(n: int) -> int:
            with host.start_as_current_span("work"):
                if tracker is not None:
                    tracker.track_ai("answer", input="Q", output="A")
            return n

        if tracker is not None and not ours_outside:
            app.add_middleware(RootspanMiddleware, tracker=tracker)
        FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
        served = RootspanMiddleware(app, tracker=tracker) if tracker is not None and ours_outside else app
        try:
            assert get(served, "/chat/1").json() == 1
        finally:
            FastAPIInstrumentor.uninstrument_app(app)
        return list(exporter.get_finished_spans())

    @staticmethod
    def shape(spans: list[Any]) -> list[Any]:
        names = {span.context.span_id: span.name for span in spans}
        varying = {"net.peer.port", "client.port", "http.server_name"}
        return [
            (
                span.name,
                span.kind,
                names.get(span.parent.span_id) if span.parent else None,
                {key: value for key, value in span.attributes.items() if key not in varying},
                len(span.links),
                len(span.events),
                span.status.status_code,
            )
            for span in spans
        ]

    @pytest.mark.parametrize("ours_outside", [False, True])
    def test_two_disjoint_traces_and_an_unchanged_host(self, tracker: Tracker, sink: Sink, ours_outside: bool) -> None:
        """web 46"""
        bare = self.host_spans(None, ours_outside)
        beside = self.host_spans(tracker, ours_outside)
        assert self.shape(beside) == self.shape(bare)
        ours = arrived(tracker, sink)
        host_traces = {f"{span.context.trace_id:032x}" for span in beside}
        assert {span.name for span in ours} == {"GET /chat/{n}", "answer"}
        assert not host_traces & {span.trace_id for span in ours}
        assert not any(span.links for span in beside)
        linked = {trace_id for span in ours for trace_id, _ in span.links}
        assert linked == (set() if ours_outside else host_traces)


SERVED = """
    import rootspan
    from fastapi import FastAPI
    from rootspan_starlette import RootspanMiddleware

    app = FastAPI()
    app.add_middleware(RootspanMiddleware)

    @app.get("/n/{n}")
    def one(n: int) -> int:
        rootspan.track_ai("answer", input="Q", output="A", convo_id=n)
        return n
"""


def test_uvicorn_stopped_right_after_the_last_request_loses_nothing(sink: Sink, tmp_path: Path) -> None:
    """delivery 2"""
    (tmp_path / "served.py").write_text(textwrap.dedent(SERVED))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "served:app", "--port", str(port), "--log-level", "warning"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
            "ROOTSPAN_ENDPOINT": sink.url,
        },
    )
    try:
        deadline = time.monotonic() + 30
        count = 0
        while count < 50:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/n/{count}", timeout=10) as answer:
                    assert answer.read() == str(count).encode()
                    count += 1
            except urllib.error.URLError:
                assert time.monotonic() < deadline, "uvicorn did not start"
                time.sleep(0.1)
        server.terminate()
        server.wait(20)
    finally:
        server.kill()
        server.wait()
    spans = {span.span_id for span in sink.spans}
    assert len(spans) == 100
    assert len({span.trace_id for span in sink.spans}) == 50
