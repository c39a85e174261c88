"""What the command prints where no person watches: JSON lines and plain lines, a contract.

Each record is one JSON object on a line with `"v": 1`, `"kind"`, `"at"` (seconds since the epoch)
and, in a session, `"session"`. Keys are added over time, never renamed or removed within a version.
A plain line is the time of day, the kind, and the text, with one blank between.
"""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeAlias, assert_never

import click

from optio_agents.cli.exits import outcome_code
from optio_agents.cli.output import as_json, folded, mute
from optio_agents.conversation.contract import gist
from optio_agents.display import visible, visible_block
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
from optio_agents.protocol.features import EVERYTHING
from optio_agents.protocol.parser import parse_log_line
from optio_agents.supervision import events

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from optio_agents.conversation import PermissionDecision, PermissionRequest
    from optio_agents.store.records import Delivery, LastWords, SessionResult, StoredSession

    Ask: TypeAlias = Callable[[str, PermissionRequest], Awaitable[PermissionDecision]]


_LONG = 10_000  # characters of a request on a plain line
_GIST = 200  # characters of what a decision was about
_TOO_MUCH = {"agent", "phase"}  # kinds that only a program wants to see each of
Record = dict[str, Any]


def record(
    kind: str, *, session: str | None = None, at: float | None = None, **more: Any
) -> Record:
    """A record of *kind*, with what belongs to every one of them."""
    whose = {} if session is None else {"session": session}
    return {"v": 1, "kind": kind, "at": time.time() if at is None else at, **whose, **more}


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
    return folded(f"{when} {record['kind']} {words(record)}".rstrip())


def words(record: Mapping[str, Any]) -> str:  # noqa: C901 - one way to say each kind
    """What it says, behind its time and kind."""
    match record:
        case {"kind": "began", "session": session, "host": host, "resumed": resumed}:
            return visible(f"{session} on {host}{', once more' if resumed else ''}")
        case {"kind": "status" | "todos", "percent": int(percent), "text": text}:
            return f"{percent}% {visible(text or '')}".rstrip()
        case {"kind": "client_message" | "caller_message", "keyword": keyword, "data": data}:
            return visible(f"{keyword} {json.dumps(data, ensure_ascii=False)}")
        case {"kind": "delivery", "path": path}:
            return f"{visible(path)}: {_delivery(record)}"
        case {"kind": "permission" | "question", "request": request, "tool": tool, "input": asked}:
            return visible(f"{request} {tool} {json.dumps(asked, ensure_ascii=False)}", limit=_LONG)
        case {"kind": "decision", "asked": str(asked), "behavior": behavior, "by": by}:
            return visible(f"{behavior} by {by}: {asked}")
        case {"kind": "decision", "request": request, "behavior": behavior, "by": by}:
            return visible(f"{request} {behavior} by {by}")
        case {"kind": "link", "state": state, "text": text}:
            return visible(f"{state} {text}")
        case {"kind": "restart", "count": count, "most": most, "text": text}:
            return visible(f"for the {count}. time of {most}: {text}")
        case {"kind": "sent", "text": text, "by": by}:
            return visible(f"by {by}: {text}")
        case {"kind": "finished" | "turn", "outcome": outcome, "text": text}:
            outcome += ", verified" if record.get("verified") else ""
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


# From what happens in a session to records: one place for what the command can say.


def records_of(event: events.SessionEvent, session: str) -> Iterator[Record]:  # noqa: C901 - the union is the list
    """What a program is told of *event*."""
    about: dict[str, Any] = {"session": session, "at": event.at or None}
    if event.number is not None:
        about["number"] = event.number
    match event:
        case events.SessionBegan(host, taskdir, _, resumed, _):
            yield record("began", host=host, taskdir=taskdir, resumed=resumed, **about)
        case events.LogLine(line, file, generation, offset):
            where: dict[str, Any] = {"file": file, "generation": generation, "offset": offset}
            yield record(**of_event(line), **where, **about)
        case events.DeliveryStep(delivery):
            yield of_delivery(delivery, **about)
        case events.DoneChecked(accepted, text):
            yield record("check", accepted=accepted, text=text, **about)
        case events.AgentRestarted(count, most, why):
            yield record("restart", count=count, most=most, text=why, **about)
        case events.MessageSent(name, text, by):
            yield record("sent", name=name, text=text, by=by, **about)
        case events.TurnEnded(turn) if turn.ok:
            yield record("answer", text=turn.text, **about)
        case events.TurnEnded(turn):
            yield record("turn", outcome=turn.outcome, text=turn.failure, **about)
        case events.StateChanged(state):
            yield record("phase", text=str(state), until=state.until, **about)
        case events.RequestOpened(request, digest):
            from .questions import questions  # loaded when an agent asks

            yield record(
                "question" if questions(request) else "permission",
                request=request.id,
                digest=digest,
                tool=request.tool_name,
                input=request.input,
                **about,
            )
        case events.RequestDecided(request_id, behavior, by):
            yield record("decision", request=request_id, behavior=behavior, by=by, **about)
        case events.LinkChanged(state_of_link, reason):
            yield record("link", state=state_of_link, text=reason, **about)
        case events.TodosChanged(percent, text, items):
            yield record("todos", percent=percent, text=text, items=list(items), **about)
        case events.Notice(text):
            yield record("notice", text=text, **about)
        case events.SessionEnded(result):
            yield of_result(result, **about)
        case events.AgentEvent(inner):
            yield record("agent", event=inner, **about)
        case _:
            assert_never(event)


