"""Turns a finished `Record` into the attributes, events, links and status that OpenTelemetry backends really read.

`to_span` is pure and never raises: each part of a record is shaped on its own, and one that cannot be shaped costs that
part only; its name is then listed in `rootspan.dropped_fields`. `Record.more` may hold these keys, all optional:
`tags`, `agent_name`, `operation`, `response_model`, `finish_reasons`, `cache_read_tokens`, `cache_creation_tokens`,
`reasoning_tokens`, `system_instructions`, `call_id`, `tool_name`, `tool_type`, `tool_description`, `reasoning`,
`alternatives`, `confidence`, `session_name`, `custom_metrics`, `has_children`, `usage_below`, `evaluation_name`,
`score`, `label`, `comment`, `target`, `attributes` and `events`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeGuard, cast

import orjson

from rootspan import semconv
from rootspan.freeze import freeze, identifier, mend, thaw
from rootspan.record import AttributeValue, Frozen, Identity, Kind, Link, Record, SpanData, SpanEvent

if TYPE_CHECKING:
    from rootspan.settings import Settings

__all__ = ["Redactor", "to_span"]


class Redactor(Protocol):
    """What the dialect asks of a redactor; both return a redacted copy, or the value itself when nothing was found."""

    def value(self, path: str, value: Any) -> Any:
        """Return a JSON-like value without secrets."""
        ...

    def text(self, path: str, text: str) -> str:
        """Return a text without secrets."""
        ...


# Messages: whatever a host passes, as GenAI messages made of parts --------------------------------------------------

_ROLES: Final = {
    "ai": "assistant",
    "aimessage": "assistant",
    "aimessagechunk": "assistant",
    "assistant": "assistant",
    "chat": "user",
    "developer": "system",
    "function": "tool",
    "functionmessage": "tool",
    "human": "user",
    "humanmessage": "user",
    "model": "assistant",
    "system": "system",
    "systemmessage": "system",
    "tool": "tool",
    "toolmessage": "tool",
    "user": "user",
}
_SPEAKS: Final = ("content", "parts", "tool_calls", "function_call", "reasoning_content", "refusal")
_FINISH: Final = ("finish_reason", "stop_reason", "finishReason")
_DATA: Final = ("data", "file_data", "b64_json", "base64", "bytes")
_MODALITIES: Final = ("image", "audio", "video")
_CUT: Final = re.compile(r"…\[cut from (\d+) characters\]\Z")
_ELIDED: Final = re.compile(r"\[\d+ bytes, sha256 [0-9a-f]{16}\]\Z")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_=\s-]*")


def _dumps(value: Any) -> str:
    """Return the JSON text of any value; what JSON cannot hold is frozen first."""
    try:
        return str(orjson.dumps(value), "utf-8")
    except (TypeError, ValueError, RecursionError):
        frozen = freeze({"": value}, sys.maxsize)
        return orjson.dumps(orjson.loads(cast("bytes", frozen))[""]).decode()


def _valid(text: str) -> str:
    """Return the text without lone surrogates, which no exporter can encode."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return mend(text)
    return text


def _cut(text: str, limit: int) -> str:
    """Return a text that is too long within `limit` characters, its original size noted at the end."""
    noted = _CUT.search(text)
    mark = f"…[cut from {noted[1] if noted else len(text)} characters]"
    return text[: limit - len(mark)] + mark if len(mark) < limit else text[:limit]


def _shorten(value: Any, cap: int) -> Any:
    """Return a JSON-like value in which no text is longer than `cap` characters."""
    if isinstance(value, str):
        return _cut(value, cap) if len(value) > cap > 40 else value
    if _is_object(value):
        fields = value
        return {key: _shorten(item, cap) for key, item in fields.items()}
    if _is_array(value):
        return [_shorten(item, cap) for item in value]
    return value


