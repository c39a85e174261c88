"""The journal: whole or not at all, for any number of processes, and for nobody else's eyes."""

# ruff: noqa: ASYNC240  # nobody else needs the event loop meanwhile

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.display import Secrets
from optio_agents.errors import AlreadyOwned, StoreError
from optio_agents.framing.cursor import Cursor
from optio_agents.store import Store, StoredSession
from optio_agents.store.memory import MemoryJournal
from optio_agents.store.records import (
    Delivery,
    Entry,
    Journal,
    Kind,
    Recordable,
    SessionResult,
)
from tests.support.chance import Chance
from tests.support.timeouts import BOUND

SESSION = StoredSession("abc123", 1.5, "me@box", "~/tasks/abc123", {"title": "x", "n": [1]})


def line(offset: int, text: str = "STATUS: x", kind: Kind = "status", generation: int = 0) -> Entry:
    return Entry("optio.log", generation, offset, text, kind)


def behind(entries: list[Entry]) -> Cursor:
    return Cursor(inode=7, offset=entries[-1].offset, lines=len(entries))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "optio-agents" / "journal.sqlite3"


@pytest.fixture(params=["memory", "store"])
async def opened(request: pytest.FixtureRequest, path: Path):  # type: ignore[no-untyped-def]
    """A factory of journals of one session, as one supervisor after the other opens them."""
    memory, stores = MemoryJournal("abc123"), list[Store]()

    async def journal() -> Journal:
        if request.param == "memory":
            return memory
        store = Store(path)
        stores.append(store)
        await store.add(SESSION)
        return store.journal("abc123")

    yield journal
    for store in stores:
        await store.__aexit__(None, None, None)


# What a journal remembers, whichever it is


async def test_what_was_recorded_and_not_done_is_handed_over_again(opened) -> None:  # type: ignore[no-untyped-def]
    journal = await opened()
    entries = [line(10), line(25, "DELIVERABLE: a.txt", "deliverable"), line(30, "DONE", "done")]
    await journal.record(entries[:2], behind(entries[:2]), b"12345678" * 2)
    await journal.record(entries[2:], behind(entries), b"abcdefgh")
    await journal.mark_done([entries[0], entries[2]])
    found = await (await opened()).start()
    assert found.pending == (entries[1],)
    assert (found.ending, found.statuses) == (entries[2], 1)
    assert found.cursor == behind(entries)
    assert found.digests == b"12345678" * 2 + b"abcdefgh"
    assert found.last_lines == ("STATUS: x", "DELIVERABLE: a.txt", "DONE")


async def test_what_nobody_is_to_be_handed_is_done_as_it_is_recorded(opened) -> None:  # type: ignore[no-untyped-def]
    journal = await opened()
    entries = [replace(line(10), done=True), line(25)]
    await journal.record(entries, behind(entries), b"")
    assert (await (await opened()).start()).pending == (entries[1],)


async def test_recording_again_changes_nothing(opened) -> None:  # type: ignore[no-untyped-def]
    journal = await opened()
    entries = [line(10), line(25)]
    await journal.record(entries, behind(entries), b"")
    await journal.mark_done(entries)
    known = await (await opened()).start()
    assert known.pending == ()
    if not isinstance(journal, MemoryJournal):
        await journal.record(entries, behind(entries), b"")
        assert await journal.start() == known


async def test_digests_of_an_older_generation_are_dropped(opened) -> None:  # type: ignore[no-untyped-def]
    journal = await opened()
    await journal.record([line(10)], Cursor(offset=10), b"old.....")
    await journal.record([], Cursor(offset=0, generation=1), b"")
    await journal.record([line(5, generation=1)], Cursor(offset=5, generation=1), b"new.....")
    found = await (await opened()).start()
    assert found.digests == b"new....."
    assert [entry.generation for entry in found.pending] == [0, 1]


async def test_a_delivery_and_a_decided_reply_are_found_again(opened) -> None:  # type: ignore[no-untyped-def]
    journal = await opened()
    first, second = line(10, "DELIVERABLE: a", "deliverable"), line(20, "x", "caller_message")
    await journal.record([first, second], Cursor(offset=20), b"")
    await journal.deliver(Delivery(first, "a"))
    fetched = Delivery(first, "a", 3, "cafe", "accepted", taken=False, saved="/x")
    await journal.deliver(fetched)
    await journal.decide(second, "an answer")
    found = await (await opened()).start()
    assert found.deliveries == (fetched,)
    assert found.replies == ((second, "an answer"),)
    await journal.mark_done([second])
    assert (await (await opened()).start()).replies == ()


