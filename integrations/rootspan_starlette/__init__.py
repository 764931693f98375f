"""rootspan for Starlette and FastAPI: each request is one isolated root span."""

from __future__ import annotations

from rootspan.errors import MissingExtraError

try:
    import starlette as starlette  # only whether it is there
except ImportError as error:
    raise MissingExtraError("rootspan_starlette needs Starlette.\nFix: pip install 'rootspan[starlette]'") from error

from rootspan_starlette.middleware import RootspanMiddleware, with_lifespan

__all__ = ["RootspanMiddleware", "with_lifespan"]
