"""`rootspan check`: one test event with the current configuration, and in plain words what became of it."""

from __future__ import annotations

import os
import secrets
import socket
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from tempfile import TemporaryFile
from typing import Final, NamedTuple, TextIO
from urllib.parse import urlsplit

from rootspan import semconv
from rootspan.errors import ConfigurationError
from rootspan.record import SpanData
from rootspan.settings import OPTIONS, Settings, Sources, is_loopback, resolve
from rootspan.spool import default_directory
from rootspan.transport import Transport
from rootspan.transport.answer import Answer, Outcome
from rootspan.transport.delivery import Delivery
from rootspan_ui.terminal import Screen
from rootspan_ui.text import clean

__all__ = ["by_option", "check", "variables"]

_FLAGS: Final = {"ROOTSPAN_ENDPOINT": "--endpoint", "ROOTSPAN_API_KEY": "--api-key"}
_IN_CODE: Final = "the app's own configuration"
_EVENT: Final = "rootspan_check"
_INDENT: Final = "\n  "


class _Verdict(NamedTuple):
    """What happened, and the lines that fix it."""

    said: str
    fix: str = ""
    good: bool = False


class _Way(NamedTuple):
    """Where the event goes, as a person would name it."""

    settings: Settings
    endpoint_source: str
    key_source: str

    @property
    def host(self) -> str:
        return urlsplit(self.settings.endpoint).netloc

    @property
    def name(self) -> str:
        return urlsplit(self.settings.endpoint).hostname or ""

    @property
    def names_endpoint(self) -> str:
        return self.endpoint_source or "ROOTSPAN_ENDPOINT"


def check(
    endpoint: str | None = None,
    api_key: str | None = None,
    out: TextIO | None = None,
    settings: Settings | None = None,
) -> int:
    """Send one test event and say what happened.

    Args:
        endpoint: used in place of `ROOTSPAN_ENDPOINT`.
        api_key: used in place of `ROOTSPAN_API_KEY`.
        out: where to print; standard output by default.
        settings: those that an app has, in place of all the above.

    Returns:
        The exit status: 0 when the event was accepted, 1 when it was not, 2 when the configuration is wrong.
    """
    screen = Screen(out or sys.stdout)
    given = variables(endpoint, api_key)
    try:
        way = _way({**os.environ, **given}, given) if settings is None else _way_of(settings)
    except ConfigurationError as error:
        _say(screen, _Verdict(by_option(error, given)))
        return 2
    if api_key:
        screen.say(
            "Note: others can read a key on a command line, and the shell keeps it. Set ROOTSPAN_API_KEY instead.\n"
        )
    verdict = _not_sent(way, settings is not None)
    if verdict is None:
        _introduce(screen, way)
        for said, fix in _notes(way.settings):
            screen.say(f"Note: {clean(said, screen.unicode)}\n  Fix: {clean(fix, screen.unicode)}\n")
        verdict = _sent(way)
    _say(screen, verdict)
    return 0 if verdict.good else 1


def variables(endpoint: str | None, api_key: str | None) -> dict[str, str]:
    """The environment that a command's options stand for."""
    given = {"ROOTSPAN_ENDPOINT": endpoint, "ROOTSPAN_API_KEY": api_key}
    return {name: value for name, value in given.items() if value}


def by_option(error: ConfigurationError, given: Mapping[str, str]) -> str:
    """What is wrong, told of the options and not of the variables that they stand for, which nobody has set."""
    said = str(error)
    for name in given:
        said = said.replace(name, _FLAGS[name])
    return said


def _way(environ: Mapping[str, str], given: Mapping[str, str]) -> _Way:
    settings = resolve(environ)
    sources = Sources({}, environ)
    endpoint, key = sources.find("endpoint").source, sources.find("api_key").source
    return _Way(settings, *(_FLAGS[name] if name in given else name for name in (endpoint, key)))


def _way_of(settings: Settings) -> _Way:
    """Where an app's event goes: what the environment gives nobody has to look for in the code."""
    try:
        given = _way(os.environ, {})
    except ConfigurationError:  # of what the app itself overrules
        return _Way(settings, _IN_CODE, _IN_CODE)
    same_endpoint = given.settings.endpoint == settings.endpoint
    same_key = given.settings.api_key == settings.api_key
    return _Way(
        settings, given.endpoint_source if same_endpoint else _IN_CODE, given.key_source if same_key else _IN_CODE
    )


