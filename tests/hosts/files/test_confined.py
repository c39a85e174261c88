"""Deliverables are opened first and judged by what was opened, on the host that owns them."""
# ruff: noqa: ASYNC240  # nobody else needs the event loop meanwhile

from __future__ import annotations

import io
import os
import resource
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
import pytest

from optio_agents.errors import CommandTimedOut, FileRefused, HostError
from optio_agents.hosts import Host
from optio_agents.hosts.files import confined
from optio_agents.hosts.local import LocalMachine
from optio_agents.testing.proxy import FaultProxy
from tests.support.hosts.hosts import Ground, both_ways, every_kind, over_ssh, usual_kinds
from tests.support.timeouts import BOUND

INLINE = 262_144  # what comes in one round trip


@every_kind
async def test_a_file_below_its_root_is_read_whole(ground: Ground) -> None:
    async with ground.ready() as host:
        root = _deliverables(ground, host)
        for size in 0, 1, INLINE, INLINE + 1, 3_000_000:
            content = os.urandom(size)
            path = ground.give(_file(root / "a b'\n\tü.bin", content))
            async with host.open_confined(f"deliverables/{path.name}", "deliverables") as file:
                assert (file.size, file.real_path) == (size, os.path.realpath(path))
                assert await file.read() == content
                assert await file.read() == b""
            async with host.open_confined(str(path), f"{root}/") as again:
                assert again.identity == file.identity


async def test_that_we_are_out_of_descriptors_is_not_the_fault_of_the_file(tmp_path: Path) -> None:
    file = _file(tmp_path / "a", b"x")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Host(LocalMachine(), str(tmp_path / "task")) as host:
        await anyio.to_thread.run_sync(int)  # the thread that opens files
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            with pytest.raises(HostError, match="Too many open files") as failure:
                async with host.open_confined(str(file), str(tmp_path)):
                    pytest.fail("it had a descriptor")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not isinstance(failure.value, FileRefused)


@usual_kinds
async def test_what_cannot_be_handed_over_is_refused_with_its_reason(ground: Ground) -> None:
    async with ground.ready() as host:
        root = _deliverables(ground, host)
        secret = ground.give(_file(Path(host.workdir, "secret"), b"secret"))
        (root / "dir").mkdir()
        os.mkfifo(root / "fifo")
        with socket.socket(socket.AF_UNIX) as listening, _inside(root):
            listening.bind("socket")
        (root / "dangling").symlink_to("nowhere")
        (root / "loop").symlink_to("loop")
        (root / "out").symlink_to(secret)
        (root / "zero").symlink_to("/dev/zero")
        (root / "up").symlink_to("..")
        _file(root / "large", b"x" * 11)
        reasons = {
            "dir": "directory",
            "up": "directory",
            "": "directory",
            "fifo": "special",
            "zero": "special",
            "socket": "special",
            "dangling": "missing",
            "loop": "missing" if ground.ssh else "unreadable",
            "absent": "missing",
            "x" * 256: "missing",
            "large/x": "missing",
            "out": "outside",
            "up/secret": "outside",
            "../secret": "outside",
            "large": "too-large",
            "second-name": "linked",
        }
        os.link(secret, root / "second-name")
        for name, reason in reasons.items():
            assert await _refused(host, f"deliverables/{name}", limit=10) == reason, name
        for name in "/etc/passwd", str(secret), "deliverables/../../../secret":
            assert await _refused(host, name) in {"outside", "missing"}, name


@usual_kinds
async def test_links_that_stay_inside_are_followed(ground: Ground) -> None:
    async with ground.ready() as host:
        root = _deliverables(ground, host)
        (root / "sub").mkdir()
        path = ground.give(_file(root / "sub" / "real", b"content"))
        (root / "link").symlink_to("sub/real")
        (root / "dir").symlink_to("sub")
        for name in "link", "dir/real", "sub/../link":
            async with host.open_confined(f"deliverables/{name}", "deliverables") as file:
                assert file.real_path == os.path.realpath(path)
                assert await file.read() == b"content"


