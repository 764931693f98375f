"""The cases of the contract about what a request becomes: its span, its children, its streamed body."""

from __future__ import annotations

from rootspan.testing.serving import Serving

__all__ = ["RequestCases"]


class RequestCases(Serving):
    """What a request becomes."""

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

    def test_interactions_without_with_stand_beside_one_another(self) -> None:
        with self._served() as (client, captured):
            assert client.request("GET", "/turns").text == "taken"
        root = captured.one()
        first, second = captured.one("first"), captured.one("second")
        assert {span.parent_id for span in (first, second, captured.one("third"))} == {root.span_id}
        assert [span.attributes["user.id"] for span in (first, second)] == ["u1", "u2"]
        assert captured.one("in the second").parent_id == second.span_id
        assert captured.one("after them").parent_id == root.span_id

    def test_an_interaction_that_the_view_left_open_is_current_in_its_stream(self) -> None:
        with self._served() as (client, captured):
            answer = client.request("GET", "/stream-turn")
            assert answer.text == "chunk"
            answer.close()
            assert captured.tracker.current() is None
        root, turn = captured.one(), captured.one("turn")
        assert (turn.parent_id, captured.one("in the body").parent_id) == (root.span_id, turn.span_id)
        assert (turn.attributes["output.value"], turn.attributes.get("rootspan.outcome")) == ("Hello!", None)
        assert root.end >= turn.end

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

    def test_a_view_that_raises_has_its_template(self) -> None:
        with self._served() as (client, captured):
            client.request("GET", "/raise").close()
        assert captured.one().attributes["http.route"] == self.template("/raise")

    # Streamed bodies

    def test_a_streamed_body_belongs_to_the_request_and_is_measured(self) -> None:
        """web 13, 37"""
        with self._served() as (client, captured):
            assert client.request("GET", "/stream/3").body == b"chunk" * 3
        root = captured.one()
        assert [span.parent_id for span in captured.spans if span != root] == [root.span_id] * 3
        attributes = root.attributes
        assert (attributes["rootspan.stream.chunks"], attributes["rootspan.stream.bytes"]) == (3, 15)
        first, last = (attributes[f"rootspan.stream.time_to_{which}_byte"] for which in ("first", "last"))
        assert 0 <= first <= last <= (root.end - root.start) / 1e9 + 0.1  # from two clocks
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
