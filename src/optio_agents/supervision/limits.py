"""What a session may use: turns, money, time. At its limit it ends, unless it is done by then."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal, TypeAlias

import anyio

from optio_agents.concurrency import QUICK, every, task_group, uptime
from optio_agents.session.outcome import Ending

from .events import AgentRestarted, SessionBegan, TurnEnded, event_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from optio_agents.conversation.contract import TurnResult
    from optio_agents.store.records import SessionRecords


_COUNTED = ("began", "turn", "restart")
AtUsageLimit: TypeAlias = Literal["wait", "stop"]


class SessionMeter:
    """Counts what a session has used, since it was first started, whoever supervised it."""

    def __init__(
        self,
        *,
        max_usd: float | None = None,
        max_turns: int | None = None,
        max_time: float | None = None,
        at_limit: AtUsageLimit = "wait",
    ) -> None:
        self._max_usd, self._max_turns, self._max_time = max_usd, max_turns, max_time
        self._stops = at_limit == "stop"
        self._from, self._spent = uptime(), 0.0  # what was spent before then
        self._summed, self._total = 0.0, 0.0  # of what turns cost; as the agent itself has it
        self.turns = 0
        self.reached = anyio.Event()
        self.words = ""  # which limit that was

    @property
    def usd(self) -> float:
        """What all its turns have cost, as far as anybody knows."""
        return max(self._summed, self._total)

    @property
    def _elapsed(self) -> float:
        """Seconds since it began; a clock that is set meanwhile changes nothing."""
        return self._spent + uptime() - self._from

    async def recall(self, records: SessionRecords) -> int:
        """Count what earlier supervisors have recorded; how often they have restarted it."""
        after = restarts = 0
        began = now = time.time()
        while rows := await records.events(after):
            for row in rows:
                after = row.number
                match event_of(row) if row.kind in _COUNTED else None:
                    case SessionBegan(at=at):
                        began = min(began, at)
                    case TurnEnded(turn):
                        self.add(turn)
                    case AgentRestarted(count):
                        restarts = count
        self._from, self._spent = uptime(), now - began
        self._check()
        return restarts

    def add(self, turn: TurnResult) -> None:
        """One more turn has ended."""
        self.turns += 1
        self._summed += turn.cost or 0.0
        total = (turn.raw or {}).get("total_cost_usd")  # claude's, with all that came before
        if isinstance(total, int | float):
            self._total = max(self._total, total)
        self._check()

    def meet_limit(self, words: str) -> bool:
        """The agent's account may use no more for now; whether the session ends with that."""
        if self._stops:
            self._reach(f"the agent is at its {words}")
        return self._stops

    def _check(self, _: float = 0.0) -> None:
        if self._max_usd is not None and self.usd >= self._max_usd:
            self._reach(f"it has cost ${self.usd:.2f}, and may cost ${self._max_usd:.2f}")
        elif self._max_turns is not None and self.turns >= self._max_turns:
            turns = "1 turn" if self.turns == 1 else f"{self.turns} turns"
            self._reach(f"it has ended {turns} without DONE, as many as it may")
        elif self._max_time is not None and self._elapsed >= self._max_time:
            self._reach(f"it has not been done within {self._max_time:g} s")

    def _reach(self, words: str) -> None:
        if not self.reached.is_set():
            self.words = words
            self.reached.set()

    async def within(self, body: Callable[[], Awaitable[object]]) -> object:
        """What *body* gives; an ending where a limit is reached before."""
        result: object = None
        with ExitStack() as stack:
            if self._max_time is not None:  # the others are reached when a turn ends
                stack.callback(every(QUICK, self._check))
            async with task_group() as tasks:

                async def give_up() -> None:
                    await self.reached.wait()
                    tasks.cancel_scope.cancel()

                tasks.start_soon(give_up)
                result = await body()
                tasks.cancel_scope.cancel()
        return Ending("over limit", self.words) if result is None and self.words else result
