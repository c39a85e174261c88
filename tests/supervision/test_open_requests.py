"""What an agent has asked stays open until somebody, or the agent itself, has settled it."""

# ruff: noqa: ASYNC240, PT012  # nobody else needs the event loop; a block is a live session

import json
import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.agents import Agent
from optio_agents.conversation import PermissionDecision, answer_questions
from optio_agents.errors import AgentError, JournalChanged, StoreError
from optio_agents.hosts import make_host
from optio_agents.store import SessionJournal, Store
from optio_agents.supervision import Claude, events as happened, find_session
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.model_server import ModelServer, scripted
from optio_agents.testing.proxy import FaultProxy
from tests.support.claude.claude_cli import OFF, executable, surroundings
from tests.support.hosts.disks import disk_at
from tests.support.hosts.hosts import ssh_config
from tests.support.sessions.supervising import PLAIN, Office, Watching
from tests.support.timeouts import BOUND

MAKES = {"tool": "Bash", "input": {"command": "touch made"}}
DONE = {"tool": "Bash", "input": {"command": "echo 'DONE: all' >> optio.log"}}
ENDS = DONE, {"text": "That is all."}
ALLOW = PermissionDecision("allow")


def claude(root: Path, api: ModelServer, *steps: dict[str, Any], **env: str) -> Claude:
    env = {**surroundings(root, api), **env}
    return Claude(scripted(*steps), options=OFF, executable=executable(), env=env, env_base="empty")


async def the_request(live: Any) -> Any:
    """The first that it makes known."""
    async for seen in live.events():
        if isinstance(seen, happened.RequestOpened):
            return seen
    raise AssertionError("it asked for nothing")


async def test_when_its_output_is_cut_the_session_says_so_and_what_it_asked_stays_open(
    office: Office,
) -> None:
    watching = Watching()
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store:
            spec = claude(office.directory, api, {"text": "one"})
            async with office.host() as host:
                with pytest.raises(JournalChanged, match="output was replaced or cut"):
                    async with supervise(
                        host, spec, store=store, session="mine", observer=watching
                    ) as live:
                        await watching.until(lambda: watching.of(happened.TurnEnded))
                        await live.send(scripted(MAKES, *ENDS))
                        await watching.until(lambda: live.requests)
                        os.truncate(f"{office.taskdir}/session/stdout", 0)
                        await live.result()
            assert watching.of(happened.RequestDecided) == []
            known = await store.session("mine")
            assert (known.over, known.outcome) == (False, "failed")
            assert "output was replaced or cut" in str(known.summary)
            again = Watching()
            async with supervise(None, resume="mine", store=store, observer=again) as live:
                await live.interrupt()
                await live.send(scripted(*ENDS))
                result = await live.result()
            turns = [row.value for row in await store.events("mine") if row.kind == "turn"]
    assert (result.outcome, result.summary) == ("done", "all")
    assert [turn["text"] for turn in turns if turn["text"]] == ["one", "That is all."]


async def test_time_in_which_nobody_could_be_asked_denies_nothing(
    ssh_login: Any, sshd: Any, office: Office
) -> None:
    async with FaultProxy(sshd.host, sshd.port) as proxy, ModelServer().serve() as api:
        config = ssh_config(ssh_login(port=proxy.port), keepalive=0.3, login_timeout=1)
        watching = Watching()
        with anyio.fail_after(BOUND):
            async with make_host(config, taskdir=office.taskdir) as host:
                spec = claude(office.directory, api, MAKES, *ENDS)
                running = supervise(host, spec, permission_timeout=2.0, observer=watching)
                async with running as live:
                    await watching.until(lambda: live.requests)
                    proxy.refuse()
                    proxy.cut()
                    await watching.until(lambda: live.state.phase == "link down")
                    await anyio.sleep(3.0)
                    assert live.requests
                    proxy.accept()
                    await watching.until(lambda: watching.of(happened.RequestDecided))
                    (decided,) = watching.of(happened.RequestDecided)
                    assert (decided.behavior, decided.by) == ("deny", "nobody")
                    up = [one.at for one in watching.of(happened.LinkChanged) if one.state == "up"]
                    assert decided.at > up[-1]
                    await live.stop()


