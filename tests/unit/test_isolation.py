"""Beside a host's own OpenTelemetry neither side sees the other, except for our link; needs only the SDK."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler

from rootspan import Tracker
from sinks import Sink


@pytest.fixture
def ours() -> Iterator[tuple[Tracker, InMemorySpanExporter]]:
    exporter = InMemorySpanExporter()
    tracker = Tracker(exporters=[exporter])
    yield tracker, exporter
    tracker.shutdown()


@pytest.mark.parametrize(
    "sampler",
    [ALWAYS_ON, ALWAYS_OFF, ParentBased(ALWAYS_ON), ParentBased(ALWAYS_OFF)],
    ids=lambda sampler: sampler.get_description(),
)
def test_neither_side_sees_the_other(ours: tuple[Tracker, InMemorySpanExporter], sampler: Sampler) -> None:
    tracker, exporter = ours
    theirs = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler)
    provider.add_span_processor(SimpleSpanProcessor(theirs))
    host = provider.get_tracer("host")
    token = context.attach(baggage.set_baggage("tenant", "t1"))
    try:
        with host.start_as_current_span("host") as host_span:
            before, headers = context.get_current(), _injected()

            def unchanged() -> None:
                assert trace.get_current_span() is host_span
                assert context.get_current() == before
                assert _injected() == headers

            @tracker.tool
            def tool() -> None:
                unchanged()

            with tracker.begin("turn", user_id="u1"), tracker.tool_span("step"):
                unchanged()
                tool()
                with host.start_as_current_span("host child") as child:
                    tracker.track_ai("event")
                    if child.is_recording():  # one that the host's sampler left out has no parent to look at
                        parent = child.parent  # type: ignore[attr-defined]
                        assert parent.span_id == host_span.get_span_context().span_id
            unchanged()
    finally:
        context.detach(token)
    assert tracker.flush(5)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"turn", "step", "tool", "event"}
    root, linked = spans["turn"], host_span.get_span_context()
    assert root.parent is None
    assert [(link.context.trace_id, link.context.span_id) for link in root.links] == [(linked.trace_id, linked.span_id)]
    assert [list(spans[name].links) for name in ("step", "tool", "event")] == [[], [], []]
    assert spans["event"].parent is not None
    assert {span.context.trace_id for span in spans.values()} == {root.context.trace_id} != {linked.trace_id}
    assert {span.name for span in theirs.get_finished_spans()} <= {"host", "host child"}
    assert not any("tenant" in (span.attributes or {}) for span in spans.values())


def _injected() -> dict[str, str]:
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier


def test_inside_our_interaction_alone_nothing_is_injected(ours: tuple[Tracker, InMemorySpanExporter]) -> None:
    tracker, _ = ours
    with tracker.begin("turn", user_id="u1", convo_id="c1"):
        assert trace.get_current_span() is trace.INVALID_SPAN
        assert _injected() == {}


def test_the_hosts_switches_do_not_steer_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    exporter = InMemorySpanExporter()
    tracker = Tracker(exporters=[exporter])
    tracker.track_ai("event")
    assert tracker.flush(5)
    tracker.shutdown()
    assert [span.name for span in exporter.get_finished_spans()] == ["event"]


HOST = """
import os
import random
os.environ["OTEL_SDK_DISABLED"] = "false"
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
import rootspan

host = InMemorySpanExporter()
provider = TracerProvider(sampler=ALWAYS_ON if SAMPLED else ALWAYS_OFF)
provider.add_span_processor(SimpleSpanProcessor(host))
trace.set_tracer_provider(provider)
context.attach(baggage.set_baggage("tenant", "t1"))
with trace.get_tracer("host").start_as_current_span("host span") as span:
    before = {}
    propagate.inject(before)
    with rootspan.begin("turn", user_id="u1", convo_id="c1"):
        with rootspan.tool_span("tool"):
            assert trace.get_current_span() is span
            rootspan.track_ai("event", input="Q")
            inside = {}
            propagate.inject(inside)
            assert inside == before, (inside, before)
            assert baggage.get_all() == {"tenant": "t1"}
    span_id = format(span.get_span_context().span_id, "016x")
assert rootspan.flush(10)
names = [item.name for item in host.get_finished_spans()]
assert names == (["host span"] if SAMPLED else []), names
for item in host.get_finished_spans():
    assert not any(key.startswith(("gen_ai", "rootspan", "user.")) for key in item.attributes)
print(span_id)
"""


@pytest.mark.parametrize("sampled", [True, False])
def test_next_to_a_global_provider(sampled: bool) -> None:
    with Sink() as sink:
        path = os.pathsep.join(map(os.path.abspath, sys.path))
        env = {**os.environ, "PYTHONPATH": path, "ROOTSPAN_ENDPOINT": sink.url}
        code = HOST.replace("SAMPLED", str(sampled))
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert {span.name for span in sink.spans} == {"turn", "tool", "event"}
        assert [span_id for _, span_id in sink.one("turn").links] == [done.stdout.strip()]
        assert len({span.trace_id for span in sink.spans}) == 1


def test_the_hosts_random_numbers_are_not_touched() -> None:
    """Whoever seeds `random` gets the same numbers with and without us, retries in the background included."""
    tracker = Tracker(endpoint="http://127.0.0.1:9", flush_interval=0.01)
    random.seed(7)
    before = random.getstate()
    for _ in range(1_000):
        tracker.track_ai("event")
        tracker.begin("turn").finish()
    assert not tracker.flush(0.3)  # refused, and tried again after a wait of random length
    assert random.getstate() == before
    tracker.shutdown(timeout=0.1)


_OWN_RUNTIME_CONTEXT = """
from opentelemetry import context, trace
from opentelemetry.context.context import Context, _RuntimeContext

class Own(_RuntimeContext):
    def __init__(self):
        self.entered = [Context()]
    def attach(self, context):
        self.entered.append(context)
        return None
    def get_current(self):
        return self.entered[-1]
    def detach(self, token):
        self.entered.pop()

context._RUNTIME_CONTEXT = Own()
from rootspan.testing import captured_spans

with captured_spans() as captured:
    captured.tracker.track_ai("alone")
    with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(1, 2, False))):
        captured.tracker.track_ai("inside")
        captured.tracker.begin("turn").finish()
    assert [span.links for span in captured.spans] == [[], [(f"{1:032x}", f"{2:016x}")], [(f"{1:032x}", f"{2:016x}")]]
"""


def test_every_root_is_linked_to_the_active_host_span(ours: tuple[Tracker, InMemorySpanExporter]) -> None:
    tracker, exporter = ours
    with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(1, 2, False))):
        tracker.track_ai("event")
        tracker.track_decision("a step")
        tracker.begin("turn").finish()
        with tracker.context(user_id="u1"):
            tracker.track_ai("event in a context")
            tracker.track_decision("a step in a context")
            tracker.tool_span("an open step in a context").finish()
    assert tracker.flush(5)
    links = [[link.context.span_id for link in span.links] for span in exporter.get_finished_spans()]
    assert links == [[2]] * 6


def test_a_host_span_is_linked_where_opentelemetry_keeps_its_context_elsewhere() -> None:
    done = subprocess.run([sys.executable, "-c", _OWN_RUNTIME_CONTEXT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
