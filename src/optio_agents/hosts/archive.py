"""The work directory as a stream: packed on the host, and unpacked there whole or not at all."""

from __future__ import annotations

import io
import logging
import secrets
import tarfile
import zlib
from typing import TYPE_CHECKING

from optio_agents.errors import TransferFailed, WorkDirRefused

from .bootstrap import script
from .collect import collected
from .tar_filter import TarFilter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from .host import Host
    from .machine import Process

_log = logging.getLogger(__name__)
_PIECE = 262_144  # bytes
_GZIP = b"\x1f\x8b"


async def archive(host: Host, exclude: Sequence[str]) -> AsyncIterator[bytes]:
    """See `Host.archive_workdir`."""
    names = ["."] if host.own_workdir else ["optio.log", "deliverables"]
    args = [host.workdir, "\n".join(exclude), *names]
    async with host.machine.shell(script("archive"), args, bulk=True) as process:
        await process.close_input()
        while data := await process.read():
            yield data
        if code := await process.wait():
            said = (await process.read_error()).decode(errors="replace").strip()
            raise TransferFailed(f"{host.workdir} could not be packed ({code}): {said}")


async def restore(host: Host, stream: AsyncIterator[bytes]) -> None:
    """See `Host.restore_workdir`."""
    if not host.own_workdir:
        raise WorkDirRefused(f"{host.workdir} is the user's own; nothing is unpacked over it")
    seal = f".optio-{secrets.token_hex(8)}"
    sieve = TarFilter()
    text = script("workdir") + script("restore")
    async with host.machine.shell(text, [host.taskdir, seal], bulk=True) as process:
        broken = await _unpack(stream, sieve, seal, process)
        answer = await collected(process)
    if sieve.left_out:
        _log.warning("left out of %s: %s", host.workdir, ", ".join(map(repr, sieve.left_out[:20])))
    if answer.exit_code == 66:
        raise WorkDirRefused(answer.stdout.decode(errors="replace").strip())
    if broken or answer.exit_code:
        said = broken or answer.stderr.decode(errors="replace").strip() or "it broke off"
        raise TransferFailed(f"{host.workdir} stays as it was: {said}")


async def _unpack(
    stream: AsyncIterator[bytes], sieve: TarFilter, seal: str, process: Process
) -> str:
    """Send what may be unpacked; the reason if the stream is broken."""
    try:
        async for plain in _plain(stream):
            if data := sieve.feed(plain):
                await process.write(data)
        sieve.close()
        await process.write(_sealed(seal))
    except (ValueError, zlib.error) as error:
        return str(error)
    except BrokenPipeError:
        return ""  # it gave up: its exit code tells
    return ""


def _sealed(name: str) -> bytes:
    """An empty file of that name, and the end of the archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


async def _plain(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """*stream* decompressed, in pieces of bounded size, if it is compressed."""
    begin = b""
    async for data in stream:
        begin += data
        if len(begin) >= len(_GZIP):
            break
    unzip = zlib.decompressobj(31) if begin.startswith(_GZIP) else None
    data = begin
    while True:
        if unzip is None:
            yield data
        else:
            while data:
                yield unzip.decompress(data, _PIECE)
                data = unzip.unconsumed_tail
        try:
            data = await anext(stream)
        except StopAsyncIteration:
            break
    if unzip and not unzip.eof:
        raise ValueError("the archive stops short")
