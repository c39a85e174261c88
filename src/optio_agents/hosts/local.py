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

from optio_agents.errors import CommandTimedOut, HostError

from . import environment
from .bootstrap import LOADER, RUN, new_mark, packed, payload, script
from .collect import collected
from .link import LinkStatus
from .machine import Answer
from .streams import Incoming

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from optio_agents.following.batches import Batches, FollowOptions
    from optio_agents.following.cursor import Cursor

_log = logging.getLogger(__name__)
_CHUNK = 262_144
_GRACE = 2.0  # seconds between TERM and KILL for what a script leaves behind
_STOPPING = 15.0  # seconds that stopping a tree may take in all
_WIDE = 1 << 20  # bytes that a pipe of a bulk script holds


class LocalMachine:
    """Here: scripts run as children of this process, in sessions of their own."""

    name = "local"
    is_local = True

    def __init__(self) -> None:
        self.link = LinkStatus()
        self._environment: Mapping[str, str] | None = None

    async def connect(self) -> None:
        self.link.become("up")

    async def close(self) -> None:
        self.link.become("closed")

    @asynccontextmanager
    async def shell(
        self,
        script: str,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        bulk: bool = False,
    ) -> AsyncIterator[LocalProcess]:
        run = new_mark()
        text = payload(script, args, env={RUN: run, **(env or {})})
        process = LocalProcess(_spawn(bulk=bulk))
        whole = False
        try:
            with suppress(BrokenPipeError):  # it ended before it read all: its exit code tells
                await process.write(packed(text))
            yield process
            whole = process.poll() is not None
        finally:
            with anyio.CancelScope(shield=True):
                if not whole and not process.silent():
                    await self._stop_tree(run, process)
                process.close()

    async def ask(
        self, script: str, args: Sequence[str] = (), *, data: bytes = b"", seconds: float = 30.0
    ) -> Answer:
        try:
            with anyio.fail_after(seconds):
                async with self.shell(script, args) as process:
                    return await collected(process, data)
        except TimeoutError:
            raise CommandTimedOut(f"no answer within {seconds:g} s") from None

    @asynccontextmanager
    async def follow(
        self, path: str, cursor: Cursor | None, options: FollowOptions
    ) -> AsyncIterator[Batches]:
        from .follow import follow_locally

        async with follow_locally(path, cursor, options) as batches:
            yield batches

    @asynccontextmanager
    async def tunnel(
        self, port: int, *, host: str = "127.0.0.1", local_port: int = 0
    ) -> AsyncIterator[int]:
        from .tunnel import forwarded

        async def dial() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await asyncio.open_connection(host, port)

        async with forwarded(dial, local_port) as ours:
            yield ours

    async def login_environment(self) -> Mapping[str, str]:
        if self._environment is None:
            self._environment = await environment.at_login(self)
        return self._environment

    async def _stop_tree(self, run: str, process: LocalProcess) -> None:
        """End what *process* started; logged, not raised, where that fails."""
        roots = [f"{process.pid}:{start}"] if (start := _start_of(process.pid)) else []
        args = [f"{RUN}={run}", f"{process.grace:g}", "-", *roots]
        with anyio.move_on_after(_STOPPING):
            try:
                async with self.shell(script("stop"), args) as stopping:
                    left = await collected(stopping)
                if left.exit_code:
                    _log.warning("still running: %s", left.stdout.decode(errors="replace"))
            except (HostError, OSError):
                _log.warning("could not stop a script's tree", exc_info=True)
        if process.poll() is None:  # no /proc here, or no way to start a shell
            process.kill_group()
            with anyio.move_on_after(_GRACE):
                await process.wait()


class LocalProcess:
    """A child's pipes, driven by the loop's own readiness callbacks: no thread, no task."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdin
        assert child.stdout
        assert child.stderr
        self.pid, self.grace = child.pid, _GRACE
        self._child, self._stdin = child, child.stdin.fileno()
        os.set_blocking(self._stdin, False)
        loop = asyncio.get_running_loop()
        self._out = _Pipe(loop, child.stdout.fileno())
        self._err = _Pipe(loop, child.stderr.fileno())
        self._ended = _pidfd(child.pid)

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._check_input()
            try:
                view = view[os.write(self._stdin, view) :]
            except BlockingIOError:
                await anyio.wait_writable(self._stdin)
        await anyio.lowlevel.checkpoint()

    def _check_input(self) -> None:
        if self._stdin < 0:
            raise BrokenPipeError("its input is closed")

    async def close_input(self) -> None:
        self._close_input()

    def _close_input(self) -> None:
        if self._stdin >= 0:
            anyio.notify_closing(self._stdin)
            self._stdin = -1
            assert self._child.stdin
            self._child.stdin.close()

    async def read(self, limit: int = _CHUNK) -> bytes:
        return await self._out.incoming.read(limit)

    async def read_error(self, limit: int = _CHUNK) -> bytes:
        return await self._err.incoming.read(limit)

    async def wait(self) -> int:
        while (code := self.poll()) is None:
            if self._ended is None:  # no pidfd: macOS
                await anyio.to_thread.run_sync(self._child.wait, abandon_on_cancel=True)
            else:
                await anyio.wait_readable(self._ended)
        return code

    def poll(self) -> int | None:
        code = self._child.poll()
        return code if code is None or code >= 0 else 128 - code

    def silent(self) -> bool:
        """It ended, and nobody holds its pipes: no child of it can be left."""
        return self.poll() is not None and self._out.incoming.ended and self._err.incoming.ended

    def kill_group(self) -> None:
        for signal in SIGTERM, SIGKILL:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal)

    def close(self) -> None:
        self._close_input()
        self._out.close()
        self._err.close()
        if self._ended is not None:
            anyio.notify_closing(self._ended)
            os.close(self._ended)
            self._ended = None
        for pipe in self._child.stdout, self._child.stderr:
            assert pipe
            pipe.close()


class _Pipe:
    """Feeds what a child says to its reader; stops listening while too much lies unread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._loop, self._fd = loop, fd
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
            data = os.read(self._fd, _CHUNK)
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


def _spawn(*, bulk: bool) -> subprocess.Popen[bytes]:
    try:
        child = subprocess.Popen(
            ["/bin/sh", "-c", LOADER],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise HostError(f"local: no shell could be started: {error.strerror}") from error
    if bulk and hasattr(fcntl, "F_SETPIPE_SZ"):
        for pipe in child.stdin, child.stdout:
            with suppress(OSError):  # the user's share of wide pipes is used up
                assert pipe
                fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _WIDE)
    return child


def _pidfd(pid: int) -> int | None:
    """Readable once *pid* has ended; None where there is no such thing."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return None
        raise


def _start_of(pid: int) -> str:
    """When *pid* started, in clock ticks after boot; nothing where nobody can tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19]
    except (OSError, IndexError):
        return ""
