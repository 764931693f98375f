"""The decorators follow the four kinds of function, and sessions by id reach other threads and processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from typing import Any

import pytest

from rootspan import Tracker
from sinks import Sink


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

    assert Shop().search("x", limit=2) == "xx"
    assert Shop().other(query="secret") == "secret"
    assert tracker.flush(5)
    assert sink.one("search").attributes["input.value"] == '{"query":"x","limit":2}'
    assert not {"input.value", "output.value"} & sink.one("quiet").attributes.keys()


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
