"""A person as a participant: shown what is asked, and heard when they have answered."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from optio_agents.display import visible_block

if TYPE_CHECKING:
    from optio_agents.team.context import TurnContext

Show = Callable[[str], Any]
Read = Callable[[], "str | Awaitable[str]"]


class Human:
    """What `human` makes. One question at a time."""

    local = False

    def __init__(self, show: Show, read: Read, role: str) -> None:
        self._show, self._read = show, read
        self.role, self.shared = role, True

    def open(self, name: str) -> None:
        pass

    async def close(self) -> None:
        pass

    async def answer(self, context: TurnContext) -> str:
        from optio_agents.team.messages import Message
        from optio_agents.team.turn import validated

        await self._tell(f"{context.message.sender} asks {context.name}:\n{context.text}")
        while True:
            text = self._read()
            line = await text if isawaitable(text) else text
            returns = context.turn.returns
            if returns is None:
                return str(line)
            try:
                validated(Message(str(line)), returns)
            except ValueError as error:
                await self._tell(f"That does not fit: {error}\nAgain, please:")
            else:
                return str(line)

    async def _tell(self, text: str) -> None:
        shown = self._show(visible_block(text))  # what others say is never markup
        if isawaitable(shown):
            await shown


def human(*, show: Show | None = None, read: Read | None = None, role: str = "a person") -> Human:
    """A person at this console, or wherever *show* puts a text and *read* gets a line from.

    At the console an answer may have several lines: it ends with an empty one.
    """
    return Human(show or _print, read or _read_console, role)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def _read_console() -> str:
    """Lines of standard input up to an empty one; cancelled, it leaves the input alone."""
    loop = asyncio.get_running_loop()
    lines: list[str] = []
    while True:
        ready = asyncio.Event()
        loop.add_reader(sys.stdin.fileno(), ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(sys.stdin.fileno())
        line = sys.stdin.readline()
        if not line.strip():
            if lines or not line:
                return "\n".join(lines)
            continue
        lines.append(line.rstrip("\n"))
