"""Traces as trees: pictures that were read by eye, and text that tries to take the terminal over."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rootspan_ui import ReceivedEvent, ReceivedLink, ReceivedSpan, Trace, fields, render
from rootspan_ui.text import cells, clean, cut, dollars, duration

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
BEGIN = 1_767_000_000_000_000_000
WHO = {"session.id": "conv_abc", "gen_ai.conversation.id": "conv_abc", "user.id": "user_42"}
SPOKEN = '[{{"role":"system","parts":[{{"type":"text","content":"be kind"}}]}},'
SPOKEN += '{{"role":"{}","parts":[{{"type":"text","content":"{}"}}]}}]'


def span(number: int, parent: int | None, name: str, start: float = 0, end: float = 1, **more: Any) -> ReceivedSpan:
    """A span whose times are in milliseconds."""
    attributes = {**WHO, **more.pop("attributes", {})}
    return ReceivedSpan(
        TRACE, f"{number:016x}", None if parent is None else f"{parent:016x}", name,
        start=BEGIN + round(start * 1e6), end=BEGIN + round(end * 1e6), attributes=attributes,
        resource={"service.name": "shop-assistant"}, **more,
    )  # fmt: skip


def drawn(*spans: ReceivedSpan, width: int = 100, **more: Any) -> list[str]:
    """The picture without colour, and without the time of day, which depends on the time zone."""
    unicode = more.pop("unicode", True)
    lines = render(Trace(TRACE, spans, **more), False, width, unicode=unicode).splitlines()
    assert re.match(r"\d\d:\d\d:\d\d", lines[0])
    return ["hh:mm:ss" + lines[0][8:], *lines[1:]]


TURN = (
    span(1, None, "user_turn", 0, 1240, links=(ReceivedLink("abcd" * 8, "12" * 8), ReceivedLink(TRACE, "12" * 8)),
         attributes={"input.value": "What's the capital of France?", "output.value": "Paris.\n\nAnything else?"}),
    span(2, 1, "execute_tool web_search", 10, 322, attributes={
        "gen_ai.tool.name": "web_search", "input.value": '{"q":"capital of France"}', "output.value": '["Paris"]'}),
    span(3, 2, "GET", 20, 300, kind=3, status_code=2, status_message="upstream said no",
         attributes={"http.response.status_code": 503}),
    span(4, 1, "route", 330, 330.012, attributes={
        "rootspan.decision.reasoning": "search, then answer",
        "rootspan.decision.alternatives": '["direct_response","clarify_question"]'}),
    span(5, 1, "chat", 331, 1141, attributes={
        "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 812, "gen_ai.usage.output_tokens": 134,
        "gen_ai.usage.cost": 0.00123, "gen_ai.input.messages": SPOKEN.format("user", "What is it?"),
        "gen_ai.output.messages": SPOKEN.format("assistant", "Paris, 東京ではありません")}),
    span(6, 1, "chat gpt-4o", 1150, 1200, status_code=2, status_message="429 slow down", attributes={
        "gen_ai.request.model": "gpt-4o", "rootspan.outcome": "cancelled", "error.type": "RateLimitError"}),
)  # fmt: skip


def test_a_turn() -> None:
    assert drawn(*TURN, width=90) == [
        "hh:mm:ss  session conv_abc  user user_42  shop-assistant                    trace 4bf92f35",
        "user_turn                                                                           1.24 s",
        "│ in   What's the capital of France?",
        "│ out  Paris. Anything else?",
        "│ linked to trace abcdabcd…",
        "├─ execute_tool web_search                                                          312 ms",
        '│  │ in   {"q":"capital of France"}',
        '│  │ out  ["Paris"]',
        "│  ╰─ ✗ GET  503                                                                    280 ms",
        "│       upstream said no",
        "├─ route                                                                             12 µs",
        "│    search, then answer",
        "│    over direct_response, clarify_question",
        "├─ chat  gpt-4o                                           812 → 134 tok  $0.0012    810 ms",
        "│    in   What is it?",
        "│    out  Paris, 東京ではありません",
        "╰─ ✗ chat gpt-4o  cancelled                                                          50 ms",
        "     RateLimitError: 429 slow down",
    ]


def test_a_turn_in_a_narrow_terminal_without_unicode() -> None:
    lines = drawn(*TURN, width=44, unicode=False)
    assert lines == [
        "hh:mm:ss  session conv_ab...  trace 4bf92f35",
        "user_turn                             1.24 s",
        "| in   What's the capital of France?",
        "| out  Paris. Anything else?",
        "| linked to trace abcdabcd...",
        "|- execute_tool web_search            312 ms",
        '|  | in   {"q":"capital of France"}',
        '|  | out  ["Paris"]',
        "|  `- x GET  503                      280 ms",
        "|       upstream said no",
        "|- route                               12 us",
        "|    search, then answer",
        "|    over direct_response, clarify_question",
        "|- chat    812 -> 134 tok  $0.0012    810 ms",
        "|    in   What is it?",
        "|    out  Paris, ?????????",
        "`- x chat gpt-4o  cancelled            50 ms",
        "     RateLimitError: 429 slow down",
    ]
    assert "".join(lines).isascii()


def test_colours_are_ours_alone() -> None:
    picture = render(Trace(TRACE, TURN), True, 90)
    assert re.sub(r"\x1b\[[0-9;]*m", "", picture) == render(Trace(TRACE, TURN), False, 90)
    assert "\x1b[31mRateLimitError: 429 slow down\x1b[0m" in picture  # red
    assert "\x1b[33mcancelled\x1b[0m" in picture  # yellow
    assert "\x1b[1muser_turn\x1b[0m" in picture  # bold


def test_an_addition_says_so_and_under_what_it_belongs() -> None:
    lines = drawn(*TURN[1:3], known={f"{1:016x}": "user_turn"})
    assert lines[0].startswith("hh:mm:ss  late addition  session conv_abc")
    assert lines[1].startswith("execute_tool web_search  under user_turn, above  ")


def test_a_trace_without_its_root_says_so() -> None:
    assert drawn(TURN[3], rooted=False)[0].startswith("hh:mm:ss  root not here yet  session")


def test_a_trace_of_another_sdk() -> None:
    request = ReceivedSpan(
        TRACE, "1" * 16, None, "GET /users/{id}", kind=2, start=BEGIN, end=BEGIN + 4_200_000,
        attributes={"http.status_code": 404}, resource={"service.name": "unknown_service:python"},
    )  # fmt: skip
    query = ReceivedSpan(TRACE, "2" * 16, "1" * 16, "", start=BEGIN, end=BEGIN - 5, status_code=2)
    assert drawn(request, query, width=60) == [
        "hh:mm:ss                                      trace 4bf92f35",
        "GET /users/{id}  404                                  4.2 ms",
        "╰─ ✗ (no name)                                             ?",
        "     failed",
    ]


def test_times_beyond_the_calendar_and_no_spans_at_all() -> None:
    assert "--:--:--" in render(Trace(TRACE, (ReceivedSpan(TRACE, "1" * 16, None, "x", start=10**40),)), False, 80)
    assert render(Trace(TRACE, ()), False, 50) == "--:--:--" + " " * 28 + "trace 4bf92f35\n"


HOSTILE = "a\x1b]0;owned\x07b\x1b[2Jc\x9b31md\r\nevil\x08\x7f\u202etxt\u200b\u2066\ue000\ud800z"


def test_text_cannot_take_the_terminal_over() -> None:
    """Terminal injection: nothing that came over the wire is a control to it, in whatever field."""
    event = ReceivedEvent("exception", 1, {"exception.type": HOSTILE, "exception.message": HOSTILE})
    names = ("session.id", "user.id", "gen_ai.request.model", "gen_ai.tool.name", "input.value", "output.value",
             "rootspan.decision.reasoning", "rootspan.decision.alternatives", "rootspan.outcome")  # fmt: skip
    attributes = dict.fromkeys(names, HOSTILE) | {"gen_ai.input.messages": [HOSTILE], "gen_ai.conversation.id": HOSTILE}
    one = span(1, None, HOSTILE, attributes=attributes, events=(event,), status_code=2, scope=HOSTILE,
               links=(ReceivedLink(HOSTILE, HOSTILE),))  # fmt: skip
    one.resource["service.name"] = HOSTILE
    two = span(2, 9, HOSTILE, status_code=2, status_message=HOSTILE)
    for unicode in (True, False):
        picture = render(Trace(TRACE, (one, two), {f"{9:016x}": HOSTILE}), False, 120, unicode=unicode)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e\u2066\ue000\ud800]", picture)
        assert picture.count("\n") == 10
        assert unicode or picture.isascii()


def test_hostile_text_keeps_its_line_and_its_width() -> None:
    assert clean(HOSTILE) == "a␛]0;owned␇b␛[2Jc�31md evil␈␡txt�z"
    assert cells(clean("e" + "\u0301" * 500)) == 1
    assert len(clean("e" + "\u0301" * 500)) == 4
    assert len(clean("x" * 1_000_000)) == 2_000
    for line in drawn(
        span(1, None, "名" * 500, attributes={"input.value": "字" * 500, "user.id": "人" * 99}), width=70
    ):
        assert cells(line) <= 70


def test_parents_in_a_circle_and_parents_of_themselves_are_shown_once() -> None:
    lines = drawn(span(1, 2, "one"), span(2, 1, "two"), span(3, 3, "three"), span(4, None, "root"))
    assert [line.split()[-3] for line in lines[1:]] == ["three", "root", "one", "two"]


def test_deep_and_wide_traces_stay_readable() -> None:
    deep = [span(number, number - 1 if number > 1 else None, f"s{number}") for number in range(1, 3_000)]
    lines = drawn(*deep)
    assert len(lines) == 402
    assert lines[-1] == "… and 2,599 more spans"
    assert max(map(cells, lines)) <= 100
    assert drawn(*deep, unicode=False)[-1].startswith("... and")


def said(**attributes: Any) -> tuple[str | None, str | None]:
    one = span(1, None, "x", attributes={key.replace("__", "."): value for key, value in attributes.items()})
    return fields.input_text(one), fields.output_text(one)


def test_content_is_found_wherever_an_sdk_puts_it() -> None:
    assert said() == (None, None)
    assert said(input__value="plain", output__value='{"a":1}') == ("plain", '{"a":1}')
    assert said(input__value={"a": 1}) == ('{"a":1}', None)
    # OpenInference and Traceloop number their messages; the last one counts
    assert said(**{"gen_ai.prompt.0.content": "first", "gen_ai.prompt.1.content": "second",
                   "llm.output_messages.0.message.content": "answer"}) == ("second", "answer")  # fmt: skip
    # Vercel
    vercel = '{"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}'
    assert said(**{"ai.prompt": vercel, "ai.response.text": "hello"}) == ("hi", "hello")
    # GenAI: an OTLP array, a tool call, a tool's answer, plain content
    assert said(**{"gen_ai.input.messages": [{"content": "hi"}, "?", {"parts": []}]})[0] == "hi"
    call = '[{"parts":[{"type":"tool_call","name":"f","arguments":{"a":1}},"and",7]}]'
    answer = '[{"parts":[{"type":"tool_call_response","response":{"b":2}}]}]'
    assert said(**{"gen_ai.output.messages": call, "gen_ai.input.messages": answer}) == ('{"b":2}', 'f({"a":1}) and')
    # what is no list of messages is shown as it is
    for odd in ("[broken", "plain", '{"messages":1}', "[1]", "[" + " " * 2**20):
        assert said(**{"gen_ai.input.messages": odd})[0] == odd
    assert said(**{"gen_ai.input.messages": 5})[0] == "5"
    # a root that took over what its model was asked
    assert said(input__value='[{"role":"user","content":"first"},{"role":"user","content":"last"}]')[0] == "last"


def test_a_decision_names_what_it_was_taken_over() -> None:
    for written, shown in (('["a","b"]', "a, b"), (["a", 1], "a, 1"), ("a or b", "a or b"), ('{"a":1}', '{"a":1}'),
                           (None, None)):  # fmt: skip
        one = span(1, None, "x", attributes={"rootspan.decision.alternatives": written})
        assert fields.alternatives(one) == shown


def test_json_that_is_nested_too_deep_to_be_written_again_is_said_to_be() -> None:
    deep = "[" * 300 + "]" * 300
    parts = f'[{{"parts": [{{"type": "tool_call", "name": "search", "arguments": {deep}}}]}}]'
    messages = f'[{{"content": {{"a": {deep}}}}}]'
    for attributes in (
        {"gen_ai.input.messages": messages},
        {"gen_ai.input.messages": parts},
        {"rootspan.decision.alternatives": f"[{deep}]"},
    ):
        assert "(nested too deep)" in "\n".join(drawn(span(1, None, "x", attributes=attributes)))


def test_a_judgement_shows_its_name_score_and_reason() -> None:
    judged = {"name": "thumbs", "score.value": 1.0, "explanation": "quick"}
    one = span(1, None, "x", attributes={f"gen_ai.evaluation.{name}": value for name, value in judged.items()})
    assert fields.note(one) == "thumbs  1  quick"
    assert drawn(one)[2].strip() == "thumbs 1 quick"
    assert fields.note(span(1, None, "x", attributes={"gen_ai.evaluation.score.value": 0.25})) == "0.25"


def test_figures_of_the_wrong_type_are_left_out() -> None:
    odd = {"gen_ai.usage.input_tokens": "12", "gen_ai.usage.output_tokens": -1, "gen_ai.usage.cost": float("nan"),
           "http.response.status_code": "200"}  # fmt: skip
    one = span(1, None, "x", attributes=odd)
    assert (fields.tokens(one), fields.cost(one), fields.status_code(one)) == (None, None, None)
    assert fields.tokens(span(1, None, "x", attributes={"gen_ai.usage.prompt_tokens": 3.0})) == (3, 0)


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({"status_message": "ValueError: no", "attributes": {"error.type": "ValueError"}}, "ValueError: no"),
        ({"status_message": "no", "attributes": {"error.type": "_OTHER"}}, "no"),
        ({"events": (ReceivedEvent("exception", 1, {"exception.type": "E", "exception.message": "m"}),)}, "E: m"),
        ({"events": (ReceivedEvent("other", 1), ReceivedEvent("exception", 1)), "status_message": "m"}, "m"),
    ],
)
def test_errors(more: dict[str, Any], shown: str) -> None:
    assert fields.error(span(1, None, "x", status_code=2, **more)) == shown


def test_an_http_status_says_enough() -> None:
    status = {"error.type": "503", "http.response.status_code": 503}
    assert fields.error(span(1, None, "x", status_code=2, status_message="503", attributes=status)) is None
    assert fields.error(span(1, None, "x", status_code=2, status_message="no", attributes=status)) == "503: no"


def test_failure_and_success_are_plain_outcomes() -> None:
    for outcome, shown in (("failure", None), ("success", None), ("interrupted", "interrupted")):
        assert fields.outcome(span(1, None, "x", attributes={"rootspan.outcome": outcome})) == shown


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [(0, "0 ns"), (999, "999 ns"), (12_000, "12 µs"), (999_600, "1.0 ms"), (9_960_000, "10 ms"),
     (312_000_000, "312 ms"), (999_600_000, "1.00 s"),
     (12_340_000_000, "12.3 s"), (59_960_000_000, "1 m 00 s"), (125_000_000_000, "2 m 05 s"),
     (12_000_000_000_000, "3 h 20 m")],
)  # fmt: skip
def test_durations(nanoseconds: int, shown: str) -> None:
    assert duration(nanoseconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "$0"),
        (1e-30, "$0"),
        (0.0000035, "$0.0000035"),
        (0.00123, "$0.0012"),
        (0.5, "$0.5000"),
        (1234.5, "$1,234.50"),
    ],
)
def test_dollars(value: float, shown: str) -> None:
    assert dollars(value) == shown


def test_cutting() -> None:
    assert cut("short", 5) == "short"
    assert cut("too long", 5) == "too…"
    assert cut("too long", 5, unicode=False) == "to..."
    assert cut("字字字", 4) == "字…"
    assert (cut("abc", 2, unicode=False), cut("abc", 0)) == ("..", "")
