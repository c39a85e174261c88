"""The bell of systems without inotify: watchfiles, in one thread."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

from watchfiles._rust_notify import RustNotify

# ruff: noqa: PTH118, PTH119, PTH120 - a path here is bytes


_STEP = 10  # ms between two looks of the thread at what the system has told it
_DEBOUNCE = 50  # ms for which neighbouring changes are gathered at most
_LOOK_UP = 500  # ms after which the thread looks up when nothing comes
_ENDING = 2.0  # seconds that it may take to end


class WatchfilesSource:
    """Which of some paths may have changed, as `InotifySource` says it."""

    def __init__(self) -> None:
        self._paths: dict[bytes, set[bytes]] = {}  # directory -> the paths in it
        self._listening: frozenset[bytes] = frozenset()
        self._changed: set[bytes] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._bell, self._rope = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._rope, False)

    def fileno(self) -> int:
        return self._bell

    def add(self, path: bytes) -> None:
        self._paths.setdefault(os.path.dirname(path), set()).add(path)
        if self._thread is None:  # else it is polled until all new ones are heard together
            self.renew()

    def remove(self, path: bytes) -> None:
        directory = os.path.dirname(path)
        self._paths[directory].remove(path)
        if not self._paths[directory]:
            del self._paths[directory]

    def renew(self) -> None:
        """Listen to the directories that there are by now."""
        wanted = frozenset(filter(os.path.isdir, self._paths))
        if wanted <= self._listening:
            return
        self._silence()
        with suppress(OSError, RuntimeError, ValueError):  # else all is polled until the next time
            names = [os.fsdecode(os.path.realpath(directory)) for directory in wanted]
            notify = RustNotify(names, False, False, 0, False, True)
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._listen, args=(notify, self._stop), name="watchfiles", daemon=True
            )
            self._thread.start()
            self._listening = wanted
        self._ring(set(map(os.path.realpath, wanted)))  # what changed meanwhile was not heard

    def unwatched(self) -> set[bytes]:
        unheard = [d for d in self._paths if d not in self._listening]
        return {path for directory in unheard for path in self._paths[directory]}

    def changed(self) -> set[bytes]:
        with suppress(BlockingIOError):
            os.read(self._bell, 4096)
        with self._lock:
            changed, self._changed = self._changed, set()
        found = set[bytes]()
        for directory, paths in self._paths.items():
            real = os.path.realpath(directory)
            found |= {p for p in paths if os.path.join(real, os.path.basename(p)) in changed}
            if real in changed:
                found |= paths
        return found

    def close(self) -> None:
        self._silence()
        os.close(self._bell)
        os.close(self._rope)

    def _silence(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_ENDING)
        self._thread, self._listening = None, frozenset()

    def _listen(self, notify: RustNotify, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                changes = notify.watch(_DEBOUNCE, _STEP, _LOOK_UP, stop)
            except RuntimeError:  # a name that is no text: it never gets over that
                self._listening = frozenset()
                self._ring(set(map(os.path.realpath, tuple(self._paths))))
                break
            if isinstance(changes, set):
                self._ring({os.fsencode(name) for _, name in changes})
        notify.close()

    def _ring(self, names: set[bytes]) -> None:
        with self._lock:
            self._changed |= names
        with suppress(BlockingIOError, OSError):  # it has rung already; it was closed
            os.write(self._rope, b"!")
