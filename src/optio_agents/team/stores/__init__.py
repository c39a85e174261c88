"""The one seam under the kernel: where turns are written, claimed, woken and ended.

Ten methods and a numbered mailbox per turn carry everything. What they mean is said here once;
`optio_agents.testing.turn_store_cases` is the suite that every store of turns passes.

- A **turn** is a row. `put` keeps it once, whoever asks how often; with `claim` a new one belongs
  to the worker that put it, in the same write.
- A **claim** is the right to run a turn and to write for it. It has an epoch, which grows with
  each claim: whatever takes a claim raises `Lost` when the row has another epoch, or is over.
- The **mailbox** of a turn is numbered from 1. Ends of children, messages and answers are items
  in it. An item posted again under the same key is the same item. To wait is to sleep until item
  n + 1, or a time: ANY, ALL, time-outs and limits are decided above, by running again.
- Of the ready turns of a *shared* participant, one is claimed at a time, the oldest first, and
  none while another of them runs.
- A worker that died loses its claims at once where the kernel tells, else by its lease. A claim
  that its worker gave up (`sleep` until now) is ready for anybody.

Values are JSON. Nothing here assumes that workers share a machine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

OVER = frozenset({"completed", "failed", "cancelled", "timeout", "limit"})


@dataclass(slots=True)
class Row:
    """One turn as it is kept. `state`: ready, running, sleeping, or one of OVER."""

    id: str
    name: str  # of the participant
    message: dict[str, Any]
    parent: str | None = None
    root: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    place: str | None = None  # where alone it can run: the journal that holds its session
    state: str = "ready"
    epoch: int = 0
    worker: str | None = None
    created: float = 0.0  # seconds since the epoch, as all times here
    started: float | None = None
    ended: float | None = None
    until: float | None = None  # asleep: when it is ready, whatever came
    after: int | None = None  # asleep: it is ready with a mail item behind this number
    result: dict[str, Any] | None = None


@dataclass(slots=True)
class Claim:
    """The right to run one turn, with what was written about it so far."""

    row: Row
    epoch: int
    records: dict[str, Any] = field(default_factory=dict)
    mail: list[dict[str, Any]] = field(default_factory=list)  # item n stands at n - 1


class Placed(NamedTuple):
    row: Row
    new: bool
    claim: Claim | None


@dataclass(slots=True)
class News:
    """What a worker does not know yet about its claims, and about turns it waits for."""

    lost: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    mail: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    over: list[Row] = field(default_factory=list)


class TurnStore(Protocol):
    """Where the turns of one team are; one object is one worker."""

    durable: bool  # whether another process finds them
    place: str | None  # what only workers here can run has this

    async def open(self) -> None:
        """Join as a worker; claims of workers that are gone become ready."""

    async def close(self) -> None:
        """Leave; whatever this worker still has claimed becomes ready."""

    async def put(self, row: Row, *, claim: bool = False) -> Placed:
        """Keep *row* unless its id is known; gives the kept row, and whether it is new.

        Raises Lost for a new one under a parent that was cancelled.
        """

    async def claim(
        self, names: Collection[str], most: int, *, shared: Collection[str] = ()
    ) -> list[Claim]:
        """Take up to *most* turns of *names* that are ready now, the oldest first."""

    async def wait(self, seconds: float) -> None:
        """Return when something may be ready or new, at the latest after so long."""

    async def beat(self, claims: Sequence[Claim], watched: Iterable[str] = ()) -> News:
        """Renew the lease; what happened to *claims*, and which of *watched* are over."""

    async def record(self, claim: Claim, key: str, value: Any) -> Any:
        """Keep *value* under *key*, once: the first wins, and what is kept is returned."""

    async def sleep(self, claim: Claim, *, after: int | None, until: float | None) -> None:
        """Give the turn back until its mailbox has more than *after* items, or until a time."""

    async def post(self, turn: str, item: dict[str, Any], *, key: str) -> int:
        """Placed *item* into the mailbox; its number, which is the old one if *key* was there.

        Raises KeyError for a turn that is not there. The mail of a turn that is over is kept.
        """

    async def end(self, claim: Claim, state: str, result: dict[str, Any]) -> None:
        """The turn is over; its parent has `{"end": id, "state": state}` in its mailbox."""

    async def cancel(self, turn: str) -> list[str]:
        """End the turn and all below it that are not over, as cancelled; their ids.

        Their epochs grow, so that later words of whoever runs them are refused.
        """

    async def look(
        self,
        *,
        id: str | None = None,  # noqa: A002
        root: str | None = None,
        name: str | None = None,
        states: Collection[str] = (),
    ) -> list[Row]:
        """The rows that fit all that is given, the oldest first."""

    async def mailbox(self, turn: str) -> list[dict[str, Any]]:
        """All items of a turn, in order; each has `at`, the time it was posted."""


def end_item(row: Row) -> dict[str, Any]:
    return {"end": row.id, "state": row.state}
