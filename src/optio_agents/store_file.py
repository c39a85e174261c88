"""The SQLite file: where it is, who may read it, how it is opened, and its one writing thread."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from optio_agents.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, created_at REAL NOT NULL, host TEXT NOT NULL, taskdir TEXT NOT NULL,
    facts TEXT NOT NULL, ended_at REAL, outcome TEXT, summary TEXT, result TEXT
) WITHOUT ROWID;
CREATE TABLE events (
    number INTEGER PRIMARY KEY, session TEXT NOT NULL, file TEXT NOT NULL,
    generation INTEGER NOT NULL, offset INTEGER NOT NULL, kind TEXT NOT NULL, line TEXT NOT NULL,
    repeated INTEGER NOT NULL, at REAL NOT NULL, done INTEGER NOT NULL DEFAULT 0,
    UNIQUE (session, file, generation, offset)
);
CREATE INDEX open_events ON events (session, number) WHERE NOT done;
CREATE TABLE cursors (
    session TEXT NOT NULL, file TEXT NOT NULL, cursor TEXT NOT NULL, PRIMARY KEY (session, file)
) WITHOUT ROWID;
CREATE TABLE digests (
    number INTEGER PRIMARY KEY, session TEXT NOT NULL, file TEXT NOT NULL,
    generation INTEGER NOT NULL, digests BLOB NOT NULL
);
CREATE INDEX session_digests ON digests (session, file, number);
CREATE TABLE deliveries (
    event INTEGER PRIMARY KEY REFERENCES events, session TEXT NOT NULL, path TEXT NOT NULL,
    size INTEGER, sha256 TEXT, reply TEXT, taken INTEGER, saved TEXT
);
CREATE INDEX session_deliveries ON deliveries (session, event);
CREATE TABLE replies (event INTEGER PRIMARY KEY REFERENCES events, reply TEXT NOT NULL);
CREATE TABLE notes (
    number INTEGER PRIMARY KEY, session TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL,
    value TEXT NOT NULL, at REAL NOT NULL, UNIQUE (session, kind, key)
);
"""
_BUSY = 30.0  # seconds that another process may hold the file
_NETWORK = ("nfs", "cifs", "smb", "9p", "afs", "lustre", "ceph", "gluster", "fuse.sshfs")


def default_path() -> Path:
    """Where the journal of this user lives."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local/state")
    return Path(state) / "optio-agents" / "journal.sqlite3"


class StoreFile:
    """One connection, used from one thread only; any number of processes may have one each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="optio-agents-store")
        self._database: sqlite3.Connection | None = None

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do *work* outside a transaction."""
        return await self._do(work)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do *work* in one transaction: all of it, or nothing. Finished even if cancelled."""

        def transaction(database: sqlite3.Connection) -> T:
            database.execute("BEGIN IMMEDIATE")
            try:
                done = work(database)
                database.execute("COMMIT")
            except BaseException:
                if database.in_transaction:  # a full disk may have rolled it back already
                    database.execute("ROLLBACK")
                raise
            return done

        return await self._do(transaction)

    async def close(self) -> None:
        """Close the file when what is under way has been written. Twice is fine."""
        if self._database is not None:
            await self._do(sqlite3.Connection.close)
            self._database = None
        self._thread.shutdown(wait=False)

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def guarded() -> T:
            try:
                if self._database is None:
                    self._database = _open(self.path)
                return work(self._database)
            except (sqlite3.Error, OSError) as error:
                raise StoreError(f"the journal {self.path} failed: {error}") from error

        try:
            job = asyncio.get_running_loop().run_in_executor(self._thread, guarded)
        except RuntimeError as error:  # the pool is shut down
            raise StoreError(f"the journal {self.path} is closed") from error
        return await asyncio.shield(job)


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    path.chmod(0o600)  # SQLite gives its side files the mode of the main one
    database = sqlite3.connect(path, timeout=_BUSY, isolation_level=None)
    try:
        if not _on_network(path):  # there, WAL's shared memory would not be shared
            database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        _bring_up(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _bring_up(database: sqlite3.Connection, path: Path) -> None:
    database.execute("BEGIN IMMEDIATE")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"the journal {path} was written by a newer optio-agents (schema {version}, "
            f"this one reads {SCHEMA_VERSION}): upgrade optio-agents, or name another journal"
        )
    if version == 0:
        for statement in _SCHEMA.split(";\n"):
            database.execute(statement)
        database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    database.execute("COMMIT")


def _on_network(path: Path) -> bool:
    try:
        mounts = Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    real = str(path.parent.resolve())
    best, kind = "", ""
    for mount in mounts:
        _, point, filesystem, *_ = mount.split(" ")
        point = point.replace("\\040", " ")
        below = real == point or real.startswith(point.rstrip("/") + "/")
        if below and len(point) >= len(best):
            best, kind = point, filesystem
    return kind.startswith(_NETWORK)
