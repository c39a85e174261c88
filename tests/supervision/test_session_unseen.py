"""An agent that cannot be seen just now is neither dead nor anybody's to clear away."""

# ruff: noqa: ASYNC220, ASYNC240  # nobody else needs the event loop meanwhile

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents import agents
from optio_agents.agents import Lease
from optio_agents.agents.directory import text_of
from optio_agents.errors import (
    AgentError,
    AgentExited,
    AgentUnseen,
    AlreadyOwned,
    HostLost,
    OptioAgentsError,
)
from optio_agents.hosts.machine import Answer
from optio_agents.store import Store
from optio_agents.store.records import SessionResult
from optio_agents.supervision import Command, events as happened, find_session
from optio_agents.supervision.pruning import prune
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.scripted import scripted_agent
from tests.support.hosts.hosts import Ground
from tests.support.proc import kill, process, tagged, wait_until
from tests.support.sessions.supervising import PLAIN, Case, Office, case, office
from tests.support.timeouts import BOUND

__all__ = ["case", "office"]  # fixtures


async def detached(host: Any, store: Store, *steps: str, session: str = "mine") -> None:
    """An agent that goes on alone, and a journal that knows it."""
    detach = anyio.Event()
    detach.set()
    spec = Command(scripted_agent(*steps), env=PLAIN, env_base="empty")
    await supervise(host, spec, store=store, session=session, detach_when=detach)


def move(ground: Ground, source: str, target: str) -> None:
    (ground.directory / source).rename(ground.directory / target)


@pytest.mark.parametrize("ground", ["local", "me"], indirect=True)
@pytest.mark.parametrize("what", ["task", "task/session", "task/session/meta"])
async def test_while_its_directory_is_away_a_session_stays_open(case: Case, what: str) -> None:
    """An unmounted home, say: once it is back, everything goes on."""
    async with Store(case.directory / "j.sqlite3") as store:
        with anyio.fail_after(BOUND):
            async with case.ground.host("task") as host:
                await detached(host, store, "hear", "DONE: all")
            tag = case.file("tag").read_text().strip()
            move(case.ground, what, "away")
            with pytest.raises(AgentUnseen, match="cannot be seen"):
                await supervise(None, resume="mine", store=store)
            assert not (await store.session("mine")).over
            assert await prune(store, 0) == []
            assert tagged(tag)
            move(case.ground, "away", what)
            async with find_session("mine", store=store) as live:
                await live.send("go on")
            result = await supervise(None, resume="mine", store=store)
    assert (result.outcome, result.summary) == ("done", "all")


async def test_a_session_of_an_older_journal_was_not_proved_unstarted(office: Office) -> None:
    """It says nothing of starts at all."""
    with anyio.fail_after(BOUND):
        async with office.store() as store:
            async with office.host() as host:
                await detached(host, store, "hear", "DONE")
            tag = office.tag()
            old = await store.session("mine")
            await store.forget("mine")
            facts = {name: value for name, value in old.facts.items() if name != "notes_start"}
            old = type(old)(old.id, old.created_at, old.host, old.taskdir, facts)
            await store.add(old)
            shutil.rmtree(Path(office.taskdir, "session"))
            with pytest.raises(AgentUnseen):
                await supervise(None, resume="mine", store=store)
            assert not (await store.session("mine")).over
    kill(*tagged(tag))


@pytest.mark.parametrize("gone", [["pid"], ["launcher"], ["pid", "launcher"]], ids="+".join)
async def test_an_agent_that_removes_its_own_identity_still_runs(
    office: Office, gone: list[str]
) -> None:
    with anyio.fail_after(BOUND):
        async with office.store() as store:
            async with office.host() as host:
                await detached(host, store, "hear", "DONE: all")
            for name in gone:
                Path(office.taskdir, "session", name).unlink()
            async with find_session("mine", store=store) as live:
                await live.send("go on")  # it runs
            result = await supervise(None, resume="mine", store=store)
    assert (result.outcome, result.summary) == ("done", "all")


async def test_the_directory_of_another_start_is_not_taken_for_ours(office: Office) -> None:
    """Whatever its files say: stopping it would end the processes of somebody else."""
    with anyio.fail_after(BOUND):
        async with office.store() as store:
            async with office.host() as host:
                await detached(host, store, "hear", "DONE")
            tag, session = office.tag(), Path(office.taskdir, "session")
            for name in "tag", "meta":
                path = session / name
                path.write_text(path.read_text().replace(tag, "another.tag"))
            with pytest.raises(AgentError, match="another"):
                await supervise(None, resume="mine", store=store)
            with pytest.raises(AgentError, match="another"):
                async with find_session("mine", store=store) as live:
                    await live.send("go on")
            assert not (await store.session("mine")).over
    kill(*tagged(tag))


