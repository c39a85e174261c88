"""How a conversation reaches its agent, whatever lies between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from optio_agents.conversation.claude.stream_json import cut, decode, decode_all

from .contract import Event

if TYPE_CHECKING:
    from optio_agents.framing.cursor import Cursor


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some lines of the agent's stdout."""

    lines: list[bytes]
    size: int  # bytes
    cut: Mapping[int, int] = field(default_factory=dict)  # index of a shortened line: its size
    old: int = 0  # so many in front were delivered before, by whoever spoke with it then

    def events(self, start: int, stop: int) -> list[Event]:
        """What the lines from *start* to before *stop* say."""
        if not self.cut:
            return decode_all(self.lines[start:stop])
        found = list[Event]()
        for index in range(start, stop):
            line, size = self.lines[index], self.cut.get(index)
            found += decode(line) if size is None else [cut(line, size)]
        return found


@dataclass(frozen=True, slots=True)
class End:
    """How the agent's process ended, as far as can be known."""

    how: str  # "exited", "lost", "rebooted", "unknown"
    exit_code: int | None = None
    signal: str | None = None
    stderr: str = ""


class Taken(Protocol):
    """What became of an answer: the first one wins."""

    @property
    def won(self) -> bool: ...
    @property
    def by(self) -> str: ...


class Wire(Protocol):
    """The way to one agent. Raises ConversationClosed or HostError where it is gone."""

    cursor: Cursor | None  # behind the last line read, where there is a journal

    async def say(self, data: bytes) -> None:
        """Returns when *data* is kept for the agent, whether or not it reads."""

    async def answer(self, request_id: str, data: bytes, by: str) -> Taken:
        """Say *data*, unless this request was answered before."""

    async def answered(self) -> Callable[[str], bool]:
        """Which requests were answered before this conversation began."""

    def reading(self) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """What the agent says, until it has ended and all was read."""

    async def end_input(self) -> None: ...
    async def signal(self, name: str) -> None: ...

    async def stop(self, grace: float) -> None:
        """TERM, and KILL after *grace* seconds, to its whole tree."""

    async def ended(self) -> End:
        """Wait for its end."""

    def detach(self) -> None:
        """It shall outlive us, if it can."""
