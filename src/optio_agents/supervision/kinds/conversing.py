"""What all agents have in common that one converses with: recorded, asked for, awaited.

None of them ends by itself: once DONE or ERROR is recorded and no turn runs, it has nothing to do
any more. Of what it says only turns, requests and how it stands are recorded; the rest lies in its
output on its host.

What is sent while a turn runs waits in the session's `queue` on its host, with the first prompt,
and whoever owns the session says it, by its name, when the turn has ended: so it survives each of
us, and is said once.
"""

from __future__ import annotations

import json
import logging
import re
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.agents.input import check_name
from optio_agents.concurrency import task_group
from optio_agents.context import SYSTEM_MESSAGE_PREFIX
from optio_agents.conversation.contract import Attachment, ConversationClosed, TurnResult
from optio_agents.conversation.exchange import ControlRefused
from optio_agents.conversation.machinery import AgentConversation
from optio_agents.conversation.wire_agent import AgentWire, sent_before
from optio_agents.errors import (
    AgentError,
    AlreadyOwned,
    OptioAgentsError,
    StoreError,
    TransferFailed,
)
from optio_agents.hosts.retrying import retrying
from optio_agents.protocol.strict_json import finite
from optio_agents.supervision.events import Notice, TurnEnded

from . import FIRST, PROMPTED, check_program, setup_of
from .deciding import OwnerReach
from .named import ROWS, AgentRow
from .reaching import ConversationReach, Wording

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence

    from optio_agents.agents import Agent
    from optio_agents.conversation.contract import Event, UsageWindow
    from optio_agents.display import Secrets
    from optio_agents.framing.cursor import Cursor
    from optio_agents.hosts.host import Host
    from optio_agents.supervision.recording import Recording

    from . import PermissionPolicy


_log = logging.getLogger(__name__)
_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0  # seconds at a limit of which nobody says how long it holds
_AWAKE = 30.0  # seconds between looks at a clock that a closed laptop does not stop
_GO_ON = f"{SYSTEM_MESSAGE_PREFIX}the limit at which your turn ended is over. Go on with your task."
_HARMLESS = ("completed", "cancelled", "lost")  # turns that tell nothing of why an agent ended
_WORDS = 4096  # characters of a turn's answer that are kept
_LOGIN = re.compile(
    r"not logged in|please run /login|invalid api key|\b401\b|unauthorized", re.IGNORECASE
)


def _queued(
    lines: Sequence[bytes],
) -> Iterator[tuple[str, tuple[str, list[Attachment]] | dict[str, Any]]]:
    """The messages, and what is to be set, in lines of a queue; the agent could write there."""
    for line in lines:
        with suppress(ValueError, RecursionError, KeyError, TypeError):
            match json.loads(line or b"null"):
                case {"name": str(name), "text": str(text), **more}:
                    kept: Any = more.get("attachments") or ()
                    files = [Attachment.load(one) for one in kept]
                    yield check_name(name), (text, files)
                case {"name": str(name), "set": dict(settings)}:
                    yield check_name(name), settings


