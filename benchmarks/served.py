"""What a served request costs the server's process: real servers, one worker each, and the delivery in it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from apps import APPS, PATH
from collector import Collector
from timing import Spread

__all__ = ["measure"]

_CONNECTIONS: Final = 8
_HERE: Final = Path(__file__).parent
_TICK: Final = os.sysconf("SC_CLK_TCK")
_UVICORN: Final = [
    "uvicorn", "--factory", "apps:application", "--port", "{port}", "--log-level", "warning", "--no-access-log",
]  # fmt: skip
_GUNICORN: Final = ["gunicorn", "apps:application()", "--bind", "127.0.0.1:{port}", "--log-level", "critical"]
_SERVERS: Final = {"Starlette": _UVICORN, "FastAPI": _UVICORN, "Flask": _GUNICORN, "Django": _GUNICORN}


def measure(quick: bool) -> dict[str, Spread]:
    """Return the CPU time of a server's processes for each request, user and system, in microseconds.

    Each app runs bare and with its adapter in turn, and for each look in a new server: where a process happens to lie
    in memory moves its figures by up to a tenth, for as long as it lives.
    """
    found: dict[str, Spread] = {}
    with Collector() as collector:
        for framework, (with_adapter, _) in APPS.items():
            taken: dict[str, list[float]] = {framework: [], with_adapter: []}
            for _ in range(2 if quick else 8):
                for name, endpoint in ((framework, None), (with_adapter, collector.url)):
                    with _server(framework, endpoint) as (process, port):
                        _await(process, port)
                        taken[name].append(_spent(process.pid, port))
            found |= {f"{name}, served": Spread(tuple(values)) for name, values in taken.items()}
    return found


@contextmanager
def _server(framework: str, endpoint: str | None) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", *(part.format(port=port) for part in _SERVERS[framework])]
    env = {**os.environ, "BENCHMARK_APP": framework, **({"ROOTSPAN_ENDPOINT": endpoint} if endpoint else {})}
    process = subprocess.Popen(command, cwd=_HERE, env=env, start_new_session=True)
    try:
        yield process, port
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # with its worker; nothing of it is needed any more
        process.wait()


def _await(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a server listens, and let its code warm up."""
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
            break
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.05)
    _load(port, 0.3)


def _spent(pid: int, port: int) -> float:
    """Return the microseconds of CPU time that each request took under load, until what it left is delivered."""
    before = _cpu(pid)
    served = _wrk(port) if shutil.which("wrk") else _load(port, 1.0)
    time.sleep(0.3)  # the worker looks at its queue every 0.2 s
    return (_cpu(pid) - before) / served * 1e6


def _cpu(pid: int) -> float:
    """Return the CPU time of a process and of its children, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(map(int, fields[11:13])) / _TICK + sum(_cpu(int(child)) for child in children)


def _wrk(port: int) -> int:
    """Send requests for a second; return how many were answered."""
    command = ["wrk", "-t1", f"-c{_CONNECTIONS}", "-d1s", f"http://127.0.0.1:{port}{PATH}"]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return int(said.partition(" requests in")[0].split()[-1])


def _load(port: int, seconds: float) -> int:
    """Do the same without wrk, from a process of our own."""
    command = [sys.executable, __file__, str(port), str(seconds)]
    return int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def main(port: int, seconds: float) -> None:
    """Send requests over connections that are kept alive, each as soon as the one before is answered."""
    request = f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    answered, deadline = 0, time.monotonic() + seconds
    connections = [_asking(port, request) for _ in range(_CONNECTIONS)]
    while connections and time.monotonic() < deadline:
        for place, connection in enumerate(connections):
            closes = _read(connection)
            answered += 1
            if closes:
                connection.close()
                connections[place] = _asking(port, request)
            else:
                connection.sendall(request)
    for connection in connections:
        _read(connection)
        connection.close()  # which some servers wait for
        answered += 1
    print(answered)


def _asking(port: int, request: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(request)
    return connection


def _read(connection: socket.socket) -> bool:
    """Read one response; return whether the server closes the connection after it."""
    said = b""
    while b"\r\n\r\n" not in said:
        said += _piece(connection)
    head, _, body = said.partition(b"\r\n\r\n")
    status, *lines = head.lower().split(b"\r\n")
    headers = dict(line.split(b": ", 1) for line in lines)
    assert status.split()[1] == b"200", status
    while len(body) < int(headers[b"content-length"]):
        body += _piece(connection)
    return headers.get(b"connection") == b"close"


def _piece(connection: socket.socket) -> bytes:
    piece = connection.recv(65_536)
    assert piece, "the server closed the connection within a response"
    return piece


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
