"""A request's root by itself: what an adapter may call, in any order, and what it never does."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import http
import threading
import time
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from ipaddress import ip_address
from typing import Any

import pytest
from opentelemetry import trace

from rootspan import ConfigurationError, Tracker
from rootspan.adapter import (
    RequestInfo,
    RequestOptions,
    RequestRoot,
    WebOptions,
    environ_header,
    header_of,
    open_request,
    scope_info,
    sole,
)
from rootspan.testing import Captured, Echo, WebContract, captured_spans


def opened(captured: Captured, method: str = "GET", header: Any = None, **options: Any) -> RequestRoot:
    info = RequestInfo(request=None, method=method, path="/", header=header or (lambda name: None))
    root = open_request(info, RequestOptions(tracker=captured.tracker, **options))
    assert root is not None
    return root


def test_it_is_finished_once_whatever_the_thread(captured: Captured) -> None:
    root = opened(captured)
    threads = [threading.Thread(target=root.finish) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    root.finish()
    assert captured.one().trace_id == root.trace_id


def test_two_threads_that_finish_it_at_once_leave_its_name_alone(
    captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = opened(captured)
    root.set_route("/chat")
    recorder = captured.tracker._recorder
    finish, late = recorder.finish, [root.finish]

    def held_up(*args: Any) -> bool:
        while late:
            late.pop()()  # the other thread comes this far, and on
        return finish(*args)

    monkeypatch.setattr(recorder, "finish", held_up)
    root.finish()
    span = captured.one()
    assert (span.name, span.attributes["http.request.method"]) == ("GET /chat", "GET")


def test_the_first_status_and_the_first_failure_count(captured: Captured) -> None:
    root = opened(captured)
    root.set_status(http.HTTPStatus.ACCEPTED)
    root.set_status(500)
    root.set_status("nonsense")  # type: ignore[arg-type]
    root.fail(LookupError("first"))
    root.fail(ValueError("second"))
    root.cancel()
    root.finish()
    span = captured.one()
    assert span.attributes["http.response.status_code"] == 202
    assert (span.attributes["error.type"], span.attributes["rootspan.outcome"]) == ("LookupError", "failure")


@pytest.mark.parametrize("route", [["/a", "/b"], b"/a", 5, ""])
def test_a_route_that_is_no_text_costs_the_route_only(captured: Captured, route: Any) -> None:
    root = opened(captured)
    root.set_route(route)
    root.finish()
    assert "http.route" not in captured.one("GET").attributes
    assert not captured.tracker.stats()["dropped"]


def test_what_is_set_by_hand_wins(captured: Captured) -> None:
    root = opened(captured, capture_body=True, header={"content-type": "application/json"}.get)
    root.read(b'{"message": "body"}')
    root.set_response_headers({"content-type": "application/json"}.get)
    root.write(b'{"reply": "body"}', more=False)
    with root.activate():
        captured.tracker.track_ai("answer", input="event", output="event")
    root.set_input("by hand")
    root.set_output("by hand")
    root.set_attribute("http.response.size", 5)
    root.finish()
    attributes = captured.one().attributes
    assert (attributes["input.value"], attributes["output.value"]) == ("by hand", "by hand")
    assert attributes["http.response.size"] == 5


@pytest.mark.parametrize(
    ("sent", "added"),
    [({}.get, True), ({"x-trace": "the app's"}.get, False), ({"x-trace": ""}.get, False), (lambda name: 1 / 0, False)],
)
def test_the_header_to_add_is_told_unless_the_app_sets_it(captured: Captured, sent: Any, added: bool) -> None:
    root = opened(captured, response_header="X-Trace")
    assert root.wants_headers
    assert root.set_response_headers(sent) == ((("X-Trace", root.trace_id),) if added else ())
    plain = opened(captured)
    assert not plain.wants_headers
    assert plain.set_response_headers({}.get) == ()


@pytest.mark.parametrize(
    "header",
    [
        environ_header({"HTTP_X_USER": "u1", "CONTENT_TYPE": "text/plain"}),
        header_of([(b"X-User", b"u1"), (b"content-type", b"text/plain")]),
        scope_info(None, {"type": "http", "headers": ((b"x-user", b"u1"), (b"Content-Type", b"text/plain"))}).header,
    ],
    ids=["environ", "pairs", "scope"],
)
def test_a_header_is_found_by_its_lower_case_name(header: Callable[[str], str | None]) -> None:
    assert [header(name) for name in ("x-user", "content-type", "x-other")] == ["u1", "text/plain", None]


def test_an_event_wins_over_the_body(captured: Captured) -> None:
    root = opened(captured, capture_body=True, header={"content-type": "application/json"}.get)
    root.read(b'{"message": "body"}')
    with root.activate():
        captured.tracker.track_ai("answer", input="event")
    root.finish()
    assert captured.one().attributes["input.value"] == "event"


def test_without_content_no_body_is_kept() -> None:
    with captured_spans(capture_content=False) as captured:
        root = opened(captured, capture_body=True)
        assert root.request_body is None
        root.read(b"x")
        root.finish()
        assert "input.value" not in captured.one().attributes


def test_secrets_in_a_body_are_masked(captured: Captured) -> None:
    root = opened(captured, capture_body=True, header={"content-type": "application/json"}.get)
    root.read(b'{"password": "hunter22", "city": "Oslo"}')
    root.finish()
    value = captured.one().attributes["input.value"]
    assert "hunter22" not in value
    assert "Oslo" in value


async def chunks() -> AsyncIterator[bytes]:
    yield b"ab"
    yield b"c"


def test_an_async_body_is_stepped_and_measured(captured: Captured) -> None:
    root = opened(captured)

    async def main() -> list[bytes]:
        return [chunk async for chunk in root.astream(chunks())]

    assert asyncio.run(main()) == [b"ab", b"c"]
    attributes = captured.one().attributes
    assert (attributes["rootspan.stream.chunks"], attributes["rootspan.stream.bytes"]) == (2, 3)


def test_web_74_an_async_body_that_nobody_reads_ends_its_request_too(captured: Captured) -> None:
    closed, dropped = opened(captured), opened(captured)
    closed.set_status(200)
    asyncio.run(closed.astream(chunks()).aclose())
    dropped.astream(chunks())
    assert closed.finished
    assert [root.attributes.get("rootspan.outcome") for root in captured.roots] == [None, None]
    assert captured.roots[0].attributes["http.response.status_code"] == 200


class Page:
    """A body that is no iterator but makes one, as a class with a generator does."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"page"


