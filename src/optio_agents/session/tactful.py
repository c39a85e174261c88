"""Calling a foreign plain function without letting it stop the event loop for long."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

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
