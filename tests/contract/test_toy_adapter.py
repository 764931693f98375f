"""The page about writing an integration is true: its adapter, run as printed, keeps the contract."""

from __future__ import annotations

import re
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from pages import BLOCKS, PAGE, printed
from rootspan.testing import Echo, WebContract, WsgiClient, captured_spans


class Headers(dict[str, str]):
    """What a framework's request has."""

    def get(self, name: str, default: Any = None) -> Any:
        return super().get("HTTP_" + name.upper().replace("-", "_"), default)


def request(environ: dict[str, str]) -> Any:
    return SimpleNamespace(headers=Headers(environ))


def echo_app(echo: Echo) -> Callable[..., Any]:
    """A toy framework's echo app: it leaves the matched template in the environ."""
    routes: dict[str, Callable[..., Any]] = {
        r"/echo/{name}": echo.echo,
        r"/raise": echo.fail,
        r"/stream/{count}": lambda count: echo.stream(int(count)),
        r"/stream-raise": echo.stream_fail,
        r"/stream-turn": echo.stream_turn,
        r"/login/{name}": echo.login,
        r"/tool": echo.tool,
        r"/turns": echo.turns,
        r"/thread": echo.thread,
        r"/current": echo.current,
        r"/host": echo.host,
        r"/mounted/{area}/inner/{name}": lambda area, name: name,
        r"/ignore": lambda: "ignored",
        r"/read": lambda body: echo.read(body),
        r"/chat": lambda body: echo.chat(body),
        r"/chat-stream": lambda body: echo.chat_stream(body),
    }
    kinds = {"/chat": "application/json", "/chat-stream": "text/event-stream"}

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        path, status = environ["PATH_INFO"], 200
        if found := re.fullmatch(r"/status/(\d+)", path):
            environ["toy.route"], result, status = "/status/{code}", "", int(found[1])
        else:
            for template, view in routes.items():
                if found := re.fullmatch(re.sub(r"{\w+}", "([^/]+)", template), path):
                    environ["toy.route"] = template
                    reads = path in ("/read", "/chat", "/chat-stream")
                    result = view(environ["wsgi.input"].read()) if reads else view(*found.groups())
                    break
            else:
                result, status = "", 404
        start_response(f"{status} Toy", [("content-type", kinds.get(path, "text/plain"))])
        return [result.encode() if isinstance(result, str) else result] if isinstance(result, (str, bytes)) else result

    return app


class TestToy(printed(0, 1, Request=request, echo_app=echo_app)["TestToy"]):  # type: ignore[misc]
    """Every case, with the adapter and the test class of the page."""


def test_the_page_is_one_page() -> None:
    assert len(PAGE.splitlines()) < 120
    assert len(BLOCKS) == 4  # the third of which `test_runs.py` runs


def test_the_step_of_the_page() -> None:
    with captured_spans() as captured, captured.tracker.begin("turn", input="Hi"):
        printed(3, tracker=captured.tracker, query="holidays", documents=[{"id": "7", "score": 0.5}])
        step = captured.one("handbook")
    assert (
        step.attributes.items()
        >= {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.retrieval.query.text": "holidays",
            "gen_ai.retrieval.documents": '[{"id":"7","score":0.5}]',
            "index": "staff",
        }.items()
    )


def test_a_case_is_left_out_by_name_and_reason_only() -> None:
    class Leaves(WebContract):
        not_applicable: ClassVar = {"test_only_5xx_is_an_error": "a reason"}

    with pytest.raises(unittest.SkipTest, match="a reason"):
        Leaves().test_only_5xx_is_an_error()
    for name, reason in (("test_misspelt", "a reason"), ("test_only_5xx_is_an_error", "")):
        with pytest.raises(TypeError, match=name):
            type("Wrong", (WebContract,), {"not_applicable": {name: reason}})


def test_a_broken_adapter_is_found() -> None:
    """The contract can fail: an adapter that does nothing passes none of the cases about spans."""

    class Nothing(WebContract):
        @contextmanager
        def serve(self, tracker: Any, **options: Any) -> Iterator[WsgiClient]:
            yield WsgiClient(echo_app(Echo(tracker)))

    passed = []
    for name in [name for name in dir(Nothing) if name.startswith("test_")]:
        try:
            getattr(Nothing(), name)()
        except Exception:
            continue
        passed.append(name)
    assert set(passed) == {
        "test_excluded_requests_leave_nothing",
        "test_the_hosts_tracing_sees_nothing_of_us",
        "test_an_exporter_that_raises_changes_nothing",
    }
