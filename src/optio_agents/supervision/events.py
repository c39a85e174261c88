"""A `ProcessContext` for sessions that no deployment started."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from optio_agents.store.records import ENDINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from optio_agents.conversation import ConversationState, PermissionRequest
    from optio_agents.display import Secrets
    from optio_agents.framing.cursor import Cursor
    from optio_agents.hosts.machine import LinkState
    from optio_agents.store.records import (
        Delivery,
        Entry,
        Journal,
        Resumed,
        SessionResult,
        StoredSession,
    )


# What whoever watches a session live gets to see.


_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Began:
    """The session is about to run, or to run again."""

    session: StoredSession
    resumed: bool


@dataclass(frozen=True, slots=True)
class Recorded:
    """Lines of the log that are now in the journal."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far the agent is; None leaves the percent as it was."""

    percent: float | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """One more step of an announced file: fetched, judged, answered."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Spoke:
    """An event of the conversation, the agent's own; read-only."""

    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answered:
    """The final text of a turn."""

    text: str


@dataclass(frozen=True, slots=True)
class Phase:
    """What the agent is doing, as far as it has said."""

    state: ConversationState


@dataclass(frozen=True, slots=True)
class Asked:
    """The agent wants to use a tool and waits; *digest* stands for what is shown here."""

    request: PermissionRequest
    digest: str


@dataclass(frozen=True, slots=True)
class Decided:
    """A request is not open any more."""

    request: str  # its id
    behavior: str  # "allow", "deny", or "settled": elsewhere, or by the agent itself
    by: str


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The way to the host is another than before."""

    state: LinkState
    reason: str


@dataclass(frozen=True, slots=True)
class NeedsYou:
    """The agent calls for a person."""

    reason: str


@dataclass(frozen=True, slots=True)
class OpenBrowser:
    """The agent wants an address to be shown. Untrusted: never open it unasked."""

    url: str


@dataclass(frozen=True, slots=True)
class FromAgent:
    """Data for the user interface."""

    keyword: str
    data: Any


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence for the operator."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """How the session ended."""

    result: SessionResult


Observation: TypeAlias = (
    Began
    | Recorded
    | Progressed
    | Delivered
    | Spoke
    | Answered
    | Phase
    | Asked
    | Decided
    | LinkChanged
    | NeedsYou
    | OpenBrowser
    | FromAgent
    | Notice
    | Finished
)
Observer: TypeAlias = Callable[[Observation], None]
"""Called on the event loop, in order, and must not block. What it raises harms nobody."""


class Eyes:
    """Shows things to an observer, if there is one, without the values of *secrets*."""

    def __init__(self, observer: Observer | None, secrets: Secrets) -> None:
        self._observer, self._secrets = observer, secrets

    def __call__(self, observation: Observation) -> None:
        if self._observer is None:
            return
        try:
            self._observer(self._hidden(observation) if self._secrets else observation)
        except Exception:
            _log.exception("an observer raised")

    def _hidden(self, value: Any) -> Any:
        """*value* in the same shape, with every text in it treated."""
        match value:
            case str():
                return self._secrets.hide(value)
            case tuple() | list():
                return type(value)(map(self._hidden, value))
            case Mapping():
                return {key: self._hidden(inner) for key, inner in value.items()}
            case _ if is_dataclass(value) and not isinstance(value, type):
                told = {f.name: self._hidden(getattr(value, f.name)) for f in fields(value)}
                return replace(value, **told)
        return value


# A journal that whoever watches can see being written.


Leaving: TypeAlias = Literal["detached", "taken over", "cut off"]


class ObservedJournal:
    """Shows what *journal* has kept, when it is kept.

    The driver cannot tell that a session goes on without it; `leaving` says so here.
    """

    def __init__(self, journal: Journal, eyes: Eyes) -> None:
        self.session = journal.session
        self.leaving: Leaving | None = None
        self.on_ending: Callable[[], None] = lambda: None  # DONE or ERROR is recorded
        self.result: SessionResult | None = None
        self._journal, self._eyes = journal, eyes

    async def start(self) -> Resumed:
        known = await self._journal.start()
        if known.ending is not None:
            self.on_ending()
        return known

    async def record(self, entries: Sequence[Entry], cursor: Cursor, digests: bytes) -> None:
        await self._journal.record(entries, cursor, digests)
        if entries:
            self._eyes(Recorded(tuple(entries)))
        if any(entry.kind in ENDINGS for entry in entries):
            self.on_ending()

    async def mark_done(self, entries: Sequence[Entry]) -> None:
        await self._journal.mark_done(entries)

    async def deliver(self, delivery: Delivery) -> None:
        await self._journal.deliver(delivery)
        self._eyes(Delivered(delivery))

    async def decide(self, entry: Entry, reply: str) -> None:
        await self._journal.decide(entry, reply)

    async def end(self, result: SessionResult) -> None:
        if self.leaving == "detached" and result.outcome == "cancelled":
            result = replace(result, outcome="detached", summary="the agent goes on without us")
        self.result = result
        if self.leaving != "taken over":  # then how it ends is another's to write
            await self._journal.end(result)

    async def note(self, kind: str, key: str, value: Any) -> None:
        """Keep it, where there is a place for it."""
        if (note := getattr(self._journal, "note", None)) is not None:
            await note(kind, key, value)


class StandaloneContext:
    """Shows what it is told to whoever watches; the lines that said so are in the journal."""

    def __init__(self, session: str, eyes: Eyes, *, metadata: Mapping[str, Any]) -> None:
        self.process_id = session
        self.params: Mapping[str, Any] = {}
        self.metadata = metadata
        self.cancellation_flag = asyncio.Event()
        self._eyes = eyes

    def report_progress(self, percent: float | None, message: str | None = None) -> None:
        self._eyes(Progressed(percent, message))

    def should_continue(self) -> bool:
        return not self.cancellation_flag.is_set()

    async def request_browser_open(self, url: str) -> None:
        self._eyes(OpenBrowser(url))

    async def need_attention(self, reason: str) -> None:
        self._eyes(NeedsYou(reason))

    async def client_message(self, keyword: str, data: Any) -> None:
        self._eyes(FromAgent(keyword, data))
