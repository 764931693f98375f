"""The Starlette middleware in real apps: what a request becomes, and that nobody else notices."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the middleware's framework is not in this environment")

from fastapi import APIRouter, Depends, FastAPI, HTTPException
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

from rootspan import ConfigurationError, Tracker
from rootspan_starlette import RootspanMiddleware
from sinks import Sink, Span


def chat_app(tracker: Tracker, **options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(RootspanMiddleware, tracker=tracker, **options)
    router = APIRouter(prefix="/v1")

    @router.post("/chat/{convo_id}")
    async def chat(convo_id: str) -> dict[str, str]:
        tracker.update_current(convo_id=convo_id)
        with tracker.tool_span("search", input={"q": "x"}) as step:
            step.set_output("found")
        tracker.track_ai("answer", model="gpt-4o", provider="openai", input="Hi", output="Hello!", prompt_tokens=3)
        return {"reply": "Hello!"}

    @router.get("/sync/{n}")
    def sync(n: int, user: None = Depends(lambda: tracker.update_current(user_id="from-dependency"))) -> int:
        tracker.track_ai("in a thread", input="q")
        return n

    @router.get("/teapot/{status}")
    async def teapot(status: int) -> None:
        raise HTTPException(status)

    app.include_router(router)
    return app


def arrived(tracker: Tracker, sink: Sink) -> list[Span]:
    assert tracker.flush(10)
    return list(sink.spans)


def get(app: Any, path: str, **kwargs: Any) -> Any:
    return TestClient(app, raise_server_exceptions=False).get(path, **kwargs)


def test_a_request_is_one_isolated_root_with_route_status_user_and_conversation(tracker: Tracker, sink: Sink) -> None:
    app = chat_app(tracker, user_id=lambda request: request.headers["x-user"])
    answer = TestClient(app).post("/v1/chat/c1", headers={"x-user": "u1"})
    assert answer.json() == {"reply": "Hello!"}
    spans = {span.name: span for span in arrived(tracker, sink)}
    root = spans["POST /v1/chat/{convo_id}"]
    assert root.parent_id is None
    assert root.kind == 2
    assert root.attributes["http.route"] == "/v1/chat/{convo_id}"
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes["http.request.method"] == "POST"
    assert root.attributes["url.scheme"] == "http"
    assert (root.attributes["input.value"], root.attributes["output.value"]) == ("Hi", "Hello!")
    for span in spans.values():
        assert span.trace_id == root.trace_id
        assert span.attributes["user.id"] == "u1"
        assert span.attributes["session.id"] == "c1"
    assert {span.parent_id for span in spans.values() if span is not root} == {root.span_id}


def test_nothing_leaks_into_the_next_request(tracker: Tracker, sink: Sink) -> None:
    with TestClient(chat_app(tracker)) as client:
        client.post("/v1/chat/c1")
        client.get("/v1/sync/1")
        client.get("/v1/teapot/404")
    arrived(tracker, sink)
    last = sink.one("GET /v1/teapot/{status}")
    assert "session.id" not in last.attributes
    assert "user.id" not in last.attributes
    assert len({span.trace_id for span in sink.spans}) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"record": "some"},
        {"trace_context": "join"},
        {"user_id": "u1"},
        {"tracker": "default"},
        {"event": 5},
        {"capture_headers": "x-a"},
        {"capture_headers": ["bad name"]},
        {"exclude": 5},
        {"trusted_proxies": ["nowhere"]},
        {"trusted_proxies": 5},
        {"capture_body": -1},
        {"response_header": "x-id", "record": "tracked"},
    ],
)
def test_a_wrong_option_is_one_clear_error(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"Fix: "):
        RootspanMiddleware(None, **options)  # type: ignore[arg-type]


def test_a_wrong_option_of_add_middleware_is_an_error_of_the_lifespan() -> None:
    app = FastAPI()
    app.add_middleware(RootspanMiddleware, usr_id=print)
    with pytest.raises(ConfigurationError, match="Fix: did you mean user_id="), TestClient(app):
        pytest.fail("it started")


class TestNextToOpenTelemetry:
    """A host that traces itself: two disjoint traces, linked one way; the host's is the same with and without us."""

    @staticmethod
    def host_spans(tracker: Tracker | None, ours_outside: bool) -> list[Any]:
        exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        app = FastAPI()
        host = provider.get_tracer("host")

        @app.get("/chat/{n}")
        async def chat(n: int) -> int:
            with host.start_as_current_span("work"):
                if tracker is not None:
                    tracker.track_ai("answer", input="Q", output="A")
            return n

        if tracker is not None and not ours_outside:
            app.add_middleware(RootspanMiddleware, tracker=tracker)
        FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
        served = RootspanMiddleware(app, tracker=tracker) if tracker is not None and ours_outside else app
        try:
            assert get(served, "/chat/1").json() == 1
        finally:
            FastAPIInstrumentor.uninstrument_app(app)
        return list(exporter.get_finished_spans())

    @staticmethod
    def shape(spans: list[Any]) -> list[Any]:
        names = {span.context.span_id: span.name for span in spans}
        varying = {"net.peer.port", "client.port", "http.server_name"}
        return [
            (
                span.name,
                span.kind,
                names.get(span.parent.span_id) if span.parent else None,
                {key: value for key, value in span.attributes.items() if key not in varying},
                len(span.links),
                len(span.events),
                span.status.status_code,
            )
            for span in spans
        ]

    @pytest.mark.parametrize("ours_outside", [False, True])
    def test_two_disjoint_traces_and_an_unchanged_host(self, tracker: Tracker, sink: Sink, ours_outside: bool) -> None:
        """web 46"""
        bare = self.host_spans(None, ours_outside)
        beside = self.host_spans(tracker, ours_outside)
        assert self.shape(beside) == self.shape(bare)
        ours = arrived(tracker, sink)
        host_traces = {f"{span.context.trace_id:032x}" for span in beside}
        assert {span.name for span in ours} == {"GET /chat/{n}", "answer"}
        assert not host_traces & {span.trace_id for span in ours}
        assert not any(span.links for span in beside)
        linked = {trace_id for span in ours for trace_id, _ in span.links}
        assert linked == (set() if ours_outside else host_traces)
