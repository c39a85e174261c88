"""inotify through ctypes: which of some paths may have changed.

Sent to hosts as source: nothing newer than Python 3.7 here. A bell, never the truth: inotify
cannot tell truncation from writing, and says nothing of what other hosts do to a network file
system.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Generic, TypeVar

from optio_agents.mounts import mount_table, on_network

# ruff: noqa: PTH114 - a path here is bytes


_MODIFY, _MOVED_FROM, _MOVED_TO, _CREATE = 0x2, 0x40, 0x80, 0x100
_DELETE, _DELETE_SELF, _MOVE_SELF = 0x200, 0x400, 0x800
_OVERFLOW, _IGNORED, _ONLY_DIRECTORY = 0x4000, 0x8000, 0x1000000
_NAMES = _MODIFY | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_MASK = _NAMES | _DELETE_SELF | _MOVE_SELF | _ONLY_DIRECTORY
_EVENT = struct.Struct("iIII")
_BUFFER = 8192  # bytes: a larger one costs more to make than it saves

SWEEP = 2.5  # seconds between two cheap looks at every file: not all that happens rings a bell
_POLL = 0.05  # seconds between two looks at those that cannot be heard …
_POLL_EACH = 0.0005  # … and for each of them, so that any number takes about 1 % of a core

Who = TypeVar("Who")


class Inotify:
    """One inotify instance. Raises OSError where there is none to be had."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._add, self._remove = library.inotify_add_watch, library.inotify_rm_watch
        self._descriptor = _checked(library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def fileno(self) -> int:
        return self._descriptor

    def add(self, directory: bytes) -> int:
        """The number of its watch, the same as long as the path leads to the same directory."""
        return _checked(self._add(self._descriptor, directory, ctypes.c_uint32(_MASK)))

    def remove(self, watch: int) -> None:
        self._remove(self._descriptor, watch)

    def read(self) -> list[tuple[int, int, bytes]]:
        """Watch number, mask and name of each event that waits; does not wait itself."""
        try:
            data = os.read(self._descriptor, _BUFFER)
        except BlockingIOError:
            return []
        events, at = [], 0
        while at < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + length
            events.append((watch, mask, data[at - length : at].rstrip(b"\0")))
        return events

    def close(self) -> None:
        os.close(self._descriptor)


class InotifySource(Generic[Who]):
    """Who listens to which paths; whose may have changed, by watching their directories.

    What cannot be watched, and where others write unheard, is to be looked at every so often.
    """

    def __init__(self) -> None:
        self._paths: dict[Who, set[bytes]] = {}  # what each listens to
        self._names: dict[bytes, dict[bytes, set[Who]]] = {}  # directory -> name in it -> who
        self._watches: dict[bytes, int] = {}  # directory -> watch
        self._directories: dict[int, set[bytes]] = {}  # watch -> names of one directory
        self._deaf: set[bytes] = set()  # directories without a watch
        self._remote: set[bytes] = set()  # directories where others write unheard
        self._mounts = mount_table()
        self._inotify: Inotify | None = None

    def fileno(self) -> int:
        """To be waited for until readable; -1 where there is nothing to wait for."""
        return self._inotify.fileno() if self._inotify else -1

    def listen(self, who: Who, paths: set[bytes]) -> None:
        """From now on *who* listens to these paths and to no others."""
        before = self._paths.pop(who, set())
        if paths:
            self._paths[who] = paths
        for path in paths - before:
            self._add(who, *os.path.split(path))
        for path in before - paths:
            self._remove(who, *os.path.split(path))

    def renew(self) -> None:
        """Watch what could not be watched before, and what a path leads to by now."""
        self._mounts = mount_table()
        for directory in self._names:
            self._watch(directory)

    def unwatched(self) -> set[Who]:
        """Who has a path whose changes are not heard."""
        return {who for place in self._deaf | self._remote for who in self._all_in(place)}

    def changed(self) -> set[Who]:
        """Who has a path that may have changed since the last time."""
        found: set[Who] = set()
        for watch, mask, name in self._inotify.read() if self._inotify else ():
            if mask & _OVERFLOW:
                return found.union(self._paths)
            for directory in self._directories.get(watch, ()):
                if name:
                    found |= self._names[directory].get(name, set())
                else:  # something happened to the directory itself
                    found |= self._all_in(directory)
            if mask & _IGNORED:
                for directory in tuple(self._directories.get(watch, ())):
                    self._forget(directory)
        return found

    def close(self) -> None:
        if self._inotify:
            self._inotify.close()
            self._inotify = None

    def _add(self, who: Who, directory: bytes, name: bytes) -> None:
        known = directory in self._names
        self._names.setdefault(directory, {}).setdefault(name, set()).add(who)
        if not known:
            if on_network(directory, self._mounts):
                self._remote.add(directory)
            self._watch(directory)

    def _remove(self, who: Who, directory: bytes, name: bytes) -> None:
        names = self._names[directory]
        names[name].remove(who)
        if not names[name]:
            del names[name]
        if not names:
            del self._names[directory]
            self._unwatch(directory)
            self._remote.discard(directory)
            self._deaf.discard(directory)

    def _all_in(self, directory: bytes) -> set[Who]:
        return {who for names in self._names[directory].values() for who in names}

    def _watch(self, directory: bytes) -> None:
        try:
            self._inotify = self._inotify or Inotify()
            watch = self._inotify.add(directory)
        except (OSError, AttributeError):  # none left, no such directory, no inotify here
            self._unwatch(directory)
        else:
            if self._watches.get(directory, watch) != watch:
                self._unwatch(directory)
            self._watches[directory] = watch
            self._deaf.discard(directory)
            self._directories.setdefault(watch, set()).add(directory)

    def _unwatch(self, directory: bytes) -> None:
        watch = self._forget(directory)
        if self._inotify and watch is not None and watch not in self._directories:
            self._inotify.remove(watch)

    def _forget(self, directory: bytes) -> int | None:
        self._deaf.add(directory)
        watch = self._watches.pop(directory, None)
        if watch is not None:
            self._directories[watch].discard(directory)
            if not self._directories[watch]:
                del self._directories[watch]
        return watch


def poll_pause(unwatched: int) -> float:
    """Seconds until so many that cannot be heard are looked at again."""
    return max(_POLL, _POLL_EACH * unwatched)


def names_of(path: bytes) -> set[bytes]:
    """The path, and what it leads to: changes may be heard of under either."""
    return {path, os.path.realpath(path)} if os.path.islink(path) else {path}


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
