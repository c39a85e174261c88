"""What stands in the journal's tables, as the values that it was made of."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from optio_agents.framing.cursor import Cursor

from .records import (
    ACCEPTED,
    ENDINGS,
    LAST_LINES,
    REPEATED,
    Delivery,
    Entry,
    LastWords,
    Note,
    Resumed,
    SessionState,
    StoredEvent,
    StoredSession,
    over,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence


_ENTRY = "e.file, e.generation, e.offset, e.line, e.kind, e.repeated"


BY_ID = "WHERE id=?"
CALLED = "WHERE substr(id, 1, length(?1))=?1 OR json_extract(facts, '$.name')=?1"  # by a person


def sessions(database: sqlite3.Connection, where: str = "", *wanted: str) -> list[StoredSession]:
    """All, or those that are *wanted* by BY_ID or CALLED; the oldest first."""
    rows = database.execute(
        "SELECT id, created_at, host, taskdir, facts, ended_at, outcome, summary, result, state,"
        " percent, outcome IS NOT NULL AND (SELECT kind FROM events WHERE session=id"
        " ORDER BY number DESC LIMIT 1) IS 'finished'"
        f" FROM sessions {where} ORDER BY created_at, id",
        wanted,
    )
    return [_session(row) for row in rows]


def ids(database: sqlite3.Connection) -> set[str]:
    """Of all sessions."""
    return {id_ for (id_,) in database.execute("SELECT id FROM sessions")}


def _session(row: tuple[Any, ...]) -> StoredSession:
    id_, created_at, host, taskdir, facts, ended_at, outcome, summary, result, state, *more = row
    percent, finished = more
    stored = StoredSession(
        id_,
        created_at,
        host,
        taskdir,
        json.loads(facts),
        ended_at,
        outcome,
        summary,
        json.loads(result) if result else None,
        # without one, an older version of us wrote it
        SessionState(**json.loads(state)) if state else SessionState("working", since=created_at),
    )
    stands = stored.state if percent is None else replace(stored.state, percent=percent)
    if stored.over and stands.phase != "over":
        stands = over(
            str(outcome),
            summary,
            at=ended_at or created_at,
            state=stands,
            verified=stored.verified,
        )
    return replace(stored, state=stands, complete=stored.over and bool(finished))


def last_event(database: sqlite3.Connection, session: str) -> float | None:
    """When something happened in it last."""
    row = database.execute(
        "SELECT at FROM events WHERE session=? ORDER BY number DESC LIMIT 1", (session,)
    ).fetchone()
    return row[0] if row else None


def last_words(database: sqlite3.Connection, only: str | None = None) -> dict[str, LastWords]:
    """Of each session: one look into an index for each, however much was recorded."""
    turns = "FROM events WHERE session=s.id AND kind='turn' AND file IS NULL"
    usage = "FROM notes WHERE session=s.id AND kind='usage' ORDER BY at DESC LIMIT 1"
    rows = database.execute(
        "SELECT id, (SELECT line FROM events WHERE session=s.id AND file IS NOT NULL"
        " ORDER BY number DESC LIMIT 1),"
        # an agent's own sum has its past runs in it
        f" coalesce((SELECT json_extract(value, '$.raw.total_cost_usd') {turns}"
        f" ORDER BY number DESC LIMIT 1), (SELECT sum(json_extract(value, '$.cost')) {turns})),"
        f" (SELECT value {usage}), (SELECT at {usage})"
        f" FROM sessions s {'' if only is None else 'WHERE id=?'}",
        () if only is None else (only,),
    )
    return {
        id_: LastWords(
            line,
            cost if isinstance(cost, int | float) else None,
            json.loads(usage) if usage else None,
            at,
        )
        for id_, line, cost, usage, at in rows
    }


def news(database: sqlite3.Connection, after: int) -> tuple[int, set[str]]:
    """The last row of events, and the sessions of those behind row *after*."""
    (last,) = database.execute("SELECT coalesce(max(rowid), 0) FROM events").fetchone()
    found = database.execute("SELECT DISTINCT session FROM events WHERE rowid>?", (after,))
    return last, {session for (session,) in found}


_EVENTS = (
    "SELECT o.number, o.at, o.kind, o.value, o.done, e.file, e.generation, e.offset, e.line,"
    " e.kind, e.repeated FROM events o LEFT JOIN events e"
    " ON e.session=o.session AND e.number=coalesce(o.about, o.number) AND e.file IS NOT NULL"
    " WHERE o.session=?"
)


def events(database: sqlite3.Connection, session: str, after: int, most: int) -> list[StoredEvent]:
    """At most so many behind number *after*."""
    rows = database.execute(
        f"{_EVENTS} AND o.number>? ORDER BY o.number LIMIT ?", (session, after, most)
    )
    return [_event(row) for row in rows]


def open_requests(database: sqlite3.Connection, session: str) -> list[StoredEvent]:
    """Those without a decision behind them, the last of each id."""
    rows = database.execute(
        f"{_EVENTS} AND o.kind='request' AND o.file IS NULL AND NOT EXISTS (SELECT 1 FROM events d"
        " WHERE d.session=o.session AND d.key=o.key AND d.file IS NULL AND d.number>o.number"
        " AND d.kind IN ('request', 'decision')) ORDER BY o.number",
        (session,),
    )
    return [_event(row) for row in rows]


def decision(database: sqlite3.Connection, session: str, request: str) -> StoredEvent | None:
    """The last one about *request*."""
    row = database.execute(
        f"{_EVENTS} AND o.kind='decision' AND o.key=? AND o.file IS NULL"
        " ORDER BY o.number DESC LIMIT 1",
        (session, request),
    ).fetchone()
    return _event(row) if row else None


def _event(row: tuple[Any, ...]) -> StoredEvent:
    number, at, kind, value, done, *entry = row
    line = None if entry[0] is None else _entry(entry)
    known = None if value is None else json.loads(value)
    return StoredEvent(number, at, kind, known, line, bool(done))


def deliveries(database: sqlite3.Connection, session: str) -> list[Delivery]:
    """The last row of each announcement, in order."""
    rows = database.execute(
        f"SELECT d.path, d.size, d.sha256, d.reply, d.taken, d.saved, {_ENTRY}"
        " FROM deliveries d JOIN events e ON e.session=d.session AND e.number=d.event"
        " WHERE d.session=? ORDER BY d.event",
        (session,),
    )
    return [
        Delivery(_entry(row), path, size, sha256, reply, None if taken is None else bool(taken), at)
        for path, size, sha256, reply, taken, at, *row in rows
    ]


def notes(database: sqlite3.Connection, session: str, kind: str) -> list[Note]:
    """Those of a kind, the one that was replaced last behind."""
    rows = database.execute(
        "SELECT key, value, at FROM notes WHERE session=? AND kind=? ORDER BY at, key",
        (session, kind),
    )
    return [Note(kind, key, json.loads(value), at) for key, value, at in rows]


def resumed(database: sqlite3.Connection, session: str) -> Resumed:
    """What an earlier supervisor left."""

    def entries(rest: str, *more: object) -> list[Entry]:
        select = f"SELECT {_ENTRY} FROM events e WHERE session=? AND file IS NOT NULL {rest}"
        return [_entry(row) for row in database.execute(select, (session, *more))]

    cursor = database.execute("SELECT cursor FROM cursors WHERE session=?", (session,)).fetchone()
    digests = database.execute(
        "SELECT digests FROM digests WHERE session=? ORDER BY number", (session,)
    )
    (statuses,) = database.execute(
        "SELECT count(*) FROM events WHERE session=? AND kind='status'", (session,)
    ).fetchone()
    replies = database.execute(
        f"SELECT r.reply, {_ENTRY} FROM replies r"
        " JOIN events e ON e.session=r.session AND e.number=r.event"
        " WHERE e.session=? AND NOT e.done ORDER BY e.number",
        (session,),
    )
    endings = entries(
        "AND kind IN (?,?) AND NOT EXISTS (SELECT 1 FROM replies r WHERE r.session=e.session"
        " AND r.event=e.number AND r.reply<>?) ORDER BY number LIMIT 1",
        *ENDINGS,
        ACCEPTED,
    )
    accepted, refusals = database.execute(
        "SELECT total(r.reply=?1), total(r.reply NOT IN (?1,?2)) FROM replies r JOIN events e"
        " ON e.session=r.session AND e.number=r.event WHERE e.session=?3 AND e.kind='done'",
        (ACCEPTED, REPEATED, session),
    ).fetchone()
    last = entries("ORDER BY number DESC LIMIT ?", LAST_LINES)
    return Resumed(
        cursor=Cursor.from_json(cursor[0]) if cursor else None,
        digests=b"".join(row[0] for row in digests),
        pending=tuple(entries("AND NOT done ORDER BY number")),
        ending=endings[0] if endings else None,
        accepted=accepted > 0,
        refusals=int(refusals),
        deliveries=tuple(deliveries(database, session)),
        replies=tuple((_entry(row), reply) for reply, *row in replies),
        statuses=statuses,
        last_lines=tuple(entry.line for entry in reversed(last)),
    )


def _entry(row: Sequence[Any]) -> Entry:
    file, generation, offset, line, kind, repeated = row
    return Entry(file, generation, offset, line, kind, bool(repeated))
