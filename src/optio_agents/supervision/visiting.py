"""The session as any other process has it: read from the journal, reached at the first verb."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents import agents
from optio_agents.concurrency import task_group
from optio_agents.display import Secrets
from optio_agents.errors import AgentUnseen, AlreadyOwned, FileRefused, WorkDirRefused
from optio_agents.framing.cursor import Cursor
from optio_agents.store import Store
from optio_agents.store.records import SessionResult, is_final, over

from .credentials import credentials_of, forget_key
from .events import OpenRequest, RequestOpened, SessionEnded, event_of, recordable, recorded
from .kinds import kind_named
from .live import Session
from .recording import SLOWLY, Bell, ringing
from .sessions import Facts, host_of, known_start, owner_name, unseen

if TYPE_CHECKING:
    from optio_agents.agents import Agent
    from optio_agents.hosts.host import Host
    from optio_agents.store import StoredSession
    from optio_agents.store.records import SessionState

    from .events import SessionEvent, Written
    from .kinds import Reach


@asynccontextmanager
async def find_session(
    beginning: str, *, store: Store | str | os.PathLike[str]
) -> AsyncIterator[Session]:
    """The session whose id begins so, wherever its agent is. Leaving the block changes nothing.

    *store* is the journal, or where its file is.

    Raises NoSuchSession; verbs raise AgentUnseen where nothing of its agent can be seen.
    """
    async with AsyncExitStack() as stack, task_group() as tasks:
        if not isinstance(store, Store):
            store = await stack.enter_async_context(Store(store))
        stored = await store.session(beginning)
        session = FoundSession(store, stored, stack)
        await session.refresh()
        tasks.start_soon(session.keep_up)
        try:
            yield session
        finally:
            tasks.cancel_scope.cancel()


class FoundSession(Session):
    """The session as its journal tells of it."""

    def __init__(self, store: Store, stored: StoredSession, stack: AsyncExitStack) -> None:
        self._records, self._secrets = store.journal(stored.id), Secrets()
        self._store, self._stored, self._stack = store, stored, stack
        self._bell = Bell()
        self._reaching = anyio.Lock()
        self._reached: tuple[Agent, Reach] | None = None
        self._host: Host | None = None
        self._last = 0.0  # when something happened last
        self._requests: tuple[OpenRequest, ...] = ()

    @property
    def requests(self) -> tuple[OpenRequest, ...]:
        return self._requests

    @property
    def state(self) -> SessionState:
        state = self._stored.state
        if self._stored.over or self._store.owner(self.id):
            return state
        return state.left_alone(max(state.since, self._last))

    async def refresh(self) -> None:
        """Read how it stands."""
        self._stored = await self._store.find(self.id) or self._stored
        rows = [] if self._stored.over else await self._records.open_requests()
        opened = [event for row in rows if isinstance(event := event_of(row), RequestOpened)]
        self._requests = tuple(OpenRequest(one.request, one.digest) for one in opened)

    async def keep_up(self) -> None:
        """Ring when the journal has news."""
        with ringing(self._bell, self._store.path):
            while True:
                news = self._bell.next
                await self.refresh()
                with anyio.move_on_after(SLOWLY):
                    await news.wait()
                if not news.is_set():
                    self._bell.ring()

    async def events(self, after: int = 0) -> AsyncIterator[SessionEvent]:
        event: SessionEvent | None = None
        while True:
            news = self._bell.next
            # asked before the rest, or that is cut short; one that was forgotten is over
            stored = await self._store.find(self.id)
            async for event in recorded(self._records, after):
                after, self._last = event.number or after, event.at
                yield event
            if stored is None:
                return
            if stored.complete:
                ended = event.result if isinstance(event, SessionEnded) else None
                if ended is None or not is_final(ended.outcome, ended.agent.how):
                    yield SessionEnded(_result_of(stored), at=stored.ended_at or 0.0)
                return
            await news.wait()

    async def _reach(self) -> tuple[Agent, Reach]:
        async with self._reaching:
            if self._reached is None:
                self._reached = await self._meet()
        return self._reached

    async def _reach_to_stop(self) -> Agent:
        try:
            return (await self._reach())[0]
        except (AgentUnseen, WorkDirRefused):
            start = await known_start(self._store, self.id)
            if start is None or self._host is None:
                raise
            return agents.recall(self._host, start)

    async def _meet(self) -> tuple[Agent, Reach]:
        stored = self._stored
        facts = Facts.read(stored.facts)
        start = await known_start(self._store, stored.id)
        if self._host is None:
            self._host = await self._stack.enter_async_context(host_of(stored))
        host = self._host
        try:
            agent = await self._stack.enter_async_context(agents.adopt(host, start=start))
        except FileRefused as error:
            raise unseen(stored.id, stored.host, error) from error
        agent.detach()
        self._secrets = Secrets(await credentials_of(host, agent, facts.hidden, self._records))
        self._records = self._store.journal(stored.id, self._secrets)
        read = await self._records.noted("output") or {}
        ours = read.get("agent", agent.session) == agent.session
        place = Cursor(**read["cursor"]) if ours and read.get("cursor") else None
        return agent, kind_named(facts.agent).reach(agent, stored.id, place)

    async def _add(self, event: Written) -> None:
        await self._records.append(recordable(event, time.time()))

    async def detach(self) -> None:
        """We never held it."""

    async def _note_stop(self, by: str) -> None:
        try:
            with self._store.claim(self.id, owner_name()):  # nobody is there to notice it
                stored = await self._store.session(self.id)
                if not stored.over:
                    now, words = time.time(), f"stopped by {by}"
                    result = SessionResult(self.id, "cancelled", words, now, now)
                    state = over("cancelled", words, at=now, state=stored.state)
                    await self._records.finish(result, state)
                    await forget_key(self._records)
        except AlreadyOwned:
            pass
        await self.refresh()

    async def result(self) -> SessionResult:
        found: SessionResult | None = None
        async for event in self.events():
            if isinstance(event, SessionEnded):
                found = event.result
        assert found is not None
        return found


def _result_of(stored: StoredSession) -> SessionResult:
    """As far as the row of a session tells: it is all that an older version wrote."""
    outcome: Any = stored.outcome
    ended = stored.ended_at or time.time()
    return SessionResult(stored.id, outcome, stored.summary, stored.created_at, ended)
