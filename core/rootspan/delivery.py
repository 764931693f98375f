"""Brings batches to a collector, and finds out by splitting them what it will never take."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from rootspan.answer import Answer, Outcome
from rootspan.log import Seldom

if TYPE_CHECKING:
    from rootspan.encode import JsonEncoder, ProtobufEncoder
    from rootspan.record import SpanData
    from rootspan.transport import Transport

__all__ = ["Attempt", "Backoff", "Delivery", "flat", "halves"]

_random: Final = SystemRandom()  # the host's own generator, and whoever seeded it, must not notice us


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


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Attempt(Generic[T]):
    """What became of a batch: all is delivered that is neither dropped nor left."""

    dropped: Mapping[str, int]  # by reason
    rest: list[T]  # not sent, or not taken for now, in order
    wait: float = 0.0  # seconds before the rest is worth another attempt
    later: bool = False  # a server answered that it takes no more for now, so it may do so soon


class Delivery:
    """Brings encoded spans to a collector, and keeps one that it will never take from blocking the others.

    Args:
        encoder: makes request bodies; the one that fits the transport's protocol.
        transport: what sends them.
        on_poison: called with a span that was refused for good, and why, before it is counted as dropped.

    Attributes:
        encoder: what was given.
    """

    def __init__(
        self,
        encoder: ProtobufEncoder | JsonEncoder,
        transport: Transport,
        *,
        on_poison: Callable[[bytes, str], object] | None = None,
    ) -> None:
        self.encoder = encoder
        self._transport = transport
        self._on_poison = on_poison
        self._backoff = Backoff()
        self._too_large = 4 << 20  # bytes: the smallest batch that is known, or presumed, to be too large
        self._seldom = Seldom()

    def encode(self, data: SpanData) -> bytes:
        """Return one span as `attempt` takes it."""
        return self.encoder.span(data)

    def attempt(self, spans: Sequence[bytes], until: float = math.inf) -> Attempt[bytes]:
        """Send spans until all are delivered or dropped, or something says to wait.

        Args:
            spans: encoded spans.
            until: a time of `time.monotonic()` after which nothing more is begun.

        Returns:
            What became of them.
        """
        dropped = Counter[str]()
        groups = [list(spans)] if spans else []
        while groups:
            group = groups.pop()
            if len(group) > 1 and sum(map(len, group)) >= self._too_large:
                groups += halves(group)
                continue
            if time.monotonic() >= until:
                return Attempt(+dropped, flat([*groups, group]))
            answer = self._send(group, until)
            if answer.outcome == Outcome.DELIVERED:
                dropped["rejected"] += self._rejected(answer, len(group))
            elif answer.outcome in (Outcome.RETRY, Outcome.HOLD):
                wait = self._backoff.wait(answer.retry_after, slowly=answer.outcome == Outcome.HOLD)
                later = answer.outcome == Outcome.RETRY and answer.status is not None
                return Attempt(+dropped, flat([*groups, group]), wait, later)
            elif len(group) > 1:
                groups += halves(group)
            else:
                dropped[self._give_up(group[0], answer)] += 1
        return Attempt(+dropped, [])

    def close(self) -> None:
        """Close idle connections; another attempt would open a new one."""
        self._transport.close()

    release = close

    def forget(self) -> None:
        """Leave the parent's connection alone, after a fork, in the child."""
        self._transport.forget()

    def _send(self, group: list[bytes], until: float) -> Answer:
        answer = self._post(group, until)
        if answer.outcome == Outcome.TOO_LARGE and len(group) > 1:
            self._too_large = min(self._too_large, sum(map(len, group)))
        elif answer.outcome == Outcome.TOO_LARGE:
            answer = self._send_shrunk(group[0], answer, until)
        if answer.outcome == Outcome.DELIVERED:
            self._backoff.reset()
            self._seldom.forget("trouble")
        elif answer.outcome in (Outcome.RETRY, Outcome.HOLD):
            self._say_trouble(answer)
        return answer

    def _send_shrunk(self, span: bytes, answer: Answer, until: float) -> Answer:
        for longest in (262_144, 65_536, 8_192, 1_024):
            shrunk = self.encoder.shrink(span, longest)
            if len(shrunk) == len(span):
                continue
            span = shrunk
            answer = self._post([span], until)
            if answer.outcome != Outcome.TOO_LARGE:
                break
        return answer

    def _post(self, group: Sequence[bytes], until: float) -> Answer:
        return self._transport.send(self.encoder.batch(group), until - time.monotonic())

    def _rejected(self, answer: Answer, most: int) -> int:
        if answer.rejected or answer.detail:
            words = f" {answer.detail!r}" if answer.detail else ""
            line = f"{self._transport.host} rejected {answer.rejected} of {most} events in a partial success{words}."
            self._seldom.say("rejected", logging.WARNING, f"{line} Further rejections are only counted.")
        return min(answer.rejected, most)

    def _give_up(self, span: bytes, answer: Answer) -> str:
        """Return the reason under which a span that stands alone is dropped."""
        if answer.outcome == Outcome.TOO_LARGE:
            line = f"An event was too large for {self._transport.host}: dropped."
        else:
            line = f"{self._transport.host} refused an event for good ({answer.detail}): dropped."
        self._seldom.say(answer.outcome, logging.WARNING, line, again=True)
        if self._on_poison is not None:
            self._on_poison(span, answer.detail)
        return answer.outcome

    def _say_trouble(self, answer: Answer) -> None:
        host = self._transport.host
        if answer.cause is ConnectionRefusedError and self._transport.unchosen:
            line = f"Nobody listens at {host}, rootspan's default endpoint; `rootspan tail` shows events there."
            self._seldom.say("unchosen", logging.INFO, line)
            return
        level = logging.ERROR if answer.outcome == Outcome.HOLD else logging.WARNING
        fix = f"\nFix: {answer.fix}." if answer.fix else ""
        line = f"Events for {host} are kept and tried again: {answer.detail}{fix}"
        self._seldom.say("trouble", level, line, again=True)


def halves(group: list[T]) -> list[list[T]]:
    """Return the second half, then the first, which is the order of a stack."""
    middle = len(group) // 2
    return [group[middle:], group[:middle]]


def flat(groups: Sequence[list[T]]) -> list[T]:
    """Return what is in the groups of a stack, in order."""
    return [span for group in reversed(groups) for span in group]
