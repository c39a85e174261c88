"""Bring a file to a host: streamed, landed whole or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import aclosing, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from stat import S_IMODE
from typing import TYPE_CHECKING, TypeAlias

import anyio
import anyio.to_thread

from optio_agents.concurrency import task_group
from optio_agents.errors import FileRefused, TransferFailed
from optio_agents.hosts.scripting import collect, refusal, script

from .atomic import AtomicFile, transfer_errors
from .progress import Meter, reporting

if TYPE_CHECKING:
    from _hashlib import HASH
    from collections.abc import AsyncGenerator, AsyncIterator

    from anyio.streams.memory import MemoryObjectSendStream

    from optio_agents.hosts.machine import Answer, Machine, Process

    from .progress import Progress


# What may be sent to a host: a file here, bytes, or whatever an iterator gives.


Digest: TypeAlias = "HASH | None"
Readable: TypeAlias = "str | os.PathLike[str] | bytes | AsyncIterator[bytes]"

BLOCK = 262_144  # bytes: of one write
_AT_ONCE = 4  # blocks that one visit to a worker thread reads and hashes


@dataclass(slots=True)
class Source:
    """The blocks of a source, to be read once; hashed in passing by a worker thread if asked."""

    readable: Readable
    size: int | None = None  # None: nobody knows before the end
    mode: int | None = None  # None: it has none of its own
    digest: Digest = None

    @classmethod
    def of(cls, readable: Readable, *, hashed: bool) -> Source:
        """Raises TransferFailed when it is a file that cannot be looked at."""
        source = cls(readable, digest=hashlib.sha256() if hashed else None)
        if isinstance(readable, bytes):
            source.size = len(readable)
        elif isinstance(readable, str | os.PathLike):
            try:
                seen = Path(readable).stat()
            except OSError as error:
                raise TransferFailed(f"{readable!r} cannot be read: {error.strerror}") from error
            source.size, source.mode = seen.st_size, S_IMODE(seen.st_mode)
        return source

    def sha256(self) -> str:
        """Of what was read so far; empty if nobody asked for it."""
        return self.digest.hexdigest() if self.digest else ""

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """Raises TransferFailed when a file changes meanwhile."""
        match self.readable:
            case bytes(whole):
                some = _batches_of(whole, self.digest)
            case str() | os.PathLike() as path:
                some = _batches_in(Path(path), self.digest)
            case iterator:
                some = _batches_from(iterator, self.digest)
        async with aclosing(some):
            async for batch in some:
                for block in batch:
                    yield block


async def sha256(readable: Readable) -> str | None:
    """The digest of what can be read more than once; None for an iterator."""
    source = Source.of(readable, hashed=True)
    if source.size is None:
        return None
    async for _ in source.blocks():
        pass
    return source.sha256()


async def _batches_of(whole: bytes, digest: Digest) -> AsyncGenerator[list[bytes], None]:
    for start in range(0, len(whole), BLOCK * _AT_ONCE):
        part = whole[start : start + BLOCK * _AT_ONCE]
        await _hash(digest, part)
        yield [part[at : at + BLOCK] for at in range(0, len(part), BLOCK)]


async def _batches_from(
    iterator: AsyncIterator[bytes], digest: Digest
) -> AsyncGenerator[list[bytes], None]:
    async for piece in iterator:
        async for batch in _batches_of(piece, digest):
            yield batch


async def _batches_in(path: Path, digest: Digest) -> AsyncGenerator[list[bytes], None]:
    file = await anyio.to_thread.run_sync(FileIO, path)
    try:
        before = os.fstat(file.fileno())
        left = before.st_size
        while batch := await anyio.to_thread.run_sync(_read, file, left, digest):
            left -= sum(map(len, batch))
            yield batch
        after = os.fstat(file.fileno())
    finally:
        file.close()
    if left or (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise TransferFailed(f"{path} changed while it was read")


def _read(file: FileIO, left: int, digest: Digest) -> list[bytes]:
    batch = []
    for _ in range(_AT_ONCE):
        if not (block := file.read(min(left, BLOCK))):
            break
        if digest:
            digest.update(block)
        batch.append(block)
        left -= len(block)
    return batch


async def _hash(digest: Digest, data: bytes) -> None:
    """In a worker thread, if it is too much for the event loop."""
    if digest is None:
        return
    if len(data) < BLOCK // 4:
        digest.update(data)
    else:
        await anyio.to_thread.run_sync(digest.update, data)


_INLINE = 262_144  # bytes that are sent in one round trip, together with the script
_AHEAD = 8  # blocks read ahead of the link
_USUAL = 0o666  # less the umask, for what has no mode of its own


@dataclass(frozen=True, slots=True)
class Put:
    """What stands at the target now."""

    size: int
    sha256: str  # empty unless an expected one was given, or what is there compared with it
    sent: bool  # False: it stood there already


async def put(
    machine: Machine,
    readable: Readable,
    target: str,
    *,
    expected_sha256: str | None = None,
    skip_if_unchanged: bool = False,
    progress: Progress | None = None,
) -> Put:
    """See `Host.put_file_to_host`."""
    source = Source.of(readable, hashed=expected_sha256 is not None)
    wanted = expected_sha256
    if skip_if_unchanged and (wanted := wanted or await sha256(readable)):
        args = [target, "-" if source.size is None else str(source.size)]
        async with machine.shell(script("hosts/files/digest"), args) as process:
            there = await collect(process)
        if there.stdout.decode() == wanted.lower():
            return Put(source.size or 0, wanted, sent=False)
    meter = Meter(source.size)
    expected = (expected_sha256 or "").lower()
    async with reporting(meter, progress), aclosing(source.blocks()) as blocks:
        if machine.is_local:
            await _land(source, blocks, Path(target), expected, meter)
        else:
            mode = "-" if source.mode is None else f"{source.mode:o}"
            await _send(machine, blocks, [target, secrets.token_hex(16), mode, expected], meter)
    return Put(meter.done, source.sha256() or wanted or "", sent=True)


async def _land(
    source: Source, blocks: AsyncIterator[bytes], target: Path, expected: str, meter: Meter
) -> None:
    """What put.sh does, for files of this machine: without a shell in between."""
    with AtomicFile.at(target) as place:
        await anyio.to_thread.run_sync(_begin_here, place, target, source.mode)
        async for block in blocks:
            await anyio.to_thread.run_sync(place.write, [block])
            meter.done += len(block)
        if expected and source.sha256() != expected:
            raise TransferFailed(f"{target}: its SHA-256 would not be the expected one")
        await anyio.to_thread.run_sync(place.finish)


def _begin_here(place: AtomicFile, target: Path, mode: int | None) -> None:
    if target.is_dir():
        raise FileRefused(str(target), "directory", "is a directory")
    with transfer_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    place.begin(_USUAL if mode is None else mode)


async def _send(
    machine: Machine, blocks: AsyncIterator[bytes], args: list[str], meter: Meter
) -> None:
    answer = await _carry(machine, blocks, args, meter)
    if answer.exit_code:
        raise refusal(answer, args[0], "put")
    if answer.stdout != b"%d" % meter.done:
        raise TransferFailed(f"{args[0]}: not all of it arrived")


async def _carry(
    machine: Machine, blocks: AsyncIterator[bytes], args: list[str], meter: Meter
) -> Answer:
    text, seal = script("hosts/refuse", "hosts/files/put"), args[1].encode()
    head = bytearray()
    async for block in blocks:
        head += block
        if len(head) > _INLINE:
            break
    else:
        answer = await machine.ask(text, args, data=bytes(head) + seal)
        meter.done = len(head)
        return answer
    async with machine.shell(text, args, bulk=True) as process:
        with suppress(BrokenPipeError):  # it gave up: its exit code tells
            await process.write(bytes(head))
            meter.done = len(head)
            await _pump(blocks, process, meter)
            await process.write(seal)
        return await collect(process)


async def _pump(blocks: AsyncIterator[bytes], process: Process, meter: Meter) -> None:
    """Read ahead of the link, a little."""
    send, receive = anyio.create_memory_object_stream[bytes](_AHEAD)
    async with task_group() as tasks, receive:
        tasks.start_soon(_read_ahead, blocks, send)
        async for block in receive:
            await process.write(block)
            meter.done += len(block)


async def _read_ahead(blocks: AsyncIterator[bytes], send: MemoryObjectSendStream[bytes]) -> None:
    async with send:
        with suppress(anyio.BrokenResourceError):  # the other side says why it left
            async for block in blocks:
                await send.send(block)
