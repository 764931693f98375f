"""A collector in a process of its own: it writes ids to a file, fsyncs, and only then answers; it fails on script.

    python collector.py '{"log": "ids", "port": 0, "faults": [[8.0, "503"]], "certificate": null}'

It prints its port. Each fault lasts its seconds, counted from the first request on; after the last one it accepts.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from sinks import Reply, Request, Sink, bomb, close, cut, drip, hang, html, partial, redirect, reset

REJECTED = 3  # spans of each request that a partial success leaves out
LARGEST = 20_000  # bytes of a request that a 413 lets pass

FAULTS: dict[str, Callable[[Request], Reply | int | None]] = {
    **{str(status): lambda request, status=status: status for status in (401, 403, 408, 429, 500, 502, 503, 504)},  # type: ignore[misc]
    "503 for 2 s": lambda request: Reply(503, {"Retry-After": "2"}),
    "429 until a date": lambda request: Reply(429, {"Retry-After": formatdate(time.time() + 2, usegmt=True)}),
    "partial": lambda request: partial(REJECTED, "too old"),
    "hang": lambda request: hang(),
    "drip": lambda request: drip(),
    "close": lambda request: close(),
    "cut": lambda request: cut(),
    "html": lambda request: html(),
    "bomb": lambda request: bomb(),
    "redirect": lambda request: redirect("http://127.0.0.1:1/login?token=x"),
    "413": lambda request: 413 if len(request.body) > LARGEST else None,
    "poison": lambda request: 400 if b"poison" in request.body else None,
    "reset": lambda request: None,  # sent before the body is read
}


class Collector(Sink):
    """The tests' sink, with a log instead of a memory.

    Args:
        config: see the module's docstring.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(certificate=config.get("certificate"))
        self._port = config.get("port", 0)
        self._log = os.open(config["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._faults: list[tuple[float, str]] = config.get("faults", [])
        self._began: float | None = None
        self._writing = threading.Lock()
        self.script(self._answer)

    def fault(self) -> str | None:
        now = time.monotonic()
        if self._began is None:
            self._began = now
        left = now - self._began
        for seconds, fault in self._faults:
            if left < seconds:
                return fault
            left -= seconds
        return None

    def _answer(self, request: Request) -> Reply | int | None:
        fault = self.fault()
        return None if fault is None else FAULTS[fault](request)

    def early_answer(self) -> Reply | None:
        return reset() if self.fault() == "reset" else None

    def keep(self, request: Request) -> None:
        if request.status is None or not 200 <= request.status < 300:
            return
        fault = self.fault()
        if fault in ("html", "bomb"):  # a 200 that is no OTLP answer
            return
        spans = request.spans[REJECTED:] if fault == "partial" else request.spans
        with self._writing:
            os.write(self._log, "".join(f"{span.span_id} {span.name}\n" for span in spans).encode())
            os.fsync(self._log)


def main() -> None:
    collector = Collector(json.loads(sys.argv[1]))
    collector.restart()
    print(collector.url.rpartition(":")[2], flush=True)
    sys.stdin.read()  # until the parent ends, or kills it


if __name__ == "__main__":
    main()
