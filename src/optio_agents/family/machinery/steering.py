"""Saying something to an agent that is busy: in order, once, and without surprise.

What an agent does with a message that comes while it works is *declared* (`BusySendDeclaration`):

    joins-next-step, queues-to-end   it has a queue of its own. It gets one message at a time, ended
                                     by a blank line, and the next when it has taken that: so each
                                     stays a message of its own
    cuts-in, rejected, unsafe        the running turn would suffer. Messages are held, and said as
                                     one when it has ended

What happens is told by events: `x-optio-queued` (it waits, under its id), `x-optio-taken` (what was
held has been said), `x-optio-interrupt`, `x-optio-requeued` (it waits under a new id).

With a conversation of ours over a journaled agent, which itself says nothing into a turn that it
would harm, what waits is kept in the agent's session directory *before* it counts as queued, and is
said under its id, so once: a `Steering` that is made after kill -9 goes on with what was left. With
any other conversation there is no such place, and what waits ends with this process; `requeue`
takes in what the engine has kept of it.

A message that could not be said is not lost: it stays in front and is said at the next opportunity.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args
from uuid import uuid4

from optio_agents.agents.input import next_name
from optio_agents.conversation.contract import ConversationClosed
from optio_agents.errors import OptioAgentsError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator

    from optio_agents.agents import Agent

BusySend: TypeAlias = Literal["joins-next-step", "queues-to-end", "cuts-in", "rejected", "unsafe"]
BUSY_SEND_VALUES: tuple[BusySend, ...] = get_args(BusySend)
NATIVE_QUEUE: frozenset[BusySend] = frozenset({"joins-next-step", "queues-to-end"})
QUEUED_EVENT = "x-optio-queued"
TAKEN_EVENT = "x-optio-taken"
INTERRUPT_EVENT = "x-optio-interrupt"
REQUEUED_EVENT = "x-optio-requeued"
PROMPT_SEPARATOR = "\n\n"
TURN_END_TIMEOUT_S = 15.0

_log = logging.getLogger(__name__)
_TAKEN = frozenset({"started", "completed"})
_OVER = _TAKEN | {"cancelled", "discarded", "refused"}
_KEPT = re.compile(r"[0-9]{20}-[0-9a-f]{8}-steer-([A-Za-z0-9._-]{1,100})")  # in the order kept


@dataclass(frozen=True)
class BusySendDeclaration:
    """What an agent does with a message while it works; some of its models do otherwise."""

    agent: BusySend
    models: Mapping[str, BusySend] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for value in (self.agent, *self.models.values()):
            if value not in BUSY_SEND_VALUES:
                raise ValueError(f"{value!r} is none of {', '.join(BUSY_SEND_VALUES)}")

    def for_model(self, model: str | None) -> BusySend:
        return self.agent if model is None else self.models.get(model, self.agent)


def resolve_busy_send(declaration: BusySendDeclaration | None, model: str | None) -> BusySend:
    """What is declared for *model*; "unsafe" where nothing is."""
    return "unsafe" if declaration is None else declaration.for_model(model)


@dataclass(frozen=True)
class SendOutcome:
    """What became of a message: its id, and whether it waits."""

    id: str
    queued: bool


class Steering:
    """All that is said to one conversation while it lasts. Raises ConversationClosed."""

    def __init__(
        self,
        conversation: Any,
        *,
        busy_send: Callable[[], BusySend],
        emit: Callable[[dict[str, Any]], Any],
        is_turn_end: Callable[[dict[str, Any]], bool],
        turn_end_timeout_s: float = TURN_END_TIMEOUT_S,
        new_id: Callable[[], str] | None = None,
        command_lifecycle: Callable[[dict[str, Any]], tuple[str, str] | None] | None = None,
    ) -> None:
        """*command_lifecycle* reads from an event what became of a message: its id and a state.

        An interrupted turn has *turn_end_timeout_s* to end before what comes next is said.
        """
        self._conversation, self._emit = conversation, emit
        self._busy_send, self._is_turn_end = busy_send, is_turn_end
        self._timeout, self._lifecycle = turn_end_timeout_s, command_lifecycle
        self._new_id = new_id or (lambda: str(uuid4()))
        self._waiting = deque[tuple[str, str]]()  # for the agent's own queue
        self._held = list[tuple[str, str]]()  # for the end of the turn
        self._said: tuple[str, str] | None = None  # into the agent's queue, and not taken yet
        self._was_taken = False  # it, by a process that is being replaced
        self._replacing = self._interrupted = False
        self._turn_ended = asyncio.Event()
        self._saying, self._steering = asyncio.Lock(), asyncio.Lock()
        self._tasks = set[asyncio.Task[None]]()
        self._agent: Agent | None = getattr(conversation, "agent", None)
        self._names = dict[str, str]()  # what a message is kept under there
        self._leave = conversation.on_event(self._see)
        self._restored = self._start(self._restore(self._agent)) if self._agent else None

    @property
    def held_ids(self) -> list[str]:
        """What waits for the end of the turn."""
        return [one for one, _ in self._held]

    @property
    def pending_ids(self) -> list[str]:
        """What waits for its place in the agent's queue."""
        return [one for one, _ in self._waiting]

    @property
    def in_flight_id(self) -> str | None:
        """What the agent's queue has, and it has not taken yet."""
        return self._said[0] if self._said else None

    # What is asked for

    async def send_when_ready(self, text: str) -> SendOutcome:
        """Say *text* now, or when the agent can hear it; in order, once."""
        await self._opened()
        async with self._saying:
            new = self._new_id(), text
            busy = self._conversation.is_pending() or self._replacing
            if not busy:
                self._said = None
                if not (self._waiting or self._held):
                    await self._say(*new, plain=True)
                    return SendOutcome(new[0], queued=False)
            await self._keep(new)
            self._tell_queued(new, waiting=busy or self._native)
            if self._native:
                self._waiting.append(new)
                await self._say_first(new)
            else:
                self._held.append(new)
                if not busy:
                    await self._say_held()
            return SendOutcome(new[0], queued=True)

    async def interrupt_and_send(self, text: str, *, up_to: str | None = None) -> str | None:
        """End the turn, then say what waits and *text*, whose id it gives; None without a text.

        What waits is said in order in any case, so *up_to* asks for no more than the interrupt.
        """
        await self._opened()
        async with self._steering:
            busy = self._conversation.is_pending()
            if not (text or self._waiting or self._held or (busy and self._native)):
                return None
            cuts_in = not self._native and self._busy_send() == "cuts-in"
            new = (self._new_id(), text) if text else None
            early = self._native or cuts_in or not busy  # else nobody knows yet that it is heard
            if busy and not self._interrupted:
                self._interrupted = True
                self._emit({"type": INTERRUPT_EVENT, "by": "user"})
            async with self._saying:
                if not busy:
                    self._said = None
                if new and early:
                    await self._queue(new)
                self._turn_ended.clear()
            if busy and not cuts_in:
                await self._conversation.interrupt()
                await self._until_turn_ended()
            async with self._saying:
                if new and not early:
                    await self._queue(new)
                if not self._native:
                    await self._say_held(unasked=new)
                elif self._said is None:
                    await self._say_next(plain=not busy)
            return new[0] if new else None

    async def interrupt(self) -> None:
        """End the turn; what waits comes next. Once for a turn, however often it is asked for."""
        self._check_open()
        if not self._conversation.is_pending():
            self._interrupted = False
        elif self._interrupted:
            return
        else:
            self._interrupted = True
            self._emit({"type": INTERRUPT_EVENT, "by": "user"})
        await self._conversation.interrupt()

    async def requeue(self, messages: Iterable[tuple[str, str]]) -> list[str]:
        """Take in what an earlier run left unsaid, by id and text; gives the new ids, in order."""
        await self._opened()
        async with self._saying:
            new = list[str]()
            for old, text in messages:
                one = self._new_id(), text
                await self._keep(one)
                self._emit({"type": REQUEUED_EVENT, "id": old, "new_id": one[0]})
                (self._waiting if self._native else self._held).append(one)
                new.append(one[0])
            await self._say_due()
            return new

    def begin_transport_reset(self) -> None:
        """The agent's process is about to be replaced: nothing more is said into the old one."""
        self._replacing, self._was_taken = True, False

    async def reset_transport(self) -> None:
        """There is a new process: what the old one had not taken is said to it again, first."""
        async with self._saying:
            if self._said is not None and not self._was_taken:
                self._waiting.appendleft(self._said)
            self._said = None
            self._replacing = self._was_taken = self._interrupted = False
            await self._say_due()

    async def settle(self) -> None:
        """Return once everything that was due has been said."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def close(self) -> None:
        """See no more events. Twice is fine."""
        self._leave()
        self._leave = lambda: None

    # What happens

    def _see(self, event: dict[str, Any]) -> None:
        if self._conversation.closed:
            self._turn_ended.set()  # it is no use to wait
        if self._interrupted and not self._conversation.is_pending():
            self._interrupted = False
        if self._lifecycle is not None and (known := self._lifecycle(event)) is not None:
            self._learn(*known)
        if self._is_turn_end(event):
            self._interrupted = False
            self._turn_ended.set()
            self._start(self._go_on(turn_over=True))

    def _learn(self, message: str, state: str) -> None:
        if self._said is None or message != self._said[0] or state not in _OVER:
            return
        if self._replacing:
            self._was_taken = self._was_taken or state in _TAKEN
        else:
            self._said = None
            self._start(self._go_on(turn_over=False))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _go_on(self, *, turn_over: bool) -> None:
        async with self._saying:
            if self._replacing or self._conversation.closed:
                return
            if turn_over and not self._conversation.is_pending():
                self._said = None
            if self._native or not self._steering.locked():
                await self._try(self._say_due())

    async def _until_turn_ended(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._timeout):
                while self._conversation.is_pending() and not self._turn_ended.is_set():
                    await self._turn_ended.wait()
            return
        _log.warning("the interrupted turn did not end within %g s", self._timeout)

    # Saying; the lock is held

    @property
    def _native(self) -> bool:
        """What waits is said one by one; a conversation of ours finds the moment itself."""
        return self._agent is not None or self._busy_send() in NATIVE_QUEUE

    async def _opened(self) -> None:
        """What an earlier process left comes before all that is asked for now."""
        self._check_open()
        if self._restored is not None:
            await asyncio.wait({self._restored})

    def _check_open(self) -> None:
        if self._conversation.closed:
            raise ConversationClosed

    def _tell_queued(self, message: tuple[str, str], *, waiting: bool) -> None:
        more = {"waiting": True} if waiting else {}
        self._emit({"type": QUEUED_EVENT, "id": message[0], "text": message[1], **more})

    async def _queue(self, message: tuple[str, str]) -> None:
        await self._keep(message)
        self._tell_queued(message, waiting=False)
        (self._waiting if self._native else self._held).append(message)

    async def _say_first(self, new: tuple[str, str]) -> None:
        """Go on if nothing is under way; a failure to say *new* itself is its sender's to hear."""
        if self._said is not None or self._steering.locked():
            return
        try:
            await self._say_next()
        except Exception:
            if self._waiting and self._waiting[0] == new:
                self._waiting.popleft()
                raise

    async def _say_due(self) -> None:
        """What comes next, unless the agent is at what it has."""
        if self._native:
            if self._said is None:
                await self._say_next()
        elif not self._conversation.is_pending():
            await self._say_held()

    async def _say_next(self, *, plain: bool = False) -> None:
        if not self._waiting or self._replacing:
            return
        self._said = self._waiting.popleft()
        work = self._say_waiting(self._said, plain=plain)
        if self._agent is None:
            await work
        else:  # it is kept, and its moment may be long in coming
            self._start(self._try(work))

    async def _say_waiting(self, message: tuple[str, str], *, plain: bool) -> None:
        try:
            await self._say(*message, plain=plain)
        except Exception:
            self._waiting.appendleft(message)
            self._said = None
            raise
        if plain:
            self._said = None

    async def _try(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as error:  # it stays in front
            _log.warning("a message that waits could not be said: %s", type(error).__name__)

    async def _say(self, message: str, text: str, *, plain: bool) -> None:
        words = text if plain else text + PROMPT_SEPARATOR  # the agent may put several together
        if self._agent is None:
            await self._conversation.send(words, uuid=message)
        else:
            name = self._names.get(message) or self._name(message)
            await self._conversation.pass_on(message, words, name=name)

    async def _say_held(self, *, unasked: tuple[str, str] | None = None) -> None:
        """What is held, as one message; it is taken only once it was said."""
        if not self._held or self._replacing:
            return
        said = list(self._held)
        uuid = said[0][0] if len(said) == 1 else None
        await self._conversation.send(PROMPT_SEPARATOR.join(text for _, text in said), uuid=uuid)
        del self._held[: len(said)]
        if ids := [one[0] for one in said if one != unasked]:
            self._emit({"type": TAKEN_EVENT, "ids": ids})

    # What outlives us

    async def _keep(self, message: tuple[str, str]) -> None:
        if self._agent is not None:
            name = self._name(message[0])
            await self._agent.queue(name, message[1])
            self._names[message[0]] = name

    def _name(self, message: str) -> str:
        name = f"{next_name()}-steer-{message}"
        if not _KEPT.fullmatch(name):
            raise ValueError(f"{message!r} cannot be the id of a message")
        return name

    async def _restore(self, agent: Agent) -> None:
        """What an earlier process kept and did not say."""
        async with self._saying:
            try:
                said = await agent.names_said()
                async with agent.follow_queue() as batches:
                    batches.finish()
                    async for batch in batches:
                        for name, message, text in _kept(batch.lines):
                            if name not in said and message not in self._names:
                                self._names[message] = name
                                self._waiting.append((message, text))
            except OptioAgentsError as error:
                _log.warning("what waits for the agent cannot be read: %s", error)
            if not self._conversation.is_pending():
                await self._say_next()


def _kept(lines: Iterable[bytes]) -> Iterator[tuple[str, str, str]]:
    """Name, id and text of what a steering kept; others, and the agent, could write there, too."""
    for line in lines:
        with suppress(ValueError, RecursionError):
            match json.loads(line or b"null"):
                case {"name": str(name), "text": str(text)}:
                    if kept := _KEPT.fullmatch(name):
                        yield name, kept[1], text
