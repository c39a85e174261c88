"""Detached agents: started, spoken to, found again and ended, on every kind of host."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
from contextlib import suppress
from pathlib import Path

import anyio
import pytest

from optio_agents import agents
from optio_agents.agents import Agent, find_sessions
from optio_agents.agents.directory import text_of as script_of
from optio_agents.errors import AgentError, FileRefused, InputClosed, NameTaken, WorkDirRefused
from optio_agents.hosts.host import Host, LocalHost
from tests.support import proc
from tests.support.hosts.agent_ground import (
    LOGINS,
    PLAIN,
    SHELLS,
    beside,
    here,
    machine,
    pid_in,
    ready,
    said,
    ssh_host,
    started,
    tags_in,
    text_of,
    until,
)
from tests.support.leaks import no_process_left

# What the others share with these two: dash is the shell behind "ssh-me", perl is at hand there.
everywhere = pytest.mark.parametrize("host", [*SHELLS, *LOGINS], indirect=True)


@pytest.fixture(params=["ash", "ssh-me"])
async def host(request, tmp_path):
    """Not entered yet. Behind every test nothing may be left that carries a session's tag."""
    if request.param in SHELLS:
        home = Host(machine(request.param, tmp_path), str(tmp_path / "task"))
    else:
        login = request.getfixturevalue("ssh_login")(request.param.removeprefix("ssh-"))
        home = ssh_host(login)
    yield home
    for tag in tags_in(home):
        await no_process_left(tag)


@everywhere
async def test_what_is_said_reaches_the_agent_once_and_in_order(host):
    async with ready(host):
        async with started(host, "cat; exit 7") as agent:
            await agent.say(b"one\n")
            await agent.say(b"two\n")
            assert await agent.say(b"three\n", name="a-name") == "a-name"
            await agent.say(b"three\n", name="a-name")
            with pytest.raises(NameTaken):
                await agent.say(b"four\n", name="a-name")
            await agent.end_input()
            end = await agent.wait()
            assert (end.exit_code, end.signal, end.how) == (7, None, "exited")
            await agent.end_input()
            await agent.say(b"three\n", name="a-name")
            with pytest.raises(InputClosed):
                await agent.say(b"late\n")
        assert await said(host, agent) == b"one\ntwo\nthree\n"


async def test_first_input_is_there_before_the_agent(host):
    async with ready(host):
        words = [("1", b"first\n"), ("2", b"second\n")]
        async with started(host, "read -r a; read -r b; echo $a $b", first_input=words) as agent:
            await agent.wait()
        assert await said(host, agent) == b"first second\n"


async def test_a_message_of_five_megabytes_with_every_byte(host):
    data = bytes(range(256)) * 20_000
    async with ready(host):
        async with started(host, "cat >copy") as agent:
            await agent.say(data)
            await agent.end_input()
            await agent.wait()
        assert (beside(host) / "task/workdir/copy").read_bytes() == data


@everywhere
async def test_leaving_the_block_stops_the_agent_and_detaching_does_not(host):
    async with ready(host):
        async with started(host, "exec sleep 1000", meta={"kind": "test"}) as agent:
            agent.detach()
        async with agents.adopt(host) as again:
            assert again.process == agent.process
            assert again.session == agent.session
            assert again.meta == {"kind": "test"}
            assert (await again.status()).state == "running"
        assert (await again.status()).state == "exited"


async def test_an_exception_and_a_cancellation_stop_the_agent(host):
    async with ready(host):
        agents = list[Agent]()
        with suppress(ZeroDivisionError):
            async with started(host, "exec sleep 1000") as agent:
                agents.append(agent)
                raise ZeroDivisionError
        with anyio.CancelScope() as scope:
            async with started(host, "exec sleep 1000") as agent:
                agents.append(agent)
                scope.cancel()
                await anyio.sleep_forever()
        for agent in agents:
            assert proc.process_is_gone(agent.process.pid, agent.process.start)


