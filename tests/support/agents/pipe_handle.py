"""A process handle whose every byte the test decides."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anyio


class Pipe(asyncio.StreamReader):
    def left(self):
        return len(self._buffer)


class Handle:
    """A process handle with its other ends in the test's hand."""

    def __init__(self):
        self.stdout, self.stderr = Pipe(), Pipe()
        self.stdin = self
        self.said = []
        self.signals = []
        self.returncode = asyncio.get_running_loop().create_future()

    def write(self, data):
        self.said += map(json.loads, data.splitlines())

    async def drain(self):
        pass

    def close(self):
        self.exit(0)

    def send_signal(self, number):
        self.signals.append(number)

    def terminate(self):
        self.exit(-15)

    def kill(self):
        self.exit(-9)

    async def wait(self):
        return await asyncio.shield(self.returncode)

    def hear(self, *events):
        for event in events:
            self.stdout.feed_data(json.dumps(event).encode() + b"\n")

    def exit(self, code, words=b""):
        if not self.returncode.done():
            self.stderr.feed_data(words)
            self.stderr.feed_eof()
            self.stdout.feed_eof()
            self.returncode.set_result(code)


class Ponder:
    """A handler that never answers, and tells when it is asked and when it is cancelled."""

    def __init__(self) -> None:
        self.asked, self.cancelled = anyio.Event(), anyio.Event()

    async def __call__(self, _: object) -> Any:
        self.asked.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.cancelled.set()


async def until(condition):
    while not condition():  # noqa: ASYNC110 - of many things no event tells
        await anyio.sleep(0.001)
