"""Our side of a far end that runs in python3."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.concurrency import task_group
from optio_agents.errors import HostError
from optio_agents.framing.frames import BadFrame, FrameReader

if TYPE_CHECKING:
    from optio_agents.hosts.machine import Process

    from .remote_file import RemoteFollowing


_ROOM = 1 << 20  # bytes that may be on their way to one reader
_PACKAGES = ("", "framing", "hosts", "hosts.following", "hosts.following.sent")
MODULES = (  # in the order in which they import one another
    "framing.compare",
    "framing.frames",
    "mounts",
    "hosts.following.sent.inotify",
    "hosts.following.sent.scan",
    "hosts.following.sent.far_end",
)
_UNPACK = """\
import sys, types
def add(name, source):
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = []
    exec(compile(source, name, "exec", 0, True), module.__dict__)
"""


@cache
def program() -> bytes:
    """The far end, as one text that needs nothing but python3 >= 3.7."""
    root = __name__.partition(".")[0]
    parts = [f"add({'.'.join(filter(None, (root, name)))!r}, '')\n" for name in _PACKAGES]
    for name in MODULES:
        source = files(root).joinpath(f"{name.replace('.', '/')}.py").read_text("utf-8")
        parts.append(f"add({f'{root}.{name}'!r}, {source!r})\n")
    end = f"sys.modules[{f'{root}.{MODULES[-1]}'!r}].main()\n"
    return "".join([_UNPACK, *parts, end]).encode()


class PythonEnd:
    """Commands go out as lines of JSON, chunks come in as frames."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.alive = False
        self._numbers = count(1)  # never used twice: what comes for an old one is dropped
        self._keys: dict[RemoteFollowing, int] = {}
        self._follows: dict[int, RemoteFollowing] = {}
        self._taken: dict[int, int] = {}  # bytes that the far end does not know to be read
        self._frames = FrameReader()
        self._complaint = ""
        self._commands = bytearray()
        self._told = anyio.Event()

    def add(self, follow: RemoteFollowing) -> None:
        key = self._keys[follow] = next(self._numbers)
        self._follows[key], self._taken[key] = follow, 0
        options, process = follow.options, follow.options.process
        self._command(
            do="add",
            key=key,
            path=follow.path,
            root=options.root or "",
            place=follow.place,
            process=[process.pid, process.start, process.boot] if process else None,
            finished=follow.finished,
            credit=_ROOM,
        )

    def drop(self, follow: RemoteFollowing) -> None:
        key = self._keys.pop(follow, None)
        if key is not None:
            del self._follows[key], self._taken[key]
            self._command(do="drop", key=key)

    def took(self, follow: RemoteFollowing, size: int) -> None:
        key = self._keys.get(follow)
        if key is not None:
            taken = self._taken[key] = self._taken[key] + size
            if taken >= _ROOM // 2:  # a word for every line would cost more than the line
                self._taken[key] = 0
                self._command(do="more", key=key, bytes=taken)

    def finish(self, follow: RemoteFollowing) -> None:
        if follow in self._keys:
            self._command(do="finish", key=self._keys[follow])

    async def serve(self) -> None:
        await self._process.write(program())
        self._process.divert(self._receive)  # no task stands between a frame and its reader
        async with task_group() as tasks:
            tasks.start_soon(self._send)
            await self._process.read()
            raise HostError(self._complaint or "the far end of a follow ended")

    def _receive(self, data: bytes) -> None:
        if self._complaint:
            return
        try:
            for key, content in self._frames.feed(data):
                if follow := self._follows.get(key):
                    follow.put(content)
            self.alive = True
        except BadFrame as error:
            self._complaint = f"the far end of a follow said {error}"
            self._told.set()

    async def _send(self) -> None:
        """Apart from receiving: a far end that waits for us to read does not read itself."""
        while not self._complaint:
            if not self._commands:
                self._told = anyio.Event()
                await self._told.wait()
            commands, self._commands = bytes(self._commands), bytearray()
            await self._process.write(commands)
        await self._process.close_input()  # it ends at that, and so do we

    def _command(self, **words: Any) -> None:
        self._commands += json.dumps(words).encode() + b"\n"
        self._told.set()
