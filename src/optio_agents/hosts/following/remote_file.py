"""The batches of one file behind a link, and what our side of a far end promises it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from optio_agents.errors import FileRefused
from optio_agents.framing.frames import Refusal
from optio_agents.hosts.following import Following

if TYPE_CHECKING:
    from optio_agents.framing.batches import FollowOptions
    from optio_agents.framing.compare import FileChunk, Place
    from optio_agents.framing.cursor import Cursor


class FollowChannel(Protocol):
    """Our side of a far end that runs."""

    alive: bool  # something came from it

    def add(self, follow: RemoteFollowing) -> None:
        """Follow from its place on."""

    def drop(self, follow: RemoteFollowing) -> None:
        """Follow it no more. Twice is fine."""

    def took(self, follow: RemoteFollowing, size: int) -> None:
        """It has room for *size* more bytes."""

    def finish(self, follow: RemoteFollowing) -> None:
        """Its writer has ended."""

    async def serve(self) -> None:
        """Hand out what comes until the link, or the far end, fails: raises HostError.

        A shell returns when the last is dropped: a question under way need not be broken off.
        """


class RemoteFollowing(Following):
    """Takes what a `FollowChannel` puts here; a far end sends no more than there is room for."""

    def __init__(self, path: str, cursor: Cursor | None, options: FollowOptions) -> None:
        super().__init__(cursor, options)
        self.path, self.options = path, options
        self.finished = False
        self._inbox: deque[FileChunk | Refusal] = deque()
        self._end: FollowChannel | None = None
        self._failure: Exception | None = None

    @property
    def place(self) -> Place:
        """Behind all that was read: where a new far end goes on."""
        return self._framer.place

    @property
    def hungry(self) -> bool:
        """Nothing waits here to be read."""
        return not self._inbox

    def finish(self) -> None:
        self.finished = True
        if self._end:
            self._end.finish(self)

    def begin(self, end: FollowChannel) -> None:
        """*end* follows for us from now on."""
        if self._failure is None:
            self._end = end
            end.add(self)

    def put(self, content: FileChunk | Refusal) -> None:
        """Something came."""
        self._inbox.append(content)
        self.ring()

    def lose(self) -> None:
        """The link is gone: what was not read yet will come again."""
        self._end = None
        self._inbox.clear()
        self._pieces.clear()
        self._at_end = False

    def leave(self) -> None:
        """Nobody reads any more."""
        if self._end:
            self._end.drop(self)
        self.lose()

    def fail(self, error: Exception) -> None:
        """There will never be more."""
        self.lose()
        self._failure = error
        self.ring()

    def _next_chunk(self) -> FileChunk | None:
        if self._failure:
            raise self._failure.with_traceback(None)
        if not self._inbox:
            return None
        content = self._inbox.popleft()
        if self._inbox:
            self._rung = True
        if isinstance(content, Refusal):
            raise FileRefused(self.path, content.reason, content.detail)
        if not (content.fresh or content.missing) and content.offset != self._framer.read:
            self._begin_again()
            return None
        if self._end:
            self._end.took(self, len(content.data))
        return content

    def _begin_again(self) -> None:
        """The far end stands elsewhere than we do; it must not happen, and does no harm."""
        if end := self._end:
            end.drop(self)
            self.lose()
            self.begin(end)