@pytest.mark.parametrize("kind", ["sent", "turn"])
async def test_a_message_or_a_turn_of_one_name_is_kept_once(opened, kind: str) -> None:  # type: ignore[no-untyped-def]
    journal = await opened()
    for key, value in ("a", 1), ("a", 2), ("b", 3):
        await journal.append(Recordable(kind, value, 1.0, key=key))
    await journal.append(Recordable("notice", 4, 1.0, key="a"))
    assert [event.value for event in await journal.events(0)] == [1, 3, 4]


async def test_many_lines_at_once_keep_their_order(opened) -> None:  # type: ignore[no-untyped-def]
    journal = await opened()
    entries = [line(number, f"STATUS: {number}") for number in range(1, 3001)]
    await journal.record(entries, behind(entries), b"")
    found = await (await opened()).start()
    assert list(found.pending) == entries
    assert found.last_lines == tuple(entry.line for entry in entries[-20:])


# The store itself


async def test_a_session_is_found_by_the_beginning_of_its_id(path: Path) -> None:
    async with Store(path) as store:
        for name in "abc123", "abd", "abcd", "x", "x1":
            await store.add(StoredSession(name, 1.5, "me@box", "~/t", {"name": name}))
        assert (await store.session("abc1")).id == "abc123"
        assert (await store.session("x")).facts == {"name": "x"}  # an exact one wins
        assert [s.id for s in await store.sessions()] == ["abc123", "abcd", "abd", "x", "x1"]
        with pytest.raises(StoreError, match="may be any of abc123, abcd: say more"):
            await store.session("abc")
        for beginning in "zz", "", "%", "\udcff", "x\0":
            with pytest.raises(StoreError):
                await store.session(beginning)


async def test_another_run_of_a_session_opens_it_again(path: Path) -> None:
    result = SessionResult("abc123", "unreachable", "gone", 1.0, 2.0, last_lines=("x",))
    async with Store(path) as store:
        await store.add(SESSION)
        await store.journal("abc123").end(result)
        ended = await store.session("abc123")
        assert (ended.outcome, ended.summary, ended.ended_at) == ("unreachable", "gone", 2.0)
        assert ended.result is not None
        assert ended.result["last_lines"] == ["x"]
        assert not ended.over
        await store.add(SESSION)
        assert await store.session("abc123") == SESSION


async def test_events_are_told_from_where_one_stands(path: Path) -> None:
    entries = [line(number) for number in range(1, 8)]
    async with Store(path) as store:
        await store.add(SESSION)
        journal = store.journal("abc123")
        await journal.record(entries, behind(entries), b"")
        await journal.mark_done(entries[:1])
        first = await store.events("abc123", most=5)
        rest = await store.events("abc123", after=first[-1].number)
        assert [event.entry for event in first + rest] == entries
        assert [event.done for event in first + rest] == [True] + 6 * [False]
        assert first[0].at == pytest.approx(time.time(), abs=5)


async def test_a_note_of_the_same_name_replaces_the_old_one(path: Path) -> None:
    async with Store(path) as store:
        await store.add(SESSION)
        journal = store.journal("abc123")
        for key, value in ("a", 1), ("b", {"x": "é\n"}), ("a", 2):
            await journal.note("permission", key, value)
        await journal.note("turn", "a", None)
        notes = await store.notes("abc123", "permission")
        assert [(note.key, note.value) for note in notes] == [("b", {"x": "é\n"}), ("a", 2)]
        assert await journal.noted("permission") == 2


async def test_forgetting_leaves_no_trace_of_one_session_and_all_of_another(path: Path) -> None:
    async with Store(path) as store:
        for name in "one", "two":
            await store.add(StoredSession(name, 1.0, "h", "t", {}))
            journal = store.journal(name)
            entry = line(10, "DELIVERABLE: a", "deliverable")
            await journal.record([entry], Cursor(offset=10), b"12345678")
            await journal.deliver(Delivery(entry, "a"))
            await journal.decide(entry, "reply")
            await journal.note("turn", "1", {})
        await store.forget("one")
        kept = await store.journal("two").start()
        assert len(kept.pending) == len(kept.deliveries) == len(kept.replies) == 1
    with closing(sqlite3.connect(path)) as database:
        for table in "sessions", "cursors", "digests", "deliveries", "replies", "notes":
            assert database.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,), table
        assert database.execute("SELECT kind FROM events").fetchall() == [
            ("deliverable",),
            ("delivery",),
        ]


