"""kill -9 of the supervisor at each step of a turn and a permission: nothing lost, nor twice."""

# ruff: noqa: ASYNC240  # files send no events

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import anyio
import pytest

from optio_agents.conversation import PermissionDecision
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.model_server import ModelServer, scripted
from tests.support.agents.killed import STEPS
from tests.support.agents.real_agents import AGENTS
from tests.support.sessions.supervising import Office
from tests.support.timeouts import BOUND


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("agent", ["codex", "kimi"])
async def test_a_successor_goes_on(office: Office, agent: str, step: str) -> None:
    real = AGENTS[agent]
    log = f"{office.taskdir}/workdir/optio.log"
    steps = (
        {"shell": "echo once >> made"},
        # held, or it may be over before its supervisor has died
        {"shell": f"printf '%s\\n' 'DONE: all' >> {log}", "hold": "x"},
        {"text": "made it"},
    )
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model:
            plan = {
                "agent": agent,
                "step": step,
                "journal": str(office.directory / "journal" / "j.sqlite3"),
                "taskdir": office.taskdir,
                "spec": {
                    "prompt": scripted(*steps),
                    "executable": real.argv()[0],
                    "env": real.surroundings(office.directory, model),
                    "env_base": "empty",
                },
            }
            file = office.directory / "plan.json"
            file.write_text(json.dumps(plan))
            argv = [sys.executable, "-m", "tests.support.agents.killed", str(file)]
            root = Path(__file__).parents[2]
            killed = await anyio.run_process(argv, check=False, cwd=root)
            assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
            model.release("x")
            async with office.store() as store:
                result = await supervise(
                    None,
                    resume="killed",
                    store=store,
                    on_permission_request=lambda _: PermissionDecision("allow"),
                )
                turns = [row for row in await store.events("killed") if row.kind == "turn"]
    assert result.outcome == "done"
    assert Path(office.taskdir, "workdir/made").read_text() == "once\n"
    assert len(turns) == 1
