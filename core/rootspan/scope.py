"""Where the running code is: the private context variable, and what was entered and left in it."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import TypeAlias

from rootspan.open_span import Holder, OpenSpan

__all__ = ["Enclosing", "Scope", "ScopeLookup", "inside"]


class Scope:
    """One entry of the context variable: the span the code runs in, and whose work it is; made by `inside`."""

    __slots__ = ("bare", "base", "lost", "outer", "own", "span", "token")

    span: OpenSpan | None
    own: Holder | None
    outer: Scope | None
    base: Scope | None  # of a bare interaction: what encloses the bare ones that it stands in
    bare: bool  # `begin` without `with`, or a `context` in that: the next bare `begin` does not nest in it
    lost: bool  # left in another context than it was entered in, where nobody leaves it any more
    token: Token[Scope | None] | None  # of where it was entered, until it is left there

    @property
    def holder(self) -> Holder:
        """The identity that holds here."""
        return self.own or self.span.holder  # type: ignore[union-attr]  # what has no span is a `context`

    @property
    def over(self) -> bool:
        """Whether it has ended: a span's with that, a `context` where it was left."""
        return self.token is None if self.own is not None or self.span is None else self.span.finished

    @property
    def gone(self) -> bool:
        """Whether nobody goes on in it, or is to leave it: it is lost, or a bare interaction's that has ended.

        Anything else that has ended may have been copied with its context: a background task goes on inside it.
        """
        return self.lost or (self.bare and self.own is None and self.span is not None and self.span.finished)

    def like(self, other: Scope) -> bool:
        """Whether it is another one, or was made of that where something around it was left first."""
        return self.span is other.span and self.own is other.own

    def around(self) -> Scope | None:
        """Return what it was entered in, but for what is gone."""
        outer = self.outer
        while outer is not None and outer.gone:
            outer = outer.outer
        return outer


def inside(span: OpenSpan | None, holder: Holder | None = None, outer: Scope | None = None) -> Scope:
    """Return a new scope.

    Args:
        span: the span; None in a `context` outside of any.
        holder: of a `context`, the identity that holds in it; the span's own everywhere else.
        outer: the scope around it.
    """
    scope = Scope()
    scope.span = span
    scope.own = holder
    scope.token = scope.base = None
    scope.lost = scope.bare = False
    if outer is not None:
        if holder is not None:
            scope.bare = outer.bare
        # What `over` says, without its call.
        if outer.lost or (outer.span is not None and outer.span.finished) or (outer.own and outer.token is None):
            outer = _going_on(outer)
        scope.base = outer
        if outer is not None and outer.bare and outer.own is None:
            scope.base = outer.base
    scope.outer = outer
    return scope


def _going_on(scope: Scope) -> Scope | None:
    """Return a scope that has ended where work goes on in it, or what is around it, without what ended around that.

    Work that was left behind needs no more than the innermost of what it was left by; the rest must not be kept.
    """
    found = scope.around() if scope.gone else scope
    if found is not None and found.over and found.token is None:
        while (outer := found.outer) is not None and (outer.gone or (outer.over and outer.token is None)):
            found.outer = found.base = outer.outer
    return found


def _without(left: Scope, current: Scope) -> Scope | None:
    """Return the chain of one context without a scope that was left there before those inside it."""
    above: list[Scope] = []
    found: Scope | None = current
    while found is not None and not found.like(left):
        if not found.lost:
            above.append(found)
        found = found.outer
    if found is None:
        return current
    outer = found.around()
    for scope in reversed(above):  # copied, because other contexts have them as well
        copy = inside(scope.span, scope.own, outer)
        copy.token, copy.bare = scope.token, scope.bare
        outer = copy
    return outer


ScopeLookup: TypeAlias = "Callable[[], OpenSpan | None]"
"""How a framework that passes its own context tells which of our spans the running code is in."""


class Enclosing:
    """Answers "where am I": the context variable of one tracker, and the look-ups that adapters registered."""

    __slots__ = ("look_ups", "variable")

    def __init__(self) -> None:
        self.variable: ContextVar[Scope | None] = ContextVar("rootspan_scope", default=None)
        self.look_ups: tuple[ScopeLookup, ...] = ()

    def register(self, look_up: ScopeLookup) -> None:
        """Add a look-up, once."""
        if look_up not in self.look_ups:
            self.look_ups += (look_up,)

    def scope(self) -> Scope | None:
        """Return the innermost scope, or None outside of any."""
        return self.named(self.variable.get())

    def named(self, scope: Scope | None) -> Scope | None:
        """Return a scope, or inside it the one of a span that a look-up names, unless the scope is in that already."""
        for look_up in self.look_ups:
            span = look_up()
            if span is not None and (scope is None or scope.span is None or not scope.span.is_in(span)):
                scope = inside(span, None, scope)
        return scope

    def around(self, scope: Scope) -> Scope | None:
        """Return what a scope that was left is in, be it only by a look-up, which adds nothing to the scope's own."""
        return self.named(scope.around())

    def leave(self, scope: Scope) -> bool:
        """Make current again what a scope was entered in, where it is current still.

        A block ends where it was entered, or it is lost. A bare interaction may end anywhere; `is_left` finds out where
        it was begun.

        Returns:
            Whether it is still entered, in another context or around a generator's step that ended it.
        """
        block = scope.own is not None or not scope.bare
        entered = outer = scope.outer
        variable, token = self.variable, scope.token
        if outer is not None and (
            outer.lost or (outer.span is not None and outer.span.finished) or (outer.own and outer.token is None)
        ):
            # Whoever still has this one must not keep all that ever was.
            outer = scope.outer = scope.base = _going_on(outer)
        after = before = current = variable.get()
        if not block and current is not scope and (current is None or not current.like(scope)):
            return True
        elsewhere = False
        if token is not None:
            if block:
                scope.token = None
            try:
                variable.reset(token)  # it knows its context
                scope.token, before = None, token.old_value
            except ValueError:
                elsewhere, scope.lost = True, block
            except RuntimeError:  # another thread leaves it as well
                pass
        if current is scope:
            after = outer
            if before is not entered and before is not scope and type(before) is Scope and before.gone:
                # A bare interaction that had ended before: this is a copy of its context, which goes on in it.
                after = outer if before.lost else before
        elif current is not None and (token is not None or current.like(scope)):
            after = _without(scope, current)
        if after is not before:
            variable.set(after)
        return elsewhere

    def is_left(self, scope: Scope) -> bool:
        """Return whether a scope that was entered in this very context was left elsewhere.

        Who finishes a bare interaction in another thread or task cannot leave it here, so it is left by whoever looks
        next. A copy of the context, such as a background task's, goes on in it.
        """
        token = scope.token
        if scope.lost:
            return True
        if token is None or not scope.gone:
            return False
        variable = self.variable
        current = variable.get()
        try:
            variable.reset(token)
        except (ValueError, RuntimeError):
            return False
        scope.token = None
        variable.set(scope.around() if current is scope else current)
        return True
