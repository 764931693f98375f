"""The contract of a web adapter: every case, written once."""

from __future__ import annotations

import unittest
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from rootspan.testing.option_cases import OptionCases
from rootspan.testing.request_cases import RequestCases

__all__ = ["WebContract"]


class WebContract(RequestCases, OptionCases):
    """The contract of a web adapter, as tests; mix it into a test class and give it an echo app.

    Each case serves the echo app with the adapter installed and some options, sends requests and reads the spans. The
    app has these routes; `rootspan.testing.Echo` holds what each of them does, so that an app is its wiring only:

    | route | view | answers |
    | --- | --- | --- |
    | `GET /echo/{name}` | `Echo.echo` | the name |
    | `POST /read` | read the body, `Echo.read` | its length |
    | `POST /ignore` | does not touch the body | `ignored` |
    | `GET /raise` | `Echo.fail` | the framework's 500 |
    | `GET /status/{code}` | tracks nothing | that status, `text/plain`, without a body |
    | `GET /stream/{count}` | `Echo.stream` or `astream` | chunks, streamed |
    | `GET /stream-raise` | `Echo.stream_fail` or `astream_fail` | one chunk, then it breaks |
    | `GET /stream-turn` | `Echo.stream_turn` or `astream_turn` | one chunk, streamed |
    | `GET /login/{name}` | `Echo.login` | the name |
    | `GET /tool` | `Echo.tool` | `found` |
    | `GET /turns` | `Echo.turns` | `taken` |
    | `GET /thread` | `Echo.thread` | `joined` |
    | `GET /current` | `Echo.current` | the trace id |
    | `GET /host` | `Echo.host` | JSON |
    | `GET /mounted/{area}/inner/{name}` | in a mount, an include or a blueprint at `/mounted/{area}` | the name |
    | `POST /chat` | read the body, `Echo.chat` | `application/json` |
    | `POST /chat-stream` | read the body, `Echo.chat_stream` or `achat_stream` | `text/event-stream`, streamed |

    A case that does not apply is skipped by its name and a written reason in `not_applicable`.

    Example:
        >>> class TestStarlette(WebContract):
        ...     not_applicable = {"test_...": "why this can not be so here"}
        ...
        ...     @contextmanager
        ...     def serve(self, tracker, **options):
        ...         app = RootspanMiddleware(echo_app(Echo(tracker)), tracker=tracker, **options)
        ...         with AsgiClient(app) as client:
        ...             yield client  # doctest: +SKIP
    """

    not_applicable: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, reason in vars(cls).get("not_applicable", {}).items():
            if not reason or not callable(getattr(WebContract, name, None)):
                raise TypeError(f"not_applicable[{name!r}] has to be the name of a case, with a reason")
            setattr(cls, name, _skipped(reason))


def _skipped(reason: str) -> Callable[[Any], None]:
    def skipped(self: object) -> None:
        raise unittest.SkipTest(reason)

    return skipped
