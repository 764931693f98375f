"""The numbered edge cases of ASGI, Starlette and FastAPI that are more than the contract asks of every adapter."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import importlib
import json
import logging
import sys
import threading
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the middleware's framework is not in this environment")

import anyio
import anyio.lowlevel
import trio
from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Host, Match, Mount, Route, Router, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from rootspan import MissingExtraError, Tracker
from rootspan.testing import AsgiClient, Captured, captured_spans
from rootspan_starlette import RootspanMiddleware, with_lifespan

HTTP: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": []}
START: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": []}
END: dict[str, Any] = {"type": "http.response.body", "body": b"ok"}


async def ok(scope: Any, receive: Any, send: Any) -> None:
    await send(dict(START))
    await send(dict(END))


def scripted(*messages: dict[str, Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


async def nothing_to_receive() -> Any:
    raise AssertionError("receive was called although the app did not")


def run(app: Any, scope: Any = HTTP, received: list[Any] | None = None, start: Any = asyncio.run) -> list[Any]:
    """Run one connection of an app; return what it sent."""
    sent: list[Any] = []
    waiting = list(received or [])

    async def receive() -> Any:
        return waiting.pop(0) if waiting else await nothing_to_receive()

    async def send(message: Any) -> None:
        sent.append(message)

    async def main() -> None:
        await app(dict(scope), receive, send)

    start(main) if start is trio.run else start(main())
    return sent


def fetch(app: Any, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, str]:
    with AsgiClient(app) as client:
        answer = client.request(method, path, headers)
        return answer.status, answer.text


def wrapped(captured: Captured, app: Any, **options: Any) -> RootspanMiddleware:
    return RootspanMiddleware(app, tracker=captured.tracker, **options)


# Scopes and messages


@pytest.mark.parametrize(
    "extra",
    [
        {"client": None, "server": None},
        {"client": ["127.0.0.1", 5], "server": ["127.0.0.1", 80]},
        {"client": ("/run/app.sock", None), "server": ("/run/app.sock", None)},
        {"headers": None},
        {"headers": ((b"\xff\xfe", b"\x80\x81"), (b"traceparent", b"\xff"))},
        {"headers": iter([(b"a", b"b")])},
        {"path": "/ü\udcff"},
        {"scheme": "https"},
    ],
)
def test_web_01_03_04_odd_scopes_pass_and_are_recorded(captured: Captured, extra: dict[str, Any]) -> None:
    scope = {"type": "http", "method": "GET", "path": "/"} | extra  # without `headers` unless given
    options: dict[str, Any] = {"capture_headers": ["a"], "trusted_proxies": [], "capture_body": True}
    assert [m["type"] for m in run(wrapped(captured, ok, **options), scope)] == [START["type"], END["type"]]
    assert captured.one().attributes["url.scheme"] == extra.get("scheme", "http")


def test_web_02_30_messages_pass_in_order_as_the_same_objects(captured: Captured) -> None:
    script = [
        {"type": "http.response.early_hint", "links": [b"</x>; rel=preload"]},
        {"type": "http.response.debug", "info": {}},
        {"type": "http.response.push", "path": "/x", "headers": []},
        {"type": "http.response.start", "status": 204},  # without `headers`
        {"type": "something.new"},
        {"type": "http.response.body"},
    ]
    sent = run(wrapped(captured, scripted(*script), capture_body=True))
    assert all(one is other for one, other in zip(sent, script, strict=True))
    assert captured.one().attributes["http.response.status_code"] == 204


def test_web_02_a_response_header_is_added_where_there_were_none(captured: Captured) -> None:
    app = scripted({"type": "http.response.start", "status": 200}, END)
    start = run(wrapped(captured, app, response_header="X-Trace"))[0]
    assert start["headers"] == [(b"x-trace", captured.one().trace_id.encode())]


def test_a_response_header_of_the_app_stays_among_headers_that_can_be_read_only_once(captured: Captured) -> None:
    app = scripted({**START, "headers": iter([(b"a", b"b"), (b"x-trace", b"mine")])}, END)
    start = run(wrapped(captured, app, response_header="x-trace"))[0]
    assert start["headers"] == [(b"a", b"b"), (b"x-trace", b"mine")]


def test_web_02_headers_that_can_be_read_only_once_reach_the_server(captured: Captured) -> None:
    app = scripted({**START, "headers": iter([(b"a", b"b")])}, END)
    assert list(run(wrapped(captured, app, capture_body=True))[0]["headers"]) == [(b"a", b"b")]


def test_headers_that_can_be_read_only_once_say_what_the_body_is(captured: Captured) -> None:
    app = scripted({**START, "headers": iter([(b"content-type", b"text/plain")])}, {**END, "body": b"Paris."})
    assert [*run(wrapped(captured, app, capture_body=True))[0]["headers"]] == [(b"content-type", b"text/plain")]
    assert captured.one().attributes["output.value"] == "Paris."


def test_web_05_87_receive_is_called_by_the_app_alone(captured: Captured) -> None:
    run(wrapped(captured, ok, capture_body=True))  # `run` fails when anybody receives
    assert captured.one().attributes["http.response.status_code"] == 200


def test_web_06_18_receive_waits_for_the_disconnect_as_without_us(captured: Captured) -> None:
    seen: list[Any] = []

    async def view(request: Request) -> Response:
        assert await request.body() == b"body"
        seen.append(await request.is_disconnected())
        with anyio.move_on_after(0.05):
            seen.append(await request.receive())
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", view, methods=["POST"])])
    for served in (app, wrapped(captured, app, capture_body=True)):
        with AsgiClient(served) as client:
            assert client.request("POST", "/", body=b"body").text == "ok"
    assert seen == [False, False]


def test_web_07_an_upload_stays_a_stream_and_costs_its_limit(captured: Captured) -> None:
    chunk = b"x" * 1_000_000
    passed = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal passed
        while (message := await receive()).get("more_body"):
            passed += len(message["body"])
        await ok(scope, receive, send)

    messages = [{"type": "http.request", "body": chunk, "more_body": True}] * 1_000
    scope = {**HTTP, "method": "POST", "headers": [(b"content-type", b"text/plain")]}
    served = wrapped(captured, app, capture_body=10_000)
    tracemalloc.start()
    try:
        run(served, scope, [*messages, {"type": "http.request"}])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert passed == 10**9
    assert peak < 1_000_000
    assert captured.one().attributes["input.value"].endswith("…[cut: 1000000000 bytes went by]")


class Untouchable(bytes):
    def __buffer__(self, flags: int) -> memoryview:
        raise AssertionError("the body was looked at")

    def __getitem__(self, key: Any) -> Any:
        raise AssertionError("the body was looked at")

    def decode(self, *args: Any) -> str:
        raise AssertionError("the body was looked at")


def test_web_08_a_body_is_not_looked_at_unless_asked_for(captured: Captured) -> None:
    body = Untouchable(b"secret")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] is body
        await send(dict(START))
        await send({"type": "http.response.body", "body": body})

    run(wrapped(captured, app), HTTP, [{"type": "http.request", "body": body}])
    assert "input.value" not in captured.one().attributes


def test_web_09_10_a_background_task_adds_nothing_to_the_request(captured: Captured) -> None:
    seen: list[int] = []

    async def later() -> None:
        assert captured.tracker.flush(30)
        seen.append(len(captured.roots))  # the request is recorded already
        await asyncio.sleep(0.2)
        with captured.tracker.tool_span("after the answer"):
            captured.tracker.track_ai("below it")
        captured.tracker.begin("and then").finish()

    async def view(request: Request) -> Response:
        return PlainTextResponse("ok", background=BackgroundTask(later))

    app = wrapped(captured, Starlette(routes=[Route("/", view)]), user_id=lambda request: "u1")
    assert fetch(app) == (200, "ok")
    request, task = captured.one("GET /"), captured.one("after the answer")
    assert seen == [1]
    assert request.end <= task.start
    assert (request.end - request.start) / 1e9 < (task.end - request.start) / 1e9 - 0.15
    assert task.parent_id is None
    assert captured.one("below it").parent_id == task.span_id
    for span in (task, captured.one("and then")):
        assert (span.attributes["user.id"], span.links) == ("u1", [(request.trace_id, request.span_id)])


def test_web_20_a_middleware_that_tells_of_an_exception_leaves_it_to_the_request(captured: Captured) -> None:
    async def fails(request: Request) -> Response:
        raise ValueError("x")

    inner = Starlette(routes=[Route("/", fails)])  # which answers 500 before it lets the exception pass

    async def tells(scope: Any, receive: Any, send: Any) -> None:
        try:
            await inner(scope, receive, send)
        except Exception as error:
            assert captured.tracker.current() is not None
            captured.tracker.track_error(error)
            raise

    client = TestClient(RootspanMiddleware(tells, tracker=captured.tracker), raise_server_exceptions=False)
    assert client.get("/").status_code == 500
    error, root = captured.spans
    assert error.parent_id == root.span_id
    assert (root.attributes["error.type"], root.status_message) == ("ValueError", "x")


@pytest.mark.parametrize("how", ["update_current", "track_ai"])
def test_web_11_ids_set_in_a_thread_reach_the_background_task(captured: Captured, how: str) -> None:
    app = FastAPI()
    app.add_middleware(RootspanMiddleware, tracker=captured.tracker)

    @app.get("/")
    def view(tasks: BackgroundTasks) -> str:
        if how == "track_ai":
            captured.tracker.track_ai("in the view", user_id="u1", convo_id="c1")
        else:
            captured.tracker.update_current(user_id="u1", convo_id="c1")
        tasks.add_task(lambda: captured.tracker.track_ai("later"))
        return "ok"

    fetch(app)
    later = captured.one("later")
    assert (later.attributes["user.id"], later.attributes["session.id"]) == ("u1", "c1")


def test_web_12_base_http_middleware_above_and_below_share_the_request(captured: Captured) -> None:
    seen: list[str] = []

    async def below(request: Request, call_next: Any) -> Any:
        captured.tracker.update_current(user_id="u1")
        response = await call_next(request)
        seen.append(captured.tracker.current().trace_id)  # type: ignore[union-attr]
        return response

    async def view(request: Request) -> Response:
        captured.tracker.track_ai("answer")
        seen.append(captured.tracker.current().trace_id)  # type: ignore[union-attr]
        return PlainTextResponse("ok")

    app = Starlette(routes=[Route("/", view)])
    app.add_middleware(BaseHTTPMiddleware, dispatch=below)
    app.add_middleware(RootspanMiddleware, tracker=captured.tracker)
    app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))
    fetch(app)
    root = captured.one()
    assert seen == [root.trace_id] * 2
    assert root.attributes["user.id"] == captured.one("answer").attributes["user.id"] == "u1"


# Streams


def test_web_14_15_a_generator_closed_elsewhere_or_abandoned_logs_nothing(
    captured: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    def chunks() -> Iterator[bytes]:
        while True:
            captured.tracker.track_decision(reasoning="step")
            yield b"x"

    async def achunks() -> AsyncIterator[bytes]:
        for chunk in chunks():
            yield chunk

    async def main() -> None:
        tracker = captured.tracker

        @tracker.tool
        async def stream() -> AsyncIterator[bytes]:
            async for chunk in achunks():
                yield chunk

        opened, abandoned = stream(), stream()
        async with contextlib.AsyncExitStack():
            await asyncio.create_task(anext(opened))  # type: ignore[arg-type]
            await asyncio.create_task(opened.aclose())  # type: ignore[attr-defined]
            await anext(abandoned)
            del abandoned
            gc.collect()
            assert tracker.current() is None

    with caplog.at_level(logging.DEBUG):
        asyncio.run(main())
        thread = threading.Thread(target=gc.collect)
        thread.start()
        thread.join()
    assert not [record for record in caplog.records if record.name != "asyncio" or record.levelno > logging.DEBUG]
    assert len([span for span in captured.spans if span.name == "stream"]) == 2


@pytest.mark.filterwarnings("ignore:Async generator 'starlette.requests.Request.stream'")  # Starlette 0.40's own
@pytest.mark.parametrize("stack", [0, 2], ids=["plain", "behind two BaseHTTPMiddleware"])
@pytest.mark.parametrize("start", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_web_16_17_a_client_that_leaves_a_stream(captured: Captured, stack: int, start: Any) -> None:
    closed: list[str] = []
    leave: list[Any] = []

    async def view(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                for _ in range(3):
                    captured.tracker.track_decision(reasoning="step")
                    yield b"data: part\n\n"
                leave[0].set()
                await anyio.sleep_forever()
            except BaseException as error:
                closed.append(type(error).__name__)
                raise

        return StreamingResponse(chunks(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/", view)])
    app.add_middleware(RootspanMiddleware, tracker=captured.tracker, capture_body=True)
    for _ in range(stack):
        app.add_middleware(BaseHTTPMiddleware, dispatch=lambda request, call_next: call_next(request))

    async def receive() -> Any:
        if not leave:
            leave.append(anyio.Event())
            return {"type": "http.request", "body": b"", "more_body": False}
        await leave[0].wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await anyio.lowlevel.checkpoint()

    async def main() -> None:
        await app({**HTTP, "asgi": {"version": "3.0", "spec_version": "2.3"}}, receive, send)

    start(main) if start is trio.run else start(main())
    root = captured.one()
    assert root.attributes["rootspan.outcome"] == "cancelled"
    assert not root.failed
    assert root.attributes["output.value"] == "partpartpart"
    assert root.attributes["rootspan.stream.chunks"] == 3
    assert closed == [{asyncio.run: "CancelledError", trio.run: "Cancelled"}[start]]
    assert all(span.parent_id == root.span_id for span in captured.spans if span != root)


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
def test_web_16_a_server_that_says_so_by_an_os_error(captured: Captured, spec: str) -> None:
    async def view(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(5):
                yield b"x"

        return StreamingResponse(chunks())

    count = 0

    async def send(message: Any) -> None:
        nonlocal count
        count += 1
        if count > 2:
            raise OSError("the client has left")

    async def receive() -> Any:
        await anyio.sleep(3600)

    app = wrapped(captured, Starlette(routes=[Route("/", view)]))
    with pytest.raises(Exception) as raised:  # noqa: PT011  # Starlette's own, which differs between its versions
        asyncio.run(app({**HTTP, "asgi": {"version": "3.0", "spec_version": spec}}, receive, send))
    assert isinstance(raised.value, Exception)
    root = captured.one()
    assert root.attributes["rootspan.outcome"] == "cancelled"
    assert not root.failed


def test_web_16_a_client_that_leaves_its_own_upload(captured: Captured) -> None:
    async def view(request: Request) -> Response:
        await request.body()
        raise AssertionError("not reached")

    app = wrapped(captured, Starlette(routes=[Route("/", view, methods=["POST"])]))
    parts = [{"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}]
    with pytest.raises(ClientDisconnect):
        run(app, {**HTTP, "method": "POST"}, parts)
    root = captured.one()
    assert (root.attributes["rootspan.outcome"], root.failed) == ("cancelled", False)
    assert not {"error.type", "http.response.status_code"} & set(root.attributes)  # a 500 was made, for nobody


def test_web_37_a_thousand_chunks_are_one_span(captured: Captured) -> None:
    chunks = [{"type": "http.response.body", "body": b"12345", "more_body": True}] * 1_000
    run(wrapped(captured, scripted(START, *chunks, {"type": "http.response.body"})))
    assert len(captured.spans) == 1
    attributes = captured.one().attributes
    assert (attributes["rootspan.stream.chunks"], attributes["rootspan.stream.bytes"]) == (1_000, 5_000)


def test_a_stall_is_the_longest_silence_between_two_chunks(captured: Captured) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(dict(START))
        await asyncio.sleep(0.05)
        for pause in (0.0, 0.2, 0.0):
            await asyncio.sleep(pause)
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    run(wrapped(captured, app))
    attributes = captured.one().attributes
    assert attributes["rootspan.stream.longest_stall"] >= 0.19
    assert attributes["rootspan.stream.time_to_first_byte"] >= 0.04


@pytest.mark.parametrize(
    "script",
    [
        [START, {"type": "http.response.pathsend", "path": "/x"}],
        [START, {"type": "http.response.zerocopysend", "file": 3}],
        [
            {**START, "trailers": True},
            {"type": "http.response.body", "body": b"x"},
            {"type": "http.response.trailers", "headers": [], "more_trailers": True},
            {"type": "http.response.trailers", "headers": []},
        ],
        [{**START, "trailers": True}, {"type": "http.response.pathsend"}, {"type": "http.response.trailers"}],
        [{**START, "status": 304}, {"type": "http.response.body"}],
    ],
    ids=["pathsend", "zerocopysend", "trailers", "pathsend and trailers", "304"],
)
def test_web_31_32_the_answer_ends_with_its_last_message(captured: Captured, script: list[dict[str, Any]]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in script:
            assert not captured.spans
            await send(message)
        assert len(captured.spans) == 1  # recorded before the app returned

    run(wrapped(captured, app))
    assert "rootspan.outcome" not in captured.one().attributes


def test_web_32_head_has_no_stream(captured: Captured) -> None:
    app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("ok"))])
    assert fetch(wrapped(captured, app), method="HEAD")[0] == 200
    root = captured.one("HEAD /")
    assert "rootspan.stream.chunks" not in root.attributes


def test_an_app_that_answers_nothing_is_a_500(captured: Captured) -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        return None

    run(wrapped(captured, silent))
    root = captured.one()
    assert (root.attributes["http.response.status_code"], root.failed) == (500, True)


# Exceptions


class OwnError(Exception):
    pass


def test_web_19_an_exception_passes_with_identity_context_and_traceback(captured: Captured) -> None:
    caught: list[BaseException] = []

    async def view(request: Request) -> Response:
        try:
            raise KeyError("first")
        except KeyError:
            error = OwnError("second")
            caught.append(error)
            raise error  # noqa: B904  # its context is what is tested

    bare = Starlette(routes=[Route("/", view)])

    def tail(app: Any) -> list[str]:
        with pytest.raises(OwnError, match="second") as raised:
            run(app)
        assert raised.value is caught[-1]
        assert isinstance(raised.value.__context__, KeyError)
        assert raised.value.__cause__ is None
        assert not raised.value.__suppress_context__
        return [entry.name for entry in raised.traceback][-3:]

    assert tail(wrapped(captured, bare)) == tail(bare)
    root = captured.one()
    assert root.attributes["error.type"].endswith("OwnError")
    assert [name for name, _ in root.events] == ["exception"]


@pytest.mark.parametrize(("gone", "error"), [(False, ConnectionResetError), (True, LookupError)])
def test_what_is_no_client_that_left_is_a_failure(captured: Captured, gone: bool, error: type[Exception]) -> None:
    """Neither a database that hangs up, nor a mistake of the app's after the client has left."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if gone:
            await receive()
        raise error

    with pytest.raises(error):
        run(wrapped(captured, app), HTTP, [{"type": "http.disconnect"}])
    root = captured.one()
    assert (root.attributes["rootspan.outcome"], root.attributes["error.type"]) == ("failure", error.__name__)


