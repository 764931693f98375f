"""A support chat with tools, memory and feedback; start it with `uvicorn fastapi_chat.app:app`."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

import rootspan
from fastapi_chat import model
from rootspan_starlette import RootspanMiddleware

rootspan.configure(service_name="fastapi-chat")  # sends to ROOTSPAN_ENDPOINT, or to http://localhost:4318

app = FastAPI(title="Support chat")
app.add_middleware(
    RootspanMiddleware,
    user_id=lambda request: request.headers.get("x-user-id"),  # this app's stand-in for a login
    convo_id=lambda request: request.headers.get("x-conversation-id"),
    response_header="x-trace-id",
)

ORDERS = {"1042": "order 1042 left the warehouse this morning.", "1077": "order 1077 waits for its payment."}
WEATHER = {"Oslo": "snow, -4 °C", "Lisbon": "sun, 21 °C"}

rootspan.calculate_cost(model.NAME, {"prompt_tokens": 1})  # loads the price list now, not during the first request

conversations: dict[str, list[model.Message]] = defaultdict(list)


def remembered(x_conversation_id: Annotated[str, Header()] = "default") -> list[model.Message]:
    return conversations[x_conversation_id]


Memory = Annotated[list[model.Message], Depends(remembered)]


class Question(BaseModel):
    message: str


class Answer(BaseModel):
    reply: str
    span_id: str  # what feedback about this answer has to name


class Feedback(BaseModel):
    span_id: str
    score: int
    comment: str | None = None


@app.post("/chat")
async def chat(question: Question, memory: Memory) -> Answer:
    memory.append({"role": "user", "content": question.message})
    reply, span_id = await ask(memory)
    if reply.tool is not None:
        result = TOOLS[reply.tool](**reply.arguments)
        memory += [reply.message, {"role": "tool", "content": result}]
        reply, span_id = await ask(memory)
    memory.append(reply.message)
    return Answer(reply=reply.text, span_id=span_id)


@app.post("/chat/stream")
async def chat_stream(question: Question, memory: Memory) -> StreamingResponse:
    memory.append({"role": "user", "content": question.message})
    return StreamingResponse(events(memory), media_type="text/event-stream")


@app.post("/feedback")
async def feedback(given: Feedback) -> dict[str, str]:
    return {"span_id": rootspan.track_feedback(given.span_id, "thumbs", score=given.score, comment=given.comment)}


@rootspan.tool
def look_up_order(number: str) -> str:
    return ORDERS.get(number, f"there is no order {number}.")


@rootspan.tool
def get_weather(city: str) -> str:
    return f"{city}: {WEATHER.get(city, 'no forecast')}."


TOOLS = {"look_up_order": look_up_order, "get_weather": get_weather}


async def ask(messages: list[model.Message]) -> tuple[model.Reply, str]:
    started = time.perf_counter()
    try:
        reply = await model.complete(messages)
    except model.ModelOverloadedError as error:
        track(messages, started, error=error)
        raise
    return reply, track(messages, started, reply)


async def events(memory: list[model.Message]) -> AsyncIterator[str]:
    started, asked, text = time.perf_counter(), list(memory), ""
    try:
        async for word in model.stream(asked):
            text += word
            yield f"data: {json.dumps({'token': word})}\n\n"
    finally:  # also when the reader goes away in the middle
        reply = model.Reply(text, None, {}, model.count_tokens(asked), model.count_tokens(text))
        memory.append(reply.message)
        span_id = track(asked, started, reply)
    yield f"data: {json.dumps({'done': True, 'span_id': span_id})}\n\n"


def track(
    messages: list[model.Message], started: float, reply: model.Reply | None = None, error: Exception | None = None
) -> str:
    spent: dict[str, Any] = {}
    if reply is not None:
        spent = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
    cost = rootspan.calculate_cost(model.NAME, spent, provider=model.PROVIDER)
    return rootspan.track_ai(
        event="chat_completion",
        model=model.NAME,
        provider=model.PROVIDER,
        input=messages,
        output=None if reply is None else reply.text or [reply.message],
        estimated_cost=cost,
        duration=time.perf_counter() - started,
        error=error,
        **spent,
    )


@app.exception_handler(model.ModelOverloadedError)
async def overloaded(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=503, headers={"retry-after": "5"})
