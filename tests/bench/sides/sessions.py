"""One side of the sessions benchmark; runs under either package. Arguments: how many sessions."""

import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from optio_agents import run_log_protocol_session
from optio_agents.protocol import get_protocol

try:
    from optio_agents.hosts import LocalHost
except ImportError:  # the published one
    from optio_host import LocalHost

COUNT = int(sys.argv[1])
IDLE = float(sys.argv[2])  # seconds of doing nothing
SAMPLES = 25  # sessions whose latency is measured


class Context:
    """A process context that wakes whoever waits for a message."""

    process_id, params, metadata = "p", {}, {}

    def __init__(self):
        self.cancellation_flag = asyncio.Event()
        self.awaited = {}

    def heard(self, message):
        return self.awaited.setdefault(message, asyncio.get_running_loop().create_future())

    def report_progress(self, percent, message=None):
        waiting = self.awaited.get(message)
        if waiting and not waiting.done():
            waiting.set_result(time.perf_counter())

    def should_continue(self):
        return not self.cancellation_flag.is_set()


class Session:
    """One session whose body writes what it is told to."""

    def __init__(self, directory):
        self.host, self.ctx = LocalHost(str(directory)), Context()
        self.finish = asyncio.Event()

    def say(self, line):
        with Path(self.host.workdir, "optio.log").open("a") as log:
            log.write(line + "\n")

    async def body(self, host, hook):
        self.say("STATUS: hello")
        await self.finish.wait()
        bye = self.ctx.heard("bye")
        self.say("DONE: bye")
        await bye

    async def run(self):
        await self.host.connect()
        try:
            await run_log_protocol_session(
                self.host, self.ctx, body=self.body, protocol=get_protocol()
            )
        finally:
            await self.host.disconnect()

    async def latency(self):
        heard = self.ctx.heard("ping")
        before = time.perf_counter()
        self.say("STATUS: ping")
        return await heard - before


def processes():
    """This process and all that descend from it."""
    children = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(
            int(stat.parent.name)
        )
    found, ahead = [], [int(Path("/proc/self").readlink().name)]
    while ahead:
        found.append(ahead.pop())
        ahead += children.get(found[-1], [])
    return found


def pss():
    """kB, shared pages counted in part."""
    total = 0
    for pid in processes():
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(text.partition("\nPss:")[2].split()[0])
    return total


def cpu():
    """Seconds of CPU that this process and its living descendants have used."""
    ticks = 0
    for pid in processes():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / 100


async def measure():
    with tempfile.TemporaryDirectory() as directory:
        warm = Session(Path(directory, "warm"))
        warm.finish.set()
        await warm.run()
        gc.collect()
        memory = pss()
        sessions = [Session(Path(directory, str(n))) for n in range(COUNT)]
        start = time.perf_counter()
        greeted = [session.ctx.heard("hello") for session in sessions]
        running = [asyncio.create_task(session.run()) for session in sessions]
        await asyncio.gather(*greeted)
        started = time.perf_counter() - start
        gc.collect()
        memory = pss() - memory
        used = cpu()
        await asyncio.sleep(IDLE)
        used = cpu() - used
        latencies = [await session.latency() for session in sessions[:: max(COUNT // SAMPLES, 1)]]
        start = time.perf_counter()
        for session in sessions:
            session.finish.set()
        await asyncio.gather(*running)
        finished = time.perf_counter() - start
    return {
        "start, ms each": 1000 * started / COUNT,
        "PSS, kB each": memory / COUNT,
        "idle, ‰ of a core each": 1000 * used / IDLE / COUNT,
        "append to report p50, ms": 1000 * median(latencies),
        "append to report max, ms": 1000 * max(latencies),
        "finish, ms each": 1000 * finished / COUNT,
    }


if sys.argv[3:] == ["once"]:
    sys.stdout.write(json.dumps(asyncio.run(measure())) + "\n")
else:
    for _ in sys.stdin:  # each in a process of its own: what one freed, the next would not need
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "once"], check=True)
