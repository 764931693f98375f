"""What a span says about an AI product: read from GenAI, OpenInference and older names, whoever wrote it."""

from __future__ import annotations

import math
from typing import Any, Final, cast

import orjson

from rootspan import semconv as names
from rootspan_ui.spans import ReceivedSpan

__all__ = [
    "alternatives",
    "cost",
    "error",
    "input_text",
    "model",
    "note",
    "outcome",
    "output_text",
    "session",
    "status_code",
    "tokens",
    "tool",
    "user",
]

_TRACELOOP: Final = names.TRACELOOP_PROPERTIES
_SESSION: Final = (names.GEN_AI_CONVERSATION_ID, names.SESSION_ID, f"{_TRACELOOP}.convo_id")
_USER: Final = (names.USER_ID, "enduser.id", names.GEN_AI_USER_ID, f"{_TRACELOOP}.user_id")
_MODEL: Final = (names.GEN_AI_REQUEST_MODEL, names.GEN_AI_RESPONSE_MODEL, "llm.model_name", "embedding.model_name")
_TOOL: Final = (names.GEN_AI_TOOL_NAME, "tool.name", "tool_call.function.name")
_STATUS: Final = (names.HTTP_RESPONSE_STATUS_CODE, "http.status_code")
_INPUT_TOKENS: Final = (
    names.GEN_AI_USAGE_INPUT_TOKENS,
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
    names.ROOTSPAN_SESSION_INPUT_TOKENS,
)
_OUTPUT_TOKENS: Final = (
    names.GEN_AI_USAGE_OUTPUT_TOKENS,
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
    names.ROOTSPAN_SESSION_OUTPUT_TOKENS,
)
_COST: Final = (names.GEN_AI_USAGE_COST, names.LLM_COST_TOTAL, "operation.cost", names.ROOTSPAN_SESSION_COST)
_INPUT_MESSAGES: Final = (names.GEN_AI_INPUT_MESSAGES, "gen_ai.prompt", "ai.prompt.messages", "ai.prompt")
_OUTPUT_MESSAGES: Final = (names.GEN_AI_OUTPUT_MESSAGES, "gen_ai.completion", "ai.response.text")
_INPUT: Final = (
    names.INPUT_VALUE,
    names.GEN_AI_TOOL_CALL_ARGUMENTS,
    names.GEN_AI_RETRIEVAL_QUERY_TEXT,
    "tool.parameters",
    "traceloop.entity.input",
    "ai.toolCall.args",
)
_OUTPUT: Final = (
    names.OUTPUT_VALUE,
    names.GEN_AI_TOOL_CALL_RESULT,
    names.GEN_AI_RETRIEVAL_DOCUMENTS,
    "traceloop.entity.output",
    "ai.toolCall.result",
)
_JUDGEMENT: Final = (
    names.GEN_AI_EVALUATION_NAME,
    names.GEN_AI_EVALUATION_SCORE_VALUE,
    names.GEN_AI_EVALUATION_SCORE_LABEL,
    names.GEN_AI_EVALUATION_EXPLANATION,
)
_NUMBERED: Final = 32  # how many numbered messages (`gen_ai.prompt.0.content`) are looked for
_LONGEST_JSON: Final = 2**20  # messages beyond this are shown as they are, not parsed


def session(span: ReceivedSpan) -> str | None:
    """The conversation that a span belongs to."""
    return _words(span, _SESSION)


def user(span: ReceivedSpan) -> str | None:
    """The user whom a span served."""
    return _words(span, _USER)


def model(span: ReceivedSpan) -> str | None:
    """The model that was called."""
    return _words(span, _MODEL)


def tool(span: ReceivedSpan) -> str | None:
    """The tool that was called."""
    return _words(span, _TOOL)


def status_code(span: ReceivedSpan) -> int | None:
    """The HTTP status of a request."""
    value = _first(span, _STATUS)
    return value if type(value) is int else None


def tokens(span: ReceivedSpan) -> tuple[int, int] | None:
    """Input and output tokens, None when the span names neither."""
    given = [_count(span, _INPUT_TOKENS), _count(span, _OUTPUT_TOKENS)]
    return None if given == [None, None] else (given[0] or 0, given[1] or 0)


def cost(span: ReceivedSpan) -> float | None:
    """The cost in US dollars that the sender gave."""
    value = _first(span, _COST)
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None


def outcome(span: ReceivedSpan) -> str | None:
    """How it ended, when that is neither plain success nor a failure: cancelled, unfinished, interrupted."""
    value = _words(span, (names.ROOTSPAN_OUTCOME,))
    return None if value in ("success", "failure") else value


