"""What the events of a model tell, under the names of each provider: parameters, tools, answers, tokens and a price."""

# Results hold whatever an integration put there:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final, NamedTuple
from uuid import UUID

from langchain_core.globals import get_llm_cache

from rootspan import calculate_cost, semconv
from rootspan.dialect.messages import ENDED
from rootspan.record import AttributeValue, Frozen
from rootspan_langchain.budget import Budget
from rootspan_langchain.values import frozen_value

__all__ = [
    "Usage", "found_in", "id_of", "is_cached", "list_price", "model_of", "names_of", "origin_of", "output_of",
    "parameters", "price_of", "provider_of", "reason_of", "tools_of", "usage_of",
]  # fmt: skip

_MODELS: Final = ("model", "model_name", "model_id", "deployment_name", "azure_deployment")
_NUMBER: Final = (int, float)
_PARAMETERS: Final[Mapping[str, tuple[str, tuple[type, ...]]]] = {
    "ls_temperature": (semconv.GEN_AI_REQUEST_TEMPERATURE, _NUMBER),
    "temperature": (semconv.GEN_AI_REQUEST_TEMPERATURE, _NUMBER),
    "top_p": (semconv.GEN_AI_REQUEST_TOP_P, _NUMBER),
    "top_k": (semconv.GEN_AI_REQUEST_TOP_K, _NUMBER),
    "ls_max_tokens": (semconv.GEN_AI_REQUEST_MAX_TOKENS, (int,)),
    "max_tokens": (semconv.GEN_AI_REQUEST_MAX_TOKENS, (int,)),
    "max_completion_tokens": (semconv.GEN_AI_REQUEST_MAX_TOKENS, (int,)),
    "frequency_penalty": (semconv.GEN_AI_REQUEST_FREQUENCY_PENALTY, _NUMBER),
    "presence_penalty": (semconv.GEN_AI_REQUEST_PRESENCE_PENALTY, _NUMBER),
    "seed": (semconv.GEN_AI_REQUEST_SEED, (int,)),
    "n": (semconv.GEN_AI_REQUEST_CHOICE_COUNT, (int,)),
}
_SUFFIXES: Final = ("Chat", "LLM")
_STOPS: Final = ("stop", "stop_sequences", "ls_stop")
_RUN_IDS: Final = ("run-", "lc_run-")
_RUN_ID: Final = re.compile("(?:lc_)?run--?([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_CACHE_TELLS: Final = not version("langchain-core").startswith("0.")  # that it answered: it sets the cost to 0
_ASKED: Final = ("input_tokens", "prompt_tokens")
_ANSWERED: Final = ("output_tokens", "completion_tokens")
_COSTS: Final = ("total_cost", "cost")
_CACHE_READ: Final = ("cache_read", "priority_cache_read", "flex_cache_read")  # OpenAI's tiers
_REASONING: Final = ("reasoning", "priority_reasoning", "flex_reasoning")
_CACHE_CREATION: Final = ("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")  # Anthropic's


def model_of(metadata: Mapping[str, Any], parameters: Any, serialized: Any) -> Any:
    """Return the model that was asked for: what LangChain says, else the call's parameters, else the class's."""
    told = metadata.get("ls_model_name")
    return told or found_in(_MODELS, parameters, (serialized or {}).get("kwargs"))


def provider_of(metadata: Mapping[str, Any], serialized: Any) -> Any:
    """Return the provider: what LangChain says, else the class's name, as LangChain itself derives it."""
    told = metadata.get("ls_provider")
    if told:
        return told
    path = (serialized or {}).get("id") or ()
    name = str(path[-1]) if path else ""
    for word in _SUFFIXES:
        name = name.removeprefix(word).removesuffix(word)
    return name.lower() or None


def parameters(metadata: Mapping[str, Any], given: Any) -> dict[str, AttributeValue]:
    """Return the parameters of a call under their attribute names."""
    found: dict[str, AttributeValue] = {}
    for source in (metadata, given):
        if isinstance(source, dict) and not _PARAMETERS.keys().isdisjoint(source):
            for key, (name, kinds) in _PARAMETERS.items():
                if type(source.get(key)) in kinds:
                    found[name] = source[key]
    stop = found_in(_STOPS, given, metadata)
    if isinstance(stop, (list, tuple)) and stop and all(type(item) is str for item in stop):
        found[semconv.GEN_AI_REQUEST_STOP_SEQUENCES] = list(stop)
    elif type(stop) is str:
        found[semconv.GEN_AI_REQUEST_STOP_SEQUENCES] = [stop]
    return found


def tools_of(given: Any) -> Sequence[Any]:
    """Return the definitions of the tools that the model may call."""
    tools = found_in(("tools", "functions"), given)
    return tools if isinstance(tools, (list, tuple)) else ()


def names_of(tools: Sequence[Any]) -> list[str]:
    """Return the names of tools."""
    names: list[str] = []
    for tool in tools:
        inner = tool.get("function", tool) if isinstance(tool, Mapping) else tool
        name = inner.get("name") if isinstance(inner, Mapping) else getattr(inner, "name", None)
        if type(name) is str:
            names.append(name)
    return names


def id_of(message: Any, meta: Any) -> str | None:
    """Return the provider's id of an answer."""
    identifier = (meta and meta.get("id")) or getattr(message, "id", None)
    return identifier if type(identifier) is str and not identifier.startswith(_RUN_IDS) else None


def reason_of(choice: Any) -> str | None:
    """Return why an answer ended there."""
    told = getattr(getattr(choice, "message", None), "response_metadata", None)
    if not told and not choice.generation_info:
        return None
    reason = found_in(ENDED, told, choice.generation_info)
    return None if reason is None else str(reason)


def output_of(choices: Any, reasons: list[str | None], limit: int) -> Frozen:
    """Return what was said: messages, or the text of a model that completes text."""
    budget = Budget(limit)
    said: list[dict[str, Any]] = []
    for choice, reason in zip(choices, reasons, strict=True):
        message = getattr(choice, "message", None)
        if message is not None:
            said.append(budget.message(message))
            if reason is not None:
                said[-1]["finish_reason"] = reason
        elif len(choices) == 1:
            return frozen_value(choice.text or None, limit)
        else:
            said.append({"role": "assistant", "content": budget.text(choice.text)})
    return budget.frozen(said) if said else None


def origin_of(message: Any, run_id: Any) -> UUID | None:
    """Return which other run a message comes from: LangChain gives it the id of the first."""
    identifier = getattr(message, "id", None)
    found = _RUN_ID.match(identifier) if type(identifier) is str else None
    return None if found is None or found[1] == str(run_id) else UUID(found[1])


def is_cached(message: Any, origin: UUID | None) -> bool:
    """Return whether LangChain's cache answered; an older one leaves only the id of the run that asked first."""
    usage = getattr(message, "usage_metadata", None)
    if _CACHE_TELLS:
        return price_of(usage) == 0
    return origin is not None and get_llm_cache() is not None


def list_price(model: Any, usage: Any, provider: str | None) -> float | None:
    """Return the price of a call by the price list, None where it is not known."""
    price = calculate_cost(model, usage, provider=provider) if model and usage else None
    return None if price is None else float(price)


class Usage(NamedTuple):
    """Tokens of one call; None is unknown, which is not 0."""

    input: int | None = None
    output: int | None = None
    cost: float | None = None
    details: Mapping[str, int] = {}  # fields of the record
    audio: Mapping[str, int] = {}  # attributes


UNKNOWN: Final = Usage()
"""Of a call that told nothing."""


def found_in(names: Sequence[str], *sources: Any) -> Any:
    """Return the first of these fields that one of the sources holds."""
    for source in sources:
        if source and isinstance(source, dict):
            for name in names:
                if source.get(name) is not None:
                    return source[name]
    return None


def usage_of(given: Any) -> Usage:
    """Return LangChain's `usage_metadata`, or a provider's own counts, as tokens; the input is the gross number."""
    if not given or not isinstance(given, dict):
        return UNKNOWN
    tokens = _count(found_in(_ASKED, given)), _count(found_in(_ANSWERED, given))
    price = price_of(given)
    before, after = given.get("input_token_details"), given.get("output_token_details")
    if not before and not after:
        return Usage(*tokens, price)
    details = {
        "cache_read_tokens": _sum(_CACHE_READ, before),
        # In all, or 0 beside its parts.
        "cache_creation_tokens": found_in(("cache_creation",), before) or _sum(_CACHE_CREATION, before),
        "reasoning_tokens": _sum(_REASONING, after),
    }
    audio = {
        semconv.ROOTSPAN_USAGE_INPUT_AUDIO_TOKENS: found_in(("audio",), before),
        semconv.ROOTSPAN_USAGE_OUTPUT_AUDIO_TOKENS: found_in(("audio",), after),
    }
    return Usage(
        *tokens,
        price,
        {name: value for name, value in details.items() if type(value) is int},
        {name: value for name, value in audio.items() if type(value) is int},
    )


def _count(value: Any) -> int | None:
    return value if type(value) is int else None


def _sum(names: Sequence[str], given: Any) -> int | None:
    counts = [count for name in names if (count := _count(found_in((name,), given))) is not None]
    return sum(counts) if counts else None


def price_of(given: Any) -> float | None:
    """Return the price that a usage tells."""
    cost = found_in(_COSTS, given)
    return float(cost) if type(cost) in (int, float) else None
