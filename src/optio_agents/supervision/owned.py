"""The session as its owner has it: awaited for the result, or entered for the live session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from optio_agents.concurrency import task_group
from optio_agents.display import Secrets
from optio_agents.errors import (
    AgentError,
)
from optio_agents.store.records import SessionResult

from .events import (
    OpenRequest,
)
from .live import Session

if TYPE_CHECKING:
    from collections.abc import Generator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from optio_agents.agents import Agent
    from optio_agents.store.records import SessionRecords, SessionState

    from .events import SessionEvent, Written
    from .kinds import Reach
    from .recording import Recording
    from .supervisor import Owner


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
