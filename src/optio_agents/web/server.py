"""What listens: uvicorn on sockets of ours, and the links that let browsers in."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import stat
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from optio_agents.concurrency import task_group
from optio_agents.team.stores.journal import TurnJournal

from .api import Api
from .guard import Access, Guard
from .hub import Hub
from .streams import PATIENCE

if TYPE_CHECKING:
    from optio_agents.store import Store


_SHORTEST = 16  # characters of a token
_ENDING = 1  # seconds that readers of streams are given when we end
_BEGINNING = 20.0  # seconds in which a connection asks for something


class BrowserConnection(H11Protocol):
    """One of a browser's: it can be cut off, and has to say what it wants."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "cut off": self.cut_off}
        self._silent = self.loop.call_later(_BEGINNING, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        self._silent.cancel()
        super().connection_lost(exc)

    def _check(self) -> None:
        if self.cycle is None:
            self.cut_off()

    def cut_off(self) -> None:
        """End it at once, with all that it has not taken, in the kernel too."""
        own: socket.socket = self.transport.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


@dataclass(frozen=True, slots=True)
class Serving:
    """What serves while its block lasts."""

    access: Access
    address: str  # http://127.0.0.1:8787

    def new_link(self) -> str:
        """One that lets in one browser; behind the # it is in no log and no Referer."""
        return f"{self.access.url or self.address}/#/enter/{self.access.new_code()}"


@asynccontextmanager
async def serve(
    store: Store,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    url: str | None = None,
    patience: float = PATIENCE,
) -> AsyncIterator[Serving]:
    """Serve the page and its API while the block lasts.

    *url* is how browsers reach it where that is not our own address; *patience* the seconds after
    which a browser that takes nothing is cut off. Raises OSError where nobody may listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family)
    name = f"[{host}]" if family == socket.AF_INET6 else host
    port = listening.getsockname()[1]
    ours = url.rstrip("/") if url else None
    access = Access(token or new_token(), ours, cookie=f"optio-agents-{port}")
    hub, reader = Hub(store), TurnJournal(store.path)
    api = Api(hub, access, reader, patience=patience)
    config = uvicorn.Config(
        Guard(api.application(), access),
        http=BrowserConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_ENDING,
    )
    server = _Server(config)

    async def run() -> None:
        with anyio.CancelScope(shield=True):  # bounded: see _ENDING
            await server.serve([listening])

    try:
        async with hub.kept_up(), task_group() as tasks:
            tasks.start_soon(run)
            try:
                yield Serving(access, f"http://{name}:{port}")
            finally:
                server.should_exit = True
    finally:
        listening.close()
        await reader.close()


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """They are the command's own affair."""
        yield


def new_token() -> str:
    return secrets.token_urlsafe(32)


def read_token(path: Path) -> str:
    """The token in the file *path*, which nobody else can read; made where there is none.

    Raises ValueError for a file that others can read, or that holds no good token.
    """
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(number, "w") as file:
            file.write(f"{new_token()}\n")
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)) as file:
        seen = os.fstat(file.fileno())
        if not stat.S_ISREG(seen.st_mode) or seen.st_uid != os.geteuid():
            raise ValueError(f"{path} is no file of yours")
        if seen.st_mode & 0o077:
            raise ValueError(f"others can read {path}: chmod 600 it, and put a new token there")
        token = file.read(1000).strip()
    if len(token) < _SHORTEST or not (token.isascii() and token.isprintable()) or " " in token:
        raise ValueError(f"{path} holds no token: a line of at least {_SHORTEST} plain characters")
    return token
