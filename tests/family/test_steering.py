"""Saying something to a busy agent: in order, once, whatever it does with it, and after kill -9."""

from __future__ import annotations

import itertools
import json
import os
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from optio_agents import agents
from optio_agents.conversation import ConversationClosed
from optio_agents.conversation.claude import claude_code, claude_code_adopt
from optio_agents.hosts.host import LocalHost
from optio_agents.steering import (
    BusySendDeclaration,
    Steering,
    resolve_busy_send,
)
from tests.support.hosts.agent_ground import until
from tests.support.timeouts import BOUND

NATIVE, HELD = ("joins-next-step", "queues-to-end"), ("cuts-in", "rejected", "unsafe")


class Agent:
    """A conversation of another make: it is busy from a message on, until its turn is ended."""

    def __init__(self):
        self.said, self.handlers = [], []
        self.busy = self.closed = False
        self.interrupts = 0
        self.failing = None  # how often it fails to be said something

    def on_event(self, handler):
        self.handlers.append(handler)
        return lambda: self.handlers.remove(handler)

    def is_pending(self):
        return self.busy

    async def send(self, text, *, uuid=None):
        if self.failing:
            self.failing -= 1
            raise OSError("no way there")
        self.busy = True
        self.said.append((text, uuid))

    async def interrupt(self):
        self.interrupts += 1

    def tell(self, event):
        for handler in list(self.handlers):
            handler(event)

    def end_turn(self):
        self.busy = False
        self.tell({"type": "result"})

    @property
    def texts(self):
        return [text for text, _ in self.said]


@pytest.fixture
def agent():
    return Agent()


@pytest.fixture
def steer(agent):
    """A steering of *agent* that does so with what comes meanwhile: (steering, its events)."""

    def make(busy_send, **options):
        events, ids = [], (f"m{number}" for number in itertools.count(1))
        steering = Steering(
            agent,
            busy_send=lambda: busy_send,
            emit=events.append,
            is_turn_end=lambda event: event["type"] == "result",
            new_id=lambda: next(ids),
            command_lifecycle=lambda event: event.get("became"),
            **options,
        )
        return steering, events

    return make


def queued(message, text, **more):
    return {"type": "x-optio-queued", "id": message, "text": text, **more}


@pytest.mark.parametrize("busy_send", [*NATIVE, *HELD])
async def test_an_idle_agent_is_told_at_once(agent, steer, busy_send):
    steering, events = steer(busy_send)
    outcome = await steering.send_when_ready("go")
    assert (outcome.id, outcome.queued) == ("m1", False)
    assert agent.said == [("go", "m1")]
    assert events == []


@pytest.mark.parametrize("busy_send", NATIVE)
async def test_its_own_queue_gets_one_message_at_a_time(agent, steer, busy_send):
    steering, events = steer(busy_send)
    agent.busy = True
    for text in "abc":
        assert (await steering.send_when_ready(text)).queued
    assert agent.said == [("a\n\n", "m1")]
    assert (steering.in_flight_id, steering.pending_ids) == ("m1", ["m2", "m3"])
    agent.tell({"type": "lifecycle", "became": ("m1", "queued")})
    agent.tell({"type": "lifecycle", "became": ("m1", "started")})
    await steering.settle()
    assert agent.texts == ["a\n\n", "b\n\n"]
    agent.end_turn()  # which nothing of it outlives
    await steering.settle()
    assert agent.texts == ["a\n\n", "b\n\n", "c\n\n"]
    assert events == [queued(f"m{n}", text, waiting=True) for n, text in enumerate("abc", 1)]


@pytest.mark.parametrize("busy_send", HELD)
async def test_what_would_harm_the_turn_is_said_as_one_behind_it(agent, steer, busy_send):
    steering, events = steer(busy_send)
    agent.busy = True
    await steering.send_when_ready("a")
    await steering.send_when_ready("b")
    assert agent.said == []
    assert steering.held_ids == ["m1", "m2"]
    agent.end_turn()
    await steering.settle()
    assert agent.said == [("a\n\nb", None)]
    assert events[-1] == {"type": "x-optio-taken", "ids": ["m1", "m2"]}
    assert steering.held_ids == []


