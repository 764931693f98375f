"""No public call raises for any argument value, every call arrives, and neighbours stay whole (delivery 10, 11)."""

from __future__ import annotations

import decimal
import enum
import inspect
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy
import pytest

from rootspan import Tracker
from sinks import Sink


class Raising:
    def _raise(self, *arguments: Any) -> Any:
        raise RuntimeError("odd")

    __repr__ = __str__ = __iter__ = __bool__ = __len__ = __float__ = __int__ = __eq__ = items = keys = _raise
    __hash__ = None  # type: ignore[assignment]


class Exiting:
    def __repr__(self) -> str:
        raise SystemExit(3)

    __str__ = __repr__


class Nameless(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError("odd")


class Colour(enum.Enum):
    RED = object()


@dataclass
class Point:
    x: int
    y: Any


def cycle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def deep() -> Any:
    value: Any = []
    for _ in range(10_000):
        value = [value]
    return value


def endless() -> Iterator[int]:
    while True:
        yield 1


VALUES: dict[str, Callable[[], Any]] = {
    "cycle": cycle,
    "deep": deep,
    "bytes": lambda: b"\xff\x00",
    "nan": lambda: float("nan"),
    "surrogate": lambda: "a\ud800b",
    "big int": lambda: 2**64,
    "decimal": lambda: decimal.Decimal("1.5"),
    "uuid": lambda: uuid.UUID(int=7),
    "enum": lambda: Colour.RED,
    "set": lambda: {1, "a"},
    "dataclass": lambda: Point(1, object()),
    "array": lambda: numpy.arange(3),
    "exception": lambda: ValueError("x"),
    "module": lambda: socket,
    "lambda": lambda: len,
    "odd keys": lambda: {1: 2, None: 3, ("a", 1): 4},
    "raising": Raising,
    "exiting": Exiting,
    "of a nameless class": lambda: Nameless("Odd", (), {})(),
    "endless generator": endless,
    "empty": lambda: "",
}

CALLS = ("track_ai", "track_tool_call", "track_decision", "track_error", "track_feedback", "begin", "tool_span",
         "create_session", "finish", "update", "complete_session", "context", "update_current")  # fmt: skip
REQUIRED = {"track_ai": "event", "track_tool_call": "tool_name", "track_error": "error_message",
            "track_feedback": "target", "tool_span": "name"}  # fmt: skip
RETURNS_ID = frozenset({"track_ai", "track_tool_call", "track_decision", "track_error", "track_feedback"})


def arguments_of(name: str, tracker: Tracker) -> list[str]:
    owner: Any = tracker.begin("x") if name in ("finish", "update") else tracker
    return [parameter for parameter in inspect.signature(getattr(owner, name)).parameters if parameter != "self"]


def call(tracker: Tracker, name: str, argument: str, value: Any) -> int:
    """Make one odd call; return how many spans it has to leave."""
    given: dict[str, Any] = {REQUIRED[name]: "name"} if name in REQUIRED else {}
    given[argument] = value
    if name in RETURNS_ID:
        span_id = getattr(tracker, name)(**given)
        assert len(span_id) == 16
        assert span_id.strip("0") != ""
    elif name in ("begin", "tool_span"):
        getattr(tracker, name)(**given).finish()
    elif name == "create_session":
        tracker.complete_session(tracker.create_session(**given))
    elif name == "complete_session":
        tracker.complete_session(**{"session_id": tracker.create_session(), **given})
        return 1 if argument != "session_id" else 2  # the open session itself follows at shutdown
    elif name in ("finish", "update"):
        turn = tracker.begin("turn")
        getattr(turn, name)(**given)
        turn.finish()
    elif name == "context":
        with tracker.context(**given):
            tracker.track_ai("inside")
    else:
        with tracker.begin("turn"):
            tracker.update_current(**given)
    return 1


@pytest.mark.parametrize("name", CALLS)
def test_every_argument_takes_every_value(name: str) -> None:
    """delivery 10, delivery 11, delivery 13"""
    with Sink() as sink:
        tracker = Tracker(endpoint=sink.url)
        arguments = arguments_of(name, tracker)
        wanted, problems = 0, []
        for argument in arguments:
            for label, make in VALUES.items():
                before = tracker.stats()["dropped"]
                try:
                    wanted += call(tracker, name, argument, make())
                except BaseException as error:
                    problems.append((argument, label, repr(error)))
                if tracker.stats()["dropped"] != before:
                    problems.append((argument, label, "dropped"))
                wanted += 1
                tracker.track_ai("neighbour", user_id="u1", input="whole")
        assert tracker.shutdown()
        stats = tracker.stats()
        neighbours = sink.find("neighbour")
        others = {span.span_id for span in sink.spans if span.name != "x"}
    assert problems == []
    assert len(arguments) * len(VALUES) >= 80
    assert len(others) == wanted
    assert stats["recorded"] == stats["delivered"]
    assert len(neighbours) == len(arguments) * len(VALUES)
    assert {(span.attributes["user.id"], span.attributes["input.value"]) for span in neighbours} == {("u1", "whole")}


class Interrupted:
    def _raise(self) -> Any:
        raise KeyboardInterrupt

    __str__ = __float__ = __bool__ = _raise


class InterruptedError_(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "call",
    [
        lambda tracker: tracker.track_ai("x", duration=Interrupted()),
        lambda tracker: tracker.track_error(InterruptedError_()),
        lambda tracker: tracker.complete_session(tracker.create_session(), success=Interrupted()),
        lambda tracker: tracker.flush(Interrupted()),
    ],
    ids=["duration", "error", "success", "timeout"],
)
def test_a_ctrl_c_inside_a_values_own_methods_passes(call: Callable[[Tracker], object], tracker: Tracker) -> None:
    """delivery 13"""
    with pytest.raises(KeyboardInterrupt):
        call(tracker)


def test_an_id_that_cannot_be_read_is_left_out_with_a_warning(
    tracker: Tracker, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    tracker.track_ai("x", user_id=uuid.UUID.__new__(uuid.UUID), convo_id="c1")
    assert tracker.flush(10)
    span = sink.one("x")
    assert "user.id" not in span.attributes
    assert span.attributes["session.id"] == "c1"
    assert "user_id has to be a str, an int or a UUID, not UUID" in caplog.text
