"""A supervisor that dies at any moment loses nothing: the next one goes on where it stood."""

import asyncio
import hashlib
import signal
from dataclasses import replace
from typing import Any

import anyio
import pytest

from optio_agents import agents
from optio_agents.errors import AgentExited
from optio_agents.protocol.protocol import get_protocol
from optio_agents.store import Store
from optio_agents.supervision.supervise import supervise
from tests.support.chance import Chance
from tests.support.hosts.hosts import Ground
from tests.support.sessions.supervising import Case, Watching
from tests.support.sessions.supervisor import STEPS, Given, Plan
from tests.support.timeouts import BOUND

pytestmark = pytest.mark.timeout(900)  # each round has its bound; releases run many
LARGE = 300_000  # bytes: more than one piece of a transfer
SAYS = (
    "STATUS: 10% a",
    "DELIVERABLE: deliverables/a.txt",
    "STATUS: 60% b",
    "DELIVERABLE: deliverables/b.bin",
    'CALLER_MESSAGE: ask {"n": 1}',
    "DONE: all",
)
SCRIPT = (
    SAYS[0],
    "write a.txt hello",
    SAYS[1],
    "hear",
    SAYS[2],
    f"binary b.bin {LARGE}",
    SAYS[3],
    "hear",
    SAYS[4],
    "hear",
    SAYS[5],
)
WAIT = "run until [ -e go ]; do sleep 0.02; done"
HEARD = [
    "heard: System: deliverable a.txt: accepted.",
    "heard: System: deliverable b.bin: accepted.",
    "heard: System: answer to ask",
]
FILES = {"a.txt": b"hello\n", "b.bin": bytes(LARGE)}
EXPECTED_GIVEN = [
    *(f"{name} {hashlib.sha256(data).hexdigest()}" for name, data in FILES.items()),
    'ask {"n": 1}',
]


async def check(case: Case, store: Store, result: Any) -> None:
    """Everything is as if nobody had died, save for what may have been handed over twice."""
    assert (result.outcome, result.summary, result.statuses) == ("done", "all", 2)
    assert result.agent.exit_code == 0
    delivered = [(d.path, d.size, d.taken) for d in result.deliverables]
    assert delivered == [(name, len(data), True) for name, data in FILES.items()]
    events = await store.events("s1")
    assert [event.entry.line for event in events if event.is_line] == list(SAYS)
    assert all(event.done for event in events)
    assert case.file("stdout").read_text().splitlines() == HEARD
    said = {path.name for place in ("in", "said") for path in case.file(place).iterdir()}
    assert len(said) == 3, "a reply was said under two names"
    given = [line.rpartition(" s1/")[0] or line for line in Given(str(case.directory)).lines]
    assert sorted(set(given)) == sorted(EXPECTED_GIVEN)
    assert len(given) <= len(EXPECTED_GIVEN) + 1, "more than one was handed over again"
    assert (await store.session("s1")).outcome == "done"


LAST = {"added before start", "before the end is written", "after the end is written"}
RESTARTS = {step for step in STEPS if "restart" in step or step.endswith("before started again")}
WHERE = [
    ("local", step) for step in STEPS if step not in LAST | RESTARTS
] + [  # a round trip more or less matters here
    ("me", "linked before recorded"),
    ("me", "recorded before handed over"),
    ("me", "handed over before marked"),
    ("me", "mid-fetch"),
    ("me", "said before noted"),
    ("me", "before a lease touch"),
]
OFTEN = {  # how often each step comes up in one run, at least
    "linked before recorded": 4,
    "recorded before handed over": 4,
    "handed over before marked": 3,
    "marked": 3,
    "fetched before judged": 2,
    "judged before said": 2,
    "said before noted": 2,
}