async def test_a_cancellation_while_it_starts_stops_it_too(host):
    async with ready(host):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def cancel() -> None:
                    await until(Path(host.taskdir, "session/pipe").exists)
                    scope.cancel()

                tasks.start_soon(cancel)
                async with started(host, "exec sleep 1000"):
                    await anyio.sleep_forever()
        assert proc.tagged(text_of(host.taskdir, "session/tag").strip()) == []


def ignored_by(status: str) -> int:
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
    for number in signal.SIGPIPE, 32, 33:  # the last two are the C library's, and not ours to set
        ignored &= ~(1 << number - 1)
    return ignored


async def test_a_supervisor_that_ignores_signals_does_not_make_its_agents_deaf(tmp_path):
    """As one does that `nohup` or a shell's `&` has started."""
    ours = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGQUIT)
    }
    try:
        host = LocalHost(str(tmp_path / "task"))
        async with ready(host), started(host, "cat /proc/self/status") as agent:
            await agent.wait()
            assert ignored_by((await said(host, agent)).decode()) == 0
    finally:
        for number, action in ours.items():
            signal.signal(number, action)


@everywhere
async def test_the_agent_finds_only_what_it_should(host, monkeypatch):
    """Its environment, umask, signals, descriptors and directory."""
    monkeypatch.setenv("OF_THE_SUPERVISOR", "unnamed")
    secret = "s3cr3t 'quoted' \\ $(id) \n\"line\""
    look = "env; umask; pwd; grep Sig /proc/self/status; ls /proc/self/fd; kill -STOP $$"
    async with ready(host), started(host, look, env={"API_KEY": secret}) as agent:
        await until(lambda: proc.process(agent.process.pid).state == "T")
        told = (await said(host, agent)).decode()
        assert f"API_KEY={secret}\n" in told
        assert f"OPTIO_LOG={host.workdir}/optio.log\n" in told
        assert f"OPTIO_DELIVERABLES={host.workdir}/deliverables\n" in told
        assert f"OPTIO_SESSION={agent.session}\n" in told
        assert "unnamed" not in told
        mask = os.umask(0o022)
        os.umask(mask)
        assert f"\n{mask:04o}\n{host.workdir}\n" in told.replace("\n022\n", "\n0022\n")
        # Where no python3 is, those that we ignore stay so, but for what Python gives back.
        assert not ignored_by(told) & ~ignored_by(text_of("/proc/self", "status"))
        assert told.split()[-4:-1] == ["0", "1", "2"]  # the last is that of ls itself
        assert not [line for line in _command_lines() if b"s3cr3t" in line]
        for name in "run", "meta", "stdout":
            assert here(agent, name).stat().st_mode & 0o777 == 0o600
        kept = [path for path in here(agent, ".").rglob("*") if path.is_file()]
        assert [path.name for path in kept if b"s3cr3t" in path.read_bytes()] == ["stdout"]
        launcher = int(here(agent, "launcher").read_text().split()[0])
        assert b"s3cr3t" not in b"".join(_open_files(launcher))
        assert here(agent, ".").stat().st_mode & 0o777 == 0o700


async def test_a_login_environment_is_inherited_without_its_credentials(tmp_path):
    host = Host(machine("dash", tmp_path), str(tmp_path / "task"))
    dropped = """ANTHROPIC_API_KEY GITHUB_TOKEN AWS_SECRET_ACCESS_KEY AWS_ACCESS_KEY_ID DB_PASSWORD
        MYSQL_PWD GOOGLE_CREDENTIALS GOOGLE_APPLICATION_CREDENTIALS npm_token CLIENT_SECRET_FILE
        SSH_AUTH_SOCK OPTIO_RUN OPTIO_SESSION BASH_FUNC_x%% UID PWD"""
    kept = "LANG EDITOR TOKENIZERS_PARALLELISM KEYBOARD PASSAGE IFS HOME"
    host.machine.login = {**PLAIN, **dict.fromkeys(f"{dropped} {kept}".split(), "value")}
    async with ready(host):
        env = {"GITHUB_TOKEN": "named", "EDITOR": "mine"}
        async with agents.start(host, ["env"], env=env) as agent:
            await agent.wait()
            told = (await said(host, agent)).decode().splitlines()
    assert {f"{name}=value" for name in kept.split() if name != "EDITOR"} <= set(told)
    assert {"EDITOR=mine", "GITHUB_TOKEN=named", f"OPTIO_SESSION={agent.session}"} <= set(told)
    names = {line.partition("=")[0] for line in told}
    assert names & set(dropped.split()) <= {"GITHUB_TOKEN", "OPTIO_SESSION", "PWD"}
    assert "PWD=value" not in told


