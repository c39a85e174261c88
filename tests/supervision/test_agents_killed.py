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
from optio_agents.store import Store
from optio_agents.store.records import SessionResult
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.model_server import ModelServer, scripted
from tests.support.agents.killed import DENIAL_STEPS, STEPS
from tests.support.agents.real_agents import AGENTS
from tests.support.sessions.supervising import Office
from tests.support.timeouts import BOUND


async def be_killed(
    office: Office, agent: str, step: str, model: ModelServer, prompt: str, *decision: str | None
) -> None:
    """A session "killed", whose supervisor has died at *step*."""
    real = AGENTS[agent]
    plan = {
        "agent": agent,
        "step": step,
        "journal": str(office.directory / "journal" / "j.sqlite3"),
        "taskdir": office.taskdir,
        "decision": decision or ["allow"],
        "spec": {
            "prompt": prompt,
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


async def resumed(store: Store) -> SessionResult:
    """How that session ends where everything is allowed."""
    return await supervise(
        None,
        resume="killed",
        store=store,
        on_permission_request=lambda _: PermissionDecision("allow"),
    )


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("agent", ["codex", "kimi"])
async def test_a_successor_goes_on(office: Office, agent: str, step: str) -> None:
    log = f"{office.taskdir}/workdir/optio.log"
    steps = (
        {"shell": "echo once >> made"},
        # held, or it may be over before its supervisor has died
        {"shell": f"printf '%s\\n' 'DONE: all' >> {log}", "hold": "x"},
        {"text": "made it"},
    )
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model:
            await be_killed(office, agent, step, model, scripted(*steps))
            model.release("x")
            async with office.store() as store:
                result = await resumed(store)
                turns = [row for row in await store.events("killed") if row.kind == "turn"]
    assert result.outcome == "done"
    assert Path(office.taskdir, "workdir/made").read_text() == "once\n"
    assert len(turns) == 1


@pytest.mark.parametrize("step", DENIAL_STEPS)
@pytest.mark.parametrize("agent", ["codex", "kimi"])
async def test_the_reason_of_a_denial_is_told_once(office: Office, agent: str, step: str) -> None:
    """It ends the session: the script of what is to be done instead travels in it."""
    log = f"{office.taskdir}/workdir/optio.log"
    done = {"shell": f"printf '%s\\n' 'DONE: all' >> {log}"}, {"text": "made it"}
    reason = scripted(*done, say="Do this instead.")
    outside = {"shell": f"touch {office.directory}/made"}
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as model:
            prompt = scripted(outside, {"text": "well"})
            await be_killed(office, agent, step, model, prompt, "deny", None, reason)
            async with office.store() as store:
                result = await resumed(store)
                sent = [row for row in await store.events("killed") if row.kind == "sent"]
    assert result.outcome == "done"
    assert not (office.directory / "made").exists()
    said = list(Path(office.taskdir, "session", "said").glob("*reason*"))
    assert [len(sent), len(said)] == [1, 1]
