"""What an agent asks for, as a person reads it, and answers as the agent expects them.

Whoever approves has seen all that they approve: `body` is the whole request with what "always"
would grant, and what is too long to be read is denied, not approved.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from optio_agents.conversation.claude.permissions import (
    allow_for_session,
    grants,
    questions as whole_questions,
)
from optio_agents.conversation.contract import PermissionDecision
from optio_agents.display import visible, visible_block
from optio_agents.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optio_agents.conversation import PermissionRequest


_LONG = 10_000  # characters of a question, or of a choice
INDENT = 2  # what is asked stands behind so many blanks
_READABLE = 1 << 20  # characters; nobody reads more than that
_ESCAPED = 10  # characters at most that stand for one
_DENIED = "The operator said no. Do something else, or ask what they want."


def heading(request: PermissionRequest) -> str:
    """One line above it."""
    return f"{visible(request.tool_name, limit=60)} [{visible(request.id, limit=40)}]"


def body(request: PermissionRequest) -> str:
    """All that is asked, or the front of it where it is not `readable`."""
    text = _whole(request)
    shown = visible_block(text[:_READABLE], limit=_ESCAPED * _READABLE)
    left = len(text) - _READABLE
    return shown if left <= 0 else f"{shown}…\n({left} characters more: too long to be approved)"


def readable(request: PermissionRequest) -> bool:
    """Whether it may be approved: it is short enough to be shown whole."""
    return len(_whole(request)) <= _READABLE


def _whole(request: PermissionRequest) -> str:
    if questions(request):
        return "\n".join(_choices(request))
    match request.input:
        case {"command": str(text), **rest}:
            about = rest.pop("description", None)
            more = f"\n({json.dumps(rest, ensure_ascii=False)})" if rest else ""
            text = f"{text}{more}" if about is None else f"{text}{more}\n# {about}"
        case {"plan": str(text), **rest} if not rest:
            pass
        case {"file_path": str(path), "content": str(content), **rest} if not rest:
            text = f"{path}:\n{content}"
        case {"file_path": str(path), "old_string": str(old), "new_string": str(new), **rest} if (
            rest in ({}, {"replace_all": False}, {"replace_all": True})
        ):
            where = " (wherever it stands)" if rest.get("replace_all") else ""
            lines = [f"- {line}" for line in old.split("\n")]
            lines += [f"+ {line}" for line in new.split("\n")]
            text = "\n".join([f"{path}{where}:", *lines])
        case other:
            text = json.dumps(other, indent=2, ensure_ascii=False)
    granted = grants(request)
    return f"{text}\n(always grants: {'; '.join(granted)})" if granted else text


def _choices(request: PermissionRequest) -> Iterator[str]:
    """Each question with its choices, numbered, and what they mean."""
    for one in whole_questions(request):
        yield visible(one["question"], limit=_LONG)
        for number, option in enumerate(one["options"], 1):
            label, about = option["label"], option.get("description")
            yield visible(f"  {number} {label}{f' ({about})' if about else ''}", limit=_LONG)


def block(text: str, width: int) -> str:
    """*text* on a terminal of that width: indented, also where it is folded; it forges no line."""
    from rich.cells import chop_cells  # not for whoever only prints lines

    room, shown = max(10, width - INDENT), list[str]()
    for line in text.expandtabs().split("\n"):
        shown += chop_cells(line, room) if len(line) > room // 2 else [line]
    return "\n".join(" " * INDENT + line for line in shown)


def questions(request: PermissionRequest) -> list[tuple[str, list[str]]]:
    """What the agent asks its user, with the labels to choose from; empty for a permission."""
    return [
        (one["question"], [option["label"] for option in one["options"]])
        for one in whole_questions(request)
    ]


def allow(request: PermissionRequest, *, always: bool = False) -> PermissionDecision:
    """Let it; with *always* what `grants` tells, too, until the session ends.

    Raises AgentError where it is too long to be read, and where nothing can be granted.
    """
    if not readable(request):
        raise AgentError("this is too long to be read, so it cannot be approved: deny it")
    if always and not grants(request):
        raise AgentError("nothing can be granted beyond this one request: leave out --always")
    return allow_for_session(request) if always else PermissionDecision("allow")


def deny(message: str | None = None) -> PermissionDecision:
    """Do not let it; the agent reads why."""
    return PermissionDecision("deny", message=message or _DENIED)
