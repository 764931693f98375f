"""The two shapes in which something recorded travels: a `Record` off the caller's thread, a `SpanData` to the wire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

__all__ = [
    "INHERITED",
    "INPUT",
    "NOBODY",
    "OUTPUT",
    "PROPERTIES",
    "SPAN",
    "TRACE",
    "AttributeValue",
    "Chat",
    "Frozen",
    "Identity",
    "Kept",
    "Kind",
    "Link",
    "Record",
    "Served",
    "SpanData",
    "SpanEvent",
]

Frozen: TypeAlias = "str | bytes | int | float | bool | None"
"""An immutable value: scalars as they are, `bytes` are the JSON text of what was a container or an object."""


class Chat(NamedTuple):
    """Messages of a role and a content each, in two lists: a tenth of the memory that a dict for each takes."""

    roles: list[str]
    contents: list[str]


Kept: TypeAlias = "Frozen | dict[str, Any] | list[dict[str, str]] | Chat"
"""What a record may hold: also a private copy of a flat container, which nobody changes any more."""

AttributeValue: TypeAlias = (
    "str | bool | int | float | Sequence[str] | Sequence[bool] | Sequence[int] | Sequence[float]"
)


class Kind:
    """What a record is."""

    EVENT: Final = "event"  # track_ai
    INTERACTION: Final = "interaction"  # begin
    SESSION: Final = "session"  # create_session ... complete_session
    OUTCOME: Final = "outcome"  # complete_session in a process that did not create the session
    REQUEST: Final = "request"  # a web adapter's root
    TOOL: Final = "tool"
    DECISION: Final = "decision"
    ERROR: Final = "error"  # track_error
    STEP: Final = "step"  # a plain child: a chain, a graph node
    MODEL: Final = "model"  # a model call that an integration saw by itself
    RETRIEVAL: Final = "retrieval"
    FEEDBACK: Final = "feedback"


class Identity(NamedTuple):
    """Who and which conversation: what every span below a scope inherits."""

    user_id: str | None = None
    convo_id: str | None = None
    tags: tuple[str, ...] = ()
    agent_name: str | None = None
    properties: Frozen = None  # JSON of a flat dict, from `context` and `update_current`


NOBODY: Final = Identity()
"""The identity that says nothing."""


class Record(NamedTuple):
    """One finished event, step or interaction, as the caller's thread leaves it: immutable values only.

    The caller builds it as a plain tuple in this order, because a tuple display costs a tenth of a constructor call;
    what has a default is left out where no field from there on says anything.
    """

    kind: str
    trace: str | None  # hex; the first 32 characters are the trace id; None: a lone root, the worker draws one
    span: str  # hex; the last 16 characters are the span id
    parent: str | None  # hex; the last 16 characters are the parent's span id
    link: SpanContext | str | None  # a host span's context, or 48 hex characters of one of ours
    end: int  # nanoseconds since the epoch
    name: str
    inherited: Identity | None  # the enclosing scope's identity; explicit values below win over it
    user_id: str | None
    convo_id: str | None
    model: str | None
    provider: str | None
    input: Kept
    output: Kept
    properties: Kept
    start: int | None = None  # None: a point in time
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: float | None = None
    outcome: str | None = None  # "success", "failure", "cancelled", "unfinished", "interrupted", "abandoned"
    error: tuple[str | None, str | None] | None = None  # (type, message) of a failure
    more: Mapping[str, Any] | None = None  # rare fields, values frozen; `dialect` says which

    @classmethod
    def of(cls, fields: tuple[Any, ...], trace: str) -> Record:
        """Return the record that a plain tuple stands for, in that trace."""
        return cls(fields[0], trace, *fields[2:])


# Where a field stands in the plain tuple.
TRACE: Final = Record._fields.index("trace")
SPAN: Final = Record._fields.index("span")
INHERITED: Final = Record._fields.index("inherited")
INPUT: Final = Record._fields.index("input")
OUTPUT: Final = Record._fields.index("output")
PROPERTIES: Final = Record._fields.index("properties")


class Served(NamedTuple):
    """What a web request says of itself; many share one, so that it weighs nothing in the queue."""

    method: str
    route: str | None
    status: int | None
    scheme: str


class SpanEvent(NamedTuple):
    """A point in time on a span."""

    name: str
    time: int  # nanoseconds since the epoch
    attributes: Mapping[str, AttributeValue]


class Link(NamedTuple):
    """A reference to a span in another trace."""

    trace_id: str  # 32 hex characters
    span_id: str  # 16 hex characters


class SpanData(NamedTuple):
    """A span, redacted and in the wire dialect, before it is encoded."""

    trace_id: str  # 32 hex characters
    span_id: str  # 16 hex characters
    parent_id: str | None  # 16 hex characters
    name: str
    kind: int  # OTLP numbers: INTERNAL 1, SERVER 2, CLIENT 3
    start: int  # nanoseconds since the epoch
    end: int
    attributes: Mapping[str, AttributeValue]
    events: Sequence[SpanEvent] = ()
    links: Sequence[Link] = ()
    status_code: int = 0  # OTLP numbers: UNSET 0, OK 1, ERROR 2
    status_message: str = ""
