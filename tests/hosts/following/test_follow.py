"""Following a file: one contract, whoever looks at it."""

import os
import socket
import subprocess
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest

from optio_agents.errors import FileRefused, JournalChanged
from optio_agents.framing.batches import FollowOptions
from optio_agents.hosts.following.local import follow_locally
from optio_agents.hosts.following.remote import RemoteFollows
from optio_agents.hosts.following.sent.scan import Scan
from optio_agents.hosts.local import LocalMachine
from optio_agents.hosts.machine import ProcessId
from optio_agents.hosts.ssh import SshMachine
from tests.support.hosts.follow_ground import (
    append,
    reading,
    replace,
    rewrite,
    take,
    take_all,
    truncate,
    until,
    without_inotify,
)
from tests.support.hosts.hosts import ssh_config
from tests.support.proc import start_time
from tests.support.timeouts import BOUND

LOCAL = ("inotify", "polling")
REMOTE = {"shell": (False, True), "ssh": (True, False)}


@pytest.fixture(params=[*LOCAL, *REMOTE])
def follow(request, monkeypatch):
    """The way under test, as a function of a path, a cursor and options."""
    if request.param in LOCAL:
        way = follow_locally
        if request.param == "polling":
            without_inotify(monkeypatch)
    else:
        way = remotely(request, *REMOTE[request.param])

    def follow(path, cursor=None, **options):
        return way(str(path), cursor, FollowOptions(**options))

    return follow


def remotely(request, over_ssh, by_shell):
    if over_ssh:
        login = request.getfixturevalue("ssh_login")()
        make = partial(SshMachine, ssh_config(login))
    else:
        make = LocalMachine

    @asynccontextmanager
    async def follow(path, cursor, options):
        machine = make()
        try:
            follows = RemoteFollows(machine, by_shell=by_shell)
            async with follows.follow(path, cursor, options) as batches:
                yield batches
        finally:
            await machine.close()

    return follow


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


async def test_appended_lines_come_whole_once_and_in_order(follow, log):
    log.write_bytes(b"one\ntw")
    async with follow(log) as batches:
        assert await take(batches, 1) == [b"one"]
        append(log, b"o\r\n\n")
        assert await take(batches, 2) == [b"two\r", b""]
        append(log, b"\xff\0three\nrest")
        batch = await anext(batches)
        assert batch.lines == [b"\xff\0three"]
        assert batch.ends == [batch.cursor.offset] == [log.stat().st_size - 4]
        assert batch.cursor.lines == 4


async def test_a_missing_file_is_waited_for_and_so_is_its_directory(follow, tmp_path):
    path = tmp_path / "not" / "yet" / "log"
    async with follow(path) as batches, reading(batches) as lines:
        await until(lambda: batches.caught_up)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"here\n")
        await until(lambda: lines == [b"here"])
        append(path, b"more\n")
        await until(lambda: lines == [b"here", b"more"])


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


SLOW = pytest.mark.parametrize("follow", ["inotify", "shell", "ssh"], indirect=True)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Path.mkdir, "directory"),
        (make_fifo, "special"),
        (make_socket, "special"),
        (lambda path: path.symlink_to("/dev/null"), "special"),
        (lambda path: path.symlink_to("/etc/hostname"), "outside"),
    ],
)
async def test_what_is_no_regular_file_below_its_root_is_refused_at_once(follow, log, make, reason):
    make(log)
    async with follow(log, root=str(log.parent)) as batches:
        with anyio.fail_after(BOUND), pytest.raises(FileRefused) as refused:
            await anext(batches)
    assert refused.value.reason == reason


@pytest.mark.parametrize("follow", [*LOCAL, "ssh"], indirect=True)  # a shell waits for it
async def test_a_link_to_itself_is_refused(follow, log):
    log.symlink_to(log.name)
    async with follow(log) as batches:
        with anyio.fail_after(BOUND), pytest.raises(FileRefused) as refused:
            await anext(batches)
    assert refused.value.reason == "unreadable"


