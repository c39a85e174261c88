"""When to try again to reach a host."""

from __future__ import annotations

import random
import time

import anyio

from optio_agents.errors import ConnectError, LoginRefused

_FIRST, _LONGEST = 0.1, 5.0  # seconds between attempts
_EARLY, _EARLY_LONGEST = 12.0, 1.0  # in the first seconds of an outage they stay close together
_LOGIN = 60.0  # seconds between attempts that the server refuses: it may lock us out


class Attempts:
    """Paces the attempts at one host; the pauses after a failure grow, with jitter."""

    def __init__(self) -> None:
        self.failures = 0  # ever
        self.error: ConnectError | None = None  # of the last attempt, if that failed
        self._in_a_row = 0
        self._down_since = 0.0
        self._until = 0.0
        self._retry = anyio.Event()

    def failed(self, error: ConnectError) -> None:
        now = time.monotonic()
        if not self._in_a_row:
            self._down_since = now
        longest = _EARLY_LONGEST if now - self._down_since < _EARLY else _LONGEST
        pause = min(longest, _FIRST * 2.0 ** min(self._in_a_row, 10)) * random.uniform(0.5, 1)
        self._until = now + (_LOGIN if isinstance(error, LoginRefused) else pause)
        self._in_a_row += 1
        self.failures += 1
        self.error = error

    def succeeded(self) -> None:
        self._in_a_row, self._until, self.error = 0, 0.0, None

    def retry_now(self) -> None:
        self._until = 0.0
        self._retry.set()
        self._retry = anyio.Event()

    @property
    def pause(self) -> float:
        """Seconds until the next attempt."""
        return max(0.0, self._until - time.monotonic())

    async def turn(self) -> None:
        """Wait until the pause is over, or somebody says that it is."""
        if pause := self.pause:
            with anyio.move_on_after(pause):
                await self._retry.wait()
