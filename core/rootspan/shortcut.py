"""The short way of a plain record: straight to the bytes that the dialect and the encoder make of it.

Nearly every event is plain: texts in and out, a flat dict of properties, names and numbers; so is a request that went
well. What many of them share is shaped by the dialect once and kept as bytes; the rest is written into place. Whatever
is not plain takes the long way, so nothing is decided here that the dialect would decide otherwise: a test holds both
to the same bytes.
"""

# A property is told apart at run time, so what it holds is unknown by nature:
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

import orjson

from rootspan import semconv
from rootspan.content import ASSISTANT_END, ASSISTANT_HEAD, USER_END, USER_HEAD
from rootspan.dialect import TOKENS, link_to
from rootspan.draft import Plan
from rootspan.freeze import LABEL, LONGEST_ID
from rootspan.protobuf import ATTRIBUTE, PLAIN_END, ProtobufEncoder, key_value, sized, span_ids
from rootspan.record import Identity, Kind, Record, SpanData
from rootspan.redaction import Redactor
from rootspan.settings import Settings

__all__ = ["Short", "shortcut"]

Short = Callable[[tuple[Any, ...], str], "bytes | None"]
"""Takes a record and its trace; returns the encoded span, or None where the record has to take the long way."""

_CHATS: Final = frozenset({Kind.EVENT, Kind.INTERACTION})
_KINDS: Final = _CHATS | {Kind.REQUEST}
_LABELS: Final = frozenset(
    {"tags", "agent_name", "response_model", "finish_reasons", "operation", "has_children", "usage_below"}
)
_CHAT_FIELDS: Final = _LABELS | {field for field, _, _ in TOKENS}
_REQUEST_FIELDS: Final = frozenset({"attributes", "has_children", "usage_below", "links"})
_STOP: Final = ("stop",)  # why an answer ended where nobody says why
_START: Final = Record._fields.index("start")
_BARE: Final[dict[str, Any]] = {
    **dict.fromkeys(Record._fields), "kind": Kind.EVENT, "span": "0" * 16, "end": 0, "name": "event",
}  # fmt: skip
_MOST: Final = 4096  # things of a kind that are remembered; then all are forgotten
_SHORT: Final = 128  # bytes of a property that is worth remembering
_SIZES: Final = 2000  # bytes of a text up to which the beginning of its field is remembered
_ESCAPED: Final = 6  # characters that JSON may write for one
_AROUND: Final = 200  # characters that JSON may write around a text
_ENTRY: Final = 16  # characters of an entry of a dict that are counted beside its text
_TOLD: Final = frozenset({"session_id", "user_id"})
_TOKENS_IN: Final = semconv.GEN_AI_USAGE_INPUT_TOKENS
_TOKENS_OUT: Final = semconv.GEN_AI_USAGE_OUTPUT_TOKENS
_times: Final = Struct("<cQcQ").pack

T = TypeVar("T")


class _NotPlainError(Exception):
    """This one takes the long way."""


class _Begun(dict[int, bytes]):
    """How the field of a text begins, by the size of the text in bytes.

    Args:
        key: the attribute's key, encoded.
    """

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self._key = key

    def __missing__(self, size: int) -> bytes:
        whole = ATTRIBUTE + key_value(self._key, "x" * size)
        begun = whole[: len(whole) - size]
        if size <= _SIZES:
            self[size] = begun
        return begun


class _Side:
    """What is written of a text that went in or came out: the text itself, and the message that it is."""

    __slots__ = ("around", "begun", "end", "head", "message", "mime", "path")

    def __init__(self, encoder: ProtobufEncoder, path: str, names: tuple[str, str, str], head: str, end: str) -> None:
        self.path = path
        self.begun, self.message = _Begun(encoder.key(names[0])), _Begun(encoder.key(names[2]))
        self.mime = encoder.attributes({names[1]: semconv.TEXT_PLAIN})
        self.head, self.end = head.encode(), end.encode()
        self.around = len(head) + len(end)


