"""The machinery with an agent of a few words: what holds for every dialect alike."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from optio_agents.conversation import (
    ControlRefused,
    Conversation,
    ConversationClosed,
    PermissionDecision,
)
from optio_agents.conversation.contract import PermissionRequest, TurnResult
from optio_agents.conversation.dialect import (
    ControlAnswered,
    LimitChanged,
    MessageRead,
    PermissionAsked,
    PermissionSettled,
    Reading,
    Ready,
    ReplyOwed,
    TurnOver,
    Unusable,
)
from optio_agents.conversation.json_lines import encode, read_events
from optio_agents.conversation.machinery import AgentConversation
from optio_agents.conversation.wire_handle import HandleWire
from tests.support.agents.pipe_handle import Handle, Ponder, until
from tests.support.timeouts import BOUND


class Curt:
    """The dialect of an agent that has to be greeted first and numbers its questions from 0."""

    line_limit = 1 << 20
    controls = ("model",)
    busy = carries_reasons = False

    def __init__(self):
        self.ready = self.running = False
        self.session_id = None
        self.unanswered = list[str]()

    def read(self, output, now):
        events, indices, _ = read_events(output.lines, output.cut)
        places = [output.places[index] for index in indices]
        facts = [
            fact
            for event, place in zip(events, places, strict=True)
            for fact in self._facts(event, place)
        ]
        return Reading(events, facts)

    def _facts(self, event, place):
        match event:
            case {"hello": str(session)}:
                self.ready, self.session_id = True, session
                yield Ready()
            case {"read": str(uuid)}:
                self.running, self.ready = True, "deaf" not in event
                yield MessageRead(uuid)
            case {"asks": int(number), "tool": str(tool)}:
                yield PermissionAsked(PermissionRequest(tool, {}, event, f"q{number}", place))
            case {"asks": int(number)}:
                yield ReplyOwed(f"q{number}", place, encode({"to": number, "unknown": True}))
            case {"unusable": str(why)}:
                yield Unusable(why)
            case {"answers": str(name)}:
                yield ControlAnswered(name, {}, event.get("refused"))
            case {"withdraws": int(number)}:
                yield PermissionSettled(f"q{number}")
            case {"ends": outcome}:
                self.running = False
                turn = TurnResult(outcome=outcome, text=event.get("text", ""), raw=event)
                answered, self.unanswered = self.unanswered, []
                yield TurnOver(turn, tuple(answered))
                yield LimitChanged(None)

    def message(self, uuid, text, *, command, attachments=()):
        return encode({"say": text, "uuid": uuid, "in": self.session_id})

    def steering(self, request_id, text):
        return encode({"steer": text, "name": request_id})

    def setting(self, request_id, control_id, value):
        return encode({"set": control_id, "to": value, "name": request_id})

    def sent(self, uuid):
        self.unanswered.append(uuid)

    def forget(self, uuid):
        self.unanswered.remove(uuid)

    def permission_answer(self, request, decision):
        behavior = getattr(decision, "behavior", "deny")
        if getattr(decision, "updated_input", None) is not None:
            raise ValueError("a changed input")
        return encode({"to": request.raw["asks"], "behavior": behavior})

    def withdrawal(self, request):
        return encode({"to": request.raw["asks"], "behavior": "withdrawn"})

    def interruption(self, request_id):
        return encode({"cancel": True})

    def farewell(self):
        return None


@asynccontextmanager
async def talking(*, greeted=True, **options):
    handle, conversation = Handle(), AgentConversation(Curt(), agent_label="curt", **options)
    conversation.attach(handle)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(conversation.run_reader)
        with anyio.fail_after(BOUND):
            if greeted:
                handle.hear({"hello": "s1"})
                await until(lambda: conversation.session_id)
            yield conversation, handle
            await conversation.close()


def said(handle, key):
    return [message for message in handle.said if key in message]


async def test_it_is_a_conversation():
    async with talking() as (conversation, _):
        assert isinstance(conversation, Conversation)


async def test_a_control_is_set_when_the_agent_says_so_and_an_unknown_one_does_nothing():
    async with talking() as (conversation, handle), anyio.create_task_group() as tasks:
        assert await conversation.set_control("thinking", True) is False
        for refused in None, "no such model":
            outcome = []

            async def change(outcome=outcome):
                try:
                    outcome.append(await conversation.set_control("model", "opus"))
                except ControlRefused as error:
                    outcome.append(str(error))

            before = len(said(handle, "set"))
            tasks.start_soon(change)
            await until(lambda before=before: len(said(handle, "set")) > before)
            words = said(handle, "set")[-1]
            assert (words["set"], words["to"], outcome) == ("model", "opus", [])
            handle.hear({"answers": words["name"], **({"refused": refused} if refused else {})})
            await until(lambda outcome=outcome: outcome)
            assert outcome == [refused or True]


async def test_a_message_with_a_uuid_is_said_once_however_often_it_is_sent():
    one, other = "6f0c0f3e-0f0b-4d0a-9a50-0123456789ab", "7f0c0f3e-0f0b-4d0a-9a50-0123456789ab"
    async with talking() as (conversation, handle):
        assert await conversation.send("hello", uuid=one.upper()) == one
        await conversation.send("hello", uuid=one)
        handle.hear({"read": one}, {"ends": "completed", "text": "hi"})
        await until(lambda: not conversation.is_pending())
        await conversation.send("hello", uuid=one)
        await conversation.send("hello", uuid=other)
        assert [words["uuid"] for words in said(handle, "say")] == [one, other]
        with pytest.raises(ValueError, match="UUID"):
            await conversation.send("hello", uuid="optio-session")


async def test_a_message_waits_until_messages_can_be_said():
    async with talking(greeted=False) as (conversation, handle), anyio.create_task_group() as tasks:
        tasks.start_soon(conversation.send, "hi")
        await anyio.wait_all_tasks_blocked()
        assert handle.said == []
        handle.hear({"hello": "s1"})
        await until(lambda: handle.said)
        assert (handle.said[0]["say"], handle.said[0]["in"]) == ("hi", "s1")


async def test_a_message_that_waits_for_an_agent_that_ends_raises():
    async with talking(greeted=False) as (conversation, handle):
        handle.exit(1)
        with pytest.raises(ConversationClosed):
            await conversation.send("hi")


async def test_what_was_sent_is_confirmed_and_then_answered():
    async with talking() as (conversation, handle):
        uuid = await conversation.send("hi")
        assert [one.text for one in conversation.unconfirmed] == ["hi"]
        handle.hear({"read": uuid})
        await until(lambda: not conversation.unconfirmed)
        assert conversation.is_pending()
        handle.hear({"ends": "completed", "text": "yes"})
        await until(lambda: not conversation.is_pending())


OUTCOMES = ["completed", "cancelled", "refused", "cut", "empty", "failed"]


async def test_on_turn_tells_every_end_and_on_message_the_completed_ones():
    async with talking() as (conversation, handle):
        turns, texts = list[TurnResult](), list[str]()
        conversation.on_turn(turns.append)
        conversation.on_message(texts.append)
        handle.hear(*({"ends": outcome, "text": outcome} for outcome in OUTCOMES))
        await until(lambda: len(turns) == len(OUTCOMES))
        assert [turn.outcome for turn in turns] == OUTCOMES
        assert [turn.ok for turn in turns] == [True, *[False] * 5]
        await until(lambda: texts)
        assert texts == ["completed"]


async def test_an_exit_with_zero_in_a_turn_is_a_lost_turn():
    turns = list[TurnResult]()
    async with talking() as (conversation, handle):
        conversation.on_turn(turns.append)
        uuid = await conversation.send("hi")
        handle.hear({"read": uuid})
        await until(lambda: not conversation.unconfirmed)
        handle.exit(0)
        await until(lambda: turns)
    assert [turn.outcome for turn in turns] == ["lost"]
    assert turns[0].failure


async def test_a_turn_that_is_closed_meanwhile_is_cancelled():
    turns = list[TurnResult]()
    async with talking() as (conversation, _):
        conversation.on_turn(turns.append)
        await conversation.send("hi")
    assert [turn.outcome for turn in turns] == ["cancelled"]


async def test_an_agent_that_owes_nothing_loses_nothing():
    turns = list[TurnResult]()
    async with talking() as (conversation, handle):
        conversation.on_turn(turns.append)
        handle.exit(0)
        await until(lambda: conversation.closed)
    assert turns == []


async def test_request_zero_asked_again_is_not_the_answered_one():
    """Ids of agents begin at 0 in every process, and may come again."""
    async with talking() as (conversation, handle):
        conversation.on_permission_request(lambda _: PermissionDecision("allow"))
        for count in 1, 2:
            handle.hear({"asks": 0, "tool": "Bash"})
            await until(lambda count=count: len(said(handle, "behavior")) == count)
        assert [one["to"] for one in said(handle, "behavior")] == [0, 0]


async def test_what_is_asked_anew_under_one_name_is_decided_anew():
    """What was shown of the first one says nothing about the second."""
    asked, left = [], []

    async def handler(request):
        asked.append(request)
        try:
            await anyio.sleep_forever()
        finally:
            left.append(request)

    async with talking() as (conversation, handle):
        conversation.on_permission_request(handler)
        for count, tool in (1, "Read"), (2, "Bash"):
            handle.hear({"asks": 0, "tool": tool})
            await until(lambda count=count: len(asked) == count)
        await anyio.wait_all_tasks_blocked()
        assert left == asked[:1]
        assert await conversation.answer(asked[0], PermissionDecision("allow"), by="me") is None
        assert said(handle, "behavior") == []
        assert await conversation.answer(asked[1], PermissionDecision("deny"), by="me") == "me"
        assert [one["behavior"] for one in said(handle, "behavior")] == ["deny"]


async def test_a_question_that_nobody_meets_is_answered_at_once():
    async with talking() as (conversation, handle):
        handle.hear({"asks": 0})
        await until(lambda: said(handle, "unknown"))
        assert conversation.open_requests == ()


class AnsweredBefore(HandleWire):
    """A wire to an agent whose question was answered by an older version, under its id."""

    def __init__(self, handle):
        super().__init__(handle, line_limit=1 << 20)
        self.kept = list[str]()

    async def answered(self):
        return {"q0"}.__contains__

    async def answer(self, name, data, by):
        self.kept.append(name)
        return await super().answer(name, data, by)


async def test_an_answer_is_found_under_the_name_that_older_versions_gave_it():
    handle, asked = Handle(), list[str]()
    conversation, wire = AgentConversation(Curt(), agent_label="curt"), AnsweredBefore(handle)
    conversation.attach_wire(wire)
    conversation.on_permission_request(lambda request: asked.append(request.id))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(conversation.run_reader)
        with anyio.fail_after(BOUND):
            handle.hear({"asks": 0}, {"asks": 0, "tool": "Bash"}, {"asks": 1, "tool": "Bash"})
            await until(lambda: len(wire.kept) == 2)
            await conversation.close()
    assert asked == ["q1"]
    assert sorted(wire.kept) == ["at-2", "q0"]  # said again under its own name: so at most once


async def test_an_interrupt_answers_what_is_open_first():
    async with talking() as (conversation, handle), anyio.create_task_group() as tasks:
        ponder = Ponder()
        conversation.on_permission_request(ponder)
        uuid = await conversation.send("hi")
        handle.hear({"read": uuid}, {"asks": 0, "tool": "Bash"})
        await until(lambda: conversation.open_requests)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(conversation.interrupt)
        await until(lambda: said(handle, "cancel"))
        assert [*handle.said[-2:]] == [{"to": 0, "behavior": "withdrawn"}, {"cancel": True}]
        handle.hear({"ends": "cancelled"})
        await ponder.cancelled.wait()


async def test_deciding_in_the_handlers_place_cancels_the_handler():
    async with talking() as (conversation, handle):
        ponder = Ponder()
        conversation.on_permission_request(ponder)
        handle.hear({"asks": 0, "tool": "Bash"})
        await until(lambda: conversation.open_requests)
        await anyio.wait_all_tasks_blocked()
        (request,) = conversation.open_requests
        assert await conversation.answer(request, PermissionDecision("allow"), by="me") == "me"
        await ponder.cancelled.wait()


async def test_what_the_wire_cannot_carry_is_denied_and_never_allowed_otherwise(caplog):
    async with talking() as (conversation, handle):
        changed = PermissionDecision("allow", {"command": "ls"})
        handle.hear({"asks": 0, "tool": "Bash"})
        await until(lambda: conversation.open_requests)
        with pytest.raises(ValueError, match="a changed input"):
            await conversation.answer(conversation.open_requests[0], changed, by="me")
        assert conversation.open_requests
        conversation.on_permission_request(lambda _: changed)
        await until(lambda: said(handle, "behavior"))
        assert [one["behavior"] for one in said(handle, "behavior")] == ["deny"]
        assert "a changed input" in caplog.text


async def test_a_handler_that_decides_so_itself_comes_to_its_end():
    async with talking() as (conversation, handle):
        over = anyio.Event()

        async def decide(request):
            await conversation.answer(request, PermissionDecision("deny"), by="the handler")
            await anyio.lowlevel.checkpoint()
            over.set()
            return PermissionDecision("allow")

        conversation.on_permission_request(decide)
        handle.hear({"asks": 0, "tool": "Bash"})
        await over.wait()
        assert [one["behavior"] for one in said(handle, "behavior")] == ["deny"]


async def test_messages_that_wait_are_said_in_the_order_of_their_calls():
    async with talking(greeted=False) as (conversation, handle), anyio.create_task_group() as tasks:
        for word in "abc":
            tasks.start_soon(conversation.send, word)
            await anyio.wait_all_tasks_blocked()
        handle.hear({"hello": "s1"})
        await until(lambda: len(said(handle, "say")) == 3)
        assert [one["say"] for one in said(handle, "say")] == ["a", "b", "c"]


async def test_an_agent_that_cannot_be_talked_to_is_closed_with_the_reason():
    async with talking(greeted=False) as (conversation, handle), anyio.create_task_group() as tasks:

        async def send():
            with pytest.raises(ConversationClosed, match="log in first"):
                await conversation.send("hi")

        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        handle.hear({"unusable": "log in first"})
    assert "log in first" in str(conversation.close_reason)


async def test_a_reason_that_no_answer_can_carry_is_the_next_message():
    async with talking() as (conversation, handle):
        conversation.on_permission_request(lambda _: PermissionDecision("deny", message="no tools"))
        handle.hear({"asks": 0, "tool": "Bash"})
        await until(lambda: said(handle, "say"))
        assert said(handle, "say")[0]["say"] == "I denied Bash: no tools"


async def test_a_denial_without_a_reason_or_by_time_says_no_more():
    async with talking(permission_timeout=0.001) as (conversation, handle):
        handle.hear({"asks": 0, "tool": "Bash"})
        await until(lambda: said(handle, "behavior"))
        conversation.on_permission_request(lambda _: PermissionDecision("deny"))
        handle.hear({"asks": 1, "tool": "Bash"})
        await until(lambda: len(said(handle, "behavior")) == 2)
        await anyio.wait_all_tasks_blocked()
        assert said(handle, "say") == []


async def test_steering_waits_for_what_the_agent_says_to_it():
    async with talking() as (conversation, handle), anyio.create_task_group() as tasks:
        with pytest.raises(ControlRefused, match="no turn"):
            await conversation.steer("left")
        uuid = await conversation.send("go")
        handle.hear({"read": uuid, "deaf": True})
        await until(lambda: not conversation.unconfirmed)

        async def steer():
            with pytest.raises(ControlRefused, match="not now"):
                await conversation.steer("left")

        tasks.start_soon(steer)
        await until(lambda: said(handle, "steer"))
        handle.hear({"answers": said(handle, "steer")[0]["name"], "refused": "not now"})


async def test_a_reason_is_passed_on_though_the_agent_goes_on_before_we_know_of_it(monkeypatch):
    reasons = []

    async def keep(request, words):
        reasons.append(words)

    async with talking() as (conversation, handle):
        real = HandleWire.answer

        async def slow(*args):
            taken = await real(*args)
            handle.hear({"withdraws": 0})
            handle.hear({"hello": "behind that"})
            await until(lambda: conversation.session_id == "behind that")
            return taken

        monkeypatch.setattr(HandleWire, "answer", slow)
        conversation.pass_reason = keep
        conversation.on_permission_request(lambda _: PermissionDecision("deny", message="not now"))
        handle.hear({"asks": 0, "tool": "write"})
        await until(lambda: reasons)
        assert len(reasons) == 1
        assert "not now" in reasons[0]


async def test_a_message_waits_until_an_agent_can_hear_it():
    async with talking() as (conversation, handle), anyio.create_task_group() as tasks:
        await conversation.send("one")
        handle.hear({"read": said(handle, "say")[0]["uuid"], "deaf": True})
        await until(lambda: not conversation.unconfirmed)
        tasks.start_soon(conversation.send, "two")
        handle.hear({"asks": 0})
        await until(lambda: said(handle, "to"))
        assert [one["say"] for one in said(handle, "say")] == ["one"]
        handle.hear({"hello": "s1"})
        await until(lambda: len(said(handle, "say")) == 2)
