"""Agents: detached, journaled processes that outlive the link and their supervisor."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import anyio

from optio_agents.errors import AgentError, HostLost, WorkDirRefused
from optio_agents.hosts.retrying import retrying

from .agent import Agent, StopReport
from .directory import Directory, text_of
from .input import FirstAnswer
from .launch import Start, is_tag, launch, planned, prepare, read_meta
from .lease import Lease
from .status import AgentEnd, AgentState, AgentStatus

if TYPE_CHECKING:
    from optio_agents.hosts.environment import EnvBase
    from optio_agents.hosts.host import Host

    from .launch import StartPlan


__all__ = [
    "Agent",
    "AgentEnd",
    "AgentState",
    "AgentStatus",
    "FirstAnswer",
    "Found",
    "Lease",
    "Start",
    "StopReport",
    "adopt",
    "find_sessions",
    "start",
]

_LISTED, _LISTING = 256 << 10, 64 << 20  # bytes of a meta that are listed, and of all of them
_log = logging.getLogger(__name__)
_STARTING = 30.0  # seconds that a start may take once an agent may exist


@dataclass(frozen=True, slots=True)
class Found:
    """A session that was found on a host."""

    directory: str
    session: str
    state: AgentState | Literal["damaged"]
    meta: Mapping[str, Any]  # with what was given to `start` as "meta"; empty if unreadable


@asynccontextmanager
async def start(
    host: Host,
    argv: Sequence[str],
    *,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    env_base: EnvBase = "login",
    session_dir: str | None = None,
    name: str | None = None,
    journal_limit: int | None = None,
    first_input: Sequence[tuple[str, bytes]] = (),
    meta: Mapping[str, object] | None = None,
    before_launch: Callable[[str], Awaitable[None]] | None = None,
) -> AsyncIterator[Agent]:
    """Run *argv* in *cwd*, detached, while the block lasts; leaving it stops the whole tree.

    Only `detach`, a lost host and our own death leave the agent running; `adopt` finds
    it again. It has its user's login environment on its host (*env_base*; never what looks
    like a credential) and *env*, and *first_input*, named messages, before it starts.
    *before_launch* is awaited with the tag of this start when nothing of it can run yet.
    Raises ValueError, FileRefused (no such *cwd*), WorkDirRefused, AgentError, HostError.
    """
    plan = await planned(
        host,
        argv,
        cwd=cwd,
        env=env,
        env_base=env_base,
        name=name,
        journal_limit=journal_limit,
        meta=meta or {},
    )
    directory = Directory(host.machine, session_dir or f"{host.taskdir}/session")
    await prepare(directory, plan)
    agent = Agent(host, directory, plan.meta)
    for message, data in first_input:
        await agent.say(data, name=message)
    if before_launch is not None:
        await before_launch(agent.session)
    try:
        with anyio.CancelScope(shield=True):
            await _launched(agent, directory, plan)
        yield agent
    finally:
        await agent.leave()


async def _launched(agent: Agent, directory: Directory, plan: StartPlan) -> None:
    with anyio.move_on_after(_STARTING):
        agent.process = await retrying(directory.machine, lambda: launch(directory, plan))
        if agent.process is None:  # a repeat: the first one was heard
            agent.process = (await agent.status()).process
        return
    raise HostLost(f"{directory.machine.name}: nobody knows whether {plan.session} was started")


@asynccontextmanager
async def adopt(
    host: Host, *, session_dir: str | None = None, start: Start | None = None
) -> AsyncIterator[Agent]:
    """Find a session's agent again, running or ended, from its directory alone.

    What is remembered of its *start* counts more than what its files say. Leaving the block stops
    it, as with `start`.
    Raises FileRefused (there is no such session), WorkDirRefused, AgentError (it is not the agent
    of *start*, or its files are damaged), HostError.
    """
    directory = Directory(host.machine, session_dir or f"{host.taskdir}/session")
    agent = Agent(host, directory, read_meta(await directory.run_once("meta")))
    if start is not None:
        if agent.session != start.session:
            raise WorkDirRefused(f"{directory.path} holds another session: {agent.session}")
        agent.process = start.process
    agent.process = agent.process or (await agent.status()).process
    try:
        yield agent
    finally:
        await agent.leave()


async def find_sessions(host: Host, base: str) -> list[Found]:
    """Every session in a task directory of ours below *base*, for when the journal is lost.

    What one of them has for files changes nothing about the others; beyond 64 MiB of metas the
    rest is left out, and logged.
    """
    text = text_of("state sessions")
    found, rest, total = list[Found](), b"", 0
    async with host.machine.shell(text, [await host.path(base), str(_LISTED)]) as process:
        await process.close_input()
        while data := await process.read():
            total += len(data)
            if total > _LISTING:
                _log.warning("%s: more sessions than can be listed", host.machine.name)
                break
            *lines, rest = (rest + data).split(b"\n")
            whole = len(lines) - len(lines) % 3
            rest = b"\n".join([*lines[whole:], rest])
            for at in range(0, whole, 3):
                if (one := _found(*lines[at : at + 3])) is not None:
                    found.append(one)
    return found


def _found(first: bytes, directory: bytes, meta: bytes) -> Found | None:
    how, _, session = first.decode(errors="replace").partition(" ")
    path = directory.decode("utf-8", "surrogateescape")
    if how not in {*get_args(AgentState), "damaged"} or not path.startswith("/"):
        return None
    try:
        known = read_meta(meta)["meta"]
    except AgentError:  # the agent itself may have written to it
        known = {}
    named = session if is_tag(session) else ""
    return Found(path, named, cast("AgentState", how), {"meta": known} if known else {})
