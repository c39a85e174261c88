"""Shells that stay on the far side, so that a small question costs one round trip."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import anyio

from optio_agents.errors import HostError, HostLost

from .bootstrap import new_mark, packed, payload, script
from .collect import LONGEST, collected
from .machine import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .ssh_process import SshProcess
    from .ssh_remote import SshRemote

_NO_EXACT_DD = 3  # how it ends where it cannot work
_SHELLS = 3  # of one machine: a slow answer, or a long way, does not hold up the next question
_GROW = 0.02  # seconds that a question waits for a shell before another one is started
_BUSY = 0.25  # seconds that it waits when there are enough, before it takes a channel of its own,
_TURNS = 4.0  # or so many times what an answer usually takes


class WarmShells:
    """Answers scripts; each shell one after the other. Started by the first that needs it."""

    def __init__(self, machine: SshRemote) -> None:
        self._machine = machine
        self._idle: list[_Shell] = []
        self._made = 0
        self._freed = anyio.Event()
        self._usual = 0.0  # seconds, a moving average
        self._unfit = False  # no exact dd there

    async def ask(self, text: str, args: Sequence[str], data: bytes) -> Answer:
        if (shell := await self._take()) is not None:
            began = anyio.current_time()
            try:
                answer = await shell.ask(text, args, data)
                self._usual += (anyio.current_time() - began - self._usual) / 5
                return answer
            except _Unfit:
                self._unfit = True
            finally:
                self._give_back(shell)
        async with self._machine.shell(text, args) as process:
            return await collected(process, data)

    async def _take(self) -> _Shell | None:
        if self._unfit:
            return None
        shell = await self._next_idle(_GROW if self._made else 0)
        if shell is None and self._made < _SHELLS:
            self._made += 1
            return _Shell(self._machine)
        return shell or await self._next_idle(max(_BUSY, _TURNS * self._usual))

    async def _next_idle(self, seconds: float) -> _Shell | None:
        with anyio.move_on_after(seconds):
            while not self._idle:
                await self._freed.wait()
            return self._idle.pop()
        return None

    def _give_back(self, shell: _Shell) -> None:
        self._idle.append(shell)
        freed, self._freed = self._freed, anyio.Event()
        freed.set()


class _Shell:
    """One of them, for one question at a time; another takes its place after a failure."""

    def __init__(self, machine: SshRemote) -> None:
        self._machine = machine
        self._running = AsyncExitStack()
        self._process: SshProcess | None = None

    async def ask(self, text: str, args: Sequence[str], data: bytes) -> Answer:
        done = False
        try:
            process = await self._started()
            try:
                answer = await _exchange(process, packed(payload(text, args)), data)
            except (BrokenPipeError, EOFError):
                code = await process.wait()
                if code == _NO_EXACT_DD:
                    raise _Unfit from None
                raise HostLost(f"the shell on {self._machine.name} ended with {code}") from None
            done = True
            return answer
        finally:
            if not done:
                with anyio.CancelScope(shield=True):
                    await self._discard()

    async def _started(self) -> SshProcess:
        if self._process and self._process.lost:  # nothing was said to it: no outcome is unknown
            await self._discard()
        if self._process is None:
            self._process = await self._running.enter_async_context(
                self._machine.shell(script("warm"))
            )
        return self._process

    async def _discard(self) -> None:
        """Whatever it was at ends; the next question gets another shell."""
        self._process = None
        await self._running.aclose()


class _Unfit(Exception):
    """It said so before it read anything."""


async def _exchange(process: SshProcess, script: bytes, data: bytes) -> Answer:
    mark = new_mark()
    length, _, rest = script.partition(b"\n")
    await process.write(b"%s %s %d\n" % (mark.encode(), length, len(data)) + rest + data)
    stdout, code = await _until(process.read, mark)
    stderr, _ = await _until(process.read_error, mark)
    return Answer(int(code), stdout, stderr)


async def _until(read: Callable[[], Awaitable[bytes]], mark: str) -> tuple[bytes, bytes]:
    """What stands before the line of *mark*, and the rest of that line."""
    said, line = bytearray(), f"\n{mark}".encode()
    while True:
        at = said.rfind(line)
        if at >= 0 and said.endswith(b"\n") and len(said) > at + len(line):
            return bytes(said[:at]), bytes(said[at + len(line) : -1])
        if len(said) > LONGEST:
            raise HostError(f"an answer is longer than {LONGEST} bytes")
        data = await read()
        if not data:
            raise EOFError
        said += data
