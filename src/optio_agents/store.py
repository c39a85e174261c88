"""What happened in every session, on this machine's disk, for any number of processes."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from optio_agents.errors import StoreError
from optio_agents.following.cursor import Cursor
from optio_agents.protocol.secrets import Secrets
from optio_agents.session.journal import ENDINGS, LAST_LINES, Delivery, Entry, Resumed
from optio_agents.store_file import StoreFile, default_path

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from optio_agents.session.result import SessionResult

_TEXT = 4096  # characters of narration that are kept; lines that are dispatched are kept whole
RESUMABLE = (None, "unreachable", "failed", "detached")  # outcomes that another run may follow


@dataclass(frozen=True, slots=True)
class StoredSession:
    """One session as the journal knows it."""

    id: str
    created_at: float
    host: str  # as its user would say it
    taskdir: str
    facts: Mapping[str, Any]  # what is needed to find it again: see `supervise`
    ended_at: float | None = None
    outcome: str | None = None
    summary: str | None = None
    result: Mapping[str, Any] | None = None

    @property
    def over(self) -> bool:
        """Nothing more will come of it."""
        return self.outcome not in RESUMABLE


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One recorded line, with when it was recorded and whether it had its turn."""

    number: int
    at: float
    entry: Entry
    done: bool


@dataclass(frozen=True, slots=True)
class Note:
    """Something else worth keeping: a turn's result, a request, an answer, a message sent."""

    kind: str
    key: str
    value: Any
    at: float


