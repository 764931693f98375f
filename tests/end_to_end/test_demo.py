"""`rootspan demo`: real processes, real HTTP, and an exit status that tells whether everything arrived."""

from __future__ import annotations

import io
import itertools
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

pytest.importorskip("fastapi", reason="the demo's app needs FastAPI")
pytest.importorskip("uvicorn", reason="the demo's app needs uvicorn")
pytest.importorskip("langchain", reason="the demo's agent needs LangChain")

from rootspan.errors import ConfigurationError
from rootspan_ui import cli
from rootspan_ui import demo as demo_module
from rootspan_ui.demo import children, demo
from rootspan_ui.demo.conversations import APPS, App, Turn, User
from rootspan_ui.receiver import Receiver
from rootspan_ui.spans import ReceivedSpan

COMMAND = [sys.executable, "-m", "rootspan_ui.cli", "demo"]

# An app without a framework: fast to start, and it does what its first argument says.
TINY = """
    import json, os, signal, sys, time
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    import rootspan

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["message"]
            if said == "die":
                print("out of memory", flush=True)
                os._exit(3)
            time.sleep(3600 if said == "wait" else 0)
            tracker = rootspan.Tracker(disabled=True) if said == "disabled" else rootspan
            with tracker.begin("turn", user_id=self.headers["X-User-Id"], input=said) as turn:
                span_id = turn.track_ai("answer")
            body = {"odd": b"[no JSON", "cut": b": no event"}.get(said) or json.dumps({"span_id": span_id}).encode()
            self.send_response(500 if said == "fail" else 200)
            self.send_header("X-Trace-Id", turn.trace_id)
            self.send_header("Content-Type", "text/event-stream" if said == "cut" else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    if sys.argv[1] == "broken":
        sys.exit("no such module")
    if sys.argv[1] == "silent":
        time.sleep(3600)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[1] == "stubborn" else lambda *_: sys.exit())
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


@pytest.fixture
def tiny(script: Callable[[str], str]) -> Callable[..., App]:
    path = script(TINY)

    def make(*messages: str, mode: str = "", modules: tuple[str, ...] = ("json",)) -> App:
        turns = tuple(Turn(message, "/", {"message": message}, 2) for message in messages)
        users = (User("ada", "c1", turns),) if turns else ()
        return App("tiny", modules, (path, mode, "{port}"), users, "curl {url}")

    return make


def run_once(app: App, **options: Any) -> tuple[int, str]:
    out = io.StringIO()
    return demo(True, out=out, apps=[app], **options), out.getvalue()


@pytest.fixture(scope="module")
def newcomer() -> subprocess.CompletedProcess[str]:
    """`rootspan demo --once` in a shell whose own settings point elsewhere."""
    elsewhere = {
        "ROOTSPAN_ENDPOINT": "http://127.0.0.1:1",
        "ROOTSPAN_SAMPLE_RATE": "0",
        "OTEL_SERVICE_NAME": "mine",
        "DJANGO_SETTINGS_MODULE": "mine.settings",
    }
    return subprocess.run(
        [*COMMAND, "--once"],
        env={**os.environ, **elsewhere, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def test_once_ends_with_zero_when_everything_arrived(newcomer: subprocess.CompletedProcess[str]) -> None:
    assert (newcomer.returncode, newcomer.stderr) == (0, "")
    said = newcomer.stdout
    users = [user for app in APPS for user in app.users]
    turns = [turn for user in users for turn in user.turns]
    traces, spans = sum(turn.traces for turn in turns), sum(turn.spans for turn in turns)
    assert said.endswith(f"✓ {len(turns)} requests made {traces} traces with {spans} spans, and all of them arrived.\n")
    sessions, people = len({user.convo_id for user in users}), len({user.name for user in users})
    errors = sum(turn.status >= 500 for turn in turns)
    counts = rf"{traces} traces · {spans} spans · {sessions} sessions · {people} users"
    totals = rf"{counts} · [\d,]+ → \d+ tokens · \$0\.\d+ · {errors} errors?\n"
    assert re.search(totals, said)
    assert said.count("\n✓ ") == len(turns) + 1


def test_the_columns_of_the_answers_stand_apart(newcomer: subprocess.CompletedProcess[str]) -> None:
    turns = {(user.name, turn.path) for app in APPS for user in app.users for turn in user.turns}
    lines = [line for line in newcomer.stdout.splitlines() if re.match(r"✓ .* ms$", line)]
    assert {(line.split()[1], re.findall(r"  (/\S+)  ", line)[0]) for line in lines} == turns
    assert len({len(line) for line in lines}) == 1


def test_nothing_is_left_running(newcomer: subprocess.CompletedProcess[str]) -> None:
    for url in re.findall(r"http://127\.0\.0\.1:\d+", newcomer.stdout):
        with pytest.raises(URLError, match="refused"):
            urlopen(url, timeout=5)


def test_the_trees_show_what_happened(newcomer: subprocess.CompletedProcess[str]) -> None:
    """Input and output, tokens and cost, a tool call, a failed request; one conversation after the other."""
    trees = newcomer.stdout.split("\n\n")
    order = next(tree for tree in trees if "│ in   Where is my order 1042?" in tree)
    assert "│ out  I looked it up: order 1042 left the warehouse this morning." in order
    assert "session ada-order  user ada  fastapi-chat" in order
    assert re.search(r"\n├─ chat_completion  gpt-4o-mini +\d+ → \d+ tok  \$0\.\d+ +\d+ ms", order)
    assert '{"number":"1042"}' in order
    assert re.search(r"\n├─ (execute_tool )?look_up_order ", order)
    failed = [tree for tree in trees if "✗ POST /chat  503" in tree]
    assert "ModelOverloadedError: the model is overloaded" in "".join(failed)
    (judged, *_) = [tree for tree in trees if "gen_ai.evaluation.result" in tree]
    assert re.search(r"session (\S+)  user (\S+) .*\n.*\n  thumbs -?1 ", judged)
    sessions = re.findall(r"^\d\d:\d\d:\d\d  session (\S+)", newcomer.stdout, re.MULTILINE)
    groups = [session for at, session in enumerate(sessions) if sessions[at - 1 : at] != [session]]
    assert sorted(groups) == sorted({user.convo_id for app in APPS for user in app.users})


def test_the_agents_trees_show_the_tool_the_person_and_the_link(newcomer: subprocess.CompletedProcess[str]) -> None:
    trees = newcomer.stdout.split("\n\n")
    looked = next(tree for tree in trees if "│ in   Where is order 1042?" in tree)
    lines = [line.strip(" │├╰─").split("  ")[0] for line in looked.splitlines()]
    steps = [
        "POST /chat",
        "support_agent",
        "model",
        "ChatStandIn",
        "tool_choice",
        "tools",
        "look_up_order",
        "orders_database",
    ]
    assert [line for line in lines if line in steps][: len(steps)] == steps
    paused = next(tree for tree in trees if "│ in   Refund order 1042." in tree)
    assert re.search(r"support_agent  interrupted", paused)
    resumed = next(tree for tree in trees if '"type":"approve"' in tree)
    (trace,) = re.findall(r"trace ([0-9a-f]+)$", paused, re.MULTILINE)
    assert f"linked to trace {trace}" in resumed
    assert "Order 1042 is refunded." in resumed


def test_a_receiver_that_drops_is_found_out(tiny: Callable[..., App], monkeypatch: pytest.MonkeyPatch) -> None:
    def every_third_is_lost(port: int, on_spans: Callable[[list[ReceivedSpan]], object]) -> Receiver:
        count = itertools.count(1)
        return Receiver(port=port, on_spans=lambda spans: on_spans([span for span in spans if next(count) % 3]))

    monkeypatch.setattr(demo_module, "_ARRIVAL", 1.5)
    monkeypatch.setattr(demo_module, "Receiver", every_third_is_lost)
    status, said = run_once(tiny("one", "two", "three"))
    assert status == 1
    assert "✗ Something of 2 of the 3 requests did not arrive:" in said
    assert len(re.findall(r"ada: \w+  1 of 2 spans of trace [0-9a-f]{32}", said)) == 2


def test_what_an_app_does_not_send_is_found_out(tiny: Callable[..., App], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_module, "_ARRIVAL", 1.0)
    status, said = run_once(tiny("disabled", "hello"))
    assert status == 1
    assert re.search(
        r"of 1 of the 2 requests did not arrive:\n    ada: disabled  0 of 2 spans of trace [0-9a-f]{32}\n", said
    )


def test_an_answer_that_is_not_the_expected_one_is_a_failure(tiny: Callable[..., App]) -> None:
    status, said = run_once(tiny("fail", "odd", "cut", "hello"))
    assert status == 1
    assert "ada: fail  the app answered 500, not 200" in said
    assert "ada: odd  no answer that can be read: JSONDecodeError: " in said
    assert "ada: cut  no answer that can be read: IndexError: " in said
    assert "✓ ada  hello" in said


def test_a_span_that_was_promised_has_to_come() -> None:
    """Feedback is a trace of its own, which the client knows by the span id it was told."""
    arrivals = demo_module._Arrivals()
    user = APPS[0].users[0]
    sent = demo_module.Sent(user, Turn("thanks", "/feedback", {}, 2, traces=2), 200, 0.1, "a" * 32, "b" * 16)
    arrivals.add([ReceivedSpan("a" * 32, "c" * 16, None, "POST /feedback")])
    assert arrivals.missing([sent]) == [f"ada: thanks  span {'b' * 16}"]
    arrivals.add([ReceivedSpan("d" * 32, "b" * 16, None, "gen_ai.evaluation.result")])
    assert arrivals.missing([sent]) == []


def test_traces_without_a_conversation_come_last() -> None:
    def trace(trace_id: str, start: int, session: str = "") -> demo_module.Trace:
        attributes = {"session.id": session} if session else {}
        return demo_module.Trace(trace_id, (ReceivedSpan(trace_id, "b" * 16, None, "turn", 1, start, 9, attributes),))

    traces = [trace("1", 4, "b"), trace("2", 1), trace("3", 3, "a"), trace("4", 2, "b")]
    assert [found.trace_id for found in demo_module._by_conversation(traces)] == ["4", "1", "3", "2"]


def test_an_app_that_dies_at_once_is_quoted(tiny: Callable[..., App], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_once(tiny("hello", mode="broken"))[0] == 1
    errors = capsys.readouterr().err
    assert re.match(r"rootspan demo: python .*script\.py .* ended by itself with status 1\. It said last:\n", errors)
    assert errors.endswith("  no such module\n")


@pytest.mark.parametrize(
    "name",
    [
        "ROOTSPAN_DISABLED",
        "OTEL_SERVICE_NAME",
        "DJANGO_SETTINGS_MODULE",
        "FLASK_DEBUG",
        "UVICORN_PORT",
        "WEB_CONCURRENCY",
        "LANGSMITH_TRACING",
        "LANGCHAIN_TRACING_V2",
    ],
)
def test_settings_of_the_shell_stay_out_of_an_app(
    name: str, script: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """More worker processes share no memory of a chat; LangSmith is somewhere in the network"""
    monkeypatch.setenv(name, "true")
    path = script(f"import os; print('it has', os.environ.get({name!r}))")
    assert run_once(App("nosy", (), (path,), (), ""))[0] == 1
    assert "it has None" in capsys.readouterr().err


def test_an_app_that_dies_in_a_conversation_is_quoted(
    tiny: Callable[..., App], capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = run_once(tiny("hello", "die", "hello again"))
    assert status == 1
    assert "✗ ada  die" in said
    assert "ended by itself with status 3. It said last:\n  out of memory\n" in capsys.readouterr().err


def test_an_app_that_never_listens_is_not_waited_for(
    tiny: Callable[..., App], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "_READY", 1.0)
    assert run_once(tiny("hello", mode="silent"))[0] == 1
    assert re.search(r"did not listen on port \d+ within 1 s", capsys.readouterr().err)


def test_a_child_that_does_not_end_is_killed(tiny: Callable[..., App], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_PATIENCE", 0.5)
    assert run_once(tiny("hello", mode="stubborn"))[0] == 0


def test_a_missing_package_is_named_with_the_extra(
    tiny: Callable[..., App], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_once(tiny(modules=("json", "no_such_framework")))[0] == 2
    errors = capsys.readouterr().err
    assert errors == (
        "rootspan demo: the example apps need no_such_framework, which is not installed.\n"
        "Fix: pip install 'rootspan[demo]'\n"
    )
    assert run_once(tiny(modules=("no_such_framework", "no_other_one")))[0] == 2
    assert "no_other_one, no_such_framework, which are not installed" in capsys.readouterr().err


def test_example_apps_are_found_beside_the_package_or_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny: Callable[..., App]
) -> None:
    package = tmp_path / "integrations" / "rootspan_ui"
    monkeypatch.setattr(demo_module, "__file__", str(package / "demo" / "__init__.py"))
    assert run_once(tiny())[0] == 1
    assert "rootspan demo: the example apps are not here.\nFix: " in capsys.readouterr().err
    for folder in (tmp_path / "example_apps", package / "example_apps"):
        folder.mkdir(parents=True)
        assert demo_module._example_apps([]) == folder


def test_ctrl_c_in_a_conversation_ends_everything(tiny: Callable[..., App]) -> None:
    timer = threading.Timer(2.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started = time.monotonic()
    status, said = run_once(tiny("wait"))
    timer.join()
    assert status == 130
    assert said.endswith("Interrupted.\n")
    assert time.monotonic() - started < 8


def test_ctrl_c_while_an_app_starts_ends_everything(
    tiny: Callable[..., App], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(port: int) -> bool:
        monkeypatch.setattr(children, "_listens", lambda port: False)
        os.kill(os.getpid(), signal.SIGINT)
        return False

    monkeypatch.setattr(children, "_READY", 10.0)
    monkeypatch.setattr(children, "_listens", interrupted)
    assert run_once(tiny("hello")) == (130, "Interrupted.\n")
    assert capsys.readouterr().err == ""


class Following(io.StringIO):
    """An output that acts when the demo says that it keeps running, and ends it when a text was printed."""

    def __init__(self, act: Callable[[str], object], until: str) -> None:
        super().__init__()
        self.act = act
        self.until = until

    def write(self, text: str) -> int:
        super().write(text)
        if text.startswith("  export ROOTSPAN_ENDPOINT="):
            self.act(self.getvalue())
        elif self.until in text:
            os.kill(os.getpid(), signal.SIGINT)
        return len(text)


def test_without_once_it_shows_what_comes_until_ctrl_c(tiny: Callable[..., App]) -> None:
    def say_more(so_far: str) -> None:
        url = re.findall(r"  curl (\S+)", so_far)[0]
        urlopen(Request(url, b'{"message": "one more"}', {"X-User-Id": "me"}), timeout=10).close()

    out = Following(say_more, "in   one more")
    assert demo(out=out, apps=[tiny("hello")]) == 0
    said = out.getvalue().partition("Everything keeps running until Ctrl-C.")[2]
    assert "user me" in said
    assert said.endswith("2 traces · 4 spans · 0 sessions · 2 users · 0 errors\n")


def test_without_once_an_app_that_dies_ends_it(tiny: Callable[..., App], capsys: pytest.CaptureFixture[str]) -> None:
    def kill(so_far: str) -> None:
        url = re.findall(r"  curl (\S+)", so_far)[0]
        with pytest.raises(OSError, match=r"closed|reset"):
            urlopen(Request(url, b'{"message": "die"}'), timeout=10)

    assert demo(out=Following(kill, "never"), apps=[tiny("hello")]) == 1
    assert "out of memory" in capsys.readouterr().err


def test_into_a_pipe_that_breaks(tiny: Callable[..., App]) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    assert demo(True, out=Broken(), apps=[tiny("hello")]) == 1


def test_the_command_passes_its_option_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(cli, "demo", lambda once: seen.append(once) or 0)
    assert [cli.main(["demo"]), cli.main(["demo", "--once"])] == [0, 0]
    assert seen == [False, True]


def test_a_failure_of_a_child_is_no_mistake_in_the_configuration() -> None:
    assert not issubclass(children.ChildError, ConfigurationError)


def test_free_ports_are_different() -> None:
    assert len(set(children.free_ports(5))) == 5
