"""Messages from the agent to the program that started the session, answered in order."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from optio_agents.errors import EndSession

from .on_demand import OnDemand

if TYPE_CHECKING:
    from optio_agents.context import HookContext
    from optio_agents.protocol.events import CallerMessageEvent

    from .common import Common
    from .journal import Entry
    from .replies import Channel

_log = logging.getLogger(__name__)

CALLER_MESSAGE_QUEUE_BOUND = 10_000  # messages that may wait; the next ones are counted and lost

CallerMessageCallback: TypeAlias = "Callable[[HookContext, str, object], Awaitable[str | None]]"


class CallerMessages:
    """Calls *callback* with one message after the other; a string it returns is the reply."""

    def __init__(
        self,
        hook: HookContext,
        callback: CallerMessageCallback | None,
        *,
        seconds: float,
        channel: Channel,
        common: Common,
    ) -> None:
        self._hook, self._callback, self._seconds = hook, callback, seconds
        self._channel, self._common = channel, common
        self._waiting: deque[tuple[Entry, CallerMessageEvent]] = deque()
        self._decided: dict[tuple[str, int, int], str] = {}
        self._worker = OnDemand(common.workers, self._work, failed=common.failed)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def remember(self, replies: tuple[tuple[Entry, str], ...]) -> None:
        """What an earlier supervisor decided to answer."""
        self._decided = {entry.key: reply for entry, reply in replies}

    def announce(self, entry: Entry, event: CallerMessageEvent) -> None:
        """Have *event* answered, when its turn comes."""
        if self._callback is None or len(self._waiting) >= CALLER_MESSAGE_QUEUE_BOUND:
            self._common.troubles["caller messages ignored"] += 1
            self._common.done(entry)
            return
        self._waiting.append((entry, event))
        self._worker.wake()

    async def idle(self) -> None:
        await self._worker.idle()

    async def _work(self) -> None:
        while self._waiting:
            entry, event = self._waiting[0]
            reply = self._decided.get(entry.key)
            if reply is None and (reply := await self._asked(event)):
                await self._common.journal.decide(entry, reply)
            if reply:
                await self._channel.reply(f"reply-{entry.name}", reply)
            self._waiting.popleft()
            self._common.done(entry)

    async def _asked(self, event: CallerMessageEvent) -> str | None:
        assert self._callback is not None
        call = partial(self._callback, self._hook, event.keyword, event.data)
        try:
            reply = await self._common.guests.call("on_caller_message", call, seconds=self._seconds)
        except EndSession as end:
            self._common.failed(end)
            return None
        except Exception as error:
            self._common.troubles["on_caller_message"] += 1
            _log.warning("on_caller_message raised", exc_info=error)
            return f"message {event.keyword}: there was trouble on our side. Send it again later."
        return reply if isinstance(reply, str) else None
