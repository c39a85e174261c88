"""A piece of work in the hands of its caller: await it, read it, speak to it, cancel it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    NoReturn,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypedDict,
)

from .errors import CallFailed, CallTimedOut, Diverged
from .messages import Message, joined, misfit, texts, typed
from .observing.events import Called, Concluded, FamilyEvents, Stream, TeamEvent, Token
from .stores import OVER, Row

if TYPE_CHECKING:
    from .messages import Attachment
    from .stores import TurnStore


P = ParamSpec("P")


class Working(Protocol):
    """The context of a turn that runs here."""

    turn: Turn
    stays: bool

    def knows_end(self, turn: Turn) -> bool: ...
    def suspend_for_mail(self) -> NoReturn: ...


class Worker(Protocol):
    """What a turn, and whoever works on it, needs of the process that it is in."""

    hooks: Any
    calls: Any
    slots: Any
    team: str
    store: TurnStore
    contexts: dict[str, Any]
    participants: Any
    spent: dict[str, Any]
    tracing: Any

    def start(self, turn: Turn) -> None: ...
    async def cancel(self, turn: str) -> list[str]: ...


ALL, AGAIN, APPROVER = "[all]", "[again]", "[approver]"  # participants of the team's own

current: ContextVar[Working | None] = ContextVar("optio_agents.team.current", default=None)


class CallOptions(TypedDict, total=False):
    """What may go along with a call."""

    history: Sequence[Message | Mapping[str, Any]]
    instructions: str
    scope: str  # whom the instructions are for: "first" (who is called), or "all" below as well
    returns: Any
    timeout: float | None
    attachments: Sequence[Attachment]
    metadata: Any
    settings: Mapping[str, Any]  # of a model, for this call only: max_tokens, temperature, …
    lazy: bool
    open: bool  # it is called with nothing yet: what is sent to it counts, until `finish`


@dataclass(frozen=True, slots=True)
class Status:
    """How far a turn is."""

    turn: str
    name: str
    status: str
    text: str = ""
    error: str = ""
    parent: str | None = None
    created: float = 0.0  # seconds since the epoch, as all times here
    started: float | None = None
    ended: float | None = None
    metadata: Any = None
    used: Mapping[str, float] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()

    @classmethod
    def of(cls, row: Row, messages: tuple[Message, ...] = ()) -> Status:
        """As it is kept; *messages* are those of a turn that is not over."""
        result = row.result or {}
        kept = result.get("messages", ())
        messages = tuple(Message.load(one, strict=False) for one in kept) or messages
        error = result.get("error") or {}
        return cls(
            row.id,
            row.name,
            row.state,
            "\n\n".join(message.text for message in messages),
            f"{error['kind']}: {error['text']}" if error else "",
            row.parent,
            row.created,
            row.started,
            row.ended,
            row.options.get("metadata"),
            result.get("used", {}),
            messages,
        )


class Suspend(BaseException):
    """Unwinds the function of a turn that sleeps for long; it runs again from its top."""

    def __init__(self, after: int | None, until: float | None) -> None:
        super().__init__()
        self.after, self.until = after, until


class Draft(Stream[str]):
    """A message that is being said, piece by piece; `message` is there when it is closed."""

    __slots__ = ("message",)

    def __init__(self) -> None:
        super().__init__()
        self.message: Message | None = None


Reply: TypeAlias = "Message | Turn | Draft"


class Turn:
    """One piece of work between participants; `await` it for the whole answer as a `Message`.

    Everything about it can be read by any number of readers, also after its end.
    """

    __slots__ = (
        "_final",
        "_kernel",
        "_read",
        "_said",
        "cause",
        "children",
        "endless",
        "error",
        "events_of_root",
        "late",
        "message",
        "parent",
        "pieces",
        "returns",
        "row",
        "started",
        "status",
        "tools",
        "written",
    )

    def __init__(
        self, kernel: Worker, row: Row, message: Message, parent: Turn | None, returns: Any = None
    ) -> None:
        self._kernel, self.row, self.message, self.parent = kernel, row, message, parent
        self.returns = returns
        self.children: list[Turn] = []
        self.pieces: Stream[Reply] = Stream()  # what it replies, in order
        self.events_of_root: FamilyEvents = (
            FamilyEvents() if parent is None else parent.events_of_root
        )
        self.status = "called"
        self.written = self.started = self.endless = self._read = False
        self.error: dict[str, Any] | None = None
        self.cause: BaseException | None = None
        self._said: Sequence[Message] | None = None  # all of it, once it is over
        self._final: Message | None = None
        self.late: Callable[[], Message] | None = None  # its message, when it begins
        self.tools: list[str] = []
        if parent is not None:
            parent.children.append(self)

    def __repr__(self) -> str:
        return f"<Turn {self.id} of {self.name}: {self.status}>"

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def name(self) -> str:
        """The participant that works on it."""
        return self.row.name

    @property
    def metadata(self) -> Any:
        return self.row.options.get("metadata")

    @property
    def over(self) -> bool:
        return self.status in OVER

    # Reading

    def __await__(self) -> Generator[Any, None, Message]:
        return self.answer().__await__()

    async def answer(self) -> Message:
        """What was said, as one message. Raises CallFailed, whatever went wrong."""
        if self.endless:
            raise ValueError(f"turn {self.id} is done again and again: it has no answer to await")
        await self.wait_over()
        if self.error is not None or self._said is None:
            self.fail()
        if self._final is None:
            self._final = self._joined(self._said)
        if self.returns is not None:
            return typed(self._final, self.returns)
        return self._final

    def _joined(self, said: Sequence[Message]) -> Message:
        """One message of all, made for whoever asks, as its parts go by their ids."""
        row = self.row
        final = joined(said, sender=row.name, to=self.message.sender, turn=row.id)
        before = map(Message.load, row.options.get("history", ()))
        parts = (None if one is final else one for one in said)  # a circle would be garbage
        final.__dict__["_said"] = (*before, self.message, *parts)
        return final

    async def wait_over(self) -> None:
        """Return when it is over, however it ended."""
        self._kernel.start(self)
        while self.status not in OVER:
            waiting = current.get()
            ours = waiting is not None and waiting.turn is self.parent and not waiting.stays
            asleep = ours and self.status == "sleeping"
            if waiting is not None and asleep and not waiting.knows_end(self):
                waiting.suspend_for_mail()
            await self.pieces.more()

    async def __aiter__(self) -> AsyncIterator[Message]:
        """Its messages one by one, as each is complete, those of nested turns in their place."""
        async for piece in self._said_here_and_below():
            if isinstance(piece, Message):
                yield piece
            else:
                while not piece.closed:
                    await piece.more()
                if piece.message is not None:
                    yield piece.message

    async def tokens(self) -> AsyncIterator[str]:
        """Its text in the pieces in which it is said."""
        async for piece in self._said_here_and_below():
            if isinstance(piece, Message):
                yield piece.text
            else:
                async for text in piece:
                    yield text

    async def _said_here_and_below(self) -> AsyncIterator[Message | Draft]:
        """What it replies, and in the place of each nested turn what that does."""
        self._kernel.start(self)
        async for piece in self.pieces:
            if isinstance(piece, Turn):
                async for below in piece._said_here_and_below():  # noqa: SLF001
                    yield below
            else:
                yield piece
        if self.error is not None:
            self.fail()

    async def events(self, *kinds: type, name: str | None = None) -> AsyncIterator[TeamEvent]:
        """All that happens in it and below it, from its beginning until it is over."""
        self._kernel.start(self)
        family = {self.id}
        async for event in self.events_of_root.events():
            if event.turn in family:
                if isinstance(event, Called):
                    family.add(event.child)
                if (not kinds or isinstance(event, kinds)) and name in (None, event.name):
                    yield event
                if isinstance(event, Concluded) and event.turn == self.id:
                    return

    # Acting

    async def send(self, text: str | Message, *, id: str | None = None) -> int:  # noqa: A002
        """Say something to it while it works; read before its next step. Once per *id*.

        The number of the message in its mailbox.
        """
        await self.wait_written()
        message = text if isinstance(text, Message) else Message(text)
        number: int = await self._kernel.calls.send(self.id, message, key=id)
        return number

    async def finish(self) -> None:
        """Nothing more will be sent to it: see `Team.open`."""
        await self.wait_written()
        await self._kernel.store.post(self.id, {"finished": True}, key="finished")

    async def cancel(self) -> None:
        """End it and all below it; what they started is gone when this returns."""
        await self._kernel.cancel(self.id)

    # Afterwards

    def tree(self) -> str:
        """Who called whom, how each ended, how long it took, and with which tools."""
        return "\n".join(self._lines(""))

    def _lines(self, indent: str) -> list[str]:
        lines = [indent + line_of(self.row, self.status, self.tools)]
        for child in self.children:
            lines += child._lines(indent + "  ")  # noqa: SLF001
        return lines

    def messages(self) -> tuple[Message, ...]:
        """What it replied, message by message, as far as it has come."""
        found: list[Message] = []
        for piece in self.pieces.items:
            if isinstance(piece, Message):
                found.append(piece)
            elif isinstance(piece, Draft):
                found += [piece.message] if piece.message else []
            else:
                found += piece.messages()
        return tuple(found)

    @property
    def used(self) -> dict[str, float]:
        """The steps, tokens and usd of this turn alone, once it is over."""
        used: dict[str, float] = (self.row.result or {}).get("used", {})
        return used

    def fail(self) -> NoReturn:
        """Raise why it did not complete."""
        self._read = True
        if isinstance(self.cause, Diverged) and self.cause.turn == self.id:
            raise self.cause
        raise self.failure() from self.cause

    def failure(self) -> CallFailed:
        error = self.error or {}
        kind, text = str(error.get("kind", "")), str(error.get("text", ""))
        sort = CallTimedOut if self.status == "timeout" else CallFailed
        why = f": {kind}: {text}" if kind else ""
        return sort(
            f"{self.name} (turn {self.id}) {_ENDED.get(self.status, self.status)}{why}",
            turn=self.id,
            name=self.name,
            status=self.status,
            kind=kind,
        )

    # For the kernel

    async def wait_written(self) -> None:
        """Return when whoever looks for it finds it, or it came to nothing."""
        self._kernel.start(self)
        while not self.written and not self.over:
            await self.pieces.more()

    def misfit(self, text: str) -> str | None:
        """What is wrong with *text* as an answer, where one of some form is wanted."""
        kept = self.row.options.get("returns")
        return misfit(text, kept if self.returns is None else self.returns)

    @property
    def text(self) -> str:
        """What was said so far, or in the end."""
        return texts(self.messages() if self._said is None else self._said)

    def changed(self, status: str | None = None) -> None:
        if status is not None:
            self.status = status
        self.pieces.ring()

    def emit(
        self,
        kind: Callable[Concatenate[str, str, str | None, P], TeamEvent],
        *about: P.args,
        **more: P.kwargs,
    ) -> None:
        """It happened in this turn, whose id, name and caller every event begins with."""
        row, hooks = self.row, self._kernel.hooks
        event = kind(row.id, row.name, row.parent, *about, **more)
        if hooks:
            event = hooks.event(self, event)
        self.events_of_root.put(event)
        if hooks:
            hooks.after_event(self, event)

    def add(self, piece: Reply) -> None:
        self.pieces.put(piece)
        if isinstance(piece, Message):
            self.put_token(piece.text)

    def put_token(self, text: str) -> None:
        """A piece of what is being said, among the events."""
        if self._kernel.hooks:
            self.emit(Token, text)
        else:
            row = self.row
            self.events_of_root.put_token(row.id, row.name, row.parent, text)

    def conclude(
        self,
        status: str,
        messages: Sequence[Message] = (),
        error: dict[str, Any] | None = None,
        cause: BaseException | None = None,
    ) -> None:
        """It is over, and that is written."""
        self.status = self.row.state = status
        self.error, self.cause = error, cause
        if status == "completed" or messages:
            self._said = messages
        text = str(error.get("text", "")) if error else texts(messages)
        self.pieces.close()
        self.emit(Concluded, status, text)

    def restore(self, row: Row) -> None:
        """It is over, as *row* says; whoever worked on it was somewhere else, or earlier."""
        self.row = row
        result = row.result or {}
        messages = [Message.load(kept) for kept in result.get("messages", ())]
        self.tools = list(result.get("tools", ()))
        del self.pieces.items[:]
        self.pieces.items += messages
        self.conclude(row.state, messages, result.get("error") or _no_error(row.state))

    @property
    def unread_failure(self) -> bool:
        return self.error is not None and not self._read


def line_of(row: Row, status: str, tools: Sequence[str]) -> str:
    """Who, which turn, how far, how long, and with which tools."""
    took = f" {row.ended - row.created:.2f} s" if row.ended else ""
    used = f" [{', '.join(tools)}]" if tools else ""
    return f"{row.name} {row.id} {status}{took}{used}"


def error_of(error: BaseException) -> dict[str, Any]:
    return {"kind": type(error).__name__, "text": str(error)}


_ENDED = {"timeout": "timed out", "cancelled": "was cancelled", "limit": "reached a limit"}


def _no_error(state: str) -> dict[str, Any] | None:
    return None if state == "completed" else {"kind": "", "text": state}
