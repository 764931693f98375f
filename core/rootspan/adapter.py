"""The contract between rootspan and a framework: requests through one door, chains through the other."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from typing import Any, Final

from opentelemetry.trace import SpanContext, TraceFlags

from rootspan import default_tracker, semconv
from rootspan.arguments import outcome_of
from rootspan.errors import ConfigurationError
from rootspan.functions import Activation, asteps, steps
from rootspan.record import AttributeValue, Kind
from rootspan.recorder import Recorder
from rootspan.scope import OpenSpan, Scope
from rootspan.tracker import Tracker

__all__ = ["RequestInfo", "RequestOptions", "RequestRoot", "open_request"]

_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "QUERY", "WEBSOCKET"}
)
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_CONVO_HEADER: Final = re.compile(r"[\w.:@/+=~-]{1,250}")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_LENGTH: Final = 1_000  # characters kept of a captured header value
Hook = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What an adapter knows of a request when it starts.

    Args:
        request: the framework's own request, which the hooks are given.
        method: the HTTP method, or `WEBSOCKET`.
        path: the URL's path.
        scheme: `http`, `https`, `ws` or `wss`.
        header: returns a request header by its lower-case name, or None.
    """

    request: Any
    method: str
    path: str
    scheme: str = "http"
    header: Callable[[str], str | None] = lambda name: None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """The options that every web adapter takes under these names.

    Args:
        tracker: who records; the default tracker, looked up at each request, if None.
        event: the span name, or a function of the request that returns it; `METHOD route` if None.
        user_id: a function of the request that returns the user; asked when a child starts and again at the end.
        convo_id: likewise for the conversation.
        properties: likewise for custom dimensions, asked at the end.
        convo_header: a request header to take the conversation from; sanitised, off unless named.
        exclude: path patterns (`/health`, `/static/*`), or a function of the request; such requests are not recorded.
        record: `all`, or `tracked` to leave out requests in which nothing was tracked.
        capture_headers: names of request headers to record.
        trace_context: `link` to the caller's `traceparent`, or `ignore` it.
        response_header: name of a response header that tells the trace id; not together with `record="tracked"`.

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
    record: str = "all"
    capture_headers: Sequence[str] = ()
    trace_context: str = "link"
    response_header: str | None = None
    _excluded: Hook | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        _one_of("record", self.record, ("all", "tracked"))
        _one_of("trace_context", self.trace_context, ("link", "ignore"))
        for name in ("user_id", "convo_id", "properties"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                _wrong(name, "a function of the request", f"{name}=lambda request: ...")
        if self.tracker is not None and not isinstance(self.tracker, Tracker):  # pyright: ignore[reportUnnecessaryIsInstance]
            _wrong("tracker", "a rootspan.Tracker", "tracker=rootspan.Tracker(...)")
        if self.event is not None and not isinstance(self.event, str) and not callable(self.event):
            _wrong("event", "a name or a function of the request", 'event="chat"')
        if isinstance(self.capture_headers, str):
            _wrong("capture_headers", "a list of names", f'capture_headers=["{self.capture_headers}"]')
        headers: list[Any] = [self.convo_header, self.response_header, *self.capture_headers]
        for header in headers:
            if header is not None and not (isinstance(header, str) and _HEADER_NAME.fullmatch(header)):
                raise ConfigurationError(f"{header!r} is no header name. Fix: use one such as 'x-conversation-id'.")
        if self.response_header is not None and self.record == "tracked":
            raise ConfigurationError(
                "response_header= hands out the id of every request, record='tracked' leaves some of them out. "
                "Fix: remove one of the two."
            )
        object.__setattr__(self, "_excluded", _exclusion(self.exclude))

    def excludes(self, info: RequestInfo) -> bool:
        """Return whether a request is not to be recorded; a raising function excludes nothing."""
        if self._excluded is None:
            return False
        if callable(self.exclude):
            return bool(guarded("exclude", self.exclude, info.request, self.tracker or default_tracker))
        return bool(self._excluded(info.path))


def _one_of(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        _wrong(name, " or ".join(repr(choice) for choice in choices), f"{name}={choices[0]!r}")


def _wrong(name: str, wanted: str, fix: str) -> None:
    raise ConfigurationError(f"{name}= has to be {wanted}. Fix: {fix}.")


def _exclusion(exclude: Sequence[str] | Hook) -> Hook | None:
    if callable(exclude):
        return exclude
    patterns: Any = [exclude] if isinstance(exclude, str) else exclude
    try:
        expression = "|".join(translate(pattern) for pattern in patterns)
    except TypeError:
        raise ConfigurationError(
            "exclude= has to be path patterns or a function of the request. Fix: exclude=['/health']."
        ) from None
    return re.compile(expression).match if expression else None


def guarded(name: str, hook: Hook, request: Any, tracker: Tracker) -> Any:
    """Return what a host's hook says of a request; one that raises, or is async, costs its field only."""
    recorder = tracker._recorder  # pyright: ignore[reportPrivateUsage]  # the contract is part of core
    try:
        value = hook(request)
        if inspect.iscoroutine(value):
            value.close()
            recorder.warn(f"hook {name}", "the %s= hook is async; it has to be a plain function", name)
            return None
        return value
    except Exception as error:
        recorder.warn(f"hook {name}", "the %s= hook raised %r; the field is left out", name, error)
        return None


