"""Showing a session that somebody else supervises, from what they write down."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from optio_agents.conversation.contract import PermissionRequest
from optio_agents.protocol.events import StatusEvent
from optio_agents.protocol.parser import parse_log_line
from optio_agents.store.records import SessionResult
from optio_agents.supervision import events as observe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optio_agents.store import Note, Store, StoredEvent, StoredSession
    from optio_agents.supervision.events import Observation, Observer


class Onlooker:
    """What the journal tells of one session, shown to *observer* as if we supervised it."""

    def __init__(self, store: Store, session: str, observer: Observer) -> None:
        self._store, self._session, self._observer = store, session, observer
        self._began = False
        self._event = 0  # the number of the last one shown
        self._deliveries: dict[Any, Any] = {}
        self._requests: dict[str, str | None] = {}  # how each was decided

    async def look(self) -> StoredSession:
        """Show what is new. What it gives is over only once all of it is shown."""
        session = await self._store.session(self._session)  # before the rest, or that is cut short
        if not self._began:
            self._began = True
            self._observer(observe.Began(session, resumed=True))
        while events := await self._store.events(session.id, after=self._event):
            self._event = events[-1].number
            self._show(_lines(events))
        self._show(self._new_deliveries(await self._store.deliveries(session.id)))
        self._show(self._new_requests(await self._store.notes(session.id, "permission")))
        if session.over:
            self._observer(observe.Finished(_result(session)))
        return session

    def _show(self, seen: Iterator[Observation]) -> None:
        for observation in seen:
            self._observer(observation)

    def _new_deliveries(self, found: Sequence[Any]) -> Iterator[Observation]:
        for delivery in found:
            if self._deliveries.get(delivery.entry.key) != delivery:
                self._deliveries[delivery.entry.key] = delivery
                yield observe.Delivered(delivery)

    def _new_requests(self, notes: Sequence[Note]) -> Iterator[Observation]:
        for note in notes:
            decided = note.value.get("behavior")
            if note.key not in self._requests:
                yield observe.Asked(_request(note), note.value.get("digest", ""))
            if decided and self._requests.get(note.key) is None:
                yield observe.Decided(note.key, decided, note.value.get("by", ""))
            self._requests[note.key] = decided


def _lines(events: Sequence[StoredEvent]) -> Iterator[Observation]:
    yield observe.Recorded(tuple(event.entry for event in events))
    for event in events:
        match parse_log_line(event.entry.line):
            case StatusEvent(percent, message):
                yield observe.Progressed(percent, message)


def _request(note: Note) -> PermissionRequest:
    raw = note.value.get("raw", {})
    given = raw.get("request", {}).get("input", {})
    return PermissionRequest(note.value["tool_name"], given, raw, note.key)


def _result(session: StoredSession) -> SessionResult:
    outcome: Any = session.outcome
    ended = session.ended_at or time.time()
    return SessionResult(session.id, outcome, session.summary, session.created_at, ended)
