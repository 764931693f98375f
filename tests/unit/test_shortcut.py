"""Which events take the short way to their bytes, which take the long one, and that both lead to the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import use_span

from rootspan.adapter import RequestInfo, RequestOptions, RequestRoot, open_request
from rootspan.shortcut import _MOST
from shortcuts import Ways

WHOLE = {
    "user_id": "user_42",
    "convo_id": "conv_abc",
    "model": "gpt-4o",
    "provider": "openai",
    "input": "When will it arrive?",
    "output": "On Thursday.",
    "properties": {"plan": "pro", "turn": 3, "trial": False, "score": 0.87},
}
PLAIN: dict[str, dict[str, Any]] = {
    "everything": WHOLE,
    "nothing": {},
    "only a user": {"user_id": "ada"},
    "properties of nobody": {"properties": {"plan": "pro"}},
    "no properties": {"properties": {}},
    "text of every kind": {"input": 'é 密 😀 "quoted" \\ \n\t\0', "output": ""},
    "a long text": {"input": "x" * 100_000, "output": "y" * 3_000, "properties": {"long": "z" * 500}},
    "a secret in a text": {"input": "my key is sk-proj-q7Rabcdefghijklmnopqrstuvwxyz123456W4z"},
    "tokens and cost": {**WHOLE, "prompt_tokens": 12, "completion_tokens": 0, "estimated_cost": 0.25},
    "a duration": {**WHOLE, "duration": 1.5},
    "tags": {**WHOLE, "tags": ["beta", "eu"]},
    "all that a model tells": {
        **WHOLE,
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "estimated_cost": 0.25,
        "cache_read_tokens": 4,
        "cache_creation_tokens": 0,
        "reasoning_tokens": 2,
        "response_model": "gpt-4o-2024",
        "finish_reasons": ["stop"],
        "agent_name": "desk",
        "operation": "text_completion",
    },
    "messages": {"input": [{"role": "user", "content": "Hi"}], "output": {"role": "assistant", "content": "Hello"}},
    "a number in": {"input": 3},
    "a secret in a message": {"input": [{"role": "user", "content": "sk-proj-q7Rabcdefghijklmnopqrstuvwxyz123456W4z"}]},
    "a denied key in what came out": {"output": {"apiKey": "x", "n": 3}},
    "properties that are none": {"properties": "pro"},
    "nested properties": {"user_id": "ada", "properties": {"plan": {"name": "pro"}}},
    "messages that are too long": {"input": [{"role": "user", "content": "x" * 200_000}] * 6},
    "a long user": {"user_id": "u" * 300},
    "another end than usual": {"finish_reasons": ["length"], "output": "On Thu"},
}
ODD: dict[str, dict[str, Any]] = {
    "an error": {"error": "no answer"},
    "a text that has to be cut": {"input": "x" * 2_000_000},
    "a text that JSON makes too long": {"input": "x" * 600_000},
    "a property that is denied": {"properties": {"apiKey": "x"}},
    "a secret in a property": {"properties": {"note": "sk-proj-q7Rabcdefghijklmnopqrstuvwxyz123456W4z"}},
    "a property that is ours": {"properties": {"user_id": "ada"}},
    "a property that hides one of ours": {"properties": {"user": "ada"}},
    "a property that is an image": {"properties": {"picture": "data:image/png;base64," + "A" * 300}},
    "a property that is a file": {"properties": {"data": "A" * 300}},
    "a dotted property": {"properties": {"a.b": 1}},
    "a property that is nothing": {"properties": {"plan": None}},
    "a property that is no number": {"properties": {"score": float("nan")}},
    "a property beyond 64 bits": {"properties": {"id": 2**63}},
    "properties that are too long": {"properties": {"note": "z" * 1_048_500}},
    "half a character": {"input": "\ud800"},
    "a secret for a user": {"user_id": "sk-proj-q7Rabcdefghijklmnopqrstuvwxyz123456W4z"},
    "a long model": {"model": "m" * 2_000},
    "labels that are long together": {"model": "m" * 900, "provider": "p" * 900, "response_model": "r" * 900},
    "tokens that cannot be": {"prompt_tokens": -1},
}


@pytest.fixture(scope="module")
def ways() -> Ways:
    return Ways()


@pytest.mark.parametrize("fields", PLAIN.values(), ids=PLAIN)
def test_a_plain_event_takes_the_short_way(ways: Ways, fields: dict[str, Any]) -> None:
    for _ in range(2):  # the second time much is known already
        ways.tracker.track_ai("answer", **fields)
        ((short, long),) = ways.both()
        assert short == long


@pytest.mark.parametrize("fields", ODD.values(), ids=ODD)
def test_an_odd_event_takes_the_long_way(ways: Ways, fields: dict[str, Any]) -> None:
    for _ in range(2):
        ways.tracker.track_ai("answer", **fields)
        ((short, _),) = ways.both()
        assert short is None


def test_people_and_properties_that_are_too_long_together_take_the_long_way() -> None:
    short_ones = Ways(max_content_length=600)
    short_ones.tracker.track_ai("answer", user_id="u" * 183, convo_id="c" * 158, properties={"plan": "p" * 284})
    shorter_ones = Ways(max_content_length=300)
    shorter_ones.tracker.track_ai("answer", user_id="u" * 183, convo_id="c" * 158)
    for ways in (short_ones, shorter_ones):
        ((short, _),) = ways.both()
        assert short is None


def test_a_text_that_redaction_makes_too_long_takes_the_long_way() -> None:
    ways = Ways(max_content_length=800)  # of which JSON may need six for a character, and 200 around
    ways.tracker.track_ai("answer", input="x" * 90 + " apiKey=x")
    ways.tracker.track_ai("answer", input="x" * 89 + " apiKey: ")
    assert [short is None for short, _ in ways.both()] == [True, False]


def test_steps_are_plain_and_failures_are_not(ways: Ways) -> None:
    for _ in range(2):
        ways.tracker.track_tool_call("search", {"q": "x"}, {"n": 3}, call_id="call_1", reasoning="to know")
        ways.tracker.track_tool_call("search", call_id="sk-proj-q7Rabcdefghijklmnopqrstuvwxyz123456W4z")
        ways.tracker.track_decision("no stock", ["wait", "refund"], confidence=0.7)
        with ways.tracker.begin("turn", input="Hi") as turn:
            ways.tracker.track_ai("answer", output="Hello")
            with ways.tracker.tool_span("search", input="order 1042") as step:
                step.set_output([1, 2])
            turn.finish({"role": "assistant", "content": "Hello"}, custom_metrics={"steps": 2})
        session = ways.tracker.create_session(user_id="u1", name="Request")
        ways.tracker.complete_session(session, success=True, prompt_tokens=3)
        ways.tracker.track_feedback(session, "thumbs", score=1, comment="good")
        for short, long in ways.both():
            assert short == long
    ways.tracker.track_tool_call("search", error="no answer")
    ways.tracker.track_error("no answer")
    with ways.tracker.begin("turn") as turn:
        turn.finish("Hello", success=False, failure_reason="too late")
    assert {short for short, _ in ways.both()} == {None}


def test_labels_that_are_equal_and_not_the_same_are_told_apart(ways: Ways) -> None:
    for described in ("1", 1, True, 1.0):
        with ways.tracker.tool_span("search") as step:
            step._span.set(tool_description=described)
    for short, long in ways.both():
        assert short in (None, long)


def test_an_attribute_in_place_of_one_of_ours_takes_the_long_way(ways: Ways) -> None:
    for name in ("user.id", "http.route"):
        request(ways, lambda root, name=name: root.set_attribute(name, "mine"))
        ((short, long),) = ways.both()
        assert short is None
        assert b"mine" in long


def request(ways: Ways, tell: Callable[[RequestRoot], object] | None = None, **options: Any) -> None:
    """A request that came with its caller's trace, and went well unless something else is told of it."""
    header = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}.get
    root = open_request(RequestInfo(None, "GET", "/", header=header), RequestOptions(tracker=ways.tracker, **options))
    assert root is not None
    with root.activate():
        if tell is not None:
            tell(root)
    root.set_route("/chat/{name}")
    root.set_status(200)
    root.finish()


