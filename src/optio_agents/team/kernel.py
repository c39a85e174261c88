"""What runs the turns of a team in one process: it writes, claims, runs, wakes and ends them.

A turn that is called here is written as ours in the same write, and runs at once in a task of its
own. Everything else comes by the store: turns that others left or gave to whoever is free, the
ends of children that run elsewhere, mail, cancellations. One loop waits for news of these.

The order that keeps the promises: a turn is written before its participant starts; what it said is
written as its end before anybody who waits for it goes on. Whoever lost a claim (the process was
frozen and another took over) finds its writes refused, and only watches from then on.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from optio_agents.errors import OptioAgentsError, StoreError

from .context import TurnContext
from .errors import Diverged, Lost, NoParticipant
from .messages import Message, stored
from .observing.events import Called, Returned, Slept, Woke
from .observing.hooks import Hooks
from .observing.telemetry import Tracing
from .stores import OVER, Claim, Row, TurnStore
from .turn import Suspend, Turn, current, error_of
from .work import as_message, end_of, hook_end, work_on

if TYPE_CHECKING:
    from .participants import Participant

_log = logging.getLogger("optio_agents.team")

SWEEP = 1.0  # seconds: what a lost bell may have left lies no longer
_STOP = 10.0  # seconds that foreign code has to obey its cancellation
_MOST = 100  # turns that are claimed in one write


class Kernel:
    """One worker of a team."""

    def __init__(
        self,
        participants: Mapping[str, Participant],
        store: TurnStore,
        hooks: Hooks,
        at_once: int,
        team: str,
    ) -> None:
        self.participants, self.store, self.hooks, self.team = participants, store, hooks, team
        self.calls: Any = None  # for the contexts
        self.shared = frozenset(name for name, one in participants.items() if one.shared)
        self.people = frozenset(name for name, one in participants.items() if one.person)
        self.slots = asyncio.Semaphore(at_once)
        self.tracing = Tracing()
        self.turns: dict[str, Turn] = {}  # those that are not over, and what they called
        self.contexts: dict[str, Any] = {}  # those that run here
        self.spent: dict[str, Any] = {}  # what each tree has used, by its root
        self._watched: dict[str, Turn] = {}  # those that somebody here waits for, and run elsewhere
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._unread: list[Turn] = []
        self._loop: asyncio.Task[None] | None = None

    # Life

    async def open(self) -> None:
        for name, one in self.participants.items():
            one.open(name)
        await self.store.open()
        self._loop = asyncio.create_task(self._serve())

    async def close(self, grace: float = 0.0) -> None:
        """Let what runs end within *grace* seconds; then a durable store keeps it for later."""
        if self._loop is None:
            return
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        if tasks and grace > 0:
            for turn in tuple(self.contexts):
                note = Message("Sum up and finish: the team is closing.", sender="team", to=turn)
                await self.store.post(turn, {"message": note.dump()}, key="closing")
            await asyncio.wait(tasks, timeout=grace)
        self._loop.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.wait([self._loop, *self._tasks], timeout=_STOP)
        for task, turn in self._tasks.items():
            _log.warning("turn %s does not stop: %r", turn, task)
        self._loop = None
        try:
            await self.store.close()
        finally:
            for one in self.participants.values():
                await one.close()
        for failed in self._unread:
            _report_unread(failed)
        self._unread.clear()
        for left in tuple(self.turns.values()):
            if not left.over and not self.store.durable:
                left.conclude("cancelled", error={"kind": "", "text": "the team was closed"})
        self.turns.clear()

    def _spawn(self, work: Coroutine[Any, Any, None], turn: str) -> None:
        if self._loop is None:
            work.close()
            raise ValueError("the team is not started: use `async with team` or `team.run`")
        task = self._loop.get_loop().create_task(work)
        self._tasks[task] = turn
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a turn ended in an error of our own", exc_info=error)

    # A turn that is called here

    def make(
        self,
        to: str,
        message: Message,
        *,
        id: str | None,  # noqa: A002
        parent: Turn | None,
        options: dict[str, Any],
        returns: Any = None,
    ) -> Turn:
        """The turn of that id, which may be known already. Raises Diverged if it is another."""
        turn = self.turns.get(id) if id is not None else None
        if turn is not None and id is not None:
            above = parent.id if parent else turn.row.parent
            _check_same(turn.row, to, message, above, turn.message)
            if parent is not None and turn.parent is not parent:
                _adopt(parent, turn)
            turn.returns = turn.returns if returns is None else returns
            return turn
        ident = id or secrets.token_hex(6)
        above = None if parent is None else parent.id
        root = ident if parent is None else parent.row.root
        if to in self.people:
            options["person"] = True
        if self.tracing:
            options["trace"] = self.tracing.here()
        place = self.store.place if self.participants[to].local else None
        row = Row(ident, to, {}, above, root, options, place)
        turn = self.turns[ident] = Turn(self, row, message, parent, returns)
        if parent is not None:
            parent.emit(Called, to, ident)
        return turn

    def start(self, turn: Turn) -> None:
        """Write it and run it, unless that was begun."""
        if not turn.started:
            turn.started = True
            self._spawn(self._begin(turn), turn.id)

    async def _begin(self, turn: Turn) -> None:
        row = turn.row
        try:
            asked = turn.message
            if self.hooks and (changed := await self.hooks.run("before_turn", turn, asked)):
                row.options["asked"] = asked.id  # whoever asks again says that
                turn.message = as_message(changed, asked)
            row.message = stored(turn.message)
            put = await self.store.put(row, claim=row.name not in self.shared)
            if not put.new:
                _check_same(put.row, row.name, asked, row.parent, asked)
        except Lost as error:  # it was called while its caller was cancelled
            turn.conclude("cancelled", error=error_of(error), cause=error)
            return
        except Exception as error:  # of the store, of a hook, ours: whoever awaits it is told
            turn.conclude("failed", error=error_of(error), cause=error)
            return
        turn.written = True
        if put.claim is not None:
            turn.row = put.row
            await self._work(turn, put.claim)
        elif put.row.state in OVER:
            self._restore(turn, put.row)
        else:
            turn.row = put.row
            self._watch(turn, put.row.state)

    def _watch(self, turn: Turn, status: str) -> None:
        self._watched[turn.id] = turn
        turn.changed(status)

    # Running one

    async def _work(self, turn: Turn, claim: Claim) -> None:
        context = self.contexts[turn.id] = TurnContext(self, turn, claim)
        current.set(context)
        turn.changed("running")
        try:
            worked = await work_on(self, context)
            if worked.pause is not None:
                return await self._suspend(context, worked.pause)
            status, error = worked.status, worked.error
            messages: Sequence[Message] = turn.messages()
            if self.hooks:
                messages = await hook_end(self.hooks, turn, status, messages, error)
            result: dict[str, Any] = {"messages": tuple(map(stored, messages))}
            if error is not None:
                result["error"] = error
            if context.used:
                result["used"] = context.used
            if turn.tools:
                result["tools"] = turn.tools
            await self._end(turn, claim, status, result)
            turn.row.result, turn.row.ended = result, time.time()
            turn.conclude(status, messages, error, worked.cause)
            self._over(turn)
        except Lost:
            rows = await self.store.look(id=turn.id)
            if rows and rows[0].state in OVER:
                self._restore(turn, rows[0])
            else:
                self._watch(turn, "running")
        finally:
            if self.contexts.get(turn.id) is context:
                del self.contexts[turn.id]

    async def _suspend(self, context: TurnContext, pause: Suspend) -> None:
        turn, until = context.turn, pause.until
        bounds = [end for end in (until, end_of(turn)) if end is not None]
        turn.emit(Slept, until)
        self.contexts.pop(turn.id, None)
        self._watched[turn.id] = turn
        due = min(bounds) if bounds else None
        await self._written(
            turn, lambda: self.store.sleep(context.claim, after=pause.after, until=due)
        )
        if not turn.over:  # somebody else may have been that quick
            turn.changed("sleeping")
        if turn.parent is not None and (above := self.contexts.get(turn.parent.id)):
            above.changes.ring()

    async def _written(self, turn: Turn, write: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Nobody hears of an end, or may take up a turn, before that is written."""
        complained = False
        while True:
            try:
                return await write()
            except StoreError as error:
                if not complained:
                    _log.error("how turn %s stands cannot be written: %s", turn.id, error)
                complained = True
                await asyncio.sleep(SWEEP)

    async def _end(self, turn: Turn, claim: Claim, status: str, result: dict[str, Any]) -> None:
        if self.hooks:
            result = await self.hooks.change("before_store", None, result)
        await self._written(turn, lambda: self.store.end(claim, status, result))
        if self.hooks:
            await self.hooks.run("after_store", None, result)

    def _restore(self, turn: Turn, row: Row) -> None:
        if not turn.over:
            turn.written = True
            try:
                turn.restore(row)
            except ValueError as error:  # it said what is not known here
                turn.conclude("failed", error=error_of(error), cause=error)
            self._over(turn)

    def _over(self, turn: Turn) -> None:
        parent = turn.parent
        self._watched.pop(turn.id, None)
        if parent is not None:
            if turn.error is None:
                parent.emit(Returned, turn.name, turn.id, turn.text)
            if (above := self.contexts.get(parent.id)) is not None:
                above.changes.ring()
        elif self.spent:
            self.spent.pop(turn.id, None)
        if turn.error is not None and turn.status != "cancelled":
            if len(self._unread) > 1000:  # those that were read are nobody's business
                self._unread = [one for one in self._unread if one.unread_failure]
            self._unread.append(turn)
        if parent is None or parent.over:
            self._drop(turn)

    def _drop(self, turn: Turn) -> None:
        self.turns.pop(turn.id, None)
        for child in turn.children:
            if child.over:
                self._drop(child)

    # What comes by the store

    async def _serve(self) -> None:
        while True:
            try:
                await self._take_up()
                await self.store.wait(SWEEP)
            except Exception as error:  # a store of somebody's own may raise what it likes
                ours = isinstance(error, OptioAgentsError)
                _log.error("the turns cannot be read: %s", error, exc_info=not ours)
                await asyncio.sleep(SWEEP)

    async def _take_up(self) -> None:
        claims = [context.claim for context in self.contexts.values()]
        news = await self.store.beat(claims, tuple(self._watched))
        self._restore_all(news.over)
        for turn in (*news.lost, *news.cancelled):
            if (context := self.contexts.get(turn)) is not None:
                self._watch(context.turn, "running")
            self._stop(turn)
        for turn, items in news.mail.items():
            if (context := self.contexts.get(turn)) is not None:
                context.claim.mail += items
                context.changes.ring()
        names, resumed = self.participants.keys(), False
        while True:
            found = await self.store.claim(names, _MOST, shared=self.shared)
            for claim in found:
                self._resume(claim)
            resumed = resumed or bool(found)
            if len(found) < _MOST:
                break
        if resumed and self._watched:  # what woke them may have ended since
            self._restore_all((await self.store.beat((), tuple(self._watched))).over)

    def _restore_all(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if (watched := self._watched.get(row.id)) is not None:
                self._restore(watched, row)

    def _resume(self, claim: Claim) -> None:
        row = claim.row
        turn = self.turns.get(row.id)
        if turn is None:
            parent = self.turns.get(row.parent) if row.parent else None
            try:
                message, wrong = Message.load(row.message), None
            except ValueError as error:
                message, wrong = Message.load(row.message, strict=False), error
            turn = self.turns[row.id] = Turn(self, row, message, parent)
            turn.started = turn.written = True
            if wrong is not None:
                self._spawn(self._refuse(turn, claim, wrong), row.id)
                return
        elif turn.status == "sleeping":
            mail = row.after is not None and len(claim.mail) > row.after
            turn.emit(Woke, "message" if mail else "time")
        turn.row, turn.written = row, True
        self._watched.pop(row.id, None)
        self._spawn(self._work(turn, claim), row.id)

    async def _refuse(self, turn: Turn, claim: Claim, error: ValueError) -> None:
        """End a turn that nobody here can work on."""
        wrong = error_of(error)
        with suppress(Lost):
            await self._end(turn, claim, "failed", {"messages": (), "error": wrong})
            turn.conclude("failed", (), wrong, error)
            self._over(turn)

    def _stop(self, turn: str) -> list[asyncio.Task[None]]:
        here = asyncio.current_task()
        found = [task for task, its in self._tasks.items() if its == turn and task is not here]
        for task in found:
            task.cancel()
        return found

    async def cancel(self, turn: str) -> list[str]:
        """End it and all below it; their ids."""
        known = self.turns.get(turn)
        if known is not None and not known.started:
            known.started = True
            known.conclude("cancelled", error={"kind": "", "text": "cancelled before it began"})
            self._over(known)
            return [turn]
        if known is None:
            await self.find(turn)
        else:
            await known.wait_written()
        ended = await self.store.cancel(turn)
        if tasks := [task for one in ended for task in self._stop(one)]:
            await asyncio.wait(tasks, timeout=_STOP)
        for row in [row for one in ended for row in await self.store.look(id=one)]:
            if (handle := self.turns.get(row.id)) is not None:
                self._restore(handle, row)
        return ended

    async def find(self, turn: str) -> Turn:
        """A handle of a turn, with those of all below it that are known."""
        rows = await self.store.look(id=turn)
        if turn in self.turns or not rows:
            if not rows:
                raise NoParticipant(f"this team has no turn {turn[:80]!r}", turn=turn[:80])
            return self.turns[turn]
        found: dict[str, Turn] = {}
        for row in await self.store.look(root=rows[0].root):
            above = found.get(row.parent or "")
            if row.id == turn or above is not None:
                known = self.turns.get(row.id)
                if known is None:
                    known = Turn(self, row, Message.load(row.message), above)
                    known.started = known.written = True
                    if row.state in OVER:
                        known.restore(row)
                    else:
                        self.turns[row.id] = known
                        self._watch(known, row.state)
                found[row.id] = known
        return found[turn]


def _check_same(
    kept: Row, to: str, message: Message, parent: str | None, unwritten: Message
) -> None:
    """Raise Diverged unless *kept*, or *unwritten* yet, is the turn that is asked for."""
    if kept.name != to or kept.parent != parent:
        raise Diverged(
            f"turn {kept.id} is one of {kept.name}"
            + (f" under {kept.parent}" if kept.parent else "")
            + f", not of {to}: the function has changed, or the id is taken",
            turn=kept.id,
        )
    said = Message.load(kept.message) if kept.message else unwritten
    if kept.options.get("asked", said.id) != message.id:
        raise Diverged(
            f"turn {kept.id} of {kept.name} was called with another message: the function "
            "has changed, or the id is taken",
            turn=kept.id,
        )


def _adopt(parent: Turn, turn: Turn) -> None:
    """*turn* was taken up before its parent was: put it where it belongs."""
    turn.parent = parent
    parent.children.append(turn)
    for event in turn.events_of_root.items:
        parent.events_of_root.put(event)
    waiting = [turn]
    while waiting:
        one = waiting.pop()
        one.events_of_root = parent.events_of_root
        waiting += one.children


def _report_unread(turn: Turn) -> None:
    if turn.unread_failure:
        _log.error("nobody asked how it went: %s", turn.failure(), exc_info=turn.cause)
