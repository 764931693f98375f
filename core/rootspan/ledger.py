"""The accounts of a tracker's records: how many there were, and what became of each of them."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sized
from itertools import count
from typing import Any, Final

from rootspan.log import log

__all__ = ["Account", "Ledger", "Tally"]

_QUIET: Final = 60.0  # seconds between two reports of losses
_EXPECTED: Final = frozenset({"sampled", "disabled"})  # not recorded because the configuration says so


class Tally:
    """A number that any thread, and a signal's handler, may count up without a lock.

    Attributes:
        add: counts one more.
    """

    __slots__ = ("_count", "add")

    def __init__(self) -> None:
        self._count = count()
        self.add = self._count.__next__

    @property
    def total(self) -> int:
        """How many were counted; the counter's repr is the one way to tell without advancing it."""
        return int(repr(self._count)[6:-1])


class Account:
    """What became of the records that left one place: all that are settled, and by reason the dropped ones of these."""

    __slots__ = ("dropped", "settled")

    def __init__(self) -> None:
        self.settled = 0
        self.dropped: Counter[str] = Counter()

    @property
    def delivered(self) -> int:
        return self.settled - self.dropped.total()


class Ledger:
    """Counts each record where it comes in and where it leaves; recorded = delivered + queued + spooled + dropped.

    Args:
        queue: the records that wait in memory.
        on_loss: called with a reason and how many records were lost for it since the last call.
        unchosen: nobody chose the endpoint; while nothing was ever delivered to it, losses are no warning.
    """

    def __init__(self, queue: Sized, on_loss: Callable[[str, int], object] | None, unchosen: bool) -> None:
        self._queue = queue
        self._on_loss = on_loss
        self._unchosen = unchosen
        self._reported: Counter[str] = Counter()
        self._report_at = 0.0
        self.changed = threading.Condition()
        self.made = Tally()
        self.overflowed = Tally()  # dropped by callers that found the queue full
        self.taken = Tally()  # from the queue, by the worker
        self.written = Tally()  # to the spool
        self.found = 0  # in spools of dead processes
        self.untaken, self.memory, self.spool, self.recovered = Account(), Account(), Account(), Account()

    @property
    def settled(self) -> int:
        """How many of those made were delivered or dropped."""
        return self.untaken.settled + self.memory.settled + self.spool.settled + self.overflowed.total

    @property
    def delivered(self) -> int:
        """How many of those made were delivered."""
        return self.memory.delivered + self.spool.delivered

    @property
    def unheard(self) -> bool:
        """Whether nothing was ever delivered where nobody said that anybody listens: a loss there is no surprise."""
        return self._unchosen and not self.delivered

    @property
    def spooled(self) -> int:
        """How many wait on the disk."""
        return self.written.total - self.spool.settled

    def drop(self, reason: str) -> None:
        """Count a record that never came to be one."""
        with self.changed:  # which may raise at the end of the caller's stack: then it counts nowhere
            self.untaken.dropped[reason] += 1
            self.untaken.settled += 1
            self.made.add()

    def settle(self, account: Account, number: int, dropped: Mapping[str, int]) -> None:
        """Count records that left a place, perhaps none, and wake who waits for that.

        Args:
            account: that of the place.
            number: how many.
            dropped: those of them that were not delivered, by reason.
        """
        with self.changed:
            account.dropped.update(dropped)
            account.settled += number
            self.changed.notify_all()

    def lose(self, account: Account, number: int, reason: str) -> None:
        """Count records that left a place and were not delivered, all for one reason."""
        if number:
            self.settle(account, number, {reason: number})

    def dropped(self) -> Counter[str]:
        """Return how many of those made were dropped, by reason."""
        dropped = Counter(queue_full=self.overflowed.total)
        for account in (self.untaken, self.memory, self.spool):
            dropped.update(dict(account.dropped))  # a copy: a signal's handler may count in the midst
        return +dropped

    def stats(self) -> dict[str, Any]:
        """Return what became of those made; it adds up."""
        patience = 50
        while True:
            recorded, found = self.made.total, self._places()
            places = found["delivered"], found["queued"], found["spooled"], *found["dropped"].values()
            patience -= 1
            if not patience or (recorded == sum(places) and min(places) >= 0):
                return {"recorded": recorded, **found}
            time.sleep(0.0005)  # a record is just moving from one place to the next

    def _places(self) -> dict[str, Any]:
        with self.changed:
            return {
                "delivered": self.delivered,
                "queued": len(self._queue) + self.taken.total - self.memory.settled,
                "spooled": self.spooled,
                "dropped": dict(self.dropped()),
            }

    def recovery(self) -> dict[str, Any]:
        """Return what became of those found, which add up for themselves."""
        with self.changed:
            account, left = self.recovered, self.found - self.recovered.settled
            dropped = dict(account.dropped)
            return {"found": self.found, "delivered": account.delivered, "spooled": left, "dropped": dropped}

    def report(self, last: bool = False) -> None:
        """Say what was lost: the first loss at once, then one line a minute."""
        with self.changed:  # the end and the worker may come here at once
            dropped = self.dropped() + Counter(self.recovered.dropped)
            lost = {reason: n for reason, n in (dropped - self._reported).items() if reason not in _EXPECTED}
            now = time.monotonic()
            if not lost or (now < self._report_at and not last):
                return
            self._reported, self._report_at = dropped, now + _QUIET
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(lost.items()))
        level = logging.DEBUG if self.unheard else logging.WARNING
        log(level, "rootspan lost %d records (%s); rootspan.stats() has the totals", sum(lost.values()), reasons)
        if self._on_loss is not None:
            for reason, number in lost.items():
                try:
                    self._on_loss(reason, number)
                except (Exception, SystemExit):
                    log(logging.ERROR, "the on_loss callback raised", exc_info=True)
