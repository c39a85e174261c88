"""The table of rows is whole, and names in tests are rows of it."""

from collections import Counter
from pathlib import Path

from tests.team.rows import KINDS, kinds, rows_of


def test_there_are_as_many_rows_as_the_four_systems_promise() -> None:
    assert Counter(kinds().values()) == {"core": 177, "marginal": 44, "argued against": 2}


def test_a_test_names_rows_that_exist() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    names = [line for line in text.splitlines() if "def test_" in line]
    assert {row for name in names for row in rows_of(name)} <= kinds().keys()
    assert list(rows_of("test_ao_12_ag_16_four")) == ["AO-12", "AG-16"]


def test_the_table_in_the_guide_is_true() -> None:
    guide = Path(__file__).parents[2] / "src/optio_agents/guide/team.md"
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    tested = {row for line in text.splitlines() if "def test_" in line for row in rows_of(line)}
    for kind in KINDS:
        rows = [row for row, its in kinds().items() if its == kind]
        missing = " ".join(row for row in rows if row not in tested)
        count = sum(row in tested for row in rows)
        line = f"| {kind} | {len(rows)} | {count} | {missing} |".replace("|  |", "| |")
        assert line in guide.read_text().splitlines(), line
