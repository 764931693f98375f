"""What an event costs the whole process until it is delivered, and what happens to the host meanwhile."""

from __future__ import annotations

import logging
import sys
import time
import tracemalloc
from collections.abc import Callable
from statistics import quantiles
from tempfile import TemporaryDirectory

from collector import Collector
from peers import PROPERTIES, Raw, track, visits
from timing import Spread, rounds

from rootspan import Tracker

__all__ = ["burst", "measure", "spooled", "stalls"]


def measure(quick: bool) -> dict[str, Spread]:
    """Return the CPU time of the process for each event that arrived, in microseconds."""
    number, count = (2_000, 4) if quick else (5_000, 12)
    with Collector() as collector:
        raw = Raw(collector.url)
        plain = Tracker(endpoint=collector.url, redact_text=False)
        redacting = Tracker(endpoint=collector.url)
        candidates: dict[str, tuple[Callable[[int], object], Callable[[], object]]] = {
            "raw, delivered": (raw.visit, raw.flush),
            "delivered": (visits(plain), lambda: plain.flush(60)),
            "delivered, text redacted": (visits(redacting), lambda: redacting.flush(60)),
        }
        taken: dict[str, list[float]] = {name: [] for name in candidates}
        for turn in range(count + 1):
            for name, (call, flush) in candidates.items():
                began = time.process_time()
                for visit in range(number):
                    call(visit)
                flush()
                if turn:
                    taken[name].append((time.process_time() - began) / number * 1e6)
        for tracker in (plain, redacting):
            assert not tracker.stats()["dropped"]
            tracker.shutdown()
        raw.provider.shutdown()
    return {name: Spread(tuple(values)) for name, values in taken.items()}


def spooled(quick: bool) -> dict[str, Spread]:
    """Return what a call costs its thread when the event is on the disk before it returns."""
    with Collector() as collector, TemporaryDirectory() as directory:
        raw, tracker = Raw(collector.url), Tracker(endpoint=collector.url, spool=directory)

        def drain() -> None:
            raw.flush()
            tracker.flush(60)

        candidates = {"raw, beside the spool": raw.span, "track_ai, spooled": track(tracker, properties=PROPERTIES)}
        found = rounds(candidates, calls=300, count=8 if quick else 30, drain=drain)
        tracker.shutdown()
        raw.provider.shutdown()
    return found


def burst(quick: bool) -> dict[str, float]:
    """Return what becomes of a burst, and what a queued event weighs."""
    number = 20_000 if quick else 100_000
    with Collector() as collector:
        tracker = Tracker(endpoint=collector.url, max_queue_bytes=1 << 30)
        call = track(tracker, properties=PROPERTIES)
        began = time.perf_counter()
        for _ in range(number):
            call()
        recorded = time.perf_counter() - began
        tracker.flush(300)
        stats = tracker.stats()
        tracker.shutdown()
    logging.getLogger("rootspan").setLevel(logging.CRITICAL)  # what follows is never sent
    waiting = Tracker(endpoint="http://127.0.0.1:9", flush_interval=60)
    call = track(waiting, properties=PROPERTIES)
    call()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(500):
        call()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    waiting.shutdown(timeout=0.1)
    return {
        "events in the burst": number,
        "lost of them": number - stats["delivered"],
        "seconds to record them": recorded,
        "bytes of a queued event": (after - before) / 500,
    }


def stalls(quick: bool) -> dict[str, float]:
    """Return the 99th percentile of a host's own work in milliseconds, idle and while a backlog drains."""
    with Collector() as collector:
        tracker = Tracker(endpoint=collector.url, max_queue_bytes=1 << 30)
        call = track(tracker, properties=PROPERTIES)
        idle = _work(400 if quick else 1_500)
        for _ in range(20_000 if quick else 60_000):
            call()
        busy = _work(400 if quick else 1_500)
        tracker.flush(300)
        tracker.shutdown()
    return {"host p99 idle, ms": idle, "host p99 while a backlog drains, ms": busy}


def _work(pieces: int) -> float:
    times: list[float] = []
    for _ in range(pieces):
        began = time.perf_counter()
        sum(range(20_000))
        times.append(time.perf_counter() - began)
    return quantiles(times, n=100)[98] * 1e3


if __name__ == "__main__":
    print(burst("--quick" in sys.argv), stalls("--quick" in sys.argv))
