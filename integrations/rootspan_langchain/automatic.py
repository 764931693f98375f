"""The handler on every invocation of the process, through langchain-core's own hook and without a patch."""

from __future__ import annotations

from typing import Any, Final, cast

from langchain_core.tracers.context import register_configure_hook

from rootspan_langchain.handler import RootspanCallbackHandler

__all__ = ["install", "uninstall"]


class _Hook:
    """Stands for the context variable that LangChain asks: one value for every context and thread."""

    handler: RootspanCallbackHandler | None = None
    registered = False  # for good: LangChain lets nobody leave

    def get(self) -> RootspanCallbackHandler | None:
        return self.handler


_hook: Final = _Hook()


def install(**options: Any) -> RootspanCallbackHandler:
    """Record every invocation that has no handler of rootspan's of its own.

    A second call changes the options for what begins from then on; what is open is recorded to its end as it began.

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
    handler = RootspanCallbackHandler(**options)
    if not _hook.registered:
        register_configure_hook(cast("Any", _hook), True, RootspanCallbackHandler)
        _hook.registered = True
    _hook.handler = handler
    return handler


def uninstall() -> None:
    """Record nothing more by itself; what is open is recorded to its end."""
    if _hook.handler is not None:
        _hook.handler.disable()
        _hook.handler = None