def test_an_async_body_may_be_any_async_iterable(captured: Captured) -> None:
    async def read(body: Any) -> list[bytes]:
        return [chunk async for chunk in body]

    assert asyncio.run(read(opened(captured).astream(Page()))) == [b"page"]
    with pytest.raises(TypeError):
        asyncio.run(read(opened(captured).astream(5)))  # type: ignore[arg-type]  # the framework's own mistake
    assert [root.failed for root in captured.roots] == [False, True]


def test_an_async_body_is_begun_inside_its_request(captured: Captured) -> None:
    class Search:
        def __aiter__(self) -> AsyncIterator[bytes]:
            captured.tracker.track_ai("search")
            return chunks()

    async def main() -> list[bytes]:
        return [chunk async for chunk in opened(captured).astream(Search())]

    assert asyncio.run(main()) == [b"ab", b"c"]
    [root] = captured.roots
    assert [child.name for child in captured.children(root)] == ["search"]


@pytest.mark.parametrize("chunk", [5, None, object()])
def test_a_body_may_be_made_of_anything(captured: Captured, chunk: Any) -> None:
    root = opened(captured, capture_body=True)
    assert list(root.stream([chunk])) == [chunk]
    assert "rootspan.stream.chunks" not in captured.one().attributes


class Closable:
    """An iterable of two chunks that knows how often it was closed, and in whose request."""

    def __init__(self, captured: Captured, broken: bool = False) -> None:
        self.captured = captured
        self.broken = broken
        self.closed: list[str | None] = []

    def __iter__(self) -> Iterator[bytes]:
        yield b"a"
        if self.broken:
            raise LookupError("no more")
        yield b"b"

    def close(self) -> None:
        current = self.captured.tracker.current()
        self.closed.append(None if current is None else current.trace_id)


