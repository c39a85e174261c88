"""Chunks of many files on one channel: a header of ASCII words, then the bytes.

Sent to hosts as source: nothing newer than Python 3.7 here.
"""

from __future__ import annotations

from typing import NamedTuple

from optio_agents.following.look import Chunk

_FRESH, _AT_END, _MISSING, _FINAL, _REFUSED = 1, 2, 4, 8, 16
_HEADER = 200  # bytes: no header is longer
_PAYLOAD = 1 << 20  # nor is a payload


class Refusal(NamedTuple):
    """The file is not to be followed: one word, and a sentence."""

    reason: str
    detail: str


class Frame(NamedTuple):
    key: int  # of the follow
    content: Chunk | Refusal


class BadFrame(ValueError):
    """The far end sent something that is no frame."""


def pack(key: int, chunk: Chunk) -> bytes:
    flags = (
        chunk.fresh * _FRESH
        | chunk.at_end * _AT_END
        | chunk.missing * _MISSING
        | chunk.final * _FINAL
    )
    words = (
        key,
        flags,
        chunk.device,
        chunk.inode,
        chunk.size,
        chunk.mtime_ns,
        chunk.offset,
        len(chunk.window),
        len(chunk.data),
    )
    return b"%d %d %d %d %d %d %d %d %d\n%b%b" % (*words, chunk.window, chunk.data)


def pack_refusal(key: int, refusal: Refusal) -> bytes:
    text = "\0".join(refusal).encode("utf-8", "backslashreplace")
    return b"%d %d 0 0 0 0 0 0 %d\n%b" % (key, _REFUSED, len(text), text)


class FrameReader:
    """Bytes in, frames out, however the bytes were cut. Holds at most one unfinished frame."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held = 0
        self._needed = 1  # bytes below which joining the pieces is of no use

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that *data* completes. Raises BadFrame."""
        self._pieces.append(data)
        self._held += len(data)
        if self._held < self._needed:
            return []
        data, frames, at = b"".join(self._pieces), [], 0
        while True:
            start = data.find(b"\n", at, at + _HEADER) + 1
            if not start:
                if len(data) - at >= _HEADER:
                    raise BadFrame(repr(data[at : at + _HEADER]))
                self._needed = len(data) - at + 1
                break
            header = _header(data[at : start - 1])
            end = start + header[7] + header[8]
            if end > len(data):
                self._needed = end - at
                break
            frames.append(_frame(header, data[start:end]))
            at = end
        self._pieces, self._held = [data[at:]], len(data) - at
        return frames


def _header(line: bytes) -> tuple[int, ...]:
    try:
        key, flags, device, inode, size, mtime_ns, offset, window, length = map(
            int, line.split(b" ")
        )
    except ValueError:
        raise BadFrame(repr(line)) from None
    if min(window, length) < 0 or window + length > _PAYLOAD:
        raise BadFrame(repr(line))
    return key, flags, device, inode, size, mtime_ns, offset, window, length


def _frame(header: tuple[int, ...], payload: bytes) -> Frame:
    key, flags, device, inode, size, mtime_ns, offset, window, _ = header
    if flags & _REFUSED:
        reason, _, detail = payload.decode("utf-8", "replace").partition("\0")
        return Frame(key, Refusal(reason, detail))
    return Frame(
        key,
        Chunk(
            device=device,
            inode=inode,
            size=size,
            mtime_ns=mtime_ns,
            offset=offset,
            data=payload[window:],
            window=payload[:window],
            fresh=bool(flags & _FRESH),
            at_end=bool(flags & _AT_END),
            missing=bool(flags & _MISSING),
            final=bool(flags & _FINAL),
        ),
    )