def test_a_request_that_went_well_is_plain_with_what_was_tracked_in_it(ways: Ways) -> None:
    for _ in range(2):
        request(ways)
        request(ways, trace_context="ignore")
        request(ways, lambda root: ways.tracker.track_ai("answer", **WHOLE))
        request(ways, lambda root: root.cancel(), user_id=lambda request: "ada")
        request(ways, lambda root: (root.set_input("asked"), root.set_output("")))
        request(ways, lambda root: root.set_input([{"role": "user", "content": "Hi"}]))
        request(ways, lambda root: root.set_attribute("a", 1))
        request(ways, lambda root: root.set_attribute("a", 1), properties=lambda request: {"plan": "pro", "a.b": 1})
        request(ways, lambda root: root.write(b"a piece"))
        request(ways, lambda root: root._recorder.update_totals(root._span, 3, None, None))
        request(ways, capture_headers=["traceparent"])
        with use_span(TracerProvider().get_tracer("host").start_span("request")):
            request(ways)
    for short, long in ways.both():
        assert short == long


@pytest.mark.parametrize(
    "tell",
    [
        lambda root: root.fail(ValueError("no")),
        lambda root: root.set_status(500),
    ],
    ids=["an error", "a failure"],
)
def test_a_request_with_more_to_tell_takes_the_long_way(ways: Ways, tell: Callable[[RequestRoot], object]) -> None:
    for _ in range(2):
        request(ways, tell)
        ((short, _),) = ways.both()
        assert short is None


