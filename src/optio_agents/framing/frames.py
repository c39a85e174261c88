"""Chunks of many files on one channel: a header of fixed length, then the bytes.

Sent to hosts as source: nothing newer than Python 3.7 here.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from optio_agents.framing.compare import FileChunk

# Mark, flags, key, device, inode, size, mtime, offset, hole, bytes of window and of data.
_HEADER = struct.Struct("!2sHIQQQqQQII")
_MARK = b"\nF"
_FRESH, _AT_END, _MISSING, _FINAL, _REFUSED = 1, 2, 4, 8, 16
_PAYLOAD = 1 << 20  # bytes: none is larger


class Refusal(NamedTuple):
    """The file is not to be followed: one word, and a sentence."""

    reason: str
    detail: str


class Frame(NamedTuple):
    key: int  # of the follow
    content: FileChunk | Refusal


class BadFrame(ValueError):
    """The far end sent something that is no frame."""


def pack(key: int, chunk: FileChunk) -> bytes:
    flags = (
        chunk.fresh * _FRESH
        | chunk.at_end * _AT_END
        | chunk.missing * _MISSING
        | chunk.final * _FINAL
    )
    header = _HEADER.pack(
        _MARK,
        flags,
        key,
        chunk.device,
        chunk.inode,
        chunk.size,
        chunk.mtime_ns,
        chunk.offset,
        chunk.hole,
        len(chunk.window),
        len(chunk.data),
    )
    return b"".join((header, chunk.window, chunk.data))


def pack_refusal(key: int, refusal: Refusal) -> bytes:
    text = "\0".join(refusal).encode("utf-8", "backslashreplace")
    return _HEADER.pack(_MARK, _REFUSED, key, 0, 0, 0, 0, 0, 0, 0, len(text)) + text


class FrameReader:
    """Bytes in, frames out, however the bytes were cut. Holds at most one unfinished frame."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held = 0
        self._needed = _HEADER.size  # bytes below which joining the pieces is of no use

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that *data* completes. Raises BadFrame."""
        if self._pieces:
            self._pieces.append(data)
            self._held += len(data)
            if self._held < self._needed:
                return []
            data = b"".join(self._pieces)
        frames, at, self._needed = [], 0, _HEADER.size
        while len(data) - at >= _HEADER.size:
            frame, end = _frame(data, at)
            if frame is None:
                self._needed = end - at
                break
            frames.append(frame)
            at = end
        self._pieces = [data[at:]] if at < len(data) else []
        self._held = len(data) - at
        return frames


def _frame(data: bytes, at: int) -> tuple[Frame | None, int]:
    """The frame that begins at *at*, if it is whole, and where it ends."""
    words = _HEADER.unpack_from(data, at)
    mark, flags, key, device, inode, size, mtime_ns, offset, hole, window, length = words
    if mark != _MARK or window + length > _PAYLOAD:
        raise BadFrame(repr(data[at : at + 80]))
    start = at + _HEADER.size
    middle, end = start + window, start + window + length
    if end > len(data):
        return None, end
    if flags & _REFUSED:
        reason, _, detail = data[start:end].decode("utf-8", "replace").partition("\0")
        return Frame(key, Refusal(reason, detail)), end
    chunk = FileChunk(
        device,
        inode,
        size,
        mtime_ns,
        offset,
        data[middle:end],
        data[start:middle],
        bool(flags & _FRESH),
        bool(flags & _AT_END),
        bool(flags & _MISSING),
        bool(flags & _FINAL),
        hole,
    )
    return Frame(key, chunk), end
