"""The short way of a plain record: straight to the bytes that the dialect and the encoder make of it.

Nearly every record is plain: nothing failed, and nothing of it has to be cut or left out. What labels it, which many
records share, is written by the dialect once and kept as bytes; whose it is, texts and flat properties are written into
place; what else it holds is written by the very parts of the dialect that do so on the long way. Whatever is not plain
takes that, so nothing is decided here that the dialect would decide otherwise: a test holds both to the same bytes.
"""

# A property is told apart at run time, so what it holds is unknown by nature:
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from rootspan import semconv
from rootspan.dialect import COUNTS, PROPERTIES, RARE, USAGE, link_to, parts_of
from rootspan.dialect.draft import Draft, Parts, Plan
from rootspan.dialect.encoded import DRAWN, is_encoded
from rootspan.dialect.labels import LABELS, PARTS, labels_of
from rootspan.encode.protobuf import ATTRIBUTE, PLAIN_END, TIMES, ProtobufEncoder, key_value, sized, span_ids
from rootspan.freeze import LABEL, LONGEST_ID
from rootspan.record import Kind, Record, Served

__all__ = ["Short", "shortcut"]

Short = Callable[[tuple[Any, ...], str], "bytes | None"]
"""Takes a record and its trace; returns the encoded span, or None where the record has to take the long way."""

_CHATS: Final = frozenset({Kind.EVENT, Kind.INTERACTION})  # their texts are messages, too
_TEXTS: Final = _CHATS | {Kind.REQUEST, Kind.STEP}  # a text of theirs is written into place
_TEXT: Final = frozenset({str, type(None)})
_FLAT: Final = frozenset({dict, type(None)})
_FIELDS: Final = LABELS | RARE | COUNTS | {"links", "tokens_below", "cost_below"}
_WHOSE: Final = frozenset({semconv.SESSION_ID, semconv.GEN_AI_CONVERSATION_ID, semconv.USER_ID})
# What stands around a text in the messages that it makes.
_ASKED: Final = '[{"role":"user","parts":[{"type":"text","content":', "}]}]"
_ANSWERED: Final = '[{"role":"assistant","parts":[{"type":"text","content":', '}],"finish_reason":"stop"}]'
_START: Final = Record._fields.index("start")
_MOST: Final = 4096  # things of a kind that are remembered; then all are forgotten
_LONGEST: Final = 2 * LABEL  # characters of labels that are remembered
_TYPES: Final = frozenset({str, tuple, Served})  # of rare labels: 1 is equal to True, which is written otherwise
_SHORT: Final = 128  # bytes of a property that is worth remembering
_SIZES: Final = 2000  # bytes of a text up to which the beginning of its field is remembered
_ESCAPED: Final = 6  # characters that JSON may write for one
_AROUND: Final = 200  # characters that JSON may write around a text
_ENTRY: Final = 16  # characters of an entry of a dict that are counted beside its text
_TOLD: Final = frozenset({"session_id", "user_id"})

T = TypeVar("T")


class _NotPlainError(Exception):
    """This one takes the long way."""


class _Head(NamedTuple):
    """What spans of the same labels have in common."""

    called: bytes  # name and kind
    shared: bytes  # the labels as attributes
    names: frozenset[str]  # of attributes that no part of the dialect may write again
    is_text: bool  # whether texts are written into place


