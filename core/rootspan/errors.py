"""What rootspan raises: while it is being configured, and where a package is missing that a part of it needs.

::

    RootspanError
    └── ConfigurationError      a wrong argument or environment variable; the message names the fix
        └── MissingExtraError   an adapter, a command or `calculate_cost` was used without the extra that it needs
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NoReturn

__all__ = ["ConfigurationError", "MissingExtraError", "RootspanError", "fail", "meant"]


class RootspanError(Exception):
    """The root of every exception that rootspan raises."""


class ConfigurationError(RootspanError, ValueError):
    """A setting is wrong; the message says what happened, then the line that fixes it."""


class MissingExtraError(ConfigurationError, ImportError):
    """A part of rootspan was used without the packages that it needs."""


def fail(what: str, fix: str) -> NoReturn:
    """Raise a ConfigurationError that says what happened, then the line that fixes it."""
    raise ConfigurationError(f"{what}\nFix: {fix}" + ("" if fix.endswith(("?", "...")) else "."))


def meant(name: object, names: Collection[str], form: str = "{}") -> str:
    """Return the words that fix a name which is none of `names`, each written in a form such as `{}=`."""
    from difflib import get_close_matches  # only on the way to an error

    near = get_close_matches(str(name), names, 1, 0.65)  # so far `project` is not taken for `redact`
    return f"did you mean {form.format(near[0])}?" if near else f"the names are {', '.join(sorted(names))}"
