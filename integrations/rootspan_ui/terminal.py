"""`rootspan tail`: traces in the terminal as they finish."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, TextIO

import orjson

from rootspan.errors import ConfigurationError
from rootspan_ui.receiver import Receiver
from rootspan_ui.spans import ReceivedSpan
from rootspan_ui.text import counted
from rootspan_ui.totals import Summary
from rootspan_ui.traces import Trace, Traces
from rootspan_ui.tree import render

__all__ = ["Screen", "ended_by_signals", "tail"]

_POLL: Final = 0.1  # seconds between two looks for finished traces
_FULL_WIDTH: Final = 100  # columns where there is no terminal to ask
_FOREIGN: Final = re.compile("[^\x00-\x7e]")
_UNSAFE: Final = re.compile("[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")


def tail(
    host: str = "127.0.0.1", port: int = 4318, token: str | None = None, json: bool = False, out: TextIO | None = None
) -> int:
    """Receive traces and print each one when it is finished, until Ctrl-C or SIGTERM.

    Args:
        host: the address to listen on; any other than a loopback address needs a token.
        port: the TCP port; 0 takes a free one.
        token: what senders have to show.
        json: one JSON object per span and line instead of trees; everything else goes to stderr then.
        out: where to print; standard output by default.

    Returns:
        The exit status: 0, or 2 when it could not listen.
    """
    traces = Traces()
    screen = Screen(out or sys.stdout, json)
    stop = threading.Event()
    try:
        with ended_by_signals(stop), Receiver(host, port, traces.add, token=token) as receiver:
            screen.say("Waiting for traces; Ctrl-C ends it. Send them here:\n")
            screen.say(f"    export ROOTSPAN_ENDPOINT={receiver.url}")
            screen.say("    export ROOTSPAN_API_KEY=<the token>\n" if token else "")
            told = 0
            while not stop.wait(_POLL):
                told = _show(screen, traces, traces.finished(), told)
        _show(screen, traces, traces.flush(), told)
        screen.say(screen.total.line(screen.unicode))
    except ConfigurationError as error:
        print(f"rootspan tail: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `rootspan tail | head`
        screen.silence()
    return 0


def _show(screen: Screen, traces: Traces, found: list[Trace], told: int) -> int:
    """Print traces, and how many spans were dropped beyond those that were told of; return how many these are now."""
    screen.show(found)
    dropped = traces.dropped
    if dropped > told:
        screen.say(f"({counted(dropped - told, 'span')} dropped: they came faster than they can be printed)")
    return dropped


@contextmanager
def ended_by_signals(stop: threading.Event) -> Generator[None]:
    """Let the first Ctrl-C, SIGTERM or closed terminal end things in order; a second one means what it always does.

    Args:
        stop: set by the first signal.
    """
    before: dict[int, Any] = {}
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        numbers.append(signal.SIGHUP)

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()
        restore()

    if threading.current_thread() is threading.main_thread():
        before.update({number: signal.signal(number, end) for number in numbers})
    try:
        yield
    finally:
        restore()


class Screen:
    """Where it is printed, and how.

    Args:
        out: where to.
        json: print spans as JSON lines, and words to stderr.
    """

    def __init__(self, out: TextIO, json: bool = False) -> None:
        self.total = Summary()
        self._out = out
        self._json = json
        self._encoding = getattr(out, "encoding", None) or "utf-8"
        self.unicode = _can_encode("╰─✓✗→…", self._encoding)
        self._colour = out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def mark(self, good: bool) -> str:
        """A sign for what went well, or did not."""
        sign = ("✓" if good else "✗") if self.unicode else ("ok" if good else "x")
        return f"\x1b[{32 if good else 31}m{sign}\x1b[0m" if self._colour else sign

    def show(self, traces: list[Trace]) -> None:
        """Print traces and add them to the total."""
        width = shutil.get_terminal_size((_FULL_WIDTH, 24)).columns if self._out.isatty() else _FULL_WIDTH
        for trace in traces:
            self.total.add(trace)
            if self._json:
                self._write("".join(self._json_line(span) for span in trace.spans))
            else:
                self._write(render(trace, self._colour, width, unicode=self.unicode) + "\n")

    def say(self, line: str = "") -> None:
        """Print a line of words."""
        if self._json:
            print(line, file=sys.stderr)
        else:
            self._write(line + "\n")

    def silence(self) -> None:
        """Nobody reads any more: keep the interpreter's last flush from complaining."""
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())

    def _json_line(self, span: ReceivedSpan) -> str:
        """JSON in which nothing is a control to a terminal, and everything can be written."""
        return (_UNSAFE if self.unicode else _FOREIGN).sub(_escape, orjson.dumps(span).decode()) + "\n"

    def _write(self, text: str) -> None:
        self._out.write(text.encode(self._encoding, "backslashreplace").decode(self._encoding))
        self._out.flush()


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def _can_encode(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeError, LookupError):
        return False
    return True
