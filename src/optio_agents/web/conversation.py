"""The conversation of a session, passage by passage, as its agent's output on its host tells it.

Whoever was cut off names the place where they were. A passage may have begun in front of it whose
end comes later, so we read from the last line on at which none was half read, and pass over those
that they have.
"""

from __future__ import annotations

import base64
import json
import tempfile
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import anyio.to_thread

from optio_agents.cli.exits import sentence
from optio_agents.cli.output import as_json
from optio_agents.conversation.dialect import Passage
from optio_agents.display import visible_block
from optio_agents.errors import OptioAgentsError
from optio_agents.framing.cursor import Cursor
from optio_agents.supervision import find_session
from optio_agents.supervision.kinds.passages import (
    cut_line,
    fetch_queue,
    read_line,
    read_queue,
    reader_of,
    with_prompts,
)
from optio_agents.supervision.sessions import host_of

from .streams import message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from optio_agents.conversation.dialect import PassageReader
    from optio_agents.display import Secrets
    from optio_agents.framing.batches import Batch
    from optio_agents.store import StoredSession

    from .hub import Hub
    from .streams import Write


_T = TypeVar("_T")
_SLOW = 1 << 18  # bytes: reading more takes a thread
_PASSAGE = 20_000  # characters of one passage
_QUEUE = 1 << 20  # bytes of a queue that are kept in memory


async def conversation(hub: Hub, session: str, place: str, write: Write) -> None:
    """What is told behind *place*, to the end."""
    try:
        stored = await hub.store.session(session)
        begin = Bookmark.load(place)
        async with (
            find_session(session, store=hub.store) as live,
            live.output(begin.cursor) as batches,
        ):
            telling = Telling(reader_of(stored), live.secrets, begin, lambda: _prompts_of(stored))
            await write(message("{}", event="reached"))
            async for batch in batches:
                told = await telling.tell(batch)
                await write(message(told, id=telling.place.dump()))  # all of it, or none
            if told := await telling.close():
                await write(message(told, id=telling.place.dump()))
            await write(message("{}", event="over"))
    except OptioAgentsError as error:
        await write(message(as_json({"text": sentence(error)}), event="trouble"))


async def _prompts_of(session: StoredSession) -> Sequence[str]:
    """What its agent was told until now."""
    with tempfile.SpooledTemporaryFile(_QUEUE) as queue:
        async with host_of(session) as host:
            await fetch_queue(host, queue)  # type: ignore[arg-type]
        return [*read_queue(queue)]  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A place in a conversation: so many passages behind a line at which none was half read."""

    cursor: Cursor | None = None
    passages: int = 0
    prompts: int = 0  # among what stands in front of that line
    opening: bool = True  # a turn begins there

    def dump(self) -> str:
        fields = (self.cursor and self.cursor.to_json(), self.passages, self.prompts, self.opening)
        return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()

    @classmethod
    def load(cls, text: str) -> Bookmark:
        """What `dump` wrote; the beginning for anything else."""
        with suppress(ValueError, RecursionError):
            match json.loads(base64.urlsafe_b64decode(text)):
                case [str() | None as cursor, int(passages), int(prompts), bool(opening)]:
                    found = Cursor.from_json(cursor) if cursor else None
                    return cls(found, max(0, passages), max(0, prompts), opening)
        return cls()


@dataclass(slots=True)
class Telling:
    """Makes messages of the output behind *place*; then that is behind the last one."""

    reader: PassageReader
    secrets: Secrets
    place: Bookmark
    prompts: Callable[[], Awaitable[Sequence[str]]]  # what the agent was told until now
    _skip: int = field(init=False)  # passages that are known
    _told: int = field(init=False)  # prompts
    _opening: bool = field(init=False)
    _known: Sequence[str] = ()
    _there: int = -1  # so long was the output when it was first looked at

    def __post_init__(self) -> None:
        self._skip, self.place = self.place.passages, replace(self.place, passages=0)
        self._told, self._opening = self.place.prompts, self.place.opening

    async def tell(self, batch: Batch) -> str:
        slow = sum(map(len, batch.lines)) > _SLOW
        if self._there < 0:
            self._there = batch.cursor.size
        count = bisect_right(batch.ends, self._there)
        found = await _run(slow, lambda: [*self._read(batch, 0, count)])
        told = await self._show(found, old=True)
        found = await _run(slow, lambda: [*self._read(batch, count, len(batch.lines))])
        told += await self._show(found, old=False)
        if not self.reader.has_part:
            self.place = Bookmark(batch.cursor, 0, self._told, self._opening)
        return await _run(slow, lambda: _message(told))

    async def close(self) -> str:
        """What has no end, and what nobody has read; empty if there is nothing."""
        told = await self._show([*self._made(self.reader.close())], old=True)
        if not self.reader.has_prompts:
            waiting = [Passage("person", text) for text in (await self.prompts())[self._told :]]
            self._told += len(waiting)
            told += self._count([*self._made(waiting)], old=True)
        return _message(told) if told else ""

    def _read(self, batch: Batch, start: int, stop: int) -> Iterator[Passage]:
        for number in range(start, stop):
            if number in batch.cut:
                yield cut_line(batch.cut[number])
            else:
                yield from self._made(read_line(batch.lines[number], self.reader))

    def _made(self, passages: Iterable[Passage]) -> Iterator[Passage]:
        """*passages*, fit to be shown."""
        for who, text, change in passages:
            yield Passage(who, self._block(text), self._block(change) if change else "")

    def _block(self, text: str) -> str:
        return visible_block(self.secrets.hide(text), limit=_PASSAGE)

    async def _show(self, found: list[Passage], *, old: bool) -> list[dict[str, Any]]:
        if found and not self.reader.has_prompts:
            opened = self._opening + sum(one.who == "turn" for one in found[:-1])
            if len(self._known) < self._told + opened:
                self._known = await self.prompts()
            prompts = map(self._block, self._known[self._told :])
            size, opening = len(found), self._opening
            self._opening = found[-1].who == "turn"
            found = [*with_prompts(found, prompts, opening=opening)]
            self._told += len(found) - size
        return self._count(found, old=old)

    def _count(self, found: list[Passage], *, old: bool) -> list[dict[str, Any]]:
        self.place = replace(self.place, passages=self.place.passages + len(found))
        new = found[self._skip :]
        self._skip -= len(found) - len(new)
        about = {"old": True} if old else {}
        return [
            {"who": who, "words": text, **({"change": change} if change else {}), **about}
            for who, text, change in new
        ]


def _message(told: list[dict[str, Any]]) -> str:
    return as_json({"at": time.time(), "passages": told})


async def _run(slow: bool, work: Callable[[], _T]) -> _T:
    return await anyio.to_thread.run_sync(work) if slow else work()
