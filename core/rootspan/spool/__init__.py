"""A directory in which records survive their process: what this one writes, and what it took over from dead ones.

What one process writes is a journal: a file that it locks while it lives, and segments, with one record behind another.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, NamedTuple, cast

from rootspan.ledger import Account, Ledger
from rootspan.log import Seldom, log
from rootspan.spool.journal import Chunk, Journal, names
from rootspan.spool.segment import LARGEST, Pen, SegmentKind, frame

__all__ = ["Found", "Spool", "default_directory", "read_about"]

_SEGMENT: Final = 8 << 20  # bytes after which the next segment begins
_DEAD_LETTERS: Final = 16 << 20  # bytes of events that a collector refused, kept for people
_RETRY: Final = 10.0  # seconds that records go to memory after the disk failed
_OPENING: Final = 1.0  # seconds that a first record may wait for another thread to open the first segment
_AT_ONCE: Final = 16  # dead processes' journals that are open at a time
_PAUSE: Final = 0.001  # seconds between two segments of a survey


def default_directory() -> str:
    """Return where a spool is when nobody named a directory: below `XDG_STATE_HOME` or the home directory."""
    home = os.path.join(os.sep, os.path.expanduser("~"))  # where there is none: no directory of the working one
    state = os.environ.get("XDG_STATE_HOME") or os.path.join(home, ".local", "state")
    return os.path.join(state, "rootspan", "spool")


class Found(NamedTuple):
    """What an adoption found."""

    spans: int = 0
    damaged: int = 0


class Spool:
    """One tracker's part of a spool directory.

    `append` may be called from any thread and holds no lock of ours: it is one `os.write` to a descriptor opened with
    `O_APPEND`. A thread that fills a segment begins the next one. Everything else is the worker's. Nothing is done
    before `start_afresh`.

    Args:
        directory: where the files are; made with mode 0700 if it is not there.
        fingerprint: 64 hex characters that stand for key and endpoint; only records with the same one are sent.
        about: how the records are encoded, as JSON: the resource, the protocol, never a key.
        most: bytes that the directory may hold; beyond them the oldest segments are given up.
        fsync: wait for the disk itself after each record, so that a power failure loses nothing either.
    """

    def __init__(self, directory: str, fingerprint: str, about: bytes, *, most: int, fsync: bool) -> None:
        self.directory = directory
        self.fingerprint = fingerprint
        self.about = about
        self._most = most
        self._segment_bytes = max(min(_SEGMENT, most // 16), most // 64)  # so that 64 files at most are open
        self._fsync = fsync
        self._seldom = Seldom()
        self._adopted: list[Journal] = []
        self._own: Journal | None = None
        self._own_first = False

    def start_afresh(self, ledger: Ledger) -> None:
        """Begin with nothing; in a forked child everything so far is the parent's.

        Args:
            ledger: where what is written, found and lost here is counted.
        """
        for journal in self._journals():
            journal.release()  # our copy of the lock, which would outlive the parent
        self._adopted, self._own = [], None
        self._ledger = ledger
        self._pen: Pen | None = None
        self._opening = threading.Lock()
        self._begun: dict[bytes, bytes] = {}
        self._ended: set[bytes] = set()  # of those, in memory
        self._strangers: set[str] = set()
        self._closed = False
        self._retry_at = float("-inf")

    # Any thread

    @property
    def ready(self) -> bool:
        """Whether records are to be tried here; otherwise memory takes them."""
        return time.monotonic() >= self._retry_at

    def append(self, span_id: bytes, span: bytes) -> bool:
        """Write an encoded span, and count it; return False where memory has to take it."""
        begun = span_id in self._begun
        record = frame(SegmentKind.FINISH if begun else SegmentKind.EVENT, span_id, span)
        written = False
        try:
            pen = self._write(record, counts=True)
            written = pen is not None
            if begun and pen is not None:
                self._end(span_id, pen)
        except (KeyboardInterrupt, SystemExit):  # of a signal's handler, which runs when the write is over
            written = True
            raise
        finally:
            if written:  # while this thread holds the pen: before that is gone, `close` deletes no file
                self._ledger.made.add()
                self._ledger.written.add()
        return written

    def end_elsewhere(self, span_id: bytes) -> None:
        """Note that memory took the end of an interaction, if it began here."""
        if self._begun.pop(span_id, None) is not None:
            self._ended.add(span_id)

    def begin(self, span_id: bytes, span: bytes) -> None:
        """Write what is to be sent of an interaction if this process dies before it finishes."""
        record = frame(SegmentKind.BEGIN, span_id, span)
        self._begun[span_id] = record  # before it is written: a rotation meanwhile copies it
        if self._write(record) is None:
            self._begun.pop(span_id, None)

    def _end(self, span_id: bytes, pen: Pen) -> None:
        self._begun.pop(span_id, None)
        if self._pen is not pen:  # a rotation may have copied the beginning behind the end
            self._write(frame(SegmentKind.FORGET, span_id, b""))

    def _write(self, record: bytes, counts: bool = False) -> Pen | None:
        """Return the pen that wrote the record; while it is held, its segment is not deleted."""
        if len(record) > LARGEST:
            return None
        pen = None
        try:
            pen = self._pen or self._open()
            if pen is None:
                return None
            pen.write(record, counts)
        except OSError as error:
            if pen is not None:
                self._rotate(pen)  # what follows a torn record would wait for the rest of it
            self._fail(error)
            return None
        except (KeyboardInterrupt, SystemExit):
            if counts and pen is not None:
                pen.count()
            raise
        if self._fsync:
            self._sync(pen)
        if pen.size > pen.full_at:
            self._rotate(pen)
        return pen

    def _open(self) -> Pen | None:
        if sys.platform == "win32":
            raise OSError("this system has no flock")
        if not self._opening.acquire(timeout=_OPENING):
            return None
        try:
            if self._pen is None:
                if self._own is None:
                    self._own = Journal.create(self.directory, self.fingerprint, self.about)
                pen = self._own.open_segment()
                pen.full_at = self._full_at(pen.size)
                self._pen = pen
                if self._fsync:
                    self._sync_directory()
            return self._pen
        finally:
            self._opening.release()

    def _rotate(self, full: Pen) -> None:
        """Begin the next segment, unless another thread is doing so.

        The caller still holds the full segment's pen, so that segment stays until the beginnings are copied.
        """
        if not self._opening.acquire(blocking=False):
            return
        try:
            own = self._own
            if self._pen is not full or own is None:
                return
            pen = own.open_segment()
            copied = pen.size  # not what other threads write meanwhile
            self._pen = pen
            for span_id, record in list(self._begun.items()):
                pen.write(record)
                copied += len(record)
                if span_id not in self._begun:
                    pen.write(frame(SegmentKind.FORGET, span_id, b""))
            pen.full_at = self._full_at(copied)  # until then 0: what could not be copied is copied with the next record
            if self._fsync:
                self._sync_directory()
            self._make_room()
        except OSError:
            full.full_at = full.full_at and full.size + self._segment_bytes  # it goes on for another length
        finally:
            self._opening.release()

    def _full_at(self, size: int) -> int:
        """Return when a segment that begins with so many bytes is full: at least half of it is more than copies."""
        return size + max(self._segment_bytes, size)

    def _make_room(self) -> None:
        """Give up the oldest segments beyond the bound: first those of dead processes, then our own."""
        with os.scandir(self.directory) as entries:
            total = sum(map(_bytes, entries))
        for journal in list(self._journals()):
            for segment in list(journal.segments):
                if total <= self._most or (journal.own and segment is journal.segments[-1]):
                    break
                total -= segment.size
                self._ledger.lose(self.account(journal), segment.drop(), "spool_full")

    def _sync(self, pen: Pen) -> None:
        try:
            os.fsync(pen.descriptor.fd)
        except OSError as error:  # the record is written all the same
            self._fail(error)

    def _sync_directory(self) -> None:
        fd = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _fail(self, error: OSError) -> None:
        self._retry_at = time.monotonic() + _RETRY
        self._seldom.say(
            "disk",
            logging.WARNING,
            "rootspan cannot write to its spool %s (%s): records are kept in memory until it can.\n"
            "Fix: free space, or set spool= or ROOTSPAN_SPOOL to a directory that this process may write to.",
            self.directory,
            error.strerror or str(error),
        )

    # The worker

    @property
    def adopted(self) -> bool:
        """Whether something of dead processes is left to take."""
        return bool(self._adopted)

    def take(self, most: int, size: int) -> Chunk | None:
        """Return the next spans, in turn our own and those of dead processes: neither waits for all the others."""
        self._own_first = not self._own_first
        for journal in sorted(self._journals(), key=lambda journal: journal.own is not self._own_first):
            chunk, damaged = journal.take(most, size)
            self._ledger.lose(self.account(journal), damaged, "damaged")
            if chunk is not None:
                return chunk
            if journal in self._adopted:  # `close` may have let go of it meanwhile
                self._adopted.remove(journal)
                journal.delete()
        return None

    def account(self, journal: Journal) -> Account:
        """Return what counts what became of a journal's spans."""
        return self._ledger.spool if journal.own else self._ledger.recovered

    def settle_elsewhere(self, span_ids: Iterable[bytes]) -> None:
        """Note that memory is done with these spans: nobody is to send those that began here as unfinished."""
        own, ended = self._own, self._ended.intersection(span_ids)
        while ended and own is not None:  # `close` may take it away
            self._ended.discard(span_id := ended.pop())
            own.forget(span_id)

    def orphans(self) -> list[str]:
        """Return the journals that may have lost their owner."""
        if sys.platform == "win32":
            return []
        try:
            found = names(self.directory, self.fingerprint)
        except OSError:
            return []
        known = {journal.name for journal in self._journals()}
        return sorted(found - known - self._strangers)

    def _journals(self) -> list[Journal]:
        return self._adopted if self._own is None else [*self._adopted, self._own]

    def adopt(self, over: Callable[[], bool] = lambda: False) -> Found:
        """Take over what dead processes left behind, until that takes too long."""
        spans = damaged = 0
        for name in self.orphans():
            if self._closed or len(self._adopted) >= _AT_ONCE or over():
                break
            try:
                journal = Journal.adopt(self.directory, name)
                found = None if journal is None else self._survey(journal, over)
            except OSError as error:
                log(logging.WARNING, "rootspan cannot read the spool file %s (%s)", name, error.strerror or error)
                self._strangers.add(name)
                continue
            if journal is not None and found is not None:
                spans, damaged = spans + found.spans, damaged + found.damaged
                self._ledger.found += found.spans + found.damaged
                self._ledger.lose(self._ledger.recovered, found.damaged, "damaged")
                if found.spans:
                    self._adopted.append(journal)  # counted before: from now on it may be given up for the bound
                else:  # its room was needed, or it ended just before it deleted this
                    journal.delete()
        if self._closed:  # by another thread meanwhile: what is kept here now nobody else would find
            self._let_go()
        # Processes that die before their first segment is full leave it to who takes it over to see to the bound.
        if self._adopted and self._opening.acquire(blocking=False):
            try:
                with suppress(OSError):  # somebody deleted the directory
                    self._make_room()
            finally:
                self._opening.release()
        return Found(spans, damaged)

    def _survey(self, journal: Journal, over: Callable[[], bool]) -> Found | None:
        """Read what a dead process left; None if it is for another key or endpoint, or takes too long."""
        damaged = 0
        for broken in journal.survey():
            if over():
                journal.release()
                return None
            damaged += broken
            time.sleep(_PAUSE)
        about = read_about(journal.about)
        if not about:  # every copy of the header is damaged: nobody knows how to send the rest
            return Found(0, damaged + sum(segment.drop() for segment in journal.segments))
        if about.get("fingerprint") != self.fingerprint:
            journal.release()
            self._strangers.add(journal.name)
            return None
        return Found(journal.found, damaged)

    def bury(self, span: bytes, detail: str) -> None:
        """Keep an event that a collector will never take, for people to look at."""
        path = os.path.join(self.directory, f"{self.fingerprint[:16]}.dead.jsonl")
        line = {"time": time.time(), "reason": detail, "span": b64encode(span).decode()}
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                if os.fstat(fd).st_size < _DEAD_LETTERS:
                    os.write(fd, json.dumps(line).encode() + b"\n")
            finally:
                os.close(fd)
        except OSError as error:
            self._fail(error)

    def close(self, last: bool) -> None:
        """Let go of everything, and delete our own files where all is delivered.

        Args:
            last: the process ends: what is recorded even now stays on the disk, where the next process finds it.
        """
        self._closed = True
        self._let_go()
        # Nobody begins a segment between the look and the end of the files; who is just doing so keeps them.
        alone = self._opening.acquire(timeout=_OPENING)
        try:
            self._pen, own = None, self._own
            if own is None:
                return
            # In this order: who holds a pen may not have counted yet.
            if alone and own.is_complete() and not self._ledger.spooled:
                self._own = None
                own.delete()
            elif not last:
                self._own = None
                own.release()
        finally:
            if alone:
                self._opening.release()

    def _let_go(self) -> None:
        """Leave what was taken over to another process."""
        adopted, self._adopted = self._adopted, []
        for journal in adopted:
            journal.release()


def _bytes(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:  # another process has just delivered it
        return 0


def read_about(about: bytes) -> dict[str, Any]:
    """Return what a header says; nothing where it is damaged."""
    try:
        found = json.loads(about)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
