"""No secret leaves: every listed shape in every field of every public call, searched for in all that leaves.

The section "Redaction and secrets" of the delivery promises; what each pattern does is in the redactor's own tests.
"""

from __future__ import annotations

import inspect
import json
import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rootspan import Tracker
from rootspan.interaction import Interaction, Step
from samples import SHAPES, pieces
from sinks import Sink

KEY = "rs-live-0123456789-our-own-key"
DENIED = ("password", "api_key", "Authorization", "clientSecret", "x-api-key", "session_token", "sessionid", "Cookie")
NOT_VALUES = {"session_id", "target", "timeout", "self", "fn", "factory"}  # ids of ours, or the host's functions


def calls(tracker: Tracker) -> Iterator[Callable[[Any], object]]:
    """Every public call that records, with each of its parameters: a function of that parameter's value."""
    for owner in (Tracker, Interaction):
        for name in dir(owner):
            method = inspect.getattr_static(owner, name)
            if name.startswith("_") or not inspect.isfunction(method) or name in NOT_CALLED:
                continue
            for parameter in list(inspect.signature(method).parameters.values())[1:]:
                if parameter.name not in NOT_VALUES and parameter.kind != inspect.Parameter.VAR_KEYWORD:
                    yield partial(call, tracker, owner, name, parameter.name)


NOT_CALLED = {
    "default", "reconfigure", "lent", "flush", "shutdown", "stats", "current", "carry", "activate",
    "leave", "start_step", "tool", "interaction",
}  # fmt: skip


