"""What must never be printed: the API key and the values of request headers."""

# What a user passes is checked at run time, whatever its annotation says:
# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from rootspan.errors import fail

__all__ = ["Headers", "SecretKey"]

_SECRET: Final = re.compile(r"auth|key|token|secret|cookie|password", re.IGNORECASE)


class SecretKey:
    """An API key that shows as `***abcd` wherever it is printed, formatted, logged or pickled.

    Args:
        key: the key itself: printable ASCII without spaces, 4,096 characters at most; `Bearer ` may stand before it.

    Raises:
        ConfigurationError: the key cannot be sent in a header; the message never contains the key.

    Example:
        >>> SecretKey("rs-0123456789abcd")
        ***abcd
    """

    __slots__ = ("__key",)

    def __init__(self, key: str) -> None:
        if not isinstance(key, str):
            fail(f"The API key has to be a str, not {type(key).__name__}.", "pass the key as text")
        if not key:
            fail("The API key is empty.", "pass the key, or None to send without one")
        if key != key.strip():
            fail("The API key begins or ends with a space or a line break.", "strip() it where it is read")
        if not (key.isascii() and key.isprintable()):
            fail("The API key holds characters that no header may carry.", "copy it again; printable ASCII only")
        if key[:7].lower() == "bearer ":
            key = key[7:].lstrip()
        if " " in key:
            fail(
                "The API key holds a space.",
                'pass the key alone; another scheme goes to headers={"authorization": ...}',
            )
        if len(key) > 4096:
            fail(f"The API key is {len(key)} characters long.", "pass a key of 4,096 characters at most")
        self.__key = key

    def reveal(self) -> str:
        """Return the key itself, for the one place that sends it."""
        return self.__key

    def __repr__(self) -> str:
        return f"***{self.__key[-4:]}" if len(self.__key) >= 12 else "***"

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (repr(self),)

    def __copy__(self) -> SecretKey:
        return self

    def __deepcopy__(self, memo: object) -> SecretKey:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretKey) and self.__key == other.__key

    def __hash__(self) -> int:
        return hash((SecretKey, self.__key))


class Headers(Mapping[str, str]):
    """Request headers, names in lower case, whose values never show in a repr or a pickle."""

    __slots__ = ("__values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.__values = {name.lower(): value for name, value in (values or {}).items()}

    def __getitem__(self, name: str) -> str:
        return self.__values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self.__values)

    def __len__(self) -> int:
        return len(self.__values)

    @property
    def secrets(self) -> dict[str, str]:
        """Those whose name tells of a secret."""
        return {name: value for name, value in self.items() if _SECRET.search(name)}

    def __repr__(self) -> str:
        return repr(dict.fromkeys(self.__values, "***"))

    def __reduce__(self) -> tuple[type[dict[str, str]], tuple[dict[str, str]]]:
        return dict, (dict.fromkeys(self.__values, "***"),)

    def __deepcopy__(self, memo: object) -> Headers:
        return self
