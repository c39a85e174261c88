"""Lines of the log, to entries of the journal, to whoever they are for. No await in here."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from optio_agents.display import visible
from optio_agents.protocol.events import (
    AttentionEvent,
    BrowserEvent,
    CallerMessageEvent,
    ClientMessageEvent,
    DeliverableEvent,
    DoneEvent,
    ErrorEvent,
    LogEvent,
    StatusEvent,
    UnknownLine,
)
from optio_agents.store.records import LAST_LINES, Entry, Kind

from .outcome import Done, Reported

if TYPE_CHECKING:
    from optio_agents.framing.batches import Batch
    from optio_agents.framing.cursor import Cursor
    from optio_agents.protocol.protocol import Protocol
    from optio_agents.store.records import Resumed

    from .deliverables import Deliverables
    from .messages import CallerMessages
    from .progress import Progress
    from .shared import Common
    from .watch import Hints


_log = logging.getLogger(__name__)

LOG = "optio.log"
_KEPT = 4096  # characters of a line that carries nothing to hand over again in full

_KINDS: dict[type[LogEvent], Kind] = {
    StatusEvent: "status",
    DeliverableEvent: "deliverable",
    DoneEvent: "done",
    ErrorEvent: "error",
    AttentionEvent: "attention",
    BrowserEvent: "browser",
    ClientMessageEvent: "client_message",
    CallerMessageEvent: "caller_message",
    UnknownLine: "unknown",
}
_PAYLOADS = {"deliverable", "browser", "client_message", "caller_message"}


@dataclass(slots=True)
class Heard:
    """The lines of one batch: as they are recorded, and what they say."""

    entries: list[Entry] = field(default_factory=list)
    events: list[LogEvent] = field(default_factory=list)
    cut: dict[int, int] = field(default_factory=dict)


class Dispatch:
    """Reads lines and hands over what they say, each kind in order."""

    def __init__(
        self,
        protocol: Protocol,
        progress: Progress,
        deliverables: Deliverables,
        callers: CallerMessages,
        hints: Hints,
        *,
        rewrite: Callable[[str], str] | None,
        common: Common,
    ) -> None:
        self._parse = protocol.parse_log_line
        self._progress, self._deliverables = progress, deliverables
        self._callers, self._hints = callers, hints
        self._rewrite, self._common = rewrite, common
        self._ended: DoneEvent | ErrorEvent | None = None
        self.statuses = 0
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self.cursor: Cursor | None = None

    def reads_as_ending(self, rest: bytes) -> bool:
        """Whether an unterminated line is already DONE or ERROR."""
        return isinstance(self._parse(_text(rest)), DoneEvent | ErrorEvent)

    def read(self, batch: Batch) -> Heard:
        """What *batch* says, ready to be recorded."""
        heard = Heard(cut=batch.cut)
        generation = batch.cursor.generation
        for line, end in zip(batch.lines, batch.ends, strict=True):
            text = _text(line)
            event = self._parse(text)
            kind = _KINDS[type(event)]
            kept = text if kind in _PAYLOADS else text[:_KEPT]
            heard.entries.append(Entry(LOG, generation, end, kept, kind, batch.repeated))
            heard.events.append(event)
        self.cursor = batch.cursor
        return heard

    def resume(self, resumed: Resumed) -> None:
        """Hand over again what an earlier supervisor recorded and did not mark done."""
        self.statuses = resumed.statuses
        self.last_lines.extend(resumed.last_lines)
        self.cursor = resumed.cursor
        self._deliverables.remember(resumed.deliveries)
        self._callers.remember(resumed.replies)
        for entry in resumed.pending:
            self._hand_over(entry, self._parse(entry.line))
        if resumed.ending is not None:
            self._end(resumed.ending, self._parse(resumed.ending.line))

    def hand_over(self, heard: Heard) -> None:
        """Give recorded entries to whoever they are for."""
        self.last_lines.extend(entry.line for entry in heard.entries[-LAST_LINES:])
        for entry, event in zip(heard.entries, heard.events, strict=True):
            self.statuses += isinstance(event, StatusEvent)
            self._hand_over(entry, event)
        for index, size in heard.cut.items():
            kept = len(heard.entries[index].line)
            self._progress.report(None, f"(a line of {size} bytes was cut to {kept})")

    def _hand_over(self, entry: Entry, event: LogEvent) -> None:
        match event:
            case StatusEvent(percent, message):
                self._progress.report(percent, message, entry)
            case DeliverableEvent(path):
                self._announce(entry, path)
            case DoneEvent() | ErrorEvent():
                self._end(entry, event)
            case AttentionEvent(reason):
                self._progress.call("need_attention", visible(reason), entry=entry)
            case BrowserEvent(url):
                self._open_browser(entry, url)
            case ClientMessageEvent(keyword, data):
                self._progress.call("client_message", keyword, data, entry=entry)
            case CallerMessageEvent():
                self._callers.announce(entry, event)
            case UnknownLine(text):
                self._hints.read(text)
                self._progress.report(None, text, entry)
            case _:
                assert_never(event)

    def _announce(self, entry: Entry, path: str) -> None:
        if isinstance(self._ended, ErrorEvent):  # nobody waits for an answer any more
            self._progress.report(None, entry.line, entry)
            return
        self._progress.report(None, f"Deliverable: {path}")
        self._deliverables.announce(entry, path)

    def _end(self, entry: Entry, event: LogEvent) -> None:
        if self._ended is not None:
            self._progress.report(None, entry.line, entry)
            return
        match event:
            case DoneEvent(summary):
                self._ended = event
                self._progress.report(None, summary, entry)
                self._common.decide(Done(summary))
            case ErrorEvent(message):
                self._ended = event
                self._common.done(entry)
                self._common.decide(Reported(message))
            case _:
                _log.warning("a recorded ending reads as none: %s", visible(entry.line))

    def _open_browser(self, entry: Entry, url: str) -> None:
        try:
            shown = url if self._rewrite is None else self._rewrite(url)
        except Exception:
            self._common.troubles["browser_url_rewrite"] += 1
            _log.warning("browser_url_rewrite raised", exc_info=True)
            self._common.done(entry)
        else:
            self._progress.call("request_browser_open", shown, entry=entry)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
