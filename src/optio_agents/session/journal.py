"""What a session remembers, so that another process can go on where this one stood.

The order is always the same: a line is recorded with the cursor behind it, then handed over, then
marked done. What was recorded and not marked done is handed over again by the next supervisor.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optio_agents.following.cursor import Cursor
    from optio_agents.session.result import SessionResult

Kind: TypeAlias = Literal[
    "status",
    "deliverable",
    "done",
    "error",
    "attention",
    "browser",
    "client_message",
    "caller_message",
    "unknown",
]
ENDINGS: tuple[Kind, Kind] = ("done", "error")
LAST_LINES = 20  # what an error of a session quotes


@dataclass(frozen=True, slots=True)
class Entry:
    """One complete line of a followed file; (session, file, generation, offset) is its id."""

    file: str  # as the session names it: "optio.log"
    generation: int
    offset: int  # behind the line, its newline included
    line: str  # keep it as it is: narration comes cut, payloads are needed whole
    kind: Kind = "unknown"
    repeated: bool = False  # may have been delivered before: see Batch.repeated

    @property
    def key(self) -> tuple[str, int, int]:
        """The id within its session."""
        return self.file, self.generation, self.offset

    @property
    def name(self) -> str:
        """The id as a file name that sorts: what answers this line is said under it."""
        return f"{self.generation:06d}-{self.offset:015d}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far an announced file has come. A row per announcement; later rows replace earlier."""

    entry: Entry
    path: str  # relative to deliverables/ where it lies below, else as announced
    size: int | None = None  # None until it was fetched, and where it never could be
    sha256: str | None = None
    reply: str | None = None  # decided, and recorded, before it is said
    taken: bool | None = None  # the reply reached the agent's input; None: nobody to send it to
    saved: str | None = None  # where on our side it was kept, if it was asked for


@dataclass(frozen=True, slots=True)
class Resumed:
    """What is known of a session at its start: nothing, or what an earlier supervisor left."""

    cursor: Cursor | None = None
    digests: bytes = b""  # of the cursor's generation, 8 bytes a line
    pending: tuple[Entry, ...] = ()  # recorded and not marked done, in the order recorded
    ending: Entry | None = None  # the first DONE or ERROR ever recorded, marked done or not
    deliveries: tuple[Delivery, ...] = ()  # the last row of each announcement, in order
    replies: tuple[tuple[Entry, str], ...] = ()  # what `decide` recorded for pending entries
    statuses: int = 0  # recorded entries of kind "status"
    last_lines: tuple[str, ...] = ()  # the last LAST_LINES recorded


class Journal(Protocol):
    """Where one session is written down. Every method raises StoreError when it cannot be.

    Calls come from one task at a time per method, but `record` may be under way while
    `mark_done` or `deliver` is called; none of them may be lost when its caller is cancelled.
    """

    session: str  # the id of the session

    async def start(self) -> Resumed:
        """What is known by now. Called once, before anything else."""

    async def record(self, entries: Sequence[Entry], cursor: Cursor, digests: bytes) -> None:
        """Keep *entries* and the cursor behind them, in one transaction.

        *digests* belong behind those of *cursor*'s generation; another generation starts anew.
        There may be no entries (a replaced file whose lines were all delivered before).
        """

    async def mark_done(self, entries: Sequence[Entry]) -> None:
        """These were handed over, or never will be; the next supervisor leaves them alone."""

    async def deliver(self, delivery: Delivery) -> None:
        """Replace what is known of this announcement."""

    async def decide(self, entry: Entry, reply: str) -> None:
        """*reply* is what the agent is told about *entry* (a caller message), not said yet."""

    async def end(self, result: SessionResult) -> None:
        """How this run of the session ended. `unreachable` and `failed` may be resumed."""


class MemoryJournal:
    """A journal for as long as this process lives; a session may be resumed from it."""

    def __init__(self, session: str | None = None) -> None:
        self.session = session or secrets.token_hex(6)
        self.result: SessionResult | None = None
        self._known = Resumed()
        self._pending: dict[tuple[str, int, int], Entry] = {}
        self._deliveries: dict[tuple[str, int, int], Delivery] = {}
        self._replies: dict[tuple[str, int, int], tuple[Entry, str]] = {}
        self._digests = bytearray()

    async def start(self) -> Resumed:
        return replace(
            self._known,
            digests=bytes(self._digests),
            pending=tuple(self._pending.values()),
            deliveries=tuple(self._deliveries[key] for key in sorted(self._deliveries)),
            replies=tuple(self._replies[key] for key in sorted(self._replies)),
        )

    async def record(self, entries: Sequence[Entry], cursor: Cursor, digests: bytes) -> None:
        known = self._known
        if known.cursor is not None and known.cursor.generation != cursor.generation:
            self._digests.clear()
        self._digests += digests
        self._pending.update((entry.key, entry) for entry in entries)
        self._known = Resumed(
            cursor=cursor,
            ending=known.ending or next((e for e in entries if e.kind in ENDINGS), None),
            statuses=known.statuses + sum(entry.kind == "status" for entry in entries),
            last_lines=(*known.last_lines, *(e.line for e in entries[-LAST_LINES:]))[-LAST_LINES:],
        )

    async def mark_done(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._pending.pop(entry.key, None)
            self._replies.pop(entry.key, None)

    async def deliver(self, delivery: Delivery) -> None:
        self._deliveries[delivery.entry.key] = delivery

    async def decide(self, entry: Entry, reply: str) -> None:
        self._replies[entry.key] = entry, reply

    async def end(self, result: SessionResult) -> None:
        self.result = result
