"""Puts an adapter into every app that a framework's own test suite makes, and writes down how each test ended.

Loaded in both runs of a suite, as a plugin of pytest or by `sitecustomize`; `TRANSPARENCY_WITH` names the framework
whose adapter goes in, and is empty in the bare run. What is patched here is the construction of apps: the adapters
themselves are installed by their own gesture.
"""

from __future__ import annotations

import json
import os
import unittest
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

import rootspan

OUTCOMES = os.environ.get("TRANSPARENCY_OUTCOMES")  # the file that they are appended to
WITH = os.environ.get("TRANSPARENCY_WITH", "")


class Nowhere(SpanExporter):
    """Counts what it is given."""

    spans = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        Nowhere.spans += len(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        note("recorded", Nowhere.spans)
        note("lost", tracker.stats()["dropped"])


def note(test: str, outcome: object) -> None:
    if OUTCOMES:
        with open(OUTCOMES, "a", encoding="utf-8") as file:
            file.write(json.dumps([test, outcome]) + "\n")


tracker = rootspan.configure(exporters=[Nowhere()])


def after(owner: type, name: str, then: Callable[..., Any]) -> None:
    """Call `then` with the instance behind a method."""
    method = getattr(owner, name)

    @wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        method(self, *args, **kwargs)
        then(self)

    setattr(owner, name, wrapper)


def into_flask() -> None:
    from flask import Flask

    from rootspan_flask import Rootspan

    extension = Rootspan(tracker=tracker, capture_body=True)
    after(Flask, "__init__", extension.init_app)


def into_starlette() -> None:
    """Every `Starlette` as by `add_middleware`, without a trace in `user_middleware`, which tests look at."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.testclient import TestClient

    from rootspan_starlette import RootspanMiddleware

    ours: Any = Middleware(RootspanMiddleware, tracker=tracker, capture_body=True)

    def added(owner: Any) -> None:
        build = owner.build_middleware_stack

        @wraps(build)
        def wrapper(self: Any) -> Any:
            self.user_middleware.insert(0, ours)
            try:
                return build(self)
            finally:
                self.user_middleware.remove(ours)

        owner.build_middleware_stack = wrapper

    added(Starlette)
    if WITH == "fastapi":
        from fastapi import FastAPI

        if "build_middleware_stack" in vars(FastAPI):
            added(FastAPI)

    def raw(client: Any) -> None:
        """An app that is none of Starlette's is wrapped by hand."""
        if not isinstance(client.app, Starlette):
            client.app = client._transport.app = RootspanMiddleware(client.app, tracker=tracker, capture_body=True)

    after(TestClient, "__init__", raw)


def into_django() -> None:
    """The middleware in front of whatever `settings.MIDDLEWARE` a test sets."""
    from django.conf import settings
    from django.core.handlers import base

    from rootspan_django import configuration

    configuration._GROUP.apply({"capture_body": True}, user_id=configuration.evaluated_user)

    class Settings:
        def __getattr__(self, name: str) -> Any:
            value = getattr(settings, name)
            return ["rootspan_django.middleware.RootspanMiddleware", *value] if name == "MIDDLEWARE" else value

    base.settings = Settings()


INTO = {"flask": into_flask, "starlette": into_starlette, "fastapi": into_starlette, "django": into_django}


# pytest


def pytest_configure() -> None:
    if WITH:
        INTO[WITH]()


def pytest_runtest_logreport(report: Any) -> None:
    if report.when == "call" or report.outcome != "passed":
        outcome = f"x{report.outcome}" if hasattr(report, "wasxfail") else report.outcome
        note(report.nodeid, f"{report.when} {outcome}")


def pytest_unconfigure() -> None:
    tracker.shutdown()


# unittest, which Django's suite runs on


def note_unittest_outcomes() -> None:
    def noted(name: str, outcome: str) -> None:
        method = getattr(unittest.TestResult, name)

        @wraps(method)
        def wrapper(self: Any, test: Any, *args: Any) -> None:
            if name != "addSubTest" or args[-1] is not None:
                note((args[0] if name == "addSubTest" else test).id(), outcome)
            method(self, test, *args)

        setattr(unittest.TestResult, name, wrapper)

    for name in ("Success", "Error", "Failure", "Skip", "ExpectedFailure", "UnexpectedSuccess", "SubTest"):
        noted(f"add{name}", name.lower())
