"""How a conversation stands, by all that its CLI has said: turns, answers, limits, cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from optio_agents.conversation.contract import ConversationClosed, Event, Unconfirmed

from .models import Init, RateLimit, TurnResult, Usage
from .turns import TurnEnd, TurnLedger

# Whether the model's API turns the CLI away at present, as far as it says. Pure.


@dataclass(frozen=True, slots=True)
class Limited:
    """Calls wait: until then (s since the epoch, None where nobody said), for this reason."""

    until: float | None
    reason: str


class Limits:
    """Feed it every event with the time it was read at; `now` says how things stand."""

    TYPES = frozenset({"rate_limit_event", "system", "assistant", "result"})

    __slots__ = ("now", "told")

    def __init__(self) -> None:
        self.now: Limited | None = None
        self.told: Event | None = None  # the account's limits

    def feed(self, event: Event, time: float) -> None:
        match event:
            case {"type": "rate_limit_event", "rate_limit_info": dict(info)}:
                self.told = info
                rejected = info.get("status") == "rejected"
                self.now = (
                    Limited(_number(info.get("resetsAt")), "usage limit") if rejected else None
                )
            case {"type": "system", "subtype": "api_retry", "error_status": 429}:
                delay = _number(event.get("retry_delay_ms"))
                until = None if delay is None else time + delay / 1000
                self.now = Limited(until, str(event.get("error") or "rate limit"))
            case {"type": "assistant" | "result"}:
                self.now = None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


class Standing:
    """Feed it every event of its `TYPES`."""

    TYPES = TurnLedger.TYPES | Limits.TYPES

    def __init__(
        self, *, said: Sequence[Unconfirmed] = (), resumed: bool = False, echoes: bool = False
    ) -> None:
        self.turns = TurnLedger(named=echoes)
        for message in said:
            self.turns.send(message.uuid, message.text)
        self.limits = Limits()
        self.usage = Usage()
        self._init: Event | None = None
        self._cost = None if resumed else 0.0  # before the turn that runs; None: nobody knows
        self._answers = dict[str, asyncio.Future[TurnResult]]()

    @property
    def init(self) -> Init | None:
        return Init.model_validate(self._init) if self._init else None

    @property
    def rate_limit(self) -> RateLimit | None:
        return RateLimit.model_validate(self.limits.told) if self.limits.told else None

    @contextmanager
    def awaiting(self, uuid: str) -> Iterator[asyncio.Future[TurnResult]]:
        """The result of the turn that answers *uuid*, for as long as the block lasts."""
        answer: asyncio.Future[TurnResult] = asyncio.get_running_loop().create_future()
        self._answers[uuid] = answer
        try:
            yield answer
        finally:
            del self._answers[uuid]

    def feed(self, event: Event) -> TurnResult | None:
        """The result, if a turn has ended with it."""
        self.limits.feed(event, time.time())
        if event.get("subtype") == "init":
            self._init = event
        turn = self.turns.feed(event)
        return self._ended(turn) if turn is not None else None

    def end(self, error: ConversationClosed) -> None:
        """Nothing will be answered any more."""
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(error)

    def _ended(self, turn: TurnEnd) -> TurnResult | None:
        if turn.result is None:
            for uuid in turn.answered:
                self._resolve(uuid, TurnResult.dropped(uuid))
            return None
        cost = self._cost_of(turn.result)
        result = TurnResult.of(turn.result, answered=turn.answered, cost_usd=cost)
        self.usage = self.usage.plus(result)
        for uuid in turn.answered:
            self._resolve(uuid, result)
        return result

    def _cost_of(self, result: Event) -> float | None:
        total = result.get("total_cost_usd")
        if not isinstance(total, int | float):
            return None
        before, self._cost = self._cost, float(total)
        return None if before is None else max(0.0, total - before)

    def _resolve(self, uuid: str, result: TurnResult) -> None:
        answer = self._answers.get(uuid)
        if answer is not None and not answer.done():
            answer.set_result(result)
