"""A journal that is written on the event loop's own thread, as long as nobody else is writing it.

Handing a write to another thread costs more than the write. So what waits in one round of the loop
goes into one transaction on a connection of the loop, which waits for nobody: is the file busy, the
same transaction is done by a thread that waits, and everything behind it waits for that.

The same thread keeps the lease, so that a loop that is busy is not taken for one that is frozen,
and moves what was written from the log into the file (checkpoints), which nobody may wait for.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from optio_agents.errors import StoreError
from optio_agents.store.sqlite import open_database

T = TypeVar("T")
Work: TypeAlias = Callable[[sqlite3.Connection], Any]

_ROUND = 128  # writes that the loop does in one go
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class _Queued:
    __slots__ = ("careful", "done", "work")

    def __init__(self, work: Work, done: asyncio.Future[Any], *, careful: bool) -> None:
        self.work, self.done, self.careful = work, done, careful


class Database:
    """Two connections to one journal: the loop's, and that of the thread behind it."""

    def __init__(self, path: Path, *, every: float, beat: Work) -> None:
        self.path = path
        self._every, self._beat = every, beat
        self._waiting: deque[_Queued] = deque()
        self._scheduled = self._away = False
        self._work: queue.SimpleQueue[Callable[[sqlite3.Connection], None] | None] = (
            queue.SimpleQueue()
        )

    async def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        ready = self._loop.create_future()
        self._thread = threading.Thread(
            target=self._serve, args=(ready,), name="optio-agents-turns", daemon=True
        )
        self._thread.start()
        await ready
        self._here = self._guard(lambda: open_database(self.path, busy=0))
        self._care = self._here.execute("PRAGMA synchronous").fetchone()[0]
        self._here.execute("PRAGMA wal_autocheckpoint=0")

    async def close(self) -> None:
        """Write what waits, and close."""
        if self._waiting or self._away:
            await self.write(lambda _: None)  # behind everything that waits
        self._work.put(None)
        await asyncio.to_thread(self._thread.join)
        self._here.close()

    async def write(self, work: Callable[[sqlite3.Connection], T], *, careful: bool = False) -> T:
        """Do *work* in a transaction, finished even if cancelled; *careful*: it is on the disk.

        *work* may raise what it likes before it has written anything.
        """
        done: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append(_Queued(work, done, careful=careful))
        self._schedule()
        return await asyncio.shield(done)

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do *work*, which only reads."""
        try:
            return work(self._here)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in _BUSY:
                raise self._failed(error) from error
        return await self.write(work)

    def _schedule(self) -> None:
        if not self._scheduled and not self._away and self._waiting:
            self._scheduled = True
            self._loop.call_soon(self._round)

    def _round(self) -> None:
        self._scheduled = False
        batch = [self._waiting.popleft() for _ in range(min(_ROUND, len(self._waiting)))]
        try:
            outcome = self._together(self._here, batch)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode in _BUSY:
                self._away = True
                self._work.put(lambda database: self._elsewhere(database, batch))
                return
            outcome = [self._failed(error)] * len(batch)
        except sqlite3.Error as error:
            outcome = [self._failed(error)] * len(batch)
        self._settle(batch, outcome)

    def _elsewhere(self, database: sqlite3.Connection, batch: list[_Queued]) -> None:
        try:
            outcome = self._together(database, batch)
        except sqlite3.Error as error:
            outcome = [self._failed(error)] * len(batch)

        def back() -> None:
            self._away = False
            self._settle(batch, outcome)

        self._loop.call_soon_threadsafe(back)

    def _together(self, database: sqlite3.Connection, batch: list[_Queued]) -> list[Any]:
        """What each of them gave or raised, once all are written."""
        careful = any(one.careful for one in batch) and self._care < 2  # FULL
        if careful:
            database.execute("PRAGMA synchronous=FULL")
        database.execute("BEGIN IMMEDIATE")
        try:
            outcome = [_outcome(one.work, database) for one in batch]
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        finally:
            if careful:
                database.execute("PRAGMA synchronous=NORMAL")
        return outcome

    def _settle(self, batch: list[_Queued], outcome: list[Any]) -> None:
        for one, result in zip(batch, outcome, strict=True):
            if one.done.done():
                continue
            if isinstance(result, Exception):
                one.done.set_exception(result)
                one.done.exception()  # not everybody waits for it
            else:
                one.done.set_result(result)
        self._schedule()

    def _serve(self, ready: asyncio.Future[None]) -> None:
        try:
            database = self._guard(lambda: open_database(self.path))
        except BaseException as error:
            self._loop.call_soon_threadsafe(ready.set_exception, error)
            return
        self._loop.call_soon_threadsafe(ready.set_result, None)
        while True:
            try:
                work = self._work.get(timeout=self._every)
            except queue.Empty:
                self._keep(database)
                continue
            if work is None:
                break
            work(database)
        database.close()

    def _keep(self, database: sqlite3.Connection) -> None:
        try:
            self._together(
                database, [_Queued(self._beat, asyncio.Future(loop=self._loop), careful=False)]
            )
            database.execute("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error:
            pass  # the next write says so to somebody who can act

    def _guard(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> StoreError:
        return StoreError(f"the turns in {self.path} failed: {error}")


def _outcome(work: Work, database: sqlite3.Connection) -> Any:
    try:
        return work(database)
    except sqlite3.Error:
        raise
    except Exception as error:
        return error
