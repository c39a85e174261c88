"""What the suites about following share: ways to write, and ways to wait."""

import ctypes
import os
from contextlib import asynccontextmanager

import anyio

from tests.support.timeouts import BOUND


def append(path, data):
    with path.open("ab") as file:
        file.write(data)


def replace(path, data):
    """Write a new file and rename it, as editors do."""
    other = path.with_name("new")
    other.write_bytes(data)
    other.rename(path)


def rewrite(path, data):
    """Write from the front on, as many bytes as there are."""
    assert len(data) == path.stat().st_size
    with path.open("r+b") as file:
        file.write(data)


def truncate(path, size):
    os.truncate(path, size)


async def take(batches, count):
    """The next *count* lines."""
    lines = []
    with anyio.fail_after(BOUND):
        while len(lines) < count:
            lines += (await anext(batches)).lines
    assert len(lines) == count
    return lines


async def take_all(batches):
    with anyio.fail_after(BOUND):
        return [line async for batch in batches for line in batch.lines]


async def until(condition):
    with anyio.fail_after(BOUND):
        while not condition():  # noqa: ASYNC110 - what is waited for sends no event
            await anyio.sleep(0.01)


@asynccontextmanager
async def reading(batches):
    """Read in the background; yields the lines so far."""
    lines = []

    async def read():
        async for batch in batches:
            lines.extend(batch.lines)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        yield lines
        tasks.cancel_scope.cancel()


def without_inotify(monkeypatch, *, asked=lambda: None):
    """Have the system know of none, as macOS does: everything is polled."""

    def library(*_, **__):
        asked()
        return object()

    monkeypatch.setattr(ctypes, "CDLL", library)
