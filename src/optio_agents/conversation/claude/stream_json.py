"""What we say to the claude CLI in its stream-json, and what a person reads of it. Pure.

A malformed line ends the CLI, so everything that goes in is built here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from optio_agents.conversation.contract import (
    Attachment,
    Event,
    PermissionDecision,
    PermissionRequest,
    gist,
)
from optio_agents.conversation.dialect import Passage
from optio_agents.conversation.json_lines import CUT_TEXT, as_dict, decode, encode, read_front

_FRONT = re.compile(  # what `user_message` writes, cut anywhere in its text
    r'\{"type":"user","uuid":"(?P<uuid>[^"\\]+)",(?:"client_composed":true,)?'
    rf'"message":\{{"role":"user","content":(?:\[\{{"type":"text","text":)?{CUT_TEXT}'
)
message_of = partial(read_front, _FRONT)  # a message by its first bytes


def user_message(
    text: str, uuid: str, *, command: bool = False, attachments: Sequence[Attachment] = ()
) -> bytes:
    """What the user says: plain text, unless *command* lets the CLI carry out /… and @….

    `client_composed` is what says so from 2.1.248 on; before, only a text that does not begin
    with a slash is safe, so one that does gets a space in front. Raises ValueError for an
    attachment that the model's API does not take.
    """
    fields: dict[str, object] = {"uuid": uuid} if command else {"uuid": uuid, **_PLAIN}
    content: object = f" {text}" if text.startswith("/") and not command else text
    if attachments:
        content = [{"type": "text", "text": content}, *map(_attached, attachments)]
    # the uuid stands in front, so that the first bytes of a kept message name it
    message = {"role": "user", "content": content}
    return encode({"type": "user", **fields, "message": message})


_PLAIN = {"client_composed": True}


def _attached(file: Attachment) -> dict[str, object]:
    """A block of the model's API."""
    kind = file.media_type
    block: dict[str, object] = {"type": "image" if kind.startswith("image/") else "document"}
    if file.data is None:
        source: dict[str, object] = {"type": "url", "url": file.url}
    elif kind.startswith("text/"):
        text = file.data.decode(errors="replace")
        source = {"type": "text", "media_type": "text/plain", "data": text}
    else:
        data = base64.b64encode(file.data).decode("ascii")
        source = {"type": "base64", "media_type": kind, "data": data}
    if block["type"] == "document":
        if file.data is not None and kind != "application/pdf" and not kind.startswith("text/"):
            raise ValueError(f"claude cannot be shown a file of type {kind}: put it on its host")
        if file.name:
            block["title"] = file.name
    return {**block, "source": source}


def control_request(request_id: str, subtype: str, **fields: object) -> bytes:
    """Ask the CLI for something; it answers with a control_response of the same id."""
    request = {"subtype": subtype, **fields}
    return encode({"type": "control_request", "request_id": request_id, "request": request})


def permission_answer(request: PermissionRequest, decision: object) -> bytes:
    """The one valid answer to *request*, whatever a handler has decided.

    What is not a decision, or cannot be said in JSON, denies and says why.
    """
    asked = request.raw.get("request_id")  # also of a request that somebody else built
    request_id = asked if isinstance(asked, str) else request.id
    try:
        return success(request_id, _decided(request, decision))
    except ValueError as error:
        denial = _denial(f"The permission handler's answer was unusable: {error}")
        return success(request_id, denial)


def behavior_of(answer: bytes) -> str:
    """What an answer that was said has decided: "allow", "deny", "settled" if it tells neither."""
    match decode(answer.strip()):
        case [{"response": {"response": {"behavior": "allow" | "deny" as behavior}}}]:
            return str(behavior)
    return "settled"


def _decided(request: PermissionRequest, decision: object) -> dict[str, Any]:
    match decision:
        case PermissionDecision(behavior="allow", updated_input=None | dict() as updated):
            return {
                "behavior": "allow",
                # 2.1.197 takes an answer without it for a denial
                "updatedInput": request.input if updated is None else updated,
                **_for_session(decision.updated_permissions),
            }
        case PermissionDecision(behavior="deny", message=None | str() as message):
            return _denial(message or "Denied.", interrupt=bool(decision.interrupt))
        case _:
            raise ValueError(f"{type(decision).__name__} is not a usable PermissionDecision")


def _denial(message: str, *, interrupt: bool = False) -> dict[str, Any]:
    return {"behavior": "deny", "message": message, **({"interrupt": True} if interrupt else {})}


def _for_session(permissions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    # any other destination writes into settings files, some of them in the agent's work dir
    kept = [dict(rule) for rule in permissions if rule.get("destination") == "session"]
    return {"updatedPermissions": kept} if kept else {}


def refusal(request_id: str, error: str) -> bytes:
    """Tell the CLI that a control request of its own will not be met."""
    response = {"subtype": "error", "request_id": request_id, "error": error}
    return encode({"type": "control_response", "response": response})


def success(request_id: str, response: Mapping[str, Any]) -> bytes:
    """Answer a control request of the CLI's. Raises ValueError for what no JSON can hold."""
    inner = {"subtype": "success", "request_id": request_id, "response": response}
    return encode({"type": "control_response", "response": inner})


class ClaudePassages:
    """What was said and done, from the events of the CLI."""

    keys: ClassVar = frozenset({"type", "jsonrpc"})
    has_prompts: ClassVar = True
    has_part = False

    def feed(self, event: Event) -> Iterator[Passage]:
        match event:
            case {"type": "user", "message": {"content": str(text)}}:
                yield Passage("person", text)
            case {"type": "user" | "assistant" as who, "message": {"content": list(blocks)}}:
                for block in blocks:
                    yield from _read_block("person" if who == "user" else "agent", block)
            case {"type": "result", "subtype": str(how), **rest}:
                cost = rest.get("total_cost_usd")
                so_far = f", ${cost:.4f} so far" if isinstance(cost, float) else ""
                yield Passage("turn", how + so_far)

    def close(self) -> Iterator[Passage]:
        yield from ()


def _read_block(who: str, block: Any) -> Iterator[Passage]:
    match block:
        case {"type": "text", "text": str(text)}:
            yield Passage(who, text)
        case {"type": "tool_use", "name": str(tool), "input": dict(given)}:
            yield Passage("tool", f"{tool}: {gist(given)}", _change(given))
        case {"type": "tool_result", "content": content}:
            parts = content if isinstance(content, list) else [{"text": content}]
            texts = [str(part["text"]) for part in map(as_dict, parts) if "text" in part]
            yield Passage("result", "\n".join(texts))


def _change(given: Mapping[str, Any]) -> str:
    """What an edit takes out and puts in, without the lines that both have around it."""
    match given:
        case {"old_string": str(old), "new_string": str(new)}:
            pass
        case {"file_path": str(), "content": str(new)}:
            old = ""
        case _:
            return ""
    before, after = old.splitlines(), new.splitlines()
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    return "\n".join([*(f"-{line}" for line in before), *(f"+{line}" for line in after)])
