"""What a record becomes on the wire, by table: the rules of the dialect, the backends' rows and every kind."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import time
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trying
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import SpanContext, TraceFlags

from rootspan import semconv
from rootspan.dialect import lengths, to_span
from rootspan.dialect.draft import Plan
from rootspan.encode import ProtobufEncoder
from rootspan.freeze import freeze
from rootspan.record import Identity, Kind, Record, SpanData, SpanEvent
from rootspan.settings import Settings

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
IDS = TRACE + SPAN
SETTINGS = Settings()
CONTAINERS = ("input", "output", "properties")


def record(kind: str = Kind.EVENT, **fields: Any) -> Record:
    """A record as the caller's thread leaves it: values are frozen here."""
    empty: dict[str, Any] = dict.fromkeys(Record._fields)
    empty.update(kind=kind, trace=IDS, span=IDS, start=1_000, end=2_000, name="user_message")
    empty.update(fields)
    for name in CONTAINERS:
        empty[name] = freeze(empty[name], 1 << 30)
    return Record(**empty)


def span(kind: str = Kind.EVENT, settings: Settings = SETTINGS, **fields: Any) -> SpanData:
    return to_span(record(kind, **fields), Plan(settings))


def attributes(kind: str = Kind.EVENT, settings: Settings = SETTINGS, **fields: Any) -> dict[str, Any]:
    return dict(span(kind, settings, **fields).attributes)


def messages(kind: str = Kind.EVENT, side: str = "input", **fields: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(attributes(kind, **fields)[f"gen_ai.{side}.messages"])
    return found


CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


# The seventeen rules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "output",
    [
        "Paris.",
        {"role": "assistant", "content": "Paris."},
        [{"role": "assistant", "content": c} for c in "ab"],
        {"n": 1},
    ],
)
def test_every_output_message_has_a_finish_reason(output: Any) -> None:
    """dialect 1"""
    fine = messages(side="output", output=output)
    failed = messages(side="output", output=output, outcome="failure")
    assert {message["finish_reason"] for message in fine} == {"stop"}
    assert {message["finish_reason"] for message in failed} == {"error"}
    known = messages(side="output", output=output, more={"finish_reasons": ("length",)})
    assert known[0]["finish_reason"] == "length"


def test_messages_are_one_json_string() -> None:
    """dialect 2"""
    found = attributes(input=CHAT, output="Hello")
    assert type(found["gen_ai.input.messages"]) is str
    assert json.loads(found["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": "Hello"}], "finish_reason": "stop"}
    ]


@pytest.mark.parametrize("kind", [Kind.EVENT, Kind.INTERACTION, Kind.SESSION, Kind.REQUEST, Kind.TOOL, Kind.STEP])
def test_input_and_output_are_plain_text_on_what_may_be_a_root(kind: str) -> None:
    """dialect 3"""
    found = attributes(kind, input="What's the capital?", output="Paris.", model="gpt-4o")
    assert (found["input.value"], found["input.mime_type"]) == ("What's the capital?", "text/plain")
    assert (found["output.value"], found["output.mime_type"]) == ("Paris.", "text/plain")
    assert "gen_ai.response.model" not in found


def test_dicts_and_lists_are_json_in_input_and_output() -> None:
    """dialect 3"""
    found = attributes(input=CHAT, output={"role": "assistant", "content": "Hello!"})
    assert json.loads(found["input.value"]) == CHAT
    assert json.loads(found["output.value"]) == {"role": "assistant", "content": "Hello!"}
    assert found["input.mime_type"] == found["output.mime_type"] == "application/json"


def test_a_model_call_that_an_integration_saw_carries_messages_only() -> None:
    """dialect 4"""
    found = attributes(Kind.MODEL, parent=IDS, input=CHAT, output="Hello", model="gpt-4o")
    assert not {"input.value", "output.value", "input.mime_type", "output.mime_type"} & set(found)
    assert {"gen_ai.input.messages", "gen_ai.output.messages"} <= set(found)


def test_a_model_call_that_is_the_root_shows_the_last_words_as_text() -> None:
    """dialect 3, 4"""
    found = attributes(Kind.MODEL, input=CHAT, output=[{"role": "assistant", "content": "Hello"}])
    assert (found["input.value"], found["output.value"]) == ("Hi", "Hello")
    assert found["input.mime_type"] == found["output.mime_type"] == "text/plain"
    assert len(json.loads(found["gen_ai.input.messages"])) == 2
    request = attributes(Kind.REQUEST, input=CHAT, output={"hits": 3})
    assert (request["input.value"], request["output.value"]) == ("Hi", '{"hits":3}')
    calls = [{"role": "assistant", "content": "", "tool_calls": [{"name": "f", "args": {}, "id": "1"}]}]
    assert json.loads(attributes(Kind.MODEL, output=calls)["output.value"]) == calls


@pytest.mark.parametrize(
    ("kind", "fields", "operation", "oi", "otlp"),
    [
        (Kind.EVENT, {"model": "gpt-4o"}, "chat", "LLM", 3),
        (Kind.EVENT, {"output_tokens": 3}, "chat", "LLM", 3),
        (Kind.EVENT, {"input_tokens": 0}, "chat", "LLM", 3),
        (Kind.EVENT, {}, None, "CHAIN", 1),
        (Kind.EVENT, {"model": "ada", "more": {"operation": "embeddings"}}, "embeddings", "EMBEDDING", 3),
        (Kind.EVENT, {"model": "ada", "more": {"operation": "my_own"}}, "chat", "LLM", 3),
        (Kind.INTERACTION, {"more": {"has_children": True}, "model": "gpt-4o"}, "invoke_agent", "AGENT", 1),
        (Kind.INTERACTION, {"model": "gpt-4o"}, "chat", "LLM", 3),
        (Kind.INTERACTION, {}, None, "CHAIN", 1),
        (Kind.SESSION, {"more": {"has_children": True}}, "invoke_agent", "AGENT", 1),
        (Kind.SESSION, {"name": "invoke_agent shop"}, "invoke_agent", "AGENT", 1),
        (Kind.SESSION, {"input_tokens": 1}, "chat", "LLM", 3),
        (Kind.SESSION, {}, None, "CHAIN", 1),
        (Kind.OUTCOME, {"input_tokens": 1}, None, "CHAIN", 1),
        (Kind.REQUEST, {"model": "gpt-4o"}, None, "CHAIN", 2),
        (Kind.TOOL, {}, "execute_tool", "TOOL", 1),
        (Kind.DECISION, {}, None, "CHAIN", 1),
        (Kind.ERROR, {}, None, "CHAIN", 1),
        (Kind.STEP, {}, None, "CHAIN", 1),
        (Kind.STEP, {"more": {"operation": "invoke_agent"}}, "invoke_agent", "AGENT", 1),
        (Kind.MODEL, {}, "chat", "LLM", 3),
        (Kind.RETRIEVAL, {}, "retrieval", "RETRIEVER", 1),
        (Kind.FEEDBACK, {}, None, "CHAIN", 1),
        ("a kind of tomorrow", {}, None, "CHAIN", 1),
    ],
)
def test_the_operation_is_a_known_one_or_absent(
    kind: str, fields: dict[str, Any], operation: str | None, oi: str, otlp: int
) -> None:
    """dialect 5"""
    found = span(kind, **fields)
    assert found.attributes.get("gen_ai.operation.name") == operation
    assert found.attributes["openinference.span.kind"] == oi
    assert found.kind == otlp


