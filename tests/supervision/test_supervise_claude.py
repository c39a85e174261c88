"""Supervising the real claude CLI: taught, answered, approved from anywhere, found again."""

# ruff: noqa: ASYNC110, ASYNC230, ASYNC240  # files send no events, and nobody else needs the loop

import asyncio
import hashlib
import json
import posixpath
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents import agents
from optio_agents.conversation import PermissionDecision, allow_for_session
from optio_agents.errors import AgentError, AgentExited
from optio_agents.hosts.host import make_host
from optio_agents.protocol.prompt import build_log_channel_prompt
from optio_agents.store import Store
from optio_agents.supervision import Claude, events as happened, find_session
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.model_server import ModelServer, scripted
from tests.support.claude.claude_cli import OFF, executable, surroundings
from tests.support.components import CLAUDE, OLDER_CLAUDE
from tests.support.leaks import no_process_left
from tests.support.sessions.supervising import Case, Office, Watching
from tests.support.timeouts import BOUND

ALLOW = PermissionDecision("allow")
DENY = PermissionDecision("deny", message="no")


def bash(command: str) -> dict[str, Any]:
    return {"tool": "Bash", "input": {"command": command}}


def logs(line: str) -> dict[str, Any]:
    return bash(f"echo '{line}' >> optio.log")


def asks_to_make(taskdir: str) -> dict[str, Any]:
    """A step that needs a permission."""
    path = str(made(taskdir))
    return {"tool": "Write", "input": {"file_path": path, "content": "hello"}}


def made(taskdir: str) -> Path:
    return Path(taskdir, "workdir/made")


MAKES = bash("mkdir -p deliverables && echo hello > deliverables/a.txt")
ANNOUNCES = logs("DELIVERABLE: deliverables/a.txt")
# A reply in mid-turn joins that turn, so a model that ends it at once may wait for ever.
HEARS = bash("until ls ../session/said | grep -q reply; do sleep 0.02; done; echo heard")
ENDS = logs("DONE: all"), {"text": "That is all."}


def claude(root: Path, api: ModelServer, *steps: dict[str, Any]) -> Claude:
    return Claude(
        scripted(*steps),
        allowed_tools=("Bash",),
        options=OFF,
        executable=executable(),
        env=surroundings(root, api),
        env_base="empty",
    )


async def test_it_is_taught_followed_answered_and_ended(office: Office) -> None:
    watching = Watching()
    waits = {"text": "I wait for an answer.", "hold": "waiting"}
    steps = logs("STATUS: 50% half"), MAKES, waits, *ENDS

    async def announce(api: ModelServer) -> None:
        await api.held("waiting")
        with Path(office.taskdir, "workdir/optio.log").open("a") as log:
            log.write("DELIVERABLE: deliverables/a.txt\n")
        await watching.until(lambda: watching.of(happened.DeliveryStep))
        api.release("waiting")

    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store, office.host() as host:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(announce, api)
                spec = claude(office.directory, api, *steps)
                result = await supervise(host, spec, store=store, observer=watching)
            rows = await store.events(result.session)
            turns = [row.value for row in rows if row.kind == "turn"]
    assert (result.outcome, result.summary, result.agent.exit_code) == ("done", "all", 0)
    assert [(d.path, d.taken) for d in result.deliverables] == [("a.txt", True)]
    assert "## Log channel" in str(api.requests[0]["system"])
    assert "System: deliverable a.txt: accepted." in str(api.requests[-1]["messages"])
    assert [seen.turn.text for seen in watching.of(happened.TurnEnded)] == [
        "I wait for an answer.",
        "That is all.",
    ]
    assert turns[0]["raw"]["result"] == "I wait for an answer."
    costs = [turn["raw"]["total_cost_usd"] for turn in turns]
    assert [turn["cost"] for turn in turns] == pytest.approx([costs[0], costs[1] - costs[0]])
    phases = [seen.state.phase for seen in watching.of(happened.StateChanged)]
    assert "working" in phases
    assert "idle" not in phases, "a turn that ends with DONE, or awaits our answer, is not idle"
    assert not Path(office.taskdir, "workdir/AGENTS.md").exists()
    assert "dummy-key" not in repr(watching.seen)


