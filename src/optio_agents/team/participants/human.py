"""A person as a participant: shown what is asked, and heard when they have answered.

They answer at the console of the team, where it has one, or from anywhere that reaches its journal
(`optio-agents sit`, `TurnJournal.answer`): an answer from elsewhere is an item in the mailbox of
their turn, and the first answer counts, wherever it was given. So a question waits without a task
and without a process, for as long as it takes.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from optio_agents.display import visible_block

from . import Participant

if TYPE_CHECKING:
    from optio_agents.team.context import TurnContext

Show = Callable[[str], Any]
Read = Callable[[], "str | Awaitable[str]"]


class Human(Participant):
    """What `human` makes. One question at a time."""

    person = shared = True
    asks = True  # at the console of the team, if it has one

    def __init__(self, show: Show | None, read: Read | None, role: str) -> None:
        self._show, self._read = show, read
        self.console = True  # unless somebody else reads it
        self.role = role

    async def answer(self, context: TurnContext) -> str:
        here = self.is_here(context)
        if here and not _answers(context):
            await self._tell(f"{context.message.sender} asks {context.name}:\n{context.text}")
        refused = 0
        while True:
            text = await self._next(context, refused, here=here)
            wrong = context.turn.misfit(text)
            if wrong is None:
                return text
            item = {"refused": wrong}
            await context.kernel.store.post(context.id, item, key=f"refused:{refused}")
            refused += 1
            if here:
                await self._tell(f"That does not fit: {wrong}\nAgain, please:")

    def is_here(self, context: TurnContext) -> bool:
        """Whether the person is asked in this process."""
        return self._read is not None or not context.kernel.store.durable or self.at_console()

    def at_console(self) -> bool:
        try:
            return self.console and sys.stdin.isatty()
        except (AttributeError, ValueError):  # closed
            return False

    async def _next(self, context: TurnContext, number: int, *, here: bool) -> str:
        """The answer of that number, from wherever it comes first."""
        if not here and len(_answers(context)) <= number:
            context.suspend_for_mail()
        reading = asyncio.ensure_future(self._read_here()) if here else None
        try:
            while len(found := _answers(context)) <= number:
                assert reading is not None
                news = asyncio.ensure_future(context.changes.more())
                await asyncio.wait({reading, news}, return_when=asyncio.FIRST_COMPLETED)
                news.cancel()
                if reading.done():
                    return await _keep(context, reading.result(), number)
        finally:
            if reading is not None:
                reading.cancel()
        if here:
            await self._tell("It was answered elsewhere.")
        return found[number]

    async def _read_here(self) -> str:
        text = (self._read or console.read)()
        answer = await text if isawaitable(text) else text
        return "" if answer is None else str(answer)

    async def _tell(self, text: str) -> None:
        shown = (self._show or _print)(visible_block(text))  # what others say is never markup
        if isawaitable(shown):
            await shown


class Approver(Human):
    """Whoever is there: who approves in a team with agents that names nobody for it."""

    asks = False

    def __init__(self) -> None:
        super().__init__(None, None, "approves")

    def is_here(self, context: TurnContext) -> bool:
        return self.at_console()

    async def answer(self, context: TurnContext) -> str:
        if not context.kernel.store.durable and not self.at_console():
            return "no: nobody is there to be asked"
        return await super().answer(context)


def _answers(context: TurnContext) -> list[str]:
    return [item["answer"]["text"] for item in context.claim.mail if "answer" in item]


async def _keep(context: TurnContext, text: str, number: int) -> str:
    """Put the answer where those from elsewhere are; what was the first there."""
    from optio_agents.team.messages import Message

    store = context.kernel.store
    item = {"answer": Message(text, "return", context.name).dump(), "by": "the console"}
    place = await store.post(context.id, item, key=f"answer:{number}")
    return str((await store.mailbox(context.id))[place - 1]["answer"]["text"])


def human(*, show: Show | None = None, read: Read | None = None, role: str = "a person") -> Human:
    """A person at this console, or wherever *show* puts a text and *read* gets a line from.

    At the console an answer may have several lines: it ends with an empty one. With a store, they
    may answer from anywhere that reaches it as well, and where there is no console, only so.
    """
    return Human(show, read, role)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Console:
    """Answers from standard input; what came behind one is kept for the next."""

    def __init__(self) -> None:
        self._kept, self._ended = b"", False

    async def read(self) -> str | None:
        """Lines up to an empty one; None at the end of the input. Cancelled, it leaves it alone."""
        lines: list[str] = []
        while True:
            while b"\n" in self._kept:
                line, _, self._kept = self._kept.partition(b"\n")
                text = line.decode("utf-8", "replace").rstrip("\r")
                if text.strip():
                    lines.append(text)
                elif lines:
                    return "\n".join(lines)
            if self._ended:
                rest, self._kept = self._kept.decode("utf-8", "replace"), b""
                return "\n".join([*lines, *([rest] if rest.strip() else [])]) or None
            await self._ready()
            data = os.read(sys.stdin.fileno(), 65536)
            self._ended, self._kept = not data, self._kept + data

    async def _ready(self) -> None:
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_reader(sys.stdin.fileno(), ready.set)
        except PermissionError:  # a file is always ready
            return
        try:
            await ready.wait()
        finally:
            loop.remove_reader(sys.stdin.fileno())


console = Console()
