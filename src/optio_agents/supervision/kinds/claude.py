"""Supervising claude: its conversation is shown, kept, and ended when all is done."""

from __future__ import annotations

import hashlib
import json
from contextlib import asynccontextmanager, contextmanager, suppress
from inspect import isawaitable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anyio

from optio_agents.concurrency import every, task_group
from optio_agents.conversation.claude import ClaudeCodeConversation
from optio_agents.conversation.claude.stream_json import behavior_of, message_of, user_message
from optio_agents.conversation.contract import (
    NOBODY_ANSWERED,
    PermissionDecision,
    PermissionRequest,
)
from optio_agents.conversation.json_lines import LINE_LIMIT
from optio_agents.conversation.wire_agent import AgentWire, sent_before
from optio_agents.errors import OptioAgentsError, StoreError
from optio_agents.supervision.events import Answered, Asked, Decided, Phase, Spoke

from .voices import message_uuid, say_once

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from optio_agents.agents import Agent
    from optio_agents.conversation.contract import ConversationState, Event, PermissionHandler
    from optio_agents.supervision.events import Eyes, ObservedJournal


_BEAT = 0.2  # seconds
_NEVER = float("inf")  # the conversation's own time-out: ours knows how long we slept
_KEPT = ("subtype", "is_error", "result", "num_turns", "duration_ms", "total_cost_usd", "usage")
_RECALLING = 5.0  # seconds to find out who has answered in our place
_WORDS = 4096  # characters of a turn's answer that are kept


def digest_of(request: PermissionRequest) -> str:
    """What stands for all that is asked: who approves it approves this and nothing else."""
    whole = json.dumps([request.tool_name, request.input], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


@asynccontextmanager
async def claude_voice(
    agent: Agent,
    journal: ObservedJournal,
    eyes: Eyes,
    *,
    heard: Mapping[str, int],
    handler: PermissionHandler | None,
    permission_timeout: float,
    by: str,
) -> AsyncIterator[ClaudeVoice]:
    """Converse with the CLI that *agent* is; the first events, *heard*, were shown before."""
    conversation = ClaudeCodeConversation(permission_timeout=_NEVER, by=by)
    sent = await sent_before(agent, message_of)
    conversation.attach_wire(AgentWire(agent, line_limit=LINE_LIMIT), sent=sent, echoes=True)
    voice = ClaudeVoice(agent, conversation, journal, eyes, heard=heard)
    conversation.on_event(voice.hear)
    conversation.on_message(voice.hear_answer)
    asking = _Asking(agent, journal, eyes, handler, permission_timeout, by)
    conversation.on_permission_request(asking.decide)
    async with task_group() as tasks:
        tasks.start_soon(voice.listen)
        yield voice
        tasks.cancel_scope.cancel()


class ClaudeVoice:
    """The conversation of one session."""

    def __init__(
        self,
        agent: Agent,
        conversation: ClaudeCodeConversation,
        journal: ObservedJournal,
        eyes: Eyes,
        *,
        heard: Mapping[str, int],
    ) -> None:
        self._agent, self._conversation = agent, conversation
        self._journal, self._eyes = journal, eyes
        self._known = dict(heard)  # events and answers that an earlier supervisor has shown
        self._events = self._answers = 0
        self._over = False
        self._state: ConversationState | None = None
        self._failed: StoreError | None = None
        self._changed = anyio.Event()

    async def reply(self, name: str, text: str) -> None:
        uuid = message_uuid(self._journal.session, name) if name else str(uuid4())
        await say_once(self._agent, name or None, user_message(text, uuid))

    async def body(self, host: Any, hook: Any) -> object:
        conversation = self._conversation
        while not conversation.closed:
            if self._failed is not None:
                raise self._failed
            if self._over and not conversation.is_pending():
                return None  # it would wait for ever for what else is to be done
            await self._changed.wait()
        return await self._agent.wait()

    def busy(self) -> bool:
        return bool(self._conversation.open_requests)

    def ending(self) -> None:
        self._over = True
        self._pulse()

    async def close(self) -> None:
        await self._conversation.close()

    async def listen(self) -> None:
        """Read what it says until it has ended."""
        await self._conversation.run_reader()
        self._pulse()

    async def hear(self, event: Event) -> None:
        """One event, in order; the next one waits until this one is kept."""
        self._events += 1
        if self._events > self._known.get("events", 0):
            self._eyes(Spoke(event))
        if (state := self._conversation.state) != self._state:
            self._state = state
            self._eyes(Phase(state))
        if event.get("type") == "result":
            await self._keep(event)
        self._pulse()

    def hear_answer(self, text: str) -> None:
        self._answers += 1
        if self._answers > self._known.get("answers", 0):
            self._eyes(Answered(text))

    async def _keep(self, event: Event) -> None:
        kept = {name: event[name] for name in _KEPT if name in event}
        if isinstance(kept.get("result"), str):
            kept["result"] = kept["result"][:_WORDS]
        shown = {"events": self._events, "answers": self._answers}
        try:
            await self._journal.note("turn", f"{self._events:012d}", kept)
            await self._journal.note("heard", "stdout", shown)
            await self._journal.note("claude", "session", event.get("session_id"))
        except StoreError as error:
            self._failed = error

    def _pulse(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class _Asking:
    """Lets a person decide, here or at another terminal, and writes down what is open."""

    def __init__(
        self,
        agent: Agent,
        journal: ObservedJournal,
        eyes: Eyes,
        handler: PermissionHandler | None,
        timeout: float,
        by: str,
    ) -> None:
        self._agent, self._journal, self._eyes = agent, journal, eyes
        self._handler, self._timeout, self._by = handler, timeout, by

    async def decide(self, request: PermissionRequest) -> PermissionDecision:
        digest = digest_of(request)
        asked = {"tool_name": request.tool_name, "raw": request.raw, "digest": digest}
        await self._journal.note("permission", request.id, asked)
        self._eyes(Asked(request, digest))
        decided: Decided | None = None
        try:
            decision, by = await self._asked(request)
            decided = Decided(request.id, getattr(decision, "behavior", "deny"), by)
            return decision
        finally:
            if self._journal.leaving is None:  # else it stays open
                with anyio.CancelScope(shield=True):
                    decided = decided or await self._settled(request)
                    self._eyes(decided)
                    settled = {"behavior": decided.behavior, "by": decided.by}
                    await self._journal.note("permission", request.id, {**asked, **settled})

    async def _asked(self, request: PermissionRequest) -> tuple[PermissionDecision, str]:
        with anyio.CancelScope() as patience, patient(self._timeout, patience.cancel):
            if self._handler is None:
                await anyio.sleep_forever()
            else:
                answer = self._handler(request)
                return await answer if isawaitable(answer) else answer, self._by
        return PermissionDecision("deny", message=NOBODY_ANSWERED), "nobody"

    async def _settled(self, request: PermissionRequest) -> Decided:
        """Who has decided in our place: somebody at another terminal, or the agent itself."""
        with anyio.move_on_after(_RECALLING), suppress(OptioAgentsError):
            for name in request.names:
                if answered := await self._agent.find_answer(name):
                    by, data = answered
                    return Decided(request.id, behavior_of(data), by)
        return Decided(request.id, "settled", "another terminal, or the agent itself")


@contextmanager
def patient(seconds: float, tired: Callable[[], None]) -> Iterator[None]:
    """Call *tired* once the block has lasted *seconds* in which we were awake."""
    left = seconds

    def beat(awake: float) -> None:
        nonlocal left
        left -= awake
        if left <= 0:
            tired()

    leave = every(_BEAT, beat)
    try:
        yield
    finally:
        leave()
