"""One contract for every machine: here, and over a real sshd into every login shell."""
# ruff: noqa: ASYNC240  # looking at /proc does not block

from __future__ import annotations

import asyncio
import os
import re
import resource
import secrets
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from signal import SIGKILL, SIGSTOP
from typing import Any

import anyio
import pytest

from optio_agents.errors import CommandTimedOut, HostError
from optio_agents.hosts.local import LocalMachine
from optio_agents.hosts.machine import Machine, Process
from optio_agents.hosts.scripting import LOADER, payload, script
from optio_agents.hosts.ssh import SshMachine
from optio_agents.hosts.streams import UNREAD
from tests.support.hosts.accounts import SHELLS
from tests.support.hosts.hosts import KINDS, USUAL, ssh_config
from tests.support.hosts.sshd import SshLogin, SshServer
from tests.support.leaks import no_leaks
from tests.support.proc import (
    Process as Found,
    process as look_up,
    processes,
    running,
    tagged,
    wait_until,
)
from tests.support.timeouts import BOUND

Enter = Callable[[], Any]

# Every byte but NUL that an argument can hold, and what shells trip over.
NASTY = [
    "",
    " ",
    "two words",
    "it's",
    'say "hi"',
    "back\\slash\\",
    "$HOME `id` $(id)",
    "new\nline\n",
    "*?[]{}~",
    "!history!!",
    "-n",
    "#end",
    "\x01\x7f\t\r\x1b[0m",
    "žluťoučký 🐎",
    bytes(range(1, 256)).decode("utf-8", "surrogateescape"),
]


@asynccontextmanager
async def within(machine: Machine, seconds: float = BOUND) -> AsyncIterator[Machine]:
    with anyio.fail_after(seconds):
        try:
            yield machine
        finally:
            await machine.close()


@pytest.fixture(params=KINDS)
def enter(request: pytest.FixtureRequest) -> Enter:
    """Every kind of machine: a factory of what the test enters."""
    return _factory(request, request.param)


@pytest.fixture(params=USUAL)
def enter_usual(request: pytest.FixtureRequest) -> Enter:
    """One of each where the login shell makes no difference."""
    return _factory(request, request.param)


def _factory(request: pytest.FixtureRequest, kind: str) -> Enter:
    if kind == "local":
        return lambda: within(LocalMachine())
    login: SshLogin = request.getfixturevalue("ssh_login")(kind)
    return lambda: within(SshMachine(ssh_config(login)))


async def all_of(read: Callable[[], Any]) -> bytes:
    said = b""
    while data := await read():
        said += data
    return said


async def line_of(process: Process) -> str:
    said = b""
    while not said.endswith(b"\n"):
        said += (data := await process.read(1)) or b"\n"
        assert data, "it ended"
    return said.decode()[:-1]


# What a script gets


async def test_arguments_and_environment_arrive_byte_for_byte(enter: Enter) -> None:
    async with enter() as machine:
        text = 'printf "%s\\0" "$@"; printf "%s\\0" "$FIRST" "$SECOND"'
        env = {"FIRST": NASTY[-1], "SECOND": "a'b\\c\n$d"}
        async with machine.shell(text, NASTY, env=env) as process:
            said = await all_of(process.read)
            assert await process.wait() == 0
    got = said.decode("utf-8", "surrogateescape").split("\0")
    assert got == [*NASTY, *env.values(), ""]


async def test_its_input_is_whole_and_binary(enter: Enter) -> None:
    data = secrets.token_bytes(300_000) + bytes(range(256))
    async with enter() as machine, machine.shell("cat; exit 3") as process:
        async with anyio.create_task_group() as tasks:

            async def give() -> None:
                await process.write(data)
                await process.close_input()
                await process.close_input()

            tasks.start_soon(give)
            assert await all_of(process.read) == data
        assert await process.wait() == 3
        assert await process.wait() == 3


async def test_a_script_longer_than_a_pipe_holds(enter_usual: Enter) -> None:
    text = "".join(f": {'x' * 90}\n" for _ in range(3000)) + 'read -r line; echo "$line"'
    async with enter_usual() as machine, machine.shell(text) as process:
        await process.write(b"the first line of input\n")
        assert await all_of(process.read) == b"the first line of input\n"


