"""Interleaved measuring: every candidate in turn, round after round, so that a drifting machine hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import tomllib

__all__ = ["Spread", "budget", "ratio", "rounds"]


class Spread(NamedTuple):
    """What many rounds of one candidate gave, in microseconds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.values)

    @property
    def least(self) -> float:
        """The smallest one: what the work costs when nothing else gets in its way."""
        return min(self.values)

    @property
    def wide(self) -> float:
        """The distance between the quartiles, as a share of the median."""
        low, _, high = quantiles(self.values, n=4)
        return (high - low) / self.median


def rounds(
    candidates: Mapping[str, Callable[[], object]],
    *,
    calls: int,
    count: int,
    drain: Callable[[], object],
    pace: float = 0.0,
) -> dict[str, Spread]:
    """Take the CPU time of `calls` calls of each candidate, `count` times in turn.

    Args:
        candidates: what to call, by name.
        calls: how often, between two looks at the clock.
        count: how many rounds; two more come first and are not counted.
        drain: called after each, outside of the time taken, so that nothing of one is left for the next.
        pace: seconds between two calls; each call is then timed on its own.
    """
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    gc.collect()
    for number in range(count + 2):
        for name, call in candidates.items():
            spent = _paced(call, calls, pace) if pace else _hot(call, calls)
            if number > 1:
                taken[name].append(spent / calls * 1e6)
            drain()
    return {name: Spread(tuple(values)) for name, values in taken.items()}


def _hot(call: Callable[[], object], calls: int) -> float:
    began = time.thread_time()
    for _ in range(calls):
        call()
    return time.thread_time() - began


def _paced(call: Callable[[], object], calls: int, pace: float) -> float:
    spent = 0.0
    for _ in range(calls):
        time.sleep(pace)
        began = time.thread_time()
        call()
        spent += time.thread_time() - began
    return spent


def ratio(ours: Spread, theirs: Spread) -> tuple[float, float]:
    """Return the median of the ratios round by round, and how far the quartiles of them are apart."""
    ratios = [one / other for one, other in zip(ours.values, theirs.values, strict=True)]
    low, middle, high = quantiles(ratios, n=4)
    return middle, high - low


def budget() -> list[dict[str, Any]]:
    """Return the lines of `budget.toml`."""
    lines: list[dict[str, Any]] = tomllib.loads((Path(__file__).parent / "budget.toml").read_text())["budget"]
    return lines
