"""Whatever comes in, what we promise of it holds."""

from __future__ import annotations

import asyncio
import json
import os
import random
import stat
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from optio_agents.agents import lease
from optio_agents.agents.input import GivenAnswer
from optio_agents.agents.launch import read_meta
from optio_agents.agents.status import parse_status
from optio_agents.cli.output import as_json
from optio_agents.cli.screen import live, questions
from optio_agents.cli.screen.records import plain, records_of
from optio_agents.cli.verbs import sessions
from optio_agents.conversation import PermissionDecision, json_lines
from optio_agents.conversation.acp.dialect import AcpDialect, AcpSetup
from optio_agents.conversation.claude import stream_json
from optio_agents.conversation.claude.dialect import ClaudeDialect
from optio_agents.conversation.claude.permissions import answer_questions
from optio_agents.conversation.codex.dialect import CodexDialect, CodexSetup
from optio_agents.conversation.dialect import Dialect, PermissionAsked, TurnOver
from optio_agents.conversation.wire import OutputLines
from optio_agents.display import Secrets, visible
from optio_agents.errors import AgentError, FileRefused
from optio_agents.framing.cursor import Cursor
from optio_agents.framing.lines import LineSplitter
from optio_agents.hosts.files import confined
from optio_agents.hosts.host import Host
from optio_agents.hosts.local import LocalMachine
from optio_agents.protocol.events import UnknownLine
from optio_agents.protocol.features import ProtocolFeatures
from optio_agents.protocol.keywords import KEYWORDS
from optio_agents.protocol.parser import format_log_line, parse_log_line
from optio_agents.store import Store, StoredSession
from optio_agents.store.memory import MemoryJournal
from optio_agents.store.records import Delivery, Entry, is_session_id
from optio_agents.supervision import OpenRequest, RequestOpened, TurnEnded
from optio_agents.supervision.events import AgentEvent, recorded
from optio_agents.supervision.kinds import conversing, kind_named
from optio_agents.supervision.kinds.conversing import kept_turn
from optio_agents.supervision.kinds.passages import read_output
from optio_agents.supervision.limits import SessionMeter
from optio_agents.supervision.recording import Recording
from optio_agents.supervision.sessions import stored_of
from optio_agents.testing import transcript
from tests.support.chance import Chance
from tests.support.fuzzing import Fuzzer, seconds, warped

ALL = ProtocolFeatures(browser="redirect", client_messages=True, caller_messages=True)
LINES = [
    *(example.encode() for row in KEYWORDS for example in row.examples),
    b"STATUS: 101% \xff\x1b[2J",
    "\ufeffSTATUS: ٤٢% \u202eback".encode(),
    b'CLIENT_MESSAGE: k {"a": [' + b"[" * 70 + b"]" * 70 + b"]}",
    b'CALLER_MESSAGE: k {"a": NaN, "b": "\\ud800"}',
]
MESSAGES = [
    b'{"type":"system","subtype":"init","session_id":"1"}',
    b'{"type":"result","subtype":"success","is_error":true,"user_message_uuids":["a"]}',
    b'{"type":"control_request","request_id":"r","request":{"subtype":"can_use_tool"}}',
    b"[" * 5000,
    b'{"type":"assistant","message":{"content":' + b"[" * 600 + b"]" * 600 + b"}}",
    b'{"type":"control_request","request_id":"r","request":{"subtype":"can_use_tool",'
    b'"tool_name":"Bash","input":{"a":' + b"[" * 600 + b"]" * 600 + b"}}}",
    b'{"a":1}{"b":2}',
    b"nonsense \xff",
    stream_json.user_message("/clear \U0001f600 \u2028", "uuid-1"),
    b'{"type":"a"}\n{"b":[{}\n{}]}\n{},{}\n{"type":"b\nc"}\n[]\n',
]


def parser_is_total(data: bytes, _: Path) -> None:
    for text in (data.decode("utf-8", "replace"), data.decode("latin-1")):
        event = parse_log_line(text, features=ALL)
        if not isinstance(event, UnknownLine):
            assert parse_log_line(format_log_line(event, features=ALL), features=ALL) == event
        shown = visible(text, limit=80)
        assert len(shown) <= 80
        assert shown.isprintable()


