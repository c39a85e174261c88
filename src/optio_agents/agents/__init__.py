"""Agents: detached, journaled processes that outlive the link and their supervisor.

`start` runs one while a block lasts, `adopt` finds it again, `find_sessions` all that there are on
a host. Everything an agent says is a file, everything we say to it is a file, and both lie in its
*session directory* on its host, `TASKDIR/session`, 0700. Its names are a contract: agents outlive
the version that started them. The agent runs as the same user and can write all of them, so what
is read here is checked where it is read (`read_meta`, `parse_status`), and no proof of death rests
on a file alone.

    meta      JSON, one line: tag, argv, cwd, log, deliverables, and the supervisor's own "meta".
              By `prepare`, before the start; never changed. Whoever lost all else adopts from it.
    tag       The name of this start, NAME.RANDOM, which the agent and its children have in their
              environment as OPTIO_SESSION. By `prepare`, through a link: one start wins. Every
              script that is handed another tag refuses to touch the directory.
    launch    Shell text: the agent's environment, directory and arguments. Up to 0.3.2. Now it
              reaches the launcher as a file without a name, emptied when the agent has begun: so
              nothing of it stands in a command line, and no credential on a disk.
    run       The launcher's own text (launcher.sh), as it was when this agent was started; stop
              and limit: the text that stops a session, and the bytes of output at which the
              launcher runs it by itself. By `prepare`; the latter two only with a limit.
    pipe      FIFO: the agent's standard input. Made by the launcher, once: who finds it there was
              beaten to the start ("taken"). Whoever claims the lease makes it where it is missing,
              so that what never started by then cannot start late.
    launcher  PID START BOOT of the launcher, by itself, before it starts anything.
    pid       PID START BOOT of the agent, by itself, before it becomes the agent. A pid is reused;
              with its start time (ticks after boot) and the boot it names one process for all
              time.
    stdout, stderr
              The output, only ever appended to, by the agent. The journals that a conversation
              reads.
    in/       What was said and not yet fed: a file a message, whole, named once by its sender and
              linked into place. "It exists" means that it was said, so a repeat changes nothing:
              the name is the idempotency key. In the order of names; a name that ends in .eof
              closes.
    queue     What is to be said once the turn that runs has ended, for agents that it would harm
              before: a JSON object a line, name and text. Appended to by whoever sends; said into
              in/ under that name by whoever owns the session, so once.
    said/     What the launcher's feeder has put into the pipe: it moves there from in/.
    bell      FIFO that the feeder sleeps on. Ringing is a hint; the directory is the truth.
    closed    Empty, by the feeder: the agent takes no more input.
    answers/  One file a request, "LENGTH BY" and the answer: linked, so the first one wins.
              With a reason that the answer cannot tell, BY holds that as well.
              Whoever comes later says it into in/ once more, should the winner have died in
              between. Named at-PLACE, by where the agent asked in its output, since ids of
              some begin at 0 in every process; up to 0.3.2 by the agent's own id, and found so.
    owner/    The lease: files named by epoch, "JOURNAL OWNER", the last of them is the owner, who
              touches it every 20 s (the heartbeat; the host's clock counts). A link claims the
              next epoch: the same journal at once, another after 60 s of silence.
    exit      The exit code, by the launcher, by rename, when the agent is gone. It counts only
              when the process is gone as well. No exit file and no process: "lost", or, where the
              boot is another, "rebooted"; no launcher either: "never-started".
    reason    Why the launcher stopped it by itself.

A session whose agent has ended is put aside as `session.TAG` by the next start in its place.

Who may end what, within which bound: leaving the block of `start` or `adopt` ends the agent and
all it started (TERM, 5 s, KILL until several scans find nothing; at most 30 s, shielded, logged
where it cannot be done); only `detach`, a lost host and our own death leave it. `stop` does the
same and reports what is left. The launcher ends it at its output limit. `signal` reaches its
process group and nothing else. Nobody ends another user's process, our own, or our ancestors.
Waits for an absent host have no bound here: who calls cancels them.

Read `launch`, `agent` (one agent), `directory` (how scripts run there), `input`, `lease`,
`status`, then `scripts/`: `session.sh` stands in front of all others.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import anyio

from optio_agents.errors import AgentError, HostKeyRefused, HostLost, WorkDirRefused
from optio_agents.hosts.retrying import over_a_cut, retrying

from .agent import Agent, StopReport
from .directory import Directory, text_of
from .input import FirstAnswer
from .launch import Start, is_tag, launch, plan_start, prepare, read_meta
from .lease import Lease
from .status import AgentEnd, AgentState, AgentStatus

if TYPE_CHECKING:
    from optio_agents.hosts.environment import EnvBase
    from optio_agents.hosts.host import Host

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
    "recall",
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
    ends_input: bool = False,
    queued: Sequence[tuple[str, str, Sequence[Mapping[str, Any]]]] = (),
    meta: Mapping[str, object] | None = None,
    before_launch: Callable[[str], Awaitable[None]] | None = None,
) -> AsyncIterator[Agent]:
    """Run *argv* in *cwd*, detached, while the block lasts; leaving it stops the whole tree.

    Only `detach`, a lost host and our own death leave the agent running; `adopt` finds
    it again. It has its user's login environment on its host (*env_base*; never what looks
    like a credential) and *env*, and *first_input*, named messages, before it starts;
    *ends_input* ends its input behind these.
    *queued* are messages for `Agent.queue`: name, text, attachments.
    *before_launch* is awaited with the tag of this start when nothing of it can run yet.
    Raises ValueError, FileRefused (no such *cwd*), WorkDirRefused, AgentError, HostError.
    """
    plan = await plan_start(
        host, argv, cwd, env or {}, env_base, name=name, limit=journal_limit, meta=meta or {}
    )
    directory = Directory(host.machine, session_dir or f"{host.taskdir}/session")
    await prepare(directory, plan)
    agent = Agent(host, directory, plan.meta)
    for message, data in first_input:
        await agent.say(data, name=message)
    for message, text, attachments in queued:
        await agent.queue(message, text, attachments=attachments)
    if ends_input:
        await agent.end_input()  # later it may have ended by itself
    if before_launch is not None:
        await before_launch(agent.session)
    unknown = f"{host.machine.name}: nobody knows whether {plan.session} was started"
    try:
        try:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_STARTING) as starting:
                agent.known = await retrying(host.machine, lambda: launch(directory, plan))
                agent.process = agent.known
                if agent.process is None:  # a repeat: the first one was heard
                    agent.process = (await agent.status()).process
            if starting.cancelled_caught:
                await anyio.lowlevel.checkpoint_if_cancelled()  # nobody wants it: it is stopped
                raise HostLost(unknown)  # noqa: TRY301 - as if the host had
        except HostLost:
            agent.detach()  # it may be at work: who resumes finds it
            raise
        except HostKeyRefused as error:  # the host let us in before: it may have done it
            agent.detach()
            raise HostLost(f"{unknown}: {error}") from error
        yield agent
    finally:
        await agent.leave()


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
    meta = await over_a_cut(lambda: directory.run_once("meta"))
    agent = Agent(host, directory, read_meta(meta))
    if start is not None:
        if agent.session != start.session:
            raise WorkDirRefused(f"{directory.path} holds another session: {agent.session}")
        agent.known = agent.process = start.process
    agent.process = agent.process or (await agent.status()).process
    try:
        yield agent
    finally:
        await agent.leave()


def recall(host: Host, start: Start) -> Agent:
    """The agent of *start* where nothing else is known of it: it can be stopped, and no more."""
    directory = Directory(host.machine, f"{host.taskdir}/session")
    known = {"session": start.session, "cwd": host.workdir, "log": "", "deliverables": ""}
    agent = Agent(host, directory, {**known, "meta": {}})
    agent.known = agent.process = start.process
    agent.detach()
    return agent


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
