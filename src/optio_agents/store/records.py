"""What the journal tells about sessions, as values."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeGuard

from optio_agents.errors import SessionFailed
from optio_agents.protocol.events import StatusEvent
from optio_agents.protocol.parser import parse_log_line

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from optio_agents.framing.cursor import Cursor


# How a session ended, as a value.


Outcome: TypeAlias = Literal[
    "done",  # the agent wrote DONE, and every deliverable announced was fetched and answered
    "cancelled",  # the context said so
    "error",  # the agent wrote ERROR: AgentReportedError
    "exited",  # AgentExited
    "stalled",  # AgentStalled
    "refused",  # DoneRefused
    "over limit",  # SessionLimitReached
    "ended by hook",  # EndedByHook
    "unreachable",  # HostUnreachable
    "detached",  # `supervise` was asked to let the agent go on alone
    "failed",  # a hook, the body, the journal or the host raised; that error is the caller's
]
Replies: TypeAlias = Literal["none", "agent", "sender"]  # who takes what we tell the agent


CALLBACKS = ("on_deliverable", "on_deliverable_file", "on_caller_message", "saving")


@dataclass(frozen=True, slots=True)
class Ended:
    """How the agent's own process ended, as far as anybody can know."""

    exit_code: int | None = None
    signal: str | None = None
    how: str = "unknown"  # "exited", "lost", "rebooted", or "unknown": the body did not say


@dataclass(frozen=True, slots=True)
class SessionResult:
    """What a session came to. Texts in it are the agent's: show them with `visible`."""

    session: str
    outcome: Outcome
    summary: str | None  # of DONE or ERROR; else one sentence that says what happened
    started_at: float  # seconds since the epoch, as are all times here
    ended_at: float
    deliverables: tuple[Delivery, ...] = ()
    replies: Replies = "none"
    statuses: int = 0  # STATUS lines
    agent: Ended = Ended()
    cursor: Cursor | None = None  # behind the last line recorded
    last_lines: tuple[str, ...] = ()  # of the log, at most 20
    abandoned: tuple[str, ...] = ()  # foreign code that outlived its cancellation
    troubles: Mapping[str, int] = field(default_factory=dict)  # what raised, by name, how often
    skipped: int = 0  # messages that the context was too slow for
    verified: bool = False  # what checks DONE has accepted it
    error: str | None = None  # where it "failed": the class of what was raised

    @property
    def untaken(self) -> tuple[Delivery, ...]:
        """Deliverables whose reply did not reach the agent."""
        return tuple(d for d in self.deliverables if d.taken is False)

    @property
    def failures(self) -> Mapping[str, int]:
        """Of the troubles those that DONE cannot answer for: callbacks, and saving files."""
        return {name: count for name, count in self.troubles.items() if name in CALLBACKS}

    def raise_unless_done(self) -> SessionResult:
        """Self. Raises SessionFailed where it was cancelled, or DONE and something of ours failed.

        That is a callback that raised, took too long or returned what nobody understands, or a
        deliverable that could not be saved: see `failures`.
        """
        words = f"the session ended as {self.outcome}"
        if self.failures:
            counted = (f"{name} ({count})" for name, count in self.failures.items())
            words += f", and on our side failed: {', '.join(counted)}"
        if self.outcome != "done" or self.failures:
            raise SessionFailed(words, last_lines=self.last_lines, result=self)
        return self


# What a session remembers, so that another process can go on where this one stood.
#
# The order is always the same: a line is recorded with the cursor behind it, then handed over, then
# marked done. What was recorded and not marked done is handed over again by the next supervisor.


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
ACCEPTED, REPEATED = "accepted.", ""  # decided of a DONE: it holds; another answer speaks for it
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
    done: bool = field(default=False, compare=False)  # as it is recorded: for nobody to be handed

    @property
    def key(self) -> tuple[str, int, int]:
        """The id within its session."""
        return self.file, self.generation, self.offset

    @property
    def name(self) -> str:
        """The id as a file name that sorts: what answers this line is said under it."""
        return f"{self.generation:06d}-{self.offset:015d}"


def percent_of(entries: Sequence[Entry]) -> int | None:
    """How far the agent has said it is, in the last of these lines that says so."""
    for entry in reversed(entries):
        if entry.kind == "status":
            match parse_log_line(entry.line):
                case StatusEvent(int(percent)):
                    return percent
    return None


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
    ending: Entry | None = None  # the first DONE or ERROR recorded and not refused, done or not
    accepted: bool = False  # the ending is a DONE that was checked, and holds
    refusals: int = 0  # DONE that were not accepted
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
        """*reply* is what the agent is told about *entry*, not said yet.

        That is a caller message; or a DONE that was checked, which counts as ending only if this
        is ACCEPTED.
        """

    async def end(self, result: SessionResult) -> None:
        """How this run of the session ended. `unreachable` and `failed` may be resumed."""


_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Recordable:
    """What a supervisor writes down beside the lines of the log."""

    kind: str
    value: Any
    at: float
    key: str = ""  # what a later event may name: a request's id, a message's name