async def test_nothing_of_it_stands_in_a_command_line(enter: Enter) -> None:
    secret = secrets.token_hex(8)
    text = f": {secret}-script; echo ready; read -r line"
    args, env = [f"{secret}-arg"], {"A": f"{secret}-env"}
    async with enter() as machine, machine.shell(text, args, env=env) as process:
        assert await line_of(process) == "ready"
        assert not running(secret)
        await process.close_input()
        await process.wait()


@pytest.mark.parametrize("shell", SHELLS)
async def test_a_talkative_and_slow_profile_does_no_harm(
    shell: str, ssh_login: Callable[..., SshLogin]
) -> None:
    login = ssh_login(shell, noisy=True)
    text = "cat; echo err >&2; exit 4"
    async with within(SshMachine(ssh_config(login))) as machine, machine.shell(text) as process:
        await process.write(b"\0binary\n")
        await process.close_input()
        assert await all_of(process.read) == b"\0binary\n"
        assert await all_of(process.read_error) == b"err\n"
        assert await process.wait() == 4


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_a_payload_cut_short_is_not_run(shell: str, tmp_path: Path) -> None:
    argv = [shell, *(["sh"] if shell == "busybox" else []), "-c", LOADER]
    whole = payload('echo run >"$1"', [str(tmp_path / "witness")])
    for cut in (0, 1, 3, len(whole) // 2, len(whole) - 1):
        subprocess.run(argv, input=whole[:cut], timeout=BOUND, check=False)
    assert list(tmp_path.iterdir()) == []
    subprocess.run(argv, input=whole, timeout=BOUND, check=True)
    assert (tmp_path / "witness").read_text() == "run\n"


def test_a_dd_without_fullblock_is_exact_as_well(tmp_path: Path) -> None:
    (tmp_path / "dd").write_text(
        f'#!/bin/sh\ncase $* in *fullblock*) exit 1 ;; esac\nexec {shutil.which("dd")} "$@"\n'
    )
    (tmp_path / "dd").chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", LOADER],
        input=payload('echo "$1"; cat', ["it's"]) + b"the rest\n",
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        timeout=BOUND,
        check=True,
    )
    assert done.stdout == b"it's\nthe rest\n"


@pytest.mark.parametrize("bad", ["1A", "A-B", "", "A=B", "Ä"])
def test_what_cannot_be_an_environment_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="name of an environment variable"):
        payload("", env={bad: "x"})


@pytest.mark.parametrize("where", [{"text": "a\0"}, {"args": ["a\0"]}, {"env": {"A": "\0"}}])
def test_nul_is_refused(where: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="NUL"):
        payload(**{"text": "", **where})


# What it says


async def test_it_ends_as_it_ended(enter: Enter) -> None:
    ends = {"exit 0": 0, "exit 255": 255, "kill -KILL $$": 137, "kill -TERM $$": 143, "((": 2}
    async with enter() as machine:
        for text, code in ends.items():
            async with machine.shell(text) as process:
                assert await process.wait() == code, text


async def test_one_stream_that_nobody_reads_does_not_hold_up_the_other(enter_usual: Enter) -> None:
    text = f'head -c {UNREAD - 1000} /dev/zero >&"$1"; echo done >&"$2"'
    async with enter_usual() as machine:
        async with machine.shell(text, ["2", "1"]) as process:
            assert await line_of(process) == "done"
            assert len(await all_of(process.read_error)) == UNREAD - 1000
        async with machine.shell(text, ["1", "2"]) as process:
            assert await all_of(process.read_error) == b"done\n"
            assert len(await all_of(process.read)) == UNREAD - 1000
            assert await process.wait() == 0


async def test_a_slow_reader_gets_every_byte(enter_usual: Enter) -> None:
    size = 8 * UNREAD
    text = f"head -c {size} /dev/zero; echo >&2"
    async with enter_usual() as machine, machine.shell(text, bulk=True) as process:
        got = len(await process.read(10))
        await anyio.wait_all_tasks_blocked()
        while data := await process.read():
            got += len(data)
            await anyio.lowlevel.checkpoint()
        assert got == size
        assert await process.wait() == 0