@pytest.mark.parametrize("busy_send", ["joins-next-step", "rejected"])
async def test_a_message_that_could_not_be_said_is_said_next_time(agent, steer, busy_send):
    steering, events = steer(busy_send)
    agent.busy = True
    for text in "ab":
        await steering.send_when_ready(text)
    agent.failing = 1
    agent.end_turn()
    await steering.settle()
    assert not [event for event in events if event["type"] == "x-optio-taken"]
    agent.end_turn()
    await steering.settle()
    assert "".join(agent.texts).split() == ["a", "b"]


async def test_whoever_hears_that_it_failed_may_say_it_again(agent, steer):
    steering, _ = steer("joins-next-step")
    agent.busy, agent.failing = True, 1
    with pytest.raises(OSError, match="no way"):
        await steering.send_when_ready("a")
    assert (steering.pending_ids, steering.in_flight_id) == ([], None)
    await steering.send_when_ready("a")
    assert agent.texts == ["a\n\n"]


@pytest.mark.parametrize("busy_send", ["joins-next-step", "rejected"])
async def test_interrupt_and_send_waits_for_the_end_of_the_turn(agent, steer, busy_send):
    steering, events = steer(busy_send)
    agent.busy = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(steering.interrupt_and_send, "now")
        await anyio.wait_all_tasks_blocked()
        assert agent.interrupts == 1
        assert agent.said == []
        agent.end_turn()
    await steering.settle()
    assert [text.strip() for text in agent.texts] == ["now"]
    assert events[0] == {"type": "x-optio-interrupt", "by": "user"}


async def test_what_is_held_comes_with_what_interrupts(agent, steer):
    steering, events = steer("rejected")
    agent.busy = True
    await steering.send_when_ready("a")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(steering.interrupt_and_send, "now")
        await anyio.wait_all_tasks_blocked()
        agent.end_turn()
    assert agent.texts == ["a\n\nnow"]
    assert events[-1] == {"type": "x-optio-taken", "ids": ["m1"]}


async def test_a_turn_that_does_not_end_is_waited_for_within_a_bound(agent, steer, caplog):
    steering, _ = steer("rejected", turn_end_timeout_s=0.01)
    agent.busy = True
    assert await steering.interrupt_and_send("now") == "m1"
    assert agent.texts == ["now"]
    assert "did not end" in caplog.text


async def test_what_cuts_in_needs_no_interrupt(agent, steer):
    steering, events = steer("cuts-in")
    agent.busy = True
    await steering.send_when_ready("a")
    await steering.interrupt_and_send("now")
    assert (agent.texts, agent.interrupts) == (["a\n\nnow"], 0)
    assert events[-1] == {"type": "x-optio-taken", "ids": ["m1"]}


async def test_a_turn_is_interrupted_once(agent, steer):
    steering, events = steer("joins-next-step")
    await steering.interrupt()  # of nothing
    agent.busy = True
    await steering.interrupt()
    await steering.interrupt()
    assert agent.interrupts == 2
    agent.end_turn()
    agent.busy = True
    await steering.interrupt()
    assert agent.interrupts == 3
    assert events == [{"type": "x-optio-interrupt", "by": "user"}] * 2


async def test_what_an_earlier_run_left_comes_under_new_ids(agent, steer):
    steering, events = steer("joins-next-step")
    assert await steering.requeue([("old1", "a"), ("old2", "b")]) == ["m1", "m2"]
    assert agent.said == [("a\n\n", "m1")]
    assert events == [
        {"type": "x-optio-requeued", "id": f"old{n}", "new_id": f"m{n}"} for n in (1, 2)
    ]


@pytest.mark.parametrize(("state", "said"), [(None, "m1"), ("started", "m2"), ("cancelled", "m1")])
async def test_a_new_process_hears_what_the_old_one_had_not_taken(agent, steer, state, said):
    steering, _ = steer("joins-next-step")
    agent.busy = True
    for text in "ab":
        await steering.send_when_ready(text)
    steering.begin_transport_reset()
    if state:
        agent.tell({"type": "lifecycle", "became": ("m1", state)})
    agent.end_turn()
    await steering.settle()
    assert len(agent.said) == 1, "nothing is said into a process that is going"
    await steering.reset_transport()
    assert agent.said[1:] == [({"m1": "a", "m2": "b"}[said] + "\n\n", said)]


