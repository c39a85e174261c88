"""What we tell the agent, and whether it was taken."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import anyio

from optio_agents.context import SYSTEM_MESSAGE_PREFIX
from optio_agents.errors import FileRefused, HostError, HostKeyRefused, NameTaken
from optio_agents.hosts.retrying import retrying
from optio_agents.protocol.display import visible_block

if TYPE_CHECKING:
    from optio_agents.context import AgentSender
    from optio_agents.hosts.agents import Agent
    from optio_agents.hosts.machine import Machine

    from .common import Common
    from .result import Replies

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