@pytest.mark.parametrize("version", [CLAUDE, OLDER_CLAUDE])
@pytest.mark.parametrize("place", ["ours", "by link", "yours"])
async def test_to_report_needs_no_permission_and_all_else_does(
    office: Office, version: str, place: str
) -> None:
    """As it is taught, six statuses, two deliverables and DONE; and what somebody may try."""
    watching, home = Watching(), office.directory / "home"
    home.mkdir()
    if place == "by link":  # as where a home directory is a link to another disk
        (office.directory / "link").symlink_to(home)
        home = office.directory / "link"
    taskdir = str(home / "task")
    workdir, logdir = None, f"{taskdir}/workdir"
    if place == "yours":
        workdir, logdir = str(home), f"{home}/.optio/task"
    (taught,) = re.findall("```sh\n(.*?)\n```", build_log_channel_prompt(logdir=logdir), re.DOTALL)

    def says(entry: str) -> str:
        return taught.replace("STATUS: 40% parser works, writing its tests", entry)

    out = f"{logdir}/deliverables"
    reports = [
        *(bash(says(f"STATUS: {n}% step {n}; it goes on && on > well")) for n in range(10, 60, 10)),
        {"tool": "Write", "input": {"file_path": f"{out}/a.txt", "content": "hello"}},
        bash(f"cat > {out}/b.md <<'END'\n# Title\n`$x` costs $5\nEND"),
        bash(says(f"DELIVERABLE: {out}/a.txt")),
        bash(says(f"DELIVERABLE: {out}/b.md")),
        bash(says("STATUS: 90% tidying up")),
    ]
    tries = [
        "rm -rf x",
        "echo x > elsewhere",
        f"echo x > {taskdir}/elsewhere",
        f"echo x > {out}/../up",
        f"{says('DONE: x')}; rm -rf x",
        says("STATUS: x") + " && touch y",
        f'printf "$(rm -rf x)" >> {logdir}/optio.log',
        f"echo x > {logdir}/optio.logs",
        f"echo x > {logdir}/sub/optio.log",
        f"echo x > {posixpath.dirname(logdir)}/another",
        f"while [ -e {home}/none ]; do sleep 1; done; touch y; {says('DONE: x')}",
        f"if true; then touch y; fi; {says('DONE: x')}",
        f"(touch y; {says('DONE: x')})",
        f"y() {{ touch y; }}; y >> {logdir}/optio.log",
        f"touch y & {says('DONE: x')}",
        f"true | tee y >> {logdir}/optio.log",
        f"sh -c 'touch y' >> {logdir}/optio.log",
        f"find . -exec touch y ';' >> {logdir}/optio.log",
        "sh <<'END'\ntouch y\nEND",
        f"cp {logdir}/optio.log y",
        f"ln -s {office.directory} {out}/z",
        f"sed -i s/x/y/ {logdir}/optio.log",
    ]
    steps = [*reports, *map(bash, tries), bash(says("DONE: all")), {"text": "Bye."}]
    with anyio.fail_after(BOUND):
        async with (
            ModelServer().serve() as api,
            make_host(taskdir=taskdir, workdir=workdir) as host,
        ):
            api.scripts["all"] = steps
            spec = replace(
                claude(office.directory, api),
                prompt="Do it. @@all@@",
                allowed_tools=(),
                executable=executable(version),
            )
            result = await supervise(
                host, spec, observer=watching, on_permission_request=lambda _: DENY
            )
    asked = [seen.request.input.get("command") for seen in watching.of(happened.RequestOpened)]
    assert asked == tries
    assert (result.outcome, result.summary, result.statuses) == ("done", "all", 6)
    assert sorted(delivery.path for delivery in result.deliverables) == ["a.txt", "b.md"]


