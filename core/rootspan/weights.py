"""About how many bytes a queued record holds, for the bound of the queue."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from rootspan.freeze import weight
from rootspan.record import INHERITED, INPUT, OUTPUT, PROPERTIES, Record

__all__ = ["RECORD_BYTES", "weigh"]

RECORD_BYTES: Final = 900
"""What a record holds beside its input, output and properties."""

_WHOLE: Final = len(Record._fields)
_UNWEIGHED: Final = frozenset({list, MappingProxyType})  # events; what many records share


def weigh(record: tuple[Any, ...]) -> int:
    """Return about how many bytes a queued record holds."""
    total, input, output, properties = RECORD_BYTES, record[INPUT], record[OUTPUT], record[PROPERTIES]
    if input is not None:
        total += len(input) if type(input) is str else weight(input)
    if output is not None:
        total += len(output) if type(output) is str else weight(output)
    if properties is not None:
        total += weight(properties)
    if record[INHERITED] is not None and record[INHERITED].properties is not None:
        total += weight(record[INHERITED].properties)
    if len(record) == _WHOLE:
        error, more = record[-2:]
        if error is not None:
            total += len(error[1] or "")
        if more is not None:
            for value in more.values():
                if type(value) not in _UNWEIGHED:
                    total += weight(value)
    return total
