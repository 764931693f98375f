"""The Django adapter in a project: what a request becomes, what it never touches, and how it is configured."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import io
import logging
import pickle
import subprocess
import sys
import tempfile
import textwrap
import threading
import traceback
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("django_site", reason="the adapter's framework is not in this environment")

import django
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model, login
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sites.models import Site
from django.core import checks
from django.core.exceptions import MiddlewareNotUsed, PermissionDenied, SuspiciousOperation
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import CommandError, call_command
from django.core.signals import got_request_exception, request_finished
from django.db import connection
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import include, path, re_path
from django.utils.decorators import async_only_middleware, sync_only_middleware
from django.views.decorators.csrf import csrf_exempt

import django_site
import rootspan
from rootspan import ConfigurationError, Tracker
from rootspan.testing import AsgiClient, Captured, WsgiClient, captured_spans
from rootspan_django.asgi import with_lifespan
from rootspan_django.middleware import RootspanMiddleware
from sinks import Sink

MIDDLEWARE = "rootspan_django.middleware.RootspanMiddleware"


@pytest.fixture(scope="module", autouse=True)
def migrated() -> Iterator[None]:
    """The project's tables, and a default tracker that no other test has switched off."""
    call_command("migrate", verbosity=0)
    before = rootspan.default_tracker.settings
    rootspan.configure()
    yield
    rootspan.default_tracker.reconfigure(before)


@contextlib.contextmanager
def project(captured: Captured, *patterns: Any, middleware: Any = None, **options: Any) -> Iterator[None]:
    """The test project with these routes."""
    urls = type("Urls", (), {"urlpatterns": tuple(patterns)})
    more = {} if middleware is None else {"MIDDLEWARE": [MIDDLEWARE, *middleware]}
    with override_settings(ROOT_URLCONF=urls, ROOTSPAN={"tracker": captured.tracker, **options}, **more):
        yield


def get(url: str, **options: Any) -> Any:
    return Client(raise_request_exception=False).get(url, **options)


async def aget(url: str, **options: Any) -> Any:
    return await AsyncClient(raise_request_exception=False).get(url, **options)


def fine(request: HttpRequest, **arguments: Any) -> HttpResponse:
    return HttpResponse("fine")


async def afine(request: HttpRequest, **arguments: Any) -> HttpResponse:
    return HttpResponse("fine")


def wsgi(**environ: Any) -> tuple[Any, list[Any]]:
    """Call the project as a WSGI server does; return its iterable and what it said first."""
    said: list[Any] = []
    given = {**RequestFactory()._base_environ(PATH_INFO="/x"), **environ}
    return WSGIHandler()(given, lambda status, headers, exc_info=None: said.append((status, dict(headers)))), said


# The place in the project


def test_the_app_puts_the_middleware_on_top_once() -> None:
    assert list(settings.MIDDLEWARE) == [MIDDLEWARE, *django_site.USUAL]
    django.apps.apps.get_app_config("rootspan_django").ready()
    assert list(settings.MIDDLEWARE) == [MIDDLEWARE, *django_site.USUAL]


@pytest.mark.parametrize("kind", [list, tuple])
def test_an_explicit_line_wins_and_the_kind_of_the_setting_stays(kind: type) -> None:
    """web 61"""
    explicit = kind([*django_site.USUAL, MIDDLEWARE])
    with override_settings(MIDDLEWARE=explicit):
        django.apps.apps.get_app_config("rootspan_django").ready()
        assert settings.MIDDLEWARE is explicit
    with override_settings(MIDDLEWARE=kind(django_site.USUAL)):
        django.apps.apps.get_app_config("rootspan_django").ready()
        assert kind([MIDDLEWARE, *django_site.USUAL]) == settings.MIDDLEWARE


def test_web_62_overridden_middleware_wins(captured: Captured) -> None:
    with project(captured, path("x", fine)), override_settings(MIDDLEWARE=django_site.USUAL):
        assert get("/x").content == b"fine"
    assert not captured.spans


def test_web_61_disabled_is_not_in_the_stack() -> None:
    tracker = Tracker(disabled=True)
    with override_settings(ROOTSPAN={"tracker": tracker}), pytest.raises(MiddlewareNotUsed):
        RootspanMiddleware(fine)
    with override_settings(ROOTSPAN={"disabled": True}):
        handler = WSGIHandler()
        assert not any("rootspan" in repr(method) for method in handler._exception_middleware)
    assert any("rootspan" in repr(method) for method in WSGIHandler()._exception_middleware)


def test_web_47_both_modes_without_a_hop(captured: Captured) -> None:
    """Without a sync-only neighbour, an async view runs on the loop's own thread, and so does everything above it."""
    threads: list[int] = []

    async def view(request: HttpRequest) -> HttpResponse:
        threads.append(threading.get_ident())
        captured.tracker.track_ai("answer", input="q")
        return HttpResponse()

    assert RootspanMiddleware.sync_capable
    assert RootspanMiddleware.async_capable
    assert iscoroutinefunction(RootspanMiddleware(afine))
    assert not iscoroutinefunction(RootspanMiddleware(fine))

    async def ask() -> int:
        assert (await aget("/x")).status_code == 200
        return threading.get_ident()

    with project(captured, path("x", view), middleware=[]):
        assert threads == [asyncio.run(ask())]
        handler = ASGIHandler()
        assert iscoroutinefunction(handler._middleware_chain)
    assert captured.one("answer").parent_id == captured.one().span_id


@pytest.mark.parametrize("is_async_view", [False, True])
@pytest.mark.parametrize("is_asgi", [False, True])
def test_either_kind_of_view_under_either_kind_of_server(
    captured: Captured, is_async_view: bool, is_asgi: bool
) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        captured.tracker.track_ai("answer", input="q")
        captured.tracker.begin("left open")
        return HttpResponse(str(captured.tracker.current()))

    async def aview(request: HttpRequest) -> HttpResponse:
        return view(request)

    with project(captured, path("x", aview if is_async_view else view)):
        for _ in range(2):
            assert (asyncio.run(aget("/x")) if is_asgi else get("/x")).status_code == 200
        assert captured.tracker.current() is None
    roots = captured.roots
    assert [root.name for root in roots] == ["GET /x", "GET /x"]
    assert [span.parent_id for span in captured.spans if span.name == "answer"] == [root.span_id for root in roots]


def test_an_async_stream_under_wsgi(captured: Captured) -> None:
    """Django gathers it, and warns; it is one complete answer all the same."""
    with project(captured, path("x", astreaming(captured, b"one", b"two"))), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as without us
        response, _ = wsgi()
        assert b"".join(response) == b"onetwo"
        response.close()
    root = captured.one()
    assert root.attributes["rootspan.stream.chunks"] == 2
    assert "rootspan.outcome" not in root.attributes
    assert captured.one("the end").parent_id == root.span_id


