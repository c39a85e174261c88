"""How the way to a machine is: told to whoever shows it or waits for it."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .machine import LinkState

_log = logging.getLogger(__name__)
_AWAY = frozenset[str]({"down", "waiting for your login"})


class LinkStatus:
    """The `Link` of a machine, changed only by its adapter."""

    def __init__(self, retry: Callable[[], None] = lambda: None) -> None:
        self.state: LinkState = "new"
        self.since = time.monotonic()
        self.reason = ""
        self._away = 0.0
        self._retry = retry
        self._watchers: dict[object, Callable[[LinkState, str], None]] = {}

    def watch(self, told: Callable[[LinkState, str], None]) -> Callable[[], None]:
        key = object()
        self._watchers[key] = told
        return lambda: void(self._watchers.pop(key, None))

    @property
    def away(self) -> float:
        now = time.monotonic() if self.state in _AWAY else self.since
        return self._away + now - self.since

    def retry_now(self) -> None:
        self._retry()

    def become(self, state: LinkState, reason: str = "") -> None:
        """Change, and tell once; a watcher that raises harms nobody."""
        if (state, reason) == (self.state, self.reason):
            return
        self._away = self.away
        self.state, self.reason, self.since = state, reason, time.monotonic()
        for told in list(self._watchers.values()):
            try:
                told(state, reason)
            except Exception:
                _log.exception("a watcher of the link raised")


def void(_: object) -> None:
    """Drop a value where a callback must return none."""
