"""The run tree on a framework of twenty lines, which tells its hooks ids and nothing else."""

from __future__ import annotations

import itertools
import sys
import threading
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

from rootspan import Tracker, runs
from rootspan.adapter import RunTree, trace_id_for
from rootspan.arguments import outcome_of
from rootspan.record import Kind
from rootspan.testing import RunTreeContract, captured_spans
from sinks import Sink

RUNNING: ContextVar[tuple[str, Any] | None] = ContextVar("tiny_framework", default=None)
NUMBERS = itertools.count()


class Hook:
    """An adapter: what it takes to put a framework on the run tree."""

    def __init__(self, tracker: Tracker, user_id: Any, convo_id: Any) -> None:
        self.tree = RunTree(tracker, current)
        self.identity = self.tree.recorder.identity(user_id, convo_id)

    def start(self, run_id: str, parent_id: str | None, name: str) -> None:
        if not self.tree.is_known(run_id):
            parent = self.tree.parent(parent_id)
            kind = Kind.INTERACTION if parent is None else Kind.STEP
            self.tree.start(run_id, parent, kind, name, self.identity)

    def end(self, run_id: str, error: BaseException | None) -> None:
        run = self.tree.find(run_id)
        if run is not None:
            self.tree.end(run, *((None, None) if error is None else outcome_of(error)))


def current() -> str | None:
    running = RUNNING.get()
    return None if running is None else running[0]


def run(name: str, work: Callable[[], Any], hook: Hook | None = None) -> Any:
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
def hook(tracker: Tracker) -> Hook:
    return Hook(tracker, "u1", None)


def test_a_trace_id_follows_from_the_run_id_and_is_spread_evenly(hook: Hook, tracker: Tracker, sink: Sink) -> None:
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


def test_a_run_that_ends_twice_is_recorded_once(hook: Hook, tracker: Tracker) -> None:
    hook.start("run z", None, "root")
    found = hook.tree.find("run z")
    assert found is not None
    hook.tree.end(found)
    hook.tree.end(found, "failure", ("E", "late"))
    assert tracker.stats()["recorded"] == 1


def test_what_was_paused_is_resumed_once_the_newest_first(hook: Hook) -> None:
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


def test_a_failure_costs_the_same_however_many_have_ended(hook: Hook) -> None:
    def lines() -> int:
        found = 0

        def trace(frame: Any, event: str, argument: Any) -> Any:
            nonlocal found
            found += event == "line" and frame.f_code.co_filename == runs.__file__
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
        hook.end(f"run {number}", None)
    assert 0 < lines() == few
    hook.end("top", None)


def interrupted(at: int, work: Callable[[], object], instead: Callable[[], object]) -> bool:
    """Do the work, and something else before the `at`-th line of the run tree's; return whether it has so many."""
    left = at

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != runs.__file__:
            return None
        left -= event == "line"
        if left == 0 and event == "line":
            sys.settrace(None)
            instead()
            sys.settrace(trace)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return left <= 0


@pytest.mark.parametrize("work", ["fails", "is beyond the bound", "is counted"])
def test_a_run_may_end_anywhere_between(work: str) -> None:
    """Garbage collection closes a stream that was left behind, wherever it runs, and LangChain tells the end of it."""

    def end_all() -> None:
        for name in ("inner", "below", "top"):
            hook.end(name, GeneratorExit())

    works: dict[str, Callable[[], object]] = {
        "fails": lambda: hook.end("top", ValueError("broken")),
        "is beyond the bound": lambda: hook.start("next", None, "next"),
        "is counted": lambda: hook.tree.stats(),
    }
    for at in itertools.count(1):
        with captured_spans(max_open_sessions=3) as captured:
            hook = Hook(captured.tracker, "u1", None)
            for name, above in (("top", None), ("below", "top"), ("inner", "below")):
                hook.start(name, above, name)
            reached = interrupted(at, works[work], end_all)
            end_all()
            hook.end("next", None)
            assert {span.name for span in captured.spans} >= {"inner", "below", "top"}
            assert hook.tree.stats()["kept"] == 0
        if not reached:
            break
