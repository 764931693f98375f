"""Writes what the caller or an adapter names: properties, metrics and ready-made attributes."""

# Host values are told apart at run time, so what they hold is unknown by nature:
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, cast

from rootspan import semconv
from rootspan.dialect.draft import Draft
from rootspan.dialect.json_like import dumps, is_object
from rootspan.record import Kept

__all__ = ["write_attributes", "write_host_attributes", "write_metrics", "write_properties"]

_HEADERS: Final = (f"{semconv.HTTP_REQUEST_HEADER}.", f"{semconv.HTTP_RESPONSE_HEADER}.")
# Under names of ours, which no rule for keys is meant for, and yet the host's own words.
_WORDS: Final = frozenset({semconv.LANGGRAPH_NODE, semconv.LANGGRAPH_THREAD_ID, semconv.GEN_AI_REQUEST_STOP_SEQUENCES})


def write_attributes(draft: Draft) -> None:
    """Write an adapter's attributes under their own names."""
    for name, value in _given(draft, "attributes"):
        if name not in semconv.NAMES or name in semconv.CONTENT:  # the caller's own values
            # Under its name, so that the key denylist sees it.
            value = draft.redactor.value("attributes", {name: value}).get(name)
        elif name in _WORDS:
            value = draft.redactor.value("attributes", value)
        if value is not None:
            draft.attributes[name] = draft.typed(value)


def write_host_attributes(draft: Draft) -> None:
    """Write attributes whose values came from outside, such as captured headers."""
    for name, value in _given(draft, "host_attributes"):
        path, _, key = name.rpartition(".")
        # Only that one value is left, whatever the key of a denied one became.
        (value,) = draft.redactor.value(path, {key: value}).values()
        if value is not None:
            header = name.startswith(_HEADERS)
            draft.attributes[name] = draft.typed([value] if header and isinstance(value, str) else value)


def _given(draft: Draft, field: str) -> list[tuple[str, Any]]:
    """Return the ready-made attributes of a field; without content those that hold any are left out."""
    given = draft.more.get(field)
    if not isinstance(given, Mapping):
        return []
    capture = draft.plan.capture
    return [
        (name, value)
        for name, value in cast("Mapping[str, Any]", given).items()
        if value is not None and (capture or not (name in semconv.CONTENT or name.startswith(_HEADERS)))
    ]


def write_metrics(draft: Draft) -> None:
    """Write the numbers that a session or an interaction ended with."""
    given = draft.more.get("custom_metrics")
    metrics = None if given is None else draft.reveal("custom_metrics", given)
    if not is_object(metrics):
        return
    clashing = _clashing(metrics)
    for key, value in metrics.items():
        if value is not None:
            name = key.replace(".", "_") if key in clashing else key
            draft.attributes[f"{semconv.ROOTSPAN_METRIC}.{name}"] = draft.typed(value)


def write_properties(draft: Draft) -> None:
    """Write properties as attributes where they hide nothing, and all of them as `metadata`."""
    record = draft.record
    inherited = record.inherited
    outer = None if inherited is None else inherited.properties
    if outer is None:
        metadata = {} if record.properties is None else _revealed(draft, record.properties)
    else:
        metadata = {**_revealed(draft, outer), **_revealed(draft, record.properties)}
    if metadata or draft.plan.extras:
        _write_each(draft, metadata)
    if draft.convo is not None:
        metadata["session_id"] = draft.convo
    if draft.user is not None:
        metadata["user_id"] = draft.user
    if metadata:
        text = dumps(metadata)
        draft.attributes[semconv.METADATA] = text if len(text) <= draft.plan.slack else draft.json(metadata)


def _revealed(draft: Draft, frozen: Kept) -> dict[str, Any]:
    """Return properties without secrets and without those that are None."""
    found = draft.reveal("properties", frozen)
    if not is_object(found):
        return {} if found is None else {"properties": found}
    return {key: value for key, value in found.items() if value is not None} if None in found.values() else found


def _write_each(draft: Draft, properties: dict[str, Any]) -> None:
    attributes, plan = draft.attributes, draft.plan
    is_free, slack = semconv.is_free, plan.slack
    blocked: Collection[str] = _clashing(properties) if "." in "".join(properties) else ()
    if plan.extras:
        _write_vendors(draft, {key: value for key, value in properties.items() if key not in blocked})
    if "attributes" in draft.more or "host_attributes" in draft.more:
        is_near = semconv.near(attributes.keys() - semconv.NAMES)
        blocked = {key for key in properties if key in blocked or is_near(key)}
    for key, value in properties.items():
        if not is_free(key) or key in blocked:
            continue
        kind: Any = type(value)  # the common ones first, without a call
        if kind is str:
            attributes[key] = value if len(value) <= slack else draft.short(value)
        elif kind is bool or kind is float or (kind is int and -(2**63) <= value < 2**63):
            attributes[key] = value
        else:
            attributes[key] = draft.typed(value)


def _clashing(keys: Mapping[str, Any]) -> Collection[str]:
    """Return the keys of which one is a dotted prefix of another: backends that nest attributes lose one of them."""
    return {name for key in keys for head in semconv.heads(key) if head in keys for name in (key, head)}


def _write_vendors(draft: Draft, properties: Mapping[str, Any]) -> None:
    extras, attributes = draft.plan.extras, draft.attributes
    if "traceloop" in extras:
        own = {"user_id": draft.user, "convo_id": draft.convo}
        for key, value in {**properties, **own}.items():
            if value is not None:
                attributes.setdefault(f"{semconv.TRACELOOP_PROPERTIES}.{key}", draft.typed(value))
    for key, value in properties.items():
        if "langfuse" in extras:
            attributes[f"{semconv.LANGFUSE_TRACE_METADATA}.{key}"] = draft.typed(value)
        if "mlflow" in extras:
            text = value if isinstance(value, str) else draft.json(value)
            attributes[f"{semconv.MLFLOW_TRACE_TAG}.{key}"] = draft.typed(text)
    if "bentolabs" in extras and draft.user is not None:
        attributes[semconv.GEN_AI_USER_ID] = draft.user
