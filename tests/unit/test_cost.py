"""The price of a call: exact where it is known, None where it is not."""

from __future__ import annotations

import socket
import sys
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from rootspan import Tracker
from rootspan.cost import calculate_cost
from rootspan.errors import MissingExtraError

pytest.importorskip("genai_prices", reason="the extra `cost` is not installed")


class Dumped:
    """Stands for a pydantic object: what matters of one is `model_dump`."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def model_dump(self, **options: Any) -> dict[str, Any]:
        assert options == {"mode": "json", "by_alias": True}
        return self._fields


class Slotted:
    __slots__ = ("completion_tokens", "never_set", "prompt_tokens")

    def __init__(self, **fields: int) -> None:
        for name, count in fields.items():
            setattr(self, name, count)


class SlottedBelow(Slotted):
    __slots__ = "total_tokens"  # one name, as Python allows


OPENAI = {"prompt_tokens": 1000, "completion_tokens": 100}


@pytest.mark.parametrize(
    ("model", "usage", "price"),
    [
        ("gpt-4o", OPENAI, "0.0035"),
        ("gpt-4o", SimpleNamespace(**OPENAI), "0.0035"),
        ("gpt-4o", Dumped(**OPENAI), "0.0035"),
        ("gpt-4o", Slotted(**OPENAI), "0.0035"),
        ("gpt-4o", SlottedBelow(**OPENAI, total_tokens=1100), "0.0035"),
        ("gpt-4o", {"input_tokens": 1000, "output_tokens": 100}, "0.0035"),
        ("gpt-4o", {**OPENAI, "prompt_tokens_details": {"cached_tokens": 400}}, "0.0030"),
        (
            "gpt-4o",
            {"input_tokens": 1000, "output_tokens": 100, "input_tokens_details": {"cached_tokens": 400}},
            "0.0030",
        ),
        ("gpt-4o", {"input_tokens": 1000, "output_tokens": 100, "input_token_details": {"cache_read": 400}}, "0.0030"),
        # OpenAI's tiers, as LangChain counts them: 600 x 2.5 + 400 x 0.25 + 100 x 20, per million
        (
            "gpt-5",
            {
                "input_tokens": 1000,
                "output_tokens": 100,
                "input_token_details": {"priority_cache_read": 400, "priority": 600},
                "output_token_details": {"priority_reasoning": 20, "priority": 80},
            },
            "0.0036",
        ),
        # Anthropic's input_tokens leave out what was cached: 1000 x 3 + 400 x 0.3 + 200 x 3.75 + 100 x 15, per million
        (
            "claude-3-5-sonnet-20241022",
            {
                "input_tokens": 1000,
                "cache_read_input_tokens": 400,
                "cache_creation_input_tokens": 200,
                "output_tokens": 100,
            },
            "0.00537",
        ),
        # The same as LiteLLM counts it, with what was cached among them
        (
            "claude-3-5-sonnet-20241022",
            {
                "prompt_tokens": 1600,
                "completion_tokens": 100,
                "prompt_tokens_details": {"cached_tokens": 400},
                "cache_read_input_tokens": 400,
                "cache_creation_input_tokens": 200,
            },
            "0.00537",
        ),
        # Cohere bills 1000 x 0.15 + 100 x 0.6, per million, and counts more
        (
            "command-r",
            {
                "billed_units": {"input_tokens": 1000, "output_tokens": 100},
                "tokens": {"input_tokens": 1500, "output_tokens": 110},
            },
            "0.00021",
        ),
    ],
)
def test_usage_in_every_form(model: str, usage: Any, price: str) -> None:
    assert calculate_cost(model, usage) == Decimal(price)


def test_an_embedding_has_no_output() -> None:
    usage = {"prompt_tokens": 1000, "total_tokens": 1000}
    assert calculate_cost("text-embedding-3-small", usage, provider="openai") == Decimal("0.00002")


GEMINI = {"prompt_token_count": 1000, "candidates_token_count": 100, "thoughts_token_count": 50}
GEMINI_JSON = {"promptTokenCount": 1000, "candidatesTokenCount": 100, "thoughtsTokenCount": 50}


def test_gemini_counts_thoughts_as_output_whatever_the_spelling() -> None:
    price = calculate_cost("gemini-2.5-flash", {"input_tokens": 1000, "output_tokens": 150})
    assert price
    assert calculate_cost("gemini-2.5-flash", GEMINI_JSON) == price
    assert calculate_cost("gemini-2.5-flash", SimpleNamespace(**GEMINI)) == price
    details = {"prompt_tokens_details": [{"modality": "TEXT", "token_count": 1000}]}
    assert calculate_cost("gemini-2.5-flash", {**GEMINI, **details}) == price
    assert calculate_cost({"modelVersion": "gemini-2.5-flash", "usageMetadata": GEMINI_JSON}) == price


def test_a_response_alone_is_enough() -> None:
    openai = SimpleNamespace(model="gpt-4o-2024-08-06", usage=SimpleNamespace(**OPENAI))
    langchain = SimpleNamespace(
        usage_metadata={"input_tokens": 1000, "output_tokens": 100}, response_metadata={"model_name": "gpt-4o"}
    )
    assert calculate_cost(openai) == calculate_cost(langchain) == Decimal("0.0035")


@pytest.mark.parametrize("provider", ["azure_openai", "openai", "Azure OpenAI"])
def test_the_provider_is_optional_and_may_be_an_everyday_name(provider: str) -> None:
    assert calculate_cost("gpt-4o", OPENAI, provider=provider) == Decimal("0.0035")


class Broken:
    def model_dump(self, **options: Any) -> Any:
        raise RuntimeError(options)


@pytest.mark.parametrize(
    ("model", "usage", "provider"),
    [
        ("no-such-model", OPENAI, None),
        ("gpt-4o", OPENAI, "no-such-provider"),
        ("gpt-4o", OPENAI, "aws_bedrock"),
        ("gpt-4o", None, None),
        ("gpt-4o", {}, None),
        ("gpt-4o", {"prompt_tokens": -1, "completion_tokens": 1}, None),
        ("gpt-4o", {"prompt_tokens": float("nan"), "completion_tokens": 1}, None),
        ("gpt-4o", "many", None),
        ("", OPENAI, None),
        (None, OPENAI, None),
        (OPENAI, None, None),  # a usage alone names no model
        (SimpleNamespace(**OPENAI), None, None),
        (Broken(), None, None),
        ({"model": ["gpt-4o"], "usage": OPENAI}, None, None),
        ([[[[[[[[[]]]]]]]]], None, None),
        ({"model": "gpt-4o", "usage": OPENAI, "service_tier": "no-such-tier"}, None, None),
    ],
)
def test_what_is_unknown_is_none_and_nothing_is_raised(model: Any, usage: Any, provider: str | None) -> None:
    assert calculate_cost(model, usage, provider=provider) is None


def test_a_mock_in_place_of_a_response_is_looked_at_a_few_levels_deep() -> None:
    dumped: list[Any] = []

    class Mock:
        def model_dump(self, **_: Any) -> Any:
            dumped.append(self)
            return Mock()

    assert calculate_cost(Mock()) is None
    assert calculate_cost("gpt-4o", Mock()) is None
    assert len(dumped) < 20


def test_a_property_that_wants_to_exit_does_not() -> None:
    """delivery 10"""

    class Exiting:
        model = "gpt-4o"

        @property
        def model_dump(self) -> Any:
            raise SystemExit(3)

    assert calculate_cost(Exiting()) is None
    assert calculate_cost("gpt-4o", Exiting()) is None


def test_a_service_tier_is_priced_as_that_tier_or_not_at_all() -> None:
    response = {"model": "gpt-5", "usage": OPENAI}
    standard = calculate_cost({**response, "service_tier": "default"})
    flex = calculate_cost({**response, "service_tier": "flex"})
    assert standard == calculate_cost(response)
    assert standard is not None
    assert flex is None or flex < standard
    batch = calculate_cost({"model": "claude-3-5-sonnet-20241022", "usage": {**OPENAI, "service_tier": "batch"}})
    assert batch is None or batch < Decimal("0.0045")


def test_a_tracker_has_the_very_same(tracker: Tracker) -> None:
    assert tracker.calculate_cost is calculate_cost


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert calculate_cost("gpt-4o", OPENAI) == Decimal("0.0035")
    from genai_prices import data_snapshot

    assert data_snapshot.get_snapshot().from_auto_update is False


def test_without_the_extra_one_error_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rootspan\[cost\]'"):
        calculate_cost("gpt-4o", OPENAI)
