"""Follows the four kinds of function - plain, async, generator, async generator - with a span, exactly."""

# A generator is stepped in the scope of its handle, which is nobody else's business:
# pyright: reportPrivateUsage=false

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterator
from contextvars import ContextVar
from types import CodeType, CoroutineType, MethodType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Protocol, TypeVar

from rootspan.description import noted
from rootspan.freeze import thaw
from rootspan.interaction import Step
from rootspan.scope import Scope

__all__ = ["Activation", "Follower", "asteps", "carried", "steps", "traced"]

P = ParamSpec("P")
R = TypeVar("R")

_KEPT_ITEMS: Final = 1_000  # of what a generator yields, for its output; texts are kept up to the content limit


class Activation:
    """Runs pieces of code inside a scope and gives the caller its own back in between; no token is held.

    What the code itself opened and left open (a bare `begin`) is there again the next time.
    """

    __slots__ = ("_before", "_variable", "scope")

    def __init__(self, variable: ContextVar[Scope | None], scope: Scope | None) -> None:
        self._variable = variable
        self.scope = scope
        self._before: Scope | None = None

    def __enter__(self) -> None:
        self._before = self._variable.get()
        self._variable.set(self.scope)

    def __exit__(self, *exc: object) -> None:
        self.scope = self._variable.get()
        self._variable.set(self._before)
        self._before = None


class Follower(Protocol):
    """What `steps` and `asteps` tell about a generator's life."""

    def start(self) -> Activation:
        """Called before the first step, which may never come."""
        ...

    def item(self, item: Any) -> None:
        """Called with each item, outside the scope."""
        ...

    def end(self, error: BaseException | None) -> None:
        """Called once, at exhaustion, close or error."""
        ...


def steps(iterator: Iterator[Any], follower: Follower) -> Generator[Any, Any, Any]:
    """Yield from an iterator or generator, each step of it inside the follower's scope."""
    inner: Any = iterator
    active = follower.start()
    advance: Callable[[], Any] = functools.partial(next, inner)
    try:
        while True:
            try:
                with active:
                    item = advance()
            except StopIteration as stop:
                result = stop.value
                break
            follower.item(item)
            try:
                sent = yield item
            except GeneratorExit:
                with active:
                    getattr(inner, "close", _nothing)()
                raise
            except BaseException as error:
                if not hasattr(inner, "throw"):
                    raise
                advance = functools.partial(inner.throw, error)
            else:
                advance = functools.partial(next, inner) if sent is None else functools.partial(inner.send, sent)
    except BaseException as error:
        follower.end(error)
        raise
    follower.end(None)
    return result


async def asteps(iterable: AsyncIterable[Any], follower: Follower) -> AsyncGenerator[Any, Any]:
    """Yield from an async iterable or generator, each step of it inside the follower's scope."""
    active = follower.start()
    try:
        with active:
            inner: Any = aiter(iterable)
        advance: Callable[[], Any] = inner.__anext__
        while True:
            try:
                with active:
                    item = await advance()
            except StopAsyncIteration:
                break
            follower.item(item)
            try:
                sent = yield item
            except GeneratorExit:
                if hasattr(inner, "aclose"):
                    with active:
                        await inner.aclose()
                raise
            except BaseException as error:
                if not hasattr(inner, "athrow"):
                    raise
                advance = functools.partial(inner.athrow, error)
            else:
                advance = inner.__anext__ if sent is None else functools.partial(inner.asend, sent)
    except BaseException as error:
        follower.end(error)
        raise
    follower.end(None)


def _nothing(*_: object) -> None:
    return None


