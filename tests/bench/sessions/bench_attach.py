"""Coming back to many agents on several hosts: what a person waits for at the terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio

from optio_agents import Command, SSHConfig, Store, find_session, make_host, supervise
from optio_agents.supervision import LogLine
from optio_agents.supervision.sessions import new_session_id, task_directory
from tests.bench import Comparison, Figure
from tests.bench.ground import Ground, ground
from tests.bench.peers import environment, our_python

HOSTS = 5
AGENT = ("sh", "-c", 'echo "STATUS: 40% half way" >>"$OPTIO_LOG"; exec sleep 120')
SCREEN = struct.pack("HHHH", 40, 120, 0, 0)
WAIT = 120.0  # seconds


@asynccontextmanager
async def benchmark(quick: bool) -> AsyncIterator[list[Comparison]]:
    count = 10 if quick else 50
    with ground() as there:
        home = there.directory / "laptop"
        _write_config(there, home)
        path = home / ".local/state/optio-agents/journal.sqlite3"
        async with Store(path) as store:
            sessions = await _start(home, store, count)
            try:

                async def measure() -> Mapping[str, float]:
                    return await _attach(home, store, sessions)

                yield [
                    Comparison(
                        title=f"optio-agents attach: {count} sessions on {HOSTS} SSH hosts",
                        ours=measure,
                        figures=[
                            Figure("first screen, ms", at_most=2000),
                            Figure("all taken up, ms"),
                        ],
                    )
                ]
            finally:
                async with anyio.create_task_group() as tasks:
                    for session in sessions:
                        tasks.start_soon(_stop, session, store)


def _write_config(there: Ground, home: Path) -> None:
    (home / ".ssh").mkdir(mode=0o700, parents=True)
    login = there.login
    (home / ".ssh" / "config").write_text(
        f"Host box*\n  HostName {login.host}\n  Port {login.port}\n  User {login.user}\n"
        f"  IdentityFile {login.key_path}\n  UserKnownHostsFile {login.known_hosts_path}\n"
    )


async def _start(home: Path, store: Store, count: int) -> list[str]:
    """That many agents, left to themselves."""
    sessions = [new_session_id() for _ in range(count)]

    async def start(session: str, box: str) -> None:
        config = SSHConfig(box, config=(str(home / ".ssh" / "config"),), agent_path=None)
        async with make_host(config, taskdir=task_directory(session)) as host:
            running = supervise(host, Command(AGENT), session=session, store=store)
            async with running as live:
                async for event in live.events():
                    if isinstance(event, LogLine):
                        break
                await live.detach()

    async with anyio.create_task_group() as tasks:
        for number, session in enumerate(sessions):
            tasks.start_soon(start, session, f"box{number % HOSTS}")
    return sessions


async def _stop(session: str, store: Store) -> None:
    async with find_session(session, store=store) as live:
        await live.stop(grace=0.1)


async def _attach(home: Path, store: Store, sessions: list[str]) -> Mapping[str, float]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, SCREEN)
    env = {**environment(our_python()), "HOME": str(home), "TERM": "xterm-256color"}
    began = time.perf_counter()
    argv = [str(our_python()), "-m", "optio_agents.cli", "attach"]
    process = await anyio.open_process(argv, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        with anyio.fail_after(WAIT):
            seen = b""
            while b" leaves" not in seen or b"40%" not in seen:
                await anyio.wait_readable(ours)
                seen += os.read(ours, 1 << 16)
            first = time.perf_counter() - began
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_drain, ours)  # else it would have to wait for us
                while not all(map(store.owner, sessions)):  # noqa: ASYNC110 - no event says so
                    await anyio.sleep(0.005)
                taken = time.perf_counter() - began
                process.terminate()  # which leaves the agents running
                await process.wait()
                tasks.cancel_scope.cancel()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(ours)
    return {"first screen, ms": 1000 * first, "all taken up, ms": 1000 * taken}


async def _drain(terminal: int) -> None:
    with suppress(OSError):  # its other end is closed
        while True:
            await anyio.wait_readable(terminal)
            os.read(terminal, 1 << 16)
