"""Delivery from processes of every kind of life: forked, spawned, patched, blocked, cancelled, with a jumping clock."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest

from programs import adds_up, ids, run, track
from rootspan import Tracker, recorder, tracking
from sinks import Sink, reset

MODES = {"memory": "", "spool": "spool"}
celerys = pytest.mark.skipif(importlib.util.find_spec("celery") is None, reason="celery is not installed")
modes = pytest.mark.parametrize("mode", MODES)


def deliver(sink: Sink, mode: str, tmp_path: Path, count: int) -> None:
    """Wait for what a program recorded; what it left in its spool is adopted."""
    if mode == "spool":
        tracker = Tracker(endpoint=sink.url, spool=str(tmp_path / "spool"))
        try:
            sink.wait(count, 60)
        finally:
            tracker.shutdown()
    else:
        sink.wait(count, 60)


def finish(code: str, sink: Sink, mode: str, tmp_path: Path, count: int, before: str = "") -> dict[str, int]:
    """Run a program to its end, and return how often each span arrived."""
    spool = {"ROOTSPAN_SPOOL": str(tmp_path / "spool")} if mode == "spool" else {}
    process = run(code, sink, tmp_path, before, PYTHONWARNINGS="ignore", **spool)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors.decode()
    assert b"lost" not in errors, errors.decode()
    deliver(sink, mode, tmp_path, count)
    spans = {span.span_id: span.name for span in sink.spans}
    names = list(spans.values())
    return {name: names.count(name) for name in sorted(set(names))}


@modes
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_delivery_02_children_of_multiprocessing(method: str, mode: str, sink: Sink, tmp_path: Path) -> None:
    """They end with os._exit, after the finalizers of multiprocessing and without those of atexit."""
    code = f"""
        import multiprocessing
        def work(n):
            for _ in range(20): rootspan.track_ai('child', input=n)
        if __name__ == '__main__':
            rootspan.track_ai('parent')
            context = multiprocessing.get_context({method!r})
            children = [context.Process(target=work, args=(n,)) for n in range(3)]
            for child in children: child.start()
            for child in children: child.join()
            rootspan.track_ai('parent')
    """
    assert finish(code, sink, mode, tmp_path, 62) == {"child": 60, "parent": 2}
    assert len(sink.spans) == 62


@pytest.mark.parametrize("made", ["by the parent", "by the child"])
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_delivery_02_children_of_multiprocessing_that_only_begin(
    method: str, made: str, sink: Sink, tmp_path: Path
) -> None:
    """What they leave open is recorded as unfinished when they end, as everywhere."""
    code = f"""
        import multiprocessing
        def turn():
            global open
            open = rootspan.begin('turn')
        def session():
            rootspan.create_session(name='visit', agent_name='desk')
        if __name__ == '__main__':
            if {made == "by the parent"}: rootspan.track_ai('parent')
            context = multiprocessing.get_context({method!r})
            for work in (turn, session):
                child = context.Process(target=work)
                child.start()
                child.join()
    """
    parent = {"parent": 1} if made == "by the parent" else {}
    assert finish(code, sink, "memory", tmp_path, 2 + len(parent)) == {"invoke_agent desk": 1, **parent, "turn": 1}


@modes
def test_delivery_02_a_pool_of_processes(mode: str, sink: Sink, tmp_path: Path) -> None:
    code = """
        from concurrent.futures import ProcessPoolExecutor
        def work(n): return rootspan.track_ai('job', input=n)
        if __name__ == '__main__':
            with ProcessPoolExecutor(2) as pool:
                assert len(set(pool.map(work, range(40)))) == 40
    """
    assert finish(code, sink, mode, tmp_path, 40) == {"job": 40}


@celerys
@pytest.mark.parametrize("ends", ["", ", on_process_exit=process_destructor"], ids=["by itself", "as Celery does"])
def test_delivery_02_celerys_processes(ends: str, sink: Sink, tmp_path: Path) -> None:
    """Its children run no finalizers, and end by `os._exit` within a second; here nothing is sent before that."""
    code = f"""
        from billiard.pool import Pool
        from celery.concurrency.prefork import process_destructor
        def work(n): return rootspan.track_ai('task', input=n)
        if __name__ == '__main__':
            rootspan.configure(flush_interval=60)
            rootspan.track_ai('parent')
            pool = Pool(2{ends})
            assert len(set(pool.map(work, range(40)))) == 40
            pool.close()
            pool.join()
    """
    assert finish(code, sink, "memory", tmp_path, 41) == {"parent": 1, "task": 40}


@celerys
def test_delivery_02_a_child_of_celerys_pool_that_is_replaced(sink: Sink, tmp_path: Path) -> None:
    """As `--max-tasks-per-child` has it: the child ends by `os._exit` right after its task."""
    code = """
        from billiard.pool import Pool
        from celery.concurrency.prefork import process_destructor
        def work(n): return rootspan.track_ai('task', input=n)
        if __name__ == '__main__':
            rootspan.track_ai('parent')
            pool = Pool(1, maxtasksperchild=1, on_process_exit=process_destructor)
            for n in range(3): pool.apply(work, (n,))
            pool.close()
            pool.join()
    """
    assert finish(code, sink, "memory", tmp_path, 4) == {"parent": 1, "task": 3}


@modes
def test_delivery_02_prefork(mode: str, sink: Sink, tmp_path: Path) -> None:
    """A master that records, forks workers that record and end gracefully, and replaces them."""
    code = """
        rootspan.track_ai('master')
        pids = []
        for n in range(6):
            pid = os.fork()
            if pid == 0:
                with rootspan.begin('job') as job:
                    for _ in range(10): rootspan.track_ai('step')
                sys.exit(0)
            pids.append(pid)
            if n == 2: rootspan.flush(20)
        for pid in pids: assert os.waitpid(pid, 0)[1] == 0
        rootspan.track_ai('master')
    """
    assert finish(code, sink, mode, tmp_path, 68) == {"job": 6, "master": 2, "step": 60}
    assert len(sink.spans) == 68, "a span came twice"
    assert len({span.trace_id for span in sink.find("job")}) == 6, "two children used the same ids"


@modes
def test_delivery_02_a_child_of_a_child(mode: str, sink: Sink, tmp_path: Path) -> None:
    code = """
        rootspan.track_ai('first')
        if (pid := os.fork()) == 0:
            rootspan.track_ai('second')
            if (below := os.fork()) == 0:
                rootspan.track_ai('third')
                sys.exit(0)
            os.waitpid(below, 0)
            sys.exit(0)
        os.waitpid(pid, 0)
    """
    assert finish(code, sink, mode, tmp_path, 3) == {"first": 1, "second": 1, "third": 1}


@modes
def test_delivery_02_a_child_works_on_its_parents_session(mode: str, sink: Sink, tmp_path: Path) -> None:
    code = """
        session = rootspan.create_session(agent_name='a', user_id='u1', convo_id='c1')
        if (pid := os.fork()) == 0:
            rootspan.track_tool_call('step', session_id=session)
            rootspan.complete_session(session, success=False)
            sys.exit(0)
        os.waitpid(pid, 0)
        rootspan.complete_session(session)
    """
    assert finish(code, sink, mode, tmp_path, 3) == {"invoke_agent a": 1, "step": 1, "session_outcome": 1}
    assert [span.status_code for name in ("invoke_agent a", "session_outcome") for span in sink.find(name)] == [0, 2]
    assert {(span.attributes["user.id"], span.attributes["session.id"]) for span in sink.spans} == {("u1", "c1")}


@modes
def test_delivery_02_a_fork_while_other_threads_record(mode: str, sink: Sink, tmp_path: Path) -> None:
    """Whatever the other threads hold at that moment, the child starts afresh and hangs at nothing."""
    code = """
        import threading
        stop = threading.Event()
        counts = [0, 0, 0]
        def work(n):
            while counts[n] < 1000 and not stop.is_set():
                rootspan.track_ai('thread')
                counts[n] += 1
                stop.wait(0.0005)
        threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for thread in threads: thread.start()
        pids = []
        for _ in range(8):
            pid = os.fork()
            if pid == 0:
                for _ in range(5): rootspan.track_ai('child')
                sys.exit(0)
            pids.append(pid)
        for pid in pids: assert os.waitpid(pid, 0)[1] == 0
        stop.set()
        for thread in threads: thread.join()
        for _ in range(3000 - sum(counts)): rootspan.track_ai('thread')
    """
    assert finish(code, sink, mode, tmp_path, 3040) == {"child": 40, "thread": 3000}


@modes
def test_delivery_15_a_last_thread_and_a_late_handler(mode: str, sink: Sink, tmp_path: Path) -> None:
    """A thread that is no daemon goes on while the interpreter waits for it; handlers run after that."""
    code = """
        import atexit, threading, time
        atexit.register(lambda: rootspan.track_ai('late'))
        def work():
            for _ in range(5):
                time.sleep(0.05)
                rootspan.track_ai('thread')
        threading.Thread(target=work).start()
    """
    before = "import atexit\natexit.register(lambda: __import__('rootspan').track_ai('early'))"
    assert finish(code, sink, mode, tmp_path, 7, before) == {"early": 1, "late": 1, "thread": 5}


@modes
def test_delivery_15_signal_handlers_record_wherever_they_interrupt(mode: str, sink: Sink, tmp_path: Path) -> None:
    """A thousand a second: no lock of ours is held where Python runs a handler, or it would wait for itself."""
    code = """
        import signal
        caught = []
        def handler(*_):
            caught.append(rootspan.track_ai('signal'))
        rootspan.configure(max_queue_bytes=1 << 30)
        rootspan.track_ai('first')  # configured and imported
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
        turns = 0
        while len(caught) < 200 or turns < 2000:
            with rootspan.begin('turn'): pass
            turns += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(turns, len(caught))
        rootspan.flush(60)
        stats = rootspan.stats()
        assert stats['recorded'] == stats['delivered'] == 1 + turns + len(caught), (stats, turns, len(caught))
    """
    found = finish(code, sink, mode, tmp_path, 2200)
    assert found["signal"] >= 200
    assert found["turn"] >= 2000


@modes
@pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is not installed")
@pytest.mark.parametrize("busy", [False, True])
def test_delivery_18_gevent(busy: bool, mode: str, sink: Sink, tmp_path: Path) -> None:
    """Everything is patched; busy: no greenlet yields until the exit."""
    is_old = int(version("gevent").partition(".")[0]) < 25
    if busy and mode == "memory" and (is_old or sys.version_info[:2] == (3, 12)):
        pytest.skip("gevent looks names up in a thread, which Python 3.12 and gevent 24 do not start at exit")
    code = f"""
        import gevent
        def work(n):
            with rootspan.begin('turn', input=n):
                if not {busy}: gevent.sleep(0.002)
                rootspan.track_ai('event', input=n)
        jobs = [gevent.spawn(work, n) for n in range(100)]
        gevent.joinall(jobs)
        assert all(job.successful() for job in jobs)
        if not {busy}: assert rootspan.flush(30)
    """
    before = "from gevent import monkey\nmonkey.patch_all()"
    assert finish(code, sink, mode, tmp_path, 200, before) == {"event": 100, "turn": 100}
    spans = {span.span_id: span for span in sink.spans}
    turns = {span_id for span_id, span in spans.items() if span.name == "turn"}
    assert {span.parent_id for span in spans.values() if span.name == "event"} == turns


@contextmanager
def tracking_to(sink: Sink, mode: str, tmp_path: Path) -> Iterator[Tracker]:
    tracker = Tracker(endpoint=sink.url, spool=str(tmp_path / "spool") if mode == "spool" else False)
    try:
        yield tracker
    finally:
        tracker.shutdown()


@modes
@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_delivery_18_a_clock_that_jumps_an_hour(
    jump: float, mode: str, sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During an outage; waits are measured by the monotonic clock, and no span ends before it began."""
    real, real_ns, offset = time.time, time.time_ns, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + offset[0])
    for module in (recorder, tracking):
        monkeypatch.setattr(module, "time_ns", lambda: real_ns() + int(offset[0] * 1e9))
    with tracking_to(sink, mode, tmp_path) as tracker:
        sink.script([503, reset()])
        sent = track(tracker, 100)
        turn = tracker.begin("turn")
        sent.add(turn.span_id)
        offset[0] = jump
        turn.finish()
        sent |= track(tracker, 100)
        assert tracker.flush(60)
        assert adds_up(tracker)["delivered"] == 201
    assert ids(sink) == sent
    assert all(span.end >= span.start for span in sink.spans)