async def closed(store: Store, session: str) -> None:
    """As if a supervisor had been wrong about its end."""
    wrong = SessionResult(session, "exited", "it was never there", 0.0, 0.0)
    await store.journal(session).end(wrong)


@pytest.mark.parametrize("ground", ["local", "me"], indirect=True)
@pytest.mark.parametrize("what", ["task", "task/session", "task/session/pid", ""])
async def test_prune_keeps_what_lives_and_forgets_it_when_it_is_dead(case: Case, what: str) -> None:
    async with Store(case.directory / "j.sqlite3") as store:
        with anyio.fail_after(BOUND):
            async with case.ground.host("task") as host:
                await detached(host, store, "write kept x", "hear")
            work = case.ground.directory / "task/workdir/deliverables"
            tag = case.file("tag").read_text().strip()
            wait_until((work / "kept").exists)
            if what:
                move(case.ground, what, "away")
            await closed(store, "mine")
            (pruned,) = await prune(store, 0)
            assert pruned.trouble is not None
            assert "still lives" in pruned.trouble
            assert [one.id for one in await store.sessions()] == ["mine"]
            assert (work / "kept").exists() or what == "task"
            kill(*tagged(tag))
            (pruned,) = await prune(store, 0)
            assert pruned.trouble is None
            assert await store.sessions() == []
            assert not work.exists()


@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_what_an_agent_left_behind_keeps_its_directory_too(case: Case) -> None:
    async with Store(case.directory / "j.sqlite3") as store:
        with anyio.fail_after(BOUND):
            async with case.ground.host("task") as host:
                await detached(host, store, "run setsid sleep 1000 </dev/null &", "hear")
            wait_until(lambda: len(tagged(tag_of(case))) > 3)
            agent = int(case.file("pid").read_text().split()[0])
            os.kill(agent, signal.SIGKILL)
            launcher = int(case.file("launcher").read_text().split()[0])
            os.kill(launcher, signal.SIGKILL)
            await closed(store, "mine")
            (pruned,) = await prune(store, 0)
            assert pruned.trouble is not None
            kill(*tagged(tag_of(case)))
            assert [one.trouble for one in await prune(store, 0)] == [None]


def tag_of(case: Case) -> str:
    return case.file("tag").read_text().strip()