def test_web_20_an_exception_before_routing_is_named_by_the_method(captured: Captured) -> None:
    async def broken(request: Request, call_next: Any) -> Any:
        raise OwnError("before routing")

    app = Starlette(routes=[Route("/x", ok)])
    app.add_middleware(BaseHTTPMiddleware, dispatch=broken)
    app.add_middleware(RootspanMiddleware, tracker=captured.tracker)
    assert fetch(app, "/x")[0] == 500
    root = captured.one("GET")
    assert "http.route" not in root.attributes
    assert root.failed


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_web_21_what_is_no_exception_passes(captured: Captured, raised: type[BaseException]) -> None:
    error = raised()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    async def main() -> None:
        with pytest.raises(raised) as caught:
            await wrapped(captured, app)(dict(HTTP), nothing_to_receive, ok)
        assert caught.value is error

    asyncio.run(main())
    root = captured.one()
    assert "http.response.status_code" not in root.attributes
    assert root.failed is (raised is not asyncio.CancelledError)


def test_web_21_exception_groups_keep_their_shape(captured: Captured) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fails, OwnError("one"))
            group.start_soon(fails, LookupError("two"))

    async def fails(error: Exception) -> None:
        raise error

    with pytest.raises(BaseException, match="unhandled errors in a TaskGroup") as raised:
        run(wrapped(captured, app))
    assert {type(error) for error in raised.value.exceptions} == {OwnError, LookupError}  # type: ignore[attr-defined]
    assert captured.one().attributes["error.type"].endswith("ExceptionGroup")


