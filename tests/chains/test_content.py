"""Models, tokens and what was said: edge cases 48 to 62, and 65."""

from __future__ import annotations

import asyncio
import base64
import datetime
import enum
import hashlib
import json
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.metadata import version
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import CallbackManager, adispatch_custom_event, dispatch_custom_event
from langchain_core.documents import Document
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, AIMessageChunk, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, Generation, LLMResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from rootspan import MissingExtraError, Tracker
from rootspan_langchain import RootspanCallbackHandler
from scripted import USAGE, ChatScripted, ChatStreaming, Trees, calls
from shortcuts import Ways

Collect = Callable[[], Trees]
CORE = tuple(map(int, version("langchain-core").split(".")[:2]))


@dataclass
class Thing:
    name: str
    count: int


def config(handler: Any, **more: Any) -> Any:
    return {"callbacks": [handler], **more}


def messages(span: Any, side: str = "input") -> Any:
    return json.loads(span.attributes[f"gen_ai.{side}.messages"])


def told(handler: RootspanCallbackHandler, result: LLMResult, **start: Any) -> None:
    """One call of a model, as its events."""
    run = uuid4()
    handler.on_chat_model_start(start.pop("serialized", {"name": "m"}), [[]], run_id=run, **start)
    handler.on_llm_end(result, run_id=run)


def result(message: AIMessage, **llm_output: Any) -> LLMResult:
    return LLMResult(generations=[[ChatGeneration(message=message)]], llm_output=llm_output or None)


def test_lc_48_tokens_are_on_the_model_spans_alone(handler: RootspanCallbackHandler, trees: Collect) -> None:
    model = ChatScripted(script=["a", "b"])
    (RunnableLambda(str) | model | RunnableLambda(lambda said: said.content) | model).invoke("x", config(handler))
    found = trees()
    bought = [span for span in found.spans if any("usage" in name for name in span.attributes)]
    assert {span.name for span in bought} == {"ChatScripted"}
    assert sum(span.attributes["gen_ai.usage.input_tokens"] for span in bought) == 20


def test_lc_49_missing_usage_is_absent_and_two_reports_count_once(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    told(handler, result(AIMessage("no usage")))
    told(handler, result(AIMessage("both", usage_metadata=USAGE), token_usage={"prompt_tokens": 10}))
    told(handler, result(AIMessage("old"), token_usage={"prompt_tokens": 7, "completion_tokens": 3}))
    told(handler, result(AIMessage("odd"), token_usage="many"))
    found = [
        (root.attributes.get("gen_ai.usage.input_tokens"), root.attributes.get("gen_ai.usage.output_tokens"))
        for root in trees().roots
    ]
    assert found == [(None, None), (10, 4), (7, 3), (None, None)]


def test_lc_50_streamed_usage(handler: RootspanCallbackHandler, trees: Collect) -> None:
    list(ChatStreaming(script=["one two"]).stream("x", config(handler)))
    attributes = trees().root.attributes
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (10, 4)


@pytest.mark.parametrize("is_async", [False, True])
def test_lc_50_a_graph_that_streams_messages_counts_once(
    handler: RootspanCallbackHandler, trees: Collect, is_async: bool
) -> None:
    pytest.importorskip("langgraph", reason="a graph")
    from langgraph.graph import START, MessagesState, StateGraph

    model = ChatStreaming(script=["one two three"])

    def say(state: Any, config: Any) -> Any:
        return {"messages": [model.invoke(state["messages"], config)]}

    async def asay(state: Any, config: Any) -> Any:
        return {"messages": [await model.ainvoke(state["messages"], config)]}

    graph = StateGraph(MessagesState)
    graph.add_node("say", RunnableLambda(say, afunc=asay, name="say"))  # type: ignore[arg-type, call-overload]
    graph.add_edge(START, "say")
    made, given = graph.compile(), {"messages": [("user", "hi")]}

    async def consume() -> None:
        async for _ in made.astream(given, config(handler), stream_mode="messages"):  # type: ignore[arg-type]
            pass

    asyncio.run(consume()) if is_async else list(made.stream(given, config(handler), stream_mode="messages"))  # type: ignore[arg-type]
    found = trees()
    assert len(found.models()) == 1
    assert found.models()[0].attributes["gen_ai.usage.input_tokens"] == 10
    assert found.models()[0].attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert found.root.attributes["output.value"] == "one two three"


def test_lc_51_the_parts_of_usage_are_kept_and_the_input_stays_gross(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    usage: Any = {
        "input_tokens": 100, "output_tokens": 50, "total_tokens": 150,
        "input_token_details": {"cache_read": 60, "cache_creation": 10, "audio": 5},
        "output_token_details": {"reasoning": 20, "audio": 7},
    }  # fmt: skip
    told(handler, result(AIMessage("x", usage_metadata=usage)))
    attributes = trees().root.attributes
    assert {name: value for name, value in attributes.items() if "usage" in name} == {
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50,
        "gen_ai.usage.cache_read.input_tokens": 60,
        "gen_ai.usage.cache_creation.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 20,
        "rootspan.usage.input_audio_tokens": 5,
        "rootspan.usage.output_audio_tokens": 7,
    }


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        # Anthropic's: the parts in place of the whole, and once both
        ({"cache_creation": 0, "ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 4}, {}, (None, 34, None)),
        ({"cache_creation": 34, "ephemeral_5m_input_tokens": 34}, {}, (None, 34, None)),
        ({"cache_creation": 0}, {}, (None, 0, None)),
        # OpenAI's tiers
        ({"priority_cache_read": 60, "priority": 40}, {"priority_reasoning": 20, "priority": 30}, (60, None, 20)),
        ({"flex_cache_read": 60}, {"flex_reasoning": 20}, (60, None, 20)),
    ],
)
def test_lc_51_the_parts_of_usage_under_the_names_that_providers_have_for_them(
    handler: RootspanCallbackHandler, trees: Collect, before: Any, after: Any, counts: Any
) -> None:
    usage: Any = {**USAGE, "input_token_details": before, "output_token_details": after}
    told(handler, result(AIMessage("x", usage_metadata=usage)))
    attributes = trees().root.attributes
    names = ("cache_read.input_tokens", "cache_creation.input_tokens", "reasoning.output_tokens")
    assert tuple(attributes.get(f"gen_ai.usage.{name}") for name in names) == counts


@pytest.fixture
def llm_cache() -> Iterator[None]:
    set_llm_cache(InMemoryCache())
    yield
    set_llm_cache(None)


@pytest.mark.parametrize("is_async", [False, True])
def test_lc_52_an_answer_from_the_cache_is_flagged_and_not_bought_again(
    handler: RootspanCallbackHandler, trees: Collect, llm_cache: None, is_async: bool
) -> None:
    model = ChatScripted(script=["cached"])
    for _ in range(2):
        asyncio.run(model.ainvoke("x", config(handler))) if is_async else model.invoke("x", config(handler))
    bought, cached = trees().roots
    assert bought.attributes["gen_ai.usage.input_tokens"] == 10
    assert "rootspan.response.cached" not in bought.attributes
    assert cached.attributes["rootspan.response.cached"] is True
    assert not any("usage" in name for name in cached.attributes)
    assert cached.attributes["output.value"] == "cached"


@pytest.mark.parametrize("cache", [InMemoryCache(), None])
def test_lc_52_an_older_langchain_leaves_only_the_id_of_another_run(
    handler: RootspanCallbackHandler, trees: Collect, monkeypatch: pytest.MonkeyPatch, llm_cache: None, cache: Any
) -> None:
    monkeypatch.setattr("rootspan_langchain.models._CACHE_TELLS", False)
    set_llm_cache(cache)
    told(handler, result(AIMessage("x", id=f"run-{uuid4()}-0", usage_metadata=USAGE)))
    assert trees().root.attributes.get("rootspan.response.cached") == (None if cache is None else True)


class ChatGuarded(ChatScripted):
    """The delegating model of LangChain's how-to: checks what another one answers."""

    inner: Any

    def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.inner.invoke(messages))])

    async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=await self.inner.ainvoke(messages))])


