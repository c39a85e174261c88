"""What lies on hosts: deliverables to look at and to take away, what changed, files to hand over.

Everything is an attachment that no browser interprets, but for a few kinds of pictures, told by
their first bytes; what is shown as text comes as JSON.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import quote

import anyio
import anyio.to_thread

from optio_agents.cli.verbs.files import announced_in, changes_in, fetch_announced, hand_over
from optio_agents.display import visible, visible_block
from optio_agents.errors import AgentError
from optio_agents.supervision.sessions import host_of

from .acting import WITHIN
from .guard import RequestRefused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope, Send

    from optio_agents.store import Store


_TEXT = 1 << 20  # bytes that are shown as text
_MOST = 1 << 30  # bytes of a file that is handed over
_CHUNK = 1 << 18
_PICTURES = {  # what a browser may show; SVG is a document, with scripts in it
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}


async def deliverables(store: Store, session: str) -> list[dict[str, Any]]:
    """What was announced, the first announcement of each path first."""
    latest = {one.path: one for one in await store.deliveries(session)}
    return [
        {
            "path": path,
            "words": visible(path),
            "size": one.size,
            "sha256": one.sha256,
            "reply": one.reply,
            "taken": one.taken,
        }
        for path, one in latest.items()
    ]


@asynccontextmanager
async def opened(store: Store, session: str, path: str) -> AsyncIterator[BinaryIO]:
    """A deliverable, as it was kept here, or lies on its host now. Raises RequestRefused."""
    announced = await announced_in(store, session)
    if path not in announced:
        raise RequestRefused(404, "this was not announced")
    saved = [one.saved for one in await store.deliveries(session) if one.path == path]
    with tempfile.TemporaryFile() as data:
        if kept := _kept(saved[-1]):
            with kept:
                yield kept
            return
        with anyio.fail_after(WITHIN):
            async with host_of(await store.session(session)) as host:
                await fetch_announced(host, announced[path], data)
        data.seek(0)
        yield cast("BinaryIO", data)


def _kept(path: str | None) -> BinaryIO | None:
    try:
        number = os.open(path or "", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        return None
    return os.fdopen(number, "rb")


class Download:
    """A deliverable, as an attachment; a picture says that it is one."""

    def __init__(self, store: Store, session: str, path: str) -> None:
        self._store, self._session, self._path = store, session, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with opened(self._store, self._session, self._path) as file:
            front = file.read(16)
            size = os.fstat(file.fileno()).st_size
            kind = next((k for begin, k in _PICTURES.items() if front.startswith(begin)), "")
            if front[:4] == b"RIFF" and front[8:12] == b"WEBP":
                kind = "image/webp"
            name = quote(self._path.rpartition("/")[2], safe="", errors="replace")
            headers = {
                "content-type": kind or "application/octet-stream",
                "content-length": str(size),
                "content-disposition": f"attachment; filename*=UTF-8''{name}",
                "content-security-policy": "default-src 'none'; sandbox",
            }
            pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
            await send({"type": "http.response.start", "status": 200, "headers": pairs})
            file.seek(0)
            left = size
            while left and (data := await anyio.to_thread.run_sync(file.read, min(_CHUNK, left))):
                left -= len(data)
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def as_text(store: Store, session: str, path: str) -> dict[str, Any]:
    """A deliverable to be shown: its text, or that it is none."""
    async with opened(store, session, path) as file:
        data = await anyio.to_thread.run_sync(file.read, _TEXT + 1)
    picture = any(data.startswith(begin) for begin in _PICTURES) or data[8:12] == b"WEBP"
    try:
        text = data[:_TEXT].decode("utf-8", "ignore" if len(data) > _TEXT else "strict")
    except UnicodeDecodeError:
        return {"picture": picture, "text": None, "cut": False}
    shown = None if picture or "\0" in text else visible_block(text, limit=2 * _TEXT)
    return {"picture": picture, "text": shown, "cut": len(data) > _TEXT}


async def changes(store: Store, session: str) -> dict[str, Any]:
    """What changed in the agent's git tree since it began."""
    with anyio.fail_after(WITHIN):
        data, cut = await changes_in(await store.session(session))
    return {
        "text": visible_block(data.decode("utf-8", "replace"), limit=len(data) * 10),
        "cut": cut,
    }


async def put(store: Store, session: str, name: str, body: AsyncIterator[bytes]) -> dict[str, Any]:
    """Hand a file over, whole or not at all, below the directory of the session's log."""
    if name in ("", ".", "..") or "/" in name or not name.isprintable() or len(name.encode()) > 200:
        raise RequestRefused(422, "a file has a plain name, without a directory")
    async with host_of(await store.session(session)) as host:
        try:
            path = await hand_over(host, _bounded(body), f"attached/{name}")
        except ValueError as error:
            raise AgentError(str(error)) from error
    return {"receipt": "put", "path": path}


async def _bounded(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    size = 0
    async for data in body:
        size += len(data)
        if size > _MOST:
            raise RequestRefused(413, f"a file has at most {_MOST >> 30} GiB")
        if data:
            yield data
