"""The command over a real sshd: links that break, journals that are lost, keys nobody knows."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.cli.verbs import sessions as verbs
from optio_agents.hosts.files.atomic import safe_name
from optio_agents.hosts.ssh.config import SSHConfig
from optio_agents.testing.proxy import FaultProxy
from tests.support.hosts.sshd import SshLogin, SshServer
from tests.support.terminal import Desk, Terminal
from tests.support.timeouts import BOUND


@pytest.fixture
def box(desk: Desk, ssh_login: Callable[..., SshLogin]) -> Desk:
    """A desk from which `box` can be reached; its scripted agent is there, too."""
    login = ssh_login()
    desk.knows("box", login)
    return desk


def agent(desk: Desk, *steps: str) -> list[str]:
    """A command line that runs the scripted agent of this desk, from anywhere."""
    return [str(desk.home / "bin" / "agent"), *steps]


@asynccontextmanager
async def linked(desk: Desk, login: SshLogin) -> AsyncIterator[tuple[FaultProxy, Terminal]]:
    """A terminal from which `box` is reached over a link that can break."""
    async with FaultProxy(login.host, login.port) as proxy, desk.terminal(100) as terminal:
        desk.knows("box", login.at(proxy.port))
        yield proxy, terminal


async def sessions(desk: Desk, *flags: str) -> dict[str, dict[str, Any]]:
    ran = await desk.runs("ls", "--json", *flags)
    assert ran.returncode == 0, ran.stderr
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    return {one["session"]: one for one in found}


def test_doctor_finds_a_host_in_order(box: Desk) -> None:
    config = box.home / ".ssh" / "config"
    config.write_text(config.read_text() + "Host *\n  ForwardAgent yes\n")
    ran = box.run("doctor", "--host", "box")
    assert ran.returncode == 0, ran.stdout
    assert re.search(r"^ok +box answers, and its host key is known$", ran.stdout, re.MULTILINE)
    assert re.search(r"^ok +all tools are there$", ran.stdout, re.MULTILINE)
    assert re.search(r"^note +.*config:8: ForwardAgent is ignored$", ran.stdout, re.MULTILINE)


def test_an_unknown_host_key_is_shown_with_the_way_to_accept_it(box: Desk) -> None:
    config = box.home / ".ssh" / "config"
    mine = f"UserKnownHostsFile {box.home}/known_hosts"
    config.write_text(re.sub("UserKnownHostsFile .*", mine, config.read_text()))
    ran = box.run("run", "--host", "box", "--", "true")
    assert ran.returncode == 4
    assert "SHA256:" in ran.stderr
    assert "--host-key accept-new" in ran.stderr
    assert ran.stderr.count("\n") == 1
    doctor = box.run("doctor", "--host", "box")
    assert doctor.returncode == 4
    assert "SHA256:" in doctor.stdout
    accepted = box.run("doctor", "--host", "box", "--host-key", "accept-new")
    assert accepted.returncode == 0
    assert box.run("doctor", "--host", "box").returncode == 0  # from now on it is known


def test_a_host_that_is_not_there_is_unreachable(desk: Desk) -> None:
    for words in ("run", "x"), ("demo",), ("ls",):
        ran = desk.run(words[0], "--host", "me@127.0.0.1:1", *words[1:])
        assert ran.returncode == 4
        assert ran.stderr.startswith("optio-agents: nothing listens at me@127.0.0.1:1")
        assert (ran.stdout, ran.stderr.count("\n")) == ("", 1)


async def test_ctrl_c_gives_up_a_host_that_does_not_answer(desk: Desk) -> None:
    async def silent(client: anyio.abc.SocketStream) -> None:
        async with client:
            await anyio.sleep_forever()

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
        desk.terminal() as terminal,
    ):
        tasks.start_soon(listener.serve, silent)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        line = f'clear; optio-agents run --host 127.0.0.1:{port} -- true; echo "exit $?"'
        await terminal.type(line)
        await terminal.until(r"0:0\d starting")
        await terminal.key("C-c")
        await terminal.ends(130)
        tasks.cancel_scope.cancel()


async def test_ctrl_c_reaches_the_agent_over_the_connection_that_is_there(
    desk: Desk, make_sshd: Callable[..., SshServer], ssh_login: Callable[..., SshLogin]
) -> None:
    server = make_sshd()
    desk.knows("box", ssh_login(server=server))
    steps = agent(desk, "run trap 'echo DONE: interrupted >>$OPTIO_LOG' INT", "STATUS: up", "hear")
    async with desk.terminal(100) as terminal:
        await terminal.type(
            f'clear; optio-agents run --host box -- {_quoted(steps)}; echo "exit $?"'
        )
        await terminal.until("status +up")
        logins = server.log.count("Accepted publickey")
        await terminal.key("C-c")
        await terminal.until("done +interrupted")
        assert server.log.count("Accepted publickey") == logins > 0
        await terminal.ends(0)


def test_a_relative_directory_starts_at_home_on_the_host(
    box: Desk, ssh_login: Callable[..., SshLogin]
) -> None:
    project = ssh_login().account.home / box.home.parent.name
    project.mkdir()
    steps = ("run pwd >here", "DONE")
    ran = box.run("run", "--host", "box", "--cwd", project.name, "--", *agent(box, *steps))
    assert ran.returncode == 0, ran.stderr
    assert (project / "here").read_text() == f"{project}\n"


def test_the_demo_runs_on_a_host(box: Desk) -> None:
    ran = box.run("demo", "--host", "box", "--save", "kept")
    assert ran.returncode == 0, ran.stderr
    assert {path.name for path in (box.home / "kept").iterdir()} == {
        *("poem.md", "poem-2.md", "silence.wav")
    }


ODD_NAMES = r"""
cd "$OPTIO_DELIVERABLES"
printf one >"$(printf 'caf\351 [1].txt')"
printf two >'ends in blanks  '
printf three >plain.txt
printf four >"$(printf '%0255d' 4)"
printf a >"$(printf 'two\351')"
printf b >"$(printf 'two\350')"
cd -
printf 'DELIVERABLE: deliverables/%s\n' "$(printf 'caf\351 [1].txt')" 'ends in blanks  ' \
    'plain.txt ' "$(printf '%0255d' 4) " "$(printf 'two\351')" 'none ' >>"$OPTIO_LOG"
