"""Delivery from a spool, with real processes, signals and sockets: what was recorded survives its process."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from programs import adds_up, ids, run, track
from rootspan import Tracker
from rootspan import pipeline as pipeline_module
from rootspan.errors import ConfigurationError
from rootspan.pipeline import store as store_module
from rootspan.spool import Spool
from rootspan.spool.journal import Journal
from sinks import Sink, hang, partial


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_LOOK_AROUND", 0.05)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@contextlib.contextmanager
def spooling(sink: Sink, directory: Path, **options: Any) -> Iterator[Tracker]:
    tracker = Tracker(endpoint=sink.url, spool=str(directory), **options)
    try:
        yield tracker
    finally:
        tracker.shutdown()


def recovered(tracker: Tracker) -> dict[str, Any]:
    """What the tracker took over, once nothing of it is left."""
    return until(tracker, lambda stats: stats["recovered"]["found"] and not stats["recovered"]["spooled"])["recovered"]


def until(tracker: Tracker, reached: Callable[[dict[str, Any]], object], seconds: float = 60.0) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while not reached(stats := adds_up(tracker)):
        assert time.monotonic() < deadline, stats
        time.sleep(0.02)
    return stats


@pytest.mark.parametrize("settled", [True, False])
def test_delivery_08_an_interaction_that_ended_on_a_full_disk_comes_once(
    settled: bool, sink: Sink, directory: Path, tmp_path: Path
) -> None:
    code = """
        import errno
        from rootspan.spool.segment import Pen
        turn = rootspan.begin("turn", input="Hi")
        if SETTLED: rootspan.default_tracker._recorder.pipeline._store._spool._retry_at = 1e12  # the disk failed before
        def full(*_): raise OSError(errno.ENOSPC, "No space left on device")
        Pen.write = full
        turn.finish("Hello!")
        if SETTLED: rootspan.flush(20)
        os.kill(os.getpid(), 9)
    """.replace("SETTLED", str(settled))
    env = {"ROOTSPAN_SPOOL": str(directory), "ROOTSPAN_FLUSH_INTERVAL": "60"}
    run(code, sink, tmp_path, **env).communicate(timeout=60)
    with spooling(sink, directory) as tracker:
        tracker.track_ai("next")
        until(tracker, lambda stats: stats["recovered"]["delivered"] == (not settled))
        assert tracker.flush(20)
    assert [(span.name, span.attributes.get("rootspan.outcome")) for span in sink.spans if span.name == "turn"] == [
        ("turn", None if settled else "unfinished")
    ]


ENDS = {
    "SIGKILL": "os.kill(os.getpid(), 9)",
    "os._exit": "os._exit(0)",
    "abort": "os.abort()",
    "SIGTERM": "os.kill(os.getpid(), 15)",
    "a forked child's os._exit": """
pid = os.fork()
if pid == 0:
    rootspan.track_ai('child')
    os._exit(0)
