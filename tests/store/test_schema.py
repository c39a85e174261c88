"""A journal of an older version goes on with everything in it, in one sequence for each session."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from optio_agents.errors import StoreError
from optio_agents.store import Store
from optio_agents.supervision.events import (
    DeliveryStep,
    LogLine,
    MessageSent,
    RequestDecided,
    RequestOpened,
    SessionBegan,
    TurnEnded,
    event_of,
)

OLD = Path(__file__).with_name("journal-0.3.2.sql")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        database.executescript(OLD.read_text("utf-8"))
    return path


async def test_a_journal_of_schema_1_is_brought_up_and_keeps_everything(path: Path) -> None:
    async with Store(path) as store:
        one, two = await store.sessions()
        events = [event_of(row) for row in await store.events("one")]
        (delivery,) = await store.deliveries("one")
        known = await store.journal("two").start()
        open_requests = await store.journal("two").open_requests()
        read = await store.journal("one").noted("output")
    assert (one.outcome, one.summary, str(one.state)) == ("done", "all", "done")
    assert [type(event) for event in events] == [
        *(SessionBegan, LogLine, MessageSent, LogLine, DeliveryStep, RequestOpened),
        *(RequestDecided, TurnEnded, TurnEnded, LogLine),
    ]
    assert [event.number for event in events] == list(range(1, 11))
    assert [event.at for event in events] == sorted(event.at for event in events)
    asked, decided, turn, failed = events[5:9]
    assert isinstance(asked, RequestOpened)
    assert (asked.request.id, asked.request.input) == ("r1", {"command": "rm -rf build"})
    assert isinstance(decided, RequestDecided)
    assert (decided.request, decided.behavior, decided.by) == ("r1", "allow", "me")
    assert isinstance(turn, TurnEnded)
    assert (turn.turn.outcome, turn.turn.text) == ("completed", "That is all.")
    assert isinstance(failed, TurnEnded)
    assert (failed.turn.outcome, failed.turn.failure) == ("failed", "Not logged in")
    assert (delivery.entry.offset, delivery.path, delivery.saved) == (50, "a.txt", "/kept/a.txt")
    assert read == {"events": 9, "answers": 1}
    # what another run needs of the one that is not over
    assert (two.over, two.state.phase) == (False, "unattended")
    assert [entry.line for entry in known.pending] == ["just words", 'CALLER_MESSAGE: k {"a": 1}']
    assert [reply for _, reply in known.replies] == ["answer to k"]
    assert (known.cursor and known.cursor.offset, known.digests) == (90, b"12345678ijklmnop")
    assert [row.value["id"] for row in open_requests] == ["r2"]


async def test_it_is_brought_up_once_and_goes_on(path: Path) -> None:
    async with Store(path) as first, Store(path) as second:
        assert len(await first.sessions()) == len(await second.sessions()) == 2
        before = await first.events("two")
        await second.journal("two").note("output", "stdout", {})
        assert await first.events("two") == before
        await first.forget("one")
        assert await second.events("one") == []
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (2,)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        names = database.execute("SELECT name FROM sqlite_master").fetchall()
        assert not [name for (name,) in names if name.startswith("old_")]


async def test_a_migration_that_fails_leaves_the_old_journal(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE sessions SET facts='no json' WHERE id='two'")
        database.commit()
    with pytest.raises((StoreError, ValueError)):
        async with Store(path):
            pass
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM notes").fetchone() == (7,)
