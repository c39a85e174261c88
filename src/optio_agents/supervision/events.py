"""What happens in a session, as values: one stream, numbered, the same for whoever reads it.

    async with find_session("7f3a", store=store) as session:
        async for event in session.events():
            match event:
                case LogLine(event=StatusEvent(percent, text)): ...
                case TurnEnded(turn) if not turn.ok: ...
                case RequestOpened() as asked: ...
                case SessionEnded(result): ...

*number* is the place of an event among all events of its session, 1, 2, 3 … without gaps, given
by the journal when it is recorded; so a late reader, another process and a page see the same from
any number on. An `AgentEvent` has none: it lies in the agent's output on its host and nowhere
else, and whoever reads later does not get it. *at* is when it happened (seconds since the epoch).

Values of named credentials are replaced by `[NAME]` in all of it. The other texts are the agent's:
show them with `visible`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

from optio_agents.conversation.contract import PermissionRequest, TokenUsage, TurnResult
from optio_agents.protocol.events import LogEvent, UnknownLine
from optio_agents.protocol.features import EVERYTHING
from optio_agents.protocol.parser import parse_log_line
from optio_agents.store.records import (
    Delivery,
    Ended,
    Entry,
    Recordable,
    SessionResult,
    SessionState,
)

if TYPE_CHECKING:
    from optio_agents.conversation.contract import PermissionDecision
    from optio_agents.display import Secrets
    from optio_agents.hosts.machine import LinkState
    from optio_agents.store.records import SessionRecords, StoredEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """What every event has: its place in the sequence, if it has one, and its time."""

    number: int | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class SessionBegan(Occurrence):
    """It is about to run, or to run again."""

    host: str  # as its user would say it
    taskdir: str
    title: str
    resumed: bool
    by: str  # the owner, as a person reads it


@dataclass(frozen=True, slots=True)
class LogLine(Occurrence):
    """A line of the log; (file, generation, offset) is its id within the session."""

    event: LogEvent
    file: str
    generation: int
    offset: int
    repeated: bool  # it may have been delivered before


@dataclass(frozen=True, slots=True)
class DeliveryStep(Occurrence):
    """One more step of an announced file: announced, fetched, judged, answered."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class DoneChecked(Occurrence):
    """A DONE was checked, and holds; or *text* is what the agent is told about it."""

    accepted: bool
    text: str


@dataclass(frozen=True, slots=True)
class AgentRestarted(Occurrence):
    """The agent died, and is about to be started again, the *count*th time of at most *most*."""

    count: int
    most: int
    why: str


@dataclass(frozen=True, slots=True)
class MessageSent(Occurrence):
    """Somebody has said something to the agent; its *name* is said once."""

    name: str
    text: str
    by: str


@dataclass(frozen=True, slots=True)
class TurnEnded(Occurrence):
    """A turn of the agent's has ended, whether it was completed or not."""

    turn: TurnResult


@dataclass(frozen=True, slots=True)
class RequestOpened(Occurrence):
    """The agent wants to use a tool and waits; *digest* stands for all that it asks."""

    request: PermissionRequest
    digest: str


@dataclass(frozen=True, slots=True)
class RequestDecided(Occurrence):
    """A request is not open any more."""

    request: str  # its id
    behavior: str  # "allow", "deny", or "settled": elsewhere, or by the agent itself
    by: str


@dataclass(frozen=True, slots=True)
class StateChanged(Occurrence):
    """The session stands otherwise than before."""

    state: SessionState


@dataclass(frozen=True, slots=True)
class LinkChanged(Occurrence):
    """The way to the host is another than before."""

    state: LinkState
    reason: str


@dataclass(frozen=True, slots=True)
class TodosChanged(Occurrence):
    """The agent has changed its own list of what it has to do; *text* names what it is at."""

    percent: int | None
    text: str | None
    items: Sequence[Mapping[str, str]]  # each with `id`, `text`, `status`


@dataclass(frozen=True, slots=True)
class Notice(Occurrence):
    """A sentence for the operator."""

    text: str


@dataclass(frozen=True, slots=True)
class SessionEnded(Occurrence):
    """How this run of the session ended; nothing of the run comes behind it."""

    result: SessionResult


@dataclass(frozen=True, slots=True)
class AgentEvent(Occurrence):
    """What the agent itself has said, unchanged; read-only, and of this moment only."""

    event: dict[str, Any]


SessionEvent: TypeAlias = (
    SessionBegan
    | LogLine
    | DeliveryStep
    | DoneChecked
    | AgentRestarted
    | MessageSent
    | TurnEnded
    | RequestOpened
    | RequestDecided
    | StateChanged
    | LinkChanged
    | TodosChanged
    | Notice
    | SessionEnded
    | AgentEvent
)
Observer: TypeAlias = Callable[[SessionEvent], None]
"""Called on the event loop, in order, and must not block. What it raises harms nobody."""

