"""A script that runs here."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import subprocess
from contextlib import suppress
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread

from optio_agents.errors import HostError

from .bootstrap import LOADER
from .streams import Incoming

if TYPE_CHECKING:
    from collections.abc import Callable

GRACE = 2.0  # seconds between TERM and KILL for what is left of its tree
_CHUNK = 262_144
_WIDE = 1 << 20  # bytes that a pipe of a bulk script holds


class LocalProcess:
    """A child's pipes, driven by the loop's own readiness callbacks: no thread, no task."""

    def __init__(self, *, bulk: bool) -> None:
        child = _spawned()
        assert child.stdin
        assert child.stdout
        assert child.stderr
        self.pid, self.grace = child.pid, GRACE
        self._child, self._stdin = child, child.stdin.fileno()
        os.set_blocking(self._stdin, False)
        if bulk:
            _widen(self._stdin, child.stdout.fileno())
        self._out, self._err = _Pipe(child.stdout.fileno()), _Pipe(child.stderr.fileno())
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
                await self._writable()
        await anyio.lowlevel.checkpoint()

    async def _writable(self) -> None:
        try:
            await anyio.wait_writable(self._stdin)
        except anyio.ClosedResourceError:
            raise BrokenPipeError("its input was closed") from None

    async def close_input(self) -> None:
        if self._stdin >= 0:
            anyio.notify_closing(self._stdin)
            self._stdin = -1
            assert self._child.stdin
            self._child.stdin.close()

    async def read(self, limit: int = _CHUNK) -> bytes:
        return await self._out.incoming.read(limit)

    async def read_pieces(self, limit: int = _CHUNK) -> list[bytes]:
        return await self._out.incoming.pieces(limit)

    def divert(self, sink: Callable[[bytes], None]) -> None:
        self._out.incoming.divert(sink)

    async def read_error(self, limit: int = _CHUNK) -> bytes:
        return await self._err.incoming.read(limit)

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


def _spawned() -> subprocess.Popen[bytes]:
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
