"""Sends request bodies over HTTP and tells what became of them."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from rootspan.errors import ConfigurationError
from rootspan.forks import SETTING_UP
from rootspan.transport.answer import Answer, Outcome
from rootspan.transport.sink import unseen
from rootspan.version import __version__

if TYPE_CHECKING:
    from rootspan.settings import Settings
    from rootspan.transport.connection import Connection

__all__ = ["Transport"]

_WORTH_COMPRESSING: Final = 1_024  # bytes
_WORDS: Final = 300  # characters kept of what a server or an error says, cut when no secret is in them any more


class Transport:
    """Posts request bodies to one endpoint over a kept connection; opens it at the first `send`.

    Args:
        settings: endpoint, key, headers, certificates and timeout.
    """

    def __init__(self, settings: Settings) -> None:
        self.unchosen = settings.unchosen
        self.host = urlsplit(settings.endpoint).netloc
        self._settings = settings
        self._idle: list[Connection] = []  # a list's pop and append need no lock, which a fork could leave locked
        self._connections: list[Connection] = []  # every open one, for a forked child
        self._headers: dict[str, str] = {
            "content-type": "application/json" if settings.protocol == "http/json" else "application/x-protobuf",
            "accept-encoding": "identity",
        }

    def send(self, body: bytes, seconds: float = math.inf) -> Answer:
        """Make one attempt; never raises.

        Args:
            body: a whole export request, as the encoder of `settings.protocol` made it.
            seconds: the most that this attempt may take, if less than the configured timeout.

        Returns:
            What became of it.
        """
        if self._settings.hold is not None:
            return Answer(Outcome.HOLD, detail=self._settings.hold)
        timeout = max(0.0, min(seconds, self._settings.timeout))
        try:
            answer = unseen(self._post, body, timeout)
        except ConfigurationError as error:
            answer = Answer(Outcome.HOLD, detail=str(error))
        except Exception as error:
            answer = _no_answer(error, timeout)
        return answer._replace(detail=self._settings.masked(answer.detail)[:_WORDS])

    def _post(self, body: bytes, timeout: float) -> Answer:
        with SETTING_UP:  # urllib3 takes long to import; many processes never send
            from rootspan.transport.connection import Connection, quiet

        quiet.set(True)
        headers = {"user-agent": f"rootspan/{__version__}", **self._settings.request_headers(), **self._headers}
        if self._settings.compression == "gzip" and len(body) > _WORTH_COMPRESSING:
            packer = zlib.compressobj(1, wbits=31)
            body = packer.compress(body) + packer.flush()
            headers["content-encoding"] = "gzip"
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = Connection(self._settings)
            self._connections.append(connection)
        try:
            return connection.post(body, headers, timeout)
        finally:
            self._idle.append(connection)

    def close(self) -> None:
        """Close idle connections; a later `send` opens a new one."""
        for connection in list(self._idle):
            connection.close()

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:  # the interpreter may be half gone, and with it the names of this module
            return

    def forget(self) -> None:
        """Leave the parent's connections alone, after a fork, in the child."""
        connections, self._connections, self._idle = self._connections, [], []
        for connection in connections:
            connection.abandon()


def _no_answer(error: BaseException, timeout: float) -> Answer:
    """Return what an error means; urllib3 wraps the system's own in a longer one, or in several.

    In a function of its own: a name for a cause where it was caught would keep it, and so its connection.
    """
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and len(chain) < 9:
        chain.append(cause)
    known = [one for one in chain if isinstance(one, (TimeoutError, ConnectionRefusedError))]
    cause = known[0] if known else error.__cause__ or error
    said = f"{type(cause).__name__}: {cause}"
    if isinstance(cause, TimeoutError):
        said = f"no complete answer within {timeout:g} s"
    # It may hold a server's own words, which are to be no line of the log's.
    detail = "".join(char if char.isprintable() else " " for char in said)
    no_http = type(cause).__name__ == "BadStatusLine"  # of http.client, which is imported with the first connection
    fix = "is endpoint= an OTLP/HTTP receiver, usually at port 4318? 4317 is gRPC" if no_http else ""
    return Answer(Outcome.RETRY, detail=detail.rstrip(), fix=fix, cause=type(cause))
