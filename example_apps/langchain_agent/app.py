"""A support agent with tools, a memory and a person who approves; start it with `uvicorn langchain_agent.app:app`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel

import rootspan
from langchain_agent.model import ChatStandIn
from rootspan_langchain import RootspanCallbackHandler
from rootspan_starlette import RootspanMiddleware

rootspan.configure(service_name="langchain-agent")  # sends to ROOTSPAN_ENDPOINT, or to http://localhost:4318

app = FastAPI(title="Support agent")
app.add_middleware(
    RootspanMiddleware,
    user_id=lambda request: request.headers.get("x-user-id"),  # this app's stand-in for a login
    convo_id=lambda request: request.headers.get("x-conversation-id"),
    response_header="x-trace-id",
)

ORDERS = {"1042": "it left the warehouse this morning.", "1077": "it waits for its payment."}


@tool
def look_up_order(number: str) -> str:
    """Tell where an order is."""
    with rootspan.tool_span("orders_database", input={"number": number}) as step:  # lands below this tool
        step.set_output(found := ORDERS.get(number, "there is no such order."))
    return f"Order {number}: {found}"


@tool
def refund(number: str) -> str:
    """Pay an order back; a person has to approve it."""
    return f"Order {number} is refunded."


agent = create_agent(
    ChatStandIn(),
    [look_up_order, refund],
    name="support_agent",
    system_prompt="You work in the support of a small shop.",
    checkpointer=InMemorySaver(),
    middleware=[HumanInTheLoopMiddleware(interrupt_on={"refund": True})],
)
handler = RootspanCallbackHandler(detail="agent", estimate_cost=True)  # one for all invocations


class Question(BaseModel):
    message: str


class Decision(BaseModel):
    approve: bool
    reason: str = "not now"


class Answer(BaseModel):
    reply: str
    waits_for_approval: bool
    span_id: str  # what feedback about this answer has to name


class Feedback(BaseModel):
    span_id: str
    score: int
    comment: str | None = None


Conversation = Annotated[str, Header(alias="x-conversation-id")]


@app.post("/chat")
def chat(question: Question, conversation: Conversation = "default") -> Answer:
    return run({"messages": [{"role": "user", "content": question.message}]}, conversation)


@app.post("/decision")
def decision(given: Decision, conversation: Conversation = "default") -> Answer:
    verdict: Any = {"type": "approve"} if given.approve else {"type": "reject", "message": given.reason}
    return run(Command(resume={"decisions": [verdict]}), conversation)


@app.post("/feedback")
def feedback(given: Feedback) -> dict[str, str]:
    return {"span_id": rootspan.track_feedback(given.span_id, "thumbs", score=given.score, comment=given.comment)}


def run(given: Any, conversation: str) -> Answer:
    """Let the agent go on until it has answered or waits for a person."""
    state = agent.invoke(given, {"callbacks": [handler], "configurable": {"thread_id": conversation}})
    here = rootspan.current()
    waits = "__interrupt__" in state
    reply = "A colleague has to approve that." if waits else str(state["messages"][-1].content)
    return Answer(reply=reply, waits_for_approval=waits, span_id=here.span_id if here else "")


@app.exception_handler(ConnectionError)
def overloaded(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=503, headers={"retry-after": "5"})
