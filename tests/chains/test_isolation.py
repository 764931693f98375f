"""The host's own tracing is never touched, and no run sees another one's: edge cases 17 to 32, 40 to 43, 63, 64."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import enum
import gc
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from importlib.metadata import version
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.language_models import FakeListLLM
from langchain_core.outputs import Generation, LLMResult
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_core.tracers.context import _configure_hooks
from opentelemetry import baggage, propagate, trace
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import rootspan
from rootspan import ConfigurationError, Tracker
from rootspan_langchain import RootspanCallbackHandler, install, uninstall
from scripted import ChatScripted, ChatStreaming, Trees
from sinks import Sink

Collect = Callable[[], Trees]
CORE = tuple(map(int, version("langchain-core").split(".")[:2]))


def config(handler: Any, **more: Any) -> Any:
    return {"callbacks": [handler], **more}


@pytest.fixture
def host() -> Iterator[tuple[Any, InMemorySpanExporter]]:
    """The host's own tracer, which exports to memory."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("host"), exporter
    provider.shutdown()


@pytest.mark.parametrize("is_async", [False, True])
def test_lc_17_20_22_the_root_is_its_own_inside_a_host_span(
    handler: RootspanCallbackHandler, trees: Collect, host: Any, is_async: bool
) -> None:
    tracer, exporter = host
    chain = RunnableLambda(lambda text: text) | ChatScripted(script=["hello"])
    with tracer.start_as_current_span("host") as span:
        before = get_current()
        if is_async:
            asyncio.run(chain.ainvoke("hi", config(handler)))
        else:
            chain.invoke("hi", config(handler))
        assert get_current() == before
    found = trees()
    context = span.get_span_context()
    assert found.root.trace_id != f"{context.trace_id:032x}"
    assert found.root.links == [(f"{context.trace_id:032x}", f"{context.span_id:016x}")]
    (exported,) = exporter.get_finished_spans()
    assert (exported.name, dict(exported.attributes), exported.events) == ("host", {}, ())


@pytest.mark.parametrize("is_async", [False, True])
def test_lc_18_23_inside_a_tool_the_current_span_and_the_headers_are_the_hosts(
    handler: RootspanCallbackHandler, trees: Collect, host: Any, is_async: bool
) -> None:
    tracer, _ = host
    seen: dict[str, Any] = {}

    @tool
    def look(query: str) -> str:
        """Look around."""
        headers: dict[str, str] = {}
        propagate.inject(headers)
        seen.update(span=trace.get_current_span(), headers=headers, baggage=dict(baggage.get_all()))
        return query

    with tracer.start_as_current_span("host") as span:
        if is_async:
            asyncio.run(look.ainvoke({"query": "q"}, config(handler)))
        else:
            look.invoke({"query": "q"}, config(handler))
        expected = span.get_span_context()
    assert seen["span"].get_span_context() == expected
    assert list(seen["headers"]) == ["traceparent"]
    assert seen["headers"]["traceparent"].startswith(f"00-{expected.trace_id:032x}-{expected.span_id:016x}-")
    assert seen["baggage"] == {}
    assert trees().root.name == "look"


def test_lc_19_the_context_is_what_it_was_after_every_end(handler: RootspanCallbackHandler, host: Any) -> None:
    tracer, _ = host

    def fail(_: Any) -> None:
        raise ValueError("broken")

    with tracer.start_as_current_span("host"):
        before = dict(contextvars.copy_context())
        RunnableLambda(str).invoke("x", config(handler))
        with pytest.raises(ValueError, match="broken"):
            RunnableLambda(fail).invoke("x", config(handler))
        ChatScripted(script=["a"]).generate([[], []], callbacks=[handler])
        stream = ChatStreaming(script=["one two"]).stream("x", config(handler))
        next(stream)
        during = get_current()
        stream.close()
        after = dict(contextvars.copy_context())
        assert during == get_current()
    ours = {variable.name for variable in after if "rootspan" in variable.name}
    assert ours <= {variable.name for variable in before if "rootspan" in variable.name}
    assert {key.name for key in after} - {key.name for key in before} <= {"child_runnable_config"}


@pytest.mark.parametrize("flags", [TraceFlags(0), TraceFlags(1)])
def test_lc_21_an_unsampled_host_span_does_not_drop_our_trace(
    handler: RootspanCallbackHandler, trees: Collect, flags: TraceFlags
) -> None:
    remote = NonRecordingSpan(SpanContext(7, 8, True, flags))
    with trace.use_span(remote), TracerProvider(sampler=ALWAYS_OFF).get_tracer("host").start_as_current_span("off"):
        RunnableLambda(str).invoke("x", config(handler))
    assert trees().root.name == "str"


