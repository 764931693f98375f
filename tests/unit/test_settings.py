"""Where settings come from, which one wins, and what a mistake says."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import re
from functools import partial
from pathlib import Path
from typing import Any, ForwardRef, get_type_hints
from uuid import UUID

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from rootspan import Tracker, configure
from rootspan.errors import ConfigurationError
from rootspan.settings import OPTIONS, Settings, is_loopback, resolve
from rootspan.settings.credentials import Headers, SecretKey
from rootspan.settings.keywords import Options

KEY = "rs-secret-0123456789abcd"


def mistake(environ: dict[str, str] | None = None, **arguments: Any) -> str:
    """What a ConfigurationError says; it always ends with the line that fixes it, and never shows the key."""
    with pytest.raises(ConfigurationError) as caught:
        resolve(environ or {}, **arguments)
    said = str(caught.value)
    assert "\nFix: " in said
    assert KEY not in said
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return said


# The key


def test_a_key_never_shows_itself() -> None:
    key = SecretKey(KEY)
    shown = [repr(key), str(key), f"{key}", f"{key:>10}", "%s" % key, repr(resolve({}, api_key=key))]  # noqa: UP031
    assert shown[:3] == ["***abcd"] * 3
    assert shown[3] == "   ***abcd"
    assert not [text for text in shown if "secret" in text]
    assert pickle.loads(pickle.dumps(key)) == "***abcd"
    assert b"secret" not in pickle.dumps(key)
    assert key.reveal() == KEY
    assert not hasattr(key, "__dict__")


def test_a_short_key_shows_nothing_at_all() -> None:
    assert repr(SecretKey("abcdefghijk")) == "***"
    assert repr(SecretKey("abcdefghijkl")) == "***ijkl"


def test_a_key_can_be_compared_and_copied() -> None:
    key = SecretKey(KEY)
    assert copy.copy(key) is copy.deepcopy(key) is key
    assert key == SecretKey(KEY)
    assert key != SecretKey("another")
    assert key != KEY
    assert len({key, SecretKey(KEY)}) == 1


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "empty"),
        (f"{KEY}\n", "line break"),
        (f" {KEY}", "space"),
        (f"{KEY}\r\nX-Evil: 1", "characters"),
        (f"{KEY}é", "characters"),
        (f"{KEY}\x7f", "characters"),
        (KEY * 200, "4,096"),
        ("Basic abcdef", 'another scheme goes to headers={"authorization": ...}'),
        (5, "not int"),
        (KEY.encode(), "not bytes"),
    ],
)
def test_a_key_that_no_header_carries_is_refused(key: Any, said: str) -> None:
    assert said in mistake(api_key=key)
    if isinstance(key, str) and key:
        assert said in mistake({"ROOTSPAN_API_KEY": key})


def test_a_key_goes_out_as_a_bearer_token_only() -> None:
    settings = resolve({}, api_key=KEY, headers={"X-Team": "a"})
    assert settings.request_headers() == {"x-team": "a", "authorization": f"Bearer {KEY}"}
    assert resolve({}, headers={"X-Team": "a"}).request_headers() == {"x-team": "a"}
    assert resolve({}, api_key=f"bearer  {KEY}").request_headers() == {"authorization": f"Bearer {KEY}"}


def test_a_key_beside_an_authorization_header_is_one_too_many() -> None:
    header = {"Authorization": "Basic x"}
    assert "api_key= and the authorization header in headers= exclude" in mistake(api_key=KEY, headers=header)
    environ = {"ROOTSPAN_API_KEY": KEY, "ROOTSPAN_HEADERS": "authorization=Basic x"}
    assert "ROOTSPAN_API_KEY and the authorization header in ROOTSPAN_HEADERS exclude each other" in mistake(environ)
    ours = resolve({"ROOTSPAN_API_KEY": KEY, "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic x"})
    assert ours.request_headers() == {"authorization": f"Bearer {KEY}"}


def test_a_clients_key_without_its_certificate_is_a_mistake() -> None:
    assert "client_key= says nothing without" in mistake(client_key=__file__)
    assert "ROOTSPAN_CLIENT_KEY says nothing without" in mistake({"ROOTSPAN_CLIENT_KEY": __file__})
    assert resolve({}, client_key=__file__, client_certificate=__file__).client_key == __file__
    assert resolve({"OTEL_EXPORTER_OTLP_CLIENT_KEY": __file__}).client_key == __file__  # the host's mistake is its own


def test_header_values_never_show() -> None:
    headers = resolve({}, headers={"X-Team": "secret-team"}).headers
    assert headers == {"x-team": "secret-team"}
    assert headers["X-TEAM"] == "secret-team"
    assert len(headers) == 1
    assert repr(headers) == "{'x-team': '***'}"
    assert pickle.loads(pickle.dumps(headers)) == {"x-team": "***"}
    assert copy.deepcopy(headers) is headers
    assert Headers() == {}


@pytest.mark.parametrize(
    "headers",
    [{"X": "a\r\nb"}, {"X": " a"}, {"X": "é"}, {"X Y": "a"}, {"X:": "a"}, {"": "a"}, {"X": 1}, {1: "a"}, ["X"], "X=a"],
)
def test_headers_that_cannot_travel_are_refused(headers: Any) -> None:
    assert "headers=" in mistake(headers=headers)


def test_a_wrong_header_never_shows_its_value() -> None:
    assert "hunter" not in mistake(headers={"X": "hunter\n2"})
    assert "hunter" not in mistake(headers={"X: hunter2": ""})
    assert "hunter" not in mistake({"ROOTSPAN_HEADERS": "hunter2"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"headers": "X=a"}, 'set headers= to a dict such as {"x-team": "shop"}'),
        ({"headers": {"Y": "a", "X": 1}}, "The value of 'X' is no text that a header may carry.\nFix: give"),
        ({"extras": "langfuse"}, "set extras= to a list of some of mlflow, langfuse, "),
        ({"redact_pii": "email"}, "set redact_pii= to True, False or a list of some of email, "),
    ],
)
def test_a_mistake_says_what_to_write_instead(given: dict[str, Any], said: str) -> None:
    assert said in mistake(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"timeout": 10**5_000},
        {"user_id": 10**5_000},
        {"spool": 10**5_000},
        {"spool": "a\0b"},
        {"spool": "\ud800"},
        {"spool": b"a"},
        {"certificate": "a\0b"},
    ],
)
def test_a_value_that_cannot_even_be_shown_is_a_mistake_like_others(given: dict[str, Any]) -> None:
    assert f"set {next(iter(given))}= to " in mistake(**given)


# The fingerprint


def test_the_fingerprint_stands_for_key_and_endpoint() -> None:
    """delivery 9"""
    one = resolve({}, api_key=KEY)
    assert re.fullmatch("[0-9a-f]{64}", one.fingerprint)
    assert one.fingerprint == resolve({}, api_key=KEY, service_name="other", headers={"X-Team": "a"}).fingerprint
    others = [
        resolve({}),
        resolve({}, api_key=KEY + "x"),
        resolve({}, api_key=KEY, endpoint="https://a.test"),
        resolve({}, headers={"Authorization": f"Bearer {KEY}"}),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 5


# Precedence


def test_the_defaults() -> None:
    settings = resolve({})
    assert settings == Settings(resource_attributes=settings.resource_attributes)
    assert settings.endpoint == "http://localhost:4318/v1/traces"
    assert (settings.endpoint_chosen, settings.otlp, settings.hold) == (False, True, None)
    assert settings.unchosen
    assert (settings.protocol, settings.compression, settings.timeout) == ("http/protobuf", "gzip", 10.0)


def test_settings_cannot_be_changed() -> None:
    settings = resolve({}, properties={"plan": "pro"}, headers={"a": "b"})
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.timeout = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.resource_attributes["a"] = "b"  # type: ignore[index]
    with pytest.raises(TypeError):
        settings.properties["a"] = "b"  # type: ignore[index]


def test_arguments_win_over_our_variables_and_those_over_opentelemetrys() -> None:
    group = {"OTEL_EXPORTER_OTLP_TIMEOUT": "3", "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}
    specific = {**group, "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "4"}
    ours = {**specific, "ROOTSPAN_TIMEOUT": "5"}
    assert resolve(group).timeout == 3
    assert resolve(specific).timeout == 4
    assert resolve(ours).timeout == 5
    assert resolve(ours, timeout=6).timeout == 6
    assert resolve(ours, timeout=None).timeout == 5
    assert resolve(ours).compression == "none"
    assert resolve({**group, "ROOTSPAN_TIMEOUT": " "}).timeout == 3


HOST = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "https://vendor.test:443/otlp/",
    "OTEL_EXPORTER_OTLP_HEADERS": "api-key=vendor%20key, x-team = a",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
    "OTEL_EXPORTER_OTLP_CERTIFICATE": __file__,
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": __file__,
    "OTEL_EXPORTER_OTLP_CLIENT_KEY": __file__,
}


def test_opentelemetrys_group_is_taken_as_a_whole() -> None:
    settings = resolve(HOST)
    assert settings.endpoint == "https://vendor.test:443/otlp/v1/traces"
    assert settings.endpoint_chosen
    assert settings.headers == {"api-key": "vendor key", "x-team": "a"}
    assert (settings.timeout, settings.compression, settings.protocol) == (3, "none", "http/json")
    assert {settings.certificate, settings.client_certificate, settings.client_key} == {__file__}


@pytest.mark.parametrize(
    ("environ", "arguments"),
    [({}, {"endpoint": "https://ours.test"}), ({"ROOTSPAN_ENDPOINT": "https://ours.test"}, {})],
)
def test_a_hosts_vendor_key_never_travels_to_another_endpoint(
    environ: dict[str, str], arguments: dict[str, str]
) -> None:
    expected = resolve({}, endpoint="https://ours.test")
    for variables in (HOST, {name.replace("OTLP_", "OTLP_TRACES_"): value for name, value in HOST.items()}):
        settings = resolve({**variables, **environ}, **arguments)
        assert settings.headers == {}
        assert settings == dataclasses.replace(expected, resource_attributes=settings.resource_attributes)


def test_the_traces_endpoint_is_used_as_it_is() -> None:
    exact = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://vendor.test/in?team=a"}
    assert resolve({**HOST, **exact}).endpoint == "https://vendor.test/in?team=a"


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ("https://a.test", "https://a.test/v1/traces"),
        ("https://a.test/", "https://a.test/v1/traces"),
        ("https://a.test/v1/traces", "https://a.test/v1/traces"),
        ("https://a.test/v1/traces/", "https://a.test/v1/traces"),
        ("https://a.test/otlp?team=a", "https://a.test/otlp/v1/traces?team=a"),
        ("HTTPS://a.test:8443", "https://a.test:8443/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_an_endpoint_is_a_base_url(given: str, endpoint: str) -> None:
    assert resolve({}, endpoint=given).endpoint == endpoint
    assert resolve({"ROOTSPAN_ENDPOINT": given}).endpoint == endpoint
    assert resolve({"OTEL_EXPORTER_OTLP_ENDPOINT": given}).endpoint == endpoint


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("collector:4318", "http:// or https://"),
        ("localhost", "http:// or https://"),
        ("ftp://a.test", "http:// or https://"),
        ("http://", "no host"),
        ("http://:4318", "no host"),
        ("http://a.test:port", "cannot be read"),
        ("http://a.test:99999", "cannot be read"),
        ("http://[::1", "cannot be read"),
        ("http://a b", "spaces"),
        ("http://a.test\n", "spaces"),
        ("http://bücher.test", "characters"),
        ("https://me:hunter2@a.test", "user name or password"),
        ("https://token@a.test", "user name or password"),
        ("https://a.test/#part", "fragment"),
        ("", "endpoint="),
        (5, "endpoint="),
    ],
)
def test_a_wrong_endpoint_is_named_at_once(given: Any, said: str) -> None:
    message = mistake(endpoint=given)
    assert said in message
    assert "hunter2" not in message
    if isinstance(given, str) and given and not given.endswith("\n"):
        assert "OTEL_EXPORTER_OTLP_ENDPOINT" in mistake({"OTEL_EXPORTER_OTLP_ENDPOINT": given})


def test_opentelemetrys_milliseconds_are_understood() -> None:
    assert resolve({"OTEL_EXPORTER_OTLP_TIMEOUT": "10000"}).timeout == 10
    assert resolve({"OTEL_EXPORTER_OTLP_TIMEOUT": "2.5"}).timeout == 2.5


def test_opentelemetrys_third_compression_becomes_gzip() -> None:
    assert resolve({"OTEL_EXPORTER_OTLP_COMPRESSION": "deflate"}).compression == "gzip"


def test_the_hosts_sampler_and_switch_do_not_steer_us() -> None:
    settings = resolve({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_SAMPLER": "always_off"})
    assert (settings.disabled, settings.sample_rate) == (False, 1.0)
    settings = resolve({"ROOTSPAN_DISABLED": "true", "ROOTSPAN_SAMPLE_RATE": "0.25"})
    assert (settings.disabled, settings.sample_rate) == (True, 0.25)


# grpc, and keys over plain http


def test_grpc_of_the_host_holds_the_data_and_names_the_fix() -> None:
    settings = resolve({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"})
    assert settings.hold is not None
    assert "ROOTSPAN_ENDPOINT" in settings.hold
    assert settings.endpoint_chosen
    assert resolve({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, endpoint="http://localhost:4318").hold is None


def test_grpc_of_our_own_is_a_mistake() -> None:
    assert "OTLPSpanExporter" in mistake(protocol="grpc")
    assert "ROOTSPAN_PROTOCOL" in mistake({"ROOTSPAN_PROTOCOL": "grpc"})


def test_a_key_of_the_host_over_plain_http_is_a_mistake() -> None:
    assert "insecure=True" in mistake(api_key=KEY, endpoint="http://collector.test")
    assert "insecure=True" in mistake({"ROOTSPAN_ENDPOINT": "http://collector.test"}, api_key=KEY)
    assert "headers=" in mistake(headers={"x-api-key": "a"}, endpoint="http://10.0.0.1:4318")
    settings = resolve({}, api_key=KEY, endpoint="http://collector.test", insecure=True)
    assert (settings.hold, settings.insecure) == (None, True)


@pytest.mark.parametrize(
    "environ",
    [{"ROOTSPAN_API_KEY": KEY}, {"ROOTSPAN_HEADERS": f"authorization=Bearer {KEY}"}],
)
def test_a_key_of_the_environment_over_plain_http_is_withheld(environ: dict[str, str]) -> None:
    settings = resolve(environ, endpoint="http://collector.test")
    assert settings.hold is not None
    assert next(iter(environ)) in settings.hold
    assert "ROOTSPAN_INSECURE" in settings.hold
    assert KEY not in settings.hold
    assert resolve({"ROOTSPAN_API_KEY": KEY}, endpoint="http://collector.test").request_headers() == {}
    assert resolve({**environ, "ROOTSPAN_INSECURE": "1"}, endpoint="http://collector.test").hold is None
    assert resolve(environ, endpoint="https://collector.test").hold is None


def test_plain_http_without_a_secret_is_fine() -> None:
    assert resolve({}, endpoint="http://collector.test", headers={"x-team": "a"}).hold is None


def test_what_is_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("localhost.test", "0.0.0.0", "10.0.0.1", "notlocalhost", "")))
    assert resolve({}, api_key=KEY, endpoint="http://127.0.0.1:4318").hold is None
    assert resolve({"ROOTSPAN_API_KEY": KEY}, endpoint="http://[::1]:4318").hold is None


# Exporters


def test_exporters_replace_otlp_unless_an_endpoint_is_passed() -> None:
    exporter = ConsoleSpanExporter()
    settings = resolve({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "ROOTSPAN_ENDPOINT": "nonsense"}, exporters=[exporter])
    assert (settings.exporters, settings.otlp, settings.hold) == ((exporter,), False, None)
    assert resolve({}, exporters=(exporter,), endpoint="https://a.test").otlp


def test_where_exporters_replace_otlp_production_misses_no_endpoint() -> None:
    assert list(resolve({}, exporters=[ConsoleSpanExporter()]).gaps()) == []
    assert list(resolve({}).gaps()) != []


def test_only_exporters_are_exporters() -> None:
    for wrong in ([object()], ConsoleSpanExporter(), [ConsoleSpanExporter], "console"):
        assert "SpanExporter" in mistake(exporters=wrong)


# The resource


def test_the_resource_is_the_sdks_with_our_names() -> None:
    sdk = Resource.create().attributes
    settings = resolve({})
    for name in ("telemetry.sdk.name", "telemetry.sdk.language", "telemetry.sdk.version"):
        assert settings.resource_attributes[name] == sdk[name]
    assert str(settings.resource_attributes["service.name"]).startswith("unknown_service")
    assert settings.service_name is None


def test_the_services_name_has_an_order_too() -> None:
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=one,team=a%20b, deployment.environment.name=dev"}
    assert resolve(environ).resource_attributes["service.name"] == resolve(environ).service_name == "one"
    environ["OTEL_SERVICE_NAME"] = "two"
    assert resolve(environ).resource_attributes["service.name"] == "two"
    environ["ROOTSPAN_SERVICE_NAME"] = "three"
    assert resolve(environ).resource_attributes["service.name"] == "three"
    settings = resolve(environ, service_name="four", service_version="1.2", environment="production")
    wanted = {"service.name": "four", "service.version": "1.2", "deployment.environment.name": "production"}
    assert wanted.items() <= settings.resource_attributes.items()
    assert settings.resource_attributes["team"] == "a b"
    assert settings.service_name == "four"


def test_resource_attributes_that_cannot_be_read_are_named() -> None:
    assert "OTEL_RESOURCE_ATTRIBUTES" in mistake({"OTEL_RESOURCE_ATTRIBUTES": "team"})


def test_detectors_run_only_when_the_host_asked_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "process"}
    monkeypatch.setenv(*next(iter(asked.items())))
    assert "process.pid" in resolve(asked, service_name="shop").resource_attributes
    assert "process.pid" not in resolve({}).resource_attributes

    def broken() -> Any:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    monkeypatch.setattr(Resource, "create", broken)
    assert resolve(asked, service_name="shop").resource_attributes["service.name"] == "shop"


# Every other option


@pytest.mark.parametrize(
    ("name", "given", "kept", "text"),
    [
        ("sample_rate", 0.5, 0.5, "0.5"),
        ("sample_rate", 0, 0.0, "0"),
        ("disabled", True, True, "yes"),
        ("capture_content", False, False, "off"),
        ("redact_text", False, False, "0"),
        ("insecure", True, True, "TRUE"),
        ("redact_pii", True, frozenset({"email", "phone", "card", "iban", "ssn", "ip"}), "on"),
        ("redact_pii", False, frozenset[str](), "no"),
        ("redact_pii", ["email", "ip"], frozenset({"email", "ip"}), "email, ip"),
        ("redact_keys", {"pin", "seed"}, frozenset({"pin", "seed"}), "pin,seed"),
        ("extras", ["mlflow"], frozenset({"mlflow"}), "mlflow"),
        ("tags", ["a", "b"], ("a", "b"), "a, b,"),
        ("user_id", 42, "42", "42"),
        ("convo_id", UUID(int=1), "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000001"),
        ("agent_name", "helper", "helper", "helper"),
        ("max_content_length", 10, 10, "10"),
        ("max_queue_bytes", 1000, 1000, "1000"),
        ("max_open_sessions", 5, 5, "5"),
        ("session_timeout", 60, 60.0, "60"),
        ("flush_interval", 0.1, 0.1, "0.1"),
        ("batch_size", 10, 10, "10"),
        ("spool", True, True, "1"),
        ("spool", False, False, "false"),
        ("spool", Path("/var/spool/x"), "/var/spool/x", "/var/spool/x"),
        ("protocol", "http/json", "http/json", "http/json"),
        ("compression", "none", "none", "none"),
        ("timeout", 2, 2.0, "2"),
        ("attribute_length_limit", 100, 100, "100"),
        ("attribute_count_limit", 0, 0, "0"),
    ],
)
def test_options_from_arguments_and_from_the_environment(name: str, given: Any, kept: Any, text: str) -> None:
    assert getattr(resolve({}, **{name: given}), name) == kept
    assert getattr(resolve({f"ROOTSPAN_{name.upper()}": text}), name) == kept


@pytest.mark.parametrize("name", ["user_id", "convo_id", "agent_name", "tags", "properties", "redact", "on_loss"])
def test_functions_are_kept_as_they_are(name: str) -> None:
    def getter(*_: object) -> None: ...

    assert getattr(resolve({}, **{name: getter}), name) is getter


def test_properties_come_from_arguments_only() -> None:
    assert resolve({}, properties={"plan": "pro"}).properties == {"plan": "pro"}
    assert resolve({"ROOTSPAN_PROPERTIES": "plan=pro", "ROOTSPAN_REDACT": "x"}).properties is None


def test_a_spools_home_is_found() -> None:
    assert not str(resolve({}, spool="~/spool").spool).startswith("~")


class Odd:
    """Nothing any option takes; its dunder methods raise."""

    def __repr__(self) -> str:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("name", sorted(OPTIONS))
@pytest.mark.parametrize("wrong", [Odd(), b"bytes", float("nan"), [None], {1: 2}])
def test_the_wrong_type_of_any_option_is_named_at_once(name: str, wrong: Any) -> None:
    assert name in mistake(**{name: wrong})


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("sample_rate", 1.01),
        ("sample_rate", -0.01),
        ("sample_rate", True),
        ("sample_rate", "0.5"),
        ("timeout", 0),
        ("timeout", float("inf")),
        ("timeout", 10**400),
        ("batch_size", 0),
        ("batch_size", 1.5),
        ("attribute_length_limit", -1),
        ("disabled", 1),
        ("disabled", "true"),
        ("extras", ["mlflow", "vendor"]),
        ("extras", "mlflow"),
        ("redact_pii", ["name"]),
        ("redact_keys", [""]),
        ("redact_keys", ["pin", "12"]),
        ("tags", "a"),
        ("user_id", True),
        ("user_id", " "),
        ("service_name", ""),
        ("protocol", "http"),
        ("compression", "br"),
        ("certificate", "/no/such/file.pem"),
        ("spool", ""),
        ("spool", "a\0b"),
        ("properties", [("plan", "pro")]),
        ("redact", "hook"),
    ],
)
def test_values_out_of_range_are_named_at_once(name: str, wrong: Any) -> None:
    message = mistake(**{name: wrong})
    assert f"set {name}= to {OPTIONS[name].expected}" in message


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("ROOTSPAN_SAMPLE_RATE", "half"),
        ("ROOTSPAN_SAMPLE_RATE", "2"),
        ("ROOTSPAN_DISABLED", "maybe"),
        ("ROOTSPAN_BATCH_SIZE", "1.5"),
        ("ROOTSPAN_EXTRAS", "vendor"),
        ("ROOTSPAN_REDACT_PII", "name"),
        ("ROOTSPAN_REDACT_KEYS", "pin,--"),
        ("ROOTSPAN_HEADERS", "=a"),
        ("ROOTSPAN_CERTIFICATE", "/no/such/file.pem"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "br"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-1"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "long"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "vendor.test"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(variable: str, text: str) -> None:
    assert variable in mistake({variable: text})


def test_an_unknown_option_asks_what_was_meant() -> None:
    assert mistake(end_point="https://a.test").endswith("Fix: did you mean endpoint=?")
    assert "the names are agent_name, api_key" in mistake(zzz=1)
    assert "the names are agent_name, api_key" in mistake(project="shop")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sample_rate": 50}, "sample_rate= cannot be 50 (int)."),
        ({"extras": ["datadog"]}, "extras= cannot be ['datadog'] (list)."),
        ({"redact_pii": {"name"}}, "redact_pii= cannot be {'name'} (set)."),
        ({"exporters": [ConsoleSpanExporter]}, "exporters= cannot be this list."),
        ({"endpoint": 4318}, "endpoint= cannot be this int."),
        ({"endpoint": ""}, "endpoint= cannot be '' (str)."),
        ({"headers": "x-api-key=secret"}, "headers= cannot be this str."),
    ],
)
def test_a_value_is_shown_where_it_tells_the_mistake_and_no_secret(given: dict[str, Any], said: str) -> None:
    assert mistake(**given).startswith(f"{said}\nFix: set {next(iter(given))}= to ")


async def _waits(*given: object) -> None: ...


class _Waits:
    async def __call__(self, *given: object) -> None: ...


@pytest.mark.parametrize("name", ["redact", "on_loss"])
@pytest.mark.parametrize("function", [_waits, partial(_waits), _Waits()])
def test_a_function_that_would_have_to_be_awaited_is_told_at_once(name: str, function: Any) -> None:
    """What `redact=` returned was recorded in place of the value: a coroutine's repr."""
    assert mistake(**{name: function}).endswith(f"Fix: set {name}= to a function that is not async.")


