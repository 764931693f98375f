"""The root span of one request."""

# What a user passes is checked at run time, whatever its annotation says:
# pyright: reportUnnecessaryIsInstance=false

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from threading import get_ident
from time import time_ns
from types import MappingProxyType
from typing import Any, Final
from weakref import ref

from rootspan import semconv
from rootspan.adapter.body import Body
from rootspan.adapter.request_options import RequestInfo, RequestOptions
from rootspan.adapter.request_scope import RequestScope
from rootspan.adapter.sender import sender_convo, sender_ids
from rootspan.adapter.streamed import AsyncBody, WholeBody
from rootspan.adapter.traffic import Traffic
from rootspan.arguments import outcome_of
from rootspan.functions import asteps
from rootspan.open_span import BELOW
from rootspan.record import AttributeValue, Kind, Served
from rootspan.recorder import Recorder
from rootspan.scope import inside

__all__ = ["RequestRoot"]

_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "QUERY", "WEBSOCKET"}
)
_REQUEST: Final = Kind.REQUEST
_INTERNAL_ERROR: Final = 1011  # close codes of RFC 6455
_VANISHED: Final = frozenset({1006, 1012, 1013})  # without a close frame; because the server restarts


class RequestRoot(RequestScope):
    """The root span of one request, from its start to the last byte of its answer; no method of it raises.

    Attributes:
        request_body: takes what the app reads, piece by piece; None where bodies are not looked at.
        response_body: takes what it sends, likewise; it has to be told the response's headers first.
        wants_headers: whether `set_response_headers` has anything to do, for adapters that save a call.
        response_header: the header that tells the trace id to the sender, where one was asked for.
        route: the matched route's template.
        status: the status that was sent.
    """

    # Defaults of the class, so that opening a root sets only what it has.
    request_body: Body | None = None
    response_body: Body | None = None
    wants_headers = False
    response_header: tuple[str, str] | None = None
    route: str | None = None
    status: int | None = None
    _attributes: Mapping[str, AttributeValue] = {}  # never changed, only replaced
    _asking: int | None = None  # the thread that asks the hooks
    _broken = False
    _ended: int | None = None
    _error: tuple[str | None, str | None] | None = None
    _outcome: str | None = None
    _traffic: Traffic | None = None  # most answers are no stream
    _rare = False  # whether there is something to tell that most requests do not have

    def __init__(self, info: RequestInfo, options: RequestOptions, recorder: Recorder) -> None:
        method = info.method
        if method not in _METHODS:
            self.set_attribute(semconv.HTTP_REQUEST_METHOD_ORIGINAL, str(method)[:100])
            method = "_OTHER"
        self._info = info
        self._options = options
        self._recorder = recorder
        self._method = method
        self._span = span = recorder.start(_REQUEST, method)
        span.adopts = True
        self._scope = inside(span)
        if options.asks:
            span.ask = partial(_ask, ref(self))  # open spans are kept; what nobody finishes must not stay for that
        if options.more:
            self._prepare()
        if options.record == "all":
            if options.links and (traceparent := info.find_header("traceparent")) is not None:
                self._link(traceparent)
            if recorder.queue.spools:
                recorder.began(span)

    @property
    def trace_id(self) -> str:
        """The trace id, 32 hexadecimal characters."""
        self._span.told = True
        return self._span.ids[:32]

    @property
    def finished(self) -> bool:
        """Whether it is over."""
        return self._span.finished

    def identify(self) -> None:
        """Ask the hooks for what is still unknown of user and conversation, while the framework can tell.

        `finish` does so too, and so does the first child.
        """
        span, thread, recorder, options = self._span, get_ident(), self._recorder, self._options
        if span.finished or self._asking == thread:  # a hook tracks something
            return
        self._asking = thread
        try:
            known, user_id, convo_id = span.holder.identity, None, None
            if known.user_id is None and options.user_id is not None:
                user_id = recorder.asked("hook", "user_id", options.user_id, self._info.request)
            if known.convo_id is None and options.convo_id is not None:
                convo_id = recorder.asked("hook", "convo_id", options.convo_id, self._info.request)
            if known.convo_id is None and convo_id is None and options.convo_header is not None:
                convo_id = sender_convo(self._info.find_header(options.convo_header.lower()))
            if user_id is not None or convo_id is not None:
                recorder.update_identity([span.holder], user_id, convo_id)
        finally:
            self._asking = None

    def first_child(self) -> None:
        """Ask the hooks before it starts, and not before the next ones; what is not known then is asked at the end."""
        if self._span.has_children:
            self._span.ask = None
        else:  # once more where it was none: who only looks where the code is may do so long before the login
            self.identify()

    def set_route(self, route: str | None) -> None:
        """Set the matched route's template; what is no text is none, for a framework's routes may be its user's."""
        self.route = route if isinstance(route, str) and route else None

    def set_status(self, status: int) -> None:
        """Set the response status; the first one was sent, so it stays."""
        if self.status is None and isinstance(status, int):
            self.status = int(status)
            if status >= 500:
                self._rare = True

    def set_input(self, value: Any) -> None:
        """Set what the request asked; without it the input of the first interaction or event is taken."""
        self._span.input = self._recorder.frozen(value)

    def set_output(self, value: Any) -> None:
        """Set what was answered; without it the output of the last interaction or event is taken."""
        self._span.output = self._recorder.frozen(value)

    def set_attribute(self, name: str, value: AttributeValue) -> None:
        """Set a span attribute by its final name."""
        self._attributes = {**self._attributes, name: value}
        self._rare = True

    def fail(self, error: BaseException) -> None:
        """Note the exception that ended the request; the first one counts, and it is not kept."""
        if self._error is None and self._outcome is None:
            self._outcome, self._error = outcome_of(error)
            self._broken = isinstance(error, Exception)
            self._rare = True

    def cancel(self) -> None:
        """Note that the client went away before the end; that is no error."""
        if self._error is None and self._ended is None:
            self._outcome = "cancelled"

    def read(self, body: Any) -> None:
        """Note a piece of the request's body that the app has read."""
        if self.request_body is not None:
            self.request_body.feed(body)

    def set_response_headers(self, header: Callable[[str], str | None]) -> Sequence[tuple[str, str]]:
        """Tell what the response says of itself, before the first piece of its body.

        Args:
            header: returns a response header by its lower-case name, or None.

        Returns:
            The headers to add to it: one that tells the trace id, where one is asked for and the app sets none.
        """
        if self.response_body is not None:
            self.response_body.set_headers(header)
        told = self.response_header
        try:
            return () if told is None or header(told[0].lower()) is not None else (told,)
        except Exception:  # a framework may have any headers
            return ()

    def write(self, body: Any, more: bool = True) -> None:
        """Note a piece of the response's body; it is measured as a stream unless the first piece is the whole.

        Args:
            body: `bytes`, anything like it, or `str`.
            more: whether another piece follows.
        """
        if more or self._traffic is not None:
            (self._traffic or self._passing()).write(body)
        if self.response_body is not None:
            self.response_body.feed(body)

    def message_received(self, data: str | bytes) -> None:
        """Count a message of a WebSocket's client."""
        (self._traffic or self._passing()).received.add(data)

    def message_sent(self, data: str | bytes) -> None:
        """Count a message to a WebSocket's client."""
        (self._traffic or self._passing()).sent.add(data)

    def close(self, code: int) -> None:
        """Note that a WebSocket closed, or was refused before it was accepted; both end it.

        Args:
            code: the close code of RFC 6455; 1011 is a failure, one that says that the other end vanished is not.
        """
        if self.status is None:
            self.set_status(403)
        elif self.status == 101:
            self.set_attribute(semconv.WEBSOCKET_CLOSE_CODE, code)
            if code == _INTERNAL_ERROR:
                self._fail_as(str(code))
            elif code in _VANISHED:
                self.cancel()
        self.end()

    def end(self) -> None:
        """Note that the last byte went out now, where `finish` can only come later; the first call counts."""
        if self._ended is None:
            self._ended = time_ns()

    def stream(self, chunks: Iterable[Any]) -> WholeBody:
        """Return a streamed body that is stepped inside the request and finishes it, with a `close` for the server."""
        return WholeBody(chunks, self)

    def astream(self, chunks: AsyncIterable[Any]) -> AsyncGenerator[Any]:
        """Step an async streamed body inside the request, and finish with it."""
        return asteps(chunks, AsyncBody(self))

    def finish(self) -> None:
        """Record the request; a second call changes nothing, whatever thread it comes from."""
        span, recorder = self._span, self._recorder
        if span.finished:
            return
        try:
            end = self._ended
            if end is None:
                end = self._ended = time_ns()  # before the hooks, whatever they take
            if self._options.asks:
                span.ask = None
                self.identify()
            rare = self._rare or self._options.more
            if rare and not self._conclude():
                recorder.forgo(span)
                return
            name, fields = _usual(
                self._method, self.route, self.status, self._info.scheme, span.has_children, span.usage_below
            )
            if rare or span.fields is not None:
                name, fields = self._described(name, fields)
            span.name, span.fields = name, fields
            recorder.finish(span, self._outcome, self._error, end)
        except Exception:
            recorder.own_error()
        finally:
            self._info = _OVER  # the framework's request may lead back to this root

    def _prepare(self) -> None:
        """Set up what few applications ask for."""
        options = self._options
        if (limit := options.body_limit) and self._recorder.settings.capture_content:
            self.request_body, self.response_body = Body(limit), Body(limit)
            self.request_body.set_headers(self._info.find_header)
        if options.response_header is not None:
            self.response_header = (options.response_header, self._span.ids[:32])
        self.wants_headers = self.response_body is not None or self.response_header is not None

    def _conclude(self) -> bool:
        """Work out what most requests do not have; return whether the request is to be recorded at all."""
        options = self._options
        if self._broken:
            self.set_status(500)  # what a server answers for an exception, unless something else went out
        if self.status is not None and self.status >= 500:
            self._fail_as(str(self.status))
        if options.record == "tracked":
            if not self._tracked():
                return False
            if options.links and (traceparent := self._info.find_header("traceparent")) is not None:
                self._link(traceparent)
        if options.properties is not None:
            said = self._recorder.asked("hook", "properties", options.properties, self._info.request)
            self._recorder.update(self._span, None, None, said)
        if options.body_limit:
            self._read_bodies()
        return True

    def _passing(self) -> Traffic:
        self._traffic = Traffic(self._span.start)
        self._rare = True
        return self._traffic

    def __del__(self) -> None:
        try:
            # Nobody ended it; one that a framework's context names is ended by what follows it there.
            if not self._span.finished and self._look_up is None:
                self._recorder.finish(self._span, "unfinished")
        except Exception:  # the interpreter may be half gone, or it never came to be
            return

    def _fail_as(self, kind: str) -> None:
        """Note a failure that no exception tells of, by its type; the first one counts."""
        if self._error is None and self._outcome is None:
            self._outcome, self._error = "failure", (kind, None)

    def _tracked(self) -> bool:
        span, identity = self._span, self._span.holder.identity
        said = (self._error, span.input, span.output, span.properties, span.model, identity.user_id, identity.convo_id)
        return span.has_children or span.told or any(one is not None for one in said)

    def _link(self, traceparent: str) -> None:
        """Link the span that the sender's `traceparent` names, if it names one."""
        sender = sender_ids(traceparent)
        if sender is not None and self._span.link is not None:  # a host span is active as well
            self._span.set(links=(sender,))
        elif sender is not None:
            self._span.link = sender

    def _read_bodies(self) -> None:
        """Take input and output from the bodies where neither the app nor an event inside says them."""
        span = self._span
        if self.request_body is not None and span.input is None and span.first_input is None:
            self.set_input(self.request_body.asked())
        if self.response_body is not None and span.output is None and span.last_output is None:
            self.set_output(self.response_body.answered())

    def _described(self, name: str, fields: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """Return name and fields with what most requests do not have."""
        more = self._attributes
        if self._traffic is not None:
            more = {**self._traffic.attributes(), **more}
        if more:
            fields = {**fields, "attributes": more}
        span, options = self._span, self._options
        if (event := options.event) is not None:
            asked = self._recorder.asked
            said = event if isinstance(event, str) else asked("hook", "event", event, self._info.request)
            if asked("hook", "event", bool, said):  # what a host returns may have no truth
                name = self._recorder.name(said)
        if options.more and (outside := options.caller_attributes(self._info)):
            fields = {**fields, "host_attributes": outside}
        return name, {**span.fields, **fields} if span.fields else fields


_OVER: Final = RequestInfo(None, "", "")


def _ask(root: ref[RequestRoot]) -> None:
    alive = root()
    if alive is not None:
        alive.first_child()


@lru_cache(maxsize=4_096)  # most requests are like the one before; what they share need not be kept for each
def _usual(
    method: str, route: str | None, status: int | None, scheme: str, has_children: bool, usage_below: int
) -> tuple[str, Mapping[str, Any]]:
    """Return the name and the fields of a request that has nothing more to tell; they are never changed."""
    fields = {"request": Served(method, route, status, scheme), **(BELOW[usage_below] if has_children else {})}
    method = "HTTP" if method == "_OTHER" else method
    return method if route is None else f"{method} {route}", MappingProxyType(fields)
