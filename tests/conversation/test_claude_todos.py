"""The claude CLI's own list of tasks, by either of its two families of tools."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from optio_agents.checklist import TodoProgress
from optio_agents.conversation.claude.todos import TaskReader


def use(name: str, given: Any, call: str = "c") -> dict[str, Any]:
    block = {"type": "tool_use", "id": call, "name": name, "input": given}
    return {"type": "assistant", "message": {"content": [block]}}


def answer(text: Any, call: str = "c", **more: Any) -> dict[str, Any]:
    block = {"type": "tool_result", "tool_use_id": call, "content": text, **more}
    return {"type": "user", "message": {"content": [block]}}


def rows(*events: dict[str, Any]) -> list[tuple[str, str, str]]:
    reader, progress = TaskReader(), TodoProgress()
    for event in events:
        for update in reader.feed(event):
            progress.apply(update)
    return [(item.id, item.text, item.status) for item in progress.items]


CREATED = (
    use("TaskCreate", {"subject": "mend", "activeForm": "mending"}),
    answer([{"type": "text", "text": "Task #4 created successfully: mend"}]),
)


def test_the_whole_list_is_written_anew() -> None:
    todos = [{"content": "look", "status": "completed"}, {"content": "mend", "status": "pending"}]
    assert rows(use("TodoWrite", {"todos": todos})) == [
        ("look", "look", "completed"),
        ("mend", "mend", "pending"),
    ]


def test_a_row_is_there_once_the_answer_names_it_and_changes_once_that_was_done() -> None:
    assert rows(CREATED[0]) == []
    assert rows(*CREATED) == [("4", "mend", "pending")]
    change = use("TaskUpdate", {"taskId": "4", "status": "in_progress", "subject": "mend it"})
    assert rows(*CREATED, change) == [("4", "mend", "pending")]
    done = answer("Updated task #4 status, subject")
    assert rows(*CREATED, change, done) == [("4", "mend it", "in_progress")]
    assert rows(*CREATED, change, answer("no", is_error=True)) == [("4", "mend", "pending")]
    gone = use("TaskUpdate", {"taskId": "4", "status": "deleted"})
    assert rows(*CREATED, gone, answer("Updated task #4 deleted")) == []


def test_a_listing_says_which_rows_there_are_and_keeps_what_they_are_called() -> None:
    listing = answer("#4 [completed] mend (somebody)\n#5 [pending] rest")
    assert rows(*CREATED, use("TaskList", {}), listing) == [
        ("4", "mend", "completed"),
        ("5", "rest", "pending"),
    ]
    assert rows(*CREATED, use("TaskList", {}), answer("No tasks found")) == []
    assert rows(*CREATED, use("TaskList", {}), answer("#4 [pending] a\nwhat")) == [
        ("4", "mend", "pending")
    ]


def test_what_its_agents_do_for_themselves_is_no_step_of_its_own() -> None:
    inner = {**use("TodoWrite", {"todos": [{"content": "x"}]}), "parent_tool_use_id": "c"}
    assert rows(inner) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(_JSON, st.sampled_from(["TodoWrite", "TaskCreate", "TaskUpdate", "TaskList"]))
def test_anything_may_be_written(value: Any, name: str) -> None:
    rows(use(name, {"todos": value, "taskId": value}), answer(value), {"message": value})


@pytest.mark.parametrize("text", ["", "Task #", "Updated task #4"])
def test_an_answer_to_nothing_changes_nothing(text: str) -> None:
    assert rows(answer(text)) == []
