"""The workers of one journal on this machine: who lives, and how they ring one another.

Each worker has a lock file, which the kernel unlocks when its process dies, and which holds its
process id: a pidfd of that tells the others at once. Beside it lies a FIFO; a byte in it is the
bell. Whatever rings and is not heard is found by the sweep.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

_RING, _JOINED = b".", b"+"


class Workers:
    """The folder beside a journal in which its workers are to be found."""

    def __init__(self, folder: Path, own: str) -> None:
        self._folder, self._own = folder, own
        self._lock = self._bell = -1
        self._watched: dict[str, int] = {}  # the pidfd of each other; -1 where there is none
        self._loop: asyncio.AbstractEventLoop | None = None

    def join(self, rung: Callable[[], None], died: Callable[[str], None]) -> None:
        """Be found; *rung* is called when somebody rings, *died* when another worker dies."""
        self._loop = asyncio.get_running_loop()
        self._rung, self._died = rung, died
        self._folder.mkdir(mode=0o700, exist_ok=True)
        bell = self._folder / f"{self._own}.bell"
        os.mkfifo(bell, 0o600)
        self._bell = os.open(bell, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop.add_reader(self._bell, self._heard)
        new = self._folder / f".{self._own}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._lock = os.open(new, flags, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.write(self._lock, str(os.getpid()).encode())
        new.rename(self._folder / f"{self._own}.lock")  # nobody meets it unlocked
        self.scan()
        self.ring(self._watched, _JOINED)

    def leave(self) -> None:
        if self._loop is None:
            return
        self._loop.remove_reader(self._bell)
        for other in tuple(self._watched):
            self._forget(other)
        self.remove(self._own)
        os.close(self._bell)
        os.close(self._lock)
        self._loop = None

    def scan(self) -> None:
        """Watch those that are new, and no more those that have left."""
        found = {path.stem for path in self._folder.glob("*.lock")} - {self._own}
        for other in found - self._watched.keys():
            self._watch(other)
        for other in self._watched.keys() - found:
            self._forget(other)
        for other in [one for one, fd in self._watched.items() if fd < 0]:
            self.check(other)

    @property
    def others(self) -> Iterable[str]:
        return self._watched.keys()

    def ring(self, others: Iterable[str], word: bytes = _RING) -> None:
        for other in tuple(others):
            with suppress(OSError):
                bell = os.open(
                    self._folder / f"{other}.bell", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC
                )
                try:
                    os.write(bell, word)
                finally:
                    os.close(bell)

    def check(self, other: str) -> None:
        """Tell of *other*, once, if its lock is free: it is dead."""
        path = self._folder / f"{other}.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            self._forget(other)
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # others look, too
        except BlockingIOError:
            return
        finally:
            os.close(descriptor)
        self._forget(other)
        self._died(other)

    def _heard(self) -> None:
        with suppress(BlockingIOError):
            if _JOINED in os.read(self._bell, 4096):
                self.scan()
        self._rung()

    def _watch(self, other: str) -> None:
        self._watched[other] = -1
        with suppress(OSError, ValueError, AttributeError):  # gone, or a system without pidfds
            process = int((self._folder / f"{other}.lock").read_text("ascii"))
            pidfd = self._watched[other] = os.pidfd_open(process)
            assert self._loop is not None
            self._loop.add_reader(pidfd, self._ended, other)
        self.check(other)

    def _ended(self, other: str) -> None:
        self._forget(other)
        self._watched[other] = -1  # until its lock is free
        self.check(other)

    def _forget(self, other: str) -> None:
        pidfd = self._watched.pop(other, -1)
        if pidfd >= 0 and self._loop is not None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)

    def remove(self, worker: str) -> None:
        """What a worker has here, which leaves, or is dead."""
        for name in f"{worker}.lock", f"{worker}.bell":
            (self._folder / name).unlink(missing_ok=True)
