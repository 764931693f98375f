"""Where the running code is: the open spans of this process and the private context variable that points at them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from opentelemetry import context as otel_context
from opentelemetry.trace import SpanContext, get_current_span, propagation

from rootspan.record import NOBODY, Frozen, Identity, Kept, Kind

__all__ = [
    "Enclosing",
    "Holder",
    "OpenSpan",
    "Scope",
    "ScopeLookup",
    "below",
    "holding",
    "host_context",
    "host_span",
    "host_span_in",
    "inside",
    "open_ancestor",
    "opened",
    "within",
]


Totals: TypeAlias = "tuple[int | None, int | None, float | None]"
"""Input tokens, output tokens and cost."""

_NO_TOKENS: Final = (None, None, None)
_NAMELESS: Final = (None, None, None)
_ROOM: Final = 16  # scopes in one another before the first look for finished ones
# Fields of most interactions. A span's are never changed; those that many spans share are proxies, and weigh nothing.
_TOKENS: Final = 1
_COST: Final = 2
_BELOW: Final = tuple(
    MappingProxyType({"has_children": True} | dict.fromkeys(names, True))
    for names in ((), ("tokens_below",), ("cost_below",), ("tokens_below", "cost_below"))
)


class Holder:
    """An identity that may still change; spans share one unless they were given values of their own."""

    __slots__ = ("identity",)

    identity: Identity


class OpenSpan:
    """An interaction, session, request or step that has begun and not yet finished; made by `opened`."""

    __slots__ = (
        "adopts", "ask", "bare", "fields", "finished", "first_input", "has_children", "holder", "ids", "input", "kind",
        "last_output", "link", "model", "name", "named", "output", "parent", "properties", "provider", "start",
        "tokens", "told", "usage_below",
    )  # fmt: skip

    kind: str
    name: str
    ids: str
    parent: OpenSpan | None
    holder: Holder
    start: int
    link: SpanContext | str | None
    input: Kept
    output: Kept
    properties: Frozen
    model: str | None
    provider: str | None
    tokens: Totals
    fields: Mapping[str, Any] | None  # what becomes `Record.more`
    finished: bool
    bare: bool  # opened by `begin` without `with`: the next bare `begin` does not nest in it
    adopts: bool  # takes what it lacks from its children, once it ends: the next child may be somebody else's
    named: tuple[str | None, str | None, str | None]  # user, conversation and agent, each of the first that names one
    ask: Callable[[], None] | None  # an adapter's hook for the identity, asked at a child
    has_children: bool
    told: bool  # an id of it was asked for, and may be looked up later
    usage_below: int  # whether some span below carries tokens, a cost or both
    first_input: Kept
    last_output: Kept

    @property
    def root(self) -> OpenSpan:
        """The span at the top, which may be this one."""
        span = self
        while span.parent is not None:
            span = span.parent
        return span

    def took(
        self,
        user_id: str | None = None,
        convo_id: str | None = None,
        agent_name: str | None = None,
        call_input: Kept = None,
        call_output: Kept = None,
        tokens: Totals = _NO_TOKENS,
    ) -> None:
        """Note a child, whose work it says that it is, and of an event what a root may take from it.

        Args:
            tokens: what it used: totals of those above it must not count that twice.
        """
        root = self if self.parent is None else self.root
        self.has_children = root.has_children = True
        if tokens is not _NO_TOKENS:
            used = _TOKENS if tokens[0] is not None or tokens[1] is not None else 0
            if tokens[2] is not None:
                used |= _COST
            above: OpenSpan | None = self
            while above is not None:
                above.usage_below |= used
                above = above.parent
        if root.adopts and (user_id or convo_id or agent_name or call_input is not None or call_output is not None):
            root.adopt(user_id, convo_id, agent_name, call_input, call_output)

    def took_call(self, call_input: Kept, call_output: Kept) -> None:
        """Note what went into a call of a model below and what came out, or into and out of this one."""
        root = self.root
        if root.adopts:
            root.adopt(None, None, None, call_input, call_output)

    def adopt(
        self,
        user_id: str | None,
        convo_id: str | None,
        agent_name: str | None,
        call_input: Kept = None,
        call_output: Kept = None,
    ) -> None:
        """Keep what this root may lack: whose work and its input from the first child, its output from the last one."""
        if self.first_input is None:
            self.first_input = call_input
        if call_output is not None:
            self.last_output = call_output
        user, convo, agent = self.named
        if (user_id and not user) or (convo_id and not convo) or (agent_name and not agent):
            self.named = (user or user_id or None, convo or convo_id or None, agent or agent_name or None)

    def settle(self) -> None:
        """Take what it lacks from its children, and let those above know of a model call."""
        if self.adopts:
            if self.input is None:
                self.input = self.first_input
            if self.output is None:
                self.output = self.last_output
            if self.named is not _NAMELESS:
                own, (user, convo, agent) = self.holder.identity, self.named
                self.holder.identity = own._replace(
                    user_id=own.user_id or user, convo_id=own.convo_id or convo, agent_name=own.agent_name or agent
                )
        if self.parent is not None:
            if self.model is not None or self.kind == Kind.MODEL:
                self.took_call(self.input, self.output)
            if self.tokens is not _NO_TOKENS:
                self.parent.took(tokens=self.tokens)
        if self.has_children:
            fields, told = self.fields, below(self.usage_below)
            if fields is None:
                self.fields = told
            elif not told.keys() <= fields.keys():
                self.fields = {**fields, **told}

    def set(self, **fields: Any) -> None:
        """Keep rare fields for the record, None omitted."""
        present = {name: value for name, value in fields.items() if value is not None}
        if present:
            self.fields = {**self.fields, **present} if self.fields else present


def below(used: int) -> Mapping[str, Any]:
    """Return the fields of a span that has children, and whether those carry tokens and a cost."""
    return _BELOW[used]


# Made by functions, attribute by attribute: calling a class that has an `__init__` takes twice as long.


def holding(identity: Identity) -> Holder:
    """Return a new holder of an identity."""
    holder = Holder()
    holder.identity = identity
    return holder


def opened(
    kind: str,
    name: str,
    ids: str,
    parent: OpenSpan | None,
    holder: Holder,
    start: int,
    link: SpanContext | str | None = None,
) -> OpenSpan:
    """Return a new span."""
    span = OpenSpan()
    span.kind = kind
    span.name = name
    span.ids = ids
    span.parent = parent
    span.holder = holder
    span.start = start
    span.link = link
    span.input = span.output = span.first_input = span.last_output = span.properties = None
    span.model = span.provider = span.fields = span.ask = None
    span.tokens, span.named = _NO_TOKENS, _NAMELESS
    span.finished = span.bare = span.adopts = span.told = span.has_children = False
    span.usage_below = 0
    return span


class Scope:
    """One entry of the context variable: the span the code runs in, and whose work it is; made by `inside`."""

    __slots__ = ("base", "lost", "outer", "own", "room", "span", "token")

    span: OpenSpan | None
    own: Holder | None
    outer: Scope | None
    base: Scope | None  # of a bare interaction: what encloses the bare ones that it stands in
    lost: bool  # left in another context than it was entered in, where nobody leaves it any more
    room: int  # how many may still be entered in it before the chain is looked through for what has ended
    token: Token[Scope | None] | None  # of where it was entered, until it is left there

    @property
    def holder(self) -> Holder:
        """The identity that holds here."""
        if self.own is not None:
            return self.own
        return _NOBODYS if self.span is None else self.span.holder

    @property
    def bare(self) -> bool:
        """Whether it is a bare interaction's."""
        return self.own is None and self.span is not None and self.span.bare

    @property
    def over(self) -> bool:
        """Whether it has ended: a span's with that, a `context` where it was left."""
        return self.token is None if self.own is not None or self.span is None else self.span.finished

    def like(self, other: Scope) -> bool:
        """Whether it is another one, or was made of that where something around it was left first."""
        return self.span is other.span and self.own is other.own

    def around(self) -> Scope | None:
        """Return what it was entered in, but for what nobody leaves any more: the lost, and bare ones that have ended.

        Anything else that has ended is not left in this context: a background task goes on inside it.
        """
        outer = self.outer
        while outer is not None and (outer.lost or (outer.bare and outer.over)):
            outer = outer.outer
        return outer


