"""Speaking to an agent from any terminal, whoever supervises it."""

from __future__ import annotations

import secrets
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio

from optio_agents import agents
from optio_agents.conversation import wire_agent
from optio_agents.conversation.claude.dialect import ClaudeDialect
from optio_agents.conversation.claude.stream_json import (
    behavior_of,
    control_request,
    permission_answer,
    user_message,
)
from optio_agents.conversation.contract import PermissionDecision, PermissionRequest
from optio_agents.errors import AgentError, AlreadyOwned
from optio_agents.store.records import SessionResult
from optio_agents.supervision.kinds.claude import digest_of

from .sessions import Facts, host_of, known_start, owner_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from optio_agents.agents import Agent, StopReport
    from optio_agents.agents.input import FirstAnswer
    from optio_agents.hosts.host import Host
    from optio_agents.store import Store, StoredSession


_READING = 30.0  # seconds that reading what an agent has said may take


@dataclass(frozen=True, slots=True)
class Reached:
    """A session whose agent can be spoken to."""

    session: StoredSession
    store: Store
    host: Host
    agent: Agent

    @property
    def facts(self) -> Facts:
        return Facts.read(self.session.facts)


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A permission that nobody has given or refused yet; *digest* stands for all of it."""

    request: PermissionRequest
    digest: str


@asynccontextmanager
async def find(store: Store, beginning: str) -> AsyncIterator[Reached]:
    """The session whose id begins so, wherever its agent is. Leaving the block changes nothing.

    Raises StoreError (no such session), FileRefused (its agent is not there), HostError.
    """
    session = await store.session(beginning)
    start = await known_start(store, session.id)
    async with host_of(session) as host, agents.adopt(host, start=start) as agent:
        agent.detach()
        yield Reached(session, store, host, agent)


async def send(reached: Reached, text: str) -> str:
    """Say *text* to the agent; returns the name of the message. Raises InputClosed."""
    if reached.facts.agent == "claude":
        name = await reached.agent.say(user_message(text, str(uuid4())))
    else:
        name = await reached.agent.say(f"{text}\n".encode())
    said = {"text": text, "by": owner_name()}
    await reached.store.journal(reached.session.id).note("sent", name, said)
    return name


async def interrupt(reached: Reached) -> None:
    """End the turn that runs; a plain command gets SIGINT. Raises InputClosed."""
    if reached.facts.agent == "claude":
        request = control_request(f"optio-{secrets.token_hex(6)}", "interrupt")
        await reached.agent.say(request)
    else:
        await reached.agent.signal("INT")


async def open_requests(reached: Reached) -> list[OpenRequest]:
    """What the agent waits for, read from what it said, so also when nobody supervises it."""
    if reached.facts.agent != "claude":
        return []
    with anyio.fail_after(_READING):
        waiting = await wire_agent.open_requests(reached.agent, ClaudeDialect(echoes=True))
    return [OpenRequest(request, digest_of(request)) for request in waiting]


async def answer(
    reached: Reached, request: str, decision: PermissionDecision, *, digest: str, by: str
) -> FirstAnswer:
    """Decide the open request of that id, as it was shown: *digest* says what was.

    Raises AgentError when it is not open, or is not what was shown.
    """
    found = [one for one in await open_requests(reached) if one.request.id == request]
    if not found:
        raise AgentError(f"no request {request!r} is open")
    if found[0].digest != digest:
        raise AgentError(f"request {request!r} is not what was shown: look at it again")
    data = permission_answer(found[0].request, decision)
    answered = await reached.agent.answer(found[0].request.names[0], data, by=by)
    asked = found[0].request
    kept = {"tool_name": asked.tool_name, "raw": asked.raw, "digest": digest}
    behavior = decision.behavior if answered.won else behavior_of(answered.data)
    decided = {"behavior": behavior, "by": answered.by}
    await reached.store.journal(reached.session.id).note("permission", request, {**kept, **decided})
    return answered


async def stop(reached: Reached, *, grace: float = 5.0) -> StopReport:
    """End the agent and all that it started; the session counts as cancelled then."""
    store, session = reached.store, reached.session
    journal = store.journal(session.id)
    await journal.note("stop", "", {"by": owner_name()})
    report = await reached.agent.stop(grace=grace)
    try:
        with store.claim(session.id, owner_name()):  # nobody is there to notice it
            if report.empty and not (await store.session(session.id)).over:
                now = time.time()
                words = f"stopped by {owner_name()}"
                await journal.end(SessionResult(session.id, "cancelled", words, now, now))
    except AlreadyOwned:
        pass
    return report
