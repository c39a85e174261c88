"""What a person is told in words of their own, where a program is told more."""

from __future__ import annotations

from typing import Any

import pytest

from optio_agents.cli.screen import questions
from optio_agents.cli.screen.live import LiveRow
from optio_agents.cli.screen.records import ForPerson, records_of, words
from optio_agents.conversation import PermissionRequest
from optio_agents.conversation.contract import TurnResult
from optio_agents.supervision.events import AgentEvent, RequestDecided, RequestOpened, TurnEnded


def test_a_decision_says_of_what() -> None:
    request = PermissionRequest("Bash", {"command": "make test"}, {}, "5d51-86f3")
    told = ForPerson()
    events = RequestOpened(request, "d"), RequestDecided("5d51-86f3", "allow", "you")
    shown = [one for event in events for one in told.read(records_of(event, "s"))]
    assert words(shown[-1]) == "allow by you: Bash `make test`"
    (alone,) = ForPerson().read(records_of(events[1], "s"))  # asked before we looked
    assert words(alone) == "5d51-86f3 allow by you"


def test_what_an_agent_says_on_its_way_is_shown_and_its_last_words_are_the_answer() -> None:
    row = LiveRow("t")

    def said(*blocks: dict[str, Any]) -> AgentEvent:
        return AgentEvent({"type": "assistant", "message": {"content": list(blocks)}})

    text, tool = {"type": "text", "text": "First I look."}, {"type": "tool_use", "name": "Bash"}
    assert list(row.doing(said(text))) == []
    shown = list(row.doing(said({**tool, "input": {"command": "ls"}})))
    assert shown == [("agent", "First I look."), ("Bash", "ls")]
    assert list(row.doing(said({"type": "text", "text": "That is all."}))) == []
    assert list(row.doing(TurnEnded(TurnResult(outcome="completed", text="That is all.")))) == []
    assert list(row.doing(said({**tool, "input": {"command": "ls"}}))) == [("Bash", "ls")]


@pytest.mark.parametrize(
    ("rest", "where"), [({}, ""), ({"replace_all": True}, " (wherever it stands)")]
)
def test_an_edit_is_shown_as_lines_that_go_and_come(rest: dict[str, Any], where: str) -> None:
    edit = {"file_path": "/a.py", "old_string": "a - b\nc", "new_string": "a + b", **rest}
    shown = questions.body(PermissionRequest("Edit", edit, {}, "r"))
    assert shown == f"/a.py{where}:\n- a - b\n- c\n+ a + b"


def test_an_edit_with_more_in_it_is_shown_as_it_is() -> None:
    edit = {"file_path": "/a.py", "old_string": "a", "new_string": "b", "also": "this"}
    assert '"also": "this"' in questions.body(PermissionRequest("Edit", edit, {}, "r"))
