"""Writes what was said and thought: inputs, outputs, messages, tools, decisions, judgements and exceptions.

Most of it is what `capture_content=False` leaves out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Final

import orjson

from rootspan import semconv
from rootspan.dialect.draft import Draft
from rootspan.dialect.json_like import is_array, is_object
from rootspan.dialect.lengths import fit_messages
from rootspan.dialect.messages import first, last_words, messages, unwrapped
from rootspan.record import AttributeValue, Kind, SpanEvent

__all__ = [
    "write_events",
    "write_input",
    "write_output",
    "write_score",
    "write_target",
]

_CHATS: Final = frozenset({Kind.EVENT, Kind.INTERACTION, Kind.SESSION, Kind.MODEL})


def write_input(draft: Draft) -> None:
    """Write what was asked."""
    record, attributes = draft.record, draft.attributes
    if record.input is None or not draft.plan.capture or (value := draft.reveal("input", record.input)) is None:
        return
    kind = record.kind
    if kind != Kind.MODEL or record.parent is None:
        _show(draft, semconv.INPUT_VALUE, semconv.INPUT_MIME_TYPE, _shown(kind, value, "user"))
    if kind in _CHATS:
        _write_input_messages(draft, value)
    elif kind == Kind.TOOL:
        attributes[semconv.GEN_AI_TOOL_CALL_ARGUMENTS] = _json_text(draft, value)
    elif kind == Kind.RETRIEVAL and isinstance(value, str):
        attributes[semconv.GEN_AI_RETRIEVAL_QUERY_TEXT] = attributes[semconv.INPUT_VALUE]


def write_output(draft: Draft) -> None:
    """Write what came out."""
    record, attributes = draft.record, draft.attributes
    if record.output is None or not draft.plan.capture or (value := draft.reveal("output", record.output)) is None:
        return
    kind = record.kind
    if kind != Kind.MODEL or record.parent is None:
        _show(draft, semconv.OUTPUT_VALUE, semconv.OUTPUT_MIME_TYPE, _shown(kind, value, "assistant"))
    if kind in _CHATS:
        _write_output_messages(draft, value)
    elif kind == Kind.TOOL:
        attributes[semconv.GEN_AI_TOOL_CALL_RESULT] = _json_text(draft, value)
    elif kind == Kind.RETRIEVAL and is_array(value):
        attributes[semconv.GEN_AI_RETRIEVAL_DOCUMENTS] = attributes[semconv.OUTPUT_VALUE]


def _shown(kind: str, value: Any, role: str) -> Any:
    """Return the text to show for a conversation where backends read a trace's fields: on a root that is no event."""
    if kind == Kind.MODEL:
        return last_words(value, role)
    # What a request has adopted from a model call below; a body of its own stays as it is.
    talk = kind == Kind.REQUEST and is_array(value) and value and is_object(value[-1]) and "role" in value[-1]
    return last_words(value, role) if talk else value


def _show(draft: Draft, name: str, mime: str, value: Any) -> None:
    """Write `input.value` or `output.value`: text as it is, containers as JSON."""
    attributes = draft.attributes
    if isinstance(value, str):
        attributes[name] = value if len(value) <= draft.plan.slack else draft.short(value)
        attributes[mime] = semconv.TEXT_PLAIN
    else:
        attributes[name] = draft.json(value)
        attributes[mime] = semconv.APPLICATION_JSON if isinstance(value, (dict, list)) else semconv.TEXT_PLAIN


def _write_input_messages(draft: Draft, value: Any) -> None:
    if is_object(value) and "role" not in value:
        separate = first(value, "system", "system_instruction", "systemInstruction", "instructions")
        if separate and unwrapped(value, "user"):
            if is_array(separate) and all(is_object(block) and "text" in block for block in separate):
                separate = {"role": "system", "content": separate}  # Bedrock's blocks have no type
            parts = [part for message in messages(separate, "system") for part in message["parts"]]
            draft.attributes[semconv.GEN_AI_SYSTEM_INSTRUCTIONS] = draft.json(parts)
    draft.attributes[semconv.GEN_AI_INPUT_MESSAGES] = fit_messages(messages(value, "user"), draft.plan.slack)


def _write_output_messages(draft: Draft, value: Any) -> None:
    reasons = list(map(draft.label, draft.more.get("finish_reasons") or ()))
    rest = reasons[0] if reasons else "stop"
    answers = messages(value, "assistant")
    for message, reason in zip(answers, (*reasons, *[rest] * len(answers)), strict=False):
        message["finish_reason"] = "error" if draft.failed else message.get("finish_reason") or reason
    draft.attributes[semconv.GEN_AI_OUTPUT_MESSAGES] = fit_messages(answers, draft.plan.slack)


def _json_text(draft: Draft, value: Any) -> str:
    """Return a tool's arguments or result as JSON; text that is JSON already stays as it is."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        with contextlib.suppress(ValueError):
            parsed = orjson.loads(value)
            return value if len(value) <= draft.plan.slack else draft.json(parsed)
    return draft.json(value)


def write_target(draft: Draft) -> None:
    """Write which span was judged."""
    target, attributes = draft.more["target"], draft.attributes
    if isinstance(target, str) and len(target) >= 16:
        attributes[semconv.ROOTSPAN_TARGET_SPAN_ID] = target[-16:]
        if len(target) == 48:
            attributes[semconv.ROOTSPAN_TARGET_TRACE_ID] = target[:32]


def write_score(draft: Draft) -> None:
    """Write a judgement as a number, or a word as its label, which a label of its own replaces."""
    score = draft.more["score"]
    if isinstance(score, str):
        draft.attributes[semconv.GEN_AI_EVALUATION_SCORE_LABEL] = draft.text("label", score)
    elif (number := draft.amount("score", float(score) if type(score) is bool else score)) is not None:
        draft.attributes[semconv.GEN_AI_EVALUATION_SCORE_VALUE] = number


def write_events(draft: Draft) -> tuple[str, list[SpanEvent]]:
    """Return the status description of a failure, and the events; without content the texts are left out."""
    record, capture = draft.record, draft.plan.capture
    given: Iterable[SpanEvent] = draft.more.get("events") or ()
    events = [_event(draft, event) for event in given]
    if not draft.failed:
        return "", events
    kind, message = record.error or (None, None)
    named = draft.label(kind) if kind else semconv.ERROR_TYPE_OTHER
    draft.attributes.setdefault(semconv.ERROR_TYPE, named)
    described = draft.text("error", message) if message is not None and capture else ""
    if not any(event.name == semconv.EXCEPTION for event in events):
        attributes: dict[str, AttributeValue] = {semconv.EXCEPTION_TYPE: named}
        if described:
            attributes[semconv.EXCEPTION_MESSAGE] = described
        events.append(SpanEvent(semconv.EXCEPTION, record.end, attributes))
    return described or (named if kind else ""), events


def _event(draft: Draft, event: SpanEvent) -> SpanEvent:
    capture = draft.plan.capture
    given = {name: value for name, value in event.attributes.items() if capture or name not in semconv.CONTENT}
    clean: dict[str, Any] = draft.redactor.value("events", given)
    kept = {name: draft.typed(value) for name, value in clean.items() if value is not None}
    return SpanEvent(draft.label(event.name), event.time, kept)
