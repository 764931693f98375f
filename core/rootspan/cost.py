"""What a model call cost: `genai-prices` applied to the usage of any provider, or None when the price is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from importlib import import_module
from typing import Any, Final, NamedTuple, cast

from rootspan.errors import MissingExtraError
from rootspan.semconv import normalise_provider

__all__ = ["calculate_cost"]

_PRICE_LISTS: Final = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "x_ai": "x-ai",
}
"""The GenAI provider values that `genai-prices` calls something else."""

_STANDARD_TIERS: Final = frozenset({"auto", "default", "on_demand", "standard"})
_USAGES: Final = ("usage", "usage_metadata", "usageMetadata")
_MODELS: Final = ("model", "model_version", "modelVersion", "model_name")
_TIER: Final = "service_tier"
_NAMED_TIERS: Final = ("priority", "flex")
"""Those that LangChain counts apart, under their names."""
_DEEPEST: Final = 6


class _Shape(NamedTuple):
    """How one kind of usage is recognised, and which extractor of `genai-prices` reads it."""

    needs: tuple[str, ...]  # any of these fields
    provider: str
    flavor: str
    root: str = "usage"
    absent: Mapping[str, int] = {}  # what an embedding's usage leaves out, and the extractor insists on


# The first that fits is taken: who writes `prompt_tokens` counts cached tokens in it, whatever else is there.
_SHAPES: Final = (
    _Shape(("promptTokenCount",), "google", "default", "usageMetadata"),
    _Shape(("inputTokens",), "aws", "default"),
    _Shape(("billed_units",), "cohere", "default"),
    _Shape(("prompt_tokens",), "openai", "chat", absent={"completion_tokens": 0}),
    _Shape(("input_tokens_details",), "openai", "responses", absent={"output_tokens": 0}),
    _Shape(("cache_read_input_tokens", "cache_creation_input_tokens"), "anthropic", "default"),
)
# LangChain's usage, and the plain counts that remain
_COUNTS: Final = (
    ("input_tokens", "input_tokens", None),
    ("output_tokens", "output_tokens", None),
    ("cache_read_tokens", "cache_read_tokens", None),
    ("cache_write_tokens", "cache_write_tokens", None),
    ("cache_read_tokens", "cache_read", "input_token_details"),
    ("cache_read_tokens", "priority_cache_read", "input_token_details"),
    ("cache_read_tokens", "flex_cache_read", "input_token_details"),
    ("cache_write_tokens", "cache_creation", "input_token_details"),
    ("cache_write_5m_tokens", "ephemeral_5m_input_tokens", "input_token_details"),
    ("cache_write_1h_tokens", "ephemeral_1h_input_tokens", "input_token_details"),
    ("input_audio_tokens", "audio", "input_token_details"),
    ("output_audio_tokens", "audio", "output_token_details"),
)


def calculate_cost(model_or_response: Any, usage: Any = None, *, provider: str | None = None) -> Decimal | None:
    """Return the price of a model call in US dollars, or None when it is not known; it is never guessed.

    The prices are those that the installed `genai-prices` carries: nothing is fetched. Without a provider the price is
    that of the model's own maker.

    Args:
        model_or_response: the model's name (str), or a provider's response object that names its model and usage.
        usage: counts of tokens, as a dict or an object: OpenAI's, Anthropic's, Gemini's, Bedrock's, Cohere's or
            LangChain's.
        provider: who served the call, when that is not the model's own maker, such as `azure_openai`.

    Returns:
        The price as a Decimal; None without a known model, usage and price.

    Raises:
        MissingExtraError: the extra `cost` is not installed; the only thing that is raised.

    Example:
        >>> calculate_cost("gpt-4o", {"prompt_tokens": 1000, "completion_tokens": 100})
        Decimal('0.0035')
    """
    try:
        import_module("genai_prices")  # slow to import, and optional
    except ImportError:
        raise MissingExtraError(
            "calculate_cost needs the package genai-prices, which is not installed.\nFix: pip install 'rootspan[cost]'."
        ) from None
    try:
        named = isinstance(model_or_response, str)
        response = {} if named else _fields(model_or_response)
        model: Any = model_or_response if named else _model(response)
        counts = _fields(usage if usage is not None else _first(response, *_USAGES))
        if not isinstance(model, str) or not model:
            return None
        return _price(model, counts, provider, _first(response, _TIER) or _tier(counts))
    except (Exception, SystemExit):  # a response's own properties, or what this version of the price list does not know
        return None


def _price(model: str, counts: dict[str, Any], provider: str | None, tier: Any) -> Decimal | None:
    import genai_prices

    usage = _usage(counts)
    if usage is None:
        return None
    served_by = None if provider is None else normalise_provider(provider)
    context = None if tier is None or tier in _STANDARD_TIERS else _context(str(tier))
    price: Any = genai_prices.calc_price(
        usage,
        model,
        provider_id=None if served_by is None else _PRICE_LISTS.get(served_by, served_by),
        price_context=context,
    )
    if context is not None and not any(variant.when == context for variant in price.model.price_variants or ()):
        return None
    return cast("Decimal", price.total_price)


def _tier(counts: dict[str, Any]) -> Any:
    """Return the tier that a usage tells of."""
    details = _first(counts, "input_token_details")
    named = (tier for tier in _NAMED_TIERS if _first(details, tier) is not None)
    return _first(counts, _TIER) or next(named, None)


def _context(tier: str) -> dict[str, str]:
    return {"processing": "batch"} if tier == "batch" else {"service_tier": tier}


def _usage(counts: dict[str, Any]) -> Any:
    """Return the usage as `genai-prices` counts it, where input includes what was cached; None without any count."""
    import genai_prices

    for shape in _SHAPES:
        if any(name in counts for name in shape.needs):
            data = {shape.root: {**shape.absent, **counts}}
            usage: Any = genai_prices.extract_usage(data, provider_id=shape.provider, api_flavor=shape.flavor).usage
            written = counts.get("cache_creation_input_tokens")
            if shape.flavor == "chat" and written:  # as LiteLLM tells of Claude, beside the names of OpenAI
                usage.cache_write_tokens = written
            return usage
    values: dict[str, Any] = {}
    for name, field, inside in _COUNTS:
        part = counts if inside is None else _first(counts, inside)
        if (count := _first(part, field)) is not None:
            values[name] = count
    return genai_prices.Usage(**values) if values else None


def _model(response: dict[str, Any]) -> Any:
    """Return the model that a response names; LangChain keeps it in the response's metadata."""
    return _first(response, *_MODELS) or _first(_first(response, "response_metadata"), "model_name", "model")


