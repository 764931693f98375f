"""Turns arguments and environment variables into one checked, immutable `Settings`, without touching the network."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import SplitResult, urlsplit, urlunsplit

from rootspan.errors import fail, meant
from rootspan.options import OPTIONS, PAIRS, Sources, checked
from rootspan.secret import SECRET_HEADER, Headers, SecretKey

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from rootspan.record import AttributeValue

__all__ = ["DEFAULT_ENDPOINT", "Settings", "is_loopback", "resolve"]

DEFAULT_ENDPOINT: Final = "http://localhost:4318/v1/traces"
Getter: TypeAlias = "Callable[[], Any]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything one tracker is configured with, checked; made by `resolve`."""

    endpoint: str = DEFAULT_ENDPOINT  # the full URL that traces are posted to
    endpoint_chosen: bool = False
    otlp: bool = True  # False when `exporters` replace it
    hold: str | None = None  # why nothing may be sent, with the line that fixes it; the data are kept
    api_key: SecretKey | None = None
    headers: Headers = field(default_factory=Headers)  # without the authorization made of `api_key`
    insecure: bool = False
    protocol: str = "http/protobuf"  # or "http/json"
    compression: str = "gzip"  # or "none"
    timeout: float = 10.0  # seconds, for one whole request
    certificate: str | None = None  # path of the CA bundle
    client_certificate: str | None = None
    client_key: str | None = None
    exporters: tuple[SpanExporter, ...] = ()
    resource_attributes: Mapping[str, AttributeValue] = field(default_factory=dict[str, "AttributeValue"])
    service_name_chosen: bool = False
    user_id: str | Getter | None = None
    convo_id: str | Getter | None = None
    agent_name: str | Getter | None = None
    tags: tuple[str, ...] | Getter = ()
    properties: Mapping[str, Any] | Getter | None = None
    sample_rate: float = 1.0
    disabled: bool = False
    extras: frozenset[str] = frozenset()
    capture_content: bool = True
    redact: Callable[[str, Any], Any] | None = None
    redact_text: bool = True
    redact_pii: frozenset[str] = frozenset()  # of PII
    redact_keys: frozenset[str] = frozenset()
    max_content_length: int = 1_048_576  # characters of one value
    max_queue_bytes: int = 32 << 20
    spool: bool | str | None = None  # a directory, or True for the default one
    spool_max_bytes: int = 512 << 20
    fsync: bool = False  # wait for the disk after each record
    max_open_sessions: int = 10_000
    session_timeout: float = 3600.0  # seconds
    attribute_length_limit: int | None = None  # characters
    attribute_count_limit: int | None = None  # of one span
    event_count_limit: int | None = None
    link_count_limit: int | None = None
    on_loss: Callable[[str, int], object] | None = None
    flush_interval: float = 0.2  # seconds
    batch_size: int = 512

    @property
    def fingerprint(self) -> str:
        """64 hex characters that stand for key and endpoint, from which neither can be read."""
        import hashlib  # not with `import rootspan`: it loads OpenSSL

        secrets = {name: value for name, value in self.headers.items() if SECRET_HEADER.search(name)}
        key = self.api_key.reveal() if self.api_key else ""
        parts = ["rootspan", self.endpoint, key, *(part for pair in sorted(secrets.items()) for part in pair)]
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
        elif not (self.api_key or any(map(SECRET_HEADER.search, self.headers)) or is_loopback(host)):
            yield f"No key is set for {host}.", "set ROOTSPAN_API_KEY, unless that receiver takes everything"

    def request_headers(self) -> dict[str, str]:
        """Return the headers of one request, the only place where the key leaves its type."""
        headers = dict(self.headers)
        if self.api_key is not None and self.hold is None:
            headers["authorization"] = f"Bearer {self.api_key.reveal()}"
        return headers


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
    values = _plain_values(sources)
    values |= _connection(sources, values)
    values |= _resource(sources)
    if values["spool"] and values["exporters"]:
        fail(
            "spool= keeps OTLP requests, which exporters= do not take.",
            "leave out spool= (or ROOTSPAN_SPOOL), or send with endpoint= in place of exporters=",
        )
    if values.get("capture_content") is None and _genai_content_off(sources):
        values["capture_content"] = False
    return Settings(**{name: value for name, value in values.items() if value is not None})


