"""Turns what LangChain hands to a callback into plain values of this moment, within a budget."""

# Host values are told apart at run time, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable
from langchain_core.stores import BaseStore

from rootspan.description import cut
from rootspan.freeze import freeze, thaw
from rootspan.lengths import DATA, SHORT, digest
from rootspan.record import Frozen
from rootspan_langchain.graphs import goto, is_command

__all__ = ["frozen_messages", "frozen_value", "last_said", "message"]

STATE: Final = 65_536
"""Characters kept of a chain's input or output: a graph passes its whole state through every node."""

_SLACK: Final = 65_536  # for the structure around what the budget left: nothing is to be cut a second time
_NODES: Final = 1_000
_DEPTH: Final = 30
_HASHED: Final = 4_000_000  # characters of encoded bytes from which on a digest would hold up the event loop
_ROLES: Final = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "function": "tool"}
_CALLS: Final = frozenset({"tool_use", "tool_call", "function_call"})
_ONLY_MESSAGES: Final = frozenset({"messages", "jump_to", "__interrupt__"})
_CONFIG: Final = frozenset({"callbacks", "configurable"})
# What is part of the framework and no value: it may hold clients, keys and the whole run.
_MACHINERY: Final = (BaseCallbackHandler, BaseCallbackManager, Runnable, BaseStore)
_MESSAGES: Final = frozenset({AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage})
_PLAIN: Final = frozenset({int, float, bool, type(None)})


def frozen_value(value: Any, limit: int = STATE, nodes: int = _NODES) -> Frozen:
    """Return an input, an output or a state as it is now; of a long list of messages the newest are kept."""
    if value is None or type(value) is str:
        return freeze(value, limit)
    return freeze(_Budget(limit, nodes).plain(value), limit + _SLACK, nodes)


def frozen_messages(messages: Iterable[BaseMessage], limit: int) -> Frozen:
    """Return a conversation as it is now."""
    return freeze(_Budget(limit, 4 * _NODES).items(list(messages), 0), limit + _SLACK)


def message(given: BaseMessage, limit: int) -> dict[str, Any]:
    """Return one message as a plain dict."""
    return _Budget(limit, _NODES).message(given, 0)


def last_said(value: Any, role: str) -> Any:
    """Return what a state of nothing but messages ends with: that role's text, else the message; None for the rest."""
    if not isinstance(value, Mapping) or set(value) - _ONLY_MESSAGES:
        return None
    messages: Any = value.get("messages")
    if not isinstance(messages, (list, tuple)) or not messages:
        return None
    last = messages[-1]
    who: Any
    text: Any
    if isinstance(last, BaseMessage):
        who, text = last.type, last.content
    elif isinstance(last, Mapping):
        who, text = last.get("role"), last.get("content")
    else:
        who, text = last if isinstance(last, tuple) and len(last) == 2 else (None, None)
    if type(who) is str and _ROLES.get(who, who) == role and type(text) is str and text:
        return text
    return [last] if role == "assistant" else None


def _digest(data: str) -> str:
    """Return size and digest of encoded bytes; an image travels through every node and call of a conversation."""
    if len(data) > _HASHED:
        return f"[{len(data) * 3 // 4} bytes]"
    key = len(data), hash(data)  # the text itself is not kept
    found = _digests.get(key)
    if found is None:
        if len(_digests) > _NODES:
            _digests.clear()
        found = _digests[key] = digest(data)
    return found


_digests: dict[tuple[int, int], str] = {}


