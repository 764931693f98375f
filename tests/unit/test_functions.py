"""The decorators follow the four kinds of function, and sessions by id reach other threads and processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from typing import Any

import pytest

from rootspan import Tracker
from sinks import Sink


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


@pytest.fixture
def tracker(sink: Sink) -> Iterator[Tracker]:
    tracker = Tracker(endpoint=sink.url)
    yield tracker
    tracker.shutdown()


def test_four_kinds_of_function(tracker: Tracker, sink: Sink) -> None:
    @tracker.tool
    def plain(x: int) -> int:
        tracker.track_ai("in plain")
        return x

    @tracker.tool
    async def coroutine(x: int) -> int:
        tracker.track_ai("in coroutine")
        return x

    @tracker.tool
    def generator(x: int) -> Generator[str, str, str]:
        tracker.track_ai("in generator")
        sent = yield "a"
        with pytest.raises(KeyError):
            yield sent
        return "result"

    @tracker.tool(capture_input=False)
    async def async_generator(x: int) -> AsyncGenerator[str, None]:
        tracker.track_ai("in async_generator")
        yield "a"
        yield "b"

    async def main() -> None:
        assert await coroutine(2) == 2
        assert [item async for item in async_generator(4)] == ["a", "b"]

    assert plain(1) == 1
    asyncio.run(main())
    steps = generator(3)
    assert (next(steps), steps.send("sent")) == ("a", "sent")
    assert tracker.current() is None
    with pytest.raises(StopIteration) as stop:
        steps.throw(KeyError())
    assert stop.value.value == "result"
    assert tracker.flush(5)
    for name, given in (("plain", 1), ("coroutine", 2), ("generator", 3), ("async_generator", None)):
        span = sink.one(name)
        assert sink.one(f"in {name}").parent_id == span.span_id
        assert span.attributes.get("input.value") == (None if given is None else f'{{"x":{given}}}')
        assert span.status_code == 0
    assert sink.one("async_generator").attributes["output.value"] == "ab"


def test_a_begin_inside_a_decorated_generator_is_its_child(tracker: Tracker, sink: Sink) -> None:
    @tracker.interaction(event="outer")
    def stream() -> Iterator[int]:
        tracker.begin("inner").finish()
        yield 1

    assert list(stream()) == [1]
    assert tracker.flush(5)
    assert sink.one("inner").parent_id == sink.one("outer").span_id


def test_abandoned_half_way(tracker: Tracker, sink: Sink) -> None:
    @tracker.tool(name="closed")
    def closed() -> Iterator[int]:
        yield from range(3)

    @tracker.tool(name="collected")
    async def collected() -> AsyncGenerator[int, None]:
        yield 1
        yield 2

    steps: Any = closed()
    next(steps)
    steps.close()

    async def main() -> None:
        await collected().__anext__()
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert tracker.flush(5)
    outcomes = [sink.one(name).attributes["rootspan.outcome"] for name in ("closed", "collected")]
    assert outcomes == ["abandoned"] * 2


def test_carry(tracker: Tracker, sink: Sink) -> None:
    with tracker.begin("turn") as turn:
        thread = threading.Thread(target=tracker.carry(tracker.track_ai), args=("carried",))
        thread.start()
        thread.join()
    assert tracker.flush(5)
    assert sink.one("carried").parent_id == turn.span_id


def test_a_session_in_another_process(tracker: Tracker, sink: Sink) -> None:
    session_id = tracker.create_session("s", "agent", user_id="u1")
    code = (
        f"import rootspan\nrootspan.track_tool_call('far', session_id={session_id!r})\n"
        f"rootspan.complete_session({session_id!r}, True, user_id='u1', prompt_tokens=5)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ROOTSPAN_ENDPOINT": sink.url}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    tracker.complete_session(session_id, True)
    tracker.complete_session(session_id, False)
    assert tracker.flush(5)
    root = sink.one("invoke_agent agent")
    assert root.trace_id + root.span_id == session_id
    assert [sink.one(name).parent_id for name in ("far", "session_outcome")] == [root.span_id] * 2
    assert sink.one("session_outcome").attributes["rootspan.session.input_tokens"] == 5
    assert root.status_code == 0


def test_open_sessions_are_bounded(sink: Sink) -> None:
    tracker = Tracker(endpoint=sink.url, max_open_sessions=2)
    ids = [tracker.create_session(f"s{number}") for number in range(3)]
    assert tracker.flush(5)
    (span,) = sink.spans
    assert (span.trace_id + span.span_id, span.attributes["rootspan.outcome"]) == (ids[0], "unfinished")
    tracker.shutdown()


def test_feedback(tracker: Tracker, sink: Sink) -> None:
    span_id = tracker.track_ai("answer")
    with tracker.begin("turn", convo_id="c1") as turn:
        pass
    tracker.track_feedback(span_id, name="of a span", score=1)
    tracker.track_feedback(turn, name="of a turn", label="good", comment="nice")
    assert tracker.flush(5)
    first, second = sink.find("gen_ai.evaluation.result")
    assert (first.attributes["rootspan.target.span_id"], first.links) == (span_id, [])
    assert (second.links, second.attributes["session.id"]) == ([(turn.trace_id, turn.span_id)], "c1")
