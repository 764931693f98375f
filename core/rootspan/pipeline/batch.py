"""Encoded spans on their way to one or more sinks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rootspan.ledger import Account
    from rootspan.record import SpanData
    from rootspan.transport.sink import Sink

__all__ = ["Batch"]


class Batch:
    """Encoded spans on their way, and which sinks still have to take which of them.

    Args:
        sinks: where all of them go.
        account: that of the place which they come from.
    """

    __slots__ = ("account", "bytes", "dropped", "later", "settled", "size", "span_ids", "todo")

    def __init__(self, sinks: Sequence[Sink], account: Account) -> None:
        self.account = account
        self.todo: list[tuple[Sink, list[Any]]] = [(sink, []) for sink in sinks]
        self.size = 0
        self.span_ids: list[bytes] = []  # of what left memory, where some of it may have begun in a spool
        self.bytes = 0
        self.settled = 0
        self.dropped: Counter[str] = Counter()
        self.later = False  # whether the last attempt left something that a server may take soon

    def add(self, span: SpanData | bytes) -> None:
        """Take a span; as bytes it is encoded already, for the only sink."""
        if isinstance(span, bytes):
            self.todo[0][1].append(span)
            self.bytes += len(span)
        else:
            encoded = [sink.encode(span) for sink, _ in self.todo]
            for (_, items), item in zip(self.todo, encoded, strict=True):
                items.append(item)
                self.bytes += len(item) if isinstance(item, bytes) else 500
        self.size += 1

    def attempt(self, until: float) -> tuple[int, Counter[str], float | None]:
        """Try every sink that is not done.

        Args:
            until: a time of `time.monotonic()` after which nothing more is begun.

        Returns:
            What became settled, the drops among it, and the wait in seconds; None where nothing is left to do.
        """
        wait: float | None = None
        self.later = False
        todo: list[tuple[Sink, list[Any]]] = []
        for sink, items in self.todo:
            result = sink.attempt(items, until)
            self.dropped.update(result.dropped)
            if result.rest:
                todo.append((sink, result.rest))
                wait = max(wait or 0.0, result.wait)
                self.later |= result.later
        self.todo = todo
        settled = self.size - max((len(items) for _, items in todo), default=0)
        newly, self.settled = settled - self.settled, settled
        return newly, self._dropped_of(newly), wait

    def give_up(self) -> int:
        """Take what is left for settled; return how many that were."""
        size = self.size  # once: the worker may still be filling it, and counts what comes after this
        left, self.settled = size - self.settled, size
        return left

    def settle(self, number: int) -> None:
        """Note where they wait that the next `number` spans need not be sent again."""

    def loss(self, reason: str) -> str | None:
        """Return for which reason what is given up is lost; None where it waits for another process."""
        return reason

    def _dropped_of(self, settled: int) -> Counter[str]:
        """Take the drops among what is settled now; one that another sink still has to take waits for that."""
        dropped = Counter[str]()
        for reason, number in self.dropped.items():
            dropped[reason] = min(number, settled - dropped.total())
        self.dropped -= dropped
        return +dropped
