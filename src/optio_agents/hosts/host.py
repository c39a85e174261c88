"""A host: everything that may be asked of a machine that agents run on."""

from __future__ import annotations

import logging
import posixpath
from contextlib import AsyncExitStack, asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from optio_agents.errors import FileRefused, OptioAgentsError, WorkDirRefused
from optio_agents.framing.batches import LINE_LIMIT, FollowOptions
from optio_agents.hosts import commands
from optio_agents.hosts.files.archive import archive, restore
from optio_agents.hosts.files.confined import open_confined

from .files.fetch import fetch
from .files.progress import as_percent
from .files.put import put
from .local import LocalMachine
from .scripting import LEAVES, refusal, script
from .ssh import SSHConfig, SshMachine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import BinaryIO, Self

    from optio_agents.framing.batches import Batches, ProcessIdentity
    from optio_agents.framing.cursor import Cursor
    from optio_agents.hosts.files.confined import Confined

    from .commands import ProcessHandle, RunResult
    from .files.fetch import FetchedFile
    from .files.progress import PercentCallback, Progress
    from .files.put import Put, Readable
    from .machine import Answer, Machine, ProcessId


_log = logging.getLogger(__name__)
EMPTYING = 600.0  # seconds that removing what a directory holds may take


class Host:
    """A machine with a task directory on it. All paths are paths on that machine.

    A path that is not absolute is taken from the work directory, `~/…` from the user's home.
    """

    def __init__(
        self,
        machine: Machine,
        taskdir: str,
        *,
        workdir: str | None = None,
        logdir: str | None = None,
    ) -> None:
        """*workdir* is a directory of the user's; without one we make `taskdir/workdir`.

        `logdir`, which holds `optio.log` and `deliverables/`, is the work directory of ours, or a
        directory of its own in the user's, so that this takes any number of task directories.
        Sessions that were started up to version 0.3.2 have another *logdir*.
        """
        if not isinstance(taskdir, str):
            raise TypeError(f"a task directory is a path on the host, as text, and not {taskdir!r}")
        self.machine = machine
        self.taskdir = taskdir.rstrip("/") or "/"
        self.workdir = workdir or posixpath.join(self.taskdir, "workdir")
        self.own_workdir = workdir is None
        name = posixpath.basename(self.taskdir) or "task"
        beside = self.workdir if workdir is None else posixpath.join(workdir, ".optio", name)
        self.logdir = logdir or beside
        self._home: str | None = None
        self._tunnels: dict[int, AsyncExitStack] = {}
        self._launched: set[ProcessHandle] = set()

    def __repr__(self) -> str:
        return f"<Host {self.machine.name} {self.taskdir}>"

    async def connect(self) -> None:
        """Be reachable, or raise the ConnectError that says why not. Twice is fine."""
        await self.machine.connect()
        self.taskdir = await self.path(self.taskdir)
        self.workdir = await self.path(self.workdir)
        self.logdir = await self.path(self.logdir)

    async def disconnect(self) -> None:
        """Let go: agents stay, launched commands and tunnels end. Twice is fine."""
        with anyio.CancelScope(shield=True):  # each of these is bounded
            for handle in list(self._launched):
                await self.terminate_subprocess(handle, aggressive=True)
            while self._tunnels:
                await self._tunnels.popitem()[1].aclose()
            await self.machine.close()

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.disconnect()  # it shares in a connection by now, and nobody leaves it
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.disconnect()

    async def path(self, path: str) -> str:
        """The absolute form of *path*, links not resolved."""
        if path == "~" or path.startswith("~/"):
            return posixpath.join(await self.resolve_host_home(), path[2:])
        return posixpath.join(self.workdir, path)

    async def resolve_host_home(self) -> str:
        """The home directory of our user there."""
        if self._home is None:
            self._home = (await self.ask('printf %s "$HOME"')).stdout.decode(
                errors="surrogateescape"
            )
        return self._home

    async def ask(self, text: str, *args: str, data: bytes = b"") -> Answer:
        """Run a short script, or one of ours by its name, in the warm shell: one round trip."""
        ours = text.endswith(".sh") and "\n" not in text
        body = script(text.removesuffix(".sh")) if ours else text
        return await self.machine.ask(body, args, data=data)

    async def run_command(
        self,
        command: str,
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the published name
    ) -> RunResult:
        """Run *command* under /bin/sh, in the work directory unless *cwd* names another.

        *env* is added to the environment, the input is empty. A non-zero exit is a result.
        Cancelling or *timeout* (s) ends its whole process tree on the host.
        Raises FileRefused when there is no such directory, CommandTimedOut, HostLost.
        """
        where = await self.path(cwd or self.workdir)
        return await commands.run_command(
            self.machine, command, cwd=where, env=env, timeout=timeout
        )

    async def launch_subprocess(
        self,
        command: str,
        *,
        env: Mapping[str, str] | None = None,
        env_remove: Sequence[str] = (),
        cwd: str | None = None,
        merge_stderr: bool = True,
        stdin: bool = False,
    ) -> ProcessHandle:
        """Start a short-lived command under /bin/sh, in the work directory unless told otherwise.

        It ends with this host at the latest; an agent that shall outlive us is started by
        `agents.start`. Raises FileRefused when there is no such directory, HostLost.
        """
        handle = await commands.launch(
            self.machine,
            command,
            cwd=await self.path(cwd or self.workdir),
            env=env,
            env_remove=env_remove,
            merge_stderr=merge_stderr,
            stdin=stdin,
        )
        self._launched = {handle, *(one for one in self._launched if not one.ended)}
        return handle

    async def terminate_subprocess(self, handle: ProcessHandle, *, aggressive: bool) -> None:
        """End a launched command and all that it started: TERM, after 5 s KILL.

        *aggressive* sends KILL at once. Twice is fine.
        """
        self._launched.discard(handle)
        await commands.terminate(handle, aggressive=aggressive)

    def follow(
        self,
        path: str,
        cursor: Cursor | None = None,
        *,
        journal: bool = False,
        limit: int = LINE_LIMIT,
        process: ProcessIdentity | None = None,
        root: str | None = None,
        delivered: bytes = b"",
        ripe: Callable[[bytes], bool] | None = None,
    ) -> AbstractAsyncContextManager[Batches]:
        """Follow a file from *cursor* on, over any number of lost links; see `FollowOptions`."""
        options = FollowOptions(journal, limit, process, root, delivered, ripe)
        return self.machine.follow(posixpath.join(self.workdir, path), cursor, options)

    async def tail_file(self, absolute_path: str) -> AsyncIterator[str]:
        """The lines of a file, from its first one on and as they come, until the caller stops.

        For callers that know it; `follow` tells offsets and resumes.
        """
        async with self.follow(await self.path(absolute_path)) as batches:
            async for batch in batches:
                for line in batch.lines:
                    yield line.decode(errors="replace").removesuffix("\r")

    async def establish_tunnel(self, remote_port: int, *, bind_addr: str = "127.0.0.1") -> int:
        """A port on our loopback that leads to *remote_port* on the host's, until disconnecting.

        It stays the same over a reconnect. On this machine it is *remote_port* itself.
        """
        if bind_addr not in {"127.0.0.1", "localhost"}:
            raise ValueError(f"a tunnel listens on 127.0.0.1 alone, not on {bind_addr}")
        if self.machine.is_local:
            return remote_port
        held = AsyncExitStack()
        port = await held.enter_async_context(self.machine.tunnel(remote_port))
        self._tunnels[port] = held
        return port

    async def remove_file(self, path: str) -> None:
        """Remove a file, or a link; fine when there is none. Raises FileRefused, HostLost."""
        where = await self.path(path)
        answer = await self.machine.ask(script("hosts/refuse", "hosts/files/remove"), [where])
        if answer.exit_code:
            raise refusal(answer, where, "remove")

    async def setup_workdir(self) -> None:
        """Make the task directory, and the work directory empty, for a clean start.

        Raises WorkDirRefused, and touches nothing, when either holds what is not ours.
        """
        await self._run("hosts/workdir-setup")

    async def write_text(self, relpath: str, content: str) -> None:
        """Write a file in the work directory, whole or not at all.

        Raises FileRefused where it would land outside, over a link of the agent's.
        """
        where = await self.path(relpath)
        if "/" in relpath and not relpath.startswith(("/", "~")):
            folder = posixpath.dirname(where)
            if (await self.ask("hosts/below.sh", self.workdir, folder)).exit_code == LEAVES:
                raise FileRefused(where, "outside", f"leads out of {self.workdir}")
        await self.put_file_to_host(content.encode(), where)

    async def put_file_to_host(
        self,
        source: Readable,
        absolute_target: str,
        *,
        expected_sha256: str | None = None,
        skip_if_unchanged: bool = False,
        progress_cb: PercentCallback | None = None,
    ) -> Put:
        """Bring a file here, bytes, or what an iterator gives, to the host, whole or not at all.

        The last of several writers wins whole. A target that exists keeps its mode, a new one
        gets the source's less the umask; missing directories are made, a link is replaced.
        Raises TransferFailed, FileRefused (a directory), HostLost: the target is either as it
        was or, after HostLost, complete.
        """
        return await put(
            self.machine,
            source,
            await self.path(absolute_target),
            expected_sha256=expected_sha256,
            skip_if_unchanged=skip_if_unchanged,
            progress=as_percent(progress_cb),
        )

    async def fetch_bytes_from_host(
        self,
        absolute_path: str,
        *,
        progress_cb: PercentCallback | None = None,
        max_bytes: int | None = None,
    ) -> bytes:
        """The content of a file of the host. Waits and raises as `fetch_file` does."""
        into = BytesIO()
        where = await self.path(absolute_path)
        await fetch(
            self.machine, where, into, max_bytes=max_bytes, progress=as_percent(progress_cb)
        )
        return into.getvalue()

    async def fetch_file(
        self,
        path: str,
        destination: str | Path | BinaryIO,
        *,
        max_bytes: int | None = None,
        progress: Progress | None = None,
        root: str | None = None,
        digest: bool = True,
    ) -> FetchedFile:
        """Bring a regular file of the host here, whole or not at all.

        With *root*, its real path must lie below that directory. *progress* is told the bytes
        done and the size, every tenth of a second. A link that breaks meanwhile is waited for,
        however long it is away (cancel to give up), and the copy goes on if the file stayed the
        same; without *digest*, the SHA-256 taken in passing, nobody could tell, and it fails.
        A host that is there, and from which nothing comes for half a minute, is given up.
        Raises FileRefused with the reason, TransferFailed, HostLost, CommandTimedOut.
        """
        target = Path(destination) if isinstance(destination, str) else destination
        return await fetch(
            self.machine,
            await self.path(path),
            target,
            max_bytes=max_bytes,
            progress=progress,
            root=await self.path(root) if root else "",
            digest=digest,
        )

    @asynccontextmanager
    async def open_confined(
        self, path: str, root: str, *, max_bytes: int | None = None
    ) -> AsyncIterator[Confined]:
        """Open a regular file whose real path lies below *root*, itself no link.

        What was checked is what is read, whatever happens to the path meanwhile.
        Raises FileRefused with the reason, HostLost.
        """
        where, top = await self.path(path), await self.path(root)
        async with open_confined(self.machine, where, top, limit=max_bytes) as file:
            yield file

    def archive_workdir(self, exclude: Sequence[str] | None = None) -> AsyncIterator[bytes]:
        """The work directory as a compressed tar stream, without what matches *exclude*.

        Of a directory of the user's only the log and the deliverables. Raises TransferFailed.
        """
        names = ["."] if self.own_workdir else ["optio.log", "deliverables"]
        return archive(self.machine, self.logdir, names, exclude or ())

    async def restore_workdir(self, stream: AsyncIterator[bytes]) -> None:
        """Have the work directory hold what *stream*, a tar stream, holds and nothing else.

        Members that would land elsewhere, devices and FIFOs are left out and logged. A stream
        that breaks off leaves the work directory as it was. Raises TransferFailed, HostLost,
        WorkDirRefused for a directory of the user's or while an agent lives.
        """
        if not self.own_workdir:
            raise WorkDirRefused(f"{self.workdir} is the user's own; nothing is unpacked over it")
        await restore(self.machine, self.taskdir, stream)

    async def cleanup_taskdir(
        self, aggressive: bool = False, *, process: ProcessId | None = None, tag: str = ""
    ) -> None:
        """Remove what `setup_workdir` and agents made there, but not what was handed over.

        *aggressive* logs what goes wrong instead of raising it. *process* is known to have been
        the agent there, and *tag* begins the name of its start, whatever lies there.
        Raises WorkDirRefused, and touches nothing, when it is not ours or an agent still lives.
        """
        try:
            await self._run("hosts/workdir-clean", str(process or ""), tag)
        except OptioAgentsError:
            if not aggressive:
                raise
            _log.warning("%s was not cleaned", self.taskdir, exc_info=True)

    async def _run(self, name: str, *known: str) -> None:
        """A script about the task directory, and the work directory in it."""
        args = [self.taskdir, "" if self.own_workdir else self.workdir, self.logdir, *known]
        text = script("hosts/refuse", "hosts/workdir", name)
        answer = await self.machine.ask(text, args, seconds=EMPTYING)
        if answer.exit_code:
            raise refusal(answer, self.taskdir, name)