async def test_writing_to_what_has_ended_is_a_broken_pipe(enter_usual: Enter) -> None:
    async with enter_usual() as machine, machine.shell("exit 0") as process:
        await process.wait()
        assert await process.read() == b""
        with pytest.raises(BrokenPipeError):
            await write_on(process)


async def write_on(process: Process) -> None:
    while True:
        await process.write(b"x" * 100_000)


# Leaving

_TREE = """
mine() { IFS= read -r s </proc/$1/stat; set -- "$1" ${s##*) }; echo "$1:${21}"; }
sleep 300 & mine $!
setsid sleep 300 & mine $!
sh -c 'trap "" TERM; echo deaf; while :; do sleep 300; done' | { read -r deaf; cat; } & mine $!
(setsid sh -c 'sleep 300 & sleep 300' </dev/null >/dev/null 2>&1 &)
echo ready; wait
"""


async def tree_of(process: Process) -> list[Found]:
    found = []
    while (line := await line_of(process)) != "ready":
        child = look_up(int(line.partition(":")[0]))
        assert child
        found.append(child)
    return found


@pytest.mark.parametrize("how", ["leaves", "raises", "cancelled"])
async def test_leaving_early_ends_the_whole_tree(enter_usual: Enter, how: str) -> None:
    async with enter_usual() as machine:
        with anyio.CancelScope() as scope:
            try:
                async with machine.shell(_TREE) as process:
                    process.grace = 0.1
                    tree = [*await tree_of(process), look_up(process.pid)]
                    tag = tag_of(tree[0])
                    assert len(tree) == 4
                    await left(how, scope)
            except ArithmeticError:
                assert how == "raises"
        assert [each for each in [*tree, *tagged(tag)] if each and not each.gone] == []


async def left(how: str, scope: anyio.CancelScope) -> None:
    if how == "raises":
        raise ArithmeticError
    if how == "cancelled":
        scope.cancel()
        await anyio.sleep_forever()


def tag_of(child: Found | None) -> str:
    """The run that it belongs to."""
    assert child

    tags = list[str]()

    def found() -> bool:  # in one look: it has none while it is being exec'ed
        environment = Path(f"/proc/{child.pid}/environ").read_bytes()
        tags.extend(re.findall("OPTIO_RUN=([^\0]+)", environment.decode(errors="replace")))
        return bool(tags)

    wait_until(found)
    return tags[0]


async def test_what_was_sent_off_before_a_normal_end_lives_on(enter: Enter) -> None:
    text = "setsid sleep 300 </dev/null >/dev/null 2>&1 & echo $!"
    async with enter() as machine:
        async with machine.shell(text) as process:
            child = look_up(int(await line_of(process)))
            assert child
            assert await all_of(process.read) == b""
            assert await process.wait() == 0
        assert not child.gone
        child.send(SIGKILL)


async def test_one_that_holds_the_output_beyond_the_end_is_ended_with_an_exception(
    enter_usual: Enter,
) -> None:
    async with enter_usual() as machine:
        with anyio.CancelScope() as patience:
            async with machine.shell("setsid sleep 300 & echo $!") as process:
                child = look_up(int(await line_of(process)))
                assert await process.wait() == 0
                patience.deadline = anyio.current_time() + 0.3
                await process.read()
        assert child.gone


async def test_closing_the_machine_ends_its_scripts(enter_usual: Enter) -> None:
    async with enter_usual() as machine:
        async with machine.shell("setsid sleep 300 & echo $!; wait") as process:
            tag = tag_of(look_up(int(await line_of(process))))
            wait_until(lambda: bool(tagged(tag)))  # setsid is about to be sleep
            await machine.close()
            assert tagged(tag) == []
        await machine.close()
        assert machine.link.state == "closed"
        assert (await machine.ask("echo again")).stdout == b"again\n"


# Asking


