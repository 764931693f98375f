"""Serves an echo app to a case of the contract."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rootspan.testing.captured import Captured, captured_spans
from rootspan.testing.clients import Client
from rootspan.tracker import Tracker

__all__ = ["Serving"]


class Serving:
    """What a case needs of an adapter's test; `WebContract` is what to derive from."""

    def serve(self, tracker: Tracker, **options: Any) -> AbstractContextManager[Client]:
        """Return a context manager that serves the echo app through the adapter, and gives a client for it.

        Args:
            tracker: for the adapter and for `Echo`.
            **options: the adapter's options, under the names of `rootspan.adapter.RequestOptions`.
        """
        raise NotImplementedError

    def template(self, path: str) -> str:
        """Return a route that `WebContract` lists as the adapter writes it into `http.route`."""
        return path

    @contextmanager
    def _served(self, settings: Mapping[str, Any] | None = None, **options: Any) -> Generator[tuple[Client, Captured]]:
        given: Mapping[str, Any] = settings or {}
        with captured_spans(**given) as captured, self.serve(captured.tracker, **options) as client:
            yield client, captured