def test_lc_24_a_mistake_of_ours_never_changes_the_result(
    handler: RootspanCallbackHandler,
    tracker: Tracker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("rootspan_langchain.run.frozen_value", broken)
    monkeypatch.setattr("rootspan_langchain.models.usage_of", broken)
    chain = RunnableLambda(str) | ChatScripted(script=["fine"])
    with caplog.at_level(logging.WARNING):
        assert chain.invoke("x", config(handler)).content == "fine"
        assert asyncio.run(chain.ainvoke("x", config(handler))).content == "fine"
    assert "langchain" not in {record.name.split("_")[0] for record in caplog.records}
    assert tracker.stats()["dropped"]["internal_error"] > 0
    assert handler.stats()["open"] == 0
    tracker.shutdown()


@pytest.mark.parametrize(
    ("error", "outcome"), [(None, None), (ValueError("x"), "failure"), (asyncio.CancelledError(), "cancelled")]
)
def test_lc_24_a_run_ends_though_its_end_could_not_be_recorded_whole(
    tracker: Tracker, sink: Sink, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, outcome: str | None
) -> None:
    handler = RootspanCallbackHandler(tracker=tracker)

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("ours")

    run = uuid.uuid4()
    handler.on_chat_model_start({"name": "m"}, [[]], run_id=run)
    monkeypatch.setattr("rootspan_langchain.models.usage_of", broken)
    result = LLMResult(generations=[[Generation(text="a")]])
    if error is None:
        handler.on_llm_end(result, run_id=run)
        handler.on_llm_end(result, run_id=run)  # once more: nothing is left to end
    else:
        handler.on_llm_error(error, run_id=run, response=result)
    assert handler.stats()["kept"] == 0
    assert tracker.flush(20)
    span = sink.one("m")
    assert span.attributes.get("rootspan.outcome") == outcome
    assert span.status_code == (2 if outcome == "failure" else 0)
    assert tracker.stats()["dropped"] == {"internal_error": 1}
    tracker.shutdown()


def test_lc_24_an_event_of_another_shape_raises_nothing(
    handler: RootspanCallbackHandler, tracker: Tracker, sink: Sink
) -> None:
    """A host that calls the handler by itself may name what LangChain passes by position, or pass no run at all."""
    fine, failing, run = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    handler.on_chain_start({"name": "fine"}, "x", run_id=fine)
    handler.on_chain_end(outputs="answer", run_id=fine)
    handler.on_tool_start({"name": "failing"}, "x", run_id=failing)
    handler.on_tool_error(error=ValueError("out of order"), run_id=failing)
    handler.on_chain_start({"name": "untold"}, "x", run_id=run)
    handler.on_chain_end("nobody's")
    handler.on_chain_end("nobody's", run_id=[])
    assert tracker.stats()["dropped"] == {"internal_error": 1}
    handler.on_chain_end(run_id=run)
    assert handler.stats()["kept"] == 0
    assert tracker.flush(20)
    assert sink.one("fine").attributes["output.value"] == "answer"
    assert sink.one("failing").attributes["error.type"] == "ValueError"
    assert "output.value" not in sink.one("untold").attributes
    tracker.shutdown()


def test_lc_24_an_end_that_the_tracker_could_not_record_is_an_end_all_the_same(
    handler: RootspanCallbackHandler, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("rootspan.recorder.Recorder.finish", broken)
    assert RunnableLambda(str.upper).invoke("x", config(handler)) == "X"
    assert handler.stats()["kept"] == 0
    assert tracker.stats()["dropped"] == {"internal_error": 1}


def test_lc_25_a_suppressed_host_changes_nothing_for_us_and_we_suppress_nothing(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled, suppress_instrumentation

    seen: list[bool] = []
    chain = RunnableLambda(lambda _: seen.append(is_instrumentation_enabled()))
    chain.invoke("x", config(handler))
    with suppress_instrumentation():
        chain.invoke("x", config(handler))
    assert seen == [True, False]
    assert len(trees().roots) == 2


def who(number: int, handler: Any) -> Any:
    return config(handler, metadata={"user_id": f"u{number}", "session_id": f"s{number}"})


def assert_kept_apart(found: Trees, count: int) -> None:
    assert len(found.roots) == count
    assert found.is_whole()
    by_trace: dict[str, set[Any]] = {}
    for span in found.spans:
        told = (span.attributes["user.id"], span.attributes["session.id"])
        by_trace.setdefault(span.trace_id, set()).add(told)
    assert len(by_trace) == count
    assert all(len(told) == 1 for told in by_trace.values())
    assert len({told for several in by_trace.values() for told in several}) == count


def nested() -> Any:
    async def afine(text: str) -> str:
        await asyncio.sleep(0.001)
        return text

    return RunnableLambda(str, afunc=afine) | RunnableParallel(  # type: ignore[arg-type]
        a=RunnableLambda(str) | ChatScripted(script=["x"], delay=0.001), b=RunnableLambda(str, afunc=afine)
    )


def test_lc_26_31_one_handler_shared_by_thirty_tasks(handler: RootspanCallbackHandler, trees: Collect) -> None:
    chain = nested()

    async def run() -> None:
        await asyncio.gather(*(chain.ainvoke("x", who(number, handler)) for number in range(30)))

    asyncio.run(run())
    assert_kept_apart(trees(), 30)


def test_lc_26_31_one_handler_shared_by_eight_threads(handler: RootspanCallbackHandler, trees: Collect) -> None:
    chain = nested()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: chain.invoke("x", who(number, handler)), range(40)))
    assert_kept_apart(trees(), 40)


@pytest.mark.parametrize("is_async", [False, True])
def test_lc_27_a_batch_is_as_many_roots(handler: RootspanCallbackHandler, trees: Collect, is_async: bool) -> None:
    chain = RunnableLambda(str) | ChatScripted(script=["x"])
    inputs = [str(number) for number in range(12)]
    if is_async:
        asyncio.run(chain.abatch(inputs, config(handler)))  # type: ignore[arg-type]
    else:
        chain.batch(inputs, config(handler))  # type: ignore[arg-type]
    found = trees()
    assert len(found.roots) == len({root.trace_id for root in found.roots}) == 12
    assert all(len(found.children(root)) == 2 for root in found.roots)


def test_lc_27_a_large_batch(handler: RootspanCallbackHandler, trees: Collect) -> None:
    RunnableLambda(str).batch(list(range(1_000)), config(handler))
    assert len(trees().roots) == 1_000
    assert handler.stats()["kept"] == 0


@pytest.mark.parametrize("is_async", [False, True])
def test_lc_28_parallel_branches_are_siblings_that_overlap(
    handler: RootspanCallbackHandler, trees: Collect, is_async: bool
) -> None:
    barrier = threading.Barrier(2)

    def meet(text: str) -> str:
        barrier.wait(20)
        time.sleep(0.02)
        return text

    both = RunnableParallel(left=RunnableLambda(meet, name="left"), right=RunnableLambda(meet, name="right"))
    if is_async:
        asyncio.run(both.ainvoke("x", config(handler)))
    else:
        both.invoke("x", config(handler))
    found = trees()
    left, right = found.one("left"), found.one("right")
    assert found.parent(left) is found.parent(right) is found.root
    assert left.start < right.end
    assert right.start < left.end
    assert min(left.end - left.start, right.end - right.start) >= 20_000_000


def test_lc_29_the_trace_id_follows_from_the_run_id(
    handler: RootspanCallbackHandler, trees: Collect, tracker: Tracker
) -> None:
    runs = [uuid.uuid4() for _ in range(5)]
    RunnableLambda(str).batch(["x"] * 5, [config(handler, run_id=run) for run in runs])  # type: ignore[arg-type]
    assert {root.trace_id for root in trees().roots} == {handler.trace_id_for(run) for run in runs}
    assert handler.trace_id_for(str(runs[0])) == handler.trace_id_for(runs[0])
    assert handler.trace_id_for(None) != handler.trace_id_for(runs[0])


def test_lc_30_an_iterator_read_from_several_threads_is_one_tree(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    stream = (RunnableLambda(str) | ChatStreaming(script=["one two three four"])).stream("x", config(handler))
    said: list[str] = []
    while True:
        with ThreadPoolExecutor(1) as pool:
            chunk = pool.submit(next, stream, None).result()
        if chunk is None:
            break
        said.append(str(chunk.content))
    assert "".join(said) == "one two three four"
    found = trees()
    assert found.is_whole()
    assert found.root.attributes["output.value"].count("one two three four") == 1
    assert found.models()[0].attributes["gen_ai.usage.output_tokens"] == 4


def test_lc_31_two_invocations_in_one_interaction_keep_what_each_says_of_itself(
    tracker: Tracker, trees: Collect
) -> None:
    handler = RootspanCallbackHandler(tracker=tracker)
    reply = ChatScripted(script=["hi"])
    told = {"metadata": {"user_id": "alice", "session_id": "c-alice"}}
    with tracker.begin("worker"):
        reply.with_config(run_name="for alice").invoke("hi", config(handler, **told))
        reply.with_config(run_name="for a guest").invoke("hi", config(handler, metadata={"thread_id": "c-guest"}))
        tracker.track_ai("done")
    found = trees()
    assert {span.name: (span.attributes.get("user.id"), span.attributes.get("session.id")) for span in found.spans} == {
        "worker": ("alice", "c-alice"),  # adopted, and its own alone
        "for alice": ("alice", "c-alice"),
        "for a guest": (None, "c-guest"),
        "done": (None, None),
    }


def test_lc_32_a_large_state_does_not_hold_the_event_loop(handler: RootspanCallbackHandler) -> None:
    """Counted in nodes, not in milliseconds: a busy machine must not fail it. The benchmark measures the time."""
    from langchain_core.messages import HumanMessage

    from rootspan_langchain.budget import Budget
    from rootspan_langchain.values import frozen_value

    state = {
        "messages": [HumanMessage("x" * 1_000, id=str(number)) for number in range(3_000)],
        "documents": [{"id": number, "text": "y" * 50} for number in range(20_000)],
        "text": "z" * 3_000_000,
    }
    budget = Budget(65_536, 1_000)
    budget.plain(state)
    assert budget.nodes >= -20
    frozen = frozen_value(state)
    assert isinstance(frozen, bytes)
    assert len(frozen) < 200_000
    started = time.perf_counter()
    for _ in range(20):
        frozen_value(state)
    assert (time.perf_counter() - started) / 20 < 1.0  # the promise is 10 ms; a hundred of them is no machine's load


def test_lc_40_the_handler_passed_again_inside_stays_in_the_tree(
    handler: RootspanCallbackHandler, tracker: Tracker, trees: Collect
) -> None:
    another = RootspanCallbackHandler(tracker=tracker)

    def inside(text: str) -> str:
        RunnableLambda(str, name="again").invoke(text, config(handler))
        RunnableLambda(str, name="other").invoke(text, config(another))
        return text

    RunnableLambda(inside, name="outer").invoke("x", config(handler))
    found = trees()
    assert found.path(found.one("again")) == ["outer", "again"]
    assert found.path(found.one("other")) == ["outer", "other"]
    assert {span.attributes["user.id"] for span in found.spans} == {"u1"}


def test_lc_41_a_handler_listed_twice_records_once(
    handler: RootspanCallbackHandler, tracker: Tracker, trees: Collect
) -> None:
    another = RootspanCallbackHandler(tracker=tracker)
    model = ChatStreaming(script=["one two"], callbacks=[handler])
    chain = RunnableLambda(str) | model
    for _ in chain.stream("x", {"callbacks": [handler, handler, another]}):
        pass
    found = trees()
    assert sorted(span.name for span in found.spans) == ["ChatStreaming", "RunnableSequence", "str"]
    assert "one two" in found.models()[0].attributes["gen_ai.output.messages"]
    assert handler.stats()["kept"] == another.stats()["kept"] == 0


@pytest.mark.parametrize("kind", ["retriever", "llm"])
def test_lc_41_a_call_of_a_handler_listed_twice_is_one_span(
    handler: RootspanCallbackHandler, trees: Collect, kind: str
) -> None:
    run = uuid.uuid4()
    given, came = ("q", []) if kind == "retriever" else (["q"], LLMResult(generations=[]))
    for _ in range(2):
        getattr(handler, f"on_{kind}_start")({}, given, run_id=run)
    for _ in range(2):
        getattr(handler, f"on_{kind}_end")(came, run_id=run)
    assert trees().root.attributes["input.value"] == "q"


def test_lc_41_a_broken_stream_of_a_handler_listed_twice_says_it_once(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    stream = ChatStreaming(script=["one two three"]).stream("x", {"callbacks": [handler, handler]})
    next(stream), next(stream)
    stream.close()
    assert '"content":"one two ' in trees().root.attributes["gen_ai.output.messages"]


def test_lc_42_an_explicit_session_beats_the_thread_id(tracker: Tracker, trees: Collect) -> None:
    chain = RunnableLambda(str)
    thread: Any = {"configurable": {"thread_id": "t1"}, "metadata": {"thread_id": "t1"}}
    chain.invoke("x", {**thread, "callbacks": [RootspanCallbackHandler(tracker=tracker)]})
    chain.invoke("x", {**thread, "callbacks": [RootspanCallbackHandler(tracker=tracker, convo_id="c1")]})
    for key in ("session_id", "conversation_id", "langfuse_session_id"):
        metadata = {"thread_id": "t1", key: "m1"}
        chain.invoke("x", {"metadata": metadata, "callbacks": [RootspanCallbackHandler(tracker=tracker, convo_id="c")]})
    assert [root.attributes["session.id"] for root in trees().roots] == ["t1", "c1", "m1", "m1", "m1"]


def test_lc_42_identity_in_its_order(sink: Sink) -> None:
    tracker = Tracker(endpoint=sink.url, user_id="from configure", convo_id="from configure")
    plain, own = RootspanCallbackHandler(tracker=tracker), RootspanCallbackHandler(tracker=tracker, user_id="own")
    chain = RunnableLambda(str)
    chain.invoke("x", config(plain))
    with tracker.context(user_id="from scope"):
        chain.invoke("x", config(plain))
        chain.invoke("x", config(own))
        chain.invoke("x", config(own, metadata={"user_id": 42}))
        chain.invoke("x", config(own, metadata={"user_id": 0}))
        chain.invoke("x", config(own, metadata={"user_id": ""}))
    found = Trees(tracker, sink)
    users = [root.attributes["user.id"] for root in found.roots]
    assert users == ["from configure", "from scope", "own", "42", "0", "own"]
    tracker.shutdown()


def test_lc_43_identity_given_on_the_model_still_applies(tracker: Tracker, trees: Collect) -> None:
    on_model = RootspanCallbackHandler(tracker=tracker, user_id="u9", convo_id="c9")
    chain = RunnableLambda(str) | ChatScripted(script=["x"], callbacks=[on_model])
    chain.invoke("x")
    assert trees().root.attributes["user.id"] == "u9"
    chain.invoke("x", config(RootspanCallbackHandler(tracker=tracker)))
    assert len(trees().roots) == 2


def test_lc_43_metadata_of_a_nested_run_wins_for_it(handler: RootspanCallbackHandler, trees: Collect) -> None:
    model = ChatScripted(script=["x"]).with_config(metadata={"user_id": "nested"}, tags=["mine"])
    (RunnableLambda(str) | model).invoke("x", config(handler, tags=["all"]))
    found = trees()
    assert found.root.attributes["user.id"] == "u1"
    assert found.models()[0].attributes["user.id"] == "nested"
    assert found.root.attributes["tag.tags"] == ["all"]
    assert found.models()[0].attributes["tag.tags"] == ["all", "mine"]


def test_lc_43_what_becomes_known_is_not_undone_by_copied_metadata(tracker: Tracker, trees: Collect) -> None:
    """LangChain gives the metadata of an invocation to each run below it."""

    def login(text: str) -> str:
        tracker.update_current(user_id="late")
        return text

    chain = RunnableLambda(login) | ChatScripted(script=["x"])
    given: Any = config(RootspanCallbackHandler(tracker=tracker), metadata={"user_id": "anon", "session_id": "s"})
    chain.invoke("x", given)
    (model,) = trees().models()
    assert (model.attributes["user.id"], model.attributes["session.id"]) == ("late", "s")


@pytest.mark.parametrize("key", ["user_id", "session_id", "thread_id"])
def test_lc_43_an_object_where_an_id_belongs_is_never_asked_for_its_text(
    handler: RootspanCallbackHandler, trees: Collect, key: str
) -> None:
    """A lazy user of a web framework would make a query, in an event loop that forbids it."""

    class Lazy:
        def __str__(self) -> str:
            raise RuntimeError("no query in here")

        __repr__ = __str__

    (RunnableLambda(str, name="first") | RunnableLambda(str, name="last")).invoke(
        "x", config(handler, metadata={key: Lazy()})
    )
    found = trees()
    assert [span.name for span in found.children(found.root)] == ["first", "last"]
    assert found.root.attributes["input.value"] == "x"


def test_lc_43_metadata_of_a_hidden_run_wins_for_what_is_below_it(tracker: Tracker, trees: Collect) -> None:
    handler = RootspanCallbackHandler(tracker=tracker, user_id="u1", include=lambda run: run.name != "hidden")
    model = ChatScripted(script=["x"])
    hidden = RunnableLambda(lambda text, config: model.invoke(text, config), name="hidden")
    (RunnableLambda(str) | hidden.with_config(metadata={"user_id": "nested"})).invoke("x", config(handler))
    assert trees().models()[0].attributes["user.id"] == "nested"


def test_lc_63_no_environment_and_no_objects_in_spans(
    handler: RootspanCallbackHandler, trees: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LANGSMITH_PROJECT", "secret-project")

    class Client:
        def __repr__(self) -> str:
            return "Client(key=hush)"

    class Region(str, enum.Enum):
        EUROPE = "eu"

    metadata = {"plan": "pro", "client": Client(), "LANGSMITH_PROJECT": "secret-project", "n": 3}
    own = {"region": Region.EUROPE, "LANGUAGE": "de", "trial": True}
    RunnableLambda(str).invoke("x", config(handler, metadata={**metadata, **own}))
    attributes = trees().root.attributes
    assert "hush" not in str(attributes)
    assert "secret-project" not in str(attributes)
    assert (attributes["plan"], attributes["n"]) == ("pro", 3)
    assert [attributes[name] for name in own] == ["eu", "de", True]


def test_lc_64_async_and_sync_mixed_is_one_tree(handler: RootspanCallbackHandler, trees: Collect) -> None:
    inner = RunnableLambda(lambda text: text.upper(), name="inner")

    async def outer(text: str, config: Any) -> str:
        first = await inner.ainvoke(text, config)
        return first + str(await asyncio.to_thread(inner.invoke, text, config))

    assert asyncio.run(RunnableLambda(outer, name="outer").ainvoke("x", config(handler))) == "XX"
    found = trees()
    assert [found.path(span) for span in found.find("inner")] == [["outer", "inner"]] * 2
    assert {span.attributes["session.id"] for span in found.spans} == {"c1"}


# The scope of rootspan itself


@tool
def searching(query: str) -> str:
    """Search."""
    TRACKERS[0].track_ai("inside", input=query)
    with TRACKERS[0].tool_span("deeper") as step:
        step.set_output("ok")
        TRACKERS[0].track_decision("because")
    return query


@tool
async def asearching(query: str) -> str:
    """Search."""
    await asyncio.sleep(0)
    TRACKERS[0].track_ai("inside", input=query)
    with TRACKERS[0].tool_span("deeper") as step:
        step.set_output("ok")
        TRACKERS[0].track_decision("because")
    return query


TRACKERS: list[Any] = []


@pytest.mark.parametrize("is_async", [False, True])
def test_lc_39_what_is_tracked_inside_a_tool_lands_below_it(
    handler: RootspanCallbackHandler, tracker: Tracker, trees: Collect, is_async: bool
) -> None:
    TRACKERS[:] = [tracker]

    def call(query: str, config: Any) -> Any:
        return searching.invoke({"query": query}, config)

    async def acall(query: str, config: Any) -> Any:
        return await asearching.ainvoke({"query": query}, config)

    chain = RunnableLambda(call, afunc=acall, name="agent")  # type: ignore[arg-type]
    name = "asearching" if is_async else "searching"
    if is_async:
        asyncio.run(chain.ainvoke("q", config(handler)))
    else:
        chain.invoke("q", config(handler))
    found = trees()
    if is_async and sys.version_info < (3, 11):
        pytest.skip("before Python 3.11 LangChain cannot set its variable for a coroutine, so nothing tells the tool")
    assert found.path(found.one("inside")) == ["agent", name, "inside"]
    assert found.path(found.one("decision")) == ["agent", name, "deeper", "decision"]
    assert found.one("inside").attributes["user.id"] == "u1"


def test_a_run_inside_an_interaction_is_its_child_and_begin_inside_a_run_too(
    handler: RootspanCallbackHandler, tracker: Tracker, trees: Collect
) -> None:
    def work(text: str, config: Any) -> str:
        with tracker.begin("inner turn"):
            return str(RunnableLambda(str, name="deep").invoke(text, config))

    with tracker.begin("turn", user_id="u7", convo_id="c7"):
        RunnableLambda(work, name="chain").invoke("x", {"callbacks": [RootspanCallbackHandler(tracker=tracker)]})
    found = trees()
    assert found.path(found.one("deep")) == ["turn", "chain", "inner turn", "deep"]
    assert {span.attributes["user.id"] for span in found.spans} == {"u7"}


def test_a_run_without_input_lets_its_root_adopt_what_the_model_said(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    RunnableLambda(lambda _: None).invoke(None, config(handler))
    assert "input.value" not in trees().root.attributes


def test_the_default_tracker_is_looked_up_at_the_call(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rootspan.default_tracker, "_recorder", Tracker(endpoint=sink.url)._recorder)
    handler = RootspanCallbackHandler()
    RunnableLambda(str).invoke("x", config(handler))
    rootspan.configure(endpoint=sink.url, service_name="later")
    RunnableLambda(str).invoke("x", config(handler))
    rootspan.flush(20)
    assert {span.resource["service.name"] for span in sink.wait(2, 20)} >= {"later"}
    rootspan.shutdown()


@pytest.mark.parametrize("opening", ["begin", "context", "tool_span"])
@pytest.mark.parametrize("around", [None, "service"])
def test_what_is_opened_below_a_hidden_root_is_the_place_there(
    tracker: Tracker, trees: Collect, opening: str, around: str | None
) -> None:
    handler = RootspanCallbackHandler(tracker=tracker, include=lambda run: run.type == "model")
    model = ChatScripted(script=["x"])

    def inside(text: str, config: Any) -> None:
        model.invoke(text, config)
        thread = threading.Thread(target=model.invoke, args=(text, config))  # which has no context
        thread.start()
        thread.join()

    def step(text: str, config: Any) -> str:
        model.with_config(run_name="first").invoke(text, config)
        opened: Any = {
            "begin": lambda: tracker.begin("turn", user_id="u1"),
            "context": lambda: tracker.context(user_id="u1"),
            "tool_span": lambda: tracker.tool_span("turn"),
        }[opening]()
        with opened:
            RunnableLambda(inside, name="hidden").invoke(text, config)
        model.with_config(run_name="last").invoke(text, config)
        return text

    with tracker.context(user_id=around):
        RunnableLambda(step).invoke("x", config(handler))
    found = trees()
    user = around if opening == "tool_span" else "u1"
    for span in found.find("ChatScripted"):
        assert found.path(span) == (["ChatScripted"] if opening == "context" else ["turn", "ChatScripted"])
        assert span.attributes.get("user.id") == user
    assert len(found.find("ChatScripted")) == 2
    for name in ("first", "last"):
        assert found.path(found.one(name)) == [name]
        assert found.one(name).attributes.get("user.id") == around


@pytest.mark.parametrize("around", [False, True])
def test_what_a_step_left_behind_stays_the_same_persons_work_when_all_has_ended(
    tracker: Tracker, trees: Collect, around: bool
) -> None:
    """As a background task does, which has the context of the step that started it."""
    handler = RootspanCallbackHandler(tracker=tracker)
    left: list[contextvars.Context] = []

    def start(text: str) -> str:
        tracker.update_current(user_id="u7")
        left.append(contextvars.copy_context())
        return text

    def later() -> None:
        tracker.track_ai("late")
        RunnableLambda(str, name="chain").invoke("x")
        with tracker.begin("turn"):
            tracker.track_ai("inside")
            RunnableLambda(str, name="inner").invoke("x")

    with tracker.begin("outer", user_id="u7") if around else nullcontext():
        RunnableLambda(start, name="root").invoke("x", config(handler))
        left.pop().run(later)  # what is around it may be open still
    found = trees()
    root, above = found.one("root"), ["outer"] if around else []
    for name in ("late", "chain", "turn"):
        assert found.path(found.one(name)) == [*above, name]
        assert found.one(name).links == ([] if around else [(root.trace_id, root.span_id)])
    assert found.path(found.one("inside")) == [*above, "turn", "inside"]
    assert found.path(found.one("inner")) == [*above, "turn", "inner"]
    assert {span.attributes["user.id"] for span in found.spans} == {"u7"}
    assert handler.stats()["kept"] == 0
    gc.collect()
    assert not handler._tree._forest.left


def test_a_tag_of_the_apps_own_that_ends_in_a_number_tells_of_no_attempt(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    RunnableLambda(str).invoke("x", config(handler, tags=["recommendation2"]))
    assert "rootspan.run.attempt" not in trees().root.attributes


def test_what_a_step_left_behind_is_the_work_of_its_runs_person(tracker: Tracker, trees: Collect) -> None:
    handler = RootspanCallbackHandler(tracker=tracker)
    left: list[contextvars.Context] = []
    chain = RunnableLambda(lambda text: left.append(contextvars.copy_context()), name="root")
    with tracker.begin("outer", user_id="u7"):
        chain.invoke("x", config(handler, metadata={"user_id": "u8"}))
        left.pop().run(tracker.track_ai, "late")
    found = trees()
    assert found.path(found.one("late")) == ["outer", "late"]
    assert found.one("late").attributes["user.id"] == "u8"


def test_a_run_that_is_over_keeps_nothing_of_what_was_said(tracker: Tracker) -> None:
    """Whoever keeps a run's id, to judge it later, keeps its place alive."""
    handler, kept, said = RootspanCallbackHandler(tracker=tracker), uuid.uuid4(), "q" * 100_000
    with tracker.begin("turn"):
        RunnableLambda(str).invoke(said, config(handler, run_id=kept))
    tracker.flush(20)
    (span,) = handler._tree._forest.left.values()
    while span is not None:
        assert not span.first_input
        assert not span.last_output
        span = span.parent


def test_metadata_with_a_key_of_any_kind(handler: RootspanCallbackHandler, trees: Collect) -> None:
    RunnableLambda(str).invoke("x", config(handler, metadata={1: "x", "plan": "pro"}))
    assert trees().root.attributes["plan"] == "pro"


# Options


def test_details_hide_what_only_passes_on_and_keep_the_children(tracker: Tracker, trees: Collect) -> None:
    chain = RunnableLambda(str) | RunnableParallel(a=ChatScripted(script=["x"]) | RunnableLambda(type))
    chain.invoke("x", config(RootspanCallbackHandler(tracker=tracker, detail="agent")))
    found = trees()
    assert sorted(span.name for span in found.spans) == ["ChatScripted", "RunnableSequence"]
    assert found.path(found.models()[0]) == ["RunnableSequence", "ChatScripted"]


@pytest.mark.parametrize("detail", ["full", "agent"])
def test_what_langgraph_hides_is_hidden_in_every_detail(tracker: Tracker, trees: Collect, detail: str) -> None:
    handler = RootspanCallbackHandler(tracker=tracker, detail=detail)
    RunnableLambda(str, name="hidden").invoke("x", config(handler, tags=["langsmith:hidden"]))
    RunnableLambda(str, name="shown").invoke("x", config(handler, tags=["langsmith:other"]))
    assert [root.name for root in trees().roots] == ["shown"]


def test_a_predicate_decides_and_may_even_hide_the_root(tracker: Tracker, trees: Collect) -> None:
    asked: list[Any] = []

    def include(run: Any) -> bool:
        asked.append(run)
        return run.type == "model" or run.name == "kept"

    chain = RunnableLambda(str, name="kept") | ChatScripted(script=["x"])
    handler = RootspanCallbackHandler(tracker=tracker, include=include, user_id="u1")
    chain.invoke("x", config(handler, metadata={"plan": "pro"}, tags=["t"]))
    found = trees()
    assert sorted(root.name for root in found.roots) == ["ChatScripted", "kept"]
    assert {root.attributes["user.id"] for root in found.roots} == {"u1"}
    assert [(run.name, run.type, run.is_root, run.is_node) for run in asked] == [
        ("RunnableSequence", "chain", True, False),
        ("kept", "chain", False, False),
        ("ChatScripted", "model", False, False),
    ]
    assert asked[0].metadata["plan"] == "pro"
    assert handler.stats()["kept"] == 0


def test_a_predicate_that_raises_excludes_nothing(
    tracker: Tracker, trees: Collect, caplog: pytest.LogCaptureFixture
) -> None:
    def include(run: Any) -> bool:
        raise KeyError("oops")

    handler = RootspanCallbackHandler(tracker=tracker, include=include)
    for _ in range(3):
        RunnableLambda(str).invoke("x", config(handler))
    assert len(trees().roots) == 3
    assert caplog.text.count("the include= function raised KeyError('oops')") == 1


@pytest.mark.parametrize(
    ("options", "fix"),
    [
        ({"tracker": "t"}, "tracker=rootspan.Tracker"),
        ({"detail": "all"}, "detail='full'"),
        ({"include": "models"}, "include=lambda run"),
        ({"user_id": lambda: "u1"}, "set user_id= to a str, an int or a UUID"),
        ({"convo_id": True}, "set convo_id= to a str, an int or a UUID"),
        ({"tags": "a,b"}, "set tags= to a list of str"),
        ({"tags": lambda: ["a"]}, "set tags= to a list of str"),
        ({"properties": lambda: {"plan": "pro"}}, "set properties= to a dict"),
        ({"properties": [("plan", "pro")]}, "set properties= to a dict"),
        ({"capture_content": "false"}, "set capture_content= to True or False"),
        ({"capture_content": None}, "set capture_content= to True or False"),
        ({"estimate_cost": "yes"}, "set estimate_cost= to True or False"),
    ],
)
def test_a_wrong_option_is_an_error_at_once(options: Any, fix: str) -> None:
    with pytest.raises(ConfigurationError, match=fix):
        RootspanCallbackHandler(**options)
    with pytest.raises(TypeError, match="user"):
        RootspanCallbackHandler(user="u1")  # type: ignore[call-arg]


def test_options_of_every_right_kind(tracker: Tracker, trees: Collect) -> None:
    for user in ("u1", 42, uuid.UUID(int=7)):
        handler = RootspanCallbackHandler(tracker=tracker, user_id=user, tags=("a", "b"), properties={"plan": "pro"})
        RunnableLambda(str).invoke("x", config(handler))
    RunnableLambda(str).invoke("x", config(RootspanCallbackHandler(tracker=tracker, user_id="", tags=[])))
    found = [(root.attributes.get("user.id"), root.attributes.get("plan")) for root in trees().roots]
    assert found == [("u1", "pro"), ("42", "pro"), (str(uuid.UUID(int=7)), "pro"), (None, None)]


def test_a_copied_handler_is_the_same_one(handler: RootspanCallbackHandler) -> None:
    assert copy.deepcopy({"callbacks": [handler]})["callbacks"] == [handler]
    assert copy.copy(handler) is handler


def test_automatic_recording_beside_a_handler_of_ones_own(
    handler: RootspanCallbackHandler, tracker: Tracker, trees: Collect
) -> None:
    try:
        install(tracker=tracker, user_id="auto")
        install(tracker=tracker, user_id="auto", convo_id="again")
        RunnableLambda(str, name="plain").invoke("x")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(RunnableLambda(str, name="threaded").invoke, "x").result()
        RunnableLambda(str, name="own").invoke("x", config(handler))
        (RunnableLambda(str, name="first") | RunnableLambda(str, name="second")).invoke("x", {"run_name": "chain"})
    finally:
        uninstall()
    RunnableLambda(str, name="after").invoke("x")
    found = trees()
    assert sorted(root.name for root in found.roots) == ["chain", "own", "plain", "threaded"]
    assert found.path(found.one("second")) == ["chain", "second"]
    assert found.one("own").attributes["user.id"] == "u1"
    assert found.one("plain").attributes["user.id"] == "auto"
    assert found.one("plain").attributes["session.id"] == "again"


@pytest.mark.parametrize("change", [lambda tracker: install(tracker=tracker, user_id="later"), lambda _: uninstall()])
def test_automatic_recording_that_changes_meanwhile_loses_nothing_that_is_open(
    tracker: Tracker, trees: Collect, change: Callable[[Tracker], object]
) -> None:
    def step(text: str) -> str:
        change(tracker)
        return str(RunnableLambda(str, name="inner").invoke(text))

    try:
        installed = install(tracker=tracker, user_id="first")
        RunnableLambda(step, name="outer").invoke("x")
        RunnableLambda(str, name="next").invoke("x")
    finally:
        uninstall()
    uninstall()  # once more: there is nothing to end
    found = trees()
    assert found.path(found.one("inner")) == ["outer", "inner"]
    assert found.one("outer").attributes["output.value"] == "x"
    assert {span.attributes["user.id"] for span in (found.one("outer"), found.one("inner"))} == {"first"}
    assert [span.attributes["user.id"] for span in found.find("next")] in (["later"], [])
    assert installed.stats()["kept"] == 0


def test_automatic_recording_costs_an_invocation_the_same_however_often_it_is_installed(tracker: Tracker) -> None:
    for _ in range(3):
        install(tracker=tracker)
        uninstall()
    hooks = [handler for _, _, handler, _ in _configure_hooks if handler is RootspanCallbackHandler]
    assert len(hooks) == 1


def test_automatic_recording_that_has_a_wrong_option_goes_on_as_it_was(tracker: Tracker, trees: Collect) -> None:
    try:
        install(tracker=tracker)
        with pytest.raises(ConfigurationError, match="detail="):
            install(tracker=tracker, detail="all")
        RunnableLambda(str).invoke("x")
    finally:
        uninstall()
    assert trees().root.name == "str"


def test_automatic_recording_that_has_ended_leaves_the_hosts_handlers_alone(tracker: Tracker) -> None:
    """LangChain runs no other handler at the start of an async completion beside one that is inline."""
    seen: list[str] = []

    class Theirs(AsyncCallbackHandler):
        async def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
            seen.append("start")

    install(tracker=tracker)
    uninstall()
    asyncio.run(FakeListLLM(responses=["x"]).ainvoke("q", {"callbacks": [Theirs()]}))
    assert seen == ["start"]


def test_a_disabled_handler_records_nothing_that_begins_anew(
    handler: RootspanCallbackHandler, tracker: Tracker, trees: Collect
) -> None:
    disabled = RootspanCallbackHandler(tracker=tracker)
    disabled.disable()

    def outer(text: str) -> str:
        return str(RunnableLambda(str, name="not theirs").invoke(text, config(disabled)))

    RunnableLambda(str, name="alone").invoke("x", config(disabled))
    RunnableLambda(outer).invoke("x", config(handler))
    assert [span.name for span in trees().spans] == ["outer"]


def test_it_derives_from_langchains_own_handler_and_runs_inline(handler: RootspanCallbackHandler) -> None:
    assert isinstance(handler, BaseCallbackHandler)
    assert handler.run_inline
    assert not handler.raise_error


FORKING = """
import os, sys, threading, time
from langchain_core.runnables import RunnableLambda
import rootspan
from rootspan_langchain import RootspanCallbackHandler

handler = RootspanCallbackHandler(tracker=rootspan.Tracker(endpoint=sys.argv[1]))
forest = handler._tree._forest
held, forked = threading.Event(), threading.Event()

def hold():
    with forest.lock:
        held.set()
        forked.wait(20)

def work(text, config):
    threading.Thread(target=hold).start()
    held.wait(20)
    child = os.fork()
    if child == 0:
        RunnableLambda(str, name="in the child").invoke(text, config)
        handler._tree.tracker.shutdown()
        os._exit(0)
    forked.set()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

print(RunnableLambda(work, name="parent").invoke("x", {"callbacks": [handler]}))
handler._tree.tracker.shutdown()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_records_below_its_parents_run_and_waits_for_no_lock(sink: Sink) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKING, sink.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "0\n"
    sink.wait(2, 20)
    parent, child = sink.one("parent"), sink.one("in the child")
    assert child.parent_id == parent.span_id
