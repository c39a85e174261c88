"""How all sessions stand, read from the journal once for everybody who looks on.

A page costs a place in a sequence and nothing else: each session has the version at which it last
changed, and whoever looks on is given what is newer than what they have. The journal is asked which
sessions had news, so that thousands that are over cost nothing.
"""

from __future__ import annotations

import logging
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from optio_agents.cli.output import as_json
from optio_agents.cli.screen.records import of_session
from optio_agents.concurrency import task_group
from optio_agents.errors import StoreError
from optio_agents.supervision.recording import SLOWLY, Bell, ringing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from optio_agents.store import Store, StoredSession
    from optio_agents.store.records import LastWords


_log = logging.getLogger(__name__)
_GATHERING = 0.02  # seconds in which writes to the journal become one look at it
_END = 1 << 62  # behind every event
_ANEW = 60.0  # seconds between looks at all that there is
_SPARING = 20  # looks at what no write tells of take this part of the time at most


@dataclass(frozen=True, slots=True)
class Standing:
    """One session, as it is listed."""

    record: str  # JSON
    version: int  # at which it became so
    complete: bool  # it is over, and all that happened in it is recorded


class Hub:
    """Enter `kept_up`; then `rows` is how all stand, and `bell` rings when any changes."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.bell = Bell()
        self.rows: dict[str, Standing] = {}
        self.gone: dict[str, int] = {}  # forgotten since we began, with the version
        self.version = 0
        self.epoch = secrets.token_hex(4)  # versions of another process mean nothing here
        self.journal = Bell()  # whatever is written
        self._events: dict[str, anyio.Event] = {}
        self._last = -1

    @asynccontextmanager
    async def kept_up(self) -> AsyncIterator[None]:
        with ringing(self.journal, self.store.path):
            await self._read_all()
            async with task_group() as tasks:
                tasks.start_soon(self._keep_up)
                yield
                tasks.cancel_scope.cancel()

    def news_of(self, session: str) -> anyio.Event:
        """Set when something happens in *session* next."""
        return self._events.setdefault(session, anyio.Event())

    def after(self, place: str) -> int:
        """The version of ours that *place*, as a client gives it, stands for; 0 for none."""
        epoch, _, version = place.partition("-")
        return int(version) if epoch == self.epoch and version.isdecimal() else 0

    @property
    def place(self) -> str:
        return f"{self.epoch}-{self.version}"

    async def _keep_up(self) -> None:
        looked = anew = anyio.current_time()
        pause = SLOWLY
        while True:
            news, now = self.journal.next, anyio.current_time()
            try:
                await self._read_news()
                if now - anew > _ANEW:
                    await self._read_all()
                    looked = anew = anyio.current_time()
                elif now - looked > pause:
                    await self._read_unwritten()
                    looked = anyio.current_time()
                    pause = max(SLOWLY, _SPARING * (looked - now))
            except StoreError as error:
                _log.warning("what is shown may be old: %s", error)
            with anyio.move_on_after(pause):
                await news.wait()
                await anyio.sleep(_GATHERING)

    async def _read_news(self) -> None:
        last, sessions = await self.store.news(self._last)
        if last < self._last:  # some were forgotten
            return await self._read_all()
        self._last = last
        for session in sessions:
            await self._read_one(session)
            self._wake(session)
        return None

    async def _read_unwritten(self) -> None:
        """What no event tells: an owner that was killed, a session that was forgotten."""
        for session in self.rows.keys() - await self.store.ids():
            self._forget(session)
        for session in [session for session, row in self.rows.items() if not row.complete]:
            await self._read_one(session)

    async def _read_one(self, session: str) -> None:
        found = await self.store.find(session)
        if found is None:
            self._forget(session)
        else:
            self._set(found, (await self.store.last_words(session)).get(session))

    async def _read_all(self) -> None:
        self._last, _ = await self.store.news(_END)
        last = await self.store.last_words()
        found = await self.store.sessions()
        for session in self.rows.keys() - {one.id for one in found}:
            self._forget(session)
        for number, one in enumerate(found):
            self._set(one, last.get(one.id))
            if number % 200 == 0:
                await anyio.lowlevel.checkpoint()  # others are served meanwhile
        while self._events:
            self._events.popitem()[1].set()

    def _set(self, session: StoredSession, last: LastWords | None) -> None:
        before = self.rows.get(session.id)
        record, complete = as_json(of_session(session, last)), session.complete
        if before is None or (before.record, before.complete) != (record, complete):
            self.version += 1
            self.rows[session.id] = Standing(record, self.version, complete)
            self.gone.pop(session.id, None)
            self.bell.ring()
            self._wake(session.id)

    def _wake(self, session: str) -> None:
        if (waiting := self._events.pop(session, None)) is not None:
            waiting.set()

    def _forget(self, session: str) -> None:
        if self.rows.pop(session, None) is not None:
            self.version += 1
            self.gone[session] = self.version
            self.bell.ring()
