"""What the command prints where no person watches: JSON lines and plain lines, a contract.

Each record is one JSON object on a line with `"v": 1`, `"kind"`, `"at"` (seconds since the epoch)
and, in a session, `"session"`. Keys are added over time, never renamed or removed within a version.
A plain line is the time of day, the kind, and the text, with one blank between.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, assert_never

from optio_agents.protocol.display import visible
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

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
_LONG = 10_000  # characters of a request on a plain line
Record = dict[str, Any]


def record(
    kind: str, *, session: str | None = None, at: float | None = None, **more: Any
) -> Record:
    """A record of *kind*, with what belongs to every one of them."""
    whose = {} if session is None else {"session": session}
    return {"v": VERSION, "kind": kind, "at": time.time() if at is None else at, **whose, **more}


def of_event(event: LogEvent) -> Mapping[str, Any]:
    """The keys that an event of the log adds, `kind` among them."""
    match event:
        case StatusEvent(percent, message):
            return {"kind": "status", "percent": percent, "text": message}
        case DeliverableEvent(path):
            return {"kind": "deliverable", "path": path}
        case DoneEvent(text):
            return {"kind": "done", "text": text}
        case ErrorEvent(text):
            return {"kind": "error", "text": text}
        case AttentionEvent(text):
            return {"kind": "attention", "text": text}
        case BrowserEvent(url):
            return {"kind": "browser", "url": url}
        case ClientMessageEvent(keyword, data):
            return {"kind": "client_message", "keyword": keyword, "data": data}
        case CallerMessageEvent(keyword, data):
            return {"kind": "caller_message", "keyword": keyword, "data": data}
        case UnknownLine(text):
            return {"kind": "narration", "text": text}
    assert_never(event)


def plain(record: Mapping[str, Any]) -> str:
    """The line that says *record* to a person."""
    when = time.strftime("%H:%M:%S", time.localtime(record["at"]))
    return f"{when} {record['kind']} {words(record)}".rstrip()


def words(record: Mapping[str, Any]) -> str:
    """What it says, behind its time and kind."""
    match record:
        case {"kind": "began", "session": session, "host": host, "resumed": resumed}:
            return visible(f"{session} on {host}{', once more' if resumed else ''}")
        case {"kind": "status", "percent": int(percent), "text": text}:
            return f"{percent}% {visible(text)}"
        case {"kind": "client_message" | "caller_message", "keyword": keyword, "data": data}:
            return visible(f"{keyword} {json.dumps(data, ensure_ascii=False)}")
        case {"kind": "delivery", "path": path}:
            return f"{visible(path)}: {_delivery(record)}"
        case {"kind": "permission" | "question", "request": request, "tool": tool, "input": asked}:
            return visible(f"{request} {tool} {json.dumps(asked, ensure_ascii=False)}", limit=_LONG)
        case {"kind": "decision", "request": request, "behavior": behavior, "by": by}:
            return visible(f"{request} {behavior} by {by}")
        case {"kind": "link", "state": state, "text": text}:
            return visible(f"{state} {text}")
        case {"kind": "finished", "outcome": outcome, "text": text}:
            return visible(f"{outcome}: {text}" if text else outcome)
        case {"path": str(text)} | {"url": str(text)} | {"text": str(text)}:
            return visible(text)
        case _:
            return ""


def _delivery(record: Mapping[str, Any]) -> str:
    if record["reply"] is None:
        return "announced" if record["size"] is None else f"fetched, {record['size']} bytes"
    said = visible(record["reply"].removeprefix(f"deliverable {record['path']}: "))
    kept = f" (kept as {visible(str(record['saved']))})" if record["saved"] else ""
    return (
        said + kept + (" (the agent did not take this reply)" if record["taken"] is False else "")
    )
