"""From the end of an outage to the next line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from optio_agents.framing.batches import Batches, FollowOptions
from optio_agents.hosts.ssh import SshMachine
from optio_agents.testing.proxy import FaultProxy
from tests.bench import Comparison, Figure
from tests.bench.ground import Ground, ground

WAITED = "s from its end to the next line"


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    lengths = [0.5] if quick else [1.0, 5.0, 10.0]
    with ground() as place:
        yield [
            Comparison(
                title=f"{what}, {length:g} s",
                ours=lambda length=length, strike=strike: outage(place, length, strike),
                figures=[Figure(WAITED, at_most=2.0)],
            )
            for length in lengths
            for what, strike in {"host away": away, "link silent": silent}.items()
        ]


def away(proxy: FaultProxy) -> Callable[[], None]:
    proxy.refuse()
    proxy.cut()
    return proxy.accept


def silent(proxy: FaultProxy) -> Callable[[], None]:
    proxy.stall()
    proxy.black_hole = True

    def end() -> None:
        proxy.black_hole = False
        proxy.flow()

    return end


async def outage(
    place: Ground, length: float, strike: Callable[[FaultProxy], Callable[[], None]]
) -> Mapping[str, float]:
    log = place.directory / "log"
    log.write_bytes(b"before\n")
    async with FaultProxy(place.server.host, place.server.port) as proxy:
        machine = SshMachine(place.config(proxy.port))
        try:
            async with machine.follow(str(log), None, FollowOptions()) as batches:
                await anext(batches)
                end = strike(proxy)
                _append(log)
                coming = asyncio.ensure_future(_next(batches))
                await anyio.sleep(length)
                assert not coming.done()
                end()
                began = anyio.current_time()
                with anyio.fail_after(30):
                    await coming
                return {WAITED: anyio.current_time() - began}
        finally:
            await machine.close()


async def _next(batches: Batches) -> None:
    assert (await anext(batches)).lines == [b"during"]


def _append(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b"during\n")
