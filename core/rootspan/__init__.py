"""rootspan: a small core tracker for AI products, on OpenTelemetry.

The functions here delegate to the default tracker, which `configure` sets up; without it the environment does, at the
first call. `Tracker` has the same methods, for several trackers side by side.
"""

from __future__ import annotations

import os

from rootspan.cost import calculate_cost
from rootspan.errors import ConfigurationError, MissingExtraError, RootspanError
from rootspan.interaction import Interaction, Step
from rootspan.settings import resolve
from rootspan.settings.keywords import Options, Unpack
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


def configure(**settings: Unpack[Options]) -> Tracker:
    """Configure the default tracker; optional, and once at start-up.

    Arguments win over `ROOTSPAN_*` variables, those over the `OTEL_EXPORTER_OTLP_*` group; None counts as not given.
    A second call drains the old configuration in the background; what is still open stays with it.

    Args:
        endpoint: base URL of an OTLP/HTTP receiver, `http://localhost:4318` by default; `/v1/traces` is added.
        api_key: sent as `Authorization: Bearer`; to https or loopback endpoints only.
        headers: more request headers, by name.
        protocol: `http/protobuf`, or `http/json`.
        exporters: OpenTelemetry `SpanExporter`s to use instead of OTLP, or next to it when `endpoint` is given too.
        service_name, service_version, environment: the application's.
        user_id, convo_id, agent_name: whose is what names none; each a value, or a function without arguments.
        tags, properties: added to everything; a list and a dict, or a function without arguments.
        sample_rate: the share of traces that are kept, 0.0 to 1.0.
        disabled: record nothing; calls still return ids.
        capture_content: False keeps back inputs, outputs, messages, error texts, reasoning and comments.
        redact_keys: words beside the built-in ones whose values are masked.
        redact_text: mask known shapes of secrets inside text; True by default.
        redact_pii: True, or some of `email`, `phone`, `card`, `iban`, `ssn`, `ip`, to mask personal data.
        redact: a function of (path, value), asked last; what it returns is recorded.
        extras: vendors whose own keys are added: `mlflow`, `langfuse`, `traceloop`, `langsmith`, `bentolabs`.
        max_queue_bytes: memory for what waits to be sent, 32 MB; beyond it the oldest is dropped.
        spool: a directory, or True for the default one, where what was recorded survives the process.
        spool_max_bytes: what that directory may hold, 512 MB.
        fsync: wait for the disk after each record.
        on_loss: a function of (reason, count), told of losses.
        timeout: seconds for one request, 10.
        compression: `gzip`, or `none`.
        certificate, client_certificate, client_key: files for TLS.
        insecure: send a key over plain http to another machine.
        flush_interval, batch_size: seconds between two looks at what waits, 0.2, and spans in one request, 512.
        max_content_length: characters kept of one value, 1,048,576.
        max_open_sessions, session_timeout: how many sessions by id may be open, 10,000, and how long, 3,600 seconds.
        attribute_length_limit, attribute_count_limit, event_count_limit, link_count_limit: of a span; none by default.

    Returns:
        A tracker that stays with this configuration.

    Raises:
        ConfigurationError: an option is unknown, of the wrong type or out of range; the message names the fix.

    Example:
        >>> import rootspan
        >>> tracker = rootspan.configure(service_name="shop-assistant")
    """
    return default_tracker.reconfigure(resolve(os.environ, **settings))