async def test_what_no_shell_can_export_is_refused(tmp_path):
    host = Host(machine("dash", tmp_path), str(tmp_path / "task"))
    async with ready(host):
        for env in {"a.b": "x"}, {"UID": "0"}, {"": "x"}, {"NUL": "a\0b"}:
            with pytest.raises(ValueError, match="cannot"):
                async with agents.start(host, ["true"], env=env):
                    pass


@everywhere
async def test_interrupting_the_group_ends_neither_launcher_nor_input(host):
    command = 'trap "echo caught" INT TERM; echo ready; while :; do read -r x && echo $x; done'
    async with ready(host), started(host, command) as agent:
        await until(lambda: here(agent, "stdout").read_bytes() == b"ready\n")
        for name, heard in ("INT", b"ready\ncaught\n"), ("TERM", b"ready\ncaught\non\ncaught\n"):
            await agent.signal(name)
            await until(lambda heard=heard: here(agent, "stdout").read_bytes() == heard)
            await agent.say(b"on\n")
            await until(lambda heard=heard: here(agent, "stdout").read_bytes() == heard + b"on\n")
        assert (await agent.status()).state == "running"
        await agent.stop(grace=0.1)


async def test_an_agent_with_default_signals_dies_of_an_interrupt(host):
    async with ready(host), started(host, "sleep 1000; echo survived") as agent:
        await until(lambda: any(p.name == "sleep" for p in proc.tagged(agent.session)))
        await agent.signal("INT")
        end = await agent.wait()
        assert (end.exit_code, end.signal) == (130, "INT")
        with pytest.raises(InputClosed):
            await agent.signal("INT")


@pytest.mark.parametrize("name", ["KILL", "TERM"])
async def test_the_signal_that_ended_an_agent_is_known(host, name):
    async with ready(host), started(host, "exec sleep 1000") as agent:
        os.kill(agent.process.pid, signal.Signals[f"SIG{name}"])
        end = await agent.wait()
        assert (end.signal, end.how) == (name, "exited")


async def test_a_command_that_does_not_exist_says_so(host):
    async with ready(host):
        argv = ["/no/such/agent"]
        async with agents.start(host, argv, env=PLAIN, env_base="empty") as agent:
            assert (await agent.wait()).exit_code == 127
            assert "/no/such/agent" in await agent.last_stderr()


async def test_a_missing_directory_is_refused_before_anything_starts(host):
    async with ready(host):
        with pytest.raises(FileRefused):
            async with started(host, "true", cwd="nowhere"):
                pass


async def test_status_tells_sizes_space_and_silence(host):
    async with ready(host), started(host, "printf 12345; printf 678 >&2; read -r x") as agent:
        await until(lambda: here(agent, "stderr").stat().st_size)
        status = await agent.status()
        assert (status.stdout_size, status.stderr_size) == (5, 3)
        assert status.free_bytes > 0
        assert status.quiet_for < 5
        for name in "stdout", "stderr":
            os.utime(here(agent, name), (0, 0))
        os.utime(host.workdir, (0, 0))
        assert (await agent.status()).quiet_for > 1e6
        deliverables = beside(host) / "task/workdir/deliverables"
        deliverables.mkdir()
        (deliverables / "new").touch()
        assert (await agent.status()).quiet_for < 5


