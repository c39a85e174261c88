"""What we say to an agent in ACP (version 1), and what its requests show. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from optio_agents.conversation import json_rpc
from optio_agents.conversation.contract import (
    Attachment,
    Event,
    PermissionDecision,
    PermissionRequest,
    ToolServer,
)
from optio_agents.conversation.json_lines import as_dict, as_list, decode, read_front
from optio_agents.conversation.json_rpc import RequestId, checked_decision, id_of

PROMPT = "session/prompt"
INITIALIZE, SESSION, MODE = "optio-initialize", "optio-session", "optio-mode"  # ids of ours


def initialize() -> bytes:
    """The first thing said, once in the life of a process."""
    return json_rpc.request(
        INITIALIZE,
        "initialize",
        protocolVersion=1,
        clientCapabilities={
            "fs": {"readTextFile": False, "writeTextFile": False},
            "terminal": False,
        },
        clientInfo={"name": "optio-agents", "version": "1"},
    )


FIRST_INPUT = ((f"{'0' * 20}-a", initialize()),)  # sorts in front of all that is named by the clock


def prompt(
    session: str,
    uuid: str,
    text: str,
    attachments: Sequence[Attachment] = (),
    able: Mapping[str, Any] = MappingProxyType({}),
) -> bytes:
    """*able*: what its prompts may hold. Raises ValueError for an attachment that they cannot."""
    # the uuid stands in front, so that the first bytes of a kept message name it
    blocks = [{"type": "text", "text": text}, *(_block(file, able) for file in attachments)]
    return json_rpc.request(uuid, PROMPT, sessionId=session, prompt=blocks)


def _block(file: Attachment, able: Mapping[str, Any]) -> dict[str, Any]:
    kind, name = file.media_type, file.name or "attachment"
    if file.data is None:  # all take a link
        return {"type": "resource_link", "uri": file.url, "name": name, "mimeType": kind}
    data = base64.b64encode(file.data).decode("ascii")
    sense = kind.partition("/")[0]
    if sense in {"image", "audio"} and able.get(sense) is True:
        return {"type": sense, "mimeType": kind, "data": data}
    if able.get("embeddedContext") is not True or sense in {"image", "audio"}:
        raise ValueError(f"this agent cannot be shown a file of type {kind}: put it on its host")
    about = {"uri": f"attachment:///{quote(name)}", "mimeType": kind}
    if sense == "text":
        text = file.data.decode(errors="replace")
        return {"type": "resource", "resource": {**about, "text": text}}
    return {"type": "resource", "resource": {**about, "blob": data}}


message_of = partial(read_front, json_rpc.message_front(PROMPT))  # a message by its first bytes


def mcp_server(server: ToolServer) -> dict[str, Any]:
    """As a new session is told of it."""
    if server.url is not None:
        headers = [{"name": name, "value": value} for name, value in server.headers.items()]
        return {"type": "http", "name": server.name, "url": server.url, "headers": headers}
    program, *args = server.command
    env = [{"name": name, "value": value} for name, value in server.env.items()]
    return {"name": server.name, "command": program, "args": args, "env": env}


def steer(session: str, request_id: str, text: str) -> bytes:
    """Say *text* into the turn that runs, and never begin one by that."""
    return json_rpc.request(
        request_id,
        "_session/steering",
        sessionId=session,
        prompt=[{"type": "text", "text": text}],
        _meta={"steering": {"idleBehavior": "promptRequired"}},
    )


def cancel(session: str) -> bytes:
    """End the turn that runs; nobody acknowledges it."""
    return json_rpc.notification("session/cancel", sessionId=session)


def setting(request_id: str, session: str, control_id: str, value: str) -> bytes:
    """Go on with another model, or in another mode."""
    about = {"sessionId": session, f"{control_id}Id": value}
    return json_rpc.request(request_id, f"session/set_{control_id}", **about)


def option(request_id: str, session: str, option_id: str, value: str) -> bytes:
    """Set what is an option of its session: the newer way to another model."""
    about = {"sessionId": session, "configId": option_id, "value": value}
    return json_rpc.request(request_id, "session/set_config_option", **about)


def permission_answer(request: PermissionRequest, decision: object) -> bytes:
    """The one valid answer: the first option of the kind that was decided.

    Never by an option's name or id, and never one that lasts. Raises ValueError for a decision
    that this wire cannot carry. A denial with `interrupt` cancels the turn as well.
    """
    params = as_dict(request.raw.get("params"))
    match checked_decision(request, decision):
        case PermissionDecision("allow"):
            return _outcome(request.raw, _first_option(params, "allow_once"))
        case PermissionDecision(interrupt=True):
            session = params.get("sessionId")
            more = cancel(session) if isinstance(session, str) else b""
            return withdrawal(request) + more
    return _outcome(request.raw, _first_option(params, "reject_once"))


def withdrawal(request: PermissionRequest) -> bytes:
    """What an open request is answered before its turn is cancelled: some wait for it for ever."""
    return _outcome(request.raw, None)


def behavior_of(answer: bytes, request: PermissionRequest) -> str:
    """What an answer that was said to *request* has decided: "allow", "deny" or "settled"."""
    match decode(answer.partition(b"\n")[0]):
        case [{"result": {"outcome": {"outcome": "cancelled"}}}]:
            return "deny"
        case [{"result": {"outcome": {"outcome": "selected", "optionId": chosen}}}]:
            params = as_dict(request.raw.get("params"))
            for option in map(as_dict, as_list(params.get("options"))):
                if option.get("optionId") == chosen:
                    return "allow" if str(option.get("kind")).startswith("allow") else "deny"
    return "settled"


def _outcome(event: Event, option: str | None) -> bytes:
    request_id = id_of(event)
    assert request_id is not None  # else nobody had asked
    chosen = {"outcome": "selected", "optionId": option} if option is not None else _CANCELLED
    return json_rpc.result(request_id, {"outcome": chosen})


_CANCELLED = {"outcome": "cancelled"}


def _first_option(params: Mapping[str, Any], kind: str) -> str | None:
    for option in as_list(params.get("options")):
        match option:
            case {"kind": str(known), "optionId": str(name)} if known == kind:
                return name
    return None  # which denies


def permission_request(
    event: Event, request_id: RequestId, known: Mapping[str, Any], place: int
) -> PermissionRequest:
    """What a person is to decide about. *known*: what the agent said of this tool's use before.

    The title alone is never all of it: it may be the model's own words for what it is about to do.
    """
    about = {**known, **as_dict(as_dict(event.get("params")).get("toolCall"))}
    contents = [*as_list(known.get("content")), *as_list(about.get("content"))]
    texts = list(dict.fromkeys(text for block in contents if (text := text_of(block))))
    given = about.get("rawInput") or known.get("rawInput") or _object_in(texts[:1])
    shown = dict(as_dict(given))
    if changes := list(dict.fromkeys(one for block in contents if (one := _change(block)))):
        shown.setdefault(
            "changes", [dict(zip(("path", "old", "new"), one, strict=True)) for one in changes]
        )
    if texts and not isinstance(given, dict):
        shown["details"] = "\n".join(texts)
    if isinstance(title := about.get("title"), str) and title not in shown.values():
        # where nothing else tells the command, it is the title
        alone = not known and not given and about.get("kind") == "execute"
        shown.setdefault("command" if alone else "title", title)
    tool = about.get("kind") or known.get("kind") or about.get("title") or "tool"
    return PermissionRequest(str(tool), shown, event, str(request_id), place)


def _object_in(texts: list[str]) -> dict[str, Any] | None:
    """The input of a tool that was told as text."""
    for text in texts:
        match decode(text.encode()):
            case [{**found}] if "x-optio-unreadable" not in found.values():
                return found
    return None


def _change(block: object) -> tuple[str, str | None, str] | None:
    match block:
        case {"type": "diff", "path": str(path), "newText": str(new), **rest}:
            old = rest.get("oldText")
            return path, old if isinstance(old, str) else None, new
    return None


def text_of(block: object) -> str:
    """What a block of content says; nothing for a change of a file."""
    match block:
        case {"type": "content", "content": {"type": "text", "text": str(text)}}:
            return text
    return ""
