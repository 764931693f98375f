"""The short way of a plain event and the long one lead to the same bytes, whatever the event holds."""

from __future__ import annotations

from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import use_span

from rootspan.adapter import RequestInfo, RequestOptions, open_request
from rootspan.freeze import keep
from rootspan.record import Kind
from rootspan.scope import inside
from shortcuts import Ways

WAYS = Ways(api_key="q7R-our-own-key-W4z")
BOUNDED = Ways(max_content_length=600, redact_text=False)
HOST = TracerProvider().get_tracer("host").start_span("request")

CHARACTERS = st.one_of(st.characters(), st.sampled_from('\ud800\0\n"\\:=@<-_/é密😀'))
WORDS = st.sampled_from(
    [
        "sk-proj-q7Rabcdefghijklmnopqrstuvwxyz123456W4z",
        "password=hunter2",
        "ask:ann@example.com",
        "q7R-our-own-key-W4z",
        "https://ann:secret-word@example.com",
        "Bearer\tabcdefghijklmnop123",
        '{"role":"user"}',
        "2026-11-25",
        "eu-west-1",
    ]
)
TEXT = st.one_of(st.text(CHARACTERS, max_size=40), WORDS, st.integers(0, 900).map("x".__mul__))
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), TEXT)
KEYS = st.one_of(
    st.sampled_from(["plan", "turn", "user", "user.id", "session_id", "apiKey", "a.b", "a", "input", "x" * 300, ""]),
    st.text(CHARACTERS, max_size=6),
)
PROPERTIES = st.one_of(
    st.dictionaries(KEYS, SCALAR, max_size=6), st.dictionaries(KEYS, st.lists(SCALAR, max_size=2)), TEXT
)
COUNTS = st.one_of(st.integers(-1, 10), st.floats(0, 5), st.just(2**64), TEXT)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "user_id": st.one_of(TEXT, st.integers()),
        "convo_id": TEXT,
        "model": TEXT,
        "provider": st.one_of(TEXT, st.just("aws_bedrock")),
        "input": st.one_of(TEXT, SCALAR, st.lists(TEXT, max_size=2), st.just([{"role": "user", "content": "Hi"}])),
        "output": st.one_of(TEXT, SCALAR),
        "properties": PROPERTIES,
    },
)
MORE = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": COUNTS,
        "completion_tokens": COUNTS,
        "estimated_cost": st.one_of(st.floats(), COUNTS),
        "duration": st.floats(0, 5),
        "agent_name": TEXT,
        "tags": st.lists(TEXT, max_size=2),
        "response_model": TEXT,
        "finish_reasons": st.lists(st.one_of(st.just("stop"), TEXT), max_size=2),
        "cache_read_tokens": COUNTS,
        "reasoning_tokens": COUNTS,
        "operation": st.one_of(TEXT, st.sampled_from(["embeddings", "chat", "invoke_agent"])),
        "error": TEXT,
    },
)
ITEMS = st.recursive(
    SCALAR,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=6,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.one_of(st.sampled_from(["user", "assistant", "tool", "system", "ai"]), TEXT)},
    optional={
        "content": st.one_of(TEXT, st.just([{"type": "text", "text": "Hi"}]), ITEMS),
        "tool_calls": st.just([{"name": "search", "args": {"q": "x"}, "id": "c1", "type": "tool_call"}]),
        "tool_call_id": TEXT,
        "name": TEXT,
    },
)
VALUE = st.one_of(TEXT, ITEMS, MESSAGE, st.lists(MESSAGE, max_size=3), st.builds(dict, messages=st.lists(MESSAGE)))
STEP = st.fixed_dictionaries(
    {},
    optional={
        "tool_name": st.one_of(TEXT, SCALAR),
        "tool_description": st.one_of(TEXT, SCALAR),
        "call_id": st.one_of(TEXT, SCALAR),
        "reasoning": VALUE,
        "alternatives": st.lists(TEXT, max_size=2),
        "confidence": st.one_of(st.floats(), TEXT),
        "custom_metrics": st.dictionaries(KEYS, SCALAR, max_size=2),
        "operation": st.sampled_from(["chat", "embeddings", "invoke_agent"]),
        "response_model": TEXT,
        "cache_read_tokens": COUNTS,
        "session_name": TEXT,
    },
)
ATTRIBUTES = st.dictionaries(
    st.one_of(st.sampled_from(["rootspan.run.id", "gen_ai.tool.definitions", "http.request.header.x-api-key"]), KEYS),
    st.one_of(SCALAR, st.lists(TEXT, max_size=2).map(tuple)),
    max_size=3,
)
KINDS = st.sampled_from(
    [Kind.STEP, Kind.MODEL, Kind.TOOL, Kind.RETRIEVAL, Kind.DECISION, Kind.EVENT, Kind.INTERACTION, Kind.REQUEST,
     Kind.SESSION, Kind.OUTCOME, Kind.ERROR, Kind.FEEDBACK]
)  # fmt: skip
PLACES = st.sampled_from(["nowhere", "context", "interaction", "parent", "host span", "tags"])


