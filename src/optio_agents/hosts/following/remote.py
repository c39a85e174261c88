"""Follow files of a machine behind a link that may break: one far end for all of them.

The far end runs in one script of the machine; where there is no python3, its shell is asked. One
task keeps it, from the first follow to the last: a follow that ends must not take the channel of
the others with it. When the link breaks, a new far end is started, and every follow goes on behind
what it has read.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio

from optio_agents.errors import ConnectError, HostError, HostKeyRefused, HostLost
from optio_agents.hosts.retrying import reach
from optio_agents.hosts.scripting import script

from .python_end import PythonEnd, program
from .remote_file import RemoteFollowing
from .shell_end import ShellEnd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from optio_agents.framing.batches import Batches, FollowOptions
    from optio_agents.framing.cursor import Cursor
    from optio_agents.hosts.machine import Machine, Process

    from .remote_file import FollowChannel


_log = logging.getLogger(__name__)
_GREETING = 100  # bytes: the first line of a far end is shorter
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds before what failed at once is tried again
_ENDING = 2.0  # seconds for a far end to end when its input does
_LEAVING = 5.0  # seconds for its channel, too; over a dead link it goes on behind us


class RemoteFollows:
    """All that is followed on one machine."""

    def __init__(self, machine: Machine, *, by_shell: bool = False) -> None:
        self._machine = machine
        self._follows: set[RemoteFollowing] = set()
        self._end: FollowChannel | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._by_shell = by_shell  # no python3 there, or none that will do
        self._lived = False  # something came from the last far end

    @asynccontextmanager
    async def follow(
        self, path: str, cursor: Cursor | None, options: FollowOptions
    ) -> AsyncIterator[Batches]:
        """The batches of *path* behind *cursor*, over any number of lost links."""
        following = RemoteFollowing(path, cursor, options)
        self._follows.add(following)
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name=f"follow {self._machine.name}")
        elif self._end:
            following.begin(self._end)
        try:
            yield following
        finally:
            self._follows.remove(following)
            following.leave()
            if not self._follows:
                await self._let_go()

    async def _let_go(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            if not isinstance(self._end, ShellEnd):
                keeper.cancel()
            with anyio.move_on_after(_LEAVING, shield=True):
                await asyncio.wait([keeper])
            keeper.cancel()

    async def _keep(self) -> None:
        """Have a far end for as long as anybody follows."""
        failures = 0
        while True:
            try:
                await reach(self._machine)
                await self._serve()
                if self._keeper is not asyncio.current_task():
                    return None
            except HostKeyRefused as error:
                return self._fail(error)
            except (HostError, OSError) as error:
                if self._machine.link.state == "closed":
                    return self._fail(HostLost(f"{self._machine.name} was let go of"))
                failures = 0 if self._lived else failures + 1
                if failures and not isinstance(error, HostLost | ConnectError):
                    self._by_shell = True  # whatever began there does not work
                _log.info("%s: following begins again: %s", self._machine.name, error)
            except Exception as error:
                _log.exception("following on %s broke", self._machine.name)
                return self._fail(error)
            if failures:
                pause = min(_FIRST_PAUSE * 2.0 ** min(failures, 10), _LONGEST_PAUSE)
                await anyio.sleep(pause * random.uniform(0.5, 1))

    async def _serve(self) -> None:
        self._lived = False
        if self._by_shell:
            return await self._follow_by(ShellEnd(self._machine))
        args = [str(len(program()))]
        async with self._machine.shell(script("hosts/following/follow"), args) as process:
            try:
                match await _greeting(process):
                    case b"python\n":
                        await self._follow_by(PythonEnd(process))
                    case b"shell\n":
                        self._by_shell = True
                    case other:
                        raise HostError(f"no far end for following began there, but {other!r}")
            finally:
                with anyio.move_on_after(_ENDING, shield=True):
                    await _end(process)

    async def _follow_by(self, end: FollowChannel) -> None:
        self._end = end
        try:
            for following in self._follows:
                following.begin(end)
            await end.serve()
        finally:
            self._end, self._lived = None, end.alive
            for following in self._follows:
                following.lose()

    def _fail(self, error: Exception) -> None:
        self._keeper = None
        for following in self._follows:
            following.fail(error)


async def _greeting(process: Process) -> bytes:
    greeting = b""
    while not greeting.endswith(b"\n") and len(greeting) < _GREETING:
        if not (more := await process.read(1)):
            break
        greeting += more
    return greeting


async def _end(process: Process) -> None:
    """Its input ends, and so does it."""
    with suppress(HostError, OSError):
        await process.close_input()
        while await process.read():
            pass
        await process.wait()
