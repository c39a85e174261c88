"""What session tests share: a context that remembers, a host of its own, a body that writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.hosts.host import Host, LocalHost
from optio_agents.session import run_log_protocol_session
from tests.support.timeouts import BOUND


class Context:
    """A process context that keeps what it was told."""

    process_id = "p1"

    def __init__(self) -> None:
        self.params: dict[str, Any] = {"answer": 42}
        self.metadata: dict[str, Any] = {}
        self.going = True
        self.told: list[tuple[Any, ...]] = []
        self._stirred = asyncio.Event()

    def report_progress(self, percent: float | None, message: str | None = None) -> None:
        self._tell("progress", percent, message)

    def should_continue(self) -> bool:
        return self.going

    async def request_browser_open(self, url: str) -> None:
        self._tell("browser", url)

    async def need_attention(self, reason: str) -> None:
        self._tell("attention", reason)

    async def client_message(self, keyword: str, data: Any) -> None:
        self._tell("client", keyword, data)

    def _tell(self, *what: Any) -> None:
        self.told.append(what)
        self._stirred.set()

    @property
    def messages(self) -> list[str]:
        return [told[2] for told in self.told if told[0] == "progress" and told[2]]

    @property
    def percents(self) -> list[float]:
        return [told[1] for told in self.told if told[0] == "progress" and told[1] is not None]

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until *condition* holds; it is looked at whenever something was told."""
        while not condition():
            self._stirred.clear()
            await self._stirred.wait()


class FlaggedContext(Context):
    """One that says at once when the session is to end."""

    def __init__(self) -> None:
        super().__init__()
        self.cancellation_flag = asyncio.Event()


def write(host: Host, *lines: str, end: str = "\n") -> None:
    """Append *lines* to the log, as an agent does."""
    append(host, "".join(line + end for line in lines).encode())


def append(host: Host, data: bytes) -> None:
    with log_of(host).open("ab") as log:
        log.write(data)


async def listing(host: Host) -> list[str]:
    return (await host.run_command("ls -A")).stdout.split()


def log_of(host: Host) -> Path:
    return Path(host.workdir, "optio.log")


def replace_log(host: Host, *lines: str) -> None:
    """Put a new file with old and new *lines* in the place of the log, as editors do."""
    fresh = Path(host.workdir, "fresh")
    fresh.write_text(log_of(host).read_text() + "".join(line + "\n" for line in lines))
    fresh.replace(log_of(host))


def hand_over(
    host: Host, name: str, data: bytes | str = b"content", *, announce: bool = True
) -> None:
    """Write a deliverable and announce it."""
    path = Path(host.workdir, "deliverables", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    if announce:
        write(host, f"DELIVERABLE: deliverables/{name}")


def says(*lines: str) -> Callable[..., Any]:
    """A body that writes *lines* and returns."""

    async def body(host: Host, _: Any) -> None:
        write(host, *lines)

    return body


def says_and_stays(*lines: str) -> Callable[..., Any]:
    """A body that writes *lines* and never ends by itself."""

    async def body(host: Host, _: Any) -> None:
        write(host, *lines)
        await anyio.sleep_forever()

    return body


class Sessions:
    """Runs sessions on local hosts below a directory of the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.count = 0

    @asynccontextmanager
    async def host(self) -> AsyncIterator[Host]:
        self.count += 1
        async with LocalHost(str(self.directory / f"task{self.count}")) as host:
            yield host

    async def run(self, context: Any, **given: Any) -> Any:
        """One session, bounded."""
        with anyio.fail_after(BOUND):
            async with self.host() as host:
                return await run_log_protocol_session(host, context, **given)


HostFactory = Callable[[], AbstractAsyncContextManager[Host]]


@pytest.fixture
def ctx() -> Context:
    return Context()


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path)
