"""A conversation to send to a real backend, and the backend as a process whose API is asked what came of it."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.request import ProxyHandler, Request, build_opener

from rootspan import Tracker
from servers import Server

Found = TypeVar("Found")
PATIENCE = 300.0  # seconds; a first start creates a database of many tables
QUIET = {"DO_NOT_TRACK": "true", "HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
DIRECT = build_opener(ProxyHandler({}))

QUESTION = "What is the weather in Oslo?"
ANSWER = "It is -4 degrees."
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
COST = 0.0123  # US dollars; no price table says so of these tokens


def free_port() -> str:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


class Backend(Server):
    """A server that takes OTLP and answers questions in JSON; the outside is beyond its reach.

    Args:
        command: module and arguments, in which `{port}` becomes a free port.
        folder: where it keeps its data.
        env: more of the environment, likewise.
    """

    patience = PATIENCE

    def __init__(self, command: list[str], folder: Path, **env: str) -> None:
        super().__init__(command, folder, "")
        self._env |= QUIET | {name: value.format(port=self.port) for name, value in env.items()}
        self.url = f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, question: object = None) -> Any:
        """Return what a GET answers with, or a POST where there is a question to send."""
        body = None if question is None else json.dumps(question).encode()
        request = Request(self.url + path, body, {"Content-Type": "application/json"})
        with DIRECT.open(request, timeout=PATIENCE) as answer:
            return json.load(answer)

    def wait_for(self, read: Callable[[], Found], complete: Callable[[Found], object]) -> Found:
        """Read until it is complete: a server may answer before it has stored."""
        deadline = time.monotonic() + PATIENCE
        while not complete(found := read()):
            assert time.monotonic() < deadline, f"it did not come: {found}\n{self.log}"
            time.sleep(0.2)
        return found


class Turns(NamedTuple):
    """The trace ids of a conversation of three turns, and of the only turn of another user."""

    asked: str
    failed: str
    thanked: str
    other: str


SPANS = 7
"""How many spans the turns have: three, two, one and one."""


def converse(tracker: Tracker) -> Turns:
    """Record the conversation, and return once it is delivered."""
    who = {"user_id": "u-7", "convo_id": "c-42"}
    with tracker.begin(
        "ask", **who, input=QUESTION, agent_name="forecaster", tags=["beta"], properties={"plan": "pro", "seats": 3}
    ) as asked:
        with tracker.tool_span("weather_lookup", input={"city": "Oslo"}) as step:
            step.set_output({"celsius": -4})
        tracker.track_ai(
            "answer", model="gpt-4o", provider="openai", input=CHAT, output=ANSWER, prompt_tokens=812,
            completion_tokens=34, cache_read_tokens=500, reasoning_tokens=7, estimated_cost=COST,
        )  # fmt: skip
        asked.update(output=ANSWER)
    failed = tracker.begin("ask_again", **who, input="And tomorrow?", agent_name="forecaster")
    with contextlib.suppress(TimeoutError), failed, tracker.tool_span("weather_lookup", input={"city": "Oslo"}):
        raise TimeoutError("no forecast in 5 s")
    with tracker.begin("thank", **who, input="Thanks!", model="gpt-4o", provider="openai") as thanked:
        thanked.update(output="You are welcome.", prompt_tokens=20, completion_tokens=5)
    with tracker.begin("greet", user_id="u-8", convo_id="c-43", input="Hello", tags=["stable"]) as other:
        other.update(output="Hi")
    assert tracker.flush(PATIENCE), tracker.stats()
    assert tracker.stats()["delivered"] == SPANS, tracker.stats()
    return Turns(asked.trace_id, failed.trace_id, thanked.trace_id, other.trace_id)
