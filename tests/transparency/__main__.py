"""Runs the frameworks' own test suites bare and with our adapter in every app, and prints the outcomes that changed.

    tox run -e transparency [-- starlette fastapi flask django]

The suites are those of the source distributions on the package index, of the very versions that are installed. A test
that changed is run again both ways, so that one which ends differently each time anyway is not blamed on us.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
WORK = Path(os.environ.get("TRANSPARENCY_DIR", ".transparency")).resolve()

DJANGO_LABELS = (
    "asgi", "async", "auth_tests", "csrf_tests", "generic_views", "handlers", "httpwrappers", "middleware",
    "middleware_exceptions", "requests_tests", "responses", "servers", "sessions_tests", "test_client",
    "test_client_regress", "wsgi",
)  # fmt: skip


class Suite(NamedTuple):
    """A framework's own tests: what runs all of them, and how one of them is named in the command."""

    name: str
    command: tuple[str, ...]
    folder: str = "."
    tests: tuple[str, ...] = ("tests",)


PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "everywhere", "--no-header", "--tb=line")
SUITES = {
    suite.name: suite
    for suite in (
        Suite("starlette", PYTEST),
        Suite("fastapi", PYTEST),
        Suite("flask", PYTEST),
        Suite("django", ("runtests.py", "--parallel", "1", "--noinput"), "tests", DJANGO_LABELS),
    )
}


def main(names: Sequence[str]) -> int:
    """Return 0 when no outcome changed, 1 when some did, 2 when a suite could not be run."""
    unknown = set(names) - set(SUITES)
    if unknown:
        print(f"There is no suite {', '.join(sorted(unknown))}. Fix: name some of {', '.join(SUITES)}.")
        return 2
    changed: dict[str, int] = {}
    for name in names or SUITES:
        changed[name] = compare(SUITES[name])
    print("\nOutcomes that changed with the adapter in every app:")
    for name, count in changed.items():
        print(f"  {name:<10} {version(name):<10} {count if count >= 0 else 'could not be run'}")
    return 2 if min(changed.values()) < 0 else int(any(changed.values()))


def compare(suite: Suite) -> int:
    """Return how many outcomes of a suite change with our adapter, -1 when that can not be told."""
    print(f"\n{suite.name} {version(suite.name)}", flush=True)
    folder = source(suite.name) / suite.folder
    if not folder.joinpath(suite.tests[0] if suite.name != "django" else "runtests.py").exists():
        print("  its source distribution carries no tests")
        return -1
    bare, ours = (run(suite, folder, with_us, suite.tests) for with_us in (False, True))
    recorded, lost = ours.pop("recorded", "0"), ours.pop("lost", "{}")
    for name in ("recorded", "lost"):
        bare.pop(name, None)
    if not bare or recorded == "0":
        print(f"  {len(bare)} tests ran bare, {len(ours)} with us, {recorded} spans were recorded: see {WORK}")
        return -1
    passed = sum("passed" in outcome or outcome == "success" for outcome in bare.values())
    print(f"  {len(bare)} tests, of which {passed} pass bare; {recorded} spans with us", flush=True)
    different = differences(bare, ours)
    if different:  # does each of them end like that every time?
        again = [run(suite, folder, with_us, sorted(different)) for with_us in (False, True)]
        different &= differences(*again)
    for test in sorted(different):
        print(f"  CHANGED {test}: {bare.get(test, 'not run')} -> {ours.get(test, 'not run')}")
    if lost != "{}":  # what a record was lost for is a mistake of ours, though the app noticed nothing
        print(f"  LOST {lost}: see {WORK}")
    return len(different) + (lost != "{}")


def differences(bare: dict[str, str], ours: dict[str, str]) -> set[str]:
    """Return the tests that ended differently, or only once."""
    return {test for test in {*bare, *ours} - {"recorded", "lost"} if bare.get(test) != ours.get(test)}


def run(suite: Suite, folder: Path, with_us: bool, tests: Sequence[str]) -> dict[str, str]:
    """Run tests of a suite; return how each ended."""
    label = f"{suite.name}-{'with' if with_us else 'bare'}"
    outcomes, log = WORK / f"{label}.jsonl", WORK / f"{label}.log"
    outcomes.unlink(missing_ok=True)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "ROOTSPAN_", "OTEL_"))},
        "PYTHONPATH": os.pathsep.join((str(HERE), str(folder))),
        "PYTHONHASHSEED": "0",
        "TRANSPARENCY_OUTCOMES": str(outcomes),
        "TRANSPARENCY_SUITE": suite.name,
        "TRANSPARENCY_WITH": suite.name if with_us else "",
    }
    with log.open("w") as out:
        command = [sys.executable, *suite.command, *tests]
        subprocess.run(command, cwd=folder, env=environ, stdout=out, stderr=subprocess.STDOUT, check=False)
    if not outcomes.exists():
        return {}
    ended: dict[str, str] = {}
    for line in outcomes.read_text("utf-8").splitlines():
        test, outcome = json.loads(line)
        ended[test] = str(outcome) if test not in ended else f"{ended[test]}, {outcome}"
    return ended


def source(name: str) -> Path:
    """Return the unpacked source distribution of the installed version."""
    WORK.mkdir(parents=True, exist_ok=True)
    wanted = f"{name}-{version(name)}"
    folder = WORK / wanted
    if not folder.exists():
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest"]
        subprocess.run([*download, str(WORK), f"{name}=={version(name)}"], check=True)
        with tarfile.open(WORK / f"{wanted}.tar.gz") as archive:
            safe: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            archive.extractall(WORK, **safe)
    return folder


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
