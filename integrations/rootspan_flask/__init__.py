"""rootspan for Flask: each request is one isolated root span."""

from __future__ import annotations

from rootspan.errors import MissingExtraError

try:
    import flask as flask  # only whether it is there
except ImportError as error:
    raise MissingExtraError("rootspan_flask needs Flask.\nFix: pip install 'rootspan[flask]'") from error

from rootspan_flask.extension import Rootspan

__all__ = ["Rootspan"]
