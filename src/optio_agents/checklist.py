"""An agent's own list of what it has to do, as a percentage and a sentence.

Agents keep such lists in ways of their own: they write the whole list anew, or change rows of it,
or send a plan. All of that is a `TodoUpdate` here, and what comes of it a `TodoProgress`: percent
is what is completed of all that is not cancelled, the sentence names what is in progress.

A *plan* is a picture of the list that some agents send beside the tool that keeps it, and at the
end of a turn it may call done what the tool left in progress. There the tool's word counts, also
after the list was kept in a file and read again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

Source: TypeAlias = Literal["tool", "plan", "task", "task_list"]

STATUSES = ("pending", "in_progress", "completed", "cancelled")
TODO_TOOL_NAMES = frozenset(("todowrite", "writetodo", "writetodos", "updatetodos", "todo"))
_LONGEST = 500  # rows that are looked at


@dataclass
class TodoItem:
    """One row."""

    id: str
    text: str
    status: str
    active: str | None = None  # what it is called while it is being done
    description: str | None = None
    tool: str | None = None  # the status that the agent's tool gave it last

    def to_dict(self) -> dict[str, str]:
        """For a view: what is not there is left out, and who said it."""
        row = {"id": self.id, "text": self.text, "status": self.status}
        more = {"active": self.active, "description": self.description}
        return row | {name: value for name, value in more.items() if value}


@dataclass(frozen=True)
class TodoFieldPatch:
    """What changes of the row *id*; None leaves a field as it is."""

    id: str
    text: str | None = None
    status: str | None = None
    active: str | None = None
    description: str | None = None


@dataclass(frozen=True)
class TodoUpdate:
    """What an agent did to its list: *items* in the place of all, or merged into them."""

    items: Sequence[TodoItem]
    merge: bool
    source: Source = "tool"
    patches: Sequence[TodoFieldPatch] = ()
    remove_ids: Sequence[str] = ()
    steps: Sequence[TodoUpdate] = ()  # further changes, in order


@dataclass(frozen=True)
class TodoReport:
    """What people are shown; there is no message where nothing is in progress."""

    percent: int
    message: str | None


class TodoProgress:
    """A list as it stands."""

    def __init__(self) -> None:
        self.items: list[TodoItem] = []
        self.changes = 0  # how often it was another than before

    def apply(self, update: TodoUpdate) -> TodoReport | None:
        """Take in *update*; the report on what came of it."""
        before = self.widget_items()
        rows = [_cleaned(item, update.source) for item in update.items[:_LONGEST]]
        if update.merge:
            for row in rows:
                self._merge(row)
        else:
            self.items = _told_apart([self._succeed(row, update.source) for row in rows])
        for patch in update.patches:
            self._patch(patch)
        if update.remove_ids:
            self.items = [item for item in self.items if item.id not in update.remove_ids]
        for step in update.steps:
            self.apply(step)
        self.changes += self.widget_items() != before
        return self.report()

    def correct(self, update: TodoUpdate) -> None:
        """Take over what *update* says of rows that are there; the list stays as it is."""
        for row in (_cleaned(item, update.source) for item in update.items):
            if update.source != "plan" and (known := self._find(row)) is not None:
                known.status, known.tool = row.status, row.tool

    def report(self) -> TodoReport | None:
        """None where nothing counts."""
        counted = [item for item in self.items if item.status != "cancelled"]
        if not counted:
            return None
        done = sum(item.status == "completed" for item in counted)
        percent = int(100 * done / len(counted) + 0.5)
        running = [
            f'Task {place}/{len(counted)}, "{item.text}"'
            for place, item in enumerate(counted, 1)
            if item.status == "in_progress"
        ]
        return TodoReport(percent, f"Now working on {' and '.join(running)}" if running else None)

    def widget_items(self) -> list[dict[str, str]]:
        """The rows, for a view."""
        return [item.to_dict() for item in self.items]

    def to_json(self) -> str:
        rows = [item.to_dict() | ({"tool": item.tool} if item.tool else {}) for item in self.items]
        return json.dumps({"items": rows}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> TodoProgress | None:
        """What `to_json` gave; None for anything else."""
        progress = cls()
        try:
            rows = json.loads(text)["items"]
            for row in rows:
                item = TodoItem(row["id"], row["text"], row["status"])
                item.active, item.description = row.get("active"), row.get("description")
                item.tool = row.get("tool")
                if not all(isinstance(part, str | None) for part in vars(item).values()):
                    return None
                progress.items.append(_held(_cleaned(item, "plan"), item.tool))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        return progress

    def _find(self, row: TodoItem) -> TodoItem | None:
        """The row that *row* is about: by its id, or by its text where one of them has no other."""
        for item in self.items:
            if item.id == row.id:
                return item
        return next(
            (item for item in self.items if item.text == row.text in (item.id, row.id)), None
        )

    def _merge(self, row: TodoItem) -> None:
        known = self._find(row)
        if known is None:
            self.items.append(replace(row, text=row.text or row.id))
            return
        known.text = row.text or known.text
        known.status, known.tool = row.status, row.tool or known.tool
        known.active = row.active or known.active
        known.description = row.description or known.description

    def _succeed(self, row: TodoItem, source: Source) -> TodoItem:
        """*row* in a new list, with what is known of it from the one before."""
        row = replace(row, text=row.text or row.id)
        known = next((item for item in self.items if item.id == row.id), None)
        if source == "plan":
            known = known or next((item for item in self.items if item.text == row.text), None)
            return _held(row, None if known is None else known.tool)
        if source == "task_list" and known is not None:
            return replace(row, text=known.text, active=known.active, description=known.description)
        return row

    def _patch(self, patch: TodoFieldPatch) -> None:
        for item in self.items:
            if item.id == patch.id:
                item.text = patch.text or item.text
                item.active = patch.active or item.active
                item.description = patch.description or item.description
                if patch.status and (status := _status(patch.status, "")):
                    item.status = item.tool = status


def _told_apart(rows: list[TodoItem]) -> list[TodoItem]:
    """With an id of its own for each: a view knows rows by them."""
    seen = set[str]()
    for place, row in enumerate(rows):
        if row.id in seen:
            row.id = f"{row.id}#{place}"
        seen.add(row.id)
    return rows


def _cleaned(item: TodoItem, source: Source) -> TodoItem:
    status = _status(item.status, "pending")
    tool = None if source == "plan" else status
    return replace(item, id=item.id or item.text, status=status, tool=tool)


def _held(row: TodoItem, tool: str | None) -> TodoItem:
    """What a tool left in progress is not done because a plan says so."""
    if tool == "in_progress" and row.status == "completed":
        return replace(row, status=tool, tool=tool)
    return replace(row, tool=tool)


def _status(word: object, otherwise: str) -> str:
    known = {"canceled": "cancelled", "inprogress": "in_progress", "in-progress": "in_progress"}
    status = known.get(str(word).lower(), str(word).lower())
    return status if status in STATUSES else otherwise


def normalize_tool_name(name: str) -> str:
    """The letters and digits of *name*, in lower case."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def todo_update_from_payload(payload: Mapping[str, Any]) -> TodoUpdate | None:
    """What an agent gave its tool: `todos` or `plan`, and `merge`. None where it is no list."""
    rows = payload.get("todos", payload.get("plan"))
    if not isinstance(rows, list):
        return None
    items = [item for row in rows[:_LONGEST] if (item := todo_item(row)) is not None]
    return TodoUpdate(items, merge=payload.get("merge") is True)


def todo_item(row: object) -> TodoItem | None:
    """One row as agents write it; None where there is nothing to show."""
    if not isinstance(row, Mapping):
        return None
    words = {name: value for name, value in row.items() if isinstance(value, str) and value}
    given = row.get("id")
    identity = str(given) if isinstance(given, str | int) and not isinstance(given, bool) else ""
    text = next((words[key] for key in ("content", "step", "text", "title") if key in words), "")
    if not text and not identity:
        return None
    meta = row.get("_meta")
    cancelled = isinstance(meta, Mapping) and meta.get("cancelled") is True
    status = "cancelled" if cancelled else words.get("status", "pending")
    return TodoItem(identity, text, status, words.get("activeForm"), words.get("description"))
