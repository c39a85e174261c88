"""Importing the library costs next to nothing; what is heavy comes when it is used."""

import subprocess
import sys

import pytest

HEAVY = {"asyncssh", "watchfiles", "pydantic", "pydantic_core", "rich", "click", "anyio", "sqlite3"}


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
