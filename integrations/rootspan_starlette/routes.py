"""Reads from the scope which route the application itself matched; nothing is matched again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from starlette.convertors import CONVERTOR_TYPES
from starlette.routing import Mount
from starlette.types import Scope

__all__ = ["template"]

_PARAMETER: Final = re.compile(r"\\?{(\w+)(?::(\w+))?\\?}")  # also in an escaped path


def template(scope: Scope) -> str | None:
    """Return the template of the matched route with those of the mounts around it, None where none can be told.

    Args:
        scope: the scope after the application has seen it.
    """
    try:
        route: Any = scope.get("route")
        if route is None:  # before Starlette 1.7 the scope names the endpoint only
            return _found(scope)
        if "fastapi" in scope:  # of included routers
            context = scope["fastapi"].get("effective_route_context")
            if context is not None and context.original_route is route:
                route = context.starlette_route or context
        own = "" if isinstance(route, Mount) else getattr(route, "path", None) or ""
        return (_mounts(scope) + own if "app_root_path" in scope else own) or None
    except Exception:  # there are routers of all kinds
        return None


def _mounts(scope: Scope) -> str:
    """Return the templates of the mounts that led to the route, the outermost of which set `app_root_path`."""
    mounted_at = scope.get("root_path", "")[len(scope["app_root_path"]) :]
    found = (path for route, path in _below(scope.get("router")) if isinstance(route, Mount)) if mounted_at else ()
    return next(_fitting(scope, found, mounted_at), "")


def _found(scope: Scope) -> str | None:
    """Return the template that leads to the endpoint; of several the one that the parameters make the path of."""
    endpoint = scope.get("endpoint")
    found = [
        path
        for route, path in (_below(scope.get("router")) if endpoint is not None else ())
        if path and endpoint in (getattr(route, "endpoint", None), getattr(route, "app", None))
    ]
    return next(_fitting(scope, found, scope.get("path", ""), "(?s:.*)"), next(iter(found), None))


def _below(router: Any, above: str = "") -> Iterator[tuple[Any, str]]:
    """Return every route of a router with its template, and those of the routers in it."""
    for route in getattr(router, "routes", None) or ():
        path = above + (getattr(route, "path", None) or "")
        yield route, path
        if (included := getattr(route, "original_router", None)) is not None:  # FastAPI's, since 0.137
            route, path = included, path + route.include_context.prefix
        yield from _below(route, path)


def _fitting(scope: Scope, templates: Iterable[str], path: str, before: str = "") -> Iterator[str]:
    """Return the templates that the parameters make the path of, with what may stand before it."""
    parameters: Any = scope.get("path_params") or {}
    for one in templates:
        named = {match[1] for match in _PARAMETER.finditer(one)}
        # By its pattern: a parameter's value may be another one's of the same name, or be written in several ways.
        if named <= parameters.keys() and re.fullmatch(before + _pattern(one), path):
            yield one


def _pattern(path: str) -> str:
    return _PARAMETER.sub(lambda match: f"(?:{CONVERTOR_TYPES[match[2] or 'str'].regex})", re.escape(path))
