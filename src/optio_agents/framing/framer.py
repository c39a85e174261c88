"""Chunks of a file in, batches of lines out: offsets, generations, what was delivered before."""

from __future__ import annotations

from hashlib import blake2b
from itertools import accumulate, count
from operator import add
from typing import TYPE_CHECKING

from optio_agents.errors import JournalChanged

from .batches import COMPARED_LINES, Batch, FollowOptions
from .compare import FileChunk, Place, behind_hole, digest, last_bytes
from .cursor import Cursor
from .lines import LineSplitter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


# Which lines at the front of a replaced file were delivered before.


_SIZE = 8  # bytes of a line's digest


class DeliveredLines:
    """The lines delivered so far, by their digests; a new generation is compared with them.

    As long as a new generation only repeats what was delivered it may still be in the middle of
    being written, so the comparison goes on with whatever comes: the outcome does not depend on
    how often somebody looked meanwhile.
    """

    def __init__(self, digests: bytes, lines: int, *, compared: int) -> None:
        self._limit = compared  # lines of a generation whose digests are kept
        self._digests = bytearray(digests[: _SIZE * min(lines, compared)])
        self._known = lines  # delivered, in this generation or the one it is compared with
        self.lines = lines  # of this generation, delivered now or before
        self._returned = len(self._digests)

    def renew(self) -> None:
        """The file was replaced: compare from its front on."""
        self.lines = self._returned = 0

    def sort(self, lines: Sequence[bytes], cut: Mapping[int, int]) -> tuple[int, int]:
        """Take the next lines of this generation.

        Returns how many of them to pass over, and how many of the others may be repeats.
        """
        compared = len(self._digests) // _SIZE - self.lines
        passed = self._pass_over(lines[:compared], cut) if compared > 0 else 0
        repeats = min(max(self._known - self.lines - passed, 0), len(lines) - passed)
        old = passed + repeats
        self.lines += old
        if new := lines[old:]:
            if len(self._digests) == _SIZE * self.lines:  # else some are unknown, or enough known
                room = max(self._limit - self.lines, 0)
                self._digests += _digests(new[:room], shifted(cut, old) if cut else cut)
            self.lines = self._known = self.lines + len(new)
        return passed, repeats

    def new_digests(self) -> bytes:
        """The digests of this generation that were not returned yet."""
        end = min(self.lines * _SIZE, len(self._digests))
        new, self._returned = bytes(self._digests[self._returned : end]), max(end, self._returned)
        return new

    def _pass_over(self, lines: Sequence[bytes], cut: Mapping[int, int]) -> int:
        new = _digests(lines, cut)
        old = self._digests[_SIZE * self.lines :][: len(new)]
        if new == old:
            return len(new) // _SIZE
        steps = range(0, len(new), _SIZE)
        same = next(n for n in steps if new[n : n + _SIZE] != old[n : n + _SIZE]) // _SIZE
        self._known = self.lines + same  # here the generations part
        del self._digests[_SIZE * self._known :]
        return same


def _digests(lines: Iterable[bytes], cut: Mapping[int, int]) -> bytes:
    if cut:  # the size stands for what was dropped
        lines = [b"%b\n%d" % (line, cut[n]) if n in cut else line for n, line in enumerate(lines)]
    digests = bytearray()
    for line in lines:
        digests += blake2b(line, digest_size=_SIZE).digest()
    return bytes(digests)


def shifted(cut: Mapping[int, int], by: int) -> Mapping[int, int]:
    """The same marks for the lines from *by* on."""
    return {index - by: size for index, size in cut.items() if index >= by}


