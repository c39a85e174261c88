"""A journal of many sessions, written at once."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path


def crowd(
    journal: Path,
    count: int,
    *,
    first: int = 0,
    over: bool = True,
    events: int = 3,
    words: str = "",
) -> None:
    """Add *count* sessions, numbered from *first*, which did all the same."""
    now = time.time()
    with closing(sqlite3.connect(journal, isolation_level=None)) as database:
        database.execute("BEGIN")
        for number in range(first, first + count):
            began = now - 10 * (first + count - number)
            facts = {"agent": "command", "program": "/usr/bin/agent", "title": f"Task {number}"}
            state = {"phase": "working", "since": began}
            ended = (began + 5, "done", f"all of {number}") if over else (None, None, None)
            row = (f"s{number:06d}", began, "me@box", f"/tasks/{number}", json.dumps(facts))
            database.execute(
                "INSERT INTO sessions (id, created_at, host, taskdir, facts, ended_at, outcome,"
                " summary, state, percent) VALUES (?,?,?,?,?,?,?,?,?,?)",
                (*row, *ended, json.dumps(state), 40),
            )
            lines = (
                (row[0], event, began + event, event, f"STATUS: {event % 100}% step {event}{words}")
                for event in range(1, events + 1)
            )
            database.executemany(
                "INSERT INTO events (session, number, at, kind, file, generation, offset, line,"
                " repeated) VALUES (?,?,?,'status','optio.log',0,?,?,0)",
                lines,
            )
        database.execute("COMMIT")
