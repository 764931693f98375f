"""What only LangGraph does: it interrupts, resumes and hands over, and none of that is an error."""

# LangGraph may be absent, so what comes from it has no type here:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.callbacks import BaseCallbackHandler

__all__ = [
    "HAS_EVENTS", "GraphHandler", "goto", "is_command", "is_control_flow", "is_interrupt", "is_task", "payload",
    "unwrapped",
]  # fmt: skip

try:
    from langgraph.callbacks import GraphCallbackHandler as GraphHandler  # only such handlers hear of interrupts

    HAS_EVENTS: Final = True
except Exception:  # LangGraph is not there, is older than these events, or its import warns where warnings are errors
    GraphHandler = BaseCallbackHandler  # type: ignore[assignment, misc]
    HAS_EVENTS = False  # type: ignore[misc]  # pyright: ignore[reportConstantRedefinition]


@functools.lru_cache(256)
def _is_a(kind: Any, module: str, name: str) -> bool:
    """Return whether a class is one of LangGraph's; a value is told by its class: names and texts are anybody's."""
    known = getattr(sys.modules.get(module), name, None)  # imported already, where there is such a value
    return isinstance(known, type) and issubclass(kind, known)


def is_control_flow(error: BaseException) -> bool:
    """Return whether an exception is how LangGraph moves on: an interrupt, a hand-over to a parent, a drain."""
    kind: Any = type(error)
    return _is_a(kind, "langgraph.errors", "GraphBubbleUp")


def is_interrupt(error: BaseException) -> bool:
    """Return whether an exception is an interrupt."""
    kind: Any = type(error)
    return _is_a(kind, "langgraph.errors", "GraphInterrupt")


def is_command(value: object) -> bool:
    """Return whether a value is a `Command`."""
    kind: Any = type(value)
    return _is_a(kind, "langgraph.types", "Command")


def is_task(metadata: Any) -> bool:
    """Return whether a step is a `@task`, which any code of a graph may call: what is above it is no graph by that."""
    path = metadata.get("langgraph_path")
    return type(path) is tuple and len(path) > 2 and type(path[1]) is tuple  # the path of what called it


def unwrapped(output: Any) -> Any:
    """Return what a node's `Command` writes into the state, where that is all it does; else the output itself."""
    only: Any = output[0] if type(output) is list and len(output) == 1 else output
    return only.update if is_command(only) and only.update and not (only.goto or only.resume) else output


def payload(interrupts: Any) -> list[Any]:
    """Return what each interrupt asks."""
    found = interrupts if isinstance(interrupts, (list, tuple)) else [interrupts]
    return [getattr(interrupt, "value", interrupt) for interrupt in found]


def goto(value: Any) -> list[str]:
    """Return where a `Command`, a list of them or a `ParentCommand` goes next, each place once."""
    if issubclass(type(value), BaseException):
        value = value.args[0] if value.args else None
    found: list[str] = []
    for command in value if issubclass(type(value), (list, tuple)) else [value]:
        if is_command(command):
            targets: Any = command.goto
            several: Sequence[Any] = targets if isinstance(targets, (list, tuple)) else [targets]
            found += [str(getattr(target, "node", target)) for target in several if target]
    return list(dict.fromkeys(found))