def test_an_interaction_without_children_is_plain(ways: Ways) -> None:
    ways.tracker.begin("turn", user_id="ada", input="Hi", model="gpt-4o").finish("Hello", success=True)
    ((short, long),) = ways.both()
    assert short == long


def test_an_interaction_with_children_is_plain(ways: Ways) -> None:
    with ways.tracker.begin("turn", user_id="ada", input="Hi") as turn:
        ways.tracker.track_ai("answer", model="gpt-4o", prompt_tokens=3, output="Hello")
        turn.finish("Hello")
    with ways.tracker.begin("turn") as turn:  # its totals are not those of its children
        ways.tracker.track_ai("answer", prompt_tokens=3)
        turn.finish(prompt_tokens=5)
    for short, long in ways.both():
        assert short == long


def test_an_event_in_a_host_span_or_a_scope_is_plain(ways: Ways) -> None:
    with use_span(TracerProvider().get_tracer("host").start_span("request")):
        ways.tracker.track_ai("answer", **WHOLE)
    with ways.tracker.context(user_id="ada", convo_id="c1", agent_name="desk", tags=["beta"]):
        ways.tracker.track_ai("answer", input="Hi")
    for short, long in ways.both():
        assert short == long
    with ways.tracker.context(user_id="ada", properties={"plan": "pro", "seats": 5}):
        ways.tracker.track_ai("answer", convo_id="c1", properties={"plan": "free", "n": 3})
        ways.tracker.track_ai("answer")
        ways.tracker.begin("turn", properties={"plan": "free"}).finish()
        ways.tracker.track_tool_call("search", {"q": "x"})
    with ways.tracker.context(properties={"apiKey": "x"}):
        ways.tracker.track_tool_call("search", {"q": "x"})
    for short, long in ways.both():
        assert short == long


@pytest.mark.parametrize(
    "options",
    [
        {"redact": lambda path, value: value},
        {"redact_pii": {"email"}},
        {"capture_content": False},
        {"extras": {"langfuse"}},
        {"protocol": "http/json"},
        {"exporters": [InMemorySpanExporter()]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_settings_that_leave_no_event_plain(options: dict[str, Any]) -> None:
    assert not Ways(**options).exists


def test_limits_of_the_host_leave_no_event_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_ATTRIBUTE_COUNT_LIMIT", "20")
    assert not Ways().exists


def test_what_is_remembered_is_bounded() -> None:
    ways = Ways()
    for number in range(_MOST + 10):
        ways.tracker.track_ai(f"event {number}", user_id=f"u{number}", properties={f"k{number}": number})
    assert all(short == long for short, long in ways.both())
    writer = ways.pipeline._shaping._short.__self__
    for known in (writer._heads, writer._people, writer._keys, writer._pairs):
        assert len(known) == 10