@everywhere
async def test_one_answer_wins_and_the_loser_is_told(host):
    async with ready(host):
        async with started(host, "cat") as agent:
            one = await agent.answer("req/../1", b"yes\n", by="first")
            two = await agent.answer("req/../1", b"no\n", by="second")
            assert (one.won, two.won) == (True, False)
            assert (two.by, two.data) == ("first", b"yes\n")
            assert (await agent.answer("req/../1", b"yes\n", by="first")).won
            await agent.answer("other", b"more\n", by="second")
            await agent.end_input()
            await agent.wait()
        # two that wait are fed in the order of their names, which is nobody's
        assert sorted((await said(host, agent)).split()) == [b"more", b"yes"]


async def test_who_has_answered_is_known_however_long_the_answer(host):
    async with ready(host), started(host, "cat >/dev/null") as agent:
        assert await agent.find_answer("req/../1") is None
        await agent.answer("req/../1", b"y" * 1_000_000 + b"\n", by="first")
        given = await agent.find_answer("req/../1")
        assert (given.by, set(given.data)) == ("first", {ord("y")})
        await agent.end_input()
        await agent.wait()


async def test_a_reason_is_kept_with_the_answer_that_won(host):
    async with ready(host):
        async with started(host, "cat") as agent:
            assert await agent.reasons() == {}
            await agent.answer("a", b"1\n", by="me")
            won = await agent.answer("b", b"2\n", by="first", reason="no:\n{not} ü")
            lost = await agent.answer("b", b"2\n", by="second", reason="another")
            assert (won.won, lost.won, lost.by, lost.data) == (True, False, "first", b"2\n")
            (found,) = (await agent.reasons()).items()
            assert (found[0], found[1].by, found[1].reason) == ("b", "first", "no:\n{not} ü")
            await agent.end_input()
            await agent.wait()
        assert sorted((await said(host, agent)).split()) == [b"1", b"2"]


async def test_an_answer_whose_winner_died_is_said_by_the_next(host):
    async with ready(host):
        async with started(host, "cat") as agent:
            here(agent, "answers/r1").write_bytes(b'4 "dead"\nyes\n')
            lost = await agent.answer("r1", b"no\n", by="second")
            assert (lost.won, lost.by, lost.data) == (False, "dead", b"yes\n")
            await agent.end_input()
            await agent.wait()
        assert await said(host, agent) == b"yes\n"


async def test_twenty_senders_are_all_heard_once(host):
    async with ready(host):
        async with started(host, "cat") as agent:
            async with anyio.create_task_group() as tasks:
                for n in range(20):
                    tasks.start_soon(_speak, agent, n)
            await agent.end_input()
            await agent.wait()
        lines = (await said(host, agent)).splitlines()
        assert sorted(lines) == sorted(b"%d" % n for n in range(20))


async def _speak(agent: Agent, n: int) -> None:
    name = await agent.say(b"%d\n" % n)
    await agent.say(b"%d\n" % n, name=name)


# What may go wrong, one by one.


async def test_half_a_message_is_never_fed(host):
    async with ready(host):
        async with started(host, "cat") as agent:
            answer = await _say_raw(host, agent, "half", length=10, data=b"only")
            assert (answer.exit_code, answer.stderr[:4]) == (64, b"cut ")
            assert list(here(agent, "in").iterdir()) == []
            await agent.say(b"whole\n")
            await agent.end_input()
            await agent.wait()
        assert await said(host, agent) == b"whole\n"


async def test_the_ghost_of_a_message_that_was_fed_changes_nothing(host):
    async with ready(host):
        async with started(host, "cat") as agent:
            await agent.say(b"one\n", name="n1")
            await until(here(agent, "said/n1").exists)
            # As if its link had stood before the feeder's look, and ours came behind it.
            await until(lambda: not here(agent, "in/n1").exists())
            here(agent, "in/n1").write_bytes(b"one\n")
            await agent.say(b"two\n", name="n2")
            await agent.end_input()
            await agent.wait()
        assert await said(host, agent) == b"one\ntwo\n"


async def _say_raw(host, agent, name, *, length, data):
    args = agent.directory, agent.session, name, str(length), "nonce"
    return await host.machine.ask(script_of("say"), args, data=data)


