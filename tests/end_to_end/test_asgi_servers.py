"""The middleware under real servers: every request is accounted for once, however the server or its client ends."""

from __future__ import annotations

import base64
import contextlib
import http.client
import importlib.util
import os
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the middleware's framework is not in this environment")
pytest.importorskip("hypercorn", reason="the servers are not in this environment")

from servers import Server, read_until
from sinks import Sink, Span, hang

APP = """
    import asyncio, os, threading
    import rootspan
    from fastapi import FastAPI, Request, WebSocket
    from fastapi.responses import PlainTextResponse, StreamingResponse
    from rootspan_starlette import RootspanMiddleware

    if os.environ.get("TRACK_AT_IMPORT"):
        rootspan.track_ai("imported", input=str(os.getpid()))
        rootspan.flush()

    app = FastAPI()
    app.add_middleware(RootspanMiddleware, capture_body=True)

    @app.get("/n/{n}")
    def one(n: int) -> int:
        rootspan.track_ai("answer", user_id=f"u{n}", convo_id=n, input="Q", output="A", properties={"pid": os.getpid()})
        return n

    waiting = 0

    @app.get("/slow/{n}")
    async def slow(n: int) -> int:
        global waiting
        waiting += 1
        with rootspan.tool_span("wait"):
            while waiting < 6:  # the stop comes while all of them wait
                await asyncio.sleep(0.01)
            await asyncio.sleep(1)
        rootspan.track_ai("answer", convo_id=n)
        return n

    @app.get("/waiting")
    async def how_many() -> int:
        return waiting

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def chunks():
            for n in range(100_000):
                rootspan.track_decision(reasoning=str(n)) if n < 3 else None
                yield f"data: {{\\"token\\": \\"{n} \\"}}\\n\\n"
                await asyncio.sleep(0.01)

        return StreamingResponse(chunks(), media_type="text/event-stream")

    @app.post("/unread")
    async def unread() -> str:
        return "unread"

    @app.post("/read")
    async def read(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    @app.websocket("/ws/{room}")
    async def talk(socket: WebSocket, room: str) -> None:
        await socket.accept()
        rootspan.track_ai("turn", input=await socket.receive_text(), output="bye")
        await socket.send_text("bye")
        await socket.close(1000)
"""

