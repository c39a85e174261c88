"""Bring a file to a host: streamed, landed whole or not at all."""

from __future__ import annotations

import secrets
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from optio_agents.errors import FileRefused, TransferFailed

from .bootstrap import script
from .collect import collected
from .commands import run_script
from .landing import Landing, told
from .progress import Meter, metered
from .sources import Source, sha256
from .tasks import task_group

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.streams.memory import MemoryObjectSendStream

    from .machine import Answer, Machine, Process
    from .progress import Progress
    from .sources import Readable

_AT_ONCE = 262_144  # bytes that are sent in one round trip, together with the script
_AHEAD = 8  # blocks read ahead of the link
_USUAL = 0o666  # less the umask, for what has no mode of its own


@dataclass(frozen=True, slots=True)
class Put:
    """What stands at the target now."""

    size: int
    sha256: str  # empty unless an expected one was given, or what is there compared with it
    sent: bool  # False: it stood there already


async def put(
    machine: Machine,
    readable: Readable,
    target: str,
    *,
    expected_sha256: str | None = None,
    skip_if_unchanged: bool = False,
    progress: Progress | None = None,
) -> Put:
    """See `Host.put_file_to_host`."""
    source = _looked_at(readable, hashed=expected_sha256 is not None)
    wanted = expected_sha256
    if skip_if_unchanged and (wanted := wanted or await sha256(readable)):
        there = await run_script(machine, script("digest"), [target, _or_dash(source.size)])
        if there.stdout.decode() == wanted.lower():
            return Put(source.size or 0, wanted, sent=False)
    meter = Meter(source.size)
    expected = (expected_sha256 or "").lower()
    async with metered(meter, progress), aclosing(source.blocks()) as blocks:
        if machine.is_local:
            await _land(source, blocks, Path(target), expected, meter)
        else:
            mode = "-" if source.mode is None else f"{source.mode:o}"
            await _send(machine, blocks, [target, secrets.token_hex(16), mode, expected], meter)
    return Put(meter.done, source.sha256() or wanted or "", sent=True)


async def _land(
    source: Source, blocks: AsyncIterator[bytes], target: Path, expected: str, meter: Meter
) -> None:
    """What put.sh does, for files of this machine: without a shell in between."""
    with Landing.at(target) as landing:
        await anyio.to_thread.run_sync(_begin_here, landing, target, source.mode)
        async for block in blocks:
            await anyio.to_thread.run_sync(landing.write, [block])
            meter.done += len(block)
        if expected and source.sha256() != expected:
            raise _not_expected(str(target))
        await anyio.to_thread.run_sync(landing.finish)


def _begin_here(landing: Landing, target: Path, mode: int | None) -> None:
    if target.is_dir():
        raise FileRefused(str(target), "directory", "is a directory")
    with told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    landing.begin(_USUAL if mode is None else mode)


async def _send(
    machine: Machine, blocks: AsyncIterator[bytes], args: list[str], meter: Meter
) -> None:
    answer = await _carry(machine, blocks, args, meter)
    _check(answer, args[0], meter.done)


async def _carry(
    machine: Machine, blocks: AsyncIterator[bytes], args: list[str], meter: Meter
) -> Answer:
    text, seal = script("put"), args[1].encode()
    head = bytearray()
    async for block in blocks:
        head += block
        if len(head) > _AT_ONCE:
            break
    else:
        answer = await machine.ask(text, args, data=bytes(head) + seal)
        meter.done = len(head)
        return answer
    async with machine.shell(text, args, bulk=True) as process:
        with suppress(BrokenPipeError):  # it gave up: its exit code tells
            await process.write(bytes(head))
            meter.done = len(head)
            await _pump(blocks, process, meter)
            await process.write(seal)
        return await collected(process)


async def _pump(blocks: AsyncIterator[bytes], process: Process, meter: Meter) -> None:
    """Read ahead of the link, a little."""
    send, receive = anyio.create_memory_object_stream[bytes](_AHEAD)
    async with task_group() as tasks, receive:
        tasks.start_soon(_read_ahead, blocks, send)
        async for block in receive:
            await process.write(block)
            meter.done += len(block)


async def _read_ahead(blocks: AsyncIterator[bytes], send: MemoryObjectSendStream[bytes]) -> None:
    async with send:
        with suppress(anyio.BrokenResourceError):  # the other side says why it left
            async for block in blocks:
                await send.send(block)


def _looked_at(readable: Readable, *, hashed: bool) -> Source:
    try:
        return Source.of(readable, hashed=hashed)
    except OSError as error:
        raise TransferFailed(f"{readable!r} cannot be read: {error.strerror}") from error


def _or_dash(size: int | None) -> str:
    return "-" if size is None else str(size)


def _check(answer: Answer, target: str, size: int) -> None:
    match answer.exit_code:
        case 0 if answer.stdout == b"%d" % size:
            return
        case 0 | 65:
            raise TransferFailed(f"{target}: not all of it arrived")
        case 66:
            raise FileRefused(target, "directory", "is a directory")
        case 67:
            raise _not_expected(target)
        case code:
            said = answer.stderr.decode(errors="replace").strip() or f"put.sh exited with {code}"
            raise TransferFailed(f"{target}: {said}")


def _not_expected(target: str) -> TransferFailed:
    return TransferFailed(f"{target}: its SHA-256 would not be the expected one")
