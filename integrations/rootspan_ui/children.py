"""The processes that `rootspan demo` runs: started with an environment of their own, and ended whatever happens."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Any, Final

import orjson

from rootspan.errors import RootspanError
from rootspan_ui.spans import ReceivedEvent, ReceivedLink, ReceivedSpan

__all__ = ["ChildError", "Receiving", "free_ports", "run_app", "run_receiver"]

# settings of the shell that are not meant for the demo
_FOREIGN: Final = ("ROOTSPAN_", "OTEL_", "UVICORN_", "FLASK_", "DJANGO_", "SUPPORT_DESK_")
_READY: Final = 20.0  # seconds that a child may take to start
_PATIENCE: Final = 7.0  # seconds that it may take to end; rootspan's own last delivery takes up to 5
_POLL: Final = 0.05
_GREETING: Final = re.compile(r"export ROOTSPAN_ENDPOINT=(http://\S+)")


class ChildError(RootspanError):
    """A process of the demo did not start, or ended by itself; the message shows what it last said."""


def free_ports(count: int) -> list[int]:
    """Return different TCP ports that are free on 127.0.0.1."""
    with ExitStack() as stack:
        doors = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(door.getsockname()[1]) for door in doors]


@contextmanager
def run_receiver(command: Sequence[str], on_spans: Callable[[list[ReceivedSpan]], object]) -> Generator[Receiving]:
    """Run `rootspan tail --json` and hand on what it prints.

    Args:
        command: what starts it.
        on_spans: called with each span that it prints, from a thread of its own.

    Yields:
        What reads it. On leaving, it is ended, and the last of what it printed has been handed on.

    Raises:
        ChildError: it did not start.
    """
    with _process(command, {}, subprocess.PIPE) as process:
        reader = Receiving(command, process, on_spans)
        reader.start()
        try:
            reader.wait_until_ready()
            yield reader
        finally:
            process.terminate()
            reader.join(_PATIENCE)


@contextmanager
def run_app(
    command: Sequence[str], port: int, environ: Mapping[str, str], meanwhile: Callable[[], object] = lambda: None
) -> Generator[Callable[[], None]]:
    """Run an example app until the block is left.

    Args:
        command: what starts it.
        port: where it will listen.
        environ: variables for it.
        meanwhile: called while it is waited for; what it raises ends that.

    Yields:
        A function that raises `ChildError` when the app has ended by itself.

    Raises:
        ChildError: it did not start.
    """
    with tempfile.TemporaryFile() as log, _process(command, environ, log) as process:

        def check() -> None:
            if process.poll() is not None:
                log.seek(0)
                raise _died(command, process.returncode, log.read()[-4_000:].decode("utf-8", "replace"))

        deadline = time.monotonic() + _READY
        while not _listens(port):
            check()
            meanwhile()
            if time.monotonic() > deadline:
                raise ChildError(f"{_shown(command)} did not listen on port {port} within {_READY:g} s.")
            time.sleep(_POLL)
        yield check


@contextmanager
def _process(
    command: Sequence[str], environ: Mapping[str, str], out: IO[Any] | int
) -> Generator[subprocess.Popen[str]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    process = subprocess.Popen(
        command,
        env={**clean, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **environ},
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,  # Ctrl-C is for the demo, which then ends its children in the right order
    )
    try:
        yield process
    finally:
        try:
            process.terminate()
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            pass
        finally:  # also when a second Ctrl-C came meanwhile
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


class Receiving(threading.Thread):
    """Reads a receiver's lines: JSON is a span, the rest are words.

    Attributes:
        url: where the receiver listens.
    """

    def __init__(
        self,
        command: Sequence[str],
        process: subprocess.Popen[str],
        on_spans: Callable[[list[ReceivedSpan]], object],
    ) -> None:
        super().__init__(name="rootspan-demo-receiver", daemon=True)
        self._process = process
        self._command = command
        self._on_spans = on_spans
        self._words: list[str] = []
        self.url = ""
        self._ready = threading.Event()
        self._ended = False  # set before the event; the thread itself is still alive when who waits for it looks

    def run(self) -> None:
        lines: Any = self._process.stdout
        for line in lines:
            if line.startswith("{"):
                self._on_spans([_span(line)])
                continue
            self._words = [*self._words[-19:], line]
            if greeting := _GREETING.search(line):
                self.url = greeting[1]
                self._ready.set()
        self._ended = True
        self._ready.set()

    def wait_until_ready(self) -> None:
        """Wait for the URL that the receiver says it listens on; raises `ChildError` when it says none."""
        self._ready.wait(_READY)
        if not self.url:
            self.check()
            raise ChildError(f"{_shown(self._command)} did not say within {_READY:g} s where it listens.")

    def check(self) -> None:
        """Raise `ChildError` when the receiver has ended by itself."""
        if self._ended:
            raise _died(self._command, self._process.wait(), "".join(self._words))


def _span(line: str) -> ReceivedSpan:
    fields: dict[str, Any] = orjson.loads(line)
    fields["events"] = tuple(ReceivedEvent(**event) for event in fields["events"])
    fields["links"] = tuple(ReceivedLink(**link) for link in fields["links"])
    return ReceivedSpan(**fields)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _died(command: Sequence[str], status: int, words: str) -> ChildError:
    last = "\n".join(f"  {line}" for line in words.splitlines()[-20:])
    said = f" It said last:\n{last}" if last else ""
    return ChildError(f"{_shown(command)} ended by itself with status {status}.{said}")


def _shown(command: Sequence[str]) -> str:
    return " ".join("python" if part == sys.executable else part for part in command)