async def test_a_question_that_names_a_credential_is_shown_without_it_and_answered_with_it(
    office: Office,
) -> None:
    """The agent finds its answer by the words of its question."""
    secret = "hunter2-hunter2-hunter2"
    question, label = f"Is {secret} right?", f"Yes, {secret}"
    asked = [
        {
            "question": question,
            "header": "Key",
            "multiSelect": False,
            "options": [{"label": label, "description": "d"}, {"label": "No", "description": "d"}],
        }
    ]
    asks = {"tool": "AskUserQuestion", "input": {"questions": asked}}
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store, office.host() as host:
            spec = claude(office.directory, api, asks, MAKES, *ENDS, MY_TOKEN=secret)
            async with supervise(host, spec, store=store, session="mine") as live:
                opened = await the_request(live)
                (shown,) = opened.request.input["questions"]
                assert shown["question"] == "Is [MY_TOKEN] right?"
                answers = {shown["question"]: shown["options"][0]["label"]}
                decision = answer_questions(opened.request, answers)
                async with find_session("mine", store=store) as elsewhere:
                    asked_here = happened.OpenRequest(opened.request, opened.digest)
                    assert (await elsewhere.answer(asked_here, decision)).won
                async for seen in live.events():
                    if isinstance(seen, happened.RequestOpened) and seen.request.id != (
                        opened.request.id
                    ):
                        break
                await live.answer(happened.OpenRequest(seen.request, seen.digest), ALLOW)
                result = await live.result()
    assert result.outcome == "done"
    said = Path(office.taskdir, "session").glob("*/answer-*")
    told = [json.loads(answer.read_text())["response"]["response"] for answer in said]
    inputs = [one["updatedInput"] for one in told if "answers" in one["updatedInput"]]
    assert inputs == [{"questions": asked, "answers": {question: label}}]


SAYS_NO_MORE = """#!{python}
import sys
print('{{"type": "control_request", "request_id": "r", "request": {{"subtype": "can_use_tool",'
      ' "tool_name": "Bash", "input": {{"command": "make"}}, "tool_use_id": "t"}}}}', flush=True)
sys.stdin.read()
"""


async def test_what_was_decided_is_waited_for_no_longer_though_the_agent_is_silent(
    office: Office,
) -> None:
    """Until its command has ended, say, which may be in an hour."""
    cli, watching = office.directory / "claude", Watching()
    cli.write_text(SAYS_NO_MORE.format(python=sys.executable))
    cli.chmod(0o755)
    spec = Claude("Make it", executable=str(cli), env=PLAIN, env_base="empty")
    with anyio.fail_after(BOUND):
        async with office.host() as host, supervise(host, spec, observer=watching) as live:
            await watching.until(lambda: live.state.phase == "waiting")
            (asked,) = live.requests
            assert (await live.answer(asked, ALLOW)).won
            await watching.until(lambda: live.state.phase == "working")
            await live.stop()


async def test_what_cannot_be_written_down_is_denied_by_nobody(office: Office) -> None:
    """A full disk of ours is no answer: the agent waits, and who resumes it is asked."""
    with (
        anyio.fail_after(BOUND),
        disk_at(office.directory / "disk") as disk,
    ):
        ballast = disk / "ballast"
        async with ModelServer().serve() as api, Store(disk / "j.sqlite3") as store:
            spec = claude(office.directory, api, {**MAKES, "hold": "asking"}, *ENDS)
            async with office.host() as host:
                with pytest.raises(StoreError, match="full"):
                    async with supervise(host, spec, store=store, session="mine") as live:
                        await api.held("asking")
                        while await live.conversation() is None:  # noqa: ASYNC110 - all else is written
                            await anyio.sleep(0.02)
                        _fill(ballast)
                        api.release("asking")
                        await live.result()
            ballast.unlink()
            assert not any(Path(office.taskdir, "session/answers").iterdir())
            assert not (await store.session("mine")).over
            async with supervise(None, resume="mine", store=store) as live:
                opened = await the_request(live)
                await live.answer(happened.OpenRequest(opened.request, opened.digest), ALLOW)
                result = await live.result()
    assert (result.outcome, result.summary) == ("done", "all")
    assert Path(office.taskdir, "workdir/made").exists()


async def test_a_decision_that_cannot_be_written_down_is_no_denial(office: Office) -> None:
    with (
        anyio.fail_after(BOUND),
        disk_at(office.directory / "disk") as disk,
    ):
        ballast = disk / "ballast"

        def allow(_: object) -> PermissionDecision:
            _fill(ballast)
            return ALLOW

        async with ModelServer().serve() as api, Store(disk / "j.sqlite3") as store:
            spec = claude(office.directory, api, MAKES, *ENDS)
            asking = supervise(
                office.host(), spec, store=store, session="mine", on_permission_request=allow
            )
            with pytest.raises(StoreError, match="full"):
                await asking
            ballast.unlink()
            result = await supervise(
                None, resume="mine", store=store, on_permission_request=lambda _: ALLOW
            )
    assert (result.outcome, result.summary) == ("done", "all")
    assert Path(office.taskdir, "workdir/made").exists()


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


