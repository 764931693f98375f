"""Makes plain what LangChain hands to a callback, within a budget of values and characters."""

# Host values are told apart at run time, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from itertools import islice
from math import isfinite
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

from rootspan.description import cut, named, not_finite
from rootspan.dialect.encoded import SHORT, digest, is_encoded
from rootspan.freeze import freeze, pairs_of, room, thaw, written
from rootspan.record import Frozen
from rootspan_langchain.graphs import goto, is_command

__all__ = ["NODES", "ROLES", "Budget"]

NODES: Final = 1_000
"""Values looked at, unless more is said."""

ROLES: Final = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant", "function": "tool"}
"""What LangChain calls some roles, and what the conventions call them."""

_SLACK: Final = 65_536  # for the structure around what the budget left: nothing is to be cut a second time
_DEPTH: Final = 30
_HASHED: Final = 4_000_000  # characters of encoded bytes from which on a digest would hold up the event loop
_CALLS: Final = frozenset({"tool_use", "tool_call", "tool_call_chunk", "function_call", "invalid_tool_call"})
_BESIDE: Final = ("reasoning_content", "refusal")  # what some models say apart from the content
# What is part of the framework and no value: it may hold clients, keys and the whole run.
_MACHINERY: Final = (BaseCallbackHandler, BaseCallbackManager, Runnable, BaseStore)
_MESSAGES: Final = frozenset({AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage})
_PLAIN: Final = frozenset({int, bool, type(None)})


def _digest(data: str) -> str:
    """Return size and digest of encoded bytes; an image travels through every node and call of a conversation."""
    if len(data) > _HASHED:
        return f"[{len(data) * 3 // 4} bytes]"
    key = len(data), hash(data)  # the text itself is not kept
    found = _digests.get(key)
    if found is None:
        if len(_digests) > NODES:
            _digests.clear()
        found = _digests[key] = digest(data)
    return found


_digests: dict[tuple[int, int], str] = {}