def _shortened(value: Any, limit: int) -> tuple[str, Any]:
    """Return the JSON text of a value whose texts were cut until it fits, if cutting them is enough, and that value."""
    cap = limit
    text = _dumps(value)
    while len(text) > limit and cap > 40:
        value = _shorten(value, cap)
        text = _dumps(value)
        cap = min(cap * 7 // 8, cap * limit // len(text))
    return text, value


def _fit(value: Any, limit: int) -> str:
    """Return the JSON text of a value within `limit` characters; too many items become a text with their beginning."""
    text, _ = _shortened(value, limit)
    if len(text) <= limit:
        return text
    whole = _dumps(value)
    keep = limit
    while len(text) > limit and keep > 1:
        keep = keep * 3 // 4
        text = _dumps({"cut": _cut(whole, keep)})
    return text if len(text) <= limit else "{}"


def _fit_messages(messages: list[dict[str, Any]], limit: int) -> str:
    """Return messages as JSON within `limit` characters: texts are cut, then the oldest messages make room."""
    text, kept = _shortened(messages, limit)
    while len(text) > limit and len(kept) > 1:
        kept = kept[(len(kept) + 1) // 2 :]
        text = _dumps(kept)
    if len(text) <= limit:
        return text
    whole = _dumps(messages[-1].get("parts"))
    keep = limit
    while len(text) > limit and keep > 1:
        keep = keep * 3 // 4
        text = _dumps([{**messages[-1], "parts": [{"type": "text", "content": _cut(whole, min(keep, len(whole)))}]}])
    return text if len(text) <= limit else "[]"


def _digest(data: str) -> str:
    """Return size and digest in place of encoded bytes, which no attribute should carry."""
    if _ELIDED.match(data):
        return data
    try:
        raw = base64.b64decode(data)
    except ValueError:
        raw = data.encode("utf-8", "replace")
    return f"[{len(raw)} bytes, sha256 {hashlib.sha256(raw).hexdigest()[:16]}]"


def _elide(value: Any) -> Any:
    """Return a JSON-like value whose encoded images, sounds and files are replaced by size and digest."""
    if isinstance(value, str):
        head, base64_mark, data = value.partition(";base64,")
        return f"{head};base64,{_digest(data)}" if base64_mark and value.startswith("data:") else value
    if _is_array(value):
        return [_elide(item) for item in value]
    if not _is_object(value):
        return value
    fields = value
    return {key: _digest(item) if _is_encoded(key, item) else _elide(item) for key, item in fields.items()}


def _is_encoded(key: str, item: Any) -> bool:
    return key in _DATA and isinstance(item, str) and len(item) >= _SHORT and _BASE64.fullmatch(item) is not None


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_array(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _first(fields: Mapping[str, Any], *keys: str) -> Any:
    """Return the first of these fields that holds something."""
    for key in keys:
        if (value := fields.get(key)) is not None:
            return value
    return None


def _text_part(value: Any) -> dict[str, Any]:
    return {"type": "text", "content": _valid(value) if isinstance(value, str) else _dumps(value)}


def _said(block: dict[str, Any]) -> dict[str, Any]:
    return _text_part(_first(block, "text", "content", "refusal", "transcript") or "")


def _reasoned(block: dict[str, Any]) -> dict[str, Any]:
    thought = _first(block, "thinking", "reasoning", "text", "content", "summary", "data")
    if _is_array(thought):
        steps = thought
        thought = "\n".join(str(step.get("text", "")) if _is_object(step) else str(step) for step in steps)
    return {**_text_part(thought or ""), "type": "reasoning"}


def _tool_call(block: dict[str, Any]) -> dict[str, Any]:
    inner = _first(block, "function", "functionCall", "function_call")
    call: dict[str, Any] = inner if _is_object(inner) else block
    arguments = _first(call, "arguments", "args", "input", "parameters")
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError):
            arguments = orjson.loads(arguments)
    part: dict[str, Any] = {"type": "tool_call", "name": _first(call, "name") or "", "arguments": arguments}
    identifier = _first(block, "call_id", "id") or call.get("id")
    return part if identifier is None else {"type": "tool_call", "id": identifier, **part}


def _tool_answer(block: dict[str, Any]) -> dict[str, Any]:
    inner = _first(block, "functionResponse", "function_response")
    answer: dict[str, Any] = inner if _is_object(inner) else block
    identifier = _first(answer, "tool_call_id", "tool_use_id", "call_id", "id", "name")
    response = _first(answer, "response", "content", "output", "result")
    part: dict[str, Any] = {"type": "tool_call_response", "response": "" if response is None else response}
    return part if identifier is None else {"type": "tool_call_response", "id": identifier, **part}


def _media(block: dict[str, Any]) -> dict[str, Any]:
    fields = dict(block)
    for key in ("source", "image_url", "input_audio", "file", "inlineData", "inline_data", "fileData", "file_data"):
        if _is_object(inner := block.get(key)):
            fields.update(inner)
        elif isinstance(inner, str) and key == "image_url":
            fields["url"] = inner
    mime = _first(fields, "mime_type", "media_type", "mimeType", "mime")
    part: dict[str, Any] = {"modality": _modality(fields, mime)}
    uri = _first(fields, "url", "uri", "fileUri", "file_uri", "file_url")
    data = _first(fields, *_DATA) if block.get("type") != "blob" else _first(fields, "content")
    for text in (uri, data):
        if isinstance(text, str) and text.startswith("data:"):
            mime, data, uri = text[5:].partition(";")[0], text.partition(",")[2], None
    if mime is not None:
        part["mime_type"] = mime
    if isinstance(data, str) and uri is None:
        return {"type": "blob", **part, "content": _digest(data)}
    if uri is not None:
        return {"type": "uri", **part, "uri": uri}
    return {"type": "file", **part, "file_id": _first(fields, "file_id", "id", "filename") or ""}


def _modality(fields: Mapping[str, Any], mime: Any) -> str:
    """Return what the bytes are: what the block says, else what its type or MIME type begins with."""
    named = fields.get("modality")
    if isinstance(named, str):
        return named
    hint = f"{fields.get('type', '')} {mime or ''}"
    return next((modality for modality in _MODALITIES if modality in hint), "document")


_PARTS: Final[Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    **dict.fromkeys(("text", "input_text", "output_text", "refusal"), _said),
    **dict.fromkeys(("reasoning", "thinking", "redacted_thinking"), _reasoned),
    **dict.fromkeys(("tool_call", "tool_use", "server_tool_use", "function_call", "function"), _tool_call),
    **dict.fromkeys(
        ("tool_call_response", "tool_result", "function_call_output", "web_search_tool_result"), _tool_answer
    ),
    **dict.fromkeys(
        ("image", "image_url", "input_image", "audio", "input_audio", "video", "media", "document", "file"), _media
    ),
    **dict.fromkeys(("input_file", "blob", "uri"), _media),
}
_UNTYPED: Final = (
    ("functionCall", _tool_call),
    ("function_call", _tool_call),
    ("functionResponse", _tool_answer),
    ("function_response", _tool_answer),
    ("inlineData", _media),
    ("inline_data", _media),
    ("fileData", _media),
    ("file_data", _media),
)


def _part(block: Any) -> dict[str, Any]:
    """Return one content block of any provider as a GenAI message part."""
    if not _is_object(block):
        return _text_part(block)
    fields = block
    kind = fields.get("type")
    if isinstance(kind, str):
        shape = _PARTS.get(kind)
        return shape(fields) if shape else fields  # the conventions allow parts of other types
    for key, shape in _UNTYPED:
        if key in fields:
            return shape(fields)
    if isinstance(fields.get("text"), str):
        return _reasoned(fields) if fields.get("thought") is True else _said(fields)
    return _text_part(fields)


def _is_part(item: Any) -> bool:
    return _is_object(item) and isinstance(kind := item.get("type"), str) and kind in _PARTS


def _as_message(item: Any) -> dict[str, Any] | None:
    """Return the fields of what is a message of some library, or None."""
    if _is_array(item):
        pair = item  # LangChain's ("human", "hi")
        if len(pair) == 2 and isinstance(pair[0], str) and pair[0] in _ROLES:
            return {"role": pair[0], "content": pair[1]}
        return None
    if not _is_object(item):
        return None
    fields = item
    if fields.get("lc") is not None and isinstance(fields.get("kwargs"), dict) and isinstance(fields.get("id"), list):
        return {"type": str(fields["id"][-1]), **fields["kwargs"]} if fields["id"] else None
    if isinstance(fields.get("role"), str):
        return fields if any(key in fields for key in _SPEAKS) else None
    kind = fields.get("type")
    return fields if isinstance(kind, str) and kind.lower() in _ROLES and "content" in fields else None


def _role(fields: Mapping[str, Any], default: str) -> str:
    role = fields.get("role")
    if isinstance(role, str):
        return _ROLES.get(role.lower(), role)
    kind = str(fields.get("type", "")).lower()
    if kind in _ROLES:
        return _ROLES[kind]
    if _PARTS.get(kind) is _tool_answer:
        return "tool"
    return "assistant" if _PARTS.get(kind) in (_tool_call, _reasoned) else default


def _message(fields: dict[str, Any], default: str) -> dict[str, Any]:
    """Return a message of OpenAI, Anthropic, Gemini, LangChain or GenAI as a GenAI message."""
    role = _role(fields, default)
    parts: list[dict[str, Any]] = []
    if fields.get("reasoning_content") is not None:
        parts.append(_reasoned({"text": fields["reasoning_content"]}))
    content = _first(fields, "parts", "content")
    blocks = content if _is_array(content) else [] if content in (None, "") else [content]
    if role == "tool" and not any(_part(block)["type"] == "tool_call_response" for block in blocks):
        parts.append(_tool_answer(fields))
    else:
        parts.extend(_part(block) for block in blocks)
    calls = _first(fields, "tool_calls") or _first(fields, "function_call")
    for call in calls if _is_array(calls) else [calls] if _is_object(calls) else []:
        parts.append(_tool_call(call) if _is_object(call) else _text_part(call))
    if isinstance(fields.get("refusal"), str):
        parts.append(_text_part(fields["refusal"]))
    message: dict[str, Any] = {"role": role, "parts": parts}
    if isinstance(fields.get("name"), str) and role != "tool":
        message["name"] = fields["name"]
    return message


def _listed(items: list[Any], role: str) -> list[dict[str, Any]] | None:
    """Return the messages of a list, or None when it holds something else."""
    found = [_as_message(item) for item in items]
    if not items or not all(fields or _is_part(item) for fields, item in zip(found, items, strict=True)):
        nested = items[0] if len(items) == 1 else None  # LangChain's batches
        return _listed(nested, role) if _is_array(nested) else None
    if not any(found) and all(_role(item, role) in (role, "assistant") for item in items):
        return [{"role": role, "parts": [_part(item) for item in items]}]  # the content of one message
    messages: list[dict[str, Any]] = []
    for fields, item in zip(found, items, strict=True):
        message = _message(fields, role) if fields else {"role": _role(item, role), "parts": [_part(item)]}
        if reason := _first(fields or {}, *_FINISH):
            message["finish_reason"] = reason
        messages.append(message)
    return messages


def _reasons(choice: dict[str, Any]) -> dict[str, Any]:
    return {name: choice[name] for name in _FINISH if choice.get(name)}


def _wrapped(fields: dict[str, Any], role: str) -> list[dict[str, Any]] | None:
    """Return the messages inside a request or an answer of a provider, or None."""
    for key, inner in (("choices", "message"), ("candidates", "content")):
        if _is_array(choices := fields.get(key)):
            return _listed([{**choice[inner], **_reasons(choice)} for choice in choices], role)
    answer = ("output",) if fields.get("object") == "response" else ()
    for key in ("messages", "contents", *answer):
        if _is_array(items := fields.get(key)):
            return _listed(items, role)
    return None


def _messages(value: Any, role: str) -> list[dict[str, Any]]:
    """Return any value as GenAI messages; what is not message-like is one message with its text or JSON."""
    found: list[dict[str, Any]] | None = None
    if _is_array(value):
        found = _listed(value, role)
    elif _is_object(value):
        alone = _as_message(value) or _is_part(value)
        found = _listed([value], role) if alone else _wrapped(value, role)
    return found or [{"role": role, "parts": [_text_part(value)]}]


def _instructions(value: Any) -> list[dict[str, Any]]:
    """Return system instructions as GenAI parts."""
    return [part for message in _messages(value, "system") for part in message["parts"]]


# One span: a draft, and the parts that fill it ----------------------------------------------------------------------

_MARK: Final = 64  # `freeze` keeps `max_content_length` characters and adds a mark; that is not cut again
_MOST_PLANS: Final = 64
_MOST_KEYS: Final = 4096
_USER_HEAD: Final = '[{"role":"user","parts":[{"type":"text","content":'
_ASSISTANT_HEAD: Final = '[{"role":"assistant","parts":[{"type":"text","content":'
_SHORT: Final = 256  # below that, encoded bytes are not worth a look
_ENCODED: Final = (b";base64,", b'"data"', b'"file_data"', b'"b64_json"', b'"base64"', b'"bytes"')
_HEADERS: Final = (f"{semconv.HTTP_REQUEST_HEADER}.", f"{semconv.HTTP_RESPONSE_HEADER}.")
_NOT_FAILURES: Final = frozenset({"cancelled", "interrupted", "abandoned", "unfinished"})
_JSON_ONLY: Final = frozenset(
    {
        semconv.GEN_AI_INPUT_MESSAGES,
        semconv.GEN_AI_OUTPUT_MESSAGES,
        semconv.GEN_AI_SYSTEM_INSTRUCTIONS,
        semconv.METADATA,
    }
)


class _Plan:
    """What follows from one `Settings`, worked out once."""

    __slots__ = ("agent_name", "capture", "extras", "free", "limit", "settings", "slack")

    def __init__(self, settings: Settings) -> None:
        self.settings = settings  # keeps its id from being given to another one
        service = settings.resource_attributes.get("service.name") if settings.service_name_chosen else None
        self.agent_name = settings.agent_name if isinstance(settings.agent_name, str) else service
        self.capture = settings.capture_content
        self.extras = settings.extras
        shortest = settings.attribute_length_limit
        self.limit = min(settings.max_content_length, shortest or sys.maxsize)
        self.slack = self.limit if shortest is not None and self.limit == shortest else self.limit + _MARK
        self.free: dict[str, bool] = {}  # property key: may it stand on its own?

    def is_free(self, key: str) -> bool:
        """Work out whether a property may stand under its own key, and keep the answer in `free`."""
        if len(self.free) >= _MOST_KEYS:
            self.free.clear()
        free = self.free[key] = semconv.is_free(key)
        return free


_NOTHING: Final[Mapping[str, Any]] = {}


class _Draft:
    """A span in the making."""

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
        "untouched",
        "user",
    )

    def __init__(self, record: Record, plan: _Plan, redactor: Redactor) -> None:
        self.record = record
        self.plan = plan
        self.redactor = redactor
        self.more: Mapping[str, Any] = record.more if isinstance(record.more, dict) else _NOTHING
        self.attributes: dict[str, AttributeValue] = {}
        self.dropped: list[str] = []
        self.kind = semconv.INTERNAL
        self.name = semconv.GEN_AI_EVALUATION_RESULT if record.kind == Kind.FEEDBACK else record.kind
        self.failed = False
        self.user: str | None = None
        self.convo: str | None = None
        self.untouched = False  # what `reveal` returned last is what was frozen

    def drop(self, field: str) -> None:
        """Note that a field could not be sent."""
        if field not in self.dropped:
            self.dropped.append(field)

    def reveal(self, path: str, frozen: Frozen) -> Any:
        """Return a frozen value thawed, without encoded bytes and secrets."""
        if type(frozen) is str:
            return self.redactor.text(path, frozen)
        thawed = value = thaw(frozen)
        if type(frozen) is bytes and len(frozen) > _SHORT and any(mark in frozen for mark in _ENCODED):
            value = _elide(value)
        value = self.redactor.value(path, value)
        self.untouched = value is thawed
        return value

    def text(self, path: str, frozen: Frozen) -> str:
        """Return a frozen value as redacted text of bounded length."""
        value = self.reveal(path, frozen)
        if not isinstance(value, str):
            return self.json(value)
        return _valid(value if len(value) <= self.plan.slack else _cut(value, self.plan.slack))

    def json(self, value: Any) -> str:
        """Return a value as JSON of bounded length."""
        text = _dumps(value)
        return text if len(text) <= self.plan.slack else _fit(value, self.plan.slack)

    def count(self, field: str, value: Any) -> int | None:
        """Return a count of tokens as an int; anything odd is left out, because backends lose or misprice it."""
        if value is None:
            return None
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is int and 0 <= value < 2**63:
            return value
        self.drop(field)
        return None

    def amount(self, field: str, value: Any) -> float | None:
        """Return a number as a finite float."""
        if value is None:
            return None
        if type(value) is not bool and (number := float(value)) - number == 0.0:
            return number
        self.drop(field)
        return None


def _failure(span: _Draft) -> None:
    record = span.record
    span.failed = (
        record.outcome == "failure"
        or record.kind == Kind.ERROR
        or (record.error is not None and record.outcome not in _NOT_FAILURES)
    )
    if record.outcome is not None:
        span.attributes[semconv.ROOTSPAN_OUTCOME] = str(record.outcome)


def _name(span: _Draft) -> None:
    if span.record.kind != Kind.FEEDBACK:
        span.name = _valid(str(span.record.name))


def _operation(span: _Draft) -> None:
    record, more = span.record, span.more
    asked = more.get("operation")
    operation, kind = _OPERATIONS.get(record.kind, (None, semconv.SpanKind.CHAIN))
    if record.kind in _MAY_CHAT:
        if record.kind != Kind.EVENT and more.get("has_children"):
            operation = semconv.Operation.INVOKE_AGENT
        elif record.model is not None or record.input_tokens is not None or record.output_tokens is not None:
            operation = semconv.Operation.CHAT
        elif record.kind == Kind.SESSION and (more.get("agent_name") or record.name.startswith("invoke_agent ")):
            operation = semconv.Operation.INVOKE_AGENT
    if asked is not None and asked in semconv.SPAN_KINDS:
        operation = asked
    if operation is not None:
        kind = semconv.SPAN_KINDS[operation]
        span.attributes[semconv.GEN_AI_OPERATION_NAME] = operation
    if record.kind == Kind.REQUEST:
        span.kind = semconv.SERVER
    elif kind in _CALLS:
        span.kind = semconv.CLIENT
    span.attributes[semconv.OPENINFERENCE_SPAN_KIND] = kind


_CALLS: Final = frozenset({semconv.SpanKind.LLM, semconv.SpanKind.EMBEDDING})
_MAY_CHAT: Final = frozenset({Kind.EVENT, Kind.INTERACTION, Kind.SESSION})
_OPERATIONS: Final = {
    Kind.TOOL: (semconv.Operation.EXECUTE_TOOL, semconv.SpanKind.TOOL),
    Kind.MODEL: (semconv.Operation.CHAT, semconv.SpanKind.LLM),
    Kind.RETRIEVAL: (semconv.Operation.RETRIEVAL, semconv.SpanKind.RETRIEVER),
}
"""The kinds that are always the same operation; every other one is a CHAIN unless it turns out to be more."""


_NOBODY: Final = Identity()


def _identity(span: _Draft) -> None:
    record, attributes = span.record, span.attributes
    inherited = record.inherited or _NOBODY
    convo = record.convo_id or inherited.convo_id
    if convo is not None and (convo := identifier(convo)) is not None:
        span.convo = convo = _valid(convo)
        attributes[semconv.SESSION_ID] = attributes[semconv.GEN_AI_CONVERSATION_ID] = convo
    user = record.user_id or inherited.user_id
    if user is not None and (user := identifier(user)) is not None:
        span.user = attributes[semconv.USER_ID] = _valid(user)
    agent = span.more.get("agent_name") or inherited.agent_name or span.plan.agent_name
    if isinstance(agent, str):
        attributes[semconv.GEN_AI_AGENT_NAME] = attributes[semconv.AGENT_NAME] = _valid(agent)


def _tags(span: _Draft) -> None:
    inherited, own = span.record.inherited, span.more.get("tags")
    if not own and not (inherited and inherited.tags):
        return
    unique = dict.fromkeys((*(inherited.tags if inherited else ()), *(own or ())))
    tags = [span.text("tags", tag) for tag in unique if tag is not None]
    span.attributes[semconv.TAG_TAGS] = tags
    extras = span.plan.extras
    if "langsmith" in extras:
        span.attributes[semconv.LANGSMITH_SPAN_TAGS] = ",".join(tags)
    if "mlflow" in extras:
        span.attributes.update((f"{semconv.MLFLOW_TRACE_TAG}.{tag}", "true") for tag in tags)


def _event_name(span: _Draft) -> None:
    span.attributes[semconv.ROOTSPAN_EVENT_NAME] = span.name
    if "traceloop" in span.plan.extras:
        span.attributes[f"{semconv.TRACELOOP_PROPERTIES}.event_name"] = span.name


def _model(span: _Draft) -> None:
    record, attributes, more = span.record, span.attributes, span.more
    if record.model is not None:
        attributes[semconv.GEN_AI_REQUEST_MODEL] = _valid(str(record.model))
    if record.provider is not None:
        provider = semconv.normalise_provider(_valid(str(record.provider)))
        attributes[semconv.GEN_AI_PROVIDER_NAME] = provider
        if span.plan.extras and not span.plan.extras.isdisjoint(("langsmith", "bentolabs")):
            attributes[semconv.GEN_AI_SYSTEM] = provider
    if more:
        answered = more.get("response_model")
        if answered is not None and answered != record.model:
            attributes[semconv.GEN_AI_RESPONSE_MODEL] = _valid(str(answered))
        if reasons := more.get("finish_reasons"):
            attributes[semconv.GEN_AI_RESPONSE_FINISH_REASONS] = [_valid(str(reason)) for reason in reasons]


_TOKENS: Final = (
    ("cache_read_tokens", semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS, semconv.ROOTSPAN_SESSION_CACHE_READ_TOKENS),
    (
        "cache_creation_tokens",
        semconv.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS,
        semconv.ROOTSPAN_SESSION_CACHE_CREATION_TOKENS,
    ),
    ("reasoning_tokens", semconv.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS, semconv.ROOTSPAN_SESSION_REASONING_TOKENS),
)


def _is_below(span: _Draft) -> bool:
    """Return whether totals would be counted twice; an outcome's process does not know, and twice is the worse."""
    return bool(span.more.get("usage_below", span.record.kind == Kind.OUTCOME))


def _usage(span: _Draft) -> None:
    record, attributes, more = span.record, span.attributes, span.more
    below = _is_below(span)
    if (count := span.count("input_tokens", record.input_tokens)) is not None:
        attributes[semconv.ROOTSPAN_SESSION_INPUT_TOKENS if below else semconv.GEN_AI_USAGE_INPUT_TOKENS] = count
    if (count := span.count("output_tokens", record.output_tokens)) is not None:
        attributes[semconv.ROOTSPAN_SESSION_OUTPUT_TOKENS if below else semconv.GEN_AI_USAGE_OUTPUT_TOKENS] = count
    if more:
        for field, name, total in _TOKENS:
            if (count := span.count(field, more.get(field))) is not None:
                attributes[total if below else name] = count


def _cost(span: _Draft) -> None:
    record, attributes = span.record, span.attributes
    if record.cost is None:
        return
    cost = span.amount("cost", record.cost)
    if cost is None or cost < 0:
        span.drop("cost")
    elif _is_below(span):
        attributes[semconv.ROOTSPAN_SESSION_COST] = cost
    else:
        attributes[semconv.GEN_AI_USAGE_COST] = attributes[semconv.LLM_COST_TOTAL] = cost
        if "mlflow" in span.plan.extras:
            attributes[semconv.MLFLOW_LLM_COST] = _dumps({"total_cost": cost})


# Content: everything below is what `capture_content=False` leaves out ------------------------------------------------


def _value(span: _Draft, name: str, mime: str, value: Any, frozen: Frozen) -> None:
    """Write `input.value` or `output.value`: text as it is, containers as JSON."""
    slack = span.plan.slack
    if isinstance(value, str):
        span.attributes[name] = _valid(value if len(value) <= slack else _cut(value, slack))
        span.attributes[mime] = semconv.TEXT_PLAIN
        return
    untouched = span.untouched and type(frozen) is bytes and len(frozen) <= slack
    span.attributes[name] = cast("bytes", frozen).decode() if untouched else span.json(value)
    span.attributes[mime] = semconv.APPLICATION_JSON if isinstance(value, (dict, list)) else semconv.TEXT_PLAIN


def _input_messages(span: _Draft, value: Any) -> None:
    slack = span.plan.slack
    if isinstance(value, str):
        text = f"{_USER_HEAD}{_dumps(value)}}}]}}]"
        if len(text) <= slack:
            span.attributes[semconv.GEN_AI_INPUT_MESSAGES] = text
            return
    elif _is_object(value) and "role" not in value and "system_instructions" not in span.more:
        separate = _first(value, "system", "system_instruction", "instructions")
        if separate and _wrapped(value, "user"):
            span.attributes[semconv.GEN_AI_SYSTEM_INSTRUCTIONS] = span.json(_instructions(separate))
    span.attributes[semconv.GEN_AI_INPUT_MESSAGES] = _fit_messages(_safe_messages(value, "user"), slack)


def _output_messages(span: _Draft, value: Any) -> None:
    reasons = span.more.get("finish_reasons") or ()
    default = "error" if span.failed else str(reasons[0]) if reasons else "stop"
    slack = span.plan.slack
    if isinstance(value, str):
        text = f'{_ASSISTANT_HEAD}{_dumps(value)}}}],"finish_reason":{_dumps(default)}}}]'
        if len(text) <= slack:
            span.attributes[semconv.GEN_AI_OUTPUT_MESSAGES] = text
            return
    messages = _safe_messages(value, "assistant")
    for message, reason in zip(messages, (*map(str, reasons), *[default] * len(messages)), strict=False):
        message["finish_reason"] = "error" if span.failed else message.get("finish_reason") or reason
    span.attributes[semconv.GEN_AI_OUTPUT_MESSAGES] = _fit_messages(messages, slack)


def _safe_messages(value: Any, role: str) -> list[dict[str, Any]]:
    try:
        return _messages(value, role)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):  # nearly a message: show it as it is
        return [{"role": role, "parts": [_text_part(value)]}]


