"""One agent: spoken to, looked at, waited for and stopped through its session directory."""

from __future__ import annotations

import json
import logging
import posixpath
import secrets
import signal as signals
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio

from optio_agents.errors import (
    AgentError,
    AlreadyOwned,
    CommandTimedOut,
    FileRefused,
    OptioAgentsError,
)
from optio_agents.hosts.retrying import over_a_cut, retrying
from optio_agents.hosts.scripting import collect, script

from .directory import Directory
from .input import (
    END,
    SMALL,
    FirstAnswer,
    GivenAnswer,
    answer_here,
    check_name,
    next_name,
    request_name,
    say_here,
)
from .lease import lease
from .status import parse_status

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from optio_agents.framing.batches import Batches
    from optio_agents.framing.cursor import Cursor
    from optio_agents.hosts.host import Host
    from optio_agents.hosts.machine import ProcessId

    from .lease import Lease
    from .status import AgentEnd, AgentStatus


_log = logging.getLogger(__name__)
_STOPPING = 30.0  # seconds that leaving the block may take
_LOOKING = 20.0  # seconds between looks at an agent of which nobody knows which process it is


@dataclass(frozen=True, slots=True)
class StopReport:
    """Whether a stop left nothing behind; the survivors as "PID COMMAND"."""

    empty: bool
    survivors: tuple[str, ...] = ()