os.waitpid(pid, 0)
os.kill(os.getpid(), 9)
""",
}


@pytest.mark.parametrize("end", ENDS)
def test_delivery_01_a_returned_call_survives_its_process(
    end: str, sink: Sink, directory: Path, tmp_path: Path
) -> None:
    sink.stop()
    code = "for n in range(200): print(rootspan.track_ai('event', input=n), flush=True)\n"
    process = run(code + ENDS[end], sink, tmp_path, ROOTSPAN_SPOOL=str(directory))
    printed = process.communicate(timeout=60)[0].decode().split()
    assert len(printed) == 200
    sink.restart()
    with spooling(sink, directory) as tracker:
        found = recovered(tracker)
    expected = 201 if "child" in end else 200
    assert found == {"found": expected, "delivered": expected, "spooled": 0, "dropped": {}}
    assert set(printed) <= ids(sink)
    assert len(ids(sink)) == len(sink.spans) == expected
    assert not list(directory.iterdir())


def test_delivery_01_killed_and_restarted_again_and_again(sink: Sink, directory: Path, tmp_path: Path) -> None:
    """At any moment: each process is killed while it records and sends, and its successor takes over."""
    code = "while True: print(rootspan.track_ai('event'), flush=True)"
    printed: set[str] = set()
    for round_ in range(6):
        process = run(code, sink, tmp_path, ROOTSPAN_SPOOL=str(directory))
        assert process.stdout is not None
        for _ in range(30 + 70 * round_):
            printed.add(process.stdout.readline().decode().strip())
        process.kill()
        printed |= set(process.communicate(timeout=60)[0].decode().split())
    with spooling(sink, directory) as tracker:
        until(tracker, lambda stats: not list(directory.iterdir()))
    whole = {line for line in printed if len(line) == 16}  # what was cut by the kill was not printed to its end
    assert len(whole) > 1_000
    assert whole <= ids(sink)


def test_delivery_01_a_process_that_is_over_at_once_sends_what_others_left_too(
    sink: Sink, directory: Path, tmp_path: Path
) -> None:
    """Where none lives for longer, as those of a cron table, nobody sent it."""
    sink.stop()
    run("rootspan.track_ai('left')", sink, tmp_path, ROOTSPAN_SPOOL=str(directory)).communicate(timeout=60)
    assert list(directory.iterdir())
    sink.restart()
    run("rootspan.track_ai('own')", sink, tmp_path, ROOTSPAN_SPOOL=str(directory)).communicate(timeout=60)
    assert {span.name for span in sink.spans} == {"left", "own"}
    assert not list(directory.iterdir())


def test_delivery_01_a_span_that_comes_twice_has_the_same_id(sink: Sink, directory: Path, tmp_path: Path) -> None:
    """The collector took it, its answer was lost, and so was the process: at least once."""
    sink.script(lambda request: hang())
    process = run(
        "rootspan.track_ai('event')\nimport time; time.sleep(60)", sink, tmp_path, ROOTSPAN_SPOOL=str(directory)
    )
    (first,) = sink.wait_requests(1, 60)
    process.kill()
    process.communicate(timeout=60)
    sink.script([])
    with spooling(sink, directory) as tracker:
        recovered(tracker)
    assert {span.span_id for span in first.spans} == ids(sink)


def test_delivery_02_a_graceful_end_delivers_and_leaves_no_file(sink: Sink, directory: Path, tmp_path: Path) -> None:
    code = "for n in range(300): rootspan.track_ai('event', input=n)"
    run(code, sink, tmp_path, ROOTSPAN_SPOOL=str(directory)).communicate(timeout=60)
    with spooling(sink, directory) as tracker:  # a slow machine may not have delivered all within its second
        until(tracker, lambda stats: not list(directory.iterdir()))
    assert len(ids(sink)) == 300


def test_delivery_03_an_outage_is_waited_for_on_the_disk(sink: Sink, directory: Path) -> None:
    with spooling(sink, directory, max_queue_bytes=100_000) as tracker:
        sink.stop()
        sent = track(tracker, 3_000, output="x" * 500)
        assert not tracker.flush(0.2)
        stats = adds_up(tracker)
        assert (stats["spooled"], stats["queued"], stats["dropped"]) == (3_000, 0, {})
        sink.restart()
        assert tracker.flush(60)
        assert adds_up(tracker)["delivered"] == 3_000
    assert ids(sink) == sent


def test_delivery_05_poison_goes_to_the_dead_letters(sink: Sink, directory: Path) -> None:
    sink.script(lambda request: 400 if b"poison" in request.body else None)
    with spooling(sink, directory) as tracker:
        sent = track(tracker, 40)
        poison = tracker.track_ai("poison")
        sent |= track(tracker, 40)
        assert tracker.flush(60)
        assert adds_up(tracker)["dropped"] == {"refused": 1}
    assert ids(sink) == sent
    (path,) = directory.iterdir()
    line = json.loads(path.read_text())
    assert "400" in line["reason"]
    import base64

    assert bytes.fromhex(poison) in base64.b64decode(line["span"])


def test_delivery_05_a_wrong_key_holds_the_data_over_restarts(sink: Sink, directory: Path) -> None:
    sink.script(lambda request: 401)
    with spooling(sink, directory) as tracker:
        sent = track(tracker, 20)
        assert not tracker.flush(0.3)
    assert adds_up(tracker)["spooled"] == 20
    sink.script([])
    with spooling(sink, directory) as tracker:
        assert recovered(tracker)["delivered"] == 20
    assert ids(sink) == sent


def test_delivery_07_two_processes_share_a_directory(sink: Sink, directory: Path, tmp_path: Path) -> None:
    code = "for n in range(400): print(rootspan.track_ai('event', input=n))\nsys.stdout.flush()\n"
    other = tmp_path / "other"
    other.mkdir()
    dying = run(code + "os.kill(os.getpid(), 9)", sink, tmp_path, ROOTSPAN_SPOOL=str(directory))
    living = run(code, sink, other, ROOTSPAN_SPOOL=str(directory))
    printed = [process.communicate(timeout=60)[0].decode().split() for process in (dying, living)]
    assert list(map(len, printed)) == [400, 400]
    with spooling(sink, directory) as tracker:
        until(tracker, lambda stats: not list(directory.iterdir()))
    assert ids(sink) == {*printed[0], *printed[1]}


def test_delivery_07_what_a_dead_process_left_open_is_unfinished(sink: Sink, directory: Path, tmp_path: Path) -> None:
    code = """
        turn = rootspan.begin('turn', user_id='u1', input='Hi', properties={'plan': 'pro'})
        session = rootspan.create_session('work', agent_name='agent', user_id='u2')
        with rootspan.begin('done'): rootspan.track_ai('event')
        rootspan.track_ai('in turn')
        decorated = rootspan.interaction(event='decorated')(lambda: os.kill(os.getpid(), 9))
        decorated()
    """
    run(code, sink, tmp_path, ROOTSPAN_SPOOL=str(directory)).communicate(timeout=60)
    with spooling(sink, directory) as tracker:
        recovered(tracker)
    spans = {span.span_id: span for span in sink.spans}
    outcome = {span.name: span.attributes.get("rootspan.outcome") for span in spans.values()}
    unfinished = dict.fromkeys(("turn", "invoke_agent agent", "decorated"), "unfinished")
    assert outcome == {"done": None, "event": None, "in turn": None, **unfinished}
    turn = sink.one("turn")
    assert (turn.attributes["user.id"], turn.attributes["input.value"]) == ("u1", "Hi")
    assert turn.attributes["plan"] == "pro"
    assert {span.trace_id for span in sink.find("in turn")} == {turn.trace_id}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; the next test takes a file for a directory")
def test_delivery_08_a_read_only_directory(sink: Sink, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory.mkdir(mode=0o500)
    with spooling(sink, directory / "below") as tracker:
        sent = track(tracker, 20)
        assert tracker.flush(60)
    assert ids(sink) == sent
    assert caplog.text.count("cannot write to its spool") == 1


def test_delivery_08_without_a_directory_memory_takes_over_and_it_is_said_once(
    sink: Sink, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    with spooling(sink, tmp_path / "file" / "spool") as tracker:
        sent = track(tracker, 200)
        with tracker.begin("turn") as turn:
            sent.add(turn.span_id)
        assert tracker.flush(60)
        stats = adds_up(tracker)
        assert (stats["delivered"], stats["spooled"]) == (201, 0)
    assert ids(sink) == sent
    assert caplog.text.count("cannot write to its spool") == 1


def test_delivery_08_no_home(sink: Sink, tmp_path: Path) -> None:
    env = {"ROOTSPAN_SPOOL": "true", "HOME": "/proc/nowhere", "XDG_STATE_HOME": ""}
    process = run("rootspan.track_ai('event')", sink, tmp_path, **env)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors.count(b"cannot write to its spool /proc/nowhere/.local/state/rootspan/spool") == 1
    assert len(sink.spans) == 1


def test_delivery_08_a_file_size_limit_is_a_full_disk(sink: Sink, directory: Path, tmp_path: Path) -> None:
    code = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        for n in range(300): rootspan.track_ai('event', input='x' * 500)
        assert rootspan.flush(60)
        stats = rootspan.stats()
        assert stats['delivered'] == 300 and not stats['dropped'], stats
    """
    process = run(code, sink, tmp_path, ROOTSPAN_SPOOL=str(directory))
    _, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    assert errors.count(b"cannot write to its spool") == 1
    assert len(ids(sink)) == 300
    assert not list(directory.iterdir())


