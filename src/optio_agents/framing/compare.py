"""What one look at a file means to a reader who has read some of it already.

Sent to hosts as source: nothing newer than Python 3.7 here, and no import beyond the standard
library and modules that are sent along.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

WINDOW = 4096  # bytes before the reader's place that are compared at every look
TRUSTED_AFTER = 2.0  # seconds: the coarsest time stamps of files (FAT, old NFS)

NOTHING = "nothing new"
APPENDED = "append from offset"
REPLACED = "replaced"
AGAIN = "look again"


class Place(NamedTuple):
    """Where a reader stands. The default stands before a file not yet seen."""

    device: int = 0
    inode: int = 0
    offset: int = 0
    tail: str = ""  # digest of the last `window` bytes before the offset
    window: int = 0


class FileChunk(NamedTuple):
    """Some bytes of a file, in order, and what the file was when they were read."""

    device: int = 0
    inode: int = 0
    size: int = 0
    mtime_ns: int = 0
    offset: int = 0  # of the data
    data: bytes = b""
    window: bytes = b""  # what stands before the data, told once to a reader who has resumed
    fresh: bool = False  # the front of a file that the reader does not know
    at_end: bool = False
    missing: bool = False
    final: bool = False  # the writer had ended before this look, and it found nothing more
    hole: int = 0  # zeros behind the data that nobody ever wrote, and nobody need read


def digest(window: bytes) -> str:
    return blake2b(window, digest_size=16).hexdigest() if window else ""


def decide(place: Place, inode: int, size: int, *, age: float, intact: bool) -> str:
    """One of the four words above: what the reader at *place* has to do about a file of *size*.

    For *age* seconds its size and times are known to stand as they are; *intact* says that the
    bytes of the check window, before the place, are what they were. The device does not count:
    its number may be another after a reboot.
    """
    if place.inode != inode or size < place.offset or not intact:
        return REPLACED
    if size > place.offset:
        return APPENDED
    return NOTHING if age >= TRUSTED_AFTER else AGAIN


def last_bytes(before: bytes, data: bytes, end: int) -> bytes:
    """The check window behind data[:end], where *before* is the one in front of *data*."""
    return data[end - WINDOW : end] if end >= WINDOW else (before + data[:end])[-WINDOW:]


def behind_hole(before: bytes, hole: int) -> bytes:
    """The check window behind so many zeros, where *before* is the one in front of them."""
    return (before + bytes(min(hole, WINDOW)))[-WINDOW:]