def note(span: ReceivedSpan) -> str | None:
    """The reasoning of a decision, or a judgement: its name, score and explanation."""
    judged = [span.attributes.get(name) for name in _JUDGEMENT]
    parts = [f"{part:g}" if isinstance(part, float) else _plain(part) for part in judged if part not in (None, "")]
    return "  ".join(parts) or _words(span, (names.ROOTSPAN_DECISION_REASONING,))


def alternatives(span: ReceivedSpan) -> str | None:
    """What a decision was taken over."""
    written = _first(span, (names.ROOTSPAN_DECISION_ALTERNATIVES,))
    if isinstance(written, str):
        try:
            written = orjson.loads(written)
        except ValueError:
            return str(written)
    if not isinstance(written, list):
        return None if written is None else _plain(written)
    return ", ".join(_plain(name) for name in written)  # pyright: ignore[reportUnknownVariableType]


def error(span: ReceivedSpan) -> str | None:
    """`type: message` of a failed span, None for one that did not fail or whose HTTP status says it all."""
    if span.status_code != 2:
        return None
    kind = _words(span, (names.ERROR_TYPE, names.EXCEPTION_TYPE)) or ""
    message = span.status_message
    for event in span.events:
        if event.name == names.EXCEPTION:
            kind = str(event.attributes.get(names.EXCEPTION_TYPE) or kind)
            message = message or str(event.attributes.get(names.EXCEPTION_MESSAGE) or "")
    kind = "" if kind in (names.ERROR_TYPE_OTHER, message) or message.startswith(f"{kind}:") else kind
    said = ": ".join(part for part in (kind, message) if part) or "failed"
    return None if said == str(status_code(span)) else said


def input_text(span: ReceivedSpan) -> str | None:
    """What went in: the last message of a list, else the value."""
    return _content(span, _INPUT_MESSAGES, ("gen_ai.prompt", "llm.input_messages"), _INPUT)


def output_text(span: ReceivedSpan) -> str | None:
    """What came out: the last message of a list, else the value."""
    return _content(span, _OUTPUT_MESSAGES, ("gen_ai.completion", "llm.output_messages"), _OUTPUT)


def _first(span: ReceivedSpan, keys: tuple[str, ...]) -> Any:
    for name in keys:
        value = span.attributes.get(name)
        if value is not None and value != "":
            return value
    return None


def _words(span: ReceivedSpan, keys: tuple[str, ...]) -> str | None:
    value = _first(span, keys)
    return None if value is None else _plain(value)


def _count(span: ReceivedSpan, keys: tuple[str, ...]) -> int | None:
    value = _first(span, keys)
    return int(value) if type(value) in (int, float) and math.isfinite(value) and value >= 0 else None


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # it reads deeper nesting than it writes
        return "(nested too deep)"


def _content(
    span: ReceivedSpan, messages: tuple[str, ...], prefixes: tuple[str, str], values: tuple[str, ...]
) -> str | None:
    written = _first(span, messages)
    said = _last_message(written) or _numbered(span, prefixes) or _last_message(_first(span, values))
    return said or _words(span, values) or (None if written is None else _plain(written))


def _numbered(span: ReceivedSpan, prefixes: tuple[str, str]) -> str | None:
    """The last of `gen_ai.prompt.N.content` or `llm.input_messages.N.message.content`."""
    shapes = (f"{prefixes[0]}.%d.content", f"{prefixes[1]}.%d.message.content")
    for number in reversed(range(_NUMBERED)):
        value = _words(span, tuple(shape % number for shape in shapes))
        if value:
            return value
    return None


def _last_message(written: Any) -> str | None:
    """The text of the last message in a list of them, given as JSON or as an OTLP array."""
    if isinstance(written, str):
        if not written.startswith(("[", "{")) or len(written) > _LONGEST_JSON:
            return None
        try:
            written = orjson.loads(written)
        except ValueError:
            return None
    if isinstance(written, dict):  # Vercel's `ai.prompt`
        written = cast("dict[str, Any]", written).get("messages")
    if not isinstance(written, list):
        return None
    texts = (_message_text(message) for message in reversed(written))  # pyright: ignore
    return next(filter(None, texts), None)


def _message_text(message: Any) -> str:
    if not isinstance(message, dict):
        return ""
    known = cast("dict[str, Any]", message)
    parts = known.get("parts") or known.get("content") or ""
    if not isinstance(parts, list):
        return _plain(parts)
    return " ".join(filter(None, map(_part_text, parts)))  # pyright: ignore[reportUnknownArgumentType]


def _part_text(part: Any) -> str:
    if not isinstance(part, dict):
        return part if isinstance(part, str) else ""
    known = cast("dict[str, Any]", part)
    if known.get("type") == "tool_call":
        return f"{known.get('name')}({_plain(known.get('arguments') or {})})"
    return _plain(known.get("content") or known.get("text") or known.get("response") or "")