@pytest.mark.parametrize(("ground", "step"), WHERE, indirect=["ground"])
async def test_killed_at_any_step_it_goes_on(case: Case, step: str, chance: Chance) -> None:
    for turn in range(max(1, chance.rounds // 10)):
        occurrence = chance.random.randint(1, OFTEN.get(step, 1))
        one = case if turn == 0 else Case(again(case, turn), case.directory / str(turn))
        # A touch comes when it comes: the agent waits until it is over.
        waiting = [WAIT] if "lease" in step else []
        with anyio.fail_after(BOUND):
            await one.dies(one.plan(*waiting, *SCRIPT, step=step, occurrence=occurrence))
            one.let_go()
            async with Store(one.directory / "j.sqlite3") as store:
                await check(one, store, await one.resume(store))
        chance.hit(f"{step} {occurrence}")


def again(case: Case, turn: int) -> Ground:
    """Another directory on the same host."""
    return replace(case.ground, directory=case.ground.directory / str(turn))


@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_killed_before_the_start_there_is_no_agent_and_the_session_says_so(
    case: Case,
) -> None:
    with anyio.fail_after(BOUND):
        await case.dies(case.plan(*SCRIPT, step="added before start"))
        async with Store(case.directory / "j.sqlite3") as store:
            assert not (await store.session("s1")).over
            with pytest.raises(AgentExited, match="never started") as failure:
                await case.resume(store)
            ended = await store.session("s1")
    assert failure.value.exit_code is None
    assert (ended.outcome, ended.over) == ("exited", True)


@pytest.mark.parametrize("ground", ["local"], indirect=True)
@pytest.mark.parametrize("step", ["before the end is written", "after the end is written"])
async def test_killed_at_its_end_the_end_stands(case: Case, step: str) -> None:
    with anyio.fail_after(BOUND):
        await case.dies(case.plan(*SCRIPT, step=step))
        async with Store(case.directory / "j.sqlite3") as store:
            if step.startswith("before"):
                await check(case, store, await case.resume(store))
                return
            with pytest.raises(ValueError, match="is over: done"):
                await case.resume(store)


@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_killed_again_and_again(case: Case) -> None:
    """Each supervisor is killed; what it owed is done by the next, whoever that is."""
    with anyio.fail_after(BOUND):
        await case.dies(case.plan(*SCRIPT, step="recorded before handed over"))
        for step in "judged before said", "said before noted", "decided before said":
            await case.dies(resuming(case.plan(step=step)))
        async with Store(case.directory / "j.sqlite3") as store:
            await check(case, store, await case.resume(store))


def resuming(plan: Plan) -> Plan:
    return replace(plan, spec={"kind": "resume"})


@pytest.mark.parametrize("ground", ["local", "me"], indirect=True)
async def test_an_agent_that_finished_while_nobody_lived_is_reported_with_its_true_end(
    case: Case,
) -> None:
    steps = "STATUS: x", "run sleep 0.3", "DELIVERABLE: a.txt", "exit 3"
    with anyio.fail_after(BOUND):
        await case.dies(case.plan(*steps, step="recorded before handed over"))
        async with case.ground.host() as host, agents.adopt(host) as agent:
            assert (await agent.wait()).exit_code == 3
            agent.detach()
        async with Store(case.directory / "j.sqlite3") as store:
            with pytest.raises(AgentExited, match="exit code 3") as failure:
                await case.resume(store)
            events = await store.events("s1")
    assert failure.value.exit_code == 3
    assert [event.entry.line for event in events if event.is_line] == [
        "STATUS: x",
        "DELIVERABLE: a.txt",
    ]


@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_with_the_journal_lost_a_reply_in_other_words_is_not_said_again(case: Case) -> None:
    async def mend(hook: Any, deliverable: Any) -> str:
        return "Mend it."

    async def differ(hook: Any, keyword: str, data: Any) -> str:
        return "Something else."

    with anyio.fail_after(BOUND):
        await case.dies(case.plan(*SCRIPT, step="before the end is written"))
        async with (
            Store(case.directory / "other" / "j.sqlite3") as store,
            case.ground.host() as host,
        ):
            result = await supervise(
                host,
                resume=case.taskdir,
                store=store,
                on_deliverable_file=mend,
                on_caller_message=differ,
                take_over=True,
            )
    assert (result.outcome, [d.taken for d in result.deliverables]) == ("done", [True, True])
    assert case.file("stdout").read_text().splitlines() == HEARD


@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_with_the_journal_lost_after_the_kill_replies_are_still_said_once(
    case: Case,
) -> None:
    given = Given(str(case.directory))
    with anyio.fail_after(BOUND):
        await case.dies(case.plan(*SCRIPT, step="said before noted", occurrence=2))
        other = case.directory / "other" / "j.sqlite3"
        async with Store(other) as store, case.ground.host() as host:
            result = await supervise(
                host,
                resume=case.taskdir,
                store=store,
                on_deliverable_file=given.on_deliverable_file,
                on_caller_message=given.on_caller_message,
                take_over=True,  # the dead one has the lease for a minute
            )
    assert (result.session, result.outcome) == ("s1", "done")
    assert case.file("stdout").read_text().splitlines() == HEARD


@pytest.mark.parametrize("ground", ["local", "me"], indirect=True)
async def test_stopped_for_a_while_it_answers_what_came_meanwhile(
    case: Case, chance: Chance
) -> None:
    """The agent announces, and is done, while its supervisor does not move."""
    seconds = 60 if chance.rounds >= 200 else 1.5
    steps = ("STATUS: x", "hear", "write a.txt hello", "DELIVERABLE: deliverables/a.txt")
    with anyio.fail_after(BOUND + seconds):
        child = case.start(case.plan(*steps, "DONE: all"))
        assert child.stdout is not None
        assert await asyncio.to_thread(child.stdout.readline) == "line STATUS: x\n"
        child.send_signal(signal.SIGSTOP)
        async with case.ground.host() as host, agents.adopt(host) as agent:
            await agent.say(b"go on\n")
            await agent.wait()
            agent.detach()
        await anyio.sleep(seconds)
        child.send_signal(signal.SIGCONT)
        said, _ = await asyncio.to_thread(child.communicate)
    assert said.splitlines()[-1].startswith("outcome\tdone\t")
    async with Store(case.directory / "j.sqlite3") as store:
        (delivery,) = await store.deliveries("s1")
        assert delivery.sha256 == hashlib.sha256(b"hello\n").hexdigest()


def test_the_protocol_of_these_agents_has_every_kind_of_reply() -> None:
    parse = get_protocol(caller_messages=True).parse_log_line
    kinds = {type(parse(line)).__name__ for line in SAYS}
    assert kinds == {"StatusEvent", "DeliverableEvent", "CallerMessageEvent", "DoneEvent"}


@pytest.mark.parametrize("ground", ["local"], indirect=True)
async def test_what_a_killed_supervisor_recorded_and_did_not_show_is_shown(case: Case) -> None:
    seen = Watching()
    with anyio.fail_after(BOUND):
        steps = ("ATTENTION: look here", WAIT, "DONE: all")
        await case.dies(case.plan(*steps, step="recorded before handed over"))
        async with Store(case.directory / "j.sqlite3") as store:
            before = [row.entry.line for row in await store.events("s1") if row.entry]
            case.let_go()
            result = await case.resume(store, observer=seen)
    assert before == ["ATTENTION: look here"]
    assert seen.lines.count("ATTENTION: look here") == 1
    assert result.outcome == "done"
