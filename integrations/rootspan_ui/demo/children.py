"""Example apps as processes: started with an environment of their own, and ended whatever happens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Final

from rootspan.errors import RootspanError

__all__ = ["ChildError", "free_ports", "run_app"]

# settings of the shell that are not meant for the demo
_FOREIGN: Final = (
    "ROOTSPAN_",
    "OTEL_",
    "UVICORN_",
    "WEB_CONCURRENCY",
    "FLASK_",
    "DJANGO_",
    "SUPPORT_DESK_",
    "LANGCHAIN_",
    "LANGSMITH_",
)
_READY: Final = 20.0  # seconds that a child may take to start
_PATIENCE: Final = 7.0  # seconds that it may take to end; rootspan's own last delivery takes up to 5
_POLL: Final = 0.05


class ChildError(RootspanError):
    """A process of the demo did not start, or ended by itself; the message shows what it last said."""


def free_ports(count: int) -> list[int]:
    """Return different TCP ports that are free on 127.0.0.1."""
    with ExitStack() as stack:
        doors = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(door.getsockname()[1]) for door in doors]


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
                words = log.read()[-4_000:].decode("utf-8", "replace").splitlines()[-20:]
                last = "".join(f"\n  {line}" for line in words)
                said = f" It said last:{last}" if last else ""
                raise ChildError(f"{_shown(command)} ended by itself with status {process.returncode}.{said}")

        deadline = time.monotonic() + _READY
        while not _listens(port):
            check()
            meanwhile()
            if time.monotonic() > deadline:
                raise ChildError(f"{_shown(command)} did not listen on port {port} within {_READY:g} s.")
            time.sleep(_POLL)
        yield check


@contextmanager
def _process(command: Sequence[str], environ: Mapping[str, str], log: IO[bytes]) -> Generator[subprocess.Popen[bytes]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    process = subprocess.Popen(
        command,
        env={**clean, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", **environ},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
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


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _shown(command: Sequence[str]) -> str:
    return " ".join("python" if part == sys.executable else part for part in command)
