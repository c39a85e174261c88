"""Whether we run inside a session: an agent must not approve its own requests, nor end itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from optio_agents.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Iterator

_TAG = b"OPTIO_SESSION="


def refuse_inside_a_session() -> None:
    """Raises AgentError where this process, or one that it descends from, belongs to an agent."""
    if os.environ.get("OPTIO_SESSION") or any(map(_tagged, _ancestors(os.getpid()))):
        raise AgentError(
            "this verb acts on agents and does not run inside one: use a terminal of your own"
        )


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 1:
        pid = _parent(pid)
        yield pid


def _parent(pid: int) -> int:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:  # no /proc here, or it has ended
        return 0
    return int(stat.rpartition(b")")[2].split()[1])  # a name may hold spaces and parentheses


def _tagged(pid: int) -> bool:
    # What it was started with: an agent can empty its own environment, not its launcher's.
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return any(word.startswith(_TAG) for word in environment.split(b"\0"))