class _Budget:
    """One look at a value: what is left of its nodes and characters."""

    def __init__(self, limit: int, nodes: int) -> None:
        self.left = limit
        self.nodes = nodes
        self.path: set[int] = set()

    def plain(self, value: Any, depth: int = 0, key: object = None) -> Any:
        self.nodes -= 1
        kind = type(value)
        if kind is str:
            return self.text(value, key)
        if kind in _PLAIN:
            return value
        if self.nodes < 0 or self.left < 0 or depth > _DEPTH:
            return "…[cut: too large]"
        if id(value) in self.path:
            return "…[cycle]"
        self.path.add(id(value))
        try:
            return self.nested(value, kind, depth + 1)
        except Exception:  # a value's own code, or another thread that changes it
            return f"<{kind.__module__}.{kind.__qualname__}> (unreadable)"
        finally:
            self.path.discard(id(value))

    def nested(self, value: Any, kind: type, depth: int) -> Any:
        if isinstance(value, BaseMessage):
            return self.message(value, depth)
        if kind is dict:
            if value.keys() >= _CONFIG:
                return "<RunnableConfig>"
            return self.fields(value, depth)
        if kind is list or kind is tuple:
            return self.items(value, depth)
        if isinstance(value, PromptValue):
            return self.items(value.to_messages(), depth)
        if is_command(value):
            parts = {"update": value.update, "goto": goto(value), "resume": value.resume}
            return self.fields({name: part for name, part in parts.items() if part}, depth)
        if isinstance(value, Document):
            found = {"id": value.id, "content": value.page_content, "metadata": value.metadata}
            return self.fields({name: item for name, item in found.items() if item not in (None, {})}, depth)
        if isinstance(value, _MACHINERY):
            return f"<{kind.__module__}.{kind.__qualname__}>"
        found = thaw(freeze(value, max(self.left, 0), min(max(self.nodes, 1), 500)))
        self.nodes -= 50
        self.left -= len(found) if isinstance(found, str) else 500
        return found

    def text(self, text: str, key: object = None) -> str:
        if len(text) > SHORT:
            if key in DATA:
                text = _digest(text)
            elif text.startswith("data:") and ";base64," in text[:200]:
                head, mark, data = text.partition(";base64,")
                text = f"{head}{mark}{_digest(data)}"
        if len(text) > self.left * 3 // 4:  # one long text leaves room for what stands beside it
            text = cut(text, max(self.left * 3 // 4, 0))
        self.left -= len(text) + 8
        return text

    def fields(self, fields: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, item in list(islice(fields.items(), max(self.nodes, 0) + 1)):
            if self.nodes < 0 or self.left < 0:
                break
            result[key] = item if type(item) in _PLAIN else self.plain(item, depth, key)
            self.left -= 16
            self.nodes -= 1
        if len(result) < len(fields):
            result["…"] = f"[cut: {len(fields) - len(result)} more]"
        return result

    def items(self, items: Any, depth: int) -> list[Any]:
        """Return a list; of one that is too long the newest messages, of anything else the first items."""
        talk = len(items) > 0 and isinstance(items[-1], BaseMessage)
        result: list[Any] = []
        for item in reversed(items) if talk else items:
            if self.nodes < 0 or self.left < 0:
                note = f"…[cut: {len(items) - len(result)} more]"
                result.append({"role": "system", "content": note} if talk else note)
                break
            if type(item) in _MESSAGES:
                self.nodes -= 4
                result.append(self.message(item, depth))
            else:
                result.append(self.plain(item, depth))
        if talk:
            result.reverse()
        return result

    def message(self, given: BaseMessage, depth: int) -> dict[str, Any]:
        """Return a message as role, content, tool calls and what it answers."""
        told = given.__dict__  # asking pydantic for a field that a class lacks costs more than all the rest
        role = told["role"] if given.type == "chat" else given.type
        said = told["content"]
        content = self.text(said) if type(said) is str else self.plain(said, depth)
        fields: dict[str, Any] = {"role": _ROLES.get(role, role), "content": content}
        if (calls := told.get("tool_calls")) and not _has_calls(content):
            fields["tool_calls"] = self.items(calls, depth)
        if name := told.get("name"):
            fields["name"] = name
        if answered := told.get("tool_call_id"):
            fields["tool_call_id"] = answered
            if told.get("status") == "error":
                fields["status"] = "error"
        more = told.get("additional_kwargs")
        if more and type(thought := more.get("reasoning_content")) is str and thought:
            fields["reasoning_content"] = self.text(thought)
        return fields


def _has_calls(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") in _CALLS for block in content
    )
