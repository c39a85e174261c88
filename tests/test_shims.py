"""Browsers that an agent would open become lines of its log, or nothing."""
# ruff: noqa: ASYNC240  # nobody else needs the event loop meanwhile

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from optio_agents.browser_shims import NAMES, prepare_browser_shims
from optio_agents.hosts import Host
from optio_agents.protocol.features import ProtocolFeatures
from optio_agents.protocol.parser import parse_log_line
from tests.support.hosts.hosts import Ground, both_ways

SHELLS = ("sh", "bash", "busybox ash")
URL = "https://example.org/a?b=c&d='e'%20$(touch x)"


@both_ways
async def test_redirecting_writes_the_url_to_the_log(ground: Ground) -> None:
    async with ground.ready() as host:
        additions = await prepare_browser_shims(host, "redirect")
        assert additions is not None
        assert additions["BROWSER"] == f"{host.workdir}/bin/xdg-open"
        assert additions["DISPLAY"] == os.environ.get("DISPLAY", ":0")
        assert {"chromium", "google-chrome-stable", "firefox"} <= set(NAMES)
        first, _, rest = additions["PATH"].partition(":")
        assert (first, "/bin" in rest) == (f"{host.workdir}/bin", True)
        await host.write_text("optio.log", "STATUS: not ended")
        for name in NAMES:
            call = f"{name} open" if name == "gio" else name
            await host.run_command(
                f'mkdir -p sub; cd sub; {call} "$URL"', env={**additions, "URL": URL}
            )
        assert _events(host) == [URL.replace(" ", "%20")] * len(NAMES)


@both_ways
async def test_suppressing_does_nothing_and_ignoring_installs_nothing(ground: Ground) -> None:
    async with ground.ready() as host:
        assert await prepare_browser_shims(host, "ignore") is None
        assert not Path(host.workdir, "bin").exists()
        additions = await prepare_browser_shims(host, "suppress")
        assert additions["DISPLAY"] == os.environ.get("DISPLAY", ":0")
        await host.write_text("optio.log", "")
        for name in NAMES:
            done = await host.run_command(
                f"command -v {name} && {name} {URL.split('?')[0]}", env=additions
            )
            assert (done.exit_code, done.stdout) == (0, f"{host.workdir}/bin/{name}\n")
        assert Path(host.workdir, "optio.log").read_text() == ""
        with pytest.raises(ValueError, match="no way to treat"):
            await prepare_browser_shims(host, "perhaps")


async def test_in_a_directory_of_the_users_they_stand_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    ground = Ground("local", tmp_path, None, None)
    async with ground.host(workdir=str(tmp_path / "mine")) as host:
        await host.setup_workdir()
        additions = await prepare_browser_shims(host, "redirect")
        assert additions is not None
        assert [path.name for path in (tmp_path / "mine").iterdir()] == [".optio"]
        await host.ask("hosts/channel.sh", host.logdir, "start")
        log = {"OPTIO_LOG": f"{host.logdir}/optio.log"}
        await host.run_command("xdg-open https://example.org", env={**additions, **log})
        assert _events(host) == ["https://example.org"]
        await host.cleanup_taskdir()
        assert not Path(host.taskdir).exists()


@pytest.mark.parametrize("shell", SHELLS)
async def test_what_is_no_web_address_is_no_event(shell: str, tmp_path: Path) -> None:
    async with Ground("local", tmp_path, None, None).ready() as host:
        await prepare_browser_shims(host, "redirect")
        await host.write_text("optio.log", "")
        shim = f"{host.workdir}/bin/open"
        refused = ("javascript:alert(1)", "file:///etc/passwd", "report.html", "-a", "x" * 9000)
        crooked = 'https://a/"\nDONE\n'
        argv = [*shell.split(), shim, *refused, crooked, "https://a/" + "y" * 9000]
        await anyio.run_process(argv)
        assert Path(host.workdir, "optio.log").read_text() == 'BROWSER: "https://a/%22DONE"\n'
        Path(host.workdir, "optio.log").unlink()
        await anyio.run_process([*shell.split(), shim, "https://a"])
        assert not Path(host.workdir, "optio.log").exists()


def _events(host: Host) -> list[str]:
    features = ProtocolFeatures(browser="redirect")
    lines = Path(host.logdir, "optio.log").read_text().splitlines()
    events = (parse_log_line(line, features=features) for line in lines)
    return [event.url for event in events if hasattr(event, "url")]
