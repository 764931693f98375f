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


@pytest.mark.parametrize("ways", ["read", "readline", "readlines", "iterate", "readinto"])
def test_every_way_to_read_is_noted(ways: str) -> None:
    root, stream = Root(), io.BytesIO(b"one\ntwo\n")
    tee = InputTee(stream, root)  # type: ignore[arg-type]
    buffer = bytearray(5)
    read = {
        "read": lambda: tee.read(5),
        "readline": lambda: tee.readline(),
        "readlines": lambda: b"".join(tee.readlines()),
        "iterate": lambda: b"".join(tee),
        "readinto": lambda: bytes(buffer[: tee.readinto(buffer)]),
    }[ways]()
    assert read
    assert b"".join(root.noted) == read == stream.getvalue()[: len(read)]
    assert stream.tell() == len(read)


def test_the_rest_is_the_servers_own() -> None:
    tee = InputTee(io.BytesIO(b"one"), Root())  # type: ignore[arg-type]
    assert tee.seekable()
    with pytest.raises(AttributeError):
        tee.no_such_thing  # noqa: B018
    assert copy.deepcopy(tee).read() == b"one"
    assert tee.tell() == 0
    tee.close()
    assert tee.closed
