"""What a participant holds while it works on a turn.

A function is written straight on. After a crash or a long sleep it runs again from its top, and
what it asks of its context gives what it gave before: the n-th call is the n-th child, which
exists once; a sleep has its time, a `once` its result, a reading of messages its messages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from .errors import CallFailed, LimitReached, NoParticipant, OutcomeUnknown, TeamError
from .messages import Attachment, Message, plain
from .observing.events import Consulted, Stream
from .turn import CallOptions, Status, Suspend, Turn, Worker

if TYPE_CHECKING:
    from typing import Unpack

    from .stores import Claim

T = TypeVar("T")

LINGER = 5.0  # seconds: a shorter sleep keeps its task


@dataclass(frozen=True, slots=True)
class Wake:
    """Why a sleep is over: time, done, timeout or message; and which turns are done by then."""

    reason: str
    done: tuple[str, ...] = ()
    running: tuple[str, ...] = ()


class TurnContext:
    """The turn as the participant sees it."""

    __slots__ = (
        "_counts",
        "_onces",
        "_scope",
        "_seen",
        "born",
        "changes",
        "claim",
        "kernel",
        "message",
        "stays",
        "turn",
        "used",
    )

    def __init__(self, kernel: Worker, turn: Turn, claim: Claim) -> None:
        self.kernel, self.turn, self.claim = kernel, turn, claim
        self.message: Message = turn.message
        self.changes: Stream[None] = Stream()  # rings when a child ends or mail comes
        self.used: dict[str, float] = {}
        self.stays = False  # it cannot run again from its top: while it waits it keeps its task
        self._seen = 0  # how much of the mail was read
        self._counts: dict[str, int] = {}  # how often each kind of thing was asked for
        self._onces: dict[str, asyncio.Task[Any]] | None = None
        self.born: set[str] = set()  # the children that count, where their number is limited
        self._scope = ""  # before the number of what has no key of its own

    def within(self, scope: str) -> TurnContext:
        """The same turn, for a part of it that is passed over when it runs again after its end.

        What that part asks for is counted by itself, so that nothing else changes its number.
        """
        if self._onces is None:
            self._onces = {}
        part: TurnContext = copy(self)
        part._counts = {}
        part._scope = f"{self._scope}{scope}:"
        return part

    def _numbered(self, kind: str, key: str | None = None) -> str:
        """*key*, else the number of this one of its kind: the same one when it runs again."""
        number = self._counts[kind] = self._counts.get(kind, 0) + 1
        return key or f"{self._scope}{number}"

    # What it was called with

    @property
    def id(self) -> str:
        return self.turn.id

    @property
    def name(self) -> str:
        """The name under which this participant was called."""
        return self.turn.name

    @property
    def text(self) -> str:
        return self.message.text

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        return self.message.attachments

    @property
    def history(self) -> tuple[Message, ...]:
        """What was handed along as said before."""
        return tuple(map(Message.load, self.turn.row.options.get("history", ())))

    @property
    def options(self) -> dict[str, Any]:
        return self.turn.row.options

    # Others

    def call(
        self,
        to: str | Sequence[str],
        text: str | Message | Any = "",
        *,
        id: str | None = None,  # noqa: A002
        key: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Turn:
        """Give work to *to*, at once; await it or not. Without an id or *key* it is the n-th call.

        Raises NoParticipant, LimitReached, and ValueError for an id that cannot be one.
        """
        number = ""
        if id is None and key is None:
            number = self._numbered("call")
            key = number if self._scope else None
        calls = self.kernel.calls
        turn: Turn = calls.call(to, text, self, id=id, key=key, number=number, **options)
        return turn

    def find(self, turn: str) -> Turn:
        """A turn that this one called, by its id. Raises NoParticipant."""
        for child in self.turn.children:
            if child.id == turn:
                return child
        raise NoParticipant(f"{self.name} (turn {self.id}) called no turn {turn!r}", turn=self.id)

    async def tell(self, text: str | Message, *, key: str | None = None) -> None:
        """Say something to the caller while this turn goes on. Without a *key* it is the n-th."""
        await self.kernel.calls.tell(self, text, key=self._numbered("tell", key))

    async def send(self, to: Turn | str, text: str | Message, *, key: str | None = None) -> None:
        """Say something to a turn of this team, by itself or its id; "caller" is the caller."""
        if to == "caller":
            return await self.tell(text, key=key)
        message = text if isinstance(text, Message) else Message(text)
        turn = to if isinstance(to, str) else to.id
        key = f"{self.id}:{self._numbered('tell', key)}"
        await self.kernel.calls.send(turn, message, key=key, context=self)
        return None

    async def status(self, turn: Turn | str) -> Status:
        """How far a turn of this team is, and what it returned."""
        known = turn if isinstance(turn, str) else turn.id
        status: Status = await self.kernel.calls.status(known)
        return status

    async def messages(self) -> tuple[Message, ...]:
        """What was sent to this turn since the last time."""
        key = f"read:{self._numbered('read')}"
        upto = await self.record(key, len(self.claim.mail))
        found, self._seen = self.claim.mail[self._seen : upto], upto
        return tuple(Message.load(item["message"]) for item in found if "message" in item)

    async def wait_mail(self) -> None:
        """Return when there is mail that `messages` has not gone through yet."""
        while len(self.claim.mail) <= self._seen:
            await self.changes.more()

    async def receive(self, *, timeout: float | None = None) -> Message | None:  # noqa: ASYNC109
        """The next message sent to this turn; None when none came within *timeout* seconds.

        Also None when whoever opened the turn has finished.
        """
        key, due = f"read:{self._numbered('read')}", None
        if timeout is not None:
            due = await self.record(f"{key}:due", time.time() + timeout)
        while key not in self.claim.records:
            for number, item in enumerate(self.claim.mail[self._seen :], self._seen + 1):
                if "message" in item or "finished" in item:
                    await self.record(key, number if "message" in item else -1)
                    break
            else:
                if due is not None and time.time() >= due:
                    await self.record(key, -1)
                    break
                await self._pause(due, (), mail=True)
        upto: int = self.claim.records[key]
        if upto < 0:
            return None
        self._seen = upto
        return Message.load(self.claim.mail[upto - 1]["message"])

    async def incoming(self) -> AsyncIterator[Message]:
        """What this turn was called with; of one that was opened, what is sent to it to the end."""
        if not self.options.get("open"):
            yield self.message
            return
        while (message := await self.receive()) is not None:
            yield message

    # Time

    async def sleep(
        self,
        *turns: Turn,
        any: bool = False,  # noqa: A002
        seconds: float | None = None,
        minutes: float = 0.0,
        hours: float = 0.0,
        days: float = 0.0,
        until: datetime | float | None = None,
        every: float | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
        key: str | None = None,
    ) -> Wake:
        """Sleep for a time, until a moment, or until all (or *any*) of *turns* are over.

        Past a few seconds neither a task nor a process is needed meanwhile: the function runs
        again from its top when it is time. *every* sleeps until the next multiple of so many
        seconds since the turn began. *timeout* ends a wait for turns. Without a *key* it is the
        n-th sleep.
        """
        key = f"sleep:{self._numbered('sleep', key)}"
        span = (seconds or 0.0) + 60 * minutes + 3600 * hours + 86400 * days
        if timeout is not None or (until is None and (span or seconds is not None)):
            span = span if timeout is None else timeout
            until = time.time() + span
        elif every is not None:
            until = self._next(every)
        if not span >= 0 or (until is None and not turns):
            raise ValueError("say how long to sleep, or for which turns")
        if isinstance(until, datetime):
            until = until.timestamp()
        due = None if until is None else await self.record(f"{key}:due", until)
        while key not in self.claim.records:
            for turn in turns:
                await turn.wait_written()
            done = [turn.id for turn in turns if turn.over]
            running = [turn.id for turn in turns if not turn.over]
            if turns and (not running or (any and done)):
                await self.record(key, ["done", done, running])
            elif due is not None and time.time() >= due:
                await self.record(key, ["timeout" if turns else "time", done, running])
            else:
                await self._pause(due, turns, mail=bool(turns))
        reason, done, running = self.claim.records[key]
        return Wake(reason, tuple(done), tuple(running))

    def _next(self, every: float) -> float:
        if every <= 0:
            raise ValueError("say how often: a distance above zero")
        began = self.turn.row.started or time.time()
        return began + every * (int((time.time() - began) / every + 0.001) + 1)

    async def _pause(self, due: float | None, turns: Sequence[Turn], *, mail: bool) -> None:
        """Let something happen: within this task for a moment, else by giving the turn back."""
        seen = len(self.claim.mail)  # by whoever found that there is nothing for it yet
        left = float("inf") if due is None else due - time.time()
        if not mail and (left <= LINGER or self.stays):
            await asyncio.sleep(left)
            return
        asleep = [turn for turn in turns if turn.status == "sleeping"]
        if self.stays or any(map(self.knows_end, asleep)):
            await self._more(left)
            return
        soon = mail and (left <= LINGER or not asleep)
        if soon and (await self._more(min(left, LINGER)) or left <= LINGER):
            return
        await self._count_wake()
        raise Suspend(seen if mail else None, due)

    async def _more(self, seconds: float) -> bool:
        """Whether a child ended or mail came within so long."""
        try:
            async with asyncio.timeout(max(seconds, 0.0) if seconds < float("inf") else None):
                await self.changes.more()
        except TimeoutError:
            return False
        return True

    async def _count_wake(self) -> None:
        bound = self.turn.row.options.get("limits", {}).get("wakes")
        if bound is None:
            return
        count = sum(1 for key in self.claim.records if key.startswith("wake:"))
        if count >= bound:
            raise LimitReached(
                f"{self.name} (turn {self.id}) may sleep {bound} times: the limit wakes",
                limit="wakes",
                turn=self.id,
            )
        await self.record(f"wake:{count}", True)

    def knows_end(self, turn: Turn) -> bool:
        """Whether mail says that *turn* is over: no more will come, even if it looks asleep here.

        It ended elsewhere, and its answer is about to be read.
        """
        return any(item.get("end") == turn.id for item in self.claim.mail)

    def suspend_for_mail(self) -> NoReturn:
        """Give the turn back until a child ends; raises out of the function."""
        raise Suspend(len(self.claim.mail), None)

    # Effects and questions

    async def once(self, key: str, function: Callable[..., T | Awaitable[T]], *args: Any) -> T:
        """Do *function* at most once for this turn, and give its (JSON) result ever after.

        The intent is written first. A process that dies before the result is written leaves it
        open whether it happened: then it is not repeated, and this raises OutcomeUnknown.
        What the function raises is kept, too, and comes as CallFailed. It is cancelled with its
        turn, and when that is over.
        """
        if self._onces is None:
            self._onces = {}
        if key not in self._onces:
            work = self._once(key, function, args)
            self._onces[key] = asyncio.get_running_loop().create_task(work)
        result: T = await asyncio.shield(self._onces[key])
        return result

    async def _once(self, key: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        records, epoch = self.claim.records, self.claim.epoch
        if f"once:{key}" not in records:
            intent = await self.record(f"intent:{key}", epoch)
            if intent != epoch:
                raise OutcomeUnknown(
                    f"{self.name} (turn {self.id}) was interrupted while it did {key!r}: whether "
                    "that happened is not known, and it is not repeated",
                    turn=self.id,
                )
            try:
                value = function(*args)
                if isawaitable(value):
                    value = await value
            except Exception as error:
                outcome = {"kind": type(error).__name__, "text": str(error)}
                await self.record(f"once:{key}", {"error": outcome})
                raise self._once_failed(key, outcome) from error
            await self.record(f"once:{key}", {"value": plain(value)})
            return value
        kept = records[f"once:{key}"]
        if "error" in kept:
            raise self._once_failed(key, kept["error"])
        return kept["value"]

    def _once_failed(self, key: str, outcome: dict[str, str]) -> CallFailed:
        return CallFailed(
            f"{key!r} of {self.name} (turn {self.id}) failed: {outcome['kind']}: {outcome['text']}",
            turn=self.id,
            name=key,
            status="failed",
            kind=outcome["kind"],
        )

    async def ask(self, question: str, *, key: str | None = None) -> Message:
        """Ask the approver of the team; "no" when there is none, or no answer in time."""
        key = f"ask:{self._numbered('ask', key)}"
        new = self.claim.epoch == 1
        if new:
            self.turn.emit(Consulted, question)
        answer: Message = await self.kernel.calls.ask_approver(self, question, key=key)
        if new:
            self.turn.emit(Consulted, question, is_yes(answer))
        return answer

    # For the kernel and for participants of our own

    async def settle(self, *, stop: bool) -> None:
        """Leave no `once` at work behind: wait until it is done, or *stop* it."""
        left = [task for task in (self._onces or {}).values() if not task.done()]
        if left:
            for task in left if stop else ():
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def record(self, key: str, value: Any) -> Any:
        """Keep *value* for this turn unless there is one under *key*; what is kept."""
        records = self.claim.records
        if key in records:
            return records[key]
        store = self.kernel.store
        kept = records[key] = await store.record(self.claim, key, value)
        return kept

    async def settle_message(self) -> None:
        """Compute the message that was to be computed when the turn begins, once."""
        kept, turn = self.claim.records.get("late"), self.turn
        if kept is None:
            if turn.late is None:
                raise TeamError(
                    f"what {turn.name} (turn {turn.id}) is called with was to be computed by a "
                    "process that is gone",
                    turn=turn.id,
                )
            kept = await self.record("late", turn.late().dump())
        self.message = turn.message = Message.load(kept)


def is_yes(answer: Message) -> bool:
    """Whether an approver's answer allows what was asked."""
    if isinstance(answer.value, bool):
        return answer.value
    word = answer.text.strip().casefold().split()
    return bool(word) and word[0].strip(".,!:;") in {"yes", "y", "ok", "allow", "approve", "true"}
