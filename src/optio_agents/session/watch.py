"""What a session notices without being told: cancellation, a lost host, silence, small mistakes."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import anyio

from optio_agents.concurrency import QUICK, SLOW, OnDemand, every
from optio_agents.display import visible
from optio_agents.errors import OptioAgentsError
from optio_agents.protocol.parser import near_miss

from .foreign_code import LoopCall
from .outcome import Cancelled, Stalled, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from optio_agents.context import ProcessContext
    from optio_agents.framing.batches import Batches

    from .deliverables import Deliverables
    from .messages import CallerMessages, Channel
    from .shared import Shared


class Cancellation:
    """Notices that the context wants the session to end: at once where it offers an event."""

    def __init__(self, context: ProcessContext, shared: Shared) -> None:
        self._should_continue = LoopCall("should_continue", context.should_continue)
        self._shared = shared
        flag = getattr(context, "cancellation_flag", None)
        self.must_be_asked = not isinstance(flag, asyncio.Event)
        if isinstance(flag, asyncio.Event):
            shared.workers.start_soon(self._wait, flag)

    def ask(self, _: float = 0.0) -> None:
        if time.monotonic() < self._should_continue.rests_until:
            return
        try:
            if not self._should_continue():
                self._shared.decision.decide(Cancelled())
        except Exception as error:
            self._shared.note_trouble("should_continue", error)

    async def _wait(self, flag: asyncio.Event) -> None:
        await flag.wait()
        self._shared.decision.decide(Cancelled())


class Absence:
    """Counts how long the host has been away, while we were awake to miss it."""

    def __init__(self, shared: Shared) -> None:
        self._shared, self._seconds = shared, 0.0

    @property
    def away(self) -> bool:
        link = self._shared.link
        return link is not None and link.state not in ("up", "new")

    def check(self, awake: float) -> None:
        self._seconds = self._seconds + awake if self.away else 0.0
        lost_after = self._shared.options.lost_after
        if lost_after is not None and self._seconds >= lost_after:
            link = self._shared.link
            assert link is not None
            reason = link.reason or f"the link is {link.state}"
            self._shared.decision.decide(Unreachable(reason))


class Silence:
    """Notices that nothing comes of the agent, whatever is silent: log, output, deliverables."""

    def __init__(self, shared: Shared) -> None:
        self._shared, self.seconds = shared, 0.0  # since something came, while we were awake
        self._asker = OnDemand(shared.workers, self._ask_host, failed=shared.fail)

    def check(self, awake: float) -> None:
        stall_after = self._shared.options.stall_after
        if stall_after is not None:
            self.seconds += awake
            if self.seconds >= stall_after:
                self._asker.wake()

    async def _ask_host(self) -> None:
        # The host knows: its clock saw what we may have slept through.
        options, before = self._shared.options, self.seconds
        try:
            answer = await self._shared.host.ask("hosts/quiet.sh", self._shared.workplace.workdir)
            quiet = float(answer.stdout)
            if options.agent is not None:
                quiet = min(quiet, (await options.agent.status()).quiet_for)
        except (OptioAgentsError, ValueError):
            quiet = 0.0  # the way to the host is another watcher's concern
        if self.seconds < before:
            return  # something came meanwhile
        self.seconds = quiet
        assert options.stall_after is not None
        if quiet >= options.stall_after:
            self._shared.decision.decide(Stalled(quiet))


_UNTERMINATED = 5.0  # seconds
_OTHER_LOG = (20.0, 120.0)  # seconds without a single line, after which we look for another log


class Hints:
    """Tells the agent, once each, of the mistakes that are easy to make and hard to see."""

    def __init__(self, shared: Shared, channel: Channel) -> None:
        self._shared, self._channel = shared, channel
        self._active = channel.kind != "none"
        self._sender = OnDemand(shared.workers, self._send, failed=shared.fail)
        self._finder = OnDemand(shared.workers, self._find_other_log, failed=shared.fail)
        self._given: set[str] = set()
        self._to_send: list[tuple[str, str]] = []
        self._silent_for = 0.0
        self._searches = list(_OTHER_LOG)

    def read(self, line: str) -> None:
        """Read a line that was no entry."""
        if self._active and "near-miss" not in self._given and (word := near_miss(line)):
            self._give(
                "near-miss",
                f"your line {visible(line, limit=80)!r} was taken as narration. An entry starts, "
                f"at the first character of its line and in capitals, with `{word}`.",
            )

    def check(self, awake: float, batches: Batches | None, lines: int) -> None:
        """Called now and then, with what was read so far."""
        if not self._active or batches is None:
            return
        since = batches.rest_since
        if (
            "newline" not in self._given
            and batches.rest
            and since is not None
            and anyio.current_time() - since >= _UNTERMINATED
        ):
            self._give(
                "newline",
                "the last line of optio.log has no newline at its end; until it has one, it is "
                "not read.",
            )
        self._silent_for = 0.0 if lines else self._silent_for + awake
        if self._searches and self._silent_for >= self._searches[0]:
            self._searches.pop(0)
            self._finder.wake()

    def _give(self, name: str, text: str) -> None:
        self._given.add(name)
        self._to_send.append((f"hint-{name}", text))
        self._sender.wake()

    async def _send(self) -> None:
        while self._to_send:
            await self._channel.reply(*self._to_send.pop(0))

    async def _find_other_log(self) -> None:
        host, workdir = self._shared.host, self._shared.workplace.workdir
        try:
            answer = await host.ask("hosts/other-log.sh", workdir)
        except OptioAgentsError:
            return
        found = answer.stdout.decode(errors="replace").strip()
        if found and "other-log" not in self._given:
            self._give(
                "other-log",
                f"there is a log at {visible(found)}, which nobody reads. Write your entries to "
                "optio.log in the directory you were started in ($OPTIO_LOG, if set).",
            )


class Watch:
    """All that watches one run, on timers that all runs of the loop share."""

    def __init__(
        self,
        shared: Shared,
        context: ProcessContext,
        deliverables: Deliverables,
        callers: CallerMessages,
        hints: Hints,
    ) -> None:
        self._shared, self._deliverables, self._callers = shared, deliverables, callers
        self._cancellation = Cancellation(context, shared)
        self._absence, self._silence, self._hints = Absence(shared), Silence(shared), hints
        self.batches: Batches | None = None  # while the log is read
        self._lines = 0

    def start(self) -> Callable[[], None]:
        """Begin; returns how to stop."""
        stopping = ExitStack()
        stopping.callback(every(SLOW, self._check))
        if self._cancellation.must_be_asked:
            self._cancellation.ask()
            stopping.callback(every(QUICK, self._cancellation.ask))
        return stopping.close

    def note_lines(self, count: int) -> None:
        """The log was read up to this many lines."""
        self._lines = count
        self._silence.seconds = 0.0

    def _check(self, awake: float) -> None:
        self._absence.check(awake)
        batches = self.batches
        waits_for_us = (
            self._deliverables.waiting or self._callers.waiting or self._shared.options.busy()
        )
        if waits_for_us or self._absence.away:
            self._silence.seconds = 0.0
        elif batches is not None and (batches.caught_up or not self._lines):
            self._silence.check(awake)
        if not self._absence.away:  # what it may be silent about, nobody can know then
            self._hints.check(awake, batches, self._lines)
