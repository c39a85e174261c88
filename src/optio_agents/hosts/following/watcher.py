"""One watcher for all files that are followed on an event loop.

It owns no task and, on Linux, no thread: it lives on the loop's own callbacks. The file system
rings; a slow sweep beneath looks at what rang no bell; where nothing can ring, a poll does.
"""

from __future__ import annotations

import asyncio
from typing import Protocol
from weakref import WeakKeyDictionary

from optio_agents.concurrency import name_library
from optio_agents.hosts.following.sent.inotify import InotifySource

SWEEP = 2.5  # seconds between two looks at every file
_POLL = 0.05  # seconds between two looks at those that cannot be heard …
_POLL_EACH = 0.0005  # … and for each of them, so that any number takes about 1 % of a core


class Watched(Protocol):
    """Who follows a file."""

    def ring(self) -> None:
        """The file may have changed."""

    def check(self) -> None:
        """Ring if a cheap look says that it has."""

    def paths(self) -> set[bytes]:
        """What to listen to: the path, and what it leads to."""


class Watcher:
    """Rings for whoever follows a file; `watcher` gives that of this event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._source = InotifySource()
        self._watched: dict[Watched, set[bytes]] = {}
        self._by_path: dict[bytes, set[Watched]] = {}
        self._bell = -1
        self._sweeper: asyncio.TimerHandle | None = None
        self._poller: asyncio.TimerHandle | None = None

    def add(self, watched: Watched) -> None:
        self._watched[watched] = set()
        self.listen(watched)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP, self._sweep)

    def remove(self, watched: Watched) -> None:
        """Stop ringing for it. When nobody is left, all is let go."""
        self._listen(watched, set())
        del self._watched[watched]
        if not self._watched:
            self._close()

    def listen(self, watched: Watched) -> None:
        """Hear of what its path leads to by now."""
        self._listen(watched, watched.paths())
        self._tune()

    def _listen(self, watched: Watched, paths: set[bytes]) -> None:
        before = self._watched[watched]
        for path in paths - before:
            if path not in self._by_path:
                self._source.add(path)
            self._by_path.setdefault(path, set()).add(watched)
        for path in before - paths:
            self._by_path[path].remove(watched)
            if not self._by_path[path]:
                del self._by_path[path]
                self._source.remove(path)
        self._watched[watched] = paths

    def _tune(self) -> None:
        """Wait for the bell that there is by now, and poll while something is not heard."""
        bell = self._source.fileno()
        if bell != self._bell:
            if self._bell >= 0:
                self._loop.remove_reader(self._bell)
            if bell >= 0:
                self._loop.add_reader(bell, self._take)
            self._bell = bell
        if self._poller is None:
            self._poll_later()

    def _take(self) -> None:
        for path in self._source.changed():
            for watched in self._by_path.get(path, ()):
                watched.ring()
        if self._poller is None and self._source.unwatched():  # a directory has gone, and its watch
            self._poll_later()

    def _sweep(self) -> None:
        self._sweeper = self._loop.call_later(SWEEP, self._sweep)
        self._source.renew()
        for watched in tuple(self._watched):
            self._listen(watched, watched.paths())
            watched.check()
        self._tune()

    def _poll_later(self) -> None:
        unwatched = self._source.unwatched()
        self._poller = None
        if unwatched:
            self._poller = self._loop.call_later(
                max(_POLL, _POLL_EACH * len(unwatched)), self._poll, unwatched
            )

    def _poll(self, unwatched: set[bytes]) -> None:
        for path in unwatched:
            for watched in self._by_path.get(path, ()):
                watched.check()
        self._poll_later()

    def _close(self) -> None:
        del _watchers[self._loop]
        for timer in (self._sweeper, self._poller):
            if timer is not None:
                timer.cancel()
        if self._bell >= 0:
            self._loop.remove_reader(self._bell)
        self._source.close()


_watchers: WeakKeyDictionary[asyncio.AbstractEventLoop, Watcher] = WeakKeyDictionary()


def watcher() -> Watcher:
    """The one of this loop. `add` to it at once: it is let go of when nobody is left."""
    name_library()  # its callbacks run in the context of this moment
    loop = asyncio.get_running_loop()
    return _watchers.get(loop) or _watchers.setdefault(loop, Watcher(loop))