class _Writer:
    """Writes plain records of one tracker.

    Args:
        settings: the tracker's settings.
        shape: the long way to a span.
        redactor: masks secrets.
        encoder: the long way from there.
    """

    def __init__(
        self, settings: Settings, shape: Callable[[Record], SpanData], redactor: Redactor, encoder: ProtobufEncoder
    ) -> None:
        self._shape, self._redactor, self._encoder = shape, redactor, encoder
        self._longest = settings.max_content_length
        self._longest_text = (self._longest - _AROUND) // _ESCAPED
        self._heads: dict[Any, tuple[bytes, bytes]] = {}
        self._people: dict[Any, tuple[bytes, bytes]] = {}
        self._requests: dict[int, tuple[Any, bytes]] = {}
        self._keys: dict[str, bytes] = {}
        self._pairs: dict[Any, bytes] = {}
        asked = semconv.INPUT_VALUE, semconv.INPUT_MIME_TYPE, semconv.GEN_AI_INPUT_MESSAGES
        self._input = _Side(encoder, "input", asked, USER_HEAD, USER_END)
        answered = semconv.OUTPUT_VALUE, semconv.OUTPUT_MIME_TYPE, semconv.GEN_AI_OUTPUT_MESSAGES
        self._output = _Side(encoder, "output", answered, ASSISTANT_HEAD, f'{ASSISTANT_END}"stop"}}]')
        self._metadata = _Begun(encoder.key(semconv.METADATA))
        self._convo = [_Begun(encoder.key(name)) for name in (semconv.SESSION_ID, semconv.GEN_AI_CONVERSATION_ID)]
        self._user = [_Begun(encoder.key(semconv.USER_ID))]

    def span(self, record: tuple[Any, ...], trace: str) -> bytes | None:
        """Return a record as `ProtobufEncoder.span` would in the end, None where it has to take the long way."""
        if record[0] not in _KINDS:
            return None
        try:
            return self._written(record, trace)
        except Exception:  # the long way knows what to do about it
            return None

    def _written(self, record: tuple[Any, ...], trace: str) -> bytes:
        (
            kind, _, span, parent, link, end, name, inherited, user, convo, model, provider, asked, answered, properties
        ) = record[:_START]  # fmt: skip
        start, outcome, counted, usage, more = end, None, False, b"", None
        if len(record) > _START:
            start, outcome, counted, usage, more = self._rest(record)
        agent, tags, rare = None, (), ()
        if inherited is not None:
            if inherited.properties is not None:
                raise _NotPlainError
            user, convo = user or inherited.user_id, convo or inherited.convo_id
            agent, tags = inherited.agent_name, inherited.tags
        if more and kind in _CHATS:
            rare = tuple([field for field in more.items() if field[0] in _LABELS])
        label = kind, name, model, provider, agent, tags, outcome, counted, rare
        called, shared = self._heads.get(label) or self._head(label)
        person, told = self._people.get((convo, user)) or self._person(convo, user)
        parts = [
            span_ids(trace[:32], span[-16:], parent[-16:] if parent else None), called,
            _times(b"\x39", start, b"\x41", end), shared, usage, person,
        ]  # fmt: skip
        chat = kind in _CHATS
        if asked is not None:
            parts += self._said(asked, self._input, chat)
        if answered is not None:
            parts += self._said(answered, self._output, chat)
        if more and kind == Kind.REQUEST:
            parts.append(self._requested(more, usage, properties))
        if properties is not None and type(properties) is not dict:
            raise _NotPlainError
        if properties:
            self._write_properties(cast("dict[str, Any]", properties), told, parts)
        elif told:
            parts += self._metadata[len(told)], b"{", told[1:]
        if link is not None and (made := link_to(link)) is not None:
            parts.append(self._encoder.link(made))
        if more and "links" in more:
            parts += map(self._encoder.link, filter(None, map(link_to, more["links"])))
        parts.append(PLAIN_END)
        return b"\x12" + sized(b"".join(parts))

    def _said(self, text: Any, side: _Side, chat: bool) -> tuple[bytes, ...]:
        if type(text) is not str or len(text) > self._longest_text:
            raise _NotPlainError
        text = self._redactor.text(side.path, text)
        if len(text) > self._longest_text:
            raise _NotPlainError
        raw = text.encode()
        if not chat:
            return side.begun[len(raw)], raw, side.mime
        said = orjson.dumps(text)
        return (
            side.begun[len(raw)], raw, side.mime,
            side.message[len(said) + side.around], side.head, said, side.end,
        )  # fmt: skip

    def _write_properties(self, properties: dict[str, Any], told: bytes, parts: list[bytes]) -> None:
        pairs = self._pairs
        for key, value in properties.items():
            kind = type(value)
            parts.append(pairs.get((key, kind, value)) or self._pair(key, kind, value))
        written = orjson.dumps(properties)
        if len(written) + _ENTRY * len(properties) + _AROUND > self._longest:
            raise _NotPlainError
        if told:
            parts += self._metadata[len(written) + len(told) - 1], written[:-1], told
        else:
            parts += self._metadata[len(written)], written

    def _pair(self, key: str, kind: Any, value: Any) -> bytes:
        """Return a property as an attribute."""
        written = ATTRIBUTE + key_value(self._keys.get(key) or self._key(key), value)
        if kind is float:
            if value - value != 0.0:  # NaN
                raise _NotPlainError
            return written
        if kind is str:
            if self._redactor.text("properties", value) is not value:
                raise _NotPlainError
        elif kind is not bool and not (kind is int and -(2**63) <= value < 2**63):
            raise _NotPlainError
        return _remember(self._pairs, (key, kind, value), written) if len(written) <= _SHORT else written

    def _key(self, key: str) -> bytes:
        """Return how the attribute of a property begins."""
        if "." in key or key in _TOLD or not self._redactor.passes(key) or not semconv.is_free(key):
            raise _NotPlainError
        return _remember(self._keys, key, self._encoder.key(key))

    def _head(self, label: tuple[Any, ...]) -> tuple[bytes, bytes]:
        """Return name and kind of the spans of events that are labelled so, and the attributes that they share."""
        if len(repr(label)) > LABEL:  # too long to remember
            raise _NotPlainError
        kind, name, model, provider, agent, tags, outcome, counted, rare = label
        span = self._shaped(
            kind=kind, name=name, model=model, provider=provider, outcome=outcome, more=dict(rare) or None,
            inherited=Identity(agent_name=agent, tags=tags), input_tokens=0 if counted else None,
        )  # fmt: skip
        shared = {name: value for name, value in span.attributes.items() if name != _TOKENS_IN}
        called = self._encoder.name(span.name) + bytes((0x30, span.kind))
        return _remember(self._heads, label, (called, self._encoder.attributes(shared)))

    def _person(self, convo: str | None, user: str | None) -> tuple[bytes, bytes]:
        """Return whose work it is: as attributes, and as the end of the metadata after its other entries."""
        parts: list[bytes] = []
        told = b""
        for word, name, fields in (convo, "session_id", self._convo), (user, "user_id", self._user):
            if word:
                if len(word) > LONGEST_ID or self._redactor.text(name, word) is not word:
                    raise _NotPlainError
                raw = word.encode()
                parts += [part for begun in fields for part in (begun[len(raw)], raw)]
                told += b',"%b":%b' % (name.encode(), orjson.dumps(word))
        if told:
            told += b"}"
        return _remember(self._people, (convo, user), (b"".join(parts), told))

    def _requested(self, more: Any, usage: bytes, properties: Any) -> bytes:
        """Return the attributes of a request, of those that many have in common and that nobody changes."""
        given = more.get("attributes")
        kind: Any = type(given)
        if usage or properties or kind is not MappingProxyType or not more.keys() <= _REQUEST_FIELDS:
            raise _NotPlainError
        known = self._requests.get(id(given))
        if known is None:
            shaped = self._shaped(kind=Kind.REQUEST, more={"attributes": given}).attributes
            fields = self._encoder.attributes({name: value for name, value in shaped.items() if name in given})
            known = _remember(self._requests, id(given), (given, fields))  # kept, so that its id stays its own
        return known[1]

    def _rest(self, record: tuple[Any, ...]) -> tuple[int, str | None, bool, bytes, Any]:
        """Return when it began, its outcome, whether tokens were counted, what it used as attributes, and the rest."""
        start, tokens_in, tokens_out, cost, outcome, error, more = record[_START:]
        if error is not None or outcome == "failure":
            raise _NotPlainError
        counted, usage = tokens_in is not None or tokens_out is not None, b""
        if more and record[0] in _CHATS:
            usage = self._usage(tokens_in, tokens_out, cost, more)
            reasons = more.get("finish_reasons", _STOP)
            if not more.keys() <= _CHAT_FIELDS or reasons[0] != _STOP[0] or (usage and "usage_below" in more):
                raise _NotPlainError
        elif counted or cost is not None:
            usage = self._usage(tokens_in, tokens_out, cost, {})
        return record[5] if start is None else start, outcome, counted, usage, more

    def _usage(self, tokens_in: Any, tokens_out: Any, cost: Any, more: Any) -> bytes:
        used: dict[str, int | float] = {}
        counts = [(_TOKENS_IN, tokens_in), (_TOKENS_OUT, tokens_out)]
        if more:
            counts += [(name, more.get(field)) for field, name, _ in TOKENS]
        for name, count in counts:
            if count is not None:
                if type(count) is not int or not 0 <= count < 2**63:
                    raise _NotPlainError
                used[name] = count
        if cost is not None:
            if type(cost) is not float or not 0.0 <= cost < float("inf"):
                raise _NotPlainError
            used[semconv.GEN_AI_USAGE_COST] = used[semconv.LLM_COST_TOTAL] = cost
        return self._encoder.attributes(used)

    def _shaped(self, **fields: Any) -> SpanData:
        """Return an event with these fields and nothing else, as the dialect shapes it."""
        span = self._shape(Record(**{**_BARE, **fields}))
        if semconv.ROOTSPAN_DROPPED_FIELDS in span.attributes:
            raise _NotPlainError
        return span


def _remember(known: dict[Any, T], what: Any, how: T) -> T:
    if len(known) >= _MOST:
        known.clear()
    known[what] = how
    return how


def shortcut(
    settings: Settings, shape: Callable[[Record], SpanData], redactor: Redactor, sinks: Sequence[object]
) -> Short | None:
    """Return the short way of a tracker's plain records; None where its settings leave none plain.

    Args:
        settings: the tracker's settings.
        shape: the long way from a record to a span.
        redactor: masks secrets.
        sinks: where the spans go; the short way leads to a single one, and to protobuf.
    """
    encoder = getattr(sinks[0], "encoder", None) if len(sinks) == 1 else None
    plan = Plan(settings)
    odd = plan.limited or plan.extras or not plan.capture or settings.redact_pii or settings.redact is not None
    if odd or not isinstance(encoder, ProtobufEncoder):
        return None
    return _Writer(settings, shape, redactor, encoder).span
