"""The tables of the journal, which versions of them we read, and how an older one is brought up.

Schema 2 holds all that happened in a session as one sequence of numbered events. Schema 1, of 0.3,
had the lines of all sessions in one sequence, and the rest in notes without any.
"""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

from optio_agents.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


VERSION = 2
_APPLICATION = 0x6F707469  # "opti", so that a stranger's database is not taken for ours
_SESSIONS = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, created_at REAL NOT NULL, host TEXT NOT NULL, taskdir TEXT NOT NULL,
    facts TEXT NOT NULL, ended_at REAL, outcome TEXT, summary TEXT, result TEXT,
    state TEXT, percent INTEGER
) WITHOUT ROWID"""
# Whatever happened in a session, in one sequence of its own without gaps. A line of the log has a
# place in its file, and no value; what *about* names is the number of the line that it is about.
_EVENTS = """
CREATE TABLE events (
    session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, number INTEGER NOT NULL,
    at REAL NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL DEFAULT '', value TEXT, about INTEGER,
    file TEXT, generation INTEGER, offset INTEGER, line TEXT, repeated INTEGER,
    done INTEGER NOT NULL DEFAULT 1,
    UNIQUE (session, number), UNIQUE (session, file, generation, offset)
);
CREATE INDEX open_events ON events (session) WHERE NOT done;
CREATE INDEX named_events ON events (session, kind, key) WHERE file IS NULL"""
_BESIDE = """
CREATE TABLE cursors (
    session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, file TEXT NOT NULL,
    cursor TEXT NOT NULL, PRIMARY KEY (session, file)
) WITHOUT ROWID;
CREATE TABLE digests (
    number INTEGER PRIMARY KEY, session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    generation INTEGER NOT NULL, digests BLOB NOT NULL
);
CREATE INDEX session_digests ON digests (session)"""
_HANDED = """
CREATE TABLE deliveries (
    session TEXT NOT NULL, event INTEGER NOT NULL,
    path TEXT NOT NULL, size INTEGER, sha256 TEXT, reply TEXT, taken INTEGER, saved TEXT,
    PRIMARY KEY (session, event),
    FOREIGN KEY (session, event) REFERENCES events (session, number) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE replies (
    session TEXT NOT NULL, event INTEGER NOT NULL, reply TEXT NOT NULL,
    PRIMARY KEY (session, event),
    FOREIGN KEY (session, event) REFERENCES events (session, number) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE notes (
    session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (session, kind, key)
) WITHOUT ROWID"""
# The turns of teams: each with its mailbox, what it remembers, and the workers that run them.
_TURNS = """
CREATE TABLE turns (
    number INTEGER PRIMARY KEY, team TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL,
    parent TEXT, root TEXT NOT NULL, message TEXT NOT NULL, options TEXT NOT NULL, place TEXT,
    state TEXT NOT NULL, epoch INTEGER NOT NULL, worker TEXT, mail INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL, started REAL, ended REAL, until REAL, after INTEGER, result TEXT,
    UNIQUE (team, id)
);
CREATE INDEX open_turns ON turns (team, state, until) WHERE ended IS NULL;
CREATE INDEX turn_trees ON turns (team, root);
CREATE TABLE turn_mail (
    turn INTEGER NOT NULL REFERENCES turns ON DELETE CASCADE, number INTEGER NOT NULL,
    key TEXT NOT NULL, item TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (turn, number), UNIQUE (turn, key)
) WITHOUT ROWID;
CREATE TABLE turn_records (
    turn INTEGER NOT NULL REFERENCES turns ON DELETE CASCADE, key TEXT NOT NULL,
    value TEXT NOT NULL, PRIMARY KEY (turn, key)
) WITHOUT ROWID;
CREATE TABLE workers (
    id TEXT PRIMARY KEY, team TEXT NOT NULL, lease REAL NOT NULL
) WITHOUT ROWID"""


def bring_up(database: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new journal, or those of an old one new.

    Raises StoreError for a journal that we cannot read.
    """
    if _version(database, path) == VERSION:
        return
    database.execute("PRAGMA foreign_keys=OFF")  # of no effect within a transaction
    in_transaction(database, lambda database: _bring_up(database, path))


def _bring_up(database: sqlite3.Connection, path: Path) -> None:
    match _version(database, path):  # somebody else may have done it while we waited
        case 0:
            _execute(database, _SESSIONS, _EVENTS, _BESIDE, _HANDED, _TURNS)
            database.execute(f"PRAGMA application_id={_APPLICATION}")
        case 1:
            _migrate(database)
    database.execute(f"PRAGMA user_version={VERSION}")


def _execute(database: sqlite3.Connection, *scripts: str) -> None:
    for script in scripts:
        for statement in script.split(";\n"):
            database.execute(statement)


def _migrate(database: sqlite3.Connection) -> None:
    """From schema 1, keeping everything: what happened gets its place by when it did."""
    for table in "events", "deliveries", "replies", "notes":
        database.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for index in "session_events", "open_events", "session_deliveries":
        database.execute(f"DROP INDEX {index}")
    database.execute("ALTER TABLE sessions ADD COLUMN state TEXT")
    database.execute("ALTER TABLE sessions ADD COLUMN percent INTEGER")
    _execute(database, _EVENTS, _HANDED, _TURNS)
    database.execute("UPDATE old_notes SET kind='output' WHERE kind='heard'")
    for (session,) in database.execute("SELECT id FROM sessions").fetchall():
        _migrate_session(database, session)
    for table in "deliveries", "replies", "notes", "events":
        database.execute(f"DROP TABLE old_{table}")


def _migrate_session(database: sqlite3.Connection, session: str) -> None:
    found = list[tuple[float, int, tuple[object, ...]]]()  # when, then the lines first, the row
    (began, host, taskdir, facts) = database.execute(
        "SELECT created_at, host, taskdir, facts FROM sessions WHERE id=?", (session,)
    ).fetchone()
    title = json.loads(facts).get("title", "")
    first = {"host": host, "taskdir": taskdir, "title": title, "resumed": False, "by": ""}
    last = began
    for number, at, *row in database.execute(
        "SELECT number, at, kind, file, generation, offset, line, repeated, done"
        " FROM old_events WHERE session=? ORDER BY number",
        (session,),
    ):
        last = max(last, at)  # a clock may have stepped back; the order of the lines stays
        found.append((last, number, (at, row[0], "", None, number, *row[1:])))
    times = {row[4]: at for at, _, row in found}
    for number, path, size, sha256, reply, taken, saved in database.execute(
        "SELECT event, path, size, sha256, reply, taken, saved FROM old_deliveries WHERE session=?",
        (session,),
    ):
        step = {"path": path, "size": size, "sha256": sha256, "reply": reply}
        step |= {"taken": None if taken is None else bool(taken), "saved": saved}
        found.append((times[number], _LATER, _plain(times[number], "delivery", "", step, number)))
    for kind, key, text, at in database.execute(
        "SELECT kind, key, value, at FROM old_notes WHERE session=? ORDER BY number", (session,)
    ).fetchall():
        new = list(_events_of_note(kind, key, json.loads(text)))
        found += [(at, _LATER, _plain(at, its, key, value)) for its, value in new]
        if not new:
            database.execute(
                "INSERT INTO notes (session, kind, key, value, at) VALUES (?,?,?,?,?)",
                (session, kind, key, text, at),
            )
    found.sort(key=lambda one: one[:2])  # stable: what happened at once stays in its order
    rows = [_plain(began, "began", "", first), *(row for _, _, row in found)]
    numbers = {row[4]: n for n, row in enumerate(rows, 1) if row[4] and row[5]}
    for n, (at, kind, key, value, about, *place) in enumerate(rows, 1):
        of = numbers.get(about) if about and not place[0] else None
        database.execute(
            "INSERT INTO events (session, number, at, kind, key, value, about,"
            " file, generation, offset, line, repeated, done) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (session, n, at, kind, key, value, of, *place),
        )
    for old, new_number in numbers.items():
        database.execute(
            "INSERT INTO deliveries SELECT session, ?, path, size, sha256, reply, taken, saved"
            " FROM old_deliveries WHERE event=?",
            (new_number, old),
        )
        database.execute(
            "INSERT INTO replies SELECT ?, ?, reply FROM old_replies WHERE event=?",
            (session, new_number, old),
        )


_LATER = 1 << 62  # behind the lines of the same moment


def _plain(at: float, kind: str, key: str, value: object, about: object = None) -> tuple[Any, ...]:
    return at, kind, key, json.dumps(value), about, None, None, None, None, None, 1


def _events_of_note(kind: str, key: str, value: Any) -> Iterator[tuple[str, object]]:
    """What a note of schema 1 says that happened; nothing for what is only to be remembered."""
    match kind:
        case "turn":
            said = value.get("result") if isinstance(value.get("result"), str) else ""
            if value.get("subtype") == "success" and not value.get("is_error"):
                yield "turn", {"outcome": "completed", "text": said, "raw": value}
            else:
                why = said or str(value.get("subtype") or "failed")
                yield "turn", {"outcome": "failed", "failure": why, "raw": value}
        case "permission":
            request = value.get("raw", {}).get("request", {})
            asked = {"id": key, "tool_name": value.get("tool_name", ""), "raw": value.get("raw")}
            digest = value.get("digest", "")
            yield "request", {**asked, "input": request.get("input") or {}, "digest": digest}
            if behavior := value.get("behavior"):
                by = value.get("by", "")
                yield "decision", {"request": key, "behavior": behavior, "by": by}
        case "sent":
            yield "sent", {"name": key, "text": value.get("text", ""), "by": value.get("by", "")}


def _version(database: sqlite3.Connection, path: Path) -> int:
    """The version of the tables; 0 if there are none."""
    version, application, tables = database.execute(
        "SELECT v.user_version, a.application_id, (SELECT count(*) FROM sqlite_master)"
        " FROM pragma_user_version v, pragma_application_id a"
    ).fetchone()
    if (version or tables) and application != _APPLICATION:
        raise StoreError(f"{path} is the database of another program: name another journal")
    if version > VERSION:
        raise StoreError(
            f"the journal {path} was written by a newer optio-agents (schema {version}, "
            f"this one reads {VERSION}): upgrade optio-agents, or name another journal"
        )
    return int(version)


def in_transaction(
    database: sqlite3.Connection, work: Callable[[sqlite3.Connection], object]
) -> None:
    database.execute("BEGIN IMMEDIATE")
    try:
        work(database)  # no name for a cursor: in a traceback it would keep the file open
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # a full disk may have rolled it back already
            database.execute("ROLLBACK")
        raise
