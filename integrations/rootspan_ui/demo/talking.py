"""One user's way through a conversation with an example app, over real HTTP."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from queue import Queue
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, OpenerDirector, ProxyHandler, Request, build_opener

from rootspan_ui.demo.conversations import Turn, User

__all__ = ["Sent", "talk"]

_ANSWER: Final = 20.0  # seconds for one answer


@dataclass(frozen=True)
class Sent:
    """One request that was made, and what the app said of it."""

    user: User
    turn: Turn
    status: int | None  # None: no HTTP answer came
    seconds: float
    trace_id: str | None = None
    span_id: str | None = None
    error: str = ""

    @property
    def fine(self) -> bool:
        """Whether the answer was the one that this turn has to get."""
        return self.status == self.turn.status and self.trace_id is not None


def talk(user: User, url: str, news: Queue[Sent]) -> None:
    """Go through one conversation.

    Args:
        user: who talks, and what is said.
        url: of the app.
        news: gets every turn, whatever becomes of it.
    """
    about: str | None = None
    browser = build_opener(ProxyHandler({}), HTTPCookieProcessor())
    for turn in user.turns:
        started = time.perf_counter()
        try:
            status, trace_id, answer = _post(browser, user, turn, url, about)
        except Exception as error:
            news.put(Sent(user, turn, None, time.perf_counter() - started, error=f"{type(error).__name__}: {error}"))
            continue
        span_id = answer.get("span_id")
        about = span_id or about
        news.put(Sent(user, turn, status, time.perf_counter() - started, trace_id, span_id))


def _post(
    browser: OpenerDirector, user: User, turn: Turn, url: str, about: str | None
) -> tuple[int, str | None, dict[str, Any]]:
    body = {**turn.body, "span_id": about} if turn.judges else turn.body
    headers = {"Content-Type": "application/json", "X-User-Id": user.name, "X-Conversation-Id": user.convo_id}
    try:
        response: Any = browser.open(Request(url + turn.path, json.dumps(body).encode(), headers), timeout=_ANSWER)
    except HTTPError as error:
        response = error
    with response:
        return response.status, response.headers["x-trace-id"], _answer(response)


def _answer(response: Any) -> dict[str, Any]:
    """Return the JSON of an answer; of a stream of events, the last one."""
    if response.headers.get_content_type() == "text/event-stream":
        events = [line.removeprefix(b"data:") for line in response if line.startswith(b"data:")]
        return dict(json.loads(events[-1]))
    return dict(json.loads(response.read()))