@usual_kinds
async def test_the_root_is_resolved_but_is_no_link_itself(ground: Ground) -> None:
    async with ground.ready() as host:
        root = _deliverables(ground, host)
        ground.give(_file(root / "report", b"fine"))
        # the way to the work directory may lead over links; the last step may not
        (ground.directory / "way").symlink_to(host.workdir)
        root_over_link = f"{ground.directory}/way/deliverables"
        async with host.open_confined(f"{root_over_link}/report", root_over_link) as file:
            assert await file.read() == b"fine"
        root.rename(Path(host.workdir, "elsewhere"))
        root.symlink_to("elsewhere")
        assert await _refused(host, "deliverables/report") == "outside"
        assert await host.fetch_bytes_from_host(f"{root}/report") == b"fine"  # no root, no matter
        with pytest.raises(FileRefused, match="is a symbolic link"):
            await host.fetch_file("deliverables/report", io.BytesIO(), root="deliverables")
        (root.parent / "deliverables-of-others").mkdir()
        _file(root.parent / "deliverables-of-others" / "x", b"x")
        assert await _refused(host, "deliverables-of-others/x") == "outside"


@pytest.mark.skipif(os.getuid() != 0, reason="root reads everything, another user must try")
@pytest.mark.parametrize("ground", ["ash"], indirect=True)
async def test_what_its_user_may_not_read_is_unreadable(ground: Ground) -> None:
    async with ground.ready() as host:
        _file(_deliverables(ground, host) / "shadow", b"x").chmod(0o600)
        assert await _refused(host, "deliverables/shadow") == "unreadable"


@both_ways
@pytest.mark.parametrize("size", [1000, 2_000_000])
async def test_a_file_that_changes_while_it_is_read_is_refused(ground: Ground, size: int) -> None:
    """Appended to between the pieces that a slow reader takes; over SSH, before it is asked for."""
    async with ground.ready() as host:
        path = _file(_deliverables(ground, host) / "growing", os.urandom(size))
        with pytest.raises(FileRefused) as refused:
            await _read_slowly(host, path)
        assert refused.value.reason == "changed"


@both_ways
async def test_a_file_that_is_rewritten_in_place_meanwhile_is_refused(ground: Ground) -> None:
    async with ground.ready() as host:
        path = _deliverables(ground, host) / "big"
        with path.open("wb") as file:
            file.truncate(64 << 20)  # more than may be on its way to us before we read
        async with host.open_confined("deliverables/big", "deliverables") as opened:
            os.utime(path, ns=(1, 1))
            with pytest.raises(FileRefused) as refused:
                await opened.read()
        assert refused.value.reason == "changed"


async def test_a_fifo_that_comes_between_look_and_open_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = list[str]()
    look = confined._refuse_special  # noqa: SLF001 - the step behind which it happens

    def swap(path: str, seen: os.stat_result) -> None:
        look(path, seen)
        if not looked:
            Path(path).unlink()
            os.mkfifo(path)
        looked.append(path)

    ground = Ground("local", tmp_path, None, None)
    async with ground.ready() as host:
        _file(_deliverables(ground, host) / "report", b"ours")
        monkeypatch.setattr(confined, "_refuse_special", swap)
        assert await _refused(host, "deliverables/report") == "special"


@both_ways
async def test_swapping_links_while_we_open_hands_over_nothing_from_outside(
    ground: Ground,
) -> None:
    """The race itself: 'report' is ours and a link to the secret in turn, thousands of times."""
    async with ground.ready() as host:
        root = _deliverables(ground, host)
        secret = _file(Path(host.workdir, "secret"), b"SECRET" * 100)
        with _swapping(root / "report", secret):
            await _try_until_both(host)


@both_ways
async def test_swapping_the_root_while_we_open_hands_over_nothing_from_outside(
    ground: Ground,
) -> None:
    async with ground.ready() as host:
        root = _deliverables(ground, host)
        _file(root / "report", b"ours")
        outside = ground.directory / "outside"
        outside.mkdir()
        _file(outside / "report", b"SECRET")
        with _swapping_root(root, outside):
            await _try_until_both(host)