def _plain_values(sources: Sources) -> dict[str, Any]:
    special = {"endpoint", "protocol", "service_name", "service_version", "environment"}
    return {name: sources.find(name)[0] for name in OPTIONS if name not in special}


def _connection(sources: Sources, values: Mapping[str, Any]) -> dict[str, Any]:
    protocol, protocol_source = sources.find("protocol")
    if values["exporters"] and sources.arguments.get("endpoint") is None:
        return {"otlp": False}
    if protocol == "grpc" and not protocol_source.startswith("OTEL_"):
        fail(
            f"{protocol_source} is 'grpc', which rootspan does not speak by itself.",
            "use protocol='http/protobuf', or exporters=[OTLPSpanExporter()] of opentelemetry-exporter-otlp-proto-grpc",
        )
    if protocol is None and "bentolabs" in (values["extras"] or ()):
        protocol = "http/json"  # the only one that its receiver takes
    if protocol == "grpc":
        hold = (
            f"{protocol_source}=grpc: rootspan sends OTLP over HTTP, so nothing is sent and the data are held.\n"
            "Fix: set ROOTSPAN_ENDPOINT to the collector's HTTP address, for example http://localhost:4318."
        )
        return {"hold": hold, "endpoint_chosen": True}
    _one_authorization(sources)
    _, key = sources.find("client_key")
    if key and not values["client_certificate"] and not key.startswith("OTEL_"):
        fail(f"{key} says nothing without the certificate that it belongs to.", "set client_certificate= as well")
    endpoint, source = _endpoint(sources)
    return {
        "protocol": protocol,
        "endpoint": endpoint,
        "endpoint_chosen": bool(source),
        "hold": _insecure(sources, endpoint, values),
    }


def _one_authorization(sources: Sources) -> None:
    _, key = sources.find("api_key")
    headers, source = sources.find("headers")
    # A header of the OTLP group gives way to the key, as all of that group does.
    if key and headers and "authorization" in headers and not source.startswith("OTEL_"):
        fail(f"{key} and the authorization header in {source} exclude each other.", "leave out one of the two")


def _endpoint(sources: Sources) -> tuple[str, str]:
    """Return the full URL and the name of its source, which is empty for the default."""
    endpoint, source = sources.find("endpoint")
    if endpoint is None:
        return DEFAULT_ENDPOINT, ""
    url = _split(endpoint, source)
    if source != "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":  # which is used as it is
        path = url.path.rstrip("/")
        url = url._replace(path=path if path.endswith("/v1/traces") else f"{path}/v1/traces")
    return urlunsplit(url), source


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


def _insecure(sources: Sources, endpoint: str, values: Mapping[str, Any]) -> str | None:
    """Return why data must be held; raise when the host itself asked for a key over plain http."""
    url = urlsplit(endpoint)
    if url.scheme == "https" or is_loopback(url.hostname or "") or values["insecure"]:
        return None
    for name in ("api_key", "headers"):
        value, source = sources.find(name)
        if value is None or (name == "headers" and not any(map(SECRET_HEADER.search, value))):
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


def _resource(sources: Sources) -> dict[str, Any]:
    from opentelemetry.sdk.version import __version__

    given = sources.text("OTEL_RESOURCE_ATTRIBUTES")
    attributes: dict[str, AttributeValue] = {
        "telemetry.sdk.language": "python",
        "telemetry.sdk.name": "opentelemetry",
        "telemetry.sdk.version": __version__,
        **(_detected() if sources.text("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS") else {}),
        **checked("OTEL_RESOURCE_ATTRIBUTES", PAIRS, PAIRS.read, given),
    }
    names = {"service_name": "service.name", "service_version": "service.version"}
    for option, key in {**names, "environment": "deployment.environment.name"}.items():
        if (value := sources.find(option)[0]) is not None:
            attributes[key] = value
    chosen = bool(attributes.get("service.name"))
    if not chosen:
        attributes["service.name"] = "unknown_service:python"
    return {"resource_attributes": MappingProxyType(attributes), "service_name_chosen": chosen}


def _genai_content_off(sources: Sources) -> bool:
    said = sources.text("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT").lower()
    return said in ("false", "0", "no", "off", "no_content")
