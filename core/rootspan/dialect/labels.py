"""Writes what names a record: attributes that many records share, because few things decide them."""

# Host values are told apart at run time, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rootspan import semconv
from rootspan.dialect.draft import Draft, Parts
from rootspan.record import NOBODY, Identity, Kind

__all__ = ["LABELS", "PARTS", "labels_of"]

LABELS: Final = frozenset(
    {
        "tags", "agent_name", "operation", "has_children", "response_model", "finish_reasons",
        "tool_name", "tool_description", "request",
    }
)  # fmt: skip
"""The rare fields that are labels."""

_NOT_FAILURES: Final = frozenset({"cancelled", "interrupted", "abandoned", "unfinished"})
_CALLS: Final = frozenset({semconv.SpanKind.LLM, semconv.SpanKind.EMBEDDING})
_MAY_CHAT: Final = frozenset({Kind.EVENT, Kind.INTERACTION, Kind.SESSION})
_NAMED: Final = frozenset({Kind.EVENT, Kind.INTERACTION})
_REQUEST: Final = (
    semconv.HTTP_REQUEST_METHOD, semconv.HTTP_ROUTE, semconv.HTTP_RESPONSE_STATUS_CODE, semconv.URL_SCHEME,
)  # fmt: skip
_OPERATIONS: Final = {
    Kind.TOOL: semconv.Operation.EXECUTE_TOOL,
    Kind.MODEL: semconv.Operation.CHAT,
    Kind.RETRIEVAL: semconv.Operation.RETRIEVAL,
}
"""The kinds that are always the same operation; every other one is a CHAIN unless it turns out to be more."""


def labels_of(
    kind: str, name: str, model: str | None, provider: str | None, inherited: Identity | None, outcome: str | None,
    counted: bool, more: Mapping[str, Any] | None,
) -> tuple[Any, ...]:  # fmt: skip
    """Return all that decides, beside the settings, what `PARTS` write.

    Args:
        kind, name, model, provider, inherited, outcome, more: fields of a record without an error.
        counted: whether it has a number of tokens.
    """
    agent, tags = (None, ()) if inherited is None else (inherited.agent_name, inherited.tags)
    rare = () if not more or LABELS.isdisjoint(more) else tuple([item for item in more.items() if item[0] in LABELS])
    return kind, name, model, provider, agent, tags, outcome, counted, rare


def _write_name(draft: Draft) -> None:
    record = draft.record
    draft.failed = (
        record.outcome == "failure"
        or record.kind == Kind.ERROR
        or (record.error is not None and record.outcome not in _NOT_FAILURES)
    )
    if record.outcome is not None:
        draft.attributes[semconv.ROOTSPAN_OUTCOME] = str(record.outcome)
    draft.name = draft.label(record.name)
    if record.kind == Kind.FEEDBACK:
        draft.attributes[semconv.GEN_AI_EVALUATION_NAME] = draft.name
        draft.name = semconv.GEN_AI_EVALUATION_RESULT


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


def _write_agent(draft: Draft) -> None:
    agent = draft.more.get("agent_name") or (draft.record.inherited or NOBODY).agent_name
    agent = draft.label(agent) if agent else draft.plan.agent_name
    if agent is not None:
        draft.attributes[semconv.GEN_AI_AGENT_NAME] = draft.attributes[semconv.AGENT_NAME] = agent


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
    if draft.record.kind not in _NAMED:
        return
    draft.attributes[semconv.ROOTSPAN_EVENT_NAME] = draft.name
    if "traceloop" in draft.plan.extras:
        draft.attributes[f"{semconv.TRACELOOP_PROPERTIES}.event_name"] = draft.name


def _write_tool(draft: Draft) -> None:
    record, more, attributes = draft.record, draft.more, draft.attributes
    if (name := record.name if record.kind == Kind.TOOL else more.get("tool_name")) is not None:
        attributes[semconv.GEN_AI_TOOL_NAME] = draft.label(name)
    if (description := more.get("tool_description")) is not None:
        attributes[semconv.GEN_AI_TOOL_DESCRIPTION] = draft.label(description)


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


def _write_request(draft: Draft) -> None:
    for name, value in zip(_REQUEST, draft.more.get("request", ()), strict=False):
        if value is not None:
            draft.attributes[name] = draft.typed(value)


PARTS: Final[Parts] = (
    ("name", _write_name), ("operation", _write_operation), ("agent", _write_agent), ("tags", _write_tags),
    ("event_name", _write_event_name), ("tool", _write_tool), ("model", _write_model),
    ("request", _write_request),
)  # fmt: skip
"""They also set the span's name and kind, and whether it failed."""
