"""Deliver to handlers: in order and complete, each at its own pace, and none in another's way.

A handler runs in a task of its own, so it may itself wait for the conversation (interrupt, ask).
Whoever produces waits while a handler is too far behind: nothing is buffered beyond a bound.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .contract import Event, TurnResult, Unsubscribe

if TYPE_CHECKING:
    from optio_agents.framing.cursor import Cursor


BACKLOG = 1 << 20  # bytes that may wait for one handler before the reader waits for it
_STRETCH = 1 << 16  # bytes that one handler is given before others have their turn

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Subscribers(Generic[T]):
    """The handlers of one kind. Belongs to one event loop."""

    def __init__(self, what: str, skipped: Callable[[int], T] | None = None) -> None:
        self._what = what
        self._skipped = skipped  # tells a handler that skips how many items it missed
        self.all: tuple[_Subscriber[T], ...] = ()

    def add(
        self, handler: Callable[[T], Awaitable[None] | None], *, skip: bool = False
    ) -> Unsubscribe:
        """With *skip* the handler misses items rather than making the reader wait."""
        subscriber = _Subscriber(handler, self._what, self._skipped if skip else None)
        self.all += (subscriber,)

        def unsubscribe() -> None:
            self.all = tuple(one for one in self.all if one is not subscriber)
            subscriber.drop()

        return unsubscribe

    async def deliver(self, items: Sequence[T], size: int) -> None:
        """Hand over *items*, which hold *size* bytes, as soon as nobody is too far behind."""
        for subscriber in self.all:
            while not subscriber.put(items, size):
                await subscriber.room()


class _Subscriber(Generic[T]):
    def __init__(
        self,
        handler: Callable[[T], Awaitable[None] | None],
        what: str,
        skipped: Callable[[int], T] | None,
    ) -> None:
        self._handler, self.what, self._skipped = handler, what, skipped
        self._backlog = deque[tuple[Sequence[T], int]]()
        self._size = 0
        self._missed = 0
        self.task: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()  # the backlog became shorter
        self._dropped = False

    def put(self, items: Sequence[T], size: int) -> bool:
        """Take *items*; False, and not taken, until there is `room`.

        However many there are: they lie in memory already.
        """
        if self._size > BACKLOG // 2 and self._size + size > BACKLOG and not self._dropped:
            if self._skipped is None:
                return False
            self._missed += len(items)
        elif not self._dropped:
            if self._missed:
                items = [*self._missed_ones(), *items]
            self._add(items, size)
        return True

    async def room(self) -> None:
        """Wait until much of what waits is gone."""
        while self._size > BACKLOG // 2 and not self._dropped:
            self._moved.clear()
            await self._moved.wait()

    async def drained(self) -> None:
        if self._missed and not self._dropped:
            self._add(self._missed_ones(), 1)
        while self.task is not None and self.task is not asyncio.current_task():
            self._moved.clear()
            await self._moved.wait()

    def drop(self) -> asyncio.Task[None] | None:
        """Serve nothing more. Gives the task that still runs a handler, unless it asks itself."""
        self._dropped = True
        self._backlog.clear()
        self._moved.set()
        return None if self.task is _current() else self.task

    def _missed_ones(self) -> list[T]:
        missed, self._missed = self._missed, 0
        return [] if self._skipped is None else [self._skipped(missed)]

    def _add(self, items: Sequence[T], size: int) -> None:
        self._backlog.append((items, max(size, 1)))
        self._size += max(size, 1)
        if self.task is None:
            # foreign code: cancelled and left behind by end(), so it has no parent block
            self.task = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        served = 0
        try:
            while self._backlog:
                items, size = self._backlog.popleft()
                await self._hand_over(items)
                self._size -= size
                served += size
                if served > _STRETCH:  # a plain handler must not starve the reader
                    served = 0
                    self._moved.set()
                    await asyncio.sleep(0)
        finally:
            self._size = sum(size for _, size in self._backlog) if self._backlog else 0
            self.task = None
            self._moved.set()

    async def _hand_over(self, items: Sequence[T]) -> None:
        handler = self._handler
        position = iter(items)
        while not self._dropped:
            try:
                for item in position:
                    result: Any = handler(item)
                    if result is not None and isawaitable(result):
                        await result
                    if self._dropped:
                        return
                return
            except asyncio.CancelledError:
                if self._dropped or ending(asyncio.current_task()):
                    raise
                _log.exception("a handler of %s was cancelled by itself", self.what)
            except Exception:
                _log.exception("a handler of %s raised; it goes on being served", self.what)


def ending(task: asyncio.Task[Any] | None) -> bool:
    """Somebody cancels *task*, rather than something that it awaits."""
    return task is not None and task.cancelling() > 0


def _current() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


# Hand events and answers to their subscribers, and know how far that has come.


class Subscriptions:
    """The subscribers of a conversation."""

    def __init__(self) -> None:
        self.events = Subscribers[Event]("on_event", _skipped)
        self.messages = Subscribers[str]("on_message")
        self.turns = Subscribers[TurnResult]("on_turn")
        self._kinds: tuple[Subscribers[Any], ...] = self.events, self.messages, self.turns
        self._read: Cursor | None = None
        self._had: Cursor | None = None

    @property
    def cursor(self) -> Cursor | None:
        """Behind the last line that every handler has had; while they are busy, before it."""
        for kind in self._kinds:
            for subscriber in kind.all:
                if subscriber.task is not None:
                    return self._had
        return self._read

    async def hand_over(
        self, events: Sequence[Event], size: int, turns: Sequence[TurnResult], cursor: Cursor | None
    ) -> None:
        """Give *events*, of *size* bytes, and the turns that ended there; *cursor* is behind them.

        The answers of the completed ones are messages.
        """
        self._had = self.cursor
        if events:
            await self.events.deliver(events, size)
        if turns:
            texts = [turn.text for turn in turns if turn.ok]
            length = sum(map(len, texts))
            await self.messages.deliver(texts, length)
            await self.turns.deliver(turns, length)
        self._read = cursor

    async def drain(self) -> None:
        """Wait until every handler has had everything; not for the one that calls this."""
        for kind in self._kinds:
            for subscriber in kind.all:
                await subscriber.drained()

    async def end(self, grace: float) -> None:
        """Drop what waits, cancel what runs, leave behind what ignores that for *grace* s."""
        everybody = [one for kind in self._kinds for one in kind.all]
        running = {task: one.what for one in everybody if (task := one.drop()) is not None}
        for task in running:
            task.cancel()
        if running:
            _, left = await asyncio.wait(running, timeout=grace)
            for task in left:
                what = running[task]
                _log.warning("a handler of %s ignores its cancellation: %r", what, task)


def _skipped(count: int) -> Event:
    return {"type": "x-optio-skipped", "count": count}
