"""The contract of a web adapter, kept by the extension in a Flask app."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("flask", reason="the extension's framework is not in this environment")

from flask import Blueprint, Flask, Response, request, stream_with_context

from rootspan import Tracker
from rootspan.testing import Echo, WebContract, WsgiClient
from rootspan_flask import Rootspan


def echo_app(echo: Echo) -> Flask:
    app = Flask("echo")
    area = Blueprint("area", "echo", url_prefix="/mounted/<area>")
    for path, view in (
        ("/raise", echo.fail), ("/tool", echo.tool), ("/turns", echo.turns), ("/thread", echo.thread),
        ("/current", echo.current), ("/host", echo.host), ("/echo/<name>", echo.echo), ("/login/<name>", echo.login),
    ):  # fmt: skip
        app.add_url_rule(path, path, view)

    @app.post("/read")
    def read() -> str:
        return echo.read(request.get_data())

    @app.post("/ignore")
    def ignore() -> str:
        return "ignored"

    @app.get("/status/<int:code>")
    def status(code: int) -> Response:
        return Response(status=code, mimetype="text/plain")

    @app.get("/stream/<int:count>")
    def stream(count: int) -> Response:
        return Response(echo.stream(count))

    @app.get("/stream-turn")
    def stream_turn() -> Response:
        return Response(echo.stream_turn())

    @app.get("/stream-raise")
    def stream_raise() -> Response:
        return Response(stream_with_context(echo.stream_fail()))

    @area.get("/inner/<name>")
    def inner(area: str, name: str) -> str:
        return name

    @app.post("/chat")
    def chat() -> Response:
        return Response(echo.chat(request.get_data()), mimetype="application/json")

    @app.post("/chat-stream")
    def chat_stream() -> Response:
        return Response(echo.chat_stream(request.get_data()), mimetype="text/event-stream")

    app.register_blueprint(area)
    return app


class TestFlask(WebContract):
    def template(self, path: str) -> str:
        return path.replace("{code}", "<int:code>").replace("{", "<").replace("}", ">")

    @contextmanager
    def serve(self, tracker: Tracker, **options: Any) -> Iterator[WsgiClient]:
        app = echo_app(Echo(tracker))
        Rootspan(app, tracker=tracker, **options)
        with WsgiClient(app) as client:
            yield client
