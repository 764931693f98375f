"""A search that answers in words, for people (a page) and programs (JSON, streamed or not).

Start it with `flask --app flask_search run`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Flask, Response, abort, g, make_response, render_template, request, stream_with_context

import rootspan
from flask_search import handbook, model
from rootspan_flask import Rootspan

tracking = Rootspan(
    user_id=lambda request: request.headers.get("x-user-id"),  # this app's stand-in for a login
    convo_id=lambda request: request.headers.get("x-conversation-id"),
    response_header="x-trace-id",
)
pages = Blueprint("pages", __name__)
api = Blueprint("api", __name__, url_prefix="/api")


def create_app() -> Flask:
    app = Flask(__name__)
    app.config["ROOTSPAN"] = {"service_name": "flask-search"}  # sends to ROOTSPAN_ENDPOINT, or to http://localhost:4318
    app.config.from_prefixed_env()
    tracking.init_app(app)
    app.register_blueprint(pages)
    app.register_blueprint(api)
    app.register_error_handler(model.ModelOverloadedError, overloaded)
    rootspan.calculate_cost(model.NAME, {"prompt_tokens": 1})  # loads the price list now, not during the first request
    return app


@pages.get("/")
def search() -> str:
    question = request.args.get("q", "").strip()
    found = look_up(question) if question else []
    answer = "".join(write(question, found)) if question else None
    return render_template("search.html", question=question, answer=answer, found=found)


@api.post("/ask")
def ask() -> dict[str, Any]:
    question = asked()
    reply = think(question)
    return {"reply": reply, "sources": [page.title for page in g.get("found", [])], "span_id": g.span_id}


@api.post("/ask/stream")
def ask_stream() -> Response:
    question = asked()

    def events() -> Iterator[str]:
        for word in write(question, look_up(question)):
            yield f"data: {json.dumps({'token': word})}\n\n"
        yield f"data: {json.dumps({'done': True, 'span_id': g.span_id})}\n\n"

    return Response(stream_with_context(events()), mimetype="text/event-stream")


@rootspan.tool
def search_handbook(query: str) -> list[dict[str, str]]:
    g.found = handbook.search(query)
    return [{"title": page.title, "text": page.text} for page in g.found]


def asked() -> str:
    match request.get_json():
        case {"question": str(question)}:
            return question
        case _:
            abort(make_response({"error": 'send {"question": "..."}'}, 422))


def look_up(question: str) -> list[handbook.Page]:
    search_handbook(question)
    return list(g.found)


def think(question: str) -> str:
    """Let the model decide whether it has to search."""
    messages: list[model.Message] = [{"role": "user", "content": question}]
    reply = complete(messages)
    if reply.query:
        found = json.dumps(search_handbook(reply.query))
        reply = complete([*messages, reply.message, {"role": "tool", "content": found}])
    return reply.text


def complete(messages: list[model.Message]) -> model.Reply:
    started = time.perf_counter()
    try:
        reply = model.complete(messages)
    except model.ModelOverloadedError as error:
        track(messages, None, started, error)
        raise
    track(messages, reply.text or [reply.message], started)
    return reply


def write(question: str, found: list[handbook.Page]) -> Iterator[str]:
    """Let the model answer from what was found, word by word."""
    messages: list[model.Message] = [{"role": "user", "content": question}]
    started, text = time.perf_counter(), ""
    try:
        for word in model.stream(question, found):
            text += word
            yield word
    finally:  # also when the reader goes away in the middle
        track(messages, text, started)


def track(messages: list[model.Message], output: Any, started: float, error: Exception | None = None) -> None:
    tokens: dict[str, Any] = {"prompt_tokens": model.count_tokens(messages)}
    if output is not None:
        tokens["completion_tokens"] = model.count_tokens(output)
    g.span_id = rootspan.track_ai(
        event="answer",
        model=model.NAME,
        provider=model.PROVIDER,
        input=messages,
        output=output,
        estimated_cost=rootspan.calculate_cost(model.NAME, tokens, provider=model.PROVIDER),
        duration=time.perf_counter() - started,
        error=error,
        **tokens,
    )


def overloaded(error: model.ModelOverloadedError) -> tuple[dict[str, str], int, dict[str, str]]:
    return {"error": str(error)}, 503, {"retry-after": "5"}
