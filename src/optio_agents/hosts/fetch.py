"""Bring a file from a host: streamed, landed whole or not at all."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import anyio
import anyio.to_thread

from optio_agents.errors import ConnectError, HostKeyRefused, HostLost, LoginRefused, TransferFailed

from .confined import open_confined
from .landing import Landing
from .progress import Meter, metered
from .tasks import task_group

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream

    from .confined import Confined, Seen
    from .machine import Machine
    from .progress import Progress

_AHEAD = 4  # pieces read ahead of our disk
_AT_ONCE = 1 << 20  # bytes that one visit to a worker thread writes and hashes
_TRIES = 8  # in a row that brought nothing, before a lost host is told
_LONGEST_WAIT = 5.0  # seconds between two of them


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that arrived whole."""

    size: int
    sha256: str
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
) -> Fetched:
    """See `Host.fetch_file`."""
    meter = Meter()
    with Landing.at(destination) as landing:
        one = _Fetch(machine, path, root, max_bytes, landing, meter)
        async with metered(meter, progress):
            seen = await one.run()
            await anyio.to_thread.run_sync(landing.finish)
    target = destination if isinstance(destination, Path) else None
    return Fetched(meter.done, one.digest.hexdigest(), target, seen.real_path)


@dataclass(slots=True)
class _Fetch:
    machine: Machine
    path: str
    root: str
    max_bytes: int | None
    landing: Landing
    meter: Meter
    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    seen: Seen | None = None

    async def run(self) -> Seen:
        """Go on after a lost link, as long as it is the same file and something comes."""
        tries = 0
        while True:
            before = self.meter.done
            try:
                return await self._go_on()
            except (HostKeyRefused, LoginRefused):
                raise
            except (HostLost, ConnectError) as error:
                tries = 0 if self.meter.done > before else tries + 1
                if tries == _TRIES or (self.seen is None and isinstance(error, ConnectError)):
                    raise
                await anyio.sleep(min(0.1 * 2**tries, _LONGEST_WAIT))

    async def _go_on(self) -> Seen:
        async with open_confined(
            self.machine, self.path, self.root, limit=self.max_bytes, offset=self.meter.done
        ) as file:
            if self.seen is None:
                self.seen, self.meter.total = file.seen, file.size
                self.landing.begin(file.seen.mode)
            elif not self._same(file.seen):
                raise TransferFailed(f"{self.path} changed while the link was down")
            await self._take(file)
        return self.seen

    def _same(self, now: Seen) -> bool:
        assert self.seen
        prefix = self.digest.hexdigest() if self.meter.done else "-"
        return (now.identity, now.prefix) == (self.seen.identity, prefix)

    async def _take(self, file: Confined) -> None:
        """Read ahead of our disk, a little; what was read before the link broke is kept."""
        lost: HostLost | None = None
        send, receive = anyio.create_memory_object_stream[bytes](_AHEAD)
        async with task_group() as tasks:
            tasks.start_soon(self._store, receive)
            with suppress(anyio.BrokenResourceError):  # the other side says why it left
                async with send:
                    try:
                        while data := await file.some():
                            await send.send(data)
                            self.meter.done += len(data)
                    except HostLost as error:
                        lost = error
        if lost:
            raise lost

    async def _store(self, receive: MemoryObjectReceiveStream[bytes]) -> None:
        async with receive:
            async for data in receive:
                batch, size = [data], len(data)
                with suppress(anyio.WouldBlock, anyio.EndOfStream):
                    while size < _AT_ONCE:
                        batch.append(more := receive.receive_nowait())
                        size += len(more)
                await anyio.to_thread.run_sync(self._write, batch)

    def _write(self, batch: list[bytes]) -> None:
        for data in batch:
            self.landing.write(data)
            self.digest.update(data)
