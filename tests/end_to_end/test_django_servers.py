"""The support desk under the servers that run Django: every request is accounted for once, whatever becomes of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

pytest.importorskip("django", reason="the adapter's framework is not in this environment")
pytest.importorskip("gunicorn", reason="the servers are not in this environment")
pytest.importorskip("uvicorn", reason="the servers are not in this environment")
pytest.importorskip("gevent", reason="the servers are not in this environment")
pytest.importorskip("hypercorn", reason="the servers are not in this environment")

import django

from programs import until
from rootspan_ui.demo.children import free_ports
from sinks import Sink, Span, hang

EXAMPLES = Path(__file__).parents[2] / "example_apps"
MANAGE = str(EXAMPLES / "django_support_desk" / "manage.py")
PATIENCE = 60.0
WSGI, ASGI = "django_support_desk.wsgi", "django_support_desk.asgi:application"
GUNICORN = ["-m", "gunicorn", WSGI, "--bind", "127.0.0.1:{port}", "--log-level", "warning"]
SERVERS = {
    "runserver": [MANAGE, "runserver", "127.0.0.1:{port}", "--noreload"],
    "gunicorn-sync": [*GUNICORN, "--workers", "2"],
    "gunicorn-gthread": [*GUNICORN, "--worker-class", "gthread", "--threads", "4"],
    "gunicorn-preload": [*GUNICORN, "--preload", "--workers", "2", "--max-requests", "7"],
    "gunicorn-uvicorn": ["-m", "gunicorn", ASGI, *GUNICORN[3:], "--worker-class", "uvicorn.workers.UvicornWorker"],
    "gunicorn-gevent": [*GUNICORN, "--worker-class", "gevent"],
    "hypercorn": ["-m", "hypercorn", ASGI, "--bind", "127.0.0.1:{port}"],
    "uvicorn": ["-m", "uvicorn", ASGI, "--port", "{port}", "--log-level", "warning"],
    "uvicorn-workers": ["-m", "uvicorn", ASGI, "--port", "{port}", "--log-level", "warning", "--workers", "2"],
}


@dataclass
class Desk:
    """A running support desk, and what its clients were told."""

    port: int
    process: subprocess.Popen[bytes]
    stop: signal.Signals
    traces: list[str] = field(default_factory=list)
    sent: int = 0

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def request(
        self, connection: HTTPConnection, method: str, path: str, cookie: str = "", body: Any = None, form: Any = None
    ) -> Any:
        """Send a request and return the answer with its head read."""
        headers = {"Cookie": cookie, "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body)
        if form is not None:
            data, headers["Content-Type"] = urlencode(form), "application/x-www-form-urlencoded"
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        self.sent += 1
        self.traces.append(str(answer.getheader("x-trace-id")))
        return answer

    def log_in(self, connection: HTTPConnection) -> str:
        given = {"username": "barbara", "password": "desk"}
        answer = self.request(connection, "POST", "/api/login", body=given)
        assert answer.read() == b'{"name": "barbara"}'
        return f"sessionid={SimpleCookie(answer.getheader('set-cookie'))['sessionid'].value}"

    def open_ticket(self, connection: HTTPConnection, subject: str) -> tuple[str, str]:
        """Log in and open a ticket; return the session's cookie and the ticket's path in the API."""
        cookie = self.log_in(connection)
        answer = self.request(connection, "POST", "/api/tickets", cookie, {"subject": subject})
        return cookie, f"/api/tickets/{json.loads(answer.read())['reference']}"

    def end(self) -> None:
        self.process.send_signal(self.stop)
        self.process.wait(PATIENCE)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = str(tmp_path_factory.mktemp("desk") / "desk.sqlite3")
    subprocess.run(
        [sys.executable, MANAGE, "seed"], env=environ(file, "http://127.0.0.1:1"), check=True, timeout=PATIENCE
    )
    return file


def environ(database: str, endpoint: str) -> dict[str, str]:
    imports = [str(EXAMPLES), *(os.path.abspath(entry) for entry in sys.path)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(imports),
        "SUPPORT_DESK_DATABASE": database,
        "ROOTSPAN_ENDPOINT": endpoint,
    }


Starting = Callable[[str], contextlib.AbstractContextManager[Desk]]


@pytest.fixture
def started(sink: Sink, database: str) -> Starting:
    @contextlib.contextmanager
    def start(server: str) -> Iterator[Desk]:
        (port,) = free_ports(1)
        command = [sys.executable, *(part.format(port=port) for part in SERVERS[server])]
        process = subprocess.Popen(command, env=environ(database, sink.url))
        try:
            until(lambda: listens(port) or process.poll() is not None)
            assert process.poll() is None, f"{server} did not start"
            yield Desk(port, process, signal.SIGINT if server == "runserver" else signal.SIGTERM)
        finally:
            process.kill()
            process.wait()

    return start


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


def accounted(sink: Sink, desk: Desk) -> dict[str, Span]:
    """The roots of the requests by their traces; each request has one, and nothing came twice."""
    assert max(Counter(span.span_id for span in sink.spans).values()) == 1
    roots = [span for span in sink.spans if span.kind == 2]
    assert all(root.parent_id is None for root in roots)
    assert Counter(root.trace_id for root in roots) == Counter(desk.traces)
    assert len(roots) == desk.sent
    return {root.trace_id: root for root in roots}


@pytest.mark.parametrize("server", SERVERS)
def test_every_request_is_accounted_for_once(started: Starting, sink: Sink, server: str) -> None:
    """web 80, 81, 82: keep-alive, several clients at once, a tool call, a stream, a stop after the last answer."""
    with started(server) as desk:
        connection = desk.connect()
        cookie, ticket = desk.open_ticket(connection, f"Parcel {server}")
        said = desk.request(connection, "POST", f"{ticket}/messages", cookie, {"message": "order 1042?"})
        assert "left the warehouse" in json.loads(said.read())["reply"]
        asked = desk.traces[-1]
        streamed = desk.request(connection, "POST", f"{ticket}/stream", cookie, {"message": "How?"})
        assert b'"done": true' in streamed.read()
        story = desk.traces[-1]

        def visit() -> None:
            mine = desk.connect()
            for _ in range(5):
                assert desk.request(mine, "GET", "/accounts/login/").read()
            mine.close()

        clients = [threading.Thread(target=visit) for _ in range(4)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(PATIENCE)
        connection.close()
        desk.end()
    assert desk.sent == 24
    roots = accounted(sink, desk)
    below = [span for span in sink.spans if span.trace_id == asked and span.kind != 2]
    assert sorted(span.name for span in below) == ["answer", "answer", "look_up_order"]
    assert {span.parent_id for span in below} == {roots[asked].span_id}
    assert roots[asked].name == "POST /api/tickets/<slug:reference>/messages"
    for trace in (asked, story):
        spans = [span for span in sink.spans if span.trace_id == trace]
        assert {span.attributes["session.id"] for span in spans} == {ticket.rpartition("/")[2]}
        assert len({span.attributes["user.id"] for span in spans}) == 1
    assert roots[story].attributes["rootspan.stream.chunks"] == 22
    assert roots[story].attributes["output.value"].endswith("within 30 days.")
    visits = [root for root in roots.values() if root.name == "GET /accounts/login/"]
    assert len(visits) == 20
    assert not any({"user.id", "session.id"} & set(root.attributes) for root in visits)


@pytest.mark.parametrize("server", SERVERS)
def test_a_client_that_goes_away_in_a_stream(started: Starting, sink: Sink, server: str) -> None:
    """web 16, 51"""
    if SERVERS[server][2] == ASGI and django.VERSION < (5, 0):
        pytest.skip("Django 4.2 streams on when its client has gone")
    with started(server) as desk:
        connection = desk.connect()
        cookie, ticket = desk.open_ticket(connection, f"Gone {server}")
        connection.close()
        mine = desk.connect()
        mine.connect()
        raw = mine.sock
        assert raw is not None
        answer = desk.request(mine, "POST", f"{ticket}/stream", cookie, {"message": "How?"})
        assert answer.readline().startswith(b"data: ")
        left = desk.traces[-1]
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not a farewell
        answer.close()
        mine.close()
        raw.close()
        until(lambda: any(span.trace_id == left and span.kind == 2 for span in sink.spans))
        again = desk.connect()
        assert desk.request(again, "GET", "/accounts/login/").read()
        again.close()
        desk.end()
    roots = accounted(sink, desk)
    assert roots[left].attributes["rootspan.outcome"] == "cancelled"
    assert "error.type" not in roots[left].attributes
    assert 1 <= roots[left].attributes["rootspan.stream.chunks"] < 22
    (answered,) = [span for span in sink.spans if span.trace_id == left and span.kind != 2]
    assert answered.parent_id == roots[left].span_id
    partial = answered.attributes["output.value"]
    assert partial.startswith("Put")
    assert not partial.endswith("within 30 days.")
    assert roots[left].attributes["output.value"] == partial


@pytest.mark.parametrize("server", SERVERS)
def test_a_stop_during_a_request(started: Starting, sink: Sink, server: str) -> None:
    """The servers let it finish, but for `runserver`, whose Ctrl-C cuts it: that one is recorded as unfinished."""
    with started(server) as desk:
        connection = desk.connect()
        cookie, ticket = desk.open_ticket(connection, f"Stop {server}")
        answer = desk.request(connection, "POST", f"{ticket}/stream", cookie, {"message": "How?"})
        assert answer.readline().startswith(b"data: ")
        desk.process.send_signal(desk.stop)
        rest = b""
        with contextlib.suppress(OSError):
            rest = answer.read()
        connection.close()
        desk.process.wait(PATIENCE)
    root = accounted(sink, desk)[desk.traces[-1]]
    if server == "runserver":
        assert root.attributes["rootspan.outcome"] in ("unfinished", "cancelled")
    else:
        assert b'"done": true' in rest
        assert root.attributes["output.value"].endswith("within 30 days.")
        assert "rootspan.outcome" not in root.attributes


def test_web_83_a_collector_that_hangs_delays_no_answer(started: Starting, sink: Sink) -> None:
    sink.script(lambda request: hang())
    with started("gunicorn-gthread") as desk:
        connection = desk.connect()
        for _ in range(10):
            assert desk.request(connection, "GET", "/accounts/login/").read()
        sink.wait_requests(1, PATIENCE)
        for _ in range(10):
            assert desk.request(connection, "GET", "/accounts/login/").read()
        connection.close()
        assert not sink.spans  # all of these were answered while the collector took nothing
        desk.end()


def test_the_pages_work_in_a_browser_like_client(started: Starting, sink: Sink) -> None:
    """Forms with their CSRF tokens: log in, open a ticket, write, be told of an overload, judge, log out."""
    with started("gunicorn-gthread") as desk:
        connection = desk.connect()
        cookies: dict[str, str] = {}

        def ask(method: str, path: str, **form: str) -> tuple[int, str, str]:
            cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
            data = {"csrfmiddlewaretoken": cookies.get("csrftoken", ""), **form} if method == "POST" else None
            answer = desk.request(connection, method, path, cookie, form=data)
            for header in answer.headers.get_all("set-cookie", ()):
                cookies.update({cookie.key: cookie.value for cookie in SimpleCookie(header).values()})
            return answer.status, answer.read().decode(), answer.getheader("location") or ""

        assert ask("GET", "/")[::2] == (302, "/accounts/login/?next=/")
        assert "Log in" in ask("GET", "/accounts/login/")[1]
        assert "correct username and password" in ask("POST", "/accounts/login/", username="edsger", password="no")[1]
        assert ask("POST", "/accounts/login/", username="edsger", password="desk")[::2] == (302, "/")
        assert ask("POST", "/", subject="Broken mug")[::2] == (302, "/tickets/broken-mug/")
        assert ask("POST", "/tickets/broken-mug/", message="Where is order 1042?")[0] == 302
        page = ask("GET", "/tickets/broken-mug/")[1]
        assert "left the warehouse this morning" in page
        span_id = page.partition('name="span_id" value="')[2][:16]
        assert ask("POST", "/tickets/broken-mug/", message="Tell me everything")[0] == 503
        assert ask("POST", "/tickets/broken-mug/", message="")[0] == 200
        assert ask("POST", "/tickets/broken-mug/judge", span_id=span_id, score="1")[0] == 302
        assert "Thank you." in ask("GET", "/tickets/broken-mug/")[1]
        assert ask("GET", "/tickets/of-somebody-else/")[0] == 404
        assert ask("POST", "/", subject="x", csrfmiddlewaretoken="0" * 32)[0] == 403
        connection.close()
        desk.end()
    roots = accounted(sink, desk)
    by_name = Counter((root.name, root.attributes["http.response.status_code"]) for root in roots.values())
    assert by_name[("POST /tickets/<slug:reference>/", 503)] == 1
    assert by_name[("GET /tickets/<slug:reference>/", 404)] == 1
    (judged,) = [span for span in sink.spans if span.name == "gen_ai.evaluation.result"]
    assert judged.attributes["rootspan.target.span_id"] == span_id
    assert any(span.span_id == span_id for span in sink.spans)
    failed = [root for root in roots.values() if root.status_code == 2]
    assert [root.attributes["http.response.status_code"] for root in failed] == [503]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/login", "{", 400),
        ("/api/login", '{"username": "barbara", "password": "wrong"}', 403),
        ("/api/tickets", '{"subject": "x"}', 401),
        ("/api/login", "[]", 422),
        ("/api/login", '{"username": 5, "password": ["desk"]}', 403),
        ("/api/tickets", "[]", 422),
        ("/api/tickets", None, 415),
    ],
)
def test_the_programs_door_says_what_is_wrong(
    path: str, body: str | None, status: int, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    script = f"""
        import django
        from django.test import Client
        django.setup()
        kind = "text/plain" if {body!r} is None else "application/json"
        print(Client(headers={{"host": "localhost"}}).post({path!r}, {body or ""!r}, content_type=kind).status_code)
    """
    given = {**environ(database, "http://127.0.0.1:1"), "DJANGO_SETTINGS_MODULE": "django_support_desk.settings"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=given, capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{status}\n", done.stderr