def test_web_22_neither_exception_nor_request_is_retained(captured: Captured) -> None:
    references: list[weakref.ref[Any]] = []

    class Local:
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        local = Local()
        error = OwnError("gone")
        references.extend((weakref.ref(local), weakref.ref(error)))
        raise error

    served = wrapped(captured, app)
    for _ in range(3):
        with contextlib.suppress(OwnError):
            run(served)
    gc.collect()
    assert [reference() for reference in references] == [None] * 6


# Routes


def plain(request: Request) -> Response:
    return PlainTextResponse("ok")


class OwnRoute(BaseRoute):
    def matches(self, scope: Any) -> tuple[Match, Any]:
        return (Match.FULL, {}) if scope["path"] == "/own" else (Match.NONE, {})

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        await ok(scope, receive, send)


class Endpoint(HTTPEndpoint):
    def get(self, request: Request) -> Response:
        return PlainTextResponse("ok")


def routed() -> Starlette:
    inner = Starlette(routes=[Route("/b/{y}", plain), Route("/c/{y:int}", plain)])
    hosted = Router(
        [
            Route("/in/{k}", plain),
            Mount("/m", routes=[Route("/{k}", plain)]),
            Mount("/x/{k}", routes=[Route("/e", plain)]),
        ]
    )
    other = Router([Mount("/x/{name}", routes=[Route("/e", plain)])])
    return Starlette(
        routes=[
            Route("/", plain),
            Route("/one", plain),
            Route("/two/{x}", plain),
            Route("/slash/", plain),
            Route("/endpoint", Endpoint),
            OwnRoute(),
            Mount("/a/{x}", app=inner),
            Mount("/deep", routes=[Mount("/er/{x}", routes=[Route("/{y}", plain)])]),
            Mount("/users/{id}", routes=[Route("/posts/{id}", plain)]),
            Mount("/c++/{n:int}", routes=[Route("/{y}", plain)]),
            Mount("/files/{p:path}/raw", routes=[Route("/{y}", plain)]),
            Mount("/raw", app=ok),
            Host("{sub}.example.org", app=hosted),
            Host("{sub}.example.com", app=other),
        ]
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/", "GET /"),
        ("/one", "GET /one"),
        ("/two/2", "GET /two/{x}"),
        ("/endpoint", "GET /endpoint"),
        ("/a/1/b/2", "GET /a/{x}/b/{y}"),
        ("/a/a/b/b", "GET /a/{x}/b/{y}"),  # values that look like the parts around them
        ("/a/1/c/2", "GET /a/{x}/c/{y:int}"),
        ("/deep/er/deep/er", "GET /deep/er/{x}/{y}"),
        ("/users/5/posts/7", "GET /users/{id}/posts/{id}"),  # of one name, where the last value counts
        ("/c++/007/8", "GET /c++/{n:int}/{y}"),
        ("/files/a/b/raw/c", "GET /files/{p:path}/raw/{y}"),
        ("/raw/anything/below", "GET /raw"),
        ("/slash", "GET"),
        ("/own", "GET"),
        ("/nowhere", "GET"),
    ],
)
def test_web_23_27_the_template_of_every_kind_of_route(captured: Captured, path: str, name: str) -> None:
    status, _ = fetch(wrapped(captured, routed()), path)
    assert status in (200, 307, 404)
    assert [span.name for span in captured.spans] == [name]


