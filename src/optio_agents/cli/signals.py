"""Ctrl-C and the other ways to ask this process to end, and what they mean for its sessions."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from optio_agents.cli.output import noticing_silence
from optio_agents.hosts.tasks import task_group

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from optio_agents.cli.supervised import Supervised

_AGAIN = 5.0  # seconds within which a second Ctrl-C leaves


@asynccontextmanager
async def signals(sessions: Sequence[Supervised]) -> AsyncIterator[None]:
    """Ctrl-C once interrupts the turn, twice leaves; a polite end of ours leaves at once."""
    loop, manner = asyncio.get_running_loop(), sessions[0].manner
    pressed = float("-inf")

    def leave() -> None:
        for supervision in sessions:
            supervision.leave()

    def interrupt() -> None:
        nonlocal pressed
        before, pressed = pressed, loop.time()
        if pressed - before < _AGAIN or not any(one.began for one in sessions):
            return leave()
        after = "stops the agent" if manner.stop_on_exit else "leaves, and the agent goes on"
        if len(sessions) > 1:  # whose turn was meant?
            manner.view.say(f"Ctrl-C again {after}; one turn ends with: optio-agents interrupt ID")
            return None
        manner.view.say(f"interrupting; Ctrl-C again {after}")
        tasks.start_soon(sessions[0].interrupt)
        return None

    async with task_group() as tasks:
        loop.add_signal_handler(signal.SIGINT, interrupt)
        for number in signal.SIGTERM, signal.SIGHUP:
            loop.add_signal_handler(number, leave)
        try:
            with noticing_silence(leave):
                yield
        finally:
            for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
                loop.remove_signal_handler(number)
            tasks.cancel_scope.cancel()
