"""The live session: one object for whoever wants to see a session and act on it.

    async with supervise(host, Claude("Fix the tests"), store=store) as session:   # its owner
    async with find_session("7f3a", store=store) as session:                       # anybody else

The owner's process acts through the agent and the conversation that it holds: nothing is adopted
twice. Anybody else reads the journal, which needs no host, and reaches the agent's host at the
first verb that needs it. Both read the same events, in the same places of the same sequence.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from optio_agents import agents
from optio_agents.agents.input import request_name
from optio_agents.concurrency import task_group
from optio_agents.display import Secrets
from optio_agents.errors import (
    AgentError,
    AgentUnseen,
    AlreadyOwned,
    FileRefused,
    WorkDirRefused,
)
from optio_agents.framing.cursor import Cursor
from optio_agents.store import Store
from optio_agents.store.records import RESUMABLE, SessionResult, over

from .credentials import credentials_of, forget_key
from .events import (
    AnswerOutcome,
    MessageSent,
    Notice,
    OpenRequest,
    RequestDecided,
    RequestOpened,
    SessionEnded,
    event_of,
    recordable,
)
from .kinds import kind_named
from .recording import SLOWLY, Bell, ringing
from .sessions import Facts, host_of, known_start, owner_name, unseen

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from optio_agents.agents import Agent, StopReport
    from optio_agents.conversation.contract import Attachment, PermissionDecision, PermissionRequest
    from optio_agents.framing.batches import Batches
    from optio_agents.hosts.host import Host
    from optio_agents.store import StoredSession
    from optio_agents.store.records import SessionRecords, SessionState

    from .events import SessionEvent, Written
    from .kinds import Reach
    from .recording import Recording
    from .supervisor import Owner


_LINE = 16 << 20  # bytes of the agent's output that whoever only reads is given at most


class Position(Protocol):
    """Where somebody stands who sees a session: as its owner, or anywhere else."""

    @property
    def id(self) -> str: ...
    @property
    def state(self) -> SessionState: ...
    @property
    def records(self) -> SessionRecords: ...
    @property
    def secrets(self) -> Secrets: ...
    def events(self, after: int) -> AsyncIterator[SessionEvent]: ...
    @property
    def requests(self) -> tuple[OpenRequest, ...]: ...
    async def reach(self) -> tuple[Agent, Reach]: ...
    async def reach_to_stop(self) -> Agent: ...
    async def add(self, event: Written) -> None: ...
    async def detach(self) -> None: ...
    async def stopped(self, by: str) -> None: ...
    async def result(self) -> SessionResult: ...


class Session:
    """One session, live. What it says of waiting holds for a host that can be reached.

    Every verb raises HostError and InputClosed where the agent cannot be spoken to.
    """

    def __init__(self, position: Position) -> None:
        self._position = position

    def __repr__(self) -> str:
        return f"<Session {self.id}: {self.state}>"

    @property
    def id(self) -> str:
        return self._position.id

    @property
    def state(self) -> SessionState:
        """How it stands, as its owner has written it down; unattended when there is none."""
        return self._position.state

    @property
    def secrets(self) -> Secrets:
        """What is hidden in all that is kept of it; elsewhere, once its agent was reached."""
        return self._position.secrets

    def events(self, after: int = 0) -> AsyncIterator[SessionEvent]:
        """What happened behind event number *after*, and then what happens, to its end."""
        return self._position.events(after)

    @property
    def requests(self) -> tuple[OpenRequest, ...]:
        """What the agent waits for, in the order asked, as its owner has written it down."""
        return self._position.requests

    @asynccontextmanager
    async def output(self, cursor: Cursor | None = None) -> AsyncIterator[Batches]:
        """The agent's own output on its host, line by line from *cursor* on, to its end."""
        agent, _ = await self._position.reach()
        async with agent.follow_stdout(cursor, limit=_LINE) as batches:
            yield batches

    async def taken(self) -> frozenset[str]:
        """The names of the messages that have reached the agent's input; others still wait."""
        agent, _ = await self._position.reach()
        return await agent.names_said()

    async def read_requests(self) -> tuple[OpenRequest, ...]:
        """The same as the agent has said itself, so also when nobody supervises it."""
        _, reach = await self._position.reach()
        return await reach.requests()

    async def send(
        self,
        text: str,
        *,
        id: str | None = None,  # noqa: A002 - as published
        attachments: Sequence[Attachment] = (),
        by: str | None = None,
    ) -> str:
        """Say *text* to the agent, once for each *id*; returns the name it was kept under.

        *attachments* that it cannot be shown raise ValueError, or where that is not known before
        its turn a notice tells that the message was not said.
        """
        _, reach = await self._position.reach()
        name = None if id is None else f"id-{hashlib.sha256(id.encode()).hexdigest()[:32]}"
        name = await reach.send(name, text, attachments)
        await self._position.add(MessageSent(name, text, by or owner_name()))
        return name

    async def steer(self, text: str, *, by: str | None = None) -> str:
        """Say *text* into the turn that runs; at most 60 s. Returns the name it was kept under.

        Raises AgentError where no turn runs, or the agent hears nothing meanwhile: then `send`.
        """
        _, reach = await self._position.reach()
        name = await reach.steer(text)
        await self._position.add(MessageSent(name, text, by or owner_name()))
        return name

    async def interrupt(self, *, by: str | None = None) -> None:
        """End the turn that runs; a plain command gets SIGINT. Everybody is told by whom."""
        _, reach = await self._position.reach()
        # before it, for it may be the end
        await self._position.add(Notice(f"{by or owner_name()} interrupts the turn"))
        await reach.interrupt()

    async def set_control(self, control_id: str, value: str) -> None:
        """Change what it is set to while it runs: its model, its mode.

        Raises AgentError where it has no such control, or refuses; ValueError for a value that it
        cannot have. A refusal that comes later is told by a `Notice`.
        """
        _, reach = await self._position.reach()
        if control_id not in reach.controls:
            known = ", ".join(reach.controls)
            has = f"it has {known}" if known else "nothing can be set of this agent"
            raise AgentError(f"no control {control_id!r}: {has}")
        await reach.set_control(control_id, value)
        await self._position.add(Notice(f"{owner_name()} sets {control_id} to {value}"))

    async def answer(
        self, request: OpenRequest, decision: PermissionDecision, *, by: str | None = None
    ) -> AnswerOutcome:
        """Decide *request* as it was shown; the first answer wins, and this says whose it was.

        Raises AgentError when it is not open any more, or is not what was shown.
        """
        _, reach = await self._position.reach()
        found = [one for one in await reach.requests() if one.request.id == request.request.id]
        if not found:
            raise AgentError(f"no request {request.request.id!r} is open")
        if not found[0].was_shown_as(request.digest, decision):
            name = request.request.id
            raise AgentError(f"request {name!r} is not what was shown: look at it again")
        asked = found[0].request
        decision = _in_its_words(decision, asked, self.secrets)
        answer = await reach.answer(asked, decision, by=by or owner_name())
        if answer.won:
            await self._position.add(
                RequestDecided(request.request.id, decision.behavior, answer.by)
            )
        if answer.passed_on:
            name = f"reason-{request_name(request.request.names[0])}"
            await self._position.add(MessageSent(name, answer.passed_on, answer.by))
        return answer

    async def conversation(self) -> str | None:
        """The agent's own id of its conversation, for `continues=` of another; None: none yet."""
        found: str | None = await self._position.records.noted("conversation")
        return found

    async def detach(self) -> None:
        """Let the agent go on without us; `find_session` and `resume` find it again."""
        await self._position.detach()

    async def stop(self, *, grace: float = 5.0, by: str | None = None) -> StopReport:
        """End the agent and all that it started; the session counts as cancelled then, *by* whom.

        Also where its directory cannot be seen, as long as our journal knows the agent.
        """
        agent = await self._position.reach_to_stop()
        records = self._position.records
        by = by or owner_name()
        await records.note("stop", "", {"by": by})
        report = None
        try:
            report = await agent.stop(grace=grace)
        finally:
            if report is None or not report.empty:  # what ends it later is another's doing
                await records.note("stop", "", None)
        if report.empty:
            await self._position.stopped(by)
        return report

    async def result(self) -> SessionResult:
        """How it ended, once it has. Raises as `supervise` does; elsewhere, nothing of that."""
        return await self._position.result()