def test_delivery_09_swapped_keys_never_cross(directory: Path, sink: Sink) -> None:
    """Two trackers share a directory, die, and come back with swapped keys and endpoints."""
    keys = ["rs-key-of-the-first-tenant", "rs-key-of-the-second-tenant"]
    with Sink() as second:
        for target, key in zip((sink, second), keys, strict=True):
            target.script(lambda request: 503)
            with spooling(target, directory, api_key=key) as tracker:
                track(tracker, 10, user_id=key[:20])
                tracker.flush(0.2)
            target.script([])
        everything = b"".join(path.read_bytes() for path in directory.iterdir())
        assert not any(key.encode() in everything for key in keys)
        for target, key in ((sink, keys[1]), (second, keys[0])):
            with spooling(target, directory, api_key=key) as tracker:
                track(tracker, 1)
                assert tracker.flush(60)
                assert adds_up(tracker)["recovered"]["found"] == 0
        assert [len(sink.spans), len(second.spans)] == [1, 1]
        for target, key in ((sink, keys[0]), (second, keys[1])):
            with spooling(target, directory, api_key=key) as tracker:
                assert recovered(tracker)["delivered"] == 10
            assert {s.attributes["user.id"] for s in target.spans if "user.id" in s.attributes} == {key[:20]}
        assert not list(directory.iterdir())


