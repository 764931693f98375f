"""Reads from the scope which route the application itself matched; nothing is matched again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from starlette.routing import Mount
from starlette.types import Scope

__all__ = ["template"]

_PARAMETER: Final = re.compile(r"{(\w+)(:\w+)?}")


def template(scope: Scope) -> str | None:
    """Return the template of the matched route with those of the mounts around it, None where none matched.

    Args:
        scope: the scope after the application has seen it.
    """
    route: Any = scope.get("route")
    routes: Any = getattr(scope.get("router"), "routes", None) or ()
    parameters: dict[str, Any] = scope.get("path_params") or {}
    if route is None:  # before Starlette 1.7 the scope names the endpoint only
        return _found(routes, scope.get("endpoint"), scope.get("path", ""), parameters)
    mounted_at = ""
    if "app_root_path" in scope:  # set by the outermost mount
        mounted_at = scope.get("root_path", "")[len(scope["app_root_path"]) :]
    context: Any = scope.get("fastapi", {}).get("effective_route_context")  # FastAPI's, of included routers
    if context is not None and context.original_route is route:
        route = context.starlette_route or context
    own = "" if isinstance(route, Mount) else getattr(route, "path", None) or ""
    return (_mounts(routes, mounted_at, parameters) if mounted_at else "") + own or None


def _mounts(routes: Iterable[Any], mounted_at: str, parameters: dict[str, Any]) -> str:
    """Return the templates of the mounts that lead to a path."""
    found = (path for route, path in _all(routes) if isinstance(route, Mount))
    return next((path for path in found if _filled(path, parameters) == mounted_at), "")


def _found(routes: Iterable[Any], endpoint: Any, path: str, parameters: dict[str, Any]) -> str | None:
    """Return the template that leads to an endpoint; of several the one that these parameters make the path of."""
    found = [
        template
        for route, template in (_all(routes) if endpoint is not None else ())
        if template and endpoint in (getattr(route, "endpoint", None), getattr(route, "app", None))
    ]
    fitting = [template for template in found if path.endswith(_filled(template, parameters))]
    return next(iter(fitting or found), None)


def _all(routes: Iterable[Any], above: str = "") -> Iterator[tuple[Any, str]]:
    for route in routes:
        path = above + (getattr(route, "path", None) or "")
        yield route, path
        if (included := getattr(route, "original_router", None)) is not None:  # FastAPI's, since 0.137
            route, path = included, path + route.include_context.prefix
        yield from _all(getattr(route, "routes", None) or (), path)


def _filled(path: str, parameters: dict[str, Any]) -> str:
    return _PARAMETER.sub(lambda match: str(parameters.get(match[1], match[0])), path)