GUNICORN = ["gunicorn", "served:app", "-b", "127.0.0.1:{port}", "-k"]
SERVERS = {
    "uvicorn": ["uvicorn", "served:app", "--port", "{port}"],
    "hypercorn": ["hypercorn", "served:app", "-b", "127.0.0.1:{port}"],
    "gunicorn-uvicorn": [*GUNICORN, "uvicorn.workers.UvicornWorker"],
    "gunicorn-asgi": [*GUNICORN, "asgi"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served.py").write_text(textwrap.dedent(APP))
    return tmp_path


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, folder: Path, sink: Sink) -> Iterator[Server]:
    if request.param == "gunicorn-asgi" and importlib.util.find_spec("gunicorn.asgi") is None:
        pytest.skip("this gunicorn has no ASGI worker of its own")
    with Server(SERVERS[request.param], folder, sink.url) as server:
        yield server


def roots(sink: Sink, name: str) -> list[Span]:
    found = [span for span in sink.spans if span.parent_id is None and span.name == name]
    assert len({span.span_id for span in found}) == len(found), "sent twice"
    return found


def one_each(sink: Sink, numbers: range) -> None:
    """Every request is one root of its own, with its own conversation, user and child."""
    found = roots(sink, "GET /n/{n}")
    assert sorted(span.attributes["session.id"] for span in found) == sorted(map(str, numbers))
    children = {span.parent_id: span for span in sink.spans if span.name == "answer"}
    for root in found:
        assert children[root.span_id].trace_id == root.trace_id
        assert root.attributes["user.id"] == f"u{root.attributes['session.id']}"
        assert children[root.span_id].attributes["session.id"] == root.attributes["session.id"]


def hammer(server: Server, numbers: range, connections: int = 4) -> None:
    """Send a request for each number, over so many kept-alive connections at once."""
    failures: list[BaseException] = []

    def client(mine: range) -> None:
        session = server.session()
        try:
            for number in mine:
                assert server.get(f"/n/{number}", session) == (200, str(number).encode())
        except BaseException as error:
            failures.append(error)
        finally:
            session.close()

    threads = [threading.Thread(target=client, args=(numbers[start::connections],)) for start in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, f"{failures}\n{server.log}"


def test_kept_alive_connections_and_a_stop_right_after_the_last_request(server: Server, sink: Sink) -> None:
    hammer(server, range(60))
    assert server.stop() in (0, -signal.SIGTERM)
    one_each(sink, range(60))


def test_a_stop_during_requests_accounts_for_each_of_them(server: Server, sink: Sink) -> None:
    answers: list[tuple[int, bytes]] = []
    threads = [threading.Thread(target=lambda n=n: answers.append(server.get(f"/slow/{n}"))) for n in range(6)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while server.get("/waiting") != (200, b"6"):
        assert time.monotonic() < deadline, server.log
        time.sleep(0.02)
    server.stop()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [(200, str(n).encode()) for n in range(6)], server.log
    found = roots(sink, "GET /slow/{n}")
    assert sorted(span.attributes["session.id"] for span in found) == [str(n) for n in range(6)]
    waits = {span.parent_id for span in sink.spans if span.name == "wait"}
    assert waits == {span.span_id for span in found}


def test_web_16_a_client_that_leaves_is_cancelled_with_its_partial_output(server: Server, sink: Sink) -> None:
    connection = server.send("GET /stream HTTP/1.1\nHost: x")
    assert b"200" in read_until(connection, b'"2 "')
    connection.close()
    (root,) = [span for span in sink.wait(4, timeout=60) if span.parent_id is None]
    assert root.name == "GET /stream"
    assert root.attributes["rootspan.outcome"] == "cancelled"
    assert root.attributes["output.value"].startswith("0 1 2 ")
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["rootspan.stream.chunks"] >= 3
    assert "error.type" not in root.attributes


HANGS = "from Python 3.12 on, hypercorn waits for open connections without end, with and without rootspan"


@pytest.mark.parametrize(
    "name",
    ["uvicorn", pytest.param("hypercorn", marks=pytest.mark.skipif(sys.version_info >= (3, 12), reason=HANGS))],
)
def test_web_36_a_stream_that_the_server_cuts_leaves_its_record(name: str, folder: Path, sink: Sink) -> None:
    grace = {"uvicorn": ["--timeout-graceful-shutdown", "1"], "hypercorn": ["--graceful-timeout", "1"]}[name]
    with Server([*SERVERS[name], *grace], folder, sink.url) as server:
        connection = server.send("GET /stream HTTP/1.1\nHost: x")
        assert b"200" in read_until(connection, b'"2 "')
        server.stop()
        connection.close()
    (root,) = roots(sink, "GET /stream") or roots(sink, "GET")
    assert root.attributes["rootspan.outcome"] in ("cancelled", "unfinished")


@pytest.mark.parametrize("server", ["uvicorn"], indirect=True)
def test_web_87_an_interim_response_is_the_apps_own_doing(server: Server) -> None:
    head = "POST /{} HTTP/1.1\nHost: x\nContent-Length: 5\nExpect: 100-continue\nConnection: close"
    connection = server.send(head.format("unread"))
    unread = read_until(connection, b"unread")
    connection.close()
    assert b"unread" in unread
    assert b"100 Continue" not in unread
    connection = server.send(head.format("read"))
    assert b"100 Continue" in read_until(connection, b"\r\n\r\n")
    connection.sendall(b"12345")
    assert read_until(connection, b"\r\n\r\n5").endswith(b"5")
    connection.close()


def test_a_socket_is_one_span_under_real_servers(server: Server, sink: Sink) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    connection = server.send(
        "GET /ws/7 HTTP/1.1\nHost: x\nUpgrade: websocket\nConnection: Upgrade\n"
        f"Sec-WebSocket-Version: 13\nSec-WebSocket-Key: {key}"
    )
    assert b"101" in read_until(connection, b"\r\n\r\n")
    connection.sendall(b"\x81\x82\x00\x00\x00\x00hi")  # a masked text frame
    assert b"bye" in read_until(connection, b"\x88\x02\x03\xe8")  # and the app's close frame
    connection.sendall(b"\x88\x82\x00\x00\x00\x00\x03\xe8")  # a masked close frame, 1000
    connection.close()
    spans = sink.wait(2, timeout=60)
    root = next(span for span in spans if span.parent_id is None)
    assert root.name == "WEBSOCKET /ws/{room}"
    assert root.attributes["http.response.status_code"] == 101
    assert root.attributes["rootspan.websocket.close_code"] == 1000
    assert (root.attributes["rootspan.websocket.received"], root.attributes["rootspan.websocket.sent"]) == (1, 1)


@pytest.mark.parametrize("worker", ["uvicorn.workers.UvicornWorker", "asgi"])
@pytest.mark.parametrize("options", [["--max-requests", "15"], ["--preload"]], ids=["max-requests", "preload"])
def test_web_80_gunicorn_workers_that_fork_and_retire(
    folder: Path, sink: Sink, worker: str, options: list[str]
) -> None:
    if worker == "asgi" and importlib.util.find_spec("gunicorn.asgi") is None:
        pytest.skip("this gunicorn has no ASGI worker of its own")
    command = [*GUNICORN, worker, "-w", "2", *options]
    retired = "--max-requests" in options
    answered: list[int] = []
    with Server(command, folder, sink.url, TRACK_AT_IMPORT="1") as server:
        for number in range(3_000):
            if number >= 60 and (not retired or server.log.count("Booting worker") > 4):
                break
            with contextlib.suppress(ConnectionError, http.client.RemoteDisconnected):  # a worker that retires just now
                assert server.get(f"/n/{number}") == (200, str(number).encode()), server.log
                answered.append(number)
        server.stop()
    found = roots(sink, "GET /n/{n}")
    recorded = [int(span.attributes["session.id"]) for span in found]
    assert len(set(recorded)) == len(recorded)
    assert set(answered) <= set(recorded)
    imported = [span.attributes["input.value"] for span in sink.spans if span.name == "imported"]
    assert len(set(imported)) == len(imported)
    pids = {span.attributes["pid"] for span in sink.spans if span.name == "answer"}
    if not retired:
        assert len(imported) == 1  # by the parent; its workers send none of it again
        assert imported[0] not in map(str, pids)
    else:
        assert len(pids) > 2
        assert {str(pid) for pid in pids} <= set(imported)


def test_web_81_uvicorn_workers_that_are_spawned(folder: Path, sink: Sink) -> None:
    with Server([*SERVERS["uvicorn"], "--workers", "2"], folder, sink.url) as server:
        hammer(server, range(40))
        server.stop()
    one_each(sink, range(40))


def test_web_81_a_reload_loses_nothing_and_stalls_nowhere(folder: Path, sink: Sink) -> None:
    with Server([*SERVERS["uvicorn"], "--reload"], folder, sink.url) as server:
        assert server.get("/n/0") == (200, b"0")
        (folder / "served.py").write_text(textwrap.dedent(APP) + "\nVERSION = 2\n")
        deadline = time.monotonic() + 60
        while server.log.count("Application startup complete") < 2:
            assert time.monotonic() < deadline, server.log
            time.sleep(0.05)
        assert server.get("/n/1") == (200, b"1")
        server.stop()
    one_each(sink, range(2))


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn-uvicorn"], indirect=True)
def test_web_83_a_collector_that_hangs_delays_neither_answers_nor_the_end(server: Server, sink: Sink) -> None:
    sink.script(lambda request: hang(120))
    started = time.monotonic()
    hammer(server, range(40))
    assert time.monotonic() - started < 60  # a request that waited for the collector would take 120
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 30  # 5 s are ours, at most twice: on the app's shutdown and at exit


BARE = """
    import rootspan
    from rootspan_starlette import RootspanMiddleware, with_lifespan

    async def bare(scope, receive, send):
        assert scope["type"] == "http", "this app has no lifespan"
        rootspan.track_ai("answer", convo_id=scope["path"][1:])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    app = with_lifespan(RootspanMiddleware(bare))
"""


@pytest.mark.parametrize("name", ["uvicorn", "hypercorn"])
def test_an_app_without_a_lifespan_delivers_at_its_end(name: str, tmp_path: Path, sink: Sink) -> None:
    (tmp_path / "served.py").write_text(textwrap.dedent(BARE))
    with Server(SERVERS[name], tmp_path, sink.url) as server:
        for number in range(10):
            assert server.get(f"/{number}") == (200, b"ok")
        server.stop()
        assert "no lifespan" not in server.log
    found = roots(sink, "GET")
    assert sorted(span.attributes["session.id"] for span in found) == [str(number) for number in range(10)]
