"""The host's own active span, which a root of ours is linked to; nothing here changes the host's context."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.trace import SpanContext, get_current_span, propagation

__all__ = ["host_context", "host_span", "host_span_in"]

_SPAN_KEY: str | None = getattr(propagation, "_SPAN_KEY", None)
_host_variable: ContextVar[Any] | None = getattr(
    getattr(otel_context, "_RUNTIME_CONTEXT", None), "_current_context", None
)


def _public_host_span(_: Any) -> SpanContext | None:
    try:
        return get_current_span().get_span_context()
    except Exception:  # a span of the host's own making
        return None


def _direct_host_span(context: Any) -> SpanContext | None:
    try:
        span = context.get(_SPAN_KEY)
        if span is not None:
            found: SpanContext | None = span.get_span_context()
            return found
    except Exception:  # a span of the host's own making
        pass
    return None


def _unknown_context(_: None) -> Any:
    return True


# OpenTelemetry's own function costs five times what reading its variable does; where the variable is not
# where we know it (another runtime context, a later version), the public way serves.
host_context: Callable[[None], Any] = _unknown_context
"""Returns what `host_span_in` takes; false where no host span is active, so that nobody need ask for it."""
host_span_in: Callable[[Any], SpanContext | None] = _public_host_span
"""Returns the host's active span."""
if isinstance(_host_variable, ContextVar) and _SPAN_KEY is not None:
    host_context, host_span_in = _host_variable.get, _direct_host_span


def host_span() -> SpanContext | None:
    """Return the host's active span, None where there is none."""
    context = host_context(None)
    return host_span_in(context) if context else None
