"""Turns a finished `Record` into the attributes, events, links and status that OpenTelemetry backends really read.

`to_span` is pure and never raises: each part of a record is shaped on its own, and one that cannot be shaped costs that
part only; its name is then listed in `rootspan.dropped_fields`. `Record.more` may hold, all optional, the fields that
`LABELS`, `TOKENS` and `RARE` name, `tokens_below`, `cost_below`, `links` and `events`.
"""

# Host values are told apart at run time, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rootspan import semconv
from rootspan.dialect import content, labels, properties
from rootspan.dialect.draft import Draft, Part, Parts, Plan
from rootspan.dialect.json_like import dumps
from rootspan.freeze import LONGEST_ID, identifier
from rootspan.record import NOBODY, AttributeValue, Kind, Link, Record, SpanData, SpanEvent

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from rootspan.settings import Settings

__all__ = ["COUNTS", "PROPERTIES", "RARE", "USAGE", "link_to", "parts_of", "to_span"]

TOKENS: Final = (
    ("input_tokens", semconv.GEN_AI_USAGE_INPUT_TOKENS, semconv.ROOTSPAN_SESSION_INPUT_TOKENS),
    ("output_tokens", semconv.GEN_AI_USAGE_OUTPUT_TOKENS, semconv.ROOTSPAN_SESSION_OUTPUT_TOKENS),
    ("cache_read_tokens", semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, semconv.ROOTSPAN_SESSION_CACHE_READ_TOKENS),
    (
        "cache_creation_tokens",
        semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
        semconv.ROOTSPAN_SESSION_CACHE_CREATION_TOKENS,
    ),
    ("reasoning_tokens", semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS, semconv.ROOTSPAN_SESSION_REASONING_TOKENS),
)
"""Each count of tokens: its field, its attribute, and that of a root's total where spans below have their own."""

COUNTS: Final = frozenset(field for field, _, _ in TOKENS)
_JSON_ONLY: Final = frozenset(
    {
        semconv.GEN_AI_INPUT_MESSAGES,
        semconv.GEN_AI_OUTPUT_MESSAGES,
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS,
        semconv.METADATA,
    }
)


def _write_identity(draft: Draft) -> None:
    record, attributes = draft.record, draft.attributes
    inherited = record.inherited or NOBODY
    if (convo := _id(draft, record.convo_id or inherited.convo_id)) is not None:
        draft.convo = attributes[semconv.SESSION_ID] = attributes[semconv.GEN_AI_CONVERSATION_ID] = convo
    if (user := _id(draft, record.user_id or inherited.user_id)) is not None:
        draft.user = attributes[semconv.USER_ID] = user


def _id(draft: Draft, given: Any) -> str | None:
    if given is None:
        return None
    value = draft.redactor.word(given)
    return value if type(value) is str and 0 < len(value) <= LONGEST_ID else identifier(value)


def _write_usage(draft: Draft) -> None:
    record, more = draft.record, draft.more
    if record.input_tokens is record.output_tokens is record.cost is None and COUNTS.isdisjoint(more):
        return
    given = {**more, "input_tokens": record.input_tokens, "output_tokens": record.output_tokens}
    # Spans below have their own; an outcome's process does not know, and to count twice is the worse.
    is_total = more.get("tokens_below", record.kind == Kind.OUTCOME)
    for field, name, total in TOKENS:
        if (value := given.get(field)) is None:
            continue
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and 0 <= value < 2**63:
            draft.attributes[total if is_total else name] = value
        else:  # backends lose or misprice anything odd
            draft.drop(field)
    if record.cost is not None:
        _write_cost(draft, more.get("cost_below", record.kind == Kind.OUTCOME))


def _write_cost(draft: Draft, is_total: bool) -> None:
    attributes, cost = draft.attributes, draft.amount("cost", draft.record.cost)
    if cost is None or cost < 0:
        draft.drop("cost")
    elif is_total:
        attributes[semconv.ROOTSPAN_SESSION_COST] = cost
    else:
        attributes[semconv.GEN_AI_USAGE_COST] = attributes[semconv.LLM_COST_TOTAL] = cost
        if "mlflow" in draft.plan.extras:
            attributes[semconv.MLFLOW_LLM_COST] = dumps({"total_cost": cost})


_Shape = Callable[[Draft, str, Any], "AttributeValue | None"]


def _field(field: str, name: str, shape: _Shape) -> Part:
    """Return the part that writes a rare field as one attribute; without content not where that holds any."""

    def write(draft: Draft) -> None:
        value = draft.more[field]
        if value is not None and (draft.plan.capture or name not in semconv.CONTENT):
            shaped = shape(draft, field, value)
            if shaped is not None:
                draft.attributes[name] = shaped

    return field, write


