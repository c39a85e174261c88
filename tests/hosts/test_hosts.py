"""The contract of a host: the same tests here and over a real sshd, one account per shell."""
# ruff: noqa: ASYNC230, ASYNC240  # nobody else needs the event loop meanwhile

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path

import anyio
import pytest

from optio_agents.errors import CommandTimedOut, FileRefused, HostLost
from optio_agents.hosts import Host, make_host
from optio_agents.hosts.commands import OUTPUT_LIMIT
from optio_agents.testing.proxy import FaultProxy
from tests.support import proc
from tests.support.hosts.hosts import Ground, both_ways, every_kind, over_ssh, usual_kinds
from tests.support.leaks import no_leaks
from tests.support.timeouts import BOUND

NASTY = "a'b\"c $HOME `id` \\ ; * \n\ttab ü\x01 !x"


def sleeping(seconds: str) -> list[proc.Process]:
    """Live processes `sleep SECONDS`; each test has a number of its own, see `proc.unique`."""
    wanted = ["sleep", seconds]
    return [each for each in proc.processes() if _argv(each.pid)[-2:] == wanted and not each.gone]


def _argv(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except (OSError, UnicodeDecodeError):
        return []


async def until(condition: object) -> None:
    """Wait for something that only the kernel knows of."""
    assert callable(condition)
    while not condition():  # noqa: ASYNC110
        await anyio.sleep(0.01)


# Commands


@every_kind
async def test_a_command_runs_in_the_work_directory_and_says_how_it_ended(ground: Ground) -> None:
    async with ground.ready() as host:
        command = 'pwd; printf %s "$NASTY"; echo "it warns" >&2; exit 3'
        result = await host.run_command(command, env={"NASTY": NASTY})
        assert result.stdout == f"{host.workdir}\n{NASTY}"
        assert result.stderr == "it warns\n"
        assert result.exit_code == 3


@usual_kinds
async def test_its_environment_is_added_and_its_input_is_empty(ground: Ground) -> None:
    async with ground.ready() as host:
        result = await host.run_command('cat; echo "$ADDED ${PATH:+whole}"', env={"ADDED": "x"})
        assert result.stdout == "x whole\n"


@usual_kinds
async def test_another_directory_may_be_named_and_has_to_exist(ground: Ground) -> None:
    async with ground.ready() as host:
        await host.run_command(f"mkdir -p '{host.workdir}/a b/-n'")
        for cwd in f"{host.workdir}/a b/-n", "a b/-n":
            assert (await host.run_command("pwd", cwd=cwd)).stdout == f"{host.workdir}/a b/-n\n"
        home = await host.resolve_host_home()
        assert (await host.run_command("pwd -P", cwd="~")).stdout.rstrip() == os.path.realpath(home)
        with pytest.raises(FileRefused, match="not a directory") as refused:
            await host.run_command("echo no >&2; exit 125", cwd="/does/not/exist")
        assert refused.value.reason == "missing"
        assert (await host.run_command("echo no >&2; exit 125")).exit_code == 125


@usual_kinds
async def test_bytes_that_are_no_text_are_replaced(ground: Ground) -> None:
    async with ground.ready() as host:
        result = await host.run_command(r"printf 'a\377b'; printf '\200' >&2")
        assert (result.stdout, result.stderr) == ("a\ufffdb", "\ufffd")


@both_ways
async def test_of_an_endless_output_the_ends_are_kept(ground: Ground) -> None:
    async with ground.ready() as host:
        fill = f"head -c {3 * OUTPUT_LIMIT} /dev/zero | tr '\\0' x"
        result = await host.run_command(f"echo first; {fill}; echo last; {fill} >&2")
        for stream in result.stdout, result.stderr:
            assert abs(len(stream) - OUTPUT_LIMIT) < 100
            assert " bytes cut here]" in stream
        assert result.stdout.startswith("first\n")
        assert result.stdout.endswith("last\n")


@usual_kinds
async def test_a_command_killed_by_a_signal_says_which(ground: Ground) -> None:
    async with ground.ready() as host:
        result = await host.run_command("kill -KILL $$")
        assert result.exit_code == 128 + signal.SIGKILL


@every_kind
async def test_a_timeout_ends_the_whole_tree(ground: Ground) -> None:
    n = proc.unique()
    async with ground.ready() as host:
        stubborn = f"(trap '' TERM; sleep {n}; sleep {n}) &" if ground.kind == "local" else ""
        command = f"setsid sleep {n} & {stubborn} sleep {n}"
        with pytest.raises(CommandTimedOut, match="ran longer than 0"):
            await host.run_command(command, timeout=0.3)
        assert not sleeping(n)


@usual_kinds
async def test_cancelling_a_command_ends_the_whole_tree(ground: Ground) -> None:
    n = proc.unique()
    async with ground.ready() as host:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.run_command, f"setsid sleep {n} & sleep {n}")
            await until(lambda: len(sleeping(n)) == 2)
            tasks.cancel_scope.cancel()
        assert not sleeping(n)