def _introduce(screen: Screen, way: _Way) -> None:
    settings = way.settings
    base, asks, _ = settings.endpoint.partition("?")
    address = base + ("?***" if asks else "")  # a query may hold a secret
    screen.say(f"endpoint  {address}  ({way.endpoint_source or 'the default'})")
    key = f"{settings.api_key!r}  ({way.key_source})" if settings.api_key else "none"
    screen.say(f"key       {key}")
    if settings.headers:
        screen.say(f"headers   {', '.join(sorted(settings.headers))}  (values not shown)")
    screen.say(f"protocol  {settings.protocol}, {settings.compression}")
    screen.say(f"service   {clean(settings.service_name or 'not named', screen.unicode)}")
    screen.say()


def _notes(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield what keeps other events from arriving, though not this one, each with what fixes it."""
    if settings.sample_rate < 1.0:
        said = f"{100 * settings.sample_rate:.4g} % of an app's traces are sent; this event is, in any case."
        yield said, "unset ROOTSPAN_SAMPLE_RATE, or sample_rate= in the app, to send all of them"
    if settings.spool:
        directory = settings.spool if isinstance(settings.spool, str) else default_directory()
        try:
            os.makedirs(directory, 0o700, exist_ok=True)
            TemporaryFile(dir=directory).close()
        except OSError as error:
            said = f"Nothing can be written to the spool {directory} ({error.strerror}); events wait in memory only."
            yield said, "let this user write there, or set ROOTSPAN_SPOOL to a directory where it may"
    known = [name.upper() for name, option in OPTIONS.items() if option.parse is not None]
    for name in sorted(name.removeprefix("ROOTSPAN_") for name in os.environ if name.startswith("ROOTSPAN_")):
        if name not in known:
            near = get_close_matches(name, known, 1)
            fix = f"write ROOTSPAN_{near[0]}" if near else f"unset ROOTSPAN_{name}"
            yield f"ROOTSPAN_{name} is set, and nothing reads it.", fix


def _say(screen: Screen, verdict: _Verdict) -> None:
    lines = [clean(line, screen.unicode) for line in verdict.said.splitlines()]
    screen.say(f"{screen.mark(verdict.good)} {_INDENT.join(lines)}")
    if verdict.fix:
        screen.say(f"  Fix: {(_INDENT + '     ').join(verdict.fix.splitlines())}")


def _not_sent(way: _Way, in_code: bool) -> _Verdict | None:
    """Return why the configuration lets nothing be sent, None if it does."""
    settings = way.settings
    if settings.disabled:
        place = f"ROOTSPAN_DISABLED, or disabled= in {_IN_CODE}" if in_code else "ROOTSPAN_DISABLED"
        return _Verdict(f"rootspan is switched off by {place}; nothing was sent.", f"unset {place}")
    if not settings.otlp:
        return _Verdict("exporters= take the place of OTLP, so there is no endpoint to check.", "pass endpoint= too")
    return None if settings.hold is None else _Verdict(settings.hold)


def _sent(way: _Way) -> _Verdict:
    """Send one event and return what became of it."""
    settings = way.settings
    transport = Transport(settings)
    started = time.perf_counter()
    body, trace_id = _test_event(settings)
    answer = transport.send(body)
    transport.close()
    if answer.outcome == Outcome.DELIVERED:
        return _accepted(way, answer, trace_id, (time.perf_counter() - started) * 1_000)
    return _unanswered(way, answer) if answer.status is None else _answered(way, answer, answer.status)


def _test_event(settings: Settings) -> tuple[bytes, str]:
    """Return a request body with one span, and the id of its trace."""
    trace_id, now = secrets.token_hex(16), time.time_ns()
    attributes = {semconv.INPUT_VALUE: "a test event", semconv.OUTPUT_VALUE: "sent by `rootspan check`"}
    encoder = Delivery(settings).encoder
    span = SpanData(trace_id, secrets.token_hex(8), None, _EVENT, 1, now, now, attributes)
    return encoder.batch([encoder.span(span)]), trace_id


def _accepted(way: _Way, answer: Answer, trace_id: str, milliseconds: float) -> _Verdict:
    words = f"\nIt says: {answer.detail}" if answer.detail else ""
    if answer.rejected:
        said = f"{way.host} answered HTTP {answer.status}, but rejected the event.{words}"
        return _Verdict(said, "what it says, or its log, tells why; the account behind the key may be the wrong one")
    said = f"Accepted by {way.host}: HTTP {answer.status} in {milliseconds:.0f} ms.{words}"
    return _Verdict(f"{said}\nLook there for the event {_EVENT}, trace {trace_id}.", good=True)


def _unanswered(way: _Way, answer: Answer) -> _Verdict:
    """What to make of an attempt that came to no HTTP answer."""
    detail, host, cause = answer.detail, way.host, answer.cause or Exception
    if answer.outcome == Outcome.HOLD:  # a proxy that is not spoken here; the words name the fix
        return _Verdict(detail)
    if issubclass(cause, ConnectionRefusedError):
        return _nobody(way)
    if issubclass(cause, TimeoutError):
        said = f"{host} took longer than {way.settings.timeout:g} s and did not answer."
        return _Verdict(said, f"check host and port in {way.names_endpoint}, and what a firewall lets through")
    if issubclass(cause, socket.gaierror):
        said = f"The name {way.name} is unknown: it has no address in the DNS.\n({detail})"
        return _Verdict(said, f"check the spelling in {way.names_endpoint}, and this machine's network")
    if issubclass(cause, ssl.SSLCertVerificationError):
        said = f"The certificate of {host} is not trusted, so nothing was sent.\n({detail})"
        return _Verdict(said, "export ROOTSPAN_CERTIFICATE=/path/to/your-authority.pem if it is signed by one of yours")
    if issubclass(cause, ssl.SSLError):
        said = f"No TLS connection to {host}.\n({detail})"
        return _Verdict(said, f"if it speaks plain HTTP, use http:// in {way.names_endpoint}")
    said = f"The connection to {host} broke off without an answer.\n({detail})"
    return _Verdict(said, "is that an OTLP/HTTP receiver, usually port 4318? 4317 is gRPC; one with TLS needs https://")


def _nobody(way: _Way) -> _Verdict:
    said = f"Nobody listens at {way.host}."
    if not is_loopback(way.name):
        return _Verdict(said, f"check host and port in {way.names_endpoint}")
    port = urlsplit(way.settings.endpoint).port
    option = "" if port in (None, 4318) else f" --port {port}"
    return _Verdict(
        said,
        f"run `rootspan tail{option}` in another terminal, which receives and shows events there,\n"
        "or set ROOTSPAN_ENDPOINT to your collector, such as https://collector.example.com",
    )


def _answered(way: _Way, answer: Answer, status: int) -> _Verdict:
    """What to make of an HTTP answer that is no acceptance."""
    said, host = answer.detail, way.host
    if status in (401, 403):
        return _not_let_in(way, said)
    if status in (404, 405):
        said = f"{host} has nothing that takes traces at this path ({said})."
        if way.names_endpoint == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":  # taken as it is, as its specification says
            return _Verdict(said, f"set {way.names_endpoint} to the whole URL, which ends in /v1/traces")
        return _Verdict(
            said, f"set {way.names_endpoint} to the base URL of an OTLP receiver; /v1/traces is added to it"
        )
    if status == 407:
        return _Verdict(
            f"A proxy on the way wants a login ({said}).", "check HTTPS_PROXY, or name the host in NO_PROXY"
        )
    if status == 415:
        other = "http/protobuf" if way.settings.protocol == "http/json" else "http/json"
        said = f"{host} does not take {way.settings.protocol} ({said})."
        return _Verdict(said, f"export ROOTSPAN_PROTOCOL={other}")
    if 300 <= status < 400:
        return _Verdict(f"{host}: {said}.", f"set {way.names_endpoint} to the address that it leads to")
    if answer.outcome == Outcome.HOLD:
        return _Verdict(f"{host} answered something else than OTLP ({said}).", f"check {way.names_endpoint}")
    if answer.outcome == Outcome.RETRY:
        again = "later" if answer.retry_after is None else f"in {answer.retry_after:.0f} s"
        said = f"{host} is there, but takes nothing for now ({said}). Events would be kept and sent again."
        return _Verdict(said, f"try again {again}; if it stays so, its log tells why")
    return _Verdict(f"{host} refused the event for good ({said}).", "its log tells why; is it an OTLP/HTTP receiver?")


def _not_let_in(way: _Way, said: str) -> _Verdict:
    settings = way.settings
    if settings.api_key is not None:
        said = f"{way.host} does not accept the key {settings.api_key!r} from {way.key_source} ({said})."
        return _Verdict(said, f"export ROOTSPAN_API_KEY=... with a key that belongs to {way.name}")
    if names := ", ".join(settings.headers.secrets):
        return _Verdict(f"{way.host} does not accept the header {names} ({said}).", "check its value, or its scheme")
    return _Verdict(f"{way.host} wants a key, and none is set ({said}).", "export ROOTSPAN_API_KEY=...")
