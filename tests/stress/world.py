"""What breaks around the supervisors, seen from outside."""

from __future__ import annotations

import random
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import anyio
import anyio.abc

from tests.stress.circumstances import Ground
from tests.stress.crews import Crew
from tests.stress.faults import Tally


class World:
    """Does to a crew what it expects; *processes* are the supervisors that live now, by crew."""

    def __init__(
        self, ground: Ground, processes: Mapping[str, anyio.abc.Process], tally: Tally
    ) -> None:
        self._ground, self._scale = ground, ground.scale
        self._processes, self._tally = processes, tally

    async def shake(self, crew: Crew) -> None:
        deeds: dict[str, Callable[[Crew, str], Awaitable[None]]] = {
            "supervisor stopped": self._stop,
            "disk full: tasks": self._fill,
            "disk full: journal": self._fill,
            "sshd's sessions killed": self._kill_sshd,
            "sshd restarted": self._restart_sshd,
        }
        async with anyio.create_task_group() as tasks:
            for name in crew.expected:
                if name in deeds:
                    tasks.start_soon(self._do, deeds[name], crew, name)

    async def _do(
        self, deed: Callable[[Crew, str], Awaitable[None]], crew: Crew, name: str
    ) -> None:
        """Some time while agents are at work."""
        chance = random.Random(f"{self._ground.run} {name}")
        await anyio.sleep(chance.uniform(0.2, 0.7) * self._scale.quiet[0])
        await deed(crew, name)
        self._tally.hit(name)

    async def _stop(self, crew: Crew, _: str) -> None:
        while True:
            process = self._processes[crew.name]
            with suppress(ProcessLookupError):  # it may end just now
                process.send_signal(signal.SIGSTOP)
                await anyio.sleep(self._scale.stopped)
                process.send_signal(signal.SIGCONT)
                return
            await anyio.sleep(0.1)

    async def _fill(self, crew: Crew, name: str) -> None:
        """No room until somebody has met that, and a while longer."""
        assert crew.disk is not None
        filling = crew.disk / "filling"
        while not any(crew.directory.glob("*.ledger")):  # noqa: ASYNC110 - its first agent
            await anyio.sleep(0.1)
        try:
            with filling.open("wb", buffering=0) as file:
                while not self._met(crew, name):
                    with suppress(OSError):  # what else is deleted meanwhile makes no room
                        while True:
                            file.write(bytes(4096))
                    await anyio.sleep(0.05)
            await anyio.sleep(1 if self._scale.quick else 20)
        finally:
            filling.unlink()

    def _met(self, crew: Crew, name: str) -> bool:
        if name.endswith("journal"):
            return crew.tally.counts()["trouble: StoreError"] > 0
        return any(b'["full"' in path.read_bytes() for path in crew.directory.glob("*.ledger"))

    async def _kill_sshd(self, _: Crew, __: str) -> None:
        assert self._ground.server is not None
        while not self._ground.server.kill_sessions():  # noqa: ASYNC110 - sshd tells nobody
            await anyio.sleep(0.5)

    async def _restart_sshd(self, _: Crew, __: str) -> None:
        assert self._ground.server is not None
        self._ground.server.restart()
