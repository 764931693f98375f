"""rootspan: a small core tracker for AI products, on OpenTelemetry.

The functions here delegate to the default tracker, which `configure` sets up; without it the environment does, at the
first call. `Tracker` has the same methods, for several trackers side by side.
"""

from __future__ import annotations

import os
from typing import Any

from rootspan.cost import calculate_cost
from rootspan.errors import ConfigurationError, MissingExtraError, RootspanError
from rootspan.interaction import Interaction, Step
from rootspan.settings import resolve
from rootspan.tracker import Tracker
from rootspan.version import __version__ as __version__

__all__ = [
    "ConfigurationError",
    "Interaction",
    "MissingExtraError",
    "RootspanError",
    "Step",
    "Tracker",
    "begin",
    "calculate_cost",
    "carry",
    "complete_session",
    "configure",
    "context",
    "create_session",
    "current",
    "default_tracker",
    "flush",
    "interaction",
    "shutdown",
    "stats",
    "tool",
    "tool_span",
    "track_ai",
    "track_decision",
    "track_error",
    "track_feedback",
    "track_tool_call",
    "update_current",
]

default_tracker = Tracker.default()

begin = default_tracker.begin
carry = default_tracker.carry
complete_session = default_tracker.complete_session
context = default_tracker.context
create_session = default_tracker.create_session
current = default_tracker.current
flush = default_tracker.flush
interaction = default_tracker.interaction
shutdown = default_tracker.shutdown
stats = default_tracker.stats
tool = default_tracker.tool
tool_span = default_tracker.tool_span
track_ai = default_tracker.track_ai
track_decision = default_tracker.track_decision
track_error = default_tracker.track_error
track_feedback = default_tracker.track_feedback
track_tool_call = default_tracker.track_tool_call
update_current = default_tracker.update_current


def configure(**settings: Any) -> Tracker:
    """Configure the default tracker; optional, and once at start-up.

    Arguments win over `ROOTSPAN_*` variables, those over the `OTEL_EXPORTER_OTLP_*` group. A second call drains the
    old configuration in the background; what is still open stays with it.

    Args:
        api_key: sent as `Authorization: Bearer`; to https or loopback endpoints only.
        endpoint: base URL of an OTLP/HTTP receiver; `/v1/traces` is added unless present.
        service_name: the application's name.
        exporters: OpenTelemetry `SpanExporter`s to use instead of OTLP, or next to it when `endpoint` is given too.
        **settings: any other option; the README lists them.

    Returns:
        A tracker that stays with this configuration.

    Raises:
        ConfigurationError: an option is unknown, of the wrong type or out of range; the message names the fix.

    Example:
        >>> import rootspan
        >>> tracker = rootspan.configure(service_name="shop-assistant")
    """
    return default_tracker.reconfigure(resolve(os.environ, **settings))
