"""Random bytes against an invariant: mutations of known samples, and a corpus of what broke.

`./tests/run --fuzz 10m` runs this alone, for that long; in an ordinary run it takes a moment.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

CORPUS = Path(__file__).parent / "fuzz_corpus"
INPUTS_PER_ROUND = 40
_UNITS = {"s": 1, "m": 60, "h": 3600}
_HUGE = 100_000


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("random suites")
    group.addoption("--fuzz", metavar="10m", help="only this: random inputs for so long")


def seconds(told: str) -> float:
    """How long `10m` is."""
    found = re.fullmatch(r"(\d+)([smh])", told)
    if not found:
        raise pytest.UsageError("--fuzz takes a number and one of s, m, h: 10m")
    return int(found[1]) * _UNITS[found[2]]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if told := config.getoption("--fuzz"):
        keep = [item for item in items if item.get_closest_marker("fuzz")]
        config.hook.pytest_deselected(items=[item for item in items if item not in keep])
        items[:] = keep
        for item in items:
            item.add_marker(pytest.mark.timeout(seconds(told) + 300))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fuzz: random inputs, for as long as --fuzz says")


class Fuzzer:
    """Feeds *holds* with inputs until the time or the rounds are over; keeps what breaks it."""

    def __init__(self, name: str, samples: Sequence[bytes], dice: random.Random) -> None:
        self._name, self._dice = name, dice
        kept = sorted((CORPUS / name).glob("*")) if (CORPUS / name).is_dir() else []
        self.known = [*samples, *(path.read_bytes() for path in kept)]

    def inputs(self, *, rounds: int, lasting: float | None) -> Iterator[bytes]:
        """First all that is known, then what is like it."""
        yield from self.known
        end = time.monotonic() + (lasting or 0)
        left = rounds * INPUTS_PER_ROUND
        while time.monotonic() < end if lasting else left > 0:
            left -= 1
            yield self._mutant()

    def keep(self, data: bytes) -> Path:
        """Write an input down that broke the invariant."""
        path = CORPUS / self._name / hashlib.sha256(data).hexdigest()[:12]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def _mutant(self) -> bytes:
        data = bytearray(self._dice.choice(self.known))
        for _ in range(self._dice.randint(1, 5)):
            self._dice.choice(_MUTATIONS)(data, self._dice, self.known)
        return bytes(data[:_HUGE])


def _place(data: bytearray, dice: random.Random) -> int:
    return dice.randint(0, len(data))


def _flip(data: bytearray, dice: random.Random, _: Sequence[bytes]) -> None:
    if data:
        data[dice.randrange(len(data))] = dice.randrange(256)


def _insert(data: bytearray, dice: random.Random, _: Sequence[bytes]) -> None:
    at = _place(data, dice)
    data[at:at] = dice.choice((dice.randbytes(3), b"\n", b"\x00", b"../", b'"', b"\xef\xbb\xbf"))


def _remove(data: bytearray, dice: random.Random, _: Sequence[bytes]) -> None:
    at = _place(data, dice)
    del data[at : at + dice.randint(1, 8)]


def _splice(data: bytearray, dice: random.Random, known: Sequence[bytes]) -> None:
    other = dice.choice(known)
    at, start = _place(data, dice), dice.randint(0, len(other))
    data[at:at] = other[start : start + dice.randint(1, 64)]


def _repeat(data: bytearray, dice: random.Random, _: Sequence[bytes]) -> None:
    at = _place(data, dice)
    piece = bytes(data[at : at + dice.randint(1, 4)])
    data[at:at] = piece * dice.choice((2, 10, 1000))


_VALUES: tuple[Any, ...] = (
    None, True, -1, 0.5, float("nan"), float("inf"), 10**400, "", "r1", "\ud800", "\x1b[2J\u202e",
    [], {}, [[]], {"a": []}, "x" * 5000,
)  # fmt: skip


def warped(value: Any, dice: random.Random, depth: int = 0) -> Any:
    """*value* as JSON knows values, with something else in a few of its places."""
    if dice.random() < 0.06:
        return dice.choice(_VALUES)
    match value:
        case dict():
            kept = {name: warped(inner, dice, depth + 1) for name, inner in value.items()}
            if kept and dice.random() < 0.05:
                del kept[dice.choice(list(kept))]
            return kept
        case list():
            times = dice.choice((1, 1, 1, 2)) if depth < 8 else 1  # doubled at each of 600, no end
            return [warped(inner, dice, depth + 1) for inner in value * times]
    return value


_MUTATIONS: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...] = (
    _flip,
    _insert,
    _remove,
    _splice,
    _repeat,
)