def test_web_57_sync_views_of_one_request_stay_on_one_thread(captured: Captured) -> None:
    threads: list[int] = []

    def note(get_response: Any) -> Any:
        def middleware(request: HttpRequest) -> Any:
            threads.append(threading.get_ident())
            return get_response(request)

        return middleware

    def view(request: HttpRequest) -> HttpResponse:
        threads.append(threading.get_ident())
        captured.tracker.track_ai("answer", input="q")
        return HttpResponse()

    with (
        project(captured, path("x", view)),
        stacked(sync_only_middleware(note)) as name,
        override_settings(MIDDLEWARE=[MIDDLEWARE, name]),
    ):
        asyncio.run(aget("/x"))
    assert len(threads) == 2
    assert len(set(threads)) == 1
    assert captured.one("answer").parent_id == captured.one().span_id


@contextlib.contextmanager
def stacked(middleware: Any) -> Iterator[str]:
    """A dotted path for a middleware of a test."""
    this = sys.modules[__name__]
    sys.modules.setdefault("test_django_stacked", this)
    this.stacked_middleware = middleware  # type: ignore[attr-defined]
    yield "test_django_stacked.stacked_middleware"
    del this.stacked_middleware  # type: ignore[attr-defined]


def test_listed_twice_it_records_once(captured: Captured) -> None:
    """web 40"""
    with project(captured, path("x", fine), middleware=[MIDDLEWARE, *django_site.USUAL]):
        assert get("/x").status_code == 200
    assert len(captured.spans) == 1


def test_a_request_inside_a_request_is_a_root_of_its_own(captured: Captured) -> None:
    """web 40"""

    def outer(request: HttpRequest) -> HttpResponse:
        captured.tracker.track_ai("outer")
        inner = get("/inner")
        captured.tracker.track_ai("outer again")
        return HttpResponse(inner.content)

    def inner(request: HttpRequest) -> HttpResponse:
        captured.tracker.track_ai("inner")
        return HttpResponse("inside")

    with project(captured, path("outer", outer), path("inner", inner)):
        assert get("/outer").content == b"inside"
    roots = {root.name: root.span_id for root in captured.roots}
    parents = {span.name: span.parent_id for span in captured.spans if span.parent_id}
    around = roots["GET /outer"]
    assert parents == {"outer": around, "outer again": around, "inner": roots["GET /inner"]}


# Exceptions


# Python 3.10 has no groups
GROUP: list[Exception] = (
    [eval('ExceptionGroup("all", [ValueError("one"), KeyError("two")])')] if sys.version_info >= (3, 11) else []
)


class Handled(Exception):
    """One that a middleware makes an answer of."""


def raising(error: BaseException) -> Callable[..., Any]:
    def view(request: HttpRequest, **arguments: Any) -> HttpResponse:
        raise error

    return view


@pytest.mark.parametrize("is_async", [False, True])
def test_web_48_a_view_that_raises_is_recorded_once(captured: Captured, is_async: bool) -> None:
    """Also where the signal and the hook both tell of it, and the hook returns None."""
    with project(captured, path("x", raising(LookupError("no such thing")))):
        answer = asyncio.run(aget("/x")) if is_async else get("/x")
    assert answer.status_code == 500
    root = captured.one()
    assert (root.name, root.failed, root.attributes["error.type"]) == ("GET /x", True, "LookupError")
    assert [name for name, _ in root.events] == ["exception"]
    assert root.attributes["http.response.status_code"] == 500
    assert RootspanMiddleware(fine).process_exception(HttpRequest(), ValueError()) is None


@pytest.mark.parametrize(
    ("error", "status"), [(Http404("gone"), 404), (PermissionDenied("no"), 403), (SuspiciousOperation("odd"), 400)]
)
def test_exceptions_that_are_answers_are_no_errors(captured: Captured, error: Exception, status: int) -> None:
    with project(captured, path("x", raising(error))):
        assert get("/x").status_code == status
    root = captured.one()
    assert (root.failed, root.attributes["http.response.status_code"]) == (False, status)
    assert root.attributes["http.route"] == "/x"
    assert not root.events


@pytest.mark.parametrize(("status", "failed"), [(200, False), (503, True)])
def test_an_exception_that_a_middleware_answers(captured: Captured, status: int, failed: bool) -> None:
    class Answering:
        def __init__(self, get_response: Any) -> None:
            self.get_response = get_response

        def __call__(self, request: HttpRequest) -> Any:
            return self.get_response(request)

        def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse:
            return HttpResponse(status=status)

    view = raising(Handled("tired"))
    with (
        project(captured, path("x", view)),
        stacked(Answering) as name,
        override_settings(MIDDLEWARE=[name, MIDDLEWARE]),
    ):
        assert get("/x").status_code == status  # asked after ours
    root = captured.one()
    assert root.failed is failed
    assert root.attributes.get("error.type") == (f"{__name__}.Handled" if failed else None)


def test_what_a_neighbour_or_a_late_template_raises_is_recorded(captured: Captured) -> None:
    """No `process_exception` hears of these; the signal does."""

    def broken(get_response: Any) -> Any:
        def middleware(request: HttpRequest) -> Any:
            raise ZeroDivisionError("a neighbour")

        return middleware

    def template(request: HttpRequest) -> Any:
        return TemplateResponse(request, "no-such-template.html")

    with project(captured, path("x", fine), path("t", template)), stacked(broken) as name:
        assert get("/t").status_code == 500
        with override_settings(MIDDLEWARE=[MIDDLEWARE, name]):
            assert get("/x").status_code == 500
    late, neighbour = captured.spans
    assert (late.attributes["error.type"].rpartition(".")[2], late.name) == ("TemplateDoesNotExist", "GET /t")
    assert neighbour.attributes["error.type"] == "ZeroDivisionError"
    assert [len(span.events) for span in (late, neighbour)] == [1, 1]
    assert neighbour.name == "GET"


