"""A conversation over a detached, journaled agent: what it says and what is said are files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from optio_agents.agents.input import next_name
from optio_agents.concurrency import task_group
from optio_agents.errors import InputClosed

from .contract import ConversationClosed, PermissionRequest, Unconfirmed
from .dialect import ControlAnswered, Dialect, Fact, PermissionAsked, PermissionSettled
from .exchange import ControlRefused
from .wire import AnswerTaken, OutputLines, ProcessEnd

if TYPE_CHECKING:
    from optio_agents.agents import Agent
    from optio_agents.framing.batches import Batches
    from optio_agents.framing.cursor import Cursor


_CONTROL = 60.0  # s that a live agent may take to acknowledge
_EXCERPT = 2000  # bytes of a message that its sender's successor gets to see


class AgentWire:
    """What stands in front of *delivered* in the journal was handed over before.

    It is read all the same, since it tells what is open; only nobody hears of it again.
    """

    def __init__(self, agent: Agent, delivered: Cursor | None = None, *, line_limit: int) -> None:
        self.agent = agent
        self._line_limit = line_limit
        self._delivered = delivered.offset if delivered is not None else 0
        self._ending = anyio.Event()
        self.cursor = delivered  # behind the last line read

    async def say(self, data: bytes, *, name: str | None = None) -> None:
        try:
            await self.agent.say(data, name=name)
        except InputClosed as error:
            raise ConversationClosed(str(error)) from error

    async def answer(self, name: str, data: bytes, by: str, reason: str = "") -> AnswerTaken:
        return await self.agent.answer(name, data, by=by, reason=reason)

    async def answered(self) -> Callable[[str], bool]:
        return await self.agent.names_answered()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncIterator[OutputLines]]:
        async with (
            task_group() as tasks,
            self.agent.follow_stdout(limit=self._line_limit) as batches,
        ):
            tasks.start_soon(self._finish, batches)
            yield self._chunks(batches)
            tasks.cancel_scope.cancel()

    async def _chunks(self, batches: Batches) -> AsyncIterator[OutputLines]:
        start = 0
        async for batch in batches:
            self.cursor = batch.cursor
            old = 0
            if start < self._delivered:
                old = sum(1 for end in batch.ends if end <= self._delivered)
            places = [start, *batch.ends[:-1]]
            yield OutputLines(batch.lines, batch.ends[-1] - start, places, batch.cut, old)
            start = batch.ends[-1]

    async def _finish(self, batches: Batches) -> None:
        """Find out soon that it has ended, now that it is meant to; else the sweep does."""
        await self._ending.wait()
        await self.agent.wait()
        batches.finish()

    async def end_input(self) -> None:
        self._ending.set()
        await self.agent.end_input()

    async def signal(self, name: str) -> None:
        self._ending.set()
        await self.agent.signal(name)

    async def stop(self, grace: float) -> None:
        self._ending.set()
        await self.agent.stop(grace=grace)

    def detach(self) -> None:
        self.agent.detach()

    async def ended(self) -> ProcessEnd:
        end = await self.agent.wait()
        return ProcessEnd(end.how, end.exit_code, end.signal, await self.agent.last_stderr())


async def sent_before(
    agent: Agent, message_of: Callable[[bytes], Unconfirmed | None]
) -> list[Unconfirmed]:
    """The latest messages of the user's that were put into the agent's input, in order.

    *message_of* reads the front of one: it is the inverse of what encoded it.
    """
    fronts = (await agent.query("messages", str(_EXCERPT))).split(b"\0")
    return [message for front in fronts if (message := message_of(front)) is not None]


async def open_requests(
    agent: Agent, dialect: Dialect, after: Cursor | None = None
) -> list[PermissionRequest]:
    """What the agent waits for, by its journal alone, so also when nobody supervises it.

    *dialect* is a new one, which reads all of it, or what stands behind *after*, the end of some
    turn: no request outlives its turn. As long as that takes: bound it.
    """
    found = dict[str, PermissionRequest]()

    def take(fact: Fact) -> bool:
        match fact:
            case PermissionAsked(request):
                found[request.id] = request
            case PermissionSettled(request_id):
                found.pop(request_id, None)
        return False

    await _read(agent, dialect, after, take)
    answered = await AgentWire(agent, line_limit=dialect.line_limit).answered()
    return [one for one in found.values() if not any(map(answered, one.names))]


async def steer(
    agent: Agent,
    dialect: Dialect,
    text: str,
    message_of: Callable[[bytes], Unconfirmed | None],
) -> str:
    """Say *text* into the turn that runs, by the journal alone; returns its name.

    As long as reading all of it takes, and 60 s. Raises ControlRefused where no turn runs, or the
    agent hears nothing meanwhile.
    """
    name, answers = next_name(), list[ControlAnswered]()
    asked = f"optio-{name}"

    def take(fact: Fact) -> bool:
        if isinstance(fact, ControlAnswered) and fact.request_id == asked:
            answers.append(fact)
        return bool(answers)

    for message in await sent_before(agent, message_of):
        dialect.sent(message.uuid)
    place = await _read(agent, dialect, None, take)
    if not dialect.running:
        raise ControlRefused("it has no turn to be steered: send it a message")
    try:
        data = dialect.steering(asked, text)
    except ValueError as error:
        raise ControlRefused(str(error)) from error
    await agent.say(data, name=name)
    with anyio.move_on_after(_CONTROL):
        await _read(agent, dialect, place, take, on=True)
    if not answers or answers[0].refused is not None:
        raise ControlRefused((answers and answers[0].refused) or "it did not say that it heard")
    return name


async def _read(
    agent: Agent,
    dialect: Dialect,
    after: Cursor | None,
    take: Callable[[Fact], bool],
    *,
    on: bool = False,
) -> Cursor | None:
    """Give each fact behind *after* to *take* until that has enough, and the place behind it.

    Only what is there by now, unless it is to go *on*.
    """
    start = 0 if after is None else after.offset
    async with agent.follow_stdout(after, limit=dialect.line_limit) as batches:
        if not on:
            batches.finish()
        async for batch in batches:
            places = [start, *batch.ends[:-1]]
            output = OutputLines(batch.lines, batch.ends[-1] - start, places, batch.cut)
            start, after = batch.ends[-1], batch.cursor
            if [fact for fact in dialect.read(output, 0.0).facts if take(fact)]:
                break
    return after