@modes
def test_delivery_18_cancelled_tasks(mode: str, sink: Sink, tmp_path: Path) -> None:
    with tracking_to(sink, mode, tmp_path) as tracker:

        async def work(n: int) -> None:
            async with tracker.begin("turn", input=n):
                tracker.track_ai("event", input=n)
                await asyncio.sleep(3600)

        async def main() -> None:
            tasks = [asyncio.create_task(work(n)) for n in range(50)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(main())
        assert tracker.flush(60)
    outcomes = [span.attributes.get("rootspan.outcome") for span in sink.find("turn")]
    assert outcomes == ["cancelled"] * 50
    assert len(sink.find("event")) == 50


@modes
def test_delivery_18_a_blocked_event_loop(mode: str, sink: Sink, tmp_path: Path) -> None:
    """The worker is a thread: what was recorded arrives while the loop is stuck."""
    with tracking_to(sink, mode, tmp_path) as tracker:

        async def main() -> None:
            sent = track(tracker, 20)
            sink.wait(20, 60)  # blocks the loop
            assert ids(sink) == sent

        asyncio.run(main())


@modes
def test_delivery_06_nothing_of_the_delivery_runs_on_the_callers_thread(
    mode: str, sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attempts and waits are the worker's, also while it is crowded and the endpoint fails."""
    from rootspan.transport import Transport
    from rootspan.transport.sink import Backoff

    threads: set[str] = set()
    send, wait = Transport.send, Backoff.wait

    def sending(self: Transport, *arguments: object) -> object:
        threads.add(threading.current_thread().name)
        return send(self, *arguments)  # type: ignore[arg-type]

    def waiting(self: Backoff, *arguments: object, **options: object) -> float:
        threads.add(threading.current_thread().name)
        return wait(self, *arguments, **options) / 20  # type: ignore[arg-type]

    monkeypatch.setattr(Transport, "send", sending)
    monkeypatch.setattr(Backoff, "wait", waiting)
    with tracking_to(sink, mode, tmp_path) as tracker:
        sink.script([503] * 3)
        sent = track(tracker, 2000, output="x" * 1000)
        assert tracker.flush(60)
    assert ids(sink) == sent
    assert threads == {"rootspan-worker"}
