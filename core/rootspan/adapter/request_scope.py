"""Which code runs inside a request: it is entered and left again, or found by the framework's own context."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from rootspan.functions import Activation
from rootspan.open_span import OpenSpan
from rootspan.recorder import Recorder
from rootspan.scope import Scope

__all__ = ["RequestScope", "stepping"]

stepping: Final[ContextVar[tuple[OpenSpan, OpenSpan | None] | None]] = ContextVar("rootspan_stepping", default=None)
"""The request whose body is being stepped, and the one that the framework's context named when the step began."""


class RequestScope:
    """The scope of one request; being inside it is not its lifetime, which `RequestRoot` adds."""

    # Set by the root, for a call of an `__init__` more is paid by each request:
    _recorder: Recorder
    _span: OpenSpan
    _scope: Scope
    _active: Activation | None = None  # the latest, with what the code inside has left open
    _look_up: _ContextLookUp | None = None

    def activate(self) -> Activation:
        """Return a context manager that runs code inside the request; it may be entered again and again."""
        variable = self._recorder.variable
        scope = variable.get()
        if scope is None or not self._encloses(scope):  # otherwise that is current, and stays so
            scope = self._scope if self._active is None else self._active.scope
        self._active = Activation(variable, scope)
        return self._active

    def attach(self) -> Scope | None:
        """Make it current once, for code that has a `try` of its own; return what `detach` takes."""
        variable = self._recorder.variable
        before = variable.get()
        variable.set(self._scope)
        return before

    def detach(self, before: Scope | None) -> None:
        """Give the caller its own scope back; what the code inside has left open is there again in its stream."""
        variable = self._recorder.variable
        scope = variable.get()
        if scope is not self._scope and scope is not before:
            self._active = Activation(variable, scope)
        variable.set(before)

    def leave(self) -> None:
        """Make current again what encloses the request, where the code inside has left something open."""
        variable = self._recorder.variable
        scope = current = variable.get()
        while scope is not None and self._encloses(scope):
            scope = scope.outer
        if scope is not current:
            variable.set(scope)

    def _encloses(self, scope: Scope) -> bool:
        return scope.span is not None and scope.span.root is self._span

    def look_up_with(self, current: Callable[[], RequestScope | None]) -> None:
        """Let a framework that knows which request the running code is in tell so, in place of an activation.

        Args:
            current: returns the root of the current request; None, or any exception, where there is none. A function of
                the adapter's module, for it is kept as long as the tracker.
        """
        recorder = self._recorder
        for known in recorder.enclosing.look_ups:
            if isinstance(known, _ContextLookUp) and known.current is current:
                self._look_up = known
                return
        self._look_up = _ContextLookUp(current, recorder.variable)
        recorder.look_up_with(self._look_up)

    def span_for(self, variable: ContextVar[Scope | None]) -> OpenSpan | None:
        """Return the open span for the tracker of that context variable, None for another one."""
        return self._span if self._recorder.variable is variable else None

    def in_context(self) -> tuple[OpenSpan, OpenSpan | None]:
        """Return the span, and the one that the framework's context names now."""
        return self._span, None if self._look_up is None else self._look_up.named()


@dataclass(frozen=True, slots=True)
class _ContextLookUp:
    """Tells one tracker which request a framework's own context names.

    While a body is stepped the context is the one of the server's thread, which may name anybody's request or none:
    then the body's own counts, until the code inside enters another request.
    """

    current: Callable[[], RequestScope | None]
    variable: ContextVar[Scope | None]  # the tracker's

    def __call__(self) -> OpenSpan | None:
        named = self.named()
        step = stepping.get()
        return step[0] if step is not None and step[1] is named else named

    def named(self) -> OpenSpan | None:
        """Return the request that the context names, unless another tracker records it: they share nothing."""
        try:
            root = self.current()
        except Exception:  # a framework may raise where it has no context
            return None
        return None if root is None else root.span_for(self.variable)