def inside(span: OpenSpan | None, holder: Holder | None = None, outer: Scope | None = None) -> Scope:
    """Return a new scope.

    Args:
        span: the span; None in a `context` outside of any.
        holder: an identity that differs from the span's, as inside a `context`.
        outer: the scope around it.
    """
    scope = Scope()
    scope.span = span
    scope.own = None if holder is None or (span is not None and holder is span.holder) else holder
    scope.outer = scope.base = None
    scope.lost, scope.token = False, None
    scope.room = _ROOM
    if outer is not None:
        _enclose(scope, outer if outer.room > 0 else _shortened(outer))
    return scope


def _enclose(scope: Scope, outer: Scope | None) -> None:
    """Put a scope into another one, or into what is around that."""
    if outer is not None and (outer.lost or (outer.span is not None and outer.span.finished and outer.bare)):
        outer = outer.around()
    if outer is not None:
        scope.outer = outer
        # What `outer.bare` says, without its call.
        scope.base = outer.base if outer.span is not None and outer.span.bare and outer.own is None else outer
        scope.room = outer.room - 1


def _shortened(scope: Scope) -> Scope | None:
    """Return a chain of scopes without what has ended in it: what nobody left must not make it grow.

    Work that was left behind needs no more than the innermost of what it was left by. The chain gets room for as many
    again, so that each entry costs the same however many are open.
    """
    found: list[Scope] = []
    inner: Scope | None = scope
    ended = False
    while inner is not None:
        over = inner.over
        outer = inner.outer
        if not inner.lost and (not over or not (inner.bare or ended)):
            found.append(inner)
            ended = ended or over
        else:  # whoever still has it must not keep all that ever was
            inner.outer = inner.base if inner.bare else None
        inner = outer
    outer = None
    for inner in reversed(found):
        if outer is None:
            inner.outer = inner.base = None
            inner.room = _ROOM + 2 * len(found)
        else:
            _enclose(inner, outer)
        outer = inner
    return outer


