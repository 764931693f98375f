"""What stands where something was redacted."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["DONE", "DROPPED", "REDACTED", "TOO_DEEP", "mark"]

REDACTED: Final = "[redacted]"
DROPPED: Final = "[dropped: redact hook raised]"
TOO_DEEP: Final = "[dropped: nested too deep]"
DONE: Final = re.compile(r"\[redacted(?::\w+)?\]")


def mark(name: str) -> str:
    """Return what stands for a secret whose kind is known, `[redacted:jwt]`."""
    return f"[redacted:{name}]"
