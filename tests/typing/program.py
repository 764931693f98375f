"""A user's program. Type checkers read it against the installed package; it never runs."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from decimal import Decimal

from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from typing_extensions import assert_type

import rootspan
from rootspan_flask import Rootspan
from rootspan_langchain import RootspanCallbackHandler
from rootspan_starlette import RootspanMiddleware

tracker = rootspan.configure(api_key="k", endpoint="https://collector.example.com", service_name="shop-assistant")
assert_type(tracker, rootspan.Tracker)

assert_type(rootspan.track_ai(event="user_message", user_id="u1", input=[{"role": "user"}], properties={"n": 1}), str)
assert_type(rootspan.current(), rootspan.Step | None)
assert_type(rootspan.calculate_cost("gpt-4o", {"input_tokens": 1}), Decimal | None)
assert_type(rootspan.flush(timeout=5), bool)

with rootspan.begin(event="user_turn", user_id="u1", convo_id="c1", input="Hi") as turn:
    assert_type(turn, rootspan.Interaction)
    with turn.tool_span("web_search", input={"q": "x"}) as step:
        assert_type(step, rootspan.Step)
        step.set_output(["hit"])
    turn.track_decision(reasoning="search, then answer", alternatives=["direct_response"])
    turn.update(output="Hello!")
    assert_type(turn.span_id, str)
    assert_type(turn.track_feedback(name="thumbs", score=1), str)
turn.finish(output="Hello!", success=True, estimated_cost=0.023)

session = tracker.create_session(name="Request", agent_name="my-agent", user_id="u1", metadata={"source": "api"})
assert_type(session, str)
tracker.track_tool_call(session_id=session, tool_name="search", tool_input={"q": "x"}, tool_output={"hits": 3})
tracker.complete_session(session_id=session, success=True, prompt_tokens=812, completion_tokens=134)


@rootspan.tool
def search(query: str) -> list[str]:
    return [query]


@rootspan.tool(name="fetch", capture_input=False)
async def fetch(url: str) -> bytes:
    return url.encode()


@rootspan.interaction("user_turn", user_id="u1")
async def answer(question: str) -> AsyncIterator[str]:
    with rootspan.context(user_id="u1", tags=["beta"]):
        yield question


class Shop:
    @rootspan.tool
    @classmethod
    def open(cls, name: str) -> int:
        return len(name)

    @rootspan.tool("close", capture_output=False)
    @staticmethod
    def close(name: str) -> int:
        return len(name)


assert_type(search("x"), list[str])
assert_type(Shop.open("x"), int)
assert_type(Shop().close("x"), int)
assert_type(rootspan.carry(search)("x"), list[str])


async def program() -> None:
    assert_type(await fetch("x"), bytes)
    async for part in answer("x"):
        assert_type(part, str)
    async with rootspan.begin(event="user_turn") as turn:
        assert_type(turn, rootspan.Interaction)


handler = RootspanCallbackHandler(user_id="u1", convo_id=7, detail="agent", include=lambda run: run.type == "model")
assert_type(handler.trace_id_for("0f9d3a52-7f0e-4b52-9d6c-3b1f6d0d9f11"), str)
assert_type(handler.stats(), dict[str, int])


def user_of(request: Request) -> str | None:
    return request.headers.get("x-user")


app = FastAPI()
app.add_middleware(RootspanMiddleware, user_id=lambda request: request.headers.get("x-user"), exclude=["/health"])
Starlette(middleware=[Middleware(RootspanMiddleware, user_id=user_of, record="tracked")])
# A misspelt option is to be an error: an exception that is not needed would be one, too.
RootspanMiddleware(app=app, tracker=tracker, usr_id=user_of)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
rootspan.track_ai("answer", user_id={"id": 7})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
rootspan.Tracker(spool=True, timeout=2, user_id=lambda: 7, extras=["mlflow"], tags=("beta",), redact_pii={"email"})
Rootspan(Flask("shop"), user_id=lambda request: request.headers.get("x-user"), service_name="shop", record="tracked")
if sys.version_info >= (3, 11):  # before that there is no `Unpack`, which tells of keywords
    rootspan.configure(servce_name="shop")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    rootspan.Tracker(timeout="10")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Rootspan(servce_name="shop")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
