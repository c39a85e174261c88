"""Reaching an agent that one converses with, through its session directory alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from uuid import NAMESPACE_URL, uuid5

import anyio

from optio_agents.agents.input import next_name, request_name
from optio_agents.conversation.approvals import reason_of
from optio_agents.conversation.wire_agent import open_requests, steer
from optio_agents.errors import JournalChanged
from optio_agents.supervision.events import AnswerOutcome, OpenRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optio_agents.agents import Agent
    from optio_agents.conversation.contract import (
        Attachment,
        PermissionDecision,
        PermissionRequest,
        Unconfirmed,
    )
    from optio_agents.conversation.dialect import Dialect
    from optio_agents.framing.cursor import Cursor


_READING = 30.0  # seconds that reading what it has said may take


class Wording(Protocol):
    """What is different from one kind of agents that one converses with to another."""

    @property
    def kept(self) -> Sequence[str]:
        """What our journal keeps of the event that ends a turn."""

    def label(self, agent: Agent) -> str:
        """What people call it."""

    def login(self, agent: Agent) -> str:
        """What to do where it is not logged in."""

    def dialect(self, agent: Agent, values: Mapping[str, str]) -> Dialect:
        """A new one, to which nothing was said; *values* are those of credentials, by name."""

    def message_of(self, front: bytes) -> Unconfirmed | None: ...
    def behavior_of(self, answer: bytes, request: PermissionRequest) -> str:
        """What an answer that was said has decided: "allow", "deny" or "settled"."""

    def reports(self, agent: Agent, request: PermissionRequest) -> bool:
        """All that it asks for is to append an entry to its own log."""

    def delivers(self, agent: Agent, request: PermissionRequest) -> Sequence[str]:
        """The deliverables of this session, where it asks for no more than to write a file there.

        None for all else.
        """


class ConversationReach:
    """Speaking to an agent through its session directory alone."""

    def __init__(
        self, agent: Agent, session: str, wording: Wording, place: Cursor | None = None
    ) -> None:
        self._agent, self._session, self._wording, self._place = agent, session, wording, place

    def _dialect(self) -> Dialect:
        return self._wording.dialect(self._agent, {})

    def _uuid(self, name: str) -> str:
        # the same for the same message of the same session, whoever says it
        return str(uuid5(NAMESPACE_URL, f"optio-agents:{self._session}:{name}"))

    async def send(
        self, name: str | None, text: str, attachments: Sequence[Attachment] = ()
    ) -> str:
        name = name or next_name()
        await self._agent.queue(name, text, attachments=[one.dump() for one in attachments])
        return name

    async def steer(self, text: str) -> str:
        return await steer(self._agent, self._dialect(), text, self._wording.message_of)

    async def interrupt(self) -> None:
        dialect = self._dialect()
        with anyio.fail_after(_READING):
            asked = await open_requests(self._agent, dialect)
        for request in asked:
            if (words := dialect.withdrawal(request)) is not None:
                await self._agent.answer(request.names[0], words, by="an interrupt")
        await self._agent.say(dialect.interruption(f"optio-{next_name()}"))

    @property
    def controls(self) -> Sequence[str]:
        return self._dialect().controls

    async def set_control(self, control_id: str, value: str) -> None:
        """Its owner does so, in the order in which this and messages were asked for."""
        await self._agent.queue_settings(next_name(), {control_id: value})

    async def requests(self) -> tuple[OpenRequest, ...]:
        with anyio.fail_after(_READING):
            try:
                found = await open_requests(self._agent, self._dialect(), self._place)
            except JournalChanged:  # it was cut since: what is there by now
                found = await open_requests(self._agent, self._dialect())
        return tuple(map(OpenRequest.of, found))

    async def answer(
        self, request: PermissionRequest, decision: PermissionDecision, *, by: str
    ) -> AnswerOutcome:
        dialect = self._dialect()
        data = dialect.permission_answer(request, decision)
        words = "" if dialect.carries_reasons else reason_of(request, decision)
        name = request.names[0]
        answered = await self._agent.answer(name, data, by=by, reason=words)
        if answered.won and words:
            # should we die here, whoever owns the session finds it with the answer
            await self._agent.queue(f"reason-{request_name(name)}", words)
            return AnswerOutcome(won=True, by=answered.by, passed_on=words)
        return AnswerOutcome(answered.won, answered.by)
