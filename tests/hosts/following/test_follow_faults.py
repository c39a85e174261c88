"""Following through a network that fails, on hosts that lack things, and while we are stopped."""

import os
import shutil
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import replace as changed

import anyio
import pytest

from optio_agents.errors import FileRefused, HostKeyRefused, HostLost
from optio_agents.framing.batches import FollowOptions
from optio_agents.hosts.following.remote import RemoteFollows
from optio_agents.hosts.local import LocalMachine
from optio_agents.hosts.ssh import SshMachine
from optio_agents.testing.proxy import FaultProxy
from tests.support.components import needs, unavailable
from tests.support.hosts.follow_ground import append, reading, replace, take, until
from tests.support.hosts.hosts import ssh_config
from tests.support.timeouts import BOUND

WRITER = """
import os, sys, time
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for n in range(int(sys.argv[2])):
    line = b"%06d " % n + b"." * 50 + b"\\n"
    assert os.write(log, line) == len(line)
    if n % 10 == 0:
        time.sleep(0.001)
"""


def lines_upto(count):
    return [b"%06d " % n + b"." * 50 for n in range(count)]


@asynccontextmanager
async def writing(log, count):
    """Another process appends *count* lines; all were accepted when the block is left."""
    async with await anyio.open_process(
        [sys.executable, "-c", WRITER, str(log), str(count)], stdout=None, stderr=None
    ) as writer:
        yield
        assert await writer.wait() == 0


@asynccontextmanager
async def following(machine, log, cursor=None, **options):
    try:
        async with machine.follow(str(log), cursor, FollowOptions(**options)) as batches:
            yield batches
    finally:
        await machine.close()


def machine_behind(proxy, login, **settings):
    quick = {"keepalive": 0.3, "keepalive_count": 2, "connect_timeout": 2.0}
    return SshMachine(ssh_config(login.at(proxy.port), **quick | settings))


@pytest.fixture
def ground(make_sshd, ssh_login):
    """A server to break, a way in, and a file there."""
    server = make_sshd()
    login = ssh_login(server=server)
    return server, login, login.account.make_dir() / "log"


@pytest.fixture(scope="module")
def milestones():
    return {}


async def measure(server, login, log, known):
    """How many bytes the server has sent at each step of a follow that nothing disturbs."""
    if known:
        return known
    log.write_bytes(b"first\n")
    async with FaultProxy(server.host, server.port) as proxy:
        machine = machine_behind(proxy, login, keepalive=0)
        await machine.connect()
        known["connected"] = proxy.bytes_from_server
        async with following(machine, log) as batches:
            await take(batches, 1)
            known["first line"] = proxy.bytes_from_server
    log.unlink()
    return known


STEPS = {
    "greeting": lambda at: 10,
    "key exchange": lambda at: at["connected"] // 2,
    "login": lambda at: at["connected"] - 40,
    "channel": lambda at: at["connected"] + 20,
    "far end begins": lambda at: (at["connected"] + at["first line"]) // 2,
    "first frame": lambda at: at["first line"] - 60,
    "mid-line": lambda at: at["first line"] + 1000,
    "later": lambda at: at["first line"] + 60_000,
}


@pytest.mark.parametrize("fault", ["cut", "close", "stall"])
@pytest.mark.parametrize("step", STEPS)
async def test_what_was_written_arrives_once_and_in_order(ground, milestones, step, fault):
    server, login, log = ground
    point = STEPS[step](await measure(server, login, log, milestones))
    count = 3000
    async with FaultProxy(server.host, server.port) as proxy:

        def strike():
            getattr(proxy, fault)()

        struck = proxy.on_bytes(point, source="server", then=strike)
        async with (
            writing(log, count),
            following(machine_behind(proxy, login), log) as batches,
            reading(batches) as lines,
        ):
            with anyio.fail_after(BOUND):
                await struck.wait()
            if fault == "stall":
                with anyio.move_on_after(1):  # longer than the keepalive waits
                    await until(lambda: proxy.open_connections == 0)
                proxy.flow()
            await until(lambda: len(lines) >= count)
            assert lines == lines_upto(count)
    await until(lambda: not server.running())


