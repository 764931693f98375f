"""The part of the fault matrix that every change has to pass; `tox run -e faults` runs all of it."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.skipif(
        "ROOTSPAN_FAULTS" not in os.environ,
        reason="two minutes of real faults, which do not depend on the Python: one environment sets ROOTSPAN_FAULTS",
    ),
    pytest.mark.timeout(400),
]


def _matrix() -> Any:
    path = Path(__file__).parent / "faults" / "matrix.py"
    spec = importlib.util.spec_from_file_location("fault_matrix", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.SLACK = 30.0  # a machine that is starved of CPU ends no process within its time
    return module


PARTS = list(_matrix().parts(quick=True))


@pytest.mark.parametrize("part", PARTS, ids=[f"{part.name}, {part.mode}" for part in PARTS])
def test_delivery_03_every_fault_is_accounted_for(part: Any) -> None:
    """delivery 1 to 5, 7, 8, 9, 13, 14, 17"""
    row = part.run()
    print("  ".join(row.cells()))
    assert not row.wrong, row
