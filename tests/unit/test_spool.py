"""The files of a spool: what is read back whatever happened to them, who may read it, and what is given up."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rootspan import spool as spool_module
from rootspan.ledger import Account, Ledger
from rootspan.spool import Found, Spool, default_directory
from rootspan.spool import segment as segment_module
from rootspan.spool.journal import Chunk, Journal, names
from rootspan.spool.segment import LARGEST, Pen, Segment, SegmentKind, frame

FINGERPRINT = "0123456789abcdef" * 4
ABOUT = json.dumps({"fingerprint": FINGERPRINT}).encode()


class Accounts(Ledger):
    """What is written, found and lost; notes whose each loss was, our own or a dead process's."""

    def __init__(self) -> None:
        super().__init__((), None, False)
        self.lost: list[tuple[bool, int]] = []

    def lose(self, account: Account, number: int, reason: str) -> None:
        super().lose(account, number, reason)
        if number:
            self.lost.append((account is self.spool, number))


class Counted(Spool):
    """A spool whose accounts are at hand."""

    accounts: Accounts

    def start_afresh(self, ledger: Ledger) -> None:
        assert isinstance(ledger, Accounts)
        self.accounts = ledger
        super().start_afresh(ledger)


def make(
    path: Path,
    most: int = 64 << 20,
    about: bytes = ABOUT,
    fingerprint: str = FINGERPRINT,
    fsync: bool = False,
) -> Counted:
    spool = Counted(str(path), fingerprint, about, most=most, fsync=fsync)
    spool.start_afresh(Accounts())
    return spool


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Counted]:
    made = make(tmp_path / "spool")
    yield made
    made.close(last=False)


def ids(number: int) -> bytes:
    return number.to_bytes(8, "big")


def write(spool: Spool, numbers: range, size: int = 40) -> list[bytes]:
    spans = [b"span %d " % number + b"x" * size for number in numbers]
    for number, span in zip(numbers, spans, strict=True):
        assert spool.append(ids(number), span)
    return spans


def settle(spool: Spool, chunk: Chunk) -> None:
    """Have what was taken delivered."""
    chunk.settle(len(chunk.spans))
    spool._ledger.settle(spool.account(chunk.journal), len(chunk.spans), {})


def read(spool: Spool, settled: bool = True, most: int = 512) -> list[bytes]:
    found: list[bytes] = []
    while True:
        chunk = spool.take(most, 1 << 20)
        if chunk is None:
            return found
        found += chunk.spans
        if settled:
            settle(spool, chunk)


def take(spool: Spool) -> list[bytes]:
    """Take what is in one place, and have it delivered."""
    chunk = spool.take(512, 1 << 20)
    assert chunk is not None
    settle(spool, chunk)
    return chunk.spans


def die(spool: Spool) -> None:
    """Lose the lock, as a process does that is killed."""
    assert spool._own is not None
    spool._own.release()
    spool._pen = None


def room_taken(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir())


def segments(path: Path) -> list[Path]:
    return sorted(path.glob("*.segment"))


def test_what_is_written_is_read_in_order(spool: Counted, tmp_path: Path) -> None:
    spans = write(spool, range(1000))
    assert read(spool) == spans
    assert read(spool) == []
    spans = write(spool, range(1000, 1010))
    assert read(spool) == spans
    spool.close(last=False)
    assert not list((tmp_path / "spool").iterdir())


def test_a_chunk_is_bounded_in_number_and_bytes(spool: Counted) -> None:
    write(spool, range(10), size=1000)
    chunk = spool.take(3, 1 << 20)
    assert chunk is not None
    assert len(chunk.spans) == 3
    chunk = spool.take(100, 2500)
    assert chunk is not None
    assert len(chunk.spans) == 3


