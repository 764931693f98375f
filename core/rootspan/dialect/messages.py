"""Shapes whatever a host passes as a conversation into GenAI messages, made of parts."""

# Host values are told apart at run time, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, cast

import orjson

from rootspan.description import valid
from rootspan.dialect.lengths import DATA, digest, dumps, is_array, is_object

__all__ = ["ENDED", "THOUGHTS", "first", "last_words", "messages", "unwrapped"]

ENDED: Final = ("finish_reason", "stop_reason", "done_reason", "finishReason")
"""The fields in which providers say why an answer ended."""

THOUGHTS: Final = ("reasoning", "thinking", "redacted_thinking", "reasoning_content")
"""The types of what was thought, and is no part of an answer's text."""

_ROLES: Final = {
    "ai": "assistant",
    "assistant": "assistant",
    "chat": "user",
    "developer": "system",
    "function": "tool",
    "human": "user",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "user": "user",
}
_SPEAKERS: Final = {name: role for name, role in _ROLES.items() if role != "tool"}
_SPEAKS: Final = ("content", "parts", "tool_calls", "function_call", "reasoning_content", "refusal")
_MODALITIES: Final = ("image", "audio", "video")


def first(fields: Mapping[str, Any], *keys: str) -> Any:
    """Return the first of these fields that holds something."""
    for key in keys:
        if (value := fields.get(key)) is not None:
            return value
    return None


def _text_part(value: Any) -> dict[str, Any]:
    return {"type": "text", "content": valid(value) if isinstance(value, str) else dumps(value)}


def _said(block: dict[str, Any]) -> dict[str, Any]:
    return _text_part(first(block, "text", "content", "refusal", "transcript") or "")


def _reasoned(block: dict[str, Any]) -> dict[str, Any]:
    inner = block.get("reasoning_content")  # of Bedrock's
    thought = first(inner if is_object(inner) else block, "thinking", "reasoning", "text", "content", "summary", "data")
    if is_array(thought):
        thought = "\n".join(str(step.get("text", "")) if is_object(step) else str(step) for step in thought)
    return {**_text_part(thought or ""), "type": "reasoning"}


def _tool_call(block: dict[str, Any]) -> dict[str, Any]:
    inner = first(block, "function", "functionCall", "function_call")
    call: dict[str, Any] = inner if is_object(inner) else block
    # Of Claude's streamed calls the pieces are kept beside an input that is empty.
    arguments = first(call, "partial_json") or first(call, "arguments", "args", "input", "parameters")
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError):
            arguments = orjson.loads(arguments)
    part: dict[str, Any] = {"type": "tool_call", "name": first(call, "name") or "", "arguments": arguments}
    identifier = first(block, "call_id", "id") or call.get("id")
    return part if identifier is None else {"type": "tool_call", "id": identifier, **part}


def _tool_answer(block: dict[str, Any]) -> dict[str, Any]:
    inner = first(block, "functionResponse", "function_response")
    answer: dict[str, Any] = inner if is_object(inner) else block
    identifier = first(answer, "tool_call_id", "tool_use_id", "call_id", "id", "name")
    response = first(answer, "response", "content", "output", "result")
    part: dict[str, Any] = {"type": "tool_call_response", "response": "" if response is None else response}
    return part if identifier is None else {"type": "tool_call_response", "id": identifier, **part}


def _media(block: dict[str, Any]) -> dict[str, Any]:
    fields = dict(block)
    for key in ("source", "image_url", "input_audio", "file", "inlineData", "inline_data", "fileData", "file_data"):
        if is_object(inner := block.get(key)):
            fields.update(inner)
        elif isinstance(inner, str) and key == "image_url":
            fields["url"] = inner
    mime = first(fields, "mime_type", "media_type", "mimeType", "mime")
    part: dict[str, Any] = {"modality": _modality(fields, mime)}
    uri = first(fields, "url", "uri", "fileUri", "file_uri", "file_url")
    data = first(fields, *DATA) if block.get("type") != "blob" else first(fields, "content")
    for text in (uri, data):
        if isinstance(text, str) and text.startswith("data:"):
            mime, data, uri = text[5:].partition(";")[0], text.partition(",")[2], None
    if mime is not None:
        part["mime_type"] = mime
    if isinstance(data, str) and uri is None:
        return {"type": "blob", **part, "content": digest(data)}
    if uri is not None:
        return {"type": "uri", **part, "uri": uri}
    return {"type": "file", **part, "file_id": first(fields, "file_id", "id", "filename") or ""}


