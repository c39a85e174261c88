"""Ask the CLI for something and wait, within a bound, for what it answers."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

from optio_agents.errors import AgentError

from .contract import ConversationClosed, Event
from .stream_json import control_request
from .wire import Wire


class ControlRefused(AgentError):
    """The CLI did not do what it was asked; the message is its own."""


class Controls:
    """Our control requests that wait for their answer, by id."""

    TYPES = frozenset({"control_response"})

    def __init__(self) -> None:
        self._waiting = dict[str, asyncio.Future[dict[str, Any]]]()

    async def ask(self, wire: Wire, subtype: str, **fields: object) -> dict[str, Any]:
        """The CLI's answer. Raises ControlRefused, ConversationClosed; has no bound itself."""
        request_id = f"optio-{uuid4()}"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = answer
        try:
            await wire.say(control_request(request_id, subtype, **fields))
            return _unwrapped(await answer)
        finally:
            del self._waiting[request_id]

    def feed(self, event: Event) -> None:
        response = event.get("response")
        if isinstance(response, dict):
            waiting = self._waiting.get(str(response.get("request_id")))
            if waiting is not None and not waiting.done():
                waiting.set_result(response)

    def end(self, error: ConversationClosed) -> None:
        """Nothing will be answered any more."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)


def _unwrapped(response: dict[str, Any]) -> dict[str, Any]:
    if response.get("subtype") != "success":
        raise ControlRefused(str(response.get("error") or "refused without a reason"))
    inner = response.get("response")  # absent for a plain acknowledgement
    return inner if isinstance(inner, dict) else {}
