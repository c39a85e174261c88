"""How a conversation reaches its agent, whatever lies between them: lines out, bytes in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from optio_agents.framing.cursor import Cursor


@dataclass(frozen=True, slots=True)
class OutputLines:
    """Some lines of the agent's stdout, which nobody has decoded yet."""

    lines: Sequence[bytes]  # with or without their newline
    size: int  # bytes
    places: Sequence[int]  # where each line stands in the output, the same for every reader
    cut: Mapping[int, int] = field(default_factory=dict)  # index of a shortened line: its size
    old: int = 0  # so many in front were delivered before, by whoever spoke with it then

    def parts(self) -> tuple[OutputLines, OutputLines]:
        """What was delivered before, and what is new."""
        return self._part(0, self.old), self._part(self.old, len(self.lines))

    def _part(self, start: int, stop: int) -> OutputLines:
        cut = {n - start: size for n, size in self.cut.items() if start <= n < stop}
        size = self.size if stop > self.old else 0
        return OutputLines(self.lines[start:stop], size, self.places[start:stop], cut)


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """How the agent's process ended, as far as can be known."""

    how: str  # "exited", "lost", "rebooted", "unknown"
    exit_code: int | None = None
    signal: str | None = None
    stderr: str = ""


class AnswerTaken(Protocol):
    """What became of an answer: the first one wins."""

    @property
    def won(self) -> bool: ...
    @property
    def by(self) -> str: ...


class Wire(Protocol):
    """The way to one agent. Raises ConversationClosed or HostError where it is gone."""

    cursor: Cursor | None  # behind the last line read, where there is a journal

    async def say(self, data: bytes, *, name: str | None = None) -> None:
        """Returns when *data* is kept for the agent, whether or not it reads.

        Under one *name* it is said once.
        """

    async def answer(self, name: str, data: bytes, by: str, reason: str = "") -> AnswerTaken:
        """Say *data*, unless an answer of this name was given before.

        A *reason* that it cannot tell is kept with it, where somebody could ask for it.
        """

    async def answered(self) -> Callable[[str], bool]:
        """Which answers were given before this conversation began, by name."""

    def reading(self) -> AbstractAsyncContextManager[AsyncIterator[OutputLines]]:
        """What the agent says, until it has ended and all was read."""

    async def end_input(self) -> None: ...
    async def signal(self, name: str) -> None: ...

    async def stop(self, grace: float) -> None:
        """TERM, and KILL after *grace* seconds, to its whole tree."""

    async def ended(self) -> ProcessEnd:
        """Wait for its end."""

    def detach(self) -> None:
        """It shall outlive us, if it can."""