@pytest.mark.parametrize(
    ("given", "sent"), [(3, 3), (3.0, 3), (0, 0), (-1, None), (2**70, None), (1.5, None), (True, None)]
)
def test_tokens_are_ints_or_absent(given: Any, sent: int | None) -> None:
    """dialect 6"""
    found = attributes(input_tokens=given, more={"cache_read_tokens": given})
    assert found.get("gen_ai.usage.input_tokens") == sent
    assert type(found.get("gen_ai.usage.input_tokens")) is type(sent)
    assert found.get("gen_ai.usage.cache_read.input_tokens") == sent
    assert ("input_tokens" in found.get("rootspan.dropped_fields", ())) is (sent is None)


def test_cost_goes_out_under_both_keys_as_a_double() -> None:
    """dialect 7"""
    found = attributes(cost=1, settings=Settings(extras=frozenset({"mlflow"})))
    assert found["gen_ai.usage.cost"] == found["llm.cost.total"] == 1.0
    assert type(found["gen_ai.usage.cost"]) is type(found["llm.cost.total"]) is float
    assert json.loads(found["mlflow.llm.cost"]) == {"total_cost": 1.0}
    for odd in (float("nan"), float("inf"), -0.1, True, "free"):
        found = attributes(cost=odd)
        assert "gen_ai.usage.cost" not in found
        assert found["rootspan.dropped_fields"] == ["cost"]


def test_no_other_number_looks_like_a_token_type() -> None:
    """dialect 8"""
    more = dict.fromkeys(("cache_read_tokens", "cache_creation_tokens", "reasoning_tokens"), 1)
    found = attributes(cost=0.1, input_tokens=1, output_tokens=1, more=more)
    assert {name for name in found if name.startswith("gen_ai.usage.")} == {
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.cost",
    }


def test_a_property_never_hides_a_name_that_we_write() -> None:
    """dialect 9"""
    properties = {"user": "bob", "user.id.hash": "x", "metadata": 1, "a": 1, "a.b": 2, "plan": "pro", "x.y": 3}
    found = attributes(user_id="u1", properties=properties, more={"attributes": {"plan.size": 1}})
    assert found["user.id"] == "u1"
    assert found["x.y"] == 3
    assert not {"user", "user.id.hash", "a", "a.b", "plan"} & set(found)
    assert json.loads(found["metadata"]) == {**properties, "user_id": "u1"}
    assert not [key for key in found for other in found if other.startswith(f"{key}.")]


@pytest.mark.parametrize("field", ["properties", "custom_metrics", "many properties"])
def test_time_grows_no_faster_than_the_names(field: str) -> None:
    """Of 40,000 dots, or of 8,000 properties beside as many attributes, four times as many as of the fourth part."""

    def seconds(size: int) -> float:
        dotted: dict[str, Any] = {"a." * size: 1}
        fields: dict[str, Any] = {"properties": dotted}
        if field == "custom_metrics":
            fields = {"more": {"custom_metrics": freeze(dotted, 1 << 30)}}
        elif field == "many properties":
            names = [f"a{number}" for number in range(size // 5)]
            given = {f"b{name}": 1 for name in names}
            fields = {"properties": dict.fromkeys(names, 1), "more": {"attributes": given}}
        made = record(**fields)
        start = time.thread_time()
        to_span(made, Plan(SETTINGS))
        return time.thread_time() - start

    for _attempt in range(5):
        short = max(seconds(10_000), 0.002)
        if seconds(40_000) < 9 * short:
            return
    pytest.fail("the time grows faster than the names")


def test_the_agent_has_both_names() -> None:
    """dialect 10"""
    named = Settings(service_name="shop")
    for fields, settings, agent in (
        ({"more": {"agent_name": "own"}, "inherited": Identity(agent_name="outer")}, named, "own"),
        ({"inherited": Identity(agent_name="outer")}, named, "outer"),
        ({"more": {"agent_name": ""}, "inherited": Identity(agent_name="")}, named, "shop"),
        ({}, named, "shop"),
        ({}, Settings(agent_name="configured"), "configured"),
        ({}, Settings(resource_attributes={"service.name": "unknown_service"}), None),
    ):
        found = attributes(settings=settings, **fields)
        assert found.get("gen_ai.agent.name") == found.get("agent.name") == agent


@pytest.mark.parametrize("kind", sorted(value for name, value in vars(Kind).items() if name.isupper()))
def test_session_and_user_are_on_every_span_under_every_name(kind: str) -> None:
    """dialect 11, dialect 12"""
    found = attributes(kind, inherited=Identity(user_id="u1", convo_id="c1"))
    assert found["session.id"] == found["gen_ai.conversation.id"] == "c1"
    assert found["user.id"] == "u1"
    assert json.loads(found["metadata"]) == {"session_id": "c1", "user_id": "u1"}
    own = attributes(kind, inherited=Identity(user_id="u1", convo_id="c1"), user_id="u2", convo_id="c2")
    assert (own["session.id"], own["user.id"]) == ("c2", "u2")


def test_a_record_is_one_complete_span() -> None:
    """dialect 13"""
    found = span(parent="f" * 48)
    assert (found.trace_id, found.span_id, found.parent_id) == (TRACE, SPAN, "f" * 16)
    assert (found.start, found.end, found.name) == (1_000, 2_000, "user_message")


@pytest.mark.parametrize(
    ("score", "sent"), [(1, {"value": 1.0}), (0.5, {"value": 0.5}), (True, {"value": 1.0}), ("good", {"label": "good"})]
)
def test_feedback_is_a_span_with_ids_to_write_it_elsewhere(score: Any, sent: dict[str, Any]) -> None:
    """dialect 14"""
    more = {"score": score, "comment": "nice", "target": SPAN}
    found = span(Kind.FEEDBACK, name="thumbs", link=IDS, more=more)
    assert found.name == "gen_ai.evaluation.result"
    assert found.attributes["gen_ai.evaluation.name"] == "thumbs"
    assert found.attributes["gen_ai.evaluation.explanation"] == "nice"
    assert found.attributes["rootspan.target.span_id"] == SPAN
    assert {f"gen_ai.evaluation.score.{key}": value for key, value in sent.items()}.items() <= found.attributes.items()
    assert [(link.trace_id, link.span_id) for link in found.links] == [(TRACE, SPAN)]
    assert not span(Kind.FEEDBACK, name="thumbs", more=more).links, "a span id alone leads nowhere"


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"outcome": "failure", "error": ("ValueError", "no good")}, "ValueError", "no good"),
        ({"outcome": "failure", "error": (None, "no good")}, "_OTHER", "no good"),
        ({"outcome": "failure"}, "_OTHER", ""),
        ({"error": ("ValueError", None)}, "ValueError", "ValueError"),
        ({"kind": Kind.ERROR, "error": ("Timeout", "5 s")}, "Timeout", "5 s"),
    ],
)
def test_a_failure_is_a_status_a_type_and_an_exception_event(fields: dict[str, Any], kind: str, message: str) -> None:
    """dialect 15"""
    found = span(**fields)
    assert (found.status_code, found.status_message) == (2, message)
    assert found.attributes["error.type"] == kind
    assert [(event.name, event.time, event.attributes["exception.type"]) for event in found.events] == [
        ("exception", 2_000, kind)
    ]


