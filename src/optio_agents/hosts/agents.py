"""Agents: detached, journaled processes that outlive the link and their supervisor."""

from __future__ import annotations

import json
import logging
import posixpath
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import anyio

from optio_agents.errors import AgentError, HostLost, OptioAgentsError

from .agent_directory import Directory, until_heard
from .agent_input import Answered, Input
from .agent_launch import launch, planned, prepare
from .agent_owner import Lease, owned
from .agent_status import AgentEnd, AgentState, AgentStatus, parse_status
from .bootstrap import script
from .collect import collected

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from optio_agents.following.batches import Batches
    from optio_agents.following.cursor import Cursor

    from .agent_environment import EnvBase
    from .agent_launch import Plan
    from .host import Host
    from .machine import ProcessId

_log = logging.getLogger(__name__)
_STARTING = 60.0  # seconds that a start may take once an agent may exist
_STOPPING = 30.0  # seconds beyond the grace that a stop may take


@dataclass(frozen=True, slots=True)
class StopReport:
    """Whether a stop left nothing behind; the survivors as "PID COMMAND"."""

    empty: bool
    survivors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A session that was found on a host."""

    directory: str
    session: str
    state: AgentState
    meta: Mapping[str, Any]


@asynccontextmanager
async def start_agent(
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
) -> AsyncIterator[Agent]:
    """Run *argv* in *cwd*, detached, while the block lasts; leaving it stops the whole tree.

    Only `detach`, a lost host and our own death leave the agent running; `adopt_agent` finds
    it again. It has its user's login environment on its host (*env_base*; never what looks
    like a credential) and *env*, and *first_input*, named messages, before it starts.
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
    try:
        with anyio.CancelScope(shield=True):
            await _launched(agent, directory, plan)
        yield agent
    finally:
        await agent.leave()


async def _launched(agent: Agent, directory: Directory, plan: Plan) -> None:
    with anyio.move_on_after(_STARTING):
        agent.process = await until_heard(directory.machine, lambda: launch(directory, plan))
        if agent.process is None:  # a repeat: the first one was heard
            agent.process = (await agent.status()).process
        return
    raise HostLost(f"{directory.machine.name}: nobody knows whether {plan.session} was started")


@asynccontextmanager
async def adopt_agent(host: Host, *, session_dir: str | None = None) -> AsyncIterator[Agent]:
    """Find a session's agent again, running or ended, from its directory alone.

    Leaving the block stops it, as with `start_agent`.
    Raises FileRefused (there is no such session), WorkDirRefused, HostError.
    """
    directory = Directory(host.machine, session_dir or f"{host.taskdir}/session")
    agent = Agent(host, directory, _read_meta(await directory.run_once("meta")))
    agent.process = (await agent.status()).process
    try:
        yield agent
    finally:
        await agent.leave()


async def sessions_on(host: Host, base: str) -> list[Found]:
    """Every session in a task directory of ours below *base*, for when the journal is lost."""
    text = "\n".join(map(script, ("session", "state", "sessions")))
    async with host.machine.shell(text, [await host.path(base)]) as process:
        answer = await collected(process)
    found = list[Found]()
    for record in answer.stdout.decode(errors="replace").split("---\n")[1:]:
        first, directory, meta = record.split("\n", 2)
        state, session = first.split(" ", 1)
        found.append(Found(directory, session, cast("AgentState", state), _read_meta(meta)))
    return found


