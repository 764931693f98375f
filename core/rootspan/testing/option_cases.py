"""The cases of the contract about options and bodies, and about what nobody else may notice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from rootspan.errors import ConfigurationError
from rootspan.testing.captured import CapturedSpan, captured_spans
from rootspan.testing.clients import Answer
from rootspan.testing.serving import Serving

__all__ = ["OptionCases"]

_TRACEPARENT: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_JSON: Final = {"content-type": "application/json"}


class OptionCases(Serving):
    """What the options do."""

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

        async def coroutine(request: Any) -> Any: ...

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
            told = client.request("GET", "/current").text  # an id that was handed out may be looked up
        kept = [root.attributes["http.response.status_code"] for root in captured.roots]
        assert kept == [200, 503, 500, 200]
        assert captured.roots[-1].trace_id == told

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

    def test_a_response_header_that_the_app_sets_itself_stays(self) -> None:
        with self._served(response_header="Content-Type") as (client, captured):
            answer = client.request("POST", "/chat", _JSON, b'{"message": "Hi"}')
            assert json.loads(answer.body) == {"reply": "You said Hi"}
        assert answer.headers["content-type"].startswith("application/json")
        assert captured.one().attributes["http.response.status_code"] == 200

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
            {"exclude": ["health"]},
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
        hostile = {"x-long": "v" * 8_000, "x-bytes": "\xff\xfe\x80", "baggage": "=;,=" * 100, "x-forwarded-for": ",,"}
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


def _said(span: CapturedSpan) -> tuple[str, str]:
    return span.attributes["input.value"], span.attributes["output.value"]


def _always(value: Any) -> Callable[[Any], Any]:
    return lambda request: value


def _header(name: str) -> Callable[[Any], Any]:
    return lambda request: request.headers.get(name)
