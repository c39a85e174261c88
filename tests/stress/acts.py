"""How a supervisor process does to itself what its plan says."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from optio_agents.hosts.ssh.config import SSHConfig
from optio_agents.testing.proxy import FaultProxy
from tests.stress import faults
from tests.stress.faults import Fault
from tests.stress.plans import Plan

Act: TypeAlias = Callable[[Fault], object]


class Clock:
    """The clocks of this process that go on in sleep, to be set; the monotonic one stands."""

    def __init__(self) -> None:
        self._ahead = 0.0
        real, real_ns, real_of = time.time, time.time_ns, time.clock_gettime
        sleepless = {time.CLOCK_MONOTONIC, time.CLOCK_PROCESS_CPUTIME_ID}
        time.time = lambda: real() + self._ahead
        time.time_ns = lambda: real_ns() + int(self._ahead * 1e9)
        time.clock_gettime = lambda which: (
            real_of(which) + (0 if which in sleepless else self._ahead)
        )

    def step(self, seconds: float) -> None:
        self._ahead += seconds


class Hoard:
    """Takes every descriptor that this process may have, and gives them back."""

    def __init__(self) -> None:
        self._held = list[int]()

    def take(self) -> None:
        with suppress(OSError):
            while True:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def give_back(self) -> None:
        while self._held:
            os.close(self._held.pop())


@asynccontextmanager
async def way_in(plan: Plan) -> AsyncIterator[tuple[SSHConfig | None, FaultProxy | None]]:
    """How to reach the host: over SSH, through a proxy of our own that is there to be broken."""
    if plan.ssh is None:
        yield None, None
        return
    config = SSHConfig(**plan.ssh)
    assert config.port
    assert config.known_hosts
    async with FaultProxy(config.host, config.port) as proxy:
        hosts = Path(plan.directory, "known_hosts")
        _rewrite(Path(config.known_hosts), hosts, f":{config.port} ", f":{proxy.port} ")
        yield replace(config, port=proxy.port, known_hosts=hosts), proxy


def _rewrite(source: Path, target: Path, old: str, new: str) -> None:
    target.write_text(source.read_text().replace(old, new))


def acts(proxy: FaultProxy | None) -> dict[str, Act]:
    clock, hoard, later = Clock(), Hoard(), asyncio.get_running_loop().call_later

    def gone(fault: Fault) -> None:
        hoard.take()
        later(fault.seconds, hoard.give_back)

    made = {
        faults.KILLED: lambda _: die(),
        faults.FORWARD: lambda _: clock.step(3600),
        faults.BACK: lambda _: clock.step(-7200),
        faults.GONE: gone,
    }
    return made if proxy is None else {**made, **_link(proxy, later)}


def _link(proxy: FaultProxy, later: Callable[..., object]) -> dict[str, Act]:
    def stall(fault: Fault) -> None:
        proxy.stall()
        later(fault.seconds, proxy.flow)

    def refuse(fault: Fault) -> None:
        proxy.refuse()
        proxy.cut()
        later(fault.seconds, proxy.accept)

    return {faults.CUT: lambda _: proxy.cut(), faults.STALLED: stall, faults.REFUSED: refuse}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