class _Traced:
    """Follows a decorated generator: the step opens with the first item asked for, in the scope of the call."""

    def __init__(self, open_step: Callable[[], Step], capture: bool) -> None:
        self._open_step = open_step
        self._capture = capture
        self._items: list[Any] = []
        self._count = self._characters = 0
        self._text = True

    def start(self) -> Activation:
        self._step = self._open_step()
        self._recorder = self._step._recorder  # that of its session, maybe
        return Activation(self._recorder.variable, self._step._scope)

    def item(self, item: Any) -> None:
        if not self._capture:
            return
        self._count += 1
        few = len(self._items) < _KEPT_ITEMS
        if type(item) is str:
            if self._characters <= self._recorder.limit and (few or item):
                self._items.append(item)
            self._characters += len(item)
        else:
            self._text = False
            if few:
                self._items.append(thaw(self._recorder.frozen(item)))  # as it is now

    def end(self, error: BaseException | None) -> None:
        if self._count:
            self._step.set_output(self._output())
        self._step.__exit__(None, error, None)

    def _output(self) -> Any:
        if self._text:
            text = "".join(self._items)
            return text if len(text) == self._characters else text + noted(self._characters)
        return self._items if len(self._items) == self._count else [*self._items, noted(self._count, "items")]


def traced(
    function: Callable[P, R],
    at_call: Callable[[Any], Callable[[], Step]],
    capture_input: bool,
    capture_output: bool,
) -> Callable[P, R]:
    """Return `function` with a step around each call of it.

    Args:
        function: a plain, async, generator or async generator function.
        at_call: given the input, returns what opens the step; a generator's body starts later, and elsewhere.
        capture_input: record the arguments.
        capture_output: record the result, or what was yielded.
    """
    arguments: Callable[..., Any] = _arguments(function) if capture_input else _nothing

    def around(args: Any, kwargs: Any) -> Step:
        return at_call(arguments(args, kwargs))()

    def follow(args: Any, kwargs: Any) -> _Traced:
        return _Traced(at_call(arguments(args, kwargs)), capture_output)

    return _wrapped(function, around, follow, capture_output)


class _Carried(Activation):
    """Follows a call, or a generator, that was carried into another thread: nothing is recorded."""

    __slots__ = ()

    def __exit__(self, *exc: object) -> None:
        before = self._before
        if before is self.scope and before is not None and before.gone and self._variable.get() is not before:
            self._before = before.around()  # called where it was carried from, it left what was current there
        super().__exit__()

    def start(self) -> Activation:
        return self

    def item(self, item: Any) -> None:
        """Not recorded."""

    def end(self, error: BaseException | None) -> None:
        """Not recorded."""

    set_output = item
    _pause = __exit__  # what a `Step` has as well


def carried(function: Callable[P, R], variable: ContextVar[Scope | None], scope: Scope | None) -> Callable[P, R]:
    """Return `function` so that it runs in `scope`, whatever thread, executor or task calls it."""

    def around(args: Any, kwargs: Any) -> _Carried:
        return _Carried(variable, scope)

    return _wrapped(function, around, around, capture_output=False)


def _wrapped(
    function: Callable[P, R],
    around: Callable[[Any, Any], Step | _Carried],
    follow: Callable[[Any, Any], Follower],
    capture_output: bool,
) -> Callable[P, R]:
    """Return `function`, of whichever kind, with `around` around a call or `follow` along a generator."""
    inner: Callable[..., Any] = function

    async def acall(*args: Any, **kwargs: Any) -> Any:
        block = around(args, kwargs)
        with block:
            result = await inner(*args, **kwargs)
            if capture_output:
                block.set_output(result)
            return result

    # Plain functions that return generators: the call, not the first item, decides the scope.
    def generate(*args: Any, **kwargs: Any) -> Any:
        return steps(inner(*args, **kwargs), follow(args, kwargs))

    def agenerate(*args: Any, **kwargs: Any) -> Any:
        return asteps(inner(*args, **kwargs), follow(args, kwargs))

    of_object: Any = type(function).__call__ if callable(function) else None

    def kind(is_kind: Callable[[Any], bool]) -> bool:
        return is_kind(inner) or is_kind(of_object)

    wrapper: Any = _called(inner, around, capture_output)
    if kind(inspect.isasyncgenfunction):
        wrapper = _GeneratorFunction(agenerate, _any_async.__code__)
    elif kind(inspect.isgeneratorfunction):
        wrapper = _GeneratorFunction(generate, _any.__code__)
    elif kind(inspect.iscoroutinefunction):
        wrapper = acall
    result: Callable[P, R] = functools.wraps(function)(wrapper)
    return result