async def test_credentials_never_reach_the_disk(path: Path) -> None:
    secret = 'sk-"quoted"-é-123456'
    async with Store(path) as store:
        await store.add(SESSION)
        journal = store.journal("abc123", Secrets({"API_KEY": secret, "SHORT": "yes"}))
        entry = line(10, f"DELIVERABLE: {secret} yes", "deliverable")
        await journal.record([entry, line(20, secret, "unknown")], Cursor(offset=20), b"")
        await journal.deliver(Delivery(entry, secret, reply=f"no {secret}"))
        await journal.decide(entry, secret)
        await journal.note("turn", "1", {"deep": [{secret: secret}]})
        result = SessionResult("abc123", "error", secret, 1.0, 2.0, last_lines=(secret,))
        await journal.end(result)
        assert (await store.session("abc123")).summary == "[API_KEY]"
        known = await journal.start()
        assert known.pending[0].line == "DELIVERABLE: [API_KEY] yes"
        assert (await store.notes("abc123", "turn"))[0].value == {
            "deep": [{"[API_KEY]": "[API_KEY]"}]
        }
    everything = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert secret.encode() not in everything
    assert b"quoted" not in everything


# The file


async def test_nobody_else_may_read_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(path.parents[1]))
    path.parent.mkdir(parents=True, mode=0o755)
    old = os.umask(0)
    try:
        async with Store() as store:
            await store.add(SESSION)
            assert store.path == path
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
            assert modes == dict.fromkeys(
                ["journal.sqlite3", "journal.sqlite3-wal", "journal.sqlite3-shm"], 0o600
            )
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        os.umask(old)


async def test_another_directory_keeps_the_mode_that_its_user_gave_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    async with Store(tmp_path / "j.sqlite3"):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
        assert stat.S_IMODE((tmp_path / "j.sqlite3").stat().st_mode) == 0o600


async def test_a_newer_schema_is_refused_and_left_as_it_is(path: Path) -> None:
    async with Store(path) as store:
        await store.add(SESSION)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=99")
        database.execute("PRAGMA journal_mode=DELETE")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"newer optio-agents \(schema 99.*upgrade optio-agents"):
        async with Store(path):
            pass
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", ["stranger", "text", "directory", "link", "dangling"])
async def test_what_is_no_journal_of_ours_is_refused_with_a_sentence(path: Path, kind: str) -> None:
    path.parent.mkdir(parents=True)
    match kind:
        case "stranger":
            with closing(sqlite3.connect(path)) as database:
                database.execute("CREATE TABLE theirs (x)")
        case "text":
            path.write_text("I am a letter to my aunt, and quite a long one." * 100)
        case "directory":
            path.mkdir()
        case "link":
            path.with_name("other").touch()
            path.symlink_to("other")
        case _:
            path.symlink_to("nowhere")
    with pytest.raises(StoreError, match=r"journal\.sqlite3"):
        async with Store(path):
            pass
    if kind == "stranger":
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


async def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.touch()
    async with Store(path) as store:
        await store.add(SESSION)
        assert await store.sessions() == [SESSION]


async def test_a_closed_store_says_so(path: Path) -> None:
    store = Store(path)
    async with store:
        pass
    await store.__aexit__(None, None, None)
    with pytest.raises(StoreError, match="is closed"):
        await store.sessions()


async def test_on_a_network_disk_it_does_without_shared_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Store(path) as store:  # made here, and then moved there
        await store.add(SESSION)
    monkeypatch.setattr("optio_agents.store.sqlite.on_network", lambda *_: True)
    async with Store(path) as one, Store(path) as other:
        await one.add(StoredSession("two", 2.0, "h", "t", {}))
        assert [s.id for s in await other.sessions()] == ["abc123", "two"]
        assert sorted(file.name for file in path.parent.iterdir()) == ["journal.sqlite3"]


# What goes wrong in the middle


