"""The live session: one object for its owner and for everybody else, one stream of events."""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.concurrency import task_group
from optio_agents.display import Secrets
from optio_agents.errors import AgentError, AgentExited, AgentReportedError, AlreadyOwned
from optio_agents.protocol.events import DoneEvent, StatusEvent
from optio_agents.store import Store, StoredSession
from optio_agents.store.memory import MemoryJournal
from optio_agents.store.records import SessionResult, SessionState
from optio_agents.supervision import (
    Command,
    LogLine,
    MessageSent,
    Notice,
    SessionBegan,
    SessionEnded,
    SessionEvent,
    StateChanged,
    find_session,
    supervise,
)
from optio_agents.supervision.events import recordable
from optio_agents.supervision.recording import Recording
from optio_agents.testing.scripted import scripted_agent
from tests.support.proc import kill, tagged
from tests.support.sessions.supervising import PLAIN, Office, Watching
from tests.support.timeouts import BOUND

HERE = Path(__file__)
ROOT = HERE.parents[2]


def command(*steps: str) -> Command:
    return Command(scripted_agent(*steps), env=PLAIN, env_base="empty")


# ruff: noqa: ASYNC221, PT012, SIM117  # nobody else needs the loop; a block in a block is meant

# What `supervise` gives is a coroutine to all who look


async def plainly(running: Any) -> SessionResult:
    result: SessionResult = await running
    return result


async def in_a_task(running: Any) -> SessionResult:
    return await plainly(asyncio.create_task(running, name="mine"))


async def in_a_group(running: Any) -> SessionResult:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(running)
    return await plainly(task)


async def in_time(running: Any) -> SessionResult:
    return await plainly(asyncio.wait_for(running, BOUND))


async def gathered(running: Any) -> SessionResult:
    (result,) = await asyncio.gather(running)
    return await plainly(asyncio.sleep(0, result))


async def with_anyio(running: Any) -> SessionResult:
    found = list[SessionResult]()

    async def run() -> None:
        found.append(await running)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
    (result,) = found
    return result


@pytest.mark.parametrize("how", [plainly, in_a_task, in_a_group, in_time, gathered, with_anyio])
async def test_it_is_a_coroutine(
    office: Office, how: Callable[[Any], Awaitable[SessionResult]]
) -> None:
    with anyio.fail_after(BOUND):
        async with office.host() as host:
            running = supervise(host, command("DONE"))
            assert asyncio.iscoroutine(running)
            assert (await how(running)).outcome == "done"


async def test_anyio_starts_it_itself(office: Office) -> None:
    watching = Watching()
    with anyio.fail_after(BOUND):
        async with office.host() as host, anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: supervise(host, command("DONE"), observer=watching))
    assert watching.of(SessionEnded)[0].result.outcome == "done"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_nobody_awaits_is_told_of() -> None:
    with pytest.warns(RuntimeWarning, match="never awaited"):
        supervise(None, command("DONE"))


def test_a_type_checker_takes_it() -> None:
    sample = HERE.with_name("typed_sample.py")
    argv = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(sample)]
    ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


# Entered


async def test_the_owner_sees_and_acts(office: Office) -> None:
    seen = list[SessionEvent]()
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            async with supervise(
                host, command("STATUS: 40% on", "hear", "DONE: all"), store=store, title="T"
            ) as session:
                async for event in session.events():
                    seen.append(event)
                    if isinstance(event, LogLine) and event.event == StatusEvent(40, "on"):
                        assert (str(session.state), session.state.percent) == ("working", 40)
                        name = await session.send("go on", id="first")
                        assert await session.send("go on", id="first") == name
                result = await session.result()
            async with find_session(session.id, store=store) as visited:
                late = [event async for event in visited.events()]
    assert result.outcome == "done"
    assert office.heard() == ["heard: go on"]
    assert [event.number for event in seen] == list(range(1, len(seen) + 1))
    assert isinstance(seen[0], SessionBegan)
    assert (seen[0].title, seen[0].resumed) == ("T", False)
    assert [event.text for event in seen if isinstance(event, MessageSent)] == ["go on"]
    assert isinstance(seen[-1], SessionEnded)
    assert DoneEvent("all") in [event.event for event in seen if isinstance(event, LogLine)]
    assert late == seen


