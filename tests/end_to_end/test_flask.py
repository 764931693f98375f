"""The Flask extension in real apps: what a request becomes, and that the app does not notice."""

from __future__ import annotations

import contextvars
import gc
import json
import os
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

pytest.importorskip("flask", reason="the extension's framework is not in this environment")

import flask
from flask import Blueprint, Flask, Response, abort, copy_current_request_context, request, stream_with_context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import create_environ
from werkzeug.wsgi import FileWrapper

import rootspan
from rootspan import ConfigurationError, Tracker
from rootspan.testing import Captured, WsgiClient, captured_spans
from rootspan_flask import Rootspan, extension
from sinks import Sink

Serve = Callable[..., Flask]


@pytest.fixture
def tracker(captured: Captured) -> Tracker:
    return captured.tracker


@pytest.fixture
def app(tracker: Tracker) -> Flask:
    """An app with the extension, to add views to."""
    app = Flask("shop", static_folder=None)
    Rootspan(app, tracker=tracker)
    return app


class Got(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str
    error: BaseException | None


def get(app: Any, path: str = "/", method: str = "GET", **headers: str) -> Got:
    """The answer to a request, read to its end and closed."""
    answer = WsgiClient(app).request(method, path, headers)
    return Got(answer.status, answer.headers, answer.text, answer.error)


def route(app: Flask | Blueprint, path: str, view: Callable[..., Any]) -> None:
    app.add_url_rule(path, path, view)


def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
    return lambda data: None


# What the app must not notice


def test_web_64_an_untrusted_host_stays_a_400(app: Flask, captured: Captured) -> None:
    app.config["TRUSTED_HOSTS"] = ["good.example"]  # since Flask 3.1
    route(app, "/", lambda: "ok")
    assert get(app, host="good.example").status == 200
    bad = get(app, host="evil.example")
    root = captured.roots[1]
    assert bad.status == root.attributes["http.response.status_code"]
    if hasattr(flask.Request, "trusted_hosts") and "TRUSTED_HOSTS" in Flask.default_config:
        assert bad.status == 400
    assert not root.failed


@pytest.mark.parametrize("host", ["\x8a", "a b", "x" * 10_000, ":", "[::", "héllo"])
def test_web_3_50_a_broken_host_changes_nothing(tracker: Tracker, captured: Captured, host: str) -> None:
    bare, ours = Flask("shop"), Flask("shop")
    Rootspan(ours, tracker=tracker, user_id=lambda request: request.host, capture_headers=["host", "x-odd"])
    for app in (bare, ours):
        route(app, "/", lambda: "ok")
    answers = [get(app, host=host, **{"x-odd": "\xff" * 10_000}) for app in (bare, ours)]
    assert answers[0] == answers[1]
    assert captured.one().attributes["http.response.status_code"] == answers[0].status


@pytest.mark.parametrize("served", [False, True])
def test_web_65_the_app_is_freed_by_its_reference_count(tracker: Tracker, served: bool) -> None:
    gc.collect()
    gc.disable()
    try:
        app = Flask("shop")
        Rootspan(app, tracker=tracker)
        route(app, "/", lambda: Response(iter(["a", "b"])))
        if served:
            with app.test_client() as client:
                assert client.get("/").data == b"ab"
            del client
        alive = weakref.ref(app)
        del app
        assert alive() is None
    finally:
        gc.enable()


def test_web_65_who_holds_only_wsgi_app_can_still_serve_it(tracker: Tracker, captured: Captured) -> None:
    def create_app() -> Flask:
        app = Flask("shop")
        Rootspan(app, tracker=tracker)
        route(app, "/", lambda: "ok")
        return app

    wsgi_app = create_app().wsgi_app
    gc.collect()
    assert get(wsgi_app).text == "ok"
    assert captured.one().name == "GET /"


class Untouchable:
    """A request body that must not be read; `wsgi.input` of a server that waits for the client."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the body was read with {name}")


def test_web_66_87_a_body_that_the_view_did_not_read_is_not_read(app: Flask, captured: Captured) -> None:
    app.post("/")(lambda: "ignored")
    environ = create_environ("/", method="POST", content_type="application/json", headers={"Expect": "100-continue"})
    environ["wsgi.input"], environ["CONTENT_LENGTH"] = Untouchable(), "1000"
    assert b"".join(app(environ, start_response)) == b"ignored"
    assert captured.one().name == "POST /"


@pytest.mark.parametrize("where", ["in the view", "in a thread", "raising in the view"])
def test_web_67_a_copied_context_does_not_end_the_request(
    app: Flask, tracker: Tracker, captured: Captured, where: str
) -> None:
    @app.get("/")
    def view() -> str:
        @copy_current_request_context
        def work() -> None:
            tracker.track_ai("copied", input=request.path)
            if where == "raising in the view":
                raise LookupError

        if where == "in a thread":
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        elif where == "in the view":
            work()
        else:
            with pytest.raises(LookupError):
                work()
        tracker.track_ai("after")
        return "ok"

    assert get(app).text == "ok"
    root = captured.one()
    assert not root.failed
    assert [captured.one(name).parent_id for name in ("copied", "after")] == [root.span_id] * 2
    assert captured.spans[-1] == root


@pytest.mark.parametrize("copied", [False, True])
def test_web_67_a_thread_that_ends_itself_in_a_copied_context_does_not_end_the_request(
    app: Flask, tracker: Tracker, captured: Captured, copied: bool
) -> None:
    def work() -> None:
        tracker.track_ai("copied")
        sys.exit()

    @app.get("/")
    def view() -> str:
        within = copy_current_request_context(work)
        context = contextvars.copy_context()

        def run() -> None:
            with pytest.raises(SystemExit):  # which pytest does not take for the end of the thread that it is
                context.run(within) if copied else within()

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        tracker.track_ai("after", output="the answer")
        return "ok"

    assert get(app).text == "ok"
    root = captured.one()
    assert (root.failed, root.attributes["output.value"]) == (False, "the answer")
    assert [captured.one(name).parent_id for name in ("copied", "after")] == [root.span_id] * 2


def test_web_67_a_copied_context_in_call_on_close(app: Flask, tracker: Tracker, captured: Captured) -> None:
    @app.get("/")
    def view() -> Response:
        response = Response(iter(["a", "b"]))
        response.call_on_close(copy_current_request_context(lambda: tracker.track_ai("closed") and None))
        return response

    assert get(app).text == "ab"
    assert captured.one("closed").parent_id == captured.one().span_id
    assert "rootspan.outcome" not in captured.one().attributes


def test_web_67_a_thread_that_outlives_the_request_is_linked_to_it(
    app: Flask, tracker: Tracker, captured: Captured
) -> None:
    over, threads = threading.Event(), []

    @app.get("/")
    def view() -> str:
        tracker.update_current(user_id="u1")

        @copy_current_request_context
        def work() -> None:
            assert over.wait(30)
            tracker.track_ai("late")

        threads.append(threading.Thread(target=work))
        threads[0].start()
        return "ok"

    assert get(app).text == "ok"
    root = captured.one()
    over.set()
    threads[0].join()
    late = captured.one("late")
    assert late.parent_id is None
    assert late.links == [(root.trace_id, root.span_id)]
    assert late.attributes["user.id"] == "u1"


def test_web_68_contexts_without_a_request_are_silent(app: Flask, tracker: Tracker, captured: Captured) -> None:
    route(app, "/", lambda: "ok")
    with app.test_request_context("/"):
        assert tracker.current() is None
    with app.app_context():
        assert tracker.current() is None
    assert not captured.spans


@pytest.mark.parametrize("with_context", [False, True])
@pytest.mark.parametrize("left", [False, True])
def test_web_69_74_a_stream_ends_at_close_and_not_at_teardown(
    app: Flask, tracker: Tracker, captured: Captured, with_context: bool, left: bool
) -> None:
    closed: list[str] = []

    @app.get("/")
    def view() -> Response:
        def chunks() -> Iterator[str]:
            try:
                for number in range(3):
                    tracker.track_ai(f"step {number}", input=request.path if with_context else None)
                    yield "é"
            finally:
                tracker.track_ai("cleaning up")
                closed.append("closed")

        return Response(stream_with_context(chunks()) if with_context else chunks())

    iterable = app(create_environ("/"), start_response)
    chunks = iter(iterable)
    taken = [next(chunks)]
    assert not captured.roots
    if not left:
        taken += list(chunks)
    assert not captured.roots, "the server has not closed it"
    iterable.close()  # type: ignore[attr-defined]
    iterable.close()  # type: ignore[attr-defined]
    root = captured.one()
    assert closed == ["closed"]
    assert root.attributes["rootspan.stream.chunks"] == len(taken)
    assert root.attributes["rootspan.stream.bytes"] == len(b"".join(taken)) == 2 * len(taken)
    assert root.attributes.get("rootspan.outcome") == ("cancelled" if left else None)
    assert not root.failed
    assert {span.parent_id for span in captured.spans if span != root} == {root.span_id}
    assert captured.one("cleaning up").parent_id == root.span_id


@pytest.mark.parametrize("options", [{"direct_passthrough": True}, {"headers": {"Content-Length": "6"}}], ids=str)
@pytest.mark.parametrize("left", [False, True])
def test_web_69_a_generator_is_a_stream_however_it_is_handed_out(
    app: Flask, tracker: Tracker, captured: Captured, options: dict[str, Any], left: bool
) -> None:
    def chunks() -> Iterator[bytes]:
        for chunk in (b"one", b"two"):
            tracker.track_ai("step")
            yield chunk

    route(app, "/", lambda: Response(chunks(), **options))
    iterable: Any = app(create_environ("/"), start_response)
    stream = iter(iterable)
    taken = [next(stream)] if left else list(stream)
    assert not captured.roots
    iterable.close()
    del iterable, stream
    root = captured.one()
    assert root.attributes["rootspan.stream.chunks"] == len(taken)
    assert root.attributes.get("rootspan.outcome") == ("cancelled" if left else None)
    assert [span.parent_id for span in captured.spans if span != root] == [root.span_id] * len(taken)


@pytest.mark.parametrize("path", ["/answers", "/raises", "/aborts"])
def test_web_70_a_before_request_that_answers_or_raises_yields_a_record(
    app: Flask, captured: Captured, path: str
) -> None:
    @app.before_request
    def before() -> Any:
        if request.path == "/answers":
            return "early", 202
        if request.path == "/aborts":
            abort(401)
        raise LookupError("early")

    answer = get(app, path)
    root = captured.one()
    assert (
        answer.status
        == root.attributes["http.response.status_code"]
        == {"/answers": 202, "/aborts": 401}.get(path, 500)
    )
    assert root.failed == (path == "/raises")


def test_web_70_an_after_request_that_raises_yields_one_failure(app: Flask, captured: Captured) -> None:
    route(app, "/", lambda: "ok")

    @app.after_request
    def after(response: Response) -> Response:
        raise LookupError("late")

    assert get(app).status == 500
    root = captured.one()
    assert (root.attributes["error.type"], root.attributes["http.response.status_code"]) == ("LookupError", 500)


def test_web_70_a_session_that_can_not_be_opened_is_a_failure(app: Flask, captured: Captured) -> None:
    class Sessions(flask.sessions.SecureCookieSessionInterface):
        def open_session(self, app: Flask, request: flask.Request) -> Any:
            raise LookupError("the store is down")

    app.session_interface = Sessions()
    route(app, "/", lambda: flask.session.get("x", "ok"))
    assert get(app).status == 500
    assert captured.one().attributes["error.type"] == "LookupError"


def test_web_71_teardown_functions_run_in_their_order_and_inside_the_request(
    app: Flask, tracker: Tracker, captured: Captured
) -> None:
    order: list[str] = []

    def noting(name: str) -> Callable[[Any], None]:
        def teardown(error: Any) -> None:
            order.append(name)
            tracker.track_ai(name)

        return teardown

    for name in ("first", "second"):
        app.teardown_request(noting(name))
    route(app, "/", lambda: "ok")
    assert get(app).text == "ok"
    assert order == ["second", "first"]
    assert {captured.one(name).parent_id for name in order} == {captured.one().span_id}


def test_web_71_an_exception_that_the_caller_is_handling_is_none_of_the_requests(
    app: Flask, tracker: Tracker, captured: Captured
) -> None:
    app.add_url_rule("/", "one", lambda: "A")
    app.teardown_request(lambda error: None)
    try:
        raise LookupError("the caller's")
    except LookupError:
        assert app.test_client().get("/").text == "A"
    root = captured.one("GET /")
    assert (root.failed, root.attributes["http.response.status_code"]) == (False, 200)


@pytest.mark.parametrize("how", ["plain", "stream", "nested"])
def test_web_71_a_teardown_function_that_raises_still_raises_and_the_request_is_a_failure(
    app: Flask, tracker: Tracker, captured: Captured, how: str
) -> None:
    @app.teardown_request
    def teardown(error: Any) -> None:
        with app.app_context():
            tracker.track_ai("rollback")
        if request.path == "/":
            raise LookupError("in teardown")

    @app.get("/")
    def view() -> Any:
        if how == "nested":
            app.test_client().get("/other").close()
        return iter([b"ok"]) if how == "stream" else "ok"

    route(app, "/other", lambda: "other")
    answer = get(app)
    assert "in teardown" in "".join(traceback.format_exception(answer.error))  # since Flask 3.2 in a group
    told = isinstance(answer.error, LookupError)
    if not told or how == "nested":  # the one inside is the last that was told of, so this one is when it is dropped
        del answer
        gc.collect()
    root = captured.one("GET /")
    assert root.failed is told
    assert root.attributes["http.response.status_code"] == (500 if told else 200)
    if told:
        assert root.events[0][1]["exception.type"] == ("500" if how == "nested" else "LookupError")
    assert captured.spans[-1] == root
    assert tracker.current() is None


def test_web_71_an_error_around_the_app_is_none_of_the_requests(app: Flask, captured: Captured) -> None:
    """As where a middleware tries again while it handles what the first try raised."""
    route(app, "/", lambda: iter([b"one", b"two"]))
    try:
        raise ConnectionError
    except ConnectionError:
        body: Any = app(create_environ("/"), start_response)
        assert not captured.roots
        assert b"".join(body) == b"onetwo"
        body.close()
    assert not captured.one().failed


def test_web_71_a_receiver_of_ours_never_raises(
    tracker: Tracker, captured: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(Response):
        @property
        def is_streamed(self) -> bool:
            raise RuntimeError("a response class of the host's own")

    app = Flask("shop")
    app.response_class = Odd
    Rootspan(app, tracker=tracker)
    route(app, "/", lambda: "ok")
    assert get(app).text == "ok"
    assert "could not follow a request" in caplog.text
    gc.collect()
    assert captured.one().name == "GET /"


def test_web_71_a_context_that_is_left_while_an_error_is_handled_ends_no_request(
    app: Flask, tracker: Tracker, captured: Captured
) -> None:
    def view() -> str:
        try:
            raise LookupError("handled here")
        except LookupError:
            with app.test_request_context("/other"), app.app_context():
                pass
        tracker.track_ai("answer")
        return "ok"

    route(app, "/", view)
    assert get(app).status == 200
    root = captured.one("GET /")
    assert (root.attributes["http.response.status_code"], root.failed) == (200, False)
    assert captured.one("answer").parent_id == root.span_id


def test_web_72_no_class_of_flasks_contexts_is_imported() -> None:
    code = "import rootspan_flask.following as f, rootspan_flask.extension as e; print(*vars(f), *vars(e))"
    names = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "current_request" in names
    assert not {"RequestContext", "AppContext", "_request_ctx_stack", "request_ctx", "_cv_request"} & set(names.split())


def test_web_73_factories_and_several_apps_keep_their_own_options(captured: Captured) -> None:
    with captured_spans() as others:
        extension = Rootspan(tracker=captured.tracker, user_id=lambda request: "from the extension")
        apps = [Flask(name) for name in "abc"]
        extension.init_app(apps[0])
        extension.init_app(apps[1], event="second")
        extension.init_app(apps[2], tracker=others.tracker)
        for app in apps:
            route(app, "/", lambda: "ok")
            assert get(app).text == "ok"
        assert [span.name for span in captured.spans] == ["GET /", "second"]
        assert {span.attributes["user.id"] for span in captured.spans} == {"from the extension"}
        assert others.one().name == "GET /"


def test_web_73_blueprints_in_blueprints_name_the_whole_rule(app: Flask, captured: Captured) -> None:
    outer, inner = Blueprint("outer", "shop", url_prefix="/a/<x>"), Blueprint("inner", "shop", url_prefix="/b")
    route(inner, "/<int:y>", lambda x, y: f"{x}{y}")
    outer.register_blueprint(inner)
    app.register_blueprint(outer, url_prefix="/v1/a/<x>")
    assert get(app, "/v1/a/1/b/2").text == "12"
    assert captured.one().name == "GET /v1/a/<x>/b/<int:y>"


def test_web_73_async_views_keep_the_request(app: Flask, tracker: Tracker, captured: Captured) -> None:
    pytest.importorskip("asgiref", reason="Flask runs async views with it")
    import asyncio

    @app.get("/")
    async def view() -> str:
        async def part(name: str) -> None:
            await asyncio.sleep(0)
            with tracker.tool_span(name):
                await asyncio.sleep(0)

        tracker.update_current(user_id="u1")
        await asyncio.gather(part("one"), part("two"))
        return request.path

    for _ in range(2):
        assert get(app).text == "/"
    for root in captured.roots:
        assert {span.name for span in captured.children(root)} == {"one", "two"}
        assert root.attributes["user.id"] == "u1"
    assert tracker.current() is None


def test_web_74_a_server_that_never_closes_is_survived(app: Flask, captured: Captured) -> None:
    route(app, "/list", lambda: "ok")
    route(app, "/stream", lambda: Response(iter(["a", "b"])))
    for path in ("/list", "/stream"):
        iterable = app(create_environ(path), start_response)
        assert b"".join(iterable) in (b"ok", b"ab")
        del iterable
    gc.collect()
    assert [root.name for root in captured.roots] == ["GET /list", "GET /stream"]
    assert all("rootspan.outcome" not in root.attributes for root in captured.roots)


def test_web_74_a_stream_that_breaks_is_recorded_before_a_server_lets_go_of_it(app: Flask, captured: Captured) -> None:
    """`asgiref.wsgi.WsgiToAsgi` closes nothing, and the error that it raises keeps the iterable."""

    def broken() -> Iterator[str]:
        yield "a"
        raise LookupError("midway")

    route(app, "/", lambda: Response(broken()))
    iterable = app(create_environ("/"), start_response)
    with pytest.raises(LookupError, match="midway"):
        b"".join(iterable)
    assert captured.one().attributes["error.type"] == "LookupError"
    del iterable


@pytest.mark.parametrize("how", ["to its end", "early", "on error", "never begun"])
def test_web_74_close_of_an_apps_own_iterable_is_called_once(app: Flask, captured: Captured, how: str) -> None:
    closed: list[str] = []

    class Chunks:
        def __iter__(self) -> Iterator[str]:
            yield from "ab"
            if how == "on error":
                raise LookupError("midway")

        def close(self) -> None:
            closed.append("closed")

    route(app, "/", lambda: Response(Chunks()))  # type: ignore[arg-type]
    iterable: Any = app(create_environ("/", method="HEAD" if how == "never begun" else "GET"), start_response)
    if how == "early":
        assert next(iter(iterable)) == b"a"
    elif how == "on error":
        with pytest.raises(LookupError, match="midway"):
            b"".join(iterable)
    else:
        assert b"".join(iterable) == (b"" if how == "never begun" else b"ab")
    iterable.close()
    assert closed == ["closed"]
    assert captured.one().attributes.get("rootspan.outcome") == {"early": "cancelled", "on error": "failure"}.get(how)


@pytest.mark.parametrize("chunk", [5, "\ud800", None])
def test_web_74_what_is_no_chunk_is_refused_as_without_us(tracker: Tracker, chunk: Any) -> None:
    def outcome(app: Flask) -> str:
        route(app, "/", lambda: Response(iter(["a", chunk])))
        try:
            return repr(b"".join(app(create_environ("/"), start_response)))
        except (TypeError, UnicodeError) as error:
            return repr(error)

    bare, ours = Flask("shop"), Flask("shop")
    Rootspan(ours, tracker=tracker)
    assert outcome(ours) == outcome(bare)


def test_web_74_a_close_that_raises_reaches_the_server_and_is_recorded(app: Flask, captured: Captured) -> None:
    class Chunks:
        def __iter__(self) -> Iterator[str]:
            return iter("ab")

        def close(self) -> None:
            raise LookupError("while closing")

    route(app, "/", lambda: Response(Chunks()))  # type: ignore[arg-type]
    iterable = app(create_environ("/"), start_response)
    assert b"".join(iterable) == b"ab"
    with pytest.raises(LookupError, match="while closing"):
        iterable.close()  # type: ignore[attr-defined]
    del iterable
    gc.collect()
    assert captured.one().attributes["error.type"] == "LookupError"


@pytest.mark.parametrize("with_context", [False, True])
def test_web_75_streams_interleaved_on_one_thread_and_stepped_on_others(
    app: Flask, tracker: Tracker, captured: Captured, with_context: bool
) -> None:
    @app.get("/<name>")
    def view(name: str) -> Response:
        def chunks() -> Iterator[str]:
            for number in range(3):
                with tracker.tool_span(f"{name} {number}"):
                    tracker.track_ai(f"{name} in {number}")
                    yield name

        return Response(stream_with_context(chunks()) if with_context else chunks())

    bodies = {name: app(create_environ(f"/{name}"), start_response) for name in "ab"}
    steps = {name: iter(body) for name, body in bodies.items()}
    for number in range(3):
        for name in "ab":
            if number == 1 and not with_context:  # Flask's own context is bound to the thread that began it
                thread = threading.Thread(target=next, args=(steps[name],))
                thread.start()
                thread.join()
            else:
                assert next(steps[name]) == name.encode()
            if not with_context:  # Flask leaves its own there until the stream ends
                assert tracker.current() is None
    for name in "ba" if with_context else "ab":
        assert list(steps[name]) == []
        bodies[name].close()  # type: ignore[attr-defined]
    assert tracker.current() is None
    for name in "ab":
        tools = [captured.one(f"{name} {number}") for number in range(3)]
        (root,) = {span.parent_id for span in tools}
        assert root in {span.span_id for span in captured.roots}
        for number, tool in enumerate(tools):
            assert captured.one(f"{name} in {number}").parent_id == tool.span_id
    assert len({captured.one(f"{name} 0").trace_id for name in "ab"}) == 2


def test_web_76_a_file_goes_out_as_the_server_wraps_it(app: Flask, captured: Captured, tmp_path: Any) -> None:
    (tmp_path / "a.txt").write_text("content")
    route(app, "/", lambda: flask.send_file(tmp_path / "a.txt"))
    made: list[Any] = []

    def wrapper(file: Any, size: int = 8192) -> Any:
        made.append(FileWrapper(file, size))
        return made[-1]

    environ = create_environ("/")
    environ["wsgi.file_wrapper"] = wrapper
    iterable: Any = app(environ, start_response)
    assert iterable is made[0]
    assert b"".join(iterable) == b"content"
    iterable.close()
    root = captured.one()
    assert root.attributes["http.response.status_code"] == 200
    assert "rootspan.stream.chunks" not in root.attributes


def test_web_76_a_list_stays_a_list(app: Flask, tracker: Tracker) -> None:
    seen: list[Any] = []
    body = [b"a", b"b"]
    route(app, "/", lambda: Response(body))
    flask.request_finished.connect(lambda app, response, **_: seen.append(response.response), app, weak=False)
    answer = get(app)
    assert answer.text == "ab"
    assert answer.headers["content-length"] == "2"
    assert seen[0] is body


def test_web_76_an_answer_that_the_app_sends_again_and_again_does_not_grow(app: Flask, captured: Captured) -> None:
    kept: list[Any] = []

    class Kept(Response):
        def call_on_close(self, func: Callable[[], Any]) -> Callable[[], Any]:
            kept.append(func)
            return super().call_on_close(func)

    answer = Kept("always the same")
    app.add_url_rule("/", "same", lambda: answer)
    assert {get(app).text for _ in range(3)} == {"always the same"}
    assert len(captured) == 3
    assert kept == []


@pytest.mark.parametrize("body", ["always the same", iter(())])
def test_an_answer_that_is_sent_again_tells_the_trace_id_of_each_request(captured: Captured, body: Any) -> None:
    app, answer = Flask("shop"), Response(body)
    Rootspan(app, tracker=captured.tracker, response_header="x-trace-id")
    route(app, "/", lambda: answer)
    assert [get(app).headers["x-trace-id"] for _ in range(2)] == [root.trace_id for root in captured.roots]
    assert "x-trace-id" not in answer.headers


def test_web_77_start_response_is_called_as_the_app_calls_it(tracker: Tracker) -> None:
    def recorded(app: Flask) -> tuple[list[Any], bytes]:
        route(app, "/", lambda: Response(iter(["a"]), headers={"x-a": "1"}))
        calls: list[Any] = []
        body = app(create_environ("/"), lambda *args, **kwargs: calls.append((args, kwargs)) or None)  # type: ignore
        return calls, b"".join(body)

    bare, ours = Flask("shop"), Flask("shop")
    Rootspan(ours, tracker=tracker)
    assert recorded(ours) == recorded(bare)


def test_web_77_what_another_wsgi_app_answers_passes_with_what_it_wrote(app: Flask, captured: Captured) -> None:
    def legacy(environ: Any, start_response: Any) -> list[bytes]:
        write = start_response("409 Odd", [("x-a", "2")])
        write(b"written ")
        return [b"returned"]

    route(app, "/", lambda: legacy)
    answer = get(app)
    assert (answer.status, answer.headers["x-a"], answer.text) == (409, "2", "written returned")
    assert captured.one().attributes["http.response.status_code"] == 409


@pytest.mark.parametrize(
    ("status", "recorded"), [("200", 200), ("299 Whatever that is", 299), ("odd", None), (418, 418)]
)
def test_web_78_odd_statuses_do_not_raise(app: Flask, captured: Captured, status: Any, recorded: int | None) -> None:
    route(app, "/", lambda: Response("ok", status=status))
    iterable = app(create_environ("/"), start_response)
    assert b"".join(iterable) == b"ok"
    assert captured.one().attributes.get("http.response.status_code") == recorded


def test_web_78_stop_iteration_out_of_a_view_is_the_views_own_error(app: Flask, captured: Captured) -> None:
    route(app, "/", lambda: next(iter([])))
    assert get(app).status == 500
    assert captured.one().attributes["error.type"] == "StopIteration"


def test_web_79_a_body_that_nobody_closes_is_recorded_when_it_is_dropped(app: Flask, captured: Captured) -> None:
    route(app, "/", lambda: Response(iter(["a", "b"])))
    iterable = app(create_environ("/"), start_response)
    assert next(iter(iterable)) == b"a"
    assert not captured.spans
    del iterable
    gc.collect()
    assert captured.one().attributes["rootspan.outcome"] == "cancelled"


# The general cases, for WSGI


def test_web_79_a_request_that_is_never_answered_is_recorded_when_it_is_dropped(app: Flask, captured: Captured) -> None:
    with app.test_request_context():
        flask.request_started.send(app)
    gc.collect()
    assert "http.response.status_code" not in captured.one().attributes


def test_web_16_63_the_environ_gains_one_key_and_no_cycle(app: Flask, captured: Captured) -> None:
    seen: list[dict[str, Any]] = []
    route(app, "/", lambda: seen.append(dict(request.environ)) or json.dumps(request.environ, default=str))  # type: ignore
    environ = create_environ("/")
    assert b"".join(app(environ, start_response))
    assert {key for key in seen[0] if "rootspan" in key} == {"rootspan.request"}
    assert captured.one()


@pytest.mark.parametrize("propagate", [False, True])
def test_web_19_22_an_exception_is_recorded_once_and_passes_untouched(
    app: Flask, captured: Captured, propagate: bool
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = propagate
    app.logger.disabled = True  # pytest keeps what is logged, and with it the exception

    class NoSuchThingError(LookupError):  # unlike a built-in one, it can be referred to weakly
        pass

    errors: list[BaseException] = [NoSuchThingError("no such thing"), ValueError("cause")]
    handed: list[BaseException] = []

    @app.get("/")
    def view() -> str:
        raise errors[0] from errors[1]

    flask.got_request_exception.connect(lambda app, exception, **_: handed.append(exception), app, weak=False)
    answer = get(app)
    error = errors[0]
    assert answer.error is (error if propagate else None)
    assert (error.__cause__, error.__context__, handed) == (errors[1], None, [error])
    root = captured.one()
    assert root.attributes["http.response.status_code"] == 500
    assert [(name, event["exception.message"]) for name, event in root.events] == [("exception", "no such thing")]
    alive = weakref.ref(error)
    del answer, error, handed[:], errors[:]
    gc.collect()
    assert alive() is None


def test_web_19_what_the_apps_own_handler_takes_is_its_answer(app: Flask, captured: Captured) -> None:
    @app.errorhandler(LookupError)
    def handled(error: LookupError) -> tuple[str, int]:
        return "handled", 409

    @app.get("/")
    def view() -> str:
        raise LookupError

    assert get(app).status == 409
    assert not captured.one().failed


@pytest.mark.parametrize("path", ["/abort", "/trapped", "/missing"])
def test_web_20_http_exceptions_are_answers(app: Flask, captured: Captured, path: str) -> None:
    app.config["TRAP_HTTP_EXCEPTIONS"] = path == "/trapped"
    route(app, "/abort", lambda: abort(410))
    route(app, "/trapped", lambda: abort(410))
    answer = get(app, path)
    root = captured.one()
    assert answer.status == root.attributes["http.response.status_code"]
    assert root.failed == (answer.status == 500)
    assert "rootspan.stream.chunks" not in root.attributes
    assert root.attributes.get("http.route") == (None if path == "/missing" else path)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(("path", "status"), [("/abort", 410), ("/missing", 404), ("/broken", 500)])
def test_web_20_an_error_page_is_recorded_when_the_test_client_has_it(
    app: Flask, captured: Captured, path: str, status: int, method: str
) -> None:
    route(app, "/abort", lambda: abort(410))
    route(app, "/broken", lambda: {}["x"])
    answer = app.test_client().open(path, method=method)
    root = captured.one()  # nobody has read or closed the answer
    assert answer.status_code == root.attributes["http.response.status_code"] == status
    assert bool(answer.data) == (method == "GET")
    assert "rootspan.stream.chunks" not in root.attributes
    answer.close()
    assert len(captured) == 1


def test_web_20_the_body_of_an_error_page_can_be_captured(tracker: Tracker, captured: Captured) -> None:
    class Refused(HTTPException):
        code = 422

        def get_body(self, *args: Any) -> str:
            return json.dumps({"answer": "I cannot say."})

        def get_headers(self, *args: Any) -> list[tuple[str, str]]:
            return [("Content-Type", "application/json")]

    app = Flask("shop")
    Rootspan(app, tracker=tracker, capture_body=True)

    @app.get("/")
    def view() -> str:
        raise Refused

    answer = app.test_client().get("/")
    assert captured.one().attributes["output.value"] == "I cannot say."
    answer.close()


def test_an_app_inside_a_view_is_recorded_with_its_last_piece(app: Flask, captured: Captured, tracker: Tracker) -> None:
    class Inner:
        pieces = ("one", "two")

        def __iter__(self) -> Any:
            for piece in self.pieces:
                tracker.track_ai(piece)
                yield piece.encode()

        def close(self) -> None:
            tracker.track_ai("closed")

    def inner(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "6")])
        return Inner()

    route(app, "/", lambda: inner)
    assert get(app).text == "onetwo"
    root = captured.one()
    assert {span.parent_id for span in captured.spans if span != root} == {root.span_id}
    assert len(captured) == 4


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_web_21_what_ends_the_process_passes(app: Flask, captured: Captured, kind: type[BaseException]) -> None:
    @app.get("/")
    def view() -> str:
        raise kind

    with pytest.raises(kind):
        app(create_environ("/"), start_response)
    root = captured.one()
    assert "http.response.status_code" not in root.attributes


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups came with Python 3.11")
def test_web_21_an_exception_group_keeps_its_shape(app: Flask, captured: Captured) -> None:
    app.testing = True
    group = ExceptionGroup("several", [ValueError("a"), TypeError("b")])  # type: ignore[name-defined]  # noqa: F821

    @app.get("/")
    def view() -> str:
        raise group

    answer = get(app)
    assert answer.error is group
    assert [type(error) for error in group.exceptions] == [ValueError, TypeError]
    assert captured.one().attributes["error.type"] == "ExceptionGroup"


def test_web_27_redirects_and_other_methods_have_no_route(app: Flask, captured: Captured) -> None:
    route(app, "/with/", lambda: "ok")
    assert [get(app, "/with").status, get(app, "/with/", "POST").status] == [308, 405]
    assert [root.name for root in captured.roots] == ["GET", "POST"]


def test_web_40_installed_twice_it_records_once_with_the_later_options(app: Flask, captured: Captured) -> None:
    Rootspan(app, tracker=captured.tracker, event="later")
    route(app, "/", lambda: "ok")
    assert get(app).text == "ok"
    assert captured.one().name == "later"


def test_web_40_an_app_that_hands_its_request_on_records_once(app: Flask, tracker: Tracker, captured: Captured) -> None:
    inner = Flask("inner")
    Rootspan(inner, tracker=tracker)
    route(inner, "/", lambda: tracker.track_ai("inner") and "inner")
    route(app, "/", lambda: Response.from_app(inner, request.environ))
    assert get(app).text == "inner"
    assert captured.one("inner").parent_id == captured.one().span_id


def test_web_40_a_request_that_is_handled_again_is_recorded_again(tracker: Tracker, captured: Captured) -> None:
    """As where the next app is asked after a 404; while a request is open, who hands it on records nothing."""
    apps = Flask("old"), Flask("new")
    for app in apps:
        Rootspan(app, tracker=tracker)
    route(apps[1], "/", lambda: tracker.track_ai("answer"))
    environ = create_environ("/")
    for app in apps:
        body: Any = app(environ, start_response)
        assert b"".join(body)
        body.close()
    first, second = captured.roots
    assert [root.attributes["http.response.status_code"] for root in (first, second)] == [404, 200]
    assert (second.name, captured.one("answer").parent_id) == ("GET /", second.span_id)


def test_web_40_a_request_made_inside_another_one_is_a_root_of_its_own(
    app: Flask, tracker: Tracker, captured: Captured
) -> None:
    @app.get("/inner")
    def inner() -> str:
        tracker.track_ai("in the inner one")
        return "inner"

    @app.get("/outer")
    def outer() -> Response:
        def chunks() -> Iterator[bytes]:
            tracker.track_ai("before")
            yield app.test_client().get("/inner").data
            tracker.track_ai("behind")

        return Response(chunks())

    assert get(app, "/outer").text == "inner"
    roots = {root.name: root.span_id for root in captured.roots}
    assert captured.one("in the inner one").parent_id == roots["GET /inner"]
    assert {captured.one(name).parent_id for name in ("before", "behind")} == {roots["GET /outer"]}


def test_web_41_apps_behind_a_dispatcher_record_their_own(tracker: Tracker, captured: Captured) -> None:
    front, back = Flask("front"), Flask("back")
    for app in (front, back):
        Rootspan(app, tracker=tracker)
        route(app, "/x", lambda: "ok")
    both = DispatcherMiddleware(front, {"/back": back})
    assert get(both, "/back/x").text == get(both, "/x").text == "ok"
    assert [root.name for root in captured.roots] == ["GET /x"] * 2


def test_web_45_a_hook_that_needs_the_context_is_asked_while_it_is_there(captured: Captured) -> None:
    app = Flask("shop")
    app.secret_key = "s"
    Rootspan(app, tracker=captured.tracker, user_id=lambda request: flask.session.get("user"))

    def sign_in() -> None:
        flask.session["user"] = "u1"

    route(app, "/text", lambda: sign_in() or "ok")
    route(app, "/stream", lambda: sign_in() or Response(iter(["a"])))
    for path in ("/text", "/stream"):
        assert get(app, path).status == 200
    assert [root.attributes["user.id"] for root in captured.roots] == ["u1", "u1"]


@pytest.mark.parametrize("kind", ["event", "tool", "decision"])
def test_the_first_child_has_what_the_hooks_say(captured: Captured, kind: str) -> None:
    tracker = captured.tracker
    app = Flask("shop")
    Rootspan(app, tracker=tracker, user_id=lambda request: "u1")
    track: dict[str, Callable[[], object]] = {
        "event": lambda: tracker.track_ai("first"),
        "tool": lambda: tracker.tool_span("first").finish(),
        "decision": lambda: tracker.track_decision(reasoning="first"),
    }
    route(app, "/", lambda: track[kind]() or "ok")
    get(app)
    assert [span.attributes.get("user.id") for span in captured.spans] == ["u1", "u1"]


def test_web_46_opentelemetry_sees_nothing_of_it(app: Flask, captured: Captured) -> None:
    provider = TracerProvider()
    host = provider.get_tracer("host")

    @app.get("/")
    def view() -> str:
        with host.start_as_current_span("host") as span:
            captured.tracker.track_ai("ours")
            return f"{span.get_span_context().trace_id:032x} {span.parent}"  # type: ignore[attr-defined]

    trace_id, parent = get(app).text.split(" ", 1)
    assert parent == "None"
    assert trace_id not in {span.trace_id for span in captured.spans}


@pytest.mark.parametrize(
    ("traceparent", "linked"),
    [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", 1),
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", 0),
        ("nonsense" * 2_000, 0),
        ("\xff\xfe", 0),
    ],
)
def test_web_86_the_callers_traceparent_is_only_a_link(
    app: Flask, captured: Captured, traceparent: str, linked: int
) -> None:
    route(app, "/", lambda: "ok")
    assert get(app, traceparent=traceparent).text == "ok"
    root = captured.one()
    assert (root.parent_id, len(root.links)) == (None, linked)


def test_web_83_an_exporter_that_hangs_delays_no_answer() -> None:
    release = threading.Event()

    class Hanging(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            assert release.wait(60)
            return SpanExportResult.SUCCESS

    tracker = Tracker(exporters=[Hanging()])
    app = Flask("shop")
    Rootspan(app, tracker=tracker)
    route(app, "/", lambda: tracker.track_ai("answer") and "ok")
    try:
        assert [get(app).text for _ in range(20)] == ["ok"] * 20
        assert not release.is_set()
    finally:
        release.set()
        tracker.shutdown()


# What is current


def test_a_bare_begin_is_current_in_the_stream_and_gone_after_the_request(
    app: Flask, tracker: Tracker, captured: Captured
) -> None:
    turns: list[Any] = []

    @app.get("/")
    def view() -> Response:
        turns.append(tracker.begin("turn"))

        def chunks() -> Iterator[str]:
            tracker.track_ai("in the stream")
            yield "a"

        return Response(chunks())

    route(app, "/none", lambda: str(tracker.current() is not None))
    assert get(app).text == "a"
    assert tracker.current() is None
    assert get(app, "/none").text == "True"
    turns[0].finish()
    assert captured.one("in the stream").parent_id == captured.one("turn").span_id


@pytest.mark.parametrize("block", [False, True])
@pytest.mark.parametrize("first", ["track", "begin", "carry", "update"])
def test_what_follows_an_interaction_that_another_thread_ended_is_the_requests(
    app: Flask, tracker: Tracker, captured: Captured, block: bool, first: str
) -> None:
    @app.get("/")
    def view() -> str:
        turn = tracker.begin(event="turn")
        if block:
            turn.__enter__()
        thread = threading.Thread(target=turn.__exit__ if block else turn.finish, args=(None,) * 3 if block else ())
        thread.start()
        thread.join()
        if first == "begin":
            tracker.begin(event="next").finish()
        elif first == "track":
            tracker.track_ai("next")
        elif first == "carry":
            thread = threading.Thread(target=tracker.carry(tracker.track_ai), args=("next",))
            thread.start()
            thread.join()
        tracker.update_current(user_id="u1")
        return "A"

    assert get(app).text == "A"
    root = captured.one("GET /")
    assert root.attributes["user.id"] == "u1"
    assert {span.parent_id for span in captured if span is not root} == {root.span_id}


def test_a_client_that_keeps_its_context_has_the_record_with_the_answer(app: Flask, captured: Captured) -> None:
    app.add_url_rule("/", "one", lambda: "A")
    with app.test_client() as client:
        assert client.get("/").text == "A"
        assert [span.name for span in captured] == ["GET /"]
    assert len(captured) == 1


def test_a_client_that_keeps_its_context_leaves_nothing_current_when_it_lets_it_go(
    app: Flask, tracker: Tracker, captured: Captured
) -> None:
    route(app, "/<n>", lambda n: tracker.track_ai(n) and n)
    with app.test_client() as client:
        for n in "ab":
            assert client.get(f"/{n}").text == n
            assert request.path == f"/{n}"
    assert tracker.current() is None
    assert [root.name for root in captured.roots] == ["GET /<n>"] * 2
    assert captured.one("a").trace_id != captured.one("b").trace_id


def test_what_is_excluded_stays_so_when_it_fails(captured: Captured) -> None:
    app = Flask("shop")
    Rootspan(app, tracker=captured.tracker, exclude=["/"])
    route(app, "/", lambda: abort(500) if request.args else {}["x"])
    assert [get(app).status, get(app, "/?a=1").status] == [500, 500]
    assert not captured.spans


@pytest.mark.parametrize("path", ["/", "/fails"])
def test_a_function_that_excludes_is_asked_once(captured: Captured, path: str) -> None:
    asked: list[Any] = []

    def excludes(request: Any) -> bool:
        asked.append(request)
        return len(asked) == 1  # such as one that draws lots

    app = Flask("shop")
    Rootspan(app, tracker=captured.tracker, exclude=excludes)
    route(app, "/", lambda: "ok")
    route(app, "/fails", lambda: {}["x"])
    get(app, path)
    assert len(asked) == 1
    assert not captured.spans


def test_a_request_that_anothers_receiver_refuses_before_ours_heard_of_it_is_recorded(
    app: Flask, captured: Captured
) -> None:
    def refuse(app: Flask, **_: Any) -> None:
        abort(403)

    flask.request_started.connect(refuse, app)
    flask.request_started.disconnect(extension._started, app)  # blinker calls them in no order, none after the first
    route(app, "/", lambda: "ok")
    assert get(app).status == 403
    root = captured.one()
    assert (root.attributes["http.response.status_code"], root.failed) == (403, False)


def test_a_signal_without_a_request_is_none_of_ours(
    app: Flask, captured: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    flask.request_started.send(app)
    flask.got_request_exception.send(app, exception=LookupError())
    flask.request_finished.send(app, response=app.response_class())
    flask.request_tearing_down.send(app, exc=None)
    assert not captured.spans
    assert not caplog.records


def test_two_trackers_share_nothing(app: Flask, captured: Captured) -> None:
    with captured_spans() as other:
        second = Flask("second")
        Rootspan(second, tracker=other.tracker)
        route(second, "/", lambda: "second")

        @app.get("/")
        def view() -> str:
            other.tracker.track_ai("of the other")
            return get(second).text

        assert get(app).text == "second"
        assert other.one("of the other").parent_id is None
        assert {root.name for root in other.roots} == {"of the other", "GET /"}
        assert captured.one().name == "GET /"


# Options and configuration


def test_config_gives_options_and_arguments_win(captured: Captured) -> None:
    app = Flask("shop")
    app.config["ROOTSPAN"] = {"event": "from config", "user_id": lambda request: "u1"}
    Rootspan(app, tracker=captured.tracker, event="from arguments")
    route(app, "/", lambda: "ok")
    assert get(app).text == "ok"
    assert captured.one("from arguments").attributes["user.id"] == "u1"


def test_a_wrong_argument_is_not_blamed_on_the_config() -> None:
    app = Flask("shop")
    for made in (lambda: Rootspan(app, user="x"), lambda: Rootspan().init_app(app, user="x")):
        with pytest.raises(ConfigurationError, match=r"no setting 'user' for Rootspan\(\.\.\.\)"):
            made()
    app.config["ROOTSPAN"] = {"user": "x"}
    with pytest.raises(ConfigurationError, match=r'no setting \'user\' for app\.config\["ROOTSPAN"\]'):
        Rootspan(app)


def test_config_may_come_from_the_environment(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_ROOTSPAN__record", "tracked")
    app = Flask("shop")
    app.config.from_prefixed_env()
    Rootspan(app, tracker=captured.tracker)
    route(app, "/", lambda: "ok")
    assert get(app).text == "ok"
    assert not captured.spans


def test_config_may_hold_what_configure_takes(sink: Sink) -> None:
    before = rootspan.default_tracker.settings
    app = Flask("shop")
    app.config["ROOTSPAN"] = {"endpoint": sink.url, "service_name": "shop", "capture_headers": ["x-a"]}
    Rootspan().init_app(app)
    route(app, "/", lambda: rootspan.track_ai("answer", user_id="u1") and "ok")
    assert get(app, **{"x-a": "1"}).text == "ok"
    rootspan.shutdown()
    rootspan.default_tracker.reconfigure(before)
    root = sink.one("GET /")
    assert root.resource["service.name"] == "shop"
    assert root.attributes["http.request.header.x-a"] == ["1"]
    assert sink.one("answer").parent_id == root.span_id


def test_an_app_that_is_made_inside_a_capture_is_captured(sink: Sink) -> None:
    before = rootspan.default_tracker.settings
    with captured_spans(default=True) as captured:
        app = Flask("shop")
        app.config["ROOTSPAN"] = {"endpoint": sink.url, "service_name": "shop", "exclude": ["/health"]}
        Rootspan().init_app(app)
        route(app, "/", lambda: rootspan.track_ai("answer") and "ok")
        assert get(app).text == "ok"
        assert captured.one("answer").parent_id == captured.one("GET /").span_id
    assert rootspan.default_tracker.settings.resource_attributes["service.name"] == "shop"
    assert sink.spans == []
    rootspan.default_tracker.reconfigure(before)


@pytest.mark.parametrize(
    "options",
    [
        {"record": "some"},
        {"user_id": "u1"},
        {"recrod": "all"},
        {"endpoint": "no url"},
        {"endpoint": "http://localhost:4318", "tracker": Tracker(disabled=True)},
    ],
)
@pytest.mark.parametrize("place", ["arguments", "config", "init_app"])
def test_a_wrong_option_is_one_clear_error(options: dict[str, Any], place: str) -> None:
    app = Flask("shop")
    app.config["ROOTSPAN"] = options if place == "config" else {}
    install = Rootspan().init_app if place == "init_app" else Rootspan
    with pytest.raises(ConfigurationError, match=r"Fix: "):
        install(app, **(options if place != "config" else {}))


def test_a_config_that_is_no_dict_is_one_clear_error() -> None:
    app = Flask("shop")
    app.config["ROOTSPAN"] = "on"
    with pytest.raises(ConfigurationError, match="has to be a dict"):
        Rootspan(app)


def test_a_mistake_shows_where_the_extension_is_made() -> None:
    with pytest.raises(ConfigurationError):
        Rootspan(record="some")


def test_without_flask_it_says_which_extra_to_install() -> None:
    code = "import sys; sys.modules['flask'] = None; import rootspan_flask"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "rootspan_flask needs Flask.\nFix: pip install 'rootspan[flask]'" in done.stderr


@pytest.mark.parametrize(
    "read",
    [
        lambda stream: stream.read(),
        lambda stream: stream.read(4) + stream.read(1_000),
        lambda stream: stream.readline() + stream.readline(),
        lambda stream: b"".join(stream.readlines()),
        lambda stream: b"".join(stream),
        lambda stream: stream.getvalue() and stream.read(),
    ],
)
def test_web_7_capture_body_keeps_what_the_app_reads_in_whatever_way(read: Callable[[Any], bytes]) -> None:
    body = b'{"message":\n "Hi"}'
    with captured_spans() as captured:
        app = Flask("shop")
        Rootspan(app, tracker=captured.tracker, capture_body=True)
        app.add_url_rule("/", "view", lambda: read(request.environ["wsgi.input"]), methods=["POST"])
        assert WsgiClient(app).request("POST", "/", {"content-type": "application/json"}, body).body == body
        assert captured.one().attributes["input.value"] == "Hi"


def test_web_7_a_large_upload_is_kept_up_to_the_limit(captured: Captured) -> None:
    app = Flask("shop")
    Rootspan(app, tracker=captured.tracker, capture_body=1_000)
    app.add_url_rule("/", "view", lambda: str(len(request.get_data())), methods=["POST"])
    assert WsgiClient(app).request("POST", "/", {"content-type": "text/plain"}, b"x" * 5_000_000).text == "5000000"
    assert captured.one().attributes["input.value"].count("x") == 1_000


@pytest.mark.parametrize(("trusted", "address"), [(None, None), ([], "127.0.0.1"), (["127.0.0.1"], "9.9.9.9")])
def test_web_85_a_forwarded_address_is_believed_from_trusted_proxies_only(
    captured: Captured, trusted: list[str] | None, address: str | None
) -> None:
    app = Flask("shop")
    Rootspan(app, tracker=captured.tracker, trusted_proxies=trusted)
    route(app, "/", lambda: "ok")
    assert get(app, **{"x-forwarded-for": "9.9.9.9"}).text == "ok"
    assert captured.one().attributes.get("client.address") == address


# flask rootspan check


def test_the_command_checks_the_apps_own_tracker(sink: Sink, tmp_path: Any) -> None:
    tracker = Tracker(endpoint=sink.url, api_key="sk-abcdefghijkl", service_name="shop")
    app = Flask("shop")
    Rootspan(app, tracker=tracker)
    done = app.test_cli_runner().invoke(args=["rootspan", "check"])
    assert done.exit_code == 0, done.output
    assert f"{sink.url}/v1/traces  (the app's own configuration)" in done.output
    assert "sk-abcdefghijkl" not in done.output
    assert sink.one("rootspan_check").resource["service.name"] == "shop"
    tracker.shutdown()


def test_the_command_tells_when_nobody_listens() -> None:
    app = Flask("shop")
    Rootspan(app, tracker=Tracker(endpoint="http://127.0.0.1:9"))
    done = app.test_cli_runner().invoke(args=["rootspan", "check"])
    assert done.exit_code == 1
    assert "Nobody listens" in done.output


def test_the_command_from_a_shell(sink: Sink, tmp_path: Any) -> None:
    program = "import flask, rootspan_flask\napp = flask.Flask('shop')\nrootspan_flask.Rootspan(app)\n"
    (tmp_path / "shop.py").write_text(program)
    environ = {**os.environ, "ROOTSPAN_ENDPOINT": sink.url}
    command = [sys.executable, "-m", "flask", "--app", "shop", "rootspan", "check"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(ROOTSPAN_ENDPOINT)" in done.stdout
    assert sink.one("rootspan_check")