async def test_a_permission_is_given_from_another_terminal(office: Office) -> None:
    watching = Watching()
    steps = asks_to_make(office.taskdir), *ENDS
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store, office.host() as host:
            spec = claude(office.directory, api, *steps)
            async with anyio.create_task_group() as tasks:
                results = []

                async def run() -> None:
                    results.append(await supervise(host, spec, store=store, observer=watching))

                tasks.start_soon(run)
                await watching.until(lambda: watching.of(happened.RequestOpened))
                asked = watching.of(happened.RequestOpened)[0]
                (stored,) = await store.sessions()
                async with find_session(stored.id, store=store) as live:
                    (found,) = await live.read_requests()
                    assert (found.request.id, found.digest) == (asked.request.id, asked.digest)
                    assert live.requests == (found,)
                    assert str(live.state).startswith("waits for you: Write `")
                    with pytest.raises(AgentError, match="not what was shown"):
                        await live.answer(replace(found, digest="x"), ALLOW, by="me")
                    answered = await live.answer(found, ALLOW, by="me at the other one")
                    assert (answered.won, answered.by) == (True, "me at the other one")
                    with pytest.raises(AgentError, match="is open"):
                        await live.answer(found, ALLOW, by="somebody else")
    assert [result.outcome for result in results] == ["done"]
    assert made(office.taskdir).exists()
    (decided,) = watching.of(happened.RequestDecided)
    assert (decided.behavior, decided.by) == ("allow", "me at the other one")


async def test_an_answer_from_elsewhere_counts_at_once(office: Office) -> None:
    """The agent says so itself only when the command that was allowed has ended."""
    watching, go = Watching(), office.directory / "go"
    held = bash(f"touch let; while [ ! -e {go} ]; do sleep 0.02; done")
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store, office.host() as host:
            spec = replace(claude(office.directory, api, held, *ENDS), allowed_tools=())
            async with supervise(host, spec, store=store, observer=watching) as owned:
                await watching.until(lambda: watching.of(happened.RequestOpened))
                (shown,) = owned.requests
                asked = json.dumps(["Bash", shown.request.input], sort_keys=True)
                older = replace(shown, digest=hashlib.sha256(asked.encode()).hexdigest()[:16])
                always = allow_for_session(shown.request)
                assert always.updated_permissions
                async with find_session(owned.id, store=store) as live:
                    assert live.requests == await live.read_requests() == (shown,)
                    with pytest.raises(AgentError, match="not what was shown"):
                        await live.answer(older, always)  # version 0.3.2 did not show it
                    await live.answer(older, ALLOW, by="me at the other one")
                await watching.until(lambda: watching.of(happened.RequestDecided))
                while owned.requests or owned.state.phase != "working":
                    await anyio.sleep(0.02)
                go.touch()
                result = await owned.result()
    assert result.outcome == "done"
    (decided,) = watching.of(happened.RequestDecided)
    assert (decided.behavior, decided.by) == ("allow", "me at the other one")


async def test_a_permission_that_nobody_gives_is_denied_in_time(office: Office) -> None:
    watching = Watching()
    steps = asks_to_make(office.taskdir), *ENDS
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.host() as host:
            spec = claude(office.directory, api, *steps)
            result = await supervise(host, spec, observer=watching, permission_timeout=0.1)
    assert result.outcome == "done"
    assert not made(office.taskdir).exists()
    decided = watching.of(happened.RequestDecided)[0]
    assert (decided.behavior, decided.by) == ("deny", "nobody")


async def test_a_claude_that_ends_without_done_is_no_success(office: Office) -> None:
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store, office.host() as host:
            spec = claude(office.directory, api, bash("kill -9 $PPID"))
            with pytest.raises(AgentExited) as failure:
                await supervise(host, spec, store=store)
            rows = await store.events(failure.value.result.session)
    assert failure.value.exit_code == 137
    assert "its last turn failed" not in str(failure.value)
    assert [row.value["outcome"] for row in rows if row.kind == "turn"] == ["lost"]


async def test_one_that_is_not_logged_in_ends_with_what_to_do(office: Office) -> None:
    watching = Watching()
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store, office.host() as host:
            refused = {"error": 401, "message": "invalid x-api-key"}
            spec = claude(office.directory, api, refused)
            with pytest.raises(AgentError, match=r"not logged in there .*/login.*--env"):
                await supervise(host, spec, store=store, session="s1", observer=watching)
            stored = await store.session("s1")
        await no_process_left(office.tag())
    (failed,) = watching.of(happened.TurnEnded)
    assert failed.turn.outcome == "failed"
    assert "API key" in str(failed.turn.failure)
    assert str(stored.state).startswith("failed: claude is not logged in")
    assert stored.over


