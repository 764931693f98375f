"""`rootspan spool`: what processes left on the disk, shown, sent or deleted."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from rootspan import Tracker
from rootspan.errors import ConfigurationError
from rootspan.settings import OPTIONS, resolve
from rootspan.spool import default_directory, read_about
from rootspan.spool.journal import Journal, names
from rootspan_ui.check import by_option, variables
from rootspan_ui.terminal import Screen
from rootspan_ui.text import clean, counted

__all__ = ["purge", "replay", "status"]

_SAY_EVERY: Final = 2.0


class _Left(NamedTuple):
    """What one process wrote and nobody delivered yet."""

    name: str
    alive: bool
    size: int  # bytes
    since: float  # seconds since the epoch, of the oldest file
    events: int = 0
    damaged: int = 0
    about: Mapping[str, Any] = {}


def status(directory: str | None) -> int:
    """Say what a spool directory holds, and for whom.

    Args:
        directory: where it is; that of `ROOTSPAN_SPOOL`, or the default one.

    Returns:
        The exit status: 0, or 2 when the directory does not exist or cannot be read.
    """
    screen, where = Screen(sys.stdout), _directory(directory)
    if (found := _look(where, screen)) is None:
        return 2
    ours = _fingerprint()
    found = [left for left in found if left.alive or left.events or left.damaged]
    for left in found:
        if left.alive:
            screen.say(f"  in use    {_size(left.size):>9}  by a running process, which sends them itself")
            continue
        fits = ours is not None and left.about.get("fingerprint") == ours
        whose = "for the endpoint and key in the environment" if fits else "for another endpoint or key"
        damaged = f", {counted(left.damaged, 'event')} damaged" if left.damaged else ""
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(left.since))
        screen.say(
            f"  left over {_size(left.size):>9}  {counted(left.events, 'event')}{damaged}, of {_service(left)}, "
            f"since {since}; {whose}"
        )
    dead = _dead_letters(where)
    for path in dead:
        size, events = _size(path.stat().st_size), counted(_lines(path), "event")
        screen.say(f"  refused   {size:>9}  {events} that a collector never took: {clean(str(path))}")
    if not found and not dead:
        screen.say("  nothing: everything that was recorded is delivered")
    elif any(not left.alive for left in found):
        screen.say(
            "\n`rootspan spool replay` sends what is left over; so does the next process with the same settings:\n"
            "ROOTSPAN_ENDPOINT and ROOTSPAN_API_KEY have to be those with which it was recorded."
        )
    return 0


def replay(directory: str | None, endpoint: str | None, api_key: str | None, patience: float) -> int:
    """Send what dead processes left, saying how far it is.

    Args:
        directory: where it is; that of `ROOTSPAN_SPOOL`, or the default one.
        endpoint: used in place of `ROOTSPAN_ENDPOINT`.
        api_key: used in place of `ROOTSPAN_API_KEY`.
        patience: seconds without any progress after which it gives up.

    Returns:
        The exit status: 0 when nothing is left, 1 when something is, 2 when the configuration is wrong or the directory
        does not exist.
    """
    screen, where = Screen(sys.stdout), _directory(directory)
    given = variables(endpoint, api_key)
    try:
        settings = resolve({**os.environ, **given}, spool=where)
        if settings.hold:  # nothing would go out, however long it waits
            raise ConfigurationError(settings.hold)
    except ConfigurationError as error:
        screen.say(by_option(error, given))
        return 2
    if (found := _look(where, screen)) is None:
        return 2
    dead = [left for left in found if not left.alive]
    ours = [left for left in dead if left.about.get("fingerprint") == settings.fingerprint]
    if strangers := sum(left.events for left in dead) - sum(left.events for left in ours):
        screen.say(f"  left alone, because recorded for another endpoint or key: {counted(strangers, 'event')}")
        screen.say("  Fix: set ROOTSPAN_ENDPOINT and ROOTSPAN_API_KEY to those with which they were recorded.")
    total = sum(left.events + left.damaged for left in ours)
    if not total:
        screen.say("  nothing to replay")
        return 1 if strangers else 0
    screen.say(f"  sending {counted(total, 'event')} of {len(ours)} ended process{'es' * (len(ours) > 1)}")
    with _spoken(screen):
        tracker = Tracker.default().reconfigure(settings)
        try:
            return _watch(tracker, total, patience, screen)
        finally:
            tracker.shutdown(1.0)


def purge(directory: str | None, sure: bool) -> int:
    """Delete what dead processes left, without sending it.

    Args:
        directory: where it is; that of `ROOTSPAN_SPOOL`, or the default one.
        sure: do not ask.

    Returns:
        The exit status: 0 when it is gone or there was nothing, 1 when the answer was no, 2 when nobody can be asked
        or the directory does not exist.
    """
    screen, where = Screen(sys.stdout), _directory(directory)
    if (found := _look(where, screen)) is None:
        return 2
    dead, letters = [left for left in found if not left.alive], _dead_letters(where)
    if not dead and not letters:
        screen.say("  nothing to delete")
        return 0
    events = counted(sum(left.events for left in dead) + sum(map(_lines, letters)), "event")
    if not sure and not (sys.stdin and sys.stdin.isatty()):  # there is none under some schedulers
        screen.say(f"  {events} would be lost. Fix: say `rootspan spool purge --yes`.")
        return 2
    if not sure and not _agreed(f"Delete {events} that nobody received, for good? [y/N] "):
        screen.say("  nothing was deleted")
        return 1
    for left in dead:
        if (journal := Journal.adopt(where, left.name)) is not None:
            journal.delete()
    for path in letters:
        path.unlink()
    screen.say(f"  deleted {events}")
    return 0


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        return False


def _watch(tracker: Tracker, total: int, patience: float, screen: Screen) -> int:
    """Wait for the worker to send everything; say how far it is now and then."""
    settled, said = 0, time.monotonic()
    progress = said
    while True:
        found = tracker.stats()["recovered"]
        lost = sum(found["dropped"].values())
        done, now = found["delivered"] + lost, time.monotonic()
        moved = done > settled
        if moved:
            settled, progress = done, now
        if done >= total or now - progress > patience:
            break
        if moved and now - said > _SAY_EVERY:
            said = now
            screen.say(f"  {found['delivered']:,} of {total:,} delivered")
        time.sleep(0.05)
    reasons = "".join(f", {n:,} {reason}" for reason, n in sorted(found["dropped"].items()))
    left = max(0, total - done)
    screen.say(f"{screen.mark(not left and not lost)} {found['delivered']:,} of {total:,} delivered{reasons}")
    if left:
        screen.say(
            f"  {counted(left, 'event')} stay{'s' * (left == 1)} in the spool; try again when the endpoint takes them."
        )
    return 1 if left else 0


@contextmanager
def _spoken(screen: Screen) -> Generator[None]:
    """Print what the tracker logs meanwhile."""
    logger, handler = logging.getLogger("rootspan"), _Speaking(screen)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = before


class _Speaking(logging.Handler):
    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.say(f"  {clean(record.getMessage())}")


def _directory(given: str | None) -> str:
    if given:
        return os.path.expanduser(given)
    named = os.environ.get("ROOTSPAN_SPOOL", "").strip()
    chosen = OPTIONS["spool"].read(named) if named else True
    return chosen if isinstance(chosen, str) else default_directory()


def _fingerprint() -> str | None:
    try:
        return resolve({**os.environ, "ROOTSPAN_SPOOL": ""}).fingerprint
    except ConfigurationError:
        return None


def _look(directory: str, screen: Screen) -> list[_Left] | None:
    """Say which directory it is, and return what is in it; None where it cannot be read."""
    screen.say(f"spool  {clean(directory)}")
    try:
        os.stat(directory)
    except FileNotFoundError:
        fix = "--directory DIR, or ROOTSPAN_SPOOL, if the app names another one"
        screen.say(f"  There is no such directory, so nothing was recorded there.\n  Fix: {fix}")
        return None
    except OSError:
        pass  # what is said below
    found: list[_Left] = []
    try:
        for name in sorted(names(directory)):
            with suppress(FileNotFoundError):  # sent and deleted by a running process meanwhile
                found.append(_left(directory, name))
        return found
    except OSError as error:
        fix = "name a directory" if isinstance(error, NotADirectoryError) else "run this as the user that recorded"
        screen.say(f"  It cannot be read: {error.strerror}.\n  Fix: {fix}.")
        return None


def _left(directory: str, name: str) -> _Left:
    files = [path.stat() for path in Path(directory).glob(f"{name}*")]
    size, since = sum(file.st_size for file in files), min((file.st_mtime for file in files), default=time.time())
    if (journal := Journal.adopt(directory, name)) is None:
        return _Left(name, True, size, since)
    try:
        damaged = sum(journal.survey())
        if not (journal.segments or journal.about):  # its owner deleted it meanwhile, and to lock it was to make it
            journal.delete()
    finally:
        journal.release()
    return _Left(name, False, size, since, journal.found, damaged, read_about(journal.about))


def _dead_letters(directory: str) -> list[Path]:
    return sorted(Path(directory).glob("*.dead.jsonl"))


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def _service(left: _Left) -> str:
    return clean(str(dict(left.about.get("resource") or {}).get("service.name", "an unknown service")))


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GB"