ASKS_ANEW = """#!{python}
import json, os, sys, time
def say(**event):
    print(json.dumps(event), flush=True)
def ask(command):
    asked = dict(subtype="can_use_tool", tool_name="Bash", input=dict(command=command))
    say(type="control_request", request_id="r", request=asked)
for line in sys.stdin:
    told = json.loads(line)
    if told["type"] == "user":
        say(**told, isReplay=True)
        ask("ls")
        while not os.path.exists("again"):
            time.sleep(0.02)
        ask("rm -rf ~")
    elif told["type"] == "control_response":
        open("answered", "a").write(line)
        open(os.environ["OPTIO_LOG"], "a").write("DONE\\n")
"""


async def test_what_is_asked_anew_under_one_name_is_shown_and_decided_anew(office: Office) -> None:
    program = office.directory / "asks"
    program.write_text(ASKS_ANEW.format(python=sys.executable))
    program.chmod(0o755)
    spec = Claude("Do it.", executable=str(program), env=PLAIN, env_base="empty")
    shown = Watching()
    with anyio.fail_after(BOUND):
        async with (
            office.store() as store,
            office.host() as host,
            supervise(host, spec, store=store, session="mine", observer=shown) as live,
        ):
            await shown.until(lambda: shown.of(happened.RequestOpened))
            Path(office.taskdir, "workdir/again").touch()
            await shown.until(lambda: len(shown.of(happened.RequestOpened)) == 2)
            first, second = (
                happened.OpenRequest(one.request, one.digest)
                for one in shown.of(happened.RequestOpened)
            )
            async with find_session("mine", store=store) as elsewhere:
                for session in live, elsewhere:
                    with pytest.raises(AgentError, match="not what was shown"):
                        await session.answer(first, ALLOW)
                    (still_open,) = session.requests
                    assert still_open.digest == second.digest
                assert (await elsewhere.answer(second, PermissionDecision("deny"))).won
            assert (await live.result()).outcome == "done"
    assert Path(office.taskdir, "workdir/answered").read_text().count('"deny"') == 1


ASKS_A_LOT = """#!{python}
import json, sys
def say(**event):
    print(json.dumps(event), flush=True)
for line in sys.stdin:
    told = json.loads(line)
    if told["type"] == "user":
        say(**told, isReplay=True)
        for n in range(500):
            asked = dict(subtype="can_use_tool", tool_name="Bash", input=dict(command=str(n)))
            say(type="control_request", request_id="r%d" % n, request=asked)
    elif told["type"] == "control_response":
        open("answered", "a").write(line)
"""


async def test_an_agent_that_asks_without_end_holds_up_nobody(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is the journal read, or the host asked, for each of its requests."""
    reads, asks = [], []

    async def open_requests(self: SessionJournal) -> Any:
        reads.append(self)
        return await reading(self)

    async def find_answer(self: Agent, name: str) -> Any:
        asks.append(name)
        return await finding(self, name)

    reading, finding = SessionJournal.open_requests, Agent.find_answer
    monkeypatch.setattr(SessionJournal, "open_requests", open_requests)
    monkeypatch.setattr(Agent, "find_answer", find_answer)
    program = office.directory / "asks"
    program.write_text(ASKS_A_LOT.format(python=sys.executable))
    program.chmod(0o755)
    spec = Claude("Do it.", executable=str(program), env=PLAIN, env_base="empty")
    with anyio.fail_after(BOUND):
        async with (
            office.store() as store,
            office.host() as host,
            supervise(host, spec, store=store, session="mine") as live,
        ):
            async for seen in live.events():
                if isinstance(seen, happened.RequestOpened) and seen.request.id == "r499":
                    break
            async with find_session("mine", store=store) as elsewhere:
                assert (await elsewhere.answer(elsewhere.requests[0], ALLOW)).won
            while len(live.requests) > 499:  # noqa: ASYNC110 - it notices by itself
                await anyio.sleep(0.02)
            await live.stop(grace=0.1)
    assert len(reads) < 100
    assert len(asks) <= 2
