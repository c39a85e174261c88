"""The four wires of model APIs, as far as agents need them. Pure.

A shape tells what a request holds (the turns so far, the tools on offer) and puts a step of a
script into the words of its API. `turns` is the history in brief: the text of each of the user's,
None for each of the model's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias
from uuid import uuid4

Step: TypeAlias = Mapping[str, Any]
Body: TypeAlias = dict[str, Any]

_SHELLS = {  # what agents call their tool for commands, and its argument
    "Bash": "command",
    "bash": "command",
    "run_shell_command": "command",
    "exec_command": "cmd",
}
_WRITERS = {  # likewise their tool that writes a file: its path, and its text
    "Write": ("file_path", "content"),
    "write_file": ("file_path", "content"),
    "write": ("filePath", "content"),
    "create": ("path", "file_text"),
}
_ESCALATED = {"sandbox_permissions": "require_escalated", "justification": "May it run?"}


class Shape(Protocol):
    """One API; what is written out here, several have in common."""

    def turns(self, request: Body) -> list[str | None]:
        return [
            None if one["role"] == "assistant" else _texts(one.get("content"))
            for one in request["messages"]
        ]

    def tools(self, request: Body) -> dict[str, Body]:
        """The schema of each tool's input, by name."""

    def errand(self, request: Body) -> Step:
        """What a request that offers no tools is answered with."""
        return {"text": "ok"}

    def streams(self, path: str, request: Body) -> bool:
        return bool(request.get("stream"))

    def stream(self, step: Step, request: Body) -> Iterator[bytes]: ...
    def whole(self, step: Step, request: Body) -> Body: ...
    def error(self, status: int, message: str) -> Body:
        return {"error": {"message": message, "type": "scripted", "code": str(status)}}


def shape_of(path: str) -> Shape | None:
    """What is spoken at *path*."""
    return next((shape for ends, shape in _SHAPES.items() if path.endswith(ends)), None)


def _uses(step: Step, tools: Mapping[str, Body]) -> list[tuple[str, Any]]:
    """The tools that *step* uses, with their input; what is required and not given is made up."""
    if "shell" in step:
        name = next((known for known in _SHELLS if known in tools), "Bash")
        given = {_SHELLS.get(name, "command"): step["shell"]}
        more = _ESCALATED if name == "exec_command" else {}
        return [(name, {**_missing(tools.get(name, {})), **given, **more})]
    if "write" in step:
        name = next((known for known in _WRITERS if known in tools), "Write")
        schema = tools.get(name, {})
        path, text = _WRITERS[name]
        if path not in (schema.get("properties") or {path}):
            path = "path"
        return [(name, {**_missing(schema), path: step["write"], text: step["content"]})]
    wanted = step.get("tools", [step] if "tool" in step else [])
    return [(one["tool"], one["input"]) for one in wanted]


def _missing(schema: Body) -> Body:
    known = schema.get("properties") or {}
    return {name: sample(known.get(name, {})) for name in schema.get("required") or ()}


def sample(schema: Body) -> Any:
    """Something that fits *schema*, as far as it goes."""
    if "enum" in schema:
        return schema["enum"][0]
    match str(schema.get("type", "string")).lower():
        case "object":
            known: Body = schema.get("properties") or {}
            return {name: sample(known.get(name, {})) for name in schema.get("required") or known}
        case "array":
            return []
        case "boolean":
            return False
        case "number" | "integer":
            return 0
    return "scripted"


def _as_text(given: Any) -> str:
    """The input of a tool, in JSON; a text stands for itself, and may be broken."""
    return given if isinstance(given, str) else json.dumps(given)


def _tokens(step: Step, *names: str) -> Body:
    """How many went in and came out, and both together, under these *names*."""
    into, out = step.get("tokens", (100, 10))
    return dict(zip(names, (into, out, into + out), strict=False))


