"""The example apps of `rootspan demo`, how each is started, and what its users say to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

__all__ = ["APPS", "App", "Turn", "User"]


@dataclass(frozen=True)
class Turn:
    """One request, and what has to come of it.

    Args:
        said: what a person reads about it while it runs.
        path: where it is posted.
        body: its JSON.
        spans: how many spans the app makes of it.
        traces: how many traces these are in; in all but the first one is a single span.
        status: the HTTP status of the answer.
        judges: whether the body has to name the span of the answer before, as `span_id`.
    """

    said: str
    path: str
    body: Mapping[str, Any]
    spans: int
    traces: int = 1
    status: int = 200
    judges: bool = False


@dataclass(frozen=True)
class User:
    """Somebody who goes through one conversation, one turn after the other."""

    name: str
    convo_id: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class App:
    """An example app.

    Args:
        name: its folder in `example_apps`.
        modules: what it imports, to tell beforehand which are not installed.
        command: the arguments for Python that start it; `{port}` and `{folder}` (the `example_apps`) are filled in.
        users: who talks to it.
        hint: a command to try by hand; `{url}` is filled in.
    """

    name: str
    modules: tuple[str, ...]
    command: tuple[str, ...]
    users: tuple[User, ...]
    hint: str


def _chat(message: str, spans: int = 2, status: int = 200) -> Turn:
    return Turn(message, "/chat", {"message": message}, spans, status=status)


def _streamed(message: str) -> Turn:
    return Turn(message, "/chat/stream", {"message": message}, 2)


def _thumbs(score: int, comment: str) -> Turn:
    body = {"score": score, "comment": comment}
    return Turn(
        f"({'thumbs up' if score > 0 else 'thumbs down'}: {comment})", "/feedback", body, 2, traces=2, judges=True
    )


def _ask(question: str, spans: int, path: str = "/api/ask", status: int = 200) -> Turn:
    return Turn(question, path, {"question": question}, spans, status=status)


def _judged(reference: str, score: int, comment: str) -> Turn:
    return replace(_thumbs(score, comment), path=f"/api/tickets/{reference}/feedback")


def _login(name: str) -> Turn:
    return Turn("(logs in)", "/api/login", {"username": name, "password": "desk"}, 1)


def _ticket(subject: str) -> Turn:
    return Turn(f"(opens a ticket: {subject})", "/api/tickets", {"subject": subject}, 1, status=201)


def _about(reference: str, message: str, spans: int = 2, last: str = "messages", status: int = 200) -> Turn:
    return Turn(message, f"/api/tickets/{reference}/{last}", {"message": message}, spans, status=status)


def _decided(said: str, approve: bool, spans: int) -> Turn:
    return Turn(f"({said})", "/decision", {"approve": approve, "reason": said}, spans)


_TOOL_CALL: Final = 4  # the request, the model that asks for the tool, the tool, the model that answers
_SEARCHED: Final = 3  # the request, the tool, the model

_UVICORN: Final = ("--app-dir", "{folder}", "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning")

APPS: Final = (
    App(
        name="fastapi_chat",
        modules=("fastapi", "uvicorn", "genai_prices"),
        command=("-m", "uvicorn", "fastapi_chat.app:app", *_UVICORN),
        users=(
            User(
                "ada",
                "ada-order",
                (
                    _chat("Hello, I am Ada."),
                    _chat("Where is my order 1042?", _TOOL_CALL),
                    _thumbs(1, "That was quick."),
                    _chat("What did I ask first?"),
                ),
            ),
            User(
                "grace",
                "grace-travel",
                (
                    _chat("How is the weather in Oslo?", _TOOL_CALL),
                    _chat("And the weather in Lisbon?", _TOOL_CALL),
                    _streamed("Then tell me a story for the flight."),
                    _thumbs(1, "Lovely."),
                ),
            ),
            User(
                "linus",
                "linus-encyclopedia",
                (
                    _chat("Summarise all of Wikipedia.", status=503),
                    _chat("What can you do, then?"),
                    _thumbs(-1, "Not what I hoped for."),
                ),
            ),
            User("ada", "ada-evening", (_streamed("Tell me a story."), _chat("Is order 1077 paid?", _TOOL_CALL))),
        ),
        hint="curl {url}/chat -H 'content-type: application/json' -H 'x-user-id: you' -H 'x-conversation-id: c1' \\\n"
        '       -d \'{{"message": "Where is my order 1042?"}}\'',
    ),
    App(
        name="flask_search",
        modules=("flask", "genai_prices"),
        command=("-m", "flask", "--app", "{folder}/flask_search", "run", "--port", "{port}"),
        users=(
            User(
                "margaret",
                "margaret-handbook",
                (
                    _ask("How many days of holiday do I have?", _TOOL_CALL),
                    _ask("May I work from home?", _SEARCHED, "/api/ask/stream"),
                    _ask("Thank you.", 2),
                ),
            ),
            User(
                "ken",
                "ken-handbook",
                (
                    _ask("Tell me everything.", 2, status=503),
                    _ask("When is a laptop replaced?", _TOOL_CALL),
                    _ask("Who pays for my lunch?", _SEARCHED, "/api/ask/stream"),
                ),
            ),
        ),
        hint="open {url} in a browser",
    ),
    App(
        name="django_support_desk",
        modules=("django", "genai_prices"),
        command=("{folder}/django_support_desk/manage.py", "serve", "127.0.0.1:{port}"),
        users=(
            User(
                "barbara",
                "late-parcel",
                (
                    _login("barbara"),
                    _ticket("Late parcel"),
                    _about("late-parcel", "Where is order 1042?", _TOOL_CALL),
                    _about("late-parcel", "How do I send it back?", last="stream"),
                    _judged("late-parcel", 1, "Thank you!"),
                ),
            ),
            User(
                "edsger",
                "lost-invoice",
                (
                    _login("edsger"),
                    _ticket("Lost invoice"),
                    _about("lost-invoice", "Send me everything you know.", status=503),
                    _about("lost-invoice", "Is order 1077 paid?", _TOOL_CALL),
                    _about("lost-invoice", "What did I write first?"),
                ),
            ),
        ),
        hint="open {url} in a browser, as barbara, with the password: desk",
    ),
    App(
        name="langchain_agent",
        modules=("fastapi", "uvicorn", "genai_prices", "langchain", "langgraph"),
        command=("-m", "uvicorn", "langchain_agent.app:app", *_UVICORN),
        users=(
            User(
                "margaret",
                "margaret-refund",
                (
                    _chat("Where is order 1042?", 12),
                    _chat("Refund order 1042.", 6),
                    _decided("approved", True, 8),
                    _thumbs(1, "My money is back."),
                ),
            ),
            User(
                "dennis",
                "dennis-refund",
                (
                    _chat("What can you do?", 5),
                    _chat("Refund order 1077.", 6),
                    _decided("it is not even paid", False, 6),
                    _chat("Read all of Wikipedia to me.", 4, status=503),
                ),
            ),
        ),
        hint="curl {url}/chat -H 'content-type: application/json' -H 'x-user-id: you' -H 'x-conversation-id: c2' \\\n"
        '       -d \'{{"message": "Where is order 1042?"}}\'',
    ),
)
"""A new example app is one entry here; its packages belong into the extra `demo`."""
