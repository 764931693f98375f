"""The kinds of options: what an argument or an environment variable of each has to be, and how it is read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import unquote
from uuid import UUID

from rootspan.errors import ConfigurationError, fail
from rootspan.settings.credentials import Headers, SecretKey

EXTRAS: Final = ("mlflow", "langfuse", "traceloop", "langsmith", "bentolabs")
PII: Final = ("email", "phone", "card", "iban", "ssn", "ip")
_FLAGS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LETTER: Final = re.compile(r"[^\W\d_]")


class Option(NamedTuple):
    """How to read an option.

    A parser and a checker raise for what is wrong; `expected` then says what they want.
    """

    expected: str
    check: Callable[[Any], Any]
    parse: Callable[[str], Any] | None = None  # of the environment's text; None: an argument only
    otel: tuple[str, ...] = ()  # OpenTelemetry's own variables for it, the one that wins first
    secret: bool = False  # a message never shows the value

    def read(self, text: str) -> Any:
        """Return the checked value of an environment variable's text."""
        return self.check(text if self.parse is None else self.parse(text))


def _require(fine: object) -> None:
    if not fine:
        raise ValueError


def _require_type(value: object, *kinds: type) -> None:
    _require(isinstance(value, kinds))


def _parse_flag(text: str) -> bool:
    return _FLAGS[text.lower()]


