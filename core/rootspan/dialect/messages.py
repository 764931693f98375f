"""Shapes whatever a host passes as a conversation into GenAI messages, made of parts."""

# Host values are told apart at run time, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple, cast

import orjson

from rootspan.description import valid
from rootspan.dialect.encoded import DATA, digest
from rootspan.dialect.json_like import dumps, is_array, is_object

__all__ = ["ENDED", "THOUGHTS", "first", "last_words", "messages", "unwrapped"]

ENDED: Final = ("finish_reason", "stop_reason", "done_reason", "finishReason", "stopReason")
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
_AUTHORS: Final = {"system-prompt": "system", "tool-return": "tool", "retry-prompt": "tool"}
"""Whose parts of a request are of pydantic-ai's; the others are the user's."""
_SPEAKERS: Final = {name: role for name, role in _ROLES.items() if role != "tool"}
_SPEAKS: Final = ("content", "parts", "tool_calls", "function_call", "reasoning_content", "refusal", "audio")
_THOUGHT: Final = ("reasoning_content", "reasoning", "thinking", "tool_plan")
"""The fields of a message in which providers put what was thought beside its content."""
_MODALITIES: Final = ("image", "audio", "video")
_MEDIA_KEYS: Final = ("image", "document", "audio", "video", "inlineData", "inline_data", "fileData", "file_data")
_BARE: Final = ("image_url", "document_url", "image", "input_audio")  # of some providers a text: a URL, or the bytes


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
    inner = first(block, "reasoningContent", "reasoning_content")  # Bedrock's, and LangChain's for it
    inner = inner.get("reasoningText", inner) if is_object(inner) else block
    thought = first(inner, "thinking", "reasoning", "text", "content", "summary", "data", "redactedContent")
    if is_array(thought):
        thought = "\n".join(str(step.get("text", "")) if is_object(step) else str(step) for step in thought)
    return {**_text_part(thought or ""), "type": "reasoning"}


def _tool_call(block: dict[str, Any]) -> dict[str, Any]:
    inner = first(block, "function", "functionCall", "function_call", "toolUse", "custom")
    call: dict[str, Any] = inner if is_object(inner) else block
    # Of Claude's streamed calls the pieces are kept beside an input that is empty.
    arguments = first(call, "partial_json") or first(call, "arguments", "args", "input", "parameters")
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError):
            arguments = orjson.loads(arguments)
    name = first(call, "name", "toolName", "tool_name") or ""
    part: dict[str, Any] = {"type": "tool_call", "name": name, "arguments": arguments}
    identifier = first(block, "call_id", "id", "tool_call_id", "toolCallId") or first(call, "id", "toolUseId")
    return part if identifier is None else {"type": "tool_call", "id": identifier, **part}


def _tool_answer(block: dict[str, Any]) -> dict[str, Any]:
    inner = first(block, "functionResponse", "function_response", "toolResult")
    answer: dict[str, Any] = inner if is_object(inner) else block
    identifier = first(answer, "tool_call_id", "tool_use_id", "call_id", "toolCallId", "toolUseId", "id", "name")
    response = first(answer, "response", "content", "output", "result")
    part: dict[str, Any] = {"type": "tool_call_response", "response": "" if response is None else response}
    return part if identifier is None else {"type": "tool_call_response", "id": identifier, **part}


def _media(block: dict[str, Any]) -> dict[str, Any]:
    kind = first(block, "type", "kind") or next((key for key in _MEDIA_KEYS if is_object(block.get(key))), "")
    fields = dict(block)
    for key in ("image_url", "document_url", "input_audio", "file", *_MEDIA_KEYS, "source", "s3Location"):
        if is_object(inner := fields.get(key)):
            fields.update(inner)
        elif isinstance(inner, str) and key in _BARE:
            fields["url" if key.endswith("_url") or "://" in inner else "data"] = inner
    mime = first(fields, "mime_type", "media_type", "mimeType", "mediaType", "mime")
    part: dict[str, Any] = {"modality": _modality(fields, f"{kind} {mime or ''}")}
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
    identifier = first(fields, "file_id", "id", "filename")
    return {"type": "file", **part, "file_id": identifier} if identifier else _text_part(block)


