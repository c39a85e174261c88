"""Code that is not ours, run so that it can neither hold up a session nor hide in it.

*What is async* (body, callbacks, senders) runs as an asyncio task of its own, in no task group of
ours: a group waits for its tasks for ever. We cancel it, wait within a bound, and then leave it
behind, by name.

*What is not* (`report_progress`, `should_continue`) is called on the event loop, the only place
where it may set events and start tasks, as contexts do. Nothing can bound one that blocks there.
But after each such call the loop belongs to everybody else for as long as the call has taken: so
lines are still read, signals heard, and leases renewed, which takes several turns of the loop and
would, at one turn per blocking call, come too late.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from optio_agents.hosts.machine import LinkStatus


_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_NOTICING = 5.0  # seconds for one call that ran out of time to notice its cancellation
_SLOW = 0.02  # seconds: longer than this on the loop, and others wait noticeably
_LONGEST_REST = 5.0  # seconds: enough for everybody else, however long a call has taken


class ForeignExit(Exception):
    """Foreign code raised what ends programs: SystemExit, or another that is no Exception.

    It must not leave a task as it is: asyncio would take the loop down with it.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class ForeignCode:
    """The async code of others in one run. Time without a link is no time: it may need the host.

    Nothing is called before *permit* has returned, which never does once others do the calling.
    """

    def __init__(
        self, link: LinkStatus, permit: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self._link, self._permit = link, permit
        self._names: dict[asyncio.Task[Any], str] = {}
        self.abandoned: list[str] = []

    def start(self, name: str, call: Callable[[], Awaitable[_T]]) -> asyncio.Task[_T]:
        """Run *call* as a task. Its end is the caller's to look at, its name is ours to report."""
        task = asyncio.create_task(_run(name, call), name=f"optio session: {name}")
        self._names[task] = name
        task.add_done_callback(self._forget)
        return task

    async def call(self, name: str, call: Callable[[], Awaitable[_T]], *, seconds: float) -> _T:
        """What *call* returns or raises; TimeoutError after *seconds* with a link.

        Cancelling this cancels the call and waits for nothing: `end` does that, for all.
        """
        if self._permit is not None:
            await self._permit()
        task = self.start(name, call)
        try:
            left = seconds
            while left > 0 and not task.done():
                away = self._link.away
                await asyncio.wait({task}, timeout=left)
                left = self._link.away - away
        finally:
            if not task.done():
                cancel_once(task)
        return await self.finish(task, name)

    async def finish(self, task: asyncio.Task[_T], name: str) -> _T:
        """What *task* returned or raised; TimeoutError if it had to be made to end."""
        if not task.done():
            await self.end([task], seconds=_NOTICING)
            raise TimeoutError(f"{name} took too long")
        if task.cancelled():  # by itself: nobody here asked for it
            raise RuntimeError(f"{name} cancelled itself")
        return task.result()

    async def end(
        self, tasks: Iterable[asyncio.Task[Any]] | None = None, *, seconds: float
    ) -> None:
        """Cancel these, or all; wait *seconds* at most, and name those who stay."""
        ending = {task for task in (self._names if tasks is None else tasks) if not task.done()}
        for task in ending:
            cancel_once(task)
        if not ending:
            return
        _, staying = await asyncio.wait(ending, timeout=max(seconds, 0.0))
        for task in staying:
            name = self._names.pop(task, task.get_name())
            self.abandoned.append(name)
            _log.warning("%s did not end when cancelled and was left behind", name)
            task.add_done_callback(partial(_log_late_end, name))

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._names.pop(task, None)
        if not task.cancelled():
            task.exception()  # looked at: asyncio need not complain that nobody did


def _log_late_end(name: str, task: asyncio.Task[Any]) -> None:
    _log.info("%s has ended after all: %r", name, task)


def cancel_once(task: asyncio.Task[Any]) -> None:
    """Cancel it, but not again: a second time would break into its clean-up."""
    if not task.done() and not task.cancelling():
        task.cancel()


async def _run(name: str, call: Callable[[], Awaitable[_T]]) -> _T:
    try:
        awaitable = call()
        if inspect.isawaitable(awaitable):
            return await awaitable
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:
        raise ForeignExit(error) from error
    raise TypeError(f"{name} is not async: it returned {describe_value(awaitable)}")


class LoopCall:
    """A plain function of others, called on the event loop.

    `rests_until` (`time.monotonic`) is when it may be called again: see above.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name, self._function = name, function
        self._warned = False
        self.rests_until = 0.0

    def __call__(self, *args: Any) -> Any:
        began = time.monotonic()
        try:
            return self._function(*args)
        except Exception:
            raise
        except BaseException as error:
            raise ForeignExit(error) from error
        finally:
            now = time.monotonic()
            if now - began >= _SLOW:
                self.rests_until = now + min(now - began, _LONGEST_REST)
                if not self._warned:
                    self._warned = True
                    _log.warning(
                        "%s of the context blocks the event loop (%.2f s), and all sessions on it",
                        self._name,
                        now - began,
                    )


def describe(error: BaseException) -> str:
    """One line for a log or a reply: what kind, and what it says."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def describe_value(value: object) -> str:
    """What it is, never what is in it."""
    return "nothing" if value is None else f"an object of type {type(value).__name__}"
