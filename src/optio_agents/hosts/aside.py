"""Bytes that wait for their reader: a little in memory, the rest in a nameless file of ours."""

from __future__ import annotations

import os
import tempfile
from weakref import finalize

_IN_MEMORY = 1 << 20  # bytes


class Aside:
    """First in, first out, of any length, in bounded memory."""

    def __init__(self) -> None:
        self._memory = bytearray()
        self._file = -1
        self._from = self._to = 0  # of what the file still holds

    def __bool__(self) -> bool:
        return bool(self._memory) or self._from < self._to

    def put(self, data: bytes) -> None:
        if self._from == self._to and len(self._memory) + len(data) <= _IN_MEMORY:
            self._memory += data
            return
        if self._file < 0:
            self._file = _nameless_file()
            finalize(self, os.close, self._file)
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._file, rest, self._to)
            self._to += written
            rest = rest[written:]

    def take(self, limit: int) -> bytes:
        """Up to *limit* bytes, none when there are none."""
        if self._memory:
            data = bytes(self._memory[:limit])
            del self._memory[:limit]
            return data
        data = os.pread(self._file, min(limit, self._to - self._from), self._from) if self else b""
        self._from += len(data)
        if self._to and self._from == self._to:
            self._from = self._to = 0
            os.ftruncate(self._file, 0)
        return data


def _nameless_file() -> int:
    file, name = tempfile.mkstemp(prefix="optio-")
    os.unlink(name)  # noqa: PTH108 - a name that nobody else knows
    return file