async def test_a_file_that_becomes_something_else_is_refused(follow, log):
    log.write_bytes(b"one\n")
    async with follow(log) as batches:
        await take(batches, 1)
        log.unlink()
        os.mkfifo(log)
        with anyio.fail_after(BOUND), pytest.raises(FileRefused):
            await anext(batches)


async def test_a_root_that_becomes_a_link_leads_nowhere(follow, tmp_path):
    work, foreign = tmp_path / "work", tmp_path / "foreign"
    work.mkdir()
    foreign.mkdir()
    (work / "log").write_bytes(b"one\n")
    (foreign / "log").write_bytes(b"one\nsecret\n")
    async with follow(work / "log", root=str(work)) as batches:
        await take(batches, 1)
        work.rename(tmp_path / "moved")
        work.symlink_to(foreign)
        with anyio.fail_after(BOUND), pytest.raises(FileRefused) as refused:
            await anext(batches)
    assert refused.value.reason == "outside"


async def test_links_below_the_root_are_followed_wherever_they_lead_next(follow, log):
    (log.parent / "a").write_bytes(b"a\n")
    (log.parent / "sub").mkdir()
    target = log.parent / "sub" / "b"
    log.symlink_to("a")
    async with follow(log, root=str(log.parent)) as batches, reading(batches) as lines:
        await until(lambda: lines == [b"a"])
        target.write_bytes(b"b\n")
        log.unlink()
        log.symlink_to(target)
        await until(lambda: lines == [b"a", b"b"])
        append(target, b"more\n")
        await until(lambda: lines[2:] == [b"more"])


OLD = [b"old line %5d" % n + b"." * 35 for n in range(100)]
SHORTER = [b"new line %5d" % n + b"." * 35 for n in range(50)]
EQUAL = [b"new line %5d" % n + b"." * 35 for n in range(100)]
LONGER = [b"new line %5d" % n + b"." * 35 for n in range(150)]


def text(lines):
    return b"".join(line + b"\n" for line in lines)


async def overwrite_slowly(path, data):
    path.write_bytes(b"")
    await anyio.sleep(0.15)
    append(path, data)


@pytest.mark.parametrize(
    ("change", "new"),
    [
        pytest.param(Path.write_bytes, SHORTER, id="> shorter"),
        pytest.param(Path.write_bytes, EQUAL, id="> same length"),
        pytest.param(Path.write_bytes, LONGER, id="> longer"),
        pytest.param(Path.write_bytes, OLD, id="> identical content"),
        pytest.param(overwrite_slowly, EQUAL, id="> same length, slowly"),
        pytest.param(overwrite_slowly, LONGER, id="> longer, slowly"),
        pytest.param(overwrite_slowly, OLD, id="> identical content, slowly"),
        pytest.param(rewrite, EQUAL, id="in-place rewrite, same length"),
        pytest.param(replace, SHORTER, id="mv over, shorter"),
        pytest.param(replace, EQUAL, id="mv over, equal"),
        pytest.param(replace, LONGER, id="mv over, longer"),
        pytest.param(replace, OLD, id="mv over, identical content"),
        pytest.param(replace, [*OLD, b"and", b"more"], id="mv over, old lines and more"),
        pytest.param(replace, OLD[:50], id="mv over, some of the old lines"),
    ],
)
async def test_a_rewrite_loses_and_repeats_nothing(follow, log, change, new):
    log.write_bytes(text(OLD))
    fresh = new if new[:1] != OLD[:1] else new[len(OLD) :]
    async with follow(log) as batches, reading(batches) as lines:
        await until(lambda: lines == OLD)
        if change is overwrite_slowly:
            await change(log, text(new))
        else:
            change(log, text(new))
        await until(lambda: lines[len(OLD) :] == fresh)
        append(log, b"appended\n")
        await until(lambda: lines[len(OLD) :] == [*fresh, b"appended"])


async def test_deleted_and_made_again_is_a_new_generation(follow, log):
    log.write_bytes(b"one\ntwo\n")
    async with follow(log) as batches:
        assert (await anext(batches)).cursor.generation == 0
        log.unlink()
        log.write_bytes(b"one\nthree\n")
        with anyio.fail_after(BOUND):
            batch = await anext(batches)
        assert batch.lines == [b"three"]
        assert batch.cursor.generation == 1
        assert len(batch.digests) == 2 * 8


