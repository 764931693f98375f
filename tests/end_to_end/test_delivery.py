"""Delivery from memory, with real processes and real sockets: what was recorded arrives, or is counted."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from programs import adds_up, ids, run, track
from rootspan import Tracker
from rootspan import pipeline as pipeline_module
from sinks import Reply, Sink, hang, partial

ENDS = {
    "normally": "",
    "with sys.exit": "sys.exit(3)",
    "with an exception": "raise RuntimeError('mine')",
    "with SIGINT": "import signal; os.kill(os.getpid(), signal.SIGINT)\nimport time; time.sleep(30)",
    "in a thread": "import threading; t = threading.Thread(target=lambda: rootspan.track_ai('last')); t.start()",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_that_ends_gracefully_loses_nothing(end: str, sink: Sink, tmp_path: Path) -> None:
    """delivery 2"""
    process = run("for n in range(200): rootspan.track_ai('event', input=n)\n" + ENDS[end], sink, tmp_path)
    process.communicate(timeout=30)
    names = [span.name for span in sink.spans]
    assert names.count("event") == 200
    assert len(ids(sink)) == len(names), "a span came twice"
    assert ("last" in names) == (end == "in a thread")
    if end == "with sys.exit":
        assert process.returncode == 3


@pytest.mark.parametrize("first", ["parent", "child"])
def test_a_fork_has_two_queues_and_no_duplicates(first: str, sink: Sink, tmp_path: Path) -> None:
    """delivery 2, web 80"""
    code = """
        import time, warnings
        warnings.simplefilter("ignore")
        turn = rootspan.begin("turn")
        for n in range(50): rootspan.track_ai('before', input=n)
        pid = os.fork()
        for n in range(50): rootspan.track_ai('parent' if pid else 'child', input=n)
        turn.finish()
        if (pid == 0) == (FIRST == 'parent'): time.sleep(1)
        if pid: os.waitpid(pid, 0) if FIRST == 'child' else None
    """.replace("FIRST", repr(first))
    run(code, sink, tmp_path).communicate(timeout=30)
    deadline = time.monotonic() + 10
    while len(sink.spans) < 151 and time.monotonic() < deadline:
        time.sleep(0.05)
    names = [span.name for span in sink.spans]
    assert {name: names.count(name) for name in set(names)} == {"before": 50, "parent": 50, "child": 50, "turn": 1}
    assert len(ids(sink)) == 151
    assert len({span.trace_id for span in sink.spans}) == 1  # the parent's turn encloses both


def test_an_exit_with_a_hanging_endpoint_is_bounded(sink: Sink, tmp_path: Path) -> None:
    """delivery 14"""
    sink.script(lambda request: hang())
    process = run("rootspan.track_ai('event')", sink, tmp_path)
    started = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - started < 15  # five seconds, and a slow machine
    assert b"1 shutdown" in errors


def test_an_exit_with_a_refusing_endpoint_is_quick(sink: Sink, tmp_path: Path) -> None:
    """delivery 14"""
    sink.stop()
    started = time.monotonic()
    _, errors = run("rootspan.track_ai('event')", sink, tmp_path).communicate(timeout=30)
    assert time.monotonic() - started < 4.9
    assert b"1 shutdown" in errors


def test_an_exit_tries_again_where_the_server_takes_nothing_for_the_moment(sink: Sink, tmp_path: Path) -> None:
    """delivery 2"""
    sink.script([503, 429])
    _, errors = run("rootspan.track_ai('event')", sink, tmp_path).communicate(timeout=30)
    assert b"shutdown" not in errors
    assert sink.one("event")


@pytest.mark.parametrize("answer", [Reply(503, {"retry-after": "20"}), 404], ids=["later than that", "never"])
def test_an_exit_does_not_wait_for_what_will_not_come(answer: Any, sink: Sink, tmp_path: Path) -> None:
    """delivery 14"""
    sink.script(lambda request: answer)
    started = time.monotonic()
    _, errors = run("rootspan.track_ai('event')", sink, tmp_path).communicate(timeout=30)
    assert time.monotonic() - started < 4.9
    assert b"1 shutdown" in errors


def test_what_atexit_handlers_emit_is_delivered(sink: Sink, tmp_path: Path) -> None:
    """delivery 15: registered before the import they run after ours, afterwards before it."""
    script = tmp_path / "program.py"
    script.write_text(
        "import atexit\n"
        "atexit.register(lambda: __import__('rootspan').track_ai('early'))\n"
        "import rootspan\n"
        "atexit.register(lambda: rootspan.track_ai('late'))\n"
        "rootspan.track_ai('event')\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "ROOTSPAN_ENDPOINT": sink.url}
    subprocess.run([sys.executable, str(script)], env=env, check=True, timeout=30)
    assert {span.name for span in sink.spans} == {"early", "late", "event"}


def test_what_del_emits_while_the_interpreter_ends_does_no_harm(sink: Sink, tmp_path: Path) -> None:
    """delivery 15"""
    code = """
        class Late:
            def __del__(self, track=rootspan.track_ai):
                track('in del')
        late = Late()
        rootspan.track_ai('event')
    """
    process = run(code, sink, tmp_path)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert b"Traceback" not in errors
    assert "event" in {span.name for span in sink.spans}


def test_an_unfinished_interaction_is_recorded_at_exit(sink: Sink, tmp_path: Path) -> None:
    run("turn = rootspan.begin('turn', user_id='u1')", sink, tmp_path).communicate(timeout=30)
    (span,) = sink.spans
    assert span.attributes["rootspan.outcome"] == "unfinished"


def test_an_outage_loses_nothing(sink: Sink) -> None:
    """delivery 3"""
    tracker = Tracker(endpoint=sink.url)
    sink.script([503, 500, 429])
    sent = track(tracker, 300)
    assert tracker.flush(30)
    sink.stop()
    sent |= track(tracker, 300)
    assert not tracker.flush(0.5)
    assert adds_up(tracker)["queued"] == 300
    sink.restart()
    assert tracker.flush(40)
    assert ids(sink) == sent
    stats = adds_up(tracker)
    assert (stats["delivered"], stats["dropped"]) == (600, {})
    tracker.shutdown()


def test_a_flush_ends_the_wait_of_a_crowded_queue_whatever_the_interval(sink: Sink) -> None:
    """delivery 14"""
    tracker = Tracker(endpoint=sink.url, flush_interval=30)
    sink.script([Reply(429, {"Retry-After": "25"})])
    tracker.track_ai("event")
    assert not tracker.flush(0.5)
    for _ in range(2):
        tracker.track_ai("event", input="x" * 700_000)  # each wakes the worker from then on
        time.sleep(0.1)
    assert tracker.flush(5)
    assert len(sink.spans) == 3
    tracker.shutdown()


def test_a_wrong_key_holds_the_data(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    """delivery 5"""
    tracker = Tracker(endpoint=sink.url, api_key="key-0123456789abcdef")
    sink.script(lambda request: 401)
    sent = track(tracker, 20)
    assert not tracker.flush(0.5)
    assert adds_up(tracker)["queued"] == 20
    sink.script([])
    assert tracker.flush(40)
    assert ids(sink) == sent
    assert "401" in caplog.text
    assert "key-0123" not in caplog.text
    tracker.shutdown()


def test_a_poison_event_costs_only_itself(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    """delivery 5, 13"""
    lost: list[tuple[str, int]] = []
    tracker = Tracker(endpoint=sink.url, compression="none", on_loss=lambda reason, n: lost.append((reason, n)))
    sink.script(lambda request: 400 if b"poison" in request.body else None)
    sent = track(tracker, 40)
    tracker.track_ai("poison")
    sent |= track(tracker, 40)
    assert tracker.flush(20)
    assert ids(sink) == sent
    assert adds_up(tracker)["dropped"] == {"refused": 1}
    tracker.shutdown()
    assert lost == [("refused", 1)]


def test_a_partial_success_is_counted(sink: Sink) -> None:
    """delivery 4"""
    tracker = Tracker(endpoint=sink.url)
    sink.script([partial(3, "too old")])
    track(tracker, 10)
    assert tracker.flush(10)
    stats = adds_up(tracker)
    assert (stats["delivered"], sum(stats["dropped"].values())) == (7, 3)
    tracker.shutdown()


def test_a_batch_that_is_taken_in_two_attempts_is_counted_once(sink: Sink) -> None:
    """delivery 13"""
    tracker = Tracker(endpoint=sink.url, flush_interval=60)
    sink.script([413, 200, Reply(503, {"Retry-After": "0"})])
    sent = track(tracker, 10)
    assert tracker.flush(10)
    stats = adds_up(tracker)
    assert (stats["recorded"], stats["delivered"], stats["queued"]) == (10, 10, 0)
    assert (ids(sink), len(sink.spans)) == (sent, 10)
    tracker.shutdown()


@pytest.mark.parametrize(("bound", "most"), [(2 << 20, 2_500), (20_000, 600), (1, 600)])
def test_beyond_the_bound_the_oldest_are_dropped_and_counted(
    sink: Sink, caplog: pytest.LogCaptureFixture, bound: int, most: int
) -> None:
    """delivery 13"""
    tracker = Tracker(endpoint=sink.url, max_queue_bytes=bound)
    sink.stop()
    sent = [tracker.track_ai("event", input="x" * 1_000) for _ in range(4_000)]
    stats = adds_up(tracker)
    assert stats["dropped"]["queue_full"] > 1_000
    assert stats["queued"] < most  # 512 of them on their way
    sink.restart()
    assert tracker.flush(60)
    stats = adds_up(tracker)
    assert stats["delivered"] == len(ids(sink))
    assert sent[-1] in ids(sink) or bound == 1
    assert len(ids(sink)) + stats["dropped"]["queue_full"] == 4_000
    tracker.shutdown()
    assert caplog.text.count("rootspan lost") <= 3


def test_stats_add_up_while_threads_record(sink: Sink) -> None:
    """delivery 13"""
    tracker = Tracker(endpoint=sink.url)
    threads = [threading.Thread(target=track, args=(tracker, 1_500)) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        tracker.stats()
        time.sleep(0.01)
    assert tracker.flush(60)
    assert adds_up(tracker)["delivered"] == len(ids(sink)) == 12_000
    tracker.shutdown()


def test_a_log_handler_that_tracks_neither_loops_nor_deadlocks(sink: Sink) -> None:
    """delivery 12, 16"""
    tracker = Tracker(endpoint=sink.url)

    class Tracking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tracker.track_ai("log record", input=record.getMessage())

    handler = Tracking(logging.DEBUG)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        track(tracker, 10)
        assert tracker.flush(10)
        time.sleep(0.6)
        assert tracker.stats()["recorded"] == 10
        sink.script([400] * 50)
        track(tracker, 1)
        tracker.flush(10)
        assert tracker.stats()["recorded"] < 40
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    tracker.shutdown()


def test_after_shutdown_everything_is_counted(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    """delivery 15"""
    tracker = Tracker(endpoint=sink.url)
    turn = tracker.begin("turn")
    assert tracker.shutdown()
    assert sink.one("turn").attributes["rootspan.outcome"] == "unfinished"
    assert len(tracker.track_ai("late")) == 16
    turn.finish()
    assert tracker.flush(1)
    assert adds_up(tracker)["dropped"] == {"shutdown": 1}
    assert [line for line in caplog.messages if "1 shutdown" in line] != []
    assert tracker.shutdown()


class Exporter(SpanExporter):
    def __init__(self, outcomes: list[Any] | None = None) -> None:
        self.names: list[str] = []
        self.outcomes = outcomes or []

    def export(self, spans: Any) -> SpanExportResult:
        outcome = self.outcomes.pop(0) if self.outcomes else SpanExportResult.SUCCESS
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is SpanExportResult.SUCCESS:
            self.names += [span.name for span in spans]
        return outcome


def test_exporters_and_an_endpoint_each_get_every_span_once(sink: Sink) -> None:
    exporter = Exporter([SpanExportResult.FAILURE])
    tracker = Tracker(endpoint=sink.url, exporters=[exporter])
    track(tracker, 20)
    assert tracker.flush(30)
    assert exporter.names == ["event"] * 20
    assert len(sink.spans) == len(ids(sink)) == 20
    assert adds_up(tracker)["delivered"] == 20
    tracker.shutdown()


class Picky(Exporter):
    def export(self, spans: Any) -> SpanExportResult:
        if any(span.name == "bad" for span in spans):
            raise ValueError
        return super().export(spans)


@pytest.mark.parametrize("answers", [[], [503], [503, 503]], ids=str)
@pytest.mark.parametrize("refused", [False, True])
def test_what_one_of_two_sinks_drops_is_counted_once_the_other_is_done(
    refused: bool, answers: list[int], sink: Sink
) -> None:
    exporter = Picky()
    tracker = Tracker(endpoint=sink.url, exporters=[exporter])
    sink.script([*answers, *([400] if refused else [])])
    tracker.track_ai("bad")
    if not refused:
        tracker.track_ai("whole")
    for _ in range(len(answers) + 1):
        tracker.flush(5)
    assert tracker.stats()["queued"] == 0
    dropped = adds_up(tracker)["dropped"]
    assert sum(dropped.values()) == 1
    assert refused or dropped == {"export_failed": 1}
    assert exporter.names == ([] if refused else ["whole"])
    tracker.shutdown()


def test_an_exporter_that_raises_costs_at_most_the_span(caplog: pytest.LogCaptureFixture) -> None:
    exporter = Exporter([ValueError("mine")])
    tracker = Tracker(exporters=[exporter])
    track(tracker, 2)
    assert tracker.flush(30)
    stats = adds_up(tracker)
    assert stats["delivered"] == len(exporter.names)
    tracker.shutdown()


def test_the_worker_survives_an_error_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    exporter = Exporter()
    tracker = Tracker(exporters=[exporter])
    pipeline = tracker._recorder.pipeline
    shaping: Any = pipeline._shaping
    shape = shaping._shape

    def broken(record: Any) -> Any:
        if record.name == "broken":
            raise RuntimeError("a mistake")
        return shape(record)

    shaping._shape = broken
    tracker.track_ai("broken")
    tracker.track_ai("whole")
    assert tracker.flush(10)
    assert exporter.names == ["whole"]
    assert adds_up(tracker)["dropped"] == {"encoding": 1}
    turn, pipeline._turn = pipeline._turn, lambda: 1 / 0
    tracker.track_ai("later")
    time.sleep(0.6)
    pipeline._turn = turn
    assert tracker.flush(10)
    assert exporter.names == ["whole", "later"]
    tracker.shutdown()


@pytest.mark.parametrize("place", ["memory", "spool"])
def test_what_comes_while_a_batch_is_sent_makes_the_next_batch(place: str, sink: Sink, tmp_path: Path) -> None:
    """Under a steady load the requests are as many as the looks at the queue, not as many as can be sent."""
    sink.delay = 0.02  # records that come meanwhile
    tracker = Tracker(endpoint=sink.url, flush_interval=0.25, spool=str(tmp_path) if place == "spool" else None)
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        track(tracker, 1)
        time.sleep(0.0005)
    assert 2 <= len(sink.requests) <= 12
    assert tracker.flush(10)
    assert adds_up(tracker)["delivered"] == len(sink.spans) > 100
    tracker.shutdown()


def test_a_look_takes_all_that_was_recorded_before_it(sink: Sink) -> None:
    tracker = Tracker(endpoint=sink.url, flush_interval=2.0, batch_size=50)
    track(tracker, 220)
    arrived_at = [0.0, 0.0]
    for place, number in enumerate((1, 220)):
        deadline = time.monotonic() + 20
        while len(sink.spans) < number and time.monotonic() < deadline:
            time.sleep(0.01)
        arrived_at[place] = time.monotonic()
    assert len(sink.spans) == 220
    assert len(sink.requests) == 5
    assert arrived_at[1] - arrived_at[0] < 1.5, "the rest waited for another look"
    tracker.shutdown()


def test_an_idle_worker_ends_and_the_next_record_starts_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "_IDLE", 0.3)
    exporter = InMemorySpanExporter()  # which takes nothing after its shutdown
    tracker = Tracker(exporters=[exporter], flush_interval=0.05)
    assert tracker._recorder.pipeline.queue.worker is None  # no thread before the first record
    track(tracker, 1)
    worker = tracker._recorder.pipeline.queue.worker
    assert worker is not None
    worker.join(10)
    assert tracker._recorder.pipeline.queue.worker is None
    track(tracker, 1)
    assert tracker.flush(10)
    assert len(exporter.get_finished_spans()) == 2
    tracker.shutdown()


def test_an_idle_worker_lets_go_of_its_connection(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "_IDLE", 0.3)
    tracker = Tracker(endpoint=sink.url, flush_interval=0.05)
    for _ in range(2):
        track(tracker, 1)
        worker = tracker._recorder.pipeline.queue.worker
        assert worker is not None
        worker.join(10)
    assert len(sink.spans) == 2
    tracker.shutdown()


@pytest.mark.parametrize("kernel", ["new", "old"])
def test_a_fork_that_ran_no_hook_is_noticed(sink: Sink, tmp_path: Path, kernel: str) -> None:
    """web 80; an old kernel wipes no pages, there the pids are compared"""
    code = f"""
        import ctypes, os, mmap
        if "{kernel}" == "old":
            class mmap_without(mmap.mmap):
                def madvise(self, *arguments):
                    raise OSError(22, "Invalid argument")
            mmap.mmap = mmap_without
            for name in [name for name in sys.modules if name.startswith("rootspan")]:
                del sys.modules[name]
        import rootspan
        from rootspan import forks, ids
        assert type(forks.home) is (forks._ComparedPid if "{kernel}" == "old" else mmap.mmap)
        for _ in range(5):
            rootspan.track_ai("parent")
        turn = rootspan.begin("turn")
        assert ids._pool
        if ctypes.PyDLL(None).fork() == 0:  # as servers do that fork without Python's hooks
            drawn = [rootspan.track_ai("child") for _ in range(3)]
            turn.finish()
            assert rootspan.stats()["recorded"] == 3, rootspan.stats()
            assert rootspan.flush(10)
            os._exit(0 if rootspan.stats()["delivered"] == 3 else 1)
        drawn = [rootspan.track_ai("parent") for _ in range(3)]
        assert os.wait()[1] == 0
        turn.finish()
    """
    _, errors = run(code, sink, tmp_path).communicate(timeout=60)
    assert not errors
    assert sorted(span.name for span in sink.spans) == ["child"] * 3 + ["parent"] * 8 + ["turn"]
    assert len({span.span_id for span in sink.spans}) == 12
    turn = sink.one("turn")
    assert {span.parent_id for span in sink.spans if span.name == "child"} == {turn.span_id}
