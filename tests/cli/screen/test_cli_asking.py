"""What counts as a decision of the person at the terminal, and what does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from typing import Any

import anyio
import pytest
from rich.console import Console

from optio_agents.cli.screen import asking, questions
from optio_agents.cli.verbs import act
from optio_agents.conversation import PermissionDecision, PermissionRequest
from optio_agents.errors import AgentError
from optio_agents.supervision.events import OpenRequest
from tests.support.agents.pipe_handle import until

RULE = {"type": "addRules", "behavior": "allow", "rules": [{"toolName": "Bash"}]}
LONG = {"command": "\n".join(f"line {number}" for number in range(60))}
WHICH = {"question": "Which way?", "options": [{"label": "left"}, {"label": "right"}]}
WHEN = {"question": "When?", "options": [{"label": "now"}, {"label": "then"}]}


def request(
    given: dict[str, Any] | None = None, *suggested: Any, tool: str = "Bash", name: str = "r1"
) -> PermissionRequest:
    raw = {"request_id": name, "request": {"permission_suggestions": list(suggested)}}
    return PermissionRequest(tool, given or {"command": "rm -rf build"}, raw, name)


class Screen:
    """A terminal of that size, drawn when a test says so."""

    def __init__(self, width: int = 80, height: int = 24) -> None:
        self.height = height
        self.output = StringIO()
        self.console = Console(width=width, height=200, file=self.output, color_system=None)
        self.asking = asking.Asking(self.console, lambda: None)
        self.decided: dict[str, PermissionDecision] = {}

    @asynccontextmanager
    async def asks(self, *requests: PermissionRequest) -> AsyncIterator[None]:
        """These are asked while the block lasts."""

        async def ask(one: PermissionRequest) -> None:
            self.decided[one.id] = await self.asking.ask("t", one)

        async with anyio.create_task_group() as tasks:
            for one in requests:
                tasks.start_soon(ask, one)
            await anyio.wait_all_tasks_blocked()
            self.draw()
            yield
            tasks.cancel_scope.cancel()

    def draw(self) -> str:
        with self.console.capture() as captured:
            for line in self.asking.draw(self.height):
                self.console.print(line)
        return captured.get()

    async def press(self, *keys: str) -> dict[str, PermissionDecision]:
        for key in keys:
            self.asking.pressed(key)
            await anyio.wait_all_tasks_blocked()
            self.draw()
        return self.decided


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MOMENT", 0.0)


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MOMENT", 3600.0)


@pytest.mark.usefixtures("never")
@pytest.mark.parametrize("keys", ["clear", "yyyyyyyy", "nano", "a1234567890"])
async def test_letters_typed_while_it_came_up_decide_nothing(keys: str) -> None:
    screen = Screen()
    async with screen.asks(request({"command": "x"}, RULE)):
        assert "a moment, then a key decides" in screen.draw()
        assert await screen.press(*keys) == {}


async def test_any_key_makes_the_moment_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    async with screen.asks(request()):
        monkeypatch.setattr(asking, "MOMENT", 0.2)
        await until(lambda: "y allow" in screen.draw())
        monkeypatch.setattr(asking, "MOMENT", 3600.0)
        assert await screen.press("x", "y") == {}


async def test_one_held_key_answers_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(asking, "MOMENT", 0.0)
    async with screen.asks(*(request(name=name) for name in ("r1", "r2", "r3", "r4"))):
        assert (await screen.press("y")).keys() == {"r1"}
        monkeypatch.setattr(asking, "MOMENT", 3600.0)
        screen.draw()
        assert (await screen.press(*"y" * 50)).keys() == {"r1"}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("keys", ["yes", "ay", "\x1b[a", "\x1bOy", "", "y\r"])
async def test_what_comes_at_once_is_no_decision(keys: str) -> None:
    screen = Screen()
    async with screen.asks(request({"command": "x"}, RULE)):
        assert await screen.press(keys) == {}
        assert (await screen.press("y"))["r1"].behavior == "allow"


@pytest.mark.usefixtures("at_once")
async def test_what_is_not_on_the_screen_whole_is_not_allowed_before_it_was_shown() -> None:
    screen = Screen()
    async with screen.asks(request(LONG, RULE)):
        drawn = screen.draw()
        assert "n deny · m shows all of it, and then y allows" in drawn
        assert "line 59" not in drawn
        assert len(drawn.splitlines()) <= screen.height
        assert await screen.press("y", "a") == {}
        await screen.press("m")
        assert screen.output.getvalue().splitlines()[-2:] == [
            "  line 59",
            "  (always grants: all of Bash)",
        ]
        assert (await screen.press("y"))["r1"].behavior == "allow"


@pytest.mark.usefixtures("at_once")
async def test_a_window_that_was_made_small_hides_what_was_whole() -> None:
    screen = Screen()
    async with screen.asks(request({"command": "one\ntwo\nthree\nfour"})):
        screen.height = 6
        assert "four" not in screen.draw()
        assert await screen.press("y") == {}
        screen.height = 24
        screen.draw()
        assert (await screen.press("y"))["r1"].behavior == "allow"


@pytest.mark.usefixtures("at_once")
async def test_what_nobody_read_can_be_denied() -> None:
    screen = Screen()
    async with screen.asks(request(LONG)):
        assert (await screen.press("n"))["r1"].behavior == "deny"


@pytest.mark.usefixtures("at_once")
async def test_always_shows_what_it_grants() -> None:
    screen = Screen()
    async with screen.asks(request({"command": "x"}, RULE)):
        assert "(always grants: all of Bash)" in screen.draw()
        assert "a always (until this session ends)" in screen.draw()
        decision = (await screen.press("a"))["r1"]
    assert [one["type"] for one in decision.updated_permissions] == ["addRules"]


def test_who_saw_another_grant_has_not_seen_this_one() -> None:
    shown = OpenRequest.of(request({"command": "x"}))
    asked = OpenRequest.of(request({"command": "x"}, RULE))
    assert asked.was_shown_as(asked.digest, PermissionDecision("allow", updated_permissions=[RULE]))
    assert not asked.was_shown_as(shown.digest, PermissionDecision("allow"))


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("suggested", [(), ({"type": "setMode", "mode": "acceptEdits"},)])
async def test_always_is_not_offered_where_it_grants_nothing(suggested: tuple[Any, ...]) -> None:
    screen = Screen()
    async with screen.asks(request({"command": "x"}, *suggested)):
        assert "always" not in screen.draw()
        assert await screen.press("a") == {}


@pytest.mark.usefixtures("at_once")
async def test_what_is_too_long_to_be_read_is_denied_and_not_approved() -> None:
    screen = Screen()
    async with screen.asks(request({"command": "x" * (1 << 20) + "; rm -rf ~"}, RULE)):
        assert "too long to be approved · n deny" in screen.draw()
        assert await screen.press("m", "y", "a") == {}
        assert (await screen.press("n"))["r1"].behavior == "deny"


def test_nor_is_it_approved_by_who_sees_no_screen() -> None:
    with pytest.raises(AgentError, match="too long to be read"):
        questions.allow(request({"command": "x" * ((1 << 20) + 1)}))
    with pytest.raises(AgentError, match="nothing can be granted"):
        questions.allow(request(), always=True)


@pytest.mark.usefixtures("at_once")
async def test_each_question_is_answered_by_a_number() -> None:
    screen = Screen()
    asked = request({"questions": [WHICH, WHEN]}, tool="AskUserQuestion")
    async with screen.asks(asked):
        assert "  Which way?\n    1 left\n    2 right\n" in screen.draw()
        assert await screen.press("y", "7", "2") == {}
        assert "  When?\n    1 now\n" in screen.draw()
        decision = (await screen.press("1"))["r1"]
    assert decision.updated_input
    assert decision.updated_input["answers"] == {"Which way?": "right", "When?": "now"}


@pytest.mark.usefixtures("at_once")
async def test_a_question_that_does_not_fit_is_not_chosen_from() -> None:
    screen = Screen(height=8)
    question = {**WHICH, "question": "Which way? " * 100}
    async with screen.asks(request({"questions": [question]}, tool="AskUserQuestion")):
        assert "2 right" not in screen.draw()
        assert await screen.press("2") == {}
        assert (await screen.press("m", "2")).keys() == {"r1"}


def test_an_exact_name_is_found_also_where_it_begins_another() -> None:
    asked = [OpenRequest.of(request(name=name)) for name in ("r1", "r12", "r2")]
    found = act._the_one(asked, "r1")  # noqa: SLF001 - what a person names, without a session
    assert found is asked[0]
    for ambiguous in "r", None:
        with pytest.raises(AgentError, match="r1, r12, r2"):
            act._the_one(asked, ambiguous)  # noqa: SLF001


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("broken", [[7], [{"question": "?"}], [{**WHICH, "options": ["a"]}]])
async def test_a_malformed_question_is_shown_as_it_is(broken: list[Any]) -> None:
    screen = Screen()
    async with screen.asks(request({"questions": broken}, tool="AskUserQuestion")):
        assert '"questions": [' in screen.draw()
        assert (await screen.press("n"))["r1"].behavior == "deny"


async def test_what_is_asked_cannot_pass_for_a_line_of_ours() -> None:
    screen = Screen()
    forged = f"ls{' ' * 76}\ny allow · n deny\n{'x' * 78}y allow"
    async with screen.asks(request({"command": forged})):
        drawn = screen.draw().splitlines()
    assert all(line.startswith("  ") for line in drawn[1:-1])
    assert drawn[-1] == "a moment, then a key decides"


def test_a_question_is_shown_as_its_choices_and_forges_none() -> None:
    option = {"label": "right\n  3 nothing", "description": "to the sea"}
    asked = {**WHICH, "question": "Which\n  1 way?", "options": [{"label": "left"}, option]}
    shown = questions.body(request({"questions": [asked]}, tool="AskUserQuestion"))
    assert shown.splitlines() == [
        r"Which\n  1 way?",
        "  1 left",
        r"  2 right\n  3 nothing (to the sea)",
    ]
