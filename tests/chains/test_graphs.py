"""Agents and graphs as product events: edge cases 33 to 39 and 44 to 47, 62."""

from __future__ import annotations

import asyncio
import json
import operator
import sys
import uuid
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import ToolException, tool

pytest.importorskip("langgraph", reason="these tests drive LangGraph")

from langgraph.checkpoint.memory import MemorySaver
from langgraph.errors import GraphInterrupt, GraphRecursionError
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from rootspan import Tracker
from rootspan_langchain import RootspanCallbackHandler
from scripted import ChatScripted, Trees, calls

Collect = Callable[[], Trees]
CORE = tuple(map(int, version("langchain-core").split(".")[:2]))
NO_CONTEXT = "before Python 3.11 LangGraph's async graphs give their nodes no context"
either = pytest.mark.parametrize(
    "is_async",
    [False, pytest.param(True, marks=pytest.mark.skipif(sys.version_info < (3, 11), reason=NO_CONTEXT))],
)
needs_agents = pytest.mark.skipif(CORE < (1, 0), reason="create_agent is LangChain 1; langchain-core 0.3 has none")


class State(TypedDict, total=False):
    text: str
    seen: Annotated[list[str], operator.add]


def config(handler: Any, thread: str | None = None, **more: Any) -> Any:
    made: dict[str, Any] = {"callbacks": [handler], **more}
    return made if thread is None else {**made, "configurable": {"thread_id": thread}}


def asking() -> Any:
    def ask(state: State) -> State:
        return {"seen": [str(interrupt({"question": "really?"}))]}

    graph = StateGraph(State)
    graph.add_node("ask", ask)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return graph.compile(checkpointer=MemorySaver())


@either
def test_lc_33_35_an_interrupt_is_an_outcome_and_the_resumed_run_links_to_it(
    tracker: Tracker, trees: Collect, is_async: bool
) -> None:
    graph, handler = asking(), RootspanCallbackHandler(tracker=tracker)

    def run(given: Any) -> None:
        if is_async:
            asyncio.run(graph.ainvoke(given, config(handler, "t1")))
        else:
            graph.invoke(given, config(handler, "t1"))

    run({"text": "x"})
    run(Command(resume="yes"))
    found = trees()
    paused, resumed = found.roots
    for span in (paused, found.find("ask")[0]):
        assert span.attributes["rootspan.outcome"] == "interrupted"
        assert (span.status_code, span.events) == (0, [])
        assert json.loads(span.attributes["rootspan.interrupt.payload"]) == [{"question": "really?"}]
    assert "rootspan.outcome" not in resumed.attributes
    assert resumed.links == [(paused.trace_id, paused.span_id)]
    assert resumed.attributes["rootspan.interrupt.answer"] == "yes"
    assert resumed.attributes["rootspan.interrupt.waited"] > 0
    assert paused.attributes["session.id"] == resumed.attributes["session.id"] == "t1"
    assert paused.attributes["rootspan.langgraph.thread_id"] == "t1"
    assert handler.stats()["kept"] == 0


def test_lc_34_an_error_that_is_only_named_like_an_interrupt_is_an_error(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    class GraphInterrupt(Exception):
        pass

    for error in (GraphInterrupt("Interrupt(value=1)"), RuntimeError("Command(goto='x')")):

        def fail(_: Any, error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)):
            RunnableLambda(fail).invoke("x", config(handler))
    assert [root.status_code for root in trees().roots] == [2, 2]


