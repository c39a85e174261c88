"""Timers that all sessions of an event loop share, and that count only time we were awake.

Monotonic time goes on while a process is stopped, and the boot clock while the laptop sleeps.
A session that was not there to listen must not conclude that nobody spoke.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

QUICK = 0.2  # seconds: for what a person waits for
SLOW = 1.0
_SLEPT = 5.0  # seconds: a beat later than this was no busy loop

_pulses: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[float, Pulse]] = WeakKeyDictionary()


class Pulse:
    """Lives on the loop's own callbacks and owns no task."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interval: float) -> None:
        self._loop, self._interval = loop, interval
        self._beats: dict[object, Callable[[float], None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._last = 0.0

    def join(self, beat: Callable[[float], None]) -> Callable[[], None]:
        """Call *beat* with the seconds awake since the last one; returns how to leave."""
        key = object()
        self._beats[key] = beat
        if self._timer is None:
            self._last = self._loop.time()
            self._timer = self._loop.call_later(self._interval, self._tick)
        return lambda: self._leave(key)

    def _leave(self, key: object) -> None:
        self._beats.pop(key, None)
        if not self._beats and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = self._loop.time()
        elapsed, self._last = now - self._last, now
        self._timer = self._loop.call_later(self._interval, self._tick)
        awake = elapsed if elapsed < _SLEPT else self._interval
        for beat in tuple(self._beats.values()):
            beat(awake)


def pulse(interval: float) -> Pulse:
    """The pulse of the running loop that beats every *interval* seconds."""
    loop = asyncio.get_running_loop()
    pulses = _pulses.setdefault(loop, {})
    if interval not in pulses:
        pulses[interval] = Pulse(loop, interval)
    return pulses[interval]
