"""Each store of turns passes the published suite, also one of somebody's own."""

from pathlib import Path

import pytest

from optio_agents.team import Team, TurnContext
from optio_agents.team.stores.memory import MemoryTurns
from optio_agents.team.stores.sqlite import SqliteTurns
from optio_agents.testing.turn_stores import SHARED_STORE_CASES, TURN_STORE_CASES, Case
from tests.team.small_store import FileTurns


@pytest.mark.parametrize("case", TURN_STORE_CASES, ids=lambda case: case.__name__)
async def test_memory(case: Case) -> None:
    await case(MemoryTurns)


@pytest.mark.parametrize(
    "case", TURN_STORE_CASES + SHARED_STORE_CASES, ids=lambda case: case.__name__
)
async def test_sqlite(case: Case, tmp_path: Path) -> None:
    await case(lambda: SqliteTurns(tmp_path / "journal.sqlite3"))


@pytest.mark.parametrize("case", TURN_STORE_CASES, ids=lambda case: case.__name__)
async def test_ag_08_ag_11_a_store_of_ones_own(case: Case, tmp_path: Path) -> None:
    await case(lambda: FileTurns(tmp_path / "turns.json"))


async def test_a_team_works_on_a_store_of_ones_own(tmp_path: Path) -> None:
    async def boss(ctx: TurnContext) -> str:
        return f"boss of {await ctx.call('echo', ctx.text)}"

    async def echo(ctx: TurnContext) -> str:
        return f"echo {ctx.text}"

    for _ in range(2):  # the second time it is known
        async with Team({"boss": boss, "echo": echo}, store=FileTurns(tmp_path / "t")) as team:
            assert str(await team.call("boss", "x", id="one")) == "boss of echo x"
