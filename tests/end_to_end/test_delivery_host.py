"""What the host is promised: no call raises, waits or grows with its payload, and our own traffic is invisible."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import logging
import socket
import sys
import threading
import time
import tracemalloc
import types
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from programs import adds_up, ids, track, until
from rootspan import Tracker
from rootspan.log import log
from sinks import Sink, bomb, redirect, reset


@pytest.fixture(params=["memory", "spool"])
def tracker(request: pytest.FixtureRequest, sink: Sink, tmp_path: Path) -> Iterator[Tracker]:
    spool = str(tmp_path / "spool") if request.param == "spool" else False
    made = Tracker(endpoint=sink.url, timeout=0.5, spool=spool)
    yield made
    made.shutdown()


def persist(tracker: Tracker) -> None:
    """Flush until all is delivered: each flush cuts a wait short."""
    until(lambda: tracker.flush(0.5), 90)


class Colour(enum.Enum):
    RED = 1


class Hostile:
    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __repr__(self) -> str:
        raise self.error("mine")

    __str__ = __iter__ = __len__ = __bool__ = __hash__ = items = keys = __repr__  # type: ignore[assignment]


def deep(levels: int) -> Any:
    made: Any = "bottom"
    for _ in range(levels):
        made = [made]
    return made


def cycle() -> Any:
    made: dict[str, Any] = {}
    made["self"] = made
    return made


def odd_values() -> list[Any]:
    """All that promise 11 lists; what is not installed is left out."""
    return [
        cycle(), deep(10_000), b"\xff\x00", float("nan"), float("inf"), "\ud800 lone", 2**64, -(2**70),
        decimal.Decimal("1.5"), uuid.UUID(int=1), Colour.RED, {1, 2}, frozenset("ab"), ValueError("wrong"), types,
        socket.socket, lambda: None, {1: "a", None: "b", (1, 2): "c"}, Hostile(RuntimeError), Hostile(SystemExit),
        (n for n in range(3)), datetime.datetime(2024, 1, 1), range(10**9), object(), type, memoryview(b"abc"), ...,
        {"nested": [Hostile(SystemExit), {"x": Hostile(ValueError)}]}, bytearray(b"x" * 100),
    ]  # fmt: skip


def test_delivery_10_no_value_makes_a_call_raise(tracker: Tracker, sink: Sink) -> None:
    fields = ("input", "output", "event", "user_id", "properties", "model", "prompt_tokens", "tags")
    returned = {tracker.track_ai(**{"event": "e", field: value}) for value in odd_values() for field in fields}
    assert all(len(span_id) == 16 for span_id in returned)
    assert len(returned) == len(fields) * len(odd_values())
    assert tracker.flush(60)
    assert ids(sink) == returned
    assert adds_up(tracker)["dropped"] == {}


def test_delivery_10_a_keyboard_interrupt_passes(sink: Sink) -> None:
    errors: list[type[BaseException]] = [KeyboardInterrupt, ValueError]

    def user() -> str:
        if errors:
            raise errors.pop(0)
        return "u1"

    tracker = Tracker(endpoint=sink.url, user_id=user)
    with pytest.raises(KeyboardInterrupt):
        tracker.track_ai("interrupted")
    tracker.track_ai("without")
    tracker.track_ai("with")
    assert tracker.flush(60)
    tracker.shutdown()
    assert adds_up(tracker)["delivered"] == 2
    assert [span.attributes.get("user.id") for span in sink.spans] == [None, "u1"]


def test_delivery_11_a_poison_value_never_costs_a_neighbour(tracker: Tracker, sink: Sink) -> None:
    generator = (n for n in range(3))
    values = [*odd_values(), generator]
    tracker.track_ai("all", input={f"value {n}": value for n, value in enumerate(values)}, properties={"plan": "pro"})
    assert tracker.flush(60)
    span = sink.one("all")
    assert span.attributes["plan"] == "pro"
    written = json.loads(span.attributes["input.value"])
    assert set(written) == {f"value {n}" for n in range(len(values))}
    assert all(value not in (None, "") for name, value in written.items() if name not in ("value 3", "value 4"))
    assert list(generator) == [0, 1, 2]


def test_delivery_12_work_is_bounded_by_the_cap_not_by_the_payload(tracker: Tracker, sink: Sink) -> None:
    huge = "x" * 100_000_000
    rows = [{"n": n} for n in range(300_000)]
    tracker.track_ai("warm", input="x" * 1_000_000, output=rows[:20_000])
    assert tracker.flush(60)
    tracemalloc.start()
    try:
        tracker.track_ai("huge", input=huge, output=rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50_000_000  # a megabyte of each, as objects, as JSON and encoded
    assert tracker.flush(60)
    assert len(sink.one("huge").attributes["input.value"]) < 1_100_000


def test_delivery_12_no_call_waits_for_the_network(tracker: Tracker, sink: Sink) -> None:
    """A thousand calls return while one and the same request is on its way."""
    object.__setattr__(tracker.settings, "timeout", 60.0)
    arrived, released = threading.Event(), threading.Event()

    def answer(request: Any) -> Any:
        arrived.set()
        released.wait(60)
        return None

    sink.script(answer)
    tracker.track_ai("event")
    assert arrived.wait(60)
    sent = track(tracker, 1_000)
    assert not sink.requests  # unanswered still
    stats = adds_up(tracker)
    assert stats["queued"] + stats["spooled"] == 1_001
    sink.script([])
    released.set()
    assert tracker.flush(90)
    assert sent < ids(sink)


def test_delivery_13_losses_are_reported_at_once_and_then_once_a_minute(
    sink: Sink, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rootspan import ledger

    told: list[tuple[str, int]] = []
    tracker = Tracker(endpoint=sink.url, on_loss=lambda *loss: told.append(loss), flush_interval=0.01)
    sink.script(lambda request: 400)
    for _ in range(5):
        tracker.track_ai("event")
        assert tracker.flush(60)
        time.sleep(0.1)
    lines = [record for record in caplog.records if "rootspan lost" in record.getMessage()]
    assert len(lines) == 1
    assert told == [("refused", 1)]
    monkeypatch.setattr(ledger, "_QUIET", 0.0)
    tracker._recorder.pipeline.ledger._report_at = 0.0  # a minute later
    tracker.track_ai("event")
    assert tracker.flush(60)
    until(lambda: sum(number for _, number in told) >= 6)
    assert tracker.shutdown()
    assert adds_up(tracker)["dropped"] == {"refused": 6}


def test_delivery_13_an_on_loss_that_raises_or_records_harms_nobody(
    sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[int] = []

    def on_loss(reason: str, number: int) -> None:
        told.append(number)
        tracker.track_ai("a loss", input=reason)
        raise RuntimeError("mine")

    tracker = Tracker(endpoint=sink.url, on_loss=on_loss, compression="none")
    sink.script(lambda request: 400 if b"poison" in request.body else None)
    tracker.track_ai("poison")
    sink.wait(1, 60)
    assert tracker.flush(60)
    tracker.shutdown()
    assert told == [1]
    assert sink.one("a loss").attributes["input.value"] == "refused"
    assert "the on_loss callback raised" in caplog.text


def test_delivery_13_an_on_loss_that_calls_exit_harms_nobody(sink: Sink) -> None:
    def on_loss(reason: str, number: int) -> None:
        sys.exit(f"lost {number}")

    tracker = Tracker(endpoint=sink.url, on_loss=on_loss)
    sink.script([400])
    tracker.track_ai("poison")
    assert tracker.flush(60)
    tracker.track_ai("later")
    assert tracker.flush(60)
    tracker.shutdown()
    assert [span.name for span in sink.spans] == ["later"]


@pytest.mark.parametrize("error", [OSError, SystemExit])
@pytest.mark.parametrize("place", ["handler", "filter"])
def test_delivery_10_a_log_that_raises_costs_nothing(
    place: str, error: type[BaseException], tracker: Tracker, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The collector and the log server are down in the same outage."""

    def down(*_: object) -> bool:
        heard.append(1)
        raise error("the log server is down")

    heard: list[int] = []
    logger = logging.getLogger("rootspan")
    handler = logging.NullHandler()
    handler.handle = down  # type: ignore[method-assign]  # the log server is down
    monkeypatch.setattr(logger, *(("handlers", [handler]) if place == "handler" else ("filters", [down])))
    sink.script([503, 400])
    tracker.track_ai("refused")
    assert tracker.flush(60)
    tracker._recorder.warn("odd", "something odd")
    tracker._recorder.own_error()
    tracker.track_ai("later")
    assert tracker.flush(60)
    assert [span.name for span in sink.spans] == ["later"]
    assert adds_up(tracker)["dropped"] == {"refused": 1, "internal_error": 1}
    assert len(heard) >= 4


