"""An agent that died is started again, so often and no more, whoever supervises it."""

# ruff: noqa: ASYNC240  # nobody else needs the event loop meanwhile

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents import agents
from optio_agents.errors import AgentExited, AgentReportedError, DoneRefused
from optio_agents.store import Store
from optio_agents.supervision import Claude, Command, events as happened, find_session, supervisor
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.model_server import ModelServer, scripted
from optio_agents.testing.scripted import scripted_agent
from tests.support.claude.claude_cli import OFF, executable, surroundings
from tests.support.sessions.supervising import PLAIN, Case, Office, Watching
from tests.support.timeouts import BOUND

# Dies at its first start, and finds what it did then at the second.
DIES_ONCE = (
    "STATUS: on",
    "run [ -e died ] || { touch died; kill -9 $$; }",
    "run echo secret $KEY >>../../seen",
    "DONE: again",
)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_PAUSE", 0.01)


async def run(office: Office, *steps: str, **options: Any) -> Any:
    spec = Command(
        scripted_agent(*steps), prompt="go", env={**PLAIN, "KEY": "s3cretvalue"}, env_base="empty"
    )
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            return await supervise(host, spec, store=store, session="s1", **options)


async def test_one_that_died_is_started_again_and_told_so(office: Office) -> None:
    watching = Watching()
    result = await run(office, *DIES_ONCE, restart=2, observer=watching)
    assert (result.outcome, result.summary) == ("done", "again")
    (again,) = watching.of(happened.AgentRestarted)
    assert (again.count, again.most) == (1, 2)
    assert "ended by KILL" in again.why
    assert watching.lines == ["STATUS: on", "STATUS: on", "DONE: again"]
    assert "System: you have been resumed: your process died (" in office.first_input()
    assert office.first_input().endswith("go\n")


async def test_it_is_started_so_often_and_no_more(office: Office) -> None:
    watching = Watching()
    with pytest.raises(AgentExited):
        await run(office, "STATUS: on", "exit 3", restart=2, observer=watching)
    assert [one.count for one in watching.of(happened.AgentRestarted)] == [1, 2]
    assert len(watching.lines) == 3
    async with office.store() as store:
        assert (await store.session("s1")).outcome == "exited"


@pytest.mark.parametrize(
    ("last", "error"), [("ERROR: no", AgentReportedError), ("DONE", DoneRefused)]
)
async def test_one_that_has_said_how_it_ended_is_not(
    office: Office, last: str, error: type[Exception]
) -> None:
    watching = Watching()
    with pytest.raises(error):
        await run(office, last, restart=2, observer=watching, verify="false")
    assert watching.of(happened.AgentRestarted) == []


async def test_one_that_somebody_stopped_is_not(office: Office) -> None:
    watching = Watching()

    async def stop() -> None:
        await watching.until(lambda: watching.lines)
        async with office.store() as store, find_session("s1", store=store) as session:
            await session.stop()

    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop)
            result = await run(office, "STATUS: on", "sleep 1000", restart=2, observer=watching)
    assert result.outcome == "cancelled"
    assert watching.of(happened.AgentRestarted) == []


STEPS = [
    "restart recorded",
    "forgotten before started again",
    "tagged before started again",
    "before the end is written",
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_killed_at_any_step_it_is_started_again(case: Case, step: str) -> None:
    plan = replace(case.plan(*DIES_ONCE, step=step), options={"restart": 5})
    plan = replace(plan, spec={**plan.spec, "env": {**PLAIN, "KEY": "s3cretvalue"}})
    with anyio.fail_after(BOUND):
        await case.dies(plan)
        async with Store(case.directory / "j.sqlite3") as store:
            result = await case.resume(store)
            rows = [row.value["count"] for row in await store.events("s1") if row.kind == "restart"]
    assert (result.outcome, result.summary) == ("done", "again")
    assert rows == list(range(1, len(rows) + 1))
    assert 1 <= len(rows) <= 2
    assert Path(case.taskdir, "../seen").resolve().read_text().strip().endswith("s3cretvalue")


async def test_claude_goes_on_in_its_own_conversation(office: Office) -> None:
    watching = Watching()
    log = "echo 'STATUS: first' >> optio.log"
    steps = {"tool": "Bash", "input": {"command": log}}, {"text": "I wait.", "hold": "waiting"}

    async with ModelServer().serve() as api, office.store() as store, office.host() as host:

        async def kill_it() -> None:
            await api.held("waiting")
            async with agents.adopt(host) as agent:
                agent.detach()
                await agent.signal("KILL")
            await watching.until(lambda: watching.of(happened.AgentRestarted))
            api.release("waiting")

        spec = Claude(
            scripted(*steps),
            allowed_tools=("Bash",),
            options=OFF,
            executable=executable(),
            env=surroundings(office.directory, api),
            env_base="empty",
        )
        with anyio.fail_after(BOUND):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kill_it)
                session = supervise(
                    host, spec, store=store, restart=1, observer=watching, max_turns=2
                )
                with pytest.raises(Exception, match="as many as it may"):
                    await session
        said = str(api.requests[-1]["messages"])
    assert "STATUS: first" in said, "it knows what it did before"
    assert "you have been resumed" in said
