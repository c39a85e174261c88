"""The live session: one object for whoever wants to see a session and act on it.

    async with supervise(host, Claude("Fix the tests"), store=store) as session:   # its owner
    async with find_session("7f3a", store=store) as session:                       # anybody else

The owner's process acts through the agent and the conversation that it holds: nothing is adopted
twice. Anybody else reads the journal, which needs no host, and reaches the agent's host at the
first verb that needs it. Both read the same events, in the same places of the same sequence.
"""

from __future__ import annotations

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from optio_agents.agents.input import request_name
from optio_agents.display import Secrets
from optio_agents.errors import AgentError
from optio_agents.framing.cursor import Cursor
from optio_agents.store.records import SessionResult

from .events import AnswerOutcome, MessageSent, Notice, OpenRequest, RequestDecided
from .sessions import owner_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optio_agents.agents import Agent, StopReport
    from optio_agents.conversation.contract import Attachment, PermissionDecision, PermissionRequest
    from optio_agents.framing.batches import Batches
    from optio_agents.store.records import SessionRecords, SessionState

    from .events import SessionEvent, Written
    from .kinds import AgentLink, Reach
    from .recording import Recording


_LINE = 16 << 20  # bytes of the agent's output that whoever only reads is given at most


class Session(ABC):
    """One session, live. What it says of waiting holds for a host that can be reached.

    Every verb raises HostError and InputClosed where the agent cannot be spoken to.
    """

    _records: SessionRecords
    _secrets: Secrets

    def __repr__(self) -> str:
        return f"<Session {self.id}: {self.state}>"

    @property
    def id(self) -> str:
        return self._records.session

    @property
    @abstractmethod
    def state(self) -> SessionState:
        """How it stands, as its owner has written it down; unattended when there is none."""

    @property
    def secrets(self) -> Secrets:
        """What is hidden in all that is kept of it; elsewhere, once its agent was reached."""
        return self._secrets

    @abstractmethod
    def events(self, after: int = 0) -> AsyncIterator[SessionEvent]:
        """What happened behind event number *after*, and then what happens, to its end."""

    @property
    @abstractmethod
    def requests(self) -> tuple[OpenRequest, ...]:
        """What the agent waits for, in the order asked, as its owner has written it down."""

    @asynccontextmanager
    async def output(self, cursor: Cursor | None = None) -> AsyncIterator[Batches]:
        """The agent's own output on its host, line by line from *cursor* on, to its end."""
        agent, _ = await self._reach()
        async with agent.follow_stdout(cursor, limit=_LINE) as batches:
            yield batches

    async def taken(self) -> frozenset[str]:
        """The names of the messages that have reached the agent's input; others still wait."""
        agent, _ = await self._reach()
        return await agent.names_said()

    async def read_requests(self) -> tuple[OpenRequest, ...]:
        """The same as the agent has said itself, so also when nobody supervises it."""
        _, reach = await self._reach()
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
        _, reach = await self._reach()
        name = None if id is None else f"id-{hashlib.sha256(id.encode()).hexdigest()[:32]}"
        name = await reach.send(name, text, attachments)
        await self._add(MessageSent(name, text, by or owner_name()))
        return name

    async def steer(self, text: str, *, by: str | None = None) -> str:
        """Say *text* into the turn that runs; at most 60 s. Returns the name it was kept under.

        Raises AgentError where no turn runs, or the agent hears nothing meanwhile: then `send`.
        """
        _, reach = await self._reach()
        name = await reach.steer(text)
        await self._add(MessageSent(name, text, by or owner_name()))
        return name

    async def interrupt(self, *, by: str | None = None) -> None:
        """End the turn that runs; a plain command gets SIGINT. Everybody is told by whom."""
        _, reach = await self._reach()
        # before it, for it may be the end
        await self._add(Notice(f"{by or owner_name()} interrupts the turn"))
        await reach.interrupt()

    async def set_control(self, control_id: str, value: str) -> None:
        """Change what it is set to while it runs: its model, its mode.

        Raises AgentError where it has no such control, or refuses; ValueError for a value that it
        cannot have. A refusal that comes later is told by a `Notice`.
        """
        _, reach = await self._reach()
        if control_id not in reach.controls:
            known = ", ".join(reach.controls)
            has = f"it has {known}" if known else "nothing can be set of this agent"
            raise AgentError(f"no control {control_id!r}: {has}")
        await reach.set_control(control_id, value)
        await self._add(Notice(f"{owner_name()} sets {control_id} to {value}"))

    async def answer(
        self, request: OpenRequest, decision: PermissionDecision, *, by: str | None = None
    ) -> AnswerOutcome:
        """Decide *request* as it was shown; the first answer wins, and this says whose it was.

        Raises AgentError when it is not open any more, or is not what was shown.
        """
        _, reach = await self._reach()
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
            await self._add(RequestDecided(request.request.id, decision.behavior, answer.by))
        if answer.passed_on:
            name = f"reason-{request_name(request.request.names[0])}"
            await self._add(MessageSent(name, answer.passed_on, answer.by))
        return answer

    async def conversation(self) -> str | None:
        """The agent's own id of its conversation, for `continues=` of another; None: none yet."""
        found: str | None = await self._records.noted("conversation")
        return found

    @abstractmethod
    async def detach(self) -> None:
        """Let the agent go on without us; `find_session` and `resume` find it again."""

    async def stop(self, *, grace: float = 5.0, by: str | None = None) -> StopReport:
        """End the agent and all that it started; the session counts as cancelled then, *by* whom.

        Also where its directory cannot be seen, as long as our journal knows the agent.
        """
        agent, by = await self._reach_to_stop(), by or owner_name()
        await self._records.note("stop", "", {"by": by})
        report = None
        try:
            report = await agent.stop(grace=grace)
        finally:
            if report is None or not report.empty:  # what ends it later is another's doing
                await self._records.note("stop", "", None)
        if report.empty:
            await self._note_stop(by)
        return report

    @abstractmethod
    async def result(self) -> SessionResult:
        """How it ended, once it has. Raises as `supervise` does; elsewhere, nothing of that."""

    # What is different for its owner and for anybody else

    @abstractmethod
    async def _reach(self) -> tuple[Agent, Reach]: ...

    async def _reach_to_stop(self) -> Agent:
        return (await self._reach())[0]

    @abstractmethod
    async def _add(self, event: Written) -> None: ...

    @abstractmethod
    async def _note_stop(self, by: str) -> None: ...


