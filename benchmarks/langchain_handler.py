"""What the LangChain handler costs: nothing, an empty handler and ours in turn, round by round.

    python benchmarks/langchain_handler.py [rounds]

Times are of the wall: from the first invocation of a batch until the last one returned ("invoked"), and until all of
it is delivered as well, over OTLP/HTTP to a collector in another process ("delivered"), which has the background
worker's share in it. CPU time is that of one invocation, less what it is with the empty handler: that of the threads
that invoke, and that of the worker. The model is a stand-in. One that answers at once shows the handler at its worst,
since nothing but callbacks happens; 50 ms is a fast hosted model, 5 ms is faster than any. Absolute times mean nothing
on a shared machine, so neighbouring batches are compared; all figures are medians.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, NamedTuple

from collector import Collector
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from timing import budget

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


class Batched:
    """Invokes a chain ten times in a batch, which runs them on threads."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def invoke(self, given: Any, config: Any) -> Any:
        return self.inner.batch([given] * 10, config)

    async def ainvoke(self, given: Any, config: Any) -> Any:
        return await self.inner.abatch([given] * 10, config)


def batch(delay: float) -> tuple[Any, Any]:
    made, given = chain(delay)
    return Batched(made), given


class Empty(BaseCallbackHandler):
    run_inline = True


class Took(NamedTuple):
    """What one batch took, in seconds for each invocation."""

    invoked: float
    delivered: float
    callers: float
    worker: float


def spent(thread: threading.Thread | None) -> float:
    """Return the CPU time of a thread so far."""
    return 0.0 if thread is None else time.clock_gettime(time.pthread_getcpuclockid(thread.ident or 0))


def run(calls: Callable[[], object], tracker: rootspan.Tracker, number: int) -> Took:
    """Time a batch of that many invocations."""
    pipeline = tracker._recorder.pipeline
    gc.collect()  # or one batch pays for what the others left
    tracker.track_ai("wake")  # so that the worker is there before and after
    tracker.flush()
    worker = pipeline.queue.worker
    began, process, background = time.perf_counter(), time.process_time(), spent(worker)
    calls()
    invoked = time.perf_counter()
    tracker.flush()
    delivered = time.perf_counter()
    assert pipeline.queue.worker is worker
    background = spent(worker) - background
    callers = time.process_time() - process - background
    return Took(*(seconds / number for seconds in (invoked - began, delivered - began, callers, background)))


def compare(name: str, made: tuple[Any, Any], url: str, rounds: int, number: int, times: int, is_async: bool) -> float:
    """Print what `number` calls of a runnable took with each handler; return how many times an empty one ours is."""
    tracker = rootspan.Tracker(endpoint=url)
    ours = RootspanCallbackHandler(tracker=tracker, user_id="u1", convo_id="c1")
    handlers: dict[str, list[Any]] = {"none": [], "empty": [Empty()], "ours": [ours]}
    runnable, given = made
    took: dict[str, list[Took]] = {kind: [] for kind in handlers}

    def invoke(config: Any) -> None:
        for _ in range(number):
            runnable.invoke(given, config)

    async def awaited(config: Any) -> None:
        for _ in range(number):
            await runnable.ainvoke(given, config)

    def calls(config: Any) -> None:
        if is_async:
            asyncio.run(awaited(config))
        else:
            invoke(config)

    for turn in range(rounds + 1):
        for kind in list(handlers)[turn % 3 :] + list(handlers)[: turn % 3]:
            found = run(partial(calls, {"callbacks": handlers[kind]}), tracker, number * times)
            if turn:
                took[kind].append(found)
    shown = show(name, took)
    assert ours.stats()["open"] == 0
    assert not tracker.stats()["dropped"]
    tracker.shutdown()
    return shown


def show(name: str, took: dict[str, list[Took]]) -> float:
    """Print one line of the table, and return how many times the total with an empty handler the total with ours is."""

    def ratio(kind: str, other: str, part: int) -> float:
        return median(one[part] / two[part] for one, two in zip(took[kind], took[other], strict=True))

    def more(part: int) -> float:
        return median(one[part] - two[part] for one, two in zip(took["ours"], took["empty"], strict=True)) * 1e6

    ratios = [ratio("empty", "none", 0), ratio("ours", "none", 1), ratio("ours", "empty", 0), ratio("ours", "empty", 1)]
    empty = median(one.invoked for one in took["empty"]) * 1e3
    line = "".join(f"{one:12.3f}" for one in ratios)
    print(f"{name:<30}{line}{more(2):12.0f}{more(3):12.0f}{empty:12.2f}", flush=True)
    return ratios[2]


def main(rounds: int) -> int:
    kinds: tuple[tuple[str, Callable[[float], tuple[Any, Any]], int, int], ...] = (
        ("chain", chain, 200, 1),
        ("batch of 10", batch, 20, 10),
        ("create_agent", agent, 50, 1),
    )
    for heads in (
        ("empty/none", "ours/none", "ours/empty", "ours/empty", "callers'", "worker's", "empty,"),
        ("invoked", "delivered", "invoked", "delivered", "CPU, µs", "CPU, µs", "ms"),
    ):
        print(f"{'':<30}" + "".join(f"{head:>12}" for head in heads))
    found: defaultdict[float, list[float]] = defaultdict(list)
    with Collector() as collector:
        for delay in (0.0, 0.005, 0.05):
            for name, make, number, times in kinds:
                for is_async in (False, True):
                    title = f"{name}, {'async' if is_async else 'sync'}, {delay * 1e3:.0f} ms"
                    calls = max(number // 5, 10) if delay else number
                    found[delay] += [compare(title, make(delay), collector.url, rounds, calls, times, is_async)]
    (limit,) = [line["limit"] for line in budget() if line["name"] == "LangChain with the handler, model of 50 ms"]
    over = median(found[0.05]) > limit
    print(f"\nmodel of 50 ms, ours/empty: {median(found[0.05]):.3f}, limit {limit:.2f}{'   EXCEEDED' if over else ''}")
    return int(over)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 15))
