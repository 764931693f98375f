"""Says what there is to say, to the logger "rootspan"; what a handler or a filter of the host raises stays here."""

from __future__ import annotations

import logging
import time
from typing import Final

__all__ = ["Seldom", "log"]

_logger: Final = logging.getLogger("rootspan")
_QUIET: Final = 60.0  # seconds between two lines about one topic


def log(level: int, message: str, *arguments: object, exc_info: bool = False) -> None:
    """Log a line; never raises, but for an interrupt of the host's.

    Args:
        level: one of `logging`.
        message: what to say, with a placeholder for each argument.
        *arguments: what goes into it.
        exc_info: add the exception that is being handled.
    """
    try:
        _logger.log(level, message, *arguments, exc_info=exc_info, stacklevel=2)
    except (Exception, SystemExit):  # whom to tell? the outage that is being told of may be the log server's as well
        return


class Seldom:
    """Logs a line about each topic once, or once a minute."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def say(self, topic: str, level: int, message: str, *arguments: object, again: bool = False) -> None:
        """Log a line as `log` does unless one about its topic was logged before.

        Args:
            topic: what it is about.
            level: one of `logging`.
            message: what to say, with a placeholder for each argument.
            *arguments: what goes into it.
            again: log it also where the last one was logged more than a minute ago.
        """
        last, now = self._said.get(topic), time.monotonic()
        if last is None or (again and now - last > _QUIET):
            self._said[topic] = now
            log(level, message, *arguments)

    def forget(self, topic: str) -> None:
        """Let the next line about a topic be logged at once."""
        self._said.pop(topic, None)
