"""One suite for every agent: on real ones where they are installed, and on what they once said."""

from __future__ import annotations

import anyio
import pytest

from optio_agents.testing.transcript import names
from tests.support.agents.behaviours import CASES, EXCEPT, REAL_ONLY
from tests.support.agents.real_agents import AGENTS, from_transcript, over_pipes
from tests.support.timeouts import BOUND

RECORDED = ("codex", "gemini", "kimi")


ALL = {**CASES, **REAL_ONLY}


@pytest.mark.parametrize(
    ("agent", "name"),
    [(agent, name) for agent in RECORDED for name in CASES if (agent, name) not in EXCEPT],
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
    wanted = {f"{agent}/{name}" for name in CASES if (agent, name) not in EXCEPT}
    assert wanted == {*names(agent)}