def _modality(fields: Mapping[str, Any], hint: str) -> str:
    """Return what the bytes are: what the block says, else what its type and MIME type hint at."""
    named = fields.get("modality")
    if isinstance(named, str):
        return named
    return next((modality for modality in _MODALITIES if modality in hint), "document")


class _Kind(NamedTuple):
    """A kind of part: how it is made of a provider's own, and what those are called."""

    shape: Callable[[dict[str, Any]], dict[str, Any]]
    author: str | None  # whose it is where it stands among messages, if that is certain
    types: tuple[str, ...]
    keys: tuple[str, ...] = ()  # what Gemini's and Bedrock's hold, which have no type


_KINDS: Final = (
    _Kind(_said, None, ("text", "input_text", "output_text", "refusal")),
    _Kind(_reasoned, "assistant", THOUGHTS, ("reasoningContent",)),
    _Kind(
        _tool_call,
        "assistant",
        ("tool_call", "tool_call_chunk", "tool_use", "server_tool_use", "mcp_tool_use", "function_call", "function",
         "custom_tool_call", "server_tool_call", "invalid_tool_call", "tool-call", "builtin-tool-call"),
        ("functionCall", "function_call", "toolUse"),
    ),
    _Kind(
        _tool_answer,
        "tool",
        ("tool_call_response", "tool_result", "function_call_output", "web_search_tool_result",
         "web_fetch_tool_result", "code_execution_tool_result", "bash_code_execution_tool_result", "mcp_tool_result",
         "custom_tool_call_output", "server_tool_result", "tool-result",
         "builtin-tool-return"),
        ("functionResponse", "function_response", "toolResult"),
    ),
    _Kind(
        _media,
        None,
        ("image", "image_url", "input_image", "audio", "input_audio", "video", "media", "document", "document_url",
         "file", "input_file", "blob", "uri", "image-url", "audio-url", "video-url", "document-url", "binary"),
        _MEDIA_KEYS,
    ),
)  # fmt: skip
_TYPES: Final = {name: kind for kind in _KINDS for name in kind.types}
_KEYS: Final = {name: kind for kind in _KINDS for name in kind.keys}


def _is_typed(item: Any) -> bool:
    return is_object(item) and isinstance(item.get("type"), str)


def _turns(item: Any) -> list[Any]:
    """Return the messages that one of pydantic-ai's holds, in which each part has an author; none for anything else."""
    kind = item.get("kind") if is_object(item) else None
    if kind not in ("request", "response"):
        return []
    parts = [{"type": part["part_kind"], **part} for part in item["parts"]]
    if kind == "response":
        return [{"role": "assistant", "content": parts, "finish_reason": item.get("finish_reason")}]
    return [{"role": _AUTHORS.get(part["type"], "user"), **part} for part in parts]


def _part(block: Any) -> dict[str, Any]:
    """Return one content block of any provider as a GenAI message part."""
    if not is_object(block):
        return _text_part(block)
    name = first(block, "type", "kind")
    if kind := _TYPES.get(name) if isinstance(name, str) else None:
        return kind.shape(block)
    if _is_typed(block):
        return block  # the conventions allow parts of other types
    for key, kind in _KEYS.items():
        if is_object(block.get(key)):  # Google's own classes hold every field, most of them None
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
    if item.get("role") is None and item.keys() - {"role"} == {"parts"}:  # Gemini's may tell none
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
    thoughts = (fields.get(key) for key in _THOUGHT)
    if thought := next((text for text in thoughts if isinstance(text, str) and text), None):
        parts.append(_reasoned({"text": thought}))
    content = first(fields, "parts", "content")
    blocks = content if is_array(content) else [] if content in (None, "") else [content]
    said = [_part(block) for block in blocks]
    if role == "tool" and not any(part["type"] == "tool_call_response" for part in said):
        said = [_tool_answer(fields)]
    parts += said
    if is_object(audio := fields.get("audio")):  # OpenAI's
        parts += [_said(audio)] if audio.get("transcript") else []
        parts.append(_media({"type": "audio", **audio}))
    if is_array(images := fields.get("images")):  # Ollama's
        parts += [_media({"type": "image", "image": image}) for image in images]
    calls = fields.get("tool_calls") or fields.get("function_call")
    for call in calls if is_array(calls) else [calls] if is_object(calls) else []:
        parts.append(_tool_call(call) if is_object(call) else _text_part(call))
    if isinstance(fields.get("refusal"), str):
        parts.append(_text_part(fields["refusal"]))
    message: dict[str, Any] = {"role": role, "parts": parts}
    if isinstance(fields.get("name"), str) and role != "tool":
        message["name"] = fields["name"]
    if reason := first(fields, *ENDED):
        message["finish_reason"] = reason
    return message


