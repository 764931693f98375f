"""A program that records events, and tells exactly what it did; what it returned is in a file before anything else.

python client.py '{"events": 2000, "rate": 250, "threads": 1, "size": 200, "returned": "ids", "result": "out"}'
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import socket
import sys
import threading
import time
from typing import Any

CONFIG: dict[str, Any] = json.loads(sys.argv[1])
RESULT: dict[str, Any] = {"slowest": 0.0}


def peak() -> float:
    """Megabytes, of this program alone where the system tells: the other number is inherited from its parent."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tell() -> None:
    """After everything of rootspan's: what became of it, and how large it all was."""
    RESULT.update(stats=rootspan.stats(), memory=peak() - RESULT.get("idle", 0.0), over=time.monotonic())
    with open(CONFIG["result"], "w", encoding="utf-8") as file:
        json.dump(RESULT, file)


atexit.register(tell)  # before rootspan is imported, so that it runs after rootspan's own

import rootspan  # noqa: E402

if limit := CONFIG.get("file_size"):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
if seconds := CONFIG.get("no_dns"):
    real, until = socket.getaddrinfo, time.monotonic() + seconds

    def look_up(*arguments: Any, **options: Any) -> Any:
        if time.monotonic() < until:
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return real(*arguments, **options)

    socket.getaddrinfo = look_up

RETURNED = os.open(CONFIG["returned"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def record(count: int, rate: float, text: str) -> None:
    began, slowest = time.perf_counter(), 0.0
    for number in range(count):
        if rate:
            time.sleep(max(0.0, began + number / rate - time.perf_counter()))
        name = "poison" if CONFIG.get("poison") and number % 100 == 50 else "event"
        before = time.perf_counter()
        span_id = rootspan.track_ai(name, user_id="u1", input=text)
        slowest = max(slowest, time.perf_counter() - before)
        os.write(RETURNED, f"{span_id} {name}\n".encode())
    RESULT["slowest"] = max(RESULT["slowest"], slowest)


def main() -> None:
    rootspan.stats()  # configures it
    RESULT["idle"] = peak()
    threads = CONFIG.get("threads", 1)
    share, rate, text = CONFIG["events"] // threads, CONFIG.get("rate", 0) / threads, "x" * CONFIG.get("size", 200)
    others = [threading.Thread(target=record, args=(share, rate, text)) for _ in range(threads - 1)]
    for thread in others:
        thread.start()
    record(CONFIG["events"] - share * len(others), rate, text)
    for thread in others:
        thread.join()
    for _ in range(CONFIG.get("children", 0)):
        if os.fork() == 0:
            record(50, 0, text)
            sys.exit(0) if CONFIG.get("graceful") else os._exit(0)
    while CONFIG.get("children"):
        try:
            os.wait()
        except ChildProcessError:
            break
    if CONFIG.get("flush"):
        rootspan.flush(CONFIG["flush"])
    if CONFIG.get("adopt"):
        deadline = time.monotonic() + CONFIG["adopt"]
        while os.listdir(os.environ["ROOTSPAN_SPOOL"]) and time.monotonic() < deadline:
            if not any(name.endswith(".owner") for name in os.listdir(os.environ["ROOTSPAN_SPOOL"])):
                break
            time.sleep(0.05)
    if CONFIG.get("die"):
        os.kill(os.getpid(), 9)
    RESULT["ending"] = time.monotonic()


if __name__ == "__main__":
    main()