def _first(fields: Any, *names: str) -> Any:
    """Return the first of these fields that there is; None when there are no fields."""
    values = cast("dict[str, Any]", fields) if isinstance(fields, dict) else {}
    return next((values[name] for name in names if name in values), None)


def _fields(value: Any) -> dict[str, Any]:
    """Return what a response or usage holds, under the names of the provider's JSON; None is left out."""
    plain = _plain(value, 0)
    return cast("dict[str, Any]", plain) if isinstance(plain, dict) else {}


def _plain(value: Any, depth: int) -> Any:
    if depth > _DEEPEST or value is None or isinstance(value, (str, int, float, Decimal)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in cast("list[Any]", value)]
    if callable(dump := getattr(value, "model_dump", None)):
        return _plain(dump(mode="json", by_alias=True), depth + 1)  # a mock's returns another mock
    fields = cast("dict[Any, Any]", value if isinstance(value, Mapping) else _attributes(value))
    gemini = any(name in fields for name in ("token_count", "prompt_token_count"))
    return {
        _camel(name) if gemini else name: _plain(item, depth + 1)
        for name, item in fields.items()
        if isinstance(name, str) and not name.startswith("_") and item is not None
    }


def _attributes(value: Any) -> dict[str, Any]:
    """Return what an object holds itself, be it in slots."""
    slots = (vars(kind).get("__slots__", ()) for kind in type(value).__mro__)
    names = (name for some in slots for name in ((some,) if isinstance(some, str) else some))
    return {name: getattr(value, name, None) for name in names} | getattr(value, "__dict__", {})


def _camel(name: str) -> str:
    """Return a field of Gemini's Python SDK under the name that its JSON has."""
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)
