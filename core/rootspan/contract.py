"""The cases that every web adapter has to pass, written once."""

from __future__ import annotations

import json
import unittest
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Final

from rootspan.captured import Captured, CapturedSpan, captured_spans
from rootspan.clients import Answer, Client
from rootspan.errors import ConfigurationError
from rootspan.tracker import Tracker

__all__ = ["WebContract"]

_TRACEPARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_JSON: Final = {"content-type": "application/json"}


class WebContract:
    """The contract of a web adapter, as tests; mix it into a test class and give it an echo app.

    Each case serves the echo app with the adapter installed and some options, sends requests and reads the spans. The
    app has these routes; `rootspan.testing.Echo` holds what each of them does, so that an app is its wiring only:

    | route | view | answers |
    | --- | --- | --- |
    | `GET /echo/{name}` | `Echo.echo` | the name |
    | `POST /read` | read the body, `Echo.read` | its length |
    | `POST /ignore` | does not touch the body | `ignored` |
    | `GET /raise` | `Echo.fail` | the framework's 500 |
    | `GET /status/{code}` | tracks nothing | that status, `text/plain`, without a body |
    | `GET /stream/{count}` | `Echo.stream` or `astream` | chunks, streamed |
    | `GET /stream-raise` | `Echo.stream_fail` or `astream_fail` | one chunk, then it breaks |
    | `GET /login/{name}` | `Echo.login` | the name |
    | `GET /tool` | `Echo.tool` | `found` |
    | `GET /thread` | `Echo.thread` | `joined` |
    | `GET /current` | `Echo.current` | the trace id |
    | `GET /host` | `Echo.host` | JSON |
    | `GET /mounted/{area}/inner/{name}` | in a mount, an include or a blueprint at `/mounted/{area}` | the name |
    | `POST /chat` | read the body, `Echo.chat` | `application/json` |
    | `POST /chat-stream` | read the body, `Echo.chat_stream` or `achat_stream` | `text/event-stream`, streamed |

    A case that does not apply is skipped by its name and a written reason in `not_applicable`.

    Example:
        >>> class TestStarlette(WebContract):
        ...     not_applicable = {"test_...": "why this can not be so here"}
        ...
        ...     @contextmanager
        ...     def serve(self, tracker, **options):
        ...         app = RootspanMiddleware(echo_app(Echo(tracker)), tracker=tracker, **options)
        ...         with AsgiClient(app) as client:
        ...             yield client  # doctest: +SKIP
    """

    not_applicable: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, reason in vars(cls).get("not_applicable", {}).items():
            if not reason or not callable(getattr(WebContract, name, None)):
                raise TypeError(f"not_applicable[{name!r}] has to be the name of a case, with a reason")
            setattr(cls, name, _skipped(reason))

    # What an adapter's test gives

    def serve(self, tracker: Tracker, **options: Any) -> AbstractContextManager[Client]:
        """Return a context manager that serves the echo app through the adapter, and gives a client for it.

        Args:
            tracker: for the adapter and for `Echo`.
            **options: the adapter's options, under the names of `rootspan.adapter.RequestOptions`.
        """
        raise NotImplementedError

    def template(self, path: str) -> str:
        """Return a route of the list above as the adapter writes it into `http.route`."""
        return path

    # What a request becomes

    def test_a_request_is_one_isolated_root(self) -> None:
        with self._served() as (client, captured):
            assert client.request("GET", "/status/204").status == 204
        root = captured.one()
        route = self.template("/status/{code}")
        assert len(captured.spans) == 1
        assert (root.name, root.kind, root.parent_id) == (f"GET {route}", "SERVER", None)
        assert root.attributes["http.request.method"] == "GET"
        assert root.attributes["http.route"] == route
        assert root.attributes["http.response.status_code"] == 204
        assert root.attributes["url.scheme"] == "http"
        assert not root.failed
        assert root.start <= root.end
        assert not {"url.path", "url.full", "url.query", "user.id", "session.id"} & set(root.attributes)

    def test_a_view_that_only_tracks_gives_the_root_its_four_fields(self) -> None:
        with self._served() as (client, captured):
            assert client.request("GET", "/echo/ann").text == "ann"
        root = captured.one()
        read = [root.attributes[name] for name in ("user.id", "session.id", "input.value", "output.value")]
        assert read == ["u-ann", "c-ann", "ask ann", "ann"]
        assert captured.one("answer").parent_id == root.span_id

    def test_what_is_tracked_inside_is_below(self) -> None:
        with self._served() as (client, captured):
            assert client.request("GET", "/tool").text == "found"
        root, tool, event = captured.one(), captured.one("search"), captured.one("inside the tool")
        assert (tool.parent_id, event.parent_id) == (root.span_id, tool.span_id)
        assert {span.trace_id for span in captured.spans} == {root.trace_id}

    def test_a_request_inside_an_open_interaction_is_a_root_all_the_same(self) -> None:
        with self._served() as (client, captured), captured.tracker.begin("turn") as turn:
            assert client.request("GET", "/echo/ann").status == 200
        root = next(span for span in captured.roots if span.name != "turn")
        assert root.trace_id != turn.trace_id
        assert captured.one("answer").parent_id == root.span_id

    def test_nothing_leaks_into_the_next_request(self) -> None:
        with self._served() as (client, captured):
            client.request("GET", "/echo/ann").close()
            first = client.request("GET", "/current").text
            second = client.request("GET", "/current").text
            assert captured.tracker.current() is None
        roots = captured.roots
        assert [root.trace_id for root in roots[1:]] == [first, second]
        assert len({root.trace_id for root in roots}) == 3
        assert all("user.id" not in root.attributes for root in roots[1:])

    def test_a_late_login_reaches_the_root(self) -> None:
        with self._served() as (client, captured):
            client.request("GET", "/login/ann").close()
        assert "user.id" not in captured.one("before login").attributes
        assert captured.one("after login").attributes["user.id"] == "ann"
        assert captured.one().attributes["user.id"] == "ann"

    def test_a_carried_thread_belongs_to_the_request(self) -> None:
        """web 84"""
        with self._served() as (client, captured):
            assert client.request("GET", "/thread").text == "joined"
        assert captured.one("in a thread").parent_id == captured.one().span_id

    def test_a_nested_route_has_its_whole_template(self) -> None:
        """web 23"""
        with self._served() as (client, captured):
            assert client.request("GET", "/mounted/north/inner/ann").text == "ann"
        assert captured.one().name == f"GET {self.template('/mounted/{area}/inner/{name}')}"

    def test_an_unknown_path_is_named_by_its_method(self) -> None:
        """web 28"""
        with self._served() as (client, captured):
            for path in ("/wp-admin", "/.env", "/x/y/z"):
                assert client.request("GET", path).status == 404
        assert {span.name for span in captured.spans} == {"GET"}
        assert all("http.route" not in span.attributes for span in captured.spans)

    def test_only_5xx_is_an_error(self) -> None:
        with self._served() as (client, captured):
            for code in (404, 422, 503):
                assert client.request("GET", f"/status/{code}").status == code
        assert [span.failed for span in captured.spans] == [False, False, True]
        assert captured.spans[-1].attributes["error.type"] == "503"

    def test_a_view_that_raises_is_one_failure(self) -> None:
        """web 19"""
        with self._served() as (client, captured):
            answer = client.request("GET", "/raise")
            answer.close()
        root = captured.one()
        assert answer.status == root.attributes["http.response.status_code"] == 500
        assert (root.failed, root.attributes["error.type"]) == (True, "LookupError")
        assert [name for name, _ in root.events] == ["exception"]
        assert root.events[0][1]["exception.message"] == "no such thing"
        assert captured.one("before").parent_id == root.span_id

    # Streamed bodies

    def test_a_streamed_body_belongs_to_the_request_and_is_measured(self) -> None:
        """web 13, 37"""
        with self._served() as (client, captured):
            assert client.request("GET", "/stream/3").body == b"chunk" * 3
        root = captured.one()
        assert [span.parent_id for span in captured.spans if span != root] == [root.span_id] * 3
        attributes = root.attributes
        assert (attributes["rootspan.stream.chunks"], attributes["rootspan.stream.bytes"]) == (3, 15)
        assert 0 < attributes["rootspan.stream.time_to_first_byte"] <= (root.end - root.start) / 1e9
        assert attributes["rootspan.stream.longest_stall"] >= 0
        assert "rootspan.outcome" not in attributes

    def test_a_stream_that_breaks_keeps_its_status_and_is_one_failure(self) -> None:
        """web 19, 51"""
        with self._served() as (client, captured):
            answer = client.request("GET", "/stream-raise")
            assert answer.body == b"chunk"
        root = captured.one()
        assert answer.status == root.attributes["http.response.status_code"] == 200
        assert (root.failed, root.attributes["error.type"]) == (True, "LookupError")
        assert [name for name, _ in root.events] == ["exception"]

    def test_a_client_that_goes_away_is_cancelled_and_no_error(self) -> None:
        """web 16"""
        with self._served() as (client, captured):
            answer = client.request("GET", "/stream/9")
            chunks = iter(answer)
            assert next(chunks) + next(chunks) == b"chunk" * 2
            answer.close()
        root = captured.one()
        assert root.attributes["rootspan.outcome"] == "cancelled"
        assert not root.failed
        assert 2 <= root.attributes["rootspan.stream.chunks"] < 9

    # Bodies

    def test_a_body_reaches_the_view_as_it_was_sent(self) -> None:
        for capture in (False, True):
            with self._served(capture_body=capture) as (client, captured):
                assert client.request("POST", "/read", _JSON, b"x" * 300_000).text == "300000"
                assert client.request("POST", "/ignore", _JSON, b"x" * 300_000).text == "ignored"
            assert [root.attributes["http.response.status_code"] for root in captured.roots] == [200, 200]

    def test_a_body_is_not_recorded_unless_asked_for(self) -> None:
        """web 8"""
        with self._served() as (client, captured):
            client.request("POST", "/chat", _JSON, b'{"message": "Hi"}').close()
        assert not {"input.value", "output.value"} & set(captured.one().attributes)

    def test_a_chat_in_json_becomes_input_and_output(self) -> None:
        with self._served(capture_body=True) as (client, captured):
            answer = client.request("POST", "/chat", _JSON, b'{"message": "Hi"}')
            assert json.loads(answer.body) == {"reply": "You said Hi"}
        assert _said(captured.one()) == ("Hi", "You said Hi")

    def test_a_chat_in_server_sent_events_becomes_input_and_output(self) -> None:
        with self._served(capture_body=True) as (client, captured):
            answer = client.request("POST", "/chat-stream", _JSON, b'{"message": "What is it?"}')
            assert answer.body.count(b"data: ") == 5
        assert _said(captured.one()) == ("What is it?", "Paris is it.")

    def test_what_was_sent_before_the_client_went_away_is_kept(self) -> None:
        """web 16"""
        with self._served(capture_body=True) as (client, captured):
            answer = client.request("POST", "/chat-stream", _JSON, b'{"message": "What is it?"}')
            chunks = iter(answer)
            assert next(chunks)
            assert next(chunks)
            answer.close()
        asked, answered = _said(captured.one())
        assert (asked, answered[:8]) == ("What is it?", "Paris is")

    # Options

    def test_hooks_name_user_conversation_and_properties(self) -> None:
        hooks: dict[str, Any] = {
            "user_id": _header("x-user"),
            "convo_id": _header("x-convo"),
            "properties": _always({"plan": "pro"}),
            "event": _always("chat_request"),
        }
        with self._served(**hooks) as (client, captured):
            client.request("GET", "/tool", {"x-user": "u1", "x-convo": "c1"}).close()
        root = captured.one("chat_request")
        assert root.attributes["plan"] == "pro"
        for span in captured.spans:
            assert (span.attributes["user.id"], span.attributes["session.id"]) == ("u1", "c1")

    def test_a_hook_never_reaches_the_app(self) -> None:
        """web 45"""

        def raises(request: Any) -> Any:
            raise RuntimeError("a hook of the host's")

        async def coroutine(request: Any) -> Any:
            return "u1"

        for hook in (raises, coroutine):
            hooks: dict[str, Any] = dict.fromkeys(("user_id", "convo_id", "properties", "event", "exclude"), hook)
            with self._served(**hooks) as (client, captured):
                assert client.request("GET", "/tool").text == "found"
            root = captured.one()
            assert root.name == f"GET {self.template('/tool')}"
            assert not {"user.id", "session.id"} & set(root.attributes)

    def test_excluded_requests_leave_nothing(self) -> None:
        excluding: tuple[Any, ...] = (["/status/*"], _always(True))
        for exclude in excluding:
            with self._served(exclude=exclude) as (client, captured):
                assert client.request("GET", "/status/200").status == 200
            assert not captured.spans

    def test_tracked_leaves_out_requests_in_which_nothing_was(self) -> None:
        with self._served(record="tracked") as (client, captured):
            for path in ("/status/200", "/wp-admin", "/echo/ann", "/status/503", "/raise"):
                client.request("GET", path).close()
        kept = [root.attributes["http.response.status_code"] for root in captured.roots]
        assert kept == [200, 503, 500]

    def test_a_conversation_header_is_taken_when_it_is_clean(self) -> None:
        for value, taken in (("c-1.2:3", "c-1.2:3"), ("two words", None), ("x" * 251, None), ("", None)):
            with self._served(convo_header="X-Convo") as (client, captured):
                client.request("GET", "/status/200", {"x-convo": value}).close()
            assert captured.one().attributes.get("session.id") == taken

    def test_headers_are_recorded_when_asked_for_and_without_secrets(self) -> None:
        names = ["X-Thing", "Authorization", "x-absent"]
        with self._served(capture_headers=names) as (client, captured):
            sent = {"x-thing": "a value", "authorization": "Bearer abcdef0123456789abcdef"}
            client.request("GET", "/status/200", sent).close()
        attributes = captured.one().attributes
        assert attributes["http.request.header.x-thing"] == ["a value"]
        assert "http.request.header.x-absent" not in attributes
        assert "abcdef0123456789" not in repr(attributes)

    def test_the_callers_trace_is_only_a_link(self) -> None:
        """web 86"""
        for sent, linked in (
            (_TRACEPARENT, True),
            (_TRACEPARENT[:-1] + "0", True),
            (_TRACEPARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), False),
            ("nonsense" * 1_000, False),
            ("\xff\xfe", False),
        ):
            for mode in ("link", "ignore"):
                with self._served(trace_context=mode) as (client, captured):
                    client.request("GET", "/status/200", {"traceparent": sent}).close()
                root = captured.one()
                assert root.trace_id != _TRACEPARENT[3:35]
                wanted = [(_TRACEPARENT[3:35], _TRACEPARENT[36:52])] if linked and mode == "link" else []
                assert root.links == wanted

    def test_a_response_header_tells_the_trace_id(self) -> None:
        with self._served(response_header="x-trace-id") as (client, captured):
            told: dict[str, Answer] = {}
            for path in ("/echo/ann", "/stream/2", "/wp-admin"):
                told[path] = client.request("GET", path)
                told[path].close()
        assert [answer.headers["x-trace-id"] for answer in told.values()] == [root.trace_id for root in captured.roots]

    def test_a_forwarded_address_counts_from_trusted_proxies_only(self) -> None:
        """web 85"""
        sent = {"x-forwarded-for": "6.6.6.6, 203.0.113.9, 10.0.0.7"}
        for proxies, address in (
            (None, None),
            ([], "127.0.0.1"),
            (["192.0.2.1"], "127.0.0.1"),
            (["127.0.0.1"], "10.0.0.7"),
            (["127.0.0.0/8", "10.0.0.0/8"], "203.0.113.9"),
        ):
            with self._served(trusted_proxies=proxies) as (client, captured):
                client.request("GET", "/status/200", sent).close()
            assert captured.one().attributes.get("client.address") == address

    def test_a_wrong_option_is_one_clear_error(self) -> None:
        for options in (
            {"record": "some"},
            {"user_id": "u1"},
            {"capture_headers": "x-a"},
            {"exclude": 5},
            {"trusted_proxies": ["nowhere"]},
            {"capture_body": "yes"},
            {"response_header": "x-id", "record": "tracked"},
        ):
            error = self._refusal(options)
            assert isinstance(error, ConfigurationError), f"{options} was accepted"
            assert "Fix: " in str(error)

    def _refusal(self, options: Mapping[str, Any]) -> BaseException | None:
        """Return what is raised when the app is made, or when it is first asked."""
        try:
            with captured_spans() as captured, self.serve(captured.tracker, **options) as client:
                answer = client.request("GET", "/status/200")
                answer.close()
                return answer.error
        except ConfigurationError as error:
            return error

    # Nobody else notices

    def test_hostile_headers_change_nothing(self) -> None:
        """web 3"""
        hostile = {"x-long": "v" * 10_000, "x-bytes": "\xff\xfe\x80", "baggage": "=;,=" * 100, "x-forwarded-for": ",,"}
        options: dict[str, Any] = {
            "capture_headers": list(hostile),
            "convo_header": "x-bytes",
            "trusted_proxies": ["127.0.0.1"],
        }
        with self._served(**options) as (client, captured):
            assert client.request("GET", "/echo/ann", hostile).text == "ann"
        attributes = captured.one().attributes
        assert len(attributes["http.request.header.x-long"][0]) <= 1_000
        assert attributes["client.address"] == "127.0.0.1"

    def test_the_hosts_tracing_sees_nothing_of_us(self) -> None:
        """web 46"""
        with self._served() as (client, _):
            assert json.loads(client.request("GET", "/host").body) == [False, {}]

    def test_an_exporter_that_raises_changes_nothing(self) -> None:
        """web 45"""
        from opentelemetry.sdk.trace.export import SpanExporter

        class Raising(SpanExporter):
            def export(self, spans: Any) -> Any:
                raise RuntimeError("no network")

        with self._served(settings={"exporters": [Raising()]}) as (client, captured):
            assert client.request("GET", "/echo/ann").text == "ann"
            assert client.request("GET", "/stream/2").body == b"chunk" * 2
            captured.tracker.flush(30)
            assert captured.tracker.stats()["recorded"] > 0

    @contextmanager
    def _served(self, settings: Mapping[str, Any] | None = None, **options: Any) -> Generator[tuple[Client, Captured]]:
        with captured_spans(**(settings or {})) as captured, self.serve(captured.tracker, **options) as client:
            yield client, captured


def _said(span: CapturedSpan) -> tuple[str, str]:
    return span.attributes["input.value"], span.attributes["output.value"]


def _always(value: Any) -> Callable[[Any], Any]:
    return lambda request: value


def _header(name: str) -> Callable[[Any], Any]:
    return lambda request: request.headers.get(name)


def _skipped(reason: str) -> Callable[[Any], None]:
    def skipped(self: object) -> None:
        raise unittest.SkipTest(reason)

    return skipped