def _json_text(span: _Draft, value: Any) -> str:
    """Return a tool's arguments or result as JSON; text that is JSON already stays as it is."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        with contextlib.suppress(ValueError):
            orjson.loads(value)
            return value if len(value) <= span.plan.slack else span.json(orjson.loads(value))
    return span.json(value)


def _input(span: _Draft) -> None:
    record = span.record
    if not span.plan.capture or record.input is None or (value := span.reveal("input", record.input)) is None:
        return
    if record.kind != Kind.MODEL:
        _value(span, semconv.INPUT_VALUE, semconv.INPUT_MIME_TYPE, value, record.input)
    if record.kind in _CHATS:
        _input_messages(span, value)
    elif record.kind == Kind.TOOL:
        span.attributes[semconv.GEN_AI_TOOL_CALL_ARGUMENTS] = _json_text(span, value)
    elif record.kind == Kind.RETRIEVAL and isinstance(value, str):
        span.attributes[semconv.GEN_AI_RETRIEVAL_QUERY_TEXT] = cast("str", span.attributes[semconv.INPUT_VALUE])


def _output(span: _Draft) -> None:
    record = span.record
    if not span.plan.capture or record.output is None or (value := span.reveal("output", record.output)) is None:
        return
    if record.kind != Kind.MODEL:
        _value(span, semconv.OUTPUT_VALUE, semconv.OUTPUT_MIME_TYPE, value, record.output)
    if record.kind in _CHATS:
        _output_messages(span, value)
    elif record.kind == Kind.TOOL:
        span.attributes[semconv.GEN_AI_TOOL_CALL_RESULT] = _json_text(span, value)
    elif record.kind == Kind.RETRIEVAL and _is_array(value):
        span.attributes[semconv.GEN_AI_RETRIEVAL_DOCUMENTS] = cast("str", span.attributes[semconv.OUTPUT_VALUE])


_CHATS: Final = frozenset({Kind.EVENT, Kind.INTERACTION, Kind.SESSION, Kind.MODEL})


def _system(span: _Draft) -> None:
    if span.plan.capture and (given := span.more.get("system_instructions")) is not None:
        parts = _instructions(span.reveal("system_instructions", given))
        span.attributes[semconv.GEN_AI_SYSTEM_INSTRUCTIONS] = span.json(parts)


def _tool(span: _Draft) -> None:
    more, attributes = span.more, span.attributes
    name = more.get("tool_name")
    if name is None and span.record.kind == Kind.TOOL:
        name = span.record.name.removeprefix("execute_tool ")
    for key, value in (
        (semconv.GEN_AI_TOOL_NAME, name),
        (semconv.GEN_AI_TOOL_CALL_ID, more.get("call_id")),
        (semconv.GEN_AI_TOOL_TYPE, more.get("tool_type")),
        (semconv.GEN_AI_TOOL_DESCRIPTION, more.get("tool_description")),
    ):
        if value is not None:
            attributes[key] = _valid(str(value))


def _decision(span: _Draft) -> None:
    more, attributes = span.more, span.attributes
    if span.plan.capture and more.get("reasoning") is not None:
        attributes[semconv.ROOTSPAN_DECISION_REASONING] = span.text("reasoning", more["reasoning"])
    if span.plan.capture and more.get("alternatives") is not None:
        alternatives = span.reveal("alternatives", more["alternatives"])
        attributes[semconv.ROOTSPAN_DECISION_ALTERNATIVES] = _typed(span, alternatives)
    if (confidence := span.amount("confidence", more.get("confidence"))) is not None:
        attributes[semconv.ROOTSPAN_DECISION_CONFIDENCE] = confidence


def _session_name(span: _Draft) -> None:
    if span.plan.capture and (name := span.more.get("session_name")) is not None:
        span.attributes[semconv.ROOTSPAN_SESSION_NAME] = span.text("session_name", name)


def _feedback(span: _Draft) -> None:
    more, attributes = span.more, span.attributes
    name = more.get("evaluation_name") or span.record.name
    if name != semconv.GEN_AI_EVALUATION_RESULT:
        attributes[semconv.GEN_AI_EVALUATION_NAME] = _valid(str(name))
    if isinstance(target := more.get("target"), str) and len(target) >= 16:
        attributes[semconv.ROOTSPAN_TARGET_SPAN_ID] = target[-16:]
    label, score = more.get("label"), more.get("score")
    if isinstance(score, str):
        label, score = score if label is None else label, None
    if label is not None:
        attributes[semconv.GEN_AI_EVALUATION_SCORE_LABEL] = span.text("label", label)
    if span.plan.capture and more.get("comment") is not None:
        attributes[semconv.GEN_AI_EVALUATION_EXPLANATION] = span.text("comment", more["comment"])
    if (value := span.amount("score", float(score) if type(score) is bool else score)) is not None:
        attributes[semconv.GEN_AI_EVALUATION_SCORE_VALUE] = value


# What the caller or an adapter names ---------------------------------------------------------------------------------


def _typed(span: _Draft, value: Any) -> AttributeValue:
    """Return a JSON-like value as an attribute: scalars and homogeneous lists keep their type, the rest is JSON."""
    kind = cast("Any", type(value))
    if kind is str:
        text: str = value if len(value) <= span.plan.slack else _cut(value, span.plan.slack)
        return text if text.isascii() else _valid(text)
    if kind is int:
        return cast("int", value) if -(2**63) <= value < 2**63 else span.json(str(value))[1:-1]
    if kind is bool or kind is float:
        return cast("AttributeValue", value)
    if kind is list or kind is tuple:
        kinds = set(map(type, value))
        if len(kinds) == 1 and not kinds.isdisjoint((str, bool, int, float)):
            items = [_typed(span, item) for item in value]
            if kinds == set(map(type, items)):
                return cast("AttributeValue", items)
    return span.json(value)


_NONE: Final[frozenset[str]] = frozenset()


def _clashing(keys: Mapping[str, Any]) -> Collection[str]:
    """Return the keys of which one is a dotted prefix of another: backends that nest attributes lose one of them."""
    clashing: set[str] = set()
    for key in keys:
        end = key.find(".")
        while end > 0:
            if key[:end] in keys:
                clashing.update((key, key[:end]))
            end = key.find(".", end + 1)
    return clashing


def _adapter(span: _Draft) -> None:
    given = span.more.get("attributes")
    if not isinstance(given, Mapping):
        return
    capture = span.plan.capture
    for name, value in cast("Mapping[str, Any]", given).items():
        if value is None or not (capture or not (name in semconv.CONTENT or name.startswith(_HEADERS))):
            continue
        if name not in semconv.NAMES or name in semconv.CONTENT:  # the caller's own values
            # Under its name, so that the key denylist sees it.
            value = span.redactor.value("attributes", {name: value}).get(name)
        if value is not None:
            span.attributes[_valid(name)] = _typed(span, value)


def _metrics(span: _Draft) -> None:
    metrics = span.reveal("custom_metrics", span.more["custom_metrics"]) if "custom_metrics" in span.more else None
    if not _is_object(metrics):
        return
    fields = metrics
    clashing = _clashing(fields)
    for key, value in fields.items():
        if value is not None:
            name = key.replace(".", "_") if key in clashing else key
            span.attributes[f"{semconv.ROOTSPAN_METRIC}.{_valid(name)}"] = _typed(span, value)


def _properties(span: _Draft) -> None:
    record, attributes, plan = span.record, span.attributes, span.plan
    inherited = record.inherited.properties if record.inherited else None
    metadata: dict[str, Any] = {}
    for frozen in (inherited, record.properties):
        if frozen is not None:
            found = span.reveal("properties", frozen)
            metadata.update(found if _is_object(found) else {"properties": found})
    if None in metadata.values():
        metadata = {key: value for key, value in metadata.items() if value is not None}
    clashing = _clashing(metadata) if "." in "".join(metadata) else _NONE
    given = attributes if "attributes" in span.more else _NONE
    known, slack = plan.free, plan.slack
    for key, value in metadata.items():
        free = known.get(key)
        if not (plan.is_free(key) if free is None else free) or key in clashing or (given and _is_near(key, given)):
            continue
        if type(value) is str and len(value) <= slack and value.isascii() and key.isascii():
            attributes[key] = value
        else:
            attributes[_valid(key)] = _typed(span, value)
    if plan.extras:
        _vendor_properties(span, {key: value for key, value in metadata.items() if key not in clashing})
    if span.convo is not None:
        metadata["session_id"] = span.convo
    if span.user is not None:
        metadata["user_id"] = span.user
    if metadata:
        attributes[semconv.METADATA] = span.json(metadata)


def _is_near(key: str, names: Collection[str]) -> bool:
    """Return whether a key equals, prefixes or extends a name, at a dot."""
    return any(key == name or name.startswith(f"{key}.") or key.startswith(f"{name}.") for name in names)


def _vendor_properties(span: _Draft, properties: Mapping[str, Any]) -> None:
    extras, attributes = span.plan.extras, span.attributes
    if "traceloop" in extras:
        own = {"user_id": span.user, "convo_id": span.convo}
        for key, value in {**properties, **own}.items():
            if value is not None:
                attributes.setdefault(f"{semconv.TRACELOOP_PROPERTIES}.{key}", _typed(span, value))
    for key, value in properties.items():
        if "langfuse" in extras:
            attributes[f"{semconv.LANGFUSE_TRACE_METADATA}.{key}"] = _typed(span, value)
        if "mlflow" in extras:
            text = value if isinstance(value, str) else span.json(value)
            attributes[f"{semconv.MLFLOW_TRACE_TAG}.{key}"] = _typed(span, text)
    if "bentolabs" in extras and span.user is not None:
        attributes[semconv.GEN_AI_USER_ID] = span.user


_Part = Callable[[_Draft], None]
_FIRST: Final[tuple[_Part, ...]] = (_failure, _name, _operation, _identity, _tags)
_LAST: Final[tuple[_Part, ...]] = (_model, _usage, _cost, _input, _output)
_RARE: Final[tuple[_Part, ...]] = (_system, _tool, _decision, _session_name, _metrics, _adapter)
_NAMED: Final = frozenset({Kind.EVENT, Kind.INTERACTION})


def _parts(kind: str, rare: bool) -> tuple[_Part, ...]:
    """Return the parts of a kind of record; properties come last, so that they give way to every other name."""
    named: tuple[_Part, ...] = (_event_name,) if kind in _NAMED else (_feedback,) if kind == Kind.FEEDBACK else ()
    return (*_FIRST, *named, *_LAST, *(_RARE if rare or kind == Kind.TOOL else ()), _properties)


_KINDS: Final = tuple(value for name, value in vars(Kind).items() if name.isupper())
_PLAIN: Final = {kind: _parts(kind, rare=False) for kind in _KINDS}
_FULL: Final = {kind: _parts(kind, rare=True) for kind in _KINDS}


# Events, links and the span itself -----------------------------------------------------------------------------------


def _exception(span: _Draft) -> tuple[str, list[SpanEvent]]:
    """Return the status description of a failure and its events; without content the texts are left out."""
    record, capture = span.record, span.plan.capture
    given: Iterable[SpanEvent] = span.more.get("events") or ()
    events = [_event(span, event) for event in given]
    if not span.failed:
        return "", events
    kind, message = record.error or (None, None)
    named = _valid(str(kind)) if kind else semconv.ERROR_TYPE_OTHER
    span.attributes.setdefault(semconv.ERROR_TYPE, named)
    described = span.text("error", message) if message is not None and capture else ""
    if not any(event.name == semconv.EXCEPTION for event in events):
        attributes: dict[str, AttributeValue] = {semconv.EXCEPTION_TYPE: named}
        if described:
            attributes[semconv.EXCEPTION_MESSAGE] = described
        events.append(SpanEvent(semconv.EXCEPTION, record.end, attributes))
    return described or (named if kind else ""), events


def _event(span: _Draft, event: SpanEvent) -> SpanEvent:
    kept: dict[str, AttributeValue] = {}
    for name, value in event.attributes.items():
        if span.plan.capture or name not in semconv.CONTENT:
            kept[name] = _typed(span, span.redactor.value("events", {name: value}).get(name))
    return SpanEvent(_valid(event.name), event.time, kept)


def _link(span: _Draft) -> Link | None:
    link = span.record.link
    target = span.more.get("target") if link is None else None
    if isinstance(target, str) and len(target) == 48:
        link = target
    if link is None:
        return None
    if isinstance(link, str):
        bytes.fromhex(link)
        return Link(link[:32], link[-16:]) if len(link) == 48 else None
    return Link(f"{link.trace_id:032x}", f"{link.span_id:016x}")


def _limit(span: _Draft, settings: Settings) -> dict[str, AttributeValue]:
    """Return the attributes within the host's OpenTelemetry limits; what comes last goes first."""
    attributes = span.attributes
    longest, most = settings.attribute_length_limit, settings.attribute_count_limit
    if longest is not None:
        for name, value in attributes.items():
            if isinstance(value, str) and len(value) > longest and name not in _JSON_ONLY:
                attributes[name] = value[:longest]
    if most is not None and len(attributes) > most:
        attributes = dict(list(attributes.items())[:most])
    return attributes


