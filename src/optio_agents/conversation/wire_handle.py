"""A conversation over the pipes of any process handle."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.concurrency import task_group
from optio_agents.errors import HostLost
from optio_agents.framing.lines import LineSplitter
from optio_agents.hosts import commands
from optio_agents.hosts.commands import ProcessHandle

from .contract import ConversationClosed
from .wire import AnswerTaken, OutputLines, ProcessEnd

if TYPE_CHECKING:
    from optio_agents.framing.cursor import Cursor


_CHUNK = 256 * 1024  # bytes a read
_STDERR = 4096  # bytes kept of it
_LAST_WORDS = 1.0  # s from the end of stdout to that of stderr
_DRAIN = 0.05  # s that a sender waits for an agent that does not read


@dataclass(frozen=True, slots=True)
class _FirstAnswer:
    won: bool
    by: str


class HandleWire:
    """Over `stdin.write/drain` and an async-iterable `stdout`, as asyncio's subprocesses have.

    Where the handle has them, `stderr`, `wait`, `terminate`, `kill` and `pid` are used as well.
    """

    def __init__(
        self, handle: Any, terminate: Callable[[], Any] | None = None, *, line_limit: int
    ) -> None:
        if terminate is None and isinstance(handle, ProcessHandle):
            terminate = partial(commands.terminate, handle, aggressive=False)
        self._handle, self._terminate, self._line_limit = handle, terminate, line_limit
        self._process = getattr(handle, "pid_like", None) or handle
        self._group = _own_group(self._process)
        self.cursor: Cursor | None = None
        self._stderr = bytearray()
        self._stderr_ended = anyio.Event()
        self._answers = dict[str, str]()

    async def say(self, data: bytes, *, name: str | None = None) -> None:
        try:
            self._handle.stdin.write(data)
            with anyio.move_on_after(_DRAIN):
                await self._handle.stdin.drain()
        except (OSError, RuntimeError) as error:
            raise ConversationClosed(f"its input is closed: {error}") from error

    async def answer(self, name: str, data: bytes, by: str, reason: str = "") -> AnswerTaken:
        if name in self._answers:
            return _FirstAnswer(won=False, by=self._answers[name])
        self._answers[name] = by
        await self.say(data)
        return _FirstAnswer(won=True, by=by)

    async def answered(self) -> Callable[[str], bool]:
        return frozenset[str]().__contains__

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncIterator[OutputLines]]:
        async with task_group() as tasks:
            ahead = _Ahead(self._handle.stdout, self._line_limit)
            tasks.start_soon(self._keep_stderr)
            tasks.start_soon(ahead.read)
            yield ahead.lines()
            with anyio.move_on_after(_LAST_WORDS):  # children of the agent may hold it open
                await self._stderr_ended.wait()
            tasks.cancel_scope.cancel()

    async def end_input(self) -> None:
        with suppress(OSError, RuntimeError):
            self._handle.stdin.close()

    async def signal(self, name: str) -> None:
        with suppress(OSError, AttributeError):
            self._process.send_signal(getattr(signal, f"SIG{name}"))

    async def stop(self, grace: float) -> None:
        if self._terminate is not None:
            result = self._terminate()
            if isawaitable(result):
                await result
            return
        for verb in "terminate", "kill":
            with suppress(OSError, AttributeError):
                getattr(self._process, verb)()
            with anyio.move_on_after(grace):
                await self.ended()
                break
        if self._group is not None:  # what the leader of a group leaves behind
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._group, signal.SIGKILL)

    async def ended(self) -> ProcessEnd:
        wait = getattr(self._handle, "wait", None) or getattr(self._process, "wait", None)
        if wait is None:
            return ProcessEnd("unknown", stderr=self._last_words())
        result = wait()
        code = await result if isawaitable(result) else result
        code = getattr(code, "exit_status", code)  # asyncssh tells more than a number
        ended_by = None
        if not isinstance(code, int):
            code = None
        elif code < 0:
            code, ended_by = 128 - code, _signal_name(-code)
        return ProcessEnd("exited", code, ended_by, self._last_words())

    def detach(self) -> None:
        """Its pipes do not outlive us; whether it does is its launcher's to say."""

    async def _keep_stderr(self) -> None:
        if (stderr := getattr(self._handle, "stderr", None)) is not None:
            async for piece in _pieces(stderr):
                self._stderr += piece
                del self._stderr[:-_STDERR]
        self._stderr_ended.set()

    def _last_words(self) -> str:
        return self._stderr.decode(errors="replace")


class _Ahead:
    """Pieces as they come, taken together: many handles give them line by line."""

    def __init__(self, stream: Any, line_limit: int) -> None:
        self._stream, self._line_limit = stream, line_limit
        self._pieces, self._size = list[bytes](), 0
        self._filled, self._taken = asyncio.Event(), asyncio.Event()
        self._failed: HostLost | None = None
        self._done = False

    async def read(self) -> None:
        try:
            async for piece in _pieces(self._stream):
                self._pieces.append(piece)
                self._size += len(piece)
                self._filled.set()
                if self._size >= _CHUNK:
                    self._taken.clear()
                    await self._taken.wait()
        except HostLost as error:
            self._failed = error
        self._done = True
        self._filled.set()

    async def lines(self) -> AsyncIterator[OutputLines]:
        splitter, count, size = LineSplitter(self._line_limit), 0, 0
        while self._pieces or not self._done:
            await self._filled.wait()
            self._filled.clear()
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
            self._taken.set()
            size += len(data)  # a long line comes in many pieces
            if lines := splitter.feed(data, ends=True):
                places = range(count, count + len(lines))
                count = places.stop
                yield OutputLines(lines, size, places, splitter.cut)
                size = 0
        if (size := splitter.size) > 0:
            yield OutputLines([splitter.close()], size, (count,), splitter.cut)
        if self._failed is not None:
            raise self._failed


async def _pieces(stream: Any) -> AsyncIterator[bytes]:
    try:
        # iterating over a StreamReader fails at 64 KiB without a newline; reading does not
        if isinstance(stream, asyncio.StreamReader):
            while piece := await stream.read(_CHUNK):
                yield piece
        else:
            async for piece in stream:
                yield _bytes(piece)
    except Exception as error:
        raise HostLost(f"its output broke off: {error!r}") from error


def _bytes(piece: bytes | str) -> bytes:
    return piece.encode(errors="surrogateescape") if isinstance(piece, str) else piece


def _signal_name(number: int) -> str | None:
    with suppress(ValueError):
        return signal.Signals(number).name.removeprefix("SIG")
    return None


def _own_group(process: object) -> int | None:
    # only asyncio's own are known to be processes of this machine
    if isinstance(process, asyncio.subprocess.Process):
        with suppress(ProcessLookupError):
            return process.pid if os.getpgid(process.pid) == process.pid else None
    return None
