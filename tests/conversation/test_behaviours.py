"""One suite for every agent: on real ones where they are installed, and on what they once said."""

from __future__ import annotations

import anyio
import pytest

from optio_agents.testing.transcript import names
from tests.support.agents import table
from tests.support.agents.behaviours import ALL, EXCEPT, played, recorded
from tests.support.agents.real_agents import AGENTS, from_transcript, over_pipes
from tests.support.timeouts import BOUND

RECORDED = [agent for agent in AGENTS if recorded(agent)]
SHOWN = table.read()  # what the guide says


@pytest.mark.parametrize(
    ("agent", "name"),
    [(agent, name) for agent in RECORDED for name in recorded(agent)],
)
async def test_recorded(agent, name):
    with anyio.fail_after(BOUND):
        async with from_transcript(AGENTS[agent], name) as talk:
            assert await played(name, talk, agent) == SHOWN[agent, name]


@pytest.mark.parametrize(
    ("agent", "name"),
    [(agent, name) for agent in AGENTS for name in ALL if (agent, name) not in EXCEPT],
)
async def test_real(agent, name, tmp_path):
    with anyio.fail_after(BOUND):
        async with over_pipes(AGENTS[agent], tmp_path) as talk:
            assert await played(name, talk, agent) == SHOWN[agent, name]


@pytest.mark.parametrize("agent", RECORDED)
def test_every_case_is_recorded_and_nothing_else(agent):
    assert {f"{agent}/{name}" for name in recorded(agent)} == {*names(agent)}


def test_the_guide_shows_every_agent_in_every_case():
    assert [*SHOWN] == [(agent, name) for name in ALL for agent in AGENTS]
    assert "?" not in SHOWN.values()
    assert {cell: SHOWN[cell] for cell in EXCEPT} == EXCEPT