def _called(
    inner: Callable[..., Any], around: Callable[[Any, Any], Step | _Carried], capture_output: bool
) -> Callable[..., Any]:
    """Return a plain function whose call is followed, and with it the coroutine or the future that it returns."""

    def call(*args: Any, **kwargs: Any) -> Any:
        block = around(args, kwargs)
        block.__enter__()
        try:
            result: object = inner(*args, **kwargs)
            # By its type alone: anything else may be more than awaitable, such as what `async with` takes as well.
            if type(result) is CoroutineType:
                block._pause()
                followed: Any = _resumed(block, _Closing(result), capture_output)
                followed.__qualname__ = result.__qualname__  # of which Python tells where nobody awaits it
                return followed
            if _is_future(type(result)):
                block._pause()
                if isinstance(block, Step):
                    _when_done(result, functools.partial(_settle, block, capture_output))
                return result
            if capture_output:
                block.set_output(result)
        except BaseException as error:
            block.__exit__(None, error, None)
            raise
        block.__exit__(None, None, None)
        return result

    return call


def _any(*args: Any, **kwargs: Any) -> Generator[None]:
    yield  # pragma: no cover  (only its code is shown)


async def _any_async(*args: Any, **kwargs: Any) -> AsyncGenerator[None]:
    yield  # pragma: no cover  (likewise)


class _GeneratorFunction:
    """A generator function to `inspect` that acts when it is called, too; no `def` with a `yield` in it does.

    Args:
        call: returns the generator.
        code: of a generator function that takes any arguments.
    """

    # In slots, because `functools.wraps` copies the `__dict__` of one that is wrapped once more.
    __slots__ = ("__code__", "__dict__", "__weakref__", "_annotations", "_call")
    __defaults__ = __kwdefaults__ = None

    def __init__(self, call: Callable[..., Any], code: CodeType) -> None:
        self._call = call
        self._annotations: Any = None
        self.__code__ = code

    @property
    def __annotations__(self) -> Any:
        """The function's own; from Python 3.14 on `functools.wraps` copies only what computes them."""
        return self.__wrapped__.__annotations__ if self._annotations is None else self._annotations

    @__annotations__.setter  # pyright has it that this is a plain attribute of any object
    def __annotations__(self, annotations: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._annotations = annotations

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # what `functools.wraps` gives it

    def __reduce__(self) -> str:
        name: str = self.__qualname__
        return name

    def __repr__(self) -> str:
        return repr(self.__wrapped__)


class _Closing:
    """Closes a coroutine with the one that was to await it: a task that is cancelled before it begins awaits nothing.

    Args:
        coroutine: what a plain function returned.
    """

    __slots__ = ("coroutine",)

    def __init__(self, coroutine: Any) -> None:
        self.coroutine = coroutine

    def __del__(self) -> None:
        if sys.getrefcount(self.coroutine) <= 2:  # this and the argument: what the host has as well, it may await
            self.coroutine.close()


async def _resumed(block: Step | _Carried, awaited: _Closing, capture_output: bool) -> Any:
    """Await what a plain function returned to be awaited, in the block of its call."""
    with block:
        result = await awaited.coroutine
        if capture_output:
            block.set_output(result)
        return result


def _is_future(kind: type) -> bool:
    asyncio: Any = sys.modules.get("asyncio")  # without it there is none
    return asyncio is not None and issubclass(kind, asyncio.Future)


def _settle(step: Step, capture_output: bool, future: Any) -> None:
    import asyncio  # not with `import rootspan`: who has a future has paid for it

    # `exception()` would keep the loop from telling of one that nobody retrieves.
    error = asyncio.CancelledError() if future.cancelled() else future._exception
    if capture_output and error is None:
        step.set_output(future.result())
    step.__exit__(None, error, None)


def _when_done(future: Any, settle: Callable[[Any], None]) -> None:
    if future.done():
        settle(future)
    else:
        future.add_done_callback(settle)


def _arguments(function: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """Return what names a call's arguments, `self` left out."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    skipped = 1 if names[:1] in (["self"], ["cls"]) else 0
    shown, most = names[skipped:], len(names)

    def named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        values: dict[str, Any] = dict(zip(shown, args[skipped:] if skipped else args, strict=False))
        if len(args) > most:
            values["args"] = list(args[most:])
        if kwargs:
            values.update(kwargs)
        return values

    return named