class Agent:
    """One agent process and its session directory. Everything it says is a file there."""

    def __init__(self, host: Host, directory: Directory, meta: Mapping[str, Any]) -> None:
        self.process: ProcessId | None = None
        self.known: ProcessId | None = None  # the same, where more than its files say so
        self.session = str(meta["session"])
        self.directory = directory.path
        self.cwd = str(meta["cwd"])
        self.meta = cast("Mapping[str, Any]", meta["meta"])
        self._host, self._machine = host, host.machine
        self._directory = directory
        self._watched = str(meta["log"]), str(meta["deliverables"])
        self._detached = self._stopped = False
        self._exited: AgentStatus | None = None  # the look that saw it: that stays so

    def __repr__(self) -> str:
        return f"<Agent {self.session} in {self.directory} on {self._machine.name}>"

    async def say(self, data: bytes, *, name: str | None = None) -> str:
        """Put one whole message into the agent's input, once; returns its name there.

        The same words under the same *name* are said once however often this is called. A host
        that is away, or does not answer, is waited for however long: cancel it to give up.
        Raises NameTaken, InputClosed, TransferFailed (the disk is full).
        """
        name = next_name() if name is None else check_name(name)
        await self._say(name, data)
        return name

    async def _say(self, name: str, data: bytes) -> None:
        fence, here = self._directory.fence, self._machine.is_local and len(data) <= SMALL
        if here and say_here(self.directory, self.session, name, data, fence):
            return
        args = self.session, name, str(len(data)), secrets.token_hex(8)
        await self._directory.run("say", *args, data=data)

    async def end_input(self) -> None:
        """End the agent's input behind what was said, waiting as `say` does. Twice is fine.

        Raises InputClosed.
        """
        await self._say(END, b"")

    async def queue(
        self, name: str, text: str, *, attachments: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        """Keep *text* for whoever owns this session to say as *name*, when the agent can hear it.

        It lies in the session directory meanwhile, so it outlives us. Said once, however often it
        is kept under one name. Waits as `say` does. Raises InputClosed, TransferFailed.
        *attachments* go with it, as they are dumped.
        """
        more = {"attachments": list(attachments)} if attachments else {}
        await self._queue(name, text=text, **more)

    async def queue_settings(self, name: str, settings: Mapping[str, str | bool]) -> None:
        """Keep what the owner is to set of the agent, behind what waits to be said, likewise."""
        await self._queue(name, set=dict(settings))

    async def _queue(self, name: str, **what: object) -> None:
        line = json.dumps({"name": check_name(name), **what})
        # a line that was cut short, by a full disk or a death, spoils none behind it
        data = f"\n{line}\n".encode()
        args = self.session, str(len(data)), secrets.token_hex(8)
        await self._directory.run("queue", *args, data=data)

    def follow_queue(self) -> AbstractAsyncContextManager[Batches]:
        """What was kept by `queue`, a JSON object a line, from the first one on."""
        return self._follow("queue", None, 64 << 20)

    async def names_said(self) -> frozenset[str]:
        """The names of all messages that were ever put into its input."""
        return frozenset((await self.query("names", "in", "said")).decode().split())

    async def answer(self, request: str, data: bytes, *, by: str, reason: str = "") -> FirstAnswer:
        """Say *data* as the one answer to *request*, unless somebody did before.

        With it is kept a *reason* that it cannot tell, for whoever asks for `reasons`. Waits as
        `say` does. Raises InputClosed, TransferFailed.
        """
        whole, name = GivenAnswer(by, data, reason).dump(), request_name(request)
        fence, here = self._directory.fence, self._machine.is_local and len(whole) <= SMALL
        if here and answer_here(self.directory, self.session, name, whole, data, fence):
            return FirstAnswer(True, by, data)
        args = self.session, name, str(len(whole)), secrets.token_hex(8)
        said = await self._directory.run("answer", *args, data=whole)
        outcome, _, rest = said.partition(b"\n")
        given = GivenAnswer.load(rest)
        # an unsure answer that was repeated meets itself
        won = outcome == b"won" or given == GivenAnswer(by, data, reason)
        return FirstAnswer(won, given.by, given.data)

    async def find_answer(self, request: str) -> GivenAnswer | None:
        """The answer to *request*, or its front; None if nobody gave one."""
        said = await self.query("answers", request_name(request))
        return GivenAnswer.load(said) if said else None

    async def reasons(self) -> Mapping[str, GivenAnswer]:
        """The answers that came with a reason, without what was said, by `request_name`."""
        found = {}
        for line in (await self.query("reasons")).splitlines():
            name, _, header = line.partition(b" ")
            found[name.decode(errors="replace")] = GivenAnswer.load(header)
        return found

    async def names_answered(self) -> Callable[[str], bool]:
        """Whether a request is among those that were answered, by its name."""
        names = frozenset((await self.query("names", "answers")).decode().split())
        return lambda request: request_name(request) in names

    async def query(self, names: str, *args: str) -> bytes:
        """What scripts of ours, which change nothing, say of the session directory."""
        return await self._directory.run(names, self.session, *args)

    async def status(self) -> AgentStatus:
        """One look, as soon as the host can be reached. Raises FileRefused, WorkDirRefused."""
        return await retrying(self._machine, self._status_once)

    async def _status_once(self, *, whole: bool = True) -> AgentStatus:
        """*whole*: with what its disk has to say, which takes a dozen processes there."""
        watched = self._watched if whole else ("", "")
        args = *watched, self.session, str(self.process or "")
        said = await self._directory.run_once("state status", *args)
        try:
            status = parse_status(said.decode(errors="replace"))
        except (KeyError, ValueError) as error:
            raise AgentError(f"{self.directory} was damaged: {error}") from error
        if status.state == "exited":
            self._exited = status
        return status

    async def end(self) -> AgentEnd | None:
        """How it ended; None while it runs. As soon as the host can be reached, where needed."""
        if self._exited is not None:
            return self._exited.end()
        return (await retrying(self._machine, partial(self._status_once, whole=False))).end()

    async def wait(self) -> AgentEnd:
        """Until the agent has ended, through any number of lost links, however long."""
        look = self.process is None  # whose end could not be seen otherwise
        while True:
            if look and (end := await self.end()):
                return end
            look = True
            unheard = _LOOKING if self.process is None else float("inf")
            with anyio.move_on_after(unheard):
                async with self._host.follow(
                    f"{self.directory}/exit", process=self.process
                ) as batches:
                    async for _ in batches:
                        if end := await self.end():
                            return end

    async def signal(self, name: str) -> None:
        """Send a signal, as "INT", to the agent's process group.

        Raises InputClosed when it has ended. Not repeated: HostLost says that nobody knows,
        CommandTimedOut (after 30 s with a link) likewise; ConnectError, that it was not sent.
        """
        if f"SIG{name}" not in signals.Signals.__members__:
            raise ValueError(f"{name!r} is no signal")
        args = self.session, name, str(self.process or "")
        await self._directory.run_once("state signal", *args)

    async def stop(self, *, grace: float = 5.0) -> StopReport:
        """End the agent and all that it started; *grace* (s) is what TERM gives it.

        Raises HostError when the host cannot be reached.
        """
        return await over_a_cut(lambda: self._stop(grace))

    async def _stop(self, grace: float) -> StopReport:
        launcher = None
        try:
            status = self._exited or await self._status_once(whole=False)
            self.process, launcher = self.process or status.process, status.launcher
        except AlreadyOwned:
            raise
        except (AgentError, FileRefused, CommandTimedOut) as error:
            # it may have spoilt its session
            _log.warning("stopping %s by its tag alone: %s", self.session, error)
        roots = [_root(self.known)] if self.known else []
        named = (self.process, launcher) if not roots else (launcher,)  # by files of the agent's
        roots += [f"?{_root(found)}" for found in named if found]
        anchor = _root(launcher) if launcher else "-"
        args = [f"OPTIO_SESSION={self.session}", f"{grace:g}", anchor, *roots]
        async with self._machine.shell(script("hosts/stop"), args) as process:
            answer = await collect(process)
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

    def _follow(
        self, name: str, cursor: Cursor | None, limit: int
    ) -> AbstractAsyncContextManager[Batches]:
        path = posixpath.join(self.directory, name)
        return self._host.follow(path, cursor, journal=True, limit=limit, process=self.process)

    async def last_stderr(self) -> str:
        """The end of its standard error, as far as it can be decoded. Waits as `say` does."""
        return (await self.query("tail")).decode(errors="replace")

    @asynccontextmanager
    async def own(
        self, owner: str, *, journal: str, take_over: bool = False
    ) -> AsyncIterator[Lease]:
        """Be the one who dispatches for this session while the block lasts.

        The same *journal* reclaims at once, another after 60 s of silence or with *take_over*.
        From then on all that is asked of this agent here raises AlreadyOwned as soon as another
        owns it. Raises AlreadyOwned, which names the other.
        """
        apart = Directory(self._machine, self.directory)  # what it says names the other
        holding = lease(apart, self.session, owner, journal, take_over=take_over)
        async with holding as held:
            self._directory.fence = held.successor
            yield held

    async def leave(self) -> None:
        """Stop what was not detached, shielded and bounded; logged where that cannot be done."""
        if self._stopped:
            return
        if self._detached:
            _log.info("%s runs on; %s", self.session, self._way_back)
            return
        with anyio.CancelScope(shield=True):
            try:
                with anyio.fail_after(_STOPPING):
                    report = await self.stop()
            except AlreadyOwned:
                _log.info("%s runs on: another supervisor has it", self.session)
            except (OptioAgentsError, OSError) as error:
                _log.warning("%s may run on (%s); %s", self.session, error, self._way_back)
            else:
                if not report.empty:
                    _log.warning("%s: still running: %s", self.session, "; ".join(report.survivors))

    @property
    def _way_back(self) -> str:
        again = f"agents.adopt(host, session_dir={self.directory!r})"
        return f"{again} on {self._machine.name} finds it again"


def _root(process: ProcessId) -> str:
    return f"{process.pid}:{process.start}"
