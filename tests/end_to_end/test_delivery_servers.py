"""Delivery under real servers that are told to stop: a rolling deploy loses nothing (delivery 2)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from programs import ids
from rootspan import Tracker
from sinks import Sink

for name in ("uvicorn", "gunicorn", "hypercorn", "fastapi"):
    pytest.importorskip(name, reason="the core's environments have no servers")

ASGI = """
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
WSGI = """
    import rootspan
    rootspan.track_ai("loaded")

    def app(environ, start_response):
        number = environ["PATH_INFO"].rpartition("/")[2]
        with rootspan.begin("request"):
            rootspan.track_ai("answer", input="Q", output="A", convo_id=number)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [number.encode()]
"""
# what to start, and which app; each adds where to listen
SERVERS = {
    "uvicorn": (["uvicorn", "--log-level", "warning", "served:app"], ASGI),
    "uvicorn, two workers": (["uvicorn", "--workers", "2", "--log-level", "warning", "served:app"], ASGI),
    "hypercorn": (["hypercorn", "served:app"], ASGI),
    "gunicorn sync": (["gunicorn", "-w", "2", "served:app"], WSGI),
    "gunicorn threads": (["gunicorn", "-k", "gthread", "--threads", "4", "served:app"], WSGI),
    "gunicorn preload": (["gunicorn", "-w", "2", "--preload", "served:app"], WSGI),
    "gunicorn max-requests": (["gunicorn", "-w", "2", "--max-requests", "7", "served:app"], WSGI),
    "gunicorn uvicorn worker": (["gunicorn", "-w", "2", "-k", "uvicorn.workers.UvicornWorker", "served:app"], ASGI),
}
COUNT = 40


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def fetch(port: int, number: int, deadline: float) -> None:
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/n/{number}", timeout=20) as answer:
                assert answer.read() == str(number).encode()
                return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.1)


@pytest.mark.parametrize("mode", ["memory", "spool"])
@pytest.mark.parametrize("server", SERVERS)
def test_delivery_02_a_server_that_is_stopped_right_after_the_last_request(
    server: str, mode: str, sink: Sink, tmp_path: Path
) -> None:
    command, app = SERVERS[server]
    (tmp_path / "served.py").write_text(textwrap.dedent(app))
    port = free_port()
    listen = ["--port", str(port)] if command[0] == "uvicorn" else ["--bind", f"127.0.0.1:{port}"]
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *map(os.path.abspath, sys.path)]),
        "PYTHONWARNINGS": "ignore",
        "ROOTSPAN_ENDPOINT": sink.url,
        **({"ROOTSPAN_SPOOL": str(tmp_path / "spool")} if mode == "spool" else {}),
    }
    process = subprocess.Popen([sys.executable, "-m", *command, *listen], cwd=tmp_path, env=environ)
    try:
        deadline = time.monotonic() + 60
        for number in range(COUNT):
            fetch(port, number, deadline)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    if mode == "spool":  # what a slow machine did not send within its second
        tracker = Tracker(endpoint=sink.url, spool=str(tmp_path / "spool"))
        sink.wait(2 * COUNT, 60)
        tracker.shutdown()
    answers = {span.attributes["session.id"] for span in sink.find("answer")}
    assert answers == {str(number) for number in range(COUNT)}
    loaded = {span.span_id for span in sink.find("loaded")}
    assert len(loaded) >= (app is WSGI)
    # a request that was cut by a worker's end is asked again, and is then there twice
    assert len(ids(sink)) >= 2 * COUNT + len(loaded)
