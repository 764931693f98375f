"""Freezes what LangChain hands to a callback as it is at this moment."""

# Host values are told apart at run time, so what they hold is unknown by nature:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from langchain_core.messages import BaseMessage

from rootspan.dialect.encoded import SHORT
from rootspan.dialect.messages import THOUGHTS
from rootspan.freeze import freeze, room, written
from rootspan.record import Frozen
from rootspan_langchain.budget import NODES, ROLES, Budget

__all__ = ["frozen_messages", "frozen_value", "is_placeholder", "last_said"]

STATE: Final = 65_536
"""Characters kept of a chain's input or output: a graph passes its whole state through every node."""

# Beside messages, what LangChain's agents keep in their state for themselves: a stream's end tells that as well.
_ONLY_MESSAGES: Final = frozenset({
    "messages", "jump_to", "__interrupt__", "hitl_edited_tool_calls", "run_model_call_count", "run_tool_call_count",
    "shell_session_resources", "thread_model_call_count", "thread_tool_call_count",
})  # fmt: skip


def frozen_value(value: Any, limit: int = STATE) -> Frozen:
    """Return an input, an output or a state as it is now; of a long list of messages the newest are kept."""
    if value is None or issubclass(type(value), str):
        return freeze(value, limit)
    # A list is not asked for the word: its items would have to say whether they are that.
    if (type(value) is list or (type(value) is dict and "messages" not in value)) and room(value, SHORT) >= 0:
        found = written(value, SHORT)
        if type(found) is bytes and b'"configurable"' not in found:  # else it may be LangChain's own configuration
            return found
    budget = Budget(limit)
    return budget.frozen(budget.plain(value))


def frozen_messages(messages: Iterable[BaseMessage], limit: int) -> Frozen:
    """Return a conversation as it is now."""
    budget = Budget(limit, 4 * NODES)
    return budget.frozen(budget.items(list(messages), 0))


def is_placeholder(inputs: Any) -> bool:
    """Return whether that is LangChain's input of a stream whose own is not known yet: `{"input": ""}`."""
    return type(inputs) is dict and len(inputs) == 1 and type(said := inputs.get("input")) is str and not said


def last_said(value: Any, role: str) -> Any:
    """Return what a state of nothing but messages ends with: that role's text, else the message; None for the rest."""
    if not issubclass(type(value), (dict, Mapping)) or not value.keys() <= _ONLY_MESSAGES:
        return None
    messages: Any = value.get("messages")
    if not issubclass(type(messages), (list, tuple)) or not messages:
        return None
    last = messages[-1]
    who: Any
    text: Any
    if issubclass(type(last), BaseMessage):
        who, text = last.type, last.content
    elif issubclass(type(last), Mapping):
        who, text = last.get("role"), last.get("content")
    else:
        who, text = last if type(last) is tuple and len(last) == 2 else (None, None)
    text = _text_in(text) if type(text) is list else text
    if type(who) is str and ROLES.get(who, who) == role and type(text) is str and text:
        return text
    return [last] if role == "assistant" else None


def _text_in(blocks: list[Any]) -> str | None:
    """Return the text of a message in blocks, without what was thought; None where there is anything else in it."""
    said: list[str] = []
    for block in blocks:
        kind = block.get("type") if type(block) is dict else None
        if kind == "text" and type(block.get("text")) is str:
            said.append(block["text"])
        elif type(kind) is not str or kind not in THOUGHTS:
            return None
    return "".join(said)
