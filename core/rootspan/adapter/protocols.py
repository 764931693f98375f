"""What a server says of a request in its protocol's words, those of WSGI or those of ASGI."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any, Final

from rootspan.adapter.request_options import RequestInfo

__all__ = ["environ_header", "environ_info", "header_of", "scope_info"]

_LISTS: Final[Any] = (list, tuple)
_name: Final = itemgetter(0)


def environ_info(request: Any, method: str, path: str, scheme: str, environ: Mapping[str, Any]) -> RequestInfo:
    """Return what is known of a request when it starts, with its headers and its peer from the environ of WSGI."""
    return RequestInfo(request, method, path, scheme, partial(_in_environ, environ), environ.get("REMOTE_ADDR"))


def environ_header(environ: Mapping[str, Any]) -> Callable[[str], str | None]:
    """Return what gives a header by its lower-case name, as `RequestInfo` wants it, from the environ of WSGI.

    Example:
        >>> environ_header({"HTTP_X_USER": "u1"})("x-user")
        'u1'
    """
    return partial(_in_environ, environ)


def _in_environ(environ: Mapping[str, Any], name: str) -> Any:
    return environ.get(_environ_key(name))


@lru_cache(maxsize=1_024)  # few are ever asked for, and those at each request
def _environ_key(name: str) -> str:
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def scope_info(request: Any, scope: Mapping[str, Any]) -> RequestInfo:
    """Return what is known when it starts of a request, or of a WebSocket, from the scope of ASGI."""
    get, is_http, client = scope.get, scope["type"] == "http", scope.get("client")
    method, scheme = (get("method", "GET"), "http") if is_http else ("WEBSOCKET", "ws")
    header, peer = partial(_in_pairs, get("headers")), client[0] if client else None
    return RequestInfo(request, method, get("path", ""), get("scheme", scheme), header, peer, get("root_path"))


def header_of(headers: Any) -> Callable[[str], str | None]:
    """Return what gives a header by its lower-case name, as `RequestInfo` wants it, from raw pairs of bytes.

    Args:
        headers: a list of pairs; None and what could be read only once count as empty.

    Example:
        >>> header_of([(b"X-User", b"u1")])("x-user")
        'u1'
    """
    return partial(_in_pairs, headers)


def _in_pairs(pairs: Any, name: str) -> str | None:
    length = len(name)
    if not isinstance(pairs, _LISTS) or length not in map(len, map(_name, pairs)):  # mostly so, and found out in C
        return None
    wanted = name.encode("latin-1")
    found = [value for key, value in pairs if len(key) == length and key.lower() == wanted]
    return str(b", ".join(found), "latin-1") or None