async def test_a_clean_start_leaves_alone_what_lives_without_its_session(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            await detached(host, store, "write kept x", "hear")
            kept, tag = Path(office.taskdir, "workdir/deliverables/kept"), office.tag()
            wait_until(kept.exists)
            shutil.rmtree(Path(office.taskdir, "session"))
            with pytest.raises(AgentError, match="still lives"):
                await host.setup_workdir()
            assert kept.exists()
            kill(*tagged(tag))
            await host.setup_workdir()
            assert not kept.exists()


async def test_a_start_that_comes_after_it_was_given_up_starts_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host may be so busy that the script is still on its way when the next supervisor looks."""
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            late = await start_unheard(host, store, monkeypatch, carried_out=False)
            with pytest.raises(AgentExited, match="never started") as failure:
                await supervise(None, resume="mine", store=store)
            assert (await late()).stdout == b"taken\n"
    assert failure.value.result.agent.how == "never-started"
    assert not tagged(office.tag())


async def test_an_agent_whose_start_was_given_up_is_left_at_work(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was said that nobody knows whether it was started: so nobody stops it, either."""
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            await start_unheard(host, store, monkeypatch, carried_out=True)
            async with find_session("mine", store=store) as live:
                await live.send("go on")
            result = await supervise(None, resume="mine", store=store)
    assert (result.outcome, result.summary) == ("done", "all")


async def start_unheard(
    host: Any, store: Store, monkeypatch: pytest.MonkeyPatch, *, carried_out: bool
) -> Callable[[], Any]:
    """A start whose answer comes when nobody waits any more; returns what asks for it again."""
    ask, asked = host.machine.ask, list[Any]()

    async def ask_unheard(text: str, args: Any = (), **options: Any) -> Any:
        if text != text_of("launch"):
            return await ask(text, args, **options)
        asked.append(args)
        with anyio.CancelScope(shield=True):
            if carried_out:
                await ask(text, args, **options)
        return await anyio.sleep_forever()

    monkeypatch.setattr("optio_agents.agents._STARTING", 0.5)
    monkeypatch.setattr(host.machine, "ask", ask_unheard)
    spec = Command(scripted_agent("hear", "DONE: all"), env=PLAIN, env_base="empty")
    with pytest.raises(HostLost, match="nobody knows"):
        await supervise(host, spec, store=store, session="mine")
    assert not (await store.session("mine")).over
    (args,) = asked
    return partial(ask, text_of("launch"), args)


async def test_a_start_that_failed_is_over_also_where_its_supervisor_dies_of_it(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk, say: all was cleared away, and only the journal knows of it yet."""
    async with office.store() as store, office.host() as host:
        ask, dying = host.machine.ask, anyio.Event()

        async def ask_in_vain(text: str, args: Any = (), **options: Any) -> Answer:
            if text != text_of("launch"):
                return await ask(text, args, **options)
            return Answer(64, b"", b"unwritten the session directory cannot be written\n")

        async def die(_: str) -> None:
            dying.set()
            await anyio.sleep_forever()

        monkeypatch.setattr(host.machine, "ask", ask_in_vain)
        monkeypatch.setattr(store, "forget", die)
        spec = Command(scripted_agent("DONE"), env=PLAIN, env_base="empty")
        with anyio.fail_after(BOUND):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(supervise, host, spec, store=store, session="mine"))
                await dying.wait()
                tasks.cancel_scope.cancel()
            assert not Path(office.taskdir).exists()
            with pytest.raises(AgentExited, match="never started"):
                await supervise(None, resume="mine", store=store)
        assert (await store.session("mine")).over


async def test_whoever_is_starting_it_is_not_told_that_it_never_started(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with office.store() as store:
            async with office.host() as host:
                await detached(host, store, "DONE")
            shutil.rmtree(office.taskdir)
            with store.claim("mine", "the one who starts it"), pytest.raises(AlreadyOwned):
                await supervise(None, resume="mine", store=store)
            with pytest.raises((AgentUnseen, AgentExited)):
                await supervise(None, resume="mine", store=store)
            assert not (await store.session("mine")).over


def put_away(session: Path) -> None:
    session.rename(session.with_name("away"))


def swap_for_a_link(session: Path) -> None:
    put_away(session)
    session.symlink_to("away")


def damage(session: Path) -> None:
    put_away(session)
    shutil.copytree(session.with_name("away"), session, ignore=lambda *_: ["bell", "pipe", "tag"])


def put_back(session: Path) -> None:
    if session.is_symlink():
        session.unlink()
    elif session.exists():
        shutil.rmtree(session)
    session.with_name("away").rename(session)


HEARS = "STATUS: on", "hear", "DONE: all"


@pytest.mark.parametrize("hide", [put_away, swap_for_a_link, damage])
async def test_a_directory_that_goes_away_meanwhile_ends_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch, hide: Callable[[Path], None]
) -> None:
    monkeypatch.setattr("optio_agents.supervision.supervisor._LOOKING", 0.2)
    session = Path(office.taskdir, "session")
    spec = Command(scripted_agent(*HEARS), env=PLAIN, env_base="empty")

    def see(seen: happened.SessionEvent) -> None:
        if isinstance(seen, happened.LogLine):
            hide(session)

    with anyio.fail_after(BOUND):
        async with office.store() as store:
            async with office.host() as host:
                with pytest.raises(AgentUnseen, match="stays open"):
                    await supervise(host, spec, store=store, session="mine", observer=see)
            known = await store.session("mine")
            assert (known.over, known.outcome) == (False, "failed")
            assert re.search("no session in|is a link|to another session", str(known.summary))
            put_back(session)
            assert tagged(office.tag())
            async with find_session("mine", store=store) as live:
                await live.send("go on")
            result = await supervise(None, resume="mine", store=store)
    assert (result.outcome, result.summary) == ("done", "all")


@pytest.mark.parametrize("hide", [put_away, swap_for_a_link])
async def test_a_renewal_that_meets_another_directory_ends_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch, hide: Callable[[Path], None]
) -> None:
    """The lease is the owner's all the same: nobody can have taken it there."""
    renewed, failed = anyio.Event(), anyio.Event()

    async def confirm(lease: Lease) -> None:
        try:
            await confirms(lease)
            renewed.set()
        except OptioAgentsError:
            failed.set()
            raise

    confirms = Lease.confirm
    monkeypatch.setattr(Lease, "confirm", confirm)
    monkeypatch.setattr("optio_agents.agents.lease._RENEWED", 0.1)
    session = Path(office.taskdir, "session")
    spec = Command(scripted_agent(*HEARS), env=PLAIN, env_base="empty")
    with anyio.fail_after(BOUND):
        async with office.host() as host, supervise(host, spec) as live:
            await renewed.wait()  # by then all that begins with a look at it has begun
            hide(session)
            await failed.wait()
            put_back(session)
            await live.send("go on")
            result = await live.result()
    assert (result.outcome, result.summary) == ("done", "all")


@pytest.mark.parametrize("ground", ["local", "me"], indirect=True)
@pytest.mark.parametrize("hide", [put_away, swap_for_a_link, shutil.rmtree])
async def test_what_cannot_be_seen_can_be_stopped(case: Case, hide: Callable[[Path], None]) -> None:
    """Our journal knows the agent; what else is said to it has to wait."""
    async with Store(case.directory / "j.sqlite3") as store:
        with anyio.fail_after(BOUND):
            async with case.ground.host("task") as host:
                await detached(host, store, "run sleep 1000", session="mine")
            tag = case.file("tag").read_text().strip()
            wait_until(lambda: any(one.name == "sleep" for one in tagged(tag)))
            hide(Path(case.taskdir, "session"))
            async with find_session("mine", store=store) as live:
                for verb in live.send("hello"), live.interrupt(), live.read_requests():
                    with pytest.raises((AgentUnseen, AgentError)):
                        await verb
                assert not (await store.session("mine")).over
                assert (await live.stop(grace=0.5)).empty
            assert not tagged(tag)
            assert (await store.session("mine")).outcome == "cancelled"


@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_an_agent_of_which_nothing_tells_the_process_runs_until_its_end(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither our journal nor its files: what carries its tag lives, so it is not over."""
    monkeypatch.setattr("optio_agents.agents.agent._LOOKING", 0.2)
    async with Store(case.directory / "j.sqlite3") as store:
        with anyio.fail_after(BOUND):
            async with case.ground.host("task") as host:
                await detached(host, store, "hear", "STATUS: heard", "run sleep 1000")
                launcher = int(case.file("launcher").read_text().split()[0])
                os.kill(launcher, signal.SIGKILL)
                for name in "pid", "launcher":
                    case.file(name).unlink()
                case.file("exit").write_text("0\n")
                async with agents.adopt(host) as agent:
                    agent.detach()
                    status = await agent.status()
                    assert (status.state, status.process) == ("running-without-launcher", None)
                    tag = tag_of(case)
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(agent.wait)
                        await anyio.sleep(0.5)
                        kill(*tagged(tag))


@pytest.mark.parametrize("ground", ["local"], indirect=True)
@pytest.mark.parametrize("alone", [False, True])
async def test_a_file_that_names_no_living_process_is_no_end(case: Case, alone: bool) -> None:
    """The agent can write it, and nobody else has noted which process it is."""
    async with Store(case.directory / "j.sqlite3") as store:
        with anyio.fail_after(BOUND):
            async with case.ground.host("task") as host:
                await detached(host, store, "hear", "STATUS: heard", "run sleep 1000")
                if alone:
                    os.kill(int(case.file("launcher").read_text().split()[0]), signal.SIGKILL)
                _, start, boot = case.file("pid").read_text().split()
                case.file("pid").write_text(f"4194304 {start} {boot}\n")  # more than there can be
                async with agents.adopt(host) as agent:
                    status = await agent.status()
                    assert (status.running, status.process, agent.process) == (True, None, None)
                    (found,) = await agents.find_sessions(host, str(case.file("").parents[1]))
                    assert found.state == status.state
                    assert (await agent.stop(grace=0.5)).empty
                    assert await agent.end() is not None


@pytest.mark.parametrize("ground", ["local"], indirect=True)
@pytest.mark.parametrize("name", ["launcher", "pid"])
async def test_a_stop_ends_nobody_whom_only_a_file_of_the_agents_names(
    case: Case, name: str
) -> None:
    bystander = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    try:
        pid, start = bystander.pid, process(bystander.pid).start_time
        async with Store(case.directory / "j.sqlite3") as store:
            with anyio.fail_after(BOUND):
                async with case.ground.host("task") as host:
                    await detached(host, store, "hear")
                    *_, boot = case.file("pid").read_text().split()
                    case.file(name).write_text(f"{pid} {start} {boot}\n")
                    async with agents.adopt(host) as agent:
                        assert (await agent.stop(grace=0.5)).empty
                assert not tagged(tag_of(case))
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
