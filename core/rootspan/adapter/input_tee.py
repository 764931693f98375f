"""A request's body as the app reads it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

from rootspan.adapter.request import RequestRoot

__all__ = ["InputTee"]


class InputTee:
    """A server's input with a note of what the app itself reads; it never reads by itself.

    Args:
        stream: the server's, a file open for reading.
        root: the request.
    """

    def __init__(self, stream: Any, root: RequestRoot) -> None:
        self._stream = stream
        self._root = root

    def __deepcopy__(self, memo: Any) -> Any:
        return copy.deepcopy(self._stream, memo)  # which belongs to another request

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._stream, name)  # it has what the server's has
        if name == "read1":  # what `io.TextIOWrapper` reads with
            return partial(self._read1, found)
        return partial(self._readinto, found) if name in ("readinto", "readinto1") else found

    def _noted(self, data: Any) -> Any:
        self._root.read(data)
        return data

    def _read1(self, read1: Any, *size: Any) -> Any:
        return self._noted(read1(*size))

    def _readinto(self, readinto: Any, buffer: Any) -> Any:
        size = readinto(buffer)
        self._root.read(memoryview(buffer)[: size or 0])
        return size

    def read(self, *size: Any) -> Any:
        """Read on, and note what was read."""
        return self._noted(self._stream.read(*size))

    def readline(self, *size: Any) -> Any:
        """Read one line, likewise."""
        return self._noted(self._stream.readline(*size))

    def readlines(self, *hint: Any) -> Any:
        """Read several lines, likewise."""
        return [self._noted(line) for line in self._stream.readlines(*hint)]

    # What Python looks up in the class, past `__getattr__`:

    def __iter__(self) -> Iterator[Any]:
        return map(self._noted, self._stream)

    def __next__(self) -> Any:
        return self._noted(next(self._stream))

    def __enter__(self) -> InputTee:
        self._stream.__enter__()
        return self

    def __exit__(self, *exc: Any) -> Any:
        return self._stream.__exit__(*exc)
