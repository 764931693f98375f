"""What the handler's options have to be: values, where those of a tracker may be functions as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

from rootspan.settings import OPTIONS
from rootspan.settings.options import Option, checked

__all__ = ["check"]


def _value(name: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if callable(value):
            raise TypeError
        return OPTIONS[name].check(value)

    return check


def _identifier(value: Any) -> Any:
    # An empty one is no wrong option: a handler may be made for one request, and the id is left out with a warning.
    if isinstance(value, bool) or not isinstance(value, (str, int, UUID)):
        raise TypeError
    return value


_WHO: Final = Option("a str, an int or a UUID; of one invocation alone, pass it in its metadata", _identifier)
_FLAG: Final = OPTIONS["capture_content"]
_OPTIONS: Final[Mapping[str, Option]] = {
    "user_id": _WHO,
    "convo_id": _WHO,
    "tags": Option("a list of str", _value("tags")),
    "properties": Option("a dict", _value("properties")),
    "capture_content": _FLAG,
    "estimate_cost": _FLAG,
}


def check(**given: Any) -> None:
    """Raise a ConfigurationError for the first option whose value cannot be used."""
    for name, value in given.items():
        option = _OPTIONS[name]
        if value is not None or option is _FLAG:
            checked(f"{name}=", option, option.check, value)
