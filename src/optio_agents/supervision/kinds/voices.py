"""How a supervisor and its agent talk: lines for any program, stream-json for claude."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol
from uuid import NAMESPACE_URL, uuid5

from optio_agents.errors import NameTaken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from optio_agents.agents import Agent


class Voice(Protocol):
    """One agent, as the driver needs it."""

    async def reply(self, name: str, text: str) -> None:
        """Say *text* under *name*, once however often, and by whomever, this is asked for.

        Without a name each time counts.
        """

    async def body(self, host: Any, hook: Any) -> object:
        """Return when the agent has ended, or has nothing to do any more."""

    def busy(self) -> bool:
        """The agent waits for a person."""

    def ending(self) -> None:
        """DONE or ERROR was recorded."""

    async def close(self) -> None:
        """Let the agent end by itself, within a bound."""


class LineVoice:
    """Any program: each message is a line, or several, on its input."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def reply(self, name: str, text: str) -> None:
        await say_once(self._agent, name or None, f"{text}\n".encode())

    async def body(self, host: Any, hook: Any) -> object:
        return await self._agent.wait()

    def busy(self) -> bool:
        return False

    def ending(self) -> None:
        """Programs end when they are done."""

    async def close(self) -> None:
        """Nor is there anything to ask of them."""


@asynccontextmanager
async def line_voice(agent: Agent) -> AsyncIterator[LineVoice]:
    """Talk to *agent* in lines while the block lasts."""
    yield LineVoice(agent)


async def say_once(agent: Agent, name: str | None, data: bytes) -> None:
    """Say *data* under *name*, unless that was said before, maybe in other words."""
    # Another supervisor may have died between saying it and writing that down.
    with suppress(NameTaken):
        await agent.say(data, name=name)


def message_uuid(session: str, name: str) -> str:
    """The same for the same message of the same session, whoever says it."""
    return str(uuid5(NAMESPACE_URL, f"optio-agents:{session}:{name}"))
