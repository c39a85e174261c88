"""What happens in a turn, as values for whoever watches, and the stream that carries them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of the text that is being said; the text of a function comes as one piece."""

    turn: str
    name: str
    parent: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """The participant called *to*; *child* is the turn."""

    turn: str
    name: str
    parent: str | None
    to: str
    child: str


@dataclass(frozen=True, slots=True)
class Returned:
    """The turn *child*, which this one had called, completed."""

    turn: str
    name: str
    parent: str | None
    to: str
    child: str
    text: str


@dataclass(frozen=True, slots=True)
class ToolCalled:
    turn: str
    name: str
    parent: str | None
    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolReturned:
    """*display* is the result as a person reads it; *failed* where it is an error."""

    turn: str
    name: str
    parent: str | None
    tool: str
    text: str
    display: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """The participant said something to *to* ("caller", or a turn) while the turn ran."""

    turn: str
    name: str
    parent: str | None
    to: str
    text: str


@dataclass(frozen=True, slots=True)
class Consulted:
    """The approver was asked; *allowed* is None until the answer is there."""

    turn: str
    name: str
    parent: str | None
    question: str
    allowed: bool | None = None


@dataclass(frozen=True, slots=True)
class Slept:
    """It gave its place back, until *until* (seconds since the epoch) or a message."""

    turn: str
    name: str
    parent: str | None
    until: float | None


@dataclass(frozen=True, slots=True)
class Woke:
    turn: str
    name: str
    parent: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Stepped:
    """A model was asked once: what that cost."""

    turn: str
    name: str
    parent: str | None
    step: int
    tokens: int


@dataclass(frozen=True, slots=True)
class AgentSpoke:
    """An event of a coding agent's own, unchanged."""

    turn: str
    name: str
    parent: str | None
    event: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Concluded:
    """The turn is over: *status* says how, *text* what was returned, or why not."""

    turn: str
    name: str
    parent: str | None
    status: str
    text: str


TeamEvent: TypeAlias = (
    Token
    | Called
    | Returned
    | ToolCalled
    | ToolReturned
    | Sent
    | Consulted
    | Slept
    | Woke
    | Stepped
    | AgentSpoke
    | Concluded
)


class Stream(Generic[T]):
    """Grows until it is closed; any number of readers see all of it, in order, at any time."""

    __slots__ = ("_waiting", "closed", "items")

    def __init__(self) -> None:
        self.items: list[T] = []
        self.closed = False
        self._waiting: list[asyncio.Future[None]] | None = None

    def put(self, item: T) -> None:
        self.items.append(item)
        if self._waiting:
            self.ring()

    def close(self) -> None:
        self.closed = True
        if self._waiting:
            self.ring()

    def ring(self) -> None:
        waiting, self._waiting = self._waiting or (), None
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def more(self) -> None:
        """Return when something was added, or it was closed."""
        future = asyncio.get_running_loop().create_future()
        if self._waiting is None:
            self._waiting = []
        self._waiting.append(future)
        await future

    async def __aiter__(self) -> AsyncIterator[T]:
        items, position = self.items, 0
        while True:
            while position < len(items):
                yield items[position]
                position += 1
            if self.closed:
                return
            await self.more()


class TokenRun:
    """Tokens of one turn that follow each other: they become events when somebody reads them."""

    __slots__ = ("name", "parent", "texts", "turn")

    def __init__(self, turn: str, name: str, parent: str | None, text: str) -> None:
        self.turn, self.name, self.parent = turn, name, parent
        self.texts = [text]

    def token(self, number: int) -> Token:
        return Token(self.turn, self.name, self.parent, self.texts[number])


class FamilyEvents(Stream["TeamEvent | TokenRun"]):
    """The events of a turn and all below it."""

    __slots__ = ()

    def put_token(self, turn: str, name: str, parent: str | None, text: str) -> None:
        """Like `put` with a Token, which is made for whoever reads it but for the first."""
        last = self.items[-1] if self.items else None
        if isinstance(last, TokenRun) and last.turn == turn:
            last.texts.append(text)
        elif isinstance(last, Token) and last.turn == turn:
            self.items.append(TokenRun(turn, name, parent, text))
        else:
            self.items.append(Token(turn, name, parent, text))
        if self._waiting:
            self.ring()

    async def events(self) -> AsyncIterator[TeamEvent]:
        items, position, within = self.items, 0, 0
        while True:
            while position < len(items):
                item = items[position]
                if not isinstance(item, TokenRun):
                    yield item
                elif within < len(item.texts):
                    yield item.token(within)
                    within += 1
                    continue
                elif position == len(items) - 1:
                    break  # it may grow
                position, within = position + 1, 0
            if self.closed:
                return
            await self.more()
