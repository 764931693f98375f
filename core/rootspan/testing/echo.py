"""What the routes of a contract's echo app do, for an adapter's test to wire into its framework."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncGenerator, Generator
from typing import Final

from opentelemetry import propagate, trace

from rootspan.interaction import Interaction
from rootspan.tracker import Tracker

__all__ = ["Echo"]

_WORDS: Final = ("Paris", " is", " it", ".")


class Echo:
    """The views of an echo app, without their framework; `WebContract` lists the routes.

    Args:
        tracker: the tracker that the adapter was given too.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def echo(self, name: str) -> str:
        """`GET /echo/{name}`: track one event that says everything; answer the name."""
        self._tracker.track_ai("answer", user_id=f"u-{name}", convo_id=f"c-{name}", input=f"ask {name}", output=name)
        return name

    def read(self, body: bytes) -> str:
        """`POST /read`: answer how many bytes the view has read."""
        return str(len(body))

    def fail(self) -> str:
        """`GET /raise`: track one event, then raise."""
        self._tracker.track_ai("before", input="doomed")
        raise LookupError("no such thing")

    def stream(self, count: int) -> Generator[bytes]:
        """`GET /stream/{count}`: stream `chunk` so many times, a decision in each step."""
        for number in range(count):
            self._tracker.track_decision(reasoning=str(number))
            yield b"chunk"

    def astream(self, count: int) -> AsyncGenerator[bytes]:
        """The same for frameworks that stream from async generators."""
        return _asynchronous(self.stream(count))

    def stream_fail(self) -> Generator[bytes]:
        """`GET /stream-raise`: stream one `chunk`, then raise."""
        yield from self.stream(1)
        raise LookupError("midway")

    def astream_fail(self) -> AsyncGenerator[bytes]:
        """The same as an async generator."""
        return _asynchronous(self.stream_fail())

    def stream_turn(self) -> Generator[bytes]:
        """`GET /stream-turn`: begin an interaction, and track in it and finish it in the streamed body."""
        return self._answer(self._tracker.begin("turn", user_id="u1", input="Hi"))

    def _answer(self, turn: Interaction) -> Generator[bytes]:
        self._tracker.track_ai("in the body")
        yield b"chunk"
        turn.finish("Hello!")

    def astream_turn(self) -> AsyncGenerator[bytes]:
        """The same as an async generator."""
        return _asynchronous(self.stream_turn())

    def login(self, name: str) -> str:
        """`GET /login/{name}`: track, then learn who it is, then track again; answer the name."""
        self._tracker.track_ai("before login", input="who am I?")
        self._tracker.update_current(user_id=name)
        self._tracker.track_ai("after login", output=f"you are {name}")
        return name

    def tool(self) -> str:
        """`GET /tool`: call a tool that tracks an event of its own; answer what it found."""
        with self._tracker.tool_span("search", input={"q": "capital"}) as step:
            self._tracker.track_ai("inside the tool", input="capital", output="Paris")
            step.set_output("found")
        return "found"

    def turns(self) -> str:
        """`GET /turns`: have two interactions without `with` open at once, and track in both and after them."""
        first, second = self._tracker.begin("first", user_id="u1"), self._tracker.begin("second", user_id="u2")
        self._tracker.track_ai("in the second")
        first.finish()
        second.finish()
        self._tracker.begin("third").finish()
        self._tracker.track_ai("after them")
        return "taken"

    def thread(self) -> str:
        """`GET /thread`: track in a thread of its own, with the scope carried there."""
        work = self._tracker.carry(lambda: self._tracker.track_ai("in a thread", input="carried"))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return "joined"

    def current(self) -> str:
        """`GET /current`: answer the trace id of the enclosing interaction, nothing outside of any."""
        step = self._tracker.current()
        return "" if step is None else step.trace_id

    def host(self) -> str:
        """`GET /host`: answer what the view sees of OpenTelemetry: a valid current span, and what would be injected."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return json.dumps([trace.get_current_span().get_span_context().is_valid, carrier])

    def chat(self, body: bytes) -> bytes:
        """`POST /chat`: read JSON with a `message`, answer JSON with a `reply`; track nothing."""
        return json.dumps({"reply": f"You said {json.loads(body)['message']}"}).encode()

    def chat_stream(self, body: bytes) -> Generator[bytes]:
        """`POST /chat-stream`: read the same, answer `text/event-stream` with the deltas of a chat model."""
        json.loads(body)
        for word in _WORDS:
            delta = {"choices": [{"index": 0, "delta": {"content": word}}]}
            yield f"data: {json.dumps(delta)}\n\n".encode()
        yield b"data: [DONE]\n\n"

    def achat_stream(self, body: bytes) -> AsyncGenerator[bytes]:
        """The same as an async generator."""
        return _asynchronous(self.chat_stream(body))


async def _asynchronous(chunks: Generator[bytes]) -> AsyncGenerator[bytes]:
    for chunk in chunks:
        yield chunk
