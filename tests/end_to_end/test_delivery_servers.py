"""Delivery under real servers that are told to stop: a rolling deploy loses nothing (delivery 2)."""

from __future__ import annotations

import contextlib
import http.client
import textwrap
from pathlib import Path

import pytest

from programs import ids
from rootspan import Tracker
from servers import Server
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
GUNICORN = ["gunicorn", "--bind", "127.0.0.1:{port}"]
# what to start, and which app
SERVERS = {
    "uvicorn": (["uvicorn", "--port", "{port}", "served:app"], ASGI),
    "uvicorn, two workers": (["uvicorn", "--port", "{port}", "--workers", "2", "served:app"], ASGI),
    "hypercorn": (["hypercorn", "--bind", "127.0.0.1:{port}", "served:app"], ASGI),
    "gunicorn sync": ([*GUNICORN, "-w", "2", "served:app"], WSGI),
    "gunicorn threads": (
        [*GUNICORN, "-k", "gthread", "--threads", "4", "served:app"],
        WSGI,
    ),
    "gunicorn preload": ([*GUNICORN, "-w", "2", "--preload", "served:app"], WSGI),
    "gunicorn max-requests": (
        [*GUNICORN, "-w", "2", "--max-requests", "7", "served:app"],
        WSGI,
    ),
    "gunicorn uvicorn worker": (
        [*GUNICORN, "-w", "2", "-k", "uvicorn.workers.UvicornWorker", "served:app"],
        ASGI,
    ),
}
COUNT = 40


@pytest.mark.parametrize("mode", ["memory", "spool"])
@pytest.mark.parametrize("name", SERVERS)
def test_delivery_02_a_server_that_is_stopped_right_after_the_last_request(
    name: str, mode: str, sink: Sink, tmp_path: Path
) -> None:
    command, app = SERVERS[name]
    (tmp_path / "served.py").write_text(textwrap.dedent(app))
    spool = {"ROOTSPAN_SPOOL": str(tmp_path / "spool")} if mode == "spool" else {}
    with Server(command, tmp_path, sink.url, PYTHONWARNINGS="ignore", **spool) as server:
        for number in range(COUNT):
            while True:
                with contextlib.suppress(ConnectionError, http.client.BadStatusLine):  # a worker that retires
                    assert server.get(f"/n/{number}") == (200, str(number).encode())
                    break
        server.stop()
    if mode == "spool":  # what a slow machine did not send within its second
        tracker = Tracker(endpoint=sink.url, spool=spool["ROOTSPAN_SPOOL"])
        sink.wait(2 * COUNT, 60)
        tracker.shutdown()
    answers = {span.attributes["session.id"] for span in sink.find("answer")}
    assert answers == {str(number) for number in range(COUNT)}
    loaded = {span.span_id for span in sink.find("loaded")}
    assert len(loaded) >= (app is WSGI)
    # a request that was cut by a worker's end is asked again, and is then there twice
    assert len(ids(sink)) >= 2 * COUNT + len(loaded)
