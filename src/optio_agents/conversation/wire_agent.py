"""A conversation over a detached, journaled agent: what it says and what is said are files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from optio_agents.agents.input import request_name
from optio_agents.concurrency import task_group
from optio_agents.conversation.claude.stream_json import message_of
from optio_agents.errors import InputClosed

from .contract import ConversationClosed, Unconfirmed
from .wire import Chunk, End, Taken

if TYPE_CHECKING:
    from optio_agents.agents import Agent
    from optio_agents.framing.batches import Batches
    from optio_agents.framing.cursor import Cursor


_EXCERPT = 2000  # bytes of a message that its sender's successor gets to see


class AgentWire:
    """What stands in front of *delivered* in the journal was handed over before.

    It is read all the same, since it tells what is open; only nobody hears of it again.
    """

    def __init__(self, agent: Agent, delivered: Cursor | None = None) -> None:
        self._agent = agent
        self._delivered = delivered.offset if delivered is not None else 0
        self._ending = anyio.Event()
        self.cursor = delivered  # behind the last line read

    async def say(self, data: bytes) -> None:
        try:
            await self._agent.say(data)
        except InputClosed as error:
            raise ConversationClosed(str(error)) from error

    async def answer(self, request_id: str, data: bytes, by: str) -> Taken:
        return await self._agent.answer(request_id, data, by=by)

    async def answered(self) -> Callable[[str], bool]:
        names = frozenset((await self._agent.query("answers")).decode().split())
        return lambda request_id: request_name(request_id) in names

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncIterator[Chunk]]:
        async with task_group() as tasks, self._agent.follow_stdout() as batches:
            tasks.start_soon(self._finish, batches)
            yield self._chunks(batches)
            tasks.cancel_scope.cancel()

    async def _chunks(self, batches: Batches) -> AsyncIterator[Chunk]:
        start = 0
        async for batch in batches:
            self.cursor = batch.cursor
            old = 0
            if start < self._delivered:
                old = sum(1 for end in batch.ends if end <= self._delivered)
            yield Chunk(batch.lines, batch.ends[-1] - start, batch.cut, old)
            start = batch.ends[-1]

    async def _finish(self, batches: Batches) -> None:
        """Find out soon that it has ended, now that it is meant to; else the sweep does."""
        await self._ending.wait()
        await self._agent.wait()
        batches.finish()

    async def end_input(self) -> None:
        self._ending.set()
        await self._agent.end_input()

    async def signal(self, name: str) -> None:
        self._ending.set()
        await self._agent.signal(name)

    async def stop(self, grace: float) -> None:
        self._ending.set()
        await self._agent.stop(grace=grace)

    def detach(self) -> None:
        self._agent.detach()

    async def ended(self) -> End:
        end = await self._agent.wait()
        return End(end.how, end.exit_code, end.signal, await self._agent.last_stderr())


async def said_to(agent: Agent) -> list[Unconfirmed]:
    """The latest messages of the user's that were put into the agent's input, in order."""
    fronts = (await agent.query("messages", str(_EXCERPT))).split(b"\0")
    return [message for front in fronts if (message := message_of(front)) is not None]
