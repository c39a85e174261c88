"""Keeping what an agent handed over, in a directory of ours, whatever its name is."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePosixPath
from stat import S_IMODE
from typing import TYPE_CHECKING, BinaryIO

from optio_agents.errors import TransferFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


# How a file lands on this machine: under a name of its own, and in its place once it is whole.


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def temporary(
    directory: str | Path, *, mode: int = 0o600, within: int | None = None
) -> Iterator[tuple[FileIO, str]]:
    """A new file in *directory*, and its path there, which nobody else comes upon.

    *directory* may be named from an open one, *within*. Rename the file, or link it: under this
    name it is gone when the block is left.
    """
    path = os.path.join(directory, f".optio-{secrets.token_hex(8)}.part")  # noqa: PTH118 - of *within*
    with FileIO(os.open(path, _NEW, mode, dir_fd=within), "w") as file:
        try:
            yield file, path
        finally:
            with suppress(OSError):
                os.unlink(path, dir_fd=within)


@dataclass(slots=True)
class AtomicFile:
    """A place for bytes. What the operating system refuses is a TransferFailed."""

    _open: ExitStack  # what was begun
    _file: BinaryIO | FileIO | None
    _target: Path | None = None
    _temporary: str = ""

    @classmethod
    @contextmanager
    def at(cls, destination: Path | BinaryIO) -> Iterator[AtomicFile]:
        """Leaving the block without `finish` leaves nothing behind."""
        with ExitStack() as stack:
            if isinstance(destination, Path):
                yield cls(stack, None, destination)
            else:
                yield cls(stack, destination)

    def begin(self, mode: int) -> None:
        """Open it; a file that is replaced keeps its mode, a new one gets *mode* less the umask."""
        if self._target is None:
            return
        with transfer_errors(self._target):
            made = temporary(self._target.parent, mode=mode)
            self._file, self._temporary = self._open.enter_context(made)
            with suppress(FileNotFoundError):
                os.fchmod(self._file.fileno(), S_IMODE(self._target.stat().st_mode))

    def write(self, pieces: Sequence[bytes]) -> None:
        assert self._file
        with transfer_errors(self._target):
            if self._target is None:
                self._file.writelines(pieces)
            else:
                _write_all(self._file.fileno(), pieces)

    def finish(self) -> None:
        """Put it in its place, safe on the disk."""
        if self._target is None:
            return
        assert self._file
        with transfer_errors(self._target):
            os.fsync(self._file.fileno())
            Path(self._temporary).replace(self._target)


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
    with _walk(directory, parts[:-1]) as folder, temporary("", within=folder) as (target, path):
        while data := source.read(1 << 20):
            _write_all(target.fileno(), [data])
        os.fsync(target.fileno())
        os.rename(path, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
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
