"""The wire of the claude CLI's stream-json: one JSON object a line, both ways. Pure.

Facts that shaped it: a malformed line ends the CLI, so everything that goes in is built here;
what comes out may be anything, so reading never raises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from optio_agents.conversation.contract import (
    Event,
    PermissionDecision,
    PermissionRequest,
    Unconfirmed,
)

LINE_LIMIT = 64 << 20  # bytes of a line: a Write call's input is on one
NOBODY_ANSWERED = "Nobody answered this permission request in time, so it was denied."

_EXCERPT = 200  # characters of an unreadable line that its event quotes
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # half the time of json.loads

_SAID = re.compile(  # what `user_message` writes, cut anywhere in its text
    r'\{"type":"user","uuid":"(?P<uuid>[^"\\]+)",(?:"client_composed":true,)?'
    r'"message":\{"role":"user","content":"(?P<text>(?:[^"\\]|\\u[0-9a-f]{4}|\\[^u])*)'
)


def decode_all(lines: Iterable[bytes]) -> list[Event]:
    """The events of *lines*, in order; see `decode`."""
    found, scan = list[Event](), _scan
    for line in lines:
        try:
            text = line.decode()
            value, end = scan(text, 0)
            if end == len(text) and type(value) is dict:
                found.append(value)
                continue
        except (StopIteration, ValueError, RecursionError):
            pass
        found += decode(line)
    return found


def decode(line: bytes) -> list[Event]:
    """The events of one line: the CLI's object as it is, or one of ours (`x-optio-unreadable`).

    A line that is not UTF-8 gives both: ours first, then the CLI's with U+FFFD for bad bytes.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode(errors="replace")
        return [_unreadable("not UTF-8", text), *_parse(text)]
    return _parse(text)


def cut(line: bytes, size: int) -> Event:
    """The event for a line of *size* bytes of which only the front is known."""
    front = line[: 4 * _EXCERPT].decode(errors="replace")
    return _unreadable("too long", front, size=size)


def _parse(text: str) -> list[Event]:
    try:
        value, end = _scan(text, 0)
        if end < len(text) and not text[end:].isspace():
            return [_unreadable("not JSON", text)]
    except (StopIteration, ValueError):
        if (front := text.lstrip(" \t\r\n")) not in {"", text}:
            return _parse(front)
        return [_unreadable("not JSON", text)] if text and not text.isspace() else []
    except RecursionError:
        return [_unreadable("nested too deep", text)]
    return [value] if type(value) is dict else [_unreadable("not an object", text)]


def _unreadable(reason: str, text: str, **more: object) -> Event:
    excerpt = text[:_EXCERPT]
    return {"type": "x-optio-unreadable", "reason": reason, "excerpt": excerpt, **more}


def encode(message: Mapping[str, Any]) -> bytes:
    """One line. Raises ValueError for what no JSON can hold."""
    try:
        # ASCII also for lone surrogates and U+2028, which other readers trip over
        text = json.dumps(message, allow_nan=False, separators=(",", ":"))
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from error
    return text.encode("ascii") + b"\n"


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
    try:
        return _success(request.id, _decided(request, decision))
    except ValueError as error:
        return _success(
            request.id, _denial(f"The permission handler's answer was unusable: {error}")
        )


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


def _success(request_id: str, response: Mapping[str, Any]) -> bytes:
    inner = {"subtype": "success", "request_id": request_id, "response": response}
    return encode({"type": "control_response", "response": inner})


def failure(result: Event) -> str | None:
    """Why the turn that *result* ends failed; None if it was completed.

    An API that is down gives subtype "success" with is_error, an abort by priority not even that.
    """
    aborted = str(result.get("terminal_reason") or "").startswith("aborted")
    if result.get("subtype") == "success" and not result.get("is_error") and not aborted:
        return None
    if aborted:
        return "interrupted"
    errors = [str(error) for error in result.get("errors") or () if isinstance(error, str)]
    said = result.get("result")
    words = said if isinstance(said, str) and said else "; ".join(errors)
    return words or str(result.get("subtype") or "failed")
