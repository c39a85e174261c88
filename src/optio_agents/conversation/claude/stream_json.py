"""What we say to the claude CLI in its stream-json. Pure.

A malformed line ends the CLI, so everything that goes in is built here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from optio_agents.conversation.contract import PermissionDecision, PermissionRequest, Unconfirmed
from optio_agents.conversation.json_lines import decode, encode

_SAID = re.compile(  # what `user_message` writes, cut anywhere in its text
    r'\{"type":"user","uuid":"(?P<uuid>[^"\\]+)",(?:"client_composed":true,)?'
    r'"message":\{"role":"user","content":"(?P<text>(?:[^"\\]|\\u[0-9a-f]{4}|\\[^u])*)'
)


def user_message(text: str, uuid: str, *, command: bool = False) -> bytes:
    """What the user says: plain text, unless *command* lets the CLI carry out /… and @….

    `client_composed` is what says so from 2.1.248 on; before, only a text that does not begin
    with a slash is safe, so one that does gets a space in front.
    """
    if command:
        return _user({"uuid": uuid}, text)
    guarded = f" {text}" if text.startswith("/") else text
    return _user({"uuid": uuid, "client_composed": True}, guarded)


def _user(fields: Mapping[str, object], text: str) -> bytes:
    # the uuid stands in front, so that the first bytes of a kept message name it
    message = {"role": "user", "content": text}
    return encode({"type": "user", **fields, "message": message})


def message_of(front: bytes) -> Unconfirmed | None:
    """The message of which `user_message` made *front*, if it did; its text as far as it goes."""
    if (found := _SAID.match(front.decode("ascii", errors="replace"))) is None:
        return None
    text: str = json.loads(f'"{found["text"]}"')
    # a front may end within a surrogate pair
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return Unconfirmed(found["uuid"], whole)


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
