"""Task groups, work on demand, and timers, as everything that waits needs them."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.abc import TaskGroup


def name_library() -> None:
    """Let everybody know that this is asyncio, here and in all callbacks that come of it.

    Where sniffio is installed anyio asks it, and it knows only tasks: a timer or a connection of
    ours could start nothing.
    """
    if (sniffio := sys.modules.get("sniffio")) is not None:
        sniffio.current_async_library_cvar.set("asyncio")


# A task group whose lone error comes out bare, so that `except HostError` works.


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """anyio's, but of several errors of ours the first is raised, not the group of them."""
    lone: BaseException | None = None
    try:
        async with anyio.create_task_group() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        lone = group
        while isinstance(lone, BaseExceptionGroup):
            lone = lone.exceptions[0]
    if lone is not None:
        raise lone


# A task that exists only while there is work for it: an idle session has none.


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


# Timers that all sessions of an event loop share, and that count only time we were awake.
#
# Monotonic time goes on while a process is stopped, and the boot clock while the laptop sleeps.
# A session that was not there to listen must not conclude that nobody spoke.


QUICK = 0.2  # seconds: for what a person waits for
SLOW = 1.0
_SLEPT = 5.0  # seconds: a tick later than this was no busy loop


def uptime() -> float:
    """Seconds that go on while we sleep, as those of other machines do."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


_timers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[float, SharedTimer]] = (
    WeakKeyDictionary()
)


class SharedTimer:
    """Lives on the loop's own callbacks and owns no task."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interval: float) -> None:
        self._loop, self._interval = loop, interval
        self._calls: dict[object, Callable[[float], None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0

    def add(self, call: Callable[[float], None]) -> Callable[[], None]:
        """See `every`."""
        key = object()
        self._calls[key] = call
        if self._timer is None:
            name_library()  # the callbacks run in the context of this moment
            self._last = self._loop.time()
            self._timer = self._loop.call_later(self._interval, self._tick)
        return lambda: self._remove(key)

    def _remove(self, key: object) -> None:
        self._calls.pop(key, None)
        if not self._calls and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = self._loop.time()
        elapsed, self._last = now - self._last, now
        self._timer = self._loop.call_later(self._interval, self._tick)
        awake = elapsed if elapsed < _SLEPT else self._interval
        for call in tuple(self._calls.values()):
            call(awake)


def every(interval: float, call: Callable[[float], None]) -> Callable[[], None]:
    """Call *call* every *interval* seconds with those awake since the last time, on this loop.

    Returns how to stop.
    """
    loop = asyncio.get_running_loop()
    timers = _timers.setdefault(loop, {})
    if interval not in timers:
        timers[interval] = SharedTimer(loop, interval)
    return timers[interval].add(call)
