"""Who takes part in a team: what all have in common, and plain functions.

Read `Function` here, then `tools` (typed functions with a schema), `human`, `model` (what one is)
with `model_loop` (how it works on a turn), `compaction` and `model_api`, `agents` (a turn is a
session) with `agent_sessions` (which one) and `agent_verbs` (what it asks of others), `budget`
(what a tree of turns may use up).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optio_agents.team.context import TurnContext


class Participant:
    """One method makes a participant; the rest says how it is treated."""

    role = ""  # one line, for those who may call it
    shared = False  # it does one turn at a time, in order
    local = False  # its turns can run only where their journal is
    person = False  # what is asked of it can be answered by mail
    grace = 0.0  # seconds to sum up when the time of its tree is over
    ends_in_time = False  # by itself: nobody need cancel it

    def answer(self, context: TurnContext) -> Any:
        """Work on a turn: an awaitable of the replies, or an async iterator of them."""
        raise NotImplementedError

    def open(self, name: str) -> None:
        """The team is started: raise now what would be raised at every turn."""

    async def close(self) -> None:
        """The team is closed."""


class Function(Participant):
    """A function of its context, or any object that can be called so."""

    def __init__(self, function: Callable[[TurnContext], Any]) -> None:
        self._function = function
        self.role = (function.__doc__ or "").strip().partition("\n")[0]

    def answer(self, context: TurnContext) -> Any:
        return self._function(context)
