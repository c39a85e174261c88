"""Records as the page gets them: those of `--json`, with words that are safe to show.

`words` is the text of a record for a person, on as many lines as it has: control, turning and
hiding characters in it are escapes by now, so that what is shown is all that there is. A record
that is too long to be looked at among others comes without its longest values.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from optio_agents.cli.output import as_json
from optio_agents.cli.screen import questions
from optio_agents.cli.screen.records import Record, records_of, words
from optio_agents.conversation.claude.permissions import questions as questions_whole
from optio_agents.display import visible, visible_block
from optio_agents.supervision import TurnEnded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optio_agents.supervision import OpenRequest, SessionEvent


_TEXTS = {"answer", "sent", "done", "error", "attention", "notice", "check", "restart", "turn"}
_BLOCK = 20_000  # characters of a text among others
_LONG = 1 << 16  # characters of a record


def shown(event: SessionEvent, session: str) -> Iterator[Record]:
    """What is shown of *event*."""
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
    """*record* as JSON, bounded."""
    text = as_json(record)
    if len(text) <= _LONG:
        return text
    short = {name: value for name, value in record.items() if len(as_json({"": value})) < 4096}
    return as_json({**short, "words": record["words"][:_BLOCK], "cut": len(text)})


def asked(opened: OpenRequest, *, hide: Any = None) -> Record:
    """All that an open request asks, as whoever decides it has to see it."""
    request = opened.request
    body = questions.body(request)
    return {
        "request": request.id,
        "digest": opened.digest,
        "tool": visible(request.tool_name, limit=60),
        "heading": questions.heading(request),
        "body": hide(body) if hide else body,
        "readable": questions.readable(request),
        "grants": [visible(one, limit=_BLOCK) for one in questions.grants(request)],
        "questions": [
            {
                "question": one["question"],
                "words": visible(one["question"], limit=_BLOCK),
                "several": bool(one.get("multiSelect")),
                "options": [
                    {
                        "label": option["label"],
                        "words": visible(option["label"], limit=_BLOCK),
                        "about": visible(str(option.get("description") or ""), limit=_BLOCK),
                    }
                    for option in one["options"]
                ],
            }
            for one in questions_whole(request)
        ],
    }
