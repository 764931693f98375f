"""The request's body as the app reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rootspan.adapter import RequestRoot

__all__ = ["InputTee"]


class InputTee:
    """`wsgi.input` with a note of what the app itself reads; it never reads by itself.

    Args:
        stream: the server's.
        root: the request.
    """

    def __init__(self, stream: Any, root: RequestRoot) -> None:
        self._stream = stream
        self._root = root

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
        return self._noted(self._stream.read(*size))

    def readline(self, *size: Any) -> Any:
        return self._noted(self._stream.readline(*size))

    def readlines(self, *hint: Any) -> Any:
        return [self._noted(line) for line in self._stream.readlines(*hint)]

    def __iter__(self) -> Iterator[Any]:
        return map(self._noted, self._stream)
