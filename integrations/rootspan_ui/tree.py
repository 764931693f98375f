"""A trace as a tree of lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from rootspan_ui import fields
from rootspan_ui.spans import ReceivedSpan
from rootspan_ui.text import cells, clean, cut, dollars, duration
from rootspan_ui.traces import Trace

__all__ = ["render"]

_NARROWEST: Final = 40
_WIDEST: Final = 120
_DEEPEST: Final = 12  # levels that are indented; what is deeper stays at this one
_MOST: Final = 400  # spans shown of one trace
_MOST_LINKS: Final = 4
_CONTENT: Final = 80  # columns of input or output

_BOLD, _DIM, _RED, _YELLOW, _CYAN = "1", "2", "31", "33", "36"


class _Pen(NamedTuple):
    """How things are drawn: what the terminal can show, and how wide it is."""

    colour: bool
    unicode: bool
    width: int

    def paint(self, text: str, *styles: str) -> str:
        return f"\x1b[{';'.join(styles)}m{text}\x1b[0m" if self.colour and styles and text else text

    def words(self, text: str, width: int) -> str:
        return cut(clean(text, self.unicode), width, self.unicode)

    def glyph(self, drawn: str, typed: str) -> str:
        return drawn if self.unicode else typed


class _Row(NamedTuple):
    span: ReceivedSpan
    first: str  # in front of the name
    rest: str  # in front of the lines below it


def render(trace: Trace, colour: bool, width: int, *, unicode: bool = True) -> str:
    """Draw a trace.

    Args:
        trace: the trace, from any OpenTelemetry SDK.
        colour: whether to use ANSI colours; text from the trace never can.
        width: columns of the terminal; at most 120 of them are used.
        unicode: False draws with ASCII.

    Returns:
        Lines, each ended by a line feed.
    """
    pen = _Pen(colour, unicode, min(max(width, _NARROWEST), _WIDEST))
    lines = [_header(trace, pen)]
    rows = list(_rows(trace, pen))
    for row in rows[:_MOST]:
        lines.append(_title(row, trace, pen))
        lines.extend(pen.paint(row.rest, _DIM) + line for line in _details(row, trace, pen))
    if len(rows) > _MOST:
        lines.append(pen.paint(f"{pen.glyph('…', '...')} and {len(rows) - _MOST:,} more spans", _DIM))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _header(trace: Trace, pen: _Pen) -> str:
    spans = trace.spans
    named = [("session", fields.session), ("user", fields.user)]
    who = [(noun, next((name for name in map(read, spans) if name), None)) for noun, read in named]
    service = next((str(name) for span in spans if (name := span.resource.get("service.name"))), None)
    tail = f"trace {pen.words(trace.trace_id[:8], 8)}"
    parts = [_clock(spans[0].start) if spans else "--:--:--"]
    if trace.known:
        parts.append("late addition")
    elif not trace.rooted:
        parts.append("root not here yet")
    parts += [f"{noun} {pen.words(name, 40)}" for noun, name in who if name]
    parts += [pen.words(service, 30)] if service and not service.startswith("unknown_service") else []
    left = cut("  ".join(parts), pen.width - len(tail) - 2, pen.unicode)
    gap = " " * max(pen.width - cells(left) - len(tail), 2)
    when, _, about = left.partition("  ")
    return pen.paint(when, _BOLD) + ("  " + pen.paint(about, _DIM) if about else "") + gap + pen.paint(tail, _DIM)


def _clock(nanoseconds: int) -> str:
    try:
        return datetime.fromtimestamp(nanoseconds / 1e9).strftime("%H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return "--:--:--"


def _rows(trace: Trace, pen: _Pen) -> Iterator[_Row]:
    """Every span once, parents before children, whatever the parents' ids claim."""
    by_id = {span.span_id: span for span in trace.spans}
    children: dict[str | None, list[ReceivedSpan]] = {}
    for span in trace.spans:
        inside = span.parent_id in by_id and span.parent_id != span.span_id
        children.setdefault(span.parent_id if inside else None, []).append(span)
    placed: set[str] = set()
    for span in [*children.get(None, []), *trace.spans]:  # the second part: parents in a circle
        stack = [(span, "", "", 0)] if span.span_id not in placed else []
        while stack:
            at, first, rest, depth = stack.pop()
            placed.add(at.span_id)
            below = [child for child in children.get(at.span_id, []) if child.span_id not in placed]
            stem = pen.glyph("│ ", "| ") if below else "  "
            yield _Row(at, first, rest + stem)
            for child in reversed(below):
                last = child is below[-1]
                branch = pen.glyph("╰─ ", "`- ") if last else pen.glyph("├─ ", "|- ")
                onward = rest + ("   " if last else pen.glyph("│  ", "|  "))
                stack.append((child, rest + branch, onward if depth < _DEEPEST else rest, depth + 1))