@pytest.mark.parametrize(
    ("host", "path", "name"),
    [
        ("shop.example.org", "/in/7", "GET /in/{k}"),
        ("shop.example.org", "/m/7", "GET /m/{k}"),
        ("shop.example.com", "/x/7/e", "GET /x/{name}/e"),
    ],
)
def test_web_27_host_routes(captured: Captured, host: str, path: str, name: str) -> None:
    assert fetch(wrapped(captured, routed()), path, host=host) == (200, "ok")
    assert captured.one().name == name


def test_web_23_a_middleware_inside_a_mount_knows_the_mount(captured: Captured) -> None:
    inner = Starlette(routes=[Route("/b/{y}", plain)])
    inner.add_middleware(RootspanMiddleware, tracker=captured.tracker)
    assert fetch(Starlette(routes=[Mount("/a/{x}", app=inner)]), "/a/1/b/2") == (200, "ok")
    assert captured.one().name == "GET /a/{x}/b/{y}"


def fastapi_app() -> FastAPI:
    app, outer, inner = FastAPI(), APIRouter(prefix="/a/{x}"), APIRouter(prefix="/b")

    @inner.get("/deep/{y}")
    def deep(x: str, y: str) -> str:
        return x + y

    outer.include_router(inner)
    app.include_router(outer, prefix="/v1")
    sub, below = FastAPI(), APIRouter(prefix="/q")

    @below.get("/deep/{z}")
    def sub_deep(z: str) -> str:
        return z

    sub.include_router(below)
    app.mount("/sub/{m}", sub)
    return app


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/a/1/b/deep/2", "GET /v1/a/{x}/b/deep/{y}"),
        ("/sub/9/q/deep/3", "GET /sub/{m}/q/deep/{z}"),
        ("/sub/q/q/deep/q", "GET /sub/{m}/q/deep/{z}"),
        ("/sub/9/nowhere", "GET /sub/{m}"),
        ("/docs", "GET /docs"),
    ],
)
def test_web_24_included_routers_and_mounted_fastapi_apps(captured: Captured, path: str, name: str) -> None:
    app = fastapi_app()
    app.add_middleware(RootspanMiddleware, tracker=captured.tracker)
    fetch(app, path)
    assert captured.one().name == name


@pytest.mark.parametrize("path", ["/v/6/m/7/in/8", "/v/m/m/m/in/in"])
def test_web_24_a_mount_inside_included_routers(captured: Captured, path: str) -> None:
    app, outer, inner = FastAPI(), APIRouter(), APIRouter()
    inner.mount("/m/{y}", Starlette(routes=[Route("/in/{z}", plain)]))
    outer.include_router(inner, prefix="/{x}")
    app.include_router(outer, prefix="/v")
    status, _ = fetch(wrapped(captured, app), path)
    if status == 404:
        pytest.skip("this FastAPI does not include mounts")
    assert captured.one().name == "GET /v/{x}/m/{y}/in/{z}"


