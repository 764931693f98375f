"""When a trace is finished, what is late, what is too much, and what it all adds up to."""

from __future__ import annotations

from typing import Any

import pytest

from rootspan_ui import ReceivedEvent, ReceivedLink, ReceivedSpan, Summary, Trace, Traces


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def span(trace: int, number: int, parent: int | None = None, **more: Any) -> ReceivedSpan:
    return ReceivedSpan(
        f"{trace:032x}",
        f"{number:016x}",
        None if parent is None else f"{parent:016x}",
        f"s{number}",
        start=number,
        **more,
    )


def ids(traces: list[Trace]) -> list[tuple[int, list[int]]]:
    return [(int(trace.trace_id, 16), [int(one.span_id, 16) for one in trace.spans]) for trace in traces]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def traces(clock: Clock) -> Traces:
    return Traces(quiet=0.5, patience=10, clock=clock)


def test_a_trace_is_finished_when_its_root_is_there_and_it_was_quiet(traces: Traces, clock: Clock) -> None:
    traces.add([span(1, 2, 1)])
    clock.now += 0.4
    traces.add([span(1, 1)])
    clock.now += 0.4
    assert traces.finished() == []
    clock.now += 0.2
    finished = traces.finished()
    assert ids(finished) == [(1, [1, 2])]
    assert finished[0].rooted
    assert finished[0].known == {}
    assert traces.finished() == []


def test_without_its_root_a_trace_waits_longer(traces: Traces, clock: Clock) -> None:
    traces.add([span(1, 2, 1)])
    clock.now += 9
    assert traces.finished() == []
    clock.now += 1
    finished = traces.finished()
    assert ids(finished) == [(1, [2])]
    assert not finished[0].rooted


@pytest.mark.parametrize("more", [{"remote_parent": True}, {"kind": 2}, {"kind": 5}])
def test_an_entry_from_another_process_is_a_root(traces: Traces, clock: Clock, more: dict[str, Any]) -> None:
    traces.add([span(1, 2, 1, **more)])
    clock.now += 0.5
    assert ids(traces.finished()) == [(1, [2])]


def test_late_children_come_as_an_addition_that_knows_what_was_there(traces: Traces, clock: Clock) -> None:
    traces.add([span(1, 1)])
    clock.now += 1
    traces.finished()
    traces.add([span(1, 2, 1)])
    clock.now += 0.5
    (addition,) = traces.finished()
    assert ids([addition]) == [(1, [2])]
    assert addition.known == {f"{1:016x}": "s1"}


def test_a_span_that_arrives_twice_is_kept_once(traces: Traces, clock: Clock) -> None:
    """delivery 1: at least once on the wire, so the receiver dedupes by span id"""
    traces.add([span(1, 1), span(1, 1)])
    traces.add([span(1, 1)])
    clock.now += 1
    assert ids(traces.finished()) == [(1, [1])]
    traces.add([span(1, 1)])
    clock.now += 20
    assert traces.finished() == []
    assert traces.flush() == []


def test_flush_hands_out_what_waits(traces: Traces) -> None:
    traces.add([span(1, 2, 1), span(2, 1)])
    assert ids(traces.flush()) == [(1, [2]), (2, [1])]
    assert traces.flush() == []


def test_as_many_traces_wait_as_there_is_room_for(traces: Traces) -> None:
    """A loop of `track_ai` calls makes a trace of each"""
    traces.add([span(number, 1) for number in range(1, 20_001)])
    assert traces.finished() == []
    assert traces.dropped == 0
    assert len(traces.flush()) == 20_000


def test_too_many_bytes_are_handed_out_early_then_dropped_and_counted(clock: Clock) -> None:
    traces = Traces(max_bytes=100_000, clock=clock)
    event = ReceivedEvent("e", 1, {"list": ["x" * 9_000], "map": {"k": 1.5}})
    link = ReceivedLink("a", "b", {"k": "x" * 9_000})
    traces.add([span(1, 1, attributes={"input.value": "x" * 50_000})])
    traces.add([span(2, 1, events=(event,), links=(link,))])
    assert traces.finished() == []
    traces.add([span(3, 1, status_message="x" * 9_000)])
    assert ids(traces.finished()) == [(1, [1])]
    traces.add([span(4, 1, attributes={"a": "x" * 200_000})])
    assert traces.dropped == 3
    assert traces.flush() == []


def test_everything_that_a_span_brings_along_counts(clock: Clock) -> None:
    long = "x" * 9_000
    for more in (
        {"resource": {"process.command_args": [long]}},
        {"scope": long},
        {"events": (ReceivedEvent(long, 1),)},
        {"events": (ReceivedEvent("", 1),) * 30},
        {"links": (ReceivedLink("a", "b"),) * 30},
    ):
        traces = Traces(max_bytes=8_000, clock=clock)
        traces.add([span(1, 1, **more)])
        assert traces.dropped == 1, more


def test_spans_of_a_trace_share_their_resource(clock: Clock) -> None:
    traces = Traces(max_bytes=12_000, clock=clock)
    resource = {"process.command_line": "x" * 4_000}
    traces.add([span(1, number, resource=resource) for number in (1, 2, 3)])
    assert traces.dropped == 0


def test_names_of_finished_traces_are_forgotten_in_the_end(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rootspan_ui.traces._REMEMBERED", 3)
    traces = Traces(clock=clock)
    traces.add([span(number, 1) for number in range(1, 6)])
    traces.flush()
    traces.add([span(1, 2, 1), span(5, 2, 1)])
    assert [bool(trace.known) for trace in traces.flush()] == [False, True]


def used(number: int, parent: int | None, tokens: int | None = None, **more: Any) -> ReceivedSpan:
    attributes = {"session.id": "c1", "user.id": f"u{number % 2}", "gen_ai.usage.input_tokens": tokens}
    return span(1, number, parent, attributes={**attributes, **more.pop("attributes", {})}, **more)


def summary(*traces: Trace) -> Summary:
    total = Summary()
    for trace in traces:
        total.add(trace)
    return total


def test_the_summary_counts_usage_and_failures_once() -> None:
    failed = {"status_code": 2}
    trace = Trace(
        f"{1:032x}",
        (
            used(1, None, 30, attributes={"gen_ai.usage.cost": 0.5, "gen_ai.usage.output_tokens": 7}, **failed),
            used(2, 1, 10, attributes={"gen_ai.usage.cost": 0.25, "gen_ai.usage.output_tokens": 3}, **failed),
            used(3, 1, 20, attributes={"gen_ai.usage.cost": 0.25}),
            used(4, 3),
        ),
    )
    total = summary(trace, Trace("b" * 32, ()))
    assert (total.traces, total.spans, total.sessions, total.users) == (2, 4, 1, 2)
    assert (total.input_tokens, total.output_tokens, total.cost, total.errors) == (30, 3, 0.5, 1)
    assert str(total) == "2 traces · 4 spans · 1 session · 2 users · 30 → 3 tokens · $0.5000 · 1 error"
    assert total.line(unicode=False).isascii()


def test_the_summary_survives_parents_in_a_circle() -> None:
    trace = Trace("a" * 32, (used(1, 2, 5), used(2, 1, 7), used(3, 3, 11)))
    assert summary(trace).input_tokens == 0
    assert str(Summary()) == "0 traces · 0 spans · 0 sessions · 0 errors"


def test_the_summary_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rootspan_ui.totals._LISTED", 2)
    total = summary(*(Trace(str(number), (span(number, 1),)) for number in range(5)))
    assert (total.traces, total.spans) == (2, 5)
