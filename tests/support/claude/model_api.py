"""A Messages API on loopback whose model does what its prompt says, for the real claude CLI.

The script is a JSON list of steps that travels in the prompt, `@@[...]@@`; the step to play is
the number of assistant messages behind it. So the server keeps no conversation: retries,
resumes, forks and parallel sessions need nothing of it.

    {"text": "hello"}                                  says it and ends its turn
    {"text": "hello", "chunks": 5}                     in as many pieces
    {"tool": "Bash", "input": {"command": "true"}}     uses a tool; "tools": [...] several at once
    {"error": 529, "message": "…", "retry_after": 2}   fails; with "retries": 2 only that often
    {"text": "hel…", "cut": true}                      breaks the connection in mid-stream
    {"abort": true}                                    breaks it instead of an answer
    {..., "hold": "name"}                              waits for `release("name")` before its end

A script that is too long for a prompt is kept in `scripts` and called by its name, `@@name@@`.

A held step streams its first half, so that whoever awaits `held("name")` stands in mid-turn.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias
from uuid import uuid4

import anyio

Step: TypeAlias = Mapping[str, Any]

_SCRIPT = re.compile(r"@@(\[.*?\]|\w+)@@", re.DOTALL)
_USAGE = {"input_tokens": 100, "output_tokens": 10}
_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


def scripted(*steps: Step, say: str = "Do it.") -> str:
    """A prompt that makes the model take *steps*."""
    return f"{say} @@{json.dumps(steps)}@@"


class ModelApi:
    """Enter it with `serve()`. `url` goes into ANTHROPIC_BASE_URL; `requests` are the bodies."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.scripts: dict[str, Sequence[Step]] = {}
        self._headers = dict(headers or {})
        self._failures = Counter[tuple[str | None, int]]()
        self._held: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)
        self._released: defaultdict[str, anyio.Event] = defaultdict(anyio.Event)

    async def held(self, name: str) -> None:
        """The model stands in mid-turn at the step held as *name*."""
        await self._held[name].wait()

    def release(self, name: str) -> None:
        self._released[name].set()

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[ModelApi]:
        writers: set[asyncio.StreamWriter] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.add(writer)
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._serve_one(reader, writer):
                    pass
            writers.discard(writer)
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for writer in writers:
                writer.transport.abort()
            for event in self._released.values():
                event.set()
            # one turn of the loop for each connection to notice
            await asyncio.sleep(0)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head.split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        method, path, _ = request.split(" ")
        if method == "POST" and path.split("?")[0].endswith("/v1/messages"):
            return await self._reply(json.loads(body), headers, writer)
        await _send_json(writer, 404, {"type": "error", "error": {"type": "not_found_error"}})
        return True

    async def _reply(
        self, request: dict[str, Any], headers: Mapping[str, str], writer: asyncio.StreamWriter
    ) -> bool:
        self.requests.append(request)
        step = self._step(request["messages"])
        if "error" in step:
            # the CLI's retries look like first calls, so failing a few times needs a memory
            key = headers.get("x-claude-code-session-id"), len(request["messages"])
            self._failures[key] += 1
            if self._failures[key] <= step.get("retries", 1 << 30):
                await _send_error(writer, step)
                return True
        if step.get("abort"):
            writer.transport.abort()
            return False
        events = list(_stream(step, request["model"]))
        if not request.get("stream"):
            await self._hold(step)
            await _send_json(writer, 200, _message(step, request["model"]), self._headers)
            return True
        await _start_stream(writer, self._headers)
        for n, event in enumerate(events):
            if n == len(events) // 2:
                if step.get("cut"):
                    writer.transport.abort()
                    return False
                await self._hold(step)
            await _send_chunk(writer, event)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    def _step(self, messages: Sequence[Mapping[str, Any]]) -> Step:
        """What the latest script says for now; a prompt without one is answered with a word."""
        for n in range(len(messages) - 1, -1, -1):
            if messages[n]["role"] == "assistant":
                continue
            if found := _SCRIPT.findall(_text(messages[n]["content"])):
                steps = self.scripts.get(found[-1]) or json.loads(found[-1])
                taken = sum(1 for message in messages[n:] if message["role"] == "assistant")
                return steps[taken] if taken < len(steps) else {"text": "out of script"}
        return {"text": "ok"}

    async def _hold(self, step: Step) -> None:
        if name := step.get("hold"):
            self._held[name].set()
            await self._released[name].wait()


def _text(content: str | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(block["text"] for block in content if block.get("type") == "text")


def _blocks(step: Step) -> Iterator[dict[str, Any]]:
    if text := step.get("text"):
        yield {"type": "text", "text": text}
    for tool in step.get("tools", [step] if "tool" in step else []):
        name = f"toolu_{uuid4().hex[:24]}"
        yield {"type": "tool_use", "id": name, "name": tool["tool"], "input": tool["input"]}


def _message(step: Step, model: str) -> dict[str, Any]:
    content = list(_blocks(step))
    return {
        "id": f"msg_{uuid4().hex[:24]}",  # what has the same id is one message to the CLI
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": "tool_use" if content[-1]["type"] == "tool_use" else "end_turn",
        "stop_sequence": None,
        "usage": _USAGE,
    }


def _stream(step: Step, model: str) -> Iterator[dict[str, Any]]:
    whole = _message(step, model)
    start = {**whole, "content": [], "stop_reason": None}
    yield {"type": "message_start", "message": start}
    for index, block in enumerate(whole["content"]):
        yield from _block_events(index, block, step.get("chunks", 2))
    stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": _USAGE}
    yield {"type": "message_stop"}


def _block_events(index: int, block: dict[str, Any], chunks: int) -> Iterator[dict[str, Any]]:
    def event(kind: str, **fields: object) -> dict[str, Any]:
        return {"type": f"content_block_{kind}", "index": index, **fields}

    if block["type"] == "text":
        yield event("start", content_block={**block, "text": ""})
        size = -(-len(block["text"]) // chunks)
        for n in range(0, len(block["text"]), size):
            piece = block["text"][n : n + size]
            yield event("delta", delta={"type": "text_delta", "text": piece})
    else:
        yield event("start", content_block={**block, "input": {}})
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield event("delta", delta=delta)
    yield event("stop")


async def _send_error(writer: asyncio.StreamWriter, step: Step) -> None:
    status = step["error"]
    error = {"type": _ERRORS.get(status, "api_error"), "message": step.get("message", "scripted")}
    after = {"retry-after": str(step["retry_after"])} if "retry_after" in step else {}
    await _send_json(writer, status, {"type": "error", "error": error}, after)


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


async def _start_stream(writer: asyncio.StreamWriter, headers: Mapping[str, str]) -> None:
    more = {"content-type": "text/event-stream", "transfer-encoding": "chunked", **headers}
    writer.write(_head(200, more))
    await writer.drain()


async def _send_chunk(writer: asyncio.StreamWriter, event: dict[str, Any]) -> None:
    data = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
    writer.write(b"%x\r\n%b\r\n" % (len(data), data))
    await writer.drain()


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
