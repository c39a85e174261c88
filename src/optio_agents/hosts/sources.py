"""What may be sent to a host: a file here, bytes, or whatever an iterator gives."""

from __future__ import annotations

import hashlib
import os
from contextlib import aclosing
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from stat import S_IMODE
from typing import TYPE_CHECKING, TypeAlias

import anyio.to_thread

from optio_agents.errors import TransferFailed

if TYPE_CHECKING:
    from _hashlib import HASH
    from collections.abc import AsyncGenerator, AsyncIterator

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
        """Raises OSError when it is a file that cannot be looked at."""
        source = cls(readable, digest=hashlib.sha256() if hashed else None)
        match readable:
            case bytes():
                source.size = len(readable)
            case str() | os.PathLike():
                seen = Path(readable).stat()
                source.size, source.mode = seen.st_size, S_IMODE(seen.st_mode)
            case _:
                pass
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
