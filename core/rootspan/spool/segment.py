"""One file of a spool: checksummed records behind each other, which are read past whatever damage there is."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

from rootspan.ledger import Tally

__all__ = ["LARGEST", "READING", "Descriptor", "Frame", "Pen", "Segment", "SegmentKind", "frame"]

# 0xff is in no UTF-8 text, so what a host records cannot look like the beginning of a record.
_MAGIC: Final = b"\xffrs\xfe"
_HEAD: Final = Struct("<4sII")  # magic, bytes of the payload, checksum of all behind it
_BODY: Final = 9  # kind and span id
_LEAST: Final = _HEAD.size + _BODY
_WINDOW: Final = 1 << 20  # bytes read at a time
LARGEST: Final = 16 << 20  # bytes of one payload; what is larger stays in memory
_MEASURED: Final = 64  # spans after which the size is looked up
_INCOMPLETE: Final = -1
READING: Final = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
"""How the files of a spool are opened."""


class SegmentKind:
    """What a record in a segment is."""

    HEADER: Final = b"H"  # whose the segment is
    EVENT: Final = b"E"  # an encoded span
    BEGIN: Final = b"B"  # an encoded span to send if its interaction never finishes
    FINISH: Final = b"F"  # an encoded span whose beginning was written as well
    FORGET: Final = b"X"  # the interaction of that id has ended, whatever the beginnings say
    DAMAGED: Final = b"!"  # never written: stands for what could not be read
    UNFINISHED: Final = b"U"  # never written: stands for a beginning that has to be sent


class Frame(NamedTuple):
    """One record as it was read."""

    kind: bytes
    span_id: bytes
    payload: bytes
    end: int  # offset behind it

    @property
    def is_span(self) -> bool:
        """Whether it is to be sent."""
        return self.kind in (SegmentKind.EVENT, SegmentKind.FINISH, SegmentKind.UNFINISHED)


def frame(kind: bytes, span_id: bytes, payload: bytes) -> bytes:
    """Return a record as it stands in a file.

    Args:
        kind: one of `SegmentKind`.
        span_id: eight bytes.
        payload: what is kept.
    """
    body = b"".join((kind, span_id, payload))
    return _HEAD.pack(_MAGIC, len(payload), crc32(body)) + body


def _whole(data: bytes, at: int) -> int:
    """Return where the record at `at` ends, 0 if there is none, -1 if it goes on behind the data."""
    if len(data) - at < _LEAST:
        return _INCOMPLETE
    magic, size, checksum = _HEAD.unpack_from(data, at)
    if magic != _MAGIC or size > LARGEST:
        return 0
    end: int = at + _LEAST + size
    if end > len(data):
        return _INCOMPLETE
    return end if crc32(memoryview(data)[at + _HEAD.size : end]) == checksum else 0


def _behind_damage(data: bytes, at: int, complete: bool) -> int:
    """Return where the next whole record starts behind a damaged one, -1 if that is not known yet."""
    if data[at : at + 4] == _MAGIC and len(data) - at >= _LEAST:
        # Where only the payload is damaged, the next record starts where this one said that it would end.
        hop = at + _LEAST + _HEAD.unpack_from(data, at)[1]
        if data[hop : hop + 4] == _MAGIC or hop == len(data):
            return int(hop)
    found = data.find(_MAGIC, at + 1)
    while found >= 0:
        if _whole(data, found) > 0:
            return found
        found = data.find(_MAGIC, found + 1)
    return len(data) if complete else _INCOMPLETE


def _parse(data: bytes, start: int, complete: bool) -> Iterator[Frame]:
    """Yield what is in `data`, whose first byte is at the offset `start`; `complete`: nothing will follow it."""
    at = 0
    while at < len(data):
        end = _whole(data, at)
        if end > 0:
            body = at + _HEAD.size
            yield Frame(data[body : body + 1], data[body + 1 : body + _BODY], data[body + _BODY : end], start + end)
        else:  # torn where a whole one follows: one write is over before the next begins
            if (end := _behind_damage(data, at, complete)) == _INCOMPLETE:
                return
            yield Frame(SegmentKind.DAMAGED, b"", b"", start + end)
        at = end


class Descriptor:
    """An open file that is closed when nobody holds it any more."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Close it now; in a forked child this leaves the parent's alone."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class Pen:
    """The writing end of a segment: while a thread holds it, a record may still be on its way to the file."""

    __slots__ = ("__weakref__", "count", "descriptor", "full_at", "made", "size")

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self.made = Tally()  # of spans
        self.count = self.made.add
        self.size = 0  # bytes, about: threads may lose a step of it
        self.full_at = 0  # bytes from which on the next segment is to begin

    def write(self, record: bytes, is_span: bool = False) -> None:
        """Append a record with one system call.

        Raises:
            OSError: the file did not take all of it.
        """
        done = os.write(self.descriptor.fd, record)
        if done != len(record):
            raise OSError(28, "No space left on device")  # ENOSPC: the only reason to take a part of it
        self.size += done
        if is_span and not self.count() % _MEASURED:
            self.size = os.fstat(self.descriptor.fd).st_size


