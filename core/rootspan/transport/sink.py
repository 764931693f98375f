"""What the ways out have in common: they take spans, in parts where they must, and say when to come again."""

from __future__ import annotations

import contextvars
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from rootspan.record import SpanData

__all__ = ["Attempt", "Backoff", "Sink", "in_parts", "unseen"]

T = TypeVar("T")
_random: Final = SystemRandom()  # the host's own generator, and whoever seeded it, must not notice us


class Sink(Protocol):
    """Where spans go; `attempt` does not raise."""

    def encode(self, data: SpanData, /) -> Any: ...
    def attempt(self, items: Any, until: float, /) -> Attempt[Any]: ...
    def release(self) -> None:
        """Let go of idle connections; more spans may come."""

    def close(self, until: float, /) -> None:
        """Let go of everything; waits for it until a time of `time.monotonic()` at most."""

    def forget(self) -> None:
        """Let go of a parent's connections after a fork, without closing them."""


@dataclass(frozen=True, slots=True)
class Attempt(Generic[T]):
    """What became of a batch: all is delivered that is neither dropped nor left."""

    dropped: Mapping[str, int]  # by reason
    rest: list[T]  # not sent, or not taken for now, in order
    wait: float = 0.0  # seconds before the rest is worth another attempt
    later: bool = False  # a server answered that it takes no more for now, so it may do so soon


def in_parts(items: Sequence[T], send: Callable[[list[T]], Attempt[T] | None]) -> Attempt[T]:
    """Send items, in halves of halves where they are too many or one of them is in the way of its neighbours.

    Args:
        items: all of them.
        send: makes one attempt with some of them; None if they, more than one, have to be halved.

    Returns:
        What became of all; the first attempt that leaves something is the last one.
    """
    dropped = Counter[str]()
    parts = [list(items)] if items else []  # the next one is the last
    while parts:
        part = parts.pop()
        attempt = send(part)
        if attempt is None:
            middle = len(part) // 2
            parts += (part[middle:], part[:middle])
            continue
        dropped.update(attempt.dropped)
        if attempt.rest:
            rest = [item for left in (attempt.rest, *reversed(parts)) for item in left]
            return Attempt(+dropped, rest, attempt.wait, attempt.later)
    return Attempt(+dropped, [])


class Backoff:
    """Waits with full jitter that double up to 30 s.

    A `Retry-After` is honoured up to 25 s, with up to 5 s of jitter on top, so that no wait is longer than the cap; the
    jitter doubles as well, for a server may ask for no wait at all and still be in trouble.
    """

    CAP: Final = 30.0  # seconds
    FIRST: Final = 1.0
    ASKED: Final = 25.0

    def __init__(self) -> None:
        self._failures = 0

    def reset(self) -> None:
        """Begin again at one second."""
        self._failures = 0

    def wait(self, retry_after: float | None = None, *, slowly: bool = False) -> float:
        """Return how many seconds to wait after one more failure."""
        doubled = 2.0 ** min(self._failures, 10)
        longest = self.CAP if slowly else min(self.CAP, self.FIRST * doubled)
        self._failures += 1
        if retry_after is None:
            return _random.uniform(0, longest)
        asked = min(retry_after, self.ASKED)
        return asked + _random.uniform(0, min(self.CAP - self.ASKED, max(asked, 0.1 * doubled)))


def unseen(call: Callable[..., T], *arguments: Any) -> T:
    """Call something in a context of its own, of which nothing stays, and in which no instrumentation records."""
    return contextvars.Context().run(_suppressed, call, *arguments)


def _suppressed(call: Callable[..., T], *arguments: Any) -> T:
    from opentelemetry import context

    # The keys have no public names; the plain word is what they were before 1.12 and what some still look up.
    current = context.set_value("suppress_instrumentation", True)
    for name in ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY"):
        if key := getattr(context, name, None):
            current = context.set_value(key, True, current)
    token = context.attach(current)
    try:
        return call(*arguments)
    finally:
        context.detach(token)
