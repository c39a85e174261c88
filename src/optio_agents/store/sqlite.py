"""The SQLite file of the journal and its one thread; any number of processes may share it."""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import stat
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeAlias, TypeVar

from optio_agents.errors import StoreError
from optio_agents.mounts import mount_table, on_network

from .schema import bring_up, in_transaction

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
P = ParamSpec("P")
Work: TypeAlias = "Callable[[sqlite3.Connection], object]"

_BUSY = 30.0  # seconds that another process may hold the file


class _Job(NamedTuple):
    """Work for the thread, and what its loop is told of it; done even if nobody waits any more."""

    work: Callable[..., Any]
    outcome: asyncio.Future[Any]

    def tell(self, value: object = None, error: BaseException | None = None) -> None:
        """Called in the thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody is there to hear it
            self.outcome.get_loop().call_soon_threadsafe(self._settle, value, error)

    def _settle(self, value: object, error: BaseException | None) -> None:
        if self.outcome.done():  # whoever waited was cancelled
            return
        if error is None:
            self.outcome.set_result(value)
        else:
            self.outcome.set_exception(error)
            self.outcome.exception()  # not everybody waits for it, and asyncio would complain


class StoreFile:
    """One connection, used from one thread only. It is opened when first used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="optio-agents-store")
        self._database: sqlite3.Connection | None = None
        self._waiting: deque[_Job] = deque()
        self._closed = False

    def read(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **more: P.kwargs
    ) -> asyncio.Future[T]:
        """Do *work* outside a transaction, with these arguments behind the database."""
        return self._submit(lambda: work(self._opened(), *args, **more))

    def write(self, work: Work) -> asyncio.Future[None]:
        """Do *work* in a transaction: all of it, or nothing. Finished even if cancelled.

        What waits together goes in one transaction, in the order of the calls.
        """
        return self._submit(work, together=True)

    async def close(self) -> None:
        """Close the file when what is under way has been written. Twice is fine."""
        if not self._closed:
            closing = self._submit(self._close)
            self._closed = True
            self._thread.shutdown(wait=False)
            await closing

    def _submit(self, work: Callable[..., Any], *, together: bool = False) -> asyncio.Future[Any]:
        if self._closed:
            raise StoreError(f"the journal {self.path} is closed")
        job = _Job(work, asyncio.get_running_loop().create_future())
        if together:
            self._waiting.append(job)
            self._thread.submit(self._write_all)
        else:
            self._thread.submit(self._do, job)
        return job.outcome

    # In the thread

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = open_database(self.path)
        return self._database

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()

    def _do(self, job: _Job) -> None:
        try:
            job.tell(self._guard(job.work))
        except BaseException as error:
            job.tell(None, error)

    def _write_all(self) -> None:
        waiting = list[_Job]()
        while self._waiting:
            waiting.append(self._waiting.popleft())
        if not waiting:
            return  # an earlier one has taken ours along
        refused = dict[int, StoreError]()

        def together(database: sqlite3.Connection) -> None:
            for index, job in enumerate(waiting):
                try:
                    self._guard(lambda job=job: _whole(database, job.work))  # type: ignore[misc]
                except StoreError as error:
                    if not database.in_transaction:  # a full disk has rolled all of it back
                        raise
                    refused[index] = error

        failed: BaseException | None = None
        try:
            self._guard(lambda: in_transaction(self._opened(), together))
        except BaseException as error:
            failed = error
        for index, job in enumerate(waiting):
            job.tell(None, failed or refused.get(index))

    def _guard(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"the journal {self.path} failed: {error}") from error


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
