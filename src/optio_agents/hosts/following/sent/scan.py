"""Looks at one file, again and again, and says what came.

Sent to hosts as source: nothing newer than Python 3.7 here. Nothing here waits, but for the disk.
"""

from __future__ import annotations

import errno
import os
import resource
import stat
from typing import TYPE_CHECKING, NamedTuple

from optio_agents.framing.compare import (
    NOTHING,
    REPLACED,
    TRUSTED_AFTER,
    FileChunk,
    Place,
    behind_hole,
    decide,
    digest,
    last_bytes,
)

if TYPE_CHECKING:
    from optio_agents.framing.batches import ProcessIdentity

# ruff: noqa: PTH110, PTH115, PTH116 - a path here is bytes, and each call is one system call


CHUNK = 262_144  # bytes of one look: beyond it nothing gets faster, and the others wait
_SHARE = 4  # we keep open at most this part of the descriptors that the process may have
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MISSING = (errno.ENOENT, errno.ENOTDIR)
_REFUSED = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)


class Refused(Exception):
    """The path leads to nothing that can be followed."""

    def __init__(self, reason: str, detail: str) -> None:
        Exception.__init__(self, reason, detail)
        self.reason, self.detail = reason, detail


class Scan:
    """The one reader of a file. `place` is behind all that its looks have given.

    Keeps the file open where it may, so that what was written to it before it was replaced is
    not missed. With *process*, and after `finish`, a look that finds nothing more is final.
    """

    held = 0  # descriptors, of all scans

    def __init__(
        self,
        path: bytes,
        place: Place,
        *,
        root: bytes = b"",
        process: ProcessIdentity | None = None,
        hold: bool = True,
    ) -> None:
        self.path, self.place = path, place
        self._root, self._process, self._hold = root, process, hold
        self._ended = False
        self._descriptor, self._identity = -1, (0, 0)
        self._window: bytes | None = None  # the bytes before the place, once they are known
        self._introduced = not place.window  # the reader knows the bytes before its place
        self._stamp: tuple[int, ...] = (-1,)
        self._since = 0.0  # when the stamp was seen first
        self._trusted = False  # nobody can have written since without changing the stamp

    def finish(self) -> None:
        """The writer has ended: the next look that finds nothing more is final."""
        self._ended = True

    def may_have_changed(self, now: float) -> bool:
        """A look would be worth its while. Cheap; sees no rewrite that keeps size and times."""
        if self._process is not None and not self._ended:
            self._ended = gone(self._process)
            if self._ended:
                return True
        try:
            stamp = _stamp(self._find())
        except Refused:
            return True
        return stamp != self._stamp or not (self._trusted or now < self._since + TRUSTED_AFTER)

    def next_chunk(self, now: float, size: int = CHUNK) -> FileChunk:
        """The next bytes, at most *size* of them. Raises Refused."""
        try:
            chunk = self._look(now, size)
        except OSError:  # a sick disk, no descriptor left: another look may be luckier
            self.close()
            self._stamp = (-1,)
            return FileChunk(self.place.device, self.place.inode, offset=self.place.offset)
        if not self._ended:
            return chunk
        if chunk.data:  # there may be more: only a look that finds nothing is the last
            return chunk._replace(at_end=False)
        return chunk._replace(final=chunk.at_end or chunk.missing)

    def close(self) -> None:
        """Let go of the file. Twice is fine, and a later look opens it again."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            Scan.held -= 1

    def _look(self, now: float, size: int) -> FileChunk:
        found = self._find()
        if self._descriptor >= 0:
            if found is not None and _identity(found) == self._identity:
                return self._read(found, now, size)
            chunk = self._read(os.fstat(self._descriptor), now, size)
            if chunk.at_end:  # else somebody who goes on writing to the old file would keep us
                self.close()
            if chunk.data or chunk.fresh:
                return chunk._replace(at_end=False)
            self.close()
        if found is None:
            self._note((), now)
            return FileChunk(missing=True)
        status = self._open(found)
        try:
            return self._read(status, now, size)
        finally:
            if not self._hold or Scan.held > _allowance():
                self.close()

    def _find(self) -> os.stat_result | None:
        try:
            return os.stat(self.path)
        except OSError as error:
            if error.errno in _MISSING:
                return None
            if error.errno in _REFUSED:
                raise Refused("unreadable", os.strerror(error.errno)) from error
            raise

    def _open(self, found: os.stat_result) -> os.stat_result:
        expect_regular(found.st_mode)  # before the open: to open a device can mean something to it
        try:
            self._descriptor = os.open(self.path, _FLAGS)
        except PermissionError as error:
            raise Refused("unreadable", os.strerror(errno.EACCES)) from error
        Scan.held += 1
        status = os.fstat(self._descriptor)
        self._identity = _identity(status)
        expect_regular(status.st_mode)
        # Below where the root really was when it was named: it may be a link by now.
        top = self._root.rstrip(b"/") + b"/"
        if self._root and not _real_path(self._descriptor, self.path).startswith(top):
            raise Refused("outside", "leads out of " + os.fsdecode(self._root))
        return status

    def _read(self, status: os.stat_result, now: float, size: int) -> FileChunk:
        place = self.place
        self._note(_stamp(status), now)
        start = place.offset - place.window
        wanted = min(place.window + size, max(status.st_size - start, place.window))
        # One read for both: what was compared is what the data stands behind.
        found = os.pread(self._descriptor, wanted, start)
        window, data = found[: place.window], found[place.window :]
        age, intact = now - self._since, self._is_intact(window)
        verdict = decide(place, status.st_ino, status.st_size, age=age, intact=intact)
        fresh = verdict == REPLACED
        if fresh:
            self._introduced, window, place = True, b"", Place()
            data = os.pread(self._descriptor, min(size, status.st_size), 0)
        self._trusted = verdict == NOTHING
        introduction, self._introduced = b"" if self._introduced else window, True
        offset = place.offset + len(data)
        hole = self._hole(offset, status.st_size) if len(data) == size and not any(data) else 0
        self._window = behind_hole(last_bytes(window, data, len(data)), hole)
        offset += hole
        self.place = Place(status.st_dev, status.st_ino, offset, "", len(self._window))
        return FileChunk(
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            place.offset,
            data,
            introduction,
            fresh,
            at_end=offset >= status.st_size,
            hole=hole,
        )

    def _hole(self, offset: int, size: int) -> int:
        """How many zeros begin there that stand on no disk: a sparse file may have terabytes."""
        try:
            return os.lseek(self._descriptor, offset, os.SEEK_DATA) - offset
        except (OSError, AttributeError) as error:
            return max(size - offset, 0) if getattr(error, "errno", 0) == errno.ENXIO else 0

    def _is_intact(self, window: bytes) -> bool:
        if self._window is None:  # all we have is the cursor's word
            return digest(window) == self.place.tail
        return window == self._window

    def _note(self, stamp: tuple[int, ...], now: float) -> None:
        if stamp != self._stamp:
            self._stamp, self._since, self._trusted = stamp, now, not stamp


def _stamp(status: os.stat_result | None) -> tuple[int, ...]:
    if status is None:
        return ()
    times = status.st_mtime_ns, status.st_ctime_ns
    return (status.st_dev, status.st_ino, status.st_size, *times)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def expect_regular(mode: int) -> None:
    """Raises Refused for what a *mode* says to be no regular file."""
    if stat.S_ISDIR(mode):
        raise Refused("directory", "is a directory")
    if not stat.S_ISREG(mode):
        raise Refused("special", "is no regular file")


def _real_path(descriptor: int, path: bytes) -> bytes:
    try:
        return os.readlink(b"/proc/self/fd/%d" % descriptor)
    except OSError:  # no /proc here
        return os.path.realpath(path)


def _allowance() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit // _SHARE if limit > 0 else 1 << 16


# Whether a process is still the same one, and still there.


_BOOT = "/proc/sys/kernel/random/boot_id"


class Named(NamedTuple):
    """A process for all time."""

    pid: int
    start: int  # clock ticks after boot
    boot: str


def gone(process: ProcessIdentity) -> bool:
    """It has ended: a zombie has, and so has a pid that is somebody else's by now."""
    try:
        if _read(_BOOT).strip() != process.boot:
            return True
        return not same(_read(f"/proc/{process.pid}/stat"), process.start)
    except (FileNotFoundError, ProcessLookupError):
        return os.path.exists(_BOOT) or not _answers(process.pid)
    except OSError:  # out of descriptors, say: ask again later
        return False


def same(line: str, start: int) -> bool:
    """*line*, from /proc/PID/stat, tells of a living process that began at *start*."""
    words = line.rpartition(")")[2].split()
    return len(words) > 19 and words[0] not in "ZX" and int(words[19]) == start


def _answers(pid: int) -> bool:  # no /proc: the pid is all there is
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096).decode("utf-8", "replace")
    finally:
        os.close(descriptor)