class ConversationLink(OwnerReach):
    """The conversation of one session, as its owner has it."""

    def __init__(
        self,
        agent: Agent,
        conversation: AgentConversation,
        recording: Recording,
        asking: PermissionPolicy,
        wording: Wording,
        *,
        known: Mapping[str, Any],
    ) -> None:
        super().__init__(agent, conversation, recording, asking, wording)
        self._noted_session: str | None = None
        self._hook: Any = None
        self._windows: tuple[UsageWindow, ...] = ()
        self._todos = 0  # changes of its list that were passed on
        self._known, self._events = known, 0  # earlier owners recorded the first
        self._turns = int(known.get("before", 0))
        self._over = self._all_read = False
        self._failures = 0  # turns in a row that were no good
        self._due: float | None = None  # when it is told to go on, behind a usage limit
        self._prompted = anyio.Event()
        self.trouble: str | None = None

    async def body(self, host: Any, hook: Any) -> object:
        conversation, self._hook = self._conversation, hook
        while not self._all_read:
            if self._failed is not None:
                raise self._failed
            if self._over and not conversation.is_pending():
                return None  # it would wait for ever for what else is to be done
            await self._bell.next.wait()
        if (failed := conversation.unusable or self._failed) is not None:
            raise failed
        return await self._agent.wait()

    async def underway(self) -> None:
        if setup_of(self._agent).get(PROMPTED) is True:
            await self._prompted.wait()

    def busy(self) -> bool:
        return bool(self._conversation.open_requests) or self._due is not None

    def on_ending(self) -> None:
        self._over = True
        self._bell.ring()

    async def close(self) -> None:
        await self._conversation.close()

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do *work*; what it raises the body raises, or it would look like a cancellation."""
        try:
            await work()
        except Exception as error:
            self._fail(error)

    async def listen(self) -> None:
        """Read what it says until it has ended."""
        await self._conversation.run_reader()
        self._all_read = True
        self._bell.ring()

    async def take(self, event: Event) -> None:
        """One event, in order."""
        self._events += 1
        if self._events > self._known.get("events", 0):
            self._recording.moment(event)
        if self._conversation.todos.changes != self._todos:
            self._tell_todos()
        if self._conversation.windows != self._windows:
            self._windows = self._conversation.windows
            told = [window.to_dict() for window in self._windows]
            await self._recording.records.note("usage", self._label, told)
        limited = self.stand()
        if self._noted_session != self._conversation.session_id:
            self._noted_session = self._conversation.session_id
            try:
                await self._recording.records.note("conversation", "", self._noted_session)
            except StoreError as error:
                self._fail(error)
        if self._over or limited or self._due is not None:  # for these somebody waits
            self._bell.ring()

    def _tell_todos(self) -> None:
        todos = self._conversation.todos
        self._todos = todos.changes
        if self._events <= self._known.get("events", 0):
            return  # an earlier owner has
        if (report := self._recording.todos(todos)) is not None and self._hook is not None:
            try:
                self._hook.report_progress(*report)
            except Exception:  # a context's own
                _log.warning("the context's report_progress raised", exc_info=True)

    async def say_queued(self) -> None:
        """Say what waits in the queue, in order, each when the agent can hear it."""
        with suppress(ConversationClosed, AlreadyOwned):  # nobody hears it, or another says it
            done = set(await self._agent.names_said())
            if FIRST in done:
                self._prompted.set()
            await self.recall_reasons(done)
            async with self._agent.follow_queue() as batches:
                async for batch in batches:
                    for name, what in _queued(batch.lines):
                        if name in done:
                            continue
                        done.add(name)
                        if isinstance(what, tuple):
                            await self._insist(name, *what)
                            if name == FIRST:
                                self._prompted.set()
                        else:
                            await self._set(name, what)

    async def _set(self, name: str, settings: Mapping[str, Any]) -> None:
        for control, value in settings.items():
            try:
                known = await self._conversation.set_control(control, value, name=name)
                why: object = None if known else "there is no such control"
            except (ControlRefused, ValueError) as error:
                why = error
            if why is not None:
                await self._recording.add(Notice(f"{control} was not set: {why}"))

    async def _insist(self, name: str, text: str, files: Sequence[Attachment]) -> None:
        """Say it, however often there is no room for it there."""
        uuid, say = self._uuid(name), self._conversation.pass_on
        try:
            await retrying(
                None,  # the wire waits for the link
                lambda: say(uuid, text, name=name, attachments=files),
                passes=lambda error: isinstance(error, TransferFailed),
                failing=lambda error: _log.warning("a message is said again: %s", error),
            )
        except ValueError as error:
            if name == FIRST:  # it would wait for ever for what it is to do
                self._fail(AgentError(f"the prompt was not said: {error}"))
            await self._recording.add(Notice(f"a message was not said: {error}"))

    async def wait_out_limits(self) -> None:
        """Where a turn has ended at a usage limit, have it go on when that is over."""
        told = 0
        with suppress(OptioAgentsError):  # the reader meets it, too, and tells
            while True:
                while not self._is_held() or self._turns == told:
                    await self._bell.next.wait()
                told, limit = self._turns, self._conversation.state
                pause = min(_PAUSE * 2 ** (self._failures - 1), _LONGEST_PAUSE)
                if limit.until is not None and self._failures == 1:
                    pause = 0.0  # it was told for how long
                self._due = max(limit.until or 0.0, time.time() + pause)
                self.stand()
                if self._recording.meter.meet_limit(str(self._recording.state)):
                    return
                while self._is_held() and (left := self._due - time.time()) > 0:
                    with anyio.move_on_after(min(left, _AWAKE)):
                        await self._bell.next.wait()
                self._due = None
                if self._is_held() and self._turns == told:
                    tag = self._agent.session.rpartition(".")[2]
                    await self.send(f"limit-{tag}-{told}", _GO_ON)
                    self._recording.post(Notice("the limit is over: it is told to go on"))

    def _is_held(self) -> bool:
        """Its last turn has ended at a usage limit, and it does nothing until it is told."""
        held = self._conversation.state.phase == "rate limited" and self._failures > 0
        return held and not self._conversation.is_pending() and not self._over

    def stand(self) -> bool:
        """Say how it stands; whether the model's API turns it away."""
        state = self._conversation.state
        match state.phase:
            case "waiting for permission":
                self._stand_waiting()
            case "rate limited":
                self._recording.stand("limited", state.reason, until=self._due or state.until)
            case "idle" | "starting":
                self._recording.stand(state.phase)
            case "working":
                self._recording.stand("working")
        return state.phase == "rate limited"

    async def end_turn(self, turn: TurnResult) -> None:
        """However it ended; the next one waits until this one is kept."""
        turn = kept_turn(turn, self._wording.kept, self._recording.secrets)
        self._turns += 1
        self._failures = 0 if turn.ok else self._failures + 1
        self.trouble = None if turn.outcome in _HARMLESS else turn.failure
        conversation, records = self._conversation, self._recording.records
        place = conversation.cursor
        read = {
            "agent": self._agent.session,
            "before": self._known.get("before", 0),
            "turns": self._turns,
            "events": self._events,
            "cursor": place and asdict(place),
        }
        try:
            if self._is_new_turn():
                self.settle_left()
                await self._recording.add(
                    TurnEnded(turn), key=f"{self._agent.session} turn-{self._turns}"
                )
                await records.note("output", "stdout", read)
                await records.note(self._label, "session", conversation.session_id)
        except StoreError as error:
            self._failed = error
        if turn.outcome == "failed" and self._turns == 1 and _LOGIN.search(turn.failure or ""):
            self._failed = AgentError(
                f"{self._label} is not logged in there ({turn.failure}): "
                f"{self._wording.login(self._agent)}"
            )
        self._bell.ring()

    def _is_new_turn(self) -> bool:
        """No earlier owner has recorded this turn; those of version 0.3 counted events only."""
        if self._known and "turns" not in self._known:
            return self._events > int(self._known.get("events", 0))
        return self._turns > int(self._known.get("turns", 0))