def test_threads_write_side_by_side(spool: Counted) -> None:
    """Also while segments rotate: nothing is torn, lost or read twice."""
    spool._segment_bytes = 1 << 16
    found: list[bytes] = []
    threads = [threading.Thread(target=write, args=(spool, range(n * 2000, n * 2000 + 2000), 100)) for n in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found += read(spool)
    found += read(spool)
    assert len(found) == len(set(found)) == 12_000
    assert len(segments(Path(spool.directory))) == 1
    assert spool._own is not None
    assert spool._own._number > 1  # how often depends on how the machine shares its time among the threads


def test_delivery_07_a_dead_owners_segments_are_adopted_by_the_lock_alone(tmp_path: Path) -> None:
    dead, alive = make(tmp_path), make(tmp_path)
    spans = write(dead, range(700))
    other = make(tmp_path)
    assert other.adopt() == Found()  # it lives
    write(alive, range(5))
    die(dead)
    assert other.adopt() == Found(700)
    assert read(other) == spans
    assert other.adopt() == Found()
    assert names(str(tmp_path), FINGERPRINT) == {alive._own.name if alive._own else ""}


def test_delivery_07_what_was_delivered_is_not_sent_again(tmp_path: Path) -> None:
    dead = make(tmp_path)
    dead._segment_bytes = 4_000
    spans = write(dead, range(300))
    chunk = dead.take(10, 1 << 20)
    assert chunk is not None
    chunk.settle(4)
    chunk.settle(3)
    die(dead)
    other = make(tmp_path)
    assert other.adopt() == Found(293)
    assert read(other) == spans[7:]
    assert not list(tmp_path.iterdir())


def test_a_segment_that_was_delivered_and_not_deleted_is_not_sent_again(tmp_path: Path) -> None:
    dead = make(tmp_path)
    dead._segment_bytes = 4_000
    spans = write(dead, range(300))
    first = segments(tmp_path)[0]
    content, settled = first.read_bytes(), 0
    while first.exists():
        chunk = dead.take(10, 1 << 20)
        assert chunk is not None
        chunk.settle(len(chunk.spans))
        settled += len(chunk.spans)
    first.write_bytes(content)  # as if it was killed just before
    die(dead)
    other = make(tmp_path)
    assert other.adopt() == Found(300 - settled)
    assert read(other) == spans[settled:]
    assert not list(tmp_path.iterdir())


def test_a_finish_in_front_of_its_beginning_leaves_nothing_unfinished(tmp_path: Path) -> None:
    dead = make(tmp_path)
    write(dead, range(1))
    assert dead._pen is not None
    dead._pen.write(frame(SegmentKind.FORGET, ids(7), b""))  # as a rotation in another thread may have it
    dead._pen.write(frame(SegmentKind.BEGIN, ids(7), b"begun"))
    die(dead)
    other = make(tmp_path)
    assert other.adopt() == Found(1)
    assert len(read(other)) == 1


def test_a_beginning_that_was_copied_behind_its_end_leaves_nothing_unfinished(tmp_path: Path) -> None:
    """The process was killed before it could say that it ended."""
    dead = make(tmp_path)
    dead.begin(ids(1), b"begun")
    write(dead, range(2, 3))
    own, first = dead._own, dead._pen
    assert own is not None
    assert first is not None
    second = own.open_segment()
    first.write(frame(SegmentKind.FINISH, ids(1), b"ended"), True)
    second.write(frame(SegmentKind.BEGIN, ids(1), b"begun"))
    die(dead)
    del first, second
    spool = make(tmp_path)
    spool.adopt()
    assert [span[:5] for span in read(spool)] == [b"span ", b"ended"]


def test_a_position_that_cannot_be_read_costs_a_second_sending(tmp_path: Path) -> None:
    dead = make(tmp_path)
    spans = write(dead, range(20))
    assert read(dead) == spans
    die(dead)
    (owner,) = tmp_path.glob("*.owner")
    owner.write_bytes(b"\x07" + owner.read_bytes()[1:])
    other = make(tmp_path)
    assert other.adopt() == Found(20)
    assert read(other) == spans


def test_segments_whose_owner_file_was_deleted_are_adopted(tmp_path: Path) -> None:
    dead = make(tmp_path)
    spans = write(dead, range(20))
    die(dead)
    next(tmp_path.glob("*.owner")).unlink()
    other = make(tmp_path)
    assert other.adopt() == Found(20)
    assert read(other) == spans


def test_a_directory_that_is_deleted_under_a_writer_costs_nothing_while_it_lives(spool: Counted) -> None:
    spans = write(spool, range(10))
    for path in Path(spool.directory).iterdir():
        path.unlink()
    Path(spool.directory).rmdir()
    spans += write(spool, range(10, 20))
    assert read(spool) == spans
    spool.close(last=False)


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


BODY = len(frame(SegmentKind.EVENT, ids(0), b""))
DAMAGES: dict[str, tuple[Callable[[bytes, int, int], bytes], set[int], int]] = {
    # what happens to the file, given where records 5 and 6 start; which records that costs; how many are counted
    "nothing": (lambda data, five, six: data, set(), 0),
    "a flipped byte in the payload": (lambda data, five, six: flip(data, five + BODY + 3), {5}, 1),
    "a flipped byte in the magic": (lambda data, five, six: flip(data, five + 1), {5}, 1),
    "a flipped byte in the checksum": (lambda data, five, six: flip(data, five + 9), {5}, 1),
    "a length that is too short": (lambda data, five, six: flip(data, five + 4), {5}, 1),
    "a length beyond the file": (lambda data, five, six: flip(data, five + 6), {5}, 1),
    "a length beyond every bound": (lambda data, five, six: flip(data, five + 7), {5}, 1),
    "two neighbours": (lambda data, five, six: flip(flip(data, five + BODY), six + BODY), {5, 6}, 2),
    "a torn tail": (lambda data, five, six: data[:-7], {9}, 1),
    "a torn header at the tail": (lambda data, five, six: data[:six] + data[six : six + 5], {6, 7, 8, 9}, 1),
    "foreign content in the middle": (
        lambda data, five, six: data[:six] + b"\xffrs hello \n" * 999 + data[six:],
        set(),
        1,
    ),
    "a piece that is missing": (lambda data, five, six: data[: five + 10] + data[six:], {5}, 1),
    "zeros at the tail, as after a power failure": (lambda data, five, six: data + bytes(5000), set(), 1),
    "foreign content only": (lambda data, five, six: b"PK\x03\x04" * 500, set(range(10)), 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_delivery_07_damage_costs_only_the_damaged_records(damage: str, tmp_path: Path) -> None:
    dead = make(tmp_path)
    spans = write(dead, range(10))
    die(dead)
    (path,) = segments(tmp_path)
    data = path.read_bytes()
    starts = [data.index(span) - BODY for span in spans]
    change, cost, counted = DAMAGES[damage]
    path.write_bytes(change(data, starts[5], starts[6]))
    other = make(tmp_path)
    assert other.adopt() == Found(10 - len(cost), counted)
    assert read(other) == [span for number, span in enumerate(spans) if number not in cost]
    assert not list(tmp_path.iterdir())


def test_delivery_07_any_flipped_byte_costs_one_record_at_most(tmp_path: Path) -> None:
    chance = random.Random(7)
    dead = make(tmp_path)
    spans = write(dead, range(40))
    die(dead)
    (path,) = segments(tmp_path)
    data = path.read_bytes()
    for _ in range(300):
        path.write_bytes(flip(data, chance.randrange(len(data))))
        segment = Segment(str(path), 1)
        found = [part.payload for part in segment.frames() if part.is_span]
        assert len(set(spans) - set(found)) <= 1
        assert not set(found) - set(spans)


def test_own_records_that_became_unreadable_are_counted(spool: Counted) -> None:
    spool._segment_bytes = 2_000
    write(spool, range(10))
    (path,) = segments(Path(spool.directory))
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(len(data) - 10)
        file.write(b"?")
    write(spool, range(10, 60))
    assert len(read(spool)) == 59
    assert spool.accounts.lost == [(True, 1)]


def test_a_segment_that_is_deleted_between_survey_and_reading_is_counted(tmp_path: Path) -> None:
    dead = make(tmp_path)
    write(dead, range(10))
    die(dead)
    other = make(tmp_path)
    assert other.adopt() == Found(10)
    segments(tmp_path)[0].unlink()
    assert read(other) == []
    assert other.accounts.lost == [(False, 10)]


def test_a_record_that_is_still_being_written_is_waited_for(spool: Counted) -> None:
    write(spool, range(3))
    record = frame(SegmentKind.EVENT, ids(9), b"late" * 500)
    pen = spool._pen
    assert pen is not None
    assert len(read(spool)) == 3
    os.write(pen.descriptor.fd, record[:700])
    assert read(spool) == []
    os.write(pen.descriptor.fd, record[700:])
    assert read(spool) == [b"late" * 500]


def test_a_segment_with_a_thread_still_writing_is_not_deleted(spool: Counted) -> None:
    write(spool, range(3))
    pen = spool._pen
    assert pen is not None
    spool._rotate(pen)
    assert len(read(spool)) == 3
    assert len(segments(Path(spool.directory))) == 2
    pen.write(frame(SegmentKind.EVENT, ids(9), b"late"), is_span=True)
    del pen
    assert read(spool) == [b"late"]
    assert len(segments(Path(spool.directory))) == 1


def test_large_records_and_too_large_ones(spool: Counted) -> None:
    assert spool.append(ids(1), b"x" * (3 << 20))
    assert not spool.append(ids(2), b"x" * LARGEST)
    assert spool.append(ids(3), b"small")
    assert [len(span) for span in read(spool)] == [3 << 20, 5]


def test_delivery_07_an_open_interaction_is_unfinished_only_without_its_finish(tmp_path: Path) -> None:
    dead = make(tmp_path)
    dead.begin(ids(1), b"begun 1")
    dead.begin(ids(2), b"begun 2")
    write(dead, range(10, 20))
    assert dead.append(ids(1), b"finished 1")
    die(dead)
    other = make(tmp_path)
    assert other.adopt() == Found(12)
    found = read(other)
    assert (found[0], found[-1]) == (b"begun 2", b"finished 1")
    assert b"begun 1" not in found


@pytest.mark.parametrize("delivered", [False, True])
def test_delivery_07_what_is_unfinished_is_delivered_before_its_file_may_be_deleted(
    delivered: bool, tmp_path: Path
) -> None:
    dead = make(tmp_path)
    dead._segment_bytes = 4_000
    write(dead, range(10, 200))
    dead.begin(ids(1), b"begun 1")
    dead.begin(ids(2), b"begun 2")
    assert dead.append(ids(1), b"finished 1")
    dead._begun.clear()  # it is killed before it has copied the beginning
    write(dead, range(200, 400))
    die(dead)
    other = make(tmp_path)
    assert other.adopt() == Found(392)
    number = 0
    while (chunk := other.take(20, 1 << 20)) is not None and b"begun 2" not in chunk.spans:
        settle(other, chunk)
        number += len(chunk.spans)
    assert chunk is not None
    assert chunk.spans[0] == b"begun 2"
    if delivered:
        chunk.settle(1)  # and no more: it ends as well
    other.close(last=False)
    last = make(tmp_path)
    assert last.adopt() == Found(392 - number - delivered)
    assert (b"begun 2" in read(last)) == (not delivered)
    assert not list(tmp_path.iterdir())


def test_what_an_older_version_kept_a_delivered_file_for_is_delivered(tmp_path: Path) -> None:
    dead = make(tmp_path)
    dead._segment_bytes = 4_000
    dead.begin(ids(1), b"begun 1")
    dead._begun.clear()  # it is killed before it has copied the beginning
    spans = write(dead, range(10, 200))
    first = segments(tmp_path)[0]
    content, sent = first.read_bytes(), 0
    while first.exists():
        sent += len(take(dead))
    first.write_bytes(content)  # which it could not copy from there
    die(dead)
    other = make(tmp_path)
    assert other.adopt() == Found(1 + len(spans) - sent)
    assert read(other) == [b"begun 1", *spans[sent:]]
    assert not list(tmp_path.iterdir())


def test_delivery_08_what_is_unfinished_is_given_up_with_its_file(tmp_path: Path) -> None:
    dead = make(tmp_path)
    dead._segment_bytes = 4_000
    dead.begin(ids(1), b"begun 1")
    dead._begun.clear()  # it is killed before it has copied the beginning
    write(dead, range(10, 400))
    die(dead)
    other = make(tmp_path, most=20_000)
    assert other.adopt() == Found(391)
    write(other, range(1_000, 3_000))
    assert sum(number for own, number in other.accounts.lost if not own) == 391
    assert b"begun 1" not in read(other)


def test_many_open_interactions_do_not_make_every_record_begin_a_segment(tmp_path: Path) -> None:
    spool = make(tmp_path)
    lost = spool.accounts.lost
    spool._segment_bytes = 2_000
    for number in range(100):
        spool.begin(ids(number), b"x" * 1_000)
    before = len(segments(tmp_path))
    spans = write(spool, range(1_000, 2_000))
    assert len(segments(tmp_path)) - before <= 2
    assert read(spool) == spans
    assert not lost


def test_a_beginning_that_could_not_be_copied_is_copied_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = make(tmp_path)
    dead._segment_bytes = 2_000
    dead.begin(ids(1), b"begun 1")
    pen, real = dead._pen, os.write
    assert pen is not None
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: 20 if b"begun" in data else None]))
    dead._rotate(pen)
    assert dead._pen is not pen
    del pen
    monkeypatch.setattr(Journal, "open_segment", broken(errno.EMFILE))  # nor can it be copied with the next record
    write(dead, range(10, 12))
    monkeypatch.undo()
    write(dead, range(12, 14))
    assert len(read(dead)) == 4
    assert len(segments(tmp_path)) == 1
    die(dead)
    other = make(tmp_path)
    other.adopt()
    assert read(other) == [b"begun 1"]


