"""Hosts of other makes: those that have only the published, smaller set of methods.

What such a host can give is what it gets: the log is read by its `tail_file` and held against the
whole file now and then; a deliverable is checked, fetched, and checked again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from optio_agents.errors import FileRefused, HostError, HostLost
from optio_agents.hosts.bootstrap import quote, script
from optio_agents.hosts.link import LinkStatus
from optio_agents.hosts.machine import Answer

from .foreign_log import ForeignLog

if TYPE_CHECKING:
    from pathlib import Path

    from optio_agents.following.cursor import Cursor
    from optio_agents.hosts.host import Host

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_PAUSE = 1.0  # seconds between attempts to reach the host again
_PATIENCE = 60.0  # seconds for one call of a host that has no time-outs of its own


@dataclass(frozen=True, slots=True)
class Fetched:
    """What our own hosts say of a file that arrived."""

    size: int
    sha256: str
    real_path: str


class ForeignMachine:
    """A name and a link, for whoever watches them or waits for the host."""

    is_local = False

    def __init__(self, host: ForeignHost, name: str) -> None:
        self.name = name
        self.link = LinkStatus()
        self._host, self._one_at_a_time = host, anyio.Lock()

    async def connect(self) -> None:
        """Be reachable, or raise HostLost after a pause."""
        async with self._one_at_a_time:
            if self.link.state == "up":
                return
            try:
                await self._host.reconnect()
                await self._host.ask("true")
            except HostError:
                await anyio.sleep(_PAUSE)
                raise
            self.link.become("up")


class ForeignHost:
    """A host of another make, as a session needs it. Its errors are ours from here on."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self.machine = ForeignMachine(self, type(host).__name__)
        self.machine.link.become("up")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_host":
            raise AttributeError(name)
        return getattr(self._host, name)

    async def setup_workdir(self) -> None:
        await self.translated(self._host.setup_workdir)

    async def ask(self, text: str, *args: str) -> Answer:
        """Run one of our scripts, or another, as one command."""
        body = script(text.removesuffix(".sh")) if text.endswith(".sh") else text
        given = " ".join(map(quote, args))
        command = f"exec /bin/sh -c {quote(body)} sh {given}"
        result = await self.translated(lambda: self._host.run_command(command))
        return Answer(
            result.exit_code,
            result.stdout.encode(errors="surrogateescape"),
            result.stderr.encode(errors="surrogateescape"),
        )

    @asynccontextmanager
    async def follow(
        self, path: str, cursor: Cursor | None = None, **options: Any
    ) -> AsyncIterator[ForeignLog]:
        """Follow a log from *cursor*: as `Host.follow` does it, as far as this host can."""
        async with anyio.create_task_group() as tasks:
            log = ForeignLog(self, path, cursor, tasks, **options)
            try:
                yield log
            finally:
                log.close()
                tasks.cancel_scope.cancel()

    def tail_file(self, path: str) -> AsyncIterator[str]:
        lines: AsyncIterator[str] = self._host.tail_file(path)
        return lines

    async def whole(self, path: str) -> bytes:
        """All of a file. Raises FileRefused, HostLost."""
        data: bytes = await self.translated(lambda: self._host.fetch_bytes_from_host(path), path)
        return data

    async def fetch_file(
        self, path: str, destination: Path, *, max_bytes: int, root: str
    ) -> Fetched:
        """Fetch a file below *root*; refused where it is anything else, before and after."""
        try:
            return await self._fetched(path, destination, max_bytes, root)
        except HostLost as error:
            try:
                await self.ask("true")
            except HostError:  # nothing comes through: it is the link
                self.machine.link.become("down", str(error))
            raise

    async def _fetched(self, path: str, destination: Path, max_bytes: int, root: str) -> Fetched:
        before = await self._look(path, root)
        size, _, real_path = before
        if size > max_bytes:
            raise FileRefused(path, "too-large")
        data = await self.whole(real_path)
        if await self._look(path, root) != before or len(data) != size:
            raise FileRefused(path, "changed", "changed while it was read")
        await anyio.to_thread.run_sync(destination.write_bytes, data)
        digest = await anyio.to_thread.run_sync(hashlib.sha256, data)
        return Fetched(size, digest.hexdigest(), real_path)

    async def _look(self, path: str, root: str) -> tuple[int, str, str]:
        answer = await self.ask("look.sh", path, root)
        verdict, _, real_path = answer.stdout.decode(errors="surrogateescape").partition("\n")
        word, *about = verdict.split()
        if word != "ok":
            raise FileRefused(path, word)
        return int(about[0]), about[1], real_path.removesuffix("\n")

    async def reconnect(self) -> None:
        """Try to reach the host again. Raises HostLost."""
        with suppress(HostLost):  # it may believe in a connection that is dead
            await self.translated(self._host.disconnect)
        await self.translated(self._host.connect)

    async def translated(self, call: Callable[[], Awaitable[_T]], path: str = "") -> _T:
        """What *call* returns, in bounded time; what it raises as an error of ours."""
        try:
            with anyio.fail_after(_PATIENCE):
                return await call()
        except HostError:
            raise
        except FileNotFoundError as error:
            raise FileRefused(path, "missing", str(error)) from error
        except IsADirectoryError as error:
            raise FileRefused(path, "directory", str(error)) from error
        except Exception as error:
            raise HostLost(f"{self.machine.name}: {type(error).__name__}: {error}") from error


def adapted(host: Any) -> Host:
    """*host* as the session needs it: itself, if it is one of ours."""
    return host if hasattr(host, "follow") else ForeignHost(host)  # type: ignore[return-value]
