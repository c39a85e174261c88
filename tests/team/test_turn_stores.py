"""Each store of turns passes the published suite."""

import pytest

from optio_agents.team.stores.memory import MemoryTurns
from optio_agents.testing.turn_stores import TURN_STORE_CASES, Case


@pytest.mark.parametrize("case", TURN_STORE_CASES, ids=lambda case: case.__name__)
async def test_memory(case: Case) -> None:
    await case(MemoryTurns)
