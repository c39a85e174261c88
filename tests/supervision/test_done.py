"""A supervised DONE holds when its check says so, whoever dies meanwhile."""

# ruff: noqa: ASYNC240  # nobody else needs the event loop meanwhile

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.errors import DoneRefused
from optio_agents.store import Store
from optio_agents.supervision import Command, events as happened
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.scripted import scripted_agent
from tests.support.sessions.supervising import PLAIN, Case, Office, Watching
from tests.support.timeouts import BOUND

TWICE = ("DONE: first", "hear", "run touch mended", "DONE: second")
REFUSED = (
    "heard: System: DONE was not accepted (1 of 3): `{}` ended with exit code 1, and said nothing."
)


def command(*steps: str, **more: Any) -> Command:
    return Command(scripted_agent(*steps), env=PLAIN, env_base="empty", **more)


async def run(office: Office, *steps: str, **options: Any) -> Any:
    spec = {"prompt": options.pop("prompt", None), "reads_to_end": options.pop("deaf", False)}
    with anyio.fail_after(BOUND):
        async with office.store() as store, office.host() as host:
            return await supervise(
                host, command(*steps, **spec), store=store, session="s1", **options
            )


@pytest.mark.parametrize("ground", ["local", "me"], indirect=True)
async def test_a_command_decides_in_the_directory_of_the_agent(case: Case) -> None:
    plan = replace(case.plan(*TWICE), options={"verify": "test -e mended"})
    child = case.start(plan)
    with anyio.fail_after(BOUND):
        await case.says(child, "outcome\tdone")
    await anyio.to_thread.run_sync(child.wait)
    heard = case.file("stdout").read_text().splitlines()
    assert heard[0] == REFUSED.format("test -e mended")
    async with Store(case.directory / "j.sqlite3") as store:
        stored = await store.session("s1")
        assert stored.result is not None
        assert (stored.summary, stored.result["verified"]) == ("second", True)
        assert str(stored.state) == "done, verified"


async def test_each_check_is_an_event(office: Office) -> None:
    watching = Watching()
    result = await run(office, *TWICE, verify="test -e mended", observer=watching)
    assert (result.outcome, result.verified) == ("done", True)
    checks = watching.of(happened.DoneChecked)
    assert [check.accepted for check in checks] == [False, True]
    assert "exit code 1" in checks[0].text
    states = [str(seen.state) for seen in watching.of(happened.StateChanged)]
    assert "its DONE is checked" in states


async def test_what_it_said_last_is_told_and_no_more(office: Office) -> None:
    verify = "yes beginning | head -c 9000000; echo the end; echo and errors >&2; exit 3"
    result = await run(office, *TWICE, verify=f"test -e mended || {{ {verify}; }}")
    assert result.verified
    message = next(Path(office.taskdir, "session/said").glob("reply-*")).read_text()
    assert "ended with exit code 3, and said last:" in message
    assert "the end\nand errors\n" in message
    assert len(message) < 10_000


async def test_a_check_that_takes_too_long_is_ended_and_accepts_nothing(office: Office) -> None:
    with pytest.raises(DoneRefused, match=r"ran longer than 0\.5 s and was ended"):
        await run(office, "DONE", verify="sleep 1000", verify_timeout=0.5, verify_tries=1)


async def test_the_session_is_refused_after_so_many_tries(office: Office) -> None:
    with pytest.raises(DoneRefused, match="2 of 2"):
        await run(office, "DONE", "hear", "DONE", "hear", verify="exit 7", verify_tries=2)
    async with office.store() as store:
        stored = await store.session("s1")
        assert (stored.outcome, stored.over) == ("refused", True)


async def test_one_that_reads_its_input_to_the_end_is_refused_at_once(office: Office) -> None:
    with pytest.raises(DoneRefused, match="1 of 3"):
        await run(office, "DONE", "sleep 1000", prompt="go", deaf=True, verify="false")
    assert "you get no second try" in office.first_input()


async def test_the_prompt_says_what_comes_after_done(office: Office) -> None:
    await run(office, "hear", "DONE", prompt="go", verify="true")
    assert "## After DONE" in office.first_input()
    assert "write `DONE` again" in office.first_input()


async def test_without_a_check_the_prompt_knows_of_none(office: Office) -> None:
    result = await run(office, "hear", "DONE", prompt="go")
    assert not result.verified
    assert "After DONE" not in office.first_input()


async def test_a_callback_decides_as_well(office: Office) -> None:
    async def verify(hook: Any, summary: str | None) -> str | None:
        return None if summary == "second" else "call it second"

    result = await run(office, *TWICE, verify=verify)
    assert (result.summary, result.verified) == ("second", True)
    assert office.heard()[0].endswith("(1 of 3): call it second")


COUNTING = "echo x >>../checks; test -e mended"
STEPS = [  # where the supervisor dies, the how manieth time, and how often the check ran then
    ("recorded before handed over", 1),
    ("checked before decided", 1),
    ("decided before said", 1),
    ("handed over before marked", 1),
    ("marked", 1),
    ("recorded before handed over", 2),
    ("checked before decided", 2),
    ("decided before said", 2),
    ("handed over before marked", 2),
    ("marked", 2),
    ("before the end is written", 1),
]


@pytest.mark.parametrize(("step", "occurrence"), STEPS)
@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_killed_at_any_step_the_answer_is_said_once(
    case: Case, step: str, occurrence: int
) -> None:
    plan = case.plan(*TWICE, step=step, occurrence=occurrence)
    with anyio.fail_after(BOUND):
        await case.dies(replace(plan, options={"verify": COUNTING}))
        async with Store(case.directory / "j.sqlite3") as store:
            result = await case.resume(store)  # which knows the check from the session
            events = [row for row in await store.events("s1") if row.kind == "check"]
    assert (result.outcome, result.summary, result.verified) == ("done", "second", True)
    assert case.file("stdout").read_text().splitlines() == [REFUSED.format(COUNTING)]
    assert [row.value["accepted"] for row in events] == [False, True]
    said = {path.name for place in ("in", "said") for path in case.file(place).glob("reply-*")}
    assert len(said) == 1
    checks = Path(case.taskdir, "checks").read_text().count("x")
    least = 3 if step.startswith("checked") else 2
    raced = occurrence == 1 and step.endswith("marked")  # the agent has its answer, and goes on
    assert least <= checks <= least + raced


@pytest.mark.parametrize("step", ["decided before said", "before the end is written"])
@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_killed_at_the_last_refusal_it_stays_refused(case: Case, step: str) -> None:
    plan = case.plan("DONE", "hear", step=step)
    options = {"verify": COUNTING, "verify_tries": 1}
    with anyio.fail_after(BOUND):
        await case.dies(replace(plan, options=options))
        async with Store(case.directory / "j.sqlite3") as store:
            with pytest.raises(DoneRefused, match="1 of 1"):
                await case.resume(store)
    assert Path(case.taskdir, "checks").read_text().count("x") == 1