def _modality(fields: Mapping[str, Any], mime: Any) -> str:
    """Return what the bytes are: what the block says, else what its type or MIME type begins with."""
    named = fields.get("modality")
    if isinstance(named, str):
        return named
    hint = f"{fields.get('type', '')} {mime or ''}"
    return next((modality for modality in _MODALITIES if modality in hint), "document")


class _Kind(NamedTuple):
    """A kind of part: how it is made of a provider's own, and what those are called."""

    shape: Callable[[dict[str, Any]], dict[str, Any]]
    author: str | None  # whose it is where it stands among messages, if that is certain
    types: tuple[str, ...]
    keys: tuple[str, ...] = ()  # what Gemini's hold, which have no type


_KINDS: Final = (
    _Kind(_said, None, ("text", "input_text", "output_text", "refusal")),
    _Kind(_reasoned, "assistant", THOUGHTS),
    _Kind(
        _tool_call,
        "assistant",
        ("tool_call", "tool_call_chunk", "tool_use", "server_tool_use", "function_call", "function"),
        ("functionCall", "function_call"),
    ),
    _Kind(
        _tool_answer,
        "tool",
        ("tool_call_response", "tool_result", "function_call_output", "web_search_tool_result"),
        ("functionResponse", "function_response"),
    ),
    _Kind(
        _media,
        None,
        ("image", "image_url", "input_image", "audio", "input_audio", "video", "media", "document", "file",
         "input_file", "blob", "uri"),
        ("inlineData", "inline_data", "fileData", "file_data"),
    ),
)  # fmt: skip
_TYPES: Final = {name: kind for kind in _KINDS for name in kind.types}
_KEYS: Final = {name: kind for kind in _KINDS for name in kind.keys}


def _is_typed(item: Any) -> bool:
    return is_object(item) and isinstance(item.get("type"), str)


def _part(block: Any) -> dict[str, Any]:
    """Return one content block of any provider as a GenAI message part."""
    if not is_object(block):
        return _text_part(block)
    if _is_typed(block):
        kind = _TYPES.get(block["type"])
        return kind.shape(block) if kind else block  # the conventions allow parts of other types
    for key, kind in _KEYS.items():
        if key in block:
            return kind.shape(block)
    if isinstance(block.get("text"), str):
        return _reasoned(block) if block.get("thought") is True else _said(block)
    return _text_part(block)


def _is_part(item: Any) -> bool:
    return _is_typed(item) and item["type"] in _TYPES


def _as_message(item: Any) -> dict[str, Any] | None:
    """Return the fields of what is a message of some library, or None."""
    if is_array(item):  # LangChain's ("human", "hi")
        if len(item) == 2 and isinstance(item[0], str) and item[0] in _ROLES:
            return {"role": item[0], "content": item[1]}
        return None
    if not is_object(item):
        return None
    if item.get("lc") is not None and isinstance(item.get("kwargs"), dict) and isinstance(item.get("id"), list):
        return {"type": str(item["id"][-1]), **item["kwargs"]} if item["id"] else None
    if isinstance(item.get("role"), str):
        return item if any(key in item for key in _SPEAKS) else None
    if item.keys() == {"parts"}:  # Gemini's may tell no role
        return item
    return item if _is_typed(item) and _named(item["type"]) is not None and "content" in item else None


def _named(role: str) -> str | None:
    """Return the role of that name, which may be that of LangChain's class for it: `AIMessageChunk`."""
    return _ROLES.get(role.lower().partition("message")[0])


def _role(fields: Mapping[str, Any], default: str) -> str:
    role = fields.get("role")
    if isinstance(role, str):
        return _named(role) or role
    return _named(str(fields.get("type", ""))) or default


def _author(part: Mapping[str, Any], default: str) -> str:
    """Return whose a part is that stands where messages do."""
    kind = _TYPES.get(part["type"])
    return (kind.author if kind else "assistant") or default


