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
from optio_agents.display import LIMIT, visible

from .foreign_code import LoopCall

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from optio_agents.context import ProcessContext
    from optio_agents.store.records import Entry

    from .shared import Shared


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
    message: str | None  # as it came, cut to what can be shown of it
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

    def __init__(self, context: ProcessContext, shared: Shared) -> None:
        self._context, self._shared = context, shared
        self._report_progress = LoopCall("report_progress", context.report_progress)
        self._queue: deque[_Report | _Call | _Skipped] = deque()
        self.silent = getattr(context, "silent", False)  # nobody would see a report
        self._held: float | None = None  # a percent that may not be reported yet
        self._reported: deque[float] = deque([-_SECOND] * _RATE, maxlen=_RATE)  # when percents were
        self._worker = OnDemand(shared.workers, self._work, failed=shared.fail)
        self._stirred = asyncio.Event()  # something came, or the session ends
        self._ending = False
        self.skipped = 0

    def report(
        self, percent: float | None, message: str | None, entry: Entry | None = None
    ) -> None:
        """Show where the agent is. The message is made visible and shortened."""
        if self.silent:
            if entry is not None and not entry.done:
                self._shared.mark_done(entry)
            return
        last = self._queue[-1] if self._queue else None
        if not message and isinstance(last, _Report) and not last.message:
            percent = last.percent if percent is None else percent
            self._dismiss(self._queue.pop())
        # It is made visible once it is shown: of a flood, nearly everything never is.
        self._put(_Report(percent, message[: LIMIT + 1] if message else None, entry))

    def call(self, method: str, *args: Any, entry: Entry | None = None) -> None:
        """Ask an async method of the context for something."""
        self._put(_Call(method, args, entry))

    def notice(self, message: str) -> None:
        """What a person should see to; for a context that tells it from the agent's own words."""
        if hasattr(self._context, "notice"):
            self.call("notice", message)
        else:
            self.report(None, message)

    def report_now(self, message: str) -> None:
        """For when nobody works through the queue any more."""
        self._tell(None, visible(message))

    async def finish(self, seconds: float) -> None:
        """Let what waits be shown, for *seconds* at most; the rest counts as skipped."""
        self._ending = True
        self._stirred.set()
        with anyio.move_on_after(max(seconds, 0)) as time_is_up:
            await self._worker.idle()
        if time_is_up.cancelled_caught:
            _log.warning("the context was too slow: %d calls were not made", len(self._queue))
            while self._queue:
                self._dismiss(self._queue.popleft(), skipped=True)

    def _put(self, item: _Report | _Call) -> None:
        if len(self._queue) < (WAITING if isinstance(item, _Report) else _WAITING_CALLS):
            self._queue.append(item)
        else:
            if not isinstance(self._queue[-1], _Skipped):
                self._queue.append(_Skipped())
            note = self._queue[-1]
            assert isinstance(note, _Skipped)
            note.count += 1
            if isinstance(item, _Report) and item.percent is not None:
                note.percent = item.percent
            self._dismiss(item, skipped=True)
        self._stirred.set()
        self._worker.wake()

    async def _work(self) -> None:
        yielded = time.monotonic()
        while self._queue or self._held is not None:
            now, rest = time.monotonic(), self._report_progress.rests_until
            if now < rest or now - yielded > _SLICE:
                await asyncio.sleep(rest - now)
                yielded = time.monotonic()
            if not self._queue:
                await self._wait_for_rate()
                continue
            item = self._queue.popleft()
            match item:
                case _Report(percent, message):
                    self._tell(percent, message and visible(message))
                case _Call(method, args):
                    await self._ask(method, args)
                case _Skipped(count, percent):
                    self._tell(percent, f"{count} skipped")
            self._dismiss(item)

    async def _wait_for_rate(self) -> None:
        """Report the percent held back as soon as it may be, unless something else comes first."""
        self._stirred.clear()
        wait = 0 if self._ending else self._reported[0] + _SECOND - time.monotonic()
        with anyio.move_on_after(wait):
            await self._stirred.wait()
        if not self._queue:
            self._reported[0] = -_SECOND
            self._tell(None, None)

    def _tell(self, percent: float | None, message: str | None) -> None:
        self._held = self._held if percent is None else percent
        now = time.monotonic()
        allowed = None
        if self._held is not None and now - self._reported[0] >= _SECOND:
            allowed, self._held = self._held, None
            self._reported.append(now)
        if allowed is None and message is None:
            return
        try:
            self._report_progress(allowed, message)
        except Exception as error:
            self._shared.note_trouble("report_progress", error)

    async def _ask(self, method: str, args: tuple[Any, ...]) -> None:
        def call() -> Awaitable[object]:
            asked: Awaitable[object] = getattr(self._context, method)(*args)
            return asked

        try:
            await self._shared.foreign.call(method, call, seconds=_CALL)
        except Exception as error:
            self._shared.note_trouble(method, error)

    def _dismiss(self, item: _Report | _Call | _Skipped, *, skipped: bool = False) -> None:
        self.skipped += skipped
        if not isinstance(item, _Skipped) and item.entry is not None:
            self._shared.mark_done(item.entry)
