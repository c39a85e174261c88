"""The work directory as a stream: packed on the host, and unpacked there whole or not at all."""

from __future__ import annotations

import io
import logging
import secrets
import tarfile
import zlib
from typing import TYPE_CHECKING

from optio_agents.errors import TransferFailed, WorkDirRefused
from optio_agents.hosts.scripting import collect, refusal, script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from optio_agents.hosts.machine import Machine, Process


# What may stand in a tar stream that is unpacked on a host: bytes in, bytes out.
#
# Regular files, directories and links with plain relative names pass, without set-uid bits. What
# would land elsewhere, by its own name or through a link that came before, is left out, and so are
# devices and FIFOs. A symbolic link may point anywhere: it is a name, and nothing goes through it.


BLOCK = 512  # bytes
_LONGEST_EXTENSION = 1 << 20  # bytes of a header that only carries long names
_EXTENSIONS = frozenset({tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK})
_FILES = frozenset({tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE})
_TAKEN = _FILES | {tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE}
_END = bytes(2 * BLOCK)


class TarFilter:
    """Feed it a tar stream as it comes; it gives back what may be unpacked."""

    def __init__(self) -> None:
        self.left_out: list[str] = []  # names, at most a thousand
        self._buffer = bytearray()
        self._links: set[str] = set()
        self._extension: tarfile.TarInfo | None = None  # whose data comes next
        self._held = b""  # headers that belong to the member that follows
        self._long: dict[str, str] = {}  # what they say: path, linkpath, size
        self._data = 0  # bytes of the current member still to come, padding included
        self._pass = False
        self._ended = False

    def feed(self, data: bytes) -> bytes:
        """Raises ValueError on what is no tar stream."""
        self._buffer += data
        return b"".join(self._steps())

    def close(self) -> bytes:
        """The end of the stream. Raises ValueError if it stopped short."""
        if not self._ended:
            raise ValueError("the archive stops short")
        return _END

    def _steps(self) -> Iterator[bytes]:
        while not self._ended:
            if self._data:
                if not self._buffer:
                    return
                part = bytes(self._buffer[: self._data])
                del self._buffer[: self._data]
                self._data -= len(part)
                if self._pass:
                    yield part
            elif self._extension:
                size = _padded(self._extension.size)
                if len(self._buffer) < size:
                    return
                self._read_extension(self._extension, self._take(size))
            elif len(self._buffer) < BLOCK:
                return
            else:
                yield self._header(self._take(BLOCK))
        self._buffer.clear()

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _header(self, block: bytes) -> bytes:
        if not any(block):
            self._ended = True
            return b""
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ValueError(f"not a tar stream: {error}") from error
        if info.type in _EXTENSIONS and info.size <= _LONGEST_EXTENSION:
            self._extension = info
            self._held += block
            return b""
        return self._member(block, info)

    def _read_extension(self, info: tarfile.TarInfo, data: bytes) -> None:
        self._extension = None
        self._held += data
        content = data[: info.size]
        if info.type == tarfile.XHDTYPE:
            self._long |= dict(_records(content))
        else:
            key = "path" if info.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
            self._long[key] = _text(content.rstrip(b"\0"))

    def _member(self, block: bytes, info: tarfile.TarInfo) -> bytes:
        held, long = self._held, self._long
        self._held, self._long = b"", {}
        info.name = long.get("path", info.name)
        info.linkname = long.get("linkpath", info.linkname)
        has_data = info.type not in {tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE}
        self._data = _padded(int(long.get("size", info.size))) if has_data else 0
        sparse = any(key.startswith("GNU.sparse") for key in long)
        self._pass = info.type in _TAKEN and not sparse and self._may_stand(info)
        if self._pass:
            return held + _without_privilege(block, info.mode)
        if len(self.left_out) < 1000:
            self.left_out.append(info.name)
        return b""

    def _may_stand(self, info: tarfile.TarInfo) -> bool:
        name = _plain(info.name)
        if name is None or self._through_link(name):
            return False
        if info.type == tarfile.SYMTYPE:
            self._links.add(name)
        elif info.type == tarfile.LNKTYPE:
            source = _plain(info.linkname)
            return source is not None and not self._through_link(source)
        return True

    def _through_link(self, name: str) -> bool:
        """It is, or goes through, a link that stands in this archive."""
        if not self._links:
            return False
        ends = [at for at, letter in enumerate(name) if letter == "/"]
        return any(name[:end] in self._links for end in [*ends, len(name)])


def _plain(name: str) -> str | None:
    """*name* without its empty and dot parts; None if it leads out."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    return None if name.startswith("/") or ".." in parts else "/".join(parts)


def _padded(size: int) -> int:
    if size < 0:
        raise ValueError("a member of negative size")
    return -(-size // BLOCK) * BLOCK


def _records(content: bytes) -> Iterator[tuple[str, str]]:
    """The `LENGTH KEY=VALUE` lines of an extended header."""
    while content.strip(b"\0"):
        length = int(content.partition(b" ")[0])
        if not 4 < length <= len(content):
            raise ValueError("a broken extended header")
        key, _, value = content[:length].partition(b" ")[2].rstrip(b"\n").partition(b"=")
        yield _text(key), _text(value)
        content = content[length:]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _without_privilege(block: bytes, mode: int) -> bytes:
    """The header with its set-uid, set-gid and sticky bits cleared."""
    bare = block[:100] + b"%07o\0" % (mode & 0o777) + block[108:148] + b" " * 8 + block[156:]
    return bare[:148] + b"%06o\0 " % sum(bare) + bare[156:]


_log = logging.getLogger(__name__)
_PIECE = 262_144  # bytes
_GZIP = b"\x1f\x8b"


async def archive(
    machine: Machine, directory: str, names: Sequence[str], exclude: Sequence[str]
) -> AsyncIterator[bytes]:
    """*names* in *directory* as a compressed tar stream; see `Host.archive_workdir`."""
    args = [directory, "\n".join(exclude), *names]
    async with machine.shell(script("hosts/files/archive"), args, bulk=True) as process:
        await process.close_input()
        while data := await process.read():
            yield data
        if code := await process.wait():
            words = (await process.read_error()).decode(errors="replace").strip()
            raise TransferFailed(f"{directory} could not be packed ({code}): {words}")


async def restore(machine: Machine, taskdir: str, stream: AsyncIterator[bytes]) -> None:
    """Unpack *stream* as *taskdir*/workdir; see `Host.restore_workdir`."""
    seal, workdir = f".optio-{secrets.token_hex(8)}", f"{taskdir}/workdir"
    sieve = TarFilter()
    text = script("hosts/refuse", "hosts/workdir", "hosts/files/restore")
    async with machine.shell(text, [taskdir, seal], bulk=True) as process:
        broken = await _unpack(stream, sieve, seal, process)
        answer = await collect(process)
    if sieve.left_out:
        _log.warning("left out of %s: %s", workdir, ", ".join(map(repr, sieve.left_out[:20])))
    why = refusal(answer, workdir, "restore") if answer.exit_code else None
    if isinstance(why, WorkDirRefused):
        raise why
    if broken or why:
        raise TransferFailed(f"{workdir} stays as it was: {broken or why}")


async def _unpack(
    stream: AsyncIterator[bytes], sieve: TarFilter, seal: str, process: Process
) -> str:
    """Send what may be unpacked; the reason if the stream is broken."""
    try:
        async for plain in _plain_of_archive(stream):
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


async def _plain_of_archive(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
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
