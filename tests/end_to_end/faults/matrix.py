"""Every fault against both modes, with exact accounts: what was sent, received, doubled, lost and counted.

python matrix.py                    # all of it, some minutes
python matrix.py --quick            # a representative part, as in the normal test suite
python matrix.py outage burst       # what has these words in its name
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
TESTS = HERE.parents[1]
MEMORY_LIMIT = 64.0  # MB above idle
EXIT_LIMIT = {"memory": 5.0, "spool": 1.0}  # seconds; a busy machine gets SLACK more
SLACK = 2.5
OUTAGE = 8.0  # seconds


@dataclass
class Scenario:
    """One fault, and what the program does meanwhile."""

    name: str
    faults: list[tuple[float, str]] = field(default_factory=list)
    events: int = 2_000
    rate: float = 250.0
    threads: int = 1
    size: int = 200
    modes: tuple[str, ...] = ("memory", "spool")
    client: dict[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    during: Callable[[Bench], None] | None = None  # what is done to the collector meanwhile
    starts_down: bool = False
    counted: Callable[[int, str], bool] = field(default=lambda n, mode: n == 0)  # how much may be counted as lost
    kills: int = 0  # how often the program is killed and started again
    quick: bool = False  # part of the normal suite, scaled down

    def scaled(self) -> Scenario:
        """The same in seconds."""
        faults = [(seconds / 8, fault) for seconds, fault in self.faults]
        client = {name: value / 4 if name in ("no_dns", "file_size") else value for name, value in self.client.items()}
        name, kills = self.name.replace("50", "4"), 4 if self.kills else 0
        return replace(self, name=name, faults=faults, events=self.events // 8, client=client, kills=kills)


@dataclass
class Row:
    """The accounts of one scenario in one mode."""

    name: str
    mode: str
    sent: int = 0
    received: int = 0
    duplicates: int = 0
    lost: int = 0
    counted: int = 0
    slowest: float = 0.0  # ms
    exit: float = 0.0  # s
    memory: float = 0.0  # MB
    wrong: list[str] = field(default_factory=list)

    def cells(self) -> tuple[str, ...]:
        return (
            self.name, self.mode, f"{self.sent}", f"{self.received}", f"{self.duplicates}", f"{self.lost}",
            f"{self.counted}", f"{self.slowest:.1f}", f"{self.exit:.2f}", f"{self.memory:.1f}",
            ", ".join(self.wrong) or "ok",
        )  # fmt: skip


HEAD = ("scenario", "mode", "sent", "received", "doubled", "lost", "counted", "slowest ms", "exit s", "+MB", "verdict")


class Bench:
    """A collector process, a directory, and the programs that record."""

    def __init__(self, scenario: Scenario, mode: str, folder: Path) -> None:
        self.scenario, self.mode, self.folder = scenario, mode, folder
        self.log, self.returned, self.spool = folder / "received", folder / "returned", folder / "spool"
        self.log.touch()
        self.returned.touch()
        self.faults: list[tuple[float, str]] = scenario.faults
        self.certificate: list[str] | None = None
        self.port = 0
        self.results: list[dict[str, Any]] = []
        self.exits: list[float] = []
        self._collector: subprocess.Popen[bytes] | None = None
        self._programs = 0

    def environ(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROOTSPAN_", "OTEL_"))}
        path = os.pathsep.join(map(os.path.abspath, [str(TESTS), *sys.path]))
        secure = "https" if self.certificate else "http"
        mode = {"ROOTSPAN_SPOOL": str(self.spool)} if self.mode == "spool" else {}
        own = {"PYTHONPATH": path, "ROOTSPAN_ENDPOINT": f"{secure}://localhost:{self.port}", "ROOTSPAN_TIMEOUT": "2"}
        return {**kept, **own, **mode, **self.scenario.environ, **more}

    def start_collector(self) -> None:
        config = {"log": str(self.log), "port": self.port, "faults": self.faults, "certificate": self.certificate}
        command = [sys.executable, str(HERE / "collector.py"), json.dumps(config)]
        self._collector = subprocess.Popen(command, env=self.environ(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._collector.stdout is not None
        self.port = int(self._collector.stdout.readline())

    def kill_collector(self) -> None:
        if self._collector is not None:
            self._collector.kill()
            self._collector.communicate()
            self._collector = None

    def start_program(self, environ: dict[str, str] | None = None, **config: Any) -> subprocess.Popen[bytes]:
        self._programs += 1
        scenario = self.scenario
        config = {
            "events": scenario.events, "rate": scenario.rate, "threads": scenario.threads, "size": scenario.size,
            "returned": str(self.returned), "result": str(self.folder / f"result-{self._programs}"), "flush": 120.0,
            **scenario.client, **config,
        }  # fmt: skip
        command = [sys.executable, "-W", "ignore", str(HERE / "client.py"), json.dumps(config)]
        return subprocess.Popen(command, env=self.environ(**(environ or {})), stderr=subprocess.PIPE)

    def finish(self, process: subprocess.Popen[bytes], timeout: float = 240.0) -> None:
        """Wait for a program's end, and keep what it told."""
        _, errors = process.communicate(timeout=timeout)
        over = time.monotonic()
        with (self.folder / "errors").open("ab") as file:
            file.write(errors)
        command: Any = process.args
        path = Path(json.loads(command[-1])["result"])
        if path.exists():
            result = json.loads(path.read_text())
            self.results.append(result)
            if "ending" in result:
                self.exits.append(over - result["ending"])

    def adopt(self) -> None:
        """Let a successor deliver what is left in the spool."""
        if any(self.spool.glob("*.owner")):
            self.finish(self.start_program(events=0, children=0, adopt=120.0, die=False, poison=False))

    def row(self) -> Row:
        sent = [line.split()[0] for line in self.returned.read_text().splitlines()]
        received = [line.split()[0] for line in self.log.read_text().splitlines()]
        counted = sum(
            sum(stats["dropped"].values()) + sum(stats.get("recovered", {}).get("dropped", {}).values())
            for stats in (result["stats"] for result in self.results)
        )
        row = Row(self.scenario.name, self.mode, len(sent), len(set(received) & set(sent)))
        row.duplicates = len(received) - len(set(received))
        row.counted = counted
        row.lost = row.sent - row.received - counted
        row.slowest = 1000 * max((result["slowest"] for result in self.results), default=0.0)
        row.exit = max(self.exits, default=0.0)
        row.memory = max((result["memory"] for result in self.results), default=0.0)
        return row


