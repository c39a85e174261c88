"""Each planted bug still fits the code; whether a suite notices it takes an hour to see."""

from tests.mutants.__main__ import TREE
from tests.mutants.mutant_list import MUTANTS


def test_the_line_of_each_bug_stands_once_where_it_is_looked_for() -> None:
    lost = {one.name for one in MUTANTS if (TREE / one.file).read_text().count(one.right) != 1}
    assert lost == set()


def test_each_bug_is_shown_to_tests_that_are_there() -> None:
    files = {word for one in MUTANTS for word in one.suite if word.startswith("tests/")}
    assert {name for name in files if not (TREE / name.partition("::")[0]).exists()} == set()
