"""A span in the making: its record, what it has so far, and how a value becomes an attribute."""

# Host values are told apart at run time, so what they hold is unknown by nature:
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import orjson

from rootspan import semconv
from rootspan.description import integer
from rootspan.dialect.encoded import SHORT, elide, holds_bytes
from rootspan.dialect.json_like import dumps
from rootspan.dialect.lengths import cut_to, fit
from rootspan.freeze import LABEL, freeze
from rootspan.record import AttributeValue, Chat, Kept, Record
from rootspan.redaction import Redactor

if TYPE_CHECKING:
    from rootspan.settings import Settings

__all__ = ["Draft", "Part", "Parts", "Plan"]

_MARK: Final = 64  # `freeze` keeps `max_content_length` characters and adds a mark; that is not cut again
_COPIES: Final = frozenset({dict, list, Chat})
_FIELDS: Final = frozenset({dict, MappingProxyType})
_NOTHING: Final[Mapping[str, Any]] = {}


class Plan:
    """What follows from one `Settings`, worked out once.

    Args:
        settings: the tracker's settings.
    """

    __slots__ = ("agent_name", "capture", "extras", "limited", "redactor", "settings", "slack")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.redactor = Redactor(
            text=settings.redact_text,
            pii=settings.redact_pii,
            keys=settings.redact_keys,
            hook=settings.redact,
            secrets=() if settings.api_key is None else (settings.api_key.reveal(),),
        )
        named = settings.agent_name if isinstance(settings.agent_name, str) else settings.service_name
        self.agent_name = self.redactor.word(named) if isinstance(named, str) else None
        self.capture = settings.capture_content
        self.extras = settings.extras
        longest = settings.attribute_length_limit
        counts = (settings.attribute_count_limit, settings.event_count_limit, settings.link_count_limit)
        self.limited = longest is not None or counts != (None, None, None)
        self.slack = min(settings.max_content_length + _MARK, longest or sys.maxsize)


class Draft:
    """A span in the making.

    Args:
        record: what the caller's thread left.
        plan: what follows from the settings.
    """

    __slots__ = (
        "attributes",
        "convo",
        "dropped",
        "failed",
        "kind",
        "more",
        "name",
        "plan",
        "record",
        "redactor",
        "user",
    )

    def __init__(self, record: Record, plan: Plan) -> None:
        self.record = record
        self.plan = plan
        self.redactor = plan.redactor
        more = record.more
        self.more: Mapping[str, Any] = more if more is not None and type(more) in _FIELDS else _NOTHING
        self.attributes: dict[str, AttributeValue] = {}
        self.dropped: list[str] = []
        self.kind = semconv.INTERNAL
        self.name = record.kind
        self.failed = False
        self.user: str | None = None
        self.convo: str | None = None

    def label(self, value: Any) -> str:
        """Return a name, a model or another label as text of bounded length, without secrets."""
        return str(self.redactor.word(value))[:LABEL]

    def drop(self, field: str) -> None:
        """Note that a field could not be sent."""
        if field not in self.dropped:
            self.dropped.append(field)

    def reveal(self, path: str, kept: Kept) -> Any:
        """Return a kept value as JSON-like data, without encoded bytes and secrets."""
        if type(kept) is str:
            return self.redactor.text(path, kept)
        frozen = freeze(kept, self.plan.settings.max_content_length) if type(kept) in _COPIES else kept
        if type(frozen) is not bytes:
            return self.redactor.value(path, frozen)
        value = orjson.loads(frozen)
        if len(frozen) > SHORT and holds_bytes(frozen):
            value = elide(value)
        return self.redactor.value(path, value)

    def text(self, path: str, frozen: Kept) -> str:
        """Return a frozen value as redacted text of bounded length."""
        value = self.reveal(path, frozen)
        return self.short(value) if isinstance(value, str) else self.json(value)

    def short(self, text: str) -> str:
        """Return a text of bounded length."""
        return text if len(text) <= self.plan.slack else cut_to(text, self.plan.slack)

    def json(self, value: Any) -> str:
        """Return a value as JSON of bounded length."""
        text = dumps(value)
        return text if len(text) <= self.plan.slack else fit(value, self.plan.slack)

    def typed(self, value: Any) -> AttributeValue:
        """Return a JSON-like value as an attribute: scalars and homogeneous lists keep their type, the rest is JSON."""
        kind: Any = type(value)
        if kind is str:
            return self.short(value)
        if kind is bool or kind is float or (kind is int and -(2**63) <= value < 2**63):
            scalar: bool | int | float = value
            return scalar
        if kind is int:
            return integer(value)
        if kind is list or kind is tuple:
            kinds: set[Any] = set(map(type, value))
            if len(kinds) == 1 and not kinds.isdisjoint((str, bool, int, float)):
                items: Any = [self.typed(item) for item in value]
                if kinds == set(map(type, items)):
                    homogeneous: AttributeValue = items
                    return homogeneous
        return self.json(value)

    def amount(self, field: str, value: Any) -> float | None:
        """Return a number as a finite float; anything else is left out."""
        if type(value) is float and value - value == 0.0:
            return value
        with suppress(TypeError, ValueError, OverflowError):
            if type(value) is not bool and (number := float(value)) - number == 0.0:
                return number
        self.drop(field)
        return None


Part = tuple[str, Callable[[Draft], None]]
"""What writes a part of a span, after the name that `rootspan.dropped_fields` gives it where that fails."""
Parts = tuple[Part, ...]
