"""Tells a forked child from the process that it came from, also where no fork hook ran, as under uWSGI."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from mmap import PAGESIZE, mmap
from typing import Any, Final

from rootspan.log import log

__all__ = ["SETTING_UP", "after_fork", "forked", "home"]

_WIPE_ON_FORK: Final = 18  # MADV_WIPEONFORK, Linux 4.14; `mmap` has no name for it
_starting: Final = threading.RLock()
_busy = False  # with that
_callbacks: Final[list[Callable[[], None]]] = []


class _ComparedPid:
    """What serves where the kernel wipes no pages; a tenth as fast."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, index: int) -> int:
        return self._pid == os.getpid()

    def __setitem__(self, index: int, value: int) -> None:
        self._pid = os.getpid()


def _wiped_page() -> Any:
    if sys.platform == "linux":  # pragma: no branch  (no other kernel wipes pages)
        from mmap import MAP_ANONYMOUS, MAP_PRIVATE

        try:
            page = mmap(-1, PAGESIZE, flags=MAP_PRIVATE | MAP_ANONYMOUS)
            page.madvise(_WIPE_ON_FORK)
            page[0] = 1
            return page
        except (OSError, ValueError):  # an older kernel, or one of another make
            pass
    return _ComparedPid()


SETTING_UP: Final = threading.RLock()
"""Held while modules are imported or a tracker is made, and around a fork: a child waits for a half-done import."""

home: Final = _wiped_page()
"""`home[0]` is 0 in a child until `forked` was called there; asking costs 15 ns, where `os.getpid` takes 50 to 250."""


def after_fork(callback: Callable[[], None]) -> Callable[[], None]:
    """Let `callback` run in each forked child, before anything is recorded there; a decorator."""
    _callbacks.append(callback)
    return callback


def forked() -> None:
    """Let this process, a forked child, start afresh; the fork hook calls it, or the first call that finds `home` 0."""
    global _busy
    with _starting:  # another thread of the child waits until all is fresh
        if home[0] or _busy:  # busy: a logging handler below tracks as well
            return
        _busy = True
        try:
            for callback in _callbacks:
                try:
                    callback()
                except Exception:
                    log(logging.ERROR, "rootspan could not start afresh in a forked child", exc_info=True)
        finally:
            home[0] = 1
            _busy = False


if hasattr(os, "register_at_fork"):  # pragma: no branch  (on Windows there is no fork)
    os.register_at_fork(after_in_child=forked)
