"""Hosts of other makes: those that have only the published, smaller set of methods.

What such a host can give is what it gets: the log is read by its `tail_file` and held against the
whole file now and then; a deliverable is checked, fetched, and checked again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from optio_agents.errors import FileRefused, HostError, HostLost
from optio_agents.framing.batches import COMPARED_LINES, LINE_LIMIT, RIPE_AFTER, Batch
from optio_agents.framing.cursor import Cursor
from optio_agents.hosts.files.fetch import FetchedFile
from optio_agents.hosts.machine import Answer, LinkStatus
from optio_agents.hosts.scripting import quote, script

if TYPE_CHECKING:
    from pathlib import Path

    from anyio.abc import TaskGroup

    from optio_agents.hosts.host import Host


# Following a log by somebody else's `tail_file`, which may end, hang or repeat itself.


_log = logging.getLogger(__name__)

_WITH_TAIL = 15.0  # seconds without a line until the file itself is looked at
_WITHOUT = 1.0  # the same once the tail has ended
_WAITING = 1000  # lines from the tail


@dataclass(slots=True)
class Ledger:
    """Which lines of which generation were delivered."""

    generation: int = 0
    lines: int = 0
    offset: int = 0
    seen: list[bytes] = field(default_factory=list)  # digests of the first of them
    owed: bytes = b""  # digests of this generation that no batch has brought yet

    def batch(self, lines: list[bytes], *, unterminated: bool = False) -> Batch:
        """Deliver *lines*."""
        ends = list[int]()
        for line in lines:
            self._count(line)
            ends.append(self.offset)
        digests, self.owed = self.owed, b""
        return Batch(
            [line[:LINE_LIMIT] for line in lines],
            ends,
            Cursor(generation=self.generation, lines=self.lines, offset=self.offset),
            digests,
            cut={n: len(line) for n, line in enumerate(lines) if len(line) > LINE_LIMIT},
            unterminated=unterminated,
        )

    def new_in(self, lines: list[bytes]) -> list[bytes]:
        """What was not delivered of a file that holds *lines*; maybe a new generation begins."""
        now = [_digest(line) for line in lines[:COMPARED_LINES]]
        if len(lines) >= self.lines and now[: len(self.seen)] == self.seen:
            return lines[self.lines :]
        known = max(_common_front(self.seen, now), _overlap(self.seen, now))
        self.generation, self.lines, self.offset, self.seen = self.generation + 1, 0, 0, []
        self.owed = b""
        for line in lines[:known]:
            self._count(line)
        return lines[known:]

    def _count(self, line: bytes) -> None:
        self.lines += 1
        self.offset += len(line) + 1
        if len(self.seen) < COMPARED_LINES:
            self.seen.append(_digest(line))
            self.owed += self.seen[-1]


class ForeignLog:
    """Batches of lines. The tail is quick, the file is right: where they differ, the file counts.

    Every line that stands complete in the file when it is looked at is delivered; one that was
    overwritten before is gone. A rewritten file is a new generation, whose lines at the front
    that were delivered before are left out.
    """

    def __init__(
        self,
        host: ForeignHost,
        path: str,
        cursor: Cursor | None,
        tasks: TaskGroup,
        *,
        delivered: bytes = b"",
        ripe: Callable[[bytes], bool] | None = None,
        **_: Any,
    ) -> None:
        self._host, self._path, self._ripe = host, path, ripe
        at = cursor or Cursor()
        seen = [delivered[n : n + 8] for n in range(0, len(delivered), 8)]
        self._ledger = Ledger(at.generation, at.lines, at.offset, seen)
        self._first_generation = at.generation
        self._finishing = self._over = False
        self._patience = anyio.CancelScope()  # of whoever waits for a line of the tail
        self._from_tail = 0  # lines that the tail gave, delivered or not
        self._tailing = True
        self._tail, self._lines = anyio.create_memory_object_stream[str](_WAITING)
        self.rest = b""
        self.rest_since: float | None = None
        self.caught_up = False
        tasks.start_soon(self._run_tail)

    def finish(self) -> None:
        self._finishing = True
        self._patience.cancel()

    def close(self) -> None:
        self._tail.close()
        self._lines.close()

    def __aiter__(self) -> ForeignLog:
        return self

    async def __anext__(self) -> Batch:
        while not self._over:
            lines = [] if self._finishing else await self._some_lines()
            if lines:
                return self._ledger.batch([line.encode() for line in lines])
            if (batch := await self._read_whole(final=self._finishing)) is not None:
                return batch
        raise StopAsyncIteration

    async def _run_tail(self) -> None:
        """Pass on what the tail says; its end means nothing."""
        async with self._tail:
            try:
                async for line in self._host.tail_file(self._path):
                    await self._tail.send(line)
            except Exception as error:
                _log.warning("the host's tail_file ended: %s", error)

    async def _some_lines(self) -> list[str]:
        """New lines of the tail; none when it is time to look at the file."""
        quick = not self._tailing or self.rest or self._ledger.generation != self._first_generation
        lines = list[str]()
        with anyio.move_on_after(_WITHOUT if quick else _WITH_TAIL) as self._patience:
            try:
                lines.append(await self._lines.receive())
            except anyio.EndOfStream:
                if not self._tailing:  # it ended long ago: the file is looked at now and then
                    await anyio.sleep_forever()
                self._tailing = False
        try:
            while True:
                lines.append(self._lines.receive_nowait())
        except (anyio.WouldBlock, anyio.EndOfStream):
            return self._undelivered(lines)

    def _undelivered(self, lines: list[str]) -> list[str]:
        """Those that a look at the file did not deliver before the tail came to them."""
        if self._ledger.generation != self._first_generation:
            return []  # the tail counts lines of another file: from here on we look ourselves
        known = max(self._ledger.lines - self._from_tail, 0)
        self._from_tail += len(lines)
        return lines[known:]

    async def _read_whole(self, *, final: bool) -> Batch | None:
        try:
            data = await self._host.read_file(self._path)
        except FileRefused as error:
            if error.reason != "missing":
                raise
            data = b""
        except HostError as error:
            self._host.machine.link.become("down", str(error))
            with suppress(HostError):
                await self._host.machine.connect()
            return None
        self._host.machine.link.become("up")
        self._over = final
        return self._compare(data, final=final)

    def _compare(self, data: bytes, *, final: bool) -> Batch | None:
        *lines, rest = data.split(b"\n")
        if rest != self.rest:
            self.rest, self.rest_since = rest, anyio.current_time() if rest else None
        unterminated = bool(rest) and (final or self._is_ripe())
        new = self._ledger.new_in([*lines, rest] if unterminated else lines)
        self.caught_up = True
        return self._ledger.batch(new, unterminated=unterminated) if new else None

    def _is_ripe(self) -> bool:
        since = self.rest_since
        stood = since is not None and anyio.current_time() - since >= RIPE_AFTER
        return stood and self._ripe is not None and self._ripe(self.rest)


def _common_front(before: Sequence[bytes], now: Sequence[bytes]) -> int:
    pairs = zip(before, now, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _overlap(before: Sequence[bytes], now: Sequence[bytes]) -> int:
    """The lines that end one and begin the other: a tail has told us of the new file already."""
    longest = min(len(before), len(now), 1000)
    return next((n for n in range(longest, 0, -1) if now[:n] == before[-n:]), 0)


def _digest(line: bytes) -> bytes:
    # As the tail gives it: it decodes with replacement.
    text = line.decode("utf-8", "replace")
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


_T = TypeVar("_T")

_PAUSE = 1.0  # seconds between attempts to reach the host again
_PATIENCE = 60.0  # seconds for one call of a host that has no time-outs of its own


class ForeignMachine:
    """A name and a link, for whoever watches them or waits for the host."""

    is_local = False

    def __init__(self, host: ForeignHost, name: str) -> None:
        self.name = name
        self.link = LinkStatus()
        self._host, self._one_at_a_time = host, anyio.Lock()

    async def connect(self) -> None:
        """Be reachable, or raise HostLost after a pause."""
        async with self._one_at_a_time:
            if self.link.state == "up":
                return
            try:
                await self._host.reconnect()
                await self._host.ask("true")
            except HostError:
                await anyio.sleep(_PAUSE)
                raise
            self.link.become("up")


class ForeignHost:
    """A host of another make, as a session needs it. Its errors are ours from here on."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self.machine = ForeignMachine(self, type(host).__name__)
        self.machine.link.become("up")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_host":
            raise AttributeError(name)
        return getattr(self._host, name)

    async def setup_workdir(self) -> None:
        await self.call(self._host.setup_workdir)

    async def ask(self, text: str, *args: str) -> Answer:
        """Run one of our scripts, or another, as one command."""
        body = script(text.removesuffix(".sh")) if text.endswith(".sh") else text
        given = " ".join(map(quote, args))
        command = f"exec /bin/sh -c {quote(body)} sh {given}"
        result = await self.call(lambda: self._host.run_command(command))
        return Answer(
            result.exit_code,
            result.stdout.encode(errors="surrogateescape"),
            result.stderr.encode(errors="surrogateescape"),
        )

    @asynccontextmanager
    async def follow(
        self, path: str, cursor: Cursor | None = None, **options: Any
    ) -> AsyncIterator[ForeignLog]:
        """Follow a log from *cursor*: as `Host.follow` does it, as far as this host can."""
        async with anyio.create_task_group() as tasks:
            log = ForeignLog(self, path, cursor, tasks, **options)
            try:
                yield log
            finally:
                log.close()
                tasks.cancel_scope.cancel()

    async def read_file(self, path: str) -> bytes:
        """All of a file. Raises FileRefused, HostLost."""
        data: bytes = await self.call(lambda: self._host.fetch_bytes_from_host(path), path)
        return data

    async def fetch_file(
        self, path: str, destination: Path, *, max_bytes: int, root: str
    ) -> FetchedFile:
        """Fetch a file below *root*; refused where it is anything else, before and after."""
        try:
            before = await self._identify(path, root)
            size, _, real_path = before
            if size > max_bytes:
                raise FileRefused(path, "too-large")
            data = await self.read_file(real_path)
            changed = await self._identify(path, root) != before or len(data) != size
        except HostLost as error:
            try:
                await self.ask("true")
            except HostError:  # nothing comes through: it is the link
                self.machine.link.become("down", str(error))
            raise
        if changed:
            raise FileRefused(path, "changed", "changed while it was read")
        await anyio.to_thread.run_sync(destination.write_bytes, data)
        digest = await anyio.to_thread.run_sync(hashlib.sha256, data)
        return FetchedFile(size, digest.hexdigest(), destination, real_path)

    async def _identify(self, path: str, root: str) -> tuple[int, str, str]:
        answer = await self.ask("hosts/files/inspect.sh", path, root)
        verdict, _, real_path = answer.stdout.decode(errors="surrogateescape").partition("\n")
        word, *about = verdict.split()
        if word != "ok":
            raise FileRefused(path, word)
        return int(about[0]), about[1], real_path.removesuffix("\n")

    async def reconnect(self) -> None:
        """Try to reach the host again. Raises HostLost."""
        with suppress(HostLost):  # it may believe in a connection that is dead
            await self.call(self._host.disconnect)
        await self.call(self._host.connect)

    async def call(self, method: Callable[[], Awaitable[_T]], path: str = "") -> _T:
        """What *method* returns, in bounded time; what it raises as an error of ours."""
        try:
            with anyio.fail_after(_PATIENCE):
                return await method()
        except HostError:
            raise
        except FileNotFoundError as error:
            raise FileRefused(path, "missing", str(error)) from error
        except IsADirectoryError as error:
            raise FileRefused(path, "directory", str(error)) from error
        except Exception as error:
            raise HostLost(f"{self.machine.name}: {type(error).__name__}: {error}") from error


def adapt(host: Any) -> Host:
    """*host* as the session needs it: itself, if it is one of ours."""
    return host if hasattr(host, "follow") else ForeignHost(host)  # type: ignore[return-value]
