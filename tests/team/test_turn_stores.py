"""Each store of turns passes the published suite."""

from pathlib import Path

import pytest

from optio_agents.team.stores.memory import MemoryTurns
from optio_agents.team.stores.sqlite import SqliteTurns
from optio_agents.testing.turn_stores import SHARED_STORE_CASES, TURN_STORE_CASES, Case


@pytest.mark.parametrize("case", TURN_STORE_CASES, ids=lambda case: case.__name__)
async def test_memory(case: Case) -> None:
    await case(MemoryTurns)


@pytest.mark.parametrize(
    "case", TURN_STORE_CASES + SHARED_STORE_CASES, ids=lambda case: case.__name__
)
async def test_sqlite(case: Case, tmp_path: Path) -> None:
    await case(lambda: SqliteTurns(tmp_path / "journal.sqlite3"))