def test_web_59_the_test_client_raises_as_before(captured: Captured) -> None:
    seen: list[Any] = []

    def note(sender: Any, request: HttpRequest, **_: Any) -> None:
        seen.append(sys.exc_info()[1])

    error = LookupError("no such thing")
    got_request_exception.connect(note)
    try:
        with project(captured, path("x", raising(error))), pytest.raises(LookupError) as raised:
            Client().get("/x")
    finally:
        got_request_exception.disconnect(note)
    assert raised.value is error
    assert seen == [error]
    assert captured.one().failed


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("error", [LookupError("through"), *GROUP], ids=lambda error: type(error).__name__)
def test_web_19_21_an_exception_that_passes_is_the_same(captured: Captured, is_async: bool, error: Exception) -> None:
    cause = KeyError("before")

    def view(request: HttpRequest) -> HttpResponse:
        try:
            raise cause
        except KeyError:
            raise error  # noqa: B904  # the context is what the test is about

    with (
        project(captured, path("x", view)),
        override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True),
        pytest.raises(type(error)) as raised,
    ):
        asyncio.run(AsyncClient().get("/x")) if is_async else Client().get("/x")
    assert raised.value is error
    assert error.__context__ is cause
    assert error.__cause__ is None
    assert traceback.extract_tb(error.__traceback__)[-1].name == "view"
    root = captured.one()
    assert (root.failed, root.attributes["http.response.status_code"]) == (True, 500)
    assert root.attributes["error.type"] == type(error).__name__


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_web_21_what_ends_a_process_or_task_passes(captured: Captured, error: type[BaseException]) -> None:
    with project(captured, path("x", raising(error("bye")))), pytest.raises(error, match="bye"):
        Client().get("/x")
    root = captured.one()
    assert "http.response.status_code" not in root.attributes
    assert root.failed is (error is not asyncio.CancelledError)


def test_web_22_no_exception_is_kept(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("django.request"), "disabled", True)  # a log record holds it too

    class Big:
        """What a frame holds."""

    alive: list[Any] = []

    def view(request: HttpRequest) -> HttpResponse:
        big = Big()
        alive.append(weakref.ref(big))
        raise LookupError

    with project(captured, path("x", view)):
        gc.disable()
        try:
            get("/x").close()
            held = alive[0]() is not None
            gc.collect()
            assert alive[0]() is None
        finally:
            gc.enable()
        with override_settings(MIDDLEWARE=django_site.USUAL):  # bare: whether Django itself makes a cycle
            gc.disable()
            try:
                get("/x").close()
                bare = alive[1]() is not None
            finally:
                gc.enable()
    assert held == bare


def test_web_20_before_routing_the_name_is_the_method(captured: Captured) -> None:
    with project(captured, path("x/", fine)):
        assert get("/x").status_code == 301  # CommonMiddleware's slash
        assert get("/nowhere/").status_code == 404
        assert Client(enforce_csrf_checks=True).post("/x/").status_code == 403
    slash, nowhere, csrf = captured.spans
    assert [span.name for span in (slash, nowhere, csrf)] == ["GET", "GET", "POST /x/"]
    assert [span.attributes["http.response.status_code"] for span in captured.spans] == [301, 404, 403]
    assert not any(span.failed for span in captured.spans)


def test_web_58_an_answer_from_above_the_view_is_recorded(captured: Captured) -> None:
    from django.contrib.auth.decorators import login_required

    with project(captured, path("x", login_required(fine))):
        assert get("/x").status_code == 302
    root = captured.one()
    assert (root.attributes["http.response.status_code"], root.failed, root.name) == (302, False, "GET /x")


# User and route


@pytest.fixture
def ann() -> Iterator[User]:
    user = get_user_model().objects.create_user("ann", password="secret")
    yield user
    user.delete()


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_web_49_nobody_is_looked_up(captured: Captured, ann: User) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        captured.tracker.track_ai("answer", input="q")
        return HttpResponse("fine")

    client = signed_in(ann)
    with project(captured, path("x", view)), CaptureQueriesContext(connection) as queries:
        answer = client.get("/x")
    assert "Vary" not in answer.headers
    assert not answer.wsgi_request.session.accessed
    assert not queries.captured_queries
    assert "user.id" not in captured.one().attributes


@pytest.mark.parametrize("when", ["before a child", "after it", "without one"])
def test_web_60_the_user_that_the_view_knows_is_recorded(captured: Captured, ann: User, when: str) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        if when == "before a child":
            assert request.user.is_authenticated
        if when != "without one":
            captured.tracker.track_ai("answer", input="q")
        return HttpResponse(request.user.get_username())

    with project(captured, path("x", view)), CaptureQueriesContext(connection) as queries:
        assert signed_in(ann).get("/x").content == b"ann"
        asked = [query for query in queries.captured_queries if "auth_user" in query["sql"]]
    assert len([query for query in asked if query["sql"].startswith("SELECT")]) == 1
    if when == "before a child":
        assert captured.one("answer").attributes["user.id"] == str(ann.pk)
    assert captured.one().attributes["user.id"] == str(ann.pk)


def test_web_60_the_site_is_there_for_a_hook(captured: Captured) -> None:
    site = ["django.contrib.sites.middleware.CurrentSiteMiddleware"]
    properties = {"properties": lambda request: {"site": request.site.domain}}
    with project(captured, path("x", fine), middleware=site, **properties):
        assert get("/x").status_code == 200
    assert captured.one().attributes["site"] == Site.objects.get_current().domain


def test_a_login_in_the_view_and_a_user_of_another_kind(captured: Captured, ann: User) -> None:
    class Robot:
        pk = "robot-7"
        is_authenticated = True

    def enter(request: HttpRequest) -> HttpResponse:
        login(request, ann)
        return HttpResponse()

    def robot(request: HttpRequest) -> HttpResponse:
        request.user = Robot()
        return HttpResponse()

    def named(request: HttpRequest) -> HttpResponse:
        request.user = "a middleware of the host's own"  # type: ignore[assignment]
        return HttpResponse()

    def unsaved(request: HttpRequest) -> HttpResponse:
        request.user = User(username="not saved yet")
        return HttpResponse()

    def nobody(request: HttpRequest) -> HttpResponse:
        assert isinstance(request.user, AnonymousUser) or not request.user.is_authenticated
        return HttpResponse()

    views = {view.__name__: view for view in (enter, robot, named, unsaved, nobody)}
    with project(captured, *(path(name, view) for name, view in views.items())):
        for name in views:
            assert get(f"/{name}").status_code == 200
    assert [span.attributes.get("user.id") for span in captured.spans] == [str(ann.pk), "robot-7", None, None, None]


@pytest.mark.skipif(django.VERSION < (5, 0), reason="request.auser() came with Django 5.0")
def test_web_49_an_async_view_that_awaits_its_user(captured: Captured, ann: User) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse((await request.auser()).get_username())

    async def other(request: HttpRequest) -> HttpResponse:
        captured.tracker.track_ai("answer", input="q")
        return HttpResponse("nobody asked")

    client = AsyncClient()
    client.force_login(ann)

    async def ask() -> list[bytes]:
        return [(await client.get(url)).content for url in ("/x", "/other")]

    with project(captured, path("x", view), path("other", other)):
        assert asyncio.run(ask()) == [b"ann", b"nobody asked"]
    assert [root.attributes.get("user.id") for root in captured.roots] == [str(ann.pk), None]


def test_a_hook_decides_who_it_is(captured: Captured, ann: User) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.user.get_username())

    for hook, known in ((lambda request: "u7", "u7"), (None, None), (lambda request: None, None)):
        with project(captured, path("x", view), user_id=hook):
            signed_in(ann).get("/x")
        assert captured.spans[-1].attributes.get("user.id") == known