@usual_kinds
async def test_nothing_of_a_command_stands_in_a_command_line(ground: Ground) -> None:
    secret = secrets.token_hex(8)
    pattern = f"[{secret[0]}]{secret[1:]}"
    async with ground.ready() as host:
        result = await host.run_command(
            f"cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -c '{pattern}'; :",
            env={"SECRET": secret},
        )
        assert result.stdout == "0\n"


@over_ssh
@pytest.mark.parametrize("way", ["cut", "close"])
async def test_a_link_that_breaks_is_never_an_end_or_an_exit_status(
    ground: Ground, way: str
) -> None:
    n = proc.unique()
    assert ground.login
    async with (
        FaultProxy("127.0.0.1", ground.login.port) as proxy,
        ground.through(proxy.port).ready() as host,
    ):
        handle = await host.launch_subprocess(f"echo begun; sleep {n}; echo never")
        assert await anext(handle.stdout) == b"begun\n"
        getattr(proxy, way)()
        with pytest.raises(HostLost):
            await handle.stdout.read()
        with pytest.raises(HostLost):
            await handle.wait()
        assert (await host.run_command("echo again")).stdout == "again\n"


@over_ssh
async def test_a_command_whose_link_breaks_is_not_repeated(ground: Ground) -> None:
    n = proc.unique()
    assert ground.login
    async with (
        FaultProxy("127.0.0.1", ground.login.port) as proxy,
        ground.through(proxy.port).ready() as host,
    ):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_lost, host, f"echo x >> ran; sleep {n}")
            await until(lambda: sleeping(n))
            proxy.cut()
        assert Path(host.workdir, "ran").read_text() == "x\n"


@over_ssh
async def test_after_a_lost_link_the_first_question_is_answered(ground: Ground) -> None:
    assert ground.login
    async with (
        FaultProxy("127.0.0.1", ground.login.port) as proxy,
        ground.through(proxy.port).ready() as host,
    ):
        for number in range(3):
            answer = await host.ask(f"echo {number}")
            assert answer.stdout == f"{number}\n".encode()
            proxy.cut()
            await until(lambda: host.machine.link.state != "up")


async def _lost(host: Host, command: str) -> None:
    with pytest.raises(HostLost):
        await host.run_command(command)


# Launched commands


@every_kind
async def test_a_launched_command_speaks_and_listens(ground: Ground) -> None:
    async with ground.ready() as host:
        handle = await host.launch_subprocess("pwd; cat", stdin=True)
        assert await anext(handle.stdout) == f"{host.workdir}\n".encode()
        assert handle.stdin
        handle.stdin.write(b"one\ntw")
        await handle.stdin.drain()
        assert await anext(handle.stdout) == b"one\n"
        handle.stdin.write(b"o\nthree")
        handle.stdin.close()
        await handle.stdin.wait_closed()
        assert [line async for line in handle.stdout] == [b"two\n", b"three"]
        assert await handle.wait() == 0
        assert handle.ended


@usual_kinds
async def test_merging_covers_compound_commands(ground: Ground) -> None:
    async with ground.ready() as host:
        handle = await host.launch_subprocess("echo a; { echo b >&2; }; (echo c >&2); exit 5")
        assert [line async for line in handle.stdout] == [b"a\n", b"b\n", b"c\n"]
        assert handle.stderr is None
        assert await handle.wait() == 5


