"""What the LangChain handler costs: nothing, an empty handler and ours in turn, as ratios of the total time.

    python benchmarks/langchain_handler.py [rounds]

The model is a stand-in that answers at once, so that the ratios show the handler at its worst; the spans go to an
exporter that throws them away. Absolute times mean nothing on a shared machine.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

import rootspan
from rootspan_langchain import RootspanCallbackHandler


class Nowhere(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Endless:
    """Answers for ever: a tool call, then a text."""

    def __init__(self, calls: bool) -> None:
        self.calls = calls
        self.turn = 0

    def __iter__(self) -> Endless:
        return self

    def __next__(self) -> AIMessage:
        self.turn += 1
        usage: Any = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}
        if self.calls and self.turn % 2:
            call: Any = {"name": "search", "args": {"query": "weather"}, "id": f"c{self.turn}"}
            return AIMessage("", tool_calls=[call], usage_metadata=usage)
        return AIMessage("It is sunny. " * 20, usage_metadata=usage)


class Model(GenericFakeChatModel):
    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=[{"type": "function", "function": {"name": one.name}} for one in tools])


@tool
def search(query: str) -> str:
    """Search the web."""
    return "sunny " * 50


def chain() -> tuple[Any, Any]:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief. " * 50), ("human", "{question}")])
    return prompt | Model(messages=iter(Endless(False))) | StrOutputParser(), {"question": "How is the weather? " * 10}


def agent() -> tuple[Any, Any]:
    from langchain.agents import create_agent

    made = create_agent(Model(messages=iter(Endless(True))), [search], name="weather", system_prompt="Be brief. " * 50)
    return made, {"messages": [("user", "How is the weather? " * 10)]}


def compare(name: str, make: Callable[[], tuple[Any, Any]], rounds: int, batch: int, is_async: bool) -> None:
    tracker = rootspan.Tracker(exporters=[Nowhere()])
    ours = RootspanCallbackHandler(tracker=tracker, user_id="u1", convo_id="c1")

    class Empty(BaseCallbackHandler):
        run_inline = True

    handlers: dict[str, list[Any]] = {"none": [], "empty": [Empty()], "ours": [ours]}
    runnable, given = make()
    times: dict[str, list[float]] = {kind: [] for kind in handlers}

    async def awaited(config: Any) -> None:
        for _ in range(batch):
            await runnable.ainvoke(given, config)

    for round_ in range(rounds + 1):
        for kind in list(handlers)[round_ % 3 :] + list(handlers)[: round_ % 3]:
            config = {"callbacks": handlers[kind]}
            started = time.perf_counter()
            if is_async:
                asyncio.run(awaited(config))
            else:
                for _ in range(batch):
                    runnable.invoke(given, config)
            tracker.flush()  # what the worker still has to do counts as well
            if round_:
                times[kind].append((time.perf_counter() - started) / batch)
    ratios = [mine / empty for mine, empty in zip(times["ours"], times["empty"], strict=True)]
    base = [empty / none for empty, none in zip(times["empty"], times["none"], strict=True)]
    print(
        f"{name:<22} empty/none {median(base):.3f}   ours/empty {median(ratios):.3f} "
        f"(quartiles {sorted(ratios)[len(ratios) // 4]:.3f} to {sorted(ratios)[-len(ratios) // 4]:.3f})   "
        f"empty {median(times['empty']) * 1e3:.2f} ms   stats {ours.stats()['open']} open"
    )
    tracker.shutdown()


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    compare("chain, sync", chain, count, 40, False)
    compare("chain, async", chain, count, 40, True)
    compare("create_agent, sync", agent, count, 10, False)
    compare("create_agent, async", agent, count, 10, True)
