"""Races and odd moments: what was recorded is neither lost, stranded nor counted wrongly."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rootspan import Tracker
from rootspan.adapter import RequestInfo, RequestOptions, open_request
from rootspan.pipeline.queue import weigh
from rootspan_ui.demo.children import free_ports
from sinks import Sink, hang

FILE_EXPORTER = """
    import atexit, sys
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Lines(SpanExporter):
        def export(self, spans):
            with open(sys.argv[1], "a") as lines:
                lines.writelines(f"{span.name}\\n" for span in spans)
            return SpanExportResult.SUCCESS
"""


def ran(code: str, tmp_path: Path, logged: str = "") -> list[str]:
    """Run a program to its end, and return the names of the spans that its exporter wrote; it may log one thing."""
    script, lines = tmp_path / "program.py", tmp_path / "lines"
    script.write_text(textwrap.dedent(FILE_EXPORTER) + textwrap.dedent(code))
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    done = subprocess.run(
        [sys.executable, str(script), str(lines)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        timeout=45,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert set(done.stderr.decode().splitlines()) == ({logged} if logged else set())
    return sorted(lines.read_text().split())


def adds_up(tracker: Tracker) -> dict[str, Any]:
    stats = tracker.stats()
    assert stats["recorded"] == stats["delivered"] + stats["queued"] + stats["spooled"] + sum(stats["dropped"].values())
    return stats


def test_a_tracker_that_was_replaced_or_dropped_still_delivers_at_exit(tmp_path: Path) -> None:
    """delivery 2"""
    code = """
        import rootspan
        rootspan.configure(exporters=[Lines()], flush_interval=30)
        rootspan.track_ai("first")
        rootspan.configure(exporters=[Lines()], flush_interval=30)
        rootspan.track_ai("second")
        rootspan.Tracker(exporters=[Lines()], flush_interval=30).track_ai("third")
    """
    assert ran(code, tmp_path) == ["first", "second", "third"]


def test_a_tracker_made_after_the_exit_handler_delivers_at_once(tmp_path: Path) -> None:
    """delivery 15"""
    code = """
        def late():
            import rootspan
            rootspan.configure(exporters=[Lines()])
            rootspan.track_ai("late")
        atexit.register(late)
        import rootspan
    """
    assert ran(code, tmp_path) == ["late"]


def test_several_trackers_that_hang_delay_the_exit_once(sink: Sink, tmp_path: Path) -> None:
    """delivery 14"""
    sink.script(lambda request: hang())
    script = tmp_path / "program.py"
    script.write_text(
        "import sys, rootspan\n"
        "trackers = [rootspan.Tracker(endpoint=sys.argv[1]) for _ in range(4)]\n"
        "for tracker in trackers: tracker.track_ai('event')\n"
    )
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    began = time.monotonic()
    subprocess.run([sys.executable, str(script), sink.url], env={**os.environ, "PYTHONPATH": path}, timeout=60)
    assert time.monotonic() - began < 15  # four times five seconds would be more, on a slow machine too


def test_an_estimate_that_threads_have_spoilt_drops_nothing_for_good(sink: Sink) -> None:
    """delivery 13"""
    tracker = Tracker(endpoint=sink.url, max_queue_bytes=4 << 20)
    tracker.track_ai("the first one starts the worker")
    assert tracker.flush(20)
    tracker._recorder.pipeline.queue.size = 30 << 20  # though the queue is empty
    for _ in range(2):
        tracker.track_ai("event")
    assert tracker.flush(20)
    assert adds_up(tracker)["delivered"] >= 2
    tracker.track_ai("later")
    assert tracker.flush(20)
    assert sink.one("later")
    tracker.shutdown()


def test_a_thread_that_cannot_be_started_now_is_tried_again(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """delivery 12"""
    sink.script([hang()])
    tracker = Tracker(endpoint=sink.url)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        tracker.track_ai("event")
        assert adds_up(tracker)["queued"] == 1
    assert not sink.requests, "the host's thread went to the network"
    sink.script([])
    tracker.track_ai("event")
    assert tracker.flush(30)
    assert len(sink.spans) == 2
    tracker.shutdown()


def test_a_chat_that_another_thread_changes_costs_no_neighbour() -> None:
    """delivery 11"""
    exporter = InMemorySpanExporter()
    tracker = Tracker(exporters=[exporter], flush_interval=0.01)
    chat: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            chat[0]["content"] = None
            chat[0]["content"] = "Hi"

    thread = threading.Thread(target=change)
    thread.start()
    for _ in range(5_000):
        tracker.track_ai("event", input=chat)
    done.set()
    thread.join()
    assert tracker.flush(30)
    assert adds_up(tracker)["delivered"] == 5_000
    tracker.shutdown()


class Exits(SpanExporter):
    def __init__(self) -> None:
        self.names: list[str] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if not self.names:
            self.names.append("raised")
            raise SystemExit(1)
        self.names += [span.name for span in spans]
        return SpanExportResult.SUCCESS


def test_an_exporter_that_calls_exit_does_not_end_the_worker() -> None:
    exporter = Exits()
    tracker = Tracker(exporters=[exporter])
    tracker.track_ai("first")
    tracker.flush(20)
    tracker.track_ai("second")
    assert tracker.flush(20)
    assert exporter.names[-1] == "second"
    adds_up(tracker)
    tracker.shutdown()


def test_an_exporter_that_calls_exit_where_it_is_shut_down_costs_the_other_trackers_nothing(tmp_path: Path) -> None:
    """delivery 2: the first one to end took the others with it"""
    code = """
        import rootspan

        class Leaves(Lines):
            def shutdown(self):
                raise SystemExit(3)

        trackers = [rootspan.Tracker(exporters=[Leaves()]) for _ in range(3)]
        assert trackers[0].shutdown(5)
        for number, tracker in enumerate(trackers[1:]):
            tracker.track_ai(f"{number}")
    """
    assert ran(code, tmp_path, logged="Leaves.shutdown raised SystemExit") == ["0", "1"]


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="Python 3.12 starts no thread any more while it ends")
def test_exporters_that_hang_where_they_are_shut_down_do_not_hold_up_the_end(tmp_path: Path) -> None:
    """delivery 14: nor `shutdown`, beyond its timeout"""
    code = """
        import time, rootspan

        class Hangs(Lines):
            def shutdown(self):
                time.sleep(60)

        trackers = [rootspan.Tracker(exporters=[Hangs()]) for _ in range(3)]
        for number, tracker in enumerate(trackers):
            tracker.track_ai(f"{number}")
        began = time.monotonic()
        assert trackers[0].shutdown(2)
        assert time.monotonic() - began < 20
    """
    assert ran(code, tmp_path) == ["0", "1", "2"]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no such signal")
def test_a_signal_that_records_in_the_middle_of_a_wake_up_does_not_deadlock(sink: Sink) -> None:
    """delivery 12"""
    tracker = Tracker(endpoint=sink.url, flush_interval=60)
    tracker.track_ai("the first one starts the worker")
    wake = tracker._recorder.pipeline._wake
    entered = []

    def record(*_: object) -> None:
        entered.append(1)
        wake.set()

    before = signal.signal(signal.SIGUSR1, record)
    try:
        with wake._cond:  # as inside `Event.set`
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert entered
    tracker.shutdown()


def test_interactions_that_overlap_leave_no_chain_behind() -> None:
    tracker = Tracker(exporters=[InMemorySpanExporter()])
    old = tracker.begin("turn")
    for _ in range(2_000):
        new = tracker.begin("turn")
        old.finish()
        old = new
    length, scope = 0, tracker._recorder.variable.get()
    while scope is not None:
        length, scope = length + 1, scope.outer
    assert length <= 20  # it is tidied when it has doubled, at the earliest with 16
    old.finish()
    tracker.shutdown()


class Exiting:
    """A value all of whose own methods end the process."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(3)

    def __float__(self) -> float:
        raise SystemExit(3)

    def __bool__(self) -> bool:
        raise SystemExit(3)


