"""One SSH connection, and how many of its channels are taken."""

from __future__ import annotations

import asyncio
import signal as signals
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import asyncssh

from optio_agents.display import visible
from optio_agents.errors import ConnectError, HostLost
from optio_agents.hosts.machine import GRACE
from optio_agents.hosts.streams import CHUNK, Incoming

if TYPE_CHECKING:
    from collections.abc import Callable


# A script on the far side of an SSH channel.


_NOISE = 1 << 16  # bytes of a profile's chatter that we look through at a time


class SshProcess(asyncssh.SSHClientSession[bytes]):
    """Our end of the channel: fed by asyncssh's callbacks, read by whoever uses the process."""

    def __init__(self, name: str, mark: str, connection: SshConnection) -> None:
        self.pid = 0
        self.start = "0"  # clock ticks after boot
        self.grace = GRACE
        self._name, self._connection = name, connection
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._out = _Marked(mark, self._pause, self._resume)
        self._err = _Marked(mark, self._pause, self._resume)
        out, self.read_error = self._out.incoming, self._err.incoming.read
        self.read, self.read_pieces, self.divert = out.read, out.pieces, out.divert
        self._code: int | None = None
        self.lost = ""  # why the link is gone, once it is
        self._changed = anyio.Event()
        self._writable = anyio.Event()
        self._writable.set()
        self._pauses = 0
        self._flushing = False

    async def wait_started(self) -> None:
        """Wait for the script to begin. Raises HostLost, ConnectError with the shell's words."""
        while not self._out.begun:
            if self.lost:
                raise HostLost(self.lost)
            if self._channel is None or self._out.incoming.ended:
                said = visible((self._err.noise + self._out.noise).decode(errors="replace"))
                raise ConnectError(f"{self._name}: the login shell did not run a script: {said}")
            await self._changed.wait()
        pid, start = self._out.begun.split()
        self.pid, self.start = int(pid), start.decode()

    async def write(self, data: bytes) -> None:
        for at in range(0, len(data), CHUNK):
            if self.lost:
                raise HostLost(self.lost)
            if self._channel is None:
                raise BrokenPipeError("its input is closed")
            try:
                self._channel.write(data[at : at + CHUNK])
            except OSError:
                raise BrokenPipeError("its input is closed") from None
            await self._writable.wait()
        if self.lost:
            raise HostLost(self.lost)
        await anyio.lowlevel.checkpoint()

    async def close_input(self) -> None:
        if self._channel is not None:
            self._channel.write_eof()

    async def wait(self) -> int:
        while (code := self._code) is None:
            if self.lost:
                raise HostLost(self.lost)
            await self._changed.wait()
        return code

    def poll(self) -> int | None:
        return self._code

    def silent(self) -> bool:
        """It ended, and nobody holds its pipes: no child of it can be left."""
        return self._code is not None and self._channel is None

    def close(self) -> None:
        """Give the channel back: its count falls when the server agrees."""
        if self._channel is not None:
            self._channel.close()

    async def wait_closed(self) -> None:
        while self._channel is not None:
            await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _pause(self) -> None:  # one window for both streams: either one that is full stops both
        self._pauses += 1
        if self._channel is not None and not self._flushing:
            self._channel.pause_reading()

    def _resume(self) -> None:
        self._pauses -= 1
        if self._pauses or self._channel is None:
            return
        # With the first byte that asyncssh delivers of what it kept, it grants the whole window
        # anew. Take all it kept before the next pause, or what it keeps grows with every pause.
        self._flushing = True
        self._channel.resume_reading()
        self._flushing = False
        if self._pauses and self._channel is not None:
            self._channel.pause_reading()

    # What asyncssh tells us

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        if datatype is not None:
            self._err.feed(data)
        elif self._out.begun:
            self._out.incoming.feed(data)
        else:
            self._out.feed(data)
            self._tell()

    def eof_received(self) -> bool:
        self._end()
        return True  # our own direction stays open

    def exit_status_received(self, status: int) -> None:
        self._code = status
        self._tell()

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        named = signals.Signals.__members__.get(f"SIG{signal}")
        self._code = 128 + (named or 0)
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel = None
        broken = f"the link to {self._name} broke: {visible(str(exc or 'closed by us'))}"
        if self._code is None:  # whatever else it looks like: nobody told us how it ended
            self.lost = broken
        whole = self._code is not None and exc is None and not self._connection.torn
        self._end("" if whole else broken)
        self._writable.set()
        self._connection.released()

    def pause_writing(self) -> None:
        self._writable = anyio.Event()

    def resume_writing(self) -> None:
        self._writable.set()

    def _end(self, lost: str = "") -> None:
        self._out.incoming.end(lost)
        self._err.incoming.end(lost)
        self._tell()


class _Marked:
    """A stream that counts from our mark on; what a profile said before it is noise."""

    def __init__(self, mark: str, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self.incoming = Incoming(pause, resume)
        self.begun = b""  # the rest of the mark's line
        self.noise = b""
        self._mark = f"\n{mark}".encode()

    def feed(self, data: bytes) -> None:
        if self.begun:
            self.incoming.feed(data)
            return
        self.noise += data
        at = self.noise.find(self._mark)
        line_end = self.noise.find(b"\n", at + len(self._mark)) if at >= 0 else -1
        if line_end >= 0:
            self.begun = self.noise[at + len(self._mark) : line_end] or b" "
            rest, self.noise = self.noise[line_end + 1 :], b""
            if rest:
                self.incoming.feed(rest)
        elif len(self.noise) > _NOISE:
            self.noise = self.noise[-_NOISE // 2 :]


_CHANNELS = 9  # of the ten that sshd allows
_OPENING = 30.0  # seconds for the server to open a channel


class SshConnection:
    """Counts a channel from the moment we ask for it until the server has closed it."""

    def __init__(
        self, ssh: asyncssh.SSHClientConnection, emptied: Callable[[SshConnection], None]
    ) -> None:
        self.ssh = ssh
        self.taken = 0
        self.limit = _CHANNELS
        self.torn = False  # by us: asyncssh then tells its channels of no error
        self._emptied = emptied

    @property
    def free(self) -> bool:
        return self.taken < self.limit

    async def open_channel(self, name: str, command: str, mark: str, *, window: int) -> SshProcess:
        """Start *command* on the host *name*. Raises ChannelOpenError, TimeoutError."""
        made: list[SshProcess] = []
        awaited = True

        def factory() -> SshProcess:
            made.append(SshProcess(name, mark, self))
            return made[0]

        def settle(opening: asyncio.Task[Any]) -> None:
            failed = opening.cancelled() or opening.exception() is not None
            if not made:
                self.released()
            elif not awaited and not failed:
                made[0].close()

        self.taken += 1
        # A task, for asyncssh forgets a channel whose opening is cancelled, and sshd does not. It
        # ends with the server's answer, at the latest with the connection.
        opening = asyncio.ensure_future(
            self.ssh.create_session(
                factory,
                command,
                encoding=None,
                window=window,
                request_pty=False,
                x11_forwarding=False,
            )
        )
        opening.add_done_callback(settle)
        try:
            with anyio.fail_after(_OPENING):
                await asyncio.shield(opening)
        finally:
            awaited = False
        return made[0]

    def released(self) -> None:
        """A channel has closed, which is when sshd's count falls, too."""
        self.taken -= 1
        if not self.taken:
            self._emptied(self)
