"""Handing events to a program of the user's, as JSON on its input, or to a chat or a phone by URL.

Such a URL is a secret: it is said nowhere, and comes from the settings or the environment alone.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio
import anyio.to_thread

from optio_agents.cli.output import as_json
from optio_agents.concurrency import task_group
from optio_agents.display import visible
from optio_agents.errors import missing_extra

from .records import words

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from anyio.abc import Process
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream


PATIENCE = 30.0  # seconds for each call
_WAITING = 100  # notifications that may wait for a slow program
_LEAVING = 60.0  # seconds for what still waits when the last session has ended


@dataclass(frozen=True, slots=True)
class Program:
    """A command line of the user's. What is wrong with it is said, and stops nothing else."""

    command: str
    say: Callable[[str], None]
    output: int | None = None  # where its output goes: None is ours, or subprocess.DEVNULL

    async def run(self, record: Mapping[str, Any]) -> None:
        """Run it with *record* as a line on its input; after PATIENCE it is killed."""
        try:
            process = await anyio.open_process(
                ["/bin/sh", "-c", self.command],
                stdin=subprocess.PIPE,
                stdout=self.output,
                stderr=self.output,
                start_new_session=True,
            )
        except OSError as error:
            return self._complain(f"cannot be started: {error}")
        with anyio.move_on_after(PATIENCE) as patience:
            await _run(process, as_json(record).encode() + b"\n")
        if patience.cancelled_caught:
            self._complain(f"took longer than {PATIENCE:.0f} s and was ended")
        elif process.returncode:
            self._complain(f"exited with {process.returncode}")
        return None

    def _complain(self, what: str) -> None:
        self.say(f"{visible(self.command, limit=60)}: {what}")


async def _run(process: Process, data: bytes) -> None:
    """Give it *data* and see it end. Cancelled, its whole process group is gone."""
    assert process.stdin is not None
    try:
        with suppress(anyio.BrokenResourceError, BrokenPipeError, ConnectionResetError):
            await process.stdin.send(data)  # it need not read it
            await process.stdin.aclose()
        await process.wait()
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            await process.aclose()


_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")


def is_url(text: str) -> bool:
    """Whether *text* names a service to notify, and no program."""
    return _URL.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Service:
    """What is behind a URL that apprise knows. What is wrong is said, and stops nothing."""

    url: str = field(repr=False)
    say: Callable[[str], None]

    async def run(self, record: Mapping[str, Any]) -> None:
        """Tell it what *record* says, within PATIENCE."""
        title = f"optio-agents: {record.get('session') or 'an agent'}: {record['kind']}"
        with anyio.move_on_after(PATIENCE) as patience:
            try:
                trouble = await anyio.to_thread.run_sync(
                    self._send, title, _body(record) or title, abandon_on_cancel=True
                )
            except Exception as error:  # its words may hold the URL
                trouble = f"failed with {type(error).__name__}"
            if trouble:
                self.say(f"the service to notify {trouble}")
        if patience.cancelled_caught:
            self.say(f"the service to notify took longer than {PATIENCE:.0f} s")

    def _send(self, title: str, body: str) -> str:
        """What was wrong."""
        try:
            import apprise  # takes a while
        except ImportError:
            return f"cannot be told: {missing_extra('notify', 'a URL')}"
        for name in "apprise", "urllib3":  # they may say the URL
            logging.getLogger(name).setLevel(logging.CRITICAL)
        service = apprise.Apprise()
        if not service.add(self.url):
            return "has a URL that is none of apprise's (https://github.com/caronc/apprise)"
        return "" if service.notify(title=title, body=body) else "did not take it"


def target(text: str, say: Callable[[str], None], output: int | None = None) -> Program | Service:
    """What *text*, a command line or a URL, stands for."""
    return Service(text, say) if is_url(text) else Program(text, say, output)


@dataclass(slots=True)
class Notifier:
    """Gives a program one record after the other, behind the back of whoever says them."""

    program: Program | Service
    _send: MemoryObjectSendStream[Mapping[str, Any]]
    _page: str | None = None
    _skipped: int = field(default=0, init=False)

    def queue(self, record: Mapping[str, Any]) -> None:
        """Queue *record*. Never waits: what finds no room is skipped, and counted."""
        try:
            self._send.send_nowait({**record, **_link(self._page, record)})
        except anyio.WouldBlock:
            self._skipped += 1

    async def run(self, records: MemoryObjectReceiveStream[Mapping[str, Any]]) -> None:
        async with records:
            async for record in records:
                await self.program.run(record)
        if self._skipped:
            self.program.say(f"{self._skipped} notifications were skipped: the program is slow")


def _body(record: Mapping[str, Any]) -> str:
    return "\n".join(filter(None, (words(record), record.get("page"))))


def _link(page: str | None, record: Mapping[str, Any]) -> dict[str, str]:
    """Where `optio-agents serve` shows what *record* is about, if it is known where it serves."""
    if not page or "session" not in record:
        return {}
    names = ["sessions", str(record["session"])]
    if record["kind"] in ("permission", "question"):
        names += ["requests", str(record["request"])]
    return {"page": f"{page.rstrip('/')}/#/{'/'.join(quote(name, safe='') for name in names)}"}


@asynccontextmanager
async def notifier(program: Program | Service, page: str | None = None) -> AsyncIterator[Notifier]:
    """One for the block; leaving it waits, a bounded while, for what is not told yet."""
    send, records = anyio.create_memory_object_stream[Any](_WAITING)
    queueing = Notifier(program, send, page)
    async with task_group() as tasks:
        tasks.start_soon(queueing.run, records)
        with send:
            yield queueing
        tasks.cancel_scope.deadline = anyio.current_time() + _LEAVING
