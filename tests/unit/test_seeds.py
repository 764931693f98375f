"""Every Python snippet of the two pages that rootspan answers to runs here, with only its import line changed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import rootspan
from sinks import Sink, Span

BEGIN_AND_FINISH = """
import rootspan as sentrial

sentrial.configure(api_key="sentrial_live_xxx")

def handle_request(user_input: str, user_id: str):
    # Begin tracking
    interaction = sentrial.begin(
        user_id=user_id,
        event="chat_request",
        input=user_input
    )

    try:
        # Your agent logic
        response = your_agent.run(user_input)

        # Finish with success
        interaction.finish(
            output=response,
            success=True,
            estimated_cost=0.023
        )
        return response

    except Exception as e:
        # Finish with failure
        interaction.finish(
            success=False,
            failure_reason=str(e)
        )
        raise
"""

FULL_CONTROL = """
from rootspan import Tracker as SentrialClient
import openai

client = SentrialClient(api_key="sentrial_live_xxx")

def handle_request(user_input: str, user_id: str):
    # Create session
    session_id = client.create_session(
        name=f"Request: {user_input[:40]}...",
        agent_name="my-custom-agent",
        user_id=user_id,
        metadata={"source": "api"}
    )

    try:
        # Track decision
        client.track_decision(
            session_id=session_id,
            reasoning="User asked a question, will search then respond",
            alternatives=["direct_response", "clarify_question"]
        )

        # Track tool call
        search_results = search_database(user_input)
        client.track_tool_call(
            session_id=session_id,
            tool_name="search_database",
            tool_input={"query": user_input},
            tool_output={"results": search_results},
            reasoning="Searching for relevant information"
        )

        # Make LLM call
        completion = openai.chat.completions.create(
            model="gpt-4o",
            messages=[
                {"role": "system", "content": "You are a helpful assistant."},
                {"role": "user", "content": user_input}
            ]
        )

        response = completion.choices[0].message.content
        usage = completion.usage

        # Complete session
        client.complete_session(
            session_id=session_id,
            success=True,
            estimated_cost=calculate_cost(usage),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens
        )

        return response

    except Exception as e:
        client.complete_session(
            session_id=session_id,
            success=False,
            failure_reason=str(e)
        )
        raise
"""

WRAPPED_TOOLS = '''
def tracked_tool(client, session_id):
    """Decorator to track tool calls."""
    def decorator(func):
        def wrapper(*args, **kwargs):
            tool_input = {"args": args, "kwargs": kwargs}

            try:
                result = func(*args, **kwargs)

                client.track_tool_call(
                    session_id=session_id,
                    tool_name=func.__name__,
                    tool_input=tool_input,
                    tool_output={"result": result}
                )

                return result

            except Exception as e:
                client.track_tool_call(
                    session_id=session_id,
                    tool_name=func.__name__,
                    tool_input=tool_input,
                    tool_output={"error": str(e)}
                )
                raise
        return wrapper
    return decorator

# Usage
@tracked_tool(client, session_id)
def search_database(query: str):
    return database.search(query)

@tracked_tool(client, session_id)
def send_email(to: str, subject: str, body: str):
    return email_service.send(to, subject, body)
'''

TRACK_AI = """
import rootspan as bento

bento.track_ai(
    event="user_message",
    user_id="user_42",
    input="What's the capital of France?",
    output="Paris.",
    model="claude-3-5-sonnet-20241022",
    provider="anthropic",
    convo_id="conv_abc",
)
"""

MULTI_TURN = """
convo = "conv_2026-05-10_user42"