async def test_an_answer(enter: Enter) -> None:
    async with enter() as machine:
        text = 'printf "%s\\n" "$@"; cat; printf "no end" >&2; exit 9'
        answer = await machine.ask(text, NASTY, data=b"\0\xff\n\ndata")
        said = b"".join(arg.encode("utf-8", "surrogateescape") + b"\n" for arg in NASTY)
        assert (answer.exit_code, answer.stderr) == (9, b"no end")
        assert answer.stdout == said + b"\0\xff\n\ndata"
        assert (await machine.ask("cat")).stdout == b""


async def test_answers_know_nothing_of_each_other(enter: Enter) -> None:
    async with enter() as machine:
        home = await machine.ask("pwd")
        await machine.ask("cd /; PATH=/nowhere; set -e; trap 'echo bye' EXIT; A=1; umask 0")
        assert (await machine.ask("((")).exit_code == 2  # no shell can read that
        assert (await machine.ask("exec false")).exit_code == 1
        assert (await machine.ask("kill -KILL $(exec sh -c 'echo $PPID')")).exit_code == 137
        assert await machine.ask("cat; pwd; umask >&2; echo $#$A >&2", data=b"") != home
        again = await machine.ask("ls -d . >/dev/null; pwd; echo ${A:-none}")
        assert again.stdout == home.stdout + b"none\n"


async def test_input_that_is_not_read_does_not_reach_the_next(enter_usual: Enter) -> None:
    async with enter_usual() as machine:
        assert (await machine.ask("exit 5", data=b"echo no\n" * 60_000)).exit_code == 5
        assert (await machine.ask("echo yes")).stdout == b"yes\n"


async def test_a_million_bytes_are_an_answer_and_more_are_not(enter_usual: Enter) -> None:
    async with enter_usual() as machine:
        answer = await machine.ask("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2")
        assert (len(answer.stdout), len(answer.stderr)) == (1_000_000, 1_000_000)
        with pytest.raises(HostError, match="longer than"):
            await machine.ask("cat /dev/zero")
        assert (await machine.ask("echo yes")).stdout == b"yes\n"


@pytest.mark.parametrize("how", ["time-out", "cancelled"])
async def test_a_question_given_up_ends_what_it_started(enter_usual: Enter, how: str) -> None:
    tag = f"30{secrets.randbelow(10**9)}"
    async with enter_usual() as machine:
        await machine.ask("true")
        if how == "time-out":
            with pytest.raises(CommandTimedOut):
                await machine.ask('setsid sleep "$1" & sleep "$1"', [tag], seconds=0.3)
        else:
            with anyio.move_on_after(0.3):
                await machine.ask('setsid sleep "$1" & sleep "$1"', [tag])
        assert not running(tag)
        assert (await machine.ask("echo yes")).stdout == b"yes\n"


async def test_questions_do_not_wait_for_a_slow_one(enter_usual: Enter) -> None:
    async with enter_usual() as machine, anyio.create_task_group() as tasks:
        tasks.start_soon(machine.ask, "sleep 300")
        await anyio.wait_all_tasks_blocked()
        answers = list[bytes]()

        async def ask(number: int) -> None:
            answers.append((await machine.ask('echo "$1"', [str(number)])).stdout)

        with anyio.fail_after(BOUND):
            async with anyio.create_task_group() as many:
                for number in range(20):
                    many.start_soon(ask, number)
        assert sorted(map(int, answers)) == list(range(20))
        tasks.cancel_scope.cancel()


async def test_a_host_without_an_exact_dd_answers_as_well(
    make_sshd: Callable[..., SshServer], ssh_login: Callable[..., SshLogin], tmp_path: Path
) -> None:
    (tmp_path / "dd").write_text(
        f'#!/bin/sh\ncase $* in *fullblock*) exit 1 ;; esac\nexec {shutil.which("dd")} "$@"\n'
    )
    (tmp_path / "dd").chmod(0o755)
    (tmp_path / ".bashrc").write_text(f"PATH={tmp_path}:$PATH\n")
    login = ssh_login(server=make_sshd(home=tmp_path))
    async with within(SshMachine(ssh_config(login))) as machine:
        for _ in range(2):
            answer = await machine.ask('command -v dd; cat; exit "$1"', ["5"], data=b"data")
            assert answer.stdout == f"{tmp_path}/dd\ndata".encode()
            assert answer.exit_code == 5


