"""What a run started ends with it, also where the run was killed.

A process beside the run waits for its end and then kills whatever is still about and names the
run: in its environment, its command line or its current directory. Every variable that we set,
every directory that we make and every sshd of ours does so; what scrubbed its environment is found
by where it stands, unless a person's terminal stands there, too.

    python -m tests.support.sweeping PIDFD WORD ...
"""

from __future__ import annotations

import os
import secrets
import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import proc

RUN = "OPTIO_TEST_RUN"  # a run inside of a run, and a worker, belong to it
_BESIDE = pytest.StashKey[subprocess.Popen[bytes]]()  # kept, or Python complains that it runs


# Also where no pytest runs: benchmarks and stress start servers of ours, too.
os.environ.setdefault(RUN, f"{secrets.token_hex(6)}-{os.getpid()}")


def pytest_sessionstart(session: pytest.Session) -> None:
    run = os.environ[RUN]
    if not run.endswith(f"-{os.getpid()}"):
        return
    base = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # noqa: SLF001
    home = os.environ["HOME"]  # of this run, see tests.support.own_home
    ourselves = os.pidfd_open(os.getpid())
    session.config.stash[_BESIDE] = subprocess.Popen(
        [sys.executable, "-m", "tests.support.sweeping", str(ourselves), run, f"{base}/", home],
        cwd=Path(__file__).parents[2],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        pass_fds=[ourselves],
    )
    os.close(ourselves)


def sweep(*words: str) -> None:
    """SIGKILL all that names one of *words*, until nothing does, and unmount the disks."""
    while found := [one for one in proc.processes() if _named(one, words)]:
        proc.kill(*found)
    for line in Path("/proc/mounts").read_text().splitlines():
        if any(word in line.split()[1] for word in words):
            subprocess.run(["umount", "-l", line.split()[1]], check=False)


def _named(one: proc.Process, words: tuple[str, ...]) -> bool:
    if one.gone or one.pid == os.getpid():
        return False
    said = [os.fsdecode(each) for each in proc.environment(one)]
    if not one.terminal:  # else it may be a person who looks at our files
        said += [proc.command_line(one), f"{proc.directory(one)}/"]
    return any(word in text for word in words for text in said)


def main(run: str, *words: str) -> None:
    select.select([int(run)], [], [])
    sweep(*words)


if __name__ == "__main__":
    main(*sys.argv[1:])