def _parse_flag_or(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: _FLAGS[text.lower()] if text.lower() in _FLAGS else parse(text)


def _flag(value: Any) -> bool:
    _require(isinstance(value, bool))
    return bool(value)


def _number(low: float, high: float = float("inf"), *, whole: bool = False) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        _require(isinstance(value, int if whole else int | float) and not isinstance(value, bool))
        _require(low <= value <= high and value != float("inf"))
        return value if whole else float(value)

    return check


def _text(value: Any) -> str:
    _require(isinstance(value, str) and value.strip())
    return str(value)


def _path(value: Any) -> str:
    _require(b"\0" not in os.fsencode(path := _text(os.fspath(value))))  # or no file can have that name
    return path


def _file(value: Any) -> str:
    _require(os.path.isfile(path := _path(value)))
    return path


def _choice(*choices: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        _require(isinstance(value, str) and value in choices)
        return str(value)

    return check


def _words(value: Any) -> tuple[str, ...]:
    _require_type(value, Sequence, set, frozenset)
    _require(type(value) not in (str, bytes))
    words: tuple[Any, ...] = tuple(value)
    _require(all(isinstance(word, str) and word for word in words))
    return words


def _parse_words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _some(*choices: str, all_when_true: bool = False) -> Callable[[Any], frozenset[str]]:
    def check(value: Any) -> frozenset[str]:
        if all_when_true and isinstance(value, bool):
            return frozenset(choices if value else ())
        _require((chosen := frozenset(_words(value))) <= set(choices))
        return chosen

    return check


def _function(value: Any) -> Any:
    _require(callable(value) and not (iscoroutinefunction(value) or iscoroutinefunction(type(value).__call__)))
    return value


def _or_getter(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def either(value: Any) -> Any:
        return value if callable(value) else check(value)

    return either


def _identifier(value: Any) -> str:
    return str(value) if isinstance(value, int | UUID) and not isinstance(value, bool) else _text(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    _require_type(value, Mapping)
    _require(all(isinstance(key, str) for key in value))
    return MappingProxyType(dict(value))


def _headers(value: Any) -> Headers:
    for name, text in _mapping(value).items():
        if not HEADER_NAME.fullmatch(name):  # which may be a whole line, with a key in it
            fail("A header's name holds what no name may hold.", 'give name and value apart: {"x-team": "shop"}')
        if not (isinstance(text, str) and text == text.strip() and text.isascii() and text.isprintable()):
            fail(
                f"The value of {name!r} is no text that a header may carry.",
                f'give printable ASCII: {{"{name}": "..."}}',
            )
    return Headers(value)


def _parse_pairs(text: str) -> dict[str, str]:
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    _require(all(equals and name.strip() for name, equals, _ in pairs))
    return {unquote(name.strip()): unquote(value.strip()) for name, _, value in pairs}


def _parse_timeout(text: str) -> float:
    # OpenTelemetry's specification counts milliseconds, its Python SDK seconds; nobody means ten minutes here.
    return float(text) / 1000 if float(text) > 600 else float(text)


def _parse_compression(text: str) -> str:
    return "gzip" if text == "deflate" else text  # OpenTelemetry's third choice: the host asked for compression


def _secret_key(value: Any) -> SecretKey:
    return value if isinstance(value, SecretKey) else SecretKey(value)


def _key_words(value: Any) -> frozenset[str]:
    _require(all(map(_LETTER.search, words := _words(value))))
    return frozenset(words)


def _spool(value: Any) -> bool | str:
    return value if isinstance(value, bool) else os.path.expanduser(_path(value))


def _exporters(value: Any) -> tuple[Any, ...]:
    from opentelemetry.sdk.trace.export import SpanExporter  # not needed by those who send OTLP

    _require_type(value, Sequence)
    _require(all(isinstance(exporter, SpanExporter) for exporter in value))
    return tuple(value)


FLAG: Final = Option("True or False", _flag, _parse_flag)
NAME: Final = Option("a text that is not empty", _text, str)
FILE: Final = Option("the path of a file that exists", _file, str)
FUNCTION: Final = Option("a function that is not async", _function)
LIMIT: Final = Option("a whole number from 0", _number(0, whole=True), int)
WHOLE: Final = Option("a whole number from 1", _number(1, whole=True), int)
SHARE: Final = Option("a number from 0 to 1", _number(0, 1), float)
SECONDS: Final = Option("a number of seconds above 0", _number(0.001, 86_400 * 365), float)
TIMEOUT: Final = SECONDS._replace(parse=_parse_timeout)
URL: Final = Option("a URL", _text, str, secret=True)
KEY: Final = Option("a text", _secret_key, str)
HEADERS: Final = Option('a dict such as {"x-team": "shop"}', _headers, _parse_pairs, secret=True)
PAIRS: Final = Option("a list such as key=value,key=value", _mapping, _parse_pairs)
PROTOCOL: Final = Option("'http/protobuf' or 'http/json'", _choice("http/protobuf", "http/json", "grpc"), str)
COMPRESSION: Final = Option("'gzip' or 'none'", _choice("gzip", "none"), _parse_compression)
EXPORTERS: Final = Option("a list of opentelemetry.sdk.trace.export.SpanExporter objects", _exporters)
WHO: Final = Option("a str, an int, a UUID or a function without arguments", _or_getter(_identifier), str)
AGENT: Final = Option("a str or a function without arguments", _or_getter(_text), str)
TAGS: Final = Option("a list of str or a function without arguments", _or_getter(_words), _parse_words)
PROPERTIES: Final = Option("a dict or a function without arguments", _or_getter(_mapping))
SOME_EXTRAS: Final = Option(f"a list of some of {', '.join(EXTRAS)}", _some(*EXTRAS), _parse_words)
SOME_PII: Final = Option(
    f"True, False or a list of some of {', '.join(PII)}",
    _some(*PII, all_when_true=True),
    _parse_flag_or(_parse_words),
)
KEY_WORDS: Final = Option("a list of words with letters, such as 'customer number'", _key_words, _parse_words)
SPOOL: Final = Option("True, False or a directory", _spool, _parse_flag_or(str))
SPOOL_BYTES: Final = Option("a whole number from 1048576", _number(1 << 20, whole=True), int)


def checked(source: str, option: Option, make: Callable[[Any], Any], value: Any) -> Any:
    """Return what `make` makes of a value; whatever it raises becomes one ConfigurationError that names the source."""
    problem: Exception
    try:
        return make(value)
    except Exception as error:  # also what the value's own dunder methods raise
        problem = error
    # Raised out here, so that the traceback shows this error alone, and not the value inside another.
    if isinstance(problem, ConfigurationError):
        raise ConfigurationError(f"{source}: {problem}")
    kind = type(value).__name__
    empty = type(value) is str and not value
    legible = empty or (_is_legible(value) and not option.secret)
    said = f"{value!r:.200} ({kind})" if legible else f"this {kind}"
    fail(f"{source} cannot be {said}.", f"set {source} to {option.expected}")


def _is_legible(value: Any) -> bool:
    """Return whether a value may be shown: its repr is Python's own, and tells a mistake."""
    if type(value) in (list, tuple, set, frozenset):
        return all(type(item) is str for item in value)
    return type(value) in (str, float) or (type(value) is int and value.bit_length() <= 64)
