"""The local side of rootspan: an OTLP/HTTP receiver, and the traces that it took as trees in a terminal."""

from __future__ import annotations

from rootspan_ui.receiver import Receiver
from rootspan_ui.spans import ReceivedEvent, ReceivedLink, ReceivedSpan
from rootspan_ui.terminal import tail
from rootspan_ui.totals import Summary
from rootspan_ui.traces import Trace, Traces
from rootspan_ui.tree import render

__all__ = [
    "ReceivedEvent",
    "ReceivedLink",
    "ReceivedSpan",
    "Receiver",
    "Summary",
    "Trace",
    "Traces",
    "render",
    "tail",
]
