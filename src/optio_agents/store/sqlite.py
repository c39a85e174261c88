"""The SQLite file of the journal and its one thread; any number of processes may share it."""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import stat
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from optio_agents.errors import StoreError
from optio_agents.mounts import mount_table, on_network

from .schema import bring_up, in_transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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


T = TypeVar("T")
Work: TypeAlias = "Callable[[sqlite3.Connection], object]"

_BUSY = 30.0  # seconds that another process may hold the file


class StoreFile:
    """One connection, used from one thread only. It is opened when first used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="optio-agents-store")
        self._database: sqlite3.Connection | None = None
        self._waiting: deque[tuple[Work, Future[None]]] = deque()
        self._closed = False

    def read(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        """Do *work* outside a transaction."""
        return self._awaited(self._submit(lambda: work(self._opened())))

    def write(self, work: Work) -> asyncio.Future[None]:
        """Do *work* in a transaction: all of it, or nothing. Finished even if cancelled.

        What waits together goes in one transaction, in the order of the calls.
        """
        written = Future[None]()
        self._waiting.append((work, written))
        try:
            self._submit(self._write_all)
        except StoreError:
            self._waiting.pop()
            raise
        return self._awaited(written)

    async def close(self) -> None:
        """Close the file when what is under way has been written. Twice is fine."""
        if not self._closed:
            job = self._awaited(self._submit(self._close))
            self._closed = True
            self._thread.shutdown(wait=False)
            await job

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = open_database(self.path)
        return self._database

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()

    def _write_all(self) -> None:
        waiting = list[tuple[Work, Future[None]]]()
        while self._waiting:
            waiting.append(self._waiting.popleft())
        if not waiting:
            return  # an earlier one has taken ours along
        try:
            self._guard(lambda: self._write_together(waiting))
        except BaseException as error:
            for _, written in waiting:
                if not written.done():
                    written.set_exception(error)

    def _write_together(self, waiting: Sequence[tuple[Work, Future[None]]]) -> None:
        refused = dict[int, StoreError]()

        def together(database: sqlite3.Connection) -> None:
            for index, (work, _) in enumerate(waiting):
                try:
                    self._guard(lambda work=work: _whole(database, work))  # type: ignore[misc]
                except StoreError as error:
                    if not database.in_transaction:  # a full disk has rolled all of it back
                        raise
                    refused[index] = error

        in_transaction(self._opened(), together)
        for index, (_, written) in enumerate(waiting):
            if index in refused:
                written.set_exception(refused[index])
            else:
                written.set_result(None)

    def _guard(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the journal {self.path} failed: {error}") from error

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        if self._closed:
            raise StoreError(f"the journal {self.path} is closed")
        return self._thread.submit(self._guard, work)

    def _awaited(self, job: Future[T]) -> asyncio.Future[T]:
        waiting = asyncio.wrap_future(job)
        outcome = asyncio.shield(waiting)
        for future in waiting, outcome:
            future.add_done_callback(_look_at)
        return outcome


def _whole(database: sqlite3.Connection, work: Work) -> None:
    """Do *work*, or nothing of it, within a transaction."""
    database.execute("SAVEPOINT one")
    try:
        work(database)
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK TO one")
            database.execute("RELEASE one")
        raise
    database.execute("RELEASE one")


def _look_at(job: asyncio.Future[T]) -> None:
    if not job.cancelled():
        job.exception()  # not everybody waits for it, and asyncio would complain


def open_database(path: Path, *, busy: float = _BUSY) -> sqlite3.Connection:
    """A connection to the journal, made if it is missing, which waits *busy* seconds for others."""
    make_directory(path)
    if not os.path.lexists(path):
        _create(path)
    make_private(path)
    database = _connect(path)
    try:
        _make_ready(database, path)
        database.execute(f"PRAGMA busy_timeout={int(1000 * busy)}")
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