@pytest.mark.parametrize("is_async", [False, True])
def test_lc_52_what_another_model_answered_is_no_answer_of_the_cache(
    handler: RootspanCallbackHandler, trees: Collect, is_async: bool
) -> None:
    """Its message has the id of the other's run. Where that is recorded as well, the tokens are there."""
    model = ChatGuarded(script=[], inner=ChatScripted(script=["hi"]), name="guarded")

    async def acall(text: str, config: Any) -> Any:
        return await model.ainvoke(text, config)

    # LangChain's overloads tell a function of an input and a config from none of their own.
    chain = RunnableLambda(lambda text, config: model.invoke(text, config), afunc=acall)  # type: ignore[arg-type, call-overload]
    for runnable in (model, chain):
        asyncio.run(runnable.ainvoke("x", config(handler))) if is_async else runnable.invoke("x", config(handler))
    found = trees()
    assert not any("rootspan.response.cached" in span.attributes for span in found.spans)
    for root in found.roots:
        calls = [span for span in found.models() if span.trace_id == root.trace_id]
        bought = [span.attributes.get("gen_ai.usage.input_tokens", 0) for span in calls]
        assert sum(bought) == 10


def test_lc_52_a_message_that_a_model_gives_again_was_bought_again(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    model = ChatScripted(script=[AIMessage("x", usage_metadata=USAGE)])
    (model | RunnableLambda(lambda said: said.content) | model).invoke("x", config(handler))
    assert [span.attributes["gen_ai.usage.input_tokens"] for span in trees().models()] == [10, 10]


def test_lc_53_provider_and_model_are_told_or_the_classes_and_never_guessed(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    answer = result(AIMessage("x"))
    told(handler, answer, metadata={"ls_provider": "amazon_bedrock", "ls_model_name": "claude-9"})
    told(handler, answer, invocation_params={"model": "gpt-9"}, serialized={"id": ["langchain", "chat", "ChatOpenAI"]})
    told(handler, answer, serialized={"kwargs": {"model_name": "m-1"}, "name": "own"})
    told(handler, answer, serialized=None)
    found = [
        (root.attributes.get("gen_ai.provider.name"), root.attributes.get("gen_ai.request.model"))
        for root in trees().roots
    ]
    assert found == [("aws.bedrock", "claude-9"), ("openai", "gpt-9"), (None, "m-1"), (None, None)]


@pytest.mark.parametrize("streaming", [False, True])
def test_lc_54_request_and_response_model_are_two(
    handler: RootspanCallbackHandler, trees: Collect, streaming: bool
) -> None:
    if streaming:
        list(ChatStreaming(script=["a b"]).stream("x", config(handler)))
    else:
        meta = {"model_name": "gpt-4o-mini-0709", "finish_reason": "stop", "id": "chatcmpl-1"}
        message = AIMessage("a b", response_metadata=meta)
        ChatScripted(script=[message], temperature=0.5).invoke("x", config(handler), stop=["END"])
    attributes = trees().root.attributes
    assert attributes["gen_ai.request.model"] == "gpt-4o-mini"
    assert attributes["gen_ai.response.model"] == "gpt-4o-mini-0709"
    assert attributes["gen_ai.response.finish_reasons"] == ["stop"]
    if not streaming:
        assert attributes["gen_ai.response.id"] == "chatcmpl-1"
        assert attributes["gen_ai.request.temperature"] == 0.5
        assert attributes["gen_ai.request.stop_sequences"] == ["END"]
        assert "gen_ai.request.stream" not in attributes


@pytest.mark.parametrize("is_async", [False, True])
def test_lc_55_56_the_first_token_is_timed_in_place_and_no_token_is_an_event(
    handler: RootspanCallbackHandler, trees: Collect, is_async: bool
) -> None:
    model = ChatStreaming(script=["one two three four five"], delay=0.02)

    async def consume() -> None:
        async for _ in model.astream("x", config(handler)):
            pass

    asyncio.run(consume()) if is_async else list(model.stream("x", config(handler)))
    span = trees().root
    first = span.attributes["gen_ai.response.time_to_first_chunk"]
    assert 0.02 <= first < (span.end - span.start) / 1e9
    assert span.attributes["gen_ai.request.stream"] is True
    assert span.events == []


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@pytest.mark.skipif(CORE < (1, 4), reason="stream_events of version v3 came with langchain-core 1.4")
@pytest.mark.parametrize("is_async", [False, True])
def test_lc_55_events_of_the_third_version_are_timed_and_kept_in_part(
    handler: RootspanCallbackHandler, trees: Collect, is_async: bool
) -> None:
    model: Any = ChatStreaming(script=["one two three"], delay=0.01)

    async def consume() -> None:
        stream = await model.astream_events("x", config(handler), version="v3")
        async for _ in stream:
            pass
        await asyncio.sleep(0.05)

    if is_async:
        asyncio.run(consume())
    else:
        list(model.stream_events("x", config(handler), version="v3"))
    span = trees().root
    assert span.attributes["gen_ai.response.time_to_first_chunk"] >= 0.01
    assert messages(span, "output")[0]["parts"][0]["content"] == "one two three"


class Bomb:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def test_lc_57_one_bad_value_costs_itself_only(handler: RootspanCallbackHandler, trees: Collect) -> None:
    cycle: dict[str, Any] = {"good": 1}
    cycle["self"] = cycle
    RunnableLambda(lambda _: {"bomb": Bomb(), "fine": "yes"}).invoke({"cycle": cycle, "bomb": Bomb()}, config(handler))
    root = trees().root
    given, came = json.loads(root.attributes["input.value"]), json.loads(root.attributes["output.value"])
    assert given["cycle"] == {"good": 1, "self": "…[cycle]"}
    assert "unreadable" in given["bomb"]
    assert came["fine"] == "yes"
    assert root.status_code == 0


def test_lc_57_a_lazy_object_is_not_evaluated(handler: RootspanCallbackHandler, trees: Collect) -> None:
    """Django's users are such, and it may be the database that one asks, which an event loop must not."""
    functional = pytest.importorskip("django.utils.functional", reason="Django's own lazy objects need Django")
    asked: list[int] = []
    user = functional.SimpleLazyObject(lambda: asked.append(1))

    for given in (user, [user], {"user": user, "q": "hi"}, {"messages": [user]}, {"messages": user}):
        RunnableLambda(lambda _: {"user": user}, name="chain").invoke(given, config(handler))
    call, retrieval = uuid4(), uuid4()
    handler.on_tool_start({"name": "tool"}, "", inputs={"user": user}, run_id=call)
    handler.on_tool_end(user, run_id=call)
    handler.on_retriever_start(None, user, run_id=retrieval)
    handler.on_retriever_end(user, run_id=retrieval)
    found = trees()
    assert asked == []
    assert handler.stats()["kept"] == 0
    assert all("SimpleLazyObject" in span.attributes["output.value"] for span in found.find("chain"))
    assert "SimpleLazyObject" in found.one("tool").attributes["gen_ai.tool.call.result"]


class Incomparable:
    """Like an array: a comparison with it has no one truth."""

    __hash__ = None  # type: ignore[assignment]  # as of any class that only says when it is equal

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    @property
    def status(self) -> Any:
        return self


def test_lc_57_a_list_of_values_without_a_comparison(handler: RootspanCallbackHandler, trees: Collect) -> None:
    RunnableLambda(lambda _: [Incomparable(), 1]).invoke([Incomparable()], config(handler))
    root = trees().root
    assert "Incomparable" in root.attributes["input.value"]
    assert json.loads(root.attributes["output.value"])[1] == 1


def test_lc_58_lists_of_arrays(handler: RootspanCallbackHandler, trees: Collect) -> None:
    numpy = pytest.importorskip("numpy", reason="numpy's own values")
    embed = RunnableLambda(lambda texts: [numpy.ones(2) for _ in texts], name="embed")
    (embed | RunnableLambda(len, name="rank")).invoke(["a", "b"], config(handler))
    found = trees()
    assert found.one("embed").attributes["output.value"] == "[[1.0,1.0],[1.0,1.0]]"
    assert found.one("rank").attributes["input.value"] == "[[1.0,1.0],[1.0,1.0]]"


def test_lc_58_unusual_values_stay_readable(handler: RootspanCallbackHandler, trees: Collect) -> None:
    numpy = pytest.importorskip("numpy", reason="numpy's own values")

    class Model(BaseModel):
        name: str
        price: Decimal

    value = {
        "array": numpy.array([1, 2]), "scalar": numpy.float32(1.5), "bytes": b"text", "nan": float("nan"),
        "model": Model(name="m", price=Decimal("2.5")), "when": datetime.datetime(2026, 1, 2),
        ("a", 1): "tuple key", 7: "int key", "set": {1}, "big": 10**30,
        "doc": Document("page", metadata={"a": 1}), "runnable": RunnableLambda(str),
    }  # fmt: skip
    RunnableLambda(lambda _: "x").invoke(value, config(handler))
    given = json.loads(trees().root.attributes["input.value"])
    assert given["array"] == [1, 2]
    assert given["scalar"] == 1.5
    assert given["bytes"] == "text"
    assert given["model"] == {"name": "m", "price": "2.5"}
    assert given["when"].startswith("2026-01-02")
    assert given["7"] == "int key"
    assert given['["a",1]'] == "tuple key"
    assert given["nan"] in (None, "NaN")
    assert given["doc"] == {"content": "page", "metadata": {"a": 1}}
    assert given["runnable"] == "<langchain_core.runnables.base.RunnableLambda>"
    assert given["big"] == str(10**30)


def test_lc_59_what_belongs_to_the_framework_is_never_written_out(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    inner = config(handler, configurable={"api_key": "hush"})
    value = {"config": inner, "handler": handler, "manager": CallbackManager([]), "text": "x"}
    RunnableLambda(lambda _: "x").invoke(value, config(handler))
    root = trees().root
    assert "hush" not in str(root.attributes)
    given = json.loads(root.attributes["input.value"])
    assert given["config"] == "<RunnableConfig>"
    assert given["handler"] == "<rootspan_langchain.handler.RootspanCallbackHandler>"
    assert given["manager"] == "<langchain_core.callbacks.manager.CallbackManager>"


@pytest.mark.parametrize("wrap", [dict, lambda given: {"inner": given}])
def test_lc_59_a_small_configuration_is_no_value_either(
    handler: RootspanCallbackHandler, trees: Collect, wrap: Callable[[Any], Any]
) -> None:
    given = wrap({"callbacks": None, "configurable": {"api_token": "hush"}})
    RunnableLambda(lambda _: "x").invoke(given, config(handler))
    assert "<RunnableConfig>" in trees().root.attributes["input.value"]


def test_what_is_changed_after_the_event_was_recorded_before(handler: RootspanCallbackHandler, trees: Collect) -> None:
    """Small values are written as they are, and written at once."""
    call: Any = {"name": "look", "args": {"at": "before"}, "id": "c1", "type": "tool_call"}
    said = AIMessage("before", tool_calls=[call])
    state: dict[str, Any] = {"small": {"text": "before"}, "long": "before" * 100, "said": [said]}
    inputs: dict[str, Any] = {"text": "before"}

    def change(_: Any) -> Any:
        inputs["text"] = state["small"]["text"] = state["long"] = said.content = "after"
        said.tool_calls[0]["args"]["at"] = "after"
        return "done"

    handler.on_chain_start(None, state, run_id=(run_id := uuid4()), name="state")
    RunnableLambda(change).with_config(run_name="small").invoke(inputs, config(handler))
    handler.on_chain_end("done", run_id=run_id)
    roots = {root.name: root.attributes["input.value"] for root in trees().roots}
    assert "after" not in roots["state"] + roots["small"]
    assert json.loads(roots["small"]) == {"text": "before"}
    assert json.loads(roots["state"])["said"][0]["tool_calls"][0]["args"] == {"at": "before"}


def test_texts_of_other_classes_are_texts(handler: RootspanCallbackHandler, trees: Collect) -> None:
    class Colour(str, enum.Enum):
        RED = "red"

    class Text(str):  # as what a message's `text` returns
        __slots__ = ()

    RunnableLambda(lambda _: Text("said")).invoke(Colour.RED, config(handler))
    root = trees().root
    assert (root.attributes["input.value"], root.attributes["output.value"]) == ("red", "said")


def test_a_value_that_another_thread_changes_is_looked_at_once_more(
    handler: RootspanCallbackHandler, trees: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a look at it says then: tests of `freeze` change one meanwhile.
    monkeypatch.setattr("rootspan_langchain.values.room", lambda *_: -1)
    RunnableLambda(lambda _: "x").invoke({"text": "fine", "numbers": [0.5, 1.5]}, config(handler))
    assert json.loads(trees().root.attributes["input.value"]) == {"text": "fine", "numbers": [0.5, 1.5]}


def test_numbers_that_json_lacks_are_told_wherever_they_are(handler: RootspanCallbackHandler, trees: Collect) -> None:
    value = {"text": "x" * 300, "number": float("nan"), "deep": [{"numbers": [float("inf"), 0.5]}]}
    RunnableLambda(lambda _: "x").invoke(value, config(handler))
    given = json.loads(trees().root.attributes["input.value"])
    assert (given["number"], given["deep"]) == ("NaN", [{"numbers": ["Infinity", 0.5]}])


def test_what_only_a_walk_can_read_counts_with_its_length(handler: RootspanCallbackHandler, trees: Collect) -> None:
    value = {f"set {number}": {f"{item:0200d}" for item in range(250)} for number in range(30)}
    RunnableLambda(lambda _: "x").invoke(value, config(handler))
    text = trees().root.attributes["input.value"]
    assert len(text) < 70_000
    assert "cut: " in text


def test_long_arguments_of_a_tool_call_keep_their_size(handler: RootspanCallbackHandler, trees: Collect) -> None:
    call: Any = {"name": "write", "args": {"text": "x" * 200_000}, "id": "c1", "type": "tool_call"}
    RunnableLambda(lambda _: "x").invoke([AIMessage("", tool_calls=[call])], config(handler))
    text = trees().root.attributes["input.value"]
    assert len(text) < 70_000
    assert "cut from 200000 characters" in text


def test_lc_60_lone_surrogates_are_replaced(handler: RootspanCallbackHandler, trees: Collect) -> None:
    ChatScripted(script=["out \udc80"]).invoke([HumanMessage("in \ud800")], config(handler, tags=["t\ud800"]))
    root = trees().root
    assert root.attributes["input.value"] == "in �"
    assert root.attributes["output.value"] == "out �"


def test_lc_61_large_texts_are_cut_and_images_elided_with_their_size(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    image = bytes(range(256)) * 8_000
    data = base64.b64encode(image).decode()
    content: Any = [
        {"type": "text", "text": "x" * 5_000_000},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        {"type": "image", "source_type": "base64", "mime_type": "image/png", "data": data},
    ]
    ChatScripted(script=["ok"]).invoke([HumanMessage(content)], config(handler))
    text = trees().root.attributes["gen_ai.input.messages"]
    assert len(text) < 1_200_000
    assert "cut from 5000000 characters" in text
    assert text.count(f"[{len(image)} bytes, sha256 ") == 2


def test_lc_61_an_image_alone_keeps_size_and_digest(handler: RootspanCallbackHandler, trees: Collect) -> None:
    image = bytes(range(256)) * 8_000
    data = base64.b64encode(image).decode()
    content: Any = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        {"type": "image", "source_type": "base64", "mime_type": "image/png", "data": data},
        {"type": "image", "source_type": "base64", "mime_type": "image/png", "data": data * 3},
    ]
    for _ in range(2):
        ChatScripted(script=["ok"]).invoke([HumanMessage(content)], config(handler))
    digest = hashlib.sha256(image).hexdigest()[:16]
    roots = trees().roots
    assert len(roots) == 2
    for root in roots:
        parts = messages(root)[0]["parts"]
        assert parts[1]["content"] == parts[2]["content"] == f"[{len(image)} bytes, sha256 {digest}]"
        assert parts[3]["content"] == f"[{len(data) * 9 // 4} bytes]"
        assert root.attributes["input.value"] == "What is it?"


def test_lc_61_an_image_in_a_state_is_elided_as_well(
    handler: RootspanCallbackHandler, trees: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rootspan_langchain.budget._digests", dict.fromkeys(range(2_000), "old"))
    image = bytes(range(256)) * 800
    block: Any = {"type": "image", "mime_type": "image/png", "data": base64.b64encode(image).decode()}
    RunnableLambda(lambda _: "x").invoke({"messages": [HumanMessage([block])], "n": 1}, config(handler))
    given = json.loads(trees().root.attributes["input.value"])
    digest = hashlib.sha256(image).hexdigest()[:16]
    assert given["messages"][0]["content"][0]["data"] == f"[{len(image)} bytes, sha256 {digest}]"


def test_lc_61_images_in_a_list_are_elided_as_well(handler: RootspanCallbackHandler, trees: Collect) -> None:
    image = bytes(range(256)) * 800
    state = {"images": [base64.b64encode(image).decode()], "question": "What is it?"}
    RunnableLambda(lambda _: "x").invoke(state, config(handler))
    digest = hashlib.sha256(image).hexdigest()[:16]
    expected = {"images": [f"[{len(image)} bytes, sha256 {digest}]"], "question": "What is it?"}
    assert json.loads(trees().root.attributes["input.value"]) == expected


def test_lc_61_words_under_a_key_of_encoded_bytes_stay(handler: RootspanCallbackHandler, trees: Collect) -> None:
    words = "The grass is green, and so is the sea. " * 10
    RunnableLambda(lambda _: "x").invoke({"data": words, "image": words}, config(handler))
    assert json.loads(trees().root.attributes["input.value"]) == {"data": words, "image": words}


def test_lc_62_content_off_means_off(tracker: Tracker, trees: Collect) -> None:
    handler = RootspanCallbackHandler(tracker=tracker, capture_content=False, user_id="u1")

    @tool
    def secretive(query: str) -> str:
        """Fail."""
        raise ValueError("hush error")

    def call(given: Any, config: Any) -> Any:
        dispatch_custom_event("custom", {"data": "hush event"}, config=config)
        with pytest.raises(ValueError, match="hush"):
            secretive.invoke({"query": "hush query"}, config)
        return given

    prompt = ChatPromptTemplate.from_messages([("system", "hush system"), ("human", "{variable}")])
    script = [calls("secretive", text="hush thought", query="hush")]
    model = ChatScripted(script=script).bind_tools([secretive])
    (prompt | RunnableLambda(call) | model).invoke({"variable": "hush value"}, config(handler))
    list(ChatStreaming(script=["hush one two"]).stream("hush in", config(handler)))
    stream = ChatStreaming(script=["hush one two"]).stream("hush in", config(handler))
    next(stream)
    stream.close()
    found = trees()
    assert "hush" not in str([(span.attributes, span.events, span.status_message) for span in found.spans])
    assert found.one("secretive").attributes["error.type"] == "ValueError"
    assert sum(span.attributes.get("gen_ai.usage.input_tokens", 0) for span in found.spans) == 20
    assert found.find("tool_choice")


def test_lc_62_content_off_keeps_a_tools_result_out(tracker: Tracker, trees: Collect) -> None:
    handler = RootspanCallbackHandler(tracker=tracker, capture_content=False)
    lookup.invoke({"query": "hush"}, config(handler))
    assert "output.value" not in trees().root.attributes


def test_lc_09_the_longer_of_two_partial_answers_is_kept(handler: RootspanCallbackHandler, trees: Collect) -> None:
    """An older LangChain leaves the last piece out of what it hands over with the error."""
    run = uuid4()
    handler.on_chat_model_start({"name": "m"}, [[]], run_id=run)
    for piece in ("one ", "two"):
        handler.on_llm_new_token(piece, run_id=run)
    handler.on_llm_error(ValueError("x"), run_id=run, response=result(AIMessage("one ")))
    assert messages(trees().root, "output")[0]["parts"][0]["content"] == "one two"


def test_pieces_that_tell_of_one_kind_of_token_only_are_counted(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    run = uuid4()
    handler.on_chat_model_start({"name": "m"}, [[]], run_id=run)
    for number, usage in enumerate(({"input_tokens": 7}, {"output_tokens": 2}, {"output_tokens": 3})):
        piece = ChatGenerationChunk(message=AIMessageChunk(str(number)))
        piece.message.usage_metadata = usage  # type: ignore[attr-defined]
        handler.on_llm_new_token(str(number), chunk=piece, run_id=run)
    handler.on_llm_error(ValueError("x"), run_id=run)
    told = trees().root.attributes
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (7, 5)


def test_lc_62_content_off_for_the_whole_tracker(sink: Any) -> None:
    tracker = Tracker(endpoint=sink.url, capture_content=False)
    handler = RootspanCallbackHandler(tracker=tracker)
    ChatScripted(script=["hush out"]).bind_tools([lookup]).invoke("hush in", config(handler))
    with pytest.raises(KeyError):
        RunnableLambda(lambda _: {}["hush key"]).invoke("hush", config(handler))
    assert "hush" not in str([(s.attributes, s.events, s.status_message) for s in Trees(tracker, sink).spans])
    tracker.shutdown()


def test_a_providers_own_tool_without_a_name_is_no_alternative(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    tools = [{"type": "web_search"}, *({"type": "function", "function": {"name": name}} for name in ("book", "search"))]
    ChatScripted(script=[calls("search", query="x")]).bind(tools=tools).invoke("hi", config(handler))
    assert trees().one("tool_choice").attributes["rootspan.decision.alternatives"] == ["book"]


@dataclass
class Job:
    status: Any
    content: str = "own"
    tool_call_id: str = "own"


@pytest.mark.parametrize("status", ["error", Incomparable()])
def test_a_value_that_only_looks_like_a_tools_message_is_a_result(
    handler: RootspanCallbackHandler, trees: Collect, status: Any
) -> None:
    @tool
    def job() -> Any:
        """Look a job up."""
        return Job(status)

    job.invoke({}, config(handler))
    root = trees().root
    assert (root.status_code, root.events) == (0, [])
    assert json.loads(root.attributes["gen_ai.tool.call.result"])["content"] == "own"
    assert "gen_ai.tool.call.id" not in root.attributes


@tool
def lookup(query: str) -> str:
    """hush description"""
    return query


class StatusError(Exception):
    def __init__(self, message: str, status_code: int) -> None:
        super().__init__(message)
        self.status_code = status_code


class ResponseError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__("bad answer")
        self.response = type("Response", (), {"status_code": status})()


def test_lc_65_type_message_and_status_of_an_error(handler: RootspanCallbackHandler, trees: Collect) -> None:
    for error in (StatusError("rate limited", 429), ResponseError(503), ValueError("plain")):
        with pytest.raises(type(error)):
            ChatScripted(script=[error]).invoke("x", config(handler))
    limited, bad, plain = trees().roots
    assert limited.attributes["error.type"].endswith("StatusError")
    assert limited.status_message == "rate limited"
    assert limited.attributes["http.response.status_code"] == 429
    assert bad.attributes["http.response.status_code"] == 503
    assert "http.response.status_code" not in plain.attributes
    assert plain.events[0][0] == "exception"


def test_messages_keep_roles_tool_calls_names_and_thoughts(handler: RootspanCallbackHandler, trees: Collect) -> None:
    thinking: Any = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "c1", "name": "search", "input": {"q": "x"}},
    ]
    conversation = [
        SystemMessage("Be brief."),
        HumanMessage("hi", name="ada"),
        AIMessage(thinking, tool_calls=[{"name": "search", "args": {"q": "x"}, "id": "c1"}]),
        ToolMessage("found", tool_call_id="c1"),
        ToolMessage("failed", tool_call_id="c2", status="error"),
        ChatMessage("noted", role="user"),
        ChatMessage("told", role="developer"),
        AIMessage("done", additional_kwargs={"reasoning_content": "so be it"}),
    ]
    ChatScripted(script=["ok"]).invoke(conversation, config(handler))
    shown = messages(trees().root)
    assert [one["role"] for one in shown] == [
        "system", "user", "assistant", "tool", "tool", "user", "system", "assistant"
    ]  # fmt: skip
    assert shown[1]["name"] == "ada"
    assert [part["type"] for part in shown[2]["parts"]] == ["reasoning", "text", "tool_call"]
    assert shown[2]["parts"][2] == {"type": "tool_call", "id": "c1", "name": "search", "arguments": {"q": "x"}}
    assert shown[3]["parts"] == [{"type": "tool_call_response", "id": "c1", "response": "found"}]
    assert [part["type"] for part in shown[7]["parts"]] == ["reasoning", "text"]


def test_calls_beside_a_content_in_parts_are_shown(handler: RootspanCallbackHandler, trees: Collect) -> None:
    said = AIMessage([{"type": "text", "text": "Let me look."}], tool_calls=calls("search", q="x").tool_calls)
    ChatScripted(script=["ok"]).invoke([said], config(handler))
    (shown,) = messages(trees().root)
    assert [part["type"] for part in shown["parts"]] == ["text", "tool_call"]


def test_a_call_that_could_not_be_parsed_and_a_refusal_are_shown(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    bad: Any = {"name": "search", "args": '{"q": ', "id": "c2", "error": "no JSON", "type": "invalid_tool_call"}
    call: Any = {"name": "search", "args": {"q": "x"}, "id": "c1", "type": "tool_call"}
    answers = [
        AIMessage("", tool_calls=[call], invalid_tool_calls=[bad]),
        AIMessage("", invalid_tool_calls=[bad]),
        AIMessage([bad], invalid_tool_calls=[bad]),
        AIMessage("", additional_kwargs={"refusal": "I cannot do that."}),
        AIMessage("fine", additional_kwargs={"refusal": None}),
    ]
    model = ChatScripted(script=answers)
    for _ in answers:
        model.invoke("hi", config(handler))
    shown = [messages(root, "output")[0]["parts"] for root in trees().roots]
    broken = {"type": "tool_call", "id": "c2", "name": "search", "arguments": '{"q": '}
    assert shown[0] == [{"type": "tool_call", "id": "c1", "name": "search", "arguments": {"q": "x"}}, broken]
    assert shown[1:] == [
        [broken], [broken], [{"type": "text", "content": "I cannot do that."}], [{"type": "text", "content": "fine"}]
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["tool_use", "tool_call_chunk"])
def test_the_arguments_of_a_streamed_call_are_shown_once(
    handler: RootspanCallbackHandler, trees: Collect, kind: str
) -> None:
    """Claude's are in pieces beside an empty `input`."""
    told = {"tool_use": {"input": {}, "partial_json": '{"q": "x"}'}, "tool_call_chunk": {"args": '{"q": "x"}'}}[kind]
    said: Any = [{"type": kind, "id": "c1", "name": "search", "index": 0, **told}]
    message = AIMessage(said, tool_calls=[{"name": "search", "args": {"q": "x"}, "id": "c1"}])
    ChatScripted(script=[message]).invoke("x", config(handler))
    call = {"type": "tool_call", "id": "c1", "name": "search", "arguments": {"q": "x"}}
    assert messages(trees().models()[0], "output")[0]["parts"] == [call]


def test_a_very_long_conversation_keeps_its_newest_messages(handler: RootspanCallbackHandler, trees: Collect) -> None:
    many = [HumanMessage(f"message {number}") for number in range(3_000)]
    RunnableLambda(lambda given: "x").invoke({"messages": many, "other": 1}, config(handler))
    given = json.loads(trees().root.attributes["input.value"])["messages"]
    assert given[-1]["content"] == "message 2999"
    assert given[0]["content"] == f"…[cut: {3_001 - len(given)} more]"


@dataclass
class Talk:
    messages: list[Any]
    secret: str = field(default="hidden", repr=False)


class TalkModel(BaseModel):
    messages: list[Any]
    secret: str = Field(default="hidden", repr=False)


@pytest.mark.parametrize("state", [Talk, TalkModel])
def test_a_state_of_a_class_of_its_own_shows_messages_as_a_dict_does(
    handler: RootspanCallbackHandler, trees: Collect, state: Any
) -> None:
    picture = {"type": "image", "base64": base64.b64encode(bytes(90_000)).decode(), "mime_type": "image/png"}
    many: list[Any] = [HumanMessage([picture]), *(HumanMessage(f"message {number}") for number in range(300))]
    RunnableLambda(lambda given: given).invoke(state(messages=many), config(handler))
    RunnableLambda(lambda given: given).invoke({"messages": many, "other": 1}, config(handler))
    own, plain = (json.loads(root.attributes["output.value"]) for root in trees().roots)
    assert own.keys() == {"messages"}
    assert own["messages"][-100:] == plain["messages"][-100:]
    RunnableLambda(lambda given: given).invoke(state(messages=many[:2]), config(handler))
    shown = json.loads(trees().roots[-1].attributes["input.value"])["messages"]
    assert shown[0]["content"][0]["base64"].startswith("[90000 bytes, sha256 ")
    assert shown[1] == {"role": "user", "content": "message 0"}


def test_long_dicts_and_lists_say_what_was_cut(handler: RootspanCallbackHandler, trees: Collect) -> None:
    RunnableLambda(lambda _: [1] * 3_000).invoke({str(n): n for n in range(3_000)}, config(handler))
    root = trees().root
    assert "more]" in root.attributes["input.value"]
    assert "more]" in root.attributes["output.value"]
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    RunnableLambda(lambda _: "x").invoke(deep, config(handler))
    assert "cut: too large" in trees().roots[-1].attributes["input.value"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_streamed_dict_is_shown_as_an_invoked_one(
    handler: RootspanCallbackHandler, trees: Collect, is_async: bool
) -> None:
    """Its chunks add up to a dict of a class of LangChain's own."""
    found = RunnableLambda(lambda _: [Document("Rust never sleeps", id="d1")])
    both = RunnableParallel({"answer": ChatStreaming(script=["one two"]), "found": found})

    async def consume() -> None:
        async for _ in both.astream("x", config(handler)):
            pass

    both.invoke("x", config(handler))
    asyncio.run(consume()) if is_async else list(both.stream("x", config(handler)))
    invoked, streamed = (json.loads(root.attributes["output.value"]) for root in trees().roots)
    said = {"role": "assistant", "content": "one two"}
    assert invoked == streamed == {"answer": said, "found": [{"id": "d1", "content": "Rust never sleeps"}]}


def test_rows_of_a_database_and_small_objects_are_shown_by_the_dozen(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    day, price = datetime.date(2024, 1, 2), Decimal("1.50")
    rows = [{"id": uuid4(), "day": day, "price": price} for _ in range(30)]
    things = [Thing("lamp", 3) for _ in range(40)]
    RunnableLambda(lambda _: {"rows": rows, "things": things}).invoke("x", config(handler))
    shown = json.loads(trees().root.attributes["output.value"])
    assert shown["rows"] == [{"id": str(row["id"]), "day": "2024-01-02", "price": "1.50"} for row in rows]
    assert shown["things"] == [{"name": "lamp", "count": 3}] * 40


def test_a_large_dict_of_a_class_of_its_own_is_looked_at_without_a_copy(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    counted = Counter(range(200_000))
    tracemalloc.start()
    try:
        RunnableLambda(len).invoke(counted, config(handler))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000  # a copy takes 10 MB
    assert "more]" in trees().root.attributes["input.value"]


def test_a_completion_model_and_several_choices(handler: RootspanCallbackHandler, trees: Collect) -> None:
    FakeListLLM(responses=["completed"]).invoke("to complete", config(handler))
    two = [Generation(text="a", generation_info={"finish_reason": "length"}), Generation(text="b")]
    told(handler, LLMResult(generations=[two], llm_output={"model_name": "m"}))
    one, several = trees().roots
    assert one.attributes["gen_ai.operation.name"] == "text_completion"
    assert (one.attributes["input.value"], one.attributes["output.value"]) == ("to complete", "completed")
    assert several.attributes["gen_ai.response.finish_reasons"] == ["length"]
    assert len(messages(several, "output")) == 2


def test_several_chat_choices_each_with_its_reason(handler: RootspanCallbackHandler, trees: Collect) -> None:
    choices = [
        ChatGeneration(message=AIMessage("a", response_metadata={"finish_reason": "stop"})),
        ChatGeneration(message=AIMessage("b"), generation_info={"finish_reason": "length"}),
    ]
    told(handler, LLMResult(generations=[choices]), invocation_params={"n": 2, "stop": "END", "tools": ["odd", {}]})
    root = trees().root
    assert [one["finish_reason"] for one in messages(root, "output")] == ["stop", "length"]
    assert root.attributes["gen_ai.request.choice.count"] == 2
    assert root.attributes["gen_ai.request.stop_sequences"] == ["END"]


def test_a_cost_that_the_provider_tells_is_on_the_model_span(handler: RootspanCallbackHandler, trees: Collect) -> None:
    told(handler, result(AIMessage("x"), token_usage={"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.5}))
    assert trees().root.attributes["gen_ai.usage.cost"] == 0.5


@pytest.mark.parametrize("cost", [0.002, 0])
def test_a_cost_that_the_provider_tells_beside_langchains_usage(
    handler: RootspanCallbackHandler, trees: Collect, cost: float
) -> None:
    """One of 0 is a free model, and no answer of LangChain's cache."""
    meta = {"token_usage": {"prompt_tokens": 10, "completion_tokens": 4, "cost": cost}}
    told(handler, result(AIMessage("x", usage_metadata=USAGE, response_metadata=meta)))
    told(handler, result(AIMessage("x"), **meta))
    roots = trees().roots
    assert len(roots) == 2
    for root in roots:
        assert root.attributes["gen_ai.usage.cost"] == cost
        assert root.attributes["gen_ai.usage.input_tokens"] == 10
        assert "rootspan.response.cached" not in root.attributes


def test_calls_are_priced_on_request_and_on_model_spans_alone(tracker: Tracker, trees: Collect) -> None:
    pytest.importorskip("genai_prices", reason="the price list")
    handler = RootspanCallbackHandler(tracker=tracker, estimate_cost=True)
    meta: Any = {"ls_provider": "openai", "ls_model_name": "gpt-4o-mini"}
    told(handler, result(AIMessage("x", usage_metadata=USAGE)), metadata=meta, serialized={"name": "priced"})
    RunnableLambda(str).invoke("x", config(handler))
    told(handler, result(AIMessage("x", usage_metadata=USAGE)), metadata={"ls_model_name": "no-such-model"})
    told(handler, result(AIMessage("x")), metadata=meta)
    found = trees()
    priced = [span for span in found.spans if "gen_ai.usage.cost" in span.attributes]
    assert [span.name for span in priced] == ["priced"]
    assert priced[0].attributes["gen_ai.usage.cost"] == pytest.approx((10 * 0.15 + 4 * 0.6) / 1e6)


def test_without_a_price_list_the_option_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "genai_prices", None)
    monkeypatch.delitem(sys.modules, "genai_prices.data", raising=False)
    with pytest.raises(MissingExtraError, match=r"rootspan\[cost\]"):
        RootspanCallbackHandler(estimate_cost=True)


def test_custom_events_and_retries_are_events_of_their_run(handler: RootspanCallbackHandler, trees: Collect) -> None:
    def work(text: str, config: Any) -> str:
        for number in range(150):
            dispatch_custom_event("progress", {"done": number}, config=config)
        return text

    async def awork(text: str, config: Any) -> str:
        await adispatch_custom_event("half", Bomb(), config=config)
        return text

    RunnableLambda(work).invoke("x", config(handler))
    asyncio.run(RunnableLambda(awork).ainvoke("x", config(handler)))
    first, second = trees().roots
    assert len(first.events) == 100
    assert first.events[3] == ("progress", {"rootspan.event.data": '{"done":3}'})
    assert second.events[0][0] == "half"
    from types import SimpleNamespace

    run = uuid4()
    handler.on_llm_start({}, ["x"], run_id=run)
    handler.on_retry(SimpleNamespace(attempt_number=2), run_id=run)
    handler.on_llm_end(LLMResult(generations=[]), run_id=run)
    assert trees().roots[-1].events == [("retry", {"rootspan.run.attempt": 2})]


def test_prompts_show_their_variables_and_what_became_of_them(handler: RootspanCallbackHandler, trees: Collect) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "Say {word}")])
    (prompt | ChatScripted(script=["ok"])).invoke({"word": "yes"}, config(handler))
    span = trees().one("ChatPromptTemplate")
    assert json.loads(span.attributes["input.value"]) == {"word": "yes"}
    assert json.loads(span.attributes["output.value"]) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Say yes"},
    ]


def test_a_chain_that_ends_with_a_call_of_a_tool_answers_that_message_alone(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    state = {"messages": [HumanMessage("hi"), calls("search", query="x")]}
    RunnableLambda(lambda _: state).invoke("hi", config(handler))
    (message,) = json.loads(trees().root.attributes["output.value"])
    assert (message["role"], message["tool_calls"][0]["name"]) == ("assistant", "search")


def test_odd_states_and_commands_are_readable(handler: RootspanCallbackHandler, trees: Collect) -> None:
    types = pytest.importorskip("langgraph.types", reason="commands are LangGraph's")

    class Shifting(dict):  # type: ignore[type-arg]
        pass

    class Locked(HumanMessage):
        def __getattribute__(self, name: str) -> Any:
            if name == "content" or name == "__dict__":
                raise RuntimeError("locked")
            return super().__getattribute__(name)

    values = {
        "command": types.Command(update={"a": 1}, goto="next", resume=None),
        "several": [types.Command(goto=["a", types.Send("b", {"x": 1})]), 1],
        "shifting": Shifting(a=1),
        "chat": {"messages": []},
    }
    RunnableLambda(lambda _: "x").invoke(values, config(handler))
    given = json.loads(trees().root.attributes["input.value"])
    assert given["command"] == {"update": {"a": 1}, "goto": ["next"]}
    assert given["several"] == [{"goto": ["a", "b"]}, 1]
    assert given["shifting"] == {"a": 1}
    RunnableLambda(lambda _: {"messages": []}).invoke([Locked.model_construct(type="human")], config(handler))
    assert "unreadable" in trees().roots[-1].attributes["input.value"]


def test_what_a_chain_records_takes_the_short_way_to_the_same_bytes() -> None:
    ways = Ways()
    handler = RootspanCallbackHandler(tracker=ways.tracker, user_id="u1", convo_id="c1", tags=["beta"])

    @tool
    def search(query: str) -> str:
        """Search the web."""
        return "sunny"

    ended: Any = {"finish_reason": "tool_calls", "model_name": "gpt-4o-mini-2024-07-18"}
    asks = calls("search", query="x").model_copy(update={"response_metadata": ended})
    prompt = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question}")])
    model = ChatScripted(script=[asks]).bind_tools([search])
    chain = prompt | model | RunnableLambda(lambda said: said.tool_calls[0]) | search
    for _ in range(2):
        chain.invoke({"question": "How is the weather?"}, config(handler, metadata={"plan": "pro"}))
        assert {record[0] for record in ways.records} == {"interaction", "step", "model", "tool", "decision"}
        for short, long in ways.both():
            assert short == long


def test_labels_of_a_class_of_their_own_are_plain_and_redacted(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    class Safe(str):
        """Text that a library has marked as safe."""

    class Named(str, enum.Enum):
        MODEL = "gpt-4o"

    run = uuid4()
    described: Any = {"name": "search", "description": Safe("password=hunter2")}
    handler.on_tool_start(described, "x", run_id=run, tool_call_id=Safe("call_1"))
    handler.on_tool_end("y", run_id=run)
    answered = AIMessage("a", response_metadata={"model_name": Named.MODEL, "finish_reason": "password=hunter2"})
    told(handler, result(answered), invocation_params={"stop": ["password=hunter2"]}, metadata={"thread_id": "t1"})
    spans = trees().spans
    tool, model = (next(span for span in spans if span.name == name) for name in ("search", "m"))
    assert tool.attributes["gen_ai.tool.description"] == "password=[redacted]"
    assert tool.attributes["gen_ai.tool.call.id"] == "call_1"
    assert model.attributes["gen_ai.response.model"] == "gpt-4o"
    assert "hunter2" not in str([span.attributes for span in spans])


def test_a_thread_that_is_named_by_a_secret_is_redacted_like_its_conversation(
    handler: RootspanCallbackHandler, trees: Collect
) -> None:
    thread = {"thread_id": "token=sk-proj-q7Rabcdefghijklmnopqrstuvwxyz123456W4z"}  # as LangGraph puts it there
    RunnableLambda(str.upper).invoke("x", config(handler, metadata=thread))
    (root,) = trees().spans
    assert root.attributes["rootspan.langgraph.thread_id"].startswith("token=[redacted")
