"""Whatever begins and ends in whatever order, what is tracked belongs where a plain list of what is open says."""

from __future__ import annotations

import contextvars
import gc
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rootspan import Tracker
from rootspan.interaction import Interaction
from rootspan.scope import Scope
from rootspan.testing import CapturedSpan, captured_spans

_BEGIN, _ENTER, _LATER, _HANDED, _CONTEXT, _TRACK, _FINISH, _ELSEWHERE, _EXIT = range(9)
steps = st.lists(
    st.tuples(
        st.sampled_from([_BEGIN, _BEGIN, _ENTER, _LATER, _HANDED, _CONTEXT, _TRACK, _FINISH, _ELSEWHERE, _EXIT]),
        st.integers(0, 9),
    )
)


@dataclass
class Entry:
    """What was entered: a bare interaction, one with `with`, or a `context`."""

    span: str | None  # its own; of a `context` the one that it was entered in
    around: str | None  # the span that a `begin` in it nests in
    user: str | None
    bare: bool
    starts: bool  # the span, and lasts as long as that
    exit: AbstractContextManager[Any] | Interaction
    ended: bool = False
    behind: bool = False  # it ended in another context, and is not left in this one


class Model:
    """Runs steps with a tracker, and says where each of its spans should be."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self.entered: list[Entry] = []
        self.wanted: dict[str, tuple[str | None, str | None]] = {}  # name: parent and user

    def open(self, bare: bool = True) -> list[Entry]:
        return [entry for entry in self.entered if not entry.ended and (bare or not entry.bare)]

    def place(self, bare: bool) -> tuple[str | None, str | None]:
        """Return parent and user of what starts now, which nests in bare interactions or does not."""
        entries = self.open(bare)
        if not entries:
            return None, None
        span = entries[-1].span if bare else entries[-1].around
        lasting = {entry.span for entry in self.open() if entry.starts and not entry.behind}
        while span is not None and span not in lasting:
            span = self.wanted[span][0]
        return span, entries[-1].user

    def take(self, step: int, number: int) -> None:
        name = f"span {len(self.wanted)}"
        if step in (_BEGIN, _ENTER):
            self.wanted[name] = self.place(bare=False)
            turn, around = self.tracker.begin(name), self.around()
            if step == _ENTER:
                turn.__enter__()
                around = name
            self.entered.append(Entry(name, around, self.wanted[name][1], step == _BEGIN, True, turn))
        elif step in (_LATER, _HANDED) and (begun := self.begun(number)):
            self.enter(begun, step == _HANDED)
        elif step == _CONTEXT:
            inside, user = self.open(), f"user {len(self.entered)}"
            context = self.tracker.context(user_id=user)
            context.__enter__()
            self.entered.append(Entry(inside[-1].span if inside else None, self.around(), user, False, False, context))
        elif step == _TRACK:
            self.wanted[name] = self.place(bare=True)
            self.tracker.track_ai(name)
        elif step == _FINISH and (bare := [entry for entry in self.open() if entry.bare]):
            self.end(bare[number % len(bare)])
        elif step == _ELSEWHERE and (bare := [entry for entry in self.open() if entry.bare]):
            other = contextvars.copy_context() if number % 2 else contextvars.Context()
            other.run(self.end, bare[number % len(bare)])
        elif step == _EXIT and (others := [entry for entry in self.open(bare=False) if not entry.behind]):
            self.end(others[-1])  # as `with` does, the innermost first

    def around(self) -> str | None:
        entries = self.open()
        return entries[-1].around if entries else None

    def begun(self, number: int) -> Entry | None:
        """Return one of the bare interactions that are open, of those that are no block as well."""
        blocks = [entry.exit for entry in self.open(bare=False)]
        found = [entry for entry in self.open() if entry.bare and entry.exit not in blocks]
        return found[number % len(found)] if found else None

    def enter(self, begun: Entry, handed: bool) -> None:
        """Enter a bare interaction as a block, here or in a copy of the context, where it ends at once."""
        if handed:
            other = contextvars.copy_context()
            other.run(begun.exit.__enter__)
            other.run(begun.exit.__exit__, None, None, None)
            begun.ended = True
        else:
            begun.exit.__enter__()
            if begun is self.open()[-1]:
                begun.bare, begun.around = False, begun.span
            else:
                self.entered.append(replace(begun, bare=False, around=begun.span, starts=False))

    def end_all(self) -> None:
        for entry in reversed(self.open()):
            if not entry.behind:
                self.end(entry)

    def end(self, entry: Entry) -> None:
        entry.ended = True
        for begun in self.entered:  # the block of a bare one ends that, too
            begun.ended = begun.ended or (begun.bare and begun.exit is entry.exit)
        if isinstance(entry.exit, Interaction) and entry.bare:
            entry.exit.finish()
        else:
            entry.exit.__exit__(None, None, None)


@settings(deadline=None)
@given(steps, steps)
def test_what_is_open_encloses_what_is_tracked(taken: list[tuple[int, int]], behind: list[tuple[int, int]]) -> None:
    """Also in a task that goes on in a copy of the context when all that is around it has ended."""
    with captured_spans() as captured:
        model = Model(captured.tracker)
        for step, number in taken:
            model.take(step, number)
        while (top := model.open()) and top[-1].bare:
            model.end(top[-1])
        captured.tracker.current()  # leaves what ended elsewhere, which a copy made before would go on in
        left_behind = contextvars.copy_context()
        around = [replace(entry, behind=True) for entry in model.open(bare=False)]
        model.end_all()
        assert captured.tracker.current() is None  # and what ended elsewhere is left by who looks first
        assert captured.tracker._recorder.variable.get() is None
        model.entered = around
        for step, number in behind:
            left_behind.run(model.take, step, number)
        left_behind.run(model.end_all)
    spans = {span.name: span for span in captured.spans}
    ids = {span.span_id: span.name for span in spans.values()}
    found = {name: (_name(span, ids), span.attributes.get("user.id")) for name, span in spans.items()}
    assert found == model.wanted


def _name(span: CapturedSpan, ids: dict[str, str]) -> str | None:
    return None if span.parent_id is None else ids[span.parent_id]


@settings(max_examples=15, deadline=None)  # what else there is takes long to look through
@given(st.integers(1, 40), st.integers(0, 40), st.randoms(use_true_random=False))
def test_what_has_ended_is_not_kept(open_at_once: int, inside: int, random: Any) -> None:
    before = _scopes()
    with captured_spans() as captured:
        tracker, turns = captured.tracker, [captured.tracker.begin("turn") for _ in range(open_at_once)]
        for _ in range(200):
            turns.append(tracker.begin("turn"))
            turns.pop(random.randrange(len(turns))).finish()
            with tracker.begin("around"):
                if random.random() * 40 < inside:
                    turns.append(tracker.begin("inside"))
                    turns.pop(0).finish()
        assert _scopes() - before <= 4 * open_at_once + 60
        for turn in turns:
            turn.finish()


def _scopes() -> int:
    gc.collect()
    return sum(type(thing) is Scope for thing in gc.get_objects())
