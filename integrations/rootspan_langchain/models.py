"""What the events of a model tell: provider, model, parameters, tools, answers and tokens."""

# Results hold whatever an integration put there:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from langchain_core.outputs import LLMResult

from rootspan import calculate_cost, semconv
from rootspan.freeze import freeze
from rootspan.record import AttributeValue, Frozen
from rootspan_langchain.values import message

__all__ = ["Answer", "Usage", "answer", "cost_of", "model_of", "offered", "parameters", "provider_of", "usage_of"]

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
_FINISH: Final = ("finish_reason", "stop_reason", "done_reason", "finishReason")
_SUFFIXES: Final = ("Chat", "LLM")
_TOOLS: Final = 65_536  # characters of the tools' definitions
_CACHED_IDS: Final = ("run-", "lc_run-")


class Usage(NamedTuple):
    """Tokens of one call; None is unknown, which is not 0."""

    input: int | None = None
    output: int | None = None
    cost: float | None = None
    details: Mapping[str, int] = {}  # fields of the record
    audio: Mapping[str, int] = {}  # attributes


class Answer(NamedTuple):
    """What a model answered."""

    output: Any  # a text, or messages
    usage: Usage
    fields: dict[str, Any]
    attributes: dict[str, AttributeValue]
    calls: Sequence[Mapping[str, Any]]
    text: str
    bought: Any  # the usage as it was told; None for what the cache answered


def _first(names: Sequence[str], *sources: Any) -> Any:
    for source in sources:
        if isinstance(source, dict):
            for name in names:
                if source.get(name) is not None:
                    return source[name]
    return None


def model_of(metadata: Mapping[str, Any], parameters: Any, serialized: Any) -> Any:
    """Return the model that was asked for: what LangChain says, else the call's parameters, else the class's."""
    told = metadata.get("ls_model_name")
    return told or _first(_MODELS, parameters, (serialized or {}).get("kwargs"))


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
        for key in _PARAMETERS.keys() & source.keys() if isinstance(source, dict) else ():
            name, kinds = _PARAMETERS[key]
            if type(source[key]) in kinds:
                found[name] = source[key]
    stop = _first(("stop", "stop_sequences", "ls_stop"), given, metadata)
    if isinstance(stop, (list, tuple)) and stop and all(type(item) is str for item in stop):
        found[semconv.GEN_AI_REQUEST_STOP_SEQUENCES] = list(stop)
    elif type(stop) is str:
        found[semconv.GEN_AI_REQUEST_STOP_SEQUENCES] = [stop]
    return found


def offered(given: Any) -> tuple[Frozen, list[str]]:
    """Return the definitions of the tools that the model may call, and their names."""
    tools = _first(("tools", "functions"), given)
    if not isinstance(tools, (list, tuple)) or not tools:
        return None, []
    names: list[str] = []
    for tool in tools:
        inner = tool.get("function", tool) if isinstance(tool, Mapping) else tool
        name = inner.get("name") if isinstance(inner, Mapping) else getattr(inner, "name", None)
        if type(name) is str:
            names.append(name)
    return freeze(list(tools), _TOOLS), names


def usage_of(given: Any) -> Usage:
    """Return LangChain's `usage_metadata`, or a provider's own counts, as tokens; the input is the gross number."""
    if not isinstance(given, dict):
        return Usage()
    before, after = given.get("input_token_details"), given.get("output_token_details")
    details = {
        "cache_read_tokens": _first(("cache_read",), before),
        "cache_creation_tokens": _first(("cache_creation",), before),
        "reasoning_tokens": _first(("reasoning",), after),
    }
    audio = {
        semconv.ROOTSPAN_USAGE_INPUT_AUDIO_TOKENS: _first(("audio",), before),
        semconv.ROOTSPAN_USAGE_OUTPUT_AUDIO_TOKENS: _first(("audio",), after),
    }
    cost = _first(("total_cost", "cost"), given)
    return Usage(
        _count(_first(("input_tokens", "prompt_tokens"), given)),
        _count(_first(("output_tokens", "completion_tokens"), given)),
        float(cost) if type(cost) in (int, float) else None,
        {name: value for name, value in details.items() if type(value) is int},
        {name: value for name, value in audio.items() if type(value) is int},
    )


def _count(value: Any) -> int | None:
    return value if type(value) is int else None


def answer(result: LLMResult, run_id: str, limit: int) -> Answer:
    """Return what the result of one call says."""
    choices: Any = result.generations[0] if result.generations else []
    told: Any = result.llm_output or {}
    messages: list[Any] = [choice.message for choice in choices if getattr(choice, "message", None) is not None]
    shown: list[dict[str, Any]] = [message(one, limit) for one in messages]
    reasons: list[Any] = []
    for number, choice in enumerate(choices):
        reason = _first(_FINISH, getattr(messages[number : number + 1] and messages[number], "response_metadata", None),
                        choice.generation_info)  # fmt: skip
        if reason is not None:
            reasons.append(str(reason))
            if number < len(shown):
                shown[number]["finish_reason"] = str(reason)
    first: Any = messages[0] if messages else None
    meta: Any = getattr(first, "response_metadata", None) or {}
    bought = getattr(first, "usage_metadata", None) or _first(("token_usage", "usage"), told, meta)
    usage = usage_of(bought)
    attributes: dict[str, AttributeValue] = {}
    identifier = meta.get("id") or getattr(first, "id", None)
    if type(identifier) is str and not identifier.startswith(_CACHED_IDS):
        attributes[semconv.GEN_AI_RESPONSE_ID] = identifier
    if _is_cached(first, usage, run_id):
        attributes[semconv.ROOTSPAN_RESPONSE_CACHED] = True
        usage, bought = Usage(), None  # bought when it was asked for the first time
    attributes.update(usage.audio)
    fields = {"response_model": _first(("model_name", "model", "model_id"), meta, told), "finish_reasons": reasons}
    fields.update(usage.details)
    texts = [choice.text for choice in choices]
    text = str(texts[0]) if texts else ""
    calls = getattr(first, "tool_calls", None) or ()
    output: Any = shown or [{"role": "assistant", "content": text} for text in texts]
    if not shown and len(texts) < 2:
        output = text or None
    fields = {name: value for name, value in fields.items() if value}
    return Answer(output, usage, fields, attributes, calls, text, bought)


def cost_of(answer: Answer, model: str | None, provider: str | None) -> float | None:
    """Return the price of a call by the price list, None where it is not known."""
    named = answer.fields.get("response_model") or model
    price = calculate_cost(named, answer.bought, provider=provider) if named and answer.bought else None
    return None if price is None else float(price)


def _is_cached(first: Any, usage: Usage, run_id: str) -> bool:
    """Return whether LangChain's cache answered: it sets the cost to 0, and the message has the id of another run."""
    if usage.cost == 0:
        return True
    identifier = getattr(first, "id", None)
    return type(identifier) is str and identifier.startswith(_CACHED_IDS) and run_id not in identifier
