"""Our side of a transfer: "fetch", "digest" and "put" of `big`, each over a connection of its own.

"fetch DIRECTORY" takes the one of that directory, "digest" its SHA-256 as well.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anyio

sys.path.insert(0, str(Path(__file__).parents[3]))  # we are run as a script

from optio_agents.hosts import SSHConfig, make_host
from tests.bench.ground import login_of
from tests.support.hosts.hosts import ssh_config


def resident(field: str) -> int:
    """VmRSS or VmHWM, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) * 1024


def forget_the_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


async def measure(verb: str, config: SSHConfig, directory: Path) -> dict[str, float]:
    async with make_host(config, taskdir=str(directory / "task")) as warm:
        await warm.run_command("true", cwd="/")  # all is imported now: the idle process
    for name in "fetched", "put":  # giving an old file's memory back is nobody's transfer
        (directory / name).unlink(missing_ok=True)
    forget_the_peak()
    idle = resident("VmRSS")
    began = anyio.current_time()
    async with make_host(config, taskdir=str(directory / "task")) as host:
        if verb == "put":
            await host.put_file_to_host(directory / "big", str(directory / "put"))
        else:
            there, here = str(directory / "big"), directory / "fetched"
            await host.fetch_file(there, here, digest=verb == "digest")
        seconds = anyio.current_time() - began
    return {"s": seconds, "MiB above idle": (resident("VmHWM") - idle) / (1 << 20)}


def main() -> None:
    login, directory = login_of(sys.argv[1:])
    config = ssh_config(login)
    for line in sys.stdin:
        verb, *elsewhere = line.split()
        place = Path(elsewhere[0]) if elsewhere else directory
        values = anyio.run(measure, verb, config, place)
        sys.stdout.write(json.dumps(values) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
