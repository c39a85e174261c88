"""Open a file on a host so that what was checked is what is read.

The file is opened first; that it is regular, small enough and below a root is then asked of what
was opened. A link that is swapped meanwhile changes what is opened or what is refused, never both.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from optio_agents.errors import CommandTimedOut, FileRefused
from optio_agents.hosts.scripting import script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from optio_agents.hosts.machine import Answer, Machine, Process


_INLINE = 262_144  # bytes that come in the round trip that opens
_OPENING = 10.0  # seconds: a FIFO that was swapped in keeps no caller longer
_HASHING = 20e6  # bytes a second that any host hashes
_HEADER_LIMIT = 16_384  # bytes


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


class Confined:
    """A regular file on a host, open. Raises FileRefused when it changes while it is read."""

    def __init__(
        self, path: str, seen: OpenedFile, more: Callable[[], Awaitable[list[bytes]]]
    ) -> None:
        self.path, self.seen = path, seen
        self._more = more

    @property
    def size(self) -> int:
        return self.seen.size

    @property
    def identity(self) -> str:
        return self.seen.identity

    @property
    def real_path(self) -> str:
        return self.seen.real_path

    async def pieces(self) -> list[bytes]:
        """The next bytes; none at the end, once it is known that the file stayed as it was."""
        return await self._more()

    async def read(self) -> bytes:
        """All bytes, those excepted that were read before."""
        whole = []
        while pieces := await self.pieces():
            whole += pieces
        return b"".join(whole)


def open_confined(
    machine: Machine, path: str, root: str = "", *, limit: int | None = None, offset: int = 0
) -> AbstractAsyncContextManager[Confined]:
    """Open *path*, whose real path must lie below *root*, to be read from *offset* on.

    Never waits for a FIFO. Raises FileRefused with the reason, HostLost, CommandTimedOut.
    """
    if machine.is_local:
        from .confined_local import open_here

        return open_here(path, root, limit=limit, offset=offset)
    return _open_there(machine, path, root, limit=limit, offset=offset)


@asynccontextmanager
async def _open_there(
    machine: Machine, path: str, root: str, *, limit: int | None, offset: int
) -> AsyncIterator[Confined]:
    args = [path, root.rstrip("/"), "-" if limit is None else str(limit)]
    if not offset:
        small = [*args, str(_INLINE), "0"]
        answer = await machine.ask(script("hosts/files/open"), small, seconds=_OPENING)
        if answer.exit_code != _LARGE:
            yield _from_answer(path, answer)
            return
    args = [*args, "-", str(offset)]
    async with machine.shell(script("hosts/files/open"), args, bulk=True) as process:
        await process.close_input()
        yield await _from_process(path, process, offset)


def _from_answer(path: str, answer: Answer) -> Confined:
    _check(path, answer.exit_code, answer.stdout)
    header, _, data = answer.stdout.partition(b"\0")
    seen = OpenedFile.parse(header)
    if len(data) != seen.size:
        raise _changed(path)
    rest = [data] if data else []

    async def more() -> list[bytes]:
        pieces = rest.copy()
        rest.clear()
        return pieces

    return Confined(path, seen, more)


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
        _check(path, await process.wait(), bytes(said))
        raise _changed(path)
    header, _, first = bytes(said).partition(b"\0")
    return Confined(
        path, seen := OpenedFile.parse(header), _Rest(path, process, seen, first, offset)
    )


class _Rest:
    """The bytes behind the header, and the exit code that says whether the file stayed."""

    def __init__(
        self, path: str, process: Process, seen: OpenedFile, first: bytes, offset: int
    ) -> None:
        self._path, self._process = path, process
        self._first = [first] if first else []
        self._left = seen.size - offset

    async def __call__(self) -> list[bytes]:
        pieces, self._first = self._first or await self._process.read_pieces(), []
        self._left -= sum(map(len, pieces))
        if not pieces:
            _check(self._path, await self._process.wait(), b"")
        if self._left < 0 or (self._left and not pieces):
            raise _changed(self._path)
        return pieces


_LARGE = 68  # of open.sh: more than may come inline


def _check(path: str, exit_code: int, said: bytes) -> None:
    match exit_code:
        case 0:
            return
        case 64:
            reason, _, sentence = said.decode(errors="replace").partition("\n")
            raise FileRefused(path, reason, sentence)
        case 75:
            raise _changed(path)
        case code:
            raise FileRefused(path, "unreadable", f"could not be read (open.sh: {code})")


def _changed(path: str) -> FileRefused:
    return FileRefused(path, "changed", "changed while it was read")
