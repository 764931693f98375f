"""Turns what a host passes into what a record may hold: ids, labels, numbers, identities and failures."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from threading import get_ident
from types import CoroutineType
from typing import Any, Final, TypeAlias, cast

import orjson

from rootspan.description import kind_of
from rootspan.freeze import LABEL, LONGEST_ID, freeze, identifier, keep, thaw
from rootspan.log import Seldom
from rootspan.record import NOBODY, Frozen, Identity, Kept, Kind
from rootspan.settings import Settings

__all__ = ["Arguments", "Error", "failure", "joined", "merged", "outcome_of", "sole"]

_LONG: Final = 65_536  # bytes of properties from which on those that were set before are looked for
_MESSAGE: Final = 10_000  # characters of an error message
_TAGS: Final = 100
_STEPS: Final = (Kind.RETRIEVAL, Kind.MODEL, Kind.STEP, Kind.TOOL)
_TEXT: Final = {str}
_RARE_TOKENS: Final = ("cache_read_tokens", "cache_creation_tokens", "reasoning_tokens")
_GROUPS: Final = ("ExceptionGroup", "BaseExceptionGroup")
_CANCELLATIONS: Final = frozenset({("asyncio", "CancelledError"), ("trio", "Cancelled")})
_identity: Any = tuple.__dict__["__new__"]  # half the price of calling the class
Error: TypeAlias = "tuple[str | None, str | None]"
"""Type and message of a failure."""


class Arguments:
    """Takes any value for any argument: what cannot be used is left out, with one warning.

    Args:
        settings: the checked configuration.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.limit = settings.max_content_length
        self._seldom = Seldom()
        self._asking: set[int] = set()  # threads that ask the getters
        self.fixed_defaults, self._getters = self._split_defaults()
        self.defaults_are_fixed = not self._getters

    def _split_defaults(self) -> tuple[Identity | None, dict[str, Callable[[], Any]]]:
        names = ("user_id", "convo_id", "agent_name", "tags", "properties")
        values = {name: getattr(self.settings, name) for name in names}
        getters = {name: value for name, value in values.items() if callable(value)}
        fixed = self.identity(**{name: value for name, value in values.items() if name not in getters})
        return (None if fixed == NOBODY else fixed), getters

    def identity(
        self,
        user_id: object = None,
        convo_id: object = None,
        agent_name: object = None,
        tags: object = None,
        properties: object = None,
    ) -> Identity:
        """Return host values as an identity; what cannot be used is left out with one warning."""
        if agent_name is None and tags is None and properties is None:
            if user_id is None and convo_id is None:
                return NOBODY
            labels: tuple[str, ...] = ()
            agent = kept = None
        else:
            labels, agent, kept = self.tags(tags), self.label(agent_name), self.frozen(properties)
        if user_id is not None and (type(user_id) is not str or not user_id or len(user_id) > LONGEST_ID):
            user_id = self.id("user_id", user_id)
        if convo_id is not None and (type(convo_id) is not str or not convo_id or len(convo_id) > LONGEST_ID):
            convo_id = self.id("convo_id", convo_id)
        identity: Identity = _identity(Identity, (user_id, convo_id, labels, agent, kept))
        return identity

    def defaults(self) -> Identity | None:
        """Return the identity that `configure` gave, asking its getters."""
        thread = get_ident()
        if not self._getters or thread in self._asking:  # or one of them tracks something
            return self.fixed_defaults
        self._asking.add(thread)
        try:
            values = {name: self.asked("getter given to configure", name, ask) for name, ask in self._getters.items()}
        finally:
            self._asking.discard(thread)
        return merged(self.fixed_defaults or NOBODY, self.identity(**values))

    def asked(self, what: str, name: str, function: Callable[..., Any], *arguments: object) -> Any:
        """Return what a function of the host's says; one that raises, or is async, costs its field only."""
        try:
            value = function(*arguments)
            if type(value) is CoroutineType:
                value.close()
                self.warn(f"{what} {name}", f"the %s= {what} is async; it has to be a plain function", name)
                return None
            return value
        except BaseException as error:
            if _passes(error):
                raise
            self.warn(f"{what} {name}", f"the %s= {what} raised %r; the field is left out", name, error)
            return None

    def id(self, name: str, value: object) -> str | None:
        """Return a user or conversation id as text."""
        try:
            text = identifier(value)
        except Exception:
            text = None
        if text is None and type(value) is not str:
            kind = kind_of(value)
            self.warn(
                name, "%s has to be a str, an int or a UUID, not %s; it is left out. Pass str(...) of it.", name, kind
            )
        return text

    def tags(self, value: object) -> tuple[str, ...]:
        """Return tags as a tuple of text; a single str is one tag."""
        if value is None:
            return ()
        given: Any = value
        kind: Any = type(value)
        if kind is list or kind is tuple:
            labels: tuple[Any, ...] = tuple(given)
            if set(map(type, labels)) == _TEXT and len(labels) <= _TAGS and len("".join(labels)) <= LABEL:
                return labels
        if issubclass(kind, str):  # not isinstance: it asks the value's own `__class__`
            return (str.__str__(cast("str", value))[:LABEL],)
        items = thaw(freeze(value, self.limit))  # consumes no generator and runs none of the value's own code
        if isinstance(items, list):
            return tuple(str(self.label(item)) for item in cast("Sequence[Any]", items)[:_TAGS])
        self.warn("tags", "tags has to be a list of str, not %s; it is left out", kind_of(value))
        return ()

    def label(self, value: object) -> str | None:
        """Return a short name as text."""
        if value is None or type(value) is str:
            return value if value is None or len(value) <= LABEL else value[:LABEL]
        frozen = freeze(value, LABEL)
        return frozen.decode() if isinstance(frozen, bytes) else str(frozen)

    def name(self, value: object) -> str:
        """Return a span name as text; an empty one would be no name."""
        return self.label(value) or "event"

    def frozen(self, value: Any) -> Frozen:
        """Return `value` as it is now."""
        return None if value is None else freeze(value, self.limit)

    def kept(self, value: Any) -> Kept:
        """Return `value` as it is now, at the least cost for the caller."""
        if value is None or (type(value) is str and len(value) <= self.limit):
            return value
        return keep(value, self.limit)[0]

    def number(self, value: Any) -> Any:
        """Return a count or an amount as an immutable value; the dialect drops what is no number."""
        if value is None or type(value) is int or type(value) is float:
            return value
        return float(value) if type(value) is Decimal and value.is_finite() else freeze(value, LABEL)

    def nanoseconds(self, seconds: object) -> int:
        """Return a duration given in seconds, 0 for what is none."""
        try:
            return max(0, min(int(float(seconds) * 1e9), 2**62))  # type: ignore[arg-type]
        except KeyboardInterrupt:
            raise
        except BaseException:  # the value's own __float__ may raise anything
            self.warn("duration", "duration has to be a number of seconds, not %s", kind_of(seconds))
            return 0

    def timeout(self, seconds: object, default: float) -> float:
        """Return a time to wait, `default` for None and for what is none."""
        if seconds is None:
            return default
        try:
            return max(0.0, min(float(seconds), 86_400.0))  # type: ignore[arg-type]
        except KeyboardInterrupt:
            raise
        except BaseException:  # likewise
            self.warn("timeout", "timeout has to be a number of seconds, not %s", kind_of(seconds))
            return default

    def step_kind(self, kind: object) -> str:
        """Return what `start_step` opens: a plain step for what is no kind of one."""
        said = str.__str__(cast("str", kind)) if issubclass(type(kind), str) else None
        if said in _STEPS:
            return said
        told = kind_of(kind) if said is None else f"{said[:LABEL]!r}"
        self.warn("kind", "start_step opens a retrieval, model, tool or step, not %s; it is a plain step now", told)
        return Kind.STEP

    def rare(
        self,
        tags: object,
        agent_name: object,
        response_model: object,
        finish_reasons: object,
        operation: object,
        *tokens: object,
    ) -> dict[str, Any] | None:
        """Return the fields of an event that few events have, None omitted; None where there are none."""
        found: dict[str, Any] = {}
        if tags is not None and (labels := self.tags(tags)):
            found["tags"] = labels
        if agent_name is not None:
            found["agent_name"] = self.label(agent_name)
        if response_model is not None:
            found["response_model"] = self.label(response_model)
        if finish_reasons is not None and (labels := self.tags(finish_reasons)):
            found["finish_reasons"] = labels
        if operation is not None:
            found["operation"] = self.label(operation)
        for name, number in zip(_RARE_TOKENS, tokens, strict=True):
            if number is not None and (count := self.number(number)) is not None:
                found[name] = count
        return found or None

    def rest(
        self,
        now: int,
        duration: object,
        tokens_in: Any,
        tokens_out: Any,
        cost: Any,
        error: object,
        more: dict[str, Any] | None,
    ) -> tuple[tuple[int | None, Any, Any, Any, str | None, Error | None, dict[str, Any] | None], int]:
        """Return the fields of an event's record from `start` on, and the bytes that `weigh` will say they hold."""
        told = None if error is None else failure(error)
        size = 0 if told is None else len(told[1] or "")
        if more is not None:
            for name in more:
                if type(more[name]) is str:
                    size += len(more[name])
        fields = (
            None if duration is None else now - self.nanoseconds(duration),
            tokens_in if tokens_in is None or type(tokens_in) is int else self.number(tokens_in),
            tokens_out if tokens_out is None or type(tokens_out) is int else self.number(tokens_out),
            cost if cost is None or type(cost) is float else self.number(cost),
            None if told is None else "failure", told, more,
        )  # fmt: skip
        return fields, size

    def verdict(self, success: object, reason: BaseException | str | None) -> tuple[str | None, Error | None]:
        """Return the outcome and the failure that `finish` was told."""
        if success is None and reason is None:
            return None, None
        try:
            reached = success is not None and bool(success)
        except KeyboardInterrupt:
            raise
        except BaseException:  # an array has no one truth
            reached = False
        if not reached:
            return "failure", failure(reason) if reason is not None else (None, None)
        return "success", None

    def warn(self, topic: str, message: str, *arguments: object) -> None:
        """Log a warning about `topic` once."""
        self._seldom.say(topic, logging.WARNING, message, *arguments)


