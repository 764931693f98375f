"""What every test may rely on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from rootspan import Tracker
from rootspan.testing import Captured, captured_spans
from sinks import Sink

# A shell that runs the tests in the background ignores SIGINT for them, and so would every process that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a test of real processes a second try, as a machine that others use may stop for seconds; it is reported."""
    for item in items:
        if "end_to_end" in item.path.parts:
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=1))


@pytest.fixture
def sink() -> Iterator[Sink]:
    """A collector of the test's own."""
    with Sink() as sink:
        yield sink


@pytest.fixture
def tracker(sink: Sink) -> Iterator[Tracker]:
    """A tracker that sends to it."""
    tracker = Tracker(endpoint=sink.url)
    yield tracker
    tracker.shutdown()


@pytest.fixture
def captured() -> Iterator[Captured]:
    """A tracker whose spans are kept in memory."""
    with captured_spans() as captured:
        yield captured


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that configures nothing."""
    for name in list(os.environ):
        if name.startswith(("ROOTSPAN_", "OTEL_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A throw-away certificate of this machine, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made = (str(folder / "cert.pem"), str(folder / "key.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", made[0], "-keyout", made[1]]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the openssl command is not here to make one")
    return made


@pytest.fixture
def unknown_name(monkeypatch: pytest.MonkeyPatch) -> str:
    """A host name that does not exist; a resolver that is cut off may take 20 s to say so, and is not asked."""
    name, look_up = "no-such-host.invalid", socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == name:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return name
