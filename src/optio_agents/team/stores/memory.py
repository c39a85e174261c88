"""Turns in this process's memory: nothing on disk, and gone with it."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from optio_agents.team.errors import Lost

from . import OVER, Claim, News, Placed, Row, end_item


class MemoryTurns:
    """A store of turns that costs a few dictionary look-ups."""

    durable = False
    place: str | None = None

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._records: dict[str, dict[str, Any]] = {}
        self._mail: dict[str, list[dict[str, Any]]] = {}
        self._keys: dict[str, dict[str, int]] = {}
        self._children: dict[str, list[str]] = {}
        self._ready: dict[str, None] = {}  # in the order in which they became so
        self._due: list[tuple[float, str]] = []
        self._bell = asyncio.Event()

    async def open(self) -> None:
        self._bell = asyncio.Event()  # of the loop that runs now
        self._bell.set()

    async def close(self) -> None:
        for row in self._rows.values():
            if row.state == "running":
                self._make_ready(row)

    async def put(self, row: Row, *, claim: bool = False) -> Placed:
        kept = self._rows.get(row.id)
        if kept is not None:
            return Placed(replace(kept), False, None)
        above = self._rows.get(row.parent or "")
        if above is not None and above.state == "cancelled":
            raise Lost(f"turn {above.id}, which called {row.id}, was cancelled", turn=row.id)
        self._rows[row.id] = row
        if row.parent is not None:
            self._children.setdefault(row.parent, []).append(row.id)
        if not row.created:
            row.created = time.time()
        if not claim:
            self._make_ready(row)
            return Placed(replace(row), True, None)
        row.state, row.epoch, row.started = "running", 1, row.created
        return Placed(row, True, Claim(row, 1))

    async def claim(
        self, names: Collection[str], most: int, *, shared: Collection[str] = ()
    ) -> list[Claim]:
        now = time.time()
        while self._due and self._due[0][0] <= now:
            row = self._rows[heapq.heappop(self._due)[1]]
            if row.state == "sleeping" and row.until is not None and row.until <= now:
                self._make_ready(row)
        taken: list[Claim] = []
        running: set[str] | None = None
        for turn in tuple(self._ready):
            row = self._rows[turn]
            if len(taken) == most or row.name not in names:
                continue
            if row.name in shared:
                if running is None:
                    running = {r.name for r in self._rows.values() if r.state == "running"}
                if row.name in running:
                    continue
                running.add(row.name)
            del self._ready[turn]
            row.state = "running"
            row.epoch += 1
            row.started = row.started or now
            records, mail = self._records.get(turn, {}), self._mail.get(turn, ())
            taken.append(Claim(replace(row), row.epoch, dict(records), list(mail)))
        return taken

    async def wait(self, seconds: float) -> None:
        if self._due:
            seconds = max(0.0, min(seconds, self._due[0][0] - time.time()))
        try:
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        except TimeoutError:
            pass
        self._bell.clear()

    async def beat(self, claims: Sequence[Claim], watched: Iterable[str] = ()) -> News:
        news = News()
        for claim in claims:
            row = self._rows[claim.row.id]
            mail = self._mail.get(row.id, [])
            if row.state == "cancelled":
                news.cancelled.append(row.id)
            elif row.epoch != claim.epoch or row.state != "running":
                news.lost.append(row.id)
            elif len(mail) > len(claim.mail):
                news.mail[row.id] = mail[len(claim.mail) :]
        for turn in watched:
            found = self._rows.get(turn)
            if found is not None and found.state in OVER:
                news.over.append(replace(found))
        return news

    async def record(self, claim: Claim, key: str, value: Any) -> Any:
        self._held(claim)
        return self._records.setdefault(claim.row.id, {}).setdefault(key, value)

    async def sleep(self, claim: Claim, *, after: int | None, until: float | None) -> None:
        row = self._held(claim)
        row.epoch += 1  # whoever sleeps may write no more
        row.state, row.after, row.until = "sleeping", after, until
        if after is not None and len(self._mail.get(row.id, ())) > after:
            self._make_ready(row)
        elif until is not None:
            heapq.heappush(self._due, (until, row.id))
        self._bell.set()

    async def post(self, turn: str, item: dict[str, Any], *, key: str) -> int:
        row = self._rows[turn]
        keys = self._keys.setdefault(turn, {})
        if key in keys:
            return keys[key]
        self._add(row, item, key)
        self._bell.set()
        return keys[key]

    async def end(self, claim: Claim, state: str, result: dict[str, Any]) -> None:
        row = self._held(claim)
        self._over(row, state, result)
        if any(self._rows[turn].name == row.name for turn in self._ready):
            self._bell.set()  # the next turn of a shared participant

    async def cancel(self, turn: str) -> list[str]:
        found: list[str] = []
        waiting = [turn]
        while waiting:
            turn = waiting.pop()
            waiting += self._children.get(turn, ())
            row = self._rows[turn]
            if row.state not in OVER:
                row.epoch += 1
                self._ready.pop(turn, None)
                self._over(row, "cancelled", {})
                found.append(turn)
        self._bell.set()
        return found

    async def look(
        self,
        *,
        id: str | None = None,  # noqa: A002
        root: str | None = None,
        name: str | None = None,
        states: Collection[str] = (),
    ) -> list[Row]:
        if id is not None:
            candidates: Iterable[Row] = [self._rows[id]] if id in self._rows else []
        else:
            candidates = self._rows.values()
        return [
            replace(row)
            for row in candidates
            if (root is None or row.root == root)
            and (name is None or row.name == name)
            and (not states or row.state in states)
        ]

    async def mailbox(self, turn: str) -> list[dict[str, Any]]:
        return list(self._mail.get(turn, ()))

    def _held(self, claim: Claim) -> Row:
        row = self._rows[claim.row.id]
        if row.epoch != claim.epoch or row.state != "running":
            raise Lost(f"turn {row.id} is no longer ours: it is {row.state}", turn=row.id)
        return row

    def _make_ready(self, row: Row) -> None:
        row.state = "ready"
        self._ready[row.id] = None
        self._bell.set()

    def _over(self, row: Row, state: str, result: dict[str, Any]) -> None:
        row.state, row.result, row.ended = state, result, time.time()
        if row.parent is not None and row.parent in self._rows:
            parent = self._rows[row.parent]
            self._keys.setdefault(parent.id, {})
            self._add(parent, end_item(row), f"end:{row.id}")

    def _add(self, row: Row, item: dict[str, Any], key: str) -> None:
        mail = self._mail.setdefault(row.id, [])
        mail.append({**item, "at": time.time()})
        self._keys[row.id][key] = len(mail)
        if row.state == "sleeping" and row.after is not None and len(mail) > row.after:
            self._make_ready(row)
