"""Turns a finished `Record` into the attributes, events, links and status that OpenTelemetry backends really read.

`to_span` is pure and never raises: each part of a record is shaped on its own, and one that cannot be shaped costs that
part only; its name is then listed in `rootspan.dropped_fields`. `Record.more` may hold these keys, all optional:
`tags`, `agent_name`, `operation`, `response_model`, `finish_reasons`, `cache_read_tokens`, `cache_creation_tokens`,
`reasoning_tokens`, `call_id`, `tool_name`, `tool_description`, `reasoning`, `alternatives`, `confidence`,
`session_name`, `custom_metrics`, `has_children`, `tokens_below`, `cost_below`, `score`, `label`, `comment`, `target`,
`links`, `attributes`, `host_attributes` and `events`.
"""

# Host values are told apart at run time, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from rootspan import content, properties, semconv
from rootspan.description import valid
from rootspan.draft import Draft, Plan
from rootspan.freeze import LONGEST_ID, identifier
from rootspan.lengths import dumps
from rootspan.record import NOBODY, Kind, Link, Record, SpanData, SpanEvent

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from rootspan.settings import Settings

__all__ = ["RARE", "TOKENS", "link_to", "to_span"]

_NOT_FAILURES: Final = frozenset({"cancelled", "interrupted", "abandoned", "unfinished"})
_CALLS: Final = frozenset({semconv.SpanKind.LLM, semconv.SpanKind.EMBEDDING})
_MAY_CHAT: Final = frozenset({Kind.EVENT, Kind.INTERACTION, Kind.SESSION})
_OPERATIONS: Final = {
    Kind.TOOL: semconv.Operation.EXECUTE_TOOL,
    Kind.MODEL: semconv.Operation.CHAT,
    Kind.RETRIEVAL: semconv.Operation.RETRIEVAL,
}
"""The kinds that are always the same operation; every other one is a CHAIN unless it turns out to be more."""

TOKENS: Final = (
    ("cache_read_tokens", semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, semconv.ROOTSPAN_SESSION_CACHE_READ_TOKENS),
    (
        "cache_creation_tokens",
        semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
        semconv.ROOTSPAN_SESSION_CACHE_CREATION_TOKENS,
    ),
    ("reasoning_tokens", semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS, semconv.ROOTSPAN_SESSION_REASONING_TOKENS),
)
_JSON_ONLY: Final = frozenset(
    {
        semconv.GEN_AI_INPUT_MESSAGES,
        semconv.GEN_AI_OUTPUT_MESSAGES,
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS,
        semconv.METADATA,
    }
)


def _write_name(draft: Draft) -> None:
    record = draft.record
    draft.failed = (
        record.outcome == "failure"
        or record.kind == Kind.ERROR
        or (record.error is not None and record.outcome not in _NOT_FAILURES)
    )
    if record.outcome is not None:
        draft.attributes[semconv.ROOTSPAN_OUTCOME] = str(record.outcome)
    draft.name = semconv.GEN_AI_EVALUATION_RESULT if record.kind == Kind.FEEDBACK else draft.label(record.name)


def _write_operation(draft: Draft) -> None:
    record = draft.record
    operation = _conversation(draft) if record.kind in _MAY_CHAT else _OPERATIONS.get(record.kind)
    asked = draft.more.get("operation")
    if isinstance(asked, str) and asked in semconv.SPAN_KINDS:
        operation = asked
    kind: str = semconv.SpanKind.CHAIN
    if operation is not None:
        kind = semconv.SPAN_KINDS[operation]
        draft.attributes[semconv.GEN_AI_OPERATION_NAME] = operation
    if record.kind == Kind.REQUEST:
        draft.kind = semconv.SERVER
    elif kind in _CALLS:
        draft.kind = semconv.CLIENT
    draft.attributes[semconv.OPENINFERENCE_SPAN_KIND] = kind


