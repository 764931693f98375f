"""What the LangChain handler costs: nothing, an empty handler and ours in turn, as ratios of the total time.

    python benchmarks/langchain_handler.py [rounds]

Total time is from the first invocation of a batch until everything of it is delivered over OTLP/HTTP to a collector in
another process: the background worker's share is in it. The model is a stand-in; with a delay of 0 it shows the handler
at its worst, since nothing but callbacks happens; 50 ms is a fast hosted model. Absolute times mean nothing on a shared
machine, so only ratios of neighbouring batches are compared.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from collector import Collector
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool

import rootspan
from rootspan_langchain import RootspanCallbackHandler


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
    delay: float = 0.0

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        if self.delay:
            time.sleep(self.delay)
        return super()._generate(*args, **kwargs)

    async def _agenerate(self, *args: Any, **kwargs: Any) -> Any:
        if self.delay:
            await asyncio.sleep(self.delay)
        return super()._generate(*args, **kwargs)

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=[{"type": "function", "function": {"name": one.name}} for one in tools])


@tool
def search(query: str) -> str:
    """Search the web."""
    return "sunny " * 50


def chain(delay: float) -> tuple[Any, Any]:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief. " * 50), ("human", "{question}")])
    model = Model(messages=iter(Endless(False)), delay=delay)
    return prompt | model | StrOutputParser(), {"question": "How is the weather? " * 10}


def agent(delay: float) -> tuple[Any, Any]:
    from langchain.agents import create_agent

    model = Model(messages=iter(Endless(True)), delay=delay)
    made = create_agent(model, [search], name="weather", system_prompt="Be brief. " * 50)
    return made, {"messages": [("user", "How is the weather? " * 10)]}


def compare(name: str, made: tuple[Any, Any], url: str, rounds: int, batch: int, is_async: bool) -> None:
    tracker = rootspan.Tracker(endpoint=url)
    ours = RootspanCallbackHandler(tracker=tracker, user_id="u1", convo_id="c1")

    class Empty(BaseCallbackHandler):
        run_inline = True

    handlers: dict[str, list[Any]] = {"none": [], "empty": [Empty()], "ours": [ours]}
    runnable, given = made
    times: dict[str, list[float]] = {kind: [] for kind in handlers}

    async def awaited(config: Any) -> None:
        for _ in range(batch):
            await runnable.ainvoke(given, config)

    for number in range(rounds + 1):
        for kind in list(handlers)[number % 3 :] + list(handlers)[: number % 3]:
            config = {"callbacks": handlers[kind]}
            started = time.perf_counter()
            if is_async:
                asyncio.run(awaited(config))
            else:
                for _ in range(batch):
                    runnable.invoke(given, config)
            tracker.flush()
            if number:
                times[kind].append((time.perf_counter() - started) / batch)
    ratios = sorted(mine / empty for mine, empty in zip(times["ours"], times["empty"], strict=True))
    base = median(empty / none for empty, none in zip(times["empty"], times["none"], strict=True))
    quarter = len(ratios) // 4
    print(
        f"{name:<28} empty/none {base:5.3f}   ours/empty {median(ratios):5.3f} "
        f"({ratios[quarter]:5.3f} to {ratios[-1 - quarter]:5.3f})   empty {median(times['empty']) * 1e3:.2f} ms",
        flush=True,
    )
    assert ours.stats()["open"] == 0
    assert not tracker.stats()["dropped"]
    tracker.shutdown()


def main(rounds: int) -> None:
    kinds: tuple[tuple[str, Callable[[float], tuple[Any, Any]], int], ...] = (
        ("chain", chain, 200),
        ("create_agent", agent, 50),
    )
    with Collector() as collector:
        for delay in (0.0, 0.05):
            for name, make, batch in kinds:
                for is_async in (False, True):
                    title = f"{name}, {'async' if is_async else 'sync'}, {delay * 1e3:.0f} ms"
                    compare(title, make(delay), collector.url, rounds, 10 if delay else batch, is_async)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
