"""What the tests of the LangChain handler share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("langchain_core", reason="these tests drive LangChain")

from rootspan import Tracker
from rootspan_langchain import RootspanCallbackHandler
from scripted import Trees
from sinks import Sink


@pytest.fixture
def handler(tracker: Tracker) -> RootspanCallbackHandler:
    return RootspanCallbackHandler(tracker=tracker, user_id="u1", convo_id="c1")


@pytest.fixture
def trees(tracker: Tracker, sink: Sink) -> Callable[[], Trees]:
    """Delivers what was recorded, and returns it."""
    return lambda: Trees(tracker, sink)
