"""Messages to the agent, and those from it to the program that started the session."""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import anyio

from optio_agents.concurrency import OnDemand
from optio_agents.context import SYSTEM_MESSAGE_PREFIX
from optio_agents.display import visible_block
from optio_agents.errors import (
    EndSession,
    FileRefused,
    HostError,
    HostKeyRefused,
    InputClosed,
    NameTaken,
)
from optio_agents.hosts.retrying import retrying

from .foreign_code import ForeignExit, describe, describe_value

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from optio_agents.context import HookContext
    from optio_agents.protocol.events import CallerMessageEvent
    from optio_agents.store.records import Entry, Replies

    from .progress import Progress
    from .shared import Shared


_log = logging.getLogger(__name__)
_SENDING = 30.0  # seconds for one message to be taken

CALLER_MESSAGE_QUEUE_BOUND = 10_000  # messages that may wait; the next ones are counted and lost


class Channel:
    """One way to the agent, used by one message at a time; *kind* is what the result says."""

    def __init__(self, shared: Shared, progress: Progress) -> None:
        self._shared, self._progress = shared, progress
        self._one_at_a_time = anyio.Lock()
        options = shared.options
        self.kind: Replies = "none"
        self._say: Callable[[str, str], Awaitable[object]]
        if options.reply_sender is not None and not options.deaf:
            self.kind, self._say = "agent", options.reply_sender
        elif (agent := options.agent) is not None and not options.deaf:
            self.kind = "agent"
            self._say = lambda name, text: agent.say(f"{text}\n".encode(), name=name or None)
        elif (sender := options.agent_sender) is not None:
            self.kind, self._say = "sender", lambda _, text: sender(text)

    async def reply(self, name: str, text: str) -> bool | None:
        """Say it as the harness; whether it was taken, None where nobody takes anything.

        A journaled agent waits for it: a host without room, or out of reach, is tried again
        until it takes it.
        """
        if self.kind == "none":
            return None
        send = partial(self._send, name, SYSTEM_MESSAGE_PREFIX + text)
        machine = getattr(self._shared.host, "machine", None)
        try:
            if self.kind == "agent":
                await retrying(machine, send, passes=_passes)
            else:
                await send()
        except Exception as error:
            words = f"The agent did not take a message: {describe(error)}"
            self._progress.report(None, words)
            return False
        return True

    async def send(self, text: str) -> None:
        """Say *text* as it is, for `HookContext.send_to_agent`. Raises where it is not taken."""
        if self.kind == "none":
            raise ConnectionError("nobody takes messages")
        await self._send("", text)

    async def _send(self, name: str, text: str) -> None:
        say = partial(self._say, name, text)
        async with self._one_at_a_time:
            try:
                await self._shared.foreign.call("agent_sender", say, seconds=_SENDING)
            except NameTaken:  # by an earlier supervisor, who found other words for it
                return
            except InputClosed:  # an agent that has ended waits for no reply
                _log.info("the agent has ended: it was not told: %s", visible_block(text))
                raise
            except Exception as error:
                self._shared.note_trouble("agent_sender", error)
                _log.warning("the agent was not told: %s", visible_block(text))
                raise


def _passes(error: Exception) -> bool:
    """It may be over by the next time: a full disk, a lost link, no descriptor left."""
    final = HostKeyRefused | FileRefused  # the latter: there is no such session any more
    return isinstance(error, HostError | OSError) and not isinstance(error, final)


class CallerMessages:
    """Calls `on_caller_message` with one after the other; a string it returns is the reply."""

    def __init__(
        self, shared: Shared, hook: HookContext, channel: Channel, progress: Progress
    ) -> None:
        self._shared, self._hook = shared, hook
        self._channel, self._progress = channel, progress
        self._open: deque[tuple[Entry, CallerMessageEvent]] = deque()
        self._decided: dict[tuple[str, int, int], str] = {}
        self._worker = OnDemand(shared.workers, self._work, failed=shared.fail)

    @property
    def waiting(self) -> int:
        """Messages that had no turn yet."""
        return len(self._open)

    def remember(self, replies: tuple[tuple[Entry, str], ...]) -> None:
        """What an earlier supervisor decided to answer."""
        self._decided = {entry.key: reply for entry, reply in replies}

    def announce(self, entry: Entry, event: CallerMessageEvent) -> None:
        """Have *event* answered, when its turn comes."""
        nobody = self._shared.options.on_caller_message is None
        if nobody or len(self._open) >= CALLER_MESSAGE_QUEUE_BOUND:
            self._shared.troubles["caller messages ignored"] += 1
            self._progress.report(None, f"Message {event.keyword}: nobody takes it")
            self._shared.mark_done(entry)
            return
        self._open.append((entry, event))
        self._worker.wake()

    async def idle(self) -> None:
        """Return once every message so far had its turn."""
        await self._worker.idle()

    async def _work(self) -> None:
        while self._open:
            entry, event = self._open[0]
            reply = self._decided.get(entry.key)
            if reply is None and (reply := await self._ask(event)):
                await self._shared.journal.decide(entry, reply)
            if reply:
                await self._channel.reply(f"reply-{entry.name}", reply)
            self._open.popleft()
            self._shared.mark_done(entry)

    async def _ask(self, event: CallerMessageEvent) -> str | None:
        callback, name = self._shared.options.on_caller_message, "on_caller_message"
        assert callback is not None
        call = partial(callback, self._hook, event.keyword, event.data)
        seconds = self._shared.options.callback_timeout
        try:
            reply: object = await self._shared.foreign.call(name, call, seconds=seconds)
        except Exception as error:
            self._report_trouble(event, error)
            if isinstance(error, EndSession | ForeignExit):
                return None
            return f"message {event.keyword}: there was trouble on our side. Send it again later."
        if isinstance(reply, str):
            return reply
        if reply is not None:
            returned = f"it returned {describe_value(reply)}, not text or None"
            self._report_trouble(event, TypeError(returned))
        return None

    def _report_trouble(self, event: CallerMessageEvent, error: Exception) -> None:
        self._shared.note_trouble("on_caller_message", error)
        words = f"Message {event.keyword}: on_caller_message failed: {describe(error)}"
        self._progress.report(None, words)
