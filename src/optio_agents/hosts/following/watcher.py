"""One watcher for all files that are followed on an event loop.

It owns no task and no thread: it lives on the loop's own callbacks. The file system rings; a slow
sweep beneath looks at what rang no bell; where nothing can ring, a poll does.
"""

from __future__ import annotations

import asyncio
from typing import Protocol
from weakref import WeakKeyDictionary

from optio_agents.concurrency import name_library
from optio_agents.hosts.following.sent.inotify import SWEEP, InotifySource, poll_pause


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
        self._source: InotifySource[Watched] = InotifySource()
        self._watched: set[Watched] = set()
        self._bell = -1
        self._sweeper = loop.call_later(SWEEP, self._sweep)
        self._poller: asyncio.TimerHandle | None = None

    def add(self, watched: Watched) -> None:
        self._watched.add(watched)
        self.listen(watched)

    def remove(self, watched: Watched) -> None:
        """Stop ringing for it. When nobody is left, all is let go."""
        self._source.listen(watched, set())
        self._watched.remove(watched)
        if self._watched:
            return
        del _watchers[self._loop]
        self._sweeper.cancel()
        if self._poller is not None:
            self._poller.cancel()
        if self._bell >= 0:
            self._loop.remove_reader(self._bell)
        self._source.close()

    def listen(self, watched: Watched) -> None:
        """Hear of what its path leads to by now."""
        self._source.listen(watched, watched.paths())
        self._tune()

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
        for watched in self._source.changed():
            watched.ring()
        if self._poller is None and self._source.unwatched():  # a directory has gone, and its watch
            self._poll_later()

    def _sweep(self) -> None:
        self._sweeper = self._loop.call_later(SWEEP, self._sweep)
        self._source.renew()
        for watched in tuple(self._watched):
            self._source.listen(watched, watched.paths())
            watched.check()
        self._tune()

    def _poll_later(self) -> None:
        unwatched = self._source.unwatched()
        self._poller = None
        if unwatched:
            pause = poll_pause(len(unwatched))
            self._poller = self._loop.call_later(pause, self._poll, unwatched)

    def _poll(self, unwatched: set[Watched]) -> None:
        for watched in unwatched & self._watched:
            watched.check()
        self._poll_later()


_watchers: WeakKeyDictionary[asyncio.AbstractEventLoop, Watcher] = WeakKeyDictionary()


def watcher() -> Watcher:
    """The one of this loop. `add` to it at once: it is let go of when nobody is left."""
    name_library()  # its callbacks run in the context of this moment
    loop = asyncio.get_running_loop()
    return _watchers.get(loop) or _watchers.setdefault(loop, Watcher(loop))
