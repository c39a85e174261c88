"""The other side: published packages in virtual environments of their own, and worker processes.

A worker is a script that runs under some Python, gets its arguments, prepares itself, and then
answers each line on its standard input with one line of JSON: ``{"figure": value, …}``.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.bench import Unavailable
from tests.support.components import cache

ANSWER_LIMIT = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Worker:
    """A running side of a comparison."""

    process: Process
    answers: BufferedByteReceiveStream

    async def round(self, request: str = "") -> Mapping[str, float]:
        """Have it measure once."""
        assert self.process.stdin is not None
        await self.process.stdin.send(request.encode() + b"\n")
        answer = await self.answers.receive_until(b"\n", ANSWER_LIMIT)
        values: Mapping[str, float] = json.loads(answer)
        return values


@asynccontextmanager
async def worker(python: Path, script: Path, *arguments: str) -> AsyncIterator[Worker]:
    """Run *script* under *python* while the block lasts; its standard error is ours."""
    command = [str(python), str(script), *arguments]
    async with await anyio.open_process(command, stderr=None, env=environment(python)) as process:
        try:
            assert process.stdout is not None
            yield Worker(process, BufferedByteReceiveStream(process.stdout))
        finally:
            process.kill()


def environment(python: Path) -> Mapping[str, str]:
    """Ours, without the way to our code for a peer."""
    ours = python == our_python()
    return {name: value for name, value in os.environ.items() if ours or name != "PYTHONPATH"}


def our_python() -> Path:
    """The interpreter that has this library."""
    return Path(sys.executable)


def peer_python(*requirements: str) -> Path:
    """An interpreter that has just *requirements* (exact versions), kept in the cache.

    Raises:
        Unavailable: they cannot be installed.
    """
    home = cache() / "peers" / "+".join(requirements).replace("==", "-")
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "installed").exists():
            _install(home, requirements)
    return home / "bin" / "python"


def _install(home: Path, requirements: tuple[str, ...]) -> None:
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    for command in [sys.executable, "-m", "venv", "--clear", str(home)], [*pip, *requirements]:
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise Unavailable(f"{' '.join(requirements)}: {ran.stderr.strip()[-300:]}")
    (home / "installed").touch()
