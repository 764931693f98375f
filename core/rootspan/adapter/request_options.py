"""What a web adapter knows of a request, and the options that every one of them takes."""

# What a user passes is checked at run time, whatever its annotation says:
# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from functools import partial
from typing import Any, Final, Literal, NoReturn, TypedDict

from rootspan import default_tracker, semconv
from rootspan.adapter.sender import Trust, client_address, trust
from rootspan.errors import fail, meant
from rootspan.settings import OPTIONS
from rootspan.settings.options import HEADER_NAME
from rootspan.tracker import Tracker

__all__ = [
    "Hook",
    "RequestInfo",
    "RequestOptions",
    "WebOptions",
]

_HEADER_LENGTH: Final = 1_000  # characters kept of a captured header value
_BODY: Final = 262_144  # bytes kept of a body unless the option says how many
Hook = Callable[[Any], Any]


@dataclass(slots=True)  # not frozen: that would cost more than everything else here
class RequestInfo:
    """What an adapter knows of a request when it starts; `environ_info` and `scope_info` read it from WSGI and ASGI.

    Args:
        request: the framework's own request, which the hooks are given.
        method: the HTTP method, or `WEBSOCKET`.
        path: the URL's path, below `SCRIPT_NAME` where there is one.
        scheme: `http`, `https`, `ws` or `wss`.
        header: returns a request header by its lower-case name, or None; several of one name joined by commas.
        peer: the address at the other end of the connection; None where there is none, as on a unix socket.
        prefix: what the server or a mount adds to the path (`root_path`), if the path begins with it.
    """

    request: Any
    method: str
    path: str
    scheme: str = "http"
    header: Callable[[str], str | None] = lambda name: None
    peer: str | None = None
    prefix: str | None = None

    def find_header(self, name: str) -> str | None:
        """Return a header by its lower-case name; None where there is none, or where it cannot be read."""
        try:
            return self.header(name)
        except Exception:  # a framework may have any headers
            return None


