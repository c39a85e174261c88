"""A model API on loopback that says what a script says, in four wire formats.

    async with scripted_model("Hello", {"call": "search", "arguments": {"query": "x"}}) as api:
        model("openai-chat:any", base_url=api.url, credential="none")

Each request gets the next reply: a text (or a list of pieces of one), a use of tools (one dict, or
several in a list), a number (that HTTP status), or a function of the request that gives one of
these. `api.requests` holds what was asked for, as `(path, headers, body)`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from inspect import isawaitable
from typing import Any

Event = tuple[str, dict[str, Any]]


@dataclass
class Asked:
    """One request."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class ScriptedModel:
    """What the server was asked, and where it is."""

    replies: list[Any]
    url: str = ""
    requests: list[Asked] = field(default_factory=list)
    pause: float = 0.0  # seconds before each piece
    _open: set[asyncio.Task[Any] | None] = field(default_factory=set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(asyncio.current_task())
        try:
            while (head := await reader.readline()).strip():
                _, path, _ = head.decode().split(" ", 2)
                headers = {}
                while line := (await reader.readline()).strip():
                    name, _, value = line.decode("latin-1").partition(":")
                    headers[name.lower()] = value.strip()
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                await self._reply(Asked(path, headers, json.loads(body or b"{}")), writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the block is left
        finally:
            self._open.discard(asyncio.current_task())
            writer.close()

    async def _reply(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        self.requests.append(asked)
        reply = self.replies.pop(0) if self.replies else 500
        if callable(reply):
            reply = reply(asked)
            if isawaitable(reply):
                reply = await reply
        if isinstance(reply, int):
            text = json.dumps({"error": {"message": f"scripted {reply}", "type": "scripted"}})
            head = f"HTTP/1.1 {reply} No\r\ncontent-type: application/json\r\n"
            writer.write(f"{head}content-length: {len(text)}\r\n\r\n{text}".encode())
            await writer.drain()
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for name, event in _events(asked.path, reply, len(self.requests)):
            if self.pause:
                await asyncio.sleep(self.pause)
            data = "[DONE]" if name == "[DONE]" else json.dumps(event)
            said = f"event: {name}\n" if name and name != "[DONE]" else ""
            chunk = f"{said}data: {data}\n\n".encode()
            writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()


@asynccontextmanager
async def scripted_model(*replies: Any, pause: float = 0.0) -> AsyncIterator[ScriptedModel]:
    """Serve *replies* on a loopback port while the block lasts."""
    script = ScriptedModel(list(replies), pause=pause)
    server = await asyncio.start_server(script._serve, "127.0.0.1", 0)  # noqa: SLF001
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()
        for task in tuple(script._open):  # noqa: SLF001
            if task is not None:
                task.cancel()
                await asyncio.wait([task], timeout=5)


def _events(path: str, reply: Any, number: int) -> Iterator[Event]:
    parts = reply if isinstance(reply, list) else [reply]
    dialects: dict[str, Callable[[list[Any], int], Iterator[Event]]] = {
        "/chat/completions": _chat,
        "/responses": _responses,
        "/messages": _anthropic,
    }
    for ending, dialect in dialects.items():
        if path.partition("?")[0].endswith(ending):
            return dialect(parts, number)
    return _gemini(parts, number)


def _chat(parts: list[Any], number: int) -> Iterator[Event]:
    base = {"id": f"c{number}", "object": "chat.completion.chunk", "created": 1, "model": "m"}

    def chunk(delta: dict[str, Any], ending: str | None = None) -> Event:
        choice = {"index": 0, "delta": delta, "finish_reason": ending}
        return "", {**base, "choices": [choice]}

    ending = "stop"
    for index, part in enumerate(parts):
        if isinstance(part, str):
            yield chunk({"role": "assistant", "content": part})
        elif "thinking" in part:
            yield chunk({"role": "assistant", "reasoning_content": part["thinking"]})
        else:
            ending = "tool_calls"
            function = {"name": part["call"], "arguments": _arguments(part)}
            call = {"index": index, "id": f"t{number}-{index}", "type": "function"}
            yield chunk({"role": "assistant", "tool_calls": [{**call, "function": function}]})
    yield chunk({}, _ending(parts) or ending)
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    yield "", {**base, "choices": [], "usage": usage}
    yield "[DONE]", {}


def _responses(parts: list[Any], number: int) -> Iterator[Event]:
    usage = {
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    response = {"id": f"r{number}", "object": "response", "created_at": 1, "model": "m"}
    response |= {"output": [], "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    sequence = iter(range(10_000))

    def event(kind: str, **more: Any) -> Event:
        return kind, {"type": kind, "sequence_number": next(sequence), **more}

    yield event("response.created", response={**response, "status": "in_progress"})
    texts = [part for part in parts if isinstance(part, str)]
    place = 0
    if texts:
        item = {"id": f"m{number}", "type": "message", "role": "assistant", "content": []}
        where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        yield event("response.output_item.added", output_index=0, item={**item, "status": "x"})
        part = {"type": "output_text", "text": "", "annotations": []}
        yield event("response.content_part.added", **where, part=part)
        for text in texts:
            yield event("response.output_text.delta", **where, delta=text, logprobs=[])
        whole = {"type": "output_text", "text": "".join(texts), "annotations": []}
        yield event("response.output_text.done", **where, text="".join(texts), logprobs=[])
        yield event("response.content_part.done", **where, part=whole)
        done = {**item, "content": [whole], "status": "completed"}
        yield event("response.output_item.done", output_index=0, item=done)
        place = 1
    for index, part in enumerate((p for p in parts if not isinstance(p, str)), place):
        item = {"id": f"f{number}-{index}", "type": "function_call", "name": part["call"]}
        item |= {"call_id": f"t{number}-{index}", "arguments": "", "status": "in_progress"}
        yield event("response.output_item.added", output_index=index, item=item)
        text = _arguments(part)
        where = {"item_id": item["id"], "output_index": index}
        yield event("response.function_call_arguments.delta", **where, delta=text)
        yield event("response.function_call_arguments.done", **where, arguments=text)
        done = {**item, "arguments": text, "status": "completed"}
        yield event("response.output_item.done", output_index=index, item=done)
    yield event("response.completed", response={**response, "status": "completed", "usage": usage})


def _anthropic(parts: list[Any], number: int) -> Iterator[Event]:
    message: dict[str, Any] = {
        "id": f"msg{number}",
        "type": "message",
        "role": "assistant",
        "model": "m",
    }
    message |= {"content": [], "stop_reason": None, "stop_sequence": None}
    message |= {"usage": {"input_tokens": 10, "output_tokens": 1}}
    yield "message_start", {"type": "message_start", "message": message}
    blocks: list[list[Any]] = []
    for part in parts:
        if isinstance(part, str) and blocks and isinstance(blocks[-1][0], str):
            blocks[-1].append(part)
        else:
            blocks.append([part])
    for index, block in enumerate(blocks):
        first = block[0]
        if isinstance(first, str):
            start: dict[str, Any] = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in block]
        else:
            start = {"type": "tool_use", "id": f"t{number}-{index}", "name": first["call"]}
            start |= {"input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": _arguments(first)}]
        yield (
            "content_block_start",
            {"type": "content_block_start", "index": index, "content_block": start},
        )
        for delta in deltas:
            yield (
                "content_block_delta",
                {"type": "content_block_delta", "index": index, "delta": delta},
            )
        yield "content_block_stop", {"type": "content_block_stop", "index": index}
    tools = any(not isinstance(part, str) for part in parts)
    stop = {"stop_reason": "tool_use" if tools else "end_turn", "stop_sequence": None}
    yield "message_delta", {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 5}}
    yield "message_stop", {"type": "message_stop"}


def _gemini(parts: list[Any], number: int) -> Iterator[Event]:
    for index, part in enumerate(parts):
        if isinstance(part, str):
            said: dict[str, Any] = {"text": part}
        else:
            arguments = part.get("arguments", {})
            said = {"functionCall": {"name": part["call"], "args": arguments}}
        candidate: dict[str, Any] = {"content": {"parts": [said], "role": "model"}, "index": 0}
        if index == len(parts) - 1:
            candidate["finishReason"] = "STOP"
        usage = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
        yield (
            "",
            {"candidates": [candidate], "usageMetadata": usage, "responseId": f"g{number}"},
        )


def _arguments(part: dict[str, Any]) -> str:
    arguments = part.get("arguments", {})
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _ending(parts: list[Any]) -> str | None:
    endings = [part["ending"] for part in parts if isinstance(part, dict) and "ending" in part]
    return endings[0] if endings else None
