"""The decorators follow the four kinds of function, and sessions by id reach other threads and processes."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import json
import pickle
import threading
import tracemalloc
import typing
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from itertools import islice
from typing import Any

import pytest

from rootspan import ConfigurationError, Tracker
from sinks import Sink

tracked = Tracker(disabled=True)


def test_four_kinds_of_function(tracker: Tracker, sink: Sink) -> None:
    @tracker.tool
    def plain(x: int) -> int:
        tracker.track_ai("in plain")
        return x

    @tracker.tool
    async def coroutine(x: int) -> int:
        tracker.track_ai("in coroutine")
        return x

    @tracker.tool
    def generator(x: int) -> Generator[str, str, str]:
        tracker.track_ai("in generator")
        sent = yield "a"
        with pytest.raises(KeyError):
            yield sent
        return "result"

    @tracker.tool(capture_input=False)
    async def async_generator(x: int) -> AsyncGenerator[str, None]:
        tracker.track_ai("in async_generator")
        yield "a"
        yield "b"

    async def main() -> None:
        assert await coroutine(2) == 2
        assert [item async for item in async_generator(4)] == ["a", "b"]

    assert plain(1) == 1
    asyncio.run(main())
    steps = generator(3)
    assert (next(steps), steps.send("sent")) == ("a", "sent")
    assert tracker.current() is None
    with pytest.raises(StopIteration) as stop:
        steps.throw(KeyError())
    assert stop.value.value == "result"
    assert tracker.flush(5)
    for name, given in (("plain", 1), ("coroutine", 2), ("generator", 3), ("async_generator", None)):
        span = sink.one(name)
        assert sink.one(f"in {name}").parent_id == span.span_id
        assert span.attributes.get("input.value") == (None if given is None else f'{{"x":{given}}}')
        assert span.status_code == 0
    assert sink.one("async_generator").attributes["output.value"] == "ab"


def test_a_begin_inside_a_decorated_generator_is_its_child(tracker: Tracker, sink: Sink) -> None:
    @tracker.interaction(event="outer")
    def stream() -> Iterator[int]:
        tracker.begin("inner").finish()
        yield 1

    assert list(stream()) == [1]
    assert tracker.flush(5)
    assert sink.one("inner").parent_id == sink.one("outer").span_id


@pytest.mark.parametrize(
    ("limit", "chunk"), [(16_384, "token "), (1_000, "token "), (6_000, "token "), (1_000, "x" * 9_000)]
)
def test_a_stream_of_texts_is_kept_as_the_one_text_would_be(sink: Sink, limit: int, chunk: str) -> None:
    tracker = Tracker(endpoint=sink.url, max_content_length=limit)

    @tracker.tool
    def whole() -> str:
        return chunk * 1_500

    @tracker.tool
    def stream() -> Iterator[str]:
        for _ in range(1_500):
            yield chunk

    @tracker.tool
    async def astream() -> AsyncGenerator[str, None]:
        for part in stream():
            yield part

    async def main() -> str:
        return "".join([part async for part in astream()])

    assert asyncio.run(main()) == whole()
    assert tracker.shutdown(5)
    output = sink.one("whole").attributes["output.value"]
    assert (f"…[cut from {1_500 * len(chunk)} characters]" in output) is (1_500 * len(chunk) > limit)
    assert sink.one("stream").attributes["output.value"] == sink.one("astream").attributes["output.value"] == output


def test_items_that_were_left_out_are_noted(tracker: Tracker, sink: Sink) -> None:
    @tracker.tool
    def numbers(count: int) -> Iterator[Any]:
        yield "first"
        yield from range(count)

    for count in (999, 1_400):
        assert len(list(numbers(count))) == count + 1
    assert tracker.flush(5)
    few, many = (json.loads(span.attributes["output.value"]) for span in sink.spans)
    assert few == ["first", *range(999)]
    assert many == [*few, "…[cut from 1401 items]"]


def test_a_generator_has_no_output_where_it_yields_nothing_or_is_not_captured(tracker: Tracker, sink: Sink) -> None:
    @tracker.tool
    def nothing() -> Iterator[str]:
        yield from ()

    @tracker.tool(capture_output=False)
    def quiet() -> Iterator[str]:
        yield "secret"

    assert list(nothing()) == []
    assert list(quiet()) == ["secret"]
    assert tracker.flush(5)
    assert [span.attributes.get("output.value") for span in sink.spans] == [None, None]


def test_nothing_is_captured_of_what_is_awaited_where_nothing_is_to_be(tracker: Tracker, sink: Sink) -> None:
    async def answer(question: str) -> str:
        return "secret"

    def later(question: str) -> Any:
        return asyncio.get_running_loop().create_task(answer(question))

    quiet = tracker.tool(name="quiet", capture_input=False, capture_output=False)

    async def main() -> None:
        for function in (answer, lambda question: answer(question), later):
            assert await quiet(function)("secret") == "secret"

    asyncio.run(main())
    assert tracker.flush(5)
    assert [span.name for span in sink.spans] == ["quiet"] * 3
    assert not any("secret" in str(span.attributes) for span in sink.spans)


def test_an_endless_stream_does_not_grow_its_step(tracker: Tracker, sink: Sink) -> None:
    @tracker.tool
    def beats() -> Iterator[str]:
        yield "a"
        while True:
            yield ""

    steps = beats()
    list(islice(steps, 2_000))
    tracemalloc.start()
    for _ in range(20_000):
        next(steps)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 50_000
    steps.close()  # type: ignore[attr-defined]  # an Iterator to the types, and a generator
    assert tracker.flush(5)
    assert sink.one("beats").attributes["output.value"] == "a"


def test_abandoned_half_way(tracker: Tracker, sink: Sink) -> None:
    @tracker.tool(name="closed")
    def closed() -> Iterator[int]:
        yield from range(3)

    @tracker.tool(name="collected")
    async def collected() -> AsyncGenerator[int, None]:
        yield 1
        yield 2

    steps: Any = closed()
    next(steps)
    steps.close()

    async def main() -> None:
        await collected().__anext__()
        await asyncio.sleep(0.01)

    asyncio.run(main())
    assert tracker.flush(5)
    outcomes = [sink.one(name).attributes["rootspan.outcome"] for name in ("closed", "collected")]
    assert outcomes == ["abandoned"] * 2


def test_carry(tracker: Tracker, sink: Sink) -> None:
    with tracker.begin("turn") as turn:
        thread = threading.Thread(target=tracker.carry(tracker.track_ai), args=("carried",))
        thread.start()
        thread.join()
    assert tracker.flush(5)
    assert sink.one("carried").parent_id == turn.span_id


def test_methods_and_switches(tracker: Tracker, sink: Sink) -> None:
    class Shop:
        @tracker.tool
        def search(self, query: str, limit: int = 3) -> str:
            return query * limit

        @tracker.tool(name="quiet", capture_input=False, capture_output=False)
        def other(self, query: str) -> str:
            return query

    @tracker.interaction(capture_input=False)
    def handle(message: str) -> str:
        return message

    class Opaque:
        __name__ = "opaque"
        __signature__ = "not one"

        def __call__(self, query: str) -> str:
            return query

    assert Shop().search("x", limit=2) == "xx"
    assert Shop().other(query="secret") == "secret"
    assert handle("secret") == "secret"
    assert tracker.tool(Opaque())("x") == "x"
    assert tracker.flush(5)
    assert "input.value" not in sink.one("handle").attributes
    assert sink.one("opaque").attributes["input.value"] == '{"args":["x"]}'
    assert sink.one("search").attributes["input.value"] == '{"query":"x","limit":2}'
    assert not {"input.value", "output.value"} & sink.one("quiet").attributes.keys()


def test_a_name_may_be_all_that_is_given(tracker: Tracker, sink: Sink) -> None:
    @tracker.tool("search")
    def by_name(query: str) -> str:
        return query

    @tracker.interaction("user_turn", user_id="u1")
    async def handle(message: str) -> str:
        return by_name(message)

    @tracker.tool("")
    def nameless() -> None: ...

    assert asyncio.run(handle("Hi")) == "Hi"
    nameless()
    assert tracker.flush(5)
    assert sink.one("search").parent_id == sink.one("user_turn").span_id
    assert sink.one("search").attributes["user.id"] == "u1"
    assert sink.one("nameless")


def test_a_class_stays_a_class(tracker: Tracker) -> None:
    """One that was decorated was a function: `isinstance` raised, and nobody could inherit from it."""
    for decorate, verb in ((tracker.tool, "tool"), (tracker.interaction("turn"), "interaction")):
        with pytest.raises(ConfigurationError) as error:
            decorate(type("Search", (), {}))
        assert str(error.value) == (
            f"@rootspan.{verb} would make a function of the class Search.\n"
            f"Fix: write @rootspan.{verb} above its methods."
        )


@pytest.mark.parametrize("given", [7, property(len), ["search"]])
def test_what_is_no_function_is_told_at_once_with_the_fix(given: Any, tracker: Tracker) -> None:
    for decorate, verb in ((tracker.tool, "tool"), (tracker.interaction("turn"), "interaction")):
        with pytest.raises(ConfigurationError) as error:
            decorate(given)
        assert str(error.value) == (
            f"@rootspan.{verb} takes a function or a name, and no {type(given).__name__}.\n"
            f'Fix: write @rootspan.{verb} or @rootspan.{verb}("name") right above the `def`.'
        )


def test_class_and_static_methods_may_be_decorated_on_either_side(tracker: Tracker, sink: Sink) -> None:
    class Shop:
        name = "shop"

        @tracker.tool
        @classmethod
        def outer_class(cls, query: str) -> str:
            return cls.name + query

        @tracker.interaction(event="outer_static")
        @staticmethod
        def outer_static(query: str) -> str:
            return query

        @tracker.tool(name="outer_async")
        @classmethod
        async def outer_async(cls, query: str) -> str:
            tracker.track_ai("inside")
            return cls.name + query

        @classmethod
        @tracker.tool
        def inner_class(cls, query: str) -> str:
            return cls.name + query

    class Bakery(Shop):
        name = "bakery"

    for shop in (Bakery, Bakery()):
        assert shop.outer_class("1") == shop.inner_class("1") == asyncio.run(shop.outer_async("1")) == "bakery1"
        assert shop.outer_static("1") == "1"
    assert isinstance(Shop.__dict__["outer_class"], classmethod)
    assert isinstance(Shop.__dict__["outer_static"], staticmethod)
    assert tracker.flush(5)
    given = {span.name: span.attributes["input.value"] for span in sink.spans if span.name != "inside"}
    assert given.pop("outer_static") == "1"
    assert given == dict.fromkeys(("outer_class", "outer_async", "inner_class"), '{"query":"1"}')
    assert sink.spans[[span.name for span in sink.spans].index("inside")].parent_id is not None


def test_an_exception_leaves_every_kind_untouched(tracker: Tracker, sink: Sink) -> None:
    error = LookupError("mine")

    @tracker.tool
    def plain() -> None:
        raise error

    @tracker.tool
    async def coroutine() -> None:
        raise error

    @tracker.tool
    def generator() -> Iterator[int]:
        yield 1
        raise error

    @tracker.tool
    async def agenerator() -> AsyncGenerator[int, None]:
        yield 1
        raise error

    async def drain() -> None:
        async for _ in agenerator():
            pass

    calls: list[Any] = [
        plain,
        lambda: asyncio.run(coroutine()),
        lambda: list(generator()),
        lambda: asyncio.run(drain()),
    ]
    for call in calls:
        with pytest.raises(LookupError) as caught:
            call()
        assert caught.value is error
    assert tracker.flush(5)
    for name in ("plain", "coroutine", "generator", "agenerator"):
        span = sink.one(name)
        assert (span.attributes["error.type"], span.status_message) == ("LookupError", "mine")
    assert tracker.current() is None


def test_generators_keep_send_throw_and_their_result(tracker: Tracker) -> None:
    @tracker.tool
    def echo() -> Any:
        seen = []
        while True:
            try:
                sent = yield len(seen)
            except KeyError:
                return seen
            seen.append(sent)

    generator: Any = echo()
    assert [next(generator), generator.send("a"), generator.send("b")] == [0, 1, 2]
    with pytest.raises(StopIteration) as end:
        generator.throw(KeyError())
    assert end.value.value == ["a", "b"]

    @tracker.tool
    async def aecho() -> AsyncGenerator[Any, Any]:
        sent = yield "first"
        try:
            yield sent
        except KeyError:
            yield "caught"

    async def main() -> None:
        agenerator: Any = aecho()
        assert await agenerator.asend(None) == "first"
        assert await agenerator.asend("x") == "x"
        assert await agenerator.athrow(KeyError()) == "caught"
        await agenerator.aclose()

    asyncio.run(main())


@tracked.tool
def words(self: str, *parts: str) -> Iterator[str]:
    """Yield them."""
    yield from (self, *parts)


@tracked.interaction
async def awords(text: str) -> AsyncGenerator[str, None]:
    """Yield them later."""
    yield text


def test_a_generator_function_stays_one() -> None:
    class Shop:
        words = tracked.tool("twice")(words)
        of_all = classmethod(tracked.tool(lambda cls: (yield cls)))

    for function in (words, Shop.words, Shop().words, functools.partial(words), tracked.carry(words)):
        assert inspect.isgeneratorfunction(function)
        assert inspect.getfullargspec(function)[:3] == ([], "args", "kwargs")
        assert not inspect.isasyncgenfunction(function)
    assert inspect.isasyncgenfunction(awords)
    assert not inspect.isgeneratorfunction(awords)
    shop: Any = Shop()
    assert list(shop.words("b")) == [shop, "b"]
    assert list(shop.of_all()) == list(Shop.of_all()) == [Shop]  # type: ignore[arg-type]  # bound twice over for mypy
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        words()  # type: ignore[call-arg]  # the mistake that is tested


def test_a_generator_function_is_a_function_in_all_else(tracker: Tracker) -> None:
    for function in (words, awords):
        assert pickle.loads(pickle.dumps(function)) is copy.deepcopy(function) is function
        assert repr(function) == repr(inspect.unwrap(function))
        assert inspect.signature(function) == inspect.signature(inspect.unwrap(function))
        assert (function.__module__, function.__doc__) == (__name__, inspect.unwrap(function).__doc__)
    assert typing.get_type_hints(words)["return"] == Iterator[str]
    assert words.__name__ == "words"
    of_host: Any = tracked.tool(lambda: (yield))
    of_host.__annotations__ = {"return": int}  # as what registers functions may do
    assert of_host.__annotations__ == {"return": int}


def test_plain_iterators_can_be_followed(tracker: Tracker) -> None:
    """An adapter steps bodies that are no generators: they have neither `send` nor `close`."""
    from rootspan.functions import Activation, asteps, steps

    class Follower:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def start(self) -> Activation:
            return Activation(tracker._recorder.variable, None)

        def item(self, item: Any) -> None:
            self.seen.append(item)

        def end(self, error: BaseException | None) -> None:
            self.seen.append(error)

    class Numbers:
        def __aiter__(self) -> Numbers:
            return self

        async def __anext__(self) -> int:
            return 1

    follower = Follower()
    assert list(steps(iter([1, 2]), follower)) == [1, 2]
    assert follower.seen == [1, 2, None]
    stepped = steps(iter([1, 2]), follower)
    next(stepped)
    with pytest.raises(KeyError):
        stepped.throw(KeyError("thrown"))
    stepped = steps(iter([1, 2]), follower)
    next(stepped)
    stepped.close()
    assert isinstance(follower.seen[-1], GeneratorExit)

    async def main() -> None:
        for end in ("aclose", "athrow"):
            astepped = asteps(Numbers(), follower)
            assert await astepped.__anext__() == 1
            if end == "aclose":
                await astepped.aclose()
            else:
                with pytest.raises(KeyError):
                    await astepped.athrow(KeyError("thrown"))

    asyncio.run(main())
    assert isinstance(follower.seen[-1], KeyError)


def test_carry_takes_every_kind_of_function(tracker: Tracker, sink: Sink) -> None:
    def generate() -> Iterator[str]:
        yield tracker.track_ai("generated")

    async def coroutine() -> None:
        tracker.track_ai("awaited")

    async def agenerate() -> AsyncGenerator[str, None]:
        yield tracker.track_ai("agenerated")

    with tracker.begin("turn") as turn:
        carried = [tracker.carry(generate), tracker.carry(coroutine), tracker.carry(agenerate)]

        async def main() -> None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, tracker.carry(tracker.track_ai), "in an executor")
            await carried[1]()
            async for _ in carried[2]():
                pass

        thread = threading.Thread(target=lambda: (list(carried[0]()), asyncio.run(main())))
        thread.start()
        thread.join()
        executor_parent = tracker.current()
        assert executor_parent is not None
        assert executor_parent.span_id == turn.span_id
    assert tracker.flush(5)
    for name in ("generated", "awaited", "agenerated"):
        assert sink.one(name).parent_id == turn.span_id
    assert sink.one("in an executor").parent_id is None  # carried from a thread that was in no scope


async def ask(tracker: Tracker, question: str) -> str:
    tracker.track_ai("inside")
    await asyncio.sleep(0.01)
    if not question:
        raise LookupError("nothing to look for")
    return question.upper()


def of_an_object(tracker: Tracker) -> Any:
    class Asking:
        async def __call__(self, question: str) -> str:
            return await ask(tracker, question)

    return Asking()


def of_a_wrapper(tracker: Tracker) -> Any:
    @functools.wraps(ask)
    def wrapper(question: str) -> Any:
        return ask(tracker, question)

    return wrapper


def of_a_task(tracker: Tracker) -> Any:
    return lambda question: asyncio.get_running_loop().create_task(ask(tracker, question))


@pytest.mark.parametrize("made", [of_an_object, of_a_wrapper, of_a_task])
def test_what_a_call_returns_to_be_awaited_is_part_of_it(
    made: Callable[[Tracker], Any], tracker: Tracker, sink: Sink
) -> None:
    asked = tracker.tool(name="ask")(made(tracker))

    async def main() -> None:
        with tracker.begin("turn") as turn:
            later = asked("x")
            assert tracker.current().span_id == turn.span_id  # type: ignore[union-attr]  # or it fails
            assert await later == "X"
            with pytest.raises(LookupError, match="nothing to look for"):
                await asked("")
        assert tracker.current() is None

    asyncio.run(main())
    assert tracker.flush(5)
    good, bad = (span for span in sink.spans if span.name == "ask")
    assert {good.parent_id, bad.parent_id} == {sink.one("turn").span_id}
    assert [span.parent_id for span in sink.spans if span.name == "inside"] == [good.span_id, bad.span_id]
    assert good.end - good.start >= 10_000_000
    assert (good.attributes["output.value"], bad.attributes["error.type"]) == ("X", "LookupError")


def test_a_future_stays_what_it_was_and_tells_by_itself(tracker: Tracker, sink: Sink) -> None:
    told: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context["message"]))

        def made(name: str, set_it: Callable[[Any], object]) -> Any:
            future = loop.create_future()
            set_it(future)
            assert tracker.tool(name=name)(lambda: future)() is future
            return future

        assert await made("done", lambda future: future.set_result(7)) == 7
        made("cancelled", lambda future: future.cancel())
        failed = made("failed", lambda future: None)
        failed.set_exception(ValueError("that nobody retrieves"))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert told == ["Future exception was never retrieved"]
    assert tracker.flush(5)
    assert sink.one("done").attributes["output.value"] == "7"
    assert sink.one("cancelled").attributes["rootspan.outcome"] == "cancelled"
    assert sink.one("failed").attributes["error.type"] == "ValueError"


def test_nothing_is_awaited_that_the_host_does_not_await(tracker: Tracker, sink: Sink) -> None:
    class Query:
        def __await__(self) -> Any:
            raise AssertionError

    query = Query()
    assert tracker.tool(name="query")(lambda: query)() is query
    never = tracker.tool(name="never")(of_a_wrapper(tracker))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        never("x")
        assert [str(warning.message) for warning in caught] == ["coroutine 'ask' was never awaited"]
        caught.clear()  # it holds the coroutine
        never("x").close()

        async def main() -> None:
            asyncio.create_task(never("x")).cancel()  # before it begins

        asyncio.run(main())
        gc.collect()
    assert not caught, "who ends it before it begins is told nothing"
    assert tracker.flush(5)
    assert sorted(span.name for span in sink.spans) == ["never", "never", "never", "query"]
    for span in sink.spans:
        assert span.attributes.get("rootspan.outcome") == ("unfinished" if span.name == "never" else None)


def test_a_coroutine_that_the_host_has_in_another_way_as_well_stays_open(tracker: Tracker) -> None:
    async def answer() -> str:
        return "HI"

    async def main() -> None:
        kept: list[Any] = []

        @tracker.tool
        def kept_one() -> Any:
            kept.append(answer())
            return kept[-1]

        @tracker.carry
        def task_of_it() -> Any:
            coroutine = answer()
            kept.append(asyncio.create_task(coroutine))
            return coroutine

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what was returned is awaited by nobody
            kept_one()
            task_of_it()
            gc.collect()
        assert [await one for one in kept] == ["HI", "HI"]

    asyncio.run(main())


def test_a_lazy_argument_that_is_all_the_input_is_not_evaluated(tracker: Tracker, sink: Sink) -> None:
    """As Django's `request.user`, whose query fails in an event loop, or Flask's `request` outside of one."""

    def query(user: object) -> type:
        raise RuntimeError

    lazy = type("Lazy", (), {"__class__": property(query)})()
    assert tracker.interaction(lambda user: "hello")(lazy) == "hello"
    assert tracker.flush(5)
    assert "Lazy" in str(sink.one("<lambda>").attributes["input.value"])


class Hashless(type):
    __hash__ = None  # type: ignore[assignment]  # a class that no set and no dict takes

    def __eq__(cls, other: object) -> bool:
        return cls is other


class Raising(type):
    def __getattr__(cls, name: str) -> Any:
        raise KeyError(name)


class Answering(type):
    def __getattr__(cls, name: str) -> Any:
        return name


@pytest.mark.parametrize("meta", [Hashless, Raising, Answering])
def test_a_result_of_an_odd_class_is_returned_as_it_is(meta: type, tracker: Tracker, sink: Sink) -> None:
    odd = meta("Odd", (), {})()
    assert tracker.tool(name="odd")(lambda: odd)() is odd
    assert tracker.carry(lambda: odd)() is odd
    assert tracker.flush(5)
    assert sink.one("odd").status_code == 0


def test_what_is_awaitable_and_more_is_handed_on(tracker: Tracker, sink: Sink) -> None:
    """Such as what an HTTP client's `get` returns, for `await` and for `async with`."""

    class Request(Coroutine[Any, Any, str]):
        def __init__(self) -> None:
            self.inner: Any = ask(tracker, "x")

        def send(self, value: Any) -> Any:
            return self.inner.send(value)

        def throw(self, *error: Any) -> Any:
            return self.inner.throw(*error)

        def __await__(self) -> Any:
            return self.inner.__await__()

        async def __aenter__(self) -> str:
            return await self

        async def __aexit__(self, *error: object) -> None:
            return None

    async def main() -> None:
        async with tracker.tool(name="get")(lambda: Request())() as answer:
            assert answer == "X"
        async with tracker.carry(Request)() as answer:
            assert answer == "X"

    asyncio.run(main())
    assert tracker.flush(5)
    assert sink.one("get").status_code == 0


