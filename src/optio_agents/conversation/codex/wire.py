"""What we say to Codex's app-server, and what its requests show. Pure.

One byte beyond UTF-8 in its input ends it without a word, so all that goes in is ASCII.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias

from optio_agents.conversation import json_rpc
from optio_agents.conversation.contract import (
    Attachment,
    Event,
    PermissionDecision,
    PermissionRequest,
    ToolServer,
    UsageWindow,
)
from optio_agents.conversation.dialect import Passage
from optio_agents.conversation.json_lines import as_dict, as_list, decode, read_front
from optio_agents.conversation.json_rpc import RequestId, checked_decision, id_of

TURN = "turn/start"
INITIALIZE, SESSION = "optio-initialize", "optio-session"  # ids of ours
Sandbox: TypeAlias = Literal["read-only", "workspace-write", "danger-full-access"]

COMMAND = "item/commandExecution/requestApproval"
CHANGE = "item/fileChange/requestApproval"


def mcp_options(servers: Sequence[ToolServer]) -> list[str]:
    """The options that tell its program of *servers*; values come by its environment."""
    options = dict[str, str]()
    for one in servers:
        about = f"mcp_servers.{one.name}"
        if one.url is not None:
            known = one.header_variables.items()
            pairs = ", ".join(f"{json.dumps(name)} = {json.dumps(value)}" for name, value in known)
            options[f"{about}.url"] = json.dumps(one.url)
            options[f"{about}.env_http_headers"] = f"{{{pairs}}}"
        if one.timeout is not None:
            options[f"{about}.tool_timeout_sec"] = json.dumps(one.timeout)
        if one.url is None:
            options[f"{about}.command"] = json.dumps(one.command[0])
            options[f"{about}.args"] = json.dumps(list(one.command[1:]))
            options[f"{about}.env_vars"] = json.dumps(list(one.env))
    # texts and lists of texts are the same in TOML as in JSON
    return [word for name, value in options.items() for word in ("-c", f"{name}={value}")]


def initialize() -> bytes:
    """The first thing said, once in the life of a process: a second time is an error."""
    about = {"name": "optio-agents", "title": "optio-agents", "version": "1"}
    able = {"experimentalApi": True}  # which `clean` is of
    return json_rpc.request(INITIALIZE, "initialize", clientInfo=about, capabilities=able)


FIRST_INPUT = ((f"{'0' * 20}-a", initialize()),)  # sorts in front of all that is named by the clock


def clean(thread: str) -> bytes:
    """End what its commands have left running: an interrupt ends the turn alone."""
    return json_rpc.request("optio-clean", "thread/backgroundTerminals/clean", threadId=thread)


def initialized() -> bytes:
    return json_rpc.notification("initialized")


def message(
    thread: str,
    uuid: str,
    text: str,
    settings: Mapping[str, str],
    attachments: Sequence[Attachment] = (),
) -> bytes:
    """Raises ValueError for an attachment that is no image."""
    # the uuid stands in front, so that the first bytes of a kept message name it
    about = {"threadId": thread, "clientUserMessageId": uuid}
    blocks = [{"type": "text", "text": text}, *map(_image, attachments)]
    return json_rpc.request(uuid, TURN, **about, input=blocks, **settings)


def _image(file: Attachment) -> dict[str, str]:
    if not file.media_type.startswith("image/"):
        words = f"codex cannot be shown a file of type {file.media_type}: put it on its host"
        raise ValueError(words)
    data = base64.b64encode(file.data or b"").decode("ascii")
    return {"type": "image", "url": file.url or f"data:{file.media_type};base64,{data}"}


message_of = partial(read_front, json_rpc.message_front(TURN))  # a message by its first bytes


def steer(thread: str, turn: str, uuid: str, text: str) -> bytes:
    """Say *text* into the turn that runs; refused where none does."""
    blocks = [{"type": "text", "text": text}]
    return json_rpc.request(uuid, "turn/steer", threadId=thread, expectedTurnId=turn, input=blocks)


def interrupt(request_id: str, thread: str, turn: str) -> bytes:
    return json_rpc.request(request_id, "turn/interrupt", threadId=thread, turnId=turn)


def permission_answer(request: PermissionRequest, decision: object) -> bytes:
    """The one valid answer. Raises ValueError for a decision that this wire cannot carry."""
    chosen = "decline"  # and the turn goes on
    match checked_decision(request, decision):
        case PermissionDecision("allow"):
            chosen = "accept"  # never for the session: that would be a grant
        case PermissionDecision(interrupt=True):
            chosen = "cancel"
    request_id = id_of(request.raw)
    assert request_id is not None  # else nobody had asked
    return json_rpc.result(request_id, {"decision": chosen})


def behavior_of(answer: bytes) -> str:
    """What an answer that was said has decided: "allow", "deny" or "settled"."""
    match decode(answer.strip()):
        case [{"result": {"decision": "accept"}}]:
            return "allow"
        case [{"result": {"decision": "decline" | "cancel"}}]:
            return "deny"
    return "settled"


def permission_request(
    event: Event, request_id: RequestId, item: Mapping[str, Any], place: int
) -> PermissionRequest:
    """What a person is to decide about. *item*: what was said of it before."""
    params: Mapping[str, Any] = event["params"]
    shown = {name: params[name] for name in _SHOWN if params.get(name) is not None}
    if event.get("method") == COMMAND:
        if "command" not in shown and isinstance(item.get("command"), str):
            shown["command"] = item["command"]
        return PermissionRequest("command", shown, event, str(request_id), place)
    shown["changes"] = as_list(item.get("changes"))  # the request itself names none
    return PermissionRequest("file change", shown, event, str(request_id), place)


def windows_of(params: Mapping[str, Any]) -> list[UsageWindow]:
    """The windows of the account's allowance, each named by its length."""
    limits, found = as_dict(params.get("rateLimits")), list[UsageWindow]()
    for name in ("primary", "secondary"):
        match limits.get(name):
            case {"usedPercent": int() | float() as used, **rest}:
                minutes = rest.get("windowDurationMins")
                label = f"{minutes // 60}h" if type(minutes) is int else name
                found.append(UsageWindow.until(label, float(used), rest.get("resetsAt")))
    return found


