"""What was said and waits for an answer, and what the agent last said of itself.

Messages wait for the turn that answers them, requests of ours for their acknowledgement. A message
that may or may not have been sent is awaited once the agent is seen to have it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from optio_agents.errors import AgentError

from .contract import CloseReason, ConversationClosed, TurnResult, Unconfirmed
from .dialect import ControlAnswered, Limit, LimitChanged, MessageRead, TurnOver
from .wire import ProcessEnd

T = TypeVar("T")


class ControlRefused(AgentError):
    """The agent did not do what it was asked; the message is its own."""


class AgentUnusable(AgentError):
    """The agent lives and cannot be talked to: it wants a login, or would not ask."""


@dataclass(slots=True)
class _Message:
    """One of ours that no turn has answered yet."""

    text: str
    confirmed: bool = False
    sure: bool = True  # that it is in the agent's input


class Exchange:
    """Feed it what is sent and the facts about it."""

    def __init__(self) -> None:
        self._messages = dict[str, _Message]()  # by uuid, in order
        self._answers = dict[str, asyncio.Future[TurnResult]]()  # of who asks, by uuid
        self._controls = dict[str, asyncio.Future[Mapping[str, Any]]]()  # by request id
        self._sent = set[str]()  # every uuid, also of what was answered long ago
        self.limit: Limit | None = None
        self.turns = 0  # that have ended
        self.last_turn: TurnResult | None = None

    @property
    def pending(self) -> bool:
        """Something that was sent has yet to be answered."""
        return any(one.sure for one in self._messages.values())

    @property
    def unconfirmed(self) -> tuple[Unconfirmed, ...]:
        messages = self._messages.items()
        return tuple(Unconfirmed(uuid, one.text) for uuid, one in messages if not one.confirmed)

    def was_sent(self, uuid: str) -> bool:
        """For sure; by an earlier owner, too."""
        return uuid in self._sent

    def send(self, uuid: str, text: str) -> None:
        self._sent.add(uuid)
        self._messages[uuid] = _Message(text)

    def doubt(self, uuid: str) -> None:
        """Nobody knows whether it was sent."""
        if (message := self._messages.get(uuid)) is not None:
            message.sure = message.confirmed
            if not message.sure:
                self._sent.discard(uuid)

    def forget(self, uuid: str) -> None:
        """It was not sent after all."""
        self._messages.pop(uuid, None)
        self._sent.discard(uuid)

    def awaiting_turn(self, uuid: str) -> Awaiting[TurnResult]:
        """The turn that answers *uuid*, for as long as the block lasts."""
        return _awaiting(self._answers, uuid)

    def awaiting_control(self, request_id: str) -> Awaiting[Mapping[str, Any]]:
        """The answer to a request of ours, likewise."""
        return _awaiting(self._controls, request_id)

    def feed(self, fact: MessageRead | TurnOver | ControlAnswered | LimitChanged) -> None:
        match fact:
            case MessageRead(uuid):
                self._sent.add(uuid)
                if (message := self._messages.get(uuid)) is not None:
                    message.confirmed = message.sure = True
                    message.text = ""  # nobody needs it any more
            case TurnOver(turn, answered):
                if turn.raw is not None:  # else it is about messages that never had one
                    self.turns += 1
                    self.last_turn = turn
                for uuid in answered:
                    self._sent.add(uuid)
                    self._messages.pop(uuid, None)
                    _settle(self._answers.get(uuid), turn)
            case ControlAnswered(request_id, value, None):
                _settle(self._controls.get(request_id), value)
            case ControlAnswered(request_id, _, str(refused)):
                _settle(self._controls.get(request_id), ControlRefused(refused))
            case LimitChanged(limit):
                self.limit = limit

    def end(self, error: ConversationClosed) -> None:
        """Nothing will be answered any more."""
        for answer in self._answers.values():
            _settle(answer, error)
        for control in self._controls.values():
            _settle(control, error)


Awaiting: TypeAlias = AbstractContextManager[asyncio.Future[T]]


@contextmanager
def _awaiting(waiting: dict[str, asyncio.Future[T]], key: str) -> Iterator[asyncio.Future[T]]:
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    waiting[key] = future
    try:
        yield future
    finally:
        del waiting[key]
        if future.done() and not future.cancelled():
            future.exception()  # nobody may have waited for it


def _settle(future: asyncio.Future[T] | None, value: T | Exception) -> None:
    if future is None or future.done():
        return
    if isinstance(value, Exception):
        future.set_exception(value)
    else:
        future.set_result(value)


def has_failed(future: asyncio.Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is not None


def lost_turn(*, asked: bool) -> TurnResult:
    """What the end of the process means for what it had yet to answer; *asked*: we ended it."""
    evidence = "its process ended without the end of the turn"
    if asked:
        return TurnResult(outcome="cancelled", failure="closed meanwhile", evidence=evidence)
    return TurnResult(outcome="lost", failure=evidence, evidence=evidence)


def how_closed(
    label: str,
    end: ProcessEnd | None,
    failed: object,
    last_turn: TurnResult | None,
    *,
    asked: bool,
) -> CloseReason:
    """Why a conversation came to its end, in one sentence.

    Without *end* the agent is not read any further, as *failed* says, and may go on.
    """
    last = last_turn.raw if last_turn is not None else None
    if end is None:
        how = f"{label} was closed" if asked else f"{label} is not listened to any more"
        return CloseReason(f"{how}: {failed}" if failed else how, asked, last_result=last)
    match end.how:
        case "exited" if end.signal:
            how = f"{label} was ended by SIG{end.signal}"
        case "exited" if end.exit_code is not None:
            how = f"{label} exited with {end.exit_code}"
        case "lost":
            how = f"{label} is gone, and nobody knows how it ended"
        case "rebooted":
            how = f"{label} is gone: its host was restarted"
        case _:
            how = f"{label} has ended"
    unexplained = end.exit_code and not (asked or end.signal)
    if unexplained and last_turn is not None and last_turn.failure:
        how = f"{how}; its last turn failed: {last_turn.failure}"
    return CloseReason(how, asked, end.exit_code, end.signal, end.stderr, last)
