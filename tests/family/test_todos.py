"""An agent's own list of tasks, as a percentage and a sentence; and files from a person."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from optio_agents import todos, uploads
from optio_agents.checklist import TodoItem, TodoProgress, TodoUpdate, todo_update_from_payload


def plan(*rows: tuple[str, str]) -> dict[str, Any]:
    entries = [{"content": text, "status": status} for text, status in rows]
    return told({"sessionUpdate": "plan", "entries": entries})


def tool(*rows: tuple[str, str, str], merge: bool = False) -> dict[str, Any]:
    listed = [{"id": one, "content": text, "status": status} for one, text, status in rows]
    given = {"todos": listed, "merge": merge}
    return told({"sessionUpdate": "tool_call", "title": "TodoWrite", "rawInput": given})


def told(update: dict[str, Any]) -> dict[str, Any]:
    return {"method": "session/update", "params": {"update": update}}


class Context:
    def __init__(self) -> None:
        self.reports: list[tuple[int | None, str | None]] = []
        self.lists: list[list[dict[str, str]]] = []

    def report_progress(self, percent: int | None, message: str | None = None) -> None:
        self.reports.append((percent, message))

    async def set_widget_todos(self, items: list[dict[str, str]]) -> None:
        await asyncio.sleep(0)
        self.lists.append(items)


class Place:
    """A work directory."""

    workdir = "/w"

    def __init__(self, **files: bytes) -> None:
        self.files = {f"/w/{name}": data for name, data in files.items()}

    async def fetch_bytes_from_host(self, path: str) -> bytes:
        return self.files[path]

    async def write_text(self, path: str, text: str) -> None:
        self.files[f"/w/{path}"] = text.encode()

    async def put_file_to_host(self, data: bytes, path: str) -> None:
        self.files[path] = data


async def published(tracker: todos.TodoTracker) -> None:
    publishing = vars(tracker)["_publishing"]
    assert publishing is not None
    await publishing


def test_percent_is_what_is_completed_of_all_that_is_not_cancelled() -> None:
    progress = TodoProgress()
    rows = [("a", "completed"), ("b", "canceled"), ("c", "in-progress"), ("d", "odd")]
    update = TodoUpdate([TodoItem("", text, status) for text, status in rows], merge=False)
    report = progress.apply(update)
    assert report is not None
    assert (report.percent, report.message) == (33, 'Now working on Task 2/3, "c"')
    assert TodoProgress().report() is None


def test_a_plan_does_not_end_what_the_tool_left_in_progress_also_when_it_was_kept() -> None:
    progress = TodoProgress()
    for event in tool(("1", "a", "in_progress"), ("2", "b", "pending")), plan(("a", "completed")):
        update = todos.extract_acp_todo(event)
        assert update is not None
        progress.apply(update)
    assert [item.status for item in progress.items] == ["in_progress"]
    again = TodoProgress.from_json(progress.to_json())
    assert again is not None
    again.apply(TodoUpdate([TodoItem("", "a", "completed")], merge=False, source="plan"))
    assert again.items[0].status == "in_progress"
    again.apply(TodoUpdate([TodoItem("a", "a", "completed")], merge=True))
    assert again.items[0].status == "completed"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"items":[{}]}', '{"items":[3]}', "[" * 9999])
def test_what_is_no_list_is_none(text: str) -> None:
    assert TodoProgress.from_json(text) is None


@pytest.mark.parametrize(
    "payload", [{}, {"todos": "x"}, {"plan": 3}, {"todos": [3, None, {"status": "x"}]}]
)
def test_anything_may_stand_in_a_payload(payload: dict[str, Any]) -> None:
    update = todo_update_from_payload(payload)
    assert update is None or not update.items


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"method": "session/update", "params": []},
        told({"sessionUpdate": "plan", "entries": 3}),
        told({"sessionUpdate": "tool_call", "title": "TodoWrite", "rawInput": '{"todos'}),
        told({"sessionUpdate": "tool_call", "title": "Bash", "rawInput": {"todos": []}}),
        told({"sessionUpdate": "agent_message_chunk"}),
    ],
)
def test_what_says_nothing_of_the_list_changes_nothing(event: dict[str, Any]) -> None:
    assert todos.extract_acp_todo(event) is None


async def test_each_change_is_reported_once_and_the_latest_list_published_last() -> None:
    context = Context()
    tracker = todos.TodoTracker(todos.extract_acp_todo, context)
    for event in (
        plan(("a", "in_progress"), ("b", "pending")),
        plan(("a", "in_progress"), ("b", "pending")),
        plan(("a", "completed"), ("b", "completed")),
        plan(),
    ):
        tracker.observe(event)
    await published(tracker)
    assert context.reports == [(0, 'Now working on Task 1/2, "a"'), (100, None), (None, None)]
    assert context.lists[-1] == []


def test_several_changes_of_one_event_are_made_in_order() -> None:
    first = TodoUpdate([TodoItem("1", "a", "pending")], merge=False)
    then = TodoUpdate([TodoItem("1", "", "completed")], merge=True)
    progress = TodoProgress()
    progress.apply(TodoUpdate([], merge=True, steps=(first, then)))
    assert [(item.text, item.status) for item in progress.items] == [("a", "completed")]


def test_rows_are_told_apart_and_one_without_an_id_is_found_by_its_text() -> None:
    progress = TodoProgress()
    same = [TodoItem("", "a", "pending"), TodoItem("", "a", "completed")]
    progress.apply(TodoUpdate(same, merge=False))
    assert [item.id for item in progress.items] == ["a", "a#1"]
    progress.apply(TodoUpdate([TodoItem("7", "b", "pending")], merge=False))
    progress.apply(TodoUpdate([TodoItem("", "b", "completed")], merge=True))
    assert [(item.id, item.status) for item in progress.items] == [("7", "completed")]
    progress.apply(TodoUpdate([TodoItem("8", "b", "pending")], merge=True))
    assert len(progress.items) == 2, "another step in the same words"


async def test_a_replay_corrects_what_was_kept_and_is_reported_once() -> None:
    place, before = Place(), todos.TodoTracker(todos.extract_acp_todo, Context())
    before.observe(plan(("a", "completed"), ("b", "pending")))
    await before.save(place)
    context = Context()
    tracker = todos.TodoTracker(todos.extract_acp_todo, context)
    tracker.begin_replay(reconcile=True)
    assert await tracker.restore(place)
    tracker.observe(tool(("1", "a", "in_progress"), ("3", "new", "pending")))
    tracker.observe(plan(("c", "pending")))
    tracker.end_replay()
    assert [item.text for item in tracker.progress.items] == ["a", "b"]
    assert context.reports == [(0, 'Now working on Task 1/2, "a"')]


async def test_nothing_that_others_raise_goes_any_further() -> None:
    class Broken:
        def report_progress(self, percent: float | None, message: str | None = None) -> None:
            raise RuntimeError("no")

        async def set_widget_todos(self, items: list[Any]) -> None:
            raise RuntimeError("no")

    tracker = todos.TodoTracker(todos.extract_acp_todo, Broken())
    tracker.observe(plan(("a", "pending")))
    await published(tracker)
    todos.TodoTracker(lambda event: 1 / 0, Broken()).observe({})  # type: ignore[arg-type, return-value]
    assert not await tracker.restore(Place())
    assert not await tracker.restore(Place(**{todos.TODO_FILENAME: b"{}"}))
    unseen, place = todos.TodoTracker(todos.extract_acp_todo, Context()), Place()
    await unseen.save(place)
    assert place.files == {}


async def test_a_file_of_a_person_lands_under_its_own_name() -> None:
    place, seen = Place(), []

    async def on_upload(hook: Any, path: str) -> None:
        seen.append((hook, path))
        raise RuntimeError("the file is there all the same")

    path = await uploads.materialize(place, "/w", "C:\\a/b c.md", b"hi", "hook", on_upload)
    assert (path, seen) == ("uploads/b c.md", [("hook", "uploads/b c.md")])
    assert place.files == {"/w/uploads/b c.md": b"hi"}
    for name in "..", "", " ", "a/..", "/", "x" * 300, "a\0b":
        with pytest.raises(ValueError, match="no name of a file"):
            uploads.safe_upload_relpath(name)
    assert (
        uploads.upload_url_token("d", "p", "1") == "{widgetProxyUrl}../../../../widget-upload/d/p/1"
    )
