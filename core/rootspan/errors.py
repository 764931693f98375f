"""What rootspan raises, and only while it is being configured.

::

    RootspanError
    └── ConfigurationError      a wrong argument or environment variable; the message names the fix
        └── MissingExtraError   an adapter or command was used without the extra that it needs
"""

from __future__ import annotations

from typing import NoReturn

__all__ = ["ConfigurationError", "MissingExtraError", "RootspanError", "fail"]


class RootspanError(Exception):
    """The root of every exception that rootspan raises."""


class ConfigurationError(RootspanError, ValueError):
    """A setting is wrong; the message says what happened, then the line that fixes it."""


class MissingExtraError(ConfigurationError, ImportError):
    """A part of rootspan was imported without the packages that it needs."""


def fail(what: str, fix: str) -> NoReturn:
    """Raise a ConfigurationError that says what happened, then the line that fixes it."""
    raise ConfigurationError(f"{what}\nFix: {fix}" + ("" if fix.endswith("?") else "."))
