"""The queue and its worker where threads, collections, forks and the end of the process meet in the same moment."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from programs import adds_up, until
from rootspan import Tracker, forks, ledger, pipeline, process, spool
from rootspan.adapter import RequestInfo, RequestOptions, open_request
from rootspan.ledger import Ledger
from rootspan.pipeline import Pipeline
from rootspan.recorder import Recorder
from rootspan.spool.journal import Journal
from rootspan.spool.segment import Pen, Segment
from sinks import Sink, hang


def pipeline_of(tracker: Tracker) -> Pipeline:
    return tracker._recorder.pipeline


def names(sink: Sink) -> list[str]:
    return sorted(span.name for span in sink.spans)


class Lock:
    """A lock that something comes in between at one of its ends."""

    def __init__(self, entered: Callable[[], object], left: Callable[[], object]) -> None:
        self._lock, self._entered, self._left = threading.Lock(), [entered], [left]
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._entered:
            self._entered.pop()()

    def __exit__(self, *exc: object) -> None:
        if self._left and not self._entered:
            self._left.pop()()
        self._lock.release()


def nothing() -> None:
    return None


REQUEST = RequestInfo(None, "GET", "/")
FIRST_CALLS: dict[str, Callable[[Tracker, Any, Any], object]] = {
    "an event": lambda tracker, turn, request: tracker.track_ai("first"),
    "a step that is over": lambda tracker, turn, request: tracker.track_decision("because"),
    "a step below": lambda tracker, turn, request: turn.tool_span("first"),
    "a request": lambda tracker, turn, request: open_request(REQUEST, RequestOptions(tracker=tracker)),
    "the end of a turn": lambda tracker, turn, request: turn.finish(),
    "the end of a request": lambda tracker, turn, request: request.finish(),
    "feedback": lambda tracker, turn, request: tracker.track_feedback("0123456789abcdef", score=1),
    "stats": lambda tracker, turn, request: tracker.stats(),
    "flush": lambda tracker, turn, request: tracker.flush(5),
    "shutdown": lambda tracker, turn, request: tracker.shutdown(5),
}


@pytest.mark.parametrize("name", FIRST_CALLS)
def test_web_80_whatever_is_called_first_notices_a_fork_that_ran_no_hook(
    name: str, tracker: Tracker, sink: Sink
) -> None:
    turn, request = tracker.begin("turn"), open_request(REQUEST, RequestOptions(tracker=tracker))
    assert request is not None
    parents = {turn.trace_id, request.trace_id}
    assert pipeline_of(tracker).queue.worker is None  # no thread of this process goes on in the child
    forks.home[0] = 0  # as the kernel leaves it there
    FIRST_CALLS[name](tracker, turn, request)
    assert forks.home[0] == 1
    tracker.shutdown()
    recorded = {span.trace_id for span in sink.spans if span.parent_id is None}
    assert not parents & recorded, "that is for the parent to record"


def test_a_callback_that_fails_after_a_fork_stops_none_of_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []

    def nested() -> None:
        forks.forked()  # a logging handler that tracks
        called.append("nested")
        raise RuntimeError("a mistake of our own")

    monkeypatch.setattr(forks, "_callbacks", [nested, lambda: called.append("next")])
    forks.home[0] = 0
    forks.forked()
    assert called == ["nested", "next"]
    assert forks.home[0] == 1
    assert "could not start afresh" in caplog.text
    forks.forked()
    assert len(called) == 2


def test_where_the_kernel_wipes_no_pages_pids_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    page = forks._ComparedPid()
    assert page[0]
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert not page[0]
    page[0] = 1
    assert page[0]


def test_a_fork_does_not_wait_for_an_import_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_FORK_SECONDS", 0.01)
    holds, done = threading.Event(), threading.Event()

    def hold() -> None:
        with forks.SETTING_UP:
            holds.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(30)
    process._before_fork()
    process._after_fork()  # releases nothing that another thread holds
    assert not forks.SETTING_UP.acquire(blocking=False)
    done.set()
    thread.join()


def test_after_a_fork_other_threads_of_the_parent_may_make_trackers() -> None:
    process._before_fork()
    process._after_fork()
    taken: list[bool] = []

    def take() -> None:
        taken.append(forks.SETTING_UP.acquire(timeout=5))
        if taken[0]:
            forks.SETTING_UP.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert taken == [True]


def test_a_fork_releases_nothing_where_a_signal_ended_the_wait_for_an_import(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(timeout: float) -> bool:
        raise SystemExit

    process._before_fork()
    process._after_fork()
    lock = SimpleNamespace(acquire=leave, release=lambda: pytest.fail("it was never taken"))
    monkeypatch.setattr(process, "SETTING_UP", lock)
    with pytest.raises(SystemExit):
        process._before_fork()
    process._after_fork()


def test_delivery_02_the_end_finds_every_tracker_while_other_threads_make_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ended with an error, and delivered nothing, where one came in the midst of the look."""
    ended = threading.Event()

    def make() -> None:
        while not ended.is_set():
            Tracker(exporters=[InMemorySpanExporter()])

    kept = [Tracker(exporters=[InMemorySpanExporter()]) for _ in range(1_000)]
    closed: list[Recorder] = []
    monkeypatch.setattr(process, "_exiting", False)
    monkeypatch.setattr(Recorder, "close", lambda recorder, *_, **__: closed.append(recorder))
    threads = [threading.Thread(target=make) for _ in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for _ in range(200):
            closed.clear()
            process._at_exit()
            assert {tracker._recorder for tracker in kept} <= set(closed)
    finally:
        ended.set()
        sys.setswitchinterval(interval)
        for thread in threads:
            thread.join()


def test_a_record_while_another_one_starts_the_worker_is_left_to_that(tracker: Tracker, sink: Sink) -> None:
    with pipeline_of(tracker)._lock:  # a signal's handler may record while this very thread is in there
        tracker.track_ai("in the midst")
    assert pipeline_of(tracker).queue.worker is None
    tracker.track_ai("next")
    assert tracker.flush(10)
    assert names(sink) == ["in the midst", "next"]


def test_a_record_of_a_collection_within_a_start_starts_the_only_worker(
    tracker: Tracker, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    init, started = threading.Thread.__init__, list[threading.Thread]()

    def made(thread: threading.Thread, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("name") == "rootspan-worker":
            started.append(thread)
            if len(started) == 1:
                tracker.track_ai("collected")
        init(thread, *args, **kwargs)

    monkeypatch.setattr(threading.Thread, "__init__", made)
    tracker.track_ai("outer")
    assert [thread.is_alive() for thread in started] == [False, True]
    assert tracker.flush(10)
    assert names(sink) == ["collected", "outer"]


def test_where_the_interpreter_starts_no_thread_any_more_a_record_is_sent_at_once(
    tracker: Tracker, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def starts(thread: threading.Thread) -> None:
        if thread.name == "rootspan-worker":
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starts)
    tracker.track_ai("last")
    assert names(sink) == ["last"]
    monkeypatch.setattr(pipeline_of(tracker), "_turn", lambda: 1 / 0)
    tracker.track_ai("lost")
    assert tracker.stats()["dropped"] == {"shutdown": 1}


@pytest.mark.parametrize("comes", ["a worker", "none in time", "none"])
def test_the_end_may_come_while_another_thread_starts_the_worker(
    comes: str, tracker: Tracker, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, starting, goes_on = threading.Thread.start, threading.Event(), threading.Event()

    def starts(thread: threading.Thread) -> None:
        if thread.name == "rootspan-worker":
            starting.set()
            goes_on.wait(30)
            if comes == "none":
                raise RuntimeError("can't start new thread")
        start(thread)

    def join(thread: threading.Thread, timeout: float | None = None) -> None:
        if thread.name == "rootspan-worker" and comes != "none in time":
            goes_on.set()
        joins(thread, timeout)

    joins = threading.Thread.join
    monkeypatch.setattr(threading.Thread, "start", starts)
    monkeypatch.setattr(threading.Thread, "join", join)
    other = threading.Thread(target=tracker.track_ai, args=("event",))
    other.start()
    assert starting.wait(30)
    assert tracker.shutdown(0.05 if comes == "none in time" else 30) == (comes != "none in time")
    goes_on.set()
    other.join()
    stats = tracker.stats()
    assert (stats["delivered"], stats["dropped"]) == ((0, {"shutdown": 1}) if comes == "none in time" else (1, {}))


def test_a_flush_in_a_callback_of_the_worker_waits_for_nothing(sink: Sink) -> None:
    answers: list[bool] = []
    tracker = Tracker(endpoint=sink.url, on_loss=lambda reason, number: answers.append(tracker.flush(30)))
    sink.script([400])
    tracker.track_ai("refused")
    assert tracker.flush(10)
    tracker.shutdown()
    assert answers == [True]


def test_stats_that_do_not_add_up_are_told_all_the_same(tracker: Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = {"delivered": 7, "queued": 0, "spooled": 0, "dropped": {}}
    monkeypatch.setattr(pipeline_of(tracker).ledger, "_places", lambda: odd)
    assert tracker.stats() == {"recorded": 0, **odd}


def test_delivery_13_the_end_and_the_worker_report_a_loss_once_where_they_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int]] = []
    accounts = Ledger([], lambda *loss: told.append(loss), unchosen=False)
    accounts.drop("shutdown")
    end, worker = threading.current_thread(), threading.Thread(target=accounts.report)

    def now() -> float:
        if threading.current_thread() is end:  # not the worker of a tracker that an earlier test left
            worker.start()
            worker.join(0.5)
        return time.monotonic()

    monkeypatch.setattr(ledger, "time", SimpleNamespace(monotonic=now))
    accounts.report(last=True)
    worker.join()
    assert told == [("shutdown", 1)]


def test_delivery_13_losses_are_told_at_once_and_then_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int]] = []
    accounts = Ledger([], lambda *loss: told.append(loss), unchosen=False)
    for seconds in (0, 1, 30, 61, 62):
        monkeypatch.setattr(ledger, "time", SimpleNamespace(monotonic=lambda now=seconds: 1_000 + now))
        accounts.drop("encoding")
        accounts.report()
    assert told == [("encoding", 1), ("encoding", 3)]
    accounts.report(last=True)
    assert told[2:] == [("encoding", 1)]


def test_a_loss_where_nobody_named_an_endpoint_is_a_warning_once_something_was_delivered_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    accounts = Ledger([], None, unchosen=True)
    with caplog.at_level(logging.DEBUG, logger="rootspan"):
        for _ in range(2):
            accounts.drop("encoding")
            accounts.report(last=True)
            accounts.settle(accounts.memory, 1, {})
    said = [record.levelname for record in caplog.records if "rootspan lost 1 records" in record.getMessage()]
    assert said == ["DEBUG", "WARNING"]


def test_a_drop_that_reaches_the_end_of_the_stack_counts_nowhere(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_deep() -> None:
        raise RecursionError

    accounts = pipeline_of(tracker).ledger
    with monkeypatch.context() as deep:
        deep.setattr(accounts, "changed", Lock(too_deep, nothing))
        with pytest.raises(RecursionError):
            accounts.drop("internal_error")
    assert (tracker.stats()["recorded"], tracker.stats()["dropped"]) == (0, {})


@pytest.mark.parametrize("moment", ["before it says so", "after it said so"])
def test_a_record_that_comes_while_the_worker_ends_does_not_wait_for_the_next(
    moment: str, tracker: Tracker, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_IDLE", 0.0)
    pipe = pipeline_of(tracker)
    late = tracker.begin("late")

    # Its caller sees the worker that is ending, or finds the lock taken.
    ends = (late.finish, nothing) if moment == "before it says so" else (nothing, late.finish)
    monkeypatch.setattr(pipe, "_lock", Lock(*ends))
    tracker.track_ai("first")
    assert len(sink.wait(2)) == 2


def test_what_is_left_out_by_the_sample_rate_makes_no_request(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = Tracker(endpoint=sink.url, sample_rate=0.0)
    pipe = pipeline_of(tracker)
    fill, once_more = pipe._fill, [lambda: tracker.track_ai("meanwhile")]

    def filled() -> Any:
        batch = fill()
        while once_more:
            once_more.pop()()
        return batch

    monkeypatch.setattr(pipe, "_fill", filled)
    tracker.track_ai("first")
    assert tracker.flush(10)
    assert tracker.stats()["dropped"] == {"sampled": 2}
    assert not sink.requests
    tracker.shutdown()


@pytest.mark.parametrize("error", [asyncio.CancelledError, GeneratorExit, SystemExit])
def test_delivery_11_whatever_encoding_raises_costs_its_record_only(
    error: type[BaseException], tracker: Tracker, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaping: Any = pipeline_of(tracker)._shaping
    shape = shaping._shape

    def broken(record: Any) -> Any:
        if record.name == "broken":
            raise error
        return shape(record)

    monkeypatch.setattr(shaping, "_short", None)
    monkeypatch.setattr(shaping, "_shape", broken)
    for name in ("before", "broken", "after"):
        tracker.track_ai(name)
    assert tracker.flush(10)
    assert names(sink) == ["after", "before"]
    assert tracker.stats()["dropped"] == {"encoding": 1}


def test_an_exporter_that_is_cancelled_costs_the_batch_and_the_worker_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    class Bridge(InMemorySpanExporter):
        def export(self, spans: Any) -> Any:
            if spans[0].name == "first":
                raise asyncio.CancelledError  # of the loop that it sends through
            return super().export(spans)

    exporter = Bridge()
    tracker = Tracker(exporters=[exporter])
    for name in ("first", "second"):
        tracker.track_ai(name)
        assert tracker.flush(10)
    assert adds_up(tracker)["dropped"] == {"internal_error": 1}
    assert [span.name for span in exporter.get_finished_spans()] == ["second"]
    assert "it goes on with the next batch" in caplog.text
    tracker.shutdown()


def test_a_ctrl_c_while_a_record_is_encoded_passes_and_the_record_is_counted(
    tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(record: Any) -> Any:
        raise KeyboardInterrupt

    pipe = pipeline_of(tracker)
    monkeypatch.setattr(pipe._shaping, "_short", None)
    monkeypatch.setattr(pipe._shaping, "_shape", interrupted)
    with pipe._lock:  # so that no worker takes it
        tracker.track_ai("event")
    with pytest.raises(KeyboardInterrupt):
        pipe._fill()
    assert tracker.stats()["dropped"] == {"encoding": 1}


@pytest.mark.parametrize("number", [1, 3])
def test_what_a_hook_still_looks_at_when_the_end_gives_up_is_counted_once(sink: Sink, number: int) -> None:
    looks, goes_on = threading.Event(), threading.Event()

    def redact(path: str, value: Any) -> Any:
        looks.set()
        goes_on.wait(30)
        return value

    tracker = Tracker(endpoint=sink.url, redact=redact)
    turns = [tracker.begin(f"turn {n}", input="Hi") for n in range(number)]
    for turn in turns:
        turn.finish()
    assert looks.wait(30)
    worker = pipeline_of(tracker).queue.worker
    assert not tracker.shutdown(0.05)
    goes_on.set()
    assert worker is not None
    worker.join(30)
    assert tracker.stats() == {
        "recorded": number, "delivered": 0, "queued": 0, "spooled": 0, "dropped": {"shutdown": number}
    }  # fmt: skip
    assert not sink.spans


def test_delivery_13_what_another_thread_sends_by_itself_while_the_process_ends_is_counted_as_delivered(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(endpoint=sink.url)
    tracker.track_ai("early")
    pipe, on_its_way = pipeline_of(tracker), threading.Event()
    other = threading.Thread(target=tracker.track_ai, args=("late",))
    join = pipe._join

    def answer(request: Any) -> None:
        on_its_way.set()
        time.sleep(0.3)

    def joined(*arguments: Any) -> None:
        join(*arguments)
        sink.script(answer)
        other.start()  # it finds no worker, and sends at once
        assert on_its_way.wait(30)

    monkeypatch.setattr(pipe, "_join", joined)
    tracker._recorder.close(5, at_exit=True)
    other.join()
    assert names(sink) == ["early", "late"]
    stats = tracker.stats()
    assert (stats["recorded"], stats["delivered"], stats["dropped"]) == (2, 2, {})


def test_delivery_13_what_comes_behind_the_workers_last_look_is_delivered(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another thread saw that there still is a worker, it leaves what it records to that."""
    tracker = Tracker(endpoint=sink.url)
    tracker.track_ai("early")
    pipe = pipeline_of(tracker)
    join = pipe._join

    def joined(*arguments: Any) -> None:
        join(*arguments)
        with monkeypatch.context() as patch:
            patch.setattr(pipe.queue, "attend", nothing)
            tracker.track_ai("late")

    monkeypatch.setattr(pipe, "_join", joined)
    tracker._recorder.close(5, at_exit=True)
    assert names(sink) == ["early", "late"]
    assert (tracker.stats()["delivered"], tracker.stats()["dropped"]) == (2, {})


def test_delivery_02_the_end_waits_for_a_shutdown_in_another_thread(sink: Sink) -> None:
    tracker = Tracker(endpoint=sink.url)
    sink.delay = 0.5
    tracker.track_ai("event")
    other = threading.Thread(target=tracker.shutdown, args=(30,), daemon=True)
    other.start()
    until(lambda: sink.connections)
    assert not tracker.shutdown(0.01)
    tracker._recorder.close(30, at_exit=True)
    assert names(sink) == ["event"]
    assert tracker.shutdown(0)
    other.join()


def test_delivery_13_where_a_shutdown_in_another_thread_takes_too_long_the_end_counts_what_is_lost(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = Tracker(endpoint=sink.url)
    sink.script(lambda request: hang(2))
    tracker.track_ai("event")
    other = threading.Thread(target=tracker.shutdown, args=(30,), daemon=True)
    other.start()
    tracker._recorder.close(0.5, at_exit=True)
    assert tracker.stats()["dropped"] == {"shutdown": 1}
    assert "lost 1 records (1 shutdown)" in caplog.text
    other.join()


def test_delivery_02_the_end_finishes_a_shutdown_that_a_ctrl_c_ended(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(endpoint=sink.url)
    sink.delay = 0.5
    tracker.track_ai("event")
    with ctrl_c(pipeline_of(tracker), "_join"):
        tracker.shutdown(30)
    tracker._recorder.close(30, at_exit=True)
    assert names(sink) == ["event"]
    assert tracker.stats()["delivered"] == 1


def test_delivery_02_a_ctrl_c_ends_what_a_shutdown_sends_by_itself_and_the_end_finishes_that(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does where no thread can be had."""
    tracker = Tracker(endpoint=sink.url)
    pipe = pipeline_of(tracker)
    monkeypatch.setattr(pipe, "_start", nothing)
    tracker.track_ai("event")
    (delivery,) = pipe._sinks
    with ctrl_c(delivery, "attempt"):
        tracker.shutdown(30)
    tracker._recorder.close(30, at_exit=True)
    assert names(sink) == ["event"]
    assert (tracker.stats()["delivered"], tracker.stats()["dropped"]) == (1, {})


def test_our_own_records_do_not_wait_at_the_end_for_all_that_dead_processes_left(
    sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a process is over at once and the disk is slow, each of them sent nothing at all."""
    left = []
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "_start", lambda pipe: None)
        for number in range(5):
            left.append(dead := Tracker(endpoint=sink.url, spool=str(tmp_path)))
            dead.track_ai(f"dead {number}")
    for dead in left:
        store = pipeline_of(dead)._store
        assert store is not None
        store._spool.close(last=False)  # as where the process is gone
    monkeypatch.setattr("rootspan.spool._PAUSE", 0.3)
    tracker = Tracker(endpoint=sink.url, spool=str(tmp_path))
    tracker.track_ai("ours")
    tracker._recorder.close(5, at_exit=True)
    assert "ours" in names(sink)
    assert 1 <= tracker.stats()["recovered"]["delivered"] < 5


def test_what_was_just_read_from_the_spool_when_the_end_gives_up_stays_there(
    sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(endpoint=sink.url, spool=str(tmp_path / "spool"))
    pipe = pipeline_of(tracker)
    fill, taken, goes_on = pipe._fill, threading.Event(), threading.Event()

    def filled() -> Any:
        batch = fill()
        taken.set()
        goes_on.wait(30)
        return batch

    monkeypatch.setattr(pipe, "_fill", filled)
    tracker.track_ai("kept")
    assert taken.wait(30)
    worker = pipe.queue.worker
    assert not tracker.shutdown(0.05)
    goes_on.set()
    assert worker is not None
    worker.join(30)
    stats = tracker.stats()
    assert (stats["recorded"], stats["queued"], stats["spooled"], stats["dropped"]) == (1, 0, 1, {})
    following = Tracker(endpoint=sink.url, spool=str(tmp_path / "spool"))
    assert [span.name for span in sink.wait(1)] == ["kept"]
    following.shutdown()


def test_delivery_01_what_another_thread_has_just_written_when_the_process_ends_stays_on_the_disk(
    sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(endpoint=sink.url, spool=str(tmp_path / "spool"))
    append, written, ended = spool.Spool.append, threading.Event(), threading.Event()

    def appended(*arguments: Any) -> bool:
        kept = append(*arguments)
        written.set()
        ended.wait(30)
        return kept

    monkeypatch.setattr(spool.Spool, "append", appended)
    other = threading.Thread(target=tracker.track_ai, args=("late",))
    other.start()
    assert written.wait(30)
    tracker._recorder.close(1, at_exit=True)
    ended.set()
    other.join()
    following = Tracker(endpoint=sink.url, spool=str(tmp_path / "spool"))
    assert [span.name for span in sink.wait(1)] == ["late"]
    following.shutdown()


@pytest.mark.parametrize("moment", ["in the midst of the look", "after it"])
def test_delivery_01_what_another_thread_writes_while_the_end_looks_whether_all_is_delivered_stays(
    moment: str, sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(endpoint=sink.url, spool=str(tmp_path / "spool"))
    tracker.track_ai("early")
    assert tracker.flush(10)
    sink.stop()
    other = threading.Thread(target=tracker.track_ai, args=("late",))
    written, ended = threading.Event(), threading.Event()
    write, complete, is_complete = Pen.write, vars(Segment)["complete"].fget, Journal.is_complete

    def wrote(*arguments: Any) -> None:
        write(*arguments)
        if arguments[-1] is True:
            written.set()
            ended.wait(30)  # it is written, and not yet counted

    def looked(place: Any) -> bool:
        found: bool = complete(place) if moment == "in the midst of the look" else is_complete(place)
        if other.ident is None:
            other.start()
            written.wait(0.5)
        return found

    monkeypatch.setattr(Pen, "write", wrote)
    if moment == "in the midst of the look":
        monkeypatch.setattr(Segment, "complete", property(looked))
    else:
        monkeypatch.setattr(Journal, "is_complete", looked)
    tracker._recorder.close(1, at_exit=True)
    ended.set()
    other.join()
    store = pipeline_of(tracker)._store
    assert store is not None
    if (own := store._spool._own) is not None:
        own.release()  # as where the process is gone
    sink.restart()
    following = Tracker(endpoint=sink.url, spool=str(tmp_path / "spool"))
    assert [span.name for span in sink.wait(2)] == ["early", "late"]
    following.shutdown()


@contextmanager
def ctrl_c(owner: Any, name: str, does: Callable[..., object] = lambda *_: None) -> Iterator[None]:
    """Have a Ctrl-C end what calls a function: a signal's handler runs when a system call is over."""

    def interrupted(*arguments: Any) -> None:
        does(*arguments)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            yield


@pytest.mark.parametrize("moment", ["write", "fsync", "before it is written"])
def test_delivery_13_a_ctrl_c_while_a_record_is_written_to_the_spool_leaves_the_counters_right(
    moment: str, sink: Sink, tmp_path: Path
) -> None:
    tracker = Tracker(endpoint=sink.url, spool=str(tmp_path / "spool"), fsync=True)
    tracker.track_ai("first")
    assert tracker.flush(10)
    call = {"write": (os.write,), "fsync": (os.fsync,)}.get(moment, ())
    with ctrl_c(os, "fsync" if moment == "fsync" else "write", *call):
        tracker.track_ai("interrupted")
    tracker.track_ai("last")
    assert sink.wait(3 - (moment == "before it is written"))
    assert tracker.flush(1) == (moment != "before it is written")
    stats = tracker.stats()
    assert (stats["recorded"], stats["dropped"]) == (3, {})
    assert (stats["delivered"], stats["spooled"]) == ((2, 1) if moment == "before it is written" else (3, 0))
    tracker.shutdown()


def test_a_ctrl_c_before_anything_of_a_record_is_written_to_the_spool_counts_nothing(
    sink: Sink, tmp_path: Path
) -> None:
    tracker = Tracker(endpoint=sink.url, spool=str(tmp_path / "spool"))
    tracker.track_ai("first")
    with ctrl_c(spool, "frame"):
        tracker.track_ai("interrupted")
    assert tracker.flush(10)
    stats = tracker.stats()
    assert (stats["recorded"], stats["delivered"], stats["spooled"]) == (1, 1, 0)
    tracker.shutdown()


def test_a_ctrl_c_while_a_beginning_is_written_to_the_spool_counts_nothing_until_it_ends(
    sink: Sink, tmp_path: Path
) -> None:
    tracker = Tracker(endpoint=sink.url, spool=str(tmp_path / "spool"))
    tracker.track_ai("first")
    with ctrl_c(os, "write", os.write):
        tracker.begin("interrupted")
    assert tracker.flush(10)
    stats = tracker.stats()
    assert (stats["recorded"], stats["delivered"], stats["spooled"]) == (1, 1, 0)
    assert tracker.shutdown()
    assert [span.name for span in sink.wait(2)] == ["first", "interrupted"]
    assert tracker.stats()["delivered"] == 2


@pytest.mark.parametrize(
    "record", [lambda tracker, name: tracker.track_ai(name), lambda tracker, name: tracker.begin(name).finish()]
)
def test_beyond_its_bound_the_queue_keeps_the_youngest(sink: Sink, record: Callable[[Tracker, str], object]) -> None:
    tracker = Tracker(endpoint=sink.url, max_queue_bytes=10_000)
    queue = pipeline_of(tracker).queue
    queue.worker = threading.current_thread()  # which takes nothing yet
    for number in range(100):
        record(tracker, f"{number:02}")
    kept = len(queue)
    queue.worker = None
    assert 5 < kept < 12
    assert tracker.flush(10)
    assert tracker.stats()["dropped"] == {"queue_full": 100 - kept}
    assert names(sink) == [f"{number:02}" for number in range(100 - kept, 100)]
    tracker.shutdown()


def test_a_flush_does_not_wait_for_the_interval(sink: Sink) -> None:
    tracker = Tracker(endpoint=sink.url, flush_interval=60)
    tracker.track_ai("event")
    assert tracker.flush(10)
    tracker.shutdown()


def test_a_queue_that_lost_count_of_its_bytes_starts_again_at_none(tracker: Tracker) -> None:
    queue = pipeline_of(tracker).queue
    queue.records, queue.size = deque(), 1 << 40  # threads lost steps of it
    queue.attend()
    assert queue.size == 0
