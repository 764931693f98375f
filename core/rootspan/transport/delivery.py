"""Brings batches to a collector, and finds out by splitting them what it will never take."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rootspan.encode import JsonEncoder, ProtobufEncoder
from rootspan.log import Seldom
from rootspan.transport import Transport
from rootspan.transport.answer import Answer, Outcome
from rootspan.transport.exporting import ExporterSink
from rootspan.transport.sink import Attempt, Backoff, Sink, in_parts
from rootspan.version import __version__

if TYPE_CHECKING:
    from rootspan.record import SpanData
    from rootspan.settings import Settings

__all__ = ["Delivery", "circumstances", "sinks"]


def circumstances(settings: Settings) -> dict[str, Any]:
    """Return what tells how spans that are encoded now have to be sent, as it can be kept beside them."""
    return {"protocol": settings.protocol, "resource": dict(settings.resource_attributes), "version": __version__}


class Delivery:
    """Brings encoded spans to a collector, and keeps one that it will never take from blocking the others.

    Args:
        settings: endpoint, key, headers, certificates and timeout.
        about: the `circumstances` under which the spans were encoded, perhaps in the past; those of now if None.
        on_poison: called with a span that was refused for good, and why, before it is counted as dropped.

    Attributes:
        encoder: makes spans and request bodies.
    """

    def __init__(
        self,
        settings: Settings,
        about: Mapping[str, Any] | None = None,
        on_poison: Callable[[bytes, str], object] | None = None,
    ) -> None:
        about = about or circumstances(settings)
        encoder_type = JsonEncoder if about["protocol"] == "http/json" else ProtobufEncoder
        self.encoder = encoder_type(about["resource"], about["version"])
        self._transport = Transport(replace(settings, protocol=about["protocol"]))
        self._on_poison = on_poison
        self._backoff = Backoff()
        self._too_large = 4 << 20  # bytes: the smallest batch that is known, or presumed, to be too large
        self._seldom = Seldom()

    def encode(self, data: SpanData) -> bytes:
        """Return one span as `attempt` takes it."""
        return self.encoder.span(data)

    def attempt(self, spans: Sequence[bytes], until: float = math.inf) -> Attempt[bytes]:
        """Send spans until all are delivered or dropped, or something says to wait.

        Args:
            spans: encoded spans.
            until: a time of `time.monotonic()` after which nothing more is begun.

        Returns:
            What became of them.
        """
        return in_parts(spans, lambda part: self._attempt(part, until))

    def release(self) -> None:
        """Close idle connections; another attempt would open a new one."""
        self._transport.close()

    def close(self, until: float) -> None:
        """Do the same; there is nothing to wait for."""
        self.release()

    def forget(self) -> None:
        """Leave the parent's connection alone, after a fork, in the child."""
        self._transport.forget()

    def _attempt(self, part: list[bytes], until: float) -> Attempt[bytes] | None:
        alone, size = len(part) == 1, sum(map(len, part))
        if not alone and size >= self._too_large:
            return None
        if time.monotonic() >= until:
            return Attempt({}, part)
        answer = self._post(part, until)
        if answer.outcome == Outcome.TOO_LARGE and alone:
            answer = self._post_shrunk(part[0], answer, until)
        elif answer.outcome == Outcome.TOO_LARGE:
            self._too_large = min(self._too_large, size)
        if answer.outcome == Outcome.DELIVERED:
            self._backoff.reset()
            self._seldom.forget("trouble")
            return Attempt({"rejected": self._rejected(answer, len(part))}, [])
        if answer.outcome in (Outcome.RETRY, Outcome.HOLD):
            self._say_trouble(answer)
            wait = self._backoff.wait(answer.retry_after, slowly=answer.outcome == Outcome.HOLD)
            return Attempt({}, part, wait, later=answer.outcome == Outcome.RETRY and answer.status is not None)
        return Attempt({self._give_up(part[0], answer): 1}, []) if alone else None

    def _post_shrunk(self, span: bytes, answer: Answer, until: float) -> Answer:
        for longest in (262_144, 65_536, 8_192, 1_024):
            shrunk = self.encoder.shrink(span, longest)
            if len(shrunk) == len(span):
                continue
            span = shrunk
            answer = self._post([span], until)
            if answer.outcome != Outcome.TOO_LARGE:
                break
        return answer

    def _post(self, group: Sequence[bytes], until: float) -> Answer:
        return self._transport.send(self.encoder.batch(group), until - time.monotonic())

    def _rejected(self, answer: Answer, most: int) -> int:
        if answer.rejected or answer.detail:
            words = f" {answer.detail!r}" if answer.detail else ""
            line = f"{self._transport.host} rejected {answer.rejected} of {most} events in a partial success{words}."
            self._seldom.say("rejected", logging.WARNING, f"{line} Further rejections are only counted.")
        return min(answer.rejected, most)

    def _give_up(self, span: bytes, answer: Answer) -> str:
        """Return the reason under which a span that stands alone is dropped."""
        if answer.outcome == Outcome.TOO_LARGE:
            line = f"An event was too large for {self._transport.host}: dropped."
        else:
            line = f"{self._transport.host} refused an event for good ({answer.detail}): dropped."
        self._seldom.say(answer.outcome, logging.WARNING, line, again=True)
        if self._on_poison is not None:
            self._on_poison(span, answer.detail)
        return answer.outcome

    def _say_trouble(self, answer: Answer) -> None:
        host = self._transport.host
        if answer.cause is ConnectionRefusedError and self._transport.unchosen:
            line = f"Nobody listens at {host}, rootspan's default endpoint; `rootspan tail` shows events there."
            self._seldom.say("unchosen", logging.INFO, line)
            return
        level = logging.ERROR if answer.outcome == Outcome.HOLD else logging.WARNING
        fix = f"\nFix: {answer.fix}." if answer.fix else ""
        line = f"Events for {host} are kept and tried again: {answer.detail}{fix}"
        self._seldom.say("trouble", level, line, again=True)


def sinks(settings: Settings) -> tuple[Sink, ...]:
    """Return where a tracker's spans go: OTLP over HTTP, or the exporters that replace it, or both."""
    if settings.disabled:  # it would pass for one that still sends through its exporters
        return ()
    found: list[Sink] = []
    if settings.otlp:
        found.append(Delivery(settings))
    found += [ExporterSink(exporter, settings.resource_attributes) for exporter in settings.exporters]
    return tuple(found)
