"""The turns of one team as rows of SQLite: what happens to them within a transaction."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import Any

from optio_agents.team.errors import Lost

from . import Claim, Row

FIELDS = (
    "id, name, message, parent, root, options, place, state, epoch, worker, created, started,"
    " ended, until, after, result"
)
EVERYONE = "*"


class TurnTable:
    """As one worker has them; `ring` are the workers that have to hear of what was written."""

    def __init__(self, team: str, worker: str) -> None:
        self.team, self.worker = team, worker
        self.ring: set[str] = set()

    def take(self, database: sqlite3.Connection, number: int, now: float) -> Claim:
        [row] = database.execute(
            "UPDATE turns SET state='running', epoch=epoch+1, worker=?,"
            f" started=coalesce(started, ?) WHERE number=? RETURNING {FIELDS}",
            (self.worker, now, number),
        ).fetchall()
        kept = database.execute("SELECT key, value FROM turn_records WHERE turn=?", (number,))
        records = {key: json.loads(value) for key, value in kept}
        found = row_of(row)
        return Claim(found, found.epoch, records, mail_of(database, number, 0))

    def rows(self, database: sqlite3.Connection, terms: str, values: tuple[Any, ...]) -> list[Row]:
        found = database.execute(
            f"SELECT {FIELDS} FROM turns WHERE team=? AND {terms} ORDER BY number",
            (self.team, *values),
        )
        return [row_of(row) for row in found]

    def number_of(self, database: sqlite3.Connection, turn: str) -> int | None:
        found = database.execute(
            "SELECT number FROM turns WHERE team=? AND id=?", (self.team, turn)
        ).fetchone()
        return None if found is None else int(found[0])

    def held(self, database: sqlite3.Connection, claim: Claim) -> int:
        number, state, epoch, worker = database.execute(
            "SELECT number, state, epoch, worker FROM turns WHERE team=? AND id=?",
            (self.team, claim.row.id),
        ).fetchone() or (0, "gone", 0, None)
        if (state, epoch, worker) != ("running", claim.epoch, self.worker):
            raise Lost(f"turn {claim.row.id} is no longer ours: it is {state}", turn=claim.row.id)
        return int(number)

    def tell_parent(
        self, database: sqlite3.Connection, turn: str, parent: str | None, state: str
    ) -> None:
        number = None if parent is None else self.number_of(database, parent)
        if number is not None:
            item = json.dumps({"end": turn, "state": state})
            self.post(database, number, item, f"end:{turn}", quiet=True)

    def post(
        self,
        database: sqlite3.Connection,
        number: int,
        text: str,
        key: str,
        *,
        quiet: bool = False,
    ) -> int:
        """*quiet*: a worker here knows it already."""
        old = database.execute(
            "SELECT number FROM turn_mail WHERE turn=? AND key=?", (number, key)
        ).fetchone()
        if old is not None:
            return int(old[0])
        [(place, state, worker)] = database.execute(
            "UPDATE turns SET mail=mail+1,"
            " state=CASE WHEN state='sleeping' AND mail+1>after THEN 'ready' ELSE state END"
            " WHERE number=? RETURNING mail, state, worker",
            (number,),
        ).fetchall()
        database.execute(
            "INSERT INTO turn_mail (turn, number, key, item, at) VALUES (?,?,?,?,?)",
            (number, place, key, text, time.time()),
        )
        if state == "ready":
            self.ring.add(EVERYONE)
        elif state == "running" and not (quiet and worker == self.worker):
            self.ring.add(worker)
        return int(place)


def release(database: sqlite3.Connection, workers: list[str]) -> int:
    """Make ready what these had claimed; how many that were."""
    return database.execute(
        "UPDATE turns SET state='ready', worker=NULL WHERE state='running' AND ended IS NULL"
        " AND worker IN (SELECT value FROM json_each(?))",
        (json.dumps(workers),),
    ).rowcount


def row_of(found: tuple[Any, ...]) -> Row:
    fields = list(found)
    for index in (2, 5, 15):  # message, options, result
        fields[index] = None if fields[index] is None else json.loads(fields[index])
    return Row(*fields)


def mail_of(database: sqlite3.Connection, number: int, after: int) -> list[dict[str, Any]]:
    found = database.execute(
        "SELECT item, at FROM turn_mail WHERE turn=? AND number>? ORDER BY number", (number, after)
    )
    return [{**json.loads(item), "at": at} for item, at in found]
