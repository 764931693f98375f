"""What is kept of a body, and which chat is found in it."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from rootspan.adapter import Body
from rootspan.adapter.body import answered, asked, delta

LIMIT = 65_536


def body_of(kind: str, *chunks: Any, limit: int = LIMIT, encoding: str | None = None) -> Body:
    body = Body(limit)
    headers = {"content-type": kind} | ({} if encoding is None else {"content-encoding": encoding})
    body.set_headers(headers.get)
    for chunk in chunks:
        body.feed(chunk)
    return body


def events(*data: Any) -> bytes:
    return b"".join(
        b"data: " + (item.encode() if isinstance(item, str) else json.dumps(item).encode()) + b"\n\n" for item in data
    )


CHAT = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("request_body", "wanted"),
    [
        ({"messages": CHAT, "model": "gpt-4o", "temperature": 0}, CHAT),
        ({"message": "Hi", "session": "s1"}, "Hi"),
        ({"message": {"role": "user", "content": "Hi"}}, "Hi"),
        ({"message": {"role": "user", "content": [{"type": "text", "text": "Hi"}]}}, "Hi"),
        ({"message": {"id": 7}}, {"id": 7}),
        ({"input": "Hi"}, "Hi"),
        ({"prompt": "Hi"}, "Hi"),
        ({"question": "Hi"}, "Hi"),
        ({"query": "Hi"}, "Hi"),
        ({"messages": [], "prompt": "Hi"}, "Hi"),
        ({"city": "Oslo"}, {"city": "Oslo"}),
        (["Hi"], ["Hi"]),
        ("Hi", "Hi"),
        (None, None),
    ],
)
def test_what_a_request_asks(request_body: Any, wanted: Any) -> None:
    assert asked(request_body) == wanted


@pytest.mark.parametrize(
    ("response_body", "wanted"),
    [
        ({"reply": "Hello!"}, "Hello!"),
        ({"output": "Hello!"}, "Hello!"),
        ({"answer": "Hello!", "sources": [1]}, "Hello!"),
        ({"response": "Hello!"}, "Hello!"),
        (
            {"choices": [{"message": {"role": "assistant", "content": "Hello!"}}, {"message": {"content": "B"}}]},
            "Hello!",
        ),
        ({"choices": [{"text": "Hello!"}]}, "Hello!"),
        ({"choices": []}, {"choices": []}),
        (
            {"choices": [{"message": {"content": None, "tool_calls": [{"id": "1"}]}}]},
            [{"message": {"content": None, "tool_calls": [{"id": "1"}]}}],
        ),
        ({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hello!"}]}, "Hello!"),
        (
            {
                "object": "response",
                "output": [
                    {"type": "reasoning", "content": [{"text": "hm"}]},
                    {"type": "mcp_call", "name": "search", "arguments": "{}", "output": "found"},
                    {"type": "message", "content": [{"type": "output_text", "text": "Hello!"}]},
                ],
            },
            "Hello!",
        ),
        ({"candidates": [{"content": {"parts": [{"text": "Hel"}, {"text": "lo!"}]}}]}, "Hello!"),
        ({"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}, {"text": "Hello!"}]}}]}, "Hello!"),
        ({"message": {"role": "assistant", "content": "Hello!"}, "done": True}, "Hello!"),
        ({"reply": {"score": 1}}, {"score": 1}),
        ({"detail": "not found"}, {"detail": "not found"}),
        ("Hello!", "Hello!"),
    ],
)
def test_what_a_response_answers(response_body: Any, wanted: Any) -> None:
    assert answered(response_body) == wanted


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        ({"choices": [{"delta": {"role": "assistant", "content": "Par"}}]}, "Par"),
        ({"choices": [{"delta": {"reasoning_content": "hm"}}]}, None),
        ({"choices": [{"delta": {}, "finish_reason": "stop"}]}, None),
        ({"choices": []}, None),
        ({"choices": [{"text": "Par"}]}, "Par"),
        ({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Par"}}, "Par"),
        ({"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}}, None),
        ({"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{"}}, None),
        ({"type": "message_start", "message": {"content": []}}, None),
        ({"type": "response.output_text.delta", "delta": "Par"}, "Par"),
        ({"type": "response.output_text.done", "text": "Paris"}, None),
        ({"type": "response.reasoning_summary_text.delta", "delta": "hm"}, None),
        ({"type": "response.function_call_arguments.delta", "delta": "{"}, None),
        ({"type": "response.mcp_call_arguments.delta", "delta": "{"}, None),
        ({"type": "response.code_interpreter_call_code.delta", "delta": "import"}, None),
        ({"type": "response.audio.delta", "delta": "UklGRg=="}, None),
        ({"type": "response.audio.transcript.delta", "delta": "Par"}, "Par"),
        ({"type": "text-delta", "delta": "Par"}, "Par"),
        ({"candidates": [{"content": {"parts": [{"text": "Par"}]}}]}, "Par"),
        ({"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}]}}]}, None),
        ({"message": {"role": "assistant", "content": "Par"}, "done": False}, "Par"),
        ({"token": "Par"}, "Par"),
        ({"done": True}, None),
        ("Par", "Par"),
        (5, None),
    ],
)
def test_what_an_event_of_a_stream_adds(event: Any, wanted: str | None) -> None:
    assert delta(event) == wanted


@pytest.mark.parametrize("around", [lambda one: {"content": one}, lambda one: [one]], ids=["objects", "lists"])
def test_something_nested_beyond_sense_is_no_text(around: Callable[[Any], Any]) -> None:
    nested: Any = "Hi"
    for _ in range(50):
        nested = around(nested)
    assert answered({"reply": nested}) == nested


def test_server_sent_events_are_read_across_any_split() -> None:
    stream = (
        b": a comment\r\nevent: message\r\nid: 1\r\n"
        + events({"choices": [{"delta": {"content": "Zür"}}]}).replace(b"\n", b"\r\n")
        + events({"choices": [{"delta": {"content": "ich"}}]}, "[DONE]")
    )
    for seed in range(30):
        cuts = sorted(random.Random(seed).choices(range(len(stream)), k=seed))
        pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
        assert body_of("text/event-stream; charset=utf-8", *pieces).answered() == "Zürich"


def test_server_sent_events_that_are_plain_text() -> None:
    assert body_of("text/event-stream", events("The answer is ", "42", ".")).answered() == "The answer is 42."
    assert body_of("text/event-stream", b"data: one\ndata: two\n\n").answered() == "one\ntwo"
    assert body_of("text/event-stream", b'data: {"token":\ndata: "Par"}\n\n').answered() == "Par"


def test_events_without_a_delta_are_shown_as_they_are() -> None:
    said = body_of("text/event-stream", events({"progress": 1}, {"progress": 2})).answered()
    assert said == '{"progress": 1}\n{"progress": 2}\n'
    assert body_of("text/event-stream", events({"progress": 1}, {"token": "Par"}, {"done": 1})).answered() == "Par"
    assert body_of("text/event-stream", b": ping\n\n").answered() is None


def test_json_lines() -> None:
    lines = b"".join(json.dumps({"response": word}).encode() + b"\n" for word in ("Par", "is"))
    assert body_of("application/x-ndjson", lines).answered() == "Paris"
    body = body_of("application/x-ndjson", lines[:-1])  # no newline ends the last one
    assert (body.answered(), body.answered()) == ("Paris", "Paris")
    assert body_of("application/x-ndjson", lines[:-2]).answered() == "Par"  # it broke off


def test_a_form_counts_where_a_chat_is_in_it() -> None:
    form = "application/x-www-form-urlencoded"
    assert body_of(form, b"question=Why+not%3F&csrf=abc").asked() == "Why not?"
    assert body_of(form, b"username=ann&password=secret").asked() is None
    assert body_of(form, b"&".join(b"message=%d" % number for number in range(2_000))).asked() is None


def test_a_form_that_is_cut_counts_likewise() -> None:
    form = "application/x-www-form-urlencoded"
    assert body_of(form, b"street=Main+Street&phone=5550100", limit=20).asked() is None
    assert body_of(form, b"question=Why+not%3F&csrf=abc", limit=16).asked() == "Why not…[cut: 28 bytes went by]"


@pytest.mark.parametrize("chunk", ["text", b"text", bytearray(b"text"), memoryview(b"text")])
def test_chunks_of_every_kind(chunk: Any) -> None:
    assert body_of("text/plain", chunk).answered() == "text"


def test_what_is_no_chunk_is_left_alone() -> None:
    assert body_of("text/plain", None, 5, object()).answered() is None
    raising = Body(10)
    raising.set_headers(lambda name: 1 / 0)  # type: ignore[arg-type, return-value]
    raising.feed(b"x")
    assert raising.answered() is None


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [("text/html", None), ("image/png", None), ("multipart/form-data; boundary=x", None), ("", None),
     ("application/json", "gzip")],
)  # fmt: skip
def test_nothing_is_kept_of_what_holds_no_chat(kind: str, encoding: str | None) -> None:
    assert body_of(kind, b'{"reply": "Hello!"}', encoding=encoding).answered() is None


def test_json_of_another_name_and_json_that_is_broken() -> None:
    assert body_of("application/vnd.api+json", b'{"reply": "Hello!"}').answered() == "Hello!"
    assert body_of("application/json", b'{"reply": ').answered() == '{"reply": '
    assert body_of("application/json", b"\xff").answered() == "\ufffd"
    assert body_of("application/json").answered() is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_a_body_is_decoded_as_frameworks_do(encoding: str) -> None:
    assert body_of("application/json", '{"question": "Où?"}'.encode(encoding)).asked() == "Où?"
    assert body_of("application/json", '{"question": "Où?'.encode(encoding)).asked() == '{"question": "Où?'
    assert body_of("text/plain", "Hi, who?".encode(encoding)).asked() == "Hi, who?"
    cut = body_of("application/json", '{"question": "Why?"}'.encode(encoding), limit=40).asked()
    assert "\0" not in cut


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "text/event-stream", "application/x-ndjson"])
def test_nothing_is_kept_that_is_still_not_decoded(kind: str) -> None:
    hidden = 'œœ{"password": "hunter2"}\n\n'.encode("utf-16-le")  # which nothing in it tells
    assert body_of(kind, b"data: " + hidden if kind == "text/event-stream" else hidden).asked() is None


def test_a_nul_that_a_streamed_answer_tells_of_costs_no_answer() -> None:
    events = b'data: {"choices": [{"delta": {"content": "Hi\\u0000 there"}}]}\n\n'
    assert body_of("text/event-stream", events).answered() == "Hi there"


def test_what_is_over_the_limit_is_cut_and_says_so() -> None:
    cut = body_of("application/json", b'{"message": "', b"x" * 1_000, b'"}', limit=20).asked()
    assert cut == '{"message": "xxxxxxx…[cut: 1015 bytes went by]'
    stream = body_of("text/event-stream", *[events({"token": "word "})] * 1_000, limit=100).answered()
    assert stream.startswith("word word")
    assert stream.endswith("bytes went by]")
    assert len(stream) < 150


def test_a_line_over_the_limit_is_left_out() -> None:
    stream = [b'data: {"token": "', b"x" * 500, b'"}\n\n', events({"token": "Par"})]
    assert body_of("text/event-stream", *stream, limit=100).answered() == "Par"
    assert body_of("text/event-stream", b"".join(stream), limit=100).answered() == "Par"


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "text/event-stream", "image/png"])
@pytest.mark.parametrize("chunk", [b"x" * 65_536, b"data: x\n\n" * 5_000], ids=["a blob", "events"])
def test_web_07_memory_is_bounded_by_the_limit(kind: str, chunk: bytes) -> None:
    """A gigabyte is 16,384 such chunks; a sixteenth of it shows whether memory grows."""
    body = body_of(kind, limit=10_000)
    tracemalloc.start()
    try:
        for _ in range(1_000):
            body.feed(chunk)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()
