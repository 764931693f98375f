"""What `rootspan.testing` gives to those who test: spans in memory, and clients that are servers to an app."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rootspan
from rootspan import ConfigurationError, Tracker
from rootspan.adapter import GroupedSettings
from rootspan.testing import AsgiClient, CapturedSpan, WsgiClient, captured_spans
from sinks import Sink


def test_spans_are_plain_data() -> None:
    with captured_spans(service_name="shop") as captured:
        with captured.tracker.begin("turn", user_id="u1", tags=["a", "b"]) as turn:
            captured.tracker.track_error(error_message="no such thing", error_type="LookupError")
        span = captured.one()
        assert isinstance(span, CapturedSpan)
        assert (span.name, span.trace_id, span.span_id, span.parent_id) == ("turn", turn.trace_id, turn.span_id, None)
        assert span.attributes["tag.tags"] == ["a", "b"]
        assert span.resource["service.name"] == "shop"
        (error,) = captured.children(span)
        assert error.failed
        assert error.events[0][1]["exception.message"] == "no such thing"
        captured.clear()
        assert captured.spans == []


def test_one_says_what_there_is_instead() -> None:
    with captured_spans() as captured:
        captured.tracker.track_ai("first")
        captured.tracker.track_ai("second")
        with pytest.raises(AssertionError, match=r"2 roots among \['first', 'second'\]"):
            captured.one()
        with pytest.raises(AssertionError, match="0 spans called 'third'"):
            captured.one("third")


def test_trackers_see_nothing_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTSPAN_DISABLED", "true")
    monkeypatch.setenv("ROOTSPAN_SAMPLE_RATE", "0")
    monkeypatch.setenv("ROOTSPAN_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("ROOTSPAN_SPOOL", "/nowhere")
    with captured_spans() as one, captured_spans() as other:
        with one.tracker.begin("one"):
            other.tracker.track_ai("other")
        assert [span.name for span in one.spans] == ["one"]
        assert [(span.name, span.parent_id) for span in other.spans] == [("other", None)]


def test_the_default_tracker_can_be_captured_and_is_given_back() -> None:
    def recorder() -> Any:
        return rootspan.default_tracker._recorder

    before = recorder()
    with captured_spans() as untouched:
        assert recorder() is before
    with captured_spans(default=True) as captured:
        rootspan.track_ai("by the module", input="Hi")
        assert captured.one().name == "by the module"
        with captured_spans(default=True) as inner:
            rootspan.track_ai("inside")
            assert inner.one().name == "inside"
        rootspan.track_ai("again")
        assert len(captured.spans) == 2
    assert recorder() is before
    assert untouched.spans == []


@pytest.fixture
def unused(monkeypatch: pytest.MonkeyPatch) -> Tracker:
    """The default tracker, as it is before anybody used it."""
    tracker = rootspan.default_tracker
    monkeypatch.setattr(tracker, "_recorder", Tracker.default()._recorder)
    monkeypatch.setattr(tracker._recorder, "_tracker", tracker)
    return tracker


def test_a_default_tracker_that_nobody_used_is_left_unused(unused: Tracker) -> None:
    before = unused._recorder
    with captured_spans(default=True) as captured:
        rootspan.track_ai("first of all")
        assert captured.one().name == "first of all"
    assert unused._recorder is before
    assert vars(before)["_found"] is None


def test_what_is_configured_inside_holds_afterwards_and_records_here(sink: Sink, unused: Tracker) -> None:
    with captured_spans(default=True) as captured:
        with captured_spans(default=True) as inner:
            app = rootspan.configure(endpoint=sink.url, service_name="shop")
            rootspan.track_ai("by the module")
            app.track_ai("by the app")
            assert [span.name for span in inner.spans] == ["by the module", "by the app"]
            with pytest.raises(ConfigurationError, match="endpont"):
                rootspan.configure(endpont=sink.url)
        app.track_ai("outside")
        assert captured.one().name == "outside"
    for tracker in (unused, app):
        assert tracker.settings.resource_attributes["service.name"] == "shop"
        tracker.track_ai("afterwards")
        assert tracker.flush(30)
    assert [span.name for span in sink.spans] == ["afterwards", "afterwards"]


def test_a_group_of_settings_that_is_taken_back_inside_leaves_what_was_before(
    unused: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOTSPAN_SERVICE_NAME", "from the environment")
    group = GroupedSettings("app.settings")
    with captured_spans(default=True) as captured:
        group.apply({"service_name": "shop"})
        rootspan.track_ai("with it")
        group.apply(None)
        rootspan.track_ai("without")
        assert len(captured) == 2
    assert unused.settings.resource_attributes["service.name"] == "from the environment"
    assert unused.settings.exporters == ()


def test_what_does_not_arrive_is_an_assertion(monkeypatch: pytest.MonkeyPatch) -> None:
    with captured_spans() as captured:
        monkeypatch.setattr("rootspan.testing.captured._PATIENCE", 0.0)
        monkeypatch.setattr(captured.tracker, "flush", lambda timeout: False)
        with pytest.raises(AssertionError, match="did not arrive"):
            _ = captured.spans


async def streaming(scope: Any, receive: Any, send: Any) -> None:
    parts = []
    while True:
        message = await receive()
        parts.append(message["body"])
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 201, "headers": [(b"X-Got", b"".join(parts))]})
    for number in range(3):
        await send({"type": "http.response.body", "body": str(number).encode(), "more_body": True})
    await send({"type": "http.response.body"})
    assert (await receive())["type"] == "http.disconnect"
    await send({"type": "http.response.body", "body": b"late"})


def test_the_asgi_client_reads_chunk_by_chunk() -> None:
    with AsgiClient(streaming) as client:
        answer = client.request("POST", "/a%20b?q=1", {"X-A": "ü"}, b"body")
        assert (answer.status, answer.headers) == (201, {"x-got": b"body".decode()})
        assert list(answer) == [b"0", b"1", b"2"]
        assert answer.error is None
        assert client.request("POST", "/", body=b"x").body == b"012"
        left = client.request("POST", "/", body=b"x")
        assert next(iter(left)) == b"0"
        left.close()


def test_the_asgi_client_gives_up_on_a_silent_app(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(3_600)

    monkeypatch.setattr("rootspan.testing.clients._PATIENCE", 0.01)
    with AsgiClient(silent) as client, pytest.raises(AssertionError, match="said nothing"):
        client.request("GET", "/")


def test_the_asgi_client_gives_up_on_an_app_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def stubborn(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await asyncio.sleep(3_600)

    with AsgiClient(stubborn) as client:
        answer = client.request("GET", "/")
        monkeypatch.setattr("rootspan.testing.clients._PATIENCE", 0.01)
        with pytest.raises(AssertionError, match="had not ended"):
            answer.close()


def test_an_app_that_raises_is_a_500_with_its_error(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("asgi")

    def wsgi_broken(environ: Any, start_response: Any) -> Any:
        raise LookupError("wsgi")

    with AsgiClient(broken) as client, caplog.at_level(logging.DEBUG):
        answers = [client.request("GET", "/"), WsgiClient(wsgi_broken).request("GET", "/")]
        assert [(answer.status, answer.body, str(answer.error)) for answer in answers] == [
            (500, b"", "asgi"),
            (500, b"", "wsgi"),
        ]


class Body:
    def __init__(self, *chunks: bytes) -> None:
        self.chunks, self.closed = list(chunks), 0

    def __iter__(self) -> Any:
        yield from self.chunks
        raise LookupError("at the end")

    def close(self) -> None:
        self.closed += 1


def test_the_wsgi_client_iterates_and_closes_once() -> None:
    body = Body(b"", b"one", b"two")
    seen: dict[str, Any] = {}

    def app(environ: Any, start_response: Any) -> Any:
        seen.update(environ)
        start_response("202 Accepted", [("X-A", "b")])(b"written ")
        return body

    with WsgiClient(app, peer="192.0.2.7") as client:
        answer = client.request("PUT", "/a%C3%BC?q=1", {"content-type": "text/plain", "X-Y": "z"}, b"hello")
    assert (answer.status, answer.headers) == (202, {"x-a": "b"})
    assert answer.text == "written onetwo"
    assert str(answer.error) == "at the end"
    answer.close()
    assert body.closed == 1
    assert seen["wsgi.input"].read() == b"hello"
    wanted = ("PUT", "/a\xc3\xbc", "q=1", "text/plain", "5", "z", "192.0.2.7")
    names = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_X_Y", "REMOTE_ADDR")
    assert tuple(seen[name] for name in names) == wanted


BROKEN = """
from contextlib import nullcontext
from rootspan.testing import RunTreeContract, WebContract, WsgiClient

def app(environ, start_response):
    start_response("200 OK", [])
    return []

class TestWeb(WebContract):
    def serve(self, tracker, **options):
        return nullcontext(WsgiClient(app))

class TestRuns(RunTreeContract):
    def invoke(self, tracker, work, user_id=None, convo_id=None):
        return "nothing"
"""


def test_a_case_that_fails_says_what_it_saw(tmp_path: Path) -> None:
    """In anybody's pytest, which by itself shows values of the test's own file only."""
    (tmp_path / "test_broken.py").write_text(BROKEN)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "one_isolated_root or steps_below", "."]
    said = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE)
    for seen in (b"assert 200 == 204", b"assert ['nothing'] == ['done']"):
        assert seen in said.stdout