@pytest.mark.parametrize("outcome", ["cancelled", "interrupted", "abandoned", "unfinished", "success"])
def test_other_outcomes_are_no_errors(outcome: str) -> None:
    """dialect 15"""
    error = None if outcome == "success" else ("CancelledError", "")
    found = span(outcome=outcome, error=error)
    assert (found.status_code, found.events, found.attributes["rootspan.outcome"]) == (0, (), outcome)
    assert "error.type" not in found.attributes


def test_tags_are_inherited_unique_and_vendor_keys_are_opt_in() -> None:
    """dialect 16"""
    fields: dict[str, Any] = {"inherited": Identity(tags=("a", "b")), "more": {"tags": ("b", "c")}}
    assert attributes(**fields)["tag.tags"] == ["a", "b", "c"]
    assert not [name for name in attributes(**fields) if name.startswith(("mlflow", "langsmith"))]
    found = attributes(settings=Settings(extras=frozenset({"mlflow", "langsmith"})), properties={"plan": 3}, **fields)
    assert found["langsmith.span.tags"] == "a,b,c"
    assert found["mlflow.traceTag.a"] == "true"
    assert found["mlflow.traceTag.plan"] == "3"


def test_no_usage_is_written_that_nobody_gave() -> None:
    """dialect 17"""
    found = attributes(model="gpt-4o", outcome="failure")
    assert not [name for name in found if "usage" in name or "cost" in name]


# The backends' rows that can be seen from here -----------------------------------------------------------------------


def test_langfuse_row() -> None:
    found = attributes(settings=Settings(extras=frozenset({"langfuse"})), properties={"plan": "pro", "user": "bob"})
    assert found["langfuse.trace.metadata.plan"] == "pro"
    assert found["langfuse.trace.metadata.user"] == "bob"


def test_traceloop_row_lights_up_the_workshop() -> None:
    settings = Settings(extras=frozenset({"traceloop"}))
    found = attributes(settings=settings, user_id="u", convo_id="c", properties={"plan": "pro", "user_id": "theirs"})
    prefix = "traceloop.association.properties."
    assert {name[len(prefix) :]: value for name, value in found.items() if name.startswith(prefix)} == {
        "user_id": "u",
        "convo_id": "c",
        "event_name": "user_message",
        "plan": "pro",
    }


def test_langsmith_row() -> None:
    found = attributes(user_id="u", convo_id="c", properties={"session_id": "theirs"}, provider="openai")
    assert json.loads(found["metadata"]) == {"session_id": "c", "user_id": "u"}
    assert "gen_ai.system" not in found
    langsmith = Settings(extras=frozenset({"langsmith"}))
    assert attributes(settings=langsmith, provider="openai")["gen_ai.system"] == "openai"


def test_bentolabs_row() -> None:
    found = attributes(settings=Settings(extras=frozenset({"bentolabs"})), user_id="u", provider="aws_bedrock")
    assert (found["gen_ai.user.id"], found["gen_ai.system"]) == ("u", "aws.bedrock")
    assert found["gen_ai.provider.name"] == "aws.bedrock"


def test_tool_row() -> None:
    more = {"call_id": "c1", "tool_description": "d", "reasoning": "why"}
    found = attributes(Kind.TOOL, name="search", input={"q": "x"}, output="sunny", more=more)
    assert found["gen_ai.tool.name"] == "search"
    assert found["gen_ai.tool.call.id"] == "c1"
    assert found["gen_ai.tool.description"] == "d"
    assert found["rootspan.decision.reasoning"] == "why"
    assert json.loads(found["gen_ai.tool.call.arguments"]) == {"q": "x"}
    assert json.loads(found["gen_ai.tool.call.result"]) == "sunny"
    assert found["output.value"] == "sunny"
    assert json.loads(attributes(Kind.TOOL, input='{"q": 1}')["gen_ai.tool.call.arguments"]) == {"q": 1}
    assert json.loads(attributes(Kind.TOOL, input="{no json")["gen_ai.tool.call.arguments"]) == "{no json"
    assert attributes(Kind.ERROR, more={"tool_name": "search"})["gen_ai.tool.name"] == "search"


def test_retrieval_row() -> None:
    found = attributes(Kind.RETRIEVAL, input="query", output=[{"id": "1", "score": 0.5}])
    assert found["gen_ai.retrieval.query.text"] == "query"
    assert json.loads(found["gen_ai.retrieval.documents"]) == [{"id": "1", "score": 0.5}]


def test_model_row() -> None:
    more = {"response_model": "gpt-4o-2024", "finish_reasons": ("stop", "length")}
    found = attributes(Kind.MODEL, model="gpt-4o", more=more)
    assert found["gen_ai.response.model"] == "gpt-4o-2024"
    assert found["gen_ai.response.finish_reasons"] == ["stop", "length"]
    assert "gen_ai.response.model" not in attributes(model="gpt-4o", more={"response_model": "gpt-4o"})


def test_decision_row() -> None:
    more = {"reasoning": "search first", "alternatives": freeze(["a", "b"], 99), "confidence": 1}
    found = attributes(Kind.DECISION, more=more)
    assert found["rootspan.decision.reasoning"] == "search first"
    assert found["rootspan.decision.alternatives"] == ["a", "b"]
    assert found["rootspan.decision.confidence"] == 1.0
    odd = attributes(Kind.DECISION, more={"confidence": float("nan")})
    assert odd["rootspan.dropped_fields"] == ["confidence"]


TOTAL_TOKENS = {"rootspan.session.input_tokens": 1, "rootspan.session.output_tokens": 2}
TOTAL_COST = {"rootspan.session.cost": 0.5}
OWN_TOKENS = {"gen_ai.usage.input_tokens": 1, "gen_ai.usage.output_tokens": 2}
OWN_COST = {"gen_ai.usage.cost": 0.5, "llm.cost.total": 0.5}


@pytest.mark.parametrize(
    ("kind", "more", "sent"),
    [
        (Kind.SESSION, {"tokens_below": True, "cost_below": True}, TOTAL_TOKENS | TOTAL_COST),
        (Kind.SESSION, {"tokens_below": True}, TOTAL_TOKENS | OWN_COST),
        (Kind.SESSION, {"cost_below": True}, OWN_TOKENS | TOTAL_COST),
        (Kind.SESSION, {"tokens_below": False}, OWN_TOKENS | OWN_COST),
        (Kind.INTERACTION, {}, OWN_TOKENS | OWN_COST),
        (Kind.OUTCOME, None, TOTAL_TOKENS | TOTAL_COST),
        (Kind.OUTCOME, {"tokens_below": False, "cost_below": False}, OWN_TOKENS | OWN_COST),
    ],
)
def test_totals_are_never_counted_twice(kind: str, more: dict[str, Any] | None, sent: dict[str, Any]) -> None:
    found = attributes(kind, input_tokens=1, output_tokens=2, cost=0.5, more=more)
    names = ("gen_ai.usage", "llm.cost", "rootspan.session")
    assert {name: found[name] for name in found if name.startswith(names)} == sent


