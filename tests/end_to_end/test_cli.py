"""The command `rootspan`: its arguments, and what `check` makes of every kind of endpoint."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

import rootspan
from rootspan.settings import resolve
from rootspan_ui import cli
from rootspan_ui.check import check
from sinks import PROTOBUF, Reply, Sink, close, hang, html, partial, redirect

KEY = "rs-secret-0123456789abcd"
COMMAND = [sys.executable, "-m", "rootspan_ui.cli"]


pytestmark = pytest.mark.usefixtures("clean_environment")


class Checked:
    """What one `rootspan check` printed, and its exit status."""

    def __init__(self, status: int, said: str) -> None:
        self.status = status
        self.said = said
        self.verdict = said.rpartition("\n\n")[2]
        assert KEY not in said


@pytest.fixture
def run_check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*arguments: str, **environ: str) -> Checked:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        status = cli.main(["check", *arguments])
        said = capsys.readouterr()
        assert said.err == ""
        return Checked(status, said.out)

    return run


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as door:
        return int(door.getsockname()[1])


def test_check_that_is_accepted(sink: Sink, run_check: Any) -> None:
    done = run_check(
        ROOTSPAN_ENDPOINT=sink.url, ROOTSPAN_API_KEY=KEY, ROOTSPAN_HEADERS="x-team=blue", OTEL_SERVICE_NAME="shop"
    )
    assert done.status == 0
    (span,) = sink.spans
    assert (span.name, span.resource["service.name"]) == ("rootspan_check", "shop")
    (request,) = sink.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert done.said.splitlines()[:5] == [
        f"endpoint  {sink.url}/v1/traces  (ROOTSPAN_ENDPOINT)",
        "key       ***abcd  (ROOTSPAN_API_KEY)",
        "headers   x-team  (values not shown)",
        "protocol  http/protobuf, gzip",
        "service   shop",
    ]
    assert re.search(r"✓ Accepted by 127\.0\.0\.1:\d+: HTTP 200 in \d+ ms\.", done.said)
    assert f"trace {span.trace_id}" in done.verdict
    assert "blue" not in done.said


def test_check_speaks_json_when_it_is_configured(sink: Sink, run_check: Any) -> None:
    assert run_check(ROOTSPAN_ENDPOINT=sink.url, ROOTSPAN_PROTOCOL="http/json").status == 0
    assert sink.requests[0].headers["content-type"] == "application/json"
    assert sink.one("rootspan_check")


def test_check_tells_what_the_collector_says(sink: Sink, run_check: Any) -> None:
    sink.script([partial(0, "soon out of quota"), partial(1, "unknown tenant")])
    fine = run_check("--endpoint", sink.url)
    assert fine.status == 0
    assert "It says: soon out of quota" in fine.verdict
    rejected = run_check("--endpoint", sink.url)
    assert rejected.status == 1
    assert "rejected the event.\n  It says: unknown tenant" in rejected.verdict


def test_a_key_on_the_command_line_is_warned_about(sink: Sink, run_check: Any) -> None:
    done = run_check("--endpoint", sink.url, "--api-key", KEY)
    assert done.status == 0
    assert done.said.startswith("Note: others can read a key on a command line")
    assert "key       ***abcd  (--api-key)" in done.said
    assert "(--endpoint)" in done.said


def test_check_without_a_configuration_names_the_local_receiver(run_check: Any) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("localhost", 4318)) == 0:
            pytest.skip("something listens at the default endpoint of this machine")
    done = run_check()
    assert done.status == 1
    assert "endpoint  http://localhost:4318/v1/traces  (the default)" in done.said
    assert "key       none" in done.said
    assert "service   not named" in done.said
    assert done.verdict.startswith("✗ Nobody listens at localhost:4318.\n  Fix: run `rootspan tail` in another")


def test_check_of_a_chosen_endpoint_where_nobody_listens(run_check: Any) -> None:
    port = free_port()
    done = run_check(ROOTSPAN_ENDPOINT=f"http://127.0.0.1:{port}")
    assert done.status == 1
    assert f"run `rootspan tail --port {port}`" in done.verdict


def test_check_of_an_address_elsewhere_where_nobody_listens(run_check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rootspan_ui.check.is_loopback", lambda name: False)  # no other machine is at hand
    done = run_check(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    assert "check host and port in OTEL_EXPORTER_OTLP_ENDPOINT" in done.verdict


@pytest.mark.parametrize("status", [401, 403])
def test_check_with_a_wrong_key(status: int, sink: Sink, run_check: Any) -> None:
    sink.script([status])
    done = run_check(ROOTSPAN_ENDPOINT=sink.url, ROOTSPAN_API_KEY=KEY)
    assert done.status == 1
    assert "does not accept the key ***abcd from ROOTSPAN_API_KEY (HTTP 40" in done.verdict
    assert "export ROOTSPAN_API_KEY=..." in done.verdict


def test_check_without_a_key_where_one_is_wanted(sink: Sink, run_check: Any) -> None:
    sink.script([401, 401])
    assert "wants a key, and none is set (HTTP 401 Unauthorized)" in run_check("--endpoint", sink.url).verdict
    done = run_check(ROOTSPAN_ENDPOINT=sink.url, ROOTSPAN_HEADERS=f"x-api-key={KEY},x-team=blue")
    assert "does not accept the header x-api-key (HTTP 401" in done.verdict


ANSWERS = [
    (404, "has nothing that takes traces at this path (HTTP 404 Not Found)", "/v1/traces is added"),
    (405, "has nothing that takes traces at this path", "/v1/traces is added"),
    (407, "A proxy on the way wants a login", "NO_PROXY"),
    (415, "does not take http/protobuf", "export ROOTSPAN_PROTOCOL=http/json"),
    (402, "answered something else than OTLP (HTTP 402 Payment Required)", "check ROOTSPAN_ENDPOINT"),
    (400, "refused the event for good (HTTP 400 Bad Request)", "log"),
    (413, "refused the event for good (HTTP 413", "log"),
    (503, "takes nothing for now (HTTP 503 Service Unavailable)", "try again later"),
    (Reply(429, {"Retry-After": "7"}), "takes nothing for now (HTTP 429 Too Many Requests)", "try again in 7 s"),
    (redirect("https://login.example.com/?secret=1"), "a redirect to login.example.com was not followed", "leads to"),
    (html(), "answered something else than OTLP (HTTP 200 whose body is HTML", "check ROOTSPAN_ENDPOINT"),
    (close(), "broke off without an answer", "4317 is gRPC"),
]


@pytest.mark.parametrize(("answer", "said", "fix"), ANSWERS, ids=[said[:30] for _, said, _ in ANSWERS])
def test_check_of_an_endpoint_that_does_not_accept(
    answer: Any, said: str, fix: str, sink: Sink, run_check: Any
) -> None:
    sink.script([answer, answer])
    done = run_check(ROOTSPAN_ENDPOINT=sink.url)
    assert done.status == 1
    assert done.verdict.startswith("✗ ")
    assert said in done.verdict
    assert fix in done.verdict
    assert "secret" not in done.said


def test_a_whole_url_that_takes_nothing_is_to_end_as_it_has_to(sink: Sink, run_check: Any) -> None:
    sink.script([404])
    done = run_check(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{sink.url}/v1")  # which is taken as it is
    assert done.status == 1
    assert "set OTEL_EXPORTER_OTLP_TRACES_ENDPOINT to the whole URL, which ends in /v1/traces" in done.verdict


def test_check_of_an_app_does_not_mind_an_environment_that_the_app_overrules(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOTSPAN_TIMEOUT", "never")
    out = io.StringIO()
    settings = resolve({}, endpoint=sink.url)
    assert check(out=out, settings=settings) == 0
    assert f"endpoint  {sink.url}/v1/traces  (the app's own configuration)" in out.getvalue()


def test_a_415_for_json_suggests_protobuf(sink: Sink, run_check: Any) -> None:
    sink.script([415])
    done = run_check(ROOTSPAN_ENDPOINT=sink.url, ROOTSPAN_PROTOCOL="http/json")
    assert "export ROOTSPAN_PROTOCOL=http/protobuf" in done.verdict


def test_check_of_an_endpoint_that_hangs(sink: Sink, run_check: Any) -> None:
    sink.script([hang()])
    done = run_check(ROOTSPAN_ENDPOINT=sink.url, ROOTSPAN_TIMEOUT="0.3")
    assert done.status == 1
    assert "took longer than 0.3 s and did not answer" in done.verdict


def test_check_of_a_name_that_does_not_exist(run_check: Any, unknown_name: str) -> None:
    done = run_check(ROOTSPAN_ENDPOINT=f"http://{unknown_name}:4318")
    assert done.status == 1
    assert f"The name {unknown_name} is unknown" in done.verdict


def test_check_over_tls_that_cannot_be_trusted_or_is_none(
    sink: Sink, run_check: Any, certificate: tuple[str, str]
) -> None:
    no_tls = run_check(ROOTSPAN_ENDPOINT=sink.url.replace("http:", "https:"))
    assert no_tls.status == 1
    assert "No TLS connection" in no_tls.verdict
    assert "use http:// in ROOTSPAN_ENDPOINT" in no_tls.verdict
    with Sink(certificate) as secure:
        done = run_check(ROOTSPAN_ENDPOINT=secure.url, ROOTSPAN_API_KEY=KEY)
        assert done.status == 1
        assert "is not trusted, so nothing was sent" in done.verdict
        assert "ROOTSPAN_CERTIFICATE" in done.verdict
        assert secure.requests == []
        assert run_check(ROOTSPAN_CERTIFICATE=certificate[0]).status == 0


def test_check_of_a_configuration_that_is_wrong(run_check: Any) -> None:
    done = run_check(ROOTSPAN_ENDPOINT="collector.example.com")
    assert done.status == 2
    assert done.said.startswith("✗ The URL in ROOTSPAN_ENDPOINT does not begin with http:// or https://.\n  Fix: ")


@pytest.mark.parametrize("option", ["--endpoint", "--api-key"])
def test_check_names_the_option_that_is_wrong(run_check: Any, option: str) -> None:
    done = run_check(option, "two words", ROOTSPAN_ENDPOINT="http://127.0.0.1:1")
    assert done.status == 2
    assert option in done.said
    assert "ROOTSPAN_" not in done.said


def test_check_while_nothing_may_be_sent(run_check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    grpc = run_check(OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    assert grpc.status == 1
    assert grpc.said.startswith("✗ OTEL_EXPORTER_OTLP_PROTOCOL=grpc: ")
    assert "Fix: set ROOTSPAN_ENDPOINT to the collector's HTTP address" in grpc.said
    unsafe = run_check(ROOTSPAN_ENDPOINT="http://collector.example.com", ROOTSPAN_API_KEY=KEY)
    assert unsafe.status == 1
    assert "would travel unencrypted to collector.example.com" in unsafe.said
    off = run_check(ROOTSPAN_DISABLED="1")
    assert off.status == 1
    assert "switched off by ROOTSPAN_DISABLED" in off.said


def test_check_notes_what_keeps_other_events_from_arriving(sink: Sink, run_check: Any, tmp_path: Any) -> None:
    (tmp_path / "file").touch()
    checked = run_check(
        "--endpoint", sink.url, ROOTSPAN_SAMPLE_RATE="0.25", ROOTSPAN_SPOOL=str(tmp_path / "file"),
        ROOTSPAN_API_KYE="x", ROOTSPAN_ZZZ="1",
    )  # fmt: skip
    said = checked.said
    assert checked.status == 0
    assert "Note: 25 % of an app's traces are sent; this event is, in any case.\n  Fix: unset ROOTSPAN_SAMPLE" in said
    assert f"Note: Nothing can be written to the spool {tmp_path / 'file'} (" in said
    assert "Note: ROOTSPAN_API_KYE is set, and nothing reads it.\n  Fix: write ROOTSPAN_API_KEY\n" in said
    assert "Note: ROOTSPAN_ZZZ is set, and nothing reads it.\n  Fix: unset ROOTSPAN_ZZZ\n" in said


def test_check_notes_nothing_where_all_is_well(sink: Sink, run_check: Any, tmp_path: Any) -> None:
    checked = run_check("--endpoint", sink.url, ROOTSPAN_SPOOL=str(tmp_path / "spool"))
    assert checked.status == 0
    assert "Note:" not in checked.said


def test_check_through_a_proxy_that_is_not_spoken(run_check: Any) -> None:
    done = run_check(ROOTSPAN_ENDPOINT="https://collector.example.com", https_proxy="socks5://localhost:1080")
    assert done.status == 1
    assert "is no valid http:// URL.\n  Fix: name the endpoint's host in NO_PROXY" in done.verdict


def test_check_shows_no_secret_that_a_server_repeats(sink: Sink, run_check: Any) -> None:
    """A header's value, with or without its scheme, and a query of the endpoint."""
    sink.script([partial(1, f"Bearer {KEY} and {KEY} \x1b[2J")])
    done = run_check(
        ROOTSPAN_ENDPOINT=f"{sink.url}/v1/traces?token=t0psecret", ROOTSPAN_HEADERS=f"authorization=Bearer {KEY}"
    )
    assert "It says: *** and *** ␛[2J" in done.verdict
    assert "/v1/traces" in done.said
    assert "t0psecret" not in done.said


