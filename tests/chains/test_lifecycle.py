"""Every run ends once, whatever ends it: edge cases 1 to 16."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import decimal
import gc
import logging
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.callbacks import CallbackManager
from langchain_core.messages import ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGenerationChunk, Generation, LLMResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool

from programs import until
from rootspan import Tracker
from rootspan_langchain import RootspanCallbackHandler
from scripted import ChatScripted, ChatStreaming, Trees
from sinks import Sink

Collect = Callable[[], Trees]
NOTHING = {"closed_by_age": 0, "closed_by_count": 0, "closed_by_parent": 0, "closed_by_task": 0}


def config(handler: Any, **more: Any) -> Any:
    return {"callbacks": [handler], **more}


def test_lc_01_a_parent_that_ends_before_its_child_loses_neither(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    parent, child, late = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    handler.on_chain_start(None, "in", run_id=parent, name="parent")
    handler.on_chain_start(None, "in", run_id=child, parent_run_id=parent, name="child")
    handler.on_chain_end("early", run_id=parent)
    handler.on_chain_start(None, "in", run_id=late, parent_run_id=parent, name="late")
    assert handler.stats()["open"] == 2
    handler.on_chain_end("late", run_id=late)
    handler.on_chain_end("own", run_id=child)
    found = trees()
    parent_span, child_span, late_span = (found.one(name) for name in ("parent", "child", "late"))
    assert parent_span.attributes["output.value"] == "early"
    assert (child_span.attributes["output.value"], child_span.parent_id) == ("own", parent_span.span_id)
    # What starts after its root ended is the same person's work, in a trace of its own.
    assert late_span.links == [(parent_span.trace_id, parent_span.span_id)]
    assert late_span.attributes["user.id"] == "u1"
    assert handler.stats() == {"open": 0, "kept": 0, **NOTHING}


def test_lc_02_a_parent_that_fails_closes_what_is_open_below(handler: RootspanCallbackHandler, trees: Collect) -> None:
    root, node, model = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    handler.on_chain_start(None, "in", run_id=root, name="root")
    handler.on_chain_start(None, "in", run_id=node, parent_run_id=root, name="node")
    handler.on_chat_model_start({"name": "model"}, [[]], run_id=model, parent_run_id=node)
    handler.on_llm_new_token("so far", run_id=model)
    handler.on_chain_error(ValueError("broken"), run_id=root)
    assert handler.stats() == {"open": 0, "kept": 0, **NOTHING, "closed_by_parent": 2}
    handler.on_llm_end(LLMResult(generations=[]), run_id=model)
    found = trees()
    assert found.root.status_code == 2
    assert found.one("node").attributes["rootspan.outcome"] == "abandoned"
    assert found.one("model").attributes["rootspan.outcome"] == "abandoned"
    assert "so far" in found.one("model").attributes["gen_ai.output.messages"]
    assert found.one("model").status_code == found.one("node").status_code == 0


async def cancelled(work: Any) -> None:
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_lc_03_a_cancelled_bare_model_ends_although_no_callback_arrives(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    model = ChatScripted(script=["never"], delay=60)
    asyncio.run(cancelled(model.ainvoke("hi", config(handler))))
    span = trees().root
    assert span.attributes["rootspan.outcome"] == "cancelled"
    assert span.status_code == 0
    assert handler.stats() == {"open": 0, "kept": 0, **NOTHING, "closed_by_task": 1}


def test_lc_03_a_task_that_goes_on_for_long_keeps_nothing_of_its_calls(handler: RootspanCallbackHandler) -> None:
    async def many() -> int:
        for _ in range(20):
            await ChatScripted(script=["ok"]).ainvoke("hi", config(handler))
        task: Any = asyncio.current_task()
        return len(getattr(task, "_callbacks", None) or ())

    assert asyncio.run(many()) <= 1  # asyncio.run's own


@pytest.mark.parametrize("kind", ["tool", "retriever"])
def test_lc_04_a_cancelled_tool_or_retriever_in_a_chain_is_exported(
    handler: RootspanCallbackHandler, trees: Collect, kind: str
) -> None:
    @tool
    async def slow(query: str) -> str:
        """Take long."""
        await asyncio.sleep(60)
        return query

    class Slow(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> Any:
            return []

        async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> Any:
            await asyncio.sleep(60)

    inner: Any = slow if kind == "tool" else Slow()

    async def call(query: str, config: Any) -> Any:
        return await inner.ainvoke(query, config)

    asyncio.run(cancelled(RunnableLambda(call, name="outer").ainvoke("q", config(handler))))
    found = trees()
    assert {span.attributes["rootspan.outcome"] for span in found.spans} == {"cancelled"}
    assert len(found.spans) == 2
    assert found.is_whole()


def test_lc_05_a_time_out_ends_every_span_as_cancelled(handler: RootspanCallbackHandler, trees: Collect) -> None:
    model = ChatScripted(script=["never"], delay=60)

    async def call(_: Any, config: Any) -> Any:
        return await model.ainvoke("hi", config)

    async def run() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(RunnableLambda(call, name="outer").ainvoke("q", config(handler)), 0.1)

    asyncio.run(run())
    found = trees()
    assert len(found.spans) == 2
    assert {span.attributes["rootspan.outcome"] for span in found.spans} == {"cancelled"}


def test_lc_05_a_call_timed_out_inside_a_node_that_goes_on_ends_with_the_task(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    model = ChatScripted(script=["never"], delay=60)

    async def call(_: Any, config: Any) -> str:
        try:
            return str(await asyncio.wait_for(model.ainvoke("hi", config), 0.1))
        except asyncio.TimeoutError:
            return "gave up"

    async def run() -> Any:
        return await RunnableLambda(call, name="outer").ainvoke("q", config(handler))

    assert asyncio.run(run()) == "gave up"
    found = trees()
    assert found.root.attributes["output.value"] == "gave up"
    assert "rootspan.outcome" not in found.root.attributes
    assert found.models()[0].attributes["rootspan.outcome"] == "cancelled"


def test_lc_06_cancellation_is_no_error(handler: RootspanCallbackHandler, trees: Collect) -> None:
    async def wait(_: Any) -> None:
        await asyncio.sleep(60)

    asyncio.run(cancelled(RunnableLambda(wait).ainvoke("q", config(handler))))
    span = trees().root
    assert (span.status_code, span.events, span.attributes["rootspan.outcome"]) == (0, [], "cancelled")
    assert "error.type" not in span.attributes


def test_lc_07_a_stream_broken_off_keeps_what_was_said(handler: RootspanCallbackHandler, trees: Collect) -> None:
    chain = RunnableLambda(lambda text: text) | ChatStreaming(script=["one two three four"])
    stream = chain.stream("hi", config(handler))
    assert next(stream).content == "one "
    assert next(stream).content == "two "
    stream.close()
    del stream
    gc.collect()
    found = trees()
    assert handler.stats()["open"] == 0
    model = found.models()[0]
    assert "one two" in model.attributes["gen_ai.output.messages"]
    assert model.attributes["rootspan.outcome"] == "abandoned"
    assert "one" in found.root.attributes["output.value"]
    assert all(span.status_code == 0 for span in found.spans)


class ChatInBlocks(ChatStreaming):
    """Answers in blocks, as Anthropic's models and OpenAI's newer interface do."""

    def _chunks(self, messages: Any) -> Any:
        for chunk in super()._chunks(messages):
            chunk.message.content = [{"type": "text", "text": chunk.message.content, "index": 0}]
            yield ChatGenerationChunk(message=chunk.message)


@pytest.mark.parametrize("model", [ChatStreaming, ChatInBlocks])
@pytest.mark.parametrize("parsed", [False, True])
def test_lc_07_a_stream_left_at_its_first_chunk_keeps_that(
    parsed: bool, model: Any, handler: RootspanCallbackHandler, trees: Collect
) -> None:
    chain: Any = RunnableLambda(lambda text: text) | model(script=["one two three four"])
    for _ in (chain | StrOutputParser() if parsed else chain).stream("hi", config(handler)):
        break
    gc.collect()
    root = trees().root
    assert (root.attributes["output.value"], root.status_code) == ("one ", 0)


def test_lc_07_a_chain_without_an_answer_shows_none(handler: RootspanCallbackHandler, trees: Collect) -> None:
    RunnableLambda(lambda text: None).invoke("hi", config(handler))
    assert "output.value" not in trees().root.attributes


def test_lc_08_an_async_stream_closed_by_the_collector_elsewhere(
    handler: RootspanCallbackHandler, trees: Collect, caplog: pytest.LogCaptureFixture
) -> None:
    chain = RunnableLambda(lambda text: text) | ChatStreaming(script=["one two three four"])

    async def run() -> None:
        stream = chain.astream("hi", config(handler))
        await stream.__anext__()
        await asyncio.create_task(stream.aclose())
        abandoned = chain.astream("hi", config(handler))
        await asyncio.create_task(abandoned.__anext__())  # begun in a task that ends
        del abandoned
        gc.collect()
        for _ in range(20):
            await asyncio.sleep(0.01)

    with caplog.at_level(logging.INFO):
        asyncio.run(run())
    gc.collect()
    assert "detach" not in caplog.text
    found = trees()
    assert handler.stats()["open"] == 0
    assert len(found.roots) == 2
    for root in found.roots:
        assert "one" in root.attributes["output.value"]
        assert root.status_code == 0
    assert all("one" in model.attributes["gen_ai.output.messages"] for model in found.models())


def test_lc_08_a_stream_that_goes_on_in_another_task_than_it_began_in_is_complete(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    async def run() -> list[str]:
        stream = ChatStreaming(script=["one two"]).astream("hi", config(handler))
        first = await asyncio.create_task(stream.__anext__())
        return [first.content, *[chunk.content async for chunk in stream if chunk.content]]

    assert asyncio.run(run()) == ["one ", "two"]
    root = trees().root
    assert (root.attributes["output.value"], root.attributes.get("rootspan.outcome")) == ("one two", None)
    assert handler.stats() == {"open": 0, "kept": 0, **NOTHING}


@pytest.mark.parametrize("is_async", [False, True])
def test_lc_09_a_stream_that_fails_keeps_the_text_and_the_error(
    handler: RootspanCallbackHandler, trees: Collect, is_async: bool
) -> None:
    model = ChatStreaming(script=[ConnectionError("reset by peer")], chunks_before_failure=2)

    async def aconsume() -> None:
        async for _ in model.astream("hi", config(handler)):
            pass

    def consume() -> None:
        asyncio.run(aconsume()) if is_async else list(model.stream("hi", config(handler)))

    with pytest.raises(ConnectionError):
        consume()
    span = trees().root
    assert span.status_code == 2
    assert span.attributes["error.type"] == "ConnectionError"
    assert "one two" in span.attributes["gen_ai.output.messages"]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("script", ["one two", ConnectionError("reset by peer")])
def test_lc_09_a_stream_shows_what_it_was_asked_and_so_does_what_is_around_it(
    handler: RootspanCallbackHandler, tracker: Tracker, trees: Collect, is_async: bool, script: Any
) -> None:
    """LangChain starts it with a placeholder, and tells the input with the end or the error."""
    model = ChatStreaming(script=[script], chunks_before_failure=1)
    chain = RunnableLambda(lambda asked: asked["q"], name="ask") | model | RunnableLambda(str, name="last")

    async def aconsume() -> None:
        async for _ in chain.astream({"q": "Why?"}, config(handler)):
            pass

    def consume() -> None:
        asyncio.run(aconsume()) if is_async else list(chain.stream({"q": "Why?"}, config(handler)))

    failing = isinstance(script, ConnectionError)
    with contextlib.suppress(ConnectionError), tracker.begin("turn"):
        consume()
    found = trees()
    turn, sequence = found.root, found.one("RunnableSequence")
    assert turn.status_code == sequence.status_code == (2 if failing else 0)
    assert turn.attributes["input.value"] == sequence.attributes["input.value"] == '{"q":"Why?"}'
    assert '{"input":""}' not in str([span.attributes for span in found.spans])


def test_lc_09_a_stream_shows_nothing_of_its_input_where_content_is_left_out(tracker: Tracker, trees: Collect) -> None:
    handler = RootspanCallbackHandler(tracker=tracker, capture_content=False)
    with tracker.begin("turn"):
        list(RunnableLambda(str.upper).stream("hush", config(handler)))
    assert not {"input.value", "output.value"} & {name for span in trees().spans for name in span.attributes}


def test_lc_09_an_end_that_tells_no_input_takes_none_away(handler: RootspanCallbackHandler, trees: Collect) -> None:
    told, stream, model = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    handler.on_chain_start(None, "question", run_id=told, name="told")
    handler.on_chain_end("answer", run_id=told, inputs=None)
    handler.on_chain_start(None, {"input": ""}, run_id=stream, name="stream")
    handler.on_llm_start(None, ["prompt"], run_id=model, parent_run_id=stream)
    handler.on_llm_error(ValueError(), run_id=model)
    handler.on_chain_error(ValueError(), run_id=stream, inputs=None)
    found = trees()
    assert [found.one(name).attributes["input.value"] for name in ("told", "stream")] == ["question", "prompt"]


def test_lc_09_what_looks_like_the_placeholder_and_is_none(handler: RootspanCallbackHandler, trees: Collect) -> None:
    RunnableLambda(len).invoke({"input": ""}, config(handler))
    assert trees().root.attributes["input.value"] == '{"input":""}'


def test_lc_09_a_stream_whose_input_nobody_tells_shows_none(handler: RootspanCallbackHandler, trees: Collect) -> None:
    """Of a run that is closed with the one above it LangChain tells no end, and so never what the placeholder was."""
    root, step = uuid.uuid4(), uuid.uuid4()
    handler.on_chain_start(None, "Why?", run_id=root, name="root")
    handler.on_chain_start(None, {"input": ""}, run_id=step, parent_run_id=root, name="step")
    handler.on_chain_error(GeneratorExit(), run_id=root)
    list(RunnableLambda(str, name="none").stream(None, config(handler)))
    found = trees()
    assert found.one("step").attributes["rootspan.outcome"] == "abandoned"
    assert "input.value" not in found.one("step").attributes
    assert "input.value" not in found.one("none").attributes
    assert found.one("none").attributes["output.value"] == "None"


def test_lc_09_a_stream_that_comes_second_leaves_the_request_its_question(
    handler: RootspanCallbackHandler, tracker: Tracker, trees: Collect
) -> None:
    with tracker.begin("turn"):
        for asked in ("first", "second"):
            list(RunnableLambda(str.upper).stream(asked, config(handler)))
    found = trees()
    assert [span.attributes["input.value"] for span in found.children(found.root)] == ["first", "second"]
    assert found.root.attributes["input.value"] == "first"


def test_lc_10_events_of_unknown_runs_do_nothing(
    handler: RootspanCallbackHandler, tracker: Tracker, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = uuid.uuid4()
    with caplog.at_level(logging.INFO):
        handler.on_chain_end({}, run_id=unknown)
        handler.on_llm_end(LLMResult(generations=[]), run_id=unknown)
        handler.on_tool_end("x", run_id=unknown)
        handler.on_retriever_end([], run_id=unknown)
        handler.on_chain_error(ValueError(), run_id=unknown)
        handler.on_llm_error(ValueError(), run_id=unknown)
        handler.on_tool_error(ValueError(), run_id=unknown)
        handler.on_retriever_error(ValueError(), run_id=unknown)
        handler.on_llm_new_token("x", run_id=unknown)
        handler.on_custom_event("x", {}, run_id=unknown)
    assert caplog.records == []
    assert tracker.stats()["recorded"] == 0
    assert handler.stats()["kept"] == 0


def test_lc_11_a_child_of_an_unknown_parent_is_a_root(handler: RootspanCallbackHandler, trees: Collect) -> None:
    run = uuid.uuid4()
    handler.on_chain_start(None, "in", run_id=run, parent_run_id=uuid.uuid4(), name="orphan")
    handler.on_chain_end("out", run_id=run)
    assert trees().root.name == "orphan"


def test_lc_12_one_run_id_for_two_invocations_is_two_roots(handler: RootspanCallbackHandler, trees: Collect) -> None:
    same = uuid.uuid4()
    for text in ("a", "b"):
        RunnableLambda(str.upper).invoke(text, config(handler, run_id=same))
    found = trees()
    assert [root.attributes["output.value"] for root in found.roots] == ["A", "B"]
    assert len({root.span_id for root in found.roots}) == 2
    assert {root.trace_id for root in found.roots} == {handler.trace_id_for(same)}


@pytest.mark.parametrize("failing", [False, True])
def test_lc_12_a_model_under_the_open_id_of_a_chain_ends_that_chain_and_nothing_else(
    handler: RootspanCallbackHandler, trees: Collect, failing: bool
) -> None:
    same, answer = uuid.uuid4(), LLMResult(generations=[[Generation(text="hi")]])
    handler.on_chain_start(None, "in", run_id=same, name="chain")
    handler.on_chat_model_start({"name": "model"}, [[]], run_id=same)
    handler.on_llm_new_token("h", run_id=same)
    if failing:
        handler.on_llm_error(ValueError("broken"), run_id=same, response=answer)
    else:
        handler.on_llm_end(answer, run_id=same)
    root = trees().root
    assert (root.name, root.attributes["input.value"], root.status_code) == ("chain", "in", 2 if failing else 0)
    assert handler.stats() == {"open": 0, "kept": 0, **NOTHING}


def test_lc_13_empty_events_are_spans_too(handler: RootspanCallbackHandler, trees: Collect) -> None:
    for start, end in (
        (
            lambda run: handler.on_chain_start(None, None, run_id=run),
            lambda run: handler.on_chain_end(None, run_id=run),
        ),
        (
            lambda run: handler.on_chat_model_start(None, [], run_id=run),
            lambda run: handler.on_llm_end(LLMResult(generations=[]), run_id=run),
        ),
        (
            lambda run: handler.on_llm_start(None, [], run_id=run),
            lambda run: handler.on_llm_end(LLMResult(generations=[[]]), run_id=run),
        ),
        (lambda run: handler.on_tool_start(None, "", run_id=run), lambda run: handler.on_tool_end(None, run_id=run)),
        (
            lambda run: handler.on_retriever_start(None, "", run_id=run),
            lambda run: handler.on_retriever_end(None, run_id=run),
        ),
    ):
        run = uuid.uuid4()
        start(run)
        end(run)
    assert [span.name for span in trees().roots] == ["chain", "model", "model", "tool", "retriever"]
    assert handler.stats()["kept"] == 0


def test_lc_14_a_thousand_invocations_leave_nothing(handler: RootspanCallbackHandler, tracker: Tracker) -> None:
    def work(number: int) -> int:
        if number % 5 == 0:
            raise ValueError("every fifth")
        return number

    chain = RunnableLambda(work) | RunnableParallel(a=RunnableLambda(str), b=RunnableLambda(abs))
    failed = 0
    for number in range(1_000):
        try:
            chain.invoke(number, config(handler))
        except ValueError:
            failed += 1
    assert failed == 200
    assert handler.stats() == {"open": 0, "kept": 0, **NOTHING}
    assert tracker._recorder.open == {}


def test_lc_15_runs_that_never_end_are_bounded_by_count(sink: Sink) -> None:
    tracker = Tracker(endpoint=sink.url, max_open_sessions=1_000, sample_rate=0.0)
    handler = RootspanCallbackHandler(tracker=tracker)
    for _ in range(15_000):
        handler.on_chain_start(None, "in", run_id=uuid.uuid4(), name="endless")
    assert handler.stats()["open"] == 1_000
    assert handler.stats()["closed_by_count"] == 14_000
    assert len(tracker._recorder.open) == 1_000
    tracker.shutdown()


def test_lc_15_runs_below_one_root_are_bounded_as_well(sink: Sink) -> None:
    tracker = Tracker(endpoint=sink.url, max_open_sessions=100)
    handler = RootspanCallbackHandler(tracker=tracker)
    root = uuid.uuid4()
    handler.on_chain_start(None, "in", run_id=root, name="root")
    for number in range(1_000):
        run = uuid.uuid4()
        handler.on_chain_start(None, "in", run_id=run, parent_run_id=root, name="endless")
        if number % 2:
            handler.on_chain_end("out", run_id=run)
    assert handler.stats()["open"] <= 101
    handler.on_chain_end("out", run_id=root)
    found = Trees(tracker, sink)
    assert found.root.attributes["output.value"] == "out"
    assert found.is_whole()
    tracker.shutdown()


@pytest.mark.parametrize("first", ["long", "short"])
def test_lc_15_what_has_ended_in_a_long_invocation_closes_none_that_are_open(sink: Sink, first: str) -> None:
    tracker = Tracker(endpoint=sink.url, max_open_sessions=100, sample_rate=0.0)
    handler = RootspanCallbackHandler(tracker=tracker)
    roots = {name: uuid.uuid4() for name in (first, "short", "long")}
    for name, root in roots.items():
        handler.on_chain_start(None, "in", run_id=root, name=name)
    for number in range(1_000):
        run = uuid.uuid4()  # nine of ten are steps of the long one, every other one an invocation of its own
        above = None if number % 10 == 0 else roots["long"]
        handler.on_chain_start(None, "in", run_id=run, parent_run_id=above, name="step")
        handler.on_chain_end("out", run_id=run)
    assert handler.stats()["closed_by_count"] == 0
    assert handler.stats()["open"] == 2
    assert handler.stats()["kept"] <= 100
    for root in roots.values():
        handler.on_chain_end("out", run_id=root)
    assert handler.stats() == {"open": 0, "kept": 0, **NOTHING}
    tracker.shutdown()


def test_lc_15_runs_that_never_end_are_closed_by_age(sink: Sink) -> None:
    tracker = Tracker(endpoint=sink.url, session_timeout=0.05)
    handler = RootspanCallbackHandler(tracker=tracker)
    old, below = uuid.uuid4(), uuid.uuid4()
    handler.on_chain_start(None, "in", run_id=old, name="old")
    handler.on_chain_start(None, "in", run_id=below, parent_run_id=old, name="below")
    threading.Event().wait(0.1)
    RunnableLambda(str).invoke("x", config(handler))
    assert handler.stats() == {"open": 0, "kept": 0, **NOTHING, "closed_by_age": 2}
    handler.on_chain_end("too late", run_id=old)
    found = Trees(tracker, sink)
    assert found.one("old").attributes["rootspan.outcome"] == "abandoned"
    assert "output.value" not in found.one("old").attributes
    assert found.parent(found.one("below")).name == "old"
    tracker.shutdown()


def test_lc_16_dates_and_decimals_do_not_keep_a_span_from_ending(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    values = {"day": datetime.date(2026, 1, 2), "id": uuid.UUID(int=7), "price": decimal.Decimal("1.50")}
    RunnableLambda(lambda _: values).invoke("x", config(handler))
    output = trees().root.attributes["output.value"]
    assert "2026-01-02" in output
    assert "1.50" in output


def test_what_is_open_at_the_end_is_recorded_as_unfinished(sink: Sink) -> None:
    tracker = Tracker(endpoint=sink.url)
    handler = RootspanCallbackHandler(tracker=tracker)
    handler.on_chain_start(None, "in", run_id=uuid.uuid4(), name="open")
    tracker.shutdown()
    assert sink.one("open").attributes["rootspan.outcome"] == "unfinished"


def test_a_tool_that_tells_only_a_text_and_its_call_at_its_end_is_recorded_with_both(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    run = uuid.uuid4()
    handler.on_tool_start({"name": "search"}, "the weather", run_id=run)
    handler.on_tool_end(ToolMessage("sunny", tool_call_id="call_1"), run_id=run)
    attributes = trees().root.attributes
    assert attributes["gen_ai.tool.call.arguments"] == '"the weather"'
    assert (attributes["gen_ai.tool.call.id"], attributes["gen_ai.tool.call.result"]) == ("call_1", '"sunny"')


def test_a_retriever_is_recorded_with_its_documents(handler: RootspanCallbackHandler, trees: Collect) -> None:
    from langchain_core.documents import Document

    class Shelf(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> Any:
            if query == "fail":
                raise LookupError("no shelf")
            return [Document("page one", metadata={"source": "a.txt"}, id="d1"), Document("page two")]

    Shelf().invoke("books", config(handler))
    with pytest.raises(LookupError):
        Shelf().invoke("fail", config(handler))
    good, bad = trees().roots
    assert good.attributes["gen_ai.operation.name"] == "retrieval"
    assert good.attributes["gen_ai.retrieval.query.text"] == "books"
    assert (
        '{"id":"d1","content":"page one","metadata":{"source":"a.txt"}}'
        in good.attributes["gen_ai.retrieval.documents"]
    )
    assert (bad.status_code, bad.attributes["error.type"]) == (2, "LookupError")


def test_a_retriever_that_returns_an_iterator_leaves_it_to_its_caller(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    class Shelf(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> Any:
            return map(str, range(3))

    found: Any = Shelf().invoke("books", config(handler))
    assert list(found) == ["0", "1", "2"]
    assert trees().root.attributes["output.value"] == "<builtins.map>"


def test_a_manager_made_by_hand_is_fine_too(handler: RootspanCallbackHandler, trees: Collect) -> None:
    manager = CallbackManager([handler], [handler]).on_chain_start({"name": "group"}, {"a": 1})
    child = manager.get_child()
    child.on_tool_start({"name": "t"}, "x").on_tool_end("y")
    manager.on_chain_end({"b": 2})
    found = trees()
    assert found.parent(found.one("t")).name == "group"
    until(lambda: handler.stats()["open"] == 0)


def test_a_hidden_model_whose_chain_fails_leaves_nothing(tracker: Tracker, trees: Collect) -> None:
    handler = RootspanCallbackHandler(tracker=tracker, include=lambda run: run.type != "model")
    root, model = uuid.uuid4(), uuid.uuid4()
    handler.on_chain_start(None, "x", run_id=root, name="root")
    handler.on_chat_model_start(None, [[]], run_id=model, parent_run_id=root)
    handler.on_llm_new_token("piece", run_id=model)
    handler.on_chain_error(ValueError("broken"), run_id=root)
    assert [span.name for span in trees().spans] == ["root"]
    assert handler.stats()["open"] == 0


def test_hidden_runs_end_in_every_way_and_keep_nothing(tracker: Tracker, trees: Collect) -> None:
    handler = RootspanCallbackHandler(tracker=tracker, include=lambda run: run.name == "shown")
    error = ValueError("broken")
    for start, end in (
        (lambda run: handler.on_chain_start(None, "x", run_id=run), lambda run: handler.on_chain_end("y", run_id=run)),
        (
            lambda run: handler.on_chain_start(None, "x", run_id=run),
            lambda run: handler.on_chain_error(error, run_id=run),
        ),
        (
            lambda run: handler.on_chat_model_start(None, [[]], run_id=run),
            lambda run: handler.on_llm_end(LLMResult(generations=[]), run_id=run),
        ),
        (
            lambda run: handler.on_chat_model_start(None, [[]], run_id=run),
            lambda run: handler.on_llm_error(error, run_id=run),
        ),
        (lambda run: handler.on_tool_start(None, "x", run_id=run), lambda run: handler.on_tool_end("y", run_id=run)),
        (
            lambda run: handler.on_retriever_start(None, "x", run_id=run),
            lambda run: handler.on_retriever_end([], run_id=run),
        ),
    ):
        run, below = uuid.uuid4(), uuid.uuid4()
        start(run)
        handler.on_llm_new_token("piece", run_id=run)
        handler.on_custom_event("lost", {}, run_id=run)
        handler.on_chain_start(None, "x", run_id=below, parent_run_id=run, name="shown")
        handler.on_chain_end("y", run_id=below)
        end(run)
        end(run)
    found = trees()
    assert [root.name for root in found.roots] == ["shown"] * 6
    assert handler.stats()["kept"] == 0


def test_a_hidden_root_inside_an_interaction_leaves_its_children_there(tracker: Tracker, trees: Collect) -> None:
    handler = RootspanCallbackHandler(tracker=tracker, include=lambda run: not run.is_root)
    with tracker.begin("turn"):
        RunnableLambda(lambda text, config: RunnableLambda(str, name="in").invoke(text, config)).invoke(
            "x", config(handler)
        )
    found = trees()
    assert found.path(found.one("in")) == ["turn", "in"]


def test_what_a_broken_stream_had_cost_so_far_is_kept(handler: RootspanCallbackHandler, trees: Collect) -> None:
    from langchain_core.messages import AIMessageChunk
    from langchain_core.outputs import ChatGenerationChunk

    root, run = uuid.uuid4(), uuid.uuid4()
    handler.on_chain_start(None, "x", run_id=root, name="root")
    handler.on_chat_model_start({"name": "m"}, [[]], run_id=run, parent_run_id=root)
    for text, usage in (("a ", {"input_tokens": 9, "output_tokens": 0, "total_tokens": 9}), ("b", None)):
        message = AIMessageChunk(text, usage_metadata=usage)  # type: ignore[arg-type]
        handler.on_llm_new_token(text, run_id=run, chunk=ChatGenerationChunk(message=message))
    handler.on_chain_error(GeneratorExit(), run_id=root)
    found = trees()
    model = found.one("m")
    assert model.attributes["gen_ai.usage.input_tokens"] == 9
    assert model.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert found.root.attributes["output.value"] == "a b"
    assert found.root.attributes["rootspan.outcome"] == model.attributes["rootspan.outcome"] == "abandoned"


def test_a_framework_variable_of_another_shape_is_no_parent(
    handler: RootspanCallbackHandler, trees: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd:
        def get(self) -> Any:
            raise RuntimeError("odd")

    monkeypatch.setattr("rootspan_langchain.invocation.var_child_runnable_config", Odd())
    run = uuid.uuid4()
    handler.on_chain_start(None, "x", run_id=run, name="fine")
    handler.on_chain_end("y", run_id=run)
    assert trees().root.name == "fine"


def test_without_langchain_the_import_names_the_extra() -> None:
    code = "import sys; sys.modules['langchain_core'] = None; import rootspan_langchain"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError" in done.stderr
    assert "Fix: pip install 'rootspan[langchain]'" in done.stderr


def test_without_langgraph_the_handler_is_a_plain_one() -> None:
    code = (
        "import sys; sys.modules['langgraph'] = None; from langchain_core.runnables import RunnableLambda as R\n"
        "import rootspan_langchain as r; h = r.RootspanCallbackHandler()\n"
        "print(R(str).invoke(1, {'callbacks': [h]}), type(h).__mro__[1].__name__)"
    )
    environ = {**os.environ, "ROOTSPAN_DISABLED": "true"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ)
    assert done.stdout == "1 BaseCallbackHandler\n"
