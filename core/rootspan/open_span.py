"""What has begun and not yet finished: the spans that the caller's threads share until one of them records it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from opentelemetry.trace import SpanContext

from rootspan.record import Frozen, Identity, Kept, Kind

__all__ = ["ASKED", "BELOW", "UNKNOWN", "Holder", "OpenSpan", "holding", "known_since", "opened"]

Totals: TypeAlias = "tuple[int | None, int | None, float | None]"
"""Input tokens, output tokens and cost."""

UNKNOWN: Final = (None, None, None)
"""What three of a kind are while nobody told any of them."""
_TOKENS: Final = 1
_COST: Final = 2
BELOW: Final = tuple(
    MappingProxyType({"has_children": True} | dict.fromkeys(names, True))
    for names in ((), ("tokens_below",), ("cost_below",), ("tokens_below", "cost_below"))
)
"""The fields of a span that has children, by what those carry; as proxies, which many share and which weigh nothing."""
ASKED: Final = (Kind.INTERACTION, Kind.SESSION, Kind.MODEL)
"""Kinds of spans that have a question and an answer, which the root above them takes where it lacks its own."""


class Holder:
    """An identity that may still change; spans share one unless they were given values of their own."""

    __slots__ = ("identity",)

    identity: Identity


class OpenSpan:
    """An interaction, session, request or step that has begun and not yet finished; made by `opened`."""

    __slots__ = (
        "adopts", "ask", "fields", "finished", "first_input", "has_children", "holder", "ids", "input", "kind",
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
    adopts: bool  # takes what it lacks from its children, once it ends: the next child may be somebody else's
    named: tuple[str | None, str | None, str | None]  # user, conversation and agent, each of the first that names one
    ask: Callable[[], None] | None  # an adapter's hook for the identity, asked at the first child
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

    def is_in(self, span: OpenSpan) -> bool:
        """Return whether it is that span, or below it."""
        inner: OpenSpan | None = self
        while inner is not None and inner is not span:
            inner = inner.parent
        return inner is not None

    @property
    def whose(self) -> Identity:
        """Whose work it is, as known so far: also from what is above it, or of a root what its children say."""
        own, parent = self.holder.identity, self.parent
        if parent is not None:
            return known_since(own, parent)
        if self.named is UNKNOWN:
            return own
        user, convo, agent = self.named
        return own._replace(
            user_id=own.user_id or user, convo_id=own.convo_id or convo, agent_name=own.agent_name or agent
        )

    def took(
        self,
        user_id: str | None = None,
        convo_id: str | None = None,
        agent_name: str | None = None,
        call_input: Kept = None,
        call_output: Kept = None,
        tokens: Totals = UNKNOWN,
    ) -> None:
        """Note a child, or what has become known of it; a root that adopts keeps what it may lack.

        Args:
            user_id: whose work the child says that it is; the first one counts.
            convo_id: likewise.
            agent_name: likewise.
            call_input: what it was asked, of a call of a model or what asks one; the first one counts.
            call_output: what it answered, likewise; the last one counts.
            tokens: what it used: totals of those above it must not count that twice.
        """
        root = self if self.parent is None else self.root
        self.has_children = root.has_children = True
        if tokens is not UNKNOWN:
            used = _TOKENS if tokens[0] is not None or tokens[1] is not None else 0
            if tokens[2] is not None:
                used |= _COST
            above: OpenSpan | None = self
            while above is not None:
                above.usage_below |= used
                above = above.parent
        if root.adopts:
            if root.first_input is None:
                root.first_input = call_input
            if call_output is not None:
                root.last_output = call_output
            user, convo, agent = root.named
            if (user_id and not user) or (convo_id and not convo) or (agent_name and not agent):
                root.named = (user or user_id or None, convo or convo_id or None, agent or agent_name or None)

    def settle(self) -> None:
        """Let those above know what it was asked and answered; a root takes what it lacks from its children."""
        parent = self.parent
        if parent is not None:
            asked = self.model is not None or self.kind in ASKED
            call_input, call_output = (self.input, self.output) if asked else (None, None)
            if call_input is not None or call_output is not None or self.tokens is not UNKNOWN:
                parent.took(None, None, None, call_input, call_output, self.tokens)
        elif self.adopts:
            if self.input is None:
                self.input = self.first_input
            if self.output is None:
                self.output = self.last_output
            self.first_input = self.last_output = None
            self.holder.identity = self.whose
            self.adopts = False
        if self.has_children:
            fields, told = self.fields, BELOW[self.usage_below]
            if fields is None:
                self.fields = told
            elif not told.keys() <= fields.keys():
                self.fields = {**fields, **told}

    def set(self, **fields: Any) -> None:
        """Keep rare fields for the record, None omitted."""
        present = {name: value for name, value in fields.items() if value is not None}
        if present:
            self.fields = {**self.fields, **present} if self.fields else present


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
    span.tokens = span.named = UNKNOWN
    span.finished = span.adopts = span.told = span.has_children = False
    span.usage_below = 0
    return span


def known_since(identity: Identity, span: OpenSpan) -> Identity:
    """Return an identity with the user, conversation and agent that became known after it was taken.

    Args:
        identity: what was known then.
        span: the innermost span that may know better; those above it come after it.
    """
    user, convo, agent = identity.user_id, identity.convo_id, identity.agent_name
    above: OpenSpan | None = span
    while above is not None:
        known = above.holder.identity
        user, convo, agent = user or known.user_id, convo or known.convo_id, agent or known.agent_name
        above = above.parent
    if user == identity.user_id and convo == identity.convo_id and agent == identity.agent_name:
        return identity
    return identity._replace(user_id=user, convo_id=convo, agent_name=agent)
