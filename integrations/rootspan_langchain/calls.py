"""A call of a model: which one was asked, what it says piece by piece, and what it answers and uses."""

# Results hold whatever an integration put there:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import time_ns
from typing import Any, Final

from rootspan import semconv
from rootspan.freeze import freeze
from rootspan.record import Frozen
from rootspan_langchain import models
from rootspan_langchain.run import ChainRun, text_of
from rootspan_langchain.usage import usage_of
from rootspan_langchain.values import frozen_value

__all__ = ["ModelRun"]

_TOOLS: Final = 65_536  # characters of the tools' definitions


class ModelRun(ChainRun):
    """A call of a chat model, or of one that completes text."""

    offered: Sequence[str] = ()
    first: int | None = None
    source: str | None = None  # of the pieces: some models tell each twice, in two kinds of event
    said = 0  # characters in all pieces
    used: tuple[int, int] | None = None  # tokens, as far as the pieces tell them

    def ask(
        self,
        operation: str,
        serialized: Any,
        metadata: Any,
        given: Any,
        asked: Any,
        frozen: Callable[[Any, int], Frozen],
    ) -> None:
        """Keep which model is asked, how, and what."""
        span, recorder = self.span, self.recorder
        if span is None:
            return
        span.model = recorder.label(models.model_of(metadata, given, serialized))
        span.provider = recorder.label(models.provider_of(metadata, serialized))
        self.add(models.parameters(metadata, given), operation=operation)
        if tools := models.tools_of(given):
            self.offered = models.names_of(tools)
            if self.owner.content:
                self.add({semconv.GEN_AI_TOOL_DEFINITIONS: text_of(freeze(list(tools), _TOOLS))})
        if self.owner.content:
            span.input = frozen(asked, recorder.limit)

    def hear(self, text: Any, source: str, usage: Any = None) -> None:
        """Keep a piece of an answer, and when the first one came; it is no event of its own."""
        if self.repeated():
            return
        self.streams = True
        if self.pieces is None:
            self.first, self.source, self.pieces = time_ns(), source, []
        room = self.recorder.limit if self.owner.content else 0
        if type(text) is str and self.source == source and self.said < room:
            self.pieces.append(text)
            self.said += len(text)
        if usage:
            before, more = self.used or (0, 0), usage_of(usage)
            self.used = before[0] + (more.input or 0), before[1] + (more.output or 0)

    def end(self, response: Any) -> None:
        """Keep an answer, and which tools were chosen in it."""
        if self.span is not None:
            answer = self._answer(response)
            if answer.calls:
                names = [str(call.get("name")) for call in answer.calls]
                others = [name for name in self.offered if name not in names]
                self.decide("tool_choice", names, answer.text, others)

    def break_off(self, response: Any) -> None:
        """Keep what came of an answer that fails."""
        if self.span is not None:
            told = ""
            if getattr(response, "generations", None) and any(response.generations):
                told = self._answer(response).text
            if len(told) < sum(map(len, self.pieces or ())):  # an older LangChain leaves out the last piece
                self.span.output = None
            self.on_close()

    def on_close(self) -> None:
        """Keep what came of an answer until it broke off; such tokens are paid for as well."""
        span = self.span
        if span is None:
            return
        self._keep_time()
        if self.pieces and span.output is None:
            span.output = frozen_value("".join(self.pieces), self.recorder.limit)
        if self.used is not None and span.tokens == (None, None, None):
            span.tokens = (*self.used, None)

    def _answer(self, response: Any) -> models.Answer:
        """Keep what was answered, whole or in part."""
        span: Any = self.span  # only one that has a span is asked
        limit = self.recorder.limit if self.owner.content else None
        answer = models.answer(response, self.run_id, limit, self._is_delegated)
        span.tokens = answer.usage[:3]
        if self.owner.priced and answer.usage.cost is None:
            span.tokens = (*span.tokens[:2], models.cost_of(answer, span.model, span.provider))
        if "response_model" in answer.fields:
            answer.fields["response_model"] = self.recorder.label(answer.fields["response_model"])
        self.add(answer.attributes, **answer.fields)
        self._keep_time()
        span.output = answer.output
        return answer

    def _keep_time(self) -> None:
        if self.first is not None and self.span is not None:
            seconds = (self.first - self.span.start) / 1e9
            told = {semconv.GEN_AI_REQUEST_STREAM: True, semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: seconds}
            self.add(told)

    def _is_delegated(self, run_id: Any) -> bool:
        """Return whether an answer is another run's that is recorded in this one's time: where it delegates to it."""
        other, span = self.owner.parent(run_id), self.span
        return other is not None and other.span is not None and span is not None and other.span.start >= span.start