async def test_a_link_that_breaks_again_and_again_loses_and_repeats_nothing(ground, chance):
    server, login, log = ground
    count, cuts = 6000, 6
    async with FaultProxy(server.host, server.port) as proxy:

        async def cut_often():
            for _ in range(cuts):
                wait = proxy.on_bytes(chance.random.randrange(3000, 50_000), then=proxy.cut)
                await wait.wait()
                chance.hit("cut")

        async with (
            writing(log, count),
            following(machine_behind(proxy, login), log) as batches,
            reading(batches) as lines,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(cut_often)
            await until(lambda: len(lines) >= count)
            assert lines == lines_upto(count)
            tasks.cancel_scope.cancel()
    assert proxy.connections > 2


async def test_every_connection_brings_something_however_short_it_lives(ground):
    server, login, log = ground
    log.write_bytes(b"".join(b"%06d %b\n" % (n, b"." * 50) for n in range(1500)))
    async with FaultProxy(server.host, server.port) as proxy:

        async def cut_often():
            while True:
                await proxy.on_bytes(40_000, then=proxy.cut).wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cut_often)
            async with following(machine_behind(proxy, login), log) as batches:
                assert await take(batches, 1500) == lines_upto(1500)
            tasks.cancel_scope.cancel()


async def test_a_half_open_link_is_found_dead_and_another_is_made(ground):
    server, login, log = ground
    log.write_bytes(b"one\n")
    async with (
        FaultProxy(server.host, server.port) as proxy,
        following(machine_behind(proxy, login), log) as batches,
    ):
        await take(batches, 1)
        proxy.stall()
        append(log, b"two\n")
        proxy.black_hole = True
        await until(lambda: proxy.connections > 1)
        assert batches.caught_up is False
        proxy.black_hole = False
        proxy.flow()
        proxy.cut()
        assert await take(batches, 1) == [b"two"]


async def test_a_follow_over_a_silent_link_can_be_left(ground):
    server, login, log = ground
    log.write_bytes(b"one\n")
    async with FaultProxy(server.host, server.port) as proxy:
        machine = machine_behind(proxy, login, keepalive=0)
        with anyio.fail_after(None) as leaving:
            async with machine.follow(str(log), None, FollowOptions()) as batches:
                await take(batches, 1)
                proxy.stall()
                leaving.deadline = anyio.current_time() + BOUND
        proxy.cut()
        await machine.close()


async def test_what_happens_to_the_file_while_the_link_is_down_is_seen_when_it_is_back(ground):
    server, login, log = ground
    log.write_bytes(b"one\ntwo\nthr")
    async with (
        FaultProxy(server.host, server.port) as proxy,
        following(machine_behind(proxy, login), log) as batches,
    ):
        await take(batches, 2)
        await until(lambda: batches.rest == b"thr")
        proxy.refuse()
        proxy.cut()
        await until(lambda: not batches.caught_up)
        append(log, b"ee\n")
        proxy.accept()
        assert await take(batches, 1) == [b"three"]
        proxy.refuse()
        proxy.cut()
        await until(lambda: not batches.caught_up)
        replace(log, b"one\ntwo\nthree\nfour\n")
        proxy.accept()
        assert await take(batches, 1) == [b"four"]


async def test_the_server_may_be_killed_and_started_again(ground):
    server, login, log = ground
    log.write_bytes(b"one\n")
    async with following(SshMachine(ssh_config(login)), log) as batches:
        await take(batches, 1)
        server.stop()
        server.kill_sessions()
        append(log, b"two\n")
        server.start()
        assert await take(batches, 1) == [b"two"]


async def test_a_changed_host_key_is_final(ground, tmp_path):
    server, login, log = ground
    log.write_bytes(b"one\n")
    known = tmp_path / "known_hosts"
    other = tmp_path / "other"
    await anyio.run_process([needs("ssh-keygen"), "-qt", "ed25519", "-N", "", "-f", other])
    async with FaultProxy(server.host, server.port) as proxy:
        entry = login.at(proxy.port)
        shutil.copy(entry.known_hosts_path, known)
        machine = SshMachine(changed(ssh_config(entry, connect_timeout=2.0), known_hosts=known))
        async with following(machine, log) as batches:
            await take(batches, 1)
            words = known.read_text().split()
            key = (tmp_path / "other.pub").read_text().split()[1]
            known.write_text(f"{words[0]} ssh-ed25519 {key}\n")
            proxy.cut()
            with anyio.fail_after(BOUND), pytest.raises(HostKeyRefused):
                await anext(batches)


