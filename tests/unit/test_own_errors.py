"""A mistake of rootspan's own costs a record, which is counted, and never reaches the host."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import context, trace

from rootspan import Tracker, host_span
from rootspan.adapter import RequestInfo, RequestOptions, open_request
from rootspan.dialect import link_to
from rootspan.record import Link
from rootspan.recorder import Recorder
from rootspan.spool import Spool
from rootspan.transport import Transport
from sinks import Sink


def broken(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("a mistake of our own")


def within_a_turn(call: Callable[[Any], Any]) -> Callable[[Tracker, Callable[[], None]], Any]:
    def run(tracker: Tracker, break_it: Callable[[], None]) -> Any:
        with tracker.begin("turn", user_id="u1") as turn:
            break_it()
            return call(turn)

    return run


def outside(call: Callable[[Tracker], Any]) -> Callable[[Tracker, Callable[[], None]], Any]:
    def run(tracker: Tracker, break_it: Callable[[], None]) -> Any:
        break_it()
        return call(tracker)

    return run


def with_a_session(call: Callable[[Tracker, str], Any]) -> Callable[[Tracker, Callable[[], None]], Any]:
    def run(tracker: Tracker, break_it: Callable[[], None]) -> Any:
        session = tracker.create_session(user_id="u1")
        break_it()
        return call(tracker, session)

    return run


CALLS: dict[str, tuple[str, Callable[[Tracker, Callable[[], None]], Any]]] = {
    "track_ai": ("place", within_a_turn(lambda turn: turn.track_ai("event"))),
    "track_decision": ("step", outside(lambda tracker: tracker.track_decision("because"))),
    "track_feedback": ("feedback", outside(lambda tracker: tracker.track_feedback("0123456789abcdef"))),
    "begin": ("start", outside(lambda tracker: tracker.begin("turn").finish())),
    "tool_span": ("start", outside(lambda tracker: tracker.tool_span("tool").finish())),
    "create_session": ("start", outside(lambda tracker: tracker.create_session())),
    "complete_session": ("take_session", with_a_session(lambda tracker, session: tracker.complete_session(session))),
    "update": ("update", within_a_turn(lambda turn: turn.update(output="x"))),
    "set_output": ("kept", within_a_turn(lambda turn: turn.set_output({"n": 1}))),
    "the output of a decorated function": ("kept", outside(lambda tracker: tracker.tool("tool")(lambda: None)())),
    "finish": ("verdict", within_a_turn(lambda turn: turn.finish(success=True))),
    "with": ("finish", within_a_turn(lambda turn: turn.__exit__(None, None, None))),
}


@pytest.mark.parametrize("name", CALLS)
def test_it_is_counted_and_nothing_is_raised(
    name: str, tracker: Tracker, sink: Sink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """delivery 10"""
    method, call = CALLS[name]
    answer = call(tracker, lambda: monkeypatch.setattr(Recorder, method, broken))
    monkeypatch.undo()
    assert answer is None or (isinstance(answer, str) and len(answer) in (16, 48))
    stats = tracker.stats()
    assert stats["dropped"]["internal_error"] >= 1
    assert "a mistake of our own" in caplog.text
    tracker.track_ai("still there")
    assert tracker.flush(20)
    assert sink.one("still there")


def test_update_current_raises_nothing_either(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """delivery 10"""
    with tracker.begin("turn"):
        monkeypatch.setattr(Recorder, "holders", broken)
        tracker.update_current(user_id="u1")
    assert tracker.stats()["dropped"] == {"internal_error": 1}


def test_neither_do_current_and_context(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """delivery 10"""
    with tracker.begin("turn"):
        monkeypatch.setattr(Recorder, "place", broken)
        assert tracker.current() is None
        with tracker.context(user_id="u1"):
            monkeypatch.undo()
            tracker.track_ai("inside")
    assert tracker.stats()["dropped"] == {"internal_error": 2}


class OddSpan:
    """A span of the host's own making."""

    def __init__(self, context: Any) -> None:
        self.context = context

    def get_span_context(self) -> Any:
        if self.context is None:
            raise RuntimeError("the host's mistake")
        return self.context


class OddNonRecordingSpan(trace.NonRecordingSpan):
    get_span_context = broken


def test_a_handle_that_is_collected_raises_nothing(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """delivery 10; an exception in a `__del__` would be an unraisable one, which is an error here"""
    handle = tracker.begin("turn")
    request = open_request(RequestInfo(None, "GET", "/"), RequestOptions(tracker=tracker))
    transport = Transport(tracker.settings)
    monkeypatch.setattr(Recorder, "finish", broken)
    monkeypatch.setattr(Transport, "close", broken)
    with tracker.begin("around"):  # what is current would keep the other one
        del handle, request, transport
        gc.collect()


def test_an_announcement_that_fails_costs_no_interaction(
    sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """delivery 10"""
    tracker = Tracker(endpoint=sink.url, spool=str(tmp_path / "spool"))
    with monkeypatch.context() as patch:
        patch.setattr(Spool, "begin", broken)
        turn = tracker.begin("turn")
    turn.finish()
    assert tracker.flush(10)
    assert sink.one("turn")
    assert "could not announce an interaction" in caplog.text
    tracker.shutdown()


@pytest.mark.parametrize("look", [host_span._public_host_span, host_span._direct_host_span])
def test_a_host_span_is_linked_both_ways_and_an_odd_one_is_none(look: Callable[[Any], Any]) -> None:
    valid = trace.SpanContext(1, 2, is_remote=False)
    assert link_to(look(context.get_current())) is None
    for span, link in (
        (trace.NonRecordingSpan(valid), Link(f"{1:032x}", f"{2:016x}")),
        (trace.NonRecordingSpan(trace.INVALID_SPAN_CONTEXT), None),
        (OddSpan(None), None),
        (OddNonRecordingSpan(valid), None),
    ):
        token = context.attach(context.set_value(trace.propagation._SPAN_KEY, span))
        try:
            assert link_to(look(context.get_current())) == link
        finally:
            context.detach(token)
