"""How a ticket is answered: a model that may call a tool, tracked with rootspan."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import rootspan
from django_support_desk import assistant
from django_support_desk.models import Message, Order, Ticket


def reply(ticket: Ticket, said: str) -> Message:
    """Let the assistant answer what was said."""
    chat = remember(ticket, said)
    answer, span_id = ask(chat)
    if answer.order is not None:
        call = {"type": "tool_call", "name": "look_up_order", "arguments": {"number": answer.order}}
        chat += [{"role": "assistant", "parts": [call]}, {"role": "tool", "content": look_up_order(answer.order)}]
        answer, span_id = ask(chat)
    return ticket.messages.create(role="assistant", text=answer.text, span_id=span_id)


def stream(ticket: Ticket, said: str) -> Iterator[str]:
    """The same word by word, as server-sent events."""
    chat, started, text = remember(ticket, said), time.perf_counter(), ""
    span_id = ""
    try:
        for word in assistant.explain(chat):
            text += word
            yield f"data: {json.dumps({'token': word})}\n\n"
    finally:  # also when the customer closes the page in the middle
        span_id = track(chat, started, text)
        ticket.messages.create(role="assistant", text=text, span_id=span_id)
    yield f"data: {json.dumps({'done': True, 'span_id': span_id})}\n\n"


def remember(ticket: Ticket, said: str) -> assistant.Chat:
    ticket.messages.create(role="user", text=said)
    return [{"role": message.role, "content": message.text} for message in ticket.messages.all()]


@rootspan.tool
def look_up_order(number: str) -> str:
    order = Order.objects.filter(number=number).first()
    return f"there is no order {number}." if order is None else f"{order}."


def ask(chat: assistant.Chat) -> tuple[assistant.Answer, str]:
    started = time.perf_counter()
    try:
        answer = assistant.answer(chat)
    except assistant.OverloadedError as error:
        track(chat, started, error=error)
        raise
    return answer, track(chat, started, answer.text or f"look_up_order({answer.order})")


def track(chat: assistant.Chat, started: float, said: str | None = None, error: Exception | None = None) -> str:
    spent = None if said is None else {"input_tokens": assistant.tokens(chat), "output_tokens": assistant.tokens(said)}
    return rootspan.track_ai(
        event="answer",
        model=assistant.NAME,
        provider=assistant.PROVIDER,
        input=chat,
        output=said,
        prompt_tokens=spent and spent["input_tokens"],
        completion_tokens=spent and spent["output_tokens"],
        estimated_cost=spent and rootspan.calculate_cost(assistant.NAME, spent, provider=assistant.PROVIDER),
        duration=time.perf_counter() - started,
        error=error,
    )
