"""Names and values that are written agree with what the conventions publish."""

from __future__ import annotations

import importlib
import pkgutil
import warnings

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


def published() -> set[str]:
    names: set[str] = set()
    for module in pkgutil.iter_modules(registry.__path__):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = importlib.import_module(f"{registry.__name__}.{module.name}")
        names |= {value for name, value in vars(found).items() if name.isupper() and isinstance(value, str)}
    return names


def test_every_name_is_published_or_has_a_written_reason() -> None:
    missing = semconv.NAMES - published()
    assert not {name for name in missing if not name.startswith(tuple(NOT_PUBLISHED))}
    unused = {reason for reason in NOT_PUBLISHED if not any(name.startswith(reason) for name in missing)}
    assert not unused


def test_operations_and_providers_are_the_published_enums() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai

        operations = {value.value for value in gen_ai.GenAiOperationNameValues}
        providers = {value.value for value in gen_ai.GenAiProviderNameValues}
    assert set(semconv.SPAN_KINDS) == operations
    assert providers == semconv.PROVIDERS


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
