"""Which lines at the front of a replaced file were delivered before."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SIZE = 8  # bytes of a line's digest


class Delivered:
    """The lines delivered so far, by their digests; a new generation is compared with them.

    As long as a new generation only repeats what was delivered it may still be in the middle of
    being written, so the comparison goes on with whatever comes: the outcome does not depend on
    how often somebody looked meanwhile.
    """

    def __init__(self, digests: bytes, lines: int, *, compared: int) -> None:
        self._limit = compared  # lines of a generation whose digests are kept
        self._digests = bytearray(digests[: _SIZE * min(lines, compared)])
        self._known = lines  # delivered, in this generation or the one it is compared with
        self._at = lines  # lines of this generation
        self._told = len(self._digests)

    @property
    def lines(self) -> int:
        """Of this generation, delivered now or before."""
        return self._at

    def renew(self) -> None:
        """The file was replaced: compare from its front on."""
        self._at = self._told = 0

    def sort(self, lines: Sequence[bytes], cut: Mapping[int, int]) -> tuple[int, int]:
        """Take the next lines of this generation.

        Returns how many of them to pass over, and how many of the others may be repeats.
        """
        passed = self._pass_over(lines, cut)
        repeats = min(max(self._known - self._at - passed, 0), len(lines) - passed)
        old = passed + repeats
        self._at += old
        if new := lines[old:]:
            self._add(new, shifted(cut, old))
        return passed, repeats

    def tell(self) -> bytes:
        """The digests of this generation that were not told yet."""
        end = min(self._at * _SIZE, len(self._digests))
        told, self._told = bytes(self._digests[self._told : end]), max(end, self._told)
        return told

    def _pass_over(self, lines: Sequence[bytes], cut: Mapping[int, int]) -> int:
        compared = len(self._digests) // _SIZE - self._at
        if compared <= 0:
            return 0
        new = _digests(lines[:compared], cut)
        old = self._digests[_SIZE * self._at :][: len(new)]
        if new == old:
            return len(new) // _SIZE
        steps = range(0, len(new), _SIZE)
        same = next(n for n in steps if new[n : n + _SIZE] != old[n : n + _SIZE]) // _SIZE
        self._known = self._at + same  # here the generations part
        del self._digests[_SIZE * self._known :]
        return same

    def _add(self, lines: Sequence[bytes], cut: Mapping[int, int]) -> None:
        if len(self._digests) == _SIZE * self._at:  # else some are unknown, or there are enough
            self._digests += _digests(lines[: max(self._limit - self._at, 0)], cut)
        self._at = self._known = self._at + len(lines)


def _digests(lines: Iterable[bytes], cut: Mapping[int, int]) -> bytes:
    if cut:  # the size stands for what was dropped
        lines = [b"%b\n%d" % (line, cut[n]) if n in cut else line for n, line in enumerate(lines)]
    return b"".join([blake2b(line, digest_size=_SIZE).digest() for line in lines])


def shifted(cut: Mapping[int, int], by: int) -> Mapping[int, int]:
    """The same marks for the lines from *by* on."""
    if not cut:
        return cut
    return {index - by: size for index, size in cut.items() if index >= by}
