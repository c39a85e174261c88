"""One suite for every agent: on real ones where they are installed, and on what they once said."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from optio_agents.testing.transcript import names
from tests.support.agents.behaviours import CASES, EXCEPT, OUTCOMES, REAL_ONLY, recorded
from tests.support.agents.real_agents import AGENTS, from_transcript, over_pipes
from tests.support.timeouts import BOUND

RECORDED = [agent for agent in AGENTS if agent != "claude"]  # which has recordings of its own
ALL = {**CASES, **REAL_ONLY}


@pytest.mark.parametrize(
    ("agent", "name"),
    [(agent, name) for agent in RECORDED for name in recorded(agent)],
)
async def test_recorded(agent, name):
    with anyio.fail_after(BOUND):
        async with from_transcript(AGENTS[agent], name) as talk:
            await CASES[name](talk, agent)


@pytest.mark.parametrize(
    ("agent", "name"),
    [(agent, name) for agent in AGENTS for name in ALL if (agent, name) not in EXCEPT],
)
async def test_real(agent, name, tmp_path):
    with anyio.fail_after(BOUND):
        async with over_pipes(AGENTS[agent], tmp_path) as talk:
            await ALL[name](talk, agent)


@pytest.mark.parametrize("agent", RECORDED)
def test_every_case_is_recorded_and_nothing_else(agent):
    assert {f"{agent}/{name}" for name in recorded(agent)} == {*names(agent)}


# The guide shows how turns end whose model call went wrong; it says what is played here.
GUIDE = Path(__file__).parents[2] / "src/optio_agents/guide/agents.md"
ROWS = {
    "bad request (400)": "bad-request",
    "not logged in (401)": "not-logged-in",
    "the model refuses": "refusal",
    "no words at all": "no-words",
}


def test_the_guide_tells_how_turns_end_as_they_do():
    tables = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in GUIDE.read_text().splitlines()
        if line.startswith("|")
    ]
    agents = tables[0][1:]
    for row, case in ROWS.items():
        (shown,) = [line[1:] for line in tables if line[0] == row]
        for agent, word in zip(agents, shown, strict=True):
            outcome = OUTCOMES[case].get(agent, "asks again")
            passes = outcome == "completed"
            assert word == (f"**{outcome}**" if passes else outcome), (row, agent)
            assert outcome != "asks again" or (agent, case) in EXCEPT