def test_session_name_and_metrics() -> None:
    metrics = {"score": 0.5, "n": 2, "deep": {"a": 1}, "a": 1, "a.b": 2, "none": None}
    more = {"session_name": "Request: hi", "custom_metrics": freeze(metrics, 999)}
    found = attributes(Kind.SESSION, more=more)
    assert found["rootspan.session.name"] == "Request: hi"
    prefix = "rootspan.metric."
    sent = {name[len(prefix) :]: value for name, value in found.items() if name.startswith(prefix)}
    assert sent == {"score": 0.5, "n": 2, "deep": '{"a":1}', "a": 1, "a_b": 2}
    assert not [name for name in attributes(more={"custom_metrics": "x"}) if name.startswith(prefix)]


# Messages ------------------------------------------------------------------------------------------------------------


def text(content: str) -> dict[str, str]:
    return {"type": "text", "content": content}


CALL = {"type": "tool_call", "id": "c1", "name": "search", "arguments": {"q": "x"}}
ANSWER = {"type": "tool_call_response", "id": "c1", "response": "found"}
PNG = "iVBORw0KGgo="
BLOB = "[8 bytes, sha256 {}]".format(hashlib.sha256(b"\x89PNG\r\n\x1a\n").hexdigest()[:16])


def one(role: str, *parts: Any, **extra: Any) -> list[dict[str, Any]]:
    return [{"role": role, "parts": list(parts), **extra}]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Hi", one("user", text("Hi"))),
        ({"q": 1}, one("user", text('{"q":1}'))),
        (["a", "b"], one("user", text('["a","b"]'))),
        ([], one("user", text("[]"))),
        (7, one("user", text("7"))),
        ({"role": "admin", "name": "Bob"}, one("user", text('{"role":"admin","name":"Bob"}'))),
        ([["human", "hi"], ["ai", "ho"]], [*one("user", text("hi")), *one("assistant", text("ho"))]),
        ([[{"role": "user", "content": "hi"}]], one("user", text("hi"))),
        ([{"role": "user", "content": "hi"}, 5], one("user", text('[{"role":"user","content":"hi"},5]'))),
        (CHAT, [*one("system", text("Be brief.")), *one("user", text("Hi"))]),
        ([{"role": "developer", "content": "x", "name": "n"}], one("system", text("x"), name="n")),
        ({"messages": [{"type": "human", "content": "hi"}], "other": 1}, one("user", text("hi"))),
        ([{"lc": 1, "id": ["x", "HumanMessage"], "kwargs": {"content": "hi"}}], one("user", text("hi"))),
        (
            [{"id": ["x", "HumanMessage"], "kwargs": {"content": "hi"}}],  # somebody else's
            one("user", text('[{"id":["x","HumanMessage"],"kwargs":{"content":"hi"}}]')),
        ),
        (
            [{"lc": 1, "id": [], "kwargs": {"content": "hi"}}],
            one("user", text('[{"lc":1,"id":[],"kwargs":{"content":"hi"}}]')),
        ),
        ([{"role": "tool", "tool_call_id": "c1", "content": "found"}], one("tool", ANSWER)),
        ([{"type": "tool", "tool_call_id": "c1", "content": "found"}], one("tool", ANSWER)),
        (
            [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "found"}]}],
            one("user", ANSWER),
        ),
        ([{"type": "function_call_output", "call_id": "c1", "output": "found"}], one("tool", ANSWER)),
        ([{"role": "tool", "parts": [ANSWER]}], one("tool", ANSWER)),
        (
            [{"role": "user", "parts": [{"functionResponse": {"name": "c1", "response": "found"}}]}],
            one("user", ANSWER),
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/a.png"}}]}],
            one("user", {"type": "uri", "modality": "image", "uri": "https://x/a.png"}),
        ),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"}]}],
            one("user", {"type": "blob", "modality": "image", "mime_type": "image/png", "content": BLOB}),
        ),
        (
            [{"role": "user", "content": [{"type": "image", "source": {"media_type": "image/png", "data": PNG}}]}],
            one("user", {"type": "blob", "modality": "image", "mime_type": "image/png", "content": BLOB}),
        ),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "not base64!"}}]}],
            one(
                "user",
                {
                    "type": "blob",
                    "modality": "audio",
                    "content": f"[11 bytes, sha256 {hashlib.sha256(b'not base64!').hexdigest()[:16]}]",
                },
            ),
        ),
        (
            [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f1"}}]}],
            one("user", {"type": "file", "modality": "document", "file_id": "f1"}),
        ),
        (
            [
                {
                    "role": "user",
                    "content": [{"video": {"format": "mp4", "source": {"s3Location": {"uri": "s3://b/k"}}}}],
                }
            ],
            one("user", {"type": "uri", "modality": "video", "uri": "s3://b/k"}),
        ),
        (
            [{"role": "user", "content": [{"document": {"name": "r", "source": {"text": "all of it"}}}]}],
            one("user", text('{"document":{"name":"r","source":{"text":"all of it"}}}')),
        ),
        (
            {"model": "m", "prompt": "what is it?", "images": [PNG]},
            one("user", text("what is it?"), {"type": "blob", "modality": "image", "content": BLOB}),
        ),
        (
            [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": PNG}}, {"text": "see"}]}],
            one("user", {"type": "blob", "modality": "image", "mime_type": "image/png", "content": BLOB}, text("see")),
        ),
        (
            [{"role": "user", "parts": [{"type": "blob", "modality": "image", "content": PNG}]}],
            one("user", {"type": "blob", "modality": "image", "content": BLOB}),
        ),
        ([{"role": "user", "content": [{"type": "mine", "x": 1}]}], one("user", {"type": "mine", "x": 1})),
        ([{"role": "user", "content": [{"x": 1}, 5]}], one("user", text('{"x":1}'), text("5"))),
        ([{"role": "user", "content": {"text": "hi"}}], one("user", text("hi"))),
        (
            [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://x/a"}}]}],
            one("user", {"type": "uri", "modality": "image", "uri": "https://x/a"}),
        ),
        (
            [{"role": "user", "content": [{"text": "hi"}, {"toolResult": {"toolUseId": "c1", "content": "found"}}]}],
            one("user", text("hi"), ANSWER),
        ),
        (
            [{"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": b"\x89PNG\r\n\x1a\n"}}}]}],
            one("user", {"type": "blob", "modality": "image", "content": BLOB}),
        ),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": PNG}]}],
            one("user", {"type": "blob", "modality": "audio", "content": BLOB}),
        ),
        (
            [{"role": "user", "content": [{"type": "image", "image": "https://x/a.png"}]}],
            one("user", {"type": "uri", "modality": "image", "uri": "https://x/a.png"}),
        ),
        (
            [{"role": "user", "content": [{"type": "document_url", "document_url": "https://x/a"}]}],
            one("user", {"type": "uri", "modality": "document", "uri": "https://x/a"}),
        ),
        (
            [{"role": "user", "content": "see", "images": [PNG]}],
            one("user", text("see"), {"type": "blob", "modality": "image", "content": BLOB}),
        ),
        (
            [{"role": "tool", "content": [{"type": "tool-result", "toolCallId": "c1", "output": "found"}]}],
            one("tool", ANSWER),
        ),
        ([{"type": "custom_tool_call_output", "call_id": "c1", "output": "found"}], one("tool", ANSWER)),
        ([{"role": None, "parts": [{"text": "hi"}]}], one("user", text("hi"))),
        ({"model": "m", "input": "hi"}, one("user", text("hi"))),
        ({"input": "hi"}, one("user", text('{"input":"hi"}'))),
        ({"message": {"text": "hi"}}, one("user", text('{"message":{"text":"hi"}}'))),
        (
            [
                {
                    "kind": "request",
                    "parts": [
                        {"part_kind": "system-prompt", "content": "Be brief."},
                        {"part_kind": "user-prompt", "content": ["hi", {"kind": "image-url", "url": "https://x/a"}]},
                    ],
                },
                {
                    "kind": "response",
                    "parts": [
                        {"part_kind": "tool-call", "tool_name": "search", "args": {"q": "x"}, "tool_call_id": "c1"}
                    ],
                    "finish_reason": "tool_call",
                },
                {"kind": "request", "parts": [{"part_kind": "tool-return", "content": "found", "tool_call_id": "c1"}]},
            ],
            [
                *one("system", text("Be brief.")),
                *one("user", text("hi"), {"type": "uri", "modality": "image", "uri": "https://x/a"}),
                *one("assistant", CALL, finish_reason="tool_call"),
                *one("tool", ANSWER),
            ],
        ),
    ],
)
def test_input_messages_of_every_library(value: Any, expected: list[dict[str, Any]]) -> None:
    assert messages(input=value) == expected


