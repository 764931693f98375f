"""A chat model that says what a test wrote down, and the trees that came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import PrivateAttr

from rootspan import Tracker
from sinks import Sink, Span

USAGE: Any = {"input_tokens": 10, "output_tokens": 4, "total_tokens": 14}


class ChatScripted(BaseChatModel):
    """Answers with one item of `script` after the other, the last one again and again.

    Args:
        script: messages, texts, exceptions to raise, or functions of the messages that return one of these.
        delay: seconds before an answer, or between two chunks.
        chunks_before_failure: how many words a streamed exception lets through.
    """

    script: list[Any]
    model: str = "gpt-4o-mini"
    temperature: float | None = None
    delay: float = 0.0
    words: str = "one two three four"
    chunks_before_failure: int = 0
    _turn: int = PrivateAttr(default=0)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "temperature": self.temperature}

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        named = [{"type": "function", "function": {"name": one.name, "description": one.description}} for one in tools]
        return self.bind(tools=named, **kwargs)

    def _next(self, messages: list[BaseMessage]) -> Any:
        item = self.script[min(self._turn, len(self.script) - 1)]
        self._turn += 1
        item = item(messages) if callable(item) and not isinstance(item, type) else item
        return AIMessage(item, usage_metadata=USAGE) if isinstance(item, str) else item

    def _said(self, messages: list[BaseMessage]) -> ChatResult:
        item = self._next(messages)
        if isinstance(item, BaseException):
            raise item
        return ChatResult(generations=[ChatGeneration(message=item)])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        time.sleep(self.delay)
        return self._said(messages)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        await asyncio.sleep(self.delay)
        return self._said(messages)


class ChatStreaming(ChatScripted):
    """The same, word by word; the usage comes with the last one."""

    def _chunks(self, messages: list[BaseMessage]) -> Iterator[ChatGenerationChunk]:
        item = self._next(messages)
        failing = isinstance(item, BaseException)
        if not failing and item.tool_calls:
            yield ChatGenerationChunk(message=AIMessageChunk("", tool_calls=item.tool_calls, usage_metadata=USAGE))
            return
        words = (self.words if failing else str(item.content)).split(" ")
        for number, word in enumerate(words):
            if failing and number == self.chunks_before_failure:
                raise item
            last = number == len(words) - 1
            usage = (item.usage_metadata or USAGE) if last and not failing else None
            meta = {"finish_reason": "stop", "model_name": f"{self.model}-0709"} if last else {}
            text = word if last else word + " "
            yield ChatGenerationChunk(message=AIMessageChunk(text, usage_metadata=usage, response_metadata=meta))

    def _stream(self, messages: list[BaseMessage], *args: Any, run_manager: Any = None, **kwargs: Any) -> Any:
        for chunk in self._chunks(messages):
            time.sleep(self.delay)
            yield chunk

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._chunks(messages):
            await asyncio.sleep(self.delay)
            yield chunk


def calls(name: str, identifier: str = "c1", text: str = "", **arguments: Any) -> AIMessage:
    """A message that asks for a tool."""
    call: Any = {"name": name, "args": arguments, "id": identifier}
    return AIMessage(text, tool_calls=[call], usage_metadata=USAGE)


class Trees:
    """What has arrived, as trees."""

    def __init__(self, tracker: Tracker, sink: Sink) -> None:
        assert tracker.flush(20)
        assert tracker.stats()["dropped"] == {}, "an error of our own"
        self.spans = sink.spans
        self.by_id = {span.span_id: span for span in self.spans}
        assert len(self.by_id) == len(self.spans), "a span id came twice"

    @property
    def roots(self) -> list[Span]:
        return sorted((span for span in self.spans if span.parent_id is None), key=lambda span: span.start)

    @property
    def root(self) -> Span:
        assert len(self.roots) == 1, [span.name for span in self.roots]
        return self.roots[0]

    def find(self, name: str) -> list[Span]:
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.start)

    def one(self, name: str) -> Span:
        found = self.find(name)
        assert len(found) == 1, f"{len(found)} are called {name!r}: {[span.name for span in self.spans]}"
        return found[0]

    def parent(self, span: Span) -> Span:
        assert span.parent_id is not None, f"{span.name} is a root"
        return self.by_id[span.parent_id]

    def children(self, span: Span) -> list[Span]:
        return sorted((one for one in self.spans if one.parent_id == span.span_id), key=lambda one: one.start)

    def models(self) -> list[Span]:
        return [one for one in self.spans if one.attributes["openinference.span.kind"] == "LLM"]

    def path(self, span: Span) -> list[str]:
        """The names from the root to a span."""
        names = [span.name]
        while span.parent_id is not None:
            span = self.by_id[span.parent_id]
            names.insert(0, span.name)
        return names

    def is_whole(self) -> bool:
        """Whether every parent is there and in the same trace."""
        return all(
            span.parent_id is None or self.by_id[span.parent_id].trace_id == span.trace_id for span in self.spans
        )
