"""A stand-in for a hosted model: it answers by rules, takes its time, counts tokens and needs no network."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NAME = "claude-3-5-haiku-20241022"  # whose prices it pretends to have
PROVIDER = "anthropic"

Chat = list[dict[str, Any]]


class OverloadedError(Exception):
    """The model takes no more work for now."""


@dataclass(frozen=True)
class Answer:
    """What it says, or the order that it wants to have looked up first."""

    text: str = ""
    order: str | None = None


def answer(chat: Chat) -> Answer:
    """Answer a conversation at once."""
    time.sleep(0.1)
    said = chat[-1]["content"]
    if chat[-1]["role"] == "tool":
        return Answer(f"I have looked: {said}")
    if "everything" in said.lower():
        raise OverloadedError("the model is overloaded, try again in a moment")
    if wanted := re.search(r"order (\d+)", said):
        return Answer(order=wanted[1])
    if "first" in said.lower():
        return Answer(f"First you wrote: {next(turn['content'] for turn in chat if turn['role'] == 'user')}")
    return Answer("I can look up orders by their number, and explain how to send something back.")


def explain(chat: Chat) -> Iterator[str]:
    """Explain something at length, word by word."""
    text = "Put it into its box, print the label from this ticket, and leave it at any post office within 30 days."
    for word in re.findall(r"\S+\s*", text):
        time.sleep(0.02)
        yield word


def tokens(value: object) -> int:
    """About as many tokens as a real model would count."""
    return len(str(value)) // 4 + 1
