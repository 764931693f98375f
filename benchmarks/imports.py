"""How long `import rootspan` takes beside the SDK's own."""

from __future__ import annotations

import subprocess
import sys

from timing import Spread

__all__ = ["measure"]

_CODE = "import time; began = time.process_time(); {}; print((time.process_time() - began) * 1e6)"


def measure(quick: bool) -> dict[str, Spread]:
    """Return the CPU time of both imports in a fresh process, in microseconds."""
    statements = {"import the SDK": "import opentelemetry.sdk.trace.export", "import rootspan": "import rootspan"}
    taken: dict[str, list[float]] = {name: [] for name in statements}
    for _ in range(5 if quick else 15):
        for name, statement in statements.items():
            done = subprocess.run([sys.executable, "-c", _CODE.format(statement)], capture_output=True, check=True)
            taken[name].append(float(done.stdout))
    return {name: Spread(tuple(values)) for name, values in taken.items()}