_IDENTITY: Final[Parts] = (("identity", _write_identity),)
USAGE: Final[Parts] = (("usage", _write_usage),)
_CONTENT: Final[Parts] = (("input", content.write_input), ("output", content.write_output))
_RARE: Final[Parts] = (
    ("target", content.write_target),
    ("score", content.write_score),
    _field("label", semconv.GEN_AI_EVALUATION_SCORE_LABEL, Draft.text),
    _field("comment", semconv.GEN_AI_EVALUATION_EXPLANATION, Draft.text),
    _field("call_id", semconv.GEN_AI_TOOL_CALL_ID, lambda draft, _, value: draft.label(value)),
    _field("reasoning", semconv.ROOTSPAN_DECISION_REASONING, Draft.text),
    _field(
        "alternatives",
        semconv.ROOTSPAN_DECISION_ALTERNATIVES,
        lambda draft, field, value: draft.typed(draft.reveal(field, value)),
    ),
    _field("confidence", semconv.ROOTSPAN_DECISION_CONFIDENCE, Draft.amount),
    _field("session_name", semconv.ROOTSPAN_SESSION_NAME, Draft.text),
    ("custom_metrics", properties.write_metrics),
    ("attributes", properties.write_attributes),
    ("host_attributes", properties.write_host_attributes),
)
RARE: Final = frozenset(field for field, _ in _RARE)
"""The rare fields that are written as they are."""

# Properties come last, so that they give way to every other name.
PROPERTIES: Final[Parts] = (("properties", properties.write_properties),)
_PLAIN: Final = USAGE + _CONTENT + PROPERTIES


def parts_of(more: Mapping[str, Any] | None) -> Parts:
    """Return what writes a record with these rare fields, beside its labels and whose it is."""
    return (*USAGE, *_CONTENT, *[part for part in _RARE if part[0] in more], *PROPERTIES) if more else _PLAIN


def _links(draft: Draft) -> list[Link]:
    """Return the links; one that is malformed costs only itself."""
    found: list[Link] = []
    further = draft.more.get("links")
    for link in (draft.record.link, *(further if isinstance(further, tuple) else ())):
        try:
            if (made := link_to(link)) is not None:
                found.append(made)
        except Exception:
            draft.drop("link")
    return found


def link_to(target: SpanContext | str | None) -> Link | None:
    """Return a link to a span of the host or to one of ours; raises for what is malformed."""
    if isinstance(target, str):
        bytes.fromhex(target)
        return Link(target[:32], target[-16:]) if len(target) == 48 else None
    if target is None or not target.is_valid:  # asked here and not at the call, for its price
        return None
    return Link(f"{target.trace_id:032x}", f"{target.span_id:016x}")


def _within_limits(span: SpanData, settings: Settings) -> SpanData:
    """Return the span within the host's OpenTelemetry limits; what comes last goes first."""
    longest = settings.attribute_length_limit
    attributes = dict(list(span.attributes.items())[: settings.attribute_count_limit])
    if longest is not None:
        for name, value in attributes.items():
            if isinstance(value, str) and len(value) > longest and name not in _JSON_ONLY:
                attributes[name] = value[:longest]
    return span._replace(
        attributes=attributes,
        events=span.events[: settings.event_count_limit],
        links=span.links[: settings.link_count_limit],
    )


def to_span(record: Record, plan: Plan) -> SpanData:
    """Return a record as a span in the wire dialect; never raises.

    Args:
        record: what the caller's thread left.
        plan: what follows from the tracker's settings: limits, extras, `capture_content`, redaction, the default agent.

    Returns:
        The span; `rootspan.dropped_fields` names what could not be shaped.

    Example:
        >>> to_span(record, Plan(settings)).attributes["gen_ai.operation.name"]  # doctest: +SKIP
        'chat'
    """
    draft = Draft(record, plan)
    for field, write in (*_IDENTITY, *labels.PARTS, *parts_of(draft.more)):  # the first survive a host's limits
        try:
            write(draft)
        except Exception:
            draft.drop(field)
    message = ""
    events: Sequence[SpanEvent] = ()
    if draft.failed or "events" in draft.more:
        try:
            message, events = content.write_events(draft)
        except Exception:
            draft.drop("error")
    return _finished(draft, message, events)


def _finished(draft: Draft, message: str, events: Sequence[SpanEvent]) -> SpanData:
    record, attributes = draft.record, draft.attributes
    links = _links(draft) if record.link is not None or "links" in draft.more else ()
    if draft.dropped:
        attributes[semconv.ROOTSPAN_DROPPED_FIELDS] = draft.dropped
    span = SpanData(
        (record.trace or "")[:32], record.span[-16:], record.parent[-16:] if record.parent else None,
        draft.name, draft.kind, record.end if record.start is None else record.start, record.end, attributes, events,
        links,
        semconv.STATUS_ERROR if draft.failed else semconv.STATUS_UNSET, message,
    )  # fmt: skip
    return _within_limits(span, draft.plan.settings) if draft.plan.limited else span