def open_request(info: RequestInfo, options: RequestOptions) -> RequestRoot | None:
    """Open the root span of a request: always a new root, whatever encloses the server's code.

    Args:
        info: what is known when it starts.
        options: the adapter's options.

    Returns:
        The root, or None for an excluded request.
    """
    if options.excludes(info):
        return None
    return RequestRoot(info, options, options.tracker or default_tracker)


class RequestRoot:
    """The root span of one request, from its start to the last byte of its answer; no method of it raises."""

    __slots__ = (
        "_attributes", "_chunks", "_error", "_first", "_info", "_last", "_method", "_options", "_outcome", "_recorder",
        "_scope", "_size", "_span", "_stall", "_started", "_tracker", "route", "status",
    )  # fmt: skip

    def __init__(self, info: RequestInfo, options: RequestOptions, tracker: Tracker) -> None:
        recorder: Recorder = tracker._recorder  # pyright: ignore[reportPrivateUsage]  # as above
        self._info, self._options, self._tracker, self._recorder = info, options, tracker, recorder
        self._method = info.method if info.method in _METHODS else "_OTHER"
        self._attributes: dict[str, AttributeValue] = {}
        self._error: tuple[str | None, str | None] | None = None
        self._outcome: str | None = None
        self.route: str | None = None
        self.status: int | None = None
        self._started = time.perf_counter()
        self._chunks = self._size = 0
        self._first = self._last = self._stall = 0.0
        span = recorder.start(Kind.REQUEST, self._method, None)
        span.adopts = True
        span.ask = self._ask
        self._span: OpenSpan = span
        self._scope = Scope(span, span.holder, None)
        links = self._caller() if options.trace_context == "link" else None
        if links is not None:
            span.set(links=(links,))
        if options.record == "all":
            recorder.began(span)

    @property
    def trace_id(self) -> str:
        """The trace id, 32 hexadecimal characters."""
        return self._span.ids[:32]

    @property
    def response_header(self) -> tuple[str, str] | None:
        """The header that tells the trace id to the caller, where one was asked for."""
        name = self._options.response_header
        return None if name is None else (name, self._span.ids[:32])

    def activate(self) -> Activation:
        """Return a context manager that runs code inside the request; it may be entered again and again."""
        return Activation(self._recorder.variable, self._scope)

    def set_route(self, route: str | None) -> None:
        """Set the matched route's template."""
        self.route = route or None

    def set_status(self, status: int) -> None:
        """Set the response status; the first one was sent, so it stays."""
        if self.status is None:
            self.status = status

    def set_input(self, value: Any) -> None:
        """Set what the request asked; without it the first event's input is taken."""
        self._span.input = self._recorder.frozen(value)

    def set_output(self, value: Any) -> None:
        """Set what was answered; without it the last event's output is taken."""
        self._span.output = self._recorder.frozen(value)

    def set_attribute(self, name: str, value: AttributeValue) -> None:
        """Set a span attribute by its final name."""
        self._attributes[name] = value

    def fail(self, error: BaseException) -> None:
        """Note the exception that ended the request; the first one counts, and it is not kept."""
        if self._error is None and self._outcome is None:
            outcome, failure = outcome_of(error)
            self._outcome, self._error = outcome, failure

    def cancel(self) -> None:
        """Note that the client went away; that is no error."""
        if self._error is None:
            self._outcome = "cancelled"

    def chunk(self, size: int) -> None:
        """Note that a piece of a streamed body went out."""
        now = time.perf_counter()
        if self._chunks == 0:
            self._first = now
        else:
            self._stall = max(self._stall, now - self._last)
        self._last = now
        self._chunks += 1
        self._size += size

    def stream(self, chunks: Iterable[Any]) -> Generator[Any]:
        """Step a streamed body inside the request, and finish with it."""
        return steps(iter(chunks), _Streamed(self))

    def astream(self, chunks: AsyncIterator[Any]) -> AsyncGenerator[Any]:
        """Step an async streamed body inside the request, and finish with it."""
        return asteps(chunks, _Streamed(self))

    def finish(self) -> None:
        """Record the request; a second call changes nothing, whatever thread it comes from."""
        span, recorder = self._span, self._recorder
        if span.finished:
            return
        try:
            self._ask()
            span.ask = None
            properties = self._hooked("properties", self._options.properties)
            if properties is not None:
                recorder.update(span, None, None, properties)
            self._describe()
            if self._options.record == "tracked" and not self._tracked():
                recorder.forgo(span)
                return
            if self._error is None and self._outcome is None and self.status is not None and self.status >= 500:
                self._error, self._outcome = (str(self.status), None), "failure"
            recorder.finish(span, self._outcome, self._error)
        except Exception:
            recorder.own_error()

    def _tracked(self) -> bool:
        span, identity = self._span, self._span.holder.identity
        known = identity.user_id is not None or identity.convo_id is not None
        return span.has_children or known or self._error is not None or (self.status or 0) >= 500

    def _describe(self) -> None:
        attributes: dict[str, AttributeValue] = {semconv.HTTP_REQUEST_METHOD: self._method}
        if self._method == "_OTHER":
            attributes[semconv.HTTP_REQUEST_METHOD_ORIGINAL] = str(self._info.method)[:100]
        if self.route is not None:
            attributes[semconv.HTTP_ROUTE] = self.route
        if self.status is not None:
            attributes[semconv.HTTP_RESPONSE_STATUS_CODE] = self.status
        attributes[semconv.URL_SCHEME] = self._info.scheme
        if self._chunks:
            attributes[semconv.STREAM_CHUNKS] = self._chunks
            attributes[semconv.STREAM_BYTES] = self._size
            attributes[semconv.STREAM_TIME_TO_FIRST_BYTE] = self._first - self._started
            attributes[semconv.STREAM_LONGEST_STALL] = self._stall
        attributes.update(self._attributes)
        self._span.set(attributes=attributes, host_attributes=self._captured_headers() or None)
        self._span.name = self._name()

    def _name(self) -> str:
        event = self._options.event
        if event is not None:
            name = event if isinstance(event, str) else self._hooked("event", event)
            if name:
                return self._recorder.name(name)
        method = "HTTP" if self._method == "_OTHER" else self._method
        return method if self.route is None else f"{method} {self.route}"

    def _captured_headers(self) -> Mapping[str, AttributeValue]:
        found: dict[str, AttributeValue] = {}
        for name in self._options.capture_headers:
            value = self._header(name.lower())
            if value is not None:
                found[f"{semconv.HTTP_REQUEST_HEADER}.{name.lower()}"] = value[:_HEADER_LENGTH]
        return found

    def _header(self, name: str) -> str | None:
        try:
            return self._info.header(name)
        except Exception:
            return None

    def _caller(self) -> SpanContext | None:
        """Return the caller's span, so that the two traces can be told to belong together; it decides nothing."""
        match = _TRACEPARENT.fullmatch((self._header("traceparent") or "")[:200])
        if match is None or not match[1].strip("0") or not match[2].strip("0"):
            return None
        return SpanContext(int(match[1], 16), int(match[2], 16), True, TraceFlags(int(match[3], 16) & 1))

    def _ask(self) -> None:
        """Ask the hooks for what is still unknown of user and conversation."""
        identity = self._span.holder.identity
        user_id = convo_id = None
        if identity.user_id is None:
            user_id = self._hooked("user_id", self._options.user_id)
        if identity.convo_id is None:
            convo_id = self._hooked("convo_id", self._options.convo_id)
            if convo_id is None and self._options.convo_header is not None:
                value = (self._header(self._options.convo_header.lower()) or "").strip()
                convo_id = value if _CONVO_HEADER.fullmatch(value) else None
        if user_id is not None or convo_id is not None:
            self._recorder.update_identity([self._span.holder], user_id, convo_id)

    def _hooked(self, name: str, hook: Hook | None) -> Any:
        return None if hook is None else guarded(name, hook, self._info.request, self._tracker)


class _Streamed:
    """Follows the body of a streamed response."""

    def __init__(self, root: RequestRoot) -> None:
        self._root = root

    def start(self) -> Activation:
        return self._root.activate()

    def item(self, item: Any) -> None:
        self._root.chunk(len(item) if hasattr(item, "__len__") else 0)

    def end(self, error: BaseException | None) -> None:
        if isinstance(error, GeneratorExit):
            self._root.cancel()
        elif error is not None:
            self._root.fail(error)
        self._root.finish()
