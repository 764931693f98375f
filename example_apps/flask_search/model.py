"""A stand-in for a hosted model: it answers by rules, takes its time and needs no network."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

NAME = "gpt-4o-mini"  # whose prices it pretends to have
PROVIDER = "openai"
UNKNOWN = "The handbook says nothing about that."

Message = dict[str, Any]


class ModelOverloadedError(Exception):
    """The model takes no more work for now."""


class Reply(NamedTuple):
    """A text, or what the model wants to have searched."""

    text: str = ""
    query: str = ""

    @property
    def message(self) -> Message:
        """The reply as a message of the conversation."""
        call = {"type": "tool_call", "name": "search_handbook", "arguments": {"query": self.query}}
        return {"role": "assistant", "parts": [call] if self.query else [{"type": "text", "content": self.text}]}


def complete(messages: list[Message]) -> Reply:
    """Answer a conversation at once."""
    time.sleep(0.1)
    last = messages[-1]
    if last["role"] == "tool":
        return Reply(_answer(page["text"] for page in json.loads(last["content"])))
    if "everything" in last["content"].lower():
        raise ModelOverloadedError("the model is overloaded, try again in a moment")
    if re.match(r"(hello|hi|thank)", last["content"], re.IGNORECASE):
        return Reply("You are welcome. Ask me anything about the handbook.")
    return Reply(query=last["content"])


def stream(question: str, found: Sequence[Any]) -> Iterator[str]:
    """Answer a question from what was found, word by word."""
    for word in re.findall(r"\S+\s*", _answer(page.text for page in found)):
        time.sleep(0.02)
        yield word


def count_tokens(value: Any) -> int:
    """About as many tokens as a real model would count: four characters each."""
    return max(1, len(str(value)) // 4)


def _answer(texts: Iterator[str]) -> str:
    best = next(iter(texts), None)
    return UNKNOWN if best is None else f"The handbook says: {best}"