@both_ways
@pytest.mark.parametrize(("loud", "read_first"), [("2", "stdout"), ("1", "stderr")])
async def test_a_stream_that_nobody_reads_holds_up_nothing(
    ground: Ground, loud: str, read_first: str
) -> None:
    async with ground.ready() as host:
        command = f"head -c 5000000 /dev/zero >&{loud}; echo out; echo err >&2"
        handle = await host.launch_subprocess(command, merge_stderr=False)
        assert handle.stderr
        first, second = handle.stdout, handle.stderr
        if read_first == "stderr":
            first, second = second, first
        assert len(await first.read()) == 4
        assert await handle.wait() == 0
        assert len(await second.read()) == 5_000_004


@both_ways
async def test_a_handle_can_be_waited_for_without_reading(ground: Ground) -> None:
    async with ground.ready() as host:
        handle = await host.launch_subprocess("head -c 5000000 /dev/zero; exit 7")
        assert await handle.wait() == 7
        assert len(await handle.stdout.read()) == 5_000_000


@usual_kinds
async def test_its_environment_loses_and_gains(ground: Ground) -> None:
    async with ground.ready() as host:
        command = 'echo "${HOME-none} $NASTY"'
        handle = await host.launch_subprocess(command, env={"NASTY": NASTY}, env_remove=["HOME"])
        assert (await handle.stdout.read()).decode() == f"none {NASTY}\n"
        with pytest.raises(ValueError, match="cannot be the name"):
            await host.launch_subprocess("true", env_remove=["A; touch X"])
        with pytest.raises(FileRefused, match="not a directory"):
            await host.launch_subprocess("true", cwd="/does/not/exist")


@usual_kinds
@pytest.mark.parametrize("aggressive", [False, True])
async def test_terminating_reaches_the_whole_tree(ground: Ground, *, aggressive: bool) -> None:
    number = f"92{len(ground.kind)}{int(aggressive)}{ground.kind.encode()[0]}"
    stubborn = f"(trap '' TERM; sleep {number}) &" if aggressive else ""
    async with ground.ready() as host:
        command = f"setsid sleep {number} & {stubborn} sleep {number}; sleep {number}"
        handle = await host.launch_subprocess(command)
        await until(lambda: len(sleeping(number)) == 2 + aggressive)
        await host.terminate_subprocess(handle, aggressive=aggressive)
        assert not sleeping(number)
        await host.terminate_subprocess(handle, aggressive=aggressive)


@usual_kinds
async def test_terminating_reaches_what_a_command_left_behind(ground: Ground) -> None:
    n = proc.unique()
    async with ground.ready() as host:
        handle = await host.launch_subprocess(f"sleep {n} & exit 3")
        assert await handle.wait() == 3
        await host.terminate_subprocess(handle, aggressive=False)
        assert not sleeping(n)


@usual_kinds
async def test_letting_go_of_a_host_ends_what_was_launched(ground: Ground, leaks) -> None:
    n = proc.unique()
    async with leaks():
        async with ground.ready() as host:
            await host.launch_subprocess(f"sleep {n}", stdin=True)
            await until(lambda: sleeping(n))
        assert not sleeping(n)


async def test_a_command_that_closes_its_input_is_a_broken_pipe(tmp_path: Path) -> None:
    n = proc.unique()
    async with Ground("local", tmp_path, None, None).ready() as host:
        handle = await host.launch_subprocess(f"exec 0<&-; echo closed; sleep {n}", stdin=True)
        assert await anext(handle.stdout) == b"closed\n"
        assert handle.stdin
        handle.stdin.write(b"x")
        with pytest.raises(BrokenPipeError):
            await handle.stdin.drain()
        with pytest.raises(BrokenPipeError):
            await handle.stdin.drain()


