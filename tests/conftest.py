"""What every test may rely on."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from rootspan import Tracker
from sinks import Sink

pytest.register_assert_rewrite("rootspan.contract")  # so that a broken case says what it saw

# A shell that runs the tests in the background ignores SIGINT for them, and so would every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A collector of the test's own."""
    with Sink() as sink:
        yield sink


@pytest.fixture
def tracker(sink: Sink) -> Iterator[Tracker]:
    """A tracker that sends to it."""
    tracker = Tracker(endpoint=sink.url)
    yield tracker
    tracker.shutdown()
