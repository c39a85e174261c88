"""How an agent is, and how it ended, read from what the host says of its session directory."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast, get_args

from optio_agents.hosts.machine import ProcessId

AgentState: TypeAlias = Literal[
    "running", "running-without-launcher", "exited", "lost", "rebooted", "never-started"
]
MIB = 1 << 20
_LARGE = 256 * MIB  # a journal that deserves a notice
_SCARCE = 1024 * MIB  # free space that deserves one


@dataclass(frozen=True, slots=True)
class AgentEnd:
    """How an agent ended. *lost*: it is gone, and nobody wrote down how; *rebooted*: its host was.

    Shells tell an agent that signal 9 ended as 137, and so do we.
    """

    exit_code: int | None
    signal: str | None
    how: Literal["exited", "lost", "rebooted", "never-started"]
    reason: str = ""  # why we stopped it, if we did


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One look at an agent. Sizes and free space are in bytes, times in seconds of its host."""

    state: AgentState
    session: str
    process: ProcessId | None
    launcher: ProcessId | None
    exit_code: int | None
    stdout_size: int
    stderr_size: int
    free_bytes: int
    quiet_for: float  # since its log, its output or its deliverables last changed
    reason: str = ""

    @property
    def running(self) -> bool:
        return self.state in {"running", "running-without-launcher"}

    @property
    def notices(self) -> tuple[str, ...]:
        """What its operator should know about space, in sentences."""
        found = list[str]()
        if (size := self.stdout_size + self.stderr_size) >= _LARGE:
            found.append(f"the agent's output has grown to {size // MIB} MiB")
        if self.free_bytes < _SCARCE:
            found.append(f"only {self.free_bytes // MIB} MiB are free on the agent's host")
        return tuple(found)

    def end(self) -> AgentEnd | None:
        """How it ended; None while it runs."""
        match self.state:
            case "running" | "running-without-launcher":
                return None
            case "exited":
                return AgentEnd(self.exit_code, _signal_of(self.exit_code), "exited", self.reason)
            case how:
                return AgentEnd(None, None, how, self.reason)


def parse_status(text: str) -> AgentStatus:
    """Read what the status script says: one "NAME VALUE" a line. Raises ValueError."""
    said = dict[str, str]()
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        said.setdefault(name, value.strip())  # what comes first is ours
    if said["state"] not in get_args(AgentState):
        raise ValueError(f"no state of an agent: {said['state']!r}")
    stdout, stderr = (*map(int, said.get("sizes", "").split()), 0, 0)[:2]
    code = said.get("code")
    if code and not re.fullmatch(r"[0-9]{1,3}", code):
        raise ValueError(f"no exit code: {code[:40]!r}")
    return AgentStatus(
        state=cast("AgentState", said["state"]),
        session=said.get("tag", ""),
        process=_process(said.get("pid")),
        launcher=_process(said.get("launcher")),
        exit_code=int(code) if code else None,
        stdout_size=stdout,
        stderr_size=stderr,
        free_bytes=int(said.get("free") or 0) * 1024,
        quiet_for=max(0.0, float(said.get("quiet") or 0)),
        reason=said.get("reason", ""),
    )


def _process(text: str | None) -> ProcessId | None:
    return ProcessId.parse(text) if text else None


def _signal_of(code: int | None) -> str | None:
    try:
        return signal.Signals((code or 0) - 128).name.removeprefix("SIG")
    except ValueError:
        return None