# The rest of the contract


async def test_the_environment_at_login(
    enter: Enter, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERVISORS_OWN", "secret")
    async with enter() as machine:
        found = await machine.login_environment()
        assert {"HOME", "PATH", "SHELL", "USER"} <= set(found)
        assert not {"OPTIO_RUN", "SUPERVISORS_OWN"} & set(found)
        assert await machine.login_environment() is found


async def test_what_a_profile_exports_belongs_to_it(
    make_sshd: Callable[..., SshServer], ssh_login: Callable[..., SshLogin], tmp_path: Path
) -> None:
    noise = "echo noise; printf 'A=forged\\0'; export FROM_PROFILE='two\nlines'\n"
    for name in ".profile", ".bash_profile":
        (tmp_path / name).write_text(noise)
    server = make_sshd(home=tmp_path)
    async with within(SshMachine(ssh_config(ssh_login(server=server)))) as machine:
        found = await machine.login_environment()
        assert found["FROM_PROFILE"] == "two\nlines"
        assert "A" not in found


async def test_a_tunnel_leads_to_a_port_there(enter_usual: Enter) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())  # behind the end of the question
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with enter_usual() as machine, machine.tunnel(port) as ours:
        for _ in range(2):
            async with await anyio.connect_tcp("127.0.0.1", ours) as stream:
                await stream.send(b"hello" * 100_000)
                await stream.send_eof()
                got = b""
                async for data in stream:
                    got += data
                assert got == b"HELLO" * 100_000
    server.close()
    with pytest.raises(OSError, match="onnect"):
        await anyio.connect_tcp("127.0.0.1", ours)


async def test_a_tunnel_to_a_port_where_nothing_listens_closes_and_stays(
    enter_usual: Enter,
) -> None:
    async with enter_usual() as machine, machine.tunnel(1) as ours:
        for _ in range(2):
            async with await anyio.connect_tcp("127.0.0.1", ours) as stream:
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()


async def test_the_link_tells_how_it_is(enter_usual: Enter) -> None:
    async with enter_usual() as machine:
        told = list[str]()
        stop = machine.link.watch(lambda state, _: told.append(state))
        assert machine.link.state == "new"
        before = anyio.current_time()
        await machine.connect()
        await machine.connect()
        assert (machine.link.state, told) == ("up", ["up"])
        assert before <= machine.link.since <= anyio.current_time()
        await machine.close()
        assert (machine.link.state, told) == ("closed", ["up", "closed"])
        stop()
        await machine.connect()
        assert (machine.link.state, told) == ("up", ["up", "closed"])


async def test_a_hundred_machines_leave_nothing_open(enter_usual: Enter) -> None:
    async def use() -> None:
        async with enter_usual() as machine:
            assert (await machine.ask("echo hi")).stdout == b"hi\n"
            async with machine.shell("echo ready; read -r line") as process:
                await line_of(process)
                await process.close_input()
                assert await process.wait() == 1

    await use()  # what is made once stays
    async with no_leaks():
        for _ in range(4):
            async with anyio.create_task_group() as tasks:
                for _ in range(25):
                    tasks.start_soon(use)


async def test_where_descriptors_run_out_it_is_an_error_and_nothing_else() -> None:
    async with within(LocalMachine()) as machine:
        await machine.ask("true")
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        async with no_leaks():
            with (
                _descriptor_limit(descriptors + 4),
                pytest.raises(HostError, match="Too many open files"),
            ):
                async with machine.shell("read -r line"), machine.shell("read -r line"):
                    pytest.fail("two shells had enough")
        assert (await machine.ask("echo hi")).stdout == b"hi\n"