class Segment:
    """The reading end of a segment.

    Args:
        path: its name.
        number: its place among its writer's segments.
        pen: the writing end, where this process writes it; what another one wrote is opened when it is read.
        start: bytes that are not to be sent again.
    """

    def __init__(self, path: str, number: int, pen: Pen | None = None, start: int = 0) -> None:
        self.path = path
        self.number = number
        self.settled_to = start
        self.found = 0  # spans in it that are to be sent, where another process wrote it
        self._descriptor = None if pen is None else pen.descriptor
        self._read_to = start
        self._ready: deque[Frame] = deque()
        self._pen = None if pen is None else weakref.ref(pen)
        self._made = None if pen is None else pen.made
        self._taken = 0
        self.dropped = False  # given up for the bound
        self._lock = threading.Lock()  # never held across a system call

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        try:
            return os.stat(self.path if self._descriptor is None else self._descriptor.fd).st_size
        except FileNotFoundError:  # given up, or deleted by somebody
            return 0

    @property
    def complete(self) -> bool:
        """Whether nobody can write to it any more."""
        return self._pen is None or self._pen() is None

    def frames(self, at: int = 0) -> Iterator[Frame]:
        """Yield every record from an offset on; leaves `take` alone."""
        while found := self._window(at, complete=True):
            at = found[-1].end
            yield from found

    def leave_unfinished(self, begun: Frame) -> None:
        """Have a beginning in it sent before all else, for its interaction never finished."""
        self._ready.append(begun._replace(kind=SegmentKind.UNFINISHED))
        self.found += 1

    def rest(self) -> None:
        """Close the file of another process until it is read again: there may be many."""
        self._descriptor = None

    def take(self, most: int, size: int) -> list[Frame]:
        """Return the next spans.

        Args:
            most: how many.
            size: bytes after which no further one is taken.
        """
        taken: list[Frame] = []
        while len(taken) < most and size > 0 and (self._ready or self._refill()):
            part = self._ready.popleft()
            if part.is_span:
                taken.append(part)
                size -= len(part.payload)
        with self._lock:
            if self.dropped:
                return []
            self._taken += len(taken)
        return taken

    def missing(self) -> int:
        """Return how many spans were written and never read, once `take` has nothing more."""
        return self._written() - self._taken

    def drop(self) -> int:
        """Give up what was not taken yet, and its place on the disk; return how many spans that were."""
        with self._lock:
            if self.dropped:
                return 0
            self.dropped = True
            lost = self._written() - self._taken
            self._taken += lost
        if (descriptor := self._descriptor) is not None:
            os.ftruncate(descriptor.fd, 0)  # the file itself stays until its last reader closes it
        self.remove()
        return lost

    def remove(self) -> None:
        """Delete the file; who has it open can still read it."""
        with suppress(OSError):  # deleted by somebody, or in a directory that became read-only
            os.unlink(self.path)

    def _written(self) -> int:
        return self.found if self._made is None else self._made.total

    def _refill(self) -> bool:
        complete = self.complete  # asked before reading: what was written until then is seen
        found = self._window(self._read_to, complete)
        self._ready.extend(found)
        if found:
            self._read_to = found[-1].end
        return bool(found)

    def _window(self, at: int, complete: bool) -> list[Frame]:
        """Return the records from `at` on, about a megabyte of them."""
        data = b""
        if (descriptor := self._descriptor) is None:
            try:
                descriptor = self._descriptor = Descriptor(os.open(self.path, READING))
            except FileNotFoundError:
                return []
        for size in (_WINDOW, 3 * LARGEST):  # the second time for a very large record, or a very large damage
            data = os.pread(descriptor.fd, size, at)
            ends = len(data) < size
            found = list(_parse(data, at, complete and ends))
            if found or ends:
                return found
        return [Frame(SegmentKind.DAMAGED, b"", b"", at + len(data))]
