"""The SQLite file of the journal and its one thread; any number of processes may share it."""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

from optio_agents.errors import StoreError
from optio_agents.store_place import make_directory, make_private, on_network
from optio_agents.store_schema import bring_up

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
    mode, care = ("delete", "FULL") if on_network(path) else ("wal", "NORMAL")
    if database.execute("PRAGMA journal_mode").fetchone() != (mode,):
        database.execute(f"PRAGMA journal_mode={mode}")
    database.execute(f"PRAGMA synchronous={care}")
    database.execute("PRAGMA foreign_keys=ON")
