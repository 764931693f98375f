"""A stand-in for a hosted chat model: it answers by rules, asks for tools, counts tokens and needs no network."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

RULES = (
    (r"[Rr]efund order (\d+)", "refund", "number"),
    (r"order (\d+)", "look_up_order", "number"),
)


class ChatStandIn(BaseChatModel):
    """Asks for a tool where a rule says so, and tells what the tool said."""

    model: str = "gpt-4o-mini"  # whose name it borrows

    @property
    def _llm_type(self) -> str:
        return "stand-in"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": self.model, "ls_model_type": "chat"}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        offered = [
            {"type": "function", "function": {"name": tool.name, "description": tool.description}} for tool in tools
        ]
        return self.bind(tools=offered, **kwargs)

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        time.sleep(0.1)
        answer = think(messages)
        said, thought = sum(count_tokens(one.content) for one in messages), count_tokens(answer.content or "a tool")
        answer.usage_metadata = {"input_tokens": said, "output_tokens": thought, "total_tokens": said + thought}
        answer.response_metadata = {"model_name": f"{self.model}-2024-07-18", "finish_reason": "stop"}
        return ChatResult(generations=[ChatGeneration(message=answer)])


def think(messages: list[BaseMessage]) -> AIMessage:
    last = messages[-1]
    if isinstance(last, ToolMessage):
        return AIMessage(f"Here is what I found: {last.content}")
    said = str(last.content)
    if "Wikipedia" in said:
        raise ConnectionError("the model is overloaded, try again in a moment")
    for pattern, tool, argument in RULES:
        if found := re.search(pattern, said):
            call: Any = {"name": tool, "args": {argument: found[1]}, "id": f"call-{len(messages)}"}
            return AIMessage(f"I use {tool}.", tool_calls=[call])
    return AIMessage("I can look up an order, or refund one if a colleague of mine approves it.")


def count_tokens(value: Any) -> int:
    """About as many tokens as a real model would count: four characters each."""
    return max(1, len(str(value)) // 4)