async def test_a_killed_feeder_is_the_end_of_the_input(host):
    async with ready(host), started(host, "cat; exit 3") as agent:
        feeder = [p for p in proc.tagged(agent.session) if _reads_the_bell(p.pid)]
        proc.kill(*feeder)
        assert (await agent.wait()).exit_code == 3


def _reads_the_bell(pid: int) -> bool:
    return any(
        path.is_symlink() and str(path.readlink()).endswith("/bell")
        for path in Path(f"/proc/{pid}/fd").iterdir()
    )


async def test_a_launcher_takes_signals_and_lives_on(host):
    async with ready(host):
        async with started(host, "cat") as agent:
            launcher = proc.process(pid_in(agent, "launcher"))
            for number in signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
                launcher.send(number)
            await agent.say(b"on\n")
            await agent.end_input()
            assert (await agent.wait()).exit_code == 0
        assert await said(host, agent) == b"on\n"


@everywhere
async def test_a_killed_launcher_leaves_an_agent_that_is_still_fed(host):
    async with ready(host), started(host, "cat") as agent:
        proc.kill(proc.process(pid_in(agent, "launcher")))
        assert (await agent.status()).state == "running-without-launcher"
        await agent.say(b"on\n")
        await agent.end_input()
        end = await agent.wait()
        assert (end.how, end.exit_code) == ("lost", None)
        assert await said(host, agent) == b"on\n"


async def test_a_pid_that_was_reused_is_not_our_agent(host):
    """Neither told to be alive nor stopped: nor are the children of what has its pid now."""
    async with ready(host), await anyio.open_process(["sleep", "1000"]) as bystander:
        async with started(host, "read -r x") as agent:
            await agent.end_input()
            await agent.wait()
            here(agent, "exit").unlink()
            for boot, how in (agent.process.boot, "lost"), ("a-0", "rebooted"):
                for name in "pid", "launcher":
                    here(agent, name).write_text(f"{os.getpid()} 1 {boot}\n")
                async with agents.adopt(host) as again:
                    again.process = None  # for whoever remembers nothing of its start
                    assert (await again.wait()).how == how
                    assert (await again.stop()).empty
        assert bystander.returncode is None
        bystander.kill()


async def test_a_zombie_has_ended(host):
    async with ready(host), started(host, "exec sleep 1000") as agent:
        launcher = proc.process(pid_in(agent, "launcher"))
        launcher.send(signal.SIGSTOP)
        await until(lambda: launcher.stopped)
        proc.process(agent.process.pid).send(signal.SIGKILL)
        await until(lambda: proc.process(agent.process.pid).state == "Z")
        assert (await agent.status()).state == "lost"
        launcher.send(signal.SIGCONT)
        await until(here(agent, "exit").exists)
        assert (await agent.wait()).exit_code == 137


async def test_an_exit_file_counts_only_when_the_process_is_gone(host):
    async with ready(host), started(host, "exec sleep 1000") as agent:
        here(agent, "exit").write_text("0\n")
        assert (await agent.status()).state == "running"


async def test_a_process_that_names_itself_with_a_newline_is_still_there(host):
    async with ready(host):
        code = "printf 'a\\n) Z 1' >/proc/$$/comm; read -r x"
        async with started(host, code) as agent:
            await until(lambda: b"\n" in Path(f"/proc/{agent.process.pid}/comm").read_bytes()[:-1])
            assert (await agent.status()).state == "running"


async def test_a_second_start_is_refused_while_the_first_one_works(host):
    async with ready(host), started(host, "exec sleep 1000") as agent:
        with pytest.raises(WorkDirRefused, match=agent.session):
            async with started(host, "true"):
                pass
        assert (await agent.status()).state == "running"


async def test_two_launchers_in_one_directory_start_one_agent(host):
    async with ready(host), started(host, "echo started; exec sleep 1000") as agent:
        from optio_agents.agents.directory import Directory
        from optio_agents.agents.launch import StartPlan, launch

        plan = StartPlan(agent.session, ["x"], "/", {}, {}, None)
        directory = Directory(host.machine, agent.directory)
        assert await launch(directory, plan) is None
        await until(lambda: here(agent, "stdout").stat().st_size)
        assert await said(host, agent) == b"started\n"


