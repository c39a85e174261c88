"""How a file lands on this machine: under a name of its own, and in its place once it is whole."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_IMODE
from typing import TYPE_CHECKING, BinaryIO

from optio_agents.errors import TransferFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@dataclass(slots=True)
class Landing:
    """A place for bytes. What the operating system refuses is a TransferFailed."""

    file: BinaryIO | None
    target: Path | None = None
    temporary: Path | None = None

    @classmethod
    @contextmanager
    def at(cls, destination: Path | BinaryIO) -> Iterator[Landing]:
        """Leaving the block without `finish` leaves nothing behind."""
        if not isinstance(destination, Path):
            yield cls(destination)
            return
        landing = cls(None, destination)
        try:
            yield landing
        finally:
            landing.forget()

    def begin(self, mode: int) -> None:
        """Open it; a file that is replaced keeps its mode, a new one gets *mode* less the umask."""
        if self.target is None:
            return
        temporary = self.target.with_name(f".optio-{secrets.token_hex(8)}.part")
        with told(self.target):
            fd = os.open(temporary, _NEW, mode)
            self.temporary, self.file = temporary, os.fdopen(fd, "wb", buffering=0)
            with suppress(FileNotFoundError):
                os.fchmod(fd, S_IMODE(self.target.stat().st_mode))

    def write(self, pieces: Sequence[bytes]) -> None:
        assert self.file
        with told(self.target):
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
        with told(self.target):
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
def told(target: Path | None) -> Iterator[None]:
    """Have what the operating system refuses be a TransferFailed."""
    try:
        yield
    except OSError as error:
        raise TransferFailed(f"{target or 'the destination'}: {error.strerror}") from error
