"""What a `ProcessContext` is told, in order, on a queue of its own: reading never waits for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.concurrency import OnDemand
from optio_agents.display import visible

from .foreign_code import Tactful, describe

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from optio_agents.context import ProcessContext
    from optio_agents.store.records import Entry

    from .shared import Common


_log = logging.getLogger(__name__)

WAITING = 1000  # reports that may wait; the next ones are counted and left out
_WAITING_CALLS = 2 * WAITING  # calls a person may be waiting for have some room of their own
_RATE = 10  # percents a second; above that the latest wins
_CALL = 30.0  # seconds that an async method of a context may take
_SECOND = 1.0
_SLICE = 0.005  # seconds of quick calls in a row until others get their turn


@dataclass(slots=True)
class _Report:
    percent: float | None
    message: str | None
    entry: Entry | None


@dataclass(slots=True)
class _Call:
    method: str
    args: tuple[Any, ...]
    entry: Entry | None


@dataclass(slots=True)
class _Skipped:
    count: int = 0
    percent: float | None = None


class Progress:
    """Hands reports and requests to *context*, one at a time, in order.

    What raises is logged and counted; it never ends a session.
    """

    def __init__(
        self,
        context: ProcessContext,
        common: Common,
    ) -> None:
        self._context, self._common = context, common
        self._report = Tactful(context.report_progress)
        self._queue: deque[_Report | _Call | _Skipped] = deque()
        self._held: float | None = None  # a percent that may not be told yet
        self._told: deque[float] = deque([-_SECOND] * _RATE, maxlen=_RATE)  # when percents were
        self._worker = OnDemand(common.workers, self._work, failed=common.failed)
        self._stirred = asyncio.Event()  # something came, or the session ends
        self._ending = False
        self._yielded = 0.0
        self.skipped = 0

    def report(
        self, percent: float | None, message: str | None, entry: Entry | None = None
    ) -> None:
        """Show where the agent is. The message is made visible and shortened."""
        item = _Report(percent, visible(message) if message else None, entry)
        last = self._queue[-1] if self._queue else None
        if item.message is None and isinstance(last, _Report) and last.message is None:
            self._dismiss(self._queue.pop())
        self._enqueue(item)

    def call(self, method: str, *args: Any, entry: Entry | None = None) -> None:
        """Ask an async method of the context for something."""
        self._enqueue(_Call(method, args, entry))

    async def finish(self, seconds: float) -> None:
        """Let what waits be told, for *seconds* at most; the rest counts as skipped."""
        self._ending = True
        self._stirred.set()
        with anyio.move_on_after(max(seconds, 0)) as time_is_up:
            await self._worker.idle()
        if time_is_up.cancelled_caught:
            _log.warning("the context was too slow: %d calls were not made", len(self._queue))
            while self._queue:
                self._dismiss(self._queue.popleft(), skipped=True)

    def _enqueue(self, item: _Report | _Call) -> None:
        if len(self._queue) < (WAITING if isinstance(item, _Report) else _WAITING_CALLS):
            self._queue.append(item)
        else:
            self._skip(item)
        self._stirred.set()
        self._worker.wake()

    def _skip(self, item: _Report | _Call) -> None:
        if not isinstance(self._queue[-1], _Skipped):
            self._queue.append(_Skipped())
        note = self._queue[-1]
        assert isinstance(note, _Skipped)
        note.count += 1
        if isinstance(item, _Report) and item.percent is not None:
            note.percent = item.percent
        self._dismiss(item, skipped=True)

    async def _work(self) -> None:
        while self._queue or self._held is not None:
            if self._queue:
                await self._turn(self._queue.popleft())
            else:
                await self._wait_to_tell()

    async def _turn(self, item: _Report | _Call | _Skipped) -> None:
        match item:
            case _Report(percent, message):
                await self._tell(percent, message)
            case _Call(method, args):
                await self._ask(method, args)
            case _Skipped(count, percent):
                await self._tell(percent, f"{count} skipped")
        self._dismiss(item)
        if time.monotonic() - self._yielded > _SLICE:
            await asyncio.sleep(0)
            self._yielded = time.monotonic()

    async def _wait_to_tell(self) -> None:
        """Tell the percent held back as soon as it may be, unless something else comes first."""
        self._stirred.clear()
        with anyio.move_on_after(0 if self._ending else self._told[0] + _SECOND - time.monotonic()):
            await self._stirred.wait()
        if not self._queue:
            self._told[0] = -_SECOND
            await self._tell(None, None)

    async def _tell(self, percent: float | None, message: str | None) -> None:
        self._held = self._held if percent is None else percent
        now = time.monotonic()
        allowed = None
        if self._held is not None and now - self._told[0] >= _SECOND:
            allowed, self._held = self._held, None
            self._told.append(now)
        if allowed is None and message is None:
            return
        try:
            async with asyncio.timeout(_CALL):
                await self._report(allowed, message)
        except Exception as error:
            self._trouble("report_progress", error)

    async def _ask(self, method: str, args: tuple[Any, ...]) -> None:
        async def call() -> None:
            answer: Awaitable[object] = getattr(self._context, method)(*args)
            await answer

        try:
            await self._common.guests.call(method, call, seconds=_CALL)
        except Exception as error:
            self._trouble(method, error)

    def _trouble(self, method: str, error: Exception) -> None:
        self._common.troubles[method] += 1
        if self._common.troubles[method] == 1:
            _log.warning("the context's %s raised", method, exc_info=error)
        else:
            _log.debug("the context's %s raised again: %s", method, describe(error))

    def _dismiss(self, item: _Report | _Call | _Skipped, *, skipped: bool = False) -> None:
        self.skipped += skipped
        if not isinstance(item, _Skipped) and item.entry is not None:
            self._common.done(item.entry)