async def test_a_new_agent_in_the_directory_of_an_ended_one_puts_it_aside(host):
    async with ready(host):
        async with started(host, "echo old") as old:
            await old.wait()
        async with started(host, "echo new") as new:
            await new.wait()
            assert await said(host, new) == b"new\n"
        assert text_of(f"{old.directory}.{old.session}/stdout") == "old\n"


async def test_a_session_directory_behind_a_link_is_refused(host):
    async with ready(host):
        elsewhere = beside(host) / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        (beside(host) / "task/session").symlink_to(elsewhere)
        with pytest.raises(WorkDirRefused, match="link"):
            async with started(host, "true"):
                pass
        assert list(elsewhere.iterdir()) == []


async def test_a_task_directory_that_others_may_write_to_is_refused(host):
    async with ready(host):
        (beside(host) / "task").chmod(0o770)
        with pytest.raises(WorkDirRefused, match="chmod 700"):
            async with started(host, "true"):
                pass


async def test_an_agent_that_removes_its_own_session_is_stopped_all_the_same(host):
    async with ready(host):
        command = f"setsid sleep 1000 & rm -rf {host.taskdir}/session; exec sleep 1000"
        async with started(host, command) as agent:
            await until(lambda: not here(agent, "").exists())
            assert proc.tagged(agent.session)
            with pytest.raises(FileRefused):
                await agent.status()
            with pytest.raises(WorkDirRefused, match="still lives"):
                await host.setup_workdir()
        await no_process_left(agent.session)


async def test_a_damaged_session_is_an_error_of_the_agent(host):
    async with ready(host), started(host, "exec sleep 1000") as agent:
        here(agent, "pid").write_text("nonsense\n")
        with pytest.raises(AgentError, match="damaged"):
            await agent.status()


async def test_sessions_are_found_without_a_journal(host):
    meta = {"n": 1}
    async with ready(host), started(host, "exec sleep 1000", name="found", meta=meta) as agent:
        damaged = beside(host) / "damaged" / "session"
        damaged.mkdir(parents=True)
        (damaged / "meta").write_text("{\n---")
        (damaged / "tag").write_text("its-tag\n")
        (beside(host) / "other").mkdir()
        lost, *found = await find_sessions(host, str(beside(host)))
        assert [(each.session, each.state) for each in found] == [(agent.session, "running")]
        assert (lost.session, lost.state, lost.meta) == ("its-tag", "never-started", {})
        assert found[0].directory == agent.directory
        assert found[0].meta["meta"] == {"n": 1}
        assert json.loads(here(agent, "meta").read_text())["session"] == agent.session
        other = Host(host.machine, str(Path(found[0].directory).parent))
        async with agents.adopt(other, session_dir=found[0].directory) as again:
            assert again.process == agent.process
            again.detach()


def _open_files(pid: int):
    for found in Path(f"/proc/{pid}/fd").iterdir():
        if stat.S_ISREG(found.stat().st_mode):
            yield found.read_bytes()


def _command_lines() -> list[bytes]:
    return [_read(path) for path in Path("/proc").glob("[0-9]*/cmdline")]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_every_name_in_a_session_directory_is_explained(tmp_path):
    async with ready(host := LocalHost(str(tmp_path / "task"))):
        async with started(host, "cat; exit 3", journal_limit=1 << 20) as agent:
            await agent.say(b"one\n")
            await agent.answer("request", b"yes\n", by="me")
            async with agent.own("me", journal="j"):
                await agent.end_input()
                await agent.wait()
        listed = await host.ask('ls "$1"', agent.directory)
    found, words = set(listed.stdout.decode().split()), set(re.split(r"[/,:\s]+", agents.__doc__))
    assert found > {"meta", "tag", "exit", "said"}
    assert not found - words
