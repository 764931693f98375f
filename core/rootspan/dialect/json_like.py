"""Tells JSON-like values apart, and writes them."""

from __future__ import annotations

import sys
from typing import Any, TypeGuard, cast

import orjson

from rootspan.freeze import freeze

__all__ = ["dumps", "is_array", "is_object"]


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether a JSON-like value is an object."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Return whether a JSON-like value is an array."""
    return isinstance(value, list)


def dumps(value: Any) -> str:
    """Return the JSON text of any value; what JSON cannot hold is frozen first."""
    try:
        return orjson.dumps(value).decode()
    except (TypeError, ValueError, RecursionError):
        frozen = freeze({"": value}, sys.maxsize)
        return orjson.dumps(orjson.loads(cast("bytes", frozen))[""]).decode()
