"""Random ids from a pool, because drawing one at a time costs ten times as much."""

from __future__ import annotations

from random import Random
from typing import Final, TypeGuard

from rootspan.forks import after_fork

__all__ = ["is_id", "new_ids", "new_span_id", "new_trace_id", "pooled_span_id"]

_POOL_SIZE: Final = 512
_pool: Final[list[str]] = []
_roots: Final[list[str]] = []
pooled_span_id: Final = _pool.pop
"""`new_span_id` without a call of Python's own; raises `IndexError` where the pool is empty."""
_random: Final = Random()  # seeded by the system; it is not the host's, whose seed would repeat ids


def new_span_id() -> str:
    """Return 16 random hex characters."""
    try:
        return _pool.pop()
    except IndexError:
        first, *rest = _random.randbytes(8 * _POOL_SIZE).hex(" ", 8).split()
        _pool.extend(rest)
        return first


def new_trace_id() -> str:
    """Return 32 random hex characters."""
    return new_span_id() + new_span_id()


def new_ids(trace: str | None = None) -> str:
    """Return 48 hex characters: a new trace id, or the one that `trace` begins with, then a new span id."""
    if trace is not None:
        return trace[:32] + new_span_id()
    try:
        return _roots.pop()
    except IndexError:
        first, *rest = _random.randbytes(24 * _POOL_SIZE).hex(" ", 24).split()
        _roots.extend(rest)
        return first


def is_id(value: object, *lengths: int) -> TypeGuard[str]:
    """Return whether a value is an id of ours of one of these lengths; OpenTelemetry's of nothing but zeros is none."""
    if type(value) is not str or len(value) not in lengths:
        return False
    return not value.strip("0123456789abcdef") and value.strip("0") != ""


@after_fork
def forget_ids() -> None:
    """A forked child must not hand out its parent's ids."""
    _pool.clear()
    _roots.clear()
    _random.seed()