@pytest.mark.parametrize(
    ("steps", "outcome"), [(0, None), (1, "cancelled"), (2, "cancelled"), (3, None)], ids=["unread", "1", "2", "whole"]
)
def test_web_74_a_body_ends_its_request_however_far_it_was_read(
    captured: Captured, steps: int, outcome: str | None
) -> None:
    root, chunks = opened(captured), Closable(captured)
    body = root.stream(chunks)
    for _ in range(steps):
        next(body, None)
    body.close()
    assert chunks.closed == [root.trace_id if steps < 3 else None]
    assert captured.one().attributes.get("rootspan.outcome") == outcome
    body.close()
    assert len(chunks.closed) == 1


def test_web_74_a_body_that_breaks_fails_its_request_at_once(captured: Captured) -> None:
    root, chunks = opened(captured), Closable(captured, broken=True)
    body = root.stream(chunks)
    with pytest.raises(LookupError):
        list(body)
    assert captured.one().attributes["error.type"] == "LookupError"
    body.close()
    assert len(chunks.closed) == 1


def test_web_74_a_body_that_nobody_closes_ends_its_request_when_it_is_dropped(captured: Captured) -> None:
    body = opened(captured).stream([b"a", b"b"])
    next(body)
    del body
    assert captured.one().attributes["rootspan.outcome"] == "cancelled"


def test_a_stream_is_measured_in_bytes_whatever_its_pieces_are(captured: Captured) -> None:
    async def words() -> AsyncIterator[Any]:
        for word in ("ü", memoryview(b"xy"), array("H", [1]), [b"no piece"]):
            yield word

    async def read() -> None:
        async for _ in opened(captured).astream(words()):
            pass

    asyncio.run(read())
    attributes = captured.one().attributes
    assert (attributes["rootspan.stream.chunks"], attributes["rootspan.stream.bytes"]) == (3, 6)


@pytest.mark.parametrize("data", ["ü", b"xy", 5])
def test_messages_of_any_kind_are_counted(captured: Captured, data: Any) -> None:
    root = opened(captured, "WEBSOCKET")
    root.message_received(data)
    root.finish()
    attributes = captured.one().attributes
    assert attributes["rootspan.websocket.received"] == 1
    assert attributes["rootspan.websocket.bytes_received"] == (0 if data == 5 else 2)


def test_the_end_may_be_before_the_finish(captured: Captured) -> None:
    root = opened(captured)
    root.set_status(503)
    root.end()
    ended = time.time_ns()
    time.sleep(0.01)
    root.end()
    root.cancel()  # the answer was complete
    root.fail(LookupError("behind it"))
    root.finish()
    span = captured.one()
    assert span.end <= ended
    assert span.attributes["error.type"] == "LookupError"


def test_a_method_of_ones_own_and_a_header_that_raises(captured: Captured) -> None:
    def raising(name: str) -> str:
        raise LookupError(name)

    root = opened(captured, "BREW", raising, capture_headers=["x-a"], convo_header="x-b", capture_body=True)
    root.finish()
    span = captured.one("HTTP")
    assert span.attributes["http.request.method"] == "_OTHER"
    assert span.attributes["http.request.method_original"] == "BREW"


def test_a_framework_that_cannot_tell_its_request_costs_no_record(captured: Captured) -> None:
    def current() -> RequestRoot | None:
        raise LookupError("no context here")

    root, tracker = opened(captured), captured.tracker
    root.look_up_with(current)
    tracker.begin("turn").finish()
    with tracker.tool_span("search"), tracker.context(user_id="u1"):
        tracker.track_ai("event")
    root.finish()
    assert {span.name for span in captured.spans} == {"turn", "search", "event", "GET"}
    assert captured.one("event").attributes["user.id"] == "u1"


