"""The command: `python -m tests.stress --help`."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import anyio

from tests.stress.books import Ledger, Totals, balance
from tests.stress.circumstances import Ground, gathered
from tests.stress.crews import Scale
from tests.stress.director import Director
from tests.support.leaks import Census

# ruff: noqa: T201  # a command prints


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few sessions, in half a minute")
    parser.add_argument("--local", type=int, help="sessions here (500)")
    parser.add_argument("--ssh", type=int, help="sessions over SSH (100)")
    parser.add_argument("--minutes", type=float, help="that only a hang takes (60)")
    parser.add_argument("--seed", type=int, help="deal the faults of an earlier run")
    parser.add_argument("--keep", action="store_true", help="leave the files behind")
    told = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # cleaning up on the way
    seed = random.SystemRandom().getrandbits(32) if told.seed is None else told.seed
    local, ssh, minutes = (6, 3, 15.0) if told.quick else (500, 100, 60.0)
    scale = Scale(
        told.local or local, told.ssh or ssh, 60 * (told.minutes or minutes), quick=told.quick
    )
    print(f"--seed {seed}: {scale.local} local and {scale.ssh} SSH sessions", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="optio-stress-"))
    directory.chmod(0o755)  # sshd reads its files as whoever logs in
    try:
        with gathered(directory, scale, seed) as ground:
            problems = anyio.run(_run, ground)
    finally:
        if told.keep:
            print(f"its files are in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return 1 if problems else 0


async def _run(ground: Ground) -> bool:
    began, census = time.monotonic(), Census.take()
    director = Director(ground)
    with closing(director):
        await director.run()
        counts = director.counts() + _deaths(ground)
    totals = await balance(ground, director.talkers.said)
    problems = [*director.problems, *totals.wrong, *await _left_open(ground, census)]
    expected = set[str]().union(*(crew.steps | crew.killings for crew in ground.crews))
    problems += [f"never hit: {name}" for name in sorted(expected - counts.keys())]
    if os.environ.get("CI") == "true":
        problems += [f"left out with CI=true: {reason}" for reason in ground.left_out]
    _print(counts, totals, ground, problems)
    print(f"{time.monotonic() - began:.0f} s")
    return bool(problems)


async def _left_open(ground: Ground, census: Census) -> list[str]:
    if ground.server is not None:
        ground.server.stop()
    try:
        await census.settle()
    except AssertionError as error:
        return [f"the director: {error}"]
    return []


def _deaths(ground: Ground) -> Counter[str]:
    ledgers = [Ledger.read(Path(w.agent["ledger"])) for crew in ground.crews for w in crew.work]
    return Counter(f"agent {how}" for ledger in ledgers for how in ledger.all("dies"))


def _print(counts: Counter[str], totals: Totals, ground: Ground, problems: list[str]) -> None:
    for name, count in sorted(counts.items()):
        print(f"{count:7}  {name}")
    supervisors = sum(crew.generation for crew in ground.crews)
    print(f"\nsessions, by outcome: {dict(totals.sessions)}; supervisors: {supervisors}")
    for name, count in totals.figures.items():
        print(f"{count:7}  {name}")
    for reason in ground.left_out:
        print(f"left out: {reason}")
    print(f"\n{len(problems)} problems" if problems else "\nthe books balance")
    for problem in problems:
        print(f"- {problem}")


if __name__ == "__main__":
    sys.exit(main())