class Budget:
    """One look at a value: what is left of its nodes and characters.

    Args:
        limit: characters kept.
        nodes: how many values are looked at.
    """

    def __init__(self, limit: int, nodes: int = NODES) -> None:
        self.limit = limit
        self.left = limit
        self.nodes = nodes
        self.path: set[int] = set()

    def frozen(self, plain: Any) -> Frozen:
        """Return what was made plain as a record holds it."""
        if type(plain) is dict or type(plain) is list:
            return written(plain, self.limit + _SLACK)
        return freeze(plain, self.limit + _SLACK)

    def plain(self, value: Any, depth: int = 0, key: object = None) -> Any:
        """Return any value as a JSON-like one."""
        self.nodes -= 1
        kind = type(value)
        if kind is str:
            return self.text(value, key)
        if kind in _PLAIN:
            return value
        if kind is float:
            return value if isfinite(value) else not_finite(value)  # which JSON would write as null
        if self.nodes < 0 or self.left < 0 or depth > _DEPTH:
            return "…[cut: too large]"
        if id(value) in self.path:
            return "…[cycle]"
        self.path.add(id(value))
        try:
            if kind is dict:
                return self.fields(value, depth + 1)
            if kind is list or kind is tuple:
                return self.items(value, depth + 1, key)
            return self.foreign(value, depth + 1)
        except Exception:  # a value's own code, or another thread that changes it
            return f"{named(value)} (unreadable)"
        finally:
            self.path.discard(id(value))

    def foreign(self, value: Any, depth: int) -> Any:
        """Return what is no plain container as a JSON-like value."""
        kind: Any = type(value)  # `isinstance` would ask a lazy object, which loads what it stands for
        if issubclass(kind, BaseMessage):
            return self.message(value, depth)
        if issubclass(kind, PromptValue):
            return self.items(value.to_messages(), depth)
        if issubclass(kind, dict):  # what the chunks of one add up to is of LangChain's own class
            return self.fields(value, depth)
        if is_command(value):
            parts = {"update": value.update, "goto": goto(value), "resume": value.resume}
            return self.fields({name: part for name, part in parts.items() if part}, depth)
        if issubclass(kind, Document):
            found = {"id": value.id, "content": value.page_content, "metadata": value.metadata}
            return self.fields({name: item for name, item in found.items() if item not in (None, {})}, depth)
        if issubclass(kind, _MACHINERY):
            return named(value)
        declares = hasattr(kind, "model_fields") or hasattr(kind, "__dataclass_fields__")  # as a graph's state may
        if declares and (pairs := pairs_of(value)):
            return self.fields(dict(pairs), depth)
        frozen = freeze(value, max(self.left, 0), min(max(self.nodes, 1), 500))
        size = len(frozen) if isinstance(frozen, (str, bytes)) else 0
        self.nodes -= 4 + size // 60  # such a walk takes longer than a look at what is plain
        self.left -= size
        return thaw(frozen)

    def text(self, text: str, key: object = None) -> str:
        """Return a text, cut to its share of what is left."""
        size = len(text)
        if size > SHORT:
            if is_encoded(key, text):
                text = _digest(text)
            elif text.startswith("data:") and ";base64," in text[:200]:
                head, mark, data = text.partition(";base64,")
                text = f"{head}{mark}{_digest(data)}"
            size = len(text)
        if size > self.left * 3 // 4:  # one long text leaves room for what stands beside it
            text = cut(text, max(self.left * 3 // 4, 0))
            size = len(text)
        self.left -= size + 8
        return text

    def fields(self, fields: dict[Any, Any], depth: int) -> dict[Any, Any] | str:
        """Return a mapping."""
        if "callbacks" in fields and "configurable" in fields:
            return "<RunnableConfig>"
        result: dict[Any, Any] = {}
        for key, item in list(islice(dict.items(fields), max(self.nodes, 0) + 1)):
            if self.nodes < 0 or self.left < 0:
                break
            if type(item) is str and len(item) <= SHORT and 2 * len(item) <= self.left:
                self.left -= len(item) + 8
                self.nodes -= 1
            elif type(item) is float:
                item = item if isfinite(item) else not_finite(item)
            elif type(item) not in _PLAIN:
                item = self.plain(item, depth, key)
            result[key] = item
            self.left -= 16
            self.nodes -= 1
        if len(result) < len(fields):
            result["…"] = f"[cut: {len(fields) - len(result)} more]"
        return result

    def items(self, items: Any, depth: int, key: object = None) -> list[Any]:
        """Return a list; of one that is too long the newest messages, of anything else the first items."""
        talk = len(items) > 0 and issubclass(type(items[-1]), BaseMessage)
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
                result.append(self.plain(item, depth, key))
        if talk:
            result.reverse()
        return result

    def message(self, given: BaseMessage, depth: int = 0) -> dict[str, Any]:
        """Return a message as role, content, tool calls and what it answers."""
        told = given.__dict__  # asking pydantic for a field that a class lacks costs more than all the rest
        role = told["type"]
        if role == "chat":
            role = told["role"]
        said = told["content"]
        content = self.text(said) if type(said) is str else self.plain(said, depth)
        fields: dict[str, Any] = {"role": ROLES.get(role, role), "content": content}
        if "tool_calls" in told:
            # Those that the model got wrong come apart: their arguments are no JSON.
            calls: list[Any] = [*(told["tool_calls"] or ()), *(told.get("invalid_tool_calls") or ())]
            if calls and not _has_calls(content):
                if (kept := room(calls, SHORT)) >= 0:
                    self.left -= SHORT - kept
                else:
                    calls = self.items(calls, depth)
                fields["tool_calls"] = calls
        if name := told.get("name"):
            fields["name"] = name
        if answered := told.get("tool_call_id"):
            fields["tool_call_id"] = answered
            if told.get("status") == "error":
                fields["status"] = "error"
        more = told.get("additional_kwargs")
        if more:
            for name in _BESIDE:
                if type(text := more.get(name)) is str and text:
                    fields[name] = self.text(text)
        return fields


def _has_calls(content: Any) -> bool:
    return isinstance(content, list) and any(
        isinstance(block, dict) and block.get("type") in _CALLS for block in content
    )
