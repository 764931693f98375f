"""The runs of one handler, and how each is opened: whose it is, where it stands, and whether it gets a span."""

# Metadata holds whatever the host put there:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from rootspan import Tracker, semconv
from rootspan.adapter import RunTree
from rootspan.freeze import identifier
from rootspan.open_span import holding
from rootspan.record import NOBODY, Identity, Kind
from rootspan_langchain import graphs, invocation
from rootspan_langchain.invocation import Whose
from rootspan_langchain.model_run import ModelRun
from rootspan_langchain.run import ChainRun

__all__ = ["ChainTree"]

_KINDS: Final = {"model": Kind.MODEL, "tool": Kind.TOOL, "retriever": Kind.RETRIEVAL}
_NOTHING: Final[Mapping[str, Any]] = {}


class ChainTree(RunTree):
    """The runs of one handler.

    Args:
        tracker: who records; the default tracker if None.
        own: whose the runs are, where their metadata does not say it.
        tags: labels of every root.
        properties: custom dimensions of every root.
        content: whether what was said is recorded.
        shows: decides whether a run gets a span; None for every run that LangGraph does not hide.
        priced: whether a call of a model is given its price by the price list.
    """

    def __init__(
        self,
        tracker: Tracker | None,
        own: Whose,
        tags: Sequence[str] | None,
        properties: Mapping[str, Any] | None,
        content: bool,
        shows: Callable[[invocation.RunInfo], object] | None,
        priced: bool,
    ) -> None:
        super().__init__(tracker, invocation.current_run_id)
        self.enabled = True
        self.content, self.priced = content, priced
        self._own, self._tags, self._properties, self._shows = own, tags, properties, shows

    def begin(
        self, kind: str, serialized: Any, /, *, run_id: Any, parent_run_id: Any = None, tags: Any = None,
        metadata: Any = None, name: Any = None, **event: Any,
    ) -> ChainRun | None:  # fmt: skip
        """Open a run, unless it is known, with what every start event tells."""
        if self.is_known(run_id):
            return None
        above = self.parent(parent_run_id)
        parent = above if isinstance(above, ChainRun) else None
        if not self.enabled and (parent is None or parent.owner is not self):
            return None
        metadata = metadata or _NOTHING
        labels = invocation.labels(tuple(map(str, tags or ())))
        name = name or (serialized or {}).get("name") or ((serialized or {}).get("id") or [kind])[-1]
        ns = metadata.get("langgraph_checkpoint_ns")
        is_node = parent is not None and ns is not None and parent.ns != ns
        if parent is not None and is_node and not parent.is_graph and not graphs.is_task(metadata):
            self._call_agent(parent, metadata)
        shown = not labels.hidden
        if self._shows is not None:
            shown = self._shown(invocation.RunInfo(name, kind, tags or [], metadata, parent is None, is_node))
        told = invocation.whose(metadata)
        run = (ModelRun if kind == "model" else ChainRun)(run_id, parent, self)
        run.ns = ns
        run.chooses = is_node and not labels.hidden  # an older LangGraph has such runs repeat what their node chose
        # A hidden run has no span that its children could inherit it from.
        run.told = told if shown or parent is None else parent.told
        task = invocation.awaiting_task() if kind in _KINDS else None
        of = _KINDS.get(kind, Kind.INTERACTION if parent is None else Kind.STEP)
        self.open(run, of, name, self._identity(parent, told, labels.own, metadata), shown, task)
        if parent is None:
            self._place_root(run, metadata)
        if is_node or labels.attempt is not None:
            run.set_attributes(invocation.place(metadata if is_node else _NOTHING, labels.attempt))
        return run

    def _call_agent(self, graph: ChainRun, metadata: Any) -> None:
        """Call a run an agent once its first node shows that it is a graph; an older LangChain does not name it."""
        graph.is_graph, span = True, graph.span
        if span is not None and not span.finished:
            span.set(operation=semconv.Operation.INVOKE_AGENT)
            caller = None if graph.parent is None else graph.parent.told.agent_name
            # A caller's configuration that is passed on names the caller.
            if metadata.get("lc_agent_name") in (None, caller) and span.name != "LangGraph":
                span.holder = holding(span.holder.identity._replace(agent_name=span.name))
                if span.parent is not None:
                    span.parent.took(agent_name=span.name)

    def _shown(self, info: invocation.RunInfo) -> bool:
        try:
            return bool(self._shows and self._shows(info))
        except Exception as error:
            self.recorder.warn("include", "the include= function raised %r; the run is recorded", error)
            return True

    def _identity(self, parent: ChainRun | None, told: Whose, labels: tuple[str, ...], metadata: Any) -> Identity:
        """Return what this run says of whose it is, beside what it inherits."""
        above = None if parent is None or parent.owner is not self else parent.nearest
        if parent is None or above is None:
            return self._foremost(told, labels, metadata if parent is None else None)
        if told is invocation.UNNAMED and not labels:
            return NOBODY
        known = above.holder.identity
        news = invocation.news(told, parent.told, known)
        labels = tuple(tag for tag in labels if tag not in known.tags) if labels else ()
        return NOBODY if news is invocation.UNNAMED and not labels else self.recorder.identity(*news, labels)

    def _foremost(self, told: Whose, labels: tuple[str, ...], metadata: Any) -> Identity:
        """Return whose the first run of this handler in a tree is; with metadata it is the root."""
        own, recorder = self._own, self.recorder
        thread = properties = None
        if metadata is not None:
            thread = metadata.get("thread_id")
            properties = {**(self._properties or {}), **invocation.properties(metadata)}
        user = invocation.given(told.user_id, own.user_id)
        convo = invocation.given(told.convo_id, own.convo_id, thread)
        tags = recorder.tags(self._tags) + labels
        return recorder.identity(user, convo, told.agent_name, tags or None, properties or None)

    def _place_root(self, run: ChainRun, metadata: Any) -> None:
        """Keep which invocation of what it is."""
        run.thread = metadata.get("thread_id")
        told = {semconv.ROOTSPAN_RUN_ID: str(run.run_id), semconv.LANGGRAPH_THREAD_ID: identifier(run.thread)}
        if run.span is not None and run.span.kind == Kind.INTERACTION:
            run.set_attributes(told, operation=invocation.operation(metadata))
        else:
            run.set_attributes(told)