class OwnedSession(Session):
    """The session as its owner has it: what this process holds of it, as it comes to hold it."""

    _recording: Recording

    def __init__(self) -> None:
        self.has_begun = False
        self._reached: tuple[Agent, AgentLink] | None = None
        self.began, self._may_act, self.over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.detaching = asyncio.Event()
        self._result: SessionResult | None = None
        self.error: Exception | None = None
        self.was_asked = False  # somebody knows how it failed

    def begin(self, recording: Recording) -> None:
        self._recording, self.has_begun = recording, True
        self._records, self._secrets = recording.records, recording.secrets
        self.began.set()

    def connect(self, agent: Agent, link: AgentLink) -> None:
        self._reached = agent, link
        self._may_act.set()

    def end(self, outcome: SessionResult | Exception | None) -> None:
        """None: whoever ran it does not want to any more."""
        if isinstance(outcome, Exception):
            self.error = outcome
        else:
            self._result = outcome
        for event in self.began, self._may_act, self.over:
            event.set()

    @property
    def state(self) -> SessionState:
        return self._recording.state

    def events(self, after: int = 0) -> AsyncIterator[SessionEvent]:
        return self._recording.events(after)

    @property
    def requests(self) -> tuple[OpenRequest, ...]:
        return tuple(self._recording.open.values())

    async def detach(self) -> None:
        self.detaching.set()
        await self.over.wait()

    async def result(self) -> SessionResult:
        await self.over.wait()
        self.was_asked = True
        if self.error is not None:
            raise self.error
        assert self._result is not None
        return self._result

    async def _reach(self) -> tuple[Agent, Reach]:
        await self._may_act.wait()
        if self._reached is None:
            raise AgentError("the session is over") from self.error
        return self._reached

    async def _add(self, event: Written) -> None:
        await self._recording.add(event)

    async def _note_stop(self, by: str) -> None:
        """The supervision notices by itself."""


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
