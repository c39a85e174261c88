"""What a session may use, and that one which waits without DONE says so."""

import time
from dataclasses import replace
from typing import Any

import anyio
import pytest

from optio_agents.conversation.contract import TurnResult
from optio_agents.errors import SessionLimitReached
from optio_agents.store import Store
from optio_agents.store.memory import MemoryJournal
from optio_agents.supervision import Claude, Command, events as happened
from optio_agents.supervision.events import SessionBegan, TurnEnded, recordable
from optio_agents.supervision.limits import SessionMeter
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.model_server import ModelServer, scripted
from optio_agents.testing.scripted import scripted_agent
from tests.support.claude.claude_cli import OFF, executable, surroundings
from tests.support.sessions.supervising import PLAIN, Case, Office, Watching
from tests.support.timeouts import BOUND


def claude(office: Office, api: ModelServer, *steps: dict[str, Any]) -> Claude:
    return Claude(
        scripted(*steps),
        allowed_tools=("Bash",),
        options=OFF,
        executable=executable(),
        env=surroundings(office.directory, api),
        env_base="empty",
    )


async def test_a_clock_that_is_set_back_gives_no_more_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    journal = MemoryJournal("s1")
    journal.append(recordable(SessionBegan("h", "/t", "", resumed=False, by="us"), time.time() - 9))
    meter = SessionMeter(max_time=9.3)
    await meter.recall(journal)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with anyio.fail_after(BOUND):
        result = await meter.within(anyio.sleep_forever)
    assert "within 9.3 s" in str(result)


TALKS = {"text": "I have a question."}
DONE = {"tool": "Bash", "input": {"command": "echo 'DONE: all' >> optio.log"}}


@pytest.mark.parametrize("limits", [{"max_turns": 1}, {"max_usd": 1e-9}])
async def test_a_turn_beyond_the_limit_ends_the_session(
    office: Office, limits: dict[str, Any]
) -> None:
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store, office.host() as host:
            with pytest.raises(SessionLimitReached) as failure:
                await supervise(host, claude(office, api, TALKS), store=store, **limits)
            (stored,) = await store.sessions()
    assert failure.value.result.outcome == "over limit"
    assert stored.over


async def test_the_last_turn_that_it_may_is_enough_for_done(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store, office.host() as host:
            spec = claude(office, api, DONE, {"text": "That is all."})
            result = await supervise(host, spec, store=store, max_turns=1)
    assert (result.outcome, result.summary) == ("done", "all")


async def test_time_is_counted_from_when_the_session_began(office: Office) -> None:
    agent = Command(scripted_agent("sleep 1000"), env=PLAIN, env_base="empty")
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            with pytest.raises(SessionLimitReached, match=r"within 0\.5 s"):
                await supervise(host, agent, store=store, max_time=0.5)


@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_who_resumes_a_session_keeps_its_limits(case: Case) -> None:
    plan = case.plan("STATUS: 1%", "sleep 1000", step="recorded before handed over")
    with anyio.fail_after(BOUND):
        await case.dies(replace(plan, options={"max_time": 0.01}))
        async with Store(case.directory / "j.sqlite3") as store:
            with pytest.raises(SessionLimitReached):
                await case.resume(store)


async def test_what_earlier_supervisors_saw_counts() -> None:
    journal, now = MemoryJournal("s1"), time.time()
    turns = [
        TurnResult(outcome="completed", cost=0.5),
        TurnResult(outcome="failed", raw={"total_cost_usd": 0.75}),
    ]
    began = SessionBegan("here", "/t", "", False, "me")
    events = (began, *map(TurnEnded, turns), replace(began, resumed=True))
    for number, event in enumerate(events):
        await journal.append(replace(recordable(event, now - 100), key=f"{number}"))
    meter = SessionMeter(max_time=90)
    await meter.recall(journal)
    assert (meter.turns, meter.usd, meter.reached.is_set()) == (2, 0.75, True)


async def test_one_that_ends_its_turn_without_done_is_idle(office: Office) -> None:
    watching, stop = Watching(), anyio.Event()

    def idle() -> bool:
        states = [seen.state for seen in watching.of(happened.StateChanged)]
        return bool(states) and str(states[-1]) == "idle without DONE"

    with anyio.fail_after(BOUND):
        async with (
            ModelServer().serve() as api,
            office.store() as store,
            office.host() as host,
            anyio.create_task_group() as tasks,
        ):

            async def watch() -> None:
                await watching.until(idle)
                stop.set()

            tasks.start_soon(watch)
            spec = claude(office, api, TALKS)
            result = await supervise(host, spec, store=store, observer=watching, cancel_when=stop)
    assert result.outcome == "cancelled"


async def test_one_that_is_done_and_slow_to_leave_is_not_idle(office: Office) -> None:
    watching = Watching()
    slow = office.directory / "slow"
    slow.write_text(f'#!/bin/sh\n{executable()} "$@"\nsleep 3\n')
    slow.chmod(0o755)
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store, office.host() as host:
            spec = replace(
                claude(office, api, DONE, {"text": "That is all."}), executable=str(slow)
            )
            result = await supervise(host, spec, store=store, observer=watching)
    assert result.outcome == "done"
    assert "idle" not in [seen.state.phase for seen in watching.of(happened.StateChanged)]
