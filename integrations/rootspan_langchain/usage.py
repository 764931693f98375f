"""What a call of a model has used: tokens, their parts and a price, under the names of each provider."""

# Results hold whatever an integration put there:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from rootspan import semconv

__all__ = ["UNKNOWN", "Usage", "found_in", "price_of", "usage_of"]

_ASKED: Final = ("input_tokens", "prompt_tokens")
_ANSWERED: Final = ("output_tokens", "completion_tokens")
_COSTS: Final = ("total_cost", "cost")
_CACHE_READ: Final = ("cache_read", "priority_cache_read", "flex_cache_read")  # OpenAI's tiers
_REASONING: Final = ("reasoning", "priority_reasoning", "flex_reasoning")
_CACHE_CREATION: Final = ("cache_creation", "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")  # Anthropic's


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
