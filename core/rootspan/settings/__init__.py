"""Turns arguments and environment variables into one checked, immutable `Settings`, without touching the network."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from urllib.parse import SplitResult, urlsplit, urlunsplit

from rootspan.errors import fail, meant
from rootspan.settings import options
from rootspan.settings.credentials import Headers, SecretKey
from rootspan.settings.options import Option, checked

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from rootspan.record import AttributeValue

__all__ = ["DEFAULT_ENDPOINT", "OPTIONS", "Settings", "Sources", "is_loopback", "resolve"]

DEFAULT_ENDPOINT: Final = "http://localhost:4318/v1/traces"
_OTLP: Final = "OTEL_EXPORTER_OTLP_"
Getter: TypeAlias = "Callable[[], Any]"


def _option(default: Any, kind: Option, *otel: str) -> Any:
    """Return a field of `Settings` that arguments and the environment set.

    Args:
        default: what holds where nobody sets it.
        kind: what it has to be.
        *otel: OpenTelemetry's own variables for it, the one that wins first.
    """
    return field(default_factory=lambda: default, metadata={"option": kind._replace(otel=otel)})


def _otlp(name: str) -> tuple[str, str]:
    return f"{_OTLP}TRACES_{name}", f"{_OTLP}{name}"


def _limit(name: str) -> tuple[str, str]:
    return f"OTEL_SPAN_ATTRIBUTE_{name}_LIMIT", f"OTEL_ATTRIBUTE_{name}_LIMIT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything one tracker is configured with, checked; made by `resolve`."""

    endpoint: str = _option(DEFAULT_ENDPOINT, options.URL, *_otlp("ENDPOINT"))  # the full URL that traces go to
    api_key: SecretKey | None = _option(None, options.KEY)
    headers: Headers = _option(Headers(), options.HEADERS, *_otlp("HEADERS"))  # without that of `api_key`
    insecure: bool = _option(False, options.FLAG)
    protocol: str = _option("http/protobuf", options.PROTOCOL, *_otlp("PROTOCOL"))
    compression: str = _option("gzip", options.COMPRESSION, *_otlp("COMPRESSION"))
    timeout: float = _option(10.0, options.TIMEOUT, *_otlp("TIMEOUT"))  # for one whole request
    certificate: str | None = _option(None, options.FILE, *_otlp("CERTIFICATE"))  # of the CA
    client_certificate: str | None = _option(None, options.FILE, *_otlp("CLIENT_CERTIFICATE"))
    client_key: str | None = _option(None, options.FILE, *_otlp("CLIENT_KEY"))
    exporters: tuple[SpanExporter, ...] = _option((), options.EXPORTERS)
    service_name: str | None = _option(None, options.NAME, "OTEL_SERVICE_NAME")  # the resource may name it, too
    service_version: str | None = _option(None, options.NAME)
    environment: str | None = _option(None, options.NAME)
    user_id: str | Getter | None = _option(None, options.WHO)
    convo_id: str | Getter | None = _option(None, options.WHO)
    agent_name: str | Getter | None = _option(None, options.AGENT)
    tags: tuple[str, ...] | Getter = _option((), options.TAGS)
    properties: Mapping[str, Any] | Getter | None = _option(None, options.PROPERTIES)
    sample_rate: float = _option(1.0, options.SHARE)
    disabled: bool = _option(False, options.FLAG)
    extras: frozenset[str] = _option(frozenset(), options.SOME_EXTRAS)
    capture_content: bool = _option(True, options.FLAG)
    redact: Callable[[str, Any], Any] | None = _option(None, options.FUNCTION)
    redact_text: bool = _option(True, options.FLAG)
    redact_pii: frozenset[str] = _option(frozenset(), options.SOME_PII)
    redact_keys: frozenset[str] = _option(frozenset(), options.KEY_WORDS)
    max_content_length: int = _option(1_048_576, options.WHOLE)  # characters of one value
    max_queue_bytes: int = _option(32 << 20, options.WHOLE)
    spool: bool | str | None = _option(None, options.SPOOL)  # True for the default directory
    spool_max_bytes: int = _option(512 << 20, options.SPOOL_BYTES)
    fsync: bool = _option(False, options.FLAG)  # wait for the disk after each record
    max_open_sessions: int = _option(10_000, options.WHOLE)
    session_timeout: float = _option(3600.0, options.SECONDS)
    attribute_length_limit: int | None = _option(None, options.LIMIT, *_limit("VALUE_LENGTH"))
    attribute_count_limit: int | None = _option(None, options.LIMIT, *_limit("COUNT"))
    event_count_limit: int | None = _option(None, options.LIMIT, "OTEL_SPAN_EVENT_COUNT_LIMIT")
    link_count_limit: int | None = _option(None, options.LIMIT, "OTEL_SPAN_LINK_COUNT_LIMIT")
    on_loss: Callable[[str, int], object] | None = _option(None, options.FUNCTION)
    flush_interval: float = _option(0.2, options.SECONDS)
    batch_size: int = _option(512, options.WHOLE)

    # What `resolve` makes of several of them
    endpoint_chosen: bool = False
    otlp: bool = True  # False when `exporters` replace it
    hold: str | None = None  # why nothing may be sent, with the line that fixes it; the data are kept
    resource_attributes: Mapping[str, AttributeValue] = field(default_factory=dict[str, "AttributeValue"])

    @property
    def fingerprint(self) -> str:
        """64 hex characters that stand for key and endpoint, from which neither can be read."""
        import hashlib  # not with `import rootspan`: it loads OpenSSL

        key = self.api_key.reveal() if self.api_key else ""
        secrets = sorted(self.headers.secrets.items())
        parts = ["rootspan", self.endpoint, key, *(part for pair in secrets for part in pair)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def unchosen(self) -> bool:
        """Whether nobody said that anybody listens: no endpoint is named, and nothing to show to one."""
        return self.otlp and not (self.endpoint_chosen or self.api_key or self.headers)

    def gaps(self) -> Iterator[tuple[str, str]]:
        """Yield what production would miss, each with the line that fixes it."""
        host = urlsplit(self.endpoint).hostname or ""
        if self.disabled or not self.otlp:
            return
        if not self.endpoint_chosen:
            yield "No endpoint is set; events go to this machine.", "set endpoint= or ROOTSPAN_ENDPOINT"
        elif not (self.api_key or self.headers.secrets or is_loopback(host)):
            yield f"No key is set for {host}.", "set ROOTSPAN_API_KEY, unless that receiver takes everything"

    def request_headers(self) -> dict[str, str]:
        """Return the headers of one request, the only place where the key leaves its type."""
        headers = dict(self.headers)
        if self.api_key is not None and self.hold is None:
            headers["authorization"] = f"Bearer {self.api_key.reveal()}"
        return headers

    def masked(self, words: str) -> str:
        """Return words in which a server may repeat what it was sent, without key and secret headers."""
        if self.api_key is not None:
            words = words.replace(self.api_key.reveal(), repr(self.api_key))
        for value in filter(None, self.headers.secrets.values()):
            words = words.replace(value, "***").replace(value.partition(" ")[2] or value, "***")
        return words


OPTIONS: Final[Mapping[str, Option]] = {
    setting.name: setting.metadata["option"] for setting in fields(Settings) if "option" in setting.metadata
}
"""What there is to set, by name."""


class Found(NamedTuple):
    """The value of an option and what to call its source; None and empty where nobody gave one."""

    value: Any = None
    source: str = ""


class Sources:
    """Where values come from, in order: arguments, `ROOTSPAN_*`, and the OTLP group unless an endpoint is our own."""

    def __init__(self, arguments: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self._arguments = arguments
        self._environ = environ
        self._own_endpoint = arguments.get("endpoint") is not None or bool(self.text("ROOTSPAN_ENDPOINT"))

    def text(self, variable: str) -> str:
        return self._environ.get(variable, "").strip()

    def find(self, name: str) -> Found:
        """Look an option up."""
        option = OPTIONS[name]
        if (value := self._arguments.get(name)) is not None:
            return Found(checked(f"{name}=", option, option.check, value), f"{name}=")
        for variable in self._variables(name, option):
            # A key is taken as it stands: a line break at its end is a mistake to name, not to hide.
            if text := self._environ.get(variable, "") if name == "api_key" else self.text(variable):
                return Found(checked(variable, option, option.read, text), variable)
        return Found()

    def _variables(self, name: str, option: Option) -> Iterator[str]:
        if option.parse is not None:
            yield f"ROOTSPAN_{name.upper()}"
        yield from (name for name in option.otel if not (self._own_endpoint and name.startswith(_OTLP)))


def resolve(environ: Mapping[str, str], **arguments: Any) -> Settings:
    """Return the settings that the arguments and the environment describe.

    Arguments come first, then `ROOTSPAN_*`, then the `OTEL_EXPORTER_OTLP_*` group, which counts only while neither
    `endpoint=` nor `ROOTSPAN_ENDPOINT` is given: a host's vendor key never travels to another endpoint.

    Args:
        environ: the environment, usually `os.environ`; an empty value counts as none.
        **arguments: any option by its name; None counts as not given.

    Returns:
        Checked, immutable settings.

    Raises:
        ConfigurationError: an option or variable is unknown, of the wrong type or out of range.

    Example:
        >>> resolve({}, endpoint="https://collector.example.com").endpoint
        'https://collector.example.com/v1/traces'
    """
    for name in arguments:
        if name not in OPTIONS:
            fail(f"There is no option {name}=.", meant(name, OPTIONS, "{}="))
    sources = Sources(arguments, environ)
    found = {name: sources.find(name) for name in OPTIONS}
    values = {name: value for name, (value, _) in found.items()}
    values |= _connection(found)
    values |= _resource(sources, found)
    if values["spool"] and values["exporters"]:
        fail(
            "spool= keeps OTLP requests, which exporters= do not take.",
            "leave out spool= (or ROOTSPAN_SPOOL), or send with endpoint= in place of exporters=",
        )
    if values["capture_content"] is None and _genai_content_off(sources):
        values["capture_content"] = False
    return Settings(**{name: value for name, value in values.items() if value is not None})


def _connection(found: Mapping[str, Found]) -> dict[str, Any]:
    if found["exporters"].value and found["endpoint"].source != "endpoint=":
        return {"otlp": False, "endpoint": None, "protocol": None}
    protocol, source = found["protocol"]
    if protocol == "grpc" and not source.startswith("OTEL_"):
        fail(
            f"{source} is 'grpc', which rootspan does not speak by itself.",
            "use protocol='http/protobuf', or exporters=[OTLPSpanExporter()] of opentelemetry-exporter-otlp-proto-grpc",
        )
    if protocol == "grpc":
        hold = (
            f"{source}=grpc: rootspan sends OTLP over HTTP, so nothing is sent and the data are held.\n"
            "Fix: set ROOTSPAN_ENDPOINT to the collector's HTTP address, for example http://localhost:4318."
        )
        return {"hold": hold, "endpoint": None, "endpoint_chosen": True, "protocol": None}
    if protocol is None and "bentolabs" in (found["extras"].value or ()):
        protocol = "http/json"  # the only one that its receiver takes
    _one_authorization(found)
    key = found["client_key"].source
    if key and not found["client_certificate"].value and not key.startswith("OTEL_"):
        fail(f"{key} says nothing without the certificate that it belongs to.", "set client_certificate= as well")
    endpoint = _endpoint(found["endpoint"])
    return {
        "protocol": protocol,
        "endpoint": endpoint,
        "endpoint_chosen": bool(found["endpoint"].source),
        "hold": _insecure(found, endpoint),
    }


def _one_authorization(found: Mapping[str, Found]) -> None:
    key = found["api_key"].source
    headers, source = found["headers"]
    # A header of the OTLP group gives way to the key, as all of that group does.
    if key and headers and "authorization" in headers and not source.startswith("OTEL_"):
        fail(f"{key} and the authorization header in {source} exclude each other.", "leave out one of the two")


def _endpoint(given: Found) -> str:
    """Return the full URL."""
    endpoint, source = given
    if endpoint is None:
        return DEFAULT_ENDPOINT
    url = _split(endpoint, source)
    if source != "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":  # which is used as it is
        path = url.path.rstrip("/")
        url = url._replace(path=path if path.endswith("/v1/traces") else f"{path}/v1/traces")
    return urlunsplit(url)


def _split(text: str, source: str) -> SplitResult:
    example = f"set {source} to a URL such as https://collector.example.com"
    if not text.isascii() or not text.isprintable() or " " in text:
        fail(f"The URL in {source} holds spaces or characters that a URL cannot have.", example)
    try:
        url = urlsplit(text)
        host, _port = url.hostname, url.port
    except ValueError:
        url, host = None, None
    if url is None:
        fail(f"{source} is not a URL: its host or port cannot be read.", example)
    if "@" in url.netloc:
        fail(f"The URL in {source} holds a user name or password.", "move it to api_key= or headers=")
    if url.scheme not in ("http", "https"):
        fail(f"The URL in {source} does not begin with http:// or https://.", example)
    if not host:
        fail(f"The URL in {source} has no host.", example)
    if url.fragment:
        fail(f"The URL in {source} has a fragment (#...).", "leave it out")
    return url


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _insecure(found: Mapping[str, Found], endpoint: str) -> str | None:
    """Return why data must be held; raise when the host itself asked for a key over plain http."""
    url = urlsplit(endpoint)
    if url.scheme == "https" or is_loopback(url.hostname or "") or found["insecure"].value:
        return None
    for name in ("api_key", "headers"):
        value, source = found[name]
        if value is None or (name == "headers" and not value.secrets):
            continue
        what = f"{source} would travel unencrypted to {url.hostname}"
        if source.endswith("="):
            fail(f"{what}.", "use an https:// endpoint, or insecure=True if that network is trusted")
        return (
            f"{what}, so it is withheld and the data are held.\nFix: use an https:// endpoint or ROOTSPAN_INSECURE=1."
        )
    return None


def _detected() -> Mapping[str, Any]:
    """Run the detectors that the host asked for by name; nobody else pays for their threads and look-ups."""
    from opentelemetry.sdk.resources import Resource

    try:
        return Resource.create().attributes
    except Exception:  # for instance at interpreter exit, when no thread can be started
        return {}


def _resource(sources: Sources, found: Mapping[str, Found]) -> dict[str, Any]:
    from opentelemetry.sdk.version import __version__

    given = sources.text("OTEL_RESOURCE_ATTRIBUTES")
    attributes: dict[str, AttributeValue] = {
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": __version__,
        **(_detected() if sources.text("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS") else {}),
        **checked("OTEL_RESOURCE_ATTRIBUTES", options.PAIRS, options.PAIRS.read, given),
    }
    names = {"service_name": "service.name", "service_version": "service.version"}
    for option, key in {**names, "environment": "deployment.environment.name"}.items():
        if (value := found[option].value) is not None:
            attributes[key] = value
    name = attributes.get("service.name") or None
    attributes["service.name"] = name or "unknown_service:python"
    return {"resource_attributes": MappingProxyType(attributes), "service_name": name}


def _genai_content_off(sources: Sources) -> bool:
    said = sources.text("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT").lower()
    return said in ("false", "0", "no", "off", "no_content")