REASONED = {"type": "reasoning", "content": "hm"}
TOOL_USE = {"type": "tool_use", "id": "c1", "name": "search", "input": {"q": "x"}}
FUNCTION = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"q": "x"}'}}


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ({"role": "assistant", "content": None, "tool_calls": [FUNCTION]}, [CALL]),
        ({"role": "assistant", "content": "", "tool_calls": [FUNCTION, "odd"]}, [CALL, text("odd")]),
        ({"role": "assistant", "content": [text("a"), TOOL_USE]}, [text("a"), CALL]),
        ([{"type": "text", "text": "a"}, TOOL_USE], [text("a"), CALL]),
        ([FUNCTION], [CALL]),
        (FUNCTION, [CALL]),
        ([{**TOOL_USE, "input": {}, "partial_json": '{"q": "x"}'}], [CALL]),
        ([{**TOOL_USE, "input": {}}], [{**CALL, "arguments": {}}]),
        ([{"type": "tool_call_chunk", "name": "search", "args": '{"q": "x"}', "id": "c1", "index": 0}], [CALL]),
        ({"type": "ai", "content": "", "tool_calls": [{"name": "search", "args": {"q": "x"}, "id": "c1"}]}, [CALL]),
        ({"role": "model", "parts": [{"functionCall": {"id": "c1", "name": "search", "args": {"q": "x"}}}]}, [CALL]),
        (
            {"role": "assistant", "content": None, "function_call": {"name": "search", "arguments": "no json"}},
            [{"type": "tool_call", "name": "search", "arguments": "no json"}],
        ),
        (
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}]},
            [{"type": "reasoning", "content": "hm"}, text("a")],
        ),
        (
            {"role": "assistant", "content": "a", "reasoning_content": "hm", "refusal": "no"},
            [{"type": "reasoning", "content": "hm"}, text("a"), text("no")],
        ),
        (
            [{"type": "reasoning", "summary": [{"text": "one"}, "two"]}],
            [{"type": "reasoning", "content": "one\ntwo"}],
        ),
        ({"role": "model", "parts": [{"text": "hm", "thought": True}]}, [{"type": "reasoning", "content": "hm"}]),
        (
            {"type": "ai", "content": [{"type": "reasoning_content", "reasoning_content": {"text": "hm"}}]},
            [{"type": "reasoning", "content": "hm"}],
        ),
        ({"choices": [{"message": {"role": "assistant", "content": "a"}, "finish_reason": "length"}]}, [text("a")]),
        ({"candidates": [{"content": {"role": "model", "parts": [{"text": "a"}]}}]}, [text("a")]),
        ({"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}]}, [text("a")]),
        ({"object": "response", "output": [{"type": "message", "role": "assistant", "content": "a"}]}, [text("a")]),
        ({"choices": [5]}, [text('{"choices":[5]}')]),
        ({"choices": [{"text": "a", "index": 0}]}, [text("a")]),
        ({"message": {"role": "assistant", "content": "a", "thinking": "hm"}}, [REASONED, text("a")]),
        ({"role": "assistant", "content": "a", "reasoning_content": "", "reasoning": "hm"}, [REASONED, text("a")]),
        (
            {"message": {"role": "assistant", "tool_plan": "hm", "content": [{"type": "text", "text": "a"}]}},
            [REASONED, text("a")],
        ),
        (
            {
                "output": {
                    "message": {
                        "role": "assistant",
                        "content": [
                            {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
                            {"text": "a"},
                            {"toolUse": {"toolUseId": "c1", "name": "search", "input": {"q": "x"}}},
                        ],
                    }
                }
            },
            [REASONED, text("a"), CALL],
        ),
        (
            # What Google's own classes hold.
            {
                "candidates": [
                    {
                        "content": {
                            "role": None,
                            "parts": [
                                {"function_call": None, "inline_data": None, "thought": None, "text": "a"},
                                {
                                    "function_call": {"name": "search", "args": {"q": "x"}, "id": "c1"},
                                    "inline_data": None,
                                    "text": None,
                                },
                            ],
                        }
                    }
                ]
            },
            [text("a"), CALL],
        ),
        (
            {"role": "assistant", "content": None, "audio": {"id": "a1", "data": PNG, "transcript": "a"}},
            [text("a"), {"type": "blob", "modality": "audio", "content": BLOB}],
        ),
        (
            {"role": "assistant", "audio": {"id": "a1"}},
            [{"type": "file", "modality": "audio", "file_id": "a1"}],
        ),
        (
            {
                "role": "assistant",
                "tool_calls": [{"id": "c1", "type": "custom", "custom": {"name": "search", "input": '{"q": "x"}'}}],
            },
            [CALL],
        ),
        ([{"type": "tool-call", "toolCallId": "c1", "toolName": "search", "input": {"q": "x"}}], [CALL]),
        ({"kind": "response", "parts": [{"part_kind": "thinking", "content": "hm"}]}, [REASONED]),
    ],
)
def test_output_messages_of_every_library(value: Any, parts: list[Any]) -> None:
    (message,) = messages(side="output", output=value)
    assert (message["role"], message["parts"]) == ("assistant", parts)


def test_each_choice_keeps_its_own_finish_reason() -> None:
    """dialect 1"""
    answer = {"role": "assistant", "content": "a"}
    choices = [
        {"message": answer, "finish_reason": "length"},
        {"message": answer, "finish_reason": "stop"},
        {"message": answer},
    ]
    found = messages(side="output", output={"choices": choices})
    assert [message["finish_reason"] for message in found] == ["length", "stop", "stop"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (
            {"output": {"message": {"role": "assistant", "content": [{"text": "a"}]}}, "stopReason": "length"},
            "length",
        ),
        ({"message": {"role": "assistant", "content": "a"}, "done_reason": "length"}, "length"),
        (
            {
                "object": "response",
                "output": [{"type": "message", "role": "assistant", "content": "a"}],
                "incomplete_details": {"reason": "max_output_tokens"},
            },
            "max_output_tokens",
        ),
    ],
    ids=["Bedrock", "Ollama", "OpenAI's Responses"],
)
def test_the_reason_why_an_answer_ended_stands_beside_it(answer: Any, reason: str) -> None:
    """dialect 1"""
    (message,) = messages(side="output", output=answer)
    assert (message["parts"], message["finish_reason"]) == ([text("a")], reason)