def test_a_begin_in_a_context_is_in_the_request_that_the_framework_names(captured: Captured) -> None:
    root, tracker = opened(captured), captured.tracker
    root.look_up_with(lambda: root)
    turn = tracker.begin("turn")
    with tracker.context(user_id="u1"):
        tracker.begin("in a context").finish()
    turn.finish()
    root.finish()
    assert captured.one("turn").parent_id == captured.one("in a context").parent_id == captured.one("GET").span_id
    assert captured.one("in a context").attributes["user.id"] == "u1"


def test_two_frameworks_in_one_process_each_know_their_own_request(captured: Captured) -> None:
    current: dict[str, RequestRoot] = {}
    look_ups = [lambda: current["one"], lambda: current["two"]]
    roots = [opened(captured, method) for method in ("GET", "POST", "PUT")]
    for root, look_up in zip(roots, [*look_ups, look_ups[1]], strict=True):
        root.look_up_with(look_up)
    assert len(captured.tracker._recorder.enclosing.look_ups) == 2
    for name, root in zip(("one", "two", "two"), roots, strict=True):
        current.clear()
        current[name] = root
        captured.tracker.track_ai(f"in {root._method}")
        root.finish()
    for method in ("GET", "POST", "PUT"):
        assert captured.one(f"in {method}").parent_id == captured.one(method).span_id


def test_the_hooks_are_asked_once_and_not_after_the_end(captured: Captured) -> None:
    asked: list[Any] = []
    root = opened(captured, user_id=asked.append)
    root.finish()
    root.identify()
    assert len(asked) == 1


def test_a_hook_that_knows_nobody_is_asked_at_the_first_child_and_at_the_end(captured: Captured) -> None:
    asked: list[Any] = []

    def user_id(request: Any) -> str | None:
        asked.append(request)
        return "u1" if len(asked) == 2 else None

    root = opened(captured, user_id=user_id)
    with root.activate():
        for _ in range(20):
            captured.tracker.track_ai("event")
            with captured.tracker.tool_span("step"):
                captured.tracker.track_decision(reasoning="because")
    assert len(asked) == 1
    root.finish()
    assert len(asked) == 2
    assert captured.one("GET").attributes["user.id"] == "u1"


def by_begin(tracker: Tracker, question: str, answer: str) -> None:
    with tracker.begin("turn", input=question) as turn:
        tracker.track_ai("model", input=["system", question], output="draft")
        with tracker.start_step("model", "other", input="prompt") as step, tracker.tool_span("tool", input="arguments"):
            step.set_output("another draft")
        turn.finish(answer)


def by_update(tracker: Tracker, question: str, answer: str) -> None:
    turn = tracker.begin("turn")
    turn.update(input=question, output="draft")
    turn.track_ai("model", input=["system", question], output="another draft")
    turn.finish(answer)


def by_decorator(tracker: Tracker, question: str, answer: str) -> None:
    @tracker.interaction(event="turn")
    def handle(message: str) -> str:
        tracker.track_ai("model", input=["system", message], output="draft")
        return answer

    assert handle(question) == answer


def by_session(tracker: Tracker, question: str, answer: str) -> None:
    session_id = tracker.create_session(agent_name="turn", user_input=question)
    tracker.track_ai("model", input=["system", question], output="draft")
    tracker.complete_session(session_id, assistant_output=answer)


@pytest.mark.parametrize("interact", [by_begin, by_update, by_decorator, by_session])
def test_a_request_shows_what_the_interactions_in_it_were_asked_and_answered(
    captured: Captured, interact: Callable[[Tracker, str, str], None]
) -> None:
    root = opened(captured)
    with root.activate():
        interact(captured.tracker, "question", "answer")
        interact(captured.tracker, "next question", "last answer")
        with captured.tracker.begin("of neither"):
            captured.tracker.track_decision(reasoning="because")
    root.finish()
    told = captured.one("GET").attributes
    assert (told["input.value"], told["output.value"]) == ("question", "last answer")


