"""A model API on loopback that says what a script says, in four wire formats.

    async with scripted_model("Hello", {"call": "search", "arguments": {"query": "x"}}) as api:
        model("openai-chat:any", base_url=api.url, credential="none")

Each request gets the next reply: a text (or a list of pieces of one), a use of tools (one dict, or
several in a list), a number (that HTTP status), or a function of the request that gives one of
these. `api.requests` holds what was asked for, as `(path, headers, body)`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any

from .model_server import Asked as Asked, ModelServer
from .model_server.shapes import Shape, Step


class ScriptedModel(ModelServer):
    """What the server was asked, and where it is."""

    def __init__(self, replies: list[Any], pause: float) -> None:
        super().__init__()
        self.replies, self._pause = replies, pause

    async def choose(self, shape: Shape, asked: Asked) -> Step:
        self.requests.append(asked)
        reply = self.replies.pop(0) if self.replies else 500
        if callable(reply):
            reply = reply(asked)
            if isawaitable(reply):
                reply = await reply
        if isinstance(reply, int):
            return {"error": reply, "message": f"scripted {reply}"}
        parts = reply if isinstance(reply, list) else [reply]
        pieces = [one for one in parts if isinstance(one, str)]
        step: dict[str, Any] = {"text": "".join(pieces), "pieces": pieces, "tools": []}
        for one in parts:
            match one:
                case {"thinking": thinking, **more}:
                    step |= {"thinking": thinking, "finish": more.get("ending", "")}
                case {"call": name, **more}:
                    step["tools"].append({"tool": name, "input": more.get("arguments", {})})
        return {**step, "tokens": (10, 5), "pause": self._pause}


@asynccontextmanager
async def scripted_model(*replies: Any, pause: float = 0.0) -> AsyncIterator[ScriptedModel]:
    """Serve *replies* on loopback while the block lasts, *pause* seconds before each piece."""
    model = ScriptedModel(list(replies), pause)
    async with model.serve():
        yield model
