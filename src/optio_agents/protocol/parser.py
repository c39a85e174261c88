"""Lines of the log to events, and back."""

from __future__ import annotations

import re
from typing import assert_never

from optio_agents.protocol import strict_json

from .events import (
    AttentionEvent,
    BrowserEvent,
    CallerMessageEvent,
    ClientMessageEvent,
    DeliverableEvent,
    DoneEvent,
    ErrorEvent,
    LogEvent,
    StatusEvent,
    UnknownLine,
)
from .features import ProtocolFeatures
from .keywords import KEYWORDS
from .paths import relativize_deliverable_path, validate_deliverable_path

__all__ = [
    "AttentionEvent",
    "BrowserEvent",
    "CallerMessageEvent",
    "ClientMessageEvent",
    "DeliverableEvent",
    "DoneEvent",
    "ErrorEvent",
    "LogEvent",
    "ProtocolFeatures",
    "StatusEvent",
    "UnknownLine",
    "format_log_line",
    "parse_log_line",
    "relativize_deliverable_path",
    "validate_deliverable_path",
]

_PLAIN = ProtocolFeatures()
_BOM = "\ufeff"
_ROWS = {row.name: row for row in KEYWORDS}
_STARTS = (*_ROWS, _BOM)


def parse_log_line(line: str, *, features: ProtocolFeatures = _PLAIN) -> LogEvent:
    """The one event that *line* says; any string says one, in linear time."""
    try:
        line = line.rstrip()
        if not line.startswith(_STARTS):  # most lines; all that follows is for the others
            return UnknownLine(line)
    except (TypeError, AttributeError):
        raise TypeError(
            f"a line is text, and not {line!r:.80}: decode bytes, with errors='replace'"
        ) from None
    name, colon, value = line.partition(":")
    row = _ROWS.get(name) or _ROWS.get(name.lstrip(_BOM))
    if row is None or not (colon or row.bare) or "\n" in value:
        return UnknownLine(line)
    if row.feature is not None and not row.feature(features):
        return UnknownLine(line)
    event = row.read(value.lstrip())
    return UnknownLine(line) if event is None else event


def format_log_line(event: LogEvent, *, features: ProtocolFeatures = _PLAIN) -> str:
    """The line, without its newline, that `parse_log_line` reads as *event*.

    Raises:
        ValueError: no single line says that.
    """
    try:
        line = _line(event)
        says_it = parse_log_line(line, features=features) == event and "\n" not in line
    except (TypeError, ValueError, RecursionError) as error:  # data that JSON does not know
        raise ValueError(f"no line says {type(event).__name__} with such data") from error
    if not says_it:
        raise ValueError(f"no line says {event!r}")
    return line


def _line(event: LogEvent) -> str:
    match event:
        case StatusEvent(percent, message):
            return _entry("STATUS", message if percent is None else f"{percent}% {message}")
        case DoneEvent(text):
            return "DONE" if text is None else _entry("DONE", text)
        case ErrorEvent(text):
            return "ERROR" if text is None else _entry("ERROR", text)
        case DeliverableEvent(text):
            return _entry("DELIVERABLE", text)
        case AttentionEvent(text):
            return _entry("ATTENTION", text)
        case BrowserEvent(url):
            return _entry("BROWSER", f'"{url}"')
        case ClientMessageEvent(keyword, data):
            return _entry("CLIENT_MESSAGE", f"{keyword} {strict_json.dumps(data)}")
        case CallerMessageEvent(keyword, data):
            return _entry("CALLER_MESSAGE", f"{keyword} {strict_json.dumps(data)}")
        case UnknownLine(text):
            return text
    assert_never(event)


def _entry(name: str, value: str) -> str:
    return f"{name}: {value}".rstrip()


# What an agent may have meant: a line that is nearly an entry of the log.


_NEARLY = re.compile(
    r"""[\s*_#>`~•+\-\d.)\[]*            # list marks, emphasis, quotes, numbering
        (status|deliverable|done|error|attention)
        [*_`~\]]*
        (?:(?P<colon>\s*:)|[.!\s*_`~]*$)""",
    re.IGNORECASE | re.VERBOSE,
)
_BARE = {"DONE", "ERROR"}  # entries without a colon, too
_FRONT = 80  # characters: a keyword stands at the front


def near_miss(text: str) -> str | None:
    """The keyword that a line of narration was probably meant to start with, if any."""
    match = _NEARLY.match(text[:_FRONT])
    if match is None:
        return None
    word = match[1].upper()
    return word if match["colon"] or word in _BARE else None