@given(
    st.sampled_from([WAYS, BOUNDED]),
    PLACES,
    TEXT,
    FIELDS,
    st.one_of(st.just({}), MORE),
    st.sampled_from([None, True, False]),
)
def test_both_ways_lead_to_the_same_bytes(
    ways: Ways, place: str, name: str, fields: dict[str, Any], more: dict[str, Any], success: bool | None
) -> None:
    tracker = ways.tracker
    whose = {key: fields.pop(key) for key in ("user_id", "convo_id") if key in fields}
    if place == "context":
        with tracker.context(**whose):
            tracker.track_ai(name, **fields, **more)
    elif place == "tags":
        with tracker.context(**whose, tags=["a"]):
            tracker.track_ai(name, **fields, **more)
    elif place == "host span":
        with use_span(HOST):
            tracker.track_ai(name, **whose, **fields, **more)
    elif place == "interaction":
        output = fields.pop("output", None)
        turn = tracker.begin(name, **whose, **fields)
        turn.finish(output, success=success)
    elif place == "parent":
        with tracker.begin(name, **whose) as turn:
            tracker.track_ai(name, **fields, **more)
            turn.finish(fields.get("output"), success=success, prompt_tokens=more.get("prompt_tokens"))
    else:
        tracker.track_ai(name, **whose, **fields, **more)
    compared = ways.both()
    assert len(compared) == (2 if place == "parent" else 1)
    for short, long in compared:
        event("the long way" if short is None else "the short way")
        assert short in (None, long)


@given(
    st.sampled_from([WAYS, BOUNDED]),
    st.sampled_from(["GET", "BREW"]),
    st.one_of(st.none(), TEXT),
    st.one_of(st.none(), st.sampled_from([200, 404, 500])),
    st.fixed_dictionaries({}, optional=dict.fromkeys(("user_id", "convo_id", "input", "output", "tags"), TEXT)),
    st.sampled_from([None, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]),
)
def test_both_ways_of_a_request_lead_to_the_same_bytes(
    ways: Ways, method: str, route: str | None, status: int | None, said: dict[str, str], caller: str | None
) -> None:
    info = RequestInfo(None, method, "/", header=lambda name: caller)
    root = open_request(info, RequestOptions(tracker=ways.tracker))
    assert root is not None
    with root.activate():
        if said:
            ways.tracker.track_ai("answer", **said)
    root.set_route(route)
    if status is not None:
        root.set_status(status)
    root.finish()
    *_, (short, long) = ways.both()
    event("the long way" if short is None else "the short way")
    assert short in (None, long)


@given(
    st.sampled_from([WAYS, BOUNDED]),
    KINDS,
    st.booleans(),
    st.tuples(TEXT, TEXT),
    st.tuples(VALUE, VALUE),
    st.one_of(st.just({}), STEP),
    st.fixed_dictionaries({}, optional={"attributes": ATTRIBUTES, "host_attributes": ATTRIBUTES}),
    st.tuples(st.one_of(st.none(), PROPERTIES), st.one_of(st.none(), PROPERTIES)),
    st.sampled_from([None, "success", "cancelled", "unfinished", "failure"]),
)
def test_both_ways_of_a_step_lead_to_the_same_bytes(
    ways: Ways,
    kind: str,
    is_root: bool,
    called: tuple[str, str],
    said: tuple[Any, Any],
    fields: dict[str, Any],
    attributes: dict[str, Any],
    properties: tuple[Any, Any],
    outcome: str | None,
) -> None:
    recorder = ways.tracker._recorder
    root = recorder.start(Kind.INTERACTION, "turn", None)
    name, user = called
    inherited, own = properties
    identity = recorder.identity(user, "c1", None, None, inherited)
    span = recorder.start(kind, recorder.name(name), None if is_root else inside(root), identity)
    recorder.update(span, *said, None, provider="openai")
    span.properties = None if own is None else keep(own, recorder.limit)[0]
    span.set(**{field: recorder.frozen(value) for field, value in fields.items()}, **attributes)
    recorder.finish(span, outcome)
    recorder.finish(root)
    for short, long in ways.both():
        event(f"{kind}: the {'long' if short is None else 'short'} way")
        assert short in (None, long)
