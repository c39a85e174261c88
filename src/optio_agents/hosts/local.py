"""This machine."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio

from optio_agents.errors import CommandTimedOut, HostError

from . import environment
from .bootstrap import RUN, new_mark, packed, payload, script
from .collect import collected
from .link import LinkStatus
from .local_process import LocalProcess
from .tunnel import forwarded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from optio_agents.following.batches import Batches, FollowOptions
    from optio_agents.following.cursor import Cursor

    from .machine import Answer

_log = logging.getLogger(__name__)
_STOPPING = 13.0  # seconds that stopping a tree may take besides its grace
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
        self.link.become("up")

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for run, process in self._running.items():
                    if not process.silent():
                        tasks.start_soon(self._stop_tree, run, process)
        self.link.become("closed")

    def shell(
        self,
        script: str,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        bulk: bool = False,
    ) -> AbstractAsyncContextManager[LocalProcess]:
        return self._shell(script, args, env=env, bulk=bulk)

    @asynccontextmanager
    async def _shell(
        self,
        script: str,
        args: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        bulk: bool = False,
        stops: bool = True,
    ) -> AsyncIterator[LocalProcess]:
        run = new_mark()
        text = packed(payload(script, args, env={**(env or {}), RUN: run}))
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
                return await collected(process, data)
        raise CommandTimedOut(f"no answer within {seconds:g} s")

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
        roots = [f"{process.pid}:{start}"] if (start := process.start) else []
        args = [f"{RUN}={run}", f"{process.grace:g}", "-", *roots]
        with anyio.move_on_after(_STOPPING + process.grace):
            try:
                async with self._shell(script("stop"), args, stops=False) as stopping:
                    left = await collected(stopping)
                if left.exit_code:
                    _log.warning("still running: %r", left.stdout)
            except (HostError, OSError):
                _log.warning("could not stop a script's tree", exc_info=True)
        if process.poll() is None:  # no /proc here, or no way to start a shell
            process.kill_group()
            with anyio.move_on_after(_REAPING):
                await process.wait()
