"""The turns in the journal of this machine, for whoever only looks on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from optio_agents.store.sqlite import StoreFile

from . import Row

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

_FIELDS = (
    "team, id, name, message, parent, root, state, created, started, ended, until, result"
    " FROM turns"
)
_MOST = 5000  # turns of one tree


class TurnReader:
    """Trees of turns, of all teams. Everything raises StoreError."""

    def __init__(self, path: Path) -> None:
        self._file = StoreFile(path)

    async def roots(self, most: int = 200) -> list[tuple[str, Row]]:
        """What was called from outside of a team, each with its team, the latest first."""
        terms = "WHERE parent IS NULL ORDER BY number DESC LIMIT ?"
        return await self._file.read(lambda database: _rows(database, terms, (most,)))

    async def tree(self, team: str, root: str) -> list[Row]:
        """That turn and all below it, the oldest first."""
        terms = "WHERE team=? AND root=? ORDER BY number LIMIT ?"
        found = await self._file.read(lambda database: _rows(database, terms, (team, root, _MOST)))
        return [row for _, row in found]

    async def close(self) -> None:
        await self._file.close()


def _rows(
    database: sqlite3.Connection, terms: str, values: tuple[Any, ...]
) -> list[tuple[str, Row]]:
    found = database.execute(f"SELECT {_FIELDS} {terms}", values)
    return [(team, _row(*rest)) for team, *rest in found]


def _row(
    id_: str,
    name: str,
    message: str,
    parent: str | None,
    root: str,
    state: str,
    created: float,
    started: float | None,
    ended: float | None,
    until: float | None,
    result: str | None,
) -> Row:
    return Row(
        id_,
        name,
        json.loads(message),
        parent,
        root,
        state=state,
        created=created,
        started=started,
        ended=ended,
        until=until,
        result=json.loads(result) if result else None,
    )
