"""The table of keywords: what the parser reads and what the prompt teaches, in one place."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

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
)
from .features import ProtocolFeatures

# What may stand behind a keyword's colon, and the event it makes; None if it is none.


_Event = TypeVar("_Event")
_PERCENTS = {str(number): number for number in range(101)}  # what agents write
_URL = re.compile(r'(?i:https?)://[^\s"/?#]+(?:[/?#][^"]*)?')


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
    elif " " in value:
        return None
    if not _URL.fullmatch(value) or not value.isprintable():
        return None
    return BrowserEvent(value.replace(" ", "%20"))  # as whoever opens it would


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyword:
    """One row: *read* gets what stands behind the colon, *examples* are shown to agents."""

    name: str
    grammar: str
    read: Callable[[str], LogEvent | None]
    teaches: str
    examples: Mapping[str, LogEvent]
    bare: bool = False  # stands alone as well, without a colon
    feature: Callable[[ProtocolFeatures], bool] | None = None

    def enabled(self, features: ProtocolFeatures) -> bool:
        return self.feature is None or self.feature(features)


_MESSAGE = "a key without spaces that your instructions name, then JSON, all on one line"

KEYWORDS = (
    Keyword(
        name="STATUS",
        grammar="STATUS: [NN%] text",
        read=status,
        teaches="what you are doing, and if you can tell, how much of the whole task is done. "
        "Write one when you start and at every step that a reader would want to know of",
        examples={
            "STATUS: 40% parser works, writing its tests": StatusEvent(
                40, "parser works, writing its tests"
            ),
            "STATUS: reading the code": StatusEvent(None, "reading the code"),
        },
    ),
    Keyword(
        name="DELIVERABLE",
        grammar="DELIVERABLE: path",
        read=deliverable,
        teaches="a file is ready to be fetched (see *Deliverables*); the path is absolute or "
        "starts from the directory you were started in",
        examples={
            "DELIVERABLE: ./deliverables/report.md": DeliverableEvent("./deliverables/report.md"),
        },
    ),
    Keyword(
        name="ATTENTION",
        grammar="ATTENTION: reason",
        read=attention,
        teaches="you need a person to look at something; say what",
        examples={
            "ATTENTION: the test database refuses my login": AttentionEvent(
                "the test database refuses my login"
            ),
        },
    ),
    Keyword(
        name="BROWSER",
        grammar='BROWSER: "url"',
        read=browser,
        teaches="an http or https page for the user to see. `xdg-open URL` writes this line for "
        "you; no browser runs here, and you cannot see the page",
        examples={
            'BROWSER: "https://example.com/login?step=1"': BrowserEvent(
                "https://example.com/login?step=1"
            ),
        },
        feature=lambda features: features.browser == "redirect",
    ),
    Keyword(
        name="CLIENT_MESSAGE",
        grammar="CLIENT_MESSAGE: key {json}",
        read=client_message,
        teaches=f"data for the user interface: {_MESSAGE}",
        examples={
            'CLIENT_MESSAGE: chart {"passed": 12, "failed": 0}': ClientMessageEvent(
                "chart", {"passed": 12, "failed": 0}
            ),
        },
        feature=lambda features: features.client_messages,
    ),
    Keyword(
        name="CALLER_MESSAGE",
        grammar="CALLER_MESSAGE: key {json}",
        read=caller_message,
        teaches=f"data for the program that started you: {_MESSAGE}",
        examples={
            'CALLER_MESSAGE: budget {"hours": 3}': CallerMessageEvent("budget", {"hours": 3}),
        },
        feature=lambda features: features.caller_messages,
    ),
    Keyword(
        name="DONE",
        grammar="DONE[: summary]",
        read=done,
        teaches="the task is finished and this is your last entry",
        examples={
            "DONE: report written, all 52 tests pass": DoneEvent(
                "report written, all 52 tests pass"
            ),
            "DONE": DoneEvent(),
        },
        bare=True,
    ),
    Keyword(
        name="ERROR",
        grammar="ERROR[: message]",
        read=error,
        teaches="you cannot finish the task, for this reason, and this is your last entry",
        examples={
            "ERROR: no compiler on this machine": ErrorEvent("no compiler on this machine"),
            "ERROR": ErrorEvent(),
        },
        bare=True,
    ),
)
