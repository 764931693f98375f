"""The example app `flask_search` as its README starts it: the page, the API, the stream and the failure."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

pytest.importorskip("flask", reason="the app's framework is not in this environment")
pytest.importorskip("genai_prices", reason="the app calculates what an answer costs")

import rootspan_ui
from rootspan_ui.demo.children import free_ports, run_app
from sinks import Sink, Span

HERE = Path(rootspan_ui.__file__).parent
EXAMPLES = next(path for path in (HERE / "example_apps", HERE.parents[1] / "example_apps") if path.is_dir())


@pytest.fixture
def url(sink: Sink) -> Iterator[str]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "flask", "--app", str(EXAMPLES / "flask_search"), "run", "--port", str(port)]
    with run_app(command, port, {"ROOTSPAN_ENDPOINT": sink.url}):
        yield f"http://127.0.0.1:{port}"


def post(url: str, question: str) -> Any:
    headers = {"Content-Type": "application/json", "X-User-Id": "ada", "X-Conversation-Id": "c1"}
    with urlopen(Request(url, json.dumps({"question": question}).encode(), headers), timeout=30) as answer:
        body = answer.read()
        if answer.headers.get_content_type() == "text/event-stream":
            return [json.loads(line.removeprefix(b"data: ")) for line in body.splitlines() if line]
        return json.loads(body)


def names(spans: list[Span]) -> list[str]:
    return [span.name for span in sorted(spans, key=lambda span: span.start)]


def test_the_page_has_a_form_and_answers_with_its_sources(url: str, sink: Sink) -> None:
    with urlopen(url, timeout=30) as page:
        assert re.search(r'<form>\s*<input name="q" value=""', page.read().decode())
    with urlopen(f"{url}/?q={quote('How many <holidays> do I have?')}", timeout=30) as page:
        text = page.read().decode()
    assert "How many &lt;holidays&gt;" in text
    assert "30 days of holiday" in text
    spans = [span for span in sink.wait(4, 30) if span.parent_id is not None]
    assert sorted(names(spans)) == ["answer", "search_handbook"]


def test_an_answer_is_two_model_calls_around_a_search(url: str, sink: Sink) -> None:
    answer = post(f"{url}/api/ask", "When is a laptop replaced?")
    assert "after four years" in answer["reply"]
    assert answer["sources"][0] == "Laptops"
    sink.wait(4, 30)
    root = sink.one("POST /api/ask")
    assert answer["span_id"] in {span.span_id for span in sink.find("answer")}
    assert root.attributes["output.value"] == answer["reply"]
    assert root.resource["service.name"] == "flask-search"
    assert {(span.attributes["user.id"], span.attributes["session.id"]) for span in sink.spans} == {("ada", "c1")}
    assert json.loads(sink.one("search_handbook").attributes["gen_ai.tool.call.result"])[0]["title"] == "Laptops"


def test_a_streamed_answer_is_measured_and_belongs_to_its_request(url: str, sink: Sink) -> None:
    events = post(f"{url}/api/ask/stream", "May I work from home?")
    assert "".join(event.get("token", "") for event in events).startswith("The handbook says: Work from home")
    sink.wait(3, 30)
    root = sink.one("POST /api/ask/stream")
    assert root.attributes["rootspan.stream.chunks"] == len(events)
    assert {sink.one(name).parent_id for name in ("search_handbook", "answer")} == {root.span_id}
    assert sink.one("answer").span_id == events[-1]["span_id"]


def test_an_overloaded_model_is_a_failed_request(url: str, sink: Sink) -> None:
    with pytest.raises(HTTPError) as error:
        post(f"{url}/api/ask", "Tell me everything.")
    assert (error.value.code, error.value.headers["retry-after"]) == (503, "5")
    error.value.close()
    sink.wait(2, 30)
    assert sink.one("POST /api/ask").attributes["error.type"] == "503"
    assert sink.one("answer").attributes["error.type"].endswith("ModelOverloadedError")


@pytest.mark.parametrize("body", [b"[]", b"{}", b"5", b'{"question": null}'])
def test_json_without_a_question_is_the_senders_mistake(url: str, body: bytes) -> None:
    with pytest.raises(HTTPError) as error:
        urlopen(Request(f"{url}/api/ask", body, {"Content-Type": "application/json"}), timeout=30)
    with error.value:
        assert (error.value.code, json.load(error.value)) == (422, {"error": 'send {"question": "..."}'})


def test_it_is_started_and_checked_as_its_readme_says(sink: Sink) -> None:
    environ = {**os.environ, "ROOTSPAN_ENDPOINT": sink.url, "PYTHONPATH": str(EXAMPLES)}
    command = [sys.executable, "-m", "flask", "--app", "flask_search"]
    done = subprocess.run([*command, "rootspan", "check"], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "flask-search" in done.stdout
    (port,) = free_ports(1)
    with run_app([*command, "run", "--port", str(port)], port, environ):
        post(f"http://127.0.0.1:{port}/api/ask", "Hello")
    assert len(sink.find("rootspan_check")) == 1
