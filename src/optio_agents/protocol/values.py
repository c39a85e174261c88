"""What may stand behind a keyword's colon, and the event it makes; None if it is none."""

import re
from collections.abc import Callable
from typing import TypeVar

from optio_agents.protocol import strict_json
from optio_agents.protocol.events import (
    AttentionEvent,
    BrowserEvent,
    CallerMessageEvent,
    ClientMessageEvent,
    DeliverableEvent,
    DoneEvent,
    ErrorEvent,
    StatusEvent,
)

_Event = TypeVar("_Event")
_PERCENTS = {str(number): number for number in range(101)}  # what agents write
_URL = re.compile(r'(?i:https?)://[^\s"/?#][^\s"]*')


def status(value: str) -> StatusEvent:
    digits, sign, rest = value.partition("%")
    if sign and (not rest or rest[0].isspace()):
        percent = _PERCENTS.get(digits)
        if percent is None:
            percent = _percent(digits)
        if percent is not None:
            return StatusEvent(percent, rest.lstrip())
    return StatusEvent(None, value)


def _percent(digits: str) -> int | None:
    if not (digits.isascii() and digits.isdigit()):
        return None
    # Four digits tell whether it is over 100, and int() refuses some thousands of them.
    return min(int(digits.lstrip("0")[:4] or "0"), 100)


def deliverable(value: str) -> DeliverableEvent | None:
    return DeliverableEvent(value) if value else None


def done(value: str) -> DoneEvent:
    return DoneEvent(value or None)


def error(value: str) -> ErrorEvent:
    return ErrorEvent(value or None)


def attention(value: str) -> AttentionEvent | None:
    return AttentionEvent(value) if value else None


def browser(value: str) -> BrowserEvent | None:
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return BrowserEvent(value) if _URL.fullmatch(value) and value.isprintable() else None


def client_message(value: str) -> ClientMessageEvent | None:
    return _message(value, ClientMessageEvent)


def caller_message(value: str) -> CallerMessageEvent | None:
    return _message(value, CallerMessageEvent)


def _message(value: str, event: Callable[[str, object], _Event]) -> _Event | None:
    keyword, *payload = value.split(maxsplit=1)[:2] or [""]
    try:
        return event(keyword, strict_json.loads(payload[0])) if payload else None
    except ValueError:
        return None
