"""Questions that an agent asks, as a person reads them, and answers as the agent expects them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from optio_agents.conversation.claude.permissions import (
    allow_for_session,
    answer_questions as reply,
    questions as _questions,
)
from optio_agents.conversation.contract import PermissionDecision
from optio_agents.display import visible, visible_block

if TYPE_CHECKING:
    from optio_agents.conversation import PermissionRequest


__all__ = ["allow", "asked", "deny", "heading", "questions", "reply"]

_WHOLE = 1 << 20  # characters: an approval shows all that is approved
_DENIED = "The operator said no. Do something else, or ask what they want."


def asked(request: PermissionRequest) -> str:
    """What is asked, in full: what a person approves is what they could read."""
    match request.input:
        case {"command": str(text), **rest}:
            about = rest.pop("description", None)
            more = f"\n({json.dumps(rest, ensure_ascii=False)})" if rest else ""
            text = f"{text}{more}" if about is None else f"{text}{more}\n# {about}"
        case {"plan": str(text), **rest} if not rest:
            pass
        case {"file_path": str(path), "content": str(content), **rest} if not rest:
            text = f"{path}:\n{content}"
        case other:
            text = json.dumps(other, indent=2, ensure_ascii=False)
    return visible_block(text, limit=_WHOLE)


def heading(request: PermissionRequest) -> str:
    """One line above it."""
    return f"{visible(request.tool_name, limit=60)} [{visible(request.id, limit=40)}]"


def questions(request: PermissionRequest) -> list[tuple[str, list[str]]]:
    """What the agent asks its user, with the labels to choose from; empty for a permission."""
    return [
        (str(one.get("question", "")), [str(o.get("label", "")) for o in one.get("options", [])])
        for one in _questions(request)
    ]


def allow(request: PermissionRequest, *, always: bool = False) -> PermissionDecision:
    """Let it; with *always* the like of it too, until the session ends."""
    return allow_for_session(request) if always else PermissionDecision("allow")


def deny(message: str | None = None) -> PermissionDecision:
    """Do not let it; the agent reads why."""
    return PermissionDecision("deny", message=message or _DENIED)