class WebOptions(TypedDict, total=False):
    """The options of `RequestOptions` as keywords, for type checkers: `**options: Unpack[WebOptions]`."""

    tracker: Tracker | None
    event: str | Hook | None
    user_id: Hook | None
    convo_id: Hook | None
    properties: Hook | None
    convo_header: str | None
    exclude: Sequence[str] | Hook
    record: Literal["all", "tracked"]
    capture_headers: Sequence[str]
    capture_body: bool | int
    trace_context: Literal["link", "ignore"]
    response_header: str | None
    trusted_proxies: Sequence[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """The options that every web adapter takes under these names.

    Args:
        tracker: who records; the default tracker, looked up at each request, if None.
        event: the span name, or a function of the request that returns it; `METHOD route` if None.
        user_id: a function of the request that returns the user; asked at the first child and again at the end.
        convo_id: likewise for the conversation.
        properties: likewise for custom dimensions, asked at the end.
        convo_header: a request header to take the conversation from; sanitised, off unless named.
        exclude: path patterns (`/health`, `/static/*`), or a function of the request; such requests are not recorded.
        record: `all`, or `tracked` to leave out requests in which nothing was tracked.
        capture_headers: names of request headers to record.
        capture_body: let the chat in what the app itself reads and sends become input and output where nothing tracked
            says them; True keeps up to 256 kB of each body, a number so many bytes.
        trace_context: `link` to the sender's `traceparent`, or `ignore` it.
        response_header: name of a response header that tells the trace id, unless the app sets it; not together with
            `record="tracked"`.
        trusted_proxies: record `client.address`, and believe `X-Forwarded-For` as far as these addresses and networks
            (`10.0.0.0/8`; `*` is anybody) vouch for it; None records no address, an empty list the peer's.

    Attributes:
        hooked: whether a hook is there that a request is given to.
        excluded: whether a request is not to be recorded; None where every one is.
        links: whether a sender's `traceparent` is looked for.
        asks: whether a request is asked for its user or conversation.
        more: whether an option is set that needs more than `asks` and `links`.
        body_limit: bytes to keep of a body; 0 where bodies are not looked at.
        trusted: whether an address is a trusted proxy's; None where no address is recorded.

    Raises:
        ConfigurationError: an option is of the wrong type, or two of them contradict each other.
    """

    tracker: Tracker | None = None
    event: str | Hook | None = None
    user_id: Hook | None = None
    convo_id: Hook | None = None
    properties: Hook | None = None
    convo_header: str | None = None
    exclude: Sequence[str] | Hook = ()
    record: Literal["all", "tracked"] = "all"
    capture_headers: Sequence[str] = ()
    capture_body: bool | int = False
    trace_context: Literal["link", "ignore"] = "link"
    response_header: str | None = None
    trusted_proxies: Sequence[str] | None = None
    # Worked out once, not at each request:
    hooked: bool = field(init=False, default=False, repr=False)
    asks: bool = field(init=False, default=False, repr=False)
    body_limit: int = field(init=False, default=0, repr=False)
    trusted: Trust | None = field(init=False, default=None, repr=False)
    excluded: Callable[[RequestInfo], bool] | None = field(init=False, default=None, repr=False)
    links: bool = field(init=False, default=True, repr=False)
    more: bool = field(init=False, default=False, repr=False)

    @property
    def tracker_now(self) -> Tracker:
        """The tracker that records: the one that was given, else what the default one is now."""
        return self.tracker or default_tracker

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> RequestOptions:
        """Return options that were given by name.

        Raises:
            ConfigurationError: as the class, and for a name that is no option.
        """
        names = WebOptions.__annotations__
        for name in given:
            if name in OPTIONS and name not in names:
                fail(f"{name}= is an option of the tracker, not of a web adapter.", f"rootspan.configure({name}=...)")
            if name not in names:
                fail(f"{name}= is no option of a web adapter.", meant(name, names, "{}="))
        return cls(**given)

    def caller_attributes(self, info: RequestInfo) -> dict[str, str]:
        """Return as span attributes what a request tells of its headers and of its client, where that is asked for."""
        found: dict[str, str] = {}
        for name in map(str.lower, self.capture_headers):
            if (value := info.find_header(name)) is not None:
                found[f"{semconv.HTTP_REQUEST_HEADER}.{name}"] = value[:_HEADER_LENGTH]
        if self.trusted is not None:
            address = client_address(info.peer, info.find_header("x-forwarded-for"), self.trusted)
            if address is not None:
                found[semconv.CLIENT_ADDRESS] = address
        return found

    def __post_init__(self) -> None:
        _one_of("record", self.record, ("all", "tracked"))
        _one_of("trace_context", self.trace_context, ("link", "ignore"))
        for name in ("user_id", "convo_id", "properties"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                _wrong(name, "a function of the request", f"{name}=lambda request: ...")
        if self.tracker is not None and not isinstance(self.tracker, Tracker):
            _wrong("tracker", "a rootspan.Tracker", "tracker=rootspan.Tracker(...)")
        if self.event is not None and not isinstance(self.event, str) and not callable(self.event):
            _wrong("event", "a name or a function of the request", 'event="chat"')
        if isinstance(self.capture_headers, str) or not isinstance(self.capture_headers, Collection):
            _wrong("capture_headers", "a list of names", f'capture_headers=["{self.capture_headers}"]')
        if self.convo_header is not None:
            _header_names("convo_header", self.convo_header, fix="convo_header='x-conversation-id'")
        if self.response_header is not None:
            _header_names("response_header", self.response_header, fix="response_header='x-trace-id'")
        _header_names("capture_headers", *self.capture_headers, fix="capture_headers=['x-team']")
        if self.response_header is not None and self.record == "tracked":
            fail(
                "response_header= hands out the id of every request, record='tracked' leaves some of them out.",
                "remove one of the two",
            )
        if not isinstance(self.capture_body, int) or self.capture_body < 0:
            _wrong("capture_body", "True, False or a number of bytes", "capture_body=True")
        hooks = (self.event, self.user_id, self.convo_id, self.properties, self.exclude)
        for name, value in (
            ("hooked", any(map(callable, hooks))),
            ("asks", (self.user_id, self.convo_id, self.convo_header) != (None, None, None)),
            ("body_limit", _BODY if self.capture_body is True else int(self.capture_body)),
            ("trusted", _trust(self.trusted_proxies)),
            ("excluded", _exclusion(self.exclude, self.tracker)),
            ("links", self.trace_context == "link"),
            ("more", self._asks_for_more()),
        ):
            object.__setattr__(self, name, value)

    def _asks_for_more(self) -> bool:
        given = (self.event, self.properties, self.response_header, self.trusted_proxies)
        captures = bool(self.capture_headers) or bool(self.capture_body)
        return captures or self.record != "all" or any(option is not None for option in given)


def _one_of(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        _wrong(name, " or ".join(repr(choice) for choice in choices), f"{name}={choices[0]!r}")


def _wrong(name: str, wanted: str, fix: str) -> NoReturn:
    fail(f"{name}= has to be {wanted}.", fix)


def _header_names(name: str, *headers: Any, fix: str) -> None:
    for header in headers:
        if not (isinstance(header, str) and HEADER_NAME.fullmatch(header)):
            fail(f"{name}= says {header!r}, which is no header name.", fix)


def _exclusion(exclude: Sequence[str] | Hook, tracker: Tracker | None) -> Callable[[RequestInfo], bool] | None:
    if callable(exclude):
        return partial(_is_told, exclude, tracker)
    try:
        patterns = [exclude] if isinstance(exclude, str) else list(exclude)
        for pattern in patterns:
            if not str.startswith(pattern, ("/", "*", "?", "[")):
                said = f"exclude= says {pattern!r}, which matches no path: patterns are no regular expressions,"
                fail(f"{said} and begin with / or *.", "exclude=['/health', '/static/*']")
        expression = "|".join(map(translate, patterns))
    except TypeError:
        expression = None
    if expression is None:  # told out here, so that the traceback shows this error alone
        _wrong("exclude", "path patterns or a function of the request", "exclude=['/health']")
    return partial(_is_matched, re.compile(expression)) if expression else None


def _is_told(exclude: Hook, tracker: Tracker | None, info: RequestInfo) -> bool:
    recorder = (tracker or default_tracker)._recorder  # pyright: ignore[reportPrivateUsage]  # part of core
    said = recorder.asked("hook", "exclude", exclude, info.request)  # None where it raises
    return bool(recorder.asked("hook", "exclude", bool, said))  # what a host returns may have no truth


def _is_matched(patterns: re.Pattern[str], info: RequestInfo) -> bool:
    path, prefix = info.path, f"{info.prefix or ''}/"
    return patterns.match(path[len(prefix) - 1 :] if path.startswith(prefix) else path) is not None


def _trust(proxies: Sequence[str] | None) -> Trust | None:
    if proxies is None:
        return None
    try:
        return trust([proxies] if isinstance(proxies, str) else list(proxies))
    except (TypeError, ValueError):
        pass
    _wrong("trusted_proxies", "addresses and networks", "trusted_proxies=['10.0.0.0/8']")
