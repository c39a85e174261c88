"""What happened in every session, on this machine's disk, for any number of processes."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from optio_agents.display import Secrets
from optio_agents.errors import NoSuchSession, StoreError

from . import rows
from .lock import claimed, holder
from .records import Note, SessionState, StoredEvent, StoredSession
from .sqlite import StoreFile, default_path
from .sqlite_journal import SessionJournal

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Self

    from .records import Delivery, LastWords


__all__ = [
    "Note",
    "SessionJournal",
    "SessionState",
    "Store",
    "StoredEvent",
    "StoredSession",
    "default_path",
]


class Store:
    """The journal of this user: enter it, and share it between all sessions of a process.

    Everything raises StoreError when the file cannot be read or written.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = default_path() if path is None else Path(path)
        self._file = StoreFile(self.path)

    async def __aenter__(self) -> Self:
        try:
            await self._file.read(lambda _: None)  # an unreadable journal is told at once
        except StoreError:
            await self._file.close()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._file.close()

    async def add(self, session: StoredSession) -> None:
        """Begin to keep a session, or begin another run of one: it has not ended then."""
        row = (session.id, session.created_at, session.host, session.taskdir)
        facts = json.dumps(session.facts)
        await self._file.write(
            lambda database: database.execute(
                "INSERT INTO sessions (id, created_at, host, taskdir, facts) VALUES (?,?,?,?,?)"
                " ON CONFLICT (id) DO UPDATE SET host=excluded.host, taskdir=excluded.taskdir,"
                " facts=excluded.facts, ended_at=NULL, outcome=NULL, summary=NULL, result=NULL",
                (*row, facts),
            )
        )

    def journal(self, session: str, secrets: Secrets | None = None) -> SessionJournal:
        """Where that session, which was added, is written down."""
        return SessionJournal(self._file, session, secrets or Secrets())

    def claim(self, session: str, owner: str) -> AbstractContextManager[None]:
        """Be the only one who supervises that session with this journal, for a block.

        Raises AlreadyOwned, which names the other.
        """
        return claimed(self.path.parent / "locks", session, owner)

    async def sessions(self) -> list[StoredSession]:
        """All of them, the oldest first, each with how it stands."""
        found = await self._file.read(rows.sessions)
        return [await self._standing(session) for session in found]

    async def _standing(self, session: StoredSession) -> StoredSession:
        if session.complete or self.owner(session.id):
            return session
        if session.over:  # its owner ended it, and was killed before it had written that down
            return replace(session, complete=True)
        last = await self._file.read(rows.last_event, session.id)
        state = session.state.left_alone(last or session.state.since)
        return replace(session, state=state)

    def owner(self, session: str) -> str | None:
        """Who on this machine supervises that session now; None if nobody does."""
        return holder(self.path.parent / "locks", session)

    async def find(self, session: str) -> StoredSession | None:
        """The session of exactly that id."""
        found = await self._file.read(rows.sessions, rows.BY_ID, session)
        return await self._standing(found[0]) if found else None

    async def session(self, beginning: str) -> StoredSession:
        """The one session whose id begins so, or the latest of that name.

        Raises NoSuchSession for none and for several.
        """
        every = await self._called(beginning)
        found = [s for s in every if s.id.startswith(beginning)]
        exact = [s for s in found if s.id == beginning] or _of_name(every, beginning)
        if len(exact or found) != 1 or not beginning:
            several = ", ".join(s.id for s in found[:5])
            raise NoSuchSession(
                f"{beginning!r} may be any of {several}: say more of it"
                if several
                else f"no session {beginning!r} in the journal {self.path}"
            )
        return await self._standing((exact or found)[0])

    async def named(self, name: str) -> StoredSession | None:
        """The latest session whose user calls it so."""
        named = _of_name(await self._called(name), name)
        return await self._standing(named[0]) if named else None

    async def _called(self, word: str) -> list[StoredSession]:
        """Those whose id begins so, or whose name it is: to read all of thousands takes long."""
        typed = word.encode("utf-8", "replace").decode()  # a person may type anything
        return await self._file.read(rows.sessions, rows.CALLED, typed)

    async def has_turns(self) -> bool:
        """Whether a team has ever worked with this journal."""
        find = "SELECT 1 FROM turns LIMIT 1"
        return await self._file.read(lambda database: database.execute(find).fetchone() is not None)

    async def last_words(self, session: str | None = None) -> dict[str, LastWords]:
        """Of each session, or of one, the last line of its log, and what its turns have cost."""
        return await self._file.read(rows.last_words, session)

    async def ids(self) -> set[str]:
        """Of all sessions that there are."""
        return await self._file.read(rows.ids)

    async def news(self, after: int) -> tuple[int, set[str]]:
        """The place of the last event of all, and the sessions of which some stand behind *after*.

        What is forgotten gives its places back: then the last one is not behind *after* any more.
        """
        return await self._file.read(rows.news, after)

    async def events(self, session: str, *, after: int = 0, most: int = 1000) -> list[StoredEvent]:
        """What happened in that session behind its event number *after*, in order."""
        return await self._file.read(rows.events, session, after, most)

    async def decision(self, session: str, request: str) -> StoredEvent | None:
        """What was decided about that request of the session last, if anything was."""
        return await self._file.read(rows.decision, session, request)

    async def deliveries(self, session: str) -> list[Delivery]:
        """How far each announced file has come, in the order announced."""
        return await self._file.read(rows.deliveries, session)

    async def notes(self, session: str, kind: str) -> list[Note]:
        """What is remembered of that kind, the latest behind."""
        return await self._file.read(rows.notes, session, kind)

    async def forget(self, session: str) -> None:
        """Remove all that is known of a session here."""
        await self._file.write(
            lambda database: database.execute("DELETE FROM sessions WHERE id=?", (session,))
        )


def _of_name(sessions: list[StoredSession], name: str) -> list[StoredSession]:
    """The latest that its user calls so: a name may be given again once a session is over."""
    return [one for one in sessions if name and one.facts.get("name") == name][-1:]