async def test_nothing_is_said_to_a_conversation_that_is_closed(agent, steer):
    steering, events = steer("joins-next-step")
    agent.closed = True
    for attempt in (
        steering.send_when_ready("a"),
        steering.interrupt_and_send("a"),
        steering.interrupt(),
        steering.requeue([("x", "a")]),
    ):
        with pytest.raises(ConversationClosed):
            await attempt
    assert (agent.said, events) == ([], [])
    steering.close()
    steering.close()
    assert agent.handlers == []


def test_what_nobody_declared_is_unsafe():
    declared = BusySendDeclaration("joins-next-step", {"small": "rejected"})
    assert resolve_busy_send(None, "any") == "unsafe"
    assert resolve_busy_send(declared, "small") == "rejected"
    assert resolve_busy_send(declared, None) == "joins-next-step"
    with pytest.raises(ValueError, match="sometimes"):
        BusySendDeclaration("joins-next-step", {"small": "sometimes"})


# Over a journaled agent

CLI = """\
import json, pathlib, sys, time
here = pathlib.Path(sys.argv[1])
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "control_request":
        answer = {"subtype": "success", "request_id": message["request_id"], "response": {}}
        print(json.dumps({"type": "control_response", "response": answer}), flush=True)
    if message["type"] != "user":
        continue
    print(json.dumps({**message, "isReplay": True}), flush=True)
    text = message["message"]["content"]
    text = text if isinstance(text, str) else text[0]["text"]
    with (here / "got").open("a") as got:
        got.write(json.dumps(text.strip()) + "\\n")
    while not (here / "go").exists():
        time.sleep(0.02)
    print(json.dumps({"type": "result", "subtype": "success", "is_error": False, "result": "ok",
                      "session_id": "s", "num_turns": 1}), flush=True)
"""


@asynccontextmanager
async def steered(conversation):
    steering = Steering(
        conversation,
        busy_send=lambda: "joins-next-step",
        emit=lambda event: None,
        is_turn_end=lambda event: event.get("type") == "result",
    )
    yield steering
    steering.close()


def starting(root: Path, host: LocalHost):
    cli = root / "claude"
    (root / "cli.py").write_text(CLI)
    cli.write_text(f"#!/bin/sh\nexec {sys.executable} {root}/cli.py {root}\n")
    cli.chmod(0o755)
    return claude_code(host, executable=str(cli))


def got(root: Path):
    path = root / "got"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def die_with_messages_waiting(root: Path) -> None:
    """Say one, let two wait, and be killed."""
    async with (
        LocalHost(str(root / "task")) as host,
        starting(root, host) as conversation,
        steered(conversation) as steering,
    ):
        await steering.send_when_ready("first")
        await until(lambda: got(root))
        for text in ("second", "third", "fourth"):
            assert (await steering.send_when_ready(text)).queued
        os.kill(os.getpid(), 9)


async def test_what_waits_outlives_a_kill_and_is_said_once_and_in_order(tmp_path):
    code = (
        "import anyio, sys, pathlib, tests.family.test_steering as test; "
        "anyio.run(test.die_with_messages_waiting, pathlib.Path(sys.argv[1]))"
    )
    async with LocalHost(str(tmp_path / "task")) as host:
        await host.setup_workdir()
        with anyio.fail_after(BOUND):
            died = await anyio.run_process(
                [sys.executable, "-c", code, str(tmp_path)], check=False, stderr=sys.stderr
            )
            assert died.returncode == -9
            assert got(tmp_path) == ["first"]
            (tmp_path / "go").touch()
            async with (
                agents.adopt(host) as agent,
                claude_code_adopt(agent) as conversation,
                steered(conversation) as steering,
            ):
                await steering.send_when_ready("fifth")
                await until(lambda: len(got(tmp_path)) == 5 and not conversation.is_pending())
                await steering.settle()
    assert got(tmp_path) == ["first", "second", "third", "fourth", "fifth"]
