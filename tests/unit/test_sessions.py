"""Sessions that are addressed by id: from other threads and processes, within their bounds, completed once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

from rootspan import Tracker, forks
from rootspan import recorder as recorder_module
from rootspan.adapter import RequestInfo, RequestOptions, open_request
from sinks import Sink, Span


def arrived(tracker: Tracker, sink: Sink) -> dict[str, Span]:
    assert tracker.flush(10)
    return {span.name: span for span in sink.spans}


def test_steps_from_any_thread_share_trace_user_and_conversation(tracker: Tracker, sink: Sink) -> None:
    session = tracker.create_session("Request", "helper", user_id="u1", metadata={"source": "api"})
    steps = [
        lambda: tracker.track_decision(session_id=session, reasoning="search"),
        lambda: tracker.track_tool_call("search", session_id=session),
        lambda: tracker.track_error("no answer", session_id=session),
    ]
    for step in steps:
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    tracker.complete_session(session, assistant_output="A", custom_metrics={"hits": 3}, prompt_tokens=5)
    spans = arrived(tracker, sink)
    root = spans["invoke_agent helper"]
    assert (root.trace_id, root.span_id, root.parent_id) == (session[:32], session[32:], None)
    assert root.attributes["rootspan.metric.hits"] == 3
    assert root.attributes["gen_ai.usage.input_tokens"] == 5
    assert root.attributes["source"] == "api"
    for span in spans.values():
        assert span.trace_id == session[:32]
        assert span.attributes["user.id"] == "u1"
        assert span.attributes["session.id"] == session  # without a convo_id it is a conversation of its own
    assert {span.parent_id for span in spans.values() if span is not root} == {root.span_id}


def test_another_process_adds_steps_and_an_outcome(tracker: Tracker, sink: Sink) -> None:
    session = tracker.create_session("Request", "helper", user_id="u1", convo_id="c1")
    code = f"""