def _title(row: _Row, trace: Trace, pen: _Pen) -> str:
    """Name and kind on the left; tokens, cost and duration on the right edge."""
    span = row.span
    failed = span.status_code == 2
    figures = _figures(span, pen)
    mark = pen.glyph("✗ ", "x ") if failed else ""
    room = pen.width - cells(row.first) - cells(figures) - len(mark) - 2
    name = pen.words(span.name, max(room, 8)) or "(no name)"
    room -= cells(name)
    left = pen.paint(mark, _RED) + pen.paint(name, _BOLD, *([_RED] if failed else []))
    for text, style in _labels(span, trace, pen):
        if cells(text) + 2 <= room:
            room -= cells(text) + 2
            left += "  " + pen.paint(text, style)
    return pen.paint(row.first, _DIM) + left + " " * (max(room, 0) + 2) + pen.paint(figures, _DIM)


def _labels(span: ReceivedSpan, trace: Trace, pen: _Pen) -> Iterator[tuple[str, str]]:
    status = fields.status_code(span)
    if status is not None:
        yield str(status), _RED if status >= 500 else _YELLOW if status >= 400 else _DIM
    outcome = fields.outcome(span)
    if outcome:
        yield pen.words(outcome, 20), _YELLOW
    for text, style in ((fields.model(span), _CYAN), (fields.tool(span), _CYAN)):
        if text and text not in span.name:
            yield pen.words(text, 40), style
    if span.parent_id is not None and span.parent_id in trace.known:
        yield f"under {pen.words(trace.known[span.parent_id], 30)}, above", _DIM


def _figures(span: ReceivedSpan, pen: _Pen) -> str:
    used, paid = fields.tokens(span), fields.cost(span)
    parts: list[str] = []
    if used is not None:
        parts.append(f"{used[0]:,} {pen.glyph('→', '->')} {used[1]:,} tok")
    if paid is not None:
        parts.append(dollars(paid))
    took = duration(span.end - span.start, pen.unicode) if span.end >= span.start > 0 else "?"
    return "  ".join([*parts, f"{took:>8}"])


def _details(row: _Row, trace: Trace, pen: _Pen) -> Iterator[str]:
    span = row.span
    room = max(min(pen.width - cells(row.rest) - 5, _CONTENT), 12)
    note = fields.note(span)
    if note:
        yield pen.words(note, room + 5)
    over = fields.alternatives(span)
    if over:
        yield pen.paint("over ", _DIM) + pen.words(over, room)
    for label, text in (("in", fields.input_text(span)), ("out", fields.output_text(span))):
        if text:
            yield pen.paint(f"{label:<5}", _DIM) + pen.words(text, room)
    error = fields.error(span)
    if error:
        yield pen.paint(pen.words(error, room + 5), _RED)
    for link in span.links[:_MOST_LINKS]:
        if link.trace_id != trace.trace_id:
            yield pen.paint(f"linked to trace {pen.words(link.trace_id[:8], 8)}{pen.glyph('…', '...')}", _DIM)