WRITER = """
import asyncio, sys
from pathlib import Path
from optio_agents.framing.cursor import Cursor
from optio_agents.store.records import Entry
from optio_agents.store import Store, StoredSession

async def main(path, session, batches, size):
    async with Store(Path(path)) as store:
        await store.add(StoredSession(session, 1.0, "h", "t", {}))
        journal = store.journal(session)
        print("ready", flush=True)
        for batch in range(int(batches)):
            first = batch * int(size)
            numbers = range(first + 1, first + int(size) + 1)
            entries = [Entry("optio.log", 0, n, f"STATUS: {n}", "status") for n in numbers]
            await journal.record(entries, Cursor(offset=numbers[-1]), b"12345678" * int(size))
            await journal.mark_done(entries)
            print(numbers[-1], flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def writer(path: Path, session: str, *, batches: int, size: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", WRITER, str(path), session, str(batches), str(size)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


async def test_several_processes_begin_and_write_at_once(path: Path) -> None:
    writers = [writer(path, f"s{number}", batches=40, size=5) for number in range(4)]
    for process in writers:
        with process:
            assert await asyncio.to_thread(process.wait, BOUND) == 0
    async with Store(path) as store:
        assert [s.id for s in await store.sessions()] == ["s0", "s1", "s2", "s3"]
        for session in await store.sessions():
            events = await store.events(session.id)
            assert [event.entry.offset for event in events] == list(range(1, 201))
            assert all(event.done for event in events)
    left = {file.name for file in path.parent.iterdir()}
    assert left == {"journal.sqlite3"}


async def test_killed_in_mid_write_it_is_whole_up_to_some_line(path: Path, chance: Chance) -> None:
    for number in range(min(chance.rounds, 40)):
        session, lines = f"s{number}", chance.random.randrange(1, 30)
        with writer(path, session, batches=10_000, size=50) as process:
            assert process.stdout is not None
            for _ in range(lines):
                said = process.stdout.readline()
            await asyncio.sleep(chance.random.random() * 0.003)
            process.send_signal(signal.SIGKILL)
            more = process.stdout.read().split()
            acknowledged = 0 if (last := (more or [said.strip()])[-1]) == "ready" else int(last)
        async with Store(path) as store:
            known = await store.journal(session).start()
            recorded = 0 if known.cursor is None else known.cursor.offset
            events = await store.events(session, most=1_000_000)
            # A line and the cursor behind it, never one without the other.
            assert [event.entry.offset for event in events] == list(range(1, recorded + 1))
            assert len(known.digests) == 8 * recorded
            assert recorded % 50 == 0
            assert recorded - acknowledged in {0, 50}, "an acknowledged write was lost"
            chance.hit("between writes" if recorded == acknowledged else "behind a write")


async def test_on_a_full_disk_nothing_is_half_written_and_later_it_goes_on(
    small_disk: Path,
) -> None:
    async with Store(small_disk / "journal.sqlite3") as store:
        await store.add(SESSION)
        journal, written = store.journal("abc123"), 0
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(500_000))
        try:
            while written < 10_000:
                entries = [line(written + n, "x" * 1000) for n in range(1, 21)]
                await journal.record(entries, Cursor(offset=written + 20), b"12345678" * 20)
                written += 20
        except StoreError:
            pass
        known = await journal.start()
        assert known.cursor is not None
        assert known.cursor.offset == len(known.pending) == len(known.digests) // 8 == written
        assert 0 < written < 10_000
        ballast.unlink()
        await journal.record([line(written + 1)], Cursor(offset=written + 1), b"")
        assert len((await journal.start()).pending) == written + 1


async def test_what_a_cancelled_caller_began_to_write_is_written(path: Path) -> None:
    async with Store(path) as store:
        await store.add(SESSION)
        journal = store.journal("abc123")
        with anyio.CancelScope() as scope:
            scope.cancel()
            await journal.record([line(10)], Cursor(offset=10), b"")
        assert scope.cancelled_caught
        assert (await journal.start()).pending == (line(10),)


async def test_a_failure_that_nobody_waits_for_any_more_disturbs_nobody(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Store(path) as store:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.journal("unknown session").record([line(10)], Cursor(offset=10), b"")
        assert await store.sessions() == []
    assert not caplog.records


async def test_a_line_of_a_session_that_was_never_added_is_an_error(path: Path) -> None:
    async with Store(path) as store:
        with pytest.raises(StoreError, match="FOREIGN KEY"):
            await store.journal("unknown").record([line(10)], Cursor(offset=10), b"")


HOLDER = """
import sys, time
from pathlib import Path
from optio_agents.store import Store
with Store(Path(sys.argv[1])).claim("abc", "somebody"):
    print("held", flush=True)
    time.sleep(1000)