def test_web_25_no_route_is_matched_once_more(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    matches = Route.matches

    def counting(self: Route, scope: Any) -> Any:
        nonlocal count
        count += 1
        return matches(self, scope)

    monkeypatch.setattr(Route, "matches", counting)
    counts = []
    for app in (routed(), wrapped(captured, routed())):
        count = 0
        for path in ("/", "/two/2", "/a/1/b/2", "/nowhere"):
            fetch(app, path)
        counts.append(count)
    assert counts[0] == counts[1] > 0


def test_web_26_a_path_that_is_rewritten_inside_gives_the_final_template(captured: Captured) -> None:
    inner = routed()

    async def rewriting(scope: Any, receive: Any, send: Any) -> None:
        scope["path"] = "/two/2"
        await inner(scope, receive, send)

    assert fetch(wrapped(captured, rewriting), "/legacy")[0] == 200
    assert captured.one().name == "GET /two/{x}"


def test_web_26_what_stands_between_the_middleware_and_the_router_may_hide_something(captured: Captured) -> None:
    """As `docs/web.md` says, and what it advises there helps."""

    class Copies:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app({**scope}, receive, send)

    class Passes(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Response:
            answer: Response = await call_next(request)
            return answer

    def broken(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"a"
            raise ValueError("broken off")

        return StreamingResponse(chunks())

    for inside in (False, True):
        app = Starlette(routes=[Route("/broken/{x}", broken)])
        for kind in (RootspanMiddleware, Copies, Passes) if inside else (Copies, Passes, RootspanMiddleware):
            options = {"tracker": captured.tracker} if kind is RootspanMiddleware else {}
            app.add_middleware(kind, **options)  # type: ignore[arg-type]  # of three kinds
        with contextlib.suppress(ValueError):
            fetch(app, "/broken/1")
        root = captured.one()
        assert root.name == ("GET /broken/{x}" if inside else "GET")
        if inside:  # older Starlettes tell of the error outside as well
            assert root.attributes["error.type"] == "ValueError"
        captured.clear()


def test_web_27_a_route_that_raises_when_it_is_read_costs_the_route_only(captured: Captured) -> None:
    class Odd:
        @property
        def path(self) -> str:
            raise OwnError("no path here")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["route"] = Odd()
        await ok(scope, receive, send)

    assert run(wrapped(captured, app)) == [START, END]
    assert captured.one("GET").attributes["http.response.status_code"] == 200


@pytest.mark.parametrize("path", ["/two/2", "/a/1/b/2"])
def test_web_29_a_root_path_is_not_part_of_the_route(captured: Captured, path: str) -> None:
    template = {"/two/2": "/two/{x}", "/a/1/b/2": "/a/{x}/b/{y}"}[path]
    run(wrapped(captured, routed()), {**HTTP, "path": f"/api{path}", "root_path": "/api"})
    assert captured.one().name == f"GET {template}"


@pytest.mark.parametrize("path", ["/health", "/api/health"])
@pytest.mark.parametrize("root_path", [None, "", "/api", "/ap"])
def test_web_29_a_root_path_is_not_part_of_what_is_excluded(captured: Captured, path: str, root_path: Any) -> None:
    run(wrapped(captured, ok, exclude=["/health"]), {**HTTP, "path": path, "root_path": root_path})
    assert bool(captured.spans) == (path == "/api/health" and root_path != "/api")


@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
def test_web_29_the_root_path_of_a_fastapi_app(captured: Captured) -> None:
    app = FastAPI(root_path="/api")

    @app.get("/x/{n}")
    def view(n: int) -> int:
        return n

    assert fetch(wrapped(captured, app), "/x/1")[0] == 200
    assert captured.one().name == "GET /x/{n}"


# WebSockets


def socket_app(captured: Captured, **options: Any) -> Starlette:
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        captured.tracker.track_ai("turn", user_id="u1", input="Hi", output="Hello!")
        with contextlib.suppress(WebSocketDisconnect):
            while (text := await socket.receive_text()) != "stop":
                await socket.send_text(text.upper())
        if socket.client_state.name == "CONNECTED":
            await socket.close(int(socket.query_params.get("code", "1000")))

    async def refuse(socket: WebSocket) -> None:
        await socket.close(4001)

    async def deny(socket: WebSocket) -> None:
        await socket.send_denial_response(JSONResponse({"why": "no"}, status_code=int(socket.path_params["code"])))

    async def boom(socket: WebSocket) -> None:
        if socket.path_params["when"] == "after":
            await socket.accept()
        raise OwnError("in a socket")

    async def leave_open(socket: WebSocket) -> None:
        await socket.accept()

    async def disconnects(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive_text()  # raises WebSocketDisconnect

    app = Starlette(
        routes=[
            WebSocketRoute("/talk/{room}", talk),
            WebSocketRoute("/refuse", refuse),
            WebSocketRoute("/deny/{code}", deny),
            WebSocketRoute("/boom/{when}", boom),
            WebSocketRoute("/open", leave_open),
            WebSocketRoute("/disconnects", disconnects),
        ]
    )
    app.add_middleware(RootspanMiddleware, tracker=captured.tracker, **options)
    return app


def test_a_socket_is_one_span_with_what_passed(captured: Captured) -> None:
    app = socket_app(captured, response_header="x-trace", convo_id=lambda request: request.query_params.get("convo"))
    with TestClient(app).websocket_connect("/talk/1?convo=c1") as socket:
        for text in ("ab", "ü"):
            socket.send_text(text)
            socket.receive_text()
        socket.send_text("stop")
        with contextlib.suppress(WebSocketDisconnect):
            socket.receive_text()
    root = captured.one("WEBSOCKET /talk/{room}")
    assert dict(socket.extra_headers or [])[b"x-trace"] == root.trace_id.encode()
    read = {name.removeprefix("rootspan.websocket."): root.attributes.get(name) for name in root.attributes}
    assert (read["received"], read["bytes_received"], read["sent"], read["bytes_sent"]) == (3, 8, 2, 4)
    assert (read["close_code"], root.attributes["http.response.status_code"]) == (1000, 101)
    assert root.attributes["url.scheme"] == "ws"
    assert (root.attributes["user.id"], root.attributes["session.id"], root.failed) == ("u1", "c1", False)
    assert captured.one("turn").parent_id == root.span_id
    assert len(captured.spans) == 2


@pytest.mark.parametrize(
    ("path", "status"), [("/refuse", 403), ("/deny/418", 418), ("/deny/503", 503), ("/nowhere", 403)]
)
def test_web_33_a_refused_handshake_has_its_status(captured: Captured, path: str, status: int) -> None:
    scope = {"type": "websocket", "path": path, "headers": [], "extensions": {"websocket.http.response": {}}}
    run(socket_app(captured), scope, [{"type": "websocket.connect"}])
    root = captured.one()
    assert root.attributes["http.response.status_code"] == status
    assert root.failed is (status >= 500)
    assert "rootspan.websocket.close_code" not in root.attributes


@pytest.mark.parametrize(
    ("code", "failed", "outcome"),
    [
        (1000, False, None),
        (1001, False, None),
        (4000, False, None),
        (1011, True, "failure"),
        (1012, False, "cancelled"),
    ],
)
def test_web_34_close_codes(captured: Captured, code: int, failed: bool, outcome: str | None) -> None:
    with TestClient(socket_app(captured)).websocket_connect(f"/talk/1?code={code}") as socket:
        socket.send_text("stop")
        with contextlib.suppress(WebSocketDisconnect):
            socket.receive_text()
    root = captured.one()
    assert root.attributes["rootspan.websocket.close_code"] == code
    assert (root.failed, root.attributes.get("rootspan.outcome")) == (failed, outcome)
    assert root.attributes.get("error.type") == ("1011" if failed else None)


@pytest.mark.parametrize("path", ["/talk/1", "/disconnects"])
@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006])
def test_web_34_a_client_that_closes_is_no_error(captured: Captured, path: str, code: int) -> None:
    with contextlib.suppress(WebSocketDisconnect), TestClient(socket_app(captured)).websocket_connect(path) as socket:
        socket.close(code)
    root = captured.one()
    assert not root.failed
    assert root.attributes["rootspan.websocket.close_code"] == code
    assert root.attributes.get("rootspan.outcome") == ("cancelled" if code == 1006 else None)


@pytest.mark.parametrize(("when", "status"), [("before", 500), ("after", 101)])
def test_web_34_an_exception_in_a_socket_is_an_error(captured: Captured, when: str, status: int) -> None:
    with pytest.raises(OwnError), TestClient(socket_app(captured)).websocket_connect(f"/boom/{when}"):
        pass
    root = captured.one()
    assert root.failed
    assert root.attributes["http.response.status_code"] == status
    assert [name for name, _ in root.events] == ["exception"]


def test_a_client_that_leaves_before_its_handshake_is_cancelled_and_not_refused(captured: Captured) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "websocket.disconnect":
            pass

    received = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}]
    run(wrapped(captured, app), {"type": "websocket", "path": "/", "headers": []}, received)
    root = captured.one()
    assert (root.attributes["rootspan.outcome"], root.failed) == ("cancelled", False)
    assert "http.response.status_code" not in root.attributes


