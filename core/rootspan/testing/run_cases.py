"""The contract of an adapter for chains, agents and graphs: every case, written once."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.context import get_current

from rootspan.testing.captured import CapturedSpan, captured_spans
from rootspan.tracker import Tracker

__all__ = ["RunTreeContract"]


class _Broken(Exception):
    """What the work of a test raises."""


class RunTreeContract:
    """What holds for every adapter of chains, agents and graphs; pytest collects the tests of a subclass.

    Example:
        >>> class TestMyFramework(RunTreeContract):
        ...     def invoke(self, tracker, work, user_id=None, convo_id=None):
        ...         return my_framework.run(work, hooks=[MyHook(tracker, user_id, convo_id)])
        ...
        ...     def step(self, name, work):
        ...         return my_framework.step(name, work)
    """

    def invoke(self, tracker: Tracker, work: Callable[[], Any], user_id: Any = None, convo_id: Any = None) -> Any:
        """Run `work` as one whole invocation of the framework, with the adapter on it, and return what it returns."""
        raise NotImplementedError

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        """Run `work`, inside an invocation, as a step of that name which the framework itself tells the adapter of."""
        raise NotImplementedError

    def _recorded(self, use: Callable[[Tracker], Any]) -> list[CapturedSpan]:
        with captured_spans() as captured:
            use(captured.tracker)
            spans = captured.spans
            assert not captured.tracker.stats()["dropped"], "the adapter made a mistake while it recorded"
            return spans

    def test_an_invocation_is_one_root_with_its_steps_below(self) -> None:
        """One trace, one root, and every step below what called it."""

        def work() -> str:
            return str(self.step("outer", lambda: self.step("inner", lambda: "done")))

        answers: list[str] = []
        spans = self._recorded(lambda tracker: answers.append(self.invoke(tracker, work)))
        assert answers == ["done"]
        assert len({span.trace_id for span in spans}) == 1
        assert [name for name in _path(spans, "inner") if name in ("outer", "inner")] == ["outer", "inner"]
        assert len(_roots(spans)) == 1

    def test_each_invocation_is_a_trace_of_its_own(self) -> None:
        """Also when one follows the other in the same context."""
        spans = self._recorded(lambda tracker: [self.invoke(tracker, str) for _ in range(3)])
        assert len(_roots(spans)) == len({span.trace_id for span in spans}) == 3

    def test_identity_is_on_every_span_and_never_on_anothers(self) -> None:
        """With many threads at once."""

        def work() -> Any:
            return self.step("outer", lambda: self.step("inner", lambda: "done"))

        def use(tracker: Tracker) -> None:
            def one(number: int) -> None:
                self.invoke(tracker, work, f"u{number}", f"c{number}")

            threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        spans = self._recorded(use)
        told = {(span.trace_id, span.attributes.get("user.id"), span.attributes.get("session.id")) for span in spans}
        assert len(told) == len(_roots(spans)) == 8
        assert {(user, session) for _, user, session in told} == {(f"u{n}", f"c{n}") for n in range(8)}

    def test_what_is_tracked_inside_a_step_lands_below_it(self) -> None:
        """By the framework's own word on where the code is."""

        def use(tracker: Tracker) -> None:
            self.invoke(tracker, lambda: self.step("outer", lambda: tracker.track_ai("inside")), "u1")

        spans = self._recorded(use)
        assert _path(spans, "inside")[-2:] == ["outer", "inside"]
        assert {span.attributes.get("user.id") for span in spans} == {"u1"}

    def test_an_invocation_inside_an_interaction_is_its_child(self) -> None:
        """It is the interaction's work, and inherits whose it is."""

        def use(tracker: Tracker) -> None:
            with tracker.begin("turn", user_id="u1", convo_id="c1"):
                self.invoke(tracker, lambda: self.step("outer", lambda: "done"))

        spans = self._recorded(use)
        assert _path(spans, "outer")[0] == "turn"
        assert {span.attributes.get("session.id") for span in spans} == {"c1"}

    def test_an_exception_is_an_error_where_it_passed_and_reaches_the_host_untouched(self) -> None:
        """The very same object, and no span is left open."""
        error = _Broken("broken")

        def fail() -> None:
            raise error

        raised: list[BaseException] = []

        def use(tracker: Tracker) -> None:
            try:
                self.invoke(tracker, lambda: self.step("outer", fail))
            except _Broken as caught:
                raised.append(caught)

        spans = self._recorded(use)
        assert raised == [error], "the exception was swallowed, or is another one"
        outer = next(span for span in spans if span.name == "outer")
        assert outer.failed
        assert _roots(spans)[0].failed
        assert outer.attributes["error.type"].endswith("_Broken")

    def test_a_step_that_outlives_a_failed_parent_loses_nothing(self) -> None:
        """A failure that the host handled is an error on its step alone."""

        def fail() -> None:
            raise _Broken("broken")

        def work() -> str:
            try:
                self.step("first", fail)
            except _Broken:
                return str(self.step("second", lambda: "done"))
            raise AssertionError("the exception was swallowed")  # pragma: no cover  (of a broken integration)

        spans = self._recorded(lambda tracker: self.invoke(tracker, work))
        failed = {span.name: span.failed for span in spans}
        assert (failed["first"], failed["second"]) == (True, False)
        assert not _roots(spans)[0].failed

    def test_the_hosts_context_is_never_touched(self) -> None:
        """Neither during an invocation nor after it."""
        seen: list[Any] = []

        def use(tracker: Tracker) -> None:
            before, ours = get_current(), _private()
            self.invoke(tracker, lambda: self.step("outer", lambda: seen.append(get_current())))
            assert get_current() == before == seen[0]
            assert _private() == ours

        self._recorded(use)


def _private() -> dict[Any, Any]:
    """Return rootspan's own context variables, as they are in the running context."""
    return {
        variable: value
        for variable, value in contextvars.copy_context().items()
        if "rootspan" in variable.name and value is not None
    }


def _roots(spans: Sequence[CapturedSpan]) -> list[CapturedSpan]:
    return [span for span in spans if span.parent_id is None]


def _path(spans: Sequence[CapturedSpan], name: str) -> list[str]:
    """Return the names from the root to the first span of that name."""
    by_id = {span.span_id: span for span in spans}
    span: CapturedSpan | None = next(span for span in spans if span.name == name)
    names: list[str] = []
    while span is not None:
        names.insert(0, span.name)
        span = by_id.get(span.parent_id or "")
    return names
