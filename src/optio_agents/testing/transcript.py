"""Record a conversation with a real agent once, and play it as often as you like.

    async with playing(Transcript.named("permission-allowed")) as conversation:
        conversation.on_permission_request(my_handler)
        result = await conversation.ask("whatever you like")

What the agent said comes as it was recorded, each time behind what it had been told until then; the
uuids of your messages stand where those of the recording stood. So handlers can be tested in
milliseconds, with neither an agent nor a model. `names()` are those of the claude CLI;
`names("codex")` and the like those of other agents, whose conversation you attach yourself to a
`TranscriptPlayer`.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Unpack

import anyio

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from optio_agents.conversation import ClaudeCodeConversation
    from optio_agents.conversation.machinery import ConversationOptions


Who: TypeAlias = Literal["said", "heard", "exited"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line: *said* to the CLI, *heard* from it, or how it *exited* ({"code": 0})."""

    who: Who
    message: dict[str, Any]


class Transcript:
    """What was said and heard, in order."""

    def __init__(self, entries: Iterable[Line]) -> None:
        self.entries = tuple(entries)

    @classmethod
    def named(cls, name: str) -> Transcript:
        """One of ours; `names()` lists them. Raises FileNotFoundError."""
        return cls(_entries(_ours().joinpath(f"{name}.jsonl").read_text("utf-8")))

    @classmethod
    def load(cls, path: Path) -> Transcript:
        """Read what `save` wrote. Raises ValueError, OSError."""
        return cls(_entries(path.read_text("utf-8")))

    def save(self, path: Path, *, replace: Mapping[str, str] | None = None) -> None:
        """Write it, with every text of *replace* (paths, hosts, users) replaced by another."""
        text = "".join(f"{json.dumps({entry.who: entry.message})}\n" for entry in self.entries)
        for old, new in (replace or {}).items():
            text = text.replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1])
        path.write_text(text, "utf-8")


def names(agent: str = "") -> list[str]:
    """The transcripts that come with us: claude's, or those of another *agent*."""
    folder = _ours().joinpath(agent) if agent else _ours()
    found = (one.name for one in folder.iterdir() if one.is_file())
    prefix = f"{agent}/" if agent else ""
    return sorted(prefix + name.removesuffix(".jsonl") for name in found)


