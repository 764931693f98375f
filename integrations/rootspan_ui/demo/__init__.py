"""`rootspan demo`: example apps as processes, people who talk to them, and a count of what a receiver got."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Queue
from typing import Final, TextIO

from rootspan.errors import MissingExtraError, RootspanError
from rootspan_ui import fields
from rootspan_ui.demo.children import free_ports, run_app
from rootspan_ui.demo.conversations import APPS, App
from rootspan_ui.demo.talking import Sent, talk
from rootspan_ui.receiver import Receiver
from rootspan_ui.spans import ReceivedSpan
from rootspan_ui.terminal import Screen, ended_by_signals
from rootspan_ui.text import cells, cut
from rootspan_ui.traces import Trace, Traces

__all__ = ["demo"]

_ARRIVAL: Final = 8.0  # seconds after the last answer in which everything has to have arrived
_POLL: Final = 0.1
_SAID: Final = 40  # columns


class _Arrivals:
    """What has arrived so far; filled by the receiver's threads."""

    def __init__(self) -> None:
        self.traces = Traces()
        self._trace_of: dict[str, str] = {}  # ids: span to trace
        self._lock = threading.Lock()

    def add(self, spans: list[ReceivedSpan]) -> None:
        self.traces.add(spans)
        with self._lock:
            self._trace_of.update((span.span_id, span.trace_id) for span in spans)

    def missing(self, sent: Sequence[Sent]) -> list[str]:
        """Return a line for each request of which something has not arrived."""
        with self._lock:
            return [line for one in sent if (line := self._lacks(one))]

    def _lacks(self, sent: Sent) -> str:
        name = f"{sent.user.name}: {sent.turn.said}"
        if sent.status is None:
            return f"{name}  no answer that can be read: {sent.error}"
        if not sent.fine:
            return f"{name}  the app answered {sent.status}, not {sent.turn.status}"
        came = sum(trace_id == sent.trace_id for trace_id in self._trace_of.values())
        expected = sent.turn.spans - (sent.turn.traces - 1)
        if came < expected:
            return f"{name}  {came} of {expected} spans of trace {sent.trace_id}"
        if sent.span_id is not None and sent.span_id not in self._trace_of:
            return f"{name}  span {sent.span_id}"
        return ""


def demo(once: bool = False, *, out: TextIO | None = None, apps: Sequence[App] = APPS) -> int:
    """Run the demo.

    Args:
        once: end after the conversations; otherwise everything keeps running until Ctrl-C.
        out: where to print; standard output by default.
        apps: the example apps to run.

    Returns:
        The exit status: 0 when everything that was sent arrived, 1 when not, 2 when something is not installed,
        130 when it was interrupted before it knew.
    """
    screen = Screen(out or sys.stdout)
    stop = threading.Event()
    try:
        folder = _example_apps(apps)
        with ended_by_signals(stop):
            return _Demo(screen, stop, apps, folder).run(once)
    except RootspanError as error:
        print(f"rootspan demo: {error}", file=sys.stderr)
        return 2 if isinstance(error, MissingExtraError) else 1
    except _Interrupted:
        screen.say("Interrupted.")
        return 130
    except BrokenPipeError:  # `rootspan demo | head`
        screen.silence()
        return 1


class _Interrupted(Exception):
    """A signal came before the conversations were over."""


def _example_apps(apps: Sequence[App]) -> Path:
    """Return the folder of the example apps: in an installed package, or in the repository."""
    modules = [name for app in apps for name in app.modules]
    absent = sorted({name for name in modules if find_spec(name) is None})
    if absent:
        names = f"{', '.join(absent)}, which {'is' if len(absent) == 1 else 'are'} not installed"
        raise MissingExtraError(f"the example apps need {names}.\nFix: pip install 'rootspan[demo]'")
    package = Path(__file__).parents[1]
    for folder in (package / "example_apps", package.parents[1] / "example_apps"):
        if folder.is_dir():
            return folder
    raise RootspanError("the example apps are not here.\nFix: pip install --force-reinstall 'rootspan[demo]'")