class Framer:
    """Knows what was read of a file and what was delivered of it."""

    def __init__(
        self, cursor: Cursor | None, options: FollowOptions, *, compared: int = COMPARED_LINES
    ) -> None:
        start = cursor or Cursor()
        self._journal, self._limit = options.journal, options.limit
        self._splitter = LineSplitter(self._limit)
        self._delivered = DeliveredLines(
            options.delivered, start.lines, compared=0 if self._journal else compared
        )
        self._file = start.device, start.inode, start.size, start.mtime_ns
        self._generation = start.generation
        self._offset = start.offset  # behind the last line
        self.read = start.offset  # bytes of this generation: the offset of that place
        self._place: Place | None = start.place
        self.rest_size = 0  # of the unterminated last line, whole
        self._window = b""  # the bytes before the place, once they are known
        self._torn = False  # the line before the offset had no newline when it was delivered

    @property
    def place(self) -> Place:
        """Behind all that was read: where the next chunk begins, unless it is fresh."""
        if self._place is None:
            device, inode, *_ = self._file
            tail, window = digest(self._window), len(self._window)
            self._place = Place(device, inode, self.read, tail, window)
        return self._place

    @property
    def rest(self) -> bytes:
        """The unterminated last line, its first `limit` bytes."""
        return self._splitter.rest

    def feed(self, chunk: FileChunk) -> list[Batch]:
        """The lines that *chunk* completes, mostly as one batch. Raises JournalChanged."""
        if chunk.missing:
            self._change("was removed")
            return []
        if chunk.fresh:
            self._renew()
        elif chunk.offset != self.read:
            raise ValueError(f"a chunk of offset {chunk.offset} where {self.read} is next")
        elif chunk.window:
            self._resume(chunk.window)
        self._file, self._place = (chunk.device, chunk.inode, chunk.size, chunk.mtime_ns), None
        data, before = chunk.data, self._window
        lines, batches = self._splitter.feed(data), list[Batch]()
        cut: Mapping[int, int] = self._splitter.cut
        self._window = last_bytes(before, data, len(data))
        self.read += len(data)
        if lines:
            sizes: Iterable[int] = map(len, lines)
            if cut:
                sizes = (cut.get(n, size) for n, size in enumerate(sizes))
            ends = list(map(add, accumulate(sizes), count(self._offset + 1)))
            self._offset = ends[-1]
            if self._torn:
                self._torn = False
                if not lines[0]:  # the newline of a line that was delivered without it
                    lines, ends, cut = lines[1:], ends[1:], shifted(cut, 1)
            batches = self._batches(lines, ends, cut, data, before)
        if chunk.hole:
            self._splitter.skip(chunk.hole)
            self.read += chunk.hole
            self._window = behind_hole(self._window, chunk.hole)
        self.rest_size = self._splitter.size
        return batches

    def close(self) -> list[Batch]:
        """The unterminated rest as a line of its own, if there is one."""
        if not self._splitter.size:
            return []
        self._offset, line, self.rest_size = self.read, self._splitter.close(), 0
        self._torn = True
        batches = self._batches([line], [self._offset], self._splitter.cut, b"", self._window)
        for batch in batches:
            batch.unterminated = True
        return batches

    def _change(self, what: str) -> None:
        if self._journal and self.read:
            raise JournalChanged(
                f"the agent's output {what} when {self.read} bytes of it were read"
            )

    def _renew(self) -> None:
        self._change("was replaced or cut")
        if self.read:
            self._generation += 1
            self._delivered.renew()
            self._splitter, self._offset, self.read = LineSplitter(self._limit), 0, 0
        self._window, self._torn = b"", False

    def _resume(self, window: bytes) -> None:
        self._window = window
        if not self._splitter.size:
            self._torn = not window.endswith(b"\n")

    def _batches(
        self,
        lines: list[bytes],
        ends: list[int],
        cut: Mapping[int, int],
        data: bytes,
        before: bytes,
    ) -> list[Batch]:
        """What of *lines* is to be delivered; their last bytes are *before* and *data*."""
        passed = repeats = 0
        if self._journal:  # of which nothing comes again
            self._delivered.lines += len(lines)
        else:
            passed, repeats = self._delivered.sort(lines, cut)
        start = self.read - len(data)  # of the data
        behind = self._delivered.lines - len(lines)
        batches = []
        for first, stop in (passed, passed + repeats), (passed + repeats, len(lines)):
            if first == stop:
                continue
            window = last_bytes(before, data, ends[stop - 1] - start)
            batch = Batch(
                lines[first:stop],
                ends[first:stop],
                Cursor(
                    *self._file,
                    ends[stop - 1],
                    self._generation,
                    behind + stop,
                    digest(window),
                    len(window),
                ),
                b"" if self._journal else self._delivered.new_digests(),
                stop <= passed + repeats,
            )
            if cut:
                batch.cut = {n - first: size for n, size in cut.items() if first <= n < stop}
            batches.append(batch)
        return batches
