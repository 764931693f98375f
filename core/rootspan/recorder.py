"""What a tracker records with: the open spans, who encloses whom, and the way into the queue."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from time import time_ns
from types import MappingProxyType
from typing import Any, Final

from opentelemetry.trace import SpanContext

from rootspan.arguments import Arguments, Error, joined, merged
from rootspan.forks import forked, home
from rootspan.freeze import weight
from rootspan.host_span import host_context, host_span, host_span_in
from rootspan.ids import is_id, new_ids, new_span_id
from rootspan.log import log
from rootspan.open_span import ASKED, Holder, OpenSpan, holding, known_since, opened
from rootspan.pipeline import Pipeline
from rootspan.pipeline.queue import RECORD_BYTES, weigh
from rootspan.record import NOBODY, Identity, Kept, Kind
from rootspan.scope import Enclosing, Scope, ScopeLookup, inside
from rootspan.settings import Settings

__all__ = ["Recorder"]

_NEVER: Final = (None, False)  # what is known of a session that was not here
_REMEMBERED: Final = 10_000  # sessions that are open no more: told from another process's, and known to late steps


class Recorder(Arguments):
    """The state behind one tracker; everything here runs on the caller's thread.

    Args:
        settings: the checked configuration.
        pipeline: where records go.
    """

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        super().__init__(settings)
        self.enclosing = Enclosing()
        self.variable = self.enclosing.variable
        self.scope: Callable[[], Scope | None] = self.variable.get  # the innermost scope of the running code
        self.open: dict[OpenSpan, None] = {}  # a set in the order of beginning
        self.sessions: OrderedDict[str, OpenSpan] = OrderedDict()
        self.past: OrderedDict[str, tuple[Holder, bool]] = OrderedDict()  # whose they were, and whether completed
        self.pipeline = pipeline
        self.queue = pipeline.queue

    def start_afresh(self) -> None:
        """In a forked child: the parent's open spans are parents here, and only the parent finishes them."""
        self.pipeline.after_fork()
        self.open.clear()
        for ids, span in self.sessions.items():
            self._note_past(ids, span.holder, False)
        self.sessions.clear()

    def own_error(self) -> str:
        """Count and log a mistake of rootspan's own while it recorded; return the id of a span that is not there."""
        self.pipeline.ledger.drop("internal_error")
        log(logging.WARNING, "rootspan could not record a call because of an error of its own", exc_info=True)
        return "0" * 16

    # Places

    def place(self, scope: Scope | None) -> tuple[OpenSpan | None, Identity | None, SpanContext | str | None]:
        """Return the parent, the inherited identity and the link of a span that starts in `scope` now."""
        if scope is None:
            return None, self.fixed_defaults if self.defaults_are_fixed else self.defaults(), host_span()
        span = scope.span
        if (scope.lost or (span is not None and span.finished)) and self.enclosing.is_left(scope):
            return self.place(self.enclosing.around(scope))
        if span is None:
            return None, scope.holder.identity, host_span()
        parent = span.parent
        root = span if parent is None else span.root
        if root.ask is not None:  # before the identity is read: the first child has it, too
            root.ask()
        holder = scope.own or span.holder
        identity = holder.identity
        if holder is not root.holder or (parent is not None and parent is not root):  # else none above can know better
            identity = known_since(identity, span)
        if not span.finished:
            return span, identity, None
        while span is not None and span.finished:
            span = span.parent
        # What starts after its root ended is the same person's work, in a trace of its own.
        return span, identity, None if span is not None else root.ids

    def look_up_with(self, look_up: ScopeLookup) -> None:
        """Ask an adapter as well where the running code is; once for each look-up."""
        self.enclosing.register(look_up)
        self.scope = self.enclosing.scope

    def here(self) -> Scope | None:
        """Return the innermost scope that was not left elsewhere."""
        scope = self.scope()
        if scope is None or not self.enclosing.is_left(scope):
            return scope
        return self.enclosing.around(scope)

    def session_scope(self, session_id: object, scope: Scope | None) -> Scope | None:
        """Return the scope of a session addressed by id, `scope` for what is no session id."""
        if not is_id(session_id, 48):
            line = "session_id has to be what create_session returned; the step is recorded without it"
            self.warn("session_id", line)
            return scope
        session = self.sessions.get(session_id)
        if session is None:  # completed, or opened in another process: its ids are all that is left
            session = opened(Kind.SESSION, "", session_id, None, self._whose(session_id), 0)
        return inside(session, None, scope)

    def begin_scope(self, scope: Scope | None) -> Scope | None:
        """Return the scope in which a bare `begin` opens: not in an unfinished bare one."""
        own = None  # of a `context` inside a bare one: whose work it is
        while scope is not None and (scope.lost or scope.bare):
            if scope.lost:
                scope = scope.around()
            else:
                own, scope = own or scope.own, scope.base
        if self.enclosing.look_ups:
            scope = self.enclosing.named(scope)
        return scope if own is None else inside(None if scope is None else scope.span, own, scope)

    # Spans with a lifetime

    def start(
        self,
        kind: str,
        name: str,
        scope: Scope | None = None,
        identity: Identity = NOBODY,
        trace_id: str | None = None,
    ) -> OpenSpan:
        """Open a span in `scope`; `identity` holds what was given for it explicitly, `trace_id` is for a root."""
        if not home[0]:
            forked()
        holder = None
        if scope is None:
            inherited = self.fixed_defaults if self.defaults_are_fixed else self.defaults()
            parent = None
            context = host_context(None)  # what `host_span` does, without its call
            link: SpanContext | str | None = host_span_in(context) if context else None
        else:
            parent, inherited, link = self.place(scope)
            if parent is not None:
                trace_id = parent.ids
                if identity is NOBODY or identity == NOBODY:
                    parent.took()
                    if scope.holder is parent.holder and inherited is parent.holder.identity:
                        holder = parent.holder
                else:
                    parent.took(identity.user_id, identity.convo_id, identity.agent_name)
        if holder is None:
            holder = Holder()  # what `holding` does, without its call
            holder.identity = identity if inherited is None else merged(inherited, identity)
        span = opened(kind, name, new_ids(trace_id), parent, holder, time_ns(), link)
        self.open[span] = None
        return span

    def stand_in(self, kind: str) -> OpenSpan:
        """Count an error of rootspan's own, and return a span that will not be recorded."""
        self.own_error()
        return opened(kind, "event", new_ids(), None, holding(NOBODY), time_ns())

    def finish(
        self, span: OpenSpan, outcome: str | None = None, error: Error | None = None, end: int | None = None
    ) -> bool:
        """Record an open span; return False when it was finished before or belongs to the parent of a fork."""
        if not home[0]:
            forked()
        try:
            del self.open[span]
        except KeyError:
            return False
        parent = span.parent
        if parent is None and span.ask is not None:
            span.ask()
        span.finished = True
        if parent is not None or span.has_children:
            span.settle()
        fields, identity = span.fields, span.holder.identity
        if parent is not None and (parent.parent is not None or span.holder is not parent.holder):
            identity = known_since(identity, parent)
            if span.kind == Kind.SESSION:  # its late steps ask for it; another's holder may be shared with those above
                span.holder.identity = identity
        if end is None:
            end = time_ns()
        input, output, tokens = span.input, span.output, span.tokens
        record = (
            span.kind, span.ids, span.ids, None if parent is None else parent.ids, span.link,
            end if end > span.start else span.start, span.name, identity, None, None,
            span.model, span.provider, input, output, span.properties, span.start,
            tokens[0], tokens[1], tokens[2], outcome, error, fields,
        )  # fmt: skip
        if (  # what `weigh` says, without its call
            error is None and span.properties is None and identity.properties is None
            and (fields is None or type(fields) is MappingProxyType)
        ):  # fmt: skip
            size = RECORD_BYTES
            if input is not None:
                size += len(input) if type(input) is str else weight(input)
            if output is not None:
                size += len(output) if type(output) is str else weight(output)
        else:
            size = weigh(record)
        self.queue.put(record, size)
        return True

    def step(
        self,
        kind: str,
        name: str,
        scope: Scope | None,
        input: Kept = None,
        output: Kept = None,
        error: Error | None = None,
        fields: Mapping[str, Any] | None = None,
        duration: float | None = None,
    ) -> str:
        """Record a step that is complete already; return its span id."""
        if not home[0]:
            forked()
        span_id = new_span_id()
        above, inherited, link = self.place(scope)
        parent = None
        if above is not None:
            above.took()
            parent = above.ids
        now = time_ns()
        start = now if duration is None else now - self.nanoseconds(duration)
        record = (
            kind, parent, span_id, parent, link, now, name, inherited, None, None, None, None, input, output, None,
            start, None, None, None, None if error is None else "failure", error, fields or None,
        )  # fmt: skip
        self.queue.put(record, weigh(record))
        return span_id

    def began(self, span: OpenSpan) -> None:
        """Let a spool know of an interaction, for the case that this process dies before it finishes."""
        if self.queue.spools and span in self.open:
            self.queue.begin((
                span.kind, span.ids, span.ids, None if span.parent is None else span.parent.ids, span.link,
                span.start, span.name, span.holder.identity, None, None, span.model, span.provider,
                span.input, None, span.properties, span.start, None, None, None, "unfinished", None, span.fields,
            ))  # fmt: skip

    def forgo(self, span: OpenSpan) -> None:
        """End an open span without recording it."""
        self.open.pop(span, None)
        span.finished = True

    def update(
        self, span: OpenSpan, input: Any, output: Any, properties: Any, model: object = None, provider: object = None
    ) -> None:
        """Set what has become known of an open span."""
        if input is not None:
            span.input = self.kept(input)
            if span.parent is not None and span.kind in ASKED and not span.finished:
                span.parent.took(call_input=span.input)
        if output is not None:
            span.output = self.kept(output)
        if properties is not None:
            span.properties = joined(span.properties, self.frozen(properties))
        if model is not None:
            span.model = self.label(model)
        if provider is not None:
            span.provider = self.label(provider)

    def update_totals(self, span: OpenSpan, tokens_in: object, tokens_out: object, cost: object) -> None:
        """Set tokens and cost of an open span where they are given."""
        if not (tokens_in is tokens_out is cost is None):  # `!=` would ask an array for its truth
            before = span.tokens
            span.tokens = (
                before[0] if tokens_in is None else self.number(tokens_in),
                before[1] if tokens_out is None else self.number(tokens_out),
                before[2] if cost is None else self.number(cost),
            )

    def update_identity(
        self,
        holders: Iterable[Holder],
        user_id: object = None,
        convo_id: object = None,
        agent_name: object = None,
        tags: object = None,
        properties: object = None,
    ) -> None:
        """Let new values win over those that the holders have."""
        new = self.identity(user_id, convo_id, agent_name, tags, properties)
        if new != NOBODY:
            for holder in holders:
                holder.identity = merged(holder.identity, new)

    def set_apart(self, span: OpenSpan) -> None:
        """Give a step that shares its parent's identity one of its own, which may then change by itself.

        What is open below it and shares that as well goes with it.
        """
        if span.parent is not None and span.holder is span.parent.holder:
            shared, span.holder = span.holder, holding(span.holder.identity)
            if span.has_children:
                for other in list(self.open):
                    if other.holder is shared and other.is_in(span):
                        other.holder = span.holder

    def identity_scope(self, identity: Identity) -> Scope:
        """Return a scope where the running code is, in the same span, with an identity beside what holds there."""
        scope = self.here()
        outer = self.place(scope)[1]
        return inside(None if scope is None else scope.span, holding(merged(outer or NOBODY, identity)), scope)

    def holders(self, scope: Scope) -> list[Holder]:
        """Return every identity from a scope up to its root, each once."""
        found = {scope.holder: None}
        span = scope.span
        if span is not None:
            root, inner = span.root, scope.outer
            while inner is not None and inner.span is not None and inner.span.root is root:  # a `context` in between
                found[inner.holder] = None
                inner = inner.outer
        while span is not None:
            found[span.holder] = None
            span = span.parent
        return list(found)

    def feedback(self, name: str, target: str | None, identity: Identity, fields: dict[str, Any]) -> str:
        """Record a judgement about another span: a root of its own, linked where the trace is known."""
        if not home[0]:
            forked()
        span_id = new_span_id()
        record = (
            Kind.FEEDBACK, None, span_id, None, target, time_ns(), name, identity, None, None, None, None, None, None,
            None, None, None, None, None, None, None, fields,
        )  # fmt: skip
        self.queue.put(record, weigh(record))
        return span_id

    # Sessions by id

    def keep_session(self, span: OpenSpan) -> None:
        """Keep a session addressable by id, within the bounds of count and age."""
        self.sessions[span.ids] = span
        oldest_start = span.start - int(self.settings.session_timeout * 1e9)
        while True:
            try:
                ids, oldest = next(iter(self.sessions.items()))
            except (StopIteration, RuntimeError):  # another thread was faster
                break
            if len(self.sessions) <= self.settings.max_open_sessions and oldest.start >= oldest_start:
                break
            self.sessions.pop(ids, None)
            self._note_past(ids, oldest.holder, False)
            self.finish(oldest, "unfinished")

    def take_session(self, ids: object) -> tuple[OpenSpan | None, bool]:
        """Return the open session of that id, to complete it, and whether that was done before."""
        if not is_id(ids, 48):
            return None, False
        if not home[0]:  # in a child only the outcome is recorded
            forked()
        span = self.sessions.pop(ids, None)
        completed = self.past.get(ids, _NEVER)[1]
        if not completed:
            self._note_past(ids, self._whose(ids) if span is None else span.holder, True)
        return span, completed

    def _note_past(self, ids: str, holder: Holder, completed: bool) -> None:
        self.past[ids] = holder, completed
        while len(self.past) > _REMEMBERED:
            self.past.popitem(last=False)

    def session_identity(self, ids: str) -> Identity | None:
        """Return whose work a session is or was; None when it was opened elsewhere, or too long ago."""
        span = self.sessions.get(ids)
        if span is not None:
            return self.identity_of(span)
        holder = self.past.get(ids, _NEVER)[0]
        return None if holder is None else holder.identity

    def identity_of(self, span: OpenSpan) -> Identity:
        """Return whose work a span is, as far as that is known."""
        if span.root.ask is not None:
            span.root.ask()
        return span.whose

    def _whose(self, ids: str) -> Holder:
        """Return whose work a step of a session is that is not open here."""
        return self.past.get(ids, _NEVER)[0] or holding(self.defaults() or NOBODY)

    # The end

    def close(self, timeout: float, at_exit: bool = False) -> bool:
        """Record what is still open as unfinished, then deliver within `timeout` seconds."""
        if not home[0]:  # a child that no fork hook saw: all this is its parent's
            forked()
        for span in list(self.open):
            self.finish(span, "unfinished")
        self.sessions.clear()
        return self.pipeline.shutdown(timeout, at_exit)