async def test_a_machine_that_is_let_go_of_ends_its_follows(ssh_login, tmp_path):
    machine = SshMachine(ssh_config(ssh_login()))
    (tmp_path / "log").write_bytes(b"one\n")
    async with following(machine, tmp_path / "log") as batches:
        await take(batches, 1)
        await machine.close()
        with anyio.fail_after(BOUND), pytest.raises(HostLost):
            await anext(batches)


async def test_a_slow_reader_fills_neither_us_nor_the_link(ground):
    server, login, log = ground
    log.write_bytes(b"x" * 99 + b"\n")
    quick = log.with_name("quick")
    quick.write_bytes(b"")
    async with FaultProxy(server.host, server.port) as proxy:
        machine = machine_behind(proxy, login)
        async with following(machine, log) as slow, following(machine, quick) as fast:
            await take(slow, 1)
            before = proxy.bytes_from_server
            with log.open("ab") as file:
                file.write((b"x" * 99 + b"\n") * 300_000)
            for n in range(20):  # the others go on
                append(quick, b"%d\n" % n)
                assert await take(fast, 1) == [b"%d" % n]
            assert proxy.bytes_from_server - before < 2 << 20
            assert len(await take(slow, 300_000)) == 300_000


async def test_many_follows_share_one_process_and_leave_none(ground, leaks):
    server, login, log = ground
    logs = [log.with_name(f"log{n}") for n in range(30)]
    for path in logs:
        path.write_bytes(b"here\n")
    async with leaks():
        machine = SshMachine(ssh_config(login))
        async with anyio.create_task_group() as tasks:
            seen = []

            async def follow(path):
                async with machine.follow(str(path), None, FollowOptions()) as batches:
                    seen.append(await take(batches, 1))
                    await until(lambda: len(seen) == len(logs))
                    if path is logs[0]:
                        names = [process.name for process in server.running()]
                        assert names.count("python3") == 1

            for path in logs:
                tasks.start_soon(follow, path)
        await machine.close()
    await until(lambda: not server.running())


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A PATH that leads to nothing but the tools that are named."""

    def only(*names, busybox=False):
        directory = tmp_path / "tools"
        directory.mkdir()
        for name in names:
            source = needs("busybox" if busybox else name)
            (directory / name).symlink_to(source)
        monkeypatch.setenv("PATH", str(directory))
        return directory

    return only


TOOLS = ("cat", "dd", "readlink", "sh", "stat", "rm", "mkdir", "sleep", "env", "ps", "kill")


@pytest.mark.parametrize("busybox", [False, True])
async def test_a_host_without_python3_is_asked_through_its_shell(tools, tmp_path, busybox):
    tools(*(TOOLS if busybox else filter(shutil.which, TOOLS)), busybox=busybox)
    await tell_a_story(RemoteFollows(LocalMachine()), tmp_path / "log")


async def test_a_python3_that_does_not_start_is_not_used(tools, tmp_path):
    directory = tools(*filter(shutil.which, TOOLS))
    broken = directory / "python3"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    await tell_a_story(RemoteFollows(LocalMachine()), tmp_path / "log")


async def test_a_shell_over_a_link_that_breaks(ground):
    server, login, log = ground
    async with FaultProxy(server.host, server.port) as proxy:
        machine = machine_behind(proxy, login)
        try:
            await tell_a_story(RemoteFollows(machine, by_shell=True), log, between=proxy.cut)
        finally:
            await machine.close()


async def test_a_shell_refuses_a_name_with_a_newline(tmp_path):
    follows = RemoteFollows(LocalMachine(), by_shell=True)
    async with follows.follow(str(tmp_path / "a\nb"), None, FollowOptions()) as batches:
        with anyio.fail_after(BOUND), pytest.raises(FileRefused, match="newline"):
            await anext(batches)


async def tell_a_story(follows, log, between=lambda: None):
    log.write_bytes(b"\xff\0one\ntwo\n")
    async with follows.follow(str(log), None, FollowOptions()) as batches:
        assert await take(batches, 2) == [b"\xff\0one", b"two"]
        between()
        append(log, b"x" * 300_000 + b"\nfour\n")
        assert await take(batches, 2) == [b"x" * 300_000, b"four"]
        between()
        replace(log, b"\xff\0one\nother\n")
        assert await take(batches, 1) == [b"other"]
        append(log, b"rest")
        batches.finish()
        with anyio.fail_after(BOUND):
            assert [batch.lines async for batch in batches] == [[b"rest"]]


ALL_ARRIVES = """
import asyncio, os, resource, sys
from pathlib import Path
from optio_agents.framing.batches import FollowOptions
from optio_agents.hosts.following.local import follow_locally

