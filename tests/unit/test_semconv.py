"""Names and values that are written agree with what the conventions publish."""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from functools import cache
from importlib.metadata import version

import pytest
from opentelemetry.semconv._incubating import attributes as registry

from rootspan import semconv

# Why a name that we write is not in the registry of opentelemetry-semantic-conventions.
NOT_PUBLISHED = {
    "openinference.": "OpenInference",
    "input.": "OpenInference",
    "output.": "OpenInference",
    "agent.name": "OpenInference: Phoenix does not map gen_ai.agent.name",
    "llm.cost.total": "OpenInference",
    "metadata": "OpenInference",
    "tag.tags": "OpenInference",
    "rootspan.": "our own",
    "mlflow.": "vendor, extras only",
    "langsmith.": "vendor, extras only",
    "gen_ai.user.id": "vendor (bentolabs), extras only",
    "gen_ai.usage.cost": "read by Langfuse; the convention's proposal is still open",
}


# The first release checked that has every name and value which we write; an older one is compared as far as it goes.
COMPLETE = (0, 66)
RELEASE = version("opentelemetry-semantic-conventions")
IS_COMPLETE = tuple(map(int, RELEASE.split("b")[0].split(".")))[:2] >= COMPLETE


@cache
def published() -> frozenset[str]:
    names: set[str] = set()
    for module in pkgutil.iter_modules(registry.__path__):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = importlib.import_module(f"{registry.__name__}.{module.name}")
        names |= {value for name, value in vars(found).items() if name.isupper() and isinstance(value, str)}
    return frozenset(names)


@pytest.mark.parametrize("name", sorted(semconv.NAMES))
def test_a_name_is_published_or_has_a_written_reason(name: str) -> None:
    if name not in published() and not IS_COMPLETE and name.startswith("gen_ai."):
        pytest.skip(f"opentelemetry-semantic-conventions {RELEASE} is older than this name of the GenAI conventions")
    assert name in published() or name.startswith(tuple(NOT_PUBLISHED))


def test_every_written_reason_is_still_needed() -> None:
    missing = semconv.NAMES - published()
    assert not {reason for reason in NOT_PUBLISHED if not any(name.startswith(reason) for name in missing)}


def published_values(enumeration: str) -> set[str]:
    """The values of a GenAI enum, or a skip where the release has none or not yet all of them."""
    if not IS_COMPLETE:
        pytest.skip(f"opentelemetry-semantic-conventions {RELEASE} is older than some values of {enumeration}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gen_ai = importlib.import_module(f"{registry.__name__}.gen_ai_attributes")
    return {value.value for value in getattr(gen_ai, enumeration)}


def test_operations_are_the_published_ones() -> None:
    assert set(semconv.SPAN_KINDS) == published_values("GenAiOperationNameValues")


def test_providers_are_the_published_ones() -> None:
    assert published_values("GenAiProviderNameValues") == semconv.PROVIDERS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("openai", "openai"),
        ("Anthropic", "anthropic"),
        ("aws_bedrock", "aws.bedrock"),
        ("bedrock", "aws.bedrock"),
        ("azure_openai", "azure.ai.openai"),
        ("Azure OpenAI", "azure.ai.openai"),
        ("azure", "azure.ai.openai"),
        ("google", "gcp.gemini"),
        ("gemini", "gcp.gemini"),
        ("vertexai", "gcp.vertex_ai"),
        ("google_vertexai", "gcp.vertex_ai"),
        ("mistral", "mistral_ai"),
        ("xai", "x_ai"),
        ("x-ai", "x_ai"),
        ("IBM Watsonx", "ibm.watsonx.ai"),
        ("cohere", "cohere"),
        ("deepseek", "deepseek"),
        ("groq", "groq"),
        ("perplexity", "perplexity"),
        ("gcp.vertex_ai", "gcp.vertex_ai"),
        (" My-Own Cloud ", "my-own cloud"),
    ],
)
def test_providers_are_normalised_and_never_guessed(name: str, value: str) -> None:
    assert semconv.normalise_provider(name) == value


@pytest.mark.parametrize("name", sorted(semconv.PROVIDERS))
def test_a_published_provider_stays_itself(name: str) -> None:
    assert semconv.normalise_provider(name) == name


@pytest.mark.parametrize(
    ("key", "free"),
    [
        ("plan", True),
        ("team.name", True),
        ("users", True),
        ("", False),
        ("user", False),
        ("user.id", False),
        ("user.id.hash", False),
        ("gen_ai", False),
        ("metadata", False),
        ("metadata.x", False),
        ("rootspan.mine", False),
        ("langfuse.trace.metadata.x", False),
        (".plan", True),
    ],
)
def test_a_property_stands_alone_only_where_it_hides_nothing(key: str, free: bool) -> None:
    """dialect 9"""
    assert semconv.is_free(key) is free