def test_delivery_10_an_interrupt_in_a_log_handler_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(logging.getLogger("rootspan"), "filters", [interrupted])
    with pytest.raises(KeyboardInterrupt):
        log(logging.WARNING, "something")


def test_a_worker_that_was_killed_is_replaced(tracker: Tracker, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = tracker._recorder.pipeline
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def killed() -> None:
        raise GeneratorExit  # as gevent's `GreenletExit`

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.ledger, "report", killed)
        tracker.track_ai("event")
        until(lambda: pipeline.queue.worker is None)
    tracker.track_ai("later")
    assert tracker.flush(30)
    assert {span.name for span in sink.spans} == {"event", "later"}


@pytest.mark.parametrize("end", ["flush", "shutdown"])
def test_the_end_starts_the_worker_that_could_not_be_started(
    tracker: Tracker, sink: Sink, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    def too_many(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", too_many)
        tracker.track_ai("event")
    assert getattr(tracker, end)(30)
    assert sink.one("event")


def test_delivery_16_a_handler_that_tracks_hears_nothing_of_our_requests(tracker: Tracker, sink: Sink) -> None:
    heard: list[str] = []

    class Tracking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.name)
            tracker.track_ai("log", input=record.getMessage())

    root, handler = logging.getLogger(), Tracking(logging.DEBUG)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        sent = track(tracker, 20)
        assert tracker.flush(60)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert sent <= ids(sink)
    assert not [name for name in heard if name.startswith(("urllib3", "http", "opentelemetry"))]


def test_delivery_17_a_bomb_costs_no_memory(tracker: Tracker, sink: Sink) -> None:
    sink.script([bomb(), bomb()])
    sent = track(tracker, 20)
    tracker.flush(0.1)
    tracemalloc.start()
    try:
        persist(tracker)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ids(sink) == sent
    # the sink is in this process, and makes the bomb in pieces of a megabyte
    assert peak < 12_000_000


def test_delivery_04_only_a_2xx_whose_body_was_read_ends_the_wait(tracker: Tracker, sink: Sink) -> None:
    """Redirects, resets and pages are tried again, and never followed."""
    with Sink() as elsewhere:
        sink.script([redirect(elsewhere.url), reset(), 204])
        sent = track(tracker, 20)
        persist(tracker)
        assert not elsewhere.requests
    assert ids(sink) == sent
    assert adds_up(tracker)["delivered"] == 20
