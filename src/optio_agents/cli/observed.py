"""From what a supervision lets us see to records: one place for what the command can say."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, assert_never

from optio_agents.cli.exits import OUTCOMES
from optio_agents.cli.questions import questions
from optio_agents.cli.records import of_event, record
from optio_agents.protocol.display import visible
from optio_agents.protocol.features import EVERYTHING
from optio_agents.protocol.parser import parse_log_line
from optio_agents.session import observe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optio_agents.cli.records import Record
    from optio_agents.session.journal import Delivery, Entry
    from optio_agents.session.result import SessionResult


def records_of(  # noqa: C901 - the union is the list
    seen: observe.Observation, session: str
) -> Iterator[Record]:
    """What a program is told of *seen*: nothing, one record, or one for each line."""
    match seen:
        case observe.Began(stored, resumed):
            yield record(
                "began", session=session, host=stored.host, taskdir=stored.taskdir, resumed=resumed
            )
        case observe.Recorded(entries):
            for entry in entries:
                yield of_entry(entry, session)
        case observe.Delivered(delivery):
            yield of_delivery(delivery, session)
        case observe.Spoke(event):
            yield record("agent", session=session, event=event)
        case observe.Answered(text):
            yield record("answer", session=session, text=text)
        case observe.Phase(state):
            yield record("phase", session=session, text=str(state), until=state.until)
        case observe.Asked(request, digest):
            yield record(
                "question" if questions(request) else "permission",
                session=session,
                request=request.id,
                digest=digest,
                tool=request.tool_name,
                input=request.input,
            )
        case observe.Decided(request_id, behavior, by):
            yield record("decision", session=session, request=request_id, behavior=behavior, by=by)
        case observe.LinkChanged(state_of_link, reason):
            yield record("link", session=session, state=state_of_link, text=reason)
        case observe.Notice(text):
            yield record("notice", session=session, text=text)
        case observe.Finished(result):
            yield of_result(result)
        case (
            observe.Progressed() | observe.NeedsYou() | observe.OpenBrowser() | observe.FromAgent()
        ):
            return  # the log line that says so was a record already
        case _:
            assert_never(seen)


def doing(seen: observe.Observation) -> Iterator[tuple[str, str]]:
    """The tools that the agent takes to hand, each with what it does with it, on one line."""
    match seen:
        case observe.Spoke({"type": "assistant", "message": {"content": list(blocks)}}):
            for block in blocks:
                match block:
                    case {"type": "tool_use", "name": str(tool), "input": dict(given)}:
                        yield tool, visible(_gist(given), limit=200)


def _gist(given: dict[str, Any]) -> str:
    known = ("command", "file_path", "path", "pattern", "url", "query", "description", "prompt")
    return next((str(given[name]) for name in known if name in given), json.dumps(given))


def of_entry(entry: Entry, session: str, at: float | None = None) -> Record:
    """A line of the log."""
    event = of_event(parse_log_line(entry.line, features=EVERYTHING))
    where: dict[str, Any] = {
        "file": entry.file,
        "generation": entry.generation,
        "offset": entry.offset,
    }
    return record(session=session, at=at, **event, **where)


def of_delivery(delivery: Delivery, session: str) -> Record:
    """How far an announced file has come."""
    return record(
        "delivery",
        session=session,
        path=delivery.path,
        size=delivery.size,
        sha256=delivery.sha256,
        reply=delivery.reply,
        taken=delivery.taken,
        saved=delivery.saved,
    )


def of_result(result: SessionResult) -> Record:
    """How it ended; always the last record of a session."""
    return record(
        "finished",
        session=result.session,
        outcome=result.outcome,
        exit_code=OUTCOMES[result.outcome],
        text=result.summary,
        deliverables=[
            {"path": d.path, "size": d.size, "sha256": d.sha256, "saved": d.saved}
            for d in result.deliverables
        ],
        abandoned=list(result.abandoned),
    )
