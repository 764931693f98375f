"""What one call costs the thread that makes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from collector import Collector
from opentelemetry import trace
from peers import CHAT, EVENT, PROPERTIES, USAGE, Raw, track
from timing import Spread, rounds

from rootspan import Tracker

__all__ = ["growth", "measure"]


def measure(quick: bool) -> dict[str, Spread]:
    """Return the time of each kind of call; those called `raw` are OpenTelemetry's own."""
    count = 12 if quick else 60
    with Collector() as collector:
        raw, tracker = Raw(collector.url), Tracker(endpoint=collector.url)

        def drain() -> None:
            raw.flush()
            tracker.flush(30)

        candidates: dict[str, Callable[[], object]] = {
            "raw": raw.span,
            "raw, 8 kB chat": raw.chat,
            "track_ai": track(tracker),
            "track_ai, five properties": track(tracker, properties=PROPERTIES),
            "track_ai, tokens and cost": track(tracker, **USAGE),
            "track_ai, 8 kB chat": track(tracker, input=CHAT),
            "begin + finish": lambda: turn(tracker),
            "tool_span": lambda: tool(tracker),
        }
        found = rounds(candidates, calls=300, count=count, drain=drain)
        with tracker.begin("turn"):
            inside = {"raw, beside an interaction": raw.span, "track_ai, in an interaction": candidates["track_ai"]}
            found |= rounds(inside, calls=300, count=count, drain=drain)
        with trace.use_span(raw.tracer.start_span("host"), end_on_exit=False):
            inside = {
                "raw, in a host span": raw.span,
                "track_ai, in a host span": candidates["track_ai, five properties"],
            }
            found |= rounds(inside, calls=300, count=count, drain=drain)
        found |= _paced(raw.span, candidates["track_ai, five properties"], 3 if quick else 12, drain)
        tracker.shutdown()
        raw.provider.shutdown()
    return found


def _paced(
    raw: Callable[[], object], track: Callable[[], object], count: int, drain: Callable[[], object]
) -> dict[str, Spread]:
    """Return the time of calls that come 500 times a second, less what it takes to look at the clock then."""
    calls = {"raw, 500 a second": raw, "track_ai, 500 a second": track, "": lambda: None}
    found = rounds(calls, calls=200, count=count, drain=drain, pace=0.002)
    nothing = found.pop("").values
    return {
        name: Spread(tuple(one - clock for one, clock in zip(spread.values, nothing, strict=True)))
        for name, spread in found.items()
    }


def growth(quick: bool) -> dict[str, Spread]:
    """Return how `track_ai` grows with the text, with threads and with what is open, and `begin` with that."""
    count = 8 if quick else 30
    with Collector() as collector:
        tracker = Tracker(endpoint=collector.url, max_queue_bytes=1 << 30)
        texts = {name: "x" * size for name, size in (("1 kB", 1_000), ("32 kB", 32_000), ("1 MB", 1_000_000))}
        candidates = {f"text of {name}": track(tracker, input=text) for name, text in texts.items()}
        found = rounds(candidates, calls=50, count=count, drain=lambda: tracker.flush(60))
        for number in (1, 8):
            call = track(tracker)
            spread = [_on_threads(call, number) for _ in range(count)]
            found[f"{number} threads"] = Spread(tuple(spread))
            tracker.flush(60)
        for number in (0, 10_000):
            open_ones = [tracker.begin("turn") for _ in range(number)]
            name = f"{number} open interactions"
            candidates = {name: track(tracker), f"{name}, one more": partial(turn, tracker)}
            found |= rounds(candidates, calls=300, count=count, drain=lambda: tracker.flush(60))
            for one in open_ones:
                one.finish()
        tracker.shutdown()
    return found


def _on_threads(call: Callable[[], object], number: int) -> float:
    """Return the CPU time of one call in microseconds while `number` threads make it."""
    taken: list[float] = []

    def work() -> None:
        began = time.thread_time()
        for _ in range(300):
            call()
        taken.append((time.thread_time() - began) / 300 * 1e6)

    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(taken) / len(taken)


def turn(tracker: Tracker) -> None:
    """An interaction with the fields of an event."""
    turn = tracker.begin(EVENT["event"], user_id="user_42", convo_id="conv_abc", input=EVENT["input"])
    turn.finish(EVENT["output"])


def tool(tracker: Tracker) -> Any:
    """A tool call around nothing."""
    with tracker.tool_span("search", input="order 1042") as step:
        step.set_output("left the warehouse")
