"""One SSH connection, and how many of its channels are taken."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import asyncssh

from optio_agents.errors import HostLost

if TYPE_CHECKING:
    from collections.abc import Callable

    from .ssh_process import SshProcess

_CHANNELS = 9  # of the ten that sshd allows
_OPENING = 30.0  # seconds for the server to open a channel


class Connection:
    """Counts a channel from the moment we ask for it until the server has closed it."""

    def __init__(
        self, ssh: asyncssh.SSHClientConnection, emptied: Callable[[Connection], None]
    ) -> None:
        self.ssh = ssh
        self.taken = 0
        self.limit = _CHANNELS
        self.torn = False  # by us: asyncssh then tells its channels of no error
        self._emptied = emptied

    @property
    def free(self) -> bool:
        return self.taken < self.limit

    async def open_channel(
        self, command: str, process: Callable[[], SshProcess], *, window: int
    ) -> SshProcess:
        """Start *command* with what *process* makes. Raises ChannelOpenError, TimeoutError."""
        made: list[SshProcess] = []
        awaited = True

        def factory() -> SshProcess:
            made.append(process())
            return made[0]

        def settle(opening: asyncio.Task[Any]) -> None:
            failed = opening.cancelled() or opening.exception() is not None
            if not made:
                self.released()
            elif not awaited and not failed:
                made[0].close()

        self.taken += 1
        opening = self._opening(factory, command, window)
        opening.add_done_callback(settle)
        try:
            with anyio.fail_after(_OPENING):
                await asyncio.shield(opening)
        finally:
            awaited = False
        return made[0]

    def _opening(
        self, factory: Callable[[], SshProcess], command: str, window: int
    ) -> asyncio.Task[Any]:
        # A task, for asyncssh forgets a channel whose opening is cancelled, and sshd does not. It
        # ends with the server's answer, at the latest with the connection.
        return asyncio.ensure_future(
            self.ssh.create_session(
                factory,
                command,
                encoding=None,
                window=window,
                request_pty=False,
                x11_forwarding=False,
            )
        )

    def released(self) -> None:
        """A channel has closed, which is when sshd's count falls, too."""
        self.taken -= 1
        if not self.taken:
            self._emptied(self)


class FarEnd:
    """The far end of a tunnelled connection."""

    def __init__(
        self, reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes]
    ) -> None:
        self._reader, self._writer = reader, writer
        self.write, self.write_eof, self.close = writer.write, writer.write_eof, writer.close

    async def read(self, n: int) -> bytes:
        try:
            return await self._reader.read(n)
        except asyncssh.Error as error:
            raise HostLost(str(error)) from error

    async def drain(self) -> None:
        try:
            await self._writer.drain()
        except asyncssh.Error as error:
            raise HostLost(str(error)) from error
