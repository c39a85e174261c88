"""Moving a big file over SSH, connection included, against OpenSSH's scp."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from optio_agents.testing.proxy import FaultProxy
from tests.bench import Comparison, Figure, Measure
from tests.bench.ground import Ground, ground, run_seconds
from tests.bench.peers import Worker, our_python, worker
from tests.support.hosts.sshd import SshLogin

SIDE = Path(__file__).parents[1] / "sides/transfers.py"
GCM = "aes128-gcm@openssh.com"
LATENCY = 0.02  # seconds one way
MIB = 1 << 20


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    with ground() as there:
        size = 16 if quick else 1024
        _fill(there.directory / "big", size)
        async with (
            FaultProxy(there.server.host, there.server.port, delay=LATENCY) as far,
            worker(our_python(), SIDE, *there.arguments()) as near_worker,
            worker(our_python(), SIDE, *there.arguments(far.port)) as far_worker,
        ):
            near = _Side(near_worker)
            yield [
                *(_against_scp(there, near, verb, size) for verb in ("fetch", "put")),
                *(_against_gcm(there, near, verb, size) for verb in ("fetch", "put")),
                Comparison(  # scp takes none
                    title=f"fetch {size} MiB and its SHA-256",
                    ours=near.measure("digest"),
                    peer=_scp(there.login, there.directory, "fetch"),
                    peer_name="scp",
                    figures=[Figure("s")],
                ),
                Comparison(
                    title="most memory of these",
                    ours=near.memory,
                    figures=[Figure("MiB above idle", at_most=40)],
                ),
                _at_a_distance(there, _Side(far_worker), far.port, 8 if quick else 128),
            ]


class _Side:
    """Our worker, and the most memory that it took."""

    def __init__(self, ours: Worker) -> None:
        self._worker, self._most = ours, 0.0

    def measure(self, verb: str) -> Measure:
        async def once() -> Mapping[str, float]:
            values = await self._worker.round(verb)
            self._most = max(self._most, values["MiB above idle"])
            return values

        return once

    async def memory(self) -> Mapping[str, float]:
        return {"MiB above idle": self._most}


def _against_scp(there: Ground, side: _Side, verb: str, size: int) -> Comparison:
    return Comparison(
        title=f"{verb} {size} MiB",
        ours=side.measure(verb),
        peer=_scp(there.login, there.directory, verb),
        peer_name="scp",
        figures=[Figure("s", ratio_at_most=1.0)],
    )


def _against_gcm(there: Ground, side: _Side, verb: str, size: int) -> Comparison:
    return Comparison(
        title=f"{verb} {size} MiB",
        ours=side.measure(verb),
        peer=_scp(there.login, there.directory, verb, "-c", GCM),
        peer_name="scp, aes128-gcm",
        figures=[Figure("s", ratio_at_most=1.1)],
    )


def _at_a_distance(there: Ground, side: _Side, port: int, size: int) -> Comparison:
    far = there.directory / "far"
    far.mkdir()
    _fill(far / "big", size)

    async def fetch() -> Mapping[str, float]:
        return await side.measure(f"fetch {far}")()

    return Comparison(
        title=f"fetch {size} MiB, round trips of 40 ms",
        ours=fetch,
        peer=_scp(there.login.at(port), far, "fetch"),
        peer_name="scp",
        figures=[Figure("s", ratio_at_most=0.5)],
    )


def _scp(login: SshLogin, directory: Path, verb: str, *options: str) -> Measure:
    ends = (f":{directory}/big", f"{directory}/scp")
    if verb == "put":
        ends = (f"{directory}/big", f":{directory}/scp")
    program, *rest = login.scp_argv(*ends)

    async def once() -> Mapping[str, float]:
        (directory / "scp").unlink(missing_ok=True)
        return {"s": await run_seconds([program, *options, *rest])}

    return once


def _fill(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for _ in range(size):
            file.write(os.urandom(MIB))
