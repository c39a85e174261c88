"""What the claude CLI says of its own list of tasks. Pure.

`TodoWrite` gives the whole list anew. The later tools change one row each, and a row has no id
before the CLI's answer names it; so a change counts once its answer says that it was made. What
its agents do for themselves is no step of this list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from optio_agents.checklist import (
    TodoFieldPatch,
    TodoItem,
    TodoUpdate,
    todo_update_from_payload,
)
from optio_agents.conversation.contract import Event
from optio_agents.conversation.json_lines import as_dict, as_list

_TASKS = ("TaskCreate", "TaskUpdate", "TaskList")
_CREATED = re.compile(r"Task #(\S{1,40}) created successfully: (.*)", re.DOTALL)
_LISTED = re.compile(r"#(\S{1,40}) \[(\w{1,20})\] (.*)")
_OPEN = 1000  # calls whose answers are awaited


class TaskReader:
    """Feed it the events of one CLI, in order."""

    TYPES = frozenset({"assistant", "user"})

    def __init__(self) -> None:
        self._calls = dict[str, tuple[str, dict[str, Any]]]()

    def feed(self, event: Event) -> Iterator[TodoUpdate]:
        """What *event* changes."""
        match event:
            case {"message": {"content": list(content)}} if not event.get("parent_tool_use_id"):
                pass
            case _:
                return
        for block in content:
            match block:
                case {"type": "tool_use", "name": "TodoWrite", "input": dict(given)}:
                    if (update := todo_update_from_payload(given)) is not None:
                        yield update
                case {"type": "tool_use", "name": str(name), "id": str(call), "input": dict(given)}:
                    if name in _TASKS and len(self._calls) < _OPEN:
                        self._calls[call] = name, given
                case {"type": "tool_result", "tool_use_id": str(call), **rest}:
                    known = self._calls.pop(call, None)
                    if known is not None and not rest.get("is_error"):
                        yield from _answered(*known, _text(rest.get("content")))


def _answered(name: str, given: dict[str, Any], text: str) -> Iterator[TodoUpdate]:
    words = {key: value for key, value in given.items() if isinstance(value, str) and value}
    if name == "TaskCreate" and (found := _CREATED.fullmatch(text)):
        subject = words.get("subject", found[2])
        about = words.get("activeForm"), words.get("description")
        yield TodoUpdate(
            [TodoItem(found[1], subject, "pending", *about)], merge=True, source="task"
        )
    elif name == "TaskUpdate" and text.startswith("Updated task #") and "taskId" in words:
        task, status = words["taskId"], words.get("status")
        if status == "deleted":
            yield TodoUpdate([], merge=True, source="task", remove_ids=(task,))
            return
        about = words.get("activeForm"), words.get("description")
        patch = TodoFieldPatch(task, words.get("subject"), status, *about)
        yield TodoUpdate([], merge=True, source="task", patches=(patch,))
    elif name == "TaskList":
        lines = [line for line in text.splitlines() if line.strip()]
        rows = [_LISTED.fullmatch(line) for line in lines if line != "No tasks found"]
        items = [TodoItem(row[1], row[3], row[2]) for row in rows if row is not None]
        if lines and len(items) == len(rows):
            yield TodoUpdate(items, merge=False, source="task_list")


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    texts = [block.get("text") for block in map(as_dict, as_list(content))]
    return "".join(text for text in texts if isinstance(text, str))
