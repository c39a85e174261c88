"""A model on loopback that does what its prompt says, for real agents of any make.

    async with ModelServer().serve() as model:
        ...  # ANTHROPIC_BASE_URL=model.url; for the others `f"{model.url}/v1"` or as they want it
        await conversation.ask(scripted({"shell": "touch made"}, {"text": "done"}))

It speaks Anthropic Messages, OpenAI Responses and Chat Completions, and Gemini (`shapes`). The
script is a JSON list of steps that travels in the prompt, `@@[...]@@`; the step to play is the
number of turns of the model behind it. So the server keeps no conversation: retries, resumes,
forks and parallel sessions need nothing of it.

    {"text": "hello"}                                  says it and ends its turn
    {"text": "hello", "chunks": 5}                     in as many pieces
    {"shell": "true"}                                  uses the agent's tool for commands
    {"write": "/abs/a.txt", "content": "…"}            uses the agent's tool for files
    {"tool": "Bash", "input": {"command": "true"}}     uses a tool; "tools": [...] several at once
    {"error": 529, "message": "…", "retry_after": 2}   fails; with "retries": 2 only that often;
                                                       "headers" go along
    {"text": "hel…", "cut": true}                      breaks the connection in mid-stream
    {"abort": true}                                    breaks it instead of an answer
    {"text": "no", "finish": "refusal"}                ends by a refusal; also "length"
    {"empty": true}                                    ends without a word
    {..., "hold": "name"}                              waits for `release("name")` before its end

A script that is too long for a prompt is kept in `scripts` and called by its name, `@@name@@`.

A held step streams its first half, so that whoever awaits `held("name")` stands in mid-turn. A
prompt without a script is answered with a word, and so is what agents ask on the side (a title,
a routing): a request that offers no tools.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self

import anyio

from .shapes import Shape, Step, shape_of

__all__ = ["Asked", "ModelServer", "scripted"]

_SCRIPT = re.compile(r"@@(\[.*?\]|\w+)@@", re.DOTALL)


def scripted(*steps: Step, say: str = "Do it.") -> str:
    """A prompt that makes the model take *steps*."""
    return f"{say} @@{json.dumps(steps)}@@"


class Asked(NamedTuple):
    """One request."""

    path: str
    headers: Mapping[str, str]  # by names in lower case
    body: dict[str, Any]


class ModelServer:
    """Enter it with `serve()`. `url` is its root; `requests` are the bodies it was sent."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        """*headers* go along with every answer that is no error."""
        self.url = ""
        self.requests: list[Any] = []
        self.scripts: dict[str, Sequence[Step]] = {}
        self._headers = dict(headers or {})
        self._failures = Counter[tuple[str | None, int]]()
        self._held: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)
        self._released: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)

    async def held(self, name: str) -> None:
        """The model stands in mid-turn at the step held as *name*."""
        await self._held[name].wait()

    def release(self, name: str) -> None:
        """Let the step held as *name* come to its end."""
        self._released[name].set()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Self]:
        """Serve while the block lasts; leaving it breaks what is open."""
        connections: set[asyncio.Task[Any]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = asyncio.current_task()
            assert connection is not None
            connections.add(connection)
            try:
                while await self._serve_one(reader, writer):
                    pass
                writer.close()
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                writer.transport.abort()  # the client has gone, or the block is left
            finally:
                connections.discard(connection)

        server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for connection in [*connections]:
                connection.cancel()
            if connections:
                await asyncio.wait([*connections], timeout=5)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head.split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        body = await _body(reader, headers)
        method, target, _ = request.split(" ")
        path = target.partition("?")[0]
        if method == "POST" and (shape := shape_of(path)) is not None:
            asked = Asked(path, headers, json.loads(body))
            return await self._play(shape, asked, await self.choose(shape, asked), writer)
        if path.endswith(("/count_tokens", ":countTokens")):
            await _send_json(writer, 200, {"input_tokens": 100, "totalTokens": 100})
        elif method == "GET" and path.endswith("/models"):
            await _send_json(writer, 200, {"object": "list", "data": [], "models": []})
        else:
            await _send_json(writer, 404, {"type": "error", "error": {"type": "not_found_error"}})
        return True

    async def choose(self, shape: Shape, asked: Asked) -> Step:
        """The step that answers a request."""
        self.requests.append(asked.body)
        turns = shape.turns(asked.body)
        step = self._step(turns) if shape.tools(asked.body) else shape.errand(asked.body)
        if "retries" in step:
            # retries look like first calls, so failing a few times needs a memory
            key = asked.headers.get("x-claude-code-session-id"), len(turns)
            self._failures[key] += 1
            if self._failures[key] > step["retries"]:
                return {name: value for name, value in step.items() if name != "error"}
        return step

    async def _play(
        self, shape: Shape, asked: Asked, step: Step, writer: asyncio.StreamWriter
    ) -> bool:
        request = asked.body
        if "error" in step:
            after = {"retry-after": str(step["retry_after"])} if "retry_after" in step else {}
            after |= step.get("headers", {})
            words = step.get("message", "scripted")
            await _send_json(writer, step["error"], shape.error(step["error"], words), after)
            return True
        if step.get("abort"):
            writer.transport.abort()
            return False
        if not shape.streams(asked.path, request):
            await self._hold(step)
            await _send_json(writer, 200, shape.whole(step, request), self._headers)
            return True
        pieces = list(shape.stream(step, request))
        more = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
        writer.write(_head(200, {**more, **self._headers}))
        for n, piece in enumerate(pieces):
            await asyncio.sleep(step.get("pause", 0))
            if n == len(pieces) // 2:
                if step.get("cut"):
                    writer.transport.abort()
                    return False
                await self._hold(step)
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    def _step(self, turns: Sequence[str | None]) -> Step:
        """What the latest script says for now; a prompt without one is answered with a word."""
        for n in range(len(turns) - 1, -1, -1):
            if (text := turns[n]) is not None and (found := _SCRIPT.findall(text)):
                steps = self.scripts.get(found[-1]) or json.loads(found[-1])
                taken = turns[n:].count(None)
                return steps[taken] if taken < len(steps) else {"text": "out of script"}
        return {"text": "ok"}

    async def _hold(self, step: Step) -> None:
        if name := step.get("hold"):
            self._held[name].set()
            await self._released[name].wait()


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    body = b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body


async def _send_json(
    writer: asyncio.StreamWriter,
    status: int,
    value: object,
    headers: Mapping[str, str] | None = None,
) -> None:
    body = json.dumps(value).encode()
    more = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    writer.write(_head(status, more) + body)
    await writer.drain()


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