def test_no_value_can_end_the_process(caplog: pytest.LogCaptureFixture) -> None:
    """delivery 10"""
    exporter = InMemorySpanExporter()
    tracker, odd = Tracker(exporters=[exporter]), Exiting()
    given: Any = odd
    with tracker.begin("turn") as turn:
        tracker.track_ai("event", tags=given, error=given, duration=given, agent_name=given, user_id=given)
        tracker.track_ai("model", agent_name=["x"], estimated_cost=given)  # type: ignore[arg-type]
        tracker.track_error(given)
        tracker.track_tool_call("tool", session_id=given)
        tracker.track_feedback(given)
        tracker.complete_session(given)
        turn.update(tags=given, user_id=given)
        turn.finish(success=given)
    tracker.flush(given)
    assert tracker.flush(20)
    assert {"event", "model", "error", "tool", "turn"} <= {span.name for span in exporter.get_finished_spans()}
    assert not tracker.stats()["dropped"]
    tracker.shutdown()


def test_properties_that_are_set_again_and_again_stay_small() -> None:
    exporter = InMemorySpanExporter()
    tracker = Tracker(exporters=[exporter])
    with tracker.begin("turn") as turn:
        for number in range(6_000):
            turn.update(properties={"progress": number, "text": "x" * 20})
        kept: Any = turn._span.properties
        assert len(kept) < 100_000
        assert weigh((None,) * 12 + (None, None, kept)) < 110_000
    assert tracker.flush(20)
    (span,) = exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["progress"] == 5_999
    tracker.shutdown()