class ConversingKind(Wording):
    """A kind of agents that one converses with: what is alike in all of them."""

    name: str
    serves = False
    kept: Sequence[str] = ()
    specs: Sequence[type[Any]]
    reach_of: type[ConversationReach] = ConversationReach
    link_of: type[ConversationLink] = ConversationLink

    def row(self, spec: Any) -> AgentRow | None:
        """None for an agent that nobody here knows."""
        return ROWS[self.name]

    def label(self, agent: Agent) -> str:
        return self.name

    def program(self, spec: Any) -> str:
        return str(spec.executable)

    def reads_to_end(self, spec: Any) -> bool:
        return False

    async def check(self, host: Host, spec: Any) -> None:
        row = self.row(spec)
        how = row.install if row is not None else "is it in the PATH there?"
        await check_program(host, self.program(spec), spec.env, how)

    def again(self, spec: Any, words: str, conversation: str | None) -> Any:
        if conversation is None:  # it has not said a word yet
            return replace(spec, prompt="\n\n".join(filter(None, (words, spec.prompt))))
        return replace(spec, prompt=words, continues=conversation, fork=False, attachments=())

    def restored(self, name: str, data: Mapping[str, Any]) -> Any:
        return {one.__name__: one for one in self.specs}[name](**data)

    def reach(self, agent: Agent, session: str, place: Cursor | None) -> ConversationReach:
        return self.reach_of(agent, session, self, place)

    @asynccontextmanager
    async def connect(
        self, agent: Agent, recording: Recording, asking: PermissionPolicy
    ) -> AsyncIterator[ConversationLink]:
        dialect = self.dialect(agent, recording.secrets.values)
        conversation = AgentConversation(
            dialect,
            agent_label=self.label(agent),
            permission_timeout=float("inf"),  # ours knows how long we slept
            by=recording.by,
        )
        wire = AgentWire(agent, line_limit=dialect.line_limit)
        conversation.attach_wire(wire, sent=await sent_before(agent, self.message_of))
        known = await recording.records.noted("output") or {}
        if known.get("agent", agent.session) != agent.session:  # of an earlier start
            known = {}
        elif (await agent.status()).stdout_size < (known.get("cursor") or {}).get("offset", 0):
            turns = known.get("turns", 0)  # it was cut: those that were counted stand there no more
            known = {**known, "before": turns, "events": 0}
        link = self.link_of(agent, conversation, recording, asking, self, known=known)
        link.left_open = {row.value["id"] for row in await recording.records.open_requests()}
        conversation.on_event(link.take)
        conversation.on_turn(link.end_turn)
        conversation.on_permission_request(link.decide)
        conversation.on_tool_call(link.serve)
        conversation.pass_reason = link.pass_reason
        conversation.on_answer = link.stand
        async with task_group() as tasks:
            for work in link.listen, link.say_queued, link.wait_out_limits, link.notice:
                tasks.start_soon(link.run, work)
            yield link
            tasks.cancel_scope.cancel()


def kept_turn(turn: TurnResult, names: Sequence[str], secrets: Secrets) -> TurnResult:
    """As much of it as is recorded; what is hidden is hidden before it is cut."""

    def cut(value: Any) -> Any:
        hidden = secrets.hide_in(value)
        return hidden[:_WORDS] if isinstance(hidden, str) else hidden

    raw = turn.raw or {}
    return TurnResult(
        outcome=turn.outcome,
        text=cut(turn.text),
        failure=cut(turn.failure),
        usage=turn.usage,
        cost=turn.cost,
        evidence=cut(turn.evidence),
        raw=finite({name: cut(raw[name]) for name in names if name in raw}) or None,
    )