def test_lc_36_two_paused_runs_of_one_thread_are_resumed_each_by_its_own(tracker: Tracker, trees: Collect) -> None:
    """Two graphs that share a thread id, paused at the same time."""
    first, second, handler = asking(), asking(), RootspanCallbackHandler(tracker=tracker)
    first.invoke({"text": "a"}, config(handler, "t1", run_name="first"))
    second.invoke({"text": "b"}, config(handler, "t1", run_name="second"))
    first.invoke(Command(resume=1), config(handler, "t1", run_name="first again"))
    second.invoke(Command(resume=2), config(handler, "t1", run_name="second again"))
    second.invoke(Command(resume=3), config(handler, "t1", run_name="nothing to resume"))
    found = trees()

    def linked(name: str) -> Any:
        span = found.one(name)
        return span.links[0][1] if span.links else None

    ids = {found.one(name).span_id for name in ("first", "second")}
    assert {linked("first again"), linked("second again")} == ids
    assert linked("nothing to resume") is None
    from rootspan_langchain.graphs import HAS_EVENTS

    if HAS_EVENTS:  # they name the checkpoint
        assert linked("first again") == found.one("first").span_id


def test_lc_37_a_hand_over_to_a_parent_graph_is_no_error(handler: RootspanCallbackHandler, trees: Collect) -> None:
    def leave(state: State) -> Any:
        return Command(goto="other", graph=Command.PARENT, update={"seen": ["left"]})

    inner = StateGraph(State)
    inner.add_node("leave", leave)
    inner.add_edge(START, "leave")
    outer = StateGraph(State)
    outer.add_node("team", inner.compile(), destinations=("other",)) if CORE >= (1, 0) else outer.add_node(
        "team", inner.compile()
    )
    outer.add_node("other", lambda state: {"seen": ["other"]})
    outer.add_edge(START, "team")
    outer.add_edge("other", END)
    outer.compile().invoke({"text": "x"}, config(handler))
    found = trees()
    assert {span.status_code for span in found.spans} == {0}
    assert all(not span.events for span in found.spans)
    goto = found.one("goto")  # the choice of the node that left, and of nothing around it
    assert found.path(goto)[-2:] == ["leave", "goto"]
    assert json.loads(goto.attributes["output.value"]) == ["other"]


def test_a_goto_of_a_tool_is_one_decision(handler: RootspanCallbackHandler, trees: Collect) -> None:
    @tool
    def hand_over(to: str) -> Any:
        """Hand over."""
        return Command(goto=to, graph=Command.PARENT if to == "colleague" else None, update={"seen": [to]})

    def act(state: State) -> Any:
        return [hand_over.invoke({"to": "colleague" if state["seen"] else "again"})]

    inner = StateGraph(State)
    inner.add_node("act", act)
    inner.add_node("again", act)
    inner.add_edge(START, "act")
    outer = StateGraph(State)
    outer.add_node("team", inner.compile())
    outer.add_node("colleague", lambda state: {"seen": ["done"]})
    outer.add_edge(START, "team")
    outer.compile(name="boss").invoke({"text": "x", "seen": []}, config(handler))
    found = trees()
    paths = sorted((found.path(goto)[-3:], json.loads(goto.attributes["output.value"])) for goto in found.find("goto"))
    assert paths == [
        (["act", "hand_over", "goto"], ["again"]),
        (["again", "hand_over", "goto"], ["colleague"]),
    ]
    assert {span.status_code for span in found.spans} == {0}


