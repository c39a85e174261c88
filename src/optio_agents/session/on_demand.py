"""A task that exists only while there is work for it: an idle session has none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup


class OnDemand:
    """Runs *work* in *tasks* whenever it was woken, one run at a time.

    *work* goes on until nothing is left to do. If it raises, *failed* is told and *idle* stays
    false for ever: whoever waits for it must wait for that news as well.
    """

    def __init__(
        self,
        tasks: TaskGroup,
        work: Callable[[], Awaitable[None]],
        *,
        failed: Callable[[Exception], None],
    ) -> None:
        self._tasks, self._work, self._failed = tasks, work, failed
        self._woken = self._running = False
        self._idle: asyncio.Event | None = None  # only where somebody waits for it

    def wake(self) -> None:
        """There is something to do. Cheap while a run is under way."""
        self._woken = True
        if not self._running:
            self._running = True
            self._tasks.start_soon(self._run)

    async def idle(self) -> None:
        """Return once everything asked for so far is done."""
        if self._running:
            self._idle = self._idle or asyncio.Event()
            await self._idle.wait()

    async def _run(self) -> None:
        try:
            while self._woken:
                self._woken = False
                await self._work()
        except Exception as error:  # it stays "running": nobody is to call it again
            self._failed(error)
            return
        self._running = False
        if self._idle is not None:
            self._idle.set()
            self._idle = None
