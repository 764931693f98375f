"""The options of a tracker as keywords, for type checkers and editors; at run time `resolve` checks what is passed."""

# No `annotations` of the future: a TypedDict compiles each of them that is text, half a millisecond of each start.

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Union
from uuid import UUID

if TYPE_CHECKING:
    from typing import TypeAlias, TypeVar

    from opentelemetry.sdk.trace.export import SpanExporter

    if sys.version_info >= (3, 11):
        from typing import Unpack
    else:  # which does not have it: there any keyword may be anything
        _T = TypeVar("_T")
        Unpack: TypeAlias = Union[_T, Any]  # noqa: UP007
else:  # a name for whoever asks for a function's type hints
    Unpack = Union

__all__ = ["Options", "SharedOptions", "Unpack"]


class SharedOptions(TypedDict, total=False):
    """The options that a web adapter has no option of the same name for."""

    endpoint: str | None
    api_key: str | None
    headers: Mapping[str, str] | None
    insecure: bool | None
    protocol: Literal["http/protobuf", "http/json"] | None
    compression: Literal["gzip", "none"] | None
    timeout: float | None
    certificate: str | PathLike[str] | None
    client_certificate: str | PathLike[str] | None
    client_key: str | PathLike[str] | None
    exporters: "Sequence[SpanExporter] | None"
    service_name: str | None
    service_version: str | None
    environment: str | None
    agent_name: str | Callable[[], object] | None
    tags: Collection[str] | Callable[[], object] | None
    sample_rate: float | None
    disabled: bool | None
    extras: Collection[str] | None
    capture_content: bool | None
    redact: Callable[[str, Any], object] | None
    redact_text: bool | None
    redact_pii: bool | Collection[str] | None
    redact_keys: Collection[str] | None
    max_content_length: int | None
    max_queue_bytes: int | None
    spool: bool | str | PathLike[str] | None
    spool_max_bytes: int | None
    fsync: bool | None
    max_open_sessions: int | None
    session_timeout: float | None
    attribute_length_limit: int | None
    attribute_count_limit: int | None
    event_count_limit: int | None
    link_count_limit: int | None
    on_loss: Callable[[str, int], object] | None
    flush_interval: float | None
    batch_size: int | None


class Options(SharedOptions, total=False):
    """Every option of `rootspan.configure` and of a `Tracker`."""

    user_id: str | int | UUID | Callable[[], object] | None
    convo_id: str | int | UUID | Callable[[], object] | None
    properties: Mapping[str, Any] | Callable[[], object] | None
