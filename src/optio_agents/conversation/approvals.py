"""Have each permission request decided: by the handler, from another terminal, or by time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from inspect import isawaitable
from typing import Any

from optio_agents.conversation.claude.permissions import Asked, PermissionLedger, Refuse, Settled
from optio_agents.conversation.claude.stream_json import NOBODY_ANSWERED, permission_answer
from optio_agents.errors import OptioAgentsError, TransferFailed
from optio_agents.hosts.retrying import retrying

from .contract import Event, PermissionDecision, PermissionHandler, PermissionRequest, Unsubscribe
from .wire import Wire

_log = logging.getLogger(__name__)


class Approvals:
    """One task for each open request; each gives exactly one valid answer, or none if settled."""

    TYPES = PermissionLedger.TYPES

    def __init__(self, *, permission_timeout: float, by: str) -> None:
        self._timeout, self._by = permission_timeout, by
        self._ledger = PermissionLedger()
        self._handler: PermissionHandler | None = None
        self._handled = asyncio.Event()
        self._tasks = dict[str, asyncio.Task[None]]()
        self._waiting = list[Asked | Refuse]()
        self._answered: Callable[[str], bool] = frozenset[str]().__contains__

    @property
    def open(self) -> tuple[PermissionRequest, ...]:
        return self._ledger.open

    def begin(self, answered: Callable[[str], bool]) -> None:
        """Tell which requests were answered before this conversation began."""
        self._answered = answered

    def handle_with(self, handler: PermissionHandler) -> Unsubscribe:
        self._handler = handler
        self._handled.set()

        def unsubscribe() -> None:
            if self._handler is handler:
                self._handler = None
                self._handled.clear()

        return unsubscribe

    def feed(self, event: Event) -> None:
        """Take one event. What it asks is taken up by `work`."""
        for question in self._ledger.feed(event):
            match question:
                case Settled(request_id):
                    self._cancel(request_id)
                case Refuse(request_id, _) if self._answered(request_id):
                    pass
                case _:
                    self._waiting.append(question)

    def work(self, wire: Wire) -> None:
        """Take up what was asked by now and is still open."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        still_open = {request.id for request in self.open}
        for question in waiting:
            match question:
                case Refuse(request_id, answer):
                    self._start(request_id, self._insist(self._say, wire, request_id, answer))
                case Asked(request) if request.id in still_open and self._answered(request.id):
                    # by somebody who may have died before it was said: said again, it is said once
                    self._start(request.id, self._insist(self.answer, wire, request, None))
                case Asked(request) if request.id in still_open:
                    self._start(request.id, self._decide(wire, request))

    async def answer(
        self, wire: Wire, request: PermissionRequest, decision: object, *, by: str
    ) -> str | None:
        """Say *decision*. Gives who answered, None if no answer is wanted any more.

        Raises TransferFailed where the agent's host cannot take it: the request stays open.
        """
        if not self._ledger.answered(request.id):
            return None
        try:
            data = permission_answer(request, decision)
            return await self._say(wire, request.id, data, by=by)
        except TransferFailed:
            self._ledger.unanswered(request)
            raise

    async def end(self, grace: float) -> None:
        """Decide nothing more. A handler that ignores its cancellation is left behind."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=grace)

    def _start(self, request_id: str, work: Coroutine[Any, Any, Any]) -> None:
        async def run() -> None:
            try:
                await work
            except OptioAgentsError as error:  # the reader meets it, too, and tells
                _log.info("no answer to request %s: %s", request_id, error)
            finally:
                if self._tasks.get(request_id) is asyncio.current_task():
                    del self._tasks[request_id]

        # foreign code: cancelled and left behind by end(), so it has no parent block
        self._tasks[request_id] = asyncio.get_running_loop().create_task(run())

    def _cancel(self, request_id: str) -> None:
        if (task := self._tasks.pop(request_id, None)) is not None:
            task.cancel()

    async def _insist(self, say: Callable[..., Awaitable[object]], *args: object) -> None:
        """Say it, however often there is no room for it: the agent waits until it is said."""
        await retrying(
            None,  # the wire waits for the link
            partial(say, *args, by=self._by),
            passes=lambda error: isinstance(error, TransferFailed),
            failing=lambda error: _log.warning("an answer is said again: %s", error),
        )

    async def _say(self, wire: Wire, request_id: str, data: bytes, *, by: str) -> str:
        taken = await wire.answer(request_id, data, by)
        return by if taken.won else taken.by

    async def _decide(self, wire: Wire, request: PermissionRequest) -> None:
        asking = asyncio.get_running_loop().create_task(self._ask(request))
        try:
            done, _ = await asyncio.wait([asking], timeout=self._timeout)
        finally:
            asking.cancel()
        decision: object = PermissionDecision("deny", message=NOBODY_ANSWERED)
        if done:
            decision = _outcome(asking)
        await self._insist(self.answer, wire, request, decision)

    async def _ask(self, request: PermissionRequest) -> object:
        await self._handled.wait()
        handler: Callable[[PermissionRequest], Any] | None = self._handler
        assert handler is not None
        result = handler(request)
        return await result if isawaitable(result) else result


def _outcome(asking: asyncio.Task[object]) -> object:
    if asking.cancelled():
        return PermissionDecision("deny", message="The permission handler was cancelled.")
    if (error := asking.exception()) is None:
        return asking.result()
    _log.error("the permission handler raised; the request is denied", exc_info=error)
    return PermissionDecision("deny", message="The permission handler failed.")
