"""Messages from the agent to the program that started the session, answered in order."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import anyio

from optio_agents.concurrency import OnDemand
from optio_agents.context import SYSTEM_MESSAGE_PREFIX
from optio_agents.display import visible_block
from optio_agents.errors import EndSession, FileRefused, HostError, HostKeyRefused, NameTaken
from optio_agents.hosts.retrying import retrying

if TYPE_CHECKING:
    from optio_agents.agents import Agent
    from optio_agents.context import AgentSender, HookContext
    from optio_agents.hosts.machine import Machine
    from optio_agents.protocol.events import CallerMessageEvent
    from optio_agents.store.records import Entry, Replies

    from .shared import Common


# What we tell the agent, and whether it was taken.


ReplySender: TypeAlias = Callable[[str, str], Awaitable[None]]
"""`sender(name, text)`: say *text* under *name*, once however often it is asked to."""

_log = logging.getLogger(__name__)
_SENDING = 30.0  # seconds for one message to be taken


class Channel:
    """One way to the agent, used by one message at a time; *kind* is what the result says."""

    def __init__(
        self,
        common: Common,
        *,
        machine: Machine | None = None,
        agent: Agent | None = None,
        reply_sender: ReplySender | None = None,
        agent_sender: AgentSender | None = None,
    ) -> None:
        self._common, self._machine = common, machine
        self._by_name = reply_sender or (_saying(agent) if agent else None)
        self._plain = agent_sender
        self._one_at_a_time = anyio.Lock()
        self.kind: Replies = "agent" if self._by_name else "sender" if agent_sender else "none"

    async def reply(self, name: str, text: str) -> bool | None:
        """Say it as the harness; whether it was taken, None where nobody takes anything.

        A journaled agent waits for it: a host without room, or out of reach, is tried again
        until it takes it, however long; any other sender has 30 s with a link, once.
        """
        if self.kind == "none":
            return None
        send = partial(self._send, name, SYSTEM_MESSAGE_PREFIX + text)
        try:
            await (retrying(self._machine, send, passes=_passes) if self._by_name else send())
        except Exception:
            return False
        return True

    async def send(self, text: str) -> None:
        """Say *text* as it is, for `HookContext.send_to_agent`. Raises where it is not taken."""
        if self.kind == "none":
            raise ConnectionError("nobody takes messages")
        await self._send(None, text)

    async def _send(self, name: str | None, text: str) -> None:
        async with self._one_at_a_time:
            try:
                await self._common.guests.call(
                    "agent_sender", lambda: self._say(name, text), seconds=_SENDING
                )
            except NameTaken:  # by an earlier supervisor, who found other words for it
                return
            except Exception:
                self._common.troubles["agent_sender"] += 1
                _log.warning("the agent was not told: %s", visible_block(text), exc_info=True)
                raise

    async def _say(self, name: str | None, text: str) -> None:
        if self._by_name is not None:
            await self._by_name(name or "", text)
        else:
            assert self._plain is not None
            await self._plain(text)


def _passes(error: Exception) -> bool:
    """It may be over by the next time: a full disk, a lost link, no descriptor left."""
    final = HostKeyRefused | FileRefused  # the latter: there is no such session any more
    return isinstance(error, HostError | OSError) and not isinstance(error, final)


def _saying(agent: Agent) -> ReplySender:
    async def say(name: str, text: str) -> None:
        await agent.say(f"{text}\n".encode(), name=name or None)

    return say


CALLER_MESSAGE_QUEUE_BOUND = 10_000  # messages that may wait; the next ones are counted and lost

CallerMessageCallback: TypeAlias = "Callable[[HookContext, str, object], Awaitable[str | None]]"


class CallerMessages:
    """Calls *callback* with one message after the other; a string it returns is the reply."""

    def __init__(
        self,
        hook: HookContext,
        callback: CallerMessageCallback | None,
        *,
        seconds: float,
        channel: Channel,
        common: Common,
    ) -> None:
        self._hook, self._callback, self._seconds = hook, callback, seconds
        self._channel, self._common = channel, common
        self._waiting: deque[tuple[Entry, CallerMessageEvent]] = deque()
        self._decided: dict[tuple[str, int, int], str] = {}
        self._worker = OnDemand(common.workers, self._work, failed=common.failed)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def remember(self, replies: tuple[tuple[Entry, str], ...]) -> None:
        """What an earlier supervisor decided to answer."""
        self._decided = {entry.key: reply for entry, reply in replies}

    def announce(self, entry: Entry, event: CallerMessageEvent) -> None:
        """Have *event* answered, when its turn comes."""
        if self._callback is None or len(self._waiting) >= CALLER_MESSAGE_QUEUE_BOUND:
            self._common.troubles["caller messages ignored"] += 1
            self._common.done(entry)
            return
        self._waiting.append((entry, event))
        self._worker.wake()

    async def idle(self) -> None:
        await self._worker.idle()

    async def _work(self) -> None:
        while self._waiting:
            entry, event = self._waiting[0]
            reply = self._decided.get(entry.key)
            if reply is None and (reply := await self._asked(event)):
                await self._common.journal.decide(entry, reply)
            if reply:
                await self._channel.reply(f"reply-{entry.name}", reply)
            self._waiting.popleft()
            self._common.done(entry)

    async def _asked(self, event: CallerMessageEvent) -> str | None:
        assert self._callback is not None
        call = partial(self._callback, self._hook, event.keyword, event.data)
        try:
            reply = await self._common.guests.call("on_caller_message", call, seconds=self._seconds)
        except EndSession as end:
            self._common.failed(end)
            return None
        except Exception as error:
            self._common.troubles["on_caller_message"] += 1
            _log.warning("on_caller_message raised", exc_info=error)
            return f"message {event.keyword}: there was trouble on our side. Send it again later."
        return reply if isinstance(reply, str) else None