def merged(outer: Identity, inner: Identity) -> Identity:
    """Return `inner` where it says something, `outer` elsewhere; tags and properties of both."""
    if outer is NOBODY or outer == NOBODY:
        return inner
    if inner == NOBODY:
        return outer
    return Identity(
        inner.user_id or outer.user_id,
        inner.convo_id or outer.convo_id,
        outer.tags + tuple(tag for tag in inner.tags if tag not in outer.tags),
        inner.agent_name or outer.agent_name,
        joined(outer.properties, inner.properties),
    )


def joined(outer: Frozen, inner: Frozen) -> Frozen:
    """Return two JSON objects as one, the inner one's keys last, so that they win where both are read."""
    if outer is None or inner is None:
        return outer if inner is None else inner
    before, after = _object(outer), _object(inner)
    if len(before) > _LONG:  # updated again and again: one value for each key
        return orjson.dumps({**orjson.loads(before), **orjson.loads(after)})
    if len(before) > 2 and len(after) > 2:
        return before[:-1] + b"," + after[1:]
    return after if len(after) > 2 else before


def _object(frozen: Frozen) -> bytes:
    """Return a JSON object; what is none is called what the dialect calls it where it stands alone."""
    if not isinstance(frozen, bytes):
        frozen = cast("bytes", freeze([frozen], sys.maxsize))[1:-1]
    return frozen if frozen[:1] == b"{" else b'{"properties":%b}' % frozen