printf 'DONE\n' >>"$OPTIO_LOG"
"""


@pytest.mark.parametrize("where", [(), ("--host", "box")], ids=["here", "ssh"])
def test_a_deliverable_of_any_name_is_handed_over(box: Desk, where: tuple[str, ...]) -> None:
    ran = box.run("run", *where, "--save", "kept", "--json", "--", "sh", "-c", ODD_NAMES)
    assert ran.returncode == 0, ran.stderr
    kept = {path.name: path.read_text() for path in (box.home / "kept").iterdir()}
    longest = f"{4:0255}"
    assert kept == {
        "caf%E9 [1].txt": "one",
        "ends in blanks  ": "two",
        "plain.txt": "three",
        safe_name(longest): "four",
    }
    end = json.loads(ran.stdout.splitlines()[-1])
    sizes = {one["path"]: one["size"] for one in end["deliverables"]}
    assert sizes == {
        "caf%E9 [1].txt": 3,
        "ends in blanks  ": 3,
        "plain.txt": 5,
        longest: 4,
        "two\ufffd": None,  # which of the two, nobody knows
        "none": None,
    }
    fetched = box.run("fetch", end["session"], "--to", "fetched")
    assert "two" in fetched.stderr
    assert {path.name for path in (box.home / "fetched").iterdir()} == kept.keys()


async def test_a_cut_link_loses_nothing_and_is_shown(
    desk: Desk, ssh_login: Callable[..., SshLogin]
) -> None:
    async with linked(desk, ssh_login()) as (proxy, terminal):
        steps = agent(desk, "STATUS: 10% first", desk.hold("go"), "STATUS: 90% last", "DONE: all")
        script = desk.program("start", 'optio-agents run --host box --title t -- "$@"\n')
        await terminal.type(f'clear; {script.name} {_quoted(steps)}; echo "exit $?"')
        await terminal.until("status +10% first")
        proxy.refuse()
        proxy.cut()
        await terminal.until(r"^t .*down")
        desk.release("go")
        proxy.accept()
        seen = await terminal.ends(0)
    assert seen.count("90% last") == 1
    assert seen.count("10% first") == 1


async def test_leaving_over_a_link_that_hangs_says_that_it_takes_a_moment(
    desk: Desk, ssh_login: Callable[..., SshLogin]
) -> None:
    async with linked(desk, ssh_login()) as (proxy, terminal):
        steps = agent(desk, "STATUS: 10% first", desk.hold("go"), "DONE: all")
        await terminal.type(
            f'clear; optio-agents run --name t --host box -- {_quoted(steps)}; echo "exit $?"'
        )
        await terminal.until("status +10% first")
        proxy.stall()
        await terminal.key("q")
        await terminal.until("^leaving; this takes a moment$")
        proxy.flow()
        await terminal.ends(6)
        desk.release("go")
        assert (await desk.runs("attach", "t")).returncode == 0


async def test_a_host_that_lets_one_wait_is_named_and_a_copy_says_how_far_it_is(
    desk: Desk, ssh_login: Callable[..., SshLogin]
) -> None:
    async with linked(desk, ssh_login()) as (proxy, terminal):
        steps = agent(desk, "STATUS: 10% first", desk.hold("go"), "DONE: all")
        ran = await desk.runs("run", "--detach", "--name", "t", "--host", "box", "--", *steps)
        assert ran.returncode == 0, ran.stderr
        (desk.home / "big").write_bytes(bytes(16 << 20))
        proxy.stall()
        await terminal.type("clear; optio-agents put t big")
        await terminal.until("^waiting for its host …$")
        proxy.on_bytes(4 << 20, source="client", then=partial(proxy.stall, "client"))
        proxy.flow()
        await terminal.until(r"^sending big: \d+\.\d MiB of 16\.0 MiB$")
        proxy.flow()
        await terminal.until(r"/uploads/big$")
        proxy.stall()
        await terminal.type('clear; optio-agents attach t; echo "exit $?"')
        await terminal.until(r"^waiting for \S+ …$")
        proxy.flow()
        desk.release("go")
        await terminal.ends(0)


async def test_a_lost_host_can_be_left_and_is_found_again_without_the_journal(
    desk: Desk, ssh_login: Callable[..., SshLogin]
) -> None:
    login = ssh_login()
    async with linked(desk, login) as (proxy, terminal):
        steps = agent(desk, "STATUS: 10% first", desk.hold("go"), "write a.txt hello")
        more = ["DELIVERABLE: deliverables/a.txt", "hear", "DONE: all"]
        await terminal.type(
            f'clear; optio-agents run --host box -- {_quoted([*steps, *more])}; echo "exit $?"'
        )
        await terminal.until("status +10% first")
        proxy.refuse()
        proxy.cut()
        await terminal.key("C-c")
        await terminal.until("Ctrl-C again")
        await terminal.key("C-c")
        seen = await terminal.ends(6)
        found = re.search(r"optio-agents attach (\w+)", seen)
        assert found
        proxy.accept()
        shutil.rmtree(desk.home / ".local/state/optio-agents")
        assert await sessions(desk) == {}
        on_host = await sessions(desk, "--host", "box")
        assert on_host[found[1]]["state"] == "running"
        desk.release("go")
        other = login.account.home / ".local/state/optio-agents/tasks" / f"{found[1]}-2"
        (other / "session").mkdir(parents=True)
        (other / "session/meta").touch()
        refused = await desk.runs("attach", f"box:{found[1]}")
        assert refused.returncode == 2  # its owner could not say good-bye, less than a minute ago
        assert "--take-over" in refused.stderr
        shutil.rmtree(other)
        where = f"box:{found[1][:6]}"
        ran = await desk.runs("attach", where, "--take-over", "--save", "kept", "--json")
        assert ran.returncode == 0, ran.stderr
        told = [json.loads(line) for line in ran.stdout.splitlines()]
        assert [one["text"] for one in told if one["kind"] == "status"] == ["first"]
        assert (desk.home / "kept" / "a.txt").read_text() == "hello\n"
        assert (await sessions(desk))[found[1]]["outcome"] == "done"
        missing = await desk.runs("attach", "box:ffffffffff")
        assert missing.returncode == 2
        pruned = await desk.runs("prune", "--older-than", "0s", "--yes")
        assert pruned.stdout == f"{found[1]} removed\n"
        assert found[1] not in await sessions(desk, "--host", "box")


async def test_a_host_that_stays_away_is_given_up_and_its_agent_goes_on(
    desk: Desk, ssh_login: Callable[..., SshLogin]
) -> None:
    login = ssh_login()
    async with FaultProxy(login.host, login.port) as proxy:
        desk.knows("box", login.at(proxy.port))
        steps = agent(desk, "STATUS: 10% first", desk.hold("go"), "DONE: all")
        argv = ["optio-agents", "run", "--host", "box", "--lost-after", "0.5", "--", *steps]
        async with await anyio.open_process(argv, env=desk.env, cwd=desk.home) as running:
            assert running.stdout
            assert running.stderr
            with anyio.fail_after(BOUND):
                said = b""
                while b"first" not in said:
                    said += await running.stdout.receive()
                proxy.refuse()
                proxy.cut()
                told = b"".join([chunk async for chunk in running.stderr])
                assert await running.wait() == 4
        assert b"Traceback" not in told
        session = re.search(r"began (\w+)", said.decode())
        assert session
        assert f"once it is back: optio-agents attach {session[1]}" in told.decode()
        assert (await sessions(desk))[session[1]]["outcome"] == "unreachable"
        proxy.accept()
        desk.release("go")
        assert (await desk.runs("attach", session[1])).returncode == 0


async def test_a_log_on_a_host_is_watched_over_a_link_that_breaks(
    desk: Desk, ssh_login: Callable[..., SshLogin], tmp_path: Path
) -> None:
    login = ssh_login()
    log = login.account.make_dir() / "optio.log"
    async with FaultProxy(login.host, login.port) as proxy:
        desk.knows("box", login.at(proxy.port))
        argv = ["optio-agents", "watch", f"box:{log}", "--json", "--exec", "cat >>told"]
        async with await anyio.open_process(argv, env=desk.env, cwd=desk.home) as watching:
            assert watching.stdout
            log.write_text("STATUS: 1% first\n")
            with anyio.fail_after(BOUND):
                first = await watching.stdout.receive()
                proxy.cut()
                with log.open("a") as file:
                    file.write("STATUS: 2% second\nERROR: it broke\n")
                rest = b"".join([chunk async for chunk in watching.stdout])
                assert await watching.wait() == 1
    told = [json.loads(line) for line in (first + rest).splitlines()]
    assert [one["kind"] for one in told] == ["status", "status", "error"]
    assert (desk.home / "told").read_text().encode() == first + rest


async def test_hosts_are_asked_at_once_and_one_that_is_away_hides_none(box: Desk) -> None:
    async def poisoned(client: anyio.abc.SocketStream) -> None:
        async with client:
            await client.send(b"SSH-2.0-no\r\n" + bytes(range(256)) * 40)

    steps = agent(box, "STATUS: 40% far", "hear")
    run = ("run", "--detach", "--name", "far", "--host", "box", "--", *steps)
    assert (await box.runs(*run)).returncode == 0
    assert (await box.runs("run", "--", "agent", "DONE: here")).returncode == 0
    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, poisoned)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        asked = await box.runs("ls", "--host", "--host", f"127.0.0.1:{port}", "--json")
        tasks.cancel_scope.cancel()
    found = [json.loads(line) for line in asked.stdout.splitlines()]
    (far,) = [one for one in found if one.get("name") == "far"]
    (here,) = [one for one in found if one["host"] == "local"]
    assert (asked.returncode, asked.stderr.count("\n")) == (4, 1)
    assert f"127.0.0.1:{port}" in asked.stderr
    assert (far["state"], far["over"]) == ("running", False)
    assert (far["percent"], far["last"]) == (40, "40% far")  # which nobody has read but its host
    assert (here["state"], here["over"]) == ("exited", True)
    shown = await box.runs("ls", "--host", "--running")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert re.search(r"^far +unattended, .*: working ", shown.stdout, re.MULTILINE)
    assert here["session"] not in shown.stdout
    assert (await box.runs("stop", "far")).returncode == 0


async def test_a_host_that_never_answers_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verbs, "_ASKING", 0.2)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    async def silent(client: anyio.abc.SocketStream) -> None:
        async with client:
            await anyio.sleep_forever()

    with anyio.fail_after(BOUND):
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listener.serve, silent)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            host = SSHConfig("127.0.0.1", port=port, config=None, agent_path=None)
            assert await verbs._ask_hosts({"x": host}, every=False) == ([], 4)  # noqa: SLF001
            tasks.cancel_scope.cancel()
    assert "did not answer within 0.2 s" in capsys.readouterr().err


def _quoted(words: list[str]) -> str:
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