@both_ways
async def test_a_fifo_that_is_swapped_in_keeps_us_no_longer_than_agreed(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio_agents.hosts.files.confined._OPENING", 0.5)
    async with ground.ready() as host:
        root = _deliverables(ground, host)
        os.mkfifo(root / "fifo")
        outcomes = Counter[str]()
        with _swapping(root / "report", root / "fifo"):
            while outcomes.total() < 30 or not outcomes["special"]:
                with anyio.fail_after(BOUND):
                    outcomes[await _outcome(host)] += 1


@over_ssh
async def test_a_link_that_stalls_is_not_the_fault_of_the_file(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio_agents.hosts.files.confined._OPENING", 0.2)
    assert ground.login
    async with (
        FaultProxy("127.0.0.1", ground.login.port) as proxy,
        ground.through(proxy.port).ready() as host,
    ):
        root = _deliverables(ground, host)
        for size in 10, INLINE + 1:
            _file(root / "report", bytes(size))
            proxy.stall()
            with pytest.raises(CommandTimedOut):
                async with host.open_confined("deliverables/report", "deliverables"):
                    pytest.fail("it came through")
            proxy.flow()


@usual_kinds
async def test_a_sparse_file_costs_nothing_but_its_refusal(ground: Ground) -> None:
    async with ground.ready() as host:
        path = _deliverables(ground, host) / "sparse"
        with path.open("wb") as file:
            file.truncate(1 << 40)
        ground.give(path)
        assert await _refused(host, "deliverables/sparse", limit=1 << 30) == "too-large"


@over_ssh
async def test_64_kib_cost_at_most_three_round_trips(ground: Ground) -> None:
    assert ground.login
    async with (
        FaultProxy("127.0.0.1", ground.login.port) as proxy,
        ground.through(proxy.port).ready() as host,
    ):
        _file(_deliverables(ground, host) / "report", os.urandom(65_536))
        await host.ask(":")
        proxy.delay = 0.02
        for _ in range(5):
            before = proxy.round_trips()
            async with host.open_confined("deliverables/report", "deliverables") as file:
                assert len(await file.read()) == 65_536
            assert proxy.round_trips() - before <= 3


def _deliverables(ground: Ground, host: Host) -> Path:
    root = Path(host.workdir, "deliverables")
    root.mkdir()
    return ground.give(root)


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


async def _refused(host: Host, path: str, limit: int | None = None) -> str:
    with anyio.fail_after(BOUND):
        with pytest.raises(FileRefused) as refused:
            async with host.open_confined(path, "deliverables", max_bytes=limit):
                pass
    assert str(refused.value).count(": ") >= 1
    return refused.value.reason


async def _try_until_both(host: Host) -> None:
    """At least 60 times, until it was read at least once and found outside at least once."""
    outcomes = Counter[str]()
    while outcomes.total() < 30 or not (outcomes["read"] and outcomes["outside"]):
        outcomes[await _outcome(host)] += 1


async def _outcome(host: Host) -> str:
    try:
        async with host.open_confined("deliverables/report", "deliverables") as file:
            assert await file.read() == b"ours"
    except FileRefused as refused:
        return refused.reason
    except CommandTimedOut:
        return "not in time"
    return "read"


async def _read_slowly(host: Host, path: Path) -> None:
    async with host.open_confined(str(path), f"{host.workdir}/deliverables") as file:
        with path.open("ab") as growing:
            growing.write(b"more")
        await file.read()
    async with host.open_confined(str(path), f"{host.workdir}/deliverables") as file:
        await file.read()
    raise FileRefused(str(path), "changed")  # it came whole, before it grew


@contextmanager
def _inside(directory: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(directory)  # a socket's name is short
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _swapping(path: Path, secret: Path) -> Iterator[None]:
    """Replace *path*, as fast as a thread can, by a file of ours and by a link to the secret."""
    ended = threading.Event()

    def swap() -> None:
        spare = path.with_name("spare")
        while not ended.is_set():
            spare.write_bytes(b"ours")
            spare.replace(path)
            spare.symlink_to(secret)
            spare.replace(path)

    path.write_bytes(b"ours")
    with _thread(swap, ended):
        yield


@contextmanager
def _swapping_root(root: Path, outside: Path) -> Iterator[None]:
    ended = threading.Event()
    kept = root.with_name("kept")

    def swap() -> None:
        while not ended.wait(0.0003):
            root.rename(kept)
            root.symlink_to(outside)
            root.unlink()
            kept.rename(root)

    with _thread(swap, ended):
        yield


@contextmanager
def _thread(target: object, ended: threading.Event) -> Iterator[None]:
    assert callable(target)
    thread = threading.Thread(target=target)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        with suppress(RuntimeError):
            thread.join()
