"""A request's body is noted as it is read, and read by nobody else."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest

from rootspan.adapter import InputTee


class Root:
    """What the tee tells."""

    def __init__(self) -> None:
        self.noted: list[bytes] = []

    def read(self, body: Any) -> None:
        self.noted.append(bytes(body))


@pytest.mark.parametrize(
    "ways", ["read", "read1", "readline", "readlines", "iterate", "next", "with", "readinto", "readinto1", "as text"]
)
def test_every_way_to_read_is_noted(ways: str) -> None:
    root, stream = Root(), io.BufferedReader(io.BytesIO(b"one\ntwo\n"))  # type: ignore[arg-type]  # Root stands in
    tee = InputTee(stream, root)  # type: ignore[arg-type]
    buffer = bytearray(5)
    read = {
        "read": lambda: tee.read(5),
        "read1": lambda: tee.read1(5),
        "next": lambda: next(tee),
        "with": lambda: read_in_a_block(tee),
        "readinto1": lambda: bytes(buffer[: tee.readinto1(buffer)]),
        "as text": lambda: io.TextIOWrapper(tee).read().encode(),  # type: ignore[type-var]  # by shape
        "readline": lambda: tee.readline(),
        "readlines": lambda: b"".join(tee.readlines()),
        "iterate": lambda: b"".join(tee),
        "readinto": lambda: bytes(buffer[: tee.readinto(buffer)]),
    }[ways]()
    assert read
    assert b"".join(root.noted) == read == b"one\ntwo\n"[: len(read)]
    assert stream.closed if ways in ("with", "as text") else stream.tell() == len(read)


def read_in_a_block(tee: InputTee) -> Any:
    with tee as entered:
        return entered.read(5)


def test_what_the_servers_own_has_not_is_refused_as_without_us() -> None:
    class Server:
        def read(self) -> bytes:
            return b"one"

    tee = InputTee(Server(), Root())  # type: ignore[arg-type]  # Root stands in
    with pytest.raises(TypeError, match="'Server' object is not an iterator"):
        next(tee)
    with pytest.raises(AttributeError, match="__enter__"), tee:
        pass
    with pytest.raises(AttributeError, match="__exit__"):
        tee.__exit__(None, None, None)
    assert not hasattr(tee, "read1")
    assert tee.read() == b"one"


def test_the_rest_is_the_servers_own() -> None:
    tee = InputTee(io.BytesIO(b"one"), Root())  # type: ignore[arg-type]
    assert tee.seekable()
    with pytest.raises(AttributeError):
        tee.no_such_thing  # noqa: B018
    assert copy.deepcopy(tee).read() == b"one"
    assert tee.tell() == 0
    tee.close()
    assert tee.closed
