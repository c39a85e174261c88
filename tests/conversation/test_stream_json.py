"""The wire of stream-json, and the two ledgers: values in, values out."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass, field

import pytest
from hypothesis import given, strategies as st

from optio_agents.conversation import PermissionDecision, PermissionRequest
from optio_agents.conversation.claude.models import ClaudeTurnResult, windows_of
from optio_agents.conversation.claude.permissions import (
    PermissionLedger,
    allow_for_session,
    grants,
    questions,
)
from optio_agents.conversation.claude.stream_json import (
    ClaudePassages,
    behavior_of,
    message_of,
    permission_answer,
    refusal,
    user_message,
)
from optio_agents.conversation.claude.turns import TurnEnd, TurnLedger, judge
from optio_agents.conversation.contract import Attachment, TurnResult
from optio_agents.conversation.dialect import (
    MessageRead,
    PermissionAsked,
    PermissionSettled,
    ReplyOwed,
)
from optio_agents.conversation.exchange import how_closed
from optio_agents.conversation.json_lines import decode, encode, read_events, shortened
from optio_agents.conversation.wire import ProcessEnd

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


# -- lines


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_encoded_is_one_ascii_line_and_decodes_to_itself(message):
    line = encode(message)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert decode(line) == [message]


@given(st.binary())
def test_no_bytes_raise(line):
    for event in decode(line):
        assert isinstance(event, dict)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"Warning: something", "not JSON"),
        (b'{"a": 1} {"b": 2}', "not JSON"),
        (b'{"a":', "not JSON"),
        (b"null", "not an object"),
        (b"[1, 2]", "not an object"),
        (b'"text"', "not an object"),
        (b"\x0b{}", "not JSON"),  # white space, but not to JSON
        ("\N{EM SPACE}x".encode(), "not JSON"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deep"),
    ],
)
def test_what_is_no_event_becomes_one_of_ours(line, reason):
    (event,) = decode(line)
    assert (event["type"], event["reason"]) == ("x-optio-unreadable", reason)
    assert line.decode().startswith(event["excerpt"])


def test_bad_utf8_is_told_and_the_event_is_not_lost():
    ours, theirs = decode(b'{"type": "result", "result": "caf\xe9"}')
    assert ours["reason"] == "not UTF-8"
    assert theirs == {"type": "result", "result": "caf\N{REPLACEMENT CHARACTER}"}


@pytest.mark.parametrize("line", [b"", b" ", b"\r", b"\t \r"])
def test_blank_lines_say_nothing(line):
    assert decode(line) == []


def test_carriage_returns_and_blanks_around_an_event_are_fine():
    assert decode(b' \t{"type": "x"} \r') == [{"type": "x"}]


def test_a_line_beyond_the_limit_is_told_with_its_size():
    event = shortened(b"x" * 1000, 70 << 20)
    assert (event["reason"], event["size"]) == ("too long", 70 << 20)
    assert len(event["excerpt"]) == 200


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"{}", b'{"a": 1}\r', b" {}", b"[1]"])))
def test_many_lines_are_read_as_each_of_them(lines):
    assert read_events(lines).events == [event for line in lines for event in decode(line)]


# -- what we say


@pytest.mark.parametrize("text", ["/clear", "/model x"])
def test_text_that_begins_with_a_slash_is_no_command(text):
    message = json.loads(user_message(text, "u"))
    assert message["client_composed"] is True  # 2.1.248 and later
    assert message["message"]["content"] == f" {text}"  # before that
    command = json.loads(user_message(text, "u", command=True))
    assert command["message"]["content"] == text
    assert "client_composed" not in command


@given(st.text(), st.integers(min_value=0))
def test_a_message_is_recognised_by_its_front(text, size):
    whole = user_message(text, "some-uuid")
    found = message_of(whole[: max(size, 100)])
    assert found is not None
    assert found.uuid == "some-uuid"
    shown = f" {text}" if text.startswith("/") else text
    shown = shown.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert shown.startswith(found.text.rstrip("\N{REPLACEMENT CHARACTER}"))
    assert found.text == shown or len(whole) > max(size, 100)


def test_nothing_else_is_taken_for_a_message():
    assert message_of(b'{"type":"control_request","uuid":"x"}') is None
    assert message_of(b"") is None


# -- answers


def request(**more):
    inner = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "ls"}, **more}
    raw = {"type": "control_request", "request_id": "r1", "request": inner}
    return PermissionRequest("Bash", inner["input"], raw)


def answered(decision, **more):
    answer = json.loads(permission_answer(request(**more), decision))
    assert answer["type"] == "control_response"
    assert (answer["response"]["subtype"], answer["response"]["request_id"]) == ("success", "r1")
    return answer["response"]["response"]


def test_allowing_always_names_the_input():
    assert answered(PermissionDecision("allow")) == {
        "behavior": "allow",
        "updatedInput": {"command": "ls"},
    }
    other = answered(PermissionDecision("allow", {"command": "pwd"}))
    assert other["updatedInput"] == {"command": "pwd"}
    assert answered(PermissionDecision("allow", {}))["updatedInput"] == {}


@pytest.mark.parametrize("behavior", ["allow", "deny"])
def test_what_was_decided_can_be_read_from_an_answer(behavior):
    assert behavior_of(permission_answer(request(), PermissionDecision(behavior))) == behavior
    assert behavior_of(refusal("r1", "no")) == "settled"
    assert behavior_of(b"") == "settled"


def test_denying_always_has_words():
    assert answered(PermissionDecision("deny"))["message"]
    assert answered(PermissionDecision("deny", message="no")) == {
        "behavior": "deny",
        "message": "no",
    }
    assert answered(PermissionDecision("deny", interrupt=True))["interrupt"] is True


@pytest.mark.parametrize(
    "nonsense",
    [
        None,
        True,
        "allow",
        {"behavior": "allow"},
        PermissionDecision("perhaps"),  # type: ignore[arg-type]
        PermissionDecision("allow", "ls"),  # type: ignore[arg-type]
        PermissionDecision("allow", {"when": object()}),
        PermissionDecision("allow", {"n": float("nan")}),
        PermissionDecision("deny", message=7),  # type: ignore[arg-type]
    ],
)
def test_nonsense_denies_and_says_so(nonsense):
    answer = answered(nonsense)
    assert answer["behavior"] == "deny"
    assert "unusable" in answer["message"]


RULES = {"type": "addRules", "behavior": "allow", "destination": "localSettings"}
SUGGESTIONS = [
    {**RULES, "rules": [{"toolName": "Bash"}, {"toolName": "Read", "ruleContent": "/y"}]},
    {"type": "addDirectories", "directories": ["/x"], "destination": "session"},
    {"type": "setMode", "mode": "acceptEdits", "destination": "session"},
]


def test_suggestions_pass_only_for_the_session():
    decision = PermissionDecision("allow", updated_permissions=SUGGESTIONS)
    assert answered(decision)["updatedPermissions"] == SUGGESTIONS[1:]
    only_files = PermissionDecision("allow", updated_permissions=SUGGESTIONS[:1])
    assert "updatedPermissions" not in answered(only_files)


def test_allowing_for_the_session_takes_the_rules_and_no_other_mode():
    decision = allow_for_session(request(permission_suggestions=SUGGESTIONS))
    passed = answered(decision)["updatedPermissions"]
    assert [one["type"] for one in passed] == ["addRules", "addDirectories"]
    assert {one["destination"] for one in passed} == {"session"}


def test_what_is_granted_for_the_session_can_be_shown():
    granted = grants(request(permission_suggestions=SUGGESTIONS))
    assert granted == ("all of Bash", "Read(/y)", "files in /x")


@pytest.mark.parametrize(
    "suggested",
    [
        None,
        "all",
        [],
        [None, 7],
        SUGGESTIONS[2:],
        [{**RULES, "behavior": "deny", "rules": [{"toolName": "Bash"}]}],
        [{**RULES, "rules": []}],
        [{**RULES, "rules": [{"toolName": "Bash", "ruleContent": ["x"]}]}],
        [{**RULES, "rules": [{"toolName": "Read"}, "Bash"]}],
        [{"type": "addDirectories", "directories": ["/x", 7]}],
    ],
)
def test_what_cannot_be_shown_is_not_granted(suggested):
    asked = request(permission_suggestions=suggested)
    assert grants(asked) == ()
    assert "updatedPermissions" not in answered(allow_for_session(asked))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"questions": "Which?"},
        {"questions": ["Which?"]},
        {"questions": [{"question": 7, "options": [{"label": "a"}]}]},
        {"questions": [{"question": "Which?"}]},
        {"questions": [{"question": "Which?", "options": []}]},
        {"questions": [{"question": "Which?", "options": ["a"]}]},
        {"questions": [{"question": "Which?", "options": [{"label": None}]}]},
    ],
)
def test_a_question_of_another_shape_is_a_permission(asked):
    assert questions(PermissionRequest("AskUserQuestion", asked, {})) == []


# -- results


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ({"subtype": "success", "is_error": False, "result": "hi"}, None),
        ({"subtype": "success", "is_error": True, "result": "API Error: 500"}, "API Error: 500"),
        ({"subtype": "success", "terminal_reason": "aborted_streaming"}, "interrupted"),
        ({"subtype": "error_during_execution", "errors": ["no such session"]}, "no such session"),
        ({"subtype": "error_max_turns"}, "error_max_turns"),
        ({}, "failed"),
    ],
)
def test_a_failed_turn_is_never_an_answer(result, why):
    assert judge(result).failure == why


GOOD = {"subtype": "success", "is_error": False, "result": "fine", "terminal_reason": "completed"}


@pytest.mark.parametrize(
    ("more", "outcome"),
    [
        ({"stop_reason": "end_turn", "num_turns": 1}, "completed"),
        ({"stop_reason": "tool_use", "structured_output": {"a": 1}, "result": ""}, "completed"),
        ({"result": "", "num_turns": 3}, "completed"),  # it used tools and said nothing
        ({"result": " ", "num_turns": 1}, "empty"),
        ({"result": None}, "empty"),
        ({"num_turns": 0}, "cut"),
        ({"stop_reason": "refusal"}, "refused"),
        ({"stop_reason": "max_tokens"}, "cut"),
        ({"stop_reason": ["new"]}, "cut"),
        ({"terminal_reason": "hook_stopped"}, "cut"),
        ({"terminal_reason": {"new": 1}}, "cut"),
        ({"terminal_reason": "aborted_tools"}, "cancelled"),
        ({"is_error": True}, "failed"),  # 2.1.197 says "completed" all the same
        ({"is_error": "yes"}, "failed"),
        ({"subtype": "error_during_execution", "errors": 7}, "failed"),
        ({"subtype": "error_max_turns", "errors": {"a": 1}}, "cut"),
        ({"subtype": "of_tomorrow"}, "failed"),
        ({"subtype": ["success"]}, "failed"),
    ],
)
def test_completed_needs_evidence_and_nothing_against_it(more, outcome):
    turn = ClaudeTurnResult.of({**GOOD, **more})
    assert turn.outcome == outcome
    assert turn.ok == (outcome == "completed")
    assert bool(turn.failure) == (not turn.ok)
    assert "subtype" in turn.evidence


def test_a_turn_has_all_that_the_cli_says_of_it():
    event = {**GOOD, "usage": {"input_tokens": 5, "odd": 1}, "modelUsage": {"m": {}}}
    turn = ClaudeTurnResult.of(event, answered=("a",), cost=0.5)
    assert (turn.result, turn.text, turn.answered, turn.cost_usd) == ("fine", "fine", ("a",), 0.5)
    assert turn.usage is not None
    assert turn.usage.input_tokens == 5
    assert turn.raw is event
    assert turn.modelUsage == {"m": {}}
    assert not hasattr(turn, "no_such_field")
    for again in copy.copy(turn), pickle.loads(pickle.dumps(turn)):
        assert again == turn


# -- the permission ledger


def asks(request_id="r1", tool_use="t1", **more):
    inner = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {}, "tool_use_id": tool_use}
    return {"type": "control_request", "request_id": request_id, "request": {**inner, **more}}


def test_a_request_has_the_place_where_it_was_asked():
    ledger = PermissionLedger()
    (asked,) = ledger.feed(asks(), 7)
    assert isinstance(asked, PermissionAsked)
    assert (asked.request.id, asked.request.names) == ("r1", ("at-7", "r1"))


@pytest.mark.parametrize(
    "event",
    [
        {"type": "control_cancel_request", "request_id": "r1"},
        {
            "type": "user",
            "message": {"content": [{"type": "tool_result", "tool_use_id": "t1"}]},
        },
        {"type": "system", "subtype": "session_state_changed", "state": "idle"},
    ],
)
def test_what_was_taken_back_or_answered_elsewhere_is_settled(event):
    ledger = PermissionLedger()
    ledger.feed(asks(), 0)
    assert ledger.feed(event, 1) == [PermissionSettled("r1")]
    assert ledger.feed(event, 2) == []


def test_a_hook_is_settled_when_it_is_taken_back_and_not_by_the_end_of_its_turn():
    inner = {"subtype": "hook_callback", "callback_id": "PreToolUse:careful", "input": {}}
    ledger = PermissionLedger()
    ledger.feed({"type": "control_request", "request_id": "h1", "request": inner}, 0)
    assert ledger.feed({"type": "system", "state": "idle"}, 1) == []
    taken_back = {"type": "control_cancel_request", "request_id": "h1"}
    assert ledger.feed(taken_back, 2) == [PermissionSettled("h1")]
    assert ledger.feed(taken_back, 3) == []


@pytest.mark.parametrize(
    "inner",
    [
        {"subtype": "hook_callback", "callback_id": "x"},
        {"subtype": "mcp_message"},
        {"subtype": "never_heard_of"},
        {"subtype": "can_use_tool"},  # of no tool
        {"subtype": ["x"]},
        {},
        None,
    ],
)
def test_a_request_of_unknown_kind_gets_an_error_answer(inner):
    (refused,) = PermissionLedger().feed(
        {"type": "control_request", "request_id": "r1", "request": inner}, 0
    )
    assert isinstance(refused, ReplyOwed)
    answer = json.loads(refused.data)["response"]
    assert (answer["subtype"], answer["request_id"]) == ("error", "r1")


@given(st.fixed_dictionaries({"type": st.sampled_from(sorted(PermissionLedger.TYPES))}, optional={
    "request_id": JSON, "request": JSON, "message": JSON, "state": JSON,
}))  # fmt: skip
def test_no_event_raises(event):
    ledger = PermissionLedger()
    ledger.feed(asks(), 0)
    ledger.feed(event, 1)
    TurnLedger().feed(event)


# -- the turn ledger, against a CLI that merges, folds, starts turns by itself and is interrupted


@dataclass
class Cli:
    """What the CLI does with messages, and the events it tells of it; `named` from 2.1.329 on."""

    named: bool
    queue: list[str] = field(default_factory=list)
    turn: list[str] | None = None
    results: int = 0

    def read(self, uuid):
        self.queue.append(uuid)
        return [self._lifecycle(uuid, "queued")] if self.named else []

    def begin(self):
        if self.turn is not None:
            return []
        self.turn, self.queue = self.queue, []
        names = {"user_message_uuids": list(self.turn)} if self.named else {}
        init = {"type": "system", "subtype": "init", "session_id": "s", **names}
        started = [self._lifecycle(uuid, "started") for uuid in self.turn] if self.named else []
        return [*started, init, *map(self._echo, self.turn)]

    def fold(self):
        if self.turn is None or not self.queue:
            return []
        uuid = self.queue.pop(0)
        self.turn.append(uuid)
        done = [self._lifecycle(uuid, "started"), self._lifecycle(uuid, "completed")]
        return [self._echo(uuid), *(done if self.named else [])]

    def end(self):
        if self.turn is None:
            return []
        turn, self.turn = self.turn, None
        self.results += 1
        names = {"user_message_uuids": turn} if self.named and turn else {}
        result = {"type": "result", "subtype": "success", "n": self.results, **names}
        after = [self._lifecycle(uuid, "completed") for uuid in turn] if self.named else []
        return [result, *after, *self._idle()]

    def drop(self):
        if not self.queue or not self.named:
            return []
        return [self._lifecycle(self.queue.pop(0), "cancelled")]

    def _idle(self):
        state = {"type": "system", "subtype": "session_state_changed", "state": "idle"}
        return [] if self.queue else [state]

    def _lifecycle(self, uuid, state):
        return {"type": "command_lifecycle", "command_uuid": uuid, "state": state}

    def _echo(self, uuid):
        return {"type": "user", "isReplay": True, "uuid": uuid, "message": {}}


@given(
    st.booleans(),
    st.lists(
        st.sampled_from(["send", "read", "begin", "fold", "end", "drop"]), min_size=20, max_size=60
    ),
)
def test_every_message_is_answered_once_by_the_turn_that_read_it(named, steps):
    cli, ledger = Cli(named), TurnLedger(named=True)
    sent, unread = list[str](), list[str]()
    answered, read = dict[str, int | None](), set[str]()
    for step in [*steps, *["read"] * len(steps), "end", "begin", "end"]:
        events, turn = [], list(cli.turn or ())
        match step:
            case "send":
                uuid = f"m{len(sent)}"
                sent.append(uuid)
                unread.append(uuid)
                ledger.send(uuid)
            case "read" if unread:
                events = cli.read(unread.pop(0))
            case "begin" | "fold" | "end" | "drop":
                events = getattr(cli, step)()
        news = [one for event in events for one in ledger.feed(event)]
        read |= {one.uuid for one in news if isinstance(one, MessageRead)}
        ends = [one for one in news if isinstance(one, TurnEnd)]
        for end in ends:
            for uuid in end.answered:
                assert uuid not in answered
                answered[uuid] = end.result["n"] if end.result else None
        if step == "end" and ends:
            assert [uuid for uuid, n in answered.items() if n == cli.results] == turn
        assert ledger.running == (cli.turn is not None)
    assert set(answered) == set(sent)
    assert {uuid for uuid, n in answered.items() if n is not None} <= read <= set(sent)


def test_a_cli_that_names_nothing_answers_all_that_was_said():
    """2.1.197 without --replay-user-messages."""
    ledger = TurnLedger()
    ledger.send("a")
    ledger.feed({"type": "system", "subtype": "init"})
    ledger.send("b")
    (end,) = ledger.feed({"type": "result", "subtype": "success"})
    assert isinstance(end, TurnEnd)
    assert end.answered == ("a", "b")
    assert not ledger.running


def test_a_turn_that_nobody_asked_for_answers_nobody():
    ledger = TurnLedger(named=True)
    ledger.send("a")
    (end,) = ledger.feed({"type": "result", "subtype": "success", "origin": {"kind": "task"}})
    assert isinstance(end, TurnEnd)
    assert end.answered == ()


def test_what_was_read_and_is_not_answered_when_nothing_waits_was_dropped():
    ledger = TurnLedger(named=True)
    ledger.send("a")
    ledger.feed({"type": "user", "isReplay": True, "uuid": "a"})
    ledger.feed({"type": "user", "isReplay": True, "uuid": ["no", "uuid"]})
    ledger.feed({"type": "system", "subtype": "session_state_changed", "state": "running"})
    assert ledger.busy
    (end,) = ledger.feed({"type": "system", "subtype": "session_state_changed", "state": "idle"})
    assert isinstance(end, TurnEnd)
    assert (end.result, end.answered, end.outcome) == (None, ("a",), "lost")
    assert not ledger.busy


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (ProcessEnd("exited", 0), "claude exited with 0"),
        (ProcessEnd("exited", 137, "KILL"), "claude was ended by SIGKILL"),
        (ProcessEnd("exited", 1), "claude exited with 1; its last turn failed: API Error"),
        (ProcessEnd("lost"), "claude is gone, and nobody knows how it ended"),
        (ProcessEnd("rebooted"), "claude is gone: its host was restarted"),
        (ProcessEnd("unknown"), "claude has ended"),
    ],
)
def test_an_end_is_told_in_one_sentence(end, words):
    last = TurnResult(outcome="failed", failure="API Error", raw={})
    assert str(how_closed("claude", end, None, last, asked=False)) == words


@pytest.mark.parametrize(
    ("told", "windows"),
    [
        ({"unifiedWindows": {"five_hour": {"utilization": 0.93}}}, [("five_hour", 93.0)]),
        ({"status": "rejected", "rateLimitType": "seven_day"}, [("seven_day", 100.0)]),
        ({"rateLimitType": "seven_day", "utilization": 0.5}, [("seven_day", 50.0)]),
        ({"status": "allowed", "resetsAt": 1}, []),
        ({"unifiedWindows": {"x": 3, "y": {"utilization": "z"}}}, []),
        ({"unifiedWindows": [], "rateLimitType": 3}, []),
    ],
)
def test_how_much_of_an_allowance_is_used_is_taken_as_far_as_it_is_told(told, windows):
    assert [(one.label, one.pct) for one in windows_of(told)] == windows


@pytest.mark.parametrize(
    ("file", "block"),
    [
        (
            Attachment("image/png", b"\x01"),
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "AQ=="},
            },
        ),
        (
            Attachment("image/png", url="https://example.com/a.png"),
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        ),
        (
            Attachment("text/plain", b"hi", name="a.txt"),
            {
                "type": "document",
                "title": "a.txt",
                "source": {"type": "text", "media_type": "text/plain", "data": "hi"},
            },
        ),
        (
            Attachment("application/pdf", url="https://example.com/a.pdf"),
            {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        ),
    ],
)
def test_a_file_goes_with_a_message_as_the_api_takes_it(
    file: Attachment, block: dict[str, object]
) -> None:
    said = json.loads(user_message("look", "u", attachments=[file]))
    assert said["message"]["content"] == [{"type": "text", "text": "look"}, block]


def test_a_file_that_the_api_does_not_take_is_refused() -> None:
    with pytest.raises(ValueError, match="application/zip"):
        user_message("look", "u", attachments=[Attachment("application/zip", b"PK")])


@pytest.mark.parametrize(
    ("given", "change"),
    [
        ({"old_string": "a\nb\nc", "new_string": "a\nx\nc"}, "-b\n+x"),
        ({"file_path": "f", "content": "one\ntwo"}, "+one\n+two"),
        ({"command": "true"}, ""),
    ],
)
def test_an_edit_shows_what_it_changes(given: dict[str, str], change: str) -> None:
    block = {"type": "tool_use", "name": "Edit", "input": given}
    event = {"type": "assistant", "message": {"content": [block]}}
    (passage,) = ClaudePassages().feed(event)
    assert passage.change == change
