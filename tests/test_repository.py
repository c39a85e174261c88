"""What a visitor sees first: the top level, the licence, the package's data."""

import re
import tomllib
from pathlib import Path

from tests.components import OLDER_CLAUDE, PINNED_CLAUDE

ROOT = Path(__file__).parents[1]
TOP = {"LICENSE", "README.md", "prompts", "pyproject.toml", "src", "tests"}


def test_the_top_level_is_short() -> None:
    assert {path.name for path in ROOT.iterdir() if not path.name.startswith(".")} == TOP


def test_the_project_is_what_it_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["version"]) == ("optio-agents", "0.3.2")
    assert project["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()
    assert (ROOT / "src/optio_agents/py.typed").exists()
    needed = {re.split(r"\W", requirement)[0] for requirement in project["dependencies"]}
    assert needed == {"anyio", "asyncssh", "watchfiles", "pydantic"}


def test_the_test_command_fetches_the_agents_that_tests_ask_for() -> None:
    command = (ROOT / "tests/run").read_text()
    pinned = f"${{OPTIO_AGENTS_CLAUDE:-{PINNED_CLAUDE}}}"
    assert f'claude_versions="{pinned} {OLDER_CLAUDE}"' in command


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "\n./tests/run\n" in (ROOT / "README.md").read_text()
    last = (ROOT / ".ci/run").read_text().splitlines()[-1]
    assert last == 'CI=true exec "$(dirname "$0")/../tests/run"'
    for command in ("tests/run", ".ci/run"):
        assert (ROOT / command).stat().st_mode & 0o111
