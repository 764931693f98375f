"""What a framework keeps in one group of settings, for the adapter and for the default tracker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any, Final

from rootspan import default_tracker
from rootspan.adapter.request_options import RequestOptions, WebOptions
from rootspan.errors import ConfigurationError, fail, meant
from rootspan.settings import OPTIONS, Settings, resolve
from rootspan.settings.keywords import SharedOptions

__all__ = ["GroupedOptions", "GroupedSettings"]

_WEB: Final = frozenset(WebOptions.__annotations__)
_DOTTED: Final = frozenset({"tracker", "user_id", "convo_id", "properties", "exclude", "redact", "on_loss"})


class GroupedOptions(WebOptions, SharedOptions, total=False):
    """Both kinds of options as keywords, for type checkers: `**options: Unpack[GroupedOptions]`."""


class GroupedSettings:
    """What a framework keeps in one group of settings: options of the adapter, and those of the default tracker.

    Args:
        source: what the group is called, for messages.

    Attributes:
        options: the adapter's options, as last applied; None before.
    """

    def __init__(self, source: str) -> None:
        self.options: RequestOptions | None = None
        self._source = source
        self._tracking: dict[str, Any] = {}
        self._before: Settings | None = None  # None: what the environment says

    def apply(self, given: Any, **defaults: Any) -> RequestOptions:
        """Configure the default tracker as the group says; without any such setting it is as it was before.

        Args:
            given: fields of `RequestOptions` and options of `rootspan.configure`; of a name in both, the former. A
                function may be given by its dotted path, since settings are read before an application can be.
            **defaults: what holds where the group says nothing.

        Returns:
            The adapter's options.

        Raises:
            ConfigurationError: a name is unknown, a value is wrong, or a tracker of its own would be configured.
        """
        options, tracking = self.read(given, **defaults)
        self._configure(tracking)
        self.options = options
        return options

    def read(self, given: Any, **defaults: Any) -> tuple[RequestOptions, dict[str, Any]]:
        """Return the adapter's options and those of the tracker, and change nothing; arguments as above."""
        named: Any = given or {}
        if not isinstance(given, Mapping | None):
            fail(f"{self._source} has to be a dict.", f'{self._source} = {{"record": "all"}}')
        values: dict[str, Any] = {**defaults, **{name: self._value(name, value) for name, value in named.items()}}
        options = RequestOptions(**{name: value for name, value in values.items() if name in _WEB})
        tracking = {name: value for name, value in values.items() if name not in _WEB}
        if tracking and options.tracker is not None:
            one = min(tracking)
            said = f"{self._source} names a tracker, which has settings of its own; {one!r} would change nothing."
            fail(said, f"Tracker({one}=...), or leave out 'tracker'")
        return options, tracking

    def _value(self, name: Any, value: Any) -> Any:
        """Return a setting's value, with the function in place of its dotted path."""
        if name not in _WEB and name not in OPTIONS:
            fail(f"There is no setting {name!r} for {self._source}.", meant(name, {*_WEB, *OPTIONS}, "'{}'"))
        if name not in _DOTTED or not isinstance(value, str) or value.startswith(("/", "*")):
            return value
        try:
            return resolve_name(value)
        except (AttributeError, ImportError, ValueError) as error:
            said = f"{self._source} says {name}={value!r}, which cannot be imported: {error}"
            kind = "tracker" if name == "tracker" else "function"
            raise ConfigurationError(f"{said}.\nFix: name a {kind}, such as 'shop.tracking.{name}'.") from error

    def _configure(self, tracking: dict[str, Any]) -> None:
        if tracking == self._tracking:
            return
        if not self._tracking:
            self._before = default_tracker.chosen
        default_tracker.reconfigure(resolve(os.environ, **tracking) if tracking else self._before)
        self._tracking = tracking