_plans: dict[int, _Plan] = {}


def _plan_of(settings: Settings) -> _Plan:
    if len(_plans) >= _MOST_PLANS:
        _plans.clear()
    plan = _plans[id(settings)] = _Plan(settings)
    return plan


def to_span(record: Record, settings: Settings, redactor: Redactor) -> SpanData:
    """Return a record as a span in the wire dialect; never raises.

    Args:
        record: what the caller's thread left.
        settings: the tracker's settings: limits, extras, `capture_content`, the default agent.
        redactor: masks secrets in the host's values before they are shaped.

    Returns:
        The span; `rootspan.dropped_fields` names what could not be shaped.

    Example:
        >>> to_span(record, settings, redactor).attributes["gen_ai.operation.name"]  # doctest: +SKIP
        'chat'
    """
    record = Record._make(record)  # the caller's thread leaves a plain tuple
    span = _Draft(record, _plans.get(id(settings)) or _plan_of(settings), redactor)
    table = _FULL if span.more else _PLAIN
    for part in table.get(record.kind) or table[Kind.STEP]:
        try:
            part(span)
        except Exception:
            span.drop(part.__name__[1:])
    return _assembled(span, settings)


def _assembled(span: _Draft, settings: Settings) -> SpanData:
    record = span.record
    message = ""
    events: Sequence[SpanEvent] = ()
    links: Sequence[Link] = ()
    if span.failed or span.more:
        try:
            message, events = _exception(span)
        except Exception:
            span.drop("error")
    if record.link is not None or span.more:
        try:
            links = [link] if (link := _link(span)) else ()
        except Exception:
            span.drop("link")
    if span.dropped:
        span.attributes[semconv.ROOTSPAN_DROPPED_FIELDS] = span.dropped
    attributes = span.attributes
    if settings.attribute_length_limit is not None or settings.attribute_count_limit is not None:
        attributes = _limit(span, settings)
    status = semconv.STATUS_ERROR if span.failed else semconv.STATUS_UNSET
    return SpanData(
        record.trace[:32], record.span[-16:], record.parent[-16:] if record.parent else None, span.name, span.kind,
        record.start, record.end, attributes, events, links, status, message,
    )  # fmt: skip