_SHOWN = ("command", "cwd", "reason", "networkApprovalContext", "grantRoot")


class CodexPassages:
    """What was said and done, from what the app-server tells of its items."""

    keys: ClassVar = frozenset({"method", "id"})
    has_prompts: ClassVar = True
    has_part = False

    def feed(self, event: Event) -> Iterator[Passage]:
        match event:
            case {"method": "item/completed", "params": {"item": dict(item)}}:
                yield from _read_item(item)
            case {"method": "turn/completed", "params": {"turn": {"status": str(how), **rest}}}:
                error = rest.get("error")
                yield Passage("turn", f"{how}: {json_rpc.failure_of(error)}" if error else how)

    def close(self) -> Iterator[Passage]:
        yield from ()


def _read_item(item: Mapping[str, Any]) -> Iterator[Passage]:
    match item:
        case {"type": "userMessage", "content": list(blocks)}:
            yield Passage("person", "\n".join(one["text"] for one in blocks if _has_text(one)))
        case {"type": "agentMessage", "text": str(text)}:
            yield Passage("agent", text)
        case {"type": "commandExecution", "command": command, **rest}:
            yield Passage("tool", f"command: {command}")
            status = rest.get("status") if rest.get("status") != "completed" else None
            if printed := rest.get("aggregatedOutput") or status:
                yield Passage("result", str(printed))
        case {"type": "fileChange", "changes": list(changes)}:
            paths = [str(one.get("path")) for one in changes if isinstance(one, dict)]
            yield Passage("tool", f"file change: {', '.join(paths)}")
        case {"type": "mcpToolCall", "tool": tool, **rest}:
            yield Passage("tool", f"{tool}: {json.dumps(rest.get('arguments'))}")
        case {"type": "webSearch", "query": query}:
            yield Passage("tool", f"search: {query}")


def _has_text(block: object) -> bool:
    return isinstance(block, dict) and isinstance(block.get("text"), str)