class LocalHost(Host):
    """This machine."""

    def __init__(
        self, taskdir: str, *, workdir: str | None = None, logdir: str | None = None
    ) -> None:
        taskdir, workdir = _absolute(taskdir), workdir and _absolute(workdir)
        super().__init__(LocalMachine(), taskdir, workdir=workdir, logdir=logdir)


class RemoteHost(Host):
    """A machine behind SSH."""

    def __init__(
        self,
        ssh_config: SSHConfig,
        taskdir: str,
        *,
        workdir: str | None = None,
        logdir: str | None = None,
    ) -> None:
        super().__init__(SshMachine(ssh_config), taskdir, workdir=workdir, logdir=logdir)


def check_host(host: object) -> None:
    """Raises TypeError for what is no host, in a sentence."""
    if not isinstance(host, Host):
        raise TypeError(f"a host is what make_host(…) gives, and not {host!r}")


def make_host(
    ssh: SSHConfig | str | None = None,
    *,
    taskdir: str,
    workdir: str | None = None,
    logdir: str | None = None,
) -> Host:
    """The machine behind *ssh*, which may be `"me@box:2222"`, or this one.

    Agents work in *workdir*, a directory of the user's, or else in `taskdir/workdir`. For
    *logdir* see `Host`.
    """
    if ssh is None:
        return LocalHost(taskdir, workdir=workdir, logdir=logdir)
    if isinstance(ssh, str):
        ssh = SSHConfig(ssh)
    if not isinstance(ssh, SSHConfig):
        raise TypeError(f"a host is an SSHConfig, or a text like 'me@box', and not {ssh!r}")
    return RemoteHost(ssh, taskdir, workdir=workdir, logdir=logdir)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())
