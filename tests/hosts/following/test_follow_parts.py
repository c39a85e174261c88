"""The parts of following that no whole test can reach: clocks, mounts, old Pythons."""

import ast
import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import anyio
import pytest

from optio_agents.framing.batches import FollowOptions
from optio_agents.framing.compare import TRUSTED_AFTER, FileChunk, Place
from optio_agents.framing.frames import FrameReader
from optio_agents.hosts.following import python_end as follow_python
from optio_agents.hosts.following.local import follow_locally
from optio_agents.hosts.following.python_end import program
from optio_agents.hosts.following.sent import scan
from optio_agents.hosts.following.sent.inotify import SWEEP, Inotify, InotifySource, names_of
from optio_agents.hosts.following.sent.scan import Named, Refused, Scan, gone, same
from tests.support.components import unavailable
from tests.support.hosts.follow_ground import append, replace, take, without_inotify
from tests.support.proc import start_time

BOOT = Path("/proc/sys/kernel/random/boot_id")


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"one\n")
    return path


def scan_of(path, **options):
    return Scan(os.fsencode(path), Place(), **options)


def test_a_file_is_looked_at_again_until_its_times_can_be_trusted(log):
    found = scan_of(log)
    assert found.may_have_changed(0.0)
    assert found.next_chunk(0.0).data == b"one\n"
    assert not found.may_have_changed(TRUSTED_AFTER / 2)
    assert found.may_have_changed(TRUSTED_AFTER)
    assert found.next_chunk(TRUSTED_AFTER).at_end
    assert not found.may_have_changed(99.0)
    append(log, b"two\n")
    assert found.may_have_changed(99.0)
    found.close()


def test_a_missing_file_stirs_when_it_comes(log):
    log.unlink()
    found = scan_of(log)
    assert found.next_chunk(0.0).missing
    assert not found.may_have_changed(99.0)
    log.write_bytes(b"one\n")
    assert found.may_have_changed(99.0)
    assert found.next_chunk(99.0).fresh
    found.close()


def test_a_scan_lets_go_of_what_it_may_not_keep(log, monkeypatch):
    before = Scan.held
    kept = scan_of(log)
    kept.next_chunk(0.0)
    assert Scan.held == before + 1
    few = 4 * (before + 1)
    monkeypatch.setattr(scan.resource, "getrlimit", lambda _: (few, few))
    dropped = scan_of(log)
    assert dropped.next_chunk(0.0).data == b"one\n"
    assert Scan.held == before + 1
    kept.close()
    kept.close()
    assert Scan.held == before
    append(log, b"two\n")
    assert kept.next_chunk(1.0).data == b"two\n"
    kept.close()


def test_a_writer_of_the_old_file_does_not_keep_us_from_the_new_one(log):
    found = scan_of(log)
    found.next_chunk(0.0)
    with log.open("ab") as old:
        replace(log, b"new\n")
        old.write(b"late\n")
        old.flush()
        chunk = found.next_chunk(1.0)
        assert (chunk.data, chunk.at_end) == (b"late\n", False)
        old.write(b"later\n")
    chunk = found.next_chunk(2.0)
    assert (chunk.data, chunk.fresh) == (b"new\n", True)
    found.close()


def test_no_descriptor_left_is_no_end(log, monkeypatch):
    found = scan_of(log)

    def none_left(*_):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as without:
        without.setattr(scan.os, "open", none_left)
        chunk = found.next_chunk(0.0)
        assert chunk == FileChunk()
    assert found.may_have_changed(0.1)
    assert found.next_chunk(0.2).data == b"one\n"
    found.close()


def test_after_the_end_only_a_look_that_finds_nothing_is_final(log):
    found = scan_of(log)
    found.finish()
    chunk = found.next_chunk(0.0)
    assert (chunk.data, chunk.at_end, chunk.final) == (b"one\n", False, False)
    assert found.next_chunk(0.0).final
    log.unlink()
    assert found.next_chunk(0.0).final
    found.close()


