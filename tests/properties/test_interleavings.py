"""Interactions that are interleaved over tasks and threads stay whole, disjoint and correctly parented."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rootspan import Tracker

# What one worker does inside its own interaction, one action for each of its turns.
ACTIONS = st.lists(st.sampled_from(["event", "open", "close", "tool", "decision"]), max_size=8)
PROGRAMS = st.lists(ACTIONS, min_size=1, max_size=4)
ORDER = st.lists(st.integers(0, 3), max_size=40)


@pytest.fixture(scope="module")
def recording() -> Iterator[tuple[Tracker, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    tracker = Tracker(exporters=[exporter])
    yield tracker, exporter
    tracker.shutdown()


class Worker:
    """One interaction and the parents that its spans should have, by name."""

    def __init__(self, tracker: Tracker, number: int, actions: list[str]) -> None:
        self.tracker = tracker
        self.user = f"user-{number}"
        self.actions = actions
        self.expected: dict[str, str | None] = {f"{self.user} turn": None}
        self.open: list[Any] = []
        self.parents = [f"{self.user} turn"]

    def begin(self) -> None:
        self.turn = self.tracker.begin(f"{self.user} turn", user_id=self.user, input="Q")

    def step(self, number: int) -> None:
        name = f"{self.user} {number}"
        action = self.actions[number]
        if action == "close":
            if self.open:
                self.open.pop().__exit__(None, None, None)
                self.parents.pop()
            return
        self.expected[name] = self.parents[-1]
        if action == "open":
            self.open.append(self.tracker.tool_span(name).__enter__())
            self.parents.append(name)
        elif action == "tool":
            self.tracker.track_tool_call(name)
        elif action == "decision":
            self.tracker.track_decision(name=name)
        else:
            self.tracker.track_ai(name)

    def finish(self) -> None:
        for step in reversed(self.open):
            step.__exit__(None, None, None)
        self.turn.finish(output="A")


def check(recording: tuple[Tracker, InMemorySpanExporter], workers: list[Worker]) -> None:
    tracker, exporter = recording
    assert tracker.flush(20)
    spans = exporter.get_finished_spans()
    exporter.clear()
    names = {span.context.span_id: span.name for span in spans}
    found = {span.name: names[span.parent.span_id] if span.parent else None for span in spans}
    assert found == {name: parent for worker in workers for name, parent in worker.expected.items()}
    traces: dict[int, set[Any]] = {}
    for span in spans:
        traces.setdefault(span.context.trace_id, set()).add(span.attributes["user.id"])
    assert sorted(map(list, traces.values())) == sorted([worker.user] for worker in workers)


@settings(deadline=None, max_examples=40)
@given(PROGRAMS, ORDER)
def test_tasks(recording: tuple[Tracker, InMemorySpanExporter], programs: list[list[str]], order: list[int]) -> None:
    workers = [Worker(recording[0], number, actions) for number, actions in enumerate(programs)]

    async def main() -> None:
        turns = [asyncio.Semaphore(0) for _ in workers]
        done = asyncio.Semaphore(0)

        async def life(worker: Worker, mine: asyncio.Semaphore) -> None:
            worker.begin()
            for number in range(len(worker.actions)):
                await mine.acquire()
                worker.step(number)
                done.release()
            worker.finish()

        tasks = [asyncio.create_task(life(*pair)) for pair in zip(workers, turns, strict=True)]
        left = [len(worker.actions) for worker in workers]
        rest = [number for number, n in enumerate(left) for _ in range(n)]
        for number in [*(n for n in order if n < len(workers)), *rest]:
            if left[number]:
                left[number] -= 1
                turns[number].release()
                await done.acquire()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    check(recording, workers)


@settings(deadline=None, max_examples=25)
@given(PROGRAMS)
def test_threads(recording: tuple[Tracker, InMemorySpanExporter], programs: list[list[str]]) -> None:
    workers = [Worker(recording[0], number, actions) for number, actions in enumerate(programs)]

    def life(worker: Worker) -> None:
        worker.begin()
        for number in range(len(worker.actions)):
            worker.step(number)
        worker.finish()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(life, workers))
    check(recording, workers)


@settings(deadline=None, max_examples=25)
@given(PROGRAMS)
def test_carried_into_a_shared_pool(recording: tuple[Tracker, InMemorySpanExporter], programs: list[list[str]]) -> None:
    """Every action of every interaction in whatever thread is free, with the scope that `carry` took along."""
    tracker = recording[0]
    workers = [Worker(tracker, number, [a for a in actions if a not in ("open", "close")])
               for number, actions in enumerate(programs)]  # fmt: skip
    with ThreadPoolExecutor(3) as pool:
        pending = []
        for worker in workers:
            worker.begin()
            pending += [pool.submit(tracker.carry(worker.step), number) for number in range(len(worker.actions))]
        for future in pending:
            future.result()
    for worker in workers:
        worker.finish()
    check(recording, workers)