def test_a_goto_of_a_tool_outside_of_any_graph_is_a_decision_too(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    @tool
    def hand_over(to: str) -> Any:
        """Hand over."""
        return Command(goto=to)

    hand_over.invoke({"to": "colleague"}, config(handler))
    found = trees()
    assert found.path(found.one("goto")) == ["hand_over", "goto"]


def test_several_commands_are_one_decision_for_all_their_places(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    graph = StateGraph(State)
    graph.add_node("start", lambda state: [Command(goto="a"), Command(goto=["b", "a"])])
    graph.add_node("a", lambda state: {"seen": ["a"]})
    graph.add_node("b", lambda state: {"seen": ["b"]})
    graph.add_edge(START, "start")
    graph.compile(name="router").invoke({"text": "x"}, config(handler))
    found = trees()
    goto = found.one("goto")
    assert found.path(goto) == ["router", "start", "goto"]
    assert json.loads(goto.attributes["output.value"]) == ["a", "b"]


def test_a_goto_is_a_decision_of_its_node(handler: RootspanCallbackHandler, trees: Collect) -> None:
    def route(state: State) -> Any:
        return Command(goto="b", update={"seen": ["a"]})

    graph = StateGraph(State)
    graph.add_node("a", route, destinations=("b",)) if CORE >= (1, 0) else graph.add_node("a", route)
    graph.add_node("b", lambda state: {"seen": ["b"]})
    graph.add_edge(START, "a")
    graph.compile(name="router").invoke({"text": "x"}, config(handler))
    found = trees()
    goto = found.one("goto")
    assert found.path(goto) == ["router", "a", "goto"]
    assert json.loads(goto.attributes["output.value"]) == ["b"]
    assert found.root.attributes["gen_ai.operation.name"] == "invoke_agent"
    node = found.one("b")
    assert (node.attributes["rootspan.langgraph.node"], node.attributes["rootspan.langgraph.step"]) == ("b", 2)
    assert node.attributes["rootspan.langgraph.checkpoint_ns"].startswith("b:")


def test_the_output_of_a_node_whose_command_only_updates_is_what_it_updates(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    graph = StateGraph(State)
    graph.add_node("one", lambda state: Command(update={"seen": ["one"]}))
    graph.add_node("listed", lambda state: [Command(update={"seen": ["listed"]})])
    graph.add_edge(START, "one")
    graph.add_edge("one", "listed")
    graph.compile(name="router").invoke({"text": "x"}, config(handler))
    found = trees()
    for name in ("one", "listed"):
        assert json.loads(found.one(name).attributes["output.value"]) == {"seen": [name]}


def test_lc_38_a_fan_out_is_one_worker_each(handler: RootspanCallbackHandler, trees: Collect) -> None:
    model = ChatScripted(script=["done"])

    def work(state: Any) -> State:
        return {"seen": [str(model.invoke(state["text"]).content)]}

    graph = StateGraph(State)
    graph.add_node("work", work)
    graph.add_conditional_edges(START, lambda state: [Send("work", {"text": str(n)}) for n in range(5)], ["work"])
    graph.add_edge("work", END)
    graph.compile().invoke({"text": "x"}, config(handler))
    found = trees()
    workers = found.find("work")
    assert {found.parent(worker).span_id for worker in workers} == {found.root.span_id}
    assert len({found.parent(model).span_id for model in found.models()}) == len(workers) == 5


@either
def test_lc_39_subgraphs_and_tools_that_call_models_nest(
    handler: RootspanCallbackHandler, trees: Collect, is_async: bool
) -> None:
    model = ChatScripted(script=["done"])

    @tool
    def sync_tool(text: str) -> str:
        """Ask a model."""
        return str(model.invoke(text).content)

    inner = StateGraph(State)
    inner.add_node("deep", lambda state: {"seen": [sync_tool.invoke({"text": state["text"]})]})
    inner.add_edge(START, "deep")
    outer = StateGraph(State)
    outer.add_node("sub", inner.compile())
    outer.add_edge(START, "sub")
    graph = outer.compile(name="outer")
    if is_async:
        asyncio.run(graph.ainvoke({"text": "x"}, config(handler)))
    else:
        graph.invoke({"text": "x"}, config(handler))
    found = trees()
    path = found.path(found.models()[0])
    assert path[0] == "outer"
    assert path[-3:] == ["deep", "sync_tool", "ChatScripted"]
    assert "sub" in path
    assert found.is_whole()


def test_lc_44_a_tool_error_that_became_a_message_marks_the_tool_alone(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    def fail(query: str) -> str:
        """Fail."""
        raise ToolException("no such page")

    from langchain_core.tools import StructuredTool

    handled = StructuredTool.from_function(fail, name="handled", handle_tool_error=True)

    @tool
    def returned(query: str) -> Any:
        """Return an error."""
        return ToolMessage("not found", tool_call_id="c2", status="error")

    def call(query: str, config: Any) -> str:
        handled.invoke({"name": "handled", "args": {"query": query}, "id": "c1", "type": "tool_call"}, config)
        returned.invoke({"name": "returned", "args": {"query": query}, "id": "c2", "type": "tool_call"}, config)
        return "fine"

    RunnableLambda(call, name="root").invoke("q", config(handler))
    found = trees()
    assert found.root.status_code == 0
    for name, message in (("handled", "no such page"), ("returned", "not found")):
        span = found.one(name)
        assert (span.status_code, span.status_message) == (2, message)
        assert span.attributes["error.type"] == "ToolMessage"
        assert span.attributes["gen_ai.tool.call.id"] == {"handled": "c1", "returned": "c2"}[name]


def test_lc_45_failed_attempts_are_errors_below_a_root_that_is_fine(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    attempts: list[int] = []

    def flaky(text: str) -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionError("down")
        return text

    retried = RunnableLambda(flaky, name="flaky").with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
    broken = ChatScripted(script=[TimeoutError("slow")]).with_config(run_name="first")
    chain = retried | broken.with_fallbacks([ChatScripted(script=["fallback"]).with_config(run_name="second")])
    assert chain.invoke("x", config(handler)).content == "fallback"
    found = trees()
    assert found.root.status_code == 0
    tries = [span for span in found.find("flaky") if found.parent(span).name == "flaky" or not found.children(span)]
    assert [span.status_code for span in tries][-3:] == [2, 2, 0]
    assert [span.attributes.get("rootspan.run.attempt") for span in tries][-3:] == [None, 2, 3]
    assert found.one("first").status_code == 2
    assert found.one("second").status_code == 0
    assert found.parent(found.one("first")).span_id == found.parent(found.one("second")).span_id


def test_lc_46_a_recursion_limit_and_a_failing_node_mark_root_and_node(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    def fail(state: State) -> State:
        raise LookupError("nothing there")

    graph = StateGraph(State)
    graph.add_node("loop", lambda state: {"seen": ["again"]})
    graph.add_edge(START, "loop")
    graph.add_edge("loop", "loop")
    with pytest.raises(GraphRecursionError):
        graph.compile(name="looping").invoke({"text": "x"}, config(handler, recursion_limit=3))
    graph = StateGraph(State)
    graph.add_node("fail", fail)
    graph.add_edge(START, "fail")
    with pytest.raises(LookupError):
        graph.compile(name="failing").invoke({"text": "x"}, config(handler))
    found = trees()
    assert found.one("looping").attributes["error.type"] == "langgraph.errors.GraphRecursionError"
    for name in ("failing", "fail"):
        span = found.one(name)
        assert (span.status_code, span.status_message, span.attributes["error.type"]) == (
            2,
            "nothing there",
            "LookupError",
        )
    assert {span.status_code for span in found.find("loop")} == {0}


@tool
def weather(city: str) -> str:
    """Tell the weather."""
    return f"sunny in {city}"


@tool
def booking(city: str) -> str:
    """Book a flight."""
    return f"booked {city}"


def agent(script: list[Any], **options: Any) -> Any:
    from langchain.agents import create_agent

    return create_agent(ChatScripted(script=script), [weather, booking], name="traveller", **options)


@needs_agents
def test_lc_47_building_an_agent_is_no_invocation(
    tracker: Tracker, handler: RootspanCallbackHandler, trees: Collect
) -> None:
    agent(["hi"])
    assert tracker.stats()["recorded"] == 0


@needs_agents
@either
def test_lc_48_an_agent_is_one_tree_with_its_name_decisions_and_tokens(
    handler: RootspanCallbackHandler, trees: Collect, is_async: bool
) -> None:
    made = agent([calls("weather", city="Oslo", text="I look it up."), "It is sunny."])
    given = {"messages": [{"role": "user", "content": "Weather in Oslo?"}]}
    if is_async:
        asyncio.run(made.ainvoke(given, config(handler)))
    else:
        made.invoke(given, config(handler))
    found = trees()
    root = found.root
    assert (root.name, root.attributes["gen_ai.agent.name"]) == ("traveller", "traveller")
    assert root.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert root.attributes["openinference.span.kind"] == "AGENT"
    assert (root.attributes["input.value"], root.attributes["output.value"]) == ("Weather in Oslo?", "It is sunny.")
    assert not any(name.startswith("gen_ai.usage") for name in root.attributes)
    assert found.path(found.one("weather")) == ["traveller", "tools", "weather"]
    assert [found.path(model) for model in found.models()] == [["traveller", "model", "ChatScripted"]] * 2
    with_tokens = [span for span in found.spans if "gen_ai.usage.input_tokens" in span.attributes]
    assert {span.span_id for span in with_tokens} == {span.span_id for span in found.models()}
    assert sum(span.attributes["gen_ai.usage.input_tokens"] for span in with_tokens) == 20
    decision = found.one("tool_choice")
    assert found.path(decision) == ["traveller", "model", "tool_choice"]
    assert json.loads(decision.attributes["output.value"]) == ["weather"]
    assert decision.attributes["rootspan.decision.alternatives"] == ["booking"]
    assert decision.attributes["rootspan.decision.reasoning"] == "I look it up."
    first = min(found.models(), key=lambda span: span.start)
    offered = json.loads(first.attributes["gen_ai.tool.definitions"])
    assert [one["function"]["name"] for one in offered] == ["weather", "booking"]
    tool_span = found.one("weather")
    assert json.loads(tool_span.attributes["gen_ai.tool.call.arguments"]) == {"city": "Oslo"}
    assert tool_span.attributes["gen_ai.tool.call.id"] == "c1"


@needs_agents
def test_an_agent_in_less_detail(tracker: Tracker, trees: Collect) -> None:
    handler = RootspanCallbackHandler(tracker=tracker, detail="agent")
    made = agent([calls("weather", city="Oslo"), "It is sunny."])
    made.invoke({"messages": [("user", "hi")]}, config(handler))
    names = [span.name for span in sorted(trees().spans, key=lambda span: span.start)]
    assert names[0] == "traveller"
    assert set(names) == {"traveller", "model", "tools", "weather", "ChatScripted", "tool_choice"}


@needs_agents
def test_lc_33_approval_by_a_person_in_an_agent(tracker: Tracker, trees: Collect) -> None:
    from langchain.agents.middleware import HumanInTheLoopMiddleware

    middleware = HumanInTheLoopMiddleware(interrupt_on={"booking": True})
    made = agent([calls("booking", city="Oslo"), "Booked."], middleware=[middleware], checkpointer=MemorySaver())
    handler = RootspanCallbackHandler(tracker=tracker)
    made.invoke({"messages": [("user", "Book Oslo")]}, config(handler, "t1"))
    answer: Any = {"decisions": [{"type": "approve"}]}
    made.invoke(Command(resume=answer), config(handler, "t1"))
    found = trees()
    paused, resumed = found.roots
    assert paused.attributes["rootspan.outcome"] == "interrupted"
    assert paused.attributes["input.value"] == "Book Oslo"
    assert {span.status_code for span in found.spans} == {0}
    assert resumed.links == [(paused.trace_id, paused.span_id)]
    assert json.loads(resumed.attributes["rootspan.interrupt.answer"]) == answer
    assert resumed.attributes["output.value"] == "Booked."


@needs_agents
def test_a_streamed_agent_shows_its_answer_whatever_its_middleware_counts(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    """LangGraph tells the whole state of what is streamed, also what LangChain's middleware keeps in it for itself."""
    from langchain.agents import middleware as parts
    from langchain.agents.middleware.shell_tool import ShellToolState

    class Shell(parts.AgentMiddleware[ShellToolState]):
        """What `ShellToolMiddleware` keeps, without a shell, which that one leaves open."""

        state_schema = ShellToolState

        def before_model(self, state: Any, runtime: Any) -> dict[str, Any]:
            return {"shell_session_resources": "a shell"}

    made = agent(
        [calls("booking", city="Oslo"), "Booked."],
        middleware=[
            parts.ModelCallLimitMiddleware(run_limit=5),
            parts.ToolCallLimitMiddleware(run_limit=5),
            parts.HumanInTheLoopMiddleware(interrupt_on={"booking": True}),
            Shell(),
        ],
        checkpointer=MemorySaver(),
    )
    answer: Any = {"decisions": [{"type": "approve"}]}
    for given in ({"messages": [("user", "Book Oslo")]}, Command(resume=answer)):
        list(made.stream(given, config(handler, "t1")))
    assert trees().roots[-1].attributes["output.value"] == "Booked."


@needs_agents
@either
def test_lc_39_an_agent_that_is_given_its_callers_configuration_keeps_its_own_name(
    handler: RootspanCallbackHandler, trees: Collect, is_async: bool
) -> None:
    """LangChain's metadata, copied with it, names the caller."""
    from langchain.agents import create_agent

    expert = create_agent(ChatScripted(script=["It depends."]), [], name="expert")

    @tool
    def ask_expert(question: str, config: RunnableConfig) -> str:
        """Ask an expert."""
        return str(expert.invoke({"messages": [("user", question)]}, config)["messages"][-1].content)

    @tool("ask_expert")
    async def aask_expert(question: str, config: RunnableConfig) -> str:
        """Ask an expert."""
        return str((await expert.ainvoke({"messages": [("user", question)]}, config))["messages"][-1].content)

    script = [calls("ask_expert", question="why?"), "It depends, he says."]
    boss = create_agent(ChatScripted(script=script), [aask_expert if is_async else ask_expert], name="boss")
    given = {"messages": [("user", "why?")]}
    asyncio.run(boss.ainvoke(given, config(handler))) if is_async else boss.invoke(given, config(handler))
    found = trees()
    named = {(span.attributes["gen_ai.agent.name"], "expert" in found.path(span)) for span in found.spans}
    assert named == {("expert", True), ("boss", False)}


def test_lc_39_a_node_that_calls_a_task_is_no_agent(handler: RootspanCallbackHandler, trees: Collect) -> None:
    """Only a graph's nodes show that it is one; a task has a namespace of its own, as they do."""
    functions = pytest.importorskip("langgraph.func", reason="tasks")

    @functions.task
    def inner(text: str) -> str:
        return text.upper()

    @functions.task
    def outer(text: str) -> str:
        return str(inner(text).result())

    def node(state: State) -> State:
        return {"text": RunnableLambda(lambda text: outer(text).result(), name="between").invoke(state["text"])}

    graph = StateGraph(State)
    graph.add_node("node", node)
    graph.add_edge(START, "node")
    assert graph.compile(name="shop").invoke({"text": "hi"}, config(handler))["text"] == "HI"
    found = trees()
    assert found.path(found.one("inner")) == ["shop", "node", "between", "outer", "inner"]
    assert {span.attributes["gen_ai.agent.name"] for span in found.spans} == {"shop"}
    called = [one.name for one in found.spans if one.attributes.get("gen_ai.operation.name") == "invoke_agent"]
    assert called == ["shop"]


@needs_agents
def test_lc_39_an_agent_as_a_tool_nests_under_it_with_its_own_name(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    from langchain.agents import create_agent

    expert = create_agent(ChatScripted(script=["It depends."]), [], name="expert")

    @tool
    def ask_expert(question: str) -> str:
        """Ask an expert."""
        return str(expert.invoke({"messages": [("user", question)]})["messages"][-1].content)

    script = [calls("ask_expert", question="why?"), "He says it depends."]
    boss = create_agent(ChatScripted(script=script), [ask_expert], name="boss")
    boss.invoke({"messages": [("user", "why?")]}, config(handler))
    found = trees()
    assert found.path(found.one("expert")) == ["boss", "tools", "ask_expert", "expert"]
    assert found.one("expert").attributes["gen_ai.operation.name"] == "invoke_agent"
    by_agent = {span.attributes["gen_ai.agent.name"] for span in found.spans if "expert" in found.path(span)}
    assert by_agent == {"expert"}
    assert found.root.attributes["gen_ai.agent.name"] == "boss"


def test_an_old_node_error_handler_sees_a_bubbling_exception_of_another_kind(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    from langgraph.errors import GraphBubbleUp

    def drain(_: Any) -> None:
        raise GraphBubbleUp("drained")

    with pytest.raises(GraphBubbleUp):
        RunnableLambda(drain).invoke("x", config(handler))
    assert trees().root.status_code == 0


def without_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do as an older LangGraph does, which sends neither on_interrupt nor on_resume."""
    monkeypatch.setattr("rootspan_langchain.graphs.HAS_EVENTS", False)
    monkeypatch.setattr(RootspanCallbackHandler, "on_interrupt", lambda *_: None, raising=False)
    monkeypatch.setattr(RootspanCallbackHandler, "on_resume", lambda *_: None, raising=False)


def test_lc_35_without_events_a_thread_tells_which_run_goes_on(
    tracker: Tracker, trees: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_events(monkeypatch)
    graph, handler = asking(), RootspanCallbackHandler(tracker=tracker)
    graph.invoke({"text": "x"}, config(handler, "t1"))
    graph.invoke(Command(resume="yes"), config(handler, "t1"))
    paused, resumed = trees().roots
    assert paused.attributes["rootspan.outcome"] == "interrupted"
    assert json.loads(paused.attributes["rootspan.interrupt.payload"]) == [{"question": "really?"}]
    assert resumed.links == [(paused.trace_id, paused.span_id)]


def test_an_interrupt_before_a_node_is_one_as_well(tracker: Tracker, trees: Collect) -> None:
    from rootspan_langchain.graphs import HAS_EVENTS

    if not HAS_EVENTS:
        pytest.skip("this LangGraph tells nobody that it stopped before a node")
    graph = StateGraph(State)
    graph.add_node("later", lambda state: {"seen": ["done"]})
    graph.add_edge(START, "later")
    made = graph.compile(checkpointer=MemorySaver(), interrupt_before=["later"])
    handler = RootspanCallbackHandler(tracker=tracker)
    made.invoke({"text": "x"}, config(handler, "t1"))
    made.invoke(None, config(handler, "t1"))
    paused, resumed = trees().roots
    assert paused.attributes["rootspan.outcome"] == "interrupted"
    assert resumed.links == [(paused.trace_id, paused.span_id)]


def test_the_state_of_a_chat_is_shown_as_what_was_said(handler: RootspanCallbackHandler, trees: Collect) -> None:
    echo = RunnableLambda(lambda state: {"messages": [*state["messages"], AIMessage("hello")]}, name="echo")
    for messages in ([HumanMessage("hi")], [("human", "hi")], [{"role": "user", "content": "hi"}]):
        echo.invoke({"messages": messages}, config(handler))
    echo.invoke({"messages": [AIMessage("odd"), ("x",)]}, config(handler))
    found = trees().roots
    assert [root.attributes["input.value"] for root in found[:3]] == ["hi"] * 3
    assert [root.attributes["output.value"] for root in found] == ["hello"] * 4


def test_what_was_said_in_blocks_of_text_is_shown_as_text(handler: RootspanCallbackHandler, trees: Collect) -> None:
    thought = {"type": "reasoning", "reasoning": "a greeting"}
    bedrock = {"type": "reasoning_content", "reasoning_content": {"text": "politely", "signature": "s"}}
    said: Any = [thought, bedrock, {"type": "text", "text": "good "}, {"type": "text", "text": "day", "index": 1}]
    seen = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    hi: Any = {"type": "text", "text": "hi"}
    for asked, answer in (([hi], said), ([hi, seen], [seen])):
        chat = RunnableLambda(lambda _, answer=answer: {"messages": [AIMessage(answer)]})
        chat.invoke({"messages": [HumanMessage(asked)]}, config(handler))
    text, picture = trees().roots
    assert (text.attributes["input.value"], text.attributes["output.value"]) == ("hi", "good day")
    assert "image_url" in picture.attributes["input.value"]
    assert "image_url" in picture.attributes["output.value"]


def test_an_interrupt_without_content_and_of_an_unknown_run(tracker: Tracker, trees: Collect) -> None:
    from types import SimpleNamespace

    graph, handler = asking(), RootspanCallbackHandler(tracker=tracker, capture_content=False)
    graph.invoke({"text": "x"}, config(handler, "t1"))
    graph.invoke(Command(resume="hush"), config(handler, "t1"))
    unknown = SimpleNamespace(run_id=uuid.uuid4(), checkpoint_id="c", interrupts=())
    handler.on_interrupt(unknown)
    handler.on_resume(unknown)
    paused, resumed = trees().roots
    assert paused.attributes["rootspan.outcome"] == "interrupted"
    assert resumed.links == [(paused.trace_id, paused.span_id)]
    assert "hush" not in str(resumed.attributes)
    assert "really?" not in str(paused.attributes)


def test_a_graph_names_the_request_around_it_and_may_be_hidden_itself(tracker: Tracker, trees: Collect) -> None:
    graph = StateGraph(State)
    graph.add_node("only", lambda state: {"seen": ["x"]})
    graph.add_edge(START, "only")
    made = graph.compile(name="planner")
    with tracker.begin("turn"):
        made.invoke({"text": "x"}, config(RootspanCallbackHandler(tracker=tracker)))
    hiding = RootspanCallbackHandler(tracker=tracker, include=lambda run: run.is_node)
    made.invoke({"text": "x"}, config(hiding))
    found = trees()
    assert found.one("turn").attributes["gen_ai.agent.name"] == "planner"
    assert [root.name for root in found.roots if root.name != "__start__"] == ["turn", "only"]


@pytest.mark.parametrize("events", [True, False])
def test_a_hidden_graph_may_pause_and_go_on(
    tracker: Tracker, trees: Collect, monkeypatch: pytest.MonkeyPatch, events: bool
) -> None:
    if not events:
        without_events(monkeypatch)
    graph, handler = asking(), RootspanCallbackHandler(tracker=tracker, include=lambda run: False)
    graph.invoke({"text": "x"}, config(handler, "t1"))
    graph.invoke(Command(resume="yes"), config(handler, "t1"))
    assert not trees().roots
    assert handler.stats() == dict.fromkeys(handler.stats(), 0)


def test_without_events_a_graph_that_has_no_thread_is_interrupted_as_well(
    tracker: Tracker, trees: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_events(monkeypatch)
    handler, root, node = RootspanCallbackHandler(tracker=tracker), uuid.uuid4(), uuid.uuid4()
    handler.on_chain_start(None, "x", run_id=root, name="graph")
    handler.on_chain_start(None, "x", run_id=node, parent_run_id=root, name="node")
    handler.on_chain_error(GraphInterrupt(()), run_id=node)
    handler.on_chain_end("y", run_id=root)
    assert trees().root.attributes["rootspan.outcome"] == "interrupted"


def test_paused_runs_are_bounded(sink: Any) -> None:
    tracker = Tracker(endpoint=sink.url, max_open_sessions=3)
    handler = RootspanCallbackHandler(tracker=tracker)
    for number in range(5):
        asking().invoke({"text": "x"}, config(handler, f"t{number}"))
    assert len(handler._tree._forest.paused) == 3
    tracker.shutdown()