def test_extras_lists_its_choices() -> None:
    assert "mlflow, langfuse, traceloop, langsmith, bentolabs" in mistake(extras=["datadog"])


def test_bentolabs_takes_json_unless_told_otherwise() -> None:
    assert resolve({}, extras=["bentolabs"]).protocol == "http/json"
    assert resolve({}, extras=["bentolabs"], protocol="http/protobuf").protocol == "http/protobuf"


def test_attribute_limits_of_opentelemetry() -> None:
    general = {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "50", "OTEL_ATTRIBUTE_COUNT_LIMIT": "60"}
    of_spans = {"OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "5", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "6"}
    more = {"OTEL_SPAN_EVENT_COUNT_LIMIT": "7", "OTEL_SPAN_LINK_COUNT_LIMIT": "8"}

    def limits(environ: dict[str, str], **arguments: Any) -> list[int | None]:
        found = resolve(environ, **arguments)
        return [
            found.attribute_length_limit, found.attribute_count_limit, found.event_count_limit, found.link_count_limit
        ]  # fmt: skip

    assert limits({}) == [None] * 4
    assert limits(general) == [50, 60, None, None]
    assert limits({**general, **of_spans, **more}) == [5, 6, 7, 8]
    assert limits({**of_spans, "ROOTSPAN_ATTRIBUTE_COUNT_LIMIT": "3"}, attribute_length_limit=2) == [2, 3, None, None]


@pytest.mark.parametrize(
    ("said", "captured"),
    [("false", False), ("FALSE", False), ("no_content", False), ("true", True), ("SPAN_ONLY", True), ("", True)],
)
def test_opentelemetrys_switch_for_content_is_honoured(said: str, captured: bool) -> None:
    environ = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": said}
    assert resolve(environ).capture_content is captured
    assert resolve(environ, capture_content=True).capture_content
    assert not resolve({**environ, "ROOTSPAN_CAPTURE_CONTENT": "0"}).capture_content


def test_every_setting_is_an_option_or_made_of_several() -> None:
    names = {setting.name for setting in dataclasses.fields(Settings)}
    assert names - set(OPTIONS) == {"endpoint_chosen", "otlp", "hold", "resource_attributes"}


def test_type_checkers_and_the_help_know_every_option() -> None:
    assert set(Options.__annotations__) == set(OPTIONS)
    text = [name for name, kind in Options.__annotations__.items() if isinstance(kind, ForwardRef)]
    assert text == ["exporters"], "each one that is text is compiled by `import rootspan`"
    assert get_type_hints(configure)["return"] is get_type_hints(Tracker.reconfigure)["return"] is Tracker
    assert get_type_hints(Tracker.__init__)["settings"] is Options  # as a container of dependencies asks for them
    told = inspect.getdoc(configure) or ""
    assert not [name for name in OPTIONS if not re.search(rf"^    (\w+, )*{name}(, \w+)*: ", told, re.MULTILINE)]
