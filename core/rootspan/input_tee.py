"""A request's body as the app reads it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from rootspan.request import RequestRoot

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
        found = getattr(self._stream, name)
        return self._readinto if name == "readinto" else found  # it has what the server's has

    def _noted(self, data: Any) -> Any:
        self._root.read(data)
        return data

    def _readinto(self, buffer: Any) -> Any:
        size = self._stream.readinto(buffer)
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

    def __iter__(self) -> Iterator[Any]:
        return map(self._noted, self._stream)
