"""Where the running code is: the open spans of this process and the private context variable that points at them."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry.trace import SpanContext, get_current_span, propagation

from rootspan.record import NOBODY, Frozen, Identity, Kept

__all__ = [
    "Enclosing",
    "Holder",
    "OpenSpan",
    "Scope",
    "ScopeLookup",
    "host_span",
    "open_ancestor",
    "within",
]


class Holder:
    """An identity that may still change; spans share one unless they were given values of their own."""

    __slots__ = ("identity",)

    def __init__(self, identity: Identity) -> None:
        self.identity = identity


class OpenSpan:
    """An interaction, session, request or step that has begun and not yet finished."""

    # Defaults of the class, so that opening a span sets only what it has.
    link: SpanContext | str | None = None
    input: Kept = None
    output: Kept = None
    properties: Frozen = None
    model: str | None = None
    provider: str | None = None
    tokens: tuple[int | None, int | None, float | None] = (None, None, None)  # input, output, cost
    fields: dict[str, Any] | None = None  # what becomes `Record.more`
    finished = False
    bare = False  # opened by `begin` without `with`: the next bare `begin` does not nest in it
    adopts = False  # takes what it lacks from its children
    ask: Callable[[], None] | None = None  # an adapter's hook for the identity, asked at a child
    has_children = False
    told = False  # an id of it was asked for, and may be looked up later
    usage_below = False
    first_input: Kept = None
    last_output: Kept = None

    def __init__(self, kind: str, name: str, ids: str, parent: OpenSpan | None, holder: Holder, start: int) -> None:
        self.kind = kind
        self.name = name
        self.ids = ids
        self.parent: OpenSpan | None = parent
        self.holder = holder
        self.start = start

    @property
    def root(self) -> OpenSpan:
        """The span at the top, which may be this one."""
        span = self
        while span.parent is not None:
            span = span.parent
        return span

    def took(self, user_id: str | None = None, convo_id: str | None = None, agent_name: str | None = None) -> None:
        """Note a child: what the root's identity lacks comes from the first child that names it."""
        self.has_children = True
        root = self.root
        root.has_children = True
        if root.adopts and (user_id or convo_id or agent_name):
            own = root.holder.identity
            root.holder.identity = own._replace(
                user_id=own.user_id or user_id,
                convo_id=own.convo_id or convo_id,
                agent_name=own.agent_name or agent_name,
            )

    def took_call(self, call_input: Kept, call_output: Kept, bought: bool) -> None:
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
    """One entry of the context variable: the span the code runs in, and whose work it is.

    Args:
        span: the span; None in a `context` outside of any.
        holder: an identity that differs from the span's, as inside a `context`.
        outer: the scope around it.
    """

    __slots__ = ("outer", "own", "span")

    def __init__(self, span: OpenSpan | None, holder: Holder | None, outer: Scope | None) -> None:
        self.span: OpenSpan | None = span
        self.own: Holder | None = None if span is not None and holder is span.holder else holder
        # A chain of scopes that nobody left must not grow: skip what has finished.
        while outer is not None and outer.span is not None and outer.span.finished:
            outer = outer.outer
        self.outer: Scope | None = outer
        while outer is not None and (above := outer.outer) is not None:
            if above.span is not None and above.span.finished:
                outer.outer = above.outer
            else:
                outer = above

    @property
    def holder(self) -> Holder:
        """The identity that holds here."""
        if self.own is not None:
            return self.own
        return _NOBODYS if self.span is None else self.span.holder


_NOBODYS: Final = Holder(NOBODY)


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
        for look_up in self.look_ups:
            span = look_up()
            if span is not None and not within(scope, span):
                scope = Scope(span, None, scope)
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
