"""How a run may end, which of several endings counts, and how its caller meets it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

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
class Done:
    summary: str | None
    verified: bool = False  # what checks it has accepted it


@dataclass(frozen=True, slots=True)
class RefusedDone:
    """DONE did not hold."""

    words: str


@dataclass(frozen=True, slots=True)
class AtLimit:
    """It has used all that it may. As a verdict, and as what a body returns that says so."""

    words: str


@dataclass(frozen=True, slots=True)
class Reported:
    message: str | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The context said so."""


@dataclass(frozen=True, slots=True)
class Exited:
    agent: Ended


@dataclass(frozen=True, slots=True)
class Stalled:
    seconds: float


@dataclass(frozen=True, slots=True)
class Hooked:
    reason: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A hook, the body, the journal or the host raised."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Whoever awaits the session was cancelled."""


Verdict: TypeAlias = (
    Done
    | RefusedDone
    | AtLimit
    | Reported
    | Cancelled
    | Exited
    | Stalled
    | Hooked
    | Unreachable
    | Failed
    | Interrupted
)


_BESIDE_DONE = Done | RefusedDone | AtLimit | Reported | Exited | Stalled  # no promise of it


@dataclass(slots=True)
class Decision:
    """The first verdict counts; only Done gives way, as long as its promises are being kept."""

    verdict: Verdict | None = None
    failed_at: float | None = None  # anyio.current_time() of the verdict that is not Done
    over: asyncio.Future[None] = field(  # done once there is a verdict
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    _scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def decide(self, verdict: Verdict) -> None:
        """This is how it ends, unless that was settled before."""
        match self.verdict:
            case None:
                pass
            case Done() if not isinstance(verdict, _BESIDE_DONE):
                pass  # a promise of DONE could not be kept
            case _:
                return
        self.verdict = verdict
        if not self.over.done():
            self.over.set_result(None)
        if not isinstance(verdict, Done):
            self.failed_at = anyio.current_time()
            self._scope.cancel()

    @contextmanager
    def while_healthy(self) -> Iterator[None]:
        """Run the block until there is a verdict that is not Done. For one block."""
        with self._scope:
            yield


def outcome_of(verdict: Verdict) -> tuple[Outcome, str | None]:  # noqa: C901 - the union is the list
    """The outcome, and the summary that goes with it."""
    match verdict:
        case Done(summary, _):
            return "done", summary
        case RefusedDone(words):
            return "refused", words
        case AtLimit(words):
            return "over limit", words
        case Cancelled():
            return "cancelled", "the context said to stop"
        case Interrupted():
            return "cancelled", "whoever waited for the session was cancelled"
        case Reported(message):
            return "error", message
        case Exited(Ended(how="never-started")):
            return "exited", "the agent was never started, and cannot start any more"
        case Exited(agent):
            return "exited", f"the agent ended without DONE ({_how(agent)})"
        case Stalled(seconds):
            return "stalled", f"nothing was heard of the agent for {seconds:.0f} s"
        case Hooked(reason):
            return "ended by hook", reason
        case Unreachable(reason):
            return "unreachable", reason
        case Failed(error):
            ours = isinstance(error, OptioAgentsError)  # then its words are for a person
            return "failed", str(error) if ours else f"{type(error).__name__}: {error}"
        case _:
            assert_never(verdict)


def error_of(  # noqa: C901 - the union is the list
    verdict: Verdict, result: SessionResult, *, host: str, stderr: str
) -> BaseException | None:
    """What to raise for *verdict*; None where the result is to be returned."""
    last = "it logged nothing"
    if result.last_lines:
        last = f"its last line was {visible(result.last_lines[-1], limit=200)!r}"
    about: dict[str, Any] = {"last_lines": result.last_lines, "stderr": stderr, "result": result}
    match verdict:
        case Done() | Cancelled() | Interrupted():
            return None
        case Failed(error):
            return error
        case RefusedDone(words):
            return DoneRefused(f"the agent is not done: {visible_block(words)}", **about)
        case AtLimit(words):
            return SessionLimitReached(f"the session was ended: {words}; {last}", **about)
        case Reported(message):
            reason = visible(message) if message else "it gave no reason"
            return AgentReportedError(f"the agent reported an error: {reason}", **about)
        case Exited():
            exited = AgentExited(f"{result.summary}; {last}", **about)
            exited.exit_code = verdict.agent.exit_code
            return exited
        case Stalled():
            return AgentStalled(f"{result.summary}; {last}", **about)
        case Hooked(reason):
            return EndedByHook(f"a callback ended the session: {reason or 'no reason'}", **about)
        case Unreachable(reason):
            return HostUnreachable(
                f"{host} stayed away ({reason}); {last}. The agent may still be at work there: "
                f"resume session {result.session} to go on",
                **about,
            )
        case _:
            assert_never(verdict)


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


def _how(agent: Ended) -> str:
    if agent.signal is not None:
        return f"ended by {agent.signal}"
    if agent.exit_code is not None:
        return f"exit code {agent.exit_code}"
    return {"lost": "its process vanished", "rebooted": "its host was restarted"}.get(
        agent.how, "how it exited is unknown"
    )
