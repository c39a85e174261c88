"""The standalone way in: one true end, one owner, and nothing lost on the way."""

# ruff: noqa: ASYNC240  # nobody else needs the event loop meanwhile

import os
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents import agents
from optio_agents.errors import (
    AgentError,
    AgentExited,
    AgentReportedError,
    AlreadyOwned,
    FileRefused,
    HostUnreachable,
    StoreError,
    WorkDirRefused,
)
from optio_agents.hosts.host import Host, make_host
from optio_agents.hosts.ssh import SSHConfig
from optio_agents.protocol.protocol import get_protocol
from optio_agents.store import SessionJournal, Store
from optio_agents.supervision import Command, events as happened, find_session
from optio_agents.supervision.pruning import prune
from optio_agents.supervision.sessions import host_of, new_session_id, task_directory
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.memory import MemoryContext
from optio_agents.testing.proxy import FaultProxy
from optio_agents.testing.scripted import scripted_agent
from tests.support.hosts.hosts import ssh_config
from tests.support.hosts.sshd import SshLogin
from tests.support.leaks import no_process_left
from tests.support.proc import tagged
from tests.support.sessions.supervising import PLAIN, Office, Watching, agents_end
from tests.support.timeouts import BOUND

HANDING_OVER = ("write a.txt hello", "DELIVERABLE: deliverables/a.txt", "hear")


def command(*steps: str, env: dict[str, str] = PLAIN, **more: Any) -> Command:
    return Command(scripted_agent(*steps), env={**PLAIN, **env}, env_base="empty", **more)


async def test_from_its_start_to_done(office: Office, leaks: Any) -> None:
    watching = Watching()
    async with leaks():
        with anyio.fail_after(BOUND):
            async with office.store() as store, office.host() as host:
                result = await supervise(
                    host,
                    command("STATUS: 50% half", *HANDING_OVER, "DONE: all"),
                    store=store,
                    title="the title",
                    observer=watching,
                )
                (stored,) = await store.sessions()
                (delivery,) = await store.deliveries(stored.id)
    assert (result.outcome, result.summary, result.statuses) == ("done", "all", 1)
    assert (result.agent.exit_code, result.agent.how) == (0, "exited")
    assert office.heard() == ["heard: System: deliverable a.txt: accepted."]
    assert (stored.outcome, stored.over, stored.host) == ("done", True, "local")
    assert stored.facts["title"] == "the title"
    assert (delivery.path, delivery.size, delivery.taken) == ("a.txt", 6, True)
    kinds = [type(seen).__name__ for seen in watching.seen]
    assert kinds[0] == "SessionBegan"
    assert kinds[-1] == "SessionEnded"
    assert [seen.number for seen in watching.seen] == list(range(1, len(kinds) + 1))
    assert watching.lines == ["STATUS: 50% half", "DELIVERABLE: deliverables/a.txt", "DONE: all"]
    assert [d.delivery.taken for d in watching.of(happened.DeliveryStep)] == [None, True]
    assert (str(stored.state), stored.state.percent) == ("done", 50)