def test_web_55_the_route_is_the_whole_pattern(captured: Captured) -> None:
    from django.conf.urls.i18n import i18n_patterns

    articles = [re_path(r"^(?P<year>[0-9]{4})/$", fine)]
    with project(
        captured,
        path("", fine),
        path("shop/<slug:shop>/", include([path("order/<int:number>/", fine), path("old/", include(articles))])),
        re_path(r"^raw/(?P<n>\d+)$", fine),
        *i18n_patterns(path("help/<topic>", fine)),
    ):
        for url in ("/", "/shop/a/order/7/", "/shop/a/old/1999/", "/raw/5", "/en-us/help/x"):
            assert get(url).status_code == 200, url
    assert [span.attributes["http.route"] for span in captured.spans] == [
        "/",
        "/shop/<slug:shop>/order/<int:number>/",
        "/shop/<slug:shop>/old/(?P<year>[0-9]{4})/$",
        r"/raw/(?P<n>\d+)$",
        "/en-us/help/<topic>",
    ]


def test_web_55_a_middleware_changes_the_urlconf_and_nothing_is_resolved_twice(captured: Captured) -> None:
    class Other:
        urlpatterns = (path("x/<int:n>", fine),)

    def switch(get_response: Any) -> Any:
        def middleware(request: HttpRequest) -> Any:
            request.urlconf = Other
            return get_response(request)

        return middleware

    resolved: list[Any] = []

    class Counting(str):
        def __hash__(self) -> int:
            return super().__hash__()

        def __eq__(self, other: object) -> bool:
            return super().__eq__(other)

    with project(captured), stacked(switch) as name:
        from django.urls.resolvers import URLResolver

        real = URLResolver.resolve

        def counting(self: Any, url: str) -> Any:
            resolved.append(url)
            return real(self, url)

        with pytest.MonkeyPatch.context() as patch, override_settings(MIDDLEWARE=[MIDDLEWARE, name]):
            patch.setattr(URLResolver, "resolve", counting)
            assert get("/x/7").status_code == 200
    assert captured.one().name == "GET /x/<int:n>"
    assert resolved == ["/x/7"]


# What is not touched


def test_web_50_a_bad_host_changes_nothing(captured: Captured) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.get_host())

    with project(captured, path("x", view), path("y", fine), middleware=[]):
        for host in ("evil.example", "bad host", "a:b:c", "\xff", "x" * 10_000):
            assert get("/y", headers={"host": host}).status_code == 200
            assert get("/x", headers={"host": host}).status_code == 400
    assert [span.attributes["http.response.status_code"] for span in captured.spans] == [200, 400] * 5


def test_hostile_headers_and_settings_are_survived(captured: Captured) -> None:
    """web 3, 86"""
    hostile = {"traceparent": "\xff" * 10_000, "x-convo": "a\x00b", "x-thing": "v" * 10_000}
    with project(captured, path("x", fine), convo_header="x-convo", capture_headers=["X-Thing"], middleware=[]):
        assert get("/x", headers=hostile).status_code == 200
        with override_settings(SECURE_PROXY_SSL_HEADER="not a pair"):
            assert get("/x").status_code == 200
    first, second = captured.spans
    assert "session.id" not in first.attributes
    assert first.attributes["http.request.header.x-thing"] == ["v" * 1_000]
    assert second.attributes["url.scheme"] == "http"


def test_the_scheme_is_the_one_that_the_project_trusts(captured: Captured) -> None:
    with project(captured, path("x", fine)), override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_PROTO", "https")):
        get("/x", headers={"x-proto": "https"})
        get("/x", secure=True)
        get("/x")
    assert [span.attributes["url.scheme"] for span in captured.spans] == ["https", "https", "http"]


def test_web_56_no_connection_and_no_transaction_of_ours(captured: Captured) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        assert connection.in_atomic_block
        get_user_model().objects.create(username="rolled back")
        raise LookupError

    with project(captured, path("x", view), path("a", afine), path("y", fine)):
        connection.settings_dict["ATOMIC_REQUESTS"] = True
        try:
            with CaptureQueriesContext(connection) as queries:
                assert get("/x").status_code == 500
                assert not get_user_model().objects.filter(username="rolled back").exists()
                answer = get("/a")
        finally:
            connection.settings_dict["ATOMIC_REQUESTS"] = False
        assert answer.status_code == 500
        assert "ATOMIC_REQUESTS" in str(captured.spans[-1].events[0][1]["exception.message"])
        with CaptureQueriesContext(connection) as more:
            assert get("/y").status_code == 200
    assert queries.captured_queries
    assert not more.captured_queries


def test_web_63_a_request_is_copied_pickled_and_dumped_as_without_us(captured: Captured) -> None:
    seen: list[Any] = []

    def note(get_response: Any) -> Any:
        def middleware(request: HttpRequest) -> Any:
            deep = copy.deepcopy(request)
            seen.append((set(request.META), set(vars(request)), set(vars(copy.copy(request))), set(vars(deep))))
            request.environ = {}
            request.META = {key: value for key, value in request.META.items() if isinstance(value, str)}
            assert pickle.loads(pickle.dumps(request)).path == "/x"
            return get_response(request)

        return middleware

    with project(captured, path("x", fine)), stacked(note) as name:
        for above in ([MIDDLEWARE], []):
            with override_settings(MIDDLEWARE=[*above, name]):
                assert get("/x").status_code == 200
    assert seen[0] == seen[1]
    assert len(captured.spans) == 1


def test_web_46_the_hosts_tracing_sees_nothing(captured: Captured) -> None:
    from opentelemetry import propagate, trace

    def view(request: HttpRequest) -> HttpResponse:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        assert not trace.get_current_span().get_span_context().is_valid
        return JsonResponse(carrier)

    with project(captured, path("x", view)):
        assert get("/x").json() == {}


def test_web_45_a_hook_that_raises_is_logged_once(captured: Captured, caplog: pytest.LogCaptureFixture) -> None:
    with project(captured, path("x", fine), user_id=lambda request: 1 / 0), caplog.at_level("WARNING", "rootspan"):
        for _ in range(3):
            assert get("/x").content == b"fine"
    assert len([record for record in caplog.records if "user_id" in record.getMessage()]) == 1


def test_views_that_answer_nothing_get_djangos_own_error(captured: Captured) -> None:
    with project(captured, path("x", lambda request: None)):
        assert get("/x").status_code == 500
    assert captured.one().attributes["error.type"] == "ValueError"

    def forgetful(get_response: Any) -> Any:
        return lambda request: None

    with (
        project(captured, path("x", fine)),
        stacked(forgetful) as name,
        override_settings(MIDDLEWARE=[MIDDLEWARE, name]),
    ):
        answer = RootspanMiddleware(lambda request: None)(RequestFactory().get("/x"))
    assert answer is None
    assert "http.response.status_code" not in captured.spans[-1].attributes