bento.track_ai(event="user_msg", input="Hi", convo_id=convo, user_id="u1")
bento.track_ai(event="assistant_msg", output="Hello!", convo_id=convo, user_id="u1")
bento.track_ai(event="user_msg", input="And then?", convo_id=convo, user_id="u1")
"""

CHAT_MESSAGES = """
bento.track_ai(
    event="chat",
    input=[
        {"role": "system", "content": "You are helpful."},
        {"role": "user", "content": "Hi"},
    ],
    output={"role": "assistant", "content": "Hello!"},
    user_id="u1",
)
"""


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    with Sink() as sink:
        monkeypatch.setenv("ROOTSPAN_ENDPOINT", sink.url)
        rootspan.configure()
        yield sink
        rootspan.shutdown()
        rootspan.configure(disabled=True)


def run(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, "<the page>", "exec"), names)
    return names


def arrived(sink: Sink, tracker: Any = rootspan) -> list[Span]:
    assert tracker.flush(5)
    return sink.spans


def failing(*arguments: Any) -> Any:
    raise RuntimeError("it broke")


class TestBeginAndFinish:
    def test_success(self, sink: Sink) -> None:
        agent = SimpleNamespace(run=lambda text: f"You said {text}")
        page = run(BEGIN_AND_FINISH, your_agent=agent)

        assert page["handle_request"]("Hello", "user_7") == "You said Hello"

        (span,) = arrived(sink)
        assert (span.name, span.parent_id, span.status_code) == ("chat_request", None, 0)
        assert span.attributes["user.id"] == "user_7"
        assert span.attributes["input.value"] == "Hello"
        assert span.attributes["output.value"] == "You said Hello"
        assert span.attributes["gen_ai.usage.cost"] == 0.023
        assert span.attributes["rootspan.outcome"] == "success"
        assert sink.requests[0].headers["Authorization"] == "Bearer sentrial_live_xxx"

    def test_failure(self, sink: Sink) -> None:
        page = run(BEGIN_AND_FINISH, your_agent=SimpleNamespace(run=failing))

        with pytest.raises(RuntimeError, match="it broke"):
            page["handle_request"]("Hello", "user_7")

        (span,) = arrived(sink)
        assert (span.status_code, span.status_message) == (2, "it broke")
        assert span.attributes["rootspan.outcome"] == "failure"
        assert span.attributes["input.value"] == "Hello"
        assert "output.value" not in span.attributes

    def test_two_requests_are_two_traces(self, sink: Sink) -> None:
        page = run(BEGIN_AND_FINISH, your_agent=SimpleNamespace(run=str.upper))
        page["handle_request"]("one", "u1")
        page["handle_request"]("two", "u2")
        first, second = arrived(sink)
        assert first.trace_id != second.trace_id
        assert [span.parent_id for span in (first, second)] == [None, None]
        assert [span.attributes["user.id"] for span in (first, second)] == ["u1", "u2"]


def openai_that_answers(create: Any) -> ModuleType:
    module = ModuleType("openai")
    module.chat = SimpleNamespace(completions=SimpleNamespace(create=create))  # type: ignore[attr-defined]
    return module


def completion(model: str, messages: list[dict[str, str]]) -> Any:
    message = SimpleNamespace(content=f"Answer to {messages[1]['content']}")
    usage = SimpleNamespace(prompt_tokens=120, completion_tokens=30)
    return SimpleNamespace(choices=[SimpleNamespace(message=message)], usage=usage)


class TestFullControl:
    def page(self, monkeypatch: pytest.MonkeyPatch, create: Any) -> dict[str, Any]:
        monkeypatch.setitem(sys.modules, "openai", openai_that_answers(create))
        return run(FULL_CONTROL, search_database=lambda query: [f"about {query}"], calculate_cost=lambda usage: 0.5)

    def test_success(self, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
        page = self.page(monkeypatch, completion)
        try:
            assert page["handle_request"]("What is new?", "user_7") == "Answer to What is new?"
            spans = arrived(sink, page["client"])
        finally:
            page["client"].shutdown()

        decision, tool, session = spans
        assert [span.name for span in spans] == ["decision", "search_database", "invoke_agent my-custom-agent"]
        assert session.parent_id is None
        assert {decision.parent_id, tool.parent_id} == {session.span_id}
        assert {span.trace_id for span in spans} == {session.trace_id}
        for span in spans:
            assert span.attributes["user.id"] == "user_7"
            assert span.attributes["session.id"] == session.trace_id + session.span_id
            assert span.attributes["gen_ai.agent.name"] == "my-custom-agent"
        reasoning = "User asked a question, will search then respond"
        assert decision.attributes["rootspan.decision.reasoning"] == reasoning
        assert decision.attributes["rootspan.decision.alternatives"] == ["direct_response", "clarify_question"]
        assert json.loads(tool.attributes["gen_ai.tool.call.arguments"]) == {"query": "What is new?"}
        assert json.loads(tool.attributes["gen_ai.tool.call.result"]) == {"results": ["about What is new?"]}
        assert tool.attributes["rootspan.decision.reasoning"] == "Searching for relevant information"
        assert session.attributes["rootspan.session.name"] == "Request: What is new?..."
        assert session.attributes["source"] == "api"
        assert session.attributes["gen_ai.usage.cost"] == 0.5
        assert session.attributes["gen_ai.usage.input_tokens"] == 120
        assert session.attributes["gen_ai.usage.output_tokens"] == 30
        assert (session.attributes["rootspan.outcome"], session.status_code) == ("success", 0)

    def test_failure(self, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
        page = self.page(monkeypatch, lambda model, messages: failing())
        try:
            with pytest.raises(RuntimeError, match="it broke"):
                page["handle_request"]("What is new?", "user_7")
            spans = arrived(sink, page["client"])
        finally:
            page["client"].shutdown()

        decision, tool, session = spans
        assert {decision.parent_id, tool.parent_id} == {session.span_id}
        assert [span.status_code for span in spans] == [0, 0, 2]
        assert session.status_message == "it broke"
        assert session.attributes["rootspan.outcome"] == "failure"


class TestWrappedTools:
    def page(self, search: Any) -> dict[str, Any]:
        return run(
            WRAPPED_TOOLS,
            client=rootspan.default_tracker,
            session_id=rootspan.create_session(name="Tools", agent_name="my-agent", user_id="user_7"),
            database=SimpleNamespace(search=search),
            email_service=SimpleNamespace(send=lambda to, subject, body: f"sent to {to}"),
        )

    def test_success(self, sink: Sink) -> None:
        page = self.page(lambda query: [query])
        assert page["search_database"]("cats") == ["cats"]
        assert page["send_email"]("a team", subject="Hi", body="Hello") == "sent to a team"
        rootspan.complete_session(session_id=page["session_id"], success=True)

        search, email, session = arrived(sink)
        assert page["session_id"] == session.trace_id + session.span_id
        assert [search.name, email.name] == ["search_database", "send_email"]
        assert [search.parent_id, email.parent_id] == [session.span_id] * 2
        assert json.loads(search.attributes["input.value"]) == {"args": ["cats"], "kwargs": {}}
        assert json.loads(search.attributes["output.value"]) == {"result": ["cats"]}
        assert json.loads(email.attributes["input.value"]) == {
            "args": ["a team"],
            "kwargs": {"subject": "Hi", "body": "Hello"},
        }
        assert {span.attributes["user.id"] for span in (search, email, session)} == {"user_7"}

    def test_failure(self, sink: Sink) -> None:
        page = self.page(failing)
        with pytest.raises(RuntimeError, match="it broke"):
            page["search_database"]("cats")
        rootspan.complete_session(session_id=page["session_id"], success=False, failure_reason="no data")

        search, session = arrived(sink)
        assert json.loads(search.attributes["output.value"]) == {"error": "it broke"}
        assert search.parent_id == session.span_id
        assert (session.status_code, session.status_message) == (2, "no data")


class TestTrackAi:
    def test_one_call_is_one_root_span(self, sink: Sink) -> None:
        run(TRACK_AI)
        (span,) = arrived(sink)
        assert (span.name, span.parent_id, span.status_code, span.links) == ("user_message", None, 0, [])
        wanted = {
            "user.id": "user_42",
            "session.id": "conv_abc",
            "gen_ai.conversation.id": "conv_abc",
            "gen_ai.request.model": "claude-3-5-sonnet-20241022",
            "gen_ai.provider.name": "anthropic",
            "input.value": "What's the capital of France?",
            "input.mime_type": "text/plain",
            "output.value": "Paris.",
            "gen_ai.operation.name": "chat",
        }
        assert {key: span.attributes.get(key) for key in wanted} == wanted

    def test_returns_the_span_id(self, sink: Sink) -> None:
        span_id = run(TRACK_AI.replace("bento.track_ai(", "span_id = bento.track_ai("))["span_id"]
        (span,) = arrived(sink)
        assert span.span_id == span_id
        assert len(span_id) == 16

    def test_multi_turn(self, sink: Sink) -> None:
        run(MULTI_TURN, bento=rootspan)
        spans = arrived(sink)
        assert [span.name for span in spans] == ["user_msg", "assistant_msg", "user_msg"]
        assert {span.attributes["session.id"] for span in spans} == {"conv_2026-05-10_user42"}
        assert {span.parent_id for span in spans} == {None}
        assert len({span.trace_id for span in spans}) == 3
        assert [span.attributes.get("input.value") for span in spans] == ["Hi", None, "And then?"]
        assert [span.attributes.get("output.value") for span in spans] == [None, "Hello!", None]

    def test_structured_chat_messages(self, sink: Sink) -> None:
        run(CHAT_MESSAGES, bento=rootspan)
        (span,) = arrived(sink)
        assert json.loads(span.attributes["input.value"]) == [
            {"role": "system", "content": "You are helpful."},
            {"role": "user", "content": "Hi"},
        ]
        assert json.loads(span.attributes["output.value"]) == {"role": "assistant", "content": "Hello!"}
        assert span.attributes["input.mime_type"] == span.attributes["output.mime_type"] == "application/json"
        messages = json.loads(span.attributes["gen_ai.input.messages"])
        assert messages[-1] == {"role": "user", "parts": [{"type": "text", "content": "Hi"}]}

    def test_properties(self, sink: Sink) -> None:
        rootspan.track_ai(event="e", properties={"plan": "pro", "seats": 3})
        (span,) = arrived(sink)
        assert (span.attributes["plan"], span.attributes["seats"]) == ("pro", 3)

    def test_parenting(self, sink: Sink) -> None:
        """Root spans by default; inside a trajectory opened with begin, children of it."""
        outside = rootspan.track_ai(event="outside")
        trajectory = rootspan.begin(event="trajectory", user_id="u1", convo_id="c1")
        inside = rootspan.track_ai(event="inside")
        trajectory.finish()
        after = rootspan.track_ai(event="after")
        arrived(sink)
        assert (sink.one("outside").span_id, sink.one("outside").parent_id) == (outside, None)
        assert (sink.one("inside").span_id, sink.one("inside").parent_id) == (inside, trajectory.span_id)
        assert sink.one("inside").trace_id == trajectory.trace_id != sink.one("outside").trace_id
        assert (sink.one("after").span_id, sink.one("after").parent_id) == (after, None)
        assert sink.one("inside").attributes["user.id"] == "u1"