class _Demo:
    def __init__(self, screen: Screen, stop: threading.Event, apps: Sequence[App], folder: Path) -> None:
        self._screen = screen
        self._stop = stop
        self._apps = apps
        self._folder = folder
        self._arrivals = _Arrivals()
        self._checks: list[Callable[[], None]] = []
        users = [user for app in apps for user in app.users]
        self._name = max((len(user.name) for user in users), default=0)  # columns
        self._path = max((len(turn.path) for user in users for turn in user.turns), default=0)

    def run(self, once: bool) -> int:
        with Receiver(port=0, on_spans=self._arrivals.add) as receiver, self._running_apps(receiver.url) as urls:
            self._greet(receiver.url, urls)
            sent = self._converse(urls)
            self._wait_for(sent)
            status = self._show(sent)
            if not once:
                self._follow(receiver.url, urls)
        if once:
            return status
        self._screen.show(self._arrivals.traces.flush())
        self._screen.say(self._screen.total.line(self._screen.unicode))
        return status

    @contextmanager
    def _running_apps(self, endpoint: str) -> Generator[list[str]]:
        """Run every app; yields their URLs."""
        ports = free_ports(len(self._apps))
        with ExitStack() as stack:
            for app, port in zip(self._apps, ports, strict=True):
                arguments = [part.format(folder=self._folder, port=port) for part in app.command]
                environ = {"ROOTSPAN_ENDPOINT": endpoint}
                running = run_app([sys.executable, *arguments], port, environ, self._look_after)
                self._checks.append(stack.enter_context(running))
            yield [f"http://127.0.0.1:{port}" for port in ports]

    def _greet(self, url: str, urls: list[str]) -> None:
        self._screen.say("Users talk to example apps over HTTP; what these track goes to a local receiver.\n")
        rows = [("receiver", url), *((app.name, at) for app, at in zip(self._apps, urls, strict=True))]
        width = max(len(name) for name, _ in rows)
        for name, at in rows:
            self._screen.say(f"{name:<{width}}  {at}")
        self._screen.say()

    def _converse(self, urls: list[str]) -> list[Sent]:
        """Let all users talk at the same time, and print each answer as it comes."""
        news: Queue[Sent] = Queue()
        pairs = [(user, url) for app, url in zip(self._apps, urls, strict=True) for user in app.users]
        for user, url in pairs:
            threading.Thread(target=talk, args=(user, url, news), daemon=True).start()
        sent: list[Sent] = []
        while len(sent) < sum(len(user.turns) for user, _ in pairs):
            try:
                sent.append(news.get(timeout=_POLL))
            except Empty:
                self._look_after()
                continue
            self._screen.say(self._progress(sent[-1]))
        self._look_after()
        return sent

    def _progress(self, sent: Sent) -> str:
        said = cut(sent.turn.said, _SAID, self._screen.unicode)
        gap = " " * (_SAID - cells(said))
        answer = f"{sent.status} {sent.seconds * 1_000:5.0f} ms" if sent.status else sent.error
        who, where = sent.user.name.ljust(self._name), sent.turn.path.ljust(self._path)
        return f"{self._screen.mark(sent.fine)} {who}  {said}{gap}  {where}  {answer}"

    def _look_after(self) -> None:
        """Raise when a signal came or an app has died."""
        if self._stop.is_set():
            raise _Interrupted
        for check in self._checks:
            check()

    def _wait_for(self, sent: list[Sent]) -> None:
        deadline = time.monotonic() + _ARRIVAL
        answered = [one for one in sent if one.fine]
        while self._arrivals.missing(answered) and time.monotonic() < deadline:
            self._look_after()
            time.sleep(_POLL)

    def _show(self, sent: list[Sent]) -> int:
        """Print the trees by conversation, the totals, and whether everything arrived; return the exit status."""
        screen = self._screen
        screen.say()
        screen.show(_by_conversation(self._arrivals.traces.flush()))
        screen.say(screen.total.line(screen.unicode))
        missing = self._arrivals.missing(sent)
        if missing:
            screen.say(f"{screen.mark(False)} Something of {len(missing)} of the {len(sent)} requests did not arrive:")
            for line in missing:
                screen.say(f"    {line}")
            return 1
        traces, spans = (sum(getattr(one.turn, name) for one in sent) for name in ("traces", "spans"))
        said = f"{len(sent)} requests made {traces} traces with {spans} spans, and all of them arrived."
        screen.say(f"{screen.mark(True)} {said}")
        return 0

    def _follow(self, url: str, urls: list[str]) -> None:
        screen = self._screen
        screen.say("\nEverything keeps running until Ctrl-C. Talk to it yourself:\n")
        for app, at in zip(self._apps, urls, strict=True):
            screen.say(f"  {app.hint.format(url=at)}\n")
        screen.say("or send your own app's events to it:\n")
        screen.say(f"  export ROOTSPAN_ENDPOINT={url}\n")
        while not self._stop.wait(_POLL):
            for check in self._checks:
                check()
            screen.show(self._arrivals.traces.finished())


def _by_conversation(traces: Sequence[Trace]) -> list[Trace]:
    """Return traces one conversation after the other, in the order in which these began; none comes last."""
    begun: dict[str, int] = {}
    keyed: list[tuple[str, int, Trace]] = []
    for trace in traces:
        session = next((name for span in trace.spans if (name := fields.session(span))), "")
        start = trace.spans[0].start
        begun[session] = min(begun.get(session, start), start)
        keyed.append((session, start, trace))
    keyed.sort(key=lambda key: (not key[0], begun[key[0]], key[0], key[1]))
    return [trace for _, _, trace in keyed]