@pytest.mark.parametrize("finished", [False, True])
def test_delivery_07_the_beginning_is_copied_forward_on_rotation(finished: bool, tmp_path: Path) -> None:
    dead = make(tmp_path)
    dead._segment_bytes = 2_000
    dead.begin(ids(1), b"begun 1")
    write(dead, range(10, 200))
    if finished:
        dead.append(ids(1), b"finished 1")
    assert len(read(dead)) == 190 + finished
    assert len(segments(tmp_path)) == 1  # the segment in which it began is gone
    die(dead)
    other = make(tmp_path)
    assert other.adopt() == Found(0 if finished else 1)
    assert read(other) == ([] if finished else [b"begun 1"])


def test_delivery_07_a_finish_that_meets_a_rotation_is_not_followed_by_unfinished(tmp_path: Path) -> None:
    """Whatever the order: the segment with the finish is delivered and gone, the copy of the beginning is not."""
    for moment in range(3):
        path = tmp_path / str(moment)
        dead = make(path)
        dead.begin(ids(1), b"begun 1")
        pen = dead._pen
        assert pen is not None
        if moment == 0:  # finished before the copy, forgotten during it
            pen.write(frame(SegmentKind.FINISH, ids(1), b"finished"), is_span=True)

            class Begun(dict[bytes, bytes]):
                def items(self) -> Any:
                    found = list(super().items())
                    self.clear()
                    return found

            dead._begun = Begun(dead._begun)
            dead._rotate(pen)
        elif moment == 1:  # written before the rotation, ended after it
            pen.write(frame(SegmentKind.FINISH, ids(1), b"finished"), is_span=True)
            dead._rotate(pen)
            dead._end(ids(1), pen)
        else:
            dead._rotate(pen)
            dead.append(ids(1), b"finished")
        del pen
        assert read(dead) == [b"finished"]
        die(dead)
        other = make(path)
        assert other.adopt() == Found()
        assert read(other) == []