class Store:
    """The journal of this user: enter it, and share it between all sessions of a process."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        self._file = StoreFile(self.path)

    async def __aenter__(self) -> Self:
        await self._file.read(lambda _: None)  # an unreadable journal is told at once
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._file.close()

    async def add(self, session: StoredSession) -> None:
        """Begin to keep a session; the same id again replaces what leads to it."""
        row = (session.id, session.created_at, session.host, session.taskdir)
        facts = json.dumps(session.facts)
        await self._file.write(
            lambda database: database.execute(
                "INSERT INTO sessions (id, created_at, host, taskdir, facts) VALUES (?,?,?,?,?)"
                " ON CONFLICT (id) DO UPDATE SET host=excluded.host, taskdir=excluded.taskdir,"
                " facts=excluded.facts",
                (*row, facts),
            )
        )

    def journal(self, session: str, secrets: Secrets | None = None) -> SessionJournal:
        """Where that session is written down."""
        return SessionJournal(self._file, session, secrets or Secrets())

    async def sessions(self) -> list[StoredSession]:
        """All of them, the oldest first."""
        return await self._file.read(
            lambda database: [
                _session(row)
                for row in database.execute(f"{_SELECT_SESSION} ORDER BY created_at, id")
            ]
        )

    async def session(self, beginning: str) -> StoredSession:
        """The one session whose id begins so. Raises StoreError for none and for several."""
        found = [s for s in await self.sessions() if s.id.startswith(beginning)]
        exact = [s for s in found if s.id == beginning]
        if len(exact or found) != 1:
            several = ", ".join(s.id for s in found[:5]) if beginning else ""
            raise StoreError(
                f"{beginning!r} may be any of {several}: say more of it"
                if several
                else f"no session {beginning!r} in the journal {self.path}"
            )
        return (exact or found)[0]

    async def events(self, session: str, *, after: int = 0, most: int = 1000) -> list[StoredEvent]:
        """What was recorded behind event number *after*, in that order."""
        return await self._file.read(lambda database: _events(database, session, after, most))

    async def deliveries(self, session: str) -> list[Delivery]:
        """How far each announced file has come, in the order announced."""
        return await self._file.read(lambda database: _deliveries(database, session))

    async def notes(self, session: str, kind: str) -> list[Note]:
        """What was noted of that kind, in order."""
        return await self._file.read(
            lambda database: [
                Note(kind, key, json.loads(value), at)
                for key, value, at in database.execute(
                    "SELECT key, value, at FROM notes WHERE session=? AND kind=? ORDER BY number",
                    (session, kind),
                )
            ]
        )

    async def forget(self, session: str) -> None:
        """Remove all that is known of a session."""

        def work(database: sqlite3.Connection) -> None:
            for table in ("deliveries", "cursors", "digests", "notes"):
                database.execute(f"DELETE FROM {table} WHERE session=?", (session,))
            database.execute(
                "DELETE FROM replies WHERE event IN (SELECT number FROM events WHERE session=?)",
                (session,),
            )
            database.execute("DELETE FROM events WHERE session=?", (session,))
            database.execute("DELETE FROM sessions WHERE id=?", (session,))

        await self._file.write(work)


class SessionJournal:
    """The durable `Journal` of one session."""

    def __init__(self, file: StoreFile, session: str, secrets: Secrets) -> None:
        self.session = session
        self._file, self._secrets = file, secrets

    async def start(self) -> Resumed:
        return await self._file.read(lambda database: _resumed(database, self.session))

    async def record(self, entries: Sequence[Entry], cursor: Cursor, digests: bytes) -> None:
        now, hide = time.time(), self._secrets.hide
        rows = [
            (
                self.session,
                *entry.key,
                entry.kind,
                hide(entry.line[:_TEXT] if entry.kind == "unknown" else entry.line),
                entry.repeated,
                now,
            )
            for entry in entries
        ]

        def work(database: sqlite3.Connection) -> None:
            database.executemany(
                "INSERT OR IGNORE INTO events"
                " (session, file, generation, offset, kind, line, repeated, at)"
                " VALUES (?,?,?,?,?,?,?,?)",
                rows,
            )
            _advance(database, self.session, cursor, digests)

        await self._file.write(work)

    async def mark_done(self, entries: Sequence[Entry]) -> None:
        keys = [(self.session, *entry.key) for entry in entries]
        await self._file.write(
            lambda database: database.executemany(f"UPDATE events SET done=1 WHERE {_BY_KEY}", keys)
        )

    async def deliver(self, delivery: Delivery) -> None:
        row = (delivery.path, delivery.size, delivery.sha256, delivery.reply, delivery.taken)
        await self._file.write(
            lambda database: database.execute(
                "INSERT OR REPLACE INTO deliveries"
                " (event, session, path, size, sha256, reply, taken, saved)"
                f" SELECT number, session, ?,?,?,?,?,? FROM events WHERE {_BY_KEY}",
                (*row, delivery.saved, self.session, *delivery.entry.key),
            )
        )

    async def decide(self, entry: Entry, reply: str) -> None:
        await self._file.write(
            lambda database: database.execute(
                "INSERT OR IGNORE INTO replies (event, reply)"
                f" SELECT number, ? FROM events WHERE {_BY_KEY}",
                (reply, self.session, *entry.key),
            )
        )

    async def end(self, result: SessionResult) -> None:
        # Deliverables and lines stand in tables of their own.
        shown = replace(result, deliverables=(), cursor=None)
        whole = json.dumps(asdict(shown), default=str)
        row = (result.ended_at, result.outcome, result.summary, whole, self.session)
        await self._file.write(
            lambda database: database.execute(
                "UPDATE sessions SET ended_at=?, outcome=?, summary=?, result=? WHERE id=?", row
            )
        )

    async def note(self, kind: str, key: str, value: Any) -> None:
        """Keep *value* under (*kind*, *key*); the same key again replaces it."""
        text = self._secrets.hide(json.dumps(value))
        await self._file.write(
            lambda database: database.execute(
                "INSERT INTO notes (session, kind, key, value, at) VALUES (?,?,?,?,?)"
                " ON CONFLICT (session, kind, key) DO UPDATE SET value=excluded.value,"
                " at=excluded.at",
                (self.session, kind, key, text, time.time()),
            )
        )


_SELECT_SESSION = (
    "SELECT id, created_at, host, taskdir, facts, ended_at, outcome, summary, result FROM sessions"
)
_BY_KEY = "session=? AND file=? AND generation=? AND offset=?"
_ENTRY = "e.file, e.generation, e.offset, e.line, e.kind, e.repeated"


def _session(row: tuple[Any, ...]) -> StoredSession:
    id_, created_at, host, taskdir, facts, ended_at, outcome, summary, result = row
    known = json.loads(result) if result else None
    return StoredSession(
        id_, created_at, host, taskdir, json.loads(facts), ended_at, outcome, summary, known
    )


def _entry(row: Sequence[Any]) -> Entry:
    file, generation, offset, line, kind, repeated = row
    return Entry(file, generation, offset, line, kind, bool(repeated))


def _events(database: sqlite3.Connection, session: str, after: int, most: int) -> list[StoredEvent]:
    rows = database.execute(
        f"SELECT number, at, done, {_ENTRY} FROM events e"
        " WHERE session=? AND number>? ORDER BY number LIMIT ?",
        (session, after, most),
    )
    return [StoredEvent(number, at, _entry(row), bool(done)) for number, at, done, *row in rows]


def _deliveries(database: sqlite3.Connection, session: str) -> list[Delivery]:
    rows = database.execute(
        f"SELECT d.path, d.size, d.sha256, d.reply, d.taken, d.saved, {_ENTRY}"
        " FROM deliveries d JOIN events e ON e.number=d.event WHERE d.session=? ORDER BY d.event",
        (session,),
    )
    return [
        Delivery(_entry(row), path, size, sha256, reply, None if taken is None else bool(taken), at)
        for path, size, sha256, reply, taken, at, *row in rows
    ]


def _advance(database: sqlite3.Connection, session: str, cursor: Cursor, digests: bytes) -> None:
    database.execute(
        "DELETE FROM digests WHERE session=? AND generation<>?", (session, cursor.generation)
    )
    if digests:
        database.execute(
            "INSERT INTO digests (session, file, generation, digests) VALUES (?,?,?,?)",
            (session, "optio.log", cursor.generation, digests),
        )
    database.execute(
        "INSERT OR REPLACE INTO cursors (session, file, cursor) VALUES (?,?,?)",
        (session, "optio.log", cursor.to_json()),
    )


def _resumed(database: sqlite3.Connection, session: str) -> Resumed:
    def entries(rest: str, *more: object) -> list[Entry]:
        select = f"SELECT {_ENTRY} FROM events e WHERE session=? {rest}"
        return [_entry(row) for row in database.execute(select, (session, *more))]

    cursor = database.execute("SELECT cursor FROM cursors WHERE session=?", (session,)).fetchone()
    digests = database.execute(
        "SELECT digests FROM digests WHERE session=? ORDER BY number", (session,)
    )
    (statuses,) = database.execute(
        "SELECT count(*) FROM events WHERE session=? AND kind='status'", (session,)
    ).fetchone()
    replies = database.execute(
        f"SELECT r.reply, {_ENTRY} FROM replies r JOIN events e ON e.number=r.event"
        " WHERE e.session=? AND NOT e.done ORDER BY e.number",
        (session,),
    )
    endings = entries("AND kind IN (?,?) ORDER BY number LIMIT 1", *ENDINGS)
    last = entries("ORDER BY number DESC LIMIT ?", LAST_LINES)
    return Resumed(
        cursor=Cursor.from_json(cursor[0]) if cursor else None,
        digests=b"".join(row[0] for row in digests),
        pending=tuple(entries("AND NOT done ORDER BY number")),
        ending=endings[0] if endings else None,
        deliveries=tuple(_deliveries(database, session)),
        replies=tuple((_entry(row), reply) for reply, *row in replies),
        statuses=statuses,
        last_lines=tuple(entry.line for entry in reversed(last)),
    )
