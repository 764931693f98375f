"""The contract of adapters for chains, on LangChain's own runnables and on LangGraph's graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from rootspan import Tracker
from rootspan.testing import RunTreeContract
from rootspan_langchain import RootspanCallbackHandler


class TestRunnables(RunTreeContract):
    def invoke(self, tracker: Tracker, work: Callable[[], Any], user_id: Any = None, convo_id: Any = None) -> Any:
        handler = RootspanCallbackHandler(tracker=tracker, user_id=user_id, convo_id=convo_id)
        try:
            return RunnableLambda(lambda _: work(), name="root").invoke("x", {"callbacks": [handler]})
        finally:
            assert handler.stats()["kept"] == 0

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        return RunnableLambda(lambda _: work(), name=name).invoke("x")


class TestGraphs(TestRunnables):
    def invoke(self, tracker: Tracker, work: Callable[[], Any], user_id: Any = None, convo_id: Any = None) -> Any:
        graphs = pytest.importorskip("langgraph.graph", reason="a graph")
        graph = graphs.StateGraph(dict)
        graph.add_node("node", lambda state: {"answer": work()})
        graph.add_edge(graphs.START, "node")
        handler = RootspanCallbackHandler(tracker=tracker, user_id=user_id, convo_id=convo_id)
        try:
            return graph.compile().invoke({"question": "x"}, {"callbacks": [handler]})["answer"]
        finally:
            assert handler.stats()["kept"] == 0


def test_the_contract_asks_for_its_two_methods() -> None:
    contract = RunTreeContract()
    with pytest.raises(NotImplementedError):
        contract.step("name", str)
    with pytest.raises(NotImplementedError):
        contract.test_each_invocation_is_a_trace_of_its_own()