def test_interactions_and_rotations_in_threads_leave_nothing_unfinished(tmp_path: Path) -> None:
    dead = make(tmp_path)
    dead._segment_bytes = 3_000

    def work(first: int) -> None:
        for number in range(first, first + 400):
            dead.begin(ids(number), b"begun")
            dead.append(ids(number), b"finished")

    threads = [threading.Thread(target=work, args=(n * 1000,)) for n in range(4)]
    for thread in threads:
        thread.start()
    found = 0
    while any(thread.is_alive() for thread in threads):
        found += len(read(dead))
    found += len(read(dead))
    assert found == 1600
    die(dead)
    other = make(tmp_path)
    assert other.adopt() == Found()
    assert read(other) == []


def test_delivery_08_beyond_the_bound_the_oldest_are_given_up_and_counted(tmp_path: Path) -> None:
    spool = make(tmp_path, most=1 << 20)
    lost = spool.accounts.lost
    spans = write(spool, range(4_000), size=1_000)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= (1 << 20) + spool._segment_bytes
    given_up = sum(number for _, number in lost)
    assert given_up > 2_000
    assert read(spool) == spans[given_up:]
    assert all(own for own, _ in lost)
    spool.close(last=False)
    assert not list(tmp_path.iterdir())


def test_delivery_08_what_is_on_its_way_is_not_counted_as_given_up(tmp_path: Path) -> None:
    spool = make(tmp_path, most=1 << 20)
    lost = spool.accounts.lost
    write(spool, range(100), size=1_000)
    chunk = spool.take(30, 1 << 20)
    assert chunk is not None
    write(spool, range(100, 3_000), size=1_000)
    chunk.settle(30)
    assert 30 + len(read(spool)) + sum(number for _, number in lost) == 3_000


