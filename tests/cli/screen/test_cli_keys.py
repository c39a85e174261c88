"""Single keys from a terminal."""

from __future__ import annotations

import os
import sys

import anyio
import pytest

from tests.support.timeouts import BOUND

pytestmark = pytest.mark.skipif(not hasattr(os, "login_tty"), reason="needs a Unix terminal")

SIZE = 10_000  # more than a terminal takes in before it is read
TYPED_AT = (
    f"SIZE = {SIZE}"
    + """
import asyncio, os, signal, sys
terminal, told = map(int, sys.argv[1:])
os.login_tty(terminal)
from optio_agents.cli.screen.keys import keys

async def main():
    pressed = asyncio.Queue()
    interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    with keys(pressed.put_nowait):
        os.write(1, b"x" * SIZE)
        os.write(told, b".")
        await interrupted.wait()
        os.write(1, (await pressed.get()).encode())

asyncio.run(main())
"""
)


async def test_ctrl_c_drops_nothing_that_is_on_its_way_to_the_screen() -> None:
    screen, terminal = os.openpty()
    heard, told = os.pipe()
    argv = [sys.executable, "-c", TYPED_AT, str(terminal), str(told)]
    async with await anyio.open_process(argv, pass_fds=(terminal, told)) as program:
        os.close(terminal)
        os.close(told)
        await anyio.wait_readable(heard)
        os.write(screen, b"\x03")
        os.write(screen, b"k")
        seen = b""
        with anyio.fail_after(BOUND):
            while not seen.endswith(b"k"):
                await anyio.wait_readable(screen)
                seen += os.read(screen, 1000)
            assert await program.wait() == 0
    assert len(seen) == SIZE + 1
    os.close(screen)
    os.close(heard)