def test_a_socket_that_is_left_open_is_complete(captured: Captured) -> None:
    with TestClient(socket_app(captured)).websocket_connect("/open"):
        pass
    assert not captured.one().failed
    assert "rootspan.outcome" not in captured.one().attributes


def test_a_socket_that_only_sends_is_counted(captured: Captured) -> None:
    app = scripted(
        {"type": "websocket.accept"},
        {"type": "websocket.send", "text": "né"},
        {"type": "websocket.send", "bytes": b"123"},
        {"type": "websocket.close"},
    )
    run(wrapped(captured, app), {"type": "websocket", "path": "/", "headers": []})
    told = {n: v for n, v in captured.one().attributes.items() if n.startswith("rootspan.websocket")}
    assert told.pop("rootspan.websocket.close_code") == 1000
    ways = {"received": 0, "bytes_received": 0, "sent": 2, "bytes_sent": 6}
    assert told == {f"rootspan.websocket.{name}": number for name, number in ways.items()}


def test_a_socket_that_is_closed_after_its_refusal_keeps_the_status(captured: Captured) -> None:
    app = scripted(
        {"type": "websocket.http.response.start", "status": 401, "headers": []},
        {"type": "websocket.http.response.body", "body": b"", "more_body": True},
        {"type": "websocket.close", "code": 1011},
    )
    run(wrapped(captured, app), {"type": "websocket", "path": "/", "headers": []})
    root = captured.one()
    assert (root.attributes["http.response.status_code"], root.failed) == (401, False)


def test_web_35_a_socket_holds_no_memory_per_message(captured: Captured) -> None:
    message = {"type": "websocket.receive", "text": "x" * 1_000}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        for _ in range(20_000):
            await receive()
            await send({"type": "websocket.send", "bytes": b"y" * 1_000})

    async def receive() -> Any:
        return message

    async def send(message: Any) -> None:
        return None

    served = wrapped(captured, app, capture_body=True)
    scope = {"type": "websocket", "path": "/", "headers": []}
    tracemalloc.start()
    try:
        asyncio.run(served(scope, receive, send))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert captured.one().attributes["rootspan.websocket.received"] == 20_000
    assert captured.one().attributes["rootspan.websocket.bytes_sent"] == 20_000_000


# The middleware itself


def test_web_38_nothing_of_a_request_is_kept_on_the_middleware(captured: Captured) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "status": int(scope["path"][1:])})
        await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"x" * int(scope["path"][1:]), "more_body": True})
        await asyncio.sleep(0)
        await send({"type": "http.response.body"})

    served = wrapped(captured, app)
    before = dict(vars(served))

    async def send(message: Any) -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(served({**HTTP, "path": f"/{200 + n}"}, None, send) for n in range(20)))

    asyncio.run(main())
    assert vars(served) == before
    seen = {(s.attributes["http.response.status_code"], s.attributes["rootspan.stream.bytes"]) for s in captured.spans}
    assert seen == {(200 + n, 200 + n) for n in range(20)}


def lifespan(app: Any, *kinds: str) -> list[str]:
    received = [{"type": f"lifespan.{kind}"} for kind in kinds]
    return [message["type"].removeprefix("lifespan.") for message in run(app, {"type": "lifespan"}, received)]


def test_web_39_lifespan_passes_and_delivers_at_its_end(captured: Captured) -> None:
    states: list[int] = []

    @contextlib.asynccontextmanager
    async def life(app: Any) -> AsyncIterator[None]:
        captured.tracker.track_ai("at start")
        yield
        captured.tracker.track_ai("at the end")

    app = wrapped(captured, Starlette(lifespan=life))

    async def send(message: Any) -> None:
        if message["type"] == "lifespan.shutdown.complete":
            states.append(captured.tracker.stats()["delivered"])

    received = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive() -> Any:
        return received.pop(0)

    asyncio.run(app({"type": "lifespan", "state": {}}, receive, send))
    assert states == [2]