@pytest.mark.parametrize("follow", [*LOCAL, "ssh"], indirect=True)  # a shell keeps nothing open
async def test_what_was_written_before_a_rename_comes_before_what_was_written_after(follow, log):
    log.write_bytes(b"one\n")
    async with follow(log) as batches:
        await take(batches, 1)
        append(log, b"two\nhalf")
        log.rename(log.with_name("log.1"))
        log.write_bytes(b"three\n")
        assert await take(batches, 2) == [b"two", b"three"]


async def test_a_saved_cursor_goes_on_where_it_was(follow, log):
    log.write_bytes(text(OLD))
    digests = b""
    async with follow(log) as batches:
        while len(digests) < 8 * len(OLD):
            batch = await anext(batches)
            digests += batch.digests
    saved = {"cursor": batch.cursor, "delivered": digests}
    append(log, b"more\n")
    async with follow(log, **saved) as batches:
        assert await take(batches, 1) == [b"more"]
    replace(log, text(OLD) + b"other\n")
    async with follow(log, **saved) as batches:
        assert await take(batches, 1) == [b"other"]
    rewrite(log, log.read_bytes()[::-1][1:] + b"\n")
    async with follow(log, **saved) as batches:
        assert len(await take(batches, 101)) == 101


@pytest.mark.parametrize(
    "change", [Path.unlink, partial(truncate, size=2), partial(replace, data=text(OLD))]
)
async def test_a_journal_that_is_changed_is_an_error(follow, log, change):
    log.write_bytes(text(OLD))
    async with follow(log, journal=True) as batches:
        assert await take(batches, 100) == OLD
        append(log, b"more\n")
        assert await take(batches, 1) == [b"more"]
        change(log)
        with anyio.fail_after(BOUND), pytest.raises(JournalChanged):
            await anext(batches)


async def test_a_line_beyond_the_limit_is_cut(follow, log):
    log.write_bytes(b"x" * 1_000_000 + b"\nshort\n")
    async with follow(log, limit=1000) as batches:
        batch = await anext(batches)
        assert (batch.lines[:1], batch.ends[:1]) == ([b"x" * 1000], [1_000_001])
        assert batch.cut == {0: 1_000_000}


@SLOW
async def test_the_rest_is_seen_and_comes_when_it_is_ripe(follow, log):
    log.write_bytes(b"a\nDON")
    async with follow(log, ripe=lambda rest: rest == b"DONE") as batches:
        await take(batches, 1)
        async with reading(batches) as lines:
            await until(lambda: batches.rest == b"DON" and batches.rest_since is not None)
            append(log, b"E")
            await until(lambda: batches.rest == b"DONE")
            since = batches.rest_since
            await until(lambda: lines == [b"DONE"])
            assert anyio.current_time() >= since + 2
            assert (batches.rest, batches.rest_since) == (b"", None)
            append(log, b"\nb\n")
            await until(lambda: lines == [b"DONE", b"b"])


async def test_finish_reads_to_the_end_and_delivers_the_rest(follow, log):
    log.write_bytes(b"a\n")
    async with follow(log) as batches:
        await take(batches, 1)
        append(log, b"b\n" * 300_000 + b"rest")
        batches.finish()
        got = []
        with anyio.fail_after(BOUND):
            async for batch in batches:
                got += batch.lines
        assert batch.unterminated
        assert got == [b"b"] * 300_000 + [b"rest"]
        with pytest.raises(StopAsyncIteration):
            await anext(batches)


async def test_finish_ends_the_wait_for_a_file_that_never_came(follow, log):
    async with follow(log) as batches:
        batches.finish()
        assert await take_all(batches) == []


def writer_of(log):
    script = f"read go; echo one >>'{log}'; printf two >>'{log}'"
    writer = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return writer, ProcessId(writer.pid, start_time(writer.pid), boot)


