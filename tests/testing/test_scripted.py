"""The scripted agent does its steps, in order, under every shell that a host may have."""

import shutil
import subprocess
from pathlib import Path

import pytest

from optio_agents.testing.scripted import scripted_agent


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_every_kind_of_step_leaves_its_trace(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    sh, *rest = scripted_agent(
        "STATUS: 5% a  b",
        "write notes/r.md hello  you",
        "binary deliverables/z.bin 100",
        "hear",
        "run echo $((1 + 1))",
        "DONE: fine",
        "exit 7",
        "DONE: never",
    )
    argv = ["busybox", "sh"] if shell == "busybox" else [shell]
    ran = subprocess.run(
        argv + rest, cwd=tmp_path, input="System: ok\n", capture_output=True, text=True, check=False
    )
    assert sh == "/bin/sh"
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "heard: System: ok\n2\n", "")
    assert (tmp_path / "optio.log").read_text() == "STATUS: 5% a  b\nDONE: fine\n"
    assert (tmp_path / "deliverables/notes/r.md").read_text() == "hello  you\n"
    assert (tmp_path / "deliverables/z.bin").read_bytes() == bytes(100)


def test_input_that_ends_before_it_is_heard_ends_the_agent() -> None:
    ran = subprocess.run(scripted_agent("hear", "say more"), input=b"", check=False)
    assert ran.returncode == 3
