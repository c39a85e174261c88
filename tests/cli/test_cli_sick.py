"""A machine that is not well: what is wrong is told in one sentence, and nothing is lost."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from tests.support.components import unavailable
from tests.support.hosts.disks import disk_at
from tests.support.terminal import Desk
from tests.support.timeouts import BOUND

SHIFTED = """
import time
now, now_ns = time.time, time.time_ns
time.time = lambda: now() - 3600
time.time_ns = lambda: now_ns() - 3600 * 10**9
"""


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """*path* as it is, on a disk that takes nothing."""
    bind = subprocess.run(["mount", "--bind", str(path), str(path)], check=False)
    if os.geteuid() or bind.returncode:
        unavailable("a read-only disk needs the rights to mount one")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(path)], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


def told(words: str) -> list[str]:
    assert "Traceback" not in words
    return [line for line in words.splitlines() if not line.startswith(" ")]


def started(desk: Desk, *steps: str, flags: tuple[str, ...] = (), **more: str) -> None:
    begun = desk.run("run", "--detach", "--name", "it", *flags, "--", "agent", *steps, env=more)
    assert begun.returncode == 0, begun.stderr


def test_a_journal_that_takes_nothing_is_told_and_nothing_is_started(desk: Desk) -> None:
    state = desk.home / ".local/state/optio-agents"
    assert desk.run("run", "--", "agent", "DONE").returncode == 0
    with read_only(state):
        ran = desk.run("run", "--", "agent", f"run touch {desk.home}/began", "DONE")
        assert ran.returncode == 70
        for words in ran.stderr, desk.run("ls").stderr:
            (line,) = told(words)
            assert f"the journal {state}/journal.sqlite3 failed: " in line
            assert "Read-only" in line
    assert not (desk.home / "began").exists()
    assert len(desk.run("ls").stdout.splitlines()) == 2


async def test_a_journal_that_is_full_loses_nothing_and_the_agent_goes_on(desk: Desk) -> None:
    steps = (
        "STATUS: 1% on",
        desk.hold("full"),
        "STATUS: 50% half",
        "write a.txt hello",
        "DELIVERABLE: deliverables/a.txt",
        "hear",
        "DONE: all",
    )
    with disk_at(desk.home / "disk", "2m") as disk:
        state = {"XDG_STATE_HOME": str(disk)}
        started(desk, *steps, **state)
        async with anyio.create_task_group() as tasks:

            async def attach() -> None:
                ran = await desk.runs("attach", "it", env=state)
                assert ran.returncode == 70
                goes_on, why = told(ran.stderr)
                assert "the agent goes on; once that is mended: optio-agents attach" in goes_on
                assert "database or disk is full" in why

            tasks.start_soon(attach)
            with anyio.fail_after(BOUND):
                while "1% on" not in (await desk.runs("logs", "it", env=state)).stdout:  # noqa: ASYNC110
                    await anyio.sleep(0.05)
            fill(disk / "ballast")
            desk.release("full")
        (disk / "ballast").unlink()
        ended = await desk.runs("attach", "it", env=state)
        assert ended.returncode == 0
        shown = (await desk.runs("logs", "it", env=state)).stdout
        for words in "50% half", "a.txt: accepted", "done all":
            assert shown.count(words) >= 1, shown


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (".", "it is not there, or cannot be entered"),
        (".optio", "it is a link by now"),
    ],
    ids=["vanished", "a link"],
)
def test_a_directory_that_is_not_what_it_was_ends_nothing(
    desk: Desk, what: str, words: str
) -> None:
    project, away = desk.home / "project", desk.home / "away"
    project.mkdir()
    started(desk, "STATUS: 1% on", desk.hold("back"), "DONE: all", flags=("--cwd", str(project)))
    moved = project / what
    moved.rename(away)
    if what != ".":
        moved.symlink_to(away)
    ran = desk.run("attach", "it")
    assert ran.returncode == 2  # its host is there
    ended = json.loads(desk.run("logs", "it", "--json").stdout.splitlines()[-1])
    assert (ended["outcome"], ended["exit_code"]) == ("failed", 2)
    way_back, line = told(ran.stderr)
    assert "optio-agents attach it" in way_back
    assert f"cannot hold the log channel: {words}" in line
    assert "failed" in desk.run("ls", "--running").stdout
    if what != ".":
        moved.unlink()
    away.rename(moved)
    desk.release("back")
    assert desk.run("attach", "it").returncode == 0
    assert "done all" in desk.run("logs", "it").stdout


def test_a_clock_that_was_set_back_loses_nothing(desk: Desk) -> None:
    (desk.home / "sitecustomize.py").write_text(SHIFTED)
    back = {"PYTHONPATH": str(desk.home)}
    started(desk, "hear", "write a.txt x", "DELIVERABLE: deliverables/a.txt", "hear", "DONE: all")
    for verb in ("ls",), ("send", "it", "go on"), ("attach", "it"), ("show", "it"), ("logs", "it"):
        ran = desk.run(*verb, env=back)
        assert (ran.returncode, told(ran.stderr)) == (0, []), verb
    assert "a.txt: accepted" in ran.stdout
    assert "done: all" in desk.run("show", "it").stdout
    assert "nothing to remove" in desk.run("prune", "--yes", env=back).stdout
