"""What Arize Phoenix shows of a conversation that came over OTLP, aspect by aspect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest

from backends.conversation import ANSWER, CHAT, COST, PATIENCE, QUESTION, SPANS, Backend, Turns, converse, free_port
from rootspan import Tracker

pytestmark = pytest.mark.timeout(3 * PATIENCE)  # the first test waits for the server's start

SESSIONS = """{ projects { edges { node { name sessions(first: 10) { edges { node {
    sessionId userId numTraces numTracesWithError
    firstInput { value } lastOutput { value } tokenUsage { prompt completion }
    traces(first: 10) { edges { node { traceId costSummary { total { cost } } } } }
} } } } } } }"""
COSTS = """{ projects { edges { node { spans(first: 50) { edges { node {
    spanId costSummary { total { cost } }
} } } } } } }"""


class Phoenix:
    """The conversation as the server tells it."""

    def __init__(self, server: Backend, turns: Turns) -> None:
        self.turns = turns
        self._server = server
        server.wait_for(self._spans, lambda spans: len(spans) == SPANS)

    def sessions(self) -> dict[str, Any]:
        """Return what its list of sessions shows, by id."""
        return {session["sessionId"]: session for session in self._graphql(SESSIONS, "sessions")}

    def span(self, trace_id: str, name: str) -> dict[str, Any]:
        """Return one span."""
        (span,) = [s for s in self._spans() if (s["context"]["trace_id"], s["name"]) == (trace_id, name)]
        return span

    def attributes(self, trace_id: str, name: str) -> dict[str, Any]:
        """Return its attributes, flat, with those that the server derived."""
        return self.span(trace_id, name)["attributes"]

    def cost(self, span_id: str) -> float:
        """Return what it takes the price of a span to be, once it has worked that out."""

        def read() -> Any:
            spans = {span["spanId"]: span["costSummary"] for span in self._graphql(COSTS, "spans")}
            return spans[span_id]

        return self._server.wait_for(read, lambda cost: cost)["total"]["cost"]

    def _graphql(self, query: str, of: str) -> list[dict[str, Any]]:
        answer = self._server.ask("/graphql", {"query": query})
        assert "errors" not in answer, answer
        (project,) = answer["data"]["projects"]["edges"]
        return [edge["node"] for edge in project["node"][of]["edges"]]

    def _spans(self) -> list[dict[str, Any]]:
        return self._server.ask("/v1/projects/default/spans?limit=100")["data"]


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    """A server of the test's own that has got the conversation."""
    folder = tmp_path_factory.mktemp("phoenix")
    with Backend(
        ["phoenix.server.main", "serve"], folder, PHOENIX_HOST="127.0.0.1", PHOENIX_PORT="{port}",
        PHOENIX_GRPC_PORT=free_port(), PHOENIX_WORKING_DIR=str(folder), PHOENIX_TELEMETRY_ENABLED="false",
        PHOENIX_ALLOW_EXTERNAL_RESOURCES="false", PHOENIX_DISABLE_AGENT_ASSISTANT="true",
    ) as server:  # fmt: skip
        tracker = Tracker(endpoint=server.url, service_name="shop", timeout=PATIENCE)  # it takes no http/json
        try:
            yield Phoenix(server, converse(tracker))
        finally:
            tracker.shutdown()
            print(f"Phoenix {version('arize-phoenix')}\n{server.log}")


def test_session(phoenix: Phoenix) -> None:
    """Its list of sessions has both conversations, with the turns and the failed one counted."""
    sessions = phoenix.sessions()
    assert sessions.keys() == {"c-42", "c-43"}
    turns = {edge["node"]["traceId"] for edge in sessions["c-42"]["traces"]["edges"]}
    assert turns == set(phoenix.turns[:3])
    assert (sessions["c-42"]["numTraces"], sessions["c-42"]["numTracesWithError"]) == (3, 1)
    assert (sessions["c-43"]["numTraces"], sessions["c-43"]["numTracesWithError"]) == (1, 0)


def test_user(phoenix: Phoenix) -> None:
    """The user is the session's, and on every span."""
    assert {name: session["userId"] for name, session in phoenix.sessions().items()} == {"c-42": "u-7", "c-43": "u-8"}
    for name in ("ask", "weather_lookup", "answer"):
        assert phoenix.attributes(phoenix.turns.asked, name)["user.id"] == "u-7"


def test_text_of_a_conversation(phoenix: Phoenix) -> None:
    """The session starts with the first question and ends with the last answer, as text."""
    session = phoenix.sessions()["c-42"]
    assert (session["firstInput"]["value"], session["lastOutput"]["value"]) == (QUESTION, "You are welcome.")
    root = phoenix.attributes(phoenix.turns.asked, "ask")
    assert (root["input.value"], root["output.value"]) == (QUESTION, ANSWER)
    assert root["input.mime_type"] == root["output.mime_type"] == "text/plain"


