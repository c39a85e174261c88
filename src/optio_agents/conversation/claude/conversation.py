"""A conversation with the claude CLI over stream-json, however it is reached."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, get_args
from uuid import uuid4

import anyio

from optio_agents.conversation.approvals import Approvals
from optio_agents.conversation.contract import (
    CloseReason,
    ConversationClosed,
    ConversationState,
    Event,
    EventHandler,
    Interrupted,
    MessageHandler,
    PermissionHandler,
    PermissionRequest,
    Unconfirmed,
    Unsubscribe,
)
from optio_agents.conversation.subscribers import Delivery
from optio_agents.conversation.wire import Chunk, End, Wire
from optio_agents.conversation.wire_handle import HandleWire
from optio_agents.errors import AgentError, OptioAgentsError

from .models import Init, RateLimit, TurnResult, Usage
from .standing import Standing
from .stream_json import control_request, failure, user_message

if TYPE_CHECKING:
    from optio_agents.framing.cursor import Cursor


# Ask the CLI for something and wait, within a bound, for what it answers.


class ControlRefused(AgentError):
    """The CLI did not do what it was asked; the message is its own."""


class Controls:
    """Our control requests that wait for their answer, by id."""

    TYPES = frozenset({"control_response"})

    def __init__(self) -> None:
        self._waiting = dict[str, asyncio.Future[dict[str, Any]]]()

    async def ask(self, wire: Wire, subtype: str, **fields: object) -> dict[str, Any]:
        """The CLI's answer. Raises ControlRefused, ConversationClosed; has no bound itself."""
        request_id = f"optio-{uuid4()}"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        try:
            await wire.say(control_request(request_id, subtype, **fields))
            return _unwrapped(await answer)
        finally:
            del self._waiting[request_id]

    def feed(self, event: Event) -> None:
        response = event.get("response")
        if isinstance(response, dict):
            waiting = self._waiting.get(str(response.get("request_id")))
            if waiting is not None and not waiting.done():
                waiting.set_result(response)

    def end(self, error: ConversationClosed) -> None:
        """Nothing will be answered any more."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)


def _unwrapped(response: dict[str, Any]) -> dict[str, Any]:
    if response.get("subtype") != "success":
        raise ControlRefused(str(response.get("error") or "refused without a reason"))
    inner = response.get("response")  # absent for a plain acknowledgement
    return inner if isinstance(inner, dict) else {}


# Why a conversation came to its end, in one sentence.


def ended(label: str, end: End, last_result: Event | None, *, asked: bool) -> CloseReason:
    """The CLI's process has ended."""
    match end.how:
        case "exited" if end.signal:
            how = f"{label} was ended by SIG{end.signal}"
        case "exited" if end.exit_code is not None:
            how = f"{label} exited with {end.exit_code}"
        case "lost":
            how = f"{label} is gone, and nobody knows how it ended"
        case "rebooted":
            how = f"{label} is gone: its host was restarted"
        case _:
            how = f"{label} has ended"
    if (
        end.exit_code
        and not (asked or end.signal)
        and last_result
        and (words := failure(last_result))
    ):
        how = f"{how}; its last turn failed: {words}"
    return CloseReason(how, asked, end.exit_code, end.signal, end.stderr, last_result)


def unheard(label: str, why: object, last_result: Event | None, *, asked: bool) -> CloseReason:
    """It is not read any further, and may go on."""
    how = f"{label} was closed" if asked else f"{label} is not listened to any more"
    return CloseReason(f"{how}: {why}" if why else how, asked, last_result=last_result)


_log = logging.getLogger(__name__)
PermissionMode = Literal[
    "default", "acceptEdits", "plan", "dontAsk", "auto", "manual", "bypassPermissions"
]
_TYPES = Standing.TYPES | Approvals.TYPES | Controls.TYPES
_CONTROL = 60.0  # s that a live CLI may take to acknowledge a change