def test_delivery_08_dead_processes_records_go_first(tmp_path: Path) -> None:
    dead = make(tmp_path, most=1 << 20)
    write(dead, range(800), size=1_000)
    die(dead)
    spool = make(tmp_path, most=1 << 20)
    lost = spool.accounts.lost
    assert spool.adopt() == Found(800)
    spans = write(spool, range(5_000, 5_800), size=1_000)
    assert {own for own, _ in lost} == {False}
    assert room_taken(tmp_path) <= (1 << 20) + spool._segment_bytes
    found = read(spool)
    assert [span for span in found if span in set(spans)] == spans
    assert len(found) + sum(number for _, number in lost) == 1_600


def test_delivery_08_all_of_the_dead_goes_before_any_of_the_living(tmp_path: Path) -> None:
    dead = make(tmp_path)
    write(dead, range(10), size=1_000)
    die(dead)
    spool = make(tmp_path, most=20_000)
    lost = spool.accounts.lost
    assert spool.adopt() == Found(10)
    spool._segment_bytes = 8_000
    spans = write(spool, range(100, 200), size=1_000)
    assert lost[0] == (False, 10)
    assert room_taken(tmp_path) <= 20_000 + 2 * 8_000
    segments(tmp_path)[0].unlink()  # somebody makes room by hand
    spans += write(spool, range(200, 300), size=1_000)
    assert room_taken(tmp_path) <= 20_000 + 2 * 8_000
    found = read(spool)
    assert found == spans[-len(found) :]
    assert len(found) + sum(number for own, number in lost if own) == 200


