"""The short way of a plain record: straight to the bytes that the dialect and the encoder make of it.

Nearly every record is plain: names and numbers, texts or messages in and out, a flat dict of properties, no failure.
What many of them share is shaped by the dialect once and kept as bytes; texts and people are written into place; what
else it holds is shaped by the very functions of the dialect that do so on the long way. Whatever is not plain takes
that, so nothing is decided here that the dialect would decide otherwise: a test holds both to the same bytes.
"""

# A property is told apart at run time, so what it holds is unknown by nature:
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

import orjson

from rootspan import semconv
from rootspan.content import write_input, write_output
from rootspan.dialect import RARE, TOKENS, link_to, to_span
from rootspan.draft import Draft, Plan
from rootspan.freeze import LABEL, LONGEST_ID
from rootspan.lengths import DATA, SHORT
from rootspan.properties import write_properties
from rootspan.protobuf import ATTRIBUTE, PLAIN_END, TIMES, ProtobufEncoder, key_value, sized, span_ids
from rootspan.record import Identity, Kind, Record

__all__ = ["Short", "shortcut"]

Short = Callable[[tuple[Any, ...], str], "bytes | None"]
"""Takes a record and its trace; returns the encoded span, or None where the record has to take the long way."""

_CHATS: Final = frozenset({Kind.EVENT, Kind.INTERACTION})
_TEXTS: Final = _CHATS | {Kind.REQUEST, Kind.STEP, Kind.DECISION}  # a text of theirs is written into place
_KINDS: Final = _TEXTS | {Kind.MODEL, Kind.TOOL, Kind.RETRIEVAL}
_LABELS: Final = frozenset(
    {
        "tags", "agent_name", "response_model", "finish_reasons", "operation", "has_children",
        "tokens_below", "cost_below", "tool_name", "tool_description",
    }
)  # fmt: skip
_RARE: Final = frozenset(
    {"call_id", "reasoning", "alternatives", "confidence", "custom_metrics", "attributes", "host_attributes"}
)
_RARER: Final = _RARE - {"attributes"}
_COUNTS: Final = frozenset({field for field, _, _ in TOKENS})
_FIELDS: Final = _LABELS | _RARE | _COUNTS | {"links"}
_Writers = tuple[Callable[[Draft], None], ...]
_CONTENT: Final[_Writers] = (write_input, write_output)
_PROPERTIES: Final[_Writers] = (write_properties,)
_STOP: Final = ("stop",)  # why an answer ended where nobody says why
# What stands around a text in the messages that it makes.
_ASKED: Final = '[{"role":"user","parts":[{"type":"text","content":', "}]}]"
_ANSWERED: Final = '[{"role":"assistant","parts":[{"type":"text","content":', '}],"finish_reason":"stop"}]'
_START: Final = Record._fields.index("start")
_BARE: Final[tuple[Any, ...]] = Kind.EVENT, None, "0" * 16, None, None, 0, "event", *(None,) * (len(Record._fields) - 8)
_MOST: Final = 4096  # things of a kind that are remembered; then all are forgotten
_LONGEST: Final = 2 * LABEL  # characters of what labels an event
_TYPES: Final = frozenset({str, tuple})  # of one of its labels, but those that are only true
_BELOW: Final = frozenset({"tokens_below", "cost_below"})
_FLAGS: Final = _BELOW | {"has_children"}
_SHORT: Final = 128  # bytes of a property that is worth remembering
_SIZES: Final = 2000  # bytes of a text up to which the beginning of its field is remembered
_ESCAPED: Final = 6  # characters that JSON may write for one
_AROUND: Final = 200  # characters that JSON may write around a text
_ENTRY: Final = 16  # characters of an entry of a dict that are counted beside its text
_TOLD: Final = frozenset({"session_id", "user_id"})
_TOKENS_IN: Final = semconv.GEN_AI_USAGE_INPUT_TOKENS
_TOKENS_OUT: Final = semconv.GEN_AI_USAGE_OUTPUT_TOKENS

