"""The same promise as `confined`, for files of this machine: without a shell in between."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from stat import S_IMODE, S_ISDIR, S_ISREG
from typing import TYPE_CHECKING

import anyio.to_thread

from optio_agents.errors import FileRefused, HostError

from .confined import Confined, OpenedFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


_PIECE = 1 << 20  # bytes
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # nothing that the file could help
_F_GETPATH = 50  # of macOS


@asynccontextmanager
async def open_here(
    path: str, root: str, *, limit: int | None, offset: int
) -> AsyncIterator[Confined]:
    """See `confined.open_confined`."""
    fd = await anyio.to_thread.run_sync(_open, path)
    try:
        was = os.fstat(fd)
        seen = await anyio.to_thread.run_sync(_look, fd, path, root, limit, offset)

        async def more() -> list[bytes]:
            data = await anyio.to_thread.run_sync(os.read, fd, _PIECE)
            if not data and not (_same(was, os.fstat(fd)) and _at(fd) == was.st_size):
                raise FileRefused(path, "changed", "changed while it was read")
            return [data] if data else []

        yield Confined(path, seen, more)
    finally:
        os.close(fd)


def _open(path: str) -> int:
    try:
        _refuse_special(path, os.stat(path))  # noqa: PTH116 - opening a device may act on it
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise FileRefused(path, "missing", "does not exist") from None
    except OSError as error:
        if error.errno in _OURS:
            raise HostError(f"{path} could not be opened: {error.strerror}") from error
        raise FileRefused(path, "unreadable", f"cannot be read: {error.strerror}") from error


def _look(fd: int, path: str, root: str, limit: int | None, offset: int) -> OpenedFile:
    was = os.fstat(fd)
    _refuse_special(path, was)
    real_path = _real_path(fd, path)
    if root:
        _refuse_outside(path, real_path, root)
    if limit is not None and was.st_size > limit:
        raise FileRefused(path, "too-large", f"has {was.st_size} bytes, more than {limit}")
    identity = f"{was.st_dev}:{was.st_ino}:{was.st_size}:{was.st_mtime_ns}"
    prefix = _read_over(fd, offset) if offset else "-"
    return OpenedFile(S_IMODE(was.st_mode) & 0o777, was.st_size, identity, real_path, prefix)


def _refuse_special(path: str, seen: os.stat_result) -> None:
    if S_ISDIR(seen.st_mode):
        raise FileRefused(path, "directory", "is a directory")
    if not S_ISREG(seen.st_mode):
        raise FileRefused(path, "special", "is no regular file")


def _refuse_outside(path: str, real_path: str, root: str) -> None:
    top = Path(root)
    if top.is_symlink():
        raise FileRefused(path, "outside", f"leads out: {root} is a symbolic link")
    if not Path(real_path).is_relative_to(Path(os.path.realpath(top.parent), top.name)):
        raise FileRefused(path, "outside", f"leads out of {root}")


def _real_path(fd: int, path: str) -> str:
    try:
        if sys.platform == "darwin":
            return os.fsdecode(fcntl.fcntl(fd, _F_GETPATH, bytes(1024)).rstrip(b"\0"))
        return os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - a name, not a path
    except OSError as error:
        raise FileRefused(path, "unreadable", "where it lies cannot be told") from error


def _read_over(fd: int, size: int) -> str:
    digest = hashlib.sha256()
    while size and (data := os.read(fd, min(size, _PIECE))):
        digest.update(data)
        size -= len(data)
    return digest.hexdigest()


def _same(was: os.stat_result, now: os.stat_result) -> bool:
    return (was.st_size, was.st_mtime_ns) == (now.st_size, now.st_mtime_ns)


def _at(fd: int) -> int:
    return os.lseek(fd, 0, os.SEEK_CUR)
