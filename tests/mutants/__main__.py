"""Planted bugs, each of which a suite must notice: `python -m tests.mutants.__main__ [NAME…]`.

Each bug is planted in a copy of the tree, its suite runs there, and the copy is put right again. A
suite that stays green is told, and so is a bug that no longer fits the code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutant_list import MUTANTS, Mutant

TREE = Path(__file__).parents[2]
PATIENCE = 300.0  # seconds for one suite; one that hangs has noticed, too


@dataclass(frozen=True, slots=True)
class Told:
    """What came of one bug."""

    mutant: Mutant
    noticed: bool
    words: str

    def __str__(self) -> str:
        return f"{'noticed' if self.noticed else 'SURVIVED':<9} {self.mutant.name:<45} {self.words}"


def copied() -> Path:
    """The tree as git knows it, with what is not committed yet."""
    target = Path(tempfile.mkdtemp(prefix="optio-mutants-"))
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TREE,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (TREE / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TREE / name, target / name)
    return target


def installed(tree: Path) -> None:
    """Give it an environment of its own, with our packages and *tree* in place of our source.

    Whatever a test starts, in whatever environment, runs the copy: the command, too.
    """
    venv.create(tree / ".venv", symlinks=True)
    python = tree / ".venv/bin/python"
    (site,) = tree.glob(".venv/lib/python*/site-packages")
    ours = next(path for path in sys.path if Path(path).name == "site-packages")
    (site / "copy.pth").write_text(f"{tree / 'src'}\n{ours}\n")
    command = python.with_name("optio-agents")
    command.write_text(
        f"#!{python}\nimport sys\nfrom optio_agents.cli import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)


def red(tree: Path, suite: tuple[str, ...]) -> str | None:
    """The report of *suite* if it fails there, None if it is green."""
    python = tree / ".venv/bin/python"
    command = [str(python), "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *suite]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    try:
        ran = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return f"it hung for {PATIENCE:.0f} s"
    if ran.returncode not in (0, 1):
        raise SystemExit(f"pytest could not run {suite}:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return ran.stdout if ran.returncode else None


def gist(report: str) -> str:
    """The line that names the test."""
    failed = [line for line in report.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return (failed or [report[-200:]])[0][:120]


def planted(tree: Path, mutant: Mutant) -> Told:
    """Plant *mutant*, run its suite, and put the file right."""
    path = tree / mutant.file
    before = path.read_text("utf-8")
    if before.count(mutant.right) != 1:
        return Told(
            mutant, False, f"its line stands {before.count(mutant.right)} times in the code"
        )
    path.write_text(before.replace(mutant.right, mutant.wrong), "utf-8")
    try:
        found = red(tree, mutant.suite)
    finally:
        path.write_text(before, "utf-8")
    return Told(mutant, found is not None, gist(found) if found else "all green")


def main(names: list[str]) -> int:
    """Plant them all, or those named; 1 if any survives."""
    chosen = [one for one in MUTANTS if not names or any(name in one.name for name in names)]
    tree = copied()
    installed(tree)
    try:
        for suite in {one.suite for one in chosen}:
            if found := red(tree, suite):
                sys.exit(f"{found}\nwithout any bug {' '.join(suite)} is red already")
        survived = 0
        for mutant in chosen:
            started = time.monotonic()
            told = planted(tree, mutant)
            survived += not told.noticed
            print(f"{told} ({time.monotonic() - started:.0f} s)", flush=True)  # noqa: T201
        print(f"{len(chosen) - survived} noticed, {survived} survived")  # noqa: T201
    finally:
        shutil.rmtree(tree)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
