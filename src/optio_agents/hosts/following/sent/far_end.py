"""Follows any number of files for somebody at the other end of a channel.

Sent to hosts as source: nothing newer than Python 3.7 here. Commands come in as lines of JSON,
frames go out. It ends when its input does, and so never outlives the channel.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Iterable
from typing import Any

from optio_agents.framing.compare import Place
from optio_agents.framing.frames import Refusal, pack, pack_refusal
from optio_agents.hosts.following.sent.inotify import SWEEP, InotifySource, names_of, poll_pause
from optio_agents.hosts.following.sent.scan import CHUNK, Named, Refused, Scan

# ruff: noqa: PTH100 - a path here is bytes, and may not be resolved


_COMMANDS, _OUTPUT = 0, 1  # descriptors
_FIRST_STEP = 4096  # bytes of a follow's first chunk: however short a link lives, it brings some


class File:
    """One follow: its reader, and how much it may send before it hears from the other end."""

    def __init__(self, scan: Scan, credit: int) -> None:
        self.scan, self.credit = scan, credit
        self.step = _FIRST_STEP
        self.told: tuple[bool, ...] = ()  # what the other end knows besides the data


class FarEnd:
    """The files that are followed, and which of them are to be looked at.

    Waits for commands, for the file system and for the time of the next sweep.
    """

    def __init__(self) -> None:
        self._files: dict[int, File] = {}
        self._dirty: set[int] = set()  # keys of those that a look may bring something of
        self._source: InotifySource[int] = InotifySource()
        self._bell = -1
        self._unread = b""  # of a command that is not whole yet
        self._poll = select.poll()
        self._poll.register(_COMMANDS, select.POLLIN)
        self._next_sweep = self._next_poll = 0.0

    def run(self) -> None:
        """Serve until the commands end."""
        while True:
            due = self._look_around(time.monotonic())
            pause = 0.0 if self._dirty else max(due - time.monotonic(), 0.001)
            for descriptor, _ in self._poll.poll(pause * 1000):
                if descriptor == self._bell:
                    self._dirty |= self._source.changed()
                elif not self._read_commands():
                    return
            for key in list(self._dirty):
                file = self._files.get(key)
                if file is None or file.credit <= 0 or not self._look(key, file):
                    self._dirty.discard(key)

    def _look_around(self, now: float) -> float:
        """Look cheaply at what it is time for; when it will be the next time."""
        if now >= self._next_sweep:
            self._source.renew()
            for key, file in self._files.items():
                self._source.listen(key, names_of(file.scan.path))
            self._check(self._files, now)
            self._next_sweep = now + SWEEP
        if self._source.fileno() != self._bell:
            self._bell = self._source.fileno()  # it comes once, and stays
            self._poll.register(self._bell, select.POLLIN)
        unwatched = self._source.unwatched()
        if not unwatched:
            return self._next_sweep
        if now >= self._next_poll:
            self._check(unwatched, now)
            self._next_poll = now + poll_pause(len(unwatched))
        return min(self._next_sweep, self._next_poll)

    def _check(self, keys: Iterable[int], now: float) -> None:
        self._dirty |= {key for key in keys if self._files[key].scan.may_have_changed(now)}

    def _read_commands(self) -> bool:
        data = os.read(_COMMANDS, 65536)
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._obey(json.loads(line.decode("ascii")))
        return bool(data)

    def _obey(self, command: dict[str, Any]) -> None:
        """A key that is gone by now does not matter."""
        key = command["key"]
        if command["do"] == "add":
            self._add(key, command)
        elif key in self._files:
            if command["do"] == "more":
                self._files[key].credit += command["bytes"]
            elif command["do"] == "finish":
                self._files[key].scan.finish()
            else:
                self._drop(key)
            self._dirty.add(key)

    def _add(self, key: int, command: dict[str, Any]) -> None:
        process = command["process"]
        scan = Scan(
            os.path.abspath(_raw(command["path"])),
            Place(*command["place"]),
            root=_raw(command["root"]),
            process=Named(*process) if process else None,
        )
        if command["finished"]:
            scan.finish()
        self._files[key] = File(scan, command["credit"])
        self._source.listen(key, names_of(scan.path))
        self._dirty.add(key)

    def _drop(self, key: int) -> None:
        self._source.listen(key, set())
        self._files.pop(key).scan.close()

    def _look(self, key: int, file: File) -> bool:
        """Look, and say what is new; whether there may be more at once."""
        try:
            chunk = file.scan.next_chunk(time.monotonic(), file.step)
        except Refused as refused:
            self._say(pack_refusal(key, Refusal(refused.reason, refused.detail)))
            self._drop(key)
            return False
        if chunk.fresh:
            self._source.listen(key, names_of(file.scan.path))
        told = chunk.at_end, chunk.missing, chunk.final
        if chunk.data or chunk.fresh or told != file.told:
            file.told = told
            file.credit -= len(chunk.data)
            file.step = min(2 * file.step, CHUNK)
            self._say(pack(key, chunk))
        return not chunk.at_end and bool(chunk.data or chunk.fresh)

    def _say(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(_OUTPUT, view) :]
            except BlockingIOError:
                select.select([], [_OUTPUT], [])


def main() -> None:
    try:
        FarEnd().run()
    except BrokenPipeError:  # nobody listens any more
        pass


def _raw(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
