"""The tables of the journal, and which versions of them we read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optio_agents.errors import StoreError

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

VERSION = 1
_APPLICATION = 0x6F707469  # "opti", so that a stranger's database is not taken for ours
_TABLES = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, created_at REAL NOT NULL, host TEXT NOT NULL, taskdir TEXT NOT NULL,
    facts TEXT NOT NULL, ended_at REAL, outcome TEXT, summary TEXT, result TEXT
) WITHOUT ROWID;
CREATE TABLE events (
    number INTEGER PRIMARY KEY, session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    file TEXT NOT NULL, generation INTEGER NOT NULL, offset INTEGER NOT NULL, kind TEXT NOT NULL,
    line TEXT NOT NULL, repeated INTEGER NOT NULL, at REAL NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    UNIQUE (session, file, generation, offset)
);
CREATE INDEX session_events ON events (session);
CREATE INDEX open_events ON events (session) WHERE NOT done;
CREATE TABLE cursors (
    session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE, file TEXT NOT NULL,
    cursor TEXT NOT NULL, PRIMARY KEY (session, file)
) WITHOUT ROWID;
CREATE TABLE digests (
    number INTEGER PRIMARY KEY, session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    generation INTEGER NOT NULL, digests BLOB NOT NULL
);
CREATE INDEX session_digests ON digests (session);
CREATE TABLE deliveries (
    event INTEGER PRIMARY KEY REFERENCES events ON DELETE CASCADE, session TEXT NOT NULL,
    path TEXT NOT NULL, size INTEGER, sha256 TEXT, reply TEXT, taken INTEGER, saved TEXT
);
CREATE INDEX session_deliveries ON deliveries (session);
CREATE TABLE replies (
    event INTEGER PRIMARY KEY REFERENCES events ON DELETE CASCADE, reply TEXT NOT NULL
);
CREATE TABLE notes (
    number INTEGER PRIMARY KEY, session TEXT NOT NULL REFERENCES sessions ON DELETE CASCADE,
    kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, at REAL NOT NULL,
    UNIQUE (session, kind, key)
);
"""


def bring_up(database: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new journal. Raises StoreError for one that we cannot read."""
    if _version(database, path):
        return
    database.execute("BEGIN IMMEDIATE")
    if not _version(database, path):  # nobody else made them while we waited
        for statement in _TABLES.split(";\n"):
            database.execute(statement)
        database.execute(f"PRAGMA application_id={_APPLICATION}")
        database.execute(f"PRAGMA user_version={VERSION}")
    database.execute("COMMIT")


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
