"""What one process wrote to a spool: its segments in order, how far they are delivered, and whose they are."""

from __future__ import annotations

import os
import re
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from struct import Struct
from typing import Final
from zlib import crc32

from rootspan.spool.segment import READING, Descriptor, Frame, Pen, Segment, SegmentKind, frame

if sys.platform != "win32":  # pragma: no branch  (where there is no flock, there is no spool)
    import fcntl

__all__ = ["Chunk", "Journal", "names"]

_POSITION: Final = Struct("<QQI4x")  # segment, offset and their checksum, at the head of the owner file
_NAME: Final = re.compile(r"([0-9a-f]{16}-[0-9a-f]{16})(?:\.owner|-([0-9]{6,})\.segment)")


def names(directory: str, fingerprint: str = "") -> set[str]:
    """Return the names of the journals in a directory.

    Args:
        directory: where to look.
        fingerprint: only those that begin with it.
    """
    found: set[str] = set()
    with os.scandir(directory) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match and match[1].startswith(fingerprint[:16]):
                found.add(match[1])
    return found


def _lock(path: str, create: int) -> Descriptor | None:
    """Return the owner file, locked; None if another process has it or deleted it meanwhile."""
    held = Descriptor(os.open(path, READING | os.O_CREAT | create, 0o600))
    try:
        fcntl.flock(held.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(held.fd), os.stat(path)):
            return held
    except (BlockingIOError, FileNotFoundError):
        pass
    held.close()
    return None


class Chunk:
    """Some spans of one journal, in order.

    Args:
        journal: where they stand.
        segment: in which of its files.
        frames: the spans.
    """

    def __init__(self, journal: Journal, segment: Segment, frames: Sequence[Frame]) -> None:
        self.journal = journal
        self.spans = [part.payload for part in frames]
        self._segment = segment
        self._frames = deque(frames)

    @property
    def stays(self) -> bool:
        """Whether it is still on the disk."""
        return not self._segment.dropped

    def settle(self, count: int) -> None:
        """Note that the next `count` spans need not be sent again."""
        before = self._segment.settled_to
        for _ in range(count):
            part = self._frames.popleft()
            if part.kind == SegmentKind.UNFINISHED:
                self.journal.forget(part.span_id)
            else:
                self._segment.settled_to = part.end
        if self._segment.settled_to != before:
            self.journal.note(self._segment)