@SLOW
async def test_the_end_of_the_process_ends_the_following_behind_its_last_word(follow, log):
    writer, process = writer_of(log)
    async with follow(log, process=process) as batches:
        async with reading(batches) as lines:
            await until(lambda: batches.caught_up)
            assert not lines
        writer.stdin.write(b"go\n")
        writer.stdin.close()
        assert await take_all(batches) == [b"one", b"two"]
    assert writer.wait() == 0  # until now it was a zombie


async def test_a_slow_reader_delays_the_next_read(follow, log):
    log.write_bytes(b"x" * 99 + b"\n")
    async with follow(log) as batches:
        await take(batches, 1)
        append(log, (b"x" * 99 + b"\n") * 100_000)
        batch = await anext(batches)
        await anyio.sleep(0.3)  # time enough to read on, if anybody did
        assert not batches.caught_up
        truncate(log, 0)
        lines = len(batch.lines)
        append(log, b"new\n")
        while batch.lines != [b"new"]:
            with anyio.fail_after(BOUND):
                batch = await anext(batches)
            lines += len(batch.lines)
        assert lines < 50_000  # what was not read when it was cut off is gone


async def test_one_huge_file_does_not_starve_the_small_ones(follow, tmp_path):
    huge, small = tmp_path / "huge", tmp_path / "small"
    huge.write_bytes((b"x" * 53 + b"\n") * 1_000_000)
    small.write_bytes(b"")
    count = 0

    async def devour():
        nonlocal count
        async for batch in many:
            count += len(batch.lines)

    async with follow(huge) as many, follow(small) as few, anyio.create_task_group() as tasks:
        tasks.start_soon(devour)
        await until(lambda: count > 0)
        append(small, b"small\n")
        await take(few, 1)
        assert count < 1_000_000
        tasks.cancel_scope.cancel()


async def test_a_line_without_an_end_does_not_starve_the_others(follow, tmp_path, monkeypatch):
    monkeypatch.setattr(Scan, "_hole", lambda *_: 0)  # as if somebody had written all that
    endless, small = tmp_path / "endless", tmp_path / "small"
    endless.touch()
    truncate(endless, 2 << 40)
    small.write_bytes(b"")

    async with follow(endless) as one, follow(small) as few, anyio.create_task_group() as tasks:
        tasks.start_soon(anext, one)
        await until(lambda: one.rest)
        append(small, b"small\n")
        await take(few, 1)
        tasks.cancel_scope.cancel()


async def test_what_was_never_written_need_not_be_read(follow, log):
    log.write_bytes(b"one\ntwo")
    size = 2 << 40
    truncate(log, size)
    append(log, b"three\nfour\n")
    async with follow(log) as batches:
        batches.finish()
        with anyio.fail_after(BOUND):
            found = [batch async for batch in batches]
    assert [line for batch in found for line in batch.lines] == [
        b"one",
        b"two".ljust(1 << 20, b"\0"),
        b"four",
    ]
    assert [cut for batch in found for cut in batch.cut.values()] == [size + len("three") - 4]
    assert found[-1].ends[-1] == log.stat().st_size == size + len("three\nfour\n")
    async with follow(log, found[-1].cursor) as batches:
        append(log, b"five\n")
        assert await take(batches, 1) == [b"five"]


async def test_many_short_lines_come_in_batches_that_hold_up_nobody(follow, log):
    log.write_bytes(b"\n" * 300_000)
    async with follow(log) as batches:
        batches.finish()
        with anyio.fail_after(BOUND):
            sizes = [len(batch.lines) async for batch in batches]
    assert sum(sizes) == 300_000
    assert max(sizes) < 2_000


@pytest.mark.parametrize("name", ["it's", "a b ", "--x\\", "new\nline", "\udcff", "$HOME", "ü"])
async def test_any_name_will_do(follow, tmp_path, name, request):
    if "\n" in name and "shell" in request.node.callspec.id:
        pytest.skip("refused, as another test says")
    path = tmp_path / name
    path.write_bytes(b"here\n")
    async with follow(path) as batches:
        assert await take(batches, 1) == [b"here"]
        append(path, b"there\n")
        assert await take(batches, 1) == [b"there"]