def _described(error: BaseException) -> Error:
    """Return type and message of an exception, whatever its own methods do."""
    kind = type(error)
    module = kind.__module__
    name = kind.__qualname__ if module in ("builtins", "__main__") else f"{module}.{kind.__qualname__}"
    try:
        return name, str(error)[:_MESSAGE]
    except KeyboardInterrupt:
        raise
    except BaseException:
        return name, None


def failure(error: object, kind: Frozen = None) -> Error:
    """Return type and message of what a host calls an error: an exception, or a message."""
    if issubclass(type(error), BaseException):
        own, message = _described(cast("BaseException", error))
        return str(kind) if kind else own, message
    frozen = freeze(error, _MESSAGE)
    return str(kind) if kind else None, frozen.decode() if isinstance(frozen, bytes) else str(frozen)


def sole(error: BaseException) -> BaseException:
    """Return the exception in a group of one, which is all that a task group says of it; any other as it is."""
    while type(error).__name__ in _GROUPS:  # by name: before Python 3.11 they are a library's
        inside: Any = getattr(error, "exceptions", ())
        if type(inside) not in (tuple, list) or len(inside) != 1:
            break
        error = inside[0]
    return error


def outcome_of(error: BaseException) -> tuple[str, Error | None]:
    """Return the outcome that an exception leaving a span means, and the failure if it is one."""
    error = sole(error)
    for kind in type(error).__mro__:  # by name: asyncio costs its import, trio may not be there
        if (str(kind.__module__).partition(".")[0], kind.__name__) in _CANCELLATIONS:
            return "cancelled", None
    if isinstance(error, GeneratorExit):
        return "abandoned", None
    return "failure", _described(error)


def _passes(error: BaseException) -> bool:
    """Return whether what a host's hook raised goes on to its caller, as `KeyboardInterrupt` does.

    A cancellation does not: the running task is cancelled at an `await`, so the hook asked what another one came to.
    """
    return not isinstance(error, Exception) and outcome_of(error)[0] != "cancelled"