def splitter_is_that_of_python(data: bytes, _: Path) -> None:
    cuts, stream = data[:8], data[8:]
    splitter, lines, rest = LineSplitter(limit=16), list[bytes](), stream
    for cut in cuts:
        lines += splitter.feed(rest[:cut], ends=cut % 2 == 1)
        rest = rest[cut:]
    lines += splitter.feed(rest)
    last = splitter.close()
    whole = [line.removesuffix(b"\n")[:16] for line in BytesIO(stream)]
    assert [line.removesuffix(b"\n") for line in [*lines, *([last] if last else [])]] == whole


def codec_survives(data: bytes, _: Path) -> None:
    for event in json_lines.decode(data):
        assert isinstance(event, dict)
    lines = data.split(b"\n")
    alone = [event for line in lines for event in json_lines.decode(line)]
    assert repr(json_lines.read_events([line + b"\n" for line in lines]).events) == repr(alone)
    text = data.decode("utf-8", "surrogateescape")
    line = stream_json.user_message(text, "uuid-1")
    assert line.count(b"\n") == 1
    assert json.loads(line)["message"]["content"].endswith(text)
    front = stream_json.message_of(line[: 40 + len(line) // 2])
    assert front is None or front.uuid == "uuid-1"


PIECES = (b"a", b"sub", b"in", b"out", b"up", b"loop", b"fifo", b"..", b".", b"", b"none", b"/")


def path_of(data: bytes) -> str:
    pieces = [PIECES[byte] if byte < len(PIECES) else bytes([byte]) for byte in data[:12]]
    text = b"/".join(pieces).replace(b"\0", b"").replace(b"\n", b"")
    return os.fsdecode(text)


def nothing_outside_is_opened(data: bytes, place: Path) -> None:
    root = place / "work/deliverables"
    if not root.exists():
        (root / "sub").mkdir(parents=True)
        (root / "a").write_bytes(b"inside")
        (root / "sub/a").write_bytes(b"inside")
        (place / "secret").write_bytes(b"outside")
        for name, target in ("in", "a"), ("out", "../../secret"), ("up", ".."), ("loop", "loop"):
            (root / name).symlink_to(target)
        os.mkfifo(root / "fifo")
    path = os.path.join(root, path_of(data[1:]))  # noqa: PTH118 - as bytes say it
    expected = b"inside" if truly_inside(path, root) else None
    by_script = bool(data) and data[0] % 2 == 1  # as on a host behind SSH
    assert asyncio.run(opened(path, str(root), by_script)) == expected


def truly_inside(path: str, root: Path) -> bool:
    """What the kernel says of it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        real = Path(f"/proc/self/fd/{descriptor}").readlink()
        return real.is_relative_to(root) and stat.S_ISREG(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


class Elsewhere(LocalMachine):
    """This machine, asked by scripts."""

    is_local = False


async def opened(path: str, root: str, by_script: bool) -> bytes | None:
    machine = Elsewhere() if by_script else LocalMachine()
    try:
        async with confined.open_confined(machine, path, root) as found:
            return await found.read()
    except FileRefused:
        return None


def store_is_like_memory(data: bytes, place: Path) -> None:
    (place / "journal.sqlite3").unlink(missing_ok=True)
    asyncio.run(same_as_memory(data[:40], place / "journal.sqlite3"))


async def same_as_memory(data: bytes, path: Path) -> None:
    async with Store(path) as store:
        await store.add(StoredSession("one", 0.0, "local", "/t", {}))
        memory, stored = MemoryJournal("one"), store.journal("one")
        entries: list[Entry] = []
        decided: set[Entry] = set()  # once each, and only while it is open: as the driver does
        for number, byte in enumerate(data):
            old = entries[byte % len(entries)] if entries else None
            for journal in memory, stored:
                if byte % 4 == 0 or old is None:
                    kind = ("status", "unknown", "done", "deliverable")[byte // 4 % 4]
                    generation = number // 16
                    new = Entry("optio.log", generation, number, f"line {byte}", kind)
                    cursor = Cursor(1, 2, 3, 4, number, generation, number, "", 0)
                    await journal.record([new], cursor, bytes(8))
                elif byte % 4 == 1:
                    await journal.mark_done([old])
                    decided.add(old)
                elif byte % 4 == 2:
                    await journal.deliver(Delivery(old, "a", byte, None, "fine", byte > 99))
                elif old not in decided:
                    await journal.decide(old, f"reply {byte}")
            if byte % 4 == 0 or old is None:
                entries.append(new)
            elif byte % 4 == 3:
                decided.add(old)
        assert await stored.start() == await memory.start()


# What comes from an agent, or from its host, and is read as JSON


def lines_of(agent: str) -> list[bytes]:
    """What that agent has said in our recordings, a recording each."""
    texts = (transcript.Transcript.named(name) for name in transcript.names(agent))
    heard = ([one.message for one in text.entries if one.who == "heard"] for text in texts)
    return [agent.encode() + b"\n" + b"\n".join(map(json_of, lines[:40])) for lines in heard]


def json_of(value: object) -> bytes:
    return json.dumps(value).encode()


def events_in(data: bytes) -> list[bytes]:
    """The lines of *data*, and what JSON stands in them with other values here and there."""
    dice, lines = random.Random(data), list[bytes]()
    for line in data.split(b"\n"):
        try:
            lines.append(json_of(warped(json.loads(line), dice)))
        except (ValueError, RecursionError):
            lines.append(line)
    return lines


DIALECTS: dict[bytes, Callable[[], Dialect]] = {
    b"": lambda: ClaudeDialect(echoes=True),
    b"codex": lambda: CodexDialect(CodexSetup("/work")),
    b"gemini": lambda: AcpDialect(AcpSetup("/work")),
}
SECRETS = Secrets({"TOKEN": "hunter2-hunter2"})
DECISIONS = PermissionDecision("allow"), PermissionDecision("deny", message="no")


def whatever_it_says_is_read_kept_and_shown(data: bytes, place: Path) -> None:
    agent, *lines = events_in(data)
    dialect = DIALECTS.get(agent, DIALECTS[b""])()
    reader = kind_named({b"codex": "codex", b"gemini": "acp"}.get(agent, "claude")).passages()
    for passage in read_output(BytesIO(b"\n".join(lines)), reader):
        assert all(isinstance(text, str) for text in passage)
    dialect.sent("a")
    output = OutputLines(lines, len(data), range(len(lines)))
    events, facts = dialect.read(output, 0.0)
    assert all(isinstance(event, dict) for event in events)
    happened = [AgentEvent(SECRETS.hide_in(event)) for event in events]
    for fact in facts:
        match fact:
            case PermissionAsked(request):
                asked = OpenRequest.of(request)
                happened.append(RequestOpened(request, asked.digest))
                for decision in (*DECISIONS, answer_questions(request, {"q": "a"})):
                    with suppress(ValueError):  # it cannot be told that
                        assert dialect.permission_answer(request, decision).count(b"\n") == 1
                shown = asked.hiding(SECRETS).request
                for text in questions.heading(shown), questions.block(questions.body(shown), 80):
                    assert all(line.isprintable() for line in text.split("\n"))
            case TurnOver(turn):
                happened.append(TurnEnded(kept_turn(turn, ("total_cost_usd", "result"), SECRETS)))
    row = live.LiveRow("title")
    for event in happened:
        row.see(event)
        assert list(row.cells())
        for record in records_of(event, "s1"):
            assert plain(record).isprintable()
            assert json.loads(as_json(record), parse_constant=pytest.fail)
    if len(data) % 8 == 0:  # a journal takes a while
        (place / "journal.sqlite3").unlink(missing_ok=True)
        asyncio.run(kept_and_told(happened, place / "journal.sqlite3"))


async def kept_and_told(happened: list[Any], path: Path) -> None:
    async with Store(path) as store:
        await store.add(StoredSession("s1", 0.0, "local", "/t", {"agent": "claude"}))
        recording = Recording(store.journal("s1", SECRETS), SECRETS, by="us")
        for event in happened:
            if not isinstance(event, AgentEvent):
                await recording.add(event)
        meter = SessionMeter(max_usd=1e300)
        await meter.recall(recording.records)
        assert f"{meter.usd:.2f}"
        found = [event async for event in recorded(recording.records, 0)]
        assert len(found) <= len(happened)
        await store.last_words()
        story = await sessions._happened(store, "s1")  # noqa: SLF001
        assert all(sessions._in_words(one) for one in story)  # noqa: SLF001


def files_of_a_session_are_what_they_should_be_or_refused(data: bytes, _: Path) -> None:
    lines = events_in(data)
    for line in lines:
        with suppress(AgentError):
            meta = read_meta(line)
            assert {type(meta[name]) for name in ("session", "cwd", "log", "deliverables")} == {str}
            stored = stored_of(Host(LocalMachine(), "/t"), meta["meta"])
            assert is_session_id(stored.id)
            assert stored.facts["title"] == stored.facts["title"][:500]
        for name, text in conversing._queued([line]):  # noqa: SLF001
            assert "/" not in name
            assert isinstance(text, tuple | dict)
        assert GivenAnswer.load(line).by
        assert lease._name_in(line.decode("utf-8", "replace"))  # noqa: SLF001
    for kind in "command", "claude", "codex", "acp":
        for passage in read_output(BytesIO(b"\n".join(lines)), kind_named(kind).passages()):
            assert all(isinstance(text, str) for text in passage)
    with suppress(ValueError, KeyError):
        status = parse_status(data.decode("utf-8", "replace"))
        assert status.end() is None or not status.running
        assert status.quiet_for >= 0


META = {
    "v": 1, "session": "s.1", "argv": ["x"], "cwd": "/w", "log": "/w/optio.log",
    "deliverables": "/w/deliverables",
    "meta": {
        "id": "s1", "created_at": 1.0, "agent": "claude", "program": "claude", "title": "t",
        "features": {"browser": "redirect"}, "hidden": ["TOKEN"], "rules": {"max_usd": 1.0},
        "setup": {"session": "x"}, "sealed": "00ff",
    },
}  # fmt: skip
FILES = [
    json_of(META),
    json_of({"name": "0001-aa", "text": "hello"}),
    b'4 "somebody"\nyes\n',
    b'"process 1 on box"',
    b"state running\ncode \ntag a.1\npid 1 2 b\nsizes 1 2\nfree 9\nquiet -5\n",
    b"state exited\ncode 0\nsizes 1\nfree x\nquiet nan",
    json_of({"type": "assistant", "message": {"content": [{"type": "text", "text": "x"}]}}),
]

TARGETS: dict[str, tuple[Callable[[bytes, Path], None], list[bytes], int]] = {
    # name: the invariant, samples, and how many times cheaper than the dearest one it is
    "parser": (parser_is_total, LINES, 50),
    "splitter": (splitter_is_that_of_python, [b"\1\2\3\0abc\n\ndef", *LINES], 50),
    "stream_json": (codec_survives, MESSAGES, 20),
    "paths": (nothing_outside_is_opened, [bytes([i, i, 0]) for i in range(12)], 1),
    "agents": (
        whatever_it_says_is_read_kept_and_shown,
        [*lines_of(""), *lines_of("codex"), *lines_of("gemini"), *(b"\n" + m for m in MESSAGES)],
        1,
    ),
    "files": (files_of_a_session_are_what_they_should_be_or_refused, FILES, 10),
    "store": (store_is_like_memory, [bytes(range(0, 160, 7)), bytes(40)], 1),
}


@pytest.mark.fuzz
@pytest.mark.parametrize("name", TARGETS)
def test_what_is_promised_holds_for_any_input(
    name: str, chance: Chance, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    holds, samples, cheap = TARGETS[name]
    fuzzer = Fuzzer(name, samples, chance.random)
    told = request.config.getoption("--fuzz")
    lasting = seconds(told) / len(TARGETS) if told else None
    for data in fuzzer.inputs(rounds=chance.rounds * cheap // 10 + 1, lasting=lasting):
        try:
            holds(data, tmp_path)
        except Exception:
            pytest.fail(f"broken by {fuzzer.keep(data)}", pytrace=True)
        chance.hit(name)