# Streamed bodies


def streaming(
    captured: Captured, *chunks: bytes, error: Exception | None = None, ended: list[Any] | None = None
) -> Any:
    def body() -> Iterator[bytes]:
        try:
            for chunk in chunks:
                captured.tracker.track_decision(reasoning=chunk.decode())
                yield chunk
            if error is not None:
                raise error
        finally:
            captured.tracker.track_ai("the end", output="partial")
            if ended is not None:
                ended.append(True)

    return lambda request: StreamingHttpResponse(body())


def astreaming(captured: Captured, *chunks: bytes, hold: asyncio.Event | None = None) -> Any:
    async def body() -> AsyncIterator[bytes]:
        try:
            for chunk in chunks:
                captured.tracker.track_decision(reasoning=chunk.decode())
                yield chunk
            if hold is not None:
                await hold.wait()
        finally:
            captured.tracker.track_ai("the end", output="partial")

    async def view(request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(body())

    return view


@pytest.mark.parametrize("how", ["to its end", "stopped early", "closed unread", "an error"])
def test_web_51_a_sync_stream_ends_with_its_body(captured: Captured, how: str) -> None:
    error = LookupError("midway") if how == "an error" else None
    closed: list[Any] = []
    with project(captured, path("x", streaming(captured, b"one", b"two", error=error, ended=closed))):
        response, said = wsgi()
        assert said[0][0] == "200 OK"
        assert not captured.roots  # it goes on
        body = iter(response)
        if how == "to its end":
            assert list(body) == [b"one", b"two"]
        elif how == "stopped early":
            assert next(body) == b"one"
        elif how == "an error":
            assert [next(body), next(body)] == [b"one", b"two"]
            with pytest.raises(LookupError) as raised:
                next(body)
            assert raised.value is error
        response.close()
    root = captured.one()
    assert root.attributes["http.response.status_code"] == 200
    assert root.attributes.get("rootspan.outcome") == {"stopped early": "cancelled"}.get(
        how, root.attributes.get("rootspan.outcome")
    )
    assert root.failed is (how == "an error")
    assert root.attributes.get("rootspan.stream.chunks", 0) == {"stopped early": 1, "closed unread": 0}.get(how, 2)
    assert {span.parent_id for span in captured.spans if span != root} == (
        set() if how == "closed unread" else {root.span_id}
    )
    if how != "closed unread":
        assert closed == [True]
        assert root.attributes["output.value"] == "partial"


def test_web_79_a_body_that_nobody_closes_is_finished_when_it_is_collected(captured: Captured) -> None:
    with project(captured, path("x", streaming(captured, b"one"))):
        response, _ = wsgi()
        assert not captured.roots
        del response
        gc.collect()
    assert captured.one().attributes["http.response.status_code"] == 200


def test_web_54_closing_in_another_thread(captured: Captured) -> None:
    with project(captured, path("x", streaming(captured, b"one", b"two"))):
        response, _ = wsgi()
        assert next(iter(response)) == b"one"
        thread = threading.Thread(target=response.close)
        thread.start()
        thread.join()
    root = captured.one()
    assert root.attributes["rootspan.outcome"] == "cancelled"
    assert captured.one("the end").parent_id == root.span_id
    assert captured.tracker.current() is None


def test_web_75_two_streams_interleaved_on_one_thread(captured: Captured) -> None:
    with project(captured, path("x", streaming(captured, b"a1", b"a2")), path("y", streaming(captured, b"b1", b"b2"))):
        first, second = wsgi()[0], wsgi(PATH_INFO="/y")[0]
        pairs = list(zip(first, second, strict=True))
        first.close()
        second.close()
    assert pairs == [(b"a1", b"b1"), (b"a2", b"b2")]
    roots = {root.span_id: root.name for root in captured.roots}
    for span in captured.spans:
        if span.name not in roots.values() and "rootspan.decision.reasoning" in span.attributes:
            assert roots[str(span.parent_id)] == (
                "GET /x" if span.attributes["rootspan.decision.reasoning"][0] == "a" else "GET /y"
            )
    assert sorted(roots.values()) == ["GET /x", "GET /y"]


def test_web_74_close_is_forwarded_once(captured: Captured) -> None:
    closes: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"one"])

        def close(self) -> None:
            closes.append("body")

    finished: list[Any] = []

    def note(sender: Any, **_: Any) -> None:
        finished.append(sender)

    with project(captured, path("x", lambda request: StreamingHttpResponse(Body()))):
        request_finished.connect(note)
        try:
            response, _ = wsgi()
            assert list(response) == [b"one"]
            response.close()
        finally:
            request_finished.disconnect(note)
    assert closes == ["body"]
    assert finished == [WSGIHandler]
    assert response.closed
    assert "close" not in vars(response)


def test_web_74_a_close_that_a_response_was_given_is_called_as_often_as_without_us(captured: Captured) -> None:
    closes: list[str] = []

    def view(request: HttpRequest) -> StreamingHttpResponse:
        response = StreamingHttpResponse([b"one"])
        close = response.close

        def own() -> None:
            closes.append("own")
            close()

        response.close = own  # type: ignore[method-assign]
        return response

    with project(captured, path("x", view)):
        response, _ = wsgi()
        response.close()
        response.close()
    assert closes == ["own", "own"]
    assert response.closed
    assert captured.one().attributes["http.response.status_code"] == 200


def test_web_52_both_kinds_stay_what_they_are(captured: Captured) -> None:
    kinds: list[bool] = []

    def noting(get_response: Any) -> Any:
        async def middleware(request: HttpRequest) -> Any:
            response = await get_response(request)
            kinds.append(response.is_async)
            return response

        return middleware

    async def read(url: str) -> bytes:
        response = await aget(url)
        with warnings.catch_warnings():
            if url == "/sync":  # Django's own warning, as without us
                warnings.simplefilter("ignore")
            return b"".join([part async for part in response])

    with (
        project(
            captured,
            path("async", astreaming(captured, b"one", b"two")),
            path("sync", streaming(captured, b"one", b"two")),
        ),
        stacked(async_only_middleware(noting)) as name,
        override_settings(MIDDLEWARE=[name, MIDDLEWARE]),
    ):
        assert asyncio.run(read("/async")) == b"onetwo"
        assert asyncio.run(read("/sync")) == b"onetwo"
    assert kinds == [True, False]
    assert [root.attributes["rootspan.stream.chunks"] for root in captured.roots] == [2, 2]
    for span in captured.spans:
        assert span.parent_id is None or span.parent_id in {root.span_id for root in captured.roots}


