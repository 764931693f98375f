"""Test doubles for those who use rootspan, and the contract that every web adapter has to keep.

`captured_spans` collects in memory what a tracker records. `WebContract` holds the cases that every web adapter runs
through its own tiny echo app, whose views are the methods of `Echo` and whose requests an `AsgiClient` or a
`WsgiClient` sends.
"""

from __future__ import annotations

from rootspan.captured import Captured, CapturedSpan, captured_spans
from rootspan.clients import Answer, AsgiClient, Client, WsgiClient
from rootspan.contract import WebContract
from rootspan.echo import Echo

__all__ = [
    "Answer",
    "AsgiClient",
    "Captured",
    "CapturedSpan",
    "Client",
    "Echo",
    "WebContract",
    "WsgiClient",
    "captured_spans",
]
