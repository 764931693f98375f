"""A Flask app under real servers: every request is accounted for once, however client and server end."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("flask", reason="the extension's framework is not in this environment")
pytest.importorskip("gunicorn", reason="gunicorn is not in this environment")
pytest.importorskip("gevent", reason="a worker class of gunicorn's is not in this environment")

from programs import until
from sinks import Sink, Span

PATIENCE = 30.0  # seconds; a starved machine is no failure

APP = """
    import os, time
    import rootspan
    from flask import Flask, Response
    from rootspan_flask import Rootspan

    app = Flask("served")
    Rootspan(app)

    @app.get("/n/<int:n>")
    def one(n):
        rootspan.track_ai("answer", convo_id=n, input="Q", output="A")
        return str(n)

    @app.get("/slow/<int:n>")
    def slow(n):
        with open("begun", "a") as file:
            file.write("x")
        while not os.path.exists("go on"):
            time.sleep(0.02)
        return one(n)

    @app.get("/stream/<int:n>")
    def stream(n):
        def chunks():
            rootspan.track_ai("answer", convo_id=n, input="Q", output="A")
            while True:
                yield "x" * 10_000
                time.sleep(0.005)
        return Response(chunks())
"""


class Server(NamedTuple):
    """How it is started, how many requests it takes at once, and how it is told to stop."""

    command: tuple[str, ...]
    at_once: int = 1
    stop: signal.Signals = signal.SIGTERM


def gunicorn(*options: str) -> tuple[str, ...]:
    return ("gunicorn", "served:app", "--bind", "127.0.0.1:{port}", "--log-level", "warning", *options)


SERVERS = {
    "gunicorn sync": Server(gunicorn()),
    "gunicorn gthread": Server(gunicorn("--worker-class", "gthread", "--threads", "4"), at_once=4),
    "gunicorn gevent": Server(gunicorn("--worker-class", "gevent"), at_once=4),
    "gunicorn preload": Server(gunicorn("--preload", "--workers", "2")),
    "gunicorn max-requests": Server(gunicorn("--max-requests", "7")),
    # Its SIGTERM is Python's own, which ends a process at once; Ctrl-C is how it is stopped.
    "flask run": Server(("flask", "--app", "served", "run", "--port", "{port}"), at_once=4, stop=signal.SIGINT),
}


class Running(NamedTuple):
    server: Server
    process: subprocess.Popen[bytes]
    port: int
    folder: Path

    def get(self, path: str) -> bytes:
        """Ask once; an answer that was begun is complete."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def stop(self) -> None:
        self.process.send_signal(self.server.stop)
        self.process.wait(PATIENCE)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def serving(server: Server, sink: Sink, folder: Path) -> Iterator[Running]:
    (folder / "served.py").write_text(textwrap.dedent(APP))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    paths = os.pathsep.join([str(folder), *map(os.path.abspath, sys.path)])
    environ = {**os.environ, "PYTHONPATH": paths, "ROOTSPAN_ENDPOINT": sink.url}
    command = [part.format(port=port) for part in server.command]
    process = subprocess.Popen(
        [sys.executable, "-m", *command], cwd=folder, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: process.poll() is not None or accepts(port))
        assert process.poll() is None, "it did not start"
        yield Running(server, process, port, folder)
    finally:
        process.kill()
        process.wait()


def roots(sink: Sink) -> list[Span]:
    """Every request's root; each has arrived once, and so has what was tracked in it."""
    spans = sink.spans
    assert set(Counter(span.span_id for span in spans).values()) <= {1}
    found = [span for span in spans if span.parent_id is None]
    children = Counter(span.parent_id for span in spans if span.parent_id is not None)
    assert children == {span.span_id: 1 for span in found if "unfinished" not in span.attributes.values()}
    return found


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Server:
    return SERVERS[request.param]


def test_web_80_requests_over_kept_connections_are_accounted_for_once(
    server: Server, sink: Sink, tmp_path: Path
) -> None:
    """Workers that a `--max-requests` replaces, and queues that a `--preload` made before the fork, lose nothing."""
    with serving(server, sink, tmp_path) as running:
        connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE)
        answered = []
        while len(answered) < 30:  # a connection that the server has closed is opened again by http.client
            try:
                connection.request("GET", f"/n/{len(answered)}")
                answered.append(connection.getresponse().read().decode())
            except (ConnectionError, http.client.HTTPException):
                connection.close()  # between two workers
        connection.close()
        assert answered == [str(n) for n in range(30)]
        running.stop()
    found = roots(sink)
    assert {span.name for span in found} == {"GET /n/<int:n>"}
    assert {span.attributes["session.id"] for span in found} == set(answered)


def test_web_51_a_client_that_goes_away_is_one_cancelled_request(server: Server, sink: Sink, tmp_path: Path) -> None:
    with serving(server, sink, tmp_path) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE) as client:
            client.sendall(b"GET /stream/1 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(100)
        until(lambda: len(sink.spans) == 2)
        assert running.get("/n/2") == b"2"
        running.stop()
    streamed, other = sorted(roots(sink), key=lambda span: span.start)
    assert streamed.name == "GET /stream/<int:n>"
    assert streamed.attributes["rootspan.outcome"] == "cancelled"
    assert streamed.attributes["rootspan.stream.chunks"] >= 1
    assert streamed.status_code == 0
    assert (other.name, other.attributes["session.id"]) == ("GET /n/<int:n>", "2")


def test_web_83_a_server_stopped_during_requests_accounts_for_each_once(
    server: Server, sink: Sink, tmp_path: Path
) -> None:
    answers: list[bytes] = []

    def ask(running: Running, n: int) -> None:
        try:
            answers.append(running.get(f"/slow/{n}"))
        except (ConnectionError, http.client.HTTPException):
            return  # the development server cuts what it has not answered

    with serving(server, sink, tmp_path) as running:
        threads = [threading.Thread(target=ask, args=(running, n)) for n in range(server.at_once)]
        for thread in threads:
            thread.start()
        begun = tmp_path / "begun"
        until(lambda: begun.exists() and begun.stat().st_size == server.at_once)
        running.process.send_signal(server.stop)
        if server.stop is signal.SIGTERM:  # while it waits for them
            (tmp_path / "go on").touch()
        running.process.wait(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)
    found = roots(sink)
    assert [span.name for span in found if "unfinished" not in span.attributes.values()] == (
        ["GET /slow/<int:n>"] * len(answers)
    )
    assert len(found) == server.at_once
    if server.stop is signal.SIGTERM:
        assert sorted(answers) == [str(n).encode() for n in range(server.at_once)]
