"""The run tree on a framework of twenty lines, which tells its hooks ids and nothing else."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from pages import printed
from rootspan import Tracker, runs
from rootspan.adapter import Kind, Run, trace_id_for
from rootspan.runs import forest
from rootspan.testing import RunTreeContract, captured_spans
from sinks import Sink

RUNNING: ContextVar[tuple[str, Any] | None] = ContextVar("tiny_framework", default=None)
NUMBERS = itertools.count()


def current() -> str | None:
    running = RUNNING.get()
    return None if running is None else running[0]


Hook = printed(2, current=current)["Hook"]  # what the page says that it takes to put a framework on the run tree


def run(name: str, work: Callable[[], Any], hook: Any = None) -> Any:
    """The framework: runs work under an id of its own, and tells the hook."""
    above = RUNNING.get()
    hook = hook or (above[1] if above else None)
    run_id = f"run {next(NUMBERS)}"
    token = RUNNING.set((run_id, hook))
    error: BaseException | None = None
    if hook is not None:
        hook.start(run_id, above[0] if above else None, name)
    try:
        return work()
    except BaseException as raised:
        error = raised
        raise
    finally:
        RUNNING.reset(token)
        if hook is not None:
            hook.end(run_id, error)


class TestTinyFramework(RunTreeContract):
    def invoke(self, tracker: Tracker, work: Callable[[], Any], user_id: Any = None, convo_id: Any = None) -> Any:
        hook = Hook(tracker, user_id, convo_id)
        try:
            return run("root", work, hook)
        finally:
            assert hook.tree.stats()["kept"] == 0

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        return run(name, work)


@pytest.fixture
def hook(tracker: Tracker) -> Any:
    return Hook(tracker, "u1", None)


def test_a_trace_id_follows_from_the_run_id_and_is_spread_evenly(hook: Any, tracker: Tracker, sink: Sink) -> None:
    """Sampling reads the first digits, and ids of version 7 begin with the time."""
    hook.start("run x", None, "root")
    hook.end("run x", None)
    assert tracker.flush(20)
    assert sink.one("root").trace_id == trace_id_for("run x")
    near = [uuid.UUID(int=(1_700_000_000_000 << 80) + number) for number in range(400)]
    assert 120 < sum(int(trace_id_for(one)[:8], 16) < 2**31 for one in near) < 280


def test_a_run_of_another_hook_is_neither_started_nor_ended_twice(tracker: Tracker, sink: Sink) -> None:
    first, second = Hook(tracker, "u1", None), Hook(tracker, "u2", None)
    for hook in (first, second):
        hook.start("run y", None, "root")
    assert (first.tree.stats()["open"], second.tree.stats()["open"]) == (1, 0)
    for hook in (second, first):
        hook.end("run y", None)
    assert tracker.flush(20)
    assert sink.one("root").attributes["user.id"] == "u1"


def test_a_run_that_ends_twice_is_recorded_once(hook: Any, tracker: Tracker) -> None:
    hook.start("run z", None, "root")
    found = hook.tree.find("run z")
    assert found is not None
    hook.tree.end(found)
    hook.tree.end(found, "failure", ("E", "late"))
    assert tracker.stats()["recorded"] == 1


def test_what_was_paused_is_resumed_once_the_newest_first(hook: Any) -> None:
    assert hook.tree.resume("thread") is None
    for name in ("a", "b"):
        hook.start(name, None, name)
        found = hook.tree.find(name)
        assert found is not None
        hook.tree.pause("thread", found)
        hook.end(name, None)
    newest, oldest = hook.tree.resume("thread"), hook.tree.resume("thread")
    assert newest is not None
    assert oldest is not None
    assert (newest[0][:32], oldest[0][:32]) == (trace_id_for("b"), trace_id_for("a"))
    assert oldest[1] >= 0
    assert hook.tree.resume("thread") is None


def test_an_adapter_that_fails_to_close_a_run_costs_that_runs_notes_only(tracker: Tracker, sink: Sink) -> None:
    hook = Hook(tracker, "u1", None)
    hook.start("top", None, "top")
    hook.start("below", "top", "below")
    below = hook.tree.find("below")
    assert below is not None

    def fail(run: Any) -> None:
        raise KeyError("a mistake")

    below.on_close = fail
    hook.end("top", ValueError("broken"))
    assert hook.tree.stats()["kept"] == 0
    assert tracker.flush(20)
    assert sink.one("below").parent_id == sink.one("top").span_id
    assert tracker.stats()["dropped"] == {"internal_error": 1}
    tracker.shutdown()


class Remembering(Run):
    """A run of an adapter that knows more of it."""

    said = "so far"

    def on_close(self) -> None:
        if self.span is not None:
            self.span.output = self.said


def test_a_run_of_a_class_of_ones_own_tells_what_it_knows_where_no_event_ends_it() -> None:
    with captured_spans() as captured:
        tree = Hook(captured.tracker, "u1", None).tree
        top = tree.start("top", None, Kind.INTERACTION, "top")
        below, hidden = Remembering("below", top, tree), Remembering("hidden", top, tree)
        tree.open(below, Kind.STEP, "below")
        tree.open(hidden, Kind.STEP, "hidden", shown=False)
        tree.start("child", hidden, Kind.STEP, "child")
        assert tree.find("below") is below
        tree.end(top, "failure", ("E", "broken"))
        assert {span.name for span in captured} == {"top", "below", "child"}
        assert captured.one("below").attributes["output.value"] == "so far"
        assert captured.one("child").parent_id == captured.one("top").span_id


@pytest.mark.parametrize("bounded", [False, True])
def test_delivery_12_no_lock_is_held_while_the_hosts_own_code_runs(sink: Sink, tmp_path: Path, bounded: bool) -> None:
    """Beside a spool a `redact` hook runs where a run is recorded; what it waits for may start a run as well."""
    waited: list[bool] = []

    def redact(path: str, value: Any) -> Any:
        if value == "wait":
            thread = threading.Thread(target=hook.start, args=("elsewhere", None, "elsewhere"))
            thread.start()
            thread.join(3)
            waited.append(thread.is_alive())
        return value

    tracker = Tracker(endpoint=sink.url, spool=str(tmp_path), redact=redact, max_open_sessions=2)
    hook = Hook(tracker, "u1", None)
    hook.start("top", None, "top")
    hook.start("below", "top", "below")
    below = hook.tree.find("below")
    assert below is not None
    assert below.span is not None
    below.span.input = "wait"
    if bounded:
        hook.start("one more", None, "one more")
    else:
        hook.end("top", ValueError("broken"))
    assert waited == [False]
    tracker.shutdown()


def test_a_bound_of_one_run_leaves_the_newest_invocation_its_root() -> None:
    with captured_spans(max_open_sessions=1) as captured:
        hook = Hook(captured.tracker, "u1", None)
        hook.start("top", None, "top")
        hook.start("below", "top", "below")
        assert captured.one("below").attributes["rootspan.outcome"] == "abandoned"
        hook.end("top", None)
        assert {span.name for span in captured} == {"top", "below"}


def test_as_many_runs_as_the_bound_says_stay_open() -> None:
    with captured_spans(max_open_sessions=2) as captured:
        hook = Hook(captured.tracker, "u1", None)
        hook.start("first", None, "first")
        hook.start("second", None, "second")
        assert [span.name for span in captured] == []
        hook.start("third", None, "third")
        assert [span.name for span in captured] == ["first"]


def test_of_an_invocation_beyond_the_bound_the_oldest_below_its_root_make_room() -> None:
    with captured_spans(max_open_sessions=10) as captured:
        hook = Hook(captured.tracker, "u1", None)
        hook.start("top", None, "top")
        for number in range(10):
            hook.start(f"run {number}", "top", f"run {number}")
        assert [span.name for span in captured] == ["run 0", "run 1"]
        hook.end("run 2", None)
        hook.end("top", None)
        assert captured.one("run 2").attributes.get("rootspan.outcome") is None
        assert hook.tree.stats()["closed_by_count"] == 2


@pytest.mark.parametrize("bound", [3, 100])
def test_a_framework_that_uses_an_id_twice_loses_no_run(bound: int) -> None:
    with captured_spans(max_open_sessions=bound) as captured:
        tree = Hook(captured.tracker, "u1", None).tree
        top = tree.start("top", None, Kind.INTERACTION, "top")
        found = [tree.start("same", top, Kind.STEP, f"step {number}") for number in range(2)]
        other = tree.start("other", top, Kind.STEP, "other")
        last = tree.start("last", top, Kind.STEP, "last")
        for one in (*found, other, last, top):
            tree.end(one)
        assert {span.name for span in captured} == {"top", "step 0", "step 1", "other", "last"}
        assert tree.stats()["kept"] == 0


def test_a_forked_child_does_not_wait_for_a_lock_of_its_parent(hook: Any) -> None:
    hook.start("top", None, "top")
    with hook.tree._forest.lock:
        thread = threading.Thread(target=lambda: (forest._renew_locks(), hook.start("below", "top", "below")))
        thread.start()
        thread.join(30)
        assert not thread.is_alive()


@pytest.mark.parametrize("ends", [True, False])
def test_a_failure_costs_the_same_however_many_others_there_are(hook: Any, ends: bool) -> None:
    def lines() -> int:
        found = 0

        def trace(frame: Any, event: str, argument: Any) -> Any:
            nonlocal found
            found += event == "line" and frame.f_code.co_filename in (runs.__file__, forest.__file__)
            return trace

        hook.start("next", "top", "next")
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            hook.end("next", ValueError("broken"))
        finally:
            sys.settrace(before)
        return found

    hook.start("top", None, "top")
    few = lines()
    for number in range(200):
        hook.start(f"run {number}", "top", "step")
        if ends:
            hook.end(f"run {number}", None)
    assert 0 < lines() == few
    hook.end("top", None)


class Left:
    """A stream that was left behind: whoever finds that nobody has it any more closes it."""

    def __init__(self, close: Callable[[], object]) -> None:
        self.close, self.itself = close, self

    def __del__(self) -> None:
        self.close()


def collected_after(allocations: int, close: Callable[[], object], work: Callable[[], object]) -> None:
    """Do the work, and collect what was left behind after so many objects that garbage collection counts."""
    before = gc.get_threshold()
    gc.disable()
    gc.freeze()  # what else there is takes long to look through
    try:
        gc.collect()
        Left(close)
        gc.set_threshold(gc.get_count()[0] + allocations, 10**6, 10**6)
        gc.enable()
        work()
    finally:
        gc.set_threshold(*before)
        gc.enable()
        gc.collect()
        gc.unfreeze()


@pytest.mark.parametrize(("most", "work"), [(9, "begins"), (3, "begins"), (9, "fails"), (9, "is counted")])
def test_a_run_may_be_ended_by_garbage_collection_anywhere(most: int, work: str) -> None:
    works: dict[str, Callable[[], object]] = {
        "begins": lambda: hook.start("next", None, "next"),
        "fails": lambda: hook.end("top", ValueError("broken")),
        "is counted": lambda: hook.tree.stats(),
    }

    def close() -> None:
        for name in ("below", "top", "other"):
            hook.end(name, GeneratorExit())

    for allocations in range(60):
        with captured_spans(max_open_sessions=most) as captured:
            hook = Hook(captured.tracker, "u1", None)
            for name, above in (("other", None), ("top", None), ("below", "top"), ("live", None)):
                hook.start(name, above, name)
            collected_after(allocations, close, works[work])
            for name in ("live", "next"):
                hook.end(name, None)
            assert {span.name for span in captured.spans} - {"next"} == {"other", "top", "below", "live"}
            assert hook.tree.stats()["kept"] == 0
