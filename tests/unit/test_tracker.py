"""What the public calls mean: isolation, what is current, finishing, identity and configuration."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import gc
import logging
import subprocess
import sys
import threading
import uuid
import warnings
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import orjson
import pytest

import rootspan
from rootspan import ConfigurationError, Tracker
from rootspan.process import record_with
from rootspan.recorder import Recorder
from rootspan.settings import Settings, resolve
from sinks import Sink, Span


def depth(tracker: Tracker) -> int:
    """Return how many scopes are kept by the one where the code is, itself included."""
    found: set[int] = set()
    left = [tracker._recorder.variable.get()]
    while left:
        scope = left.pop()
        if scope is not None and id(scope) not in found:
            found.add(id(scope))
            left += scope.outer, scope.base
    return len(found)


def arrived(tracker: Tracker, sink: Sink) -> dict[str, Span]:
    """Return what arrived, by name; each name once."""
    assert tracker.flush(5)
    spans = sink.spans
    assert len({span.name for span in spans}) == len(spans), [span.name for span in spans]
    return {span.name: span for span in spans}


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    environ = {key: value for key, value in os.environ.items() if not key.startswith(("ROOTSPAN_", "OTEL_"))}
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-c", code], env=environ | environment, capture_output=True, text=True, timeout=60, check=False
    )


class TestCurrent:
    def test_outside_of_any_interaction_each_call_is_a_root_of_its_own(self, tracker: Tracker, sink: Sink) -> None:
        tracker.track_ai("event")
        tracker.track_tool_call("tool")
        tracker.track_decision("because")
        tracker.track_error("broken")
        tracker.tool_span("step").finish()
        spans = arrived(tracker, sink)
        assert {span.parent_id for span in spans.values()} == {None}
        assert len({span.trace_id for span in spans.values()}) == len(spans) == 5

    @pytest.mark.parametrize("form", ["with", "async with", "bare"])
    def test_begin_is_current_with_and_without_with(self, tracker: Tracker, sink: Sink, form: str) -> None:
        def inside() -> None:
            tracker.track_ai("event")
            tracker.track_decision("because")
            with tracker.tool_span("tool"):
                tracker.track_error("broken")

        async def work() -> None:
            async with tracker.begin("turn", user_id="u1"):
                inside()

        if form == "with":
            with tracker.begin("turn", user_id="u1"):
                inside()
        elif form == "async with":
            asyncio.run(work())
        else:
            turn = tracker.begin("turn", user_id="u1")
            inside()
            turn.finish()
        spans = arrived(tracker, sink)
        turn_id = spans["turn"].span_id
        assert [spans[name].parent_id for name in ("event", "decision", "tool")] == [turn_id] * 3
        assert spans["error"].parent_id == spans["tool"].span_id
        assert len({span.trace_id for span in spans.values()}) == 1
        assert {span.attributes["user.id"] for span in spans.values()} == {"u1"}

    def test_the_handle_knows_its_ids(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn", user_id="u1", convo_id="c1") as turn, turn.tool_span("tool") as step:
            pass
        spans = arrived(tracker, sink)
        assert (turn.trace_id, turn.span_id) == (spans["turn"].trace_id, spans["turn"].span_id)
        assert (turn.event_id, turn.convo_id, turn.user_id) == (turn.span_id, "c1", "u1")
        assert (step.trace_id, step.span_id) == (turn.trace_id, spans["tool"].span_id)
        assert "finished" in repr(turn)
        assert "'turn'" in repr(turn)

    def test_a_bare_begin_does_not_nest_in_an_unfinished_bare_one(self, tracker: Tracker, sink: Sink) -> None:
        first = tracker.begin("first", user_id="u1")
        second = tracker.begin("second", user_id="u2")
        tracker.track_ai("event")
        first.finish()
        second.finish()
        spans = arrived(tracker, sink)
        assert spans["first"].trace_id != spans["second"].trace_id
        assert spans["second"].parent_id is None
        assert spans["event"].parent_id == second.span_id
        assert spans["second"].attributes["user.id"] == "u2"

    @pytest.mark.parametrize("outer", ["with", "interaction", "tool_span"])
    def test_a_bare_begin_inside_a_with_is_a_child(self, tracker: Tracker, sink: Sink, outer: str) -> None:
        def inside() -> None:
            tracker.begin("inner").finish()
            sibling = tracker.begin("sibling")
            tracker.begin("second sibling").finish()
            sibling.finish()

        if outer == "with":
            with tracker.begin("outer"):
                inside()
        elif outer == "interaction":
            tracker.interaction(event="outer")(inside)()
        else:
            with tracker.tool_span("outer"):
                inside()
        spans = arrived(tracker, sink)
        for name in ("inner", "sibling", "second sibling"):
            assert spans[name].parent_id == spans["outer"].span_id

    def test_with_begin_inside_a_with_is_a_child(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("outer"), tracker.begin("inner"):
            tracker.track_ai("event")
        spans = arrived(tracker, sink)
        assert spans["inner"].parent_id == spans["outer"].span_id
        assert spans["event"].parent_id == spans["inner"].span_id

    def test_a_step_may_be_entered_elsewhere_than_it_was_opened(self, tracker: Tracker, sink: Sink) -> None:
        step = tracker.tool_span("step")
        with tracker.begin("turn") as turn:
            with step:
                tracker.track_ai("in the step")
            tracker.track_ai("in the turn")
        spans = arrived(tracker, sink)
        assert spans["step"].parent_id is None
        assert spans["in the step"].parent_id == step.span_id
        assert spans["in the turn"].parent_id == turn.span_id

    @pytest.mark.parametrize("where", ["in a thread", "in a task"])
    def test_one_that_is_entered_elsewhere_is_no_block_where_it_began(
        self, tracker: Tracker, sink: Sink, where: str
    ) -> None:
        elsewhere = contextvars.copy_context() if where == "in a task" else contextvars.Context()
        turn = tracker.begin("turn", user_id="alice")
        elsewhere.run(turn.__enter__)
        tracker.begin("next turn").finish()
        tracker.track_ai("beside it")
        elsewhere.run(tracker.track_ai, "inside")
        elsewhere.run(turn.__exit__, None, None, None)
        turn.track_ai("by its handle")
        tracker.track_ai("afterwards")
        spans = arrived(tracker, sink)
        for name in ("beside it", "inside"):
            assert spans[name].parent_id == turn.span_id
        assert spans["by its handle"].links == [(turn.trace_id, turn.span_id)]
        for name in ("next turn", "afterwards"):
            assert (spans[name].parent_id, spans[name].links, spans[name].attributes.get("user.id")) == (None, [], None)

    def test_one_that_is_entered_in_a_later_one_is_over_with_its_block(self, tracker: Tracker, sink: Sink) -> None:
        turn, later = tracker.begin("turn", user_id="alice"), tracker.begin("later", user_id="bob")
        with tracker.context(tags=["t"]), turn, tracker.begin("inner"):
            pass
        tracker.track_ai("event")
        later.finish()
        tracker.track_ai("afterwards")
        spans = arrived(tracker, sink)
        assert spans["inner"].parent_id == turn.span_id
        assert spans["event"].parent_id == later.span_id
        assert (spans["afterwards"].links, spans["afterwards"].attributes.get("user.id")) == ([], None)

    def test_a_bare_interaction_is_over_with_the_block_of_another_handle(self, tracker: Tracker, sink: Sink) -> None:
        turn = tracker.begin("turn", user_id="alice")
        current = tracker.current()
        assert current is not None
        with current:
            tracker.track_ai("inside")
        turn.finish()
        tracker.track_ai("afterwards")
        spans = arrived(tracker, sink)
        assert spans["inside"].parent_id == turn.span_id
        assert (spans["afterwards"].links, spans["afterwards"].attributes.get("user.id")) == ([], None)

    def test_a_begin_of_a_handle_is_its_child(self, tracker: Tracker, sink: Sink) -> None:
        turn = tracker.begin("turn")
        inner = turn.begin("inner")
        tracker.track_ai("event")
        inner.finish()
        tracker.track_ai("after")
        turn.finish()
        spans = arrived(tracker, sink)
        assert spans["inner"].parent_id == turn.span_id
        assert spans["event"].parent_id == inner.span_id
        assert spans["after"].parent_id == turn.span_id

    @pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
    def test_finished_states_are_skipped_in_any_order(self, tracker: Tracker, sink: Sink, order: Any) -> None:
        with tracker.begin("outermost"):
            outer = tracker.begin("outer")
            step = tracker.tool_span("step").__enter__()
            inner = tracker.begin("inner")
            handles = [outer, step, inner]
            for number, index in enumerate(order):
                handles[index].finish()
                tracker.track_ai(f"event {number}")
        spans = arrived(tracker, sink)
        assert [spans[name].parent_id for name in ("step", "inner")] == [outer.span_id, step.span_id]
        # The innermost that is still open is the parent.
        for number in range(3):
            still_open = [handles[index] for index in (0, 1, 2) if index not in order[: number + 1]]
            parent = still_open[-1] if still_open else spans["outermost"]
            assert spans[f"event {number}"].parent_id == parent.span_id
        assert tracker.current() is None

    def test_a_late_child_stays_a_child(self, tracker: Tracker, sink: Sink) -> None:
        turn = tracker.begin("turn")
        step = turn.tool_span("late")
        turn.finish()
        step.finish("result")
        spans = arrived(tracker, sink)
        assert spans["late"].parent_id == turn.span_id
        assert spans["late"].end >= spans["turn"].end
        assert spans["late"].attributes["output.value"] == "result"

    def test_after_the_root_finished_a_new_root_with_the_same_identity_linked(
        self, tracker: Tracker, sink: Sink
    ) -> None:
        turn = tracker.begin("turn", user_id="u1", convo_id="c1", agent_name="a", tags=["t"])
        elsewhere = contextvars.copy_context()
        turn.finish()
        elsewhere.run(tracker.track_ai, "by context")
        turn.track_ai("by handle")
        turn.tool_span("step").finish()
        turn.track_decision("why", name="decision by handle")
        spans = arrived(tracker, sink)
        for name in ("by context", "by handle", "step", "decision by handle"):
            span = spans[name]
            assert span.parent_id is None
            assert span.trace_id != turn.trace_id
            assert span.links == [(turn.trace_id, turn.span_id)]
            wanted = {"user.id": "u1", "session.id": "c1", "gen_ai.agent.name": "a", "tag.tags": ["t"]}
            assert {key: span.attributes.get(key) for key in wanted} == wanted

    def test_what_a_block_does_after_finish_is_the_same_persons(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn", user_id="u1", convo_id="c1") as turn:
            with tracker.tool_span("step") as step:
                step.finish("result")
                tracker.track_ai("in a step")
            turn.finish("reply")
            assert tracker.current() is None
            tracker.track_ai("event")
            tracker.tool_span("late step").finish()
            tracker.begin("bare").finish()
        tracker.track_ai("afterwards")
        spans = arrived(tracker, sink)
        assert spans["in a step"].parent_id == turn.span_id
        for name in ("event", "late step", "bare"):
            span = spans[name]
            assert (span.parent_id, span.links) == (None, [(turn.trace_id, turn.span_id)])
            assert (span.attributes["user.id"], span.attributes["session.id"]) == ("u1", "c1")
        assert spans["afterwards"].links == []
        assert "user.id" not in spans["afterwards"].attributes

    def test_work_that_is_left_behind_keeps_its_person_all_along(self, tracker: Tracker, sink: Sink) -> None:
        """A background task has the context of its request, which is over; what it does in turn changes nothing."""
        with tracker.begin("outer") as root, tracker.context(tags=["t"]), tracker.begin("turn", user_id="u1"):
            elsewhere = contextvars.copy_context()

        def task() -> None:
            for number in range(20):
                tracker.begin(f"bare {number}").finish()
                with tracker.begin(f"with {number}"):
                    tracker.track_ai(f"child {number}")
                with tracker.tool_span(f"step {number}"):
                    pass
                with tracker.context(convo_id="c1"):
                    tracker.track_ai(f"in a context {number}")
            tracker.track_ai("event")

        elsewhere.run(task)
        spans = arrived(tracker, sink)
        for name, span in spans.items():
            if name in ("outer", "turn"):
                continue
            assert (span.attributes["user.id"], span.attributes["tag.tags"]) == ("u1", ["t"]), name
            assert span.attributes.get("session.id") == ("c1" if "context" in name else None)
            if not name.startswith("child"):
                assert (span.parent_id, span.links) == (None, [(root.trace_id, root.span_id)]), name

    def test_a_context_or_interaction_that_was_left_does_not_come_back(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.context(user_id="u1"), tracker.begin("around", convo_id="c1"):
            bare = tracker.begin("bare")
        tracker.begin("beside it").finish()
        bare.finish()
        assert tracker.current() is None
        tracker.track_ai("afterwards")
        spans = arrived(tracker, sink)
        for name in ("beside it", "afterwards"):
            assert (spans[name].parent_id, spans[name].links) == (None, [])
            assert not {"user.id", "session.id"} & set(spans[name].attributes)

    def test_one_that_another_thread_finished_gives_way_to_what_is_around_it(
        self, tracker: Tracker, sink: Sink
    ) -> None:
        with tracker.begin("around") as around:
            with tracker.begin("inner") as inner:
                thread = threading.Thread(target=inner.finish)
                thread.start()
                thread.join()
                tracker.begin("in what is over").finish()
            tracker.track_ai("event")
        assert arrived(tracker, sink)["event"].parent_id == around.span_id

    def test_a_begin_does_the_same_however_many_are_open(self, tracker: Tracker, sink: Sink) -> None:
        def lines() -> int:
            found = 0

            def count(frame: Any, event: str, argument: Any) -> Any:
                nonlocal found
                found += event == "line"
                return count

            before = sys.gettrace()
            sys.settrace(count)
            try:
                tracker.begin("turn").finish()
            finally:
                sys.settrace(before)
            return found

        turns = [tracker.begin("open") for _ in range(10)]
        lines()
        few = lines()
        turns += [tracker.begin("open") for _ in range(5_000)]
        assert lines() <= few + 3
        for turn in turns:
            turn.finish()
        tracker.flush(30)

    def test_what_starts_after_a_step_finished_belongs_to_its_open_parent(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn") as turn:
            step = tracker.tool_span("step")
            step.finish()
            step.track_ai("event")
        assert arrived(tracker, sink)["event"].parent_id == turn.span_id

    def test_current(self, tracker: Tracker, sink: Sink) -> None:
        assert tracker.current() is None
        with tracker.context(user_id="u1"):
            assert tracker.current() is None
        with tracker.begin("turn") as turn:
            current = tracker.current()
            assert isinstance(current, rootspan.Interaction)
            assert current.span_id == turn.span_id
            with tracker.tool_span("step") as step:
                current = tracker.current()
                assert isinstance(current, rootspan.Step)
                assert current.span_id == step.span_id
                current.set_output("by current")
            del current
            gc.collect()  # a handle from current() does not own the span
            tracker.current().update(output="the answer")  # type: ignore[union-attr]
        assert tracker.current() is None
        spans = arrived(tracker, sink)
        assert spans["step"].attributes["output.value"] == "by current"
        assert spans["turn"].attributes["output.value"] == "the answer"
        assert "rootspan.outcome" not in spans["turn"].attributes

    def test_tasks_and_threads_do_not_see_each_other(self, tracker: Tracker, sink: Sink) -> None:
        async def turn(number: int) -> None:
            with tracker.begin(f"turn {number}", user_id=f"u{number}"):
                await asyncio.sleep(0)
                tracker.track_ai(f"event {number}")
                await asyncio.gather(asyncio.create_task(step(number)), asyncio.to_thread(event, number))

        async def step(number: int) -> None:
            with tracker.tool_span(f"step {number}"):
                await asyncio.sleep(0)

        def event(number: int) -> None:
            tracker.track_ai(f"thread {number}")

        async def main() -> None:
            await asyncio.gather(*(turn(number) for number in range(5)))

        asyncio.run(main())
        bare_thread = threading.Thread(target=tracker.track_ai, args=("alone",))
        bare_thread.start()
        bare_thread.join()
        spans = arrived(tracker, sink)
        for number in range(5):
            root = spans[f"turn {number}"]
            for name in ("event", "step", "thread"):
                assert spans[f"{name} {number}"].parent_id == root.span_id
                assert spans[f"{name} {number}"].attributes["user.id"] == f"u{number}"
        assert spans["alone"].parent_id is None

    def test_a_chain_of_scopes_that_nobody_left_does_not_grow(self, tracker: Tracker, sink: Sink) -> None:
        contexts = []
        for number in range(50):
            turn = tracker.begin(f"turn {number}")
            contexts.append(contextvars.copy_context())
            contexts[-1].run(turn.finish)  # finished elsewhere: this context never leaves it
        assert depth(tracker) <= 2
        arrived(tracker, sink)

    def test_nor_does_one_of_blocks_that_ended_in_another_context(self, tracker: Tracker, sink: Sink) -> None:
        """As of an async generator that is closed by another task."""
        for number in range(500):
            turn = tracker.begin(f"turn {number}").__enter__()
            contextvars.copy_context().run(turn.__exit__, None, None, None)
            context = tracker.context(user_id=f"u{number}")
            context.__enter__()
            contextvars.copy_context().run(context.__exit__, None, None, None)
        assert depth(tracker) <= 2
        tracker.track_ai("afterwards")
        assert "user.id" not in arrived(tracker, sink)["afterwards"].attributes

    def test_nor_does_one_of_turns_that_overlap_and_are_entered_elsewhere(self, tracker: Tracker, sink: Sink) -> None:
        """As of a loop that begins one for each message and hands it to a task."""
        running = []
        for number in range(50):
            turn, task = tracker.begin(f"turn {number}"), contextvars.copy_context()
            task.run(turn.__enter__)
            running.append((task, turn))
            if len(running) > 3:
                task, turn = running.pop(0)
                task.run(turn.__exit__, None, None, None)
        assert depth(tracker) <= 5
        for task, turn in running:
            task.run(turn.__exit__, None, None, None)
        arrived(tracker, sink)

    def test_nor_does_one_of_blocks_that_each_left_the_next_behind(self, tracker: Tracker, sink: Sink) -> None:
        """As of a timer that sets the next one, which runs in a copy of the context."""
        turn = tracker.begin("turn", user_id="u1").__enter__()
        behind = contextvars.copy_context()
        for number in range(500):
            opened = [tracker.tool_span(f"step {number}"), tracker.context(tags=[f"t{number}"])]
            for block in opened:
                behind.run(block.__enter__)
            following = behind.copy()
            for block in reversed(opened):
                behind.run(block.__exit__, None, None, None)
            behind = following
        assert behind.run(depth, tracker) <= 5
        behind.run(tracker.update_current, user_id="u2")
        turn.__exit__(None, None, None)
        behind.run(tracker.track_ai, "afterwards")
        spans = arrived(tracker, sink)
        assert spans["turn"].attributes["user.id"] == spans["afterwards"].attributes["user.id"] == "u2"
        assert spans["afterwards"].links == [(turn.trace_id, turn.span_id)]

    def test_nor_does_one_of_blocks_that_each_outlived_the_one_around_it(self, tracker: Tracker, sink: Sink) -> None:
        """As of a worker that starts the next one before it is done."""
        outer, behind = tracker.context(user_id="u0"), contextvars.copy_context()
        behind.run(outer.__enter__)
        for number in range(1, 500):
            inner, following = tracker.context(user_id=f"u{number}"), behind.copy()
            following.run(inner.__enter__)
            behind.run(outer.__exit__, None, None, None)
            outer, behind = inner, following
        assert behind.run(depth, tracker) <= 5
        behind.run(tracker.track_ai, "inside")
        behind.run(outer.__exit__, None, None, None)
        behind.run(tracker.track_ai, "afterwards")
        spans = arrived(tracker, sink)
        assert [spans[name].attributes["user.id"] for name in ("inside", "afterwards")] == ["u499", "u498"]

    def test_nor_does_one_of_interactions_that_nobody_finished(self, tracker: Tracker, sink: Sink) -> None:
        turns = []
        for number in range(500):
            turns.append(tracker.begin(f"turn {number}"))
            del turns[:-3]
        assert depth(tracker) <= 5
        arrived(tracker, sink)

    def test_nor_does_one_of_blocks_that_nobody_left(self, tracker: Tracker, sink: Sink) -> None:
        for number in range(50):
            tracker.begin(f"turn {number}").__enter__()
            tracker.tool_span(f"step {number}").__enter__()
        assert depth(tracker) <= 5
        arrived(tracker, sink)

    def test_what_was_left_elsewhere_stays_so_where_a_block_around_it_ends(self, tracker: Tracker, sink: Sink) -> None:
        block = tracker.begin("block").__enter__()
        context = tracker.context(user_id="u1")
        context.__enter__()
        turn = tracker.begin("turn")
        contextvars.copy_context().run(context.__exit__, None, None, None)
        block.__exit__(None, None, None)
        turn.finish()
        tracker.track_ai("afterwards")
        assert "user.id" not in arrived(tracker, sink)["afterwards"].attributes

    def test_a_background_task_goes_on_in_a_turn_that_is_over_after_blocks_of_its_own(
        self, tracker: Tracker, sink: Sink
    ) -> None:
        async def background() -> None:
            await asyncio.sleep(0)  # until the turn is over
            with tracker.tool_span("tool"), tracker.context(tags=["t"]):
                pass
            tracker.track_ai("afterwards")

        async def main() -> str:
            turn = tracker.begin("turn", user_id="u1")
            task = asyncio.create_task(background())
            turn.finish()
            await task
            return turn.span_id

        turn_id = asyncio.run(main())
        afterwards = arrived(tracker, sink)["afterwards"]
        assert afterwards.attributes["user.id"] == "u1"
        assert [span_id for _, span_id in afterwards.links] == [turn_id]

    def test_blocks_that_are_finished_early_go_on_however_deep_the_code_is(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn", user_id="u1") as turn:
            with tracker.tool_span("tool") as tool:
                tool.finish()
                turn.finish()
                inside = [tracker.begin(f"inside {number}") for number in range(40)]
            for interaction in inside:
                interaction.finish()
            tracker.track_ai("afterwards")
        assert arrived(tracker, sink)["afterwards"].links == [(turn.trace_id, turn.span_id)]

    def test_what_an_abandoned_generator_entered_does_not_stay_current(self, tracker: Tracker, sink: Sink) -> None:
        """Its `with` is left by the task that closes it, in a context of its own; case 14."""

        async def stream(number: int) -> AsyncGenerator[int]:
            with tracker.begin(f"turn {number}", user_id=f"u{number}"), tracker.context(tags=["t"]):
                yield 1
                yield 2

        async def consume() -> None:
            for number in range(2):
                async for _ in stream(number):
                    break
                await asyncio.sleep(0.01)
                tracker.track_ai(f"event {number}")
                tracker.begin(f"bare {number}").finish()
                with tracker.context(convo_id="c1"):
                    tracker.track_ai(f"in a context {number}")
                with tracker.tool_span(f"step {number}"):
                    pass
                assert tracker.current() is None

        asyncio.run(consume())
        for name, span in arrived(tracker, sink).items():
            if not name.startswith("turn"):
                assert (span.parent_id, span.links, span.attributes.get("user.id")) == (None, [], None), name
                assert "tag.tags" not in span.attributes

    def test_a_handle_tells_of_its_own_also_where_its_block_ended_elsewhere(self, tracker: Tracker, sink: Sink) -> None:
        """As of a dependency that a framework enters and leaves in threads."""
        turn = tracker.begin("turn", user_id="u1")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(contextvars.Context().run, turn.__enter__).result()
            turn.track_ai("inside")
            pool.submit(contextvars.Context().run, turn.__exit__, None, None, None).result()
        turn.track_ai("late")
        turn.tool_span("late step").finish()
        spans = arrived(tracker, sink)
        assert spans["inside"].parent_id == turn.span_id
        for name in ("late", "late step"):
            assert (spans[name].attributes["user.id"], spans[name].links) == ("u1", [(turn.trace_id, turn.span_id)])

    def test_a_block_that_ends_in_another_interaction_leaves_that_alone(self, tracker: Tracker, sink: Sink) -> None:
        turn = tracker.begin("turn").__enter__()

        def elsewhere() -> None:
            with tracker.begin("another") as another:
                turn.__exit__(None, None, None)
                current = tracker.current()
                assert current is not None
                assert current.span_id == another.span_id
                tracker.track_ai("event")

        contextvars.Context().run(elsewhere)
        spans = arrived(tracker, sink)
        assert spans["event"].parent_id == spans["another"].span_id
        assert tracker.current() is None

    def test_one_that_is_entered_again_after_its_end_is_left_as_often(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn", user_id="u1") as turn:
            behind = contextvars.copy_context()
            turn.finish()
            with turn:
                pass
            tracker.track_ai("in the first block")
        contextvars.Context().run(turn.__enter__)
        turn.__exit__(None, None, None)
        behind.run(tracker.track_ai, "left behind")
        spans = arrived(tracker, sink)
        for name in ("in the first block", "left behind"):
            assert (spans[name].attributes["user.id"], spans[name].links) == ("u1", [(turn.trace_id, turn.span_id)])

    def test_one_that_another_thread_finished_is_not_lost(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn", user_id="u1") as turn:
            elsewhere = contextvars.copy_context()
            thread = threading.Thread(target=turn.finish)
            thread.start()
            thread.join()
        assert tracker.current() is None
        elsewhere.run(tracker.track_ai, "in a task")
        assert arrived(tracker, sink)["in a task"].links == [(turn.trace_id, turn.span_id)]

    def test_a_block_that_two_threads_leave_at_once_is_left_once(self, tracker: Tracker, sink: Sink) -> None:
        turn = tracker.begin("turn", user_id="u1")
        with turn:
            token = turn._scope.token
            assert token is not None
            token.var.reset(token)  # the other one just did
        assert tracker.current() is None
        arrived(tracker, sink)


class TestFinishing:
    def test_is_idempotent_from_any_thread_and_task(self, tracker: Tracker, sink: Sink) -> None:
        turn = tracker.begin("turn")
        with ThreadPoolExecutor(8) as pool:
            for number in range(40):
                pool.submit(turn.finish, f"answer {number}")

        async def finish() -> None:
            turn.finish("from a task")

        asyncio.run(finish())
        turn.finish("again", success=False)
        with turn:
            pass
        tracker.flush()
        (span,) = sink.spans
        assert span.status_code == 0
        assert span.attributes["output.value"].startswith("answer ")
        assert tracker.stats()["recorded"] == 1

    def test_an_exception_is_reraised_untouched(self, tracker: Tracker, sink: Sink) -> None:
        class Broken(Exception):
            pass

        error = Broken("no")
        cause = ValueError("the cause")
        with pytest.raises(Broken) as caught, tracker.begin("turn"), tracker.tool_span("step"):
            raise error from cause
        assert caught.value is error
        assert error.__cause__ is cause
        assert error.__context__ is None
        assert not hasattr(error, "__notes__")
        spans = arrived(tracker, sink)
        for span in spans.values():
            assert (span.status_code, span.status_message) == (2, "no")
            assert span.attributes["rootspan.outcome"] == "failure"
            assert span.attributes["error.type"].endswith("Broken")

    def test_a_cancelled_task_is_cancelled_and_no_failure(self, tracker: Tracker, sink: Sink) -> None:
        async def turn() -> None:
            async with tracker.begin("turn"):
                with tracker.tool_span("step"):
                    await asyncio.sleep(60)

        async def main() -> None:
            task = asyncio.create_task(turn())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()

        asyncio.run(main())
        for span in arrived(tracker, sink).values():
            assert (span.attributes["rootspan.outcome"], span.status_code) == ("cancelled", 0)

    def test_keyboard_interrupt_and_system_exit_pass(self, tracker: Tracker, sink: Sink) -> None:
        for error in (KeyboardInterrupt, SystemExit):
            with pytest.raises(error), tracker.begin(error.__name__):
                raise error
        assert {span.status_code for span in arrived(tracker, sink).values()} == {2}

    @pytest.mark.parametrize(
        ("arguments", "outcome", "status", "message"),
        [
            ({}, None, 0, ""),
            ({"success": True}, "success", 0, ""),
            ({"success": False}, "failure", 2, ""),
            ({"success": False, "failure_reason": "no data"}, "failure", 2, "no data"),
            ({"failure_reason": "no data"}, "failure", 2, "no data"),
            ({"failure_reason": ValueError("odd")}, "failure", 2, "odd"),
        ],
    )
    def test_outcomes(
        self, tracker: Tracker, sink: Sink, arguments: Any, outcome: str | None, status: int, message: str
    ) -> None:
        tracker.begin("turn").finish(**arguments)
        span = arrived(tracker, sink)["turn"]
        assert span.attributes.get("rootspan.outcome") == outcome
        assert (span.status_code, span.status_message) == (status, message)
        if status:
            assert [name for name, _ in span.events] == ["exception"]

    def test_finish_inside_with_wins(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn") as turn:
            turn.finish("early", success=False, failure_reason="gave up", custom_metrics={"stars": 2})
            tracker.track_ai("after")
        spans = arrived(tracker, sink)
        assert spans["turn"].status_message == "gave up"
        assert spans["turn"].attributes["rootspan.metric.stars"] == 2
        assert spans["after"].parent_id is None

    def test_update(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn", properties={"plan": "pro"}) as turn:
            turn.update(
                input="question", output="first", properties={"seats": 3}, user_id="u1", convo_id="c1", tags=["a"],
                agent_name="helper", model="gpt-4o", provider="openai", prompt_tokens=5,
            )  # fmt: skip
            turn.update(output="last", tags=["b"], completion_tokens=7, estimated_cost=0.5)
        span = arrived(tracker, sink)["turn"]
        wanted = {
            "input.value": "question", "output.value": "last", "plan": "pro", "seats": 3, "user.id": "u1",
            "session.id": "c1", "tag.tags": ["a", "b"], "gen_ai.agent.name": "helper",
            "gen_ai.request.model": "gpt-4o", "gen_ai.provider.name": "openai", "gen_ai.usage.input_tokens": 5,
            "gen_ai.usage.output_tokens": 7, "gen_ai.usage.cost": 0.5,
        }  # fmt: skip
        assert {key: span.attributes.get(key) for key in wanted} == wanted

    @pytest.mark.parametrize("given", ["text", 7, ["a", "b"]])
    def test_properties_that_are_none_leave_the_others(self, given: Any, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn", properties={"plan": "pro"}) as turn, tracker.context(properties=given):
            turn.update(properties=given)
            turn.update(properties={"seats": 3})
            tracker.update_current(properties={"level": 2})
            tracker.track_ai("event")
        spans = arrived(tracker, sink)
        assert spans["turn"].attributes["plan"] == "pro"
        for name, later in (("turn", "seats"), ("event", "level")):
            metadata = orjson.loads(spans[name].attributes["metadata"])
            assert (metadata["properties"], later in metadata) == (given, True)

    def test_values_are_frozen_at_the_call(self, tracker: Tracker, sink: Sink) -> None:
        question, answer, properties = {"q": [1]}, {"a": [1]}, {"plan": "pro"}
        turn = tracker.begin("turn", input=question, properties=properties)
        turn.update(output=answer)
        tracker.track_ai("event", input=question, output=answer, properties=properties)
        question["q"].append(2)
        answer["a"].append(2)
        properties["plan"] = "free"
        turn.finish()
        spans = arrived(tracker, sink)
        assert set(spans) == {"turn", "event"}
        for span in spans.values():
            assert span.attributes["input.value"] == '{"q":[1]}'
            assert span.attributes["output.value"] == '{"a":[1]}'
            assert span.attributes["plan"] == "pro"

    def test_the_output_that_finish_is_given_is_recorded_whatever_it_is(self, tracker: Tracker, sink: Sink) -> None:
        output = {"a": [1]}
        tracker.begin("turn").finish(output)
        output["a"].append(2)
        assert arrived(tracker, sink)["turn"].attributes["output.value"] == '{"a":[1]}'

    def test_what_a_handle_is_told_is_cut_like_what_an_event_holds(self, sink: Sink) -> None:
        tracker = Tracker(endpoint=sink.url, max_content_length=100)
        tracker.track_ai("event", input="q" * 500, output="a" * 500)
        tracker.begin("turn", input="q" * 500).finish("a" * 500)
        spans = arrived(tracker, sink)
        for name in ("input.value", "output.value"):
            assert spans["turn"].attributes[name] == spans["event"].attributes[name]
            assert len(str(spans["turn"].attributes[name])) < 200
        tracker.shutdown()

    def test_unfinished_when_the_handle_is_collected(self, tracker: Tracker, sink: Sink) -> None:
        turn = tracker.begin("turn", input="Hi")
        step = tracker.tool_span("step")
        del turn, step
        gc.collect()
        spans = arrived(tracker, sink)
        for span in spans.values():
            assert (span.attributes["rootspan.outcome"], span.status_code) == ("unfinished", 0)
        assert spans["step"].parent_id == spans["turn"].span_id
        assert tracker.current() is None

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    def test_a_copy_of_a_handle_is_the_same_one(self, copied: Any, tracker: Tracker, sink: Sink) -> None:
        turn = tracker.begin("turn")
        step = tracker.tool_span("step")
        for handle in (turn, step):
            assert copied(handle) is handle
        gc.collect()
        step.finish("found")
        turn.finish("answered")
        spans = arrived(tracker, sink)
        assert {name: span.attributes["output.value"] for name, span in spans.items()} == {
            "turn": "answered",
            "step": "found",
        }

    def test_a_deep_copy_of_a_tracker_is_the_same_one(self, tracker: Tracker) -> None:
        assert copy.deepcopy({"tracker": tracker})["tracker"] is tracker

    def test_unfinished_at_shutdown(self, tracker: Tracker, sink: Sink) -> None:
        turn = tracker.begin("turn")
        session_id = tracker.create_session("session")
        assert tracker.shutdown()
        turn.finish("too late", success=True)
        tracker.complete_session(session_id)
        assert {span.attributes["rootspan.outcome"] for span in sink.spans} == {"unfinished"}
        assert {span.name for span in sink.spans} == {"turn", "invoke_agent"}

    def test_unfinished_at_exit(self, sink: Sink) -> None:
        done = python(
            "import rootspan\nturn = rootspan.begin('turn')\nsession = rootspan.create_session('session')",
            ROOTSPAN_ENDPOINT=sink.url,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(span.name for span in sink.spans) == ["invoke_agent", "turn"]
        assert {span.attributes["rootspan.outcome"] for span in sink.spans} == {"unfinished"}

    def test_calls_after_shutdown_are_counted(self, tracker: Tracker, sink: Sink) -> None:
        tracker.track_ai("before")
        tracker.shutdown()
        assert len(tracker.track_ai("after")) == 16
        tracker.begin("also after").finish()
        stats = tracker.stats()
        assert (stats["recorded"], stats["delivered"], stats["dropped"]) == (3, 1, {"shutdown": 2})


class TestIdentity:
    def test_explicit_then_scope_then_configured(self, sink: Sink) -> None:
        tracker = Tracker(
            endpoint=sink.url, user_id="configured", convo_id=lambda: "getter", agent_name="configured", tags=["conf"],
            properties={"tier": "configured", "region": "eu"},
        )  # fmt: skip
        tracker.track_ai("configured")
        with tracker.context(user_id="scope", tags=["scope"], properties={"tier": "scope"}):
            tracker.track_ai("scope")
            with tracker.begin("turn", convo_id="turn"):
                tracker.track_ai("inherits")
                tracker.track_ai("explicit", user_id="own", convo_id="own", agent_name="own", tags=["own"],
                                 properties={"tier": "own"})  # fmt: skip
        spans = arrived(tracker, sink)
        tracker.shutdown()

        def identity(name: str) -> list[Any]:
            keys = ("user.id", "session.id", "gen_ai.agent.name", "tag.tags", "tier", "region")
            return [spans[name].attributes.get(key) for key in keys]

        assert identity("configured") == ["configured", "getter", "configured", ["conf"], "configured", "eu"]
        assert identity("scope") == ["scope", "getter", "configured", ["conf", "scope"], "scope", "eu"]
        assert identity("turn") == ["scope", "turn", "configured", ["conf", "scope"], "scope", "eu"]
        assert identity("inherits") == identity("turn")
        assert identity("explicit") == ["own", "own", "own", ["conf", "scope", "own"], "own", "eu"]

    def test_a_getter_that_raises_costs_its_field_only(self, sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
        def broken() -> str:
            raise LookupError("no request")

        tracker = Tracker(endpoint=sink.url, user_id=broken, convo_id=lambda: 7, tags=lambda: ["t"])
        for name in ("event", "second"):
            tracker.track_ai(name)
        with tracker.begin("turn"):
            pass
        for span in arrived(tracker, sink).values():
            assert "user.id" not in span.attributes
            assert (span.attributes["session.id"], span.attributes["tag.tags"]) == ("7", ["t"])
        tracker.shutdown()
        assert len([record for record in caplog.records if "user_id= getter" in record.getMessage()]) == 1

    def test_a_getter_that_is_async_costs_its_field_only(self, sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
        async def user() -> str:
            return "u1"

        tracker = Tracker(endpoint=sink.url, user_id=user)
        with warnings.catch_warnings(record=True) as caught:
            tracker.track_ai("event")
            gc.collect()
        assert not caught  # that it was never awaited
        assert "user.id" not in arrived(tracker, sink)["event"].attributes
        assert "the user_id= getter given to configure is async" in caplog.text
        tracker.shutdown()

    def test_a_getter_that_tracks_is_not_asked_for_that(self, sink: Sink) -> None:
        asked: list[int] = []

        def user() -> str:
            asked.append(1)
            tracker.track_ai("from the getter")  # such as a look-up that is a tool of its own
            return "u1"

        tracker = Tracker(endpoint=sink.url, user_id=user)
        tracker.track_ai("event")
        spans = arrived(tracker, sink)
        assert len(asked) == 1
        assert spans["event"].attributes["user.id"] == "u1"
        assert "user.id" not in spans["from the getter"].attributes
        tracker.shutdown()

    def test_a_getter_may_ask_what_became_of_a_cancelled_task(
        self, sink: Sink, caplog: pytest.LogCaptureFixture
    ) -> None:
        def cancelled() -> str:
            raise asyncio.CancelledError

        def interrupted() -> str:
            raise KeyboardInterrupt

        tracker = Tracker(endpoint=sink.url, user_id=cancelled)
        tracker.track_ai("event")
        assert "user.id" not in arrived(tracker, sink)["event"].attributes
        assert "the user_id= getter given to configure raised CancelledError()" in caplog.text
        tracker.shutdown()
        other = Tracker(endpoint=sink.url, user_id=interrupted)
        with pytest.raises(KeyboardInterrupt):
            other.track_ai("event")

    def test_inherited_by_every_span_below(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn", user_id="u", convo_id="c", agent_name="a", tags=["t"]), tracker.tool_span("tool"):
            tracker.track_ai("event")
            tracker.track_decision("why")
            tracker.track_error("broken")
            tracker.begin("inner").finish()
        spans = arrived(tracker, sink)
        assert len(spans) == 6
        for span in spans.values():
            wanted = {"user.id": "u", "session.id": "c", "gen_ai.agent.name": "a", "tag.tags": ["t"]}
            assert {key: span.attributes.get(key) for key in wanted} == wanted

    def test_update_current_reaches_the_root_and_what_is_recorded_from_then_on(
        self, tracker: Tracker, sink: Sink
    ) -> None:
        with tracker.begin("turn", input="Hi", tags=["first"]):
            tracker.track_ai("before")
            with tracker.tool_span("tool"), tracker.begin("inner", tags=["inner"]):
                tracker.update_current(user_id="u1", convo_id="c1", tags=["late"], properties={"plan": "pro"})
                tracker.track_ai("after")
            tracker.track_ai("last")
        spans = arrived(tracker, sink)
        assert "user.id" not in spans["before"].attributes
        for name in ("turn", "tool", "inner", "after", "last"):
            attributes = spans[name].attributes
            assert (attributes.get("user.id"), attributes.get("session.id")) == ("u1", "c1"), name
            assert attributes["plan"] == "pro"
            assert "late" in attributes["tag.tags"]

    @pytest.mark.parametrize("through", ["handle", "current"])
    def test_the_update_of_a_step_is_not_its_interactions(self, tracker: Tracker, sink: Sink, through: str) -> None:
        with tracker.begin("turn", user_id="u1", convo_id="c1") as turn:
            with tracker.tool_span("tool") as step:
                (step if through == "handle" else tracker.current()).update(user_id="u2")  # type: ignore[union-attr]
                tracker.track_ai("inside")
                with tracker.tool_span("below"):
                    step.track_decision("by the handle")
            tracker.track_ai("after")
            turn.track_error("after the step")
        spans = arrived(tracker, sink)
        users = {name: span.attributes["user.id"] for name, span in spans.items()}
        assert users == {
            "inside": "u2", "decision": "u2", "below": "u2", "tool": "u2", "after": "u1", "error": "u1", "turn": "u1",
        }  # fmt: skip
        assert {span.attributes["session.id"] for span in spans.values()} == {"c1"}

    def test_what_a_step_is_told_besides_leaves_it_its_interactions_identity(
        self, tracker: Tracker, sink: Sink
    ) -> None:
        with tracker.begin("turn", user_id="u1", convo_id="c1") as turn, tracker.tool_span("tool") as step:
            step.update(output="found")
            turn.update(user_id="u2")
        assert arrived(tracker, sink)["tool"].attributes["user.id"] == "u2"

    def test_what_a_step_is_told_again_holds_for_what_is_open_below_it(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn", user_id="u1"), tracker.tool_span("tool") as step:
            step.update(user_id="u2")
            with tracker.tool_span("below"):
                step.update(user_id="u3")
        users = {name: span.attributes["user.id"] for name, span in arrived(tracker, sink).items()}
        assert users == {"turn": "u1", "tool": "u3", "below": "u3"}

    def test_what_a_step_is_told_first_holds_for_what_is_open_below_it(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn", user_id="u1"), tracker.tool_span("tool") as step, tracker.tool_span("below"):
            deeper = tracker.start_step("step", "deeper")
            with tracker.begin("own", tags=["t"]), tracker.begin("below its own"):
                step.update(user_id="u2")
            deeper.finish()
            tracker.track_ai("event")
        users = {name: span.attributes["user.id"] for name, span in arrived(tracker, sink).items()}
        below = dict.fromkeys(("tool", "below", "deeper", "event"), "u2")
        assert users == {"turn": "u1", "own": "u1", "below its own": "u1"} | below

    def test_update_current_reaches_the_contexts_in_between(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.context(tags=["service"]), tracker.begin("turn", input="Hi"):
            with tracker.context(tags=["beta"]):
                with tracker.tool_span("login"):
                    tracker.update_current(user_id="u1")
                tracker.track_ai("inside")
            tracker.track_ai("after")
        with tracker.context(tags=["service"]):
            tracker.track_ai("outside")
        users = {name: span.attributes.get("user.id") for name, span in arrived(tracker, sink).items()}
        assert users == {"turn": "u1", "login": "u1", "inside": "u1", "after": "u1", "outside": None}

    def test_update_current_reaches_contexts_that_knew_another_user(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn", user_id="u1"):
            with tracker.context(tags=["beta"]):
                with tracker.tool_span("login"):
                    tracker.update_current(user_id="u2")
                tracker.track_ai("inside")
            tracker.track_ai("after")
        assert {span.attributes["user.id"] for span in arrived(tracker, sink).values()} == {"u2"}

    def test_what_becomes_known_above_reaches_what_has_an_identity_of_its_own(
        self, tracker: Tracker, sink: Sink
    ) -> None:
        with (
            tracker.begin("turn", input="Hi") as turn,
            tracker.begin("sub", input="x", convo_id="c1", tags=["t"]) as sub,
        ):
            tracker.track_ai("before")
            turn.update(user_id="u1", convo_id="other")
            tracker.track_ai("after")
            with tracker.context(user_id="u2"), tracker.tool_span("of another"):
                pass
            sub.finish()
        told = {
            name: (span.attributes.get("user.id"), span.attributes.get("session.id"))
            for name, span in arrived(tracker, sink).items()
        }
        assert told == {
            "turn": ("u1", "other"), "sub": ("u1", "c1"), "before": (None, "c1"), "after": ("u1", "c1"),
            "of another": ("u2", "c1"),
        }  # fmt: skip

    def test_who_became_known_for_one_step_is_not_known_to_its_siblings(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("batch", input="Hi"):
            with tracker.begin("first", input="a") as first, tracker.tool_span("look-up"):
                first.update(user_id="u1")
                tracker.track_ai("of the first")
            with tracker.begin("second", input="b"):
                tracker.track_ai("of the second")
        users = {name: span.attributes.get("user.id") for name, span in arrived(tracker, sink).items()}
        assert users == {
            "first": "u1", "look-up": "u1", "of the first": "u1", "second": None, "of the second": None, "batch": None,
        }  # fmt: skip

    @pytest.mark.parametrize("own", [{}, {"tags": ["t"]}, {"agent_name": "a"}])
    def test_what_becomes_known_above_reaches_every_open_span_below(
        self, tracker: Tracker, sink: Sink, own: dict[str, Any]
    ) -> None:
        with tracker.begin("turn", input="Hi") as turn, tracker.begin("sub", input="x", **own) as sub:
            with tracker.tool_span("tool") as step:
                turn.update(user_id="u1")
                assert (step.user_id, sub.user_id) == ("u1", "u1")
            turn.update(convo_id="c1")
            turn.finish()
            tracker.track_ai("after it")
        for name, span in arrived(tracker, sink).items():
            convo = None if name == "tool" else "c1"
            assert (span.attributes.get("user.id"), span.attributes.get("session.id")) == ("u1", convo), name

    def test_update_current_outside_of_any_interaction_warns_once(
        self, tracker: Tracker, caplog: pytest.LogCaptureFixture
    ) -> None:
        tracker.update_current(user_id="u1")
        tracker.update_current(user_id="u1")
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "rootspan.begin" in caplog.text

    def test_update_current_in_a_context_only(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.context(convo_id="c1"):
            tracker.update_current(user_id="u1")
            tracker.track_ai("inside")
        tracker.track_ai("outside")
        spans = arrived(tracker, sink)
        assert spans["inside"].attributes["user.id"] == "u1"
        assert "user.id" not in spans["outside"].attributes

    def test_context_nests_and_ends(self, tracker: Tracker, sink: Sink) -> None:
        with pytest.raises(ValueError, match="stop"), tracker.context(user_id="outer", tags=["a"]):  # noqa: PT012
            with tracker.context(convo_id="inner", tags=["b"], agent_name="x", properties={"k": 1}):
                tracker.track_ai("both")
            tracker.track_ai("outer")
            raise ValueError("stop")
        tracker.track_ai("none")
        spans = arrived(tracker, sink)
        both = spans["both"].attributes
        assert (both["user.id"], both["session.id"], both["tag.tags"], both["k"]) == ("outer", "inner", ["a", "b"], 1)
        assert "session.id" not in spans["outer"].attributes
        assert "user.id" not in spans["none"].attributes
        assert {span.parent_id for span in spans.values()} == {None}

    def test_context_inside_an_interaction_keeps_the_parent(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn", user_id="u1") as turn:
            with tracker.context(user_id="u2"):
                tracker.track_ai("inside")
                with tracker.tool_span("tool"):
                    tracker.track_ai("deeper")
            tracker.track_ai("outside")
        spans = arrived(tracker, sink)
        assert spans["inside"].parent_id == turn.span_id
        users = {name: span.attributes["user.id"] for name, span in spans.items()}
        assert users == {"turn": "u1", "inside": "u2", "tool": "u2", "deeper": "u2", "outside": "u1"}

    def test_a_bare_begin_in_a_context_inside_a_bare_begin(self, tracker: Tracker, sink: Sink) -> None:
        first = tracker.begin("first", user_id="u1")
        with tracker.context(user_id="u2"):
            second = tracker.begin("second")
            second.finish()
        first.finish()
        spans = arrived(tracker, sink)
        assert spans["second"].parent_id is None
        assert spans["second"].attributes["user.id"] == "u2"

    def test_a_bare_begin_in_a_context_inside_the_child_of_a_bare_begin(self, tracker: Tracker, sink: Sink) -> None:
        first = tracker.begin("first", user_id="u1")
        child = first.begin("child")
        with tracker.context(user_id="u2"):
            tracker.begin("second").finish()
        child.finish()
        first.finish()
        spans = arrived(tracker, sink)
        assert (spans["second"].parent_id, spans["second"].attributes["user.id"]) == (None, "u2")

    def test_a_begin_in_a_context_inside_a_bare_one_is_a_child_of_the_block_around_both(
        self, tracker: Tracker, sink: Sink
    ) -> None:
        with tracker.begin("turn", input="Hi") as turn, tracker.tool_span("tool"):
            plain = turn.begin("plain")  # a child of the turn by its handle, current inside the tool's block
            with tracker.context(user_id="u2"):
                tracker.begin("in a context").finish()
            tracker.begin("without").finish()
            plain.finish()
        spans = arrived(tracker, sink)
        assert spans["in a context"].parent_id == spans["without"].parent_id == spans["tool"].span_id
        assert spans["in a context"].attributes["user.id"] == "u2"

    def test_a_begin_in_a_context_is_in_no_block_that_was_left_elsewhere(self, tracker: Tracker, sink: Sink) -> None:
        block = tracker.begin("block").__enter__()
        plain = tracker.begin("plain")
        contextvars.copy_context().run(block.__exit__, None, None, None)
        with tracker.context(user_id="u2"):
            tracker.begin("in a context").finish()
        tracker.begin("without").finish()
        plain.finish()
        spans = arrived(tracker, sink)
        for name in ("in a context", "without"):
            assert (spans[name].parent_id, spans[name].links) == (None, [])

    def test_empty_properties_inside_others_change_nothing(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.context(properties={"plan": "pro"}), tracker.context(properties={}):
            tracker.track_ai("event")
        assert arrived(tracker, sink)["event"].attributes["plan"] == "pro"

    @pytest.mark.parametrize("ends", ["in a thread", "in a copy", "in a generator", "carried", "collected"])
    def test_a_bare_interaction_that_ends_elsewhere_is_over_where_it_began(
        self, tracker: Tracker, sink: Sink, ends: str
    ) -> None:
        turn = tracker.begin("turn", user_id="alice", convo_id="c-alice", input="q")
        background = contextvars.copy_context()
        if ends == "collected":
            del turn
        elif ends == "in a copy":
            copy = contextvars.copy_context()
            copy.run(turn.finish)
            copy.run(tracker.track_ai, "in the copy")
        elif ends == "carried":
            tracker.carry(turn.finish)()  # as a callback of a future that is done already
        elif ends == "in a generator":

            @tracker.tool("stream")
            def stream() -> Iterator[str]:
                yield "a"
                turn.finish("a")

            assert list(stream()) == ["a"]
        else:
            thread = threading.Thread(target=turn.finish)
            thread.start()
            thread.join()
        background.run(tracker.track_ai, "background")
        if ends != "collected":
            turn.track_ai("by its handle")  # pyright: ignore[reportPossiblyUnboundVariable]  # unless collected
        assert tracker.current() is None
        with tracker.context(tags=["t"]):
            tracker.track_ai("in a context")
        tracker.track_ai("next")
        with tracker.begin("next turn", input="q"):
            tracker.track_ai("inside")
        tracker.begin("bare").finish()
        spans = arrived(tracker, sink)
        users = {name: span.attributes.get("user.id") for name, span in spans.items()}
        known = {"turn": "alice", "background": "alice", "by its handle": "alice"}
        if ends == "in a generator":
            known["stream"] = "alice"
        if ends == "collected":
            del known["by its handle"]
        others = dict.fromkeys(("in a context", "next", "next turn", "inside", "bare"))
        if ends == "in a copy":
            others["in the copy"] = None
        assert users == known | others
        assert all(not span.links for name, span in spans.items() if name not in known)
        assert spans["background"].links == [(spans["turn"].trace_id, spans["turn"].span_id)]

    def test_a_copy_is_left_by_who_finishes_there_what_is_current(self, tracker: Tracker, sink: Sink) -> None:
        def last() -> None:
            current = tracker.current()
            assert current is not None
            current.finish()
            tracker.track_ai("afterwards")

        turn = tracker.begin("turn", user_id="alice")
        contextvars.copy_context().run(last)
        spans = arrived(tracker, sink)
        assert (spans["afterwards"].links, spans["afterwards"].attributes.get("user.id")) == ([], None)
        assert spans["turn"].span_id == turn.span_id

    def test_a_carried_call_leaves_nothing_but_the_turn_that_it_finishes(self, tracker: Tracker, sink: Sink) -> None:
        turn = tracker.begin("turn", user_id="alice")
        background = contextvars.copy_context()
        opened = []

        @tracker.carry
        def last() -> None:
            turn.finish()
            opened.append(tracker.begin("another", user_id="bob"))

        nowhere = contextvars.Context().run(tracker.carry, tracker.track_ai)
        carried_here = background.run(tracker.carry, tracker.track_ai)
        last()
        tracker.track_ai("afterwards")
        for name, call in {"inside": carried_here, "nowhere": nowhere, "background": tracker.track_ai}.items():
            background.run(call, name)
        opened[0].finish()
        spans = arrived(tracker, sink)
        users = {name: span.attributes.get("user.id") for name, span in spans.items()}
        alone = {"nowhere": None, "afterwards": None}
        assert users == {**dict.fromkeys(("turn", "inside", "background"), "alice"), "another": "bob", **alone}

    def test_a_step_that_is_no_tool(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn", user_id="u1", input="q") as turn:
            with tracker.start_step("model", "answer", input="Hi") as step:
                step.update(model="gpt-4o", provider="openai", prompt_tokens=3, output="Hello!")
            turn.start_step("step", "tidy", properties={"plan": "pro"}).finish()
            turn.tool_span("search", properties={"plan": "free"}).finish(properties={"hits": 3})
        spans = arrived(tracker, sink)
        answer, tidy = spans["answer"], spans["tidy"]
        assert answer.parent_id == tidy.parent_id == spans["turn"].span_id
        assert answer.attributes["openinference.span.kind"] == "LLM"
        assert answer.attributes["gen_ai.usage.input_tokens"] == 3
        assert (tidy.attributes["openinference.span.kind"], tidy.attributes["user.id"]) == ("CHAIN", "u1")
        assert tidy.attributes["plan"] == "pro"
        assert (spans["search"].attributes["plan"], spans["search"].attributes["hits"]) == ("free", 3)

    @pytest.mark.parametrize(
        ("kind", "told"),
        [
            ("llm", "'llm'"),
            ("request", "'request'"),
            ("feedback", "'feedback'"),
            (None, "NoneType"),
            (["model"], "list"),
        ],
    )
    def test_a_kind_that_no_step_has_makes_a_plain_step_and_a_warning(
        self, kind: Any, told: str, tracker: Tracker, sink: Sink, caplog: pytest.LogCaptureFixture
    ) -> None:
        tracker.start_step("step", "right", input="q").finish("a")
        for name in ("wrong", "again"):
            tracker.start_step(kind, name, input="q").finish("a")
        spans = arrived(tracker, sink)
        assert spans["wrong"].attributes == spans["again"].attributes == spans["right"].attributes
        assert spans["wrong"].kind == spans["right"].kind
        (warning,) = caplog.records
        assert f"not {told}; it is a plain step" in warning.getMessage()

    @pytest.mark.parametrize(
        ("given", "name", "wanted"),
        [
            ({"prompt_tokens": 3}, "gen_ai.usage.input_tokens", 3),
            ({"completion_tokens": 3}, "gen_ai.usage.output_tokens", 3),
            ({"cache_read_tokens": 3}, "gen_ai.usage.cache_read.input_tokens", 3),
            ({"cache_creation_tokens": 3}, "gen_ai.usage.cache_creation.input_tokens", 3),
            ({"reasoning_tokens": 3}, "gen_ai.usage.reasoning.output_tokens", 3),
            ({"estimated_cost": 0.5}, "llm.cost.total", 0.5),
            ({"tags": ["a"]}, "tag.tags", ["a"]),
            ({"agent_name": "a1"}, "gen_ai.agent.name", "a1"),
            ({"model": "m1"}, "gen_ai.request.model", "m1"),
            ({"provider": "p1"}, "gen_ai.provider.name", "p1"),
            ({"response_model": "m2"}, "gen_ai.response.model", "m2"),
            ({"finish_reasons": ["stop"]}, "gen_ai.response.finish_reasons", ["stop"]),
            ({"operation": "embeddings"}, "gen_ai.operation.name", "embeddings"),
            ({"error": "broken"}, "rootspan.outcome", "failure"),
            ({"user_id": "u1"}, "user.id", "u1"),
            ({"convo_id": "c1"}, "session.id", "c1"),
            ({"input": "q"}, "input.value", "q"),
            ({"output": "a"}, "output.value", "a"),
            ({"properties": {"plan": "pro"}}, "plan", "pro"),
        ],
    )
    def test_each_argument_of_an_event_is_sent_without_the_others(
        self, tracker: Tracker, sink: Sink, given: dict[str, Any], name: str, wanted: object
    ) -> None:
        tracker.track_ai("alone", **given)
        assert arrived(tracker, sink)["alone"].attributes[name] == wanted

    def test_the_duration_of_an_event_is_kept_without_anything_else(self, tracker: Tracker, sink: Sink) -> None:
        tracker.track_ai("alone", duration=2.0)
        span = arrived(tracker, sink)["alone"]
        assert span.end - span.start == 2_000_000_000

    def test_a_root_without_input_adopts_what_it_lacks(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn"), tracker.tool_span("tool", input="not adopted") as step:
            tracker.track_ai("first", input="question", output="draft", user_id="u1", convo_id="c1", agent_name="a1")
            tracker.track_ai("second", input="more", output="answer", user_id="u2", convo_id="c2", agent_name="a2")
            tracker.track_ai("third", input="last")
            step.set_output("not adopted either")
        attributes = arrived(tracker, sink)["turn"].attributes
        wanted = {
            "user.id": "u1", "session.id": "c1", "gen_ai.agent.name": "a1", "input.value": "question",
            "output.value": "answer",
        }  # fmt: skip
        assert {key: attributes.get(key) for key in wanted} == wanted

    def test_what_a_root_adopts_is_not_given_to_the_next_child(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("batch") as batch:
            tracker.track_ai("for alice", user_id="alice", convo_id="c-alice", agent_name="a1", input="q")
            tracker.track_ai("for bob", user_id="bob", input="q")
            tracker.track_tool_call("cleanup")
            batch.update(agent_name="own")
            late = tracker.carry(lambda: tracker.track_ai("late", input="q"))
        late()
        spans = arrived(tracker, sink)
        told = {
            name: tuple(span.attributes.get(key) for key in ("user.id", "session.id", "gen_ai.agent.name"))
            for name, span in spans.items()
        }
        assert told == {
            "batch": ("alice", "c-alice", "own"),
            "for alice": ("alice", "c-alice", "a1"),
            "for bob": ("bob", None, None),
            "cleanup": (None, None, None),
            "late": ("alice", "c-alice", "own"),  # what starts after the root ended has the root's identity
        }

    def test_a_root_adopts_what_was_named_first_of_each(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn"):
            tracker.track_ai("first", convo_id="c1")
            tracker.track_ai("second", user_id="u1", convo_id="c2")
            tracker.track_ai("third", user_id="u2", convo_id="c3", agent_name="helper")
        attributes = arrived(tracker, sink)["turn"].attributes
        assert [attributes[name] for name in ("user.id", "session.id", "gen_ai.agent.name")] == ["u1", "c1", "helper"]

    def test_a_root_with_input_adopts_nothing(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn", input="own"):
            tracker.track_ai("first", input="question", output="draft", user_id="u1")
        attributes = arrived(tracker, sink)["turn"].attributes
        assert attributes["input.value"] == "own"
        assert "output.value" not in attributes
        assert "user.id" not in attributes

    def test_a_root_does_not_adopt_what_was_set_after_the_end(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn"):
            with tracker.begin("sub") as sub:
                pass
            sub.update(input="too late")
        assert all("input.value" not in span.attributes for span in arrived(tracker, sink).values())

    def test_adoption_does_not_overrule_what_the_root_was_given(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("turn", user_id="own") as turn:
            tracker.track_ai("event", input="question", output="draft", user_id="u1", convo_id="c1")
            turn.update(output="own answer")
        attributes = arrived(tracker, sink)["turn"].attributes
        wanted = {"user.id": "own", "session.id": "c1", "input.value": "question", "output.value": "own answer"}
        assert {key: attributes.get(key) for key in wanted} == wanted

    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            ("text", "text"),
            (42, "42"),
            (uuid.UUID(int=5), str(uuid.UUID(int=5))),
            (True, None),
            (4.5, None),
            (["a"], None),
            (object(), None),
            ("", None),
        ],
    )
    def test_which_ids_are_taken(
        self, tracker: Tracker, sink: Sink, caplog: pytest.LogCaptureFixture, given: Any, sent: str | None
    ) -> None:
        for name in ("first", "second"):
            tracker.track_ai(name, user_id=given, convo_id=given)
        for span in arrived(tracker, sink).values():
            assert (span.attributes.get("user.id"), span.attributes.get("session.id")) == (sent, sent)
        assert len(caplog.records) == (2 if sent is None and given != "" else 0)  # one a field

    def test_a_long_id_is_cut_and_ends_in_a_hash(self, tracker: Tracker, sink: Sink) -> None:
        tracker.track_ai("a", user_id="x" * 300 + "a")
        tracker.track_ai("b", user_id="x" * 300 + "b")
        with tracker.begin("c", user_id="x" * 300 + "a"):
            pass
        users = {name: span.attributes["user.id"] for name, span in arrived(tracker, sink).items()}
        assert len(users["a"]) == 250
        assert users["a"] != users["b"]
        assert users["a"] == users["c"]

    def test_usage_goes_to_the_span_that_bought_it(self, tracker: Tracker, sink: Sink) -> None:
        with tracker.begin("with usage below") as turn:
            with tracker.tool_span("tool"):
                tracker.track_ai("event", model="m", prompt_tokens=3, completion_tokens=4, estimated_cost=0.1)
            turn.finish(prompt_tokens=3, completion_tokens=4, estimated_cost=0.1)
        with tracker.begin("without") as turn:
            tracker.track_ai("free")
            turn.finish(prompt_tokens=3, completion_tokens=4, estimated_cost=0.1)
        spans = arrived(tracker, sink)
        below, without = spans["with usage below"].attributes, spans["without"].attributes
        assert below["rootspan.session.input_tokens"] == 3
        assert below["rootspan.session.output_tokens"] == 4
        assert below["rootspan.session.cost"] == 0.1
        assert not any(key.startswith(("gen_ai.usage", "llm.cost")) for key in below)
        assert (without["gen_ai.usage.input_tokens"], without["gen_ai.usage.cost"]) == (3, 0.1)
        assert spans["event"].attributes["gen_ai.usage.output_tokens"] == 4

    def test_each_token_and_each_cost_is_counted_once(self, tracker: Tracker, sink: Sink) -> None:
        used: dict[str, Any] = {"prompt_tokens": 10, "completion_tokens": 5}
        with tracker.begin("tokens below, the cost at the end", input="q") as turn:
            tracker.track_ai("call", model="m", **used)
            turn.finish(estimated_cost=0.01)
        session = tracker.create_session(agent_name="whose step told")
        with tracker.tool_span("sub agent", session_id=session) as step:
            step.update(estimated_cost=0.01, **used)
        tracker.complete_session(session, estimated_cost=0.01, **used)
        with tracker.begin("everybody tells", input="q") as turn:
            with tracker.begin("sub", input="x") as sub, tracker.tool_span("tool"):
                tracker.track_ai("call", model="m", estimated_cost=0.01, **used)
                sub.finish(estimated_cost=0.01, **used)
            turn.finish(estimated_cost=0.01, **used)
        assert tracker.flush(10)
        roots = {span.trace_id: span.name for span in sink.spans if span.parent_id is None}
        names = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cost")
        bought = {
            root: [sum(span.attributes.get(name, 0) for span in sink.spans if span.trace_id == trace) for name in names]
            for trace, root in roots.items()
        }
        assert list(bought.values()) == [[10, 5, 0.01]] * 3, bought


class TestTrackers:
    def test_share_nothing(self, sink: Sink) -> None:
        with Sink() as other:
            a, b = Tracker(endpoint=sink.url, user_id="a"), Tracker(endpoint=other.url)
            with a.begin("turn of a", convo_id="c"):
                assert b.current() is None
                b.track_ai("event of b")
                with b.begin("turn of b"):
                    a.track_ai("event of a")
                    b.track_ai("second event of b")
            of_a, of_b = arrived(a, sink), arrived(b, other)
            a.shutdown()
            b.track_ai("b goes on")
            assert b.flush()
            assert b.stats()["recorded"] == b.stats()["delivered"] == 4
            b.shutdown()
        assert set(of_a) == {"turn of a", "event of a"}
        assert of_a["event of a"].parent_id == of_a["turn of a"].span_id
        assert of_b["event of b"].parent_id is None
        assert of_b["second event of b"].parent_id == of_b["turn of b"].span_id
        assert not any("user.id" in span.attributes or "session.id" in span.attributes for span in of_b.values())

    def test_configure_twice(self, sink: Sink) -> None:
        """The old one drains in the background, its open handles stay with it."""
        with Sink() as later:
            rootspan.configure(endpoint=sink.url)
            old = rootspan.begin("old", user_id="u1")
            rootspan.track_ai("queued before")
            fixed = rootspan.configure(endpoint=later.url)
            assert rootspan.current() is None
            rootspan.track_ai("new")
            old.track_ai("child of old")
            old.finish()
            assert rootspan.flush(5)
            assert [span.name for span in later.spans] == ["new"]
            sink.wait(3)
            rootspan.configure(disabled=True)
            fixed.track_ai("still there")
            assert fixed.flush(5)
            assert [span.name for span in later.spans] == ["new", "still there"]
            fixed.shutdown()
        spans = {span.name: span for span in sink.spans}
        assert set(spans) == {"queued before", "child of old", "old"}
        assert spans["child of old"].parent_id == spans["old"].span_id

    def test_decorators_made_before_configure_follow_it(self, sink: Sink) -> None:
        tracker = Tracker.default()
        search = tracker.tool(lambda query: [query])
        tracker.reconfigure(Tracker(endpoint=sink.url).settings)
        search("x")
        assert tracker.flush(5)
        tracker.shutdown()
        assert len(sink.spans) == 1

    def test_what_was_taken_of_a_tracker_before_it_is_lent_stays_its_own(
        self, tracker: Tracker, sink: Sink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ROOTSPAN_ENDPOINT", sink.url)
        default = Tracker.default()
        before = default._recorder
        with default.lent(tracker._recorder):
            assert before.settings.endpoint == f"{sink.url}/v1/traces"
            assert default.settings is tracker.settings
        assert default.settings is before.settings
        default.shutdown()

    def test_the_module_functions_belong_to_the_default_tracker(self) -> None:
        for name in rootspan.__all__:
            function = getattr(rootspan, name)
            if getattr(function, "__self__", None) is not None:
                assert function.__self__ is rootspan.default_tracker
                assert function.__name__ == name
        with pytest.raises(AttributeError, match="no_such_thing"):
            rootspan.default_tracker.no_such_thing  # noqa: B018


class TestSampling:
    def test_disabled(self, sink: Sink) -> None:
        tracker = Tracker(endpoint=sink.url, disabled=True)
        with tracker.begin("turn"):
            assert len(tracker.track_ai("event")) == 16
        assert tracker.flush(5)
        stats = tracker.stats()
        tracker.shutdown()
        assert (stats["recorded"], stats["delivered"], stats["dropped"]) == (2, 0, {"disabled": 2})
        assert sink.requests == []

    def test_rate_0(self, sink: Sink) -> None:
        tracker = Tracker(endpoint=sink.url, sample_rate=0)
        with tracker.begin("turn"):
            assert len(tracker.track_ai("event")) == 16
        assert tracker.flush(5)
        stats = tracker.stats()
        tracker.shutdown()
        assert (stats["recorded"], stats["dropped"]) == (2, {"sampled": 2})
        assert sink.spans == []

    def test_children_follow_their_root(self, sink: Sink) -> None:
        tracker = Tracker(endpoint=sink.url, sample_rate=0.5)
        for _ in range(300):
            with tracker.begin("turn") as turn, turn.tool_span("tool"):
                tracker.track_ai("event")
        assert tracker.flush(5)
        stats = tracker.stats()
        tracker.shutdown()
        traces: dict[str, list[str]] = {}
        for span in sink.spans:
            traces.setdefault(span.trace_id, []).append(span.name)
        assert 75 < len(traces) < 225
        assert {tuple(sorted(names)) for names in traces.values()} == {("event", "tool", "turn")}
        assert stats["recorded"] == 900
        assert stats["dropped"] == {"sampled": 900 - 3 * len(traces)}
        assert stats["delivered"] == 3 * len(traces)


class TestConfiguration:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"endpoint": "collector.example.com:4318"}, "http"),
            ({"endpoint": "localhost:4318"}, "http"),
            ({"endpoint": "ftp://collector"}, "http"),
            ({"endpoint": "http://"}, "host"),
            ({"endpoint": "http://a b"}, "URL"),
            ({"endpoint": "http://host:port"}, "URL"),
            ({"endpoint": 7}, "endpoint"),
            ({"api_key": "line\nbreak"}, "api_key"),
            ({"api_key": 7}, "api_key"),
            ({"api_key": "k", "endpoint": "http://collector.example.com"}, "insecure=True"),
            ({"enpoint": "http://localhost"}, r"endpoint="),
            ({"sample_rate": 2}, "sample_rate"),
            ({"sample_rate": "half"}, "sample_rate"),
            ({"extras": ("nobody",)}, "extras"),
            ({"exporters": [object()]}, "exporters"),
        ],
    )
    def test_mistakes_raise_and_name_the_fix(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message) as caught:
            Tracker(**options)
        assert "Fix:" in str(caught.value)
        assert "break" not in str(caught.value)
        before = rootspan.default_tracker._recorder
        with pytest.raises(ConfigurationError, match=message):
            rootspan.configure(**options)
        assert rootspan.default_tracker._recorder is before

    @pytest.mark.parametrize(
        ("variable", "text"), [("ROOTSPAN_ENDPOINT", "collector:4318"), ("ROOTSPAN_REDACT_KEYS", "123")]
    )
    def test_a_mistake_in_the_environment_is_one_logged_error_at_first_use(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, text: str
    ) -> None:
        monkeypatch.setenv(variable, text)
        tracker = Tracker.default()
        assert caplog.records == []
        ids = [tracker.track_ai("event") for _ in range(3)]
        with tracker.begin("turn"):
            pass
        assert len(set(ids)) == 3
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert variable in caplog.text
        assert tracker.stats()["dropped"] == {"disabled": 4}
        with pytest.raises(ConfigurationError, match=variable):
            Tracker()

    def test_the_environment_configures_the_first_use(self, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ROOTSPAN_ENDPOINT", sink.url)
        monkeypatch.setenv("ROOTSPAN_API_KEY", "key-of-the-environment")
        tracker = Tracker.default()
        tracker.track_ai("event")
        assert tracker.flush(5)
        tracker.shutdown()
        assert [span.name for span in sink.spans] == ["event"]
        assert sink.requests[0].headers["Authorization"] == "Bearer key-of-the-environment"
        assert sink.requests[0].path == "/v1/traces"
        assert tracker.settings.endpoint == f"{sink.url}/v1/traces"

    def test_a_misspelt_keyword_is_pythons_own_type_error(self, tracker: Tracker) -> None:
        with pytest.raises(TypeError, match="modle"):
            tracker.track_ai("event", modle="gpt-4o")  # type: ignore[call-arg]

    def test_importing_and_configuring_start_nothing(self) -> None:
        done = python(
            "import threading, rootspan\nrootspan.configure(); rootspan.Tracker()\n"
            "print(threading.active_count(), 'requests' in __import__('sys').modules)"
        )
        assert (done.stdout.split(), done.stderr) == (["1", "False"], "")

    def test_nothing_is_logged_at_warning_when_all_is_well(
        self, tracker: Tracker, sink: Sink, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        with tracker.begin("turn", user_id="u1"):
            tracker.track_ai("event", duration=1.5, input="x")
        assert arrived(tracker, sink)["event"].attributes["input.value"] == "x"
        event = sink.one("event")
        assert event.end - event.start == pytest.approx(1.5e9, abs=1000)
        assert caplog.records == []


def test_what_calculate_cost_returns_can_be_passed_on(sink: Sink) -> None:
    tracker = Tracker(endpoint=sink.url)
    tracker.track_ai("chat", model="gpt-4o", estimated_cost=Decimal("0.0125"))
    tracker.begin("turn").finish(estimated_cost=Decimal("0.5"))
    assert tracker.flush(10)
    assert sink.one("chat").attributes["gen_ai.usage.cost"] == 0.0125
    assert sink.one("turn").attributes["gen_ai.usage.cost"] == 0.5
    tracker.shutdown()


def test_settings_hold_although_another_thread_makes_the_first_call_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    tracker, chosen = Tracker.default(), Tracker(disabled=True).settings
    looking, configured = threading.Event(), threading.Event()
    thread = threading.Thread(target=tracker.track_ai, args=("first",))

    def slow_recorder(settings: Settings) -> Recorder:
        made = record_with(settings)
        if settings is chosen:
            thread.start()
            looking.wait(0.3)
        return made

    def slow_environment() -> tuple[Settings, None]:
        looking.set()
        configured.wait(5)
        return resolve({}, disabled=True), None

    monkeypatch.setattr("rootspan.tracker.record_with", slow_recorder)
    monkeypatch.setattr("rootspan.tracker.from_environment", slow_environment)
    tracker.reconfigure(chosen)
    configured.set()
    thread.join()
    assert tracker.settings is chosen


@pytest.mark.parametrize("configure", [False, True])
def test_what_a_signals_handler_opens_while_settings_are_made_stays_known(
    monkeypatch: pytest.MonkeyPatch, sink: Sink, configure: bool
) -> None:
    monkeypatch.setenv("ROOTSPAN_ENDPOINT", sink.url)
    tracker, opened = Tracker.default(), list[str]()

    def interrupted(settings: Settings) -> Recorder:
        if not opened:
            opened.append("")  # once: this call makes settings as well
            opened[0] = tracker.create_session(user_id="u1")  # as a `__del__` may, too
        return record_with(settings)

    monkeypatch.setattr("rootspan.tracker.record_with", interrupted)
    if configure:
        tracker.reconfigure(resolve({}, endpoint=sink.url))
    tracker.track_ai("first")
    tracker.complete_session(opened[0])
    assert {span.attributes.get("user.id"): span.parent_id for span in sink.wait(2)} == {"u1": None, None: None}
    assert tracker.stats()["recorded"] == (1 if configure else 2)
    tracker.shutdown()


def test_delivery_12_a_log_handler_that_tracks_may_be_told_of_a_wrong_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROOTSPAN_TIMEOUT", "never")
    tracker, said, waited = Tracker.default(), list[str](), list[bool]()

    class Tracking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            thread = threading.Thread(target=tracker.track_ai, args=("elsewhere",))
            thread.start()
            thread.join(3)
            waited.append(thread.is_alive())
            tracker.track_ai("here")

    handler = Tracking()
    logging.getLogger("rootspan").addHandler(handler)
    try:
        tracker.track_ai("first")
    finally:
        logging.getLogger("rootspan").removeHandler(handler)
    assert (len(said), waited) == (1, [False])
    assert tracker.stats()["dropped"] == {"disabled": 3}


def test_threads_that_make_their_first_call_at_once_share_one_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOTSPAN_DISABLED", "1")
    tracker = Tracker.default()
    start = threading.Barrier(8)

    def first() -> None:
        start.wait()
        tracker.track_ai("first")

    threads = [threading.Thread(target=first) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tracker.stats()["recorded"] == 8
    with pytest.raises(AttributeError, match="no attribute 'track_al'"):
        tracker.track_al  # type: ignore[attr-defined]  # noqa: B018
