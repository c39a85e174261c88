"""What a visitor sees first: the top level, the licence, the package's data."""

import re
import subprocess
import tomllib
from pathlib import Path

from tests.support.components import OLDER_CLAUDE, PINNED_CLAUDE, needs, unavailable

ROOT = Path(__file__).parents[1]
TOP = {".ci", ".gitignore", "LICENSE", "README.md", "prompts", "pyproject.toml", "src", "tests"}


def git(*words: str, cwd: Path = ROOT) -> list[str]:
    ran = subprocess.run(
        [needs("git"), *words], cwd=cwd, check=True, capture_output=True, text=True
    )
    return ran.stdout.splitlines()


def test_the_top_level_is_short() -> None:
    if not (ROOT / ".git").exists():
        unavailable("this is not a git checkout")
    assert {name.partition("/")[0] for name in git("ls-files")} == TOP


def test_only_what_is_ours_can_be_committed(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_bytes((ROOT / ".gitignore").read_bytes())
    left = (".venv/python", "optio-demo/poem.md", "session.log", ".bench/report.md")
    for name in (*left, "src/optio_agents/new.py", "tests/new/test_new.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    git("init", "-q", cwd=tmp_path)
    found = {line[3:] for line in git("status", "--porcelain", "-uall", cwd=tmp_path)}
    assert found == {".gitignore", "src/optio_agents/new.py", "tests/new/test_new.py"}


def test_the_project_is_what_it_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["name"], project["version"]) == ("optio-agents", "0.7.3")
    assert project["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()
    assert (ROOT / "src/optio_agents/py.typed").exists()
    needed = {re.split(r"\W", requirement)[0] for requirement in project["dependencies"]}
    assert needed == {"anyio", "asyncssh", "pydantic"}


def test_the_test_command_fetches_the_agents_that_tests_ask_for() -> None:
    command = (ROOT / "tests/run").read_text()
    assert f"\n    pinned) claude={PINNED_CLAUDE} ;;\n" in command
    assert f'fetch_claude "$claude"\n    fetch_claude {OLDER_CLAUDE}\n' in command


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert "\n./tests/run\n" in (ROOT / "README.md").read_text()
    last = (ROOT / ".ci/run").read_text().splitlines()[-1]
    assert last == 'CI=true exec "$(dirname "$0")/../tests/run"'
    for command in ("tests/run", ".ci/run"):
        assert (ROOT / command).stat().st_mode & 0o111
