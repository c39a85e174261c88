"""A host behind SSH, as all machines share it that log in there alike."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import anyio
import asyncssh

from optio_agents.display import visible
from optio_agents.errors import CommandTimedOut, HostError, HostLost, ServerSilent
from optio_agents.hosts import environment
from optio_agents.hosts.machine import GRACE, STOPPING, Answer, LinkStatus
from optio_agents.hosts.scripting import (
    COMMAND,
    LONGEST,
    RUN,
    collect,
    new_mark,
    payload,
    script,
)
from optio_agents.hosts.ssh import pool as ssh_pool
from optio_agents.hosts.tunnel import forwarding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from optio_agents.framing.batches import Batches, FollowOptions
    from optio_agents.framing.cursor import Cursor
    from optio_agents.hosts.following.remote import RemoteFollows
    from optio_agents.hosts.tunnel import Reader, Writer

    from .config import SSHConfig
    from .process import SshProcess


# Shells that stay on the far side, so that a small question costs one round trip.


_NO_EXACT_DD = 3  # how it ends where it cannot work
_SHELLS = 3  # of one machine: a slow answer, or a long way, does not hold up the next question
_GROW = 0.02  # seconds that a question waits for a shell before another one is started
_BUSY = 0.25  # seconds that it waits when there are enough, before it takes a channel of its own,
_TURNS = 4.0  # or so many times what an answer usually takes


class WarmShells:
    """Answers scripts; each shell one after the other. Started by the first that needs it."""

    def __init__(self, machine: SshRemote) -> None:
        self._machine = machine
        self._idle: list[_Shell] = []
        self._made = 0
        self._freed = anyio.Event()
        self._usual = 0.0  # seconds, a moving average
        self._unfit = False  # no exact dd there

    async def ask(self, text: str, args: Sequence[str], data: bytes) -> Answer:
        shell: _Shell | None = None
        if not self._unfit:
            shell = await self._next_idle(_GROW if self._made else 0)
            if shell is None and self._made < _SHELLS:
                self._made += 1
                shell = _Shell(self._machine)
            shell = shell or await self._next_idle(max(_BUSY, _TURNS * self._usual))
        if shell is not None:
            began = anyio.current_time()
            try:
                answer = await shell.ask(text, args, data)
                self._usual += (anyio.current_time() - began - self._usual) / 5
                return answer
            except _Unfit:
                self._unfit = True
            finally:
                self._idle.append(shell)
                freed, self._freed = self._freed, anyio.Event()
                freed.set()
        async with self._machine.shell(text, args) as process:
            return await collect(process, data)

    async def _next_idle(self, seconds: float) -> _Shell | None:
        with anyio.move_on_after(seconds):
            while not self._idle:
                await self._freed.wait()
            return self._idle.pop()
        return None


class _Shell:
    """One of them, for one question at a time; another takes its place after a failure."""

    def __init__(self, machine: SshRemote) -> None:
        self._machine = machine
        self._running = AsyncExitStack()
        self._process: SshProcess | None = None

    async def ask(self, text: str, args: Sequence[str], data: bytes) -> Answer:
        done = False
        try:
            if self._process and self._process.lost:  # nothing was said to it: nothing is unknown
                await self._discard()
            if self._process is None:
                warm = self._machine.shell(script("hosts/warm"))
                self._process = await self._running.enter_async_context(warm)
            process = self._process
            mark = new_mark()
            length, _, rest = payload(text, args).partition(b"\n")
            head = b"%s %s %d\n" % (mark.encode(), length, len(data))
            try:
                await process.write(head + rest + data)
                stdout, code = await _until(process.read, mark)
                stderr, _ = await _until(process.read_error, mark)
            except (BrokenPipeError, EOFError):
                end = await process.wait()
                if end == _NO_EXACT_DD:
                    raise _Unfit from None
                raise HostLost(f"the shell on {self._machine.name} ended with {end}") from None
            done = True
            return Answer(int(code), stdout, stderr)
        finally:
            if not done:
                with anyio.CancelScope(shield=True):
                    await self._discard()

    async def _discard(self) -> None:
        """Whatever it was at ends; the next question gets another shell."""
        self._process = None
        await self._running.aclose()


class _Unfit(Exception):
    """It said so before it read anything."""


async def _until(read: Callable[[], Awaitable[bytes]], mark: str) -> tuple[bytes, bytes]:
    """What stands before the line of *mark*, and the rest of that line."""
    said, line = bytearray(), f"\n{mark}".encode()
    while True:
        at = said.rfind(line)
        if at >= 0 and said.endswith(b"\n") and len(said) > at + len(line):
            return bytes(said[:at]), bytes(said[at + len(line) : -1])
        if len(said) > LONGEST:
            raise HostError(f"an answer is longer than {LONGEST} bytes")
        data = await read()
        if not data:
            raise EOFError
        said += data


_log = logging.getLogger(__name__)
_WINDOW, _WIDE = 2 << 20, 12 << 20  # bytes on their way to us; as many may lie here unread
_STARTING = 2.0  # seconds for that to begin, besides what a shell takes there: or the link is dead
_OBEYING = 0.2  # seconds for scripts to end because their input does
_DIALLING = 30.0  # seconds for the far end of a tunnel

_remotes: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[SSHConfig, SshRemote]]
_remotes = WeakKeyDictionary()


def join(config: SSHConfig, link: LinkStatus) -> SshRemote:
    """What this loop shares for *config*; `leave` it in the end."""
    here = _remotes.setdefault(asyncio.get_running_loop(), {})
    remote = here.get(config) or here.setdefault(config, SshRemote(config))
    remote.users += 1
    remote.pool.links.append(link)
    if remote.pool.state != "new":
        link.become(remote.pool.state, remote.pool.reason)
    return remote


class SshRemote:
    """The machine itself: what `SshMachine` hands on to."""

    is_local = False

    def __init__(self, config: SSHConfig) -> None:
        self.users = 0
        self.pool = ssh_pool.join(config)
        self.link = LinkStatus(self.pool.retry_now)
        self.pool.links.append(self.link)
        self._config = config
        self._warm = WarmShells(self)
        self._follows: RemoteFollows | None = None  # one helper for all that is followed there
        self._environment: Mapping[str, str] | None = None
        self._running: dict[str, SshProcess] = {}
        self._start_seconds = 0.0  # the longest that a shell took to begin
        self._sweeping = False
        self._orphans: list[tuple[str, str]] = []  # trees that a broken link left running

    @property
    def name(self) -> str:
        return self.pool.name

    async def leave(self, link: LinkStatus) -> None:
        """Whoever leaves last ends the scripts and closes the connections."""
        self.pool.links.remove(link)
        self.users -= 1
        if self.users:
            return
        here = _remotes.get(asyncio.get_running_loop(), {})
        if here.get(self._config) is self:
            del here[self._config]
        await self.close()

    async def connect(self) -> None:
        await self.pool.connection(patient=True)
        await self._end_orphans()

    async def close(self) -> None:
        self.link.become("closed")  # whoever would begin again sees that it is over
        with anyio.CancelScope(shield=True):
            running = dict(self._running)
            for process in running.values():
                await process.close_input()  # our own helpers end at that
            with anyio.move_on_after(_OBEYING):
                for process in running.values():
                    await process.wait_closed()
            async with anyio.create_task_group() as tasks:
                for run, process in running.items():
                    if not process.silent():
                        tasks.start_soon(self._stop_tree, run, process)
            if self._orphans:
                _log.warning("%s: scripts that may still run: %d", self.name, len(self._orphans))
            self.pool.links.remove(self.link)
            await self.pool.leave()  # which somebody may have joined again meanwhile

    @asynccontextmanager
    async def shell(
        self,
        script: str,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        bulk: bool = False,
        stops: bool = True,  # what is left of its tree; but for what stops one
    ) -> AsyncIterator[SshProcess]:
        run, mark = new_mark(), new_mark()
        text = payload(script, args, env={**(env or {}), RUN: run}, mark=mark)
        if self._orphans:
            await self._end_orphans()
        window = _WIDE if bulk else _WINDOW
        process = await self.pool.run(COMMAND, mark, window=window)
        self._running[run] = process
        whole = False
        try:
            await self._begin(process, text)
            yield process
            whole = process.poll() is not None
        finally:
            with anyio.CancelScope(shield=True):
                if stops and not whole and not process.silent():
                    await self._stop_tree(run, process)
                process.close()
            del self._running[run]

    async def _begin(self, process: SshProcess, text: bytes) -> None:
        began = anyio.current_time()
        try:
            with anyio.fail_after(self._config.shell_timeout):
                with suppress(BrokenPipeError):  # it ended before it read all: that tells why
                    await process.write(text)
                await process.wait_started()
                self._start_seconds = max(self._start_seconds, anyio.current_time() - began)
        except TimeoutError:
            raise ServerSilent(
                f"the login shell on {self.name} ran no script within "
                f"{self._config.shell_timeout:g} s: what does its profile wait for?"
            ) from None

    async def ask(
        self, script: str, args: Sequence[str] = (), *, data: bytes = b"", seconds: float = 30.0
    ) -> Answer:
        await self.pool.connection()  # which has bounds of its own: no time without a link
        try:
            with anyio.fail_after(seconds):
                if self._orphans:
                    await self._end_orphans()
                return await self._warm.ask(script, args, data)
        except TimeoutError:
            raise CommandTimedOut(f"no answer from {self.name} within {seconds:g} s") from None

    def follow(
        self, path: str, cursor: Cursor | None, options: FollowOptions
    ) -> AbstractAsyncContextManager[Batches]:
        from optio_agents.hosts.following.remote import RemoteFollows

        if self._follows is None:
            self._follows = RemoteFollows(self)
        return self._follows.follow(path, cursor, options)

    async def login_environment(self) -> Mapping[str, str]:
        if self._environment is None:
            self._environment = await environment.read_login(self)
        return self._environment

    def tunnel(
        self, port: int, *, host: str = "127.0.0.1", local_port: int = 0
    ) -> AbstractAsyncContextManager[int]:
        async def dial() -> tuple[Reader, Writer]:
            connection = await self.pool.connection()
            try:
                with anyio.fail_after(_DIALLING):
                    return await connection.ssh.open_connection(host, port, encoding=None)
            except (asyncssh.Error, OSError) as error:
                said = visible(str(error))
                raise HostError(f"{self.name} does not reach {host}:{port}: {said}") from error

        return forwarding(dial, local_port)

    async def _stop_tree(self, run: str, process: SshProcess) -> None:
        """End what *process* started; logged, not raised, where that fails."""
        if not process.pid:  # given up on its way: it begins all the same, if it can
            with suppress(HostError), anyio.move_on_after(self._start_seconds + _STARTING):
                await process.wait_started()
        if not process.pid and not process.lost:
            return
        root = f"{process.pid}:{process.start}"
        if process.lost:
            self._orphans.append((run, root))
            return
        args = [f"{RUN}={run}", f"{process.grace:g}", "-", root]
        left = None
        with suppress(HostError), anyio.move_on_after(self._start_seconds + _STARTING) as patience:
            async with self.shell(script("hosts/stop"), args, stops=False) as stopping:
                patience.deadline = anyio.current_time() + process.grace + STOPPING
                left = await collect(stopping)
        if left is None:
            self._orphans.append((run, root))
        elif left.exit_code:
            _log.warning("%s: still running: %r", self.name, left.stdout)

    async def _end_orphans(self) -> None:
        """End, in the background there, what was running when a link broke."""
        if not self._orphans or self._sweeping:
            return
        self._sweeping = True
        try:
            await self.pool.connection()
            while self._orphans:
                run, root = self._orphans[0]
                # A shell of its own: it needs its own $$, and outlives the one that we ask.
                end = new_mark()
                text = f"sh -s -- \"$@\" <<'{end}' >/dev/null 2>&1 &\n{script('hosts/stop')}\n{end}"
                # not by the warm shell: it may be the one that is just being started
                async with self.shell(text, [f"{RUN}={run}", f"{GRACE:g}", "-", root]) as sweep:
                    await collect(sweep)
                del self._orphans[0]
        finally:
            self._sweeping = False