class _Begun(dict[int, bytes]):
    """How the field of a text begins, by the size of the text in bytes.

    Args:
        key: the attribute's key, encoded.
    """

    def __init__(self, key: bytes) -> None:
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
        plan: what follows from the tracker's settings.
        encoder: the long way from a span.
    """

    def __init__(self, plan: Plan, encoder: ProtobufEncoder) -> None:
        self._plan, self._redactor, self._encoder = plan, plan.redactor, encoder
        self._longest = plan.settings.max_content_length
        self._longest_text = (self._longest - _AROUND) // _ESCAPED
        self._heads: dict[Any, _Head] = {}
        self._people: dict[Any, tuple[bytes, bytes]] = {}
        self._keys: dict[str, bytes] = {}
        self._pairs: dict[Any, bytes] = {}
        asked = semconv.INPUT_VALUE, semconv.INPUT_MIME_TYPE, semconv.GEN_AI_INPUT_MESSAGES
        self._input = _Side(encoder, "input", asked, *_ASKED)
        answered = semconv.OUTPUT_VALUE, semconv.OUTPUT_MIME_TYPE, semconv.GEN_AI_OUTPUT_MESSAGES
        self._output = _Side(encoder, "output", answered, *_ANSWERED)
        self._metadata = _Begun(encoder.key(semconv.METADATA))
        self._convo = [_Begun(encoder.key(name)) for name in (semconv.SESSION_ID, semconv.GEN_AI_CONVERSATION_ID)]
        self._user = [_Begun(encoder.key(semconv.USER_ID))]

    def span(self, record: tuple[Any, ...], trace: str) -> bytes | None:
        """Return a record as `ProtobufEncoder.span` would in the end, None where it has to take the long way."""
        try:
            return self._written(record, trace)
        except Exception:  # the long way knows what to do about it
            return None

    def _written(self, record: tuple[Any, ...], trace: str) -> bytes:
        (
            kind, _, span, parent, link, end, name, inherited, user, convo, model, provider, asked, answered, properties
        ) = record[:_START]  # fmt: skip
        start, outcome, counted, used, more = end, None, False, False, None
        if len(record) > _START:
            start, tokens_in, tokens_out, cost, outcome, error, more = record[_START:]
            if error is not None or outcome == "failure" or (more and not _FIELDS.issuperset(more)):
                raise _NotPlainError
            start = end if start is None else start
            counted = tokens_in is not None or tokens_out is not None
            used = counted or cost is not None or (more and not COUNTS.isdisjoint(more))
        outer = None
        if inherited is not None:
            user, convo, outer = user or inherited.user_id, convo or inherited.convo_id, inherited.properties
        labels = labels_of(kind, name, model, provider, inherited, outcome, counted, more)
        head = self._heads.get(labels) or self._head(labels, record)
        person, told = self._people.get((convo, user)) or self._person(convo, user)
        parts = [
            span_ids(trace[:32], span[-16:], parent[-16:] if parent else None), head.called,
            TIMES(b"\x39", start, b"\x41", end), person, head.shared,
        ]  # fmt: skip
        is_text = head.is_text and type(asked) in _TEXT and type(answered) in _TEXT
        if is_text and (not more or RARE.isdisjoint(more)):
            if used:
                parts.append(self._rest(record, USAGE, head, convo, user))
            if asked is not None:
                parts += self._said(asked, self._input, kind)
            if answered is not None:
                parts += self._said(answered, self._output, kind)
            if outer is not None or type(properties) not in _FLAT:
                parts.append(self._rest(record, PROPERTIES, head, convo, user))
            elif properties:
                self._write_properties(properties, told, parts)
            elif told:
                parts += self._metadata[len(told)], b"{", told[1:]
        else:
            parts.append(self._rest(record, parts_of(more), head, convo, user))
        if link is not None and (made := link_to(link)) is not None:
            parts.append(self._encoder.link(made))
        if more and "links" in more:
            parts += map(self._encoder.link, filter(None, map(link_to, more["links"])))
        parts.append(PLAIN_END)
        return b"\x12" + sized(b"".join(parts))

    def _said(self, text: str, side: _Side, kind: str) -> tuple[bytes, ...]:
        if len(text) > self._longest_text:
            raise _NotPlainError
        text = self._redactor.text(side.path, text)
        if len(text) > self._longest_text:
            raise _NotPlainError
        raw = text.encode()
        if kind not in _CHATS:
            return side.begun[len(raw)], raw, side.mime
        said = orjson.dumps(text)
        return (
            side.begun[len(raw)], raw, side.mime,
            side.message[len(said) + side.around], side.head, said, side.end,
        )  # fmt: skip

    def _write_properties(self, properties: Any, told: bytes, parts: list[bytes]) -> None:
        pairs = self._pairs
        for key, value in properties.items():
            kind = type(value)
            parts.append(pairs.get((key, kind, value)) or self._pair(key, kind, value))
        written = orjson.dumps(properties)
        if len(written) + len(told) + _ENTRY * len(properties) + _AROUND > self._longest:
            raise _NotPlainError
        if told:
            parts += self._metadata[len(written) + len(told) - 1], written[:-1], told
        else:
            parts += self._metadata[len(written)], written

    def _pair(self, key: str, kind: Any, value: Any) -> bytes:
        """Return a property as an attribute."""
        if kind is str:
            encoded = ";base64," in value or value == DRAWN or is_encoded(key, value)
            if encoded or self._redactor.text("properties", value) is not value:
                raise _NotPlainError
        elif kind is float:
            if value - value != 0.0:  # NaN
                raise _NotPlainError
        elif kind is not bool and not (kind is int and -(2**63) <= value < 2**63):
            raise _NotPlainError
        written = ATTRIBUTE + key_value(self._keys.get(key) or self._key(key), value)
        if kind is float or len(written) > _SHORT:  # 0.0 is equal to -0.0
            return written
        return _remember(self._pairs, (key, kind, value), written)

    def _key(self, key: str) -> bytes:
        """Return how the attribute of a property begins."""
        if "." in key or key in _TOLD or not self._redactor.passes(key) or not semconv.is_free(key):
            raise _NotPlainError
        return _remember(self._keys, key, self._encoder.key(key))

    def _head(self, labels: tuple[Any, ...], record: tuple[Any, ...]) -> _Head:
        """Return how the spans of records begin that are labeled so."""
        if len(repr(labels)) > _LONGEST or labels[0] == Kind.ERROR:
            raise _NotPlainError
        for field, value in labels[-1]:
            if type(value) not in _TYPES and field != "has_children":
                raise _NotPlainError
        draft = Draft(Record(*record), self._plan)
        for _, write in PARTS:
            write(draft)
        reasons = draft.more.get("finish_reasons")
        return _remember(self._heads, labels, _Head(
            self._encoder.name(draft.name) + bytes((0x30, draft.kind)),
            self._encoder.attributes(draft.attributes),
            _WHOSE.union(draft.attributes),
            draft.record.kind in _TEXTS and (not reasons or reasons[0] == "stop"),
        ))  # fmt: skip

    def _rest(self, record: tuple[Any, ...], parts: Parts, head: _Head, convo: str | None, user: str | None) -> bytes:
        """Return the attributes that parts of the dialect write after the head of a span."""
        draft = Draft(Record(*record), self._plan)
        draft.convo, draft.user = convo or None, user or None
        for _, write in parts:
            write(draft)
        if draft.dropped or not head.names.isdisjoint(draft.attributes):  # an adapter's own, in place of one of ours
            raise _NotPlainError
        return self._encoder.attributes(draft.attributes)

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
        if len(told) > self._longest:
            raise _NotPlainError
        return _remember(self._people, (convo, user), (b"".join(parts), told))


def _remember(known: dict[Any, T], what: Any, how: T) -> T:
    if len(known) >= _MOST:
        known.clear()
    known[what] = how
    return how


def shortcut(plan: Plan, sinks: Sequence[object]) -> Short | None:
    """Return the short way of a tracker's plain records; None where its settings leave none plain.

    Args:
        plan: what follows from the tracker's settings.
        sinks: where the spans go; the short way leads to a single one, and to protobuf.
    """
    encoder = getattr(sinks[0], "encoder", None) if len(sinks) == 1 else None
    settings = plan.settings
    odd = plan.limited or plan.extras or not plan.capture or settings.redact_pii or settings.redact is not None
    if odd or not isinstance(encoder, ProtobufEncoder):
        return None
    return _Writer(plan, encoder).span