@contextmanager
def _descriptor_limit(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Ending a tree


@pytest.fixture(params=["dash", "bash", "busybox"])
def stop(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Any]:
    """Run scripts/stop.sh in one of the shells; busybox then has no other tools."""
    shell = shutil.which(request.param)
    assert shell
    argv, env = [shell], dict(os.environ)
    if request.param == "busybox":
        argv, env = [shell, "sh"], {"PATH": str(_applets(tmp_path / "applets", shell))}

    def run(tag: str, *roots: str, grace: str = "0.3") -> Any:
        return subprocess.run(
            [*argv, "-c", script("hosts/stop"), "stop", f"OPTIO_RUN={tag}", grace, "-", *roots],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BOUND,
        )

    return run


def _applets(directory: Path, busybox: str) -> Path:
    directory.mkdir()
    for name in subprocess.run([busybox, "--list"], capture_output=True, text=True).stdout.split():
        (directory / name).symlink_to(busybox)
    return directory


@contextmanager
def started(text: str, tag: str, *args: str, user: int = 0) -> Iterator[Found]:
    """Shell *text* in a session of its own with the tag; it says when it is ready."""
    child = subprocess.Popen(
        ["/bin/sh", "-c", text, "sh", *args],
        env={**os.environ, "OPTIO_RUN": tag},
        stdout=subprocess.PIPE,
        start_new_session=True,
        user=user or None,
    )
    try:
        assert child.stdout
        assert child.stdout.readline() == b"ready\n"
        found = look_up(child.pid)
        assert found
        yield found
    finally:
        for each in tagged(tag):
            each.send(SIGKILL)
        child.kill()
        child.communicate()


def test_a_tree_gets_the_time_to_end_itself(stop: Callable[..., Any], tmp_path: Path) -> None:
    tag = secrets.token_hex(8)
    text = f"trap 'echo bye >{tmp_path}/bye; exit' TERM; echo ready; while :; do sleep 0.01; done"
    with started(text, tag) as found:
        assert stop(tag, grace="5").returncode == 0
        assert found.gone
    assert (tmp_path / "bye").read_text() == "bye\n"


def test_a_stopped_process_hears_it_too(stop: Callable[..., Any], tmp_path: Path) -> None:
    tag = secrets.token_hex(8)
    text = f"trap 'echo bye >{tmp_path}/bye; exit' TERM; echo ready; while :; do sleep 0.01; done"
    with started(text, tag) as found:
        found.send(SIGSTOP)
        assert stop(tag, grace="5").returncode == 0
    assert (tmp_path / "bye").exists()


def test_a_look_that_takes_long_takes_nothing_of_that_time(tmp_path: Path) -> None:
    """As on a machine that is busy; what ends itself is waited for by the second one here."""
    looked, bye, awk = tmp_path / "looked", tmp_path / "bye", shutil.which("awk")
    (tmp_path / "awk").write_text(
        f"#!/bin/sh\nif [ ! -e {looked} ]; then : >{looked}; sleep 0.4; else\n"
        f'until [ -e {bye} ] || [ $((n += 1)) -gt 300 ]; do sleep 0.05; done; fi\nexec {awk} "$@"\n'
    )
    (tmp_path / "awk").chmod(0o755)
    text = f"trap ': >{bye}; exit' TERM; echo ready; while :; do sleep 0.01; done"
    with started(text, tag := secrets.token_hex(8)) as found:
        done = subprocess.run(
            ["/bin/sh", "-c", script("hosts/stop"), "stop", f"OPTIO_RUN={tag}", "0.3", "-"],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            timeout=BOUND,
        )
        assert (done.returncode, done.stdout) == (0, b"")
        assert found.gone
    assert bye.exists()


def test_what_ignores_the_signal_is_killed_in_the_end(stop: Callable[..., Any]) -> None:
    tag = secrets.token_hex(8)
    text = "trap '' TERM; (setsid sleep 300 & setsid sleep 300 & sleep 300) & echo ready; wait"
    with started(text, tag):
        assert stop(tag).returncode == 0
        assert tagged(tag) == []


def test_what_only_the_session_gives_away_is_found(stop: Callable[..., Any]) -> None:
    program = """if True:
        import os
        if os.fork(): os._exit(0)
        os.setpgid(0, 0)
        os.write(1, b"ready\\n")
        os.execv("/bin/sleep", ["sleep", "300"])
    """
    text = 'env -i "$1" -c "$2" & wait; sleep 300'
    with started(text, tag := secrets.token_hex(8), sys.executable, program) as found:
        wait_until(
            lambda: any(each.name == "sleep" and each.parent != found.pid for each in of(found))
        )
        others = of(found)
        assert stop(tag, f"{found.pid}:{found.start_time}").returncode == 0
        assert [each for each in others if not each.gone] == []


def of(leader: Found) -> list[Found]:
    return [each for each in processes() if each.session == leader.pid]


def test_a_name_made_to_confuse_helps_nobody(stop: Callable[..., Any], tmp_path: Path) -> None:
    tag = secrets.token_hex(8)
    sleep = shutil.which("sleep")
    assert sleep
    for name in ("a) S 1 1 (", "b\n1 (c) S 1"):
        copy = tmp_path / name.replace("/", "_")
        shutil.copy(sleep, copy)
        with started('env -u OPTIO_RUN "$1" 300 & echo ready; wait', tag, str(copy)) as found:
            children = Path(f"/proc/{found.pid}/task/{found.pid}/children").read_text().split()
            child = look_up(int(children[0]))
            done = stop(secrets.token_hex(8), f"{found.pid}:{found.start_time}")
            assert (done.returncode, done.stdout) == (0, "")
            assert child
            assert child.gone


def test_a_pid_that_was_reused_is_left_alone(stop: Callable[..., Any]) -> None:
    with started("echo ready; sleep 300", tag := secrets.token_hex(8)) as found:
        root = f"{found.pid}:{found.start_time - 1}"
        assert stop(secrets.token_hex(8), root).returncode == 0
        assert not found.gone
        assert stop(tag).returncode == 0
        assert found.gone


@pytest.mark.parametrize("failing", [5, 100_000])
def test_a_list_that_cannot_be_had_is_not_an_empty_one(tmp_path: Path, failing: int) -> None:
    """As when no process can be started: the tree is as large as it may be."""
    count, awk = tmp_path / "count", shutil.which("awk")
    (tmp_path / "awk").write_text(
        f"#!/bin/sh\necho >>{count}\n"
        f'[ "$(wc -l <{count})" -gt {failing} ] || exit 1\nexec {awk} "$@"\n'
    )
    (tmp_path / "awk").chmod(0o755)
    with started("echo ready; sleep 300", tag := secrets.token_hex(8)) as found:
        done = subprocess.run(
            ["/bin/sh", "-c", script("hosts/stop"), "stop", f"OPTIO_RUN={tag}", "0", "-"],
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            timeout=BOUND,
        )
        assert (done.returncode == 0) == found.gone == (failing == 5)


def test_only_the_whole_tag_counts(stop: Callable[..., Any]) -> None:
    tag = secrets.token_hex(8)
    with started("echo ready; exec sleep 300", f"{tag}more") as found:
        assert stop(tag).returncode == 0
        assert not found.gone


def test_it_never_ends_itself_or_whoever_called_it(tmp_path: Path) -> None:
    tag = secrets.token_hex(8)
    (tmp_path / "stop").write_text(script("hosts/stop"))
    caller = """
        IFS= read -r s </proc/$$/stat; t=$2; f=$1; set -- ${s##*) }
        sleep 300 & sh "$f" "OPTIO_RUN=$t" 0.3 - "$$:${20}"; echo $?; kill -0 $! || echo gone
    """
    done = subprocess.run(
        ["/bin/sh", "-c", caller, "sh", str(tmp_path / "stop"), tag],
        env={**os.environ, "OPTIO_RUN": tag},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=BOUND,
        check=True,
    )
    assert done.stdout == b"0\ngone\n"


def test_processes_of_others_are_named_and_left_alone(stop: Callable[..., Any]) -> None:
    if os.getuid():
        pytest.skip("needs root to have processes of others")
    tag = secrets.token_hex(8)
    with started("echo ready; exec sleep 300.25", tag, user=65534) as found:
        done = stop(tag)
        assert (done.returncode, done.stdout) == (1, f"{found.pid} sleep 300.25 \n")
        assert not found.gone