def _conversation(draft: Draft) -> str | None:
    """Return what an event, an interaction or a session did: one model call, or a whole agent run."""
    record, more = draft.record, draft.more
    if record.kind != Kind.EVENT and more.get("has_children"):
        return semconv.Operation.INVOKE_AGENT
    if record.model is not None or record.input_tokens is not None or record.output_tokens is not None:
        return semconv.Operation.CHAT
    if record.kind == Kind.SESSION and (more.get("agent_name") or record.name.startswith("invoke_agent ")):
        return semconv.Operation.INVOKE_AGENT
    return None


def _write_identity(draft: Draft) -> None:
    record, attributes = draft.record, draft.attributes
    inherited = record.inherited or NOBODY
    if (convo := _id(draft, record.convo_id or inherited.convo_id)) is not None:
        draft.convo = attributes[semconv.SESSION_ID] = attributes[semconv.GEN_AI_CONVERSATION_ID] = convo
    if (user := _id(draft, record.user_id or inherited.user_id)) is not None:
        draft.user = attributes[semconv.USER_ID] = user


def _write_agent(draft: Draft) -> None:
    agent = draft.more.get("agent_name") or (draft.record.inherited or NOBODY).agent_name
    agent = draft.label(agent) if agent else draft.plan.agent_name
    if agent is not None:
        draft.attributes[semconv.GEN_AI_AGENT_NAME] = draft.attributes[semconv.AGENT_NAME] = agent


def _id(draft: Draft, given: Any) -> str | None:
    if given is None:
        return None
    value = draft.redactor.word(given)
    if type(value) is str and value.isascii() and 0 < len(value) <= LONGEST_ID:
        return value
    text = identifier(value)
    return None if text is None else valid(text)


def _write_tags(draft: Draft) -> None:
    inherited, own = draft.record.inherited, draft.more.get("tags")
    if not own and not (inherited and inherited.tags):
        return
    unique = dict.fromkeys((*(inherited.tags if inherited else ()), *(own or ())))
    tags = [draft.text("tags", tag) for tag in unique if tag is not None]
    draft.attributes[semconv.TAG_TAGS] = tags
    extras = draft.plan.extras
    if "langsmith" in extras:
        draft.attributes[semconv.LANGSMITH_SPAN_TAGS] = ",".join(tags)
    if "mlflow" in extras:
        draft.attributes.update((f"{semconv.MLFLOW_TRACE_TAG}.{tag}", "true") for tag in tags)


def _write_event_name(draft: Draft) -> None:
    draft.attributes[semconv.ROOTSPAN_EVENT_NAME] = draft.name
    if "traceloop" in draft.plan.extras:
        draft.attributes[f"{semconv.TRACELOOP_PROPERTIES}.event_name"] = draft.name


def _write_model(draft: Draft) -> None:
    record, attributes, more = draft.record, draft.attributes, draft.more
    if record.model is not None:
        attributes[semconv.GEN_AI_REQUEST_MODEL] = draft.label(record.model)
    if record.provider is not None:
        provider = semconv.normalise_provider(draft.label(record.provider))
        attributes[semconv.GEN_AI_PROVIDER_NAME] = provider
        if draft.plan.extras and not draft.plan.extras.isdisjoint(("langsmith", "bentolabs")):
            attributes[semconv.GEN_AI_SYSTEM] = provider
    if more:
        answered = more.get("response_model")
        if answered is not None and answered != record.model:
            attributes[semconv.GEN_AI_RESPONSE_MODEL] = draft.label(answered)
        if reasons := more.get("finish_reasons"):
            attributes[semconv.GEN_AI_RESPONSE_FINISH_REASONS] = [draft.label(reason) for reason in reasons]


def _is_below(draft: Draft, what: str) -> bool:
    """Return whether totals would be counted twice; an outcome's process does not know, and twice is the worse."""
    return bool(draft.more.get(what, draft.record.kind == Kind.OUTCOME))