def judge(row: Row, scenario: Scenario) -> None:
    """Write down what the row breaks of what is promised."""
    if row.lost:
        row.wrong.append("LOST")
    if not scenario.counted(row.counted, row.mode):
        row.wrong.append("COUNTED")
    if row.memory > MEMORY_LIMIT:
        row.wrong.append("MEMORY")
    if row.exit > EXIT_LIMIT[row.mode] + SLACK:
        row.wrong.append("EXIT")
    if not row.sent:
        row.wrong.append("NOTHING SENT")


def play(scenario: Scenario, mode: str) -> Row:
    """Run one scenario in one mode."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(scenario, mode, Path(folder))
        try:
            if scenario.during is tls:
                bench.certificate = certificate(bench.folder, "wrong")
                scenario.environ["ROOTSPAN_CERTIFICATE"] = certificate(bench.folder, "right")[0]
            bench.start_collector()
            if scenario.starts_down:
                bench.kill_collector()
            trouble = threading.Thread(target=scenario.during, args=(bench,)) if scenario.during else None
            if trouble is not None:
                trouble.start()
            if scenario.kills:
                killed_again_and_again(bench, scenario.kills)
            else:
                bench.finish(bench.start_program())
            if trouble is not None:
                trouble.join()
            bench.adopt()
            row = bench.row()
        finally:
            bench.kill_collector()
        judge(row, scenario)
        return row


def killed_again_and_again(bench: Bench, times: int) -> None:
    """Kill the program in the midst of recording and sending, and start it again."""
    for number in range(times):
        before = bench.returned.stat().st_size
        process = bench.start_program(events=10**6, rate=1_000)
        wanted = before + 25 * (20 + 10 * (number % 7))
        while bench.returned.stat().st_size < wanted:
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        process.kill()
        process.communicate()


def certificate(folder: Path, name: str) -> list[str]:
    made = [str(folder / f"{name}.pem"), str(folder / f"{name}.key")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", made[0], "-keyout", made[1]]
    subprocess.run(command, check=True, capture_output=True)
    return made


# What happens to the collector meanwhile


def down(seconds: float = OUTAGE) -> Callable[[Bench], None]:
    """Kill it with SIGKILL, and start it again on the same port."""

    def do(bench: Bench) -> None:
        time.sleep(min(1.0, seconds / 4))
        bench.kill_collector()
        time.sleep(seconds)
        bench.start_collector()

    return do


def late(bench: Bench) -> None:
    """Nobody listens at first."""
    time.sleep(2.0)
    bench.start_collector()


def flapping(bench: Bench) -> None:
    for _ in range(4):
        time.sleep(0.4)
        bench.kill_collector()
        time.sleep(0.4)
        bench.start_collector()


def tls(bench: Bench) -> None:
    """Show a certificate that nobody trusts, then the right one."""
    time.sleep(2.0)
    bench.kill_collector()
    bench.certificate = [str(bench.folder / "right.pem"), str(bench.folder / "right.key")]
    bench.start_collector()


def outage(fault: str, **options: Any) -> Scenario:
    return Scenario(f"{fault} for {OUTAGE:g} s", [(OUTAGE, fault)], **options)


def scenarios() -> list[Scenario]:
    """All of them, in the order of the table."""
    seconds_8 = [
        outage(fault, quick=fault in ("503", "503 for 2 s", "429 until a date", "reset", "hang", "html"))
        for fault in (
            "408", "429", "500", "502", "503", "504", "503 for 2 s", "429 until a date", "reset", "close", "cut",
            "hang", "drip", "html", "bomb", "redirect", "401", "403",
        )
    ]  # fmt: skip
    dies = {"die": True, "flush": 0}
    return [
        Scenario("no fault", quick=True),
        *seconds_8,
        Scenario("nobody listens for 2 s", during=late, starts_down=True, quick=True),
        Scenario("collector killed, down for 8 s", during=down(), quick=False),
        Scenario("collector killed, down for 1 s", during=down(1.0), quick=True),
        Scenario("collector flapping", during=flapping, quick=True),
        Scenario("no DNS for 4 s", client={"no_dns": 4.0}, quick=True),
        Scenario("untrusted TLS for 2 s", during=tls),
        Scenario("partial success for 2 s", [(2.0, "partial")], counted=lambda n, mode: 0 < n < 500, quick=True),
        Scenario("poison, 1 in 100", [(600.0, "poison")], client={"poison": True},
                 counted=lambda n, mode: n > 0, quick=True),
        Scenario("413 above 20 kB", [(600.0, "413")], rate=2_000),
        Scenario("60 s outage, 8,000 events", [(60.0, "503")], events=8_000, rate=130),
        Scenario("burst of 200,000 on 8 threads", events=200_000, rate=0, threads=8, size=500,
                 counted=lambda n, mode: n == 0 or mode == "memory"),
        Scenario("burst of 20,000 on 8 threads", events=20_000, rate=0, threads=8, size=500, quick=True),
        Scenario("exit while it hangs", [(12.0, "hang")], events=100, rate=0, client={"flush": 0},
                 environ={"ROOTSPAN_TIMEOUT": "30"}, counted=lambda n, mode: n == (0 if mode == "spool" else 100)),
        Scenario("exit while it refuses", events=100, rate=0, client={"flush": 0}, during=late, starts_down=True,
                 counted=lambda n, mode: n == 0 or mode == "memory", quick=True),
        Scenario("killed at the end", client=dies, modes=("spool",), quick=True),
        Scenario("killed during an outage", [(3.0, "503")], client=dies, rate=1_000, modes=("spool",)),
        Scenario("killed and restarted 50 times", kills=50, modes=("spool",), quick=True),
        Scenario("6 forked children end gracefully", client={"children": 6, "graceful": True}, quick=True),
        Scenario("6 forked children end by os._exit", client={"children": 6}, modes=("spool",), quick=True),
        Scenario("disk full", client={"file_size": 300_000}, modes=("spool",), quick=True),
        Scenario("no directory can be made", environ={"ROOTSPAN_SPOOL": "/dev/null/spool"}, modes=("spool",)),
        Scenario("beyond a bound of 1 MB", [(4.0, "503")], size=4_000, rate=1_000,
                 environ={"ROOTSPAN_SPOOL_MAX_BYTES": str(1 << 20), "ROOTSPAN_MAX_QUEUE_BYTES": str(1 << 20)},
                 counted=lambda n, mode: n > 100),
    ]  # fmt: skip


class Part(NamedTuple):
    """One row to be."""

    name: str
    mode: str
    run: Callable[[], Row]


def parts(quick: bool) -> Iterator[Part]:
    """All rows, or those of the normal suite, scaled down."""
    for scenario in scenarios():
        if not quick or scenario.quick:
            for mode in scenario.modes:
                yield Part(scenario.name, mode, partial(play, scenario.scaled() if quick else scenario, mode))
    for several in (shared, corrupted, swapped):
        yield Part(several.__name__, "spool", partial(several, 200 if quick else 2_000))


@contextlib.contextmanager
def benches(name: str, number: int, events: int) -> Iterator[list[Bench]]:
    with tempfile.TemporaryDirectory() as folder:
        made = []
        for index in range(number):
            (Path(folder) / str(index)).mkdir()
            made.append(Bench(Scenario(name, events=events, rate=0), "spool", Path(folder) / str(index)))
        try:
            yield made
        finally:
            for bench in made:
                bench.kill_collector()


def shared(events: int) -> Row:
    """Two programs use one directory at once, one of them is killed; the other, then a third, takes over."""
    with benches("two processes share a directory", 1, events) as (bench,):
        bench.start_collector()
        both = [bench.start_program(rate=events / 2), bench.start_program(rate=events, die=True, flush=0)]
        for process in both:
            bench.finish(process)
        bench.adopt()
        row = bench.row()
        judge(row, bench.scenario)
        return row


def corrupted(events: int) -> Row:
    """Ten bytes are flipped in a dead owner's segment: ten records at most are lost, and all of them counted."""
    with benches("ten flipped bytes", 1, events) as (bench,):
        bench.start_collector()
        bench.kill_collector()
        bench.finish(bench.start_program(die=True, flush=0))
        (path,) = bench.spool.glob("*.segment")
        data = bytearray(path.read_bytes())
        for part in range(10):
            data[len(data) * (2 * part + 1) // 20] ^= 0x5A
        path.write_bytes(data)
        bench.start_collector()
        bench.adopt()
        row = bench.row()
        judge(row, replace(bench.scenario, counted=lambda n, mode: 0 < n <= 10))
        return row


def swapped(events: int) -> Row:
    """Two programs, two keys, one directory: after a restart with swapped keys nothing crosses."""
    with benches("two trackers with swapped keys", 2, events) as pair:
        first, second = pair
        second.spool = first.spool
        for bench in pair:
            bench.start_collector()
            bench.kill_collector()
        keys = [{"ROOTSPAN_API_KEY": f"rs-key-number-{number}-of-two"} for number in range(2)]
        for bench, key in zip(pair, keys, strict=True):
            bench.finish(bench.start_program(key, die=True, flush=0))
        for bench in pair:
            bench.start_collector()
        for bench, key in zip(pair, reversed(keys), strict=True):
            bench.finish(bench.start_program(key, events=0, adopt=1.5))
        crossed = sum(len(bench.log.read_text().splitlines()) for bench in pair)
        for bench, key in zip(pair, keys, strict=True):
            bench.finish(bench.start_program(key, events=0, adopt=10.0))
        rows = [bench.row() for bench in pair]
        row = replace(rows[0], sent=sum(r.sent for r in rows), received=sum(r.received for r in rows))
        row.lost = row.sent - row.received
        judge(row, first.scenario)
        strangers = set(first.log.read_text().split()) & set(second.returned.read_text().split()) - {"event"}
        if crossed or strangers:
            row.wrong.append("CROSSED")
        return row


def run(quick: bool, words: list[str], say: Callable[[Row], None]) -> list[Row]:
    """Run what is asked for; `say` hears of each row at once."""
    rows: list[Row] = []
    for part in parts(quick):
        if all(word in part.name for word in words):
            rows.append(part.run())
            say(rows[-1])
    return rows


def table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """The rows in columns."""
    widths = [max(len(row[column]) for row in [HEAD, *rows]) for column in range(len(HEAD))]
    for row in rows:
        yield "  ".join(
            cell.ljust(width) if column < 2 or column == len(HEAD) - 1 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    widest = [("x" * 34, "memory", *("0" * 10,) * 8, "ok")]

    def say(row: Row) -> None:
        print(list(table([*widest, row.cells()]))[1], flush=True)

    print(list(table([*widest, HEAD]))[1], flush=True)
    rows = run(options.quick, options.words, say)
    wrong = Counter(reason for row in rows for reason in row.wrong)
    verdict = ", ".join(f"{n} {reason}" for reason, n in wrong.items()) or "all as promised"
    print(f"\n{len(rows)} rows in {time.monotonic() - began:.0f} s: {verdict}")
    return 1 if wrong or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
