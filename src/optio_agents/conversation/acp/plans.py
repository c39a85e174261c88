"""What an ACP agent says of its own list of tasks: plans, and calls of the tool that keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optio_agents.checklist import (
    TODO_TOOL_NAMES,
    TodoUpdate,
    normalize_tool_name,
    todo_item,
    todo_update_from_payload,
)

_TOOL = "x.ai/tool"  # grok names the tool here, and a person's title before it


def extract_acp_todo(event: Mapping[str, Any]) -> TodoUpdate | None:
    """What *event*, a whole `session/update`, says about the list; mostly nothing."""
    params = event.get("params")
    update = params.get("update") if isinstance(params, Mapping) else None
    if event.get("method") != "session/update" or not isinstance(update, Mapping):
        return None
    return todo_in(update)


def todo_in(update: Mapping[str, Any]) -> TodoUpdate | None:
    """The same, of the update in it."""
    match update.get("sessionUpdate"):
        case "plan":
            rows = update.get("entries")
            if not isinstance(rows, list):
                return None
            items = [item for row in rows if (item := todo_item(row)) is not None]
            return TodoUpdate(items, merge=False, source="plan")
        case "tool_call" | "tool_call_update":
            payload = update.get("rawInput")
            if isinstance(payload, Mapping) and _keeps_the_list(update, payload):
                return todo_update_from_payload(payload)
    return None


def _keeps_the_list(update: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
    meta = update.get("_meta")
    tool = meta.get(_TOOL) if isinstance(meta, Mapping) else None
    names = (
        update.get("title"),
        payload.get("variant"),
        tool.get("name") if isinstance(tool, Mapping) else None,
    )
    return any(
        isinstance(name, str) and normalize_tool_name(name) in TODO_TOOL_NAMES for name in names
    )
