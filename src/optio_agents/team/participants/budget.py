"""What a tree of turns has used up, and whether that is as much as it may.

Counted are requests to models and turns of agents (steps), their tokens, and their price. What
ended before, also in other processes, is in the rows; each turn that runs here adds its own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from optio_agents.team.context import TurnContext
from optio_agents.team.errors import LimitReached

COUNTED = ("steps", "tokens", "usd")


@dataclass(slots=True)
class Spent:
    """Of one tree, as far as this process knows."""

    total: dict[str, float] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0.0))
    entered: set[str] = field(default_factory=set)  # the turns that have added theirs


class Budget:
    """The part of one turn in what its tree may use up."""

    def __init__(self, context: TurnContext) -> None:
        self._context = context
        self._bounds = context.options.get("limits", {})
        self._spent = Spent()

    async def begin(self, before: Mapping[str, float]) -> None:
        """Count what earlier runs of this turn have used: *before*."""
        context = self._context
        row, known = context.turn.row, context.kernel.spent
        context.used.update(before)
        if row.root not in known:
            known[row.root] = Spent()
            if self._bounds and (row.parent is not None or context.claim.epoch > 1):
                for other in await context.kernel.store.look(root=row.root):
                    _add(known[row.root].total, (other.result or {}).get("used", {}))
        self._spent = known[row.root]
        if row.id not in self._spent.entered:
            self._spent.entered.add(row.id)
            _add(self._spent.total, before)

    def add(self, tokens: int, usd: float | None) -> None:
        """One more step."""
        used = {"steps": 1.0, "tokens": float(tokens)} | ({} if usd is None else {"usd": usd})
        _add(self._context.used, used)
        _add(self._spent.total, used)

    def reached(self) -> LimitReached | None:
        """The limit that the tree has reached, if any."""
        for limit in COUNTED:
            if limit in self._bounds and self._spent.total[limit] >= self._bounds[limit]:
                return self.refusal(limit, f"reached the limit {limit}: {self._bounds[limit]}")
        if self.left() <= 0:
            return self.refusal("seconds", f"reached the limit seconds: {self._bounds['seconds']}")
        return None

    def left(self) -> float:
        """The seconds that are left for the tree."""
        deadline: float = self._context.options.get("deadline", float("inf"))
        return deadline - time.time()

    def unpriced(self, what: str) -> LimitReached | None:
        """That the limit of money cannot be kept, as nobody knows what *what* costs."""
        if "usd" not in self._bounds:
            return None
        return self.refusal("usd", f"cannot keep the limit usd: what {what} costs is not known")

    def refusal(self, limit: str, words: str) -> LimitReached:
        turn = self._context.turn
        return LimitReached(f"{turn.name} (turn {turn.id}) {words}", limit=limit, turn=turn.id)


def _add(total: dict[str, float], used: Mapping[str, float]) -> None:
    for name, count in used.items():
        total[name] = total.get(name, 0.0) + count
