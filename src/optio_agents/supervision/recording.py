"""What one supervisor writes down of its session, in the order it happens, and who is shown it.

Nothing is shown that was not recorded first: an observer, `Session.events` of the owner and every
other process read the same sequence out of the journal, so that what an earlier supervisor recorded
and did not live to show is shown by the next one, from the last number shown on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import anyio

from optio_agents.concurrency import task_group
from optio_agents.errors import AgentUnseen, StoreError
from optio_agents.hosts.following.sent.inotify import names_of
from optio_agents.hosts.following.watcher import watcher
from optio_agents.store.records import SessionState, is_final, over, percent_of

from .credentials import forget_key
from .events import (
    AgentEvent,
    LinkChanged,
    OpenRequest,
    RequestDecided,
    RequestOpened,
    SessionEnded,
    StateChanged,
    TodosChanged,
    TurnEnded,
    recordable,
    recorded,
)
from .limits import SessionMeter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from optio_agents.checklist import TodoProgress
    from optio_agents.display import Secrets
    from optio_agents.framing.cursor import Cursor
    from optio_agents.hosts.machine import LinkState
    from optio_agents.store.records import (
        Delivery,
        Entry,
        Resumed,
        SessionRecords,
        SessionResult,
        StatePhase,
    )

    from .events import Observer, SessionBegan, SessionEvent, Written


_log = logging.getLogger(__name__)
_SETTLING = 2.0  # seconds that a turn is over until the agent counts as idle
_ANSWERED = ("deliverable", "caller_message", "done", "error")
_SHOWING = 10.0  # seconds for what is still to be shown at the end
SLOWLY = 5.0  # seconds between looks at a journal of which nothing is heard
_MOMENTS = 10_000  # events of the agent's own that wait for a reader; the oldest are dropped
Leaving: TypeAlias = Literal["detached", "taken over", "cut off"]


class Bell:
    """Wakes everybody who waits for news."""

    def __init__(self) -> None:
        self.next = anyio.Event()  # set at the next ring

    def ring(self, _: object = None) -> None:
        self.next.set()
        self.next = anyio.Event()


class Recording:
    """The journal of one run: a `Journal` for the driver, and what a supervisor adds to it."""

    def __init__(self, records: SessionRecords, secrets: Secrets, *, by: str) -> None:
        self.session = records.session
        self.records, self.by, self.bell = records, by, Bell()
        self.state = SessionState("starting", since=time.time(), by=by)
        self.leaving: Leaving | None = None
        self.unseen = ""  # why its agent cannot be seen any more, where we are cut off for that
        self.result: SessionResult | None = None
        self.ended: SessionEnded | None = None
        self.open: dict[str, OpenRequest] = {}  # by id, in the order asked
        self.forgotten = False  # nothing ever ran, and the journal does not know it any more
        self.closed = False  # nothing comes any more
        self._end_recorded = False
        self.secrets = secrets
        self._stands: tuple[StatePhase, str, float | None] = ("starting", "", None)
        self.down: str | None = None  # why its host is away
        self._checking = False
        self._settled = False  # how it ends, and the agent has only to leave
        self._reports = False  # it has written a STATUS
        self.meter = SessionMeter()
        self.may_go_on: Callable[[SessionResult], bool] = lambda _: False  # not its end yet
        self._owed: set[tuple[str, int, int]] = set()  # lines that it may await an answer to
        self._idle_from = 0.0  # by the loop's clock
        self._settling: asyncio.TimerHandle | None = None
        self._readers: list[deque[AgentEvent]] = []
        self._observer: Observer | None = None

    # For the driver

    async def start(self) -> Resumed:
        self._settled = False  # an agent that was started again has all before it
        known = await self.records.start()
        self._owe(known.pending)
        self._reports = bool(known.statuses)
        return known

    async def record(self, entries: Sequence[Entry], cursor: Cursor, digests: bytes) -> None:
        await self.records.record(entries, cursor, digests)
        self._reports = self._reports or any(entry.kind == "status" for entry in entries)
        if (percent := percent_of(entries)) is not None:
            self.state = replace(self.state, percent=percent)
        self.bell.ring()
        self._owe(entries)

    async def mark_done(self, entries: Sequence[Entry]) -> None:
        await self.records.mark_done(entries)
        self._owed.difference_update(entry.key for entry in entries)
        self._restate()

    async def deliver(self, delivery: Delivery) -> None:
        await self.records.deliver(delivery)
        self.bell.ring()

    async def decide(self, entry: Entry, reply: str) -> None:
        await self.records.decide(entry, reply)
        self.bell.ring()

    async def end(self, result: SessionResult) -> None:
        """The driver cannot tell that a session goes on without it; `leaving` says so here."""
        if result.outcome == "cancelled" and self.leaving == "detached":
            result = replace(result, outcome="detached", summary="the agent goes on without us")
        elif result.outcome == "cancelled" and self.leaving == "cut off":
            summary, error = f"it cannot be seen now: {self.unseen}", AgentUnseen.__name__
            result = replace(result, outcome="failed", summary=summary, error=error)
        self.result = result
        if self.may_go_on(result):
            return  # there is more to come, unless its supervisor finds otherwise
        if self.leaving != "taken over":  # then how it ends is another's to write
            await self.records.end(result)

    # For the supervisor

    async def begin(self, event: SessionBegan) -> None:
        """The first event of this run."""
        await self.add(event)
        self.post(StateChanged(self.state))

    def add(self, event: Written, *, key: str | None = None) -> asyncio.Future[None]:
        """Write *event* down, behind all that was added before. Raises StoreError, also later."""
        match event:
            case RequestOpened(request, digest):
                self.open[request.id] = OpenRequest(request, digest)
            case RequestDecided(request_id):
                self.open.pop(request_id, None)
            case TurnEnded(turn):
                self.meter.add(turn)
        row = recordable(event, event.at or time.time())
        row = replace(row, value=self.secrets.hide_in(row.value), key=row.key or key or "")
        state = self.state if isinstance(event, StateChanged) else None
        kept = self.records.append(row, state)
        kept.add_done_callback(self.bell.ring)
        return kept

    def post(self, event: Written) -> None:
        """Like `add`, where nobody can wait for it."""
        try:
            self.add(event)
        except StoreError as error:
            _log.warning("not recorded: %s", error)

    def moment(self, event: dict[str, Any]) -> None:
        """The agent itself has said this; its output keeps it, and we do not."""
        if self._observer is None and not self._readers:
            return
        seen = AgentEvent(self.secrets.hide_in(event), at=time.time())
        for waiting in self._readers:
            waiting.append(seen)
        if self._observer is not None:
            _show(self._observer, seen)
        self.bell.ring()

    def stand(self, phase: StatePhase, detail: str = "", *, until: float | None = None) -> None:
        """What the agent is doing, as far as it has said."""
        if phase == "idle" != self._stands[0]:  # what it wrote last may not be read yet
            loop = asyncio.get_running_loop()
            self._idle_from = loop.time() + _SETTLING
            self._settling = loop.call_at(self._idle_from, self._restate)
        self._stands = phase, self.secrets.hide(detail), until
        self._restate()

    def todos(self, progress: TodoProgress) -> tuple[int | None, str | None] | None:
        """What the agent says that it has to do; what is to be reported, if it reports nothing."""
        report = progress.report()
        percent, text = (report.percent, report.message) if report else (None, None)
        self.post(TodosChanged(percent, text, progress.widget_items()))
        if self._reports:
            return None
        self.state = replace(self.state, percent=percent)
        self.post(StateChanged(self.state))
        return percent, text

    def link(self, state: LinkState, reason: str) -> None:
        """The way to the host is another than before."""
        self.post(LinkChanged(state, reason))
        self.down = None if state in ("new", "up", "closed") else reason or state
        self._restate()

    def _owe(self, entries: Sequence[Entry]) -> None:
        """It may end its turn and wait for what becomes of these."""
        self._owed.update(entry.key for entry in entries if entry.kind in _ANSWERED)
        self._restate()

    def check(self, begins: bool) -> None:
        """Its DONE is being checked, or was."""
        self._checking = begins
        self._restate()

    def settle(self) -> None:
        """How it ends is settled: it waits for nobody any more, unless only we leave it."""
        self._settled = self.leaving is None
        self._restate()

    def _restate(self) -> None:
        phase, detail, until = self._stands
        if self._checking and phase in ("working", "idle"):
            phase, detail = "working", "its DONE is checked"
        elif phase == "idle" and self._owed:
            phase, detail = "working", "it awaits our answer"
        elif phase == "idle" and self._settled:
            phase, detail = "working", "it is about to leave"
        elif phase == "idle" and asyncio.get_running_loop().time() < self._idle_from:
            phase = "working"
        if self.down is not None:
            phase, detail, until = "link down", self.down, None
        was = self.state
        if (phase, detail, until) != (was.phase, was.detail, was.until) and was.phase != "over":
            # a link that is down for another reason than before is down all the while
            since = was.since if phase == was.phase == "link down" else time.time()
            self.state = SessionState(phase, detail, since, was.percent, until, self.by)
            self.post(StateChanged(self.state))

    async def finish(self, result: SessionResult) -> None:
        """Nothing comes behind this. Logged where it cannot be recorded: then it is only shown."""
        if self.ended is not None:
            return
        self.result, state = result, self.state
        outcome, summary, at = result.outcome, result.summary, result.ended_at
        self.state = over(outcome, summary, at=at, state=state, verified=result.verified)
        self.ended = SessionEnded(result, at=result.ended_at)
        if self.leaving != "taken over":
            try:
                alone = outcome in ("detached", "unreachable")
                await self.records.finish(result, state if alone else self.state)
                self._end_recorded = True
                if is_final(outcome, result.agent.how):
                    await forget_key(self.records)
            except StoreError as error:
                if str(error) != summary:  # else that is the end
                    _log.warning("the end of session %s is not recorded: %s", self.session, error)
        self.bell.ring()

    async def close(self) -> None:
        """This run is over, however it ended."""
        if self.result is not None and self.leaving != "taken over" and not self.forgotten:
            await self.finish(self.result)
        self.closed = True
        if self._settling is not None:
            self._settling.cancel()
        self.bell.ring()

    # For whoever watches

    @asynccontextmanager
    async def shown_to(self, observer: Observer | None) -> AsyncIterator[None]:
        """Call *observer* with what was not shown yet and all that comes, to the last of it."""
        if observer is None:
            yield
            return
        self._observer = observer
        shown = int(await self.records.noted("shown") or 0)

        async def show() -> bool:
            """Whether there may be more; a journal that fails is told by whoever writes it."""
            nonlocal shown
            before = shown
            try:
                async for event in recorded(self.records, shown):
                    _show(observer, event)
                    shown = event.number or shown
                if shown != before:
                    await self.records.note("shown", "", shown)
            except StoreError as error:
                _log.warning("nothing more is shown: %s", error)
                return False
            return True

        async def go_on() -> None:
            news = self.bell.next
            while await show():
                await news.wait()
                news = self.bell.next

        try:
            async with task_group() as tasks:
                tasks.start_soon(go_on)
                yield
                tasks.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(_SHOWING, shield=True):
                await show()
            if self.ended is not None and not self._end_recorded:
                _show(observer, self.ended)

    async def events(self, after: int) -> AsyncIterator[SessionEvent]:
        """All behind number *after*, and all that comes, the agent's own among it."""
        moments = deque[AgentEvent](maxlen=_MOMENTS)
        self._readers.append(moments)
        try:
            while True:
                news, closed = self.bell.next, self.closed
                async for event in recorded(self.records, after):
                    after = event.number or after
                    yield event
                while moments:
                    yield moments.popleft()
                if closed:
                    if self.ended is not None and not self._end_recorded:
                        yield self.ended
                    return
                await news.wait()
        finally:
            self._readers.remove(moments)


def _show(observer: Observer, event: SessionEvent) -> None:
    try:
        observer(event)
    except Exception:
        _log.exception("an observer raised")


@contextmanager
def ringing(bell: Bell, journal: Path) -> Iterator[None]:
    """Ring when any process writes to *journal*, as far as this machine tells."""
    watching, files = watcher(), _Files(journal, bell)
    watching.add(files)
    try:
        yield
    finally:
        watching.remove(files)


class _Files:
    """Those of a journal, for the watcher of this loop."""

    def __init__(self, journal: Path, bell: Bell) -> None:
        self._main = os.fsencode(journal.absolute())
        self._wal = self._main + b"-wal"
        self.ring = bell.ring
        self._seen = list[tuple[int, int]]()  # so that the first look rings

    def check(self) -> None:
        before, self._seen = self._seen, []
        for path in self._main, self._wal:
            with suppress(OSError):
                found = os.stat(path)  # noqa: PTH116 - a path here is bytes
                self._seen.append((found.st_size, found.st_mtime_ns))
        if self._seen != before:
            self.ring()

    def paths(self) -> set[bytes]:
        return names_of(self._main) | names_of(self._wal)