def test_delivery_13_stats_add_up_at_any_moment(sink: Sink, directory: Path) -> None:
    with spooling(sink, directory) as tracker:
        threads = [threading.Thread(target=track, args=(tracker, 1_000)) for _ in range(8)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            adds_up(tracker)
            time.sleep(0.01)
        assert tracker.flush(60)
        assert adds_up(tracker)["delivered"] == len(ids(sink)) == 8_000


def test_delivery_13_rejections_and_samples_are_counted(sink: Sink, directory: Path) -> None:
    lost: list[tuple[str, int]] = []
    sink.script([partial(3, "too old")])
    with spooling(sink, directory, sample_rate=0.5, on_loss=lambda *loss: lost.append(loss)) as tracker:
        turns = [tracker.begin("turn") for _ in range(50)]
        for turn in turns:
            turn.finish()
        assert tracker.flush(60)
        stats = adds_up(tracker)
        assert stats["dropped"]["rejected"] == 3
        assert 5 < stats["dropped"]["sampled"] < 45
    assert lost == [("rejected", 3)]


def test_delivery_13_what_was_given_up_for_the_bound_is_counted(sink: Sink, directory: Path) -> None:
    lost: list[tuple[str, int]] = []
    sink.stop()
    with spooling(sink, directory, spool_max_bytes=1 << 20, on_loss=lambda *loss: lost.append(loss)) as tracker:
        track(tracker, 3_000, output="x" * 500)
        stats = adds_up(tracker)
        assert stats["dropped"]["spool_full"] > 500
        sink.restart()
        assert tracker.flush(60)
        stats = adds_up(tracker)
        assert stats["delivered"] == len(ids(sink))
        assert stats["delivered"] + stats["dropped"]["spool_full"] == 3_000
    assert sum(number for _, number in lost) == stats["dropped"]["spool_full"]


def test_delivery_13_what_was_being_sent_when_its_place_was_given_up_is_counted(sink: Sink, directory: Path) -> None:
    sink.script(lambda request: hang())
    with spooling(sink, directory, spool_max_bytes=1 << 20) as tracker:
        track(tracker, 10)
        until(tracker, lambda stats: sink.requests)
        track(tracker, 3_000, output="x" * 500)
        assert not tracker.shutdown(0.1)
        stats = adds_up(tracker)
    sink.script([])
    with spooling(sink, directory) as tracker:
        assert recovered(tracker)["found"] == stats["spooled"] > 0


def test_delivery_13_damage_is_counted_and_reported(sink: Sink, directory: Path, caplog: Any) -> None:
    lost: list[tuple[str, int]] = []
    sink.stop()
    with spooling(sink, directory) as tracker:
        track(tracker, 20)
    (path,) = directory.glob("*.segment")
    data = path.read_bytes()
    path.write_bytes(data[:-9] + b"?" + data[-8:])
    sink.restart()
    with spooling(sink, directory, on_loss=lambda *loss: lost.append(loss)) as tracker:
        assert recovered(tracker) == {"found": 20, "delivered": 19, "spooled": 0, "dropped": {"damaged": 1}}
    assert lost == [("damaged", 1)]
    assert "1 damaged" in caplog.text


def test_delivery_14_an_exit_with_a_hanging_endpoint_takes_a_second(
    sink: Sink, directory: Path, tmp_path: Path
) -> None:
    sink.script(lambda request: hang())
    code = """
        import atexit, time
        rootspan.track_ai('event')
        started = time.monotonic()
        # Python runs the handlers in reverse: this one, before rootspan was imported, would come after it
        atexit._run_exitfuncs()
        print(time.monotonic() - started)
    """
    out, errors = run(code, sink, tmp_path, ROOTSPAN_SPOOL=str(directory)).communicate(timeout=60)
    assert 0.5 < float(out) < 4.5, errors  # memory mode waits for five
    assert b"lost" not in errors
    sink.script([])
    with spooling(sink, directory) as tracker:
        assert recovered(tracker)["delivered"] == 1


def test_delivery_14_what_an_endpoint_that_hangs_was_sent_stays_where_the_process_takes_a_while_to_end(
    sink: Sink, directory: Path, tmp_path: Path
) -> None:
    sink.script(lambda request: hang())
    code = """
        import time
        rootspan.track_ai('event')
        time.sleep(0.6)  # it is being sent when the end comes
    """
    later = "import atexit, time\natexit.register(time.sleep, 1.5)"  # runs behind rootspan's own handler
    run(code, sink, tmp_path, later, ROOTSPAN_SPOOL=str(directory), ROOTSPAN_TIMEOUT="2").communicate(timeout=60)
    sink.script([])
    with spooling(sink, directory) as tracker:
        assert recovered(tracker)["delivered"] == 1


def test_delivery_14_a_flush_waits_a_second_by_default(sink: Sink, directory: Path) -> None:
    """As on an app's `lifespan.shutdown`: what is left is on the disk."""
    sink.script(lambda request: hang())
    with spooling(sink, directory) as tracker:
        tracker.track_ai("event")
        started = time.monotonic()
        assert not tracker.flush()
        assert 0.5 < time.monotonic() - started < 4.5
        started = time.monotonic()
        assert not tracker.shutdown()
        assert time.monotonic() - started < 4.5
    sink.script([])
    with spooling(sink, directory) as tracker:
        assert recovered(tracker)["delivered"] == 1


def test_delivery_15_what_is_recorded_at_the_very_end_is_delivered_or_spooled(
    sink: Sink, directory: Path, tmp_path: Path
) -> None:
    code = """
        import atexit
        class Late:
            def __del__(self, track=rootspan.track_ai): track('in del')
        late = Late()
        atexit.register(lambda: rootspan.track_ai('late'))
        rootspan.track_ai('event')
    """
    before = "import atexit\natexit.register(lambda: __import__('rootspan').track_ai('early'))"
    process = run(code, sink, tmp_path, before, ROOTSPAN_SPOOL=str(directory))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"Traceback" not in errors
    with spooling(sink, directory) as tracker:
        until(tracker, lambda stats: not list(directory.iterdir()))
    assert {"early", "late", "event"} <= {span.name for span in sink.spans}


def test_delivery_15_after_shutdown_everything_is_counted(sink: Sink, directory: Path) -> None:
    with spooling(sink, directory) as tracker:
        turn = tracker.begin("turn")
        assert tracker.shutdown()
        assert sink.one("turn").attributes["rootspan.outcome"] == "unfinished"
        tracker.track_ai("late")
        tracker.begin("late turn")
        turn.finish()
        assert adds_up(tracker)["dropped"] == {"shutdown": 2}  # the event, and the turn that nobody held
        assert tracker.shutdown()
    assert not list(directory.iterdir())


def test_a_hook_that_records_does_not_go_in_circles(sink: Sink, directory: Path) -> None:
    seen: list[str] = []

    def redact(path: str, value: Any) -> Any:
        if len(seen) < 50:
            seen.append(tracker.track_ai("from the hook"))
            turn = tracker.begin("turn")
            seen.append(turn.span_id)
            turn.finish()
        return value

    with spooling(sink, directory, redact=redact) as tracker:
        tracker.track_ai("event", input="text")
        assert tracker.flush(60)
        assert adds_up(tracker)["delivered"] == len(ids(sink)) == len(seen) + 1


def test_a_mistake_of_our_own_costs_one_record(sink: Sink, directory: Path, caplog: Any) -> None:
    with spooling(sink, directory) as tracker:
        shaping: Any = tracker._recorder.pipeline._shaping
        shape, shaping._shape = shaping._shape, lambda record: 1 / 0
        tracker.track_ai("broken", error="no answer")  # an event that is not plain
        turn = tracker.begin("turn")
        shaping._shape = shape
        turn.finish()
        assert tracker.flush(60)
        assert adds_up(tracker)["dropped"] == {"encoding": 1}
    assert len(sink.spans) == 1


def test_delivery_08_what_memory_delivered_does_not_come_again_as_unfinished(sink: Sink, directory: Path) -> None:
    sink.script(lambda request: 503 if sink.spans else None)  # an outage begins behind the first ten
    with spooling(sink, directory, batch_size=10) as tracker:
        turns = [tracker.begin("turn") for _ in range(35)]
        store = tracker._recorder.pipeline._store
        assert store is not None
        spool = store._spool
        spool._retry_at = float("inf")  # the disk fails
        for turn in turns:
            turn.finish()
        until(tracker, lambda stats: stats["delivered"] == 10)
        spool._retry_at = float("-inf")
        tracker.track_ai("on the disk again")
        assert not tracker.shutdown(0)
    sink.script([])
    with spooling(sink, directory) as tracker:
        assert recovered(tracker)["delivered"] == 26
    assert len(ids(sink)) == len(sink.spans) == 36


def test_delivery_13_what_is_given_up_of_dead_processes_is_counted_apart(sink: Sink, directory: Path) -> None:
    sink.stop()
    with spooling(sink, directory) as ended:
        track(ended, 50)
        assert not ended.shutdown(0.1)
    with spooling(sink, directory, spool_max_bytes=1 << 20) as tracker:
        track(tracker, 10)
        until(tracker, lambda stats: stats["recovered"]["found"] == 50)
        track(tracker, 3_000, output="x" * 500)
        stats = adds_up(tracker)
        assert stats["recovered"]["dropped"] == {"spool_full": 50 - stats["recovered"]["delivered"]}
        sink.restart()
        assert tracker.flush(60)


def test_delivery_13_what_is_given_up_while_more_is_found_is_counted_as_found(
    sink: Sink, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink.stop()
    for _ in range(2):
        with spooling(sink, directory) as ended:
            track(ended, 50)
            assert not ended.shutdown(0.1)
    made, seen, survey = threading.Event(), list[dict[str, Any]](), Spool._survey

    def slowly(spool: Spool, journal: Journal, over: Any) -> Any:
        if spool._adopted:  # the second of the two
            made.wait(60)
            track(tracker, 3_000, output="x" * 500)
            seen.append(adds_up(tracker)["recovered"])
        return survey(spool, journal, over)

    monkeypatch.setattr(Spool, "_survey", slowly)
    with spooling(sink, directory, spool_max_bytes=1 << 20) as tracker:
        made.set()
        until(tracker, lambda stats: stats["recovered"]["found"] == 100)
    assert seen == [{"found": 50, "delivered": 0, "spooled": 0, "dropped": {"spool_full": 50}}]


def test_a_look_around_that_fails_leaves_the_worker_alive(sink: Sink, directory: Path, caplog: Any) -> None:
    with spooling(sink, directory) as tracker:
        store: Any = tracker._recorder.pipeline._store
        store._spool.adopt = lambda: 1 / 0
        sent = track(tracker, 3)
        assert tracker.flush(60)
    assert ids(sink) == sent
    assert "could not look for" in caplog.text


def test_a_fork_that_ran_no_hook_writes_to_files_of_its_own(sink: Sink, directory: Path, tmp_path: Path) -> None:
    """web 80: as under uWSGI, whose workers are forked in C."""
    code = """
        import ctypes
        for n in range(5): rootspan.track_ai('event')
        assert rootspan.flush(60)
        if ctypes.CDLL(None).fork() == 0:
            with rootspan.begin('turn'): rootspan.track_ai('event')
            os.kill(os.getpid(), 9)
        os.wait()
        os.kill(os.getpid(), 9)
    """
    run(code, sink, tmp_path, ROOTSPAN_SPOOL=str(directory)).communicate(timeout=60)
    with spooling(sink, directory) as tracker:
        until(tracker, lambda stats: not list(directory.iterdir()))
    assert len(ids(sink)) == 7


def test_a_fork_while_another_thread_makes_the_first_tracker_with_a_spool(
    sink: Sink, directory: Path, tmp_path: Path
) -> None:
    """delivery 2: the child would wait for an import of its parent's that nobody ends"""
    code = f"""
        import signal, threading, time
        looking = threading.Event()
        class Slow:
            def find_spec(self, name, path, target=None):
                if name == 'rootspan.pipeline.store' and threading.current_thread() is not threading.main_thread():
                    looking.set()
                    time.sleep(0.5)
        sys.meta_path.insert(0, Slow())
        tracker = lambda: rootspan.Tracker(spool={str(directory)!r})
        threading.Thread(target=tracker).start()
        looking.wait()
        if (pid := os.fork()) == 0:
            signal.alarm(20)
            tracker().track_ai('child')
            sys.exit(0)
        sys.exit(os.waitpid(pid, 0)[1] != 0)
    """
    program = run(code, sink, tmp_path)
    said = program.communicate(timeout=60)
    assert program.returncode == 0, said
    assert [span.name for span in sink.wait(1)] == ["child"]


def test_what_is_sampled_out_leaves_no_trace_on_the_disk(sink: Sink, directory: Path) -> None:
    with spooling(sink, directory, sample_rate=0.0) as tracker:
        with tracker.begin("turn"):
            tracker.track_ai("event")
        assert adds_up(tracker)["dropped"] == {"sampled": 2}
    assert not directory.exists()


def test_nothing_unredacted_touches_the_disk(sink: Sink, directory: Path) -> None:
    sink.stop()
    secret = "sk-" + "Zx8Kq2Lm9Np4Rt6Vw1Yb3Dc5Fg7Hj0Ss"
    with spooling(sink, directory, api_key="rs-0123456789abcdef", redact_pii=True) as tracker:
        tracker.track_ai("event", input=f"use {secret}", properties={"password": "hunter2x", "mail": "ann@example.com"})
        tracker.begin("turn", input=f"rs-0123456789abcdef and {secret}")
        everything = b"".join(path.read_bytes() for path in directory.iterdir())
    for hidden in (secret, "hunter2x", "ann@example.com", "rs-0123456789abcdef"):
        assert hidden.encode() not in everything
    assert b"[redacted" in everything


def test_records_keep_their_own_resource_and_protocol(sink: Sink, directory: Path) -> None:
    sink.script(lambda request: 503)
    with spooling(sink, directory, service_name="old", protocol="http/json") as tracker:
        track(tracker, 3)
    sink.script([])
    with spooling(sink, directory, service_name="new") as tracker:
        recovered(tracker)
        tracker.track_ai("new")
        assert tracker.flush(60)
    assert {span.resource["service.name"] for span in sink.find("event")} == {"old"}
    assert sink.one("new").resource["service.name"] == "new"
    accepted = [request for request in sink.requests if request.status == 200]
    assert {request.headers["Content-Type"] for request in accepted} == {"application/json", "application/x-protobuf"}


def test_a_spool_goes_with_otlp_only(directory: Path) -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    with pytest.raises(ConfigurationError, match=r"Fix: leave out spool="):
        Tracker(exporters=[InMemorySpanExporter()], spool=str(directory))
    Tracker(exporters=[InMemorySpanExporter()], spool=False).shutdown()


def test_a_disabled_tracker_touches_no_disk(directory: Path) -> None:
    tracker = Tracker(spool=str(directory), disabled=True)
    tracker.track_ai("event")
    tracker.begin("turn")
    tracker.shutdown()
    assert adds_up(tracker)["dropped"] == {"disabled": 2}  # the event, and the turn that nobody held
    assert not directory.exists()


def test_an_idle_spool_ends_its_worker_and_starts_another(
    sink: Sink, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "_IDLE", 0.2)
    with spooling(sink, directory, flush_interval=0.02) as tracker:
        for _ in range(2):
            track(tracker, 1)
            worker = tracker._recorder.pipeline.queue.worker
            assert worker is not None
            worker.join(30)
        assert adds_up(tracker)["delivered"] == 2
