"""What can go wrong in a team; each says who, what and in which turn."""

from __future__ import annotations

from optio_agents.errors import AgentError


class TeamError(AgentError):
    """The root of the team's own errors; `turn` is the id of the turn that met it."""

    def __init__(self, message: str, *, turn: str = "") -> None:
        super().__init__(message)
        self.turn = turn


class CallFailed(TeamError):
    """A turn that was called did not complete.

    It is this error whatever the callee raised, in one process and after a restart alike: `name`
    is who was called, `status` how it ended (failed, cancelled, timeout, limit), `kind` the name
    of the error or of the limit. `__cause__` is the original where it was raised in this process.
    """

    def __init__(
        self, message: str, *, turn: str = "", name: str = "", status: str = "", kind: str = ""
    ) -> None:
        super().__init__(message, turn=turn)
        self.name, self.status, self.kind = name, status, kind


class CallTimedOut(CallFailed, TimeoutError):
    """The turn took longer than it was given."""


class NoParticipant(TeamError):
    """Nobody of that name can be called here; the message lists who can."""


class LimitReached(TeamError):
    """A limit of the team refused it; `limit` is its name."""

    def __init__(self, message: str, *, limit: str = "", turn: str = "") -> None:
        super().__init__(message, turn=turn)
        self.limit = limit


class OutcomeUnknown(TeamError):
    """A `once` was interrupted between its intent and its result: it may have happened."""


class Diverged(TeamError):
    """A turn that runs again asks for something else than before under the same key.

    Or another turn is known under a given id. The function has changed, or is not the same
    function of its input: give it another id, or the old code back.
    """


class Lost(TeamError):
    """Another worker has taken this turn over, or it was cancelled: this epoch may not write."""


class ProviderFailed(TeamError):
    """The API of a model refused, failed, or gave no complete answer."""


class NoCredential(TeamError):
    """A model cannot be reached with what is here; the message names it, its provider and why."""
