"""Calling a foreign plain function without letting it stop the event loop for long."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from optio_agents.hosts.machine import Link


# Code that is not ours, run so that it can neither hold up a session nor hide in it.
#
# A guest runs as an asyncio task of its own, in no task group of ours: a group waits for its
# tasks for ever. We cancel it, wait within a bound, and then leave it behind, by name.


_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_FAREWELL = 5.0  # seconds for one call that ran out of time to notice its cancellation


class Guests:
    """The foreign code of one session. Time without a link is no time: it may wait for the host."""

    def __init__(self, link: Link | None = None) -> None:
        self._link = link
        self._names: dict[asyncio.Task[Any], str] = {}
        self.abandoned: list[str] = []

    def invite(self, name: str, call: Callable[[], Awaitable[_T]]) -> asyncio.Task[_T]:
        """Start *call*. Its end is the caller's to look at, its name is ours to report."""
        task = asyncio.create_task(_as_coroutine(call), name=f"optio session: {name}")
        self._names[task] = name
        task.add_done_callback(self._gone)
        return task

    async def call(self, name: str, call: Callable[[], Awaitable[_T]], *, seconds: float) -> _T:
        """What *call* returns or raises; TimeoutError after *seconds* with a link.

        Cancelling this cancels the guest and waits for nothing: `leave` does that, for all.
        """
        task = self.invite(name, call)
        try:
            away, left = self._away, seconds
            while left > 0 and not task.done():
                await asyncio.wait({task}, timeout=left)
                left, away = self._away - away, self._away
        finally:
            ask_to_leave(task)
        return await self.finish(task, name)

    @property
    def _away(self) -> float:
        return self._link.away if self._link is not None else 0.0

    async def finish(self, task: asyncio.Task[_T], name: str) -> _T:
        """What *task* returned or raised; TimeoutError if it had to be made to end."""
        if not task.done():
            await self.leave([task], seconds=_FAREWELL)
            raise TimeoutError(f"{name} took too long")
        return _result(task, name)

    async def leave(
        self, tasks: Iterable[asyncio.Task[Any]] | None = None, *, seconds: float
    ) -> None:
        """Cancel these guests, or all; wait *seconds* at most, and name those who stay."""
        leaving = {task for task in (self._names if tasks is None else tasks) if not task.done()}
        for task in leaving:
            ask_to_leave(task)
        if leaving:
            _, deaf = await asyncio.wait(leaving, timeout=max(seconds, 0.0))
            for task in deaf:
                self._abandon(task)

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        name = self._names.pop(task, task.get_name())
        self.abandoned.append(name)
        _log.warning("%s did not end when cancelled and was left behind", name)
        task.add_done_callback(lambda task: _log.info("%s has ended after all: %r", name, task))

    def _gone(self, task: asyncio.Task[Any]) -> None:
        self._names.pop(task, None)
        if not task.cancelled():
            task.exception()  # looked at: asyncio need not complain that nobody did


def ask_to_leave(task: asyncio.Task[Any]) -> None:
    """Cancel it once: a second time would break into its clean-up."""
    if not task.done() and not task.cancelling():
        task.cancel()


def _result(task: asyncio.Task[_T], name: str) -> _T:
    if task.cancelled():  # by itself: nobody here asked for it
        raise RuntimeError(f"{name} cancelled itself")
    return task.result()


async def _as_coroutine(call: Callable[[], Awaitable[_T]]) -> _T:
    return await call()


def describe(error: BaseException) -> str:
    """One line for a log or a reply: what kind, and what it says."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


_SLOW = 0.02  # seconds: longer than this, and others wait noticeably
_STRIKES = 3  # slow calls until nothing else is expected of it


class Tactful:
    """Calls *function* on the loop, where its author expects it, until it is seen to block.

    Contexts are written for the loop's own thread: they set events and start tasks. So that is
    where calls happen, each judged by how long the one before took: a slow one sends the next
    into a thread. One that cannot live there (no running loop) comes back for good.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._strikes = 0
        self._last = 0.0
        self._bound_to_loop = False

    @property
    def blocks(self) -> bool:
        """Whether the next call goes to a thread."""
        slow = self._last >= _SLOW or self._strikes >= _STRIKES
        return slow and not self._bound_to_loop

    async def __call__(self, *args: Any) -> Any:
        if not self.blocks:
            return self.now(*args)
        try:
            return await _in_thread(self._timed, args)
        except RuntimeError as error:
            if "event loop" not in str(error):
                raise
            self._bound_to_loop = True
            return self.now(*args)

    def now(self, *args: Any) -> Any:
        """Call it here, whatever it did before."""
        return self._timed(*args)

    def _timed(self, *args: Any) -> Any:
        start = time.monotonic()
        try:
            return self._function(*args)
        finally:
            self._last = time.monotonic() - start
            self._strikes += self._last >= _SLOW


async def _in_thread(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    # A daemon thread of its own: pools are shared and end with the process, and this may hang.
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not answer.done():
            answer.set_exception(error) if error else answer.set_result(result)

    def work() -> None:
        result, error = None, None
        try:
            result = function(*args)
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, daemon=True, name="optio slow context").start()
    return await answer
