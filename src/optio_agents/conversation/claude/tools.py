"""Tools and hooks of ours that the claude CLI calls by its control requests. Pure.

It takes us for an MCP server, whose messages travel in its own stream: no port and no token, and
they go wherever the stream goes, through SSH and past the death of a supervisor. The handshake and
the list of tools have one right answer, which needs nobody; a call is somebody's to serve.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from optio_agents.conversation.contract import (
    Attachment,
    Event,
    PermissionDecision,
    ToolCall,
    ToolServer,
)
from optio_agents.conversation.dialect import CallAsked, ReplyOwed
from optio_agents.conversation.json_lines import as_dict
from optio_agents.conversation.json_rpc import METHOD_NOT_FOUND

from .stream_json import refusal, success

if TYPE_CHECKING:
    from optio_agents.conversation.approvals import Served


SERVER = "optio"  # what the CLI calls us; a tool's whole name is mcp__optio__NAME


def mcp_config(servers: Sequence[ToolServer]) -> str:
    """What tells the CLI of *servers*; it puts in values of its environment itself."""
    told = dict[str, dict[str, object]]()
    for one in servers:
        if one.url is not None:
            headers = {name: f"${{{known}}}" for name, known in one.header_variables.items()}
            told[one.name] = {"type": "http", "url": one.url, "headers": headers}
        else:
            env = {name: f"${{{name}}}" for name in one.env}
            program, *args = one.command
            told[one.name] = {"type": "stdio", "command": program, "args": args, "env": env}
    return json.dumps({"mcpServers": told})


def rules_for(served: Served) -> list[str]:
    """What lets the CLI use these tools unasked."""
    return [f"mcp__{SERVER}__{name}" for name in served.tools]


def initialize_fields(served: Served) -> dict[str, Any]:
    """What `initialize` says of them."""
    hooks: dict[str, list[dict[str, Any]]] = {}
    for name, hook in served.hooks.items():
        given = {"matcher": hook.matcher, "hookCallbackIds": [name], "timeout": hook.timeout}
        hooks.setdefault(hook.event, []).append(given)
    return {
        **({"sdkMcpServers": [SERVER]} if served.tools else {}),
        **({"hooks": hooks} if hooks else {}),
    }


def listed(served: Served) -> list[dict[str, Any]]:
    """The tools, as the CLI is told of them."""
    return [
        {"name": name, "description": tool.description, "inputSchema": dict(tool.parameters)}
        for name, tool in served.tools.items()
    ]


def asked(
    request_id: str, request: object, event: Event, place: int, tools: Sequence[object]
) -> CallAsked | ReplyOwed | None:
    """What a control request wants of our tools and hooks; None if it is about neither."""
    match request:
        case {"subtype": "hook_callback", "callback_id": str(name), "input": dict(given)}:
            of = name.partition(":")[0]
            call = ToolCall(name, given, request_id, event, request_id, place, event=of)
            return CallAsked(call, lambda result: _hook_answer(request_id, of, result))
        case {"subtype": "mcp_message", "server_name": name, "message": dict(message)} if (
            name == SERVER
        ):
            if (call_of := _tool_call(request_id, message, event, place)) is not None:
                return CallAsked(
                    call_of,
                    lambda result: _reply(request_id, message, result=_tool_result(result)),
                )
            return ReplyOwed(request_id, place, _handshake(request_id, message, tools))
    return None


def _tool_call(
    request_id: str, message: Mapping[str, Any], event: Event, place: int
) -> ToolCall | None:
    match message:
        case {"method": "tools/call", "params": {"name": str(name), **params}}:
            use = as_dict(params.get("_meta")).get("claudecode/toolUseId")
            return ToolCall(
                name,
                as_dict(params.get("arguments")),
                use if isinstance(use, str) and use else request_id,
                event,
                request_id,
                place,
            )
    return None


def _handshake(request_id: str, message: Mapping[str, Any], tools: Sequence[object]) -> bytes:
    method = message.get("method")
    if method == "initialize":
        version = as_dict(message.get("params")).get("protocolVersion")
        about = {"name": "optio-agents", "version": "1"}
        able: dict[str, Any] = {"protocolVersion": version, "capabilities": {"tools": {}}}
        return _reply(request_id, message, result={**able, "serverInfo": about})
    if method == "tools/list":
        return _reply(request_id, message, result={"tools": tools})
    if method == "ping" or "id" not in message:  # a notification wants an answer, too
        return _reply(request_id, message, result={})
    error = {"code": METHOD_NOT_FOUND, "message": "optio-agents serves tools alone"}
    return _reply(request_id, message, error=error)


def _reply(request_id: str, message: Mapping[str, Any], **answer: object) -> bytes:
    which = {"id": message["id"]} if "id" in message else {}
    return success(request_id, {"mcp_response": {"jsonrpc": "2.0", **which, **answer}})


def _tool_result(result: object) -> dict[str, Any]:
    if isinstance(result, Exception):
        return {"content": [_text(str(result) or type(result).__name__)], "isError": True}
    try:
        return {"content": list(_content(result))}
    except (TypeError, ValueError) as error:
        words = f"what the tool gave cannot be told: {error}"
        return {"content": [_text(words)], "isError": True}


def _content(value: object) -> Iterator[dict[str, Any]]:
    """*value* as blocks that a model reads."""
    if value is None:
        yield _text("")
    elif isinstance(value, str):
        yield _text(value)
    elif isinstance(value, Attachment):
        yield _block(value)
    elif isinstance(value, list | tuple) and any(isinstance(one, Attachment) for one in value):
        for one in value:
            yield from _content(one)
    elif isinstance(text := getattr(value, "text", None), str) and hasattr(value, "attachments"):
        yield _text(text)
        for attached in value.attachments:
            yield _block(attached)
    else:
        yield _text(json.dumps(value, default=_plain, allow_nan=False))


def _plain(value: Any) -> object:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _block(attached: Attachment) -> dict[str, Any]:
    if attached.data is None:
        return _text(f"{attached.name} {attached.url}".strip())
    data, kind = base64.b64encode(attached.data).decode("ascii"), attached.media_type
    if kind.startswith(("image/", "audio/")):
        return {"type": kind.partition("/")[0], "data": data, "mimeType": kind}
    resource = {"uri": f"attachment:{attached.name}", "mimeType": kind, "blob": data}
    return {"type": "resource", "resource": resource}


def _hook_answer(request_id: str, event: str, result: object) -> bytes:
    """What the hook gave, or raised: then the use of a tool is denied, and all else goes on."""
    try:
        return success(request_id, _hooked(event, result))
    except (TypeError, ValueError) as error:
        words = f"the hook failed: {error}"
        if event == "PreToolUse":
            return success(request_id, _decided(PermissionDecision("deny", message=words)))
        return refusal(request_id, words)


def _hooked(event: str, result: object) -> Mapping[str, Any]:
    match result:
        case None:
            return {}
        case PermissionDecision() if event == "PreToolUse":
            return _decided(result)
        case Mapping():
            return result
        case Exception():
            raise ValueError(str(result) or type(result).__name__)
    raise TypeError(f"{type(result).__name__} is no answer to {event}")


def _decided(decision: PermissionDecision) -> dict[str, Any]:
    said: dict[str, Any] = {"permissionDecision": decision.behavior}
    if decision.message:
        said["permissionDecisionReason"] = decision.message
    if decision.updated_input is not None:
        said["updatedInput"] = decision.updated_input
    return {"hookSpecificOutput": {"hookEventName": "PreToolUse", **said}}