async def test_a_failed_turn_stands_in_the_error_that_ends_the_session(office: Office) -> None:
    watching = Watching()
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.host() as host:
            steps = logs("STATUS: on"), {"error": 400, "message": "too odd"}
            spec = claude(office.directory, api, *steps)

            async def end() -> None:
                await watching.until(lambda: watching.of(happened.TurnEnded))
                async with agents.adopt(host) as agent:
                    await agent.signal("KILL")
                    agent.detach()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(end)
                with pytest.raises(AgentExited, match=r"its last turn failed: .*too odd"):
                    await supervise(host, spec, observer=watching)


async def test_detached_with_an_open_request_it_is_asked_again(office: Office) -> None:
    detach, first, second = anyio.Event(), Watching(), Watching()

    def see(seen: happened.SessionEvent) -> None:
        first(seen)
        if isinstance(seen, happened.RequestOpened):
            detach.set()

    steps = asks_to_make(office.taskdir), *ENDS
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store:
            async with office.host() as host:
                spec = claude(office.directory, api, *steps)
                left = await supervise(host, spec, store=store, observer=see, detach_when=detach)
            assert left.outcome == "detached"
            (opened,) = await store.journal(left.session).open_requests()
            result = await supervise(
                None,
                resume=left.session,
                store=store,
                observer=second,
                on_permission_request=lambda _: ALLOW,
            )
            assert await store.journal(left.session).open_requests() == []
    assert result.outcome == "done"
    assert first.of(happened.RequestDecided) == []
    asked, again = first.of(happened.RequestOpened)[0], second.of(happened.RequestOpened)[0]
    assert (asked.request.id, asked.digest) == (again.request.id, again.digest)
    assert opened.value["digest"] == asked.digest
    assert [one.behavior for one in second.of(happened.RequestDecided)] == ["allow"]
    assert made(office.taskdir).exists()


@pytest.mark.parametrize("ground", ["local", "me"], indirect=True)
async def test_killed_with_an_open_request_the_next_supervisor_is_asked(case: Case) -> None:
    seen = Watching()
    steps = asks_to_make(case.taskdir), MAKES, ANNOUNCES, HEARS, *ENDS
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api:
            child = case.start(case.plan_for(claude(case.ground.directory, api, *steps)))
            await case.says(child, "asked")
            child.kill()
            await asyncio.to_thread(child.wait)
            async with Store(case.directory / "j.sqlite3") as store:
                result = await case.resume(
                    store, observer=seen, on_permission_request=lambda _: ALLOW
                )
    assert (result.outcome, [d.taken for d in result.deliverables]) == ("done", [True])
    assert {asked.request.tool_name for asked in seen.of(happened.RequestOpened)} == {"Write"}
    assert made(case.taskdir).exists()


@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_stopped_it_finds_a_request_answered_a_deliverable_and_done(case: Case) -> None:
    """Everything happens while the supervisor does not move; nothing of it is lost."""
    steps = logs("STATUS: on"), asks_to_make(case.taskdir), MAKES, ANNOUNCES, *ENDS
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api:
            child = case.start(case.plan_for(claude(case.ground.directory, api, *steps)))
            await case.says(child, "line STATUS: on")
            child.send_signal(signal.SIGSTOP)
            async with Store(case.directory / "j.sqlite3") as store:
                async with find_session("s1", store=store) as live:
                    while not (found := await live.read_requests()):
                        await anyio.sleep(0.05)
                    await live.answer(found[0], ALLOW, by="me")
                    log = Path(case.taskdir, "workdir/optio.log")
                    while "DONE" not in log.read_text():
                        await anyio.sleep(0.05)
                child.send_signal(signal.SIGCONT)
                said, _ = await asyncio.to_thread(child.communicate)
                (delivery,) = await store.deliveries("s1")
    assert "outcome\tdone" in said
    assert (delivery.path, delivery.size) == ("a.txt", 6)
    assert made(case.taskdir).exists()