def _in_its_words(
    decision: PermissionDecision, asked: PermissionRequest, secrets: Secrets
) -> PermissionDecision:
    """*decision* for the agent: whoever made it was shown no credential that *asked* names."""
    if not secrets:
        return decision
    return replace(
        decision,
        updated_input=secrets.put_back(decision.updated_input, asked.input),
        updated_permissions=secrets.put_back(decision.updated_permissions, asked.raw),
    )


# In the owner's process


class Supervising(Coroutine[Any, Any, SessionResult]):
    """A supervision that is awaited for its result, or entered for a live session.

    A block that is left stops the agent, unless it was detached, or is over; and it raises what
    the supervision failed with, unless somebody asked for its `result`.
    """

    def __init__(self, running: Coroutine[Any, Any, SessionResult], owner: Owner) -> None:
        self._running, self._owner = running, owner
        self._block: AbstractAsyncContextManager[Session] | None = None

    def send(self, value: Any) -> Any:
        return self._running.send(value)

    def throw(self, *error: Any) -> Any:
        return self._running.throw(*error)

    def close(self) -> None:
        self._running.close()

    def __await__(self) -> Generator[Any, Any, SessionResult]:
        return self._running.__await__()

    async def __aenter__(self) -> Session:
        self._block = _entered(self._running, self._owner)
        return await self._block.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        assert self._block is not None
        return await self._block.__aexit__(kind, error, trace)


