"""A Flask app under real servers: every request is accounted for once, however client and server end."""

from __future__ import annotations

import http.client
import signal
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("flask", reason="the extension's framework is not in this environment")
pytest.importorskip("gunicorn", reason="gunicorn is not in this environment")
pytest.importorskip("gevent", reason="a worker class of gunicorn's is not in this environment")

from programs import until
from servers import Server
from sinks import Sink, Span

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


class Kind(NamedTuple):
    """How it is started, how many requests it takes at once, and how it is told to stop."""

    command: tuple[str, ...]
    at_once: int = 1
    stop: signal.Signals = signal.SIGTERM


def gunicorn(*options: str) -> tuple[str, ...]:
    return ("gunicorn", "served:app", "--bind", "127.0.0.1:{port}", "--log-level", "warning", *options)


SERVERS = {
    "gunicorn sync": Kind(gunicorn()),
    "gunicorn gthread": Kind(gunicorn("--worker-class", "gthread", "--threads", "4"), at_once=4),
    "gunicorn gevent": Kind(gunicorn("--worker-class", "gevent"), at_once=4),
    "gunicorn preload": Kind(gunicorn("--preload", "--workers", "2")),
    "gunicorn max-requests": Kind(gunicorn("--max-requests", "7")),
    # Its SIGTERM is Python's own, which ends a process at once; Ctrl-C is how it is stopped.
    "flask run": Kind(("flask", "--app", "served", "run", "--port", "{port}"), at_once=4, stop=signal.SIGINT),
}


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return SERVERS[request.param]


@pytest.fixture
def server(kind: Kind, sink: Sink, tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "served.py").write_text(textwrap.dedent(APP))
    with Server([*kind.command], tmp_path, sink.url) as server:
        yield server


def roots(sink: Sink) -> list[Span]:
    """Every request's root; each has arrived once, and so has what was tracked in it."""
    spans = sink.spans
    assert set(Counter(span.span_id for span in spans).values()) <= {1}
    found = [span for span in spans if span.parent_id is None]
    children = Counter(span.parent_id for span in spans if span.parent_id is not None)
    assert children == {span.span_id: 1 for span in found if "unfinished" not in span.attributes.values()}
    return found


def test_web_80_requests_over_kept_connections_are_accounted_for_once(kind: Kind, server: Server, sink: Sink) -> None:
    """Workers that a `--max-requests` replaces, and queues that a `--preload` made before the fork, lose nothing."""
    connection = server.session()
    answered = []
    while len(answered) < 30:  # a connection that the server has closed is opened again by http.client
        try:
            answered.append(server.get(f"/n/{len(answered)}", connection)[1].decode())
        except (ConnectionError, http.client.HTTPException):
            connection.close()  # between two workers
    connection.close()
    assert answered == [str(n) for n in range(30)]
    server.stop(kind.stop)
    found = roots(sink)
    assert {span.name for span in found} == {"GET /n/<int:n>"}
    assert {span.attributes["session.id"] for span in found} == set(answered)


def test_web_51_a_client_that_goes_away_is_one_cancelled_request(kind: Kind, server: Server, sink: Sink) -> None:
    with server.send("GET /stream/1 HTTP/1.1\nHost: x") as client:
        assert client.recv(100)
    until(lambda: len(sink.spans) == 2)
    assert server.get("/n/2") == (200, b"2")
    server.stop(kind.stop)
    streamed, other = sorted(roots(sink), key=lambda span: span.start)
    assert streamed.name == "GET /stream/<int:n>"
    assert streamed.attributes["rootspan.outcome"] == "cancelled"
    assert streamed.attributes["rootspan.stream.chunks"] >= 1
    assert streamed.status_code == 0
    assert (other.name, other.attributes["session.id"]) == ("GET /n/<int:n>", "2")


def test_web_83_a_server_stopped_during_requests_accounts_for_each_once(
    kind: Kind, server: Server, sink: Sink, tmp_path: Path
) -> None:
    answers: list[bytes] = []

    def ask(n: int) -> None:
        try:
            answers.append(server.get(f"/slow/{n}")[1])
        except (ConnectionError, http.client.HTTPException):
            return  # the development server cuts what it has not answered

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(kind.at_once)]
    for thread in threads:
        thread.start()
    begun = tmp_path / "begun"
    until(lambda: begun.exists() and begun.stat().st_size == kind.at_once)
    server.process.send_signal(kind.stop)
    if kind.stop is signal.SIGTERM:  # while it waits for them
        (tmp_path / "go on").touch()
    server.process.wait(server.patience)
    for thread in threads:
        thread.join(server.patience)
    found = roots(sink)
    assert [span.name for span in found if "unfinished" not in span.attributes.values()] == (
        ["GET /slow/<int:n>"] * len(answers)
    )
    assert len(found) == kind.at_once
    if kind.stop is signal.SIGTERM:
        assert sorted(answers) == [str(n).encode() for n in range(kind.at_once)]
