"""One turn at work: what its participant says becomes its replies, and how it ends its outcome.

A participant that runs again from its top says again what it has said: what is there already is
passed over.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from .errors import LimitReached, Lost
from .messages import Message, plain
from .observing.telemetry import NOTHING
from .stores import OVER
from .turn import APPROVER, Draft, Suspend, Turn, error_of

if TYPE_CHECKING:
    from .context import TurnContext
    from .observing.hooks import Hooks
    from .turn import Worker


_SEVERAL, _LIVE = (list, tuple), (Turn, Draft)  # unions made at each reply take longer to look at


@dataclass(frozen=True, slots=True)
class Worked:
    """How it ended, and why if not well; or until when it sleeps."""

    status: str
    error: dict[str, Any] | None = None
    cause: BaseException | None = None
    pause: Suspend | None = None


async def work_on(kernel: Worker, context: TurnContext) -> Worked:
    """Run the participant on its turn, until it has said all, fails, or sleeps for long."""
    turn = context.turn
    participant = kernel.participants[turn.name]
    end = end_of(turn, participant.grace)
    bound = None if participant.ends_in_time else end
    if bound is not None and bound <= time.time():  # it slept so long
        return Worked(*_failed(turn, TimeoutError(), bound))
    try:
        with kernel.tracing.turn(turn):
            async with NOTHING if bound is None else asyncio.timeout(bound - time.time()):
                await _answer(kernel, context)
    except (Suspend, BaseExceptionGroup) as raised:
        pause = _pause_in(raised)
        if pause is not None:
            await context.settle(stop=False)  # who sleeps may write no more
            return Worked("sleeping", pause=pause)
        if not isinstance(raised, Exception):
            raise
        return Worked("failed", error_of(raised), raised)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and not task.cancelling():  # something of its own was cancelled
            return Worked("failed", error_of(error), error)
        rows = await asyncio.shield(kernel.store.look(id=turn.id))
        if not rows or rows[0].state not in OVER:
            raise
        raise Lost("cancelled", turn=turn.id) from None
    except (Lost, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # whatever a function raises, its turn is over
        return Worked(*_failed(turn, error, end), error)
    finally:
        await context.settle(stop=True)
    return Worked("completed")


async def _answer(kernel: Worker, context: TurnContext) -> None:
    turn, done = context.turn, 0
    if context.claim.epoch > 1 and "children" in turn.row.options.get("limits", ()):
        family = await kernel.store.look(root=turn.row.root)
        ours = [row for row in family if row.parent == turn.id and row.name != APPROVER]
        context.born.update(row.id for row in ours)
    if "late" in turn.row.options:
        await context.settle_message()
    answer = kernel.participants[turn.name].answer(context)
    if isinstance(answer, AsyncIterable):
        closing = aclosing(answer) if isinstance(answer, AsyncGenerator) else NOTHING
        async with closing:
            async for reply in answer:
                done = await _reply(kernel, context, reply, done, yielded=True)
    else:
        reply = await answer if isawaitable(answer) else answer
        done = await _reply(kernel, context, reply, done)
    for piece in turn.pieces.items:
        if isinstance(piece, Turn):
            await piece  # its failure is ours


async def _reply(
    kernel: Worker, context: TurnContext, reply: Any, done: int, *, yielded: bool = False
) -> int:
    """Add what was returned or yielded, unless an earlier run did."""
    turn = context.turn
    if isinstance(reply, _SEVERAL):
        for one in reply:
            done = await _reply(kernel, context, one, done, yielded=True)
        return done
    if reply is None and not yielded:
        return done
    if done >= len(turn.pieces.items):
        if not isinstance(reply, _LIVE):
            reply = _message(turn, reply)
            if kernel.hooks:
                reply = await kernel.hooks.change("value", turn, reply)
        turn.add(reply)
    return done + 1


def _message(turn: Turn, reply: Any) -> Message:
    sender, to = turn.row.name, turn.message.sender
    if isinstance(reply, str):
        return Message(reply, "return", sender, to, turn=turn.row.id)
    if isinstance(reply, Message):
        return reply.but(
            kind="return", sender=reply.sender or sender, to=reply.to or to, turn=turn.row.id
        )
    value = plain(reply)
    text = "" if reply is None else json.dumps(value, ensure_ascii=False)
    return Message(text, "return", sender, to, value, turn=turn.row.id)


async def hook_end(
    hooks: Hooks,
    turn: Turn,
    status: str,
    messages: Sequence[Message],
    error: dict[str, Any] | None,
) -> Sequence[Message]:
    """Call the hooks that stand at the end of a turn; its messages, as they leave them."""
    if status == "timeout":
        await hooks.run("timeout", turn, error)
    if error is not None:
        await hooks.run("error", turn, error)
    if status == "completed":
        changed = await hooks.run("after_turn", turn, messages)
        if changed is not None:
            one = changed if isinstance(changed, list | tuple) else [changed]
            messages = [as_message(m, _message(turn, "")) for m in one]
    for message in messages:
        await hooks.run("message", turn, message)
    return messages


def end_of(turn: Turn, grace: float = 0.0) -> float | None:
    """When it has to be over, whether by its own bound or by that of its tree, and *grace*."""
    options = turn.row.options
    ends = [options["deadline"] + grace] if "deadline" in options else []
    if "timeout" in options:
        ends.append((turn.row.started or time.time()) + options["timeout"])
    return min(ends) if ends else None


def _failed(turn: Turn, error: BaseException, end: float | None) -> tuple[str, dict[str, Any]]:
    """How a turn ended that raised, which had until *end*."""
    options = turn.row.options
    if isinstance(error, LimitReached):
        return "limit", {"kind": error.limit, "text": str(error)}
    if not isinstance(error, TimeoutError) or end is None or time.time() < end:
        return "failed", error_of(error)
    if options.get("deadline", float("inf")) <= time.time():
        seconds = options.get("limits", {}).get("seconds")
        text = f"{turn.name} (turn {turn.id}) reached the limit seconds: {seconds}"
        return "limit", {"kind": "seconds", "text": text}
    text = f"no answer within {options.get('timeout')} seconds"
    return "timeout", {"kind": "TimeoutError", "text": text}


def _pause_in(raised: BaseException) -> Suspend | None:
    """The wish to sleep in *raised*, unless something else went wrong beside it."""
    while isinstance(raised, BaseExceptionGroup) and raised.split(Suspend)[1] is None:
        raised = raised.exceptions[0]
    return raised if isinstance(raised, Suspend) else None


def as_message(value: Any, like: Message) -> Message:
    return value if isinstance(value, Message) else like.but(text=str(value))
