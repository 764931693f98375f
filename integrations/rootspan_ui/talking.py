"""One user's way through a conversation with an example app, over real HTTP."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.cookies import SimpleCookie
from queue import Queue
from typing import Any, Final

from rootspan_ui.conversations import Turn, User

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
    cookies: dict[str, str] = {}
    for turn in user.turns:
        started = time.perf_counter()
        try:
            status, trace_id, answer = _post(user, turn, url, about, cookies)
        except (OSError, HTTPException, ValueError) as error:
            news.put(Sent(user, turn, None, time.perf_counter() - started, error=f"{type(error).__name__}: {error}"))
            continue
        span_id = answer.get("span_id")
        about = span_id or about
        news.put(Sent(user, turn, status, time.perf_counter() - started, trace_id, span_id))


def _post(
    user: User, turn: Turn, url: str, about: str | None, cookies: dict[str, str]
) -> tuple[int, str | None, dict[str, Any]]:
    body = {**turn.body, "span_id": about} if turn.judges else turn.body
    headers = {"Content-Type": "application/json", "X-User-Id": user.name, "X-Conversation-Id": user.convo_id}
    if cookies:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
    connection = HTTPConnection(url.removeprefix("http://"), timeout=_ANSWER)
    try:
        connection.request("POST", turn.path, json.dumps(body), headers)
        response = connection.getresponse()
        for cookie in SimpleCookie(response.getheader("set-cookie")).values():
            cookies[cookie.key] = cookie.value
        return response.status, response.getheader("x-trace-id"), _answer(response)
    finally:
        connection.close()


def _answer(response: HTTPResponse) -> dict[str, Any]:
    """Return the JSON of an answer; of a stream of events, the last one."""
    if "text/event-stream" in (response.getheader("content-type") or ""):
        events = [line.removeprefix(b"data:") for line in response if line.startswith(b"data:")]
        return dict(json.loads(events[-1]))
    return dict(json.loads(response.read()))