def _pieces(step: Step) -> list[str]:
    if "pieces" in step:
        return list(step["pieces"])
    text = step.get("text", "")
    size = max(1, -(-len(text) // step.get("chunks", 2)))
    return [text[n : n + size] for n in range(0, len(text), size)]


def _texts(content: str | Iterable[Body] | None) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(block["text"] for block in content or () if "text" in block)


def _new(prefix: str) -> str:
    return f"{prefix}_{uuid4().hex[:24]}"


def _data(event: object) -> bytes:
    return f"data: {json.dumps(event)}\n\n".encode()


def _named(event: Body) -> bytes:
    return f"event: {event['type']}\n".encode() + _data(event)


class Messages(Shape):
    """Anthropic Messages."""

    _ERRORS = {  # noqa: RUF012 - never changed
        400: "invalid_request_error",
        401: "authentication_error",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    _STOPS = {"refusal": "refusal", "length": "max_tokens"}  # noqa: RUF012 - never changed

    def tools(self, request: Body) -> dict[str, Body]:
        return {one["name"]: one.get("input_schema", {}) for one in request.get("tools") or ()}

    def error(self, status: int, message: str) -> Body:
        kind = self._ERRORS.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}}

    def whole(self, step: Step, request: Body) -> Body:
        content = list[Body]()
        if text := step.get("text"):
            content.append({"type": "text", "text": text})
        for name, given in _uses(step, self.tools(request)):
            content.append({"type": "tool_use", "id": _new("toolu"), "name": name, "input": given})
        uses = bool(content) and content[-1]["type"] == "tool_use"
        stop = self._STOPS.get(step.get("finish", ""), "tool_use" if uses else "end_turn")
        return {
            "id": _new("msg"),  # what has the same id is one message to claude
            "type": "message",
            "role": "assistant",
            "model": request["model"],
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": _tokens(step, "input_tokens", "output_tokens"),
        }

    def stream(self, step: Step, request: Body) -> Iterator[bytes]:
        whole = self.whole(step, request)
        start = {**whole, "content": [], "stop_reason": None}
        yield _named({"type": "message_start", "message": start})
        for index, block in enumerate(whole["content"]):
            yield from map(_named, self._block(index, block, _pieces(step)))
        stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        yield _named({"type": "message_delta", "delta": stop, "usage": whole["usage"]})
        yield _named({"type": "message_stop"})

    def _block(self, index: int, block: Body, pieces: list[str]) -> Iterator[Body]:
        def event(kind: str, **fields: object) -> Body:
            return {"type": f"content_block_{kind}", "index": index, **fields}

        if block["type"] == "text":
            yield event("start", content_block={**block, "text": ""})
            for piece in pieces:
                yield event("delta", delta={"type": "text_delta", "text": piece})
        else:
            yield event("start", content_block={**block, "input": {}})
            delta = {"type": "input_json_delta", "partial_json": _as_text(block["input"])}
            yield event("delta", delta=delta)
        yield event("stop")


class Responses(Shape):
    """OpenAI Responses."""

    def turns(self, request: Body) -> list[str | None]:
        found = list[str | None]()
        for item in request["input"]:
            ours = item.get("role") == "assistant" or item.get("type") in {
                "function_call",
                "custom_tool_call",
                "reasoning",
            }
            if not ours:
                found.append(_texts(item.get("content")))
            elif not found or found[-1] is not None:  # several items are one turn
                found.append(None)
        return found

    def tools(self, request: Body) -> dict[str, Body]:
        offered = request.get("tools") or ()
        return {one.get("name", one["type"]): one.get("parameters", {}) for one in offered}

    def whole(self, step: Step, request: Body) -> Body:
        output = list[Body]()
        if text := step.get("text"):
            refused = step.get("finish") == "refusal"
            part = (
                {"type": "refusal", "refusal": text}
                if refused
                else {"type": "output_text", "text": text, "annotations": []}
            )
            output.append(
                {
                    "type": "message",
                    "id": _new("msg"),
                    "role": "assistant",
                    "status": "completed",
                    "content": [part],
                }
            )
        for path, given in _uses(step, self.tools(request)):
            namespace, _, name = path.rpartition("/")
            output.append(
                {
                    **({"namespace": namespace} if namespace else {}),
                    "type": "function_call",
                    "id": _new("fc"),
                    "call_id": _new("call"),
                    "name": name,
                    "arguments": _as_text(given),
                    "status": "completed",
                }
            )
        cut = step.get("finish") == "length"
        return {
            "id": _new("resp"),
            "object": "response",
            "created_at": 1,
            "model": request["model"],
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "error": None,
            "output": output,
            "usage": {
                **_tokens(step, "input_tokens", "output_tokens", "total_tokens"),
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens_details": {"reasoning_tokens": 0},
            },
        }

    def stream(self, step: Step, request: Body) -> Iterator[bytes]:
        whole = self.whole(step, request)
        begun = {**whole, "status": "in_progress", "output": [], "usage": None}
        yield _named({"type": "response.created", "response": begun})
        for index, item in enumerate(whole["output"]):
            for event in self._item(item, _pieces(step)):
                kind = f"response.{event.pop('type')}"
                yield _named({"type": kind, "output_index": index, "item_id": item["id"], **event})
        yield _named({"type": f"response.{whole['status']}", "response": whole})

    def _item(self, item: Body, pieces: list[str]) -> Iterator[Body]:
        started = {**item, "status": "in_progress"}
        if item["type"] == "message":
            (part,) = item["content"]
            kind = part["type"]
            yield {"type": "output_item.added", "item": {**started, "content": []}}
            yield {"type": "content_part.added", "content_index": 0, "part": {**part, "text": ""}}
            for piece in pieces:
                yield {"type": f"{kind}.delta", "content_index": 0, "delta": piece}
            yield {"type": f"{kind}.done", "content_index": 0, **part}
            yield {"type": "content_part.done", "content_index": 0, "part": part}
        else:
            yield {"type": "output_item.added", "item": {**started, "arguments": ""}}
            yield {"type": "function_call_arguments.delta", "delta": item["arguments"]}
            yield {"type": "function_call_arguments.done", "arguments": item["arguments"]}
        yield {"type": "output_item.done", "item": item}


class Chat(Shape):
    """OpenAI Chat Completions."""

    _STOPS = {"refusal": "content_filter", "length": "length"}  # noqa: RUF012 - never changed

    def tools(self, request: Body) -> dict[str, Body]:
        offered = (one.get("function") for one in request.get("tools") or ())
        return {one["name"]: one.get("parameters", {}) for one in offered if one}

    def whole(self, step: Step, request: Body) -> Body:
        message: Body = {"role": "assistant", "content": step.get("text")}
        if uses := _uses(step, self.tools(request)):
            message["tool_calls"] = [
                {
                    "id": _new("call"),
                    "type": "function",
                    "function": {"name": name, "arguments": _as_text(given)},
                }
                for name, given in uses
            ]
        stop = self._STOPS.get(step.get("finish", ""), "tool_calls" if uses else "stop")
        choice = {"index": 0, "message": message, "finish_reason": stop}
        return {
            **self._frame(request, "chat.completion"),
            "choices": [choice],
            "usage": _tokens(step, "prompt_tokens", "completion_tokens", "total_tokens"),
        }

    def stream(self, step: Step, request: Body) -> Iterator[bytes]:
        whole = self.whole(step, request)
        frame = self._frame(request, "chat.completion.chunk")
        (choice,) = whole["choices"]

        def chunk(delta: Body, reason: str | None = None) -> bytes:
            return _data(
                {**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
            )

        yield chunk({"role": "assistant", "content": ""})
        if "thinking" in step:
            yield chunk({"reasoning_content": step["thinking"]})
        for piece in _pieces(step):
            yield chunk({"content": piece})
        for index, call in enumerate(choice["message"].get("tool_calls", ())):
            yield chunk({"tool_calls": [{"index": index, **call}]})
        yield chunk({}, choice["finish_reason"])
        yield _data({**frame, "choices": [], "usage": whole["usage"]})
        yield b"data: [DONE]\n\n"

    def _frame(self, request: Body, kind: str) -> Body:
        return {"id": _new("chatcmpl"), "object": kind, "created": 1, "model": request["model"]}


class GenerateContent(Shape):
    """Gemini's generateContent."""

    _STOPS = {"refusal": "SAFETY", "length": "MAX_TOKENS"}  # noqa: RUF012 - never changed

    def turns(self, request: Body) -> list[str | None]:
        return [
            None if one.get("role") == "model" else _texts(one["parts"])
            for one in request["contents"]
        ]

    def tools(self, request: Body) -> dict[str, Body]:
        return {
            one["name"]: one.get("parametersJsonSchema") or one.get("parameters") or {}
            for group in request.get("tools") or ()
            for one in group.get("functionDeclarations", ())
        }

    def errand(self, request: Body) -> Step:
        asked = request.get("generationConfig", {})
        schema = asked.get("responseJsonSchema") or asked.get("responseSchema")
        return {"text": json.dumps(sample(schema)) if schema else "ok"}

    def streams(self, path: str, request: Body) -> bool:
        return path.endswith(":streamGenerateContent")

    def error(self, status: int, message: str) -> Body:
        return {"error": {"code": status, "message": message, "status": "SCRIPTED"}}

    def whole(self, step: Step, request: Body) -> Body:
        text, uses = step.get("text"), _uses(step, self.tools(request))
        parts: list[Body] = [{"text": text}] if text else []
        parts += [{"functionCall": {"name": name, "args": given}} for name, given in uses]
        return self._candidate(step, parts, self._STOPS.get(step.get("finish", ""), "STOP"))

    def stream(self, step: Step, request: Body) -> Iterator[bytes]:
        whole = self.whole(step, request)["candidates"][0]
        for piece in _pieces(step):
            yield _data(self._candidate(step, [{"text": piece}], None))
        rest = [part for part in whole["content"]["parts"] if "text" not in part]
        yield _data(self._candidate(step, rest or [{"text": ""}], whole["finishReason"]))

    def _candidate(self, step: Step, parts: list[Body], reason: str | None) -> Body:
        ended = {"finishReason": reason, "index": 0} if reason else {"index": 0}
        candidate = {"content": {"role": "model", "parts": parts}, **ended}
        names = "promptTokenCount", "candidatesTokenCount", "totalTokenCount"
        return {"candidates": [candidate], "usageMetadata": _tokens(step, *names)}


_SHAPES: dict[str, Shape] = {
    "/messages": Messages(),
    "/responses": Responses(),
    "/chat/completions": Chat(),
    ":streamGenerateContent": GenerateContent(),
    ":generateContent": GenerateContent(),
}