class Agent:
    """One agent process and its session directory. Everything it says is a file there."""

    def __init__(self, host: Host, directory: Directory, meta: Mapping[str, Any]) -> None:
        self.process: ProcessId | None = None
        self.session = str(meta.get("session", ""))
        self.directory = directory.path
        self.cwd = str(meta.get("cwd", ""))
        self.meta = cast("Mapping[str, Any]", meta.get("meta") or {})
        self._host, self._machine = host, host.machine
        self._directory = directory
        self._input = Input(directory, self.session)
        self._watched = str(meta.get("log", "")), str(meta.get("deliverables", ""))
        self._detached = self._stopped = False

    def __repr__(self) -> str:
        return f"<Agent {self.session} in {self.directory} on {self._machine.name}>"

    async def say(self, data: bytes, *, name: str | None = None) -> str:
        """Put one whole message into the agent's input, once; returns its name there.

        The same words under the same *name* are said once however often this is called, and a
        lost link is waited for. Raises NameTaken, InputClosed, TransferFailed (the disk is full).
        """
        return await self._input.say(data, name)

    async def end_input(self) -> None:
        """End the agent's input behind what was said. Twice is fine. Raises InputClosed."""
        await self._input.end()

    async def answer(self, request: str, data: bytes, *, by: str) -> Answered:
        """Say *data* as the one answer to *request*, unless somebody did before.

        Raises InputClosed, TransferFailed.
        """
        return await self._input.answer(request, data, by)

    async def status(self) -> AgentStatus:
        """One look, as soon as the host can be reached. Raises FileRefused, WorkDirRefused."""
        return await until_heard(self._machine, self._status_once)

    async def _status_once(self) -> AgentStatus:
        args = *self._watched, self.session
        said = await self._directory.run_once("state status", *args)
        return parse_status(said.decode(errors="replace"))

    async def wait(self) -> AgentEnd:
        """Until the agent has ended, through any number of lost links."""
        while True:
            if end := (await self.status()).end():
                return end
            await anyio.sleep(0.5)

    async def signal(self, name: str, *, group: bool = True) -> None:
        """Send a signal, as "INT", to the agent's process group, or to it alone.

        Raises InputClosed when it has ended. Not repeated: HostLost says that nobody knows.
        """
        whom = "group" if group else "process"
        await self._directory.run_once("state signal", self.session, name, whom)

    async def stop(self, *, grace: float = 5.0) -> StopReport:
        """End the agent and all that it started; *grace* (s) is what TERM gives it.

        Raises HostError when the host cannot be reached.
        """
        for _ in range(2):  # a link may turn out to be dead only now, and then be made anew
            with suppress(HostLost):
                return await self._stop(grace)
        return await self._stop(grace)

    async def _stop(self, grace: float) -> StopReport:
        status = await self._status_once()
        roots = [_root(found) for found in (status.process, status.launcher) if found]
        anchor = _root(status.launcher) if status.launcher else "-"
        args = [f"OPTIO_SESSION={self.session}", f"{grace:g}", anchor, *roots]
        async with self._machine.shell(script("stop"), args) as process:
            answer = await collected(process)
        if answer.exit_code not in {0, 1}:
            raise AgentError(f"stopping failed: {answer.stderr.decode(errors='replace')}")
        self._stopped = True
        left = answer.stdout.decode(errors="replace").splitlines()
        return StopReport(not answer.exit_code, tuple(left))

    def detach(self) -> None:
        """Leaving the block leaves the agent running."""
        self._detached = True

    def follow_stdout(
        self, cursor: Cursor | None = None, *, limit: int = 64 << 20
    ) -> AbstractAsyncContextManager[Batches]:
        """Its standard output, line by line, until it has ended and all was read."""
        return self._follow("stdout", cursor, limit)

    def follow_stderr(
        self, cursor: Cursor | None = None, *, limit: int = 1 << 20
    ) -> AbstractAsyncContextManager[Batches]:
        """Its standard error, likewise."""
        return self._follow("stderr", cursor, limit)

    def _follow(
        self, name: str, cursor: Cursor | None, limit: int
    ) -> AbstractAsyncContextManager[Batches]:
        path = posixpath.join(self.directory, name)
        return self._host.follow(path, cursor, journal=True, limit=limit, process=self.process)

    async def last_stderr(self, size: int = 4096) -> str:
        """The end of its standard error, as far as it can be decoded."""
        said = await self._directory.run("tail", self.session, "stderr", str(size))
        return said.decode(errors="replace")

    def own(
        self, owner: str, *, journal: str, take_over: bool = False
    ) -> AbstractAsyncContextManager[Lease]:
        """Be the one who dispatches for this session while the block lasts.

        The same *journal* reclaims at once, another after 60 s of silence or with *take_over*.
        Raises AlreadyOwned, which names the other.
        """
        return owned(self._directory, self.session, owner, journal, take_over=take_over)

    async def leave(self) -> None:
        """Stop what was not detached, shielded and bounded; logged where that cannot be done."""
        if self._detached or self._stopped:
            return
        with anyio.CancelScope(shield=True):
            try:
                with anyio.fail_after(_STOPPING):
                    report = await self.stop()
                if not report.empty:
                    _log.warning("%s: still running: %s", self.session, "; ".join(report.survivors))
            except (OptioAgentsError, OSError) as error:
                _log.warning(
                    "%s may still run on %s (%s); adopt_agent(session_dir=%r) finds it",
                    self.session,
                    self._machine.name,
                    error,
                    self.directory,
                )


def _root(process: ProcessId) -> str:
    return f"{process.pid}:{process.start}"


def _read_meta(text: bytes | str) -> Mapping[str, Any]:
    try:
        meta = json.loads(text)
    except ValueError:
        meta = None
    if not isinstance(meta, dict):
        raise AgentError("the session's meta cannot be read")
    return meta
