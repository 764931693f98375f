"""The streamed body of an answer, each step of it inside its request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from rootspan.adapter.request_scope import stepping
from rootspan.functions import Activation

if TYPE_CHECKING:
    from rootspan.adapter.request import RequestRoot

__all__ = ["AsyncBody", "StreamedBody", "WholeBody"]


class StreamedBody:
    """A streamed body as an iterator with `close`, which is passed on once; nothing is held between two steps.

    Args:
        chunks: the app's own iterable; iterated when this is.
        root: its request.
        end: called when a step raises and when this is collected, for servers that close nothing; `close` leaves the
            end to its caller.
        measured: whether chunks are counted, and a body that was left is "cancelled".
    """

    def __init__(
        self, chunks: Iterable[Any], root: RequestRoot, end: Callable[[], None], measured: bool = True
    ) -> None:
        self._chunks = chunks
        self._root = root
        self._end = end
        self._measured = measured
        self._active = root.activate()
        self._next: Callable[[], Any] | None = None
        self._open = False

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            chunk = self._inside(self._step)
        except BaseException as error:
            self._open = False
            if not isinstance(error, StopIteration):
                self._root.fail(error)
                self._end()  # a server that closes nothing may keep this with the error
            raise
        self._root.write(chunk, more=self._measured)
        return chunk

    def _step(self) -> Any:
        if self._next is None:
            self._next = iter(self._chunks).__next__
            self._open = self._measured
        return self._next()

    def _inside(self, step: Callable[[], Any]) -> Any:
        token = stepping.set(self._root.in_context())
        try:
            with self._active:
                return step()
        finally:
            stepping.reset(token)

    def close(self) -> None:
        """Close the app's own iterable, inside the request."""
        self._stop()
        chunks, self._chunks = self._chunks, ()
        try:
            self._inside(getattr(chunks, "close", lambda: None))
        except BaseException as error:
            self._root.fail(error)
            raise

    def _stop(self) -> None:
        if self._open:
            self._open = False
            self._root.cancel()

    def __del__(self) -> None:
        self._stop()
        self._end()


class WholeBody(StreamedBody):
    """A streamed body whose end ends its request: exhausted, broken, or closed, be it before its first step.

    Args:
        chunks: the app's own iterable.
        root: its request.
    """

    def __init__(self, chunks: Iterable[Any], root: RequestRoot) -> None:
        super().__init__(chunks, root, root.finish)

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except BaseException:
            self._root.finish()
            raise

    def close(self) -> None:
        """Close the app's own iterable, inside the request, and end that."""
        try:
            super().close()
        finally:
            self._root.finish()


class AsyncBody:
    """Follows an async streamed body for `asteps`; the request ends with it."""

    _begun = False

    def __init__(self, root: RequestRoot) -> None:
        self._root = root

    def start(self) -> Activation:
        """Return what each step of the body runs in."""
        self._begun = True
        return self._root.activate()

    def item(self, item: Any) -> None:
        """Count a piece."""
        self._root.write(item)

    def end(self, error: BaseException | None) -> None:
        """Finish the request; a body that was closed early is a client that left."""
        if isinstance(error, GeneratorExit):
            self._root.cancel()
        elif error is not None:
            self._root.fail(error)
        self._root.finish()

    def __del__(self) -> None:
        if not self._begun:  # then no code of the generator that follows it runs, however that is closed
            self._root.finish()
