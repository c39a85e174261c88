"""Open a file on a host so that what was checked is what is read.

The file is opened first; that it is regular, small enough and below a root is then asked of what
was opened. A link that is swapped meanwhile changes what is opened or what is refused, never both.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_IMODE, S_ISDIR, S_ISREG
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from optio_agents.errors import CommandTimedOut, FileRefused, HostError
from optio_agents.hosts.machine import Answer
from optio_agents.hosts.scripting import refusal, script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from optio_agents.errors import OptioAgentsError
    from optio_agents.hosts.machine import Machine, Process


_INLINE = 262_144  # bytes that come in the round trip that opens
_OPENING = 10.0  # seconds: a FIFO that was swapped in keeps no caller longer
_HASHING = 20e6  # bytes a second that any host hashes
_HEADER_LIMIT = 16_384  # bytes
_PIECE = 1 << 20  # bytes
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # nothing that the file could help
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}  # no file can have such a name
_F_GETPATH = 50  # of macOS


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """What was found out about a file after it was opened."""

    mode: int  # its permission bits
    size: int
    identity: str  # device, inode, size and time of the last change of its content
    real_path: str
    prefix: str = "-"  # the SHA-256 of what stands before the offset

    @classmethod
    def parse(cls, header: bytes) -> OpenedFile:
        """Read what open.sh says. Raises ValueError."""
        looks, prefix, real_path = header.decode(errors="surrogateescape").split("\n", 2)
        mode, size, device, inode, changed = looks.split(" ", 4)
        identity = f"{device}:{inode}:{size}:{changed}"
        return cls(int(mode, 16) & 0o777, int(size), identity, real_path, prefix)


@dataclass(frozen=True, slots=True)
class Confined:
    """A regular file on a host, open. Raises FileRefused when it changes while it is read."""

    path: str
    seen: OpenedFile
    pieces: Callable[[], Awaitable[list[bytes]]]
    """The next bytes; none at the end, once it is known that the file stayed as it was."""

    @property
    def size(self) -> int:
        return self.seen.size

    @property
    def identity(self) -> str:
        return self.seen.identity

    @property
    def real_path(self) -> str:
        return self.seen.real_path

    async def read(self) -> bytes:
        """All bytes, those excepted that were read before."""
        whole = []
        while pieces := await self.pieces():
            whole += pieces
        return b"".join(whole)


@asynccontextmanager
async def open_confined(
    machine: Machine, path: str, root: str = "", *, limit: int | None = None, offset: int = 0
) -> AsyncIterator[Confined]:
    """Open *path*, whose real path must lie below *root*, to be read from *offset* on.

    Never waits for a FIFO. Raises FileRefused with the reason, HostLost, CommandTimedOut.
    """
    if machine.is_local:
        async with _open_here(path, root, limit=limit, offset=offset) as file:
            yield file
        return
    args = [path, root.rstrip("/"), "-" if limit is None else str(limit)]
    text = script("hosts/refuse", "hosts/files/open")
    if not offset:
        small = [*args, str(_INLINE), "0"]
        answer = await machine.ask(text, small, seconds=_OPENING)
        why = refusal(answer, path, "open") if answer.exit_code else None
        if why is None:
            header, _, data = answer.stdout.partition(b"\0")
            seen, rest = OpenedFile.parse(header), [data] if data else []
            if len(data) != seen.size:
                raise _changed(path)

            async def more() -> list[bytes]:
                pieces = rest.copy()
                rest.clear()
                return pieces

            yield Confined(path, seen, more)
            return
        if not (isinstance(why, FileRefused) and why.reason == "inline"):
            raise why
    args = [*args, "-", str(offset)]
    async with machine.shell(text, args, bulk=True) as process:
        await process.close_input()
        yield await _from_process(path, process, offset)


async def _from_process(path: str, process: Process, offset: int) -> Confined:
    said = bytearray()
    with anyio.move_on_after(_OPENING + offset / _HASHING) as opening:
        while b"\0" not in said and len(said) < _HEADER_LIMIT:
            if not (data := await process.read()):
                break
            said += data
    if opening.cancelled_caught:
        raise CommandTimedOut(f"{path} did not open in time")
    if b"\0" not in said:
        raise await _ask_why(path, process)
    header, _, first = bytes(said).partition(b"\0")
    seen = OpenedFile.parse(header)
    ahead, left = [first] if first else [], seen.size - offset

    async def more() -> list[bytes]:  # up to the exit code, which says whether the file stayed
        nonlocal ahead, left
        pieces, ahead = ahead or await process.read_pieces(), []
        left -= sum(map(len, pieces))
        if not pieces and await process.wait():
            raise await _ask_why(path, process)
        if left < 0 or (left and not pieces):
            raise _changed(path)
        return pieces

    return Confined(path, seen, more)


async def _ask_why(path: str, process: Process) -> OptioAgentsError:
    code, words = await process.wait(), bytearray()
    while data := await process.read_error():
        words += data
    return refusal(Answer(code, b"", bytes(words)), path, "open") if code else _changed(path)


def _changed(path: str) -> FileRefused:
    return FileRefused(path, "changed", "changed while it was read")


@asynccontextmanager
async def _open_here(
    path: str, root: str, *, limit: int | None, offset: int
) -> AsyncIterator[Confined]:
    """The same promise for a file of this machine: without a shell in between."""
    fd = await anyio.to_thread.run_sync(_open, path)
    try:
        was = os.fstat(fd)
        seen = await anyio.to_thread.run_sync(_examine, fd, path, root, limit, offset)

        async def more() -> list[bytes]:
            data = await anyio.to_thread.run_sync(os.read, fd, _PIECE)
            at, now = os.lseek(fd, 0, os.SEEK_CUR), os.fstat(fd)
            before = was.st_size, was.st_size, was.st_mtime_ns
            if not data and (at, now.st_size, now.st_mtime_ns) != before:
                raise _changed(path)
            return [data] if data else []

        yield Confined(path, seen, more)
    finally:
        os.close(fd)


def _open(path: str) -> int:
    try:
        _refuse_special(path, os.stat(path))  # noqa: PTH116 - opening a device may act on it
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _ABSENT:
            raise FileRefused(path, "missing", "does not exist") from None
        if error.errno in _OURS:
            raise HostError(f"{path} could not be opened: {error.strerror}") from error
        raise FileRefused(path, "unreadable", f"cannot be read: {error.strerror}") from error


def _examine(fd: int, path: str, root: str, limit: int | None, offset: int) -> OpenedFile:
    was = os.fstat(fd)
    _refuse_special(path, was)
    real_path = _real_path(fd, path)
    if root:
        _refuse_outside(path, real_path, root)
        if was.st_nlink > 1:
            raise FileRefused(path, "linked", "has other names, maybe elsewhere")
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
