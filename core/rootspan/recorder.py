"""What a tracker records with: the open spans, who encloses whom, and the way into the queue."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from time import time_ns
from typing import Any, Final, TypeAlias

from opentelemetry.trace import SpanContext

from rootspan.freeze import freeze, identifier
from rootspan.pipeline import Pipeline, weigh
from rootspan.record import Frozen, Identity, Kind
from rootspan.scope import Enclosing, Holder, OpenSpan, Scope, forget_ids, host_span, new_ids, open_ancestor
from rootspan.settings import Settings

__all__ = ["Error", "Recorder", "described", "failure", "merged", "outcome_of"]

logger = logging.getLogger("rootspan")

_EMPTY: Final = Identity()
_LABEL: Final = 1_000  # characters of a name, a model or an error type
_RARE_TOKENS: Final = ("cache_read_tokens", "cache_creation_tokens", "reasoning_tokens")
_REMEMBERED: Final = 10_000  # completed sessions whose second completion is told from another process's
_CANCELLATIONS: Final = frozenset({("asyncio", "CancelledError"), ("trio", "Cancelled")})
Error: TypeAlias = "tuple[str | None, str | None]"


class Recorder:
    """The state behind one tracker; everything here runs on the caller's thread.

    Args:
        settings: the checked configuration.
        pipeline: makes the queue and its worker; given the function to call in a forked child.
    """

    def __init__(self, settings: Settings, pipeline: Callable[[Callable[[], None]], Pipeline]) -> None:
        self.settings = settings
        self.limit = settings.max_content_length
        self.enclosing = Enclosing()
        self.variable = self.enclosing.variable
        self.open: dict[str, OpenSpan] = {}
        self.sessions: OrderedDict[str, OpenSpan] = OrderedDict()
        self._completed: OrderedDict[str, None] = OrderedDict()
        self._warned: set[str] = set()
        self.pipeline = pipeline(self._forget)
        self._fixed_defaults, self._getters = self._split_defaults()

    def _forget(self) -> None:
        """In a forked child: the parent's open spans are parents here, and only the parent finishes them."""
        forget_ids()
        self.open.clear()
        self.sessions.clear()

    # Identity

    def _split_defaults(self) -> tuple[Identity | None, dict[str, Callable[[], Any]]]:
        names = ("user_id", "convo_id", "agent_name", "tags", "properties")
        values = {name: getattr(self.settings, name) for name in names}
        getters = {name: value for name, value in values.items() if callable(value)}
        fixed = self.identity(**{name: value for name, value in values.items() if name not in getters})
        return (None if fixed == _EMPTY else fixed), getters

    def identity(
        self,
        user_id: object = None,
        convo_id: object = None,
        agent_name: object = None,
        tags: object = None,
        properties: object = None,
    ) -> Identity:
        """Return host values as an identity; what cannot be used is left out with one warning."""
        return Identity(
            self.id("user_id", user_id),
            self.id("convo_id", convo_id),
            self.tags(tags),
            self.label(agent_name),
            freeze(properties, self.limit) if properties else None,
        )

    def defaults(self) -> Identity | None:
        """Return the identity that `configure` gave, asking its getters."""
        if not self._getters:
            return self._fixed_defaults
        values: dict[str, Any] = {}
        for name, getter in self._getters.items():
            try:
                values[name] = getter()
            except Exception as error:
                self.warn(f"getter {name}", "the %s= getter given to configure raised %r; the field is left out", name, error)
        return merged(self._fixed_defaults or _EMPTY, self.identity(**values))

    def id(self, name: str, value: object) -> str | None:
        """Return a user or conversation id as text."""
        if value is None:
            return None
        try:
            text = identifier(value)
        except Exception:
            text = None
        if text is None and value != "":
            kind = type(value).__name__
            self.warn(name, "%s has to be a str, an int or a UUID, not %s; it is left out. Pass str(...) of it.", name, kind)
        return text

    def tags(self, value: object) -> tuple[str, ...]:
        """Return tags as a tuple of text; a single str is one tag."""
        if not value:
            return ()
        if isinstance(value, str):
            return (value,)
        try:
            return tuple(str(self.label(item)) for item in list(value)[:100])  # type: ignore[call-overload]
        except Exception:
            self.warn("tags", "tags has to be a list of str, not %s; it is left out", type(value).__name__)
            return ()

    def label(self, value: object) -> str | None:
        """Return a short name as text."""
        if value is None or type(value) is str:
            return value if value is None or len(value) <= _LABEL else value[:_LABEL]
        frozen = freeze(value, _LABEL)
        return frozen.decode() if isinstance(frozen, bytes) else str(frozen)

    def name(self, value: object) -> str:
        """Return a span name as text; an empty one would be no name."""
        return self.label(value) or "event"

    def frozen(self, value: Any) -> Frozen:
        """Return `value` as it is now."""
        return None if value is None else freeze(value, self.limit)

    def number(self, value: Any) -> Any:
        """Return a count or an amount as an immutable value; the dialect drops what is no number."""
        return value if value is None or type(value) is int or type(value) is float else freeze(value, _LABEL)

    def nanoseconds(self, seconds: object) -> int:
        """Return a duration given in seconds, 0 for what is none."""
        try:
            return max(0, min(int(float(seconds) * 1e9), 2**62))  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            self.warn("duration", "duration has to be a number of seconds, not %s", type(seconds).__name__)
            return 0

    def rare(
        self,
        tags: object,
        agent_name: object,
        response_model: object,
        finish_reasons: object,
        operation: object,
        *tokens: object,
    ) -> dict[str, Any]:
        """Return the fields of an event that few events have, None omitted."""
        values = {
            "tags": self.tags(tags),
            "agent_name": self.label(agent_name),
            "response_model": self.label(response_model),
            "finish_reasons": self.tags(finish_reasons),
            "operation": self.label(operation),
            **dict(zip(_RARE_TOKENS, map(self.number, tokens), strict=True)),
        }
        return {name: value for name, value in values.items() if value is not None and value != ()}

    def own_error(self) -> str:
        """Count and log a mistake of rootspan's own while it recorded; return the id of a span that is not there."""
        self.pipeline.drop("internal_error")
        logger.warning("rootspan could not record a call because of an error of its own", exc_info=True)
        return "0" * 16

    def warn(self, topic: str, message: str, *arguments: object) -> None:
        """Log a warning about `topic` once."""
        if topic not in self._warned:
            self._warned.add(topic)
            logger.warning(message, *arguments)

    # Places

    def place(self, scope: Scope | None) -> tuple[OpenSpan | None, Identity | None, SpanContext | str | None]:
        """Return the parent, the inherited identity and the link of a span that starts in `scope` now."""
        if scope is None:
            return None, self.defaults(), self.host()
        span, identity = scope.span, scope.holder.identity
        if span is None:
            return None, identity, self.host()
        if not span.finished:
            return span, identity, None
        parent = open_ancestor(span)
        # What starts after its root ended is the same person's work, in a trace of its own.
        return parent, identity, None if parent is not None else span.root.ids

    def scope(self) -> Scope | None:
        """Return the innermost scope of the running code, or None outside of any."""
        return self.enclosing.scope() if self.enclosing.look_ups else self.variable.get()

    def session_scope(self, session_id: object, scope: Scope | None) -> Scope | None:
        """Return the scope of a session addressed by id, `scope` for what is no session id."""
        session = self.session(session_id)
        if session is None:
            return scope
        if isinstance(session, str):  # opened in another process: its ids are all that is known
            session = OpenSpan(Kind.SESSION, "", session, None, Holder(_EMPTY), 0)
        return Scope(session, session.holder, scope)

    def host(self) -> SpanContext | None:
        """Return the context of the host's active span, for a link to it."""
        try:
            return host_span()
        except Exception:
            return None

    def begin_scope(self) -> Scope | None:
        """Return the scope in which a bare `begin` opens: not in an unfinished bare one."""
        scope = self.enclosing.scope()
        while scope is not None and scope.span is not None and scope.span.bare and not scope.pinned:
            if scope.holder is not scope.span.holder:  # a `context` inside it: keep whose work it is
                parent = scope.span.parent
                while parent is not None and parent.bare:
                    parent = parent.parent
                return Scope(parent, scope.holder, scope.outer)
            scope = scope.outer
        return scope

    # Spans with a lifetime

    def start(self, kind: str, name: str, scope: Scope | None, identity: Identity = _EMPTY) -> OpenSpan:
        """Open a span in `scope`; `identity` holds what was given for it explicitly."""
        parent, inherited, link = self.place(scope)
        if parent is not None and identity == _EMPTY and scope is not None and scope.holder is parent.holder:
            holder = parent.holder
        else:
            holder = Holder(merged(inherited or _EMPTY, identity))
        if parent is not None:
            parent.took(identity.user_id, identity.convo_id, identity.agent_name)
        ids = new_ids()
        if parent is not None:
            ids = parent.ids[:32] + ids[32:]
        span = OpenSpan(kind, name, ids, parent, holder, time_ns())
        span.link = link
        self.open[ids] = span
        return span

    def stand_in(self, kind: str) -> OpenSpan:
        """Count an error of rootspan's own, and return a span that will not be recorded."""
        self.own_error()
        return OpenSpan(kind, "event", new_ids(), None, Holder(_EMPTY), time_ns())

    def finish(
        self, span: OpenSpan, outcome: str | None = None, error: Error | None = None, end: int | None = None
    ) -> bool:
        """Record an open span; return False when it was finished before or belongs to the parent of a fork."""
        if self.open.pop(span.ids, None) is None:
            return False
        if span.root is span and span.ask is not None:
            span.ask()
        span.finished = True
        if span.adopts:
            span.input = span.first_input if span.input is None else span.input
            span.output = span.last_output if span.output is None else span.output
        if span.parent is not None and (span.kind == Kind.MODEL or span.model is not None):
            span.took_call(span.input, span.output, span.tokens != (None, None, None))
        if span.has_children:
            span.set(has_children=True, usage_below=span.usage_below or None)
        tokens = span.tokens
        record = (
            span.kind, span.ids, span.ids, None if span.parent is None else span.parent.ids, span.link,
            span.start, max(end or time_ns(), span.start), span.name, span.holder.identity, None, None,
            span.model, span.provider, span.input, span.output, span.properties,
            tokens[0], tokens[1], tokens[2], outcome, error, span.fields,
        )  # fmt: skip
        self.pipeline.put(record, weigh(record))
        return True

    def step(
        self,
        kind: str,
        name: str,
        parent: OpenSpan | str | None,
        scope: Scope | None,
        *,
        input: Frozen = None,
        output: Frozen = None,
        error: Error | None = None,
        fields: Mapping[str, Any] | None = None,
        duration: float | None = None,
    ) -> str:
        """Record a step that is complete already; return its span id.

        Args:
            parent: the span or the 48 characters of the session it belongs to; None for the enclosing one.
        """
        ids, link = new_ids(), None
        identity: Identity | None = None
        if parent is None:
            parent, identity, link = self.place(scope)
        elif isinstance(parent, OpenSpan):
            identity = parent.holder.identity
        if isinstance(parent, OpenSpan):
            parent.took()
            parent = parent.ids
        now = time_ns()
        start = now if duration is None else now - self.nanoseconds(duration)
        record = (
            kind, parent or ids, ids, parent, link, start, now, name, identity, None, None, None, None, input, output,
            None, None, None, None, "failure" if error else None, error, fields or None,
        )  # fmt: skip
        self.pipeline.put(record, weigh(record))
        return ids[32:]

    def forgo(self, span: OpenSpan) -> None:
        """End an open span without recording it."""
        self.open.pop(span.ids, None)
        span.finished = True

    def verdict(self, success: object, reason: BaseException | str | None) -> tuple[str | None, Error | None]:
        """Return the outcome and the failure that `finish` was told."""
        if success is None and reason is None:
            return None, None
        if success is None or not success:
            return "failure", failure(reason) if reason is not None else (None, None)
        return "success", None

    def update(
        self, span: OpenSpan, input: Any, output: Any, properties: Any, model: object = None, provider: object = None
    ) -> None:
        """Set what has become known of an open span."""
        if input is not None:
            span.input = self.frozen(input)
        if output is not None:
            span.output = self.frozen(output)
        if properties is not None:
            span.properties = _joined(span.properties, self.frozen(properties))
        if model is not None:
            span.model = self.label(model)
        if provider is not None:
            span.provider = self.label(provider)

    def update_totals(self, span: OpenSpan, tokens_in: object, tokens_out: object, cost: object) -> None:
        """Set tokens and cost of an open span where they are given."""
        given = (tokens_in, tokens_out, cost)
        if given != (None, None, None):
            before = span.tokens
            span.tokens = tuple(  # type: ignore[assignment]
                old if new is None else self.number(new) for old, new in zip(before, given, strict=True)
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
        if new != _EMPTY:
            for holder in holders:
                holder.identity = merged(holder.identity, new)

    def identity_scope(
        self, span: OpenSpan | None, outer: Identity | None, identity: Identity, scope: Scope | None
    ) -> Scope:
        """Return a scope in the same span with an identity of its own."""
        return Scope(span, Holder(merged(outer or _EMPTY, identity)), scope)

    def holders(self, scope: Scope) -> list[Holder]:
        """Return every identity from a scope up to its root, each once."""
        found = [scope.holder]
        span = scope.span
        while span is not None:
            if all(holder is not span.holder for holder in found):
                found.append(span.holder)
            span = span.parent
        return found

    def feedback(
        self,
        name: str,
        target: str | None,
        inherited: Identity | None,
        own: Identity,
        fields: dict[str, Any],
    ) -> str:
        """Record a judgement about another span: a root of its own, linked where the trace is known."""
        ids, now = new_ids(), time_ns()
        identity = inherited if inherited is not None else self.place(self.scope())[1]
        record = (
            Kind.FEEDBACK, ids, ids, None, target, now, now, name, identity, own.user_id, own.convo_id, None, None,
            None, None, None, None, None, None, None, None, fields,
        )  # fmt: skip
        self.pipeline.put(record, weigh(record))
        return ids[32:]

    # Sessions by id

    def keep_session(self, span: OpenSpan) -> None:
        """Keep a session addressable by id, within the bounds of count and age."""
        self.sessions[span.ids] = span
        oldest_start = span.start - int(self.settings.session_timeout * 1e9)
        while self.sessions:
            try:
                ids, oldest = next(iter(self.sessions.items()))
            except (StopIteration, RuntimeError):  # another thread was faster
                break
            if len(self.sessions) <= self.settings.max_open_sessions and oldest.start >= oldest_start:
                break
            self.sessions.pop(ids, None)
            self.finish(oldest, "unfinished")

    def take_session(self, ids: str) -> tuple[OpenSpan | None, bool]:
        """Return the open session of that id, to complete it, and whether it was completed here before."""
        span = self.sessions.pop(ids, None)
        known = ids in self._completed
        if span is not None:
            self._completed[ids] = None
            while len(self._completed) > _REMEMBERED:
                self._completed.popitem(last=False)
        return span, known

    def session(self, session_id: object) -> OpenSpan | str | None:
        """Return what a step of that session hangs below: the session open here, or its id from elsewhere."""
        if session_id is None:
            return None
        if isinstance(session_id, str) and len(session_id) == 48 and not session_id.strip("0123456789abcdef"):
            return self.sessions.get(session_id) or session_id
        self.warn("session_id", "session_id has to be what create_session returned; the step is recorded without it")
        return None

    # The end

    def close(self, timeout: float, at_exit: bool = False) -> bool:
        """Record what is still open as unfinished, then deliver within `timeout` seconds."""
        for span in list(self.open.values()):
            self.finish(span, "unfinished")
        self.sessions.clear()
        return self.pipeline.shutdown(timeout, at_exit)


def merged(outer: Identity, inner: Identity) -> Identity:
    """Return `inner` where it says something, `outer` elsewhere; tags and properties of both."""
    if outer is _EMPTY or outer == _EMPTY:
        return inner
    if inner == _EMPTY:
        return outer
    return Identity(
        inner.user_id or outer.user_id,
        inner.convo_id or outer.convo_id,
        outer.tags + tuple(tag for tag in inner.tags if tag not in outer.tags),
        inner.agent_name or outer.agent_name,
        _joined(outer.properties, inner.properties),
    )


def _joined(outer: Frozen, inner: Frozen) -> Frozen:
    """Return two JSON objects as one, the inner one's keys last, so that they win where both are read."""
    if not isinstance(outer, bytes) or not isinstance(inner, bytes):
        return outer if inner is None else inner
    if outer[:1] == b"{" == inner[:1] and len(outer) > 2 and len(inner) > 2:
        return outer[:-1] + b"," + inner[1:]
    return inner if len(inner) > 2 else outer


def described(error: BaseException) -> Error:
    """Return type and message of an exception, whatever its own methods do."""
    kind = type(error)
    module = kind.__module__
    name = kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"
    try:
        return name, str(error)[:10_000]
    except KeyboardInterrupt:
        raise
    except BaseException:
        return name, None


def failure(error: object, kind: Frozen = None) -> Error:
    """Return type and message of what a host calls an error: an exception, or a message."""
    if isinstance(error, BaseException):
        own, message = described(error)
        return str(kind) if kind else own, message
    message = freeze(error, 10_000)
    return str(kind) if kind else None, message.decode() if isinstance(message, bytes) else str(message)


def outcome_of(error: BaseException) -> tuple[str, Error | None]:
    """Return the outcome that an exception leaving a span means, and the failure if it is one."""
    for kind in type(error).__mro__:  # by name: asyncio costs its import, trio may not be there
        if (kind.__module__.partition(".")[0], kind.__name__) in _CANCELLATIONS:
            return "cancelled", None
    if isinstance(error, GeneratorExit):
        return "abandoned", None
    return "failure", described(error)
