"""`rootspan spool`: what it says, sends and deletes."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from programs import ids, run, until
from rootspan.spool.journal import Journal
from rootspan_ui import cli, spooled
from sinks import Sink

KEY = "rs-secret-0123456789abcd"
DIE = "\nos.kill(os.getpid(), 9)"


pytestmark = pytest.mark.usefixtures("clean_environment")


class Box:
    """A spool directory, a collector, and what the commands say about them."""

    def __init__(self, sink: Sink, path: Path) -> None:
        self.sink = sink
        self.path = path
        self.directory = path / "spool"
        self.environ = {
            "ROOTSPAN_ENDPOINT": sink.url,
            "ROOTSPAN_SPOOL": str(self.directory),
            "ROOTSPAN_API_KEY": KEY,
            "ROOTSPAN_SERVICE_NAME": "shop",
        }

    def record(self, code: str, **environ: str) -> None:
        self.sink.stop()
        run(code + DIE, self.sink, self.path, **{**self.environ, **environ}).communicate(timeout=60)
        self.sink.restart()

    def say(self, action: str, expected: int, *options: str, **environ: str) -> str:
        out = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
            for name, value in {**self.environ, **environ}.items():
                patch.setenv(name, value)
            assert cli.main(["spool", action, *options]) == expected, out.getvalue()
        assert KEY not in out.getvalue()
        return out.getvalue()


@pytest.fixture
def box(sink: Sink, tmp_path: Path) -> Box:
    return Box(sink, tmp_path)


EVENTS = "for n in range(1200): rootspan.track_ai('event', input=n)\nturn = rootspan.begin('turn')"


def test_status_of_what_a_dead_process_left(box: Box) -> None:
    box.record(EVENTS)
    said = box.say("status", 0)
    assert "1,201 events, of shop, since" in said
    assert "for the endpoint and key in the environment" in said
    assert "rootspan spool replay" in said
    assert "for another endpoint or key" in box.say("status", 0, ROOTSPAN_API_KEY="other" * 4)
    assert "for another endpoint or key" in box.say("status", 0, ROOTSPAN_TIMEOUT="never")
    assert not box.sink.spans


def test_what_a_process_deletes_meanwhile_hides_nothing_else(box: Box) -> None:
    box.record("for n in range(3): rootspan.track_ai('event')")
    (box.directory / f"{'0' * 16}-{'0' * 16}-000001.segment").symlink_to("deleted")
    assert "3 events, of shop" in box.say("status", 0)


def test_status_leaves_no_file_of_a_journal_that_is_deleted_meanwhile(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.directory.mkdir()
    monkeypatch.setattr(spooled, "names", lambda directory: {f"{'0' * 16}-{'0' * 16}"})  # seen a moment ago
    assert "everything that was recorded is delivered" in box.say("status", 0)
    assert not list(box.directory.iterdir())


def test_status_of_nothing_and_of_an_unreadable_place(box: Box, tmp_path: Path) -> None:
    for command in ("status", "replay", "purge"):
        said = box.say(command, 2)
        assert "There is no such directory" in said
        assert "Fix: --directory DIR, or ROOTSPAN_SPOOL, if the app names another one" in said
    box.directory.mkdir()
    assert "everything that was recorded is delivered" in box.say("status", 0)
    (tmp_path / "file").write_text("")
    for command in ("status", "replay", "purge"):
        for place in (tmp_path / "file", tmp_path / "file" / "below"):
            said = box.say(command, 2, "--directory", str(place))
            assert "cannot be read: Not a directory.\n  Fix: name a directory.\n" in said


def test_status_while_a_process_runs(box: Box) -> None:
    code = "for n in range(20): rootspan.track_ai('event')\nprint('!', flush=True)\nsys.stdin.read()"
    box.sink.stop()
    process = run(code, box.sink, box.path, **box.environ)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"!\n"
        assert "by a running process" in box.say("status", 0)
        assert "nothing to replay" in box.say("replay", 0)
        assert "nothing to delete" in box.say("purge", 0)
    finally:
        process.kill()
        process.communicate()


def test_replay_sends_everything_and_says_how_far_it_is(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooled, "_SAY_EVERY", 0.05)
    box.record(EVENTS)
    box.record("rootspan.track_ai('other')")
    box.sink.delay = 0.1
    said = box.say("replay", 0)
    assert "sending 1,202 events of 2 ended processes" in said
    assert "of 1,202 delivered\n" in said
    assert said.endswith(" 1,202 of 1,202 delivered\n")
    assert len(ids(box.sink)) == 1202
    assert "nothing to replay" in box.say("replay", 0)
    assert "everything that was recorded is delivered" in box.say("status", 0)


def test_replay_gives_up_without_progress_and_says_why(box: Box) -> None:
    box.record(EVENTS)
    box.sink.script(lambda request: 503)
    said = box.say("replay", 1, "--patience", "0.5")
    assert "503" in said
    assert "1,201 events stay in the spool" in said
    box.sink.script([])
    box.say("replay", 0)
    assert len(ids(box.sink)) == 1201


def test_replay_leaves_what_is_for_another_key(box: Box) -> None:
    box.record("rootspan.track_ai('event')")
    said = box.say("replay", 1, "--api-key", "another-key-0123456789")
    assert "recorded for another endpoint or key: 1 event" in said
    assert "nothing to replay" in said
    assert not box.sink.spans


def test_replay_with_a_wrong_configuration(box: Box) -> None:
    assert "Fix: set --endpoint to a URL" in box.say("replay", 2, "--endpoint", "nonsense")
    assert "Fix: set ROOTSPAN_ENDPOINT to a URL" in box.say("replay", 2, ROOTSPAN_ENDPOINT="nonsense")


def test_replay_does_not_wait_where_a_key_would_travel_unencrypted(box: Box) -> None:
    box.record("rootspan.track_ai('event')", ROOTSPAN_ENDPOINT="http://192.0.2.1", ROOTSPAN_INSECURE="1")
    said = box.say("replay", 2, "--endpoint", "http://192.0.2.1", "--api-key", KEY, "--patience", "0.5")
    assert said.startswith("--api-key would travel unencrypted to 192.0.2.1")


def test_replay_counts_what_is_refused(box: Box) -> None:
    box.record("for n in range(5): rootspan.track_ai('event')\nrootspan.track_ai('poison')")
    box.sink.script(lambda request: 400 if b"poison" in request.body else None)
    assert "5 of 6 delivered, 1 refused" in box.say("replay", 0)
    said = box.say("status", 0)
    assert "1 event that a collector never took" in said
    assert "deleted 1 event\n" in box.say("purge", 0, "--yes")
    assert "everything" in box.say("status", 0)


def test_purge_asks_first(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.record(EVENTS)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert "--yes" in box.say("purge", 2)
    monkeypatch.setattr(sys, "stdin", Terminal())
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return "no" if len(asked) == 1 else "Y"

    monkeypatch.setattr("builtins.input", ask)
    assert "nothing was deleted" in box.say("purge", 1)
    assert "1,201 events" in asked[0]
    assert "1,201 events" in box.say("status", 0)
    assert "deleted 1,201 events" in box.say("purge", 0)
    assert not list(box.directory.iterdir())
    assert not box.sink.spans


def test_purge_leaves_what_another_process_took_over_meanwhile(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.record("for n in range(3): rootspan.track_ai('event')")
    before, adopt = sorted(box.directory.iterdir()), [Journal.adopt]

    def once(directory: str, name: str) -> Journal | None:
        return adopt.pop()(directory, name) if adopt else None

    monkeypatch.setattr(Journal, "adopt", once)
    box.say("purge", 0, "--yes")
    assert sorted(box.directory.iterdir()) == before


def test_purge_counts_what_was_refused_and_takes_no_answer_for_a_no(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.directory.mkdir()
    letter = box.directory / "\x1b[2J.dead.jsonl"
    letter.write_text("{}\n{}\n")
    assert "\x1b" not in box.say("status", 0)
    monkeypatch.setattr(sys, "stdin", None)
    assert "2 events would be lost" in box.say("purge", 2)
    ours, theirs = os.openpty()
    with open(theirs) as terminal:
        os.write(ours, b"\x04")  # Ctrl-D
        monkeypatch.setattr(sys, "stdin", terminal)
        said = box.say("purge", 1)
    os.close(ours)
    assert "Delete 2 events" in said
    assert "nothing was deleted" in said
    assert letter.exists()


def test_the_default_directory_is_the_one_of_the_library(
    box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"XDG_STATE_HOME": str(tmp_path / "state"), "ROOTSPAN_SPOOL": "true"}
    box.record("rootspan.track_ai('event')", **environ)
    monkeypatch.setenv("XDG_STATE_HOME", environ["XDG_STATE_HOME"])
    assert "1 event, of shop" in box.say("status", 0, ROOTSPAN_SPOOL="")


def test_sizes() -> None:
    assert [spooled._size(size) for size in (0, 2048, 5 << 20, 3 << 30)] == ["0 B", "2 kB", "5 MB", "3.0 GB"]


def test_the_command_line(box: Box, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    box.record("rootspan.track_ai('event')")
    for name, value in box.environ.items():
        monkeypatch.setenv(name, value)
    for arguments, said in (
        (["status"], "1 event, of shop"),
        (["replay", "--patience", "20"], "1 of 1 delivered"),
        (["purge", "--yes", "--directory", str(box.directory)], "nothing to delete"),
    ):
        assert cli.main(["spool", *arguments]) == 0
        assert said in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["spool"])
    assert "ACTION" in capsys.readouterr().err


def test_ctrl_c_leaves_the_rest_in_the_spool(box: Box) -> None:
    box.record(EVENTS)
    box.sink.script(lambda request: 503)
    command = [sys.executable, "-m", "rootspan_ui.cli", "spool", "replay"]
    path = os.pathsep.join(map(os.path.abspath, sys.path))
    process = subprocess.Popen(command, env={**os.environ, **box.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE)
    box.sink.wait_requests(1, 60)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    until(lambda: "1,201 events" in box.say("status", 0))
