"""Files to and from a host land whole or not at all, whatever happens on the way."""
# ruff: noqa: ASYNC240  # nobody else needs the event loop meanwhile

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from optio_agents.errors import CommandTimedOut, FileRefused, HostLost, TransferFailed
from optio_agents.hosts import Host
from optio_agents.hosts.files.put import Readable
from optio_agents.testing.proxy import FaultProxy
from tests.support.hosts.disks import disk_at
from tests.support.hosts.hosts import Ground, both_ways, every_kind, over_ssh, usual_kinds
from tests.support.timeouts import BOUND

SIZES = (0, 1, 262_144, 262_145, 3_000_000)
BIG = 8_000_000


def parts(directory: str | Path) -> list[str]:
    """Temporary files that a transfer left behind."""
    return [path.name for path in Path(directory).rglob(".optio-*.part")]


async def pieces(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


# To the host


@every_kind
async def test_every_kind_of_source_arrives(ground: Ground, tmp_path: Path) -> None:
    path = tmp_path / "source"
    async with ground.ready() as host:
        for size in SIZES:
            content = os.urandom(size)
            await _arrives(host, content, content)
        path.write_bytes(content)
        for source in (path, str(path), pieces(content)):
            await _arrives(host, source, content)
        await _arrives(host, pieces(b"few"), b"few")
        assert not parts(host.workdir)


async def _arrives(host: Host, source: Readable, content: bytes) -> None:
    target = f"{host.workdir}/a b/-n'\n"
    done = await host.put_file_to_host(source, target)
    assert Path(target).read_bytes() == content
    assert (done.size, done.sha256, done.sent) == (len(content), "", True)
    await host.remove_file(target)


@usual_kinds
async def test_a_mode_is_kept(ground: Ground, tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.write_text("#!/bin/sh\necho runs\n")
    source.chmod(0o755)
    async with ground.ready() as host:
        tool = f"{host.workdir}/tool"
        await host.put_file_to_host(source, tool)
        assert (await host.run_command("umask; ./tool")).stdout == "0022\nruns\n"
        await host.run_command("chmod 640 tool")
        await host.put_file_to_host(source, tool)
        assert Path(tool).stat().st_mode & 0o777 == 0o640
        await host.put_file_to_host(b"x", f"{host.workdir}/plain")
        assert Path(host.workdir, "plain").stat().st_mode & 0o777 == 0o644


@usual_kinds
async def test_a_link_is_replaced_and_a_directory_refused(ground: Ground) -> None:
    async with ground.ready() as host:
        await host.run_command("echo old > real; ln -s real link; ln -s nowhere dangling; mkdir d")
        for name in "link", "dangling":
            await host.put_file_to_host(b"new", f"{host.workdir}/{name}")
            assert not Path(host.workdir, name).is_symlink()
        assert Path(host.workdir, "real").read_text() == "old\n"
        assert not Path(host.workdir, "nowhere").exists()
        with pytest.raises(FileRefused, match="is a directory"):
            await host.put_file_to_host(b"x", f"{host.workdir}/d")
        assert not parts(host.workdir)


@both_ways
@pytest.mark.parametrize("size", [10, 2_000_000])
async def test_the_last_of_several_writers_wins_whole(ground: Ground, size: int) -> None:
    async with ground.ready() as host:
        target = f"{host.workdir}/target"
        contents = [bytes([number]) * size for number in range(6)]
        async with anyio.create_task_group() as tasks:
            for content in contents:
                tasks.start_soon(host.put_file_to_host, content, target)
        assert Path(target).read_bytes() in contents
        assert not parts(host.workdir)


@usual_kinds
@pytest.mark.parametrize("size", [10, 2_000_000])
async def test_an_expected_checksum_is_compared_with_what_was_written(
    ground: Ground, size: int
) -> None:
    content = os.urandom(size)
    digest = hashlib.sha256(content).hexdigest()
    async with ground.ready() as host:
        target = f"{host.workdir}/target"
        done = await host.put_file_to_host(content, target, expected_sha256=digest.upper())
        assert done.sha256 == digest
        with pytest.raises(TransferFailed, match="SHA-256"):
            await host.put_file_to_host(content[:-1], target, expected_sha256=digest)
        assert Path(target).read_bytes() == content
        assert not parts(host.workdir)


@usual_kinds
async def test_what_stands_there_already_is_skipped(ground: Ground, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / "source").write_bytes(content)
    async with ground.ready() as host:
        target = Path(host.workdir, "target")

        async def sent(source: Readable, expected: str | None = None) -> bool:
            done = await host.put_file_to_host(
                source,
                str(target),
                expected_sha256=expected,
                skip_if_unchanged=True,
            )
            assert target.read_bytes() == content
            assert done.sha256 in {digest, ""}
            return done.sent

        assert await sent(content)
        before = target.stat()
        assert not await sent(content)
        assert not await sent(tmp_path / "source")
        assert not await sent(pieces(content), digest)
        assert target.stat() == before
        assert await sent(pieces(content))  # nobody knows before the end
        target.write_bytes(content[:-1] + b"x")
        assert await sent(content)


@both_ways
async def test_a_source_that_fails_leaves_the_target_alone(ground: Ground, tmp_path: Path) -> None:
    async def failing(before: int) -> AsyncIterator[bytes]:
        yield b"x" * before
        raise ZeroDivisionError

    async with ground.ready() as host:
        await host.write_text("target", "old")
        for before in 10, 3_000_000:
            with pytest.raises(ZeroDivisionError):
                await host.put_file_to_host(failing(before), f"{host.workdir}/target")
        with pytest.raises(TransferFailed, match="cannot be read"):
            await host.put_file_to_host(tmp_path / "absent", f"{host.workdir}/target")
        await _none_left(host)
        assert Path(host.workdir, "target").read_text() == "old"


@both_ways
async def test_a_source_that_changes_while_it_is_read_is_not_handed_over(
    ground: Ground, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(BIG))

    async with ground.ready() as host:
        await host.write_text("target", "old")
        with _growing(source), pytest.raises(TransferFailed, match="changed while it was read"):
            await host.put_file_to_host(source, f"{host.workdir}/target")
        await _none_left(host)
        assert Path(host.workdir, "target").read_text() == "old"


@over_ssh
@pytest.mark.parametrize("way", ["cut", "close"])
@pytest.mark.parametrize("after", [100_000, 4_000_000])
async def test_a_put_whose_link_breaks_leaves_the_target_alone(
    ground: Ground, way: str, after: int
) -> None:
    assert ground.login
    async with (
        FaultProxy("127.0.0.1", ground.login.port) as proxy,
        ground.through(proxy.port).ready() as host,
    ):
        await host.write_text("target", "old")
        broken = proxy.on_bytes(after, source="client", then=getattr(proxy, way))
        with pytest.raises(HostLost):
            await host.put_file_to_host(os.urandom(BIG), f"{host.workdir}/target")
        assert broken.is_set()
        await _none_left(host)
        assert Path(host.workdir, "target").read_text() == "old"


@over_ssh
async def test_a_put_over_a_stalled_link_fails_in_time(ground: Ground) -> None:
    assert ground.login
    async with FaultProxy("127.0.0.1", ground.login.port) as proxy:
        quick = ground.through(proxy.port, keepalive=0.2, keepalive_count=2)
        async with quick.ready() as host:
            await host.write_text("target", "old")
            proxy.on_bytes(2_000_000, source="client", then=proxy.stall)
            with pytest.raises(HostLost):
                await host.put_file_to_host(os.urandom(BIG), f"{host.workdir}/target")
            proxy.cut()
            proxy.flow()
            await _none_left(host)
            assert Path(host.workdir, "target").read_text() == "old"


@both_ways
async def test_cancelling_a_put_leaves_nothing(ground: Ground) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)

    async with ground.ready() as host:
        with anyio.move_on_after(0.3):
            await host.put_file_to_host(endless(), f"{host.workdir}/target")
        await _none_left(host)
        assert not Path(host.workdir, "target").exists()


@both_ways
async def test_a_full_disk_is_told_and_leaves_the_target_alone(
    ground: Ground, tmp_path: Path
) -> None:
    async with ground.ready() as host:
        with disk_at(Path(host.workdir, "disk"), "1m") as disk:
            (disk / "target").write_text("old")
            for source in os.urandom(BIG), pieces(os.urandom(BIG)), os.urandom(200_000):
                (disk / "filling").write_bytes(bytes(900_000 if len_of(source) < BIG else 10))
                with pytest.raises(TransferFailed, match="No space left"):
                    await host.put_file_to_host(source, f"{disk}/target")
                assert (disk / "target").read_text() == "old"
                assert not parts(disk)
        with disk_at(tmp_path / "here", "1m") as disk:
            (disk / "target").write_text("old")
            await host.put_file_to_host(os.urandom(BIG), f"{host.workdir}/big")
            with pytest.raises(TransferFailed, match="No space left"):
                await host.fetch_file("big", disk / "target")
            assert (disk / "target").read_text() == "old"
            assert not parts(disk)


# From the host


@every_kind
async def test_a_file_arrives_whole(ground: Ground, tmp_path: Path) -> None:
    name, target = "a b/-n'\n", tmp_path / "target"
    async with ground.ready() as host:
        for size in SIZES:
            content = os.urandom(size)
            await host.put_file_to_host(content, f"{host.workdir}/{name}")
            assert await host.fetch_bytes_from_host(f"{host.workdir}/{name}") == content
            done = await host.fetch_file(name, target)
            assert target.read_bytes() == content
            assert (done.size, done.path) == (size, target)
            assert done.sha256 == hashlib.sha256(content).hexdigest()
            into = io.BytesIO()
            assert (await host.fetch_file(name, into)).path is None
            assert into.getvalue() == content
        assert not parts(tmp_path)


@both_ways
async def test_a_fetched_file_keeps_its_mode(ground: Ground, tmp_path: Path) -> None:
    async with ground.ready() as host:
        await host.run_command("echo x > tool; chmod 750 tool; echo x > shut; chmod 400 shut")
        for name, mode in ("tool", 0o750), ("shut", 0o400):
            await host.fetch_file(name, tmp_path / name)
            assert (tmp_path / name).stat().st_mode & 0o777 == mode
        (tmp_path / "tool").chmod(0o600)
        await host.fetch_file("tool", tmp_path / "tool")
        assert (tmp_path / "tool").stat().st_mode & 0o777 == 0o600


@both_ways
async def test_what_cannot_be_fetched_leaves_the_destination_alone(
    ground: Ground, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_text("old")
    async with ground.ready() as host:
        await host.run_command("mkdir d; mkfifo fifo; head -c 3000000 /dev/zero > big; ln -s / up")
        cases = {"d": "directory", "fifo": "special", "absent": "missing", "big": "too-large"}
        for name, reason in cases.items():
            with pytest.raises(FileRefused) as refused:
                await host.fetch_file(name, target, max_bytes=2_999_999)
            assert refused.value.reason == reason
        with pytest.raises(FileRefused, match="leads out"):
            await host.fetch_file("up/etc/passwd", target, root=".")
        with pytest.raises(TransferFailed, match="No such file"):
            await host.fetch_file("big", tmp_path / "absent" / "target")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["target"]


@over_ssh
@pytest.mark.parametrize("way", ["cut", "close"])
async def test_a_broken_fetch_goes_on_where_it_was(
    ground: Ground, tmp_path: Path, way: str
) -> None:
    assert ground.login
    content = os.urandom(BIG)
    async with (
        FaultProxy("127.0.0.1", ground.login.port) as proxy,
        ground.through(proxy.port).ready() as host,
    ):
        await host.put_file_to_host(content, f"{host.workdir}/big")
        for after in 1000, 3_000_000, 6_000_000:
            broken = proxy.on_bytes(after, source="server", then=getattr(proxy, way))
            done = await host.fetch_file("big", tmp_path / "target")
            assert broken.is_set()
            assert (tmp_path / "target").read_bytes() == content
            assert done.sha256 == hashlib.sha256(content).hexdigest()
        assert not parts(tmp_path)


@over_ssh
async def test_a_broken_fetch_without_a_digest_fails(ground: Ground, tmp_path: Path) -> None:
    assert ground.login
    (tmp_path / "target").write_text("old")
    async with (
        FaultProxy("127.0.0.1", ground.login.port) as proxy,
        ground.through(proxy.port).ready() as host,
    ):
        content = os.urandom(BIG)
        await host.put_file_to_host(content, f"{host.workdir}/big")
        proxy.on_bytes(3_000_000, source="server")
        with pytest.raises(HostLost):
            await host.fetch_file("big", tmp_path / "target", digest=False)
        assert (tmp_path / "target").read_text() == "old"
        done = await host.fetch_file("big", tmp_path / "target", digest=False)
        assert (tmp_path / "target").read_bytes() == content
        assert done.sha256 == ""


@over_ssh
@pytest.mark.parametrize(
    "change", ["printf x >> big", "cp big x; mv x big", "printf x | dd of=big conv=notrunc"]
)
async def test_a_fetch_does_not_go_on_with_another_file(
    ground: Ground, tmp_path: Path, change: str
) -> None:
    assert ground.login
    (tmp_path / "target").write_text("old")
    async with (
        FaultProxy("127.0.0.1", ground.login.port) as proxy,
        ground.ready() as direct,
        ground.through(proxy.port).ready("other") as host,
    ):
        big = f"{direct.workdir}/big"
        await direct.put_file_to_host(os.urandom(BIG), big)

        def break_off() -> None:
            proxy.cut()
            proxy.refuse()

        broken = proxy.on_bytes(3_000_000, source="server", then=break_off)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_changed, host, big, tmp_path / "target")
            await broken.wait()
            assert (await direct.run_command(change)).exit_code == 0
            proxy.accept()
        assert (tmp_path / "target").read_text() == "old"
        assert not parts(tmp_path)


@over_ssh
async def test_a_host_that_stays_away_is_waited_for_until_the_caller_gives_up(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time without a link is no time: the bound of what brings nothing does not run in it."""
    assert ground.login
    monkeypatch.setattr("optio_agents.hosts.files.fetch._FRUITLESS", 0.0)
    async with (
        FaultProxy("127.0.0.1", ground.login.port) as proxy,
        ground.through(proxy.port).ready() as host,
    ):
        content = os.urandom(BIG)
        await host.put_file_to_host(content, f"{host.workdir}/big")

        def break_off() -> None:
            proxy.cut()
            proxy.refuse()

        proxy.on_bytes(3_000_000, source="server", then=break_off)
        with anyio.move_on_after(2) as patience:
            await host.fetch_file("big", tmp_path / "target")
        assert patience.cancelled_caught
        assert not list(tmp_path.iterdir())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.fetch_file, "big", tmp_path / "target")
            await anyio.sleep(1)
            proxy.accept()
        assert (tmp_path / "target").read_bytes() == content


@over_ssh
async def test_a_host_that_is_there_and_brings_nothing_is_told(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio_agents.hosts.files.fetch._FRUITLESS", 1.0)
    monkeypatch.setattr("optio_agents.hosts.files.confined._OPENING", 0.2)
    monkeypatch.setattr("optio_agents.hosts.files.confined.script", lambda *_: "sleep 60")
    async with ground.ready() as host:
        with pytest.raises(CommandTimedOut):
            await host.fetch_file("anything", tmp_path / "target")
        assert not list(tmp_path.iterdir())


# Progress


@both_ways
async def test_a_long_copy_is_told_also_while_nothing_moves(ground: Ground, tmp_path: Path) -> None:
    told = list[float | None]()

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield bytes(200_000)
            so_far = len(told)
            while len(told) < so_far + 2:  # noqa: ASYNC110
                await anyio.sleep(0.01)

    async with ground.ready() as host:

        def tell(percent: float | None, _message: str | None) -> None:
            told.append(percent)

        await host.put_file_to_host(slow(), f"{host.workdir}/target", progress_cb=tell)
        assert told[-1] == 100.0
        seen = list[tuple[int, int | None]]()
        await host.fetch_file(
            "target", tmp_path / "target", progress=lambda *how_far: seen.append(how_far)
        )
        assert seen[-1] == (800_000, 800_000)


@pytest.mark.parametrize("ground", ["me"], indirect=True)
async def test_memory_is_bounded(ground: Ground, tmp_path: Path) -> None:
    with (tmp_path / "source").open("wb") as file:  # tests/bench has 1 GiB
        file.truncate(128 << 20)
    async with ground.ready() as host:
        await host.run_command("true")
        idle = _resident()
        peak = 0

        def look(_percent: float | None, _message: str | None) -> None:
            nonlocal peak
            peak = max(peak, _resident())

        await host.put_file_to_host(tmp_path / "source", f"{host.workdir}/big", progress_cb=look)
        await host.fetch_file(
            "big", tmp_path / "target", progress=lambda _done, _total: look(None, None)
        )
        assert peak - idle < 40 << 20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def len_of(source: Readable) -> int:
    return len(source) if isinstance(source, bytes) else BIG


async def _changed(host: Host, path: str, target: Path) -> None:
    with pytest.raises((TransferFailed, FileRefused), match="changed"):
        await host.fetch_file(path, target)


@contextmanager
def _growing(source: Path) -> Iterator[None]:
    ended = threading.Event()

    def grow() -> None:
        with source.open("ab", buffering=0) as file:
            while not ended.wait(0.0001):
                file.write(b"x")

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


async def _none_left(host: Host) -> None:
    """The far side notices a broken link in its own time."""
    with anyio.fail_after(BOUND):
        while parts(host.workdir):  # noqa: ASYNC110
            await anyio.sleep(0.01)
