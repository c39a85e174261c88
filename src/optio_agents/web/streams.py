"""Server-sent events: what happened and what happens, from any place in it on.

Nothing is kept for a reader: each is a number in a sequence that the journal, or the agent's host,
holds anyway, and is read from there as fast as it takes it (backpressure). One that takes nothing
for a while is cut off, and comes back with the last number it has (`Last-Event-ID`): so nothing is
missing, and nothing comes twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeAlias

import anyio
import anyio.lowlevel

from optio_agents.cli.output import as_json
from optio_agents.cli.screen.records import Record, records_of, words
from optio_agents.concurrency import task_group
from optio_agents.display import visible_block
from optio_agents.supervision import TurnEnded
from optio_agents.supervision.events import event_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send

    from optio_agents.supervision import SessionEvent

    from .hub import Hub


PATIENCE = 30.0  # seconds in which a reader takes something
BEAT = 15.0  # seconds after which silence is broken, so that a dead link is noticed
_PAGE = 200  # events that are read at once
_TEXTS = {"answer", "sent", "done", "error", "attention", "notice", "check", "restart", "turn"}
_BLOCK = 20_000  # characters of a text among others
_LONG = 1 << 16  # characters of a record
_START = [
    (b"content-type", b"text/event-stream"),
    (b"x-accel-buffering", b"no"),  # a proxy that gathers would hold back the news
]
Write: TypeAlias = Callable[[str], Awaitable[None]]
Work: TypeAlias = Callable[[Write], Awaitable[None]]


def message(data: str, *, id: str = "", event: str = "") -> str:  # noqa: A002 - the field's name
    """One message of a stream; *data* is one line."""
    fields = {"id": id, "event": event, "data": data}
    return "".join(f"{name}: {text}\n" for name, text in fields.items() if text) + "\n"


@dataclass(frozen=True, slots=True)
class EventStream:
    """An answer that *work* writes, until it returns or nobody reads it any more."""

    work: Work
    patience: float = PATIENCE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _START})
        late = False

        async def write(text: str) -> None:
            nonlocal late
            with anyio.move_on_after(self.patience) as patience:
                body = text.encode()
                await send({"type": "http.response.body", "body": body, "more_body": True})
            if patience.cancelled_caught:
                late = True
                tasks.cancel_scope.cancel()
                await anyio.sleep_forever()

        async def notice_end() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            tasks.cancel_scope.cancel()

        async with task_group() as tasks:
            tasks.start_soon(notice_end)
            await write("retry: 2000\n\n")
            await self.work(write)
            tasks.cancel_scope.cancel()
        if late:
            scope["state"]["cut off"]()  # or what it did not take is kept for it
            await anyio.lowlevel.checkpoint()
        else:
            await send({"type": "http.response.body", "body": b""})


async def overview(hub: Hub, place: str, write: Write) -> None:
    """How all sessions stand, and what changes in that, behind *place*."""
    after = hub.after(place)
    if not after:
        await write(message("{}", event="all"))  # forget what you have
    while True:
        news, version = hub.bell.next, hub.version
        if version > after:
            rows = ",".join(row.record for row in hub.rows.values() if row.version > after)
            # ids of sessions: plain names
            gone = ",".join(f'"{session}"' for session, at in hub.gone.items() if at > after)
            after = version
            data = f'{{"v":1,"sessions":[{rows}],"gone":[{gone}]}}'
            await write(message(data, id=f"{hub.epoch}-{after}"))
        await until(news, write)


async def session_events(hub: Hub, session: str, after: int, write: Write) -> None:
    """All that happened behind event number *after*, and what happens, to the end."""
    standing = 0
    while True:
        news = hub.news_of(session)
        row = hub.rows.get(session)  # asked before the rest, or that is cut short
        if row is not None and row.version > standing:
            standing = row.version
            await write(message(row.record, event="session"))
        while rows := await hub.store.events(session, after=after, most=_PAGE):
            after = rows[-1].number
            records = (record for one in rows for record in shown(event_of(one), session))
            await write("".join(message(line(r), id=str(r["number"])) for r in records))
        if row is None and await hub.store.find(session) is None:
            return await write(message("{}", event="gone"))
        if row is not None and row.complete:
            return await write(message("{}", event="over"))
        await until(news, write)


def shown(event: SessionEvent, session: str) -> Iterator[Record]:
    """The records of `--json`, with `words` that are safe to show.

    They are the text for a person, on as many lines as it has: control, turning and hiding
    characters are escapes by now, so that what is shown is all that there is.
    """
    for record in records_of(event, session):
        if isinstance(event, TurnEnded):
            record["usage"] = asdict(event.turn.usage) if event.turn.usage else None
            record["usd"] = event.turn.cost
        text = record.get("text")
        if record["kind"] in _TEXTS and isinstance(text, str):
            record["words"] = visible_block(text, limit=_BLOCK)
        else:
            record["words"] = words(record)
        yield record


def line(record: Record) -> str:
    """*record* as JSON; one too long to be looked at among others, without its longest values."""
    text = as_json(record)
    if len(text) <= _LONG:
        return text
    short = {name: value for name, value in record.items() if len(as_json({"": value})) < 4096}
    return as_json({**short, "words": record["words"][:_BLOCK], "cut": len(text)})


async def until(news: anyio.Event, write: Write) -> None:
    """Wait for *news*, for a while."""
    with anyio.move_on_after(BEAT) as beat:
        await news.wait()
    if beat.cancelled_caught:
        await write(message("{}", event="beat"))
