"""The contract between rootspan and a framework: requests through one door, chains through the other.

`docs/write-an-integration.md` shows the whole of it in one page.
"""

from __future__ import annotations

import logging

from rootspan import Tracker, default_tracker
from rootspan.adapter.body import Body
from rootspan.adapter.grouped_settings import GroupedOptions, GroupedSettings
from rootspan.adapter.input_tee import InputTee
from rootspan.adapter.protocols import environ_header, environ_info, header_of, scope_info
from rootspan.adapter.request import RequestRoot
from rootspan.adapter.request_options import RequestInfo, RequestOptions, WebOptions
from rootspan.adapter.streamed import StreamedBody
from rootspan.arguments import outcome_of, sole
from rootspan.log import log
from rootspan.record import Kind
from rootspan.runs import Run, RunTree, trace_id_for

__all__ = [
    "Body",
    "GroupedOptions",
    "GroupedSettings",
    "InputTee",
    "Kind",
    "RequestInfo",
    "RequestOptions",
    "RequestRoot",
    "Run",
    "RunTree",
    "StreamedBody",
    "WebOptions",
    "deliver_at_end",
    "environ_header",
    "environ_info",
    "header_of",
    "open_request",
    "outcome_of",
    "scope_info",
    "sole",
    "trace_id_for",
]


def open_request(info: RequestInfo, options: RequestOptions) -> RequestRoot | None:
    """Open the root span of a request: always a new root, whatever encloses the server's code.

    Args:
        info: what is known when it starts.
        options: the adapter's options.

    Returns:
        The root, or None for a request that is not recorded.
    """
    if options.excluded is not None and options.excluded(info):  # most exclude nothing: not even a call for them
        return None
    tracker = options.tracker or default_tracker
    recorder = tracker._recorder  # pyright: ignore[reportPrivateUsage]  # the contract is part of core
    try:
        return RequestRoot(info, options, recorder)
    except Exception:
        recorder.own_error()
        return None


def deliver_at_end(tracker: Tracker | None) -> None:
    """Deliver everything before a server ends, and say what is left: one that ends by a signal has no later chance.

    Args:
        tracker: whose records; the default tracker if None.
    """
    tracker = tracker or default_tracker
    if not tracker.flush() and (left := (stats := tracker.stats())["queued"]):
        expected = tracker.settings.unchosen and not stats["delivered"]  # nobody listens where nobody said so
        line = "%d records were not delivered before the server stopped; where a signal ends its process they are lost"
        log(logging.DEBUG if expected else logging.WARNING, line, left)
