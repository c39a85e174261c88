"""The suite stands on its own feet: what hangs fails alone, what is killed leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import proc
from tests.support.own_home import KEPT
from tests.support.sweeping import RUN
from tests.support.timeouts import BOUND

HANGS = """
import threading, time
import pytest

@pytest.fixture
def slow_to_come():
    time.sleep(1000)

@pytest.fixture
def slow_to_go():
    yield
    time.sleep(1000)

def test_that_hangs(): time.sleep(1000)
def test_whose_set_up_hangs(slow_to_come): pass
def test_whose_tear_down_hangs(slow_to_go): pass
async def test_that_hangs_in_a_callback():
    import asyncio
    asyncio.get_running_loop().call_soon(time.sleep, 1000)
    await asyncio.sleep(1000)
@pytest.mark.parametrize("number", range(30))
def test_that_is_fine(number): pass
"""
KILLED = """
import os, subprocess, time

def test_that_starts_something(tmp_path):
    for env, cwd in ({}, tmp_path), (os.environ, "/"):
        subprocess.Popen(["setsid", "/bin/sleep", "SECONDS"], cwd=cwd, env=env)
    time.sleep(1000)
"""
TREE = Path(__file__).parents[2]


def alone() -> dict[str, str]:
    """The environment of a run that is no part of this one."""
    return {name: value for name, value in os.environ.items() if name not in {RUN, KEPT}}


def suite(directory: Path, text: str) -> list[str]:
    """The command that runs *text* with the plugins of our own suite."""
    (directory / "suite").mkdir()
    (directory / "suite/test_it.py").write_text(text)
    plugins = ["tests.support.timeouts", "tests.support.own_home", "tests.support.sweeping"]
    command = [sys.executable, "-m", "pytest", "-c", "/dev/null", "-p", "no:cacheprovider"]
    command += [
        "--import-mode=importlib",
        "-o",
        "asyncio_mode=auto",
        "-o",
        "timeout_func_only=true",
    ]
    return [*command, *(f"-p{name}" for name in plugins), str(directory / "suite")]


def test_a_time_out_fails_one_test_and_never_the_run(tmp_path: Path) -> None:
    command = suite(tmp_path, HANGS)
    ran = subprocess.run(
        [*command, "-n2", "--timeout=2"],
        cwd=TREE,
        env=alone(),
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND,
    )
    assert "2 failed, 31 passed, 2 errors" in ran.stdout.splitlines()[-1], ran.stdout
    assert ran.stdout.count("Timeout (>2.0s)") >= 4


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_run_that_is_killed_leaves_nothing(tmp_path: Path, workers: str) -> None:
    n = proc.unique()
    command = [*suite(tmp_path, KILLED.replace("SECONDS", n)), workers]
    run = subprocess.Popen(command, cwd=TREE, env=alone(), stdout=subprocess.DEVNULL)
    proc.wait_until(lambda: len(proc.running(n)) == 2)
    run.kill()
    run.wait()
    proc.wait_until(lambda: not proc.running(n))