T = TypeVar("T")


class _NotPlainError(Exception):
    """This one takes the long way."""


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
        self._heads: dict[Any, tuple[bytes, bytes]] = {}
        self._people: dict[Any, tuple[bytes, bytes]] = {}
        self._requests: dict[int, tuple[Any, bytes]] = {}
        self._keys: dict[str, bytes] = {}
        self._pairs: dict[Any, bytes] = {}
        asked = semconv.INPUT_VALUE, semconv.INPUT_MIME_TYPE, semconv.GEN_AI_INPUT_MESSAGES
        self._input = _Side(encoder, "input", asked, *_ASKED)
        answered = semconv.OUTPUT_VALUE, semconv.OUTPUT_MIME_TYPE, semconv.GEN_AI_OUTPUT_MESSAGES
        self._output = _Side(encoder, "output", answered, *_ANSWERED)
        self._metadata = _Begun(encoder.key(semconv.METADATA))
        self._convo = [_Begun(encoder.key(name)) for name in (semconv.SESSION_ID, semconv.GEN_AI_CONVERSATION_ID)]
        self._user = [_Begun(encoder.key(semconv.USER_ID))]
        self._written_here = frozenset(name for kind in _KINDS for name in to_span(_whole(kind), plan).attributes)

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
        rare: bytes | None = b""
        start, outcome, counted, usage, more = end, None, False, b"", None
        if len(record) > _START:
            start, outcome, counted, usage, more, rare = self._rest(record)
        agent, tags, outer, labels = None, (), None, ()
        if inherited is not None:
            user, convo = user or inherited.user_id, convo or inherited.convo_id
            agent, tags, outer = inherited.agent_name, inherited.tags, inherited.properties
        if more and not _LABELS.isdisjoint(more):
            labels = tuple([field for field in more.items() if field[0] in _LABELS])
        label = kind, name, model, provider, agent, tags, outcome, counted, labels
        called, shared = self._heads.get(label) or self._head(label)
        person, told = self._people.get((convo, user)) or self._person(convo, user)
        parts = [
            span_ids(trace[:32], span[-16:], parent[-16:] if parent else None), called,
            TIMES(b"\x39", start, b"\x41", end), shared, usage, person,
        ]  # fmt: skip
        # Properties that are inherited, that are no flat dict, or that stand beside rare fields are shaped with those.
        odd = outer is not None or (properties is not None and (type(properties) is not dict or rare != b""))
        if odd or rare is None or asked is not None or answered is not None:
            writers = self._write_texts(kind, asked, answered, parts)
            if rare is None or (odd and rare):
                writers += RARE
            if odd:
                writers += _PROPERTIES
            if writers:
                parts.append(self._shaped(record, writers, convo, user))
        if not odd:
            parts.append(rare or b"")
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

    def _write_texts(self, kind: str, asked: Any, answered: Any, parts: list[bytes]) -> _Writers:
        """Add the texts that went in and came out; return what shapes them where they are no texts."""
        if kind not in _TEXTS or (asked is not None and type(asked) is not str):
            return _CONTENT
        if answered is not None and type(answered) is not str:
            return _CONTENT
        if asked is not None:
            parts += self._said(asked, self._input, kind)
        if answered is not None:
            parts += self._said(answered, self._output, kind)
        return ()

    def _shaped(
        self, record: tuple[Any, ...], writers: _Writers, convo: str | None = None, user: str | None = None
    ) -> bytes:
        """Return the attributes that functions of the dialect write of a record."""
        draft = Draft(Record(*record), self._plan)
        draft.convo, draft.user = convo or None, user or None
        for write in writers:
            write(draft)
        if draft.dropped:
            raise _NotPlainError
        return self._encoder.attributes(draft.attributes)

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

    def _write_properties(self, properties: dict[str, Any], told: bytes, parts: list[bytes]) -> None:
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
        written = ATTRIBUTE + key_value(self._keys.get(key) or self._key(key), value)
        if kind is float:
            if value - value != 0.0:  # NaN
                raise _NotPlainError
            return written
        if kind is str:
            encoded = ";base64," in value or (len(value) >= SHORT and key in DATA)
            if encoded or self._redactor.text("properties", value) is not value:
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
        kind, name, model, provider, agent, tags, outcome, counted, labels = label
        if len(repr(label)) > _LONGEST or not all(type(value) in _TYPES or field in _FLAGS for field, value in labels):
            raise _NotPlainError  # too long to remember, or equal to what is written otherwise, as 1 is to True
        record = Record(*_BARE)._replace(
            kind=kind, name=name, model=model, provider=provider, outcome=outcome, more=dict(labels) or None,
            inherited=Identity(agent_name=agent, tags=tags), input_tokens=0 if counted else None,
        )  # fmt: skip
        span = to_span(record, self._plan)
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
        if len(told) > self._longest:
            raise _NotPlainError
        return _remember(self._people, (convo, user), (b"".join(parts), told))

    def _requested(self, more: Mapping[str, Any]) -> bytes | None:
        """Return the attributes that many requests have in common and nobody changes; None where that is not all."""
        given: Any = more.get("attributes")
        frozen: Any = type(given)
        if frozen is not MappingProxyType or not _RARER.isdisjoint(more):
            return None
        known = self._requests.get(id(given))
        if known is None:
            fields = self._shaped((*_BARE, {"attributes": given}), RARE)
            known = _remember(self._requests, id(given), (given, fields))  # kept, so that its id stays its own
        return known[1]

    def _rest(self, record: tuple[Any, ...]) -> tuple[int, str | None, bool, bytes, Any, bytes | None]:
        """Return when it began, its outcome, whether tokens were counted, what it used as attributes, and the rest.

        Of the rest: all of it, and its rare fields as attributes; None where they still have to be shaped.
        """
        start, tokens_in, tokens_out, cost, outcome, error, more = record[_START:]
        if error is not None or outcome == "failure":
            raise _NotPlainError
        counted, usage = tokens_in is not None or tokens_out is not None, b""
        rare: bytes | None = b""
        if more:
            known = self._requests.get(id(more.get("attributes")))
            if known is not None and len(more) == 1:  # like many a request before
                rare = known[1]
            else:
                self._look_at(record, more)
                rare = b"" if _RARE.isdisjoint(more) else self._requested(more)
        if counted or cost is not None or (more and not _COUNTS.isdisjoint(more)):
            usage = self._usage(tokens_in, tokens_out, cost, more or {})
            if more and not _BELOW.isdisjoint(more):
                raise _NotPlainError
        return record[5] if start is None else start, outcome, counted, usage, more, rare

    def _look_at(self, record: tuple[Any, ...], more: Mapping[str, Any]) -> None:
        """Raise where one of these fields changes what others become."""
        given, outside = more.get("attributes"), more.get("host_attributes")
        if (
            not _FIELDS.issuperset(more)
            or (record[0] in _CHATS and more.get("finish_reasons", _STOP)[0] != _STOP[0])
            or (given is not None and id(given) not in self._requests and not self._written_here.isdisjoint(given))
            or (outside is not None and not self._written_here.isdisjoint(outside))
        ):
            raise _NotPlainError

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


def _whole(kind: str) -> Record:
    """Return a record with everything but what is rare."""
    labels: dict[str, Any] = {**dict.fromkeys(_LABELS - _FLAGS, "x"), "tags": ("x",), "finish_reasons": ("x",)}
    return Record(*_BARE)._replace(
        kind=kind, user_id="x", convo_id="x", model="m", provider="x", input="x", output=b'[""]', outcome="success",
        input_tokens=1, output_tokens=1, cost=1.0, more={**labels, **dict.fromkeys(_COUNTS, 1)},
    )  # fmt: skip


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