def test_check_writes_ascii_where_nothing_else_can_be_written(sink: Sink, tmp_path: Any) -> None:
    with (tmp_path / "said").open("w+", encoding="ascii") as out:
        assert check(sink.url, out=out) == 0
        out.seek(0)
        assert "\nok Accepted by" in out.read()


def test_check_uses_colour_only_on_a_terminal(sink: Sink, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    sink.script([200, Reply(404, PROTOBUF)])
    assert [check(sink.url), check(sink.url)] == [0, 1]
    said = capsys.readouterr().out
    assert "\x1b[32m✓\x1b[0m Accepted" in said
    assert "\x1b[31m✗\x1b[0m " in said


# The command itself


def test_the_version() -> None:
    done = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"rootspan {rootspan.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "usage: rootspan"),
        (["nonsense"], "invalid choice"),
        (["tail", "--port", "many"], "invalid int value"),
        (["tail", "--p", "many"], "unrecognized arguments: --p many"),
        (["spool", "purge", "--directory", os.devnull, "--y"], "unrecognized arguments: --y"),
        (["spool", "replay", "--patience", "nan"], "argument --patience: invalid seconds value: 'nan'"),
        (["spool", "replay", "--patience", "-1"], "argument --patience: invalid seconds value: '-1'"),
    ],
)
def test_a_command_that_does_not_exist(arguments: list[str], said: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["tail", "--help"], ["check", "--help"], ["demo", "--help"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 0
    said = capsys.readouterr().out
    for word in ("tail", "check", "demo", "--version", "--host", "--token", "--json", "--endpoint", "--once"):
        assert word in said


def test_tail_receives_what_a_program_sends() -> None:
    """As two real processes, with a key, ended by Ctrl-C."""
    command = [*COMMAND, "tail", "--port", "0", "--token", KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        greeting = "".join(iter(process.stdout.readline, "\n")) + "".join(iter(process.stdout.readline, "\n"))
        url = greeting.partition("ROOTSPAN_ENDPOINT=")[2].split()[0]
        program = "import rootspan; rootspan.track_ai('greeting', user_id='u1', convo_id='c1', input='Hi')"
        environ = {**os.environ, "ROOTSPAN_ENDPOINT": url, "ROOTSPAN_API_KEY": KEY}
        subprocess.run([sys.executable, "-c", program], env=environ, check=True)
        header = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert "session c1  user u1" in header
    assert rest.startswith("greeting ")
    assert rest.endswith("1 trace · 1 span · 1 session · 1 user · 0 errors\n")


def test_tail_says_why_it_cannot_listen(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        assert cli.main(["tail", "--port", str(port)]) == 2
    assert f"rootspan tail --port {port + 1}" in capsys.readouterr().err


def test_ctrl_c_is_no_traceback(sink: Sink) -> None:
    sink.script([hang()])
    command = [*COMMAND, "check", "--endpoint", sink.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        asked = threading.Thread(target=sink.wait_requests, args=(1,))
        asked.start()
        asked.join()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert errors == ""


@pytest.mark.parametrize("arguments", [["check", "--endpoint", "http://127.0.0.1:1"], ["spool", "status"]])
def test_output_into_a_pipe_that_nobody_reads(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        done = subprocess.run([*COMMAND, *arguments], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def test_without_any_output(tmp_path: Any) -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "spool", "status", "--directory", str(tmp_path)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_words_do_not_come_between_the_spans_where_there_is_no_stderr() -> None:
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *COMMAND, "tail", "--json", "--port", "70000"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_file_that_cannot_be_read_is_no_traceback(tmp_path: Any) -> None:
    (tmp_path / "0.dead.jsonl").mkdir()
    command = [*COMMAND, "spool", "status", "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"rootspan spool: \[Errno \d+\] Is a directory: '.*'\n", done.stderr)
