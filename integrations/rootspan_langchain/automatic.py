"""The handler on every invocation of the process, through langchain-core's own hook and without a patch."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from langchain_core.tracers.context import register_configure_hook

from rootspan_langchain.handler import RootspanCallbackHandler

__all__ = ["install", "uninstall"]

_installed: list[RootspanCallbackHandler] = []


def install(**options: Any) -> RootspanCallbackHandler:
    """Record every invocation that has no handler of rootspan's of its own; a second call changes the options.

    Args:
        **options: those of `RootspanCallbackHandler`.

    Returns:
        The handler.

    Raises:
        ConfigurationError: an option is of the wrong type.

    Example:
        >>> handler = install()
        >>> uninstall()
    """
    if _installed:
        _installed[0].__init__(**options)  # type: ignore[misc]
        return _installed[0]
    handler = RootspanCallbackHandler(**options)
    _installed.append(handler)
    # A default is there in every context and every thread; nothing is ever set.
    variable: ContextVar[Any] = ContextVar("rootspan_langchain", default=handler)
    register_configure_hook(variable, True, RootspanCallbackHandler)
    return handler


def uninstall() -> None:
    """Record nothing more by itself; what is open is recorded to its end."""
    for handler in _installed:
        handler.disable()
