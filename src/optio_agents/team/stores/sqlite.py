"""Turns in the journal of this machine, for any number of processes.

`database` writes them, `workers` says who lives and rings. A dead worker is noticed by the kernel
and its turns are ready again; one that is frozen loses them when its lease is over, and its later
words are refused by their epoch. A worker that was itself asleep for so long takes nothing from
others before it has renewed its own lease and waited for theirs.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from optio_agents.team.errors import Lost

from . import Claim, News, Placed, Row
from .database import Database
from .table import EVERYONE, TurnTable, mail_of, release
from .workers import Workers

T = TypeVar("T")


class SqliteTurns:
    """One worker on the turns of *team* in the journal at *path*."""

    durable = True

    def __init__(self, path: Path, *, team: str = "team", lease: float = 10.0) -> None:
        self.path, self._team, self._lease = path, team, lease  # the lease in seconds
        self.place: str | None = str(path.absolute())

    async def open(self) -> None:
        self._id = secrets.token_hex(8)
        self._bell = asyncio.Event()
        self._bell.set()
        self._table = TurnTable(self._team, self._id)
        self._until, self._patient = float("inf"), 0.0
        self._died: list[str] = []
        self._database = Database(self.path, every=self._lease / 4, beat=self._renew)
        await self._database.open()
        await self._database.write(self._renew)
        self._workers = Workers(self.path.with_name(f"{self.path.name}.workers"), self._id)
        self._workers.join(self._bell.set, self._on_death)
        await self._bury()

    async def close(self) -> None:
        me = self._id

        def leave(database: sqlite3.Connection) -> None:
            release(database, [me])
            database.execute("DELETE FROM workers WHERE id=?", (me,))

        try:
            await self._database.write(leave)
        finally:
            others = tuple(self._workers.others)
            self._workers.leave()
            self._workers.ring(others)
            await self._database.close()

    async def put(self, row: Row, *, claim: bool = False) -> Placed:
        now = time.time()
        row.created = row.created or now
        if claim:
            row.state, row.epoch, row.started, row.worker = "running", 1, row.created, self._id
        values = (
            self._team,
            row.id,
            row.name,
            json.dumps(row.message),
            row.parent,
            row.root,
            json.dumps(row.options),
            row.place,
            row.state,
            row.epoch,
            row.worker,
            row.created,
            row.started,
        )

        def work(database: sqlite3.Connection) -> Row | None:
            new = database.execute(
                "INSERT OR IGNORE INTO turns (team, id, name, message, parent, root, options,"
                " place, state, epoch, worker, created, started)"
                " SELECT ?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13 WHERE ?5 IS NULL OR NOT EXISTS"
                " (SELECT 1 FROM turns WHERE team=?1 AND id=?5 AND state='cancelled')",
                values,
            ).rowcount
            if new:
                if not claim:
                    self._table.ring.add(EVERYONE)
                return None
            if not (kept := self._table.rows(database, "id=?", (row.id,))):
                words = f"turn {row.parent}, which called {row.id}, was cancelled"
                raise Lost(words, turn=row.id)
            return kept[0]

        kept = await self._write(work)
        if kept is not None:
            return Placed(kept, False, None)
        return Placed(row, True, Claim(row, 1) if claim else None)

    async def claim(
        self, names: Collection[str], most: int, *, shared: Collection[str] = ()
    ) -> list[Claim]:
        now, team = time.time(), self._team

        any_ready = await self._database.read(
            lambda database: database.execute(
                "SELECT 1 FROM turns WHERE team=? AND state='ready' AND ended IS NULL"
                " UNION ALL SELECT 1 FROM turns WHERE team=? AND state='sleeping'"
                " AND until<=? AND ended IS NULL LIMIT 1",
                (team, team, now),
            ).fetchone()
        )
        if not any_ready:
            return []

        def work(database: sqlite3.Connection) -> list[Claim]:
            database.execute(
                "UPDATE turns SET state='ready' WHERE team=? AND state='sleeping' AND until<=?"
                " AND ended IS NULL",
                (team, now),
            )
            ready = database.execute(
                "SELECT number, name FROM turns WHERE team=? AND state='ready'"
                " AND ended IS NULL AND name IN (SELECT value FROM json_each(?))"
                " AND (place IS NULL OR place=?) ORDER BY number",
                (team, json.dumps(list(names)), self.place),
            ).fetchall()
            busy = {
                name
                for (name,) in database.execute(
                    "SELECT DISTINCT name FROM turns WHERE team=? AND state='running'"
                    " AND ended IS NULL AND name IN (SELECT value FROM json_each(?))",
                    (team, json.dumps(list(shared))),
                )
            }
            taken: list[int] = []
            for number, name in ready:
                if len(taken) == most:
                    break
                if name in busy:
                    continue
                if name in shared:
                    busy.add(name)
                taken.append(number)
            return [self._table.take(database, number, now) for number in taken]

        return await self._write(work)

    async def wait(self, seconds: float) -> None:
        until = await self._database.read(
            lambda database: database.execute(
                "SELECT min(until) FROM turns WHERE team=? AND state='sleeping'"
                " AND ended IS NULL AND until IS NOT NULL",
                (self._team,),
            ).fetchone()[0]
        )
        if until is not None:
            seconds = max(0.0, min(seconds, until - time.time()))
        try:
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        except TimeoutError:
            await self._sweep()
        self._bell.clear()
        await self._bury()

    async def beat(self, claims: Sequence[Claim], watched: Iterable[str] = ()) -> News:
        mine = {claim.row.id: claim for claim in claims}
        ids = json.dumps(list(watched))

        def work(database: sqlite3.Connection) -> News:
            news = News()
            held = {
                turn: (number, epoch, mail)
                for turn, number, epoch, mail in database.execute(
                    "SELECT id, number, epoch, mail FROM turns WHERE team=? AND state='running'"
                    " AND ended IS NULL AND worker=?",
                    (self._team, self._id),
                )
            }
            for turn, claim in mine.items():
                number, epoch, mail = held.get(turn, (0, 0, 0))
                if epoch != claim.epoch:
                    state = self._table.rows(database, "id=?", (turn,))[0].state
                    (news.cancelled if state == "cancelled" else news.lost).append(turn)
                elif mail > len(claim.mail):
                    news.mail[turn] = mail_of(database, number, len(claim.mail))
            if ids != "[]":
                news.over = self._table.rows(
                    database,
                    "id IN (SELECT value FROM json_each(?)) AND ended IS NOT NULL",
                    (ids,),
                )
            return news

        def in_one_view(database: sqlite3.Connection) -> News:
            if database.in_transaction:
                return work(database)
            database.execute("BEGIN")
            try:
                return work(database)
            finally:
                database.execute("COMMIT")

        return await self._database.read(in_one_view)

    async def record(self, claim: Claim, key: str, value: Any) -> Any:
        text = json.dumps(value)

        def work(database: sqlite3.Connection) -> str:
            number = self._table.held(database, claim)
            new = database.execute(
                "INSERT OR IGNORE INTO turn_records (turn, key, value) VALUES (?,?,?)",
                (number, key, text),
            ).rowcount
            if new:
                return text
            [(kept,)] = database.execute(
                "SELECT value FROM turn_records WHERE turn=? AND key=?", (number, key)
            ).fetchall()
            return str(kept)

        return json.loads(await self._write(work, careful=key.startswith("intent:")))

    async def sleep(self, claim: Claim, *, after: int | None, until: float | None) -> None:
        def work(database: sqlite3.Connection) -> None:
            number = self._table.held(database, claim)
            database.execute(
                "UPDATE turns SET epoch=epoch+1, worker=NULL, after=?1, until=?2,"
                " state=CASE WHEN mail>?1 THEN 'ready' ELSE 'sleeping' END WHERE number=?3",
                (after, until, number),
            )
            self._table.ring.add(EVERYONE)

        await self._write(work)

    async def post(self, turn: str, item: dict[str, Any], *, key: str) -> int:
        text = json.dumps(item)

        def work(database: sqlite3.Connection) -> int:
            number = self._table.number_of(database, turn)
            if number is None:
                raise KeyError(turn)
            return self._table.post(database, number, text, key)

        return await self._write(work)

    async def end(self, claim: Claim, state: str, result: dict[str, Any]) -> None:
        text = json.dumps(result)

        def work(database: sqlite3.Connection) -> None:
            number = self._table.held(database, claim)
            database.execute(
                "UPDATE turns SET state=?, result=?, ended=? WHERE number=?",
                (state, text, time.time(), number),
            )
            row = claim.row
            self._table.tell_parent(database, row.id, row.parent, state)
            waiting = database.execute(
                "SELECT 1 FROM turns WHERE team=? AND state='ready' AND ended IS NULL"
                " AND name=? LIMIT 1",
                (self._team, row.name),
            ).fetchone()
            if waiting or row.parent is None:
                self._table.ring.add(EVERYONE if waiting else "others")

        await self._write(work)

    async def cancel(self, turn: str) -> list[str]:
        def work(database: sqlite3.Connection) -> list[str]:
            found = database.execute(
                "WITH RECURSIVE below (id, number, parent, ended) AS ("
                " SELECT id, number, parent, ended FROM turns WHERE team=?1 AND id=?2"
                " UNION ALL SELECT t.id, t.number, t.parent, t.ended FROM turns t, below"
                " WHERE t.team=?1 AND t.parent=below.id"
                " AND t.root=(SELECT root FROM turns WHERE team=?1 AND id=?2))"
                " SELECT id, number, parent FROM below WHERE ended IS NULL",
                (self._team, turn),
            ).fetchall()
            for one, number, parent in found:
                database.execute(
                    "UPDATE turns SET state='cancelled', epoch=epoch+1, ended=?, result='{}'"
                    " WHERE number=?",
                    (time.time(), number),
                )
                self._table.tell_parent(database, one, parent, "cancelled")
            self._table.ring.add(EVERYONE)
            return [one for one, *_ in found]

        return await self._write(work)

    async def look(
        self,
        *,
        id: str | None = None,  # noqa: A002
        root: str | None = None,
        name: str | None = None,
        states: Collection[str] = (),
    ) -> list[Row]:
        wanted = [("id=?", id), ("root=?", root), ("name=?", name)]
        given = [(term, value) for term, value in wanted if value is not None]
        if states:
            given.append(("state IN (SELECT value FROM json_each(?))", json.dumps(list(states))))
        terms = " AND ".join(term for term, _ in given) or "1"
        values = tuple(value for _, value in given)
        return await self._database.read(lambda database: self._table.rows(database, terms, values))

    async def mailbox(self, turn: str) -> list[dict[str, Any]]:
        def work(database: sqlite3.Connection) -> list[dict[str, Any]]:
            number = self._table.number_of(database, turn)
            return [] if number is None else mail_of(database, number, 0)

        return await self._database.read(work)

    # Life

    async def _write(self, work: Callable[[sqlite3.Connection], T], *, careful: bool = False) -> T:
        result = await self._database.write(work, careful=careful)
        if self._table.ring:
            rung, self._table.ring = self._table.ring, set()
            if rung & {EVERYONE, "others"}:
                self._workers.ring(self._workers.others)
            else:
                self._workers.ring(rung - {self._id})
            if rung & {EVERYONE, self._id}:
                self._bell.set()
        return result

    def _renew(self, database: sqlite3.Connection) -> None:
        now = time.time()
        if now > self._until:  # we slept, and perhaps all of this machine did
            self._patient = now + self._lease
        self._until = now + self._lease
        database.execute(
            "INSERT INTO workers (id, team, lease) VALUES (?,?,?)"
            " ON CONFLICT (id) DO UPDATE SET lease=excluded.lease",
            (self._id, self._team, self._until),
        )

    async def _sweep(self) -> None:
        """Look for what no bell has told of: new workers, and those whose lease is over."""
        self._workers.scan()
        if time.time() > self._until:
            await self._database.write(self._renew)
        now = time.time()
        late = await self._database.read(
            lambda database: database.execute(
                "SELECT id FROM workers WHERE lease<?", (now,)
            ).fetchall()
        )
        if late and now > self._patient:
            frozen = [worker for (worker,) in late]
            await self._write(lambda database: self._take_from(database, frozen))

    def _take_from(self, database: sqlite3.Connection, workers: list[str]) -> None:
        if release(database, workers):
            self._table.ring.add(EVERYONE)

    def _on_death(self, worker: str) -> None:
        self._died.append(worker)
        self._bell.set()

    async def _bury(self) -> None:
        while self._died:
            dead, self._died = self._died, []

            def work(database: sqlite3.Connection, dead: list[str] = dead) -> None:
                self._take_from(database, dead)
                for worker in dead:
                    database.execute("DELETE FROM workers WHERE id=?", (worker,))

            await self._write(work)
            for worker in dead:
                self._workers.remove(worker)