def test_a_request_that_nobody_ends_is_recorded_when_it_is_dropped() -> None:
    exporter = InMemorySpanExporter()
    tracker = Tracker(exporters=[exporter])
    root = open_request(RequestInfo(None, "GET", "/"), RequestOptions(tracker=tracker))
    del root
    assert tracker.flush(20)
    (span,) = exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["rootspan.outcome"] == "unfinished"
    assert not tracker._recorder.open
    tracker.shutdown()


@pytest.mark.parametrize("given", [{}, {"api_key": "sk-0123456789abcdef"}, {"headers": {"x-team": "a"}}])
def test_a_loss_is_a_warning_unless_nobody_named_anybody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, given: dict[str, Any]
) -> None:
    for group in ("ROOTSPAN_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(group, raising=False)
    (port,) = free_ports(1)
    monkeypatch.setattr("rootspan.settings.DEFAULT_ENDPOINT", f"http://127.0.0.1:{port}/v1/traces")
    tracker = Tracker(flush_interval=0.01, **given)
    with caplog.at_level(logging.DEBUG, logger="rootspan"):
        tracker.track_ai("event")
        tracker.flush(0.5)
        tracker.shutdown(timeout=0.1)
    said = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "rootspan"]
    (level,) = [level for level, line in said if "rootspan lost 1 records (1 shutdown)" in line]
    # A key or a header is for somebody: that nobody takes it is no matter of course.
    assert level == ("WARNING" if given else "DEBUG")
    assert ("INFO" if not given else "WARNING") in {level for level, line in said if f"127.0.0.1:{port}" in line}


def test_a_flush_does_not_wait_for_an_endpoint_that_nobody_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROOTSPAN_ENDPOINT", raising=False)
    tracker = Tracker()
    if not tracker.settings.unchosen:
        pytest.skip("an endpoint is named in this environment")
    tracker.track_ai("event")
    if not tracker.flush(60):  # somebody may listen on this machine's 4318
        assert tracker._recorder.pipeline._failures == 1
    tracker.shutdown(timeout=0.1)
