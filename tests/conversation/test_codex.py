"""Codex's app-server as a dialect: what the journal alone tells."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from hypothesis import given, strategies as st

from optio_agents.conversation import PermissionDecision
from optio_agents.conversation.codex import wire
from optio_agents.conversation.codex.dialect import CodexDialect, CodexSetup
from optio_agents.conversation.contract import Unconfirmed
from optio_agents.conversation.dialect import (
    ControlAnswered,
    Limit,
    LimitChanged,
    MessageRead,
    PermissionAsked,
    PermissionSettled,
    Ready,
    ReplyOwed,
    TurnOver,
    Unusable,
)
from tests.support.agents.fed import FedDialect


class Ear(FedDialect):
    def __init__(self, **setup):
        super().__init__(CodexDialect(CodexSetup("/work", **setup)))

    def greet(self, **rest):
        return self.hear(
            {"id": wire.INITIALIZE, "result": {}},
            {"id": wire.SESSION, "result": {"thread": {"id": "T"}, **rest}},
        )

    def begin(self, uuid="u1", turn="t1"):
        self.dialect.sent(uuid)
        return self.hear({"id": uuid, "result": {"turn": {"id": turn}}}, started(turn))


def news(method, **params):
    return {"method": method, "params": {"threadId": "T", **params}}


def started(turn):
    return news("turn/started", turn={"id": turn})


def over(turn="t1", status="completed", items=(), **rest):
    return news("turn/completed", turn={"id": turn, "status": status, "items": [*items], **rest})


def item(kind, step="item/completed", **fields):
    return news(step, item={"type": kind, "id": "i1", **fields})


def ask(number, method=wire.COMMAND, **params):
    return {"id": number, **news(method, itemId="i1", **params)}


def turn_of(*events):
    ear = Ear()
    ear.greet()
    ear.begin()
    (end,) = [fact for fact in ear.hear(*events) if isinstance(fact, TurnOver)]
    assert end.answered == ("u1",)
    return end.turn


def test_a_model_that_was_set_goes_along_with_the_next_message():
    ear = Ear()
    ear.greet()
    before = json.loads(ear.dialect.message("u1", "hello", command=False))
    assert "model" not in before["params"]
    assert ear.dialect.setting("optio-1", "model", "gpt-6") == b""
    assert ear.dialect.setting("optio-2", "reasoning_effort", "high") == b""
    said = json.loads(ear.dialect.message("u2", "hello", command=False))
    assert (said["params"]["model"], said["params"]["effort"]) == ("gpt-6", "high")


def test_the_handshake_says_initialized_before_it_asks_for_a_thread():
    ear = Ear(model="gpt-5", sandbox="read-only")
    owed, ready = ear.greet()
    assert isinstance(owed, ReplyOwed)
    first, second = map(json.loads, owed.data.splitlines())
    assert first["method"] == "initialized"
    assert second["method"] == "thread/start"
    assert second["params"]["approvalPolicy"] == "on-request"
    assert (second["params"]["model"], second["params"]["sandbox"]) == ("gpt-5", "read-only")
    assert ready == Ready()


def test_a_thread_is_gone_on_with_or_forked():
    for fork, verb in (False, "thread/resume"), (True, "thread/fork"):
        (owed, _) = Ear(continues="T", fork=fork).greet()
        said = json.loads(owed.data.splitlines()[1])
        assert (said["method"], said["params"]["threadId"]) == (verb, "T")


def test_settings_that_forbid_to_ask_refuse_the_agent():
    (_, fact) = Ear().greet(approvalPolicy="never")
    assert isinstance(fact, Unusable)


def test_the_answer_to_a_message_is_no_end_and_its_echo_confirms_it():
    ear = Ear()
    ear.greet()
    assert ear.begin() == []
    assert ear.hear(item("userMessage", clientId="u1")) == [MessageRead("u1")]
    assert not ear.dialect.ready
    (end,) = ear.hear(over(items=[{"type": "agentMessage", "text": "done"}]))
    assert (end.turn.outcome, end.turn.text, end.answered) == ("completed", "done", ("u1",))
    assert ear.dialect.ready


def test_a_message_that_is_refused_has_a_turn_that_failed():
    ear = Ear()
    ear.greet()
    ear.dialect.sent("u1")
    (end,) = ear.hear({"id": "u1", "error": {"code": -32602, "message": "input_too_large"}})
    assert (end.turn.outcome, end.turn.failure) == ("failed", "input_too_large")


def test_a_turn_that_nobody_asked_for_answers_nobody():
    ear = Ear()
    ear.greet()
    (end,) = ear.hear(started("t9"), item("agentMessage", text="by myself"), over("t9"))
    assert (end.answered, end.turn.text) == ((), "by myself")


def test_every_other_status_is_not_completed():
    assert turn_of(over(status="interrupted")).outcome == "cancelled"
    assert turn_of(over(status="something new")).outcome == "cut"
    failed = turn_of(over(status="failed", error={"message": "no such model"}))
    assert (failed.outcome, failed.failure) == ("failed", "no such model")
    assert turn_of(over()).outcome == "empty"


def test_what_an_interrupted_turn_leaves_running_is_ended_once():
    ear = Ear()
    ear.greet()
    ear.begin()
    replies = [one for one in ear.hear(over(status="interrupted")) if isinstance(one, ReplyOwed)]
    assert [b"backgroundTerminals/clean" in one.data for one in replies] == [True]
    assert not [one for one in ear.hear(over(status="interrupted")) if one == replies[0]]
    ear.begin("u2", "t2")
    assert not [one for one in ear.hear(over("t2")) if isinstance(one, ReplyOwed)]


def test_another_thread_ends_no_turn_of_ours():
    ear = Ear()
    ear.greet()
    ear.begin()
    end = over()
    end["params"]["threadId"] = "another"
    assert ear.hear(end) == []


def test_a_retry_is_a_limit_until_the_model_answers():
    ear = Ear()
    ear.greet()
    ear.begin()
    (limited,) = ear.hear(news("error", willRetry=True, error={"message": "Reconnecting... 1/1"}))
    assert isinstance(limited, LimitChanged)
    assert limited.limit is not None
    assert limited.limit.reason == "Reconnecting... 1/1"
    assert ear.hear(item("agentMessage", text="on")) == [LimitChanged(None)]


def test_a_usage_limit_holds_behind_the_turn_until_the_model_answers():
    ear = Ear()
    ear.greet()
    ear.begin()
    full, free = {"usedPercent": 100, "resetsAt": 5000}, {"usedPercent": 7, "resetsAt": 9000}
    ear.hear(news("account/rateLimits/updated", rateLimits={"primary": full, "secondary": free}))
    error = {"message": "too much", "codexErrorInfo": "usageLimitExceeded"}
    limited, _, end = ear.hear(over(status="failed", error=error))
    assert limited == LimitChanged(Limit(5000, "usage limit"))
    assert end.turn.outcome == "failed"
    ear.begin()
    assert ear.hear(item("agentMessage", text="on")) == [LimitChanged(None)]
    info = {"responseTooManyFailedAttempts": {"httpStatusCode": 429}}
    limited, *_ = ear.hear(over(status="failed", error={"message": "no", "codexErrorInfo": info}))
    assert limited == LimitChanged(Limit(None, "rate limit"))


def test_a_command_is_shown_and_decided_once():
    ear = Ear()
    ear.greet()
    ear.begin()
    (asked,) = ear.hear(ask(0, command="touch made", reason="May it?"))
    assert asked.request.input == {"command": "touch made", "reason": "May it?"}
    for decision, word in (
        (PermissionDecision("allow"), "accept"),
        (PermissionDecision("deny"), "decline"),
        (PermissionDecision("deny", interrupt=True), "cancel"),
        ("nonsense", "decline"),
    ):
        said = ear.dialect.permission_answer(asked.request, decision)
        assert json.loads(said) == {"jsonrpc": "2.0", "id": 0, "result": {"decision": word}}
        assert wire.behavior_of(said) == ("allow" if word == "accept" else "deny")


def test_a_request_repeated_on_resume_is_asked_once():
    ear = Ear()
    ear.greet()
    assert [type(fact) for fact in ear.hear(ask(0), ask(0))] == [PermissionAsked]
    assert ear.hear(news("serverRequest/resolved", requestId=0)) == [PermissionSettled("0")]


def test_what_is_open_is_found_behind_the_end_of_any_turn():
    ear = Ear()  # which has neither heard the handshake nor sent a thing
    facts = ear.hear(ask(0), over(), ask(0))
    kinds = [PermissionAsked, PermissionSettled, TurnOver, PermissionAsked]
    assert [type(fact) for fact in facts] == kinds


def test_a_file_change_is_shown_from_its_item():
    ear = Ear()
    ear.greet()
    ear.begin()
    changes = [{"path": "/a", "kind": "update", "diff": "+x"}]
    ear.hear(item("fileChange", "item/started", changes=changes))
    (asked,) = ear.hear(ask(1, wire.CHANGE))
    assert asked.request.input == {"changes": changes}


def test_an_unknown_request_is_refused_and_the_turn_goes_on():
    ear = Ear()
    ear.greet()
    (owed,) = ear.hear({"id": 3, "method": "item/tool/call", "params": {}})
    assert json.loads(owed.data)["error"]["code"] == -32601


def test_answers_to_requests_of_ours_are_told():
    ear = Ear()
    ear.greet()
    refused = {"id": "c1", "error": {"message": "no active turn to steer"}}
    assert ear.hear(refused) == [ControlAnswered("c1", {}, "no active turn to steer")]


def test_a_successor_finds_the_messages_that_were_said():
    front = wire.message("T", "u-1", "héllo \U0001f600 there", {})[:-12]
    found = wire.message_of(front)
    assert isinstance(found, Unconfirmed)
    assert (found.uuid, found.text[:5]) == ("u-1", "héllo")
    assert front.isascii()


KEYS = [
    *("id", "method", "params", "result", "error", "item", "type", "turn", "thread", "threadId"),
    *("turnId", "itemId", "status", "items", "tokenUsage", "last", "clientId"),
]
WORDS = [
    *("u1", "T", "t1", "turn/completed", "turn/started", "item/started", "item/completed", "error"),
    *("userMessage", "agentMessage", "serverRequest/resolved", "completed"),
]
WORDS += [wire.INITIALIZE, wire.SESSION, wire.COMMAND, wire.CHANGE]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS), inner | st.sampled_from(WORDS), max_size=5)
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=6))
def test_nothing_that_it_writes_raises(events):
    ear = Ear()
    ear.greet()
    ear.begin()
    ear.hear(*events, ask(0), *events)


def test_how_much_of_an_allowance_is_used_is_named_by_the_length_of_its_window():
    ear = Ear()
    ear.greet()
    week = {"usedPercent": 68, "windowDurationMins": 10080, "resetsAt": 1784650946}
    limits = {"primary": week, "secondary": {"usedPercent": 1.5, "resetsAt": 1e300}}
    (used,) = ear.hear(news("account/rateLimits/updated", rateLimits=limits))
    told = [(window.label, window.pct, window.resets_at) for window in used.windows]
    assert told[0] == ("168h", 68.0, datetime.fromtimestamp(1784650946, UTC))
    assert told[1] == ("secondary", 1.5, None)
    assert ear.hear(news("account/rateLimits/updated", rateLimits={"primary": None})) == []


def test_its_plan_is_a_list_of_tasks():
    ear = Ear()
    ear.greet()
    rows = [{"step": "look", "status": "completed"}, {"step": "mend", "status": "inProgress"}]
    (changed,) = ear.hear(news("turn/plan/updated", turnId="t1", plan=rows))
    assert [(item.text, item.status) for item in changed.update.items] == [
        ("look", "completed"),
        ("mend", "inProgress"),
    ]
