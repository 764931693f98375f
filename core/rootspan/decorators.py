"""The decorators that follow a function with a span, and `carry`, which takes a scope to other threads."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar, cast, overload
from uuid import UUID

from rootspan.errors import fail
from rootspan.functions import carried, traced
from rootspan.interaction import Opening, Step
from rootspan.record import Kind

__all__ = ["Decorating"]

P = ParamSpec("P")
R = TypeVar("R")


class Decorating(Opening):
    """Turns functions into tools and interactions."""

    def carry(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return `function` for a thread or an executor, with the scope of this moment.

        Args:
            function: any callable; async and generator functions as well.

        Example:
            >>> import rootspan
            >>> from concurrent.futures import ThreadPoolExecutor
            >>> with rootspan.begin(event="turn") as turn, ThreadPoolExecutor() as pool:
            ...     done = pool.submit(rootspan.carry(rootspan.track_decision), reasoning="in a thread")
        """
        recorder = self._recorder
        return carried(function, recorder.variable, recorder.here())

    @overload
    def tool(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def tool(
        self,
        name: str | None = None,
        *,
        session_id: str | None = None,
        capture_input: bool = True,
        capture_output: bool = True,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    def tool(
        self,
        name: Callable[..., Any] | str | None = None,
        *,
        session_id: str | None = None,
        capture_input: bool = True,
        capture_output: bool = True,
    ) -> Any:
        """Make every call of a function a tool call: `def`, `async def`, generator or async generator.

        Args:
            name: the tool's name, the function's own by default; without parentheses, the function.
            session_id: what `create_session` returned; without it the enclosing interaction is meant.
            capture_input: record the arguments.
            capture_output: record the result, or what was yielded.

        Raises:
            ConfigurationError: what is decorated is no function.

        Example:
            >>> import rootspan
            >>> @rootspan.tool
            ... def search_database(query: str) -> list[str]:
            ...     return [query]
            >>> search_database("x")
            ['x']
        """

        def at_call(tool_name: str, value: Any) -> Callable[[], Step]:
            return partial(self._open_step, self._recorder.scope(), Kind.TOOL, tool_name, value, session_id)

        return _decorator("tool", name, at_call, capture_input, capture_output)

    @overload
    def interaction(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def interaction(
        self,
        event: str | None = None,
        *,
        user_id: str | int | UUID | None = None,
        convo_id: str | int | UUID | None = None,
        agent_name: str | None = None,
        capture_input: bool = True,
        capture_output: bool = True,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
    def interaction(
        self,
        event: Callable[..., Any] | str | None = None,
        *,
        user_id: str | int | UUID | None = None,
        convo_id: str | int | UUID | None = None,
        agent_name: str | None = None,
        capture_input: bool = True,
        capture_output: bool = True,
    ) -> Any:
        """Make every call of a function an interaction: the same four kinds of function as `tool`.

        Args:
            event: the span name, the function's own by default; without parentheses, the function.
            user_id: who.
            convo_id: which conversation.
            agent_name: which agent.
            capture_input: record the arguments.
            capture_output: record the result, or what was yielded.

        Raises:
            ConfigurationError: what is decorated is no function.

        Example:
            >>> import rootspan
            >>> @rootspan.interaction("user_turn")
            ... def handle(message: str) -> str:
            ...     return message.upper()
            >>> handle("hi")
            'HI'
        """

        def at_call(event_name: str, value: Any) -> Callable[[], Step]:
            scope = self._recorder.begin_scope(self._recorder.scope())
            return partial(self._open_interaction, scope, event_name, _alone(value), user_id, convo_id, agent_name)

        return _decorator("interaction", event, at_call, capture_input, capture_output)


def _decorator(
    verb: str,
    given: object,
    at_call: Callable[[str, Any], Callable[[], Step]],
    capture_input: bool,
    capture_output: bool,
) -> Any:
    """Return the function decorated, or the decorator where it was given a name or nothing."""

    def decorated(function: object) -> Any:
        if isinstance(function, (classmethod, staticmethod)):
            method = cast("classmethod[Any, ..., Any]", function)
            return type(method)(decorated(method.__func__))
        if isinstance(function, type):
            said = f"@rootspan.{verb} would make a function of the class {function.__name__}."
            fail(said, f"write @rootspan.{verb} above its methods")
        if not callable(function):
            fail(
                f"@rootspan.{verb} takes a function or a name, and no {type(function).__name__}.",
                f'write @rootspan.{verb} or @rootspan.{verb}("name") right above the `def`',
            )
        name = given if isinstance(given, str) and given else getattr(function, "__name__", None)
        return traced(function, partial(at_call, name or type(function).__name__), capture_input, capture_output)

    return decorated if given is None or isinstance(given, str) else decorated(given)


def _alone(value: Any) -> Any:
    """Return the text where one text is all the input: `handle(message)` shows as the message."""
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, Any]", value)
    first = next(iter(fields.values()), None)
    # Not isinstance: it asks the value's own `__class__`, which of a lazy object is a query.
    return first if len(fields) == 1 and issubclass(type(first), str) else fields
