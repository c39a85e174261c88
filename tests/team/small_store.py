"""A store of one's own: turns in one JSON file, for one process at a time."""

import asyncio
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from optio_agents.team.errors import Lost
from optio_agents.team.stores import OVER, Claim, News, Placed, Row, end_item


class FileTurns:
    durable, place = True, None

    def __init__(self, path: Path) -> None:
        self.path, self.bell = path, asyncio.Event()

    async def open(self) -> None:
        kept = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.rows = {row["id"]: Row(**row) for row in kept.get("rows", ())}
        self.records, self.mail = kept.get("records", {}), kept.get("mail", {})
        for row in self.rows.values():
            row.state = "ready" if row.state == "running" else row.state
        self.bell.set()

    async def close(self) -> None:
        self.changed()

    def changed(self) -> None:
        rows = [asdict(row) for row in self.rows.values()]
        self.path.write_text(json.dumps({"rows": rows, "records": self.records, "mail": self.mail}))
        self.bell.set()

    async def put(self, row: Row, *, claim: bool = False) -> Placed:
        if kept := self.rows.get(row.id):
            return Placed(replace(kept), False, None)
        if (above := self.rows.get(row.parent or "")) and above.state == "cancelled":
            raise Lost(f"turn {above.id} was cancelled", turn=row.id)
        self.rows[row.id], row.created = row, row.created or time.time()
        taken = (await self.claim([row.name], 1, only=row.id))[0] if claim else None
        self.changed()
        return Placed(replace(row), True, taken)

    async def claim(self, names: Any, most: int, *, shared: Any = (), only: Any = None) -> Any:
        taken, busy = [], {row.name for row in self.rows.values() if row.state == "running"}
        for row in self.rows.values():
            due = row.state == "sleeping" and row.until is not None and row.until <= time.time()
            free = row.name in names and not (row.name in shared and row.name in busy)
            if (
                len(taken) < most
                and (row.state == "ready" or due)
                and free
                and only in (None, row.id)
            ):
                busy.add(row.name)
                row.state, row.epoch, row.started = (
                    "running",
                    row.epoch + 1,
                    row.started or time.time(),
                )
                kept = dict(self.records.get(row.id, {})), list(self.mail.get(row.id, ()))
                taken.append(Claim(replace(row), row.epoch, *kept))
        return taken

    async def wait(self, seconds: float) -> None:
        due = [r.until for r in self.rows.values() if r.state == "sleeping" and r.until is not None]
        try:
            async with asyncio.timeout(max(0, min([seconds, *(one - time.time() for one in due)]))):
                await self.bell.wait()
        except TimeoutError:
            pass
        self.bell.clear()

    async def beat(self, claims: Any, watched: Any = ()) -> News:
        news = News()
        for claim in claims:
            row, mail = self.rows[claim.row.id], self.mail.get(claim.row.id, [])
            if row.state == "cancelled" or row.epoch != claim.epoch:
                (news.cancelled if row.state == "cancelled" else news.lost).append(row.id)
            elif len(mail) > len(claim.mail):
                news.mail[row.id] = mail[len(claim.mail) :]
        found = [self.rows[turn] for turn in watched if turn in self.rows]
        news.over = [replace(row) for row in found if row.state in OVER]
        return news

    def held(self, claim: Claim) -> Row:
        row = self.rows[claim.row.id]
        if row.epoch != claim.epoch or row.state != "running":
            raise Lost("another has it", turn=row.id)
        return row

    async def record(self, claim: Claim, key: str, value: Any) -> Any:
        kept = self.records.setdefault(self.held(claim).id, {}).setdefault(key, value)
        self.changed()
        return kept

    async def sleep(self, claim: Claim, *, after: int | None, until: float | None) -> None:
        row = self.held(claim)
        more = after is not None and len(self.mail.get(row.id, ())) > after
        row.state, row.epoch = "ready" if more else "sleeping", row.epoch + 1
        row.after, row.until = after, until
        self.changed()

    async def post(self, turn: str, item: dict[str, Any], *, key: str) -> int:
        row, mail = self.rows[turn], self.mail.setdefault(turn, [])
        keys = [one["key"] for one in mail]
        if key not in keys:
            mail.append({**item, "key": key, "at": time.time()})
            if row.state == "sleeping" and row.after is not None and len(mail) > row.after:
                row.state = "ready"
            self.changed()
        return [*keys, key].index(key) + 1

    async def over(self, row: Row, state: str, result: dict[str, Any]) -> None:
        row.state, row.result, row.ended = state, result, time.time()
        if row.parent in self.rows:
            await self.post(str(row.parent), end_item(row), key=f"end:{row.id}")
        self.changed()

    async def end(self, claim: Claim, state: str, result: dict[str, Any]) -> None:
        await self.over(self.held(claim), state, result)

    async def cancel(self, turn: str) -> list[str]:
        found = [] if self.rows[turn].state in OVER else [turn]
        for row in list(self.rows.values()):
            found += await self.cancel(row.id) if row.parent == turn else []
        if turn in found:
            self.rows[turn].epoch += 1
            await self.over(self.rows[turn], "cancelled", {})
        return found

    async def look(
        self,
        *,
        id: Any = None,  # noqa: A002
        root: Any = None,
        name: Any = None,
        states: Any = (),
    ) -> list[Row]:
        wanted = {"id": id, "root": root, "name": name}
        rows = [r for r in self.rows.values() if not states or r.state in states]
        fits = {r.id for r in rows if all(v in (None, getattr(r, k)) for k, v in wanted.items())}
        return [replace(row) for row in rows if row.id in fits]

    async def mailbox(self, turn: str) -> list[dict[str, Any]]:
        return list(self.mail.get(turn, ()))
