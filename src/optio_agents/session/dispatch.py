"""Lines of the log, to entries of the journal, to whoever they are for. No await in here."""

from __future__ import annotations

import logging
from collections import deque
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

from .outcome import Ending

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optio_agents.framing.batches import Batch
    from optio_agents.framing.cursor import Cursor
    from optio_agents.store.records import Resumed

    from .deliverables import Deliverables
    from .messages import CallerMessages, DoneCheck
    from .progress import Progress
    from .shared import Shared
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
_REPORTED = {"unknown", "status"}  # and nothing else comes of them
_PAYLOADS = {"deliverable", "browser", "client_message", "caller_message"}


class Dispatch:
    """Reads lines and hands over what they say, each kind in order."""

    def __init__(
        self,
        shared: Shared,
        progress: Progress,
        hints: Hints,
        deliverables: Deliverables,
        callers: CallerMessages,
        check: DoneCheck,
    ) -> None:
        self._shared, self._progress, self._deliverables = shared, progress, deliverables
        self._callers, self._hints, self._check = callers, hints, check
        self._parse = shared.options.protocol.parse_log_line
        self._ended: DoneEvent | ErrorEvent | None = None
        self.statuses = 0
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self.cursor: Cursor | None = None

    def reads_as_ending(self, rest: bytes) -> bool:
        """Whether an unterminated line is already DONE or ERROR."""
        return isinstance(self._parse(rest.decode("utf-8", "replace")), DoneEvent | ErrorEvent)

    def read(self, batch: Batch) -> tuple[list[Entry], list[LogEvent]]:
        """What *batch* says, ready to be recorded and then handed over."""
        entries, events = list[Entry](), list[LogEvent]()
        generation = batch.cursor.generation
        texts = [line.decode("utf-8", "replace") for line in batch.lines]
        hidden = self._shared.options.secrets.hide_each(texts)
        for text, shown, end in zip(texts, hidden, batch.ends, strict=True):
            event = self._parse(text)
            kind = _KINDS[type(event)]
            if shown is not text and kind not in _PAYLOADS:
                event = self._read_again(shown, event)
            kept = text if kind in _PAYLOADS else shown[:_KEPT]
            done = self._progress.silent and kind in _REPORTED
            entries.append(Entry(LOG, generation, end, kept, kind, batch.repeated, done))
            events.append(event)
            self.statuses += kind == "status"
            self.last_lines.append(shown[:_KEPT])
        self.cursor = batch.cursor
        return entries, events

    def _read_again(self, shown: str, event: LogEvent) -> LogEvent:
        """The same event without a credential in it, where it still reads as one."""
        again = self._parse(shown)
        return again if type(again) is type(event) else event

    def resume(self, resumed: Resumed) -> None:
        """Hand over again what an earlier supervisor recorded and did not mark done."""
        self.statuses = resumed.statuses
        self.last_lines.extend(resumed.last_lines)
        self.cursor = resumed.cursor
        for answers in (self._deliverables, self._callers, self._check):
            answers.remember(resumed)
        pending, ending = list(resumed.pending), resumed.ending
        # Then no other DONE counts.
        self._check.passed = resumed.accepted and ending not in pending
        self.hand_over(pending, [self._parse(entry.line) for entry in pending], {})
        if ending is None or ending in pending:
            return
        match self._parse(ending.line):
            case DoneEvent(summary) if resumed.accepted:
                self._shared.decision.decide(Ending("done", summary, verified=True))
            case event:
                self._end(ending, event)

    def hand_over(  # noqa: C901 - the union is the list
        self, entries: list[Entry], events: list[LogEvent], cut: Mapping[int, int]
    ) -> None:
        """Give recorded entries to whoever they are for; *cut* has the size of shortened ones."""
        for index, (entry, event) in enumerate(zip(entries, events, strict=True)):
            match event:
                case StatusEvent(percent, message):
                    self._progress.report(percent, message, entry)
                case DeliverableEvent(path):
                    if isinstance(self._ended, ErrorEvent):  # nobody waits for an answer any more
                        self._progress.report(None, entry.line, entry)
                    else:
                        self._deliverables.announce(entry, path)
                case DoneEvent() | ErrorEvent():
                    self._end(entry, event)
                case AttentionEvent(reason):
                    self._progress.call("need_attention", visible(reason), entry=entry)
                case ClientMessageEvent(keyword, data):
                    self._progress.call("client_message", keyword, data, entry=entry)
                case BrowserEvent(url):
                    self._open_browser(entry, url)
                case CallerMessageEvent():
                    self._callers.announce(entry, event)
                case UnknownLine(text):
                    self._hints.read(text)
                    self._progress.report(None, text, entry)
                case _:
                    assert_never(event)
            if index in cut:
                kept = len(entry.line)
                self._progress.report(None, f"(a line of {cut[index]} bytes was cut to {kept})")

    def _end(self, entry: Entry, event: LogEvent) -> None:
        if self._ended is not None or self._check.passed:  # the first one counts
            self._progress.report(None, entry.line, entry)
            return
        match event:
            case DoneEvent(summary) if self._check.active:
                self._check.announce(entry, summary)
            case DoneEvent(summary):
                self._ended = event
                self._progress.report(None, summary, entry)
                self._shared.decision.decide(Ending("done", summary))
            case ErrorEvent(message):
                self._ended = event
                self._shared.mark_done(entry)
                self._shared.decision.decide(Ending("error", message))
            case _:
                _log.warning("a recorded ending reads as none: %s", visible(entry.line))

    def _open_browser(self, entry: Entry, url: str) -> None:
        rewrite = self._shared.options.browser_url_rewrite
        try:
            shown = url if rewrite is None else rewrite(url)
        except Exception as error:
            self._shared.note_trouble("browser_url_rewrite", error)
            self._shared.mark_done(entry)
        else:
            self._progress.call("request_browser_open", shown, entry=entry)
