"""How long `import rootspan` takes beside the SDK's own."""

from __future__ import annotations

import os
import subprocess
import sys
from tempfile import TemporaryDirectory

from timing import Spread

__all__ = ["measure"]

_CODE = "import time; began = time.process_time(); {}; print((time.process_time() - began) * 1e6)"


def measure(quick: bool) -> dict[str, Spread]:
    """Return the CPU time of both imports in a fresh process, in microseconds.

    Both are read as bytecode, as an installer leaves it: where an environment says that none is written, only what is
    not installed from a wheel would be compiled each time.
    """
    statements = {"import the SDK": "import opentelemetry.sdk.trace.export", "import rootspan": "import rootspan"}
    taken: dict[str, list[float]] = {name: [] for name in statements}
    with TemporaryDirectory() as cache:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = cache
        for turn in range((5 if quick else 15) + 1):
            for name, statement in statements.items():
                command = [sys.executable, "-c", _CODE.format(statement)]
                done = subprocess.run(command, capture_output=True, check=True, env=environment)
                if turn:  # the first one wrote it
                    taken[name].append(float(done.stdout))
    return {name: Spread(tuple(values)) for name, values in taken.items()}
