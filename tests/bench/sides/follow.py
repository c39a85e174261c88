"""One side of following.

It is asked "latency HOW FILES APPENDS", "lines HOW FILE" or "idle HOW FILES SETTLE SECONDS". HOW
is ours ("local", "ssh") or the peer ("tail", "ssh-tail"). Ours keeps its follows and its connection
from one round to the next, as the peer keeps its process.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[3]))  # we are run as a script

import anyio
import anyio.to_thread

from optio_agents.framing.batches import FollowOptions
from optio_agents.hosts.local import LocalMachine
from optio_agents.hosts.machine import Machine
from optio_agents.hosts.ssh import SSHConfig, SshMachine
from tests.bench.ground import login_of
from tests.support.hosts.hosts import ssh_config
from tests.support.proc import processes, tagged

# CLOCK_MONOTONIC is one clock for all processes of a machine.
WRITER = """
import os, sys, time
files = [os.open(path, os.O_WRONLY | os.O_APPEND) for path in sys.argv[2:]]
for n in range(int(sys.argv[1])):
    time.sleep(0.004)
    os.write(files[n % len(files)], b"%d\\n" % time.monotonic_ns())
"""
LINE = b"x" * 53 + b"\n"
LINES = 1_000_000
_TICK = os.sysconf("SC_CLK_TCK")

Lines = Callable[[list[bytes]], None]


class Side:
    """What one worker has open."""

    def __init__(self, ssh: SSHConfig, ssh_argv: list[str], directory: Path, tag: str) -> None:
        self._ssh_argv, self._directory, self._tag = ssh_argv, directory, tag
        self._machines: dict[str, Machine] = {"local": LocalMachine(), "ssh": SshMachine(ssh)}

    async def close(self) -> None:
        for machine in self._machines.values():
            await machine.close()

    async def latency(self, how: str, files: int, appends: int) -> dict[str, float]:
        """From write(2) in another process to the line in this one."""
        delays = list[float]()

        def take(lines: Iterable[bytes]) -> None:
            now = time.monotonic_ns()
            delays.extend((now - int(line)) / 1e6 for line in lines)

        paths = self._files(files)
        async with self._following(how, paths, take):
            argv = [sys.executable, "-c", WRITER, str(appends), *map(str, paths)]
            await anyio.run_process(argv)
            with anyio.fail_after(10):
                while len(delays) < appends:  # noqa: ASYNC110 - so often that it would wake us
                    await anyio.sleep(0.01)
        delays.sort()
        return {"ms, p50": median(delays), "ms, p99": delays[int(0.99 * appends)]}

    async def lines(self, how: str, path: Path) -> dict[str, float]:
        """From the wish to follow to the last of a million lines, on a warm connection."""
        count, done = 0, anyio.Event()

        def take(lines: list[bytes]) -> None:
            nonlocal count
            count += len(lines)
            if count >= LINES:
                done.set()

        if how in self._machines:
            await self._machines[how].connect()
        began = time.perf_counter()
        async with self._following(how, [path], take):
            await done.wait()
            seconds = time.perf_counter() - began
        assert count == LINES
        return {"M lines/s": count / seconds / 1e6}

    async def idle(self, how: str, files: int, settle: float, seconds: float) -> dict[str, float]:
        """What following many files costs while nothing is written."""
        threads, children = _threads(), len(family(os.getpid()))
        before = far_processes(self._tag)
        async with self._following(how, self._files(files), lambda _: None):
            await anyio.sleep(settle)
            far = far_processes(self._tag) - before
            began, ours, theirs = time.monotonic(), time.process_time(), cpu(far)
            await anyio.sleep(seconds)
            passed = time.monotonic() - began
            return {
                "% of a core here": 100 * (time.process_time() - ours) / passed,
                "% of a core there": 100 * (cpu(far) - theirs) / passed,
                "processes there": len(far) / 2,  # each with its sshd
                "threads more": _threads() - threads,
                "processes more": len(family(os.getpid())) - children,
            }

    def _files(self, count: int) -> list[Path]:
        paths = [self._directory / f"log{n}" for n in range(count)]
        for path in paths:
            path.write_bytes(b"")
        return paths

    @asynccontextmanager
    async def _following(self, how: str, paths: list[Path], take: Lines) -> AsyncIterator[None]:
        """Follow *paths* while the block lasts; it begins when all are at their end."""
        async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
            for path in paths:
                if how in self._machines:
                    follow = self._machines[how].follow(str(path), None, FollowOptions())
                    batches = await stack.enter_async_context(follow)

                    async def read(batches: object = batches) -> None:
                        async for batch in batches:  # type: ignore[attr-defined]
                            take(batch.lines)

                    tasks.start_soon(read)
                    if path is paths[-1]:
                        while not batches.caught_up and _is_empty(path):  # noqa: ASYNC110
                            await anyio.sleep(0.01)
                else:
                    await self._tail(how, path, stack, tasks, take)
            yield
            tasks.cancel_scope.cancel()

    async def _tail(
        self,
        how: str,
        path: Path,
        stack: AsyncExitStack,
        tasks: anyio.abc.TaskGroup,
        take: Lines,
    ) -> None:
        argv = ["tail", "-n", "+1", "-F", str(path)]
        if how == "ssh-tail":
            argv = [*self._ssh_argv, shlex.join(argv)]
        tail = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        stack.push_async_callback(tail.wait)
        stack.callback(tail.kill)
        stdout = tail.stdout
        assert stdout

        async def read() -> None:
            rest = b""
            while data := await stdout.read(262_144):
                *lines, rest = (rest + data).split(b"\n")
                if lines:
                    take(lines)

        tasks.start_soon(read)
        if _is_empty(path):
            await anyio.sleep(1.0)  # it says nothing when it has begun


def _is_empty(path: Path) -> bool:
    return not path.stat().st_size


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def family(pid: int) -> list[int]:
    return [found.pid for found in processes() if found.parent == pid]


def far_processes(tag: str) -> set[int]:
    """What runs in sessions of the server, and the sshd above each of them."""
    run = tagged(tag)
    return {found.pid for found in run} | {found.parent for found in run}


def cpu(pids: Iterable[int]) -> float:
    """Seconds that they have used so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


async def answer(side: Side, words: list[str]) -> dict[str, float]:
    match words:
        case ["latency", how, files, appends]:
            return await side.latency(how, int(files), int(appends))
        case ["lines", how, path]:
            return await side.lines(how, Path(path))
        case ["idle", how, files, settle, seconds]:
            return await side.idle(how, int(files), float(settle), float(seconds))
    raise ValueError(words)


def make_side() -> Side:
    *arguments, tag = sys.argv[1:]
    login, directory = login_of(arguments)
    own = directory / str(os.getpid())
    own.mkdir()
    return Side(ssh_config(login), login.ssh_argv(), own, tag)


async def serve() -> None:
    side = make_side()
    try:
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            values = await answer(side, line.split())
            sys.stdout.write(json.dumps(values) + "\n")
            sys.stdout.flush()
    finally:
        await side.close()


if __name__ == "__main__":
    anyio.run(serve)
