"""Trackers and programs of tests: how they are run, and whether their accounts are right."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rootspan import Tracker
from sinks import Sink


def track(tracker: Tracker, n: int, **fields: Any) -> set[str]:
    """Record so many events; return their ids."""
    return {tracker.track_ai("event", input=f"{number}", **fields) for number in range(n)}


def ids(sink: Sink) -> set[str]:
    """Every span id that was accepted."""
    return {span.span_id for span in sink.spans}


def adds_up(tracker: Tracker) -> dict[str, Any]:
    """Return the tracker's counters, which have to add up."""
    stats = tracker.stats()
    total = stats["delivered"] + stats["queued"] + stats["spooled"] + sum(stats["dropped"].values())
    assert stats["recorded"] == total, stats
    found = stats.get("recovered", {"found": 0, "delivered": 0, "spooled": 0, "dropped": {}})
    assert found["found"] == found["delivered"] + found["spooled"] + sum(found["dropped"].values()), stats
    return stats


def until(condition: Callable[[], object], timeout: float = 60.0) -> None:
    """Wait for a condition; a starved machine is no failure."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.01)


def run(code: str, sink: Sink, tmp_path: Path, before: str = "", **env: str) -> subprocess.Popen[bytes]:
    """Start a program that records; `before` runs before rootspan is imported."""
    script = tmp_path / "program.py"
    script.write_text(f"{before}\nimport os, sys, rootspan\n" + textwrap.dedent(code))
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    env = {**os.environ, "PYTHONPATH": path, "ROOTSPAN_ENDPOINT": sink.url, **env}
    return subprocess.Popen([sys.executable, str(script)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
