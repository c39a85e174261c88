"""Our side of a far end that is a plain shell: slower, for hosts without python3.

It looks when it is asked to, at all files together, a few times a second. What a look means is
decided here.
"""

from __future__ import annotations

import base64
import stat
from typing import TYPE_CHECKING

import anyio

from optio_agents.errors import HostLost
from optio_agents.framing.compare import (
    NOTHING,
    REPLACED,
    TRUSTED_AFTER,
    FileChunk,
    FileState,
    Place,
    decide,
    digest,
    last_bytes,
)
from optio_agents.framing.frames import Refusal
from optio_agents.hosts.following.sent.liveness import same
from optio_agents.hosts.scripting import os_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from optio_agents.hosts.machine import Process

    from .remote_file import RemoteFollowing


_EVERY = 0.2  # seconds between looks at all files
_LIVENESS = 10  # looks between questions after processes
_ANSWER = 60.0  # seconds: a host that takes longer to answer is as good as gone
_BLOCK = 4096  # bytes
_CHUNK = 262_144


class ShellEnd:
    """Questions go out as lines, answers come in as lines, one after the other."""

    def __init__(self, process: Process, encoding: str) -> None:
        self._process = process
        self._decode = base64.b64decode if encoding == "base64" else _from_hex
        self._files: dict[RemoteFollowing, _File] = {}
        self._told: dict[int, _File] = {}  # whom the shell knows, in its order
        self._keys = 0
        self._bell = anyio.Event()

    def add(self, follow: RemoteFollowing) -> None:
        if "\n" in follow.path + (follow.options.root or ""):
            follow.put(Refusal("special", "a name with a newline needs python3 on its host"))
            return
        self._keys += 1
        self._files[follow] = _File(self._keys, follow)
        self._bell.set()

    def drop(self, follow: RemoteFollowing) -> None:
        self._files.pop(follow, None)

    def took(self, follow: RemoteFollowing, size: int) -> None:
        self._bell.set()

    def finish(self, follow: RemoteFollowing) -> None:
        if follow in self._files:
            self._files[follow].end()
            self._bell.set()

    async def serve(self, heard: Callable[[], None]) -> None:
        looks = 0
        while True:
            await self._tell()
            if looks % _LIVENESS == 0:
                await self._ask_after_processes()
            looks += 1
            await self._note()
            heard()
            for file in self._living():
                if file.due and file.follow.hungry:
                    await self._look(file)
            with anyio.move_on_after(_EVERY):
                await self._bell.wait()
            self._bell = anyio.Event()

    def _living(self) -> list[_File]:
        return [file for file in self._told.values() if self._files.get(file.follow) is file]

    async def _tell(self) -> None:
        """Let the shell know whom to look at."""
        for file in set(self._told.values()).difference(self._living()):
            await self._ask(f"drop {file.key}")
            del self._told[file.key]
        for file in list(self._files.values()):
            if file.key not in self._told:
                await self._ask(f"add {file.key}", file.follow.path)
                self._told[file.key] = file
                if root := file.follow.options.root:
                    file.root = os_bytes(root).rstrip(b"/") + b"/"

    async def _ask_after_processes(self) -> None:
        for file in self._living():
            process = file.follow.options.process
            if process is None or file.ended:
                continue
            answer = await self._ask(f"process {process.pid}")
            said = [line.decode("utf-8", "replace") for line in answer]
            if process.boot not in said or not any(same(line, process.start) for line in said):
                file.end()

    async def _note(self) -> None:
        """See which files have changed, with one question for all of them."""
        lines = await self._ask("all")
        for file in self._told.values():
            name = b" " + os_bytes(file.follow.path)
            there = bool(lines) and lines[0].endswith(name)
            file.note(lines.pop(0).removesuffix(name) if there else b"")

    async def _look(self, file: _File) -> None:
        if not file.stamp:
            file.tell(FileChunk(missing=True))
            return
        if refusal := _refusal_of(int(file.stamp.split()[0], 16)):
            self._refuse(file, refusal)
            return
        place = file.place
        start = place.offset - place.window
        skip, count = start // _BLOCK, (place.window + _CHUNK) // _BLOCK + 2
        status, *more = await self._ask(f"look {file.key} {skip} {count}") or [b""]
        if status == b"unreadable":
            self._refuse(file, Refusal("unreadable", "permission denied"))
        elif more and file.root and not more[0].startswith(file.root):
            self._refuse(file, Refusal("outside", "leads out of its root"))
        elif more:  # else it is gone again: the next look at all will tell
            file.note(status)
            found = self._decode(b"".join(more[1:]))[start - skip * _BLOCK :]
            if not file.take(status, found[: place.window], found[place.window :][:_CHUNK]):
                await self._look(file)

    def _refuse(self, file: _File, refusal: Refusal) -> None:
        self._files.pop(file.follow, None)
        file.follow.put(refusal)

    async def _ask(self, *lines: str) -> list[bytes]:
        """The lines of the answer to a question of one or two lines."""
        try:
            with anyio.fail_after(_ANSWER):
                await self._process.write(os_bytes("".join(f"{line}\n" for line in lines)))
                return await self._answer()
        except TimeoutError:
            raise HostLost("the shell that follows there does not answer") from None

    async def _answer(self) -> list[bytes]:
        pieces, tail = [b""], b"\n"
        while tail != b"\n.\n":
            pieces.append(await self._process.read())
            if not pieces[-1]:
                raise HostLost("the shell that follows there has ended")
            tail = (tail + pieces[-1])[-3:]
        return b"".join(pieces).split(b"\n")[:-2]


