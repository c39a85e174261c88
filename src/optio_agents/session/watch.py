"""What a session notices without being told: cancellation, a lost host, silence, small mistakes."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.concurrency import QUICK, SLOW, OnDemand, every
from optio_agents.display import visible
from optio_agents.errors import OptioAgentsError
from optio_agents.protocol.parser import near_miss

from .foreign_code import LoopCall
from .outcome import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optio_agents.context import ProcessContext
    from optio_agents.framing.batches import Batches

    from .messages import Answers, Channel
    from .progress import Progress
    from .shared import Shared


_log = logging.getLogger(__name__)
_ASKING = 5.0  # seconds for a look at the host that can be done without
_STOPPED = Ending("cancelled", "the context said to stop")


class Watch:
    """All that watches one run, on timers that all runs of the loop share.

    They count only time in which we were awake: what we slept through, nobody has missed.
    """

    def __init__(
        self,
        shared: Shared,
        context: ProcessContext,
        hints: Hints,
        owed: Sequence[Answers[Any]],
    ) -> None:
        self._shared, self._hints, self._owed = shared, hints, owed
        self._flag = getattr(context, "cancellation_flag", None)
        self._should_continue = LoopCall("should_continue", context.should_continue)
        self._asker = OnDemand(shared.workers, self._ask_for_silence, failed=shared.fail)
        self._away_for = 0.0  # seconds that the host is out of reach
        self._silent_for = 0.0  # seconds that nothing has come of the agent
        self.batches: Batches | None = None  # while the log is read
        self._lines = 0

    def start(self) -> Callable[[], None]:
        """Begin; returns how to stop."""
        stopping = ExitStack()
        stopping.callback(every(SLOW, self._check))
        if isinstance(self._flag, asyncio.Event):
            self._shared.workers.start_soon(self._wait_for, self._flag)
        else:
            self._ask_context()
            stopping.callback(every(QUICK, self._ask_context))
        return stopping.close

    def note_lines(self, count: int) -> None:
        """The log was read up to this many lines."""
        self._lines = count
        self._silent_for = 0.0

    async def _wait_for(self, flag: asyncio.Event) -> None:
        await flag.wait()
        self._shared.decision.decide(_STOPPED)

    def _ask_context(self, _: float = 0.0) -> None:
        if time.monotonic() < self._should_continue.rests_until:
            return
        try:
            if not self._should_continue():
                self._shared.decision.decide(_STOPPED)
        except Exception as error:
            self._shared.note_trouble("should_continue", error)

    def _check(self, awake: float) -> None:
        options, link, batches = self._shared.options, self._shared.machine.link, self.batches
        away = link.state not in ("up", "new")
        self._away_for = self._away_for + awake if away else 0.0
        if options.lost_after is not None and self._away_for >= options.lost_after:
            reason = link.reason or f"the link is {link.state}"
            self._shared.decision.decide(Ending("unreachable", reason))
        if away or any(one.waiting for one in self._owed) or options.busy():
            self._silent_for = 0.0
        elif batches is not None and (batches.caught_up or not self._lines):
            self._silent_for += awake
            if options.stall_after is not None and self._silent_for >= options.stall_after:
                self._asker.wake()
        if not away:  # what it may be silent about, nobody can know then
            self._hints.check(awake, batches, self._lines)

    async def _ask_for_silence(self) -> None:
        """Whatever is silent: log, output, deliverables. The host knows: its clock never slept."""
        options, before = self._shared.options, self._silent_for
        try:
            answer = await self._shared.host.ask("hosts/quiet.sh", self._shared.workplace.logdir)
            quiet = float(answer.stdout)
            if options.agent is not None:
                quiet = min(quiet, (await options.agent.status()).quiet_for)
        except (OptioAgentsError, ValueError):
            quiet = 0.0  # the way to the host is another watcher's concern
        if self._silent_for < before:
            return  # something came meanwhile
        self._silent_for = quiet
        assert options.stall_after is not None
        if quiet >= options.stall_after:
            words = f"nothing was heard of the agent for {quiet:.0f} s"
            self._shared.decision.decide(Ending("stalled", words))


_UNTERMINATED = 5.0  # seconds
_OTHER_LOG = (20.0, 120.0)  # seconds without a single line, after which we look for another log


class Hints:
    """Tells the agent, once each, of the mistakes that are easy to make and hard to see."""

    def __init__(self, shared: Shared, channel: Channel, progress: Progress) -> None:
        self._shared, self._channel, self._progress = shared, channel, progress
        self._active = channel.kind != "none"
        self._sender = OnDemand(shared.workers, self._send, failed=shared.fail)
        self._finder = OnDemand(shared.workers, self._hint_at_other_log, failed=shared.fail)
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
        if batches is None:
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
        if not self._active:
            return
        self._to_send.append((f"hint-{name}", text))
        self._sender.wake()

    async def _send(self) -> None:
        while self._to_send:
            await self._channel.reply(*self._to_send.pop(0))

    async def watch_other_log(self) -> None:
        """Notice at once what the agent writes to the log that a pasted prompt speaks of."""
        place = self._shared.workplace
        if not place.apart:
            return
        try:
            async with self._shared.host.follow(f"{place.workdir}/optio.log") as batches:
                async for _ in batches:
                    await self._hint_at_other_log()  # it may be old, or of another session
                    if "other-log" in self._given:
                        return
        except OptioAgentsError:
            _log.debug("%s/optio.log cannot be watched", place.workdir, exc_info=True)

    async def find_other_log(self) -> str:
        """Where else the agent may have written its entries, if it did."""
        host, place = self._shared.host, self._shared.workplace
        taskdir = getattr(host, "taskdir", "")
        try:
            with anyio.move_on_after(_ASKING):
                args = place.workdir, place.logdir, taskdir
                answer = await host.ask("hosts/other-log.sh", *args)
                found = answer.stdout.decode(errors="replace").strip().removeprefix("./")
                return visible(f"{place.workdir}/{found}") if found else ""
        except OptioAgentsError:
            _log.debug("nobody knows of another log", exc_info=True)
        return ""

    async def _hint_at_other_log(self) -> None:
        found = await self.find_other_log()
        if not found or "other-log" in self._given:
            return
        log = visible(self._shared.workplace.log)
        self._progress.notice(f"the agent writes to {found}, which nobody reads; its log is {log}")
        self._give(
            "other-log",
            f"there are entries in {found}, which nobody reads. Write yours to {log}, those that "
            "count once more.",
        )