class ClaudeCodeConversation:
    """One live claude CLI. Attach it to a process and run the reader while it lasts.

    `claude_code` starts the CLI and does both. A CLI launched by hand should have
    `--replay-user-messages`: only then a 2.1.197 tells which message its turns answer.
    """

    def __init__(
        self,
        *,
        agent_label: str = "claude",
        permission_timeout: float = 900.0,
        interrupt_timeout: float = 10.0,
        close_timeout: float = 5.0,
        by: str = "the conversation",
    ) -> None:
        """Times are in seconds; *by* is who other terminals hear has answered a request."""
        self._label = agent_label
        self._interrupt_timeout, self._close_timeout = interrupt_timeout, close_timeout
        self._wire: Wire | None = None
        self._standing = Standing()
        self._controls = Controls()
        self._approvals = Approvals(permission_timeout=permission_timeout, by=by)
        self._delivery = Delivery()
        self._heard = False
        self._changed = asyncio.Event()
        self._reading = self._closing = self._detached = False
        self._ended = asyncio.Event()
        self._finished = asyncio.Event()
        self._reason: CloseReason | None = None
        self._failed: OptioAgentsError | None = None

    # -- the process

    def attach(self, handle: Any, *, terminate: Callable[[], Any] | None = None) -> None:
        """Speak with the CLI behind *handle*: `stdin.write/drain`, async-iterable `stdout`.

        *terminate* ends its process where the handle itself cannot.
        """
        self.attach_wire(HandleWire(handle, terminate))

    def attach_wire(
        self,
        wire: Wire,
        *,
        said: Sequence[Unconfirmed] = (),
        resumed: bool = False,
        echoes: bool = False,
    ) -> None:
        """Speak over *wire*. *said* was put into its input before; *resumed*: it has a past.

        *echoes*: the CLI echoes our messages, so a turn that names none answers none.
        """
        if self._wire is not None:
            raise ValueError("a conversation has one process")
        self._wire = wire
        self._standing = Standing(said=said, resumed=resumed, echoes=echoes)

    async def run_reader(self) -> None:
        """Read what the CLI says until it has ended, and hand it over.

        Returns when every handler has had everything. Cancelling it leaves the CLI alone.
        """
        if self.closed:
            return
        wire = self._attached()
        self._reading = True
        end: End | None = None
        try:
            self._approvals.begin(await wire.answered())
            async with wire.reading() as chunks:
                async for chunk in chunks:
                    await self._take(chunk, wire)
            end = await wire.ended()
        except OptioAgentsError as error:
            _log.warning("%s is not read any further: %s", self._label, error)
            self._failed = error
        finally:
            self._end(end)
            with anyio.CancelScope(shield=True):
                await self._approvals.end(self._close_timeout)
        try:
            await self._delivery.drain()
        finally:
            with anyio.CancelScope(shield=True):
                await self._drop()

    async def close(self) -> None:
        """End the CLI: by asking, by the end of its input, by TERM, by KILL to its tree.

        Bounded, and nothing is handed over any more once it returns. Twice is fine.
        """
        self._closing = True
        end: End | None = None
        with anyio.CancelScope(shield=True):
            if self._wire is not None and not self._finished.is_set():
                end = await self._end_process(self._wire)
            if self._reading and not self._finished.is_set():
                await self._finish()
        self._end(end)

    def detach(self) -> None:
        """Leaving its block leaves the CLI running, for `claude_code_adopt`."""
        self._detached = True
        self._attached().detach()

    async def leave(self) -> None:
        """Close it, unless it was detached."""
        if not self._detached:
            await self.close()

    async def _end_process(self, wire: Wire) -> End | None:
        with anyio.move_on_after(self._close_timeout), suppress(OptioAgentsError):
            # the end of the input alone would wait for background shells and API retries
            await wire.say(control_request("optio-end", "end_session"))
            await wire.end_input()
            return await wire.ended()
        with anyio.move_on_after(3 * self._close_timeout), suppress(OptioAgentsError):
            await wire.stop(self._close_timeout)
            return await wire.ended()
        return None

    async def _finish(self) -> None:
        """Let the reader read to the end and the handlers have it, and then drop what is left."""
        with anyio.move_on_after(self._close_timeout):
            await self._ended.wait()
            await self._delivery.drain()
        await self._drop()  # which also frees a reader that waits for a handler
        with anyio.move_on_after(self._close_timeout):
            await self._ended.wait()

    # -- what it says

    def on_event(self, handler: EventHandler, *, skip: bool = False) -> Unsubscribe:
        """Call *handler* with every event, the CLI's own dict, from now on.

        Ours begin with `x-optio-`. A handler that is too slow makes the reading wait; with
        *skip* it misses events instead, and hears of it by `x-optio-skipped`.
        """
        return self._delivery.events.add(handler, skip=skip)

    def on_message(self, handler: MessageHandler) -> Unsubscribe:
        """Call *handler* with the final text of each completed turn; failed ones have none."""
        return self._delivery.messages.add(handler, skip=False)

    def on_permission_request(self, handler: PermissionHandler) -> Unsubscribe:
        """Let *handler* decide, also about requests that wait already. A later one replaces it.

        What it raises, answers late or answers wrongly denies the request.
        """
        return self._approvals.handle_with(handler)

    # -- what we say

    async def send(self, text: str, *, command: bool = False) -> str:
        """Say *text*; returns its uuid when it is kept for the CLI. Raises ConversationClosed.

        It is plain text, unless *command* lets the CLI carry out `/…` and read in `@…`.
        """
        uuid = str(uuid4())
        await self._send(uuid, text, command=command)
        return uuid

    async def ask(self, text: str, *, command: bool = False) -> TurnResult:
        """Say *text* and wait for the turn that answers it, which may have failed.

        Cancel it to wait no longer. Raises ConversationClosed when the CLI ends before.
        """
        uuid = str(uuid4())
        with self._standing.awaiting(uuid) as answer:
            await self._send(uuid, text, command=command)
            return await answer

    async def _send(self, uuid: str, text: str, *, command: bool) -> None:
        wire, data = self._attached(), user_message(text, uuid, command=command)
        self._standing.turns.send(
            uuid, text
        )  # before it is said: its echo may be faster than our return
        try:
            await wire.say(data)
        except ConversationClosed as error:
            self._standing.turns.forget(uuid)
            raise self._closed_by(error) from error
        except BaseException:  # cancelled, or the way to it is lost
            self._standing.turns.doubt(uuid)
            raise

    async def interrupt(self) -> Interrupted:
        """End the turn that runs; returns when it has ended, and says how.

        "interrupted": the CLI did so. "signalled": it did not listen and got SIGINT. "stopped":
        neither helped. "idle": there was nothing to end. Messages that wait come next.
        """
        if not self.is_pending():
            return "idle"
        wire, before = self._attached(), self._standing.turns.results
        with anyio.move_on_after(self._interrupt_timeout), suppress(ControlRefused):
            await self._controls.ask(wire, "interrupt")
            await self._until(
                lambda: self._standing.turns.results > before or not self._standing.turns.pending
            )
            return "interrupted"
        with anyio.move_on_after(self._interrupt_timeout), suppress(OptioAgentsError):
            await wire.signal("INT")
            await self._until(lambda: self._standing.turns.results > before or self.closed)
            return "signalled"
        with anyio.move_on_after(3 * self._close_timeout):
            await wire.stop(self._close_timeout)
            await self._ended.wait()
        return "stopped"

    async def set_model(self, model: str) -> None:
        """From the next call of the model's API on. Raises ControlRefused."""
        await self._control("set_model", model=model)

    async def set_permission_mode(self, mode: PermissionMode) -> None:
        """From the next tool on. Raises ControlRefused, ValueError."""
        if mode not in get_args(PermissionMode):  # 2.1.197 takes any word
            raise ValueError(f"{mode!r} is none of {', '.join(get_args(PermissionMode))}")
        await self._control("set_permission_mode", mode=mode)

    async def answer(self, request: PermissionRequest, decision: object, *, by: str) -> str | None:
        """Decide an open request in the handler's place. Gives who answered it first, in the end.

        None where no answer is wanted any more.
        """
        return await self._approvals.answer(self._attached(), request, decision, by=by)

    # -- how it is

    @property
    def closed(self) -> bool:
        """The CLI has ended, or is not listened to: nothing can be said, `close_reason` says why.

        What it said last may still be on its way to the handlers, until `run_reader` returns.
        """
        return self._reason is not None

    @property
    def close_reason(self) -> CloseReason | None:
        return self._reason

    @property
    def session_id(self) -> str | None:
        """What `resume=` continues; known from the first turn on."""
        return self._standing.turns.session_id

    @property
    def cursor(self) -> Cursor | None:
        """Behind the last line of the journal that every handler has had.

        For `claude_code_adopt`. While handlers are busy it may stand too far back, never too far.
        """
        return self._delivery.cursor

    @property
    def init(self) -> Init | None:
        """What the CLI said of itself at the start of the latest turn."""
        return self._standing.init

    @property
    def usage(self) -> Usage:
        return self._standing.usage

    @property
    def rate_limit(self) -> RateLimit | None:
        """The limits of the account, as last told to a CLI that is logged in."""
        return self._standing.rate_limit

    @property
    def open_requests(self) -> tuple[PermissionRequest, ...]:
        """The permission requests that nobody has answered yet."""
        return self._approvals.open

    @property
    def unconfirmed(self) -> tuple[Unconfirmed, ...]:
        """What was sent and has not been echoed. It is not said again unless you do."""
        return self._standing.turns.unconfirmed

    def is_pending(self) -> bool:
        """The CLI works on a turn, or has yet to answer something that was sent."""
        return not self.closed and self._standing.turns.pending

    @property
    def state(self) -> ConversationState:
        if self._reason is not None:
            return ConversationState("closed", reason=str(self._reason))
        if self._approvals.open:
            return ConversationState("waiting for permission")
        if (limited := self._standing.limits.now) is not None:
            return ConversationState("rate limited", limited.until, limited.reason)
        if self._standing.turns.pending or self._standing.turns.busy:
            return ConversationState("working")
        return ConversationState("idle" if self._heard else "starting")

    # -- inside

    async def _take(self, chunk: Chunk, wire: Wire) -> None:
        self._learn(chunk.events(0, chunk.old))
        events = chunk.events(chunk.old, len(chunk.lines))
        texts = [turn.text for turn in self._learn(events) if turn.ok]
        self._heard = True
        self._approvals.work(wire)
        self._pulse()
        await self._delivery.hand_over(events, chunk.size, texts, wire.cursor)

    def _learn(self, events: Sequence[Event]) -> list[TurnResult]:
        """The turns that ended with *events*."""
        return [
            turn
            for event in events
            # a foreign type may be anything, also what cannot be hashed
            if type(kind := event.get("type")) is str
            and kind in _TYPES
            and (turn := self._feed(kind, event)) is not None
        ]

    def _feed(self, kind: str, event: Event) -> TurnResult | None:
        if kind in Approvals.TYPES:
            self._approvals.feed(event)
        if kind in Controls.TYPES:
            self._controls.feed(event)
        return self._standing.feed(event) if kind in Standing.TYPES else None

    async def _control(self, subtype: str, **fields: object) -> None:
        wire = self._attached()
        with anyio.move_on_after(_CONTROL):
            await self._controls.ask(wire, subtype, **fields)
            return
        raise ControlRefused(f"{self._label} did not acknowledge {subtype} within {_CONTROL:g} s")

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    def _pulse(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _attached(self) -> Wire:
        if self._reason is not None:
            raise ConversationClosed(self._reason)
        if self._wire is None:
            raise ValueError("attach a process first")
        return self._wire

    def _closed_by(self, error: OptioAgentsError) -> OptioAgentsError:
        return ConversationClosed(self._reason) if self._reason is not None else error

    def _end(self, end: End | None) -> None:
        """Nothing more will come: whoever waits for something hears why."""
        if self._reason is None:
            last, asked = self._standing.turns.last_result, self._closing
            self._reason = (
                unheard(self._label, self._failed, last, asked=asked)
                if end is None
                else ended(self._label, end, last, asked=asked)
            )
            closed = ConversationClosed(self._reason)
            self._controls.end(closed)
            self._standing.end(closed)
        self._ended.set()
        self._pulse()

    async def _drop(self) -> None:
        await self._delivery.end(self._close_timeout)
        self._finished.set()
