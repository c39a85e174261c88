"""Exit codes: part of the contract, so that a script can tell the endings apart."""

from __future__ import annotations

from errno import ENOSPC
from typing import TYPE_CHECKING

from optio_agents import errors
from optio_agents.display import visible_block
from optio_agents.errors import AlreadyOwned, HostKeyRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optio_agents.store.records import SessionResult


DONE = 0
AGENT_ERROR = 1  # the agent wrote ERROR; `check`, `doctor`: something is wrong
USAGE = 2  # what was asked for cannot be
NOT_DONE = 3  # ended without DONE
UNREACHABLE = 4
STALLED = 5
DETACHED = 6  # still running
SPOILED = 7  # DONE, but something on our side failed
REFUSED = 8  # DONE, and what checks it refused that
OUR_FAULT = 70
CANCELLED = 130

OUTCOMES: Mapping[str, int] = {
    "done": DONE,
    "cancelled": CANCELLED,
    "error": AGENT_ERROR,
    "exited": NOT_DONE,
    "stalled": STALLED,
    "refused": REFUSED,
    "over limit": NOT_DONE,
    "ended by hook": NOT_DONE,
    "unreachable": UNREACHABLE,
    "detached": DETACHED,
    "failed": OUR_FAULT,
}


def outcome_code(result: SessionResult) -> int:
    """The code for a session that came to an end."""
    if result.outcome == "done" and result.failures:
        return SPOILED
    if result.outcome == "failed":  # as whoever owns it ends by that error
        return _code_of(getattr(errors, result.error or "", Exception))
    return OUTCOMES[result.outcome]


def exit_code(error: BaseException) -> int:
    """The code for an error that ends the command."""
    return _code_of(type(error))


_CODES: Sequence[tuple[type[BaseException], int]] = (  # the first one counts
    (KeyboardInterrupt, CANCELLED),
    (errors.AgentReportedError, AGENT_ERROR),
    (errors.AgentStalled, STALLED),
    (errors.HostUnreachable, UNREACHABLE),
    (errors.DoneRefused, REFUSED),
    (errors.SessionFailed, NOT_DONE),
    (errors.FileRefused, USAGE),
    (errors.AgentError, USAGE),
    (errors.NoSuchSession, USAGE),
    (ValueError, USAGE),
    (errors.HostError, UNREACHABLE),
    (TimeoutError, UNREACHABLE),
)


def _code_of(kind: type[BaseException]) -> int:
    return next((code for known, code in _CODES if issubclass(kind, known)), OUR_FAULT)


# What an error says to a person at a terminal: what happened, and what to do next.


def sentence(error: BaseException) -> str:
    """One sentence, safe to print."""
    words = str(error) or "it took too long"  # a TimeoutError has no words of its own
    match error:
        case OSError(strerror=str(why), filename=None) if error.errno == ENOSPC:
            words = f"there is no room for what is to be written: {why}"
        case HostKeyRefused(reason="unknown"):
            words += "; to accept this key once and for all, add --host-key accept-new"
        case OSError(strerror=str(why), filename=str(path)):
            words = f"{path}: {why}"
        case AlreadyOwned():
            words += "; if it is gone, wait a minute, or add --take-over"
    return visible_block(words)