def test_messages_of_a_model_call(phoenix: Phoenix) -> None:
    """The bubbles: Phoenix has read every message, with its role, out of the GenAI attributes."""
    call = phoenix.attributes(phoenix.turns.asked, "answer")
    for index, message in enumerate(CHAT):
        prefix = f"llm.input_messages.{index}.message"
        assert (call[f"{prefix}.role"], call[f"{prefix}.content"]) == (message["role"], message["content"])
    assert call["llm.output_messages.0.message.role"] == "assistant"
    assert call["llm.output_messages.0.message.content"] == ANSWER


def test_tree(phoenix: Phoenix) -> None:
    """The tool and the model are below the turn, each as what it is."""
    root, tool, call = (phoenix.span(phoenix.turns.asked, name) for name in ("ask", "weather_lookup", "answer"))
    assert (root["span_kind"], tool["span_kind"], call["span_kind"]) == ("AGENT", "TOOL", "LLM")
    assert (root["parent_id"], tool["parent_id"], call["parent_id"]) == (None, *2 * [root["context"]["span_id"]])
    assert phoenix.span(phoenix.turns.thanked, "thank")["span_kind"] == "LLM"


def test_model(phoenix: Phoenix) -> None:
    for trace_id, name in ((phoenix.turns.asked, "answer"), (phoenix.turns.thanked, "thank")):
        call = phoenix.attributes(trace_id, name)
        assert (call["llm.model_name"], call["llm.provider"]) == ("gpt-4o", "openai")


def test_tokens(phoenix: Phoenix) -> None:
    """Those of the call are on the call, and the session has the sum of both calls, each counted once."""
    call = phoenix.attributes(phoenix.turns.asked, "answer")
    assert (call["llm.token_count.prompt"], call["llm.token_count.completion"]) == (812, 34)
    assert call["llm.token_count.prompt_details.cache_read"] == 500
    assert phoenix.sessions()["c-42"]["tokenUsage"] == {"prompt": 832, "completion": 39}


def test_tool(phoenix: Phoenix) -> None:
    tool = phoenix.attributes(phoenix.turns.asked, "weather_lookup")
    assert (tool["tool.name"], tool["tool.parameters.city"]) == ("weather_lookup", "Oslo")
    assert (json.loads(tool["input.value"]), json.loads(tool["output.value"])) == ({"city": "Oslo"}, {"celsius": -4})


def test_agent(phoenix: Phoenix) -> None:
    for name in ("ask", "weather_lookup", "answer"):
        assert phoenix.attributes(phoenix.turns.asked, name)["agent.name"] == "forecaster"
    assert phoenix.attributes(phoenix.turns.thanked, "thank")["agent.name"] == "shop"  # the application's name


def test_error(phoenix: Phoenix) -> None:
    """Status, message and exception are on the tool and on the turn, and nowhere else."""
    for name in ("ask_again", "weather_lookup"):
        span = phoenix.span(phoenix.turns.failed, name)
        assert (span["status_code"], span["status_message"]) == ("ERROR", "no forecast in 5 s")
        (event,) = span["events"]
        assert event["attributes"]["exception.type"] == "TimeoutError"
    for name in ("ask", "weather_lookup", "answer"):
        assert phoenix.span(phoenix.turns.asked, name)["status_code"] == "UNSET"


def test_tags_and_properties(phoenix: Phoenix) -> None:
    root = phoenix.attributes(phoenix.turns.asked, "ask")
    assert (root["tag.tags"], root["metadata.plan"], root["metadata.seats"]) == (["beta"], "pro", 3)
    assert (root["plan"], root["seats"]) == ("pro", 3)
    other = phoenix.attributes(phoenix.turns.other, "greet")
    assert other["tag.tags"] == ["stable"]
    assert "metadata.plan" not in other


def test_cost_as_an_attribute(phoenix: Phoenix) -> None:
    """Ours is stored; the price that Phoenix shows is its own, of the tokens."""
    call = phoenix.span(phoenix.turns.asked, "answer")
    assert call["attributes"]["llm.cost.total"] == COST
    assert phoenix.cost(call["context"]["span_id"]) > 0


@pytest.mark.xfail(raises=AssertionError, reason="Phoenix reads no cost from OTLP: Arize-ai/phoenix#15240")
def test_cost(phoenix: Phoenix) -> None:
    call = phoenix.span(phoenix.turns.asked, "answer")
    assert phoenix.cost(call["context"]["span_id"]) == pytest.approx(COST)


@pytest.mark.xfail(
    raises=AssertionError, reason="Phoenix wants `llm.token_count.completion_details.reasoning`, which we do not write"
)
def test_reasoning_tokens(phoenix: Phoenix) -> None:
    call = phoenix.attributes(phoenix.turns.asked, "answer")
    assert call.get("llm.token_count.completion_details.reasoning") == 7
