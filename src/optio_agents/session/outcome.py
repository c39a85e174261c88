"""How a run may end, which of several endings counts, and how its caller meets it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

import anyio

from optio_agents.display import visible, visible_block
from optio_agents.errors import (
    AgentExited,
    AgentReportedError,
    AgentStalled,
    DoneRefused,
    EndedByHook,
    HostUnreachable,
    OptioAgentsError,
    SessionLimitReached,
)
from optio_agents.store.records import Ended

if TYPE_CHECKING:
    from optio_agents.store.records import Outcome, SessionResult


@dataclass(frozen=True, slots=True)
class Ending:
    """One way in which a run may end. A body that was ended for a reason may return it."""

    outcome: Outcome
    words: str | None = None  # of DONE or ERROR; else one sentence that says what happened
    verified: bool = False  # what checks DONE has accepted it
    error: BaseException | None = None  # what a hook, the body, the journal or the host raised


def failed(error: BaseException) -> Ending:
    """The caller meets *error* as it is."""
    ours = isinstance(error, OptioAgentsError)  # then its words are for a person
    words = str(error) if ours else f"{type(error).__name__}: {error}"
    return Ending("failed", words, error=error)


def exited(agent: Ended) -> Ending:
    """The agent is gone, and has not said that it is done."""
    if agent.how == "never-started":
        return Ending("exited", "the agent was never started, and cannot start any more")
    if agent.signal is not None:
        how = f"ended by {agent.signal}"
    elif agent.exit_code is not None:
        how = f"exit code {agent.exit_code}"
    else:
        gone = {"lost": "its process vanished", "rebooted": "its host was restarted"}
        how = gone.get(agent.how, "how it exited is unknown")
    return Ending("exited", f"the agent ended without DONE ({how})")


_BESIDE_DONE = {"done", "refused", "over limit", "error", "exited", "stalled"}  # no promise of it


@dataclass(slots=True)
class Decision:
    """The first ending counts; only DONE gives way, as long as its promises are being kept."""

    ending: Ending | None = None
    failed_at: float | None = None  # anyio.current_time() of the ending that is not DONE
    over: asyncio.Future[None] = field(  # done once there is an ending
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    # For one block, which is cancelled by an ending that is not DONE.
    healthy: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    @property
    def is_done(self) -> bool:
        return self.ending is not None and self.ending.outcome == "done"

    def decide(self, ending: Ending) -> None:
        """This is how it ends, unless that was settled before."""
        broken = self.is_done and ending.outcome not in _BESIDE_DONE  # a promise of DONE
        if self.ending is not None and not broken:
            return
        self.ending = ending
        if not self.over.done():
            self.over.set_result(None)
        if not self.is_done:
            self.failed_at = anyio.current_time()
            self.healthy.cancel()


def error_of(
    ending: Ending, result: SessionResult, *, host: str, stderr: str
) -> BaseException | None:
    """What to raise for *ending*; None where the result is to be returned."""
    last = "it logged nothing"
    if result.last_lines:
        last = f"its last line was {visible(result.last_lines[-1], limit=200)!r}"
    about: dict[str, Any] = {"last_lines": result.last_lines, "stderr": stderr, "result": result}
    words = result.summary or ""
    match result.outcome:
        case "done" | "cancelled" | "detached" | "failed":
            return ending.error
        case "refused":
            return DoneRefused(f"the agent is not done: {visible_block(words)}", **about)
        case "over limit":
            return SessionLimitReached(f"the session was ended: {words}; {last}", **about)
        case "error":
            reason = visible(words) or "it gave no reason"
            return AgentReportedError(f"the agent reported an error: {reason}", **about)
        case "exited":
            ended = AgentExited(f"{words}; {last}", **about)
            ended.exit_code = result.agent.exit_code
            return ended
        case "stalled":
            return AgentStalled(f"{words}; {last}", **about)
        case "ended by hook":
            return EndedByHook(f"a callback ended the session: {words or 'no reason'}", **about)
        case "unreachable":
            return HostUnreachable(
                f"{host} stayed away ({words}); {last}. The agent may still be at work there: "
                f"resume session {result.session} to go on",
                **about,
            )
        case _:
            assert_never(result.outcome)


def end_of(value: object) -> Ended:
    """What the body's return value says about the agent's end."""
    if isinstance(value, Ended):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Ended(exit_code=value, how="exited")
    code = getattr(value, "exit_code", None)
    if not isinstance(code, int):
        code = None
    how = getattr(value, "how", None) or ("unknown" if code is None else "exited")
    return Ended(exit_code=code, signal=getattr(value, "signal", None), how=str(how))