class Journal:
    """The segments of one process, oldest first; made by `create` or `adopt`.

    Whoever holds the kernel's lock on its owner file may write, send and delete them. A process that dies loses the
    lock, whatever killed it.
    """

    def __init__(self, directory: str, name: str, lock: Descriptor, own: bool) -> None:
        self.name = name
        self.own = own
        self.about = b""
        self.segments: deque[Segment] = deque()
        self._path = os.path.join(directory, name)  # what the names of its files begin with
        self._lock = lock
        self._number = 0

    @classmethod
    def create(cls, directory: str, fingerprint: str, about: bytes) -> Journal:
        """Begin a journal of this process.

        Raises:
            OSError: the directory cannot be written to.
        """
        os.makedirs(directory, mode=0o700, exist_ok=True)
        for _ in range(100):
            name = f"{fingerprint[:16]}-{os.urandom(8).hex()}"
            # Another process may see the file before it is locked, and take it for a dead one's: then the next name.
            if (lock := _lock(os.path.join(directory, f"{name}.owner"), os.O_EXCL)) is not None:
                journal = cls(directory, name, lock, own=True)
                journal.about = about
                os.pwrite(lock.fd, bytes(_POSITION.size) + journal._header(), 0)
                return journal
        raise OSError("its files cannot be locked")

    @classmethod
    def adopt(cls, directory: str, name: str) -> Journal | None:
        """Take over a journal whose owner is dead; None while it lives."""
        path = os.path.join(directory, f"{name}.owner")
        if (lock := _lock(path, 0)) is None:
            return None
        if os.fstat(lock.fd).st_uid != os.geteuid():
            raise PermissionError("it belongs to another user")
        journal = cls(directory, name, lock, own=False)
        number, offset = journal._position()
        for number_here, path in _segments(directory, name):
            start = 0 if number_here > number else offset
            if number_here < number:  # delivered, and perhaps kept by an older version for what is unfinished
                start = os.stat(path).st_size
            journal._number = number_here
            journal.segments.append(Segment(path, number_here, start=start))
        return journal

    @property
    def found(self) -> int:
        """How many spans were left in it, as soon as it was surveyed."""
        return sum(segment.found for segment in self.segments)

    def survey(self) -> Iterator[int]:
        """Read everything once, a segment a step; yield how many damaged records are left in it.

        Afterwards `about` and `found` are known.
        """
        begun: dict[bytes, tuple[Segment, Frame]] = {}
        ended: set[bytes] = set()  # before, in the order of the files, their beginning was seen
        recent: set[bytes] = set()  # just now: their beginning may have been copied into this segment or the next one
        for part in Segment(f"{self._path}.owner", 0).frames(_POSITION.size):
            if part.kind == SegmentKind.FORGET:
                ended.add(part.span_id)
            else:  # the header, or nothing where it is damaged
                self.about = self.about or part.payload
        for segment in self.segments:
            damaged, before, recent = 0, recent, set[bytes]()
            for part in segment.frames():
                if part.end > segment.settled_to:
                    segment.found += part.is_span
                    damaged += part.kind == SegmentKind.DAMAGED
                if part.kind == SegmentKind.HEADER:
                    self.about = self.about or part.payload
                elif part.kind == SegmentKind.BEGIN:
                    if not any(part.span_id in some for some in (ended, before, recent)):
                        begun[part.span_id] = segment, part
                elif part.kind in (SegmentKind.FINISH, SegmentKind.FORGET):
                    (ended if begun.pop(part.span_id, None) is None else recent).add(part.span_id)
            segment.rest()
            yield damaged
        for segment, part in begun.values():
            segment.leave_unfinished(part)

    def open_segment(self) -> Pen:
        """Begin the next segment; what is written from now on goes there."""
        self._number += 1
        path = f"{self._path}-{self._number:06d}.segment"
        pen = Pen(Descriptor(os.open(path, READING | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)))
        try:
            pen.write(self._header())
        except OSError:
            with suppress(OSError):
                os.unlink(path)
            raise
        self.segments.append(Segment(path, self._number, pen))
        return pen

    def take(self, most: int, size: int) -> tuple[Chunk | None, int]:
        """Return the next spans, and how many before them had become unreadable since they were written or surveyed."""
        damaged = 0
        while self.segments:
            segment = self.segments[0]
            complete = segment.complete
            if frames := segment.take(most, size):
                return Chunk(self, segment, frames), damaged
            if not complete:
                return None, damaged
            damaged += segment.missing()
            self.segments.popleft().remove()
        return None, damaged

    def is_complete(self) -> bool:
        """Return whether nobody is writing to it just now."""
        return all(segment.complete for segment in list(self.segments))  # a worker that hung may take one away

    def note(self, segment: Segment) -> None:
        """Keep how far a segment is delivered, for the case that this process dies."""
        where = segment.number, segment.settled_to
        with suppress(OSError):  # then an adopter sends some of it again
            os.pwrite(self._lock.fd, _POSITION.pack(*where, _checksum(*where)), 0)

    def forget(self, span_id: bytes) -> None:
        """Note that an interaction ended elsewhere; in the owner file, whose block has room also on a full disk."""
        with suppress(OSError):  # then an adopter sends it again, as unfinished
            os.pwrite(self._lock.fd, frame(SegmentKind.FORGET, span_id, b""), os.fstat(self._lock.fd).st_size)

    def delete(self) -> None:
        """Delete what is left, and let go of it."""
        for segment in list(self.segments):
            segment.remove()
        with suppress(OSError):  # deleted by somebody, or in a directory that became read-only
            os.unlink(f"{self._path}.owner")
        self.release()

    def release(self) -> None:
        """Let another process adopt what is left."""
        self._lock.close()

    def _header(self) -> bytes:
        return frame(SegmentKind.HEADER, bytes(8), self.about)

    def _position(self) -> tuple[int, int]:
        head = os.pread(self._lock.fd, _POSITION.size, 0)
        if len(head) < _POSITION.size:
            return 0, 0
        number, offset, checksum = _POSITION.unpack(head)
        return (number, offset) if checksum == _checksum(number, offset) else (0, 0)


def _checksum(number: int, offset: int) -> int:
    return crc32(f"{number} {offset}".encode())


def _segments(directory: str, name: str) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match and match[1] == name and match[2]:
                found.append((int(match[2]), entry.path))
    return sorted(found)
