"""Whatever comes in, what we promise of it holds."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from optio_agents.conversation import json_lines
from optio_agents.conversation.claude import stream_json
from optio_agents.display import visible
from optio_agents.errors import FileRefused
from optio_agents.framing.cursor import Cursor
from optio_agents.framing.lines import LineSplitter
from optio_agents.hosts.files import confined
from optio_agents.hosts.local import LocalMachine
from optio_agents.protocol.events import UnknownLine
from optio_agents.protocol.features import ProtocolFeatures
from optio_agents.protocol.keywords import KEYWORDS
from optio_agents.protocol.parser import format_log_line, parse_log_line
from optio_agents.store import Store, StoredSession
from optio_agents.store.memory import MemoryJournal
from optio_agents.store.records import Delivery, Entry
from tests.support.chance import Chance
from tests.support.fuzzing import Fuzzer, seconds

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
    b'{"a":1}{"b":2}',
    b"nonsense \xff",
    stream_json.user_message("/clear \U0001f600 \u2028", "uuid-1"),
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
        lines += splitter.feed(rest[:cut])
        rest = rest[cut:]
    lines += splitter.feed(rest)
    last = splitter.close()
    whole = [line.removesuffix(b"\n")[:16] for line in BytesIO(stream)]
    assert [*lines, *([last] if last else [])] == whole


def codec_survives(data: bytes, _: Path) -> None:
    for event in json_lines.decode(data):
        assert isinstance(event, dict)
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


async def opened(path: str, root: str, by_script: bool) -> bytes | None:
    how = confined._open_there if by_script else confined.open_confined  # noqa: SLF001
    try:
        async with how(LocalMachine(), path, root, limit=None, offset=0) as found:
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


TARGETS: dict[str, tuple[Callable[[bytes, Path], None], list[bytes], int]] = {
    # name: the invariant, samples, and how many times cheaper than the dearest one it is
    "parser": (parser_is_total, LINES, 50),
    "splitter": (splitter_is_that_of_python, [b"\1\2\3\0abc\n\ndef", *LINES], 50),
    "stream_json": (codec_survives, MESSAGES, 20),
    "paths": (nothing_outside_is_opened, [bytes([i, i, 0]) for i in range(12)], 1),
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