def _write_usage(draft: Draft) -> None:
    record, attributes, more = draft.record, draft.attributes, draft.more
    if record.input_tokens is None and record.output_tokens is None and not more:
        return
    below = _is_below(draft, "tokens_below")
    if (count := draft.count("input_tokens", record.input_tokens)) is not None:
        attributes[semconv.ROOTSPAN_SESSION_INPUT_TOKENS if below else semconv.GEN_AI_USAGE_INPUT_TOKENS] = count
    if (count := draft.count("output_tokens", record.output_tokens)) is not None:
        attributes[semconv.ROOTSPAN_SESSION_OUTPUT_TOKENS if below else semconv.GEN_AI_USAGE_OUTPUT_TOKENS] = count
    if more:
        for field, name, total in TOKENS:
            if (count := draft.count(field, more.get(field))) is not None:
                attributes[total if below else name] = count


def _write_cost(draft: Draft) -> None:
    record, attributes = draft.record, draft.attributes
    if record.cost is None:
        return
    cost = draft.amount("cost", record.cost)
    if cost is None or cost < 0:
        draft.drop("cost")
    elif _is_below(draft, "cost_below"):
        attributes[semconv.ROOTSPAN_SESSION_COST] = cost
    else:
        attributes[semconv.GEN_AI_USAGE_COST] = attributes[semconv.LLM_COST_TOTAL] = cost
        if "mlflow" in draft.plan.extras:
            attributes[semconv.MLFLOW_LLM_COST] = dumps({"total_cost": cost})


_Part = Callable[[Draft], None]
# What many records share comes first: `shortcut` keeps it as bytes.
_FIRST: Final[tuple[_Part, ...]] = (_write_name, _write_operation, _write_agent, _write_tags)
_LAST: Final[tuple[_Part, ...]] = (
    _write_model, _write_usage, _write_cost, _write_identity, content.write_input, content.write_output,
)  # fmt: skip
RARE: Final[tuple[_Part, ...]] = (
    content.write_call, content.write_decision, content.write_session_name,
    properties.write_metrics, properties.write_attributes, properties.write_host_attributes,
)  # fmt: skip
"""What writes the fields that most records do not have, all but those that `shortcut` keeps."""

_NAMED: Final = frozenset({Kind.EVENT, Kind.INTERACTION})


def _parts(kind: str, rare: bool) -> tuple[tuple[str, _Part], ...]:
    """Return the parts of a kind of record; properties come last, so that they give way to every other name."""
    named: tuple[_Part, ...] = (_write_event_name,) if kind in _NAMED else ()
    if kind == Kind.FEEDBACK:
        named = (content.write_feedback,)
    if rare or kind == Kind.TOOL:
        named += (content.write_tool,)
    parts = (*_FIRST, *named, *_LAST, *(RARE if rare else ()), properties.write_properties)
    return tuple((part.__name__.removeprefix("_").removeprefix("write_"), part) for part in parts)


_KINDS: Final = tuple(value for name, value in vars(Kind).items() if name.isupper())
_PLAIN: Final = {kind: _parts(kind, rare=False) for kind in _KINDS}
_FULL: Final = {kind: _parts(kind, rare=True) for kind in _KINDS}


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
    table = _FULL if draft.more else _PLAIN
    for field, part in table.get(record.kind) or table[Kind.STEP]:
        try:
            part(draft)
        except Exception:
            draft.drop(field)
    message = ""
    events: Sequence[SpanEvent] = ()
    if draft.failed or draft.more:
        try:
            message, events = content.write_events(draft)
        except Exception:
            draft.drop("error")
    return _finished(draft, message, events)


def _finished(draft: Draft, message: str, events: Sequence[SpanEvent]) -> SpanData:
    record, attributes = draft.record, draft.attributes
    links = _links(draft) if record.link is not None or draft.more else ()
    if draft.dropped:
        attributes[semconv.ROOTSPAN_DROPPED_FIELDS] = draft.dropped
    span = SpanData(
        (record.trace or "")[:32], record.span[-16:], record.parent[-16:] if record.parent else None,
        draft.name, draft.kind, record.end if record.start is None else record.start, record.end, attributes, events,
        links,
        semconv.STATUS_ERROR if draft.failed else semconv.STATUS_UNSET, message,
    )  # fmt: skip
    return _within_limits(span, draft.plan.settings) if draft.plan.limited else span