class _File:
    """What is known of one file, and where its reader stands."""

    def __init__(self, key: int, follow: RemoteFollowing) -> None:
        self.key, self.follow = key, follow
        self.place: Place = follow.place
        self.stamp, self.root = b"?", b""
        self.ended = follow.finished
        self._introduced = not self.place.window
        self._since = 0.0  # when the stamp was seen first
        self._known = self._trusted = False  # nothing came since the last look; nor can it have
        self._state: tuple[bool, ...] = ()  # what the reader knows besides the data

    @property
    def due(self) -> bool:
        settled = anyio.current_time() >= self._since + TRUSTED_AFTER
        return not self._known or (settled and not self._trusted)

    def note(self, stamp: bytes) -> None:
        if stamp != self.stamp:
            self.stamp, self._since = stamp, anyio.current_time()
            self._known = self._trusted = False

    def end(self) -> None:
        """Its writer has ended: a look that finds nothing more is final."""
        self.ended, self._known = True, False

    def take(self, status: bytes, window: bytes, data: bytes) -> bool:
        """Tell the reader what was found; False: look again, from the front."""
        _, device, inode, size, seconds, *_ = status.split()
        place, age = self.place, anyio.current_time() - self._since
        intact = digest(window) == place.tail
        verdict = decide(place, FileState(int(inode), int(size), age, intact))
        fresh = verdict == REPLACED
        if fresh and place.offset:
            self.place, self._introduced = Place(), True
            return False
        self._trusted = verdict == NOTHING
        behind = last_bytes(window, data, len(data))
        offset = place.offset + len(data)
        self.place = Place(int(device), int(inode), offset, digest(behind), len(behind))
        introduction, self._introduced = b"" if self._introduced else window, True
        at_end = len(data) < _CHUNK and offset >= int(size)
        stamp = int(device), int(inode), int(size), int(seconds) * 10**9
        self.tell(FileChunk(*stamp, place.offset, data, introduction, fresh, at_end))
        return True

    def tell(self, chunk: FileChunk) -> None:
        self._known = chunk.missing or chunk.at_end
        if self.ended:
            final = self._known and not chunk.data
            chunk = chunk._replace(final=final, at_end=chunk.at_end and final)
            self._known = final
        self._trusted = self._trusted or chunk.missing
        state = chunk.at_end, chunk.missing, chunk.final
        if chunk.data or chunk.fresh or state != self._state:
            self._state = state
            self.follow.put(chunk)


def _refusal_of(mode: int) -> Refusal | None:
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISDIR(mode):
        return Refusal("directory", "is a directory")
    return Refusal("special", "is no regular file")


def _from_hex(data: bytes) -> bytes:
    return bytes.fromhex(data.decode("ascii"))