def call(tracker: Tracker, owner: type, name: str, parameter: str, value: Any) -> None:
    """Make one call with one odd argument, in the place where it belongs."""
    handle = tracker.begin("turn") if owner is Interaction else None
    target: Any = handle or tracker
    method = getattr(target, name)
    arguments: dict[str, Any] = {parameter: value}
    names = inspect.signature(method).parameters
    if "session_id" in names and name == "complete_session":
        arguments["session_id"] = tracker.create_session("work")
    if "target" in names:
        arguments["target"] = tracker.track_ai("answer")
    needed = [
        p.name for p in names.values() if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    arguments |= {p: "x" for p in needed if p not in arguments}
    made = method(**arguments)
    if isinstance(made, Step):
        made.finish()
    elif hasattr(made, "__enter__"):
        with made:
            tracker.track_ai("inside")
    if handle is not None:
        handle.finish()


def everything(tracker: Tracker, sink: Sink, directory: Path, caplog: pytest.LogCaptureFixture) -> bytes:
    """Return all that left: on the disk, on the wire without the header that carries the key, in the log."""
    disk = b"".join(path.read_bytes() for path in directory.glob("*")) if directory.exists() else b""
    sink.restart()
    assert tracker.flush(60)
    tracker.shutdown()
    wire = b""
    for request in sink.requests:
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        wire += request.body + request.path.encode()
        wire += "\n".join(f"{k}: {v}" for k, v in request.headers.items() if k.lower() != "authorization").encode()
    assert sink.spans
    return disk + wire + caplog.text.encode() + repr(tracker.stats()).encode()


@pytest.fixture(params=["memory", "spool", "json"])
def place(request: pytest.FixtureRequest, sink: Sink, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Any:
    """A tracker whose collector is down for now, so that its spool fills; and what became of all that."""
    caplog.set_level(logging.DEBUG)
    sink.stop()
    options = {"spool": str(tmp_path / "spool")} if request.param == "spool" else {}
    protocol = "http/json" if request.param == "json" else "http/protobuf"
    tracker = Tracker(endpoint=sink.url, api_key=KEY, protocol=protocol, timeout=20, **options)
    yield tracker, lambda: everything(tracker, sink, tmp_path / "spool", caplog)
    tracker.shutdown()


def test_every_shape_in_every_field_of_every_call(place: Any) -> None:
    tracker, all_that_left = place
    count = 0
    for make in calls(tracker):
        for secret in SHAPES.values():
            make(f"use {secret} for it")
            count += 1
    assert count > 100 * len(SHAPES)
    left = all_that_left()
    leaked = [shape for shape, secret in SHAPES.items() for piece in pieces(secret) if piece.encode() in left]
    assert not set(leaked)
    assert b"for it" in left


@pytest.mark.parametrize("where", ["key", "nested", "text"])
def test_a_value_under_a_denied_key_in_every_field(where: str, place: Any) -> None:
    tracker, all_that_left = place
    hidden: list[str] = []
    for make in calls(tracker):
        for name in DENIED:
            value = f"hidden{len(hidden)}value"
            hidden.append(value)
            if where == "text":
                make(json.dumps({name: value}))
            elif where == "nested":
                make({"rows": [{"deep": {name: value}, "plain": 1}]})
            else:
                make({name: value})
    left = all_that_left()
    assert not [value for value in hidden if value.encode() in left]


def test_our_own_key_in_every_field(place: Any) -> None:
    tracker, all_that_left = place
    for make in calls(tracker):
        make(f"the key is {KEY}!")
        make({"note": KEY, KEY: 1})
    assert KEY.encode() not in all_that_left()


def test_what_exceptions_and_decorated_functions_carry(place: Any) -> None:
    tracker, all_that_left = place
    for secret in SHAPES.values():

        @tracker.tool
        def look_up(query: str, password: str) -> dict[str, str]:
            return {"answer": query, "token": "hiddenvalue1"}

        @tracker.interaction(event="handle")
        def handle(message: str) -> None:
            raise RuntimeError(f"cannot use {message}")

        look_up(f"use {secret}", password="hiddenvalue2")
        with suppress(RuntimeError):
            handle(secret)
        with suppress(ValueError), tracker.begin("turn"), tracker.tool_span("tool"):
            raise ValueError({"api_key": "hiddenvalue3"}, secret)
    left = all_that_left()
    assert not {shape for shape, secret in SHAPES.items() for piece in pieces(secret) if piece.encode() in left}
    assert not [n for n in range(1, 4) if f"hiddenvalue{n}".encode() in left]


def test_a_hook_that_raises_sends_nothing_raw_and_personal_data_is_opt_in(sink: Sink) -> None:
    def hook(path: str, value: Any) -> Any:
        if value == "raise":
            raise RuntimeError("mine")
        return "replaced" if value == "replace" else value

    tracker = Tracker(endpoint=sink.url, redact=hook, redact_pii=["email", "card"], compression="none")
    tracker.track_ai("event", input="raise", output="replace", properties={"mail": "ask ann@example.com", "n": 3})
    tracker.track_ai("card", input="pay with 4111 1111 1111 1111 now")
    assert tracker.flush(60)
    tracker.shutdown()
    event = sink.one("event")
    assert event.attributes["input.value"] == "[dropped: redact hook raised]"
    assert event.attributes["output.value"] == "replaced"
    assert event.attributes["mail"] == "ask [redacted:email]"
    assert sink.one("card").attributes["input.value"] == "pay with [redacted:card] now"


def test_content_can_be_left_out_and_the_rest_stays(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """`capture_content=False`, and what OpenTelemetry's variable says."""
    for options, variable in (({"capture_content": False}, ""), ({}, "false")):
        monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", variable)
        tracker = Tracker(endpoint=sink.url, compression="none", **options)
        with tracker.begin("turn", input="private words", user_id="u1") as turn:
            tracker.track_ai(
                "answer", input=[{"role": "user", "content": "private words"}], output="private words", model="gpt-4o",
                prompt_tokens=3, completion_tokens=4, estimated_cost=0.5,
            )  # fmt: skip
            tracker.track_tool_call("tool", tool_input={"q": "private words"}, tool_output="private words")
            tracker.track_decision(reasoning="private words", alternatives=["private words"])
            turn.update(output="private words")
        assert tracker.flush(60)
        tracker.shutdown()
        assert not any(b"private words" in request.body for request in sink.requests)
        answer = sink.find("answer")[-1]
        assert answer.attributes["gen_ai.usage.input_tokens"] == 3
        assert answer.attributes["gen_ai.usage.cost"] == 0.5
        assert answer.attributes["user.id"] == "u1"


def test_the_key_shows_nowhere(sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    tracker = Tracker(endpoint=sink.url, api_key=KEY, headers={"x-token": "header-secret-value"})
    sink.script([401, 503])
    tracker.track_ai("event")
    tracker.flush(2)
    shown = [repr(tracker.settings), str(tracker.settings), str(tracker.settings.api_key), caplog.text]
    shown += [repr(pickle.dumps(tracker.settings.api_key)), repr(pickle.dumps(tracker.settings.headers))]
    shown += [f"{tracker.settings.api_key:>40}", tracker.settings.fingerprint, repr(vars(tracker))]
    tracker.shutdown()
    assert not [text for text in shown if KEY in text or "header-secret-value" in text]
    assert "***-key" in shown[0]