def test_a_request_says_itself_what_it_was_asked_and_answered(captured: Captured) -> None:
    root = opened(captured)
    root.set_input("own question")
    root.set_output("own answer")
    with root.activate():
        by_begin(captured.tracker, "question", "answer")
    root.finish()
    told = captured.one("GET").attributes
    assert (told["input.value"], told["output.value"]) == ("own question", "own answer")


def test_who_looks_where_the_code_is_before_the_login_is_no_first_child(captured: Captured) -> None:
    users: list[str] = []
    tracker = captured.tracker
    root = opened(captured, user_id=lambda request: users[0] if users else None)
    with root.activate():
        assert tracker.current() is not None
        with tracker.context(tags=["beta"]):
            users.append("u1")
            tracker.track_ai("event")
    root.finish()
    assert captured.one("event").attributes["user.id"] == "u1"


@pytest.mark.parametrize("looked_up", [False, True])
def test_a_root_that_nobody_finished_is_recorded_as_such(captured: Captured, looked_up: bool) -> None:
    root = opened(captured, user_id=lambda request: "u1")
    if looked_up:  # then it is ended by what follows it in the framework's context, at last by the end of all
        root.look_up_with(lambda: None)
    del root
    gc.collect()
    assert len(captured) == (not looked_up)
    captured.tracker.shutdown()
    attributes = captured.one("GET").attributes
    assert attributes["rootspan.outcome"] == "unfinished"
    assert attributes.get("user.id") == (None if looked_up else "u1")  # its hooks are gone with it


@pytest.mark.parametrize("while_open", [True, False])
def test_a_hook_that_tracks_is_not_asked_for_that(captured: Captured, while_open: bool) -> None:
    asked: list[Any] = []

    def hook(request: Any) -> str:
        asked.append(request)
        captured.tracker.track_ai("from the hook")  # such as a look-up that is a tool of its own
        return "u1"

    root = opened(captured, user_id=hook)
    with root.activate():
        if while_open:
            captured.tracker.track_ai("event")
        root.finish()
    assert len(asked) == 1
    assert captured.one("GET").attributes["user.id"] == "u1"
    assert captured.one("from the hook")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_hook_in_which_the_process_is_told_to_end_lets_it(captured: Captured, error: type[BaseException]) -> None:
    def hook(request: Any) -> Any:
        raise error

    with pytest.raises(error):
        opened(captured, user_id=hook).finish()


def test_the_callers_span_is_linked_beside_the_hosts_own(captured: Captured) -> None:
    caller = f"00-{'1' * 32}-{'2' * 16}-01"
    host = trace.NonRecordingSpan(trace.SpanContext(3, 4, is_remote=False))
    with trace.use_span(host):
        opened(captured, header={"traceparent": caller}.get, trace_context="link").finish()
    assert captured.one("GET").links == [(f"{3:032x}", f"{4:016x}"), ("1" * 32, "2" * 16)]