def test_an_object_that_generates_is_followed_as_a_function_is(tracker: Tracker, sink: Sink) -> None:
    class Words:
        def __call__(self, text: str) -> Iterator[str]:
            yield from text.split()

    class Parts:
        async def __call__(self, text: str) -> AsyncGenerator[str, None]:
            for part in text.split():
                yield part

    async def main() -> list[str]:
        return [part async for part in tracker.tool(name="parts")(Parts())("a b")]

    assert list(tracker.tool(name="words")(Words())("a b")) == asyncio.run(main()) == ["a", "b"]
    assert tracker.flush(5)
    assert sink.one("words").attributes["output.value"] == sink.one("parts").attributes["output.value"] == "ab"


@pytest.mark.parametrize("made", [of_an_object, of_a_wrapper, of_a_task])
def test_carry_takes_what_is_awaited_later(made: Callable[[Tracker], Any], tracker: Tracker, sink: Sink) -> None:
    with tracker.begin("turn") as turn:
        carried = tracker.carry(made(tracker))

    async def main() -> str:
        answer: str = await carried("x")
        assert tracker.current() is None
        return answer

    assert asyncio.run(main()) == "X"
    assert tracker.flush(5)
    assert sink.one("inside").links == [(turn.trace_id, turn.span_id)]  # as the turn has ended


def test_a_generator_that_was_called_before_a_new_configuration_is_recorded_whole_with_that(
    tracker: Tracker, sink: Sink
) -> None:
    @tracker.tool
    def generator() -> Generator[str]:
        tracker.track_ai("inside")
        yield "a"

    items = generator()
    tracker.reconfigure(tracker.settings)
    assert list(items) == ["a"]
    assert tracker.flush(20)
    assert sink.one("inside").parent_id == sink.one("generator").span_id
    assert tracker.current() is None
