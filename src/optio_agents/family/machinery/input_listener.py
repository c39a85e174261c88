"""A small HTTP server through which a person's words reach an agent's terminal.

`POST /input` with `{"text": …}` or `{"key": …}`; it answers `{"ok": true}`, or false with a reason.
It knows no login: *bind_iface* is a loopback or private address, and who can reach it may type. A
page of another site that a browser shows at that address cannot: what it sends is refused.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from .tmux_input import NAV_KEYS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from aiohttp import web

_log = logging.getLogger(__name__)
_LONGEST = 1 << 20  # bytes of one request


def serialized(
    lock: asyncio.Lock, send: Callable[[str], Awaitable[None]]
) -> Callable[[str], Awaitable[None]]:
    """*send*, one call at a time under *lock*: two texts are never typed into each other."""

    async def send_alone(text: str) -> None:
        async with lock:
            await send(text)

    return send_alone


async def start_input_listener(
    *,
    bind_iface: str,
    on_input: Callable[[str], Awaitable[None]],
    on_key: Callable[[str], Awaitable[None]] | None = None,
) -> tuple[web.AppRunner, int]:
    """Listen on a free port of *bind_iface*; gives the server, to be cleaned up, and the port."""
    from aiohttp import web  # with what needs it: nobody else has it

    def refuse(status: int, reason: str) -> web.Response:
        return web.json_response({"ok": False, "reason": reason}, status=status)

    async def take(request: web.Request) -> web.Response:
        if request.headers.get("Sec-Fetch-Site") == "cross-site":
            return refuse(403, "cross-site")
        try:
            body = await request.json()
        except ValueError:
            return refuse(400, "bad-json")
        text = body.get("text") if isinstance(body, dict) else None
        key = body.get("key") if isinstance(body, dict) else None
        try:
            if key is not None:
                if on_key is None or not isinstance(key, str) or key not in NAV_KEYS:
                    return refuse(400, "bad-key")
                await on_key(key)
            elif isinstance(text, str) and text:
                await on_input(text)
            else:
                return refuse(400, "empty-text")
        except Exception as error:  # its words may hold what was typed
            _log.warning("what was typed did not arrive: %s", type(error).__name__)
            return refuse(502, "send-failed")
        return web.json_response({"ok": True})

    app = web.Application(client_max_size=_LONGEST)
    app.router.add_post("/input", take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, bind_iface, 0).start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner, runner.addresses[0][1]