def test_delivery_08_directory_and_files_are_private(spool: Counted) -> None:
    old = os.umask(0)
    try:
        write(spool, range(3))
        spool.bury(b"poison", "HTTP 400")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(spool.directory).st_mode) == 0o700
    files = list(Path(spool.directory).iterdir())
    assert len(files) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_delivery_09_only_the_same_key_and_endpoint_adopts(tmp_path: Path) -> None:
    dead = make(tmp_path)
    write(dead, range(3))
    die(dead)
    other = make(tmp_path, fingerprint="f" * 64)
    assert other.adopt() == Found()
    # the first characters are the same, the rest is not
    twin = make(tmp_path, fingerprint=FINGERPRINT[:16] + "f" * 48)
    assert twin.adopt() == Found()
    assert twin.orphans() == []
    assert make(tmp_path).adopt() == Found(3)


def test_a_spool_that_is_closed_takes_nothing_over_nor_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker may be at that just then; what it kept was found by nobody until the process ended."""
    for number in range(2):
        dead = make(tmp_path)
        write(dead, range(number, number + 1))
        die(dead)
    closing, closed = make(tmp_path), make(tmp_path)
    closed.close(last=False)
    assert closed.adopt() == Found()
    survey = closing._survey

    def surveyed(journal: Journal, over: Callable[[], bool]) -> Found | None:
        found = survey(journal, over)
        closing.close(last=False)  # as another thread does
        return found

    monkeypatch.setattr(closing, "_survey", surveyed)
    closing.adopt()
    assert make(tmp_path).adopt() == Found(2)


def test_records_whose_headers_are_all_damaged_are_counted(tmp_path: Path) -> None:
    dead = make(tmp_path, about=b"no json")
    write(dead, range(3))
    dead.begin(ids(3), b"never finished")
    die(dead)
    other = make(tmp_path)
    assert other.adopt() == Found(0, 4)
    assert read(other) == []
    assert not list(tmp_path.iterdir())
    assert spool_module.read_about(b"[1]") == {}


def test_a_journal_of_another_user_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    dead = make(tmp_path)
    write(dead, range(3))
    die(dead)
    other = make(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: -1)
    assert other.adopt() == Found()
    assert other.adopt() == Found()
    assert caplog.text.count("another user") == 1


def test_a_lock_that_is_taken_in_the_first_moment_costs_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rootspan.spool import journal

    real, refusals = journal.fcntl.flock, [BlockingIOError(), BlockingIOError()]

    def flock(fd: int, how: int) -> None:
        if refusals:
            raise refusals.pop()
        real(fd, how)

    monkeypatch.setattr(journal.fcntl, "flock", flock)
    spool = make(tmp_path)
    assert write(spool, range(3)) == read(spool)
    refusals += [BlockingIOError()] * 1000
    assert not make(tmp_path).append(ids(1), b"span")
    refusals.clear()


def test_an_owner_file_that_is_made_anew_in_the_midst_is_not_the_locked_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rootspan.spool import journal

    dead = make(tmp_path)
    spans = write(dead, range(3))
    die(dead)
    (owner,) = tmp_path.glob("*.owner")
    real, first = journal.fcntl.flock, [True]

    def flock(fd: int, how: int) -> None:
        real(fd, how)
        if first:  # another process was faster
            first.clear()
            owner.write_bytes((content := owner.read_bytes()) and content)
            owner.with_suffix(".new").write_bytes(content)
            owner.with_suffix(".new").replace(owner)

    monkeypatch.setattr(journal.fcntl, "flock", flock)
    other = make(tmp_path)
    assert other.adopt() == Found()
    assert other.adopt() == Found(3)
    assert read(other) == spans


def test_a_segment_that_could_not_be_made_is_made_with_a_later_record(
    spool: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "open_segment", broken(errno.ENOSPC))
        assert not spool.append(ids(1), b"to memory")
    spool._retry_at = 0.0
    assert write(spool, range(3)) == read(spool)


def test_a_very_large_damage_is_passed_in_steps(spool: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    write(spool, range(2))
    pen = spool._pen
    assert pen is not None
    monkeypatch.setattr(segment_module, "_WINDOW", 64)
    monkeypatch.setattr(segment_module, "LARGEST", 400)
    hollow = segment_module._MAGIC + b"no record behind it"
    os.write(pen.descriptor.fd, b"\x00" * 900 + hollow + b"\x00" * 900)
    write(spool, range(2, 4))
    assert [span[:6] for span in read(spool)] == [b"span 0", b"span 1", b"span 2", b"span 3"]


def broken(number: int) -> Callable[..., Any]:
    def write(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return write


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.EDQUOT])
def test_delivery_08_a_disk_that_fails_is_said_once(
    number: int, spool: Counted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spans = write(spool, range(3))
    with monkeypatch.context() as patch:
        patch.setattr(Pen, "write", broken(number))
        assert not spool.append(ids(4), b"to memory")
        assert not spool.ready
        spool._retry_at = 0.0
        assert not spool.append(ids(5), b"to memory")
        spool.begin(ids(6), b"not begun here")
        assert not spool._begun
    assert caplog.text.count("cannot write to its spool") == 1
    assert os.strerror(number) in caplog.text
    assert "Fix:" in caplog.text
    spool._retry_at = 0.0
    assert spool.ready
    spans += write(spool, range(6, 9))
    assert read(spool) == spans


def test_delivery_08_a_record_of_which_a_part_was_written_costs_nothing_else(
    spool: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = write(spool, range(3))
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
    assert not spool.append(ids(4), b"to memory")
    monkeypatch.undo()
    spool._retry_at = 0.0
    spans += write(spool, range(5, 9))
    assert read(spool) == spans


def test_delivery_08_nor_where_no_next_segment_can_be_made(spool: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = write(spool, range(3))
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
        patch.setattr(Journal, "open_segment", broken(errno.ENOSPC))
        assert not spool.append(ids(4), b"to memory" * 1_000)
        assert read(spool) == spans
    spool._retry_at = 0.0
    assert read(spool) == []
    assert write(spool, range(5, 9)) == read(spool)
    assert len(segments(Path(spool.directory))) == 1


@pytest.mark.parametrize("full", [False, True], ids=["noted", "no room for the note"])
def test_delivery_08_what_ended_in_memory_is_not_unfinished(
    full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = make(tmp_path)
    dead.begin(ids(1), b"begun 1")
    dead.begin(ids(2), b"begun 2")
    with monkeypatch.context() as patch:
        patch.setattr(Pen, "write", broken(errno.ENOSPC))
        assert not dead.append(ids(1), b"to memory")
        dead.end_elsewhere(ids(1))
        dead.end_elsewhere(ids(3))  # which was never begun
        if full:
            patch.setattr(os, "pwrite", broken(errno.ENOSPC))
        dead.settle_elsewhere([ids(1), ids(3)])
    die(dead)
    other = make(tmp_path)
    assert other.adopt() == Found(1 + full)
    assert read(other) == [b"begun 1"] * full + [b"begun 2"]


def test_delivery_08_no_directory_can_be_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    spool = make(tmp_path / "file" / "spool")
    assert not spool.append(ids(1), b"span")
    assert "Not a directory" in caplog.text
    spool.bury(b"poison", "HTTP 400")
    assert spool.adopt() == Found()
    spool.close(last=True)


def test_a_rotation_that_fails_leaves_the_segment_in_use(spool: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    spool._segment_bytes = 1_000
    spans = write(spool, range(5))
    monkeypatch.setattr(Journal, "open_segment", broken(errno.EMFILE))
    spans += write(spool, range(5, 100))
    monkeypatch.undo()
    assert read(spool) == spans


def leave(path: Path, number: int) -> None:
    """Have so many processes die that had room enough, and never looked at the whole."""
    for _ in range(number):
        dead = make(path, most=1 << 20)
        write(dead, range(1), 60_000)
        die(dead)


def test_what_processes_left_that_died_before_a_segment_was_full_is_bounded_too(tmp_path: Path) -> None:
    leave(tmp_path, 20)
    assert room_taken(tmp_path) > 20 * 60_000
    spool = make(tmp_path, most=1 << 20)
    assert spool.adopt().spans == 16
    assert room_taken(tmp_path) <= 1 << 20
    assert spool.accounts.lost == [(False, 1)] * 3
    assert len(read(spool)) == 16 - 3
    assert spool.accounts.recovery() == {"found": 16, "delivered": 13, "spooled": 0, "dropped": {"spool_full": 3}}


def test_what_was_given_up_is_not_taken_over_again(tmp_path: Path) -> None:
    """Those that hold nothing any more kept the others from their turn."""
    for _ in range(50):
        leave(tmp_path, 1)
        make(tmp_path, most=1 << 20).adopt()
    assert room_taken(tmp_path) <= 1 << 20


def test_delivery_07_dead_processes_are_found_among_many_that_live(tmp_path: Path) -> None:
    living = [make(tmp_path) for _ in range(40)]
    for number, spool in enumerate(living):
        write(spool, range(number, number + 1))
    leave(tmp_path, 5)
    assert make(tmp_path).adopt().spans == 5
    for spool in living:
        spool.close(last=False)


def test_the_bound_is_left_to_a_thread_that_is_just_seeing_to_it(tmp_path: Path) -> None:
    leave(tmp_path, 20)
    spool = make(tmp_path, most=1 << 20)
    with spool._opening:
        spool.adopt()
    assert room_taken(tmp_path) > 20 * 60_000
    spool.adopt()
    assert room_taken(tmp_path) <= 1 << 20


def test_neither_our_own_nor_dead_processes_records_wait_for_all_the_others(tmp_path: Path) -> None:
    dead = make(tmp_path)
    write(dead, range(100))
    die(dead)
    spool = make(tmp_path)
    assert spool.adopt() == Found(100)
    write(spool, range(1000, 1100))
    own = []
    while (chunk := spool.take(10, 1 << 20)) is not None:
        own.append(chunk.journal.own)
        chunk.settle(len(chunk.spans))
    assert own == [True, False] * 10


def test_a_disk_that_cannot_be_waited_for_has_the_record_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = make(tmp_path, fsync=True)
    spans = write(spool, range(3))
    monkeypatch.setattr(os, "fsync", broken(errno.EIO))
    assert spool.append(ids(4), b"written")
    assert "cannot write to its spool" in caplog.text
    assert read(spool) == [*spans, b"written"]


def test_where_there_is_no_lock_there_is_no_spool(
    spool: Counted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(spool_module.sys, "platform", "win32")
    assert not spool.append(ids(1), b"span")
    assert "flock" in caplog.text
    assert spool.orphans() == []


def test_a_record_in_the_midst_of_the_opening_goes_to_memory(spool: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's handler that records while this thread opens the first segment must not wait for itself."""
    monkeypatch.setattr(spool_module, "_OPENING", 0.01)
    with spool._opening:
        assert not spool.append(ids(1), b"span")
    assert spool.append(ids(2), b"span")


