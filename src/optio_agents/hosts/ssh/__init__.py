"""A machine behind SSH. asyncssh is half a second to import: not before the first connection."""

from __future__ import annotations

from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

import anyio.to_thread

from optio_agents.hosts.machine import LinkStatus

from .config import SSHConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from optio_agents.framing.batches import Batches, FollowOptions
    from optio_agents.framing.cursor import Cursor
    from optio_agents.hosts.machine import Answer, Process

    from .machine import SshRemote


__all__ = ["SSHConfig", "SshMachine"]


class SshMachine:
    """One user's handle on a host; all handles of a loop share its connections."""

    is_local = False

    def __init__(self, config: SSHConfig) -> None:
        self.name = config.name
        self.link = LinkStatus(self._retry_now)
        self.config = config
        self._joined: SshRemote | None = None

    async def connect(self) -> None:
        remote = self._joined or await self._join()
        await remote.connect()
        self.name = remote.name

    async def close(self) -> None:
        remote, self._joined = self._joined, None
        if remote:
            await remote.leave(self.link)
        self.link.become("closed")

    @asynccontextmanager
    async def shell(
        self,
        script: str,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        bulk: bool = False,
    ) -> AsyncIterator[Process]:
        remote = self._joined or await self._join()
        async with remote.shell(script, args, env=env, bulk=bulk) as process:
            yield process

    async def ask(
        self, script: str, args: Sequence[str] = (), *, data: bytes = b"", seconds: float = 30.0
    ) -> Answer:
        remote = self._joined or await self._join()
        return await remote.ask(script, args, data=data, seconds=seconds)

    @asynccontextmanager
    async def follow(
        self, path: str, cursor: Cursor | None, options: FollowOptions
    ) -> AsyncIterator[Batches]:
        remote = self._joined or await self._join()
        async with remote.follow(path, cursor, options) as batches:
            yield batches

    @asynccontextmanager
    async def tunnel(
        self, port: int, *, host: str = "127.0.0.1", local_port: int = 0
    ) -> AsyncIterator[int]:
        remote = self._joined or await self._join()
        async with remote.tunnel(port, host=host, local_port=local_port) as ours:
            yield ours

    async def login_environment(self) -> Mapping[str, str]:
        remote = self._joined or await self._join()
        return await remote.login_environment()

    async def _join(self) -> SshRemote:
        module = await anyio.to_thread.run_sync(import_module, "optio_agents.hosts.ssh.machine")
        if self._joined is None:  # nobody was quicker
            self._joined = module.join(self.config, self.link)
        return self._joined

    def _retry_now(self) -> None:
        if self._joined:
            self._joined.link.retry_now()
