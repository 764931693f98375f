"""What a start event tells about a run: its name, whose it is, which agent and node, and whether it gets a span."""

# Metadata holds whatever the host put there:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from langchain_core.runnables.config import var_child_runnable_config

from rootspan import semconv
from rootspan.freeze import identifier
from rootspan.record import AttributeValue, Identity

__all__ = [
    "UNNAMED", "Labels", "RunInfo", "Whose", "awaiting_task", "current_run_id", "labels",
    "news", "operation", "place", "properties", "shown_in_agent", "whose",
]  # fmt: skip

_USERS: Final = ("user_id", "userId", "langfuse_user_id", "ls_user_id")
_CONVOS: Final = (
    "session_id", "conversation_id", "convo_id", "sessionId", "conversationId", "langfuse_session_id",
)  # fmt: skip
_AGENTS: Final = ("langgraph", "langchain_create_agent")
_IDENTITY: Final = frozenset((*_USERS, *_CONVOS))
_FRAMEWORK: Final = (
    "ls_", "lc_", "langgraph_", "langfuse_", "checkpoint_", "__pregel",
    "LANGCHAIN_", "LANGGRAPH_", "LANGSMITH_", "REVISION",
)  # fmt: skip
_OWN: Final = frozenset({*_IDENTITY, "thread_id", "revision_id", "run_id", "assistant_id", "graph_id"})
_INTERNAL_TAGS: Final = ("seq:step:", "map:key:", "graph:step:", "retry:attempt:", "langsmith:", "condition:")
_HIDDEN: Final = "langsmith:hidden"
_ATTEMPT: Final = "retry:attempt:"
_DRIVERS: Final = ("ahandle_event", "_ahandle_event_for_handler")
_SCALARS: Final = (str, int, float)  # or what derives from one, as bool and many enums do


class RunInfo(NamedTuple):
    """What `include=` is given to decide whether a run gets a span.

    Args:
        name: the run's name.
        type: `chain`, `prompt`, `parser`, `model`, `tool` or `retriever`.
        tags: LangChain's tags, its own included.
        metadata: LangChain's metadata.
        is_root: whether nothing is known above it.
        is_node: whether it is a node of a graph.
    """

    name: str
    type: str
    tags: Sequence[str]
    metadata: Mapping[str, Any]
    is_root: bool
    is_node: bool


class Whose(NamedTuple):
    """User, conversation and agent, as far as an invocation's metadata names them."""

    user_id: Any = None
    convo_id: Any = None
    agent_name: Any = None


UNNAMED: Final = Whose()
"""Nobody is named."""


def whose(metadata: Mapping[str, Any]) -> Whose:
    """Return whose run it is."""
    agent = metadata.get("lc_agent_name")
    if _IDENTITY.isdisjoint(metadata):
        return UNNAMED if agent is None else Whose(None, None, agent)
    return Whose(given(*map(metadata.get, _USERS)), given(*map(metadata.get, _CONVOS)), agent)


def news(told: Whose, before: Whose, known: Identity) -> Whose:
    """Return what is told, was not told to the run above, and is not known: LangChain copies metadata to each child."""
    user = _new(told.user_id, before.user_id, known.user_id)
    convo = _new(told.convo_id, before.convo_id, known.convo_id)
    agent = _new(told.agent_name, before.agent_name, known.agent_name)
    return UNNAMED if user is convo is agent is None else Whose(user, convo, agent)


def _new(value: Any, before: Any, known: str | None) -> Any:
    if value is None or value is before or value is known:
        return None
    text = identifier(value)  # runs none of the value's own code
    return None if text is not None and text in (identifier(before), known) else value


def operation(metadata: Mapping[str, Any]) -> str:
    """Return what an invocation is called by the conventions."""
    is_agent = "lc_agent_name" in metadata or metadata.get("ls_integration") in _AGENTS
    return semconv.Operation.INVOKE_AGENT if is_agent else semconv.Operation.INVOKE_WORKFLOW


def given(*values: Any) -> Any:
    """Return the first that is neither None nor an empty text; 0 is a user like any other."""
    for value in values:
        if value is not None and not (type(value) is str and not value):
            return value
    return None


def properties(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the host's own metadata; what is no scalar is left out, because its text may show a credential."""
    return {
        name: value
        for name, value in metadata.items()
        if issubclass(type(value), _SCALARS)
        and type(name) is str
        and name not in _OWN
        and not name.startswith(_FRAMEWORK)
    }


class Labels(NamedTuple):
    """What the tags of a run tell."""

    own: tuple[str, ...]  # the host's
    attempt: int | None  # of a retried run; the first one is not marked
    hidden: bool  # LangGraph's own plumbing


@functools.lru_cache(256)
def labels(tags: tuple[str, ...]) -> Labels:
    """Return what the tags of a run tell; the same few come again and again."""
    own = tuple(tag for tag in tags if not tag.startswith(_INTERNAL_TAGS))
    attempts = [tag[len(_ATTEMPT) :] for tag in tags if tag.startswith(_ATTEMPT)]
    attempt = next((int(number) for number in attempts if number.isdigit()), None)
    return Labels(own, attempt, _HIDDEN in tags)


def place(metadata: Mapping[str, Any], attempt: int | None) -> dict[str, AttributeValue]:
    """Return where in its graph a node stands, and which attempt of a retried run it is."""
    found: dict[str, Any] = {
        semconv.ROOTSPAN_RUN_ATTEMPT: attempt,
        semconv.LANGGRAPH_NODE: metadata.get("langgraph_node"),
        semconv.LANGGRAPH_STEP: metadata.get("langgraph_step"),
        semconv.LANGGRAPH_CHECKPOINT_NS: metadata.get("langgraph_checkpoint_ns"),
        semconv.LANGGRAPH_CHECKPOINT_ID: metadata.get("checkpoint_id"),
    }
    return {name: value for name, value in found.items() if type(value) in (str, int) and value != ""}


def shown_in_agent(info: RunInfo) -> bool:
    """Return whether a run gets a span in less detail: no step that only passes on, nor what LangGraph hides."""
    if _HIDDEN in info.tags:
        return False
    called = info.type in ("model", "tool", "retriever")
    return called or info.is_root or info.is_node or info.name == info.metadata.get("lc_agent_name")


def current_run_id() -> Any:
    """Return the id of the run that the code is in: LangChain's own variable, which is read and never set."""
    config = var_child_runnable_config.get()
    return None if config is None else getattr(config.get("callbacks"), "parent_run_id", None)


def awaiting_task() -> asyncio.Task[Any] | None:
    """Return the task that awaits what starts now; an older LangChain starts chat models in a task of their own."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return None if task is None or getattr(task.get_coro(), "__name__", "") in _DRIVERS else task