def test_a_mistake_of_our_own_costs_one_counted_record(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    root = opened(captured, event="chat")
    monkeypatch.setattr(RequestRoot, "_described", lambda self, name, fields: 1 / 0)
    root.finish()
    assert captured.tracker.stats()["dropped"] == {"internal_error": 1}


def test_excluded_is_what_the_patterns_say() -> None:
    options = RequestOptions(exclude=["/health", "/static/*"])
    paths = ["/health", "/healthy", "/static/a/b.css", "/", "/x/health"]
    excluded = [path for path in paths if options.excluded(RequestInfo(request=None, method="GET", path=path))]
    assert excluded == ["/health", "/static/a/b.css"]
    assert RequestOptions(exclude=["*.css"]).excluded(RequestInfo(request=None, method="GET", path="/a.css"))
    once: Any = (path for path in ["/health", "[/]ready"])  # which can be read only once
    assert RequestOptions(exclude=once).excluded(RequestInfo(request=None, method="GET", path="/ready"))
    assert RequestOptions(exclude="/health").excluded(RequestInfo(request=None, method="GET", path="/health"))
    assert RequestOptions().excluded is None


def test_what_a_function_says_of_an_exclusion_may_have_no_truth(captured: Captured) -> None:
    class Odd:
        def __bool__(self) -> bool:
            raise TypeError("neither")

    def excludes(said: object) -> bool:
        options = RequestOptions(exclude=lambda request: said, tracker=captured.tracker)
        return options.excluded(RequestInfo(request=None, method="GET", path="/"))

    assert [excludes(said) for said in (1, 0, None, Odd())] == [True, False, False, False]


def test_what_a_function_says_of_the_name_may_have_no_truth(captured: Captured) -> None:
    class Odd:
        def __bool__(self) -> bool:
            raise TypeError("neither")

    for said in (Odd(), False, "", "chat"):
        opened(captured, event=lambda request, said=said: said).finish()
    assert [span.name for span in captured.spans] == ["GET", "GET", "GET", "chat"]
    assert not captured.tracker.stats()["dropped"]


@pytest.mark.parametrize(("record", "looks"), [("all", 1), ("tracked", 0)])
def test_the_callers_trace_is_looked_for_only_where_it_is_recorded(captured: Captured, record: str, looks: int) -> None:
    asked: list[str] = []

    def header(name: str) -> str | None:
        asked.append(name)
        return "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    opened(captured, header=header, record=record).finish()
    assert asked == ["traceparent"] * looks
    for trace_context, links in ("link", 1), ("ignore", 0):
        root = opened(captured, header=header, record=record, trace_context=trace_context)
        with root.activate():
            captured.tracker.track_ai("answer")
        root.finish()
        (span,) = [span for span in captured.spans if span.trace_id == root.trace_id and span.parent_id is None]
        assert len(span.links) == links
    assert asked == ["traceparent"] * (looks + 1)


def test_a_framework_may_tell_of_its_requests_beside_one_that_tells_of_its_runs(captured: Captured) -> None:
    captured.tracker._recorder.look_up_with(lambda: None)
    root = opened(captured)
    root.look_up_with(lambda: root)
    captured.tracker.track_ai("inside")
    root.finish()
    assert captured.one("inside").parent_id == captured.one("GET").span_id


def test_it_may_be_activated_inside_a_context(captured: Captured) -> None:
    with captured.tracker.context(user_id="u1"):
        root = opened(captured)
        with root.activate():
            captured.tracker.track_ai("inside")
        captured.tracker.track_ai("outside")
    root.finish()
    assert captured.one("inside").parent_id == captured.one("GET").span_id
    assert captured.one("outside").parent_id is None


def test_a_body_is_inside_though_the_request_was_left_in_another_context(captured: Captured) -> None:
    root = opened(captured)
    before, elsewhere = root.attach(), contextvars.Context()
    elsewhere.run(root.detach, before)
    root.detach(before)
    elsewhere.run(list, root.stream(captured.tracker.track_ai("chunk") for _ in range(1)))
    assert captured.one("chunk").parent_id == captured.one("GET").span_id


def test_an_async_body_that_is_closed_early_is_a_client_that_left(captured: Captured) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async def read() -> None:
        body = opened(captured).astream(chunks())
        assert await body.__anext__() == b"one"
        await body.aclose()

    asyncio.run(read())
    assert captured.one().attributes["rootspan.outcome"] == "cancelled"


def test_a_request_whose_id_was_handed_out_is_recorded(captured: Captured) -> None:
    asked, other = opened(captured, record="tracked"), opened(captured, record="tracked")
    trace_id = asked.trace_id
    other.finish()
    asked.finish()
    assert captured.one().trace_id == trace_id


def test_a_group_of_one_is_the_exception_in_it() -> None:
    group = type("ExceptionGroup", (Exception,), {"exceptions": ()})
    inner, outer, two = group(), group(), group()
    error = LookupError("x")
    inner.exceptions = (error,)
    outer.exceptions = (inner,)
    two.exceptions = (error, error)
    assert sole(outer) is error
    assert sole(two) is two
    assert sole(error) is error


def test_exceptions_of_odd_classes_are_failures_by_their_names(captured: Captured) -> None:
    group = type("ExceptionGroup", (Exception,), {"exceptions": 1, "__module__": None})
    with suppress(group), captured.tracker.begin("turn"):
        raise group("odd")
    assert captured.one("turn").attributes["error.type"] == "None.ExceptionGroup"
    assert captured.tracker.stats()["dropped"] == {}


def test_a_contract_without_an_app_says_so(captured: Captured) -> None:
    with pytest.raises(NotImplementedError):
        WebContract().serve(captured.tracker)
    assert WebContract().template("/x") == "/x"
    assert Echo(captured.tracker).current() == ""


def test_type_checkers_know_the_options_that_there_are() -> None:
    said = {name: hint.__forward_arg__ for name, hint in WebOptions.__annotations__.items()}
    assert said == {field.name: field.type for field in fields(RequestOptions) if field.init}


def test_a_header_is_found_by_its_whole_name() -> None:
    header = header_of([(b"x-other", b"no"), (b"X-Trace", b"a"), (b"x-trace-id", b"no"), (b"x-trace", b"b")])
    assert [header(name) for name in ("x-trace", "x-trac3", "x-tra")] == ["a, b", None, None]


def test_one_trusted_proxy_may_be_given_alone() -> None:
    for given in ("10.0.0.0/8", ["10.0.0.0/8"]):
        trusted = RequestOptions(trusted_proxies=given).trusted
        assert trusted is not None
        assert [trusted(ip_address(peer)) for peer in ("10.1.2.3", "11.1.2.3")] == [True, False]


def test_a_misspelt_option_is_named_with_the_right_one() -> None:
    with pytest.raises(ConfigurationError, match=r"usr_id= is no option.*\nFix: did you mean user_id="):
        RequestOptions.of({"usr_id": print})
    with pytest.raises(ConfigurationError, match="the names are capture_body, capture_headers, "):
        RequestOptions.of({"zzz": 1})
    with pytest.raises(ConfigurationError, match=r"of the tracker.*\nFix: rootspan\.configure\(service_name="):
        RequestOptions.of({"service_name": "shop"})
    with pytest.raises(ConfigurationError, match="capture_headers= has to be a list of names"):
        RequestOptions.of({"capture_headers": 5})
    assert RequestOptions.of({"record": "tracked"}).record == "tracked"


def test_what_was_captured_can_be_counted_looped_over_and_read(captured: Captured) -> None:
    captured.tracker.track_ai("one")
    captured.tracker.track_ai("two")
    assert len(captured) == 2
    assert [span.name for span in captured] == ["one", "two"]
    assert repr(captured) == "<Captured ['one', 'two']>"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"exclude": ["/ready", "health"]}, "exclude= says 'health', which matches no path"),
        ({"exclude": "^/health$"}, "patterns are no regular expressions"),
        ({"exclude": [5]}, "exclude= has to be path patterns"),
        ({"response_header": "x trace"}, "response_header= says 'x trace'"),
        ({"response_header": "x trace"}, "Fix: response_header='x-trace-id'."),
        ({"convo_header": 5}, "Fix: convo_header='x-conversation-id'."),
        ({"capture_headers": ["x-a", "x b"]}, "capture_headers= says 'x b'"),
        ({"capture_headers": ["x-a", None]}, "capture_headers= says None"),
        ({"trusted_proxies": [10]}, "Fix: trusted_proxies=['10.0.0.0/8']."),
        ({"trusted_proxies": b"10.0.0.1"}, "Fix: trusted_proxies=['10.0.0.0/8']."),
    ],
)
def test_a_wrong_option_is_named_with_what_would_be_right(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        RequestOptions(**given)
    assert said in str(raised.value)