def _spoken(item: Any) -> dict[str, Any] | None:
    """Return the commonest message, a role and a text, as a GenAI message; None for any other; one look is enough."""
    if type(item) is not dict or len(item) != 2:
        return None
    role, content = item.get("role"), item.get("content")
    if type(role) is not str or type(content) is not str or not content or role not in _SPEAKERS:
        return None
    return {"role": _SPEAKERS[role], "parts": [{"type": "text", "content": content}]}


def _shaped(item: Any, role: str) -> dict[str, Any] | None:
    """Return what is a message of some library as a GenAI message; None for what is none."""
    fields = _as_message(item)
    return None if fields is None else _message(fields, role)


def _listed(items: list[Any], role: str) -> list[dict[str, Any]] | None:
    """Return the messages of a list, or None when it holds something else."""
    shaped = list(map(_spoken, items))
    if items and all(shaped):
        return cast("list[dict[str, Any]]", shaped)
    shaped = [spoken or _shaped(item, role) for spoken, item in zip(shaped, items, strict=True)]
    if any(shaped):  # beside messages are what OpenAI's own tools did
        belong = all(message or _is_typed(item) for message, item in zip(shaped, items, strict=True))
        return [message or _alone(item, role) for message, item in zip(shaped, items, strict=True)] if belong else None
    if items and all(map(_is_part, items)):
        if all(_author(item, role) in (role, "assistant") for item in items):
            return [{"role": role, "parts": [_part(item) for item in items]}]  # the content of one message
        return [_alone(item, role) for item in items]
    if len(items) == 1 and is_array(items[0]):  # LangChain's batches
        return _listed(items[0], role)
    several = [_turns(item) for item in items]
    return _listed(list(chain.from_iterable(several)), role) if several and all(several) else None


def _alone(part: dict[str, Any], role: str) -> dict[str, Any]:
    """Return a part that stands where messages do as one."""
    return {"role": _author(part, role), "parts": [_part(part)]}


def _answer(around: dict[str, Any], message: dict[str, Any], role: str) -> dict[str, Any]:
    """Return a message with the reason that stands beside it, and a role."""
    return {"finish_reason": first(around, *ENDED), **message, "role": message.get("role") or role}


def unwrapped(fields: dict[str, Any], role: str) -> list[dict[str, Any]] | None:
    """Return the messages inside a request or an answer of a provider, or None."""
    for key, inner in (("choices", "message"), ("candidates", "content")):
        if is_array(choices := fields.get(key)):
            said = [_answer(choice, choice.get(inner) or {"content": choice["text"]}, role) for choice in choices]
            return _listed(said, role)
    output = fields.get("output")
    said = first(output if is_object(output) else fields, "message")  # Bedrock's; Ollama's and Cohere's
    if is_object(said) and (found := _listed([_answer(fields, said, role)], role)):
        return found
    if fields.get("object") == "response" and is_array(output) and (found := _listed(output, role)):
        if is_object(cut := fields.get("incomplete_details")):
            found[-1]["finish_reason"] = cut.get("reason")
        return found
    for key in ("messages", "contents", "input", "prompt"):
        if is_array(items := fields.get(key)):
            return _listed(items, role)
        if isinstance(items, str) and "model" in fields:
            return _listed([{"role": role, "content": items, "images": fields.get("images")}], role)  # Ollama's
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
            found = _listed([value], role) or unwrapped(value, role)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):  # nearly a message: shown as it is
        found = None
    return found or [{"role": role, "parts": [_text_part(value)]}]


def last_words(value: Any, role: str) -> Any:
    """Return the text of the last message, or the value itself where that has none."""
    parts = messages(value, role)[-1]["parts"]
    return "\n".join(part["content"] for part in parts if part.get("type") == "text") or value