class Recorder:
    """A process handle that passes everything on to *handle* and writes it down."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._entries = list[Line]()
        self.stdin = self
        self.stdout = self._heard()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def write(self, data: bytes) -> None:
        """What the conversation says."""
        self._keep("said", data)
        self._handle.stdin.write(data)

    async def drain(self) -> None:
        await self._handle.stdin.drain()

    def close(self) -> None:
        self._handle.stdin.close()

    def transcript(self) -> Transcript:
        """What was recorded, up to where the conversation was closed."""
        return Transcript(self._entries)

    async def _heard(self) -> AsyncIterator[bytes]:
        async for line in self._handle.stdout:
            self._keep("heard", line)
            yield line

    def _keep(self, who: Who, line: bytes) -> None:
        for part in line.splitlines():
            last = self._entries[-1] if self._entries else None
            if last is None or not _ends(last):
                self._entries.append(Line(who, json.loads(part)))


class TranscriptPlayer:
    """A process handle behind which a transcript plays; attach a conversation to it.

    A message that has no place in the rest of the transcript ends it with exit code 1, and
    `stderr` says so.
    """

    def __init__(self, transcript: Transcript) -> None:
        self._entries = transcript.entries
        self._said = deque[dict[str, Any]]()  # and not met by an entry yet
        self._ids = dict[str, str]()  # of the recording -> of those who talk now
        self._changed = asyncio.Event()
        self._exited = asyncio.Event()
        self._words = b""
        self.returncode: int | None = None
        self.stdin = self
        self.stdout = self._play()
        self.stderr = self._last_words()

    def write(self, data: bytes) -> None:
        for line in data.splitlines():
            self._said.append(json.loads(line))
        self._changed.set()

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def close(self) -> None:
        """The end of its input ends it."""
        self._exit(0)

    def terminate(self) -> None:
        self._exit(-15)

    def kill(self) -> None:
        self._exit(-9)

    def send_signal(self, number: int) -> None:
        self._exit(-number)

    async def wait(self) -> int:
        await self._exited.wait()
        assert self.returncode is not None
        return self.returncode

    async def _play(self) -> AsyncIterator[bytes]:
        for position, entry in enumerate(self._entries):
            match entry.who:
                case "heard":
                    yield self._renamed(entry.message)
                case "said":
                    await self._meet(position)
                case "exited":
                    self._exit(int(entry.message["code"]), entry.message.get("stderr", ""))
            if self._exited.is_set():
                return
        await self._meet(len(self._entries))

    async def _meet(self, position: int) -> None:
        """Wait until what stands at *position* has been said, or the end has come."""
        while not (self._met(position) or self._exited.is_set()):
            self._changed.clear()
            await self._changed.wait()

    def _met(self, position: int) -> bool:
        rest = self._entries[position:]
        for said in self._said:
            if _ends(Line("said", said)):
                self._exit(0)
            elif rest and self._fits(rest[0], said):
                self._said.remove(said)
                self._take_ids(rest[0].message, said)
                return True
            elif not any(self._fits(entry, said) for entry in rest):
                self._exit(1, f"the transcript has no place for {json.dumps(said)}")
        return False

    def _fits(self, entry: Line, said: dict[str, Any]) -> bool:
        return entry.who == "said" and _kind(entry.message) == _kind(said)

    def _take_ids(self, recorded: dict[str, Any], said: dict[str, Any]) -> None:
        for name in "uuid", "request_id", "id":
            if isinstance(recorded.get(name), str) and name in said:
                self._ids[recorded[name]] = said[name]

    def _renamed(self, message: dict[str, Any]) -> bytes:
        text = json.dumps(message)
        for recorded, given in self._ids.items():
            text = text.replace(recorded, given)
        return text.encode() + b"\n"

    def _exit(self, code: int, words: str = "") -> None:
        if self.returncode is None:
            self.returncode, self._words = code, words.encode()
        self._exited.set()
        self._changed.set()

    async def _last_words(self) -> AsyncIterator[bytes]:
        await self._exited.wait()
        yield self._words


@asynccontextmanager
async def playing(
    transcript: Transcript, **options: Unpack[ConversationOptions]
) -> AsyncIterator[ClaudeCodeConversation]:
    """Converse with *transcript* while the block lasts; *options* are the conversation's."""
    from optio_agents.conversation import ClaudeCodeConversation

    conversation = ClaudeCodeConversation(**options)
    conversation.attach(TranscriptPlayer(transcript))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(conversation.run_reader)
        try:
            yield conversation
        finally:
            await conversation.close()


def _ours() -> Traversable:
    return files("optio_agents.testing").joinpath("transcripts")


def _entries(text: str) -> Iterator[Line]:
    for line in text.splitlines():
        ((who, message),) = json.loads(line).items()
        if who not in {"said", "heard", "exited"} or not isinstance(message, dict):
            raise ValueError(f"no line of a transcript: {line[:100]}")
        yield Line(who, message)


def _kind(message: dict[str, Any]) -> tuple[Any, ...]:
    """What must be equal of two messages for one to stand for the other."""
    match message:
        case {"type": "control_request", "request": {"subtype": subtype}}:
            return "control_request", subtype
        case {"type": "control_response", "response": {"request_id": request_id}}:
            return "control_response", request_id
        case {"method": method}:
            return "method", method
        case {"id": int(asked)}:
            return "answer", asked
    return (message.get("type"),)


def _ends(entry: Line) -> bool:
    return entry.who == "said" and _kind(entry.message) == ("control_request", "end_session")
