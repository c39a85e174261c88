"""What a test left open: descriptors, threads, tasks, child processes, tagged processes."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from tests.support.proc import processes, tagged
from tests.support.timeouts import BOUND


@dataclass(frozen=True, slots=True)
class Census:
    """Everything that this process holds open at one moment, as readable names."""

    entries: frozenset[str]

    @classmethod
    def take(cls) -> Census:
        """Call it inside the running event loop."""
        return cls(frozenset([*_descriptors(), *_threads(), *_tasks(), *_children()]))

    def since(self) -> list[str]:
        """What is open now and was not then."""
        return sorted(Census.take().entries - self.entries)

    async def settle(self, within: float = BOUND) -> None:
        """Wait until nothing is open that was not; an AssertionError lists what stays."""
        await _vanish(self.since, within)


@pytest.fixture
def leaks() -> Callable[..., AbstractAsyncContextManager[Census]]:
    """A block behind which everything that it opened must be closed.

    ``async with leaks():``. Idle workers of thread pools do not count: the event loop
    owns them.
    """
    return no_leaks


@asynccontextmanager
async def no_leaks(*, within: float = BOUND) -> AsyncIterator[Census]:
    before = Census.take()
    yield before
    await before.settle(within)


async def no_process_left(tag: str, within: float = BOUND) -> None:
    """Wait until no live process carries *tag* (see `tests.proc.TAGS`); else AssertionError."""
    await _vanish(lambda: [str(process) for process in tagged(tag)], within)


async def _vanish(look: Callable[[], list[str]], within: float) -> None:
    with anyio.move_on_after(within):
        while look():  # noqa: ASYNC110  # the kernel sends no event
            await anyio.sleep(0.01)
    left = look()
    assert not left, "left open:\n" + "\n".join(left)


def _descriptors() -> list[str]:
    found = list[str]()
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208  # the listing's own fd is skipped below
        with suppress(FileNotFoundError):
            found.append(f"descriptor {number}: {Path('/proc/self/fd', number).readlink()}")
    return found


def _threads() -> list[str]:
    named = {thread.native_id: thread for thread in threading.enumerate()}
    found = list[str]()
    for entry in Path("/proc/self/task").iterdir():
        thread = named.get(int(entry.name))
        if thread is None or not _idle_worker(thread):
            found.append(f"thread {entry.name}: {thread.name if thread else 'not of Python'}")
    return found


def _idle_worker(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001  # the documented way
    while frame is not None and frame.f_code.co_name in {"wait", "get"}:  # Queue.get
        frame = frame.f_back
    if frame is None:
        return False
    where = frame.f_code.co_name, Path(frame.f_code.co_filename).parts[-2:]
    return where in {
        ("_worker", ("futures", "thread.py")),
        ("run", ("_backends", "_asyncio.py")),
    }


def _tasks() -> list[str]:
    current = asyncio.current_task()
    return [
        f"task {id(task):x}: {task.get_name()} {task.get_coro()!r}"
        for task in asyncio.all_tasks()
        if task is not current
    ]


def _children() -> list[str]:
    own = os.getpid()
    return [
        f"child {found.pid}: {found.name}, started {found.start_time}"
        for found in processes()
        if found.parent == own
    ]
