"""Notice that this computer slept: its clocks ran on while the monotonic one stood still."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

SLEPT = 5.0  # seconds that a clock must have run ahead
_EVERY = 2.0  # seconds between looks


class Waking:
    """Calls *woke* on the loop, soon after every sleep, until it is stopped."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        woke: Callable[[], None],
        *,
        clocks: Callable[[], tuple[float, ...]] | None = None,
        every: float = _EVERY,
    ) -> None:
        self._loop, self._woke, self._clocks, self._every = loop, woke, clocks or _lead, every
        self._seen = self._clocks()
        self._timer = loop.call_later(every, self._look)

    def stop(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(self._every, self._look)
        seen, self._seen = self._seen, self._clocks()
        if any(now - before >= SLEPT for before, now in zip(seen, self._seen, strict=True)):
            self._woke()


def _lead() -> tuple[float, ...]:
    """By how much the clocks that go on in sleep are ahead of the monotonic one."""
    here = time.monotonic()
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    running = () if boot is None else (time.clock_gettime(boot) - here,)
    return (time.time() - here, *running)
