"""Test doubles for those who use rootspan, and the contract that every web adapter has to keep.

`captured_spans` collects in memory what a tracker records. `WebContract` holds the cases that every web adapter runs
through its own tiny echo app, whose views are the methods of `Echo` and whose requests an `AsgiClient` or a
`WsgiClient` sends. `RunTreeContract` does the same for adapters of chains and agents.
"""

from __future__ import annotations

import sys

if (pytest := sys.modules.get("pytest")) is not None:  # or a case that fails would not say what it saw
    pytest.register_assert_rewrite(*(f"{__name__}.{cases}" for cases in ("option_cases", "request_cases", "run_cases")))

from rootspan.testing.captured import Captured, CapturedSpan, captured_spans
from rootspan.testing.clients import Answer, AsgiClient, Client, WsgiClient
from rootspan.testing.contract import WebContract
from rootspan.testing.echo import Echo
from rootspan.testing.run_cases import RunTreeContract

__all__ = [
    "Answer",
    "AsgiClient",
    "Captured",
    "CapturedSpan",
    "Client",
    "Echo",
    "RunTreeContract",
    "WebContract",
    "WsgiClient",
    "captured_spans",
]