@pytest.mark.parametrize("killed", [False, True])
async def test_others_see_the_last_event_that_the_owner_records(
    office: Office, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How it ends is recorded first; that is its last event when the agent is gone, too."""
    monkeypatch.setattr("optio_agents.supervision.visiting.SLOWLY", 0.1)
    async with office.store() as store:
        await store.add(StoredSession("one", 1.0, "local", "/tasks/one", {"agent": "command"}))
        journal, result = store.journal("one"), SessionResult("one", "done", "all", 1.0, 2.0)
        await journal.append(recordable(Notice("it begins"), 1.0))
        with anyio.fail_after(BOUND), ExitStack() as owning:
            owning.enter_context(store.claim("one", "somebody"))
            await journal.end(result)
            with pytest.raises(AlreadyOwned, match="somebody sees this session to its end"):
                await supervise(None, resume="one", store=store)
            seen = list[SessionEvent]()
            async with find_session("one", store=store) as session, task_group() as tasks:

                async def finish() -> None:
                    if not killed:
                        await journal.finish(result, SessionState("over", "done"))
                    owning.close()

                async for event in session.events():
                    seen.append(event)
                    if len(seen) == 1:
                        tasks.start_soon(finish)
    assert [type(event).__name__ for event in seen] == ["Notice", "SessionEnded"]
    assert [event.number for event in seen] == [1, None if killed else 2]


async def test_a_failure_that_nobody_asked_about_is_raised_by_the_block(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with office.host() as host:
            with pytest.raises(AgentReportedError, match="no luck"):
                async with supervise(host, command("ERROR: no luck")) as session:
                    async for _ in session.events():
                        pass
            async with supervise(host, command("ERROR: no luck")) as session:
                with pytest.raises(AgentReportedError, match="no luck"):
                    await session.result()
            with pytest.raises(KeyError):
                async with supervise(host, command("ERROR: no luck")) as session:
                    raise KeyError("mine")
            with pytest.raises(ValueError, match="say on which host"):
                async with supervise(None, command("DONE")):
                    pass


@pytest.mark.parametrize("how", ["left", "raised", "detached"])
async def test_a_block_that_is_left_stops_the_agent_unless_it_was_detached(
    office: Office, how: str
) -> None:
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            with pytest.raises(KeyError) if how == "raised" else anyio.CancelScope():
                async with supervise(
                    host, command("STATUS: on", "hear", "DONE"), store=store, session="mine"
                ) as session:
                    async for event in session.events():
                        if isinstance(event, LogLine):
                            break
                    if how == "raised":
                        raise KeyError
                    if how == "detached":
                        await session.detach()
                        assert (await session.result()).outcome == "detached"
            stored = await store.session("mine")
            runs = bool(tagged(office.tag()))
            if how == "detached":
                async with find_session("mine", store=store) as session:
                    assert str(session.state).startswith("unattended, 0 s ago: working")
                    assert (await session.stop(grace=1)).empty
                    assert str(session.state).startswith("cancelled: stopped by")
                stored = await store.session("mine")
    assert runs == (how == "detached")
    assert stored.outcome == "cancelled"


async def test_the_owner_interrupts_and_stops_what_it_holds(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            with pytest.raises(AgentExited):
                async with supervise(host, command("run sleep 1000"), store=store) as session:
                    await session.interrupt()
                    async for _ in session.events():
                        pass
            async with supervise(host, command("run sleep 1000"), store=store) as session:
                assert (await session.stop(grace=1)).empty
                result = await session.result()
    assert (result.outcome, str(result.summary)[:10]) == ("cancelled", "stopped by")


async def test_a_stop_that_was_given_up_makes_no_later_crash_a_cancellation(office: Office) -> None:
    stubborn = command("run trap '' TERM", "STATUS: on", "run while :; do sleep 0.1; done")
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            with pytest.raises(AgentExited) as failure:
                async with supervise(host, stubborn, store=store) as session:
                    async for event in session.events():
                        if isinstance(event, LogLine):
                            break
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(session.stop)
                        while not await store.notes(session.id, "stop"):  # noqa: ASYNC110
                            await anyio.sleep(0.01)
                        tasks.cancel_scope.cancel()
                    kill(*tagged(office.tag()))
                    await session.result()
    assert failure.value.result is not None
    assert failure.value.result.outcome == "exited"


# Seen from elsewhere


async def test_news_reach_whoever_looks_on_at_once(office: Office) -> None:
    """Through the journal alone: by its own connection, woken by the file system."""
    late = list[float]()
    steps = [step for n in range(40) for step in (f"STATUS: {n}%", "sleep 0.02")]
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host, office.store() as other:
            async with supervise(host, command(*steps, "DONE"), store=store) as session:
                async with find_session(session.id, store=other) as visited:
                    async for event in visited.events():
                        if isinstance(event, LogLine):
                            late.append(time.time() - event.at)
    assert statistics.median(late) < 0.05


async def test_a_link_that_is_down_for_yet_another_reason_is_down_since_it_broke() -> None:
    recording = Recording(MemoryJournal("mine"), Secrets(), by="us")
    recording.link("down", "it broke")
    broke = recording.state
    recording.link("down", "it does not answer")
    assert (recording.state.detail, recording.state.since) == ("it does not answer", broke.since)


async def test_one_whose_owner_died_is_unattended(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with (
            office.store() as store,
            office.host() as host,
            supervise(
                host, command("STATUS: 40% on", "hear", "DONE"), store=store, session="mine"
            ) as session,
        ):
            async for event in session.events():
                if isinstance(event, LogLine):
                    break
            async with find_session("mine", store=store) as visited:
                assert str(visited.state) == "working"
            (stored,) = await store.sessions()
            assert (str(stored.state), stored.state.percent) == ("working", 40)
            (office.directory / "journal/locks/mine").rename(office.directory / "gone")
            (stored,) = await store.sessions()
            assert str(stored.state).startswith("unattended, 0 s ago: working")
            assert stored.state.by.startswith("process ")
            (office.directory / "gone").rename(office.directory / "journal/locks/mine")
            await session.send("go on")


async def test_state_changes_stand_in_the_stream_and_in_the_journal(office: Office) -> None:
    watching = Watching()
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            await supervise(host, command("DONE: all"), store=store, observer=watching)
            (stored,) = await store.sessions()
    phases = [event.state.phase for event in watching.of(StateChanged)]
    assert phases == ["starting", "working"]
    assert (stored.state.phase, str(stored.state)) == ("over", "done")


# An upgrade


STARTS = """
import asyncio, os, signal, sys
from pathlib import Path
from optio_agents import Command, Store, make_host, supervise
from optio_agents.testing import scripted_agent

def see(seen):
    if "STATUS" in repr(seen):
        os.kill(os.getpid(), signal.SIGKILL)

async def main(directory):
    steps = "STATUS: 30% on", "hear", "write a.txt x", "DELIVERABLE: deliverables/a.txt", "hear"
    argv = scripted_agent(*steps, "DONE: all")
    spec = Command(argv, env_base="empty", env={"PATH": os.environ["PATH"]})
    async with Store(Path(directory, "j.sqlite3")) as store:
        async with make_host(taskdir=f"{directory}/task") as host:
            await supervise(host, spec, store=store, session="old", title="T", observer=see)

asyncio.run(main(sys.argv[1]))
"""
OLD = "f8387da"  # 0.3.2


async def test_what_an_older_version_has_started_is_brought_to_its_end(tmp_path: Path) -> None:
    packed = subprocess.run(["git", "archive", OLD, "src"], cwd=ROOT, capture_output=True)
    if packed.returncode:
        pytest.skip(f"the history is not here: {packed.stderr.decode()}")
    subprocess.run(["tar", "-x", "-C", tmp_path], input=packed.stdout, check=True)
    env = {"PYTHONPATH": str(tmp_path / "src"), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    ran = subprocess.run([sys.executable, "-c", STARTS, tmp_path], env=env, capture_output=True)
    assert ran.returncode == -9, ran.stderr.decode()
    with anyio.fail_after(BOUND):
        async with Store(tmp_path / "j.sqlite3") as store:
            (listed,) = await store.sessions()
            async with find_session("old", store=store) as session:
                before = str(session.state)
                await session.send("go on")
            result = await supervise(None, resume="old", store=store)
            events = await store.events("old")
    assert (listed.over, listed.facts["title"]) == (False, "T")
    assert before.startswith("unattended")
    assert (result.outcome, result.summary) == ("done", "all")
    assert [(d.path, d.taken) for d in result.deliverables] == [("a.txt", True)]
    lines = [row.entry.line for row in events if row.is_line and row.entry]
    assert lines == ["STATUS: 30% on", "DELIVERABLE: deliverables/a.txt", "DONE: all"]
    assert [row.number for row in events] == list(range(1, len(events) + 1))


async def test_an_answer_needs_something_that_is_asked(office: Office) -> None:
    from optio_agents.conversation import PermissionDecision, PermissionRequest
    from optio_agents.supervision import OpenRequest

    with anyio.fail_after(BOUND):
        async with office.host() as host:
            async with supervise(host, command("hear", "DONE")) as session:
                request = OpenRequest.of(PermissionRequest("Bash", {}, {"request_id": "x"}))
                with pytest.raises(AgentError, match="is open"):
                    await session.answer(request, PermissionDecision("allow"))
                assert session.requests == ()


def test_nothing_outside_of_the_kinds_branches_on_the_name_of_one() -> None:
    package = ROOT / "src/optio_agents"
    for path in package.rglob("*.py"):
        text = path.read_text("utf-8")
        if "supervision/kinds/" not in path.as_posix():
            for name in '"claude"', '"command"', "'claude'", "'command'":
                lines = [line for line in text.splitlines() if name in line and "==" in line]
                assert not lines, f"{path}: {lines}"


async def test_a_journal_may_be_given_by_the_path_of_its_file(office: Office) -> None:
    path = office.directory / "journal.sqlite3"
    with anyio.fail_after(BOUND):
        async with office.host() as host:
            agent = command("STATUS: 20% there", "hear", "DONE: all")
            async with supervise(host, agent, store=path) as session:
                async with find_session(session.id, store=str(path)) as seen:
                    async for event in seen.events():
                        if isinstance(event, LogLine):
                            break
                    await seen.send("go")
                assert (await session.result()).outcome == "done"
