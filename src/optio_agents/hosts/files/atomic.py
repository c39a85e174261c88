"""Keeping what an agent handed over, in a directory of ours, whatever its name is."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from stat import S_IMODE
from typing import TYPE_CHECKING, BinaryIO

from optio_agents.errors import TransferFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


# How a file lands on this machine: under a name of its own, and in its place once it is whole.


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class AtomicFile:
    """A place for bytes. What the operating system refuses is a TransferFailed."""

    file: BinaryIO | None
    target: Path | None = None
    temporary: Path | None = None

    @classmethod
    @contextmanager
    def at(cls, destination: Path | BinaryIO) -> Iterator[AtomicFile]:
        """Leaving the block without `finish` leaves nothing behind."""
        if not isinstance(destination, Path):
            yield cls(destination)
            return
        place = cls(None, destination)
        try:
            yield place
        finally:
            place.forget()

    def begin(self, mode: int) -> None:
        """Open it; a file that is replaced keeps its mode, a new one gets *mode* less the umask."""
        if self.target is None:
            return
        temporary = self.target.with_name(f".optio-{secrets.token_hex(8)}.part")
        with transfer_errors(self.target):
            fd = os.open(temporary, _NEW, mode)
            self.temporary, self.file = temporary, os.fdopen(fd, "wb", buffering=0)
            with suppress(FileNotFoundError):
                os.fchmod(fd, S_IMODE(self.target.stat().st_mode))

    def write(self, pieces: Sequence[bytes]) -> None:
        assert self.file
        with transfer_errors(self.target):
            if self.target is None:
                self.file.writelines(pieces)
            else:
                _write_all(self.file.fileno(), pieces)

    def finish(self) -> None:
        """Put it in its place, safe on the disk."""
        if self.target is None:
            return
        assert self.file
        assert self.temporary
        with transfer_errors(self.target):
            os.fsync(self.file.fileno())
            self.temporary.replace(self.target)
        self.temporary = None

    def forget(self) -> None:
        if self.file:
            self.file.close()
        if self.temporary:
            with suppress(OSError):
                self.temporary.unlink()


def _write_all(fd: int, pieces: Sequence[bytes]) -> None:
    written = os.writev(fd, pieces)
    for piece in pieces:  # a disk that is nearly full takes a part
        rest = memoryview(piece)[max(written, 0) :]
        written -= len(piece)
        while rest:
            rest = rest[os.write(fd, rest) :]


@contextmanager
def transfer_errors(target: Path | None) -> Iterator[None]:
    """Have what the operating system refuses be a TransferFailed."""
    try:
        yield
    except OSError as error:
        raise TransferFailed(f"{target or 'the destination'}: {error.strerror}") from error


_LONGEST = 200  # bytes of a name; file systems allow 255
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def save(source: BinaryIO, directory: Path, path: str) -> Path:
    """Copy *source* to *path* below *directory*, whole or not at all; replaces an older version.

    No link below *directory* is followed. Blocks: call it in a thread.

    Raises:
        OSError: something that is not a directory stands in the way, or the disk is full.
        ValueError: *path* names nothing below *directory*.
    """
    parts = safe_parts(path)
    directory.mkdir(parents=True, exist_ok=True)
    with _walk(directory, parts[:-1]) as folder:
        _write(source, folder, parts[-1])
    return directory.joinpath(*parts)


def safe_parts(path: str) -> tuple[str, ...]:
    """The components of *path*, each a harmless file name. Raises ValueError."""
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise ValueError(f"{path!r} names nothing below a directory")
    return tuple(map(safe_name, parts))


def safe_name(name: str) -> str:
    """*name* without what a terminal, a shell's glob or git would act on, and not too long."""
    safe = "".join(_escaped(char) if _odd(char) else char for char in name)
    if name.startswith(("-", "~")) or name.rstrip(". ").casefold() in (".git", "git~1"):
        safe = _escaped(name[0]) + safe[1:]
    if len(safe.encode()) <= _LONGEST:
        return safe
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]
    suffix = PurePosixPath(safe).suffix[:16]
    kept = safe.encode()[: _LONGEST - 64].decode(errors="ignore")
    return f"{kept}-{digest}{suffix}"


def _odd(char: str) -> bool:
    return not char.isprintable() or char == "\\"


def _escaped(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode(errors="surrogateescape"))


@contextmanager
def _walk(directory: Path, folders: tuple[str, ...]) -> Iterator[int]:
    """The innermost of *folders*, made where missing, each opened inside the one before."""
    here = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in folders:
            inner = _enter(here, name)
            os.close(here)
            here = inner
        yield here
    finally:
        os.close(here)


def _enter(here: int, name: str) -> int:
    try:
        os.mkdir(name, 0o700, dir_fd=here)
    except FileExistsError:
        pass
    try:
        return os.open(name, _DIRECTORY, dir_fd=here)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise NotADirectoryError(error.errno, "is in the way, and no directory", name) from None
        raise


def _write(source: BinaryIO, folder: int, name: str) -> None:
    temporary = f".{secrets.token_hex(8)}.part"
    try:
        with os.fdopen(os.open(temporary, _NEW, 0o600, dir_fd=folder), "wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            os.fsync(target.fileno())
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        try:
            os.unlink(temporary, dir_fd=folder)
        except FileNotFoundError:
            pass
        raise
