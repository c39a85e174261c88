"""Conversations: events through a handler, memory behind a slow one, our share of a turn."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median

import anyio

from optio_agents.conversation.claude import ClaudeCodeConversation, claude_code
from optio_agents.hosts.host import LocalHost
from optio_agents.testing.model_server import ModelServer, scripted
from tests.bench import Comparison, Figure, Unavailable
from tests.bench.peers import our_python, peer_python, worker
from tests.support.claude.claude_cli import OFF, surroundings
from tests.support.components import CLAUDE, cache

SPEED = Path(__file__).parents[1] / "sides/conversation.py"
MEMORY = Path(__file__).parents[1] / "sides/conversation_memory.py"
_LIBC = ctypes.CDLL(None)
_MODIFIED, _READ_TO_ITS_END, _REMOVED = 0x2, 0x10, 0x200  # of inotify
PEER = "optio-claudecode==0.3.4"
READING, SAYING = "ms p50, line in the file to handler", "ms p50, send() to bytes in the pipe"
BOTH = "ms p50, both together"


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    count, times = (20_000, 5) if quick else (200_000, 5)
    with tempfile.TemporaryDirectory() as directory:
        stream, chunks = _stream(Path(directory), count), _chunks(Path(directory), count)
        speed, memory = [str(stream), str(count)], [str(stream), str(times)]
        async with (
            worker(our_python(), SPEED, *speed) as ours,
            worker(peer_python(PEER), SPEED, *speed) as peer,
            worker(our_python(), MEMORY, *memory) as slow,
            worker(our_python(), SPEED, str(chunks), str(count), "acp") as acp,
        ):
            yield [
                Comparison(
                    title=f"{count:,} stream-json events through on_event",
                    ours=ours.round,
                    peer=peer.round,
                    peer_name="optio-claudecode 0.3.4",
                    figures=[Figure("events/s", ratio_at_least=2.5)],
                ),
                Comparison(
                    title=f"{count:,} chunks of an ACP agent through on_event",
                    ours=acp.round,
                    figures=[Figure("events/s", at_least=300_000)],
                ),
                Comparison(
                    title=f"{count * times:,} events for a slow subscriber",
                    ours=slow.round,
                    figures=[Figure("MiB of growth", at_most=10)],
                ),
                Comparison(
                    title="our share of a turn of the real claude CLI, journaled, local",
                    ours=lambda: _overhead(3 if quick else 12),
                    figures=[Figure(READING), Figure(SAYING), Figure(BOTH, at_most=5)],
                ),
            ]


def _stream(directory: Path, count: int) -> Path:
    stream = directory / "stream"
    stream.write_bytes(b"".join(_events(count)))
    return stream


def _chunks(directory: Path, count: int) -> Path:
    """What an agent says in one turn, behind its part of the handshake."""
    session, about = "ses_4711", {"sessionUpdate": "agent_message_chunk", "messageId": "msg_1"}
    stream = directory / "chunks"
    with stream.open("w") as lines:
        greeting = {"protocolVersion": 1, "agentInfo": {"name": "nobody"}}
        for name, result in ("initialize", greeting), ("session", {"sessionId": session}):
            answer = {"jsonrpc": "2.0", "id": f"optio-{name}", "result": result}
            lines.write(json.dumps(answer) + "\n")
        for n in range(count):
            update = {**about, "content": {"type": "text", "text": f"some words {n} of it"}}
            params = {"sessionId": session, "update": update}
            whole = {"jsonrpc": "2.0", "method": "session/update", "params": params}
            lines.write(json.dumps(whole) + "\n")
    return stream


def _events(count: int) -> Iterator[bytes]:
    ids = {"session_id": "320e8b3a-5b6c-4e65-99a4-1c3528a380ad", "parent_tool_use_id": None}
    for n in range(count):
        delta = {"type": "text_delta", "text": f"some words {n} of it"}
        event = {"type": "content_block_delta", "index": 0, "delta": delta}
        uuid = f"bbb3e367-5b6c-4e65-99a4-{n:012d}"
        whole = {"type": "stream_event", "event": event, **ids, "uuid": uuid}
        yield json.dumps(whole).encode() + b"\n"


async def _overhead(turns: int) -> Mapping[str, float]:
    found = cache() / "claude" / CLAUDE / "claude"
    if not found.exists():
        raise Unavailable(f"claude {CLAUDE} is not installed")
    with tempfile.TemporaryDirectory() as root, anyio.fail_after(60):
        async with ModelServer().serve() as api, LocalHost(f"{root}/task") as host:
            await host.setup_workdir()
            env = surroundings(Path(root), api)
            async with claude_code(
                host, executable=str(found), env=env, env_base="empty", arguments=OFF
            ) as conversation:
                await conversation.ask(scripted({"text": "warm"}))
                await anyio.sleep(0.2)  # lets what follows the result pass
                with _watched(Path(root, "task", "session")) as watch:
                    return await _turns(conversation, watch, turns)


async def _turns(
    conversation: ClaudeCodeConversation, watch: _Watch, turns: int
) -> Mapping[str, float]:
    entered, called = list[float](), list[float]()
    conversation.on_event(lambda _: entered.append(time.perf_counter()))
    for _ in range(turns):
        called.append(time.perf_counter())
        await conversation.ask(scripted({"text": "one two three", "chunks": 3}))
        await anyio.sleep(0.05)  # likewise
    reading = median(_delays(watch.lines, entered))
    saying = median(_delays(called, watch.fed))
    return {READING: reading, SAYING: saying, BOTH: reading + saying}


def _delays(earlier: list[float], later: list[float]) -> list[float]:
    assert len(earlier) == len(later), f"{len(earlier)} things, {len(later)} of them seen again"
    return [1000 * (after - before) for before, after in zip(earlier, later, strict=True)]


class _Watch(threading.Thread):
    """Sees when lines appear in the journal, and when a message has been read into the pipe."""

    def __init__(self, session: Path) -> None:
        super().__init__(daemon=True)
        self._journal = (session / "stdout").open("rb")
        self._journal.seek(0, 2)
        self._events, ours = _LIBC.inotify_init1(os.O_CLOEXEC), str(session).encode()
        if self._events < 0:
            raise Unavailable("no inotify instance is free")
        self._stdout = _LIBC.inotify_add_watch(self._events, ours + b"/stdout", _MODIFIED)
        _LIBC.inotify_add_watch(self._events, ours + b"/in", _READ_TO_ITS_END | _REMOVED)
        self.lines, self.fed = list[float](), list[float]()

    def run(self) -> None:
        over = False
        while not over:
            data, now, at = os.read(self._events, 1 << 16), time.perf_counter(), 0
            while at < len(data):
                watch, mask, _, size = struct.unpack_from("iIII", data, at)
                name = data[at + 16 : at + 16 + size].rstrip(b"\0")
                at += 16 + size
                if watch == self._stdout:
                    self.lines += [now] * self._journal.read().count(b"\n")
                elif mask & _READ_TO_ITS_END and name[:1].isdigit():
                    self.fed.append(now)
                over = over or name == b".over"
        self._journal.close()
        os.close(self._events)


@contextmanager
def _watched(session: Path) -> Iterator[_Watch]:
    watch, before = _Watch(session), sys.getswitchinterval()
    sys.setswitchinterval(0.0002)  # or it would measure how long Python's threads hold each other
    watch.start()
    try:
        yield watch
    finally:
        (session / "in" / ".over").touch()
        (session / "in" / ".over").unlink()
        watch.join()
        sys.setswitchinterval(before)