import rootspan
rootspan.track_tool_call("elsewhere", session_id={session!r})
rootspan.complete_session({session!r}, success=False, failure_reason="why", user_id="u1", convo_id="c1")
"""
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    env = {**os.environ, "PYTHONPATH": path, "ROOTSPAN_ENDPOINT": sink.url}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=60)
    tracker.complete_session(session)
    spans = arrived(tracker, sink)
    assert set(spans) == {"elsewhere", "session_outcome", "invoke_agent helper"}
    root, outcome = spans["invoke_agent helper"], spans["session_outcome"]
    assert outcome.parent_id == spans["elsewhere"].parent_id == root.span_id
    assert (outcome.status_code, outcome.status_message) == (2, "why")
    assert (outcome.attributes["user.id"], outcome.attributes["session.id"]) == ("u1", "c1")
    assert root.status_code != 2


def test_what_comes_late_is_the_same_persons_work(tracker: Tracker, sink: Sink) -> None:
    session_id = tracker.create_session(name="support", user_id="u1", convo_id="c1", tags=["t"])
    tracker.complete_session(session_id=session_id, success=True)
    tracker.track_tool_call("late call", session_id=session_id)
    with tracker.tool_span("late span", session_id=session_id):
        tracker.track_ai("in it")
    assert tracker.flush(5)
    for name in ("late call", "late span", "in it"):
        span = sink.one(name)
        assert span.trace_id == session_id[:32]
        read = [span.attributes.get(key) for key in ("user.id", "session.id", "tag.tags")]
        assert read == ["u1", "c1", ["t"]], name
    assert sink.one("in it").parent_id == sink.one("late span").span_id


def test_a_session_is_completed_once(tracker: Tracker, sink: Sink) -> None:
    session = tracker.create_session()
    for _ in range(3):
        tracker.complete_session(session, success=False, failure_reason="first")
    spans = arrived(tracker, sink)
    assert set(spans) == {"invoke_agent"}
    assert len(sink.spans) == 1
    assert spans["invoke_agent"].status_message == "first"


@pytest.mark.parametrize("wrong", ["", "conv_1", "x" * 48, 5, None, ["a"], {}])
def test_what_is_no_session_id_costs_only_the_place(
    tracker: Tracker, sink: Sink, wrong: object, caplog: pytest.LogCaptureFixture
) -> None:
    tracker.track_decision(session_id=wrong)  # type: ignore[arg-type]
    with tracker.tool_span("tool", session_id=wrong):  # type: ignore[arg-type]
        pass
    tracker.complete_session(wrong)  # type: ignore[arg-type]
    spans = arrived(tracker, sink)
    assert {"decision", "tool"} <= set(spans)
    assert all(span.parent_id is None for span in spans.values())


def test_the_oldest_of_too_many_is_closed_as_unfinished(sink: Sink) -> None:
    tracker = Tracker(endpoint=sink.url, max_open_sessions=3)
    sessions = [tracker.create_session(agent_name=f"{number}") for number in range(5)]
    spans = arrived(tracker, sink)
    assert {name: span.attributes["rootspan.outcome"] for name, span in spans.items()} == {
        "invoke_agent 0": "unfinished",
        "invoke_agent 1": "unfinished",
    }
    tracker.complete_session(sessions[4])
    assert "invoke_agent 4" in arrived(tracker, sink)
    tracker.shutdown()
    assert len(sink.spans) == 5


def test_a_session_that_nobody_completes_ends_with_its_time(sink: Sink) -> None:
    tracker = Tracker(endpoint=sink.url, session_timeout=0.05)
    tracker.create_session(agent_name="old")
    threading.Event().wait(0.1)
    tracker.create_session(agent_name="new")
    spans = arrived(tracker, sink)
    assert set(spans) == {"invoke_agent old"}
    assert spans["invoke_agent old"].attributes["rootspan.outcome"] == "unfinished"
    tracker.shutdown()


def test_sessions_in_one_interaction_keep_to_themselves(tracker: Tracker, sink: Sink) -> None:
    sessions = {}
    with tracker.begin("worker", input="batch"):
        for user in ("alice", "bob"):
            sessions[user] = tracker.create_session(agent_name=user)
            tracker.track_tool_call(f"step of {user}", session_id=sessions[user])
            tracker.complete_session(sessions[user], user_id=user)
            plain = sessions[f"{user}, no agent"] = tracker.create_session()
            tracker.complete_session(plain, user_id=user)
    tracker.flush(5)
    told = {
        span.span_id: (span.name, span.attributes.get("user.id"), span.attributes.get("session.id"))
        for span in sink.spans
    }
    for key, session in sessions.items():
        assert told.pop(session[32:])[1:] == (key.partition(",")[0], session), key
    assert sorted(told.values()) == [
        ("step of alice", None, sessions["alice"]),
        ("step of bob", None, sessions["bob"]),
        ("worker", None, None),
    ]


def test_a_user_who_becomes_known_around_a_session_is_known_in_it(tracker: Tracker, sink: Sink) -> None:
    with tracker.begin("turn", input="q") as turn:
        session = tracker.create_session(agent_name="a")
        turn.update(user_id="u1")
        tracker.track_tool_call("step", session_id=session)
        tracker.track_feedback(session, score=1)
        tracker.complete_session(session)
        tracker.track_tool_call("late step", session_id=session)
    tracker.flush(5)
    told = {span.name: (span.attributes.get("user.id"), span.attributes.get("session.id")) for span in sink.spans}
    assert told.pop("turn") == ("u1", None)
    assert set(told.values()) == {("u1", session)}
    assert len(told) == 4


def test_a_session_is_named_after_the_agent_it_inherits(tracker: Tracker, sink: Sink) -> None:
    with tracker.context(agent_name="helper"):
        tracker.complete_session(tracker.create_session("Request: Hi"))
    span = arrived(tracker, sink)["invoke_agent helper"]
    assert span.attributes["gen_ai.agent.name"] == "helper"


def test_feedback_on_an_open_turn_knows_what_the_turn_will_adopt(tracker: Tracker, sink: Sink) -> None:
    with tracker.begin("turn") as turn:
        assert turn.user_id is None
        tracker.track_ai("answer", user_id="u1", convo_id="c1", input="q", output="a")
        assert (turn.user_id, turn.convo_id) == ("u1", "c1")
        turn.track_feedback(score=1)
    tracker.flush(5)
    feedback = next(span for span in sink.spans if "gen_ai.evaluation.name" in span.attributes)
    assert (feedback.attributes["user.id"], feedback.attributes["session.id"]) == ("u1", "c1")


def closed_by_age(tracker: Tracker) -> None:
    threading.Event().wait(0.06)
    tracker.create_session(agent_name="newer")


def reconfigured(tracker: Tracker) -> None:
    tracker.reconfigure(tracker.settings)


@pytest.mark.parametrize("forget", [closed_by_age, reconfigured])
def test_what_comes_after_a_session_was_let_go_is_the_same_persons_work(
    sink: Sink, forget: Callable[[Tracker], None]
) -> None:
    tracker = Tracker(endpoint=sink.url, session_timeout=0.05)
    session = tracker.create_session(agent_name="a", user_id="u1", convo_id="c1")
    forget(tracker)
    tracker.track_tool_call("step", session_id=session)
    for _ in range(2):
        tracker.complete_session(session)
    tracker.track_feedback(session, score=1)
    tracker.track_tool_call("late", session_id=session)
    outcomes = ["session_outcome"] if forget is closed_by_age else []
    sink.wait(4 + len(outcomes))  # what the configuration of before has goes out by itself
    own = [span for span in sink.spans if span.name != "invoke_agent newer"]
    names = ["gen_ai.evaluation.result", "invoke_agent a", "late", *outcomes, "step"]
    assert sorted(span.name for span in own) == names
    assert {(span.attributes["user.id"], span.attributes["session.id"]) for span in own} == {("u1", "c1")}
    tracker.shutdown()


def test_a_session_of_another_process_is_completed_once_as_well(tracker: Tracker, sink: Sink) -> None:
    for user in ("u1", "u2"):
        tracker.complete_session("ab" * 24, user_id=user, convo_id="c1")
    tracker.track_tool_call("late", session_id="ab" * 24)
    spans = arrived(tracker, sink)
    assert len(sink.spans) == 2
    assert {span.attributes["user.id"] for span in spans.values()} == {"u1"}


def test_web_80_a_child_of_a_fork_that_ran_no_hook_tells_the_outcome(tracker: Tracker, sink: Sink) -> None:
    session = tracker.create_session(user_id="u1")
    forks.home[0] = 0  # as the kernel leaves it there
    tracker.complete_session(session)
    outcome = arrived(tracker, sink)["session_outcome"]
    assert (outcome.trace_id, outcome.parent_id) == (session[:32], session[32:])
    assert outcome.attributes["user.id"] == "u1"


def test_feedback_on_a_session_carries_its_identity(tracker: Tracker, sink: Sink) -> None:
    session = tracker.create_session(user_id="u1", convo_id="c1")
    tracker.track_feedback(session, name="thumbs", score=1, comment="good")
    tracker.complete_session(session)
    feedback = next(span for span in arrived(tracker, sink).values() if "gen_ai.evaluation.name" in span.attributes)
    assert feedback.links == [(session[:32], session[32:])]
    assert (feedback.attributes["user.id"], feedback.attributes["session.id"]) == ("u1", "c1")
    assert feedback.attributes["gen_ai.evaluation.score.value"] == 1
    assert feedback.attributes["rootspan.target.span_id"] == session[32:]
    assert feedback.attributes["rootspan.target.trace_id"] == session[:32]


def test_feedback_on_a_session_that_is_over_still_knows_whose_it_was(tracker: Tracker, sink: Sink) -> None:
    session = tracker.create_session(user_id="u1")
    tracker.complete_session(session, user_input="Hi")
    tracker.track_feedback(session, name="thumbs", score=-1)
    feedback = arrived(tracker, sink)["gen_ai.evaluation.result"]
    assert (feedback.attributes["user.id"], feedback.attributes["session.id"]) == ("u1", session)


def test_feedback_on_a_turn_that_is_over_tells_the_user_that_its_span_tells(tracker: Tracker, sink: Sink) -> None:
    with tracker.begin("turn") as turn:
        step = tracker.tool_span("slow")
    step.track_ai("late", user_id="u2", input="q")
    assert turn.user_id is None
    turn.track_feedback(score=1)
    step.finish()
    tracker.flush(5)
    users = {span.name: span.attributes.get("user.id") for span in sink.spans}
    assert users == {"turn": None, "late": "u2", "slow": None, "gen_ai.evaluation.result": None}


def test_a_handle_judges_its_own_span_where_no_target_is_given(tracker: Tracker, sink: Sink) -> None:
    with tracker.begin("turn", user_id="u1", convo_id="c1") as turn:
        step = turn.tool_span("search")
        step.finish()
        step.track_feedback(name="on the step", score=0)
    assert len(turn.track_feedback(name="on the turn", score=1, comment="good")) == 16
    tracker.track_feedback(turn, "from outside", user_id="judge")
    assert tracker.flush(5)
    feedback = {span.attributes.get("gen_ai.evaluation.name"): span for span in sink.spans}
    for name, target in (("on the step", step), ("on the turn", turn), ("from outside", turn)):
        span = feedback[name]
        assert (span.parent_id, span.links) == (None, [(turn.trace_id, target.span_id)])
        assert span.attributes["rootspan.target.span_id"] == target.span_id
        assert span.attributes["user.id"] == ("judge" if name == "from outside" else "u1")
        assert span.attributes["session.id"] == "c1"
    assert feedback["on the turn"].attributes["gen_ai.evaluation.score.value"] == 1


def test_a_handle_judges_what_is_not_known_here_as_its_own_user(tracker: Tracker, sink: Sink) -> None:
    turn = tracker.begin("turn", user_id="u1")
    turn.finish()
    turn.track_feedback("0123456789abcdef", "elsewhere")
    turn.track_feedback(tracker.create_session(user_id="u2"), "session")
    assert tracker.flush(5)
    feedback = {span.attributes.get("gen_ai.evaluation.name"): span.attributes for span in sink.spans}
    assert (feedback["elsewhere"]["user.id"], feedback["session"]["user.id"]) == ("u1", "u2")
    assert feedback["elsewhere"]["rootspan.target.span_id"] == "0123456789abcdef"


@pytest.mark.parametrize("ids", ["0" * 48, "F" * 48, "0" * 47, " " * 48, b"a" * 48, 5])
def test_what_is_no_session_id_is_told_and_left_out(
    tracker: Tracker, sink: Sink, caplog: pytest.LogCaptureFixture, ids: Any
) -> None:
    """All zeros are OpenTelemetry's id of nothing: a span in that trace would be refused, or join everybody's."""
    with tracker.begin("turn", user_id="u1") as turn:
        tracker.track_decision("why", session_id=ids)
        tracker.track_feedback(ids, "thumbs")
    assert "session_id has to be what create_session returned" in caplog.text
    assert "track_feedback needs a span id, an interaction or a session id" in caplog.text
    assert tracker.flush(5)
    spans = {span.name: span for span in sink.spans}
    assert (spans["decision"].trace_id, spans["decision"].parent_id) == (turn.trace_id, turn.span_id)
    assert spans["gen_ai.evaluation.result"].links == []


def test_feedback_without_a_target_is_told(tracker: Tracker, sink: Sink, caplog: pytest.LogCaptureFixture) -> None:
    with tracker.begin("turn", user_id="u1") as turn:
        tracker.track_feedback(name="nobody's")
        tracker.track_feedback(tracker, "a tracker's")  # which is no target either
        turn.track_feedback("thumbs")
    assert caplog.text.count("track_feedback needs a span id, an interaction or a session id as target") == 1
    assert tracker.flush(5)
    feedback = [span for span in sink.spans if span.name == "gen_ai.evaluation.result"]
    assert len(feedback) == 3
    assert not any("rootspan.target.span_id" in span.attributes or span.links for span in feedback)
    assert {span.attributes["user.id"] for span in feedback} == {"u1"}


def test_tool_spans_and_decorators_may_name_a_session(tracker: Tracker, sink: Sink) -> None:
    session = tracker.create_session(user_id="u1")

    @tracker.tool(session_id=session)
    def search(query: str) -> str:
        tracker.track_ai("inside")
        return query

    search("x")
    tracker.complete_session(session)
    spans = arrived(tracker, sink)
    assert spans["search"].parent_id == session[32:]
    assert spans["inside"].parent_id == spans["search"].span_id
    assert spans["inside"].attributes["user.id"] == "u1"


def test_a_session_that_nobody_judges_has_no_outcome(tracker: Tracker, sink: Sink) -> None:
    judged: Any = None  # what an app may have where nobody judged
    tracker.complete_session(tracker.create_session("Request", "helper"), success=judged)
    assert "rootspan.outcome" not in arrived(tracker, sink)["invoke_agent helper"].attributes


def test_sessions_that_are_over_are_remembered_within_a_bound(
    tracker: Tracker, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "_REMEMBERED", 2)
    sessions = [tracker.create_session(user_id=f"u{n}") for n in range(3)]
    for session in sessions:
        tracker.complete_session(session)
    for number, session in enumerate(sessions):
        tracker.track_decision("late", name=f"of {number}", session_id=session)
    spans = arrived(tracker, sink)
    assert [spans[f"of {number}"].attributes.get("user.id") for number in range(3)] == [None, "u1", "u2"]


def test_another_thread_may_open_a_session_in_the_same_moment(tracker: Tracker, sink: Sink) -> None:
    class Changing(OrderedDict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError("OrderedDict mutated during iteration")

    tracker._recorder.sessions = Changing()
    session = tracker.create_session(user_id="u1")
    tracker._recorder.sessions = OrderedDict(tracker._recorder.sessions.copy())
    tracker.complete_session(session)
    assert len(arrived(tracker, sink)) == 1


def test_feedback_about_a_request_asks_whose_it_is(tracker: Tracker, sink: Sink) -> None:
    options = RequestOptions(tracker=tracker, user_id=lambda request: request["user"])
    root = open_request(RequestInfo({"user": "u1"}, "GET", "/"), options)
    assert root is not None
    with root.activate():
        here = tracker.current()
        assert here is not None
        here.track_feedback(here, name="thumbs", score=1)
    root.finish()
    assert arrived(tracker, sink)["gen_ai.evaluation.result"].attributes["user.id"] == "u1"