@pytest.mark.parametrize("error", [PermissionError(13, "no"), OSError(40, "a loop")])
def test_what_may_not_be_looked_at_is_refused(log, monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(scan.os, "stat", refuse)
    found = scan_of(log)
    assert found.may_have_changed(0.0)
    with pytest.raises(Refused) as refused:
        found.next_chunk(0.0)
    assert refused.value.reason == "unreadable"


def test_a_process_is_gone_when_it_is_a_zombie_or_its_pid_is_somebody_elses():
    boot = BOOT.read_text().strip()
    own = Named(os.getpid(), start_time(os.getpid()), boot)
    assert not gone(own)
    assert gone(own._replace(start=own.start + 1))
    assert gone(own._replace(boot="another"))
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert gone(Named(child.pid, start_time(child.pid), boot))
    assert gone(Named(child.pid, 1, boot))
    assert not same("no such thing", 1)


async def test_a_file_that_may_hang_is_read_by_a_thread(log, monkeypatch):
    monkeypatch.setattr("optio_agents.hosts.following.local.on_network", lambda *_: True)
    async with follow_locally(str(log), None, FollowOptions()) as batches:
        assert await take(batches, 1) == [b"one"]
        with anyio.move_on_after(0.1):
            await anext(batches)  # cancelled in the middle: nothing is lost by that
        append(log, b"two\n")
        assert await take(batches, 1) == [b"two"]
        append(log, b"rest")
        batches.finish()
        assert await take(batches, 1) == [b"rest"]


@pytest.fixture
def source():
    try:
        Inotify().close()
    except OSError as error:
        unavailable(f"no inotify to be had just now: {error}")
    source = InotifySource()
    yield source
    source.close()


def test_a_source_tells_of_directories_that_come_and_go(tmp_path, source):
    directory = tmp_path / "directory"
    source.listen("me", {os.fsencode(directory / "log")})
    assert source.unwatched() == {"me"}
    directory.mkdir()
    source.renew()
    assert not source.unwatched()
    (directory / "log").touch()
    (directory / "other").touch()
    assert source.changed() == {"me"}
    (directory / "other").touch()
    assert source.changed() == set()
    (directory / "log").unlink()
    (directory / "other").unlink()
    directory.rmdir()
    assert source.changed() == {"me"}
    assert source.unwatched() == {"me"}
    directory.mkdir()
    source.renew()
    directory.rename(tmp_path / "elsewhere")
    directory.mkdir()
    source.renew()
    (directory / "log").touch()
    assert "me" in source.changed()
    source.listen("me", set())
    assert not source.unwatched()


def test_one_directory_under_two_names_is_heard_under_both(tmp_path, source):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to("a")
    for name in "ab":
        source.listen(name, {os.fsencode(tmp_path / name / "log")})
    (tmp_path / "a" / "log").touch()
    assert source.changed() == {"a", "b"}
    source.listen("b", set())
    (tmp_path / "a" / "log").write_bytes(b"x")
    assert source.changed() == {"a"}


def test_several_listen_to_one_file_and_one_to_several(tmp_path, source):
    one, two = (os.fsencode(tmp_path / name) for name in ("one", "two"))
    source.listen("both", {one, two})
    source.listen("other", {two})
    (tmp_path / "two").touch()
    assert source.changed() == {"both", "other"}
    source.listen("both", {one})
    (tmp_path / "two").write_bytes(b"x")
    assert source.changed() == {"other"}
    (tmp_path / "one").touch()
    assert source.changed() == {"both"}


def test_a_link_is_listened_to_under_its_name_and_at_what_it_leads_to(log):
    link = log.with_name("link")
    link.symlink_to(log.name)
    assert names_of(os.fsencode(link)) == {os.fsencode(link), os.fsencode(log.resolve())}
    assert names_of(os.fsencode(log)) == {os.fsencode(log)}


async def test_what_cannot_be_heard_is_polled_sooner_than_it_is_swept(log, monkeypatch):
    without_inotify(monkeypatch)
    async with follow_locally(str(log), None, FollowOptions()) as batches:
        await take(batches, 1)
        with anyio.fail_after(SWEEP / 2):
            for word in b"two", b"three":
                append(log, word + b"\n")
                assert await take(batches, 1) == [word]


async def test_a_sweep_tries_again_to_hear(log, monkeypatch):
    asked, again = count(1), anyio.Event()
    without_inotify(monkeypatch, asked=lambda: next(asked) > 1 and again.set())
    async with follow_locally(str(log), None, FollowOptions()):
        with anyio.fail_after(2 * SWEEP):
            await again.wait()


def test_what_an_overflowing_queue_lost_counts_as_changed(tmp_path, source):
    noisy, quiet = [tmp_path / name for name in "ab"], tmp_path / "quiet"
    for path in (*noisy, quiet):
        path.touch()
    for path in (*noisy, quiet):
        source.listen(path, {os.fsencode(path)})
    files = [path.open("wb", buffering=0) for path in noisy]
    events = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for n in range(events + 2):  # equal neighbours would be merged
        files[n % 2].write(b"x")
    quiet.write_bytes(b"x")
    for file in files:
        file.close()
    heard = set()
    while found := source.changed():
        heard |= found
    assert quiet in heard


def test_what_is_sent_to_hosts_is_python_3_7():
    root = Path(follow_python.__file__).parents[2]
    for name in follow_python.MODULES:
        source = root.joinpath(*name.split(".")).with_suffix(".py").read_text()
        tree = ast.parse(source, feature_version=(3, 7))
        assert "annotations" in {
            alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }


async def test_the_far_end_runs_on_its_own(log):
    program_file = log.with_name("program.py")
    program_file.write_bytes(program())
    add = (
        b'{"do": "add", "key": 7, "path": "%s", "root": "", "place": [0, 0, 0, "", 0], '
        b'"process": null, "finished": true, "credit": 9999}\n' % os.fsencode(log)
    )
    done = await anyio.run_process(
        [sys.executable, "-S", "-E", str(program_file)], input=add, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    frames = FrameReader().feed(done.stdout)
    assert b"one\n" in {frame.content.data for frame in frames}
