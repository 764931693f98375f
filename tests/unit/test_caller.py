"""What a call does on the thread that makes it: the least there is, told by name and not by the clock."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from rootspan import Tracker
from rootspan.ids import forget_ids, new_ids, new_span_id
from rootspan.pipeline.queue import weigh
from sinks import Sink

# What a lone event needs: an id, the time, where the code is, a count, and a place in the queue; no call of Python's.
PYTHON = {"track_ai"}
C = {"len", "pop", "time_ns", "get", "append", "__next__"}
# An interaction is more: it is current, it is known as open, others may take from it, and it ends by itself.
OPENING = {"start", "place", "holding", "new_ids", "opened", "handle", "inside"}
ENDING = {"finish", "put", "leave", "__del__"}


def called(call: Callable[[], object]) -> tuple[set[str], set[str]]:
    """Return the names of the Python and of the C functions that a call makes."""
    python: set[str] = set()
    c: set[str] = set()

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call":
            python.add(frame.f_code.co_name)
        elif event == "c_call":
            c.add(argument.__name__)

    gc.disable()  # what a collection calls belongs to no call
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
        gc.enable()
    return python - {"event", "inside"}, c - {"setprofile"}


@pytest.fixture
def quiet(sink: Sink) -> Any:
    """A tracker whose worker waits, with ids drawn: what a call does is not mixed with what others left to do."""
    forget_ids()
    new_span_id()
    new_ids()
    tracker = Tracker(endpoint=sink.url, flush_interval=60)
    tracker.track_ai("the first one starts the worker")
    yield tracker
    tracker.shutdown()


def test_an_event_takes_no_lock_formats_nothing_and_wakes_nobody(quiet: Tracker) -> None:
    def event() -> None:
        quiet.track_ai(
            "user_message", user_id="u1", convo_id="c1", model="gpt-4o", provider="openai", input="Hi", output="Hello!"
        )

    event()
    python, c = called(event)
    assert python <= PYTHON
    assert c <= C
    assert not quiet._recorder.pipeline._wake.is_set()


def test_the_event_that_finds_no_id_left_draws_the_next_ones_at_once(quiet: Tracker) -> None:
    forget_ids()
    python, c = called(lambda: quiet.track_ai("turn"))
    assert python - {"<lambda>"} <= {*PYTHON, "new_span_id", "randbytes"}
    assert c <= {*C, "getrandbits", "to_bytes", "hex", "split", "extend"}
    assert called(lambda: quiet.track_ai("turn"))[0] - {"<lambda>"} <= PYTHON


def test_scalars_of_every_kind_and_flat_properties_add_only_their_own_work(quiet: Tracker) -> None:
    def event() -> None:
        quiet.track_ai("turn", input=7, output=True, properties={"plan": "pro", "n": 3, "x": 0.5}, prompt_tokens=3)

    event()
    python, c = called(event)
    assert python <= {*PYTHON, "keep", "freeze", "rest"}
    assert c <= {*C, "values", "copy"}


def test_tokens_and_a_cost_are_looked_at_once_and_labels_only_where_they_are_given(quiet: Tracker) -> None:
    def model() -> None:
        quiet.track_ai("llm", model="gpt-4o", prompt_tokens=12, completion_tokens=3, estimated_cost=0.25, duration=1.5)

    def labelled() -> None:
        quiet.track_ai("llm", model="gpt-4o", prompt_tokens=12, tags=["eu", "beta"], agent_name="desk")

    for call, more in ((model, {"nanoseconds"}), (labelled, {"rare", "tags", "label"})):
        call()
        python, c = called(call)
        assert python - {call.__name__} <= {*PYTHON, "rest"} | more
        assert c <= {*C, "join", "max", "min"}


def test_an_event_inside_an_interaction_tells_its_root_in_one_call(quiet: Tracker) -> None:
    def event() -> None:
        quiet.track_ai("answer", user_id="u1", convo_id="c1", input="Hi", output="Hello!", completion_tokens=3)

    with quiet.begin("turn"):
        event()
        python, c = called(event)
    assert python <= {*PYTHON, "rest", "place", "took"}
    assert c <= C


def test_a_chat_is_copied_in_bulk_and_not_written(quiet: Tracker) -> None:
    def event() -> None:
        quiet.track_ai("turn", input=[{"role": "user", "content": "Hi"}] * 20)

    event()
    python, c = called(event)
    assert python <= {*PYTHON, "keep", "_messages"}
    assert c <= {*C, "copy", "join", "sum", "countOf", "__new__"}


def test_an_interaction_takes_no_lock_formats_nothing_and_wakes_nobody(quiet: Tracker) -> None:
    def event() -> None:
        quiet.begin("turn", user_id="u1", convo_id="c1", input="Hi").finish("Hello!")

    event()
    python, c = called(event)
    assert python <= {"begin", "_open_interaction", "identity"} | OPENING | ENDING
    assert c <= {*C, "set", "reset", "__new__"}
    assert not quiet._recorder.pipeline._wake.is_set()


def test_a_step_inside_one_adds_only_its_own_work(quiet: Tracker) -> None:
    def event() -> None:
        with quiet.tool_span("search", input="order 1042") as step:
            step.set_output("left the warehouse")

    with quiet.begin("turn"):
        event()
        python, c = called(event)
    above = {"holder", "took", "settle"}  # whose work it is, and that its parent has a child
    within = {"tool_span", "_open_step", "__enter__", "set_output", "kept", "__exit__"}
    assert python <= {*within, *above, "new_span_id"} | OPENING | ENDING
    assert c <= {*C, "set", "reset"}  # which tells whether the block ends where it began


def test_ten_thousand_events_leave_no_memory_behind(sink: Sink) -> None:
    tracker = Tracker(endpoint=sink.url)
    properties = {"plan": "pro", "n": 3}

    def burst() -> None:
        for number in range(2_000):
            tracker.track_ai("turn", user_id=f"u{number}", input="Hi" * 50, properties=properties)
        assert tracker.flush(60)
        sink.spans.clear()
        sink.requests.clear()
        gc.collect()

    burst()
    tracemalloc.start()
    try:
        burst()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(4):
            burst()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    tracker.shutdown()
    assert after - before < 200_000  # 25 bytes an event: caches, and what the collector of the test keeps


LONG = "x" * 20_000


def in_context(tracker: Tracker, number: str) -> None:
    with tracker.context(properties={"note": number + "p" * 5_000}):
        tracker.track_ai("turn")


def in_turn(tracker: Tracker, number: str) -> None:
    with tracker.begin(number + LONG, properties={"n": number}) as turn:
        turn.track_ai("answer", error=number + "Traceback " * 900)
        turn.finish(success=False, failure_reason=number + "Traceback " * 900)


WEIGHTS: dict[str, Callable[[Tracker, str], object]] = {
    "plain": lambda tracker, number: tracker.track_ai("turn", user_id="u1", input=number * 40),
    "long ids": lambda tracker, number: tracker.track_ai("turn", user_id=number + LONG, convo_id=number + LONG),
    "labels": lambda tracker, number: tracker.track_ai(
        "turn", tags=number + LONG, agent_name=number + LONG, response_model=number * 9, finish_reasons=["stop"]
    ),
    "an error": lambda tracker, number: tracker.track_ai("turn", error=number + "Traceback " * 900),
    "an exception": lambda tracker, number: tracker.track_ai("turn", error=ValueError(number + LONG)),
    "no message": lambda tracker, number: tracker.track_ai("turn", error=Unspeakable()),
    "a long step": lambda tracker, number: tracker.track_tool_call(number + LONG, {"q": number}, error=number + LONG),
    "in a context": in_context,
    "in a turn": in_turn,
}


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("name", WEIGHTS)
def test_what_is_added_holds_and_is_what_will_be_subtracted(name: str, quiet: Tracker) -> None:
    pipeline = quiet._recorder.pipeline
    WEIGHTS[name](quiet, "warm")
    size, count = pipeline.queue.size, len(pipeline.queue.records)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(40):  # below the mark that wakes the worker
            WEIGHTS[name](quiet, f"{number:05}")
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pipeline.queue.size - size == sum(map(weigh, list(pipeline.queue.records)[count:]))
    assert after - before < 3 * (pipeline.queue.size - size)  # labels of full length are in no sum


def test_a_queued_event_weighs_about_what_the_bound_counts(quiet: Tracker) -> None:
    texts = [f"{number:05}" * 40 for number in range(500)]  # below the mark that wakes the worker
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for text in texts:
            quiet.track_ai("turn", user_id="u1", input=text, properties={"plan": "pro", "n": 3})
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    counted = quiet._recorder.pipeline.queue.size
    assert after - before < counted, "the bound in bytes would not hold"
