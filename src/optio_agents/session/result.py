"""How a session ended, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from optio_agents.errors import SessionFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optio_agents.following.cursor import Cursor
    from optio_agents.session.journal import Delivery

Outcome: TypeAlias = Literal[
    "done",  # the agent wrote DONE, and every deliverable announced was fetched and answered
    "cancelled",  # the context said so
    "error",  # the agent wrote ERROR: AgentReportedError
    "exited",  # AgentExited
    "stalled",  # AgentStalled
    "ended by hook",  # EndedByHook
    "unreachable",  # HostUnreachable
    "detached",  # `supervise` was asked to let the agent go on alone
    "failed",  # a hook, the body, the journal or the host raised; that error is the caller's
]
Replies: TypeAlias = Literal["none", "agent", "sender"]  # who takes what we tell the agent


@dataclass(frozen=True, slots=True)
class Ended:
    """How the agent's own process ended, as far as anybody can know."""

    exit_code: int | None = None
    signal: str | None = None
    how: str = "unknown"  # "exited", "lost", "rebooted", or "unknown": the body did not say


@dataclass(frozen=True, slots=True)
class SessionResult:
    """What a session came to. Texts in it are the agent's: show them with `visible`."""

    session: str
    outcome: Outcome
    summary: str | None  # of DONE or ERROR; else one sentence that says what happened
    started_at: float  # seconds since the epoch, as are all times here
    ended_at: float
    deliverables: tuple[Delivery, ...] = ()
    replies: Replies = "none"
    statuses: int = 0  # STATUS lines
    agent: Ended = Ended()
    cursor: Cursor | None = None  # behind the last line recorded
    last_lines: tuple[str, ...] = ()  # of the log, at most 20
    abandoned: tuple[str, ...] = ()  # foreign code that outlived its cancellation
    troubles: Mapping[str, int] = field(default_factory=dict)  # what raised, by name, how often
    skipped: int = 0  # messages that the context was too slow for

    @property
    def untaken(self) -> tuple[Delivery, ...]:
        """Deliverables whose reply did not reach the agent."""
        return tuple(d for d in self.deliverables if d.taken is False)

    def raise_unless_done(self) -> SessionResult:
        """Self. Raises SessionFailed where a cancelled session should count as a failure."""
        if self.outcome != "done":
            raise SessionFailed(
                f"the session ended as {self.outcome}", last_lines=self.last_lines, result=self
            )
        return self
