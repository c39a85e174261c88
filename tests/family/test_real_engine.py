"""An engine of the family, unchanged, with its real CLI in a real optio-core: on us."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.components import installed_agent
from tests.support.family import sides
from tests.support.family.sides import engines_on_us

SCRIPT = Path(sides.__file__).with_name("real_engine.py")


@pytest.mark.parametrize("engine", ["codex", "opencode"])
def test_its_task_is_driven_to_done_cancelled_and_resumed(engine: str) -> None:
    program = installed_agent(engine, engine).resolve()
    if engine == "codex":  # which is a script that starts this
        (program,) = program.parents[2].glob("codex-*/vendor/*/bin/codex")
    python = engines_on_us().python
    ran = subprocess.run(
        [str(python), "-W", "ignore", str(SCRIPT), engine, str(program)],
        env={"PATH": os.defpath, "HOME": "/nonexistent"},
        cwd="/tmp",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    facts = json.loads(ran.stdout.splitlines()[-1])
    nothing: list[str] = []  # is left running
    said = True
    assert facts["done"] == ["done", [["r.txt", "forty-two\n"]], said, nothing]
    assert facts["cancelled"] == ["cancelled", nothing]
    assert facts["resumed"] == ["done", nothing]
    assert facts["remembers"]
