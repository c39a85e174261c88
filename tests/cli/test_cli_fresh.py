"""The README's way in, as written, on a fresh machine: a clean clone, an empty home, the index."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.support.components import cache, needs, unavailable
from tests.support.timeouts import BOUND

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"^## Try it\n.*?^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
INDEX = re.compile("PIP_|https?_proxy|no_proxy", re.IGNORECASE)  # how this machine gets there
OUT_OF_REACH = ("No matching distribution", "Could not find a version", "ConnectionError")


def test_the_run_command_of_the_readme_works_in_a_clean_clone(tmp_path: Path) -> None:
    clone, home = tmp_path / "clone", tmp_path / "home"
    home.mkdir()
    if not (ROOT / ".git").exists():
        unavailable("this is not a git checkout")
    subprocess.run(
        [needs("git"), "clone", "-q", "--no-local", f"file://{ROOT}", str(clone)],
        check=True,
        capture_output=True,
        timeout=BOUND,
    )
    found = COMMAND.search((clone / "README.md").read_text())
    assert found
    ran = subprocess.run(
        ["sh", "-c", found[1]],
        cwd=clone,
        env={
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "PIP_CACHE_DIR": str(cache() / "pip"),
            **{name: value for name, value in os.environ.items() if INDEX.match(name)},
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=BOUND,
    )
    if any(words in ran.stderr for words in OUT_OF_REACH):
        unavailable("the package index cannot be reached")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1].partition(" finished ")[2].startswith("done: ")
    kept = {path.name for path in (clone / "optio-demo").iterdir()}
    assert kept == {"poem.md", "poem-2.md", "silence.wav"}
    status = ["git", "status", "--porcelain"]
    seen = subprocess.run(status, cwd=clone, check=True, capture_output=True, text=True)
    assert seen.stdout == ""  # nothing that would be committed by accident
