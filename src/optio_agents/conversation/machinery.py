"""The machinery of a conversation, one for every agent: what a dialect says becomes what holds.

Who reads: one task (`run_reader`), from the first line of the agent's output to its end. Each
stretch of lines goes to the dialect; the facts in it are taken in first (who waits for a turn,
what is open, what is limited), then its events and turns are handed to the subscribers, and
only then the next stretch is read: a slow subscriber holds up the reading and nothing else.

Who may wait for whom: handlers run in tasks of their own, so they may interrupt, ask and close.
`close` gives the agent and the handlers their time, each bounded, and then drops what is left,
which also frees a reader that waits for a handler. Whoever waits for an answer that cannot come
any more hears ConversationClosed with the reason.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, assert_never
from uuid import UUID, uuid4

import anyio

from optio_agents.checklist import TodoProgress
from optio_agents.concurrency import name_library
from optio_agents.errors import NameTaken, OptioAgentsError
from optio_agents.schemas import AnswerShape

from .approvals import Approvals, CallHandler
from .contract import (
    AnswerUnfit,
    Attachment,
    CloseReason,
    ContextUsage,
    ConversationClosed,
    ConversationState,
    Event,
    EventHandler,
    Interrupted,
    MessageHandler,
    PermissionHandler,
    PermissionRequest,
    TurnHandler,
    TurnResult,
    Unconfirmed,
    Unsubscribe,
    UsageWindow,
)
from .dialect import (
    AllowanceUsed,
    CallAsked,
    ControlAnswered,
    Dialect,
    Fact,
    LimitChanged,
    ListChanged,
    MessageRead,
    PermissionAsked,
    PermissionSettled,
    Ready,
    ReplyOwed,
    TurnOver,
    Unusable,
)
from .exchange import (
    AgentUnusable,
    ControlRefused,
    Exchange,
    has_failed,
    how_closed,
    lost_turn,
)
from .subscribers import Subscriptions
from .wire import OutputLines, ProcessEnd, Wire
from .wire_handle import HandleWire

if TYPE_CHECKING:
    from optio_agents.agents import Agent
    from optio_agents.framing.cursor import Cursor


_log = logging.getLogger(__name__)
_CONTROL = 60.0  # s that a live agent may take to acknowledge a change


class ConversationOptions(TypedDict, total=False):
    """What may be chosen about the conversation with an agent; times are in seconds."""

    agent_label: str  # what its errors call it
    permission_timeout: float  # until a request that nobody answers is denied
    interrupt_timeout: float  # for each of two steps: until a signal, until a stop
    close_timeout: float  # for each step of the end
    by: str  # who other terminals hear has answered a request


class AgentConversation:
    """One live agent that speaks *dialect*. Attach it to a process and run the reader meanwhile."""

    def __init__(
        self,
        dialect: Dialect,
        *,
        agent_label: str,
        permission_timeout: float = 900.0,
        interrupt_timeout: float = 10.0,
        close_timeout: float = 5.0,
        by: str = "the conversation",
    ) -> None:
        """Times are in seconds; *by* is who other terminals hear has answered a request."""
        self._dialect, self._label = dialect, agent_label
        self._interrupt_timeout, self._close_timeout = interrupt_timeout, close_timeout
        self._wire: Wire | None = None
        self._approvals = Approvals(
            dialect.permission_answer,
            permission_timeout=permission_timeout,
            by=by,
            on_denial=None if dialect.carries_reasons else self._tell_reason,
            on_answer=lambda: self.on_answer(),
        )
        self.on_answer: Callable[[], object] = lambda: None  # a request is open no more
        # who passes on why a request was denied, where its answer cannot say so
        self.pass_reason: Callable[[PermissionRequest, str], Awaitable[None]] | None = None
        self._sending = anyio.Lock()  # first come, first served
        self._subscriptions = Subscriptions()
        self._exchange = Exchange()
        self.windows: tuple[UsageWindow, ...] = ()  # of its account, as far as it says
        self.todos = TodoProgress()  # what the agent says that it has to do
        self._spoke = False  # the agent has said something
        self._changed = asyncio.Event()
        self._reading = self._closing = self._detached = False
        self._ended = asyncio.Event()
        self._finished = asyncio.Event()
        self._reason: CloseReason | None = None
        self._failed: OptioAgentsError | None = None

    # -- the process

    def attach(self, handle: Any, *, terminate: Callable[[], Any] | None = None) -> None:
        """Speak with the agent behind *handle*: `stdin.write/drain`, async-iterable `stdout`.

        *terminate* ends its process where the handle itself cannot.
        """
        self.attach_wire(HandleWire(handle, terminate, line_limit=self._dialect.line_limit))

    def attach_wire(self, wire: Wire, *, sent: Sequence[Unconfirmed] = ()) -> None:
        """Speak over *wire*. *sent* was put into its input before."""
        if self._wire is not None:
            raise ValueError("a conversation has one process")
        self._wire = wire
        for message in sent:
            self._exchange.send(message.uuid, message.text)
            self._dialect.sent(message.uuid)

    async def run_reader(self) -> None:
        """Read what the agent says until it has ended, and hand it over.

        Returns when every handler has had everything. Cancelling it leaves the agent alone.
        """
        name_library()
        if self.closed:
            return
        wire = self._attached()
        self._reading = True
        end: ProcessEnd | None = None
        try:
            self._approvals.answered = await wire.answered()
            async with wire.reading() as stretches:
                async for output in stretches:
                    await self._take(output, wire)
            end = await wire.ended()
            if self._pending:
                lost = [lost_turn(asked=self._closing)]
                await self._subscriptions.hand_over([], 0, lost, wire.cursor)
        except OptioAgentsError as error:
            _log.warning("%s is not read any further: %s", self._label, error)
            self._failed = error
        finally:
            self._end(end)
            with anyio.CancelScope(shield=True):
                await self._approvals.end(self._close_timeout)
        try:
            await self._subscriptions.drain()
        finally:
            with anyio.CancelScope(shield=True):
                await self._drop()

    async def close(self) -> None:
        """End the agent: by asking, by the end of its input, by TERM, by KILL to its tree.

        At most about seven times `close_timeout`; nothing is handed over once it returns. Twice
        is fine.
        """
        self._closing = True
        end: ProcessEnd | None = None
        with anyio.CancelScope(shield=True):
            if self._wire is not None and not self._finished.is_set():
                end = await self._end_process(self._wire)
            if self._reading and not self._finished.is_set():
                with anyio.move_on_after(self._close_timeout):
                    await self._ended.wait()
                    await self._subscriptions.drain()
                await self._drop()  # which also frees a reader that waits for a handler
                with anyio.move_on_after(self._close_timeout):
                    await self._ended.wait()
        self._end(end)

    def detach(self) -> None:
        """Leaving its block leaves the agent running, to be adopted later."""
        self._detached = True
        self._attached().detach()

    @asynccontextmanager
    async def leaving(self) -> AsyncIterator[None]:
        """Close it behind the block, unless it was detached."""
        try:
            yield
        finally:
            if not self._detached:
                await self.close()

    async def _end_process(self, wire: Wire) -> ProcessEnd | None:
        with anyio.move_on_after(self._close_timeout), suppress(OptioAgentsError):
            # the end of the input alone may wait for what runs in the background
            if (words := self._dialect.farewell()) is not None:
                await wire.say(words)
            await wire.end_input()
            return await wire.ended()
        with anyio.move_on_after(3 * self._close_timeout), suppress(OptioAgentsError):
            await wire.stop(self._close_timeout)
            return await wire.ended()
        return None

    # -- what it says

    def on_event(self, handler: EventHandler, *, skip: bool = False) -> Unsubscribe:
        """Call *handler* with every event, the agent's own dict, from now on.

        Ours begin with `x-optio-`. A handler that is too slow makes the reading wait; with
        *skip* it misses events instead, and hears of it by `x-optio-skipped`.
        """
        return self._subscriptions.events.add(handler, skip=skip)

    def on_message(self, handler: MessageHandler) -> Unsubscribe:
        """Call *handler* with the final text of each completed turn; others have none."""
        return self._subscriptions.messages.add(handler)

    def on_text(self, handler: MessageHandler) -> Unsubscribe:
        """Call *handler* with each piece of what the agent says, as it says it.

        Some do so only where they were started for that (*partial_messages*).
        """

        def take(event: Event) -> Awaitable[None] | None:
            text = self._dialect.piece(event)
            return handler(text) if text else None

        return self.on_event(take)

    def on_turn(self, handler: TurnHandler) -> Unsubscribe:
        """Call *handler* with the end of each turn, however it ended; also of lost ones."""
        return self._subscriptions.turns.add(handler)

    def on_permission_request(self, handler: PermissionHandler) -> Unsubscribe:
        """Let *handler* decide, also about requests that wait already. A later one replaces it.

        What it raises, answers late or answers wrongly denies the request. It is cancelled when
        somebody else has answered, or no answer is wanted any more.
        """
        return self._approvals.decides.put(handler)

    def on_tool_call(self, handler: CallHandler) -> Unsubscribe:
        """Let *handler* serve what the agent calls of ours, also what waits already.

        What it gives or raises is told to the agent, once. It is cancelled when that is not wanted
        any more. A later one replaces it.
        """
        return self._approvals.serves.put(handler)

    # -- what we say

    async def send(
        self,
        text: str,
        *,
        command: bool = False,
        attachments: Sequence[Attachment] = (),
        uuid: str | None = None,
    ) -> str:
        """Say *text*; returns its uuid when it is kept for the agent. Raises ConversationClosed.

        It is plain text, unless *command* lets the agent carry out `/…` and read in `@…`. While
        the agent starts, and while a turn runs that it would harm, it waits, in the order of the
        calls; cancel it to wait no longer. Under one *uuid* it is said once, however often this
        is asked for; to a detached agent by however many processes, too. ValueError for no UUID,
        and for *attachments* that this agent cannot be shown.
        """
        if uuid is None:
            name, uuid = None, str(uuid4())
        else:
            uuid = str(UUID(uuid))
            name = f"id-{uuid}"
        await self._send(uuid, text, command=command, name=name, attachments=attachments)
        return uuid

    async def ask(
        self,
        text: str,
        *,
        command: bool = False,
        attachments: Sequence[Attachment] = (),
        returns: Any = None,
        tries: int = 3,
    ) -> TurnResult:
        """Say *text* and wait for the turn that answers it, which may have failed.

        *returns* is what a completed one must answer: a type (of pydantic's, a dataclass,
        `list[int]`, …) or a JSON schema. Checked, it is the turn's `value`; what does not fit is
        asked for again, at most *tries* times in all. Cancel it to wait no longer.
        Raises ConversationClosed when the agent ends before, AnswerUnfit when no answer fitted.
        """
        if returns is None:
            return await self._ask(text, command=command, attachments=attachments)
        shape = AnswerShape(returns)
        words, wrong = f"{text}\n\n{shape.instructions}", ""
        for _ in range(tries):
            turn = await self._ask(words, command=command, attachments=attachments)
            if not turn.ok:
                return turn
            try:
                told = turn.value is not None  # as a value, where the wire has a place for one
                return replace(
                    turn, value=shape.check(turn.value) if told else shape.read(turn.text)
                )
            except ValueError as error:
                wrong = str(error)
            words, attachments = f"This did not fit ({wrong}). {shape.instructions}", ()
        raise AnswerUnfit(f"{self._label} did not answer as it was asked to: {wrong}")

    async def _ask(self, text: str, **options: Any) -> TurnResult:
        uuid = str(uuid4())
        with self._exchange.awaiting_turn(uuid) as answer:
            await self._send(uuid, text, **options)
            return await answer

    async def pass_on(
        self, uuid: str, text: str, *, name: str, attachments: Sequence[Attachment] = ()
    ) -> None:
        """Say *text*, which was kept under *name* before, as `send` does: once for that name."""
        await self._send(uuid, text, name=name, attachments=attachments)

    async def _send(
        self,
        uuid: str,
        text: str,
        *,
        command: bool = False,
        name: str | None = None,
        attachments: Sequence[Attachment] = (),
    ) -> None:
        async with self._sending:
            wire = self._attached()
            if self._exchange.was_sent(uuid):
                return
            if not self._dialect.ready:
                await self._until(lambda: self._dialect.ready or self.closed)
                wire = self._attached()
            data = self._dialect.message(uuid, text, command=command, attachments=attachments)
            self._exchange.send(uuid, text)  # first: its echo may be faster than our return
            self._dialect.sent(uuid)
        try:
            with suppress(NameTaken):  # it was said, in other words
                await wire.say(data, name=name)
        except ConversationClosed as error:
            self._exchange.forget(uuid)
            self._dialect.forget(uuid)
            if self._reason is None:
                raise
            raise ConversationClosed(self._reason) from error
        except BaseException:  # cancelled, or the way to it is lost: it may be in its input
            self._exchange.doubt(uuid)
            raise

    async def _tell_reason(self, request: PermissionRequest, words: str) -> None:
        if self.pass_reason is not None:
            await self.pass_reason(request, words)
        else:  # it may wait for the end of the turn
            self._approvals.start(f"reason-{request.id}", self.send(words))

    async def steer(self, text: str) -> None:
        """Say *text* into the turn that runs; at most 60 s.

        Raises ControlRefused where the agent hears nothing meanwhile, or no turn runs.
        """
        if not self._dialect.running:
            raise ControlRefused(f"{self._label} has no turn to be steered: send it a message")
        if self._dialect.ready:  # it reads in the turn what is sent meanwhile
            await self.send(text)
            return
        try:
            await self.control("steer", lambda name: self._dialect.steering(name, text))
        except ValueError as error:
            raise ControlRefused(f"{self._label}: {error}") from error

    async def interrupt(self) -> Interrupted:
        """End the turn that runs; returns when it has ended, and says how.

        "interrupted": the agent did so. "signalled": it did not listen and got SIGINT. "stopped":
        neither helped. "idle": there was nothing to end. Messages that wait come next. At most
        twice `interrupt_timeout` and three times `close_timeout`.
        """
        if not self.is_pending():
            return "idle"
        wire, before, request_id = self._attached(), self._exchange.turns, f"optio-{uuid4()}"
        with (
            anyio.move_on_after(self._interrupt_timeout),
            suppress(ControlRefused),
            self._exchange.awaiting_control(request_id) as refused,
        ):
            for request in self._approvals.open:
                if (words := self._dialect.withdrawal(request)) is not None:
                    await self._approvals.say(wire, request, words)
            await wire.say(self._dialect.interruption(request_id))
            await self._until(
                lambda: (
                    self._exchange.turns > before or not self.is_pending() or has_failed(refused)
                )
            )
            if has_failed(refused):
                refused.result()
            return "interrupted"
        with anyio.move_on_after(self._interrupt_timeout), suppress(OptioAgentsError):
            await wire.signal("INT")
            await self._until(lambda: self._exchange.turns > before or self.closed)
            return "signalled"
        with anyio.move_on_after(3 * self._close_timeout):
            await wire.stop(self._close_timeout)
            await self._ended.wait()
        return "stopped"

    async def answer(self, request: PermissionRequest, decision: object, *, by: str) -> str | None:
        """Decide an open request in the handler's place, which is cancelled then.

        Gives who answered it first, in the end; None where no answer is wanted any more. Raises
        ValueError for a decision that this agent cannot be told.
        """
        return await self._approvals.answer(self._attached(), request, decision, by=by)

    async def set_control(
        self, control_id: str, value: str | bool, *, name: str | None = None
    ) -> bool:
        """Set one of `controls`, from its next step on; False, and nothing done, for another.

        Under one *name* the agent is told once. At most 60 s. Raises ControlRefused,
        ConversationClosed, ValueError for a value that the agent cannot be told.
        """
        if control_id not in self.controls:
            return False
        dialect = self._dialect
        self._attached()
        await self._until(lambda: dialect.ready or bool(dialect.session_id) or self.closed)
        self._attached()
        if not dialect.setting("", control_id, value):  # it goes along with the next message
            return True
        what = f"{control_id} {value}"
        await self.control(what, lambda id_: dialect.setting(id_, control_id, value), name=name)
        return True

    async def control(
        self, what: str, build: Callable[[str], bytes], *, name: str | None = None
    ) -> Mapping[str, Any]:
        """Say what *build* makes of a request id, and wait up to 60 s for what it gives.

        Raises ControlRefused, ConversationClosed.
        """
        wire, request_id = self._attached(), f"optio-{uuid4()}"
        with (
            anyio.move_on_after(_CONTROL),
            self._exchange.awaiting_control(request_id) as answer,
        ):
            await wire.say(build(request_id), name=name)
            return await answer
        raise ControlRefused(f"{self._label} did not acknowledge {what} within {_CONTROL:g} s")

    # -- how it is

    @property
    def unusable(self) -> OptioAgentsError | None:
        """Why it cannot be talked to, or is not read any further, though it may live."""
        return self._failed

    @property
    def agent(self) -> Agent | None:
        """The journaled agent that it speaks with, if it is one."""
        return getattr(self._wire, "agent", None)

    @property
    def controls(self) -> Sequence[str]:
        """What may be set of it while it runs."""
        return self._dialect.controls

    @property
    def closed(self) -> bool:
        """The agent has ended, or is not read: nothing can be said, `close_reason` says why.

        What it said last may still be on its way to the handlers, until `run_reader` returns.
        """
        return self._reason is not None

    @property
    def close_reason(self) -> CloseReason | None:
        return self._reason

    @property
    def session_id(self) -> str | None:
        """The agent's own, by which it can go on later; known from the first turn on."""
        return self._dialect.session_id

    async def context_usage(self) -> ContextUsage | None:
        """How full the model's context is, as far as the agent says; None where it does not."""
        return self._dialect.context

    @property
    def cursor(self) -> Cursor | None:
        """Behind the last line of the journal that every handler has had.

        While handlers are busy it may stand too far back, never too far.
        """
        return self._subscriptions.cursor

    @property
    def open_requests(self) -> tuple[PermissionRequest, ...]:
        """The permission requests that nobody has answered yet."""
        return self._approvals.open

    @property
    def unconfirmed(self) -> tuple[Unconfirmed, ...]:
        """What was sent and has not been echoed. It is not said again unless you do."""
        return self._exchange.unconfirmed

    def is_pending(self) -> bool:
        """The agent works on a turn, or has yet to answer something that was sent."""
        return not self.closed and self._pending

    @property
    def state(self) -> ConversationState:
        if self._reason is not None:
            return ConversationState("closed", reason=str(self._reason))
        if self._approvals.open:
            return ConversationState("waiting for permission")
        if (limit := self._exchange.limit) is not None:
            return ConversationState("rate limited", limit.until, limit.reason)
        if self._pending or self._dialect.busy:
            return ConversationState("working")
        return ConversationState("idle" if self._spoke else "starting")

    # -- inside

    @property
    def _pending(self) -> bool:
        return self._dialect.running or self._exchange.pending

    async def _take(self, output: OutputLines, wire: Wire) -> None:
        now = time.time()
        if output.old:
            before, output = output.parts()
            self._learn(self._dialect.read(before, now).facts)  # handed over before
        events, facts = self._dialect.read(output, now)
        turns = self._learn(facts)
        self._spoke = True
        self._approvals.work(wire)
        self._notify()
        await self._subscriptions.hand_over(events, output.size, turns, wire.cursor)

    def _learn(self, facts: Iterable[Fact]) -> list[TurnResult]:
        """The turns that ended with *facts*."""
        turns = list[TurnResult]()
        for fact in facts:
            match fact:
                case PermissionAsked() | PermissionSettled() | CallAsked() | ReplyOwed():
                    self._approvals.feed(fact)
                case TurnOver(turn):
                    turns.append(turn)
                    self._exchange.feed(fact)
                case AllowanceUsed(windows):
                    self.windows = tuple(windows)
                case ListChanged(update):
                    self.todos.apply(update)
                case MessageRead() | ControlAnswered() | LimitChanged():
                    self._exchange.feed(fact)
                case Unusable(why):
                    raise AgentUnusable(f"{self._label} cannot be talked to: {why}")
                case Ready():  # whoever waits to send is woken behind every stretch
                    pass
                case _:
                    assert_never(fact)
        return turns

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _attached(self) -> Wire:
        if self._reason is not None:
            raise ConversationClosed(self._reason)
        if self._wire is None:
            raise ValueError("attach a process first")
        return self._wire

    def _end(self, end: ProcessEnd | None) -> None:
        """Nothing more will come: whoever waits for something hears why."""
        if self._reason is None:
            last = self._exchange.last_turn
            self._reason = how_closed(self._label, end, self._failed, last, asked=self._closing)
            self._exchange.end(ConversationClosed(self._reason))
        self._ended.set()
        self._notify()

    async def _drop(self) -> None:
        await self._subscriptions.end(self._close_timeout)
        self._finished.set()