async def follow(path, lines):
    async with follow_locally(str(path), None, FollowOptions()) as batches:
        async for batch in batches:
            lines += batch.lines
            if len(lines) == 3:
                return

async def main(count):
    paths = [Path(sys.argv[2], str(n), "log") for n in range(count)]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(b"one\\n")
    found = [[] for _ in paths]
    tasks = [asyncio.create_task(follow(*pair)) for pair in zip(paths, found)]
    for word in b"two\\n", b"three\\n":
        await asyncio.sleep(0.1)
        for path in paths:
            with path.open("ab") as log:
                log.write(word)
    await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert found == [[b"one", b"two", b"three"]] * count
    print("all arrived")
"""


async def run_here(command, script, *args):
    with anyio.fail_after(BOUND):
        done = await anyio.run_process(
            [*command, sys.executable, "-c", script, *map(str, args)], check=False
        )
    return done.returncode, done.stdout.decode() + done.stderr.decode()


@pytest.mark.parametrize("limit", ["max_inotify_instances=0", "max_inotify_watches=3"])
async def test_without_inotify_everything_still_arrives(tmp_path, limit):
    name, _, value = limit.partition("=")
    needs("unshare")
    if (await anyio.run_process(["unshare", "-Ur", "true"], check=False)).returncode:
        unavailable("no user namespaces here")
    lower = f'echo {value} >/proc/sys/user/{name} && exec "$@"'
    script = ALL_ARRIVES + "asyncio.run(main(int(sys.argv[1])))"
    code, said = await run_here(["unshare", "-Ur", "sh", "-c", lower, "sh"], script, 20, tmp_path)
    assert (code, said) == (0, "all arrived\n")


async def test_more_files_than_descriptors_can_be_followed(tmp_path):
    lower = "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"
    script = ALL_ARRIVES + lower + "asyncio.run(main(int(sys.argv[1])))"
    assert await run_here([], script, 400, tmp_path) == (0, "all arrived\n")


STOPPED = """
import asyncio, sys
from optio_agents.framing.batches import FollowOptions
from optio_agents.hosts.following.local import follow_locally

async def follow(path, count):
    lines = []
    async with follow_locally(path, None, FollowOptions()) as batches:
        async for batch in batches:
            lines += batch.lines
            if len(lines) == 1:
                print("ready", flush=True)
            if len(lines) > count:
                assert lines == [b"begin", *(b"%d" % n for n in range(count))]
                return

async def main(count, *paths):
    await asyncio.gather(*(follow(path, count) for path in paths))
    print("done", flush=True)

asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
"""


async def test_a_supervisor_that_was_stopped_catches_up(tmp_path):
    count = 10_000  # times two: the queue of inotify holds 16,384 events
    paths = [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"begin\n")
    command = [sys.executable, "-c", STOPPED, str(count), *map(str, paths)]
    with anyio.fail_after(BOUND):
        async with await anyio.open_process(command, stderr=None) as supervisor:
            said = b""
            while said != b"ready\nready\n":
                said += await supervisor.stdout.receive()
            supervisor.send_signal(signal.SIGSTOP)
            files = [os.open(path, os.O_WRONLY | os.O_APPEND) for path in paths]
            for n in range(count):
                for file in files:
                    os.write(file, b"%d\n" % n)
            for file in files:
                os.close(file)
            supervisor.send_signal(signal.SIGCONT)
            assert b"".join([more async for more in supervisor.stdout]) == b"done\n"
            assert await supervisor.wait() == 0


def rewrite_at(log, text, stamp):
    with log.open("r+b") as file:
        file.write(text)
    os.utime(log, (stamp, stamp))


@pytest.mark.parametrize("stamp", [0, 2**33])  # as after a step of the clock, either way
async def test_times_of_files_are_not_trusted(tmp_path, stamp):
    log = tmp_path / "log"
    log.touch()
    rewrite_at(log, b"one\n", stamp)
    async with LocalMachine().follow(str(log), None, FollowOptions()) as batches:
        await take(batches, 1)
        async with reading(batches) as lines:
            rewrite_at(log, b"two\n", stamp)
            await until(lambda: lines == [b"two"])
