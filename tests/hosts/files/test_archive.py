"""The work directory as a stream: what was packed is unpacked, and nothing lands elsewhere."""
# ruff: noqa: ASYNC240  # nobody else needs the event loop meanwhile

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from optio_agents.errors import HostLost, TransferFailed, WorkDirRefused
from optio_agents.hosts import Host
from optio_agents.hosts.files.archive import TarFilter
from optio_agents.testing.proxy import FaultProxy
from tests.support.hosts.hosts import Ground, every_kind, over_ssh, usual_kinds

LONG = "d" * 120 + "/" + "e" * 180


async def stream(data: bytes, size: int = 10_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def packed(host: Host, exclude: list[str] | None = None) -> bytes:
    return b"".join([part async for part in host.archive_workdir(exclude)])


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def tar(members: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tree(directory: str | Path) -> dict[str, object]:
    """Everything below *directory*: what it is, its mode, and its content or target."""
    found = dict[str, object]()
    for path in sorted(Path(directory).rglob("*")):
        kind = path.lstat().st_mode
        what = path.readlink() if path.is_symlink() else path.is_file() and path.read_bytes()
        found[str(path.relative_to(directory))] = (oct(kind), what)
    return found


@every_kind
async def test_what_was_packed_is_unpacked(ground: Ground) -> None:
    async with ground.ready() as host:
        await host.put_file_to_host(os.urandom(3_000_000), f"{host.workdir}/sub dir/big")
        await host.write_text("né\nw line", "x")
        await host.write_text(f"{LONG}/deep", "y")
        await host.run_command(
            "mkdir empty; chmod 750 empty; echo '#!/bin/sh' > tool; chmod 755 tool; ln tool hard;"
            " ln -s /usr/bin/env env; ln -s nowhere dangling; chmod 500 'sub dir';"
            f" ln -s {LONG} long"
        )
        before = tree(host.workdir)
        archive = await packed(host)
        # an agent in the directory of somebody else
        await host.launch_subprocess("OPTIO_LOG=/elsewhere/optio.log exec sleep 600")
        await host.run_command("chmod 700 'sub dir'; rm -rf *; echo old > old")
        await host.restore_workdir(stream(archive))
        assert tree(host.workdir) == before
        hard = Path(host.workdir, "hard").stat()
        assert (hard.st_ino, hard.st_uid) == (
            Path(host.workdir, "tool").stat().st_ino,
            Path(host.taskdir).stat().st_uid,
        )
        assert sorted(path.name for path in Path(host.taskdir).iterdir()) == [
            ".optio-task",
            "workdir",
        ]


@usual_kinds
async def test_what_is_excluded_stays_out(ground: Ground) -> None:
    async with ground.ready() as host:
        await host.run_command(
            "mkdir -p a/node_modules/x node_modules b; touch a/node_modules/x/y node_modules/z"
            " a/one.log b/two.txt 'b/with space'"
        )
        archive = await packed(host, ["node_modules", "*.log", "b/with space"])
        await host.restore_workdir(stream(archive))
        assert list(tree(host.workdir)) == ["a", "b", "b/two.txt"]


@usual_kinds
async def test_members_that_would_land_elsewhere_are_left_out(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    outside = ground.directory / "outside"
    outside.mkdir()
    ground.give(outside)
    (outside / "precious").write_text("thesis")
    ground.give(outside / "precious")
    symlink, hardlink = {"type": tarfile.SYMTYPE}, {"type": tarfile.LNKTYPE}
    archive = tar(
        [
            member("fine", b"fine", mode=0o6755),
            member("../outside/precious", b"dotdot"),
            member(f"{outside}/precious", b"absolute"),
            member("a/../../../outside/precious", b"in the middle"),
            member("way", **symlink, linkname=str(outside)),
            member("way/precious", b"through a link"),
            member("./way//precious", b"through a link, disguised"),
            member("way", b"over the link"),
            member("hard", **hardlink, linkname=f"{outside}/precious"),
            member("hard2", **hardlink, linkname="way/precious"),
            member("hard3", **hardlink, linkname="../outside/precious"),
            member("fifo", type=tarfile.FIFOTYPE),
            member("disk", type=tarfile.BLKTYPE, devmajor=8),
            member("tty", type=tarfile.CHRTYPE, devmajor=5),
            member(f"way/{LONG}", b"through a link, with a long name"),
            member("last", b"last"),
        ]
    )
    async with ground.ready() as host:
        await host.restore_workdir(stream(archive))
        assert list(tree(host.workdir)) == ["fine", "last", "way"]
        assert Path(host.workdir, "fine").stat().st_mode & 0o7777 == 0o755
    assert tree(outside) == {"precious": (oct(0o100644), b"thesis")}
    assert "outside/precious" in caplog.text


@usual_kinds
async def test_a_stream_that_breaks_off_leaves_the_work_directory_as_it_was(
    ground: Ground,
) -> None:
    whole = tar([member("new", os.urandom(1_000_000)), member("more", b"x")])
    zipped = gzip.compress(whole, 1)
    async with ground.ready() as host:
        await host.write_text("old", "old")
        broken = {
            "in a member": whole[:500_000],
            "between members": whole[: 1024 + 1_000_448],
            "in the gzip": zipped[:-20],
            "no tar": b"<html>" * 1000,
            "nothing": b"",
            "a broken length": tar([member("x" * 200)])[:512] + b"zz=1\n" + bytes(507),
        }
        for name, data in broken.items():
            with pytest.raises(TransferFailed, match="stays as it was"):
                await host.restore_workdir(stream(data))
            assert list(tree(host.workdir)) == ["old"], name
        with pytest.raises(ZeroDivisionError):
            await host.restore_workdir(_failing(whole))
        assert list(tree(host.taskdir)) == [".optio-task", "workdir", "workdir/old"]
        await host.restore_workdir(stream(zipped))
        assert list(tree(host.workdir)) == ["more", "new"]


@over_ssh
async def test_a_link_that_breaks_leaves_the_work_directory_as_it_was(ground: Ground) -> None:
    assert ground.login
    whole = tar([member("new", os.urandom(3_000_000))])
    async with (
        FaultProxy("127.0.0.1", ground.login.port) as proxy,
        ground.through(proxy.port).ready() as host,
    ):
        await host.write_text("old", "old")
        for after in 100_000, len(whole) - 5000:
            proxy.on_bytes(after, source="client")
            with pytest.raises(HostLost):
                await host.restore_workdir(stream(whole))
            assert list(tree(host.workdir)) == ["old"]
        await host.put_file_to_host(os.urandom(3_000_000), f"{host.workdir}/big")
        proxy.on_bytes(1_000_000)
        with pytest.raises(HostLost):
            await packed(host)


async def test_a_directory_of_the_users_gives_two_things_and_takes_none(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis").write_text("x")
    async with Ground("local", tmp_path, None, None).host(workdir=str(mine)) as host:
        await host.setup_workdir()
        await host.ask("hosts/channel.sh", host.logdir, "start")
        Path(host.logdir, "deliverables", "report").write_text("x")
        with tarfile.open(fileobj=io.BytesIO(await packed(host))) as archive:
            assert archive.getnames() == ["optio.log", "deliverables", "deliverables/report"]
        with pytest.raises(WorkDirRefused, match="user's own"):
            await host.restore_workdir(stream(tar([member("thesis", b"y")])))
    assert (mine / "thesis").read_text() == "x"


async def test_what_cannot_be_packed_is_told(tmp_path: Path) -> None:
    async with Ground("local", tmp_path, None, None).ready() as host:
        await host.run_command(f"rm -rf {host.workdir}")
        with pytest.raises(TransferFailed, match="could not be packed"):
            await packed(host)
    async with Ground("local", tmp_path, None, None).host("other") as unmarked:
        Path(unmarked.workdir).mkdir(parents=True)
        with pytest.raises(WorkDirRefused, match="not made by"):
            await unmarked.restore_workdir(stream(tar([member("x")])))


names = st.sampled_from(["a", "b", "a/b", "../x", "/x", "./c", LONG, "ü", "a/" + LONG])
kinds = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
)
forms = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])


@given(
    st.lists(st.tuples(names, kinds, names, st.binary(max_size=1500)), max_size=8),
    forms,
    st.data(),
)
def test_no_cut_of_the_stream_changes_what_passes(
    drawn: list[tuple[str, bytes, str, bytes]], form: int, data: st.DataObject
) -> None:
    members = [
        member(name, content if kind == tarfile.REGTYPE else b"", type=kind, linkname=target)
        for name, kind, target, content in drawn
    ]
    whole = tar(members, form)
    sieve = TarFilter()
    once = sieve.feed(whole) + sieve.close()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=6)))
    pieces = TarFilter()
    parts = [pieces.feed(whole[a:b]) for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert b"".join(parts) + pieces.close() == once
    assert pieces.left_out == sieve.left_out
    with tarfile.open(fileobj=io.BytesIO(once)) as archive:
        passed = archive.getmembers()
    assert len(passed) + len(sieve.left_out) == len(members)
    links = set[str]()
    for info in passed:
        assert ".." not in info.name.split("/")
        assert not info.name.startswith("/")
        parents = {info.name.rsplit("/", up)[0] for up in range(info.name.count("/") + 1)}
        assert not parents & links
        if info.issym():
            links.add(info.name)


async def _failing(whole: bytes) -> AsyncIterator[bytes]:
    yield whole[:300_000]
    raise ZeroDivisionError
