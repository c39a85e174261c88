"""Have what the agent asks decided, and what it calls served; each is answered once.

A permission request is decided by the handler, from another terminal, or by time. A call of a tool
or a hook of ours is served by whoever has it: one that is open when its supervisor dies is found
in the agent's output by the next, and served again.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from inspect import isawaitable
from typing import Any, Generic, TypeAlias, TypeVar

from optio_agents.errors import OptioAgentsError, TransferFailed
from optio_agents.hosts.retrying import retrying
from optio_agents.schemas import FunctionTool

from .contract import (
    NOBODY_ANSWERED,
    AgentTool,
    Hook,
    PermissionDecision,
    PermissionRequest,
    ToolCall,
    Unsubscribe,
    answer_names,
)
from .dialect import CallAsked, PermissionAsked, PermissionSettled, ReplyOwed
from .wire import AnswerTaken, Wire

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """What an agent can call of ours: tools by name, hooks likewise."""

    tools: Mapping[str, AgentTool] = field(default_factory=dict)
    hooks: Mapping[str, Hook] = field(default_factory=dict)

    @classmethod
    def of(
        cls, tools: Sequence[AgentTool | Callable[..., Any]], hooks: Sequence[Hook] = ()
    ) -> Served:
        """Raises ValueError for two of one name, or a name that no tool can have."""
        made = [one if isinstance(one, AgentTool) else FunctionTool(one) for one in tools]
        served = cls({one.name: one for one in made}, {one.name: one for one in hooks})
        if len(served.tools) < len(made) or len(served.hooks) < len(hooks):
            raise ValueError("two tools, or two hooks of one event, have the same name")
        for name in served.tools:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,48}", name):
                raise ValueError(f"no tool can have the name {name!r}")
        return served

    def __bool__(self) -> bool:
        return bool(self.tools or self.hooks)

    def knows(self, call: ToolCall) -> bool:
        """It is one of these that is called."""
        return call.name in (self.tools if call.event is None else self.hooks)

    async def call(self, call: ToolCall) -> Any:
        """What it gives. Raises LookupError, and whatever it raises."""
        if call.event is None:
            return await self.tools[call.name].call(call.input, id=call.id)
        result = self.hooks[call.name].function(call)
        return await result if isawaitable(result) else result


CallHandler: TypeAlias = Callable[[ToolCall], Awaitable[Any]]
Asked = TypeVar("Asked")


class HandlerPlace(Generic[Asked]):
    """Where one handler stands; who asks it waits until there is one."""

    def __init__(self) -> None:
        self._handler: Callable[[Asked], object] | None = None
        self._taken = asyncio.Event()

    def put(self, handler: Callable[[Asked], object]) -> Unsubscribe:
        """A later one replaces it."""
        self._handler = handler
        self._taken.set()

        def unsubscribe() -> None:
            if self._handler is handler:
                self._handler = None
                self._taken.clear()

        return unsubscribe

    async def ask(self, what: Asked) -> object:
        """What the handler gives, or raises."""
        await self._taken.wait()
        assert self._handler is not None
        result = self._handler(what)
        return await result if isawaitable(result) else result


class Approvals:
    """One task for each open request or call; each has one valid answer, or none if settled."""

    def __init__(
        self,
        build_answer: Callable[[PermissionRequest, object], bytes],
        *,
        permission_timeout: float,
        by: str,
        on_denial: Callable[[PermissionRequest, str], Coroutine[Any, Any, None]] | None = None,
        on_answer: Callable[[], object] = lambda: None,
    ) -> None:
        """*on_denial* is given the reasons that answers cannot carry.

        *on_answer* is called when one was said, of which the agent itself may long say nothing.
        """
        self._build_answer = build_answer
        self._on_denial, self._on_answer = on_denial, on_answer
        self._timeout, self._by = permission_timeout, by
        self._open = dict[str, PermissionRequest]()
        self._tasks = dict[str, asyncio.Task[Any]]()
        self._deciding = dict[str, asyncio.Task[object]]()  # the handler's own tasks
        self._waiting = list[PermissionAsked | CallAsked | ReplyOwed]()
        self._calls = dict[str, ToolCall]()  # that are open
        self.decides, self.serves = HandlerPlace[PermissionRequest](), HandlerPlace[ToolCall]()
        # what was answered before this conversation began, by name
        self.answered: Callable[[str], bool] = frozenset[str]().__contains__

    @property
    def open(self) -> tuple[PermissionRequest, ...]:
        """In the order they were asked."""
        return tuple(self._open.values())

    def feed(self, fact: PermissionAsked | PermissionSettled | CallAsked | ReplyOwed) -> None:
        """Take one fact. What it asks is taken up by `work`."""
        match fact:
            case CallAsked(call):
                self._calls[call.request_id] = call
                self._waiting.append(fact)
            case PermissionAsked(request):
                if request.id in self._open:  # what is decided of the one is not of the other
                    self._cancel(request.id)
                self._open[request.id] = request
                self._waiting.append(fact)
            case PermissionSettled(request_id):
                self._open.pop(request_id, None)
                self._calls.pop(request_id, None)
                self._cancel(request_id)
            case ReplyOwed(request_id, place) if not self._name_given(place, request_id):
                self._waiting.append(fact)

    def work(self, wire: Wire) -> None:
        """Take up what was asked by now and is still open."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for question in waiting:
            match question:
                case ReplyOwed(request_id, place, data):
                    name = answer_names(place, request_id)[0]
                    self.start(name, self._insist(wire.answer, name, data))
                case CallAsked(call) if self._calls.get(call.request_id) is not call:
                    pass  # settled by now
                case CallAsked(call, reply):
                    self.start(call.request_id, self._answer_call(wire, call, reply))
                case PermissionAsked(request) if self._open.get(request.id) is not request:
                    pass  # settled by now
                case PermissionAsked(request) if self._name_given(request.place, request.id):
                    # by somebody who may have died before it was said: said again, it is said once
                    self.start(request.id, self._insist(self._answer, wire, request, None))
                case PermissionAsked(request):
                    self.start(request.id, self._decide(wire, request))

    async def answer(
        self, wire: Wire, request: PermissionRequest, decision: object, *, by: str
    ) -> str | None:
        """Say *decision* in the handler's place, which is asked no longer then.

        Gives who answered, None if no answer is wanted any more. Raises ValueError for what this
        agent cannot be told, TransferFailed where its host cannot take it: the request stays open.
        """
        who = await self._answer(wire, request, decision, by=by)
        if self._deciding.get(request.id) is not asyncio.current_task():
            self._cancel(request.id)
        return who

    async def say(self, wire: Wire, request: PermissionRequest, data: bytes) -> None:
        """Say *data*, which the dialect wants to be the answer."""
        await wire.answer(request.names[0], data, self._by)
        self._open.pop(request.id, None)
        self._cancel(request.id)

    async def end(self, grace: float) -> None:
        """Decide nothing more. A handler that ignores its cancellation is left behind."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=grace)

    def _name_given(self, place: int | None, request_id: str) -> str | None:
        """The name under which this was answered before, if it was."""
        return next(filter(self.answered, answer_names(place, request_id)), None)

    def start(self, key: str, work: Coroutine[Any, Any, Any]) -> None:
        """Do *work* in a task that `end` cancels."""

        async def run() -> None:
            try:
                await work
            except OptioAgentsError as error:  # the reader meets it, too, and tells
                _log.info("no answer to request %s: %s", key, error)
            finally:
                if self._tasks.get(key) is asyncio.current_task():
                    del self._tasks[key]

        # foreign code: cancelled and left behind by end(), so it has no parent block
        task = self._tasks[key] = asyncio.get_running_loop().create_task(run())
        task.add_done_callback(lambda _: work.close())  # cancelled before it began, none awaited it

    def _cancel(self, key: str) -> None:
        if (task := self._tasks.pop(key, None)) is not None:
            task.cancel()

    async def _insist(self, say: Callable[..., Awaitable[object]], *args: object) -> None:
        """Say it, however often there is no room for it: the agent waits until it is said."""
        await retrying(
            None,  # the wire waits for the link
            partial(say, *args, by=self._by),
            passes=lambda error: isinstance(error, TransferFailed),
            failing=lambda error: _log.warning("an answer is said again: %s", error),
        )

    async def _answer_call(
        self, wire: Wire, call: ToolCall, reply: Callable[[object], bytes]
    ) -> None:
        name = self._name_given(call.place, call.request_id)
        if name is None:
            try:
                result = await self.serves.ask(call)
            except Exception as error:  # the agent is told
                _log.info("%s failed, which the agent is told", call.name, exc_info=True)
                result = error
        else:  # by somebody who may have died before it was said: the first answer is, whatever now
            result = None
        await self._insist(wire.answer, name or call.names[0], reply(result))
        self._calls.pop(call.request_id, None)

    async def _answer(
        self, wire: Wire, request: PermissionRequest, decision: object, *, by: str
    ) -> str | None:
        asked = self._open.get(request.id)
        if asked is None or (asked.names, asked.input) != (request.names, request.input):
            return None
        name = self._name_given(request.place, request.id) or request.names[0]
        data = self._build_answer(request, decision)
        words = reason_of(request, decision) if self._on_denial else ""
        del self._open[request.id]
        try:
            if words:
                taken = await self._deny(wire, request, name, data, by=by, reason=words)
            else:
                taken = await wire.answer(name, data, by)
        except TransferFailed:
            self._open[request.id] = request
            raise
        self._on_answer()
        return by if taken.won else taken.by

    async def _deny(
        self,
        wire: Wire,
        request: PermissionRequest,
        name: str,
        data: bytes,
        *,
        by: str,
        reason: str,
    ) -> AnswerTaken:
        """Answer with a reason, and pass it on: also where the agent, by then, has us cancelled."""

        async def deny() -> AnswerTaken:
            taken = await wire.answer(name, data, by, reason)
            if taken.won and self._on_denial is not None:
                await self._on_denial(request, reason)
            return taken

        key, task = f"denial-{request.id}", asyncio.get_running_loop().create_task(deny())
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))
        return await asyncio.shield(task)

    async def _decide(self, wire: Wire, request: PermissionRequest) -> None:
        asking = asyncio.get_running_loop().create_task(self.decides.ask(request))
        self._deciding[request.id] = asking
        try:
            done, _ = await asyncio.wait([asking], timeout=self._timeout)
        finally:
            self._deciding.pop(request.id, None)
            asking.cancel()
        decision: object = PermissionDecision("deny", message=NOBODY_ANSWERED)
        if done:
            decision = _outcome(asking)
        try:
            await self._insist(self._answer, wire, request, decision)
        except ValueError as error:
            _log.warning("request %s is denied: the agent cannot be told %s", request.id, error)
            denial = PermissionDecision("deny", message=f"The decision cannot be told: {error}")
            await self._insist(self._answer, wire, request, denial)


def reason_of(request: PermissionRequest, decision: object) -> str:
    """Why *decision* denies *request*, as a message that tells it; "" where it gives no reason."""
    match decision:
        case PermissionDecision("deny", _, str(reason)) if reason.strip():
            about = next((str(value) for value in request.input.values()), request.tool_name)
            return "" if reason == NOBODY_ANSWERED else f"I denied {about[:200]}: {reason}"
    return ""


def _outcome(asking: asyncio.Task[object]) -> object:
    if asking.cancelled():
        return PermissionDecision("deny", message="The permission handler was cancelled.")
    if (error := asking.exception()) is None:
        return asking.result()
    _log.error("the permission handler raised; the request is denied", exc_info=error)
    return PermissionDecision("deny", message="The permission handler failed.")
