"""Where the running code is: the open spans of this process and the private context variable that points at them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry.trace import SpanContext, get_current_span, propagation

from rootspan.record import Frozen, Identity

__all__ = [
    "Enclosing",
    "Holder",
    "OpenSpan",
    "Scope",
    "ScopeLookup",
    "forget_ids",
    "host_span",
    "new_ids",
    "open_ancestor",
    "within",
]

_POOL_SIZE = 512
_pool: list[str] = []


def new_ids() -> str:
    """Return 48 random hex characters: a trace id, then a span id."""
    try:
        return _pool.pop()
    except IndexError:
        text = os.urandom(24 * _POOL_SIZE).hex()
        _pool.extend([text[start : start + 48] for start in range(48, len(text), 48)])
        return text[:48]


def forget_ids() -> None:
    """Empty the pool: a forked child must not hand out its parent's ids."""
    _pool.clear()


class Holder:
    """An identity that may still change; spans share one unless they were given values of their own."""

    __slots__ = ("identity",)

    def __init__(self, identity: Identity) -> None:
        self.identity = identity


class OpenSpan:
    """An interaction, session, request or step that has begun and not yet finished."""

    __slots__ = (
        "adopts", "ask", "bare", "fields", "finished", "first_input", "has_children", "holder", "ids", "input", "kind",
        "last_output", "link", "model", "name", "output", "parent", "properties", "provider", "root", "start",
        "tokens", "usage_below",
    )  # fmt: skip

    def __init__(self, kind: str, name: str, ids: str, parent: OpenSpan | None, holder: Holder, start: int) -> None:
        self.kind = kind
        self.name = name
        self.ids = ids
        self.parent: OpenSpan | None = parent
        self.root: OpenSpan = self if parent is None else parent.root
        self.holder = holder
        self.start = start
        self.link: SpanContext | str | None = None
        self.input: Frozen = None
        self.output: Frozen = None
        self.properties: Frozen = None
        self.model: str | None = None
        self.provider: str | None = None
        self.tokens: tuple[int | None, int | None, float | None] = (None, None, None)  # input, output, cost
        self.fields: dict[str, Any] | None = None  # what becomes `Record.more`
        self.finished = False
        self.bare = False  # opened by `begin` without `with`: the next bare `begin` does not nest in it
        self.adopts = False  # takes what it lacks from its children
        self.ask: Callable[[], None] | None = None  # an adapter's hook for the identity, asked at a child
        self.has_children = False
        self.usage_below = False
        self.first_input: Frozen = None
        self.last_output: Frozen = None

    def took(self, user_id: str | None = None, convo_id: str | None = None, agent_name: str | None = None) -> None:
        """Note a child: what the root's identity lacks comes from the first child that names it."""
        self.has_children = True
        root = self.root
        root.has_children = True
        if root.ask is not None:
            root.ask()
        if root.adopts and (user_id or convo_id or agent_name):
            own = root.holder.identity
            root.holder.identity = own._replace(
                user_id=own.user_id or user_id,
                convo_id=own.convo_id or convo_id,
                agent_name=own.agent_name or agent_name,
            )

    def took_call(self, call_input: Frozen, call_output: Frozen, bought: bool) -> None:
        """Note an event or model call below: the root's input is the first one's, its output the last one's."""
        root = self.root
        if bought:
            root.usage_below = True
        if root.adopts:
            if root.first_input is None:
                root.first_input = call_input
            if call_output is not None:
                root.last_output = call_output

    def set(self, **fields: Any) -> None:
        """Keep rare fields for the record, None omitted."""
        present = {name: value for name, value in fields.items() if value is not None}
        if present:
            self.fields = {**self.fields, **present} if self.fields else present


class Scope:
    """One entry of the context variable: the span the code runs in, and whose work it is."""

    __slots__ = ("holder", "outer", "pinned", "span")

    def __init__(self, span: OpenSpan | None, holder: Holder, outer: Scope | None, pinned: bool = False) -> None:
        self.span: OpenSpan | None = span
        self.holder: Holder = holder
        self.pinned = pinned  # chosen by hand: no look-up may overrule it
        # A chain of scopes that nobody left must not grow: skip what has finished.
        while outer is not None and outer.span is not None and outer.span.finished:
            outer = outer.outer
        self.outer: Scope | None = outer


ScopeLookup: TypeAlias = "Callable[[], OpenSpan | None]"
"""How a framework that passes its own context tells which of our spans the running code is in."""


class Enclosing:
    """Answers "where am I": the context variable of one tracker, and the look-ups that adapters registered."""

    __slots__ = ("look_ups", "variable")

    def __init__(self) -> None:
        self.variable: ContextVar[Scope | None] = ContextVar("rootspan_scope", default=None)
        self.look_ups: tuple[ScopeLookup, ...] = ()

    def register(self, look_up: ScopeLookup) -> None:
        """Add a look-up, once."""
        if look_up not in self.look_ups:
            self.look_ups += (look_up,)

    def scope(self) -> Scope | None:
        """Return the innermost scope, or None outside of any."""
        scope = self.variable.get()
        if scope is None or not scope.pinned:
            for look_up in self.look_ups:
                span = look_up()
                if span is not None and not within(scope, span):
                    scope = Scope(span, span.holder, scope)
        return scope

    def leave(self, scope: Scope) -> None:
        """Make the outer scope current again where `scope` still is; elsewhere finished spans are skipped."""
        if self.variable.get() is scope:
            outer = scope.outer
            while outer is not None and outer.span is not None and outer.span.finished:
                outer = outer.outer
            self.variable.set(outer)


def within(scope: Scope | None, span: OpenSpan) -> bool:
    """Return whether a scope is in a span, or in one below it."""
    inner = scope.span if scope is not None else None
    while inner is not None:
        if inner is span:
            return True
        inner = inner.parent
    return False


def open_ancestor(span: OpenSpan | None) -> OpenSpan | None:
    """Return `span` or the nearest ancestor of it that has not finished."""
    while span is not None and span.finished:
        span = span.parent
    return span


_SPAN_KEY: str | None = getattr(propagation, "_SPAN_KEY", None)
_host_variable: ContextVar[Any] | None = getattr(
    getattr(otel_context, "_RUNTIME_CONTEXT", None), "_current_context", None
)


def _public_host_span() -> SpanContext | None:
    try:
        context = get_current_span().get_span_context()
        return context if context.is_valid else None
    except Exception:  # a span of the host's own making
        return None


def _direct_host_span() -> SpanContext | None:
    try:
        context = _host_variable.get()  # type: ignore[union-attr]  # chosen below only where it is there
        if context:
            span = context.get(_SPAN_KEY)
            if span is not None:
                found: SpanContext = span.get_span_context()
                return found if found.is_valid else None
    except Exception:  # a span of the host's own making
        pass
    return None


# OpenTelemetry's own function costs five times what reading its variable does; where the variable is not
# where we know it (another runtime context, a later version), the public way serves.
host_span: Callable[[], SpanContext | None] = (
    _direct_host_span if isinstance(_host_variable, ContextVar) and _SPAN_KEY is not None else _public_host_span
)
