"""Any history of a real file: what is followed is told as the model tells it."""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import anyio
import anyio.lowlevel
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from optio_agents.framing.batches import FollowOptions
from optio_agents.hosts.following.local import follow_locally
from tests.support.hosts.file_model import Model
from tests.support.hosts.follow_ground import append, replace, rewrite, truncate

LINES = st.sampled_from([b"a\n", b"b\n", b"\n", b"\xff\r\n", b"L" * 1500 + b"\n"])
TEXT = st.lists(LINES, max_size=5).map(b"".join)
PARTS = st.sampled_from([b"part", b"\xc3", b"M" * 5000])
_TURNS = 50  # of the loop, and more than any read takes


class Histories(RuleBasedStateMachine):
    """A file, somebody who follows it and dies now and then, and the model of both."""

    def __init__(self):
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.log = self.directory / "log"
        self.model, self.held = Model(), -1
        self.cursor, self.digests = None, b""
        self.loop = asyncio.Runner()
        # It keeps the watcher, which the kernel takes its time to close.
        self.other = follow_locally(str(self.directory / "other"), None, FollowOptions())
        self.loop.run(self.enter(self.other))
        self.open()

    def open(self):
        options = FollowOptions(delivered=self.digests)
        self.block = follow_locally(str(self.log), self.cursor, options)
        self.batches = self.loop.run(self.enter(self.block))

    async def enter(self, block):
        return await block.__aenter__()

    async def leave(self, block):
        await block.__aexit__(None, None, None)

    def hold(self, descriptor):
        """As the follower does: what was open stays readable, whatever its name leads to."""
        if self.held >= 0:
            os.close(self.held)
        self.held = descriptor

    def teardown(self):
        self.hold(-1)
        for block in self.block, self.other:
            self.loop.run(self.leave(block))
        self.loop.close()
        shutil.rmtree(self.directory)

    @rule(text=TEXT)
    def append(self, text):
        append(self.log, text)

    @rule(part=PARTS)
    def append_part_of_a_line(self, part):
        append(self.log, part)

    @rule(text=TEXT)
    def overwrite(self, text):
        self.log.write_bytes(text)

    @rule()
    def rewrite_with_as_many_bytes(self):
        if self.log.exists():
            rewrite(self.log, self.log.read_bytes().swapcase())

    @rule(text=TEXT)
    def replace(self, text):
        replace(self.log, text)

    @rule()
    def replace_by_the_same(self):
        if self.log.exists():
            replace(self.log, self.log.read_bytes())

    @rule(part=st.floats(0, 1))
    def truncate(self, part):
        if self.log.exists():
            truncate(self.log, int(part * self.log.stat().st_size))

    @rule()
    def delete(self):
        self.log.unlink(missing_ok=True)

    @rule()
    def restart(self):
        self.loop.run(self.leave(self.block))
        self.hold(-1)
        self.model.restart()
        self.open()

    @rule()
    def read(self):
        told = self.loop.run(self.read_all())
        assert told == self.model_told()

    def model_told(self):
        told = []
        current = os.open(self.log, os.O_RDONLY) if self.log.exists() else -1
        if self.held >= 0 and (current < 0 or not os.path.sameopenfile(self.held, current)):
            told += self.look(self.held)
        if current >= 0:
            told += self.look(current)
        self.hold(current)
        return told

    def look(self, descriptor):
        status = os.fstat(descriptor)
        return self.model.look(status.st_ino, os.pread(descriptor, status.st_size, 0))

    async def read_all(self):
        """Whatever is to be had now: until the follower waits for the file system."""
        lines = []

        async def read():
            async for batch in self.batches:
                lines.extend(batch.lines)
                if self.cursor is None or batch.cursor.generation != self.cursor.generation:
                    self.digests = b""
                self.digests += batch.digests
                self.cursor = batch.cursor

        async with anyio.create_task_group() as tasks:
            self.batches.ring()
            tasks.start_soon(read)
            for _ in range(_TURNS):  # no thread and no timer takes part
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert self.batches.caught_up
        return lines

    @precondition(lambda self: self.cursor is not None)
    @invariant()
    def digests_stand_for_the_lines_of_the_generation(self):
        assert len(self.digests) == 8 * self.cursor.lines


TestHistories = Histories.TestCase
