"""What the page about writing an integration prints, as programs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

__all__ = ["BLOCKS", "PAGE", "printed"]

PAGE = (Path(__file__).parents[1] / "docs" / "write-an-integration.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def printed(*blocks: int, **names: Any) -> dict[str, Any]:
    """Run some of them, as printed, where these names are known; return what they define."""
    names["__name__"] = "printed"
    for block in blocks:
        exec(compile(BLOCKS[block], "docs/write-an-integration.md", "exec"), names)
    return names
