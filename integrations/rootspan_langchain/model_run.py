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
from rootspan_langchain.models import found_in
from rootspan_langchain.run import ChainRun, text_of
from rootspan_langchain.values import frozen_value

__all__ = ["ModelRun"]

_NAMES: Final = ("model_name", "model", "model_id")
_USAGES: Final = ("token_usage", "usage")
_TOOLS: Final = 65_536  # characters of the tools' definitions


class ModelRun(ChainRun):
    """A call of a chat model, or of one that completes text."""

    offered: Sequence[str] = ()
    first: int | None = None
    source: str | None = None  # of the pieces: some models tell each twice, in two kinds of event
    said = 0  # characters in all pieces
    used: tuple[int, int] | None = None  # tokens, as far as the pieces tell them

    def ask(
        self, operation: str, serialized: Any, event: Any, asked: Any, frozen: Callable[[Any, int], Frozen]
    ) -> None:
        """Keep which model is asked, how, and what."""
        span, recorder = self.span, self.recorder
        if span is None:
            return
        metadata, given = event.get("metadata") or {}, event.get("invocation_params")
        span.model = recorder.label(models.model_of(metadata, given, serialized))
        span.provider = recorder.label(models.provider_of(metadata, serialized))
        self.set_attributes(models.parameters(metadata, given), operation=operation)
        if tools := models.tools_of(given):
            self.offered = models.names_of(tools)
            if self.owner.content:
                self.set_attributes({semconv.GEN_AI_TOOL_DEFINITIONS: text_of(freeze(list(tools), _TOOLS))})
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
        if isinstance(text, str) and self.source == source and self.said < room:
            self.pieces.append(text)
            self.said += len(text)
        if usage:
            before, more = self.used or (0, 0), models.usage_of(usage)
            self.used = before[0] + (more.input or 0), before[1] + (more.output or 0)

    def end(self, response: Any) -> None:
        """Keep an answer, and which tools were chosen in it."""
        if self.span is not None:
            text, calls = self._keep(response)
            if calls:
                names = [str(call.get("name")) for call in calls]
                others = [name for name in self.offered if name not in names]
                self.decide("tool_choice", names, text, others)

    def break_off(self, response: Any) -> None:
        """Keep what came of an answer that fails."""
        if self.span is not None:
            told = ""
            if getattr(response, "generations", None) and any(response.generations):
                told, _ = self._keep(response)
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

    def _keep(self, result: Any) -> tuple[str, Sequence[Any]]:
        """Keep an answer, whole or in part; return its text and the tools that it calls."""
        span: Any = self.span  # of a run that is shown
        choices = result.generations[0] if result.generations else []
        first = getattr(choices[0], "message", None) if choices else None
        meta = getattr(first, "response_metadata", None)
        model = found_in(_NAMES, meta, result.llm_output)
        usage, cached = self._pay(first, found_in(_USAGES, result.llm_output, meta), model or span.model)
        attributes: dict[str, Any] = dict(usage.audio)
        if identifier := models.id_of(first, meta):
            attributes[semconv.GEN_AI_RESPONSE_ID] = identifier
        if cached:
            attributes[semconv.ROOTSPAN_RESPONSE_CACHED] = True
        fields: dict[str, Any] = dict(usage.details)
        if model:
            fields["response_model"] = self.recorder.label(model)
        reasons = [models.reason_of(choice) for choice in choices]
        if ended := [reason for reason in reasons if reason is not None]:
            fields["finish_reasons"] = tuple(ended)
        self.set_attributes(attributes, **fields)
        self._keep_time()
        span.output = models.output_of(choices, reasons, self.recorder.limit) if self.owner.content else None
        return str(choices[0].text) if choices else "", getattr(first, "tool_calls", None) or ()

    def _pay(self, message: Any, provided: Any, model: Any) -> tuple[models.Usage, bool]:
        """Keep what an answer has used and its price; return the former, and whether LangChain's cache gave it."""
        span: Any = self.span
        origin = models.origin_of(message, self.run_id)
        delegated = origin is not None and self._is_recorded(origin)
        cached = not delegated and models.is_cached(message, origin)
        # Else it is on the other run, or was bought when that was asked for the first time.
        bought = None if delegated or cached else getattr(message, "usage_metadata", None) or provided
        usage = models.usage_of(bought)
        cost = models.price_of(provided) if bought and usage.cost is None else usage.cost
        if cost is None and self.owner.priced:
            cost = models.list_price(model, bought, span.provider)
        span.tokens = (usage.input, usage.output, cost)
        return usage, cached

    def _keep_time(self) -> None:
        if self.first is not None and self.span is not None:
            seconds = (self.first - self.span.start) / 1e9
            told = {semconv.GEN_AI_REQUEST_STREAM: True, semconv.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: seconds}
            self.set_attributes(told)

    def _is_recorded(self, run_id: Any) -> bool:
        """Return whether another run is recorded in this one's time: where that delegates to it."""
        other, span = self.owner.parent(run_id), self.span
        return other is not None and other.span is not None and span is not None and other.span.start >= span.start
