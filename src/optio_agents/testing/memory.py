"""A host and a context in memory: enough to run a session against a hook, and nothing to set up."""

from __future__ import annotations

import asyncio
import hashlib
import os
import posixpath
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.errors import FileRefused, HostError
from optio_agents.framing.batches import FollowOptions
from optio_agents.framing.compare import FileChunk
from optio_agents.hosts.commands import RunResult
from optio_agents.hosts.files.fetch import FetchedFile
from optio_agents.hosts.files.put import Put
from optio_agents.hosts.following import Following
from optio_agents.hosts.machine import Answer, LinkStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from typing import BinaryIO, Self

    from optio_agents.framing.batches import Batches
    from optio_agents.framing.cursor import Cursor
    from optio_agents.hosts.files.put import Readable


class _Machine:
    """A name and a link, for whoever watches them."""

    name = "memory"
    is_local = True

    def __init__(self) -> None:
        self.link = LinkStatus()
        self.link.become("up")


class MemoryHost:
    """Files in a dict, for tests of hooks. No processes: *commands* answers for them.

    `append` and `write_text` are what an agent would do; a session on it is a real one. Paths are
    plain names: there are no links, and a path out of `deliverables/` is refused as elsewhere.
    """

    taskdir = "/memory"
    workdir = "/memory/workdir"

    def __init__(
        self,
        files: Mapping[str, str | bytes] | None = None,
        *,
        commands: Callable[[str], RunResult] | None = None,
    ) -> None:
        self.files: dict[str, bytes] = {}
        self.machine = _Machine()
        self._commands = commands
        self._followings: list[tuple[str, _MemoryFollowing]] = []
        self._given = {self._path(path): _bytes(content) for path, content in (files or {}).items()}
        self.files |= self._given

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        return

    def append(self, line: str) -> None:
        """Write one line to optio.log, as an agent does."""
        log = self._path("optio.log")
        self._write(log, self.files.get(log, b"") + line.encode() + b"\n")

    async def write_text(self, relpath: str, content: str) -> None:
        """Write a file; relative to the work directory."""
        self._write(self._path(relpath), content.encode())

    async def put_file_to_host(self, source: Readable, absolute_target: str, **options: Any) -> Put:
        """Put a file, bytes or an iterator there. *options* are taken and not needed."""
        if isinstance(source, bytes):
            data = source
        elif isinstance(source, str | os.PathLike):
            data = await anyio.Path(source).read_bytes()
        else:
            data = b"".join([block async for block in source])
        self._write(self._path(absolute_target), data)
        return Put(len(data), hashlib.sha256(data).hexdigest(), sent=True)

    async def fetch_bytes_from_host(self, absolute_path: str, **options: Any) -> bytes:
        """The content of a file. Raises FileRefused."""
        into = BytesIO()
        await self.fetch_file(absolute_path, into)
        return into.getvalue()

    async def fetch_file(
        self,
        path: str,
        destination: str | Path | BinaryIO,
        *,
        max_bytes: int | None = None,
        root: str | None = None,
        **options: Any,
    ) -> FetchedFile:
        """Bring a file here. Raises FileRefused with the reason."""
        where = self._path(path)
        data = self.files.get(where)
        if data is None:
            below = any(one.startswith(where + "/") for one in self.files)
            raise FileRefused(path, "directory" if below else "missing")
        if root is not None and not where.startswith(self._path(root) + "/"):
            raise FileRefused(path, "outside")
        if max_bytes is not None and len(data) > max_bytes:
            raise FileRefused(path, "too-large")
        landed = None
        if isinstance(destination, str | Path):
            landed = Path(destination)
            landed.write_bytes(data)
        else:
            destination.write(data)  # noqa: ASYNC240 - somebody's open file, not a path
        return FetchedFile(len(data), hashlib.sha256(data).hexdigest(), landed, where)

    async def remove_file(self, path: str) -> None:
        """Remove a file; fine when there is none."""
        self.files.pop(self._path(path), None)

    async def resolve_host_home(self) -> str:
        """The home directory there."""
        return "/memory/home"

    async def run_command(self, command: str, **options: Any) -> RunResult:
        """What *commands* answers. Raises HostError without it."""
        if self._commands is None:
            raise HostError(f"nobody answers for {command!r}: MemoryHost(commands=…)")
        return self._commands(command)

    async def setup_workdir(self) -> None:
        """Empty the work directory of all but the files that this host was made with."""
        self.files = dict(self._given)

    async def ask(self, text: str, *args: str, data: bytes = b"") -> Answer:
        """Answer for the scripts that a session asks."""
        match text:
            case "hosts/channel.sh":
                if args[-1] == "start":
                    self._write(self._path("optio.log"), b"")
                return Answer(0, f"{self.workdir}\n.\n".encode())
            case "hosts/quiet.sh":
                return Answer(0, b"0\n")
            case "hosts/other-log.sh" | "hosts/files/named.sh":
                return Answer(0, b"")
        raise HostError(f"no scripts run in memory: {text!r}")

    @asynccontextmanager
    async def follow(
        self, path: str, cursor: Cursor | None = None, **options: Any
    ) -> AsyncIterator[Batches]:
        """Follow a file from *cursor* on."""
        following = _MemoryFollowing(
            lambda: self.files.get(self._path(path)), cursor, FollowOptions(**options)
        )
        self._followings.append((self._path(path), following))
        try:
            yield following
        finally:
            self._followings.remove((self._path(path), following))

    def _path(self, path: str) -> str:
        return posixpath.normpath(posixpath.join(self.workdir, path))

    def _write(self, path: str, content: bytes) -> None:
        self.files[path] = content
        for followed, following in self._followings:
            if followed == path:
                following.ring()


class _MemoryFollowing(Following):
    """Reads a dict's value as if it were a file that is only ever appended to."""

    def __init__(
        self, read: Callable[[], bytes | None], cursor: Cursor | None, options: FollowOptions
    ) -> None:
        super().__init__(cursor, options)
        self._read, self._ended = read, False

    def finish(self) -> None:
        self._ended = True
        self.ring()

    def _next_chunk(self) -> FileChunk | None:
        ended = self._ended  # asked before the read, or the last lines are lost
        place, data = self._framer.place, self._read()
        if data is None:
            return FileChunk(missing=True, final=ended)
        fresh = len(data) < place.offset
        start = 0 if fresh else place.offset
        new = data[start:]
        return FileChunk(
            device=1,
            inode=1,
            size=len(data),
            offset=start,
            data=new,
            fresh=fresh,
            at_end=True,
            final=ended,
        )


class MemoryContext:
    """A `ProcessContext` that remembers what it was told."""

    process_id = "memory"

    def __init__(
        self, *, params: Mapping[str, Any] | None = None, metadata: Mapping[str, Any] | None = None
    ) -> None:
        self.params, self.metadata = dict(params or {}), dict(metadata or {})
        self.cancellation_flag = asyncio.Event()
        self.progress: list[tuple[float | None, str | None]] = []
        self.attention: list[str] = []
        self.opened: list[str] = []
        self.messages: list[tuple[str, Any]] = []

    def report_progress(self, percent: float | None, message: str | None = None) -> None:
        self.progress.append((percent, message))

    def should_continue(self) -> bool:
        return not self.cancellation_flag.is_set()

    async def request_browser_open(self, url: str) -> None:
        self.opened.append(url)

    async def need_attention(self, reason: str) -> None:
        self.attention.append(reason)

    async def client_message(self, keyword: str, data: Any) -> None:
        self.messages.append((keyword, data))


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