@pytest.mark.skipif(django.VERSION < (5, 0), reason="Django 4.2 does not hear of a disconnect while it streams")
def test_web_16_a_client_of_an_async_stream_goes_away(captured: Captured) -> None:
    view = astreaming(captured, b"one", b"two", b"three", hold=asyncio.Event())
    with project(captured, path("x", view)), AsgiClient(ASGIHandler()) as client:
        answer = client.request("GET", "/x")
        assert next(iter(answer)) == b"one"
        answer.close()
    root = captured.one()
    assert root.attributes["rootspan.outcome"] == "cancelled"
    assert not root.failed
    assert captured.one("the end").parent_id == root.span_id
    assert root.attributes["output.value"] == "partial"


def test_web_14_15_an_abandoned_async_stream_logs_nothing(captured: Captured, caplog: pytest.LogCaptureFixture) -> None:
    async def abandon() -> None:
        response = await aget("/x")
        parts = response.streaming_content.__aiter__()
        assert await parts.__anext__() == b"one"
        del parts, response
        gc.collect()
        await asyncio.sleep(0)

    with project(captured, path("x", astreaming(captured, b"one", b"two"))), caplog.at_level("WARNING"):
        asyncio.run(abandon())
        gc.collect()
    (root,) = [root for root in captured.roots if root.name == "GET /x"]
    assert root.attributes["http.response.status_code"] == 200
    assert captured.one("the end")  # wherever it was collected: Django's server would have closed it
    assert not [record for record in caplog.records if record.name in ("rootspan", "asyncio")]


def test_an_async_body_that_fails_when_the_server_closes_it_fails_nobody(captured: Captured) -> None:
    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"one"
        finally:
            raise LookupError

    async def view(request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(body())

    async def leave() -> None:
        response = await aget("/x")
        assert await response.streaming_content.__aiter__().__anext__() == b"one"
        await sync_to_async(response.close)()

    with project(captured, path("x", view)):
        asyncio.run(leave())
    assert captured.one().attributes["rootspan.outcome"] == "cancelled"


class Wrapper:
    """A server's `wsgi.file_wrapper`."""

    def __init__(self, file: Any, size: int) -> None:
        self.file, self.size = file, size

    def close(self) -> None:
        self.file.close()


def test_web_53_76_a_file_goes_out_as_it_is(captured: Captured, tmp_path: Path) -> None:
    file = tmp_path / "report.txt"
    file.write_text("a report")

    def view(request: HttpRequest) -> FileResponse:
        return FileResponse(file.open("rb"))

    with project(captured, path("x", view)):
        wrapped, said = wsgi(**{"wsgi.file_wrapper": Wrapper})
        assert isinstance(wrapped, Wrapper)
        assert wrapped.file.read() == b"a report"
        assert wrapped.size == FileResponse.block_size
        assert not captured.spans
        wrapped.close()
        wrapped.close()
        assert wrapped.file.closed
        assert captured.one().attributes["http.response.status_code"] == 200
        plain, _ = wsgi()
        assert plain.file_to_stream is not None
        assert b"".join(plain) == b"a report"
        plain.close()
    assert said[0][1]["Content-Length"] == "8"
    assert len(captured.spans) == 2
    assert not any("rootspan.outcome" in span.attributes for span in captured.spans)


def test_web_53_a_file_under_asgi(captured: Captured, tmp_path: Path) -> None:
    file = tmp_path / "report.txt"
    file.write_text("a report")

    async def view(request: HttpRequest) -> FileResponse:
        return FileResponse(file.open("rb"))

    with project(captured, path("x", view)), AsgiClient(ASGIHandler()) as client, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Django's own about a sync iterator, as without us
        answer = client.request("GET", "/x")
        assert answer.body == b"a report"
    assert answer.headers["content-length"] == "8"
    root = captured.one()
    assert root.attributes["http.response.status_code"] == 200
    assert not {"rootspan.outcome", "rootspan.stream.chunks"} & set(root.attributes)


def test_web_32_a_head_of_a_stream_is_complete(captured: Captured) -> None:
    with project(captured, path("x", streaming(captured, b"one"))):
        response = Client().head("/x")
        response.close()
    assert response.status_code == 200
    assert "rootspan.outcome" not in captured.one().attributes


def test_web_9_the_end_is_the_response_not_the_connection(captured: Captured) -> None:
    """What runs in `response.close()` after an ordinary response adds nothing to it."""
    with project(captured, path("x", fine)):
        response, _ = wsgi()
        assert captured.one().name == "GET /x"
        response.close()
    assert len(captured.spans) == 1


def test_web_87_5_no_body_is_read_by_us(captured: Captured) -> None:
    class Untouchable(io.RawIOBase):
        def read(self, *_: Any) -> Any:
            raise AssertionError("the body was read")

        readline = readinto = read

    with project(captured, path("x", fine), middleware=[]):
        response, said = wsgi(REQUEST_METHOD="POST", CONTENT_LENGTH="100", **{"wsgi.input": Untouchable()})
        response.close()
    assert said[0][0] == "200 OK"


READERS: dict[str, Callable[[HttpRequest], bytes]] = {
    "body": lambda request: request.body,
    "read": lambda request: request.read(5) + request.read(),
    "lines": lambda request: b"".join(request),
    "readlines": lambda request: b"".join(request.readlines()),
    "a copy beforehand": lambda request: (copy.deepcopy(request).body and b"") + request.body,
}


@pytest.mark.parametrize("reader", READERS)
def test_what_the_view_reads_and_sends_becomes_input_and_output(captured: Captured, reader: str) -> None:
    """web 7, 8"""
    sent = b'{\n"message": "What is it?"\n}'

    def view(request: HttpRequest) -> JsonResponse:
        request.resolver_match = None
        assert READERS[reader](request) == sent
        return JsonResponse({"reply": "A test."})

    with project(captured, path("x", view), middleware=[], capture_body=True):
        Client().post("/x", sent, content_type="application/json")
    root = captured.one()
    assert (root.attributes["input.value"], root.attributes["output.value"]) == ("What is it?", "A test.")


def test_an_answer_that_a_middleware_further_out_renders_passes(captured: Captured) -> None:
    def inside(request: HttpRequest) -> TemplateResponse:  # a middleware answers; what a view does is rendered before
        return TemplateResponse(request, engines["django"].from_string("rendered"))

    with project(captured, capture_body=True):
        response = RootspanMiddleware(inside)(RequestFactory().get("/x"))
    assert response.render().content == b"rendered"
    assert captured.one().attributes["http.response.status_code"] == 200


def test_a_body_that_the_view_does_not_read_is_not_recorded(captured: Captured) -> None:
    """web 8, 66"""
    with project(captured, path("x", fine), middleware=[], capture_body=True):
        Client().post("/x", b'{"message": "Hi"}', content_type="application/json")
        RootspanMiddleware(fine)(HttpRequest())  # which has no stream at all
    assert not any("input.value" in root.attributes for root in captured.roots)


@pytest.mark.parametrize("reader", ["POST", "body", "read"])
def test_web_16_a_client_that_leaves_its_own_upload(captured: Captured, reader: str) -> None:
    """Django raises what the server's input does as an error of its own, and answers 500 to nobody."""

    class Gone(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError(104, "Connection reset by peer")

    @csrf_exempt
    def view(request: HttpRequest) -> HttpResponse:
        request.read() if reader == "read" else getattr(request, reader)
        return fine(request)

    with project(captured, path("x", view)):
        form = {"CONTENT_TYPE": "application/x-www-form-urlencoded", "CONTENT_LENGTH": "9"}
        _, said = wsgi(**{"REQUEST_METHOD": "POST", "wsgi.input": Gone(), **form})
    assert said[0][0].startswith("500")
    root = captured.one("POST /x")
    assert (root.attributes["rootspan.outcome"], root.failed, root.events) == ("cancelled", False, [])


def test_forms_are_parsed_as_before(captured: Captured) -> None:
    """An upload goes by unrecorded, the fields of a plain form are what was asked."""

    def view(request: HttpRequest) -> HttpResponse:
        files = [file.read() for file in request.FILES.values()]
        return HttpResponse(f"{request.POST['message']} {files}")

    with project(captured, path("x", view), middleware=[], capture_body=True):
        upload = io.BytesIO(b"secret bytes")
        assert Client().post("/x", {"message": "Hi", "file": upload}).content == b"Hi [b'secret bytes']"
        kind = "application/x-www-form-urlencoded"
        assert Client().post("/x", "message=Hi+there", content_type=kind).content == b"Hi there []"
    upload_root, form_root = captured.roots
    assert "input.value" not in upload_root.attributes
    assert form_root.attributes["input.value"] == "Hi there"


def test_a_lifespan_delivers_at_shutdown_or_says_what_is_left(
    sink: Sink, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> dict[str, Any]:
        return next(messages)

    async def send(message: dict[str, Any]) -> None:
        said.append(message["type"])
        if message["type"] == "lifespan.startup.complete":
            rootspan.track_ai("the last word", input="q")

    async def application(scope: Any, receive: Any, send: Any) -> None:
        said.append(scope["type"])

    serving = with_lifespan(application)
    with override_settings(ROOTSPAN={"endpoint": sink.url, "flush_interval": 3600.0}):
        asyncio.run(serving({"type": "lifespan"}, receive, send))
        assert [span.name for span in sink.spans] == ["the last word"]
        asyncio.run(serving({"type": "http"}, receive, send))
        sink.stop()
        monkeypatch.setattr(rootspan.default_tracker._recorder.pipeline, "exit_seconds", 0.1)
        messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
        asyncio.run(serving({"type": "lifespan"}, receive, send))
    assert said == [*(complete := ["lifespan.startup.complete", "lifespan.shutdown.complete"]), "http", *complete]
    assert "1 records were not delivered before the server stopped" in caplog.text


# Settings


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"endpont": "http://x"}, "did you mean 'endpoint'"),
        ({"capture_header": ["x"]}, "did you mean 'capture_headers'"),
        ({"qqqqqqqq": 1}, "the names are "),
        ({"record": "some"}, "record="),
        ({"endpoint": "ftp://x"}, "endpoint="),
        ({"user_id": "no.such.module.function"}, "no.such"),
        ({"convo_id": "nodots"}, "nodots"),
        (["endpoint"], "settings.ROOTSPAN"),
        ({"tracker": Tracker(disabled=True), "endpoint": "http://x"}, "tracker"),
    ],
)
def test_a_wrong_setting_is_one_clear_error_where_it_is_made(wrong: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match="Fix: ") as raised, override_settings(ROOTSPAN=wrong):
        pass
    assert said in str(raised.value)