Written: TypeAlias = (
    SessionBegan
    | AgentRestarted
    | MessageSent
    | TurnEnded
    | RequestOpened
    | RequestDecided
    | StateChanged
    | LinkChanged
    | TodosChanged
    | Notice
)
"""What a supervisor writes down by itself; lines, deliveries and the end come with their rows."""


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A permission that nobody has given or refused yet; *digest* stands for all of it."""

    request: PermissionRequest
    digest: str

    @classmethod
    def of(cls, request: PermissionRequest) -> OpenRequest:
        """With a digest of all that it asks, and of what "always" would grant with it.

        Who approves it approves this and nothing else.
        """
        return cls(request, _digest(request.tool_name, request.input, request.raw))

    def hiding(self, secrets: Secrets) -> OpenRequest:
        """The same to be shown: the digest stands for what it really is."""
        given, raw = secrets.hide_in(self.request.input), secrets.hide_in(self.request.raw)
        return replace(self, request=replace(self.request, input=given, raw=raw))

    def was_shown_as(self, digest: str, decision: PermissionDecision) -> bool:
        """Whether who saw what *digest* stands for may decide so.

        Up to version 0.3.2 that did not tell what may be granted, so there nothing is.
        """
        if digest == self.digest:
            return True
        older = _digest(self.request.tool_name, self.request.input)
        return digest == older and not decision.updated_permissions


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class AnswerOutcome:
    """What became of an answer: the first one wins. *by* is whose it was."""

    won: bool
    by: str
    passed_on: str = ""  # the next message, which tells the reason that the answer could not


T = TypeVar("T")

# To the journal and back. Keys are added over time, and unknown ones passed over.


_PLAIN: Mapping[str, type[SessionEvent]] = {  # kept as they are, under these names
    "began": SessionBegan,
    "check": DoneChecked,
    "restart": AgentRestarted,
    "sent": MessageSent,
    "decision": RequestDecided,
    "link": LinkChanged,
    "todos": TodosChanged,
    "notice": Notice,
}
_NAMES = {kind: name for name, kind in _PLAIN.items()}


def recordable(event: Written, at: float) -> Recordable:
    """As the journal keeps it."""
    match event:
        case TurnEnded(turn):
            return Recordable("turn", asdict(turn), at)
        case RequestOpened(request, digest):
            value = {**_value(request), "digest": digest}
            return Recordable("request", value, at, key=request.id)
        case StateChanged(state):
            return Recordable("state", asdict(state), at)
        case MessageSent(name=key) | RequestDecided(request=key):
            return Recordable(_NAMES[type(event)], _value(event), at, key=key)
    return Recordable(_NAMES[type(event)], _value(event), at)


def event_of(stored: StoredEvent) -> SessionEvent:
    """As it was when it happened."""
    place: dict[str, Any] = {"number": stored.number, "at": stored.at}
    value, entry = stored.value, stored.entry
    if stored.kind in _PLAIN:
        return _made(_PLAIN[stored.kind], value, **place)
    match stored.kind:
        case "turn":
            usage = value.get("usage")
            known = {**value, "usage": _made(TokenUsage, usage) if usage else None}
            return TurnEnded(_made(TurnResult, known), **place)
        case "request":
            return RequestOpened(_made(PermissionRequest, value), value["digest"], **place)
        case "state":
            return StateChanged(_made(SessionState, value), **place)
        case "finished":
            return SessionEnded(_result(value), **place)
    assert entry is not None, stored.kind
    if stored.kind == "delivery":
        return DeliveryStep(_made(Delivery, value, entry=entry), **place)
    where = (entry.file, entry.generation, entry.offset, entry.repeated)
    return LogLine(line_event(entry), *where, **place)


async def recorded(records: SessionRecords, after: int) -> AsyncIterator[SessionEvent]:
    """What was recorded behind number *after*, up to now."""
    while rows := await records.events(after):
        for row in rows:
            after = row.number
            yield event_of(row)


def line_event(entry: Entry) -> LogEvent:
    """What a recorded line says: for a session that did not know its keyword, it is narration."""
    if entry.kind == "unknown":
        return UnknownLine(entry.line)
    return parse_log_line(entry.line, features=EVERYTHING)


def _value(event: Any) -> dict[str, Any]:
    value = dict[str, Any]()
    for field in fields(event):
        if field.name not in ("number", "at"):
            value[field.name] = getattr(event, field.name)
    return value


def _made(kind: type[T], value: Mapping[str, Any], **more: Any) -> T:
    known, values = {**value, **more}, cast("Any", kind)
    for name in known.keys() - values.__dataclass_fields__.keys():
        del known[name]
    return kind(**known)


def _result(value: Mapping[str, Any]) -> SessionResult:
    deliveries = [
        _made(Delivery, {**one, "entry": _made(Entry, one["entry"])})
        for one in value.get("deliverables") or ()
    ]
    texts = {name: tuple(value.get(name) or ()) for name in ("last_lines", "abandoned")}
    known = {**value, **texts, "deliverables": tuple(deliveries), "cursor": None}
    return _made(SessionResult, {**known, "agent": _made(Ended, value.get("agent") or {})})
