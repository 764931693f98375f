"""Measures everything in one run, prints it, and fails where the budget is exceeded.

`--quick` takes a minute. `--short` is for machines that others use: CPU time only, the least of many rounds, and the
limits called `short`, which are wide enough for any machine; what exceeds one is measured once more before it counts.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from typing import Final

import caller
import delivered
import imports
import served
import web
from timing import Spread, budget, ratio

PARTS: Final[dict[str, Callable[[bool], dict[str, Spread]]]] = {
    "caller": caller.measure,
    "growth": caller.growth,
    "delivered": delivered.measure,
    "spool": delivered.spooled,
    "imports": imports.measure,
    "web": web.measure,
    "served": served.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"some of {', '.join([*PARTS, 'burst'])}; all without")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--short", action="store_true", help="only what any machine can tell")
    options = parser.parse_args()
    if options.short:
        return _exceeds_short() and _exceeds_short()
    chosen = options.parts or [*PARTS, "burst"]
    print(f"Python {platform.python_version()}, {platform.machine()}; microseconds, median of interleaved rounds\n")
    found: dict[str, Spread] = {}
    for part in chosen:
        if part == "burst":
            for name, value in {**delivered.burst(options.quick), **delivered.stalls(options.quick)}.items():
                print(f"{name:<38}{value:12.2f}")
            continue
        measured = PARTS[part](options.quick)
        for name, spread in measured.items():
            print(f"{name:<38}{spread.median:12.2f}   ± {spread.wide / 2:.0%}")
        found |= measured
        print()
    return _checked(found)


def _exceeds_short() -> int:
    """Print the ratios of the least CPU times beside their `short` limits; return 1 when one is exceeded."""
    found = {**caller.measure(quick=True), **delivered.measure(quick=True), **delivered.spooled(quick=True)}
    exceeded = 0
    for line in budget():
        if "short" in line:
            here = found[line["name"]].least / found[line["of"]].least
            over = here > line["short"]
            exceeded += over
            print(f"{line['name']:<38}{here:12.3f}{line['short']:12.3f}{'   EXCEEDED' if over else ''}")
    return 1 if exceeded else 0


def _checked(found: dict[str, Spread]) -> int:
    """Print each ratio beside its limit; return 1 when one is exceeded by more than the run's own spread."""
    exceeded = 0
    print(f"\n{'':<38}{'here':>12}{'limit':>12}{'goal':>12}")
    for line in budget():
        if line["name"] not in found or line["of"] not in found:
            continue
        ours, theirs = found[line["name"]], found[line["of"]]
        if "add" in line:
            here, spread = ours.median - theirs.median, ours.median * ours.wide
            limit, goal, shown = line["add"], line.get("goal_add"), "{:12.1f}"
        else:
            here, spread = ratio(ours, theirs)
            limit, goal, shown = line["limit"], line.get("goal"), "{:12.3f}"
            limit = max(limit, 1 + line.get("slack", 0.0) / theirs.median) if "slack" in line else limit
        over = here - spread > limit
        exceeded += over
        cells = "".join(shown.format(value) if value is not None else " " * 12 for value in (here, limit, goal))
        print(f"{line['name']:<38}{cells}{'   EXCEEDED' if over else ''}")
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