def test_dotted_paths_and_functions(captured: Captured) -> None:
    dotted = {"user_id": f"{__name__}.named_user", "exclude": "test_django_stacked.stacked_middleware"}
    sys.modules.setdefault(__name__, sys.modules[test_dotted_paths_and_functions.__module__])
    with stacked(lambda request: request.path == "/y"), project(captured, path("x", fine), path("y", fine), **dotted):
        get("/x")
        get("/y")
    assert captured.one().attributes["user.id"] == "named"
    with project(captured, path("x", fine), exclude="/x"):
        get("/x")
        body, said = wsgi(SCRIPT_NAME="/api")
        body.close()
    assert said[0][0] == "200 OK"
    assert len(captured.spans) == 1


def named_user(request: HttpRequest) -> str:
    return "named"


def test_web_62_tracker_settings_follow_overrides_and_come_back(sink: Sink) -> None:
    before = rootspan.default_tracker.settings
    with override_settings(ROOTSPAN={"endpoint": sink.url, "service_name": "shop"}):
        rootspan.track_ai("inside", input="q")
        with override_settings(ROOTSPAN={"endpoint": sink.url, "service_name": "other", "record": "tracked"}):
            rootspan.track_ai("further in", input="q")
            assert rootspan.flush(20)
        rootspan.track_ai("outside again", input="q")
        assert rootspan.flush(20)
        with override_settings(ROOTSPAN={"record": "all"}):
            assert rootspan.default_tracker.settings is before
    assert rootspan.default_tracker.settings is before
    services = {span.name: span.resource["service.name"] for span in sink.wait(3)}
    assert services == {"inside": "shop", "further in": "other", "outside again": "shop"}


def test_tracker_settings_that_are_overridden_inside_a_capture_leave_it_there(sink: Sink) -> None:
    before = rootspan.default_tracker.settings
    with captured_spans(default=True) as captured:
        with override_settings(ROOTSPAN={"endpoint": sink.url}):
            rootspan.track_ai("inside")
        rootspan.track_ai("outside again")
        assert [span.name for span in captured.spans] == ["inside", "outside again"]
    assert rootspan.default_tracker.settings is before
    assert sink.spans == []


def test_options_follow_overrides_in_a_running_server(captured: Captured) -> None:
    with project(captured, path("x", fine)):
        client = WsgiClient(WSGIHandler())
        client.request("GET", "/x").close()
        with override_settings(ROOTSPAN={"tracker": captured.tracker, "event": "visit"}):
            client.request("GET", "/x").close()
        client.request("GET", "/x").close()
    assert [span.name for span in captured.spans] == ["GET /x", "visit", "GET /x"]


def test_a_debug_page_shows_no_key(captured: Captured) -> None:
    secret = "sk-rootspan-0123456789abcdef"
    given = {"api_key": secret, "endpoint": "http://127.0.0.1:9", "exporters": []}
    urls = type("Urls", (), {"urlpatterns": (path("x", raising(LookupError("boom"))),)})
    with override_settings(ROOT_URLCONF=urls, ROOTSPAN=given, DEBUG=True):
        answer = get("/x")
    assert answer.status_code == 500
    assert secret not in answer.content.decode()


