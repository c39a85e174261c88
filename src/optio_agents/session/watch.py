"""What a session notices without being told: cancellation, a lost host, silence, small mistakes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.concurrency import QUICK, SLOW, OnDemand, shared_timer
from optio_agents.display import visible
from optio_agents.errors import OptioAgentsError
from optio_agents.protocol.parser import near_miss

from .foreign_code import Tactful
from .outcome import Cancelled, Stalled, Unreachable

if TYPE_CHECKING:
    from optio_agents.context import ProcessContext
    from optio_agents.framing.batches import Batches
    from optio_agents.hosts.machine import Link

    from .messages import Channel
    from .outcome import Decide
    from .shared import Common


_log = logging.getLogger(__name__)


class Cancellation:
    """Notices that the context wants the session to end: at once where it offers an event."""

    def __init__(self, context: ProcessContext, common: Common) -> None:
        self._should_continue = Tactful(context.should_continue)
        self._common = common
        self._asker = OnDemand(common.workers, self._ask, failed=self._trouble)
        flag = getattr(context, "cancellation_flag", None)
        self._flag = flag if isinstance(flag, asyncio.Event) else None
        if self._flag is not None:
            common.workers.start_soon(self._wait, self._flag)

    @property
    def must_be_asked(self) -> bool:
        return self._flag is None

    def look(self, _: float) -> None:
        """Ask the context."""
        if self._should_continue.blocks:
            self._asker.wake()
        else:
            self._judge(self._should_continue.now)

    def _judge(self, ask: Callable[[], Any]) -> None:
        try:
            if not ask():
                self._common.decide(Cancelled())
        except Exception as error:
            self._trouble(error)

    async def _ask(self) -> None:
        try:
            answer = await self._should_continue()
        except Exception as error:
            self._trouble(error)
        else:
            self._judge(lambda: answer)

    async def _wait(self, flag: asyncio.Event) -> None:
        await flag.wait()
        self._common.decide(Cancelled())

    def _trouble(self, error: Exception) -> None:
        self._common.troubles["should_continue"] += 1
        if self._common.troubles["should_continue"] == 1:
            _log.warning("the context's should_continue raised", exc_info=error)


class Absence:
    """Counts how long the host has been away, while we were awake to miss it."""

    def __init__(self, link: Link | None, lost_after: float | None, decide: Decide) -> None:
        self._link, self._lost_after, self._decide = link, lost_after, decide
        self._seconds = 0.0

    @property
    def away(self) -> bool:
        return self._link is not None and self._link.state not in ("up", "new")

    def look(self, awake: float) -> None:
        self._seconds = self._seconds + awake if self.away else 0.0
        if self._lost_after is not None and self._seconds >= self._lost_after:
            assert self._link is not None
            self._decide(Unreachable(self._link.reason or f"the link is {self._link.state}"))


class Silence:
    """Notices that nothing is heard of the agent, whoever is silent: log, output, deliverables."""

    def __init__(
        self,
        stall_after: float | None,
        quiet_for: Callable[[], Awaitable[float]],
        common: Common,
    ) -> None:
        self._stall_after, self._quiet_for, self._decide = stall_after, quiet_for, common.decide
        self._seconds = 0.0
        self._looker = OnDemand(common.workers, self._look_closer, failed=common.failed)

    def heard(self) -> None:
        self._seconds = 0.0

    def look(self, awake: float) -> None:
        if self._stall_after is not None:
            self._seconds += awake
            if self._seconds >= self._stall_after:
                self._looker.wake()

    async def _look_closer(self) -> None:
        # The host knows: its clock saw what we may have slept through.
        assert self._stall_after is not None
        before = self._seconds
        try:
            quiet = await self._quiet_for()
        except (OptioAgentsError, ValueError):
            quiet = 0.0  # the way to the host is another watcher's concern
        if self._seconds < before:
            return  # something was heard meanwhile
        self._seconds = quiet
        if quiet >= self._stall_after:
            self._decide(Stalled(quiet))


_UNTERMINATED = 5.0  # seconds
_OTHER_LOG = (20.0, 120.0)  # seconds without a single line, after which we look for another log


class Hints:
    """Tells the agent, once each, of the mistakes that are easy to make and hard to see."""

    def __init__(
        self,
        channel: Channel,
        find_other_log: Callable[[], Awaitable[str]],
        common: Common,
    ) -> None:
        self._channel, self._find_other_log = channel, find_other_log
        self._active = channel.kind != "none"
        self._sayer = OnDemand(common.workers, self._say, failed=common.failed)
        self._finder = OnDemand(common.workers, self._find, failed=common.failed)
        self._given: set[str] = set()
        self._to_say: list[tuple[str, str]] = []
        self._silent_for = 0.0
        self._looks = list(_OTHER_LOG)

    def read(self, line: str) -> None:
        """A line that was no entry."""
        if self._active and "near-miss" not in self._given and (word := near_miss(line)):
            self._give(
                "near-miss",
                f"your line {visible(line, limit=80)!r} was taken as narration. An entry starts, "
                f"at the first character of its line and in capitals, with `{word}`.",
            )

    def look(self, awake: float, batches: Batches | None, lines: int) -> None:
        """Called now and then, with what was read so far."""
        if not self._active or batches is None:
            return
        if "newline" not in self._given and _stands(batches):
            self._give(
                "newline",
                "the last line of optio.log has no newline at its end; until it has one, it is "
                "not read.",
            )
        self._silent_for = 0.0 if lines else self._silent_for + awake
        if self._looks and self._silent_for >= self._looks[0]:
            self._looks.pop(0)
            self._finder.wake()

    def _give(self, name: str, text: str) -> None:
        self._given.add(name)
        self._to_say.append((f"hint-{name}", text))
        self._sayer.wake()

    async def _say(self) -> None:
        while self._to_say:
            await self._channel.reply(*self._to_say.pop(0))

    async def _find(self) -> None:
        try:
            found = await self._find_other_log()
        except OptioAgentsError:
            return
        if found and "other-log" not in self._given:
            self._give(
                "other-log",
                f"there is a log at {visible(found)}, which nobody reads. Write your entries to "
                "optio.log in the directory you were started in ($OPTIO_LOG, if set).",
            )


def _stands(batches: Batches) -> bool:
    since = batches.rest_since
    return (
        bool(batches.rest) and since is not None and (anyio.current_time() - since >= _UNTERMINATED)
    )


class Watch:
    """All that watches one session, on the shared pulse."""

    def __init__(
        self,
        cancellation: Cancellation,
        absence: Absence,
        silence: Silence,
        hints: Hints,
        *,
        waiting: Callable[[], bool],
    ) -> None:
        self._cancellation, self._absence = cancellation, absence
        self.silence, self.hints = silence, hints
        self._waiting = waiting  # the agent waits for us: that is no stall
        self.batches: Batches | None = None
        self.lines = 0

    def start(self) -> Callable[[], None]:
        """Begin; returns how to stop."""
        leaving = ExitStack()
        leaving.callback(shared_timer(SLOW).join(self._beat))
        if self._cancellation.must_be_asked:
            self._cancellation.look(0)
            leaving.callback(shared_timer(QUICK).join(self._cancellation.look))
        return leaving.close

    def _beat(self, awake: float) -> None:
        self._absence.look(awake)
        batches = self.batches
        if self._waiting() or self._absence.away:
            self.silence.heard()
        elif batches is not None and (batches.caught_up or not self.lines):
            self.silence.look(awake)
        if not self._absence.away:  # what it may be silent about, nobody can know then
            self.hints.look(awake, batches, self.lines)
