"""The real CLI as a detached, journaled agent: what outlives whom, and who may answer."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import pytest

from optio_agents import agents
from optio_agents.conversation import (
    ConversationClosed,
    PermissionDecision,
    RootRefused,
    claude_code_adopt,
)
from optio_agents.conversation.claude.launch import plan_launch
from optio_agents.conversation.claude.stream_json import permission_answer
from optio_agents.hosts.host import LocalHost, make_host
from optio_agents.testing.model_server import ModelServer, scripted
from optio_agents.testing.proxy import FaultProxy
from tests.support import proc
from tests.support.agents.pipe_handle import Ponder
from tests.support.claude.behaviours import BEHAVIOURS, TOUCH
from tests.support.claude.claude_cli import Talk, executable, journaled, surroundings
from tests.support.hosts.agent_ground import until
from tests.support.hosts.disks import disk_at
from tests.support.hosts.hosts import ssh_config
from tests.support.timeouts import BOUND


@pytest.fixture
def world(tmp_path):
    """A host with an empty work directory, and a model: (host, root, api)."""

    @asynccontextmanager
    async def make(place=tmp_path):
        async with ModelServer().serve() as api, LocalHost(str(place / "task")) as host:
            await host.setup_workdir()
            with anyio.fail_after(BOUND):
                yield host, tmp_path, api

    return make


@pytest.mark.parametrize(
    "name", ["one-turn", "permission-allowed", "interrupted-while-it-speaks", "merged-messages"]
)
async def test_it_behaves_as_over_pipes(name, world):
    async with world() as (host, root, api), journaled(host, root, api) as talk:
        await BEHAVIOURS[name].play(talk)


async def test_prompt_and_system_prompt_arrive_and_stand_in_no_command_line(world):
    secret, first = secrets.token_hex(8), secrets.token_hex(8)
    said = {"prompt": scripted({"text": first}), "append_system_prompt": secret}
    async with world() as (host, root, api), journaled(host, root, api, **said) as talk:
        await talk.heard(lambda event: event["type"] == "result")
        assert proc.running(executable())
        assert not proc.running(secret)
        assert not proc.running(first)
        assert secret in str(api.requests[-1]["system"])
        assert talk.conversation.unconfirmed == ()
        assert not talk.conversation.is_pending()


async def test_permissions_are_asked_again_after_a_restart_and_answers_are_not_repeated(world):
    asked = list[str]()
    tools = [{"tool": "Bash", "input": {"command": f"touch {name}"}} for name in "ab"]

    def first(request):
        asked.append(request.input["command"])
        return PermissionDecision("allow")

    async with world() as (host, root, api):
        async with journaled(host, root, api) as talk:
            unsubscribe = talk.conversation.on_permission_request(first)
            uuid = await talk.conversation.send(scripted(*tools, {"text": "both"}))
            await talk.heard(lambda event: "tool_result" in str(event.get("message")))
            unsubscribe()
            await talk.heard(lambda event: event["type"] == "control_request", count=2)
            seen, cursor = list(talk.events), talk.conversation.cursor
            talk.conversation.detach()
        async with agents.adopt(host) as agent, claude_code_adopt(agent, cursor=cursor) as again:
            events = list[dict]()
            again.on_event(events.append)
            again.on_permission_request(first)
            ended = Talk(again, api)
            await ended.heard(lambda event: event["type"] == "result")
            assert asked == ["touch a", "touch b"]
            assert again.usage.turns == 1
            assert again.unconfirmed == ()
            again_of = [event for event in events if event in seen]
            assert again_of == []
            assert events[-1]["uuid"] != uuid
        assert names_in(host.workdir) >= {"a", "b"}


async def test_a_message_with_a_uuid_is_said_once_also_by_a_successor(world):
    uuid = "6f0c0f3e-0f0b-4d0a-9a50-0123456789ab"
    async with world() as (host, root, api):
        async with journaled(host, root, api) as talk:
            await talk.conversation.send(scripted({"text": "first"}), uuid=uuid)
            await talk.heard(lambda event: event["type"] == "result")
            talk.conversation.detach()
        async with agents.adopt(host) as agent, claude_code_adopt(agent) as again:
            await again.send("in other words", uuid=uuid)
            answer = await again.ask(scripted({"text": "second"}))
            assert answer.text == "second"
            assert not again.is_pending()
    assert "in other words" not in str(api.requests)


async def test_an_answer_that_finds_the_disk_full_arrives_once_there_is_room(
    world, tmp_path, caplog
):
    with disk_at(tmp_path / "disk") as disk:
        ballast = disk / "ballast"

        def allow(_):
            with suppress(OSError):
                ballast.write_bytes(b"x" * (8 << 20))
            return PermissionDecision("allow")

        async with world(disk) as (host, root, api), journaled(host, root, api) as talk:
            talk.conversation.on_permission_request(allow)
            async with anyio.create_task_group() as tasks:

                async def answered():
                    asked = scripted(TOUCH, {"text": "it was let"})
                    assert (await talk.conversation.ask(asked)).text == "it was let"
                    tasks.cancel_scope.cancel()

                tasks.start_soon(answered)
                await until(lambda: caplog.text.count("is said again") > 1)
                assert talk.conversation.open_requests
                ballast.unlink()
                await anyio.sleep_forever()
            assert not talk.conversation.open_requests


async def test_the_next_supervisor_sees_everything_when_it_has_no_cursor(world):
    async with world() as (host, root, api):
        async with journaled(host, root, api) as talk:
            await talk.conversation.ask(scripted({"text": "one"}))
            talk.conversation.detach()
        async with agents.adopt(host) as agent, claude_code_adopt(agent) as again:
            texts, events = list[str](), list[dict]()
            again.on_message(texts.append)
            again.on_event(events.append)
            result = await again.ask(scripted({"text": "two"}))
            assert result.text == "two"
            assert result.cost_usd is not None
            await anyio.wait_all_tasks_blocked()
            assert texts == ["one", "two"]
            assert [event for event in events if event["type"] != "control_response"][
                : len(talk.events) - 1
            ] == [event for event in talk.events if event["type"] != "control_response"]


async def test_what_a_handler_has_not_had_comes_again_behind_the_cursor(world):
    stood = anyio.Event()

    async def stand(event):
        if event["type"] == "result":
            stood.set()
            await anyio.sleep_forever()

    async with world() as (host, root, api):
        async with journaled(host, root, api) as talk:
            talk.conversation.on_event(stand)
            assert (await talk.conversation.ask(scripted({"text": "one"}))).ok
            await stood.wait()
            cursor = talk.conversation.cursor
            talk.conversation.detach()
        async with agents.adopt(host) as agent, claude_code_adopt(agent, cursor=cursor) as again:
            result = await Talk(again, api).heard(lambda event: event["type"] == "result")
            assert result["result"] == "one"


async def test_another_terminal_may_answer_and_the_handler_hears_of_it(world):
    ponder = Ponder()
    async with world() as (host, root, api), journaled(host, root, api) as talk:
        talk.conversation.on_permission_request(ponder)
        await talk.conversation.send(scripted(TOUCH, {"text": "touched", "hold": "x"}))
        await talk.heard(lambda event: event["type"] == "control_request")
        (request,) = talk.conversation.open_requests
        async with agents.adopt(host) as other:
            allowed = permission_answer(request, PermissionDecision("allow"))
            denied = permission_answer(request, PermissionDecision("deny"))
            assert (await other.answer(request.id, allowed, by="the other")).won
            late = await other.answer(request.id, denied, by="too late")
            assert (late.won, late.by) == (False, "the other")
            other.detach()
        await ponder.cancelled.wait()  # while the turn goes on
        api.release("x")
        await talk.heard(lambda event: event["type"] == "result")
        assert talk.conversation.open_requests == ()
        assert (talk.work / "made").exists()


async def test_a_request_that_was_answered_and_not_yet_read_is_not_asked_again(world):
    asked = list[str]()

    async with world() as (host, root, api):
        async with journaled(host, root, api) as talk:
            await talk.conversation.send(scripted(TOUCH, {"text": "touched"}))
            await talk.heard(lambda event: event["type"] == "control_request")
            (request,) = talk.conversation.open_requests
            cli = pid_of(talk)
            os.kill(cli, signal.SIGSTOP)
            allowed = PermissionDecision("allow")
            assert await talk.conversation.answer(request, allowed, by="the first") == "the first"
            await talk.conversation.send("by the way")
            talk.conversation.detach()
        async with agents.adopt(host) as agent, claude_code_adopt(agent) as again:
            again.on_permission_request(lambda request: asked.append(request.id))
            heard = Talk(again, api)
            await heard.heard(lambda event: event["type"] == "control_request")
            await anyio.wait_all_tasks_blocked()
            assert [one.text for one in again.unconfirmed] == ["by the way"]
            assert again.is_pending()
            os.kill(cli, signal.SIGCONT)
            result = await heard.heard(lambda event: event["type"] == "result")
            assert (result["result"], asked) == ("touched", [])
            assert again.unconfirmed == ()


async def test_killed_in_a_tool_it_says_so_and_resume_continues(world):
    waits = {"tool": "Bash", "input": {"command": "echo on; sleep 300"}}
    async with world() as (host, root, api):
        async with journaled(host, root, api, arguments=["--allowed-tools=Bash"]) as talk:
            await talk.conversation.ask(scripted({"text": "remember the number 7"}))
            await talk.conversation.send(scripted(waits, {"text": "never"}))
            await talk.heard(lambda event: "tool_use" in str(event.get("message")))
            (cli,) = [one for one in proc.processes() if one.pid == pid_of(talk)]
            os.kill(cli.pid, signal.SIGSTOP)
            lost = await talk.conversation.send("words that nobody reads")
            os.kill(cli.pid, signal.SIGKILL)
            with pytest.raises(ConversationClosed, match="SIGKILL"):
                await talk.conversation.ask("are you there?")
            reason = talk.conversation.close_reason
            assert (reason.exit_code, reason.signal, reason.asked) == (137, "KILL", False)
            assert reason.last_result["result"] == "remember the number 7"
            assert [one.uuid for one in talk.conversation.unconfirmed][:1] == [lost]
            session = talk.conversation.session_id
        async with journaled(host, root, api, resume=session) as talk:
            result = await talk.conversation.ask(scripted({"text": "7"}))
            assert (result.text, result.session_id) == ("7", session)
            assert result.cost_usd is None  # what was spent before is not known
            texts = str(api.requests[-1]["messages"])
            assert "remember the number 7" in texts
            assert "words that nobody reads" not in texts  # not repeated unless asked


async def test_a_session_that_does_not_exist_is_the_reason(world):
    unknown = "11111111-2222-4333-8444-555555555555"
    async with world() as (host, root, api):
        async with journaled(host, root, api, resume=unknown) as talk:
            with pytest.raises(ConversationClosed, match="No conversation found"):
                await talk.conversation.ask("hello")
            assert talk.conversation.close_reason.exit_code == 1
        async with journaled(host, root, api, arguments=["--no-such-flag"]) as talk:
            with pytest.raises(ConversationClosed, match="no-such-flag"):
                await talk.conversation.ask("hello")


async def test_closing_does_not_wait_for_a_background_shell(world):
    n = proc.unique()
    shell = {"command": f"echo on; sleep {n}", "run_in_background": True}
    step = {"tool": "Bash", "input": shell}
    async with world() as (host, root, api):
        async with journaled(host, root, api, arguments=["--allowed-tools=Bash"]) as talk:
            await talk.conversation.ask(scripted(step, {"text": "started"}))
            with anyio.fail_after(BOUND):  # the shell sleeps much longer
                await talk.conversation.close()
            assert talk.conversation.close_reason.exit_code == 0
        assert not proc.running(n)


async def test_as_root_without_a_sandbox_bypassing_is_refused_before_anything_starts(world):
    if os.getuid():
        pytest.skip("needs root")
    async with world() as (host, root, api):
        with pytest.raises(RootRefused, match="IS_SANDBOX"):
            async with journaled(host, root, api, permission_mode="bypassPermissions"):
                raise AssertionError
        assert "session" not in names_in(host.taskdir)
        sandbox = {"IS_SANDBOX": "1"}
        mode = "bypassPermissions"
        async with journaled(host, root, api, permission_mode=mode, env=sandbox) as talk:
            result = await talk.conversation.ask(scripted(TOUCH, {"text": "touched"}))
            assert result.text == "touched"


async def test_a_supervisor_that_is_killed_loses_nothing(world):
    """It dies in mid-turn; the next one hears the rest, and answers what was asked meanwhile."""
    async with world() as (host, root, api):
        prompt = scripted({"text": "said alone", "hold": "x"})
        supervisor = await anyio.open_process(
            [
                sys.executable,
                "-m",
                "tests.support.claude.claude_supervisor",
                host.taskdir,
                str(root),
                prompt,
            ],
            env={**os.environ, "SURROUNDINGS": repr(surroundings(root, api))},
            stdout=sys.stderr,
        )
        await api.held("x")
        supervisor.kill()
        await supervisor.wait()
        api.release("x")
        async with agents.adopt(host) as agent, claude_code_adopt(agent) as again:
            talk = Talk(again, api, Path(host.workdir))
            result = await talk.heard(lambda event: event["type"] == "result")
            assert result["result"] == "said alone"
            assert not again.is_pending()
            assert (await again.ask(scripted({"text": "on"}))).text == "on"


def test_a_launch_takes_no_value_for_an_option():
    launch = plan_launch(resume="--help", model="-x", allowed_tools=["Bash(git log)", "Read"])
    assert {"--resume=--help", "--model=-x", "--allowed-tools=Bash(git log),Read"} <= set(
        launch.argv
    )
    assert not any("session-id" in argument for argument in launch.argv)


async def test_the_smoke_of_an_older_version(world):
    executable("2.1.197")
    asked = list[str]()

    def allow(request):
        asked.append(request.tool_name)
        return PermissionDecision("allow")

    older = {"version": "2.1.197"}
    async with world() as (host, root, api), journaled(host, root, api, **older) as talk:
        talk.conversation.on_permission_request(allow)
        assert (await talk.conversation.ask(scripted(TOUCH, {"text": "one"}))).text == "one"
        await BEHAVIOURS["interrupted-while-it-speaks"].play(talk)
        await BEHAVIOURS["slash-is-text"].play(talk)
        assert asked == ["Bash"]


def names_in(directory: str) -> set[str]:
    return {path.name for path in Path(directory).iterdir()}


def pid_of(talk: Talk) -> int:
    return int((talk.work.parent / "session" / "pid").read_text().split()[0])


async def test_over_ssh_a_link_that_is_cut_in_mid_turn_loses_nothing(
    make_sshd, ssh_login, tmp_path
):
    server = make_sshd()
    events = list[dict]()
    async with (
        ModelServer().serve() as api,
        FaultProxy(server.host, server.port) as proxy,
        make_host(
            ssh_config(ssh_login(server=server, port=proxy.port)), taskdir=str(tmp_path / "task")
        ) as host,
    ):
        with anyio.fail_after(BOUND):
            await host.setup_workdir()
            async with journaled(host, tmp_path, api) as talk:
                talk.conversation.on_event(events.append)
                talk.conversation.on_permission_request(lambda _: PermissionDecision("allow"))
                await talk.conversation.send(scripted({"text": "a b", "hold": "x"}))
                await api.held("x")
                proxy.cut()
                api.release("x")
                await talk.heard(lambda event: event["type"] == "result")
                cut = proxy.on_bytes(2000, source="server")
                result = await talk.conversation.ask(scripted(TOUCH, {"text": "touched"}))
                assert result.text == "touched"
                await cut.wait()
                await talk.heard(lambda event: event.get("state") == "idle", count=2)  # the last
                journal = await host.ask('cat "$1"', f"{host.taskdir}/session/stdout")
                assert [json.loads(line) for line in journal.stdout.splitlines()] == events
                uuids = [event["uuid"] for event in events if "uuid" in event]
                assert len(set(uuids)) == len(uuids)


async def test_over_ssh_a_permission_decided_while_the_host_is_away_is_answered_once(
    make_sshd, ssh_login, tmp_path
):
    server = make_sshd()
    asked = list[str]()
    async with (
        ModelServer().serve() as api,
        FaultProxy(server.host, server.port) as proxy,
        make_host(
            ssh_config(ssh_login(server=server, port=proxy.port)), taskdir=str(tmp_path / "task")
        ) as host,
    ):
        with anyio.fail_after(60):
            await host.setup_workdir()
            async with journaled(host, tmp_path, api) as talk:

                def decide(request):
                    asked.append(request.id)
                    proxy.refuse()
                    proxy.cut()
                    asyncio.get_running_loop().call_later(3, proxy.accept)
                    return PermissionDecision("allow")

                talk.conversation.on_permission_request(decide)
                result = await talk.conversation.ask(scripted(TOUCH, {"text": "touched"}))
                assert result.text == "touched"
                assert not talk.conversation.open_requests
    assert len(asked) == 1


async def test_its_work_directory_is_made_where_it_is_missing_and_else_left_alone(
    tmp_path: Path,
) -> None:
    with anyio.fail_after(BOUND):
        async with (
            ModelServer().serve() as api,
            make_host(taskdir=str(tmp_path / "new")) as host,
        ):
            for text in "first", "second":
                async with journaled(host, tmp_path, api) as talk:
                    assert (await talk.conversation.ask(scripted({"text": text}))).text == text
                    assert (talk.work / "kept").exists() == (text == "second")
                    (talk.work / "kept").touch()
