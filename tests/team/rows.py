"""Which promises of four published systems hold here: `python -m tests.team.rows [--collect]`.

A row holds when a test bears its id (`test_ao_12_…`) and every test that does passes. With
`--collect` nothing is run, and what has a test is listed.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

# How many rows each system has, and which of them may be thin, or are met in another way.
SYSTEMS = {
    "AO": (94, "17 19 20 23 24 25 30 34 48 58 68 78 91 93 94", "21 22"),
    "PG": (24, "02 21 22 23", ""),
    "AG": (56, "01 11 19 21 49 50 51 52 53 54", ""),
    "MA": (49, "03 08 20 21 22 23 25 26 27 28 33 38 44 47 48", ""),
}
KINDS = ("core", "marginal", "argued against")
_ID = re.compile(r"(ao|pg|ag|ma)_(\d\d)(?=_)")


def kinds() -> dict[str, str]:
    """Every row, with its kind."""
    found = {}
    for system, (count, marginal, argued) in SYSTEMS.items():
        for number in range(1, count + 1):
            words = f"{number:02}"
            kind = "core"
            if words in marginal.split():
                kind = "marginal"
            elif words in argued.split():
                kind = "argued against"
            found[f"{system}-{words}"] = kind
    return found


def rows_of(test: str) -> Iterator[str]:
    """The rows that a test shows, by its name."""
    for system, number in _ID.findall(test.partition("[")[0]):
        yield f"{system.upper()}-{number}"


class Outcomes:
    """A plugin of pytest that remembers how the tests of each row went."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.passed: dict[str, list[bool]] = defaultdict(list)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self.known.update(rows_of(item.name))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            for row in rows_of(report.nodeid.rpartition("::")[2]):
                self.passed[row].append(report.passed)


def main(words: list[str]) -> int:
    collect = "--collect" in words
    outcomes = Outcomes()
    options = ["-q", "--no-header", "-p", "no:cacheprovider", str(Path(__file__).parent)]
    pytest.main([*options, "--collect-only", "-qq"] if collect else options, plugins=[outcomes])
    known = kinds()
    if strangers := outcomes.known - known.keys():
        raise SystemExit(f"no such rows: {', '.join(sorted(strangers))}")
    holds = {row for row, passed in outcomes.passed.items() if all(passed)}
    holds = outcomes.known if collect else holds
    for kind in KINDS:
        rows = [row for row, its in known.items() if its == kind]
        broken = [row for row in rows if row in outcomes.known - holds]
        missing = [row for row in rows if row not in outcomes.known]
        good = [row for row in rows if row in holds]
        print(f"\n{kind}: {len(good)} of {len(rows)} {'have a test' if collect else 'hold'}")  # noqa: T201
        for title, some in (("hold", good), ("broken", broken), ("no test yet", missing)):
            if some:
                print(f"  {title}: {' '.join(some)}")  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