async def test_it_needs_no_journal(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with office.host() as host:
            result = await supervise(host, command("DONE"))
    assert result.outcome == "done"


async def test_the_agent_that_reports_an_error_is_not_left_running(office: Office) -> None:
    watching = Watching()
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            with pytest.raises(AgentReportedError, match="no luck") as failure:
                await supervise(
                    host, command("ERROR: no luck", "hear"), store=store, observer=watching
                )
            assert (await store.sessions())[0].outcome == "error"
        await no_process_left(office.tag())
    result: Any = failure.value.result
    assert (result.outcome, result.agent.how) == ("error", "exited")
    (end,) = watching.of(happened.SessionEnded)
    assert end.result == replace(result, cursor=None)


# Where it works, and what it is taught


async def test_in_a_directory_of_ours_agents_md_says_it_all(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with office.host() as host:
            await supervise(host, command("hear", "DONE", prompt="Do this."))
    taught = Path(office.taskdir, "workdir/AGENTS.md").read_text()
    assert taught.startswith("Do this.\n\n## Log channel")
    assert office.heard() == ["heard: ## Log channel"]  # the prompt stands behind it
    (message,) = Path(office.taskdir, "session").glob("*/*-prompt")
    assert message.read_text().endswith("\n\nDo this.\n")


async def test_in_the_users_directory_nothing_else_is_made(office: Office) -> None:
    project = office.directory / "my project"
    project.mkdir()
    (project / "AGENTS.md").write_text("mine")
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host(str(project)) as host:
            await supervise(host, command(*HANDING_OVER, "DONE", prompt="Do this."), store=store)
            (stored,) = await store.sessions()
            taught = office.first_input()
    assert stored.facts["cwd"] == str(project)
    assert sorted(path.name for path in project.iterdir()) == [".optio", "AGENTS.md"]
    assert (project / "AGENTS.md").read_text() == "mine"
    logdir = project / ".optio" / "task"
    assert sorted(path.name for path in logdir.iterdir()) == ["deliverables", "optio.log"]
    assert f">> '{logdir}/optio.log'" in taught


async def test_one_directory_takes_many_runs_and_three_at_once(office: Office) -> None:
    project = office.directory / "project"
    project.mkdir()
    (project / "code.py").write_text("mine")
    results = []

    async def run(name: str, store: Store) -> None:
        taskdir = str(office.directory / name)
        async with make_host(taskdir=taskdir, workdir=str(project)) as host:
            spec = command(*HANDING_OVER, f"DONE: {name}")
            result = await supervise(host, spec, store=store)
            results.append((name, result.summary, [d.path for d in result.deliverables]))

    with anyio.fail_after(BOUND):
        async with office.store() as store:
            await run("first", store)
            async with anyio.create_task_group() as tasks:
                for name in "abc":
                    tasks.start_soon(run, name, store)
            pruned = await prune(store, 0)
    assert sorted(results) == [(name, name, ["a.txt"]) for name in ("a", "b", "c", "first")]
    assert [one.trouble for one in pruned] == [None] * 4
    kept = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
    handed = {f".optio/{name}/deliverables/a.txt" for name in ("first", "a", "b", "c")}
    assert kept == {"code.py", ".optio/.gitignore", *handed}


async def test_a_log_where_a_pasted_prompt_wants_it_is_noticed_at_once(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a project whose CLAUDE.md holds the prompt to paste."""
    monkeypatch.setattr("optio_agents.session.watch._OTHER_LOG", ())  # nobody searches later
    watching, project = Watching(), office.directory / "project"
    project.mkdir()
    (project / "optio.log").write_text("DONE: of another time\n")
    steps = 'run echo "STATUS: on it" >> ./optio.log', "hear", "run echo DONE >> ./optio.log"
    with anyio.fail_after(BOUND):  # "hear" ends with what it was told
        async with office.host(str(project)) as host:
            spec = command(*steps, prompt=None)
            with pytest.raises(AgentExited, match="without DONE") as raised:
                await supervise(host, spec, observer=watching)
    wrong, right = project / "optio.log", project / ".optio/task/optio.log"
    assert f"it wrote to {wrong}, which nobody reads" in str(raised.value)
    (notice,) = watching.of(happened.Notice)
    assert notice.text == f"the agent writes to {wrong}, which nobody reads; its log is {right}"
    assert f"Write yours to {right}" in office.heard()[0]


async def test_a_log_of_another_time_is_nobodys_mistake(office: Office) -> None:
    watching, project = Watching(), office.directory / "project"
    project.mkdir()
    (project / "optio.log").write_text("DONE: of another time\n")
    with anyio.fail_after(BOUND):
        async with office.host(str(project)) as host:
            with pytest.raises(AgentExited, match="without DONE") as raised:
                await supervise(host, command("STATUS: on it"), observer=watching)
    assert "nobody reads" not in str(raised.value)
    assert watching.of(happened.Notice) == []


async def test_what_version_0_3_2_started_in_the_users_directory_is_found(office: Office) -> None:
    """Its log and its deliverables are in that directory itself, and nothing says so."""
    project = office.directory / "project"
    (project / "deliverables").mkdir(parents=True)
    (project / "optio.log").touch()
    facts = {"agent": "command", "program": "x", "cwd": str(project)}
    with anyio.fail_after(BOUND):
        async with make_host(
            taskdir=office.taskdir, workdir=str(project), logdir=str(project)
        ) as host:
            meta = {"id": "old", "created_at": 1.0, **facts}
            steps = scripted_agent(*HANDING_OVER, "DONE: all")
            async with agents.start(host, steps, meta=meta, name="old") as agent:
                agent.detach()
        async with office.store() as store, office.host() as host:
            result = await supervise(host, resume=office.taskdir, store=store)
    assert (result.session, result.outcome) == ("old", "done")
    assert [delivery.path for delivery in result.deliverables] == ["a.txt"]
    assert not (project / ".optio").exists()


async def test_a_start_that_fails_leaves_nothing_on_the_host(office: Office) -> None:
    project = office.directory / "project"
    project.mkdir()
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host(str(project)) as host:
            spec = Command(["true"], env={"NO NAME": "x"})
            with pytest.raises(ValueError, match="NO NAME"):
                await supervise(host, spec, store=store)
            assert await store.sessions() == []
    assert not Path(office.taskdir).exists()
    assert list(project.iterdir()) == []


async def test_what_is_not_this_sessions_is_left_alone_and_no_session_remains(
    office: Office,
) -> None:
    project = office.directory / "project"
    project.mkdir()
    (project / ".optio").write_text("mine")
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host(str(project)) as host:
            with pytest.raises(WorkDirRefused):
                await supervise(host, command("DONE"), store=store)
            assert await store.sessions() == []
    assert (project / ".optio").read_text() == "mine"
    assert not Path(office.taskdir).exists()


async def test_an_agent_that_reads_to_the_end_is_told_of_no_replies(office: Office) -> None:
    spec = command("run cat >prompt", "DONE", prompt="Do this.", reads_to_end=True)
    with anyio.fail_after(BOUND):
        async with office.host() as host:
            await supervise(host, spec)
    prompt = Path(office.taskdir, "workdir/prompt").read_text()
    assert prompt.endswith("\nDo this.\n")
    assert "harness" not in prompt


async def test_nobody_tries_to_answer_what_reads_to_the_end(office: Office, caplog: Any) -> None:
    steps = ("run cat >prompt", "write a.txt x", "DELIVERABLE: deliverables/a.txt", "DONE")
    with anyio.fail_after(BOUND):
        async with office.host() as host:
            spec = command(*steps, prompt="Do this.", reads_to_end=True)
            result = await supervise(host, spec)
    assert (result.replies, [d.taken for d in result.deliverables]) == ("none", [None])
    assert not caplog.records


async def test_the_input_of_what_reads_to_the_end_has_ended_when_it_starts(office: Office) -> None:
    spec = command("run ls ../session/in >input", "run cat", "DONE", reads_to_end=True)
    with anyio.fail_after(BOUND):
        async with office.host() as host:
            await supervise(host, spec)
    assert Path(office.taskdir, "workdir/input").read_text() == "~end.eof\n"


async def test_an_agent_that_ends_without_waiting_for_replies_ends_well(
    office: Office, caplog: Any
) -> None:
    async def on_deliverable(hook: Any, path: str, text: str) -> None:
        exit_file = Path(office.taskdir, "session/exit")
        while not exit_file.exists():  # noqa: ASYNC110 - a file sends no event
            await anyio.sleep(0.01)

    steps = ("write a.txt x", "DELIVERABLE: deliverables/a.txt", "DONE")
    with anyio.fail_after(BOUND):
        async with office.host() as host:
            result = await supervise(host, command(*steps), on_deliverable=on_deliverable)
    assert (result.outcome, [d.taken for d in result.deliverables]) == ("done", [False])
    assert not result.troubles
    assert not caplog.records


async def test_a_callback_may_speak_to_the_agent(office: Office) -> None:
    async def on_deliverable(hook: Any, path: str, text: str) -> None:
        assert await hook.send_to_agent("twice")
        assert await hook.send_to_agent("twice")

    with anyio.fail_after(BOUND):
        async with office.host() as host:
            spec = command(*HANDING_OVER, "hear", "hear", "DONE")
            await supervise(host, spec, on_deliverable=on_deliverable)
    assert office.heard() == [
        "heard: System: twice",
        "heard: System: twice",
        "heard: System: deliverable a.txt: accepted.",
    ]


async def test_a_protocol_without_its_callback_is_refused_before_anything_starts(
    office: Office,
) -> None:
    async with office.host() as host:
        with pytest.raises(ValueError, match="caller_messages"):
            await supervise(host, command("DONE"), protocol=get_protocol(caller_messages=True))
    assert not Path(office.taskdir).exists()


async def test_an_id_is_a_plain_name_and_used_once(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            for name in "../x", "a/b", ".x":
                with pytest.raises(ValueError, match="cannot be the id"):
                    await supervise(host, command("DONE"), store=store, session=name)
            await supervise(host, command("DONE"), store=store, session="mine")
            with pytest.raises(ValueError, match="already"):
                await supervise(host, command("DONE"), store=store, session="mine")


# Leaving, and coming back


async def test_detached_it_goes_on_and_is_found_again_by_the_journal_alone(
    office: Office,
) -> None:
    detach, watching = anyio.Event(), Watching()

    def see(seen: happened.SessionEvent) -> None:
        watching(seen)
        if "STATUS: on" in watching.lines:
            detach.set()

    with anyio.fail_after(BOUND):
        async with office.store() as store:
            async with office.host() as host:
                steps = "STATUS: on", "hear", *HANDING_OVER, "DONE: all"
                result = await supervise(
                    host, command(*steps), store=store, observer=see, detach_when=detach
                )
            assert (result.outcome, result.statuses) == ("detached", 1)
            (stored,) = await store.sessions()
            assert (stored.outcome, stored.over) == ("detached", False)
            assert tagged(office.tag())
            async with find_session(stored.id[:5], store=store) as live:
                await live.send("go on")
            again = Watching()
            result = await supervise(None, resume=stored.id[:5], store=store, observer=again)
    assert (result.outcome, result.statuses) == ("done", 1)
    assert office.heard() == ["heard: go on", "heard: System: deliverable a.txt: accepted."]
    assert watching.lines + again.lines == [
        "STATUS: on",
        "DELIVERABLE: deliverables/a.txt",
        "DONE: all",
    ]
    assert again.of(happened.SessionBegan)[0].resumed


@pytest.mark.parametrize("how", ["asked", "asked, with a context", "cancelled"])
async def test_otherwise_leaving_stops_the_agent(office: Office, how: str) -> None:
    cancel, watching = anyio.Event(), Watching()
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            async with anyio.create_task_group() as tasks:
                results = []

                async def run() -> None:
                    results.append(
                        await supervise(
                            host,
                            command("STATUS: on", "run sleep 1000"),
                            store=store,
                            observer=watching,
                            cancel_when=cancel,
                            ctx=MemoryContext() if how == "asked, with a context" else None,
                        )
                    )

                tasks.start_soon(run)
                await watching.until(lambda: watching.lines)
                assert tagged(office.tag())
                if how != "cancelled":
                    cancel.set()
                else:
                    tasks.cancel_scope.cancel()
            assert not tagged(office.tag())
            assert [result.outcome for result in results] == ["cancelled"] * (how != "cancelled")
            assert (await store.sessions())[0].outcome == "cancelled"


@pytest.mark.parametrize(
    ("steps", "exit_code"), [(("DONE: all",), 0), (("exit 3",), 3), (("run kill -9 $$",), 137)]
)
async def test_an_agent_that_ended_meanwhile_is_reported_with_its_true_end(
    office: Office, steps: tuple[str, ...], exit_code: int
) -> None:
    with anyio.fail_after(BOUND):
        async with office.store() as store:
            stored = await detached_at_once(office, store, "hear", *steps)
            async with find_session(stored, store=store) as live:
                await live.send("go on")
                await agents_end(store, stored)
            if exit_code:
                with pytest.raises(AgentExited) as failure:
                    await supervise(None, resume=stored, store=store)
                assert failure.value.exit_code == exit_code
            else:
                result = await supervise(None, resume=stored, store=store)
                assert (result.outcome, result.agent.exit_code) == ("done", 0)
            with pytest.raises(ValueError, match="is over"):
                await supervise(None, resume=stored, store=store)


async def detached_at_once(office: Office, store: Store, *steps: str, **more: Any) -> str:
    """The id of a session whose agent runs, unsupervised."""
    detach = anyio.Event()
    detach.set()
    async with office.host() as host:
        result = await supervise(
            host, command(*steps, **more), store=store, detach_when=detach, title="t"
        )
    assert result.outcome == "detached"
    return result.session


async def test_with_the_journal_lost_the_session_directory_is_enough(office: Office) -> None:
    project = office.directory / "project"
    project.mkdir()
    given: list[str] = []

    async def on_deliverable(hook: Any, path: str, text: str) -> None:
        given.append(text)

    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host(str(project)) as host:
            detach = anyio.Event()
            detach.set()
            spec = command("write a.txt x", "DELIVERABLE: deliverables/a.txt", "hear", "DONE")
            session = (await supervise(host, spec, store=store, detach_when=detach)).session
        async with office.store("another") as store, office.host() as host:
            with pytest.raises(StoreError):
                await supervise(None, resume=session, store=store)
            result = await supervise(
                host, resume=office.taskdir, store=store, on_deliverable=on_deliverable
            )
            assert [s.id for s in await store.sessions()] == [session]
            assert (await store.sessions())[0].facts["cwd"] == str(project)
    assert (result.session, result.outcome, given) == (session, "done", ["x\n"])


async def test_without_agent_there_is_nothing_to_resume(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with office.host() as host:
            with pytest.raises(FileRefused, match="no session"):
                await supervise(host, resume=office.taskdir)
            with pytest.raises(ValueError, match="on which host"):
                await supervise(None, resume="abc")
            with pytest.raises(ValueError, match="what to run"):
                await supervise(host)


# One owner at a time


async def test_a_second_supervisor_is_refused_and_told_who_is_first(office: Office) -> None:
    watching = Watching()
    with anyio.fail_after(BOUND):
        async with (
            office.store() as store,
            office.host() as host,
            office.store("another") as another,
            anyio.create_task_group() as tasks,
        ):
            results = []

            async def run() -> None:
                spec = command("STATUS: on", "hear", "DONE")
                results.append(await supervise(host, spec, store=store, observer=watching))

            tasks.start_soon(run)
            await watching.until(lambda: watching.lines)
            (stored,) = await store.sessions()
            me = f"process {os.getpid()} on "
            with pytest.raises(AlreadyOwned, match=me):
                await supervise(None, resume=stored.id, store=store)
            async with office.host() as other:
                with pytest.raises(AlreadyOwned, match=me):
                    await supervise(other, resume=office.taskdir, store=another)
            async with find_session(stored.id, store=store) as live:
                await live.send("go on")
        assert [result.outcome for result in results] == ["done"]


async def test_whoever_takes_over_has_it_and_the_first_one_notices(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio_agents.agents.lease._RENEWED", 1000.0)
    first, second = Watching(), Watching()
    with anyio.fail_after(BOUND):
        async with (
            office.store() as store,
            office.host() as host,
            office.store("another") as another,
            office.host() as other,
            anyio.create_task_group() as tasks,
        ):

            async def run() -> None:
                spec = command("STATUS: on", "hear", "DONE")
                with pytest.raises(AlreadyOwned, match="taken this session over"):
                    await supervise(host, spec, store=store, observer=first)
                async with find_session((await store.sessions())[0].id, store=store) as live:
                    await live.send("go on")

            tasks.start_soon(run)
            await first.until(lambda: first.lines)
            result = await supervise(
                other, resume=office.taskdir, store=another, observer=second, take_over=True
            )
            assert result.outcome == "done"
            assert (await store.sessions())[0].outcome is None  # how it ended is not ours to say
    assert second.lines == ["STATUS: on", "DONE"]


@pytest.mark.parametrize("way", ["local", "ssh"])
async def test_who_is_ousted_calls_back_for_no_more_than_was_under_way(
    office: Office, ssh_login: Any, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio_agents.agents.lease._RENEWED", 1000.0)
    began, taken = anyio.Event(), anyio.Event()
    calls = list[Any]()
    protocol = get_protocol(caller_messages=True)
    config, taskdir = ssh_ground(ssh_login("me")) if way == "ssh" else (None, office.taskdir)

    async def ousted(hook: Any, keyword: str, data: Any) -> None:
        calls.append(data)
        began.set()
        await taken.wait()
        await anyio.sleep(0.01)

    async def second(hook: Any, keyword: str, data: Any) -> str | None:
        taken.set()
        return "go on" if data == 99 else None

    async def run(host: Host) -> None:
        spec = command(*(f"CALLER_MESSAGE: key {n}" for n in range(100)), "hear", "DONE")
        with pytest.raises(AlreadyOwned, match="taken this session over"):
            await supervise(host, spec, protocol=protocol, on_caller_message=ousted)

    with anyio.fail_after(BOUND):
        async with (
            make_host(config, taskdir=taskdir) as host,
            make_host(config, taskdir=taskdir) as other,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(run, host)
            await began.wait()
            result = await supervise(
                other,
                resume=taskdir,
                protocol=protocol,
                on_caller_message=second,
                take_over=True,
            )
    assert result.outcome == "done"
    assert len(calls) <= {"local": 1, "ssh": 30}[way]  # over a link the news takes a moment


# What goes wrong


async def test_a_journal_that_cannot_be_written_stops_us_and_not_the_agent(
    office: Office, small_disk: Path
) -> None:
    watching, ballast = Watching(), small_disk / "ballast"

    def fill(seen: happened.SessionEvent) -> None:
        watching(seen)
        if watching.lines == ["STATUS: on"]:
            with ballast.open("wb", buffering=0) as file:
                try:
                    while file.write(bytes(1024)):
                        pass
                except OSError:
                    pass

    long = "x" * 2000
    lines = [f"STATUS: {n} {long}" for n in range(8)]
    steps = "STATUS: on", "hear", *lines, "hear", "DONE: all"
    with anyio.fail_after(BOUND):
        async with Store(small_disk / "j.sqlite3") as store, anyio.create_task_group() as tasks:

            async def run() -> None:
                async with office.host() as host:
                    with pytest.raises(StoreError, match=r"full|I/O"):
                        await supervise(host, command(*steps), store=store, observer=fill)

            tasks.start_soon(run)
            await watching.until(lambda: watching.lines)
            host = office.host()
            async with host, agents.adopt(host) as agent:
                await agent.say(b"go on\n")
                agent.detach()
        ballast.unlink()
        async with Store(small_disk / "j.sqlite3") as store:
            (stored,) = await store.sessions()
            assert not stored.over
            async with find_session(stored.id, store=store) as live:
                await live.send("go on")
            result = await supervise(None, resume=stored.id, store=store, observer=watching)
    assert (result.outcome, result.statuses) == ("done", 9)
    # what was shown could not be written down, so it may be shown again
    assert list(dict.fromkeys(watching.lines)) == [step for step in steps if step != "hear"]


async def test_an_agent_that_says_too_much_is_stopped_with_that_reason(office: Office) -> None:
    spec = command("run head -c 200000 /dev/zero", "run sleep 1000")
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            with pytest.raises(AgentExited, match="its output reached 100000 bytes"):
                await supervise(host, spec, store=store, journal_limit=100_000)
            assert "100000 bytes" in str((await store.sessions())[0].summary)


async def test_an_observer_that_raises_harms_nobody(office: Office) -> None:
    def raising(seen: happened.SessionEvent) -> None:
        raise RuntimeError("oh")

    with anyio.fail_after(BOUND):
        async with office.host() as host:
            result = await supervise(host, command("STATUS: x", "DONE"), observer=raising)
    assert (result.outcome, result.troubles) == ("done", {})


async def test_a_run_says_which_names_of_the_login_environment_were_withheld(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = office.directory / "home"
    home.mkdir()
    names = "A_TOKEN=x DB_PASS=y DATABASE_URL=pg://a:hunter22@db HANDED_KEY=z EDITOR=ed"
    (home / ".profile").write_text(f"export {names}\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SHELL", "/bin/sh")
    watching = Watching()
    spec = Command(["sh", "-c", 'env; echo DONE >>"$OPTIO_LOG"'], env={"HANDED_KEY": "ours"})
    with anyio.fail_after(BOUND):
        async with office.host() as host:
            await supervise(host, spec, observer=watching)
    assert not {"A_TOKEN=x", "DB_PASS=y", "HANDED_KEY=z"} & set(office.heard())
    assert {"HANDED_KEY=ours", "EDITOR=ed"} <= set(office.heard())
    (notice,) = watching.of(happened.Notice)
    assert "credentials: A_TOKEN, DATABASE_URL, DB_PASS;" in notice.text
    assert "--env NAME" in notice.text
    assert "hunter22" not in repr(watching.seen)


@pytest.mark.parametrize("over_ssh", [False, True])
async def test_a_session_takes_one_login_shell(
    office: Office, make_sshd: Any, ssh_login: Any, monkeypatch: pytest.MonkeyPatch, over_ssh: bool
) -> None:
    monkeypatch.setattr(
        "optio_agents.hosts.environment._PATIENCE", BOUND
    )  # a busy machine has none
    home, config = office.directory / "home", None
    home.mkdir()
    for name in ".profile", ".bash_profile":  # of which a shell reads one
        (home / name).write_text("echo one >>~/logins; export FROM_PROFILE=yes\n")
    if over_ssh:
        config = ssh_config(ssh_login("me", server=make_sshd(home=home)))
    else:
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setenv("SHELL", "/bin/sh")
    steps = "run echo $FROM_PROFILE", *HANDING_OVER, "DONE"
    with anyio.fail_after(BOUND):
        async with office.store() as store, make_host(config, taskdir=office.taskdir) as host:
            await supervise(host, Command(scripted_agent(*steps)), store=store)
    assert office.heard()[0] == "yes"
    assert (home / "logins").read_text().split() == ["one"]


async def test_credentials_are_neither_kept_nor_shown_also_after_a_resume(office: Office) -> None:
    secret = "s3cret 'value' \\ of\nmine"
    steps = (
        'run printf "STATUS: with %s\\n" "${A_TOKEN%%\\n*}" >>"$OPTIO_LOG"',
        "hear",
        'run printf "STATUS: again %s\\n" "$B_TOKEN" >>"$OPTIO_LOG"',
        "DONE",
    )
    env = {"A_TOKEN": secret, "B_TOKEN": "another-one", "NAME": "harmless"}
    detach, first, second = anyio.Event(), Watching(), Watching()

    def see(seen: happened.SessionEvent) -> None:
        first(seen)
        if first.lines:
            detach.set()

    with anyio.fail_after(BOUND):
        async with office.store() as store:
            async with office.host() as host:
                spec = command(*steps, env=env)
                assert secret not in repr(spec)
                await supervise(host, spec, store=store, observer=see, detach_when=detach)
            (stored,) = await store.sessions()
            async with find_session(stored.id, store=store) as live:
                await live.send("go on")
            await supervise(None, resume=stored.id, store=store, observer=second)
            events = await store.events(stored.id)
    assert "STATUS: again [B_TOKEN]" in [event.entry.line for event in events if event.is_line]
    assert "STATUS: again [B_TOKEN]" in second.lines
    everything = repr(first.seen + second.seen) + repr(stored)
    for path in office.directory.joinpath("journal").iterdir():
        everything += path.read_bytes().decode(errors="replace") if path.is_file() else ""
    assert "another-one" not in everything


SPOKEN = "hunter22-and-more"
TELLING = ("hear", 'run printf "STATUS: with %s\\n" "$DB_PASS" >>"$OPTIO_LOG"')


def where_it_lies(directory: Path) -> set[str]:
    """The files below *directory* that hold it in clear."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {path.name for path in files if SPOKEN.encode() in path.read_bytes()}


async def left_alone(office: Office, *steps: str) -> str:
    """A session with a credential whose supervisor has gone, while its agent waits to go on."""
    detach, watching = anyio.Event(), Watching()

    def see(seen: happened.SessionEvent) -> None:
        watching(seen)
        if watching.lines:
            detach.set()

    spec = command("STATUS: on", *steps, env={"DB_PASS": SPOKEN})
    async with office.store() as store, office.host() as host:
        await supervise(host, spec, store=store, observer=see, detach_when=detach)
        (stored,) = await store.sessions()
    assert where_it_lies(office.directory) == set()
    return stored.id


async def test_a_credential_is_hidden_also_when_the_agent_ended_unattended(office: Office) -> None:
    watching = Watching()
    with anyio.fail_after(BOUND):
        session = await left_alone(office, *TELLING, "DONE")
        async with office.store() as store:
            async with find_session(session, store=store) as live:
                await live.send(f"go on with {SPOKEN}")
            await agents_end(store, session)
            await supervise(None, resume=session, store=store, observer=watching)
            assert [note.value for note in await store.notes(session, "key")] == [None]
    assert "STATUS: with [DB_PASS]" in watching.lines
    # what the agent was told, and has written itself
    assert where_it_lies(office.directory) <= {"optio.log", "stdout", *said_to(office)}
    assert SPOKEN not in repr(watching.seen)


async def test_no_error_and_no_title_has_a_credential_in_it(office: Office) -> None:
    steps = (
        'run printf "%04090d %s\\n" 7 "$DB_PASS" >>"$OPTIO_LOG"; echo "$DB_PASS" >&2',
        "exit 9",
    )
    spec = command(*steps, env={"DB_PASS": SPOKEN})
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            with pytest.raises(AgentExited) as failed:
                await supervise(host, spec, store=store, title=f"with {SPOKEN}")
            (stored,) = await store.sessions()
    assert (failed.value.stderr.strip(), stored.facts["title"]) == ("[DB_PASS]", "with [DB_PASS]")
    assert SPOKEN[:4] not in repr(failed.value.last_lines) + str(failed.value)


def said_to(office: Office) -> set[str]:
    """The names of its messages: those that it took, and those that still wait for it."""
    session = Path(office.taskdir, "session")
    return {path.name for where in ("in", "said") for path in (session / where).iterdir()}


@pytest.mark.parametrize("how", ["running", "ended", "ended, of 0.3.2"])
async def test_a_credential_is_hidden_with_the_journal_lost(office: Office, how: str) -> None:
    watching = Watching()
    with anyio.fail_after(BOUND):
        session = await left_alone(office, *TELLING, "hear", "DONE")
        async with office.store() as store, find_session(session, store=store) as live:
            if how != "running":
                await live.send("go on")
                await live.send("and on")
                await agents_end(store, session)
        if how == "ended, of 0.3.2":
            launch = Path(office.taskdir, "session/launch")
            launch.write_text(f"unset PATH\nexport DB_PASS='{SPOKEN}'\nset -- 'sh'\n")
        async with office.store("another") as store, office.host() as host:
            running = supervise(
                host, resume=office.taskdir, store=store, observer=watching, take_over=True
            )
            async with running as live:
                if how == "running":
                    await live.send("go on")
                    await live.send("and on")
                await live.result()
    notices = [notice.text for notice in watching.of(happened.Notice)]
    if how == "ended":
        assert any("DB_PASS" in text for text in notices)
    else:
        assert "STATUS: with [DB_PASS]" in watching.lines
        assert not notices


# Over SSH


def ssh_ground(login: SshLogin) -> tuple[SSHConfig, str]:
    return ssh_config(login), str(login.account.make_dir() / "task")


async def test_a_lost_host_keeps_its_agent_and_is_found_again(
    office: Office, make_sshd: Any, ssh_login: Any
) -> None:
    server, watching = make_sshd(), Watching()
    with anyio.fail_after(BOUND):
        async with FaultProxy(server.host, server.port) as proxy, office.store() as store:
            login = ssh_login("me", server=server, port=proxy.port)
            config, taskdir = ssh_ground(login)

            def see(seen: happened.SessionEvent) -> None:
                watching(seen)
                if isinstance(seen, happened.LogLine):
                    proxy.refuse()
                    proxy.cut()

            async with make_host(config, taskdir=taskdir) as host:
                spec = command("STATUS: on", "run sleep 1", *HANDING_OVER, "DONE: all")
                with pytest.raises(HostUnreachable, match="resume session"):
                    await supervise(host, spec, store=store, observer=see, lost_after=0.5)
            proxy.accept()
            (stored,) = await store.sessions()
            assert stored.outcome == "unreachable"
            assert {s.state for s in watching.of(happened.LinkChanged)} >= {"down"}
            result = await supervise(None, resume=stored.id, store=store)
    assert (result.outcome, [d.taken for d in result.deliverables]) == ("done", [True])
    assert server.running() == []


@pytest.mark.parametrize("leaves", [True, False], ids=["left", "waited for"])
async def test_a_link_that_breaks_as_it_is_taken_up_leaves_the_agent_running(
    office: Office, make_sshd: Any, ssh_login: Any, leaves: bool
) -> None:
    server = make_sshd()
    with anyio.fail_after(BOUND):
        async with FaultProxy(server.host, server.port) as proxy, office.store() as store:
            login = ssh_login("me", server=server, port=proxy.port)
            config, taskdir = ssh_ground(login)

            class Cutting(SessionJournal):
                async def start(self) -> Any:
                    proxy.refuse()
                    proxy.cut()
                    return await super().start()

            async with make_host(config, taskdir=taskdir) as host:
                detach = anyio.Event()
                detach.set()
                spec = command("hear", "DONE: all")
                session = (await supervise(host, spec, store=store, detach_when=detach)).session
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr("optio_agents.store.SessionJournal", Cutting)
                    async with supervise(host, resume=session, store=store) as live:
                        async for event in live.events():
                            if "link down" in str(getattr(event, "state", "")):
                                break
                        if leaves:
                            await live.detach()
                            assert (await live.result()).outcome == "detached"
                        proxy.accept()
                        if not leaves:
                            await live.send("go on")
                            assert (await live.result()).outcome == "done"
            if leaves:
                async with find_session(session, store=store) as found:
                    await found.send("go on")
                assert (await supervise(None, resume=session, store=store)).outcome == "done"


# From another terminal, and afterwards


async def test_stopping_from_another_terminal_is_no_failure_of_the_agent(office: Office) -> None:
    watching = Watching()
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            async with anyio.create_task_group() as tasks:
                results = []

                async def run() -> None:
                    spec = command("STATUS: on", "run sleep 1000")
                    results.append(await supervise(host, spec, store=store, observer=watching))

                tasks.start_soon(run)
                await watching.until(lambda: watching.lines)
                async with find_session((await store.sessions())[0].id, store=store) as live:
                    report = await live.stop(grace=1)
                assert report.empty
            assert [result.outcome for result in results] == ["cancelled"]
            assert (await store.sessions())[0].outcome == "cancelled"


@pytest.mark.parametrize("left", [None, ("7 sh",)])
async def test_a_stop_that_failed_makes_no_later_crash_a_cancellation(
    office: Office, monkeypatch: pytest.MonkeyPatch, left: tuple[str, ...] | None
) -> None:
    async def fail(*_: object, **__: object) -> agents.StopReport:
        if left is None:
            raise AgentError("stopping failed")
        return agents.StopReport(empty=False, survivors=left)

    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            watching, spec = Watching(), command("STATUS: on", "hear", "exit 3")
            async with supervise(host, spec, store=store, observer=watching) as live:
                await watching.until(lambda: watching.lines)
                with monkeypatch.context() as patch:
                    patch.setattr(agents.Agent, "stop", fail)
                    async with find_session(live.id, store=store) as elsewhere:
                        try:
                            assert (await elsewhere.stop()).survivors == left
                        except AgentError:
                            assert left is None
                await live.send("go on")
                with pytest.raises(AgentExited, match="3"):
                    await live.result()
            assert [one.outcome for one in await store.sessions()] == ["exited"]


async def test_stopping_what_nobody_supervises_ends_the_session(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with office.store() as store:
            session = await detached_at_once(office, store, "run sleep 1000")
            async with find_session(session, store=store) as live:
                assert (await live.stop(grace=1)).empty
            assert (await store.session(session)).outcome == "cancelled"


async def test_interrupting_a_command_is_sigint(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with office.store() as store:
            session = await detached_at_once(office, store, "run exec sleep 1000")
            async with find_session(session, store=store) as live:
                await live.interrupt()
                assert (await agents_end(store, session)).signal == "INT"
                with pytest.raises(AgentError):
                    await live.send("too late")
                assert await live.read_requests() == ()


async def test_prune_removes_what_ended_here_and_on_the_host_and_nothing_else(
    office: Office,
) -> None:
    with anyio.fail_after(BOUND):
        async with office.store() as store:
            ids = {}
            for name, steps in ("done", ("DONE",)), ("runs", ("hear", "DONE")):
                office.taskdir = str(office.directory / name)
                ids[name] = await detached_at_once(office, store, *steps)
            office.taskdir = str(office.directory / "done")
            await supervise(None, resume=ids["done"], store=store)
            assert await prune(store, 3600) == []
            (pruned,) = await prune(store, 0)
            assert (pruned.session.id, pruned.trouble) == (ids["done"], None)
            assert [s.id for s in await store.sessions()] == [ids["runs"]]
            assert not (office.directory / "done").exists()
            assert (office.directory / "runs/session").exists()
            async with find_session(ids["runs"], store=store) as live:
                await live.stop()


async def test_what_cannot_be_removed_on_the_host_is_not_forgotten(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            result = await supervise(host, command("DONE"), store=store)
            Path(office.taskdir, ".optio-task").unlink()  # as if it were another's
            (pruned,) = await prune(store, 0)
            assert pruned.trouble is not None
            assert (await store.session(result.session)).over
    assert Path(office.taskdir).exists()


async def test_the_facts_lead_back_to_an_ssh_host_from_any_directory(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(office.directory)
    jump = SSHConfig("gate", key_path="keys/gate")
    config = SSHConfig("box", user="me", port=2222, key_path="id", config="cfg", jump=jump)
    from optio_agents.store import StoredSession
    from optio_agents.supervision.sessions import Facts

    host = make_host(config, taskdir="~/t", workdir="/w")
    facts = Facts.of(host, command("DONE"), title="", name="", features=get_protocol().features)
    again: Any = host_of(StoredSession("x", 1.0, "me@box:2222", "/home/me/t", asdict(facts)))
    assert (again.machine.name, again.taskdir, again.workdir) == ("me@box:2222", "/home/me/t", "/w")
    assert again.machine.config.key_path == str(office.directory / "id")
    assert again.machine.config.config == (str(office.directory / "cfg"),)
    assert again.machine.config.jump.key_path == str(office.directory / "keys/gate")


def test_each_session_has_an_id_and_a_directory_of_its_own() -> None:
    one, two = new_session_id(), new_session_id()
    assert one != two
    assert re.fullmatch(r"[0-9a-f]{8}", one)
    assert task_directory(one) == f"~/.local/state/optio-agents/tasks/{one}"


async def test_a_callback_of_the_wrong_shape_is_refused_before_an_agent_is_started(
    office: Office,
) -> None:
    async def on_deliverable(path: str) -> None:
        raise AssertionError

    wrong: Any = on_deliverable
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            with pytest.raises(ValueError, match="on_deliverable is called as"):
                await supervise(host, command("DONE"), store=store, on_deliverable=wrong)
            assert await store.sessions() == []
    assert not Path(office.taskdir, "session").exists()
