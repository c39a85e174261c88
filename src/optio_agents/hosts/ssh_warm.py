"""One shell that stays on the far side, so that a small question costs one round trip."""

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
_BUSY = 0.25  # seconds that a question waits for its turn before it takes a channel of its own,
_TURNS = 4.0  # or so many times what an answer usually takes


class WarmShell:
    """Answers scripts one after the other. Started by the first, and again after a failure."""

    def __init__(self, machine: SshRemote) -> None:
        self._machine = machine
        self._turn = anyio.Lock()
        self._running = AsyncExitStack()
        self._process: SshProcess | None = None
        self._usual = 0.0  # seconds, a moving average
        self._unfit = False  # no exact dd there

    async def ask(self, text: str, args: Sequence[str], data: bytes) -> Answer:
        with anyio.move_on_after(max(_BUSY, _TURNS * self._usual)) as patience:
            await self._turn.acquire()
        if patience.cancelled_caught or self._unfit:
            if not patience.cancelled_caught:
                self._turn.release()
            return await self._ask_apart(text, args, data)
        try:
            return await self._ask_here(text, args, data)
        except _Unfit:
            self._unfit = True
        finally:
            self._turn.release()
        return await self._ask_apart(text, args, data)

    async def _ask_apart(self, text: str, args: Sequence[str], data: bytes) -> Answer:
        async with self._machine.shell(text, args) as process:
            return await collected(process, data)

    async def _ask_here(self, text: str, args: Sequence[str], data: bytes) -> Answer:
        began, done = anyio.current_time(), False
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
            self._usual += (anyio.current_time() - began - self._usual) / 5
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
