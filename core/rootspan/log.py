"""Says what there is to say, to the logger "rootspan"; what a handler or a filter of the host raises stays here."""

from __future__ import annotations

import logging
from typing import Final

__all__ = ["log"]

_logger: Final = logging.getLogger("rootspan")


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
