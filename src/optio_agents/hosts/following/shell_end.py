"""Our side of a far end that is a plain shell: slower, for hosts without python3.

It is asked a few times a second, for all files together, and through the shell that answers all
small questions. What a look means is decided here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from optio_agents.framing.compare import (
    NOTHING,
    REPLACED,
    TRUSTED_AFTER,
    FileChunk,
    Place,
    behind_hole,
    decide,
    digest,
    last_bytes,
)
from optio_agents.framing.frames import Refusal
from optio_agents.hosts.following.sent.scan import Refused, expect_regular, same
from optio_agents.hosts.scripting import os_bytes, script

if TYPE_CHECKING:
    from optio_agents.hosts.machine import Machine

    from .remote_file import RemoteFollowing


_EVERY = 0.2  # seconds between looks at all files
_LIVENESS = 10  # looks between questions after processes
_BLOCK = 4096  # bytes
_CHUNK = 262_144
_ALL = "stat -L -c '%f %d %i %s %Y %y %z %n' -- \"$@\" 2>/dev/null"  # a line for each that is there
_PROCESS = 'cat "/proc/$1/stat" /proc/sys/kernel/random/boot_id 2>/dev/null'


class ShellEnd:
    """Asks the shell of *machine*, which is warm, a short question at a time."""

    def __init__(self, machine: Machine) -> None:
        self.alive = False
        self._machine = machine
        self._files: dict[RemoteFollowing, _File] = {}
        self._bell = anyio.Event()
        self._over = False  # nobody follows any more

    def add(self, follow: RemoteFollowing) -> None:
        if "\n" in follow.path:
            follow.put(Refusal("special", "a name with a newline needs python3 on its host"))
            return
        self._files[follow] = _File(follow)
        self._bell.set()

    def drop(self, follow: RemoteFollowing) -> None:
        self._files.pop(follow, None)
        self._over = not self._files
        self._bell.set()

    def took(self, follow: RemoteFollowing, size: int) -> None:
        self._bell.set()

    def finish(self, follow: RemoteFollowing) -> None:
        if follow in self._files:
            self._files[follow].end()
            self._bell.set()

    async def serve(self) -> None:
        looks = 0
        while not self._over:
            if looks % _LIVENESS == 0:
                await self._ask_after_processes()
            looks += 1
            await self._note()
            self.alive = True
            for file in list(self._files.values()):
                if file.due and file.follow.hungry and file.stamp is not None:
                    await self._look(file)
            with anyio.move_on_after(_EVERY):
                await self._bell.wait()
            self._bell = anyio.Event()

    async def _ask_after_processes(self) -> None:
        for file in list(self._files.values()):
            process = file.follow.options.process
            if process is None or file.ended:
                continue
            answer = await self._machine.ask(_PROCESS, [str(process.pid)])
            said = answer.stdout.decode("utf-8", "replace").split("\n")
            if process.boot not in said or not any(same(line, process.start) for line in said):
                file.end()

    async def _note(self) -> None:
        """See which files have changed, with one question for all of them."""
        files = list(self._files.values())
        if not files:
            return
        answer = await self._machine.ask(_ALL, [file.follow.path for file in files])
        lines = answer.stdout.split(b"\n")
        for file in files:
            name = b" " + os_bytes(file.follow.path)
            there = lines[0].endswith(name)
            file.note(lines.pop(0).removesuffix(name) if there else b"")

    async def _look(self, file: _File) -> None:
        if not file.stamp:
            file.tell(FileChunk(missing=True))
            return
        try:
            expect_regular(int(file.stamp.split()[0], 16))
        except Refused as refused:
            self._refuse(file, refused.reason, refused.detail)
            return
        place, root = file.place, os_bytes(file.follow.options.root or "").rstrip(b"/")
        start = place.offset - place.window
        skip, count = start // _BLOCK, (place.window + _CHUNK) // _BLOCK + 2
        numbers = skip, count, -(-place.offset // _BLOCK)
        args = [file.follow.path, *map(str, numbers)]
        answer = await self._machine.ask(script("hosts/following/look"), args)
        if file.follow not in self._files:
            return
        status, *more = answer.stdout.split(b"\0", 3)
        if status == b"unreadable":
            self._refuse(file, "unreadable", "permission denied")
        elif len(more) < 3:
            pass  # it is gone again: the next look at all will tell
        elif root and not more[0].startswith(root + b"/"):
            self._refuse(file, "outside", "leads out of its root")
        else:
            file.note(status.rstrip(b"\n"))
            found, hole = more[2][start - skip * _BLOCK :], int(more[1])
            window, data = found[: place.window], found[place.window :][:_CHUNK]
            if not file.take(status, window, data, hole):
                await self._look(file)

    def _refuse(self, file: _File, reason: str, detail: str) -> None:
        self._files.pop(file.follow, None)
        file.follow.put(Refusal(reason, detail))


class _File:
    """What is known of one file, and where its reader stands."""

    def __init__(self, follow: RemoteFollowing) -> None:
        self.follow = follow
        self.place: Place = follow.place
        self.stamp: bytes | None = None  # nobody has looked yet
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

    def take(self, status: bytes, window: bytes, data: bytes, hole: int) -> bool:
        """Tell the reader what was found; False: look again, from the front."""
        _, device, inode, size, seconds, *_ = status.split()
        place, age = self.place, anyio.current_time() - self._since
        intact = digest(window) == place.tail
        verdict = decide(place, int(inode), int(size), age=age, intact=intact)
        fresh = verdict == REPLACED
        if fresh and place.offset:
            self.place, self._introduced = Place(), True
            return False
        self._trusted = verdict == NOTHING
        behind = behind_hole(last_bytes(window, data, len(data)), hole)
        offset = place.offset + len(data) + hole
        self.place = Place(int(device), int(inode), offset, digest(behind), len(behind))
        introduction, self._introduced = b"" if self._introduced else window, True
        at_end = len(data) < _CHUNK and offset >= int(size)
        stamp = int(device), int(inode), int(size), int(seconds) * 10**9
        self.tell(FileChunk(*stamp, place.offset, data, introduction, fresh, at_end, hole=hole))
        return True

    def tell(self, chunk: FileChunk) -> None:
        self._known = chunk.missing or chunk.at_end
        if self.ended:
            final = self._known and not (chunk.data or chunk.hole)
            chunk = chunk._replace(final=final, at_end=chunk.at_end and final)
            self._known = final
        self._trusted = self._trusted or chunk.missing
        state = chunk.at_end, chunk.missing, chunk.final
        if chunk.data or chunk.hole or chunk.fresh or state != self._state:
            self._state = state
            self.follow.put(chunk)
