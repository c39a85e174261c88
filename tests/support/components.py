"""What tests need besides Python: programs of the machine, and the claude CLI in our cache."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

PINNED_CLAUDE = "2.1.329"
_ASKED = os.environ.get("OPTIO_AGENTS_CLAUDE", "")
CLAUDE = PINNED_CLAUDE if _ASKED in {"", "pinned"} else _ASKED  # everything
OLDER_CLAUDE = "2.1.197"  # a smoke subset


def cache() -> Path:
    """Where downloads live, outside of the tree."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("OPTIO_AGENTS_CACHE") or Path(home, "optio-agents"))


def needs(component: str) -> Path:
    """The program *component* ("sshd", "tmux", "fish", "claude", "claude 2.1.197", …).

    Where it is missing, the test skips with the reason; with CI=true it fails.
    """
    name, _, version = component.partition(" ")
    if name == "claude":
        found = cache() / "claude" / (version or CLAUDE) / "claude"
        present = os.access(found, os.X_OK)
        how = "OPTIO_AGENTS_CLAUDE=pinned ./tests/run fetches it, some 250 MB"
    else:
        on_path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        found, present = Path(on_path or name), on_path is not None
        how = "./tests/run installs what it may"
    if not present:
        unavailable(f"{component} is not installed; {how}")
    return found


# The other agents, from npm; some of them CI tests, all of them whoever asks for them.
PINNED_AGENTS = {
    "codex": "0.171.0",
    "gemini": "0.61.0",
    "kimi": "2.1.0",
    "opencode": "1.18.33",
    "qwen": "0.24.4",
    "copilot": "1.0.102",
    "claude-agent-acp": "0.101.0",
}
CI_AGENTS = ("codex", "gemini", "kimi")


def installed_agent(name: str, program: str) -> Path:
    """The pinned agent of that name in our cache, or the test is skipped as by `needs`."""
    version = PINNED_AGENTS[name]
    found = cache() / "agents" / f"{name}-{version}" / "node_modules" / ".bin" / program
    if name not in (*CI_AGENTS, *os.environ.get("OPTIO_AGENTS_REAL", "").split()):
        pytest.skip(f"{name} is tried where OPTIO_AGENTS_REAL names it")
    if not os.access(found, os.X_OK):
        how = f"OPTIO_AGENTS_REAL={name} ./tests/run fetches it"
        unavailable(f"{name} {version} is not installed; {how}")
    return found


def unavailable(reason: str) -> NoReturn:
    """Skip this test; where everything must be there (CI=true), fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"missing with CI=true: {reason}", pytrace=False)
    pytest.skip(reason)