@both_ways
async def test_a_command_that_reads_nothing_holds_up_only_its_own_sender(ground: Ground) -> None:
    n = proc.unique()
    async with ground.ready() as host:
        handle = await host.launch_subprocess(f"sleep {n}", stdin=True)
        assert handle.stdin
        handle.stdin.write(b"x" * 9_000_000)
        with anyio.move_on_after(0.1) as waiting:
            await handle.stdin.drain()
        assert waiting.cancelled_caught
        await host.terminate_subprocess(handle, aggressive=True)


# Small things


@usual_kinds
async def test_text_is_written_into_the_work_directory(ground: Ground) -> None:
    async with ground.ready() as host:
        await host.write_text("sub dir/né\n.txt", "hällo\n")
        written = Path(host.workdir, "sub dir/né\n.txt")
        assert written.read_text() == "hällo\n"
        await host.remove_file("sub dir/né\n.txt")
        await host.remove_file("sub dir/né\n.txt")
        assert not written.exists()
        with pytest.raises(FileRefused):
            await host.remove_file("sub dir")


@both_ways
async def test_a_home_is_resolved_on_the_host_that_owns_it(ground: Ground) -> None:
    async with ground.ready() as host:
        home = os.environ["HOME"] if ground.account is None else str(ground.account.home)
        assert await host.resolve_host_home() == home
        assert await host.path("~/x") == f"{home}/x"


@both_ways
async def test_plain_lines_of_a_growing_file(ground: Ground) -> None:
    async with ground.ready() as host:
        await host.write_text("log", "one\n\xff\r\n")
        lines = host.tail_file(f"{host.workdir}/log")
        assert [await anext(lines), await anext(lines)] == ["one", "\xff"]
        with Path(host.workdir, "log").open("a") as log:
            log.write("three\n")
        assert await anext(lines) == "three"
        await lines.aclose()


@both_ways
async def test_a_tunnel_leads_to_the_host(ground: Ground) -> None:
    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.send(b"hello " + await stream.receive())

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
        ground.ready() as host,
    ):
        tasks.start_soon(listener.serve, answer)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        ours = await host.establish_tunnel(port)
        assert (ours == port) == (ground.kind == "local")
        async with await anyio.connect_tcp("127.0.0.1", ours) as stream:
            await stream.send(b"you")
            assert await stream.receive() == b"hello you"
        with pytest.raises(ValueError, match="alone"):
            await host.establish_tunnel(port, bind_addr="0.0.0.0")
        tasks.cancel_scope.cancel()


@usual_kinds
async def test_a_question_takes_one_of_our_scripts_or_a_text(ground: Ground) -> None:
    async with ground.ready() as host:
        answer = await host.ask('cat; printf %s "$1"; echo no >&2; exit 4', NASTY, data=b"a\0b")
        assert answer.stdout == b"a\0b" + NASTY.encode()
        assert (answer.stderr.strip(), answer.exit_code) == (b"no", 4)
        answer = await host.ask("hosts/files/digest.sh", "/does/not/exist", "-")
        assert (answer.exit_code, answer.stdout) == (0, b"")


@usual_kinds
async def test_hosts_come_and_go_without_a_trace(ground: Ground, leaks, rounds: int) -> None:
    async with ground.ready() as first:  # what the process shares is there now
        await first.run_command("true")
        async with leaks():
            for number in range(rounds):
                async with ground.ready(f"task-{number}") as host:
                    await host.run_command("true")
                    await host.write_text("x", "y")


@both_ways
async def test_connecting_twice_and_from_another_task_is_fine(ground: Ground) -> None:
    host = ground.host()
    with anyio.fail_after(BOUND):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.connect)
            tasks.start_soon(host.connect)
        await host.setup_workdir()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.disconnect)
        await host.disconnect()


@over_ssh
async def test_who_fails_to_enter_holds_no_connection_open(ground: Ground) -> None:
    assert ground.login
    async with FaultProxy("127.0.0.1", ground.login.port) as proxy, no_leaks():
        there = ground.through(proxy.port)
        async with there.host():
            proxy.stall()
            with anyio.move_on_after(0.3):
                async with make_host(there.ssh, taskdir="~/task"):  # asks where that is
                    pytest.fail("nobody could tell")
            proxy.flow()