def _without(left: Scope, current: Scope) -> Scope | None:
    """Return the chain of one context without a scope that was left there before those inside it."""
    above: list[Scope] = []
    found: Scope | None = current
    while found is not None and not found.like(left):
        above.append(found)
        found = found.outer
    if found is None:
        return current
    outer = found.around()
    for scope in reversed(above):  # copied, because other contexts have them as well
        copy = inside(scope.span, scope.own, outer)
        copy.token = scope.token
        outer = copy
    return outer


_NOBODYS: Final = holding(NOBODY)


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
        return self.named(self.variable.get())

    def named(self, scope: Scope | None) -> Scope | None:
        """Return a scope, or inside it the one of a span that a look-up names, unless the scope is in that already."""
        for look_up in self.look_ups:
            span = look_up()
            if span is not None and not within(scope, span):
                scope = inside(span, None, scope)
        return scope

    def leave(self, scope: Scope, block: bool = False, bare: bool = False) -> bool:
        """Make current again what a scope was entered in, where it is current still.

        Args:
            scope: the one that has ended.
            block: whether its `with` ends here as well; that is where it was entered, or it is lost.
            bare: whether it is a bare interaction's, which may end anywhere; `is_left` finds out where it was begun.

        Returns:
            Whether it was entered in another context, where those who are in it are not left in it.
        """
        variable, token = self.variable, scope.token if block or bare else None
        after = before = current = variable.get()
        elsewhere = False
        if token is not None:
            if block:
                scope.token = None
            try:
                variable.reset(token)  # it knows its context
                scope.token, before = None, token.old_value
            except ValueError:
                elsewhere, scope.lost = True, block
            except RuntimeError:  # another thread leaves it as well
                pass
        if current is not None:
            if current is scope or current.like(scope):
                after = current.outer
                if after is not None and (after.lost or (after.span is not None and after.span.finished)):
                    after = current.around()
            elif block and token is not None:
                after = _without(scope, current)
        if after is not before:
            variable.set(after)
        return elsewhere

    def is_left(self, scope: Scope) -> bool:
        """Return whether a scope is of a bare interaction that was begun in this very context and ended elsewhere.

        Who finishes it in another thread or task cannot leave it here, so it is left by whoever looks next. A copy of
        the context, such as a background task's, goes on in it.
        """
        token = scope.token
        if token is None or not (scope.bare and scope.over):
            return False
        variable = self.variable
        current = variable.get()
        try:
            variable.reset(token)
        except (ValueError, RuntimeError):
            return False
        scope.token = None
        variable.set(scope.around() if current is scope else current)
        return True


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


def _public_host_span(_: Any) -> SpanContext | None:
    try:
        return get_current_span().get_span_context()
    except Exception:  # a span of the host's own making
        return None


def _direct_host_span(context: Any) -> SpanContext | None:
    try:
        span = context.get(_SPAN_KEY)
        if span is not None:
            found: SpanContext | None = span.get_span_context()
            return found
    except Exception:  # a span of the host's own making
        pass
    return None


def _unknown_context(_: None) -> Any:
    return True


# OpenTelemetry's own function costs five times what reading its variable does; where the variable is not
# where we know it (another runtime context, a later version), the public way serves.
host_context: Callable[[None], Any] = _unknown_context
"""Returns what `host_span_in` takes; false where no host span is active, so that nobody need ask for it."""
host_span_in: Callable[[Any], SpanContext | None] = _public_host_span
"""Returns the host's active span."""
if isinstance(_host_variable, ContextVar) and _SPAN_KEY is not None:
    host_context, host_span_in = _host_variable.get, _direct_host_span


def host_span() -> SpanContext | None:
    """Return the host's active span, None where there is none."""
    context = host_context(None)
    return host_span_in(context) if context else None