def test_items_of_the_responses_api_become_messages_in_order() -> None:
    items = [
        {"role": "user", "content": "hi"},
        {"type": "function_call", "call_id": "c1", "name": "search", "arguments": "{}"},
    ]
    found = messages(input=items)
    assert [message["role"] for message in found] == ["user", "assistant"]
    assert found[1]["parts"] == [{"type": "tool_call", "id": "c1", "name": "search", "arguments": {}}]
    (answer,) = messages(input=[{"type": "function_call_output", "output": "x"}])
    assert answer["parts"] == [{"type": "tool_call_response", "response": "x"}]


def test_what_a_provider_s_own_tools_did_stands_beside_the_answer() -> None:
    search = {"type": "web_search_call", "id": "ws1", "status": "completed"}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}
    wanted = [*one("assistant", search), *one("assistant", text("a"))]
    assert messages(input=[search, said]) == wanted
    found = messages(side="output", output={"object": "response", "output": [search, said]})
    assert [(message["role"], message["parts"]) for message in found] == [
        (message["role"], message["parts"]) for message in wanted
    ]
    assert messages(input=[search]) == one("user", text(json.dumps([search], separators=(",", ":"))))


def test_system_instructions_given_apart_stay_apart() -> None:
    """What is part of the chat history stays there, as the GenAI conventions have it."""
    assert "gen_ai.system_instructions" not in attributes(input=CHAT)
    request = {"system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}]}
    found = attributes(input=request)
    assert json.loads(found["gen_ai.system_instructions"]) == [text("Be brief.")]
    assert json.loads(found["gen_ai.input.messages"]) == one("user", text("Hi"))
    assert "gen_ai.system_instructions" not in attributes(input={"system": "x", "q": 1})


@pytest.mark.parametrize(
    "request_body",
    [
        {"instructions": "Be brief.", "input": [{"role": "user", "content": "Hi"}]},
        {"instructions": "Be brief.", "input": "Hi", "model": "gpt-4.1"},
        {"systemInstruction": {"parts": [{"text": "Be brief."}]}, "contents": [{"parts": [{"text": "Hi"}]}]},
        {"system": [{"text": "Be brief."}], "messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
    ],
    ids=["OpenAI's Responses", "its text", "Gemini", "Bedrock"],
)
def test_requests_that_call_messages_something_else(request_body: Any) -> None:
    found = attributes(input=request_body)
    assert json.loads(found["gen_ai.system_instructions"]) == [text("Be brief.")]
    assert json.loads(found["gen_ai.input.messages"]) == one("user", text("Hi"))


def test_encoded_bytes_travel_nowhere() -> None:
    """langchain 61"""
    data = orjson.dumps("A" * 4000).decode().strip('"')
    blocks = [
        {"type": "image", "source": {"media_type": "image/png", "data": data}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        text("look"),
    ]
    found = attributes(input=[{"role": "user", "content": blocks}])
    for name in ("input.value", "gen_ai.input.messages"):
        assert "AAAA" not in found[name]
        assert found[name].count("[3000 bytes, sha256 ") == 2
    assert "A" * 256 not in str(attributes(input=[{"role": "user", "content": "look", "images": [data]}]))
    drawn = {"type": "image_generation_call", "result": data, "index": 0}
    assert "A" * 256 not in str(attributes(input=[drawn], output={"object": "response", "output": [drawn]}))
    assert "A" * 256 not in str(attributes(properties=drawn))
    spoken = "and so she went on without a pause " * 10
    assert spoken in attributes(input={"data": spoken})["input.value"]
    assert "base64 is" in attributes(input={"data": "base64 is a word; it has no ;base64, here"})["input.value"]
    lines = "".join(f"INV-{number}\n" for number in range(100))
    assert json.loads(attributes(input={"data": lines})["input.value"]) == {"data": lines}


@pytest.mark.parametrize("size", [3000, 2999, 2998])
def test_the_size_and_digest_of_encoded_bytes_are_those_of_the_bytes(size: int) -> None:
    """langchain 61"""
    image = (b"\xfb\xff" * size)[:size]  # written with + and /, or with - and _
    told = f"[{size} bytes, sha256 {hashlib.sha256(image).hexdigest()[:16]}]"
    lines = base64.encodebytes(image)
    for encoded in (base64.b64encode(image), base64.urlsafe_b64encode(image), lines, lines.replace(b"\n", b"\r\n")):
        for data in (encoded.decode(), encoded.decode().rstrip("=")):
            assert json.loads(attributes(input={"data": data})["input.value"]) == {"data": told}


@pytest.mark.parametrize("words", ["The grass is green. " * 40, "caf\u00e9" * 100, "[dropped: redact hook raised]"])
def test_the_size_and_digest_of_what_is_not_encoded_are_those_of_the_text(words: str) -> None:
    source = {"type": "text", "media_type": "text/plain", "data": words}
    (message,) = messages(input=[{"role": "user", "content": [{"type": "document", "source": source}]}])
    data = words.encode()
    assert message["parts"][0]["content"] == f"[{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:16]}]"


# Limits --------------------------------------------------------------------------------------------------------------

SMALL = Settings(max_content_length=1000)


@pytest.mark.parametrize(
    "value",
    [
        "x" * 5000,
        "\n\"'" * 2000,
        [{"role": "user", "content": "x" * 5000}, {"role": "user", "content": "short"}],
        [{"role": "user", "content": f"message {n}"} for n in range(500)],
        [{"role": "user", "content": "x" * 90} for _ in range(100)],
        {"rows": list(range(5000))},
        [{"role": "assistant", "tool_calls": [{"id": "1", "name": "n", "args": {"rows": list(range(5000))}}]}],
        {"deep": {"text": "é" * 5000}},
    ],
)
def test_long_content_is_cut_inside_its_texts_and_stays_json(value: Any) -> None:
    for kind in (Kind.EVENT, Kind.TOOL):
        found = attributes(kind, SMALL, input=value, output=value, properties={"big": value})
        assert all(len(sent) <= 1064 for sent in found.values() if isinstance(sent, str))
        for name in ("metadata", "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.call.arguments"):
            json.loads(found.get(name, "{}"))
        if found["input.mime_type"] == "application/json":
            json.loads(found["input.value"])
        assert "rootspan.dropped_fields" not in found


def test_many_short_texts_are_not_shortened_over_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    shorten = lengths._shorten
    monkeypatch.setattr(lengths, "_shorten", lambda value, cap: looks.append(cap) or shorten(value, cap))
    found = attributes(settings=Settings(max_content_length=10_000), input=['"quoted"\n'] * 1_000)
    assert len(found["input.value"]) < 10_100
    assert len(looks) < 5_000


def test_the_original_size_is_noted_once() -> None:
    frozen = freeze("x" * 5000, 1000)
    assert attributes(settings=SMALL, input=frozen)["input.value"] == frozen
    (message,) = json.loads(attributes(settings=SMALL, input=frozen)["gen_ai.input.messages"])
    assert message["parts"][0]["content"].endswith("…[cut from 5000 characters]")
    assert message["parts"][0]["content"].count("[cut") == 1


@pytest.mark.parametrize("limit", [1, 2, 10, 30, 100])
def test_tiny_limits_still_give_json(limit: int) -> None:
    settings = Settings(attribute_length_limit=limit)
    for value in ("x" * 500, CHAT, {"a": "b" * 99}):
        found = attributes(settings=settings, input=value, output=value, properties={"p": "y" * 200})
        for name in ("gen_ai.input.messages", "gen_ai.output.messages"):
            assert isinstance(json.loads(found[name]), list)
            assert len(found[name]) <= max(limit, 2)
        assert isinstance(json.loads(found["metadata"]), dict)
        assert len(found["metadata"]) <= max(limit, 2)
        assert len(found["p"]) == min(limit, 200)
        assert len(found["input.value"]) <= limit


def test_the_attribute_count_limit_spares_what_matters() -> None:
    properties = {f"p{n}": n for n in range(50)}
    found = attributes(settings=Settings(attribute_count_limit=10), convo_id="c", properties=properties)
    assert len(found) == 10
    assert {"session.id", "openinference.span.kind"} <= set(found)
    for kind in (Kind.REQUEST, Kind.TOOL, Kind.EVENT):
        few = attributes(kind, settings=Settings(attribute_count_limit=4), convo_id="c", user_id="u", model="gpt-4o")
        assert {"session.id", "user.id"} <= set(few), "whose it is tells more than what it is"


def test_long_ids_are_cut_and_stay_distinct() -> None:
    first, second = (attributes(convo_id="c" * 300 + end)["session.id"] for end in "ab")
    assert len(first) == len(second) == 250
    assert first != second


# Properties, redaction, content --------------------------------------------------------------------------------------


def test_properties_keep_their_type() -> None:
    properties = {
        "s": "x", "i": 3, "f": 0.5, "b": True, "none": None, "big": 2**70, "strs": ["a", "b"], "ints": [1, 2],
        "mixed": [1, "a"], "empty": [], "nested": {"a": 1}, "bools": [True],
    }  # fmt: skip
    found = attributes(properties=properties, inherited=Identity(properties=freeze({"s": "outer", "o": 1}, 99)))
    expected = {
        "s": "x", "o": 1, "i": 3, "f": 0.5, "b": True, "big": str(2**70), "strs": ["a", "b"], "ints": [1, 2],
        "mixed": '[1,"a"]', "empty": "[]", "nested": '{"a":1}', "bools": [True],
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert "none" not in found
    assert "none" not in json.loads(found["metadata"])
    assert json.loads(found["metadata"])["nested"] == {"a": 1}
    assert json.loads(attributes(properties="odd")["metadata"]) == {"properties": "odd"}


def test_secrets_of_the_host_are_masked_and_our_names_never() -> None:
    secret = "ghp_" + "a1B2" * 9
    more = {"attributes": {"http.request.header.authorization": secret, "http.route": "/token", "x": secret}}
    fields: dict[str, Any] = {"input": f"use {secret}", "output": {"password": "p"}, "error": ("E", secret)}
    found = span(**fields, outcome="failure", properties={"api_key": "k"}, input_tokens=5, more=more)
    assert secret not in repr(found)
    assert found.attributes["gen_ai.usage.input_tokens"] == 5
    assert found.attributes["http.route"] == "/token"
    assert "k" not in json.loads(found.attributes["metadata"]).values()  # type: ignore[arg-type]


def test_a_secret_in_the_name_of_a_node_is_masked_under_every_name() -> None:
    secret = "ghp_" + "a1B2" * 9
    found = span(Kind.STEP, name=secret, more={"attributes": {semconv.LANGGRAPH_NODE: secret}})
    assert found.name == found.attributes[semconv.LANGGRAPH_NODE] == "[redacted:github_token]"


def test_a_secret_in_the_name_of_the_configured_agent_is_masked() -> None:
    found = attributes(settings=Settings(agent_name="bot of ghp_" + "a1B2" * 9))
    assert found["gen_ai.agent.name"] == found["agent.name"] == "bot of [redacted:github_token]"


def test_a_secret_in_the_name_of_an_event_or_of_what_it_holds_is_masked() -> None:
    secret = "ghp_" + "a1B2" * 9
    given = SpanEvent(f"asked with {secret}", 7, {"n": 1, secret: "x", "none": None})
    (event,) = span(Kind.STEP, more={"events": (given,)}).events
    assert event.name == "asked with [redacted:github_token]"
    assert event.attributes == {"n": 1, "[redacted:github_token]": "x"}


NO_CONTENT = Settings(capture_content=False)


@pytest.mark.parametrize("kind", sorted(value for name, value in vars(Kind).items() if name.isupper()))
def test_without_content_no_text_of_anyone_is_left(kind: str) -> None:
    """langchain 62"""
    more = {
        "reasoning": "TEXT", "alternatives": freeze(["TEXT"], 99), "comment": "TEXT",
        "session_name": "TEXT", "tool_name": "search", "agent_name": "a",
        "attributes": {"url.query": "TEXT", "http.request.header.x": "TEXT", "url.full": "TEXT", "http.route": "/"},
        "events": (SpanEvent("log", 1, {"exception.message": "TEXT", "n": 1}),),
    }  # fmt: skip
    found = span(
        kind, NO_CONTENT, input=["TEXT"], output="TEXT", user_id="u", convo_id="c", cost=0.1, input_tokens=1,
        outcome="failure", error=("ValueError", "TEXT"), more=more, properties={"plan": "pro"},
    )  # fmt: skip
    assert "TEXT" not in repr(found)
    assert not set(found.attributes) & semconv.CONTENT
    assert {"session.id", "user.id", "plan", "http.route", "error.type"} <= set(found.attributes)
    assert found.status_message == "ValueError"
    assert [event.name for event in found.events] == ["log", "exception"]


def test_what_the_hook_takes_away_is_gone() -> None:
    more = {"attributes": {"mine": "x"}, "host_attributes": {"http.request.header.x-mine": "x"}}
    poor = record(input=5, output=5, properties={"a": "x"}, more=more)
    found = to_span(poor, Plan(Settings(redact=lambda path, value: None))).attributes
    assert not {"input.value", "output.value", "a", "mine", "http.request.header.x-mine"} & set(found)


def test_feedback_about_what_is_no_span_names_none() -> None:
    assert "rootspan.target.span_id" not in attributes(Kind.FEEDBACK, more={"target": "short"})


@pytest.mark.skipif(sys.version_info < (3, 10, 7), reason="an older Python writes every digit")
def test_an_integer_that_python_refuses_to_write_is_its_size() -> None:
    assert attributes(more={"attributes": {"mine": 1 << 20_000}})["mine"] == "<int of 20001 bits>"


def test_an_adapters_attributes_and_events_pass_through() -> None:
    events = (SpanEvent("exception", 7, {"exception.type": "E", "exception.stacktrace": "at x"}),)
    more = {"attributes": {"http.route": "/a", "n": 1, "gone": None, "url.path": "/a"}, "events": events}
    found = span(Kind.REQUEST, name="GET /a", outcome="failure", error=("E", "m"), more=more)
    assert found.attributes["http.route"] == found.attributes["url.path"] == "/a"
    assert "gone" not in found.attributes
    assert found.events == list(events)
    assert found.status_message == "m"


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (IDS, [(TRACE, SPAN)]),
        (SpanContext(int(TRACE, 16), int(SPAN, 16), False, TraceFlags(1)), [(TRACE, SPAN)]),
        (SpanContext(0, 0, False), []),
        (SPAN, []),
        (None, []),
    ],
)
def test_links(link: Any, expected: list[tuple[str, str]]) -> None:
    assert [(sent.trace_id, sent.span_id) for sent in span(link=link).links] == expected


# Nothing raises ------------------------------------------------------------------------------------------------------


class Poison:
    """Raises at every touch."""

    def _raise(self, *_: Any) -> Any:
        raise RuntimeError("poison")

    __bool__ = __eq__ = __len__ = __iter__ = __getitem__ = __float__ = __str__ = _raise
    __hash__ = object.__hash__


def test_a_poison_field_costs_that_field_only() -> None:
    found = attributes(user_id="u", convo_id="c", model="m", provider=Poison(), link="no hex" * 8)
    assert (found["user.id"], found["gen_ai.request.model"]) == ("u", "m")
    assert found["rootspan.dropped_fields"] == ["model", "link"]
    broken = to_span(record()._replace(input=b"{no json", output="fine"), Plan(SETTINGS)).attributes
    assert broken["rootspan.dropped_fields"] == ["input"]
    assert broken["output.value"] == "fine"
    assert attributes(outcome="failure", error=Poison())["rootspan.dropped_fields"] == ["error"]
    adapter = attributes(more={"attributes": {"x": Poison(), "y": (1, 2**70), Poison(): 1}})
    assert adapter["y"] == '[1,"1180591620717411303424"]'
    assert adapter["rootspan.dropped_fields"] == ["attributes"]


@pytest.mark.parametrize(("kind", "field"), [(Kind.DECISION, "confidence"), (Kind.FEEDBACK, "score")])
def test_a_number_that_is_none_is_named_by_its_own_field(kind: str, field: str) -> None:
    found = attributes(kind, more={field: b'["high"]', "reasoning": "no stock"})
    assert found["rootspan.dropped_fields"] == [field]


def test_lone_surrogates_are_mended_at_the_wire() -> None:
    fields: dict[str, Any] = {"input": "a\ud800", "properties": {"k\ud800": "v\ud800"}, "model": "\ud800"}
    more = {"attributes": {"x\ud800": "y\ud800"}, "events": [SpanEvent("e\ud800", 1, {"d\ud800": "\ud800"})]}
    odd = span(name="\ud800", user_id="\ud800", outcome="failure", error=("\ud800", "\ud800"), more=more, **fields)
    encoder = ProtobufEncoder({}, "1.0")
    sent = ExportTraceServiceRequest.FromString(encoder.batch([encoder.span(odd)]))
    (found,) = sent.resource_spans[0].scope_spans[0].spans
    assert (found.name, found.status.message) == ("\ufffd", "\ufffd")
    values = {attribute.key: attribute.value.string_value for attribute in found.attributes}
    assert (values["user.id"], values["gen_ai.request.model"], values["input.value"]) == ("\ufffd", "\ufffd", "a\ufffd")
    assert (values["k\ufffd"], values["x\ufffd"]) == ("v\ufffd", "y\ufffd")
    assert json.loads(values["gen_ai.input.messages"])[0]["parts"][0]["content"] == "a\ufffd"
    assert json.loads(values["metadata"]) == {"k\ufffd": "v\ufffd", "user_id": "\ufffd"}


words = st.sampled_from(
    ["role", "content", "parts", "type", "text", "tool_calls", "function", "user", "assistant", "image", "source",
     "data", "choices", "message", "messages", "lc", "kwargs", "id", "tool", "name", "arguments", "file", "object",
     "response"]
)  # fmt: skip
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.just(Poison())
    | st.binary(max_size=9)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3), max_leaves=6
)
chats = st.recursive(
    st.none() | words | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=5),
    max_leaves=12,
)
KINDS = st.sampled_from([value for name, value in vars(Kind).items() if name.isupper()])
MORE = [
    "tags", "agent_name", "operation", "response_model", "finish_reasons", "cache_read_tokens",
    "call_id", "tool_name", "reasoning", "alternatives", "confidence", "session_name", "custom_metrics", "has_children",
    "tokens_below", "cost_below", "score", "label", "comment", "target", "attributes", "events",
]  # fmt: skip
FREE = [name for name in Record._fields if name not in ("kind", "trace", "span", "parent", "start", "end", "more")]


@trying(suppress_health_check=[HealthCheck.too_slow])  # a busy machine takes long to make such values
@given(
    KINDS,
    st.dictionaries(st.sampled_from(FREE), values, max_size=5),
    st.dictionaries(st.sampled_from(MORE), values, max_size=5),
    st.booleans(),
)
def test_it_never_raises(kind: str, fields: dict[str, Any], more: dict[str, Any], content: bool) -> None:
    everything = Settings(
        capture_content=content,
        extras=frozenset({"mlflow", "langfuse", "traceloop", "langsmith", "bentolabs"}),
        max_content_length=200,
    )
    found = to_span(record(kind)._replace(**fields, more=more), Plan(everything))
    assert (found.trace_id, found.span_id) == (TRACE, SPAN)
    assert isinstance(found.name, str)


@given(KINDS, chats)
def test_nearly_messages_never_cost_the_content(kind: str, value: Any) -> None:
    found = attributes(kind, input=value, output=value)
    assert "rootspan.dropped_fields" not in found
    for name in ("gen_ai.input.messages", "gen_ai.output.messages"):
        for message in json.loads(found.get(name, "[]")):
            assert isinstance(message["role"], str)
            assert all(isinstance(part["type"], str) for part in message["parts"])