@asynccontextmanager
async def _entered(
    running: Coroutine[Any, Any, SessionResult], owner: Owner
) -> AsyncIterator[Session]:
    async def run() -> None:
        try:
            owner.result = await running
        except Exception as error:
            owner.error = error
        finally:
            owner.end()

    owned = Owned(owner)
    async with task_group() as tasks:
        tasks.start_soon(run)
        await owner.began.wait()
        if owner.recording is not None:
            yield Session(owned)
        if not (owner.detaching.is_set() or owner.over.is_set()):
            tasks.cancel_scope.cancel()
    if owner.error is not None and not owned.asked:
        raise owner.error


class Owned:
    """The session as its owner has it."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.asked = False  # somebody knows how it failed

    @property
    def _recording(self) -> Recording:
        assert self._owner.recording is not None
        return self._owner.recording

    @property
    def id(self) -> str:
        return self._recording.session

    @property
    def state(self) -> SessionState:
        return self._recording.state

    @property
    def records(self) -> SessionRecords:
        return self._recording.records

    @property
    def secrets(self) -> Secrets:
        return self._recording.secrets

    def events(self, after: int) -> AsyncIterator[SessionEvent]:
        return self._recording.events(after)

    @property
    def requests(self) -> tuple[OpenRequest, ...]:
        return tuple(self._recording.open.values())

    async def reach(self) -> tuple[Agent, Reach]:
        await self._owner.reached.wait()
        if self._owner.agent is None or self._owner.link is None:
            raise AgentError("the session is over") from self._owner.error
        return self._owner.agent, self._owner.link

    async def reach_to_stop(self) -> Agent:
        return (await self.reach())[0]

    async def add(self, event: Written) -> None:
        await self._recording.add(event)

    async def detach(self) -> None:
        self._owner.detaching.set()
        await self._owner.over.wait()

    async def stopped(self, by: str) -> None:
        """The supervision notices by itself."""

    async def result(self) -> SessionResult:
        await self._owner.over.wait()
        self.asked = True
        if self._owner.error is not None:
            raise self._owner.error
        assert self._owner.result is not None
        return self._owner.result


# In any other process


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
        visitor = Visitor(store, stored, stack)
        await visitor.refresh()
        tasks.start_soon(visitor.keep_up)
        try:
            yield Session(visitor)
        finally:
            tasks.cancel_scope.cancel()


class Visitor:
    """The session as its journal tells of it."""

    def __init__(self, store: Store, stored: StoredSession, stack: AsyncExitStack) -> None:
        self.id = stored.id
        self.records: SessionRecords = store.journal(stored.id)
        self.secrets = Secrets()
        self._store, self._stored, self._stack = store, stored, stack
        self._bell = Bell()
        self._reaching = anyio.Lock()
        self._reached: tuple[Agent, Reach] | None = None
        self._host: Host | None = None
        self._last = 0.0  # when something happened last
        self.requests: tuple[OpenRequest, ...] = ()

    @property
    def state(self) -> SessionState:
        state = self._stored.state
        if self._stored.over or self._store.owner(self.id):
            return state
        return state.left_alone(max(state.since, self._last))

    async def refresh(self) -> None:
        """Read how it stands."""
        self._stored = await self._store.find(self.id) or self._stored
        rows = [] if self._stored.over else await self.records.open_requests()
        opened = [event for row in rows if isinstance(event := event_of(row), RequestOpened)]
        self.requests = tuple(OpenRequest(one.request, one.digest) for one in opened)

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

    async def events(self, after: int) -> AsyncIterator[SessionEvent]:
        event: SessionEvent | None = None
        while True:
            news = self._bell.next
            # asked before the rest, or that is cut short; one that was forgotten is over
            stored = await self._store.find(self.id)
            while rows := await self.records.events(after):
                for row in rows:
                    after, self._last, event = row.number, row.at, event_of(row)
                    yield event
            if stored is None:
                return
            if stored.over:
                if not isinstance(event, SessionEnded) or event.result.outcome in RESUMABLE:
                    yield SessionEnded(_result_of(stored), at=stored.ended_at or 0.0)
                return
            await news.wait()

    async def reach(self) -> tuple[Agent, Reach]:
        async with self._reaching:
            if self._reached is None:
                self._reached = await self._meet()
        return self._reached

    async def reach_to_stop(self) -> Agent:
        try:
            return (await self.reach())[0]
        except (AgentUnseen, WorkDirRefused):
            start = await known_start(self._store, self.id)
            if start is None or self._host is None:
                raise
            return agents.recall(self._host, start)

    async def _meet(self) -> tuple[Agent, Reach]:
        stored = self._stored
        facts, kind = Facts.read(stored.facts), kind_named(Facts.read(stored.facts).agent)
        start = await known_start(self._store, stored.id)
        if self._host is None:
            self._host = await self._stack.enter_async_context(host_of(stored))
        host = self._host
        try:
            agent = await self._stack.enter_async_context(agents.adopt(host, start=start))
        except FileRefused as error:
            raise unseen(stored.id, stored.host, error) from error
        agent.detach()
        self.secrets = Secrets(await credentials_of(host, agent, facts.hidden, self.records))
        self.records = self._store.journal(stored.id, self.secrets)
        read = await self.records.noted("output") or {}
        ours = read.get("agent", agent.session) == agent.session
        place = Cursor(**read["cursor"]) if ours and read.get("cursor") else None
        return agent, kind.reach(agent, stored.id, place)

    async def add(self, event: Written) -> None:
        await self.records.append(recordable(event, time.time()))

    async def detach(self) -> None:
        """We never held it."""

    async def stopped(self, by: str) -> None:
        try:
            with self._store.claim(self.id, owner_name()):  # nobody is there to notice it
                stored = await self._store.session(self.id)
                if not stored.over:
                    now, words = time.time(), f"stopped by {by}"
                    result = SessionResult(self.id, "cancelled", words, now, now)
                    state = over("cancelled", words, at=now, state=stored.state)
                    await self.records.finish(result, state)
                    await forget_key(self.records)
        except AlreadyOwned:
            pass
        await self.refresh()

    async def result(self) -> SessionResult:
        found: SessionResult | None = None
        async for event in self.events(0):
            if isinstance(event, SessionEnded):
                found = event.result
        assert found is not None
        return found


def _result_of(stored: StoredSession) -> SessionResult:
    """As far as the row of a session tells: it is all that an older version wrote."""
    outcome: Any = stored.outcome
    ended = stored.ended_at or time.time()
    return SessionResult(stored.id, outcome, stored.summary, stored.created_at, ended)
