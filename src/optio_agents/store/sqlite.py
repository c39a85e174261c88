"""The SQLite file of the journal and its one thread; any number of processes may share it."""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from optio_agents.errors import StoreError
from optio_agents.mounts import mount_table, on_network

if TYPE_CHECKING:
    from collections.abc import Callable


# Where the journal's file is, who may read it, and on what kind of disk it lies.


def default_path() -> Path:
    """Where the journal of this user lives."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path.home() / ".local/state"
    return base / "optio-agents" / "journal.sqlite3"


def make_directory(path: Path) -> None:
    """Make the directory of the file *path*, for our eyes only if it is the usual one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent == default_path().parent:
        path.parent.chmod(0o700)  # whoever made it; another directory is its user's own affair


def make_private(path: Path) -> None:
    """Let nobody else read the file. Raises OSError for what is no file of ours.

    It is not opened here: closing any descriptor of a file drops all locks that this process
    holds on it, also those of a database that another thread has open.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError("it is a link, or no file")
    path.chmod(0o600)  # SQLite gives its side files the mode of the main one


# The tables of the journal, and which versions of them we read.


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


T = TypeVar("T")

_BUSY = 30.0  # seconds that another process may hold the file


class StoreFile:
    """One connection, used from one thread only. It is opened when first used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="optio-agents-store")
        self._database: sqlite3.Connection | None = None
        self._closed = False

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do *work* outside a transaction."""
        return await self._do(lambda: work(self._opened()))

    async def write(self, work: Callable[[sqlite3.Connection], object]) -> None:
        """Do *work* in one transaction: all of it, or nothing. Finished even if cancelled."""
        await self._do(lambda: _in_transaction(self._opened(), work))

    async def close(self) -> None:
        """Close the file when what is under way has been written. Twice is fine."""
        if not self._closed:
            job = self._do(self._close)
            self._closed = True
            self._thread.shutdown(wait=False)
            await job

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = _open(self.path)
        return self._database

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()

    def _do(self, work: Callable[[], T]) -> asyncio.Future[T]:
        if self._closed:
            raise StoreError(f"the journal {self.path} is closed")

        def guarded() -> T:
            try:
                return work()
            except (sqlite3.Error, OSError) as error:
                raise StoreError(f"the journal {self.path} failed: {error}") from error

        job = asyncio.get_running_loop().run_in_executor(self._thread, guarded)
        job.add_done_callback(_look_at)
        return asyncio.shield(job)


def _look_at(job: asyncio.Future[T]) -> None:
    if not job.cancelled():
        job.exception()  # a caller that was cancelled does not, and asyncio would complain


def _in_transaction(
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


def _open(path: Path) -> sqlite3.Connection:
    make_directory(path)
    if not os.path.lexists(path):
        _create(path)
    make_private(path)
    database = _connect(path)
    try:
        _make_ready(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _create(path: Path) -> None:
    """Give the name to a journal that is complete: nobody meets one that is being made."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        with closing(_connect(new)) as database:
            _make_ready(database, new)
        os.link(new, path)
    except FileExistsError:
        pass  # another process was faster
    finally:
        new.unlink()


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY, isolation_level=None)


def _make_ready(database: sqlite3.Connection, path: Path) -> None:
    bring_up(database, path)
    # WAL needs memory that all its users share.
    shared = on_network(os.fsencode(path.resolve()), mount_table())
    mode, care = ("delete", "FULL") if shared else ("wal", "NORMAL")
    if database.execute("PRAGMA journal_mode").fetchone() != (mode,):
        database.execute(f"PRAGMA journal_mode={mode}")
    database.execute(f"PRAGMA synchronous={care}")
    database.execute("PRAGMA foreign_keys=ON")
