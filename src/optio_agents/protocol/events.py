"""What a line of the log can say."""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """The agent says how far it is; *percent* is 0 to 100, or None if it named no number."""

    percent: int | None
    message: str

    def __init__(self, percent: int | None, message: str) -> None:
        _set_percent(self, percent)
        _set_message(self, message)


@dataclass(frozen=True, slots=True)
class DeliverableEvent:
    """The agent names a file that is ready to be fetched."""

    path: str


@dataclass(frozen=True, slots=True)
class DoneEvent:
    """The agent has finished its task."""

    summary: str | None = None


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """The agent cannot go on."""

    message: str | None = None


@dataclass(frozen=True, slots=True)
class AttentionEvent:
    """The agent asks for a person."""

    reason: str


@dataclass(frozen=True, slots=True)
class BrowserEvent:
    """A program of the agent wants this http or https address shown to the user."""

    url: str


@dataclass(frozen=True, slots=True)
class ClientMessageEvent:
    """Data for the user interface that shows the session."""

    keyword: str
    data: object


@dataclass(frozen=True, slots=True)
class CallerMessageEvent:
    """Data for the program that started the session."""

    keyword: str
    data: object


@dataclass(frozen=True, slots=True)
class UnknownLine:
    """A line that is no entry: narration, never dropped silently."""

    text: str

    def __init__(self, text: str) -> None:
        _set_text(self, text)


LogEvent: TypeAlias = (
    StatusEvent
    | DeliverableEvent
    | DoneEvent
    | ErrorEvent
    | AttentionEvent
    | BrowserEvent
    | ClientMessageEvent
    | CallerMessageEvent
    | UnknownLine
)

# Nine lines in ten are one of these two, and the way through object.__setattr__ that a frozen
# dataclass takes is the better half of reading one.
_set_percent = StatusEvent.__dict__["percent"].__set__
_set_message = StatusEvent.__dict__["message"].__set__
_set_text = UnknownLine.__dict__["text"].__set__
