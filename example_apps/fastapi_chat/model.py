"""A stand-in for a hosted model: it answers by rules, takes its time, counts tokens and needs no network."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

NAME = "gpt-4o-mini"  # whose prices and limits it pretends to have
PROVIDER = "openai"

Message = dict[str, Any]


class ModelOverloadedError(Exception):
    """The model takes no more work for now."""


@dataclass
class Reply:
    """What a model answers: a text, or the tool that it wants to have called."""

    text: str = ""
    tool: str | None = None
    arguments: dict[str, str] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def message(self) -> Message:
        """The reply as a message of the conversation."""
        if self.tool is None:
            return {"role": "assistant", "content": self.text}
        call = {"type": "tool_call", "name": self.tool, "arguments": self.arguments}
        return {"role": "assistant", "parts": [call]}


async def complete(messages: list[Message]) -> Reply:
    """Answer a conversation at once."""
    await asyncio.sleep(0.15)
    return _reply(messages)


async def stream(messages: list[Message]) -> AsyncIterator[str]:
    """Answer a conversation word by word."""
    for word in re.findall(r"\S+\s*", _reply(messages).text):
        await asyncio.sleep(0.02)
        yield word


def count_tokens(value: Any) -> int:
    """About as many tokens as a real model would count: four characters each."""
    return max(1, len(str(value)) // 4)


def _reply(messages: list[Message]) -> Reply:
    reply = _think(messages)
    reply.prompt_tokens = count_tokens([message.get("content") for message in messages])
    reply.completion_tokens = count_tokens(reply.text or reply.arguments)
    return reply


def _think(messages: list[Message]) -> Reply:
    last = messages[-1]
    if last["role"] == "tool":
        return Reply(f"I looked it up: {last['content']}")
    said = last["content"]
    if "wikipedia" in said.lower():
        raise ModelOverloadedError("the model is overloaded, try again in a moment")
    if order := re.search(r"order (\d+)", said):
        return Reply(tool="look_up_order", arguments={"number": order[1]})
    if city := re.search(r"weather in (\w+)", said):
        return Reply(tool="get_weather", arguments={"city": city[1]})
    return Reply(_small_talk(said, [message["content"] for message in messages if message["role"] == "user"]))


def _small_talk(said: str, asked: list[str]) -> str:
    if "ask first" in said:
        return f"You asked first: “{asked[0]}”"
    if name := re.search(r"I am (\w+)", said):
        return f"Hello {name[1]}, nice to meet you. What can I do for you?"
    if "story" in said:
        return "A lighthouse keeper counted the ships each night, until one night a ship counted him."
    return "I am a small stand-in for a model. Ask me about an order, or about the weather in a city."
