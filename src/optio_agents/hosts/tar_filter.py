"""What may stand in a tar stream that is unpacked on a host: bytes in, bytes out.

Regular files, directories and links with plain relative names pass, without set-uid bits. What
would land elsewhere, by its own name or through a link that came before, is left out, and so are
devices and FIFOs. A symbolic link may point anywhere: it is a name, and nothing goes through it.
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

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
