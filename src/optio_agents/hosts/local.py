"""This machine."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import subprocess
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread

from optio_agents.concurrency import name_library
from optio_agents.errors import CommandTimedOut, HostError
from optio_agents.hosts import environment

from .machine import GRACE, STOPPING, LinkStatus
from .scripting import LOADER, RUN, collect, new_mark, payload, script
from .streams import CHUNK, Incoming
from .tunnel import forwarding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from optio_agents.framing.batches import Batches, FollowOptions
    from optio_agents.framing.cursor import Cursor

    from .machine import Answer


# A script that runs here.


_WIDE = 1 << 20  # bytes that a pipe of a bulk script holds


class LocalProcess:
    """A child's pipes, driven by the loop's own readiness callbacks: no thread, no task."""

    def __init__(self, *, bulk: bool) -> None:
        child = _spawn()
        assert child.stdin
        assert child.stdout
        assert child.stderr
        self.pid, self.grace = child.pid, GRACE
        self._child, self._stdin = child, child.stdin.fileno()
        os.set_blocking(self._stdin, False)
        if bulk:
            _widen(self._stdin, child.stdout.fileno())
        self._out, self._err = _Pipe(child.stdout.fileno()), _Pipe(child.stderr.fileno())
        out, self.read_error = self._out.incoming, self._err.incoming.read
        self.read, self.read_pieces, self.divert = out.read, out.pieces, out.divert
        self._ended = anyio.Event()
        self._pidfd = _pidfd(child.pid)
        if self._pidfd >= 0:
            asyncio.get_running_loop().add_reader(self._pidfd, self._end)

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._stdin < 0:
                raise BrokenPipeError("its input is closed")
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                try:
                    await anyio.wait_writable(self._stdin)
                except anyio.ClosedResourceError:
                    raise BrokenPipeError("its input was closed") from None
        await anyio.lowlevel.checkpoint()

    async def close_input(self) -> None:
        if self._stdin >= 0:
            anyio.notify_closing(self._stdin)
            self._stdin = -1
            assert self._child.stdin
            self._child.stdin.close()

    async def wait(self) -> int:
        if self._pidfd < 0 and self.poll() is None:  # macOS
            await anyio.to_thread.run_sync(self._child.wait, abandon_on_cancel=True)
        while (code := self.poll()) is None:
            await self._ended.wait()
        return code

    def poll(self) -> int | None:
        code = self._child.poll()
        return code if code is None or code >= 0 else 128 - code

    def silent(self) -> bool:
        """It ended, and nobody holds its pipes: what it leaves behind was sent off on purpose."""
        return self.poll() is not None and self._out.incoming.ended and self._err.incoming.ended

    def kill_group(self) -> None:
        for signal in SIGTERM, SIGKILL:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal)

    async def close(self) -> None:
        await self.close_input()
        self._out.close()
        self._err.close()
        self._end()
        for pipe in self._child.stdout, self._child.stderr:
            assert pipe
            pipe.close()

    def _end(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        self._ended.set()

    @property
    def start(self) -> str:
        """When it started, in clock ticks after boot; nothing where nobody can tell."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()[19]
        except (OSError, IndexError):
            return ""


class _Pipe:
    """Feeds what a child says to its reader; stops listening while too much lies unread."""

    def __init__(self, fd: int) -> None:
        self._loop, self._fd = asyncio.get_running_loop(), fd
        os.set_blocking(fd, False)
        self.incoming = Incoming(self._pause, self._resume)
        self._resume()

    def _resume(self) -> None:
        if self._fd >= 0 and not self.incoming.ended:
            self._loop.add_reader(self._fd, self._readable)

    def _pause(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return
        if data:
            self.incoming.feed(data)
        else:
            self._pause()
            self.incoming.end()

    def close(self) -> None:
        self._pause()
        self._fd = -1
        self.incoming.end()


def _spawn() -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", LOADER],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise HostError(f"local: no shell could be started: {error.strerror}") from error


def _widen(*pipes: int) -> None:
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        for pipe in pipes:
            with suppress(OSError):  # the user's share of wide pipes is used up
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _WIDE)


def _pidfd(pid: int) -> int:
    """Readable once *pid* has ended; -1 where there is no such thing, or no descriptor left."""
    if not hasattr(os, "pidfd_open"):
        return -1
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EMFILE, errno.ENFILE, errno.EPERM}:
            return -1
        raise


_log = logging.getLogger(__name__)
_REAPING = 2.0  # seconds


class LocalMachine:
    """Here: scripts run as children of this process, in sessions of their own."""

    name = "local"
    is_local = True

    def __init__(self) -> None:
        self.link = LinkStatus()
        self._environment: Mapping[str, str] | None = None
        self._running: dict[str, LocalProcess] = {}

    async def connect(self) -> None:
        name_library()
        self.link.become("up")

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for run, process in self._running.items():
                    if not process.silent():
                        tasks.start_soon(self._stop_tree, run, process)
        self.link.become("closed")

    @asynccontextmanager
    async def shell(
        self,
        script: str,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        bulk: bool = False,
        stops: bool = True,  # what is left of its tree; but for what stops one
    ) -> AsyncIterator[LocalProcess]:
        run = new_mark()
        text = payload(script, args, env={**(env or {}), RUN: run})
        self._running[run] = process = LocalProcess(bulk=bulk)
        whole = False
        try:
            with suppress(BrokenPipeError):  # it ended before it read all: its exit code tells
                await process.write(text)
            yield process
            whole = process.poll() is not None
        finally:
            with anyio.CancelScope(shield=True):
                try:
                    if stops and not whole and not process.silent():
                        await self._stop_tree(run, process)
                finally:  # also when the task is cancelled natively, which no shield keeps off
                    await process.close()
            del self._running[run]

    async def ask(
        self, script: str, args: Sequence[str] = (), *, data: bytes = b"", seconds: float = 30.0
    ) -> Answer:
        with anyio.move_on_after(seconds):
            async with self.shell(script, args) as process:
                return await collect(process, data)
        raise CommandTimedOut(f"no answer within {seconds:g} s")

    def follow(
        self, path: str, cursor: Cursor | None, options: FollowOptions
    ) -> AbstractAsyncContextManager[Batches]:
        from optio_agents.hosts.following.local import follow_locally

        return follow_locally(path, cursor, options)

    def tunnel(
        self, port: int, *, host: str = "127.0.0.1", local_port: int = 0
    ) -> AbstractAsyncContextManager[int]:
        return forwarding(lambda: asyncio.open_connection(host, port), local_port)

    async def login_environment(self) -> Mapping[str, str]:
        if self._environment is None:
            self._environment = await environment.read_login(self)
        return self._environment

    async def _stop_tree(self, run: str, process: LocalProcess) -> None:
        """End what *process* started; logged, not raised, where that fails."""
        roots = [f"{process.pid}:{start}"] if (start := process.start) else []
        args = [f"{RUN}={run}", f"{process.grace:g}", "-", *roots]
        with anyio.move_on_after(STOPPING + process.grace):
            try:
                async with self.shell(script("hosts/stop"), args, stops=False) as stopping:
                    left = await collect(stopping)
                if left.exit_code:
                    _log.warning("still running: %r", left.stdout)
            except (HostError, OSError):
                _log.warning("could not stop a script's tree", exc_info=True)
        if process.poll() is None:  # no /proc here, or no way to start a shell
            process.kill_group()
            with anyio.move_on_after(_REAPING):
                await process.wait()