@pytest.mark.parametrize(
    ("settings", "level"), [({"endpoint": "http://127.0.0.1:9"}, logging.WARNING), ({}, logging.DEBUG)]
)
def test_web_83_a_stop_waits_for_a_dead_collector_once_and_says_what_is_left(
    settings: dict[str, Any], level: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvicorn ends its process with the signal that stopped it: nothing of ours runs after the lifespan."""
    waits: list[float | None] = []
    tracker = Tracker(**settings)
    app = Starlette()
    for _ in range(2):
        app.add_middleware(RootspanMiddleware, tracker=tracker)
    monkeypatch.setattr(Tracker, "flush", lambda self, timeout=None: waits.append(timeout))
    with caplog.at_level(logging.DEBUG, "rootspan"):
        lifespan(app, "startup", "shutdown")
        tracker.track_ai("left")
        assert not caplog.records  # before, there was nothing to lose
        assert lifespan(app, "startup", "shutdown") == ["startup.complete", "shutdown.complete"]
    told = [(record.levelno, record.getMessage()) for record in caplog.records if "signal" in record.getMessage()]
    line = "1 records were not delivered before the server stopped; where a signal ends its process they are lost"
    assert told == [(level, line)]
    assert len(waits) == 2
    tracker.shutdown(timeout=0)


def test_web_39_a_failing_start_is_not_swallowed(captured: Captured) -> None:
    @contextlib.asynccontextmanager
    async def life(app: Any) -> AsyncIterator[None]:
        raise OwnError("no database")
        yield

    async def unsupported(scope: Any, receive: Any, send: Any) -> None:
        raise OwnError("no lifespan here")

    for app in (Starlette(lifespan=life), unsupported):
        with pytest.raises(OwnError):
            lifespan(wrapped(captured, app), "startup")


@pytest.mark.parametrize("start", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_with_lifespan_answers_for_an_app_that_has_none(captured: Captured, start: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        captured.tracker.track_ai("answer")
        await ok(scope, receive, send)

    served = with_lifespan(wrapped(captured, app), captured.tracker)
    assert [m["type"] for m in run(served, start=start)] == [START["type"], END["type"]]
    received = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = [message["type"] for message in run(served, {"type": "lifespan"}, received, start)]
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert captured.tracker.stats()["delivered"] == 2


def test_web_40_twice_records_once_and_a_nested_request_its_own(captured: Captured) -> None:
    inner = wrapped(captured, Starlette(routes=[Route("/inner", plain)]))

    async def view(request: Request) -> Response:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await inner({**HTTP, "path": "/inner"}, request.receive, send)
        return PlainTextResponse(sent[1]["body"])

    app = Starlette(routes=[Route("/outer", view)])
    app.add_middleware(RootspanMiddleware, tracker=captured.tracker)
    app.add_middleware(RootspanMiddleware, tracker=captured.tracker)
    assert fetch(wrapped(captured, app), "/outer") == (200, "ok")
    assert [span.name for span in captured.roots] == ["GET /inner", "GET /outer"]


def test_two_trackers_record_the_same_request_and_share_nothing(captured: Captured) -> None:
    """As an app does that is mounted in another team's."""

    def view(request: Request) -> Response:
        for tracker in (captured.tracker, others.tracker):
            tracker.track_ai("answer")
        return plain(request)

    with captured_spans() as others:
        mounted = Starlette(routes=[Route("/{name}", view)])
        for tracker in (others.tracker, captured.tracker):  # the second one is known already, whatever stands between
            mounted.add_middleware(RootspanMiddleware, tracker=tracker)
        app = wrapped(captured, Starlette(routes=[Mount("/theirs", mounted)]))
        assert fetch(app, "/theirs/x") == (200, "ok")
        for each in (captured, others):
            root, answer = each.one("GET /theirs/{name}"), each.one("answer")
            assert [span.name for span in each.roots] == [root.name]
            assert answer.parent_id == root.span_id
    assert {span.trace_id for span in captured.spans}.isdisjoint(span.trace_id for span in others.spans)


def test_web_40_an_app_that_is_called_again_with_the_same_scope_is_recorded_again(captured: Captured) -> None:
    """As a middleware does that tries again, or that asks the next app where one knows no such path."""
    tries: list[str] = []

    def flaky(request: Request) -> Response:
        tries.append(captured.tracker.track_ai("try"))
        if len(tries) == 1:
            raise ConnectionError
        return PlainTextResponse("fine")

    apps = [Starlette(routes=routes) for routes in ([], [Route("/", flaky)])]
    old, new = [wrapped(captured, wrapped(captured, app)) for app in apps]

    async def cascade(scope: Any, receive: Any, send: Any) -> None:
        async def nowhere(message: Any) -> None: ...

        await old(scope, receive, nowhere)
        with contextlib.suppress(ConnectionError):
            await new(scope, receive, nowhere)
        await new(scope, receive, send)
        assert not [key for key in scope if key.startswith("rootspan")]

    assert fetch(cascade)[1] == "fine"
    first, second, third = captured.roots
    assert first.name == "GET"
    assert [root.attributes["http.response.status_code"] for root in captured.roots] == [404, 500, 200]
    assert [root.failed for root in captured.roots] == [False, True, False]
    assert [span.parent_id for span in captured.spans if span.name == "try"] == [second.span_id, third.span_id]
    assert captured.tracker.current() is None


def test_web_41_around_and_inside_cors_and_after_the_start(captured: Captured) -> None:
    app = Starlette(routes=[Route("/", plain)])
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    app.add_middleware(RootspanMiddleware, tracker=captured.tracker)
    served = CORSMiddleware(app, allow_origins=["*"])
    with AsgiClient(served) as client:
        answer = client.request("GET", "/", {"origin": "https://example.org"})
        assert (answer.headers["access-control-allow-origin"], answer.text) == ("*", "ok")
    assert captured.one().name == "GET /"
    with pytest.raises(RuntimeError, match="after an application has started"):
        app.add_middleware(RootspanMiddleware, tracker=captured.tracker)
    assert fetch(wrapped(captured, served))[0] == 200  # by hand it still works


def test_web_42_an_app_can_be_collected(captured: Captured) -> None:
    app = FastAPI()
    app.add_middleware(RootspanMiddleware, tracker=captured.tracker)
    assert fetch(app, "/docs")[0] == 200
    reference = weakref.ref(app)
    del app
    gc.collect()
    assert reference() is None


class Double:
    def __init__(self, scope: Any) -> None:
        self.scope = scope

    async def __call__(self, receive: Any, send: Any) -> None:
        await ok(self.scope, receive, send)


def double(scope: Any) -> Callable[[Any, Any], Awaitable[None]]:
    async def instance(receive: Any, send: Any) -> None:
        await ok(scope, receive, send)

    return instance


class Awaited:
    def __init__(self, scope: Any, receive: Any, send: Any) -> None:
        self.arguments = scope, receive, send

    def __await__(self) -> Any:
        return ok(*self.arguments).__await__()


def view_of_one_argument(request: Any) -> None: ...


@functools.wraps(view_of_one_argument)
async def decorated(scope: Any, receive: Any, send: Any) -> None:
    await ok(scope, receive, send)


class Compiled:
    """What `inspect` says of it is what it says of most that is written in C."""

    @property
    def __signature__(self) -> Any:
        raise ValueError("no signature found for builtin")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await ok(scope, receive, send)


@pytest.mark.parametrize(
    "app", [ok, Double, double, Awaited, type("E", (HTTPEndpoint,), {}), lambda *a: ok(*a), decorated, Compiled()]
)
@pytest.mark.parametrize("start", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_web_43_every_kind_of_asgi_app(captured: Captured, app: Any, start: Any) -> None:
    sent = run(wrapped(captured, app), start=start)
    assert sent[0]["type"] == "http.response.start"
    assert len(captured.spans) == 1
    assert run(with_lifespan(app), start=start)[0]["type"] == "http.response.start"


def test_web_43_a_whole_fastapi_app_on_trio(captured: Captured) -> None:
    app = FastAPI()

    @app.get("/{n}")
    def view(n: int) -> int:
        captured.tracker.track_ai("in a thread of trio")
        return n

    async def receive() -> Any:
        await trio.sleep_forever()

    async def main() -> None:
        await wrapped(captured, app)({**HTTP, "path": "/7", "query_string": b""}, receive, send)

    async def send(message: Any) -> None:
        sent.append(message)

    sent: list[Any] = []
    trio.run(main)
    assert sent[1]["body"] == b"7"
    assert captured.one("in a thread of trio").parent_id == captured.one("GET /{n}").span_id


def test_web_44_a_decorated_view_keeps_its_step_while_it_waits(captured: Captured) -> None:
    tracker = captured.tracker

    @tracker.tool
    async def look_up(query: str) -> str:
        await asyncio.sleep(0.01)
        tracker.track_ai("inside", input=query)
        return "found"

    @tracker.interaction(event="turn")
    async def turn() -> str:
        await asyncio.sleep(0.01)
        return await look_up("x")

    async def view(request: Request) -> Response:
        return PlainTextResponse(",".join(await asyncio.gather(turn(), turn())))

    assert fetch(wrapped(captured, Starlette(routes=[Route("/", view)])))[1] == "found,found"
    spans = {span.span_id: span for span in captured.spans}
    chains = sorted(
        [spans[s.parent_id].name, spans[spans[s.parent_id].parent_id].name]  # type: ignore[index]
        for s in captured.spans
        if s.name == "inside"
    )
    assert chains == [["look_up", "turn"], ["look_up", "turn"]]
    assert len({s.parent_id for s in captured.spans if s.name == "inside"}) == 2


def test_web_45_a_broken_hook_is_logged_once(captured: Captured, caplog: pytest.LogCaptureFixture) -> None:
    def broken(request: Any) -> Any:
        raise OwnError("in a hook")

    async def forgotten(request: Any) -> str:
        return "u1"

    app = wrapped(captured, ok, user_id=broken, convo_id=forgotten, exclude=broken)
    for _ in range(5):
        run(app)
    assert len(captured.spans) == 5
    said = [record.message for record in caplog.records if record.name == "rootspan"]
    assert len(said) == 3
    assert {message.split("=")[0].split()[-1] for message in said} == {"user_id", "convo_id", "exclude"}


@pytest.mark.parametrize("hook", ["user_id", "convo_id", "properties", "event", "exclude"])
def test_web_45_a_hook_may_ask_what_became_of_a_cancelled_task(captured: Captured, hook: str) -> None:
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        look_up = loop.create_future()
        look_up.cancel()

    async def view(scope: Any, receive: Any, send: Any) -> None:
        captured.tracker.track_ai("inside")
        await ok(scope, receive, send)

    assert run(wrapped(captured, view, **{hook: lambda request: look_up.result()})) == [START, END]
    assert [span.name for span in captured] == ["inside", "GET"]


class Unspeakable:
    def __repr__(self) -> str:
        raise OwnError("in a serialiser")

    __str__ = __iter__ = __repr__  # type: ignore[assignment]


@pytest.mark.parametrize("hook", ["user_id", "convo_id", "properties"])
@pytest.mark.parametrize("value", [object(), [1], {"a": object()}, b"bytes", float("nan"), Unspeakable()])
def test_web_45_a_hook_may_return_anything(captured: Captured, hook: str, value: Any) -> None:
    assert run(wrapped(captured, ok, **{hook: lambda request: value}))[1] == END
    assert len(captured.spans) == 1


def test_web_45_an_error_of_our_own_changes_no_response(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    from rootspan.adapter.request import RequestRoot

    monkeypatch.setattr(RequestRoot, "__init__", lambda *args: 1 / 0)
    assert run(wrapped(captured, ok)) == [START, END]
    assert captured.tracker.stats()["dropped"] == {"internal_error": 1}


def test_hooks_are_given_the_frameworks_request(captured: Captured) -> None:
    options: dict[str, Any] = {
        "event": lambda request: f"{request.method} by hook",
        "user_id": lambda request: request.query_params["user"],
        "convo_id": lambda request: request.cookies.get("convo"),
        "properties": lambda request: {"client": request.headers["user-agent"], "n": request.path_params["n"]},
    }
    app = wrapped(captured, Starlette(routes=[Route("/x/{n:int}", plain)]), **options)
    headers = {"user-agent": "tester", "cookie": "convo=c1"}
    with AsgiClient(app) as client:
        client.request("GET", "/x/7?user=u1", headers).close()
    attributes = captured.one("GET by hook").attributes
    assert (attributes["user.id"], attributes["session.id"]) == ("u1", "c1")
    assert (json.loads(attributes["metadata"])["client"], attributes["n"]) == ("tester", 7)


def test_a_header_that_comes_twice_is_joined(captured: Captured) -> None:
    scope = {
        **HTTP,
        "client": ("127.0.0.1", 5),
        "headers": [(b"x-forwarded-for", b"6.6.6.6"), (b"X-Forwarded-For", b"203.0.113.9")],
    }
    run(wrapped(captured, ok, trusted_proxies=["127.0.0.1"], capture_headers=["x-forwarded-for"]), scope)
    attributes = captured.one().attributes
    assert attributes["client.address"] == "203.0.113.9"
    assert attributes["http.request.header.x-forwarded-for"] == ["6.6.6.6, 203.0.113.9"]


def test_a_context_variable_of_the_app_is_not_ours_to_reset(captured: Captured) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("of_the_app", default="unset")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        variable.set("set inside")
        await ok(scope, receive, send)

    async def main() -> None:
        async def send(message: Any) -> None:
            return None

        await wrapped(captured, app)(dict(HTTP), nothing_to_receive, send)
        assert variable.get() == "set inside"
        assert captured.tracker.current() is None

    asyncio.run(main())


def test_a_denied_request_by_an_http_exception_has_its_status(captured: Captured) -> None:
    app = FastAPI()
    app.add_middleware(RootspanMiddleware, tracker=captured.tracker)

    @app.get("/")
    def view() -> None:
        raise HTTPException(403)

    assert fetch(app)[0] == 403
    assert not captured.one().failed


def test_an_unused_tracker_costs_no_thread(captured: Captured) -> None:
    tracker = Tracker(disabled=True)
    before = threading.active_count()
    assert run(RootspanMiddleware(ok, tracker=tracker)) == [START, END]
    assert threading.active_count() <= before


def test_without_its_framework_it_says_which_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.delitem(sys.modules, "rootspan_starlette")
    with pytest.raises(MissingExtraError, match=r"Fix: pip install 'rootspan\[starlette\]'"):
        importlib.import_module("rootspan_starlette")
