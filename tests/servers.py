"""Real servers as processes, and the clients that only a socket can be.

with Server(["uvicorn", "served:app", "--port", "{port}"], folder, sink.url) as server:
    server.get("/")                 # waits until it listens
    server.stop()                   # SIGTERM, and returns the exit code
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE = 60.0  # seconds; a starved machine is no failure


class Server:
    """A server's process, started with `python -m`.

    Args:
        command: module and arguments; `{port}` becomes a free port.
        folder: where the app's module is.
        endpoint: where the app's tracker sends to.
        env: more of the environment.
    """

    patience = PATIENCE  # seconds until it listens, or has ended

    def __init__(self, command: list[str], folder: Path, endpoint: str, **env: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._command = [sys.executable, "-m", *(part.format(port=self.port) for part in command)]
        self._folder = folder
        path = os.pathsep.join([str(folder), *map(os.path.abspath, sys.path)])
        self._env = {**os.environ, "PYTHONPATH": path, "ROOTSPAN_ENDPOINT": endpoint, **env}
        self._log = folder / "server.log"

    def __enter__(self) -> Server:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self._folder, env=self._env, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + self.patience
        while True:
            try:
                self.connect().close()
                return self
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.__exit__()
                    raise AssertionError(f"the server did not start:\n{self.log}") from None
                time.sleep(0.05)

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def log(self) -> str:
        """What the server has said so far."""
        return self._log.read_text(errors="replace")

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def session(self) -> http.client.HTTPConnection:
        """Return a connection that is kept alive."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def get(self, path: str, session: http.client.HTTPConnection | None = None) -> tuple[int, bytes]:
        """Send a request; return status and body."""
        own = session or self.session()
        own.request("GET", path)
        answer = own.getresponse()
        body = answer.read()
        if session is None:
            own.close()
        return answer.status, body

    def send(self, head: str, body: bytes = b"") -> socket.socket:
        """Send a request as written; return the connection."""
        connection = self.connect()
        connection.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
        return connection

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, and return its exit code."""
        self.process.send_signal(sign)
        try:
            return self.process.wait(self.patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server did not end:\n{self.log}") from None


def read_until(connection: socket.socket, wanted: bytes) -> bytes:
    """Read from a connection until something came, or it ended."""
    found = b""
    while wanted not in found:
        piece: Any = connection.recv(65_536)
        if not piece:
            break
        found += piece
    return found
