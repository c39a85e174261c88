"""Bring a file from a host: streamed, landed whole or not at all."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import anyio
import anyio.to_thread

from optio_agents.concurrency import task_group
from optio_agents.errors import HostLost, TransferFailed
from optio_agents.hosts.retrying import is_lost, retrying

from .atomic import AtomicFile
from .confined import open_confined
from .progress import Meter, reporting

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream

    from optio_agents.hosts.machine import Machine

    from .confined import Confined, OpenedFile
    from .progress import Progress
    from .put import Digest


_AHEAD = 4  # handfuls of pieces read ahead of our disk
_AT_ONCE = 32  # pieces, or a few more, that one visit to a worker thread writes and hashes
_FRUITLESS = 30.0  # seconds in a row that bring nothing over a link that is up


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A file that arrived whole."""

    size: int
    sha256: str  # empty if nobody asked for it
    path: Path | None  # where it landed, if in a file that we named
    real_path: str = ""  # where it lay on its host


async def fetch(
    machine: Machine,
    path: str,
    destination: Path | BinaryIO,
    *,
    max_bytes: int | None = None,
    progress: Progress | None = None,
    root: str = "",
    digest: bool = True,
) -> FetchedFile:
    """See `Host.fetch_file`."""
    meter = Meter()
    with AtomicFile.at(destination) as place:
        hashed = hashlib.sha256() if digest else None
        one = _Fetch(machine, path, root, max_bytes, place, meter, hashed)
        async with reporting(meter, progress):
            # goes on after a lost link, as long as it is the same file and something comes
            seen = await retrying(
                machine,
                one.go_on,
                seconds=_FRUITLESS,
                passes=lambda error: is_lost(error) and one.may_go_on(),
                progress=lambda: meter.done,
            )
            await anyio.to_thread.run_sync(place.finish)
    target = destination if isinstance(destination, Path) else None
    return FetchedFile(meter.done, hashed.hexdigest() if hashed else "", target, seen.real_path)


@dataclass(slots=True)
class _Fetch:
    machine: Machine
    path: str
    root: str
    max_bytes: int | None
    place: AtomicFile
    meter: Meter
    digest: Digest
    seen: OpenedFile | None = None

    async def go_on(self) -> OpenedFile:
        async with open_confined(
            self.machine, self.path, self.root, limit=self.max_bytes, offset=self.meter.done
        ) as file:
            if self.seen is None:
                self.seen, self.meter.total = file.seen, file.seen.size
                self.place.begin(file.seen.mode)
            elif not self._same(file.seen):
                raise TransferFailed(f"{self.path} changed while the link was down")
            await self._take(file)
        return self.seen

    def may_go_on(self) -> bool:
        # the digest proves that what comes belongs to what came
        return self.seen is None or self.digest is not None

    def _same(self, now: OpenedFile) -> bool:
        assert self.seen
        prefix = self.digest.hexdigest() if self.digest and self.meter.done else "-"
        return (now.identity, now.prefix) == (self.seen.identity, prefix)

    async def _take(self, file: Confined) -> None:
        """Read ahead of our disk, a little; what was read before the link broke is kept."""
        lost: HostLost | None = None
        send, receive = anyio.create_memory_object_stream[list[bytes]](_AHEAD)
        async with task_group() as tasks:
            tasks.start_soon(self._store, receive)
            with suppress(anyio.BrokenResourceError):  # the other side says why it left
                async with send:
                    try:
                        while pieces := await file.pieces():
                            await send.send(pieces)
                            self.meter.done += sum(map(len, pieces))
                    except HostLost as error:
                        lost = error
        if lost:
            raise lost

    async def _store(self, receive: MemoryObjectReceiveStream[list[bytes]]) -> None:
        async with receive:
            async for pieces in receive:
                with suppress(anyio.WouldBlock, anyio.EndOfStream):
                    while len(pieces) < _AT_ONCE:
                        pieces += receive.receive_nowait()
                await anyio.to_thread.run_sync(self._write, pieces)

    def _write(self, pieces: list[bytes]) -> None:
        self.place.write(pieces)
        if self.digest:
            self.digest.update(b"".join(pieces))  # one wait for the interpreter, not one a piece