def of_session(session: StoredSession, last: LastWords | None = None) -> Record:
    """How one stands, as `ls` lists it."""
    state, over = session.state, session.over
    return record(
        "session",
        session=session.id,
        at=session.created_at,
        host=session.host,
        taskdir=session.taskdir,
        outcome=session.outcome,
        state=session.outcome if over else str(state),
        over=over,
        waits=state.needs_person,
        percent=state.percent,
        name=session.facts.get("name") or None,
        agent=session.facts.get("program"),
        usd=last and last.cost,
        usage=last and last.usage,
        last=(over and session.summary) or _words_of(last),
        text=session.facts.get("title"),
        summary=session.summary,
        cwd=session.facts.get("cwd"),
        branch=(session.facts.get("worktree") or {}).get("branch"),
        verified=session.verified,
        ended_at=session.ended_at,
    )


def _words_of(last: LastWords | None) -> str | None:
    if last is None or last.line is None:
        return None
    return words(record(**of_event(parse_log_line(last.line, features=EVERYTHING))))


def of_delivery(delivery: Delivery, **about: Any) -> Record:
    """How far an announced file has come."""
    return record(
        "delivery",
        path=delivery.path,
        size=delivery.size,
        sha256=delivery.sha256,
        reply=delivery.reply,
        taken=delivery.taken,
        saved=delivery.saved,
        **about,
    )


def of_result(result: SessionResult, **about: Any) -> Record:
    """How it ended; always the last record of a session."""
    return record(
        "finished",
        outcome=result.outcome,
        exit_code=outcome_code(result),
        text=result.summary,
        verified=result.verified,
        deliverables=[
            {"path": d.path, "size": d.size, "sha256": d.sha256, "saved": d.saved}
            for d in result.deliverables
        ],
        abandoned=list(result.abandoned),
        **about,
    )


# The view of it where no person watches.


class ForPerson:
    """What a person is told of records, by what was told before."""

    def __init__(self) -> None:
        self._words: dict[Any, str] = {}
        self._asked: dict[str, str] = {}  # by the ids of requests, which tell nobody anything

    def read(self, records: Iterable[Record]) -> Iterator[Record]:
        """*records* without steps of a delivery whose words stood there; decisions say of what."""
        for record in records:
            match record:
                case {"kind": "delivery", "session": session, "path": path}:
                    text = words(record)
                    before, self._words[session, path] = self._words.get((session, path)), text
                    if before == text:
                        continue
                case {"kind": "permission", "request": request, "tool": tool, "input": given}:
                    self._asked[request] = f"{tool} `{gist(given)[:_GIST]}`"
                case {"kind": "question", "request": request}:
                    self._asked[request] = "its question"
                case {"kind": "decision", "request": request} if request in self._asked:
                    record["asked"] = self._asked.pop(request)
            yield record


class LinesView:
    """Plain lines, or JSON ones, of any number of sessions."""

    ask: Ask | None = None  # puts a question to whoever sits here; cancelled if answered elsewhere

    def __init__(self, *, as_lines: bool) -> None:
        self._json, self._for_person = as_lines, ForPerson()
        self.spoiled = False  # something could not be shown
        self.known: dict[str, StoredSession] = {}  # as the journal has them; who reads it puts them

    def shown(
        self, sessions: Iterable[str], leave: Callable[[], None]
    ) -> AbstractContextManager[None]:
        """Show these while the block lasts; *leave* when asked to. Entered on the event loop."""
        return nullcontext()

    def observe(self, session: str, event: events.SessionEvent) -> None:
        """Show what was seen, at once. Raises BrokenPipeError when nobody looks any more."""
        records = records_of(event, session)
        if self._json:
            for record in records:
                self._write(as_json(record))
            return
        for record in self._for_person.read(records):
            if record["kind"] not in _TOO_MUCH:
                self._write(plain(record))

    def _write(self, line: str) -> None:
        try:
            click.echo(line)
        except BrokenPipeError:
            raise
        except OSError as error:  # a full disk
            mute()
            self.spoiled = True
            self.say(f"what is seen cannot be written ({error}); the session goes on")

    def say(self, text: str) -> None:
        """Tell the operator a sentence, safe to print whatever it quotes."""
        lines = visible_block(text).replace("\n", "\n  ")  # or one might pass for ours
        click.echo(f"optio-agents: {lines}", err=True)