def _message(fields: dict[str, Any], default: str) -> dict[str, Any]:
    """Return a message of OpenAI, Anthropic, Gemini, LangChain or GenAI as a GenAI message."""
    role = _role(fields, default)
    parts: list[dict[str, Any]] = []
    if (thought := fields.get("reasoning_content")) is not None:
        parts.append(_reasoned({"text": thought}))
    content = first(fields, "parts", "content")
    blocks = content if is_array(content) else [] if content in (None, "") else [content]
    said = [_part(block) for block in blocks]
    if role == "tool" and not any(part["type"] == "tool_call_response" for part in said):
        said = [_tool_answer(fields)]
    parts += said
    calls = fields.get("tool_calls") or fields.get("function_call")
    for call in calls if is_array(calls) else [calls] if is_object(calls) else []:
        parts.append(_tool_call(call) if is_object(call) else _text_part(call))
    if isinstance(fields.get("refusal"), str):
        parts.append(_text_part(fields["refusal"]))
    message: dict[str, Any] = {"role": role, "parts": parts}
    if isinstance(fields.get("name"), str) and role != "tool":
        message["name"] = fields["name"]
    return message


def _spoken(item: Any) -> dict[str, Any] | None:
    """Return the commonest message, a role and a text, as a GenAI message; None for any other; one look is enough."""
    if type(item) is not dict or len(item) != 2:
        return None
    role, content = item.get("role"), item.get("content")
    if type(role) is not str or type(content) is not str or not content or role not in _SPEAKERS:
        return None
    return {"role": _SPEAKERS[role], "parts": [{"type": "text", "content": content}]}


def _listed(items: list[Any], role: str) -> list[dict[str, Any]] | None:
    """Return the messages of a list, or None when it holds something else."""
    spoken = list(map(_spoken, items))
    if all(spoken) and items:
        return cast("list[dict[str, Any]]", spoken)
    found = [_as_message(item) for item in items]
    belongs = _is_typed if any(found) else _is_part  # beside messages are what OpenAI's own tools did
    if not items or not all(fields or belongs(item) for fields, item in zip(found, items, strict=True)):
        nested = items[0] if len(items) == 1 else None  # LangChain's batches
        return _listed(nested, role) if is_array(nested) else None
    if not any(found) and all(_author(item, role) in (role, "assistant") for item in items):
        return [{"role": role, "parts": [_part(item) for item in items]}]  # the content of one message
    messages: list[dict[str, Any]] = []
    for said, fields, item in zip(spoken, found, items, strict=True):
        message = said or (_message(fields, role) if fields else {"role": _author(item, role), "parts": [_part(item)]})
        if reason := first(fields or {}, *ENDED):
            message["finish_reason"] = reason
        messages.append(message)
    return messages


def unwrapped(fields: dict[str, Any], role: str) -> list[dict[str, Any]] | None:
    """Return the messages inside a request or an answer of a provider, or None."""
    for key, inner in (("choices", "message"), ("candidates", "content")):
        if is_array(choices := fields.get(key)):
            said = [{"role": role, "finish_reason": first(choice, *ENDED), **choice[inner]} for choice in choices]
            return _listed(said, role)
    answer = ("output",) if fields.get("object") == "response" else ()
    for key in ("messages", "contents", "input", *answer):
        if is_array(items := fields.get(key)):
            return _listed(items, role)
    return None


def messages(value: Any, role: str) -> list[dict[str, Any]]:
    """Return any value as GenAI messages; what is not message-like is one message with its text or JSON.

    Args:
        value: a text, or what a library calls messages, a message, a request or an answer, JSON-like.
        role: whose words they are where nothing says so.
    """
    found: list[dict[str, Any]] | None = None
    try:
        if is_array(value):
            found = _listed(value, role)
        elif is_object(value):
            alone = _as_message(value) or _is_part(value)
            found = _listed([value], role) if alone else unwrapped(value, role)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):  # nearly a message: shown as it is
        found = None
    return found or [{"role": role, "parts": [_text_part(value)]}]


def last_words(value: Any, role: str) -> Any:
    """Return the text of the last message, or the value itself where that has none."""
    parts = messages(value, role)[-1]["parts"]
    return "\n".join(part["content"] for part in parts if part.get("type") == "text") or value
