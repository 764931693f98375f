"""rootspan for LangChain and LangGraph: each invocation is one isolated root span with its whole tree below.

The way of an event: `handler` hears it, `tree` opens a run, `run` and `model_run` keep what is told of it. What comes
from LangChain is read by `invocation`, `models` and `graphs`, and frozen by `values` within a `budget`.
"""

from __future__ import annotations

from rootspan.errors import MissingExtraError

try:
    import langchain_core as langchain_core  # only whether it is there
except ImportError as error:
    raise MissingExtraError(
        "rootspan_langchain needs langchain-core.\nFix: pip install 'rootspan[langchain]'"
    ) from error

from rootspan_langchain.automatic import install, uninstall
from rootspan_langchain.handler import RootspanCallbackHandler
from rootspan_langchain.invocation import RunInfo

__all__ = ["RootspanCallbackHandler", "RunInfo", "install", "uninstall"]