"""


def test_a_session_has_one_supervisor_for_as_long_as_that_one_lives(path: Path) -> None:
    path.parent.mkdir(parents=True)
    store, lock = Store(path), path.parent / "locks" / "abc"
    argv = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(AlreadyOwned, match="somebody supervises this session") as refused:
            store.claim("abc", "me").__enter__()
        assert refused.value.owner == "somebody"
        with store.claim("another", "me"):
            pass
        holder.kill()
    with store.claim("abc", "me"):
        assert lock.read_text() == "me"
        with pytest.raises(AlreadyOwned, match="me supervises"):
            store.claim("abc", "me too").__enter__()
    assert list(lock.parent.iterdir()) == []


def test_a_lock_that_cannot_be_made_is_an_error_of_the_journal(path: Path) -> None:
    path.parent.mkdir(parents=True)
    (path.parent / "locks").touch()
    with pytest.raises(StoreError, match="lock"):
        Store(path).claim("abc", "me").__enter__()


async def test_a_failure_that_somebody_remembers_keeps_no_file_open(
    small_disk: Path, leaks: Callable[..., Any]
) -> None:
    entries = [line(number) for number in range(1, 200)]
    async with leaks(), Store(small_disk / "j.sqlite3") as store:
        await store.add(SESSION)
        journal = store.journal(SESSION.id)
        await journal.record(entries, Cursor(), b"")
        with (small_disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
            while ballast.write(bytes(4096)):
                pass
        with pytest.raises(StoreError, match="full") as remembered:
            await journal.mark_done(entries)
    assert remembered


def test_a_claim_that_found_the_disk_full_is_given_back(small_disk: Path) -> None:
    store, ballast = Store(small_disk / "j.sqlite3"), small_disk / "ballast"
    (small_disk / "locks").mkdir()
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(StoreError, match="No space left"):
        store.claim("abc", "me").__enter__()
    ballast.unlink()
    with store.claim("abc", "me"):
        pass


def test_claiming_passes_on_what_its_block_raises(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="mine"), Store(path).claim("abc", "me"):
        raise FileNotFoundError("mine")


LOCK = """
import sqlite3, sys
sqlite3.connect(sys.argv[1], timeout=0).execute("BEGIN IMMEDIATE")
"""


async def test_opening_it_again_leaves_the_locks_of_this_process(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """POSIX drops all locks of a process on a file with any descriptor of it that is closed."""
    monkeypatch.setattr("optio_agents.store.sqlite.on_network", lambda *_: True)
    async with Store(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        async with Store(path) as store:
            assert await store.sessions() == []
            argv = [sys.executable, "-c", LOCK, str(path)]
            tried = await asyncio.to_thread(subprocess.run, argv, check=False, capture_output=True)
        assert b"locked" in tried.stderr


async def test_lines_whose_cursor_cannot_be_kept_are_not_kept_either(tmp_path: Path) -> None:
    class Lost(Cursor):
        def to_json(self) -> str:
            raise sqlite3.OperationalError("disk I/O error")

    async with Store(tmp_path / "journal") as store:
        await store.add(SESSION)
        journal = store.journal(SESSION.id)
        with pytest.raises(StoreError, match="disk I/O error"):
            await journal.record([Entry("optio.log", 0, 5, "DONE", "done")], Lost(), bytes(8))
        assert (await journal.start()) == await MemoryJournal().start()


async def test_what_no_json_holds_and_no_database_takes_spoils_no_row(path: Path) -> None:
    """An agent chooses its numbers and the names of its requests."""
    async with Store(path) as store:
        await store.add(SESSION)
        journal = store.journal(SESSION.id)
        raw = {"total_cost_usd": float("nan"), "more": [float("inf"), 1]}
        odd = Recordable("request", {"id": "\ud800"}, 1.0, key="\ud800")
        await asyncio.gather(
            journal.append(odd),
            journal.append(Recordable("turn", {"raw": raw, "cost": 0.5}, 2.0, key="t1")),
            journal.record([line(9)], behind([line(9)]), b""),
        )
        assert [row.value for row in await journal.open_requests()] == [{"id": "\ud800"}]
        known = await store.events(SESSION.id)
        assert [row.kind for row in known] == ["request", "turn", "status"]
        assert known[1].value["raw"] == {"total_cost_usd": None, "more": [None, 1]}
        assert (await store.last_words())[SESSION.id].cost == 0.5
