"""JSON-RPC as agents speak it over their standard input and output: one object a line. Pure.

Ids belong to whoever asks, on both sides. Ours are strings: a message of the user's is asked under
its own uuid, so the output alone tells which message an answer belongs to, also to a successor.
An agent's are small numbers that begin at 0 in every process of it: given back as they came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from .contract import PermissionDecision, PermissionRequest
from .dialect import ControlAnswered
from .json_lines import CUT_TEXT, as_dict, encode

CONTROL = "optio-"  # what the ids of our requests begin with that are no messages
METHOD_NOT_FOUND = -32601
RequestId: TypeAlias = str | int


def request(request_id: str, method: str, **params: object) -> bytes:
    """Ask for something; the answer has the same id."""
    return encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


def notification(method: str, **params: object) -> bytes:
    """Say something that has no answer."""
    return encode({"jsonrpc": "2.0", "method": method, "params": params})


def result(request_id: RequestId, value: Mapping[str, Any]) -> bytes:
    """Answer a request of the agent's."""
    return encode({"jsonrpc": "2.0", "id": request_id, "result": value})


def refusal(request_id: RequestId, method: str) -> bytes:
    """Tell the agent that this method is not served."""
    words = f"optio-agents does not serve {method[:80]}"
    error = {"code": METHOD_NOT_FOUND, "message": words}
    return encode({"jsonrpc": "2.0", "id": request_id, "error": error})


def id_of(event: Mapping[str, Any]) -> RequestId | None:
    """The id of a request or of an answer, if it is one that can be given back. 0 is one."""
    found = event.get("id")
    return found if isinstance(found, str) or type(found) is int else None


def failure_of(error: object) -> str:
    """What an error answer says, in words."""
    if not isinstance(error, dict):
        return "it failed without a reason"
    words, data = error.get("message"), error.get("data")
    more = data.get("details") or data.get("message") if isinstance(data, dict) else data
    parts = [one for one in (words, more) if isinstance(one, str) and one]
    return ": ".join(dict.fromkeys(parts)) or f"error {str(error.get('code'))[:40]}"


def control_answered(request_id: str, event: Mapping[str, Any]) -> ControlAnswered:
    """What came of a request of ours."""
    refused = failure_of(event["error"]) if "error" in event else None
    return ControlAnswered(request_id, as_dict(event.get("result")), refused)


def message_front(method: str) -> re.Pattern[str]:
    """What `request` writes for a message that is asked by *method*, cut anywhere in its text."""
    return re.compile(
        r'\{"jsonrpc":"2\.0","id":"(?P<uuid>[^"\\]+)","method":"'
        rf'{method}",.*?"type":"text","text":{CUT_TEXT}'
    )


def checked_decision(request: PermissionRequest, decision: object) -> PermissionDecision:
    """*decision*, or a denial for what is none.

    Raises ValueError for what these wires cannot carry: another input, a lasting grant.
    """
    match decision:
        case PermissionDecision("allow", updated, _, _, grants):
            if updated is not None and updated != request.input:
                raise ValueError("this agent can be allowed what it asked, with no other input")
            if grants:
                raise ValueError("this agent can be allowed what it asked once, and no more")
            return decision
        case PermissionDecision("deny"):
            return decision
    return PermissionDecision("deny")
