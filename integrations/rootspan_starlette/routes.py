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
    """Return the template of the matched route with those of the mounts around it, None where none matched.

    Args:
        scope: the scope after the application has seen it.
    """
    route: Any = scope.get("route")
    if route is None:  # before Starlette 1.7 the scope names the endpoint only
        return _found(scope)
    if "fastapi" in scope:  # of included routers
        context = scope["fastapi"].get("effective_route_context")
        if context is not None and context.original_route is route:
            route = context.starlette_route or context
    own = "" if isinstance(route, Mount) else getattr(route, "path", None) or ""
    return (_mounts(scope) + own if "app_root_path" in scope else own) or None


def _mounts(scope: Scope) -> str:
    """Return the templates of the mounts that led to the route, the outermost of which set `app_root_path`."""
    mounted_at = scope.get("root_path", "")[len(scope["app_root_path"]) :]
    routes, parameters = _known(scope)
    found = (path for route, path in _all(routes) if isinstance(route, Mount)) if mounted_at else ()
    found = (path for path in found if _named(path) <= parameters.keys())
    # By their patterns: a parameter's value may be another one's of the same name, or be written in several ways.
    return next((path for path in found if re.fullmatch(_pattern(path), mounted_at)), "")


def _found(scope: Scope) -> str | None:
    """Return the template that leads to the endpoint; of several the one that the parameters make the path of."""
    endpoint, path = scope.get("endpoint"), scope.get("path", "")
    routes, parameters = _known(scope)
    found = [
        template
        for route, template in (_all(routes) if endpoint is not None else ())
        if template and endpoint in (getattr(route, "endpoint", None), getattr(route, "app", None))
    ]
    fits = (one for one in found if _named(one) <= parameters.keys() and re.search(rf"{_pattern(one)}\Z", path))
    return next(fits, next(iter(found), None))


def _known(scope: Scope) -> tuple[Iterable[Any], dict[str, Any]]:
    """Return all routes of the application, and what the path's parameters are."""
    return getattr(scope.get("router"), "routes", None) or (), scope.get("path_params") or {}


def _all(routes: Iterable[Any], above: str = "") -> Iterator[tuple[Any, str]]:
    for route in routes:
        path = above + (getattr(route, "path", None) or "")
        yield route, path
        if (included := getattr(route, "original_router", None)) is not None:  # FastAPI's, since 0.137
            route, path = included, path + route.include_context.prefix
        yield from _all(getattr(route, "routes", None) or (), path)


def _pattern(path: str) -> str:
    return _PARAMETER.sub(lambda match: f"(?:{CONVERTOR_TYPES[match[2] or 'str'].regex})", re.escape(path))


def _named(path: str) -> set[str]:
    return {match[1] for match in _PARAMETER.finditer(path)}