# System checks


def ids(**options: Any) -> list[str]:
    return [message.id for message in checks.run_checks(tags=["rootspan"], **options)]


def test_a_good_project_has_nothing_to_say() -> None:
    assert ids() == []


def test_a_wrong_setting_is_an_error_of_the_checks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settings, "ROOTSPAN", {"endpont": "x"}, raising=False)
    (message,) = deployment_checks()
    assert (message.id, message.level) == ("rootspan.E001", checks.ERROR)
    assert message.msg == "There is no setting 'endpont' for settings.ROOTSPAN."
    assert message.hint == "did you mean 'endpoint'?"
    with caplog.at_level("ERROR", "rootspan"):
        django.apps.apps.get_app_config("rootspan_django").ready()  # as in a worker without any middleware
    assert "There is no setting 'endpont' for settings.ROOTSPAN.\nFix: did you mean" in caplog.text
    monkeypatch.setattr(settings, "ROOTSPAN", {"sample_rate": 5})  # a mistake that core finds
    (message,) = checks.run_checks(tags=["rootspan"])
    assert (message.msg, message.hint) == (
        "sample_rate= cannot be 5 (int).",
        "set sample_rate= to a number from 0 to 1.",
    )


@pytest.mark.parametrize(
    "listed",
    [
        [*django_site.USUAL, MIDDLEWARE],
        django_site.USUAL,
        [],
    ],
)
def test_the_place_is_checked(listed: list[str]) -> None:
    with override_settings(MIDDLEWARE=listed):
        (message,) = checks.run_checks(tags=["rootspan"])
    assert message.id == "rootspan.W002"
    assert MIDDLEWARE in message.hint


def test_a_sync_only_neighbour_is_named_where_asgi_is_used() -> None:
    with stacked(sync_only_middleware(lambda get_response: get_response)) as name:
        listed = [MIDDLEWARE, *django_site.USUAL, name, "no.such.middleware"]
        with override_settings(MIDDLEWARE=listed):
            assert ids() == []
            with override_settings(ASGI_APPLICATION="shop.asgi.application"):
                (message,) = checks.run_checks(tags=["rootspan"])
    assert message.id == "rootspan.W003"
    assert message.msg.startswith(f"{name} is sync-only")


def deployment_checks() -> list[Any]:
    return checks.run_checks(tags=["rootspan"], include_deployment_checks=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"service_name": "shop"}, "No endpoint is set"),
        ({"endpoint": "https://collector.example.com"}, "No key is set for collector.example.com"),
        ({"endpoint": "https://collector.example.com", "api_key": "k"}, ""),
        ({"endpoint": "https://collector.example.com", "headers": {"x-api-key": "k"}}, ""),
        ({"endpoint": "http://127.0.0.1:4318"}, ""),
        ({"disabled": True}, ""),
        ({"tracker": Tracker(endpoint="https://collector.example.com", api_key="k")}, ""),
        ({"tracker": Tracker(endpoint="https://collector.example.com")}, "No key is set for collector.example.com"),
    ],
)
def test_a_deployment_is_checked(given: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ROOTSPAN_ENDPOINT", "ROOTSPAN_API_KEY", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with override_settings(ROOTSPAN=given):
        assert ids() == []
        messages = deployment_checks()
    assert [message.id for message in messages] == (["rootspan.W004"] if said else [])
    assert all(said in message.msg for message in messages)


# The command


def run_check() -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("rootspan", "check", stdout=out)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue()
    return 0, out.getvalue()


def test_the_command_sends_one_event_with_the_projects_settings(sink: Sink) -> None:
    given = {"endpoint": sink.url, "api_key": "sk-0123456789abcd", "service_name": "support-desk"}
    with override_settings(ROOTSPAN=given):
        status, said = run_check()
    assert status == 0
    assert f"endpoint  {sink.url}/v1/traces  (the app's own configuration)" in said
    assert "***abcd  (the app's own configuration)" in said
    assert "service   support-desk" in said
    assert "\n\n\n" not in said
    assert sink.one("rootspan_check").resource["service.name"] == "support-desk"
    assert sink.requests[-1].headers["authorization"] == "Bearer sk-0123456789abcd"


def test_the_command_says_what_is_wrong(sink: Sink) -> None:
    sink.script([401])
    with override_settings(ROOTSPAN={"endpoint": sink.url, "api_key": "sk-0123456789abcd"}):
        status, said = run_check()
    assert status == 1
    assert "does not accept the key ***abcd from the app's own configuration" in said
    with override_settings(ROOTSPAN={"disabled": True}):
        status, said = run_check()
    assert (status, "disabled= in the app's own configuration" in said) == (1, True)
    with captured_spans() as other, override_settings(ROOTSPAN={"tracker": other.tracker}):
        status, said = run_check()
    assert (status, "exporters=" in said) == (1, True)
    with pytest.raises(CommandError, match="invalid choice"):
        call_command("rootspan", "chek")


# Without Django, and in processes of its own


def test_without_django_the_extra_is_named() -> None:
    code = "import sys; sys.modules['django'] = None\nimport rootspan_django"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MissingExtraError: rootspan_django needs Django.\nFix: pip install 'rootspan[django]'" in done.stderr


PROJECT = """
    import sys
    import django
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.core.management import execute_from_command_line

    settings.configure(INSTALLED_APPS=["rootspan_django"], ROOTSPAN=eval(sys.argv[1]), ROOT_URLCONF=__name__)
    urlpatterns = []
    if len(sys.argv) > 2:
        execute_from_command_line(["manage.py", *sys.argv[2:]])
    else:
        django.setup()
        print(settings.MIDDLEWARE)
        WSGIHandler()
        print("started")
"""


def start(given: str, *command: str) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "project.py")
        script.write_text(textwrap.dedent(PROJECT))
        return subprocess.run(
            [sys.executable, str(script), given, *command], capture_output=True, text=True, check=False
        )


def test_a_mistake_stops_a_server_at_its_start_and_manage_py_in_its_checks() -> None:
    wrong = "{'endpont': 'http://x'}"
    server = start(wrong)
    assert server.returncode == 1
    *_, said, fix = server.stderr.splitlines()
    assert said == "rootspan.errors.ConfigurationError: There is no setting 'endpont' for settings.ROOTSPAN."
    assert fix == "Fix: did you mean 'endpoint'?"
    command = start(wrong, "check")
    assert command.returncode == 1
    assert "?: (rootspan.E001) There is no setting 'endpont'" in command.stderr
    assert "HINT: did you mean 'endpoint'?" in command.stderr
    assert "Traceback" not in command.stderr
    good = start("{'service_name': 'shop'}")
    assert (good.returncode, good.stdout) == (0, f"['{MIDDLEWARE}']\nstarted\n")
