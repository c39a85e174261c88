"""Follow a file of this machine."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from optio_agents.errors import FileRefused
from optio_agents.hosts.following import Following
from optio_agents.hosts.following.sent.inotify import names_of
from optio_agents.hosts.following.sent.scan import Refused, Scan
from optio_agents.mounts import mount_table, on_network

from .watcher import watcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from optio_agents.framing.batches import Batches, FollowOptions
    from optio_agents.framing.compare import FileChunk
    from optio_agents.framing.cursor import Cursor


# ruff: noqa: PTH100 - a path here is bytes, and may not be resolved


_EVERY = 0.25  # seconds between looks through a thread at a file that rings no bell


@asynccontextmanager
async def follow_locally(
    path: str, cursor: Cursor | None, options: FollowOptions
) -> AsyncIterator[Batches]:
    """The batches of *path* behind *cursor*. No task, no process, no thread on a local disk."""
    following = LocalFollowing(path, cursor, options)
    try:
        yield following
    finally:
        following.close()


class LocalFollowing(Following):
    """Reads where it stands: the disk is quicker than a thread would be.

    A network file system may hang, so there a thread looks.
    """

    def __init__(self, path: str, cursor: Cursor | None, options: FollowOptions) -> None:
        super().__init__(cursor, options)
        self._path = path
        raw = os.fsencode(os.path.abspath(path))
        self._apart = on_network(raw, mount_table())
        self._looking: asyncio.Future[FileChunk] | None = None  # in the thread
        self._looked = 0.0
        self._scan = Scan(
            raw,
            self._framer.place,
            root=os.fsencode(options.root or ""),
            process=options.process,
            hold=not self._apart,
        )
        self._watcher = watcher()
        self._watcher.add(self)

    def finish(self) -> None:
        self._scan.finish()
        self.ring()

    def close(self) -> None:
        self._watcher.remove(self)
        if not self._apart:
            self._scan.close()

    def paths(self) -> set[bytes]:
        return {self._scan.path} if self._apart else names_of(self._scan.path)

    def check(self) -> None:
        now = time.monotonic()
        if self._apart:
            if now >= self._looked + _EVERY:
                self.ring()
        elif self._scan.may_have_changed(now):
            self.ring()

    def _next_chunk(self) -> FileChunk | None:
        try:
            chunk = self._look_apart() if self._apart else self._scan.next_chunk(time.monotonic())
        except Refused as refused:
            raise FileRefused(self._path, refused.reason, refused.detail) from None
        if chunk is not None and chunk.fresh:
            self._watcher.listen(self)
        return chunk

    def _look_apart(self) -> FileChunk | None:
        if self._looking is None:
            self._looked = time.monotonic()
            self._looking = self._loop.run_in_executor(None, self._look_in_thread)
            self._looking.add_done_callback(lambda _: self.ring())
        if not self._looking.done():
            return None
        looking, self._looking = self._looking, None
        return looking.result()

    def _look_in_thread(self) -> FileChunk:
        self._scan.may_have_changed(self._looked)
        return self._scan.next_chunk(self._looked)
