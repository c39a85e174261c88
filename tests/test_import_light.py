"""Importing the library costs next to nothing; what is heavy comes when it is used."""

import subprocess
import sys

import pytest

from tests.support.terminal import Desk

HEAVY = {"asyncssh", "pydantic", "pydantic_core", "rich", "click", "anyio", "sqlite3"}


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import optio_agents", HEAVY | {"asyncio"}),
        ("from optio_agents import build_log_channel_prompt, parse_log_line", HEAVY | {"asyncio"}),
        ("import optio_agents.protocol", HEAVY | {"asyncio"}),
    ],
)
def test_a_fresh_interpreter_stays_light(statement: str, heavy: set[str]) -> None:
    code = f"import sys; {statement}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "optio_agents" in ran.stdout.split()
    assert heavy & set(ran.stdout.split()) == set()


def test_a_plain_local_command_loads_no_ssh_no_models_and_no_drawing(desk: Desk) -> None:
    code = "import sys; from optio_agents.cli.app import run_command as run; "
    code += "run(['run', '--', 'sh', '-c', 'echo DONE >> optio.log']); print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**desk.env, "COVERAGE_PROCESS_START": ""},  # which reads a configuration of its own
        cwd=desk.home,
    )
    *lines, modules = ran.stdout.splitlines()
    assert "finished done" in lines[-1]
    heavy = {"asyncssh", "pydantic", "pydantic_core", "rich", "tomllib"}
    assert heavy & set(modules.split()) == set()


def test_two_verbs_that_only_print_load_no_event_loop() -> None:
    code = "import sys; from optio_agents.cli.app import run_command as run; "
    code += "run([sys.argv[1]]); print(); print(*sys.modules)"
    for verb in "--help", "prompt":
        ran = subprocess.run([sys.executable, "-c", code, verb], capture_output=True, text=True)
        assert {"asyncio", "anyio", *HEAVY} & set(ran.stdout.splitlines()[-1].split()) == {"click"}