def test_the_end_in_the_midst_of_the_opening_deletes_nothing(
    spool: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(spool, range(1))
    take(spool)
    monkeypatch.setattr(spool_module, "_OPENING", 0.01)
    with spool._opening:  # by this very thread, where a signal's handler ends the process
        spool.close(last=True)
    assert len(segments(tmp_path / "spool")) == 1


def test_the_disk_is_waited_for_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write(make(tmp_path), range(3))
    assert not synced
    spool = make(tmp_path, fsync=True)
    spool._segment_bytes = 200
    write(spool, range(3))
    assert len(synced) > 4  # each record, and the directory for each new segment


def test_waiting_for_the_disk_leaves_nothing_open(tmp_path: Path) -> None:
    before = len(os.listdir("/dev/fd"))
    spool = make(tmp_path, fsync=True)
    spool._segment_bytes = 200
    write(spool, range(80))
    assert len(segments(tmp_path)) > 20
    read(spool)
    spool.close(last=False)
    assert len(os.listdir("/dev/fd")) < before + 10  # other tests' trackers may open something meanwhile


def test_dead_letters_are_kept_for_people_and_bounded(spool: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    write(spool, range(1))
    spool.bury(b"\x12\x01poison", "HTTP 400 Bad Request")
    (path,) = Path(spool.directory).glob("*.dead.jsonl")
    line = json.loads(path.read_text())
    assert (line["reason"], line["span"]) == ("HTTP 400 Bad Request", "EgFwb2lzb24=")
    monkeypatch.setattr(spool_module, "_DEAD_LETTERS", 10)
    spool.bury(b"more", "HTTP 400")
    assert len(path.read_text().splitlines()) == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_delivery_07_a_forked_child_does_not_keep_its_dead_parents_lock(tmp_path: Path) -> None:
    spool = make(tmp_path)
    spans = write(spool, range(5))
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        spool.start_afresh(Accounts())
        spool.append(ids(9), b"the child's")
        os.write(tell, b"!")
        signal.pause()
    try:
        assert os.read(told, 1) == b"!"
        os.close(told)
        os.close(tell)
        die(spool)
        other = make(tmp_path)
        assert other.adopt() == Found(5)
        assert read(other) == spans
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert other.adopt() == Found(1)
    assert read(other) == [b"the child's"]


def test_the_default_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_directory() == "/state/rootspan/spool"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", "/home/ann")
    assert default_directory() == "/home/ann/.local/state/rootspan/spool"


def test_delivery_08_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system knows none, `~` stays as it is: that is no place in the working directory."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert default_directory() == "/~/.local/state/rootspan/spool"