class SessionRecords(Journal, Protocol):
    """A `Journal` in which a supervisor keeps all that happened, in one sequence."""

    @property
    def path(self) -> Path | None:
        """The file that other processes write to, too; None: nobody else does."""

    def append(self, event: Recordable, state: SessionState | None = None) -> Future[None]:
        """Keep *event* behind all others, and how the session stands since then.

        Under way when this returns: the order of the calls is the order of the events. A message
        of the same name, a turn of the same key, and a decision about what is not open, are kept
        once, as the first.
        """

    async def finish(self, result: SessionResult, state: SessionState) -> None:
        """How it ended, as its last event."""

    async def events(self, after: int, most: int = 1000) -> list[StoredEvent]:
        """What was recorded behind number *after*, in order."""

    async def open_requests(self) -> list[StoredEvent]:
        """The requests that were recorded and not decided, in order."""

    async def note(self, kind: str, key: str, value: Any) -> None:
        """Keep *value* under (*kind*, *key*); the same key again replaces it."""

    async def noted(self, kind: str) -> Any:
        """The value that was last kept of that kind; None without one."""


RESUMABLE = (None, "unreachable", "failed", "detached")  # outcomes that another run may follow


def is_final(outcome: str | None, agent: object = "unknown") -> bool:
    """Nothing more will come of it; *agent* is how that ended, as `Ended` says it."""
    return outcome not in RESUMABLE or (outcome == "failed" and agent != "unknown")


# How a session stands: what a person wants to know of it. One truth for whoever shows it.


StatePhase: TypeAlias = Literal[
    "starting", "working", "waiting", "idle", "limited", "link down", "unattended", "over"
]


@dataclass(frozen=True, slots=True)
class SessionState:
    """What a session is doing, as its owner has written it down; `str` says it to a person.

    With no owner alive it is "unattended", and *detail* is what was true when there was one.
    Texts in it may be the agent's: show them with `visible`.
    """

    phase: StatePhase
    # Working: at what, if not as usual; waiting: for whom and what; link down: why; over: how.
    detail: str = ""
    since: float = 0.0
    percent: int | None = None  # as the agent has last said
    until: float | None = None  # limited: when that ends, if anybody knows
    by: str = ""  # the owner, as a person reads it

    def __str__(self) -> str:
        match self.phase:
            case "working":
                return self.detail or "working"
            case "waiting":
                return f"waits for {self.detail}"
            case "idle":
                return "idle without DONE"
            case "limited":
                until = f" until {_clock(self.until)}" if self.until else ""
                return f"{self.detail or 'rate limit'}{until}"
            case "link down":
                why = f": {self.detail}" if self.detail else ""
                return f"link down since {_clock(self.since)}{why}"
            case "unattended":
                return f"unattended, {_span(time.time() - self.since)} ago: {self.detail}"
            case "over":
                return self.detail
        return self.phase

    @property
    def needs_person(self) -> bool:
        """It goes on only when somebody decides or says something."""
        left = self.phase == "unattended" and self.detail.startswith(("waits for", "idle"))
        return left or self.phase in ("waiting", "idle")

    def left_alone(self, since: float) -> SessionState:
        """The same when nobody owns the session any more; *since* is the last that is known."""
        if self.phase in ("over", "unattended"):
            return self
        return replace(self, phase="unattended", detail=str(self), since=since)


def over(
    outcome: str,
    summary: str | None,
    *,
    at: float,
    state: SessionState,
    verified: bool = False,
) -> SessionState:
    """How a session stands that has ended."""
    words = f"{outcome}: {summary}" if summary and outcome != "done" else outcome
    if verified:
        words += ", verified"
    return replace(state, phase="over", detail=words, since=at, until=None)


def _clock(at: float) -> str:
    then, today = time.localtime(at), time.localtime()
    return time.strftime("%H:%M" if then[:3] == today[:3] else "%a %d %b %H:%M", then)


def _span(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def is_session_id(text: object) -> TypeGuard[str]:
    """Whether *text* can be the id of a session: a plain name, since files are named by it."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class StoredSession:
    """One session as the journal knows it."""

    id: str
    created_at: float
    host: str  # as its user would say it
    taskdir: str
    facts: Mapping[str, Any]  # what is needed to find it again: see `session.facts`
    ended_at: float | None = None
    outcome: str | None = None
    summary: str | None = None
    result: Mapping[str, Any] | None = None
    state: SessionState = field(default=SessionState("starting"), compare=False)
    # Over, and nobody writes any more: asked before its events are read, all of them are.
    complete: bool = field(default=False, compare=False)

    @property
    def verified(self) -> bool:
        """Its DONE was checked, and holds."""
        return bool((self.result or {}).get("verified"))

    @property
    def over(self) -> bool:
        """Nothing more will come of it."""
        agent = (self.result or {}).get("agent") or {}
        return is_final(self.outcome, agent.get("how", "unknown"))


@dataclass(frozen=True, slots=True)
class LastWords:
    """What a list of sessions shows of one, beside how it stands."""

    line: str | None = None  # the last of its log
    cost: float | None = None  # US dollars, of all its turns, where that is known
    usage: Any = None  # how much of its account's allowance is used, as it last said
    usage_at: float | None = None  # when that was


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One thing that happened: a line of the log, or what its supervisor wrote down."""

    number: int  # its place among all events of its session: 1, 2, 3 …
    at: float  # when it happened
    kind: str  # of a line, as its entry has it; else what `supervision.events` calls it
    value: Any = None  # of what is no line
    entry: Entry | None = None  # the line, or the one that it is about
    done: bool = True  # a line that was not handed over yet is not

    @property
    def is_line(self) -> bool:
        """It is a line of the log, and `entry` is it."""
        return self.entry is not None and self.kind not in ("delivery", "check")


@dataclass(frozen=True, slots=True)
class Note:
    """Something to remember, of which only the last is worth keeping."""

    kind: str
    key: str
    value: Any
    at: float  # when it was last replaced
